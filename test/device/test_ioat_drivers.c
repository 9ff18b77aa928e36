/* SPDX-License-Identifier: MIT */
/* The I/OAT engine: interrupts, and the ways of Linux' driver and of the kernel's selftests. */
#include <sched.h>

#include "ioat_rig.h"

static void test_interrupts(void **state)
{
	struct rig rig;
	unsigned i;

	up(&rig);
	rig_msix(&rig, 1);
	for (i = 0; i < 8; i++)
		put(&rig, i, CTL_CMP | (i ? CTL_INT : 0), DATA, DATA + 64, 8);
	/* Not without an enable, and not from a descriptor that doesn't ask. */
	run(&rig, 1);
	assert_int_equal(reg_get(&rig, ATTNSTATUS, 4), 0);
	run(&rig, 2);
	assert_int_equal(rig.arrived[0], 0);
	assert_int_equal(reg_get(&rig, ATTNSTATUS, 4), 1);
	/* What was due comes with the enable; then one for each rearming. */
	reg_set(&rig, INTRCTRL, 1, 0x08);
	assert_int_equal(rig.arrived[0], 1);
	assert_int_equal(reg_get(&rig, CHANCTRL, 2), 0x0d);
	reg_set(&rig, CHANCTRL, 2, 0x0d);
	assert_int_equal(reg_get(&rig, CHANCTRL, 2), 0x0c);
	assert_int_equal(rig.arrived[0], 1);
	run(&rig, 3);
	assert_int_equal(rig.arrived[0], 2);
	run(&rig, 6);
	assert_int_equal(rig.arrived[0], 2);
	reg_set(&rig, CHANCTRL, 2, 0x0c); /* no rearming */
	assert_int_equal(rig.arrived[0], 2);
	reg_set(&rig, CHANCTRL, 2, 0x0d);
	assert_int_equal(rig.arrived[0], 3);
	/* Both enables, as Linux has it; what is pending stays so until it is written back. */
	reg_set(&rig, INTRCTRL, 1, 0x09);
	assert_int_equal(reg_get(&rig, INTRCTRL, 1), 0x0b);
	assert_int_equal(reg_get(&rig, ATTNSTATUS, 4), 1);
	reg_set(&rig, INTRCTRL, 1, 0x0b);
	reg_set(&rig, INTRCTRL, 1, 0x0b);
	assert_int_equal(reg_get(&rig, INTRCTRL, 1), 0x09);
	assert_int_equal(reg_get(&rig, ATTNSTATUS, 4), 0);
	reg_set(&rig, CHANCTRL, 2, 0x1d);
	run(&rig, 7);
	assert_int_equal(rig.arrived[0], 4);
	assert_int_equal(reg_get(&rig, INTRCTRL, 1), 0x0f);
	rig_down(&rig);
}

static void test_error_interrupts(void **state)
{
	static const struct {
		uint64_t chanctrl, mask;
		unsigned arrived;
	} rows[] = {{0x0c, 0, 0}, {0x1d, 0, 1}, {0x1d, 0x1, 0}, {0x1d, 0x2, 1}};
	struct rig rig;
	unsigned i, before = 0;

	up(&rig);
	rig_msix(&rig, 1);
	reg_set(&rig, INTRCTRL, 1, 0x08);
	for (i = 0; i < 4; i++) {
		start(&rig);
		put(&rig, 0, CTL_CMP | CTL_INT, NOWHERE, DATA, 8);
		reg_set(&rig, CHANCTRL, 2, rows[i].chanctrl);
		reg_set(&rig, CHANERRMASK, 4, rows[i].mask);
		run(&rig, 1);
		assert_int_equal(reg_get(&rig, CHANERR, 4), 1);
		assert_int_equal(rig.arrived[0], before + rows[i].arrived);
		before += rows[i].arrived;
	}
	/* A masked error doesn't keep the channel from starting again. */
	reg_set(&rig, CHANERRMASK, 4, 1);
	reg_set(&rig, CHAINADDR, 8, desc_iova(0));
	assert_int_equal(reg_get(&rig, CHANSTS, 8), ARMED);
	rig_down(&rig);
}

