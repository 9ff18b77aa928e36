/* SPDX-License-Identifier: MIT */
/*
 * Xen's three interfaces against a small hypervisor: every status in a table, the order of checks,
 * faulting arrays, continuations at every point with one flush, references that go after it.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <uiommu/xen.h>

#define PAGE	UINT64_C(4096)
#define FRAMES	1024
#define HVM_MFN 256 /* domain 1 has machine frames 256 to 319 as its frames 0 to 63 */
#define HVM_GFN 64
#define XEN_MFN 512 /* from here on frames are nobody's */

/* ---- a hypervisor: domain 0 is the hardware domain and PV, 1 is HVM, 2 is PV, 3 out of reach ----
 */

static struct {
	_Atomic int refs[FRAMES];
	bool unallocated[FRAMES];
	char *fault; /* a page of guest memory that is not there */
	char *read_only;
	/* Preemption: when to cut. */
	struct rng rng;
	unsigned every; /* 0: never; 1: whenever asked; n: one time in n */
	unsigned legs;
	/* Giving this frame back takes until another has got it, and a while. */
	uint64_t slow;
	_Atomic bool slowed, got;
} hv;

static struct uiommu_unit *unit;
static struct uiommu_xen *xen;
static struct uiommu_xen_domain *dom[4];
static struct uiommu_xen_call *call;
static struct uiommu_port *port;

static bool overlaps(const char *page, uint64_t at, size_t len)
{
	return at < (uintptr_t)page + PAGE && at + len > (uintptr_t)page;
}

static int copy_in(void *ctx, uint16_t domid, void *to, uint64_t from, size_t len)
{
	if (overlaps(hv.fault, from, len))
		return -EFAULT;
	memcpy(to, (const void *)(uintptr_t)from, len);
	return 0;
}

static int copy_out(void *ctx, uint16_t domid, uint64_t to, const void *from, size_t len)
{
	if (overlaps(hv.fault, to, len) || overlaps(hv.read_only, to, len))
		return -EFAULT;
	memcpy((void *)(uintptr_t)to, from, len);
	return 0;
}

static bool preempt(void *ctx)
{
	return hv.every == 1 || (hv.every && rng_below(&hv.rng, hv.every) == 0);
}

static uint16_t owner_of(uint64_t mfn)
{
	return mfn < HVM_MFN ? 0 : mfn < HVM_MFN + HVM_GFN ? 1 : mfn < XEN_MFN ? 2 : 0x7fff;
}

static int get_frame(void *ctx, uint16_t domid, uint64_t gfn, uint64_t *mfn)
{
	if (domid == 1 && gfn >= HVM_GFN)
		return -ENOENT;
	*mfn = domid == 1 ? HVM_MFN + gfn : gfn;
	if (*mfn >= FRAMES)
		return -ENOENT;
	if (owner_of(*mfn) != domid)
		return -EPERM;
	hv.refs[*mfn]++;
	if (hv.slowed && *mfn == hv.slow)
		hv.got = true;
	return 0;
}

static uint64_t flushes(void)
{
	struct uiommu_unit_stats stats;

	uiommu_unit_stats(unit, &stats);
	return stats.flushes;
}

static void put_frame(void *ctx, uint64_t mfn)
{
	if (hv.slow && mfn == hv.slow && !hv.slowed) {
		hv.slowed = true;
		while (!hv.got)
			sched_yield();
		usleep(20000);
	}
	if (hv.refs[mfn]-- <= 0)
		abort(); /* may not be the test's own thread */
}

static bool frame_valid(void *ctx, uint64_t mfn)
{
	return mfn < FRAMES;
}

static int check_foreign(void *ctx, uint16_t caller, uint16_t domid)
{
	return domid == 1 ? 0 : domid < 4 ? -EPERM : -ENXIO;
}

static bool frame_allocated(void *ctx, uint64_t mfn)
{
	return !hv.unallocated[mfn];
}

static const struct uiommu_resv_region msi = {
	.range = {0xfee00000, 0xfeefffff}, .type = UIOMMU_RESV_MSI, .prot = UIOMMU_WRITE};

/* Memory that is not touched: frames are numbers here. */
static int no_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	memset(buf, 0, len);
	return 0;
}

static int no_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return 0;
}

struct setting {
	bool off;
	uint64_t offset, frames;
};

static void setup_with(struct setting setting)
{
	static const struct uiommu_memory_ops ops = {
		.size = sizeof(ops), .read = no_read, .write = no_write};
	const struct uiommu_memory memory = {.ops = &ops};
	const struct uiommu_unit_options uo = {.size = sizeof(uo), .memory = &memory};
	struct uiommu_xen_options o = {
		.size = sizeof(o),
		.hooks = {.size = sizeof(o.hooks),
			  .copy_in = copy_in,
			  .copy_out = copy_out,
			  .preempt = preempt,
			  .get_frame = get_frame,
			  .put_frame = put_frame,
			  .frame_valid = frame_valid,
			  .check_foreign = check_foreign,
			  .frame_allocated = frame_allocated},
		.format = "vtd-ss",
		.width = 39,
		.regions = &msi,
		.region_count = 1,
		.off = setting.off,
		.premap_offset = setting.offset,
		.premap_frames = setting.frames,
	};
	struct rng rng = {.state = 1};

	free(hv.fault);
	memset((void *)&hv, 0, sizeof(hv));
	hv.rng = rng;
	hv.fault = aligned_alloc(PAGE, 2 * PAGE);
	hv.read_only = hv.fault + PAGE;
	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);
	o.unit = unit;
	assert_int_equal(uiommu_xen_create(&o, &xen), 0);
	for (uint16_t i = 0; i < 4; i++) {
		const struct uiommu_xen_domain_options d = {.size = sizeof(d),
							    .domid = i,
							    .hardware = !i,
							    .contexts = i < 2,
							    .identity = !i};

		assert_int_equal(uiommu_xen_domain_create(xen, &d, &dom[i]), 0);
	}
	assert_int_equal(uiommu_xen_domain_assign(dom[0], 0x10, "nic"), 0);
	assert_int_equal(uiommu_xen_call_create(dom[0], &call), 0);
	assert_int_equal(uiommu_port_create(unit, 0x10, &port), 0);
	uiommu_port_set_master(port, true);
}

static void setup(void)
{
	setup_with((struct setting){0});
}

static void teardown(void)
{
	uiommu_port_destroy(port);
	uiommu_xen_call_destroy(call);
	for (unsigned i = 4; i-- > 0;)
		uiommu_xen_domain_destroy(dom[i]);
	uiommu_xen_destroy(xen);
	uiommu_unit_destroy(unit);
	for (unsigned i = 0; i < FRAMES; i++)
		assert_int_equal(hv.refs[i], 0);
}

/* What the device finds at a bus frame: does it reach anything? */
static bool reaches(uint64_t bfn, int access)
{
	char byte = 0;

	return !(access == UIOMMU_READ ? uiommu_port_read(port, bfn * PAGE, &byte, 1)
				       : uiommu_port_write(port, bfn * PAGE, &byte, 1));
}

/* The machine frame at a bus frame of domain 0, or -1. */
static int64_t mfn_at(uint64_t bfn)
{
	struct uiommu_area area;

	if (uiommu_ioas_find(uiommu_xen_domain_ioas(dom[0]), bfn * PAGE, &area) ||
	    area.range.first > bfn * PAGE)
		return -1;
	return (int64_t)((area.addr + bfn * PAGE - area.range.first) / PAGE);
}

/* ---- the draft of 2014 ---- */

#define DR  1
#define DRW 3

static long draft(struct uiommu_xen_call *by, unsigned cmd, void *ops, unsigned count)
{
	long ret;

	while ((ret = uiommu_xen_draft_op(by, cmd, (uintptr_t)ops, count)) == UIOMMU_XEN_CONTINUE)
		hv.legs++;
	return ret;
}

