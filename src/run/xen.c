/* SPDX-License-Identifier: MIT */
/*
 * Owns the machine memory of a simulated Xen host and who has which frame of it, and answers domain
 * 0's hypercalls: memory_op as far as ballooning goes, sysctl's performance counters, and the
 * paravirtual IOMMU (uiommu/xen.h).
 *
 * Machine memory is one memory file, whose offset mfn * 4096 is machine frame mfn. Domains know
 * frames by their own numbers: the first of a domain's 2 MiB pieces is the last of the machine's,
 * so that who confuses the two is found out. A frame has a reference while a domain has it and one
 * for each mapping that counts; with the last it is free, its bytes gone, and the next to ask gets
 * it.
 *
 * Locks: frames_lock, a leaf, for frames and domains' tables; call_lock, before everything of the
 * engine's, makes domain 0 a machine of one virtual processor. Memory is made once, never given
 * back.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <uiommu/xen.h>

#include "run/copy.h"
#include "run/fds.h"
#include "run/real.h"
#include "run/xen.h"
#include "util/alloc.h"

#define PAGE	     UINT64_C(4096)
#define PIECE_FRAMES 512
#define NO_FRAME     UINT32_MAX
#define DOMAINS	     2

/* Numbers of Xen's public headers: xen.h, memory.h, sysctl.h. */
enum { HYPERCALL_MEMORY_OP = 12, HYPERCALL_SYSCTL = 35 };
enum {
	XENMEM_DECREASE_RESERVATION = 1,
	XENMEM_MAXIMUM_RAM_PAGE = 2,
	XENMEM_CURRENT_RESERVATION = 3,
	XENMEM_MAXIMUM_RESERVATION = 4,
	XENMEM_POPULATE_PHYSMAP = 6,
};
enum { SYSCTL_PERFC_OP = 5, PERFCOP_RESET = 1, PERFCOP_QUERY = 2 };

struct memory_reservation {
	uint64_t extent_start;
	uint64_t nr_extents;
	uint32_t extent_order;
	uint32_t mem_flags;
	uint16_t domid;
};

struct sysctl_perfc {
	uint32_t cmd;
	uint32_t interface_version;
	uint32_t op;
	uint32_t nr_counters;
	uint32_t nr_vals;
	uint32_t pad;
	uint64_t desc;
	uint64_t val;
};

struct perfc_desc {
	char name[80];
	uint32_t nr_vals;
};

struct frame {
	uint32_t refs;
	uint16_t owner; /* with a domain; NO_OWNER: with none */
};
#define NO_OWNER UINT16_MAX

static struct {
	struct uiommu_xen_facts facts;
	struct uiommu_unit *unit;
	struct uiommu_xen *xen;
	struct uiommu_xen_domain *domain[DOMAINS];
	struct uiommu_xen_call *call; /* call_lock */
	uint32_t legs;		      /* operations since the leg began; call_lock */

	int fd;
	char *base;
	uint64_t frame_count;
	/* frames_lock. */
	struct frame *frames;
	uint32_t *next_free; /* by frame */
	uint32_t first_free;
	uint32_t *table[DOMAINS]; /* machine frame by the domain's number */
	uint64_t entries[DOMAINS], pages[DOMAINS];
} host = {.fd = -1};

static pthread_mutex_t frames_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t call_lock = PTHREAD_MUTEX_INITIALIZER;

static _Atomic uint32_t calls, continuations;
static uint64_t flushes_before; /* call_lock */

bool xen_there(void)
{
	return host.xen;
}

/* ---- machine memory ---- */

static void *place(uint64_t addr, uint64_t len)
{
	uint64_t size = host.frame_count * PAGE;

	return addr < size && len <= size - addr ? host.base + addr : NULL;
}

static int ram_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	void *at = place(addr, len);

	return at ? copy_safely(buf, at, len) : -EFAULT;
}

static int ram_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	void *at = place(addr, len);

	return at ? copy_safely(at, buf, len) : -EFAULT;
}

static int ram_compare_exchange(void *ctx, uint64_t addr, uint64_t *expected, uint64_t desired)
{
	void *at = place(addr, sizeof(desired));

	return at ? copy_compare_exchange(at, expected, desired) : -EFAULT;
}

static void *ram_direct(void *ctx, uint64_t addr, uint64_t len)
{
	return place(addr, len);
}

static const struct uiommu_memory_ops ram_ops = {
	.size = sizeof(struct uiommu_memory_ops),
	.read = ram_read,
	.write = ram_write,
	.direct = ram_direct,
	.lend = ram_direct,
	.compare_exchange = ram_compare_exchange,
};

static const struct uiommu_memory ram = {&ram_ops, NULL};

