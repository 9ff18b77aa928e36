/* SPDX-License-Identifier: MIT */
/* /dev/iommu as proposed in 2021: every answer of its requests and of a node's, mappings by a
 * device's DMA, and address spaces under constraints. */
#include <unistd.h>

#include <uiommu/linux/iommufd_rfc.h>

#include "iommufd_rig.h"

/* An IOMMU that enforces snooping, and a group of two beside the devices that are alone. */
static const struct rig_options snooping = {
	.platform = "x86-amd",
	.functions = (const char *const[]){"edu@00:01.0,group=0", "edu@00:02.0,group=1",
					   "edu@00:03.0,group=2", "edu@00:03.1,group=2", NULL},
	.iommufd_rfc = true};
static const struct rig_options plain = {.iommufd_rfc = true};
static const struct rig_options narrow = {.platform = "x86-vtd,snoop=on", .iommufd_rfc = true};

static long bind(struct rig *rig, int node, int fd, uint64_t cookie)
{
	struct vfio_device_iommu_bind_data bind = {
		.argsz = sizeof(bind), .iommu_fd = fd, .dev_cookie = cookie};

	return rig_ioctl(rig, node, VFIO_DEVICE_RFC_BIND_IOMMUFD, &bind);
}

static long alloc(struct rig *rig, int fd, uint32_t width)
{
	struct iommu_ioasid_alloc alloc = {.argsz = sizeof(alloc),
					   .flags = IOMMU_IOASID_ENFORCE_SNOOP,
					   .type = IOMMU_IOASID_TYPE_KERNEL_TYPE1V2,
					   .addr_width = width};

	return rig_ioctl(rig, fd, IOMMU_IOASID_ALLOC, &alloc);
}

static long free_ioasid(struct rig *rig, int fd, int32_t ioasid)
{
	return rig_ioctl(rig, fd, IOMMU_IOASID_FREE, &ioasid);
}

static long move(struct rig *rig, int node, unsigned long request, int fd, int32_t ioasid)
{
	struct vfio_device_attach_ioasid move = {
		.argsz = sizeof(move), .iommu_fd = fd, .ioasid = ioasid};

	return rig_ioctl(rig, node, request, &move);
}

static long attach(struct rig *rig, int node, int fd, int32_t ioasid)
{
	return move(rig, node, VFIO_DEVICE_ATTACH_IOASID, fd, ioasid);
}

static long detach(struct rig *rig, int node, int fd, int32_t ioasid)
{
	return move(rig, node, VFIO_DEVICE_DETACH_IOASID, fd, ioasid);
}

static long map(struct rig *rig, int fd, int32_t ioasid, uint64_t iova, const void *at)
{
	struct {
		struct iommu_ioasid_dma_op op;
		struct vfio_iommu_type1_dma_map map;
	} request = {
		{.argsz = sizeof(request), .ioasid = ioasid},
		{.argsz = sizeof(request.map),
		 .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		 .vaddr = (uintptr_t)at,
		 .iova = iova,
		 .size = PAGE},
	};

	return rig_ioctl(rig, fd, IOMMU_MAP_DMA, &request);
}

/* Bytes removed, or -errno. */
static long unmap(struct rig *rig, int fd, int32_t ioasid, uint64_t iova, uint64_t size)
{
	struct {
		struct iommu_ioasid_dma_op op;
		struct vfio_iommu_type1_dma_unmap unmap;
	} request = {
		{.argsz = sizeof(request), .ioasid = ioasid},
		{.argsz = sizeof(request.unmap), .iova = iova, .size = size},
	};
	long ret = rig_ioctl(rig, fd, IOMMU_UNMAP_DMA, &request);

	return ret ? ret : (long)request.unmap.size;
}