static void test_draft_statuses(void **state)
{
	static const struct {
		uint64_t bfn, mfn;
		uint32_t flags;
		int status;
	} map[] = {
		{1, 1, DRW, 0},
		{2, 2, DR, 0},
		{1, 3, DRW, UIOMMU_XEN_DRAFT_MAPPED},
		{3, 3, 0, UIOMMU_XEN_DRAFT_BAD_FLAGS},	     /* nothing */
		{3, 3, 2, UIOMMU_XEN_DRAFT_BAD_FLAGS},	     /* write alone */
		{3, 3, DRW | 4, UIOMMU_XEN_DRAFT_BAD_FLAGS}, /* reserved */
		{3, 3, 0x80000001, UIOMMU_XEN_DRAFT_BAD_FLAGS},
		{3, 256, DRW, UIOMMU_XEN_DRAFT_BAD_PAGE}, /* another domain's */
		{3, 600, DRW, UIOMMU_XEN_DRAFT_BAD_PAGE}, /* nobody's */
		{3, UINT64_MAX, DRW, UIOMMU_XEN_DRAFT_BAD_PAGE},
		{0xfee00, 3, DRW, UIOMMU_XEN_DRAFT_BAD_BFN},	       /* reserved */
		{UINT64_C(1) << 27, 3, DRW, UIOMMU_XEN_DRAFT_BAD_BFN}, /* beyond 39 bits */
		{UINT64_C(1) << 52, 3, DRW, UIOMMU_XEN_DRAFT_BAD_BFN}, /* beyond 64 */
		/* Of two faults the first is told. */
		{1, 256, 2, UIOMMU_XEN_DRAFT_BAD_FLAGS},
		{1, 256, DRW, UIOMMU_XEN_DRAFT_BAD_PAGE},
		{UINT64_C(1) << 52, 256, DRW, UIOMMU_XEN_DRAFT_BAD_BFN},
		{3, 1, DRW, 0}, /* a frame twice */
	};
	static const struct {
		uint64_t bfn;
		uint32_t flags;
		int status;
	} unmap[] = {
		{1, 1, UIOMMU_XEN_DRAFT_BAD_FLAGS},
		{1, 0, 0},
		{1, 0, UIOMMU_XEN_DRAFT_NOT_MAPPED}, /* within the same batch */
		{9, 0, UIOMMU_XEN_DRAFT_NOT_MAPPED},
		{UINT64_MAX, 0, UIOMMU_XEN_DRAFT_NOT_MAPPED},
		{0xfee00, 0, UIOMMU_XEN_DRAFT_NOT_MAPPED},
		{2, 0, 0},
		{3, 0, 0},
	};
	enum { MAPS = sizeof(map) / sizeof(map[0]), UNMAPS = sizeof(unmap) / sizeof(unmap[0]) };
	struct uiommu_xen_draft_op ops[MAPS];
	uint64_t before;

	setup();
	for (unsigned i = 0; i < MAPS; i++)
		ops[i] = (struct uiommu_xen_draft_op){map[i].bfn, map[i].mfn, map[i].flags, 99,
						      0x5a5a};
	assert_int_equal(draft(call, 1, ops, MAPS), 0);
	for (unsigned i = 0; i < MAPS; i++) {
		if (ops[i].status != map[i].status)
			fail_msg("map %u: status %d, not %d", i, ops[i].status, map[i].status);
		assert_int_equal(ops[i].pad, 0x5a5a);
		assert_int_equal(ops[i].bfn, map[i].bfn);
	}
	assert_int_equal(flushes(), 0); /* mapping takes nothing away */
	assert_int_equal(hv.refs[1], 2);
	assert_int_equal(hv.refs[3], 0);
	assert_true(reaches(1, UIOMMU_WRITE));
	assert_true(reaches(2, UIOMMU_READ));
	assert_false(reaches(2, UIOMMU_WRITE));
	before = flushes();
	for (unsigned i = 0; i < UNMAPS; i++)
		ops[i] = (struct uiommu_xen_draft_op){unmap[i].bfn, 77, unmap[i].flags, 99, 0};
	assert_int_equal(draft(call, 2, ops, UNMAPS), 0);
	for (unsigned i = 0; i < UNMAPS; i++)
		if (ops[i].status != unmap[i].status)
			fail_msg("unmap %u: status %d, not %d", i, ops[i].status, unmap[i].status);
	assert_int_equal(flushes() - before, 1);
	assert_int_equal(hv.refs[1], 0);
	assert_false(reaches(1, UIOMMU_READ));
	teardown();
}

static void test_draft_call(void **state)
{
	struct uiommu_xen_draft_op op = {5, 5, DRW, 99, 0};
	struct uiommu_xen_call *other;

	setup();
	assert_int_equal(draft(call, 0, &op, 1), -ENOSYS);
	assert_int_equal(draft(call, 3, &op, 1), -ENOSYS);
	assert_int_equal(draft(call, 1, NULL, 0), 0);
	assert_int_equal(uiommu_xen_call_create(dom[1], &other), 0);
	assert_int_equal(draft(other, 1, &op, 1), -EPERM);
	assert_int_equal(draft(other, 9, &op, 1), -EPERM); /* who may not hears that first */
	uiommu_xen_call_destroy(other);
	assert_int_equal(op.status, 99);
	/* By number, and none but its own. */
	assert_int_equal(uiommu_xen_hypercall(call, UIOMMU_XEN_DRAFT2014, 40,
					      (uint64_t[5]){1, (uintptr_t)&op, 1}),
			 0);
	assert_int_equal(op.status, 0);
	assert_int_equal(uiommu_xen_hypercall(call, UIOMMU_XEN_DRAFT2014, 43, (uint64_t[5]){0}),
			 -ENOSYS);
	assert_int_equal(uiommu_xen_hypercall(call, UIOMMU_XEN_XENSERVER, 40, (uint64_t[5]){0}),
			 -ENOSYS);
	teardown();
	setup_with((struct setting){.off = true});
	assert_int_equal(draft(call, 1, &op, 1), -ENOSYS);
	assert_int_equal(uiommu_xen_call_create(dom[1], &other), 0);
	assert_int_equal(draft(other, 1, &op, 1), -ENOSYS); /* off comes before who may not */
	uiommu_xen_call_destroy(other);
	teardown();
}

/* Part of the array is not there: what came before is done and reported. */
static void test_draft_faults(void **state)
{
	char *block = aligned_alloc(PAGE, 2 * PAGE), *pages;
	struct uiommu_xen_draft_op *ops;
	uint64_t before;

	setup();
	pages = hv.fault;
	hv.fault = block + PAGE;
	ops = (struct uiommu_xen_draft_op *)(void *)(hv.fault - 3 * sizeof(*ops));
	for (unsigned i = 0; i < 3; i++)
		ops[i] = (struct uiommu_xen_draft_op){10 + i, 10 + i, DRW, 99, 0};
	assert_int_equal(draft(call, 1, ops, 5), -EFAULT);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ops[i].status, 0);
	assert_int_equal(mfn_at(12), 12);
	before = flushes();
	for (unsigned i = 0; i < 3; i++)
		ops[i] = (struct uiommu_xen_draft_op){10 + i, 0, 0, 99, 0};
	assert_int_equal(draft(call, 2, ops, 5), -EFAULT);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ops[i].status, 0);
	assert_int_equal(flushes() - before, 1);
	assert_int_equal(hv.refs[10], 0);
	/* An array that wraps, one that begins nowhere. */
	assert_int_equal(draft(call, 1, (void *)(UINTPTR_MAX - 7), 2), -EFAULT);
	assert_int_equal(draft(call, 1, hv.fault, 1), -EFAULT);
	/* A status that can't be written: done all the same, and no more after it. */
	hv.fault = pages;
	hv.read_only = block + PAGE;
	ops = (struct uiommu_xen_draft_op *)(void *)(block + PAGE - sizeof(*ops));
	for (unsigned i = 0; i < 3; i++)
		ops[i] = (struct uiommu_xen_draft_op){20 + i, 20 + i, DRW, 99, 0};
	assert_int_equal(draft(call, 1, ops, 3), -EFAULT);
	assert_int_equal(ops[0].status, 0);
	assert_int_equal(ops[1].status, 99);
	assert_int_equal(mfn_at(21), 21);
	assert_int_equal(mfn_at(22), -1);
	for (unsigned i = 0; i < 2; i++)
		ops[i].flags = 0;
	assert_int_equal(draft(call, 2, ops, 2), -EFAULT);
	assert_int_equal(mfn_at(21), -1);
	assert_int_equal(hv.refs[21], 0);
	hv.read_only = pages + PAGE;
	teardown();
	free(block);
}

