/* SPDX-License-Identifier: MIT */
/* PAMU's MSI banks in an aperture, in the four ways there are: mapped by request, by an mmap of
 * their page, or by the system where an interrupt needs them; and interrupts that arrive only where
 * a bank is mapped. */
#include "pamu_test.h"

enum { MSIIR = 0x140, MSIIR1 = 0x148 };

static void nothing_arrives(void *ctx, unsigned vector)
{
}

/* Blocks of vectors that somebody else has, one to a bank. */
static void take_vectors(struct rig *rig, unsigned count, struct uiommu_irq **irq)
{
	struct uiommu_msi_message messages[512];

	assert_int_equal(uiommu_platform_irq_alloc(uiommu_machine_platform(rig->machine), NULL, 0,
						   count, false, nothing_arrives, NULL, messages,
						   irq),
			 0);
}

static void give_vectors(struct rig *rig, struct uiommu_irq *irq)
{
	uiommu_platform_irq_free(uiommu_machine_platform(rig->machine), irq);
}

/* ---- explicit ---- */

static void test_map_bank(void **state)
{
	/* 64 windows of a page from 0x40000 on. Window 2 has memory, window 3 a bank. */
	enum { BASE = 0x40000 };
	static const struct {
		uint32_t flags, bank;
		uint64_t iova;
		long result;
	} rows[] = {
		{0, 0, BASE, -EINVAL},
		{4, 9, BASE, -EINVAL},
		{0, 9, 0, -EINVAL},
		{RW, 3, BASE, -ENODEV},
		{RW, UINT32_MAX, 0, -ENODEV},
		{RW, 0, BASE + 64 * PAGE, -EINVAL},
		{RW, 0, BASE - 1, -EINVAL},
		{RW, 0, 0, -EINVAL},
		{RW, 0, UINT64_MAX, -EINVAL},
		{RW, 0, BASE + 2 * PAGE, -EBUSY},
		{RW, 1, BASE + 3 * PAGE, -EBUSY},
		{RW, 0, BASE + 3 * PAGE + 7, -EBUSY},
		{RW, 0, BASE, 0},
		{VFIO_DMA_MAP_FLAG_READ, 1, BASE + 10 * PAGE, 0},
		{RW, 2, BASE + 63 * PAGE + 5, 0}, /* in the window, not at its start */
		{RW, 0, BASE + 20 * PAGE, 0},	  /* a second time */
	};
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu,msi=explicit");

	assert_int_equal(map_bank(&rig, s.container, RW, 0, 0), -ENODEV);
	assert_int_equal(set_geometry(&rig, s.container, BASE, BASE + 64 * PAGE - 1), 0);
	assert_int_equal(map_bank(&rig, s.container, RW, 0, BASE), -ENODEV);
	assert_int_equal(set_windows(&rig, s.container, 64), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, BASE + 2 * PAGE, PAGE, rig.memory), 0);
	assert_int_equal(map_bank(&rig, s.container, RW, 0, BASE + 3 * PAGE), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		long ret = map_bank(&rig, s.container, rows[i].flags, rows[i].bank, rows[i].iova);

		if (ret != rows[i].result)
			fail_msg("row %zu: %ld", i, ret);
	}
	/* Unmapped by the IOVA that was given, and by nothing else. */
	assert_int_equal(unmap_bank(&rig, s.container, BASE + 2 * PAGE), -EINVAL);
	assert_int_equal(unmap_bank(&rig, s.container, BASE + 63 * PAGE), -EINVAL);
	assert_int_equal(unmap_bank(&rig, s.container, BASE + 63 * PAGE + 5), 0);
	assert_int_equal(unmap_bank(&rig, s.container, BASE + 63 * PAGE + 5), -EINVAL);
	assert_int_equal(unmap_bank(&rig, s.container, 0), -EINVAL);
	assert_int_equal(unmap_bank(&rig, s.container, BASE + 1), -EINVAL);
	assert_int_equal(unmap_bank(&rig, s.container, BASE), 0);
	/* A window with a bank is no place for memory, nor does UNMAP_DMA take it away. */
	assert_int_equal(rig_map(&rig, s.container, RW, BASE + 3 * PAGE, PAGE, rig.memory), -EBUSY);
	assert_int_equal(rig_map(&rig, s.container, RW, BASE + 9 * PAGE, 2 * PAGE, rig.memory),
			 -EBUSY);
	assert_int_equal(rig_map(&rig, s.container, RW, BASE + 9 * PAGE, PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, BASE + 11 * PAGE, PAGE, rig.memory), 0);
	assert_int_equal(unmap(&rig, s.container, 0, UINT64_MAX), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, BASE + 10 * PAGE, PAGE, rig.memory),
			 -EBUSY);
	/* New windows: everything is gone. */
	assert_int_equal(set_windows(&rig, s.container, 64), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, BASE, 32 * PAGE, rig.memory), 0);
	assert_int_equal(unmap_bank(&rig, s.container, BASE + 3 * PAGE), -EINVAL);
	pamu_down(&rig, &s);
}

