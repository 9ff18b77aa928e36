/* SPDX-License-Identifier: MIT */
/* Between virtio_pci.c, the registers, and virtqueue.c, the queues. */
#ifndef DEVICE_VIRTQUEUE_H
#define DEVICE_VIRTQUEUE_H

#include <linux/virtio_ring.h>

#include "device/virtio_pci.h"

/* Feature bits that the queues understand. */
#define VIRTQUEUE_FEATURES \
	(UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC | UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX)

/* virtio_pci.c: the queue's interrupt. */
void virtio_pci_interrupt(struct uiommu_function *fn, unsigned queue);
/* virtio_pci.c: the driver did what makes no sense; it has to reset the device. */
void virtio_pci_broken(struct uiommu_function *fn);

#endif
