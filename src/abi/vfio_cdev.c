/* SPDX-License-Identifier: MIT */
/*
 * Devices and iommufd: owns the binding of a device to a context, be it by its own node
 * (/dev/vfio/devices/vfioN) or by a group that uses /dev/iommu as its container, and what iommufd
 * is told of this machine's IOMMU.
 *
 * A node can be opened any number of times, but one file at a time can be bound; until then it has
 * no request but BIND. Bound, the device is open, and the DMA of its whole group is its iommufd's:
 * the group can't be opened, nor another device of it bound to another iommufd. It stays bound
 * until the file is released.
 *
 * Attaching what is attached is replacing it. Whether it is, a node remembers for itself, for DMA
 * without a PASID and for each PASID; and for PASID 0, which is no other than without, once more:
 * what was attached in the one way can't be moved in the other, as in Linux.
 *
 * Locks: binding and unbinding under vfio.lock, then iommufd.lock; attaching under iommufd.lock,
 * with the device's lock taken by the hooks that move its interrupts. Unbinding cannot fail.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "abi/iommufd.h"
#include "abi/iommufd_rfc.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

/* ---- the machine ---- */

/* The second stage that such an IOMMU has, and how guests' tables go in front of it. */
static void set_nesting(struct iommufd_hw *hw)
{
	bool arm = !strcmp(hw->format, "arm-s1");

	hw->parent_format = arm ? "arm-s2" : "vtd-ss";
	hw->parent_width = hw->width;
	hw->nesting = arm ? &iommufd_smmuv3 : &iommufd_vtd;
}

/* Where Linux' drivers (7.2) differ in what they ask first: AMD's makes tables for PASIDs only
 * where there are some, and takes any type of vIOMMU until it sees the parent; Intel's nests
 * without a vIOMMU. */
static void set_driver(struct iommufd_hw *hw)
{
	switch (hw->info_type) {
	case IOMMU_HW_INFO_TYPE_INTEL_VTD:
		hw->nests_on_parent = hw->pasid_tables = true;
		break;
	case IOMMU_HW_INFO_TYPE_ARM_SMMUV3:
		hw->pasid_tables = hw->format && !strcmp(hw->format, "arm-s1");
		break;
	case IOMMU_HW_INFO_TYPE_NONE:
		hw->no_faults = !hw->page_requests;
		break;
	case IOMMU_HW_INFO_TYPE_AMD:
		hw->viommu_by_parent = true;
		break;
	}
}

struct iommufd_hw *vfio_hw_create(const struct uiommu_vfio *vfio)
{
	const struct uiommu_platform_facts *facts = vfio->facts;
	struct iommufd_hw *hw;

	hw = uiommu_alloc(sizeof(*hw));
	if (!hw)
		return NULL;
	*hw = (struct iommufd_hw){
		.unit = uiommu_machine_unit(vfio->machine),
		.name = facts->name,
		.format = facts->format,
		.width = facts->width,
		.aperture = facts->aperture,
		.page_sizes = facts->page_sizes,
		.regions = facts->regions,
		.region_count = facts->region_count,
		.info_type = facts->iommufd.info_type,
		.info = facts->iommufd.info,
		.info_len = facts->iommufd.info_len,
		.dirty = facts->iommufd.dirty,
		.pasid_bits = facts->iommufd.pasid_bits,
		.no_ats = true,
	};
	set_driver(hw);
	if (facts->iommufd.nesting)
		set_nesting(hw);
	return hw;
}

void vfio_hw_destroy(struct iommufd_hw *hw)
{
	uiommu_free(hw, sizeof(*hw));
}

/* ---- the group, as iommufd sees it ---- */

