/* SPDX-License-Identifier: MIT */
/*
 * Batches that are submitted on one IOAS with nobody to be told answer and leave behind what the
 * same operations do as calls of their own: rows of unmaps that adjoin, ranges that cut areas or
 * hit what another batch is taking away, two domains. With memory running out, each operation is
 * done or it isn't, in areas and tables alike.
 */
#include "../check.h"

#include <errno.h>

#include <uiommu/space.h>

#include "util/range.h"

#define PAGE   UINT64_C(4096)
#define RW     (UIOMMU_READ | UIOMMU_WRITE)
#define PAGES  1100 /* two tables and a bit */
#define MEMORY (UINT64_C(1) << 40)
#define OPS    96

static const struct uiommu_domain_options formats[2] = {
	{.size = sizeof(formats[0]), .format = "vtd-ss", .width = 48},
	{.size = sizeof(formats[0]), .format = "arm-s1", .width = 48}};

struct world {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain[2];
	struct uiommu_port *port;
	struct uiommu_batch *open; /* it takes page 7 away */
};

static struct uiommu_range pages(uint64_t first, uint64_t count)
{
	return (struct uiommu_range){first * PAGE, (first + count) * PAGE - 1};
}

static void setup(struct world *w)
{
	struct uiommu_op op = {.kind = UIOMMU_OP_UNMAP, .range = pages(7, 1)};

	assert_int_equal(uiommu_unit_create(NULL, &w->unit), 0);
	assert_int_equal(uiommu_ioas_create(&w->ioas), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(uiommu_domain_create(w->unit, w->ioas, &formats[i], &w->domain[i]),
				 0);
	assert_int_equal(uiommu_domain_attach(w->domain[0], 8, NULL, 0, "device"), 0);
	assert_int_equal(uiommu_port_create(w->unit, 8, &w->port), 0);
	assert_int_equal(
		uiommu_ioas_reserve(w->ioas, pages(90, 2), UIOMMU_RESV_RESERVED, w, "test"), 0);
	assert_int_equal(uiommu_ioas_map(w->ioas, pages(7, 1), MEMORY, RW, NULL), 0);
	assert_int_equal(uiommu_batch_open(NULL, &w->open), 0);
	op.ioas = w->ioas;
	assert_int_equal(uiommu_batch_run(w->open, &op, 1, NULL), 1);
	assert_int_equal(op.status, 0);
}

static void teardown(struct world *w)
{
	uiommu_batch_close(w->open);
	uiommu_port_destroy(w->port);
	uiommu_domain_detach(w->domain[0], 8);
	uiommu_domain_destroy(w->domain[0]);
	uiommu_domain_destroy(w->domain[1]);
	uiommu_ioas_destroy(w->ioas);
	uiommu_unit_destroy(w->unit);
}

/* Maps and unmaps of one page mostly, in rows up or down or anywhere. */
static unsigned make_ops(struct rng *rng, struct uiommu_op ops[OPS])
{
	unsigned count = 1 + rng_below(rng, OPS);
	uint64_t at = rng_below(rng, PAGES), kind = 0, way = 0, addr = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t len = rng_below(rng, 12) ? 1 : 1 + rng_below(rng, 5);

		if (!rng_below(rng, 8)) {
			at = rng_below(rng, 16) ? rng_below(rng, PAGES) : 510;
			kind = rng_below(rng, 2);
			way = rng_below(rng, 3);
			addr = rng_below(rng, 1 << 20);
		}
		ops[i] = (struct uiommu_op){
			.kind = kind ? UIOMMU_OP_MAP : UIOMMU_OP_UNMAP,
			.prot = rng_below(rng, 30) ? RW : (int)rng_below(rng, 3),
			.range = pages(at, len),
			.addr = MEMORY + (addr + i) * PAGE,
		};
		if (!rng_below(rng, 60))
			ops[i].range.last = ops[i].range.first - 1 + rng_below(rng, 2);
		if (!rng_below(rng, 200))
			ops[i].range = UIOMMU_RANGE_ALL;
		at = way == 0 ? at + len : way == 1 && at ? at - 1 : rng_below(rng, PAGES);
		at %= PAGES;
	}
	return count;
}

static int call(struct world *w, struct uiommu_op *op)
{
	if (op->kind == UIOMMU_OP_MAP)
		return uiommu_ioas_map(w->ioas, op->range, op->addr, op->prot, NULL);
	return uiommu_ioas_unmap(w->ioas, op->range, &op->bytes, NULL, NULL);
}

