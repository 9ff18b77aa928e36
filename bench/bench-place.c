/* SPDX-License-Identifier: MIT */
/*
 * bench-place - what it costs to find a place and to release it, with so many mappings live: in the
 * map of areas alone (find, enter, take out), beside a search that walks along the areas as Linux'
 * iommufd does, and as a whole (map, with an I/O page table, and unmap, with its flush). Both
 * searches must come to the same addresses.
 *
 * Packed: pages from the bottom on, all in use; the place is behind them. Mixed: 1 to 64 pages, one
 * in eight released again, places are in holes that are too small more often than not. (Not a round
 * number of them: leaves of the map that are just full would be split and merged all the time.)
 * Seeds are fixed; the median of the rounds is printed, and the bytes of memory a live mapping
 * takes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <uiommu/space.h>

#include "util/alloc.h"
#include "util/imap.h"

#define PAGE   UINT64_C(4096)
#define ROUNDS 9
#define TIMES  2000 /* places in a round */
#define SLOW   20   /* those of the walk */
#define INSIDE ((struct uiommu_range){PAGE, UINT64_MAX - PAGE})
#define OPTIONS                                                                               \
	{                                                                                     \
		.size = sizeof(struct uiommu_domain_options), .format = "vtd-ss", .width = 48 \
	}

static uint64_t allocated;

static void *counting_alloc(size_t size, size_t align)
{
	void *ptr;

	if (posix_memalign(&ptr, align, size))
		return NULL;
	allocated += size;
	return __builtin_memset(ptr, 0, size);
}

