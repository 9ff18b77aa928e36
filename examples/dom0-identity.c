/* SPDX-License-Identifier: MIT */
/*
 * dom0-identity - what a domain 0 does with Xen's paravirtual IOMMU: map its memory 1:1 in batches,
 * so that bus frame n is its own frame n and no DMA needs a bounce buffer; have a device read and
 * write by those numbers; give pages back to Xen, and take some again.
 *
 *   uiommu run --platform xen,dom0=4G,preempt=50 --device edu -- ./dom0-identity [operations a
 * call]
 *
 * Each call flushes the IOTLB once if it takes something away, however often it is preempted: Xen's
 * own counters say so, and are compared. All through /dev/xen/privcmd and VFIO's no-IOMMU mode.
 */
#include <uiommu/xen.h>

#include "vfio.h"

enum { MEMORY_OP = 12, SYSCTL = 35, IOMMU_OP = 40 };
enum { DECREASE_RESERVATION = 1, CURRENT_RESERVATION = 3, POPULATE_PHYSMAP = 6 };
enum { BALLOON = 4096 }; /* pages */

/* edu's registers, from QEMU's docs/specs/edu.rst. Its DMA addresses have 28 bits. */
enum { IRQ_ACK = 0x64, DMA_SRC = 0x80, DMA_DST = 0x88, DMA_COUNT = 0x90, DMA_CMD = 0x98 };
enum { CMD_START = 1, CMD_FROM_DEVICE = 2, CMD_RAISE_IRQ = 4 };
enum { BUFFER = 0x40000, BYTES = 2048, REACH_FRAMES = (1 << 28) / 4096 };

static int privcmd;
static unsigned batch = 128;

/* ---- hypercalls ---- */

struct privcmd_hypercall {
	uint64_t op, arg[5];
};

struct privcmd_mmapbatch_v2 {
	unsigned num;
	uint16_t dom;
	uint64_t addr;
	const uint64_t *arr;
	int *err;
};

#define HYPERCALL    _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))
#define MMAPBATCH_V2 _IOC(_IOC_NONE, 'P', 4, sizeof(struct privcmd_mmapbatch_v2))

static int hypercall(uint64_t op, uint64_t arg0, uint64_t arg1, uint64_t arg2)
{
	struct privcmd_hypercall call = {op, {arg0, arg1, arg2}};

	return ioctl(privcmd, HYPERCALL, &call);
}

/* Xen's performance counters: calls to the IOMMU, how often they were preempted, IOTLB flushes. */
struct counters {
	uint32_t calls, continuations, flushes;
};

static struct counters counters(void)
{
	struct counters now;
	struct {
		uint32_t cmd, version, op, nr_counters, nr_vals, pad;
		uint64_t desc, val;
		char room[96];
	} query = {.cmd = 5, .version = 0x15, .op = 2, .val = (uintptr_t)&now};

	if (hypercall(SYSCTL, (uintptr_t)&query, 0, 0) || query.nr_vals != 3)
		err(1, "Xen's performance counters");
	return now;
}

/* Give pages back to Xen, or ask for some. */
static void reservation(unsigned cmd, const uint64_t *gfns, uint64_t count)
{
	struct {
		uint64_t extents, count;
		uint32_t order, flags;
		uint16_t domid;
	} r = {(uintptr_t)gfns, count, 0, 0, UIOMMU_XEN_DOMID_SELF};

	if (hypercall(MEMORY_OP, cmd, (uintptr_t)&r, 0) != (int)count)
		err(1, "memory reservation");
}

/* ---- the IOMMU ---- */

/* Map frames 1:1, or unmap them; how many calls that took. */
static unsigned iommu(unsigned cmd, const uint64_t *gfns, uint64_t count)
{
	struct uiommu_xen_draft_op *ops = calloc(batch, sizeof(*ops));
	unsigned calls = 0;

	if (!ops)
		err(1, "memory");
	for (uint64_t done = 0; done < count; calls++) {
		unsigned n = count - done < batch ? (unsigned)(count - done) : batch;

		for (unsigned i = 0; i < n; i++) {
			ops[i].bfn = ops[i].mfn = gfns[done + i];
			ops[i].flags =
				cmd == UIOMMU_XEN_DRAFT_MAP_PAGE
					? UIOMMU_XEN_DRAFT_READABLE | UIOMMU_XEN_DRAFT_WRITEABLE
					: 0;
			ops[i].status = 1;
		}
		if (hypercall(IOMMU_OP, cmd, (uintptr_t)ops, n))
			err(1, "HYPERVISOR_iommu_op: is this 'uiommu run --platform xen'?");
		for (unsigned i = 0; i < n; i++)
			if (ops[i].status)
				errx(1, "frame %#llx: status %d",
				     (unsigned long long)gfns[done + i], ops[i].status);
		done += n;
	}
	free(ops);
	return calls;
}

/* One thing done: say what it cost, and hold it to that. */
static void account(const char *what, struct counters before, unsigned calls, unsigned flushes)
{
	struct counters after = counters();

	printf("%-34s %6u calls, %6u continuations, %4u flushes\n", what,
	       after.calls - before.calls, after.continuations - before.continuations,
	       after.flushes - before.flushes);
	if (after.calls - before.calls != calls || after.flushes - before.flushes != flushes)
		errx(1, "expected %u calls and %u flushes", calls, flushes);
}

/* ---- memory and device ---- */

/* Map one of our frames into this program. */
static uint8_t *frame(uint64_t gfn)
{
	struct privcmd_mmapbatch_v2 one = {.num = 1, .dom = UIOMMU_XEN_DOMID_SELF, .arr = &gfn};
	int error;
	void *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, privcmd, 0);

	one.addr = (uintptr_t)at;
	one.err = &error;
	if (at == MAP_FAILED || ioctl(privcmd, MMAPBATCH_V2, &one) || error)
		err(1, "mapping frame %#llx", (unsigned long long)gfn);
	return at;
}

