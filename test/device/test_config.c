/* SPDX-License-Identifier: MIT */
/* Configuration space: layout, write masks, sizing, power, reset, and memory decoding. */
#include <errno.h>

#include <linux/pci_regs.h>

#include "rig.h"

static void nothing(struct uiommu_function *fn)
{
}

static void nothing_written(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			    uint64_t value)
{
}

/* Everything a function can have. */
static const struct uiommu_model rich = {
	.size = sizeof(rich),
	.name = "rich",
	.vendor = 0xcafe,
	.device = 0xbeef,
	.subsystem_vendor = 0x1122,
	.subsystem_device = 0x3344,
	.class_code = 0x020304,
	.revision = 5,
	.flags = UIOMMU_MODEL_INTX,
	.msi_vectors = 32,
	.msix_vectors = 100,
	.msix_bar = 3,
	.msix_offset = 0x1000,
	.bars = {{4096, 0},
		 {UINT64_C(1) << 33, UIOMMU_BAR_64 | UIOMMU_BAR_PREFETCH},
		 {0, 0},
		 {0x10000, UIOMMU_BAR_64},
		 {0, 0},
		 {UINT64_C(1) << 20, UIOMMU_BAR_PREFETCH}},
	.reset = nothing,
	.bar_write = nothing_written,
};

