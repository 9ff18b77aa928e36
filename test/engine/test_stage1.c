/* SPDX-License-Identifier: MIT */
/*
 * Two stages of translation: a table of who is translated by what, a random run against a model
 * that is two lists, and devices that race with unmap, switch and detach in either stage. Memory is
 * made up where only the address counts: a byte's value follows from it.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <uiommu/space.h>

#define PAGE UINT64_C(4096)
#define MIB2 UINT64_C(0x200000)
#define RW   (UIOMMU_READ | UIOMMU_WRITE)

enum { GOVERNOR = 0x08, DEVICE = 0x10 };

static uint8_t value_at(uint64_t addr)
{
	return (uint8_t)(addr * 31 + (addr >> 12) * 7 + (addr >> 33));
}

static int made_up_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = value_at(addr + i);
	return 0;
}

static int made_up_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return 0;
}

static const struct uiommu_memory_ops made_up_ops = {
	.size = sizeof(made_up_ops), .read = made_up_read, .write = made_up_write};
static const struct uiommu_memory made_up = {.ops = &made_up_ops};

/* ---- what every test has ---- */

struct rig {
	struct uiommu_unit *unit;
	struct uiommu_ioas *outer_ioas, *inner_ioas, *other_ioas;
	struct uiommu_domain *outer, *inner, *other; /* stage 2, stage 1, somebody else's stage 2 */
	struct uiommu_stage1 *stage1, *wall;
	struct uiommu_port *port;
	struct uiommu_fault heard; /* by the stage 1's handler */
	unsigned heard_count;
};

static void hear(void *ctx, const struct uiommu_fault *fault)
{
	struct rig *rig = ctx;

	rig->heard = *fault;
	rig->heard_count++;
}

static struct uiommu_domain *new_domain(struct uiommu_unit *unit, struct uiommu_ioas **ioas,
					const char *format, unsigned width,
					struct uiommu_domain *parent)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = format, .width = width, .parent = parent};
	struct uiommu_domain *domain;

	assert_int_equal(uiommu_ioas_create(ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, *ioas, &options, &domain), 0);
	return domain;
}

static void rig_up_unit(struct rig *rig, struct uiommu_unit_options uo, bool nested, bool governed)
{
	struct uiommu_stage1_options so = {.size = sizeof(so),
					   .governed = governed,
					   .governor = GOVERNOR,
					   .fault = hear,
					   .fault_ctx = rig};

	*rig = (struct rig){0};
	uo.size = sizeof(uo);
	uo.memory = &made_up;
	assert_int_equal(uiommu_unit_create(&uo, &rig->unit), 0);
	rig->outer = new_domain(rig->unit, &rig->outer_ioas, "vtd-ss", 39, NULL);
	rig->other = new_domain(rig->unit, &rig->other_ioas, "vtd-ss", 39, NULL);
	rig->inner =
		new_domain(rig->unit, &rig->inner_ioas, "vtd-ss", 48, nested ? rig->outer : NULL);
	assert_int_equal(uiommu_stage1_create(rig->unit, &so, &rig->wall), 0);
	so.domain = rig->inner;
	assert_int_equal(uiommu_stage1_create(rig->unit, &so, &rig->stage1), 0);
	assert_int_equal(uiommu_port_create(rig->unit, DEVICE, &rig->port), 0);
	uiommu_port_set_master(rig->port, true);
}

static void rig_up(struct rig *rig, uint32_t iotlb, bool nested, bool governed)
{
	rig_up_unit(rig, (struct uiommu_unit_options){.iotlb_entries = iotlb}, nested, governed);
}

static void rig_down(struct rig *rig)
{
	uiommu_unit_set_stage1(rig->unit, DEVICE, NULL);
	uiommu_stage1_destroy(rig->stage1);
	uiommu_stage1_destroy(rig->wall);
	uiommu_port_destroy(rig->port);
	uiommu_domain_detach(rig->outer, DEVICE);
	uiommu_domain_detach(rig->other, DEVICE);
	uiommu_domain_detach(rig->outer, GOVERNOR);
	uiommu_domain_detach(rig->other, GOVERNOR);
	/* A parent may go before what is nested in it. */
	uiommu_domain_destroy(rig->outer);
	uiommu_domain_destroy(rig->other);
	uiommu_domain_destroy(rig->inner);
	uiommu_ioas_destroy(rig->outer_ioas);
	uiommu_ioas_destroy(rig->other_ioas);
	uiommu_ioas_destroy(rig->inner_ioas);
	uiommu_unit_destroy(rig->unit);
}

