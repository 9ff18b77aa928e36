/* SPDX-License-Identifier: MIT */
/*
 * Owns the index of gaps in struct imap (see imap_nodes.h) and the search through it.
 *
 * Invariant: where an inner node has an index, most[c][i] is at least the room of every gap that
 * the entries below child i have, once the gap's first address is aligned as class c says. A node
 * without one leads the search everywhere. Memory for an index that can't be had is done without.
 */
#include "util/imap_nodes.h"

#include <string.h>

#include "util/alloc.h"

/* ---- keeping the bounds ---- */

/* The room in a gap for a class of alignment; 0 if there is none. A gap is not the whole space. */
static uint64_t room(struct uiommu_range gap, unsigned class)
{
	uint64_t mask = class ? (UINT64_C(1) << (GAP_SHIFT + class)) - 1 : 0;
	uint64_t first = (gap.first + mask) & ~mask;

	return first < gap.first || first > gap.last ? 0 : gap.last - first + 1;
}

void gaps_raise(const struct imap *map, const struct path *path, struct uiommu_range gap)
{
	if (gap.first < map->floor)
		gap.first = map->floor;
	if (!range_valid(gap))
		return;
	/* Where it has no room for a class, it has none for a coarser one. */
	for (unsigned c = 0; c < GAP_CLASSES; c++) {
		uint64_t most = room(gap, c);

		if (!most)
			return;
		for (unsigned h = 0; h < path->depth; h++) {
			struct imap_gaps *gaps = path->node[h]->gaps;

			if (gaps && gaps->most[c][path->slot[h]] < most)
				gaps->most[c][path->slot[h]] = most;
		}
	}
}

void gaps_raise_next(const struct imap *map, const struct path *path, struct uiommu_range gap)
{
	struct path next = *path;
	unsigned h = next.depth;

	while (next.slot[h - 1] + 1 == next.node[h - 1]->n)
		h--;
	next.slot[h - 1]++;
	for (; h < next.depth; h++) {
		next.node[h] = next.node[h - 1]->child[next.slot[h - 1]];
		next.slot[h] = 0;
	}
	gaps_raise(map, &next, gap);
}

void gaps_put(struct inner *in, unsigned at)
{
	for (unsigned c = 0; in->gaps && c < GAP_CLASSES; c++) {
		uint64_t *most = in->gaps->most[c];

		memmove(&most[at + 1], &most[at], (in->n - at) * sizeof(*most));
		most[at] = most[at - 1];
	}
}

void gaps_remove(struct inner *in, unsigned at)
{
	for (unsigned c = 0; in->gaps && c < GAP_CLASSES; c++) {
		uint64_t *most = in->gaps->most[c];

		memmove(&most[at], &most[at + 1], (in->n - at - 1) * sizeof(*most));
	}
}

void gaps_level(struct inner *in, unsigned i)
{
	for (unsigned c = 0; in->gaps && c < GAP_CLASSES; c++) {
		uint64_t *most = &in->gaps->most[c][i];

		most[0] = most[1] = most[0] > most[1] ? most[0] : most[1];
	}
}

void gaps_forget(struct inner *in)
{
	uiommu_free(in->gaps, sizeof(*in->gaps));
	in->gaps = NULL;
}

/* The bounds of a class, if they can be had. */
static uint64_t *bounds(struct inner *in, unsigned class)
{
	if (!in->gaps) {
		in->gaps = uiommu_alloc(sizeof(*in->gaps));
		if (!in->gaps)
			return NULL;
		memset(in->gaps, 0xff, sizeof(*in->gaps));
	}
	return in->gaps->most[class];
}

/* ---- searching ---- */

struct search {
	struct uiommu_range within;
	const struct imap_want *want;
	unsigned class;
	uint64_t floor;
	uint64_t first; /* out */
};

enum outcome {
	OUTCOME_NONE,  /* not here, perhaps further on */
	OUTCOME_FOUND, /* in search->first */
	OUTCOME_PAST,  /* nowhere: what follows is behind the range */
};

static bool fits(struct search *search, struct uiommu_range gap)
{
	const struct imap_want *want = search->want;
	uint64_t mask = want->alignment - 1, first;

	gap = range_common(gap, search->within);
	first = (gap.first + mask) & ~mask;
	if (!range_valid(gap) || first < gap.first)
		return false;
	first |= want->offset;
	if (first > gap.last || gap.last - first < want->length - 1)
		return false;
	search->first = first;
	return true;
}

