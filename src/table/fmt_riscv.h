/* SPDX-License-Identifier: MIT */
/*
 * Format: RISC-V first stage, Sv39, Sv48 and Sv57.
 * The RISC-V Instruction Set Manual, Volume II: Privileged Architecture, sections "Sv39: Page-Based
 * 39-bit Virtual-Memory System" to "Sv57"; "Svpbmt" for the memory type; RISC-V IOMMU Architecture
 * Specification, "First-stage page tables".
 *
 *   level  shift  leaf
 *   0      12     4 KiB
 *   1      21     2 MiB
 *   2      30     1 GiB
 *   3      39     512 GiB (Sv48, Sv57)
 *   4      48     256 TiB; not made: Linux' driver doesn't tell of it
 *
 * Bits: 0 V, 1 R, 2 W, 3 X, 4 U, 5 G, 6 A, 7 D, 53:10 PPN, 62:61 PBMT (2: I/O). An entry with
 * R = W = X = 0 points to a table. W without R is reserved, so writing implies reading. Devices'
 * accesses are unprivileged: U. A is set from the start, and D too unless hardware keeps it.
 *
 * IOVAs must be sign-extended from the highest bit, which a program can't be asked to do: the
 * aperture is the lower half, one bit less than the width, as Linux' driver has it.
 */
#define FMT_NAME       "riscv"
#define FMT_OPS	       table_riscv
#define FMT_LEVEL_BITS 9
#define FMT_PAGE_SIZES \
	(UINT64_C(1) << 12 | UINT64_C(1) << 21 | UINT64_C(1) << 30 | UINT64_C(1) << 39)
#define FMT_HINT_SIZES	 0
#define FMT_RUNS	 0
#define FMT_START_TABLES 1
#define FMT_MAX_ADDR	 ((UINT64_C(1) << 56) - 1)
#define FMT_PROTS	 (UIOMMU_READ | UIOMMU_WRITE | UIOMMU_MMIO)
#define FMT_DIRTY	 1

#define RISCV_V	      (UINT64_C(1) << 0)
#define RISCV_R	      (UINT64_C(1) << 1)
#define RISCV_W	      (UINT64_C(1) << 2)
#define RISCV_X	      (UINT64_C(1) << 3)
#define RISCV_U	      (UINT64_C(1) << 4)
#define RISCV_A	      (UINT64_C(1) << 6)
#define RISCV_D	      (UINT64_C(1) << 7)
#define RISCV_PPN     (((UINT64_C(1) << 44) - 1) << 10)
#define RISCV_PBMT    (UINT64_C(3) << 61)
#define RISCV_PBMT_IO (UINT64_C(2) << 61)

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
	return width - 1;
}

static inline bool fmt_present(uint64_t entry)
{
	return entry & RISCV_V;
}

static inline bool fmt_is_leaf(uint64_t entry, unsigned level)
{
	return entry & (RISCV_R | RISCV_W | RISCV_X);
}

static inline unsigned fmt_leaf_shift(uint64_t entry, unsigned level)
{
	return 12 + level * FMT_LEVEL_BITS;
}

static inline uint64_t fmt_make_leaf(const struct table *table, uint64_t addr, int prot,
				     unsigned level, unsigned shift)
{
	return addr >> 2 | RISCV_V | RISCV_R | RISCV_U | RISCV_A |
	       (prot & UIOMMU_WRITE ? RISCV_W | (table->dirty ? 0 : RISCV_D) : 0) |
	       (prot & UIOMMU_MMIO ? RISCV_PBMT_IO : 0);
}

static inline uint64_t fmt_make_table(uint64_t addr, unsigned level)
{
	return addr >> 2 | RISCV_V;
}

static inline uint64_t fmt_addr(uint64_t entry)
{
	return (entry & RISCV_PPN) << 2;
}

static inline int fmt_prot(uint64_t entry)
{
	return (entry & RISCV_R ? UIOMMU_READ : 0) | (entry & RISCV_W ? UIOMMU_WRITE : 0) |
	       ((entry & RISCV_PBMT) == RISCV_PBMT_IO ? UIOMMU_MMIO : 0);
}

/* Tables restrict nothing. */
static inline int fmt_table_prot(uint64_t entry)
{
	return ~0;
}

static inline bool fmt_dirty(uint64_t entry)
{
	return entry & RISCV_D;
}

static inline uint64_t fmt_make_dirty(uint64_t entry)
{
	return entry | RISCV_A | RISCV_D;
}

static inline uint64_t fmt_make_clean(uint64_t entry)
{
	return entry & ~RISCV_D;
}
