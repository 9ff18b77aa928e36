/* SPDX-License-Identifier: MIT */
/*
 * DMA threads against unmap and detach, in every table format: once they have returned, nothing
 * reaches the memory. And dirty bits set by devices against map, scan and unmap.
 *
 * The proof is twofold. After each unmap the program writes to the pages and finds later that no
 * device changed them; and under ThreadSanitizer any access that isn't ordered before unmap's
 * return is a reported race, since the copies are plain memory accesses. "fences" as an argument:
 * the same without membarrier(2).
 */
#include "../check.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <uiommu/space.h>

#include "table/table.h"

#define PAGE	UINT64_C(4096)
#define WINDOW	32 /* pages that the devices aim at */
#define DEVICES 3
#define LANE	1024

struct setup {
	struct uiommu_domain_options domain;
	struct uiommu_domain_window window; /* to be created */
	uint64_t stride;		    /* from page to page */
};

#define DOMAIN(f, w)                                                                  \
	{                                                                             \
		.size = sizeof(struct uiommu_domain_options), .format = f, .width = w \
	}
/* Pages lie far apart, so that tables come and go with them. */
#define APART ((UINT64_C(1) << 30) + PAGE)

static const struct setup setups[] = {
	{.domain = DOMAIN("vtd-ss", 48), .stride = APART},
	{.domain = DOMAIN("vtd-fs", 48), .stride = APART},
	{.domain = DOMAIN("amd-v1", 64), .stride = APART},
	{.domain = DOMAIN("arm-s1", 48), .stride = APART},
	{.domain = DOMAIN("arm-s2", 40), .stride = APART},
	{.domain = DOMAIN("riscv", 39), .stride = APART},
	/* 64 windows, and a page at the start of each. */
	{.domain = {.size = sizeof(struct uiommu_domain_options),
		    .format = "pamu",
		    .width = 36,
		    .windows = 64},
	 .stride = UINT64_C(1) << 30},
	{.domain = DOMAIN("powernv-tce", 64),
	 .window = {.size = sizeof(struct uiommu_domain_window),
		    .range = {0, (UINT64_C(1) << 36) - 1},
		    .page_shift = 12,
		    .levels = 3},
	 .stride = APART},
};

#define SETUPS (sizeof(setups) / sizeof(setups[0]))

static const struct setup *setup;
static char *memory;
static _Atomic bool stop;
static bool fences;		 /* without membarrier(2) */
static _Atomic unsigned running; /* devices that have done some DMA */
static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static struct uiommu_domain *domain;

static uint64_t iova_of(uint64_t page)
{
	return page * setup->stride;
}

/* As emulators do for themselves: sections, addresses, plain stores. True: something was reached.
 */
static bool store_directly(struct uiommu_port *port, uint64_t iova, bool many)
{
	struct uiommu_translation t[4] = {{.iova = iova, .len = LANE}};
	size_t n = 1;
	bool reached = false;

	for (size_t i = 1; i < 4; i++)
		t[i] = (struct uiommu_translation){
			.iova = (iova + i * setup->stride) % iova_of(WINDOW), .len = LANE};
	uiommu_port_enter(port);
	if (many)
		n = uiommu_port_translate_many(port, UIOMMU_WRITE, t, 4);
	else if (uiommu_port_translate_one(port, iova, LANE, UIOMMU_WRITE, &t->addr) != LANE)
		n = 0;
	for (size_t i = 0; i < n; i++) {
		memset((void *)(uintptr_t)t[i].addr, 0xdd, LANE);
		reached = true;
	}
	uiommu_port_leave(port);
	return reached;
}

static void *device(void *arg)
{
	uint16_t rid = (uint16_t)(uintptr_t)arg;
	struct rng rng = {.state = rid};
	struct uiommu_port *port;
	unsigned long hits = 0;
	char buf[LANE];

	if (uiommu_port_create(unit, rid, &port))
		abort();
	uiommu_port_set_master(port, true);
	memset(buf, 0xdd, sizeof(buf));
	while (!stop) {
		/* Each device has its own part of a page, or they would race with each other. */
		uint64_t iova = iova_of(rng_below(&rng, WINDOW)) + rid * LANE;

		if (hits == 1)
			running++;
		/* Inline functions don't fence: they must find each time that they know nothing. */
		if (fences && ((struct uiommu_port_fast *)port)->checked)
			abort();
		switch (rng_below(&rng, 4)) {
		case 0:
			hits += !uiommu_port_write(port, iova, buf,
						   24 + rng_below(&rng, LANE - 24));
			break;
		case 1:
			hits += !uiommu_port_read(port, iova, (char[LANE]){0},
						  24 + rng_below(&rng, LANE - 24));
			break;
		case 2:
			hits += store_directly(port, iova, false);
			break;
		default:
			hits += store_directly(port, iova, true);
			break;
		}
	}
	uiommu_port_destroy(port);
	return (void *)hits;
}

/* No device writes to pages that were taken away. */
static void check_quiet(uint64_t first, uint64_t n, char mark)
{
	uint64_t changed = 0;

	memset(memory + first * PAGE, mark, n * PAGE);
	sched_yield();
	for (uint64_t i = 0; i < n * PAGE; i++)
		changed += memory[first * PAGE + i] != mark;
	assert_int_equal(changed, 0);
}

