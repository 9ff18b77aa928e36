/* SPDX-License-Identifier: MIT */
/*
 * What a requester ID's transactions with a PASID are attached to: each by itself, apart from those
 * without; faults, stage 1, windows and what failing allocations leave; devices that race with
 * unmap, moves and detach under one PASID while they use another.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <uiommu/space.h>

#define PAGE UINT64_C(4096)
#define RW   (UIOMMU_READ | UIOMMU_WRITE)
#define MSI  UINT64_C(0xfee00000)

enum { DEVICE = 0x10, SPACES = 3 };

struct rig {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas[SPACES];
	struct uiommu_domain *domain[SPACES];
	uint8_t *page[SPACES]; /* mapped at PAGE, in each space its own */
	unsigned interrupts;
};

static int take_interrupt(void *ctx, uiommu_rid rid, uint64_t address, uint32_t data)
{
	((struct rig *)ctx)->interrupts++;
	return 0;
}

static void rig_up(struct rig *rig)
{
	const struct uiommu_doorbell_window window = {
		.range = {MSI, MSI + 0xfffff}, .write = take_interrupt, .ctx = rig};
	const struct uiommu_unit_options uo = {
		.size = sizeof(uo), .windows = &window, .window_count = 1};
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 39};

	*rig = (struct rig){0};
	assert_int_equal(uiommu_unit_create(&uo, &rig->unit), 0);
	for (unsigned i = 0; i < SPACES; i++) {
		assert_int_equal(uiommu_ioas_create(&rig->ioas[i]), 0);
		assert_int_equal(
			uiommu_domain_create(rig->unit, rig->ioas[i], &options, &rig->domain[i]),
			0);
		assert_int_equal(posix_memalign((void **)&rig->page[i], PAGE, PAGE), 0);
		memset(rig->page[i], 'a' + (int)i, PAGE);
		assert_int_equal(uiommu_ioas_map(rig->ioas[i],
						 (struct uiommu_range){PAGE, 2 * PAGE - 1},
						 (uintptr_t)rig->page[i], RW, NULL),
				 0);
	}
}

static void rig_down(struct rig *rig)
{
	for (unsigned i = 0; i < SPACES; i++) {
		uiommu_domain_destroy(rig->domain[i]);
		uiommu_ioas_destroy(rig->ioas[i]);
		free(rig->page[i]);
	}
	uiommu_unit_destroy(rig->unit);
}

static int attach(struct rig *rig, unsigned space, uint32_t pasid)
{
	return uiommu_domain_attach_pasid(rig->domain[space], DEVICE, pasid, NULL, 0, "device");
}

static struct uiommu_port *new_port(struct rig *rig, uint32_t pasid)
{
	struct uiommu_port *port;

	assert_int_equal(uiommu_port_create_pasid(rig->unit, DEVICE, pasid, &port), 0);
	uiommu_port_set_master(port, true);
	return port;
}

/* The first byte of the page, or the reason why it can't be had, negative. */
static int reads(struct uiommu_port *port)
{
	struct uiommu_fault fault;
	uint8_t byte;

	if (!uiommu_port_read(port, PAGE, &byte, 1))
		return byte;
	uiommu_port_last_fault(port, &fault);
	assert_int_equal(fault.rid, DEVICE);
	return -(int)fault.reason;
}

