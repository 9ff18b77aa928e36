/* SPDX-License-Identifier: MIT */
/*
 * iommufd from many threads, with devices doing DMA all the time, in any order: threads make all
 * kinds of requests on contexts, objects and nodes that others destroy and close. Every answer is
 * one of those that a request can have, all kinds succeed at some time, and in the end nothing is
 * left.
 */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "abi/vfio_private.h"
#include "iommufd_rig.h"

#define LANE	512 /* of a page, that one device alone writes to: they don't race with each other */
#define DEVICES 4

static const char *const functions[] = {"edu@01:00.0,group=0,dma_mask=0xffffffffffffffff,pasid=8",
					"edu@02:00.0,group=1,dma_mask=0xffffffffffffffff,pasid=8",
					"edu@03:00.0,group=2,dma_mask=0xffffffffffffffff",
					"edu@03:01.0,group=2,dma_mask=0xffffffffffffffff", NULL};

/* So many are mostly enough for every operation to succeed at some time. */
#define STEPS 12000

static uint64_t steps(void)
{
	return test_steps(STEPS);
}

/* What there is in a context. FOR_PASIDS: tables that may be attached under one; WAITING: behind
 * which devices wait for pages. */
enum { IOAS, DEVICE, PARENT, TABLE, FOR_PASIDS, WAITING, NESTED, VIOMMU, FAULTS, KINDS };
enum { CONTEXTS = 2, THREADS = 4, NUMBERS = 16, SLOTS = 16, FILE_PAGES = 8, PASIDS = 2 };
/* Guests' tables are looked for in memory that devices don't write to. */
enum { TABLE_SLOT = SLOTS, TABLE_PAGE = 40 };
/* Where nothing is mapped unless a device waits for it. */
enum { UNMAPPED_SLOT = SLOTS + 2 };

/* A descriptor that requests hold while they are under way, as the kernel does: the last one out
 * releases the file. */
struct held_fd {
	int fd; /* -1: not open */
	unsigned users;
	_Atomic unsigned opened; /* how often it was */
	bool closed;
};

struct worker;
typedef long (*context_op)(struct worker *w, int fd);

struct stress {
	struct rig rig;
	bool counted;		 /* memory is, against a limit that is met now and then */
	const context_op *never; /* operations that this machine can't do; ends with NULL */
	pthread_mutex_t lock;
	struct held_fd contexts[CONTEXTS], nodes[DEVICES];
	_Atomic uint32_t
		last[CONTEXTS][KINDS]; /* the last one made of each kind, if it is still there */
	_Atomic uint64_t done[64];     /* how often each operation succeeded */
	_Atomic long unexpected;       /* an answer that no request should give, and to what */
	_Atomic unsigned unexpected_op;
};

