/* SPDX-License-Identifier: MIT */
/*
 * A directory: where the level 1 tables of one radix table are, so that a walk starts there rather
 * than at the root. The level 1 table's entry then leads to the last-level table: two loads that
 * depend on each other, whatever the number of levels.
 *
 * It is one page whatever is mapped. A level 1 table is found by its block, the IOVA over the size
 * of what it translates (1 GiB with pages of 4 KiB): the lower bits of that number are the place,
 * the upper ones, the tag, stand in the lower bits of the table's address. Two blocks that differ
 * in the tag alone share a place, and the one entered last has it. Who finds nothing walks from the
 * root; so the directory may lack any table, and only what it has must be right.
 *
 * Invariants: what is entered is the level 1 table that is linked for that block; whoever unlinks a
 * table takes it out before he gives it to the gather. Tables above permit everything, as all do
 * that the owner links, so a walk that skips them finds the same. A walker that read an entry
 * before it was taken out is waited for by the flush, as one that came from the root.
 *
 * The table's owner writes, any number of walkers read.
 */
#ifndef TABLE_DIRECTORY_H
#define TABLE_DIRECTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "table/pool.h"
#include "util/alloc.h"

#define DIRECTORY_BITS 9
#define DIRECTORY_TAGS TABLE_PAGE /* those that fit into a table's address */

struct directory {
	uintptr_t place[1u << DIRECTORY_BITS]; /* a level 1 table's address + its tag; 0: none */
};

/* NULL: no memory. */
static inline struct directory *directory_create(void)
{
	return uiommu_alloc(sizeof(struct directory));
}

static inline void directory_destroy(struct directory *d)
{
	uiommu_free(d, sizeof(*d));
}

static inline uintptr_t *directory_place(struct directory *d, uint64_t block)
{
	return &d->place[block & ((1u << DIRECTORY_BITS) - 1)];
}

/* The level 1 table of a block, or NULL: look from the root. Lock-free. */
static inline uint64_t *directory_find(struct directory *d, uint64_t block)
{
	uintptr_t at = __atomic_load_n(directory_place(d, block), __ATOMIC_ACQUIRE);
	uint64_t tag = block >> DIRECTORY_BITS;

	return at % DIRECTORY_TAGS == tag ? (uint64_t *)(at - tag) : NULL;
}

/* Enter the level 1 table of a block, which is linked and filled as far as walkers may see. */
static inline void directory_enter(struct directory *d, uint64_t block, uint64_t *table)
{
	uint64_t tag = block >> DIRECTORY_BITS;

	if (tag < DIRECTORY_TAGS)
		__atomic_store_n(directory_place(d, block), (uintptr_t)table + tag,
				 __ATOMIC_RELEASE);
}

/* It is being unlinked: take it out, if it is there. */
static inline void directory_remove(struct directory *d, uint64_t block)
{
	if (directory_find(d, block))
		__atomic_store_n(directory_place(d, block), 0, __ATOMIC_RELEASE);
}

#endif