struct edu {
	volatile uint8_t *bar;
	int irq;
};

static struct edu edu_open(void)
{
	char bdf[64], group[64], path[128];
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC), fd, device;
	struct edu edu;

	vfio_find(0x1234, 0x11e8, bdf);
	sysfs_link(bdf, "iommu_group", group);
	snprintf(path, sizeof(path), "/dev/vfio/noiommu-%s", group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (container < 0 || fd < 0 || ioctl(fd, VFIO_GROUP_SET_CONTAINER, &container) ||
	    ioctl(container, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU))
		err(1, "%s", path);
	device = ioctl(fd, VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (device < 0)
		err(1, "%s", bdf);
	edu.bar = vfio_enable(device);
	edu.irq = vfio_irq(device, VFIO_PCI_MSI_IRQ_INDEX);
	return edu;
}

static void dma(const struct edu *edu, uint64_t src, uint64_t dst, unsigned direction)
{
	*(volatile uint64_t *)(edu->bar + DMA_SRC) = src;
	*(volatile uint64_t *)(edu->bar + DMA_DST) = dst;
	*(volatile uint64_t *)(edu->bar + DMA_COUNT) = BYTES;
	*(volatile uint64_t *)(edu->bar + DMA_CMD) = CMD_START | CMD_RAISE_IRQ | direction;
	vfio_irq_wait(edu->irq);
	*(volatile uint32_t *)(edu->bar + IRQ_ACK) = 0x100;
}

/* The device copies from one frame to another. Does it arrive? */
static int copies(const struct edu *edu, uint64_t from, uint64_t to, uint8_t seed)
{
	uint8_t *src = frame(from), *dst = frame(to);
	int same;

	for (unsigned i = 0; i < BYTES; i++)
		src[i] = (uint8_t)(i * 7 + seed);
	memset(dst, 0, BYTES);
	dma(edu, from * PAGE, BUFFER, 0);
	dma(edu, BUFFER, to * PAGE, CMD_FROM_DEVICE);
	same = !memcmp(src, dst, BYTES);
	munmap(src, PAGE);
	munmap(dst, PAGE);
	return same;
}

int main(int argc, char **argv)
{
	uint16_t self = UIOMMU_XEN_DOMID_SELF;
	uint64_t frames, *gfns, reach;
	struct counters before;
	struct edu edu;
	unsigned calls;

	if (argc > 1)
		batch = (unsigned)strtoul(argv[1], NULL, 0);
	privcmd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
	if (privcmd < 0 || !batch)
		err(1, "/dev/xen/privcmd: 'uiommu run --platform xen -- PROGRAM' has it");
	frames = (uint64_t)hypercall(MEMORY_OP, CURRENT_RESERVATION, (uintptr_t)&self, 0);
	reach = frames < REACH_FRAMES ? frames : REACH_FRAMES;
	gfns = calloc(frames, sizeof(*gfns));
	if (!gfns || frames < 4 * BALLOON)
		errx(1, "too little memory: give domain 0 more, e.g. --platform xen,dom0=1G");
	/* The interrupt window is not to be mapped; Linux leaves it out of its memory too. */
	for (uint64_t i = calls = 0; i < frames; i++)
		if (i < 0xfee00 || i > 0xfeeff)
			gfns[calls++] = i;
	frames = calls;
	edu = edu_open();

	before = counters();
	calls = iommu(UIOMMU_XEN_DRAFT_MAP_PAGE, gfns, frames);
	printf("%llu MiB of domain 0 mapped 1:1, %u operations a call\n",
	       (unsigned long long)(frames * PAGE >> 20), batch);
	/* Mapping takes nothing away from anybody, so there is nothing to flush. */
	account("map 1:1", before, calls, 0);
	if (!copies(&edu, 3, reach - 1, 1))
		errx(1, "DMA by guest frame numbers went astray");
	printf("a device copied from frame 3 to frame %#llx by their numbers\n",
	       (unsigned long long)(reach - 1));

	/* Out: first the mappings go, then the pages. */
	before = counters();
	calls = iommu(UIOMMU_XEN_DRAFT_UNMAP_PAGE, gfns + BALLOON, BALLOON);
	account("balloon out", before, calls, calls);
	reservation(DECREASE_RESERVATION, gfns + BALLOON, BALLOON);
	dma(&edu, BUFFER, gfns[BALLOON] * PAGE, CMD_FROM_DEVICE); /* must fault, and hurts nobody */
	if (!copies(&edu, 5, 6, 2))
		errx(1, "what stayed mapped is not reached any more");

	/* In again: other machine frames, the same numbers. */
	reservation(POPULATE_PHYSMAP, gfns + BALLOON, BALLOON);
	for (unsigned i = 0; i < BALLOON; i += 97) {
		const uint8_t *at = frame(gfns[BALLOON + i]);

		if (at[0] || memcmp(at, at + 1, PAGE - 1))
			errx(1, "frame %#llx came back with something in it",
			     (unsigned long long)gfns[BALLOON + i]);
		munmap((void *)at, PAGE);
	}
	before = counters();
	calls = iommu(UIOMMU_XEN_DRAFT_MAP_PAGE, gfns + BALLOON, BALLOON);
	account("balloon in", before, calls, 0);
	if (!copies(&edu, 7, gfns[BALLOON + 1], 3))
		errx(1, "a ballooned page is not reached");

	before = counters();
	calls = iommu(UIOMMU_XEN_DRAFT_UNMAP_PAGE, gfns, frames);
	account("unmap all", before, calls, calls);
	return 0;
}
