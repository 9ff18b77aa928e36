/* SPDX-License-Identifier: MIT */
/*
 * Stage 1 tables that a guest writes: each kind of entry, right and wrong, of VT-d's first stage
 * and SMMUv3's stage 1, laid out here by hand from the manuals; the engine's own tables read as if
 * a guest had written them; invalidations; and guests that go wild while devices walk.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <uiommu/space.h>

#include "table/table.h"
#include "util/alloc.h"

#define PAGE	   UINT64_C(4096)
#define BIT(n)	   (UINT64_C(1) << (n))
#define BITS(h, l) ((UINT64_MAX >> (63 - (h))) & ~(BIT(l) - 1))
#define M2	   BIT(21)
#define G1	   BIT(30)
#define RW	   (UIOMMU_READ | UIOMMU_WRITE)

enum { DEVICE = 0x10 };

/* The guest's memory: its address 0 is at ram. Behind it are 1 GiB more that only translate. */
#define RAM (2 * M2)

static _Atomic uint64_t *ram;

static struct uiommu_unit *unit;
static struct uiommu_ioas *outer_ioas;
static struct uiommu_domain *outer, *guest;
static struct uiommu_stage1 *stage1;
static struct uiommu_port *port;
static _Thread_local struct uiommu_fault heard; /* by the port's thread */
static _Thread_local unsigned heard_count;

static void put(uint64_t at, uint64_t value)
{
	ram[at / 8] = value;
}

static uint64_t get(uint64_t at)
{
	return ram[at / 8];
}

static void hear(void *ctx, const struct uiommu_fault *fault)
{
	heard = *fault;
	heard_count++;
}

static void map(uint64_t iova, uint64_t len, uint64_t addr, int prot)
{
	assert_int_equal(uiommu_ioas_map(outer_ioas, (struct uiommu_range){iova, iova + len - 1},
					 addr, prot, NULL),
			 0);
}

static void unmap(uint64_t iova, uint64_t len)
{
	assert_int_equal(uiommu_ioas_unmap(outer_ioas, (struct uiommu_range){iova, iova + len - 1},
					   NULL, NULL, NULL),
			 0);
}

static void rig_up(const char *format, unsigned width, uint32_t iotlb)
{
	const struct uiommu_unit_options uo = {.size = sizeof(uo), .iotlb_entries = iotlb};
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = format, .width = width, .dirty = true};

	ram = aligned_alloc(M2, RAM);
	memset((void *)ram, 0, RAM);
	assert_int_equal(uiommu_unit_create(&uo, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&outer_ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, outer_ioas, &options, &outer), 0);
	assert_int_equal(uiommu_domain_attach(outer, DEVICE, NULL, 0, "test"), 0);
	assert_int_equal(uiommu_port_create(unit, DEVICE, &port), 0);
	uiommu_port_set_master(port, true);
	map(0, RAM, (uintptr_t)ram, RW);
}

static void drop_guest(void)
{
	assert_int_equal(uiommu_unit_set_stage1(unit, DEVICE, NULL), 0);
	uiommu_stage1_destroy(stage1);
	uiommu_domain_destroy(guest);
	stage1 = NULL;
	guest = NULL;
}

static void rig_down(void)
{
	drop_guest();
	uiommu_port_destroy(port);
	uiommu_domain_detach(outer, DEVICE);
	uiommu_domain_destroy(outer);
	uiommu_ioas_destroy(outer_ioas);
	uiommu_unit_destroy(unit);
	free((void *)ram);
}

/* Put a guest's tables in front, instead of those before. */
static void set_guest(struct uiommu_guest_options options)
{
	struct uiommu_stage1_options so = {.size = sizeof(so), .fault = hear};

	drop_guest();
	options.size = sizeof(options);
	assert_int_equal(uiommu_domain_create_guest(outer, &options, &guest), 0);
	so.domain = guest;
	assert_int_equal(uiommu_stage1_create(unit, &so, &stage1), 0);
	assert_int_equal(uiommu_unit_set_stage1(unit, DEVICE, stage1), 0);
}

/* Where a device's access comes out, as an address of the guest's; faults are returned negative. */
static int64_t out(uint64_t iova, int access)
{
	struct uiommu_segment segment;
	struct uiommu_fault fault;
	size_t count = 1;
	int64_t ret;

	heard_count = 0;
	uiommu_port_enter(port);
	ret = uiommu_port_translate(port, iova, 1, access, &segment, &count);
	uiommu_port_leave(port);
	if (ret == 1)
		return (int64_t)(segment.addr - (uintptr_t)ram);
	assert_int_equal(ret, -EFAULT);
	uiommu_port_last_fault(port, &fault);
	assert_int_equal(fault.iova, iova);
	assert_int_equal(heard_count, fault.stage1);
	if (fault.stage1)
		assert_int_equal(heard.reason, fault.reason);
	return -(int64_t)fault.reason;
}

static void check_denied(uint64_t iova, int access, enum uiommu_fault_reason reason, bool first)
{
	struct uiommu_fault fault;

	/* Nothing of it is remembered. */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(out(iova, access), -(int)reason);
		uiommu_port_last_fault(port, &fault);
		assert_int_equal(fault.stage1, first);
	}
}

static void invalidate(uint64_t iova, uint64_t len)
{
	assert_int_equal(
		uiommu_domain_invalidate(guest, (struct uiommu_range){iova, iova + len - 1}), 0);
}

