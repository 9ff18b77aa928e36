/* SPDX-License-Identifier: MIT */
/*
 * Devices bound to an iommufd: owns what a group of them is attached to.
 *
 * Invariants: the functions of a group are attached to one HWPT, together, while at least one
 * device of the group is; each of those devices counts as a user of it. Attaching a device whose
 * group is attached moves the whole group, and a DMA meanwhile goes through the old or through the
 * new one; only from one nested HWPT to another with another parent it may fault in between. A
 * failure leaves the group where it was.
 *
 * Lock: iommufd.lock for all of it. Detaching cannot fail.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

/* ---- binding ---- */

int iommufd_device_bind(struct iommufd *iommufd, const struct iommufd_device *description,
			struct iommufd_device **out)
{
	struct iommufd_device *device =
		iommufd_object_create_locked(iommufd, sizeof(*device), IOMMUFD_DEVICE, NULL);
	struct iommufd_object obj;

	if (!device)
		return -ENOMEM;
	obj = device->obj;
	*device = *description;
	device->obj = obj;
	device->obj.users = 1; /* whoever bound it */
	iommufd_object_finish(&device->obj);
	*out = device;
	return 0;
}

void iommufd_device_unbind(struct iommufd *iommufd, struct iommufd_device *device)
{
	/* What follows may wait, and nobody shall put anything on it meanwhile. */
	device->obj.ready = false;
	iommufd_device_detach(iommufd, device);
	iommufd_vdevice_forget(iommufd, device);
	device->obj.users--;
	iommufd_object_remove(iommufd, &device->obj);
}

/* ---- moving a group's functions ---- */

/* Every function of the group to a domain with its stage 1; what fails has changed nothing. */
static int switch_functions(struct iommufd_group *group, struct iommufd_hwpt *hwpt)
{
	struct iommufd_hwpt *old = group->hwpt;
	struct uiommu_domain *domain = iommufd_hwpt_paging(hwpt)->domain;
	const struct iommufd_hw *hw = group->hw;
	size_t done;
	int ret = 0;

	for (done = 0; done < group->rid_count && !ret; done++)
		ret = uiommu_domain_attach(domain, group->rids[done], hw->regions, hw->region_count,
					   hw->name);
	if (!ret)
		return 0;
	/* The last one tried has not been moved. Those that were go back; where even that fails,
	 * for want of memory, they reach nothing. */
	for (done--; done--;)
		if (!old ||
		    uiommu_domain_attach(iommufd_hwpt_paging(old)->domain, group->rids[done],
					 hw->regions, hw->region_count, hw->name))
			uiommu_domain_detach(domain, group->rids[done]);
	return ret;
}

static void detach_functions(struct iommufd_group *group)
{
	struct uiommu_domain *domain = iommufd_hwpt_paging(group->hwpt)->domain;

	for (size_t i = 0; i < group->rid_count; i++)
		uiommu_domain_detach(domain, group->rids[i]);
}

/* A stage 1 in front of every function of the group, or none. */
static int set_stage1(const struct iommufd_group *group, struct uiommu_stage1 *stage1)
{
	for (size_t i = 0; i < group->rid_count; i++) {
		int ret = uiommu_unit_set_stage1(group->hw->unit, group->rids[i], stage1);

		if (ret)
			return ret;
	}
	return 0;
}

/*
 * A nested stage 1 holds in front of its parent only. So it is set before the move to its parent,
 * and taken away after a move from it; between two HWPTs on one parent it is all there is to
 * change.
 */
static int switch_group(struct iommufd_group *group, struct iommufd_hwpt *hwpt)
{
	struct iommufd_hwpt *old = group->hwpt;
	struct uiommu_stage1 *before = old ? old->stage1 : NULL;
	bool apart = before && hwpt->stage1 && hwpt->parent != old->parent;
	int ret = 0;

	if (old && iommufd_hwpt_paging(old) == iommufd_hwpt_paging(hwpt))
		return set_stage1(group, hwpt->stage1);
	if (apart)
		detach_functions(group);
	if (hwpt->stage1)
		ret = set_stage1(group, hwpt->stage1);
	if (!ret)
		ret = switch_functions(group, hwpt);
	if (ret && hwpt->stage1)
		set_stage1(group, before);
	if (ret && apart)
		switch_functions(group, old);
	if (!ret && !hwpt->stage1)
		set_stage1(group, NULL);
	return ret;
}

/* ---- attaching ---- */

static struct uiommu_ioas *space_of(struct iommufd_hwpt *hwpt)
{
	return hwpt ? iommufd_hwpt_paging(hwpt)->ioas->ioas : NULL;
}

/* Tell the group's attached devices, and @joining, that they are about to move, or have (not). */
static int tell_moving(struct iommufd *iommufd, const struct iommufd_group *group,
		       const struct iommufd_device *joining, struct uiommu_ioas *ioas, size_t *told)
{
	int ret = 0;

	for (*told = 0; *told < iommufd->room && !ret; ++*told) {
		struct iommufd_object *object = iommufd->objects[*told];
		struct iommufd_device *device = (struct iommufd_device *)object;

		if (!object || object->type != IOMMUFD_DEVICE || device->group != group ||
		    (!device->attached && device != joining) || !device->moving)
			continue;
		ret = device->moving(device->ctx, ioas);
	}
	if (ret)
		--*told;
	return ret;
}

