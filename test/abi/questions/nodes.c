/* SPDX-License-Identifier: MIT */
/*
 * nodes.c - device nodes: BIND, ATTACH and DETACH, in every state and with every wrong argument; a
 * device that is opened through its group and its node at once; two devices.
 */
#include "ask.h"

#define M	(source_at(MEMORY))
#define ALL	(IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)
#define UNKNOWN 0x7fffffff

static int bind_to(int device, int iommufd, uint32_t flags, uint32_t *id)
{
	struct vfio_device_bind_iommufd request = {
		.argsz = sizeof(request), .flags = flags, .iommufd = iommufd};
	int result = ask(device, VFIO_DEVICE_BIND_IOMMUFD, &request);

	if (id)
		*id = request.out_devid;
	return result;
}

static int attach(int device, uint32_t pt, uint32_t flags, uint32_t pasid)
{
	struct vfio_device_attach_iommufd_pt request = {
		.argsz = sizeof(request), .flags = flags, .pt_id = pt, .pasid = pasid};

	return ask(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &request);
}

static int detach(int device, uint32_t flags, uint32_t pasid)
{
	struct vfio_device_detach_iommufd_pt request = {
		.argsz = sizeof(request), .flags = flags, .pasid = pasid};

	return ask(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &request);
}

/* Every request of VFIO's on a node that isn't bound, or is. */
static void ask_numbers(int device, const char *when)
{
	char question[64];
	struct sweep sweep = {.question = question, .hex = true};
	unsigned nr;

	snprintf(question, sizeof(question), "number.%s", when);
	for (nr = 0x60; nr < 0x90; nr++)
		if (nr != (VFIO_DEVICE_RESET & 0xff))
			sweep_add(&sweep, nr, "%s",
				  result_name(ask(device, _IO(VFIO_TYPE, nr), NULL)));
	sweep_end(&sweep);
}

static void ask_bind_form(int device, int iommufd)
{
	struct {
		struct vfio_device_bind_iommufd head;
		uint8_t tail[40];
	} request;
	struct sweep sweep = {.question = "bind.argsz"}, tail = {.question = "bind.tail"};
	uint32_t size;
	unsigned bit;
	char byte;

	ask_numbers(device, "not-bound");
	answer(read(device, &byte, 1) < 0 ? -errno : 0, "not-bound.read");
	answer(pread(device, &byte, 1, (off_t)7 << 40) < 0 ? -errno : 0, "not-bound.read-config");
	answer(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, device, 0) == MAP_FAILED ? -errno : 0,
	       "not-bound.mmap");
	for (size = 0; size <= 40; size++) {
		memset(&request, 0, sizeof(request));
		request.head.argsz = size;
		request.head.iommufd = -1;
		sweep_add(&sweep, size, "%s",
			  result_name(ask(device, VFIO_DEVICE_BIND_IOMMUFD, &request)));
	}
	sweep_end(&sweep);
	for (size = 0; size <= 40; size++) {
		memset(&request, 0xff, sizeof(request));
		request.head = (struct vfio_device_bind_iommufd){.argsz = size, .iommufd = -1};
		sweep_add(&tail, size, "%s",
			  result_name(ask(device, VFIO_DEVICE_BIND_IOMMUFD, &request)));
	}
	sweep_end(&tail);
	for (bit = 1; bit < 32; bit++)
		answer(bind_to(device, iommufd, 1u << bit, NULL), "bind.flag.%u", bit);
	answer(bind_to(device, -1, 0, NULL), "bind.none");
	answer(bind_to(device, UNKNOWN, 0, NULL), "bind.not-open");
	answer(bind_to(device, source_memfd(), 0, NULL), "bind.a-file");
	answer(bind_to(device, device, 0, NULL), "bind.itself");
	answer(bind_to(device, iommufd, VFIO_DEVICE_BIND_FLAG_TOKEN, NULL), "bind.token-null");
	answer(bind_to(device, -1, VFIO_DEVICE_BIND_FLAG_TOKEN, NULL), "bind.token-null.none");
	answer(bind_to(device, device, VFIO_DEVICE_BIND_FLAG_TOKEN, NULL),
	       "bind.token-null.itself");
	memset(&request, 0, sizeof(request));
	request.head.argsz = sizeof(request.head);
	request.head.flags = VFIO_DEVICE_BIND_FLAG_TOKEN;
	request.head.iommufd = iommufd;
	request.head.token_uuid_ptr = (uintptr_t)request.tail;
	answer(ask(device, VFIO_DEVICE_BIND_IOMMUFD, &request), "bind.token");
	request.head.argsz = 16;
	answer(ask(device, VFIO_DEVICE_BIND_IOMMUFD, &request), "bind.token.short");
}