/* However a call is cut: one flush, the same statuses, nothing dropped or reported before it. */
static void test_draft_continuations(void **state)
{
	enum { N = 100 };
	struct uiommu_xen_draft_op ops[N];

	setup();
	for (unsigned every = 0; every < 6; every++) {
		uint64_t before = flushes();
		unsigned legs = 0;
		long ret;

		hv.every = every;
		for (unsigned i = 0; i < N; i++)
			ops[i] = (struct uiommu_xen_draft_op){i, i, DRW, 99, 0};
		assert_int_equal(draft(call, 1, ops, N), 0);
		assert_true(reaches(0, UIOMMU_READ));
		for (unsigned i = 0; i < N; i++)
			ops[i] = (struct uiommu_xen_draft_op){i % 7 ? i : 1000, 0, 0, 99, 0};
		while ((ret = uiommu_xen_draft_op(call, 2, (uintptr_t)ops, N)) ==
		       UIOMMU_XEN_CONTINUE) {
			legs++;
			assert_int_equal(flushes(), before);
			for (unsigned i = 0; i < N; i++) {
				assert_int_equal(hv.refs[i], 1);
				assert_true(ops[i].status == 99 ||
					    ops[i].status == UIOMMU_XEN_DRAFT_NOT_MAPPED);
			}
		}
		assert_int_equal(ret, 0);
		assert_int_equal(flushes() - before, 1);
		assert_int_equal(legs > 0, every > 0);
		if (every == 1)
			assert_int_equal(legs, N - 1);
		for (unsigned i = 0; i < N; i++) {
			assert_int_equal(ops[i].status, i % 7 ? 0 : UIOMMU_XEN_DRAFT_NOT_MAPPED);
			assert_int_equal(hv.refs[i], i % 7 ? 0 : 1);
		}
		hv.every = 0;
		for (unsigned i = 0; i < N; i++)
			ops[i] = (struct uiommu_xen_draft_op){i, 0, 0, 99, 0};
		assert_int_equal(draft(call, 2, ops, N), 0);
		assert_int_equal(flushes() - before, 2);
	}
	teardown();
}

/* A guest that doesn't come back for its continuation. */
static void test_abandoned(void **state)
{
	struct uiommu_xen_draft_op ops[4], op = {9, 9, DRW, 99, 0};

	setup();
	for (unsigned i = 0; i < 4; i++)
		ops[i] = (struct uiommu_xen_draft_op){i, i, DRW, 99, 0};
	assert_int_equal(draft(call, 1, ops, 4), 0);
	hv.every = 1;
	for (unsigned i = 0; i < 4; i++)
		ops[i] = (struct uiommu_xen_draft_op){i, 0, 0, 99, 0};
	assert_int_equal(uiommu_xen_draft_op(call, 2, (uintptr_t)ops, 4), UIOMMU_XEN_CONTINUE);
	assert_int_equal(uiommu_xen_draft_op(call, 2, (uintptr_t)ops, 4), UIOMMU_XEN_CONTINUE);
	assert_int_equal(hv.refs[0], 1);
	assert_int_equal(uiommu_xen_draft_op(call, 1, (uintptr_t)&op, 1), 0); /* another call */
	assert_int_equal(hv.refs[0] + hv.refs[1], 0);
	assert_int_equal(ops[1].status, 0);
	assert_int_equal(ops[2].status, 99);
	assert_int_equal(hv.refs[2], 1);
	assert_int_equal(uiommu_xen_draft_op(call, 2, (uintptr_t)(ops + 2), 2),
			 UIOMMU_XEN_CONTINUE);
	assert_int_equal(hv.refs[2], 1);
	teardown(); /* the call ends with its processor: all references are dropped */
}

/* ---- XenServer ---- */

#define SRW   (UIOMMU_XEN_SERVER_READABLE | UIOMMU_XEN_SERVER_WRITEABLE)
#define NOREF UIOMMU_XEN_SERVER_NO_REF_CNT

struct server_row {
	uint16_t subop, flags;
	uint64_t bfn, gfn;
	uint16_t domid;
	int status;
	int64_t found; /* a lookup's answer */
};

static long server(void *ops, unsigned count)
{
	long ret;

	while ((ret = uiommu_xen_server_op(call, (uintptr_t)ops, count)) == UIOMMU_XEN_CONTINUE)
		hv.legs++;
	return ret;
}

static void server_rows(const struct server_row *row, unsigned count)
{
	struct uiommu_xen_server_op *ops = calloc(count, sizeof(*ops));

	for (unsigned i = 0; i < count; i++) {
		ops[i].subop = row[i].subop;
		ops[i].flags = row[i].flags;
		ops[i].status = 99;
		ops[i].u.map_foreign.bfn = row[i].bfn;
		if (row[i].subop == UIOMMU_XEN_SERVER_MAP ||
		    row[i].subop == UIOMMU_XEN_SERVER_MAP_FOREIGN ||
		    row[i].subop == UIOMMU_XEN_SERVER_LOOKUP_FOREIGN) {
			ops[i].u.map_foreign.gfn = row[i].gfn;
			ops[i].u.map_foreign.domid = row[i].domid;
		}
	}
	assert_int_equal(server(ops, count), 0);
	for (unsigned i = 0; i < count; i++) {
		if (ops[i].status != row[i].status)
			fail_msg("row %u: status %d, not %d", i, ops[i].status, row[i].status);
		if (row[i].subop == UIOMMU_XEN_SERVER_LOOKUP_FOREIGN && !row[i].status)
			assert_int_equal(ops[i].u.lookup_foreign.bfn, row[i].found);
	}
	free(ops);
}

#define ROWS(...)                                                  \
	do {                                                       \
		const struct server_row rows[] = {__VA_ARGS__};    \
		server_rows(rows, sizeof(rows) / sizeof(rows[0])); \
	} while (0)

static void test_server_statuses(void **state)
{
	setup();
	ROWS({2, SRW, 1, 1, 0, 0},			   /* own frame */
	     {2, SRW, 1, 2, 0, -EPERM},			   /* already mapped */
	     {2, SRW, 2, 256, 0, -EPERM},		   /* another's */
	     {2, SRW, 2, 5000, 0, -EPERM},		   /* no frame */
	     {2, SRW | NOREF, 2, 5000, 0, -EPERM},	   /* nor without a reference */
	     {2, SRW | NOREF, 2, 700, 0, 0},		   /* anybody's, without one */
	     {2, 0, 3, 3, 0, -EIO},			   /* no permission at all */
	     {2, SRW, 0xfee00, 3, 0, -EIO},		   /* reserved */
	     {2, SRW, UINT64_MAX, 3, 0, -EIO},		   /* beyond everything */
	     {2, SRW | 1 << 10, 3, 3, 0, -ENOSPC},	   /* order 1 */
	     {2, SRW | 1 << 15, 3, 3, 0, -ENOSPC},	   /* order 32 */
	     {2, SRW | 0x0200, 3, 3, 0, 0},		   /* bits without meaning */
	     {2, UIOMMU_XEN_SERVER_WRITEABLE, 4, 4, 0, 0}, /* the engine can */
	     {0, 0, 0, 0, 0, -ENODEV}, {7, 0, 0, 0, 0, -ENODEV},
	     {9, 1 << 12, 0, 0, 0, -ENOSPC}, /* order before sub-operation */
	     {3, 0, 9, 0, 0, -ENOENT}, {3, 0, UINT64_MAX, 0, 0, -ENOENT},
	     {3, 1 << 11, 1, 0, 0, -ENOSPC}, {3, 0, 3, 0, 0, 0},
	     {3, 0, 3, 0, 0, -ENOENT}); /* within the same call */
	assert_int_equal(flushes(), 1);
	assert_int_equal(hv.refs[1], 1);
	assert_int_equal(hv.refs[700], 0);
	assert_int_equal(hv.refs[3], 0);
	/* The flag of an unmap can't drop what was not taken, nor keep what was. */
	ROWS({3, 0, 2, 0, 0, 0}, {3, NOREF, 1, 0, 0, 0}, {3, 0, 4, 0, 0, 0});
	teardown();
}

