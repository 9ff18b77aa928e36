/* SPDX-License-Identifier: MIT */
/* Accesses by software, and memory that its maker takes back (IOMMU_TEST_CMD): every way in and
 * out, each allocation of the mock's whole life failing once, and threads that race. */
#include <sched.h>
#include <sys/uio.h>

#include "mock_rig.h"

#define HOLDS	   MOCK_ACCESS_NEEDS_PIN_PAGES
#define LENGTH_MAX (UINT64_C(16) << 20)

/* A context with an address space that shows the rig's memory: two pages to be written, one only to
 * be read. */
struct shown {
	struct rig rig;
	int fd;
	uint32_t ioas;
};

static void shown_up(struct shown *s)
{
	uint64_t iova = MOCK_FIRST + 2 * PAGE;

	assert_true(rig_up(&s->rig, &mock_machine));
	s->fd = rig_open_iommufd(&s->rig);
	s->ioas = ioas_alloc(&s->rig, s->fd);
	assert_int_equal(ioas_map_at(&s->rig, s->fd, s->ioas, s->rig.memory, 2 * PAGE, MOCK_FIRST),
			 0);
	assert_int_equal(ioas_map(&s->rig, s->fd, s->ioas,
				  IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
				  s->rig.memory + 2 * PAGE, PAGE, &iova),
			 0);
}

static void shown_down(struct shown *s)
{
	rig_close(&s->rig, s->fd);
	rig_down(&s->rig);
}

/* ---- accesses ---- */

static void test_life(void **state)
{
	uint8_t buf[8];
	struct shown s;
	uint32_t id;
	int access;

	shown_up(&s);
	assert_int_equal(access_new(&s.rig, s.fd, s.ioas, 2), -EOPNOTSUPP);
	assert_int_equal(access_new(&s.rig, s.fd, 99, 0), -ENOENT);
	s.rig.no_descriptors = true;
	assert_int_equal(access_new(&s.rig, s.fd, s.ioas, 0), -EMFILE);
	s.rig.no_descriptors = false;
	access = access_new(&s.rig, s.fd, s.ioas, 0);
	assert_true(access >= 0);
	assert_int_equal(destroy_id(&s.rig, s.fd, s.ioas), -EBUSY);
	/* Descriptors of other things. */
	assert_int_equal(access_rw(&s.rig, s.fd, s.fd, MOCK_FIRST, 1, buf, 0), -EBADFD);
	assert_int_equal(access_rw(&s.rig, s.fd, 5, MOCK_FIRST, 1, buf, 0), -EBADFD);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, PAGE, NULL, 0, &id),
			 -EOPNOTSUPP);
	rig_close(&s.rig, access);
	assert_int_equal(destroy_id(&s.rig, s.fd, s.ioas), 0);
	shown_down(&s);
	/* It keeps its context. */
	shown_up(&s);
	access = access_new(&s.rig, s.fd, s.ioas, HOLDS);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, PAGE, NULL, 0, &id), 0);
	rig_close(&s.rig, s.fd);
	rig_close(&s.rig, access);
	rig_down(&s.rig);
}

static void test_read_write(void **state)
{
	uint8_t *memory, buf[2 * PAGE];
	struct shown s;
	int access;

	shown_up(&s);
	memory = s.rig.memory;
	access = access_new(&s.rig, s.fd, s.ioas, 0);
	memset(memory, 0x11, 3 * PAGE);
	memset(buf, 0x22, sizeof(buf));
	/* Over the border of two areas. */
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST + 2 * PAGE - 4, 8, buf, 0), 0);
	assert_int_equal(buf[7], 0x11);
	assert_int_equal(buf[8], 0x22);
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST + 3, PAGE, buf, MOCK_RW_WRITE),
			 0);
	assert_int_equal(memory[2], 0x11);
	assert_memory_equal(memory + 3, buf, PAGE);
	assert_int_equal(memory[PAGE + 3], 0x11);
	/* The second is only to be read; what came before is written. */
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST + 2 * PAGE - 4, 8, buf + 8,
				   MOCK_RW_WRITE | MOCK_RW_SLOW_PATH),
			 -EPERM);
	assert_int_equal(memory[2 * PAGE - 1], 0x22);
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST + 3 * PAGE - 1, 2, buf, 0),
			 -ENOENT);
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST - 1, 2, buf, 0), -ENOENT);
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST, 0, buf, 0), -EINVAL);
	assert_int_equal(access_rw(&s.rig, s.fd, access, UINT64_MAX, 2, buf, 0), -EOVERFLOW);
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST, LENGTH_MAX + 1, buf, 0),
			 -ENOMEM);
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST, 8, buf, 2), -EOPNOTSUPP);
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST, 8, (void *)8, 0), -EFAULT);
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST, 8, (void *)8, MOCK_RW_WRITE),
			 -EFAULT);
	rig_close(&s.rig, access);
	shown_down(&s);
}

