/* SPDX-License-Identifier: MIT */
/* What the tests of PASIDs share: requests of a device's node that carry one, an edu that does, and
 * a guest's tables. */
#ifndef TEST_PASID_RIG_H
#define TEST_PASID_RIG_H

#include <unistd.h>

#include "iommufd_rig.h"

#define IOVA  UINT64_C(0x100000)
#define PLAIN UINT32_MAX /* in the helpers: the request's flag is not set */

static const char *const with_pasids[] = {"edu,pasid=8", "edu", NULL};

static struct rig_options machine(const char *platform)
{
	return (struct rig_options){.platform = platform, .functions = with_pasids};
}

static long attach_pasid(struct rig *rig, int node, uint32_t pasid, uint32_t *id)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.flags = pasid == PLAIN ? 0 : VFIO_DEVICE_ATTACH_PASID,
		.pt_id = *id,
		.pasid = pasid};
	long ret = rig_ioctl(rig, node, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);

	*id = attach.pt_id;
	return ret;
}

static long attach_pasid_to(struct rig *rig, int node, uint32_t pasid, uint32_t id)
{
	return attach_pasid(rig, node, pasid, &id);
}

static long detach_pasid(struct rig *rig, int node, uint32_t pasid)
{
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = sizeof(detach),
		.flags = pasid == PLAIN ? 0 : VFIO_DEVICE_DETACH_PASID,
		.pasid = pasid};

	return rig_ioctl(rig, node, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

/* A HWPT for PASIDs over a space of its own, with one page of memory at IOVA. */
static uint32_t pasid_hwpt(struct rig *rig, const struct bound *b, unsigned page)
{
	uint32_t ioas = ioas_alloc(rig, b->fd), id;

	assert_int_equal(hwpt_alloc(rig, b->fd, b->device, ioas, IOMMU_HWPT_ALLOC_PASID, &id), 0);
	assert_int_equal(ioas_map_at(rig, b->fd, ioas, rig->memory + page * PAGE, PAGE, IOVA), 0);
	return id;
}

/* What the device finds at IOVA with the PASID: the page's first byte, or -1 with a fault, which
 * says the PASID. It puts it into page 7 of memory, which is at 7 pages without a PASID. */
static int finds(struct rig *rig, const struct bound *b, uint32_t pasid)
{
	uint64_t faults = rig->faults;

	rig->memory[7 * PAGE] = 0;
	rig_reg_set(rig, b->node, 0, 0xa0, pasid);
	edu_dma(rig, b->node, IOVA, 8, false);
	if (rig->faults != faults) {
		assert_int_equal(rig->last_fault.pasid, pasid);
		assert_int_equal(rig->last_fault.iova, IOVA);
		return -1;
	}
	rig_reg_set(rig, b->node, 0, 0xa0, 0);
	edu_dma(rig, b->node, 7 * PAGE, 8, true);
	assert_int_equal(rig->faults, faults);
	return rig->memory[7 * PAGE];
}

/* Tables of VT-d's first stage in pages 16 to 19 of memory, which lead from IOVA to page 3. */
static void put_tables(struct rig *rig)
{
	for (unsigned level = 0; level < 4; level++) {
		uint64_t entry = (level < 3 ? (17 + level) * PAGE : 3 * PAGE) | 0x67;

		memcpy(rig->memory + (16 + level) * PAGE + (IOVA >> (39 - 9 * level) & 511) * 8,
		       &entry, sizeof(entry));
	}
}

static long nested_alloc(struct rig *rig, const struct bound *b, uint32_t parent, uint32_t flags,
			 uint32_t *id)
{
	const struct iommu_hwpt_vtd_s1 s1 = {.pgtbl_addr = 16 * PAGE, .addr_width = 48};
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = flags,
		.dev_id = b->device,
		.pt_id = parent,
		.data_type = IOMMU_HWPT_DATA_VTD_S1,
		.data_len = sizeof(s1),
		.data_uptr = (uintptr_t)&s1,
	};
	long ret = rig_ioctl(rig, b->fd, IOMMU_HWPT_ALLOC, &alloc);

	*id = alloc.out_hwpt_id;
	return ret;
}

#endif
