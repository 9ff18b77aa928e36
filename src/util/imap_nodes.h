/* SPDX-License-Identifier: MIT */
/*
 * The nodes of struct imap, as its files see them: imap.c owns the tree, imap_leaf.c what is inside
 * a leaf, imap_gap.c what is known of the gaps. Entry i has the gap before it; the gap behind the
 * last entry of the map is nobody's.
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

#define NODE_SIZE 1024

/*
 * WIDE: entries as they are. PACKED: slots for entries of one length and tag, whose first addresses
 * and values differ by multiples of PACK_UNIT from the leaf's and fit into 32 and 30 bits so; any
 * slot may be empty, so that entries come and go without all behind them being moved. RUN: slots of
 * one length, a power of two, one behind the other; slot i, if there is something in it, has the
 * value of slot 0 and i times the stride.
 *
 * The last two share their infos, four at most: each entry says which one. An entry is put in only
 * if one of the four is free afterwards.
 */
enum leaf_kind { LEAF_WIDE, LEAF_PACKED, LEAF_RUN };

#define LEAF_MAX     25
#define PACKED_MAX   112
#define PACKED_WORDS 2
#define RUN_WORDS    38
#define RUN_MAX	     (RUN_WORDS * 64)
#define INFOS	     4
#define PACK_SHIFT   12
#define PACK_UNIT    (UINT64_C(1) << PACK_SHIFT)

struct packed {
	uint64_t present[PACKED_WORDS];
	uint32_t at[PACKED_MAX];    /* ascending up to the end, of empty slots too */
	uint32_t value[PACKED_MAX]; /* which info in the two lowest bits, the value signed above */
};

struct run {
	uint64_t present[RUN_WORDS];
	uint64_t which[2][RUN_WORDS]; /* the low and the high bit of which info */
};

struct shared {
	uint64_t first, value, stride;
	uint64_t span; /* last address less first of each entry */
	void *tag;
	uint64_t info[INFOS];
	uint16_t users[INFOS]; /* of each info */
	union {
		struct packed packed;
		struct run run;
	};
};

/* Entries have indices from begin to end - 1, with indices between that have none if it isn't wide.
 * Where there is none at all, begin and end are 0 and the leaf is wide. */
struct imap_leaf {
	struct imap_leaf *next, *prev;
	uint16_t n, begin, end;
	uint16_t kind;
	union {
		struct imap_entry entry[LEAF_MAX];
		struct shared shared;
	};
};

struct imap_gaps;

struct inner {
	uint64_t n;
	struct imap_gaps *gaps; /* NULL: nothing is known */
	uint64_t key[(NODE_SIZE - 16) / 16];
	void *child[(NODE_SIZE - 16) / 16];
};

#define INNER_MAX (sizeof(((struct inner *)0)->child) / sizeof(void *))

_Static_assert(sizeof(struct imap_leaf) <= NODE_SIZE, "a leaf fits a node");
_Static_assert(sizeof(struct inner) <= NODE_SIZE, "an inner node fits a node");
_Static_assert(INNER_MAX >= 8, "nodes are wide");

/* ---- imap_leaf.c: none of it fails but as it says ---- */

/* Index of the first entry that ends at or above addr; end if there is none. */
unsigned leaf_search(const struct imap_leaf *leaf, uint64_t addr);
void leaf_get(const struct imap_leaf *leaf, unsigned i, struct imap_entry *entry);
/* The next index with an entry above i, and below i; there is one. */
unsigned leaf_above(const struct imap_leaf *leaf, unsigned i);
unsigned leaf_below(const struct imap_leaf *leaf, unsigned i);
/* The last index up to which entries are known to adjoin, from the one at i on. */
unsigned leaf_stretch(const struct imap_leaf *leaf, unsigned i);
/* Put an entry in, before the one at index at, as far as the leaf can have it as it is now: its
 * index, which may be another; -1: it can't. */
int leaf_put(struct imap_leaf *leaf, unsigned at, const struct imap_entry *entry);
/* Would it fit if the leaf, which is not wide, had room? */
bool leaf_alike(const struct imap_leaf *leaf, const struct imap_entry *entry);
void leaf_remove(struct imap_leaf *leaf, unsigned i);
/* Put an entry into a full leaf by packing it tighter; false, unchanged: it can't be. */
bool leaf_pack(struct imap_leaf *leaf, unsigned at, const struct imap_entry *entry);
/* Make it wide; it has LEAF_MAX entries at most. */
void leaf_unpack(struct imap_leaf *leaf);
/* Move what is at index at and above into another leaf, which is empty. */
void leaf_part(struct imap_leaf *leaf, struct imap_leaf *right, unsigned at);
/* Have a take over all of b, which is behind it; false, unchanged: they don't go together. */
bool leaf_join(struct imap_leaf *a, const struct imap_leaf *b);
/* Is the info of every entry @info in the bits of @mask? */
bool leaf_all(const struct imap_leaf *leaf, uint64_t mask, uint64_t info);
uint64_t leaf_bytes(const struct imap_leaf *leaf);

static inline bool bit_get(const uint64_t *words, unsigned i)
{
	return words[i / 64] >> i % 64 & 1;
}

/* Is there an entry at this index, which is below the end, of a leaf that is no run? */
static inline bool leaf_has(const struct imap_leaf *leaf, unsigned i)
{
	return leaf->kind == LEAF_WIDE || bit_get(leaf->shared.packed.present, i);
}

static inline uint64_t leaf_first(const struct imap_leaf *leaf, unsigned i)
{
	const struct shared *s = &leaf->shared;

	if (leaf->kind == LEAF_WIDE)
		return leaf->entry[i].range.first;
	if (leaf->kind == LEAF_PACKED)
		return s->first + ((uint64_t)s->packed.at[i] << PACK_SHIFT);
	return s->first + i * (s->span + 1);
}

static inline uint64_t leaf_last(const struct imap_leaf *leaf, unsigned i)
{
	return leaf->kind == LEAF_WIDE ? leaf->entry[i].range.last
				       : leaf_first(leaf, i) + leaf->shared.span;
}

static inline uint64_t leaf_end_last(const struct imap_leaf *leaf)
{
	return leaf_last(leaf, leaf->end - 1);
}

/* Classes of alignment: any up to a page of 4096 bytes, 2 pages, 4, … 512. */
#define GAP_CLASSES 10
#define GAP_SHIFT   12

struct imap_gaps {
	uint64_t most[GAP_CLASSES][INNER_MAX];
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
