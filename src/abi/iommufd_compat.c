/* SPDX-License-Identifier: MIT */
/*
 * /dev/iommu as a VFIO container: type 1's requests on one address space of the context, with the
 * differences that the kernel's emulation has: no dirty pages, no limit of mappings, UNMAP of a
 * part is ENOENT, and type 1's first version cuts mappings instead of widening the range.
 *
 * Which address space is IOMMU_VFIO_IOAS' word, or was made when a group joined. No state of its
 * own.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

struct iommufd_ioas *iommufd_compat_ioas(struct iommufd *iommufd)
{
	struct iommufd_ioas *ioas = iommufd->compat;

	if (ioas)
		return ioas;
	ioas = iommufd_ioas_create_locked(iommufd);
	if (!ioas)
		return NULL;
	iommufd_object_finish(&ioas->obj);
	iommufd->compat = ioas;
	return ioas;
}

/* The address space, held; NULL: -ENODEV. */
static struct iommufd_ioas *get_compat(struct iommufd *iommufd)
{
	struct iommufd_ioas *ioas;

	pthread_mutex_lock(&iommufd->lock);
	ioas = iommufd->compat;
	if (ioas)
		iommufd_hold(iommufd, &ioas->obj);
	pthread_mutex_unlock(&iommufd->lock);
	if (!ioas)
		vfio_refuse(UIOMMU_RULE_ORDER, -ENODEV,
			    "no address space yet (SET_CONTAINER, or IOMMU_VFIO_IOAS)");
	return ioas;
}

/* ---- IOMMU_VFIO_IOAS ---- */

static int vfio_ioas_locked(struct iommufd_call *call)
{
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_ioas *ioas;

	switch (call->vfio_ioas.op) {
	case IOMMU_VFIO_IOAS_GET:
		if (!iommufd->compat)
			return vfio_refuse(UIOMMU_RULE_ORDER, -ENODEV, "none is set");
		call->vfio_ioas.ioas_id = iommufd->compat->obj.id;
		return 0;
	case IOMMU_VFIO_IOAS_SET:
		ioas = iommufd_find(iommufd, call->vfio_ioas.ioas_id, IOMMUFD_IOAS);
		if (!ioas)
			return iommufd_refuse_id("ioas_id: no such IOAS");
		iommufd->compat = ioas;
		return 0;
	case IOMMU_VFIO_IOAS_CLEAR:
		iommufd->compat = NULL;
		return 0;
	default:
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "op: an unknown one");
	}
}

int iommufd_vfio_ioas(struct iommufd_call *call)
{
	int ret;

	if (call->vfio_ioas.__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "__reserved: must be 0");
	pthread_mutex_lock(&call->iommufd->lock);
	ret = vfio_ioas_locked(call);
	pthread_mutex_unlock(&call->iommufd->lock);
	if (!ret && call->vfio_ioas.op == IOMMU_VFIO_IOAS_GET)
		ret = iommufd_respond(call);
	return ret;
}

/* ---- CHECK_EXTENSION, SET_IOMMU ---- */

static long coherent(struct iommufd *iommufd)
{
	struct iommufd_ioas *ioas;
	long ret = -ENODEV;

	pthread_mutex_lock(&iommufd->lock);
	ioas = iommufd->compat;
	/* Of its tables; so it is said of a space without any, too. */
	if (ioas)
		ret = !ioas->hwpts || iommufd->vfio->facts->coherent;
	pthread_mutex_unlock(&iommufd->lock);
	if (!ioas)
		vfio_refuse(UIOMMU_RULE_ORDER, -ENODEV, "no address space yet");
	return ret;
}

static long extension(struct iommufd *iommufd, uint64_t number)
{
	switch (number) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_UNMAP_ALL:
	case VFIO_NOIOMMU_IOMMU:
		return 1;
	case VFIO_DMA_CC_IOMMU:
		return coherent(iommufd);
	default:
		return 0;
	}
}

static long set_iommu(struct iommufd *iommufd, uint64_t type)
{
	struct iommufd_call call = {
		.iommufd = iommufd,
		.vfio = iommufd->vfio,
		.option = {.op = IOMMU_OPTION_OP_SET},
	};
	struct iommufd_ioas *ioas;
	long ret = 0;

	if (type != VFIO_TYPE1_IOMMU && type != VFIO_TYPE1v2_IOMMU)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL,
				   "iommufd as a container is of type1 or type1v2 only");
	ioas = get_compat(iommufd);
	if (!ioas)
		return -ENODEV;
	/* The first version may unmap any part, so everything has to be in small pages. */
	call.option.object_id = ioas->obj.id;
	if (type == VFIO_TYPE1_IOMMU)
		ret = iommufd_ioas_option(&call);
	iommufd_put(iommufd, &ioas->obj);
	return ret;
}

/* ---- VFIO_IOMMU_GET_INFO ---- */

static int add_ranges(const struct iommufd_ioas *ioas, struct vfio_caps *caps)
{
	uint32_t avail = UINT32_MAX;
	int ret = vfio_caps_add(caps, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, &avail, sizeof(avail));

	return ret ? ret : vfio_iommu_add_ranges(ioas->ioas, caps);
}