static void test_explicit_interrupts(void **state)
{
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu,msi=explicit", 8);
	int event = eventfd(0, EFD_NONBLOCK);

	/* No window has the bank. */
	assert_int_equal(msi_on(&rig, s.device, event), -ENODEV);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_DOORBELL);
	assert_string_equal(rig.refused.owner, "MSI bank 0");
	assert_string_equal(rig.refused_what, "VFIO_DEVICE_SET_IRQS");
	assert_int_equal(map_bank(&rig, s.container, RW, 1, 4 * PAGE), 0);
	assert_int_equal(msi_on(&rig, s.device, event), -ENODEV);
	/* Mapped, but not for writing: a device could not reach it. */
	assert_int_equal(map_bank(&rig, s.container, VFIO_DMA_MAP_FLAG_READ, 0, 5 * PAGE), 0);
	assert_int_equal(msi_on(&rig, s.device, event), -ENODEV);
	assert_int_equal(unmap_bank(&rig, s.container, 5 * PAGE), 0);
	assert_int_equal(map_bank(&rig, s.container, VFIO_DMA_MAP_FLAG_WRITE, 0, 5 * PAGE + 9), 0);
	assert_int_equal(msi_on(&rig, s.device, event), 0);
	assert_int_equal(msi_address(&rig, s.device), 5 * PAGE + MSIIR);
	/* The aperture is enabled by memory alone. */
	assert_false(edu_interrupts(&rig, s.device, event));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NO_DOMAIN);
	assert_true(rig.last_fault.interrupt);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 4 * PAGE, rig.memory), 0);
	assert_true(edu_interrupts(&rig, s.device, event));
	/* Without the mapping none arrives: a fault, and the device is cut off. */
	assert_int_equal(unmap_bank(&rig, s.container, 5 * PAGE + 9), 0);
	assert_false(edu_interrupts(&rig, s.device, event));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NOT_PRESENT);
	assert_int_equal(rig.last_fault.iova, 5 * PAGE + MSIIR);
	assert_true(rig.last_fault.interrupt);
	assert_true(rig.last_fault.cut_off);
	assert_int_equal(map_bank(&rig, s.container, RW, 0, 5 * PAGE), 0);
	assert_false(edu_interrupts(&rig, s.device, event));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_CUT_OFF);
	assert_int_equal(rig_map(&rig, s.container, RW, 7 * PAGE, PAGE, rig.memory), 0);
	assert_true(edu_interrupts(&rig, s.device, event));
	/* New windows take the banks along; the function still has its address. */
	assert_int_equal(unmap(&rig, s.container, 0, 8 * PAGE), 0);
	assert_int_equal(set_windows(&rig, s.container, 8), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	assert_false(edu_interrupts(&rig, s.device, event));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NOT_PRESENT);
	pamu_down(&rig, &s);
	close(event);
}

