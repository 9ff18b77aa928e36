/* SPDX-License-Identifier: MIT */
/* The I/OAT engine: transfers, errors, and what hostile drivers could give it. */
#include <errno.h>
#include <sched.h>

#include <linux/pci_regs.h>

#include "ioat_rig.h"

static void test_identification(void **state)
{
	struct rig rig;

	rig_up(&rig, NULL, "ioat");
	assert_int_equal(cfg(&rig, 0, 4), 0x20218086);
	assert_int_equal(cfg(&rig, PCI_CLASS_REVISION, 4) >> 8, 0x088000);
	assert_int_equal(reg_get(&rig, CHANCNT, 1), 1);
	assert_int_equal(reg_get(&rig, XFERCAP, 1), 20);
	assert_int_equal(reg_get(&rig, CBVER, 1), 0x34);
	assert_int_equal(reg_get(&rig, DMACAP, 4), 0x40);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), HALTED);
	reg_set(&rig, CHANCNT, 8, UINT64_MAX);
	reg_set(&rig, CBVER, 8, UINT64_MAX);
	reg_set(&rig, DMACAP, 8, UINT64_MAX);
	reg_set(&rig, CHANSTS, 8, UINT64_MAX);
	assert_int_equal(reg_get(&rig, CHANCNT, 2), 0x1401);
	assert_int_equal(reg_get(&rig, CBVER, 1), 0x34);
	assert_int_equal(reg_get(&rig, DMACAP, 4), 0x40);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), HALTED);
	rig_down(&rig);

	rig_up(&rig, NULL, "ioat,cbver=0x33");
	assert_int_equal(reg_get(&rig, CBVER, 1), 0x33);
	uiommu_function_reset(rig.fn);
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(reg_get(&rig, CBVER, 1), 0x33);
	rig_down(&rig);
}

static void test_copies(void **state)
{
	static const uint32_t sizes[] = {1,	8,     63,    4096,   4097,
					 65535, 65536, 65537, 300001, XFER_MAX};
	struct rig rig;
	unsigned i;

	up(&rig);
	for (i = 0; i < 10; i++) {
		uint64_t src = DATA + 3 + i, dst = DATA + 0x180000 + 5;

		memset(rig.mem + dst, 0, sizes[i] + 1);
		put(&rig, i, CTL_CMP, src, dst, sizes[i]);
		run(&rig, (uint16_t)(i + 1));
		assert_memory_equal(rig.mem + src, rig.mem + dst, sizes[i]);
		assert_int_equal(rig.mem[dst + sizes[i]], 0);
		assert_int_equal(completion(&rig), desc_iova(i) | IDLE);
		assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(i) | IDLE);
		assert_int_equal(reg_mapped(&rig, CHANSTS, 8), desc_iova(i) | IDLE);
		assert_int_equal(reg_get(&rig, CDAR, 8), desc_iova(i));
	}
	assert_int_equal(rig.faults, 0);
	rig_down(&rig);
}

static void test_fills(void **state)
{
	static const uint32_t sizes[] = {1, 8, 50, 64, 89, 100, 1024, 65536, 65541, 200003};
	static const uint8_t pattern[8] = {0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
	struct rig rig;
	unsigned i;
	uint32_t j;

	up(&rig);
	for (i = 0; i < 10; i++) {
		uint8_t *dst = rig.mem + DATA + 7;

		memset(dst, 0, sizes[i] + 8);
		put(&rig, i, OP(1) | CTL_CMP, UINT64_C(0xfedcba9876543210), DATA + 7, sizes[i]);
		run(&rig, (uint16_t)(i + 1));
		for (j = 0; j < sizes[i]; j++) {
			if (dst[j] != pattern[j % 8])
				fail_msg("size %u, byte %u", sizes[i], j);
		}
		for (; j < sizes[i] + 8; j++)
			assert_int_equal(dst[j], 0);
	}
	rig_down(&rig);
}

/* Many at once; completions only where they are asked for; the count goes around. */
static void test_rings(void **state)
{
	struct rig rig;
	unsigned i, round;
	uint16_t count = 0;

	up(&rig);
	for (i = 0; i < 256; i++) {
		put(&rig, i, i % 2 ? CTL_CMP : 0, DATA + i * 16, DATA + 0x10000 + i * 16, 16);
		if (i == 255)
			desc_at(&rig, i)->next = htole64(desc_iova(0));
	}
	for (round = 0; round < 300; round++) {
		memset(rig.mem + DATA + 0x10000, 0, 4096);
		count += 256;
		run(&rig, count);
		assert_memory_equal(rig.mem + DATA, rig.mem + DATA + 0x10000, 4096);
		assert_int_equal(completion(&rig), desc_iova(255) | IDLE);
	}
	/* The 255th asks for none: the record stays, the register goes on. */
	run(&rig, (uint16_t)(count + 255));
	assert_int_equal(completion(&rig), desc_iova(253) | ACTIVE);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(254) | IDLE);
	rig_down(&rig);
}