static int claim_group(struct vfio_group *group, struct iommufd *iommufd)
{
	struct uiommu_vfio *vfio = iommufd->vfio;
	struct iommufd_group *together;
	char why[UIOMMU_OWNER_MAX];
	uiommu_rid *rids;
	size_t count = 0;

	if (group->owner && group->owner != iommufd)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EPERM,
				   "another iommufd has a device of the group");
	if (!vfio_group_viable(vfio, group, why, sizeof(why)))
		return vfio_refuse(UIOMMU_RULE_VIABLE, -EPERM, why);
	if (group->bound++)
		return 0;
	for (size_t i = 0; i < vfio->device_count; i++)
		count += vfio->devices[i].group == group;
	together = uiommu_alloc(sizeof(*together));
	rids = uiommu_alloc_array(count, sizeof(*rids));
	if (!together || !rids) {
		uiommu_free(together, sizeof(*together));
		uiommu_free(rids, count * sizeof(*rids));
		group->bound = 0;
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	}
	*together = (struct iommufd_group){.hw = vfio->hw, .rids = rids, .rid_count = count};
	count = 0;
	for (size_t i = 0; i < vfio->device_count; i++) {
		const struct uiommu_function_info *info = vfio->devices[i].info;

		if (vfio->devices[i].group != group)
			continue;
		rids[count++] = info->rid;
		if (info->pasid_bits &&
		    (!together->pasid_bits || info->pasid_bits < together->pasid_bits))
			together->pasid_bits = info->pasid_bits;
	}
	group->owner = iommufd;
	group->together = together;
	return 0;
}

static void disclaim_group(struct vfio_group *group)
{
	struct iommufd_group *together = group->together;

	if (--group->bound)
		return;
	uiommu_free((void *)(uintptr_t)together->rids,
		    together->rid_count * sizeof(*together->rids));
	uiommu_free(together, sizeof(*together));
	group->together = NULL;
	group->owner = NULL;
}

/* ---- interrupts go along ---- */

static int moving(void *ctx, struct uiommu_ioas *ioas)
{
	struct vfio_device *device = ctx;
	int ret;

	pthread_mutex_lock(&device->lock);
	ret = vfio_irqs_moving(device, ioas);
	pthread_mutex_unlock(&device->lock);
	return ret;
}

static void moved(void *ctx, struct uiommu_ioas *ioas, bool done)
{
	struct vfio_device *device = ctx;

	pthread_mutex_lock(&device->lock);
	vfio_irqs_moved(device, done);
	if (done)
		device->ioas = ioas;
	pthread_mutex_unlock(&device->lock);
}

/* ---- binding ---- */

int vfio_bind(struct vfio_device *device, struct iommufd *iommufd, uint32_t *id)
{
	const struct uiommu_platform_facts *facts = device->vfio->facts;
	struct iommufd_device description = {
		.hw = device->vfio->hw,
		.rid = device->info->rid,
		.name = device->info->name,
		.pasid_bits = device->info->pasid_bits,
		.page_requests = device->vfio->facts->iommufd.page_requests,
		.moving = moving,
		.moved = moved,
		.ctx = device,
	};
	int ret;

	if (!device->vfio->hw->format)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "the machine has no IOMMU");
	ret = claim_group(device->group, iommufd);
	if (ret)
		return ret;
	description.group = device->group->together;
	if (facts->unsafe_check && !facts->isolated_msi && !device->vfio->unsafe_interrupts) {
		disclaim_group(device->group);
		return vfio_refuse(UIOMMU_RULE_ISOLATION, -EPERM, facts->name);
	}
	pthread_mutex_lock(&iommufd->lock);
	ret = iommufd_device_bind(iommufd, &description, &device->bound_device);
	pthread_mutex_unlock(&iommufd->lock);
	if (!ret) {
		iommufd_get_ref(iommufd);
		device->iommufd = iommufd;
		ret = vfio_device_open(device, NULL);
		if (!ret)
			*id = device->bound_device->obj.id;
		else
			vfio_unbind(device);
	} else {
		disclaim_group(device->group);
	}
	return ret;
}

void vfio_unbind(struct vfio_device *device)
{
	struct iommufd *iommufd = device->iommufd;

	pthread_mutex_lock(&iommufd->lock);
	iommufd_device_unbind(iommufd, device->bound_device);
	device->attached = device->attached_as_0 = false;
	pthread_mutex_unlock(&iommufd->lock);
	device->bound_device = NULL;
	device->iommufd = NULL;
	disclaim_group(device->group);
	iommufd_put_ref(iommufd);
}

