/* SPDX-License-Identifier: MIT */
/*
 * Translations for who makes his accesses himself: whatever takes something away, or puts something
 * in front, is seen by the next of them, and waits for those under way.
 */
#include "translate_rig.h"

#include <pthread.h>

/* ---- what takes something away ---- */

static void test_seen_at_once(void **state)
{
	struct uiommu_stage1 *wall;
	struct rig rig;

	rig_up(&rig, "vtd-ss", 48, NO_WINDOW, false);
	wall = uiommu_unit_wall(rig.unit);
	map(&rig, 0x1000, PAGE, 0x10000, RW);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
	uiommu_port_set_master(rig.port, false);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_BUS_MASTER);
	uiommu_port_set_master(rig.port, true);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
	uiommu_domain_enable(rig.domain, false);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NO_DOMAIN);
	uiommu_domain_enable(rig.domain, true);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, wall), 0);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, NULL), 0);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
	uiommu_domain_detach(rig.domain, DEVICE);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(uiommu_domain_attach(rig.domain, DEVICE, NULL, 0, "device"), 0);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
	unmap(&rig, 0x1000, PAGE);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NOT_PRESENT);
	rig_down(&rig);
}

/* One port's violation cuts off the others of its requester ID. */
static void test_cut_off(void **state)
{
	struct uiommu_port *first;
	struct rig rig;

	rig_up(&rig, "vtd-ss", 48, NO_WINDOW, true);
	map(&rig, 0x1000, PAGE, 0x10000, RW);
	first = rig.port;
	assert_int_equal(uiommu_port_create(rig.unit, DEVICE, &rig.port), 0);
	uiommu_port_set_master(rig.port, true);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
	assert_int_equal(uiommu_port_write(first, 0x7000, "x", 1), -EFAULT);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_CUT_OFF);
	uiommu_port_destroy(first);
	rig_down(&rig);
}

/* A stage 1 that its governor's being cut off has disarmed holds again when that is over. */
static void test_governed_again(void **state)
{
	enum { GOVERNOR = 9 };
	struct uiommu_stage1_options so = {
		.size = sizeof(so), .governed = true, .governor = GOVERNOR};
	struct uiommu_stage1 *wall;
	struct uiommu_port *other;
	struct rig rig;

	rig_up(&rig, "vtd-ss", 48, NO_WINDOW, true);
	map(&rig, 0x1000, PAGE, 0x10000, RW);
	assert_int_equal(uiommu_domain_attach(rig.domain, GOVERNOR, NULL, 0, "governor"), 0);
	assert_int_equal(uiommu_port_create(rig.unit, GOVERNOR, &other), 0);
	uiommu_port_set_master(other, true);
	assert_int_equal(uiommu_stage1_create(rig.unit, &so, &wall), 0);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, wall), 0);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(uiommu_port_write(other, 0x7000, "x", 1), -EFAULT);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
	uiommu_domain_enable(rig.domain, true);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NO_DOMAIN);
	uiommu_domain_detach(rig.domain, GOVERNOR);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
	assert_int_equal(uiommu_domain_attach(rig.domain, GOVERNOR, NULL, 0, "governor"), 0);
	assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(uiommu_unit_set_stage1(rig.unit, DEVICE, NULL), 0);
	uiommu_domain_detach(rig.domain, GOVERNOR);
	uiommu_stage1_destroy(wall);
	uiommu_port_destroy(other);
	rig_down(&rig);
}

/* ---- with a stage 1 in front ---- */

struct inner {
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	struct uiommu_stage1 *stage1;
};

static void inner_up(struct rig *rig, struct inner *inner, const struct uiommu_range *pass)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "arm-s1", .width = 48};
	struct uiommu_stage1_options so = {
		.size = sizeof(so), .pass = pass, .pass_count = pass != NULL};

	assert_int_equal(uiommu_ioas_create(&inner->ioas), 0);
	assert_int_equal(uiommu_domain_create(rig->unit, inner->ioas, &options, &inner->domain), 0);
	so.domain = inner->domain;
	assert_int_equal(uiommu_stage1_create(rig->unit, &so, &inner->stage1), 0);
	assert_int_equal(uiommu_unit_set_stage1(rig->unit, DEVICE, inner->stage1), 0);
}

static void inner_down(struct rig *rig, struct inner *inner)
{
	assert_int_equal(uiommu_unit_set_stage1(rig->unit, DEVICE, NULL), 0);
	uiommu_stage1_destroy(inner->stage1);
	uiommu_domain_destroy(inner->domain);
	uiommu_ioas_destroy(inner->ioas);
}

