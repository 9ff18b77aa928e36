/* SPDX-License-Identifier: MIT */
/*
 * bench-batch - what an operation costs in a batch of so many: 4 KiB pages mapped and unmapped in a
 * domain that a device is attached to, with one flush a batch. Once with the device's thread
 * asleep, once while it does DMA all the time (then a flush has to interrupt its processor). The
 * flushes are counted by the unit.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <uiommu/space.h>

#define PAGE   UINT64_C(4096)
#define MOST   4096 /* pages mapped and unmapped in a round */
#define LIVE   4096 /* pages that stay mapped beside, which the device reads */
#define ROUNDS 200

static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static char *memory;
static _Atomic bool stop;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void must(int ret)
{
	if (!ret)
		return;
	fprintf(stderr, "bench-batch: error %d\n", ret);
	exit(1);
}

static uint64_t flushes(void)
{
	struct uiommu_unit_stats stats;

	uiommu_unit_stats(unit, &stats);
	return stats.flushes;
}

static void *device(void *port)
{
	uint64_t word, i = 0;

	while (!stop)
		must(uiommu_port_read(port, (MOST + i++ % LIVE) * PAGE, &word, sizeof(word)));
	return NULL;
}

/* Submit all operations, @size at a time; the time of one, without what the caller's array costs.
 */
static double submit(struct uiommu_op *ops, unsigned size)
{
	double start = now();

	for (unsigned i = 0; i < MOST; i += size)
		must(uiommu_batch_submit(ops + i, size, NULL));
	return (now() - start) / MOST;
}

/* Map all pages, then unmap them, in batches of @size; the times of an operation, the flushes. */
static void measure(unsigned size, double *map, double *unmap, uint64_t *flushed)
{
	static struct uiommu_op ops[MOST];

	for (unsigned i = 0; i < MOST; i++)
		ops[i] = (struct uiommu_op){
			.kind = UIOMMU_OP_MAP,
			.prot = UIOMMU_READ | UIOMMU_WRITE,
			.ioas = ioas,
			.range = {i * PAGE, i * PAGE + PAGE - 1},
			.addr = (uintptr_t)memory + i * PAGE,
		};
	*map = submit(ops, size);
	for (unsigned i = 0; i < MOST; i++)
		ops[i].kind = UIOMMU_OP_UNMAP;
	*flushed = flushes();
	*unmap = submit(ops, size);
	*flushed = flushes() - *flushed;
	if (*flushed != MOST / size) {
		fprintf(stderr, "bench-batch: %u batches, %llu flushes\n", MOST / size,
			(unsigned long long)*flushed);
		exit(1);
	}
}

static void table(const char *what)
{
	static const unsigned sizes[] = {1, 8, 128, MOST};

	printf("%-34s map, ns  unmap, ns     unmaps/s  flushes of %d\n", what, MOST);
	for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		double best_map = 1e9, best_unmap = 1e9;
		uint64_t flushed = 0;

		for (unsigned r = 0; r < ROUNDS; r++) {
			double map, unmap;

			measure(sizes[s], &map, &unmap, &flushed);
			best_map = map < best_map ? map : best_map;
			best_unmap = unmap < best_unmap ? unmap : best_unmap;
		}
		printf("  batches of %-20u %9.0f %10.0f %10.2f M %11llu\n", sizes[s], best_map,
		       best_unmap, 1e3 / best_unmap, (unsigned long long)flushed);
	}
}

int main(void)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	struct uiommu_domain *domain;
	struct uiommu_port *port;
	pthread_t thread;

	memory = aligned_alloc(PAGE, (MOST + LIVE) * PAGE);
	must(memory ? uiommu_unit_create(NULL, &unit) : -1);
	must(uiommu_ioas_create(&ioas));
	must(uiommu_domain_create(unit, ioas, &options, &domain));
	must(uiommu_domain_attach(domain, 8, NULL, 0, "device"));
	must(uiommu_port_create(unit, 8, &port));
	uiommu_port_set_master(port, true);
	must(uiommu_ioas_map(ioas, (struct uiommu_range){MOST * PAGE, (MOST + LIVE) * PAGE - 1},
			     (uintptr_t)memory + MOST * PAGE, UIOMMU_READ, NULL));
	table("device idle");
	pthread_create(&thread, NULL, device, port);
	table("device reads all the time");
	stop = true;
	pthread_join(thread, NULL);
	uiommu_ioas_unmap(ioas, (struct uiommu_range){0, UINT64_MAX}, NULL, NULL, NULL);
	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, 8);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	free(memory);
	return 0;
}
