/* SPDX-License-Identifier: MIT */
/*
 * The two ways by which programs map PAMU's MSI banks themselves: MAP_MSI_BANK and UNMAP_MSI_BANK,
 * and the descriptors whose mmap MAP_DMA takes. (Where the system maps them, the address space does
 * that when an interrupt is set up: <uiommu/space.h>, "doorbells".)
 *
 * A bank is mapped as its page at the start of a window, an area with UIOMMU_MMIO; the list of
 * banks that Linux keeps is the list of areas with a tag, which says what IOVA the program gave, so
 * that UNMAP_MSI_BANK knows it by that. All under the container's lock.
 */
#include <errno.h>

#include <uiommu/linux/vfio_pamu.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

/* Never NULL, also for IOVA 0; apertures end far below 2^63. */
static void *tag_of(uint64_t iova)
{
	return (void *)(uintptr_t)(iova << 1 | 1);
}

bool vfio_pamu_is_bank(const struct uiommu_area *area, uint64_t *iova)
{
	*iova = (uintptr_t)area->tag >> 1;
	return area->tag != NULL;
}

static const struct uiommu_doorbell *find_bank(const struct uiommu_vfio *vfio, uint64_t index)
{
	const struct uiommu_platform_facts *facts = vfio->facts;

	if (index < facts->pamu.banks && index < facts->doorbell_count)
		return &facts->doorbells[index];
	vfio_refuse(UIOMMU_RULE_ARGUMENT, -ENODEV, "no MSI bank has this index");
	return NULL;
}

/* ---- by request ---- */

/* The kernel's window_enable() for the window that iova lies in. */
static int enable_window(struct vfio_pamu *pamu, const struct uiommu_doorbell *bank, uint64_t iova,
			 int prot)
{
	struct uiommu_range page, asked = {iova, iova};
	struct uiommu_area area;
	int ret;

	if (!pamu->window)
		return vfio_refuse(UIOMMU_RULE_ORDER, -ENODEV,
				   "the aperture has no windows yet (SET_ATTR GEOMETRY, then "
				   "WINDOWS)");
	if (!range_contains(pamu->aperture, asked))
		return uiommu_refuse_reserved(-EINVAL, "the aperture ends (SET_ATTR GEOMETRY)",
					      asked, pamu->aperture, UIOMMU_RESV_APERTURE);
	page.first = iova - ((iova - pamu->aperture.first) & (pamu->window - 1));
	page.last = page.first + (pamu->window - 1);
	if (!uiommu_ioas_find(pamu->iommu.ioas, page.first, &area) && area.range.first <= page.last)
		return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EBUSY, "what is mapped in this window",
				     asked, area.range);
	page.last = page.first + (VFIO_PAGE - 1);
	ret = uiommu_ioas_map(pamu->iommu.ioas, page, bank->range.first, prot | UIOMMU_MMIO,
			      tag_of(iova));
	return ret;
}

long vfio_pamu_map_bank(struct vfio_pamu *pamu, uint64_t arg)
{
	const struct uiommu_doorbell *bank;
	struct vfio_pamu_msi_bank_map map;
	int prot, ret;

	ret = vfio_copy_sized(pamu->iommu.vfio, &map, arg, sizeof(map));
	if (ret)
		return ret;
	prot = (map.flags & VFIO_DMA_MAP_FLAG_READ ? UIOMMU_READ : 0) |
	       (map.flags & VFIO_DMA_MAP_FLAG_WRITE ? UIOMMU_WRITE : 0);
	if (!prot)
		return vfio_refuse(UIOMMU_RULE_PERMISSION, -EINVAL,
				   "flags: neither READ nor WRITE");
	bank = find_bank(pamu->iommu.vfio, map.msi_bank_index);
	return bank ? enable_window(pamu, bank, map.iova, prot) : -ENODEV;
}

long vfio_pamu_unmap_bank(struct vfio_pamu *pamu, uint64_t arg)
{
	struct vfio_pamu_msi_bank_unmap unmap;
	uint64_t at = pamu->aperture.first, iova, bytes;
	struct uiommu_area area;
	int ret;

	ret = vfio_copy_sized(pamu->iommu.vfio, &unmap, arg, sizeof(unmap));
	if (ret)
		return ret;
	for (; !uiommu_ioas_find(pamu->iommu.ioas, at, &area); at = area.range.last + 1)
		if (vfio_pamu_is_bank(&area, &iova) && iova == unmap.iova)
			return uiommu_ioas_unmap(pamu->iommu.ioas, area.range, &bytes, NULL, NULL);
	return uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -EINVAL, "no bank was mapped at this iova",
			     (struct uiommu_range){unmap.iova, unmap.iova}, UIOMMU_RANGE_NONE);
}

/* ---- by descriptor ---- */

static int open_bank(struct uiommu_vfio *vfio, const struct vfio_group *group,
		     const struct uiommu_doorbell *bank, struct uiommu_vfio_file **out)
{
	if (!group->container || !group->container->iommu)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "the group's container has no IOMMU yet (VFIO_SET_IOMMU)");
	*out = vfio_file_create(vfio, UIOMMU_VFIO_MSI_BANK, (void *)(uintptr_t)bank);
	return *out ? 0 : -ENOMEM;
}

long vfio_pamu_bank_fd(struct uiommu_vfio *vfio, struct vfio_group *group, uint64_t index)
{
	const struct uiommu_doorbell *bank;
	struct uiommu_vfio_file *file = NULL;
	int ret;

	if (!(vfio->facts->vfio_types & UIOMMU_VFIO_PAMU))
		return -ENOTTY;
	if (vfio->facts->pamu.msi != UIOMMU_PAMU_MMAP)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENOTTY,
				   "here banks have no descriptors; see msi=mmap");
	bank = find_bank(vfio, index);
	if (!bank)
		return -ENODEV;
	if (!vfio->host.install)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EMFILE,
				   "the host makes no descriptors");
	pthread_mutex_lock(&vfio->lock);
	ret = open_bank(vfio, group, bank, &file);
	pthread_mutex_unlock(&vfio->lock);
	if (ret)
		return ret;
	ret = vfio->host.install(vfio->host.ctx, file);
	if (ret < 0) {
		uiommu_vfio_release(file);
		vfio_refuse(UIOMMU_RULE_LIMIT, ret, "no descriptor for the bank");
	}
	return ret;
}
