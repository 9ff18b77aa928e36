/* SPDX-License-Identifier: MIT */
/*
 * Memory that a program maps through /dev/iommu (a vIOMMU's page): owns the pages and the offsets
 * by which they are asked for. Each mapping is a file of its own to whoever keeps mappings, and a
 * user of the page's owner, which therefore can't be destroyed meanwhile.
 *
 * Locks: vfio.lock, then iommufd.lock. Taking a mapping away can't fail.
 */
#include <errno.h>
#include <sys/mman.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

int iommufd_page_create(struct iommufd *iommufd, struct iommufd_object *owner, uint64_t length,
			struct iommufd_page **out)
{
	struct iommufd_page *page = uiommu_alloc(sizeof(*page)), **link = &iommufd->pages;

	if (!page)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	page->memory =
		mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page->memory == MAP_FAILED) {
		uiommu_free(page, sizeof(*page));
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	}
	page->iommufd = iommufd;
	page->owner = owner;
	page->length = length;
	/* The lowest offset that is free; the list is sorted. */
	while (*link && (*link)->offset - page->offset < length) {
		page->offset = (*link)->offset + (*link)->length;
		link = &(*link)->next;
	}
	page->next = *link;
	*link = page;
	*out = page;
	return 0;
}

void iommufd_page_destroy(struct iommufd_page *page)
{
	struct iommufd_page **link = &page->iommufd->pages;

	while (*link != page)
		link = &(*link)->next;
	*link = page->next;
	munmap(page->memory, page->length);
	uiommu_free(page, sizeof(*page));
}

static struct iommufd_page *find_page(struct iommufd *iommufd, uint64_t offset, uint64_t length)
{
	struct iommufd_page *page = iommufd->pages;

	while (page && page->offset != offset)
		page = page->next;
	return page && page->length == length && page->owner->ready ? page : NULL;
}

int iommufd_mmap(struct iommufd *iommufd, uint64_t length, int prot, int flags, uint64_t offset,
		 struct uiommu_vfio_mapping *mapping)
{
	struct uiommu_vfio *vfio = iommufd->vfio;
	int type = flags & MAP_TYPE;
	struct iommufd_page *page;
	int ret = 0;

	if (type != MAP_SHARED && type != MAP_SHARED_VALIDATE)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "must be MAP_SHARED");
	if (prot & PROT_EXEC)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EPERM, "PROT_EXEC");
	length = add_sat(length, VFIO_PAGE - 1) & ~(VFIO_PAGE - 1);
	*mapping = (struct uiommu_vfio_mapping){.fd = -1};
	pthread_mutex_lock(&vfio->lock);
	pthread_mutex_lock(&iommufd->lock);
	page = find_page(iommufd, offset, length);
	if (page)
		mapping->held = vfio_file_create(vfio, UIOMMU_VFIO_PAGE, page);
	if (mapping->held) {
		mapping->memory = page->memory;
		page->owner->users++;
		iommufd_get_ref(iommufd);
	} else {
		ret = page ? -ENOMEM
			   : vfio_refuse(UIOMMU_RULE_ARGUMENT, -ENXIO,
					 "offset or length: no page is mapped so");
	}
	pthread_mutex_unlock(&iommufd->lock);
	pthread_mutex_unlock(&vfio->lock);
	return ret;
}

void iommufd_page_unmapped(struct iommufd_page *page)
{
	struct iommufd *iommufd = page->iommufd;

	pthread_mutex_lock(&iommufd->lock);
	page->owner->users--;
	pthread_mutex_unlock(&iommufd->lock);
	iommufd_put_ref(iommufd);
}
