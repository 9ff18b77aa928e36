/* SPDX-License-Identifier: MIT */
/*
 * plain - a table and nothing else: four levels of 512 entries as the hardware has them, an entry
 * written and cleared, an entry read. No areas, no checks, no permissions, no flush, and no page is
 * ever given back. How it grows with what is live is the caches' doing alone, so that is what the
 * engine's growth is measured by.
 */
#include "bench.h"

#include <stdlib.h>

enum { OPS = 8192 };

static volatile uint64_t sink;

static uint64_t *entry_at(uint64_t *table, uint64_t iova)
{
	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t *entry = &table[iova >> shift & 511];

		if (!*entry) {
			void *page = aligned_alloc(4096, 4096);

			must(!page, "memory");
			__builtin_memset(page, 0, 4096);
			*entry = (uintptr_t)page | 3;
		}
		table = (uint64_t *)(uintptr_t)(*entry & ~UINT64_C(4095));
	}
	return &table[iova >> 12 & 511];
}

static double plain_pairs(const struct work *w)
{
	double start = now_ns();

	for (uint64_t i = 0; i < OPS; i++) {
		uint64_t at = page_place(w->live + i);

		*(volatile uint64_t *)entry_at(w->state, at) = i << 12 | 3;
		*(volatile uint64_t *)entry_at(w->state, at) = 0;
	}
	return (now_ns() - start) / OPS;
}

static double plain_find(const struct work *w)
{
	const uint64_t *places = page_lookups(w->live, settings.seed);
	uint64_t sum = 0;
	double start = now_ns();

	for (int i = 0; i < LOOKUPS; i++)
		sum += *entry_at(w->state, places[i]);
	sink = sum;
	return (now_ns() - start) / LOOKUPS;
}

static void plain_new(uint64_t live, const char *name)
{
	uint64_t *table = aligned_alloc(4096, 4096);

	must(!table, "memory");
	__builtin_memset(table, 0, 4096);
	for (uint64_t i = 0; i < live; i++)
		*entry_at(table, page_place(i)) = i << 12 | 3;
	work_add(plain_pairs, table, 0, live, "limit: plain table, random hole, %s live", name);
	work_add(plain_find, table, 0, live, "limit: plain table, find, %s live", name);
}

void plain_add(void)
{
	if (!work_wanted("limit"))
		return;
	plain_new(10000, "10k");
	plain_new(100000, "100k");
	plain_new(1000000, "1M");
	if (settings.extended)
		plain_new(10000000, "10M");
}