static void map(struct uiommu_ioas *ioas, uint64_t iova, uint64_t len, uint64_t addr, int prot)
{
	assert_int_equal(uiommu_ioas_map(ioas, (struct uiommu_range){iova, iova + len - 1}, addr,
					 prot, NULL),
			 0);
}

static void unmap(struct uiommu_ioas *ioas, uint64_t iova, uint64_t len)
{
	assert_int_equal(uiommu_ioas_unmap(ioas, (struct uiommu_range){iova, iova + len - 1}, NULL,
					   NULL, NULL),
			 0);
}

static void attach(struct uiommu_domain *domain, uiommu_rid rid)
{
	assert_int_equal(uiommu_domain_attach(domain, rid, NULL, 0, "test"), 0);
}

/* One byte at iova must come from address addr. */
static void check_at(struct rig *rig, uint64_t iova, uint64_t addr)
{
	uint8_t byte;

	assert_int_equal(uiommu_port_read(rig->port, iova, &byte, 1), 0);
	assert_int_equal(byte, value_at(addr));
}

static void check_fault(struct rig *rig, uint64_t iova, int access, enum uiommu_fault_reason reason,
			bool stage1)
{
	unsigned before = rig->heard_count;
	struct uiommu_fault fault;
	uint8_t byte = 0;

	assert_int_equal(access == UIOMMU_READ ? uiommu_port_read(rig->port, iova, &byte, 1)
					       : uiommu_port_write(rig->port, iova, &byte, 1),
			 -EFAULT);
	uiommu_port_last_fault(rig->port, &fault);
	assert_int_equal(fault.reason, reason);
	assert_int_equal(fault.iova, iova);
	assert_int_equal(fault.stage1, stage1);
	assert_int_equal(rig->heard_count - before, stage1);
	if (!stage1)
		return;
	assert_int_equal(rig->heard.iova, iova);
	assert_int_equal(rig->heard.rid, DEVICE);
	assert_int_equal(rig->heard.access, access);
	assert_int_equal(rig->heard.reason, reason);
}

/* ---- table ---- */

static void test_compose(void **state)
{
	static const uint32_t iotlbs[] = {0, 1, UIOMMU_IOTLB_OFF};

	for (size_t i = 0; i < 3; i++) {
		struct rig rig;

		rig_up(&rig, iotlbs[i], false, false);
		attach(rig.outer, DEVICE);
		/* Not in front of anything yet: straight through. */
		map(rig.outer_ioas, MIB2, MIB2, 8 * MIB2, RW);
		check_at(&rig, MIB2 + 5, 8 * MIB2 + 5);
		assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, rig.stage1), 0);
		check_fault(&rig, MIB2 + 5, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
		/* A small page onto a large one, and a large one over small ones with a hole. */
		map(rig.inner_ioas, 5 * PAGE, PAGE, MIB2 + 7 * PAGE, RW);
		check_at(&rig, 5 * PAGE + 9, 8 * MIB2 + 7 * PAGE + 9);
		map(rig.inner_ioas, 4 * MIB2, MIB2, 16 * MIB2, RW);
		map(rig.outer_ioas, 16 * MIB2 + PAGE, PAGE, 3 * PAGE, RW);
		map(rig.outer_ioas, 16 * MIB2 + 3 * PAGE, PAGE, 99 * PAGE, UIOMMU_READ);
		check_at(&rig, 4 * MIB2 + PAGE + 1, 3 * PAGE + 1);
		check_at(&rig, 4 * MIB2 + 3 * PAGE + 1, 99 * PAGE + 1);
		check_fault(&rig, 4 * MIB2, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, false);
		check_fault(&rig, 4 * MIB2 + 2 * PAGE, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT,
			    false);
		/* Permissions are those of both; who forbids is who is told. */
		check_fault(&rig, 4 * MIB2 + 3 * PAGE, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED,
			    false);
		map(rig.inner_ioas, 64 * PAGE, PAGE, MIB2, UIOMMU_READ);
		map(rig.inner_ioas, 65 * PAGE, PAGE, MIB2, UIOMMU_WRITE);
		for (unsigned twice = 0; twice < 2; twice++) {
			check_at(&rig, 64 * PAGE, 8 * MIB2);
			check_fault(&rig, 64 * PAGE, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, true);
			check_fault(&rig, 65 * PAGE, UIOMMU_READ, UIOMMU_FAULT_READ_DENIED, true);
		}
		/* The stage 1 is asked first. */
		map(rig.inner_ioas, 66 * PAGE, PAGE, 3 * MIB2, UIOMMU_READ);
		check_fault(&rig, 66 * PAGE, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, true);
		check_fault(&rig, 66 * PAGE, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, false);
		/* Each has its own end. */
		map(rig.inner_ioas, 70 * PAGE, PAGE, UINT64_C(1) << 39, RW);
		check_fault(&rig, 70 * PAGE, UIOMMU_READ, UIOMMU_FAULT_BEYOND, false);
		check_fault(&rig, UINT64_C(1) << 48, UIOMMU_READ, UIOMMU_FAULT_BEYOND, true);
		/* Taken away in front, then behind. */
		unmap(rig.inner_ioas, 5 * PAGE, PAGE);
		check_fault(&rig, 5 * PAGE, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
		unmap(rig.outer_ioas, MIB2, MIB2);
		check_fault(&rig, 64 * PAGE, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, false);
		rig_down(&rig);
	}
}

