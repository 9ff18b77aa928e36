/* SPDX-License-Identifier: MIT */
/* Address spaces, domains, ports: every rule, every refusal and every fault. */
#include "../check.h"

#include <errno.h>

#include <uiommu/platform.h>
#include <uiommu/space.h>

#define PAGE	UINT64_C(4096)
#define R(a, b) ((struct uiommu_range){(a), (b)})

static const struct uiommu_resv_region msi_region = {.range = {0xfee00000, 0xfeefffff},
						     .type = UIOMMU_RESV_MSI};

/* One unit, one IOAS, one 48-bit domain, one port with bus mastering on. */
struct rig {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	struct uiommu_port *port;
	unsigned rings;
	uint64_t ring_address;
	uint32_t ring_data;
	int ring_answer;
	unsigned faults;
	struct uiommu_fault fault;
};

static int ring(void *ctx, uiommu_rid rid, uint64_t iova, uint32_t data)
{
	struct rig *rig = ctx;

	rig->rings++;
	rig->ring_address = iova;
	rig->ring_data = data;
	return rig->ring_answer;
}

static void on_fault(void *ctx, const struct uiommu_fault *fault)
{
	struct rig *rig = ctx;

	rig->faults++;
	rig->fault = *fault;
}

static void rig_up(struct rig *rig, uint32_t iotlb)
{
	struct uiommu_doorbell_window window = {{0xfee00000, 0xfeefffff}, ring, rig};
	struct uiommu_unit_options uo = {.size = sizeof(uo),
					 .iotlb_entries = iotlb,
					 .windows = &window,
					 .window_count = 1,
					 .fault = on_fault,
					 .fault_ctx = rig};
	struct uiommu_domain_options dopt = {
		.size = sizeof(dopt), .format = "vtd-ss", .width = 48, .name = "VT-d"};

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(uiommu_unit_create(&uo, &rig->unit), 0);
	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(rig->unit, rig->ioas, &dopt, &rig->domain), 0);
	assert_int_equal(uiommu_domain_attach(rig->domain, 8, &msi_region, 1, "0000:00:01.0"), 0);
	assert_int_equal(uiommu_port_create(rig->unit, 8, &rig->port), 0);
	uiommu_port_set_master(rig->port, true);
}

static void rig_down(struct rig *rig)
{
	uiommu_port_destroy(rig->port);
	uiommu_domain_detach(rig->domain, 8);
	uiommu_domain_destroy(rig->domain);
	uiommu_ioas_destroy(rig->ioas);
	uiommu_unit_destroy(rig->unit);
}

static uint64_t addr_of(const void *ptr)
{
	return (uint64_t)(uintptr_t)ptr;
}

static _Alignas(4096) char mem[16 * 4096];

/* ---- rules of map and unmap ---- */

