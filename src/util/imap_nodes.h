/* SPDX-License-Identifier: MIT */
/*
 * The nodes of struct imap, as its two files see them: imap.c owns the tree, imap_gap.c what is
 * known of the gaps in it. Entry i has the gap before it; the gap behind the last entry of the map
 * is nobody's.
 *
 * The index of gaps holds upper bounds: for child i of an inner node and each class of alignment,
 * no gap in it has room for more than so much. So an insertion has nothing to do but where it gives
 * a leaf a gap that another leaf had, an erasure raises the bounds on one way down, and a search
 * that was led astray lowers those that led it there. Nodes of a map that is never searched for
 * gaps have no index.
 */
#ifndef UTIL_IMAP_NODES_H
#define UTIL_IMAP_NODES_H

#include "util/imap.h"

#define NODE_SIZE  1024
#define MAX_HEIGHT 16

struct imap_leaf {
	struct imap_leaf *next, *prev;
	uint32_t n;
	struct imap_entry entry[(NODE_SIZE - 24) / sizeof(struct imap_entry)];
};

struct imap_gaps;

struct inner {
	uint64_t n;
	struct imap_gaps *gaps; /* NULL: nothing is known */
	uint64_t key[(NODE_SIZE - 16) / 16];
	void *child[(NODE_SIZE - 16) / 16];
};

#define LEAF_MAX  (sizeof(((struct imap_leaf *)0)->entry) / sizeof(struct imap_entry))
#define INNER_MAX (sizeof(((struct inner *)0)->child) / sizeof(void *))

_Static_assert(sizeof(struct imap_leaf) <= NODE_SIZE, "a leaf fits a node");
_Static_assert(sizeof(struct inner) <= NODE_SIZE, "an inner node fits a node");
_Static_assert(LEAF_MAX >= 8 && INNER_MAX >= 8, "nodes are wide");

/* Classes of alignment: any up to a page of 4096 bytes, 2 pages, 4, … 512. */
#define GAP_CLASSES 10
#define GAP_SHIFT   12

struct imap_gaps {
	uint64_t most[GAP_CLASSES][INNER_MAX];
};

/* The way from the root to a leaf: which child was taken in each inner node. */
struct path {
	struct inner *node[MAX_HEIGHT];
	unsigned slot[MAX_HEIGHT];
	unsigned depth;
};

/* ---- imap_gap.c: none of it fails ---- */

/* There will be a gap, and the leaf at the end of the path has it. */
void gaps_raise(const struct imap *map, const struct path *path, struct uiommu_range gap);
/* The same for the leaf behind it. There is one. */
void gaps_raise_next(const struct imap *map, const struct path *path, struct uiommu_range gap);
/* A child is put in at slot at, with some of what the one before it had. */
void gaps_put(struct inner *in, unsigned at);
void gaps_remove(struct inner *in, unsigned at);
/* Children i and i + 1 are about to share what they have. */
void gaps_level(struct inner *in, unsigned i);
/* What was known of a node's children holds no more. */
void gaps_forget(struct inner *in);

#endif
