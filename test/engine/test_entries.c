/* SPDX-License-Identifier: MIT */
/*
 * Mappings replaced and cleared as single entries: random sequences against an array of entries,
 * with allocations that fail at any point; borders inside large pages; one flush a call.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>

#include <uiommu/space.h>

#define PAGE	UINT64_C(4096)
#define PAGES	1200
#define BASE	UINT64_C(0x7fe00000)	 /* a border of a table of 1 GiB lies inside */
#define MEMORY	UINT64_C(0x123456001000) /* never congruent to a large page of IOVAs */
#define DOMAINS 2

static struct entry {
	uint64_t addr;
	int prot; /* 0: none */
} model[PAGES];

struct engine {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain[DOMAINS];
	int domains;
};

static struct uiommu_range range_of(size_t page, size_t n)
{
	return (struct uiommu_range){BASE + page * PAGE, BASE + (page + n) * PAGE - 1};
}

/* @tce: a domain whose entries are overwritten; else two whose are cleared in between. */
static void up(struct engine *e, bool tce)
{
	struct uiommu_unit_options unit = {.size = sizeof(unit)};
	struct uiommu_domain_options options = {.size = sizeof(options)};
	struct uiommu_domain_window window = {
		.size = sizeof(window), .range = {0, UINT32_MAX}, .page_shift = 12, .levels = 1};

	assert_int_equal(uiommu_unit_create(&unit, &e->unit), 0);
	assert_int_equal(uiommu_ioas_create(&e->ioas), 0);
	e->domains = tce ? 1 : DOMAINS;
	options.format = tce ? "spapr-tce" : "vtd-ss";
	for (int i = 0; i < e->domains; i++) {
		options.width = tce ? 64 : i ? 39 : 48;
		assert_int_equal(uiommu_domain_create(e->unit, e->ioas, &options, &e->domain[i]),
				 0);
	}
	if (tce)
		assert_int_equal(uiommu_domain_window_create(e->domain[0], &window), 0);
}

static void down(struct engine *e)
{
	for (int i = 0; i < e->domains; i++)
		uiommu_domain_destroy(e->domain[i]);
	uiommu_ioas_destroy(e->ioas);
	uiommu_unit_destroy(e->unit);
}

static void check_page(struct engine *e, size_t page)
{
	uint64_t iova = BASE + page * PAGE, addr = 0;
	struct uiommu_area area;
	bool mapped = !uiommu_ioas_find(e->ioas, iova, &area) && area.range.first <= iova;
	int prot = 0;

	assert_int_equal(mapped, model[page].prot != 0);
	if (mapped) {
		assert_true(area.addr + (iova - area.range.first) == model[page].addr);
		assert_int_equal(area.prot, model[page].prot);
	}
	for (int i = 0; i < e->domains; i++) {
		int ret = uiommu_domain_lookup(e->domain[i], iova, &addr, &prot);

		assert_int_equal(ret, mapped ? 0 : -ENOENT);
		if (mapped) {
			assert_true(addr == model[page].addr);
			assert_int_equal(prot, model[page].prot);
		}
	}
}

static void check_all(struct engine *e)
{
	struct uiommu_ioas_stats stats;
	uint64_t bytes = 0;

	for (size_t i = 0; i < PAGES; i++) {
		check_page(e, i);
		bytes += model[i].prot ? PAGE : 0;
	}
	uiommu_ioas_stats(e->ioas, &stats);
	assert_int_equal(stats.bytes, bytes);
}

/* What is called for each area that goes must be what the model had there, once. */
static uint64_t told;

static void gone(void *ctx, const struct uiommu_area *area)
{
	const struct uiommu_range *asked = ctx;

	assert_true(area->range.first >= asked->first && area->range.last <= asked->last);
	for (uint64_t iova = area->range.first; iova < area->range.last; iova += PAGE) {
		const struct entry *m = &model[(iova - BASE) / PAGE];

		assert_int_equal(m->prot, area->prot);
		assert_true(m->addr == area->addr + (iova - area->range.first));
		told += PAGE;
	}
}

static uint64_t model_bytes(size_t page, size_t n)
{
	uint64_t bytes = 0;

	for (size_t i = page; i < page + n; i++)
		bytes += model[i].prot ? PAGE : 0;
	return bytes;
}

