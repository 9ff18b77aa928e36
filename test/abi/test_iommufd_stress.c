/* SPDX-License-Identifier: MIT */
/*
 * iommufd from many threads, with devices doing DMA all the time.
 *
 * In any order: threads make all kinds of requests on contexts, objects and nodes that others
 * destroy and close. Every answer is one of those that a request can have, all kinds succeed at
 * some time, and in the end nothing is left.
 *
 * Out of reach: once a device has been moved or taken away, or memory has been unmapped, the pages
 * are the program's again. It writes to them and finds that no device does; under ThreadSanitizer
 * an access that isn't ordered before the return of the request is reported besides, since the
 * devices' copies are plain memory accesses.
 */
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "iommufd_rig.h"

#define LANE	512 /* of a page, that one device alone writes to: they don't race with each other */
#define DEVICES 4

static const char *const functions[] = {"edu@01:00.0,group=0,dma_mask=0xffffffffffffffff",
					"edu@02:00.0,group=1,dma_mask=0xffffffffffffffff",
					"edu@03:00.0,group=2,dma_mask=0xffffffffffffffff",
					"edu@03:01.0,group=2,dma_mask=0xffffffffffffffff", NULL};

/* So many are enough for every operation to succeed at some time. */
#define STEPS 12000

static uint64_t steps(void)
{
	return test_steps(STEPS);
}

/* ---- in any order ---- */

/* What there is in a context. */
enum { IOAS, DEVICE, PARENT, TABLE, VIOMMU, KINDS };
enum { CONTEXTS = 2, THREADS = 4, NUMBERS = 12, SLOTS = 16 };
/* Guests' tables are looked for in memory that devices don't write to. */
enum { TABLE_SLOT = SLOTS, TABLE_PAGE = 40 };

/* A descriptor that requests hold while they are under way, as the kernel does: the last one out
 * releases the file. */
struct held_fd {
	int fd; /* -1: not open */
	unsigned users;
	bool closed;
};

struct stress {
	struct rig rig;
	pthread_mutex_t lock;
	struct held_fd contexts[CONTEXTS], nodes[DEVICES];
	_Atomic uint32_t
		last[CONTEXTS][KINDS]; /* the last one made of each kind, if it is still there */
	_Atomic uint64_t done[32];     /* how often each operation succeeded */
	_Atomic long unexpected;       /* an answer that no request should give, and to what */
	_Atomic unsigned unexpected_op;
};

struct worker {
	struct stress *s;
	struct rng rng;
	pthread_t thread;
	int event, queue;
	unsigned context, node; /* that the operation is on */
};

/* The descriptor, held, or -1. */
static int hold(struct stress *s, struct held_fd *held)
{
	int fd = -1;

	pthread_mutex_lock(&s->lock);
	if (held->fd >= 0 && !held->closed) {
		fd = held->fd;
		held->users++;
	}
	pthread_mutex_unlock(&s->lock);
	return fd;
}

static void let_go(struct stress *s, struct held_fd *held)
{
	int fd = -1;

	pthread_mutex_lock(&s->lock);
	if (!--held->users && held->closed)
		fd = held->fd;
	pthread_mutex_unlock(&s->lock);
	if (fd < 0)
		return;
	rig_close(&s->rig, fd);
	pthread_mutex_lock(&s->lock);
	held->fd = -1;
	held->closed = false;
	pthread_mutex_unlock(&s->lock);
}

static long close_held(struct stress *s, struct held_fd *held)
{
	if (hold(s, held) < 0)
		return -EBADF;
	pthread_mutex_lock(&s->lock);
	held->closed = true;
	pthread_mutex_unlock(&s->lock);
	let_go(s, held);
	return 0;
}

static long open_held(struct stress *s, struct held_fd *held, unsigned node)
{
	int fd;

	pthread_mutex_lock(&s->lock);
	if (held->fd >= 0) {
		pthread_mutex_unlock(&s->lock);
		return -EBUSY;
	}
	fd = held >= s->nodes && held < s->nodes + DEVICES ? rig_open_node(&s->rig, node)
							   : rig_open_iommufd(&s->rig);
	held->fd = fd;
	pthread_mutex_unlock(&s->lock);
	return fd < 0 ? fd : 0;
}

