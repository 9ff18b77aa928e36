/* SPDX-License-Identifier: MIT */
/*
 * Pages for I/O page tables: 4096 bytes, aligned, all zero when handed out (but for one that asks).
 * A page comes with a count of its live entries, kept beside it, so that a table knows when it has
 * become empty. Not locked: a pool belongs to one table and shares its lock.
 */
#ifndef TABLE_POOL_H
#define TABLE_POOL_H

#include <stddef.h>
#include <stdint.h>

#define TABLE_PAGE 4096
/* Pages are cut from aligned chunks. One page of a chunk holds the counts of the others; which one
 * differs from chunk to chunk, for if it were the first, all counts would compete for the same few
 * places of a cache. */
#define POOL_PAGES 256
#define POOL_CHUNK (POOL_PAGES * TABLE_PAGE)
/* A pool that has as much already takes chunks by this size: a huge page, if there are any. */
#define POOL_HUGE (2 * POOL_CHUNK)

struct pool {
	struct pool_chunk *chunks; /* that were allocated, linked */
	/* Linked through the counts, so that free pages stay zero or as they are. */
	struct pool_page *free, *dirty; /* the latter are not all zero */
	uint64_t pages;			/* in use */
};

/* What stands beside a page. */
struct pool_page {
	uint32_t live;		/* entries in use */
	uint32_t dirty;		/* not all zero; cleared when it is handed out again */
	struct pool_page *next; /* in a free list or a gather */
};

/* What stands beside the page that holds all this. */
struct pool_chunk {
	struct pool_chunk *next;
	size_t size; /* so much was allocated, of which this is the beginning */
};

/* A zeroed page, or NULL. */
void *pool_take(struct pool *pool);

/* One with anything in it, all of which is to be set. */
void *pool_take_unset(struct pool *pool);

/* count (a power of two, at most 16) adjoining pages, aligned to their size, which are given back
 * with the pool only; the first one's count is for all of them. NULL: no memory. */
void *pool_take_run(struct pool *pool, unsigned count);

/* Give back a page, which must be all zero again or marked as dirty. */
void pool_give(struct pool *pool, struct pool_page *page);

/* Free all chunks, whatever is in use. */
void pool_destroy(struct pool *pool);

/* What stands beside the first page of the chunk that addr is in. */
static inline struct pool_page *pool_counts_of(uintptr_t addr)
{
	uintptr_t which = addr / POOL_CHUNK % POOL_PAGES;

	return (struct pool_page *)((addr & ~(uintptr_t)(POOL_CHUNK - 1)) + which * TABLE_PAGE);
}

static inline struct pool_page *pool_page_of(const void *ptr)
{
	uintptr_t addr = (uintptr_t)ptr;

	return &pool_counts_of(addr)[addr / TABLE_PAGE % POOL_PAGES];
}

static inline void *pool_page_memory(const struct pool_page *page)
{
	uintptr_t addr = (uintptr_t)page, index = addr % TABLE_PAGE / sizeof(*page);

	return (void *)((addr & ~(uintptr_t)(POOL_CHUNK - 1)) + index * TABLE_PAGE);
}

#endif