/* A bound edu whose DMA is on. */
static int bound_edu(struct rig *rig, unsigned number, int fd, uint64_t cookie)
{
	int node = rig_open_node(rig, number);

	assert_int_equal(bind(rig, node, fd, cookie), 0);
	rig_config_set(rig, node, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return node;
}

static void test_requests(void **state)
{
	struct iommu_ioas_alloc modern = {.size = sizeof(modern)};
	struct rig rig;
	int fd, group;

	assert_true(rig_up(&rig, &plain));
	fd = rig_open_iommufd(&rig);
	assert_int_equal(rig_ioctl_value(&rig, fd, IOMMU_CHECK_EXTENSION, EXT_MAP_TYPE1V2), 1);
	assert_int_equal(rig_ioctl_value(&rig, fd, IOMMU_CHECK_EXTENSION, EXT_DMA_NO_SNOOP), 0);
	assert_int_equal(rig_ioctl_value(&rig, fd, IOMMU_CHECK_EXTENSION, 77), 0);
	/* What is none of its requests is EINVAL, those of today included. */
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOAS_ALLOC, &modern), -EINVAL);
	assert_int_equal(rig_ioctl_value(&rig, fd, VFIO_SET_IOMMU + 64, 0), -EINVAL);
	assert_string_equal(rig.refused_what, "ioctl");
	/* It is no container. */
	group = rig_open_group(&rig, 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &fd), -EINVAL);
	rig_close(&rig, group);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_unbound(void **state)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};
	struct uiommu_vfio_mapping mapping;
	struct rig rig;
	uint32_t word;
	int fd, node;

	assert_true(rig_up(&rig, &snooping));
	fd = rig_open_iommufd(&rig);
	node = rig_open_node(&rig, 0);
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_GET_INFO, &info), -ENODEV);
	assert_int_equal(uiommu_vfio_pread(rig_file(&rig, node), &word, 4, 0), -ENODEV);
	assert_int_equal(uiommu_vfio_pwrite(rig_file(&rig, node), &word, 4, 0), -ENODEV);
	assert_int_equal(uiommu_vfio_mmap(rig_file(&rig, node), PAGE, 3, 1, 0, &mapping), -ENODEV);
	assert_int_equal(attach(&rig, node, fd, 0), -EINVAL);
	assert_int_equal(detach(&rig, node, fd, 0), -EINVAL);
	assert_int_equal(bind(&rig, node, fd, 1), 0);
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_GET_INFO, &info), 0);
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_BIND_IOMMUFD, &info), -ENOTTY);
	rig_close(&rig, node);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_bind(void **state)
{
	struct vfio_device_iommu_bind_data bad = {.argsz = sizeof(bad) - 1};
	int fd, other, node, again, second, container, group;
	struct rig rig;

	assert_true(rig_up(&rig, &snooping));
	fd = rig_open_iommufd(&rig);
	other = rig_open_iommufd(&rig);
	container = rig_open_container(&rig);
	node = rig_open_node(&rig, 0);
	again = rig_open_node(&rig, 0);
	second = rig_open_node(&rig, 1);
	bad.iommu_fd = fd;
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_RFC_BIND_IOMMUFD, &bad), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_RFC_BIND_IOMMUFD, (void *)8), -EFAULT);
	bad.argsz = sizeof(bad);
	bad.flags = 1;
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_RFC_BIND_IOMMUFD, &bad), -EINVAL);
	assert_int_equal(bind(&rig, node, -1, 5), -EINVAL);
	assert_int_equal(bind(&rig, node, 4000, 5), -EINVAL);
	assert_int_equal(bind(&rig, node, container, 5), -EINVAL);
	assert_int_equal(bind(&rig, node, fd, 5), 0);
	assert_int_equal(bind(&rig, node, fd, 6), -EBUSY);
	assert_int_equal(bind(&rig, again, other, 6), -EBUSY);
	/* Cookies are one /dev/iommu's. */
	assert_int_equal(bind(&rig, second, fd, 5), -EBUSY);
	assert_string_equal(rig.refused_what, "VFIO_DEVICE_BIND_IOMMUFD");
	assert_int_equal(bind(&rig, second, other, 5), 0);
	/* Closing unbinds. */
	rig_close(&rig, node);
	assert_int_equal(bind(&rig, again, fd, 5), 0);
	rig_close(&rig, again);
	rig_close(&rig, second);
	/* A device that is used the old way. */
	group = rig_open_group(&rig, 0);
	node = rig_open_node(&rig, 0);
	assert_int_equal(bind(&rig, node, fd, 1), -EBUSY);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	assert_int_equal(bind(&rig, node, fd, 1), -ENOTTY);
	assert_int_equal(attach(&rig, node, fd, 0), -ENOTTY);
	assert_int_equal(detach(&rig, node, fd, 0), -ENOTTY);
	rig_close(&rig, group);
	assert_int_equal(bind(&rig, node, fd, 1), 0);
	rig_close(&rig, node);
	rig_close(&rig, container);
	rig_close(&rig, other);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_info(void **state)
{
	struct {
		struct iommu_device_info info;
		uint8_t caps[256];
	} room;
	const struct vfio_iommu_type1_info_cap_iova_range *ranges = (void *)room.caps;
	struct rig rig;
	int fd, node;

	assert_true(rig_up(&rig, &snooping));
	fd = rig_open_iommufd(&rig);
	node = bound_edu(&rig, 0, fd, 0x1234567890);
	room.info = (struct iommu_device_info){.argsz = sizeof(room.info) - 1,
					       .dev_cookie = 0x1234567890};
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_DEVICE_GET_INFO, &room), -EINVAL);
	room.info.argsz = sizeof(room.info);
	room.info.dev_cookie++;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_DEVICE_GET_INFO, &room), -EINVAL);
	room.info.dev_cookie--;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_DEVICE_GET_INFO, &room), 0);
	assert_int_equal(room.info.flags,
			 IOMMU_DEVICE_INFO_ENFORCE_SNOOP | IOMMU_DEVICE_INFO_PGSIZES |
				 IOMMU_DEVICE_INFO_ADDR_WIDTH | IOMMU_DEVICE_INFO_CAPS);
	assert_int_equal(room.info.dev_cookie, 0x1234567890);
	assert_int_equal(room.info.pgsize_bitmap & 0x40201000, 0x40201000);
	assert_int_equal(room.info.addr_width, 64);
	/* No room yet: it says how much. */
	assert_int_equal(room.info.cap_offset, 0);
	assert_true(room.info.argsz > sizeof(room.info) && room.info.argsz <= sizeof(room));
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_DEVICE_GET_INFO, &room), 0);
	assert_int_equal(room.info.cap_offset, sizeof(room.info));
	assert_int_equal(ranges->header.id, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
	assert_int_equal(ranges->iova_ranges[0].start, 0);
	assert_int_equal(ranges->iova_ranges[0].end, 0xfedfffff);
	assert_int_equal(ranges->iova_ranges[1].start, 0xfef00000);
	rig_close(&rig, node);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_DEVICE_GET_INFO, &room), -EINVAL);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_alloc(void **state)
{
	struct iommu_ioasid_alloc bad = {.argsz = sizeof(bad),
					 .flags = IOMMU_IOASID_ENFORCE_SNOOP,
					 .type = IOMMU_IOASID_TYPE_KERNEL_TYPE1V2};
	struct rig rig;
	int fd, node;

	assert_true(rig_up(&rig, &snooping));
	fd = rig_open_iommufd(&rig);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &bad), -EINVAL); /* no width */
	bad.addr_width = 48;
	bad.argsz--;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &bad), -EINVAL);
	bad.argsz++;
	bad.type = 2;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &bad), -EINVAL);
	bad.type = IOMMU_IOASID_TYPE_KERNEL_TYPE1V2;
	bad.flags = 0;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &bad), -EINVAL);
	bad.flags = IOMMU_IOASID_ENFORCE_SNOOP | 8;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &bad), -EINVAL);
	/* From 0, the lowest that is free, whatever else there is. */
	node = bound_edu(&rig, 0, fd, 1);
	for (int i = 0; i < 5; i++)
		assert_int_equal(alloc(&rig, fd, 48), i);
	assert_int_equal(free_ioasid(&rig, fd, 2), 0);
	assert_int_equal(free_ioasid(&rig, fd, 2), -EINVAL);
	assert_int_equal(free_ioasid(&rig, fd, -1), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_FREE, (void *)8), -EFAULT);
	assert_int_equal(alloc(&rig, fd, 48), 2);
	assert_int_equal(alloc(&rig, fd, 48), 5);
	assert_int_equal(attach(&rig, node, fd, 5), 0);
	assert_int_equal(free_ioasid(&rig, fd, 5), -EBUSY);
	assert_int_equal(detach(&rig, node, fd, 5), 0);
	assert_int_equal(free_ioasid(&rig, fd, 5), 0);
	rig_close(&rig, node);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_attach(void **state)
{
	struct vfio_device_attach_ioasid bad = {.argsz = sizeof(bad) - 1};
	int fd, other, node, pair;
	struct rig rig;
	int32_t ioasid;

	assert_true(rig_up(&rig, &snooping));
	fd = rig_open_iommufd(&rig);
	other = rig_open_iommufd(&rig);
	node = bound_edu(&rig, 0, fd, 1);
	ioasid = (int32_t)alloc(&rig, fd, 48);
	bad.iommu_fd = fd;
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_ATTACH_IOASID, &bad), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_ATTACH_IOASID, (void *)8), -EFAULT);
	bad.argsz++;
	bad.flags = 1;
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_ATTACH_IOASID, &bad), -EINVAL);
	assert_int_equal(attach(&rig, node, -1, ioasid), -EINVAL);
	assert_int_equal(attach(&rig, node, fd, -1), -EINVAL);
	assert_int_equal(attach(&rig, node, other, ioasid), -EINVAL);
	assert_int_equal(attach(&rig, node, fd, 9), -EINVAL);
	assert_int_equal(detach(&rig, node, fd, ioasid), -EINVAL);
	assert_int_equal(attach(&rig, node, fd, ioasid), 0);
	assert_int_equal(attach(&rig, node, fd, ioasid), -EBUSY);
	assert_int_equal(alloc(&rig, fd, 48), ioasid + 1);
	assert_int_equal(attach(&rig, node, fd, ioasid + 1), -EBUSY);
	assert_int_equal(detach(&rig, node, fd, ioasid + 1), -EINVAL);
	assert_int_equal(detach(&rig, node, other, ioasid), -EINVAL);
	assert_int_equal(detach(&rig, node, fd, ioasid), 0);
	assert_int_equal(detach(&rig, node, fd, ioasid), -EINVAL);
	/* One of two in a group can be bound, but not attached. */
	pair = bound_edu(&rig, 2, fd, 2);
	assert_int_equal(attach(&rig, pair, fd, ioasid), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_VIABLE);
	rig_close(&rig, pair);
	rig_close(&rig, node);
	rig_close(&rig, other);
	rig_close(&rig, fd);
	rig_down(&rig);

	/* Wider than the IOMMU. */
	assert_true(rig_up(&rig, &narrow));
	fd = rig_open_iommufd(&rig);
	node = bound_edu(&rig, 0, fd, 1);
	assert_int_equal(attach(&rig, node, fd, (int32_t)alloc(&rig, fd, 49)), -EINVAL);
	assert_string_equal(rig.refused.owner, "the device's IOMMU is narrower than addr_width");
	assert_int_equal(attach(&rig, node, fd, (int32_t)alloc(&rig, fd, 48)), 0);
	rig_close(&rig, node);
	rig_close(&rig, fd);
	rig_down(&rig);

	/* An IOMMU that does not enforce snooping. */
	assert_true(rig_up(&rig, &plain));
	fd = rig_open_iommufd(&rig);
	node = bound_edu(&rig, 0, fd, 1);
	assert_int_equal(attach(&rig, node, fd, (int32_t)alloc(&rig, fd, 48)), -EINVAL);
	rig_close(&rig, node);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_map(void **state)
{
	int fd, first, second;
	int32_t ioasid;
	struct rig rig;

	assert_true(rig_up(&rig, &snooping));
	fd = rig_open_iommufd(&rig);
	first = bound_edu(&rig, 0, fd, 1);
	second = bound_edu(&rig, 1, fd, 2);
	ioasid = (int32_t)alloc(&rig, fd, 48);
	/* Not before something is attached. */
	assert_int_equal(map(&rig, fd, ioasid, 0x10000, rig.memory), -EINVAL);
	assert_int_equal(unmap(&rig, fd, ioasid, 0x10000, PAGE), -EINVAL);
	assert_int_equal(attach(&rig, first, fd, ioasid), 0);
	assert_int_equal(map(&rig, fd, ioasid + 1, 0x10000, rig.memory), -EINVAL);
	assert_int_equal(map(&rig, fd, -1, 0x10000, rig.memory), -EINVAL);
	assert_false(edu_reads(&rig, first, 0x10000, rig.memory));
	assert_int_equal(map(&rig, fd, ioasid, 0x10000, rig.memory), 0);
	assert_string_equal(rig.refused_what, "IOMMU_MAP_DMA");
	assert_true(edu_reads(&rig, first, 0x10000, rig.memory));
	assert_false(edu_reads(&rig, second, 0x10000, rig.memory));
	assert_int_equal(attach(&rig, second, fd, ioasid), 0);
	assert_true(edu_reads(&rig, second, 0x10000, rig.memory));
	/* Type 1's second version. */
	assert_int_equal(map(&rig, fd, ioasid, 0x10000, rig.memory), -EEXIST);
	assert_int_equal(map(&rig, fd, ioasid, 0x11001, rig.memory), -EINVAL);
	assert_int_equal(map(&rig, fd, ioasid, 0xfee00000, rig.memory), -EINVAL);
	assert_int_equal(map(&rig, fd, ioasid, 0x20000, rig.memory + RIG_PAGES * PAGE), -EFAULT);
	assert_int_equal(unmap(&rig, fd, ioasid, 0x20000, PAGE), 0);
	assert_int_equal(unmap(&rig, fd, ioasid, 0x10000, PAGE), PAGE);
	assert_false(edu_reads(&rig, first, 0x10000, rig.memory));
	/* Mappings go with the last device. */
	assert_int_equal(map(&rig, fd, ioasid, 0x10000, rig.memory), 0);
	assert_int_equal(detach(&rig, first, fd, ioasid), 0);
	assert_false(edu_reads(&rig, first, 0x10000, rig.memory));
	assert_true(edu_reads(&rig, second, 0x10000, rig.memory));
	rig_close(&rig, second);
	assert_int_equal(map(&rig, fd, ioasid, 0x10000, rig.memory), -EINVAL);
	assert_int_equal(attach(&rig, first, fd, ioasid), 0);
	assert_int_equal(unmap(&rig, fd, ioasid, 0x10000, PAGE), 0);
	assert_int_equal(map(&rig, fd, ioasid, 0x10000, rig.memory), 0);
	/* What a device uses outlives the file. */
	rig_close(&rig, fd);
	assert_true(edu_reads(&rig, first, 0x10000, rig.memory));
	rig_close(&rig, first);
	rig_down(&rig);
}

