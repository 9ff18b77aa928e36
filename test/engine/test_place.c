/* SPDX-License-Identifier: MIT */
/*
 * Choosing IOVAs: the order in which a real kernel was seen to hand them out, the rule for
 * alignment, allowed and reserved ranges, what is said when there is no room; batches; and random
 * operations against a search that steps from one obstacle to the next and must come to the same
 * addresses.
 */
#include "../check.h"

#include <errno.h>

#include <uiommu/space.h>

#define PAGE UINT64_C(4096)
#define MIB  (UINT64_C(1) << 20)
#define GIB  (UINT64_C(1) << 30)
#define RW   (UIOMMU_READ | UIOMMU_WRITE)

static const struct uiommu_domain_options vtd = {
	.size = sizeof(vtd), .format = "vtd-ss", .width = 48, .name = "vtd"};

static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;

static int setup(void **state)
{
	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	return 0;
}

static int teardown(void **state)
{
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	return 0;
}

static struct uiommu_place place_of(uint64_t length)
{
	return (struct uiommu_place){.size = sizeof(struct uiommu_place), .length = length};
}

/* Where it comes to lie, which is where it was said that it would; a negative error as a huge
 * address. */
static uint64_t put(uint64_t addr, uint64_t length)
{
	const struct uiommu_place place = place_of(length);
	struct uiommu_range range = {0, 0};
	uint64_t iova = 0;
	int found = uiommu_ioas_find_place(ioas, &place, addr, RW, &range);
	int ret = uiommu_ioas_map_anywhere(ioas, &place, addr, RW, NULL, &iova);

	/* Only mapping takes memory. */
	if (ret != -ENOMEM)
		assert_int_equal(found, ret);
	if (!ret) {
		assert_int_equal(range.first, iova);
		assert_int_equal(range.last, iova + (length - 1));
	}
	return ret ? (uint64_t)(int64_t)ret : iova;
}

static void unmap(uint64_t iova, uint64_t length)
{
	const struct uiommu_range range = {iova, iova + length - 1};
	uint64_t bytes;

	assert_int_equal(uiommu_ioas_unmap(ioas, range, &bytes, NULL, NULL), 0);
	assert_int_equal(bytes, length);
}

static void test_order(void **state)
{
	struct uiommu_place beyond = place_of(PAGE);
	struct uiommu_domain *domain;
	uint64_t iova;

	/* The kernel's. */
	assert_int_equal(put(0x7f0000000000, PAGE), 0x1000);
	assert_int_equal(put(0x7f0000000000, PAGE), 0x2000);
	assert_int_equal(put(0x7f0000000000, 16 * PAGE), 0x10000);
	assert_int_equal(put(0x7f0000000000, PAGE), 0x3000);
	unmap(0x1000, PAGE);
	assert_int_equal(put(0x7f0000000000, PAGE), 0x1000);
	unmap(0x2000, PAGE);
	unmap(0x3000, PAGE);
	/* 8 KiB want 8 KiB, but memory at an odd page wants less. */
	assert_int_equal(put(0x7f0000001000, 2 * PAGE), 0x2000);
	unmap(0x2000, 2 * PAGE);
	unmap(0x1000, PAGE);
	assert_int_equal(put(0x7f0000001000, 2 * PAGE), 0x1000);
	assert_int_equal(put(0x7f0000002000, 2 * PAGE), 0x4000);
	/* Memory at 0 is as aligned as anything; no more than 2 MiB is asked for. */
	assert_int_equal(put(0, 3 * MIB), 2 * MIB);
	assert_int_equal(put(0, 5 * MIB), 6 * MIB);
	assert_int_equal(put(GIB, 512 * PAGE), 12 * MIB);
	/* A domain that comes later makes the space narrower, while it is there. */
	beyond.within = (struct uiommu_range){UINT64_C(1) << 48, UINT64_MAX};
	assert_int_equal(uiommu_ioas_map_anywhere(ioas, &beyond, 0, RW, NULL, &iova), 0);
	assert_int_equal(iova, UINT64_C(1) << 48);
	assert_int_equal(uiommu_domain_create(unit, ioas, &vtd, &domain), -EADDRINUSE);
	unmap(iova, PAGE);
	assert_int_equal(uiommu_domain_create(unit, ioas, &vtd, &domain), 0);
	assert_int_equal(put(0x7f0000000000, PAGE), 0x3000);
	assert_int_equal(uiommu_ioas_map_anywhere(ioas, &beyond, 0, RW, NULL, &iova), -ENOSPC);
	assert_string_equal(uiommu_last_refusal()->owner, "vtd");
	assert_int_equal(uiommu_last_refusal()->blocking.first, UINT64_C(1) << 48);
	uiommu_domain_destroy(domain);
}