static void test_server_call(void **state)
{
	struct uiommu_xen_server_op op = {.subop = 2, .flags = SRW, .status = 99, .u.map = {1, 1}};
	struct uiommu_xen_call *other;

	setup();
	assert_int_equal(uiommu_xen_server_op(call, (uintptr_t)&op, 0x80000000), -EINVAL);
	assert_int_equal(uiommu_xen_call_create(dom[1], &other), 0);
	assert_int_equal(uiommu_xen_server_op(other, (uintptr_t)&op, 1), -ENOSYS);
	assert_int_equal(uiommu_xen_server_op(other, (uintptr_t)&op, UINT32_MAX), -ENOSYS);
	uiommu_xen_call_destroy(other);
	assert_int_equal(op.status, 99);
	assert_int_equal(server(hv.fault, 1), -EFAULT);
	assert_int_equal(server(hv.fault - sizeof(op), 0), 0);
	assert_int_equal(uiommu_xen_hypercall(call, UIOMMU_XEN_XENSERVER, 56,
					      (uint64_t[5]){(uintptr_t)&op, 1}),
			 0);
	assert_int_equal(op.status, 0);
	/* What it can do. */
	op = (struct uiommu_xen_server_op){
		.subop = 1, .flags = 0x3ff, .status = 99, .u.query_caps = {7}};
	assert_int_equal(server(&op, 1), 0);
	assert_int_equal(op.status, 0);
	assert_int_equal(op.flags,
			 UIOMMU_XEN_SERVER_QUERY_MAP_CAP | UIOMMU_XEN_SERVER_QUERY_MAP_ALL_MFNS);
	assert_int_equal(op.u.query_caps.offset, 0);
	teardown();

	setup_with((struct setting){.off = true});
	op = (struct uiommu_xen_server_op){.subop = 1, .status = 99};
	assert_int_equal(server(&op, 1), 0);
	assert_int_equal(op.flags, UIOMMU_XEN_SERVER_QUERY_MAP_ALL_MFNS);
	ROWS({2, SRW, 1, 1, 0, -EPERM}, {3, 0, 1, 0, 0, -ENOENT}, {4, SRW, 1, 1, 1, -EPERM},
	     {5, SRW, 0, 7, 1, 0, HVM_MFN + 7}, {5, SRW, 0, 7, 1, 0, HVM_MFN + 7},
	     {6, 0, HVM_MFN + 7, 0, 0, 0}, {6, 0, HVM_MFN + 7, 0, 0, -ENOENT});
	assert_int_equal(hv.refs[HVM_MFN + 7], 0);
	teardown();
}

static void test_server_foreign(void **state)
{
	setup();
	hv.unallocated[HVM_MFN + 60] = true;
	ROWS({4, SRW, 1, 1, 0, -EPERM},			      /* itself */
	     {4, SRW, 1, 1, UIOMMU_XEN_DOMID_SELF, -EPERM},   /* the same */
	     {4, SRW, 1, 1, 2, -EPERM},			      /* PV, or no right */
	     {4, SRW, 1, 1, 9, -ENXIO},			      /* no such domain */
	     {4, SRW, 1, 64, 1, -ENXIO},		      /* no such frame */
	     {4, SRW, 1, 60, 1, -EPERM},		      /* not the guest's own */
	     {4, SRW, 1, 1, 1, 0}, {4, SRW, 1, 2, 1, -EPERM}, /* bus frame taken */
	     {4, SRW, 2, 1, 1, 0},  /* mapped already: fine, but nothing done */
	     {4, 0, 2, 2, 1, -EIO}, /* no permission */
	     {4, SRW, 2, 2, 1, 0},  /* which left no mark */
	     {5, 0, 0, 1, 0, -EPERM}, {5, 0, 0, 1, UIOMMU_XEN_DOMID_SELF, -EPERM},
	     {5, 0, 0, 1, 2, -EPERM}, {5, 0, 0, 1, 9, -ENXIO}, {5, 0, 0, 64, 1, -ENXIO},
	     {5, 0, 0, 60, 1, -EPERM}, {5, 0, 0, 3, 1, -ENOENT}, /* not premapped */
	     {6, 0, 3, 0, 0, -ENOENT}, {6, 0, 1, 0, 0, 0}, {6, 0, 1, 0, 0, -ENOENT},
	     {3, 0, 1, 0, 0, -ENOENT});
	assert_int_equal(mfn_at(1), -1);
	assert_int_equal(mfn_at(2), HVM_MFN + 2);
	assert_int_equal(hv.refs[HVM_MFN + 1], 0);
	assert_int_equal(hv.refs[HVM_MFN + 2], 1);
	assert_int_equal(hv.refs[HVM_MFN + 60], 0);
	/* A plain unmap takes the mark with it. */
	ROWS({3, 0, 2, 0, 0, 0}, {4, SRW, 2, 2, 1, 0});
	/* The domain goes, and what was mapped of it. */
	uiommu_xen_domain_destroy(dom[1]);
	dom[1] = NULL;
	assert_int_equal(mfn_at(2), -1);
	assert_int_equal(hv.refs[HVM_MFN + 2], 0);
	teardown();
}

static void test_server_m2b(void **state)
{
	uint16_t add = SRW | NOREF | UIOMMU_XEN_SERVER_ADD_M2B;

	setup();
	ROWS({2, add, 40, HVM_MFN + 1, 0, -EPERM}, /* nobody has asked for the capabilities yet */
	     {1, 0, 0, 0, 0, 0}, {2, add, 40, HVM_MFN + 1, 0, 0},
	     {2, add, 41, HVM_MFN + 1, 0, -EPERM}, /* the frame has one */
	     {2, add, 40, HVM_MFN + 2, 0, -EPERM}, /* the bus frame is taken */
	     {2, add & ~NOREF, 42, 600, 0, -EPERM}, {5, 0, 0, 1, 1, 0, 40}, {5, 0, 0, 1, 1, 0, 40},
	     {5, 0, 0, 2, 1, -ENOENT}, {6, 0, 40, 0, 0, 0},
	     {6, 0, 40, 0, 0, -ENOENT}); /* what is premapped stays */
	assert_int_equal(mfn_at(40), HVM_MFN + 1);
	assert_int_equal(hv.refs[HVM_MFN + 1], 0);
	ROWS({5, 0, 0, 1, 1, 0, 40}, {3, UIOMMU_XEN_SERVER_REMOVE_M2B, 40, 0, 0, 0},
	     {5, 0, 0, 3, 1, -ENOENT});
	assert_int_equal(hv.refs[HVM_MFN + 1], 1); /* looked up still */
	uiommu_xen_domain_destroy(dom[1]);
	dom[1] = NULL;
	assert_int_equal(hv.refs[HVM_MFN + 1], 0);
	teardown();

	/* As since 8.0: every frame at an offset. */
	setup_with((struct setting){.offset = 0x10000, .frames = FRAMES});
	{
		struct uiommu_xen_server_op op = {.subop = 1};

		assert_int_equal(server(&op, 1), 0);
		assert_int_equal(op.u.query_caps.offset, 0x10000);
	}
	assert_true(reaches(0x10000 + 5, UIOMMU_WRITE));
	ROWS({5, 0, 0, 1, 1, 0, 0x10000 + HVM_MFN + 1}, {6, 0, 0x10000 + HVM_MFN + 1, 0, 0, 0},
	     {3, 0, 0x10000, 0, 0, -EIO}); /* it is one mapping */
	teardown();
}

