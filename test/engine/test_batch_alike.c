/* SPDX-License-Identifier: MIT */
/*
 * Batches over many areas that are alike, which the map of areas keeps packed together: several
 * batches at once that take away what lies side by side, maps in place of what is leaving, copies
 * that fail halfway; with and without memory.
 */
#include "../check.h"

#include <errno.h>

#include <uiommu/space.h>

#include "util/range.h"

#define PAGE	UINT64_C(4096)
#define RW	(UIOMMU_READ | UIOMMU_WRITE)
#define COUNT	600
#define BATCHES 7
#define MEMORY	(UINT64_C(1) << 40)

static const struct uiommu_domain_options vtd = {
	.size = sizeof(vtd), .format = "vtd-ss", .width = 48};

static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas, *other;
static struct uiommu_domain *domain[2];
static unsigned released[COUNT];
static bool failing; /* an allocation may fail */

static struct uiommu_range page(uint64_t i)
{
	return (struct uiommu_range){i * PAGE, i * PAGE + (PAGE - 1)};
}

static void release(void *ctx, const struct uiommu_area *area)
{
	released[area->range.first / PAGE]++;
}

/* Every page by itself; memory adjoins or not, permissions differ now and then. */
static void setup(struct rng *rng, bool even)
{
	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_ioas_create(&other), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &vtd, &domain[0]), 0);
	assert_int_equal(uiommu_domain_create(unit, other, &vtd, &domain[1]), 0);
	for (uint64_t i = 0; i < COUNT; i++)
		assert_int_equal(
			uiommu_ioas_map(ioas, page(i),
					MEMORY + (even ? i : rng_below(rng, 1 << 20)) * PAGE,
					even || i % 64 ? RW : UIOMMU_READ, NULL),
			0);
	memset(released, 0, sizeof(released));
}

static void teardown(void)
{
	uiommu_domain_destroy(domain[0]);
	uiommu_domain_destroy(domain[1]);
	uiommu_ioas_destroy(ioas);
	uiommu_ioas_destroy(other);
	uiommu_unit_destroy(unit);
}

static uint64_t areas_of(struct uiommu_ioas *space)
{
	struct uiommu_ioas_stats stats;

	uiommu_ioas_stats(space, &stats);
	return stats.areas;
}

/* Run one operation; where memory is short it fails and changes nothing, then it is run again. */
static void must(struct uiommu_batch *batch, struct rng *rng, struct uiommu_op op, int expected)
{
	uint64_t before = areas_of(op.ioas);

	fail_countdown = failing ? (long)rng_below(rng, 3) : -1;
	uiommu_batch_run(batch, &op, 1, NULL);
	fail_countdown = -1;
	if (op.status == -ENOMEM && failing) {
		assert_int_equal(areas_of(op.ioas), before);
		uiommu_batch_run(batch, &op, 1, NULL);
	}
	assert_int_equal(op.status, expected);
}

static struct uiommu_op unmap_of(uint64_t i)
{
	return (struct uiommu_op){.kind = UIOMMU_OP_UNMAP, .ioas = ioas, .range = page(i)};
}

/* Page i belongs to batch i % BATCHES: more of them than kinds of info in one packed leaf. */
static void take_turns(struct rng *rng, bool even)
{
	const struct uiommu_batch_options options = {.size = sizeof(options), .release = release};
	struct uiommu_batch *batch[BATCHES];
	uint64_t left = COUNT;

	setup(rng, even);
	for (unsigned b = 0; b < BATCHES; b++)
		assert_int_equal(uiommu_batch_open(&options, &batch[b]), 0);
	for (uint64_t i = 0; i < COUNT; i++) {
		must(batch[i % BATCHES], rng, unmap_of(i), 0);
		must(batch[(i + 1) % BATCHES], rng, unmap_of(i), -EBUSY);
		/* Some get other memory before the flush, from the batch that took them away. */
		if (i % 5 == 0) {
			must(batch[i % BATCHES], rng,
			     (struct uiommu_op){.kind = UIOMMU_OP_MAP,
						.prot = RW,
						.ioas = ioas,
						.range = page(i),
						.addr = 2 * MEMORY + i * PAGE},
			     0);
			left--;
		}
	}
	assert_int_equal(areas_of(ioas), COUNT);
	for (unsigned b = 0; b < BATCHES; b++)
		uiommu_batch_close(batch[b]);
	for (uint64_t i = 0; i < COUNT; i++) {
		uint64_t addr = 0;
		int prot, ret = uiommu_domain_lookup(domain[0], i * PAGE, &addr, &prot);

		assert_int_equal(released[i], 1);
		assert_int_equal(ret, i % 5 ? -ENOENT : 0);
		assert_int_equal(addr, i % 5 ? 0 : 2 * MEMORY + i * PAGE);
	}
	assert_int_equal(areas_of(ioas), COUNT - left);
	teardown();
}

/* All of it copied, with memory running out at every allocation. */
static void copies(struct rng *rng, bool even)
{
	uint64_t failures = 0;

	setup(rng, even);
	for (long nth = 0;; nth++) {
		int ret;

		fail_countdown = nth;
		ret = uiommu_ioas_copy(other, (struct uiommu_range){0, COUNT * PAGE - 1}, ioas, 0,
				       UIOMMU_READ, NULL);
		if (fail_countdown >= 0) {
			assert_int_equal(ret, 0);
			break;
		}
		fail_countdown = -1;
		assert_true(!ret || ret == -ENOMEM);
		failures += ret != 0;
		if (!ret)
			assert_int_equal(
				uiommu_ioas_unmap(other, UIOMMU_RANGE_ALL, NULL, NULL, NULL), 0);
		assert_int_equal(areas_of(other), 0);
	}
	fail_countdown = -1;
	assert_int_equal(areas_of(other), COUNT);
	assert_true(failures > 20);
	teardown();
}

static void test_alike(void **state)
{
	struct rng rng = rng_seeded("batch alike");

	uiommu_set_allocator(failing_alloc, failing_release);
	for (unsigned round = 0; round < 8; round++) {
		failing = round & 2;
		take_turns(&rng, round & 1);
		copies(&rng, round & 1);
	}
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
