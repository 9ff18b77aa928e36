/* SPDX-License-Identifier: MIT */
/*
 * Table pages: each is handed out once, aligned, zero or as it was asked for; wherever in a chunk
 * its counts lie, nothing else does, and a run of pages is whole.
 */
#include "../check.h"

#include <sys/mman.h>

#include "table/pool.h"
#include "util/alloc.h"

#define CHUNKS (POOL_PAGES + 10) /* more than places for the counts */

/* One chunk behind the other, so that their counts lie in every place there is. */
static char *arena, *next;

static void *take_chunk(size_t size, size_t align)
{
	char *chunk = next;

	assert_int_equal(size, POOL_CHUNK);
	assert_int_equal((uintptr_t)chunk % align, 0);
	next += size;
	return chunk;
}

static void give_chunk(void *chunk, size_t size)
{
	assert_ptr_equal(chunk, next - POOL_CHUNK);
	assert_int_equal(madvise(chunk, size, MADV_DONTNEED), 0);
}

static void make_arena(void)
{
	size_t size = (size_t)(CHUNKS + 1) * POOL_CHUNK;

	arena = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(arena != MAP_FAILED);
	next = arena + (-(uintptr_t)arena & (POOL_CHUNK - 1));
}

/* Write to all of a page, and to what stands beside it. */
static void use(void *memory, unsigned char value)
{
	struct pool_page *page = pool_page_of(memory);

	assert_int_equal((uintptr_t)memory % TABLE_PAGE, 0);
	assert_ptr_equal(pool_page_memory(page), memory);
	memset(memory, value, TABLE_PAGE);
	page->live = value;
}

static void check(void *memory, unsigned char value)
{
	const unsigned char *byte = memory;

	for (unsigned i = 0; i < TABLE_PAGE; i++)
		assert_int_equal(byte[i], value);
}

static bool is_zero(const void *memory)
{
	const unsigned char *byte = memory;

	return !byte[0] && !memcmp(byte, byte + 1, TABLE_PAGE - 1);
}

/* Runs of each length as the first thing of a pool, and the pages of the chunk around them. */
static void test_runs(void **state)
{
	unsigned gave_way = 0;

	make_arena();
	uiommu_set_allocator(take_chunk, give_chunk);
	for (unsigned i = 0; i < CHUNKS; i++) {
		unsigned count = 2u << i % 4;
		struct pool pool = {0};
		char *run = pool_take_run(&pool, count);

		assert_non_null(run);
		assert_int_equal((uintptr_t)run % (count * TABLE_PAGE), 0);
		gave_way += (uintptr_t)run % POOL_CHUNK != 0;
		for (unsigned p = 0; p < count; p++) {
			assert_true(is_zero(run + p * TABLE_PAGE));
			memset(run + p * TABLE_PAGE, 1 + p, TABLE_PAGE);
		}
		pool_page_of(run)->live = 77;
		while (pool.free) {
			void *memory = pool_take(&pool);

			assert_true(is_zero(memory));
			use(memory, 200);
		}
		assert_int_equal(pool.pages, POOL_PAGES - 1);
		assert_int_equal(pool_page_of(run)->live, 77);
		for (unsigned p = 0; p < count; p++)
			check(run + p * TABLE_PAGE, 1 + p);
		pool_destroy(&pool);
	}
	/* Some of these chunks have their counts where a run would be first. */
	assert_in_range(gave_way, 4, 30);
	uiommu_set_allocator(NULL, NULL);
	munmap(arena, (size_t)(CHUNKS + 1) * POOL_CHUNK);
}

/* Zero pages come zero whatever was given back; who sets all of a page may get any. */
static void test_dirty(void **state)
{
	enum { PAGES = 1000 };
	struct rng rng = rng_seeded("pool");
	void *page[PAGES] = {0};
	unsigned char has[PAGES];
	struct pool pool = {0};
	unsigned unset = 0;

	for (uint64_t step = test_steps(60000); step--;) {
		unsigned i = rng_below(&rng, PAGES);

		if (page[i]) {
			bool dirty = rng_below(&rng, 2);

			check(page[i], has[i]);
			if (!dirty)
				memset(page[i], 0, TABLE_PAGE);
			pool_page_of(page[i])->dirty = dirty;
			pool_give(&pool, pool_page_of(page[i]));
			page[i] = NULL;
			continue;
		}
		if (rng_below(&rng, 2)) {
			page[i] = pool_take(&pool);
			assert_true(is_zero(page[i]));
		} else {
			page[i] = pool_take_unset(&pool);
			unset += !is_zero(page[i]);
		}
		assert_int_equal(pool_page_of(page[i])->live, 0);
		assert_int_equal(pool_page_of(page[i])->dirty, 0);
		has[i] = 1 + rng_below(&rng, 255);
		use(page[i], has[i]);
	}
	assert_true(unset > 1000);
	pool_destroy(&pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_dirty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