static void test_server_continuations(void **state)
{
	enum { N = 64 };
	struct uiommu_xen_server_op ops[N];

	setup();
	hv.rng = rng_seeded("continuations");
	for (unsigned round = 0; round < 200; round++) {
		uint64_t before = flushes();
		long ret;

		hv.every = round % 5;
		/* Linux's way: unmap and map in pairs. */
		for (unsigned i = 0; i < N; i++)
			ops[i] = (struct uiommu_xen_server_op){
				.subop = i % 2 ? 2 : 3,
				.flags = i % 2 ? SRW : 0,
				.status = 99,
				.u.map = {i / 2, (i / 2 + round) % 200}};
		while ((ret = uiommu_xen_server_op(call, (uintptr_t)ops, N)) == UIOMMU_XEN_CONTINUE)
			assert_int_equal(flushes(), before);
		assert_int_equal(ret, 0);
		assert_int_equal(flushes() - before, round ? 1 : 0);
		for (unsigned i = 0; i < N; i++)
			assert_int_equal(ops[i].status, !round && i % 2 == 0 ? -ENOENT : 0);
		for (unsigned i = 0; i < N / 2; i++)
			assert_int_equal(mfn_at(i), (i + round) % 200);
		for (unsigned i = 0; i < 200; i++)
			assert_int_equal(hv.refs[i], (i + 200 - round % 200) % 200 < N / 2);
	}
	teardown();
}

/* However many pairs of unmap and map, a call holds little, and flushes as seldom as that allows.
 */
static void test_many_pairs(void **state)
{
	enum { N = 8192, MOST = 1024 };
	struct uiommu_xen_server_op *ops = calloc(N, sizeof(*ops));
	long before_bytes, most = 0;
	uint64_t before;
	long ret;

	uiommu_set_allocator(failing_alloc, failing_release);
	setup();
	/* Each in a table of its own, which goes with it. */
	for (unsigned i = 0; i < N; i++)
		ops[i] = (struct uiommu_xen_server_op){
			.subop = 2, .flags = SRW, .u.map = {((uint64_t)i << 9) + 256, i % 200}};
	assert_int_equal(server(ops, N / 2), 0);
	for (unsigned i = 0; i < N; i++)
		ops[i] = (struct uiommu_xen_server_op){
			.subop = i % 2 ? 2 : 3,
			.flags = i % 2 ? SRW : 0,
			.status = 99,
			.u.map = {((uint64_t)(i / 2) << 9) + 256, i % 200}};
	hv.every = 1;
	before = flushes();
	before_bytes = (long)fail_live_bytes;
	while ((ret = uiommu_xen_server_op(call, (uintptr_t)ops, N)) == UIOMMU_XEN_CONTINUE)
		if ((long)fail_live_bytes - before_bytes > most)
			most = (long)fail_live_bytes - before_bytes;
	assert_int_equal(ret, 0);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(ops[i].status, 0);
	assert_int_equal(flushes() - before, N / 2 / MOST);
	print_message("at most %ld bytes held\n", most);
	assert_true(most < MOST * 8 * 1024);
	teardown();
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
	free(ops);
}

/* ---- contexts ---- */

static long context(struct uiommu_xen_call *by, int subop, void *arg)
{
	long ret;

	while ((ret = uiommu_xen_context_op(by, subop, (uintptr_t)arg)) == UIOMMU_XEN_CONTINUE)
		hv.legs++;
	return ret;
}

static long c_map(struct uiommu_xen_call *by, uint16_t ctx, uint64_t gfn, uint64_t dfn, uint32_t n,
		  uint32_t flags, uint32_t pgsize, uint32_t *mapped)
{
	struct uiommu_xen_map_pages map = {.ctx_no = ctx,
					   .gfn = gfn,
					   .dfn = dfn,
					   .map_flags = flags,
					   .pgsize = pgsize,
					   .nr_pages = n,
					   .mapped = 12345};
	long ret = context(by, UIOMMU_XEN_MAP_PAGES, &map);

	assert_int_equal(map.gfn, gfn);
	assert_int_equal(map.nr_pages, n);
	*mapped = map.mapped;
	return ret;
}

static long c_unmap(struct uiommu_xen_call *by, uint16_t ctx, uint64_t dfn, uint32_t n,
		    uint32_t pgsize, uint32_t *unmapped)
{
	struct uiommu_xen_unmap_pages unmap = {
		.ctx_no = ctx, .dfn = dfn, .pgsize = pgsize, .nr_pages = n, .unmapped = 12345};
	long ret = context(by, UIOMMU_XEN_UNMAP_PAGES, &unmap);

	*unmapped = unmap.unmapped;
	return ret;
}

static void test_context_life(void **state)
{
	struct uiommu_xen_capabilities cap;
	struct uiommu_xen_init init = {.max_ctx_no = UINT32_MAX};
	struct uiommu_xen_alloc alloc = {.ctx_no = 77};
	struct uiommu_xen_free gone = {.ctx_no = 1};
	struct uiommu_xen_reattach move = {.ctx_no = 1, .dev = {0, 0, 0x10}};
	uint32_t n;

	setup();
	assert_int_equal(context(call, UIOMMU_XEN_NOOP, NULL), 0);
	assert_int_equal(context(call, UIOMMU_XEN_QUERY_CAPABILITIES, &cap), 0);
	assert_int_equal(cap.max_iova_addr, (UINT64_C(1) << 39) - 1);
	assert_int_equal(cap.cap_flags, UIOMMU_XEN_CAP_DEFAULT_IDENTITY);
	assert_int_equal(cap.pgsize_mask, 4096);
	assert_int_equal(cap.max_pasid, 0);
	assert_int_equal(cap.max_ctx_no, 0);
	assert_int_equal(context(call, UIOMMU_XEN_ALLOC_CONTEXT, &alloc),
			 -ENOSPC); /* before init */
	assert_int_equal(context(call, UIOMMU_XEN_INIT, &init), -E2BIG);
	init.max_ctx_no = 1025;
	assert_int_equal(context(call, UIOMMU_XEN_INIT, &init), -E2BIG);
	init.max_ctx_no = 2;
	assert_int_equal(context(call, UIOMMU_XEN_INIT, &init), 0);
	assert_int_equal(context(call, UIOMMU_XEN_INIT, &init), -EACCES);
	assert_int_equal(context(call, UIOMMU_XEN_QUERY_CAPABILITIES, &cap), 0);
	assert_int_equal(cap.max_ctx_no, 2);
	alloc.alloc_flags = 1;
	assert_int_equal(context(call, UIOMMU_XEN_ALLOC_CONTEXT, &alloc), -EOPNOTSUPP);
	alloc.alloc_flags = 0;
	assert_int_equal(context(call, UIOMMU_XEN_ALLOC_CONTEXT, &alloc), 0);
	assert_int_equal(alloc.ctx_no, 1);
	assert_int_equal(context(call, UIOMMU_XEN_ALLOC_CONTEXT, &alloc), 0);
	assert_int_equal(alloc.ctx_no, 2);
	assert_int_equal(context(call, UIOMMU_XEN_ALLOC_CONTEXT, &alloc), -ENOSPC);

	/* The device moves into context 1, by which it reaches what is mapped there. */
	assert_int_equal(c_map(call, 1, 5, 9, 1, 3, 4096, &n), 0);
	assert_false(reaches(9, UIOMMU_READ));
	assert_int_equal(context(call, UIOMMU_XEN_REATTACH_DEVICE, &move), 0);
	assert_true(reaches(9, UIOMMU_WRITE));
	move.ctx_no = 3;
	assert_int_equal(context(call, UIOMMU_XEN_REATTACH_DEVICE, &move), -ENOENT);
	move.pasid = 1;
	assert_int_equal(context(call, UIOMMU_XEN_REATTACH_DEVICE, &move), -EOPNOTSUPP);
	move.pasid = 0;
	move.dev.devfn = 0x11;
	assert_int_equal(context(call, UIOMMU_XEN_REATTACH_DEVICE, &move), -ENODEV);
	move.dev = (struct uiommu_xen_pci_device){1, 0, 0x10};
	assert_int_equal(context(call, UIOMMU_XEN_REATTACH_DEVICE, &move), -ENODEV);

	assert_int_equal(context(call, UIOMMU_XEN_FREE_CONTEXT, &(struct uiommu_xen_free){0}),
			 -EINVAL);
	assert_int_equal(
		context(call, UIOMMU_XEN_FREE_CONTEXT, &(struct uiommu_xen_free){.ctx_no = 3}),
		-ENOENT);
	assert_int_equal(context(call, UIOMMU_XEN_FREE_CONTEXT, &gone), -EBUSY);
	gone.free_flags = 2;
	assert_int_equal(context(call, UIOMMU_XEN_FREE_CONTEXT, &gone), -EOPNOTSUPP);
	assert_int_equal(hv.refs[5], 1);
	gone.free_flags = UIOMMU_XEN_FREE_REATTACH_DEFAULT;
	assert_int_equal(context(call, UIOMMU_XEN_FREE_CONTEXT, &gone), 0);
	assert_int_equal(hv.refs[5], 0);
	assert_false(reaches(9, UIOMMU_READ));
	gone.ctx_no = 2;
	gone.free_flags = 0;
	assert_int_equal(context(call, UIOMMU_XEN_FREE_CONTEXT, &gone), 0);
	assert_int_equal(context(call, UIOMMU_XEN_FREE_CONTEXT, &gone), -ENOENT);
	for (int subop = 9; subop < 14; subop++)
		assert_int_equal(context(call, subop, NULL), -EOPNOTSUPP);
	assert_int_equal(context(call, -1, NULL), -EOPNOTSUPP);
	for (int subop = 1; subop < 9; subop++)
		assert_int_equal(context(call, subop, hv.fault), -EFAULT);
	assert_int_equal(context(call, UIOMMU_XEN_QUERY_CAPABILITIES, hv.read_only), -EFAULT);
	teardown();
}

