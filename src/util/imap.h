/* SPDX-License-Identifier: MIT */
/*
 * An ordered map of disjoint closed ranges over the whole 64-bit space, each with a small payload.
 * A B+-tree: a million entries are four levels, and neighbours lie side by side.
 *
 * Not locked: the owner of the map is the owner of its lock. While an entry is inside, its first
 * address must not be changed; its last may be, as long as it meets no neighbour, and its payload.
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

/* Remove everything. */
void imap_clear(struct imap *map);

#endif
