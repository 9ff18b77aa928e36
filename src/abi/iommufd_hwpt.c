/* SPDX-License-Identifier: MIT */
/*
 * Hardware page tables (HWPT): owns the domains that iommufd's address spaces fill.
 *
 * A paging HWPT is a domain of the IOMMU that the device it was made for is behind, and goes with
 * its last user if an attachment made it, else when it is destroyed. The order of HWPT_ALLOC's
 * checks is the kernel's (7.2): reserved fields, data, device, page table, flags, and then what the
 * IOMMU can.
 *
 * Lock: iommufd.lock for all of it. Destroying cannot fail.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

#define KNOWN_FLAGS                                                       \
	(IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_DIRTY_TRACKING | \
	 IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID)

/* ---- life ---- */

/* From now on nobody finds it by its address space. */
static void unlist(struct iommufd_hwpt *hwpt)
{
	struct iommufd_hwpt **link;

	for (link = &hwpt->ioas->hwpts; *link && *link != hwpt;)
		link = &(*link)->next;
	if (*link)
		*link = hwpt->next;
}

static void destroy_paging(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct iommufd_hwpt *hwpt = (struct iommufd_hwpt *)object;

	if (!hwpt->domain)
		return;
	unlist(hwpt);
	if (hwpt->faults)
		iommufd_faults_unuse(hwpt);
	uiommu_domain_destroy(hwpt->domain);
	iommufd_ioas_drop_domain(hwpt->ioas);
	hwpt->ioas->obj.users--;
}

/* The domain, with memory for all that is mapped. */
static int make_domain(struct iommufd *iommufd, struct iommufd_hwpt *hwpt,
		       const struct iommufd_tables *tables)
{
	const struct iommufd_hw *hw = hwpt->hw;
	bool parent = hwpt->nest_parent && hw->parent_format;
	struct uiommu_domain_options options = {
		.size = sizeof(options),
		.format = parent ? hw->parent_format : tables->format,
		.width = parent ? hw->parent_width : tables->width,
		.name = hw->name,
		.small_pages = hwpt->ioas->small_pages,
		.dirty = hwpt->tracks_dirty,
		.snoop = iommufd->vfio->facts->coherent,
	};
	int ret;

	if (!parent) {
		options.aperture = tables->aperture;
		options.page_sizes = tables->page_sizes;
	}
	/* From now on what is mapped asks for memory; so nothing slips in between. */
	ret = iommufd_ioas_add_domain(hwpt->ioas);
	if (ret)
		return ret;
	ret = uiommu_domain_create(hw->unit, hwpt->ioas->ioas, &options, &hwpt->domain);
	if (ret)
		iommufd_ioas_drop_domain(hwpt->ioas);
	return ret;
}

int iommufd_hwpt_create(struct iommufd *iommufd, struct iommufd_ioas *ioas,
			const struct iommufd_hw *hw, const struct iommufd_tables *tables,
			uint32_t flags, bool automatic, struct iommufd_hwpt **out)
{
	const struct iommufd_tables usual = {hw->format, hw->width, hw->aperture, hw->page_sizes};
	struct iommufd_hwpt *hwpt = iommufd_object_create_locked(
		iommufd, sizeof(*hwpt), IOMMUFD_HWPT_PAGING, destroy_paging);
	int ret;

	if (!hwpt)
		return -ENOMEM;
	hwpt->hw = hw;
	hwpt->ioas = ioas;
	hwpt->automatic = automatic;
	hwpt->nest_parent = flags & IOMMU_HWPT_ALLOC_NEST_PARENT;
	hwpt->tracks_dirty = flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
	hwpt->pasids = flags & IOMMU_HWPT_ALLOC_PASID;
	ret = make_domain(iommufd, hwpt, tables ? tables : &usual);
	if (ret) {
		iommufd_object_remove(iommufd, &hwpt->obj);
		return ret;
	}
	ioas->obj.users++;
	hwpt->next = ioas->hwpts;
	ioas->hwpts = hwpt;
	*out = hwpt;
	return 0;
}

void iommufd_hwpt_unuse(struct iommufd *iommufd, struct iommufd_hwpt *hwpt)
{
	if (--hwpt->obj.users || !hwpt->automatic)
		return;
	/* Removing may wait, and others attach to that address space meanwhile. */
	unlist(hwpt);
	iommufd_object_remove(iommufd, &hwpt->obj);
}

struct iommufd_hwpt *iommufd_hwpt_paging(struct iommufd_hwpt *hwpt)
{
	return hwpt->parent ? hwpt->parent : hwpt;
}

/* ---- IOMMU_HWPT_ALLOC ---- */

static int unsupported(const char *what)
{
	return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP, what);
}

/* Can this IOMMU have such a paging HWPT, and of which tables? */
static int check_paging(struct iommufd_call *call, const struct iommufd_device *device,
			struct iommufd_tables *tables)
{
	const struct iommufd_hw *hw = device->hw;
	uint32_t flags = call->hwpt_alloc.flags;

