/* SPDX-License-Identifier: MIT */
/*
 * Dirty pages of a type 1 IOMMU. With functions behind the IOMMU, which can write without telling,
 * the kernel reports every mapped page as dirty, always; so do we. What is left is the bitmap: one
 * bit a page, in words of 64 bits, the words that several mappings share merged with what the
 * program's memory already says. The container's lock is held.
 */
#include <errno.h>
#include <string.h>

#include "abi/vfio_private.h"

#define WORD_BITS UINT64_C(64)

/* The largest bitmap the kernel takes, and the end of a program's addresses on x86. */
#define MAX_BITMAP_SIZE (UINT64_C(1) << 28)
#define USER_END	((UINT64_C(1) << 47) - VFIO_PAGE)

static uint64_t bitmap_bytes(uint64_t bits)
{
	return (bits + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
}

int vfio_dirty_check_bitmap(const struct vfio_bitmap *bitmap, uint64_t size)
{
	uint64_t data = (uintptr_t)bitmap->data, pages;

	if (data > USER_END || bitmap->size > USER_END - data)
		return vfio_refuse(UIOMMU_RULE_ADDRESS, -EINVAL, "bitmap.data");
	if (!bitmap->pgsize)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "bitmap.pgsize: 0");
	pages = size >> __builtin_ctzll(bitmap->pgsize);
	if (!pages || !bitmap->size || bitmap->size > MAX_BITMAP_SIZE ||
	    bitmap->size < bitmap_bytes(pages))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "bitmap.size: too small, or more than 256 MiB");
	return 0;
}

/* Set @bits bits from bit @from on; what is below in the first word is kept, what is above in the
 * last is cleared. */
static int set_bits(const struct uiommu_vfio *vfio, uint64_t data, uint64_t from, uint64_t bits)
{
	uint64_t words[64], shift = from % WORD_BITS, left = bits + shift, kept = 0;
	uint64_t at = data + from / WORD_BITS * sizeof(uint64_t);
	int ret = 0;

	if (shift)
		ret = vfio_copy_in(vfio, &kept, at, sizeof(kept));
	while (left && !ret) {
		size_t n = 0;

		for (; n < sizeof(words) / sizeof(words[0]) && left; n++) {
			words[n] = left >= WORD_BITS ? UINT64_MAX : (UINT64_C(1) << left) - 1;
			left -= left >= WORD_BITS ? WORD_BITS : left;
			if (shift)
				words[n] = (words[n] & (UINT64_MAX << shift)) | kept;
			shift = 0;
		}
		ret = vfio_copy_out(vfio, at, words, n * sizeof(words[0]));
		at += n * sizeof(words[0]);
	}
	return ret;
}

int vfio_dirty_report(struct vfio_type1 *type1, const struct vfio_bitmap *bitmap,
		      struct uiommu_range range, uint64_t *done, bool *any)
{
	uint64_t iova = range.first, page = vfio_type1_page(type1);
	struct uiommu_area area;

	*any = false;
	while (!uiommu_ioas_find(type1->iommu.ioas, iova, &area) &&
	       area.range.first <= range.last) {
		int ret = set_bits(type1->iommu.vfio, (uintptr_t)bitmap->data,
				   (area.range.first - range.first) / page,
				   range_length(area.range) / page);

		if (ret)
			return ret;
		*any = true;
		*done = area.range.last;
		if (area.range.last == UINT64_MAX)
			break;
		iova = area.range.last + 1;
	}
	return 0;
}

/* ---- VFIO_IOMMU_DIRTY_PAGES ---- */

static int start(struct vfio_type1 *type1)
{
	uint64_t iova = 0, page = vfio_type1_page(type1);
	struct uiommu_area area;

	/* The kernel makes a bitmap for each mapping, of at most 2^31 - 1 bits. */
	while (!type1->tracking && !uiommu_ioas_find(type1->iommu.ioas, iova, &area)) {
		if (range_length(area.range) / page > INT32_MAX)
			return uiommu_refuse(UIOMMU_RULE_LIMIT, -EINVAL,
					     "too large to track its dirty pages", area.range,
					     UIOMMU_RANGE_NONE);
		if (area.range.last == UINT64_MAX)
			break;
		iova = area.range.last + 1;
	}
	type1->tracking = true;
	return 0;
}

static int check_get(struct vfio_type1 *type1, const struct vfio_iommu_type1_dirty_bitmap_get *get,
		     struct uiommu_range *range)
{
	uint64_t page = vfio_type1_page(type1);
	struct uiommu_area area;
	int ret;

	if (!get->size)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "size: 0");
	if (!range_from(get->iova, get->size, range))
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova + size");
	ret = vfio_dirty_check_bitmap(&get->bitmap, get->size);
	if (ret)
		return ret;
	if (get->bitmap.pgsize != page)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "bitmap.pgsize: not the smallest page");
	if ((get->iova | get->size) & (page - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "iova or size", *range,
				     (struct uiommu_range){0, page - 1});
	if (!type1->tracking)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL, "dirty pages are not being tracked");
	if (vfio_type1_cuts(type1, *range, &area))
		return uiommu_refuse(UIOMMU_RULE_SPLIT, -EINVAL, "an existing mapping", *range,
				     area.range);
	return 0;
}

static int get_bitmap(struct vfio_type1 *type1, uint64_t arg, uint32_t argsz)
{
	const size_t head = sizeof(struct vfio_iommu_type1_dirty_bitmap);
	struct vfio_iommu_type1_dirty_bitmap_get get;
	struct uiommu_range range;
	uint64_t done;
	bool any;
	int ret;

	if (argsz - head < sizeof(get))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "argsz: no room for a range");
	ret = vfio_copy_in(type1->iommu.vfio, &get, arg + head, sizeof(get));
	if (!ret)
		ret = check_get(type1, &get, &range);
	return ret ? ret : vfio_dirty_report(type1, &get.bitmap, range, &done, &any);
}

long vfio_type1_dirty_pages(struct vfio_type1 *type1, uint64_t arg)
{
	struct vfio_iommu_type1_dirty_bitmap dirty;
	int ret;

	if (!type1->v2)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EACCES, "type1 v1 tracks no pages");
	ret = vfio_copy_sized(type1->iommu.vfio, &dirty, arg, sizeof(dirty));
	if (ret)
		return ret;
	switch (dirty.flags) {
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
		return start(type1);
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
		type1->tracking = false;
		return 0;
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
		return get_bitmap(type1, arg, dirty.argsz);
	default:
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: exactly one of three");
	}
}