static void test_wall(void **state)
{
	struct rig rig;

	rig_up(&rig, 0, false, false);
	map(rig.outer_ioas, 0, PAGE, 5 * PAGE, RW);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, rig.wall), 0);
	check_fault(&rig, 0, UIOMMU_READ, UIOMMU_FAULT_NO_DOMAIN, false);
	attach(rig.outer, DEVICE);
	check_fault(&rig, 0, UIOMMU_READ, UIOMMU_FAULT_NO_DOMAIN, true);
	check_fault(&rig, 0, UIOMMU_WRITE, UIOMMU_FAULT_NO_DOMAIN, true);
	/* Bus mastering comes first. */
	uiommu_port_set_master(rig.port, false);
	check_fault(&rig, 0, UIOMMU_READ, UIOMMU_FAULT_BUS_MASTER, false);
	uiommu_port_set_master(rig.port, true);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, NULL), 0);
	check_at(&rig, 1, 5 * PAGE + 1);
	rig_down(&rig);
}

/* Where a violation cuts the requester off, one of stage 1's rules does not. */
static void test_cut_off(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct uiommu_unit_options uo = {.iotlb_entries = i ? 64 : UIOMMU_IOTLB_OFF,
						       .cut_off = true};
		struct uiommu_fault fault;
		struct rig rig;

		rig_up_unit(&rig, uo, false, false);
		attach(rig.outer, DEVICE);
		assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, rig.wall), 0);
		check_fault(&rig, 0, UIOMMU_READ, UIOMMU_FAULT_NO_DOMAIN, true);
		assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, rig.stage1), 0);
		check_fault(&rig, UINT64_C(1) << 50, UIOMMU_READ, UIOMMU_FAULT_BEYOND, true);
		check_fault(&rig, 0, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
		map(rig.inner_ioas, 0, PAGE, 5 * PAGE, UIOMMU_READ);
		map(rig.outer_ioas, 5 * PAGE, PAGE, 9 * PAGE, RW);
		check_at(&rig, 1, 9 * PAGE + 1);
		/* From the tables, or from the IOTLB. */
		check_fault(&rig, 0, UIOMMU_WRITE, UIOMMU_FAULT_WRITE_DENIED, true);
		uiommu_port_last_fault(rig.port, &fault);
		assert_false(fault.cut_off);
		check_at(&rig, 1, 9 * PAGE + 1);
		/* What the attachment's table refuses does. */
		unmap(rig.outer_ioas, 5 * PAGE, PAGE);
		check_fault(&rig, 0, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, false);
		uiommu_port_last_fault(rig.port, &fault);
		assert_true(fault.cut_off);
		check_fault(&rig, 0, UIOMMU_READ, UIOMMU_FAULT_CUT_OFF, false);
		rig_down(&rig);
	}
}

static uint64_t rung_address;

static int ring(void *ctx, uiommu_rid rid, uint64_t address, uint32_t data)
{
	rung_address = address;
	return rid == DEVICE && data == 0x55 ? 0 : -EINVAL;
}

