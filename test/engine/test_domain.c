/* SPDX-License-Identifier: MIT */
/*
 * What formats other than a plain tree mean for an address space: apertures below and above,
 * PAMU's windows and the entries its domains share, windows that come and go, device registers, a
 * look-up that is not what a device gets, and page sizes.
 */
#include "../check.h"

#include <errno.h>

#include <uiommu/space.h>

#define PAGE	UINT64_C(4096)
#define BIT(n)	(UINT64_C(1) << (n))
#define R(a, b) ((struct uiommu_range){(a), (b)})
#define SECOND	UINT64_C(0x800000000000000)

static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static struct uiommu_port *port;
static char *memory; /* 64 KiB, aligned to as much */

static int set_up(void **state)
{
	memory = aligned_alloc(0x10000, 0x10000);
	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_port_create(unit, 8, &port), 0);
	uiommu_port_set_master(port, true);
	return 0;
}

static int tear_down(void **state)
{
	uiommu_port_destroy(port);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	free(memory);
	return 0;
}

static int domain(struct uiommu_domain_options options, struct uiommu_domain **out)
{
	options.size = sizeof(options);
	return uiommu_domain_create(unit, ioas, &options, out);
}

static void attach(struct uiommu_domain *d)
{
	assert_int_equal(uiommu_domain_attach(d, 8, NULL, 0, "dev"), 0);
}

static void leave(struct uiommu_domain *d)
{
	uiommu_domain_detach(d, 8);
	uiommu_domain_destroy(d);
}

static int map(uint64_t first, uint64_t length, const void *addr, int prot)
{
	return uiommu_ioas_map(ioas, R(first, first + length - 1), (uintptr_t)addr, prot, NULL);
}

static void unmap_all(void)
{
	assert_int_equal(uiommu_ioas_unmap(ioas, R(0, UINT64_MAX), NULL, NULL, NULL), 0);
}

static void refused(int ret, int error, enum uiommu_rule rule)
{
	assert_int_equal(ret, error);
	assert_int_equal(uiommu_last_refusal()->rule, rule);
	assert_int_equal(uiommu_last_refusal()->error, error);
}

/* The usable ranges are these, n of them. */
static void check_ranges(const struct uiommu_range *expected, size_t n)
{
	struct uiommu_range ranges[20];
	size_t count = 20;

	assert_int_equal(uiommu_ioas_ranges(ioas, ranges, &count), 0);
	assert_int_equal(count, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(ranges[i].first, expected[i].first);
		assert_int_equal(ranges[i].last, expected[i].last);
	}
}

static enum uiommu_fault_reason dma(uint64_t iova, bool write)
{
	struct uiommu_fault fault;
	char buf[8] = {0};

	if (!(write ? uiommu_port_write(port, iova, buf, 8) : uiommu_port_read(port, iova, buf, 8)))
		return UIOMMU_FAULT_NONE;
	uiommu_port_last_fault(port, &fault);
	return fault.reason;
}