static void one_context(void)
{
	struct uiommu_xen_init init = {.max_ctx_no = 3};
	struct uiommu_xen_alloc alloc = {0};

	assert_int_equal(context(call, UIOMMU_XEN_INIT, &init), 0);
	assert_int_equal(context(call, UIOMMU_XEN_ALLOC_CONTEXT, &alloc), 0);
}

static void test_context_pages(void **state)
{
	static const struct {
		uint16_t ctx;
		uint64_t gfn, dfn;
		uint32_t n, flags, pgsize;
		int ret;
		uint32_t mapped;
	} map[] = {
		{0, 1, 1, 1, 3, 4096, -EINVAL, 0}, /* the default context */
		{2, 1, 1, 1, 3, 4096, -EINVAL, 0}, /* none */
		{9, 1, 1, 1, 3, 4096, -EINVAL, 0},
		{1, 1, 1, 0, 3, 4096, 0, 0},
		{1, 1, 1, 4, 3, 4096, 0, 4},
		{1, 1, 0, 4, 3, 4096, -EADDRINUSE, 1}, /* stops at the second */
		{1, 254, 20, 4, 3, 4096, -EPERM, 2},   /* the third is another's */
		{1, 5000, 30, 1, 3, 4096, -ENOENT, 0}, /* unbacked */
		{1, 1, 0xfedff, 3, 3, 4096, -EADDRNOTAVAIL, 1},
		{1, 5000, 0xfee00, 1, 3, 4096, -EADDRNOTAVAIL,
		 0},				    /* reserved comes before unbacked */
		{1, 256, 1, 1, 3, 4096, -EPERM, 0}, /* not owner before conflict */
		{1, 1, UINT64_C(1) << 27, 1, 3, 4096, -EADDRNOTAVAIL, 0},
		{1, 1, UINT64_MAX, 2, 3, 4096, -EADDRNOTAVAIL, 0},
		{1, 1, 40, 1, 0, 4096, -EINVAL, 0},
		{1, 1, 40, 1, 7, 4096, -EOPNOTSUPP, 0},
		{1, 1, 40, 1, 8 | 3, 4096, -EINVAL, 0},
		{1, 1, 40, 1, 3, 0x200000, -EINVAL, 0},
		{1, 1, 40, 1, 3, 0, -EINVAL, 0},
		{1, 1, 40, 1, 1, 4096, 0, 1},
	};
	static const struct {
		uint16_t ctx;
		uint64_t dfn;
		uint32_t n, pgsize;
		int ret;
		uint32_t unmapped, flushes;
	} unmap[] = {
		{0, 1, 1, 4096, -EINVAL, 0, 0},
		{2, 1, 1, 4096, -EINVAL, 0, 0},
		{1, 1, 1, 8192, -EINVAL, 0, 0},
		{1, 50, 2, 4096, -ENOENT, 0, 0},
		{1, 0xfee00, 1, 4096, -EADDRNOTAVAIL, 0, 0},
		{1, 0xfedff, 2, 4096, -EADDRNOTAVAIL, 1, 1},
		{1, 3, 4, 4096, -ENOENT, 2, 1}, /* stops behind the last */
		{1, 0, 3, 4096, 0, 3, 1},
		{1, 1, 0, 4096, 0, 0, 0},
	};
	uint32_t n;

	setup();
	one_context();
	for (unsigned i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		long ret = c_map(call, map[i].ctx, map[i].gfn, map[i].dfn, map[i].n, map[i].flags,
				 map[i].pgsize, &n);

		if (ret != map[i].ret || n != map[i].mapped)
			fail_msg("map %u: %ld, %u pages; not %d, %u", i, ret, n, map[i].ret,
				 map[i].mapped);
	}
	for (unsigned i = 0; i < sizeof(unmap) / sizeof(unmap[0]); i++) {
		uint64_t before = flushes();
		long ret =
			c_unmap(call, unmap[i].ctx, unmap[i].dfn, unmap[i].n, unmap[i].pgsize, &n);

		if (ret != unmap[i].ret || n != unmap[i].unmapped ||
		    flushes() - before != unmap[i].flushes)
			fail_msg("unmap %u: %ld, %u pages, %d flushes", i, ret, n,
				 (int)(flushes() - before));
	}
	teardown();
}

static void test_context_permission(void **state)
{
	struct uiommu_xen_init init = {.max_ctx_no = 1};
	struct uiommu_xen_alloc alloc = {0};
	struct uiommu_xen_map_pages map = {
		.ctx_no = 1, .gfn = 3, .dfn = 3, .map_flags = 3, .pgsize = 4096, .nr_pages = 2};
	struct uiommu_xen_remote_cmd remote = {
		.domid = 1, .subop = UIOMMU_XEN_INIT, .arg = (uintptr_t)&init};
	struct uiommu_xen_call *guest, *other;

	setup();
	assert_int_equal(uiommu_xen_call_create(dom[1], &guest), 0);
	assert_int_equal(uiommu_xen_call_create(dom[2], &other), 0);
	assert_int_equal(context(other, UIOMMU_XEN_NOOP, NULL), -ENODEV);
	assert_int_equal(context(guest, UIOMMU_XEN_NOOP, NULL), 0);
	/* The hardware domain on another's behalf, and nobody else. */
	assert_int_equal(context(guest, UIOMMU_XEN_REMOTE_CMD, &remote), -EPERM);
	assert_int_equal(context(call, UIOMMU_XEN_REMOTE_CMD, &remote), 0);
	assert_int_equal(context(guest, UIOMMU_XEN_INIT, &init), -EACCES);
	remote.domid = 8;
	assert_int_equal(context(call, UIOMMU_XEN_REMOTE_CMD, &remote), -ENOENT);
	remote.domid = 1;
	remote.subop = UIOMMU_XEN_REMOTE_CMD;
	assert_int_equal(context(call, UIOMMU_XEN_REMOTE_CMD, &remote), -EINVAL);
	remote.subop = 12;
	assert_int_equal(context(call, UIOMMU_XEN_REMOTE_CMD, &remote), -EOPNOTSUPP);
	remote.subop = UIOMMU_XEN_ALLOC_CONTEXT;
	remote.arg = (uintptr_t)&alloc;
	assert_int_equal(context(call, UIOMMU_XEN_REMOTE_CMD, &remote), 0);
	assert_int_equal(alloc.ctx_no, 1);
	remote.subop = UIOMMU_XEN_MAP_PAGES;
	remote.arg = (uintptr_t)&map;
	hv.every = 1;
	assert_int_equal(context(call, UIOMMU_XEN_REMOTE_CMD, &remote), 0);
	assert_int_equal(map.mapped, 2);
	assert_int_equal(hv.refs[HVM_MFN + 3], 1); /* the guest's frames */
	assert_int_equal(hv.refs[3], 0);
	uiommu_xen_call_destroy(guest);
	uiommu_xen_call_destroy(other);
	teardown();
	setup_with((struct setting){.off = true});
	assert_int_equal(context(call, UIOMMU_XEN_NOOP, NULL), -ENODEV);
	teardown();
}

