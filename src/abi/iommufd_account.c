/* SPDX-License-Identifier: MIT */
/*
 * What is charged to RLIMIT_MEMLOCK, if that is asked for: pages of memory that the kernel would
 * pin.
 *
 * Invariants: what one MAP or MAP_FILE shows has one struct iommufd_memory, the tag of its areas
 * and of all their copies; it goes with the last. A page of it is charged once, from the first that
 * needs it to the last: an area needs its pages while its address space has a page table, and an
 * access those that it holds. Whether an area's pages are needed changes under its address space's
 * pins_lock alone, so that each need is taken back just once.
 *
 * Lock: uiommu_vfio.account_lock, a leaf. Taking back can't fail. Nothing here does anything for
 * areas without a tag, of which there are others only where the limit is enforced.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"
#include "util/range.h"

struct iommufd_memory {
	size_t areas;
	uint64_t first; /* the address of its first page */
	uint64_t pages;
	bool process;	/* charged to the process, as type 1 does, else to the user */
	uint32_t *need; /* how many need each page; NULL: nobody did so far */
};

int iommufd_memory_create(struct iommufd *iommufd, uint64_t addr, uint64_t length,
			  struct iommufd_memory **out)
{
	struct iommufd_memory *memory;

	*out = NULL;
	if (!iommufd->vfio->memlock)
		return 0;
	memory = uiommu_alloc(sizeof(*memory));
	if (!memory)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	memory->areas = 1;
	memory->first = addr & ~(VFIO_PAGE - 1);
	memory->pages = (addr + (length - 1) - memory->first) / VFIO_PAGE + 1;
	memory->process = iommufd->process_accounting;
	*out = memory;
	return 0;
}

void iommufd_memory_get(struct iommufd *iommufd, struct iommufd_memory *memory)
{
	if (!memory)
		return;
	pthread_mutex_lock(&iommufd->vfio->account_lock);
	memory->areas++;
	pthread_mutex_unlock(&iommufd->vfio->account_lock);
}

void iommufd_memory_put(struct iommufd *iommufd, struct iommufd_memory *memory)
{
	bool last;

	if (!memory)
		return;
	pthread_mutex_lock(&iommufd->vfio->account_lock);
	last = !--memory->areas;
	pthread_mutex_unlock(&iommufd->vfio->account_lock);
	if (!last)
		return;
	if (memory->need)
		uiommu_free(memory->need, memory->pages * sizeof(*memory->need));
	uiommu_free(memory, sizeof(*memory));
}

static _Atomic uint64_t *counter(struct uiommu_vfio *vfio, const struct iommufd_memory *memory)
{
	return memory->process ? &vfio->locked_pages : &vfio->user_pages;
}

/* account_lock held. */
static int need_locked(struct uiommu_vfio *vfio, struct iommufd_memory *memory, uint64_t page,
		       uint64_t last)
{
	uint64_t fresh = 0;
	int ret;

	for (uint64_t i = page; i <= last && memory->need; i++)
		fresh += !memory->need[i];
	if (!memory->need)
		fresh = last - page + 1;
	ret = vfio_charge_to(vfio, counter(vfio, memory), fresh);
	if (ret)
		return ret;
	if (!memory->need)
		memory->need = uiommu_alloc_array(memory->pages, sizeof(*memory->need));
	if (!memory->need) {
		atomic_fetch_sub(counter(vfio, memory), fresh);
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	}
	for (uint64_t i = page; i <= last; i++)
		memory->need[i]++;
	return 0;
}

int iommufd_memory_need(struct iommufd *iommufd, const struct uiommu_area *area)
{
	struct iommufd_memory *memory = area->tag;
	uint64_t page, last;
	int ret;

	if (!memory)
		return 0;
	page = (area->addr - memory->first) / VFIO_PAGE;
	last = (area->addr + (area->range.last - area->range.first) - memory->first) / VFIO_PAGE;
	pthread_mutex_lock(&iommufd->vfio->account_lock);
	ret = need_locked(iommufd->vfio, memory, page, last);
	pthread_mutex_unlock(&iommufd->vfio->account_lock);
	return ret;
}

void iommufd_memory_unneed(struct iommufd *iommufd, const struct uiommu_area *area)
{
	struct iommufd_memory *memory = area->tag;
	uint64_t page, last, gone = 0;

	if (!memory)
		return;
	page = (area->addr - memory->first) / VFIO_PAGE;
	last = (area->addr + (area->range.last - area->range.first) - memory->first) / VFIO_PAGE;
	pthread_mutex_lock(&iommufd->vfio->account_lock);
	for (uint64_t i = page; i <= last; i++)
		gone += !--memory->need[i];
	atomic_fetch_sub(counter(iommufd->vfio, memory), gone);
	pthread_mutex_unlock(&iommufd->vfio->account_lock);
}

/* ---- address spaces ---- */

/* The area that shows @at, or the next one, cut to the range. */
static bool next_area(struct iommufd_ioas *ioas, uint64_t at, struct uiommu_range range,
		      struct uiommu_area *area)
{
	if (uiommu_ioas_find(ioas->ioas, at, area) || area->range.first > range.last)
		return false;
	if (area->range.first < range.first) {
		area->addr += range.first - area->range.first;
		area->range.first = range.first;
	}
	if (area->range.last > range.last)
		area->range.last = range.last;
	return true;
}

void iommufd_ioas_unneed(struct iommufd_ioas *ioas, struct uiommu_range range)
{
	struct uiommu_area area;

	if (!ioas->iommufd->vfio->memlock)
		return;
	for (uint64_t at = range.first; next_area(ioas, at, range, &area);
	     at = area.range.last + 1) {
		iommufd_memory_unneed(ioas->iommufd, &area);
		if (area.range.last == range.last)
			break;
	}
}

int iommufd_ioas_need(struct iommufd_ioas *ioas, struct uiommu_range range,
		      int (*check)(struct iommufd *iommufd, const struct uiommu_area *area))
{
	struct uiommu_area area;
	int ret;

	for (uint64_t at = range.first; next_area(ioas, at, range, &area);
	     at = area.range.last + 1) {
		ret = check ? check(ioas->iommufd, &area) : 0;
		if (!ret)
			ret = iommufd_memory_need(ioas->iommufd, &area);
		if (ret && area.range.first > range.first)
			iommufd_ioas_unneed(
				ioas, (struct uiommu_range){range.first, area.range.first - 1});
		if (ret)
			return ret;
		if (area.range.last == range.last)
			break;
	}
	return 0;
}
