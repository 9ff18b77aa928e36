/* SPDX-License-Identifier: MIT */
/*
 * A program for /dev/iommu as proposed in 2021, after the example in its documentation: it opens a
 * device by its address, binds it under a cookie, asks what its IOMMU can do, makes an address
 * space and does DMA in it; then some in which a guest's memory has to have a place. The
 * argument is the last address of the machine.
 */
#include <fcntl.h>

#include <uiommu/linux/iommufd_rfc.h>

#include "client.h"

#define IOVA UINT64_C(0x10000)

/* In one struct, as the requests have it. */
struct dma_map {
	struct iommu_ioasid_dma_op op;
	struct vfio_iommu_type1_dma_map map;
};

struct dma_unmap {
	struct iommu_ioasid_dma_op op;
	struct vfio_iommu_type1_dma_unmap unmap;
};

static int map(int fd, int ioasid, uint64_t iova, const void *at, uint64_t size)
{
	struct dma_map request = {
		{.argsz = sizeof(request), .ioasid = ioasid},
		{.argsz = sizeof(request.map),
		 .flags = RW,
		 .vaddr = (uintptr_t)at,
		 .iova = iova,
		 .size = size},
	};

	return call(fd, IOMMU_MAP_DMA, &request);
}

static int64_t unmap(int fd, int ioasid, uint64_t iova, uint64_t size)
{
	struct dma_unmap request = {
		{.argsz = sizeof(request), .ioasid = ioasid},
		{.argsz = sizeof(request.unmap), .iova = iova, .size = size},
	};
	int ret = call(fd, IOMMU_UNMAP_DMA, &request);

	return ret ? ret : (int64_t)request.unmap.size;
}

/* Have the device copy @len bytes from the beginning of a page to its middle. */
static void copy(volatile uint8_t *bar, uint64_t iova, uint32_t len)
{
	const uint64_t buffer = 0x40000;

	for (int out = 0; out < 2; out++) {
		REG(bar, uint64_t, 0x80) = out ? buffer : iova;
		REG(bar, uint64_t, 0x88) = out ? iova + PAGE / 2 : buffer;
		REG(bar, uint32_t, 0x90) = len;
		REG(bar, uint32_t, 0x98) = out ? 3 : 1;
		for (int i = 0; REG(bar, uint32_t, 0x98) & 1 && i < 10000; i++)
			usleep(1000);
	}
}

static void info(int fd, uint64_t cookie)
{
	struct iommu_device_info info = {.argsz = sizeof(info), .dev_cookie = cookie};

	CHECK_EQ(call(fd, IOMMU_DEVICE_GET_INFO, &info), 0);
	CHECK(info.flags & IOMMU_DEVICE_INFO_ENFORCE_SNOOP);
	CHECK(info.flags & IOMMU_DEVICE_INFO_ADDR_WIDTH && info.addr_width >= 39);
	CHECK(info.flags & IOMMU_DEVICE_INFO_PGSIZES && info.pgsize_bitmap & PAGE);
	CHECK(info.argsz > sizeof(info));
}

static void dma(int fd, int device, volatile uint8_t *bar)
{
	struct iommu_ioasid_alloc alloc = {.argsz = sizeof(alloc),
					   .flags = IOMMU_IOASID_ENFORCE_SNOOP,
					   .type = IOMMU_IOASID_TYPE_KERNEL_TYPE1V2,
					   .addr_width = 39};
	struct vfio_device_attach_ioasid attach = {.argsz = sizeof(attach), .iommu_fd = fd};
	char *memory = client_pages(1);

	attach.ioasid = call(fd, IOMMU_IOASID_ALLOC, &alloc);
	CHECK_EQ(attach.ioasid, 0);
	CHECK_EQ(map(fd, attach.ioasid, IOVA, memory, PAGE), -EINVAL);
	CHECK_EQ(call(device, VFIO_DEVICE_ATTACH_IOASID, &attach), 0);
	CHECK_EQ(call(device, VFIO_DEVICE_ATTACH_IOASID, &attach), -EBUSY);
	CHECK_EQ(map(fd, attach.ioasid, IOVA, memory, PAGE), 0);
	strcpy(memory, "by the interface of 2021");
	copy(bar, IOVA, 32);
	CHECK(!strcmp(memory + PAGE / 2, memory));
	CHECK_EQ(call(fd, IOMMU_IOASID_FREE, &attach.ioasid), -EBUSY);
	CHECK_EQ(unmap(fd, attach.ioasid, IOVA, PAGE), (int64_t)PAGE);
	memset(memory + PAGE / 2, 0, 32);
	copy(bar, IOVA, 32);
	CHECK_EQ(memory[PAGE / 2], 0);
	CHECK_EQ(call(device, VFIO_DEVICE_DETACH_IOASID, &attach), 0);
	CHECK_EQ(call(fd, IOMMU_IOASID_FREE, &attach.ioasid), 0);
}

/* Memory of a guest, from @start on: is there a place for it? */
static int guest(int fd, uint64_t start, uint64_t size)
{
	struct iommu_ioasid_alloc_constrained ask = {
		.alloc = {.argsz = sizeof(ask),
			  .flags = IOMMU_IOASID_ENFORCE_SNOOP | IOMMU_IOASID_RANGE,
			  .type = IOMMU_IOASID_TYPE_KERNEL_TYPE1V2},
		.start = start,
		.last = start + size - 1};

	return call(fd, IOMMU_IOASID_ALLOC, &ask);
}

int main(int argc, char **argv)
{
	const uint64_t last = argc > 1 ? strtoull(argv[1], NULL, 16) : 0;
	struct vfio_device_iommu_bind_data bind = {.argsz = sizeof(bind), .dev_cookie = 0xc00c1e};
	struct client c;
	char path[96];
	int fd = open("/dev/iommu", O_RDWR);

	REQUIRE(fd >= 0);
	client_find(&c, EDU, 0);
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", c.bdf);
	c.device = open(path, O_RDWR);
	REQUIRE(c.device >= 0);
	CHECK(access("/dev/vfio/devices/vfio0", F_OK) && errno == ENOENT);
	bind.iommu_fd = fd;
	CHECK_EQ(call(c.device, VFIO_DEVICE_RFC_BIND_IOMMUFD, &bind), 0);
	CHECK_EQ(call_value(fd, IOMMU_CHECK_EXTENSION, EXT_MAP_TYPE1V2), 1);
	client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	info(fd, bind.dev_cookie);
	dma(fd, c.device, client_bar(c.device));
	CHECK_EQ(guest(fd, 0, UINT64_C(8) << 30), -EADDRINUSE);
	CHECK_EQ(guest(fd, UINT64_C(1) << 32, UINT64_C(8) << 30), 0);
	/* Up to the last address that there is, and no further. */
	CHECK_EQ(guest(fd, last - PAGE + 1, PAGE), 1);
	CHECK_EQ(guest(fd, last - PAGE + 1, 2 * PAGE), last == UINT64_MAX ? -EINVAL : -EADDRINUSE);
	CHECK_EQ(close(c.device), 0);
	CHECK_EQ(close(fd), 0);
	return client_done();
}