/* What stands at a page, or 0. Areas and both tables say the same. */
static uint64_t at_page(struct world *w, uint64_t i, int *prot)
{
	struct uiommu_area area;
	bool there = !uiommu_ioas_find(w->ioas, i * PAGE, &area) && area.range.first <= i * PAGE;
	uint64_t addr = there ? area.addr + (i * PAGE - area.range.first) : 0;

	there &= i != 7; /* it leaves */
	for (unsigned d = 0; d < 2; d++) {
		uint64_t found;

		assert_int_equal(uiommu_domain_lookup(w->domain[d], i * PAGE, &found, prot),
				 there ? 0 : -ENOENT);
		if (there)
			assert_int_equal(found, addr);
	}
	*prot = there ? area.prot : 0;
	return addr;
}

static void same(struct world *a, struct world *b)
{
	struct uiommu_ioas_stats one, other;

	for (uint64_t i = 0; i < PAGES + 8; i++) {
		int prot_a, prot_b;
		uint64_t addr = at_page(a, i, &prot_a);

		assert_int_equal(addr, at_page(b, i, &prot_b));
		assert_int_equal(prot_a, prot_b);
	}
	uiommu_ioas_stats(a->ioas, &one);
	uiommu_ioas_stats(b->ioas, &other);
	assert_int_equal(one.areas, other.areas);
	assert_int_equal(one.bytes, other.bytes);
	assert_int_equal(one.maps, other.maps);
	assert_int_equal(one.unmaps, other.unmaps);
	assert_int_equal(one.most_areas, other.most_areas);
}

static void test_as_calls(void **state)
{
	struct rng rng = rng_seeded("batch closed");
	struct uiommu_op ops[OPS], calls[OPS];
	uint64_t good = 0, refused = 0;
	struct world a, b;

	setup(&a);
	setup(&b);
	for (uint64_t step = test_steps(600); step--;) {
		unsigned count = make_ops(&rng, ops);
		struct uiommu_unit_stats before, after;
		int first = 0;

		memcpy(calls, ops, sizeof(ops));
		for (unsigned i = 0; i < count; i++) {
			ops[i].ioas = a.ioas;
			calls[i].status = call(&b, &calls[i]);
			first = first ? first : calls[i].status;
		}
		uiommu_unit_stats(a.unit, &before);
		assert_int_equal(uiommu_batch_submit(ops, count, NULL), first);
		uiommu_unit_stats(a.unit, &after);
		assert_true(after.flushes <= before.flushes + 2); /* one a domain */
		for (unsigned i = 0; i < count; i++) {
			assert_int_equal(ops[i].status, calls[i].status);
			if (!ops[i].status && ops[i].kind == UIOMMU_OP_UNMAP)
				assert_int_equal(ops[i].bytes, calls[i].bytes);
			good += !ops[i].status;
			refused += ops[i].status != 0;
		}
		same(&a, &b);
	}
	assert_true(good > refused && refused > 100);
	teardown(&a);
	teardown(&b);
}

/* The operations that were done, done again elsewhere, come to the same. */
static void test_memory(void **state)
{
	struct rng rng = rng_seeded("batch closed, memory");
	struct uiommu_op ops[OPS];
	uint64_t failures = 0;
	struct world a, b;

	uiommu_set_allocator(failing_alloc, failing_release);
	setup(&a);
	setup(&b);
	for (uint64_t step = test_steps(600); step--;) {
		unsigned count = make_ops(&rng, ops);

		for (unsigned i = 0; i < count; i++)
			ops[i].ioas = a.ioas;
		fail_countdown = (long)rng_below(&rng, 6);
		uiommu_batch_submit(ops, count, NULL);
		fail_countdown = -1;
		for (unsigned i = 0; i < count; i++) {
			failures += ops[i].status == -ENOMEM;
			if (ops[i].status)
				continue;
			ops[i].status = call(&b, &ops[i]);
			assert_int_equal(ops[i].status, 0);
		}
		/* Pages that were emptied are kept, so memory would not run out a second time. */
		if (!rng_below(&rng, 8)) {
			same(&a, &b);
			teardown(&a);
			teardown(&b);
			setup(&a);
			setup(&b);
		}
	}
	same(&a, &b);
	assert_true(failures > 20);
	teardown(&a);
	teardown(&b);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_calls),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