/* More often than not of that kind. */
static uint32_t some_id(struct worker *w, unsigned kind)
{
	uint32_t last = w->s->last[w->context][kind];

	return last && rng_below(&w->rng, 4) ? last : 1 + (uint32_t)rng_below(&w->rng, NUMBERS);
}

/* It was made. Objects with higher numbers would come to be too many to meet; others may destroy
 * them first, or put something on them. */
static long made(struct worker *w, int fd, unsigned kind, uint32_t id)
{
	if (id > NUMBERS)
		destroy_id(&w->s->rig, fd, id);
	else
		w->s->last[w->context][kind] = id;
	return 0;
}

static uint64_t some_slot(struct worker *w)
{
	return rng_below(&w->rng, SLOTS) * 4 * PAGE;
}

/* Operations on a context. */

static long op_ioas_alloc(struct worker *w, int fd)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
	long ret = rig_ioctl(&w->s->rig, fd, IOMMU_IOAS_ALLOC, &alloc);

	return ret ? ret : made(w, fd, IOAS, alloc.out_ioas_id);
}

static long op_destroy(struct worker *w, int fd)
{
	return destroy_id(&w->s->rig, fd, some_id(w, (unsigned)rng_below(&w->rng, KINDS)));
}

static long op_map(struct worker *w, int fd)
{
	uint64_t slot = some_slot(w);

	return ioas_map_at(&w->s->rig, fd, some_id(w, IOAS),
			   w->s->rig.memory + slot / 4 % (16 * PAGE),
			   (1 + rng_below(&w->rng, 4)) * PAGE, slot);
}

static long op_map_tables(struct worker *w, int fd)
{
	uint64_t iova = TABLE_SLOT * 4 * PAGE;

	return ioas_map(&w->s->rig, fd, some_id(w, IOAS),
			IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
			w->s->rig.memory + TABLE_PAGE * PAGE, 4 * PAGE, &iova);
}

static long op_place(struct worker *w, int fd)
{
	uint64_t iova = 0;

	return ioas_map(&w->s->rig, fd, some_id(w, IOAS), MAP_RW,
			w->s->rig.memory + rng_below(&w->rng, 16) * PAGE, PAGE, &iova);
}

static long op_unmap(struct worker *w, int fd)
{
	uint64_t length = rng_below(&w->rng, 8) ? 4 * PAGE : UINT64_MAX;

	return ioas_unmap(&w->s->rig, fd, some_id(w, IOAS), length == UINT64_MAX ? 0 : some_slot(w),
			  &length);
}

static long op_copy(struct worker *w, int fd)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = MAP_FIXED_RW,
		.dst_ioas_id = some_id(w, IOAS),
		.src_ioas_id = some_id(w, IOAS),
		.length = PAGE,
		.dst_iova = some_slot(w),
		.src_iova = some_slot(w),
	};

	return rig_ioctl(&w->s->rig, fd, IOMMU_IOAS_COPY, &copy);
}

static long op_allow(struct worker *w, int fd)
{
	struct iommu_iova_range range = {0, (UINT64_C(1) << 32) - 1};
	struct iommu_ioas_allow_iovas allow = {.size = sizeof(allow),
					       .ioas_id = some_id(w, IOAS),
					       .num_iovas = rng_below(&w->rng, 2),
					       .allowed_iovas = (uintptr_t)&range};

	if (rng_below(&w->rng, 4))
		range.last = 0x7ffffff;
	return rig_ioctl(&w->s->rig, fd, IOMMU_IOAS_ALLOW_IOVAS, &allow);
}

static long op_ranges(struct worker *w, int fd)
{
	struct iommu_iova_range list[4];
	struct iommu_ioas_iova_ranges ranges = {.size = sizeof(ranges),
						.ioas_id = some_id(w, IOAS),
						.num_iovas = 4,
						.allowed_iovas = (uintptr_t)list};

	return rig_ioctl(&w->s->rig, fd, IOMMU_IOAS_IOVA_RANGES, &ranges);
}

