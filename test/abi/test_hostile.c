/* SPDX-License-Identifier: MIT */
/*
 * What a program may do to the front end: pointers that are not there, structs cut at every byte,
 * arguments that change while they are read, many threads at once; and allocations that fail, each
 * in its turn, over a whole session.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi_test.h"
#include "check.h"

#define EDU  "0000:00:01.0"
#define IOAT "0000:00:02.0"

/* ---- pointers ---- */

struct request {
	const char *name;
	char kind; /* container, group, device */
	unsigned long request;
	unsigned size; /* of the struct that succeeds */
	uint32_t words[12];
};

/* Each succeeds on a session that is set up, with the pointer fields filled in below. */
static const struct request requests[] = {
	{"GET_STATUS", 'g', VFIO_GROUP_GET_STATUS, 8, {8}},
	{"IOMMU_GET_INFO", 'c', VFIO_IOMMU_GET_INFO, 24, {24}},
	{"MAP_DMA", 'c', VFIO_IOMMU_MAP_DMA, 32, {32, 3, 0, 0, 0x10000, 0, 0x1000, 0}},
	{"UNMAP_DMA", 'c', VFIO_IOMMU_UNMAP_DMA, 24, {24, 0, 0x10000, 0, 0x1000, 0}},
	{"DIRTY_PAGES", 'c', VFIO_IOMMU_DIRTY_PAGES, 8, {8, 2}},
	{"DEVICE_GET_INFO", 'd', VFIO_DEVICE_GET_INFO, 16, {16}},
	{"GET_REGION_INFO", 'd', VFIO_DEVICE_GET_REGION_INFO, 32, {32}},
	{"GET_IRQ_INFO", 'd', VFIO_DEVICE_GET_IRQ_INFO, 16, {16}},
	{"SET_IRQS", 'd', VFIO_DEVICE_SET_IRQS, 21, {21, 2 | 32, 4, 0, 1, 0}},
	{"IOEVENTFD", 'd', VFIO_DEVICE_IOEVENTFD, 28, {28, 4, 4, 0, 0, 0, 0}},
	{"FEATURE", 'd', VFIO_DEVICE_FEATURE, 8, {8, 1 << 18 | 3}},
};

static int descriptor(const struct session *s, char kind)
{
	return kind == 'c' ? s->container : kind == 'g' ? s->group : s->device;
}

static void fill(const struct rig *rig, const struct request *r, void *to)
{
	static int event = -1;
	uint64_t vaddr = (uintptr_t)rig->memory;

	if (event < 0)
		event = eventfd(0, EFD_NONBLOCK);
	memcpy(to, r->words, r->size);
	if (r->request == VFIO_DEVICE_IOEVENTFD)
		memcpy((char *)to + 24, &event, sizeof(event));
	if (r->request == VFIO_IOMMU_MAP_DMA)
		memcpy((char *)to + 8, &vaddr, sizeof(vaddr));
}

/* Each struct at the end of a page with nothing behind it, whole and then cut at every byte; and
 * each pointer that can't be one. */
