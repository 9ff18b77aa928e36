/* SPDX-License-Identifier: MIT */
/*
 * vIOMMUs: owns what a guest sees of an IOMMU: the names it has for devices (vDEVICEs), the HWPTs
 * made of its data, the queue of its events.
 *
 * Invariants: a vIOMMU rests on a nesting parent; vDEVICEs, nested HWPTs and event queues rest on
 * it. A device has one vDEVICE at most, which goes with the device's binding.
 *
 * Locks: iommufd.lock; what faults look at, inside of ports' sections, is under viommu->leaf
 * besides. Destroying cannot fail.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"

static int unsupported(const char *what)
{
	return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP, what);
}

/* ---- IOMMU_VIOMMU_ALLOC ---- */

static void destroy_viommu(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct iommufd_viommu *viommu = (struct iommufd_viommu *)object;

	viommu->parent->obj.users--;
	pthread_mutex_destroy(&viommu->leaf);
}

static int viommu_locked(struct iommufd_call *call)
{
	const struct iommu_viommu_alloc *alloc = &call->viommu_alloc;
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_device *device = iommufd_find(iommufd, alloc->dev_id, IOMMUFD_DEVICE);
	const struct iommufd_nesting *nesting;
	struct iommufd_viommu *viommu;
	struct iommufd_hwpt *parent;

	if (!device)
		return iommufd_refuse_id("dev_id: no such device");
	nesting = device->hw->nesting;
	if (!device->hw->viommu_by_parent &&
	    (!nesting || !nesting->viommu_type || nesting->viommu_type != alloc->type))
		return unsupported("type: this IOMMU has no such vIOMMU");
	parent = iommufd_find(iommufd, alloc->hwpt_id, IOMMUFD_HWPT_PAGING);
	if (!parent)
		return iommufd_refuse_id("hwpt_id: no paging HWPT");
	if (!nesting || !parent->nest_parent || parent->hw != device->hw)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "hwpt_id: no nesting parent");
	viommu = iommufd_object_create_locked(iommufd, sizeof(*viommu), IOMMUFD_VIOMMU,
					      destroy_viommu);
	if (!viommu)
		return -ENOMEM;
	viommu->hw = device->hw;
	viommu->nesting = nesting;
	viommu->parent = parent;
	parent->obj.users++;
	pthread_mutex_init(&viommu->leaf, NULL);
	call->made = &viommu->obj;
	call->viommu_alloc.out_viommu_id = viommu->obj.id;
	return 0;
}

int iommufd_viommu_alloc(struct iommufd_call *call)
{
	int ret;

	/* __reserved is not looked at, nor is it in Linux. */
	if (call->viommu_alloc.flags || call->viommu_alloc.type == IOMMU_VIOMMU_TYPE_DEFAULT)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags or type");
	pthread_mutex_lock(&call->iommufd->lock);
	ret = viommu_locked(call);
	pthread_mutex_unlock(&call->iommufd->lock);
	return ret ? ret : iommufd_respond(call);
}

/* ---- IOMMU_VDEVICE_ALLOC ---- */

static void destroy_vdevice(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct iommufd_vdevice *vdevice = (struct iommufd_vdevice *)object, **link;
	struct iommufd_viommu *viommu = vdevice->viommu;

	pthread_mutex_lock(&viommu->leaf);
	for (link = &viommu->vdevices; *link != vdevice;)
		link = &(*link)->next;
	*link = vdevice->next;
	pthread_mutex_unlock(&viommu->leaf);
	vdevice->device->vdevice = NULL;
	viommu->obj.users--;
}

static int check_vdevice(const struct iommufd_viommu *viommu, const struct iommufd_device *device,
			 uint64_t virt_id)
{
	if (device->hw != viommu->hw)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "dev_id: the device is behind another IOMMU");
	if (device->vdevice)
		return vfio_refuse(UIOMMU_RULE_OVERLAP, -EEXIST, "dev_id: it has a vDEVICE");
	for (const struct iommufd_vdevice *v = viommu->vdevices; v; v = v->next)
		if (v->virt_id == virt_id)
			return vfio_refuse(UIOMMU_RULE_OVERLAP, -EEXIST,
					   "virt_id: another device's");
	return 0;
}