static void ask_attach_form(int device, uint32_t ioas, uint32_t id)
{
	struct {
		struct vfio_device_attach_iommufd_pt head;
		uint8_t tail[32];
	} request;
	struct {
		struct vfio_device_detach_iommufd_pt head;
		uint8_t tail[32];
	} leave;
	struct sweep in = {.question = "attach.argsz"}, out = {.question = "detach.argsz"};
	uint32_t size;
	unsigned bit;

	for (size = 0; size <= 32; size++) {
		memset(&request, 0, sizeof(request));
		request.head.argsz = size;
		request.head.pt_id = UNKNOWN;
		sweep_add(&in, size, "%s",
			  result_name(ask(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &request)));
	}
	sweep_end(&in);
	for (size = 0; size <= 32; size++) {
		memset(&leave, 0, sizeof(leave));
		leave.head.argsz = size;
		sweep_add(&out, size, "%s",
			  result_name(ask(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &leave)));
	}
	sweep_end(&out);
	for (bit = 1; bit < 32; bit++)
		answer(attach(device, ioas, 1u << bit, 0), "attach.flag.%u", bit);
	for (bit = 1; bit < 32; bit++)
		answer(detach(device, 1u << bit, 0), "detach.flag.%u", bit);
	answer(attach(device, 0, 0, 0), "attach.0");
	answer(attach(device, UNKNOWN, 0, 0), "attach.unknown");
	answer(attach(device, id, 0, 0), "attach.a-device");
	answer(ask(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, NULL), "attach.null");
	answer(ask(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, NULL), "detach.null");
}

static void ask_pasids(int device, uint32_t ioas)
{
	answer(attach(device, ioas, VFIO_DEVICE_ATTACH_PASID, 0), "pasid.0.attach");
	answer(attach(device, ioas, VFIO_DEVICE_ATTACH_PASID, 1), "pasid.1.attach");
	answer(attach(device, ioas, VFIO_DEVICE_ATTACH_PASID, 0xfffff), "pasid.largest.attach");
	answer(attach(device, ioas, VFIO_DEVICE_ATTACH_PASID, 0x100000), "pasid.too-large.attach");
	answer(attach(device, ioas, VFIO_DEVICE_ATTACH_PASID, UINT32_MAX), "pasid.none.attach");
	answer(attach(device, UNKNOWN, VFIO_DEVICE_ATTACH_PASID, 1), "pasid.1.attach-unknown");
	answer(attach(device, ioas, 0, 5), "pasid.not-flagged.attach");
	answer(detach(device, VFIO_DEVICE_DETACH_PASID, 0), "pasid.0.detach");
	answer(detach(device, VFIO_DEVICE_DETACH_PASID, 1), "pasid.1.detach");
	answer(detach(device, VFIO_DEVICE_DETACH_PASID, UINT32_MAX), "pasid.none.detach");
	answer(detach(device, 0, 5), "pasid.not-flagged.detach");
}

