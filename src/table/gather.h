/* SPDX-License-Identifier: MIT */
/*
 * A gather: what one flush will take care of. It collects the IOVAs whose translations must be
 * forgotten, and the table pages that may be used again only once no walker can be inside them.
 * Each domain has one, which fills until whoever flushes the domain next; nothing in it can fail.
 */
#ifndef TABLE_GATHER_H
#define TABLE_GATHER_H

#include "table/pool.h"
#include "util/range.h"

/* Memory that a format keeps outside of the pool and that walkers may be inside. */
struct retired {
	struct retired *next;
	void (*free)(struct retired *retired);
};

struct gather {
	struct uiommu_range range; /* covers all that was taken away; NONE: nothing was */
	struct pool_page *freed;   /* table pages, linked */
	struct retired *retired;   /* other memory, linked */
};

#define GATHER_INIT ((struct gather){.range = {1, 0}})

static inline bool gather_empty(const struct gather *g)
{
	return !range_valid(g->range) && !g->freed && !g->retired;
}

static inline void gather_add(struct gather *g, struct uiommu_range range)
{
	if (!range_valid(g->range)) {
		g->range = range;
		return;
	}
	if (range.first < g->range.first)
		g->range.first = range.first;
	if (range.last > g->range.last)
		g->range.last = range.last;
}

/* Keep a table page, not linked from any table, and all zero or marked as dirty, until the flush.
 */
static inline void gather_page(struct gather *g, void *memory)
{
	struct pool_page *page = pool_page_of(memory);

	page->next = g->freed;
	g->freed = page;
}

/* Keep other memory, not reachable from the table any more, until the flush. */
static inline void gather_retire(struct gather *g, struct retired *retired)
{
	retired->next = g->retired;
	g->retired = retired;
}

/* After the flush: the pages can be used again, the rest goes. */
static inline void gather_release(struct gather *g, struct pool *pool)
{
	while (g->retired) {
		struct retired *retired = g->retired;

		g->retired = retired->next;
		retired->free(retired);
	}
	while (g->freed) {
		struct pool_page *page = g->freed;

		g->freed = page->next;
		pool_give(pool, page);
	}
	g->range = UIOMMU_RANGE_NONE;
}

#endif
