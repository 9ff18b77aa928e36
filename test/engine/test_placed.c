/* SPDX-License-Identifier: MIT */
/* What the system places in an address space: doorbells, each way there is, and direct regions;
 * domains that are disabled, and requesters that a violation cuts off. */
#include "../check.h"

#include <errno.h>

#include <uiommu/space.h>

#define PAGE	UINT64_C(4096)
#define R(a, b) ((struct uiommu_range){(a), (b)})

/* Two doorbell pages behind the translation. */
#define BELL_A UINT64_C(0x8090000)
#define BELL_B UINT64_C(0x80a0000)

static const struct uiommu_resv_region sw_msi = {.range = {0x8000000, 0x80fffff},
						 .type = UIOMMU_RESV_SW_MSI};

struct rig {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	struct uiommu_port *port;
	unsigned rings;
	uint64_t ring_address;
	uint32_t ring_data;
	unsigned faults;
	struct uiommu_fault fault;
};

static int ring(void *ctx, uiommu_rid rid, uint64_t address, uint32_t data)
{
	struct rig *rig = ctx;

	rig->rings++;
	rig->ring_address = address;
	rig->ring_data = data;
	return 0;
}

static void on_fault(void *ctx, const struct uiommu_fault *fault)
{
	struct rig *rig = ctx;

	rig->faults++;
	rig->fault = *fault;
}

static const struct uiommu_domain_options arm = {
	.size = sizeof(arm), .format = "arm-s1", .width = 48, .name = "SMMU"};

static void rig_up(struct rig *rig, const struct uiommu_resv_region *regions, size_t count,
		   bool cut_off)
{
	struct uiommu_doorbell_window windows[] = {
		{.range = {BELL_A, BELL_A + 0xfff}, .write = ring, .ctx = rig, .translated = true},
		{.range = {BELL_B, BELL_B + 0xfff}, .write = ring, .ctx = rig, .translated = true},
	};
	struct uiommu_unit_options uo = {.size = sizeof(uo),
					 .windows = windows,
					 .window_count = 2,
					 .fault = on_fault,
					 .fault_ctx = rig,
					 .cut_off = cut_off};

	memset(rig, 0, sizeof(*rig));
	assert_int_equal(uiommu_unit_create(&uo, &rig->unit), 0);
	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(rig->unit, rig->ioas, &arm, &rig->domain), 0);
	assert_int_equal(uiommu_domain_attach(rig->domain, 8, regions, count, "0000:00:01.0"), 0);
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

static _Alignas(4096) char mem[4 * 4096];

static uint64_t addr_of(const void *ptr)
{
	return (uint64_t)(uintptr_t)ptr;
}

/* An interrupt through IOVA @iova arrives at @address; or, 0, faults for @reason. */
static void check_ring(struct rig *rig, uint64_t iova, uint64_t address,
		       enum uiommu_fault_reason reason)
{
	unsigned rings = rig->rings, faults = rig->faults;
	int ret = uiommu_port_interrupt(rig->port, iova, 0xabcd);

	if (address) {
		assert_int_equal(ret, 0);
		assert_int_equal(rig->rings, rings + 1);
		assert_int_equal(rig->ring_address, address);
		assert_int_equal(rig->ring_data, 0xabcd);
		assert_int_equal(rig->faults, faults);
		return;
	}
	assert_int_equal(ret, -EFAULT);
	assert_int_equal(rig->rings, rings);
	assert_int_equal(rig->faults, faults + 1);
	assert_int_equal(rig->fault.reason, reason);
	assert_int_equal(rig->fault.iova, iova);
	assert_int_equal(rig->fault.data, 0xabcd);
	assert_true(rig->fault.interrupt);
}

/* ---- doorbells ---- */