/* Each page is another place in either stage and through both. */
static void test_two_stages(void **state)
{
	enum { COUNT = 8 };
	struct uiommu_translation t[COUNT];
	struct uiommu_fault fault;
	struct inner inner;
	struct rig rig;
	uint64_t addr;

	rig_up(&rig, "arm-s1", 48, NO_WINDOW, false);
	map(&rig, PAGE, 2 * COUNT * PAGE, LARGE + PAGE, RW);
	assert_int_equal(one(&rig, 2 * PAGE, 8, UIOMMU_READ, &addr), 8);
	inner_up(&rig, &inner, NULL);
	for (uint64_t i = 1; i <= COUNT; i++)
		assert_int_equal(uiommu_ioas_map(inner.ioas, range(i * PAGE, PAGE),
						 (2 * COUNT - i) * PAGE, RW, NULL),
				 0);
	for (unsigned again = 0; again < 3; again++)
		for (uint64_t i = 1; i <= COUNT; i++) {
			assert_int_equal(one(&rig, i * PAGE + 5, 8, UIOMMU_WRITE, &addr), 8);
			assert_int_equal(addr, LARGE + (2 * COUNT - i) * PAGE + 5);
			t[i - 1] = (struct uiommu_translation){.iova = i * PAGE, .len = 8};
		}
	uiommu_port_enter(rig.port);
	assert_int_equal(uiommu_port_translate_many(rig.port, UIOMMU_READ, t, COUNT), COUNT);
	uiommu_port_leave(rig.port);
	for (uint64_t i = 1; i <= COUNT; i++)
		assert_int_equal(t[i - 1].addr, LARGE + (2 * COUNT - i) * PAGE);
	/* Both permissions are needed of both stages. */
	map(&rig, 40 * PAGE, PAGE, 0x70000, UIOMMU_READ);
	assert_int_equal(uiommu_ioas_map(inner.ioas, range(20 * PAGE, PAGE), 40 * PAGE, RW, NULL),
			 0);
	assert_int_equal(
		uiommu_ioas_map(inner.ioas, range(21 * PAGE, PAGE), 2 * PAGE, UIOMMU_READ, NULL),
		0);
	for (uint64_t at = 20 * PAGE; at <= 21 * PAGE; at += PAGE) {
		assert_int_equal(one(&rig, at, 8, RW, &addr), -EFAULT);
		uiommu_port_last_fault(rig.port, &fault);
		assert_int_equal(fault.reason, UIOMMU_FAULT_WRITE_DENIED);
		assert_int_equal(fault.stage1, at == 21 * PAGE);
		assert_int_equal(one(&rig, at, 8, UIOMMU_READ, &addr), 8);
		assert_int_equal(one(&rig, at, 8, RW, &addr), -EFAULT);
	}
	unmap(&rig, 40 * PAGE, PAGE);
	/* Mapped behind, but not in front. */
	assert_int_equal(one(&rig, 12 * PAGE, 8, UIOMMU_READ, &addr), -EFAULT);
	assert_int_equal(uiommu_ioas_unmap(inner.ioas, range(3 * PAGE, PAGE), NULL, NULL, NULL), 0);
	assert_int_equal(one(&rig, 3 * PAGE, 8, UIOMMU_READ, &addr), -EFAULT);
	assert_int_equal(one(&rig, 4 * PAGE, 8, UIOMMU_READ, &addr), 8);
	unmap(&rig, PAGE, 2 * COUNT * PAGE);
	assert_int_equal(one(&rig, 4 * PAGE, 8, UIOMMU_READ, &addr), -EFAULT);
	inner_down(&rig, &inner);
	rig_down(&rig);
}

/* A doorbell behind that passes comes before what the stage 1 translates there, whenever it comes.
 */
static void test_pass_comes(void **state)
{
	const struct uiommu_range pass = range(0x1000, PAGE);
	struct inner inner;
	struct rig rig;

	rig_up(&rig, "arm-s1", 48, NO_WINDOW, false);
	inner_up(&rig, &inner, &pass);
	map(&rig, 0x5000, PAGE, 0x50000, RW);
	assert_int_equal(uiommu_ioas_map(inner.ioas, pass, 0x5000, RW, NULL), 0);
	for (unsigned again = 0; again < 3; again++)
		assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
	map(&rig, 0x1000, PAGE, 0x8090000, UIOMMU_WRITE | UIOMMU_MMIO);
	for (unsigned again = 0; again < 3; again++)
		assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_DOORBELL_READ);
	inner_down(&rig, &inner);
	rig_down(&rig);
}

/* ---- who takes something away waits ---- */

struct taking {
	void (*take)(struct rig *rig);
	void (*give)(struct rig *rig); /* as it was */
	struct rig *rig;
	_Atomic bool done;
};

static void take_mapping(struct rig *rig)
{
	unmap(rig, 0x1000, PAGE);
}

