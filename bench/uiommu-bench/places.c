/* SPDX-License-Identifier: MIT */
/*
 * places - choosing a range of IOVAs and giving it back, without mapping it: the work of Linux'
 * alloc_iova_fast() and free_iova_fast(). Hot: one page, the same again and again. Random sizes: of
 * those that are live, which are of 1 to 64 pages, a random one is given back and one of a random
 * size is taken. Batches: the same, 256 at a time, given back as a list. Bulk: a quarter of all at
 * once, far more than magazines hold. The random number and the memory that the list of live ranges
 * takes are counted too.
 */
#include "bench.h"

#include <stdlib.h>

#include <uiommu/places.h>

#define PAGE UINT64_C(4096)

enum { TIMES = 256 * 1000, BATCH = 256, MOST_PAGES = 64 };

struct chosen {
	struct uiommu_ioas *ioas;
	struct uiommu_places *places;
	uint64_t *live; /* IOVA, with the number of pages - 1 in the low bits */
	uint64_t count;
	uint64_t seed;
};

/* A random number below @n, which is less than 2^32. */
static uint64_t below(struct chosen *c, uint64_t n)
{
	c->seed = c->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (c->seed >> 32) * n >> 32;
}

static void take(struct chosen *c, uint64_t i)
{
	uint64_t pages = 1 + below(c, MOST_PAGES), iova = 0;

	must(uiommu_places_take(c->places, pages * PAGE, 0, &iova), "take");
	c->live[i] = iova | (pages - 1);
}

static struct uiommu_range range_of(uint64_t live)
{
	uint64_t iova = live & ~(PAGE - 1), pages = 1 + (live & (PAGE - 1));

	return (struct uiommu_range){iova, iova + pages * PAGE - 1};
}

static double hot(const struct work *work)
{
	struct chosen *c = work->state;
	uint64_t length = work->arg * PAGE;
	double start = now_ns();

	for (int i = 0; i < TIMES; i++) {
		uint64_t iova = 0;

		must(uiommu_places_take(c->places, length, 0, &iova), "take");
		must(uiommu_places_give(c->places, (struct uiommu_range){iova, iova + length - 1}),
		     "give");
	}
	return (now_ns() - start) / TIMES;
}

/* Pick random ones, @done before the end of those that are live, and move them there. */
static void pick(struct chosen *c, uint64_t done, struct uiommu_range *list, uint64_t n)
{
	for (uint64_t k = 0; k < n; k++) {
		uint64_t last = c->count - 1 - done - k, at = below(c, last + 1), it = c->live[at];

		c->live[at] = c->live[last];
		c->live[last] = it;
		list[k] = range_of(it);
	}
}

/* A range back and another one out, one at a time. */
static double random_sizes(const struct work *work)
{
	struct chosen *c = work->state;
	struct uiommu_range list[BATCH];
	double start = now_ns();

	for (int i = 0; i < TIMES; i += BATCH) {
		pick(c, 0, list, BATCH);
		for (uint64_t k = 0; k < BATCH; k++) {
			must(uiommu_places_give(c->places, list[k]), "give");
			take(c, c->count - 1 - k);
		}
	}
	return (now_ns() - start) / TIMES;
}

/* So many back in lists, then as many out. */
static void exchange(struct chosen *c, uint64_t part)
{
	struct uiommu_range list[BATCH];

	for (uint64_t i = 0; i < part; i += BATCH) {
		uint64_t n = part - i < BATCH ? part - i : BATCH;

		pick(c, i, list, n);
		must(uiommu_places_give_list(c->places, list, n) != n, "give");
	}
	for (uint64_t i = 0; i < part; i++)
		take(c, c->count - part + i);
}

static double batches(const struct work *work)
{
	double start = now_ns();

	for (int i = 0; i < TIMES; i += BATCH)
		exchange(work->state, BATCH);
	return (now_ns() - start) / TIMES;
}

static double bulk(const struct work *work)
{
	struct chosen *c = work->state;
	double start = now_ns();

	exchange(c, c->count / 4);
	return (now_ns() - start) / (double)(c->count / 4);
}

static struct chosen *chosen_new(uint64_t live)
{
	struct chosen *c = calloc(1, sizeof(*c));

	must(!c, "memory");
	c->live = calloc(live, sizeof(*c->live));
	must(!c->live, "memory");
	c->count = live;
	c->seed = settings.seed;
	must(uiommu_ioas_create(&c->ioas), "ioas");
	must(uiommu_places_create(c->ioas, NULL, &c->places), "places");
	for (uint64_t i = 0; i < live; i++)
		take(c, i);
	/* Until magazines are as full as they stay. */
	for (uint64_t i = 0; i < 2 * live; i += live / 4)
		exchange(c, live / 4);
	return c;
}

void places_add(void)
{
	static const struct {
		uint64_t live;
		const char *name;
	} sizes[] = {{100000, "100k"}, {1000000, "1M"}};

	if (!work_wanted("ours"))
		return;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct chosen *c = chosen_new(sizes[i].live);

		work_add(hot, c, 1, sizes[i].live, "ours: take + give, hot, %s live",
			 sizes[i].name);
		work_add(random_sizes, c, 0, sizes[i].live,
			 "ours: take + give, random sizes, %s live", sizes[i].name);
		work_add(batches, c, 0, sizes[i].live,
			 "ours: take + give, random sizes, batches, %s live", sizes[i].name);
		work_add(bulk, c, 0, sizes[i].live, "ours: take + give, bulk, %s live",
			 sizes[i].name);
		work_add(hot, c, 512, sizes[i].live, "ours: take + give, 512 pages, %s live",
			 sizes[i].name);
	}
}