/* Give a domain its pieces, the machine's last first; *next is the first that is given. */
static int populate(unsigned domid, uint64_t bytes, uint64_t *next)
{
	uint64_t pieces = bytes / (PAGE * PIECE_FRAMES);

	host.entries[domid] = host.pages[domid] = pieces * PIECE_FRAMES;
	host.table[domid] = uiommu_alloc_array(host.entries[domid] + 1, sizeof(uint32_t));
	if (!host.table[domid])
		return -ENOMEM;
	for (uint64_t i = 0; i < host.entries[domid]; i++) {
		uint64_t mfn = (*next - i / PIECE_FRAMES) * PIECE_FRAMES + i % PIECE_FRAMES;

		host.table[domid][i] = (uint32_t)mfn;
		host.frames[mfn] = (struct frame){1, (uint16_t)domid};
	}
	*next -= pieces;
	return 0;
}

int xen_memory(const struct uiommu_platform_facts *facts, const struct uiommu_memory **memory)
{
	uint64_t bytes, next;
	int ret;

	if (!facts->xen.there)
		return 0;
	host.facts = facts->xen;
	bytes = host.facts.dom0 + host.facts.guest;
	host.frame_count = bytes / PAGE;
	host.first_free = NO_FRAME;
	host.frames = uiommu_alloc_array(host.frame_count, sizeof(*host.frames));
	host.next_free = uiommu_alloc_array(host.frame_count, sizeof(*host.next_free));
	host.fd = fds_keep((int)syscall(SYS_memfd_create, "xen-ram", 1U /* MFD_CLOEXEC */));
	if (!host.frames || !host.next_free)
		return -ENOMEM;
	if (host.fd < 0 || syscall(SYS_ftruncate, host.fd, bytes))
		return -errno;
	host.base = real_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			      host.fd, 0);
	if (host.base == MAP_FAILED)
		return -errno;
	next = host.frame_count / PIECE_FRAMES - 1;
	ret = populate(0, host.facts.dom0, &next);
	if (!ret)
		ret = populate(1, host.facts.guest, &next);
	*memory = &ram;
	return ret;
}

/* The machine frame of a domain's, or NO_FRAME. frames_lock held. */
static uint32_t lookup(uint16_t domid, uint64_t gfn)
{
	if (domid >= DOMAINS || gfn >= host.entries[domid])
		return NO_FRAME;
	return host.table[domid][gfn];
}

/* Drop a reference. frames_lock held. */
static void put(uint32_t mfn)
{
	if (--host.frames[mfn].refs)
		return;
	/* Whoever gets it next must not find what was there. */
	(void)syscall(SYS_fallocate, host.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      mfn * PAGE, PAGE);
	host.next_free[mfn] = host.first_free;
	host.first_free = mfn;
}

int xen_frame(uint16_t domid, uint64_t gfn, int *fd, uint64_t *offset)
{
	uint32_t mfn;

	if (domid == UIOMMU_XEN_DOMID_SELF)
		domid = 0;
	if (domid >= DOMAINS || !host.entries[domid])
		return -ESRCH;
	pthread_mutex_lock(&frames_lock);
	mfn = lookup(domid, gfn);
	pthread_mutex_unlock(&frames_lock);
	if (mfn == NO_FRAME)
		return -ENOENT;
	*fd = host.fd;
	*offset = mfn * PAGE;
	return 0;
}

/* ---- what the IOMMU's front ends ask ---- */

static int copy_in(void *ctx, uint16_t domid, void *to, uint64_t from, size_t len)
{
	return copy_safely(to, (const void *)(uintptr_t)from, len);
}

static int copy_out(void *ctx, uint16_t domid, uint64_t to, const void *from, size_t len)
{
	return copy_safely((void *)(uintptr_t)to, from, len);
}

/* Something more urgent comes up as often as the platform says. */
static bool preempt(void *ctx)
{
	if (!host.facts.preempt || ++host.legs < host.facts.preempt)
		return false;
	host.legs = 0;
	return true;
}

static int get_frame(void *ctx, uint16_t domid, uint64_t gfn, uint64_t *mfn)
{
	uint32_t found;

	pthread_mutex_lock(&frames_lock);
	found = lookup(domid, gfn);
	if (found != NO_FRAME)
		host.frames[found].refs++;
	pthread_mutex_unlock(&frames_lock);
	*mfn = found;
	return found == NO_FRAME ? -ENOENT : 0;
}

static void put_frame(void *ctx, uint64_t mfn)
{
	pthread_mutex_lock(&frames_lock);
	put((uint32_t)mfn);
	pthread_mutex_unlock(&frames_lock);
}

static bool frame_valid(void *ctx, uint64_t mfn)
{
	return mfn < host.frame_count;
}