static void invalidate_all(void)
{
	assert_int_equal(uiommu_domain_invalidate(guest, (struct uiommu_range){0, UINT64_MAX}), 0);
}

/* ---- VT-d: P 0, R/W 1, U/S 2, A 5, D 6, PS 7, EA 10 ---- */

enum { X = 7, XR = 5, XPS = 0x80, XA = 0x20, XD = 0x40, XEA = 0x400 };

/* Tables at 0x10000 (PML4), 0x11000 (PDP), 0x12000 (PD), 0x13000 (PT); 0x20000 onwards is data. */
static void vtd_tables(void)
{
	put(0x10000, 0x11000 | X);
	put(0x11000, 0x12000 | X);
	put(0x12000, 0x13000 | X);
	put(0x13000 + 8, 0x20000 | X);		 /* page 1 */
	put(0x13000 + 16, 0x21000 | XR);	 /* page 2: read only */
	put(0x13000 + 24, 0x22000 | 3);		 /* page 3: supervisor's */
	put(0x12000 + 8, 0 | X | XPS | BIT(12)); /* 2 MiB at 2 MiB, with PAT */
	put(0x11000 + 8, 0 | XR | XPS);		 /* 1 GiB at 1 GiB, read only */
}

static const struct uiommu_guest_options vtd48 = {.format = "vtd-fs", .root = 0x10000, .width = 48};

static void vtd_leaves(void)
{
	vtd_tables();
	set_guest(vtd48);
	assert_int_equal(out(PAGE + 5, UIOMMU_READ), 0x20005);
	assert_int_equal(out(PAGE + 5, UIOMMU_WRITE), 0x20005);
	assert_int_equal(out(2 * PAGE, UIOMMU_READ), 0x21000);
	check_denied(2 * PAGE, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, true);
	check_denied(3 * PAGE, UIOMMU_READ, UIOMMU_FAULT_READ_DENIED, true);
	check_denied(3 * PAGE, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, true);
	check_denied(0, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
	check_denied(2 * G1, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
	assert_int_equal(out(M2 + 0x12345, UIOMMU_WRITE), 0x12345);
	assert_int_equal(out(G1 + M2 + 1, UIOMMU_READ), M2 + 1);
	/* A leaf that leaves the guest's memory half way: the other stage stops it. */
	check_denied(G1 + RAM, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, false);
	/* The highest levels say no for all below. */
	put(0x11000, 0x12000 | XR);
	invalidate_all();
	check_denied(PAGE, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, true);
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x20000);
	put(0x10000, 0x11000 | 3);
	invalidate_all();
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_READ_DENIED, true);
}

/* Both halves, with four levels and five; what is not canonical is nowhere. */
static void vtd_halves(void)
{
	vtd_tables();
	put(0x10000 + 511 * 8, 0x11000 | X);
	set_guest(vtd48);
	assert_int_equal(out(BITS(63, 39) + PAGE, UIOMMU_READ), 0x20000);
	check_denied(BITS(63, 40) + PAGE, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
	check_denied(BITS(62, 39) + PAGE, UIOMMU_READ, UIOMMU_FAULT_BEYOND, true);
	check_denied(BITS(47, 39) + PAGE, UIOMMU_READ, UIOMMU_FAULT_BEYOND, true);
	check_denied(BIT(48) + PAGE, UIOMMU_READ, UIOMMU_FAULT_BEYOND, true);
	put(0x14000, 0x10000 | X);
	put(0x14000 + 511 * 8, 0x10000 | X);
	set_guest((struct uiommu_guest_options){
		.format = "vtd-fs", .root = 0x14000 | 0x18, .width = 57});
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x20000);
	assert_int_equal(out(BITS(47, 39) + PAGE, UIOMMU_READ), 0x20000);
	assert_int_equal(out(BITS(63, 39) + PAGE, UIOMMU_READ), 0x20000);
	check_denied(BIT(57) + PAGE, UIOMMU_READ, UIOMMU_FAULT_BEYOND, true);
	check_denied(BITS(56, 39) + PAGE, UIOMMU_READ, UIOMMU_FAULT_BEYOND, true);
}

/* Hardware sets A wherever it comes by, and D where it is about to write. */
static void vtd_flags(void)
{
	vtd_tables();
	set_guest(vtd48);
	check_denied(3 * PAGE, UIOMMU_READ, UIOMMU_FAULT_READ_DENIED, true);
	assert_int_equal(get(0x10000), 0x11000 | X | XA);
	assert_int_equal(get(0x13000 + 24), 0x22000 | 3);
	check_denied(2 * PAGE, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, true);
	assert_int_equal(get(0x13000 + 16), 0x21000 | XR);
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x20000);
	assert_int_equal(get(0x13000 + 8), 0x20000 | X | XA);
	/* The IOTLB must not have it as writable before D is set. */
	assert_int_equal(out(PAGE, UIOMMU_WRITE), 0x20000);
	assert_int_equal(get(0x13000 + 8), 0x20000 | X | XA | XD);
	assert_int_equal(get(0x12000), 0x13000 | X | XA);
	put(0x13000 + 8, 0x20000 | X);
	invalidate(PAGE, PAGE);
	assert_int_equal(out(PAGE, UIOMMU_WRITE), 0x20000);
	assert_int_equal(get(0x13000 + 8), 0x20000 | X | XA | XD);
	vtd_tables();
	set_guest((struct uiommu_guest_options){
		.format = "vtd-fs", .root = 0x10000, .width = 48, .flags = UIOMMU_GUEST_EAFE});
	assert_int_equal(out(M2, UIOMMU_WRITE), 0);
	assert_int_equal(get(0x12000 + 8), X | XPS | XA | XD | XEA | BIT(12));
	assert_int_equal(get(0x11000), 0x12000 | X | XA | XEA);
}