/* The next descriptor may be linked only when it is there. */
static void test_late_link(void **state)
{
	struct rig rig;

	up(&rig);
	put(&rig, 0, CTL_CMP, DATA, DATA + 64, 8);
	desc_at(&rig, 0)->next = 0;
	run(&rig, 1);
	put(&rig, 9, CTL_CMP, DATA, DATA + 128, 8);
	desc_at(&rig, 0)->next = htole64(desc_iova(9));
	run(&rig, 2);
	assert_int_equal(completion(&rig), desc_iova(9) | IDLE);
	assert_memory_equal(rig.mem + DATA, rig.mem + DATA + 128, 8);
	assert_int_equal(rig.faults, 0);
	rig_down(&rig);
}

static void test_null(void **state)
{
	struct uiommu_function_stats stats;
	struct rig rig;

	up(&rig);
	put(&rig, 0, CTL_NULL | CTL_CMP, UINT64_MAX, UINT64_MAX, 1);
	put(&rig, 1, CTL_NULL | CTL_CMP, 0, 0, 0);
	run(&rig, 2);
	assert_int_equal(completion(&rig), desc_iova(1) | IDLE);
	assert_int_equal(rig.faults, 0);
	uiommu_function_stats(rig.fn, &stats);
	assert_int_equal(stats.dma.bytes_read, 128);
	assert_int_equal(stats.dma.bytes_written, 16);
	rig_down(&rig);
}

static const struct bad {
	const char *name;
	uint32_t ctl, size;
	uint64_t src, dst;
	uint32_t error;
	unsigned faults;
} bads[] = {
	{"source", 0, 8, NOWHERE, DATA, 0x1, 1},
	{"destination", 0, 8, DATA, NOWHERE, 0x2, 1},
	{"source at the end", 0, 4096, RIG_IOVA + RIG_SIZE - 8, DATA, 0x1, 1},
	{"source wraps", 0, 16, UINT64_MAX - 7, DATA, 0x1, 0},
	{"destination wraps", 0, 16, DATA, UINT64_MAX - 7, 0x2, 0},
	{"last byte of the space", 0, 1, UINT64_MAX, DATA, 0x1, 1},
	{"wide source", 0, 8, UINT64_C(1) << 48, DATA, 0x1, 1},
	{"fill destination", OP(1), 8, 1, NOWHERE, 0x2, 1},
	{"fill wraps", OP(1), 9, 1, UINT64_MAX - 7, 0x2, 0},
	{"no size", 0, 0, DATA, DATA, 0x800, 0},
	{"fill without size", OP(1), 0, DATA, DATA, 0x800, 0},
	{"too large", 0, XFER_MAX + 1, DATA, DATA, 0x800, 0},
	{"huge", 0, UINT32_MAX, DATA, DATA, 0x800, 0},
	{"XOR", OP(0x87), 8, DATA, DATA, 0x400, 0},
	{"unknown operation", OP(0xff), 8, DATA, DATA, 0x400, 0},
};

/* Each error alone, in the middle of a chain: what came before is done, what comes after is not,
 * and the way DPDK recovers works. */
static void test_errors(void **state)
{
	struct rig rig;
	size_t i;

	up(&rig);
	for (i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
		const struct bad *bad = &bads[i];

		memset(rig.mem + DATA + 0x1000, 0, 0x1000);
		rig.faults = 0;
		put(&rig, 0, CTL_CMP, DATA, DATA + 0x1000, 16);
		put(&rig, 1, bad->ctl | CTL_CMP, bad->src, bad->dst, bad->size);
		put(&rig, 2, CTL_CMP, DATA, DATA + 0x1800, 16);
		run(&rig, 3);
		if (reg_get(&rig, CHANERR, 4) != bad->error)
			fail_msg("%s: error %#lx", bad->name,
				 (unsigned long)reg_get(&rig, CHANERR, 4));
		assert_int_equal(rig.faults, bad->faults);
		assert_int_equal(completion(&rig), desc_iova(0) | HALTED);
		assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(0) | HALTED);
		assert_int_equal(rig.mem[DATA + 0x1800], 0);
		/* Halted is halted: neither a count nor a chain moves it with the error there. */
		run(&rig, 5);
		reg_set(&rig, CHAINADDR, 8, desc_iova(2));
		run(&rig, 1);
		assert_int_equal(reg_get(&rig, CHANSTS, 8), HALTED);
		assert_int_equal(rig.mem[DATA + 0x1800], 0);
		/* Recovery. */
		reg_set(&rig, CHANERR, 4, reg_get(&rig, CHANERR, 4));
		assert_int_equal(reg_get(&rig, CHANERR, 4), 0);
		reg_set(&rig, CHANCMD, 1, CMD_RESET);
		reg_set(&rig, CHAINADDR, 8, desc_iova(2));
		reg_set(&rig, CHANCTRL, 2, 0x0c);
		reg_set(&rig, CHANCMP, 8, RIG_IOVA + STATUS_AT);
		assert_int_equal(reg_get(&rig, CHANSTS, 8), ARMED);
		run(&rig, 1);
		assert_int_equal(completion(&rig), desc_iova(2) | IDLE);
		assert_memory_equal(rig.mem + DATA, rig.mem + DATA + 0x1800, 16);
		start(&rig);
	}
	rig_down(&rig);
}

