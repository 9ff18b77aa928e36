/* SPDX-License-Identifier: MIT */
/* Owns the list of formats, and the life of a table. */
#include "table/table.h"

#include <errno.h>
#include <string.h>

#include "table/formats.h"

static const struct table_ops *const formats[] = {&table_vtdss, &table_identity};

int table_init(struct table *table, const char *format, unsigned width)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const struct table_ops *ops = formats[i];

		if (strcmp(ops->name, format) || !ops->levels(width))
			continue;
		*table = (struct table){.ops = ops, .levels = ops->levels(width), .width = width};
		table->root = pool_take(&table->pool);
		return table->root ? 0 : -ENOMEM;
	}
	return -EINVAL;
}

void table_destroy(struct table *table)
{
	pool_destroy(&table->pool);
	table->root = NULL;
}