static void check_rings(struct rig *rig, uint64_t iova)
{
	rung_address = 0;
	assert_int_equal(uiommu_port_interrupt(rig->port, iova, 0x55), 0);
	assert_int_equal(rung_address, 0x8090040);
}

/* Doorbells behind a stage 1 are reached in the ranges that pass, with a domain and with a wall;
 * memory is not, nor is a doorbell elsewhere. */
static void test_pass(void **state)
{
	static const uint32_t iotlbs[] = {0, 1, UIOMMU_IOTLB_OFF};
	static const struct uiommu_doorbell_window window = {
		.range = {0x8090000, 0x809ffff}, .write = ring, .translated = true};
	static const struct uiommu_range passes[] = {{40 * PAGE, 50 * PAGE - 1},
						     {10 * PAGE, 21 * PAGE - 1}};

	for (size_t i = 0; i < 6; i++) {
		const struct uiommu_unit_options uo = {.iotlb_entries = iotlbs[i / 2],
						       .windows = &window,
						       .window_count = 1,
						       .cut_off = true};
		/* In the second range, or behind it. */
		const uint64_t at = (i % 2 ? 21 : 20) * PAGE;
		const struct uiommu_doorbell_place place = {.range = {at, at + PAGE - 1},
							    .step = PAGE};
		struct uiommu_stage1_options so = {
			.size = sizeof(so), .pass = passes, .pass_count = 2, .fault = hear};
		struct uiommu_stage1 *stage1, *wall;
		struct uiommu_domain *behind;
		struct uiommu_ioas *ioas;
		uint64_t iova;
		struct rig rig;

		rig_up_unit(&rig, uo, false, false);
		behind = new_domain(rig.unit, &ioas, "arm-s1", 39, NULL);
		so.fault_ctx = &rig;
		assert_int_equal(uiommu_stage1_create(rig.unit, &so, &wall), 0);
		so.domain = rig.inner;
		assert_int_equal(uiommu_stage1_create(rig.unit, &so, &stage1), 0);
		attach(behind, DEVICE);
		map(ioas, 0, 20 * PAGE, 5 * MIB2, RW);
		map(rig.inner_ioas, 0, 10 * PAGE, 0, RW);
		map(rig.inner_ioas, 30 * PAGE, PAGE, at, RW);
		assert_int_equal(uiommu_ioas_place_doorbells(ioas, &place), 0);
		assert_int_equal(uiommu_ioas_map_doorbell(ioas, 0x8090000, "its", &iova), 1);
		assert_int_equal(iova, at);
		for (unsigned twice = 0; twice < 2; twice++) {
			assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, stage1), 0);
			check_at(&rig, 1, 5 * MIB2 + 1);
			if (i % 2)
				check_fault(&rig, at + 0x40, UIOMMU_WRITE, UIOMMU_FAULT_NOT_PRESENT,
					    true);
			else
				check_rings(&rig, at + 0x40);
			/* As ever, where the stage 1 itself leads to it. */
			check_rings(&rig, 30 * PAGE + 0x40);
			check_fault(&rig, 10 * PAGE, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
			check_fault(&rig, 45 * PAGE, UIOMMU_WRITE, UIOMMU_FAULT_NOT_PRESENT, true);
			assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, wall), 0);
			check_fault(&rig, 10 * PAGE, UIOMMU_READ, UIOMMU_FAULT_NO_DOMAIN, true);
			if (!(i % 2))
				check_rings(&rig, at + 0x40);
		}
		if (!(i % 2))
			check_fault(&rig, at, UIOMMU_READ, UIOMMU_FAULT_DOORBELL_READ, false);
		/* The doorbell gone, the place is like any other. */
		uiommu_ioas_unmap_doorbell(ioas, 0x8090000);
		check_fault(&rig, at + 0x40, UIOMMU_WRITE, UIOMMU_FAULT_NO_DOMAIN, true);
		uiommu_unit_set_stage1(rig.unit, DEVICE, NULL);
		uiommu_stage1_destroy(stage1);
		uiommu_stage1_destroy(wall);
		uiommu_domain_detach(behind, DEVICE);
		uiommu_domain_destroy(behind);
		uiommu_ioas_destroy(ioas);
		rig_down(&rig);
	}
}