static void test_map_refusals(void **state)
{
	struct rig rig;
	const uint64_t top = UINT64_C(1) << 48;
	static const struct {
		struct uiommu_range range;
		uint64_t addr;
		int prot, error;
		enum uiommu_rule rule;
		const char *owner;
		struct uiommu_range blocking;
	} rows[] = {
		{{0x10000, 0x10fff}, 0, 0, -EINVAL, UIOMMU_RULE_PERMISSION, "", {1, 0}},
		{{0x10000, 0x10fff}, 0, 4, -EINVAL, UIOMMU_RULE_PERMISSION, "", {1, 0}},
		{{0x10000, 0xffff}, 0, 3, -EINVAL, UIOMMU_RULE_EMPTY, "", {1, 0}},
		{{0x10001, 0x11000}, 0, 3, -EINVAL, UIOMMU_RULE_ALIGNMENT, NULL, {0, 0xfff}},
		{{0x10000, 0x10ffe}, 0, 3, -EINVAL, UIOMMU_RULE_ALIGNMENT, NULL, {0, 0xfff}},
		{{0x10000, 0x10fff}, 12, 3, -EINVAL, UIOMMU_RULE_ALIGNMENT, NULL, {0, 0xfff}},
		{{0x10000, 0x10fff}, UINT64_C(1) << 52, 3, -EOVERFLOW, UIOMMU_RULE_WRAP, NULL, {0}},
		{{0x10000, 0x11fff},
		 (UINT64_C(1) << 52) - 4096,
		 3,
		 -EOVERFLOW,
		 UIOMMU_RULE_WRAP,
		 NULL,
		 {0}},
		{{0x1000, 0x2fff},
		 0,
		 3,
		 -EEXIST,
		 UIOMMU_RULE_OVERLAP,
		 "an existing mapping",
		 {0x2000, 0x3fff}},
		{{0x2000, 0x3fff}, 0, 3, -EEXIST, UIOMMU_RULE_OVERLAP, NULL, {0x2000, 0x3fff}},
		{{0x3000, 0x3fff}, 0, 3, -EEXIST, UIOMMU_RULE_OVERLAP, NULL, {0x2000, 0x3fff}},
		{{0, UINT64_C(0xffffffffff)},
		 0,
		 3,
		 -EEXIST,
		 UIOMMU_RULE_OVERLAP,
		 NULL,
		 {0x2000, 0x3fff}},
		{{0xfee00000, 0xfee00fff},
		 0,
		 3,
		 -EINVAL,
		 UIOMMU_RULE_RESERVED,
		 "0000:00:01.0",
		 {0xfee00000, 0xfeefffff}},
		{{0xfedff000, 0xfee00fff},
		 0,
		 3,
		 -EINVAL,
		 UIOMMU_RULE_RESERVED,
		 NULL,
		 {0xfee00000, 0xfeefffff}},
		{{0xfeeff000, 0xfef00fff},
		 0,
		 3,
		 -EINVAL,
		 UIOMMU_RULE_RESERVED,
		 NULL,
		 {0xfee00000, 0xfeefffff}},
		{{0x1000000000000, 0x1000000000fff},
		 0,
		 3,
		 -EINVAL,
		 UIOMMU_RULE_APERTURE,
		 "VT-d",
		 {0x1000000000000, UINT64_MAX}},
		{{0xfffffffff000, 0x1000000000fff},
		 0,
		 3,
		 -EINVAL,
		 UIOMMU_RULE_APERTURE,
		 "VT-d",
		 {0x1000000000000, UINT64_MAX}},
		{{UINT64_MAX - 4095, UINT64_MAX},
		 0,
		 3,
		 -EINVAL,
		 UIOMMU_RULE_APERTURE,
		 "VT-d",
		 {0x1000000000000, UINT64_MAX}},
	};

	rig_up(&rig, 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x2000, 0x3fff), addr_of(mem), 3, NULL), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct uiommu_refusal *r = uiommu_last_refusal();
		struct uiommu_ioas_stats stats;
		char words[256];

		uiommu_clear_refusal();
		assert_int_equal(
			uiommu_ioas_map(rig.ioas, rows[i].range, rows[i].addr, rows[i].prot, NULL),
			rows[i].error);
		assert_int_equal(r->rule, rows[i].rule);
		assert_int_equal(r->error, rows[i].error);
		assert_int_equal(r->asked.first, rows[i].range.first);
		assert_int_equal(r->asked.last, rows[i].range.last);
		if (rows[i].owner)
			assert_string_equal(r->owner, rows[i].owner);
		if (rows[i].blocking.last || rows[i].blocking.first)
			assert_memory_equal(&r->blocking, &rows[i].blocking, sizeof(r->blocking));
		assert_true(uiommu_refusal_format(r, words, sizeof(words)) > 20);
		assert_non_null(strstr(words, uiommu_rule_name(r->rule)));
		uiommu_ioas_stats(rig.ioas, &stats);
		assert_int_equal(stats.areas, 1);
	}
	/* The last page below the width, and those beside the hole, are fine. */
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(top - PAGE, top - 1), 0, 1, NULL), 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0xfedff000, 0xfedfffff), 0, 1, NULL), 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0xfef00000, 0xfef00fff), 0, 1, NULL), 0);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0, UINT64_MAX), NULL, NULL, NULL), 0);
	rig_down(&rig);
}

static void collect(void *ctx, const struct uiommu_area *area)
{
	uint64_t *seen = ctx;

	seen[0]++;
	seen[1] = area->range.first;
}

static void test_unmap(void **state)
{
	struct uiommu_area area;
	uint64_t bytes, seen[2] = {0};
	struct rig rig;

	rig_up(&rig, 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x2000, 0x3fff), addr_of(mem), 3, mem), 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x6000, 0x6fff), addr_of(mem), 3, NULL), 0);
	assert_int_equal(uiommu_ioas_find(rig.ioas, 0, &area), 0);
	assert_ptr_equal(area.tag, mem);
	assert_int_equal(uiommu_ioas_find(rig.ioas, 0x7000, &area), -ENOENT);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0x3000, 0x6fff), &bytes, NULL, NULL),
			 -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_SPLIT);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0, 0x2fff), &bytes, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->blocking.last, 0x3fff);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0x2800, 0x2fff), &bytes, NULL, NULL),
			 -EINVAL);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(5, 4), &bytes, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0x4000, 0x5fff), &bytes, NULL, NULL), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0, 0x9fff), &bytes, collect, seen), 0);
	assert_int_equal(bytes, 0x3000);
	assert_int_equal(seen[0], 2);
	assert_int_equal(seen[1], 0x6000);
	rig_down(&rig);
}

