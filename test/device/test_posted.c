/* SPDX-License-Identifier: MIT */
/*
 * What the core gives a model besides registers: writes that are posted while the model works,
 * alarms, and words for why it could not start.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "rig.h"

/* Long, for machines that have other things to do. */
#define SLOW_US 1000000

/* A model that takes its time, and posts what is written to its first register. */
struct slow {
	uint32_t posted; /* atomic */
	unsigned written, spins;
	unsigned steps; /* atomic */
	uint32_t seen;
	bool slow;
};

static struct slow *state_of(struct rig *rig)
{
	return uiommu_function_state(rig->fn);
}

static unsigned steps(struct rig *rig)
{
	return __atomic_load_n(&state_of(rig)->steps, __ATOMIC_RELAXED);
}

static bool slow_post(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
		      uint64_t value)
{
	struct slow *slow = uiommu_function_state(fn);

	if (offset || len != 4)
		return false;
	__atomic_store_n(&slow->posted, (uint32_t)value, __ATOMIC_RELEASE);
	return true;
}

static void slow_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
		       uint64_t value)
{
	struct slow *slow = uiommu_function_state(fn);

	slow->written++;
	if (offset == 8)
		uiommu_function_alarm(fn, value);
	else if (offset == 16)
		uiommu_function_kick(fn);
}

static bool slow_work(struct uiommu_function *fn)
{
	struct slow *slow = uiommu_function_state(fn);
	uint32_t posted = __atomic_load_n(&slow->posted, __ATOMIC_ACQUIRE);

	__atomic_fetch_add(&slow->steps, 1, __ATOMIC_RELAXED);
	if (posted != slow->seen && slow->slow)
		usleep(SLOW_US);
	slow->seen = posted;
	if (slow->spins) {
		slow->spins--;
		uiommu_function_yield(fn);
		return true;
	}
	return false;
}

static void slow_reset(struct uiommu_function *fn)
{
	struct slow *slow = uiommu_function_state(fn);

	__atomic_store_n(&slow->posted, 0, __ATOMIC_RELAXED);
	slow->seen = 0;
}

static int refuse_init(struct uiommu_function *fn)
{
	uiommu_function_explain(fn, "the %s is out", "moon");
	return -EIO;
}

static const struct uiommu_model slow_model = {
	.size = sizeof(slow_model),
	.name = "slow",
	.summary = "takes its time",
	.vendor = 0x1234,
	.device = 1,
	.bars = {{4096, 0}},
	.state_size = sizeof(struct slow),
	.reset = slow_reset,
	.bar_write = slow_write,
	.bar_post = slow_post,
	.work = slow_work,
};

static unsigned passed_ms(const struct timespec *since)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned)((now.tv_sec - since->tv_sec) * 1000 +
			  (now.tv_nsec - since->tv_nsec) / 1000000);
}

/* Posted writes don't wait for a step; the last of them is seen; others wait. */
static void test_posted(void **state)
{
	struct timespec begin;
	struct rig rig;

	rig_up(&rig, &slow_model, "slow");
	state_of(&rig)->slow = true;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	reg_set(&rig, 0, 4, 1);
	usleep(SLOW_US / 10);
	reg_set(&rig, 0, 4, 2);
	reg_set(&rig, 0, 4, 3);
	assert_in_range(passed_ms(&begin), 0, SLOW_US / 1000 * 2 / 3);
	/* Another width is an ordinary write, which takes the lock. */
	reg_set(&rig, 0, 8, 9);
	assert_true(passed_ms(&begin) >= SLOW_US / 1000);
	uiommu_function_drain(rig.fn);
	assert_true(passed_ms(&begin) >= 2 * SLOW_US / 1000);
	assert_int_equal(state_of(&rig)->seen, 3);
	assert_int_equal(state_of(&rig)->written, 1);
	assert_int_equal(steps(&rig), 2);
	/* Nothing decodes it. */
	cfg_set(&rig, PCI_COMMAND, 2, 0);
	{
		uint32_t value = 4;

		assert_int_equal(uiommu_function_bar_write(rig.fn, 0, 0, &value, 4), -EIO);
	}
	assert_int_equal(state_of(&rig)->posted, 3);
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	reg_set(&rig, 0, 4, 5);
	uiommu_function_drain(rig.fn);
	assert_int_equal(state_of(&rig)->seen, 5);
	rig_down(&rig);
}

/* A worker that is asleep is woken by each of many, whatever the moment. */
static void test_posted_often(void **state)
{
	struct rig rig;
	uint32_t i;

	rig_up(&rig, &slow_model, "slow");
	for (i = 1; i < 5000; i++) {
		reg_set(&rig, 0, 4, i);
		if (i % 3 == 0)
			usleep(i % 7);
		if (i % 5 == 0) {
			uiommu_function_drain(rig.fn);
			assert_int_equal(state_of(&rig)->seen, i);
		}
	}
	rig_down(&rig);
}

static void test_alarm(void **state)
{
	struct timespec begin;
	struct rig rig;

	rig_up(&rig, &slow_model, "slow");
	uiommu_function_drain(rig.fn);
	assert_int_equal(steps(&rig), 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	reg_set(&rig, 8, 8, 30000000);
	uiommu_function_drain(rig.fn); /* doesn't wait for it */
	while (!steps(&rig) && passed_ms(&begin) < 10000) {
		usleep(1000);
		uiommu_function_drain(rig.fn);
	}
	assert_in_range(passed_ms(&begin), 29, 9999);
	/* Kicks before it neither hurry it nor take it away. */
	uiommu_function_drain(rig.fn);
	reg_set(&rig, 8, 8, 600000000);
	reg_set(&rig, 16, 4, 0);
	uiommu_function_drain(rig.fn);
	assert_int_equal(steps(&rig), 2);
	usleep(800000);
	uiommu_function_drain(rig.fn);
	assert_int_equal(steps(&rig), 3);
	/* Taken away, by 0 and by a reset. */
	reg_set(&rig, 8, 8, 500000000);
	reg_set(&rig, 8, 8, 0);
	usleep(600000);
	reg_set(&rig, 8, 8, 500000000);
	uiommu_function_reset(rig.fn);
	usleep(600000);
	uiommu_function_drain(rig.fn);
	assert_int_equal(steps(&rig), 3);
	rig_down(&rig);
}

static void test_yield(void **state)
{
	struct rig rig;

	rig_up(&rig, &slow_model, "slow");
	state_of(&rig)->spins = 100;
	reg_set(&rig, 16, 4, 0);
	uiommu_function_drain(rig.fn);
	assert_int_equal(steps(&rig), 101);
	rig_down(&rig);
}

static void test_explain(void **state)
{
	struct uiommu_model model = slow_model;
	struct uiommu_machine *machine;
	char why[256];

	model.init = refuse_init;
	assert_int_equal(uiommu_machine_create(NULL, &machine, why, sizeof(why)), 0);
	assert_int_equal(uiommu_machine_add_model(machine, &model, "slow", why, sizeof(why)), -EIO);
	assert_string_equal(why, "device slow could not be started: the moon is out");
	assert_int_equal(uiommu_machine_add_model(machine, &model, "slow", NULL, 0), -EIO);
	uiommu_machine_destroy(machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_posted),	cmocka_unit_test(test_posted_often),
		cmocka_unit_test(test_alarm),	cmocka_unit_test(test_yield),
		cmocka_unit_test(test_explain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
