/* SPDX-License-Identifier: MIT */
/*
 * An ordered map of disjoint closed ranges over the whole 64-bit space, each with a small payload.
 * A B+-tree whose leaves are packed where their entries are alike: pages of one size mapped one by
 * one take 8 to 12 bytes each, and a fraction of a byte where their values rise evenly.
 *
 * Not locked: the owner of the map is the owner of its lock, for finding too. Entries are handed
 * out as copies; imap_edit() gives one to be changed in place.
 */
#ifndef UTIL_IMAP_H
#define UTIL_IMAP_H

#include "util/range.h"

struct imap_entry {
	struct uiommu_range range;
	uint64_t value;
	void *tag;
	uint64_t info;
};

struct inner;
struct imap_leaf;

#define IMAP_MAX_HEIGHT 16

/* The way from the root to a leaf: which child was taken in each inner node. */
struct path {
	struct inner *node[IMAP_MAX_HEIGHT];
	unsigned slot[IMAP_MAX_HEIGHT];
	unsigned depth;
};

struct imap {
	void *root;	 /* NULL: empty */
	unsigned height; /* 0: root is a leaf */
	uint64_t count;
	uint64_t floor; /* no gap below is looked for; constant */
	bool gaps;	/* it has been searched for gaps, so there is an index of them */
	bool steady;	/* nothing is packed: what imap_edit() gave stays where it can be changed */
	/* Where the last search came to, and for which addresses that is the place. */
	struct imap_leaf *near; /* NULL: forgotten, as whenever nodes come or go */
	struct uiommu_range near_range;
	bool near_path; /* path is the way there */
	struct path path;
	uint64_t version;	 /* counts how often nodes came or went, or keys changed */
	struct imap_hint *hints; /* in large maps, where others came to; may be NULL */
};

/* A position, with a copy of the entry there: valid until the map changes. */
struct imap_pos {
	struct imap_leaf *leaf;
	unsigned index;
	struct imap_entry entry;
};

/* Insert. -EEXIST: overlaps an entry, copied to *blocking if that isn't NULL; -ENOMEM: unchanged.
 */
int imap_insert(struct imap *map, const struct imap_entry *entry, struct imap_entry *blocking);

/* The first entry that ends at or above addr, in pos; NULL if there is none. */
const struct imap_entry *imap_find(struct imap *map, uint64_t addr, struct imap_pos *pos);

/* The entry behind pos, to which pos moves; NULL at the end. */
const struct imap_entry *imap_next(struct imap_pos *pos);

/* Move to the last entry of those that are kept together with the one at pos, if none of them from
 * there on ends above @last or has one of the bits in its info: their bytes, else 0. */
uint64_t imap_skip(struct imap_pos *pos, uint64_t last, uint64_t bits);

/* Remove the entry that starts at first. False if there is none. Cannot fail otherwise. */
bool imap_erase(struct imap *map, uint64_t first);

/* Remove the entry at pos, right after imap_find() found it. */
void imap_erase_found(struct imap *map, const struct imap_pos *pos);

typedef void (*imap_fn)(void *ctx, const struct imap_entry *entry);

/* Remove all that starts in the range and whose info is @info in the bits of @mask; each (may be
 * NULL) is told. Returns how many bytes those had. Cannot fail. */
uint64_t imap_drop(struct imap *map, struct uiommu_range range, uint64_t mask, uint64_t info,
		   imap_fn each, void *ctx);

/* Could these bits be set in the info of every entry kept together with the one at pos, without
 * memory? If not, imap_edit() sees to it for one. */
bool imap_can_set(const struct imap_pos *pos, uint64_t bits);

/* Set bits in the info of the entry at pos, of which that is true or which was inserted by the last
 * change to the map. pos stays valid. */
void imap_set(struct imap_pos *pos, uint64_t bits);

/*
 * The first entry that ends at or above addr, to be changed in place: its payload, and its last
 * address as long as it meets no neighbour. Where the map is steady, it can be had again without
 * memory and erasing leaves it there. NULL: there is none, or no memory; the map says the same as
 * before. Making it shorter opens a gap that imap_gap() may overlook until what is behind it is
 * erased or another entry is put right there.
 */
struct imap_entry *imap_edit(struct imap *map, uint64_t addr);

/* A place that is looked for: the first multiple of alignment (a power of two) in a gap, with
 * offset or'ed in. */
struct imap_want {
	uint64_t length; /* > 0 */
	uint64_t alignment;
	uint64_t offset;
};

/*
 * The lowest place inside @within where nothing is. Amortised over the changes to the map it takes
 * logarithmic time, for alignments up to 2 MiB, or up to anything in a map whose entries all have
 * that alignment; and no memory that it can't do without: without the index it is slower.
 */
bool imap_gap(struct imap *map, struct uiommu_range within, const struct imap_want *want,
	      uint64_t *first);

/* Would it start where the last search came to? */
static inline bool imap_is_near(const struct imap *map, uint64_t addr)
{
	return map->near &&
	       addr - map->near_range.first <= map->near_range.last - map->near_range.first;
}

/* Have fetched what the next calls for these addresses, IMAP_AHEAD at most, will look at. False: it
 * was looked at a short while ago. */
#define IMAP_AHEAD 8
bool imap_prefetch(struct imap *map, const uint64_t *addr, unsigned count);

/* Remove everything. */
void imap_clear(struct imap *map);

#endif