static bool step(struct engine *e, struct rng *rng)
{
	size_t page = rng_below(rng, PAGES), n = 1 + rng_below(rng, rng_below(rng, 4) ? 8 : 600);
	uint64_t addr = MEMORY + rng_below(rng, 4096) * PAGE, removed = 0, expected, flushes;
	int prot = 1 + (int)rng_below(rng, 3), ret;
	bool clear = !rng_below(rng, 3);
	struct uiommu_unit_stats before, after;
	struct uiommu_range range;

	if (page + n > PAGES)
		n = PAGES - page;
	range = range_of(page, n);
	/* No large leaves: their borders are another test's. */
	if (!((addr ^ range.first) & ((UINT64_C(1) << 21) - 1)))
		addr += PAGE;
	expected = model_bytes(page, n);
	told = 0;
	uiommu_unit_stats(e->unit, &before);
	if (clear)
		ret = uiommu_ioas_clear(e->ioas, range, &removed, gone, &range);
	else
		ret = uiommu_ioas_replace(e->ioas, range, addr, prot, NULL, gone, &range);
	if (ret) {
		assert_int_equal(ret, -ENOMEM);
		assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_NO_MEMORY);
		assert_int_equal(told, 0);
		return false;
	}
	uiommu_unit_stats(e->unit, &after);
	flushes = after.flushes - before.flushes;
	assert_int_equal(flushes, expected ? e->domains : 0);
	assert_int_equal(told, expected);
	if (clear)
		assert_int_equal(removed, expected);
	for (size_t i = 0; i < n; i++)
		model[page + i] = clear ? (struct entry){0} : (struct entry){addr + i * PAGE, prot};
	return true;
}

static void random_steps(struct rng *rng, bool tce)
{
	struct engine e;

	memset(model, 0, sizeof(model));
	up(&e, tce);
	for (uint64_t i = 0, steps = test_steps(4000); i < steps; i++) {
		assert_true(step(&e, rng));
		if (i % 50 == 0)
			check_all(&e);
	}
	check_all(&e);
	down(&e);
}

static void test_model(void **state)
{
	struct rng rng = rng_seeded("entries");

	random_steps(&rng, false);
	random_steps(&rng, true);
}

/* Each step is tried with the first allocation failing, then the second, and so on: until it
 * succeeds, everything is as it was. */
