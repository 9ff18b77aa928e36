/* SPDX-License-Identifier: MIT */
/*
 * Mapping where the batch's own areas are leaving: the new area takes their IOVAs over before the
 * flush. Devices see the old memory or the new until then. What is to be released later is kept in
 * a ghost each; what the old areas covered beyond the new one stays leaving, silently.
 *
 * All or nothing, though it takes several entries of the map of areas: entries are only shortened
 * and added until nothing can fail any more. Locks: the IOAS'.
 */
#include <errno.h>

#include "space/batch.h"
#include "util/alloc.h"
#include "util/refuse.h"

int batch_check_free(const struct uiommu_batch *batch, struct uiommu_ioas *ioas,
		     struct uiommu_range range)
{
	struct imap_pos pos;

	for (const struct imap_entry *e = imap_find(&ioas->areas, range.first, &pos);
	     e && e->range.first <= range.last; e = imap_next(&pos))
		if (!leaves_by(batch, e))
			return ioas_refuse_area(range, e);
	return ioas_check_blocked(ioas, -EINVAL, range);
}

void batch_free_ghosts(struct batch_ghost *ghost)
{
	while (ghost) {
		struct batch_ghost *next = ghost->next;

		uiommu_free(ghost, sizeof(*ghost));
		ghost = next;
	}
}

/* A ghost for each area in the range that somebody is to be told of. */
static int make_ghosts(struct uiommu_ioas *ioas, struct uiommu_range range,
		       struct batch_ghost **ghosts)
{
	struct imap_pos pos;

	*ghosts = NULL;
	for (const struct imap_entry *e = imap_find(&ioas->areas, range.first, &pos);
	     e && e->range.first <= range.last; e = imap_next(&pos)) {
		struct batch_ghost *ghost;

		if (e->info & AREA_SILENT)
			continue;
		ghost = uiommu_alloc(sizeof(*ghost));
		if (!ghost) {
			batch_free_ghosts(*ghosts);
			*ghosts = NULL;
			return -ENOMEM;
		}
		area_of(e, &ghost->area);
		ghost->next = *ghosts;
		*ghosts = ghost;
	}
	return 0;
}

/* Cut what reaches beyond at, into an area of its own that leaves silently. Undone by join(). */
static int cut(struct uiommu_batch *batch, struct uiommu_ioas *ioas, uint64_t at)
{
	struct imap_entry *e, rest;
	struct imap_pos pos;
	int ret;

	if (!imap_find(&ioas->areas, at, &pos) || pos.entry.range.first > at ||
	    pos.entry.range.last == at)
		return 0;
	e = imap_edit(&ioas->areas, at);
	if (!e)
		return -ENOMEM;
	rest = (struct imap_entry){.range = {at + 1, e->range.last},
				   .info = leaving_info(batch) | AREA_SILENT};
	e->range.last = at;
	ret = imap_insert(&ioas->areas, &rest, NULL);
	if (ret)
		imap_edit(&ioas->areas, at)->range.last = rest.range.last;
	else
		batch->silent = true;
	return ret;
}

static void join(struct uiommu_ioas *ioas, uint64_t at)
{
	uint64_t last = imap_edit(&ioas->areas, at + 1)->range.last;

	imap_erase(&ioas->areas, at + 1);
	imap_edit(&ioas->areas, at)->range.last = last;
}

/* Put the new area's entry in place of those that leave from its first address on, of which none
 * reaches beyond its last. */
static int insert_over(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
		       const struct imap_entry *entry)
{
	uint64_t first = entry->range.first, old_last = 0;
	struct imap_entry *e = imap_edit(&ioas->areas, first);
	struct imap_entry narrow = *entry;
	const struct imap_entry *next = e;
	struct imap_pos pos;
	int ret;

	if (!e)
		return -ENOMEM;
	if (e->range.first == first) {
		narrow.range.last = e->range.last;
		*e = narrow;
		return 0;
	}
	if (e->range.first < first) {
		old_last = e->range.last;
		e->range.last = first - 1;
		next = old_last == UINT64_MAX ? NULL : imap_find(&ioas->areas, old_last + 1, &pos);
	}
	if (next && next->range.first <= entry->range.last)
		narrow.range.last = next->range.first - 1;
	ret = imap_insert(&ioas->areas, &narrow, NULL);
	if (old_last && ret) {
		imap_edit(&ioas->areas, first - 1)->range.last = old_last;
	} else if (old_last) {
		imap_edit(&ioas->areas, first - 1)->info |= AREA_SILENT;
		batch->silent = true;
	}
	return ret;
}

/* Let the new area have all of its range, whose front it has. Cannot fail. */
static void widen(struct uiommu_ioas *ioas, struct uiommu_range range)
{
	struct imap_entry *e;
	struct imap_pos pos;

	while (e = imap_edit(&ioas->areas, range.first), e->range.last != range.last) {
		const struct imap_entry *next = imap_find(&ioas->areas, e->range.last + 1, &pos);

		if (next && next->range.first <= range.last)
			imap_erase(&ioas->areas, next->range.first);
		else
			e->range.last = range.last;
	}
}

/* All of it in the map of areas, which is steady. */
static int replace_areas(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			 const struct imap_entry *entry)
{
	uint64_t last = entry->range.last;
	struct imap_pos pos;
	const struct imap_entry *beyond = imap_find(&ioas->areas, last, &pos);
	bool reaches = beyond && beyond->range.first <= last && beyond->range.last > last;

	if (cut(batch, ioas, last))
		return -ENOMEM;
	if (insert_over(batch, ioas, entry)) {
		if (reaches)
			join(ioas, last);
		return -ENOMEM;
	}
	widen(ioas, entry->range);
	return 0;
}

/* Each step that needs memory can be undone without any. */
int batch_replace(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
		  const struct imap_entry *entry)
{
	struct batch_ghost *ghosts, *ghost;
	bool steady = ioas->areas.steady;
	int ret;

	ret = batch_check_free(batch, ioas, entry->range);
	if (ret)
		return ret;
	ret = make_ghosts(ioas, entry->range, &ghosts);
	if (!ret) {
		ioas->areas.steady = true;
		ret = replace_areas(batch, ioas, entry);
		ioas->areas.steady = steady;
	}
	if (ret) {
		batch_free_ghosts(ghosts);
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL, entry->range,
				     UIOMMU_RANGE_NONE);
	}
	/* From here on nothing can fail. */
	while ((ghost = ghosts)) {
		ghosts = ghost->next;
		count_bytes(ioas, range_length(ghost->area.range));
		ghost->next = batch->ghosts;
		batch->ghosts = ghost;
	}
	return 0;
}
