/* SPDX-License-Identifier: MIT */
/*
 * Devices bound to an iommufd: owns what a group of them is attached to.
 *
 * Invariants: the functions of a group are attached to one HWPT, together, while at least one
 * device of the group is; each of those devices counts as a user of it. That holds for DMA without
 * a PASID and for each PASID by itself; under one, the HWPT must be made for PASIDs, and so must
 * the one without. Replacing what a device is attached to moves the whole group, and a DMA
 * meanwhile goes through the old or through the new one; only from one nested HWPT to another with
 * another parent it may fault in between. A failure leaves the group where it was.
 *
 * What devices need in a space (interrupts) and keep from it (reserved regions) is that of their
 * DMA without a PASID, as in Linux. The order of checks is the kernel's (7.2).
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
	const struct imap_entry *entry;
	struct imap_pos pos;

	/* What follows may wait, and nobody shall put anything on it meanwhile. */
	device->obj.ready = false;
	iommufd_device_detach(iommufd, device, UIOMMU_NO_PASID);
	while ((entry = imap_find(&device->pasids, 0, &pos)))
		iommufd_device_detach(iommufd, device, (uint32_t)entry->range.first);
	iommufd_vdevice_forget(iommufd, device);
	device->obj.users--;
	iommufd_object_remove(iommufd, &device->obj);
}

/* ---- what is attached under a PASID ---- */

static struct iommufd_attach *find_attach(struct iommufd_group *group, uint32_t pasid)
{
	const struct imap_entry *entry;
	struct imap_pos pos;

	if (pasid == UIOMMU_NO_PASID)
		return &group->plain;
	entry = imap_find(&group->pasids, pasid, &pos);
	return entry && entry->range.first == pasid
		       ? (struct iommufd_attach *)(uintptr_t)entry->value
		       : NULL;
}

struct iommufd_hwpt *iommufd_group_hwpt(struct iommufd_group *group, uint32_t pasid)
{
	const struct iommufd_attach *attach = find_attach(group, pasid);

	return attach ? attach->hwpt : NULL;
}

/* As before, made if need be. NULL: no memory. */
static struct iommufd_attach *make_attach(struct iommufd_group *group, uint32_t pasid)
{
	struct iommufd_attach *attach = find_attach(group, pasid);
	struct imap_entry entry = {.range = {pasid, pasid}};

	if (attach)
		return attach;
	attach = uiommu_alloc(sizeof(*attach));
	entry.value = (uintptr_t)attach;
	if (!attach || imap_insert(&group->pasids, &entry, NULL)) {
		uiommu_free(attach, sizeof(*attach));
		vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
		return NULL;
	}
	attach->pasid = pasid;
	return attach;
}

/* Is it needed any more? */
static void drop_attach(struct iommufd_group *group, struct iommufd_attach *attach)
{
	if (attach->pasid == UIOMMU_NO_PASID || attach->devices)
		return;
	imap_erase(&group->pasids, attach->pasid);
	uiommu_free(attach, sizeof(*attach));
}

bool iommufd_device_attached(struct iommufd_device *device, uint32_t pasid)
{
	const struct imap_entry *entry;
	struct imap_pos pos;

	if (pasid == UIOMMU_NO_PASID)
		return device->attached;
	entry = imap_find(&device->pasids, pasid, &pos);
	return entry && entry->range.first == pasid;
}

static int mark_attached(struct iommufd_device *device, uint32_t pasid)
{
	const struct imap_entry entry = {.range = {pasid, pasid}};

	if (pasid != UIOMMU_NO_PASID && imap_insert(&device->pasids, &entry, NULL))
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	if (pasid == UIOMMU_NO_PASID)
		device->attached = true;
	return 0;
}

static void mark_detached(struct iommufd_device *device, uint32_t pasid)
{
	if (pasid == UIOMMU_NO_PASID)
		device->attached = false;
	else
		imap_erase(&device->pasids, pasid);
}

/* ---- moving a group's functions ---- */

