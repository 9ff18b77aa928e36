/* SPDX-License-Identifier: MIT */
/*
 * Finding a leaf of struct imap, for the files that change the tree: imap.c and imap_erase.c. Small
 * enough to be part of whoever calls it.
 */
#ifndef UTIL_IMAP_WAY_H
#define UTIL_IMAP_WAY_H

#include "util/imap_nodes.h"

/* The last child whose key is <= addr, else child 0. Without a branch that nobody could predict: in
 * a node of 32 and more, as most have, the steps are always the same. */
static inline unsigned inner_search(const struct inner *in, uint64_t addr)
{
	unsigned lo = 0, n = in->n;

	if (n >= 32) {
		lo = (n - 32) & -(unsigned)(in->key[n - 32] <= addr);
#pragma GCC unroll 5
		for (unsigned half = 16; half; half /= 2)
			lo += half & -(unsigned)(in->key[lo + half] <= addr);
		return lo;
	}
	while (n > 1) {
		unsigned half = n / 2;

		lo += half & -(unsigned)(in->key[lo + half] <= addr);
		n -= half;
	}
	return lo;
}

/* From an inner node to the child where addr would start, which the range is cut to. */
static inline void *step(const struct inner *in, uint64_t addr, struct uiommu_range *range,
			 unsigned *slot)
{
	unsigned i = inner_search(in, addr);

	if (i)
		range->first = in->key[i];
	if (i + 1 < in->n)
		range->last = in->key[i + 1] - 1;
	*slot = i;
	return in->child[i];
}

/* Hints spare a search the way from the root, as long as no node comes or goes: most often what is
 * unmapped was looked for a short while ago. */
#define HINTS 2048

struct imap_hint {
	uint64_t version;
	struct uiommu_range range;
	struct imap_leaf *leaf;
	unsigned index; /* where in the leaf the address was; a guess */
};

/* The place of an address' hint; NULL: there are none. */
static inline struct imap_hint *hint_of(const struct imap *map, uint64_t addr)
{
	return map->hints ? &map->hints[(addr >> PACK_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 53]
			  : NULL;
}

static inline bool hint_holds(const struct imap *map, const struct imap_hint *hint, uint64_t addr)
{
	return hint->version == map->version &&
	       addr - hint->range.first <= hint->range.last - hint->range.first;
}

/* Nodes come or go, or keys change. */
static inline void forget(struct imap *map)
{
	map->near = NULL;
	map->version++;
}

/* From the root to the leaf where addr would start, and for which addresses that is the one. */
static inline struct imap_leaf *descend(const struct imap *map, uint64_t addr, struct path *path,
					struct uiommu_range *range)
{
	void *node = map->root;

	*range = UIOMMU_RANGE_ALL;
	for (unsigned h = 0; h < map->height; h++) {
		path->node[h] = node;
		node = step(node, addr, range, &path->slot[h]);
	}
	path->depth = map->height;
	return node;
}

/* The leaf where addr, whose hint this is, would start. */
static inline struct imap_leaf *leaf_by(struct imap *map, uint64_t addr, struct imap_hint *hint)
{
	if (imap_is_near(map, addr))
		return map->near;
	if (hint && hint_holds(map, hint, addr)) {
		map->near = hint->leaf;
		map->near_range = hint->range;
		map->near_path = false;
		return hint->leaf;
	}
	map->near = descend(map, addr, &map->path, &map->near_range);
	map->near_path = true;
	if (hint)
		*hint = (struct imap_hint){map->version, map->near_range, map->near, 0};
	return map->near;
}

static inline struct imap_leaf *leaf_of(struct imap *map, uint64_t addr)
{
	return leaf_by(map, addr, hint_of(map, addr));
}

/* The entry that starts at the hint's address was, or is now, at this index of the leaf where it
 * would start. */
static inline void hint_index(struct imap_hint *hint, const struct imap_leaf *leaf, unsigned i)
{
	if (hint && hint->leaf == leaf)
		hint->index = i;
}

/* leaf_search() in the leaf where addr, whose hint this is, would start. */
static inline unsigned search(struct imap_hint *hint, const struct imap_leaf *leaf, uint64_t addr)
{
	unsigned i;

	if (hint && hint->leaf == leaf && hint->index < leaf->end && leaf->kind != LEAF_RUN &&
	    leaf_has(leaf, hint->index) && leaf_first(leaf, hint->index) == addr)
		return hint->index;
	i = leaf_search(leaf, addr);
	hint_index(hint, leaf, i);
	return i;
}

/* The way to the leaf that leaf_of() found last. */
static inline struct path *path_of(struct imap *map)
{
	if (!map->near_path)
		descend(map, map->near_range.first, &map->path, &map->near_range);
	map->near_path = true;
	return &map->path;
}

/* Its parent; NULL: there is none. */
static inline struct inner *parent_of(struct imap *map, unsigned *slot)
{
	const struct path *path = path_of(map);

	*slot = path->depth ? path->slot[path->depth - 1] : 0;
	return path->depth ? path->node[path->depth - 1] : NULL;
}

/* Not valid if they adjoin. before may be NULL. */
static inline struct uiommu_range gap_between(const struct imap_leaf *leaf, unsigned i,
					      uint64_t after)
{
	struct uiommu_range gap = {leaf ? leaf_last(leaf, i) + 1 : 0, after - 1};

	return after ? gap : UIOMMU_RANGE_NONE;
}

#endif