static void test_first_fails(void **state)
{
	struct rig rig;

	up(&rig);
	put(&rig, 0, CTL_CMP, NOWHERE, DATA, 8);
	run(&rig, 1);
	/* No descriptor is completed: its address is 0. */
	assert_int_equal(completion(&rig), HALTED);
	assert_int_equal(rig.fault.iova, NOWHERE);
	assert_int_equal(rig.fault.access, UIOMMU_READ);
	/* Without ERR_COMPLETION_EN nothing is written. */
	start(&rig);
	memset(rig.mem + STATUS_AT, 0x55, 8);
	reg_set(&rig, CHANCTRL, 2, 0x08);
	run(&rig, 1);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), HALTED);
	assert_int_equal(completion(&rig), UINT64_C(0x5555555555555555));
	rig_down(&rig);
}

/* Translated, but nothing is there: the data is at fault, not the address. */
static void test_memory_gone(void **state)
{
	struct rig rig;

	up(&rig);
	rig.gone.first = (uintptr_t)rig.mem + DATA;
	rig.gone.last = rig.gone.first + 4095;
	put(&rig, 0, CTL_CMP, DATA + 4090, DATA + 0x2000, 100);
	run(&rig, 1);
	assert_int_equal(reg_get(&rig, CHANERR, 4), 0x100);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_MEMORY_GONE);
	start(&rig);
	put(&rig, 0, CTL_CMP, DATA + 0x2000, DATA + 4090, 100);
	run(&rig, 1);
	assert_int_equal(reg_get(&rig, CHANERR, 4), 0x200);
	rig_down(&rig);
}

static void test_bad_chains(void **state)
{
	static const struct {
		uint64_t chain;
		uint32_t error;
	} chains[] = {
		{0, 0x10},
		{RIG_IOVA + 8, 0x10},
		{NOWHERE, 0x10},
		{UINT64_MAX, 0x10},
		{UINT64_MAX - 63, 0x10},
		{RIG_IOVA + RIG_SIZE, 0x10},
		{RIG_IOVA - 64, 0x10},
	};
	static const struct {
		uint64_t next;
		uint32_t error;
	} links[] = {{0, 0x4},
		     {RIG_IOVA + 1, 0x8},
		     {NOWHERE, 0x4},
		     {UINT64_MAX, 0x8},
		     {UINT64_MAX - 63, 0x4}};
	struct rig rig;
	size_t i;

	up(&rig);
	for (i = 0; i < sizeof(chains) / sizeof(chains[0]); i++) {
		start(&rig);
		reg_set(&rig, CHAINADDR, 8, chains[i].chain);
		run(&rig, 1);
		assert_int_equal(reg_get(&rig, CHANERR, 4), chains[i].error);
		assert_int_equal(reg_get(&rig, CHANSTS, 8), HALTED);
	}
	for (i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		start(&rig);
		put(&rig, 0, CTL_CMP, DATA, DATA + 64, 8);
		desc_at(&rig, 0)->next = htole64(links[i].next);
		run(&rig, 2);
		assert_int_equal(reg_get(&rig, CHANERR, 4), links[i].error);
		assert_int_equal(completion(&rig), desc_iova(0) | HALTED);
	}
	/* The last descriptor goes away before more are released. */
	start(&rig);
	put(&rig, 0, CTL_CMP, DATA, DATA + 64, 8);
	run(&rig, 1);
	rig.gone.first = (uintptr_t)rig.mem;
	rig.gone.last = rig.gone.first + 4095;
	run(&rig, 2);
	assert_int_equal(reg_get(&rig, CHANERR, 4), 0x4);
	rig_down(&rig);
}