/* Functions without PASIDs are attached to nothing under one. */
static size_t function_count(const struct iommufd_group *group, const struct iommufd_attach *attach)
{
	return attach->pasid == UIOMMU_NO_PASID || group->pasid_bits ? group->rid_count : 0;
}

/* Every function of the group to a domain; what fails has changed nothing. */
static int switch_functions(const struct iommufd_group *group, const struct iommufd_attach *attach,
			    struct iommufd_hwpt *hwpt)
{
	size_t count = function_count(group, attach);
	bool plain = attach->pasid == UIOMMU_NO_PASID;
	const struct iommufd_hw *hw = group->hw;

	if (!count)
		return 0;
	return uiommu_domain_attach_all(iommufd_hwpt_paging(hwpt)->domain, group->rids, count,
					attach->pasid, hw->regions, plain ? hw->region_count : 0,
					hw->name);
}

static void detach_functions(const struct iommufd_group *group, const struct iommufd_attach *attach)
{
	struct uiommu_domain *domain = iommufd_hwpt_paging(attach->hwpt)->domain;

	for (size_t i = 0; i < function_count(group, attach); i++)
		uiommu_domain_detach_pasid(domain, group->rids[i], attach->pasid);
}

/* A stage 1 in front of every function of the group, or none. */
static int set_stage1(const struct iommufd_group *group, const struct iommufd_attach *attach,
		      struct uiommu_stage1 *stage1)
{
	for (size_t i = 0; i < function_count(group, attach); i++) {
		int ret = uiommu_unit_set_stage1_pasid(group->hw->unit, group->rids[i],
						       attach->pasid, stage1);

		if (ret)
			return ret;
	}
	return 0;
}

/*
 * A nested stage 1 holds in front of its parent only. So it is set before the move to its parent,
 * and taken away after a move from it; between two HWPTs on one parent it is all there is to
 * change. From one parent to another there is a wall between, for nothing may reach a parent by
 * itself. Only where the functions have been attached to nothing can a stage 1 want memory.
 */
static int switch_group(const struct iommufd_group *group, const struct iommufd_attach *attach,
			struct iommufd_hwpt *hwpt)
{
	struct iommufd_hwpt *old = attach->hwpt;
	struct uiommu_stage1 *before = old ? old->stage1 : NULL;
	struct uiommu_stage1 *during = before ? uiommu_unit_wall(group->hw->unit) : hwpt->stage1;
	int ret = 0;

	if (old && iommufd_hwpt_paging(old) == iommufd_hwpt_paging(hwpt))
		return set_stage1(group, attach, hwpt->stage1);
	if (hwpt->stage1)
		ret = set_stage1(group, attach, during);
	if (!ret)
		ret = switch_functions(group, attach, hwpt);
	set_stage1(group, attach, ret ? before : hwpt->stage1);
	return ret;
}

/* ---- devices go along ---- */

static struct uiommu_ioas *space_of(struct iommufd_hwpt *hwpt)
{
	return hwpt ? iommufd_hwpt_paging(hwpt)->ioas->ioas : NULL;
}

/* The context's @i-th object, if it is a device of the group that is attached under the PASID. */
static struct iommufd_device *attached_at(struct iommufd *iommufd, size_t i,
					  const struct iommufd_group *group, uint32_t pasid)
{
	struct iommufd_device *device = (struct iommufd_device *)iommufd->objects[i];

	return device && device->obj.type == IOMMUFD_DEVICE && device->group == group &&
			       iommufd_device_attached(device, pasid)
		       ? device
		       : NULL;
}

/* Tell the devices that they are about to move, or have (not). */
static int tell_moving(struct iommufd *iommufd, const struct iommufd_group *group,
		       struct uiommu_ioas *ioas, size_t *told)
{
	int ret = 0;

	for (*told = 0; *told < iommufd->room && !ret; ++*told) {
		struct iommufd_device *device = attached_at(iommufd, *told, group, UIOMMU_NO_PASID);

		if (device && device->moving)
			ret = device->moving(device->ctx, ioas);
	}
	if (ret)
		--*told;
	return ret;
}