static long op_hwpt(struct worker *w, int fd)
{
	static const uint32_t flags[] = {0, 0, IOMMU_HWPT_ALLOC_NEST_PARENT,
					 IOMMU_HWPT_ALLOC_NEST_PARENT,
					 IOMMU_HWPT_ALLOC_DIRTY_TRACKING};
	uint32_t flag = flags[rng_below(&w->rng, 5)], id;
	long ret = hwpt_alloc(&w->s->rig, fd, some_id(w, DEVICE), some_id(w, IOAS), flag, &id);

	return ret ? ret : made(w, fd, flag == IOMMU_HWPT_ALLOC_NEST_PARENT ? PARENT : TABLE, id);
}

/* A guest's tables, in front of a nesting parent. */
static long op_nested(struct worker *w, int fd)
{
	struct iommu_hwpt_vtd_s1 vtd = {.pgtbl_addr = TABLE_SLOT * 4 * PAGE, .addr_width = 48};
	struct iommu_hwpt_arm_smmuv3 smmu = {.ste = {1 | 4 << 1}}; /* valid, bypass */
	bool arm = rng_below(&w->rng, 2);
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.dev_id = some_id(w, DEVICE),
		.pt_id = some_id(w, arm && rng_below(&w->rng, 2) ? VIOMMU : PARENT),
		.data_type = arm ? IOMMU_HWPT_DATA_ARM_SMMUV3 : IOMMU_HWPT_DATA_VTD_S1,
		.data_len = arm ? sizeof(smmu) : sizeof(vtd),
		.data_uptr = arm ? (uintptr_t)&smmu : (uintptr_t)&vtd,
	};
	long ret = rig_ioctl(&w->s->rig, fd, IOMMU_HWPT_ALLOC, &alloc);

	return ret ? ret : made(w, fd, TABLE, alloc.out_hwpt_id);
}

static long op_viommu(struct worker *w, int fd)
{
	struct iommu_viommu_alloc alloc = {.size = sizeof(alloc),
					   .type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
					   .dev_id = some_id(w, DEVICE),
					   .hwpt_id = some_id(w, PARENT)};
	long ret = rig_ioctl(&w->s->rig, fd, IOMMU_VIOMMU_ALLOC, &alloc);

	return ret ? ret : made(w, fd, VIOMMU, alloc.out_viommu_id);
}

static long op_vdevice(struct worker *w, int fd)
{
	struct iommu_vdevice_alloc alloc = {.size = sizeof(alloc),
					    .viommu_id = some_id(w, VIOMMU),
					    .dev_id = some_id(w, DEVICE),
					    .virt_id = rng_below(&w->rng, 4)};
	long ret = rig_ioctl(&w->s->rig, fd, IOMMU_VDEVICE_ALLOC, &alloc);

	return ret ? ret : made(w, fd, TABLE, alloc.out_vdevice_id);
}

/* Events of the guest's faults; the queue before is closed, if it still has its object or not. */
static long op_events(struct worker *w, int fd)
{
	struct iommu_veventq_alloc alloc = {.size = sizeof(alloc),
					    .viommu_id = some_id(w, VIOMMU),
					    .type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
					    .veventq_depth = 4};
	uint8_t events[128];
	long ret;

	if (w->queue >= 0)
		uiommu_vfio_pread(rig_file(&w->s->rig, w->queue), events, sizeof(events), 0);
	ret = rig_ioctl(&w->s->rig, fd, IOMMU_VEVENTQ_ALLOC, &alloc);
	if (ret)
		return ret;
	if (w->queue >= 0)
		rig_close(&w->s->rig, w->queue);
	w->queue = (int)alloc.out_veventq_fd;
	return 0;
}

static long op_invalidate(struct worker *w, int fd)
{
	struct iommu_hwpt_vtd_s1_invalidate vtd = {.npages = UINT64_MAX};
	struct iommu_viommu_arm_smmuv3_invalidate smmu = {.cmd = {0x30}}; /* CMD_TLBI_NSNH_ALL */
	bool arm = rng_below(&w->rng, 2);
	struct iommu_hwpt_invalidate arg = {
		.size = sizeof(arg),
		.hwpt_id = some_id(w, arm ? VIOMMU : TABLE),
		.data_uptr = arm ? (uintptr_t)&smmu : (uintptr_t)&vtd,
		.data_type = arm ? IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3
				 : IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
		.entry_len = arm ? sizeof(smmu) : sizeof(vtd),
		.entry_num = 1,
	};

	return rig_ioctl(&w->s->rig, fd, IOMMU_HWPT_INVALIDATE, &arg);
}