/* A bank is a register: no memory to read or to write, and it takes its own data only. */
static void test_bank_is_no_memory(void **state)
{
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu,msi=explicit", 8);

	assert_int_equal(map_bank(&rig, s.container, RW, 0, 4 * PAGE), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	edu_dma(&rig, s.device, 4 * PAGE, false);
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_DOORBELL_READ);
	edu_dma(&rig, s.device, 4 * PAGE, true);
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_INTERRUPT);
	assert_int_equal(rig.faults, 2);
	/* Neither is a violation of the table's. */
	assert_true(edu_reaches(&rig, s.device, 0));
	pamu_down(&rig, &s);
}

/* A vector may come from any bank, so one that was left out is missed once the others are full. */
static void test_bank_left_out(void **state)
{
	struct uiommu_irq *taken[3];
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu,msi=explicit", 8);
	int event = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	assert_int_equal(map_bank(&rig, s.container, RW, 0, 4 * PAGE), 0);
	assert_int_equal(map_bank(&rig, s.container, RW, 2, 6 * PAGE), 0);
	take_vectors(&rig, 256, &taken[0]);
	assert_int_equal(msi_on(&rig, s.device, event), -ENODEV);
	assert_string_equal(rig.refused.owner, "MSI bank 1");
	take_vectors(&rig, 256, &taken[1]);
	assert_int_equal(msi_on(&rig, s.device, event), 0);
	assert_int_equal(msi_address(&rig, s.device), 6 * PAGE + MSIIR);
	assert_true(edu_interrupts(&rig, s.device, event));
	msi_off(&rig, s.device);
	take_vectors(&rig, 256, &taken[2]);
	assert_int_equal(msi_on(&rig, s.device, event), -ENOSPC);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_LIMIT);
	give_vectors(&rig, taken[0]);
	assert_int_equal(msi_on(&rig, s.device, event), 0);
	assert_int_equal(msi_address(&rig, s.device), 4 * PAGE + MSIIR);
	assert_true(edu_interrupts(&rig, s.device, event));
	assert_int_equal(rig.faults, 0);
	give_vectors(&rig, taken[1]);
	give_vectors(&rig, taken[2]);
	pamu_down(&rig, &s);
	close(event);
}

static void test_four_banks(void **state)
{
	struct uiommu_irq *taken[3];
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu,msi=explicit,banks=4", 8);
	int event = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(rig_ioctl_value(&rig, s.container, VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT, 0),
			 4);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	for (unsigned bank = 0; bank < 4; bank++)
		assert_int_equal(map_bank(&rig, s.container, RW, bank, (4 + bank) * PAGE), 0);
	assert_int_equal(map_bank(&rig, s.container, RW, 4, PAGE), -ENODEV);
	for (unsigned bank = 0; bank < 4; bank++) {
		assert_int_equal(msi_on(&rig, s.device, event), 0);
		assert_int_equal(msi_address(&rig, s.device), (4 + bank) * PAGE + MSIIR1);
		assert_true(edu_interrupts(&rig, s.device, event));
		msi_off(&rig, s.device);
		if (bank < 3)
			take_vectors(&rig, 512, &taken[bank]);
	}
	for (unsigned bank = 0; bank < 3; bank++)
		give_vectors(&rig, taken[bank]);
	pamu_down(&rig, &s);
	close(event);
}

/* ---- implicit ---- */

