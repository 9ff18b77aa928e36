/* SPDX-License-Identifier: MIT */
/* What the tests of VFIO on PAMU share: requests in one line each, and edu as the device. */
#ifndef TEST_PAMU_TEST_H
#define TEST_PAMU_TEST_H

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <uiommu/linux/vfio_pamu.h>

#include "abi_test.h"
#include "check.h"

#define EDU    "0000:00:01.0"
#define RW     (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)
#define WINDOW PAGE /* small windows: the rig's memory is small */

/* Long enough for what must come, short for what must not. */
#define COMES 10000
#define NEVER 0

static long get_attr(struct rig *rig, int container, uint32_t attribute,
		     struct vfio_pamu_attr *attr)
{
	memset(attr, 0xa5, sizeof(*attr));
	attr->argsz = sizeof(*attr);
	attr->attribute = attribute;
	return rig_ioctl(rig, container, VFIO_IOMMU_PAMU_GET_ATTR, attr);
}

static long set_geometry(struct rig *rig, int container, uint64_t first, uint64_t last)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_GEOMETRY};

	attr.attr_info.attr.aperture_start = first;
	attr.attr_info.attr.aperture_end = last;
	return rig_ioctl(rig, container, VFIO_IOMMU_PAMU_SET_ATTR, &attr);
}

static long set_windows(struct rig *rig, int container, uint32_t count)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_WINDOWS};

	attr.attr_info.windows = count;
	return rig_ioctl(rig, container, VFIO_IOMMU_PAMU_SET_ATTR, &attr);
}

static uint32_t get_windows(struct rig *rig, int container)
{
	struct vfio_pamu_attr attr;

	assert_int_equal(get_attr(rig, container, VFIO_ATTR_WINDOWS, &attr), 0);
	return attr.attr_info.windows;
}

static long map_bank(struct rig *rig, int container, uint32_t flags, uint32_t bank, uint64_t iova)
{
	struct vfio_pamu_msi_bank_map map = {
		.argsz = sizeof(map), .flags = flags, .msi_bank_index = bank, .iova = iova};

	return rig_ioctl(rig, container, VFIO_IOMMU_PAMU_MAP_MSI_BANK, &map);
}

static long unmap_bank(struct rig *rig, int container, uint64_t iova)
{
	struct vfio_pamu_msi_bank_unmap unmap = {.argsz = sizeof(unmap), .iova = iova};

	return rig_ioctl(rig, container, VFIO_IOMMU_PAMU_UNMAP_MSI_BANK, &unmap);
}

static long unmap(struct rig *rig, int container, uint64_t iova, uint64_t size)
{
	uint64_t bytes = size;
	long ret = rig_unmap(rig, container, 0, iova, &bytes);

	/* This UNMAP_DMA does not say what it did. */
	assert_int_equal(bytes, size);
	return ret;
}

/* A rig on that platform with a session of edu whose DMA is let out. */
static struct session pamu_up(struct rig *rig, const char *platform)
{
	const struct rig_options options = {.platform = platform};
	struct session s;

	assert_true(rig_up(rig, &options));
	s = rig_session(rig, 0, VFIO_FSL_PAMU_IOMMU, EDU);
	rig_config_set(rig, s.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return s;
}

/* The same, with windows of a page at IOVA 0. */
static struct session pamu_windows(struct rig *rig, const char *platform, uint32_t count)
{
	struct session s = pamu_up(rig, platform);

	assert_int_equal(set_geometry(rig, s.container, 0, count * WINDOW - 1), 0);
	assert_int_equal(set_windows(rig, s.container, count), 0);
	return s;
}

static void pamu_down(struct rig *rig, struct session *s)
{
	session_close(rig, s);
	assert_int_equal(rig->eventfds, 0);
	rig_down(rig);
}

/* edu copies a page between its buffer and an IOVA. */
static void edu_dma(struct rig *rig, int device, uint64_t iova, bool to_memory)
{
	rig_reg_set(rig, device, 0, to_memory ? 0x88 : 0x80, iova);
	rig_reg_set(rig, device, 0, to_memory ? 0x80 : 0x88, 0x40000);
	rig_reg_set(rig, device, 0, 0x90, PAGE);
	rig_reg_set(rig, device, 0, 0x98, to_memory ? 3 : 1);
	for (unsigned i = 0; i < 10000 && (rig_reg(rig, device, 0, 0x98) & 1); i++)
		usleep(1000);
	assert_int_equal(rig_reg(rig, device, 0, 0x98) & 1, 0);
}

/* Can it read and write there? */
static bool edu_reaches(struct rig *rig, int device, uint64_t iova)
{
	uint64_t faults = rig->faults;

	edu_dma(rig, device, iova, false);
	return rig->faults == faults;
}

static long msi_on(struct rig *rig, int device, int event)
{
	int32_t fd = event;

	return rig_irqs(rig, device, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &fd);
}

static void msi_off(struct rig *rig, int device)
{
	assert_int_equal(rig_irqs(rig, device, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
				  VFIO_PCI_MSI_IRQ_INDEX, 0, 0, NULL),
			 0);
}

/* Where the function's MSI capability says it writes. */
static uint64_t msi_address(struct rig *rig, int device)
{
	struct uiommu_function *fn = uiommu_vfio_file_function(rig_file(rig, device));
	unsigned cap = uiommu_function_info(fn)->msi_cap;

	return uiommu_function_config_read(fn, cap + PCI_MSI_ADDRESS_LO, 4) |
	       (uint64_t)uiommu_function_config_read(fn, cap + PCI_MSI_ADDRESS_HI, 4) << 32;
}

/* Raise edu's interrupt; does it arrive? */
static bool edu_interrupts(struct rig *rig, int device, int event)
{
	uint64_t faults = rig->faults, came = 0;

	rig_reg_set(rig, device, 0, 0x60, 1);
	for (unsigned i = 0; i < COMES && !came && rig->faults == faults; i++)
		came = rig_wait(event, 1);
	rig_reg_set(rig, device, 0, 0x64, 1);
	assert_true(came || rig->faults > faults);
	return came;
}

#endif