static void test_pointers(void **state)
{
	static const unsigned long wild[] = {
		0, 1, 4095, UINT64_MAX, UINT64_MAX - 7, UINT64_MAX & ~4095ul};
	struct rig rig;
	struct session s;
	uint8_t *pages =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(rig_up(&rig, NULL));
	s = rig_session(&rig, 1, VFIO_TYPE1v2_IOMMU, IOAT);
	rig.bad_first = (uintptr_t)pages + PAGE;
	rig.bad_last = rig.bad_first + PAGE - 1;
	assert_int_equal(mprotect(pages + PAGE, PAGE, PROT_NONE), 0);
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		const struct request *r = &requests[i];
		int fd = descriptor(&s, r->kind);
		uint8_t whole[64];
		long ret;

		fill(&rig, r, whole);
		for (unsigned cut = r->size; cut; cut--) {
			uint8_t *at = pages + PAGE - (r->size - cut);

			memcpy(at, whole, r->size - cut);
			ret = rig_ioctl(&rig, fd, r->request, at);
			if (ret != -EFAULT)
				fail_msg("%s cut by %u: %ld", r->name, cut, ret);
		}
		memcpy(pages + PAGE - r->size, whole, r->size);
		ret = rig_ioctl(&rig, fd, r->request, pages + PAGE - r->size);
		if (ret)
			fail_msg("%s: %ld", r->name, ret);
		for (size_t w = 0; w < sizeof(wild) / sizeof(wild[0]); w++) {
			ret = rig_ioctl_value(&rig, fd, r->request, wild[w]);
			if (ret != -EFAULT)
				fail_msg("%s at %lx: %ld", r->name, wild[w], ret);
			assert_int_equal(rig.refused.rule, UIOMMU_RULE_ADDRESS);
		}
	}
	/* A name that ends where its page does. */
	memcpy(pages + PAGE - sizeof(IOAT), IOAT, sizeof(IOAT));
	s.device = rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, pages + PAGE - sizeof(IOAT));
	assert_true(s.device >= 0);
	memmove(pages + PAGE - sizeof(IOAT) + 1, pages + PAGE - sizeof(IOAT), sizeof(IOAT) - 1);
	assert_int_equal(
		rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, pages + PAGE - sizeof(IOAT) + 1),
		-EFAULT);
	rig_down(&rig);
	munmap(pages, 2 * PAGE);
}

static void hide(struct rig *rig, const void *from, size_t len)
{
	rig->bad_first = (uintptr_t)from;
	rig->bad_last = rig->bad_first + len - 1;
}

/* Results that can't be written back: the request says so, and what was done stays done. */
static void test_results_lost(void **state)
{
	struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof(unmap), .size = PAGE};
	struct {
		struct vfio_iommu_type1_info info;
		uint8_t caps[96];
	} info = {.info = {.argsz = sizeof(info)}};
	struct uiommu_vfio_stats stats;
	struct session s;
	struct rig rig;

	assert_true(rig_up(&rig, NULL));
	s = rig_session(&rig, 1, VFIO_TYPE1v2_IOMMU, IOAT);
	/* The end of the chain. */
	rig.bad_first = rig.bad_last = (uintptr_t)&info.caps[95];
	assert_int_equal(rig_ioctl(&rig, s.container, VFIO_IOMMU_GET_INFO, &info), -EFAULT);
	rig.bad_last = 0;
	assert_int_equal(rig_ioctl(&rig, s.container, VFIO_IOMMU_GET_INFO, &info), 0);
	assert_int_equal(rig_map(&rig, s.container, 3, 0, PAGE, rig.memory), 0);
	/* The struct vanishes once it was read. */
	rig.race = hide;
	assert_int_equal(rig_ioctl(&rig, s.container, VFIO_IOMMU_UNMAP_DMA, &unmap), -EFAULT);
	rig.race = NULL;
	rig.bad_last = 0;
	uiommu_vfio_stats(rig.vfio, &stats);
	assert_int_equal(stats.live, 0);
	rig_down(&rig);
}

/* ---- races ---- */

/* As soon as something was read, it changes: to what would be refused, or worse. */
static void scribble(struct rig *rig, const void *from, size_t len)
{
	memset((void *)(uintptr_t)from, 0xff, len);
}

static void test_races(void **state)
{
	struct rig rig;
	struct session s;

	assert_true(rig_up(&rig, NULL));
	s = rig_session(&rig, 1, VFIO_TYPE1v2_IOMMU, IOAT);
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		const struct request *r = &requests[i];
		uint8_t arg[64] = {0};
		long ret;

		fill(&rig, r, arg);
		rig.race = scribble;
		rig.copies_in = 0;
		ret = rig_ioctl(&rig, descriptor(&s, r->kind), r->request, arg);
		rig.race = NULL;
		if (ret)
			fail_msg("%s: %ld", r->name, ret);
		/* Head and data, each once. */
		assert_true(rig.copies_in <= 2);
	}
	rig_down(&rig);
}