static void test_apart(void **state)
{
	struct uiommu_port *plain, *five, *nine, *largest;
	struct uiommu_fault fault;
	struct rig rig;

	rig_up(&rig);
	plain = new_port(&rig, UIOMMU_NO_PASID);
	five = new_port(&rig, 5);
	nine = new_port(&rig, 9);
	largest = new_port(&rig, UIOMMU_PASID_MAX);
	assert_int_equal(attach(&rig, 0, UIOMMU_NO_PASID), 0);
	assert_int_equal(reads(plain), 'a');
	assert_int_equal(reads(five), -UIOMMU_FAULT_NO_DOMAIN);
	uiommu_port_last_fault(five, &fault);
	assert_int_equal(fault.pasid, 5);
	assert_int_equal(attach(&rig, 1, 5), 0);
	assert_int_equal(attach(&rig, 2, UIOMMU_PASID_MAX), 0);
	assert_int_equal(reads(plain), 'a');
	assert_int_equal(reads(five), 'b');
	assert_int_equal(reads(nine), -UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(reads(largest), 'c');
	/* A move of one, and its end. */
	assert_int_equal(attach(&rig, 2, 5), 0);
	assert_int_equal(reads(five), 'c');
	assert_int_equal(reads(plain), 'a');
	uiommu_domain_detach_pasid(rig.domain[1], DEVICE, 5);
	assert_int_equal(reads(five), 'c');
	uiommu_domain_detach_pasid(rig.domain[2], DEVICE, 5);
	assert_int_equal(reads(five), -UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(reads(largest), 'c');
	uiommu_domain_detach(rig.domain[0], DEVICE);
	assert_int_equal(reads(plain), -UIOMMU_FAULT_NO_DOMAIN);
	uiommu_port_last_fault(plain, &fault);
	assert_int_equal(fault.pasid, UIOMMU_NO_PASID);
	assert_int_equal(reads(largest), 'c');
	/* Disabled and enabled under a PASID too. */
	uiommu_domain_enable(rig.domain[2], false);
	assert_int_equal(reads(largest), -UIOMMU_FAULT_NO_DOMAIN);
	uiommu_domain_enable(rig.domain[2], true);
	assert_int_equal(reads(largest), 'c');
	uiommu_domain_detach_pasid(rig.domain[2], DEVICE, UIOMMU_PASID_MAX);
	uiommu_port_destroy(plain);
	uiommu_port_destroy(five);
	uiommu_port_destroy(nine);
	uiommu_port_destroy(largest);
	rig_down(&rig);
}

static void test_arguments(void **state)
{
	struct uiommu_port *port, *none = NULL;
	struct rig rig;

	rig_up(&rig);
	port = new_port(&rig, 1);
	assert_int_equal(attach(&rig, 0, UIOMMU_PASID_MAX + 1), -EINVAL);
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_ARGUMENT);
	assert_int_equal(uiommu_port_create_pasid(rig.unit, DEVICE, UINT32_MAX, &none), -EINVAL);
	assert_int_equal(uiommu_port_set_pasid(port, UIOMMU_PASID_MAX + 1), -EINVAL);
	assert_int_equal(uiommu_unit_set_stage1_pasid(rig.unit, DEVICE, UINT32_MAX, NULL), -EINVAL);
	uiommu_domain_detach_pasid(rig.domain[0], DEVICE, UINT32_MAX);
	assert_int_equal(attach(&rig, 0, 1), 0);
	assert_int_equal(reads(port), 'a');
	uiommu_domain_detach_pasid(rig.domain[0], DEVICE, 1);
	uiommu_port_destroy(port);
	rig_down(&rig);
}

/* One port that goes from PASID to PASID, with what it has cached. */
static void test_change(void **state)
{
	struct uiommu_port *port;
	struct rig rig;

	rig_up(&rig);
	port = new_port(&rig, UIOMMU_NO_PASID);
	for (unsigned i = 0; i < SPACES; i++)
		assert_int_equal(attach(&rig, i, i), 0);
	for (unsigned round = 0; round < 10; round++) {
		uint32_t pasid = round * 7 % SPACES;

		assert_int_equal(uiommu_port_set_pasid(port, pasid), 0);
		assert_int_equal(reads(port), 'a' + (int)pasid);
	}
	assert_int_equal(uiommu_port_set_pasid(port, SPACES), 0);
	assert_int_equal(reads(port), -UIOMMU_FAULT_NO_DOMAIN);
	/* What was unmapped while it was elsewhere is not in its IOTLB any more. */
	assert_int_equal(uiommu_port_set_pasid(port, 1), 0);
	assert_int_equal(reads(port), 'b');
	assert_int_equal(uiommu_port_set_pasid(port, 2), 0);
	assert_true(uiommu_ioas_unmap(rig.ioas[1], (struct uiommu_range){0, UINT64_MAX},
				      &(uint64_t){0}, NULL, NULL) == 0);
	assert_int_equal(uiommu_port_set_pasid(port, 1), 0);
	assert_int_equal(reads(port), -UIOMMU_FAULT_NOT_PRESENT);
	for (unsigned i = 0; i < SPACES; i++)
		uiommu_domain_detach_pasid(rig.domain[i], DEVICE, i);
	uiommu_port_destroy(port);
	rig_down(&rig);
}

/* An untranslated window is no doorbell to what carries a PASID. */
static void test_windows(void **state)
{
	const struct uiommu_resv_region region = {{MSI, MSI + 0xfffff}, UIOMMU_RESV_MSI, 0};
	struct uiommu_port *port;
	uint32_t data = 7;
	struct rig rig;

	rig_up(&rig);
	port = new_port(&rig, UIOMMU_NO_PASID);
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], (struct uiommu_range){MSI, MSI + PAGE - 1},
					 (uintptr_t)rig.page[1], RW, NULL),
			 0);
	/* Regions are reserved for whoever says so, be it for a PASID. */
	assert_int_equal(uiommu_domain_attach_pasid(rig.domain[1], DEVICE, 3, &region, 1, "device"),
			 -EADDRINUSE);
	assert_int_equal(attach(&rig, 1, UIOMMU_NO_PASID), 0);
	assert_int_equal(attach(&rig, 1, 3), 0);
	assert_int_equal(uiommu_port_write(port, MSI, &data, 4), 0);
	assert_int_equal(rig.interrupts, 1);
	assert_int_equal(uiommu_port_set_pasid(port, 3), 0);
	assert_int_equal(uiommu_port_write(port, MSI, &data, 4), 0);
	assert_int_equal(rig.interrupts, 1);
	assert_int_equal(rig.page[1][0], 7);
	assert_int_equal(uiommu_port_set_pasid(port, UIOMMU_NO_PASID), 0);
	assert_int_equal(uiommu_port_write(port, MSI, &data, 4), 0);
	assert_int_equal(rig.interrupts, 2);
	uiommu_domain_detach(rig.domain[1], DEVICE);
	uiommu_domain_detach_pasid(rig.domain[1], DEVICE, 3);
	uiommu_port_destroy(port);
	rig_down(&rig);
}

