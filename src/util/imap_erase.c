/* SPDX-License-Identifier: MIT */
/*
 * Taking entries out of the B+-tree of struct imap (imap.c), and keeping its nodes filled. Nothing
 * here allocates or fails.
 */
#include <string.h>

#include "util/alloc.h"
#include "util/imap_way.h"

/* Nodes with fewer entries than this are merged with, or filled from, a sibling. A run is merged
 * with nothing. */
#define LEAF_MIN   (LEAF_MAX / 3)
#define PACKED_MIN (PACKED_MAX / 3)
#define INNER_MIN  (INNER_MAX / 3)

/* With so many entries a packed leaf or a run becomes a wide one. */
#define WIDE_AGAIN (LEAF_MAX / 2)

static void inner_remove(struct inner *in, unsigned at)
{
	gaps_remove(in, at);
	in->n--;
	memmove(&in->key[at], &in->key[at + 1], (in->n - at) * sizeof(in->key[0]));
	memmove(&in->child[at], &in->child[at + 1], (in->n - at) * sizeof(in->child[0]));
}

/* Free a leaf that is empty or whose entries are elsewhere: a child of in. */
static void leaf_drop(struct inner *in, unsigned slot)
{
	struct imap_leaf *leaf = in->child[slot];

	if (leaf->prev)
		leaf->prev->next = leaf->next;
	if (leaf->next)
		leaf->next->prev = leaf->prev;
	uiommu_free(leaf, NODE_SIZE);
	inner_remove(in, slot);
}

/* Make wide leaves a and b, which hold too much for one, hold the same. */
static void leaf_even(struct imap_leaf *a, struct imap_leaf *b)
{
	unsigned total = a->n + b->n, half = total / 2;

	if (a->n < half) {
		unsigned move = half - a->n;

		memcpy(&a->entry[a->n], b->entry, move * sizeof(b->entry[0]));
		memmove(b->entry, &b->entry[move], (b->n - move) * sizeof(b->entry[0]));
	} else {
		unsigned move = a->n - half;

		memmove(&b->entry[move], b->entry, b->n * sizeof(b->entry[0]));
		memcpy(b->entry, &a->entry[half], move * sizeof(b->entry[0]));
	}
	a->n = a->end = half;
	b->n = b->end = total - half;
}

/* See to it that leaf children i and i + 1 of in, of which one has few entries, hold enough each as
 * far as they go together, or merge them: true if something was done. */
static bool leaf_balance(const struct imap *map, struct inner *in, unsigned i)
{
	struct imap_leaf *a = in->child[i], *b = in->child[i + 1];
	bool wide = a->kind == LEAF_WIDE && b->kind == LEAF_WIDE;

	if (map->steady && !wide)
		return false;
	if (leaf_join(a, b)) {
		gaps_level(in, i);
		leaf_drop(in, i + 1);
		return true;
	}
	if (wide) {
		gaps_level(in, i);
		leaf_even(a, b);
		in->key[i + 1] = b->entry[0].range.first;
	}
	return wide;
}

static bool inner_balance(struct inner *in, unsigned i)
{
	struct inner *a = in->child[i], *b = in->child[i + 1];
	unsigned total = a->n + b->n, half = total / 2;

	b->key[0] = in->key[i + 1];
	gaps_forget(a);
	gaps_forget(b);
	if (total <= INNER_MAX) {
		memcpy(&a->key[a->n], b->key, b->n * sizeof(b->key[0]));
		memcpy(&a->child[a->n], b->child, b->n * sizeof(b->child[0]));
		a->n = total;
		uiommu_free(b, NODE_SIZE);
		inner_remove(in, i + 1);
		return true;
	}
	if (a->n < half) {
		unsigned move = half - a->n;

		memcpy(&a->key[a->n], b->key, move * sizeof(b->key[0]));
		memcpy(&a->child[a->n], b->child, move * sizeof(b->child[0]));
		memmove(b->key, &b->key[move], (b->n - move) * sizeof(b->key[0]));
		memmove(b->child, &b->child[move], (b->n - move) * sizeof(b->child[0]));
	} else {
		unsigned move = a->n - half;

		memmove(&b->key[move], b->key, b->n * sizeof(b->key[0]));
		memmove(&b->child[move], b->child, b->n * sizeof(b->child[0]));
		memcpy(b->key, &a->key[half], move * sizeof(b->key[0]));
		memcpy(b->child, &a->child[half], move * sizeof(b->child[0]));
	}
	a->n = half;
	b->n = total - half;
	in->key[i + 1] = b->key[0];
	return false;
}

/* Did a leaf that lost entries become small, and with which siblings does it go? */
static bool leaf_small(struct imap_leaf *leaf)
{
	if (leaf->kind != LEAF_WIDE && leaf->n <= WIDE_AGAIN)
		leaf_unpack(leaf);
	return leaf->kind == LEAF_PACKED ? leaf->n < PACKED_MIN
	       : leaf->kind == LEAF_WIDE ? leaf->n < LEAF_MIN
					 : false;
}

/* The map is empty. */
static void drop_root(struct imap *map)
{
	uiommu_free(map->root, NODE_SIZE);
	uiommu_free(map->hints, HINTS * sizeof(*map->hints));
	map->root = NULL;
	map->hints = NULL;
	forget(map);
}

