/* SPDX-License-Identifier: MIT */
/*
 * hot-paths - one hot path of the engine a run, always the same work: what bench/count-instructions
 * counts under callgrind. Only what measured() calls is counted, so each path is prepared outside
 * of it. No clock, no thread, no address of the machine's: two runs execute the same instructions.
 *
 *   hot-paths map|unmap|hit|miss|batch|places        prints how many operations measured() did
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uiommu/places.h>

#define PAGE UINT64_C(4096)

enum { LIVE = 16384, COUNT = 4096, BATCH = 256, NEAR = 64 };

static struct uiommu_ioas *ioas;
static struct uiommu_port *port;
static struct uiommu_places *places;
static uint64_t order = 1;

static void must(int ret)
{
	if (!ret)
		return;
	fprintf(stderr, "hot-paths: error %d\n", ret);
	exit(1);
}

/* The @i-th of all 2^24 pages in a fixed shuffled order: odd multiples and shifts lose nothing. */
static struct uiommu_range place(uint64_t i)
{
	uint64_t x = (i * 0x9e3779b1) & 0xffffff;

	x ^= x >> 12;
	x = (x * 0x85ebca6b) & 0xffffff;
	x ^= x >> 11;
	return (struct uiommu_range){x * PAGE, x * PAGE + PAGE - 1};
}

static void map(uint64_t i)
{
	must(uiommu_ioas_map(ioas, place(i), (UINT64_C(1) << 32) + i * PAGE,
			     UIOMMU_READ | UIOMMU_WRITE, NULL));
}

static void unmap(uint64_t i)
{
	must(uiommu_ioas_unmap(ioas, place(i), NULL, NULL, NULL));
}

static void translate(uint64_t i)
{
	struct uiommu_segment segment;
	size_t count = 1;

	uiommu_port_enter(port);
	if (uiommu_port_translate(port, place(i).first, 64, UIOMMU_READ, &segment, &count) != 64)
		must(-1);
	uiommu_port_leave(port);
}

static void hit(uint64_t i)
{
	translate(i % NEAR);
}

static void miss(uint64_t i)
{
	(void)i;
	order = (order * 5 + 12345) % LIVE;
	translate(order);
}

/* 256 maps and 256 unmaps, a flush for each 256. */
static void batch(uint64_t i)
{
	static struct uiommu_op ops[BATCH];

	for (uint64_t k = 0; k < BATCH; k++)
		ops[k] = (struct uiommu_op){.kind = UIOMMU_OP_MAP,
					    .prot = UIOMMU_READ,
					    .ioas = ioas,
					    .range = place(LIVE + i * BATCH + k),
					    .addr = k * PAGE};
	must(uiommu_batch_submit(ops, BATCH, NULL));
	for (uint64_t k = 0; k < BATCH; k++)
		ops[k].kind = UIOMMU_OP_UNMAP;
	must(uiommu_batch_submit(ops, BATCH, NULL));
}

/* One range back, and one of another length out. */
static void exchange(uint64_t i)
{
	static struct uiommu_range held[NEAR];
	struct uiommu_range *r = &held[i % NEAR];

	if (r->last)
		must(uiommu_places_give(places, *r));
	must(uiommu_places_take(places, (1 + i * 7 % 16) * PAGE, 0, &r->first));
	r->last = r->first + (1 + i * 7 % 16) * PAGE - 1;
}

/* The one function that callgrind collects in; it must stay a function of its own. */
void measured(void (*path)(uint64_t), uint64_t first, uint64_t count);
__attribute__((noinline)) void measured(void (*path)(uint64_t), uint64_t first, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		path(first + i);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*path)(uint64_t);
		uint64_t first, count, operations;
		bool mapped; /* the pages from first on must be there before */
	} paths[] = {
		{"map", map, LIVE, COUNT, COUNT, false},
		{"unmap", unmap, LIVE, COUNT, COUNT, true},
		{"hit", hit, 0, COUNT, COUNT, false},
		{"miss", miss, 0, COUNT, COUNT, false},
		{"batch", batch, 0, COUNT / BATCH, COUNT, false},
		{"places", exchange, 10 * NEAR, COUNT, COUNT, false},
	};
	const struct uiommu_places_options above = {
		.size = sizeof(above), .within = {UINT64_C(1) << 40, UINT64_MAX >> 17}};
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	struct uiommu_unit *unit;
	struct uiommu_domain *domain;

	must(uiommu_unit_create(NULL, &unit));
	must(uiommu_ioas_create(&ioas));
	must(uiommu_domain_create(unit, ioas, &options, &domain));
	must(uiommu_domain_attach(domain, 8, NULL, 0, "device"));
	must(uiommu_port_create(unit, 8, &port));
	uiommu_port_set_master(port, true);
	for (uint64_t i = 0; i < LIVE; i++)
		map(i);
	for (uint64_t i = 0; i < NEAR; i++)
		hit(i);
	must(uiommu_places_create(ioas, &above, &places));
	for (uint64_t i = 0; i < 10 * NEAR; i++)
		exchange(i);
	for (size_t p = 0; p < sizeof(paths) / sizeof(paths[0]); p++) {
		if (argc != 2 || strcmp(argv[1], paths[p].name) != 0)
			continue;
		for (uint64_t i = 0; paths[p].mapped && i < COUNT; i++)
			map(LIVE + i);
		measured(paths[p].path, paths[p].first, paths[p].count);
		printf("%llu\n", (unsigned long long)paths[p].operations);
		return 0;
	}
	fprintf(stderr, "hot-paths: which path? map, unmap, hit, miss, batch or places\n");
	return 2;
}
