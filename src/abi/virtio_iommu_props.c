/* SPDX-License-Identifier: MIT */
/*
 * A platform's reserved regions as RESV_MEM properties (virtio 1.3, 5.13.6.6 "PROBE properties"):
 * one MSI property at most, no two that overlap.
 *
 * The first region for hardware doorbells is the MSI property, or without one the first window in
 * which software places doorbells: those stand in the space behind the device, which lets what is
 * written to them pass, so that the driver need not map what it cannot know. Others are merged, and
 * cut where they overlap it. Nothing here allocates, locks or fails.
 */
#include <endian.h>
#include <linux/virtio_iommu.h>
#include <string.h>

#include "abi/virtio_iommu.h"
#include "util/range.h"

static bool reported(const struct uiommu_resv_region *region)
{
	return range_valid(region->range) && region->type != UIOMMU_RESV_DIRECT_RELAXABLE;
}

/* Put a range into the ascending list, joined with those it touches. */
static size_t insert(struct viommu_property *list, size_t count, struct uiommu_range range)
{
	size_t at = 0, end;

	while (at < count && list[at].range.last < range.first &&
	       list[at].range.last + 1 != range.first)
		at++;
	for (end = at; end < count && (list[end].range.first <= range.last ||
				       list[end].range.first - 1 == range.last);
	     end++) {
		if (list[end].range.first < range.first)
			range.first = list[end].range.first;
		if (list[end].range.last > range.last)
			range.last = list[end].range.last;
	}
	memmove(&list[at + 1], &list[end], (count - end) * sizeof(*list));
	list[at] = (struct viommu_property){range, false};
	return count + 1 - (end - at);
}

/* Cut the MSI range out of the list and put it in as what it is. */
static size_t insert_msi(struct viommu_property *list, size_t count, struct uiommu_range msi)
{
	size_t at = 0;

	while (at < count && list[at].range.last < msi.first)
		at++;
	/* What is left of the first one that it overlaps stays before it. */
	if (at < count && list[at].range.first < msi.first) {
		struct viommu_property tail = list[at];

		list[at].range.last = msi.first - 1;
		at++;
		if (tail.range.last > msi.last) {
			memmove(&list[at + 1], &list[at], (count - at) * sizeof(*list));
			tail.range.first = msi.last + 1;
			list[at] = tail;
			count++;
		}
	}
	while (at < count && list[at].range.first <= msi.last) {
		if (list[at].range.last > msi.last) {
			list[at].range.first = msi.last + 1;
			break;
		}
		count--;
		memmove(&list[at], &list[at + 1], (count - at) * sizeof(*list));
	}
	memmove(&list[at + 1], &list[at], (count - at) * sizeof(*list));
	list[at] = (struct viommu_property){msi, true};
	return count + 1;
}

/* The region that is the MSI property, or NULL. */
static const struct uiommu_resv_region *find_msi(const struct uiommu_resv_region *regions,
						 size_t count)
{
	const struct uiommu_resv_region *placed = NULL;

	for (size_t i = 0; i < count; i++) {
		if (!reported(&regions[i]))
			continue;
		if (regions[i].type == UIOMMU_RESV_MSI)
			return &regions[i];
		if (!placed && regions[i].type == UIOMMU_RESV_SW_MSI)
			placed = &regions[i];
	}
	return placed;
}

size_t viommu_properties(const struct uiommu_resv_region *regions, size_t count,
			 struct viommu_property *list)
{
	const struct uiommu_resv_region *msi = find_msi(regions, count);
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (reported(&regions[i]) && &regions[i] != msi)
			n = insert(list, n, regions[i].range);
	return msi ? insert_msi(list, n, msi->range) : n;
}

size_t viommu_properties_size(size_t count)
{
	return count * sizeof(struct virtio_iommu_probe_resv_mem);
}

void viommu_properties_write(const struct viommu_property *list, size_t count, void *buf,
			     size_t len)
{
	memset(buf, 0, len);
	for (size_t i = 0; i < count; i++) {
		const struct virtio_iommu_probe_resv_mem property = {
			.head.type = htole16(VIRTIO_IOMMU_PROBE_T_RESV_MEM),
			.head.length = htole16(sizeof(property) - sizeof(property.head)),
			.subtype = list[i].msi ? VIRTIO_IOMMU_RESV_MEM_T_MSI
					       : VIRTIO_IOMMU_RESV_MEM_T_RESERVED,
			.start = htole64(list[i].range.first),
			.end = htole64(list[i].range.last),
		};

		memcpy((char *)buf + i * sizeof(property), &property, sizeof(property));
	}
}
