/* SPDX-License-Identifier: MIT */
/*
 * Format: Armv8 stage 1, as fmt_armlpae.h says, with what is this stage's own:
 * DDI 0487, D8.3, stage 1 descriptors; D8.4, direct permissions of stage 1.
 *
 * Bits: 4:2 AttrIndx (1: memory, write-back; 2: device), 6 AP[1] (unprivileged too), 7 AP[2]
 * (read-only), 11 nG. There is no writing without reading. Widths: 32 to 48 bits; 39 are 3 levels,
 * 48 are 4.
 */
#define FMT_NAME	 "arm-s1"
#define FMT_OPS		 table_arms1
#define FMT_START_TABLES 1

#include "table/fmt_armlpae.h"

#define LPAE_S1_ATTR(index) ((uint64_t)(index) << 2)
#define LPAE_S1_MEMORY	    LPAE_S1_ATTR(1)
#define LPAE_S1_DEVICE	    LPAE_S1_ATTR(2)
#define LPAE_S1_ATTRS	    LPAE_S1_ATTR(7)
#define LPAE_S1_UNPRIV	    (UINT64_C(1) << 6)
#define LPAE_S1_RDONLY	    (UINT64_C(1) << 7)
#define LPAE_S1_NG	    (UINT64_C(1) << 11)

static inline unsigned fmt_levels(unsigned width)
{
	return width >= 32 && width <= 48 ? (width - 12 + 8) / 9 : 0;
}

static inline unsigned fmt_root_pages(unsigned width)
{
	return 1;
}

static inline uint64_t fmt_make_leaf(const struct table *table, uint64_t addr, int prot,
				     unsigned level, unsigned shift)
{
	uint64_t entry = lpae_leaf(addr, prot, level, shift) | LPAE_S1_NG | LPAE_S1_UNPRIV |
			 (prot & UIOMMU_MMIO ? LPAE_S1_DEVICE : LPAE_S1_MEMORY);

	if (!(prot & UIOMMU_WRITE))
		entry |= LPAE_S1_RDONLY;
	else if (table->dirty)
		entry |= LPAE_DBM;
	return entry;
}

static inline int fmt_prot(uint64_t entry)
{
	return UIOMMU_READ | (!(entry & LPAE_S1_RDONLY) || entry & LPAE_DBM ? UIOMMU_WRITE : 0) |
	       ((entry & LPAE_S1_ATTRS) == LPAE_S1_DEVICE ? UIOMMU_MMIO : 0);
}

static inline bool fmt_dirty(uint64_t entry)
{
	return !(entry & LPAE_S1_RDONLY);
}

static inline uint64_t fmt_make_dirty(uint64_t entry)
{
	return entry & LPAE_DBM ? entry & ~LPAE_S1_RDONLY : entry;
}

static inline uint64_t fmt_make_clean(uint64_t entry)
{
	return entry & LPAE_DBM ? entry | LPAE_S1_RDONLY : entry;
}
