/* SPDX-License-Identifier: MIT */
/**
 * uiommu/linux/iommufd_rfc.h - /dev/iommu as proposed in "Introduce /dev/iommu for userspace I/O
 * address space management" (RFC, 19 September 2021), which became iommufd with other requests and
 * other numbers. So it is offered on request only: uiommu run --iommufd rfc.
 *
 * An address space is an IOASID, a number from 0 up that IOMMU_IOASID_ALLOC returns. A device is
 * opened as /dev/vfio/devices/DDDD:BB:DD.F, bound to /dev/iommu under a cookie of the program's,
 * and attached to an IOASID; only then can there be mappings, which are type1v2's and go with the
 * last device. It is unbound by closing it.
 *
 * What reviewers asked for, and the proposal did not have, is an extension (IOMMU_IOASID_RANGE,
 * IOMMU_IOASID_PAGE_SIZE): what an address space has to translate is a constraint, which the
 * program knows from its guest's platform, and without looking at the host's ranges first.
 *
 * Unknown requests of /dev/iommu are EINVAL. A struct starts with its size: EINVAL if that is less
 * than is needed; what is behind it is ignored.
 */
#ifndef UIOMMU_LINUX_IOMMUFD_RFC_H
#define UIOMMU_LINUX_IOMMUFD_RFC_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define IOMMU_RFC_TYPE (';')
#define IOMMU_RFC_BASE 100

/** Does it have this? 1 or 0. */
#define IOMMU_CHECK_EXTENSION _IO(IOMMU_RFC_TYPE, IOMMU_RFC_BASE + 0)
#define EXT_MAP_TYPE1V2	      1 /**< mappings as of VFIO_TYPE1v2_IOMMU: yes */
#define EXT_DMA_NO_SNOOP      2 /**< devices that the IOMMU does not make snoop: no */

/**
 * What the IOMMU of a bound device can do. EINVAL: no device has that cookie. As in VFIO,
 * capabilities follow the struct if argsz has room, else argsz says how much they want.
 */
struct iommu_device_info {
	__u32 argsz;
	__u32 flags;
	__u64 dev_cookie; /**< in */
	__u64 pgsize_bitmap;
	__u32 addr_width;
	__u32 cap_offset; /**< VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE */
};
#define IOMMU_DEVICE_INFO_ENFORCE_SNOOP (1 << 0)
#define IOMMU_DEVICE_INFO_PGSIZES	(1 << 1)
#define IOMMU_DEVICE_INFO_ADDR_WIDTH	(1 << 2)
#define IOMMU_DEVICE_INFO_CAPS		(1 << 3)
#define IOMMU_DEVICE_GET_INFO		_IO(IOMMU_RFC_TYPE, IOMMU_RFC_BASE + 1)

/**
 * Make an address space; returns its IOASID. EINVAL: no addr_width, another type, unknown flags,
 * no ENFORCE_SNOOP.
 *
 * The extension: with one of its flags the struct is struct iommu_ioasid_alloc_constrained, argsz
 * as much. Each flag says that its field holds; without it, the program doesn't care.
 */
struct iommu_ioasid_alloc {
	__u32 argsz;
	__u32 flags;
	__u32 type;
	__u32 addr_width; /**< with IOMMU_IOASID_RANGE, 0: don't care */
};
#define IOMMU_IOASID_ENFORCE_SNOOP	 (1 << 0) /**< mandatory */
#define IOMMU_IOASID_RANGE		 (1 << 1) /**< extension */
#define IOMMU_IOASID_PAGE_SIZE		 (1 << 2) /**< extension */
#define IOMMU_IOASID_TYPE_KERNEL_TYPE1V2 1
#define IOMMU_IOASID_ALLOC		 _IO(IOMMU_RFC_TYPE, IOMMU_RFC_BASE + 2)

/**
 * EADDRINUSE: [start, last] crosses a hole of this machine, which uiommu run --explain names. From
 * then on no device that would make a hole in it can be attached. EINVAL: last below start, not
 * whole pages, beyond addr_width; the IOMMU has no pages of that size.
 */
struct iommu_ioasid_alloc_constrained {
	struct iommu_ioasid_alloc alloc;
	__u64 start;
	__u64 last;	 /**< the last address, not the one behind it */
	__u64 page_size; /**< a power of two: the program maps in units of it */
};

/** Free an IOASID; the argument points to it (__s32). EINVAL: there is none; EBUSY: a device is
 *  attached. */
#define IOMMU_IOASID_FREE _IO(IOMMU_RFC_TYPE, IOMMU_RFC_BASE + 3)

/**
 * Behind it, at its end, stands struct vfio_iommu_type1_dma_map or vfio_iommu_type1_dma_unmap.
 * EINVAL: flags, no such IOASID, no device is attached to it; else as VFIO's.
 */
struct iommu_ioasid_dma_op {
	__u32 argsz;
	__u32 flags; /**< 0 */
	__s32 ioasid;
	__u32 padding;
};
#define IOMMU_MAP_DMA	_IO(IOMMU_RFC_TYPE, IOMMU_RFC_BASE + 4)
#define IOMMU_UNMAP_DMA _IO(IOMMU_RFC_TYPE, IOMMU_RFC_BASE + 5)

/**
 * Of a device's own file. Bind it to /dev/iommu; before that it can't be used (ENODEV). ENOTTY: its
 * group is in a container; EBUSY: it is bound, or another device of that /dev/iommu has the cookie;
 * EINVAL: not a descriptor of /dev/iommu. (The proposal called it VFIO_DEVICE_BIND_IOMMUFD, which
 * is another number's name today.)
 */
struct vfio_device_iommu_bind_data {
	__u32 argsz;
	__u32 flags; /**< 0 */
	__s32 iommu_fd;
	__u32 padding; /**< was there without a name */
	__u64 dev_cookie;
};
#define VFIO_DEVICE_RFC_BIND_IOMMUFD _IO(IOMMU_RFC_TYPE, IOMMU_RFC_BASE + 19)

/**
 * Attach a bound device to an IOASID of the /dev/iommu that it is bound to, by the same descriptor;
 * detach it. Attach: EBUSY: it is attached; EINVAL: no such IOASID, the IOMMU does not enforce
 * snooping or is narrower than addr_width, the device is not alone in its group. Detach: EINVAL: it
 * is not attached to that one.
 */
struct vfio_device_attach_ioasid {
	__u32 argsz;
	__u32 flags; /**< 0 */
	__s32 iommu_fd;
	__s32 ioasid;
};
#define VFIO_DEVICE_ATTACH_IOASID _IO(IOMMU_RFC_TYPE, IOMMU_RFC_BASE + 20)
#define VFIO_DEVICE_DETACH_IOASID _IO(IOMMU_RFC_TYPE, IOMMU_RFC_BASE + 21)

#endif