/* Attach, replace, detach; what is in use can't be destroyed. */
static void ask_attach(const struct binding *binding)
{
	struct vfio_device_attach_iommufd_pt request = {.argsz = sizeof(request),
							.pt_id = binding->ioas};
	uint32_t other, hwpt;

	ioas_alloc(binding->iommufd, &other);
	answer(detach(binding->device, 0, 0), "detach.not-attached");
	answer(ask(binding->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &request), "attach");
	hwpt = request.pt_id;
	say("attach.pt-id", "%s", hwpt == binding->ioas ? "the IOAS" : "a page table");
	answer(object_destroy(binding->iommufd, binding->ioas), "attached.destroy-ioas");
	answer(object_destroy(binding->iommufd, hwpt), "attached.destroy-hwpt");
	answer(object_destroy(binding->iommufd, binding->device_id), "attached.destroy-device");
	request.pt_id = binding->ioas;
	answer(ask(binding->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &request), "attach.same");
	say("attach.same.pt-id", "%s", request.pt_id == hwpt ? "the same" : "another");
	answer(attach(binding->device, hwpt, 0, 0), "attach.its-hwpt");
	answer(attach(binding->device, UNKNOWN, 0, 0), "attach.replace-unknown");
	request.pt_id = other;
	answer(ask(binding->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &request), "attach.replace");
	answer(object_destroy(binding->iommufd, hwpt), "replaced.destroy-hwpt");
	answer(attach(binding->device, hwpt, 0, 0), "replaced.attach-hwpt");
	answer(object_destroy(binding->iommufd, other), "replaced.destroy-new");
	answer(detach(binding->device, 0, 0), "detach");
	answer(detach(binding->device, 0, 0), "detach.twice");
	answer(object_destroy(binding->iommufd, other), "detached.destroy");
	answer(object_destroy(binding->iommufd, binding->device_id), "detached.destroy-device");
}

/* ATTACH with something in the way. */
static void ask_conflicts(const struct binding *binding, const struct target *target)
{
	struct iommu_iova_range whole = {0, UINT64_MAX};
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow), .num_iovas = 1, .allowed_iovas = (uintptr_t)&whole};
	uint64_t iova, length = UINT64_MAX;
	uint32_t ioas;

	ioas_alloc(binding->iommufd, &ioas);
	allow.ioas_id = ioas;
	answer(ask(binding->iommufd, IOMMU_IOAS_ALLOW_IOVAS, &allow), "conflict.allow");
	answer(attach(binding->device, ioas, 0, 0), "conflict.allowed.attach");
	allow.num_iovas = 0;
	ask(binding->iommufd, IOMMU_IOAS_ALLOW_IOVAS, &allow);
	if (target->reserved_count) {
		iova = target->reserved[0].first;
		ioas_map(binding->iommufd, ioas, ALL, M, PAGE, &iova);
		answer(attach(binding->device, ioas, 0, 0), "conflict.reserved.attach");
		ioas_unmap(binding->iommufd, ioas, 0, &length);
	}
	iova = UINT64_C(1) << 62;
	ioas_map(binding->iommufd, ioas, ALL, M, PAGE, &iova);
	answer(attach(binding->device, ioas, 0, 0), "conflict.width.attach");
	detach(binding->device, 0, 0);
	length = UINT64_MAX;
	ioas_unmap(binding->iommufd, ioas, 0, &length);
	iova = BASE + 0x10;
	ioas_map(binding->iommufd, ioas, ALL, M + 0x10, 0x10, &iova);
	answer(attach(binding->device, ioas, 0, 0), "conflict.alignment.attach");
	length = UINT64_MAX;
	ioas_unmap(binding->iommufd, ioas, 0, &length);
	iova = BASE;
	answer(ioas_map(binding->iommufd, ioas, ALL, source_at(NOT_THERE), PAGE, &iova),
	       "conflict.memory.map");
	answer(attach(binding->device, ioas, 0, 0), "conflict.memory.attach");
	length = UINT64_MAX;
	ioas_unmap(binding->iommufd, ioas, 0, &length);
	answer(attach(binding->device, ioas, 0, 0), "conflict.none.attach");
	answer(detach(binding->device, 0, 0), "conflict.none.detach");
}

