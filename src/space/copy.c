/* SPDX-License-Identifier: MIT */
/*
 * Copying mappings from one address space to another inside a batch: a piece for each area of the
 * source. All of it is looked at before anything is changed; what can fail after that is memory,
 * and then the pieces that were entered leave as if they had been unmapped.
 *
 * Locks: those of both address spaces are held.
 */
#include <errno.h>

#include "space/batch.h"
#include "util/refuse.h"

/* The area of the copy that begins at iova, as far as one area of the source goes. */
static int copy_piece(const struct uiommu_batch *batch, const struct uiommu_op *op, uint64_t iova,
		      struct imap_entry *piece)
{
	uint64_t from = op->addr + (iova - op->range.first);
	uint64_t from_last = op->addr + (op->range.last - op->range.first);
	struct imap_pos pos;
	const struct imap_entry *area = imap_find(&op->source->areas, from, &pos);
	uint64_t last;
	int ret;

	if (!area || area->range.first > from || leaves_by(batch, area))
		return uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -ENOENT, "the source of the copy",
				     (struct uiommu_range){from, from_last}, UIOMMU_RANGE_NONE);
	if (area->info & AREA_LEAVING)
		return ioas_refuse_area((struct uiommu_range){from, from_last}, area);
	if ((op->prot & UIOMMU_WRITE) && !(area->info & UIOMMU_WRITE))
		return uiommu_refuse(UIOMMU_RULE_PERMISSION, -EPERM, "the source of the copy",
				     (struct uiommu_range){from, from_last}, area->range);
	last = area->range.last < from_last ? area->range.last : from_last;
	*piece = (struct imap_entry){
		.range = {iova, iova + (last - from)},
		.value = area->value + (from - area->range.first),
		.tag = op->tag ? op->tag : area->tag,
		/* What is a register stays one. */
		.info = (unsigned)op->prot | (area->info & UIOMMU_MMIO),
	};
	ret = ioas_check_map(op->ioas, piece->range, piece->value, (int)piece->info);
	return ret ? ret
		   : ioas_check_domains(op->ioas, piece->range, piece->value, (int)piece->info);
}

/* How far behind its first address a copy's first piece goes. It was looked at. */
static uint64_t copy_reach(const struct uiommu_op *op)
{
	struct imap_pos pos;

	return imap_find(&op->source->areas, op->addr, &pos)->range.last - op->addr;
}

/* Look at all of it before anything is changed. */
static int check_copy(const struct uiommu_batch *batch, const struct uiommu_op *op)
{
	int ret = ioas_check_map(op->ioas, op->range, 0, op->prot);
	struct imap_entry piece;

	if (ret)
		return ret;
	if (op->range.last - op->range.first > UINT64_MAX - op->addr)
		return uiommu_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "the source of the copy",
				     op->range, (struct uiommu_range){op->addr, UINT64_MAX});
	ret = batch_check_free(batch, op->ioas, op->range);
	for (uint64_t iova = op->range.first; !ret; iova = piece.range.last + 1) {
		ret = copy_piece(batch, op, iova, &piece);
		if (ret || piece.range.last == op->range.last)
			break;
	}
	return ret;
}

/* The pieces of a copy that was looked at. *done: the last address of those that were entered, none
 * if it is below the first. */
static int copy_pieces(struct uiommu_batch *batch, struct uiommu_op *op, uint64_t *done)
{
	uint64_t largest = 0;
	struct imap_entry piece;

	for (;;) {
		int ret = copy_piece(batch, op, *done + 1, &piece);

		if (!ret)
			ret = batch_enter(batch, op->ioas, op, &piece);
		if (ret)
			return ret;
		*done = piece.range.last;
		if (range_length(piece.range) > largest)
			largest = range_length(piece.range);
		if (*done == op->range.last) {
			ioas_count_map(op->ioas, largest, op->prot);
			return 0;
		}
	}
}

int batch_copy(struct uiommu_batch *batch, struct uiommu_op *op)
{
	uint64_t done = op->range.first - 1;
	struct imap *areas = &op->ioas->areas;
	struct imap_pos pos;
	int ret = check_copy(batch, op);

	if (!ret)
		ret = batch_record_room(batch);
	if (ret)
		return ret;
	/* Of several pieces, failing needs the earlier ones to be marked without memory. */
	areas->steady = op->range.last - op->range.first > copy_reach(op);
	ret = copy_pieces(batch, op, &done);
	/* What came before the failure goes the way of all that was mapped. If the failure left a
	 * record, this adjoins it. */
	if (ret && done != op->range.first - 1) {
		struct uiommu_range before = {op->range.first, done};

		imap_find(areas, done, &pos);
		batch_take_away(batch, op->ioas, before, &pos);
	}
	areas->steady = false;
	return ret;
}