static void test_identity(void **state)
{
	struct rig rig;

	rig_up(&rig, &rich, NULL);
	assert_int_equal(cfg(&rig, 0, 4), 0xbeefcafe);
	assert_int_equal(cfg(&rig, PCI_CLASS_REVISION, 4), 0x02030405);
	assert_int_equal(cfg(&rig, PCI_SUBSYSTEM_VENDOR_ID, 4), 0x33441122);
	assert_int_equal(cfg(&rig, PCI_INTERRUPT_PIN, 1), 1);
	assert_int_equal(cfg(&rig, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(cfg(&rig, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, PCI_STATUS_CAP_LIST);
	rig_down(&rig);
}

/* All of configuration space, written with ones, then with zeros: what differs is what can be
 * written. */
static void test_write_masks(void **state)
{
	static const struct {
		unsigned offset, len;
		uint32_t mask;
	} rows[] = {
		{PCI_VENDOR_ID, 4, 0},
		{PCI_COMMAND, 2, 0x0546},
		{PCI_STATUS, 2, 0},
		{PCI_CLASS_REVISION, 4, 0},
		{PCI_CACHE_LINE_SIZE, 1, 0xff},
		{PCI_LATENCY_TIMER, 1, 0},
		{PCI_BIST, 1, 0},
		{PCI_BASE_ADDRESS_0, 4, 0xfffff000},
		{PCI_BASE_ADDRESS_1, 4, 0},
		{PCI_BASE_ADDRESS_2, 4, 0xfffffffe},
		{PCI_BASE_ADDRESS_3, 4, 0xffff0000},
		{PCI_BASE_ADDRESS_4, 4, 0xffffffff},
		{PCI_BASE_ADDRESS_5, 4, 0xfff00000},
		{PCI_CARDBUS_CIS, 4, 0},
		{PCI_SUBSYSTEM_VENDOR_ID, 4, 0},
		{PCI_ROM_ADDRESS, 4, 0},
		{PCI_CAPABILITY_LIST, 4, 0},
		{PCI_INTERRUPT_LINE, 1, 0xff},
		{PCI_INTERRUPT_PIN, 1, 0},
		{PCI_MIN_GNT, 2, 0},
	};
	struct rig rig;
	size_t i;

	rig_up(&rig, &rich, NULL);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t ones, zeros;

		cfg_set(&rig, rows[i].offset, rows[i].len, UINT32_MAX);
		ones = cfg(&rig, rows[i].offset, rows[i].len);
		cfg_set(&rig, rows[i].offset, rows[i].len, 0);
		zeros = cfg(&rig, rows[i].offset, rows[i].len);
		if ((ones ^ zeros) != rows[i].mask)
			fail_msg("offset %#x: writable %#x", rows[i].offset, ones ^ zeros);
	}
	/* Bytes are written alone. */
	cfg_set(&rig, PCI_BASE_ADDRESS_0 + 3, 1, 0xab);
	assert_int_equal(cfg(&rig, PCI_BASE_ADDRESS_0, 4), 0xab000000);
	assert_int_equal(cfg(&rig, PCI_BASE_ADDRESS_0 + 2, 2), 0xab00);
	rig_down(&rig);
}

static void test_sizing(void **state)
{
	static const uint32_t read[] = {0xfffff000, 0x0000000c, 0xfffffffe,
					0xffff0004, 0xffffffff, 0xfff00008};
	struct rig rig;
	unsigned i;

	rig_up(&rig, &rich, NULL);
	for (i = 0; i < 6; i++) {
		cfg_set(&rig, PCI_BASE_ADDRESS_0 + 4 * i, 4, UINT32_MAX);
		assert_int_equal(cfg(&rig, PCI_BASE_ADDRESS_0 + 4 * i, 4), read[i]);
	}
	rig_down(&rig);
}

static void test_outside(void **state)
{
	static const struct {
		unsigned offset, len;
	} rows[] = {{4096, 1},	     {4094, 4},	      {4095, 2},       {UINT32_MAX, 1},
		    {UINT32_MAX, 4}, {0, 0},	      {0, 3},	       {0, 8},
		    {0, UINT32_MAX}, {UINT32_MAX, 0}, {0x80000000, 4}, {1u << 12, 2}};
	struct rig rig;
	size_t i;

	rig_up(&rig, &rich, NULL);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(cfg(&rig, rows[i].offset, rows[i].len), UINT32_MAX);
		cfg_set(&rig, rows[i].offset, rows[i].len, 0);
	}
	assert_int_equal(cfg(&rig, 4092, 4), 0);
	assert_int_equal(cfg(&rig, 0, 4), 0xbeefcafe);
	rig_down(&rig);

	rig_up(&rig, NULL, "edu");
	assert_int_equal(uiommu_function_info(rig.fn)->config_size, 256);
	assert_int_equal(cfg(&rig, 252, 4), 0);
	assert_int_equal(cfg(&rig, 256, 1), UINT32_MAX);
	rig_down(&rig);
}

static void test_capabilities(void **state)
{
	const struct uiommu_function_info *info;
	unsigned at, seen = 0;
	struct rig rig;

	rig_up(&rig, &rich, "x@01:00.0");
	info = uiommu_function_info(rig.fn);
	for (at = cfg(&rig, PCI_CAPABILITY_LIST, 1); at; at = cfg(&rig, at + 1, 1)) {
		unsigned id = cfg(&rig, at, 1);

		assert_true(at >= 0x40 && !(at & 3));
		assert_false(seen & 1u << id);
		seen |= 1u << id;
		if (id == PCI_CAP_ID_PM)
			assert_int_equal(at, info->pm_cap);
		else if (id == PCI_CAP_ID_MSI)
			assert_int_equal(at, info->msi_cap);
		else if (id == PCI_CAP_ID_MSIX)
			assert_int_equal(at, info->msix_cap);
		else
			assert_int_equal(at, info->pcie_cap);
	}
	assert_int_equal(seen, 1u << PCI_CAP_ID_PM | 1u << PCI_CAP_ID_MSI | 1u << PCI_CAP_ID_MSIX |
				       1u << PCI_CAP_ID_EXP);
	assert_int_equal(cfg(&rig, info->msi_cap + PCI_MSI_FLAGS, 2), 0x018a);
	assert_int_equal(cfg(&rig, info->msix_cap + PCI_MSIX_FLAGS, 2), 99);
	assert_int_equal(cfg(&rig, info->msix_cap + PCI_MSIX_TABLE, 4), 0x1003);
	assert_int_equal(cfg(&rig, info->msix_cap + PCI_MSIX_PBA, 4), 0x2003);
	assert_true(info->flr);
	assert_int_equal(cfg(&rig, info->pcie_cap + PCI_EXP_FLAGS, 2), 2);
	assert_int_equal(cfg(&rig, info->pcie_cap + PCI_EXP_LNKSTA, 2), 0x0013);
	assert_int_equal(cfg(&rig, 0x100, 4), 0x00010003);
	rig_down(&rig);

	/* On the root bus it is integrated: no link. */
	rig_up(&rig, &rich, NULL);
	info = uiommu_function_info(rig.fn);
	assert_int_equal(cfg(&rig, info->pcie_cap + PCI_EXP_FLAGS, 2), 0x92);
	assert_int_equal(cfg(&rig, info->pcie_cap + PCI_EXP_LNKCAP, 4), 0);
	rig_down(&rig);

	rig_up(&rig, NULL, "edu");
	info = uiommu_function_info(rig.fn);
	assert_false(info->flr);
	assert_int_equal(info->pm_cap | info->pcie_cap | info->msix_cap, 0);
	assert_int_equal(info->msi_cap, 0x40); /* where QEMU has it */
	assert_int_equal(cfg(&rig, PCI_CAPABILITY_LIST, 1), info->msi_cap);
	assert_int_equal(cfg(&rig, info->msi_cap, 4), 0x00800005);
	rig_down(&rig);
}

static void test_memory_decoding(void **state)
{
	const struct uiommu_function_info *info;
	uint64_t value;
	struct rig rig;

	rig_up(&rig, NULL, "ioat");
	info = uiommu_function_info(rig.fn);
	reg_set(&rig, 0x98, 8, 0x1230);
	cfg_set(&rig, PCI_COMMAND, 2, 0);
	value = 0;
	assert_int_equal(uiommu_function_bar_read(rig.fn, 0, 0x98, &value, 8), -EIO);
	assert_int_equal(value, UINT64_MAX);
	assert_int_equal(uiommu_function_bar_write(rig.fn, 0, 0x98, &value, 8), -EIO);
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(reg_get(&rig, 0x98, 8), 0x1230);

	/* D3hot: no answers either; D1 and D2 are not to be had. */
	cfg_set(&rig, info->pm_cap + PCI_PM_CTRL, 2, 3);
	assert_int_equal(cfg(&rig, info->pm_cap + PCI_PM_CTRL, 2), 0x000b);
	assert_int_equal(uiommu_function_bar_read(rig.fn, 0, 0x98, &value, 8), -EIO);
	cfg_set(&rig, info->pm_cap + PCI_PM_CTRL, 2, 1);
	assert_int_equal(cfg(&rig, info->pm_cap + PCI_PM_CTRL, 2), 0x000b);
	cfg_set(&rig, info->pm_cap + PCI_PM_CTRL, 2, 0);
	assert_int_equal(reg_get(&rig, 0x98, 8), 0x1230);
	rig_down(&rig);
}

static void test_bar_bounds(void **state)
{
	static const struct {
		unsigned bar;
		uint64_t offset, len;
		int error;
	} rows[] = {
		{0, 0, 4096, 0},
		{0, 4096, 0, 0},
		{0, 4096, 1, -EINVAL},
		{0, 4095, 2, -EINVAL},
		{0, UINT64_MAX, 2, -EINVAL},
		{0, 1, UINT64_MAX, -EINVAL},
		{2, 0, 1, -EINVAL},
		{6, 0, 1, -EINVAL},
		{UINT32_MAX, 0, 1, -EINVAL},
		{1, (UINT64_C(1) << 33) - 8, 8, 0},
		{1, UINT64_C(1) << 33, 1, -EINVAL},
	};
	uint8_t buf[4096];
	struct rig rig;
	size_t i;

	rig_up(&rig, &rich, NULL);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(uiommu_function_bar_read(rig.fn, rows[i].bar, rows[i].offset, buf,
							  rows[i].len),
				 rows[i].error);
		assert_int_equal(uiommu_function_bar_write(rig.fn, rows[i].bar, rows[i].offset, buf,
							   rows[i].len),
				 rows[i].error);
	}
	assert_null(uiommu_function_bar(rig.fn, 2));
	assert_null(uiommu_function_bar(rig.fn, 6));
	rig_down(&rig);
}

