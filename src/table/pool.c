/* SPDX-License-Identifier: MIT */
/*
 * Owns the chunks that table pages are cut from. Chunks are kept until the pool goes, since a table
 * that shrank tends to grow again.
 */
#include "table/pool.h"

#include <string.h>

#include "util/alloc.h"

#define PAGES_IN_CHUNK (POOL_CHUNK / TABLE_PAGE - 1) /* that are counted */

_Static_assert(sizeof(struct pool_chunk) + PAGES_IN_CHUNK * sizeof(struct pool_page) <= TABLE_PAGE,
	       "the counts of a chunk fit its first page");

/* Make the pages of a chunk free, from the one given to the last; the first page holds the counts.
 */
static void cut_chunk(struct pool *pool, struct pool_chunk *chunk, unsigned first)
{
	for (unsigned i = PAGES_IN_CHUNK; i-- > first;) {
		chunk->page[i].next = pool->free;
		pool->free = &chunk->page[i];
	}
}

/* A new chunk, of which the pages from @first on are free. */
static struct pool_chunk *add_chunk(struct pool *pool, unsigned first)
{
	size_t size = pool->pages * TABLE_PAGE < POOL_HUGE ? POOL_CHUNK : POOL_HUGE;
	struct pool_chunk *chunk = uiommu_alloc_aligned(size, size);

	if (!chunk && size > POOL_CHUNK) {
		size = POOL_CHUNK;
		chunk = uiommu_alloc_aligned(size, size);
	}
	if (!chunk)
		return NULL;
	chunk->size = size;
	chunk->next = pool->chunks;
	pool->chunks = chunk;
	for (size_t at = size - POOL_CHUNK; at; at -= POOL_CHUNK)
		cut_chunk(pool, (struct pool_chunk *)((char *)chunk + at), 0);
	cut_chunk(pool, chunk, first);
	return chunk;
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
	struct pool_chunk *chunk;

	if (count == 1)
		return pool_take(pool);
	/* Pages count to 2 * count - 1 of a new chunk; those below stay unused. */
	chunk = add_chunk(pool, 2 * count - 1);
	if (!chunk)
		return NULL;
	pool->pages += count;
	return pool_page_memory(&chunk->page[count - 1]);
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
		uiommu_free(chunk, chunk->size);
	}
	pool->free = pool->dirty = NULL;
	pool->pages = 0;
}
