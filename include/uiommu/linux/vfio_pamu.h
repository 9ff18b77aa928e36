/* SPDX-License-Identifier: MIT */
/**
 * uiommu/linux/vfio_pamu.h - VFIO for Freescale's PAMU, as Freescale's kernels had it (3.8 on;
 * their include/uapi/linux/vfio.h and drivers/vfio/vfio_iommu_fsl_pamu.c). It never came into
 * Linux, so <linux/vfio.h> lacks it. Self-contained: programs need no other header of uiommu's.
 *
 * A container's address space is one aperture: a power of two in size and a multiple of it in
 * place, cut into equal windows, a power of two of them, at most 256. In this order:
 * SET_IOMMU, GEOMETRY, WINDOWS, then MAP_DMA, a whole number of windows each time.
 * VFIO_IOMMU_MAP_DMA and VFIO_IOMMU_UNMAP_DMA take the structs of type 1; UNMAP_DMA takes no flags
 * and does not say what it removed.
 */
#ifndef UIOMMU_LINUX_VFIO_PAMU_H
#define UIOMMU_LINUX_VFIO_PAMU_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <linux/vfio.h>

/** For VFIO_SET_IOMMU and VFIO_CHECK_EXTENSION: 2 in the 3.8 kernel, 7 in the 4.x ones. Linux has
 *  since given both to sPAPR; ask with CHECK_EXTENSION which one a machine means. */
#define VFIO_FSL_PAMU_IOMMU   2
#define VFIO_FSL_PAMU_IOMMU_7 7

/** An attribute of a container, for the two requests below. */
struct vfio_pamu_attr {
	__u32 argsz;
	__u32 flags; /**< none */
	__u32 attribute;
#define VFIO_ATTR_GEOMETRY   0
#define VFIO_ATTR_WINDOWS    1
#define VFIO_ATTR_PAMU_STASH 2
	union {
		struct {
			__u64 aperture_start; /**< first IOVA */
			__u64 aperture_end;   /**< last IOVA */
		} attr;
		/** How many; before it is set, the most that there can be. */
		__u32 windows;
		/** Which cache a device's writes go into: 1, 2 or 3 of that processor. */
		struct {
			__u32 cpu;
			__u32 cache;
		} stash;
	} attr_info;
};

#define VFIO_IOMMU_PAMU_GET_ATTR _IO(VFIO_TYPE, VFIO_BASE + 15)
#define VFIO_IOMMU_PAMU_SET_ATTR _IO(VFIO_TYPE, VFIO_BASE + 16)

/** Returns how many MSI banks the machine has: a window each. */
#define VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT _IO(VFIO_TYPE, VFIO_BASE + 17)

/** Map the register page of an MSI bank at the start of the window that @iova lies in. */
struct vfio_pamu_msi_bank_map {
	__u32 argsz;
	__u32 flags; /**< VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE or both */
	__u32 msi_bank_index;
	__u64 iova;
};
#define VFIO_IOMMU_PAMU_MAP_MSI_BANK _IO(VFIO_TYPE, VFIO_BASE + 18)

/** @iova as it was given to map. */
struct vfio_pamu_msi_bank_unmap {
	__u32 argsz;
	__u32 flags;
	__u64 iova;
};
#define VFIO_IOMMU_PAMU_UNMAP_MSI_BANK _IO(VFIO_TYPE, VFIO_BASE + 19)

/**
 * Of a group in a container with an IOMMU: a descriptor for the MSI bank with the index given by
 * value. Its page, mmapped (MAP_SHARED, offset 0, 4096 bytes) and not to be touched, is given to
 * VFIO_IOMMU_MAP_DMA at the start of a window. Proposed in April 2013 and never built, so the
 * number is this project's.
 */
#define VFIO_GROUP_GET_MSI_FD _IO(VFIO_TYPE, VFIO_BASE + 20)

#endif