/* One flush a call, none when nothing was there. */
static void test_flushes(void **state)
{
	struct uiommu_unit_stats stats;
	struct rig rig;
	char byte;

	rig_up(&rig, 0);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(uiommu_ioas_map(rig.ioas, R(i * PAGE, i * PAGE + PAGE - 1),
						 addr_of(mem) + i * PAGE, 3, NULL),
				 0);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(uiommu_port_read(rig.port, i * PAGE, &byte, 1), 0);
	uiommu_unit_stats(rig.unit, &stats);
	assert_int_equal(stats.flushes, 0);
	assert_int_equal(stats.iotlb_misses, 16);
	assert_int_equal(stats.walks, 16);
	assert_int_equal(stats.iotlb_hits, 16);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0, 8 * PAGE - 1), NULL, NULL, NULL), 0);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0, 8 * PAGE - 1), NULL, NULL, NULL), 0);
	assert_int_equal(uiommu_port_read(rig.port, 9 * PAGE, &byte, 1), 0);
	assert_int_equal(uiommu_port_read(rig.port, 0, &byte, 1), -EFAULT);
	uiommu_unit_stats(rig.unit, &stats);
	assert_int_equal(stats.flushes, 1);
	assert_int_equal(stats.entries_flushed, 8);
	assert_int_equal(stats.iotlb_hits, 17); /* page 9 was not flushed */
	rig_down(&rig);
}

/* The IOTLB can be off, small, and never shows: the same answers, other counts. */
static void test_iotlb_sizes(void **state)
{
	static const uint32_t sizes[] = {UIOMMU_IOTLB_OFF, 1, 3, 65536};

	for (size_t s = 0; s < 4; s++) {
		struct uiommu_unit_stats stats;
		struct rig rig;
		char byte;

		rig_up(&rig, sizes[s]);
		for (unsigned round = 0; round < 100; round++) {
			struct uiommu_range r = R(round % 7 * PAGE, round % 7 * PAGE + PAGE - 1);

			mem[5] = (char)round;
			assert_int_equal(uiommu_ioas_map(rig.ioas, r, addr_of(mem), 1, NULL), 0);
			for (unsigned i = 0; i < 3; i++)
				assert_int_equal(uiommu_port_read(rig.port, r.first + 5, &byte, 1),
						 0);
			assert_int_equal(byte, (char)round);
			assert_int_equal(uiommu_ioas_unmap(rig.ioas, r, NULL, NULL, NULL), 0);
			assert_int_equal(uiommu_port_read(rig.port, r.first + 5, &byte, 1),
					 -EFAULT);
		}
		uiommu_unit_stats(rig.unit, &stats);
		assert_int_equal(stats.walks, sizes[s] == UIOMMU_IOTLB_OFF ? 400 : 200);
		assert_int_equal(stats.iotlb_hits, sizes[s] == UIOMMU_IOTLB_OFF ? 0 : 200);
		assert_int_equal(stats.flushes, 100);
		rig_down(&rig);
	}
}

/* More invalidations than the ring holds, unseen by the port: it forgets everything. */
static void test_ring_overflow(void **state)
{
	struct rig rig;
	char byte;

	for (unsigned unmaps = 60; unmaps < 70; unmaps++) {
		rig_up(&rig, 0);
		assert_int_equal(uiommu_ioas_map(rig.ioas, R(0, PAGE - 1), addr_of(mem), 1, NULL),
				 0);
		assert_int_equal(uiommu_port_read(rig.port, 0, &byte, 1), 0);
		assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0, PAGE - 1), NULL, NULL, NULL), 0);
		for (unsigned i = 1; i < unmaps; i++) {
			struct uiommu_range r = R(i * PAGE, i * PAGE + PAGE - 1);

			assert_int_equal(uiommu_ioas_map(rig.ioas, r, addr_of(mem), 1, NULL), 0);
			assert_int_equal(uiommu_ioas_unmap(rig.ioas, r, NULL, NULL, NULL), 0);
		}
		assert_int_equal(uiommu_port_read(rig.port, 0, &byte, 1), -EFAULT);
		rig_down(&rig);
	}
}

/* ---- DMA ---- */

