/* SPDX-License-Identifier: MIT */
/*
 * The sPAPR TCE driver and the no-IOMMU mode from below: pointers that are not there, structs that
 * change while they are read, arguments out of every range, and allocations that fail, each in its
 * turn. Their answers one by one are test/clients' business.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/vfio_private.h"
#include "abi_test.h"
#include "check.h"

#define EDU	 "0000:00:01.0"
#define WINDOW64 (UINT64_C(1) << 59)
#define WRITABLE (RIG_PAGES / 2) /* pages of the rig's memory */

static const struct rig_options pseries = {.platform = "ppc-spapr"};
static const struct rig_options powernv = {.platform = "ppc-spapr,flavour=powernv"};

static long request(struct rig *rig, int fd, unsigned long number, const void *arg)
{
	return rig_ioctl(rig, fd, number, arg);
}

static long registration(struct rig *rig, int fd, unsigned long number, unsigned page,
			 unsigned pages)
{
	struct vfio_iommu_spapr_register_memory memory = {
		.argsz = sizeof(memory),
		.vaddr = (uintptr_t)rig->memory + page * PAGE,
		.size = pages * PAGE,
	};

	return request(rig, fd, number, &memory);
}

static long create_window(struct rig *rig, int fd, unsigned shift, uint64_t size)
{
	struct vfio_iommu_spapr_tce_create create = {
		.argsz = sizeof(create), .page_shift = shift, .window_size = size, .levels = 1};

	return request(rig, fd, VFIO_IOMMU_SPAPR_TCE_CREATE, &create);
}

static long remove_window(struct rig *rig, int fd, uint64_t start)
{
	struct vfio_iommu_spapr_tce_remove remove = {.argsz = sizeof(remove), .start_addr = start};

	return request(rig, fd, VFIO_IOMMU_SPAPR_TCE_REMOVE, &remove);
}

static long unmap(struct rig *rig, int fd, uint64_t iova, uint64_t size)
{
	return rig_unmap(rig, fd, 0, iova, &size);
}

/* ---- pointers and races ---- */

/* Each succeeds in this order, with the memory's address filled in. */
static const struct {
	const char *name;
	unsigned long number;
	unsigned size, vaddr; /* of the struct; where the address goes, 0: nowhere */
	uint32_t words[10];
} requests[] = {
	{"GET_INFO", VFIO_IOMMU_SPAPR_TCE_GET_INFO, 32, 0, {32}},
	{"REGISTER", VFIO_IOMMU_SPAPR_REGISTER_MEMORY, 24, 8, {24, 0, 0, 0, 0x4000}},
	{"MAP_DMA", VFIO_IOMMU_MAP_DMA, 32, 8, {32, 3, 0, 0, 0x10000, 0, 0x1000}},
	{"UNMAP_DMA", VFIO_IOMMU_UNMAP_DMA, 24, 0, {24, 0, 0x10000, 0, 0x1000}},
	{"CREATE", VFIO_IOMMU_SPAPR_TCE_CREATE, 40, 0, {40, 0, 12, 0, 0x1000000, 0, 1}},
	{"REMOVE", VFIO_IOMMU_SPAPR_TCE_REMOVE, 16, 0, {16, 0, 0, 0x8000000}},
	{"UNREGISTER", VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, 24, 8, {24, 0, 0, 0, 0x4000}},
};

#define REQUESTS (sizeof(requests) / sizeof(requests[0]))

static void fill(const struct rig *rig, size_t i, void *to)
{
	uint64_t vaddr = (uintptr_t)rig->memory;

	memcpy(to, requests[i].words, requests[i].size);
	if (requests[i].vaddr)
		memcpy((char *)to + requests[i].vaddr, &vaddr, sizeof(vaddr));
}

