/* SPDX-License-Identifier: MIT */
/*
 * VFIO_DEVICE_IOEVENTFD: eventfds that, when the program signals them, make a store to a BAR.
 *
 * Owns a device's list of them; device.lock guards it, and is held while the store is made by the
 * helper thread (vfio_waiter.c). A function that doesn't decode its memory drops the store, and the
 * signal is lost, as in the kernel. The MSI-X table can't be written so.
 */
#include <errno.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

/* The kernel's limit for a device. */
#define MAX_IOEVENTFDS 1000

static bool same_store(const struct vfio_ioeventfd *a, const struct vfio_ioeventfd *b)
{
	return a->bar == b->bar && a->pos == b->pos && a->data == b->data && a->len == b->len;
}

static bool hits_msix_table(const struct uiommu_model *model, const struct vfio_ioeventfd *io)
{
	return model->msix_vectors && io->bar == model->msix_bar &&
	       io->pos + io->len > model->msix_offset &&
	       io->pos < model->msix_offset + UINT64_C(16) * model->msix_vectors;
}

/* What is asked for, without a descriptor. */
static int parse(const struct vfio_device *device, const struct vfio_device_ioeventfd *arg,
		 struct vfio_ioeventfd *io)
{
	const uint32_t sizes = VFIO_DEVICE_IOEVENTFD_SIZE_MASK;
	uint64_t index = arg->offset >> VFIO_OFFSET_SHIFT, size;

	if ((arg->flags & ~sizes) || __builtin_popcount(arg->flags) != 1)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: not one size");
	if (arg->flags == VFIO_DEVICE_IOEVENTFD_64) /* which Linux 7.2 on x86 answers so, too */
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "flags: 64 bits");
	if (arg->fd < -1)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "fd: below -1");
	if (index > VFIO_PCI_BAR5_REGION_INDEX)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "offset: only in a BAR");
	*io = (struct vfio_ioeventfd){
		.bar = index,
		.pos = arg->offset & VFIO_OFFSET_MASK,
		.len = arg->flags, /* the flags are the sizes */
		.data = arg->data,
	};
	size = vfio_device_bar_size(device, io->bar);
	if (io->pos + io->len > size)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "offset: past the end of a BAR");
	if (hits_msix_table(device->info->model, io))
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "offset: the MSI-X table");
	return 0;
}

static void remove_at(struct vfio_device *device, struct vfio_ioeventfd **link)
{
	struct vfio_ioeventfd *io = *link;

	*link = io->next;
	device->ioeventfd_count--;
	vfio_waiter_remove(device, io->fd);
	uiommu_free(io, sizeof(*io));
}

static int add(struct vfio_device *device, const struct vfio_ioeventfd *wanted, int fd)
{
	struct vfio_ioeventfd *io;

	if (device->ioeventfd_count >= MAX_IOEVENTFDS)
		return vfio_refuse(UIOMMU_RULE_LIMIT, -ENOSPC, "1000 ioeventfds of a device");
	io = uiommu_alloc(sizeof(*io));
	if (!io)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	*io = *wanted;
	io->fd = vfio_waiter_add(device, fd, &io->serial);
	if (io->fd < 0) {
		int ret = io->fd;

		uiommu_free(io, sizeof(*io));
		return ret;
	}
	io->next = device->ioeventfds;
	device->ioeventfds = io;
	device->ioeventfd_count++;
	return 0;
}

long vfio_ioeventfd(struct vfio_device *device, uint64_t arg)
{
	struct vfio_ioeventfd **link = &device->ioeventfds, wanted;
	struct vfio_device_ioeventfd request;
	int ret = vfio_copy_sized(device->vfio, &request, arg,
				  offsetof(struct vfio_device_ioeventfd, fd) + sizeof(request.fd));

	if (!ret)
		ret = parse(device, &request, &wanted);
	if (ret)
		return ret;
	while (*link && !same_store(*link, &wanted))
		link = &(*link)->next;
	if (request.fd >= 0)
		return *link ? vfio_refuse(UIOMMU_RULE_BUSY, -EEXIST,
					   "an eventfd makes this very store already")
			     : add(device, &wanted, request.fd);
	if (!*link)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -ENODEV, "no eventfd makes this store");
	remove_at(device, link);
	return 0;
}

void vfio_ioeventfd_event(struct vfio_device *device, uint32_t serial)
{
	struct vfio_ioeventfd *io = device->ioeventfds;
	uint8_t bytes[8];

	while (io && io->serial != serial)
		io = io->next;
	if (!io || !vfio_eventfd_take(io->fd))
		return;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = io->data >> (8 * i);
	uiommu_function_bar_write(device->fn, io->bar, io->pos, bytes, io->len);
}

void vfio_ioeventfds_remove(struct vfio_device *device)
{
	while (device->ioeventfds)
		remove_at(device, &device->ioeventfds);
}