/* Reserved below and above; DMA outside is beyond. */
static void test_aperture(void **state)
{
	static const struct {
		struct uiommu_domain_options options;
		struct uiommu_range range;
	} cases[] = {
		{{.format = "vtd-ss", .width = 39}, {0, BIT(39) - 1}},
		{{.format = "vtd-fs", .width = 48}, {0, BIT(47) - 1}},
		{{.format = "amd-v1", .width = 64}, {0, UINT64_MAX}},
		{{.format = "arm-s2", .width = 44}, {0, BIT(44) - 1}},
		{{.format = "riscv", .width = 48}, {0, BIT(47) - 1}},
		{{.format = "vtd-ss", .width = 48, .aperture = {BIT(30), BIT(31) - 1}},
		 {BIT(30), BIT(31) - 1}},
		{{.format = "amd-v1", .width = 64, .aperture = {0x1000, UINT64_MAX}},
		 {0x1000, UINT64_MAX}},
		{{.format = "pamu", .width = 36, .aperture = {BIT(29), BIT(30) - 1}, .windows = 8},
		 {BIT(29), BIT(30) - 1}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct uiommu_range r = cases[i].range;
		struct uiommu_domain *d;

		assert_int_equal(domain(cases[i].options, &d), 0);
		attach(d);
		check_ranges(&r, 1);
		if (r.first) {
			refused(map(r.first - PAGE, PAGE, memory, 3), -EINVAL,
				UIOMMU_RULE_APERTURE);
			assert_int_equal(uiommu_last_refusal()->blocking.last, r.first - 1);
			assert_int_equal(dma(r.first - PAGE, false), UIOMMU_FAULT_BEYOND);
		}
		if (r.last != UINT64_MAX) {
			refused(map(r.last + 1, PAGE, memory, 3), -EINVAL, UIOMMU_RULE_APERTURE);
			assert_int_equal(dma(r.last + 1, true), UIOMMU_FAULT_BEYOND);
		}
		assert_int_equal(dma(r.first, false), UIOMMU_FAULT_NOT_PRESENT);
		assert_int_equal(map(r.first, PAGE, memory, 3), 0);
		assert_int_equal(dma(r.first, false), UIOMMU_FAULT_NONE);
		unmap_all();
		leave(d);
		check_ranges(&R(0, UINT64_MAX), 1);
	}
}

/* An area that a second domain can't take keeps that domain away, and the first as it was. */
static void test_second_domain(void **state)
{
	struct uiommu_domain *first, *second;
	uint64_t addr;
	int prot;

	assert_int_equal(
		domain((struct uiommu_domain_options){.format = "amd-v1", .width = 64}, &first), 0);
	assert_int_equal(uiommu_ioas_page_sizes(ioas), 0xfff7ffffff000);
	assert_int_equal(map(0x1000, 0x3000, memory, UIOMMU_WRITE), 0);
	/* PAMU: not where a window starts. */
	refused(domain((struct uiommu_domain_options){.format = "pamu", .width = 36}, &second),
		-EADDRINUSE, UIOMMU_RULE_ALIGNMENT);
	check_ranges(&R(0, UINT64_MAX), 1);
	/* An area outside of its aperture. */
	refused(domain((struct uiommu_domain_options){.format = "vtd-ss",
						      .width = 48,
						      .aperture = {0x2000, 0xffff}},
		       &second),
		-EADDRINUSE, UIOMMU_RULE_OVERLAP);
	/* A page size that doesn't divide it. */
	refused(domain((struct uiommu_domain_options){.format = "arm-s1",
						      .width = 48,
						      .page_sizes = 0x10000},
		       &second),
		-EADDRINUSE, UIOMMU_RULE_ALIGNMENT);
	assert_int_equal(
		domain((struct uiommu_domain_options){.format = "arm-s1", .width = 48}, &second),
		0);
	assert_int_equal(uiommu_ioas_page_sizes(ioas), 0x40201000);
	assert_int_equal(uiommu_domain_page_sizes(first), 0xfff7ffffff000);
	assert_int_equal(uiommu_domain_lookup(first, 0x3005, &addr, &prot), 0);
	assert_int_equal(addr, (uintptr_t)memory + 0x2005);
	assert_int_equal(prot, UIOMMU_WRITE);
	assert_int_equal(uiommu_domain_lookup(second, 0x3005, &addr, &prot), 0);
	assert_int_equal(addr, (uintptr_t)memory + 0x2005);
	assert_int_equal(prot, 3); /* stage 1: writing implies reading */
	unmap_all();
	uiommu_domain_destroy(first);
	uiommu_domain_destroy(second);
}

/* A device's register is mapped as such, or not at all. */
static void test_mmio(void **state)
{
	static const struct {
		const char *format;
		unsigned width;
		int error;
	} cases[] = {
		{"vtd-ss", 48, -EOPNOTSUPP},
		{"vtd-fs", 48, -EOPNOTSUPP},
		{"amd-v1", 64, -EOPNOTSUPP},
		{"arm-s1", 48, 0},
		{"arm-s2", 44, 0},
		{"riscv", 39, 0},
		{"pamu", 36, 0},
	};
	int mmio = UIOMMU_WRITE | UIOMMU_MMIO;
	struct uiommu_domain *d, *other;
	uint64_t addr;
	int prot;

	assert_int_equal(map(0, PAGE, memory, UIOMMU_MMIO), -EINVAL);
	assert_int_equal(map(0, PAGE, memory, 8 | 3), -EINVAL);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(domain((struct uiommu_domain_options){.format = cases[i].format,
								       .width = cases[i].width},
					&d),
				 0);
		attach(d);
		assert_int_equal(map(0, PAGE, memory, mmio), cases[i].error);
		if (cases[i].error) {
			assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_UNSUPPORTED);
			assert_int_equal(dma(0, true), UIOMMU_FAULT_NOT_PRESENT);
		} else {
			struct uiommu_area area;

			assert_int_equal(uiommu_domain_lookup(d, 0, &addr, &prot), 0);
			assert_int_equal(prot & mmio, mmio);
			/* No register answers there, and memory it is not. */
			assert_int_equal(dma(0, true), UIOMMU_FAULT_INTERRUPT);
			assert_int_equal(uiommu_ioas_find(ioas, 0, &area), 0);
			assert_int_equal(area.prot, mmio);
			/* A domain that can't say so does not join. */
			refused(domain((struct uiommu_domain_options){.format = "vtd-ss",
								      .width = 48},
				       &other),
				-EADDRINUSE, UIOMMU_RULE_UNSUPPORTED);
		}
		unmap_all();
		leave(d);
	}
}