/* ---- threads ---- */

struct threads {
	struct rig rig;
	struct session s;
	_Atomic bool stop;
};

static void *map_and_unmap(void *arg)
{
	static _Atomic unsigned next;
	struct threads *t = arg;
	uint64_t base = (uint64_t)++next << 32;

	for (unsigned i = 0; i < 2000; i++) {
		uint64_t size = 0, iova = base + i % 16 * PAGE;

		if (rig_map(&t->rig, t->s.container, 3, iova, PAGE, t->rig.memory))
			return arg;
		size = PAGE;
		if (rig_unmap(&t->rig, t->s.container, 0, iova, &size) || size != PAGE)
			return arg;
	}
	return NULL;
}

static void *open_and_close(void *arg)
{
	struct threads *t = arg;

	while (!t->stop) {
		int device = rig_ioctl(&t->rig, t->s.group, VFIO_GROUP_GET_DEVICE_FD, IOAT);

		if (device < 0)
			return arg;
		rig_config(&t->rig, device, 0, 4);
		rig_close(&t->rig, device);
	}
	return NULL;
}

static void *interrupts(void *arg)
{
	struct threads *t = arg;
	int event = eventfd(0, EFD_NONBLOCK);
	int32_t fds[2] = {event, -1};

	while (!t->stop) {
		rig_irqs(&t->rig, t->s.device, 4 | 32, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, &fds[0]);
		rig_irqs(&t->rig, t->s.device, 1 | 32, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL);
		rig_irqs(&t->rig, t->s.device, 1 | 32, VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL);
		rig_ioctl(&t->rig, t->s.device, VFIO_DEVICE_RESET, NULL);
	}
	close(event);
	return NULL;
}

static void test_threads(void **state)
{
	struct threads t = {.stop = false};
	pthread_t mapper[2], opener, irqs;
	struct uiommu_vfio_stats stats;
	void *failed;

	assert_true(rig_up(&t.rig, NULL));
	t.s = rig_session(&t.rig, 1, VFIO_TYPE1v2_IOMMU, IOAT);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&mapper[i], NULL, map_and_unmap, &t), 0);
	assert_int_equal(pthread_create(&opener, NULL, open_and_close, &t), 0);
	assert_int_equal(pthread_create(&irqs, NULL, interrupts, &t), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(mapper[i], &failed);
		assert_null(failed);
	}
	t.stop = true;
	pthread_join(opener, &failed);
	assert_null(failed);
	pthread_join(irqs, NULL);
	uiommu_vfio_stats(t.rig.vfio, &stats);
	assert_int_equal(stats.maps, 4000);
	assert_int_equal(stats.unmaps, 4000);
	assert_int_equal(stats.live, 0);
	session_close(&t.rig, &t.s);
	assert_int_equal(t.rig.eventfds, 0);
	rig_down(&t.rig);
}

/* ---- allocations that fail ---- */

/* One step of a session; true if it succeeded, else nothing must have changed. */
struct sweep {
	struct rig rig;
	struct session s;
	int event, unmask;
};

static bool step_container(struct sweep *w)
{
	w->s.container = rig_open_container(&w->rig);
	return w->s.container >= 0;
}

static bool step_group(struct sweep *w)
{
	w->s.group = rig_open_group(&w->rig, 0);
	return w->s.group >= 0;
}

static bool step_set_container(struct sweep *w)
{
	return !rig_ioctl(&w->rig, w->s.group, VFIO_GROUP_SET_CONTAINER, &w->s.container);
}