static void counting_release(void *ptr, size_t size)
{
	allocated -= size;
	free(ptr);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void must(bool well)
{
	if (well)
		return;
	fprintf(stderr, "bench-place: something failed that must not\n");
	exit(1);
}

static uint64_t next(uint64_t *seed)
{
	return *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
}

/* 1 page where all is packed, else 1 to 64. */
static uint64_t length_of(bool mixed, uint64_t *seed)
{
	return (mixed ? 1 + (next(seed) >> 33) % 64 : 1) * PAGE;
}

static struct imap_want want_of(uint64_t length)
{
	struct imap_want want = {.length = length, .alignment = PAGE};

	while (want.alignment < length)
		want.alignment *= 2;
	return want;
}

static bool walk(struct imap *map, const struct imap_want *want, uint64_t *first)
{
	uint64_t mask = want->alignment - 1, at = (PAGE + mask) & ~mask;
	struct imap_pos pos;

	for (const struct imap_entry *e = imap_find(map, at, &pos); e; e = imap_next(&pos)) {
		if (e->range.first > at && e->range.first - at >= want->length)
			break;
		if (e->range.last >= at)
			at = (e->range.last + 1 + mask) & ~mask;
	}
	*first = at;
	return true;
}

static bool by_index(struct imap *map, const struct imap_want *want, uint64_t *first)
{
	return imap_gap(map, INSIDE, want, first);
}

typedef bool (*search_fn)(struct imap *map, const struct imap_want *want, uint64_t *first);

static void fill_map(struct imap *map, uint64_t live, bool mixed)
{
	uint64_t seed = 1, first;

	for (uint64_t i = 0; i < live; i++) {
		struct imap_want want = want_of(length_of(mixed, &seed));
		struct imap_entry e;

		must(imap_gap(map, INSIDE, &want, &first));
		e = (struct imap_entry){.range = {first, first + want.length - 1}};
		must(!imap_insert(map, &e, NULL));
		if (mixed && i % 8 == 7)
			imap_erase(map, first);
	}
}

/* Place and, if they are entered, release @times with one search; the sum of the addresses in *sum.
 */
static double search_round(struct imap *map, search_fn search, bool enter, unsigned times,
			   bool mixed, uint64_t seed, uint64_t *sum)
{
	double start = now();

	*sum = 0;
	for (unsigned i = 0; i < times; i++) {
		struct imap_want want = want_of(length_of(mixed, &seed));
		struct imap_entry e = {0};
		uint64_t first;

		must(search(map, &want, &first));
		e.range = (struct uiommu_range){first, first + want.length - 1};
		must(!enter || !imap_insert(map, &e, NULL));
		must(!enter || imap_erase(map, first));
		*sum += first;
	}
	return (now() - start) / times;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *times)
{
	qsort(times, ROUNDS, sizeof(*times), compare);
	return times[ROUNDS / 2];
}

struct result {
	double find, index, walk, bytes;
};

/* The map of areas alone. */
static void searches(uint64_t live, bool mixed, struct result *result)
{
	double find[ROUNDS], fast[ROUNDS], slow[ROUNDS];
	struct imap map = {.floor = PAGE};
	uint64_t before = allocated;

	fill_map(&map, live, mixed);
	for (unsigned r = 0; r < ROUNDS; r++) {
		uint64_t a, b, c;

		find[r] = search_round(&map, by_index, false, TIMES, mixed, r + 7, &a);
		fast[r] = search_round(&map, by_index, true, TIMES, mixed, r + 7, &b);
		must(a == b);
		slow[r] = search_round(&map, walk, false, SLOW, mixed, r + 7, &a);
		search_round(&map, by_index, true, SLOW, mixed, r + 7, &c);
		must(a == c);
	}
	result->find = median(find);
	result->index = median(fast);
	result->walk = median(slow);
	result->bytes = (double)(allocated - before) / (double)map.count;
	imap_clear(&map);
}

/* Everything, with a domain that a device is attached to; one at a time. */
static double whole(uint64_t live, bool mixed)
{
	const struct uiommu_domain_options options = OPTIONS;
	struct uiommu_domain *domain;
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	uint64_t seed = 1, iova;
	double times[ROUNDS];

	must(!uiommu_unit_create(NULL, &unit) && !uiommu_ioas_create(&ioas));
	must(!uiommu_domain_create(unit, ioas, &options, &domain));
	must(!uiommu_domain_attach(domain, 8, NULL, 0, "device"));
	for (uint64_t i = 0; i < live; i++) {
		struct uiommu_place place = {.size = sizeof(place),
					     .length = length_of(mixed, &seed)};
		struct uiommu_range range;

		must(!uiommu_ioas_map_anywhere(ioas, &place, 0, UIOMMU_READ, NULL, &iova));
		range = (struct uiommu_range){iova, iova + place.length - 1};
		if (mixed && i % 8 == 7)
			must(!uiommu_ioas_unmap(ioas, range, NULL, NULL, NULL));
	}
	for (unsigned r = 0; r < ROUNDS; r++) {
		double start = now();

		for (unsigned i = 0; i < TIMES; i++) {
			struct uiommu_place place = {.size = sizeof(place),
						     .length = length_of(mixed, &seed)};

			must(!uiommu_ioas_map_anywhere(ioas, &place, 0, UIOMMU_READ, NULL, &iova));
			must(!uiommu_ioas_unmap(
				ioas, (struct uiommu_range){iova, iova + place.length - 1}, NULL,
				NULL, NULL));
		}
		times[r] = (now() - start) / TIMES;
	}
	must(!uiommu_ioas_unmap(ioas, (struct uiommu_range){0, UINT64_MAX}, NULL, NULL, NULL));
	uiommu_domain_detach(domain, 8);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	return median(times);
}

int main(void)
{
	static const uint64_t sizes[] = {1010, 10010, 100010, 1000010};

	uiommu_set_allocator(counting_alloc, counting_release);
	printf("ns each                  find  + enter, erase   map, unmap   walk to find  bytes "
	       "each\n");
	for (unsigned mixed = 0; mixed < 2; mixed++)
		for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			double all = whole(sizes[s], mixed);
			struct result r;

			searches(sizes[s], mixed, &r);
			printf("%s %10llu live %8.0f %15.0f %12.0f %14.0f %11.1f\n",
			       mixed ? "mixed " : "packed", (unsigned long long)sizes[s], r.find,
			       r.index, all, r.walk, r.bytes);
		}
	return 0;
}