static void check_doorbell(struct uiommu_ioas *ioas, const char *name, uint64_t iova)
{
	struct uiommu_doorbell_mapping list[4];
	struct uiommu_reserved reserved[8];
	size_t count = 4, n = 8;
	bool found = false;

	assert_int_equal(uiommu_ioas_doorbells(ioas, list, &count), 0);
	for (size_t i = 0; i < count && i < 4; i++)
		found |= !strcmp(list[i].name, name) && list[i].iova == iova;
	assert_true(found);
	/* Its whole window is shown as taken, under its name. */
	assert_int_equal(uiommu_ioas_reserved(ioas, reserved, &n), 0);
	found = false;
	for (size_t i = 0; i < n && i < 8; i++)
		found |= !strcmp(reserved[i].owner, name) && reserved[i].range.first == iova &&
			 reserved[i].type == UIOMMU_RESV_MSI;
	assert_true(found);
}

static void keep_ioas(void *ctx, struct uiommu_ioas *ioas, const char *name)
{
	*(struct uiommu_ioas **)ctx = ioas;
}

static void test_implicit(void **state)
{
	static const char *const functions[] = {"edu@00:01.0,group=0", "edu@00:02.0,group=0", NULL};
	const struct rig_options options = {.platform = "fsl-pamu", .functions = functions};
	struct uiommu_ioas *ioas = NULL;
	struct rig rig;
	struct session s;
	size_t count = 0;
	int event = eventfd(0, EFD_NONBLOCK), second = eventfd(0, EFD_NONBLOCK), device;

	assert_true(rig_up(&rig, &options));
	s = rig_session(&rig, 0, VFIO_FSL_PAMU_IOMMU, EDU);
	device = rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:02.0");
	rig_config_set(&rig, s.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	rig_config_set(&rig, device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(map_bank(&rig, s.container, RW, 0, 0), -ENOTTY);
	assert_int_equal(unmap_bank(&rig, s.container, 0), -ENOTTY);
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_GROUP_GET_MSI_FD, 0), -ENOTTY);
	/* No windows, no room. */
	assert_int_equal(msi_on(&rig, s.device, event), -ENODEV);
	assert_int_equal(set_geometry(&rig, s.container, 0, 16 * PAGE - 1), 0);
	assert_int_equal(msi_on(&rig, s.device, event), -ENODEV);
	assert_int_equal(set_windows(&rig, s.container, 8), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 8 * PAGE, rig.memory), 0);
	uiommu_vfio_each_ioas(rig.vfio, keep_ioas, &ioas);

	/* On demand, from the top; two devices share a bank. */
	assert_int_equal(uiommu_ioas_doorbells(ioas, NULL, &count), 0);
	assert_int_equal(msi_on(&rig, s.device, event), 0);
	assert_int_equal(msi_on(&rig, device, second), 0);
	assert_int_equal(msi_address(&rig, s.device), 14 * PAGE + MSIIR);
	assert_int_equal(msi_address(&rig, device), 14 * PAGE + MSIIR);
	check_doorbell(ioas, "MSI bank 0", 14 * PAGE);
	assert_true(edu_interrupts(&rig, s.device, event));
	assert_true(edu_interrupts(&rig, device, second));
	assert_int_equal(rig_wait(event, NEVER), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 14 * PAGE, 2 * PAGE, rig.memory), -EBUSY);
	assert_string_equal(rig.refused.owner, "MSI bank 0");
	msi_off(&rig, device);
	check_doorbell(ioas, "MSI bank 0", 14 * PAGE);

	/* While an interrupt uses a bank the windows stay. */
	assert_int_equal(unmap(&rig, s.container, 0, 16 * PAGE), 0);
	assert_int_equal(set_windows(&rig, s.container, 4), -EBUSY);
	assert_false(edu_interrupts(&rig, s.device, event));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 8 * PAGE, rig.memory), 0);
	assert_true(edu_interrupts(&rig, s.device, event));
	/* The last one takes the mapping with it, and the window is free again. */
	msi_off(&rig, s.device);
	count = 0;
	assert_int_equal(uiommu_ioas_doorbells(ioas, NULL, &count), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 8 * PAGE, 8 * PAGE, rig.memory), 0);
	/* Now the program has left no room. */
	assert_int_equal(msi_on(&rig, s.device, event), -ENOSPC);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_DOORBELL);
	assert_int_equal(unmap(&rig, s.container, 6 * PAGE, 2 * PAGE), 0);
	assert_int_equal(msi_on(&rig, s.device, event), 0);
	assert_int_equal(msi_address(&rig, s.device), 6 * PAGE + MSIIR);
	assert_true(edu_interrupts(&rig, s.device, event));
	rig_close(&rig, device);
	pamu_down(&rig, &s);
	close(event);
	close(second);
}