static void test_bad_completion(void **state)
{
	struct rig rig;

	up(&rig);
	put(&rig, 0, CTL_CMP, DATA, DATA + 64, 8);
	reg_set(&rig, CHANCMP, 8, NOWHERE + 5);
	assert_int_equal(reg_get(&rig, CHANCMP, 8), NOWHERE);
	run(&rig, 1);
	assert_int_equal(reg_get(&rig, CHANERR, 4), 0x1000);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(0) | HALTED);
	assert_int_equal(rig.faults, 1);
	/* The error's own record can't be written either. */
	start(&rig);
	put(&rig, 0, 0, NOWHERE, DATA, 8);
	reg_set(&rig, CHANCMP, 8, UINT64_MAX);
	run(&rig, 1);
	assert_int_equal(reg_get(&rig, CHANERR, 4), 0x1001);
	rig_down(&rig);
}

static void test_loop(void **state)
{
	struct rig rig;

	up(&rig);
	put(&rig, 0, CTL_CMP, DATA, DATA + 64, 8);
	desc_at(&rig, 0)->next = htole64(desc_iova(0));
	run(&rig, UINT16_MAX);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(0) | IDLE);
	/* Over a descriptor that copies itself. */
	start(&rig);
	put(&rig, 0, CTL_CMP, RING, RING, 64);
	desc_at(&rig, 0)->next = htole64(desc_iova(0));
	run(&rig, 1000);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(0) | IDLE);
	/* Over one that overwrites the descriptors with data. */
	start(&rig);
	put(&rig, 0, OP(1) | CTL_CMP, UINT64_C(0xffffffffffffffff), RING, 4096);
	run(&rig, 100);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(0) | HALTED);
	rig_down(&rig);
}

/* A long chain is stopped in its midst: by SUSPEND and by RESET. */
static void test_suspend(void **state)
{
	uint64_t at;
	struct rig rig;

	up(&rig);
	put(&rig, 0, 0, DATA, DATA + 0x100000, 0x80000);
	desc_at(&rig, 0)->next = htole64(desc_iova(0));
	reg_set(&rig, DMACOUNT, 2, UINT16_MAX);
	while (reg_mapped(&rig, CHANSTS, 8) == ACTIVE)
		sched_yield();
	reg_set(&rig, CHANCMD, 1, CMD_SUSPEND);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(0) | SUSPENDED);
	uiommu_function_drain(rig.fn);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(0) | SUSPENDED);
	/* It goes on, here with a chain that ends. */
	desc_at(&rig, 0)->next = htole64(NOWHERE);
	reg_set(&rig, CHANCMD, 1, CMD_RESUME);
	uiommu_function_drain(rig.fn);
	at = reg_get(&rig, CHANSTS, 8);
	assert_int_equal(at, desc_iova(0) | HALTED);
	assert_int_equal(reg_get(&rig, CHANERR, 4), 0x4);

	start(&rig);
	desc_at(&rig, 0)->next = htole64(desc_iova(0));
	reg_set(&rig, DMACOUNT, 2, UINT16_MAX);
	while (reg_mapped(&rig, CHANSTS, 8) == ACTIVE)
		sched_yield();
	reg_set(&rig, CHANCMD, 1, CMD_RESET);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), HALTED);
	assert_int_equal(reg_get(&rig, DMACOUNT, 2), 0);
	uiommu_function_drain(rig.fn);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), HALTED);
	rig_down(&rig);
}

static void test_suspended_idle(void **state)
{
	struct rig rig;

	up(&rig);
	/* Armed, nothing done: stop and start again. */
	reg_set(&rig, CHANCMD, 1, CMD_SUSPEND);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), SUSPENDED);
	reg_set(&rig, CHANCMD, 1, CMD_RESUME);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), ARMED);
	/* Idle: the same; a count resumes as well. */
	put(&rig, 0, CTL_CMP, DATA, DATA + 64, 8);
	put(&rig, 1, CTL_CMP, DATA, DATA + 128, 8);
	run(&rig, 1);
	reg_set(&rig, CHANCMD, 1, CMD_SUSPEND);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(0) | SUSPENDED);
	reg_set(&rig, CHANCMD, 1, CMD_RESUME);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), desc_iova(0) | IDLE);
	reg_set(&rig, CHANCMD, 1, CMD_RESUME);
	reg_set(&rig, CHANCMD, 1, CMD_SUSPEND);
	run(&rig, 2);
	assert_int_equal(completion(&rig), desc_iova(1) | IDLE);
	/* A chain address arms a suspended channel, in two halves as Linux writes it. */
	reg_set(&rig, CHANCMD, 1, CMD_SUSPEND);
	reg_set(&rig, CHAINADDR, 4, (uint32_t)desc_iova(0));
	reg_set(&rig, CHAINADDR + 4, 4, desc_iova(0) >> 32);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), ARMED);
	run(&rig, 1);
	assert_int_equal(completion(&rig), desc_iova(0) | IDLE);
	/* Commands that don't exist. */
	reg_set(&rig, CHANCMD, 1, 0x01);
	assert_int_equal(reg_get(&rig, CHANERR, 4), 0x20);
	assert_int_equal(reg_get(&rig, CHANSTS, 8) & 7, HALTED);
	reg_set(&rig, CHANCMD, 1, CMD_SUSPEND);
	assert_int_equal(reg_get(&rig, CHANSTS, 8) & 7, HALTED);
	rig_down(&rig);
}