static int vdevice_locked(struct iommufd_call *call, struct iommufd_vdevice **out)
{
	const struct iommu_vdevice_alloc *alloc = &call->vdevice_alloc;
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_viommu *viommu = iommufd_find(iommufd, alloc->viommu_id, IOMMUFD_VIOMMU);
	struct iommufd_device *device;
	struct iommufd_vdevice *vdevice;
	int ret;

	if (!viommu)
		return iommufd_refuse_id("viommu_id: no such vIOMMU");
	device = iommufd_find(iommufd, alloc->dev_id, IOMMUFD_DEVICE);
	if (!device)
		return iommufd_refuse_id("dev_id: no such device");
	ret = check_vdevice(viommu, device, alloc->virt_id);
	if (ret)
		return ret;
	vdevice = iommufd_object_create_locked(iommufd, sizeof(*vdevice), IOMMUFD_VDEVICE,
					       destroy_vdevice);
	if (!vdevice)
		return -ENOMEM;
	vdevice->viommu = viommu;
	vdevice->device = device;
	vdevice->rid = device->rid;
	vdevice->virt_id = alloc->virt_id;
	device->vdevice = vdevice;
	viommu->obj.users++;
	pthread_mutex_lock(&viommu->leaf);
	vdevice->next = viommu->vdevices;
	viommu->vdevices = vdevice;
	pthread_mutex_unlock(&viommu->leaf);
	*out = vdevice;
	call->vdevice_alloc.out_vdevice_id = vdevice->obj.id;
	return 0;
}

/* It is the device's as much as ours, whose unbinding may take it away meanwhile. */
int iommufd_vdevice_alloc(struct iommufd_call *call)
{
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_vdevice *vdevice = NULL;
	int ret;

	pthread_mutex_lock(&iommufd->lock);
	ret = vdevice_locked(call, &vdevice);
	if (!ret)
		iommufd_hold(iommufd, &vdevice->obj);
	pthread_mutex_unlock(&iommufd->lock);
	if (ret)
		return ret;
	ret = iommufd_respond(call);
	pthread_mutex_lock(&iommufd->lock);
	iommufd_unhold(iommufd, &vdevice->obj);
	/* If somebody is waiting to remove it, that is as good. */
	if (ret && !vdevice->obj.removing)
		iommufd_object_remove(iommufd, &vdevice->obj);
	else if (!ret && !vdevice->obj.removing)
		iommufd_object_finish(&vdevice->obj);
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

void iommufd_vdevice_forget(struct iommufd *iommufd, struct iommufd_device *device)
{
	if (device->vdevice)
		iommufd_object_remove(iommufd, &device->vdevice->obj);
}

bool iommufd_viommu_virt_id(struct iommufd_viommu *viommu, uiommu_rid rid, uint64_t *virt_id)
{
	const struct iommufd_vdevice *vdevice;

	pthread_mutex_lock(&viommu->leaf);
	for (vdevice = viommu->vdevices; vdevice && vdevice->rid != rid;)
		vdevice = vdevice->next;
	if (vdevice)
		*virt_id = vdevice->virt_id;
	pthread_mutex_unlock(&viommu->leaf);
	return vdevice;
}

void iommufd_viommu_event(struct iommufd_viommu *viommu, const void *data, size_t len)
{
	pthread_mutex_lock(&viommu->leaf);
	if (viommu->events)
		iommufd_queue_event(viommu->events, data, len);
	pthread_mutex_unlock(&viommu->leaf);
}

/* ---- IOMMU_HW_QUEUE_ALLOC ---- */

int iommufd_hw_queue_alloc(struct iommufd_call *call)
{
	const struct iommu_hw_queue_alloc *alloc = &call->hw_queue_alloc;
	struct iommufd_viommu *viommu;

	if (alloc->flags || alloc->type == IOMMU_HW_QUEUE_TYPE_DEFAULT)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags or type");
	if (!alloc->length)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "length: 0");
	if (alloc->nesting_parent_iova + (alloc->length - 1) < alloc->nesting_parent_iova)
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "nesting_parent_iova + length");
	viommu = iommufd_get(call->iommufd, alloc->viommu_id, IOMMUFD_VIOMMU,
			     "viommu_id: no such vIOMMU");
	if (!viommu)
		return -ENOENT;
	iommufd_put(call->iommufd, &viommu->obj);
	/* None of the machines has an IOMMU that reads a guest's queues. */
	return unsupported("type: this IOMMU takes no queues of a guest's");
}