/* Fill a bank of which one vector is taken: 255 more. */
static void fill_bank(struct rig *rig, struct uiommu_irq *irqs[8])
{
	for (unsigned i = 0; i < 8; i++)
		take_vectors(rig, 128 >> i, &irqs[i]);
}

/* Three banks below each other, each for a device of its own. */
static void test_implicit_layout(void **state)
{
	static const char *const functions[] = {"edu@00:01.0,group=0", "edu@00:02.0,group=0",
						"edu@00:03.0,group=0", NULL};
	static const char *const names[] = {EDU, "0000:00:02.0", "0000:00:03.0"};
	const struct rig_options options = {.platform = "fsl-pamu", .functions = functions};
	struct uiommu_ioas *ioas = NULL;
	struct uiommu_irq *taken[2][8];
	int devices[3], events[3];
	struct rig rig;
	struct session s;

	assert_true(rig_up(&rig, &options));
	s = rig_session(&rig, 0, VFIO_FSL_PAMU_IOMMU, NULL);
	assert_int_equal(set_geometry(&rig, s.container, 0, 16 * PAGE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 8), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 8 * PAGE, rig.memory), 0);
	uiommu_vfio_each_ioas(rig.vfio, keep_ioas, &ioas);
	for (unsigned i = 0; i < 3; i++) {
		devices[i] = rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, names[i]);
		events[i] = eventfd(0, EFD_NONBLOCK);
		rig_config_set(&rig, devices[i], PCI_COMMAND, 2,
			       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
		assert_int_equal(msi_on(&rig, devices[i], events[i]), 0);
		assert_int_equal(msi_address(&rig, devices[i]), (14 - 2 * i) * PAGE + MSIIR);
		if (i < 2)
			fill_bank(&rig, taken[i]);
	}
	check_doorbell(ioas, "MSI bank 0", 14 * PAGE);
	check_doorbell(ioas, "MSI bank 1", 12 * PAGE);
	check_doorbell(ioas, "MSI bank 2", 10 * PAGE);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(edu_interrupts(&rig, devices[i], events[i]));
		rig_close(&rig, devices[i]);
		close(events[i]);
	}
	for (unsigned i = 0; i < 16; i++)
		give_vectors(&rig, taken[i / 8][i % 8]);
	pamu_down(&rig, &s);
}

/* A function with four MSI-X vectors: a store of n to register 0 raises vector n. */
static void many_reset(struct uiommu_function *fn)
{
}

static void many_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
		       uint64_t value)
{
	if (offset == 0)
		uiommu_function_raise(fn, value);
}

static const struct uiommu_model many = {
	.size = sizeof(struct uiommu_model),
	.name = "many",
	.summary = "four vectors",
	.vendor = 0x1234,
	.device = 0x5678,
	.class_code = 0xff0000,
	.msix_vectors = 4,
	.msix_offset = 0x4000,
	.bars = {{.size = 0x8000, .flags = UIOMMU_BAR_64}},
	.reset = many_reset,
	.bar_write = many_write,
};

static long msix(struct rig *rig, int device, unsigned start, unsigned count, const int32_t *fds)
{
	uint32_t data = fds ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE;

	return rig_irqs(rig, device, data | VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX,
			start, count, fds);
}