static int check_foreign(void *ctx, uint16_t caller, uint16_t domid)
{
	return domid < DOMAINS && host.entries[domid] ? 0 : -ENXIO;
}

static bool frame_allocated(void *ctx, uint64_t mfn)
{
	bool allocated;

	pthread_mutex_lock(&frames_lock);
	allocated = host.frames[mfn].owner != NO_OWNER;
	pthread_mutex_unlock(&frames_lock);
	return allocated;
}

/* ---- memory_op ---- */

static long decrease(uint16_t domid, uint64_t gfn)
{
	uint32_t mfn;

	pthread_mutex_lock(&frames_lock);
	mfn = lookup(domid, gfn);
	if (mfn != NO_FRAME) {
		host.table[domid][gfn] = NO_FRAME;
		host.pages[domid]--;
		host.frames[mfn].owner = NO_OWNER;
		put(mfn);
	}
	pthread_mutex_unlock(&frames_lock);
	return mfn == NO_FRAME ? -EINVAL : 0;
}

static long increase(uint16_t domid, uint64_t gfn)
{
	uint32_t mfn = NO_FRAME;

	pthread_mutex_lock(&frames_lock);
	if (gfn < host.entries[domid] && host.table[domid][gfn] == NO_FRAME)
		mfn = host.first_free;
	if (mfn != NO_FRAME) {
		host.first_free = host.next_free[mfn];
		host.frames[mfn] = (struct frame){1, domid};
		host.table[domid][gfn] = mfn;
		host.pages[domid]++;
	}
	pthread_mutex_unlock(&frames_lock);
	return mfn == NO_FRAME ? -ENOMEM : 0;
}

/* Extent after extent, until one can't be done: how many were. */
static long reservation(unsigned cmd, uint64_t arg)
{
	struct memory_reservation r;
	uint64_t done, gfn;

	if (copy_safely(&r, (const void *)(uintptr_t)arg, sizeof(r)))
		return -EFAULT;
	if (r.domid == UIOMMU_XEN_DOMID_SELF)
		r.domid = 0;
	if (r.domid >= DOMAINS || !host.entries[r.domid])
		return -ESRCH;
	if (r.extent_order) /* a guest that may ask for whole pieces gets none */
		return 0;
	for (done = 0; done < r.nr_extents && done < INT32_MAX; done++) {
		uint64_t at = r.extent_start + done * sizeof(gfn);

		if (copy_safely(&gfn, (const void *)(uintptr_t)at, sizeof(gfn)))
			break;
		if (cmd == XENMEM_DECREASE_RESERVATION ? decrease(r.domid, gfn)
						       : increase(r.domid, gfn))
			break;
	}
	return (long)done;
}

static long memory_op(unsigned cmd, uint64_t arg)
{
	uint16_t domid;

	switch (cmd) {
	case XENMEM_DECREASE_RESERVATION:
	case XENMEM_POPULATE_PHYSMAP:
		return reservation(cmd, arg);
	case XENMEM_MAXIMUM_RAM_PAGE:
		return (long)(host.frame_count - 1);
	case XENMEM_CURRENT_RESERVATION:
	case XENMEM_MAXIMUM_RESERVATION:
		if (copy_safely(&domid, (const void *)(uintptr_t)arg, sizeof(domid)))
			return -EFAULT;
		if (domid == UIOMMU_XEN_DOMID_SELF)
			domid = 0;
		if (domid >= DOMAINS || !host.entries[domid])
			return -ESRCH;
		return (long)(cmd == XENMEM_CURRENT_RESERVATION ? host.pages[domid]
								: host.entries[domid]);
	}
	return -ENOSYS;
}

/* ---- sysctl ---- */

static uint64_t unit_flushes(void)
{
	struct uiommu_unit_stats stats;

	uiommu_unit_stats(host.unit, &stats);
	return stats.flushes;
}

static long perfc_query(struct sysctl_perfc *op)
{
	static const struct perfc_desc desc[] = {
		{"iommu hypercalls", 1},
		{"iommu continuations", 1},
		{"iommu IOTLB flushes", 1},
	};
	const uint32_t val[] = {calls, continuations, (uint32_t)(unit_flushes() - flushes_before)};

	op->nr_counters = op->nr_vals = sizeof(val) / sizeof(val[0]);
	if ((op->desc && copy_safely((void *)(uintptr_t)op->desc, desc, sizeof(desc))) ||
	    (op->val && copy_safely((void *)(uintptr_t)op->val, val, sizeof(val))))
		return -EFAULT;
	return 0;
}

/* The performance counters, and nothing else. Domain 0's interface version is not looked at: the
 * structure has been the same since they came. */