static void vtd_wrong(void)
{
	static const struct {
		uint64_t at, entry, iova;
		enum uiommu_fault_reason reason;
		bool first;
	} cases[] = {
		{0x10000, 0x11000 | X | XPS, PAGE, UIOMMU_FAULT_TABLE_ENTRY, true},
		{0x11000 + 8, M2 | X | XPS, G1, UIOMMU_FAULT_TABLE_ENTRY, true},
		{0x12000 + 8, BIT(13) | X | XPS, M2, UIOMMU_FAULT_TABLE_ENTRY, true},
		{0x12000 + 8, BIT(20) | X | XPS, M2, UIOMMU_FAULT_TABLE_ENTRY, true},
		{0x10000, RAM | X, PAGE, UIOMMU_FAULT_TABLE_FETCH, false},
		{0x10000, BITS(51, 12) | X, PAGE, UIOMMU_FAULT_TABLE_FETCH, false},
		{0x12000, BITS(47, 12) | X, PAGE, UIOMMU_FAULT_TABLE_FETCH, false},
		{0x13000 + 8, RAM | X, PAGE, UIOMMU_FAULT_NOT_PRESENT, false},
		{0x13000 + 8, BITS(51, 12) | X, PAGE, UIOMMU_FAULT_BEYOND, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		vtd_tables();
		put(cases[i].at, cases[i].entry);
		set_guest(vtd48);
		check_denied(cases[i].iova, UIOMMU_READ, cases[i].reason, cases[i].first);
	}
	/* Tables that may be read, but in which no flag can be set, won't do. */
	vtd_tables();
	map(G1, PAGE, (uintptr_t)ram + 0x13000, UIOMMU_READ);
	put(0x12000, G1 | X);
	set_guest(vtd48);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_TABLE_FETCH, false);
	put(0x13000 + 8, 0x20000 | X | XA);
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x20000);
	check_denied(PAGE, UIOMMU_WRITE, UIOMMU_FAULT_TABLE_FETCH, false);
	unmap(G1, PAGE);
	/* A table that is its own child is as deep as all others. */
	for (unsigned i = 0; i < 512; i++)
		put(0x10000 + i * 8, 0x10000 | X);
	set_guest(vtd48);
	assert_int_equal(out(7 * PAGE, UIOMMU_READ), 0x10000);
	assert_int_equal(out(BIT(47) - 1, UIOMMU_WRITE), 0x10fff);
}

/* Setting a flag is a write to the table's page, through the stage behind. */
static unsigned dirty_pages;

static void count(void *ctx, struct uiommu_range range)
{
	dirty_pages |= 1u << (range.first - 0x10000) / PAGE;
	assert_int_equal(range.last - range.first, PAGE - 1);
}

static void vtd_dirty(void)
{
	const struct uiommu_range r = {0x10000, 0x21fff};

	unmap(0, RAM);
	for (uint64_t at = 0; at < RAM; at += PAGE)
		map(at, PAGE, (uintptr_t)ram + at, RW);
	vtd_tables();
	put(0x10000, get(0x10000) | XA);
	put(0x11000, get(0x11000) | XA);
	set_guest(vtd48);
	assert_int_equal(uiommu_domain_dirty_track(outer, true), 0);
	for (unsigned round = 0; round < 2; round++) {
		dirty_pages = 0;
		assert_int_equal(out(PAGE, UIOMMU_READ), 0x20000);
		assert_int_equal(uiommu_domain_dirty_read(outer, r, 0, count, NULL), 0);
		assert_int_equal(dirty_pages, round ? 0 : 1u << 2 | 1u << 3);
	}
	dirty_pages = 0;
	assert_int_equal(out(PAGE, UIOMMU_WRITE), 0x20000);
	assert_int_equal(uiommu_domain_dirty_read(outer, r, 0, count, NULL), 0);
	assert_int_equal(dirty_pages, 1u << 3 | 1u << 16);
}

static void test_vtd(void **state)
{
	static void (*const tests[])(void) = {vtd_leaves, vtd_halves, vtd_flags, vtd_wrong,
					      vtd_dirty};

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		for (unsigned cache = 0; cache < 2; cache++) {
			rig_up("vtd-ss", 48, cache ? 16 : UIOMMU_IOTLB_OFF);
			tests[i]();
			rig_down();
		}
}

/* ---- SMMUv3 ---- */

#define STE_V	   BIT(0)
#define STE_CFG(n) ((uint64_t)(n) << 1)
#define CD_V	   BIT(31)
#define CD_EPD1	   BIT(30)
#define CD_IPS(n)  ((uint64_t)(n) << 32)
#define CD_AA64	   BIT(41)
#define CD_R	   BIT(45)
#define CD_A	   BIT(46)
/* 48 bits, a granule of 4 KiB, the lower half, addresses of 44 bits. */
#define CD_0 (16 | CD_V | CD_EPD1 | CD_IPS(4) | CD_AA64 | CD_R | CD_A)