/* Which attachment a stage 1 is in front of. */
static void test_holds(void **state)
{
	static const struct {
		bool nested, governed;
		char device, governor; /* attached to: o(uter), x: the other one, -: nothing */
		char way;	       /* s: through the stage 1, d(irect), f(ault) */
	} rows[] = {
		{false, false, 'o', '-', 's'}, {false, false, 'x', '-', 's'},
		{false, false, '-', '-', 'f'}, {true, false, 'o', '-', 's'},
		{true, false, 'x', '-', 'd'},  {true, false, '-', '-', 'f'},
		{false, true, 'o', 'o', 's'},  {false, true, 'o', 'x', 'd'},
		{false, true, 'o', '-', 'd'},  {false, true, 'x', 'x', 's'},
		{false, true, 'x', 'o', 'd'},  {false, true, '-', '-', 'f'},
		{true, true, 'o', 'o', 's'},   {true, true, 'x', 'x', 'd'},
		{true, true, 'o', 'x', 'd'},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig rig;
		uint64_t base;

		rig_up(&rig, 0, rows[i].nested, rows[i].governed);
		map(rig.outer_ioas, 0, PAGE, 100 * PAGE, RW);
		map(rig.outer_ioas, PAGE, PAGE, 200 * PAGE, RW);
		map(rig.other_ioas, 0, PAGE, 300 * PAGE, RW);
		map(rig.other_ioas, PAGE, PAGE, 400 * PAGE, RW);
		map(rig.inner_ioas, 0, PAGE, PAGE, RW);
		assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, rig.stage1), 0);
		if (rows[i].device != '-')
			attach(rows[i].device == 'o' ? rig.outer : rig.other, DEVICE);
		if (rows[i].governor != '-')
			attach(rows[i].governor == 'o' ? rig.outer : rig.other, GOVERNOR);
		base = rows[i].device == 'o' ? 100 * PAGE : 300 * PAGE;
		if (rows[i].way == 'f')
			check_fault(&rig, 3, UIOMMU_READ, UIOMMU_FAULT_NO_DOMAIN, false);
		else
			check_at(&rig, 3, base + (rows[i].way == 's' ? 100 * PAGE : 0) + 3);
		/* The governor leaves: what it had a say over is on its own. */
		uiommu_domain_detach(rig.outer, GOVERNOR);
		uiommu_domain_detach(rig.other, GOVERNOR);
		if (rows[i].governed && rows[i].device != '-')
			check_at(&rig, 3, base + 3);
		rig_down(&rig);
	}
}

static void test_refused(void **state)
{
	struct uiommu_domain_options dopt = {.size = sizeof(dopt), .format = "vtd-ss", .width = 48};
	static const struct uiommu_range passes[17] = {{PAGE, 0}};
	struct uiommu_stage1_options so = {.size = sizeof(so)};
	struct uiommu_domain *domain;
	struct uiommu_stage1 *stage1;
	struct rig rig, foreign;

	rig_up(&rig, 0, true, false);
	rig_up(&foreign, 0, false, false);
	so.pass = passes;
	so.pass_count = 1;
	assert_int_equal(uiommu_stage1_create(rig.unit, &so, &stage1), -EINVAL);
	so.pass = passes + 1;
	so.pass_count = 16;
	assert_int_equal(uiommu_stage1_create(rig.unit, &so, &stage1), 0);
	uiommu_stage1_destroy(stage1);
	so.pass = passes;
	so.pass_count = 17;
	assert_int_equal(uiommu_stage1_create(rig.unit, &so, &stage1), -EINVAL);
	so.pass_count = 0;
	dopt.parent = rig.inner;
	assert_int_equal(uiommu_domain_create(rig.unit, rig.other_ioas, &dopt, &domain), -EINVAL);
	dopt.parent = foreign.outer;
	assert_int_equal(uiommu_domain_create(rig.unit, rig.other_ioas, &dopt, &domain), -EINVAL);
	assert_int_equal(uiommu_domain_attach(rig.inner, DEVICE, NULL, 0, "test"), -EINVAL);
	/* Addresses that the parent does not translate. */
	assert_int_equal(uiommu_ioas_map(rig.inner_ioas, (struct uiommu_range){0, PAGE - 1},
					 UINT64_C(1) << 39, RW, NULL),
			 -EOVERFLOW);
	map(rig.inner_ioas, 0, PAGE, (UINT64_C(1) << 39) - PAGE, RW);
	so.domain = foreign.inner;
	assert_int_equal(uiommu_stage1_create(rig.unit, &so, &stage1), -EINVAL);
	so.size++;
	assert_int_equal(uiommu_stage1_create(rig.unit, &so, &stage1), -E2BIG);
	so.size = 8;
	assert_int_equal(uiommu_stage1_create(rig.unit, &so, &stage1), -EINVAL);
	assert_int_equal(uiommu_stage1_create(rig.unit, NULL, &stage1), -EINVAL);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, foreign.stage1), -EINVAL);
	rig_down(&foreign);
	rig_down(&rig);
}

