/* SPDX-License-Identifier: MIT */
/*
 * Runs of units by themselves: against a model that has every unit's owner, in windows that blocks
 * fit and don't fit; every wrong way to give back; failing allocations at every step.
 */
#include "../check.h"

#include <errno.h>

#include "util/alloc.h"
#include "util/runs.h"

/* Where the windows below lie, and no more. */
#define UNITS 90000
#define HELD  6000
#define MANY  100000

#define SCATTERED 500

static const struct uiommu_range wide[] = {{1, 40000}, {41000, 41099}, {65000, 89999}};
static const struct uiommu_range narrow[] = {{700, 2900}, {3000, 3300}};

/* What is held, or let go; and the units: 0: free, 1: not, 2: no unit at all. */
static struct held {
	uint64_t first, n;
	bool loose;
} held[HELD];
static size_t held_count;
static unsigned char unit[UNITS];

static void start(struct runs *runs, const struct uiommu_range *windows, size_t count)
{
	held_count = 0;
	memset(unit, 2, sizeof(unit));
	for (size_t i = 0; i < count; i++)
		memset(unit + windows[i].first, 0, windows[i].last - windows[i].first + 1);
	assert_int_equal(runs_init(runs, windows, count), 0);
}

static bool all(uint64_t first, uint64_t n, unsigned char is)
{
	for (uint64_t i = first; i < first + n; i++)
		if (i >= UNITS || unit[i] != is)
			return false;
	return true;
}

/* The longest run, and whether there is one of so many units that is aligned. */
static bool look(uint64_t n, uint64_t alignment, struct uiommu_range *longest)
{
	bool found = false;

	*longest = UIOMMU_RANGE_NONE;
	for (uint64_t i = 0; i < UNITS; i++) {
		uint64_t first = i, at;

		while (i < UNITS && !unit[i])
			i++;
		if (i == first)
			continue;
		at = (first + alignment - 1) & ~(alignment - 1);
		found |= at + n <= i;
		if (!range_valid(*longest) || i - first > range_length(*longest))
			*longest = (struct uiommu_range){first, i - 1};
	}
	return found;
}

static void note(uint64_t first, uint64_t n, uint64_t alignment)
{
	if (first % alignment || !all(first, n, 0))
		fail_msg("%llu units at %llu, by %llu", (unsigned long long)n,
			 (unsigned long long)first, (unsigned long long)alignment);
	memset(unit + first, 1, n);
	held[held_count++] = (struct held){first, n, false};
}

static void step_take(struct runs *runs, struct rng *rng)
{
	static const unsigned most[] = {4, 64, 64, 400, 5000, 50000};
	uint64_t n = 1 + rng_below(rng, most[rng_below(rng, 6)]);
	uint64_t alignment = rng_below(rng, 3) ? 1 : UINT64_C(1) << rng_below(rng, 13), first = 0;
	struct uiommu_range longest, expected;
	int ret;

	if (held_count == HELD)
		return;
	ret = runs_take(runs, n, alignment, &first);
	if (ret == -ENOSPC) {
		bool found = look(n, alignment, &expected);

		ret = runs_take_anywhere(runs, n, alignment, &first, &longest);
		assert_int_equal(ret, found ? 0 : -ENOSPC);
		if (ret) {
			assert_int_equal(longest.first, expected.first);
			assert_int_equal(longest.last, expected.last);
		}
	}
	if (!ret)
		note(first, n, alignment);
}

/* Give back, let go, hold again, put back; all but those with what is no such range. */
static void step_give(struct runs *runs, struct rng *rng)
{
	struct held *h = &held[rng_below(rng, held_count)];
	bool exact = rng_below(rng, 4);
	uint64_t first = h->first, n = h->n;

	if (h->loose && rng_below(rng, 2)) {
		runs_hold(runs, first, n);
		h->loose = false;
		return;
	}
	if (h->loose && exact) {
		runs_put(runs, first, n);
	} else if (!exact) {
		first += rng_below(rng, 3) - 1;
		n += rng_below(rng, 3) - 1;
		if (!n || (first == h->first && n == h->n && !h->loose))
			return;
		for (size_t i = 0; i < held_count; i++)
			if (held[i].first == first && held[i].n == n && !held[i].loose)
				return;
		assert_false(runs_give(runs, first, n));
		assert_false(n <= RUNS_SHORT && runs_let_go(runs, first, n));
		return;
	} else if (n <= RUNS_SHORT && rng_below(rng, 2) && runs_let_go(runs, first, n)) {
		h->loose = true;
		return;
	} else {
		assert_true(runs_give(runs, first, n));
		assert_false(runs_give(runs, first, n));
	}
	memset(unit + first, 0, n);
	*h = held[--held_count];
}

