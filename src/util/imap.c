/* SPDX-License-Identifier: MIT */
/*
 * Owns the B+-tree behind struct imap; what is inside a leaf is imap_leaf.c's.
 *
 * Invariants: all leaves have the same depth and are linked in order; every node but the root holds
 * at least one entry; child i of an inner node holds the entries that start in [key[i], key[i+1])
 * (key[0] is not looked at). An entry may reach beyond the key of the next child, for keys stay
 * when the entry they came from goes: who looks for an address in a leaf's front looks at the end
 * of the leaf before it too. Both kinds of node have the same size. What map->near says is true as
 * long as no node comes or goes and no key changes.
 *
 * Insertion takes all the nodes it can need before it changes anything, so a failed allocation
 * leaves the entries as they were, though a leaf may have become two. Erasing never allocates and
 * never fails.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "util/alloc.h"
#include "util/imap_way.h"

/* ---- finding ---- */

/* What a search in a packed leaf looks at lies in front of this. Of what is behind, an insertion
 * touches a line or two. */
#define SEARCHED offsetof(struct imap_leaf, shared.packed.value)

bool imap_prefetch(struct imap *map, const uint64_t *addr, unsigned count)
{
	struct uiommu_range range[IMAP_AHEAD];
	uint64_t want[IMAP_AHEAD];
	void *node[IMAP_AHEAD];
	unsigned n = 0, slot;

	for (unsigned i = 0; map->hints && i < count; i++)
		if (!imap_is_near(map, addr[i]) &&
		    !hint_holds(map, hint_of(map, addr[i]), addr[i])) {
			want[n] = addr[i];
			range[n] = UIOMMU_RANGE_ALL;
			node[n++] = map->root;
		}
	/* Level by level, so that the processor works at all of them at once. */
	for (unsigned h = 0; h < map->height; h++)
		for (unsigned i = 0; i < n; i++)
			node[i] = step(node[i], want[i], &range[i], &slot);
	for (unsigned i = 0; i < n; i++) {
		*hint_of(map, want[i]) = (struct imap_hint){map->version, range[i], node[i], 0};
#pragma GCC unroll 16
		for (unsigned at = 0; at < SEARCHED; at += 64)
			__builtin_prefetch((char *)node[i] + at, 1);
	}
	return n;
}

const struct imap_entry *imap_find(struct imap *map, uint64_t addr, struct imap_pos *pos)
{
	struct imap_hint *hint;
	struct imap_leaf *leaf;
	unsigned i;

	if (!map->root)
		return NULL;
	hint = hint_of(map, addr);
	leaf = leaf_by(map, addr, hint);
	i = search(hint, leaf, addr);
	if (i == leaf->begin && leaf->prev && leaf_end_last(leaf->prev) >= addr) {
		leaf = leaf->prev;
		i = leaf->end - 1;
	} else if (i == leaf->end) {
		leaf = leaf->next;
		if (!leaf)
			return NULL;
		i = leaf->begin;
	}
	pos->leaf = leaf;
	pos->index = i;
	leaf_get(leaf, i, &pos->entry);
	return &pos->entry;
}

const struct imap_entry *imap_next(struct imap_pos *pos)
{
	if (pos->index + 1 < pos->leaf->end) {
		pos->index = leaf_above(pos->leaf, pos->index);
	} else {
		if (!pos->leaf->next)
			return NULL;
		pos->leaf = pos->leaf->next;
		pos->index = pos->leaf->begin;
	}
	leaf_get(pos->leaf, pos->index, &pos->entry);
	return &pos->entry;
}

uint64_t imap_skip(struct imap_pos *pos, uint64_t last, uint64_t bits)
{
	const struct imap_leaf *leaf = pos->leaf;

	if (pos->index != leaf->begin || leaf_end_last(leaf) > last || !leaf_all(leaf, bits, 0))
		return 0;
	pos->index = leaf->end - 1;
	leaf_get(leaf, pos->index, &pos->entry);
	return leaf_bytes(leaf);
}

/* ---- splitting ---- */

static void inner_put(struct inner *in, unsigned at, uint64_t key, void *child)
{
	memmove(&in->key[at + 1], &in->key[at], (in->n - at) * sizeof(in->key[0]));
	memmove(&in->child[at + 1], &in->child[at], (in->n - at) * sizeof(in->child[0]));
	gaps_put(in, at);
	in->key[at] = key;
	in->child[at] = child;
	in->n++;
}