/* A device has one user: its group's or its node's. */
static void ask_both_ways(const struct machine *machine)
{
	struct container container;
	int node, second, group, device, iommufd = open_path("/dev/iommu");
	int result = container_open(&container, machine, "/dev/vfio/vfio", VFIO_TYPE1v2_IOMMU);

	answer(result, "both.group");
	node = open_path(machine->device.node);
	answer(node < 0 ? node : 0, "both.group.node");
	answer(bind_to(node, iommufd, 0, NULL), "both.group.node.bind");
	device = ask(container.group, VFIO_GROUP_GET_DEVICE_FD, (void *)machine->device.address);
	answer(device < 0 ? device : 0, "both.group.device");
	answer(bind_to(device, iommufd, 0, NULL), "both.group.device.bind");
	answer(attach(device, 1, 0, 0), "both.group.device.attach");
	close(device);
	container_close(&container);
	answer(bind_to(node, iommufd, 0, NULL), "both.group-closed.node.bind");
	group = open_path(machine->device.group_node);
	answer(group < 0 ? group : 0, "both.bound.group");
	if (group >= 0) {
		struct vfio_group_status status = {.argsz = sizeof(status)};
		int fd = open_path("/dev/vfio/vfio");

		ask(group, VFIO_GROUP_GET_STATUS, &status);
		say("both.bound.group.status", "0x%x", status.flags);
		answer(ask(group, VFIO_GROUP_SET_CONTAINER, &fd), "both.bound.group.set-container");
		close(fd);
		close(group);
	}
	second = open_path(machine->device.node);
	answer(second < 0 ? second : 0, "both.bound.second");
	answer(bind_to(second, iommufd, 0, NULL), "both.bound.second.bind");
	close(second);
	close(node);
	group = open_path(machine->device.group_node);
	answer(group < 0 ? group : 0, "both.node-closed.group");
	close(group);
	close(iommufd);
}

/* One iommufd as the container of the group, and the device's node. */
static void ask_compat_group(const struct machine *machine)
{
	struct container container;
	int device, result;

	result = container_open(&container, machine, "/dev/iommu", VFIO_TYPE1v2_IOMMU);
	answer(result, "compat.group");
	if (result)
		return;
	device = ask(container.group, VFIO_GROUP_GET_DEVICE_FD, (void *)machine->device.address);
	answer(device < 0 ? device : 0, "compat.device");
	answer(bind_to(device, container.fd, 0, NULL), "compat.device.bind");
	answer(attach(device, 1, 0, 0), "compat.device.attach");
	answer(detach(device, 0, 0), "compat.device.detach");
	close(device);
	container_close(&container);
}

/* A second device in the same iommufd. */
static void ask_two(const struct machine *machine, const struct binding *binding)
{
	int other = machine->other.node[0] ? open_path(machine->other.node) : -ENOENT;
	int elsewhere;
	uint32_t id;

	if (other < 0)
		return;
	elsewhere = open_path("/dev/iommu");
	answer(bind_to(other, elsewhere, 0, NULL), "two.bind-elsewhere");
	close(other);
	close(elsewhere);
	other = open_path(machine->other.node);
	answer(bind_to(other, binding->iommufd, 0, &id), "two.bind");
	answer(attach(binding->device, binding->ioas, 0, 0), "two.attach");
	answer(attach(other, binding->ioas, 0, 0), "two.attach-second");
	answer(object_destroy(binding->iommufd, id), "two.destroy-device");
	answer(detach(binding->device, 0, 0), "two.detach");
	answer(object_destroy(binding->iommufd, binding->ioas), "two.destroy-ioas");
	close(other);
	answer(object_destroy(binding->iommufd, id), "two.closed.destroy-device");
}

void ask_nodes(const struct machine *machine)
{
	struct binding binding = {.device = -1};
	int second;

	section("node");
	binding.iommufd = open_path("/dev/iommu");
	binding.device = machine->device.node[0] ? open_path(machine->device.node) : -ENOENT;
	answer(binding.device < 0 ? binding.device : 0, "open");
	if (binding.device < 0 || binding.iommufd < 0)
		return;
	ask_bind_form(binding.device, binding.iommufd);
	answer(bind_to(binding.device, binding.iommufd, 0, &binding.device_id), "bind");
	answer(bind_to(binding.device, binding.iommufd, 0, NULL), "bind.twice");
	second = open_path("/dev/iommu");
	answer(bind_to(binding.device, second, 0, NULL), "bind.another");
	close(second);
	if (!binding.device_id) {
		binding_close(&binding);
		return;
	}
	ioas_alloc(binding.iommufd, &binding.ioas);
	ask_numbers(binding.device, "bound");
	ask_attach_form(binding.device, binding.ioas, binding.device_id);
	ask_pasids(binding.device, binding.ioas);
	ask_attach(&binding);
	ask_conflicts(&binding, &machine->device);
	ask_two(machine, &binding);
	binding_close(&binding);
	ask_both_ways(machine);
	ask_compat_group(machine);
}
