/* SPDX-License-Identifier: MIT */
/*
 * container.c - containers and groups: what they are in which state, and what GET_INFO says. Asked
 * of /dev/vfio/vfio, and of /dev/iommu, which takes a container's requests too.
 */
#include "ask.h"

#define EXTENSIONS 20
#define TYPES	   12
#define INFO_SIZE  512

int container_open(struct container *container, const struct machine *machine, const char *path,
		   unsigned type)
{
	int result;

	container->group = -1;
	container->fd = open_path(path);
	if (container->fd < 0)
		return container->fd;
	if (machine->device.group_node[0])
		container->group = open_path(machine->device.group_node);
	result = container->group < 0 ? -ENODEV : 0;
	if (!result)
		result = ask(container->group, VFIO_GROUP_SET_CONTAINER, &container->fd);
	if (!result)
		result = ask(container->fd, VFIO_SET_IOMMU, (void *)(uintptr_t)type);
	if (result)
		container_close(container);
	return result;
}

void container_close(struct container *container)
{
	if (container->group >= 0)
		close(container->group);
	if (container->fd >= 0)
		close(container->fd);
	container->group = container->fd = -1;
}

static int number(int fd, unsigned long request, unsigned long value)
{
	return ask(fd, request, (void *)value);
}

static void ask_extensions(int fd, const char *when)
{
	unsigned extension;

	for (extension = 0; extension <= EXTENSIONS; extension++)
		answer(number(fd, VFIO_CHECK_EXTENSION, extension), "extension.%s.%u", when,
		       extension);
	answer(number(fd, VFIO_CHECK_EXTENSION, 0x7fffffff), "extension.%s.largest", when);
}

/* ---- GET_INFO ------------------------------------------------------------------------------ */

static void say_ranges(const char *question, const uint8_t *capability)
{
	const struct vfio_iommu_type1_info_cap_iova_range *ranges = (const void *)capability;
	unsigned i;

	for (i = 0; i < ranges->nr_iovas; i++)
		say(question, "0x%llx-0x%llx", (unsigned long long)ranges->iova_ranges[i].start,
		    (unsigned long long)ranges->iova_ranges[i].end);
}

static void say_capability(uint32_t at, const struct vfio_info_cap_header *header)
{
	const struct vfio_iommu_type1_info_cap_migration *migration = (const void *)header;
	const struct vfio_iommu_type1_info_dma_avail *available = (const void *)header;
	char question[64];

	snprintf(question, sizeof(question), "info.capability.%u", header->id);
	say(question, "at %u version %u next %u", at, header->version, header->next);
	switch (header->id) {
	case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
		say_ranges("info.iova", (const void *)header);
		break;
	case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION:
		say("info.migration", "flags 0x%x page sizes 0x%llx largest bitmap 0x%llx",
		    migration->flags, (unsigned long long)migration->pgsize_bitmap,
		    (unsigned long long)migration->max_dirty_bitmap_size);
		break;
	case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
		say("info.available", "0x%x", available->avail);
		break;
	}
}

static void ask_info(int fd)
{
	static uint64_t buffer[INFO_SIZE / sizeof(uint64_t)];
	struct vfio_iommu_type1_info *info = (void *)buffer;
	struct sweep sweep = {.question = "info.argsz"};
	uint32_t size, at;
	int result;

	for (size = 0; size <= 160; size++) {
		memset(buffer, 0, sizeof(buffer));
		info->argsz = size;
		result = ask(fd, VFIO_IOMMU_GET_INFO, info);
		if (result)
			sweep_add(&sweep, size, "%s", result_name(result));
		else
			sweep_add(&sweep, size, "0 argsz %s flags 0x%x at %u",
				  info->argsz == size ? "unchanged" : "of what is needed",
				  info->flags, size < 20 ? 0 : ((uint32_t *)buffer)[4]);
	}
	sweep_end(&sweep);
	memset(buffer, 0, sizeof(buffer));
	info->argsz = sizeof(*info);
	result = ask(fd, VFIO_IOMMU_GET_INFO, info);
	say("info.needed", "%u", info->argsz);
	info->argsz = sizeof(buffer);
	result = ask(fd, VFIO_IOMMU_GET_INFO, info);
	answer(result, "info");
	answer(ask(fd, VFIO_IOMMU_GET_INFO, NULL), "info.null");
	if (result)
		return;
	say("info.page-sizes", "0x%llx", (unsigned long long)info->iova_pgsizes);
	for (at = info->cap_offset; at && at < sizeof(buffer);
	     at = ((struct vfio_info_cap_header *)((uint8_t *)buffer + at))->next)
		say_capability(at, (void *)((uint8_t *)buffer + at));
}

/* ---- requests and states ------------------------------------------------------------------- */

