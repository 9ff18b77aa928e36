/* SPDX-License-Identifier: MIT */
/*
 * A guest's SMMUv3 stage 1: what its stream table entry says, the context descriptor that it points
 * to, and Armv8 tables behind that (fmt_arms1.h). Arm System Memory Management Unit Architecture
 * Specification, IHI 0070: 5.2 "Stream Table Entry", 5.3 "Level 1 Context Descriptor", 5.4 "Context
 * Descriptor", 5.5 "Fault configuration (A, R, S bits)"; DDI 0487, D8.2 for granules of 16 and
 * 64 KiB, D8.3 for APTable.
 *
 * As the SMMU that QEMU has it: no hardware update of flags (HTTU), no stalls, faults must abort
 * (TERM_MODEL), little endian tables of VMSAv8-64, addresses of 48 bits, hierarchical permissions
 * can be disabled. Requests are unprivileged, and without a substream.
 *
 * STE, words of 64 bits:
 *   0: 0 V, 3:1 Config (0 abort, 4 bypass, 5 stage 1), 5:4 S1Fmt, 51:6 S1ContextPtr, 63:59 S1CDMax
 *   1: 1:0 S1DSS (0 terminate, 1 bypass, 2 substream 0)
 * CD, likewise:
 *   0: 5:0 T0SZ, 7:6 TG0, 14 EPD0, 15 ENDI, 21:16 T1SZ, 23:22 TG1, 30 EPD1, 31 V, 34:32 IPS,
 *      35 AFFD, 38 TBI0, 39 TBI1, 41 AA64, 42 HD, 43 HA, 44 S, 45 R, 46 A
 *   1: 1 HAD0, 51:4 TTB0
 *   2: 1 HAD1, 51:4 TTB1
 */
#include <errno.h>

#include "table/formats.h"
#include "table/fmt_arms1.h"
#include "table/guest.h"

#define BITS(word, high, low) ((word) >> (low) & (UINT64_MAX >> (63 - ((high) - (low)))))
#define MASK(high, low)	      (UINT64_MAX >> (63 - (high)) & ~((UINT64_C(1) << (low)) - 1))

#define STE_V	       (UINT64_C(1) << 0)
#define STE_CONFIG(w)  BITS(w, 3, 1)
#define STE_ABORT      0
#define STE_BYPASS     4
#define STE_STAGE1     5
#define STE_S1FMT(w)   BITS(w, 5, 4)
#define STE_CONTEXT(w) ((w)&MASK(51, 6))
#define STE_S1CDMAX(w) BITS(w, 63, 59)
#define STE_S1DSS(w)   BITS(w, 1, 0)
#define STE_EATS(w)    BITS(w, 29, 28)
/* What Linux lets a guest say: S1CIR, S1COR, S1CSH and S1STALLD beside these. */
#define STE_0_KNOWN (MASK(63, 59) | MASK(51, 6) | MASK(5, 0))
#define STE_1_KNOWN (MASK(29, 27) | MASK(7, 0))

#define DSS_BYPASS     1
#define DSS_SUBSTREAM0 2

#define L1CD_V	   (UINT64_C(1) << 0)
#define L1CD_L2PTR MASK(51, 12)

#define CD_ENDI	  (UINT64_C(1) << 15)
#define CD_V	  (UINT64_C(1) << 31)
#define CD_IPS(w) BITS(w, 34, 32)
#define CD_AFFD	  (UINT64_C(1) << 35)
#define CD_AA64	  (UINT64_C(1) << 41)
#define CD_HD	  (UINT64_C(1) << 42)
#define CD_HA	  (UINT64_C(1) << 43)
#define CD_S	  (UINT64_C(1) << 44)
#define CD_R	  (UINT64_C(1) << 45)
#define CD_A	  (UINT64_C(1) << 46)
#define CD_HAD	  (UINT64_C(1) << 1) /* in words 1 and 2 */
#define CD_TTB	  MASK(51, 4)

/* Of the fields of either half of the space. */
#define CD_TSZ(w, half) BITS((w) >> 16 * (half), 5, 0)
#define CD_TG(w, half)	BITS((w) >> 16 * (half), 7, 6)
#define CD_EPD(w, half) BITS((w) >> 16 * (half), 14, 14)
#define CD_TBI(w, half) BITS((w) >> (half), 38, 38)

#define MIN_TSZ 16
#define MAX_TSZ 39

