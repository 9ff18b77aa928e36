/* SPDX-License-Identifier: MIT */
/*
 * Taking mappings of an iommufd's address space away: owns what keeps them there (pins of ranges
 * that hardware works on), and the kernel's rules of how far an unmapping goes: whole areas, in
 * their order, up to one that is cut or pinned.
 *
 * Lock: pins_lock, over the look at what is there and the unmapping, so that nothing is pinned or
 * cut in between; then the address space's. Cutting may want memory, unmapping does not.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"

/* ---- pins ---- */

/* The first pin in the range, or NULL. pins_lock held. */
static const struct iommufd_pin *pin_in(const struct iommufd_ioas *ioas, struct uiommu_range range)
{
	const struct iommufd_pin *first = NULL;

	for (const struct iommufd_pin *pin = ioas->pins; pin; pin = pin->next)
		if (range_overlaps(pin->range, range) &&
		    (!first || pin->range.first < first->range.first))
			first = pin;
	return first;
}

int iommufd_pin(struct iommufd_ioas *ioas, struct uiommu_range range, struct iommufd_pin *pin)
{
	bool covered;

	pthread_mutex_lock(&ioas->pins_lock);
	covered = iommufd_ioas_covers(ioas, range);
	if (covered) {
		pin->range = range;
		pin->next = ioas->pins;
		ioas->pins = pin;
	}
	pthread_mutex_unlock(&ioas->pins_lock);
	return covered ? 0
		       : uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -ENOENT, "the range", range,
				       UIOMMU_RANGE_NONE);
}

void iommufd_unpin(struct iommufd_ioas *ioas, struct iommufd_pin *pin)
{
	struct iommufd_pin **link = &ioas->pins;

	pthread_mutex_lock(&ioas->pins_lock);
	while (*link != pin)
		link = &(*link)->next;
	*link = pin->next;
	pthread_mutex_unlock(&ioas->pins_lock);
}

/* ---- unmapping ---- */

/* How much of the range can go before something is in the way, and what the kernel says of that. */
static int clip(struct iommufd_ioas *ioas, struct uiommu_range *range)
{
	struct uiommu_area area, cut;
	const struct iommufd_pin *pin;
	int ret = 0;

	if (!uiommu_ioas_find(ioas->ioas, range->first, &area) && area.range.first < range->first) {
		ret = uiommu_refuse(UIOMMU_RULE_SPLIT, -ENOENT, "an existing mapping", *range,
				    area.range);
		*range = UIOMMU_RANGE_NONE;
		return ret;
	}
	if (!uiommu_ioas_find(ioas->ioas, range->last, &cut) && cut.range.first <= range->last &&
	    cut.range.last > range->last) {
		ret = uiommu_refuse(UIOMMU_RULE_SPLIT, -ENOENT, "an existing mapping", *range,
				    cut.range);
		if (cut.range.first == range->first)
			*range = UIOMMU_RANGE_NONE;
		else
			range->last = cut.range.first - 1;
	}
	pin = range_valid(*range) ? pin_in(ioas, *range) : NULL;
	if (!pin || uiommu_ioas_find(ioas->ioas, pin->range.first, &area))
		return ret;
	ret = uiommu_refuse(UIOMMU_RULE_BUSY, -EBUSY, "hardware works on it", *range, pin->range);
	if (area.range.first <= range->first)
		*range = UIOMMU_RANGE_NONE;
	else
		range->last = area.range.first - 1;
	return ret;
}

int iommufd_unmap_range(struct iommufd *iommufd, struct iommufd_ioas *ioas,
			struct uiommu_range range, uint64_t *bytes)
{
	int ret, stopped;

	*bytes = 0;
	pthread_mutex_lock(&ioas->pins_lock);
	stopped = clip(ioas, &range);
	if (range_valid(range))
		iommufd_access_unmapping(ioas, range);
	ret = range_valid(range)
		      ? uiommu_ioas_unmap(ioas->ioas, range, bytes, iommufd_area_removed, ioas)
		      : 0;
	pthread_mutex_unlock(&ioas->pins_lock);
	if (*bytes)
		atomic_fetch_add_explicit(&iommufd->vfio->counters.unmaps, 1, memory_order_relaxed);
	/* Something was mapped there meanwhile, and cuts the range's end. */
	if (ret == -EINVAL)
		ret = -ENOENT;
	return stopped ? stopped : ret;
}

int iommufd_unmap_all(struct iommufd *iommufd, struct iommufd_ioas *ioas, uint64_t *bytes)
{
	return iommufd_unmap_range(iommufd, ioas, UIOMMU_RANGE_ALL, bytes);
}

/* Under pins_lock, as unmapping: a file's areas are counted before another can take them away. */
static int cut_locked(struct iommufd *iommufd, struct iommufd_ioas *ioas, uint64_t iova)
{
	struct uiommu_area area;
	int ret;

	if (uiommu_ioas_find(ioas->ioas, iova, &area) || area.range.first >= iova)
		return 0;
	if (iova & (uiommu_ioas_alignment(ioas->ioas) - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "iova or size", area.range,
				     UIOMMU_RANGE_NONE);
	ret = uiommu_ioas_split(ioas->ioas, iova);
	if (ret)
		return ret == -ENOENT ? 0 : ret;
	iommufd_file_count(iommufd, area.addr, 1);
	iommufd_memory_get(iommufd, area.tag);
	vfio_count_areas(iommufd->vfio, 1, 0);
	return 0;
}

int iommufd_cut(struct iommufd *iommufd, struct iommufd_ioas *ioas, uint64_t iova)
{
	int ret;

	pthread_mutex_lock(&ioas->pins_lock);
	ret = cut_locked(iommufd, ioas, iova);
	pthread_mutex_unlock(&ioas->pins_lock);
	return ret;
}

int iommufd_ioas_unmap(struct iommufd_call *call)
{
	struct iommufd_ioas *ioas =
		iommufd_get(call->iommufd, call->unmap.ioas_id, IOMMUFD_IOAS, "no such IOAS");
	uint64_t bytes = 0;
	struct uiommu_range range;
	int ret;

	if (!ioas)
		return -ENOENT;
	if (!call->unmap.iova && call->unmap.length == UINT64_MAX) {
		ret = iommufd_unmap_all(call->iommufd, ioas, &bytes);
	} else if (call->unmap.iova == UINT64_MAX || call->unmap.length == UINT64_MAX) {
		ret = vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova or length: 2^64 - 1");
	} else if (!call->unmap.length) {
		ret = vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "length: 0");
	} else if (!range_from(call->unmap.iova, call->unmap.length, &range)) {
		ret = vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova + length");
	} else {
		ret = iommufd_unmap_range(call->iommufd, ioas, range, &bytes);
		if (!ret && !bytes)
			ret = uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -ENOENT, NULL, range,
					    UIOMMU_RANGE_NONE);
	}
	iommufd_put(call->iommufd, &ioas->obj);
	call->unmap.length = bytes;
	return ret ? ret : iommufd_respond(call);
}