enum { PTE_TABLE = 3, PTE_PAGE = 3, PTE_BLOCK = 1, PTE_USER = 0x40, PTE_RO = 0x80, PTE_AF = 0x400 };

#define LEAF (PTE_AF | PTE_USER)

/* The context at 0x8000, tables as above. */
static void smmu_tables(void)
{
	put(0x8000, CD_0);
	put(0x8008, 0x10000);
	put(0x8010, 0);
	put(0x10000, 0x11000 | PTE_TABLE);
	put(0x11000, 0x12000 | PTE_TABLE);
	put(0x12000, 0x13000 | PTE_TABLE);
	put(0x13000 + 8, 0x20000 | PTE_PAGE | LEAF);
	put(0x13000 + 16, 0x21000 | PTE_PAGE | LEAF | PTE_RO);
	put(0x13000 + 24, 0x22000 | PTE_PAGE | PTE_AF);	  /* privileged only */
	put(0x13000 + 32, 0x23000 | PTE_PAGE | PTE_USER); /* no access flag */
	put(0x13000 + 40, 0x24000 | PTE_BLOCK | LEAF);	  /* no page */
	put(0x12000 + 8, PTE_BLOCK | LEAF);
	put(0x11000 + 8, PTE_BLOCK | LEAF | PTE_RO);
}

static void set_smmu(uint64_t ste0, uint64_t ste1)
{
	set_guest((struct uiommu_guest_options){.format = "smmuv3", .ste = {ste0, ste1}});
}

static void set_context(void)
{
	set_smmu(STE_V | STE_CFG(5) | 0x8000, 0);
}

static void smmu_leaves(void)
{
	smmu_tables();
	set_context();
	assert_int_equal(out(PAGE + 5, UIOMMU_READ), 0x20005);
	assert_int_equal(out(PAGE + 5, UIOMMU_WRITE), 0x20005);
	assert_int_equal(get(0x13000 + 8), 0x20000 | PTE_PAGE | LEAF);
	assert_int_equal(out(2 * PAGE, UIOMMU_READ), 0x21000);
	check_denied(2 * PAGE, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, true);
	check_denied(3 * PAGE, UIOMMU_READ, UIOMMU_FAULT_READ_DENIED, true);
	check_denied(4 * PAGE, UIOMMU_READ, UIOMMU_FAULT_ACCESS_FLAG, true);
	check_denied(5 * PAGE, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
	check_denied(0, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
	assert_int_equal(out(M2 + 0x12345, UIOMMU_WRITE), 0x12345);
	assert_int_equal(out(G1 + M2, UIOMMU_READ), M2);
	check_denied(G1 + RAM, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, false);
	check_denied(BIT(48), UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
	check_denied(BITS(63, 48) + PAGE, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
	/* A block where there is none: 512 GiB. */
	put(0x10000, PTE_BLOCK | LEAF);
	invalidate_all();
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
	/* APTable: read only below, privileged only below. */
	put(0x10000, 0x11000 | PTE_TABLE | BIT(62));
	invalidate_all();
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x20000);
	check_denied(PAGE, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, true);
	put(0x10000, 0x11000 | PTE_TABLE | BIT(61));
	invalidate_all();
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_READ_DENIED, true);
	put(0x8008, 0x10002); /* hierarchical attributes disabled */
	invalidate_all();
	assert_int_equal(out(PAGE, UIOMMU_WRITE), 0x20000);
	put(0x8000, CD_0 | BIT(35)); /* access flag faults disabled */
	invalidate_all();
	assert_int_equal(out(4 * PAGE, UIOMMU_READ), 0x23000);
}

/* What the stream table entry says. */
static void smmu_streams(void)
{
	const uint64_t two = (uint64_t)1 << 59; /* substreams */

	smmu_tables();
	set_smmu(0, 0);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_ABORTED, true);
	set_smmu(STE_CFG(5) | BIT(57) | 0x8000, BIT(40)); /* not valid: the rest says nothing */
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_ABORTED, true);
	set_smmu(STE_V, 0);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_ABORTED, true);
	set_smmu(STE_V | STE_CFG(4), 0);
	assert_int_equal(out(0x20005, UIOMMU_WRITE), 0x20005);
	check_denied(RAM, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, false);
	check_denied(BIT(44), UIOMMU_READ, UIOMMU_FAULT_BEYOND, false);
	/* With substreams, what comes without one is aborted, bypasses, or is substream 0's. */
	set_smmu(STE_V | STE_CFG(5) | 0x8000 | two, 0);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_CONTEXT, true);
	set_smmu(STE_V | STE_CFG(5) | 0x8000 | two, 1);
	assert_int_equal(out(0x20005, UIOMMU_WRITE), 0x20005);
	set_smmu(STE_V | STE_CFG(5) | 0x8000 | two, 2);
	assert_int_equal(out(PAGE, UIOMMU_WRITE), 0x20000);
	set_smmu(STE_V | STE_CFG(5) | 0x8000 | two, 3);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_CONTEXT, true);
	/* Two levels of contexts. */
	put(0x9000, 0x8000 | 1);
	for (uint64_t format = 1; format <= 2; format++) {
		set_smmu(STE_V | STE_CFG(5) | 0x9000 | two | format << 4, 2);
		assert_int_equal(out(PAGE, UIOMMU_WRITE), 0x20000);
	}
	set_smmu(STE_V | STE_CFG(5) | 0x9000 | two | 3 << 4, 2);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_CONTEXT, true);
	put(0x9000, 0x8000);
	set_smmu(STE_V | STE_CFG(5) | 0x9000 | two | 1 << 4, 2);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_CONTEXT, true);
	put(0x9000, RAM | 1);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_TABLE_FETCH, false);
	set_smmu(STE_V | STE_CFG(5) | BITS(51, 6), 0);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_TABLE_FETCH, false);
}

