/* SPDX-License-Identifier: MIT */
/**
 * uiommu/linux/vfio_msi_2016.h - the interface by which a program gives the IOVAs of MSI doorbells,
 * as proposed in "KVM PCIe/MSI passthrough on ARM/ARM64" (version 14, October 2016) and never
 * merged: VFIO_IOMMU_GET_INFO has a capability that says how large a range is wanted, and a flag of
 * VFIO_IOMMU_MAP_DMA gives it. Its numbers were later given to others (VFIO_DMA_MAP_FLAG_VADDR,
 * VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE), so it is offered on request only:
 * uiommu run --platform arm-smmuv3,place=program.
 */
#ifndef UIOMMU_LINUX_VFIO_MSI_2016_H
#define UIOMMU_LINUX_VFIO_MSI_2016_H

#include <linux/vfio.h>

/** In the flags of MAP_DMA, alone and with vaddr 0: [iova, iova + size) is for MSI doorbells.
 *  Nothing is mapped there yet. One such range for a container; UNMAP_DMA takes it back. */
#define VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA (1 << 2)

/** ID of the capability, version 1. It is there if the IOMMU translates MSIs. */
#define VFIO_IOMMU_TYPE1_INFO_CAP_MSI_RESV 1

struct vfio_iommu_type1_info_cap_msi_resv {
	struct vfio_info_cap_header header;
	__u64 size;	 /**< bytes that the range must have at least */
	__u64 alignment; /**< of its beginning */
};

#endif