static __attribute__((noinline)) void rebalance_up(struct imap *map, struct imap_leaf *leaf)
{
	struct path *path;
	struct inner *in;
	unsigned h, slot;
	bool small;

	if (leaf->n && !leaf_small(leaf))
		return;
	path = path_of(map);
	h = path->depth;
	in = parent_of(map, &slot);
	if (!in) {
		if (!leaf->n)
			drop_root(map);
		return;
	}
	if (!leaf->n)
		leaf_drop(in, slot);
	else if (!leaf_balance(map, in, slot + 1 == in->n ? slot - 1 : slot))
		return;
	forget(map);
	small = in->n < INNER_MIN;
	while (--h && small) {
		in = path->node[h - 1];
		slot = path->slot[h - 1];
		slot -= slot + 1 == in->n;
		gaps_level(in, slot);
		small = inner_balance(in, slot) && in->n < INNER_MIN;
	}
	while (map->height && ((struct inner *)map->root)->n == 1) {
		struct inner *old = map->root;

		map->root = old->child[0];
		map->height--;
		gaps_forget(old);
		uiommu_free(old, NODE_SIZE);
	}
}

/* After the leaf that leaf_of() found lost entries: keep nodes filled, upwards. Most leaves have
 * enough. */
static inline void rebalance(struct imap *map, struct imap_leaf *leaf)
{
	if (leaf->kind != LEAF_PACKED || leaf->n < PACKED_MIN)
		rebalance_up(map, leaf);
}

/* The entries from index i to j are about to go: the gap that they leave is the next entry's. */
static __attribute__((noinline)) void open_gap_there(struct imap *map, const struct imap_leaf *leaf,
						     unsigned i, unsigned j)
{
	const struct imap_leaf *before = i == leaf->begin ? leaf->prev : leaf;
	unsigned at = 0;

	if (before)
		at = before == leaf ? leaf_below(leaf, i) : before->end - 1u;
	if (j + 1 < leaf->end)
		gaps_raise(map, path_of(map),
			   gap_between(before, at, leaf_first(leaf, leaf_above(leaf, j))));
	else if (leaf->next)
		gaps_raise_next(map, path_of(map),
				gap_between(before, at, leaf_first(leaf->next, leaf->next->begin)));
}

static inline void open_gap(struct imap *map, const struct imap_leaf *leaf, unsigned i, unsigned j)
{
	if (map->gaps)
		open_gap_there(map, leaf, i, j);
}

/* Remove an entry of the leaf that leaf_of() found. */
static inline void erase_at(struct imap *map, struct imap_leaf *leaf, unsigned i)
{
	open_gap(map, leaf, i, i);
	leaf_remove(leaf, i);
	map->count--;
	rebalance(map, leaf);
}

bool imap_erase(struct imap *map, uint64_t first)
{
	struct imap_hint *hint;
	struct imap_leaf *leaf;
	unsigned i;

	if (!map->root)
		return false;
	hint = hint_of(map, first);
	leaf = leaf_by(map, first, hint);
	i = search(hint, leaf, first);
	if (i == leaf->end || leaf_first(leaf, i) != first)
		return false;
	erase_at(map, leaf, i);
	return true;
}

void imap_erase_found(struct imap *map, const struct imap_pos *pos)
{
	if (pos->leaf == map->near)
		erase_at(map, pos->leaf, pos->index);
	else
		imap_erase(map, pos->entry.range.first);
}

/* Remove a whole leaf, the one that leaf_of() found. */
static uint64_t erase_leaf(struct imap *map, struct imap_leaf *leaf, imap_fn each, void *ctx)
{
	uint64_t bytes = leaf_bytes(leaf);
	struct imap_entry entry;

	for (unsigned i = leaf->begin; each; i = leaf_above(leaf, i)) {
		leaf_get(leaf, i, &entry);
		each(ctx, &entry);
		if (i + 1u == leaf->end)
			break;
	}
	open_gap(map, leaf, leaf->begin, leaf->end - 1);
	map->count -= leaf->n;
	leaf->n = 0;
	rebalance(map, leaf);
	return bytes;
}

uint64_t imap_drop(struct imap *map, struct uiommu_range range, uint64_t mask, uint64_t info,
		   imap_fn each, void *ctx)
{
	uint64_t bytes = 0, at = range.first, last;
	struct imap_pos pos;

	while (imap_find(map, at, &pos) && pos.entry.range.first <= range.last) {
		struct imap_leaf *leaf = leaf_of(map, pos.entry.range.first);

		last = pos.entry.range.last;
		if (pos.index == leaf->begin && leaf->n > 1 && leaf_end_last(leaf) <= range.last &&
		    leaf_all(leaf, mask, info)) {
			last = leaf_end_last(leaf);
			bytes = add_sat(bytes, erase_leaf(map, leaf, each, ctx));
		} else if ((pos.entry.info & mask) == info) {
			bytes = add_sat(bytes, range_length(pos.entry.range));
			erase_at(map, leaf, pos.index);
			if (each)
				each(ctx, &pos.entry);
		}
		if (last >= range.last)
			break;
		at = last + 1;
	}
	return bytes;
}

static void free_node(void *node, unsigned height)
{
	struct inner *in = node;

	for (unsigned i = 0; height && i < in->n; i++)
		free_node(in->child[i], height - 1);
	if (height)
		gaps_forget(in);
	uiommu_free(node, NODE_SIZE);
}

void imap_clear(struct imap *map)
{
	if (map->root)
		free_node(map->root, map->height);
	uiommu_free(map->hints, HINTS * sizeof(*map->hints));
	*map = (struct imap){.floor = map->floor};
}