static void test_pointers(void **state)
{
	static const unsigned long wild[] = {
		0, 1, 4095, UINT64_MAX, UINT64_MAX - 7, UINT64_MAX & ~4095ul};
	struct rig rig;
	struct session s;
	uint8_t *pages =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(rig_up(&rig, &pseries));
	s = rig_session(&rig, 1, VFIO_SPAPR_TCE_v2_IOMMU, NULL);
	assert_int_equal(registration(&rig, s.container, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, 8, 1),
			 0);
	rig.bad_first = (uintptr_t)pages + PAGE;
	rig.bad_last = rig.bad_first + PAGE - 1;
	for (size_t i = 0; i < REQUESTS; i++) {
		unsigned size = requests[i].size;
		uint8_t whole[64];
		long ret;

		fill(&rig, i, whole);
		for (unsigned cut = size; cut; cut--) {
			uint8_t *at = pages + PAGE - (size - cut);

			/* GET_INFO reads half of its struct, and has nothing to undo. */
			memcpy(at, whole, size - cut);
			ret = request(&rig, s.container, requests[i].number, at);
			if (ret != -EFAULT)
				fail_msg("%s cut by %u: %ld", requests[i].name, cut, ret);
		}
		for (size_t w = 0; w < sizeof(wild) / sizeof(wild[0]); w++) {
			ret = rig_ioctl_value(&rig, s.container, requests[i].number, wild[w]);
			if (ret != -EFAULT)
				fail_msg("%s at %lx: %ld", requests[i].name, wild[w], ret);
		}
		memcpy(pages + PAGE - size, whole, size);
		ret = request(&rig, s.container, requests[i].number, pages + PAGE - size);
		if (ret)
			fail_msg("%s: %ld", requests[i].name, ret);
	}
	rig_down(&rig);
	munmap(pages, 2 * PAGE);
}

static void scribble(struct rig *rig, const void *from, size_t len)
{
	memset((void *)(uintptr_t)from, 0xff, len);
}

/* A struct is read once, whatever happens to it then. */
static void test_races(void **state)
{
	struct rig rig;
	struct session s;

	assert_true(rig_up(&rig, &powernv));
	s = rig_session(&rig, 1, VFIO_SPAPR_TCE_v2_IOMMU, NULL);
	for (size_t i = 0; i < REQUESTS; i++) {
		uint8_t arg[64];
		long ret;

		fill(&rig, i, arg);
		rig.race = scribble;
		rig.copies_in = 0;
		ret = request(&rig, s.container, requests[i].number, arg);
		rig.race = NULL;
		if (ret)
			fail_msg("%s: %ld", requests[i].name, ret);
		assert_int_equal(rig.copies_in, 1);
	}
	rig_down(&rig);
}

/* ---- arguments out of every range ---- */

static uint64_t any(struct rng *rng, const struct rig *rig)
{
	const uint64_t values[] = {
		0,
		1,
		PAGE - 1,
		PAGE,
		3 * PAGE,
		0x10000,
		0x3ffff000,
		0x40000000,
		UINT32_MAX,
		WINDOW64,
		WINDOW64 + 0xfff000,
		UINT64_C(1) << 63,
		-PAGE,
		UINT64_MAX,
		(uintptr_t)rig->memory,
		(uintptr_t)rig->memory + (WRITABLE - 1) * PAGE,
		(uintptr_t)rig->memory + (RIG_PAGES - 1) * PAGE,
		(uintptr_t)rig->memory + rng_below(rng, WRITABLE) * PAGE,
		rng_below(rng, 64) * PAGE,
		rng_next(rng),
	};

	return values[rng_below(rng, sizeof(values) / sizeof(values[0]))];
}

