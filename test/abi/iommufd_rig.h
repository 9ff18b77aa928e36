/* SPDX-License-Identifier: MIT */
/* What the tests of iommufd share: requests on a rig's /dev/iommu and device nodes, and an edu that
 * does DMA. */
#ifndef TEST_IOMMUFD_RIG_H
#define TEST_IOMMUFD_RIG_H

#include <errno.h>
#include <unistd.h>

#include <uiommu/linux/iommufd.h>

#include "abi_test.h"
#include "check.h"

#define MAP_FIXED_RW \
	(IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE)
#define MAP_RW (IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE)

static uint32_t ioas_alloc(struct rig *rig, int fd)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};

	assert_int_equal(rig_ioctl(rig, fd, IOMMU_IOAS_ALLOC, &alloc), 0);
	return alloc.out_ioas_id;
}

static long destroy_id(struct rig *rig, int fd, uint32_t id)
{
	struct iommu_destroy destroy = {.size = sizeof(destroy), .id = id};

	return rig_ioctl(rig, fd, IOMMU_DESTROY, &destroy);
}

/* *@iova is in and out. */
static long ioas_map(struct rig *rig, int fd, uint32_t ioas, uint32_t flags, const void *va,
		     uint64_t length, uint64_t *iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = flags,
		.ioas_id = ioas,
		.user_va = (uintptr_t)va,
		.length = length,
		.iova = *iova,
	};
	long ret = rig_ioctl(rig, fd, IOMMU_IOAS_MAP, &map);

	*iova = map.iova;
	return ret;
}

static long ioas_map_at(struct rig *rig, int fd, uint32_t ioas, const void *va, uint64_t length,
			uint64_t iova)
{
	return ioas_map(rig, fd, ioas, MAP_FIXED_RW, va, length, &iova);
}

static long ioas_unmap(struct rig *rig, int fd, uint32_t ioas, uint64_t iova, uint64_t *length)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = ioas, .iova = iova, .length = *length};
	long ret = rig_ioctl(rig, fd, IOMMU_IOAS_UNMAP, &unmap);

	*length = unmap.length;
	return ret;
}

static long bind_device(struct rig *rig, int node, int fd, uint32_t *id)
{
	struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = fd};
	long ret = rig_ioctl(rig, node, VFIO_DEVICE_BIND_IOMMUFD, &bind);

	*id = bind.out_devid;
	return ret;
}

/* *@id is in and out. */
static long attach_device(struct rig *rig, int node, uint32_t *id)
{
	struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = *id};
	long ret = rig_ioctl(rig, node, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);

	*id = attach.pt_id;
	return ret;
}

static long attach_to(struct rig *rig, int node, uint32_t id)
{
	return attach_device(rig, node, &id);
}

static long detach_device(struct rig *rig, int node)
{
	struct vfio_device_detach_iommufd_pt detach = {.argsz = sizeof(detach)};

	return rig_ioctl(rig, node, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

static long hwpt_alloc(struct rig *rig, int fd, uint32_t device, uint32_t on, uint32_t flags,
		       uint32_t *id)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc), .flags = flags, .dev_id = device, .pt_id = on};
	long ret = rig_ioctl(rig, fd, IOMMU_HWPT_ALLOC, &alloc);

	*id = alloc.out_hwpt_id;
	return ret;
}

/* edu's registers: a DMA from memory into its buffer, or out of it. */
static void edu_start(struct rig *rig, int node, uint64_t iova, uint32_t count, bool to_memory)
{
	const uint64_t buffer = 0x40000;
	uint64_t source = to_memory ? buffer : iova, target = to_memory ? iova : buffer;

	rig_reg_set(rig, node, 0, 0x80, source);
	rig_reg_set(rig, node, 0, 0x84, source >> 32);
	rig_reg_set(rig, node, 0, 0x88, target);
	rig_reg_set(rig, node, 0, 0x8c, target >> 32);
	rig_reg_set(rig, node, 0, 0x90, count);
	rig_reg_set(rig, node, 0, 0x98, to_memory ? 3 : 1);
}

static void edu_wait(struct rig *rig, int node)
{
	for (unsigned i = 0; rig_reg(rig, node, 0, 0x98) & 1; i++) {
		assert_true(i < 10000);
		usleep(1000);
	}
}

static void edu_dma(struct rig *rig, int node, uint64_t iova, uint32_t count, bool to_memory)
{
	edu_start(rig, node, iova, count, to_memory);
	edu_wait(rig, node);
}

/* A bound edu with bus mastering on. */
struct bound {
	int fd, node;
	uint32_t device, ioas;
};

static struct bound bind_edu(struct rig *rig)
{
	struct bound b = {rig_open_iommufd(rig), rig_open_node(rig, 0), 0, 0};

	assert_int_equal(bind_device(rig, b.node, b.fd, &b.device), 0);
	b.ioas = ioas_alloc(rig, b.fd);
	rig_config_set(rig, b.node, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return b;
}

static void unbind_edu(struct rig *rig, const struct bound *b)
{
	rig_close(rig, b->node);
	rig_close(rig, b->fd);
}

/* Does the device read what is at @memory by @iova? */
static bool edu_reads(struct rig *rig, int node, uint64_t iova, const void *memory)
{
	uint64_t faults = rig->faults, back = 0;

	edu_dma(rig, node, iova, 8, false);
	if (rig->faults != faults)
		return false;
	/* The buffer is BAR 0's own memory, not to be seen but by DMA: write it to the same place.
	 */
	edu_dma(rig, node, iova, 8, true);
	memcpy(&back, memory, sizeof(back));
	return rig->faults == faults;
}

/* ---- fault queues ---- */

static long fault_alloc(struct rig *rig, int fd, int *queue, uint32_t *id)
{
	struct iommu_fault_alloc alloc = {.size = sizeof(alloc)};
	long ret = rig_ioctl(rig, fd, IOMMU_FAULT_QUEUE_ALLOC, &alloc);

	*queue = (int)alloc.out_fault_fd;
	*id = alloc.out_fault_id;
	return ret;
}

static long hwpt_with_faults(struct rig *rig, const struct bound *b, uint32_t flags,
			     uint32_t faults, uint32_t *id)
{
	struct iommu_hwpt_alloc alloc = {.size = sizeof(alloc),
					 .flags = flags | IOMMU_HWPT_FAULT_ID_VALID,
					 .dev_id = b->device,
					 .pt_id = b->ioas,
					 .fault_id = faults};
	long ret = rig_ioctl(rig, b->fd, IOMMU_HWPT_ALLOC, &alloc);

	*id = alloc.out_hwpt_id;
	return ret;
}

/* The next request, once there is one. */
static struct iommu_hwpt_pgfault next_fault(struct rig *rig, int queue)
{
	struct iommu_hwpt_pgfault fault;
	ssize_t len = 0;

	for (unsigned i = 0; i < 10000 && !len; i++) {
		len = uiommu_vfio_pread(rig_file(rig, queue), &fault, sizeof(fault), 0);
		if (!len)
			usleep(1000);
	}
	assert_int_equal(len, sizeof(fault));
	return fault;
}

#endif