static void test_pages(void **state)
{
	uint64_t length = 2 * PAGE;
	uint32_t first, second, id;
	const uint8_t *memory;
	struct shown s;
	int access;

	shown_up(&s);
	memory = s.rig.memory;
	access = access_new(&s.rig, s.fd, s.ioas, HOLDS);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, 3 * PAGE, memory, 0, &first),
			 0);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, PAGE, memory,
				     MOCK_PAGES_WRITE, &second),
			 0);
	assert_int_not_equal(first, second);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, PAGE, memory + PAGE, 0, &id),
			 -EBADE);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, 3 * PAGE, memory,
				     MOCK_PAGES_WRITE, &id),
			 -EPERM);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, 4 * PAGE, memory, 0, &id),
			 -ENOENT);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST + 1, PAGE, NULL, 0, &id),
			 -EINVAL);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, 0, NULL, 0, &id), -EINVAL);
	assert_int_equal(access_hold(&s.rig, s.fd, access, UINT64_MAX, 2, NULL, 0, &id),
			 -EOVERFLOW);
	assert_int_equal(
		access_hold(&s.rig, s.fd, access, MOCK_FIRST, LENGTH_MAX + 1, NULL, 0, &id),
		-ENOMEM);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, PAGE, NULL, 2, &id),
			 -EOPNOTSUPP);
	assert_int_equal(access_let_go(&s.rig, s.fd, access, second), 0);
	assert_int_equal(access_let_go(&s.rig, s.fd, access, second), -ENOENT);
	/* Whatever shows a part of what is held goes: so does the hold. */
	assert_int_equal(
		access_hold(&s.rig, s.fd, access, MOCK_FIRST + 2 * PAGE, PAGE, NULL, 0, &second),
		0);
	assert_int_equal(ioas_unmap(&s.rig, s.fd, s.ioas, MOCK_FIRST, &length), 0);
	assert_int_equal(access_let_go(&s.rig, s.fd, access, first), -ENOENT);
	assert_int_equal(access_let_go(&s.rig, s.fd, access, second), 0);
	rig_close(&s.rig, access);
	shown_down(&s);
}

/* The struct can't be written any more once it was read. */
static void struct_goes(struct rig *rig, const void *from, size_t len)
{
	if (len == sizeof(uint32_t)) /* its size only */
		return;
	rig->bad_first = (uintptr_t)from;
	rig->bad_last = rig->bad_first + len - 1;
}

/* Who can't be told the number of what he holds holds nothing. */
static void test_number_not_told(void **state)
{
	struct shown s;
	uint32_t id;
	int access;

	shown_up(&s);
	access = access_new(&s.rig, s.fd, s.ioas, HOLDS);
	s.rig.race = struct_goes;
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, PAGE, NULL, 0, &id),
			 -EFAULT);
	s.rig.race = NULL;
	s.rig.bad_last = 0;
	assert_int_equal(check_refs(&s.rig, s.fd, s.rig.memory, PAGE, 0), 0);
	assert_int_equal(access_let_go(&s.rig, s.fd, access, 0), -ENOENT);
	rig_close(&s.rig, access);
	shown_down(&s);
}

