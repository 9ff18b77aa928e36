/* SPDX-License-Identifier: MIT */
/*
 * Owns the B+-tree behind struct imap.
 *
 * Invariants: all leaves have the same depth and are linked in order; every node but the root holds
 * at least one entry; child i of an inner node holds the entries that start in [key[i], key[i+1])
 * (key[0] is not looked at). An entry may reach beyond the key of the next child, for keys stay
 * when the entry they came from goes: who looks for an address in a leaf's front looks at the end
 * of the leaf before it too. Both kinds of node have the same size.
 *
 * Insertion takes all the nodes it can need before it changes anything, so a failed allocation
 * leaves the map as it was. Erasing never allocates and never fails.
 */
#include "util/imap_nodes.h"

#include <errno.h>
#include <string.h>

#include "util/alloc.h"

/* Nodes with fewer entries than this are merged with, or filled from, a sibling. */
#define LEAF_MIN  (LEAF_MAX / 3)
#define INNER_MIN (INNER_MAX / 3)

static struct imap_leaf *descend(const struct imap *map, uint64_t addr, struct path *path)
{
	void *node = map->root;

	for (unsigned h = 0; h < map->height; h++) {
		struct inner *in = node;
		unsigned lo = 0, hi = in->n; /* the last child whose key is <= addr, else child 0 */

		while (hi - lo > 1) {
			unsigned mid = (lo + hi) / 2;

			if (in->key[mid] <= addr)
				lo = mid;
			else
				hi = mid;
		}
		if (path) {
			path->node[h] = in;
			path->slot[h] = lo;
		}
		node = in->child[lo];
	}
	if (path)
		path->depth = map->height;
	return node;
}

