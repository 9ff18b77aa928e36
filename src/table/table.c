/* SPDX-License-Identifier: MIT */
/* Owns the list of formats, and the life of a table. */
#include "table/table.h"

#include <errno.h>
#include <string.h>

#include "table/formats.h"

static const struct table_ops *const formats[] = {
	&table_vtdss,	    &table_x86fs,    &table_amdv1, &table_arms1,
	&table_arms2,	    &table_riscv,    &table_pamu,  &table_spapr_tce,
	&table_powernv_tce, &table_identity, &table_mock,
};

static const struct table_ops *find_format(const char *name)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (!strcmp(formats[i]->name, name))
			return formats[i];
	return NULL;
}

int table_init(struct table *table, const struct table_config *config)
{
	const struct table_ops *ops = find_format(config->format);
	uint64_t sizes = config->page_sizes ? config->page_sizes : UINT64_MAX;
	int ret;

	if (!ops)
		return -EINVAL;
	/* A number of windows is for formats whose windows are there from the start. */
	if (config->windows && (!ops->window_find || ops->window_create))
		return -EINVAL;
	if (config->dirty && !ops->dirty)
		return -EOPNOTSUPP;
	*table = (struct table){.ops = ops,
				.width = config->width,
				.shared = config->shared,
				.dirty = config->dirty,
				.snoop = config->snoop};
	/* A hint that is asked for by its size is told of as well. */
	table->leaf_sizes = sizes & (ops->page_sizes | ops->hint_sizes);
	table->page_sizes = config->page_sizes ? table->leaf_sizes : ops->page_sizes;
	ret = ops->init(table, config);
	if (!ret && !table->page_sizes) {
		table_destroy(table);
		return -EINVAL;
	}
	return ret;
}

void table_destroy(struct table *table)
{
	if (table->ops->destroy)
		table->ops->destroy(table);
	pool_destroy(&table->pool);
	table->root = NULL;
}

void table_shared_destroy(struct table_shared *shared)
{
	pamu_shared_destroy(shared);
}

void table_set_aperture(struct table *table, struct uiommu_range aperture)
{
	uint64_t largest = UINT64_MAX >> __builtin_clzll(range_length(aperture));

	table->aperture = aperture;
	table->page_sizes &= largest;
	table->leaf_sizes &= largest;
}

bool table_choose_aperture(struct table *table, unsigned bits, const struct table_config *config)
{
	struct uiommu_range all = {0, UINT64_MAX >> (64 - bits)}, asked = config->aperture;

	if (!asked.first && !asked.last)
		asked = all;
	if (!range_valid(asked) || !range_contains(all, asked) ||
	    ((asked.first | (asked.last + 1)) & (TABLE_PAGE - 1)))
		return false;
	table_set_aperture(table, asked);
	return true;
}