/* Hierarchical permissions of table entries: APTable. */
#define LPAE_APTABLE_NO_UNPRIV (UINT64_C(1) << 61)
#define LPAE_APTABLE_RDONLY    (UINT64_C(1) << 62)

struct context {
	uint64_t word[3];
	uint64_t last; /* the highest address that comes out of it */
};

/* How one half of the space is read. */
struct half {
	uint64_t last;
	bool access_flag, hierarchical;
};

static int check(const struct guest_table *table)
{
	uint64_t config = STE_CONFIG(table->ste[0]);

	if (!(table->ste[0] & STE_V))
		return 0;
	if ((table->ste[0] & ~STE_0_KNOWN) || (table->ste[1] & ~STE_1_KNOWN) ||
	    STE_EATS(table->ste[1]) > 1)
		return -EIO;
	return config == STE_ABORT || config == STE_BYPASS || config == STE_STAGE1 ? 0 : -EIO;
}

/* ---- context descriptor ---- */

/* log2 of the granule; 0: reserved. */
static unsigned granule(uint64_t word, unsigned half)
{
	static const unsigned char shift[2][4] = {{12, 16, 14, 0}, {0, 14, 12, 16}};

	return shift[half][CD_TG(word, half)];
}

/* Is the half's part of a context such as there may be? */
static bool half_legal(const struct context *context, unsigned half)
{
	uint64_t word = context->word[0], size = CD_TSZ(word, half);

	if (CD_EPD(word, half))
		return true;
	return size >= MIN_TSZ && size <= MAX_TSZ && granule(word, half) && !(word & CD_ENDI) &&
	       (context->word[1 + half] & CD_TTB) <= context->last;
}

static bool context_legal(const struct context *context)
{
	const uint64_t must = CD_V | CD_AA64 | CD_A, must_not = CD_HA | CD_HD | CD_S;
	uint64_t word = context->word[0];

	return (word & must) == must && !(word & must_not) && half_legal(context, 0) &&
	       half_legal(context, 1);
}

/* Of addresses that come out of stage 1, no more than the memory behind it has. */
static uint64_t context_last(uint64_t word, uint64_t last)
{
	static const unsigned char bits[8] = {32, 36, 40, 42, 44, 48, 48, 48};
	uint64_t mine = UINT64_MAX >> (64 - bits[CD_IPS(word)]);

	return mine < last ? mine : last;
}

/* Where the descriptor is: the only one, or substream 0's. */
static enum uiommu_fault_reason find_context(const struct guest_table *table,
					     struct guest_memory *memory, uint64_t *at)
{
	enum uiommu_fault_reason reason;
	uint64_t level1;

	*at = STE_CONTEXT(table->ste[0]);
	if (!STE_S1CDMAX(table->ste[0]))
		return UIOMMU_FAULT_NONE;
	if (STE_S1DSS(table->ste[1]) != DSS_SUBSTREAM0 || STE_S1FMT(table->ste[0]) > 2)
		return UIOMMU_FAULT_CONTEXT;
	if (!STE_S1FMT(table->ste[0]))
		return UIOMMU_FAULT_NONE;
	reason = memory->read(memory, *at, &level1, 1);
	if (reason)
		return reason;
	*at = level1 & L1CD_L2PTR;
	return level1 & L1CD_V ? UIOMMU_FAULT_NONE : UIOMMU_FAULT_CONTEXT;
}

static enum uiommu_fault_reason read_context(const struct guest_table *table,
					     struct guest_memory *memory, struct context *context)
{
	enum uiommu_fault_reason reason;
	uint64_t at;

	reason = find_context(table, memory, &at);
	if (!reason)
		reason = memory->read(memory, at, context->word, 3);
	if (reason)
		return reason;
	context->last = context_last(context->word[0], memory->last);
	return context_legal(context) ? UIOMMU_FAULT_NONE : UIOMMU_FAULT_CONTEXT;
}

/* ---- tables ---- */

static bool block_size(unsigned shift)
{
	return shift == 21 || shift == 30 || shift == 25 || shift == 29;
}