/* Entries that were clear already are not counted as unmapped. */
static void test_unmaps_counted(void **state)
{
	struct uiommu_vfio_stats stats;
	struct session s;
	struct rig rig;

	assert_true(rig_up(&rig, &powernv));
	s = rig_session(&rig, 1, VFIO_SPAPR_TCE_v2_IOMMU, NULL);
	assert_int_equal(registration(&rig, s.container, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, 0, 16),
			 0);
	assert_int_equal(rig_map(&rig, s.container, 3, 0, 16 * PAGE, rig.memory), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(unmap(&rig, s.container, 0, 16 * PAGE), 0);
	uiommu_vfio_stats(rig.vfio, &stats);
	assert_int_equal(stats.maps, 1);
	assert_int_equal(stats.unmaps, 1);
	session_close(&rig, &s);
	rig_down(&rig);
}

/* Whatever is asked, the answer is a known one, and in the end nothing is left. */
static void test_any_arguments(void **state)
{
	struct rng rng = rng_seeded("any arguments");
	uint64_t answered[8] = {0};

	for (unsigned round = 0; round < 12; round++) {
		struct rig_options options = round & 1 ? powernv : pseries;
		struct uiommu_vfio_stats stats;
		struct session s;
		struct rig rig;

		options.memlock = true;
		assert_true(rig_up(&rig, &options));
		s = rig_session(&rig, 1, round & 2 ? VFIO_SPAPR_TCE_IOMMU : VFIO_SPAPR_TCE_v2_IOMMU,
				NULL);
		for (uint64_t i = 0, n = test_steps(4000); i < n; i++) {
			size_t r = rng_below(&rng, REQUESTS + 2);
			uint64_t arg[8] = {0};
			long ret;

			if (r >= REQUESTS) {
				ret = rig_ioctl_value(
					&rig, s.container,
					r == REQUESTS ? VFIO_IOMMU_ENABLE : VFIO_IOMMU_DISABLE, 0);
			} else {
				fill(&rig, r, arg);
				for (uint64_t k = rng_below(&rng, 3); k--;)
					arg[1 + rng_below(&rng, 4)] = any(&rng, &rig);
				if (!rng_below(&rng, 8))
					((uint32_t *)arg)[1] = rng_below(&rng, 16);
				ret = request(&rig, s.container, requests[r].number, arg);
			}
			if (ret != 0 && ret != -EINVAL && ret != -ENXIO && ret != -EFAULT &&
			    ret != -EBUSY && ret != -ENOENT && ret != -ENOSPC && ret != -EPERM &&
			    ret != -ENOTTY && ret != -ENOMEM)
				fail_msg("request %zu: %ld", r, ret);
			answered[r < REQUESTS ? r : 7] += !ret;
		}
		session_close(&rig, &s);
		uiommu_vfio_stats(rig.vfio, &stats);
		assert_int_equal(stats.live, 0);
		assert_int_equal(stats.live_bytes, 0);
		assert_int_equal(rig.vfio->locked_pages, 0);
		assert_int_equal(rig.vfio->memory.pieces.count, 0);
		rig_down(&rig);
	}
	for (size_t i = 0; i < REQUESTS; i++)
		assert_true(answered[i] > 0);
}

/* ---- two containers, one memory ---- */

struct sharer {
	struct rig *rig;
	struct session s;
	uint64_t seed;
	_Atomic uint64_t mapped;
};

/* Registered memory is the program's: what one container registers the other can map, and it stays
 * as long as either has it, or has it mapped. */
static void *share(void *arg)
{
	struct sharer *me = arg;
	struct rng rng = {me->seed};
	int c = me->s.container;

	for (unsigned i = 0; i < 3000; i++) {
		unsigned page = rng_below(&rng, 4) * 4, at = rng_below(&rng, 8);

		switch (rng_below(&rng, 5)) {
		case 0:
			registration(me->rig, c, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, page, 4);
			break;
		case 1:
			registration(me->rig, c, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, page, 4);
			break;
		case 2:
			unmap(me->rig, c, at * PAGE, 4 * PAGE);
			break;
		default:
			me->mapped += !rig_map(me->rig, c, 3, at * PAGE, 6 * PAGE,
					       me->rig->memory + page * PAGE);
		}
	}
	return NULL;
}

static void test_shared_memory(void **state)
{
	struct rng rng = rng_seeded("shared memory");
	struct rig_options options = pseries;
	struct sharer sharers[2];
	pthread_t threads[2];
	struct rig rig;

	options.memlock = true;
	assert_true(rig_up(&rig, &options));
	for (unsigned i = 0; i < 2; i++)
		sharers[i] = (struct sharer){
			.rig = &rig,
			.s = rig_session(&rig, i, VFIO_SPAPR_TCE_v2_IOMMU, NULL),
			.seed = rng_next(&rng),
		};
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, share, &sharers[i]), 0);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_true(sharers[i].mapped > 0);
	}
	for (unsigned i = 0; i < 2; i++)
		session_close(&rig, &sharers[i].s);
	assert_int_equal(rig.vfio->memory.pieces.count, 0);
	assert_int_equal(rig.vfio->locked_pages, 0);
	rig_down(&rig);
}