static long op_dirty(struct worker *w, int fd)
{
	uint64_t bits[4] = {0};
	struct iommu_hwpt_set_dirty_tracking set = {
		.size = sizeof(set),
		.hwpt_id = some_id(w, TABLE),
		.flags = rng_below(&w->rng, 2) ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0};
	struct iommu_hwpt_get_dirty_bitmap get = {.size = sizeof(get),
						  .hwpt_id = set.hwpt_id,
						  .iova = some_slot(w),
						  .length = 4 * PAGE,
						  .page_size = PAGE,
						  .data = (uintptr_t)bits};
	long ret = rig_ioctl(&w->s->rig, fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set);

	if (!ret)
		rig_ioctl(&w->s->rig, fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get);
	return ret;
}

static long op_hw_info(struct worker *w, int fd)
{
	uint8_t data[64];
	struct iommu_hw_info info = {.size = sizeof(info),
				     .dev_id = some_id(w, DEVICE),
				     .data_len = sizeof(data),
				     .data_uptr = (uintptr_t)data};

	return rig_ioctl(&w->s->rig, fd, IOMMU_GET_HW_INFO, &info);
}

static long op_compat(struct worker *w, int fd)
{
	struct iommu_vfio_ioas arg = {.size = sizeof(arg),
				      .ioas_id = some_id(w, IOAS),
				      .op = (uint16_t)rng_below(&w->rng, 3)};

	return rig_ioctl(&w->s->rig, fd, IOMMU_VFIO_IOAS, &arg);
}

static long op_compat_map(struct worker *w, int fd)
{
	uint64_t slot = some_slot(w), size = PAGE;

	if (rng_below(&w->rng, 2))
		return rig_unmap(&w->s->rig, fd, 0, slot, &size);
	return rig_map(&w->s->rig, fd, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, slot, PAGE,
		       w->s->rig.memory);
}

static long op_huge(struct worker *w, int fd)
{
	struct iommu_option option = {.size = sizeof(option),
				      .option_id = IOMMU_OPTION_HUGE_PAGES,
				      .op = IOMMU_OPTION_OP_SET,
				      .object_id = some_id(w, IOAS),
				      .val64 = rng_below(&w->rng, 2)};

	return rig_ioctl(&w->s->rig, fd, IOMMU_OPTION, &option);
}

typedef long (*context_op)(struct worker *w, int fd);

static const context_op context_ops[] = {
	op_ioas_alloc, op_destroy, op_map,    op_map_tables, op_place,	op_unmap,   op_copy,
	op_allow,      op_ranges,  op_hwpt,   op_nested,     op_viommu, op_vdevice, op_invalidate,
	op_dirty,      op_hw_info, op_compat, op_compat_map, op_huge,	op_events,
};
enum { CONTEXT_OPS = sizeof(context_ops) / sizeof(context_ops[0]) };

/* Operations on a node. */

static long op_bind(struct worker *w, int node)
{
	struct held_fd *context = &w->s->contexts[rng_below(&w->rng, CONTEXTS)];
	int fd = hold(w->s, context);
	uint32_t id;
	long ret;

	if (fd < 0)
		return -EBADF;
	ret = bind_device(&w->s->rig, node, fd, &id);
	let_go(w->s, context);
	if (!ret)
		w->s->last[context - w->s->contexts][DEVICE] = id;
	if (!ret)
		rig_config_set(&w->s->rig, node, PCI_COMMAND, 2,
			       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return ret;
}

static long op_attach(struct worker *w, int node)
{
	return attach_to(&w->s->rig, node,
			 some_id(w, (unsigned[]){IOAS, PARENT, TABLE}[rng_below(&w->rng, 3)]));
}

static long op_detach(struct worker *w, int node)
{
	return detach_device(&w->s->rig, node);
}

static long op_msi(struct worker *w, int node)
{
	bool off = rng_below(&w->rng, 2);

	return rig_irqs(&w->s->rig, node,
			VFIO_IRQ_SET_ACTION_TRIGGER |
				(off ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD),
			VFIO_PCI_MSI_IRQ_INDEX, 0, off ? 0 : 1, &w->event);
}

/* Is it bound? Nobody unbinds it while the descriptor is held. */
static bool is_bound(struct worker *w, int node)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};

	return !rig_ioctl(&w->s->rig, node, VFIO_DEVICE_GET_INFO, &info);
}

