/* SPDX-License-Identifier: MIT */
/*
 * fuzz_xen - Xen's hypercalls with arguments from the input: any flavour, arrays that lie, fault
 * and overlap, preempted anywhere, by two virtual processors. The hypervisor counts references:
 * none may be dropped that was not taken, none may be left when the domains are gone, and a frame
 * that a device reaches must have one.
 */
#include "fuzz.h"

#include <errno.h>

#include <uiommu/xen.h>

enum { FRAMES = 64, GUEST = 1024, CALLS = 2, RID = 8 };
#define PAGE UINT64_C(4096)

static uint32_t refs[FRAMES];
static uint8_t guest[GUEST]; /* the guest's memory, at address 0 */
static struct input preemption;

static int copy_in(void *ctx, uint16_t domid, void *to, uint64_t from, size_t len)
{
	if (from >= GUEST || len > GUEST - from)
		return -EFAULT;
	memcpy(to, guest + from, len);
	return 0;
}

static int copy_out(void *ctx, uint16_t domid, uint64_t to, const void *from, size_t len)
{
	if (to >= GUEST || len > GUEST - to)
		return -EFAULT;
	memcpy(guest + to, from, len);
	return 0;
}

static bool preempt(void *ctx)
{
	return take8(&preemption) & 1;
}

/* The first half is domain 0's, the second domain 1's. */
static int get_frame(void *ctx, uint16_t domid, uint64_t gfn, uint64_t *mfn)
{
	if (gfn >= FRAMES)
		return -ENOENT;
	if (domid != gfn / (FRAMES / 2))
		return -EPERM;
	refs[gfn]++;
	*mfn = gfn;
	return 0;
}

static void put_frame(void *ctx, uint64_t mfn)
{
	PROMISE(mfn < FRAMES && refs[mfn]);
	refs[mfn]--;
}

static bool frame_valid(void *ctx, uint64_t mfn)
{
	return mfn < FRAMES;
}

static int check_foreign(void *ctx, uint16_t caller, uint16_t domid)
{
	return domid < 2 ? 0 : -ENXIO;
}

/* Devices get here: the frame must be held, or be mapped without a reference on purpose. */
static bool unreferenced;

static int reach(void *ctx, uint64_t addr, void *buf, size_t len)
{
	PROMISE(addr / PAGE < FRAMES);
	PROMISE(unreferenced || refs[addr / PAGE]);
	return 0;
}

static int reach_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return reach(ctx, addr, NULL, len);
}

static const struct uiommu_memory_ops memory_ops = {
	.size = sizeof(memory_ops), .read = reach, .write = reach_write};

struct host {
	struct uiommu_unit *unit;
	struct uiommu_xen *xen;
	struct uiommu_xen_domain *domain[2];
	struct uiommu_xen_call *call[CALLS];
	struct uiommu_port *port;
};

static bool make(struct host *h, uint8_t choice)
{
	const struct uiommu_memory memory = {.ops = &memory_ops};
	const struct uiommu_unit_options uo = {
		.size = sizeof(uo), .memory = &memory, .iotlb_entries = 16};
	struct uiommu_xen_options xo = {
		.size = sizeof(xo),
		.hooks = {.size = sizeof(xo.hooks),
			  .copy_in = copy_in,
			  .copy_out = copy_out,
			  .preempt = preempt,
			  .get_frame = get_frame,
			  .put_frame = put_frame,
			  .frame_valid = frame_valid,
			  .check_foreign = check_foreign},
		.format = "vtd-ss",
		.width = 39,
		.off = choice & 1,
		.premap_offset = 1024,
		.premap_frames = choice & 2 ? FRAMES : 0,
		.max_contexts = 4,
	};

	unreferenced = choice & 2;
	if (uiommu_unit_create(&uo, &h->unit))
		return false;
	xo.unit = h->unit;
	PROMISE(!uiommu_xen_create(&xo, &h->xen));
	for (uint16_t i = 0; i < 2; i++) {
		const struct uiommu_xen_domain_options o = {
			.size = sizeof(o), .domid = i, .hardware = !i, .contexts = true};

		PROMISE(!uiommu_xen_domain_create(h->xen, &o, &h->domain[i]));
	}
	PROMISE(!uiommu_xen_domain_assign(h->domain[0], RID, "device"));
	for (unsigned i = 0; i < CALLS; i++)
		PROMISE(!uiommu_xen_call_create(h->domain[choice & 4 ? i : 0], &h->call[i]));
	PROMISE(!uiommu_port_create(h->unit, RID, &h->port));
	uiommu_port_set_master(h->port, true);
	return true;
}

static void unmake(struct host *h)
{
	for (unsigned i = 0; i < CALLS; i++)
		uiommu_xen_call_destroy(h->call[i]);
	uiommu_xen_domain_destroy(h->domain[1]);
	uiommu_xen_domain_destroy(h->domain[0]);
	uiommu_port_destroy(h->port);
	uiommu_xen_destroy(h->xen);
	uiommu_unit_destroy(h->unit);
	for (unsigned i = 0; i < FRAMES; i++)
		PROMISE(!refs[i]);
}

static void one_call(struct host *h, struct input *in)
{
	static const uint64_t numbers[] = {40, 56, 43};
	unsigned flavour = take8(in) % 3;
	struct uiommu_xen_call *call = h->call[take8(in) % CALLS];
	uint64_t first = take8(in), second = take8(in) % 32;
	uint64_t arg[5] = {flavour == UIOMMU_XEN_XENSERVER  ? first * 4
			   : flavour == UIOMMU_XEN_CONTEXTS ? first % 10
							    : first % 4,
			   flavour == UIOMMU_XEN_XENSERVER ? second : first * 4, second};
	unsigned legs = 1 + take8(in) % 4;
	long ret;

	/* Mappings without a reference are the caller's affair. */
	if (flavour == UIOMMU_XEN_XENSERVER)
		unreferenced = true;
	do
		ret = uiommu_xen_hypercall(call, (enum uiommu_xen_flavour)flavour, numbers[flavour],
					   arg);
	while (ret == UIOMMU_XEN_CONTINUE && --legs);
	PROMISE(ret <= UIOMMU_XEN_CONTINUE && ret > -4096);
}

static void one_dma(struct host *h, struct input *in)
{
	uint64_t iova = take8(in) * PAGE;
	char byte;

	if (take8(in) & 1)
		uiommu_port_read(h->port, iova, &byte, 1);
	else
		uiommu_port_write(h->port, iova, "x", 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct host h = {0};

	memset(guest, 0, sizeof(guest));
	preemption = in;
	if (!make(&h, take8(&in)))
		return 0;
	while (in.left) {
		uint8_t what = take8(&in) % 4;

		if (what == 0)
			one_dma(&h, &in);
		else if (what == 1)
			one_call(&h, &in);
		else
			take(&in, guest + take8(&in) * 4 % (GUEST - 32), 1 + take8(&in) % 32);
	}
	unmake(&h);
	return 0;
}
