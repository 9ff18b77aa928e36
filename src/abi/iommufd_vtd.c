/* SPDX-License-Identifier: MIT */
/*
 * Nesting as Intel VT-d has it in scalable mode: the guest's first-stage tables in front of a
 * second stage (architecture specification 4.1, 3.6 and 3.8), with the data of <linux/iommufd.h>.
 *
 * As Linux: the width of the tables is looked at when a device is attached.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"

#define KNOWN_FLAGS (IOMMU_VTD_S1_SRE | IOMMU_VTD_S1_EAFE | IOMMU_VTD_S1_WPE)

_Static_assert((int)UIOMMU_GUEST_SRE == IOMMU_VTD_S1_SRE &&
		       (int)UIOMMU_GUEST_EAFE == IOMMU_VTD_S1_EAFE &&
		       (int)UIOMMU_GUEST_WPE == IOMMU_VTD_S1_WPE,
	       "the engine's flags are the interface's");

static int create(struct iommufd_call *call, struct iommufd_hwpt *hwpt)
{
	struct iommu_hwpt_vtd_s1 s1 = {0};
	struct uiommu_guest_options options = {.size = sizeof(options), .format = "vtd-fs"};
	int ret = iommufd_copy_data(call, &s1, sizeof(s1), sizeof(s1));

	if (ret)
		return ret;
	if (s1.addr_width != 48 && s1.addr_width != 57)
		return 0;
	options.root = s1.pgtbl_addr;
	options.width = s1.addr_width;
	options.flags = s1.flags & KNOWN_FLAGS;
	return iommufd_nested_set(hwpt, &options, NULL, NULL);
}

static int invalidate_entry(struct iommufd_hwpt *hwpt,
			    const struct iommu_hwpt_vtd_s1_invalidate *entry)
{
	struct uiommu_range range = UIOMMU_RANGE_ALL;

	if ((entry->flags & ~(uint32_t)IOMMU_VTD_INV_FLAGS_LEAF) || entry->__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags or __reserved");
	if ((entry->addr & (VFIO_PAGE - 1)) || (entry->npages == UINT64_MAX && entry->addr))
		return vfio_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "addr");
	if (!hwpt->guest || !entry->npages)
		return 0;
	if (entry->npages <= UINT64_MAX / VFIO_PAGE &&
	    entry->npages * VFIO_PAGE - 1 <= UINT64_MAX - entry->addr)
		range = (struct uiommu_range){entry->addr,
					      entry->addr + (entry->npages * VFIO_PAGE - 1)};
	return uiommu_domain_invalidate(hwpt->guest, range);
}

static int invalidate(struct iommufd_call *call, struct iommufd_hwpt *hwpt,
		      struct iommufd_viommu *viommu, uint32_t *done)
{
	struct iommu_hwpt_vtd_s1_invalidate entry;
	int ret = 0;

	if (call->invalidate.data_type != IOMMU_HWPT_INVALIDATE_DATA_VTD_S1)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "data_type: not VT-d's");
	while (*done < call->invalidate.entry_num && !ret) {
		ret = iommufd_copy_entry(call, *done, &entry, sizeof(entry), sizeof(entry));
		if (!ret)
			ret = invalidate_entry(hwpt, &entry);
		*done += !ret;
	}
	return ret;
}

const struct iommufd_nesting iommufd_vtd = {
	.data_type = IOMMU_HWPT_DATA_VTD_S1,
	.viommu_type = IOMMU_VIOMMU_TYPE_DEFAULT,
	.create = create,
	.invalidate = invalidate,
};