/* Another command than the one that was preempted ends that one, with what was done: a later
 * command at the same address is a new one. */
static void test_context_left(void **state)
{
	struct uiommu_xen_capabilities cap;
	struct uiommu_xen_map_pages map = {
		.ctx_no = 1, .gfn = 3, .map_flags = 3, .pgsize = 4096, .nr_pages = 4};
	const struct {
		int cmd;
		void *arg;
	} others[] = {{UIOMMU_XEN_NOOP, NULL}, {UIOMMU_XEN_QUERY_CAPABILITIES, &cap}};

	setup();
	one_context();
	hv.every = 1;
	for (unsigned i = 0; i < 2; i++) {
		map.dfn = 100 * i + 10;
		map.mapped = 9;
		assert_int_equal(uiommu_xen_context_op(call, UIOMMU_XEN_MAP_PAGES, (uintptr_t)&map),
				 UIOMMU_XEN_CONTINUE);
		assert_int_equal(map.mapped, 9);
		assert_int_equal(context(call, others[i].cmd, others[i].arg), 0);
		assert_int_equal(map.mapped, 1);
		map.dfn += 50;
		assert_int_equal(context(call, UIOMMU_XEN_MAP_PAGES, &map), 0);
		assert_int_equal(map.mapped, 4);
		assert_int_equal(hv.refs[3], 2 * (i + 1));
		assert_int_equal(hv.refs[4], i + 1);
	}
	teardown();
}

/* The domain that a preempted call works on is destroyed meanwhile: what the call has done is
 * undone or forgotten, once, when the call ends. */
static void test_target_goes(void **state)
{
	struct uiommu_xen_init init = {.max_ctx_no = 1};
	struct uiommu_xen_alloc alloc = {0};
	struct uiommu_xen_map_pages map = {
		.ctx_no = 1, .gfn = 3, .dfn = 3, .map_flags = 3, .pgsize = 4096, .nr_pages = 4};
	struct uiommu_xen_remote_cmd remote = {
		.domid = 1, .subop = UIOMMU_XEN_INIT, .arg = (uintptr_t)&init};

	setup();
	assert_int_equal(context(call, UIOMMU_XEN_REMOTE_CMD, &remote), 0);
	remote.subop = UIOMMU_XEN_ALLOC_CONTEXT;
	remote.arg = (uintptr_t)&alloc;
	assert_int_equal(context(call, UIOMMU_XEN_REMOTE_CMD, &remote), 0);
	remote.subop = UIOMMU_XEN_MAP_PAGES;
	remote.arg = (uintptr_t)&map;
	hv.every = 1;
	assert_int_equal(uiommu_xen_context_op(call, UIOMMU_XEN_REMOTE_CMD, (uintptr_t)&remote),
			 UIOMMU_XEN_CONTINUE);
	assert_int_equal(hv.refs[HVM_MFN + 3], 1);
	uiommu_xen_domain_destroy(dom[1]);
	dom[1] = NULL;
	assert_int_equal(context(call, UIOMMU_XEN_REMOTE_CMD, &remote), -ENOENT);
	assert_int_equal(hv.refs[HVM_MFN + 3], 0); /* that was its end */
	teardown();
}

static void test_context_continuations(void **state)
{
	struct uiommu_xen_unmap_pages unmap = {
		.ctx_no = 1, .dfn = 7, .pgsize = 4096, .nr_pages = 50, .unmapped = 9};
	struct uiommu_xen_free gone = {.ctx_no = 1};
	struct uiommu_xen_call *second;
	uint64_t before;
	unsigned legs = 0;
	uint32_t n;
	long ret;

	setup();
	one_context();
	hv.every = 2;
	assert_int_equal(c_map(call, 1, 0, 7, 40, 3, 4096, &n), 0);
	assert_int_equal(n, 40);
	assert_true(hv.legs > 0);
	before = flushes();
	while ((ret = uiommu_xen_context_op(call, UIOMMU_XEN_UNMAP_PAGES, (uintptr_t)&unmap)) ==
	       UIOMMU_XEN_CONTINUE) {
		legs++;
		assert_int_equal(unmap.unmapped, 9); /* nothing is reported before it is true */
		assert_int_equal(unmap.dfn, 7);
		assert_int_equal(hv.refs[0], 1);
		assert_int_equal(flushes(), before);
	}
	assert_int_equal(ret, -ENOENT);
	assert_int_equal(unmap.unmapped, 40);
	assert_true(legs > 0);
	assert_int_equal(flushes() - before, 1);
	assert_int_equal(hv.refs[0], 0);

	/* The context is freed while a call is under way in it: it lasts as long as the call. */
	hv.every = 0;
	assert_int_equal(c_map(call, 1, 0, 0, 40, 3, 4096, &n), 0);
	hv.every = 1;
	unmap.dfn = 0;
	assert_int_equal(uiommu_xen_context_op(call, UIOMMU_XEN_UNMAP_PAGES, (uintptr_t)&unmap),
			 UIOMMU_XEN_CONTINUE);
	assert_int_equal(uiommu_xen_call_create(dom[0], &second), 0);
	assert_int_equal(context(second, UIOMMU_XEN_FREE_CONTEXT, &gone), 0);
	uiommu_xen_call_destroy(second);
	assert_int_equal(hv.refs[0], 1);
	assert_int_equal(context(call, UIOMMU_XEN_UNMAP_PAGES, &unmap), -ENOENT);
	assert_int_equal(unmap.unmapped, 40);
	teardown();
}

/* ---- two virtual processors ---- */

static void *map_where_taken(void *arg)
{
	struct uiommu_xen_server_op op = {.subop = 4, .flags = SRW, .u.map_foreign = {1, 1, 1, 0}};
	struct uiommu_xen_call *mine;

	if (uiommu_xen_call_create(dom[0], &mine) ||
	    uiommu_xen_server_op(mine, (uintptr_t)&op, 1) || op.status != -EPERM)
		abort();
	uiommu_xen_call_destroy(mine);
	return NULL;
}

/* While one processor's mapping of a foreign frame is failing, another's doesn't count on it. */
static void test_foreign_twice(void **state)
{
	pthread_t thread;

	setup();
	ROWS({2, SRW, 1, 7, 0, 0});
	hv.slow = HVM_MFN + 1;
	pthread_create(&thread, NULL, map_where_taken, NULL);
	while (!hv.slowed)
		sched_yield();
	ROWS({4, SRW, 2, 1, 1, 0});
	assert_int_equal(mfn_at(2), HVM_MFN + 1);
	pthread_join(thread, NULL);
	assert_int_equal(hv.refs[HVM_MFN + 1], 1);
	ROWS({6, 0, 2, 0, 0, 0});
	assert_int_equal(hv.refs[HVM_MFN + 1], 0);
	teardown();
}

