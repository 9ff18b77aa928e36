/* SPDX-License-Identifier: MIT */
/* Address spaces where callers differ from what one would wish: options from elsewhere, windows in
 * any order, a domain left by two at once, and errno, which is not the library's. */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <uiommu/space.h>

#define PAGE	UINT64_C(4096)
#define R(a, b) ((struct uiommu_range){(a), (b)})

static const struct uiommu_domain_options d48 = {
	.size = sizeof(d48), .format = "vtd-ss", .width = 48};

static int null_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	memset(buf, 0, len);
	return 0;
}

static int null_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return 0;
}

static unsigned rings;
static uint64_t rung;

static int ring(void *ctx, uiommu_rid rid, uint64_t iova, uint32_t data)
{
	rings++;
	rung = iova;
	return 0;
}

/* Memory that can't be read or written, and structs of a newer header: each says so. */
static void test_bad_options(void **state)
{
	struct uiommu_memory_ops ops = {.size = sizeof(ops), .read = null_read};
	struct uiommu_memory memory = {.ops = &ops};
	struct uiommu_unit_options uo = {.size = sizeof(uo), .memory = &memory};
	struct {
		struct uiommu_unit_options known;
		uint64_t more;
	} newer_unit = {.known = {.size = sizeof(newer_unit)}, .more = 1};
	struct {
		struct uiommu_domain_options known;
		uint64_t more;
	} newer = {.known = d48, .more = 1};
	struct uiommu_domain_options older = d48;
	struct uiommu_domain *domain;
	struct uiommu_ioas *ioas;
	struct uiommu_unit *unit;

	assert_int_equal(uiommu_unit_create(&uo, &unit), -EINVAL);
	ops.write = null_write;
	ops.size = 8;
	assert_int_equal(uiommu_unit_create(&uo, &unit), -EINVAL);
	memory.ops = NULL;
	assert_int_equal(uiommu_unit_create(&uo, &unit), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_ARGUMENT);
	assert_int_equal(uiommu_unit_create(&newer_unit.known, &unit), -E2BIG);
	assert_int_equal(uiommu_last_refusal()->error, -E2BIG);
	uo.size = 4;
	assert_int_equal(uiommu_unit_create(&uo, &unit), -EINVAL);
	uo.size = sizeof(uo);
	memory.ops = &ops;
	ops.size = sizeof(ops);
	uo.iotlb_entries = 65537;
	assert_int_equal(uiommu_unit_create(&uo, &unit), -EINVAL);
	uo.iotlb_entries = 65536;
	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);

	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	newer.known.size = sizeof(newer);
	assert_int_equal(uiommu_domain_create(unit, ioas, &newer.known, &domain), -E2BIG);
	assert_int_equal(uiommu_last_refusal()->error, -E2BIG);
	newer.more = 0;
	assert_int_equal(uiommu_domain_create(unit, ioas, &newer.known, &domain), 0);
	uiommu_domain_destroy(domain);
	/* As before apertures: what lies behind is not looked at. */
	older.size = offsetof(struct uiommu_domain_options, aperture);
	older.aperture = R(1, 2);
	older.page_sizes = 3;
	assert_int_equal(uiommu_domain_create(unit, ioas, &older, &domain), 0);
	assert_int_equal(uiommu_domain_page_sizes(domain), 0x40201000);
	uiommu_domain_destroy(domain);
	older.size--;
	assert_int_equal(uiommu_domain_create(unit, ioas, &older, &domain), -EINVAL);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
}

/* Each allocation that fails is told as such, whatever was refused before. */
static void test_no_memory_is_told(void **state)
{
	struct uiommu_doorbell_window window = {.range = {0, 0xfff}, .write = ring};
	struct uiommu_unit_options uo = {.size = sizeof(uo), .windows = &window, .window_count = 1};
	struct uiommu_unit *unit;
	int ret;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (long nth = 0;; nth++) {
		uiommu_clear_refusal();
		fail_countdown = nth;
		ret = uiommu_unit_create(&uo, &unit);
		fail_countdown = -1;
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_NO_MEMORY);
		assert_int_equal(fail_live, 0);
	}
	uiommu_unit_destroy(unit);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- windows ---- */

static struct uiommu_fault last_fault;

static void on_fault(void *ctx, const struct uiommu_fault *fault)
{
	last_fault = *fault;
}

static void translate_refused(struct uiommu_port *port, uint64_t iova, uint64_t len, int access,
			      uint64_t at, enum uiommu_fault_reason reason)
{
	struct uiommu_segment seg[2];
	size_t n = 2;

	uiommu_port_enter(port);
	assert_int_equal(uiommu_port_translate(port, iova, len, access, seg, &n), -EFAULT);
	uiommu_port_leave(port);
	assert_int_equal(last_fault.iova, at);
	assert_int_equal(last_fault.reason, reason);
}