/* Vectors of their own, masked and unmasked; the bank stays as long as one of them. */
static void test_msix(void **state)
{
	static const char *const none[] = {NULL};
	const struct rig_options options = {.platform = "fsl-pamu",
					    .functions = none,
					    .model = &many,
					    .model_spec = "many@00:01.0,group=0"};
	struct uiommu_ioas *ioas = NULL;
	struct uiommu_doorbell_mapping bell;
	size_t count = 1;
	int32_t events[4], minus = -1;
	struct rig rig;
	struct session s;

	assert_true(rig_up(&rig, &options));
	s = rig_session(&rig, 0, VFIO_FSL_PAMU_IOMMU, EDU);
	rig_config_set(&rig, s.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(set_geometry(&rig, s.container, 0, 8 * PAGE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 8), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	uiommu_vfio_each_ioas(rig.vfio, keep_ioas, &ioas);
	for (unsigned i = 0; i < 4; i++)
		events[i] = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(msix(&rig, s.device, 0, 4, events), 0);
	assert_int_equal(uiommu_ioas_doorbells(ioas, &bell, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(bell.users, 4);
	for (unsigned i = 0; i < 4; i++) {
		rig_reg_set(&rig, s.device, 0, 0, i);
		assert_int_equal(rig_wait(events[i], COMES), 1);
	}
	/* Without an eventfd a vector is masked; what it raised comes when it has one again. */
	assert_int_equal(msix(&rig, s.device, 2, 1, &minus), 0);
	rig_reg_set(&rig, s.device, 0, 0, 2);
	rig_reg_set(&rig, s.device, 0, 0, 1);
	assert_int_equal(rig_wait(events[1], COMES), 1);
	assert_int_equal(rig_wait(events[2], NEVER), 0);
	assert_int_equal(msix(&rig, s.device, 2, 1, &events[2]), 0);
	assert_int_equal(rig_wait(events[2], COMES), 1);
	assert_int_equal(rig.faults, 0);
	assert_int_equal(msix(&rig, s.device, 0, 0, NULL), 0);
	count = 0;
	assert_int_equal(uiommu_ioas_doorbells(ioas, NULL, &count), 0);
	assert_int_equal(count, 0);
	for (unsigned i = 0; i < 4; i++)
		close(events[i]);
	pamu_down(&rig, &s);
}

/* ---- rounded ---- */

static void test_rounded(void **state)
{
	static const struct {
		uint32_t asked, count;
	} rows[] = {
		{0, 0},	    {1, 4},   {2, 8},	{4, 8},	    {5, 8},
		{6, 16},    {13, 16}, {14, 32}, {125, 128}, {126, 256},
		{253, 256}, {254, 0}, {256, 0}, {257, 0},   {UINT32_MAX, 0},
	};
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu,msi=rounded");
	int event = eventfd(0, EFD_NONBLOCK);

	/* The most that can be asked for. */
	assert_int_equal(get_windows(&rig, s.container), 253);
	assert_int_equal(set_windows(&rig, s.container, 4), -EINVAL);
	assert_int_equal(set_geometry(&rig, s.container, 0, 256 * PAGE - 1), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		long ret = set_windows(&rig, s.container, rows[i].asked);

		if (ret != (rows[i].count ? 0 : -EINVAL))
			fail_msg("row %zu: %ld", i, ret);
		/* What there is: a program needs it to know the size of a window. */
		if (!ret)
			assert_int_equal(get_windows(&rig, s.container), rows[i].count);
	}
	assert_int_equal(set_geometry(&rig, s.container, 0, 8 * PAGE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 5), 0);
	/* The last three are kept. */
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 6 * PAGE, rig.memory), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_RESERVED);
	assert_int_equal(rig.refused.blocking.first, 5 * PAGE);
	assert_int_equal(rig.refused.blocking.last, 8 * PAGE - 1);
	for (unsigned window = 5; window < 8; window++)
		assert_int_equal(rig_map(&rig, s.container, RW, window * PAGE, PAGE, rig.memory),
				 -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 5 * PAGE, rig.memory), 0);
	assert_int_equal(msi_on(&rig, s.device, event), 0);
	assert_int_equal(msi_address(&rig, s.device), 7 * PAGE + MSIIR);
	assert_true(edu_interrupts(&rig, s.device, event));
	assert_int_equal(map_bank(&rig, s.container, RW, 0, 5 * PAGE), -ENOTTY);
	pamu_down(&rig, &s);
	close(event);
}

static void test_rounded_four(void **state)
{
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu,msi=rounded,banks=4");

	assert_int_equal(get_windows(&rig, s.container), 252);
	assert_int_equal(set_geometry(&rig, s.container, 0, 8 * PAGE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 5), -EINVAL); /* 16 of 8 pages */
	assert_int_equal(set_windows(&rig, s.container, 4), 0);
	assert_int_equal(get_windows(&rig, s.container), 8);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 5 * PAGE, rig.memory), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 4 * PAGE, rig.memory), 0);
	pamu_down(&rig, &s);
}