/* Split a full inner node and put a child in. *key becomes the key of the right half. */
static void inner_split(struct inner *in, struct inner *right, unsigned at, uint64_t *key,
			void *child)
{
	unsigned keep = at == in->n ? in->n - 1 : in->n / 2;

	right->n = in->n - keep;
	memcpy(right->key, &in->key[keep], right->n * sizeof(in->key[0]));
	memcpy(right->child, &in->child[keep], right->n * sizeof(in->child[0]));
	in->n = keep;
	if (at < keep)
		inner_put(in, at, *key, child);
	else
		inner_put(right, at - keep, *key, child);
	*key = right->key[0];
}

/* Nodes that splitting the leaf at the end of this path takes. */
static unsigned nodes_needed(const struct path *path)
{
	unsigned needed = 1, h = path->depth;

	while (h && path->node[h - 1]->n == INNER_MAX) {
		needed++;
		h--;
	}
	return h ? needed : needed + 1; /* the split reaches the root: a new root */
}

static bool take_nodes(void **nodes, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		nodes[i] = uiommu_alloc(NODE_SIZE);
		if (!nodes[i]) {
			while (i--)
				uiommu_free(nodes[i], NODE_SIZE);
			return false;
		}
	}
	return true;
}

/* Link a leaf's new right neighbour into the inner nodes. */
static void link_right(struct imap *map, struct imap_leaf *right, void **nodes, unsigned needed)
{
	struct path *path = &map->path;
	uint64_t key = leaf_first(right, right->begin);
	unsigned h = path->depth;
	struct inner *root;
	void *child = right;

	while (h) {
		struct inner *in = path->node[--h];
		unsigned slot = path->slot[h] + 1;

		if (in->n < INNER_MAX) {
			inner_put(in, slot, key, child);
			return;
		}
		inner_split(in, nodes[--needed], slot, &key, child);
		child = nodes[needed];
	}
	root = nodes[--needed];
	root->n = 2;
	root->child[0] = map->root;
	root->key[1] = key;
	root->child[1] = child;
	map->root = root;
	map->height++;
}

/* Move what is at index at and above of the leaf that leaf_of() found into a new leaf; where that
 * is nothing, the new leaf gets this entry. */
static int split(struct imap *map, struct imap_leaf *leaf, unsigned at,
		 const struct imap_entry *entry)
{
	unsigned needed = nodes_needed(path_of(map));
	void *nodes[IMAP_MAX_HEIGHT + 1];
	struct imap_leaf *right;

	if (!take_nodes(nodes, needed))
		return -ENOMEM;
	right = nodes[--needed];
	if (at < leaf->end)
		leaf_part(leaf, right, at);
	else
		leaf_put(right, 0, entry);
	right->next = leaf->next;
	right->prev = leaf;
	if (right->next)
		right->next->prev = right;
	leaf->next = right;
	link_right(map, right, nodes, needed);
	forget(map);
	/* From a height on where a search goes through memory that may be out of the caches; done
	 * without if there is none. */
	if (map->height > 1 && !map->hints)
		map->hints = uiommu_alloc(HINTS * sizeof(*map->hints));
	return 0;
}

/* The index that halves a leaf of more than one entry. */
static unsigned middle(const struct imap_leaf *leaf)
{
	return leaf_above(leaf, (leaf->begin + leaf->end) / 2 - 1);
}

struct imap_entry *imap_edit(struct imap *map, uint64_t addr)
{
	struct imap_pos pos;

	while (imap_find(map, addr, &pos) && pos.leaf->kind != LEAF_WIDE) {
		/* Not the one that addr leads to, if the entry reaches beyond a key. */
		struct imap_leaf *leaf = leaf_of(map, pos.entry.range.first);

		if (leaf->n <= LEAF_MAX)
			leaf_unpack(leaf);
		else if (split(map, leaf, middle(leaf), NULL))
			return NULL;
	}
	return imap_find(map, addr, &pos) ? &pos.leaf->entry[pos.index] : NULL;
}

/* ---- insertion ---- */

/* Put an entry that belongs behind the end of a leaf into the next one, if that has the same parent
 * and can take it. */
static bool put_next(struct imap *map, const struct imap_entry *entry)
{
	struct imap_leaf *next;
	struct inner *in;
	unsigned slot;

	in = parent_of(map, &slot);
	if (!in || slot + 1 == in->n)
		return false;
	next = in->child[slot + 1];
	if ((next->kind != LEAF_WIDE && map->steady) || leaf_put(next, next->begin, entry) < 0) {
		if (next->kind == LEAF_WIDE || next->n >= LEAF_MAX)
			return false;
		leaf_unpack(next);
		leaf_put(next, 0, entry);
	}
	in->key[slot + 1] = entry->range.first;
	forget(map);
	return true;
}