/* Index of the first entry that ends at or above addr; n if there is none. */
static unsigned leaf_search(const struct imap_leaf *leaf, uint64_t addr)
{
	unsigned lo = 0, hi = leaf->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (leaf->entry[mid].range.last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* The first entry that ends at or above addr, seen from the leaf where addr would start. */
static struct imap_entry *leaf_find(struct imap_leaf *leaf, uint64_t addr, struct imap_pos *pos)
{
	unsigned i = leaf_search(leaf, addr);

	if (!i && leaf->prev && leaf->prev->entry[leaf->prev->n - 1].range.last >= addr) {
		leaf = leaf->prev;
		i = leaf->n - 1;
	} else if (i == leaf->n) {
		leaf = leaf->next;
		i = 0;
		if (!leaf)
			return NULL;
	}
	if (pos)
		*pos = (struct imap_pos){leaf, i};
	return &leaf->entry[i];
}

struct imap_entry *imap_find(const struct imap *map, uint64_t addr, struct imap_pos *pos)
{
	return map->root ? leaf_find(descend(map, addr, NULL), addr, pos) : NULL;
}

struct imap_entry *imap_next(struct imap_pos *pos)
{
	if (++pos->index < pos->leaf->n)
		return &pos->leaf->entry[pos->index];
	if (!pos->leaf->next)
		return NULL;
	pos->leaf = pos->leaf->next;
	pos->index = 0;
	return &pos->leaf->entry[0];
}

/* ---- insertion ---- */

static void leaf_put(struct imap_leaf *leaf, unsigned at, const struct imap_entry *entry)
{
	memmove(&leaf->entry[at + 1], &leaf->entry[at], (leaf->n - at) * sizeof(*entry));
	leaf->entry[at] = *entry;
	leaf->n++;
}

static void inner_put(struct inner *in, unsigned at, uint64_t key, void *child)
{
	memmove(&in->key[at + 1], &in->key[at], (in->n - at) * sizeof(in->key[0]));
	memmove(&in->child[at + 1], &in->child[at], (in->n - at) * sizeof(in->child[0]));
	gaps_put(in, at);
	in->key[at] = key;
	in->child[at] = child;
	in->n++;
}

/* Split a full leaf and insert; the new right half is returned. Appending to the very last leaf
 * leaves it full, so that ascending insertion packs. */
static struct imap_leaf *leaf_split(struct imap_leaf *leaf, struct imap_leaf *right, unsigned at,
				    const struct imap_entry *entry)
{
	unsigned keep = at == leaf->n && !leaf->next ? leaf->n : leaf->n / 2;

	right->n = leaf->n - keep;
	memcpy(right->entry, &leaf->entry[keep], right->n * sizeof(*entry));
	leaf->n = keep;
	right->next = leaf->next;
	right->prev = leaf;
	if (right->next)
		right->next->prev = right;
	leaf->next = right;
	if (at <= keep && keep < LEAF_MAX)
		leaf_put(leaf, at, entry);
	else
		leaf_put(right, at - keep, entry);
	return right;
}

/* The same for an inner node. *key becomes the key of the right half. */
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

/* Nodes that inserting below this path takes if the leaf is full. */
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

static int insert_split(struct imap *map, struct path *path, struct imap_leaf *leaf, unsigned at,
			const struct imap_entry *entry)
{
	unsigned needed = nodes_needed(path), h = path->depth;
	void *nodes[MAX_HEIGHT + 1], *child;
	struct inner *root;
	uint64_t key;

	if (!take_nodes(nodes, needed))
		return -ENOMEM;
	child = leaf_split(leaf, nodes[--needed], at, entry);
	key = ((struct imap_leaf *)child)->entry[0].range.first;
	while (h) {
		struct inner *in = path->node[--h];
		unsigned slot = path->slot[h] + 1;

		if (in->n < INNER_MAX) {
			inner_put(in, slot, key, child);
			return 0;
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
	return 0;
}

/* Not valid if they adjoin. before may be NULL. */
static struct uiommu_range gap_between(const struct imap_entry *before,
				       const struct imap_entry *after)
{
	struct uiommu_range gap = {before ? before->range.last + 1 : 0, after->range.first - 1};

	return after->range.first ? gap : UIOMMU_RANGE_NONE;
}

int imap_insert(struct imap *map, const struct imap_entry *entry, struct imap_entry *blocking)
{
	const struct imap_entry *hit;
	struct imap_leaf *leaf;
	struct path path;
	unsigned at;
	int ret = 0;

	if (!map->root) {
		leaf = uiommu_alloc(NODE_SIZE);
		if (!leaf)
			return -ENOMEM;
		map->root = leaf;
		map->height = 0;
	}
	leaf = descend(map, entry->range.first, &path);
	hit = leaf->n ? leaf_find(leaf, entry->range.first, NULL) : NULL;
	if (hit && hit->range.first <= entry->range.last) {
		if (blocking)
			*blocking = *hit;
		return -EEXIST;
	}
	at = leaf_search(leaf, entry->range.first);
	if (map->gaps && at && at == leaf->n)
		gaps_raise(map, &path, gap_between(&leaf->entry[at - 1], entry));
	if (leaf->n < LEAF_MAX)
		leaf_put(leaf, at, entry);
	else
		ret = insert_split(map, &path, leaf, at, entry);
	if (!ret)
		map->count++;
	return ret;
}

/* ---- erasing ---- */

static void inner_remove(struct inner *in, unsigned at)
{
	gaps_remove(in, at);
	in->n--;
	memmove(&in->key[at], &in->key[at + 1], (in->n - at) * sizeof(in->key[0]));
	memmove(&in->child[at], &in->child[at + 1], (in->n - at) * sizeof(in->child[0]));
}

/* Make leaf children i and i + 1 of in hold enough each, or merge them: true if merged. */
static bool leaf_balance(struct inner *in, unsigned i)
{
	struct imap_leaf *a = in->child[i], *b = in->child[i + 1];
	unsigned total = a->n + b->n, half = total / 2;

	if (total <= LEAF_MAX) {
		memcpy(&a->entry[a->n], b->entry, b->n * sizeof(b->entry[0]));
		a->n = total;
		a->next = b->next;
		if (b->next)
			b->next->prev = a;
		uiommu_free(b, NODE_SIZE);
		inner_remove(in, i + 1);
		return true;
	}
	if (a->n < half) {
		unsigned move = half - a->n;

		memcpy(&a->entry[a->n], b->entry, move * sizeof(b->entry[0]));
		memmove(b->entry, &b->entry[move], (b->n - move) * sizeof(b->entry[0]));
	} else {
		unsigned move = a->n - half;

		memmove(&b->entry[move], b->entry, b->n * sizeof(b->entry[0]));
		memcpy(b->entry, &a->entry[half], move * sizeof(b->entry[0]));
	}
	a->n = half;
	b->n = total - half;
	in->key[i + 1] = b->entry[0].range.first;
	return false;
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

/* After the leaf at the end of the path lost an entry: keep nodes filled, upwards. */
static void rebalance(struct imap *map, struct path *path, struct imap_leaf *leaf)
{
	bool small = leaf->n < LEAF_MIN;

	for (unsigned h = path->depth; h && small; h--) {
		struct inner *in = path->node[h - 1];
		unsigned i = path->slot[h - 1];
		bool merged;

		if (i + 1 == in->n)
			i--;
		gaps_level(in, i);
		merged = h == path->depth ? leaf_balance(in, i) : inner_balance(in, i);
		small = merged && in->n < INNER_MIN;
	}
	while (map->height && ((struct inner *)map->root)->n == 1) {
		struct inner *old = map->root;

		map->root = old->child[0];
		map->height--;
		gaps_forget(old);
		uiommu_free(old, NODE_SIZE);
	}
	if (!map->height && !((struct imap_leaf *)map->root)->n) {
		uiommu_free(map->root, NODE_SIZE);
		map->root = NULL;
	}
}

/* Entry i of the leaf is about to go: the gap that this leaves is the next entry's. */
static void open_gap(const struct imap *map, const struct path *path, const struct imap_leaf *leaf,
		     unsigned i)
{
	const struct imap_entry *before = NULL;

	if (i)
		before = &leaf->entry[i - 1];
	else if (leaf->prev)
		before = &leaf->prev->entry[leaf->prev->n - 1];
	if (i + 1 < leaf->n)
		gaps_raise(map, path, gap_between(before, &leaf->entry[i + 1]));
	else if (leaf->next)
		gaps_raise_next(map, path, gap_between(before, &leaf->next->entry[0]));
}

bool imap_erase(struct imap *map, uint64_t first)
{
	struct imap_leaf *leaf;
	struct path path;
	unsigned i;

	if (!map->root)
		return false;
	leaf = descend(map, first, &path);
	i = leaf_search(leaf, first);
	if (i == leaf->n || leaf->entry[i].range.first != first)
		return false;
	if (map->gaps)
		open_gap(map, &path, leaf, i);
	leaf->n--;
	memmove(&leaf->entry[i], &leaf->entry[i + 1], (leaf->n - i) * sizeof(leaf->entry[0]));
	map->count--;
	rebalance(map, &path, leaf);
	return true;
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
	*map = (struct imap){.floor = map->floor};
}