int vfio_bind_compat(struct vfio_device *device)
{
	struct iommufd *iommufd = device->group->iommufd;
	struct iommufd_ioas *ioas;
	uint32_t id;
	int ret = vfio_bind(device, iommufd, &id);

	if (ret)
		return ret;
	pthread_mutex_lock(&iommufd->lock);
	ioas = iommufd->compat;
	if (ioas) {
		id = ioas->obj.id;
		ret = iommufd_device_attach(iommufd, device->bound_device, UIOMMU_NO_PASID, &id);
	} else {
		ret = vfio_refuse(UIOMMU_RULE_ORDER, -ENODEV, "no address space is set");
	}
	pthread_mutex_unlock(&iommufd->lock);
	if (ret) {
		device->by_group = false;
		vfio_device_close(device);
	}
	return ret;
}

/* ---- requests of a node ---- */

int vfio_node_bind(struct uiommu_vfio_file *file, struct iommufd *iommufd, uint32_t *id)
{
	struct vfio_device *device = file->device;
	int ret = vfio_bind(device, iommufd, id);

	if (ret)
		return ret;
	device->by_group = false;
	device->group->nodes++;
	file->bound = true;
	return 0;
}

static int bind_locked(struct uiommu_vfio_file *file, struct uiommu_vfio_file *to, uint32_t *id)
{
	struct vfio_device *device = file->device;

	if (!vfio_file_known(file->vfio, to, UIOMMU_VFIO_IOMMUFD))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EBADF, "iommufd: was closed");
	if (device->group->refs)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "the device's group is open");
	if (device->open_count)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL, "the device is bound already");
	return vfio_node_bind(file, to->iommufd, id);
}

static long bind(struct uiommu_vfio_file *file, uint64_t arg)
{
	const size_t least = offsetof(struct vfio_device_bind_iommufd, token_uuid_ptr);
	struct vfio_device_bind_iommufd bind = {0};
	struct uiommu_vfio_file *to;
	uint8_t token[16];
	int ret = vfio_copy_sized(file->vfio, &bind, arg, least);

	if (!ret)
		ret = vfio_copy_struct(file->vfio, &bind, sizeof(bind), arg, bind.argsz);
	if (ret)
		return ret;
	if (bind.flags & ~(uint32_t)VFIO_DEVICE_BIND_FLAG_TOKEN)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: an unknown one");
	if (bind.iommufd < 0)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "iommufd: negative");
	if (bind.flags & VFIO_DEVICE_BIND_FLAG_TOKEN) {
		ret = vfio_copy_in(file->vfio, token, bind.token_uuid_ptr, sizeof(token));
		if (ret)
			return ret;
	}
	to = vfio_file_from_fd(file->vfio, bind.iommufd, UIOMMU_VFIO_IOMMUFD, -EBADFD, &ret);
	if (!to)
		return ret;
	/* Only virtual functions, and those that have some, take a token: none of ours. */
	if (bind.flags & VFIO_DEVICE_BIND_FLAG_TOKEN)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: the device has no token");
	pthread_mutex_lock(&file->vfio->lock);
	ret = bind_locked(file, to, &bind.out_devid);
	pthread_mutex_unlock(&file->vfio->lock);
	if (ret)
		return ret;
	ret = vfio_copy_out(file->vfio, arg + offsetof(struct vfio_device_bind_iommufd, out_devid),
			    &bind.out_devid, sizeof(bind.out_devid));
	/* Only now may another request find it bound, for it can't be unbound under that. */
	if (ret)
		vfio_node_close(file);
	else
		atomic_store(&file->granted, true);
	return ret;
}

void vfio_node_close(struct uiommu_vfio_file *file)
{
	pthread_mutex_lock(&file->vfio->lock);
	if (file->bound) {
		if (file->vfio->iommufd_rfc)
			iommufd_rfc_node_closing(file);
		file->bound = false;
		file->device->group->nodes--;
		vfio_device_close(file->device);
	}
	pthread_mutex_unlock(&file->vfio->lock);
}

/* ---- attaching ---- */

/* What an attachment, or its end, is of. */
struct target {
	bool flagged; /* a PASID was given, be it 0 */
	uint32_t pasid;
};

/* The PASID is behind @least bytes of the struct at @arg, if @flags say that it is there. */
static int take_target(struct uiommu_vfio *vfio, uint64_t arg, uint32_t argsz, uint32_t flags,
		       size_t least, struct target *target)
{
	*target = (struct target){.flagged = flags, .pasid = UIOMMU_NO_PASID};
	if (flags & ~(uint32_t)VFIO_DEVICE_ATTACH_PASID)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: an unknown one");
	if (!flags)
		return 0;
	if (argsz < least + sizeof(target->pasid))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "argsz: no room for a PASID");
	return vfio_copy_in(vfio, &target->pasid, arg + least, sizeof(target->pasid));
}

