/* SPDX-License-Identifier: MIT */
/* The table formats there are, and what they have in common with table.c. */
#ifndef TABLE_FORMATS_H
#define TABLE_FORMATS_H

#include "table/table.h"

extern const struct table_ops table_vtdss;
extern const struct table_ops table_x86fs;
extern const struct table_ops table_identity;
extern const struct table_ops table_amdv1;
extern const struct table_ops table_mock;
extern const struct table_ops table_arms1;
extern const struct table_ops table_arms2;
extern const struct table_ops table_riscv;
extern const struct table_ops table_pamu;
extern const struct table_ops table_spapr_tce;
extern const struct table_ops table_powernv_tce;

/* Free the table of secondary entries, if there is one. */
void pamu_shared_destroy(struct table_shared *shared);

/* The aperture, and leaf sizes no larger than it. */
void table_set_aperture(struct table *table, struct uiommu_range aperture);

/* The aperture that is asked for, or all of @bits bits; false: it does not fit in there, or does
 * not start and end with a page. */
bool table_choose_aperture(struct table *table, unsigned bits, const struct table_config *config);

#endif