/* ---- mmap ---- */

static void test_bank_files(void **state)
{
	struct uiommu_vfio_mapping mapping;
	struct uiommu_vfio_file *file;
	struct rig rig;
	struct session s;
	const struct rig_options options = {.platform = "fsl-pamu,msi=mmap"};
	int group, fd;

	assert_true(rig_up(&rig, &options));
	group = rig_open_group(&rig, 0);
	assert_int_equal(rig_ioctl_value(&rig, group, VFIO_GROUP_GET_MSI_FD, 0), -EINVAL);
	assert_int_equal(rig_ioctl_value(&rig, group, VFIO_GROUP_GET_MSI_FD, 3), -ENODEV);
	rig_close(&rig, group);
	s = rig_session(&rig, 0, VFIO_FSL_PAMU_IOMMU, NULL);
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_GROUP_GET_MSI_FD, 3), -ENODEV);
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_GROUP_GET_MSI_FD, UINT64_MAX),
			 -ENODEV);
	rig.no_descriptors = true;
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_GROUP_GET_MSI_FD, 0), -EMFILE);
	rig.no_descriptors = false;
	for (uint64_t bank = 0; bank < 3; bank++) {
		fd = rig_ioctl_value(&rig, s.group, VFIO_GROUP_GET_MSI_FD, bank);
		assert_true(fd >= 0);
		file = rig_file(&rig, fd);
		assert_int_equal(uiommu_vfio_file_kind(file), UIOMMU_VFIO_MSI_BANK);
		assert_null(uiommu_vfio_file_function(file));
		assert_int_equal(uiommu_vfio_mmap(file, PAGE, 3, 1, 0, &mapping), 0);
		assert_int_equal(mapping.doorbell, 0xffe044000 + bank * PAGE);
		assert_int_equal(uiommu_vfio_mmap(file, 1, 3, 1, 0, &mapping), 0);
		assert_int_equal(uiommu_vfio_mmap(file, 0, 3, 1, 0, &mapping), -EINVAL);
		assert_int_equal(uiommu_vfio_mmap(file, PAGE + 1, 3, 1, 0, &mapping), -EINVAL);
		assert_int_equal(uiommu_vfio_mmap(file, PAGE, 3, 1, PAGE, &mapping), -EINVAL);
		assert_int_equal(uiommu_vfio_mmap(file, PAGE, 3, 2, 0, &mapping), -EINVAL);
		assert_int_equal(uiommu_vfio_pread(file, rig.memory, 4, 0), -EINVAL);
		assert_int_equal(rig_ioctl(&rig, fd, VFIO_DEVICE_GET_INFO, rig.memory), -ENOTTY);
		/* It is nobody's container, group or device. */
		assert_int_equal(rig_ioctl(&rig, s.group, VFIO_GROUP_SET_CONTAINER, &fd), -EINVAL);
		rig_close(&rig, fd);
	}
	assert_int_equal(rig_ioctl(&rig, s.group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_GROUP_GET_MSI_FD, 0), -EINVAL);
	pamu_down(&rig, &s);
}