static bool is_attached(const struct vfio_device *device, const struct target *target)
{
	if (target->pasid != UIOMMU_NO_PASID)
		return iommufd_device_attached(device->bound_device, target->pasid);
	return target->flagged ? device->attached_as_0 : device->attached;
}

static void set_attached(struct vfio_device *device, const struct target *target, bool attached)
{
	if (target->pasid != UIOMMU_NO_PASID)
		return;
	if (target->flagged)
		device->attached_as_0 = attached;
	else
		device->attached = attached;
}

/* iommufd.lock held in both. */
static int attach_locked(struct vfio_device *device, const struct target *target, uint32_t *pt_id)
{
	int ret;

	if (is_attached(device, target))
		return iommufd_device_replace(device->iommufd, device->bound_device, target->pasid,
					      pt_id);
	if (target->pasid > INT_MAX)
		return vfio_refuse(UIOMMU_RULE_LIMIT, -ENOSPC, "pasid");
	ret = iommufd_device_attach(device->iommufd, device->bound_device, target->pasid, pt_id);
	if (!ret)
		set_attached(device, target, true);
	return ret;
}

static void detach_locked(struct vfio_device *device, const struct target *target)
{
	if (!is_attached(device, target))
		return;
	/* First, for detaching may let go of the lock at its end. */
	set_attached(device, target, false);
	iommufd_device_detach(device->iommufd, device->bound_device, target->pasid);
}

/* A bound file's iommufd and device stay as long as the file. */
static long attach(struct uiommu_vfio_file *file, uint64_t arg)
{
	const size_t least = offsetof(struct vfio_device_attach_iommufd_pt, pasid);
	struct vfio_device_attach_iommufd_pt attach = {0};
	struct vfio_device *device = file->device;
	struct target target;
	int ret = vfio_copy_sized(file->vfio, &attach, arg, least);

	if (!ret)
		ret = take_target(file->vfio, arg, attach.argsz, attach.flags, least, &target);
	if (ret)
		return ret;
	pthread_mutex_lock(&device->iommufd->lock);
	ret = attach_locked(device, &target, &attach.pt_id);
	pthread_mutex_unlock(&device->iommufd->lock);
	if (ret)
		return ret;
	ret = vfio_copy_out(file->vfio, arg + offsetof(struct vfio_device_attach_iommufd_pt, pt_id),
			    &attach.pt_id, sizeof(attach.pt_id));
	if (ret) {
		pthread_mutex_lock(&device->iommufd->lock);
		detach_locked(device, &target);
		pthread_mutex_unlock(&device->iommufd->lock);
	}
	return ret;
}

static long detach(struct uiommu_vfio_file *file, uint64_t arg)
{
	const size_t least = offsetof(struct vfio_device_detach_iommufd_pt, pasid);
	struct vfio_device_detach_iommufd_pt detach = {0};
	struct vfio_device *device = file->device;
	struct target target;
	int ret = vfio_copy_sized(file->vfio, &detach, arg, least);

	if (!ret)
		ret = take_target(file->vfio, arg, detach.argsz, detach.flags, least, &target);
	if (ret)
		return ret;
	pthread_mutex_lock(&device->iommufd->lock);
	detach_locked(device, &target);
	pthread_mutex_unlock(&device->iommufd->lock);
	return 0;
}

long vfio_node_ioctl(struct uiommu_vfio_file *file, uint32_t request, uint64_t arg)
{
	if (request == VFIO_DEVICE_BIND_IOMMUFD)
		return bind(file, arg);
	if (!atomic_load(&file->granted))
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "the device is not bound yet (VFIO_DEVICE_BIND_IOMMUFD)");
	switch (request) {
	case VFIO_DEVICE_ATTACH_IOMMUFD_PT:
		return attach(file, arg);
	case VFIO_DEVICE_DETACH_IOMMUFD_PT:
		return detach(file, arg);
	default:
		return vfio_device_ioctl(file->device, request, arg);
	}
}