static void give_mapping(struct rig *rig)
{
	map(rig, 0x1000, PAGE, 0x10000, RW);
}

static void take_attachment(struct rig *rig)
{
	uiommu_domain_detach(rig->domain, DEVICE);
}

static void give_attachment(struct rig *rig)
{
	assert_int_equal(uiommu_domain_attach(rig->domain, DEVICE, NULL, 0, "device"), 0);
}

static void take_domain(struct rig *rig)
{
	uiommu_domain_enable(rig->domain, false);
}

static void give_domain(struct rig *rig)
{
	uiommu_domain_enable(rig->domain, true);
}

static void take_master(struct rig *rig)
{
	uiommu_port_set_master(rig->port, false);
}

static void give_master(struct rig *rig)
{
	uiommu_port_set_master(rig->port, true);
}

static void put_wall(struct rig *rig)
{
	assert_int_equal(uiommu_unit_set_stage1(rig->unit, DEVICE, uiommu_unit_wall(rig->unit)), 0);
}

static void drop_wall(struct rig *rig)
{
	assert_int_equal(uiommu_unit_set_stage1(rig->unit, DEVICE, NULL), 0);
}

static void *take_and_tell(void *arg)
{
	struct taking *taking = arg;

	taking->take(taking->rig);
	taking->done = true;
	return NULL;
}

/* Inside a section: somebody takes it away, and is not done before the section is left. What was
 * found in it holds until then, and a section that was entered afterwards keeps nobody waiting. */
static void check_waits(struct taking *taking)
{
	const struct timespec pause = {.tv_nsec = 3000000};
	struct uiommu_port *port = taking->rig->port;
	pthread_t thread;
	bool gone = false;
	uint64_t addr;

	uiommu_port_enter(port);
	assert_int_equal(uiommu_port_translate_one(port, 0x1000, 8, UIOMMU_WRITE, &addr), 8);
	assert_int_equal(pthread_create(&thread, NULL, take_and_tell, taking), 0);
	/* Seen from inside, it has been taken away, and yet it is waited for. */
	for (unsigned i = 0; i < 1000 && !gone; i++) {
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		gone = uiommu_port_translate_one(port, 0x1000, 8, UIOMMU_WRITE, &addr) != 8;
	}
	clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	assert_true(gone);
	assert_false(taking->done);
	uiommu_port_leave(port);
	assert_int_equal(pthread_join(thread, NULL), 0);
	uiommu_port_enter(port);
	assert_int_equal(uiommu_port_translate_one(port, 0x1000, 8, UIOMMU_WRITE, &addr), -EFAULT);
	uiommu_port_leave(port);
	taking->give(taking->rig);
}

static void test_waits(void **state)
{
	struct rig rig;
	struct taking takings[] = {{take_mapping, give_mapping, &rig},
				   {take_attachment, give_attachment, &rig},
				   {take_domain, give_domain, &rig},
				   {take_master, give_master, &rig},
				   {put_wall, drop_wall, &rig}};

	rig_up(&rig, "vtd-ss", 48, NO_WINDOW, false);
	give_mapping(&rig);
	for (size_t i = 0; i < sizeof(takings) / sizeof(takings[0]); i++)
		check_waits(&takings[i]);
	rig_down(&rig);
}

/* Requests with a PASID meet no window: what they have learnt must not lead past it. */
static void test_pasid_and_window(void **state)
{
	const uint64_t msi = UINT64_C(0xfee00000);
	struct rig rig;

	rig_up(&rig, "vtd-ss", 48, range(msi, 0x100000), false);
	map(&rig, msi, LARGE, 0x40000000, RW);
	assert_int_equal(uiommu_domain_attach_pasid(rig.domain, DEVICE, 5, NULL, 0, "device"), 0);
	assert_int_equal(reason(&rig, msi), UIOMMU_FAULT_DOORBELL_READ);
	assert_int_equal(uiommu_port_set_pasid(rig.port, 5), 0);
	assert_int_equal(reason(&rig, msi), UIOMMU_FAULT_NONE);
	assert_int_equal(uiommu_port_set_pasid(rig.port, UIOMMU_NO_PASID), 0);
	/* Before the port has looked, and after. */
	for (unsigned again = 0; again < 2; again++) {
		assert_int_equal(reason(&rig, msi), UIOMMU_FAULT_DOORBELL_READ);
		assert_int_equal(reason(&rig, msi + 0x100000), UIOMMU_FAULT_NONE);
	}
	uiommu_domain_detach_pasid(rig.domain, DEVICE, 5);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seen_at_once),	 cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_governed_again),	 cmocka_unit_test(test_two_stages),
		cmocka_unit_test(test_pass_comes),	 cmocka_unit_test(test_waits),
		cmocka_unit_test(test_pasid_and_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
