/* SPDX-License-Identifier: MIT */
/*
 * Places: what a claim promises and to whom it says no; arguments that lie; taking and giving back
 * against a model that owns every granule; lists; mappings made there; failing allocations; and
 * threads that each have their own in one IOAS, for ThreadSanitizer.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>

#include <uiommu/places.h>

#define PAGE UINT64_C(4096)
#define MIB  (UINT64_C(1) << 20)
#define GIB  (UINT64_C(1) << 30)
#define RW   (UIOMMU_READ | UIOMMU_WRITE)

static const struct uiommu_domain_options vtd = {
	.size = sizeof(vtd), .format = "vtd-ss", .width = 48, .name = "vtd"};

static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static struct uiommu_places *places;

static int setup(void **state)
{
	places = NULL;
	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	return 0;
}

static int teardown(void **state)
{
	uiommu_places_destroy(places);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	return 0;
}

static int create(uint64_t first, uint64_t last, struct uiommu_places **out)
{
	const struct uiommu_places_options options = {
		.size = sizeof(options), .within = {first, last}, .name = "a driver"};

	return uiommu_places_create(ioas, &options, out);
}

static struct uiommu_range from(uint64_t first, uint64_t length)
{
	return (struct uiommu_range){first, first + (length - 1)};
}

/* The last call was refused so. */
static void refused(int ret, int error, enum uiommu_rule rule, const char *owner)
{
	const struct uiommu_refusal *r = uiommu_last_refusal();

	if (ret != error || r->error != error || r->rule != rule ||
	    (owner && strcmp(r->owner, owner)))
		fail_msg("%d: %d by rule %s of %s", ret, r->error, uiommu_rule_name(r->rule),
			 r->owner);
	uiommu_clear_refusal();
}

/* ---- claims ---- */

static void test_promise(void **state)
{
	const struct uiommu_resv_region region = {
		{GIB + MIB, GIB + 2 * MIB - 1}, UIOMMU_RESV_RESERVED, 0};
	const struct uiommu_domain_options narrow = {
		.size = sizeof(narrow), .format = "arm-s2", .width = 32, .name = "narrow"};
	const struct uiommu_domain_options coarse = {.size = sizeof(coarse),
						     .format = "amd-v1",
						     .width = 48,
						     .page_sizes = 2 * MIB,
						     .name = "coarse"};
	struct uiommu_domain *domain, *other;
	struct uiommu_range range;
	int owner = 0;

	assert_int_equal(uiommu_domain_create(unit, ioas, &vtd, &domain), 0);
	assert_int_equal(create(GIB, 8 * GIB - 1, &places), 0);
	/* Devices, domains, reservations. */
	refused(uiommu_domain_attach(domain, 8, &region, 1, "a device"), -EADDRINUSE,
		UIOMMU_RULE_OVERLAP, "a driver");
	assert_int_equal(uiommu_domain_attach(domain, 9, NULL, 0, "another"), 0);
	refused(uiommu_domain_create(unit, ioas, &narrow, &other), -EADDRINUSE, UIOMMU_RULE_OVERLAP,
		"a driver");
	refused(uiommu_domain_create(unit, ioas, &coarse, &other), -EADDRINUSE,
		UIOMMU_RULE_ALIGNMENT, "a driver");
	refused(uiommu_ioas_align(ioas, 2 * PAGE), -EADDRINUSE, UIOMMU_RULE_ALIGNMENT, "a driver");
	assert_int_equal(uiommu_ioas_alignment(ioas), PAGE);
	range = from(8 * GIB - PAGE, 2 * PAGE);
	refused(uiommu_ioas_reserve(ioas, range, UIOMMU_RESV_RESERVED, &owner, "late"), -EADDRINUSE,
		UIOMMU_RULE_OVERLAP, "a driver");
	assert_int_equal(uiommu_ioas_reserve(ioas, from(8 * GIB, PAGE), UIOMMU_RESV_RESERVED,
					     &owner, "late"),
			 0);
	/* Once it is lifted all of that may come. */
	uiommu_places_destroy(places);
	places = NULL;
	assert_int_equal(uiommu_domain_attach(domain, 8, &region, 1, "a device"), 0);
	uiommu_domain_detach(domain, 8);
	uiommu_domain_detach(domain, 9);
	uiommu_domain_destroy(domain);
	assert_int_equal(uiommu_domain_create(unit, ioas, &coarse, &domain), 0);
	uiommu_domain_destroy(domain);
}

