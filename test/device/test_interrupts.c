/* SPDX-License-Identifier: MIT */
/* MSI-X, MSI and INTx with a model whose only register raises the vector written to it. */
#include <errno.h>

#include <linux/pci_regs.h>

#include "rig.h"

enum {
	RAISE = 0, /* write: raise this vector; then reads as its result */
	LOWER = 8,
};

#define TABLE	0x1000u
#define PBA	0x2000u
#define VECTORS 70

static void bell_reset(struct uiommu_function *fn)
{
	uiommu_function_set_reg(fn, 0, RAISE, 4, 0);
}

static void bell_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
		       uint64_t value)
{
	if (offset == RAISE)
		uiommu_function_set_reg(fn, 0, RAISE, 4,
					(uint32_t)-uiommu_function_raise(fn, (unsigned)value));
	else if (offset == LOWER)
		uiommu_function_lower(fn);
}

#define BELL                                                                        \
	.size = sizeof(struct uiommu_model), .name = "bell", .bars = {{0x4000, 0}}, \
	.reset = bell_reset, .bar_write = bell_write

static const struct uiommu_model bell_msix = {BELL, .msix_vectors = VECTORS, .msix_offset = TABLE,
					      .flags = UIOMMU_MODEL_INTX};
static const struct uiommu_model bell_msi = {
	BELL, .msi_vectors = 8, .flags = UIOMMU_MODEL_INTX | UIOMMU_MODEL_CONVENTIONAL};
static const struct uiommu_model bell_none = {BELL};

static uint32_t ring(struct rig *rig, unsigned vector)
{
	reg_set(rig, RAISE, 4, vector);
	return (uint32_t)reg_get(rig, RAISE, 4);
}

static void msix_control(struct rig *rig, uint32_t value)
{
	cfg_set(rig, uiommu_function_info(rig->fn)->msix_cap + PCI_MSIX_FLAGS, 2, value);
}

static void test_msix(void **state)
{
	struct uiommu_function_stats stats;
	struct rig rig;

	rig_up(&rig, &bell_msix, NULL);
	rig_msix(&rig, 4);
	assert_int_equal(ring(&rig, 0), 0);
	assert_int_equal(ring(&rig, 3), 0);
	assert_int_equal(ring(&rig, 3), 0);
	assert_int_equal(rig.arrived[0], 1);
	assert_int_equal(rig.arrived[3], 2);
	assert_int_equal(ring(&rig, VECTORS), EINVAL);
	uiommu_function_stats(rig.fn, &stats);
	assert_int_equal(stats.interrupts, 3);
	assert_int_equal(stats.dma.doorbells, 3);
	rig_down(&rig);
}

