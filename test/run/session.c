/* SPDX-License-Identifier: MIT */
/*
 * Setting up a device the way every VFIO program does it.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "program.h"

#define CONFIG ((off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40)

unsigned group_of(const char *name)
{
	char path[128], target[128];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", name);
	n = readlink(path, target, sizeof(target) - 1);
	CHECK(n > 0);
	target[n] = '\0';
	return (unsigned)atoi(strrchr(target, '/') + 1);
}

int open_group(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/vfio/%u", group_of(name));
	return open(path, O_RDWR);
}

struct session open_session(const char *name)
{
	struct session s;
	uint16_t command = 6;

	s.container = open("/dev/vfio/vfio", O_RDWR);
	CHECK(s.container >= 0);
	CHECK(ioctl(s.container, VFIO_GET_API_VERSION) == VFIO_API_VERSION);
	s.group = open_group(name);
	CHECK(s.group >= 0);
	CHECK(!ioctl(s.group, VFIO_GROUP_SET_CONTAINER, &s.container));
	CHECK(!ioctl(s.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	s.device = ioctl(s.group, VFIO_GROUP_GET_DEVICE_FD, name);
	CHECK(s.device >= 0);
	CHECK(pwrite(s.device, &command, 2, CONFIG + 4) == 2);
	return s;
}

void close_session(struct session *s)
{
	CHECK(!close(s->device));
	CHECK(!close(s->group));
	CHECK(!close(s->container));
}

volatile void *map_bar(int device, size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);

	CHECK(at != MAP_FAILED);
	return at;
}

int map_dma(int container, void *at, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)at,
		.iova = iova,
		.size = size,
	};

	return ioctl(container, VFIO_IOMMU_MAP_DMA, &map);
}