static void test_dma_crosses_mappings(void **state)
{
	struct uiommu_segment seg[8];
	struct uiommu_sg sg[3] = {{0x10ff0, 32}, {0x10000, 8}, {0x12000, 100}};
	size_t count = 8;
	char buf[3 * 4096], out[3 * 4096];
	struct rig rig;

	rig_up(&rig, 0);
	/* IOVA pages 0x10, 0x11, 0x12 lie at memory pages 3, 1 and 2. */
	assert_int_equal(
		uiommu_ioas_map(rig.ioas, R(0x10000, 0x10fff), addr_of(mem) + 3 * PAGE, 3, NULL),
		0);
	assert_int_equal(
		uiommu_ioas_map(rig.ioas, R(0x11000, 0x12fff), addr_of(mem) + PAGE, 3, NULL), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i * 7 + i / 256);
	assert_int_equal(uiommu_port_write(rig.port, 0x10000, buf, sizeof(buf)), 0);
	assert_memory_equal(mem + 3 * PAGE, buf, 4096);
	assert_memory_equal(mem + PAGE, buf + 4096, 8192);
	assert_int_equal(uiommu_port_read(rig.port, 0x10000, out, sizeof(out)), 0);
	assert_memory_equal(out, buf, sizeof(buf));
	assert_int_equal(uiommu_port_readv(rig.port, sg, 3, out, 140), 0);
	assert_memory_equal(out, buf + 0xff0, 32);
	assert_memory_equal(out + 32, buf, 8);
	assert_memory_equal(out + 40, buf + 0x2000, 100);
	assert_int_equal(
		uiommu_port_writev(rig.port, sg, 2, "0123456789abcdef0123456789abcdefABCDEFGH", 40),
		0);
	assert_memory_equal(mem + 3 * PAGE, "ABCDEFGH", 8);
	assert_memory_equal(mem + PAGE, "0123456789abcdef", 16);
	/* Segments: pages 1 and 2 adjoin and are merged. */
	uiommu_port_enter(rig.port);
	assert_int_equal(uiommu_port_translate(rig.port, 0x10800, 0x2800, UIOMMU_READ, seg, &count),
			 0x2800);
	uiommu_port_leave(rig.port);
	assert_int_equal(count, 2);
	assert_int_equal(seg[0].addr, addr_of(mem) + 3 * PAGE + 0x800);
	assert_int_equal(seg[0].len, 0x800);
	assert_int_equal(seg[1].addr, addr_of(mem) + PAGE);
	assert_int_equal(seg[1].len, 0x2000);
	count = 1; /* no room for the second */
	uiommu_port_enter(rig.port);
	assert_int_equal(uiommu_port_translate(rig.port, 0x10800, 0x2800, UIOMMU_READ, seg, &count),
			 0x800);
	uiommu_port_leave(rig.port);
	rig_down(&rig);
}

static void test_faults(void **state)
{
	const uint64_t top = UINT64_C(1) << 48;
	char buf[8192] = "data";
	struct rig rig;

	rig_up(&rig, 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x1000, 0x1fff), addr_of(mem), 1, NULL), 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x3000, 0x3fff), addr_of(mem), 2, NULL), 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(top - PAGE, top - 1), addr_of(mem), 3, NULL),
			 0);

	const struct {
		uint64_t iova, len;
		int access;
		enum uiommu_fault_reason reason;
		uint64_t at;
	} rows[] = {
		{0x1000, 8, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, 0x1000},
		{0x3ff8, 8, UIOMMU_READ, UIOMMU_FAULT_READ_DENIED, 0x3ff8},
		{0x0, 1, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, 0},
		{0x1ffc, 8, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, 0x2000},
		{top - 4, 8, UIOMMU_READ, UIOMMU_FAULT_BEYOND, top},
		{UINT64_MAX, 1, UIOMMU_READ, UIOMMU_FAULT_BEYOND, UINT64_MAX},
		{UINT64_MAX - 3, 8, UIOMMU_WRITE, UIOMMU_FAULT_BEYOND, UINT64_MAX - 3},
		{0xfee01000, 4, UIOMMU_READ, UIOMMU_FAULT_DOORBELL_READ, 0xfee01000},
		{0xfee01002, 4, UIOMMU_WRITE, UIOMMU_FAULT_INTERRUPT, 0xfee01002},
		{0xfee01000, 8, UIOMMU_WRITE, UIOMMU_FAULT_INTERRUPT, 0xfee01000},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int ret = rows[i].access == UIOMMU_READ
				  ? uiommu_port_read(rig.port, rows[i].iova, buf, rows[i].len)
				  : uiommu_port_write(rig.port, rows[i].iova, buf, rows[i].len);
		struct uiommu_fault last;

		assert_int_equal(ret, -EFAULT);
		assert_int_equal(rig.faults, i + 1);
		assert_int_equal(rig.fault.reason, rows[i].reason);
		assert_int_equal(rig.fault.iova, rows[i].at);
		assert_int_equal(rig.fault.access, rows[i].access);
		assert_int_equal(rig.fault.rid, 8);
		uiommu_port_last_fault(rig.port, &last);
		assert_memory_equal(&last, &rig.fault, sizeof(last));
	}
	assert_int_equal(rig.rings, 0);
	/* Bus mastering off; then detached. */
	uiommu_port_set_master(rig.port, false);
	assert_int_equal(uiommu_port_read(rig.port, 0x1000, buf, 1), -EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_BUS_MASTER);
	assert_int_equal(uiommu_port_write(rig.port, 0xfee00000, buf, 4), -EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_BUS_MASTER);
	uiommu_port_set_master(rig.port, true);
	uiommu_domain_detach(rig.domain, 8);
	assert_int_equal(uiommu_port_read(rig.port, 0x1000, buf, 1), -EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_NO_DOMAIN);
	rig_down(&rig);
}

