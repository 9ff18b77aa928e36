/* SPDX-License-Identifier: MIT */
/*
 * One test for every format, width and level: what is mapped is found, with the leaf that alignment
 * permits, and the entries have the bits that the architecture's manual gives them.
 */
#include "../check.h"

#include <errno.h>

#include "table/table.h"
#include "util/alloc.h"

struct shape {
	const char *format;
	unsigned width;
	unsigned leaf_shift[4]; /* ascending, 0 ends */
};

static const struct shape shapes[] = {
	{"vtd-ss", 39, {12, 21, 30}},
	{"vtd-ss", 48, {12, 21, 30}},
	{"vtd-ss", 57, {12, 21, 30}},
};

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static int make(struct table *t, const char *format, unsigned width)
{
	return table_init(t, &(struct table_config){.format = format, .width = width});
}

static void unmap(struct table *t, uint64_t first, uint64_t last)
{
	struct gather gather = GATHER_INIT;

	table_unmap(t, (struct uiommu_range){first, last}, &gather);
	gather_release(&gather, &t->pool);
}

static int map(struct table *t, uint64_t first, uint64_t last, uint64_t addr, int prot)
{
	struct gather gather = GATHER_INIT;
	int ret = table_map(t, (struct uiommu_range){first, last}, addr, prot, &gather);

	gather_release(&gather, &t->pool);
	return ret;
}

static void check_walk(struct table *t, uint64_t iova, uint64_t addr, int prot, unsigned shift)
{
	struct table_leaf leaf;

	assert_true(table_walk(t, iova, &leaf));
	assert_int_equal(leaf.addr + (iova - leaf.range.first), addr);
	assert_int_equal(leaf.prot, prot);
	assert_int_equal(leaf.range.last - leaf.range.first, (UINT64_C(1) << shift) - 1);
}

/* Every leaf size at the bottom and at the very top of the space, each permission. */
static void test_leaves(void **state)
{
	for (size_t s = 0; s < SHAPES; s++) {
		struct table t;

		assert_int_equal(make(&t, shapes[s].format, shapes[s].width), 0);
		for (const unsigned *shift = shapes[s].leaf_shift; *shift; shift++) {
			uint64_t size = UINT64_C(1) << *shift;
			uint64_t places[] = {0, size * 3, t.aperture.last - size + 1};

			for (int prot = 1; prot <= 3; prot++) {
				for (unsigned p = 0; p < 3; p++) {
					uint64_t at = places[p], addr = size * (5 + p);
					struct table_leaf leaf;

					assert_int_equal(map(&t, at, at + size - 1, addr, prot), 0);
					check_walk(&t, at, addr, prot, *shift);
					check_walk(&t, at + size - 1, addr + size - 1, prot,
						   *shift);
					if (at)
						assert_false(table_walk(&t, at - 1, &leaf));
					unmap(&t, at, at + size - 1);
					assert_false(table_walk(&t, at, &leaf));
					assert_int_equal(t.pool.pages, 1); /* the root alone */
				}
			}
		}
		table_destroy(&t);
	}
}

/* A misaligned source, or a head and a tail, make smaller leaves. */
static void test_alignment_chooses_leaves(void **state)
{
	const uint64_t m2 = UINT64_C(1) << 21, g1 = UINT64_C(1) << 30;

	for (size_t s = 0; s < SHAPES; s++) {
		struct table t;

		assert_int_equal(make(&t, shapes[s].format, shapes[s].width), 0);
		/* 4 KiB before a 1 GiB boundary to 2 MiB + 4 KiB behind the next. */
		assert_int_equal(map(&t, g1 - 4096, 2 * g1 + m2 + 4095, g1 * 7 - 4096, 3), 0);
		check_walk(&t, g1 - 1, g1 * 7 - 1, 3, 12);
		check_walk(&t, g1 + 12345, g1 * 7 + 12345, 3, 30);
		check_walk(&t, 2 * g1 + 5, g1 * 8 + 5, 3, 21);
		check_walk(&t, 2 * g1 + m2, g1 * 8 + m2, 3, 12);
		unmap(&t, g1 - 4096, 2 * g1 + m2 + 4095);
		assert_int_equal(t.pool.pages, 1);
		/* Aligned IOVA, source off by a page: 4 KiB leaves only. */
		assert_int_equal(map(&t, g1, g1 + m2 - 1, g1 + 4096, 1), 0);
		check_walk(&t, g1, g1 + 4096, 1, 12);
		check_walk(&t, g1 + m2 - 1, g1 + m2 + 4095, 1, 12);
		/* Emptied page by page, the tables go, and a large leaf fits where they were. */
		for (uint64_t at = g1; at < g1 + m2; at += 4096)
			unmap(&t, at, at + 4095);
		assert_int_equal(t.pool.pages, 1);
		assert_int_equal(map(&t, g1, g1 + m2 - 1, m2, 1), 0);
		check_walk(&t, g1, m2, 1, 21);
		/* One unmap over everything, holes included. */
		assert_int_equal(map(&t, 4096, 8191, 0, 1), 0);
		unmap(&t, 0, t.aperture.last);
		assert_int_equal(t.pool.pages, 1);
		table_destroy(&t);
	}
}