/* ---- allocations that fail ---- */

struct sweep {
	struct rig rig;
	struct session s;
	bool failed;
};

/* 0, or once: -ENOMEM, and then it must succeed. */
static bool done(struct sweep *w, long ret, const char *what, long nth)
{
	if (!ret)
		return true;
	if (ret != -ENOMEM || w->failed)
		fail_msg("%s, allocation %ld: %ld", what, nth, ret);
	assert_int_equal(w->rig.refused.rule, UIOMMU_RULE_NO_MEMORY);
	w->failed = true;
	return false;
}

#define TRY(call)                                    \
	do {                                         \
		while (!done(w, (call), #call, nth)) \
			;                            \
	} while (0)

static long open_container(struct sweep *w)
{
	w->s.container = rig_open_container(&w->rig);
	return w->s.container < 0 ? w->s.container : 0;
}

static long open_group(struct sweep *w, unsigned number)
{
	w->s.group = rig_open_group(&w->rig, number);
	return w->s.group < 0 ? w->s.group : 0;
}

static uint64_t live(struct sweep *w)
{
	struct uiommu_vfio_stats stats;

	uiommu_vfio_stats(w->rig.vfio, &stats);
	return stats.live_bytes;
}

static void session_spapr(struct sweep *w, long nth)
{
	struct rig *rig = &w->rig;
	uint64_t pages;
	int c;

	TRY(open_container(w));
	TRY(open_group(w, 1));
	c = w->s.container;
	TRY(request(rig, w->s.group, VFIO_GROUP_SET_CONTAINER, &c));
	TRY(rig_ioctl_value(rig, c, VFIO_SET_IOMMU, VFIO_SPAPR_TCE_v2_IOMMU));
	TRY(registration(rig, c, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, 0, 16));
	TRY(registration(rig, c, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, 16, 16));
	assert_int_equal(registration(rig, c, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, 0, 16), -EBUSY);
	TRY(rig_map(rig, c, 3, 0, 32 * PAGE, rig->memory));
	assert_int_equal(live(w), 32 * PAGE);
	TRY(create_window(rig, c, 12, 1 << 26));
	for (unsigned i = 0; i < 31; i += 2) {
		TRY(rig_map(rig, c, 3, WINDOW64 + i * PAGE, PAGE, rig->memory + i * PAGE));
		assert_int_equal(live(w), (33 + i / 2) * PAGE);
	}
	/* Pieces of areas, in the middle and at an end. */
	for (unsigned i = 1; i < 31; i += 2) {
		TRY(rig_map(rig, c, 3, i * PAGE, PAGE, rig->memory));
		assert_int_equal(live(w), 48 * PAGE);
	}
	pages = 48;
	for (unsigned i = 0; i < 30; i += 3, pages--) {
		TRY(unmap(rig, c, i * PAGE, PAGE));
		assert_int_equal(live(w), (pages - 1) * PAGE);
	}
	TRY(rig_map(rig, c, 3, 0, 32 * PAGE, rig->memory));
	assert_int_equal(live(w), 48 * PAGE);
	/* Removing needs no memory. */
	assert_int_equal(remove_window(rig, c, WINDOW64 + 5), 0);
	assert_int_equal(live(w), 32 * PAGE);
	assert_int_equal(registration(rig, c, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, 0, 16), 0);
	assert_int_equal(remove_window(rig, c, 0), 0);
	assert_int_equal(live(w), 0);
	TRY(create_window(rig, c, 16, 1 << 30));
}

static void session_noiommu(struct sweep *w, long nth)
{
	struct rig *rig = &w->rig;
	int c;

	TRY(open_container(w));
	TRY(open_group(w, 0));
	c = w->s.container;
	TRY(request(rig, w->s.group, VFIO_GROUP_SET_CONTAINER, &c));
	TRY(rig_ioctl_value(rig, c, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU));
	do {
		w->s.device = rig_ioctl(rig, w->s.group, VFIO_GROUP_GET_DEVICE_FD, EDU);
	} while (!done(w, w->s.device < 0 ? w->s.device : 0, "GET_DEVICE_FD", nth));
}

static bool sweep_once(const struct rig_options *options, void (*session)(struct sweep *, long),
		       long nth)
{
	struct sweep w = {.s = {-1, -1, -1}};

	fail_countdown = nth;
	if (!rig_up(&w.rig, options)) {
		w.failed = true;
		assert_true(rig_up(&w.rig, options));
	}
	session(&w, nth);
	w.failed |= fail_countdown < 0;
	fail_countdown = -1;
	session_close(&w.rig, &w.s);
	assert_int_equal(w.rig.vfio->locked_pages, 0);
	rig_down(&w.rig);
	assert_int_equal(fail_live, 0);
	return w.failed;
}

static void sweep(const struct rig_options *options, void (*session)(struct sweep *, long))
{
	long nth = 0;

	uiommu_set_allocator(failing_alloc, failing_release);
	while (sweep_once(options, session, nth))
		nth++;
	assert_true(nth > 10);
	uiommu_set_allocator(NULL, NULL);
}

static void test_allocation_failures(void **state)
{
	static const struct rig_options none = {.platform = "none,rawio=yes"};
	struct rig_options options = pseries;

	options.memlock = true;
	sweep(&options, session_spapr);
	sweep(&none, session_noiommu);
}

/* ---- the no-IOMMU mode ---- */

static void test_noiommu_capability(void **state)
{
	static const char *const functions[] = {"edu", "edu,driver=e1000e", NULL};
	struct rig_options options = {.platform = "none", .functions = functions};
	int container, group;
	struct rig rig;

	assert_true(rig_up(&rig, &options));
	assert_int_equal(rig.logs, 1); /* the taint, for what vfio-pci holds */
	assert_non_null(strstr(rig.logged, "Adding kernel taint"));
	assert_int_equal(rig_open_group(&rig, 0), -EPERM);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_CAPABILITY);
	assert_int_equal(rig_open_group(&rig, 1), -ENODEV); /* before that */
	assert_int_equal(rig_open_group(&rig, 7), -ENODEV);
	rig_down(&rig);

	options.platform = "none,rawio=yes";
	assert_true(rig_up(&rig, &options));
	container = rig_open_container(&rig);
	group = rig_open_group(&rig, 0);
	assert_true(container >= 0 && group >= 0);
	assert_int_equal(rig_open_group(&rig, 0), -EBUSY);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &group), -EBADFD);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	assert_int_equal(rig_ioctl_value(&rig, container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU),
			 -ENODEV);
	assert_int_equal(rig_ioctl_value(&rig, container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU), 0);
	assert_true(rig_ioctl(&rig, group, VFIO_GROUP_GET_DEVICE_FD, EDU) >= 0);
	assert_int_equal(rig.logs, 2);
	assert_non_null(strstr(rig.logged, "vfio-noiommu device opened by user"));
	rig_down(&rig);
}

/* Each device has a group of its own, whatever the command line wants. */
static void test_noiommu_groups(void **state)
{
	struct uiommu_machine_options options = {.size = sizeof(options), .platform = "none"};
	struct uiommu_machine *machine;
	char why[256];

	assert_int_equal(uiommu_machine_create(&options, &machine, why, sizeof(why)), 0);
	assert_int_equal(uiommu_machine_add(machine, "edu,group=4", why, sizeof(why)), 0);
	assert_int_equal(uiommu_machine_add(machine, "edu,group=4", why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "group=4"));
	assert_int_equal(uiommu_machine_add(machine, "edu", why, sizeof(why)), 0);
	uiommu_machine_destroy(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pointers),
		cmocka_unit_test(test_races),
		cmocka_unit_test(test_unmaps_counted),
		cmocka_unit_test(test_any_arguments),
		cmocka_unit_test(test_shared_memory),
		cmocka_unit_test(test_allocation_failures),
		cmocka_unit_test(test_noiommu_capability),
		cmocka_unit_test(test_noiommu_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
