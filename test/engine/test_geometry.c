/* SPDX-License-Identifier: MIT */
/*
 * Address spaces under constraints: on every platform the ranges that are told of before are those
 * that a domain and a device bring, a range that fits in one of them can be had, and one that
 * crosses a hole can't, with the hole and its owner named; the promise holds against what comes
 * later.
 */
#include "../check.h"

#include <errno.h>

#include <uiommu/platform.h>
#include <uiommu/space.h>

#define PAGE UINT64_C(4096)
#define MIB  (UINT64_C(1) << 20)
#define GIB  (UINT64_C(1) << 30)
#define MOST 8

static const struct {
	const char *spec;
	struct uiommu_range ranges[MOST]; /* up to the first that is {0, 0} */
} machines[] = {
	{"x86-vtd", {{0, 0xfedfffff}, {0xfef00000, 0xffffffffffff}}},
	{"x86-vtd,aw=39", {{0, 0xfedfffff}, {0xfef00000, 0x7fffffffff}}},
	{"x86-vtd,aw=57", {{0, 0xfedfffff}, {0xfef00000, 0x1ffffffffffffff}}},
	{"x86-vtd,aperture=0x10000000-0x1ffffffff,resv=direct:0x80000000-0x8000ffff,"
	 "resv=direct-relaxable:0x90000000-0x9000ffff,name=board",
	 {{0x10000000, 0x7fffffff}, {0x80010000, 0xfedfffff}, {0xfef00000, 0x1ffffffff}}},
	{"x86-amd", {{0, 0xfedfffff}, {0xfef00000, 0xfcffffffff}, {0x10000000000, UINT64_MAX}}},
	{"arm-smmuv3", {{0, 0x7ffffff}, {0x8100000, 0xffffffffffff}}},
	{"arm-smmuv3,stage=2", {{0, 0x7ffffff}, {0x8100000, 0xfffffffffff}}},
	{"fsl-pamu", {{0, 0xfffffffff}}},
	{"ppc-spapr", {{0}}},
	{"riscv", {{0, 0x7ffffff}, {0x8100000, 0x7fffffffffff}}},
	{"xen", {{0, 0xfedfffff}, {0xfef00000, 0xffffffffffff}}},
	{"none", {{0}}},
};

#define MACHINES (sizeof(machines) / sizeof(machines[0]))

static struct uiommu_platform *platform;
static const struct uiommu_platform_facts *facts;
static struct uiommu_geometry geometry;

static void use(const char *spec)
{
	char why[256];

	if (uiommu_platform_create(spec, &platform, why, sizeof(why)))
		fail_msg("%s", why);
	facts = uiommu_platform_facts(platform);
	uiommu_platform_geometry(platform, &geometry);
}

static int create(struct uiommu_range range, uint64_t page_size, struct uiommu_ioas **ioas)
{
	const struct uiommu_ioas_options options = {.size = sizeof(options),
						    .range = range,
						    .page_size = page_size,
						    .geometry = &geometry};

	*ioas = NULL;
	return uiommu_ioas_create_constrained(&options, ioas);
}

static int domain_of(struct uiommu_unit *unit, struct uiommu_ioas *ioas,
		     struct uiommu_domain **domain)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options),
		.format = facts->format,
		.width = facts->width,
		.name = facts->name,
		.aperture = facts->aperture,
		.page_sizes = facts->page_sizes,
	};

	return uiommu_domain_create(unit, ioas, &options, domain);
}

static int attach(struct uiommu_domain *domain)
{
	return uiommu_domain_attach(domain, 8, facts->regions, facts->region_count, "device");
}

static void expect_ranges(size_t machine, const struct uiommu_range *ranges, size_t count)
{
	const struct uiommu_range *expect = machines[machine].ranges;
	size_t n = 0;

	while (n < MOST && expect[n].last)
		n++;
	if (count != n || memcmp(ranges, expect, n * sizeof(*expect)))
		fail_msg("%s: %zu ranges, the first 0x%llx to 0x%llx", machines[machine].spec,
			 count, (unsigned long long)ranges[0].first,
			 (unsigned long long)ranges[0].last);
}