static bool step_set_iommu(struct sweep *w)
{
	return !rig_ioctl_value(&w->rig, w->s.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
}

static bool step_second_group(struct sweep *w)
{
	int group = rig_open_group(&w->rig, 1);
	bool ok;

	if (group < 0)
		return false;
	ok = !rig_ioctl(&w->rig, group, VFIO_GROUP_SET_CONTAINER, &w->s.container);
	if (!ok)
		rig_close(&w->rig, group);
	return ok;
}

static bool step_info(struct sweep *w)
{
	struct {
		struct vfio_iommu_type1_info info;
		uint8_t caps[96];
	} info = {.info = {.argsz = sizeof(info)}};

	return !rig_ioctl(&w->rig, w->s.container, VFIO_IOMMU_GET_INFO, &info);
}

static bool step_map(struct sweep *w)
{
	struct uiommu_vfio_stats before, after;
	bool ok;

	uiommu_vfio_stats(w->rig.vfio, &before);
	ok = !rig_map(&w->rig, w->s.container, 3, UINT64_C(0x123456789000), 3 * PAGE,
		      w->rig.memory);
	uiommu_vfio_stats(w->rig.vfio, &after);
	assert_int_equal(after.live, before.live + ok);
	return ok;
}

static bool step_vaddr(struct sweep *w)
{
	uint64_t size = 3 * PAGE;

	return !rig_unmap(&w->rig, w->s.container, VFIO_DMA_UNMAP_FLAG_VADDR,
			  UINT64_C(0x123456789000), &size);
}

static bool step_new_vaddr(struct sweep *w)
{
	return !rig_map(&w->rig, w->s.container, VFIO_DMA_MAP_FLAG_VADDR, UINT64_C(0x123456789000),
			3 * PAGE, w->rig.memory + 4 * PAGE);
}

static bool step_device(struct sweep *w)
{
	w->s.device = rig_ioctl(&w->rig, w->s.group, VFIO_GROUP_GET_DEVICE_FD, EDU);
	return w->s.device >= 0;
}

static bool step_region(struct sweep *w)
{
	struct {
		struct vfio_region_info info;
		uint8_t caps[8];
	} arg = {.info = {.argsz = sizeof(arg)}};

	return !rig_ioctl(&w->rig, w->s.device, VFIO_DEVICE_GET_REGION_INFO, &arg);
}

static bool step_msi(struct sweep *w)
{
	int32_t fd = w->event;
	bool ok = !rig_irqs(&w->rig, w->s.device, 4 | 32, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &fd);

	assert_int_equal(w->rig.eventfds, ok);
	return ok;
}

static bool step_msi_off(struct sweep *w)
{
	/* Taking down can't fail. */
	assert_int_equal(rig_irqs(&w->rig, w->s.device, 1 | 32, VFIO_PCI_MSI_IRQ_INDEX, 0, 0, NULL),
			 0);
	assert_int_equal(w->rig.eventfds, 0);
	return true;
}

static bool step_intx(struct sweep *w)
{
	int32_t fd = w->event;

	return !rig_irqs(&w->rig, w->s.device, 4 | 32, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &fd);
}

static bool step_unmask(struct sweep *w)
{
	int32_t fd = w->unmask;

	return !rig_irqs(&w->rig, w->s.device, 4 | 16, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &fd);
}

static bool step_ioeventfd(struct sweep *w)
{
	struct vfio_device_ioeventfd arg = {.argsz = 28, .flags = 4, .offset = 4, .fd = w->unmask};
	int before = w->rig.eventfds;
	bool ok = !rig_ioctl(&w->rig, w->s.device, VFIO_DEVICE_IOEVENTFD, &arg);

	assert_int_equal(w->rig.eventfds, before + ok);
	return ok;
}

static bool step_unmap(struct sweep *w)
{
	uint64_t size = 0;

	/* Unmapping needs no memory. */
	assert_int_equal(rig_unmap(&w->rig, w->s.container, VFIO_DMA_UNMAP_FLAG_ALL, 0, &size), 0);
	assert_int_equal(size, 3 * PAGE);
	return true;
}

static bool (*const steps[])(struct sweep *w) = {
	step_container, step_group, step_set_container, step_set_iommu, step_second_group,
	step_info,	step_map,   step_vaddr,		step_new_vaddr, step_device,
	step_region,	step_msi,   step_msi_off,	step_intx,	step_unmask,
	step_ioeventfd, step_unmap,
};

/* A whole session with the nth allocation failing. Every step that fails for it must succeed when
 * it is tried again. Returns whether an allocation failed at all. */
static bool session_with_failure(long nth)
{
	long before = fail_live, bytes = fail_live_bytes;
	struct sweep w = {.s = {-1, -1, -1}};
	bool failed = false;

	w.event = eventfd(0, EFD_NONBLOCK);
	w.unmask = eventfd(0, EFD_NONBLOCK);
	fail_countdown = nth;
	if (!rig_up(&w.rig, NULL)) {
		failed = true;
		assert_true(rig_up(&w.rig, NULL));
	}
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		long live = fail_live;

		if (steps[i](&w))
			continue;
		assert_false(failed);
		failed = true;
		/* What the failure left behind is nothing that grows: at most caches of tables. */
		assert_true(fail_live <= live + 8);
		if (!steps[i](&w))
			fail_msg("step %zu failed twice, allocation %ld", i, nth);
	}
	failed |= fail_countdown < 0;
	fail_countdown = -1;
	rig_down(&w.rig);
	assert_int_equal(w.rig.eventfds, 0);
	close(w.event);
	close(w.unmask);
	assert_int_equal(fail_live, before);
	assert_int_equal(fail_live_bytes, bytes);
	return failed;
}

