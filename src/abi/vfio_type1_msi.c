/* SPDX-License-Identifier: MIT */
/*
 * Doorbells where the program says (the 2016 series, <uiommu/linux/vfio_msi_2016.h>), for machines
 * whose platform asks for it.
 *
 * The range is a reserved region of type sw-msi whose owner is the container instead of a device:
 * the engine places doorbells in it as in any other, nobody can map there, and it shows in every
 * report. At most one; it can't be taken back while a doorbell in it is used. The container's lock.
 */
#include <errno.h>

#include <uiommu/linux/vfio_msi_2016.h>

#include "abi/vfio_private.h"

int vfio_type1_msi_caps(const struct vfio_type1 *type1, struct vfio_caps *caps)
{
	const struct uiommu_platform_facts *facts = type1->iommu.vfio->facts;
	struct {
		uint64_t size, alignment;
	} body = {facts->doorbell_count * VFIO_PAGE, VFIO_PAGE};

	return vfio_caps_add(caps, VFIO_IOMMU_TYPE1_INFO_CAP_MSI_RESV, &body, sizeof(body));
}

int vfio_type1_msi_map(struct vfio_type1 *type1, const struct vfio_iommu_type1_dma_map *map)
{
	uint64_t least = type1->iommu.vfio->facts->doorbell_count * VFIO_PAGE;
	struct uiommu_range range;

	if (map->flags != VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA || map->vaddr)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "flags: RESERVED_MSI_IOVA goes alone, with vaddr 0");
	if (!range_from(map->iova, map->size, &range))
		return vfio_refuse(map->size ? UIOMMU_RULE_WRAP : UIOMMU_RULE_EMPTY,
				   map->size ? -EOVERFLOW : -EINVAL, "iova + size");
	if ((map->iova | map->size) & (VFIO_PAGE - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "iova or size", range,
				     (struct uiommu_range){0, VFIO_PAGE - 1});
	if (map->size < least)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				     "size: less than the MSI_RESV capability asks for", range,
				     (struct uiommu_range){0, least - 1});
	if (range_valid(type1->msi))
		return uiommu_refuse(UIOMMU_RULE_BUSY, -EBUSY, "the range given before", range,
				     type1->msi);
	if (vfio_type1_blocked(type1, range))
		return -EINVAL;
	if (uiommu_ioas_reserve(type1->iommu.ioas, range, UIOMMU_RESV_SW_MSI, type1,
				"range for MSIs"))
		return uiommu_last_refusal()->error == -ENOMEM ? -ENOMEM : -EEXIST;
	type1->msi = range;
	return 0;
}

int vfio_type1_msi_unmap(struct vfio_type1 *type1, struct uiommu_range range, uint64_t *bytes)
{
	if (!range_valid(type1->msi) || !range_overlaps(type1->msi, range))
		return 0;
	if (!range_contains(range, type1->msi))
		return uiommu_refuse(UIOMMU_RULE_SPLIT, -EINVAL, "the range for MSIs", range,
				     type1->msi);
	/* Asked and done at once, for an interrupt may be set up meanwhile. */
	if (uiommu_ioas_unreserve_unused(type1->iommu.ioas, type1))
		return uiommu_refuse(UIOMMU_RULE_BUSY, -EBUSY, "interrupts use the range for MSIs",
				     range, type1->msi);
	*bytes += range_length(type1->msi);
	type1->msi = UIOMMU_RANGE_NONE;
	return 0;
}