static void check_ioas(size_t machine, struct uiommu_ioas *ioas)
{
	struct uiommu_range ranges[MOST] = {{0}};
	size_t count = MOST;

	assert_int_equal(uiommu_ioas_ranges(ioas, ranges, &count), 0);
	expect_ranges(machine, ranges, count);
}

/* What is told before is what a domain and a device bring. */
static void test_ranges(void **state)
{
	for (size_t i = 0; i < MACHINES; i++) {
		struct uiommu_range ranges[MOST] = {{0}};
		struct uiommu_domain *domain;
		struct uiommu_unit *unit;
		struct uiommu_ioas *ioas;
		size_t count = MOST, none = 0;

		use(machines[i].spec);
		assert_int_equal(uiommu_platform_ranges(platform, ranges, &count), 0);
		expect_ranges(i, ranges, count);
		assert_int_equal(uiommu_platform_ranges(platform, NULL, &none),
				 count ? -EMSGSIZE : 0);
		assert_int_equal(none, count);
		if (count) {
			assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
			assert_int_equal(uiommu_ioas_create(&ioas), 0);
			assert_int_equal(domain_of(unit, ioas, &domain), 0);
			assert_int_equal(attach(domain), 0);
			check_ioas(i, ioas);
			uiommu_domain_detach(domain, 8);
			uiommu_domain_destroy(domain);
			uiommu_ioas_destroy(ioas);
			uiommu_unit_destroy(unit);
		}
		uiommu_platform_destroy(platform);
	}
}

/* Whole ranges can be had, and used by a domain and a device. */
static void can_have(size_t machine, struct uiommu_range range)
{
	struct uiommu_place place = {.size = sizeof(place), .length = PAGE};
	struct uiommu_domain *domain;
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	uint64_t iova;

	assert_int_equal(create(range, 0, &ioas), 0);
	check_ioas(machine, ioas);
	assert_int_equal(uiommu_ioas_map_anywhere(ioas, &place, PAGE, UIOMMU_READ, NULL, &iova), 0);
	assert_int_equal(iova, range.first ? range.first : PAGE);
	/* pamu's windows want more than that. */
	assert_int_equal(uiommu_ioas_unmap(ioas, range, NULL, NULL, NULL), 0);
	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(domain_of(unit, ioas, &domain), 0);
	assert_int_equal(attach(domain), 0);
	check_ioas(machine, ioas);
	uiommu_domain_detach(domain, 8);
	uiommu_domain_destroy(domain);
	/* The geometry stays. */
	check_ioas(machine, ioas);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
}

/* One that takes in this address can't. */
static void can_not(struct uiommu_range range, uint64_t hole)
{
	const struct uiommu_refusal *r = uiommu_last_refusal();
	struct uiommu_ioas *ioas;

	assert_int_equal(create(range, 0, &ioas), -EADDRINUSE);
	assert_null(ioas);
	assert_true(r->rule == UIOMMU_RULE_APERTURE || r->rule == UIOMMU_RULE_RESERVED);
	assert_true(r->blocking.first <= hole && hole <= r->blocking.last);
	assert_string_equal(r->owner, facts->name);
	assert_int_equal(r->asked.first, range.first);
}

static void test_constraints(void **state)
{
	for (size_t i = 0; i < MACHINES; i++) {
		struct uiommu_ioas *ioas;

		use(machines[i].spec);
		for (size_t k = 0; k < MOST && machines[i].ranges[k].last; k++) {
			struct uiommu_range r = machines[i].ranges[k];

			can_have(i, r);
			if (r.first)
				can_not((struct uiommu_range){r.first - PAGE, r.last}, r.first - 1);
			if (r.last != UINT64_MAX)
				can_not((struct uiommu_range){r.first, r.last + PAGE}, r.last + 1);
			if (r.last != UINT64_MAX)
				can_not((struct uiommu_range){r.first, UINT64_MAX}, r.last + 1);
		}
		if (!machines[i].ranges[0].last)
			can_not((struct uiommu_range){GIB, 2 * GIB - 1}, GIB);
		/* Without a range everything goes that is there. */
		assert_int_equal(create((struct uiommu_range){0}, 0, &ioas), 0);
		if (facts->format && machines[i].ranges[0].last)
			check_ioas(i, ioas);
		uiommu_ioas_destroy(ioas);
		uiommu_platform_destroy(platform);
	}
}

