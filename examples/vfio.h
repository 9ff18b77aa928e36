/* SPDX-License-Identifier: MIT */
/*
 * vfio.h - what every VFIO program does before it can talk to its device, for the examples beside
 * it: find a function, open container, group and device, choose an IOVA, map BAR 0, take an
 * interrupt. Plain <linux/vfio.h>: nothing here knows of uiommu. A step that fails ends the program
 * and says what to do about it.
 */
#ifndef EXAMPLES_VFIO_H
#define EXAMPLES_VFIO_H

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul

/* One line of a file in a function's sysfs directory, as a number. */
static inline unsigned long sysfs_number(const char *bdf, const char *name)
{
	char path[512], text[32];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, name);
	f = fopen(path, "r");
	if (!f || !fgets(text, sizeof(text), f))
		err(1, "%s", path);
	fclose(f);
	return strtoul(text, NULL, 16);
}

/* The last component of a link there: its driver, its group. Empty if there is none. */
static inline void sysfs_link(const char *bdf, const char *name, char out[64])
{
	char path[512], target[512];
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, name);
	n = readlink(path, target, sizeof(target) - 1);
	target[n < 0 ? 0 : n] = 0;
	slash = strrchr(target, '/');
	snprintf(out, 64, "%.63s", slash ? slash + 1 : target);
}

/* The first function with this vendor and device ID. */
static inline void vfio_find(unsigned vendor, unsigned id, char bdf[64])
{
	DIR *dir = opendir("/sys/bus/pci/devices");
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || sysfs_number(e->d_name, "vendor") != vendor ||
		    sysfs_number(e->d_name, "device") != id)
			continue;
		snprintf(bdf, 64, "%.63s", e->d_name);
		closedir(dir);
		return;
	}
	errx(1, "no PCI function %04x:%04x here; 'uiommu run -- PROGRAM' gives it one", vendor, id);
}

/* Open the container and the device, with the IOMMU set. */
static inline void vfio_open(const char *bdf, int *container, int *device)
{
	char driver[64], group[64], path[128];
	int fd;

	sysfs_link(bdf, "driver", driver);
	if (strcmp(driver, "vfio-pci") != 0)
		errx(1,
		     "%s is not bound to vfio-pci: write vfio-pci to its driver_override, and %s "
		     "to /sys/bus/pci/drivers_probe",
		     bdf, bdf);
	sysfs_link(bdf, "iommu_group", group);
	snprintf(path, sizeof(path), "/dev/vfio/%s", group);
	*container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (*container < 0 || ioctl(*container, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
		err(1, "/dev/vfio/vfio: is the module vfio loaded?");
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s: used by another program, or not yours to open", path);
	if (ioctl(fd, VFIO_GROUP_SET_CONTAINER, container))
		err(1, "group %s: is every device in it bound to vfio-pci?", group);
	if (ioctl(*container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		err(1, "VFIO_SET_IOMMU: does this machine have a type1 IOMMU?");
	*device = ioctl(fd, VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (*device < 0)
		err(1, "VFIO_GROUP_GET_DEVICE_FD %s", bdf);
}

/* Map memory at an IOVA that the machine allows and that is at most @limit. Returns it. */
static inline uint64_t vfio_map(int container, void *memory, uint64_t size, uint64_t limit)
{
	union {
		struct vfio_iommu_type1_info info;
		char bytes[4096];
	} u = {.info.argsz = sizeof(u)};
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map), .size = size};
	struct vfio_iommu_type1_info_cap_iova_range *cap;

	if (ioctl(container, VFIO_IOMMU_GET_INFO, &u))
		err(1, "VFIO_IOMMU_GET_INFO");
	map.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	map.vaddr = (uintptr_t)memory;
	for (uint32_t at = u.info.cap_offset; at; at = cap->header.next) {
		cap = (void *)(u.bytes + at);
		if (cap->header.id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
			continue;
		for (uint32_t i = 0; i < cap->nr_iovas; i++) {
			uint64_t last = cap->iova_ranges[i].end;

			last = last < limit ? last : limit;
			map.iova = (cap->iova_ranges[i].start + PAGE - 1) & -PAGE;
			if (map.iova > last || last - map.iova < size - 1)
				continue;
			if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
				err(1, "VFIO_IOMMU_MAP_DMA (is 'ulimit -l' too small?)");
			return map.iova;
		}
	}
	errx(1, "no IOVA up to %#llx is usable, and the device reaches no further",
	     (unsigned long long)limit);
}

/* Memory decoding and bus mastering on (without the latter no DMA and no MSI); BAR 0 mapped. */
static inline volatile uint8_t *vfio_enable(int device)
{
	struct vfio_region_info info = {.argsz = sizeof(info)};
	uint16_t command;
	void *bar;

	info.index = VFIO_PCI_CONFIG_REGION_INDEX;
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) ||
	    pread(device, &command, 2, info.offset + 4) != 2)
		err(1, "reading the PCI command register");
	command |= 2 | 4;
	if (pwrite(device, &command, 2, info.offset + 4) != 2)
		err(1, "writing the PCI command register");
	info.argsz = sizeof(info);
	info.index = VFIO_PCI_BAR0_REGION_INDEX;
	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info))
		err(1, "VFIO_DEVICE_GET_REGION_INFO");
	bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, info.offset);
	if (bar == MAP_FAILED)
		err(1, "mmap of BAR 0");
	return bar;
}

/* An eventfd that vector 0 of interrupt @index (VFIO_PCI_MSI_IRQ_INDEX, …) counts up. */
static inline int vfio_irq(int device, unsigned index)
{
	char bytes[sizeof(struct vfio_irq_set) + sizeof(int)] = {0};
	struct vfio_irq_set *set = (void *)bytes;
	int fd = eventfd(0, EFD_CLOEXEC);

	set->argsz = sizeof(bytes);
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	set->index = index;
	set->count = 1;
	memcpy(set->data, &fd, sizeof(fd));
	if (fd < 0 || ioctl(device, VFIO_DEVICE_SET_IRQS, set))
		err(1, "VFIO_DEVICE_SET_IRQS");
	return fd;
}

static inline void vfio_irq_wait(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t count;

	if (poll(&p, 1, 10000) != 1 || read(fd, &count, sizeof(count)) != sizeof(count))
		errx(1, "no interrupt within 10 s: did the device report an error?");
}

#endif