static void test_op(void **state)
{
	struct {
		struct iommu_ioasid_dma_op op;
		struct vfio_iommu_type1_dma_map map;
	} request = {.op = {.argsz = sizeof(request.op) - 1}, .map = {.argsz = 8}};
	struct rig rig;
	int fd, node;

	assert_true(rig_up(&rig, &snooping));
	fd = rig_open_iommufd(&rig);
	node = bound_edu(&rig, 0, fd, 1);
	assert_int_equal(alloc(&rig, fd, 48), 0);
	assert_int_equal(attach(&rig, node, fd, 0), 0);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_MAP_DMA, &request), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_MAP_DMA, (void *)8), -EFAULT);
	request.op.argsz++;
	request.op.flags = 1;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_MAP_DMA, &request), -EINVAL);
	/* What follows is VFIO's, with a size of its own. */
	request.op.flags = 0;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_MAP_DMA, &request), -EINVAL);
	request.map = (struct vfio_iommu_type1_dma_map){.argsz = sizeof(request.map),
							.flags = VFIO_DMA_MAP_FLAG_READ,
							.vaddr = (uintptr_t)rig.memory,
							.iova = 0x1000,
							.size = PAGE};
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_MAP_DMA, &request), 0);
	rig.bad_first = (uintptr_t)&request.map;
	rig.bad_last = rig.bad_first + sizeof(request.map) - 1;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_MAP_DMA, &request), -EFAULT);
	rig.bad_last = 0;
	rig_close(&rig, node);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_constraints(void **state)
{
	struct iommu_ioasid_alloc_constrained ask = {
		.alloc = {.argsz = sizeof(ask),
			  .flags = IOMMU_IOASID_ENFORCE_SNOOP | IOMMU_IOASID_RANGE,
			  .type = IOMMU_IOASID_TYPE_KERNEL_TYPE1V2},
		.start = 0,
		.last = 0xffffffff};
	int fd, node;
	struct rig rig;

	assert_true(rig_up(&rig, &snooping));
	fd = rig_open_iommufd(&rig);
	node = bound_edu(&rig, 0, fd, 1);
	/* Across a hole: which, and whose. */
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), -EADDRINUSE);
	assert_string_equal(rig.refused_what, "IOMMU_IOASID_ALLOC");
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_RESERVED);
	assert_int_equal(rig.refused.blocking.first, 0xfee00000);
	assert_string_equal(rig.refused.owner, "x86-amd");
	ask.last = 0xfedfffff;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), 0);
	ask.start = UINT64_C(1) << 59; /* POWER's second window */
	ask.last = ask.start + 0xffffffff;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), 1);
	ask.alloc.addr_width = 48;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), -EINVAL);
	ask.alloc.addr_width = 60;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), 2);
	ask.alloc.argsz--;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), -EINVAL);
	ask.alloc.argsz++;
	ask.last = ask.start - 1;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), -EINVAL);
	ask.start = ask.last = 0;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), -EINVAL);
	ask.start = 1;
	ask.last = 0xffff;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), -EINVAL);
	/* Without its flag nobody cares. */
	ask.alloc.flags = IOMMU_IOASID_ENFORCE_SNOOP;
	ask.alloc.addr_width = 48;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), 3);
	ask.alloc.flags |= IOMMU_IOASID_PAGE_SIZE;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), -EINVAL);
	ask.page_size = 3 * PAGE;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), -EINVAL);
	ask.page_size = 65536;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOASID_ALLOC, &ask), 4);
	/* It is used like any other; its pages are as large as was asked for. */
	assert_int_equal(attach(&rig, node, fd, 4), 0);
	assert_int_equal(map(&rig, fd, 4, 0x10000, rig.memory), -EINVAL);
	assert_int_equal(detach(&rig, node, fd, 4), 0);
	assert_int_equal(attach(&rig, node, fd, 1), 0);
	assert_int_equal(map(&rig, fd, 1, UINT64_C(1) << 59, rig.memory), 0);
	assert_int_equal(map(&rig, fd, 1, 0x10000, rig.memory), 0);
	assert_true(edu_reads(&rig, node, 0x10000, rig.memory));
	rig_close(&rig, node);
	rig_close(&rig, fd);
	rig_down(&rig);
}

