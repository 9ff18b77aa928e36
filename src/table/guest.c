/* SPDX-License-Identifier: MIT */
/*
 * Owns the list of formats that guests' tables may have, and the walk of a tree of tables that all
 * of them share.
 */
#include "table/guest.h"

#include <errno.h>
#include <string.h>

/* How often a walk tries to set a flag in an entry that the guest keeps changing. A section must
 * end, and so must the guest's game. */
#define MOST_TRIES 16

static const struct guest_format *const formats[] = {&guest_vtd, &guest_smmuv3};

int guest_table_init(struct guest_table *table, const struct uiommu_guest_options *options)
{
	*table = (struct guest_table){.root = options->root,
				      .width = options->width,
				      .flags = options->flags,
				      .ste = {options->ste[0], options->ste[1]}};
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (!strcmp(formats[i]->name, options->format))
			table->format = formats[i];
	return table->format ? table->format->check(table) : -EINVAL;
}

/* The entry as the walk leaves it. */
static uint64_t flagged(const struct guest_tree *tree, uint64_t entry,
			const struct guest_entry *means, int prot, int access)
{
	if (means->leaf && (access & ~prot))
		return entry;
	return entry | tree->accessed | (means->leaf && (access & UIOMMU_WRITE) ? tree->dirty : 0);
}

/* Read the entry at an address, and set the flags that the access calls for. *prot becomes what is
 * permitted with it. */
static enum uiommu_fault_reason take_entry(const struct guest_tree *tree,
					   struct guest_memory *memory, uint64_t at, unsigned level,
					   int access, struct guest_entry *means, int *prot)
{
	enum uiommu_fault_reason reason;
	uint64_t entry;

	reason = memory->read(memory, at, &entry, 1);
	for (unsigned tries = 0; !reason && tries < MOST_TRIES; tries++) {
		uint64_t seen = entry, desired;
		int both;

		reason = tree->decode(tree, entry, level, means);
		if (reason)
			return reason;
		both = *prot & means->prot;
		desired = flagged(tree, entry, means, both, access);
		if (desired != entry)
			reason = memory->update(memory, at, &entry, desired);
		if (!reason && entry == seen) {
			*prot = both;
			if (means->leaf && tree->dirty && !(desired & tree->dirty))
				*prot &= ~UIOMMU_WRITE;
			return UIOMMU_FAULT_NONE;
		}
	}
	return reason ? reason : UIOMMU_FAULT_TABLE_FETCH;
}

enum uiommu_fault_reason guest_tree_walk(const struct guest_tree *tree, struct guest_memory *memory,
					 uint64_t iova, int access, struct table_leaf *leaf)
{
	unsigned step = tree->granule - 3; /* bits of a level */
	unsigned level = (tree->bits - tree->granule + step - 1) / step - 1;
	uint64_t table = tree->root, inside = iova & (UINT64_MAX >> (64 - tree->bits));
	int prot = UIOMMU_READ | UIOMMU_WRITE;

	for (;; level--) {
		unsigned shift = tree->granule + level * step;
		uint64_t at = table + (inside >> shift) * sizeof(uint64_t);
		uint64_t mask = (UINT64_C(1) << shift) - 1;
		enum uiommu_fault_reason reason;
		struct guest_entry means;

		reason = take_entry(tree, memory, at, level, access, &means, &prot);
		if (reason)
			return reason;
		if (means.leaf) {
			*leaf = (struct table_leaf){
				{iova & ~mask, iova | mask}, means.addr & ~mask, prot};
			return UIOMMU_FAULT_NONE;
		}
		table = means.addr;
		inside &= mask;
	}
}