static void test_doorbell(void **state)
{
	uint32_t data = 0x4021;
	struct rig rig;

	rig_up(&rig, 0);
	assert_int_equal(uiommu_port_write(rig.port, 0xfee00010, &data, 4), 0);
	assert_int_equal(rig.rings, 1);
	assert_int_equal(rig.ring_address, 0xfee00010);
	assert_int_equal(rig.ring_data, 0x4021);
	rig.ring_answer = -EPERM;
	assert_int_equal(uiommu_port_write(rig.port, 0xfee00010, &data, 4), -EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_INTERRUPT);
	assert_int_equal(rig.fault.data, 0x4021);
	rig_down(&rig);
}

/* Memory that fails from some page on: what comes before is transferred, the fault names the page.
 */
struct brittle {
	uint64_t from;
};

static int brittle_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	struct brittle *b = ctx;

	if (addr + len > b->from)
		return -EFAULT;
	memset(buf, 'r', len);
	return 0;
}

static int brittle_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return brittle_read(ctx, addr, (char[65536]){0}, len);
}

static void test_memory_gone(void **state)
{
	struct brittle brittle = {.from = 5 * PAGE};
	struct uiommu_memory_ops ops = {
		.size = sizeof(ops), .read = brittle_read, .write = brittle_write};
	struct uiommu_memory memory = {&ops, &brittle};
	struct uiommu_unit_options uo = {.size = sizeof(uo), .memory = &memory};
	struct uiommu_domain_options dopt = {.size = sizeof(dopt), .format = "vtd-ss", .width = 39};
	struct uiommu_unit_stats stats;
	struct uiommu_domain *domain;
	struct uiommu_ioas *ioas;
	struct uiommu_unit *unit;
	struct uiommu_port *port;
	struct uiommu_fault fault;
	static char buf[16 * 4096];

	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &dopt, &domain), 0);
	assert_int_equal(uiommu_domain_attach(domain, 1, NULL, 0, "x"), 0);
	assert_int_equal(uiommu_port_create(unit, 1, &port), 0);
	uiommu_port_set_master(port, true);
	assert_int_equal(uiommu_ioas_map(ioas, R(0x200000, 0x3fffff), 0, 3, NULL), 0);
	assert_int_equal(uiommu_port_read(port, 0x200123, buf, sizeof(buf)), -EFAULT);
	uiommu_port_last_fault(port, &fault);
	assert_int_equal(fault.reason, UIOMMU_FAULT_MEMORY_GONE);
	assert_int_equal(fault.iova, 0x205000);
	assert_int_equal(buf[5 * 4096 - 0x124], 'r');
	assert_int_equal(buf[5 * 4096 - 0x123], 0);
	uiommu_port_stats(port, &stats);
	assert_int_equal(stats.bytes_read, 5 * 4096 - 0x123);
	assert_int_equal(uiommu_port_write(port, 0x206000, buf, 8), -EFAULT);
	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, 1);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
}

/* ---- reserved, allowed, attach ---- */