static void test_elsewhere(void **state)
{
	const struct uiommu_doorbell_place doorbells = {
		.range = {2 * GIB - 4 * PAGE, 2 * GIB + PAGE - 1}, .step = PAGE};
	struct uiommu_place place = {.size = sizeof(place), .length = PAGE};
	struct uiommu_places *second;
	struct uiommu_range range;
	uint64_t iova;

	assert_int_equal(uiommu_ioas_reserve(ioas, from(4 * GIB, PAGE), UIOMMU_RESV_RESERVED, ioas,
					     "behind them"),
			 0);
	assert_int_equal(create(0, GIB - 1, &places), 0);
	assert_int_equal(create(GIB + PAGE, 2 * GIB - 1, &second), 0);
	/* Nobody is placed there; at a given address everybody may map. */
	assert_int_equal(uiommu_ioas_map_anywhere(ioas, &place, 0, RW, NULL, &iova), 0);
	assert_int_equal(iova, GIB);
	assert_int_equal(uiommu_ioas_find_place(ioas, &place, 0, RW, &range), 0);
	assert_int_equal(range.first, 2 * GIB);
	assert_int_equal(uiommu_ioas_map(ioas, from(PAGE, PAGE), 0, RW, NULL), 0);
	place.within = (struct uiommu_range){GIB + MIB, 2 * GIB - 1};
	refused(uiommu_ioas_map_anywhere(ioas, &place, 0, RW, NULL, &iova), -ENOSPC,
		UIOMMU_RULE_NO_ROOM, NULL);
	place.within = (struct uiommu_range){GIB - MIB, GIB + PAGE - 1};
	place.length = 2 * PAGE;
	refused(uiommu_ioas_map_anywhere(ioas, &place, 0, RW, NULL, &iova), -ENOSPC,
		UIOMMU_RULE_NO_ROOM, "an existing mapping");
	assert_int_equal(uiommu_ioas_unmap(ioas, from(GIB, PAGE), NULL, NULL, NULL), 0);
	refused(uiommu_ioas_map_anywhere(ioas, &place, 0, RW, NULL, &iova), -ENOSPC,
		UIOMMU_RULE_NO_ROOM, "a driver");
	/* Doorbells neither. */
	assert_int_equal(uiommu_ioas_place_doorbells(ioas, &doorbells), 0);
	assert_int_equal(uiommu_ioas_map_doorbell(ioas, 0xfee00000, "a doorbell", &iova), 1);
	assert_int_equal(iova, 2 * GIB);
	uiommu_ioas_unmap_doorbell(ioas, 0xfee00000);
	uiommu_places_destroy(second);
}