/* Look at the gaps of a leaf; *most becomes the room in them. */
static enum outcome search_leaf(const struct imap_leaf *leaf, struct search *search, uint64_t *most)
{
	struct uiommu_range gap = {.first = 0};

	if (leaf->prev)
		gap.first = leaf_end_last(leaf->prev) + 1;
	if (gap.first < search->floor)
		gap.first = search->floor;
	*most = 0;
	for (unsigned i = leaf->begin, j;; i = leaf_above(leaf, j)) {
		uint64_t first = leaf_first(leaf, i), last;

		j = leaf_stretch(leaf, i);
		last = leaf_last(leaf, j);

		if (gap.first > search->within.last)
			return OUTCOME_PAST;
		if (first > gap.first) {
			uint64_t length = first - gap.first;

			gap.last = first - 1;
			if (length >= search->want->length && fits(search, gap))
				return OUTCOME_FOUND;
			if (length > *most) {
				length = room(gap, search->class);
				*most = length > *most ? length : *most;
			}
		}
		if (last >= gap.first)
			gap.first = last + 1;
		if (j + 1u == leaf->end)
			return OUTCOME_NONE;
	}
}

static enum outcome search_node(void *node, unsigned height, struct search *search, bool edge,
				uint64_t *most);

/* The children of a node, from the one on in which the range begins if this is the edge. */
static enum outcome search_inner(struct inner *in, unsigned height, struct search *search,
				 bool edge, uint64_t *most)
{
	uint64_t *bound = bounds(in, search->class), has;
	unsigned i = 0;

	while (edge && i + 1 < in->n && in->key[i + 1] <= search->within.first)
		i++;
	for (; i < in->n; i++, edge = false) {
		enum outcome outcome;

		if (bound && bound[i] < search->want->length)
			continue;
		outcome = search_node(in->child[i], height - 1, search, edge, &has);
		if (outcome != OUTCOME_NONE)
			return outcome;
		if (bound && has < bound[i])
			bound[i] = has;
	}
	*most = bound ? 0 : UINT64_MAX;
	for (i = 0; bound && i < in->n; i++)
		*most = bound[i] > *most ? bound[i] : *most;
	return OUTCOME_NONE;
}

static enum outcome search_node(void *node, unsigned height, struct search *search, bool edge,
				uint64_t *most)
{
	return height ? search_inner(node, height, search, edge, most)
		      : search_leaf(node, search, most);
}

/* The gap behind the last entry; not valid if there is none. The map is not empty. */
static struct uiommu_range last_gap(const struct imap *map)
{
	const struct imap_leaf *leaf;
	const void *node = map->root;
	uint64_t last;

	for (unsigned h = map->height; h; h--) {
		const struct inner *in = node;

		node = in->child[in->n - 1];
	}
	leaf = node;
	last = leaf_end_last(leaf);
	return last == UINT64_MAX ? UIOMMU_RANGE_NONE : (struct uiommu_range){last + 1, UINT64_MAX};
}

static unsigned class_of(uint64_t alignment)
{
	unsigned shift = 63 - __builtin_clzll(alignment);

	if (shift <= GAP_SHIFT)
		return 0;
	return shift - GAP_SHIFT < GAP_CLASSES ? shift - GAP_SHIFT : GAP_CLASSES - 1;
}

bool imap_gap(struct imap *map, struct uiommu_range within, const struct imap_want *want,
	      uint64_t *first)
{
	struct search search = {.within = within,
				.want = want,
				.class = class_of(want->alignment),
				.floor = map->floor};
	enum outcome outcome = OUTCOME_NONE;
	uint64_t most;

	if (search.within.first < map->floor)
		search.within.first = map->floor;
	if (map->root) {
		map->gaps = true;
		outcome = search_node(map->root, map->height, &search, true, &most);
	}
	if (outcome == OUTCOME_NONE && fits(&search, map->root ? last_gap(map) : UIOMMU_RANGE_ALL))
		outcome = OUTCOME_FOUND;
	if (outcome != OUTCOME_FOUND)
		return false;
	*first = search.first;
	return true;
}