static void test_ranges(void **state)
{
	struct uiommu_reserved resv[4];
	struct uiommu_range ranges[4];
	struct rig rig;
	size_t n = 4;

	rig_up(&rig, 0);
	assert_int_equal(uiommu_ioas_ranges(rig.ioas, ranges, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(ranges[0].first, 0);
	assert_int_equal(ranges[0].last, 0xfedfffff);
	assert_int_equal(ranges[1].first, 0xfef00000);
	assert_int_equal(ranges[1].last, 0xffffffffffff);
	n = 1;
	assert_int_equal(uiommu_ioas_ranges(rig.ioas, ranges, &n), -EMSGSIZE);
	assert_int_equal(n, 2);
	n = 0;
	assert_int_equal(uiommu_ioas_ranges(rig.ioas, NULL, &n), -EMSGSIZE);
	n = 4;
	assert_int_equal(uiommu_ioas_reserved(rig.ioas, resv, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(resv[0].type, UIOMMU_RESV_MSI);
	assert_string_equal(resv[0].owner, "0000:00:01.0");
	assert_int_equal(resv[1].type, UIOMMU_RESV_APERTURE);
	assert_int_equal(uiommu_ioas_alignment(rig.ioas), 4096);
	assert_int_equal(uiommu_ioas_page_sizes(rig.ioas), 0x40201000);
	/* The same region twice, by two devices: it goes with the last. */
	assert_int_equal(uiommu_domain_attach(rig.domain, 16, &msi_region, 1, "0000:00:02.0"), 0);
	uiommu_domain_detach(rig.domain, 8);
	n = 4;
	assert_int_equal(uiommu_ioas_ranges(rig.ioas, ranges, &n), 0);
	assert_int_equal(n, 2);
	uiommu_domain_detach(rig.domain, 16);
	n = 4;
	assert_int_equal(uiommu_ioas_ranges(rig.ioas, ranges, &n), 0);
	assert_int_equal(n, 1);
	/* Everything reserved: nothing usable. */
	assert_int_equal(
		uiommu_ioas_reserve(rig.ioas, R(0, UINT64_MAX), UIOMMU_RESV_RESERVED, &n, "all"),
		0);
	n = 4;
	assert_int_equal(uiommu_ioas_ranges(rig.ioas, ranges, &n), 0);
	assert_int_equal(n, 0);
	uiommu_ioas_unreserve(rig.ioas, &n);
	rig_down(&rig);
}

static void test_allow(void **state)
{
	const struct uiommu_range good[] = {{0x5000, 0x5fff}, {0x1000, 0x2fff}, {0x3000, 0x3fff}};
	const struct uiommu_range overlap[] = {{0x1000, 0x2fff}, {0x2fff, 0x4000}};
	const struct uiommu_range hole[] = {{0xfed00000, 0xff000000}};
	struct uiommu_ioas *ioas;
	struct rig rig;

	rig_up(&rig, 0);
	assert_int_equal(uiommu_ioas_allow(rig.ioas, good, 3), 0);
	assert_int_equal(uiommu_ioas_allow(rig.ioas, overlap, 2), -EINVAL);
	assert_int_equal(uiommu_ioas_allow(rig.ioas, &R(2, 1), 1), -EINVAL);
	assert_int_equal(uiommu_ioas_allow(rig.ioas, hole, 1), -EADDRINUSE);
	assert_int_equal(uiommu_last_refusal()->resv, UIOMMU_RESV_MSI);
	assert_int_equal(
		uiommu_ioas_reserve(rig.ioas, R(0x2fff, 0x3000), UIOMMU_RESV_RESERVED, &rig, "x"),
		-EADDRINUSE);
	assert_int_equal(
		uiommu_ioas_reserve(rig.ioas, R(0x4000, 0x4fff), UIOMMU_RESV_RESERVED, &rig, "x"),
		0);
	/* The promise holds against a device. */
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_ioas_allow(ioas, hole, 1), 0);
	assert_int_equal(uiommu_ioas_reserve(ioas, msi_region.range, UIOMMU_RESV_MSI, &rig, "dev"),
			 -EADDRINUSE);
	assert_int_equal(uiommu_ioas_allow(ioas, NULL, 0), 0);
	assert_int_equal(uiommu_ioas_reserve(ioas, msi_region.range, UIOMMU_RESV_MSI, &rig, "dev"),
			 0);
	uiommu_ioas_destroy(ioas);
	uiommu_ioas_unreserve(rig.ioas, &rig);
	rig_down(&rig);
}

static void test_attach_refused(void **state)
{
	const struct uiommu_resv_region two[] = {
		{.range = {0x5000000, 0x5ffffff}, .type = UIOMMU_RESV_RESERVED},
		{.range = {0x1000, 0x1fff}, .type = UIOMMU_RESV_RESERVED}};
	const struct uiommu_resv_region relaxable[] = {
		{.range = {0x1000, 0x1fff}, .type = UIOMMU_RESV_DIRECT_RELAXABLE}};
	const struct uiommu_resv_region both[] = {
		msi_region, {.range = {0x8000000, 0x80fffff}, .type = UIOMMU_RESV_SW_MSI}};
	struct uiommu_range ranges[4];
	struct uiommu_port *port;
	struct rig rig;
	size_t n = 4;
	char byte;

	rig_up(&rig, 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x1000, 0x1fff), addr_of(mem), 3, NULL), 0);
	assert_int_equal(uiommu_port_create(rig.unit, 16, &port), 0);
	uiommu_port_set_master(port, true);
	assert_int_equal(uiommu_domain_attach(rig.domain, 16, two, 2, "new"), -EADDRINUSE);
	assert_int_equal(uiommu_last_refusal()->blocking.first, 0x1000);
	assert_int_equal(uiommu_ioas_ranges(rig.ioas, ranges, &n), 0);
	assert_int_equal(n, 2); /* the first region was taken back */
	assert_int_equal(uiommu_port_read(port, 0x1000, &byte, 1), -EFAULT);
	assert_int_equal(uiommu_domain_attach(rig.domain, 16, both, 2, "new"), -EINVAL);
	assert_int_equal(uiommu_domain_attach(rig.domain, 16, relaxable, 1, "new"), 0);
	assert_int_equal(uiommu_port_read(port, 0x1000, &byte, 1), 0);
	uiommu_port_destroy(port);
	uiommu_domain_detach(rig.domain, 16);
	rig_down(&rig);
}

/* A second domain gets all areas; one that can't translate them is refused. Moving between domains
 * takes effect at once. */
static void test_domains(void **state)
{
	struct uiommu_domain_options d39 = {.size = sizeof(d39), .format = "vtd-ss", .width = 39};
	struct uiommu_domain_options d57 = {.size = sizeof(d57), .format = "vtd-ss", .width = 57};
	struct uiommu_domain *domain, *other;
	struct uiommu_ioas *ioas;
	struct rig rig;
	uint64_t addr;
	char byte;
	int prot;

	rig_up(&rig, 0);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x1000, 0x1fff), addr_of(mem), 3, NULL), 0);
	assert_int_equal(uiommu_domain_create(rig.unit, rig.ioas, &d57, &domain), 0);
	assert_int_equal(uiommu_domain_lookup(domain, 0x1234, &addr, &prot), 0);
	assert_int_equal(addr, addr_of(mem) + 0x234);
	assert_int_equal(prot, 3);
	assert_int_equal(
		uiommu_ioas_map(rig.ioas, R(0x8000000000, 0x8000000fff), addr_of(mem), 1, NULL), 0);
	assert_int_equal(uiommu_domain_lookup(domain, 0x8000000000, &addr, &prot), 0);
	assert_int_equal(uiommu_domain_lookup(domain, UINT64_MAX, &addr, &prot), -ENOENT);
	uiommu_domain_destroy(domain);
	assert_int_equal(uiommu_domain_create(rig.unit, rig.ioas, &d39, &domain), -EADDRINUSE);
	assert_int_equal(uiommu_last_refusal()->blocking.first, 0x8000000000);

	/* Another space: the same IOVA is other memory. */
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_ioas_map(ioas, R(0x1000, 0x1fff), addr_of(mem) + PAGE, 3, NULL), 0);
	assert_int_equal(uiommu_domain_create(rig.unit, ioas, &d39, &other), 0);
	mem[0] = 'a';
	mem[PAGE] = 'b';
	assert_int_equal(uiommu_port_read(rig.port, 0x1000, &byte, 1), 0);
	assert_int_equal(byte, 'a');
	assert_int_equal(uiommu_domain_attach(other, 8, &msi_region, 1, "dev"), 0);
	assert_int_equal(uiommu_port_read(rig.port, 0x1000, &byte, 1), 0);
	assert_int_equal(byte, 'b');
	uiommu_domain_detach(rig.domain, 8); /* not attached there any more: nothing happens */
	assert_int_equal(uiommu_port_read(rig.port, 0x1000, &byte, 1), 0);
	uiommu_domain_detach(other, 8);
	assert_int_equal(uiommu_port_read(rig.port, 0x1000, &byte, 1), -EFAULT);
	uiommu_domain_destroy(other);
	uiommu_ioas_destroy(ioas);
	rig_down(&rig);
}