/* A whole session with the nth allocation failing: what fails for it works when tried again. */
static bool failed;

static long twice(long ret, long (*again)(struct rig *rig, int a, int b, int c), struct rig *rig,
		  int a, int b, int c)
{
	if (ret != -ENOMEM)
		return ret;
	failed = true;
	return again(rig, a, b, c);
}

static long do_bind(struct rig *rig, int node, int fd, int unused)
{
	return bind(rig, node, fd, 1);
}

static long do_alloc(struct rig *rig, int fd, int unused, int unused2)
{
	return alloc(rig, fd, 48);
}

static long do_attach(struct rig *rig, int node, int fd, int ioasid)
{
	return attach(rig, node, fd, ioasid);
}

static long do_map(struct rig *rig, int fd, int ioasid, int iova)
{
	return map(rig, fd, ioasid, (uint64_t)iova, rig->memory);
}

static void session(struct rig *rig, long nth)
{
	int fd = rig_open_iommufd(rig), node = rig_open_node(rig, 0);

	assert_true(fd >= 0 && node >= 0);
	failed = false;
	fail_countdown = nth;
	assert_int_equal(twice(do_bind(rig, node, fd, 0), do_bind, rig, node, fd, 0), 0);
	assert_int_equal(twice(do_alloc(rig, fd, 0, 0), do_alloc, rig, fd, 0, 0), 0);
	assert_int_equal(twice(do_attach(rig, node, fd, 0), do_attach, rig, node, fd, 0), 0);
	assert_int_equal(twice(do_map(rig, fd, 0, 0x10000), do_map, rig, fd, 0, 0x10000), 0);
	fail_countdown = -1;
	assert_int_equal(unmap(rig, fd, 0, 0x10000, PAGE), PAGE);
	rig_close(rig, node);
	rig_close(rig, fd);
}

