/* SPDX-License-Identifier: MIT */
/*
 * Format: Intel VT-d second stage.
 * Intel Virtualization Technology for Directed I/O, architecture specification, rev. 4.1:
 * section 3.7 "Second-Stage Translation", 9.8 "Second-Stage Paging Entries" (tables 41 to 50).
 *
 *   level  entry      shift  leaf
 *   0      SS-PTE     12     4 KiB
 *   1      SS-PDE     21     2 MiB
 *   2      SS-PDPE    30     1 GiB
 *   3      SS-PML4E   39     none
 *   4      SS-PML5E   48     none
 *
 * Bits: 0 R, 1 W, 7 PS (page size, levels 1 and 2), 8 A and 9 D (accessed and dirty, in leaves,
 * where SSADE enables them: 3.7.2), 11 SNP (snoop, in leaves, where the IOMMU can: ECAP.SC; legacy
 * mode), 51:12 address. An entry with R = W = 0 is not present (3.7.1).
 * Effective permissions are the AND over all levels, so tables carry both; there is no memory type
 * that devices would see. Adjusted guest address widths: 39 bits are 3 levels, 48 are 4, 57 are 5
 * (3.7, "AGAW").
 */
#define FMT_NAME	 "vtd-ss"
#define FMT_OPS		 table_vtdss
#define FMT_LEVEL_BITS	 9
#define FMT_PAGE_SIZES	 (UINT64_C(1) << 12 | UINT64_C(1) << 21 | UINT64_C(1) << 30)
#define FMT_HINT_SIZES	 0
#define FMT_RUNS	 0
#define FMT_START_TABLES 1
#define FMT_MAX_ADDR	 ((UINT64_C(1) << 52) - 1)
#define FMT_PROTS	 (UIOMMU_READ | UIOMMU_WRITE)
#define FMT_DIRTY	 1

#define VTDSS_R	   (UINT64_C(1) << 0)
#define VTDSS_W	   (UINT64_C(1) << 1)
#define VTDSS_PS   (UINT64_C(1) << 7)
#define VTDSS_A	   (UINT64_C(1) << 8)
#define VTDSS_D	   (UINT64_C(1) << 9)
#define VTDSS_SNP  (UINT64_C(1) << 11)
#define VTDSS_ADDR (((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xfff))

static inline unsigned fmt_levels(unsigned width)
{
	return width == 39 ? 3 : width == 48 ? 4 : width == 57 ? 5 : 0;
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
	return entry & (VTDSS_R | VTDSS_W);
}

static inline bool fmt_is_leaf(uint64_t entry, unsigned level)
{
	return !level || (entry & VTDSS_PS);
}

static inline unsigned fmt_leaf_shift(uint64_t entry, unsigned level)
{
	return 12 + level * FMT_LEVEL_BITS;
}

static inline uint64_t fmt_make_leaf(const struct table *table, uint64_t addr, int prot,
				     unsigned level, unsigned shift)
{
	return addr | (prot & UIOMMU_READ ? VTDSS_R : 0) | (prot & UIOMMU_WRITE ? VTDSS_W : 0) |
	       (level ? VTDSS_PS : 0) | (table->snoop ? VTDSS_SNP : 0);
}

static inline uint64_t fmt_make_table(uint64_t addr, unsigned level)
{
	return addr | VTDSS_R | VTDSS_W;
}

/* The address in a leaf or table entry. */
static inline uint64_t fmt_addr(uint64_t entry)
{
	return entry & VTDSS_ADDR;
}

static inline int fmt_prot(uint64_t entry)
{
	return (entry & VTDSS_R ? UIOMMU_READ : 0) | (entry & VTDSS_W ? UIOMMU_WRITE : 0);
}

static inline int fmt_table_prot(uint64_t entry)
{
	return fmt_prot(entry);
}

static inline bool fmt_dirty(uint64_t entry)
{
	return entry & VTDSS_D;
}

/* A write sets both (3.7.2). */
static inline uint64_t fmt_make_dirty(uint64_t entry)
{
	return entry | VTDSS_A | VTDSS_D;
}

static inline uint64_t fmt_make_clean(uint64_t entry)
{
	return entry & ~VTDSS_D;
}
