/* SPDX-License-Identifier: MIT */
/*
 * pread() and pwrite() of a device: which region an offset is in, and BARs by registers, cut as the
 * kernel cuts them. They reach the same model as a mapped BAR. The MSI-X table reads as ones and
 * drops writes: the host owns it. Holds device.lock; the program's memory is only touched with
 * nothing half done.
 */
#include <errno.h>
#include <string.h>

#include "abi/vfio_private.h"

#define BLOCK 512

struct bar_access {
	struct vfio_device *device;
	unsigned bar;
	uint64_t hidden_first, hidden_end; /* the MSI-X table; equal: none */
	bool write;
};

/* The widest access that may start here, at most @count bytes. */
static size_t width(uint64_t pos, size_t count)
{
	for (size_t size = 8; size > 1; size /= 2)
		if (count >= size && !(pos % size))
			return size;
	return 1;
}

/* @count bytes at @pos, none of them hidden. */
static int access_registers(const struct bar_access *a, uint64_t pos, uint8_t *bytes, size_t count)
{
	int ret = 0;

	if (!vfio_config_memory_enabled(a->device))
		return vfio_refuse(UIOMMU_RULE_ORDER, -EIO,
				   "memory decoding is off, or the function sleeps");
	for (size_t done = 0; done < count && !ret;) {
		size_t len = width(pos + done, count - done);

		if (a->write)
			ret = uiommu_function_bar_write(a->device->fn, a->bar, pos + done,
							bytes + done, len);
		else
			ret = uiommu_function_bar_read(a->device->fn, a->bar, pos + done,
						       bytes + done, len);
		done += len;
	}
	return ret;
}

static int access_block(const struct bar_access *a, uint64_t pos, uint8_t *bytes, size_t count)
{
	while (count) {
		bool hidden = pos >= a->hidden_first && pos < a->hidden_end;
		uint64_t end = hidden		       ? a->hidden_end
			       : pos < a->hidden_first ? a->hidden_first
						       : UINT64_MAX;
		size_t len = count < end - pos ? count : end - pos;
		int ret = 0;

		if (!hidden)
			ret = access_registers(a, pos, bytes, len);
		else if (!a->write)
			memset(bytes, 0xff, len);
		if (ret)
			return ret;
		pos += len;
		bytes += len;
		count -= len;
	}
	return 0;
}

/* Blocks end where registers may: a register is never split between two. */
static size_t block_at(uint64_t pos, size_t count)
{
	size_t len = BLOCK - pos % BLOCK;

	return count < len ? count : len;
}

static ssize_t bar_rw(struct vfio_device *device, unsigned bar, uint64_t buf, size_t count,
		      uint64_t pos, bool write)
{
	const struct uiommu_model *model = device->info->model;
	struct bar_access a = {.device = device, .bar = bar, .write = write};
	uint64_t size = vfio_device_bar_size(device, bar);
	uint8_t bytes[BLOCK];
	size_t done = 0, len;
	int ret = 0;

	if (pos >= size)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   size ? "past the end of the BAR"
					: "the function lacks this BAR");
	if (count > size - pos)
		count = size - pos;
	if (model->msix_vectors && model->msix_bar == bar) {
		a.hidden_first = model->msix_offset;
		a.hidden_end = model->msix_offset + UINT64_C(16) * model->msix_vectors;
	}
	for (; done < count && !ret; done += len) {
		len = block_at(pos + done, count - done);
		if (write)
			ret = vfio_copy_in(device->vfio, bytes, buf + done, len);
		if (!ret)
			ret = access_block(&a, pos + done, bytes, len);
		if (!ret && !write)
			ret = vfio_copy_out(device->vfio, buf + done, bytes, len);
	}
	return ret ? ret : (ssize_t)count;
}

static ssize_t region_rw(struct vfio_device *device, uint64_t buf, size_t count, uint64_t offset,
			 bool write)
{
	uint64_t index = offset >> VFIO_OFFSET_SHIFT, pos = offset & VFIO_OFFSET_MASK;

	if (index <= VFIO_PCI_BAR5_REGION_INDEX)
		return bar_rw(device, index, buf, count, pos, write);
	if (index == VFIO_PCI_CONFIG_REGION_INDEX)
		return vfio_config_rw(device, buf, count, pos, write);
	return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "the function has no such region");
}

ssize_t vfio_device_rw(struct vfio_device *device, uint64_t buf, size_t count, uint64_t offset,
		       bool write)
{
	ssize_t ret;

	if (!count)
		return 0;
	pthread_mutex_lock(&device->lock);
	vfio_device_wake(device);
	ret = region_rw(device, buf, count, offset, write);
	pthread_mutex_unlock(&device->lock);
	return ret;
}