static void test_pamu(void **state)
{
	const struct uiommu_domain_options options = {
		.format = "pamu", .width = 36, .aperture = {0, 0x3ffff}, .windows = 4};
	struct uiommu_domain_window window = {.size = sizeof(window)};
	struct uiommu_domain *d, *more[9];
	uint64_t addr;
	char words[256];
	unsigned n = 0;
	int prot;

	assert_int_equal(domain(options, &d), 0);
	attach(d);
	assert_int_equal(uiommu_domain_window_find(d, 0x10001, &window), 0);
	assert_int_equal(window.range.first, 0x10000);
	assert_int_equal(window.range.last, 0x1ffff);
	assert_int_equal(uiommu_domain_window_find(d, 0x40000, &window), -ENOENT);
	refused(uiommu_domain_window_create(d, &window), -EOPNOTSUPP, UIOMMU_RULE_UNSUPPORTED);
	refused(uiommu_domain_window_remove(d, 0), -EOPNOTSUPP, UIOMMU_RULE_UNSUPPORTED);

	refused(map(0x1000, PAGE, memory, 3), -EINVAL, UIOMMU_RULE_ALIGNMENT);
	uiommu_refusal_format(uiommu_last_refusal(), words, sizeof(words));
	assert_non_null(strstr(words, "where one of PAMU's windows does"));
	assert_non_null(strstr(words, "0x10000"));
	refused(map(0x10000, 0x3000, memory, 3), -EINVAL, UIOMMU_RULE_ALIGNMENT);
	refused(map(0x10000, 0x10000, memory + PAGE, 3), -EINVAL, UIOMMU_RULE_ALIGNMENT);
	/* An overlap is told of before the windows' rules are. */
	assert_int_equal(map(0x10000, PAGE, memory, 3), 0);
	refused(map(0x10000, 0x3000, memory, 3), -EEXIST, UIOMMU_RULE_OVERLAP);
	/* A short mapping: the rest of its window is no device's, though the driver repeats it. */
	assert_int_equal(dma(0x10000, false), UIOMMU_FAULT_NONE);
	assert_int_equal(dma(0x11000, false), UIOMMU_FAULT_NOT_PRESENT);
	assert_int_equal(uiommu_domain_lookup(d, 0x1f123, &addr, &prot), 0);
	assert_int_equal(addr, (uintptr_t)memory + 0x123);
	/* Moved under the same rules; the window keeps what it had. */
	refused(uiommu_ioas_move(ioas, R(0x10000, 0x10fff), (uintptr_t)memory + 1), -EINVAL,
		UIOMMU_RULE_ALIGNMENT);
	assert_int_equal(uiommu_ioas_move(ioas, R(0x10000, 0x10fff), (uintptr_t)memory + 0x5000),
			 0);
	assert_int_equal(uiommu_domain_lookup(d, 0x10000, &addr, &prot), 0);
	assert_int_equal(addr, (uintptr_t)memory + 0x5000);
	unmap_all();

	/* The unit's secondary entries: the late one is told. */
	while (n < 9 &&
	       !domain((struct uiommu_domain_options){.format = "pamu", .width = 36}, &more[n]))
		n++;
	assert_int_equal(n, 8);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_LIMIT);
	assert_int_equal(uiommu_last_refusal()->error, -ENOSPC);
	uiommu_domain_destroy(more[--n]);
	assert_int_equal(
		domain((struct uiommu_domain_options){.format = "pamu", .width = 36}, &more[n]), 0);
	while (n < 8)
		uiommu_domain_destroy(more[n++]);
	for (n = 0; n < 7; n++)
		uiommu_domain_destroy(more[n]);
	leave(d);
}