static void smmu_contexts(void)
{
	static const struct {
		uint64_t word[3];
		enum uiommu_fault_reason reason;
	} cases[] = {
		{{CD_0 & ~CD_V, 0x10000}, UIOMMU_FAULT_CONTEXT},
		{{CD_0 & ~CD_AA64, 0x10000}, UIOMMU_FAULT_CONTEXT},
		{{CD_0 & ~CD_A, 0x10000}, UIOMMU_FAULT_CONTEXT},
		{{CD_0 | BIT(44), 0x10000}, UIOMMU_FAULT_CONTEXT},     /* S: no stalls */
		{{CD_0 | BIT(43), 0x10000}, UIOMMU_FAULT_CONTEXT},     /* HA */
		{{CD_0 | BIT(42), 0x10000}, UIOMMU_FAULT_CONTEXT},     /* HD */
		{{CD_0 | BIT(15), 0x10000}, UIOMMU_FAULT_CONTEXT},     /* big endian */
		{{CD_0 | 3 << 6, 0x10000}, UIOMMU_FAULT_CONTEXT},      /* no such granule */
		{{CD_0 - 1, 0x10000}, UIOMMU_FAULT_CONTEXT},	       /* 49 bits */
		{{CD_0 + 24, 0x10000}, UIOMMU_FAULT_CONTEXT},	       /* 24 bits */
		{{CD_0, BIT(44)}, UIOMMU_FAULT_CONTEXT},	       /* a base of 45 bits */
		{{CD_0 & ~CD_EPD1, 0x10000}, UIOMMU_FAULT_CONTEXT},    /* the other half is wrong */
		{{CD_0 | BIT(14), 0x10000}, UIOMMU_FAULT_NOT_PRESENT}, /* no walks in this half */
		{{CD_0, 0x14000}, UIOMMU_FAULT_NOT_PRESENT},	       /* an empty table */
		{{CD_0, RAM}, UIOMMU_FAULT_TABLE_FETCH},
		{{CD_0 & ~CD_R, 0x14000}, UIOMMU_FAULT_ABORTED},
		{{CD_0 & ~CD_R, 0x15000}, UIOMMU_FAULT_ABORTED},
		{{CD_0, 0x15000}, UIOMMU_FAULT_ADDRESS_SIZE},
		{{CD_0 + CD_IPS(1), 0x15000}, UIOMMU_FAULT_ADDRESS_SIZE}, /* stage 2 has 44 bits */
		{{CD_0 - CD_IPS(4), 0x16000}, UIOMMU_FAULT_ADDRESS_SIZE}, /* 32 bits */
	};

	smmu_tables();
	put(0x15000, BIT(44) | PTE_TABLE);
	put(0x16000, BIT(32) | PTE_TABLE);
	set_context();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned w = 0; w < 3; w++)
			put(0x8000 + w * 8, cases[i].word[w]);
		check_denied(PAGE, UIOMMU_READ, cases[i].reason,
			     cases[i].reason != UIOMMU_FAULT_TABLE_FETCH);
	}
}