static void test_offset(void **state)
{
	/* Without a domain there is no page; the offset in it is kept where a page begins. */
	assert_int_equal(put(0x7f0000000234, 0x100), 0x1234);
	assert_int_equal(put(0x7f0000000800, 0x800), 0x1800);
	assert_int_equal(put(0x7f0000000000, 1), 0x1000);
}

static void test_arguments(void **state)
{
	struct uiommu_place place = place_of(PAGE);
	struct uiommu_domain *domain;
	uint64_t iova = 77;
	static const struct {
		size_t size;
		uint64_t length, alignment, addr;
		struct uiommu_range within;
		int prot, error;
		enum uiommu_rule rule;
	} bad[] = {
		{0, PAGE, 0, 0, {0, 0}, RW, -EINVAL, UIOMMU_RULE_ARGUMENT},
		{1000, PAGE, 0, 0, {0, 0}, RW, -E2BIG, UIOMMU_RULE_ARGUMENT},
		{0xffff, PAGE, 3, 0, {0, 0}, RW, -EINVAL, UIOMMU_RULE_ARGUMENT},
		{0xffff, PAGE, 0, 0, {2, 1}, RW, -EINVAL, UIOMMU_RULE_ARGUMENT},
		{0xffff, UINT64_MAX, 0, 0, {0, 0}, RW, -EOVERFLOW, UIOMMU_RULE_WRAP},
		{0xffff, INT64_MAX, 0, 0, {0, 0}, RW, -EOVERFLOW, UIOMMU_RULE_WRAP},
		{0xffff, PAGE, 0, 0, {0, 0}, 0, -EINVAL, UIOMMU_RULE_PERMISSION},
		{0xffff, 0, 0, 0, {0, 0}, RW, -EINVAL, UIOMMU_RULE_EMPTY},
		{0xffff, 100, 0, 0, {0, 0}, RW, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{0xffff, PAGE, 0, 100, {0, 0}, RW, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{0xffff, PAGE, 0, -PAGE, {0, 0}, RW, -EOVERFLOW, UIOMMU_RULE_WRAP},
		{0xffff, PAGE, 0, 0, {0, 0xfff}, RW, -ENOSPC, UIOMMU_RULE_NO_ROOM},
	};
	struct {
		struct uiommu_place place;
		char more[1024];
	} longer;

	assert_int_equal(uiommu_domain_create(unit, ioas, &vtd, &domain), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&longer, 1, sizeof(longer));
		longer.place = (struct uiommu_place){
			.size = bad[i].size == 0xffff ? sizeof(place) : bad[i].size,
			.length = bad[i].length,
			.alignment = bad[i].alignment,
			.within = bad[i].within,
		};
		if (uiommu_ioas_map_anywhere(ioas, &longer.place, bad[i].addr, bad[i].prot, NULL,
					     &iova) != bad[i].error ||
		    uiommu_last_refusal()->rule != bad[i].rule)
			fail_msg("case %zu: %d by rule %s", i, uiommu_last_refusal()->error,
				 uiommu_rule_name(uiommu_last_refusal()->rule));
	}
	assert_int_equal(iova, 77);
	place.alignment = GIB;
	assert_int_equal(uiommu_ioas_map_anywhere(ioas, &place, PAGE, RW, NULL, &iova), 0);
	assert_int_equal(iova, GIB);
	place.alignment = 1; /* not less than the domain's page */
	place.within = (struct uiommu_range){GIB - 1, 2 * GIB};
	assert_int_equal(uiommu_ioas_map_anywhere(ioas, &place, PAGE, RW, NULL, &iova), 0);
	assert_int_equal(iova, GIB + PAGE);
	uiommu_domain_destroy(domain);
}

static void expect_no_room(uint64_t length, const char *owner, uint64_t first, uint64_t last)
{
	const struct uiommu_refusal *r = uiommu_last_refusal();
	char text[512];

	assert_int_equal(put(0, length), -ENOSPC);
	uiommu_refusal_format(r, text, sizeof(text));
	assert_int_equal(r->rule, UIOMMU_RULE_NO_ROOM);
	if (strcmp(r->owner, owner) || r->blocking.first != first || r->blocking.last != last)
		fail_msg("%s", text);
	assert_non_null(strstr(text, owner));
	assert_non_null(strstr(text, "no-room"));
}

static void test_ranges(void **state)
{
	/* Adjoining ones are one. */
	const struct uiommu_range allowed[] = {
		{GIB, GIB + 3 * PAGE - 1}, {0, PAGE - 1}, {GIB + 3 * PAGE, GIB + 8 * PAGE - 1}};
	const struct uiommu_range fixed = {GIB + 4 * PAGE, GIB + 5 * PAGE - 1};
	int owner = 0;

	assert_int_equal(uiommu_ioas_reserve(ioas, (struct uiommu_range){0x3000, 0x4fff},
					     UIOMMU_RESV_RESERVED, &owner, "the firmware"),
			 0);
	assert_int_equal(put(0, PAGE), 0x1000);
	assert_int_equal(put(0, PAGE), 0x2000);
	assert_int_equal(put(0, PAGE), 0x5000);
	/* Page 0 is never handed out, though it is allowed. */
	assert_int_equal(uiommu_ioas_allow(ioas, allowed, 3), 0);
	assert_int_equal(put(0, 4 * PAGE), GIB);
	assert_int_equal(uiommu_ioas_map(ioas, fixed, 0, RW, NULL), 0);
	assert_int_equal(put(0, 2 * PAGE), GIB + 6 * PAGE);
	expect_no_room(2 * PAGE, "an existing mapping", GIB, GIB + 4 * PAGE - 1);
	assert_int_equal(put(0, PAGE), GIB + 5 * PAGE);
	expect_no_room(PAGE, "an existing mapping", GIB, GIB + 4 * PAGE - 1);
	/* Larger than what is allowed, or than what is between two regions. */
	unmap(GIB, 4 * PAGE);
	assert_int_equal(uiommu_ioas_allow(ioas, allowed, 2), 0);
	unmap(GIB + 4 * PAGE, 4 * PAGE);
	expect_no_room(8 * PAGE, "outside of where to look", GIB + 3 * PAGE, GIB + 8 * PAGE - 1);
	assert_int_equal(uiommu_ioas_allow(ioas, NULL, 0), 0);
	assert_int_equal(uiommu_ioas_reserve(ioas, (struct uiommu_range){0x8000, UINT64_MAX},
					     UIOMMU_RESV_APERTURE, &owner, "a narrow one"),
			 0);
	expect_no_room(16 * PAGE, "an existing mapping", 0x5000, 0x5fff);
	unmap(0x5000, PAGE);
	expect_no_room(16 * PAGE, "a narrow one", 0x8000, UINT64_MAX);
	uiommu_ioas_unreserve(ioas, &owner);
	assert_int_equal(put(0, 16 * PAGE), 0x10000);
}

/* ---- batches ---- */

static void test_batch(void **state)
{
	const struct uiommu_place two = place_of(2 * PAGE), one = place_of(PAGE);
	struct uiommu_ioas *other;
	struct uiommu_batch *batch;
	uint64_t iova;

	assert_int_equal(uiommu_ioas_create(&other), 0);
	assert_int_equal(put(0, PAGE), 0x1000);

	struct uiommu_op ops[] = {
		{UIOMMU_OP_UNMAP, .ioas = ioas, .range = {0x1000, 0x1fff}},
		/* What leaves isn't free, not even for who takes it away. */
		{UIOMMU_OP_MAP, RW, ioas, .addr = 0x7000, .place = &one},
		{UIOMMU_OP_MAP, RW, ioas, .addr = 0x8000, .place = &two},
		/* The memory is at 0x9000, an odd page. */
		{UIOMMU_OP_COPY, RW, other, .source = ioas, .addr = 0x5000, .place = &one},
		{UIOMMU_OP_COPY, RW, other, .source = ioas, .addr = 0x5000, .place = &two},
		{UIOMMU_OP_COPY, RW, other, .source = ioas, .addr = 0x4000, .place = &two},
		{UIOMMU_OP_COPY, RW, other, .source = ioas, .addr = 0x1000, .place = &one},
		{UIOMMU_OP_MAP, 0, ioas, .addr = 0x8000, .place = &two},
	};
	static const struct {
		int status;
		struct uiommu_range range;
	} expect[] = {{0, {0x1000, 0x1fff}}, {0, {0x2000, 0x2fff}}, {0, {0x4000, 0x5fff}},
		      {0, {0x1000, 0x1fff}}, {-ENOENT, {1, 0}},	    {0, {0x2000, 0x3fff}},
		      {-ENOENT, {1, 0}},     {-EINVAL, {1, 0}}};

	assert_int_equal(uiommu_batch_open(NULL, &batch), 0);
	assert_int_equal(uiommu_batch_run(batch, ops, 8, NULL), 8);
	for (size_t i = 0; i < 8; i++)
		if (ops[i].status != expect[i].status ||
		    ops[i].range.first != expect[i].range.first ||
		    ops[i].range.last != expect[i].range.last)
			fail_msg("operation %zu: %d, 0x%llx", i, ops[i].status,
				 (unsigned long long)ops[i].range.first);
	/* Others neither. */
	assert_int_equal(put(0, PAGE), 0x3000);
	uiommu_batch_close(batch);
	assert_int_equal(put(0, PAGE), 0x1000);
	assert_int_equal(
		uiommu_ioas_copy_anywhere(other, &one, ioas, 0x4000, UIOMMU_READ, NULL, &iova), 0);
	assert_int_equal(iova, 0x4000);
	assert_int_equal(uiommu_ioas_copy_anywhere(other, &one, ioas, 0x9000, RW, NULL, &iova),
			 -ENOENT);
	uiommu_ioas_destroy(other);
}

/* ---- against a search that tries them all ---- */

#define OBSTACLES 4000

/* Everything that may be in the way, in no order. */
static struct obstacle {
	struct uiommu_range range;
	enum { MAPPED, LEAVING, RESERVED } what;
} obstacles[OBSTACLES];
static size_t obstacle_count;
static struct uiommu_range allow_list[4];
static size_t allow_count;

static const struct obstacle *in_the_way(uint64_t first, uint64_t length)
{
	for (size_t i = 0; i < obstacle_count; i++)
		if (obstacles[i].range.first <= first + (length - 1) &&
		    first <= obstacles[i].range.last)
			return &obstacles[i];
	return NULL;
}

static uint64_t naive_in(struct uiommu_range in, uint64_t length, uint64_t alignment)
{
	uint64_t at = (in.first + alignment - 1) & ~(alignment - 1);
	const struct obstacle *o;

	while (at <= in.last && in.last - at >= length - 1) {
		o = in_the_way(at, length);
		if (!o)
			return at;
		if (o->range.last > UINT64_MAX - alignment)
			break;
		at = (o->range.last + alignment) & ~(alignment - 1);
	}
	return -ENOSPC;
}

static uint64_t naive(uint64_t addr, uint64_t length)
{
	uint64_t alignment = PAGE, found;

	while (alignment < length && alignment < 2 * MIB && !(addr & alignment))
		alignment *= 2;
	if (!allow_count)
		return naive_in((struct uiommu_range){PAGE, UINT64_MAX - PAGE}, length, alignment);
	for (size_t i = 0; i < allow_count; i++) {
		found = naive_in(allow_list[i], length, alignment);
		if ((int64_t)found != -ENOSPC)
			return found;
	}
	return -ENOSPC;
}

static void add(uint64_t first, uint64_t length, int what)
{
	assert_true(obstacle_count < OBSTACLES);
	obstacles[obstacle_count].range = (struct uiommu_range){first, first + (length - 1)};
	obstacles[obstacle_count++].what = what;
}

static void step_place(struct rng *rng)
{
	uint64_t length = (1 + rng_below(rng, rng_below(rng, 3) ? 6 : 700)) * PAGE;
	uint64_t addr = (rng_below(rng, 64) << rng_below(rng, 11)) * PAGE, expected, at;

	if (obstacle_count > OBSTACLES - 100)
		return;
	expected = naive(addr, length);
	at = put(addr, length);
	if (at != expected)
		fail_msg("length 0x%llx of 0x%llx: 0x%llx, not 0x%llx", (unsigned long long)length,
			 (unsigned long long)addr, (unsigned long long)at,
			 (unsigned long long)expected);
	if ((int64_t)at != -ENOSPC)
		add(at, length, MAPPED);
}

static void step_fixed(struct rng *rng, uint64_t space)
{
	uint64_t first = rng_below(rng, space) * PAGE, length = (1 + rng_below(rng, 9)) * PAGE;
	const struct uiommu_range range = {first, first + length - 1};

	if (obstacle_count > OBSTACLES - 100 || in_the_way(first, length))
		return;
	assert_int_equal(uiommu_ioas_map(ioas, range, 0, RW, NULL), 0);
	add(first, length, MAPPED);
}

/* Unmap one, at once or in the open batch; a batch that is finished frees what it took. */
static void step_unmap(struct rng *rng, struct uiommu_batch *batch)
{
	struct obstacle *o = obstacle_count ? &obstacles[rng_below(rng, obstacle_count)] : NULL;
	struct uiommu_op op = {.kind = UIOMMU_OP_UNMAP, .ioas = ioas};

	if (!rng_below(rng, 20)) {
		uiommu_batch_finish(batch);
		for (size_t i = 0; i < obstacle_count;)
			if (obstacles[i].what == LEAVING)
				obstacles[i] = obstacles[--obstacle_count];
			else
				i++;
	} else if (o && o->what == LEAVING && obstacle_count < OBSTACLES - 100) {
		/* The batch takes its IOVAs over; what it doesn't take stays leaving. */
		uint64_t pages = (o->range.last - o->range.first + 1) / PAGE, last = o->range.last;

		op.kind = UIOMMU_OP_MAP;
		op.prot = RW;
		op.range.first = o->range.first;
		op.range.last = o->range.first + (1 + rng_below(rng, pages)) * PAGE - 1;
		uiommu_batch_run(batch, &op, 1, NULL);
		assert_int_equal(op.status, 0);
		*o = (struct obstacle){op.range, MAPPED};
		if (op.range.last != last)
			add(op.range.last + 1, last - op.range.last, LEAVING);
	} else if (o && o->what == MAPPED && rng_below(rng, 4)) {
		unmap(o->range.first, o->range.last - o->range.first + 1);
		*o = obstacles[--obstacle_count];
	} else if (o && o->what == MAPPED) {
		op.range = o->range;
		uiommu_batch_run(batch, &op, 1, NULL);
		assert_int_equal(op.status, 0);
		o->what = LEAVING;
	}
}

/* Take a range out of what is mapped, cutting; and perhaps map it anew. */
static void step_cut(struct rng *rng, uint64_t space)
{
	uint64_t first = rng_below(rng, space) * PAGE, length = (1 + rng_below(rng, 30)) * PAGE;
	const struct uiommu_range cut = {first, first + length - 1};
	bool replace = rng_below(rng, 2);

	if (obstacle_count > OBSTACLES - 100 ||
	    (replace ? uiommu_ioas_replace(ioas, cut, first, RW, NULL, NULL, NULL)
		     : uiommu_ioas_clear(ioas, cut, NULL, NULL, NULL)))
		return;
	for (size_t i = 0; i < obstacle_count; i++) {
		struct obstacle *o = &obstacles[i], old = *o;

		if (old.what != MAPPED || old.range.first > cut.last || cut.first > old.range.last)
			continue;
		if (old.range.last > cut.last)
			add(cut.last + 1, old.range.last - cut.last, MAPPED);
		if (old.range.first < cut.first)
			o->range.last = cut.first - 1;
		else
			*o = obstacles[--obstacle_count];
		i -= old.range.first >= cut.first;
	}
	if (replace)
		add(first, length, MAPPED);
}

static int owners[8];

static void step_reserve(struct rng *rng, uint64_t space)
{
	uint64_t first = rng_below(rng, space) * PAGE, length = (1 + rng_below(rng, 90)) * PAGE;
	const struct uiommu_range range = {first, first + length - 1};
	bool room = !in_the_way(first, length);

	for (size_t i = 0; i < allow_count; i++)
		room &= range.first > allow_list[i].last || range.last < allow_list[i].first;
	if (!rng_below(rng, 3)) {
		uiommu_ioas_unreserve(ioas, owners);
		for (size_t i = 0; i < obstacle_count;)
			if (obstacles[i].what == RESERVED)
				obstacles[i] = obstacles[--obstacle_count];
			else
				i++;
	} else if (room) {
		assert_int_equal(
			uiommu_ioas_reserve(ioas, range, UIOMMU_RESV_RESERVED, owners, "somebody"),
			0);
		add(first, length, RESERVED);
	}
}

static void step_allow(struct rng *rng, uint64_t space)
{
	struct uiommu_range list[4];
	uint64_t at = 1 + rng_below(rng, space / 8);
	size_t count = rng_below(rng, 4);

	for (size_t i = 0; i < count; i++) {
		list[i].first = at * PAGE;
		at += 1 + rng_below(rng, space / 5);
		list[i].last = at * PAGE - 1;
		at += 1 + rng_below(rng, 50);
		for (size_t o = 0; o < obstacle_count; o++)
			if (obstacles[o].what == RESERVED &&
			    obstacles[o].range.first <= list[i].last &&
			    list[i].first <= obstacles[o].range.last)
				return;
	}
	assert_int_equal(uiommu_ioas_allow(ioas, list, count), 0);
	memcpy(allow_list, list, sizeof(list));
	allow_count = count;
}

static void model_round(struct rng *rng, bool with_domain)
{
	uint64_t steps = test_steps(8000), space = 3000 + rng_below(rng, 40000);
	struct uiommu_domain *domain = NULL;
	struct uiommu_batch *batch;

	obstacle_count = allow_count = 0;
	assert_int_equal(uiommu_batch_open(NULL, &batch), 0);
	for (uint64_t i = 0; i < steps; i++) {
		unsigned grow = i / 2000 % 2 ? 3 : 7, what = rng_below(rng, 100);

		if (i == steps / 3 && with_domain) {
			assert_int_equal(uiommu_domain_create(unit, ioas, &vtd, &domain), 0);
			add(UINT64_C(1) << 48, -(UINT64_C(1) << 48), MAPPED + RESERVED + 1);
		}
		if (what < 2)
			step_reserve(rng, space);
		else if (what < 3)
			step_allow(rng, space);
		else if (what < 10)
			step_fixed(rng, space);
		else if (what < 15)
			step_cut(rng, space);
		else if (rng_below(rng, 10) < grow)
			step_place(rng);
		else
			step_unmap(rng, batch);
	}
	uiommu_batch_close(batch);
	uiommu_domain_destroy(domain);
}

static void test_model(void **state)
{
	struct rng rng = rng_seeded("place");

	for (unsigned round = 0; round < 6; round++) {
		model_round(&rng, round % 2);
		teardown(state);
		setup(state);
	}
}

/* ---- failing ---- */

static void test_no_memory(void **state)
{
	struct uiommu_domain *domain;
	struct uiommu_ioas_stats before, after;
	unsigned fails = 0, places = 0;

	teardown(state);
	uiommu_set_allocator(failing_alloc, failing_release);
	setup(state);
	assert_int_equal(uiommu_domain_create(unit, ioas, &vtd, &domain), 0);
	for (uint64_t i = 0; i < 3000; i++) {
		/* Every place is packed, so the next one is known. */
		uint64_t expected = (i + 1) * PAGE, at;

		for (long n = i % 2;; n++) { /* the index may take the first, and does without */

			uiommu_ioas_stats(ioas, &before);
			fail_countdown = n;
			/* Addresses that are far apart, so that the areas take memory. */
			at = put((i * UINT64_C(0x9e3779b97f4a7c15) >> 12) & ~(PAGE - 1), PAGE);
			fail_countdown = -1;
			if ((int64_t)at != -ENOMEM)
				break;
			fails++;
			uiommu_ioas_stats(ioas, &after);
			assert_memory_equal(&before, &after, sizeof(before));
		}
		assert_int_equal(at, expected);
		places++;
	}
	assert_int_equal(places, 3000);
	if (fails < 30)
		fail_msg("%u failures", fails);
	uiommu_domain_destroy(domain);
	teardown(state);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
	setup(state);
}

/* ---- growth ---- */

static double nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The best of some rounds of placing and releasing behind so many that are packed; with bad gaps,
 * none of which will do: two pages from odd ones on. */
static double cost(uint64_t live, bool bad_gaps)
{
	double best = 1e18;

	for (uint64_t i = 0; i < live; i++)
		assert_int_equal(put(PAGE, (bad_gaps ? 2 : 1) * PAGE),
				 (bad_gaps ? 2 * i + 1 : i + 1) * PAGE);
	for (uint64_t i = 1; bad_gaps && i < live; i += 2)
		unmap((2 * i + 1) * PAGE, 2 * PAGE);
	for (unsigned round = 0; round < 20; round++) {
		double start = nanoseconds();

		for (unsigned i = 0; i < 50; i++)
			unmap(put(0, 2 * PAGE), 2 * PAGE);
		start = (nanoseconds() - start) / 50;
		best = start < best ? start : best;
	}
	assert_int_equal(
		uiommu_ioas_unmap(ioas, (struct uiommu_range){0, UINT64_MAX}, NULL, NULL, NULL), 0);
	return best;
}

/* A search along the areas would be slower by the number of them: a thousand times. */
static void test_growth(void **state)
{
	for (unsigned bad = 0; bad < 2; bad++) {
		double few = cost(100, bad), many = cost(100000, bad);

		print_message("place and release behind 100: %.0f ns, behind 100000: %.0f ns\n",
			      few, many);
		assert_true(many < 50 * few);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order), TEST(test_offset), TEST(test_arguments), TEST(test_ranges),
		TEST(test_batch), TEST(test_model),  TEST(test_no_memory), TEST(test_growth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
