/* SPDX-License-Identifier: MIT */
/*
 * vIOMMUs: owns what a guest sees of an IOMMU: the names it has for devices (vDEVICEs), the HWPTs
 * made of its data, the queue of its events.
 *
 * Invariants: a vIOMMU rests on a nesting parent; vDEVICEs, nested HWPTs and event queues rest on
 * it. A device has one vDEVICE at most, which goes with the device's binding; its number then stays
 * used, so that it can't come to mean something else. The memory that a guest's queue lies in is
 * pinned while there is the queue.
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

	if (viommu->nesting->viommu_destroy)
		viommu->nesting->viommu_destroy(viommu);
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
	return nesting->viommu_create ? nesting->viommu_create(call, viommu) : 0;
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
	/* Stands where a number must not be used again. */
	static struct iommufd_object used = {.type = IOMMUFD_VDEVICE, .users = 1};
	uint32_t id;

	if (!device->vdevice)
		return;
	id = device->vdevice->obj.id;
	iommufd_object_remove(iommufd, &device->vdevice->obj);
	iommufd->objects[id - 1] = &used;
}

struct iommufd_device *iommufd_viommu_device(const struct iommufd_viommu *viommu, uint64_t virt_id)
{
	for (struct iommufd_vdevice *v = viommu->vdevices; v; v = v->next)
		if (v->virt_id == virt_id && v->obj.ready)
			return v->device;
	return NULL;
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

static void destroy_hw_queue(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct iommufd_hw_queue *queue = (struct iommufd_hw_queue *)object;
	struct iommufd_viommu *viommu = queue->viommu;

	if (queue->made && viommu->nesting->queue_destroy)
		viommu->nesting->queue_destroy(viommu, queue);
	if (queue->pinned)
		iommufd_unpin(viommu->parent->ioas, &queue->pin);
	viommu->obj.users--;
}

/* The pages that the queue lies in. Hardware reads it by physical addresses, so the kernel wants
 * these to follow one another; ours are the program's addresses. */
static int pin_queue(struct iommufd_hw_queue *queue)
{
	struct iommufd_ioas *ioas = queue->viommu->parent->ioas;
	struct uiommu_range pages = {queue->range.first & ~(VFIO_PAGE - 1),
				     queue->range.last | (VFIO_PAGE - 1)};
	struct uiommu_area area;
	uint64_t follows;
	int ret = iommufd_pin(ioas, pages, &queue->pin);

	if (ret)
		return ret;
	queue->pinned = true;
	ret = uiommu_ioas_find(ioas->ioas, pages.first, &area);
	follows = area.addr - area.range.first;
	while (!ret && area.range.last < pages.last) {
		ret = uiommu_ioas_find(ioas->ioas, area.range.last + 1, &area);
		if (area.addr - area.range.first != follows)
			return vfio_refuse(UIOMMU_RULE_SOURCE, -EFAULT,
					   "the queue's memory is not in one piece");
	}
	return ret;
}

static int hw_queue_locked(struct iommufd_call *call, struct uiommu_range range)
{
	struct iommufd_viommu *viommu =
		iommufd_find(call->iommufd, call->hw_queue_alloc.viommu_id, IOMMUFD_VIOMMU);
	struct iommufd_hw_queue *queue;
	int ret;

	if (!viommu)
		return iommufd_refuse_id("viommu_id: no such vIOMMU");
	if (!viommu->nesting->queue_type ||
	    viommu->nesting->queue_type != call->hw_queue_alloc.type)
		return unsupported("type: this IOMMU takes no such queues of a guest's");
	queue = iommufd_object_create_locked(call->iommufd, sizeof(*queue), IOMMUFD_HW_QUEUE,
					     destroy_hw_queue);
	if (!queue)
		return -ENOMEM;
	queue->viommu = viommu;
	viommu->obj.users++;
	call->made = &queue->obj;
	queue->index = call->hw_queue_alloc.index;
	queue->range = range;
	ret = pin_queue(queue);
	if (!ret)
		ret = viommu->nesting->queue_create(viommu, queue);
	queue->made = !ret;
	call->hw_queue_alloc.out_hw_queue_id = queue->obj.id;
	return ret;
}

int iommufd_hw_queue_alloc(struct iommufd_call *call)
{
	const struct iommu_hw_queue_alloc *alloc = &call->hw_queue_alloc;
	struct uiommu_range range;
	int ret;

	if (alloc->flags || alloc->type == IOMMU_HW_QUEUE_TYPE_DEFAULT)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags or type");
	if (!alloc->length)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "length: 0");
	if (!range_from(alloc->nesting_parent_iova, alloc->length, &range))
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "nesting_parent_iova + length");
	pthread_mutex_lock(&call->iommufd->lock);
	ret = hw_queue_locked(call, range);
	pthread_mutex_unlock(&call->iommufd->lock);
	return ret ? ret : iommufd_respond(call);
}