/* Start a DMA, with an interrupt after it; one that is under way goes on. */
static long op_dma(struct worker *w, int node)
{
	if (!is_bound(w, node))
		return -EINVAL;
	edu_start(&w->s->rig, node, some_slot(w) + w->node * LANE, LANE, true);
	rig_reg_set(&w->s->rig, node, 0, 0x98, 3 | 4);
	return 0;
}

static long op_reset(struct worker *w, int node)
{
	long ret = rig_ioctl(&w->s->rig, node, VFIO_DEVICE_RESET, NULL);

	if (!ret)
		rig_config_set(&w->s->rig, node, PCI_COMMAND, 2,
			       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return ret;
}

static long (*const node_ops[])(struct worker *, int) = {op_bind, op_attach, op_attach, op_detach,
							 op_msi,  op_dma,    op_dma,	op_reset};
enum { NODE_OPS = sizeof(node_ops) / sizeof(node_ops[0]) };

/* What a request may answer when others are at work; no argument here is a bad pointer. */
static bool expected(long ret)
{
	static const long answers[] = {0,	  -EINVAL,     -ENOENT, -EBUSY,
				       -EPERM,	  -EADDRINUSE, -EEXIST, -EOPNOTSUPP,
				       -EMSGSIZE, -ENODEV,     -EBADF,	-ENOTTY};

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
		if (ret == answers[i])
			return true;
	return false;
}

static void one_step(struct worker *w)
{
	bool of_node = rng_below(&w->rng, 3) == 0;
	unsigned n = (unsigned)rng_below(&w->rng, of_node ? DEVICES : CONTEXTS);
	struct held_fd *held = of_node ? &w->s->nodes[n] : &w->s->contexts[n];
	unsigned op = (unsigned)rng_below(&w->rng, of_node ? NODE_OPS : CONTEXT_OPS);
	int fd = hold(w->s, held);
	long ret;

	if (fd < 0) {
		open_held(w->s, held, n);
		return;
	}
	w->node = n;
	w->context = of_node ? (unsigned)rng_below(&w->rng, CONTEXTS) : n;
	ret = of_node ? node_ops[op](w, fd) : context_ops[op](w, fd);
	let_go(w->s, held);
	op += of_node ? CONTEXT_OPS : 0;
	if (!ret)
		w->s->done[op]++;
	if (!expected(ret)) {
		w->s->unexpected_op = op;
		w->s->unexpected = ret;
	}
	/* Closed now and then, so that there is something to meet. */
	if (!rng_below(&w->rng, of_node ? 400 : 2000))
		close_held(w->s, held);
}

static void *work(void *ctx)
{
	struct worker *w = ctx;

	for (uint64_t n = steps(); n--;)
		one_step(w);
	if (w->queue >= 0)
		rig_close(&w->s->rig, w->queue);
	return NULL;
}

/* Each operation did at some time, but for those that the machine can't. */
static void check_all_succeeded(struct stress *s, const context_op *never)
{
	if (steps() < STEPS)
		return;
	for (unsigned i = 0; i < CONTEXT_OPS + NODE_OPS; i++) {
		bool can = true;

		for (const context_op *op = never; *op; op++)
			can &= i >= CONTEXT_OPS || *op != context_ops[i];
		if (can != !!s->done[i])
			fail_msg("operation %u succeeded %llu times", i,
				 (unsigned long long)s->done[i]);
	}
}

static void run_order(const char *platform, const context_op *never)
{
	const struct rig_options options = {.platform = platform, .functions = functions};
	struct rng rng = rng_seeded(platform);
	long live = fail_live, bytes = fail_live_bytes;
	struct worker workers[THREADS];
	struct stress s = {0};

	assert_true(rig_up(&s.rig, &options));
	pthread_mutex_init(&s.lock, NULL);
	for (unsigned i = 0; i < CONTEXTS; i++)
		s.contexts[i].fd = -1;
	for (unsigned i = 0; i < DEVICES; i++)
		s.nodes[i].fd = -1;
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){.s = &s, .rng = {rng_next(&rng)}, .queue = -1};
		workers[i].event = eventfd(0, EFD_NONBLOCK);
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		close(workers[i].event);
	}
	for (unsigned i = 0; i < CONTEXTS; i++)
		close_held(&s, &s.contexts[i]);
	for (unsigned i = 0; i < DEVICES; i++)
		close_held(&s, &s.nodes[i]);
	if (s.unexpected)
		fail_msg("operation %u answered %ld", s.unexpected_op, s.unexpected);
	check_all_succeeded(&s, never);
	assert_int_equal(s.rig.eventfds, 0);
	rig_down(&s.rig);
	pthread_mutex_destroy(&s.lock);
	assert_int_equal(fail_live, live);
	assert_int_equal(fail_live_bytes, bytes);
}