static void test_no_memory(void **state)
{
	struct uiommu_stage1_options so = {
		.size = sizeof(so), .governed = true, .governor = 0x4200};
	struct uiommu_stage1 *stage1 = NULL;
	struct rig rig;
	long live;
	int ret;

	uiommu_set_allocator(failing_alloc, failing_release);
	rig_up(&rig, 0, false, false);
	for (long n = 0;; n++) {
		fail_countdown = n;
		ret = uiommu_stage1_create(rig.unit, &so, &stage1);
		fail_countdown = -1;
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_null(stage1);
		assert_true(n < 8);
	}
	live = fail_live;
	for (long n = 0;; n++) {
		fail_countdown = n;
		ret = uiommu_unit_set_stage1(rig.unit, 0x9900, stage1);
		fail_countdown = -1;
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_true(n < 4);
	}
	/* Where there is a slot nothing is needed. */
	live = fail_live;
	fail_countdown = 0;
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, 0x9900, NULL), 0);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, stage1), 0);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, NULL), 0);
	fail_countdown = -1;
	assert_int_equal(fail_live, live);
	uiommu_stage1_destroy(stage1);
	rig_down(&rig);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- model ---- */

#define SPACE 2048 /* pages of either stage */
#define NOT   UINT64_MAX

struct model {
	uint64_t addr[SPACE]; /* page number each page goes to, or NOT */
	int prot[SPACE];
	uint64_t first[SPACE], count[SPACE]; /* of the area it is in */
};

static void model_change(struct rng *rng, struct model *m, struct uiommu_ioas *ioas, uint64_t range)
{
	uint64_t n = rng_below(rng, 4) ? 1 + rng_below(rng, 5) : 512;
	uint64_t at = rng_below(rng, SPACE / n) * n;
	uint64_t to = rng_below(rng, range / n) * n + (n == 512 ? 0 : rng_below(rng, 3));
	int prot = rng_below(rng, 3) ? RW : 1 + (int)rng_below(rng, 2);

	if (m->addr[at] != NOT) {
		at = m->first[at];
		n = m->count[at];
		unmap(ioas, at * PAGE, n * PAGE);
		for (uint64_t i = at; i < at + n; i++)
			m->addr[i] = NOT;
		return;
	}
	for (uint64_t i = at; i < at + n; i++)
		if (m->addr[i] != NOT)
			return;
	map(ioas, at * PAGE, n * PAGE, to * PAGE, prot);
	for (uint64_t i = at; i < at + n; i++) {
		m->addr[i] = to + (i - at);
		m->prot[i] = prot;
		m->first[i] = at;
		m->count[i] = n;
	}
}

static void model_clear(struct model *m)
{
	for (unsigned i = 0; i < SPACE; i++)
		m->addr[i] = NOT;
}

/* A read of one byte: what the two lists say, and what the device gets. */
static void model_access(struct rng *rng, struct rig *rig, const struct model *inner,
			 const struct model *outer, char way)
{
	uint64_t page = rng_below(rng, SPACE), offset = rng_below(rng, PAGE), mid = page;
	uint64_t iova = page * PAGE + offset;

	if (way == 'w') {
		check_fault(rig, iova, UIOMMU_READ, UIOMMU_FAULT_NO_DOMAIN, true);
		return;
	}
	if (way == 's') {
		mid = inner->addr[page];
		if (mid == NOT) {
			check_fault(rig, iova, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, true);
			return;
		}
	}
	if (way == 's' && !(inner->prot[page] & UIOMMU_READ)) {
		check_fault(rig, iova, UIOMMU_READ, UIOMMU_FAULT_READ_DENIED, true);
	} else if (mid >= SPACE || outer->addr[mid] == NOT) {
		check_fault(rig, iova, UIOMMU_READ, UIOMMU_FAULT_NOT_PRESENT, false);
	} else if (!(outer->prot[mid] & UIOMMU_READ)) {
		check_fault(rig, iova, UIOMMU_READ, UIOMMU_FAULT_READ_DENIED, false);
	} else {
		check_at(rig, iova, outer->addr[mid] * PAGE + offset);
	}
}