static void test_mmap(void **state)
{
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu,msi=mmap");
	int event = eventfd(0, EFD_NONBLOCK);
	uint8_t *page = rig.memory + 8 * PAGE;
	uint64_t bank;

	assert_int_equal(map_bank(&rig, s.container, RW, 0, 0), -ENOTTY);
	assert_int_equal(set_geometry(&rig, s.container, 0, 16 * PAGE - 1), 0);
	rig.doorbell_page = (uintptr_t)page;
	rig.doorbell = 0xffe044000;
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, page), -ENODEV);
	assert_int_equal(set_windows(&rig, s.container, 8), 0);
	assert_int_equal(msi_on(&rig, s.device, event), -ENODEV);
	/* The page and nothing but the page, at the start of a window. */
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 2 * PAGE, page), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 2 * PAGE, page - PAGE), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, page + 1), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 9 * PAGE, PAGE, page), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 16 * PAGE, PAGE, page), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, 0, 8 * PAGE, PAGE, page), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 8 * PAGE, PAGE, page), 0);
	/* An ordinary mapping, so the aperture is enabled, and the window taken. */
	assert_int_equal(msi_on(&rig, s.device, event), 0);
	assert_int_equal(msi_address(&rig, s.device), 8 * PAGE + MSIIR);
	assert_true(edu_interrupts(&rig, s.device, event));
	assert_int_equal(rig_map(&rig, s.container, RW, 8 * PAGE, PAGE, page), -EBUSY);
	assert_int_equal(rig_map(&rig, s.container, RW, 8 * PAGE, 2 * PAGE, rig.memory), -EBUSY);
	assert_int_equal(set_windows(&rig, s.container, 4), -EBUSY);
	/* The window beside it is memory's. */
	assert_int_equal(rig_map(&rig, s.container, RW, 10 * PAGE, 2 * PAGE, rig.memory), 0);
	assert_true(edu_reaches(&rig, s.device, 10 * PAGE));
	/* Taken away, and with it the interrupt. */
	assert_int_equal(unmap(&rig, s.container, 8 * PAGE, PAGE), 0);
	assert_false(edu_interrupts(&rig, s.device, event));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NOT_PRESENT);
	assert_true(rig.last_fault.cut_off);
	/* Whatever may lie at its address later. */
	bank = rig.doorbell_page;
	rig.doorbell_page = 0;
	assert_int_equal(rig_map(&rig, s.container, RW, 8 * PAGE, 2 * PAGE, (void *)bank), 0);
	assert_int_equal(unmap(&rig, s.container, 0, UINT64_MAX), 0);
	assert_int_equal(set_windows(&rig, s.container, 4), 0);
	pamu_down(&rig, &s);
	close(event);
}

/* Where banks are not mmapped, the host is not asked. */
static void test_mmap_elsewhere(void **state)
{
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu", 8);

	rig.doorbell_page = (uintptr_t)rig.memory;
	rig.doorbell = 0xffe044000;
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	assert_true(edu_reaches(&rig, s.device, 0));
	pamu_down(&rig, &s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_bank),
		cmocka_unit_test(test_explicit_interrupts),
		cmocka_unit_test(test_bank_is_no_memory),
		cmocka_unit_test(test_bank_left_out),
		cmocka_unit_test(test_four_banks),
		cmocka_unit_test(test_implicit),
		cmocka_unit_test(test_implicit_layout),
		cmocka_unit_test(test_msix),
		cmocka_unit_test(test_rounded),
		cmocka_unit_test(test_rounded_four),
		cmocka_unit_test(test_bank_files),
		cmocka_unit_test(test_mmap),
		cmocka_unit_test(test_mmap_elsewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