/* Granules and sizes: one leaf at the lowest level, one block above, from either half. */
static void smmu_granules(void)
{
	static const struct {
		unsigned tg0, tg1, shift, width;
	} cases[] = {
		{0, 2, 12, 48}, {0, 2, 12, 40}, {0, 2, 12, 39}, {0, 2, 12, 31},
		{0, 2, 12, 25}, {2, 1, 14, 48}, {2, 1, 14, 47}, {2, 1, 14, 36},
		{2, 1, 14, 33}, {1, 3, 16, 48}, {1, 3, 16, 42}, {1, 3, 16, 36},
	};

	smmu_tables();
	set_context();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned g = cases[i].shift, step = g - 3, width = cases[i].width;
		unsigned levels = (width - g + step - 1) / step;
		uint64_t size = 64 - width, top = width == 48 ? BITS(63, 48) : BITS(63, width);
		uint64_t page = BIT(g), block = BIT(g + step), at = 0x80000;

		/* One table after the other; index 1 in the last but one is a block. */
		memset((char *)ram + at, 0, 5 * 0x10000);
		for (unsigned l = levels - 1; l; l--, at += 0x10000) {
			put(at, (at + 0x10000) | PTE_TABLE);
			if (l == 1)
				put(at + 8, PTE_BLOCK | LEAF);
		}
		put(at + 8, 0x100000 | PTE_PAGE | LEAF);
		put(0x8000, size | (uint64_t)cases[i].tg0 << 6 | size << 16 |
				    (uint64_t)cases[i].tg1 << 22 | CD_V | CD_IPS(5) | CD_AA64 |
				    CD_R | CD_A);
		put(0x8008, 0x80000);
		put(0x8010, 0x80000);
		invalidate_all();
		assert_int_equal(out(page + 77, UIOMMU_WRITE), 0x100000 + 77);
		assert_int_equal(out(top + page + 77, UIOMMU_READ), 0x100000 + 77);
		if (levels > 1) {
			assert_int_equal(out(block + 0x123456, UIOMMU_WRITE), 0x123456);
			assert_int_equal(out(top + block + 0x123456, UIOMMU_WRITE), 0x123456);
		}
		check_denied(BIT(width) + page, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
		check_denied(top - BIT(width) + page, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
		check_denied(BIT(60) + page, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
		put(0x8000, get(0x8000) | BIT(38)); /* the top byte is ignored, in the lower half */
		invalidate_all();
		assert_int_equal(out(BIT(60) + page, UIOMMU_READ), 0x100000);
		check_denied(top - BIT(60) + page, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
	}
}

static void test_smmu(void **state)
{
	static void (*const tests[])(void) = {smmu_leaves, smmu_streams, smmu_contexts,
					      smmu_granules};

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		for (unsigned cache = 0; cache < 2; cache++) {
			rig_up("arm-s2", 44, cache ? 16 : UIOMMU_IOTLB_OFF);
			tests[i]();
			rig_down();
		}
}

/* ---- the engine's own tables, read as a guest's ---- */

#define SPOTS 64

/* Everything at its own address, so that a table built here can be read from where it is. */
static void compare(const char *format, unsigned width, struct uiommu_guest_options options,
		    struct rng *rng)
{
	const struct table_config config = {.format = format, .width = width};
	struct gather gather = GATHER_INIT;
	struct table table;
	uint64_t spot[SPOTS];

	assert_int_equal(table_init(&table, &config), 0);
	for (unsigned i = 0; i < SPOTS; i++) {
		uint64_t size = (uint64_t[]){PAGE, 3 * PAGE, M2, M2 + PAGE, G1}[rng_below(rng, 5)];
		uint64_t align = size < M2 ? PAGE : size == G1 ? G1 : M2;
		uint64_t addr = rng_below(rng, BIT(43)) & ~(align - 1);

		/* Each in 4 GiB of its own. */
		spot[i] = i * 4 * G1 + rng_below(rng, 3) * align;
		assert_int_equal(table_map(&table,
					   (struct uiommu_range){spot[i], spot[i] + size - 1}, addr,
					   1 + (int)rng_below(rng, 3), &gather),
				 0);
	}
	options.root = (uintptr_t)table.root;
	if (options.ste[0]) {
		put(0x8000, (64 - width) | CD_V | CD_EPD1 | CD_IPS(5) | CD_AA64 | CD_R | CD_A);
		put(0x8008, (uintptr_t)table.root);
		options.ste[0] |= (uintptr_t)ram + 0x8000;
	}
	set_guest(options);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t iova = spot[rng_below(rng, SPOTS)] +
				rng_below(rng, rng_below(rng, 2) ? 8 * PAGE : 2 * M2);
		int access = rng_below(rng, 2) ? UIOMMU_READ : UIOMMU_WRITE;
		struct table_leaf leaf;
		int64_t expected;

		if (!table_walk(&table, iova, &leaf))
			expected = -UIOMMU_FAULT_NOT_PRESENT;
		else if (!(leaf.prot & access))
			expected = -(int64_t)check_prot(leaf.prot, access);
		else
			expected =
				(int64_t)(leaf.addr + (iova - leaf.range.first) - (uintptr_t)ram);
		assert_int_equal(out(iova, access), expected);
	}
	drop_guest();
	table_unmap(&table, (struct uiommu_range){0, UINT64_MAX}, &gather);
	gather_release(&gather, &table.pool);
	table_destroy(&table);
}

static void test_own_tables(void **state)
{
	struct rng rng = rng_seeded("guest");

	rig_up("vtd-ss", 48, 64);
	unmap(0, RAM);
	map(0, BIT(47), 0, RW);
	for (unsigned round = 0; round < 4; round++) {
		compare("vtd-fs", 48,
			(struct uiommu_guest_options){.format = "vtd-fs", .width = 48}, &rng);
		compare("vtd-fs", 57,
			(struct uiommu_guest_options){.format = "vtd-fs", .width = 57}, &rng);
		compare("arm-s1", 48,
			(struct uiommu_guest_options){.format = "smmuv3",
						      .ste = {STE_V | STE_CFG(5)}},
			&rng);
		compare("arm-s1", 39,
			(struct uiommu_guest_options){.format = "smmuv3",
						      .ste = {STE_V | STE_CFG(5)}},
			&rng);
	}
	rig_down();
}

/* ---- invalidations ---- */

static void test_invalidate(void **state)
{
	struct uiommu_unit_stats before, after;

	rig_up("vtd-ss", 48, 64);
	vtd_tables();
	set_guest(vtd48);
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x20000);
	assert_int_equal(out(2 * PAGE, UIOMMU_READ), 0x21000);
	assert_int_equal(out(M2 + 9 * PAGE, UIOMMU_READ), 9 * PAGE);
	/* What is cached holds until it is taken away, and no longer. */
	put(0x13000 + 8, 0x30000 | X);
	put(0x13000 + 16, 0x31000 | X);
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x20000);
	invalidate(PAGE, PAGE);
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x30000);
	assert_int_equal(out(2 * PAGE, UIOMMU_READ), 0x21000);
	/* One page of a large leaf takes all of it. */
	put(0x12000 + 8, 0x14000 | X);
	put(0x14000 + 9 * 8, 0x40000 | X);
	assert_int_equal(out(M2 + 9 * PAGE, UIOMMU_READ), 9 * PAGE);
	invalidate(M2 + 3 * PAGE, PAGE);
	assert_int_equal(out(M2 + 9 * PAGE, UIOMMU_READ), 0x40000);
	invalidate_all();
	assert_int_equal(out(2 * PAGE, UIOMMU_READ), 0x31000);
	/* One flush each, whatever the range; and the stage behind takes everything. */
	uiommu_unit_stats(unit, &before);
	invalidate(0, 3 * G1);
	uiommu_unit_stats(unit, &after);
	assert_int_equal(after.flushes - before.flushes, 1);
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x30000);
	unmap(0, RAM);
	check_denied(PAGE, UIOMMU_READ, UIOMMU_FAULT_TABLE_FETCH, false);
	map(0, RAM, (uintptr_t)ram, RW);
	assert_int_equal(out(PAGE, UIOMMU_READ), 0x30000);
	/* Errors. */
	assert_int_equal(uiommu_domain_invalidate(guest, (struct uiommu_range){1, 0}), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_EMPTY);
	assert_int_equal(uiommu_domain_invalidate(outer, (struct uiommu_range){0, 1}), -EOPNOTSUPP);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_UNSUPPORTED);
	rig_down();
}