static void test_msix_masked(void **state)
{
	struct rig rig;

	rig_up(&rig, &bell_msix, NULL);
	rig_msix(&rig, 4);
	reg_set(&rig, TABLE + 16 * 2 + 12, 4, 1);
	assert_int_equal(ring(&rig, 2), 0);
	assert_int_equal(ring(&rig, 2), 0);
	assert_int_equal(rig.arrived[2], 0);
	assert_int_equal(reg_get(&rig, PBA, 8), 4);
	assert_int_equal(reg_mapped(&rig, PBA, 8), 4);
	/* The PBA can't be written. */
	reg_set(&rig, PBA, 8, 0);
	assert_int_equal(reg_get(&rig, PBA, 8), 4);
	reg_set(&rig, TABLE + 16 * 2 + 12, 4, 0);
	assert_int_equal(rig.arrived[2], 1);
	assert_int_equal(reg_get(&rig, PBA, 8), 0);

	/* The whole function, beyond the first word of pending bits too. */
	msix_control(&rig, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	ring(&rig, 0);
	ring(&rig, 1);
	ring(&rig, 69);
	assert_int_equal(reg_get(&rig, PBA, 8), 3);
	assert_int_equal(reg_get(&rig, PBA + 8, 8), 32);
	assert_int_equal(rig.arrived[0], 0);
	msix_control(&rig, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(rig.arrived[0], 1);
	assert_int_equal(rig.arrived[1], 1);
	/* 69 is masked by its entry since power-on. */
	assert_int_equal(reg_get(&rig, PBA, 8), 0);
	assert_int_equal(reg_get(&rig, PBA + 8, 8), 32);

	/* Unmasked while MSI-X is off: sent when it is on again. */
	reg_set(&rig, TABLE + 12, 4, 1);
	ring(&rig, 0);
	msix_control(&rig, 0);
	reg_set(&rig, TABLE + 12, 4, 0);
	assert_int_equal(rig.arrived[0], 1);
	msix_control(&rig, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(rig.arrived[0], 2);
	uiommu_function_reset(rig.fn);
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(reg_get(&rig, PBA + 8, 8), 0);
	rig_down(&rig);
}

static void test_msix_table(void **state)
{
	struct rig rig;

	rig_up(&rig, &bell_msix, NULL);
	assert_int_equal(reg_get(&rig, TABLE + 12, 4), 1);
	assert_int_equal(reg_get(&rig, TABLE + 16 * 69 + 12, 4), 1);
	reg_set(&rig, TABLE, 8, UINT64_MAX);
	assert_int_equal(reg_mapped(&rig, TABLE, 8), UINT64_MAX - 3);
	reg_set(&rig, TABLE + 8, 8, UINT64_MAX);
	assert_int_equal(reg_get(&rig, TABLE + 8, 8), UINT64_C(0x1ffffffff));
	reg_set(&rig, TABLE + 13, 1, 0xff);
	reg_set(&rig, TABLE + 9, 1, 0x12);
	assert_int_equal(reg_get(&rig, TABLE + 8, 8), UINT64_C(0x1ffff12ff));
	/* Behind the table the model's registers begin again. */
	reg_set(&rig, TABLE + 16 * VECTORS, 4, 0x55);
	assert_int_equal(reg_get(&rig, TABLE + 16 * VECTORS, 4), 0);
	rig_down(&rig);
}

/* An interrupt is a DMA write: nothing there, no interrupt. */
static void test_message_faults(void **state)
{
	struct uiommu_function_stats stats;
	struct rig rig;

	rig_up(&rig, &bell_msix, NULL);
	rig_msix(&rig, 1);
	reg_set(&rig, TABLE, 8, UINT64_C(0x7000000000));
	reg_set(&rig, TABLE + 8, 4, 0xabcd);
	assert_int_equal(ring(&rig, 0), EFAULT);
	assert_int_equal(rig.faults, 1);
	assert_int_equal(rig.fault.iova, UINT64_C(0x7000000000));
	assert_int_equal(rig.fault.access, UIOMMU_WRITE);
	/* Into memory, like any other write. */
	reg_set(&rig, TABLE, 8, RIG_IOVA + 0x40);
	assert_int_equal(ring(&rig, 0), 0);
	assert_int_equal(rig.mem[0x40], 0xcd);
	assert_int_equal(rig.mem[0x41], 0xab);
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(ring(&rig, 0), EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_BUS_MASTER);
	uiommu_function_stats(rig.fn, &stats);
	assert_int_equal(stats.interrupts, 1);
	rig_down(&rig);
}

static void test_msi(void **state)
{
	unsigned cap, i;
	struct rig rig;

	rig_up(&rig, &bell_msi, NULL);
	cap = uiommu_function_info(rig.fn)->msi_cap;
	rig_msi(&rig, 4);
	for (i = 0; i < 8; i++)
		assert_int_equal(ring(&rig, i), 0);
	for (i = 0; i < 4; i++)
		assert_int_equal(rig.arrived[i], 2);
	/* Reserved and read-only bits. */
	cfg_set(&rig, cap + PCI_MSI_ADDRESS_LO, 4, UINT32_MAX);
	assert_int_equal(cfg(&rig, cap + PCI_MSI_ADDRESS_LO, 4), 0xfffffffc);
	cfg_set(&rig, cap + PCI_MSI_DATA_64 + 2, 2, 0xffff);
	assert_int_equal(cfg(&rig, cap + PCI_MSI_DATA_64, 4) >> 16, 0);
	cfg_set(&rig, cap, 4, UINT32_MAX);
	assert_int_equal(cfg(&rig, cap, 4), 0x01f70005);
	rig_down(&rig);
}

static void test_msi_masked(void **state)
{
	unsigned cap;
	struct rig rig;

	rig_up(&rig, &bell_msi, NULL);
	cap = uiommu_function_info(rig.fn)->msi_cap;
	rig_msi(&rig, 8);
	cfg_set(&rig, cap + PCI_MSI_MASK_64, 4, UINT32_MAX);
	assert_int_equal(cfg(&rig, cap + PCI_MSI_MASK_64, 4), 0xff);
	ring(&rig, 1);
	ring(&rig, 1);
	ring(&rig, 6);
	assert_int_equal(cfg(&rig, cap + PCI_MSI_PENDING_64, 4), 0x42);
	cfg_set(&rig, cap + PCI_MSI_PENDING_64, 4, 0);
	assert_int_equal(cfg(&rig, cap + PCI_MSI_PENDING_64, 4), 0x42);
	assert_int_equal(rig.arrived[1], 0);
	cfg_set(&rig, cap + PCI_MSI_MASK_64, 4, 0x40);
	assert_int_equal(rig.arrived[1], 1);
	assert_int_equal(rig.arrived[6], 0);
	assert_int_equal(cfg(&rig, cap + PCI_MSI_PENDING_64, 4), 0x40);
	cfg_set(&rig, cap + PCI_MSI_MASK_64, 4, 0);
	assert_int_equal(rig.arrived[6], 1);
	assert_int_equal(cfg(&rig, cap + PCI_MSI_PENDING_64, 4), 0);
	rig_down(&rig);
}

static void on_intx(void *ctx, bool level)
{
	int *log = ctx;

	*log = *log * 10 + 1 + level;
}

static void test_intx(void **state)
{
	struct uiommu_function_stats stats;
	struct rig rig;
	int log = 0;

	rig_up(&rig, &bell_msix, NULL);
	uiommu_function_set_intx(rig.fn, on_intx, &log);
	ring(&rig, 0);
	ring(&rig, 0);
	assert_int_equal(log, 2);
	/* Disabled: the line falls, the status stays. */
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(log, 21);
	assert_true(cfg(&rig, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(log, 212);
	/* MSI-X takes over. */
	msix_control(&rig, PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(log, 2121);
	msix_control(&rig, 0);
	assert_int_equal(log, 21212);
	/* A listener that comes late is told, one that left isn't. */
	log = 0;
	uiommu_function_set_intx(rig.fn, on_intx, &log);
	assert_int_equal(log, 2);
	uiommu_function_set_intx(rig.fn, NULL, NULL);
	reg_set(&rig, LOWER, 4, 0);
	assert_int_equal(log, 2);
	uiommu_function_set_intx(rig.fn, on_intx, &log);
	assert_int_equal(log, 2);
	assert_false(cfg(&rig, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	/* A reset lowers it. */
	ring(&rig, 0);
	uiommu_function_reset(rig.fn);
	assert_int_equal(log, 221);
	uiommu_function_stats(rig.fn, &stats);
	assert_int_equal(stats.interrupts, 2);
	rig_down(&rig);

	rig_up(&rig, &bell_none, NULL);
	assert_int_equal(ring(&rig, 0), 0);
	assert_false(cfg(&rig, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_msix),	   cmocka_unit_test(test_msix_masked),
		cmocka_unit_test(test_msix_table), cmocka_unit_test(test_message_faults),
		cmocka_unit_test(test_msi),	   cmocka_unit_test(test_msi_masked),
		cmocka_unit_test(test_intx),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
