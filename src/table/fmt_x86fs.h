/* SPDX-License-Identifier: MIT */
/*
 * Format: Intel VT-d first stage, which is x86-64's own paging.
 * Intel Virtualization Technology for Directed I/O, architecture specification, rev. 4.1:
 * section 3.6 "First-Stage Translation", 9.9 "First-Stage Paging Entries"; Intel 64 and IA-32
 * Architectures Software Developer's Manual, volume 3, "4-Level Paging and 5-Level Paging".
 *
 *   level  entry      shift  leaf
 *   0      FS-PTE     12     4 KiB
 *   1      FS-PDE     21     2 MiB
 *   2      FS-PDPE    30     1 GiB
 *   3      FS-PML4E   39     none
 *   4      FS-PML5E   48     none
 *
 * Bits: 0 P, 1 R/W, 2 U/S, 5 A, 6 D (leaves), 7 PS (page size, levels 1 and 2; reserved above, and
 * in level 0 part of the memory type, as bit 12 is in larger leaves), 10 EA (extended accessed,
 * where EAFE enables it), 51:12 address. There is no writing without reading. Devices' requests are
 * user's, so each level must carry U/S, and permissions are the AND over all levels. Hardware
 * always keeps A and D; A is set from the start, and D too unless hardware is to tell of it.
 *
 * IOVAs must be canonical, that is sign-extended from the highest bit, which a program can't be
 * asked to do: the aperture is the lower half, one bit less than the width, as Linux' driver has
 * it.
 */
#define FMT_NAME	 "vtd-fs"
#define FMT_OPS		 table_x86fs
#define FMT_LEVEL_BITS	 9
#define FMT_PAGE_SIZES	 (UINT64_C(1) << 12 | UINT64_C(1) << 21 | UINT64_C(1) << 30)
#define FMT_HINT_SIZES	 0
#define FMT_RUNS	 0
#define FMT_START_TABLES 1
#define FMT_MAX_ADDR	 ((UINT64_C(1) << 52) - 1)
#define FMT_PROTS	 (UIOMMU_READ | UIOMMU_WRITE)
#define FMT_DIRTY	 1

#define X86FS_P	   (UINT64_C(1) << 0)
#define X86FS_RW   (UINT64_C(1) << 1)
#define X86FS_US   (UINT64_C(1) << 2)
#define X86FS_A	   (UINT64_C(1) << 5)
#define X86FS_D	   (UINT64_C(1) << 6)
#define X86FS_PS   (UINT64_C(1) << 7)
#define X86FS_EA   (UINT64_C(1) << 10)
#define X86FS_ADDR (((UINT64_C(1) << 52) - 1) & ~UINT64_C(0xfff))
#define X86FS_PAT  (UINT64_C(1) << 12) /* in leaves above level 0 */

static inline unsigned fmt_levels(unsigned width)
{
	return width == 48 ? 4 : width == 57 ? 5 : 0;
}

static inline unsigned fmt_root_pages(unsigned width)
{
	return 1;
}

static inline unsigned fmt_aperture_bits(unsigned width)
{
	return width - 1;
}

static inline bool fmt_present(uint64_t entry)
{
	return entry & X86FS_P;
}

static inline bool fmt_is_leaf(uint64_t entry, unsigned level)
{
	return !level || (entry & X86FS_PS);
}

static inline unsigned fmt_leaf_shift(uint64_t entry, unsigned level)
{
	return 12 + level * FMT_LEVEL_BITS;
}

static inline uint64_t fmt_make_leaf(const struct table *table, uint64_t addr, int prot,
				     unsigned level, unsigned shift)
{
	return addr | X86FS_P | X86FS_US | X86FS_A | (level ? X86FS_PS : 0) |
	       (prot & UIOMMU_WRITE ? X86FS_RW | (table->dirty ? 0 : X86FS_D) : 0);
}

static inline uint64_t fmt_make_table(uint64_t addr, unsigned level)
{
	return addr | X86FS_P | X86FS_RW | X86FS_US | X86FS_A;
}

/* The address in a leaf, with PAT in those above level 0, or in a table entry. */
static inline uint64_t fmt_addr(uint64_t entry)
{
	return entry & X86FS_ADDR;
}

static inline int fmt_prot(uint64_t entry)
{
	if (!(entry & X86FS_US))
		return 0;
	return UIOMMU_READ | (entry & X86FS_RW ? UIOMMU_WRITE : 0);
}

static inline int fmt_table_prot(uint64_t entry)
{
	return fmt_prot(entry);
}

static inline bool fmt_dirty(uint64_t entry)
{
	return entry & X86FS_D;
}

static inline uint64_t fmt_make_dirty(uint64_t entry)
{
	return entry | X86FS_A | X86FS_D;
}

static inline uint64_t fmt_make_clean(uint64_t entry)
{
	return entry & ~X86FS_D;
}
