/* SPDX-License-Identifier: MIT */
/*
 * Format: identity. No table at all: every address translates to itself, for reading and writing,
 * as where there is no IOMMU, or one that passes a device through. Nothing can be mapped.
 * Stateless.
 */
#include <errno.h>

#include "table/formats.h"

#define PAGE_MASK UINT64_C(0xfff)

static unsigned identity_levels(unsigned width)
{
	return width && width <= 64;
}

static int identity_map(struct table *table, struct uiommu_range range, uint64_t addr, int prot,
			struct gather *gather)
{
	return -EOPNOTSUPP;
}

static void identity_unmap(struct table *table, struct uiommu_range range, struct gather *gather)
{
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
	.levels = identity_levels,
	.map = identity_map,
	.unmap = identity_unmap,
	.walk = identity_walk,
};