/* Give some of a full leaf's last entries to the next one of the same parent: true if there is room
 * now. */
static bool spill(struct imap *map, struct imap_leaf *leaf)
{
	struct imap_leaf *next;
	struct imap_entry entry;
	struct inner *in;
	unsigned slot, most;

	in = parent_of(map, &slot);
	if (!in || slot + 1 == in->n || leaf->kind != LEAF_PACKED)
		return false;
	next = in->child[slot + 1];
	if (next->kind != LEAF_PACKED || next->n > PACKED_MAX * 3 / 4)
		return false;
	gaps_level(in, slot);
	most = (PACKED_MAX - next->n) / 2;
	while (most--) {
		leaf_get(leaf, leaf->end - 1, &entry);
		if (leaf_put(next, next->begin, &entry) < 0)
			break;
		leaf_remove(leaf, leaf->end - 1);
	}
	in->key[slot + 1] = leaf_first(next, next->begin);
	forget(map);
	return leaf->n < PACKED_MAX;
}

/* The leaf that leaf_of() found can't take the entry, which belongs at index at, as it is: have
 * it taken in (*done), or make room for another attempt. */
static int make_room(struct imap *map, struct imap_leaf *leaf, unsigned at,
		     const struct imap_entry *entry, bool *done)
{
	*done = !map->steady && leaf_pack(leaf, at, entry);
	if (*done)
		return 0;
	if (leaf->kind != LEAF_WIDE && leaf->n < LEAF_MAX) {
		leaf_unpack(leaf);
		return 0;
	}
	if (leaf->kind == LEAF_WIDE ||
	    (leaf->kind == LEAF_PACKED && !map->steady && leaf_alike(leaf, entry))) {
		/* Full. Appending to the very last leaf leaves it so: ascending insertion packs. */
		if (at < leaf->end || leaf->next)
			return spill(map, leaf) ? 0 : split(map, leaf, middle(leaf), NULL);
	} else if (at < leaf->end) {
		return split(map, leaf, at, NULL);
	} else if (put_next(map, entry)) {
		*done = true;
		return 0;
	}
	*done = true;
	return split(map, leaf, at, entry);
}

/* Would the entry overlap what is around index at of the leaf where it would start? What it would
 * is at *index of *hit then. */
static inline bool overlaps(const struct imap *map, const struct imap_leaf *leaf, unsigned at,
			    const struct imap_entry *entry, const struct imap_leaf **hit,
			    unsigned *index)
{
	*hit = leaf;
	*index = at;
	if (at == leaf->begin && leaf->prev && leaf_end_last(leaf->prev) >= entry->range.first) {
		*hit = leaf->prev;
		*index = leaf->prev->end - 1;
		return true;
	}
	if (at < leaf->end)
		return leaf_first(leaf, at) <= entry->range.last;
	/* What starts behind the leaf's own addresses is in the next one. */
	if (entry->range.last <= map->near_range.last || !leaf->next)
		return false;
	*hit = leaf->next;
	*index = leaf->next->begin;
	return leaf_first(*hit, *index) <= entry->range.last;
}

int imap_insert(struct imap *map, const struct imap_entry *entry, struct imap_entry *blocking)
{
	bool done = false;

	if (!map->root) {
		map->root = uiommu_alloc(NODE_SIZE);
		if (!map->root)
			return -ENOMEM;
		map->height = 0;
	}
	while (!done) {
		struct imap_hint *hint = hint_of(map, entry->range.first);
		struct imap_leaf *leaf = leaf_by(map, entry->range.first, hint);
		unsigned at = leaf_search(leaf, entry->range.first), index;
		const struct imap_leaf *hit;
		int ret, put = -1;

		if (overlaps(map, leaf, at, entry, &hit, &index)) {
			if (blocking)
				leaf_get(hit, index, blocking);
			return -EEXIST;
		}
		if (map->gaps && at > leaf->begin && at == leaf->end)
			gaps_raise(map, path_of(map),
				   gap_between(leaf, at - 1, entry->range.first));
		if (leaf->kind == LEAF_WIDE || !map->steady)
			put = leaf_put(leaf, at, entry);
		if (put >= 0) {
			hint_index(hint, leaf, (unsigned)put);
			break;
		}
		ret = make_room(map, leaf, at, entry, &done);
		if (ret)
			return ret;
	}
	map->count++;
	return 0;
}