static void tell_moved(struct iommufd *iommufd, const struct iommufd_group *group,
		       struct uiommu_ioas *ioas, size_t told, bool done)
{
	for (size_t i = 0; i < told; i++) {
		struct iommufd_device *device = attached_at(iommufd, i, group, UIOMMU_NO_PASID);

		if (device && device->moved)
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
static void leave_faults(struct iommufd *iommufd, const struct iommufd_group *group, uint32_t pasid,
			 struct iommufd_hwpt *hwpt, size_t end)
{
	for (size_t i = 0; hwpt && hwpt->faults && i < end; i++) {
		const struct iommufd_device *device = attached_at(iommufd, i, group, pasid);

		if (device)
			iommufd_faults_detach(hwpt, device, pasid);
	}
}

static int join_faults(struct iommufd *iommufd, const struct iommufd_group *group, uint32_t pasid,
		       struct iommufd_hwpt *hwpt)
{
	for (size_t i = 0; hwpt->faults && i < iommufd->room; i++) {
		const struct iommufd_device *device = attached_at(iommufd, i, group, pasid);
		int ret = device ? iommufd_faults_attach(hwpt, device, pasid) : 0;

		if (ret) {
			leave_faults(iommufd, group, pasid, hwpt, i);
			return ret;
		}
	}
	return 0;
}

/* The group's DMA under the PASID, with the devices that are attached under it. */
static int move_group(struct iommufd *iommufd, const struct iommufd_group *group,
		      const struct iommufd_attach *attach, struct iommufd_hwpt *hwpt)
{
	bool plain = attach->pasid == UIOMMU_NO_PASID;
	struct uiommu_ioas *ioas = space_of(hwpt);
	size_t told = 0;
	int ret = join_faults(iommufd, group, attach->pasid, hwpt);

	if (ret)
		return ret;
	if (plain && attach->hwpt)
		ret = reserve_ahead(group, ioas);
	if (plain && !ret)
		ret = tell_moving(iommufd, group, ioas, &told);
	if (!ret)
		ret = switch_group(group, attach, hwpt);
	tell_moved(iommufd, group, ioas, told, !ret);
	uiommu_ioas_unreserve(ioas, group);
	leave_faults(iommufd, group, attach->pasid, ret ? hwpt : attach->hwpt, iommufd->room);
	return ret;
}

/* The functions are there already: the device alone moves. */
static int move_device(struct iommufd_device *device, const struct iommufd_attach *attach)
{
	bool plain = attach->pasid == UIOMMU_NO_PASID;
	struct iommufd_hwpt *hwpt = attach->hwpt;
	int ret = hwpt->faults ? iommufd_faults_attach(hwpt, device, attach->pasid) : 0;

	if (ret)
		return ret;
	if (plain && device->moving)
		ret = device->moving(device->ctx, space_of(hwpt));
	if (ret && hwpt->faults)
		iommufd_faults_detach(hwpt, device, attach->pasid);
	if (plain && !ret && device->moved)
		device->moved(device->ctx, space_of(hwpt), true);
	return ret;
}

/* ---- attaching ---- */

/* Do the HWPT and the PASIDs of the group go together? */
static int check_pasids(const struct iommufd_group *group, const struct iommufd_hwpt *hwpt,
			uint32_t pasid)
{
	if (pasid == UIOMMU_NO_PASID)
		return hwpt->pasids || !group->pasids.count
			       ? 0
			       : vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
					     "pt_id: not made for PASIDs, which are attached");
	if (!hwpt->pasids)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "pt_id: not made for PASIDs");
	if (group->plain.hwpt && !group->plain.hwpt->pasids)
		return vfio_refuse(
			UIOMMU_RULE_ARGUMENT, -EINVAL,
			"what the device is attached to without a PASID is not made for PASIDs");
	return 0;
}