static void tell_moved(struct iommufd *iommufd, const struct iommufd_group *group,
		       const struct iommufd_device *joining, struct uiommu_ioas *ioas, size_t told,
		       bool done)
{
	for (size_t i = 0; i < told; i++) {
		struct iommufd_object *object = iommufd->objects[i];
		struct iommufd_device *device = (struct iommufd_device *)object;

		if (object && object->type == IOMMUFD_DEVICE && device->group == group &&
		    (device->attached || device == joining) && device->moved)
			device->moved(device->ctx, ioas, done);
	}
}

/* Where the group goes its regions are reserved ahead, in its own name, for doorbells stand in
 * them. */
static int reserve_ahead(const struct iommufd_group *group, struct uiommu_ioas *ioas)
{
	for (size_t i = 0; i < group->hw->region_count; i++) {
		const struct uiommu_resv_region *region = &group->hw->regions[i];
		int ret = region->type == UIOMMU_RESV_SW_MSI
				  ? uiommu_ioas_reserve(ioas, region->range, region->type, group,
							group->hw->name)
				  : 0;

		if (ret)
			return ret;
	}
	return 0;
}

/* The devices whose page requests come to a queue, all that move or none. */
static void leave_faults(struct iommufd *iommufd, const struct iommufd_group *group,
			 const struct iommufd_device *joining, struct iommufd_hwpt *hwpt,
			 size_t end)
{
	for (size_t i = 0; hwpt && hwpt->faults && i < end; i++) {
		const struct iommufd_device *device = (void *)iommufd->objects[i];

		if (device && device->obj.type == IOMMUFD_DEVICE && device->group == group &&
		    (device->attached || device == joining))
			iommufd_faults_detach(hwpt, device);
	}
}

static int join_faults(struct iommufd *iommufd, const struct iommufd_group *group,
		       const struct iommufd_device *joining, struct iommufd_hwpt *hwpt)
{
	for (size_t i = 0; hwpt->faults && i < iommufd->room; i++) {
		const struct iommufd_device *device = (void *)iommufd->objects[i];
		int ret = 0;

		if (device && device->obj.type == IOMMUFD_DEVICE && device->group == group &&
		    (device->attached || device == joining))
			ret = iommufd_faults_attach(hwpt, device);
		if (ret) {
			leave_faults(iommufd, group, joining, hwpt, i);
			return ret;
		}
	}
	return 0;
}

static int move_group(struct iommufd *iommufd, struct iommufd_group *group,
		      const struct iommufd_device *joining, struct iommufd_hwpt *hwpt)
{
	struct uiommu_ioas *ioas = space_of(hwpt);
	size_t told = 0;
	int ret = join_faults(iommufd, group, joining, hwpt);

	if (ret)
		return ret;
	if (group->hwpt)
		ret = reserve_ahead(group, ioas);
	if (!ret)
		ret = tell_moving(iommufd, group, joining, ioas, &told);
	if (!ret)
		ret = switch_group(group, hwpt);
	tell_moved(iommufd, group, joining, ioas, told, !ret);
	uiommu_ioas_unreserve(ioas, group);
	if (ret)
		leave_faults(iommufd, group, joining, hwpt, iommufd->room);
	else
		leave_faults(iommufd, group, NULL, group->hwpt, iommufd->room);
	return ret;
}

/* Once it has succeeded it may let go of the lock, while what the group was attached to goes. */
static int attach_hwpt(struct iommufd *iommufd, struct iommufd_device *device,
		       struct iommufd_hwpt *hwpt)
{
	struct iommufd_group *group = device->group;
	struct iommufd_hwpt *old = group->hwpt;
	int ret;

	if (hwpt->hw != device->hw)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "the page table is another IOMMU's");
	if (hwpt->parent && !hwpt->stage1)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "the guest's tables are of a width that this IOMMU lacks");
	ret = hwpt->parent && hwpt->hw->nesting->check_attach
		      ? hwpt->hw->nesting->check_attach(hwpt, device)
		      : 0;
	if (ret)
		return ret;
	if (!device->attached && old && old != hwpt)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EINVAL,
				   "the device's group is attached to another page table");
	if (device->attached && old == hwpt)
		return 0;
	if (old == hwpt) {
		/* The functions are there already. */
		ret = hwpt->faults ? iommufd_faults_attach(hwpt, device) : 0;
		if (ret)
			return ret;
		ret = device->moving ? device->moving(device->ctx, space_of(hwpt)) : 0;
		if (ret && hwpt->faults)
			iommufd_faults_detach(hwpt, device);
		if (!ret && device->moved)
			device->moved(device->ctx, space_of(hwpt), true);
	} else {
		ret = move_group(iommufd, group, device, hwpt);
	}
	if (ret)
		return ret;
	if (!device->attached) {
		device->attached = true;
		group->attached++;
		hwpt->obj.users++;
		group->hwpt = hwpt;
		return 0;
	}
	hwpt->obj.users += group->attached;
	group->hwpt = hwpt;
	for (unsigned left = group->attached; left--;)
		iommufd_hwpt_unuse(iommufd, old);
	return 0;
}