static void test_flr_while_busy(void **state)
{
	struct rig rig;

	up(&rig);
	put(&rig, 0, 0, DATA, DATA + 0x100000, 0x80000);
	desc_at(&rig, 0)->next = htole64(desc_iova(0));
	reg_set(&rig, DMACOUNT, 2, UINT16_MAX);
	while (reg_mapped(&rig, CHANSTS, 8) == ACTIVE)
		sched_yield();
	uiommu_function_reset(rig.fn);
	/* Nothing moves any more: the memory may go at once. */
	memset(rig.mem + DATA + 0x100000, 0xee, 0x80000);
	uiommu_function_drain(rig.fn);
	assert_int_equal(rig.mem[DATA + 0x100000], 0xee);
	assert_int_equal(rig.mem[DATA + 0x17ffff], 0xee);
	assert_int_equal(reg_mapped(&rig, CHANSTS, 8), HALTED);
	assert_int_equal(rig.faults, 0);
	rig_down(&rig);
}

static void test_master_off(void **state)
{
	struct rig rig;

	up(&rig);
	put(&rig, 0, CTL_CMP, DATA, DATA + 64, 8);
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	run(&rig, 1);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_BUS_MASTER);
	assert_int_equal(reg_get(&rig, CHANSTS, 8), HALTED);
	assert_int_equal(completion(&rig), 0);
	rig_down(&rig);
}

static void test_write_protected(void **state)
{
	struct rig rig;

	up(&rig);
	rig_map(&rig, 0x40000000, 4096, 0x300000, UIOMMU_READ);
	put(&rig, 0, CTL_CMP, 0x40000000, DATA, 8);
	put(&rig, 1, CTL_CMP, DATA, 0x40000000, 8);
	run(&rig, 2);
	assert_int_equal(completion(&rig), desc_iova(0) | HALTED);
	assert_int_equal(reg_get(&rig, CHANERR, 4), 0x2);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_WRITE_DENIED);
	rig_down(&rig);
}

/* Every width at every register, aligned or not: no crash, and constants stay. */
static void test_all_writes(void **state)
{
	struct rig rig;
	uint64_t offset;
	unsigned len;

	up(&rig);
	for (offset = 0; offset < 0x200; offset++) {
		for (len = 1; len <= 8; len++) {
			reg_set(&rig, offset, len, UINT64_C(0xa5c3a5c3a5c3a5c3));
			reg_set(&rig, offset, len, UINT64_MAX);
			reg_set(&rig, offset, len, 0);
		}
	}
	uiommu_function_drain(rig.fn);
	assert_int_equal(reg_get(&rig, CHANCNT, 2), 0x1401);
	assert_int_equal(reg_get(&rig, CBVER, 1), 0x34);
	start(&rig);
	put(&rig, 0, CTL_CMP, DATA, DATA + 64, 8);
	run(&rig, 1);
	assert_int_equal(completion(&rig), desc_iova(0) | IDLE);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identification),	cmocka_unit_test(test_copies),
		cmocka_unit_test(test_fills),		cmocka_unit_test(test_rings),
		cmocka_unit_test(test_late_link),	cmocka_unit_test(test_null),
		cmocka_unit_test(test_errors),		cmocka_unit_test(test_first_fails),
		cmocka_unit_test(test_memory_gone),	cmocka_unit_test(test_bad_chains),
		cmocka_unit_test(test_bad_completion),	cmocka_unit_test(test_loop),
		cmocka_unit_test(test_suspend),		cmocka_unit_test(test_suspended_idle),
		cmocka_unit_test(test_flr_while_busy),	cmocka_unit_test(test_master_off),
		cmocka_unit_test(test_write_protected), cmocka_unit_test(test_all_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