static void test_page_sizes(void **state)
{
	static const struct {
		const char *spec;
		uint64_t page_size;
		struct uiommu_range range;
		int error;
		enum uiommu_rule rule;
	} table[] = {
		{"x86-vtd", PAGE, {0, 0}, 0, 0},
		{"x86-vtd", 2 * MIB, {0, 0}, 0, 0},
		{"x86-vtd", GIB, {GIB, 2 * GIB - 1}, 0, 0},
		{"x86-vtd", 3 * PAGE, {0, 0}, -EINVAL, UIOMMU_RULE_ARGUMENT},
		{"x86-vtd", 16 * PAGE, {0, 0}, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{"x86-vtd", 1, {0, 0}, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{"x86-vtd", 2 * MIB, {MIB, 4 * MIB - 1}, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{"x86-vtd", 2 * MIB, {0, 4 * MIB}, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{"x86-vtd", 0, {0, 4 * MIB}, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{"x86-vtd,pgsizes=0x200000", PAGE, {0, 0}, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{"x86-vtd,pgsizes=0x200000", 2 * MIB, {0, 0}, 0, 0},
		{"x86-amd", 16 * PAGE, {0, 0}, 0, 0},
		{"arm-smmuv3", 2 * MIB, {0, 0}, 0, 0},
		{"arm-smmuv3", 512 * GIB, {0, 0}, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{"none", PAGE, {0, 0}, -EINVAL, UIOMMU_RULE_ALIGNMENT},
		{"x86-vtd", 0, {2, 1}, -EINVAL, UIOMMU_RULE_EMPTY},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct uiommu_ioas *ioas;
		int ret;

		use(table[i].spec);
		uiommu_clear_refusal();
		ret = create(table[i].range, table[i].page_size, &ioas);
		if (ret != table[i].error || uiommu_last_refusal()->rule != table[i].rule)
			fail_msg("case %zu: %d by rule %s", i, ret,
				 uiommu_rule_name(uiommu_last_refusal()->rule));
		assert_int_equal(!ioas, !!ret);
		if (ioas && table[i].page_size)
			assert_int_equal(uiommu_ioas_alignment(ioas), table[i].page_size);
		uiommu_ioas_destroy(ioas);
		uiommu_platform_destroy(platform);
	}
}

/* What would break the promise can't come later. */
static void test_promise(void **state)
{
	const struct uiommu_range range = {GIB, 300 * GIB - 1};
	const struct uiommu_resv_region inside = {{2 * GIB, 2 * GIB + PAGE - 1},
						  UIOMMU_RESV_RESERVED},
					outside = {{MIB, 2 * MIB - 1}, UIOMMU_RESV_RESERVED};
	struct uiommu_domain_options narrow = {.size = sizeof(narrow),
					       .format = "arm-s1",
					       .width = 36,
					       .name = "narrow"},
				     coarse = {.size = sizeof(coarse),
					       .format = "vtd-ss",
					       .width = 48,
					       .name = "coarse",
					       .page_sizes = GIB};
	struct uiommu_domain *domain, *other;
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;

	use("arm-smmuv3");
	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(create(range, 2 * MIB, &ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &narrow, &other), -EADDRINUSE);
	assert_string_equal(uiommu_last_refusal()->owner, "an allowed range");
	assert_int_equal(uiommu_domain_create(unit, ioas, &coarse, &other), -EADDRINUSE);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_ALIGNMENT);
	assert_int_equal(domain_of(unit, ioas, &domain), 0);
	assert_int_equal(uiommu_domain_attach(domain, 8, &inside, 1, "device"), -EADDRINUSE);
	assert_int_equal(uiommu_last_refusal()->blocking.first, range.first);
	assert_int_equal(uiommu_domain_attach(domain, 8, &outside, 1, "device"), 0);
	assert_int_equal(uiommu_ioas_alignment(ioas), 2 * MIB);
	uiommu_domain_detach(domain, 8);
	uiommu_domain_destroy(domain);
	assert_int_equal(uiommu_ioas_alignment(ioas), 2 * MIB);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	uiommu_platform_destroy(platform);
}

static void test_arguments(void **state)
{
	struct {
		struct uiommu_ioas_options options;
		uint64_t more;
	} longer = {.options.size = sizeof(longer)};
	struct uiommu_ioas_options *options = &longer.options;
	struct uiommu_geometry bad = {.size = sizeof(bad), .format = "vax", .width = 32};
	struct uiommu_ioas *ioas = NULL;
	struct uiommu_range r;
	size_t count = 1;

	assert_int_equal(uiommu_ioas_create_constrained(NULL, &ioas), -EINVAL);
	longer.more = 1;
	assert_int_equal(uiommu_ioas_create_constrained(options, &ioas), -E2BIG);
	options->size = 1;
	assert_int_equal(uiommu_ioas_create_constrained(options, &ioas), -EINVAL);
	options->size = sizeof(*options);
	options->geometry = &bad;
	assert_int_equal(uiommu_ioas_create_constrained(options, &ioas), -EINVAL);
	assert_int_equal(uiommu_geometry_ranges(&bad, &r, &count), -EINVAL);
	bad.format = "vtd-ss";
	assert_int_equal(uiommu_geometry_ranges(&bad, &r, &count), -EINVAL);
	assert_int_equal(uiommu_geometry_ranges(NULL, &r, &count), -EINVAL);
	assert_null(ioas);
	/* A newer struct, and no geometry: nothing is known yet, the promise is made all the same.
	 */
	longer.more = 0;
	longer.options = (struct uiommu_ioas_options){
		.size = sizeof(longer), .range = {GIB, 2 * GIB - 1}, .page_size = PAGE};
	assert_int_equal(uiommu_ioas_create_constrained(options, &ioas), 0);
	assert_int_equal(uiommu_ioas_reserve(ioas, (struct uiommu_range){GIB, GIB},
					     UIOMMU_RESV_RESERVED, &r, "late"),
			 -EADDRINUSE);
	uiommu_ioas_destroy(ioas);
}

/* Every allocation fails once, and nothing is left of it. */
static void test_no_memory(void **state)
{
	for (size_t i = 0; i < MACHINES; i++) {
		struct uiommu_range range = machines[i].ranges[0], ranges[MOST];
		struct uiommu_ioas *ioas = NULL;
		size_t count;
		int ret = -ENOMEM;

		uiommu_set_allocator(failing_alloc, failing_release);
		use(machines[i].spec);
		for (long n = 0, live = fail_live; ret; n++) {
			fail_countdown = n;
			ret = create(range, 0, &ioas);
			fail_countdown = -1;
			assert_true(!ret || ret == -ENOMEM);
			assert_true(!ret == (ioas != NULL));
			assert_true(!ret || fail_live == live);
		}
		uiommu_ioas_destroy(ioas);
		ret = -ENOMEM;
		for (long n = 0; ret; n++) {
			count = MOST;
			fail_countdown = n;
			ret = uiommu_platform_ranges(platform, ranges, &count);
			fail_countdown = -1;
			assert_true(!ret || ret == -ENOMEM);
		}
		uiommu_platform_destroy(platform);
		assert_int_equal(fail_live, 0);
		uiommu_set_allocator(NULL, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),	   cmocka_unit_test(test_constraints),
		cmocka_unit_test(test_page_sizes), cmocka_unit_test(test_promise),
		cmocka_unit_test(test_arguments),  cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
