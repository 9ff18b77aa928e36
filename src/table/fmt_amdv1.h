/* SPDX-License-Identifier: MIT */
/*
 * Format: AMD v1, the host page table.
 * AMD I/O Virtualization Technology (IOMMU) Specification, 48882, section 2.2.3 "I/O Page Tables
 * for Host Translations": page table level encoding, page size encodings, figures of the PDE and
 * PTE formats.
 *
 *   level  mode  shift  default leaf   other leaves: powers of two up to the next level's
 *   0      1     12     4 KiB          8 KiB ... 1 MiB
 *   1      2     21     2 MiB          4 MiB ... 512 MiB
 *   2      3     30     1 GiB          2 GiB ... 256 GiB
 *   3      4     39     (512 GiB)      1 TiB ... 128 TiB
 *   4      5     48     256 TiB        512 TiB ... 2 PiB (addresses end at 52 bits)
 *   5      6     57     none
 *
 * Bits: 0 PR (present), 5 A and 6 D (accessed and dirty, in leaves), 11:9 next level, 51:12
 * address, 60 FC (force coherent: snoop), 61 IR and 62 IW (permissions, ANDed over all levels).
 * Next level 0: a leaf of the level's default size; 7: a leaf whose size is told by the address:
 * the lowest bit from 12 on that is clear is bit log2(size) - 1; the entry is repeated in all
 * slots that the leaf covers; else the level (mode) of the table that is pointed to.
 *
 * 512 GiB leaves are architectural, but Linux leaves them out for an erratum of the hardware, so
 * programs never see that bit (39) of the page sizes.
 *
 * Linux's iommufd selftests use the format with a smaller granule than the processor's pages (see
 * mock.c): every size above is then half of what it says, as is the unit of the address.
 */
#ifndef AMDV1_GRANULE
#define AMDV1_GRANULE  12
#define FMT_NAME       "amd-v1"
#define FMT_OPS	       table_amdv1
#define FMT_PAGE_SIZES UINT64_C(0xfff7ffffff000)
#endif

#define FMT_LEVEL_BITS	 9
#define FMT_PAGE_SHIFT	 AMDV1_GRANULE
#define FMT_HINT_SIZES	 0
#define FMT_RUNS	 1
#define FMT_START_TABLES 1
#define FMT_MAX_ADDR	 ((UINT64_C(1) << (40 + AMDV1_GRANULE)) - 1)
#define FMT_PROTS	 (UIOMMU_READ | UIOMMU_WRITE)
#define FMT_DIRTY	 1

#define AMDV1_PR   (UINT64_C(1) << 0)
#define AMDV1_A	   (UINT64_C(1) << 5)
#define AMDV1_D	   (UINT64_C(1) << 6)
#define AMDV1_ADDR (((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xfff)) /* in units of the granule */
#define AMDV1_FC   (UINT64_C(1) << 60)
#define AMDV1_IR   (UINT64_C(1) << 61)
#define AMDV1_IW   (UINT64_C(1) << 62)

#define AMDV1_NEXT_LEVEL(level)	   ((uint64_t)(level) << 9)
#define AMDV1_NEXT_LEVEL_OF(entry) ((entry) >> 9 & 7)
#define AMDV1_SIZED		   7 /* the address tells the size */

/* As many as the width needs; six reach over 64 bits. */
static inline unsigned fmt_levels(unsigned width)
{
	return width >= 32 && width <= 64 ? (width - AMDV1_GRANULE + 8) / 9 : 0;
}

static inline unsigned fmt_root_pages(unsigned width)
{
	return 1;
}

static inline unsigned fmt_aperture_bits(unsigned width)
{
	return width;
}

static inline bool fmt_present(uint64_t entry)
{
	return entry & AMDV1_PR;
}

static inline bool fmt_is_leaf(uint64_t entry, unsigned level)
{
	unsigned next = AMDV1_NEXT_LEVEL_OF(entry);

	return !next || next == AMDV1_SIZED;
}

static inline unsigned fmt_leaf_shift(uint64_t entry, unsigned level)
{
	if (AMDV1_NEXT_LEVEL_OF(entry) != AMDV1_SIZED)
		return AMDV1_GRANULE + level * FMT_LEVEL_BITS;
	return AMDV1_GRANULE + __builtin_ctzll(~(entry >> 12)) + 1;
}

/* An address, or the bits that tell a size, where the entry has them. */
static inline uint64_t amdv1_field(uint64_t addr)
{
	return addr << (12 - AMDV1_GRANULE) & AMDV1_ADDR;
}

static inline uint64_t fmt_make_leaf(const struct table *table, uint64_t addr, int prot,
				     unsigned level, unsigned shift)
{
	uint64_t entry = AMDV1_PR | AMDV1_FC | (prot & UIOMMU_READ ? AMDV1_IR : 0) |
			 (prot & UIOMMU_WRITE ? AMDV1_IW : 0);
	uint64_t size = UINT64_C(1) << shift;

	if (shift == AMDV1_GRANULE + level * FMT_LEVEL_BITS)
		return entry | addr << (12 - AMDV1_GRANULE);
	return entry | AMDV1_NEXT_LEVEL(AMDV1_SIZED) |
	       amdv1_field((addr & ~(size - 1)) | (size / 2 - 1));
}

/* The table below level n is of mode n. */
static inline uint64_t fmt_make_table(uint64_t addr, unsigned level)
{
	return addr << (12 - AMDV1_GRANULE) | AMDV1_PR | AMDV1_IR | AMDV1_IW |
	       AMDV1_NEXT_LEVEL(level);
}

/* With the bits that tell the size, if there are any. */
static inline uint64_t fmt_addr(uint64_t entry)
{
	return (entry & AMDV1_ADDR) >> (12 - AMDV1_GRANULE);
}

static inline int fmt_prot(uint64_t entry)
{
	return (entry & AMDV1_IR ? UIOMMU_READ : 0) | (entry & AMDV1_IW ? UIOMMU_WRITE : 0);
}

static inline int fmt_table_prot(uint64_t entry)
{
	return fmt_prot(entry);
}

static inline bool fmt_dirty(uint64_t entry)
{
	return entry & AMDV1_D;
}

static inline uint64_t fmt_make_dirty(uint64_t entry)
{
	return entry | AMDV1_A | AMDV1_D;
}

static inline uint64_t fmt_make_clean(uint64_t entry)
{
	return entry & ~AMDV1_D;
}
