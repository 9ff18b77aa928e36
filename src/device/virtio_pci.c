/* SPDX-License-Identifier: MIT */
/*
 * The registers of a virtio device on PCI: common configuration, device configuration,
 * notifications and interrupt status in BARs, and the window to them in configuration space
 * (virtio 1.3, 4.1.4). The queues are in virtqueue.c.
 *
 * Invariants: BAR memory always shows what the registers read as, so that only stores are trapped;
 * the interrupt status, which a read clears, is in a BAR whose reads are trapped too. A register
 * takes accesses of its own width, a 64-bit one also each half; others are ignored. Status bits are
 * only added to until the driver resets the device. A device whose driver broke a queue needs a
 * reset and does nothing until then.
 *
 * Nothing here fails.
 */
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <string.h>

#include "device/function.h"
#include "device/virtqueue.h"
#include "util/range.h"

#define COMMON_OFFSET 0x0000
#define CONFIG_OFFSET 0x1000
#define NOTIFY_OFFSET 0x2000
#define COMMON_LEN    56
#define NOTIFY_MULT   4
#define NO_VECTOR     0xffff

#define ISR_QUEUE  1
#define ISR_CONFIG 2

/* Where the capabilities lie: between the core's own. */
enum { CAP_COMMON = 0x50, CAP_ISR = 0x60, CAP_DEVICE = 0xc0, CAP_NOTIFY = 0xd0, CAP_WINDOW = 0xe4 };
enum { WINDOW_BAR = CAP_WINDOW + 4, WINDOW_OFFSET = CAP_WINDOW + 8 };
enum { WINDOW_LENGTH = CAP_WINDOW + 12, WINDOW_DATA = CAP_WINDOW + 16 };

#define LE32(v) (v) & 0xff, (v) >> 8 & 0xff, (v) >> 16 & 0xff, (v) >> 24 & 0xff
#define CAP(len, type, bar, offset, length) \
	PCI_CAP_ID_VNDR, 0, len, type, bar, 0, 0, 0, LE32(offset), LE32(length)

static const uint8_t cap_common[] = {
	CAP(16, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_BAR, COMMON_OFFSET, COMMON_LEN)};
static const uint8_t cap_isr[] = {CAP(16, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_PCI_BAR_ISR, 0, 4)};
static const uint8_t cap_device[] = {
	CAP(16, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_PCI_BAR, CONFIG_OFFSET, VIRTIO_PCI_CONFIG_MAX)};
static const uint8_t cap_notify[] = {CAP(20, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_PCI_BAR,
					 NOTIFY_OFFSET, VIRTIO_PCI_QUEUES *NOTIFY_MULT),
				     LE32(NOTIFY_MULT)};