static void test_no_memory(void **state)
{
	struct rig rig;
	long nth = 0;

	uiommu_set_allocator(failing_alloc, failing_release);
	assert_true(rig_up(&rig, &snooping));
	do
		session(&rig, nth++);
	while (failed);
	assert_true(nth > 10);
	rig_down(&rig);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* Anything from several threads, in any order, with a device reading all the time: nothing is
 * reached that is gone, nobody waits for ever, nothing is left. */
struct racer {
	struct rig *rig;
	int fd, node[2];
	uint64_t seed;
};

static unsigned pick(struct racer *r, unsigned below)
{
	r->seed = r->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (unsigned)(r->seed >> 33) % below;
}

static void *race(void *arg)
{
	struct racer *r = arg;
	uint64_t page = pick(r, 8);

	for (int i = 0; i < 3000; i++) {
		int32_t ioasid = (int32_t)pick(r, 3);
		int node = r->node[pick(r, 2)];

		switch (pick(r, 6)) {
		case 0:
			alloc(r->rig, r->fd, 48);
			break;
		case 1:
			free_ioasid(r->rig, r->fd, ioasid + (int32_t)pick(r, 10));
			break;
		case 2:
			attach(r->rig, node, r->fd, ioasid);
			break;
		case 3:
			detach(r->rig, node, r->fd, ioasid);
			break;
		case 4:
			map(r->rig, r->fd, ioasid, page * PAGE, r->rig->memory + page * PAGE);
			break;
		default:
			unmap(r->rig, r->fd, ioasid, page * PAGE, PAGE);
		}
		page = pick(r, 8);
	}
	return NULL;
}

static void test_race(void **state)
{
	struct rng rng = rng_seeded("race");
	struct racer racers[4];
	pthread_t threads[4];
	struct rig rig;

	uiommu_set_allocator(failing_alloc, failing_release);
	assert_true(rig_up(&rig, &snooping));
	racers[0] = (struct racer){.rig = &rig, .fd = rig_open_iommufd(&rig)};
	for (unsigned i = 0; i < 2; i++)
		racers[0].node[i] = bound_edu(&rig, i, racers[0].fd, i);
	for (int i = 0; i < 4; i++) {
		racers[i] = racers[0];
		racers[i].seed = rng.state + (uint64_t)i;
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	for (int i = 0; i < 20; i++)
		edu_dma(&rig, racers[0].node[0], (uint64_t)(i % 8) * PAGE, 64, i & 1);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < 2; i++)
		rig_close(&rig, racers[0].node[i]);
	rig_close(&rig, racers[0].fd);
	rig_down(&rig);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),    cmocka_unit_test(test_unbound),
		cmocka_unit_test(test_bind),	    cmocka_unit_test(test_info),
		cmocka_unit_test(test_alloc),	    cmocka_unit_test(test_attach),
		cmocka_unit_test(test_map),	    cmocka_unit_test(test_op),
		cmocka_unit_test(test_constraints), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
