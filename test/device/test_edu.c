/* SPDX-License-Identifier: MIT */
/* The educational device, register by register. */
#include <errno.h>

#include <linux/pci_regs.h>

#include "rig.h"

enum {
	ID = 0x00,
	LIVENESS = 0x04,
	FACTORIAL = 0x08,
	STATUS = 0x20,
	IRQ_STATUS = 0x24,
	IRQ_RAISE = 0x60,
	IRQ_ACK = 0x64,
	DMA_SRC = 0x80,
	DMA_DST = 0x88,
	DMA_COUNT = 0x90,
	DMA_CMD = 0x98,
};

#define BUFFER UINT64_C(0x40000)

static void test_identification(void **state)
{
	struct rig rig;

	rig_up(&rig, NULL, "edu");
	assert_int_equal(cfg(&rig, 0, 4), 0x11e81234);
	assert_int_equal(cfg(&rig, PCI_CLASS_REVISION, 4), 0x00ff0010);
	cfg_set(&rig, PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	assert_int_equal(cfg(&rig, PCI_BASE_ADDRESS_0, 4), 0xfff00000);
	assert_int_equal(reg_get(&rig, ID, 4), 0x010000ed);
	assert_int_equal(reg_mapped(&rig, ID, 4), 0x010000ed);
	reg_set(&rig, ID, 4, 0);
	assert_int_equal(reg_get(&rig, ID, 4), 0x010000ed);
	/* What is no readable register, the buffer included. */
	assert_int_equal(reg_get(&rig, 0x0c, 4), UINT32_MAX);
	assert_int_equal(reg_mapped(&rig, IRQ_RAISE, 4), UINT32_MAX);
	assert_int_equal(reg_get(&rig, BUFFER, 4), UINT32_MAX);
	assert_int_equal(reg_mapped(&rig, 0xffff8, 8), UINT64_MAX);
	rig_down(&rig);
}

static void test_liveness(void **state)
{
	static const struct {
		unsigned offset, len;
	} ignored[] = {
		{LIVENESS, 1}, {LIVENESS, 2}, {LIVENESS + 1, 2}, {LIVENESS, 8}, {LIVENESS - 4, 8}};
	struct rig rig;
	size_t i;

	rig_up(&rig, NULL, "edu");
	reg_set(&rig, LIVENESS, 4, 0x12345678);
	assert_int_equal(reg_get(&rig, LIVENESS, 4), 0xedcba987);
	assert_int_equal(reg_mapped(&rig, LIVENESS, 4), 0xedcba987);
	/* 8 bytes at 4 are two stores of 4 on the bus; every other width is dropped. */
	for (i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
		if (ignored[i].offset == LIVENESS && ignored[i].len == 8)
			continue;
		reg_set(&rig, ignored[i].offset, ignored[i].len, 0);
		assert_int_equal(reg_get(&rig, LIVENESS, 4), 0xedcba987);
	}
	rig_down(&rig);
}

static void test_factorial(void **state)
{
	static const struct {
		uint32_t n, result;
	} rows[] = {{0, 1},	      {1, 1},  {5, 120},	 {12, 479001600},
		    {13, 1932053504}, {34, 0}, {33, 0x80000000}, {UINT32_MAX, 0}};
	struct rig rig;
	size_t i;

	rig_up(&rig, NULL, "edu");
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		reg_set(&rig, FACTORIAL, 4, rows[i].n);
		uiommu_function_drain(rig.fn);
		assert_int_equal(reg_get(&rig, STATUS, 4), 0);
		assert_int_equal(reg_get(&rig, FACTORIAL, 4), rows[i].result);
		assert_int_equal(reg_mapped(&rig, FACTORIAL, 4), rows[i].result);
	}
	rig_down(&rig);
}