static void on_intx(void *ctx, bool level)
{
	*(int *)ctx = level;
}

static void test_intx(void **state)
{
	struct rig rig;
	int level = -1;

	up(&rig);
	uiommu_function_set_intx(rig.fn, on_intx, &level);
	reg_set(&rig, INTRCTRL, 1, 0x01);
	put(&rig, 0, CTL_CMP | CTL_INT, DATA, DATA + 64, 8);
	put(&rig, 1, CTL_CMP | CTL_INT, DATA, DATA + 64, 8);
	run(&rig, 1);
	assert_int_equal(level, 1);
	assert_int_equal(reg_get(&rig, INTRCTRL, 1), 0x07);
	/* The end of a driver's handler. */
	reg_set(&rig, INTRCTRL, 1, reg_get(&rig, INTRCTRL, 1));
	assert_int_equal(level, 0);
	assert_int_equal(reg_get(&rig, INTRCTRL, 1), 0x01);
	/* Master off takes the pin down. */
	reg_set(&rig, CHANCTRL, 2, 0x0d);
	run(&rig, 2);
	assert_int_equal(level, 1);
	reg_set(&rig, INTRCTRL, 1, 0);
	assert_int_equal(level, 0);
	assert_int_equal(reg_get(&rig, INTRCTRL, 1), 0x02);
	/* And a channel that is reset has nothing to tell. */
	reg_set(&rig, CHANCMD, 1, CMD_RESET);
	assert_int_equal(reg_get(&rig, INTRCTRL, 1), 0);
	assert_int_equal(reg_get(&rig, ATTNSTATUS, 4), 0);
	rig_down(&rig);
}

/* An interrupt that comes while a handler runs, between its look at INTRCTRL and its writing that
 * back, is not lost: with a shared or a spurious interrupt that happens. */
static void test_intx_late(void **state)
{
	struct rig rig;
	uint64_t seen;
	int level = -1;

	up(&rig);
	uiommu_function_set_intx(rig.fn, on_intx, &level);
	reg_set(&rig, INTRCTRL, 1, 0x01);
	put(&rig, 0, CTL_CMP | CTL_INT, DATA, DATA + 64, 8);
	put(&rig, 1, CTL_CMP | CTL_INT, DATA, DATA + 64, 8);
	put(&rig, 2, CTL_CMP | CTL_INT, DATA, DATA + 64, 8);
	/* A handler that was called for nothing. */
	seen = reg_get(&rig, INTRCTRL, 1);
	run(&rig, 1);
	reg_set(&rig, INTRCTRL, 1, seen);
	assert_int_equal(level, 1);
	assert_int_equal(reg_get(&rig, INTRCTRL, 1), 0x07);
	assert_int_equal(reg_get(&rig, ATTNSTATUS, 4), 1);
	/* One that was called for the first, when another processor rearms and the next comes. */
	seen = reg_get(&rig, INTRCTRL, 1);
	reg_set(&rig, CHANCTRL, 2, 0x0d);
	run(&rig, 2);
	reg_set(&rig, INTRCTRL, 1, seen);
	assert_int_equal(level, 1);
	assert_int_equal(reg_get(&rig, INTRCTRL, 1), 0x07);
	/* One that comes before the rearming comes with it, not before. */
	seen = reg_get(&rig, INTRCTRL, 1);
	run(&rig, 3);
	reg_set(&rig, INTRCTRL, 1, seen);
	assert_int_equal(level, 0);
	reg_set(&rig, CHANCTRL, 2, 0x0d);
	assert_int_equal(level, 1);
	rig_down(&rig);
}

/* Linux' ioatdma: reset, settings, addresses in halves, a null descriptor that must start at once,
 * then copies, each with an interrupt and a rearming. */
