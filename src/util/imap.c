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
#include <string.h>

#include "util/alloc.h"
#include "util/imap_nodes.h"

/* Nodes with fewer entries than this are merged with, or filled from, a sibling. A run is merged
 * with nothing. */
#define LEAF_MIN   (LEAF_MAX / 3)
#define PACKED_MIN (PACKED_MAX / 3)
#define INNER_MIN  (INNER_MAX / 3)

/* With so many entries a packed leaf or a run becomes a wide one. */
#define WIDE_AGAIN (LEAF_MAX / 2)

/* The last child whose key is <= addr, else child 0. Without a branch that nobody could predict. */
static inline unsigned inner_search(const struct inner *in, uint64_t addr)
{
	unsigned lo = 0, n = in->n;

	while (n > 1) {
		unsigned half = n / 2;

		lo += half & -(unsigned)(in->key[lo + half] <= addr);
		n -= half;
	}
	return lo;
}

/* ---- finding a leaf ---- */

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
#define HINTS 1024

struct imap_hint {
	uint64_t version;
	struct uiommu_range range;
	struct imap_leaf *leaf;
};

static inline struct imap_hint *hint_of(const struct imap *map, uint64_t addr)
{
	return &map->hints[(addr >> PACK_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 54];
}

static inline bool hint_holds(const struct imap *map, const struct imap_hint *hint, uint64_t addr)
{
	return hint->version == map->version &&
	       addr - hint->range.first <= hint->range.last - hint->range.first;
}

/* Nodes come or go, or keys change. */
static void forget(struct imap *map)
{
	map->near = NULL;
	map->version++;
}

/* From the root to the leaf where addr would start, and for which addresses that is the one. */
static struct imap_leaf *descend(const struct imap *map, uint64_t addr, struct path *path,
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

/* Does it start where the last search came to? */
static inline bool is_near(const struct imap *map, uint64_t addr)
{
	return map->near &&
	       addr - map->near_range.first <= map->near_range.last - map->near_range.first;
}

/* The leaf where addr would start. */
static inline struct imap_leaf *leaf_of(struct imap *map, uint64_t addr)
{
	struct imap_hint *hint;

	if (is_near(map, addr))
		return map->near;
	hint = map->hints ? hint_of(map, addr) : NULL;
	if (hint && hint_holds(map, hint, addr)) {
		map->near = hint->leaf;
		map->near_range = hint->range;
		map->near_path = false;
		return hint->leaf;
	}
	map->near = descend(map, addr, &map->path, &map->near_range);
	map->near_path = true;
	if (hint)
		*hint = (struct imap_hint){map->version, map->near_range, map->near};
	return map->near;
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

bool imap_prefetch(struct imap *map, const uint64_t *addr, unsigned count)
{
	struct imap_hint found[IMAP_AHEAD];
	void *node[IMAP_AHEAD];
	unsigned n = 0, slot;

	for (unsigned i = 0; map->hints && i < count; i++)
		if (!is_near(map, addr[i]) && !hint_holds(map, hint_of(map, addr[i]), addr[i])) {
			node[n] = map->root;
			found[n].range = UIOMMU_RANGE_ALL;
			found[n++].version = addr[i];
		}
	/* Level by level, so that the processor works at all of them at once. */
	for (unsigned h = 0; h < map->height; h++)
		for (unsigned i = 0; i < n; i++)
			node[i] = step(node[i], found[i].version, &found[i].range, &slot);
	for (unsigned i = 0; i < n; i++) {
		struct imap_hint *hint = hint_of(map, found[i].version);

		found[i].version = map->version;
		found[i].leaf = node[i];
		*hint = found[i];
		for (unsigned at = 0; at < NODE_SIZE; at += 64)
			__builtin_prefetch((char *)node[i] + at, 1);
	}
	return n;
}

const struct imap_entry *imap_find(struct imap *map, uint64_t addr, struct imap_pos *pos)
{
	struct imap_leaf *leaf;
	unsigned i;

	if (!map->root)
		return NULL;
	leaf = leaf_of(map, addr);
	i = leaf_search(leaf, addr);
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
	unsigned i = leaf->kind == LEAF_RUN ? (leaf->begin + leaf->end) / 2 : leaf->n / 2;

	return leaf->kind == LEAF_RUN ? leaf_above(leaf, i - 1) : i;
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

/* Not valid if they adjoin. before may be NULL. */
static struct uiommu_range gap_between(const struct imap_leaf *leaf, unsigned i, uint64_t after)
{
	struct uiommu_range gap = {leaf ? leaf_last(leaf, i) + 1 : 0, after - 1};

	return after ? gap : UIOMMU_RANGE_NONE;
}

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
	if ((next->kind != LEAF_WIDE && map->steady) || !leaf_put(next, next->begin, entry)) {
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
		leaf_get(leaf, leaf->n - 1, &entry);
		if (!leaf_put(next, 0, &entry))
			break;
		leaf_remove(leaf, leaf->n - 1);
	}
	in->key[slot + 1] = leaf_first(next, 0);
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

/* What the entry would overlap, of what is around index at of the leaf where it would start. */
static bool overlaps(const struct imap *map, const struct imap_leaf *leaf, unsigned at,
		     const struct imap_entry *entry, struct imap_pos *hit)
{
	const struct imap_leaf *prev = leaf->prev;

	*hit = (struct imap_pos){.leaf = (struct imap_leaf *)leaf, .index = at};
	if (at == leaf->begin && prev && leaf_end_last(prev) >= entry->range.first) {
		hit->leaf = leaf->prev;
		hit->index = prev->end - 1;
		return true;
	}
	if (at < leaf->end)
		return leaf_first(leaf, at) <= entry->range.last;
	/* What starts behind the leaf's own addresses is in the next one. */
	if (entry->range.last <= map->near_range.last || !leaf->next)
		return false;
	hit->leaf = leaf->next;
	hit->index = leaf->next->begin;
	return leaf_first(hit->leaf, hit->index) <= entry->range.last;
}

int imap_insert(struct imap *map, const struct imap_entry *entry, struct imap_entry *blocking)
{
	struct imap_leaf *leaf;
	struct imap_pos hit;
	bool done = false;

	if (!map->root) {
		map->root = uiommu_alloc(NODE_SIZE);
		if (!map->root)
			return -ENOMEM;
		map->height = 0;
	}
	while (!done) {
		unsigned at;
		int ret;

		leaf = leaf_of(map, entry->range.first);
		at = leaf_search(leaf, entry->range.first);
		if (overlaps(map, leaf, at, entry, &hit)) {
			if (blocking)
				leaf_get(hit.leaf, hit.index, blocking);
			return -EEXIST;
		}
		if (map->gaps && at > leaf->begin && at == leaf->end)
			gaps_raise(map, path_of(map),
				   gap_between(leaf, at - 1, entry->range.first));
		if ((leaf->kind == LEAF_WIDE || !map->steady) && leaf_put(leaf, at, entry))
			break;
		ret = make_room(map, leaf, at, entry, &done);
		if (ret)
			return ret;
	}
	map->count++;
	return 0;
}

/* ---- erasing ---- */

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

/* After the leaf that leaf_of() found lost entries: keep nodes filled, upwards. */
static void rebalance(struct imap *map, struct imap_leaf *leaf)
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

/* The entries from index i to j are about to go: the gap that they leave is the next entry's. */
static void open_gap(struct imap *map, const struct imap_leaf *leaf, unsigned i, unsigned j)
{
	const struct imap_leaf *before = i == leaf->begin ? leaf->prev : leaf;
	unsigned at = 0;

	if (!map->gaps)
		return;
	if (before)
		at = before == leaf ? leaf_below(leaf, i) : before->end - 1u;
	if (j + 1 < leaf->end)
		gaps_raise(map, path_of(map),
			   gap_between(before, at, leaf_first(leaf, leaf_above(leaf, j))));
	else if (leaf->next)
		gaps_raise_next(map, path_of(map),
				gap_between(before, at, leaf_first(leaf->next, leaf->next->begin)));
}

/* Remove an entry of the leaf that leaf_of() found. */
static void erase_at(struct imap *map, struct imap_leaf *leaf, unsigned i)
{
	open_gap(map, leaf, i, i);
	leaf_remove(leaf, i);
	map->count--;
	rebalance(map, leaf);
}

bool imap_erase(struct imap *map, uint64_t first)
{
	struct imap_leaf *leaf;
	unsigned i;

	if (!map->root)
		return false;
	leaf = leaf_of(map, first);
	i = leaf_search(leaf, first);
	if (i == leaf->end || leaf_first(leaf, i) != first)
		return false;
	erase_at(map, leaf, i);
	return true;
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