static void test_move(void **state)
{
	uint8_t buf[8];
	uint32_t other, id;
	struct shown s;
	int access;

	shown_up(&s);
	other = ioas_alloc(&s.rig, s.fd);
	access = access_new(&s.rig, s.fd, s.ioas, HOLDS);
	assert_int_equal(access_hold(&s.rig, s.fd, access, MOCK_FIRST, PAGE, NULL, 0, &id), 0);
	assert_int_equal(access_move(&s.rig, s.fd, access, 99), -ENOENT);
	assert_int_equal(access_move(&s.rig, s.fd, access, s.ioas), 0);
	assert_int_equal(check_refs(&s.rig, s.fd, s.rig.memory, PAGE, 1), 0);
	/* What it held is left behind. */
	assert_int_equal(access_move(&s.rig, s.fd, access, other), 0);
	assert_int_equal(check_refs(&s.rig, s.fd, s.rig.memory, PAGE, 0), 0);
	assert_int_equal(access_let_go(&s.rig, s.fd, access, id), -ENOENT);
	assert_int_equal(access_rw(&s.rig, s.fd, access, MOCK_FIRST, 8, buf, 0), -ENOENT);
	assert_int_equal(destroy_id(&s.rig, s.fd, other), -EBUSY);
	assert_int_equal(destroy_id(&s.rig, s.fd, s.ioas), 0);
	assert_int_equal(access_move(&s.rig, s.fd, s.fd, other), -EBADFD);
	rig_close(&s.rig, access);
	shown_down(&s);
}

/* ---- dma-bufs ---- */

static void find_iova(void *ctx, struct uiommu_ioas *ioas, const char *name)
{
	uint64_t *iova = ctx;
	struct uiommu_area area;

	if (!uiommu_ioas_find(ioas, *iova, &area))
		*iova = area.addr;
}

/* Can this process read where the IOVA leads to? */
static bool reachable(struct rig *rig, uint64_t iova)
{
	struct iovec to = {&iova, 1}, from = {NULL, 1};
	uint64_t addr = iova;

	uiommu_vfio_each_ioas(rig->vfio, find_iova, &addr);
	assert_true(addr != iova);
	from.iov_base = (void *)(uintptr_t)addr;
	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

static void test_dmabuf(void **state)
{
	const uint64_t here = MOCK_FIRST + 16 * PAGE, there = MOCK_FIRST + 32 * PAGE;
	uint8_t buf[8] = "dma-buf";
	uint64_t length = PAGE;
	struct mock mock;
	struct shown s;
	int dmabuf, access;

	shown_up(&s);
	assert_int_equal(dmabuf_new(&s.rig, s.fd, 0), -EINVAL);
	assert_int_equal(dmabuf_new(&s.rig, s.fd, 512 * PAGE + 1), -EINVAL);
	s.rig.no_descriptors = true;
	assert_int_equal(dmabuf_new(&s.rig, s.fd, PAGE), -EMFILE);
	s.rig.no_descriptors = false;
	dmabuf = dmabuf_new(&s.rig, s.fd, 3 * PAGE + 1);
	assert_true(dmabuf >= 0);
	assert_int_equal(dmabuf_revoke(&s.rig, s.fd, s.fd, true), -EINVAL);
	assert_int_equal(dmabuf_revoke(&s.rig, s.fd, -1, true), -EINVAL);
	/* Its memory is whole pages. */
	assert_int_equal(map_dmabuf(&s.rig, s.fd, s.ioas, dmabuf, PAGE, 4 * PAGE, here), -EINVAL);
	assert_int_equal(map_dmabuf(&s.rig, s.fd, s.ioas, dmabuf, 0, 4 * PAGE, here), 0);
	assert_int_equal(map_dmabuf(&s.rig, s.fd, s.ioas, dmabuf, PAGE, PAGE, there), 0);
	s.rig.any_memory = true;
	assert_int_equal(mock_device(&s.rig, s.fd, s.ioas, 0, &mock), 0);
	/* Both show the same. */
	access = access_new(&s.rig, s.fd, s.ioas, 0);
	assert_int_equal(access_rw(&s.rig, s.fd, access, here + PAGE, 8, buf, MOCK_RW_WRITE), 0);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(access_rw(&s.rig, s.fd, access, there, 8, buf, 0), 0);
	assert_string_equal(buf, "dma-buf");
	/* Taken back: what was mapped is gone for good, and nothing is mapped anew till it is given
	 * back. */
	assert_true(reachable(&s.rig, there));
	assert_int_equal(dmabuf_revoke(&s.rig, s.fd, dmabuf, true), 0);
	assert_false(reachable(&s.rig, there));
	assert_int_equal(map_dmabuf(&s.rig, s.fd, s.ioas, dmabuf, 0, PAGE, there + PAGE), -ENODEV);
	assert_int_equal(dmabuf_revoke(&s.rig, s.fd, dmabuf, false), 0);
	assert_false(reachable(&s.rig, there));
	assert_int_equal(map_dmabuf(&s.rig, s.fd, s.ioas, dmabuf, PAGE, PAGE, there + PAGE), 0);
	assert_true(reachable(&s.rig, there + PAGE));
	assert_int_equal(ioas_unmap(&s.rig, s.fd, s.ioas, there, &length), 0);
	/* It lives as long as it is shown. */
	rig_close(&s.rig, dmabuf);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(access_rw(&s.rig, s.fd, access, there + PAGE, 8, buf, 0), 0);
	assert_string_equal(buf, "dma-buf");
	rig_close(&s.rig, access);
	shown_down(&s);
}

/* ---- without memory ---- */

/* A life with all that the mock has. */
struct life {
	struct rig rig;
	int fd, access, dmabuf, events, faults;
	uint32_t ioas, other, faults_id, events_id, parent, dirty, nested, viommu, vdevice, queue,
		pages;
	struct mock mock, second;
	struct mock_viommu_data page;
	struct uiommu_vfio_mapping mapping;
};

typedef long (*step_fn)(struct life *l);

static long descriptor(int ret, int *fd)
{
	*fd = ret;
	return ret < 0 ? ret : 0;
}

static long step_open(struct life *l)
{
	return descriptor(rig_open_iommufd(&l->rig), &l->fd);
}

static long alloc_ioas(struct life *l, uint32_t *id)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
	long ret = rig_ioctl(&l->rig, l->fd, IOMMU_IOAS_ALLOC, &alloc);

	*id = alloc.out_ioas_id;
	return ret;
}