static void check_all(struct runs *runs)
{
	struct uiommu_range expected;
	struct runs_state found;
	uint64_t free = 0, holds = 0;

	look(1, 1, &expected);
	for (uint64_t i = 0; i < UNITS; i++)
		free += !unit[i];
	for (size_t i = 0; i < held_count; i++)
		holds += !held[i].loose;
	runs_look(runs, &found);
	assert_int_equal(found.longest.first, expected.first);
	assert_int_equal(found.longest.last, expected.last);
	assert_int_equal(found.free, free);
	assert_int_equal(found.held, holds);
}

static void give_all(struct runs *runs, const struct uiommu_range *windows, size_t count)
{
	struct uiommu_range longest;
	struct runs_state state;
	uint64_t first;

	while (held_count) {
		const struct held *h = &held[--held_count];

		if (h->loose)
			runs_put(runs, h->first, h->n);
		else
			assert_true(runs_give(runs, h->first, h->n));
	}
	/* Nothing is left in the way: each window is the lowest place for so much by then. */
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(
			runs_take_anywhere(runs, range_length(windows[i]), 1, &first, &longest), 0);
		assert_int_equal(first, windows[i].first);
	}
	runs_look(runs, &state);
	assert_false(range_valid(state.longest));
	assert_int_equal(state.free, 0);
	runs_destroy(runs);
}

static void model(struct rng *rng, const struct uiommu_range *windows, size_t count)
{
	uint64_t steps = test_steps(20000);
	struct runs runs;

	start(&runs, windows, count);
	for (uint64_t i = 0; i < steps; i++) {
		unsigned grow = i / 3000 % 2 ? 3 : 7;

		if (!held_count || rng_below(rng, 10) < grow)
			step_take(&runs, rng);
		else
			step_give(&runs, rng);
		if (i % 500 == 0)
			check_all(&runs);
	}
	give_all(&runs, windows, count);
}

static void test_model(void **state)
{
	struct rng rng = rng_seeded("runs");

	model(&rng, wide, 3);
	model(&rng, narrow, 2);
	model(&rng, &wide[1], 1);
}

/* Each of two blocks has some room at the border: only what looks at everything finds it. */
static void test_span(void **state)
{
	static const struct uiommu_range window = {512, 4 * 512 - 1};
	struct uiommu_range longest;
	uint64_t first, at[3 * 512];
	struct runs runs;

	assert_int_equal(runs_init(&runs, &window, 1), 0);
	for (unsigned i = 0; i < 3 * 512; i++)
		assert_int_equal(runs_take(&runs, 1, 1, &at[i]), 0);
	assert_int_equal(runs_take(&runs, 1, 1, &first), -ENOSPC);
	assert_int_equal(runs_take_anywhere(&runs, 1, 1, &first, &longest), -ENOSPC);
	assert_false(range_valid(longest));
	for (unsigned i = 0; i < 3 * 512; i++)
		if (at[i] >= 1000 && at[i] < 1600)
			assert_true(runs_give(&runs, at[i], 1));
	assert_int_equal(runs_take(&runs, 600, 1, &first), -ENOSPC);
	assert_int_equal(runs_take_anywhere(&runs, 601, 1, &first, &longest), -ENOSPC);
	assert_int_equal(longest.first, 1000);
	assert_int_equal(longest.last, 1599);
	assert_int_equal(runs_take_anywhere(&runs, 500, 32, &first, &longest), 0);
	assert_int_equal(first, 1024);
	assert_false(runs_give(&runs, 1024, 499));
	assert_false(runs_give(&runs, 1025, 499));
	assert_true(runs_give(&runs, 1024, 500));
	assert_false(runs_give(&runs, 1024, 500));
	assert_int_equal(runs_take_anywhere(&runs, 600, 8, &first, &longest), 0);
	assert_int_equal(first, 1000);
	/* Its parts are nobody's, whatever was held there before. */
	assert_false(runs_give(&runs, 1000, 1));
	assert_false(runs_let_go(&runs, 1000, 1));
	runs_destroy(&runs);
}

/* Chunks at numbers that have nothing to do with each other come and go in any order. */
static void test_scattered(void **state)
{
	static struct uiommu_range windows[SCATTERED];
	static uint64_t at[2 * SCATTERED];
	struct rng rng = rng_seeded("scattered runs");
	uint64_t number = 0;
	struct runs runs;

	for (unsigned i = 0; i < SCATTERED; i++) {
		number += 1 + rng_below(&rng, 1 << 20);
		windows[i].first = number * RUNS_CHUNK + RUNS_BLOCK * rng_below(&rng, 60);
		windows[i].last = windows[i].first + RUNS_BLOCK - 1;
	}
	assert_int_equal(runs_init(&runs, windows, SCATTERED), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 2 * SCATTERED; i++)
			assert_int_equal(runs_take(&runs, 256, 256, &at[i]), 0);
		assert_int_equal(runs_take(&runs, 1, 1, &number), -ENOSPC);
		for (unsigned left = 2 * SCATTERED; left; left--) {
			uint64_t *it = &at[rng_below(&rng, left)];

			assert_true(runs_give(&runs, *it, 256));
			assert_false(runs_give(&runs, *it, 256));
			*it = at[left - 1];
		}
		assert_in_range(runs.chunks, 0, 8);
	}
	runs_destroy(&runs);
}