static void test_create(void **state)
{
	struct uiommu_places_options options = {.size = sizeof(options), .name = "p"};
	const struct uiommu_range allowed[] = {{GIB, 3 * GIB - 1}, {5 * GIB, 6 * GIB + 100}};
	struct uiommu_range list[4];
	struct uiommu_places *other;
	size_t count = 1;
	int owner = 0;

	assert_int_equal(uiommu_ioas_reserve(ioas, from(2 * GIB, MIB + PAGE), UIOMMU_RESV_MSI,
					     &owner, "the platform"),
			 0);
	/* Holes are left out, and what is no whole granule. */
	options.within = (struct uiommu_range){0, 4 * GIB - 1};
	options.granule = 16 * PAGE;
	assert_int_equal(uiommu_places_create(ioas, &options, &places), 0);
	assert_int_equal(uiommu_places_ranges(places, list, &count), -EMSGSIZE);
	assert_int_equal(count, 2);
	assert_int_equal(uiommu_places_ranges(places, list, &count), 0);
	assert_int_equal(list[0].first, 16 * PAGE);
	assert_int_equal(list[0].last, 2 * GIB - 1);
	assert_int_equal(list[1].first, 2 * GIB + MIB + 16 * PAGE);
	assert_int_equal(list[1].last, 4 * GIB - 1);
	assert_int_equal(create(4 * GIB - 1, 5 * GIB, &other), 0);
	uiommu_places_destroy(other);
	refused(create(4 * GIB - PAGE, 5 * GIB, &other), -EADDRINUSE, UIOMMU_RULE_OVERLAP, "p");
	uiommu_places_destroy(places);
	/* All or nothing. */
	options.whole = true;
	options.within.first = GIB;
	refused(uiommu_places_create(ioas, &options, &places), -ENOSPC, UIOMMU_RULE_NO_ROOM,
		"the platform");
	options.within.last = 2 * GIB - 1;
	assert_int_equal(uiommu_places_create(ioas, &options, &places), 0);
	uiommu_places_destroy(places);
	places = NULL;
	options.within = (struct uiommu_range){0, GIB - 1};
	refused(uiommu_places_create(ioas, &options, &places), -ENOSPC, UIOMMU_RULE_NO_ROOM, NULL);
	options.whole = false;
	options.within = from(2 * GIB + PAGE, PAGE);
	refused(uiommu_places_create(ioas, &options, &places), -ENOSPC, UIOMMU_RULE_NO_ROOM,
		"the platform");
	/* Only what is allowed. */
	uiommu_ioas_unreserve(ioas, &owner);
	assert_int_equal(uiommu_ioas_allow(ioas, allowed, 2), 0);
	assert_int_equal(create(0, 0, &places), 0);
	count = 4;
	assert_int_equal(uiommu_places_ranges(places, list, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(list[1].last, 6 * GIB - 1);
	uiommu_places_destroy(places);
	places = NULL;
	/* Something is mapped there. */
	assert_int_equal(uiommu_ioas_map(ioas, from(5 * GIB, PAGE), 0, RW, NULL), 0);
	refused(create(4 * GIB, 8 * GIB, &places), -EADDRINUSE, UIOMMU_RULE_OVERLAP,
		"an existing mapping");
	places = NULL;
}

static void test_options(void **state)
{
	static const struct {
		size_t size;
		struct uiommu_range within;
		uint64_t granule;
		int error;
		enum uiommu_rule rule;
	} bad[] = {
		{0, {0, 0}, 0, -EINVAL, UIOMMU_RULE_ARGUMENT},
		{8, {0, 0}, 0, -EINVAL, UIOMMU_RULE_ARGUMENT},
		{1000, {0, 0}, 0, -E2BIG, UIOMMU_RULE_ARGUMENT},
		{0xffff, {2, 1}, 0, -EINVAL, UIOMMU_RULE_ARGUMENT},
		{0xffff, {0, 0}, 3 * PAGE, -EINVAL, UIOMMU_RULE_ARGUMENT},
		{0xffff, {0, 0}, PAGE / 2, -EINVAL, UIOMMU_RULE_ARGUMENT},
		{0xffff, {0, 0}, PAGE, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{0xffff, {0, PAGE - 1}, 0, -ENOSPC, UIOMMU_RULE_NO_ROOM},
		{0xffff, {UINT64_MAX - PAGE + 1, UINT64_MAX}, 0, -ENOSPC, UIOMMU_RULE_NO_ROOM},
		{0xffff, {GIB, GIB}, 0, -ENOSPC, UIOMMU_RULE_NO_ROOM},
		{0xffff, {0, 0}, UINT64_C(1) << 63, -ENOSPC, UIOMMU_RULE_NO_ROOM},
	};
	struct {
		struct uiommu_places_options options;
		char more[1024];
	} longer;

	assert_int_equal(uiommu_ioas_align(ioas, 2 * PAGE), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&longer, 1, sizeof(longer));
		longer.options = (struct uiommu_places_options){
			.size = bad[i].size == 0xffff ? sizeof(longer.options) : bad[i].size,
			.within = bad[i].within,
			.granule = bad[i].granule,
		};
		refused(uiommu_places_create(ioas, &longer.options, &places), bad[i].error,
			bad[i].rule, NULL);
	}
	longer.options.granule /= 2;
	assert_int_equal(uiommu_places_create(ioas, &longer.options, &places), 0);
	uiommu_places_destroy(places);
	/* By itself the granule is the IOAS' alignment. */
	assert_int_equal(uiommu_places_create(ioas, NULL, &places), 0);
	refused(uiommu_places_give(places, from(PAGE, PAGE)), -EINVAL, UIOMMU_RULE_ALIGNMENT, NULL);
}

/* ---- ranges ---- */

static void test_arguments(void **state)
{
	uint64_t iova = 77, at[3];
	const struct uiommu_range bad[] = {
		{1, 0}, {UINT64_MAX, 0}, {PAGE, PAGE - 1}, {2 * PAGE, PAGE - 1}, {GIB, GIB}};
	struct uiommu_places_state query = {.size = sizeof(query) - 1};

	assert_int_equal(create(GIB, 2 * GIB - 1, &places), 0);
	refused(uiommu_places_take(places, PAGE, 3, &iova), -EINVAL, UIOMMU_RULE_ARGUMENT, NULL);
	refused(uiommu_places_take(places, PAGE, 3 * PAGE, &iova), -EINVAL, UIOMMU_RULE_ARGUMENT,
		NULL);
	refused(uiommu_places_take(places, 0, 0, &iova), -EINVAL, UIOMMU_RULE_EMPTY, NULL);
	refused(uiommu_places_take(places, PAGE + 1, 0, &iova), -EINVAL, UIOMMU_RULE_ALIGNMENT,
		NULL);
	refused(uiommu_places_take(places, UINT64_MAX, 0, &iova), -EINVAL, UIOMMU_RULE_ALIGNMENT,
		NULL);
	refused(uiommu_places_take(places, -PAGE, 0, &iova), -ENOSPC, UIOMMU_RULE_NO_ROOM, NULL);
	refused(uiommu_places_take(places, PAGE, UINT64_C(1) << 63, &iova), -ENOSPC,
		UIOMMU_RULE_NO_ROOM, "the longest run is not so aligned");
	assert_int_equal(iova, 77);
	refused(uiommu_places_give(places, from(GIB, PAGE)), -EINVAL, UIOMMU_RULE_ORDER, NULL);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(uiommu_places_take(places, 4 * PAGE, 0, &at[i]), 0);
	assert_int_equal(at[1], at[0] + 4 * PAGE);
	/* Parts, more than one, elsewhere; in all orders of what may be in the magazine. */
	for (unsigned i = 0; i < 3; i++) {
		refused(uiommu_places_give(places, from(at[1], PAGE)), -EINVAL, UIOMMU_RULE_ORDER,
			"no range that is taken");
		refused(uiommu_places_give(places, from(at[1] + PAGE, 3 * PAGE)), -EINVAL,
			UIOMMU_RULE_ORDER, NULL);
		refused(uiommu_places_give(places, from(at[1], 8 * PAGE)), -EINVAL,
			UIOMMU_RULE_ORDER, NULL);
		refused(uiommu_places_give(places, from(at[0], 12 * PAGE)), -EINVAL,
			UIOMMU_RULE_ORDER, NULL);
		refused(uiommu_places_give(places, from(at[0] + GIB, 4 * PAGE)), -EINVAL,
			UIOMMU_RULE_ORDER, NULL);
		refused(uiommu_places_give(places, from(at[0], 4 * PAGE - 1)), -EINVAL,
			UIOMMU_RULE_ALIGNMENT, NULL);
		refused(uiommu_places_give(places, (struct uiommu_range){0, UINT64_MAX}), -EINVAL,
			UIOMMU_RULE_ORDER, NULL);
		assert_int_equal(uiommu_places_give(places, from(at[i], 4 * PAGE)), 0);
		refused(uiommu_places_give(places, from(at[i], 4 * PAGE)), -EINVAL,
			UIOMMU_RULE_ORDER, NULL);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(uiommu_places_give(places, bad[i]), -EINVAL);
		assert_int_equal(uiommu_places_give_list(places, &bad[i], 1), 0);
	}
	refused(uiommu_places_query(places, &query), -EINVAL, UIOMMU_RULE_ARGUMENT, NULL);
	query.size = sizeof(query);
	assert_int_equal(uiommu_places_query(places, &query), 0);
	assert_int_equal(query.total, GIB);
	assert_int_equal(query.free, GIB);
	assert_int_equal(query.taken, 0);
	assert_int_equal(query.longest.first, GIB);
	assert_int_equal(query.longest.last, 2 * GIB - 1);
}

static void test_alignment(void **state)
{
	uint64_t iova, odd;

	assert_int_equal(create(GIB, 2 * GIB - 1, &places), 0);
	assert_int_equal(uiommu_places_take(places, PAGE, PAGE / 2, &iova), 0);
	for (uint64_t alignment = PAGE; alignment <= GIB / 2; alignment *= 2)
		for (uint64_t length = PAGE; length <= 8 * MIB; length *= 8) {
			assert_int_equal(uiommu_places_take(places, length, alignment, &iova), 0);
			assert_int_equal(iova % alignment, 0);
			assert_int_equal(uiommu_places_give(places, from(iova, length)), 0);
		}
	/* The magazine has one that is aligned beneath one that isn't, or none. */
	assert_int_equal(uiommu_places_take(places, 2 * PAGE, 4 * PAGE, &iova), 0);
	assert_int_equal(uiommu_places_take(places, 2 * PAGE, 0, &odd), 0);
	while (odd % (4 * PAGE) == 0)
		assert_int_equal(uiommu_places_take(places, 2 * PAGE, 0, &odd), 0);
	assert_int_equal(uiommu_places_give(places, from(iova, 2 * PAGE)), 0);
	assert_int_equal(uiommu_places_give(places, from(odd, 2 * PAGE)), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(uiommu_places_take(places, 2 * PAGE, 4 * PAGE, &iova), 0);
		assert_int_equal(iova % (4 * PAGE), 0);
	}
	assert_int_equal(uiommu_places_take(places, 2 * PAGE, 0, &iova), 0);
	assert_int_equal(iova, odd);
}

static void test_no_room(void **state)
{
	const struct uiommu_refusal *r = uiommu_last_refusal();
	struct uiommu_places_state query = {.size = sizeof(query)};
	uint64_t iova, first;

	assert_int_equal(create(GIB, GIB + 64 * MIB - 1, &places), 0);
	assert_int_equal(uiommu_places_take(places, 64 * MIB, 0, &iova), 0);
	refused(uiommu_places_take(places, PAGE, 0, &first), -ENOSPC, UIOMMU_RULE_NO_ROOM,
		"everything is taken");
	assert_int_equal(uiommu_places_query(places, &query), 0);
	assert_true(query.longest.first > query.longest.last);
	assert_int_equal(query.free, 0);
	assert_int_equal(query.taken, 1);
	assert_int_equal(uiommu_places_give(places, from(iova, 64 * MIB)), 0);
	/* All of it in single pages, then some neighbours back: by magazines, blocks and across
	 * blocks. */
	for (uint64_t i = 0; i < 64 * MIB / PAGE; i++)
		assert_int_equal(uiommu_places_take(places, PAGE, 0, &iova), 0);
	assert_int_equal(uiommu_places_take(places, PAGE, 0, &iova), -ENOSPC);
	first = GIB + 4 * MIB - 300 * PAGE;
	for (uint64_t i = 0; i < 700; i++)
		assert_int_equal(uiommu_places_give(places, from(first + i * PAGE, PAGE)), 0);
	assert_int_equal(uiommu_places_take(places, 701 * PAGE, 0, &iova), -ENOSPC);
	assert_int_equal(r->asked.first, first);
	assert_int_equal(r->asked.last, first + 701 * PAGE - 1);
	assert_int_equal(r->blocking.first, first + 700 * PAGE);
	assert_int_equal(r->blocking.last, first + 701 * PAGE - 1);
	assert_int_equal(uiommu_places_take(places, 700 * PAGE, 0, &iova), 0);
	assert_int_equal(iova, first);
	assert_int_equal(uiommu_places_take(places, PAGE, 0, &iova), -ENOSPC);
	assert_int_equal(uiommu_places_give(places, from(first, 700 * PAGE)), 0);
	assert_int_equal(uiommu_places_take(places, PAGE, 0, &iova), 0);
}

/* ---- against a model ---- */

#define UNITS 30000
#define HELD  4000

static unsigned char owned[UNITS];
static struct uiommu_range held[HELD];
static size_t held_count;

static void note(struct uiommu_range r, unsigned char was)
{
	for (uint64_t u = r.first / PAGE; u <= r.last / PAGE; u++) {
		assert_true(u < UNITS);
		if (owned[u] != was)
			fail_msg("page 0x%llx", (unsigned long long)u);
		owned[u] = !was;
	}
}

static uint64_t longest_run(void)
{
	uint64_t longest = 0, n = 0;

	for (uint64_t u = 0; u < UNITS; u++) {
		n = owned[u] ? 0 : n + 1;
		longest = n > longest ? n : longest;
	}
	return longest;
}

static void step_take(struct rng *rng)
{
	uint64_t length = (1 + rng_below(rng, rng_below(rng, 20) ? 70 : 3000)) * PAGE, iova;
	uint64_t alignment = rng_below(rng, 4) ? 0 : PAGE << rng_below(rng, 8);
	int ret;

	if (held_count == HELD)
		return;
	ret = uiommu_places_take(places, length, alignment, &iova);
	if (ret == -ENOSPC) {
		assert_true(alignment || longest_run() < length / PAGE);
		return;
	}
	assert_int_equal(ret, 0);
	assert_true(!alignment || iova % alignment == 0);
	held[held_count] = from(iova, length);
	note(held[held_count++], 0);
}

static void step_give(struct rng *rng)
{
	struct uiommu_range list[32];
	size_t n = 0, most = 1 + rng_below(rng, 32);

	for (; n < most && held_count; n++) {
		struct uiommu_range *r = &held[rng_below(rng, held_count)];

		list[n] = *r;
		note(*r, 1);
		*r = held[--held_count];
	}
	if (rng_below(rng, 2)) {
		assert_int_equal(uiommu_places_give_list(places, list, n), n);
	} else {
		for (size_t i = 0; i < n; i++)
			assert_int_equal(uiommu_places_give(places, list[i]), 0);
	}
	/* A list ends at the first that is wrong. */
	list[n / 2] = list[0];
	if (n)
		assert_int_equal(uiommu_places_give_list(places, list, n), 0);
}

static void test_model(void **state)
{
	struct uiommu_places_state query = {.size = sizeof(query)};
	struct rng rng = rng_seeded("places");
	uint64_t steps = test_steps(30000);
	int owner = 0;

	/* Two holes. */
	memset(owned, 1, sizeof(owned));
	held_count = 0;
	assert_int_equal(uiommu_ioas_reserve(ioas, from(5000 * PAGE, 700 * PAGE),
					     UIOMMU_RESV_RESERVED, &owner, "a hole"),
			 0);
	assert_int_equal(uiommu_ioas_reserve(ioas, from(7000 * PAGE, 100 * PAGE),
					     UIOMMU_RESV_RESERVED, &owner, "a hole"),
			 0);
	memset(owned + 10, 0, UNITS - 20);
	memset(owned + 5000, 1, 700);
	memset(owned + 7000, 1, 100);
	assert_int_equal(create(10 * PAGE, (UNITS - 10) * PAGE - 1, &places), 0);
	for (uint64_t i = 0; i < steps; i++) {
		if (rng_below(&rng, 100) < (i / 4000 % 2 ? 93 : 98))
			step_take(&rng);
		else
			step_give(&rng);
		if (i % 300)
			continue;
		assert_int_equal(uiommu_places_query(places, &query), 0);
		assert_int_equal(query.taken, held_count);
		assert_int_equal((query.longest.last + 1 - query.longest.first) / PAGE,
				 longest_run());
	}
	while (held_count)
		assert_int_equal(uiommu_places_give(places, held[--held_count]), 0);
	assert_int_equal(uiommu_places_query(places, &query), 0);
	assert_int_equal(query.free, query.total);
	assert_int_equal(query.total, (UNITS - 820) * PAGE);
}

/* ---- with mappings ---- */

/* What a driver does with it: take, map in a batch, device's access, unmap, give back. */
static void test_map(void **state)
{
	enum { COUNT = 64 };

	struct uiommu_range list[COUNT];
	struct uiommu_op ops[COUNT];
	struct uiommu_domain *domain;
	struct uiommu_port *port;
	char *memory = aligned_alloc(PAGE, COUNT * PAGE), byte;

	memset(memory, 0, COUNT * PAGE);
	assert_int_equal(uiommu_domain_create(unit, ioas, &vtd, &domain), 0);
	assert_int_equal(uiommu_domain_attach(domain, 8, NULL, 0, "device"), 0);
	assert_int_equal(uiommu_port_create(unit, 8, &port), 0);
	uiommu_port_set_master(port, true);
	assert_int_equal(create(0, 0, &places), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < COUNT; i++) {
			assert_int_equal(uiommu_places_take(places, PAGE, 0, &list[i].first), 0);
			list[i] = from(list[i].first, PAGE);
			memory[i * PAGE] = (char)(i + round);
			ops[i] = (struct uiommu_op){.kind = UIOMMU_OP_MAP,
						    .prot = RW,
						    .ioas = ioas,
						    .range = list[i],
						    .addr = (uintptr_t)memory + i * PAGE};
		}
		assert_int_equal(uiommu_batch_submit(ops, COUNT, NULL), 0);
		for (unsigned i = 0; i < COUNT; i++) {
			assert_int_equal(uiommu_port_read(port, list[i].first, &byte, 1), 0);
			assert_int_equal(byte, i + round);
			ops[i].kind = UIOMMU_OP_UNMAP;
		}
		assert_int_equal(uiommu_batch_submit(ops, COUNT, NULL), 0);
		assert_int_equal(uiommu_places_give_list(places, list, COUNT), COUNT);
	}
	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, 8);
	uiommu_domain_destroy(domain);
	free(memory);
}