static void test_linux(void **state)
{
	uint64_t status;
	struct rig rig;
	unsigned i;

	rig_up(&rig, NULL, "ioat");
	rig_msix(&rig, 1);
	assert_int_equal(reg_get(&rig, CHANSTS, 8) & 7, HALTED);
	reg_set(&rig, CHANERR, 4, reg_get(&rig, CHANERR, 4));
	assert_int_equal(cfg(&rig, 0x180, 4), 0);
	cfg_set(&rig, 0x180, 4, 0);
	reg_set(&rig, CHANCMD, 1, CMD_RESET);
	reg_set(&rig, INTRCTRL, 1, 0x09);
	reg_set(&rig, CHANCTRL, 2, 0x1d);
	reg_set(&rig, CHANCMP, 4, RIG_IOVA + STATUS_AT);
	reg_set(&rig, CHANCMP + 4, 4, 0);
	put(&rig, 0, CTL_NULL | CTL_INT | CTL_CMP, 0, 0, 1);
	reg_set(&rig, CHAINADDR, 4, desc_iova(0));
	reg_set(&rig, CHAINADDR + 4, 4, 0);
	reg_set(&rig, DMACOUNT, 2, 1);
	status = reg_mapped(&rig, CHANSTS, 8) & 7;
	assert_true(status == ACTIVE || status == IDLE);
	uiommu_function_drain(rig.fn);
	assert_int_equal(rig.arrived[0], 1);
	for (i = 1; i < 8; i++) {
		reg_set(&rig, CHANCTRL, 2, 0x1d);
		put(&rig, i, CTL_INT | CTL_CMP, DATA + i, DATA + 0x1000, 2000);
		run(&rig, (uint16_t)(i + 1));
		assert_int_equal(rig.arrived[0], i + 1);
		assert_int_equal(completion(&rig), desc_iova(i) | IDLE);
		assert_memory_equal(rig.mem + DATA + i, rig.mem + DATA + 0x1000, 2000);
	}
	/* Quiescing. */
	reg_set(&rig, CHANCMD, 1, CMD_SUSPEND);
	assert_int_equal(reg_mapped(&rig, CHANSTS, 8) & 7, SUSPENDED);
	rig_down(&rig);
}

/* The kernel's VFIO selftests: one descriptor that is its own next, no completion record, status
 * by register, vectors enabled without the master enable. */
static void test_selftests(void **state)
{
	struct rig rig;
	unsigned i;

	rig_up(&rig, NULL, "ioat,cbver=0x33");
	rig_msix(&rig, 1);
	reg_set(&rig, CHANCMD, 1, CMD_RESET);
	assert_int_equal(reg_get(&rig, CHANSTS, 8) & 7, HALTED);
	reg_set(&rig, INTRCTRL, 1, 0x08);
	for (i = 0; i < 6; i++) {
		put(&rig, 0, i % 2 ? CTL_INT : 0, DATA, DATA + 64, 8);
		desc_at(&rig, 0)->next = htole64(desc_iova(0));
		reg_set(&rig, CHAINADDR, 8, desc_iova(0));
		reg_set(&rig, CHANCTRL, 2, 0x09);
		reg_set(&rig, DMACOUNT, 2, i % 2 ? 1 : 700);
		while ((reg_mapped(&rig, CHANSTS, 8) & 7) != IDLE)
			sched_yield();
		reg_set(&rig, CHANCMD, 1, CMD_SUSPEND);
		assert_int_equal(reg_mapped(&rig, CHANSTS, 8) & 7, SUSPENDED);
		assert_int_equal(rig.arrived[0], (i + 1) / 2);
	}
	/* An error ends in HALTED. */
	put(&rig, 0, 0, NOWHERE, DATA, 8);
	reg_set(&rig, CHAINADDR, 8, desc_iova(0));
	reg_set(&rig, DMACOUNT, 2, 1);
	while ((reg_mapped(&rig, CHANSTS, 8) & 7) != HALTED)
		sched_yield();
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interrupts), cmocka_unit_test(test_error_interrupts),
		cmocka_unit_test(test_intx),	   cmocka_unit_test(test_intx_late),
		cmocka_unit_test(test_linux),	   cmocka_unit_test(test_selftests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