static void test_allocation_failures(void **state)
{
	long nth = 0;

	uiommu_set_allocator(failing_alloc, failing_release);
	while (session_with_failure(nth))
		nth++;
	/* There were some to fail. */
	assert_true(nth > 20);
	uiommu_set_allocator(NULL, NULL);
}

/* No allocation succeeds while this is set. */
static _Atomic bool no_memory;

static void *alloc_or_not(size_t size, size_t align)
{
	void *ptr;

	if (no_memory || posix_memalign(&ptr, align, size))
		return NULL;
	return memset(ptr, 0, size);
}

static void release(void *ptr, size_t size)
{
	free(ptr);
}

/* A mapping that is to get a new vaddr is never lost, even if there is no memory at all. */
static void test_vaddr_without_memory(void **state)
{
	const uint64_t iova = UINT64_C(0x123456789000);
	struct uiommu_vfio_stats stats;
	uint64_t size = 3 * PAGE;
	struct session s;
	struct rig rig;

	uiommu_set_allocator(alloc_or_not, release);
	assert_true(rig_up(&rig, NULL));
	s = rig_session(&rig, 0, VFIO_TYPE1v2_IOMMU, NULL);
	assert_int_equal(rig_map(&rig, s.container, 3, iova, size, rig.memory), 0);
	assert_int_equal(rig_unmap(&rig, s.container, VFIO_DMA_UNMAP_FLAG_VADDR, iova, &size), 0);
	/* An address that no table can hold is refused before anything is touched. */
	assert_int_equal(rig_map(&rig, s.container, VFIO_DMA_MAP_FLAG_VADDR, iova, size,
				 (void *)(UINT64_C(1) << 60)),
			 -EFAULT);
	/* The table pages that it needs are those of the old address. */
	no_memory = true;
	assert_int_equal(rig_map(&rig, s.container, VFIO_DMA_MAP_FLAG_VADDR, iova, size,
				 rig.memory + 4 * PAGE),
			 0);
	no_memory = false;
	assert_int_equal(rig_unmap(&rig, s.container, 0, iova, &size), 0);
	assert_int_equal(size, 3 * PAGE);
	session_close(&rig, &s);
	uiommu_vfio_stats(rig.vfio, &stats);
	assert_int_equal(stats.live, 0);
	assert_int_equal(stats.live_bytes, 0);
	rig_down(&rig);
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pointers),
		cmocka_unit_test(test_results_lost),
		cmocka_unit_test(test_races),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_allocation_failures),
		cmocka_unit_test(test_vaddr_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
