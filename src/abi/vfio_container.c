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
	if (container->type1)
		ret = vfio_type1_attach(container->type1, group);
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
	struct vfio_type1 *gone = NULL;

	pthread_mutex_lock(&container->lock);
	if (container->type1)
		vfio_type1_detach(container->type1, group);
	group->container = NULL;
	if (!--container->groups) {
		gone = container->type1;
		container->type1 = NULL;
	}
	pthread_mutex_unlock(&container->lock);
	vfio_type1_destroy(gone);
	vfio_container_put(container);
}

/* ---- requests ---- */

static long check_extension(struct vfio_container *container, uint64_t extension)
{
	bool set;

	pthread_mutex_lock(&container->lock);
	set = container->type1;
	pthread_mutex_unlock(&container->lock);
	switch (extension) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_UNMAP_ALL:
		return 1;
	case VFIO_UPDATE_VADDR:
		return set;
	case VFIO_DMA_CC_IOMMU:
		return set && container->vfio->facts->coherent;
	default:
		return 0;
	}
}

/* Attach every group of the container to a new IOMMU, or none. */
static int attach_groups(struct vfio_container *container, struct vfio_type1 *type1)
{
	struct uiommu_vfio *vfio = container->vfio;
	size_t done;
	int ret = 0;

	for (done = 0; done < vfio->group_count && !ret; done++)
		if (vfio->groups[done].container == container)
			ret = vfio_type1_attach(type1, &vfio->groups[done]);
	if (!ret)
		return 0;
	/* The one that failed has nothing attached. */
	for (done--; done--;)
		if (vfio->groups[done].container == container)
			vfio_type1_detach(type1, &vfio->groups[done]);
	return ret;
}

static int set_iommu(struct vfio_container *container, uint64_t type)
{
	struct uiommu_vfio *vfio = container->vfio;
	struct vfio_type1 *type1;
	int ret;

	if (!container->groups)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "the container has no group yet (SET_CONTAINER)");
	if (container->type1)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "the container has an IOMMU already");
	if (type == VFIO_UNMAP_ALL)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "an extension, but no type of IOMMU");
	if (type != VFIO_TYPE1_IOMMU && type != VFIO_TYPE1v2_IOMMU)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENODEV,
				   "this machine has IOMMUs of type1 and type1v2 only");
	if (!vfio->facts->isolated_msi && !vfio->unsafe_interrupts)
		return vfio_refuse(UIOMMU_RULE_ISOLATION, -EPERM, vfio->facts->name);
	ret = vfio_type1_create(vfio, type == VFIO_TYPE1v2_IOMMU, &type1);
	if (ret)
		return ret;
	ret = attach_groups(container, type1);
	if (ret) {
		vfio_type1_destroy(type1);
		return ret;
	}
	pthread_mutex_lock(&container->lock);
	container->type1 = type1;
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
	if (container->type1)
		ret = vfio_type1_ioctl(container->type1, request, arg);
	else
		ret = vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				  "the container has no IOMMU yet (VFIO_SET_IOMMU)");
	pthread_mutex_unlock(&container->lock);
	return ret;
}