static int add_window(struct uiommu_domain *d, uint64_t first, uint64_t last, unsigned shift)
{
	struct uiommu_domain_window window = {
		.size = sizeof(window), .range = {first, last}, .page_shift = shift, .levels = 1};

	return uiommu_domain_window_create(d, &window);
}

static void test_windows(void **state)
{
	struct uiommu_domain_window window = {.size = sizeof(window)};
	struct {
		struct uiommu_domain_window known;
		uint64_t more;
	} newer = {.known = {.size = sizeof(newer)}, .more = 1};
	struct uiommu_domain *d;
	uint64_t unmapped;

	assert_int_equal(
		domain((struct uiommu_domain_options){.format = "spapr-tce", .width = 64}, &d), 0);
	attach(d);
	check_ranges(NULL, 0);
	assert_int_equal(uiommu_domain_window_find(d, 0, &window), -ENOENT);
	refused(map(0, PAGE, memory, 3), -EINVAL, UIOMMU_RULE_APERTURE);
	assert_int_equal(dma(0, false), UIOMMU_FAULT_NOT_PRESENT);
	assert_int_equal(uiommu_domain_window_create(d, &newer.known), -E2BIG);
	newer.known.size = 8;
	assert_int_equal(uiommu_domain_window_create(d, &newer.known), -EINVAL);
	refused(add_window(d, 0, BIT(30) - 1, 13), -EINVAL, UIOMMU_RULE_ARGUMENT);
	refused(add_window(d, 0, BIT(30), 12), -EINVAL, UIOMMU_RULE_ALIGNMENT);
	assert_int_equal(add_window(d, 0, BIT(30) - 1, 12), 0);
	check_ranges(&R(0, BIT(30) - 1), 1);
	refused(add_window(d, 0, BIT(20) - 1, 12), -EEXIST, UIOMMU_RULE_OVERLAP);
	assert_int_equal(add_window(d, SECOND, SECOND + BIT(36) - 1, 16), 0);
	check_ranges((struct uiommu_range[]){{0, BIT(30) - 1}, {SECOND, SECOND + BIT(36) - 1}}, 2);
	assert_int_equal(uiommu_domain_window_find(d, BIT(30), &window), 0);
	assert_int_equal(window.range.first, SECOND);
	assert_int_equal(window.page_shift, 16);
	assert_int_equal(window.levels, 1);

	/* Each window has its page. */
	refused(map(SECOND, PAGE, memory, 3), -EINVAL, UIOMMU_RULE_ALIGNMENT);
	assert_int_equal(map(SECOND, 0x10000, memory, 3), 0);
	assert_int_equal(map(PAGE, PAGE, memory, 3), 0);
	assert_int_equal(dma(SECOND + 0xfff8, true), UIOMMU_FAULT_NONE);
	assert_int_equal(dma(PAGE, true), UIOMMU_FAULT_NONE);
	refused(uiommu_domain_window_remove(d, PAGE), -ENOENT, UIOMMU_RULE_NOT_MAPPED);
	refused(uiommu_domain_window_remove(d, 0), -EBUSY, UIOMMU_RULE_BUSY);
	assert_int_equal(uiommu_ioas_unmap(ioas, R(0, BIT(30)), &unmapped, NULL, NULL), 0);
	assert_int_equal(unmapped, PAGE);
	/* A promise that the range stays is one. */
	assert_int_equal(uiommu_ioas_allow(ioas, &R(0x2000, 0x2fff), 1), 0);
	refused(uiommu_domain_window_remove(d, 0), -EADDRINUSE, UIOMMU_RULE_OVERLAP);
	check_ranges((struct uiommu_range[]){{0, BIT(30) - 1}, {SECOND, SECOND + BIT(36) - 1}}, 2);
	assert_int_equal(uiommu_ioas_allow(ioas, NULL, 0), 0);
	assert_int_equal(uiommu_domain_window_remove(d, 0), 0);
	check_ranges(&R(SECOND, SECOND + BIT(36) - 1), 1);
	assert_int_equal(dma(PAGE, true), UIOMMU_FAULT_NOT_PRESENT);
	assert_int_equal(dma(SECOND, true), UIOMMU_FAULT_NONE);
	refused(map(PAGE, PAGE, memory, 3), -EINVAL, UIOMMU_RULE_APERTURE);
	/* Another in its place, with other pages. */
	assert_int_equal(add_window(d, 0, BIT(31) - 1, 16), 0);
	refused(map(PAGE, PAGE, memory, 3), -EINVAL, UIOMMU_RULE_ALIGNMENT);
	unmap_all();
	assert_int_equal(uiommu_domain_window_remove(d, SECOND), 0);
	assert_int_equal(uiommu_domain_window_remove(d, 0), 0);
	check_ranges(NULL, 0);
	/* At the very top. */
	assert_int_equal(add_window(d, UINT64_MAX - 0xffff, UINT64_MAX, 12), 0);
	check_ranges(&R(UINT64_MAX - 0xffff, UINT64_MAX), 1);
	leave(d);
}