/* Every number of VFIO's on the container, without an argument. */
static void ask_numbers(int fd, const char *when)
{
	char question[64];
	struct sweep sweep = {.question = question, .hex = true};
	unsigned nr;

	snprintf(question, sizeof(question), "number.%s", when);
	for (nr = 0x60; nr < 0x80; nr++)
		if (nr != (VFIO_SET_IOMMU & 0xff))
			sweep_add(&sweep, nr, "%s", result_name(ask(fd, _IO(VFIO_TYPE, nr), NULL)));
	sweep_end(&sweep);
	answer(ask(fd, _IO('<', 100), NULL), "number.%s.other-type", when);
	answer(ask(fd, _IOR(VFIO_TYPE, 100, int), NULL), "number.%s.with-size", when);
	answer(ask(fd, _IO(VFIO_TYPE, 113), (void *)8), "number.%s.map-fault", when);
	answer(ask(fd, _IO(VFIO_TYPE, 114), (void *)8), "number.%s.unmap-fault", when);
}

static void ask_empty(const char *path)
{
	uint64_t size = PAGE;
	unsigned type;
	char byte;
	int fd = open_path(path);

	answer(fd < 0 ? fd : 0, "open");
	if (fd < 0)
		return;
	ask_extensions(fd, "empty");
	ask_numbers(fd, "empty");
	for (type = 0; type < TYPES; type++)
		answer(number(fd, VFIO_SET_IOMMU, type), "empty.set-iommu.%u", type);
	answer(dma_map(fd, BASE, source_at(MEMORY), PAGE, RW), "empty.map");
	answer(dma_unmap(fd, BASE, &size, 0), "empty.unmap");
	answer(read(fd, &byte, 1) < 0 ? -errno : 0, "empty.read");
	answer(write(fd, "x", 1) < 0 ? -errno : 0, "empty.write");
	answer(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -errno : 0,
	       "empty.mmap");
	close(fd);
}

static int group_status(int group)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	int result = ask(group, VFIO_GROUP_GET_STATUS, &status);

	return result ? result : (int)status.flags;
}