static void test_no_memory(void **state)
{
	struct rng rng = rng_seeded("entries without memory");
	struct engine e;
	long failed = 0;

	memset(model, 0, sizeof(model));
	uiommu_set_allocator(failing_alloc, failing_release);
	for (uint64_t i = 0, steps = test_steps(600); i < steps; i++) {
		uint64_t seed = rng_next(&rng);

		if (i % 40 == 0)
			up(&e, i % 80 == 0);
		for (long nth = 0;; nth++) {
			struct rng same = {seed};
			bool done;

			fail_countdown = nth;
			done = step(&e, &same);
			fail_countdown = -1;
			if (done)
				break;
			failed++;
			check_all(&e);
		}
		if (i % 40 == 39) {
			check_all(&e);
			down(&e);
			memset(model, 0, sizeof(model));
		}
	}
	assert_true(failed > 10);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* A mapping that needs many tables takes the place of small ones, and fails at any point. */
static void test_large_without_memory(void **state)
{
	struct uiommu_range whole = {0, (UINT64_C(256) << 20) - 1}, part = {0x5000000, 0x50fffff};
	uint64_t addr;
	int ret, prot;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (long nth = 0;; nth++) {
		struct engine e;

		up(&e, false);
		assert_int_equal(uiommu_ioas_map(e.ioas, part, MEMORY, 1, NULL), 0);
		fail_countdown = nth;
		ret = uiommu_ioas_replace(e.ioas, whole, MEMORY, 2, NULL, NULL, NULL);
		fail_countdown = -1;
		for (int i = 0; i < e.domains; i++) {
			assert_int_equal(uiommu_domain_lookup(e.domain[i], 0x50ff123, &addr, &prot),
					 0);
			assert_int_equal(prot, ret ? 1 : 2);
			assert_true(addr == MEMORY + (ret ? 0xff123 : 0x50ff123));
			assert_int_equal(uiommu_domain_lookup(e.domain[i], 0x1000, &addr, &prot),
					 ret ? -ENOENT : 0);
		}
		down(&e);
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_true(nth < 100);
	}
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- DMA while entries change ---- */

struct race {
	struct engine e;
	struct uiommu_port *port;
	_Atomic bool stop;
	_Atomic uint64_t reads[2];
};

/* Every read meets the one memory or the other, whole, and never nothing. */
static void *read_on(void *arg)
{
	struct race *r = arg;
	uint64_t words[16];

	while (!r->stop) {
		if (uiommu_port_read(r->port, BASE + 64, words, sizeof(words)))
			return "a DMA faulted";
		for (size_t i = 1; i < 16; i++)
			if (words[i] != words[0])
				return "a DMA met two memories at once";
		if (words[0] != 1 && words[0] != 2)
			return "a DMA met other memory";
		r->reads[words[0] - 1]++;
	}
	return NULL;
}

static void test_overwrite_race(void **state)
{
	struct uiommu_range page = range_of(0, 1), both = range_of(0, 2);
	uint64_t *memory = aligned_alloc(PAGE, 4 * PAGE);
	struct race r = {.stop = false};
	pthread_t thread;
	void *why;

	assert_non_null(memory);
	for (size_t i = 0; i < 4 * PAGE / sizeof(*memory); i++)
		memory[i] = i < 2 * PAGE / sizeof(*memory) ? 1 : 2;
	up(&r.e, true);
	assert_int_equal(uiommu_domain_attach(r.e.domain[0], 8, NULL, 0, "device"), 0);
	assert_int_equal(uiommu_port_create(r.e.unit, 8, &r.port), 0);
	uiommu_port_set_master(r.port, true);
	assert_int_equal(uiommu_ioas_map(r.e.ioas, both, (uintptr_t)memory, 3, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_on, &r), 0);
	for (uint64_t i = 0, steps = test_steps(4000); i < steps || !r.reads[0] || !r.reads[1];
	     i++) {
		uintptr_t to = (uintptr_t)memory + (i & 1 ? 0 : 2 * PAGE);

		assert_int_equal(
			uiommu_ioas_replace(r.e.ioas, i % 3 ? page : both, to, 3, NULL, NULL, NULL),
			0);
		if (i > 1000000)
			break;
	}
	r.stop = true;
	pthread_join(thread, &why);
	if (why)
		fail_msg("%s", (const char *)why);
	assert_true(r.reads[0] && r.reads[1]);
	uiommu_port_destroy(r.port);
	uiommu_domain_detach(r.e.domain[0], 8);
	down(&r.e);
	free(memory);
}

static void test_refusals(void **state)
{
	const struct uiommu_range large = {UINT64_C(1) << 30, (UINT64_C(1) << 30) + 0x3fffff};
	struct uiommu_range part = {large.first + PAGE, large.first + 2 * PAGE - 1};
	struct uiommu_area area;
	struct engine e;

	up(&e, false);
	assert_int_equal(uiommu_ioas_replace(e.ioas, large, 0, 3, NULL, NULL, NULL), 0);
	/* A border inside a leaf of 2 MiB; between two of them there may be one. */
	assert_int_equal(uiommu_ioas_clear(e.ioas, part, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_SPLIT);
	assert_int_equal(uiommu_ioas_replace(e.ioas, part, 0, 3, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_SPLIT);
	assert_int_equal(uiommu_ioas_find(e.ioas, large.first, &area), 0);
	assert_int_equal(area.range.last, large.last);
	part = (struct uiommu_range){large.first, large.first + 0x1fffff};
	assert_int_equal(uiommu_ioas_clear(e.ioas, part, NULL, NULL, NULL), 0);
	assert_int_equal(uiommu_ioas_find(e.ioas, large.first, &area), 0);
	assert_int_equal(area.range.first, part.last + 1);
	assert_int_equal(area.addr, 0x200000);
	/* What a map refuses. */
	assert_int_equal(uiommu_ioas_replace(e.ioas, part, 0, 0, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_ioas_replace(e.ioas, part, 7, 3, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_ioas_reserve(e.ioas, part, UIOMMU_RESV_RESERVED, &e, "me"), 0);
	assert_int_equal(uiommu_ioas_replace(e.ioas, part, 0, 3, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_RESERVED);
	assert_int_equal(uiommu_ioas_clear(e.ioas, (struct uiommu_range){1, 0}, NULL, NULL, NULL),
			 -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_EMPTY);
	assert_int_equal(
		uiommu_ioas_clear(e.ioas, (struct uiommu_range){0, UINT64_MAX}, NULL, NULL, NULL),
		0);
	assert_int_equal(uiommu_ioas_find(e.ioas, 0, &area), -ENOENT);
	down(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_large_without_memory),
		cmocka_unit_test(test_overwrite_race),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