/* The kind of IOMMU has the last word; NULL: the device is leaving. */
static int say_attach(struct iommufd_device *device, uint32_t pasid, struct iommufd_hwpt *hwpt)
{
	const struct iommufd_hw_ops *ops = device->hw->ops;

	return ops && ops->attach ? ops->attach(device, pasid, hwpt) : 0;
}

/* May the group be attached to it? In the order of iommufd, and then of the IOMMU's driver. */
static int check_hwpt(struct iommufd_device *device, struct iommufd_hwpt *hwpt, uint32_t pasid)
{
	const struct iommufd_group *group = device->group;
	int ret = check_pasids(group, hwpt, pasid);

	if (ret)
		return ret;
	if (hwpt->hw != device->hw)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "the page table is another IOMMU's");
	if (pasid && group->pasid_bits && pasid >> group->pasid_bits)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "pasid: more than the device has");
	if (hwpt->parent && !hwpt->stage1)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "the guest's tables are of a width that this IOMMU lacks");
	if (hwpt->parent && hwpt->hw->nesting->check_attach)
		ret = hwpt->hw->nesting->check_attach(hwpt, device);
	return ret ? ret : say_attach(device, pasid, hwpt);
}

/* The device's first attachment under the PASID: with it come the group's functions, if no other
 * device of the group has brought them. */
static int join(struct iommufd *iommufd, struct iommufd_device *device,
		struct iommufd_attach *attach, struct iommufd_hwpt *hwpt)
{
	int ret;

	if (attach->hwpt && attach->hwpt != hwpt)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EINVAL,
				   "the device's group is attached to another page table");
	if (attach->hwpt) {
		ret = move_device(device, attach);
	} else {
		ret = check_hwpt(device, hwpt, attach->pasid);
		if (ret)
			return ret;
		ret = move_group(iommufd, device->group, attach, hwpt);
		if (ret)
			say_attach(device, attach->pasid, NULL);
	}
	if (ret)
		return ret;
	attach->hwpt = hwpt;
	attach->devices++;
	hwpt->obj.users++;
	return 0;
}

static int attach_hwpt(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid,
		       struct iommufd_hwpt *hwpt)
{
	struct iommufd_attach *attach;
	int ret;

	if (iommufd_device_attached(device, pasid))
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "the device is attached already");
	attach = make_attach(device->group, pasid);
	if (!attach)
		return -ENOMEM;
	ret = mark_attached(device, pasid);
	if (!ret) {
		ret = join(iommufd, device, attach, hwpt);
		if (ret)
			mark_detached(device, pasid);
	}
	if (ret)
		drop_attach(device->group, attach);
	return ret;
}

static int replace_hwpt(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid,
			struct iommufd_hwpt *hwpt)
{
	struct iommufd_group *group = device->group;
	struct iommufd_attach *attach = find_attach(group, pasid);
	struct iommufd_hwpt *old;
	int ret;

	if (!attach || !iommufd_device_attached(device, pasid))
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL, "the device is not attached");
	old = attach->hwpt;
	if (old == hwpt)
		return 0;
	ret = check_hwpt(device, hwpt, pasid);
	if (ret)
		return ret;
	ret = move_group(iommufd, group, attach, hwpt);
	if (ret) {
		say_attach(device, pasid, old);
		return ret;
	}
	attach->hwpt = hwpt;
	hwpt->obj.users += attach->devices;
	for (unsigned left = attach->devices; left--;)
		iommufd_hwpt_unuse(iommufd, old);
	return 0;
}

/* Once it has succeeded it may let go of the lock, while what the group was attached to goes: then
 * the HWPT may be gone again at once by another thread's doing. */
typedef int (*change_fn)(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid,
			 struct iommufd_hwpt *hwpt);

/* An IOAS: one of its automatic HWPTs, or a new one. One that doesn't suit is passed over. */
static int change_ioas(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid,
		       struct iommufd_ioas *ioas, uint32_t *id, change_fn change)
{
	struct iommufd_hwpt *hwpt;
	uint32_t number;
	int ret;