/* SET_IOMMU with a group, for each type: a container keeps its first. */
static void ask_types(const struct machine *machine, const char *path)
{
	struct container container;
	unsigned type;
	int result;

	for (type = 0; type < TYPES; type++) {
		result = container_open(&container, machine, path, type);
		answer(result, "type.%u", type);
		if (result)
			continue;
		answer(number(container.fd, VFIO_SET_IOMMU, type), "type.%u.again", type);
		answer(number(container.fd, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), "type.%u.then.1",
		       type);
		answer(number(container.fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "type.%u.then.3",
		       type);
		answer(number(container.fd, VFIO_SET_IOMMU, 77), "type.%u.then.77", type);
		container_close(&container);
	}
}

static void ask_device_fd(const struct container *container, const struct machine *machine)
{
	int device, second, none = -1;

	answer(ask(container->group, VFIO_GROUP_GET_DEVICE_FD, "0000:ff:1f.7"), "device.unknown");
	answer(ask(container->group, VFIO_GROUP_GET_DEVICE_FD, ""), "device.no-name");
	answer(ask(container->group, VFIO_GROUP_GET_DEVICE_FD, NULL), "device.null");
	if (machine->other.address[0]) {
		second = ask(container->group, VFIO_GROUP_GET_DEVICE_FD,
			     (void *)machine->other.address);
		answer(second < 0 ? second : 0, "device.other");
		if (second >= 0)
			close(second);
	}
	device = ask(container->group, VFIO_GROUP_GET_DEVICE_FD, (void *)machine->device.address);
	answer(device < 0 ? device : 0, "device");
	if (device < 0)
		return;
	second = ask(container->group, VFIO_GROUP_GET_DEVICE_FD, (void *)machine->device.address);
	answer(second < 0 ? second : 0, "device.twice");
	if (second >= 0)
		close(second);
	answer(group_status(container->group), "device.status");
	answer(number(container->fd, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU),
	       "device.extension.4");
	answer(ask(container->group, VFIO_GROUP_UNSET_CONTAINER, NULL), "device.unset-container");
	answer(group_status(container->group), "device.unset-container.status");
	answer(ask(container->group, VFIO_GROUP_SET_CONTAINER, &none), "device.set-container.none");
	close(device);
}

static void ask_with_group(const struct machine *machine, const char *path, unsigned type)
{
	struct container container;
	uint64_t size = 4 * PAGE;
	int result = container_open(&container, machine, path, type);

	answer(result, "with-group");
	if (result)
		return;
	ask_extensions(container.fd, "with-group");
	ask_numbers(container.fd, "with-group");
	ask_info(container.fd);
	answer(group_status(container.group), "status");
	ask_device_fd(&container, machine);
	result = ask(container.group, VFIO_GROUP_SET_CONTAINER, &container.fd);
	answer(result, "set-container.after");
	answer(dma_map(container.fd, BASE, source_at(MEMORY), size, RW), "map.after");
	result = ask(container.group, VFIO_GROUP_UNSET_CONTAINER, NULL);
	answer(result, "unset-container");
	answer(ask(container.group, VFIO_GROUP_UNSET_CONTAINER, NULL), "unset-container.again");
	answer(group_status(container.group), "unset-container.status");
	answer(dma_unmap(container.fd, BASE, &size, 0), "unset-container.unmap");
	answer(dma_map(container.fd, BASE, source_at(MEMORY), size, RW), "unset-container.map");
	answer(ask(container.group, VFIO_GROUP_SET_CONTAINER, &container.fd),
	       "set-container.again");
	answer(dma_map(container.fd, BASE, source_at(MEMORY), size, RW), "set-container.again.map");
	answer(number(container.fd, VFIO_SET_IOMMU, type), "set-iommu.again");
	answer(dma_map(container.fd, BASE, source_at(MEMORY), size, RW), "set-iommu.again.map");
	close(container.group);
	container.group = -1;
	answer(dma_map(container.fd, BASE + size, source_at(MEMORY), size, RW), "group-closed.map");
	container_close(&container);
}

void ask_container(const struct machine *machine, const char *name, const char *path)
{
	section("%s", name);
	ask_empty(path);
	ask_types(machine, path);
	section("%s.v1", name);
	ask_with_group(machine, path, VFIO_TYPE1_IOMMU);
	section("%s.v2", name);
	ask_with_group(machine, path, VFIO_TYPE1v2_IOMMU);
}

/* ---- the group ----------------------------------------------------------------------------- */

static void ask_status_sizes(int group)
{
	struct sweep sweep = {.question = "status.argsz"};
	struct vfio_group_status status;
	uint32_t size;
	int result;

	for (size = 0; size <= 32; size++) {
		memset(&status, 0, sizeof(status));
		status.argsz = size;
		result = ask(group, VFIO_GROUP_GET_STATUS, &status);
		sweep_add(&sweep, size, "%s flags 0x%x argsz %s", result_name(result), status.flags,
			  status.argsz == size ? "unchanged" : "changed");
	}
	sweep_end(&sweep);
	answer(ask(group, VFIO_GROUP_GET_STATUS, NULL), "status.null");
}

static void ask_group_numbers(int group)
{
	struct sweep sweep = {.question = "number", .hex = true};
	unsigned nr;

	for (nr = 0x60; nr < 0x80; nr++)
		sweep_add(&sweep, nr, "%s", result_name(ask(group, _IO(VFIO_TYPE, nr), NULL)));
	sweep_end(&sweep);
}

static void ask_group_containers(int group, const struct machine *machine)
{
	int container = open_path("/dev/vfio/vfio"), second = open_path("/dev/vfio/vfio");
	int none = -1, memfd = source_memfd(), far = 0x7fffffff;

	answer(ask(group, VFIO_GROUP_GET_DEVICE_FD, (void *)machine->device.address),
	       "no-container.device");
	answer(ask(group, VFIO_GROUP_UNSET_CONTAINER, NULL), "no-container.unset");
	answer(ask(group, VFIO_GROUP_SET_CONTAINER, NULL), "set-container.null");
	answer(ask(group, VFIO_GROUP_SET_CONTAINER, &none), "set-container.none");
	answer(ask(group, VFIO_GROUP_SET_CONTAINER, &far), "set-container.not-open");
	answer(ask(group, VFIO_GROUP_SET_CONTAINER, &memfd), "set-container.a-file");
	answer(ask(group, VFIO_GROUP_SET_CONTAINER, &group), "set-container.a-group");
	answer(ask(group, VFIO_GROUP_SET_CONTAINER, &container), "set-container");
	answer(group_status(group), "set-container.status");
	answer(ask(group, VFIO_GROUP_SET_CONTAINER, &container), "set-container.same");
	answer(ask(group, VFIO_GROUP_SET_CONTAINER, &second), "set-container.second");
	answer(ask(group, VFIO_GROUP_GET_DEVICE_FD, (void *)machine->device.address),
	       "no-iommu.device");
	answer(dma_map(container, BASE, source_at(MEMORY), PAGE, RW), "no-iommu.map");
	answer(ask(group, VFIO_GROUP_UNSET_CONTAINER, NULL), "unset-container");
	answer(group_status(group), "unset-container.status");
	answer(ask(group, VFIO_GROUP_SET_CONTAINER, &second), "set-container.other");
	close(container);
	close(second);
	answer(group_status(group), "container-closed.status");
	answer(ask(group, VFIO_GROUP_UNSET_CONTAINER, NULL), "container-closed.unset");
}

void ask_group(const struct machine *machine)
{
	int group, second;
	char byte;

	section("group");
	group = machine->device.group_node[0] ? open_path(machine->device.group_node) : -ENOENT;
	answer(group < 0 ? group : 0, "open");
	if (group < 0)
		return;
	second = open_path(machine->device.group_node);
	answer(second < 0 ? second : 0, "open.twice");
	answer(group_status(group), "status");
	ask_status_sizes(group);
	ask_group_numbers(group);
	answer(read(group, &byte, 1) < 0 ? -errno : 0, "read");
	ask_group_containers(group, machine);
	close(group);
	group = open_path(machine->device.group_node);
	answer(group < 0 ? group : 0, "open.again");
	if (group >= 0)
		close(group);
}