static void test_sw_msi(void **state)
{
	struct uiommu_doorbell_mapping list[4];
	struct uiommu_domain *other;
	size_t count = 4;
	struct rig rig;
	uint64_t a, b, again, target;
	int prot;

	rig_up(&rig, &sw_msi, 1, false);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A + 0x40, "A", &a), 1);
	assert_int_equal(a, 0x8000040);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_B, "B", &b), 1);
	assert_int_equal(b, 0x8001000);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A + 0x80, "A", &again), 1);
	assert_int_equal(again, 0x8000080);
	check_ring(&rig, a, BELL_A + 0x40, 0);
	check_ring(&rig, b, BELL_B, 0);
	check_ring(&rig, 0x8002000, 0, UIOMMU_FAULT_NOT_PRESENT);

	/* A domain that comes later has them at the same place. */
	assert_int_equal(uiommu_domain_create(rig.unit, rig.ioas, &arm, &other), 0);
	assert_int_equal(uiommu_domain_lookup(other, a, &target, &prot), 0);
	assert_int_equal(target, BELL_A + 0x40);
	assert_true(prot & UIOMMU_MMIO);
	uiommu_domain_destroy(other);

	assert_int_equal(uiommu_ioas_doorbells(rig.ioas, list, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(list[0].users, 2);
	assert_int_equal(list[0].iova, 0x8000000);
	assert_int_equal(list[1].addr, BELL_B);
	assert_string_equal(list[1].name, "B");
	count = 1;
	assert_int_equal(uiommu_ioas_doorbells(rig.ioas, list, &count), -EMSGSIZE);
	assert_int_equal(count, 2);

	/* Unused, it stays for the next as long as the region is there. */
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_A + 0x40);
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_A + 0x80);
	check_ring(&rig, a, BELL_A + 0x40, 0);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A, "A", &again), 1);
	assert_int_equal(again, 0x8000000);
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_A);
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_B);
	uiommu_domain_detach(rig.domain, 8);
	assert_int_equal(uiommu_domain_lookup(rig.domain, a, &target, &prot), -ENOENT);
	count = 4;
	assert_int_equal(uiommu_ioas_doorbells(rig.ioas, list, &count), 0);
	assert_int_equal(count, 0);
	rig_down(&rig);
}

/* A doorbell is a register: aligned 32-bit writes, and no memory. */
static void test_register(void **state)
{
	struct uiommu_segment segments[4];
	size_t count = 4;
	struct rig rig;
	uint64_t iova;
	char buf[16] = {0};

	rig_up(&rig, &sw_msi, 1, false);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A, "A", &iova), 1);
	assert_int_equal(uiommu_port_read(rig.port, iova, buf, 4), -EFAULT);
	assert_int_equal(uiommu_port_write(rig.port, iova, buf, 8), -EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_INTERRUPT);
	assert_false(rig.fault.interrupt);
	assert_int_equal(uiommu_port_write(rig.port, iova + 2, buf, 4), -EFAULT);
	assert_int_equal(rig.rings, 0);
	assert_int_equal(uiommu_port_write(rig.port, iova + 4, buf, 4), 0);
	assert_int_equal(rig.rings, 1);
	uiommu_port_enter(rig.port);
	assert_true(uiommu_port_translate(rig.port, iova, 4, UIOMMU_WRITE, segments, &count) < 0);
	uiommu_port_leave(rig.port);

	/* A register that nothing answers at. */
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x100000, 0x100fff), 0x5000000,
					 UIOMMU_WRITE | UIOMMU_MMIO, NULL),
			 0);
	check_ring(&rig, 0x100000, 0, UIOMMU_FAULT_INTERRUPT);
	/* Memory whose address is a doorbell's number is memory. */
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_A);
	rig_down(&rig);
}

