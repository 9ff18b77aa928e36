/* SPDX-License-Identifier: MIT */
/*
 * Nested HWPTs: owns a guest's own tables in front of a paging HWPT, and HWPT_INVALIDATE, by which
 * the guest's monitor says that they have changed.
 *
 * What the tables look like is each IOMMU's business (struct iommufd_nesting). A nested HWPT rests
 * on its parent, and on the vIOMMU it was made on. One whose data the hardware would refuse only
 * when a device is attached exists without a stage 1, and can't be attached.
 *
 * Lock: iommufd.lock for all of it. Destroying cannot fail.
 */
#include <errno.h>
#include <string.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

/* ---- the program's data ---- */

/* What is shorter lacks its end, which is zero; what is longer is none of this version. */
static int copy_sized(struct uiommu_vfio *vfio, uint64_t from, uint32_t given, void *to,
		      size_t size, size_t least)
{
	if (given < least || given > size)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "data: smaller than the first version of the struct, or larger");
	memset(to, 0, size);
	return vfio_copy_in(vfio, to, from, given);
}

int iommufd_copy_data(struct iommufd_call *call, void *to, size_t size, size_t least)
{
	return copy_sized(call->vfio, call->hwpt_alloc.data_uptr, call->hwpt_alloc.data_len, to,
			  size, least);
}

int iommufd_copy_entry(struct iommufd_call *call, uint32_t index, void *to, size_t size,
		       size_t least)
{
	uint32_t len = call->invalidate.entry_len;

	return copy_sized(call->vfio, call->invalidate.data_uptr + (uint64_t)index * len, len, to,
			  size, least);
}

int iommufd_copy_command(struct iommufd_call *call, uint32_t index, void *to, size_t size)
{
	uint32_t len = call->invalidate.entry_len;
	uint64_t from = call->invalidate.data_uptr + (uint64_t)index * len;
	uint8_t byte;

	for (uint32_t at = (uint32_t)size; at < len; at++) {
		int ret = vfio_copy_in(call->vfio, &byte, from + at, 1);

		if (ret)
			return ret;
		if (byte)
			return vfio_refuse(UIOMMU_RULE_ARGUMENT, -E2BIG,
					   "entry_len: something behind the known fields");
	}
	memset(to, 0, size);
	return vfio_copy_in(call->vfio, to, from, len < size ? len : size);
}

/* ---- life ---- */

static void destroy_nested(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct iommufd_hwpt *hwpt = (struct iommufd_hwpt *)object, **link;

	if (hwpt->faults)
		iommufd_faults_unuse(hwpt);
	if (hwpt->made && hwpt->hw->nesting->destroy)
		hwpt->hw->nesting->destroy(hwpt);
	uiommu_stage1_destroy(hwpt->stage1);
	uiommu_domain_destroy(hwpt->guest);
	if (hwpt->viommu) {
		for (link = &hwpt->viommu->nested; *link != hwpt;)
			link = &(*link)->next_nested;
		*link = hwpt->next_nested;
		hwpt->viommu->obj.users--;
	}
	hwpt->parent->obj.users--;
}

int iommufd_nested_create(struct iommufd_call *call, const struct iommufd_hw *hw,
			  struct iommufd_hwpt *parent, struct iommufd_viommu *viommu,
			  struct iommufd_hwpt **out)
{
	struct iommufd_hwpt *hwpt = iommufd_object_create_locked(
		call->iommufd, sizeof(*hwpt), IOMMUFD_HWPT_NESTED, destroy_nested);
	int ret;

	if (!hwpt)
		return -ENOMEM;
	hwpt->hw = hw;
	hwpt->parent = parent;
	hwpt->pasids = call->hwpt_alloc.flags & IOMMU_HWPT_ALLOC_PASID;
	parent->obj.users++;
	if (viommu) {
		hwpt->viommu = viommu;
		hwpt->next_nested = viommu->nested;
		viommu->nested = hwpt;
		viommu->obj.users++;
	}
	ret = hw->nesting->create(call, hwpt);
	if (ret) {
		iommufd_object_remove(call->iommufd, &hwpt->obj);
		return ret;
	}
	hwpt->made = true;
	*out = hwpt;
	return 0;
}

int iommufd_nested_set(struct iommufd_hwpt *hwpt, const struct uiommu_guest_options *options,
		       void (*fault)(void *ctx, const struct uiommu_fault *fault), void *ctx)
{
	struct uiommu_stage1_options stage1 = {
		.size = sizeof(stage1), .fault = fault, .fault_ctx = ctx};
	int ret = uiommu_domain_create_guest(hwpt->parent->domain, options, &hwpt->guest);

	if (ret)
		return ret;
	stage1.domain = hwpt->guest;
	return uiommu_stage1_create(hwpt->hw->unit, &stage1, &hwpt->stage1);
}

/* ---- IOMMU_HWPT_INVALIDATE ---- */

/* Linux' bound on what one request may ask for. */
#define ENTRIES_MAX (1u << 19)

static int invalidate_locked(struct iommufd_call *call, uint32_t *done)
{
	uint32_t id = call->invalidate.hwpt_id;
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_object *object = id && id <= iommufd->room ? iommufd->objects[id - 1] : NULL;
	struct iommufd_hwpt *hwpt = (struct iommufd_hwpt *)object;
	struct iommufd_viommu *viommu = (struct iommufd_viommu *)object;

	if (!object || !object->ready)
		return iommufd_refuse_id("hwpt_id: no such object");
	if (object->type == IOMMUFD_HWPT_NESTED && (!hwpt->viommu || hwpt->hw->nesting->on_parent))
		return hwpt->hw->nesting->invalidate(call, hwpt, NULL, done);
	if (object->type == IOMMUFD_HWPT_NESTED)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP,
				   "hwpt_id: this IOMMU takes the vIOMMU's");
	if (object->type == IOMMUFD_VIOMMU)
		return viommu->nesting->invalidate(call, NULL, viommu, done);
	return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
			   "hwpt_id: nothing that caches a guest's tables");
}

int iommufd_hwpt_invalidate(struct iommufd_call *call)
{
	uint32_t done = 0;
	int ret, responded;

	if (call->invalidate.__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "__reserved: must be 0");
	if (call->invalidate.entry_num &&
	    (!call->invalidate.data_uptr || !call->invalidate.entry_len ||
	     call->invalidate.entry_len > VFIO_PAGE || call->invalidate.entry_num > ENTRIES_MAX)) {
		ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				  "data_uptr, entry_len or entry_num: none, or too much");
	} else {
		pthread_mutex_lock(&call->iommufd->lock);
		ret = invalidate_locked(call, &done);
		pthread_mutex_unlock(&call->iommufd->lock);
	}
	/* How many were done is told of failures too. */
	call->invalidate.entry_num = done;
	responded = iommufd_respond(call);
	return responded ? responded : ret;
}