/* Windows in any order, over mappings: what lies before the lowest is memory, a doorbell is not. */
static void test_windows(void **state)
{
	static const struct uiommu_doorbell_window windows[] = {{{0x14000, 0x14fff}, ring},
								{{0x12000, 0x12fff}, ring}};
	struct uiommu_unit_options uo = {
		.size = sizeof(uo), .windows = windows, .window_count = 2, .fault = on_fault};
	static _Alignas(4096) char mem[6 * 4096];
	static char buf[6 * 4096];
	struct uiommu_segment seg[2];
	struct uiommu_domain *domain;
	struct uiommu_ioas *ioas;
	struct uiommu_unit *unit;
	struct uiommu_port *port;
	size_t n = 2;

	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &d48, &domain), 0);
	assert_int_equal(uiommu_domain_attach(domain, 8, NULL, 0, "dev"), 0);
	assert_int_equal(uiommu_port_create(unit, 8, &port), 0);
	uiommu_port_set_master(port, true);
	assert_int_equal(
		uiommu_ioas_map(ioas, R(0x10000, 0x15fff), (uint64_t)(uintptr_t)mem, 3, NULL), 0);

	memset(buf, 1, sizeof(buf));
	assert_int_equal(uiommu_port_write(port, 0x10000, buf, sizeof(buf)), -EFAULT);
	assert_int_equal(last_fault.iova, 0x12000);
	assert_int_equal(last_fault.reason, UIOMMU_FAULT_INTERRUPT);
	assert_int_equal(mem[2 * PAGE - 1], 1);
	assert_int_equal(mem[2 * PAGE], 0);
	assert_int_equal(uiommu_port_write(port, 0x12000, buf, 4), 0);
	assert_int_equal(rings, 1);
	assert_int_equal(rung, 0x12000);

	uiommu_port_enter(port);
	assert_int_equal(uiommu_port_translate(port, 0x10000, 0x2000, UIOMMU_WRITE, seg, &n),
			 0x2000);
	uiommu_port_leave(port);
	translate_refused(port, 0x10000, 0x2001, UIOMMU_WRITE, 0x12000, UIOMMU_FAULT_INTERRUPT);
	translate_refused(port, 0x14800, 8, UIOMMU_READ, 0x14800, UIOMMU_FAULT_DOORBELL_READ);
	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, 8);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
}

/* ---- moving against detaching ---- */

static __thread bool is_mover;
static _Atomic bool mover_frees, detached, detached_early;

/* The mover takes away what the requester ID had in the domain that it leaves. Who detaches
 * meanwhile waits for that, for what comes next is the end of the domain. */
static void watched_release(void *ptr, size_t size)
{
	if (is_mover) {
		const struct timespec pause = {.tv_nsec = 1000000};

		mover_frees = true;
		for (unsigned i = 0; i < 20 && !detached; i++)
			clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		detached_early = detached;
	}
	failing_release(ptr, size);
}

static void *move(void *domain)
{
	is_mover = true;
	return uiommu_domain_attach(domain, 8, NULL, 0, "dev") ? domain : NULL;
}

static void test_move_and_detach(void **state)
{
	struct uiommu_domain *from, *to;
	struct uiommu_ioas *a, *b;
	struct uiommu_unit *unit;
	pthread_t thread;
	void *failed;

	uiommu_set_allocator(failing_alloc, watched_release);
	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&a), 0);
	assert_int_equal(uiommu_ioas_create(&b), 0);
	assert_int_equal(uiommu_domain_create(unit, a, &d48, &from), 0);
	assert_int_equal(uiommu_domain_create(unit, b, &d48, &to), 0);
	assert_int_equal(uiommu_domain_attach(from, 8, NULL, 0, "dev"), 0);
	assert_int_equal(pthread_create(&thread, NULL, move, to), 0);
	while (!mover_frees)
		sched_yield();
	uiommu_domain_detach(from, 8);
	detached = true;
	uiommu_domain_destroy(from);
	uiommu_ioas_destroy(a);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_false(detached_early);
	uiommu_domain_detach(to, 8);
	uiommu_domain_destroy(to);
	uiommu_ioas_destroy(b);
	uiommu_unit_destroy(unit);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- another address for an area ---- */

/* Two domains; a 1 GiB leaf becomes 4 KiB leaves, which needs 513 table pages, at any of which
 * memory may run out: then each domain still has the old address. */
