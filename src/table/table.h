/* SPDX-License-Identifier: MIT */
/*
 * I/O page tables. One table is one format, one width and one root; whoever owns it serialises
 * map and unmap, while any number of walkers read it without a lock.
 */
#ifndef TABLE_TABLE_H
#define TABLE_TABLE_H

#include "table/gather.h"
#include "table/pool.h"
#include "util/range.h"

struct table;

/* What a walk found. */
struct table_leaf {
	struct uiommu_range range; /* IOVAs that this entry translates */
	uint64_t addr;		   /* what range.first translates to */
	int prot;
};

/* A format, as generated from its facts by table_impl.h. */
struct table_ops {
	const char *name;
	uint64_t page_sizes; /* bitmap of leaf sizes, for any width */
	uint64_t max_addr;   /* highest address an entry can hold */
	/* Number of levels for a width in bits; 0: no such width. */
	unsigned (*levels)(unsigned width);
	int (*map)(struct table *table, struct uiommu_range range, uint64_t addr, int prot,
		   struct gather *gather);
	void (*unmap)(struct table *table, struct uiommu_range range, struct gather *gather);
	bool (*walk)(const struct table *table, uint64_t iova, struct table_leaf *leaf);
};

struct table {
	const struct table_ops *ops;
	void *root;
	unsigned levels;
	unsigned width;
	struct pool pool;
};

/* Make an empty table. -EINVAL: unknown format or width; -ENOMEM. */
int table_init(struct table *table, const char *format, unsigned width);

/* Free all of it. No walker may be inside. */
void table_destroy(struct table *table);

/* Highest IOVA it translates. */
static inline uint64_t table_last(const struct table *table)
{
	return table->width == 64 ? UINT64_MAX : (UINT64_C(1) << table->width) - 1;
}

/*
 * Enter [range] -> addr onwards. The range must be aligned to the smallest page, not be mapped, and
 * lie inside the table. Leaves are as large as the alignment of both sides allows. -ENOMEM: nothing
 * is mapped; what had been entered is in the gather, to be flushed.
 */
static inline int table_map(struct table *table, struct uiommu_range range, uint64_t addr, int prot,
			    struct gather *gather)
{
	return table->ops->map(table, range, addr, prot, gather);
}

/* Clear all entries inside the range, which must not cut a leaf. Never fails. */
static inline void table_unmap(struct table *table, struct uiommu_range range,
			       struct gather *gather)
{
	table->ops->unmap(table, range, gather);
}

/* Translate: false if nothing is present. Lock-free, beside map and unmap. */
static inline bool table_walk(const struct table *table, uint64_t iova, struct table_leaf *leaf)
{
	return table->ops->walk(table, iova, leaf);
}

#endif