/* An IOAS: one of its automatic HWPTs, or a new one. */
static int attach_ioas(struct iommufd *iommufd, struct iommufd_device *device,
		       struct iommufd_ioas *ioas, uint32_t *id)
{
	struct iommufd_hwpt *hwpt;
	uint32_t number;
	bool made;
	int ret;

	for (hwpt = ioas->hwpts; hwpt; hwpt = hwpt->next)
		if (hwpt->automatic && hwpt->hw == device->hw)
			break;
	made = !hwpt;
	if (made) {
		ret = iommufd_hwpt_create(iommufd, ioas, device->hw, 0, true, &hwpt);
		if (ret)
			return ret;
		iommufd_object_finish(&hwpt->obj);
	}
	/* Attached, it may be gone again at once by another thread's doing. */
	number = hwpt->obj.id;
	ret = attach_hwpt(iommufd, device, hwpt);
	if (!ret)
		*id = number;
	else if (made)
		iommufd_object_remove(iommufd, &hwpt->obj);
	return ret;
}

int iommufd_device_attach(struct iommufd *iommufd, struct iommufd_device *device, uint32_t *pt_id)
{
	struct iommufd_object *object =
		*pt_id && *pt_id <= iommufd->room ? iommufd->objects[*pt_id - 1] : NULL;

	if (!object || !object->ready)
		return iommufd_refuse_id("pt_id: no such object");
	switch (object->type) {
	case IOMMUFD_HWPT_PAGING:
	case IOMMUFD_HWPT_NESTED:
		return attach_hwpt(iommufd, device, (struct iommufd_hwpt *)object);
	case IOMMUFD_IOAS:
		return attach_ioas(iommufd, device, (struct iommufd_ioas *)object, pt_id);
	default:
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "pt_id: neither IOAS nor HWPT");
	}
}

void iommufd_device_detach(struct iommufd *iommufd, struct iommufd_device *device)
{
	struct iommufd_group *group = device->group;
	struct iommufd_hwpt *hwpt = group->hwpt;

	if (!device->attached)
		return;
	if (!--group->attached) {
		detach_functions(group);
		set_stage1(group, NULL);
		group->hwpt = NULL;
	}
	if (hwpt->faults)
		iommufd_faults_detach(hwpt, device);
	device->attached = false;
	/* Nothing is needed where it goes, so this can't fail. */
	if (device->moving)
		device->moving(device->ctx, NULL);
	if (device->moved)
		device->moved(device->ctx, NULL, true);
	iommufd_hwpt_unuse(iommufd, hwpt);
}

/* ---- IOMMU_GET_HW_INFO ---- */

/* What the program's buffer has beyond our data is cleared. */
static int clear_rest(const struct iommufd_call *call, uint32_t from)
{
	static const uint8_t zeros[256];

	for (uint64_t at = from; at < call->hw_info.data_len;) {
		uint64_t len = call->hw_info.data_len - at;
		int ret;

		if (len > sizeof(zeros))
			len = sizeof(zeros);
		ret = vfio_copy_out(call->vfio, call->hw_info.data_uptr + at, zeros, len);
		if (ret)
			return ret;
		at += len;
	}
	return 0;
}

static int hw_info(struct iommufd_call *call, const struct iommufd_hw *hw)
{
	uint32_t asked = call->hw_info.out_data_type;
	bool input = call->hw_info.flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE;
	uint32_t len = hw->info_len, fits;
	int ret = 0;

	if (input && asked != IOMMU_HW_INFO_TYPE_DEFAULT && asked != hw->info_type)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP,
				   "out_data_type: this IOMMU has no information of that type");
	fits = call->hw_info.data_len < len ? call->hw_info.data_len : len;
	if (fits)
		ret = vfio_copy_out(call->vfio, call->hw_info.data_uptr, hw->info, fits);
	if (!ret)
		ret = clear_rest(call, fits);
	if (ret)
		return ret;
	call->hw_info.data_len = len;
	call->hw_info.out_data_type = hw->info_type;
	call->hw_info.out_max_pasid_log2 = (uint8_t)hw->pasid_bits;
	call->hw_info.out_capabilities = hw->dirty ? IOMMU_HW_CAP_DIRTY_TRACKING : 0;
	return iommufd_respond(call);
}

int iommufd_get_hw_info(struct iommufd_call *call)
{
	struct iommufd_device *device;
	int ret;

	if ((call->hw_info.flags & ~(uint32_t)IOMMU_HW_INFO_FLAG_INPUT_TYPE) ||
	    call->hw_info.__reserved[0] || call->hw_info.__reserved[1] ||
	    call->hw_info.__reserved[2])
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags or __reserved");
	device = iommufd_get(call->iommufd, call->hw_info.dev_id, IOMMUFD_DEVICE,
			     "dev_id: no such device");
	if (!device)
		return -ENOENT;
	ret = hw_info(call, device->hw);
	iommufd_put(call->iommufd, &device->obj);
	return ret;
}