static void test_placed_down(void **state)
{
	const struct uiommu_doorbell_place place = {
		.range = {0, 0x1fffffff}, .step = 0x4000000, .down = true};
	const struct uiommu_doorbell_place odd = {.range = {0, 0xffff}, .step = 0x3000};
	struct uiommu_range ranges[4];
	struct rig rig;
	uint64_t a, b;
	size_t count = 4;

	rig_up(&rig, NULL, 0, false);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A, "bank 0", &a), -ENODEV);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_DOORBELL);
	assert_string_equal(uiommu_last_refusal()->owner, "bank 0");
	assert_int_equal(uiommu_ioas_place_doorbells(rig.ioas, &odd), -EINVAL);
	assert_int_equal(uiommu_ioas_place_doorbells(rig.ioas, &place), 0);

	/* The program has the top but one. */
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x18000000, 0x18000fff), addr_of(mem),
					 UIOMMU_READ, NULL),
			 0);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A + 0x140, "bank 0", &a), 1);
	assert_int_equal(a, 0x1c000140);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_B + 0x140, "bank 1", &b), 1);
	assert_int_equal(b, 0x14000140);
	check_ring(&rig, a, BELL_A + 0x140, 0);
	check_ring(&rig, b, BELL_B + 0x140, 0);

	/* Its whole window is reserved in its name. */
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x1ffff000, 0x1fffffff), addr_of(mem),
					 UIOMMU_READ, NULL),
			 -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_RESERVED);
	assert_string_equal(uiommu_last_refusal()->owner, "bank 0");
	assert_int_equal(uiommu_ioas_ranges(rig.ioas, ranges, &count), 0);
	assert_int_equal(ranges[0].last, 0x13ffffff);

	/* With its last user it goes. */
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_A);
	check_ring(&rig, a, 0, UIOMMU_FAULT_NOT_PRESENT);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x1ffff000, 0x1fffffff), addr_of(mem),
					 UIOMMU_READ, NULL),
			 0);
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_B);
	rig_down(&rig);
}

static void test_no_room(void **state)
{
	const struct uiommu_doorbell_place place = {.range = {0x10000, 0x10fff}, .step = PAGE};
	struct rig rig;
	uint64_t iova;

	rig_up(&rig, NULL, 0, false);
	assert_int_equal(uiommu_ioas_place_doorbells(rig.ioas, &place), 0);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A, "A", &iova), 1);
	assert_int_equal(iova, 0x10000);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_B, "B", &iova), -ENOSPC);
	assert_int_equal(uiommu_last_refusal()->blocking.first, 0x10000);
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_A);
	rig_down(&rig);
}

/* The program maps the page itself, and takes it away. */
static void test_program(void **state)
{
	struct rig rig;
	uint64_t iova, bytes;

	rig_up(&rig, NULL, 0, false);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x40000, 0x40fff), BELL_A,
					 UIOMMU_READ | UIOMMU_MMIO, NULL),
			 0);
	/* Not writable: no doorbell. */
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A, "A", &iova), -ENODEV);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0x50000, 0x51fff), BELL_A - PAGE,
					 UIOMMU_WRITE | UIOMMU_MMIO, NULL),
			 0);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A + 8, "A", &iova), 0);
	assert_int_equal(iova, 0x51008);
	check_ring(&rig, iova, BELL_A + 8, 0);
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, R(0x50000, 0x51fff), &bytes, NULL, NULL), 0);
	check_ring(&rig, iova, 0, UIOMMU_FAULT_NOT_PRESENT);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A, "A", &iova), -ENODEV);
	rig_down(&rig);
}

/* ---- direct regions ---- */

