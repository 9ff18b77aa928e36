/* SPDX-License-Identifier: MIT */
/*
 * Format: identity. No table at all: every address translates to itself, for reading and writing,
 * as where there is no IOMMU, or one that passes a device through. Nothing can be mapped.
 * Stateless.
 */
#include <errno.h>

#include "table/formats.h"

#define PAGE_MASK UINT64_C(0xfff)

static int identity_init(struct table *table, const struct table_config *config)
{
	if (!config->width || config->width > 64 ||
	    !table_choose_aperture(table, config->width, config))
		return -EINVAL;
	return 0;
}

/* So there is never anything to enter or to clear. */
static int identity_check(const struct table *table, struct uiommu_range range, uint64_t addr,
			  struct table_why *why)
{
	*why = (struct table_why){.rule = UIOMMU_RULE_UNSUPPORTED,
				  .what = "nothing can be mapped where nothing is translated",
				  .range = UIOMMU_RANGE_NONE};
	return -EOPNOTSUPP;
}

static bool identity_walk(const struct table *table, uint64_t iova, struct table_leaf *leaf)
{
	leaf->range = (struct uiommu_range){iova & ~PAGE_MASK, iova | PAGE_MASK};
	leaf->addr = iova & ~PAGE_MASK;
	leaf->prot = UIOMMU_READ | UIOMMU_WRITE;
	return true;
}

const struct table_ops table_identity = {
	.name = "identity",
	.page_sizes = PAGE_MASK + 1,
	.max_addr = UINT64_MAX,
	.prots = UIOMMU_READ | UIOMMU_WRITE,
	.init = identity_init,
	.check = identity_check,
	.walk = identity_walk,
};