/* A stage 1 stands in front of one PASID only, and may be set before there is anything behind. */
static void test_stage1(void **state)
{
	struct uiommu_stage1_options options = {.size = sizeof(options)};
	struct uiommu_port *plain, *port;
	struct uiommu_stage1 *wall;
	struct rig rig;

	rig_up(&rig);
	assert_int_equal(uiommu_stage1_create(rig.unit, &options, &wall), 0);
	assert_int_equal(uiommu_unit_set_stage1_pasid(rig.unit, DEVICE, 4, wall), 0);
	plain = new_port(&rig, UIOMMU_NO_PASID);
	port = new_port(&rig, 4);
	assert_int_equal(attach(&rig, 0, UIOMMU_NO_PASID), 0);
	assert_int_equal(attach(&rig, 1, 4), 0);
	assert_int_equal(reads(plain), 'a');
	assert_int_equal(reads(port), -UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(uiommu_unit_set_stage1_pasid(rig.unit, DEVICE, 4, NULL), 0);
	assert_int_equal(reads(port), 'b');
	uiommu_domain_detach(rig.domain[0], DEVICE);
	uiommu_domain_detach_pasid(rig.domain[1], DEVICE, 4);
	uiommu_port_destroy(plain);
	uiommu_port_destroy(port);
	uiommu_stage1_destroy(wall);
	rig_down(&rig);
}

/* What was of a PASID goes with it: there are a million for each requester. */
static void test_nothing_stays(void **state)
{
	struct uiommu_stage1_options options = {.size = sizeof(options)};
	struct uiommu_stage1 *wall;
	struct uiommu_port *port;
	struct rig rig;
	long before;

	uiommu_set_allocator(failing_alloc, failing_release);
	rig_up(&rig);
	assert_int_equal(uiommu_stage1_create(rig.unit, &options, &wall), 0);
	port = new_port(&rig, UIOMMU_NO_PASID);
	assert_int_equal(attach(&rig, 0, 1), 0);
	uiommu_domain_detach_pasid(rig.domain[0], DEVICE, 1);
	before = fail_live_bytes;
	for (uint32_t pasid = 1; pasid < 3000; pasid++) {
		assert_int_equal(attach(&rig, pasid % SPACES, pasid), 0);
		assert_int_equal(uiommu_port_set_pasid(port, pasid), 0);
		assert_int_equal(uiommu_unit_set_stage1_pasid(rig.unit, DEVICE, pasid, wall), 0);
		if (pasid % 2)
			uiommu_domain_detach_pasid(rig.domain[pasid % SPACES], DEVICE, pasid);
		assert_int_equal(uiommu_unit_set_stage1_pasid(rig.unit, DEVICE, pasid, NULL), 0);
		assert_int_equal(uiommu_port_set_pasid(port, 0), 0);
		uiommu_domain_detach_pasid(rig.domain[pasid % SPACES], DEVICE, pasid);
		assert_int_equal(uiommu_unit_set_stage1_pasid(rig.unit, DEVICE, pasid + 1, NULL),
				 0);
	}
	assert_int_equal(fail_live_bytes, before);
	uiommu_port_destroy(port);
	uiommu_stage1_destroy(wall);
	rig_down(&rig);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* Each allocation fails in turn: what it was for is refused, and works at once when tried again. */
static void test_no_memory(void **state)
{
	struct uiommu_stage1_options options = {.size = sizeof(options)};
	struct uiommu_stage1 *wall;
	struct rig rig;
	bool failed = true;

	uiommu_set_allocator(failing_alloc, failing_release);
	rig_up(&rig);
	assert_int_equal(uiommu_stage1_create(rig.unit, &options, &wall), 0);
	for (long nth = 0; failed; nth++) {
		const struct uiommu_resv_region region = {
			{MSI, MSI + PAGE - 1}, UIOMMU_RESV_MSI, 0};
		struct uiommu_port *port = NULL;
		int ret;

		failed = false;
		fail_countdown = nth;
#define TRY(call)                                       \
	do {                                            \
		ret = (call);                           \
		if (ret) {                              \
			assert_int_equal(ret, -ENOMEM); \
			assert_false(failed);           \
			failed = true;                  \
			assert_int_equal(call, 0);      \
		}                                       \
	} while (0)
		TRY(uiommu_port_create_pasid(rig.unit, DEVICE, 2, &port));
		uiommu_port_set_master(port, true);
		TRY(uiommu_domain_attach_pasid(rig.domain[0], DEVICE, 2, &region, 1, "device"));
		TRY(uiommu_unit_set_stage1_pasid(rig.unit, DEVICE, 3, wall));
		TRY(attach(&rig, 1, 3));
		TRY(uiommu_port_set_pasid(port, 4));
		TRY(attach(&rig, 1, 4));
#undef TRY
		fail_countdown = -1;
		assert_int_equal(reads(port), 'b');
		assert_int_equal(uiommu_port_set_pasid(port, 3), 0);
		assert_int_equal(reads(port), -UIOMMU_FAULT_NO_DOMAIN);
		assert_int_equal(uiommu_port_set_pasid(port, 2), 0);
		assert_int_equal(reads(port), 'a');
		uiommu_port_destroy(port);
		uiommu_domain_detach_pasid(rig.domain[0], DEVICE, 2);
		uiommu_domain_detach_pasid(rig.domain[1], DEVICE, 3);
		uiommu_domain_detach_pasid(rig.domain[1], DEVICE, 4);
		assert_int_equal(uiommu_unit_set_stage1_pasid(rig.unit, DEVICE, 3, NULL), 0);
	}
	uiommu_stage1_destroy(wall);
	rig_down(&rig);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* Several at once: all or, whatever the reason, none. */
static void test_all(void **state)
{
	const struct uiommu_resv_region region = {{MSI, MSI + PAGE - 1}, UIOMMU_RESV_MSI, 0};
	const uiommu_rid rids[3] = {0x20, 0x21, 0x22};
	struct uiommu_port *ports[3];
	struct rig rig;
	bool failed = true;

	uiommu_set_allocator(failing_alloc, failing_release);
	rig_up(&rig);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(uiommu_port_create_pasid(rig.unit, rids[i], 7, &ports[i]), 0);
		uiommu_port_set_master(ports[i], true);
	}
	assert_int_equal(uiommu_domain_attach_all(rig.domain[0], rids, 3, 7, NULL, 0, "group"), 0);
	for (long nth = 0; failed; nth++) {
		uint8_t bytes[3];
		int ret;

		fail_countdown = nth;
		ret = uiommu_domain_attach_all(rig.domain[1], rids, 3, 7, &region, 1, "group");
		fail_countdown = -1;
		failed = ret;
		assert_true(!ret || ret == -ENOMEM);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(uiommu_port_read(ports[i], PAGE, &bytes[i], 1), 0);
			assert_int_equal(bytes[i], ret ? 'a' : 'b');
		}
	}
	/* A region in the way of all of them. */
	assert_int_equal(uiommu_ioas_map(rig.ioas[2], (struct uiommu_range){MSI, MSI + PAGE - 1},
					 (uintptr_t)rig.page[2], RW, NULL),
			 0);
	assert_int_equal(uiommu_domain_attach_all(rig.domain[2], rids, 3, 7, &region, 1, "group"),
			 -EADDRINUSE);
	assert_int_equal(uiommu_domain_attach_all(rig.domain[2], rids, 0, 7, &region, 1, "group"),
			 0);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t byte;

		assert_int_equal(uiommu_port_read(ports[i], PAGE, &byte, 1), 0);
		assert_int_equal(byte, 'b');
		uiommu_port_destroy(ports[i]);
		uiommu_domain_detach_pasid(rig.domain[1], rids[i], 7);
	}
	/* The region went with the attachments. */
	assert_int_equal(uiommu_ioas_map(rig.ioas[1], (struct uiommu_range){MSI, MSI + PAGE - 1},
					 (uintptr_t)rig.page[1], RW, NULL),
			 0);
	rig_down(&rig);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- races ---- */

struct racer {
	struct rig *rig;
	pthread_t thread;
	_Atomic bool stop;
	_Atomic uint64_t moved[2]; /* by PASID 1 and 2 */
};

static void *use_both(void *arg)
{
	struct racer *racer = arg;
	struct uiommu_port *port = new_port(racer->rig, UIOMMU_NO_PASID);

	for (uint64_t i = 1; !atomic_load(&racer->stop); i++) {
		uint32_t pasid = 1 + i % 2;
		uint64_t value = i;

		assert_int_equal(uiommu_port_set_pasid(port, pasid), 0);
		for (unsigned n = 0; n < 20; n++)
			if (!uiommu_port_write(port, PAGE, &value, sizeof(value)))
				atomic_fetch_add(&racer->moved[pasid - 1], 1);
	}
	uiommu_port_destroy(port);
	return NULL;
}

/* Slots that come and go beside. */
static void *churn(void *arg)
{
	struct racer *racer = arg;

	for (uint32_t i = 0; !atomic_load(&racer->stop); i++) {
		uint32_t pasid = 3 + i % 5;

		assert_int_equal(attach(racer->rig, 2, pasid), 0);
		uiommu_domain_detach_pasid(racer->rig->domain[2], DEVICE, pasid);
	}
	return NULL;
}

static void wait_for_more(struct racer *racer, unsigned which)
{
	uint64_t before = atomic_load(&racer->moved[which]);

	while (atomic_load(&racer->moved[which]) == before)
		sched_yield();
}

/* The page is nobody's: whoever writes to it now came too late. */
static void check_untouched(uint8_t *page)
{
	uint64_t *word = (uint64_t *)page;

	*(volatile uint64_t *)word = 0;
	for (unsigned i = 0; i < 20; i++) {
		sched_yield();
		assert_int_equal(*(volatile uint64_t *)word, 0);
	}
}

static void test_race(void **state)
{
	uint64_t rounds = test_steps(150);
	struct racer users = {0}, churner = {0};
	struct rig rig;

	rig_up(&rig);
	users.rig = churner.rig = &rig;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(attach(&rig, i, 1 + i), 0);
	assert_int_equal(pthread_create(&users.thread, NULL, use_both, &users), 0);
	assert_int_equal(pthread_create(&churner.thread, NULL, churn, &churner), 0);
	for (uint64_t round = 0; round < rounds; round++) {
		unsigned which = round % 2;
		struct uiommu_range range = {PAGE, 2 * PAGE - 1};
		uint64_t bytes;

		wait_for_more(&users, which);
		if (round % 3) {
			assert_int_equal(
				uiommu_ioas_unmap(rig.ioas[which], range, &bytes, NULL, NULL), 0);
			check_untouched(rig.page[which]);
			assert_int_equal(uiommu_ioas_map(rig.ioas[which], range,
							 (uintptr_t)rig.page[which], RW, NULL),
					 0);
		} else {
			if (round % 2)
				assert_int_equal(attach(&rig, 2, 1 + which), 0);
			else
				uiommu_domain_detach_pasid(rig.domain[which], DEVICE, 1 + which);
			check_untouched(rig.page[which]);
			assert_int_equal(attach(&rig, which, 1 + which), 0);
		}
	}
	atomic_store(&users.stop, true);
	atomic_store(&churner.stop, true);
	pthread_join(users.thread, NULL);
	pthread_join(churner.thread, NULL);
	for (unsigned i = 0; i < 2; i++)
		uiommu_domain_detach_pasid(rig.domain[i], DEVICE, 1 + i);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_apart),	  cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_change),	  cmocka_unit_test(test_windows),
		cmocka_unit_test(test_stage1),	  cmocka_unit_test(test_nothing_stays),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_all),
		cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
