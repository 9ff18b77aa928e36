/* SPDX-License-Identifier: MIT */
/*
 * place - finding a place for a mapping, mapping and unmapping it, as iommufd does for programs, in
 * an address space that has no page table (what a table costs is in the other figures): hot, where
 * all is packed and of one page, and mixed, where lengths are random and most holes too small.
 * Every work leaves its space as it was.
 */
#include "bench.h"

#include <stdlib.h>

#include <uiommu/space.h>

#define PAGE UINT64_C(4096)

enum { TIMES = 4096, BATCH = 256 };

struct places {
	struct uiommu_ioas *ioas;
	bool mixed;
	uint64_t seed;
};

static uint64_t length_of(struct places *p)
{
	p->seed = p->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (p->mixed ? 1 + (p->seed >> 33) % 64 : 1) * PAGE;
}

/* Batches of places found, then given back: one flush each, of nothing here. */
static double place_batches(const struct work *work)
{
	struct places *p = work->state;
	static struct uiommu_place place[BATCH];
	static struct uiommu_op ops[BATCH];
	double start = now_ns();

	for (int i = 0; i < TIMES; i += BATCH) {
		for (int k = 0; k < BATCH; k++) {
			place[k] = (struct uiommu_place){.size = sizeof(*place),
							 .length = length_of(p)};
			ops[k] = (struct uiommu_op){.kind = UIOMMU_OP_MAP,
						    .prot = UIOMMU_READ,
						    .ioas = p->ioas,
						    .place = &place[k]};
		}
		must(uiommu_batch_submit(ops, BATCH, NULL), "place");
		for (int k = 0; k < BATCH; k++)
			ops[k].kind = UIOMMU_OP_UNMAP;
		must(uiommu_batch_submit(ops, BATCH, NULL), "release");
	}
	return (now_ns() - start) / TIMES;
}

/* One after the other: the same place again and again where all is packed. */
static double place_one(const struct work *work)
{
	struct places *p = work->state;
	double start = now_ns();

	for (int i = 0; i < TIMES; i++) {
		const struct uiommu_place place = {.size = sizeof(place), .length = length_of(p)};
		struct uiommu_range range;
		uint64_t iova;

		must(uiommu_ioas_map_anywhere(p->ioas, &place, 0, UIOMMU_READ, NULL, &iova),
		     "place");
		range = (struct uiommu_range){iova, iova + place.length - 1};
		must(uiommu_ioas_unmap(p->ioas, range, NULL, NULL, NULL), "release");
	}
	return (now_ns() - start) / TIMES;
}

/* Not a round number of them, or leaves of the map that are just full would be split and joined
 * again and again. Of the mixed ones one in eight is given back, which makes the holes. */
static struct places *places_new(uint64_t live, bool mixed)
{
	struct places *p = calloc(1, sizeof(*p));

	must(!p, "memory");
	must(uiommu_ioas_create(&p->ioas), "ioas");
	p->mixed = mixed;
	p->seed = settings.seed;
	for (uint64_t i = 0; i < live + 10; i++) {
		const struct uiommu_place place = {.size = sizeof(place), .length = length_of(p)};
		struct uiommu_range range;
		uint64_t iova;

		must(uiommu_ioas_map_anywhere(p->ioas, &place, 0, UIOMMU_READ, NULL, &iova),
		     "place");
		range = (struct uiommu_range){iova, iova + place.length - 1};
		if (mixed && i % 8 == 7)
			must(uiommu_ioas_unmap(p->ioas, range, NULL, NULL, NULL), "release");
	}
	return p;
}

void place_add(void)
{
	static const struct {
		uint64_t live;
		const char *name;
	} sizes[] = {{100000, "100k"}, {1000000, "1M"}};

	if (!work_wanted("ours"))
		return;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int mixed = 0; mixed < 2; mixed++) {
			struct places *p = places_new(sizes[i].live, mixed);
			const char *kind = mixed ? "random sizes" : "hot";

			work_add(place_one, p, 0, sizes[i].live,
				 "ours: place, map, unmap, %s, %s live", kind, sizes[i].name);
			work_add(place_batches, p, 0, sizes[i].live,
				 "ours: place, map, unmap, %s, batches, %s live", kind,
				 sizes[i].name);
		}
}
