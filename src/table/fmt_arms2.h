/* SPDX-License-Identifier: MIT */
/*
 * Format: Armv8 stage 2, as fmt_armlpae.h says, with what is this stage's own:
 * DDI 0487, D8.3, stage 2 descriptors; D8.4, S2AP; D8.2, "Concatenated translation tables".
 *
 * Bits: 5:2 MemAttr (0xf: memory, write-back; 0x1: device, nGnRE), 6 S2AP[0] (read), 7 S2AP[1]
 * (write).
 *
 * Widths: 32 to 48 bits. Where the first level would be Arm's level 0 with at most 16 entries (40
 * to 43 bits), the tables below it are laid side by side instead and the walk starts there: 40 bits
 * start with 2 tables, 43 with 16; 44 bits start at level 0.
 */
#define FMT_NAME	 "arm-s2"
#define FMT_OPS		 table_arms2
#define FMT_START_TABLES 16

#include "table/fmt_armlpae.h"

#define LPAE_S2_ATTR(attr) ((uint64_t)(attr) << 2)
#define LPAE_S2_MEMORY	   LPAE_S2_ATTR(0xf)
#define LPAE_S2_DEVICE	   LPAE_S2_ATTR(0x1)
#define LPAE_S2_ATTRS	   LPAE_S2_ATTR(0xf)
#define LPAE_S2_READ	   (UINT64_C(1) << 6)
#define LPAE_S2_WRITE	   (UINT64_C(1) << 7)

static inline bool lpae_s2_concatenated(unsigned width)
{
	return width >= 40 && width <= 43;
}

static inline unsigned fmt_levels(unsigned width)
{
	if (width < 32 || width > 48)
		return 0;
	return lpae_s2_concatenated(width) ? 3 : (width - 12 + 8) / 9;
}

static inline unsigned fmt_root_pages(unsigned width)
{
	return lpae_s2_concatenated(width) ? 1u << (width - 39) : 1;
}

static inline uint64_t fmt_make_leaf(const struct table *table, uint64_t addr, int prot,
				     unsigned level, unsigned shift)
{
	return lpae_leaf(addr, prot, level, shift) |
	       (prot & UIOMMU_MMIO ? LPAE_S2_DEVICE : LPAE_S2_MEMORY) |
	       (prot & UIOMMU_READ ? LPAE_S2_READ : 0) |
	       (prot & UIOMMU_WRITE ? LPAE_S2_WRITE | (table->dirty ? LPAE_DBM : 0) : 0);
}

static inline int fmt_prot(uint64_t entry)
{
	return (entry & LPAE_S2_READ ? UIOMMU_READ : 0) |
	       (entry & (LPAE_S2_WRITE | LPAE_DBM) ? UIOMMU_WRITE : 0) |
	       ((entry & LPAE_S2_ATTRS) == LPAE_S2_DEVICE ? UIOMMU_MMIO : 0);
}

static inline bool fmt_dirty(uint64_t entry)
{
	return entry & LPAE_S2_WRITE;
}

static inline uint64_t fmt_make_dirty(uint64_t entry)
{
	return entry & LPAE_DBM ? entry | LPAE_S2_WRITE : entry;
}

static inline uint64_t fmt_make_clean(uint64_t entry)
{
	return entry & LPAE_DBM ? entry & ~LPAE_S2_WRITE : entry;
}
