/* SPDX-License-Identifier: MIT */
/* The table formats there are, and what they have in common with table.c. */
#ifndef TABLE_FORMATS_H
#define TABLE_FORMATS_H

#include "table/table.h"

extern const struct table_ops table_vtdss;

/* The aperture, and leaf sizes no larger than it. */
void table_set_aperture(struct table *table, struct uiommu_range aperture);

/* The aperture that is asked for, or all of @bits bits; false: it does not fit in there, or does
 * not start and end with a page. */
bool table_choose_aperture(struct table *table, unsigned bits, const struct table_config *config);

#endif