static long sysctl(uint64_t arg)
{
	struct sysctl_perfc op;
	long ret = 0;

	if (copy_safely(&op, (const void *)(uintptr_t)arg, sizeof(op)))
		return -EFAULT;
	if (op.cmd != SYSCTL_PERFC_OP)
		return -ENOSYS;
	if (op.op == PERFCOP_QUERY) {
		ret = perfc_query(&op);
	} else if (op.op == PERFCOP_RESET) {
		calls = continuations = 0;
		flushes_before = unit_flushes();
	} else {
		return -EINVAL;
	}
	if (!ret && copy_safely((void *)(uintptr_t)arg, &op, sizeof(op)))
		ret = -EFAULT;
	return ret;
}

/* ---- hypercalls ---- */

static long iommu_op(uint64_t op, const uint64_t arg[5])
{
	static const enum uiommu_xen_flavour flavours[] = {
		[UIOMMU_XEN_PV_OFF] = UIOMMU_XEN_DRAFT2014, /* whose answer is -ENOSYS */
		[UIOMMU_XEN_PV_DRAFT2014] = UIOMMU_XEN_DRAFT2014,
		[UIOMMU_XEN_PV_XENSERVER] = UIOMMU_XEN_XENSERVER,
		[UIOMMU_XEN_PV_CONTEXTS] = UIOMMU_XEN_CONTEXTS,
	};
	long ret;

	host.legs = 0;
	while ((ret = uiommu_xen_hypercall(host.call, flavours[host.facts.pv], op, arg)) ==
	       UIOMMU_XEN_CONTINUE)
		continuations++;
	if (ret != -ENOSYS)
		calls++;
	return ret;
}

long xen_hypercall(uint64_t op, const uint64_t arg[5])
{
	long ret;

	pthread_mutex_lock(&call_lock);
	if (op == HYPERCALL_MEMORY_OP)
		ret = memory_op((unsigned)arg[0], arg[1]);
	else if (op == HYPERCALL_SYSCTL)
		ret = sysctl(arg[0]);
	else
		ret = iommu_op(op, arg);
	pthread_mutex_unlock(&call_lock);
	return ret;
}

/* ---- fork ---- */

void xen_lock(void)
{
	pthread_mutex_lock(&call_lock);
	pthread_mutex_lock(&frames_lock);
}

void xen_unlock(void)
{
	pthread_mutex_unlock(&frames_lock);
	pthread_mutex_unlock(&call_lock);
}

/* ---- making it ---- */

static int make_domain(unsigned domid)
{
	const struct uiommu_xen_domain_options options = {
		.size = sizeof(options),
		.domid = (uint16_t)domid,
		.hardware = !domid,
		.contexts = host.facts.pv == UIOMMU_XEN_PV_CONTEXTS,
	};

	return uiommu_xen_domain_create(host.xen, &options, &host.domain[domid]);
}

int xen_make(struct uiommu_machine *machine)
{
	const struct uiommu_platform_facts *facts =
		uiommu_platform_facts(uiommu_machine_platform(machine));
	struct uiommu_xen_options options = {
		.size = sizeof(options),
		.hooks = {.size = sizeof(options.hooks),
			  .copy_in = copy_in,
			  .copy_out = copy_out,
			  .preempt = preempt,
			  .get_frame = get_frame,
			  .put_frame = put_frame,
			  .frame_valid = frame_valid,
			  .check_foreign = check_foreign,
			  .frame_allocated = frame_allocated},
		.unit = uiommu_machine_unit(machine),
		/* When it is off, nothing is translated: devices reach machine frames. */
		.format = facts->xen.pv == UIOMMU_XEN_PV_OFF ? "identity" : facts->format,
		.width = facts->width,
		.regions = facts->regions,
		.region_count = facts->region_count,
		.off = facts->xen.pv == UIOMMU_XEN_PV_OFF,
	};
	struct uiommu_function *fn;
	int ret;

	if (!facts->xen.there)
		return 0;
	if (facts->xen.pv == UIOMMU_XEN_PV_XENSERVER && facts->xen.premap) {
		options.premap_offset = facts->xen.premap;
		options.premap_frames = host.frame_count;
	}
	host.unit = options.unit;
	ret = uiommu_xen_create(&options, &host.xen);
	for (unsigned i = 0; i < DOMAINS && !ret; i++)
		if (host.entries[i])
			ret = make_domain(i);
	for (size_t i = 0; !ret && (fn = uiommu_machine_function(machine, i)); i++)
		ret = uiommu_xen_domain_assign(host.domain[0], uiommu_function_info(fn)->rid,
					       uiommu_function_info(fn)->name);
	return ret ? ret : uiommu_xen_call_create(host.domain[0], &host.call);
}