/* With a granule of 4 KiB this is what fmt_armlpae.h says. Privileged-only is no permission. */
static enum uiommu_fault_reason decode(const struct guest_tree *tree, uint64_t entry,
				       unsigned level, struct guest_entry *out)
{
	const struct half *half = tree->rules;
	unsigned shift = tree->granule + level * (tree->granule - 3);
	bool table = (entry & LPAE_TABLE) == LPAE_TABLE;

	if (!fmt_present(entry) || !(level ? table || block_size(shift) : table))
		return UIOMMU_FAULT_NOT_PRESENT;
	out->leaf = fmt_is_leaf(entry, level);
	out->addr = fmt_addr(entry) & ~((UINT64_C(1) << (out->leaf ? shift : tree->granule)) - 1);
	if (out->addr > half->last)
		return UIOMMU_FAULT_ADDRESS_SIZE;
	if (!out->leaf) {
		out->prot = UIOMMU_READ | UIOMMU_WRITE;
		if (half->hierarchical && (entry & LPAE_APTABLE_RDONLY))
			out->prot = UIOMMU_READ;
		if (half->hierarchical && (entry & LPAE_APTABLE_NO_UNPRIV))
			out->prot = 0;
		return UIOMMU_FAULT_NONE;
	}
	if (half->access_flag && !(entry & LPAE_AF))
		return UIOMMU_FAULT_ACCESS_FLAG;
	out->prot = UIOMMU_READ | (entry & LPAE_S1_RDONLY ? 0 : UIOMMU_WRITE);
	if (!(entry & LPAE_S1_UNPRIV))
		out->prot = 0;
	return UIOMMU_FAULT_NONE;
}

static enum uiommu_fault_reason walk_half(const struct context *context,
					  struct guest_memory *memory, uint64_t iova, int access,
					  struct table_leaf *leaf)
{
	unsigned which = iova >> 55 & 1, bits, step;
	uint64_t word = context->word[0], base = context->word[1 + which];
	uint64_t upper = which ? ~iova : iova;
	const struct half half = {
		.last = context->last,
		.access_flag = !(word & CD_AFFD),
		.hierarchical = !(base & CD_HAD),
	};
	struct guest_tree tree = {.decode = decode, .rules = &half};

	if (CD_EPD(word, which))
		return UIOMMU_FAULT_NOT_PRESENT;
	bits = 64 - (unsigned)CD_TSZ(word, which);
	if (CD_TBI(word, which))
		upper &= MASK(55, 0);
	if (upper >> bits)
		return UIOMMU_FAULT_NOT_PRESENT;
	tree.granule = granule(word, which);
	tree.bits = bits;
	/* The base is aligned to the start table, which has as many entries as bits are left. */
	step = tree.granule - 3;
	bits = (bits - tree.granule - 1) % step + 1;
	tree.root = base & CD_TTB & ~((UINT64_C(8) << bits) - 1);
	return guest_tree_walk(&tree, memory, iova, access, leaf);
}

/* Is it one of those that R is about? */
static bool translation_fault(enum uiommu_fault_reason reason)
{
	return reason == UIOMMU_FAULT_NOT_PRESENT || reason == UIOMMU_FAULT_ADDRESS_SIZE ||
	       reason == UIOMMU_FAULT_ACCESS_FLAG || reason == UIOMMU_FAULT_READ_DENIED ||
	       reason == UIOMMU_FAULT_WRITE_DENIED;
}

static enum uiommu_fault_reason walk(const struct guest_table *table, struct guest_memory *memory,
				     uint64_t iova, int access, struct table_leaf *leaf)
{
	uint64_t config = table->ste[0] & STE_V ? STE_CONFIG(table->ste[0]) : STE_ABORT;
	enum uiommu_fault_reason reason;
	struct context context;

	if (config == STE_ABORT)
		return UIOMMU_FAULT_ABORTED;
	if (config == STE_BYPASS ||
	    (STE_S1CDMAX(table->ste[0]) && STE_S1DSS(table->ste[1]) == DSS_BYPASS)) {
		*leaf = (struct table_leaf){UIOMMU_RANGE_ALL, 0, UIOMMU_READ | UIOMMU_WRITE};
		return UIOMMU_FAULT_NONE;
	}
	reason = read_context(table, memory, &context);
	if (reason)
		return reason;
	reason = walk_half(&context, memory, iova, access, leaf);
	if (!reason)
		reason = check_prot(leaf->prot, access);
	/* Without R the guest wants to hear of none of these. */
	return translation_fault(reason) && !(context.word[0] & CD_R) ? UIOMMU_FAULT_ABORTED
								      : reason;
}

const struct guest_format guest_smmuv3 = {.name = "smmuv3", .check = check, .walk = walk};
