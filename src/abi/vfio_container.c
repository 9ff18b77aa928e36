/* SPDX-License-Identifier: MIT */
/*
 * Owns containers: which groups are in one, and the IOMMU that SET_IOMMU gave it.
 *
 * The IOMMU lives while a group is in the container; with the last group it goes, mappings and all,
 * and SET_IOMMU may be called anew. Locks: joining and leaving under vfio.lock; requests to the
 * IOMMU under the container's lock alone, so that mapping never waits for a device to be opened.
 */
#include <errno.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

struct vfio_container *vfio_container_create(struct uiommu_vfio *vfio)
{
	struct vfio_container *container = uiommu_alloc(sizeof(*container));

	if (!container) {
		vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
		return NULL;
	}
	pthread_mutex_init(&container->lock, NULL);
	container->vfio = vfio;
	container->number = vfio->next_container++;
	container->refs = 1;
	container->next = vfio->containers;
	vfio->containers = container;
	return container;
}

void vfio_container_put(struct vfio_container *container)
{
	struct vfio_container **link = &container->vfio->containers;

	if (--container->refs)
		return;
	while (*link != container)
		link = &(*link)->next;
	*link = container->next;
	pthread_mutex_destroy(&container->lock);
	uiommu_free(container, sizeof(*container));
}

int vfio_container_attach_group(struct vfio_container *container, struct vfio_group *group)
{
	int ret = 0;

	pthread_mutex_lock(&container->lock);
	if (container->iommu)
		ret = container->iommu->ops->attach(container->iommu, group);
	pthread_mutex_unlock(&container->lock);
	if (ret)
		return ret;
	container->refs++;
	container->groups++;
	group->container = container;
	return 0;
}

void vfio_container_detach_group(struct vfio_container *container, struct vfio_group *group)
{
	struct vfio_iommu *gone = NULL;

	pthread_mutex_lock(&container->lock);
	if (container->iommu)
		container->iommu->ops->detach(container->iommu, group);
	group->container = NULL;
	if (!--container->groups) {
		gone = container->iommu;
		container->iommu = NULL;
	}
	pthread_mutex_unlock(&container->lock);
	if (gone)
		gone->ops->destroy(gone);
	vfio_container_put(container);
}

/* ---- requests ---- */

static long check_extension(struct vfio_container *container, uint64_t extension)
{
	long ret;

	pthread_mutex_lock(&container->vfio->lock);
	if (container->iommu)
		ret = container->iommu->ops->extension(container->vfio, container->iommu,
						       extension);
	else
		ret = vfio_iommu_extension(container->vfio, !container->groups, extension);
	pthread_mutex_unlock(&container->vfio->lock);
	return ret;
}

/* Attach every group of the container to a new IOMMU, or none. */
static int attach_groups(struct vfio_container *container, struct vfio_iommu *iommu)
{
	struct uiommu_vfio *vfio = container->vfio;
	size_t done;
	int ret = 0;

	for (done = 0; done < vfio->group_count && !ret; done++)
		if (vfio->groups[done].container == container)
			ret = iommu->ops->attach(iommu, &vfio->groups[done]);
	if (!ret)
		return 0;
	/* The one that failed has nothing attached. */
	for (done--; done--;)
		if (vfio->groups[done].container == container)
			iommu->ops->detach(iommu, &vfio->groups[done]);
	return ret;
}

static int set_iommu(struct vfio_container *container, uint64_t type)
{
	struct uiommu_vfio *vfio = container->vfio;
	const struct vfio_iommu_ops *driver;
	struct vfio_iommu *iommu;
	int ret;

	if (!container->groups)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "the container has no group yet (SET_CONTAINER)");
	if (container->iommu)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "the container has an IOMMU already");
	driver = vfio_iommu_driver(vfio, type);
	if (!driver && vfio_iommu_extension(vfio, false, type) > 0)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "an extension, but no type of IOMMU");
	if (!driver)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENODEV, vfio_iommu_types(vfio));
	ret = driver->create(vfio, type, &iommu);
	if (ret)
		return ret;
	ret = attach_groups(container, iommu);
	if (ret) {
		iommu->ops->destroy(iommu);
		return ret;
	}
	pthread_mutex_lock(&container->lock);
	container->iommu = iommu;
	pthread_mutex_unlock(&container->lock);
	return 0;
}

long vfio_container_ioctl(struct vfio_container *container, uint32_t request, uint64_t arg)
{
	long ret;

	switch (request) {
	case VFIO_GET_API_VERSION:
		return VFIO_API_VERSION;
	case VFIO_CHECK_EXTENSION:
		return check_extension(container, arg);
	case VFIO_SET_IOMMU:
		pthread_mutex_lock(&container->vfio->lock);
		ret = set_iommu(container, arg);
		pthread_mutex_unlock(&container->vfio->lock);
		return ret;
	}
	pthread_mutex_lock(&container->lock);
	if (container->iommu)
		ret = container->iommu->ops->ioctl(container->iommu, request, arg);
	else
		ret = vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				  "the container has no IOMMU yet (VFIO_SET_IOMMU)");
	pthread_mutex_unlock(&container->lock);
	return ret;
}
