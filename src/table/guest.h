/* SPDX-License-Identifier: MIT */
/*
 * A guest's own tables: a stage 1 in memory that the guest writes, walked as hardware walks it.
 * Every word read from there may be anything, and may change between two looks: an entry is read
 * once, with one access, and levels only go down, so a walk ends whatever the tables say.
 */
#ifndef TABLE_GUEST_H
#define TABLE_GUEST_H

#include <stddef.h>

#include <uiommu/space.h>

#include "table/table.h"

/* The memory that the tables are in. What is not UIOMMU_FAULT_NONE ends the walk. */
struct guest_memory {
	/* Read words, each with one access. The address is aligned to them. */
	enum uiommu_fault_reason (*read)(struct guest_memory *memory, uint64_t addr,
					 uint64_t *words, size_t count);
	/* Replace a word by @desired if it is *@expected; else *@expected becomes what it is. */
	enum uiommu_fault_reason (*update)(struct guest_memory *memory, uint64_t addr,
					   uint64_t *expected, uint64_t desired);
	uint64_t last; /* the highest address there can be */
};

struct guest_table;

/* Whose manual says how to read them. */
struct guest_format {
	const char *name;
	/* -EINVAL, or -EIO for stream table words that no guest may have. */
	int (*check)(const struct guest_table *table);
	enum uiommu_fault_reason (*walk)(const struct guest_table *table,
					 struct guest_memory *memory, uint64_t iova, int access,
					 struct table_leaf *leaf);
};

/* Where they start. Constant. */
struct guest_table {
	const struct guest_format *format;
	uint64_t root;	 /* vtd-fs */
	unsigned width;	 /* vtd-fs */
	unsigned flags;	 /* vtd-fs: enum uiommu_guest_flags */
	uint64_t ste[2]; /* smmuv3 */
};

extern const struct guest_format guest_vtd;
extern const struct guest_format guest_smmuv3;

/* -EINVAL: no such format, or what its check says. */
int guest_table_init(struct guest_table *table, const struct uiommu_guest_options *options);

/* Translate, for an access of this kind, and keep the accessed and dirty flags where the
 * architecture does. A leaf that is not marked dirty is not writable yet. */
static inline enum uiommu_fault_reason guest_walk(const struct guest_table *table,
						  struct guest_memory *memory, uint64_t iova,
						  int access, struct table_leaf *leaf)
{
	return table->format->walk(table, memory, iova, access, leaf);
}

/* ---- for formats ---- */

/* What an entry means. */
struct guest_entry {
	bool leaf;
	uint64_t addr;
	int prot; /* what it permits */
};

/* A tree of tables of 64-bit entries: each level resolves as many bits of the IOVA as a table of
 * granule size has entries, the highest what is left. */
struct guest_tree {
	uint64_t root;
	unsigned granule; /* log2 */
	unsigned bits;	  /* of the IOVA that the tree resolves, the granule's included */
	/* Read an entry; what it means, or why it stops the walk. */
	enum uiommu_fault_reason (*decode)(const struct guest_tree *tree, uint64_t entry,
					   unsigned level, struct guest_entry *out);
	const void *rules;	  /* the format's */
	uint64_t accessed, dirty; /* flags that hardware sets; 0: it does not */
};

enum uiommu_fault_reason guest_tree_walk(const struct guest_tree *tree, struct guest_memory *memory,
					 uint64_t iova, int access, struct table_leaf *leaf);

#endif
