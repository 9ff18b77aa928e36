/* SPDX-License-Identifier: MIT */
/*
 * A guest's VT-d first stage: the format of fmt_x86fs.h, read as hardware reads it. Requests are
 * user's, so supervisor requests (SRE, WPE) have no bearing here.
 */
#include <errno.h>

#include "table/formats.h"
#include "table/fmt_x86fs.h"
#include "table/guest.h"

static int check(const struct guest_table *table)
{
	const unsigned known = UIOMMU_GUEST_SRE | UIOMMU_GUEST_EAFE | UIOMMU_GUEST_WPE;

	return fmt_levels(table->width) && !(table->flags & ~known) ? 0 : -EINVAL;
}

static enum uiommu_fault_reason decode(const struct guest_tree *tree, uint64_t entry,
				       unsigned level, struct guest_entry *out)
{
	uint64_t inside = (UINT64_C(1) << fmt_leaf_shift(entry, level)) - 1;

	if (!fmt_present(entry))
		return UIOMMU_FAULT_NOT_PRESENT;
	out->leaf = fmt_is_leaf(entry, level);
	if (out->leaf && !(FMT_PAGE_SIZES >> fmt_leaf_shift(entry, level) & 1))
		return UIOMMU_FAULT_TABLE_ENTRY;
	if (out->leaf && (fmt_addr(entry) & inside & ~X86FS_PAT))
		return UIOMMU_FAULT_TABLE_ENTRY;
	out->addr = fmt_addr(entry);
	out->prot = fmt_prot(entry);
	return UIOMMU_FAULT_NONE;
}

static bool canonical(uint64_t iova, unsigned width)
{
	uint64_t upper = iova >> (width - 1);

	return !upper || upper == UINT64_MAX >> (width - 1);
}

static enum uiommu_fault_reason walk(const struct guest_table *table, struct guest_memory *memory,
				     uint64_t iova, int access, struct table_leaf *leaf)
{
	const struct guest_tree tree = {
		.root = table->root & X86FS_ADDR,
		.granule = 12,
		.bits = table->width,
		.decode = decode,
		.accessed = X86FS_A | (table->flags & UIOMMU_GUEST_EAFE ? X86FS_EA : 0),
		.dirty = X86FS_D,
	};

	if (!canonical(iova, table->width))
		return UIOMMU_FAULT_BEYOND;
	return guest_tree_walk(&tree, memory, iova, access, leaf);
}

const struct guest_format guest_vtd = {.name = "vtd-fs", .check = check, .walk = walk};