static void test_model(void **state)
{
	static const uint32_t iotlbs[] = {64, 4, UIOMMU_IOTLB_OFF};
	static struct model inner, outer;
	struct rng rng = rng_seeded("stage1 model");
	uint64_t steps = test_steps(12000);

	for (size_t t = 0; t < 3; t++) {
		struct rig rig;
		char way = 'd';

		rig_up(&rig, iotlbs[t], t == 1, t == 2);
		attach(rig.outer, DEVICE);
		attach(rig.outer, GOVERNOR);
		model_clear(&inner);
		model_clear(&outer);
		for (uint64_t step = 0; step < steps; step++) {
			uint64_t what = rng_below(&rng, 64);

			if (what == 0) {
				way = "dws"[rng_below(&rng, 3)];
				uiommu_unit_set_stage1(rig.unit, DEVICE,
						       way == 's'   ? rig.stage1
						       : way == 'w' ? rig.wall
								    : NULL);
			} else if (what < 10) {
				model_change(&rng, &inner, rig.inner_ioas, SPACE);
			} else if (what < 20) {
				model_change(&rng, &outer, rig.outer_ioas, SPACE);
			} else {
				model_access(&rng, &rig, &inner, &outer, way);
			}
		}
		rig_down(&rig);
	}
}

/* ---- race ---- */

enum { WINDOW = 16, DEVICES = 3, LANE = 1024 };

static struct {
	char *memory;
	_Atomic bool stop;
	_Atomic unsigned running;
	struct rig rig;
	struct uiommu_ioas *inner_ioas;
	struct uiommu_domain *inner;
	struct uiommu_stage1 *stage1, *wall;
	_Atomic unsigned long told;
} race;

/* Pages lie far apart, so that tables come and go with them. */
static uint64_t race_iova(uint64_t page)
{
	return page * ((UINT64_C(1) << 30) + PAGE);
}

static uint64_t race_between(uint64_t page)
{
	return (UINT64_C(1) << 38) + page * (MIB2 + PAGE);
}

static void race_told(void *ctx, const struct uiommu_fault *fault)
{
	race.told++;
}

static void *race_device(void *arg)
{
	uint16_t rid = (uint16_t)(uintptr_t)arg;
	struct rng rng = {.state = rid};
	struct uiommu_port *port;
	unsigned long hits = 0;
	char buf[LANE];

	if (uiommu_port_create(race.rig.unit, rid, &port))
		abort();
	uiommu_port_set_master(port, true);
	memset(buf, 0xdd, sizeof(buf));
	while (!race.stop) {
		uint64_t iova = race_iova(rng_below(&rng, WINDOW)) + rid * LANE;
		size_t len = 24 + rng_below(&rng, LANE - 24);

		if (hits == 1)
			race.running++;
		if (rng_below(&rng, 2))
			hits += !uiommu_port_write(port, iova, buf, len);
		else
			hits += !uiommu_port_read(port, iova, (char[LANE]){0}, len);
	}
	uiommu_port_destroy(port);
	return (void *)hits;
}

static void check_quiet(uint64_t first, uint64_t n, char mark)
{
	uint64_t changed = 0;

	memset(race.memory + first * PAGE, mark, n * PAGE);
	sched_yield();
	for (uint64_t i = 0; i < n * PAGE; i++)
		changed += race.memory[first * PAGE + i] != mark;
	assert_int_equal(changed, 0);
}

static void race_map(bool outer, uint64_t page)
{
	if (outer)
		map(race.rig.outer_ioas, race_between(page), PAGE,
		    (uintptr_t)race.memory + page * PAGE, RW);
	else
		map(race.inner_ioas, race_iova(page), PAGE, race_between(page), RW);
}