static void test_any_order(void **state)
{
	uiommu_set_allocator(failing_alloc, failing_release);
	run_order("x86-vtd,dirty=on,nesting=on",
		  (const context_op[]){op_viommu, op_vdevice, op_events, NULL});
	run_order("arm-smmuv3,nesting=on", (const context_op[]){op_dirty, NULL});
	uiommu_set_allocator(NULL, NULL);
}

/* ---- out of reach ---- */

enum { MOVERS = 3 };
static const uint64_t target = 0x100000; /* what the device writes to, wherever it is */

/* A device with two address spaces of its own, which show different pages at the same IOVA. */
struct mover {
	struct stress *s;
	struct rng rng;
	pthread_t thread, kicker;
	int fd, node;
	uint32_t device, spaces[2], own; /* own: a HWPT of the first, or 0 */
	uint8_t *pages[2];
	int at; /* attached to which; -1: none */
	_Atomic bool stop, pause, paused;
	_Atomic bool disturbed; /* a page was changed that nobody should reach */
	uint64_t hits;
	unsigned rounds[6];
};

/* Keep the device writing; a pause is in the middle of what it does. */
static void *kick(void *ctx)
{
	struct mover *m = ctx;

	while (!m->stop) {
		m->paused = m->pause;
		if (m->paused)
			sched_yield();
		else
			edu_start(&m->s->rig, m->node, target, LANE, true);
	}
	return NULL;
}

/* The device writes zeros. */
static void check_quiet(struct mover *m, unsigned which, uint8_t mark)
{
	memset(m->pages[which], mark, PAGE);
	for (unsigned n = 0; n < 4; n++) {
		sched_yield();
		for (size_t i = 0; i < PAGE; i++)
			if (m->pages[which][i] != mark)
				m->disturbed = true;
	}
}

/* It gets there: else nothing is shown. */
static void check_reached(struct mover *m, unsigned which)
{
	volatile uint8_t *page = m->pages[which];

	/* Only looked at, while the device writes: where that counts as a race, not even that. */
#ifndef __SANITIZE_THREAD__
	for (unsigned n = 0; n < 100000 && page[0]; n++)
		sched_yield();
	m->hits += !page[0];
#else
	(void)page;
	m->hits++;
#endif
}

static bool make_space(struct mover *m, unsigned which)
{
	m->spaces[which] = ioas_alloc(&m->s->rig, m->fd);
	return !ioas_map_at(&m->s->rig, m->fd, m->spaces[which], m->pages[which], PAGE, target);
}

static bool to_space(struct mover *m, unsigned which)
{
	long ret = attach_to(&m->s->rig, m->node, which == 0 && m->own ? m->own : m->spaces[which]);

	if (!ret && m->at == (int)!which)
		check_quiet(m, !which, 0x11);
	m->at = (int)which;
	return !ret;
}

static bool away(struct mover *m)
{
	long ret = detach_device(&m->s->rig, m->node);

	m->at = -1;
	check_quiet(m, 0, 0x22);
	check_quiet(m, 1, 0x33);
	return !ret;
}

/* Off and on again, where the device is. */
static bool remap(struct mover *m)
{
	unsigned which = m->at == 1;
	uint64_t length = PAGE;

	if (ioas_unmap(&m->s->rig, m->fd, m->spaces[which], target, &length) || length != PAGE)
		return false;
	check_quiet(m, which, 0x44);
	return !ioas_map_at(&m->s->rig, m->fd, m->spaces[which], m->pages[which], PAGE, target);
}