static void test_factorial_irq(void **state)
{
	struct rig rig;

	rig_up(&rig, NULL, "edu");
	rig_msi(&rig, 1);
	reg_set(&rig, STATUS, 4, UINT32_MAX);
	assert_int_equal(reg_get(&rig, STATUS, 4), 0x80);
	reg_set(&rig, FACTORIAL, 4, 6);
	uiommu_function_drain(rig.fn);
	assert_int_equal(reg_get(&rig, FACTORIAL, 4), 720);
	assert_int_equal(reg_get(&rig, IRQ_STATUS, 4), 1);
	assert_int_equal(rig.arrived[0], 1);
	reg_set(&rig, IRQ_ACK, 4, 1);
	assert_int_equal(reg_get(&rig, IRQ_STATUS, 4), 0);
	reg_set(&rig, STATUS, 4, 0);
	reg_set(&rig, FACTORIAL, 4, 6);
	uiommu_function_drain(rig.fn);
	assert_int_equal(rig.arrived[0], 1);
	rig_down(&rig);
}

static void test_irq_registers(void **state)
{
	struct uiommu_function_stats stats;
	struct rig rig;

	rig_up(&rig, NULL, "edu");
	rig_msi(&rig, 1);
	reg_set(&rig, IRQ_RAISE, 4, 0x30);
	reg_set(&rig, IRQ_RAISE, 4, 0x41);
	assert_int_equal(reg_get(&rig, IRQ_STATUS, 4), 0x71);
	assert_int_equal(rig.arrived[0], 2);
	reg_set(&rig, IRQ_ACK, 4, 0x11);
	assert_int_equal(reg_mapped(&rig, IRQ_STATUS, 4), 0x60);
	/* Nothing new, but something is there still: raised again; nothing at all: not. */
	reg_set(&rig, IRQ_RAISE, 4, 0);
	assert_int_equal(rig.arrived[0], 3);
	reg_set(&rig, IRQ_ACK, 4, UINT32_MAX);
	reg_set(&rig, IRQ_RAISE, 4, 0);
	assert_int_equal(rig.arrived[0], 3);
	reg_set(&rig, IRQ_STATUS, 4, 5);
	assert_int_equal(reg_get(&rig, IRQ_STATUS, 4), 0);
	uiommu_function_stats(rig.fn, &stats);
	assert_int_equal(stats.interrupts, 3);
	rig_down(&rig);
}

static void on_intx(void *ctx, bool level)
{
	int *log = ctx;

	*log = *log * 10 + 1 + level;
}

