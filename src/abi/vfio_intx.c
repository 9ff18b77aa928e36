/* SPDX-License-Identifier: MIT */
/*
 * INTx: a level that is masked as soon as it was signalled, until the user unmasks it; if it is
 * still asserted then, it is signalled again.
 *
 * The level is known from the function's callback, which runs with the function's lock held, maybe
 * in a trap handler of the program; so all of this state is under irq_lock, and nothing here asks
 * the function anything while holding it. Setting up is under device.lock.
 */
#include <errno.h>
#include <string.h>

#include "abi/vfio_private.h"

static bool enabled(const struct vfio_device *device)
{
	return device->irq_type == VFIO_PCI_INTX_IRQ_INDEX;
}

/* irq_lock held, as in the next. */
static void send(struct vfio_device *device)
{
	if (enabled(device) && !device->intx_disabled)
		vfio_eventfd_signal(device->intx);
}

/* The interrupt handler. */
static void deliver(struct vfio_device *device)
{
	if (enabled(device) && device->intx_level && !device->intx_masked) {
		device->intx_masked = true;
		send(device);
	}
}

static void level_changed(void *ctx, bool level)
{
	struct vfio_device *device = ctx;

	pthread_mutex_lock(&device->irq_lock);
	device->intx_level = level;
	deliver(device);
	pthread_mutex_unlock(&device->irq_lock);
}

void vfio_intx_attach(struct vfio_device *device)
{
	pthread_mutex_lock(&device->irq_lock);
	device->intx_level = false;
	pthread_mutex_unlock(&device->irq_lock);
	/* Tells at once if the pin is asserted now. */
	uiommu_function_set_intx(device->fn, level_changed, device);
}

void vfio_intx_detach(struct vfio_device *device)
{
	uiommu_function_set_intx(device->fn, NULL, NULL);
}

void vfio_intx_mask(struct vfio_device *device)
{
	pthread_mutex_lock(&device->irq_lock);
	if (enabled(device))
		device->intx_masked = true;
	pthread_mutex_unlock(&device->irq_lock);
}

void vfio_intx_unmask(struct vfio_device *device)
{
	pthread_mutex_lock(&device->irq_lock);
	if (enabled(device) && device->intx_masked && !device->intx_disabled) {
		/* Still asserted: it stays masked and is signalled at once. */
		device->intx_masked = device->intx_level;
		if (device->intx_level)
			send(device);
	}
	pthread_mutex_unlock(&device->irq_lock);
}

static void enable(struct vfio_device *device, int fd)
{
	pthread_mutex_lock(&device->irq_lock);
	device->intx = fd;
	device->irq_type = VFIO_PCI_INTX_IRQ_INDEX;
	device->intx_masked = device->intx_disabled;
	deliver(device);
	pthread_mutex_unlock(&device->irq_lock);
}

/* ---- unmasking by an eventfd ---- */

static void stop_unmasking(struct vfio_device *device)
{
	if (device->unmask >= 0)
		vfio_waiter_remove(device, device->unmask);
	device->unmask = -1;
}

static int unmask_by(struct vfio_device *device, int fd)
{
	const struct uiommu_vfio_host *host = &device->vfio->host;
	uint32_t serial;
	int own = vfio_waiter_add(device, fd, &serial);

	if (own < 0)
		return own;
	/* QEMU closes one and brings another, without a word. */
	if (device->unmask >= 0 && host->eventfd_orphaned &&
	    host->eventfd_orphaned(host->ctx, device->unmask))
		stop_unmasking(device);
	/* The kernel, too, looks at the descriptor first. */
	if (device->unmask >= 0) {
		vfio_waiter_remove(device, own);
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "an eventfd unmasks INTx already");
	}
	device->unmask = own;
	device->unmask_serial = serial;
	return 0;
}

bool vfio_intx_event(struct vfio_device *device, uint32_t serial)
{
	if (device->unmask < 0 || device->unmask_serial != serial)
		return false;
	if (vfio_eventfd_take(device->unmask))
		vfio_intx_unmask(device);
	return true;
}

void vfio_intx_disable(struct vfio_device *device)
{
	stop_unmasking(device);
	pthread_mutex_lock(&device->irq_lock);
	device->irq_type = VFIO_PCI_NUM_IRQS;
	pthread_mutex_unlock(&device->irq_lock);
	vfio_irq_replace(device, &device->intx, -1);
}

/* ---- SET_IRQS ---- */

static int32_t descriptor(const void *data)
{
	int32_t fd;

	memcpy(&fd, data, sizeof(fd));
	return fd;
}

/* For DATA_NONE, and for DATA_BOOL if it says so. */
static bool wanted(uint32_t flags, const void *data)
{
	return (flags & VFIO_IRQ_SET_DATA_NONE) || *(const uint8_t *)data;
}

static int set_trigger(struct vfio_device *device, uint32_t flags, const void *data)
{
	int fd, own;

	if (!(flags & VFIO_IRQ_SET_DATA_EVENTFD)) {
		if (!enabled(device))
			return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL, "INTx is not enabled");
		if (wanted(flags, data)) {
			pthread_mutex_lock(&device->irq_lock);
			send(device);
			pthread_mutex_unlock(&device->irq_lock);
		}
		return 0;
	}
	fd = descriptor(data);
	own = fd < 0 ? -1 : vfio_eventfd_get(device->vfio, fd);
	if (own < 0 && fd >= 0)
		return own;
	if (enabled(device))
		vfio_irq_replace(device, &device->intx, own);
	else
		enable(device, own);
	return 0;
}

static int set_unmask(struct vfio_device *device, uint32_t flags, const void *data)
{
	if (flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		int fd = descriptor(data);

		if (fd >= 0)
			return unmask_by(device, fd);
		stop_unmasking(device);
	} else if (wanted(flags, data)) {
		vfio_intx_unmask(device);
	}
	return 0;
}

static int set_mask(struct vfio_device *device, uint32_t flags, const void *data)
{
	if (flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENOTTY,
				   "the kernel can't mask by an eventfd either");
	if (wanted(flags, data))
		vfio_intx_mask(device);
	return 0;
}

int vfio_intx_set(struct vfio_device *device, uint32_t flags, unsigned start, unsigned count,
		  const void *data)
{
	uint32_t action = flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
	bool trigger = action == VFIO_IRQ_SET_ACTION_TRIGGER;
	bool none = device->irq_type == VFIO_PCI_NUM_IRQS;

	if (trigger && enabled(device) && !count && (flags & VFIO_IRQ_SET_DATA_NONE)) {
		vfio_intx_disable(device);
		return 0;
	}
	if (start != 0 || count != 1)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "there is one INTx interrupt");
	if (!enabled(device) && !(trigger && none))
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   none ? "INTx is not enabled"
					: "another kind of interrupt is enabled");
	if (trigger)
		return set_trigger(device, flags, data);
	return action == VFIO_IRQ_SET_ACTION_UNMASK ? set_unmask(device, flags, data)
						    : set_mask(device, flags, data);
}
