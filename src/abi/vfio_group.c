/* SPDX-License-Identifier: MIT */
/*
 * Owns groups: viability, the container a group is in, the opening of its devices.
 *
 * A group is open (refs > 0) while its file is, or a device of it: so its container stays set, and
 * the group can't be opened again, until the last of them is released. All under vfio.lock, which
 * is dropped to copy and to ask the host.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <uiommu/linux/vfio_pamu.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

struct vfio_group *vfio_group_find(struct uiommu_vfio *vfio, unsigned number)
{
	for (size_t i = 0; i < vfio->group_count; i++)
		if (vfio->groups[i].number == number)
			return &vfio->groups[i];
	return NULL;
}

bool vfio_group_has_bound(const struct uiommu_vfio *vfio, const struct vfio_group *group)
{
	for (size_t i = 0; i < vfio->device_count; i++)
		if (vfio->devices[i].group == group && vfio->devices[i].bound)
			return true;
	return false;
}

/* Drivers that do no DMA of their own, or leave it to the user. */
static bool driver_is_harmless(const char *driver)
{
	static const char *const harmless[] = {"", "none", "vfio-pci", "pci-stub", "pcieport"};

	if (!driver)
		return true;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		if (!strcmp(driver, harmless[i]))
			return true;
	return false;
}

/* The function that another driver holds, or NULL if the group is viable. */
static const struct vfio_device *held_by_other(const struct uiommu_vfio *vfio,
					       const struct vfio_group *group)
{
	for (size_t i = 0; i < vfio->device_count; i++)
		if (vfio->devices[i].group == group &&
		    !driver_is_harmless(vfio->devices[i].info->driver))
			return &vfio->devices[i];
	return NULL;
}

bool vfio_group_viable(const struct uiommu_vfio *vfio, const struct vfio_group *group, char *why,
		       size_t len)
{
	const struct vfio_device *other = held_by_other(vfio, group);

	if (other)
		snprintf(why, len, "driver %s holds %s", other->info->driver, other->info->name);
	return !other;
}

static void leave_iommufd(struct vfio_group *group)
{
	struct iommufd *iommufd = group->iommufd;

	group->iommufd = NULL;
	iommufd_put_ref(iommufd);
}

void vfio_group_put(struct uiommu_vfio *vfio, struct vfio_group *group)
{
	if (--group->refs)
		return;
	if (group->container)
		vfio_container_detach_group(group->container, group);
	if (group->iommufd)
		leave_iommufd(group);
}

/* ---- requests ---- */

static int get_status(struct uiommu_vfio *vfio, struct vfio_group *group, uint64_t arg)
{
	struct vfio_group_status status;
	int ret = vfio_copy_sized(vfio, &status, arg, sizeof(status));

	if (ret)
		return ret;
	status.flags = 0;
	pthread_mutex_lock(&vfio->lock);
	if (group->container || group->iommufd)
		status.flags = VFIO_GROUP_FLAGS_CONTAINER_SET | VFIO_GROUP_FLAGS_VIABLE;
	else if (!held_by_other(vfio, group) && !group->owner)
		status.flags = VFIO_GROUP_FLAGS_VIABLE;
	pthread_mutex_unlock(&vfio->lock);
	return vfio_copy_out(vfio, arg, &status, sizeof(status));
}

/* /dev/iommu as a container: its devices are bound one by one, when they are opened. */
static int join_iommufd(struct vfio_group *group, struct iommufd *iommufd)
{
	struct iommufd_ioas *ioas;

	pthread_mutex_lock(&iommufd->lock);
	ioas = iommufd_compat_ioas(iommufd);
	pthread_mutex_unlock(&iommufd->lock);
	if (!ioas)
		return -ENOMEM;
	iommufd_get_ref(iommufd);
	group->iommufd = iommufd;
	return 0;
}

static int join(struct uiommu_vfio *vfio, struct vfio_group *group, struct uiommu_vfio_file *file)
{
	char why[UIOMMU_OWNER_MAX];
	int ret = vfio_noiommu_capable(vfio);

	if (ret)
		return ret;
	if (vfio_file_known(vfio, file, UIOMMU_VFIO_IOMMUFD) && vfio->iommufd_rfc)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "the /dev/iommu of 2021 is no container");
	if (vfio_file_known(vfio, file, UIOMMU_VFIO_IOMMUFD))
		return join_iommufd(group, file->iommufd);
	if (!vfio_file_known(vfio, file, UIOMMU_VFIO_CONTAINER))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EBADF, "the container was closed");
	if (!vfio_group_viable(vfio, group, why, sizeof(why)))
		return vfio_refuse(UIOMMU_RULE_VIABLE, -EPERM, why);
	return vfio_container_attach_group(file->container, group);
}

static int set_container(struct uiommu_vfio *vfio, struct vfio_group *group, uint64_t arg)
{
	struct uiommu_vfio_file *file;
	int wrong = 0, ret;
	int32_t fd;

	ret = vfio_copy_in(vfio, &fd, arg, sizeof(fd));
	if (ret)
		return ret;
	file = vfio_file_from_fd(vfio, fd, UIOMMU_VFIO_CONTAINER, -EBADFD, &wrong);
	if (wrong == -EBADF)
		return wrong;
	if (!file) {
		file = vfio_file_from_fd(vfio, fd, UIOMMU_VFIO_IOMMUFD, -EBADFD, &wrong);
		if (file)
			uiommu_clear_refusal();
	}
	pthread_mutex_lock(&vfio->lock);
	if (group->container || group->iommufd)
		ret = vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				  "the group is in a container already");
	else if (!file)
		ret = wrong;
	else
		ret = join(vfio, group, file);
	pthread_mutex_unlock(&vfio->lock);
	return ret;
}