	for (hwpt = ioas->hwpts; hwpt; hwpt = hwpt->next) {
		if (!hwpt->automatic || !hwpt->obj.ready)
			continue;
		number = hwpt->obj.id;
		ret = change(iommufd, device, pasid, hwpt);
		if (ret == -EINVAL)
			continue;
		if (!ret)
			*id = number;
		return ret;
	}
	ret = iommufd_hwpt_create(iommufd, ioas, device->hw, NULL, 0, true, &hwpt);
	if (ret)
		return ret;
	iommufd_object_finish(&hwpt->obj);
	number = hwpt->obj.id;
	ret = change(iommufd, device, pasid, hwpt);
	if (!ret)
		*id = number;
	else
		iommufd_object_remove(iommufd, &hwpt->obj);
	return ret;
}

static int change_pt(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid,
		     uint32_t *pt_id, change_fn change)
{
	struct iommufd_object *object =
		*pt_id && *pt_id <= iommufd->room ? iommufd->objects[*pt_id - 1] : NULL;

	if (!object || !object->ready)
		return iommufd_refuse_id("pt_id: no such object");
	switch (object->type) {
	case IOMMUFD_HWPT_PAGING:
	case IOMMUFD_HWPT_NESTED:
		return change(iommufd, device, pasid, (struct iommufd_hwpt *)object);
	case IOMMUFD_IOAS:
		return change_ioas(iommufd, device, pasid, (struct iommufd_ioas *)object, pt_id,
				   change);
	default:
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "pt_id: neither IOAS nor HWPT");
	}
}

int iommufd_device_attach(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid,
			  uint32_t *pt_id)
{
	return change_pt(iommufd, device, pasid, pt_id, attach_hwpt);
}

int iommufd_device_replace(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid,
			   uint32_t *pt_id)
{
	return change_pt(iommufd, device, pasid, pt_id, replace_hwpt);
}

void iommufd_device_detach(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid)
{
	struct iommufd_group *group = device->group;
	struct iommufd_attach *attach = find_attach(group, pasid);
	struct iommufd_hwpt *hwpt;

	if (!attach || !iommufd_device_attached(device, pasid))
		return;
	hwpt = attach->hwpt;
	if (!--attach->devices) {
		detach_functions(group, attach);
		set_stage1(group, attach, NULL);
		attach->hwpt = NULL;
	}
	if (hwpt->faults)
		iommufd_faults_detach(hwpt, device, pasid);
	mark_detached(device, pasid);
	say_attach(device, pasid, NULL);
	drop_attach(group, attach);
	if (pasid == UIOMMU_NO_PASID) {
		/* Nothing is needed where it goes, so this can't fail. */
		if (device->moving)
			device->moving(device->ctx, NULL);
		if (device->moved)
			device->moved(device->ctx, NULL, true);
	}
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

static int hw_info(struct iommufd_call *call, const struct iommufd_device *device)
{
	const struct iommufd_hw *hw = device->hw;
	uint32_t asked = call->hw_info.out_data_type;
	bool input = call->hw_info.flags & IOMMU_HW_INFO_FLAG_INPUT_TYPE;
	uint32_t len = hw->info_len, fits;
	int ret = 0;

	/* An IOMMU that has nothing to tell says so whatever it is asked. */
	if (input && asked != IOMMU_HW_INFO_TYPE_DEFAULT && asked != hw->info_type &&
	    hw->info_type != IOMMU_HW_INFO_TYPE_NONE)
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
	call->hw_info.out_max_pasid_log2 = (uint8_t)device->pasid_bits;
	call->hw_info.out_capabilities =
		(hw->dirty && !device->no_dirty ? IOMMU_HW_CAP_DIRTY_TRACKING : 0) |
		(hw->no_ats ? IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED : 0);
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
	ret = hw_info(call, device);
	iommufd_put(call->iommufd, &device->obj);
	return ret;
}
