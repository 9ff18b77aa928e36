/* SPDX-License-Identifier: MIT */
/*
 * Resets: of a function, and of a bus with all functions on it. Either way the registers that the
 * host set up (addresses, decoding, interrupts) are put back, so that the user only finds the
 * device's own state gone.
 *
 * The root bus, number 0, can't be reset, and no function here sits in a slot: there a hot reset
 * is refused with ENODEV. Who may reset a bus shows that all its functions are theirs: by the
 * groups they are in, or, for a device that was opened by its own node, by the iommufd that they or
 * others of their groups are bound to. A function alone on another bus is reset through that bus if
 * it has no function-level reset. Holds vfio.lock, then the lock of one device at a time.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"

#define PER_BUS 256

static unsigned bus_of(const struct vfio_device *device)
{
	return device->info->rid >> 8;
}

static size_t functions_on_bus(const struct uiommu_vfio *vfio, unsigned bus)
{
	size_t count = 0;

	for (size_t i = 0; i < vfio->device_count; i++)
		count += bus_of(&vfio->devices[i]) == bus;
	return count;
}

bool vfio_reset_possible(const struct vfio_device *device)
{
	return device->info->flr ||
	       (bus_of(device) && functions_on_bus(device->vfio, bus_of(device)) == 1);
}

/* ---- one function ---- */

void vfio_save_state(const struct vfio_device *device, struct vfio_saved_state *state)
{
	unsigned express = device->info->pcie_cap;

	for (unsigned i = 0; i < 16; i++)
		state->header[i] = uiommu_function_config_read(device->fn, 4 * i, 4);
	if (!express)
		return;
	state->device_control =
		uiommu_function_config_read(device->fn, express + PCI_EXP_DEVCTL, 2);
	state->device_control2 =
		uiommu_function_config_read(device->fn, express + PCI_EXP_DEVCTL2, 2);
}

void vfio_restore_state(const struct vfio_device *device, const struct vfio_saved_state *state)
{
	unsigned express = device->info->pcie_cap;

	if (express) {
		uiommu_function_config_write(device->fn, express + PCI_EXP_DEVCTL, 2,
					     state->device_control & ~PCI_EXP_DEVCTL_BCR_FLR);
		uiommu_function_config_write(device->fn, express + PCI_EXP_DEVCTL2, 2,
					     state->device_control2);
	}
	/* Addresses before the command register, which makes them be decoded. */
	for (unsigned i = 15; i > 1; i--)
		uiommu_function_config_write(device->fn, 4 * i, 4, state->header[i]);
	uiommu_function_config_write(device->fn, PCI_COMMAND, 2, state->header[1] & 0xffff);
}

void vfio_reset_function(struct vfio_device *device)
{
	struct vfio_saved_state state;

	vfio_save_state(device, &state);
	uiommu_function_reset(device->fn);
	vfio_restore_state(device, &state);
	if (device->config)
		vfio_irqs_restore(device);
}

/* ---- a bus ---- */

/* Reset all functions of a bus. vfio.lock held. */
static void reset_bus(struct uiommu_vfio *vfio, unsigned bus)
{
	for (size_t i = 0; i < vfio->device_count; i++) {
		struct vfio_device *device = &vfio->devices[i];

		if (bus_of(device) != bus)
			continue;
		pthread_mutex_lock(&device->lock);
		vfio_reset_function(device);
		pthread_mutex_unlock(&device->lock);
	}
}

/* Does vfio-pci hold every function on the bus? Else a driver would lose its device. */
static bool bus_is_ours(const struct uiommu_vfio *vfio, unsigned bus)
{
	for (size_t i = 0; i < vfio->device_count; i++)
		if (bus_of(&vfio->devices[i]) == bus && !vfio->devices[i].bound)
			return false;
	return true;
}

void vfio_reset_bus_if_unused(struct vfio_device *closed)
{
	struct uiommu_vfio *vfio = closed->vfio;
	unsigned bus = bus_of(closed);
	bool needed = false;

	for (size_t i = 0; i < vfio->device_count; i++) {
		if (bus_of(&vfio->devices[i]) != bus)
			continue;
		if (vfio->devices[i].open_count)
			return;
		needed |= vfio->devices[i].needs_reset;
	}
	if (!needed || !bus || !bus_is_ours(vfio, bus))
		return;
	reset_bus(vfio, bus);
	for (size_t i = 0; i < vfio->device_count; i++)
		if (bus_of(&vfio->devices[i]) == bus)
			vfio->devices[i].needs_reset = false;
}

/* ---- requests ---- */

static int refuse_root_bus(void)
{
	return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENODEV, "the root bus can't be reset");
}

/* Was it opened by its own node? vfio.lock held. */
static bool by_node(const struct vfio_device *device)
{
	return device->open_count && !device->by_group;
}

/* What a device is to those who have an iommufd: its number there, OWNED where another device of
 * its group is bound to it, or NOT_OWNED. vfio.lock held. */
static uint32_t device_id(const struct vfio_device *device, const struct iommufd *iommufd)
{
	if (!device->bound)
		return VFIO_PCI_DEVID_NOT_OWNED;
	if (device->iommufd == iommufd)
		return device->bound_device->obj.id;
	return device->group->owner == iommufd ? VFIO_PCI_DEVID_OWNED
					       : (uint32_t)VFIO_PCI_DEVID_NOT_OWNED;
}

/* The functions on a device's bus, as its opener is to name them. vfio.lock held. */
static void list_bus(const struct vfio_device *device, struct vfio_pci_hot_reset_info *head,
		     struct vfio_pci_dependent_device *list)
{
	const struct uiommu_vfio *vfio = device->vfio;
	bool ids = by_node(device);