/* ---- failing ---- */

static void test_no_memory(void **state)
{
	unsigned failures = 0;
	uint64_t iova;
	int ret = -ENOMEM;

	teardown(state);
	uiommu_set_allocator(failing_alloc, failing_release);
	setup(state);
	for (long n = 0; ret; n++) {
		long live = fail_live;

		fail_countdown = n;
		ret = create(GIB, GIB + 512 * MIB - 1, &places);
		fail_countdown = -1;
		assert_true(!ret || (ret == -ENOMEM && fail_live == live));
		failures += ret == -ENOMEM;
	}
	assert_in_range(failures, 4, 20);
	held_count = 0;
	for (uint64_t i = 0; i < 3000; i++) {
		uint64_t length = (1 + i % 97) * PAGE;

		ret = -ENOMEM;
		for (long n = 0; ret; n++) {
			fail_countdown = n;
			ret = uiommu_places_take(places, length, 0, &iova);
			fail_countdown = -1;
			assert_true(!ret || ret == -ENOMEM || ret == -ENOSPC);
			failures += ret == -ENOMEM;
			/* Giving back needs none; magazines are done without. */
			fail_countdown = i % 3 ? -1 : 0;
			while (held_count > (ret == -ENOSPC ? 0 : 1500))
				assert_int_equal(uiommu_places_give(places, held[--held_count]), 0);
			fail_countdown = -1;
		}
		held[held_count++] = from(iova, length);
	}
	assert_true(failures > 8);
	uiommu_places_destroy(places);
	places = NULL;
	teardown(state);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
	setup(state);
}