/* VT-d specification, 9.8: R is bit 0, W bit 1, PS bit 7, the address bits 51:12. */
static void test_vtd_bits(void **state)
{
	const uint64_t m2 = UINT64_C(1) << 21, g1 = UINT64_C(1) << 30;
	const uint64_t high = ((UINT64_C(1) << 52) - 1) & ~(g1 - 1);
	uint64_t *pml4, *pdp, *pd, *pt;
	struct table t;

	assert_int_equal(make(&t, "vtd-ss", 48), 0);
	assert_int_equal(map(&t, 0x1000, 0x1fff, 0x123456789000, UIOMMU_READ), 0);
	assert_int_equal(map(&t, m2, 2 * m2 - 1, high, UIOMMU_WRITE), 0);
	assert_int_equal(map(&t, g1, 2 * g1 - 1, high, UIOMMU_READ | UIOMMU_WRITE), 0);
	pml4 = t.root;
	assert_int_equal(pml4[0] & 0xfff, 3); /* a table: R and W, nothing else */
	pdp = (uint64_t *)(uintptr_t)(pml4[0] & ~UINT64_C(0xfff));
	assert_int_equal(pdp[0] & 0xfff, 3);
	assert_int_equal(pdp[1], high | 1 << 7 | 3);
	pd = (uint64_t *)(uintptr_t)(pdp[0] & ~UINT64_C(0xfff));
	assert_int_equal(pd[1], high | 1 << 7 | 2);
	pt = (uint64_t *)(uintptr_t)(pd[0] & ~UINT64_C(0xfff));
	assert_int_equal(pt[1], 0x123456789000 | 1); /* no PS in a last-level entry */
	assert_int_equal(pt[0], 0);
	table_destroy(&t);
}

static void test_bad_shapes(void **state)
{
	struct table t;

	assert_int_equal(make(&t, "vtd-ss", 40), -EINVAL);
	assert_int_equal(make(&t, "vtd-ss", 0), -EINVAL);
	assert_int_equal(make(&t, "vtd-ss", 64), -EINVAL);
	assert_int_equal(make(&t, "none", 48), -EINVAL);
}

/* Out of memory anywhere: nothing is mapped and no table page is lost. */
static void test_no_memory(void **state)
{
	const uint64_t first = (UINT64_C(1) << 39) - (UINT64_C(200) << 21), len = UINT64_C(400)
										  << 21;
	bool done = false;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (long nth = 0; !done; nth++) {
		struct table t;
		struct table_leaf leaf;

		assert_int_equal(make(&t, "vtd-ss", 48), 0);
		assert_int_equal(map(&t, 0, 4095, 0, 1), 0);
		fail_countdown = nth;
		done = !map(&t, first, first + len - 1, 4096, 3);
		fail_countdown = -1;
		if (!done) {
			assert_false(table_walk(&t, first, &leaf));
			assert_int_equal(t.pool.pages, 4);
			assert_int_equal(map(&t, first, first + len - 1, 4096, 3), 0);
		} else {
			assert_true(nth > 3);
		}
		check_walk(&t, first + len - 1, len + 4095, 3, 12);
		table_destroy(&t);
	}
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* Random maps and unmaps of aligned pieces against an array of pages. */
static void test_random(void **state)
{
	enum { PAGES = 4096 };
	static uint64_t page[PAGES]; /* address | prot, 0: not mapped */
	struct rng rng = rng_seeded("table");

	for (size_t s = 0; s < SHAPES; s++) {
		/* A region across a boundary of the highest level. */
		uint64_t base = (UINT64_C(1) << (shapes[s].width - 9)) - PAGES / 2 * 4096;
		struct table t;

		assert_int_equal(make(&t, shapes[s].format, shapes[s].width), 0);
		memset(page, 0, sizeof(page));
		for (uint64_t step = 0; step < test_steps(20000); step++) {
			uint64_t at = rng_below(&rng, PAGES), n = 1 + rng_below(&rng, 1200), i;
			uint64_t addr = (1 + rng_below(&rng, UINT64_C(1) << 36)) << 12;
			int prot = 1 + rng_below(&rng, 3);
			struct table_leaf leaf;
			bool found;

			if (rng_below(&rng, 2)) { /* aligned to 2 MiB on both sides */
				at &= ~UINT64_C(511);
				n = 512;
				addr &= ~UINT64_C(0x1fffff);
			}
			if (at + n > PAGES)
				n = PAGES - at;
			for (i = 0; i < n && !page[at + i]; i++)
				;
			if (i == n && addr) {
				assert_int_equal(map(&t, base + at * 4096,
						     base + (at + n) * 4096 - 1, addr, prot),
						 0);
				for (i = 0; i < n; i++)
					page[at + i] = (addr + i * 4096) | prot;
			} else {
				/* Unmap whole leaves only: widen to what can't be cut. */
				uint64_t first = at & ~UINT64_C(511);
				uint64_t last = (at + n - 1) | 511;

				unmap(&t, base + first * 4096, base + (last + 1) * 4096 - 1);
				memset(&page[first], 0, (last - first + 1) * sizeof(page[0]));
			}
			at = rng_below(&rng, PAGES);
			found = table_walk(&t, base + at * 4096 + 77, &leaf);
			assert_int_equal(found, page[at] != 0);
			if (found)
				check_walk(&t, base + at * 4096 + 77,
					   (page[at] & ~UINT64_C(3)) + 77, page[at] & 3,
					   leaf.range.last - leaf.range.first == 4095 ? 12 : 21);
		}
		unmap(&t, base, base + PAGES * 4096 - 1);
		assert_int_equal(t.pool.pages, 1);
		table_destroy(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_leaves),	  cmocka_unit_test(test_alignment_chooses_leaves),
		cmocka_unit_test(test_vtd_bits),  cmocka_unit_test(test_bad_shapes),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