static void check_power_on(struct rig *rig)
{
	const struct uiommu_function_info *info = uiommu_function_info(rig->fn);
	uint32_t control = 0;

	assert_int_equal(cfg(rig, PCI_COMMAND, 2), 0);
	assert_int_equal(cfg(rig, PCI_BASE_ADDRESS_0, 4), 4);
	assert_int_equal(cfg(rig, PCI_INTERRUPT_LINE, 1), 0);
	assert_int_equal(cfg(rig, info->msix_cap + PCI_MSIX_FLAGS, 2), 0);
	assert_int_equal(cfg(rig, info->pcie_cap + PCI_EXP_DEVCTL, 2), 0x2810);
	cfg_set(rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(
		uiommu_function_bar_read(rig->fn, 0, info->model->msix_offset + 12, &control, 4),
		0);
	assert_int_equal(control, 1);
	assert_int_equal(reg_get(rig, info->model->msix_offset, 8), 0);
	assert_int_equal(reg_get(rig, 0x98, 8), 0);
	assert_int_equal(reg_get(rig, 0x88, 8), 3);
}

static void soil(struct rig *rig)
{
	const struct uiommu_function_info *info = uiommu_function_info(rig->fn);

	cfg_set(rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	cfg_set(rig, PCI_BASE_ADDRESS_0, 4, 0xfe000000);
	cfg_set(rig, PCI_INTERRUPT_LINE, 1, 11);
	reg_set(rig, 0x98, 8, 0x1230);
	reg_set(rig, info->model->msix_offset, 8, RIG_IOVA);
	reg_set(rig, info->model->msix_offset + 12, 4, 0);
	cfg_set(rig, info->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	cfg_set(rig, info->pcie_cap + PCI_EXP_DEVCTL, 2, 0x000f);
}

static void test_flr(void **state)
{
	struct rig rig;
	unsigned devctl;
	uint8_t byte;

	rig_up(&rig, NULL, "ioat");
	devctl = uiommu_function_info(rig.fn)->pcie_cap + PCI_EXP_DEVCTL;
	soil(&rig);
	assert_int_equal(uiommu_function_dma_read(rig.fn, RIG_IOVA, &byte, 1), 0);
	uiommu_function_reset(rig.fn);
	assert_int_equal(uiommu_function_dma_read(rig.fn, RIG_IOVA, &byte, 1), -EFAULT);
	assert_int_equal(rig.fault.reason, UIOMMU_FAULT_BUS_MASTER);
	check_power_on(&rig);

	soil(&rig);
	cfg_set(&rig, devctl, 2, PCI_EXP_DEVCTL_BCR_FLR);
	check_power_on(&rig);

	/* The bit alone, and as part of a longer write that starts before it. */
	soil(&rig);
	cfg_set(&rig, devctl + 1, 1, 0x80);
	check_power_on(&rig);
	soil(&rig);
	cfg_set(&rig, devctl - 2, 4, 0x80000000);
	check_power_on(&rig);

	/* Near it is not it. */
	soil(&rig);
	cfg_set(&rig, devctl, 1, 0x80);
	cfg_set(&rig, devctl + 2, 2, 0xffff);
	cfg_set(&rig, devctl - 1, 2, 0x8080);
	assert_int_equal(cfg(&rig, PCI_INTERRUPT_LINE, 1), 11);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),     cmocka_unit_test(test_write_masks),
		cmocka_unit_test(test_sizing),	     cmocka_unit_test(test_outside),
		cmocka_unit_test(test_capabilities), cmocka_unit_test(test_memory_decoding),
		cmocka_unit_test(test_bar_bounds),   cmocka_unit_test(test_flr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