static long step_ioas(struct life *l)
{
	return alloc_ioas(l, &l->ioas);
}

static long step_other(struct life *l)
{
	return alloc_ioas(l, &l->other);
}

static long step_map(struct life *l)
{
	return ioas_map_at(&l->rig, l->fd, l->ioas, l->rig.memory, 8 * PAGE, MOCK_FIRST);
}

static long step_dmabuf(struct life *l)
{
	return descriptor(dmabuf_new(&l->rig, l->fd, 2 * PAGE), &l->dmabuf);
}

static long step_map_dmabuf(struct life *l)
{
	return map_dmabuf(&l->rig, l->fd, l->ioas, l->dmabuf, 0, 2 * PAGE, MOCK_FIRST + 64 * PAGE);
}

static long step_device(struct life *l)
{
	return mock_device(&l->rig, l->fd, l->ioas, MOCK_DEVICE_PASID, &l->mock);
}

static long step_second(struct life *l)
{
	return mock_device(&l->rig, l->fd, l->ioas, 0, &l->second);
}

static long step_replace(struct life *l)
{
	return mock_replace(&l->rig, l->fd, l->second.id, l->other);
}

static long step_access(struct life *l)
{
	return descriptor(access_new(&l->rig, l->fd, l->ioas, HOLDS), &l->access);
}

static long step_hold(struct life *l)
{
	return access_hold(&l->rig, l->fd, l->access, MOCK_FIRST, 2 * PAGE, l->rig.memory, 0,
			   &l->pages);
}

static long step_rw(struct life *l)
{
	uint8_t buf[8] = {0};

	return access_rw(&l->rig, l->fd, l->access, MOCK_FIRST, 8, buf, MOCK_RW_WRITE);
}

static long step_move(struct life *l)
{
	return access_move(&l->rig, l->fd, l->access, l->other);
}

static long step_dirty(struct life *l)
{
	return hwpt_alloc(&l->rig, l->fd, l->mock.device, l->ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
			  &l->dirty);
}

static long step_mark(struct life *l)
{
	struct iommu_hwpt_set_dirty_tracking set = {
		.size = sizeof(set), .flags = 1, .hwpt_id = l->dirty};
	uint64_t bits = 1;
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_DIRTY,
		.id = l->dirty,
		.dirty = {.iova = MOCK_FIRST,
			  .length = 8 * PAGE,
			  .page_size = PAGE,
			  .uptr = (uintptr_t)&bits},
	};
	long ret = rig_ioctl(&l->rig, l->fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set);

	return ret ? ret : test_cmd(&l->rig, l->fd, &cmd);
}