/* Without memory anywhere: windows and reservations stay as they were. */
static void test_no_memory(void **state)
{
	uint64_t last = BIT(21) - 1;
	struct uiommu_domain *d;
	bool done = false;

	tear_down(state);
	uiommu_set_allocator(failing_alloc, failing_release);
	set_up(state);
	for (long nth = 0; !done; nth++) {
		assert_int_equal(
			domain((struct uiommu_domain_options){.format = "spapr-tce", .width = 64},
			       &d),
			0);
		for (unsigned i = 0; i < 14; i++) /* so that reservations need room */
			assert_int_equal(add_window(d, BIT(40) + i * BIT(30),
						    BIT(40) + i * BIT(30) + last, 12),
					 0);
		fail_countdown = nth;
		done = !add_window(d, 0, last, 12);
		fail_countdown = -1;
		if (!done) {
			struct uiommu_domain_window window = {.size = sizeof(window)};

			assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_NO_MEMORY);
			assert_int_equal(uiommu_domain_window_find(d, 0, &window), 0);
			assert_int_equal(window.range.first, BIT(40));
			refused(map(0, PAGE, memory, 3), -EINVAL, UIOMMU_RULE_APERTURE);
			assert_int_equal(add_window(d, 0, last, 12), 0);
		}
		assert_int_equal(map(0, PAGE, memory, 3), 0);
		unmap_all();
		uiommu_domain_destroy(d);
	}
	tear_down(state);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
	set_up(state);
}

/* A domain of each format that fails to be made leaves nothing. */
static void test_no_memory_for_domains(void **state)
{
	static const struct uiommu_domain_options options[] = {
		{.format = "amd-v1", .width = 64},    {.format = "arm-s2", .width = 43},
		{.format = "pamu", .width = 36},      {.format = "pamu", .width = 36, .windows = 1},
		{.format = "spapr-tce", .width = 64},
	};

	tear_down(state);
	uiommu_set_allocator(failing_alloc, failing_release);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		struct uiommu_domain *d;
		long nth = 0;
		int ret;

		do {
			set_up(state);
			fail_countdown = nth++;
			ret = domain(options[i], &d);
			fail_countdown = -1;
			if (ret)
				refused(ret, -ENOMEM, UIOMMU_RULE_NO_MEMORY);
			else
				uiommu_domain_destroy(d);
			check_ranges(&R(0, UINT64_MAX), 1);
			tear_down(state);
			assert_int_equal(fail_live, 0);
		} while (ret);
		assert_true(nth > 2);
	}
	uiommu_set_allocator(NULL, NULL);
	set_up(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aperture),
		cmocka_unit_test(test_second_domain),
		cmocka_unit_test(test_mmio),
		cmocka_unit_test(test_pamu),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_memory_for_domains),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