/* ---- making them ---- */

static void check_made(struct uiommu_guest_options options, int expected)
{
	struct uiommu_domain *made = NULL;

	options.size = sizeof(options);
	assert_int_equal(uiommu_domain_create_guest(outer, &options, &made), expected);
	if (expected)
		assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_ARGUMENT);
	uiommu_domain_destroy(made);
}

static void test_create(void **state)
{
	const struct uiommu_domain_options shape = {
		.size = sizeof(shape), .format = "vtd-ss", .width = 48};
	struct uiommu_domain_window window = {.size = sizeof(window)};
	struct {
		struct uiommu_guest_options known;
		uint64_t more;
	} newer = {.known = vtd48};
	struct uiommu_guest_options nested = vtd48;
	struct uiommu_domain *made;
	uint64_t addr;
	int prot;

	rig_up("vtd-ss", 48, 0);
	check_made((struct uiommu_guest_options){.width = 48}, -EINVAL);
	check_made((struct uiommu_guest_options){.format = "vtd-ss", .width = 48}, -EINVAL);
	check_made((struct uiommu_guest_options){.format = "vtd-fs", .width = 39}, -EINVAL);
	check_made((struct uiommu_guest_options){.format = "vtd-fs", .width = 48, .flags = 8},
		   -EINVAL);
	check_made((struct uiommu_guest_options){.format = "vtd-fs", .width = 57, .flags = 7}, 0);
	/* The bits that Linux lets a guest set, and each that it doesn't. 29 of the second word
	 * makes EATS 2; reserved configurations come below. */
	for (unsigned b = 3; b < 128; b++) {
		uint64_t allowed = b < 64 ? UINT64_C(0xf80fffffffffffff) : 0x180000ff;
		struct uiommu_guest_options o = {.format = "smmuv3",
						 .ste = {STE_V | STE_CFG(5), 0}};

		o.ste[b / 64] |= BIT(b % 64);
		check_made(o, allowed & BIT(b % 64) ? 0 : -EIO);
	}
	for (uint64_t config = 0; config < 8; config++)
		check_made((struct uiommu_guest_options){.format = "smmuv3",
							 .ste = {STE_V | STE_CFG(config)}},
			   config == 0 || config == 4 || config == 5 ? 0 : -EIO);
	newer.known.size = sizeof(newer);
	newer.more = 1;
	assert_int_equal(uiommu_domain_create_guest(outer, &newer.known, &made), -E2BIG);
	nested.size = 8;
	assert_int_equal(uiommu_domain_create_guest(outer, &nested, &made), -EINVAL);
	assert_int_equal(uiommu_domain_create_guest(outer, NULL, &made), -EINVAL);
	/* No parent, and with nothing of its own. */
	nested.size = sizeof(nested);
	set_guest(vtd48);
	assert_int_equal(uiommu_domain_create_guest(guest, &nested, &made), -EINVAL);
	assert_int_equal(uiommu_domain_attach(guest, 5, NULL, 0, "test"), -EINVAL);
	assert_int_equal(uiommu_domain_lookup(guest, PAGE, &addr, &prot), -ENOENT);
	assert_int_equal(uiommu_domain_page_sizes(guest), 0);
	assert_int_equal(uiommu_domain_reshape(guest, &shape, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_domain_window_create(guest, &window), -EOPNOTSUPP);
	assert_int_equal(uiommu_domain_window_remove(guest, 0), -EOPNOTSUPP);
	assert_int_equal(uiommu_domain_window_find(guest, 0, &window), -ENOENT);
	assert_int_equal(uiommu_domain_dirty_track(guest, true), -EOPNOTSUPP);
	rig_down();
}

static void test_no_memory(void **state)
{
	struct uiommu_guest_options options = vtd48;
	struct uiommu_domain *made;
	long before, failed = 0;
	int ret = -ENOMEM;

	uiommu_set_allocator(failing_alloc, failing_release);
	rig_up("vtd-ss", 48, 0);
	options.size = sizeof(options);
	before = fail_live;
	for (long n = 0; ret; n++) {
		fail_countdown = n;
		ret = uiommu_domain_create_guest(outer, &options, &made);
		fail_countdown = -1;
		if (ret) {
			assert_int_equal(ret, -ENOMEM);
			assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_NO_MEMORY);
			assert_int_equal(fail_live, before);
			failed++;
		}
	}
	assert_true(failed >= 3);
	/* Parent first. */
	uiommu_domain_detach(outer, DEVICE);
	uiommu_domain_destroy(outer);
	assert_int_equal(uiommu_domain_invalidate(made, (struct uiommu_range){0, 5}), 0);
	uiommu_domain_destroy(made);
	uiommu_port_destroy(port);
	uiommu_ioas_destroy(outer_ioas);
	uiommu_unit_destroy(unit);
	free((void *)ram);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- races ---- */

#define DEVICES 2

static _Atomic bool stop;
static _Atomic unsigned long done;

static void *device(void *arg)
{
	struct rng rng = {.state = (uintptr_t)arg};
	uint64_t value = 0, iova;
	struct uiommu_port *mine;

	if (uiommu_port_create(unit, DEVICE, &mine))
		abort();
	uiommu_port_set_master(mine, true);
	while (!stop) {
		iova = (1 + rng_below(&rng, 64)) * PAGE + (uintptr_t)arg * 8;
		if (rng_below(&rng, 2))
			done += !uiommu_port_write(mine, iova, &value, sizeof(value));
		else
			done += !uiommu_port_read(mine, iova, &value, sizeof(value));
	}
	uiommu_port_destroy(mine);
	return NULL;
}

static void start(pthread_t thread[DEVICES])
{
	stop = false;
	done = 0;
	for (uintptr_t i = 0; i < DEVICES; i++)
		pthread_create(&thread[i], NULL, device, (void *)i);
}

static void finish(pthread_t thread[DEVICES])
{
	stop = true;
	for (unsigned i = 0; i < DEVICES; i++)
		pthread_join(thread[i], NULL);
}

/* What the guest takes away and invalidates is its own again, without any doubt. */
static void test_race(void **state)
{
	uint64_t rounds = test_steps(2000);
	pthread_t thread[DEVICES];
	struct rng rng = {.state = 5};

	rig_up("vtd-ss", 48, 16);
	vtd_tables();
	for (uint64_t p = 0; p < 64; p++)
		put(0x13000 + (p + 1) * 8, (0x100000 + p * PAGE) | X);
	set_guest(vtd48);
	start(thread);
	for (uint64_t round = 0; round < rounds || done < 1000; round++) {
		uint64_t p = rng_below(&rng, 64), at = 0x100000 + p * PAGE;

		put(0x13000 + (p + 1) * 8, 0);
		invalidate((p + 1) * PAGE, PAGE);
		/* Plain stores: a device that is still there is a race. */
		memset((char *)ram + at, (int)round | 1, PAGE);
		sched_yield();
		for (unsigned i = 0; i < PAGE; i++)
			assert_int_equal(((unsigned char *)ram)[at + i],
					 (unsigned char)(round | 1));
		put(0x13000 + (p + 1) * 8, at | X);
	}
	finish(thread);
	rig_down();
}

/* The guest writes anything anywhere into its tables, while the host takes its memory away. */
static void go_wild(const struct uiommu_guest_options *options, const char *format, unsigned width)
{
	uint64_t rounds = test_steps(2000);
	pthread_t thread[DEVICES];
	struct rng rng = rng_seeded("wild");

	rig_up(format, width, 16);
	for (uint64_t at = M2; at < RAM; at += PAGE)
		put(at, at);
	set_guest(*options);
	start(thread);
	for (uint64_t round = 0; round < rounds; round++) {
		/* Tables, contexts and leaves that are mostly plausible. */
		uint64_t at = 0x8000 + rng_below(&rng, 0xc) * PAGE + rng_below(&rng, 128) * 8;
		uint64_t to = 0x8000 + rng_below(&rng, 0xc) * PAGE, word = to | X | PTE_AF;

		switch (rng_below(&rng, 6)) {
		case 0:
			word = rng_next(&rng);
			break;
		case 1:
			word |= XPS | PTE_USER;
			break;
		case 2:
			word = CD_0;
			break;
		}
		put(at, word);
		if (!rng_below(&rng, 8))
			put(0x8000, CD_0), put(0x8008, 0x10000);
		if (!rng_below(&rng, 16))
			invalidate(rng_below(&rng, 64) * PAGE, PAGE);
		if (!rng_below(&rng, 64)) {
			unmap(0, RAM);
			map(0, RAM, (uintptr_t)ram, RW);
		}
	}
	finish(thread);
	rig_down();
}

static void test_wild(void **state)
{
	go_wild(&vtd48, "vtd-ss", 48);
	go_wild(&(struct uiommu_guest_options){.format = "smmuv3",
					       .ste = {STE_V | STE_CFG(5) | 0x8000}},
		"arm-s2", 44);
	go_wild(
		&(struct uiommu_guest_options){
			.format = "smmuv3",
			.ste = {STE_V | STE_CFG(5) | 0x9000 | BIT(59) | 1 << 4, 2}},
		"arm-s2", 44);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vtd),	   cmocka_unit_test(test_smmu),
		cmocka_unit_test(test_own_tables), cmocka_unit_test(test_invalidate),
		cmocka_unit_test(test_create),	   cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_race),	   cmocka_unit_test(test_wild),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