static long step_parent(struct life *l)
{
	return hwpt_alloc(&l->rig, l->fd, l->mock.device, l->ioas, IOMMU_HWPT_ALLOC_NEST_PARENT,
			  &l->parent);
}

static long step_viommu(struct life *l)
{
	return viommu_new(&l->rig, l->fd, l->mock.device, l->parent, &l->page, &l->viommu);
}

static long step_mmap(struct life *l)
{
	return uiommu_vfio_mmap(rig_file(&l->rig, l->fd), l->page.out_mmap_length, PROT_READ,
				MAP_SHARED, l->page.out_mmap_offset, &l->mapping);
}

static long step_vdevice(struct life *l)
{
	return vdevice_new(&l->rig, l->fd, l->viommu, l->mock.device, 0x55, &l->vdevice);
}

static long step_queue(struct life *l)
{
	return hw_queue_new(&l->rig, l->fd, l->viommu, 0, MOCK_FIRST, PAGE, &l->queue);
}

static long step_faults(struct life *l)
{
	return fault_alloc(&l->rig, l->fd, &l->faults, &l->faults_id);
}

static long step_events(struct life *l)
{
	return events_new(&l->rig, l->fd, l->viommu, &l->events, &l->events_id);
}

static long step_nested(struct life *l)
{
	return nest(&l->rig, l->fd, l->mock.device, l->viommu, 7, l->faults_id, &l->nested);
}

static long step_attach_nested(struct life *l)
{
	return mock_replace(&l->rig, l->fd, l->mock.id, l->nested);
}

static long step_iopf(struct life *l)
{
	return trigger_iopf(&l->rig, l->fd, l->mock.device, 0, 1);
}

/* An event without memory is lost, which is no error. */
static long step_vevent(struct life *l)
{
	return trigger_vevent(&l->rig, l->fd, l->mock.device);
}

static long step_drop(struct life *l)
{
	const struct mock_viommu_invalidate request = {MOCK_INVALIDATE_ALL, 0x55, 0};
	uint32_t count = 1;

	return invalidate(&l->rig, l->fd, l->viommu, &request, sizeof(request), &count);
}

static const step_fn steps[] = {
	step_open,    step_ioas,   step_other,	step_map,    step_dmabuf, step_map_dmabuf,
	step_device,  step_second, step_access, step_hold,   step_rw,	  step_move,
	step_replace, step_dirty,  step_mark,	step_parent, step_viommu, step_mmap,
	step_vdevice, step_queue,  step_faults, step_events, step_nested, step_attach_nested,
	step_iopf,    step_vevent, step_drop,
};

/* Returns whether an allocation failed at all. */
static bool live_with_failure(long nth)
{
	long before = fail_live, bytes = fail_live_bytes, ret;
	struct life l = {.page = {.in_data = 3}};
	bool failed;

	assert_true(rig_up(&l.rig, &mock_machine));
	l.rig.any_memory = true;
	fail_countdown = nth;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		ret = steps[i](&l);
		if (!ret)
			continue;
		if (ret != -ENOMEM || fail_countdown >= 0)
			fail_msg("step %zu: %ld, allocation %ld", i, ret, nth);
		ret = steps[i](&l);
		if (ret)
			fail_msg("step %zu failed twice: %ld, allocation %ld", i, ret, nth);
	}
	failed = fail_countdown < 0;
	fail_countdown = -1;
	uiommu_vfio_release(l.mapping.held);
	rig_close(&l.rig, l.events);
	rig_close(&l.rig, l.faults);
	rig_close(&l.rig, l.dmabuf);
	rig_close(&l.rig, l.fd);
	rig_close(&l.rig, l.access);
	rig_down(&l.rig);
	assert_int_equal(fail_live, before);
	assert_int_equal(fail_live_bytes, bytes);
	return failed;
}

static void test_each_allocation(void **state)
{
	long nth = 0;

	uiommu_set_allocator(failing_alloc, failing_release);
	while (live_with_failure(nth))
		nth++;
	uiommu_set_allocator(NULL, NULL);
	assert_true(nth > 50);
	print_message("%ld allocations\n", nth);
}

