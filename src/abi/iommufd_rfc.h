/* SPDX-License-Identifier: MIT */
/*
 * /dev/iommu and devices' nodes as proposed in 2021: iommufd_rfc.c.
 */
#ifndef ABI_IOMMUFD_RFC_H
#define ABI_IOMMUFD_RFC_H

#include "abi/iommufd.h"
#include "abi/vfio_private.h"

/* No IOASID. */
#define IOMMUFD_RFC_NONE (-1)

/* vfio.lock not held. */
long iommufd_rfc_ioctl(struct iommufd *iommufd, uint32_t request, uint64_t arg);
long iommufd_rfc_node_ioctl(struct uiommu_vfio_file *file, uint32_t request, uint64_t arg);
/* The node is about to be unbound: it leaves its IOASID. vfio.lock held. */
void iommufd_rfc_node_closing(struct uiommu_vfio_file *file);
/* For people; NULL: no such request. */
const char *iommufd_rfc_request_name(bool node, uint32_t request);

#endif