static void round_unmap(struct rng *rng, uint64_t round)
{
	uint64_t first = rng_below(rng, WINDOW), n = 1 + rng_below(rng, 4), bytes;

	if (first + n > WINDOW)
		n = WINDOW - first;
	assert_int_equal(uiommu_ioas_unmap(ioas,
					   (struct uiommu_range){iova_of(first),
								 iova_of(first + n - 1) + PAGE - 1},
					   &bytes, NULL, NULL),
			 0);
	assert_int_equal(bytes, n * PAGE);
	check_quiet(first, n, (char)(round | 1));
	for (uint64_t i = first; i < first + n; i++)
		assert_int_equal(
			uiommu_ioas_map(ioas,
					(struct uiommu_range){iova_of(i), iova_of(i) + PAGE - 1},
					(uintptr_t)memory + i * PAGE, 3, NULL),
			0);
}

static void race(struct rng *rng, uint64_t rounds)
{
	struct uiommu_unit_options uo = {.size = sizeof(uo), .iotlb_entries = 16};
	pthread_t thread[DEVICES];
	struct uiommu_unit_stats stats;

	stop = false;
	running = 0;
	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &setup->domain, &domain), 0);
	if (setup->window.size)
		assert_int_equal(uiommu_domain_window_create(domain, &setup->window), 0);
	for (uint64_t i = 0; i < WINDOW; i++)
		assert_int_equal(
			uiommu_ioas_map(ioas,
					(struct uiommu_range){iova_of(i), iova_of(i) + PAGE - 1},
					(uintptr_t)memory + i * PAGE, 3, NULL),
			0);
	for (uintptr_t i = 0; i < DEVICES; i++) {
		assert_int_equal(uiommu_domain_attach(domain, i, NULL, 0, "dev"), 0);
		pthread_create(&thread[i], NULL, device, (void *)i);
	}
	while (running < DEVICES)
		sched_yield();
	for (uint64_t round = 0; round < rounds; round++) {
		round_unmap(rng, round);
		if (round % 64 == 0) {
			for (uint64_t i = 0; i < DEVICES; i++)
				uiommu_domain_detach(domain, i);
			check_quiet(0, WINDOW, (char)(round | 1));
			for (uint64_t i = 0; i < DEVICES; i++)
				uiommu_domain_attach(domain, i, NULL, 0, "dev");
		}
	}
	stop = true;
	for (unsigned i = 0; i < DEVICES; i++) {
		void *hits;

		pthread_join(thread[i], &hits);
		assert_true((unsigned long)hits > 0);
		uiommu_domain_detach(domain, i);
	}
	uiommu_unit_stats(unit, &stats);
	assert_int_equal(stats.flushes, rounds);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
}

static void test_race(void **state)
{
	struct rng rng = rng_seeded("race");

	memory = aligned_alloc(PAGE, WINDOW * PAGE);
	for (size_t i = 0; i < SETUPS; i++) {
		setup = &setups[i];
		race(&rng, test_steps(1050) / SETUPS);
	}
	free(memory);
}

/* ---- dirty bits ---- */

static struct table dirty_table;
static _Atomic uint64_t marked; /* writes that found their mapping */

static void *writer(void *arg)
{
	while (!stop)
		for (uint64_t at = PAGE; at < 4 * PAGE; at += PAGE)
			if (table_mark_dirty(&dirty_table, at))
				marked++;
	return NULL;
}

static void count_dirty(void *ctx, struct uiommu_range range)
{
	assert_true(range.first >= PAGE && range.last < 4 * PAGE);
	++*(uint64_t *)ctx;
}

/* A page that stays keeps the tables in place; the others come and go while a device writes. */
static void race_dirty(const char *format, unsigned width)
{
	const struct table_config config = {.format = format, .width = width, .dirty = true};
	const struct uiommu_range all = {PAGE, 4 * PAGE - 1};
	struct gather gather = GATHER_INIT;
	uint64_t dirty = 0, first_pages;
	struct table_leaf leaf;
	pthread_t thread;

	stop = false;
	marked = 0;
	assert_int_equal(table_init(&dirty_table, &config), 0);
	assert_int_equal(table_map(&dirty_table, (struct uiommu_range){0, PAGE - 1}, 0, UIOMMU_READ,
				   &gather),
			 0);
	first_pages = dirty_table.pool.pages;
	pthread_create(&thread, NULL, writer, NULL);
	for (unsigned round = 0; round < 200 || !dirty || !marked; round++) {
		assert_int_equal(table_map(&dirty_table, all, PAGE, 3, &gather), 0);
		table_scan_dirty(&dirty_table, all, true, count_dirty, &dirty, &gather);
		sched_yield();
		table_scan_dirty(&dirty_table, all, true, count_dirty, &dirty, &gather);
		table_unmap(&dirty_table, all, &gather);
		/* What was taken away stays away, whatever the writer was about to do. */
		for (uint64_t at = PAGE; at < 4 * PAGE; at += PAGE)
			assert_false(table_walk(&dirty_table, at, &leaf));
	}
	stop = true;
	pthread_join(thread, NULL);
	assert_int_equal(dirty_table.pool.pages, first_pages);
	table_scan_dirty(&dirty_table, UIOMMU_RANGE_ALL, false, count_dirty, &dirty, &gather);
	table_unmap(&dirty_table, UIOMMU_RANGE_ALL, &gather);
	gather_release(&gather, &dirty_table.pool);
	assert_int_equal(dirty_table.pool.pages, 1);
	table_destroy(&dirty_table);
}

static void test_race_dirty(void **state)
{
	race_dirty("vtd-ss", 48);
	race_dirty("vtd-fs", 48);
	race_dirty("amd-v1", 48);
	race_dirty("arm-s1", 48);
	race_dirty("arm-s2", 44);
	race_dirty("riscv", 48);
}

/* From now on membarrier(2) is not there, as under some sandboxes: ports use fences. */
static int forbid_membarrier(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return -errno;
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_race_dirty),
	};

	fences = argc == 2 && !strcmp(argv[1], "fences");
	if (fences && forbid_membarrier()) {
		fprintf(stderr, "no seccomp filter can be set here: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