	head->count = 0;
	head->flags =
		ids ? VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED : 0;
	for (size_t i = 0; i < vfio->device_count && head->count < PER_BUS; i++) {
		const struct vfio_device *other = &vfio->devices[i];
		uint32_t id = other->group->number;

		if (bus_of(other) != bus_of(device))
			continue;
		if (ids)
			id = device_id(other, device->iommufd);
		if (ids && id == (uint32_t)VFIO_PCI_DEVID_NOT_OWNED)
			head->flags &= ~(uint32_t)VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
		list[head->count++] = (struct vfio_pci_dependent_device){
			.group_id = id,
			.bus = bus_of(other),
			.devfn = other->info->rid & 0xff,
		};
	}
}

long vfio_hot_reset_info(struct vfio_device *device, uint64_t arg)
{
	struct vfio_pci_dependent_device list[PER_BUS];
	struct uiommu_vfio *vfio = device->vfio;
	struct vfio_pci_hot_reset_info head;
	int ret = vfio_copy_sized(vfio, &head, arg, sizeof(head));

	if (ret)
		return ret;
	if (!bus_of(device))
		return refuse_root_bus();
	pthread_mutex_lock(&vfio->lock);
	list_bus(device, &head, list);
	pthread_mutex_unlock(&vfio->lock);
	if (head.count > (head.argsz - sizeof(head)) / sizeof(list[0])) {
		head.flags = 0;
		ret = vfio_copy_out(vfio, arg, &head, sizeof(head));
		return ret ? ret
			   : vfio_refuse(UIOMMU_RULE_ARGUMENT, -ENOSPC,
					 "argsz: count says how many devices there are");
	}
	ret = vfio_copy_out(vfio, arg + sizeof(head), list, head.count * sizeof(list[0]));
	return ret ? ret : vfio_copy_out(vfio, arg, &head, sizeof(head));
}

/* Every function on the bus must be vfio-pci's and in one of the groups. vfio.lock held. */
static int check_ownership(struct uiommu_vfio *vfio, unsigned bus,
			   struct uiommu_vfio_file *const *files, size_t count)
{
	for (size_t f = 0; f < count; f++)
		if (!vfio_file_known(vfio, files[f], UIOMMU_VFIO_GROUP))
			return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EBADF, "a group was closed");
	if (!bus_is_ours(vfio, bus))
		return vfio_refuse(UIOMMU_RULE_VIABLE, -EINVAL,
				   "another driver holds a function of the bus");
	for (size_t i = 0; i < vfio->device_count; i++) {
		bool owned = bus_of(&vfio->devices[i]) != bus;

		for (size_t f = 0; f < count && !owned; f++)
			owned = files[f]->group == vfio->devices[i].group;
		if (!owned)
			return vfio_refuse(UIOMMU_RULE_VIABLE, -EINVAL,
					   "a function of the bus is in a group not given");
	}
	return 0;
}

static int copy_groups(struct uiommu_vfio *vfio, uint64_t arg, size_t count,
		       struct uiommu_vfio_file **files)
{
	int32_t fds[PER_BUS];
	int ret = vfio_copy_in(vfio, fds, arg, count * sizeof(fds[0]));

	for (size_t i = 0; i < count && !ret; i++)
		files[i] = vfio_file_from_fd(vfio, fds[i], UIOMMU_VFIO_GROUP, -EINVAL, &ret);
	return ret;
}

/* By the groups that the program has. */
static int reset_by_groups(struct vfio_device *device, uint64_t arg, uint32_t count)
{
	struct uiommu_vfio_file *files[PER_BUS];
	struct uiommu_vfio *vfio = device->vfio;
	unsigned bus = bus_of(device);
	int ret;

	if (count > functions_on_bus(vfio, bus) || count > PER_BUS)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "count: more groups than functions on the bus");
	ret = copy_groups(vfio, arg, count, files);
	if (ret)
		return ret;
	pthread_mutex_lock(&vfio->lock);
	ret = check_ownership(vfio, bus, files, count);
	if (!ret)
		reset_bus(vfio, bus);
	pthread_mutex_unlock(&vfio->lock);
	return ret;
}

/* By the iommufd that the device is bound to. */
static int reset_by_iommufd(struct vfio_device *device)
{
	struct vfio_pci_dependent_device list[PER_BUS];
	struct uiommu_vfio *vfio = device->vfio;
	struct vfio_pci_hot_reset_info head;
	int ret = 0;

	pthread_mutex_lock(&vfio->lock);
	list_bus(device, &head, list);
	if (head.flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED)
		reset_bus(vfio, bus_of(device));
	else
		ret = vfio_refuse(UIOMMU_RULE_VIABLE, -EINVAL,
				  "a function of the bus is neither bound to this iommufd, nor in "
				  "the group of one that is");
	pthread_mutex_unlock(&vfio->lock);
	return ret;
}

long vfio_hot_reset(struct vfio_device *device, uint64_t arg)
{
	struct uiommu_vfio *vfio = device->vfio;
	struct vfio_pci_hot_reset head;
	int ret = vfio_copy_sized(vfio, &head, arg, sizeof(head));
	bool node;

	if (ret)
		return ret;
	if (head.flags)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: must be 0");
	pthread_mutex_lock(&vfio->lock);
	node = by_node(device);
	pthread_mutex_unlock(&vfio->lock);
	if (node == !!head.count)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   node ? "count: must be 0 for a device opened by its node"
					: "count: no groups are given");
	if (!bus_of(device))
		return refuse_root_bus();
	return node ? reset_by_iommufd(device)
		    : reset_by_groups(device, arg + sizeof(head), head.count);
}