static int unset_container(struct uiommu_vfio *vfio, struct vfio_group *group)
{
	int ret = 0;

	pthread_mutex_lock(&vfio->lock);
	if (!group->container && !group->iommufd)
		ret = vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL, "the group is in no container");
	else if (group->iommufd)
		leave_iommufd(group);
	else if (group->refs != 1)
		ret = vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "a device of the group is open");
	else
		vfio_container_detach_group(group->container, group);
	pthread_mutex_unlock(&vfio->lock);
	return ret;
}

/*
 * Does @text name the device? The address may be followed by options after a space; the only one
 * there is, vf_token, belongs to virtual functions and to those that have some: not to ours.
 * 1: yes, 0: no, -EINVAL.
 */
static int name_matches(const struct vfio_device *device, const char *text)
{
	size_t len = strlen(device->info->name);

	if (strncmp(device->info->name, text, len))
		return 0;
	text += len;
	if (*text && *text != ' ')
		return 0;
	text += strspn(text, " ");
	return *text ? vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "an option behind the name") : 1;
}

static int find_device(struct uiommu_vfio *vfio, const struct vfio_group *group, const char *text,
		       struct vfio_device **out)
{
	for (size_t i = 0; i < vfio->device_count; i++) {
		struct vfio_device *device = &vfio->devices[i];
		int ret;

		if (device->group != group || !device->bound)
			continue;
		ret = name_matches(device, text);
		if (ret)
			*out = device;
		if (ret)
			return ret < 0 ? ret : 0;
	}
	return vfio_refuse(UIOMMU_RULE_ARGUMENT, -ENODEV, "no device of this group has that name");
}

/* Make it usable: with an iommufd, bound and attached by the first open. vfio.lock held. */
static int use_device(struct vfio_device *device)
{
	struct vfio_group *group = device->group;
	bool first = !device->open_count;
	int ret;

	if (first && group->iommufd)
		ret = vfio_bind_compat(device);
	else
		ret = vfio_device_open(device, first ? group->container->iommu->ioas : NULL);
	if (ret || !first)
		return ret;
	/* The group stays open with its device. */
	device->by_group = true;
	group->refs++;
	return 0;
}

/* Open the device once more: vfio.lock held. */
static int open_device(struct vfio_device *device, struct uiommu_vfio_file **out)
{
	struct vfio_group *group = device->group;
	int ret;

	if (!group->container && !group->iommufd)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "the group is in no container (SET_CONTAINER)");
	if (!device->open_count && group->container && !group->container->iommu)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "the container has no IOMMU yet (VFIO_SET_IOMMU)");
	ret = vfio_noiommu_capable(device->vfio);
	if (ret)
		return ret;
	*out = vfio_file_create(device->vfio, UIOMMU_VFIO_DEVICE, device);
	if (!*out)
		return -ENOMEM;
	ret = use_device(device);
	if (ret) {
		device->vfio->files = (*out)->next;
		uiommu_free(*out, sizeof(**out));
	}
	return ret;
}

static long get_device_fd(struct uiommu_vfio *vfio, struct vfio_group *group, uint64_t arg)
{
	struct uiommu_vfio_file *file = NULL;
	struct vfio_device *device = NULL;
	char *text;
	int ret;

	text = uiommu_alloc(VFIO_PAGE);
	if (!text)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	ret = vfio_copy_string(vfio, text, arg, VFIO_PAGE);
	if (!ret)
		ret = find_device(vfio, group, text, &device);
	uiommu_free(text, VFIO_PAGE);
	if (ret)
		return ret;
	if (!vfio->host.install)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EMFILE,
				   "the host makes no descriptors");
	pthread_mutex_lock(&vfio->lock);
	ret = open_device(device, &file);
	pthread_mutex_unlock(&vfio->lock);
	if (ret)
		return ret;
	ret = vfio->host.install(vfio->host.ctx, file);
	if (ret < 0) {
		uiommu_vfio_release(file);
		return vfio_refuse(UIOMMU_RULE_LIMIT, ret, "no descriptor for the device");
	}
	if (vfio_is_noiommu(vfio))
		vfio_log(vfio, "vfio-pci %s: vfio-noiommu device opened by user (%s:%d)",
			 device->info->name, program_invocation_short_name, (int)getpid());
	return ret;
}

long vfio_group_ioctl(struct uiommu_vfio *vfio, struct vfio_group *group, uint32_t request,
		      uint64_t arg)
{
	switch (request) {
	case VFIO_GROUP_GET_STATUS:
		return get_status(vfio, group, arg);
	case VFIO_GROUP_SET_CONTAINER:
		return set_container(vfio, group, arg);
	case VFIO_GROUP_UNSET_CONTAINER:
		return unset_container(vfio, group);
	case VFIO_GROUP_GET_DEVICE_FD:
		return get_device_fd(vfio, group, arg);
	case VFIO_GROUP_GET_MSI_FD:
		return vfio_pamu_bank_fd(vfio, group, arg);
	default:
		return -ENOTTY;
	}
}
