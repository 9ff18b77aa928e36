/* SPDX-License-Identifier: MIT */
/*
 * An ordered map of disjoint closed ranges over the whole 64-bit space, each with a small payload.
 * A B+-tree: a million entries are four levels, and neighbours lie side by side.
 *
 * Not locked: the owner of the map is the owner of its lock. While an entry is inside, its first
 * address must not be changed; its last may be, as long as it meets no neighbour, and its payload.
 * Making it shorter opens a gap that imap_gap() may overlook until what is behind it is erased or
 * another entry is put right there.
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

struct imap {
	void *root;	 /* NULL: empty */
	unsigned height; /* 0: root is a leaf */
	uint64_t count;
	uint64_t floor; /* no gap below is looked for; constant */
	bool gaps;	/* it has been searched for gaps, so there is an index of them */
};

/* A position: valid until the map changes. */
struct imap_pos {
	struct imap_leaf *leaf;
	unsigned index;
};

/* Insert. -EEXIST: overlaps an entry, copied to *blocking if that isn't NULL; -ENOMEM: unchanged.
 */
int imap_insert(struct imap *map, const struct imap_entry *entry, struct imap_entry *blocking);

/* The first entry that ends at or above addr; NULL if there is none. pos may be NULL. */
struct imap_entry *imap_find(const struct imap *map, uint64_t addr, struct imap_pos *pos);

/* The entry behind pos, to which pos moves; NULL at the end. */
struct imap_entry *imap_next(struct imap_pos *pos);

/* Remove the entry that starts at first. False if there is none. Cannot fail otherwise. */
bool imap_erase(struct imap *map, uint64_t first);

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

/* Remove everything. */
void imap_clear(struct imap *map);

#endif
