/* SPDX-License-Identifier: MIT */
/*
 * DMA threads against batches that unmap, and remap elsewhere, the pages they hammer; with cuts in
 * between. Frames are counted, and poisoned when their last reference is dropped: from then on no
 * device may write to one, and none may ever read poison. Under ThreadSanitizer any access that is
 * not ordered before the release is a reported race, since the copies are plain.
 */
#include "../check.h"

#include <pthread.h>
#include <sched.h>

#include <uiommu/space.h>

#define PAGE	UINT64_C(4096)
#define WINDOW	24 /* pages of IOVA that the devices aim at */
#define FRAMES	64
#define DEVICES 2
#define LANE	1024
#define POISON	0x5a
#define MARK	0xdd

static char *memory; /* FRAMES pages */
static int refs[FRAMES];
static _Atomic bool stop;
static _Atomic unsigned running;
static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static struct uiommu_domain *domain;
static uint64_t drops, changed;

static uint64_t iova_of(uint64_t page)
{
	return page * ((UINT64_C(1) << 30) + PAGE);
}

static struct uiommu_range range_of(uint64_t first, uint64_t n)
{
	return (struct uiommu_range){iova_of(first), iova_of(first + n - 1) + PAGE - 1};
}

static void *device(void *arg)
{
	uint16_t rid = (uint16_t)(uintptr_t)arg;
	struct rng rng = {.state = rid};
	struct uiommu_port *port;
	unsigned long hits = 0, poison = 0;
	char buf[LANE], in[LANE];

	if (uiommu_port_create(unit, rid, &port))
		abort();
	uiommu_port_set_master(port, true);
	memset(buf, MARK, sizeof(buf));
	while (!stop) {
		/* Each device has its own part of a page, or they would race with each other. */
		uint64_t iova = iova_of(rng_below(&rng, WINDOW)) + rid * LANE;
		size_t len = 24 + rng_below(&rng, LANE - 24);

		if (hits == 1)
			running++;
		if (rng_below(&rng, 2)) {
			hits += !uiommu_port_write(port, iova, buf, len);
			continue;
		}
		if (uiommu_port_read(port, iova, in, len))
			continue;
		hits++;
		for (size_t i = 0; i < len; i++)
			poison += in[i] == POISON;
	}
	uiommu_port_destroy(port);
	return (void *)(poison ? 0 : hits);
}

/* A frame that nobody has; it must be as it was left. */
static int take_frame(struct rng *rng)
{
	int frame;

	do
		frame = (int)rng_below(rng, FRAMES);
	while (refs[frame]);
	for (uint64_t i = 0; i < PAGE; i++)
		changed += memory[(uint64_t)frame * PAGE + i] != POISON;
	memset(memory + (uint64_t)frame * PAGE, 0, PAGE);
	return frame;
}

static int hold(void *ctx, const struct uiommu_op *op, const struct uiommu_area *area)
{
	refs[(area->addr - (uintptr_t)memory) / PAGE]++;
	return 0;
}

static void release(void *ctx, const struct uiommu_area *area)
{
	uint64_t frame = (area->addr - (uintptr_t)memory) / PAGE;

	if (--refs[frame])
		return;
	memset(memory + frame * PAGE, POISON, PAGE);
	drops++;
	/* Leave a device that still could time to show it. */
	sched_yield();
	for (uint64_t i = 0; i < PAGE; i++)
		changed += memory[frame * PAGE + i] != POISON;
}

static void round_of(struct rng *rng, struct uiommu_batch *batch)
{
	uint64_t first = rng_below(rng, WINDOW), n = 1 + rng_below(rng, 6);
	struct uiommu_op op[1 + 6];
	unsigned count = 1, done = 0;

	if (first + n > WINDOW)
		n = WINDOW - first;
	op[0] = (struct uiommu_op){
		.kind = UIOMMU_OP_UNMAP, .ioas = ioas, .range = range_of(first, n)};
	/* New frames in the same places, before any flush. */
	for (uint64_t i = first; i < first + n; i++) {
		int frame = take_frame(rng);

		refs[frame]++; /* spoken for */
		op[count++] =
			(struct uiommu_op){.kind = UIOMMU_OP_MAP,
					   .prot = 3,
					   .ioas = ioas,
					   .range = range_of(i, 1),
					   .addr = (uintptr_t)memory + (uint64_t)frame * PAGE};
	}
	while (done < count) {
		struct uiommu_budget budget = {.ops = 1 + rng_below(rng, 4)};

		done += (unsigned)uiommu_batch_run(batch, op + done, count - done, &budget);
		if (rng_below(rng, 2))
			sched_yield();
	}
	uiommu_batch_finish(batch);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(op[i].status, 0);
	assert_int_equal(op[0].bytes, n * PAGE);
	for (unsigned i = 1; i < count; i++)
		refs[(op[i].addr - (uintptr_t)memory) / PAGE]--;
}

static void test_batch_race(void **state)
{
	struct uiommu_domain_options dopt = {.size = sizeof(dopt), .format = "vtd-ss", .width = 48};
	struct uiommu_unit_options uo = {.size = sizeof(uo), .iotlb_entries = 16};
	const struct uiommu_batch_options options = {
		.size = sizeof(options), .hold = hold, .release = release};
	struct rng rng = rng_seeded("batch race");
	uint64_t rounds = test_steps(800);
	pthread_t thread[DEVICES];
	struct uiommu_unit_stats stats;
	struct uiommu_batch *batch;
	struct uiommu_op op;

	memory = aligned_alloc(PAGE, FRAMES * PAGE);
	memset(memory, POISON, FRAMES * PAGE);
	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &dopt, &domain), 0);
	assert_int_equal(uiommu_batch_open(&options, &batch), 0);
	for (uint64_t i = 0; i < WINDOW; i++) {
		op = (struct uiommu_op){.kind = UIOMMU_OP_MAP,
					.prot = 3,
					.ioas = ioas,
					.range = range_of(i, 1),
					.addr = (uintptr_t)memory +
						(uint64_t)take_frame(&rng) * PAGE};
		uiommu_batch_run(batch, &op, 1, NULL);
		assert_int_equal(op.status, 0);
	}
	for (uintptr_t i = 0; i < DEVICES; i++) {
		assert_int_equal(uiommu_domain_attach(domain, (uiommu_rid)i, NULL, 0, "dev"), 0);
		pthread_create(&thread[i], NULL, device, (void *)i);
	}
	while (running < DEVICES)
		sched_yield();
	for (uint64_t round = 0; round < rounds; round++)
		round_of(&rng, batch);
	uiommu_unit_stats(unit, &stats);
	assert_int_equal(stats.flushes, rounds);
	op = (struct uiommu_op){
		.kind = UIOMMU_OP_UNMAP, .ioas = ioas, .range = range_of(0, WINDOW)};
	uiommu_batch_run(batch, &op, 1, NULL);
	uiommu_batch_close(batch);
	/* All are free now, with the devices still at it: not a byte changes. */
	for (unsigned look = 0; look < 20; look++) {
		for (uint64_t i = 0; i < FRAMES * PAGE; i++)
			changed += memory[i] != POISON;
		sched_yield();
	}
	assert_int_equal(changed, 0);
	assert_true(drops >= rounds);
	stop = true;
	for (uint64_t i = 0; i < DEVICES; i++) {
		void *hits;

		pthread_join(thread[i], &hits);
		assert_true((unsigned long)hits > 0); /* and never saw poison */
		uiommu_domain_detach(domain, (uiommu_rid)i);
	}
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batch_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