	if (flags & ~KNOWN_FLAGS)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags: an unknown one");
	if ((flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) && (!hw->dirty || device->no_dirty))
		return unsupported("flags: this IOMMU doesn't track what is written");
	if ((flags & IOMMU_HWPT_FAULT_ID_VALID) && (flags & IOMMU_HWPT_ALLOC_NEST_PARENT))
		return unsupported("flags: a nesting parent takes no page requests");
	if ((flags & IOMMU_HWPT_ALLOC_NEST_PARENT) && !hw->parent_format && !hw->nesting)
		return unsupported("flags: this IOMMU can't nest");
	if ((flags & IOMMU_HWPT_ALLOC_PASID) && !hw->pasid_bits && !hw->pasid_tables)
		return unsupported("flags: this IOMMU has no PASIDs");
	if ((flags & IOMMU_HWPT_ALLOC_PASID) && (flags & IOMMU_HWPT_ALLOC_NEST_PARENT) &&
	    hw->nesting && hw->nesting->viommu_type && !hw->nesting->on_parent)
		return unsupported("flags: a parent of a vIOMMU is not for PASIDs");
	if ((flags & IOMMU_HWPT_FAULT_ID_VALID) && hw->no_faults)
		return unsupported("flags: this IOMMU's driver takes no fault queue");
	*tables = (struct iommufd_tables){hw->format, hw->width, hw->aperture, hw->page_sizes};
	if (call->hwpt_alloc.data_type == IOMMU_HWPT_DATA_NONE)
		return 0;
	if (!hw->ops || !hw->ops->tables)
		return unsupported("data_type: this IOMMU's own tables need no data");
	return hw->ops->tables(call, tables);
}

static int alloc_paging(struct iommufd_call *call, const struct iommufd_device *device,
			struct iommufd_ioas *ioas, struct iommufd_hwpt **out)
{
	struct iommufd_tables tables;
	int ret = check_paging(call, device, &tables);

	return ret ? ret
		   : iommufd_hwpt_create(call->iommufd, ioas, device->hw, &tables,
					 call->hwpt_alloc.flags, false, out);
}

/* On a nesting parent, or on a vIOMMU of one: a guest's tables. */
static int alloc_nested(struct iommufd_call *call, const struct iommufd_device *device,
			struct iommufd_hwpt *parent, struct iommufd_viommu *viommu,
			struct iommufd_hwpt **out)
{
	const uint32_t known = IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID;
	const struct iommufd_nesting *nesting = device->hw->nesting;
	bool on_parent =
		nesting ? !nesting->viommu_type || nesting->on_parent : device->hw->nests_on_parent;

	if ((call->hwpt_alloc.flags & ~known) || !call->hwpt_alloc.data_len)
		return unsupported("flags or data_len: a nested HWPT is made of a guest's data");
	if (!viommu && !on_parent)
		return unsupported(nesting ? "pt_id: this IOMMU nests on a vIOMMU"
					   : "pt_id: this IOMMU can't nest");
	if (parent->automatic || !parent->nest_parent || parent->hw != device->hw)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "pt_id: no nesting parent");
	if ((call->hwpt_alloc.flags & IOMMU_HWPT_ALLOC_PASID) && nesting->viommu_type &&
	    !nesting->on_parent)
		return unsupported("flags: nested tables are for requests without a PASID");
	if (call->hwpt_alloc.data_type != nesting->data_type)
		return viommu ? vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "data_type")
			      : unsupported("data_type: not this IOMMU's");
	return iommufd_nested_create(call, device->hw, parent, viommu, out);
}

static int alloc_locked(struct iommufd_call *call)
{
	struct iommufd *iommufd = call->iommufd;
	uint32_t id = call->hwpt_alloc.pt_id;
	const struct iommufd_device *device =
		iommufd_find(iommufd, call->hwpt_alloc.dev_id, IOMMUFD_DEVICE);
	struct iommufd_ioas *ioas = iommufd_find(iommufd, id, IOMMUFD_IOAS);
	struct iommufd_viommu *viommu = iommufd_find(iommufd, id, IOMMUFD_VIOMMU);
	struct iommufd_hwpt *parent = iommufd_find(iommufd, id, IOMMUFD_HWPT_PAGING), *hwpt;
	struct iommufd_queue *queue;
	int ret;

	if (!device)
		return iommufd_refuse_id("dev_id: no such device");
	if (ioas)
		ret = alloc_paging(call, device, ioas, &hwpt);
	else if (parent || viommu)
		ret = alloc_nested(call, device, viommu ? viommu->parent : parent, viommu, &hwpt);
	else
		ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				  "pt_id: no IOAS, nor anything else to put a table on");
	if (!ret && (call->hwpt_alloc.flags & IOMMU_HWPT_FAULT_ID_VALID)) {
		queue = iommufd_find(iommufd, call->hwpt_alloc.fault_id, IOMMUFD_FAULT_QUEUE);
		if (queue) {
			iommufd_faults_use(hwpt, queue);
		} else {
			iommufd_object_remove(iommufd, &hwpt->obj);
			ret = iommufd_refuse_id("fault_id: no such fault queue");
		}
	}
	if (ret)
		return ret;
	call->made = &hwpt->obj;
	call->hwpt_alloc.out_hwpt_id = hwpt->obj.id;
	return 0;
}

int iommufd_hwpt_alloc(struct iommufd_call *call)
{
	int ret;

	if (call->hwpt_alloc.__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "__reserved: must be 0");
	if ((call->hwpt_alloc.data_type == IOMMU_HWPT_DATA_NONE) != !call->hwpt_alloc.data_len)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "data_len: data goes with a data_type, and only with one");
	pthread_mutex_lock(&call->iommufd->lock);
	ret = alloc_locked(call);
	pthread_mutex_unlock(&call->iommufd->lock);
	return ret ? ret : iommufd_respond(call);
}