static void test_direct(void **state)
{
	struct uiommu_resv_region direct = {.range = {addr_of(mem), addr_of(mem) + 2 * PAGE - 1},
					    .type = UIOMMU_RESV_DIRECT,
					    .prot = UIOMMU_READ | UIOMMU_WRITE};
	struct uiommu_resv_region part = direct;
	struct rig rig;
	uint64_t target;
	char byte = 7;
	int prot;

	rig_up(&rig, &direct, 1, false);
	assert_int_equal(uiommu_port_write(rig.port, addr_of(mem) + 5000, &byte, 1), 0);
	assert_int_equal(mem[5000], 7);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(addr_of(mem), addr_of(mem) + PAGE - 1), 0x1000,
					 UIOMMU_READ, NULL),
			 -EINVAL);
	assert_int_equal(uiommu_last_refusal()->resv, UIOMMU_RESV_DIRECT);

	/* Another device with the same region, and one with a part of it, which is refused whole.
	 */
	assert_int_equal(uiommu_domain_attach(rig.domain, 16, &direct, 1, "0000:00:02.0"), 0);
	part.range.last -= PAGE;
	assert_int_equal(uiommu_domain_attach(rig.domain, 24, &part, 1, "0000:00:03.0"), -EINVAL);
	uiommu_domain_detach(rig.domain, 8);
	assert_int_equal(uiommu_domain_lookup(rig.domain, addr_of(mem), &target, &prot), 0);
	assert_int_equal(target, addr_of(mem));
	uiommu_domain_detach(rig.domain, 16);
	assert_int_equal(uiommu_domain_lookup(rig.domain, addr_of(mem), &target, &prot), -ENOENT);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(addr_of(mem), addr_of(mem) + PAGE - 1), 0x1000,
					 UIOMMU_READ, NULL),
			 0);
	assert_int_equal(uiommu_domain_attach(rig.domain, 8, &direct, 1, "0000:00:01.0"),
			 -EADDRINUSE);
	rig_down(&rig);
}

/* Where the smallest page is larger, what is placed takes whole pages around it. */
static void test_large_pages(void **state)
{
	static const struct uiommu_domain_options coarse = {.size = sizeof(coarse),
							    .format = "arm-s1",
							    .width = 48,
							    .name = "SMMU",
							    .page_sizes = 0x20010000};
	struct uiommu_resv_region direct = {.range = {0x40001000, 0x40011fff},
					    .type = UIOMMU_RESV_DIRECT,
					    .prot = UIOMMU_READ | UIOMMU_WRITE};
	struct uiommu_resv_region beside = direct;
	const struct uiommu_doorbell_place place = {
		.range = {0x50001000, 0x5003ffff}, .step = PAGE, .down = true};
	struct uiommu_domain *domain;
	uint64_t iova, other, target;
	struct rig rig;
	int prot;

	rig_up(&rig, NULL, 0, false);
	assert_int_equal(uiommu_domain_create(rig.unit, rig.ioas, &coarse, &domain), 0);
	assert_int_equal(uiommu_domain_attach(domain, 16, &direct, 1, "0000:00:02.0"), 0);
	assert_int_equal(uiommu_domain_lookup(domain, 0x40000000, &target, &prot), 0);
	assert_int_equal(target, 0x40000000);
	assert_int_equal(uiommu_domain_lookup(rig.domain, 0x4001ffff, &target, &prot), 0);
	assert_int_equal(target, 0x4001ffff);
	assert_int_equal(uiommu_domain_lookup(domain, 0x40020000, &target, &prot), -ENOENT);
	/* The same once more, and one that shares only the page. */
	assert_int_equal(uiommu_domain_attach(domain, 24, &direct, 1, "0000:00:03.0"), 0);
	beside.range = R(0x40012000, 0x40012fff);
	assert_int_equal(uiommu_domain_attach(domain, 32, &beside, 1, "0000:00:04.0"), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_OVERLAP);
	uiommu_domain_detach(domain, 16);
	assert_int_equal(uiommu_domain_lookup(domain, 0x40000000, &target, &prot), 0);
	uiommu_domain_detach(domain, 24);
	assert_int_equal(uiommu_domain_lookup(domain, 0x40000000, &target, &prot), -ENOENT);

	/* Doorbells: two in one page of 64 KiB share its place. */
	assert_int_equal(uiommu_ioas_place_doorbells(rig.ioas, &place), 0);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A + 0x40, "A", &iova), 1);
	assert_int_equal(iova, 0x50030040);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_A + 0x2008, "A2", &other), 1);
	assert_int_equal(other, 0x50032008);
	check_ring(&rig, iova, BELL_A + 0x40, 0);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, BELL_B, "B", &other), 1);
	assert_int_equal(other, 0x50020000);
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_A + 0x40);
	check_ring(&rig, iova, BELL_A + 0x40, 0);
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_A + 0x2008);
	check_ring(&rig, iova, 0, UIOMMU_FAULT_NOT_PRESENT);
	uiommu_ioas_unmap_doorbell(rig.ioas, BELL_B);
	uiommu_domain_destroy(domain);
	rig_down(&rig);
}