static void test_intx(void **state)
{
	struct rig rig;
	int log = 0;

	rig_up(&rig, NULL, "edu");
	uiommu_function_set_intx(rig.fn, on_intx, &log);
	assert_int_equal(log, 0);
	reg_set(&rig, IRQ_RAISE, 4, 1);
	reg_set(&rig, IRQ_RAISE, 4, 2);
	assert_int_equal(log, 2);
	assert_true(cfg(&rig, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	reg_set(&rig, IRQ_ACK, 4, 1);
	assert_int_equal(log, 2);
	reg_set(&rig, IRQ_ACK, 4, 2);
	assert_int_equal(log, 21);
	assert_false(cfg(&rig, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	rig_down(&rig);
}

static void dma(struct rig *rig, uint64_t src, uint64_t dst, uint64_t count, uint64_t cmd)
{
	reg_set(rig, DMA_SRC, 8, src);
	reg_set(rig, DMA_DST, 8, dst);
	reg_set(rig, DMA_COUNT, 8, count);
	reg_set(rig, DMA_CMD, 8, cmd);
	uiommu_function_drain(rig->fn);
	assert_int_equal(reg_get(rig, DMA_CMD, 8), cmd & ~UINT64_C(1));
}

static void test_dma(void **state)
{
	struct rig rig;
	size_t i;

	rig_up(&rig, NULL, "edu");
	rig_msi(&rig, 1);
	for (i = 0; i < 4096; i++)
		rig.mem[i] = (uint8_t)(i * 7 + 1);
	dma(&rig, RIG_IOVA, BUFFER, 4096, 1);
	assert_int_equal(rig.arrived[0], 0);
	/* Not aligned, across a page boundary. */
	dma(&rig, BUFFER, RIG_IOVA + 0x1ffd, 4096, 3 | 4);
	assert_memory_equal(rig.mem, rig.mem + 0x1ffd, 4096);
	assert_int_equal(rig.mem[0x1ffc] | rig.mem[0x2ffd], 0);
	assert_int_equal(reg_get(&rig, IRQ_STATUS, 4), 0x100);
	assert_int_equal(rig.arrived[0], 1);
	/* Part of the buffer. */
	dma(&rig, BUFFER + 4000, RIG_IOVA + 0x8000, 96, 3);
	assert_memory_equal(rig.mem + 0x8000, rig.mem + 4000, 96);
	assert_int_equal(rig.mem[0x8000 + 96], 0);
	assert_int_equal(rig.faults, 0);
	rig_down(&rig);
}

static void test_dma_registers(void **state)
{
	struct rig rig;

	rig_up(&rig, NULL, "edu");
	reg_set(&rig, DMA_SRC, 8, UINT64_C(0x123456789abcdef0));
	assert_int_equal(reg_get(&rig, DMA_SRC, 8), UINT64_C(0x123456789abcdef0));
	assert_int_equal(reg_mapped(&rig, DMA_SRC, 8), UINT64_C(0x123456789abcdef0));
	/* Four bytes set the whole register, one or two nothing. */
	reg_set(&rig, DMA_SRC, 4, 0x11223344);
	assert_int_equal(reg_get(&rig, DMA_SRC, 8), 0x11223344);
	reg_set(&rig, DMA_SRC, 2, 0);
	reg_set(&rig, DMA_SRC, 1, 0);
	assert_int_equal(reg_get(&rig, DMA_SRC, 8), 0x11223344);
	/* A command without the start bit isn't kept. */
	reg_set(&rig, DMA_CMD, 4, 6);
	assert_int_equal(reg_get(&rig, DMA_CMD, 8), 0);
	rig_down(&rig);
}

static void test_dma_mask(void **state)
{
	struct rig rig;

	/* By default 28 bits reach the bus. */
	rig_up(&rig, NULL, "edu");
	rig.mem[0] = 0x5a;
	dma(&rig, UINT64_C(0xabc0000000) + RIG_IOVA, BUFFER, 1, 1);
	dma(&rig, BUFFER, UINT64_C(0xfff0000000) + RIG_IOVA + 16, 1, 3);
	assert_int_equal(rig.mem[16], 0x5a);
	assert_int_equal(rig.faults, 0);
	rig_down(&rig);

	rig_up(&rig, NULL, "edu,dma_mask=0xffffffffffff");
	dma(&rig, UINT64_C(0xabc0000000), BUFFER, 1, 1);
	assert_int_equal(rig.faults, 1);
	assert_int_equal(rig.fault.iova, UINT64_C(0xabc0000000));
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_NOT_PRESENT);
	rig_down(&rig);
}

/* On the device's side, outside of the buffer: nothing moves, the command ends, the interrupt
 * comes. */
static void test_dma_outside(void **state)
{
	static const struct {
		uint64_t address, count;
	} rows[] = {
		{BUFFER - 1, 1},    {BUFFER - 1, 2},	    {BUFFER, 4097},
		{BUFFER + 4096, 1}, {BUFFER + 4095, 2},	    {0, 4096},
		{UINT64_MAX, 2},    {BUFFER, UINT64_MAX},   {BUFFER + 1, UINT64_MAX - BUFFER},
		{0, UINT64_MAX},    {BUFFER + 0x100000, 8},
	};
	struct uiommu_function_stats stats;
	struct rig rig;
	size_t i;

	rig_up(&rig, NULL, "edu,dma_mask=0xffffffffffffffff");
	rig_msi(&rig, 1);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		dma(&rig, RIG_IOVA, rows[i].address, rows[i].count, 1 | 4);
		dma(&rig, rows[i].address, RIG_IOVA, rows[i].count, 3 | 4);
		assert_int_equal(rig.arrived[0], 2 * (i + 1));
	}
	assert_int_equal(rig.faults, 0);
	uiommu_function_stats(rig.fn, &stats);
	assert_int_equal(stats.dma.bytes_read, 0);
	rig_down(&rig);
}

static void test_dma_faults(void **state)
{
	struct rig rig;

	rig_up(&rig, NULL, "edu,dma_mask=0xffffffffffffffff");
	rig.mem[RIG_SIZE - 1] = 0x77;
	/* Runs off the end of what is mapped. */
	dma(&rig, RIG_IOVA + RIG_SIZE - 1, BUFFER, 2, 1);
	assert_int_equal(rig.faults, 1);
	assert_int_equal(rig.fault.iova, RIG_IOVA + RIG_SIZE);
	assert_int_equal(rig.fault.access, UIOMMU_READ);
	assert_int_equal(rig.fault.rid, uiommu_function_info(rig.fn)->rid);
	/* Past the end of the space. */
	dma(&rig, UINT64_MAX, BUFFER, 2, 1);
	dma(&rig, BUFFER, UINT64_MAX - 2, 8, 3);
	assert_int_equal(rig.faults, 3);
	assert_int_equal(rig.fault.access, UIOMMU_WRITE);
	/* Bus master off. */
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	dma(&rig, RIG_IOVA, BUFFER, 16, 1);
	assert_int_equal(rig.faults, 4);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_BUS_MASTER);
	rig_down(&rig);
}

/* With PASIDs it is PCI Express; the capability says how many bits, and whether the system has
 * enabled them. */
static void test_pasids(void **state)
{
	static const struct {
		const char *platform;
		uint32_t control, largest;
	} rows[] = {{"x86-vtd", 0, 0},
		    {"x86-vtd,pasid=20", PCI_PASID_CTRL_ENABLE, 0xff},
		    {"x86-vtd,pasid=6", PCI_PASID_CTRL_ENABLE, 0x3f}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig rig;
		uint32_t head;

		rig_up_platform(&rig, rows[i].platform, NULL, "edu,pasid=8");
		assert_int_equal(uiommu_function_info(rig.fn)->config_size, 4096);
		assert_int_not_equal(uiommu_function_info(rig.fn)->pcie_cap, 0);
		head = cfg(&rig, 0x100, 4);
		assert_int_equal(PCI_EXT_CAP_ID(head), PCI_EXT_CAP_ID_DSN);
		head = cfg(&rig, PCI_EXT_CAP_NEXT(head), 4);
		assert_int_equal(PCI_EXT_CAP_ID(head), PCI_EXT_CAP_ID_PASID);
		assert_int_equal(PCI_EXT_CAP_NEXT(head), 0);
		assert_int_equal(cfg(&rig, 0x110 + PCI_PASID_CAP, 2), 8 << 8);
		assert_int_equal(cfg(&rig, 0x110 + PCI_PASID_CTRL, 2), rows[i].control);
		assert_int_equal(reg_get(&rig, 0xa0, 4), 0);
		reg_set(&rig, 0xa0, 4, 0xfffff);
		assert_int_equal(reg_get(&rig, 0xa0, 4), rows[i].largest);
		uiommu_function_reset(rig.fn);
		cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
		assert_int_equal(reg_get(&rig, 0xa0, 4), 0);
		assert_int_equal(cfg(&rig, 0x110 + PCI_PASID_CTRL, 2), rows[i].control);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identification),
		cmocka_unit_test(test_liveness),
		cmocka_unit_test(test_factorial),
		cmocka_unit_test(test_factorial_irq),
		cmocka_unit_test(test_irq_registers),
		cmocka_unit_test(test_intx),
		cmocka_unit_test(test_dma),
		cmocka_unit_test(test_dma_registers),
		cmocka_unit_test(test_dma_mask),
		cmocka_unit_test(test_dma_outside),
		cmocka_unit_test(test_dma_faults),
		cmocka_unit_test(test_pasids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
