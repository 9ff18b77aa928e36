/* SPDX-License-Identifier: MIT */
/*
 * Owns the chunks that table pages are cut from. Chunks are kept until the pool goes, since a table
 * that shrank tends to grow again.
 */
#include "table/pool.h"

#include <string.h>

#include "util/alloc.h"

_Static_assert(POOL_PAGES * sizeof(struct pool_page) == TABLE_PAGE, "counts are one page");
_Static_assert(sizeof(struct pool_chunk) <= sizeof(struct pool_page), "it stands in place of one");

/* The page that holds the counts. */
static unsigned counts_index(const void *memory)
{
	return (uintptr_t)memory / POOL_CHUNK % POOL_PAGES;
}

static struct pool_chunk *chunk_of(const void *memory)
{
	return (struct pool_chunk *)&pool_counts_of((uintptr_t)memory)[counts_index(memory)];
}

/* Make the pages of a chunk free, but for the one with the counts and for @count from the one given
 * on. */
static void cut_chunk(struct pool *pool, const char *memory, unsigned from, unsigned count)
{
	struct pool_page *page = pool_counts_of((uintptr_t)memory);

	for (unsigned i = POOL_PAGES; i--;) {
		if (i == counts_index(memory) || i - from < count)
			continue;
		page[i].next = pool->free;
		pool->free = &page[i];
	}
}

/* The first of @count pages (a power of two) that adjoin and are aligned, the counts' not among
 * them. */
static unsigned find_run(const void *memory, unsigned count)
{
	return counts_index(memory) < count ? count : 0;
}

/* A new chunk, of which all pages are free but for a run of so many. NULL: no memory. */
static char *add_chunk(struct pool *pool, unsigned run)
{
	size_t size = pool->pages * TABLE_PAGE < POOL_HUGE ? POOL_CHUNK : POOL_HUGE;
	char *memory = uiommu_alloc_aligned(size, size);
	struct pool_chunk *chunk;

	if (!memory && size > POOL_CHUNK) {
		size = POOL_CHUNK;
		memory = uiommu_alloc_aligned(size, size);
	}
	if (!memory)
		return NULL;
	chunk = chunk_of(memory);
	chunk->size = size;
	chunk->next = pool->chunks;
	pool->chunks = chunk;
	for (size_t at = size - POOL_CHUNK; at; at -= POOL_CHUNK)
		cut_chunk(pool, memory + at, 0, 0);
	cut_chunk(pool, memory, find_run(memory, run), run);
	return memory;
}

/* A page of a list that has some. */
static inline struct pool_page *take(struct pool *pool, struct pool_page **list)
{
	struct pool_page *page = *list;

	*list = page->next;
	page->next = NULL;
	page->live = 0;
	pool->pages++;
	return page;
}

void *pool_take(struct pool *pool)
{
	struct pool_page *page;

	if (!pool->free && !pool->dirty && !add_chunk(pool, 0))
		return NULL;
	if (pool->free)
		return pool_page_memory(take(pool, &pool->free));
	page = take(pool, &pool->dirty);
	page->dirty = 0;
	return memset(pool_page_memory(page), 0, TABLE_PAGE);
}

void *pool_take_unset(struct pool *pool)
{
	struct pool_page *page;

	if (!pool->dirty)
		return pool_take(pool);
	page = take(pool, &pool->dirty);
	page->dirty = 0;
	return pool_page_memory(page);
}

void *pool_take_run(struct pool *pool, unsigned count)
{
	char *memory;

	if (count == 1)
		return pool_take(pool);
	memory = add_chunk(pool, count);
	if (!memory)
		return NULL;
	pool->pages += count;
	return memory + (size_t)find_run(memory, count) * TABLE_PAGE;
}

void pool_give(struct pool *pool, struct pool_page *page)
{
	struct pool_page **list = page->dirty ? &pool->dirty : &pool->free;

	page->next = *list;
	*list = page;
	pool->pages--;
}

void pool_destroy(struct pool *pool)
{
	while (pool->chunks) {
		struct pool_chunk *chunk = pool->chunks;

		pool->chunks = chunk->next;
		uiommu_free((void *)((uintptr_t)chunk & ~(uintptr_t)(POOL_CHUNK - 1)), chunk->size);
	}
	pool->free = pool->dirty = NULL;
	pool->pages = 0;
}