/* Regions that no table could hold, and a doorbell at such an address: refused, and nothing else is
 * touched. */
static void test_impossible(void **state)
{
	const uint64_t beyond = UINT64_C(1) << 48;
	struct uiommu_resv_region bad[] = {
		{.range = {beyond, beyond + PAGE - 1}},	       /* outside of the aperture */
		{.range = {beyond - PAGE, beyond + PAGE - 1}}, /* half */
		{.range = {beyond, UINT64_MAX}},
	};
	uint64_t target, iova;
	struct rig rig;
	int prot;

	rig_up(&rig, &sw_msi, 1, false);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0, PAGE - 1), 0x5000, UIOMMU_READ, NULL), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bad[i].type = UIOMMU_RESV_DIRECT;
		bad[i].prot = UIOMMU_READ | UIOMMU_WRITE;
		assert_true(uiommu_domain_attach(rig.domain, 16, &bad[i], 1, "0000:00:02.0") < 0);
		assert_string_equal(uiommu_last_refusal()->owner, "0000:00:02.0");
	}
	assert_int_equal(uiommu_domain_lookup(rig.domain, 0, &target, &prot), 0);
	assert_int_equal(target, 0x5000);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, UINT64_C(1) << 60, "far", &iova),
			 -EOVERFLOW);
	assert_string_equal(uiommu_last_refusal()->owner, "far");
	rig_down(&rig);
}

/* A device's reservation that begins like its direct region doesn't count as a second one. */
static void test_begin_alike(void **state)
{
	struct uiommu_resv_region two[] = {
		{.range = {PAGE, 2 * PAGE - 1}, .type = UIOMMU_RESV_RESERVED},
		{.range = {PAGE, 2 * PAGE - 1},
		 .type = UIOMMU_RESV_DIRECT,
		 .prot = UIOMMU_READ | UIOMMU_WRITE},
	};
	struct rig rig;
	uint64_t target;
	int prot;

	rig_up(&rig, two, 2, false);
	assert_int_equal(uiommu_domain_attach(rig.domain, 16, two, 2, "0000:00:02.0"), 0);
	uiommu_domain_detach(rig.domain, 16);
	assert_int_equal(uiommu_domain_lookup(rig.domain, PAGE, &target, &prot), 0);
	uiommu_domain_detach(rig.domain, 8);
	assert_int_equal(uiommu_domain_lookup(rig.domain, PAGE, &target, &prot), -ENOENT);
	rig_down(&rig);
}

/* ---- disabled and cut off ---- */

static void test_enable(void **state)
{
	struct rig rig;
	char byte = 1;

	rig_up(&rig, NULL, 0, false);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0, 0xfff), addr_of(mem), UIOMMU_WRITE, NULL),
			 0);
	uiommu_domain_enable(rig.domain, false);
	assert_int_equal(uiommu_port_write(rig.port, 0, &byte, 1), -EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_NO_DOMAIN);
	/* Who is attached meanwhile waits as well. */
	uiommu_domain_detach(rig.domain, 8);
	assert_int_equal(uiommu_domain_attach(rig.domain, 8, NULL, 0, "0000:00:01.0"), 0);
	assert_int_equal(uiommu_port_write(rig.port, 0, &byte, 1), -EFAULT);
	uiommu_domain_enable(rig.domain, true);
	assert_int_equal(uiommu_port_write(rig.port, 0, &byte, 1), 0);
	rig_down(&rig);
}