static void test_move_area(void **state)
{
	const uint64_t g1 = UINT64_C(1) << 30;
	struct uiommu_domain *domain[2];
	struct uiommu_area area;
	struct uiommu_ioas *ioas;
	struct uiommu_unit *unit;
	unsigned failures = 0;
	uint64_t addr;
	int ret, prot;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (long nth = 0, done = 0; !done; nth++) {
		assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
		assert_int_equal(uiommu_ioas_create(&ioas), 0);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(uiommu_domain_create(unit, ioas, &d48, &domain[i]), 0);
		assert_int_equal(
			uiommu_ioas_map(ioas, R(g1, 2 * g1 - 1), 4 * g1, UIOMMU_READ, unit), 0);
		assert_int_equal(uiommu_ioas_move(ioas, R(g1, 2 * g1 - 2), 0), -ENOENT);
		assert_int_equal(uiommu_ioas_move(ioas, R(0, g1 - 1), 0), -ENOENT);
		assert_int_equal(uiommu_ioas_move(ioas, R(g1, 2 * g1 - 1), 5), -EINVAL);
		assert_int_equal(uiommu_ioas_move(ioas, R(g1, 2 * g1 - 1), UINT64_C(1) << 52),
				 -EOVERFLOW);
		fail_countdown = nth;
		ret = uiommu_ioas_move(ioas, R(g1, 2 * g1 - 1), PAGE);
		/* A table does without a huge page. */
		done = fail_countdown >= 0;
		fail_countdown = -1;
		assert_true(!ret || ret == -ENOMEM);
		assert_true(!ret || !done);
		failures += ret != 0;
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(uiommu_domain_lookup(domain[i], g1 + 7, &addr, &prot), 0);
			assert_int_equal(addr, (ret ? 4 * g1 : PAGE) + 7);
			assert_int_equal(prot, UIOMMU_READ);
		}
		assert_int_equal(uiommu_ioas_find(ioas, g1, &area), 0);
		assert_int_equal(area.addr, ret ? 4 * g1 : PAGE);
		assert_ptr_equal(area.tag, unit);
		for (unsigned i = 0; i < 2; i++)
			uiommu_domain_destroy(domain[i]);
		uiommu_ioas_destroy(ioas);
		uiommu_unit_destroy(unit);
		assert_int_equal(fail_live, 0);
	}
	assert_true(failures > 2);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- errno ---- */

static void test_errno(void **state)
{
	struct uiommu_range range = {0, 1};
	struct uiommu_ioas *ioas;

	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	errno = EXDEV;
	assert_int_equal(uiommu_ioas_allow(ioas, &range, (size_t)1 << 57), -ENOMEM);
	assert_int_equal(errno, EXDEV);
	uiommu_ioas_destroy(ioas);
}

/* Without an IOTLB nothing is remembered by whoever translates for himself, and nothing counted. */
static void test_no_iotlb(void **state)
{
	const struct uiommu_unit_options uo = {.size = sizeof(uo),
					       .iotlb_entries = UIOMMU_IOTLB_OFF};
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	struct uiommu_unit_stats stats;
	struct uiommu_domain *domain;
	struct uiommu_ioas *ioas;
	struct uiommu_unit *unit;
	struct uiommu_port *port;
	uint64_t addr;

	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &options, &domain), 0);
	assert_int_equal(uiommu_domain_attach(domain, 8, NULL, 0, "device"), 0);
	assert_int_equal(uiommu_port_create(unit, 8, &port), 0);
	uiommu_port_set_master(port, true);
	for (uint64_t to = 0x100000; to < 0x400000; to += 0x100000) {
		assert_int_equal(uiommu_ioas_map(ioas, R(0x1000, 0x4fff), to, UIOMMU_READ, NULL),
				 0);
		uiommu_port_enter(port);
		for (uint64_t iova = 0x1000; iova < 0x5000; iova += 0x800) {
			assert_int_equal(
				uiommu_port_translate_one(port, iova, 8, UIOMMU_READ, &addr), 8);
			assert_int_equal(addr, to + iova - 0x1000);
		}
		uiommu_port_leave(port);
		assert_int_equal(uiommu_ioas_unmap(ioas, R(0x1000, 0x4fff), NULL, NULL, NULL), 0);
	}
	uiommu_port_stats(port, &stats);
	assert_int_equal(stats.iotlb_hits, 0);
	assert_int_equal(stats.iotlb_misses, 0);
	assert_int_equal(stats.walks, 24);
	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, 8);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_options), cmocka_unit_test(test_no_memory_is_told),
		cmocka_unit_test(test_windows),	    cmocka_unit_test(test_errno),
		cmocka_unit_test(test_no_iotlb),    cmocka_unit_test(test_move_and_detach),
		cmocka_unit_test(test_move_area),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
