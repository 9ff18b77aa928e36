/* SPDX-License-Identifier: MIT */
/*
 * HWPT_SET_DIRTY_TRACKING and HWPT_GET_DIRTY_BITMAP: which pages devices have written to, as bits
 * that are added to the program's bitmap.
 *
 * A bit is cleared in the table only once there is a place for it: the bitmap is read, and written
 * back as it was, before the table is. It is done in pieces that begin and end at multiples of so
 * much that no leaf reaches across, so a large leaf is told of, and cleared, once.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

/* Bits in a piece. With pages of 4 KiB it is 2 GiB of IOVAs, more than the largest leaf. */
#define PIECE_BITS (UINT64_C(1) << 19)

static struct iommufd_hwpt *get_hwpt(struct iommufd_call *call, uint32_t id)
{
	return iommufd_get(call->iommufd, id, IOMMUFD_HWPT_PAGING, "hwpt_id: no paging HWPT");
}

int iommufd_hwpt_set_dirty_tracking(struct iommufd_call *call)
{
	const uint32_t enable = IOMMU_HWPT_DIRTY_TRACKING_ENABLE;
	struct iommufd_hwpt *hwpt;
	int ret;

	if ((call->set_dirty.flags & ~enable) || call->set_dirty.__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags or __reserved");
	hwpt = get_hwpt(call, call->set_dirty.hwpt_id);
	if (!hwpt)
		return -ENOENT;
	ret = uiommu_domain_dirty_track(hwpt->domain, call->set_dirty.flags & enable);
	iommufd_put(call->iommufd, &hwpt->obj);
	return ret;
}

/* ---- the bitmap ---- */

struct piece {
	struct uiommu_range range;
	uint64_t page;
	unsigned shift; /* the bit of range.first in the first byte */
	uint8_t *bits;
};

static void set_bits(void *ctx, struct uiommu_range range)
{
	struct piece *piece = ctx;
	uint64_t bit = (range.first - piece->range.first) / piece->page + piece->shift;
	uint64_t last = (range.last - piece->range.first) / piece->page + piece->shift;

	for (; bit <= last; bit++)
		piece->bits[bit / 8] |= (uint8_t)(1u << bit % 8);
}

static int read_piece(struct iommufd_call *call, struct iommufd_hwpt *hwpt, struct piece *piece)
{
	const struct iommu_hwpt_get_dirty_bitmap *get = &call->get_dirty;
	uint64_t bit = (piece->range.first - get->iova) / piece->page;
	uint64_t bits = range_length(piece->range) / piece->page;
	uint64_t at = get->data + bit / 8;
	size_t len;
	int ret;

	piece->shift = bit % 8;
	len = (piece->shift + bits + 7) / 8;
	ret = vfio_copy_in(call->vfio, piece->bits, at, len);
	if (!ret)
		ret = vfio_copy_out(call->vfio, at, piece->bits, len);
	if (!ret)
		ret = uiommu_domain_dirty_read(
			hwpt->domain, piece->range,
			get->flags & IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR ? UIOMMU_DIRTY_KEEP : 0,
			set_bits, piece);
	return ret ? ret : vfio_copy_out(call->vfio, at, piece->bits, len);
}

static int read_bitmap(struct iommufd_call *call, struct iommufd_hwpt *hwpt,
		       struct uiommu_range range)
{
	uint64_t page = call->get_dirty.page_size, span;
	struct piece piece = {.page = page};
	int ret = 0;

	piece.bits = uiommu_alloc(PIECE_BITS / 8 + 1);
	if (!piece.bits)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	span = page > UINT64_MAX / PIECE_BITS ? UINT64_MAX : page * PIECE_BITS - 1;
	piece.range.first = range.first;
	for (;;) {
		piece.range.last = piece.range.first | span;
		if (piece.range.last > range.last)
			piece.range.last = range.last;
		ret = read_piece(call, hwpt, &piece);
		if (ret || piece.range.last == range.last)
			break;
		piece.range.first = piece.range.last + 1;
	}
	uiommu_free(piece.bits, PIECE_BITS / 8 + 1);
	return ret;
}

/* As the kernel: the range, then the pages of the address space, then those of the bitmap. */
static int check_range(const struct iommu_hwpt_get_dirty_bitmap *get, struct uiommu_ioas *ioas,
		       struct uiommu_range *range)
{
	uint64_t alignment = uiommu_ioas_alignment(ioas), last = get->iova + (get->length - 1);

	*range = (struct uiommu_range){get->iova, last};
	if (last < get->iova)
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova + length");
	if ((get->iova | (last + 1)) & (alignment - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "iova or length", *range,
				     (struct uiommu_range){0, alignment - 1});
	if (!is_pow2(get->page_size) || ((get->iova | (last + 1)) & (get->page_size - 1)))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL,
				     "page_size: a power of two that iova and length are "
				     "multiples of",
				     *range, UIOMMU_RANGE_NONE);
	return 0;
}

int iommufd_hwpt_get_dirty_bitmap(struct iommufd_call *call)
{
	const struct iommu_hwpt_get_dirty_bitmap *get = &call->get_dirty;
	struct iommufd_hwpt *hwpt;
	struct uiommu_range range;
	int ret;

	if ((get->flags & ~(uint32_t)IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR) || get->__reserved)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags or __reserved");
	hwpt = get_hwpt(call, get->hwpt_id);
	if (!hwpt)
		return -ENOENT;
	ret = check_range(get, hwpt->ioas->ioas, &range);
	if (!ret && !hwpt->tracks_dirty)
		ret = vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP,
				  "the HWPT was made without DIRTY_TRACKING");
	if (!ret && !iommufd_ioas_covers(hwpt->ioas, range))
		ret = uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -EINVAL, NULL, range,
				    UIOMMU_RANGE_NONE);
	if (!ret)
		ret = read_bitmap(call, hwpt, range);
	iommufd_put(call->iommufd, &hwpt->obj);
	return ret;
}
