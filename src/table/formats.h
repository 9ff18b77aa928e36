/* SPDX-License-Identifier: MIT */
/* The table formats there are. */
#ifndef TABLE_FORMATS_H
#define TABLE_FORMATS_H

#include "table/table.h"

extern const struct table_ops table_vtdss;
extern const struct table_ops table_identity;

#endif