struct worker {
	struct stress *s;
	struct rng rng;
	pthread_t thread;
	int event, queue, file;
	int faults; /* a fault queue, or -1; which one that is */
	uint32_t faults_id;
	unsigned faults_on, faults_opened;
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
	held->opened++;
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

static long op_map_file(struct worker *w, int fd)
{
	struct iommu_ioas_map_file map = {.size = sizeof(map),
					  .flags = MAP_FIXED_RW,
					  .ioas_id = some_id(w, IOAS),
					  .fd = w->file,
					  .start = rng_below(&w->rng, FILE_PAGES / 2) * PAGE,
					  .length = (1 + rng_below(&w->rng, 4)) * PAGE,
					  .iova = some_slot(w)};

	return rig_ioctl(&w->s->rig, fd, IOMMU_IOAS_MAP_FILE, &map);
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

static long op_hwpt_pasid(struct worker *w, int fd)
{
	uint32_t id;
	long ret = hwpt_alloc(&w->s->rig, fd, some_id(w, DEVICE), some_id(w, IOAS),
			      IOMMU_HWPT_ALLOC_PASID, &id);

	return ret ? ret : made(w, fd, FOR_PASIDS, id);
}

/* Has it a queue in a context that is still open? */
static bool has_queue(const struct worker *w)
{
	return w->faults >= 0 && w->faults_opened == w->s->contexts[w->faults_on].opened;
}

/* A table behind which devices wait for their pages. */
static long op_hwpt_faults(struct worker *w, int fd)
{
	bool pasid = rng_below(&w->rng, 2), own = has_queue(w) && w->faults_on == w->context;
	struct bound b = {.fd = fd, .device = some_id(w, DEVICE), .ioas = some_id(w, IOAS)};
	uint32_t id;
	long ret = hwpt_with_faults(&w->s->rig, &b, pasid ? IOMMU_HWPT_ALLOC_PASID : 0,
				    own ? w->faults_id : some_id(w, FAULTS), &id);

	return ret ? ret : made(w, fd, pasid ? FOR_PASIDS : WAITING, id);
}

/* A fault queue; the one before is closed, whoever still waits for an answer there. */
static long op_faults(struct worker *w, int fd)
{
	uint32_t id;
	int queue;
	long ret;

	if (has_queue(w) && rng_below(&w->rng, 32))
		return -EBUSY;
	ret = fault_alloc(&w->s->rig, fd, &queue, &id);
	if (ret)
		return ret;
	if (w->faults >= 0)
		rig_close(&w->s->rig, w->faults);
	w->faults = queue;
	w->faults_id = id;
	w->faults_on = w->context;
	w->faults_opened = w->s->contexts[w->context].opened;
	return made(w, fd, FAULTS, id);
}

/* Answer those who wait, with what they wait for or without. */
static long op_answer(struct worker *w, int fd)
{
	struct iommu_hwpt_page_response response = {0};
	struct iommu_hwpt_pgfault fault;
	struct uiommu_vfio_file *queue;
	long ret = -ENOENT;

	if (w->faults < 0)
		return ret;
	queue = rig_file(&w->s->rig, w->faults);
	while (uiommu_vfio_pread(queue, &fault, sizeof(fault), 0) > 0) {
		if (rng_below(&w->rng, 2))
			ioas_map_at(&w->s->rig, fd, some_id(w, IOAS), w->s->rig.memory, PAGE,
				    fault.addr);
		response.cookie = fault.cookie;
		response.code = rng_below(&w->rng, 2) ? IOMMUFD_PAGE_RESP_SUCCESS
						      : IOMMUFD_PAGE_RESP_INVALID;
		/* Its device may have gone meanwhile. */
		if (uiommu_vfio_pwrite(queue, &response, sizeof(response), 0) > 0)
			ret = 0;
	}
	return ret;
}

/* A guest's tables, in front of a nesting parent. */
static long op_nested(struct worker *w, int fd)
{
	struct iommu_hwpt_vtd_s1 vtd = {.pgtbl_addr = TABLE_SLOT * 4 * PAGE, .addr_width = 48};
	struct iommu_hwpt_arm_smmuv3 smmu = {.ste = {1 | 4 << 1}}; /* valid, bypass */
	bool arm = rng_below(&w->rng, 2);
	bool pasid = rng_below(&w->rng, 3) == 0;
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = pasid ? IOMMU_HWPT_ALLOC_PASID : 0,
		.dev_id = some_id(w, DEVICE),
		.pt_id = some_id(w, arm && rng_below(&w->rng, 2) ? VIOMMU : PARENT),
		.data_type = arm ? IOMMU_HWPT_DATA_ARM_SMMUV3 : IOMMU_HWPT_DATA_VTD_S1,
		.data_len = arm ? sizeof(smmu) : sizeof(vtd),
		.data_uptr = arm ? (uintptr_t)&smmu : (uintptr_t)&vtd,
	};
	long ret = rig_ioctl(&w->s->rig, fd, IOMMU_HWPT_ALLOC, &alloc);

	return ret ? ret : made(w, fd, pasid ? FOR_PASIDS : NESTED, alloc.out_hwpt_id);
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
		.hwpt_id = some_id(w, arm ? VIOMMU : NESTED),
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

static const context_op context_ops[] = {
	op_ioas_alloc, op_destroy,    op_map,	      op_map_tables, op_place,
	op_unmap,      op_copy,	      op_allow,	      op_ranges,     op_hwpt,
	op_nested,     op_viommu,     op_vdevice,     op_invalidate, op_dirty,
	op_hw_info,    op_compat,     op_compat_map,  op_huge,	     op_events,
	op_map_file,   op_hwpt_pasid, op_hwpt_faults, op_faults,     op_answer,
};
enum { CONTEXT_OPS = sizeof(context_ops) / sizeof(context_ops[0]), ANSWER = CONTEXT_OPS - 1 };

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
	static const unsigned kinds[] = {IOAS, PARENT, TABLE, FOR_PASIDS, WAITING, WAITING, NESTED};

	return attach_to(&w->s->rig, node, some_id(w, kinds[rng_below(&w->rng, 7)]));
}

static long op_attach_pasid(struct worker *w, int node)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.flags = VFIO_DEVICE_ATTACH_PASID,
		.pt_id = some_id(w, FOR_PASIDS),
		.pasid = 1 + (uint32_t)rng_below(&w->rng, PASIDS)};

	return rig_ioctl(&w->s->rig, node, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

static long op_detach_pasid(struct worker *w, int node)
{
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = sizeof(detach),
		.flags = VFIO_DEVICE_DETACH_PASID,
		.pasid = 1 + (uint32_t)rng_below(&w->rng, PASIDS)};

	return rig_ioctl(&w->s->rig, node, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
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
	uint64_t slot = rng_below(&w->rng, 2) ? some_slot(w) : UNMAPPED_SLOT * 4 * PAGE;

	if (!is_bound(w, node))
		return -EINVAL;
	rig_reg_set(&w->s->rig, node, 0, 0xa0,
		    rng_below(&w->rng, 2) ? 0 : 1 + (uint32_t)rng_below(&w->rng, PASIDS));
	edu_start(&w->s->rig, node, slot + w->node * LANE, LANE, true);
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

static long (*const node_ops[])(struct worker *, int) = {
	op_bind, op_attach, op_attach, op_detach,	op_msi,
	op_dma,	 op_dma,    op_reset,  op_attach_pasid, op_detach_pasid};
enum { NODE_OPS = sizeof(node_ops) / sizeof(node_ops[0]), OPS = CONTEXT_OPS + NODE_OPS };

/* What a request may answer when others are at work; no argument here is a bad pointer. */
static bool expected(const struct stress *s, long ret)
{
	static const long answers[] = {0,	  -EINVAL,     -ENOENT, -EBUSY,
				       -EPERM,	  -EADDRINUSE, -EEXIST, -EOPNOTSUPP,
				       -EMSGSIZE, -ENODEV,     -EBADF,	-ENOTTY};

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
		if (ret == answers[i])
			return true;
	return ret == -ENOMEM && s->counted;
}

static void one_step(struct worker *w)
{
	bool of_node = rng_below(&w->rng, 3) == 0;
	unsigned n = (unsigned)rng_below(&w->rng, of_node ? DEVICES : CONTEXTS);
	struct held_fd *held = of_node ? &w->s->nodes[n] : &w->s->contexts[n];
	unsigned op = (unsigned)rng_below(&w->rng, of_node ? NODE_OPS : CONTEXT_OPS);
	int fd = hold(w->s, held);
	long ret;

	/* More often than others, for who waits is moved away soon. */
	if (!of_node && !rng_below(&w->rng, 6))
		op = ANSWER;
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
	if (!expected(w->s, ret)) {
		w->s->unexpected_op = op;
		w->s->unexpected = ret;
	}
	/* Closed now and then, so that there is something to meet. */
	if (!rng_below(&w->rng, of_node ? 400 : 2000))
		close_held(w->s, held);
}

/* The first operation that hasn't succeeded yet though this machine can do it, or that has though
 * it can't; else OPS. */
static unsigned first_odd(const struct stress *s)
{
	for (unsigned i = 0; i < OPS; i++) {
		bool can = true;

		for (const context_op *op = s->never; *op; op++)
			can &= i >= CONTEXT_OPS || *op != context_ops[i];
		if (can != !!s->done[i])
			return i;
	}
	return OPS;
}

/* Longer, if one has had no luck so far. */
static void *work(void *ctx)
{
	struct worker *w = ctx;

	for (uint64_t n = 0; n < steps() || (steps() >= STEPS && n < 20 * steps()); n++) {
		if (n >= steps() && n % 1000 == 0 && first_odd(w->s) == OPS)
			break;
		one_step(w);
	}
	if (w->queue >= 0)
		rig_close(&w->s->rig, w->queue);
	if (w->faults >= 0)
		rig_close(&w->s->rig, w->faults);
	return NULL;
}

static void run_order(const char *platform, bool counted, const context_op *never)
{
	const struct rig_options options = {
		.platform = platform, .functions = functions, .memlock = counted};
	struct rng rng = rng_seeded(platform);
	long live = fail_live, bytes = fail_live_bytes;
	int file = memfd_create("stress", 0);
	struct worker workers[THREADS];
	struct stress s = {.never = never, .counted = counted};
	struct rlimit limit, few;
	unsigned odd;

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
	few = limit;
	if (counted && few.rlim_cur > 64 * PAGE)
		few.rlim_cur = 64 * PAGE;
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &few), 0);
	assert_int_equal(ftruncate(file, FILE_PAGES * PAGE), 0);
	assert_true(rig_up(&s.rig, &options));
	s.rig.any_memory = true; /* the file's is, too */
	pthread_mutex_init(&s.lock, NULL);
	for (unsigned i = 0; i < CONTEXTS; i++)
		s.contexts[i].fd = -1;
	for (unsigned i = 0; i < DEVICES; i++)
		s.nodes[i].fd = -1;
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
			.s = &s, .rng = {rng_next(&rng)}, .queue = -1, .faults = -1, .file = file};
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
	odd = first_odd(&s);
	if (odd < OPS && steps() >= STEPS)
		fail_msg("operation %u succeeded %llu times", odd, (unsigned long long)s.done[odd]);
	assert_int_equal(s.rig.eventfds, 0);
	assert_int_equal(s.rig.files_mapped, 0);
	assert_int_equal(s.rig.vfio->user_pages, 0);
	rig_down(&s.rig);
	close(file);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	pthread_mutex_destroy(&s.lock);
	assert_int_equal(fail_live, live);
	assert_int_equal(fail_live_bytes, bytes);
}

static void test_any_order(void **state)
{
	uiommu_set_allocator(failing_alloc, failing_release);
	run_order("x86-vtd,dirty=on,nesting=on,pasid=20,pri=on", false,
		  (const context_op[]){op_viommu, op_vdevice, op_events, NULL});
	run_order("arm-smmuv3,nesting=on,pasid=20,pri=on", true,
		  (const context_op[]){op_dirty, NULL});
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_order)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