/* An IOAS whose areas are not aligned to pages can't be attached. */
static void test_fresh_ioas(void **state)
{
	struct uiommu_domain_options d48 = {.size = sizeof(d48), .format = "vtd-ss", .width = 48};
	struct uiommu_domain *domain;
	struct uiommu_range range;
	struct uiommu_ioas *ioas;
	struct uiommu_unit *unit;
	uint64_t bytes;
	size_t n = 1;

	assert_int_equal(uiommu_unit_create(NULL, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_ioas_alignment(ioas), 1);
	assert_int_equal(uiommu_ioas_ranges(ioas, &range, &n), 0);
	assert_true(range.first == 0 && range.last == UINT64_MAX);
	assert_int_equal(uiommu_ioas_map(ioas, R(1, 3), 7, 1, NULL), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &d48, &domain), -EADDRINUSE);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_ALIGNMENT);
	assert_int_equal(uiommu_ioas_unmap(ioas, R(0, UINT64_MAX), &bytes, NULL, NULL), 0);
	assert_int_equal(bytes, 3);
	assert_int_equal(uiommu_ioas_map(ioas, R(0, UINT64_MAX), 0, 3, NULL), 0);
	assert_int_equal(uiommu_ioas_unmap(ioas, R(0, UINT64_MAX), &bytes, NULL, NULL), 0);
	assert_true(bytes == UINT64_MAX); /* saturated */
	d48.width = 47;
	assert_int_equal(uiommu_domain_create(unit, ioas, &d48, &domain), -EINVAL);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
}

