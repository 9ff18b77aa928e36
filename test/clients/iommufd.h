/* SPDX-License-Identifier: MIT */
/*
 * iommufd.h - requests of iommufd and of device nodes in one line each, for the test clients that
 * play programs which use them. Answers as of call(): >= 0, or -errno.
 */
#ifndef CLIENTS_IOMMUFD_H
#define CLIENTS_IOMMUFD_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <uiommu/linux/iommufd.h>

#include "client.h"

/* Open a function's node as programs find it: by its directory vfio-dev, with the device number
 * that is told there. */
static inline int node_open(const char *bdf)
{
	char path[512], name[64] = "";
	unsigned major = 0, minor = 0;
	struct stat st;
	struct dirent *e;
	FILE *file;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	dir = opendir(path);
	REQUIRE(dir != NULL);
	while ((e = readdir(dir)))
		if (!strncmp(e->d_name, "vfio", 4))
			snprintf(name, sizeof(name), "%.60s", e->d_name);
	closedir(dir);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev/%s/dev", bdf, name);
	file = fopen(path, "r");
	REQUIRE(file != NULL);
	CHECK_EQ(fscanf(file, "%u:%u", &major, &minor), 2);
	fclose(file);
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	REQUIRE(fd >= 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK(S_ISCHR(st.st_mode));
	CHECK_EQ(st.st_rdev, makedev(major, minor));
	return fd;
}

static inline int node_bind(int node, int iommufd, uint32_t *id)
{
	struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind), .iommufd = iommufd};
	int ret = call(node, VFIO_DEVICE_BIND_IOMMUFD, &bind);

	*id = bind.out_devid;
	return ret;
}

static inline int node_attach(int node, uint32_t id)
{
	struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach), .pt_id = id};

	return call(node, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

static inline int node_detach(int node)
{
	struct vfio_device_detach_iommufd_pt detach = {.argsz = sizeof(detach)};

	return call(node, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

static inline uint32_t ioas_alloc(int iommufd)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};

	CHECK_EQ(call(iommufd, IOMMU_IOAS_ALLOC, &alloc), 0);
	return alloc.out_ioas_id;
}

static inline int iommu_destroy_id(int iommufd, uint32_t id)
{
	struct iommu_destroy destroy = {.size = sizeof(destroy), .id = id};

	return call(iommufd, IOMMU_DESTROY, &destroy);
}

/* *@iova is in and out; @flags are the request's. */
static inline int ioas_map(int iommufd, uint32_t ioas, uint32_t flags, const volatile void *memory,
			   uint64_t length, uint64_t *iova)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = flags,
		.ioas_id = ioas,
		.user_va = (uintptr_t)memory,
		.length = length,
		.iova = *iova,
	};
	int ret = call(iommufd, IOMMU_IOAS_MAP, &map);

	*iova = map.iova;
	return ret;
}

/* Bytes removed, or -errno. */
static inline int64_t ioas_unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t length)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = ioas, .iova = iova, .length = length};
	int ret = call(iommufd, IOMMU_IOAS_UNMAP, &unmap);

	return ret ? ret : (int64_t)unmap.length;
}

static inline int hwpt_alloc(int iommufd, uint32_t device, uint32_t ioas, uint32_t flags,
			     uint32_t *id)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc), .flags = flags, .dev_id = device, .pt_id = ioas};
	int ret = call(iommufd, IOMMU_HWPT_ALLOC, &alloc);

	*id = alloc.out_hwpt_id;
	return ret;
}

/* The ranges, in memory to be freed, asked for as programs do: without room, then with. */
static inline struct iommu_iova_range *ioas_ranges(int iommufd, uint32_t ioas, uint32_t *count,
						   uint64_t *alignment)
{
	struct iommu_ioas_iova_ranges ask = {.size = sizeof(ask), .ioas_id = ioas};
	struct iommu_iova_range *ranges;

	CHECK_EQ(call(iommufd, IOMMU_IOAS_IOVA_RANGES, &ask), -EMSGSIZE);
	REQUIRE(ask.num_iovas > 0 && ask.num_iovas < 64);
	ranges = calloc(ask.num_iovas, sizeof(*ranges));
	REQUIRE(ranges != NULL);
	ask.allowed_iovas = (uintptr_t)ranges;
	CHECK_EQ(call(iommufd, IOMMU_IOAS_IOVA_RANGES, &ask), 0);
	*count = ask.num_iovas;
	*alignment = ask.out_iova_alignment;
	return ranges;
}

#endif
