/* SPDX-License-Identifier: MIT */
/*
 * DMA threads against unmap and detach: once they have returned, nothing reaches the memory.
 *
 * The proof is twofold. After each unmap the program writes to the pages and finds later that no
 * device changed them; and under ThreadSanitizer any access that isn't ordered before unmap's
 * return is a reported race, since the copies are plain memory accesses.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <uiommu/space.h>

#define PAGE	UINT64_C(4096)
#define WINDOW	32 /* pages that the devices aim at */
#define DEVICES 3
#define LANE	1024

static char *memory;
static _Atomic bool stop;
static _Atomic unsigned running; /* devices that have done some DMA */
static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static struct uiommu_domain *domain;

/* Pages lie far apart, so that tables come and go with them. */
static uint64_t iova_of(uint64_t page)
{
	return page * ((UINT64_C(1) << 30) + PAGE);
}

static void *device(void *arg)
{
	uint16_t rid = (uint16_t)(uintptr_t)arg;
	struct rng rng = {.state = rid};
	struct uiommu_port *port;
	unsigned long hits = 0;
	char buf[LANE];

	if (uiommu_port_create(unit, rid, &port))
		abort();
	uiommu_port_set_master(port, true);
	memset(buf, 0xdd, sizeof(buf));
	while (!stop) {
		/* Each device has its own part of a page, or they would race with each other. */
		uint64_t iova = iova_of(rng_below(&rng, WINDOW)) + rid * LANE;

		if (hits == 1)
			running++;
		if (rng_below(&rng, 2))
			hits += !uiommu_port_write(port, iova, buf,
						   24 + rng_below(&rng, LANE - 24));
		else
			hits += !uiommu_port_read(port, iova, (char[LANE]){0},
						  24 + rng_below(&rng, LANE - 24));
	}
	uiommu_port_destroy(port);
	return (void *)hits;
}

/* No device writes to pages that were taken away. */
static void check_quiet(uint64_t first, uint64_t n, char mark)
{
	uint64_t changed = 0;

	memset(memory + first * PAGE, mark, n * PAGE);
	sched_yield();
	for (uint64_t i = 0; i < n * PAGE; i++)
		changed += memory[first * PAGE + i] != mark;
	assert_int_equal(changed, 0);
}

static void round_unmap(struct rng *rng, uint64_t round)
{
	uint64_t first = rng_below(rng, WINDOW), n = 1 + rng_below(rng, 4), bytes;

	if (first + n > WINDOW)
		n = WINDOW - first;
	assert_int_equal(uiommu_ioas_unmap(ioas,
					   (struct uiommu_range){iova_of(first),
								 iova_of(first + n - 1) + PAGE - 1},
					   &bytes, NULL, NULL),
			 0);
	assert_int_equal(bytes, n * PAGE);
	check_quiet(first, n, (char)(round | 1));
	for (uint64_t i = first; i < first + n; i++)
		assert_int_equal(
			uiommu_ioas_map(ioas,
					(struct uiommu_range){iova_of(i), iova_of(i) + PAGE - 1},
					(uintptr_t)memory + i * PAGE, 3, NULL),
			0);
}

static void test_race(void **state)
{
	struct uiommu_domain_options dopt = {.size = sizeof(dopt), .format = "vtd-ss", .width = 48};
	struct uiommu_unit_options uo = {.size = sizeof(uo), .iotlb_entries = 16};
	struct rng rng = rng_seeded("race");
	uint64_t rounds = test_steps(1500);
	pthread_t thread[DEVICES];
	struct uiommu_unit_stats stats;

	memory = aligned_alloc(PAGE, WINDOW * PAGE);
	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &dopt, &domain), 0);
	for (uint64_t i = 0; i < WINDOW; i++)
		assert_int_equal(
			uiommu_ioas_map(ioas,
					(struct uiommu_range){iova_of(i), iova_of(i) + PAGE - 1},
					(uintptr_t)memory + i * PAGE, 3, NULL),
			0);
	for (uintptr_t i = 0; i < DEVICES; i++) {
		assert_int_equal(uiommu_domain_attach(domain, i, NULL, 0, "dev"), 0);
		pthread_create(&thread[i], NULL, device, (void *)i);
	}
	while (running < DEVICES)
		sched_yield();
	for (uint64_t round = 0; round < rounds; round++) {
		round_unmap(&rng, round);
		if (round % 64 == 0) {
			for (uint64_t i = 0; i < DEVICES; i++)
				uiommu_domain_detach(domain, i);
			check_quiet(0, WINDOW, (char)(round | 1));
			for (uint64_t i = 0; i < DEVICES; i++)
				uiommu_domain_attach(domain, i, NULL, 0, "dev");
		}
	}
	stop = true;
	for (unsigned i = 0; i < DEVICES; i++) {
		void *hits;

		pthread_join(thread[i], &hits);
		assert_true((unsigned long)hits > 0);
		uiommu_domain_detach(domain, i);
	}
	uiommu_unit_stats(unit, &stats);
	assert_int_equal(stats.flushes, rounds);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