static void test_cut_off(void **state)
{
	struct uiommu_port *other;
	struct rig rig;
	char byte = 1;

	rig_up(&rig, NULL, 0, true);
	assert_int_equal(uiommu_domain_attach(rig.domain, 16, NULL, 0, "0000:00:02.0"), 0);
	assert_int_equal(uiommu_port_create(rig.unit, 16, &other), 0);
	uiommu_port_set_master(other, true);
	assert_int_equal(uiommu_ioas_map(rig.ioas, R(0, 0xfff), addr_of(mem), UIOMMU_WRITE, NULL),
			 0);
	assert_int_equal(uiommu_port_read(rig.port, 0x5000, &byte, 1), -EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_NOT_PRESENT);
	assert_int_equal(uiommu_port_write(rig.port, 0, &byte, 1), -EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_CUT_OFF);
	/* The other one goes on. */
	assert_int_equal(uiommu_port_write(other, 0, &byte, 1), 0);
	uiommu_domain_enable(rig.domain, true);
	assert_int_equal(uiommu_port_write(rig.port, 0, &byte, 1), 0);
	/* So does attaching anew bring it back. */
	assert_int_equal(uiommu_port_read(rig.port, 0x5000, &byte, 1), -EFAULT);
	uiommu_domain_detach(rig.domain, 8);
	assert_int_equal(uiommu_domain_attach(rig.domain, 8, NULL, 0, "0000:00:01.0"), 0);
	assert_int_equal(uiommu_port_write(rig.port, 0, &byte, 1), 0);
	uiommu_port_destroy(other);
	uiommu_domain_detach(rig.domain, 16);
	rig_down(&rig);
}

/* ---- allocation failures ---- */

static void test_failing(void **state)
{
	const struct uiommu_doorbell_place place = {.range = {0, 0xffff}, .step = PAGE};
	struct uiommu_resv_region direct = {.range = {0x4000000000, 0x40000fffff},
					    .type = UIOMMU_RESV_DIRECT,
					    .prot = UIOMMU_READ};
	struct rig rig;
	uint64_t iova, target;
	int prot, ret;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (unsigned nth = 0;; nth++) {
		rig_up(&rig, NULL, 0, false);
		assert_int_equal(uiommu_ioas_place_doorbells(rig.ioas, &place), 0);
		fail_countdown = nth;
		ret = uiommu_ioas_map_doorbell(rig.ioas, BELL_A, "A", &iova);
		if (ret == 1) {
			ret = uiommu_domain_attach(rig.domain, 16, &direct, 1, "0000:00:02.0");
			if (ret)
				assert_int_equal(uiommu_domain_lookup(rig.domain, 0x4000000000,
								      &target, &prot),
						 -ENOENT);
			uiommu_ioas_unmap_doorbell(rig.ioas, BELL_A);
		}
		fail_countdown = -1;
		assert_int_equal(uiommu_domain_lookup(rig.domain, 0, &target, &prot), -ENOENT);
		uiommu_domain_detach(rig.domain, 16);
		rig_down(&rig);
		assert_int_equal(fail_live, 0);
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_true(nth < 100);
	}
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_large_pages), cmocka_unit_test(test_sw_msi),
		cmocka_unit_test(test_register),    cmocka_unit_test(test_placed_down),
		cmocka_unit_test(test_no_room),	    cmocka_unit_test(test_program),
		cmocka_unit_test(test_direct),	    cmocka_unit_test(test_impossible),
		cmocka_unit_test(test_begin_alike), cmocka_unit_test(test_enable),
		cmocka_unit_test(test_cut_off),	    cmocka_unit_test(test_failing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