/* Map, unmap, look up, in the same bus frames and contexts, each call preempted all the time. */
static void *processor(void *seed)
{
	struct rng rng = {.state = (uintptr_t)seed};
	struct uiommu_xen_call *mine;

	if (uiommu_xen_call_create(dom[0], &mine))
		abort();
	for (unsigned round = 0; round < 400; round++) {
		struct uiommu_xen_server_op ops[16];
		struct uiommu_xen_unmap_pages unmap = {
			.ctx_no = 1, .dfn = rng_below(&rng, 8), .pgsize = 4096, .nr_pages = 8};
		struct uiommu_xen_map_pages map = {.ctx_no = 1,
						   .gfn = rng_below(&rng, 64),
						   .dfn = rng_below(&rng, 8),
						   .map_flags = 3,
						   .pgsize = 4096,
						   .nr_pages = 8};

		for (unsigned i = 0; i < 16; i++)
			ops[i] = (struct uiommu_xen_server_op){
				.subop = (uint16_t)(2 + rng_below(&rng, 5)),
				.flags = SRW,
				.u.map_foreign = {rng_below(&rng, 8), rng_below(&rng, 8), 1, 0}};
		while (uiommu_xen_server_op(mine, (uintptr_t)ops, 16) == UIOMMU_XEN_CONTINUE)
			;
		while (uiommu_xen_context_op(mine, UIOMMU_XEN_MAP_PAGES, (uintptr_t)&map) ==
		       UIOMMU_XEN_CONTINUE)
			;
		while (uiommu_xen_context_op(mine, UIOMMU_XEN_UNMAP_PAGES, (uintptr_t)&unmap) ==
		       UIOMMU_XEN_CONTINUE)
			;
	}
	uiommu_xen_call_destroy(mine);
	return NULL;
}

static void test_two_processors(void **state)
{
	struct rng rng = rng_seeded("two processors");
	pthread_t thread[2];

	setup();
	one_context();
	hv.every = 1;
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, processor, (void *)(uintptr_t)rng_next(&rng));
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	/* What is said to be mapped is. */
	for (unsigned gfn = 0; gfn < 8; gfn++) {
		bool there = false;

		ROWS({4, SRW, 64 + gfn, gfn, 1, 0});
		for (unsigned bfn = 0; bfn < 64 + 8; bfn++)
			there |= mfn_at(bfn) == HVM_MFN + gfn;
		assert_true(there);
	}
	teardown(); /* which finds every reference given back */
}

/* ---- failing ---- */

/* Each allocation of a mixed run fails once: an error is told, and no reference is lost. */
static void test_no_memory(void **state)
{
	struct uiommu_xen_server_op ops[40];
	unsigned failures = 0;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (long n = 0;; n++) {
		bool failed;

		setup();
		for (unsigned i = 0; i < 40; i++)
			ops[i] = (struct uiommu_xen_server_op){.subop = i % 2 ? 3 : 2,
							       .flags = SRW,
							       .u.map = {(uint64_t)i / 2 << 9, i}};
		ops[39] = (struct uiommu_xen_server_op){
			.subop = 4, .flags = SRW, .u.map_foreign = {1, 1, 1, 0}};
		fail_countdown = n;
		assert_int_equal(server(ops, 40), 0);
		failed = fail_countdown < 0;
		fail_countdown = -1;
		for (unsigned i = 0; i < 40; i++) {
			failures += ops[i].status == -EIO;
			if (ops[i].status && ops[i].status != -EIO && ops[i].status != -ENOENT)
				fail_msg("allocation %ld: operation %u: %d", n, i, ops[i].status);
		}
		teardown();
		assert_int_equal(fail_live, 0);
		if (!failed)
			break;
	}
	uiommu_set_allocator(NULL, NULL);
	assert_true(failures > 3);
}

/* Freeing a context moves all its devices back or, where that fails, none. */
static void test_free_fails(void **state)
{
	struct uiommu_xen_free gone = {.ctx_no = 1, .free_flags = UIOMMU_XEN_FREE_REATTACH_DEFAULT};
	struct uiommu_xen_reattach move = {.ctx_no = 1, .dev = {0, 0, 0x10}};
	struct uiommu_port *other;
	unsigned failures = 0;
	char byte = 0;
	uint32_t n;
	bool freed;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (long nth = 0;; nth++, failures++) {
		setup();
		assert_int_equal(uiommu_xen_domain_assign(dom[0], 0x11, "disk"), 0);
		assert_int_equal(uiommu_port_create(unit, 0x11, &other), 0);
		uiommu_port_set_master(other, true);
		one_context();
		assert_int_equal(c_map(call, 1, 5, 9, 1, 3, 4096, &n), 0);
		assert_int_equal(context(call, UIOMMU_XEN_REATTACH_DEVICE, &move), 0);
		move.dev.devfn ^= 1;
		assert_int_equal(context(call, UIOMMU_XEN_REATTACH_DEVICE, &move), 0);
		move.dev.devfn ^= 1;
		fail_countdown = nth;
		freed = !context(call, UIOMMU_XEN_FREE_CONTEXT, &gone);
		if (!freed)
			assert_true(fail_countdown < 0);
		fail_countdown = -1;
		assert_int_equal(reaches(9, UIOMMU_READ), !freed);
		assert_int_equal(!uiommu_port_read(other, 9 * PAGE, &byte, 1), !freed);
		if (!freed)
			assert_int_equal(context(call, UIOMMU_XEN_FREE_CONTEXT, &gone), 0);
		assert_false(reaches(9, UIOMMU_READ));
		uiommu_port_destroy(other);
		teardown();
		assert_int_equal(fail_live, 0);
		if (freed)
			break;
	}
	uiommu_set_allocator(NULL, NULL);
	assert_true(failures > 2);
}

static void test_options(void **state)
{
	struct uiommu_xen_options o = {.size = sizeof(o) + 8};
	struct uiommu_xen_domain_options d = {.size = sizeof(d), .domid = 3};
	struct uiommu_xen_domain *domain;
	struct uiommu_xen *other;

	setup();
	assert_int_equal(uiommu_xen_create(NULL, &other), -EINVAL);
	assert_int_equal(uiommu_xen_create(&o, &other), -E2BIG);
	o.size = sizeof(o);
	assert_int_equal(uiommu_xen_create(&o, &other), -EINVAL);
	assert_int_equal(uiommu_xen_domain_create(xen, &d, &domain), -EEXIST);
	d.domid = 4;
	d.hardware = true;
	assert_int_equal(uiommu_xen_domain_create(xen, &d, &domain), -EEXIST);
	d.size = 1;
	assert_int_equal(uiommu_xen_domain_create(xen, &d, &domain), -EINVAL);
	assert_int_equal(uiommu_xen_domain_assign(dom[0], 0x10, "nic"), -EEXIST);
	uiommu_xen_domain_deassign(dom[0], 0x99);
	uiommu_xen_domain_deassign(dom[0], 0x10);
	assert_int_equal(uiommu_xen_domain_assign(dom[1], 0x10, "nic"), 0);
	teardown();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_draft_statuses),
		cmocka_unit_test(test_draft_call),
		cmocka_unit_test(test_draft_faults),
		cmocka_unit_test(test_draft_continuations),
		cmocka_unit_test(test_abandoned),
		cmocka_unit_test(test_server_statuses),
		cmocka_unit_test(test_server_call),
		cmocka_unit_test(test_server_foreign),
		cmocka_unit_test(test_free_fails),
		cmocka_unit_test(test_many_pairs),
		cmocka_unit_test(test_foreign_twice),
		cmocka_unit_test(test_server_m2b),
		cmocka_unit_test(test_server_continuations),
		cmocka_unit_test(test_context_life),
		cmocka_unit_test(test_context_pages),
		cmocka_unit_test(test_context_permission),
		cmocka_unit_test(test_context_left),
		cmocka_unit_test(test_target_goes),
		cmocka_unit_test(test_context_continuations),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_two_processors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