/* ---- threads ---- */

#define THREADS 3

/* Each its own places, made and destroyed while the others' are in use. */
static void *worker(void *arg)
{
	uint64_t base = GIB + (uintptr_t)arg * GIB;
	struct rng rng = {.state = (uintptr_t)arg};

	for (unsigned round = 0; round < 30; round++) {
		struct uiommu_range mine[16] = {{0, 0}};
		struct uiommu_places *own;

		if (create(base, base + GIB - 1, &own))
			fail_msg("no places");
		for (unsigned i = 0; i < 300; i++) {
			struct uiommu_range *r = &mine[rng_below(&rng, 16)];
			uint64_t length = (1 + rng_below(&rng, 100)) * PAGE;

			if (r->last) {
				if (uiommu_ioas_unmap(ioas, *r, NULL, NULL, NULL) ||
				    uiommu_places_give(own, *r))
					fail_msg("not given back");
				r->last = 0;
				continue;
			}
			if (uiommu_places_take(own, length, 0, &r->first))
				fail_msg("nothing to take");
			r->last = r->first + length - 1;
			if (r->first < base || r->last >= base + GIB ||
			    uiommu_ioas_map(ioas, *r, 0, RW, NULL))
				fail_msg("not mapped");
		}
		uiommu_ioas_unmap(ioas, (struct uiommu_range){base, base + GIB - 1}, NULL, NULL,
				  NULL);
		uiommu_places_destroy(own);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct uiommu_place place = {.size = sizeof(place), .length = PAGE};
	pthread_t threads[THREADS];
	uint64_t iova;

	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, worker, (void *)i), 0);
	for (unsigned i = 0; i < 500; i++) {
		place.within = (struct uiommu_range){0, GIB - 1};
		assert_int_equal(uiommu_ioas_map_anywhere(ioas, &place, 0, RW, NULL, &iova), 0);
		assert_int_equal(iova, PAGE);
		assert_int_equal(uiommu_ioas_unmap(ioas, from(iova, PAGE), NULL, NULL, NULL), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_promise),   TEST(test_elsewhere), TEST(test_create),	TEST(test_options),
		TEST(test_arguments), TEST(test_alignment), TEST(test_no_room), TEST(test_model),
		TEST(test_map),	      TEST(test_no_memory), TEST(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