/* Take a few pages away in one of the stages: from then on nothing reaches them. */
static void race_unmap(struct rng *rng, uint64_t round)
{
	uint64_t first = rng_below(rng, WINDOW), n = 1 + rng_below(rng, 4);
	bool outer = rng_below(rng, 2);
	uint64_t (*where)(uint64_t) = outer ? race_between : race_iova;

	if (first + n > WINDOW)
		n = WINDOW - first;
	unmap(outer ? race.rig.outer_ioas : race.inner_ioas, where(first),
	      where(first + n - 1) + PAGE - where(first));
	check_quiet(first, n, (char)(round | 1));
	for (uint64_t i = first; i < first + n; i++)
		race_map(outer, i);
}

static void race_switch(uint64_t round)
{
	uint64_t i;

	for (i = 0; i < DEVICES; i++)
		if (round & 64)
			uiommu_unit_set_stage1(race.rig.unit, i, race.wall);
		else
			uiommu_domain_detach(race.rig.outer, i);
	check_quiet(0, WINDOW, (char)(round | 1));
	for (i = 0; i < DEVICES; i++)
		if (round & 64)
			uiommu_unit_set_stage1(race.rig.unit, i, race.stage1);
		else
			attach(race.rig.outer, i);
}

/* The governor moves away: the stage 1 no longer holds, and nothing is mapped at its IOVAs behind
 * it; then it comes back. */
static void race_govern(uint64_t round)
{
	uiommu_domain_detach(race.rig.outer, GOVERNOR);
	check_quiet(0, WINDOW, (char)(round | 1));
	attach(race.rig.outer, GOVERNOR);
}

static void test_race(void **state)
{
	struct uiommu_unit_options uo = {.size = sizeof(uo), .iotlb_entries = 16};
	struct uiommu_stage1_options so = {
		.size = sizeof(so), .governed = true, .governor = GOVERNOR, .fault = race_told};
	struct rng rng = rng_seeded("stage1 race");
	uint64_t rounds = test_steps(600);
	pthread_t thread[DEVICES];

	race.memory = aligned_alloc(PAGE, WINDOW * PAGE);
	assert_int_equal(uiommu_unit_create(&uo, &race.rig.unit), 0);
	race.rig.outer = new_domain(race.rig.unit, &race.rig.outer_ioas, "vtd-ss", 48, NULL);
	race.inner = new_domain(race.rig.unit, &race.inner_ioas, "vtd-ss", 48, race.rig.outer);
	assert_int_equal(uiommu_stage1_create(race.rig.unit, &so, &race.wall), 0);
	so.domain = race.inner;
	assert_int_equal(uiommu_stage1_create(race.rig.unit, &so, &race.stage1), 0);
	attach(race.rig.outer, GOVERNOR);
	for (uint64_t i = 0; i < WINDOW; i++) {
		race_map(true, i);
		race_map(false, i);
	}
	for (uintptr_t i = 0; i < DEVICES; i++) {
		assert_int_equal(uiommu_unit_set_stage1(race.rig.unit, i, race.stage1), 0);
		attach(race.rig.outer, i);
		pthread_create(&thread[i], NULL, race_device, (void *)i);
	}
	while (race.running < DEVICES)
		sched_yield();
	for (uint64_t round = 0; round < rounds; round++) {
		race_unmap(&rng, round);
		if (round % 64 == 0)
			race_switch(round);
		if (round % 64 == 32)
			race_govern(round);
	}
	race.stop = true;
	for (unsigned i = 0; i < DEVICES; i++) {
		void *hits;

		pthread_join(thread[i], &hits);
		assert_true((unsigned long)hits > 0);
		uiommu_unit_set_stage1(race.rig.unit, i, NULL);
		uiommu_domain_detach(race.rig.outer, i);
	}
	assert_true(race.told > 0);
	uiommu_domain_detach(race.rig.outer, GOVERNOR);
	uiommu_stage1_destroy(race.stage1);
	uiommu_stage1_destroy(race.wall);
	uiommu_domain_destroy(race.inner);
	uiommu_ioas_destroy(race.inner_ioas);
	uiommu_domain_destroy(race.rig.outer);
	uiommu_ioas_destroy(race.rig.outer_ioas);
	uiommu_unit_destroy(race.rig.unit);
	free(race.memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compose), cmocka_unit_test(test_wall),
		cmocka_unit_test(test_holds),	cmocka_unit_test(test_refused),
		cmocka_unit_test(test_model),	cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_race),	cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_pass),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
