/* SPDX-License-Identifier: MIT */
/*
 * What both stages of Armv8 have in common: VMSAv8-64 translation tables, 4 KiB granule.
 * Arm Architecture Reference Manual for A-profile, DDI 0487, chapter D8 "The AArch64 Virtual Memory
 * System Architecture": D8.3 "Translation table descriptor formats" (there too: "The Contiguous
 * bit"), D8.4 "Memory access control", "Hardware management of the dirty state". The manual counts
 * levels from the other end.
 *
 *   level  Arm's  shift  leaf                  with the contiguous hint, 16 entries
 *   0      3      12     4 KiB page            64 KiB
 *   1      2      21     2 MiB block           32 MiB
 *   2      1      30     1 GiB block           not made
 *   3      0      39     none
 *
 * Bits: 1:0 descriptor type, 10 AF (set: no access-flag faults), 9:8 SH, 47:12 address,
 * 51 DBM (dirty bit modifier), 52 contiguous, 54:53 XN. Values are those that Linux gives a SMMU.
 * The contiguous hint may be set on 16 aligned entries that translate an aligned piece of memory
 * and agree in all else; each holds its own address. It is not a page size that programs are told
 * of.
 *
 * With DBM a writable entry is dirty while its write permission is there, and clean while that is
 * taken away; hardware gives it back on a write by itself.
 * Entries start as dirty, as Linux writes them.
 */
#ifndef TABLE_FMT_ARMLPAE_H
#define TABLE_FMT_ARMLPAE_H

#define FMT_LEVEL_BITS 9
#define FMT_PAGE_SIZES (UINT64_C(1) << 12 | UINT64_C(1) << 21 | UINT64_C(1) << 30)
#define FMT_HINT_SIZES (UINT64_C(1) << 16 | UINT64_C(1) << 25)
#define FMT_RUNS       1
#define FMT_MAX_ADDR   ((UINT64_C(1) << 48) - 1)
#define FMT_PROTS      (UIOMMU_READ | UIOMMU_WRITE | UIOMMU_MMIO)
#define FMT_DIRTY      1

#define LPAE_VALID (UINT64_C(1) << 0)
#define LPAE_BLOCK (UINT64_C(1) << 0)
#define LPAE_TABLE (UINT64_C(3) << 0)
#define LPAE_PAGE  (UINT64_C(3) << 0)
#define LPAE_SH_OS (UINT64_C(2) << 8)
#define LPAE_SH_IS (UINT64_C(3) << 8)
#define LPAE_AF	   (UINT64_C(1) << 10)
#define LPAE_DBM   (UINT64_C(1) << 51)
#define LPAE_CONT  (UINT64_C(1) << 52)
#define LPAE_XN	   (UINT64_C(3) << 53)
#define LPAE_ADDR  (((UINT64_C(1) << 48) - 1) & ~UINT64_C(0xfff))

static inline bool fmt_present(uint64_t entry)
{
	return entry & LPAE_VALID;
}

static inline bool fmt_is_leaf(uint64_t entry, unsigned level)
{
	return !level || (entry & LPAE_TABLE) == LPAE_BLOCK;
}

static inline unsigned fmt_leaf_shift(uint64_t entry, unsigned level)
{
	return 12 + level * FMT_LEVEL_BITS + (entry & LPAE_CONT ? 4 : 0);
}

/* What leaves of both stages have. Device memory is outer shareable, and nothing is run from it. */
static inline uint64_t lpae_leaf(uint64_t addr, int prot, unsigned level, unsigned shift)
{
	return addr | (level ? LPAE_BLOCK : LPAE_PAGE) | LPAE_AF |
	       (prot & UIOMMU_MMIO ? LPAE_SH_OS | LPAE_XN : LPAE_SH_IS) |
	       (shift == 12 + level * FMT_LEVEL_BITS ? 0 : LPAE_CONT);
}

static inline uint64_t fmt_make_table(uint64_t addr, unsigned level)
{
	return addr | LPAE_TABLE;
}

static inline uint64_t fmt_addr(uint64_t entry)
{
	return entry & LPAE_ADDR;
}

/* Tables restrict nothing: APTable and the like stay 0. */
static inline int fmt_table_prot(uint64_t entry)
{
	return ~0;
}

static inline unsigned fmt_aperture_bits(unsigned width)
{
	return width;
}

#endif