/* The space where the device is not: it goes with what is mapped. */
static bool renew(struct mover *m)
{
	if (m->at == 1 || m->own) /* one that a page table rests on stays */
		return destroy_id(&m->s->rig, m->fd, m->spaces[0]) == (m->own ? -EBUSY : 0) &&
		       (m->own || make_space(m, 0));
	return destroy_id(&m->s->rig, m->fd, m->spaces[1]) == 0 && make_space(m, 1);
}

/* A page table of its own for the device, or none any more. */
static bool table(struct mover *m)
{
	uint32_t id = m->own;

	if (m->own) {
		m->own = 0;
		/* In use: moved to the automatic one. */
		return (m->at || to_space(m, 0)) && !destroy_id(&m->s->rig, m->fd, id);
	}
	if (hwpt_alloc(&m->s->rig, m->fd, m->device, m->spaces[0], 0, &m->own))
		return false;
	return m->at || to_space(m, 0);
}

/* Close the node in the middle of a DMA, and begin anew. */
static bool reopen(struct mover *m)
{
	m->pause = true;
	while (!m->paused)
		sched_yield();
	rig_close(&m->s->rig, m->node);
	check_quiet(m, 0, 0x55);
	check_quiet(m, 1, 0x66);
	m->at = -1;
	m->node = rig_open_node(&m->s->rig, (unsigned)(m->pages[0] - m->s->rig.memory) / 2 / PAGE);
	if (m->node < 0 || bind_device(&m->s->rig, m->node, m->fd, &m->device))
		return false;
	rig_config_set(&m->s->rig, m->node, PCI_COMMAND, 2,
		       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	m->pause = false;
	while (m->paused)
		sched_yield();
	return true;
}

static void *move(void *ctx)
{
	static bool (*const ops[])(struct mover *) = {away, remap, renew, table, reopen};
	struct mover *m = ctx;

	for (uint64_t n = steps() / 80; n-- && !m->disturbed;) {
		unsigned op = (unsigned)rng_below(&m->rng, 8);
		bool fine = op < 5 ? ops[op](m) : to_space(m, op % 2);

		if (!fine)
			break;
		m->rounds[op < 5 ? op : 5]++;
		if (m->at >= 0 && rng_below(&m->rng, 2))
			check_reached(m, (unsigned)m->at);
	}
	m->stop = true;
	pthread_join(m->kicker, NULL);
	return NULL;
}

static void run_reach(const char *platform)
{
	const struct rig_options options = {.platform = platform, .functions = functions};
	struct rng rng = rng_seeded(platform);
	struct mover movers[MOVERS] = {0};
	struct stress s = {0};
	int fd;

	assert_true(rig_up(&s.rig, &options));
	fd = rig_open_iommufd(&s.rig);
	for (unsigned i = 0; i < MOVERS; i++) {
		struct mover *m = &movers[i];

		m->s = &s;
		m->rng.state = rng_next(&rng);
		m->fd = fd;
		m->pages[0] = s.rig.memory + 2 * i * PAGE;
		m->pages[1] = m->pages[0] + PAGE;
		m->at = -1;
		m->node = rig_open_node(&s.rig, i);
		assert_int_equal(bind_device(&s.rig, m->node, fd, &m->device), 0);
		rig_config_set(&s.rig, m->node, PCI_COMMAND, 2,
			       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		assert_true(make_space(m, 0) && make_space(m, 1));
	}
	for (unsigned i = 0; i < MOVERS; i++) {
		assert_int_equal(pthread_create(&movers[i].kicker, NULL, kick, &movers[i]), 0);
		assert_int_equal(pthread_create(&movers[i].thread, NULL, move, &movers[i]), 0);
	}
	for (unsigned i = 0; i < MOVERS; i++) {
		struct mover *m = &movers[i];

		pthread_join(m->thread, NULL);
		assert_false(m->disturbed);
		for (unsigned op = 0; op < 6 && steps() >= STEPS; op++)
			assert_true(m->rounds[op] > 0);
		assert_true(m->hits > 0 || steps() < STEPS);
		rig_close(&s.rig, m->node);
	}
	rig_close(&s.rig, fd);
	rig_down(&s.rig);
}

static void test_out_of_reach(void **state)
{
	run_reach("x86-vtd");
	run_reach("x86-amd");
	run_reach("arm-smmuv3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_order),
		cmocka_unit_test(test_out_of_reach),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