/* Huge spaces and lengths cost nothing. */
static void test_huge(void **state)
{
	static const struct uiommu_range window = {1, RUNS_MOST_UNITS - 2};
	uint64_t first, small, none = UINT64_C(1) << 36;
	static uint64_t at[MANY];
	struct uiommu_range longest;
	struct runs runs;
	long bytes;

	uiommu_set_allocator(failing_alloc, failing_release);
	assert_int_equal(runs_init(&runs, &window, 1), 0);
	assert_int_equal(runs_take(&runs, UINT64_C(1) << 50, 1, &first), 0);
	assert_int_equal(runs_take(&runs, 1, 1, &small), 0);
	assert_int_equal(runs_take(&runs, 1, UINT64_C(1) << 51, &none), 0);
	assert_int_equal(none, UINT64_C(1) << 51);
	assert_int_equal(runs_take(&runs, UINT64_MAX, 1, &none), -ENOSPC);
	assert_int_equal(runs_take(&runs, UINT64_C(1) << 52, 1, &none), -ENOSPC);
	assert_int_equal(runs_take(&runs, 1, UINT64_C(1) << 63, &none), -ENOSPC);
	assert_int_equal(runs_take_anywhere(&runs, UINT64_MAX, 1, &none, &longest), -ENOSPC);
	assert_int_equal(longest.last, RUNS_MOST_UNITS - 2);
	assert_int_equal(runs_take_anywhere(&runs, 1, UINT64_C(1) << 63, &none, &longest), -ENOSPC);
	assert_int_equal(runs_take_anywhere(&runs, 1, UINT64_C(1) << 52, &none, &longest), -ENOSPC);
	assert_true(runs_give(&runs, first, UINT64_C(1) << 50));
	assert_false(runs_give(&runs, first, UINT64_C(1) << 50));
	assert_false(runs_give(&runs, 0, RUNS_MOST_UNITS));
	assert_true(runs_give(&runs, small, 1));
	bytes = fail_live_bytes;
	assert_true(bytes < 64 * 1024);
	/* Memory is given back with the units, but for a few blocks'. */
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(runs_take(&runs, 64, 64, &at[i]), 0);
	assert_true(fail_live_bytes > 2 * 1024 * 1024);
	for (unsigned i = 0; i < MANY; i++)
		assert_true(runs_give(&runs, at[i], 64));
	assert_in_range(fail_live_bytes, 0, bytes + 400 * 1024);
	runs_destroy(&runs);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* Every allocation of every step fails once; giving back asks for none. */
static void test_no_memory(void **state)
{
	struct rng rng = rng_seeded("runs without memory");
	unsigned failures = 0;
	struct runs runs;

	uiommu_set_allocator(failing_alloc, failing_release);
	fail_countdown = 0;
	assert_int_equal(runs_init(&runs, wide, 3), -ENOMEM);
	fail_countdown = -1;
	start(&runs, wide, 3);
	for (unsigned step = 0; step < 6000; step++) {
		uint64_t n = 1 + rng_below(&rng, rng_below(&rng, 3) ? 30 : 600), first = 0;
		struct uiommu_range longest;
		int ret = -ENOMEM;

		for (long i = 0; ret == -ENOMEM; i++) {
			fail_countdown = i;
			ret = runs_take(&runs, n, 1, &first);
			if (ret == -ENOSPC)
				ret = runs_take_anywhere(&runs, n, 1, &first, &longest);
			fail_countdown = -1;
			failures += ret == -ENOMEM;
			if (ret == -ENOMEM)
				check_all(&runs);
		}
		if (!ret && held_count < HELD)
			note(first, n, 1);
		else if (!ret)
			assert_true(runs_give(&runs, first, n));
		for (unsigned k = 0; (ret || held_count == HELD) && k < 300; k++) {
			struct held *h = &held[rng_below(&rng, held_count)];

			fail_countdown = 0;
			assert_true(runs_give(&runs, h->first, h->n));
			assert_int_equal(fail_countdown, 0);
			memset(unit + h->first, 0, h->n);
			*h = held[--held_count];
		}
		fail_countdown = -1;
	}
	if (failures < 20)
		fail_msg("%u failures", failures);
	give_all(&runs, wide, 3);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),	  cmocka_unit_test(test_span),
		cmocka_unit_test(test_scattered), cmocka_unit_test(test_huge),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