static const uint8_t cap_window[] = {CAP(20, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 0), LE32(0)};
static const uint8_t cap_window_writable[] = {0,    0,	  0,	0,    0xff, 0,	  0,
					      0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
					      0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
_Static_assert(sizeof(cap_window_writable) == sizeof(cap_window), "a mask for each byte");

const struct uiommu_model_cap virtio_pci_caps[] = {
	{CAP_COMMON, sizeof(cap_common), cap_common, NULL},
	{CAP_ISR, sizeof(cap_isr), cap_isr, NULL},
	{CAP_DEVICE, sizeof(cap_device), cap_device, NULL},
	{CAP_NOTIFY, sizeof(cap_notify), cap_notify, NULL},
	{CAP_WINDOW, sizeof(cap_window), cap_window, cap_window_writable},
	{0, 0, NULL, NULL},
};

static uint64_t offered(struct uiommu_function *fn)
{
	struct virtio_pci *vp = uiommu_function_state(fn);

	return vp->ops->features(fn) | UINT64_C(1) << VIRTIO_F_VERSION_1 |
	       UINT64_C(1) << VIRTIO_F_ACCESS_PLATFORM | VIRTQUEUE_FEATURES;
}

/* ---- what registers read as ---- */

static uint32_t half_of(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static void show(struct uiommu_function *fn, unsigned offset, unsigned len, uint64_t value)
{
	uiommu_function_set_reg(fn, VIRTIO_PCI_BAR, COMMON_OFFSET + offset, len, value);
}

static void show64(struct uiommu_function *fn, unsigned offset, uint64_t value)
{
	show(fn, offset, 4, (uint32_t)value);
	show(fn, offset + 4, 4, value >> 32);
}

static void show_common(struct uiommu_function *fn)
{
	static const struct virtq none = {.vector = NO_VECTOR};
	struct virtio_pci *vp = uiommu_function_state(fn);
	bool there = vp->queue_select < vp->ops->queues;
	const struct virtq *q = there ? &vp->queue[vp->queue_select] : &none;

	show(fn, VIRTIO_PCI_COMMON_DFSELECT, 4, vp->device_select);
	show(fn, VIRTIO_PCI_COMMON_DF, 4, half_of(offered(fn), vp->device_select));
	show(fn, VIRTIO_PCI_COMMON_GFSELECT, 4, vp->driver_select);
	show(fn, VIRTIO_PCI_COMMON_GF, 4, half_of(vp->driver_features, vp->driver_select));
	show(fn, VIRTIO_PCI_COMMON_MSIX, 2, vp->config_vector);
	show(fn, VIRTIO_PCI_COMMON_NUMQ, 2, vp->ops->queues);
	show(fn, VIRTIO_PCI_COMMON_STATUS, 1, vp->status);
	show(fn, VIRTIO_PCI_COMMON_CFGGENERATION, 1, vp->generation);
	show(fn, VIRTIO_PCI_COMMON_Q_SELECT, 2, vp->queue_select);
	show(fn, VIRTIO_PCI_COMMON_Q_SIZE, 2, q->size);
	show(fn, VIRTIO_PCI_COMMON_Q_MSIX, 2, q->vector);
	show(fn, VIRTIO_PCI_COMMON_Q_ENABLE, 2, q->enabled);
	show(fn, VIRTIO_PCI_COMMON_Q_NOFF, 2, there ? vp->queue_select : 0);
	show64(fn, VIRTIO_PCI_COMMON_Q_DESCLO, q->desc);
	show64(fn, VIRTIO_PCI_COMMON_Q_AVAILLO, q->driver);
	show64(fn, VIRTIO_PCI_COMMON_Q_USEDLO, q->device);
}

/* Device configuration changes by what the driver does, so it needs no interrupt. */
static void show_config(struct uiommu_function *fn)
{
	struct virtio_pci *vp = uiommu_function_state(fn);
	uint8_t now[VIRTIO_PCI_CONFIG_MAX];

	vp->ops->config_read(fn, 0, now, vp->ops->config_len);
	for (unsigned i = 0; i < vp->ops->config_len; i++) {
		if (uiommu_function_reg(fn, VIRTIO_PCI_BAR, CONFIG_OFFSET + i, 1) == now[i])
			continue;
		uiommu_function_set_reg(fn, VIRTIO_PCI_BAR, CONFIG_OFFSET + i, 1, now[i]);
		vp->generation++;
	}
}

/* ---- interrupts ---- */

static void interrupt(struct uiommu_function *fn, uint16_t vector, uint8_t isr)
{
	struct virtio_pci *vp = uiommu_function_state(fn);

	if (msix_enabled(fn)) {
		if (vector != NO_VECTOR)
			uiommu_function_raise(fn, vector);
		return;
	}
	vp->isr |= isr;
	uiommu_function_raise(fn, 0);
}

void virtio_pci_interrupt(struct uiommu_function *fn, unsigned queue)
{
	struct virtio_pci *vp = uiommu_function_state(fn);

	interrupt(fn, vp->queue[queue].vector, ISR_QUEUE);
}

void virtio_pci_broken(struct uiommu_function *fn)
{
	struct virtio_pci *vp = uiommu_function_state(fn);

	vp->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	show_common(fn);
	if (vp->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(fn, vp->config_vector, ISR_CONFIG);
}

/* ---- writes ---- */

static void set_status(struct uiommu_function *fn, uint8_t value)
{
	const uint64_t version = UINT64_C(1) << VIRTIO_F_VERSION_1;
	struct virtio_pci *vp = uiommu_function_state(fn);
	uint8_t added = value & ~vp->status;
	uint64_t own = vp->ops->features(fn);

	if (!value) {
		vp->ops->reset(fn);
		virtio_pci_reset(fn);
		return;
	}
	if (added & VIRTIO_CONFIG_S_FEATURES_OK &&
	    (!(vp->driver_features & version) || (vp->driver_features & ~offered(fn)) ||
	     !vp->ops->accept(fn, vp->driver_features & own)))
		value &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	vp->status |= value & (uint8_t)~VIRTIO_CONFIG_S_NEEDS_RESET;
	show_config(fn);
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		uiommu_function_kick(fn);
}

static uint16_t valid_vector(const struct uiommu_function *fn, uint64_t value)
{
	return value < fn->model->msix_vectors ? (uint16_t)value : NO_VECTOR;
}

static void set_half(uint64_t *field, bool high, uint64_t value)
{
	*field = high ? (*field & UINT32_MAX) | value << 32
		      : (*field & ~(uint64_t)UINT32_MAX) | (uint32_t)value;
}

/* Fields of the selected queue, which change only while it is not enabled. */
static void write_queue(struct uiommu_function *fn, unsigned offset, unsigned len, uint64_t value)
{
	struct virtio_pci *vp = uiommu_function_state(fn);
	struct virtq *q = &vp->queue[vp->queue_select];

	if (vp->queue_select >= vp->ops->queues)
		return;
	if (len == 2 && offset == VIRTIO_PCI_COMMON_Q_MSIX) {
		q->vector = valid_vector(fn, value);
	} else if (q->enabled) {
		return;
	} else if (len == 2 && offset == VIRTIO_PCI_COMMON_Q_SIZE) {
		if (is_pow2(value) && value <= VIRTIO_PCI_QUEUE_MAX)
			q->size = (uint16_t)value;
	} else if (len == 2 && offset == VIRTIO_PCI_COMMON_Q_ENABLE) {
		q->enabled = value == 1;
	} else if (len == 4 && offset >= VIRTIO_PCI_COMMON_Q_USEDLO) {
		set_half(&q->device, offset & 4, value);
	} else if (len == 4 && offset >= VIRTIO_PCI_COMMON_Q_AVAILLO) {
		set_half(&q->driver, offset & 4, value);
	} else if (len == 4 && offset >= VIRTIO_PCI_COMMON_Q_DESCLO) {
		set_half(&q->desc, offset & 4, value);
	}
}

static void write_feature(struct virtio_pci *vp, uint32_t value)
{
	/* What was agreed on stays. */
	if (vp->driver_select < 2 && !(vp->status & VIRTIO_CONFIG_S_FEATURES_OK))
		set_half(&vp->driver_features, vp->driver_select, value);
}

static void write_common(struct uiommu_function *fn, unsigned offset, unsigned len, uint64_t value)
{
	struct virtio_pci *vp = uiommu_function_state(fn);

	if (len == 4 && offset == VIRTIO_PCI_COMMON_DFSELECT)
		vp->device_select = (uint32_t)value;
	else if (len == 4 && offset == VIRTIO_PCI_COMMON_GFSELECT)
		vp->driver_select = (uint32_t)value;
	else if (len == 4 && offset == VIRTIO_PCI_COMMON_GF)
		write_feature(vp, (uint32_t)value);
	else if (len == 2 && offset == VIRTIO_PCI_COMMON_MSIX)
		vp->config_vector = valid_vector(fn, value);
	else if (len == 1 && offset == VIRTIO_PCI_COMMON_STATUS)
		set_status(fn, (uint8_t)value);
	else if (len == 2 && offset == VIRTIO_PCI_COMMON_Q_SELECT)
		vp->queue_select = (uint16_t)value;
	else
		write_queue(fn, offset, len, value);
}

/* A part of the BAR at offset: is the access inside it? */
static bool inside(uint64_t offset, unsigned len, uint64_t first, uint64_t size)
{
	return offset >= first && offset + len <= first + size;
}

void virtio_pci_bar_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			  uint64_t value)
{
	struct virtio_pci *vp = uiommu_function_state(fn);

	if (bar != VIRTIO_PCI_BAR)
		return;
	/* A 64-bit field is two of 32 bits. */
	if (len == 8) {
		virtio_pci_bar_write(fn, bar, offset, 4, (uint32_t)value);
		virtio_pci_bar_write(fn, bar, offset + 4, 4, value >> 32);
		return;
	}
	if (inside(offset, len, COMMON_OFFSET, COMMON_LEN)) {
		write_common(fn, (unsigned)offset - COMMON_OFFSET, len, value);
	} else if (inside(offset, len, CONFIG_OFFSET, vp->ops->config_len)) {
		uint8_t bytes[4] = {LE32((uint32_t)value)};

		vp->ops->config_write(fn, (unsigned)offset - CONFIG_OFFSET, bytes, len);
		show_config(fn);
	} else if (inside(offset, len, NOTIFY_OFFSET, VIRTIO_PCI_QUEUES * NOTIFY_MULT)) {
		uiommu_function_kick(fn);
		return;
	}
	show_common(fn);
}

void virtio_pci_bar_read(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len)
{
	struct virtio_pci *vp = uiommu_function_state(fn);

	if (bar != VIRTIO_PCI_BAR_ISR || offset)
		return;
	uiommu_function_set_reg(fn, VIRTIO_PCI_BAR_ISR, 0, 1, vp->isr);
	vp->isr = 0;
	uiommu_function_lower(fn);
}

/* ---- the window in configuration space ---- */

/* What the window shows; false: nothing that can be accessed. */
static bool window(struct uiommu_function *fn, unsigned *bar, uint32_t *offset, unsigned *len)
{
	*bar = fn->config[WINDOW_BAR];
	*offset = config_get32(fn, WINDOW_OFFSET);
	*len = config_get32(fn, WINDOW_LENGTH);
	return (*len == 1 || *len == 2 || *len == 4) && !(*offset & (*len - 1)) &&
	       (*bar == VIRTIO_PCI_BAR || *bar == VIRTIO_PCI_BAR_ISR);
}

static bool touches_data(unsigned offset, unsigned len)
{
	return offset < WINDOW_DATA + 4 && offset + len > WINDOW_DATA;
}

void virtio_pci_config_read(struct uiommu_function *fn, unsigned offset, unsigned len)
{
	unsigned bar, size;
	uint32_t at;

	if (touches_data(offset, len) && window(fn, &bar, &at, &size))
		bar_read_under_lock(fn, bar, at, &fn->config[WINDOW_DATA], size);
}

void virtio_pci_config_write(struct uiommu_function *fn, unsigned offset, unsigned len)
{
	unsigned bar, size;
	uint32_t at;

	if (touches_data(offset, len) && window(fn, &bar, &at, &size))
		bar_write_under_lock(fn, bar, at, &fn->config[WINDOW_DATA], size);
}

/* ---- life ---- */

void virtio_pci_reset(struct uiommu_function *fn)
{
	struct virtio_pci *vp = uiommu_function_state(fn);
	const struct virtio_pci_ops *ops = vp->ops;
	uint8_t generation = vp->generation;

	memset(vp, 0, sizeof(*vp));
	vp->ops = ops;
	vp->generation = generation;
	vp->config_vector = NO_VECTOR;
	for (unsigned i = 0; i < ops->queues; i++) {
		vp->queue[i].size = VIRTIO_PCI_QUEUE_MAX;
		vp->queue[i].vector = NO_VECTOR;
	}
	uiommu_function_lower(fn);
	show_config(fn);
	show_common(fn);
}