/* ---- threads ---- */

struct race {
	struct shown s;
	uint32_t other;
	int access;
	pthread_barrier_t start;
	_Atomic long wrong; /* an answer that there should not be */
	_Atomic uint64_t held, copied;
};

/* Is it an answer that there may be while the others are at it? */
static void may_be(struct race *r, long ret, long also)
{
	if (ret && ret != also && ret != -ENOENT)
		r->wrong = ret;
}

/* Threads take turns after each step, or few would meet on a small machine. */
static uint64_t rounds(struct race *r)
{
	pthread_barrier_wait(&r->start);
	return test_steps(1000);
}

static void *map_and_unmap(void *arg)
{
	struct race *r = arg;

	for (uint64_t i = rounds(r); i--;) {
		uint64_t length = 2 * PAGE;

		sched_yield();
		may_be(r, ioas_unmap(&r->s.rig, r->s.fd, r->s.ioas, MOCK_FIRST, &length), 0);
		may_be(r,
		       ioas_map_at(&r->s.rig, r->s.fd, r->s.ioas, r->s.rig.memory, 2 * PAGE,
				   MOCK_FIRST),
		       0);
	}
	return NULL;
}

static void *hold_and_let_go(void *arg)
{
	struct race *r = arg;
	uint32_t id;

	for (uint64_t i = rounds(r); i--;) {
		long ret = access_hold(&r->s.rig, r->s.fd, r->access, MOCK_FIRST, 2 * PAGE,
				       r->s.rig.memory, 0, &id);

		may_be(r, ret, 0);
		sched_yield();
		if (!ret) {
			r->held++;
			may_be(r, access_let_go(&r->s.rig, r->s.fd, r->access, id), 0);
		}
	}
	return NULL;
}

static void *copy(void *arg)
{
	struct race *r = arg;
	uint8_t buf[16] = {0};

	for (uint64_t i = rounds(r); i--;) {
		long ret = access_rw(&r->s.rig, r->s.fd, r->access, MOCK_FIRST + PAGE - 8, 16, buf,
				     i & 1 ? MOCK_RW_WRITE : 0);

		may_be(r, ret, 0);
		r->copied += !ret;
		sched_yield();
	}
	return NULL;
}

static void *move(void *arg)
{
	struct race *r = arg;

	for (uint64_t i = rounds(r); i--;) {
		may_be(r, access_move(&r->s.rig, r->s.fd, r->access, i & 1 ? r->other : r->s.ioas),
		       0);
		sched_yield();
		may_be(r, check_refs(&r->s.rig, r->s.fd, r->s.rig.memory, PAGE, 0), -EIO);
	}
	return NULL;
}

/* Unmapping, holding, copying and moving at once: nothing is held that isn't mapped. */
static void test_race(void **state)
{
	void *(*const work[])(void *) = {map_and_unmap, hold_and_let_go, copy, move};
	pthread_t threads[4];
	struct race r = {0};
	uint64_t length = 2 * PAGE;

	shown_up(&r.s);
	r.other = ioas_alloc(&r.s.rig, r.s.fd);
	r.access = access_new(&r.s.rig, r.s.fd, r.s.ioas, HOLDS);
	assert_true(r.access >= 0);
	pthread_barrier_init(&r.start, NULL, 4);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work[i], &r), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&r.start);
	assert_int_equal(r.wrong, 0);
	assert_int_equal(ioas_unmap(&r.s.rig, r.s.fd, r.s.ioas, MOCK_FIRST, &length), 0);
	assert_int_equal(check_refs(&r.s.rig, r.s.fd, r.s.rig.memory, 2 * PAGE, 0), 0);
	rig_close(&r.s.rig, r.access);
	shown_down(&r.s);
	print_message("held %llu times, copied %llu\n", (unsigned long long)r.held,
		      (unsigned long long)r.copied);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),   cmocka_unit_test(test_read_write),
		cmocka_unit_test(test_pages),  cmocka_unit_test(test_move),
		cmocka_unit_test(test_dmabuf), cmocka_unit_test(test_each_allocation),
		cmocka_unit_test(test_race),   cmocka_unit_test(test_number_not_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
