/* SPDX-License-Identifier: MIT */
/*
 * Threads that place and release mappings in one address space, while another one adds and takes
 * away domains and a device does DMA: no two of them are given the same IOVAs, each device access
 * reaches the memory of who holds the IOVA, and nothing is left in the end. For ThreadSanitizer.
 */
#include "../check.h"

#include <pthread.h>

#include <uiommu/space.h>

#define PAGE	UINT64_C(4096)
#define THREADS 3
#define HELD	24
#define SPACE	4096 /* pages that are looked at; more would be wrong */

static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static char *memory;
static _Atomic int holder[SPACE]; /* thread + 1 */
static _Atomic bool stop;
static _Atomic uint64_t placed_count;

static const struct uiommu_domain_options options = {
	.size = sizeof(options), .format = "vtd-ss", .width = 48};

struct held {
	uint64_t iova, pages;
};

static void take(struct held *h, int me)
{
	for (uint64_t i = 0; i < h->pages; i++) {
		int nobody = 0;

		if (h->iova / PAGE + i >= SPACE ||
		    !atomic_compare_exchange_strong(&holder[h->iova / PAGE + i], &nobody, me))
			fail_msg("page 0x%llx was given to %d and %d",
				 (unsigned long long)(h->iova / PAGE + i), nobody, me);
	}
}

static void give(struct held *h)
{
	for (uint64_t i = 0; i < h->pages; i++)
		holder[h->iova / PAGE + i] = 0;
	if (uiommu_ioas_unmap(ioas, (struct uiommu_range){h->iova, h->iova + h->pages * PAGE - 1},
			      NULL, NULL, NULL))
		fail_msg("unmap failed");
	h->pages = 0;
}

static void *placer(void *arg)
{
	int me = (int)(uintptr_t)arg + 1;
	struct rng rng = {.state = (uint64_t)me};
	struct held held[HELD] = {{0}};
	struct uiommu_port *port;

	if (uiommu_port_create(unit, 8, &port))
		fail_msg("no port");
	uiommu_port_set_master(port, true);
	for (uint64_t i = 0; i < test_steps(4000); i++) {
		struct held *h = &held[rng_below(&rng, HELD)];
		struct uiommu_place place = {.size = sizeof(place)};
		unsigned char byte = 0;

		if (h->pages) {
			if (uiommu_port_read(port, h->iova, &byte, 1) || byte != me)
				fail_msg("thread %d read %d", me, byte);
			give(h);
			continue;
		}
		h->pages = 1 + rng_below(&rng, 8);
		place.length = h->pages * PAGE;
		if (uiommu_ioas_map_anywhere(ioas, &place,
					     (uintptr_t)memory + (uintptr_t)arg * 8 * PAGE,
					     UIOMMU_READ | UIOMMU_WRITE, NULL, &h->iova))
			fail_msg("no place");
		take(h, me);
		placed_count++;
	}
	for (unsigned i = 0; i < HELD; i++)
		if (held[i].pages)
			give(&held[i]);
	uiommu_port_destroy(port);
	return NULL;
}

/* Domains and reservations come and go. */
static void *narrower(void *arg)
{
	int owner = 0;

	while (!stop) {
		struct uiommu_domain *other;

		if (!uiommu_domain_create(unit, ioas, &options, &other))
			uiommu_domain_destroy(other);
		uiommu_ioas_reserve(ioas, (struct uiommu_range){200 * PAGE, 300 * PAGE - 1},
				    UIOMMU_RESV_RESERVED, &owner, "narrower");
		uiommu_ioas_unreserve(ioas, &owner);
	}
	return NULL;
}

static void test_race(void **state)
{
	pthread_t threads[THREADS], other;
	struct uiommu_ioas_stats stats;
	struct uiommu_domain *domain;

	memory = aligned_alloc(PAGE, THREADS * 8 * PAGE);
	for (unsigned i = 0; i < THREADS; i++)
		memset(memory + i * 8 * PAGE, (int)i + 1, 8 * PAGE);
	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &options, &domain), 0);
	assert_int_equal(uiommu_domain_attach(domain, 8, NULL, 0, "device"), 0);
	pthread_create(&other, NULL, narrower, NULL);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, placer, (void *)i);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	stop = true;
	pthread_join(other, NULL);
	uiommu_ioas_stats(ioas, &stats);
	assert_int_equal(stats.areas, 0);
	assert_int_equal(stats.bytes, 0);
	assert_true(placed_count > 0);
	uiommu_domain_detach(domain, 8);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_race)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