static long get_info(struct iommufd *iommufd, uint64_t arg)
{
	struct vfio_iommu_type1_info info = {0};
	struct iommufd_ioas *ioas;
	struct vfio_caps caps;
	size_t size;
	int ret;

	ret = vfio_copy_sized(iommufd->vfio, &info, arg,
			      offsetof(struct vfio_iommu_type1_info, cap_offset));
	if (ret)
		return ret;
	size = info.argsz < sizeof(info) ? info.argsz : sizeof(info);
	ioas = get_compat(iommufd);
	if (!ioas)
		return -ENODEV;
	info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
	info.iova_pgsizes = vfio_iommu_page_sizes(iommufd->vfio, ioas->ioas);
	vfio_caps_init(&caps, sizeof(info));
	ret = add_ranges(ioas, &caps);
	if (!ret)
		ret = vfio_caps_out(iommufd->vfio, &caps, arg, &info.argsz, &info.cap_offset);
	/* What is needed, whether there was less or more. */
	info.argsz = caps.base + caps.size;
	vfio_caps_free(&caps);
	iommufd_put(iommufd, &ioas->obj);
	return ret ? ret : vfio_copy_out(iommufd->vfio, arg, &info, size);
}

/* ---- mapping ---- */

static long map_dma(struct iommufd *iommufd, uint64_t arg)
{
	const uint32_t known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	struct vfio_iommu_type1_dma_map map;
	struct iommufd_ioas *ioas;
	uint64_t iova;
	int ret;

	ret = vfio_copy_sized(iommufd->vfio, &map, arg, sizeof(map));
	if (ret)
		return ret;
	if ((map.flags & ~known) || !(map.flags & known))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "flags: READ, WRITE or both, and nothing else");
	ioas = get_compat(iommufd);
	if (!ioas)
		return -ENODEV;
	iova = map.iova;
	ret = iommufd_map_user(ioas, map.vaddr, map.size,
			       (map.flags & VFIO_DMA_MAP_FLAG_READ ? UIOMMU_READ : 0) |
				       (map.flags & VFIO_DMA_MAP_FLAG_WRITE ? UIOMMU_WRITE : 0),
			       true, &iova);
	iommufd_put(iommufd, &ioas->obj);
	return ret;
}

/* What is refused before anything is looked for: the program's size stays as it is. */
static int prepare_unmap(struct iommufd *iommufd, struct iommufd_ioas *ioas,
			 const struct vfio_iommu_type1_dma_unmap *request)
{
	struct uiommu_range range;
	int ret;

	if (request->flags & VFIO_DMA_UNMAP_FLAG_ALL)
		return request->iova || request->size
			       ? vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
					     "flags: ALL goes with iova 0 and size 0")
			       : 0;
	if (!ioas->small_pages || !range_from(request->iova, request->size, &range))
		return 0;
	ret = iommufd_cut(iommufd, ioas, range.first);
	if (!ret && range.last != UINT64_MAX)
		ret = iommufd_cut(iommufd, ioas, range.last + 1);
	return ret;
}

static int unmap(struct iommufd *iommufd, struct iommufd_ioas *ioas,
		 const struct vfio_iommu_type1_dma_unmap *request, uint64_t *bytes)
{
	struct uiommu_range range;

	if (request->flags & VFIO_DMA_UNMAP_FLAG_ALL)
		return iommufd_unmap_all(iommufd, ioas, bytes);
	if (!request->size)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "size: 0");
	if (!range_from(request->iova, request->size, &range))
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova + size");
	return iommufd_unmap_range(iommufd, ioas, range, bytes);
}

static long unmap_dma(struct iommufd *iommufd, uint64_t arg)
{
	struct vfio_iommu_type1_dma_unmap request;
	struct iommufd_ioas *ioas;
	uint64_t bytes = 0;
	int ret, copied;

	ret = vfio_copy_sized(iommufd->vfio, &request, arg, sizeof(request));
	if (ret)
		return ret;
	if (request.flags & ~(uint32_t)VFIO_DMA_UNMAP_FLAG_ALL)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: an unknown one");
	ioas = get_compat(iommufd);
	if (!ioas)
		return -ENODEV;
	ret = prepare_unmap(iommufd, ioas, &request);
	if (ret) {
		iommufd_put(iommufd, &ioas->obj);
		return ret;
	}
	ret = unmap(iommufd, ioas, &request, &bytes);
	iommufd_put(iommufd, &ioas->obj);
	/* The size is told of these failures too. */
	request.size = bytes;
	copied = vfio_copy_out(iommufd->vfio, arg, &request, sizeof(request));
	return copied ? copied : ret;
}

long iommufd_compat_ioctl(struct iommufd *iommufd, uint32_t request, uint64_t arg)
{
	switch (request) {
	case VFIO_GET_API_VERSION:
		return VFIO_API_VERSION;
	case VFIO_CHECK_EXTENSION:
		return extension(iommufd, arg);
	case VFIO_SET_IOMMU:
		return set_iommu(iommufd, arg);
	case VFIO_IOMMU_GET_INFO:
		return get_info(iommufd, arg);
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(iommufd, arg);
	case VFIO_IOMMU_UNMAP_DMA:
		return unmap_dma(iommufd, arg);
	default:
		return -ENOTTY;
	}
}
