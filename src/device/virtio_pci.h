/* SPDX-License-Identifier: MIT */
/*
 * A virtio device on PCI, as its model sees it: the modern transport (virtio 1.3, 4.1 "Virtio Over
 * PCI Bus") with split virtqueues (2.7). A model embeds struct virtio_pci as the first member of
 * its state, gives its operations, and takes its BARs, capabilities and vectors from here.
 *
 * Everything is called with the function's lock held.
 */
#ifndef DEVICE_VIRTIO_PCI_H
#define DEVICE_VIRTIO_PCI_H

#include <uiommu/device.h>

#define VIRTIO_PCI_VENDOR	    0x1af4
#define VIRTIO_PCI_DEVICE(id)	    (0x1040 + (id))
#define VIRTIO_PCI_SUBSYSTEM_DEVICE 0x1100 /* any from 0x40 on */

#define VIRTIO_PCI_QUEUES    4	 /* most that a device can have */
#define VIRTIO_PCI_QUEUE_MAX 256 /* entries, and descriptors in a chain */

/* Bytes of device configuration space that the BAR has room for. */
#define VIRTIO_PCI_CONFIG_MAX 256

enum { VIRTIO_PCI_BAR = 0, VIRTIO_PCI_BAR_MSIX = 2, VIRTIO_PCI_BAR_ISR = 4 };

/* For a model's bars[]: reading the interrupt status has an effect, so it has a BAR of its own. */
#define VIRTIO_PCI_BARS                                                           \
	{                                                                         \
		[VIRTIO_PCI_BAR] = {16384, 0}, [VIRTIO_PCI_BAR_MSIX] = {8192, 0}, \
		[VIRTIO_PCI_BAR_ISR] = {4096, UIOMMU_BAR_TRAP_READS},             \
	}
extern const struct uiommu_model_cap virtio_pci_caps[];

struct virtio_pci_ops {
	unsigned queues;
	unsigned config_len; /* bytes of device configuration space */
	/* Feature bits of the device itself; the transport adds its own. */
	uint64_t (*features)(struct uiommu_function *fn);
	/* The driver accepted these of them: false refuses FEATURES_OK. */
	bool (*accept)(struct uiommu_function *fn, uint64_t features);
	/* Device reset, by the driver. */
	void (*reset)(struct uiommu_function *fn);
	void (*config_read)(struct uiommu_function *fn, unsigned offset, void *buf, unsigned len);
	void (*config_write)(struct uiommu_function *fn, unsigned offset, const void *buf,
			     unsigned len);
};

struct virtq {
	uint64_t desc, driver, device; /* addresses of its three parts */
	uint16_t size, vector;
	bool enabled;
	uint16_t next_avail, next_used; /* free-running, as the rings' indices are */
};

/* A chain of descriptors, taken apart: readable segments first. */
struct virtio_chain {
	uint16_t head;
	unsigned count, readable; /* segments, and how many of them the device reads */
	uint64_t in_len, out_len; /* bytes the device may read, and write */
	struct {
		uint64_t addr;
		uint32_t len;
	} segment[VIRTIO_PCI_QUEUE_MAX];
};

struct virtio_pci {
	const struct virtio_pci_ops *ops;
	uint64_t driver_features;
	uint32_t device_select, driver_select;
	uint16_t config_vector, queue_select;
	uint8_t status, isr, generation;
	struct virtq queue[VIRTIO_PCI_QUEUES];
	struct virtio_chain chain; /* for the model to take one apart in */
};

/* Power-on state; ops must be set. */
void virtio_pci_reset(struct uiommu_function *fn);

/* To be a model's operations of the same names. */
void virtio_pci_bar_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			  uint64_t value);
void virtio_pci_bar_read(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len);
void virtio_pci_config_read(struct uiommu_function *fn, unsigned offset, unsigned len);
void virtio_pci_config_write(struct uiommu_function *fn, unsigned offset, unsigned len);

/*
 * Take the next chain that the driver made available: 1, or 0 if there is none, the queue is not
 * enabled or the device does not run, or -EIO if the queue or the chain makes no sense: then the
 * device needs a reset.
 */
int virtio_pci_pop(struct uiommu_function *fn, unsigned queue, struct virtio_chain *chain);

/* Copy the beginning of the readable part: how many bytes there were, at most len; or -EFAULT. */
int virtio_pci_chain_read(struct uiommu_function *fn, const struct virtio_chain *chain, void *buf,
			  unsigned len);
/* Fill the beginning of the writable part, which must be so long: 0 or -EFAULT. */
int virtio_pci_chain_write(struct uiommu_function *fn, const struct virtio_chain *chain,
			   const void *buf, unsigned len);

/* Give the chain back with so many bytes written, and interrupt if the driver wants it. */
void virtio_pci_push(struct uiommu_function *fn, unsigned queue, const struct virtio_chain *chain,
		     uint32_t written);

#endif