/* ---- out of memory anywhere: as before, nothing lost ---- */

static int session(void)
{
	struct uiommu_domain_options dopt = {.size = sizeof(dopt), .format = "vtd-ss", .width = 48};
	struct uiommu_unit *unit = NULL;
	struct uiommu_ioas *ioas = NULL;
	struct uiommu_domain *domain = NULL;
	struct uiommu_port *port = NULL;
	struct uiommu_doorbell_window window = {{0xfee00000, 0xfeefffff}, ring, NULL};
	struct uiommu_unit_options uo = {.size = sizeof(uo), .windows = &window, .window_count = 1};
	const struct uiommu_range allowed = R(0x1000, 0xffff);
	struct uiommu_ioas_stats before, after;
	char byte;
	int ret;

	ret = uiommu_unit_create(&uo, &unit);
	if (!ret)
		ret = uiommu_ioas_create(&ioas);
	if (!ret)
		ret = uiommu_ioas_map(ioas, R(0x1000, 0x1fff), addr_of(mem), 3, NULL);
	if (!ret)
		ret = uiommu_domain_create(unit, ioas, &dopt, &domain);
	if (!ret)
		ret = uiommu_domain_attach(domain, 8, &msi_region, 1, "dev");
	if (!ret)
		ret = uiommu_ioas_allow(ioas, &allowed, 1);
	if (!ret)
		ret = uiommu_port_create(unit, 8, &port);
	if (!ret) {
		uiommu_port_set_master(port, true);
		uiommu_ioas_stats(ioas, &before);
		ret = uiommu_ioas_map(ioas, R(0x8000000000, 0x8000000fff), addr_of(mem), 3, NULL);
		uiommu_ioas_stats(ioas, &after);
		if (ret) {
			assert_int_equal(before.areas, after.areas);
			assert_int_equal(before.bytes, after.bytes);
		}
		assert_int_equal(uiommu_port_read(port, 0x8000000000, &byte, 1), ret ? -EFAULT : 0);
		assert_int_equal(uiommu_port_read(port, 0x1000, &byte, 1), 0);
	}
	uiommu_port_destroy(port);
	if (domain) {
		uiommu_domain_detach(domain, 8);
		uiommu_domain_destroy(domain);
	}
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	assert_int_equal(fail_live, 0);
	return ret;
}

static void test_no_memory(void **state)
{
	long nth = 0;
	int ret;

	uiommu_set_allocator(failing_alloc, failing_release);
	do {
		fail_countdown = nth++;
		uiommu_clear_refusal();
		ret = session();
		assert_true(!ret || ret == -ENOMEM);
		if (ret)
			assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_NO_MEMORY);
	} while (ret);
	fail_countdown = -1;
	assert_true(nth > 12);
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_refusals),  cmocka_unit_test(test_unmap),
		cmocka_unit_test(test_flushes),	      cmocka_unit_test(test_iotlb_sizes),
		cmocka_unit_test(test_ring_overflow), cmocka_unit_test(test_dma_crosses_mappings),
		cmocka_unit_test(test_faults),	      cmocka_unit_test(test_doorbell),
		cmocka_unit_test(test_memory_gone),   cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_allow),	      cmocka_unit_test(test_attach_refused),
		cmocka_unit_test(test_domains),	      cmocka_unit_test(test_fresh_ioas),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
