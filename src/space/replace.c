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
	struct imap_entry *e = imap_find(&ioas->areas, at, NULL), rest;
	int ret;

	if (!e || e->range.first > at || e->range.last == at)
		return 0;
	rest = (struct imap_entry){.range = {at + 1, e->range.last},
				   .info = leaving_info(batch) | AREA_SILENT};
	e->range.last = at;
	ret = imap_insert(&ioas->areas, &rest, NULL);
	if (ret)
		e->range.last = rest.range.last;
	return ret;
}

static void join(struct uiommu_ioas *ioas, uint64_t at)
{
	struct imap_entry *rest = imap_find(&ioas->areas, at + 1, NULL);
	uint64_t last = rest->range.last;

	imap_erase(&ioas->areas, at + 1);
	imap_find(&ioas->areas, at, NULL)->range.last = last;
}

/* Put the new area's entry in place of those that leave from its first address on, of which none
 * reaches beyond its last. */
static int insert_over(struct uiommu_ioas *ioas, const struct imap_entry *entry)
{
	uint64_t first = entry->range.first, old_last = 0;
	struct imap_entry *e = imap_find(&ioas->areas, first, NULL), *next;
	struct imap_entry narrow = *entry;
	int ret;

	if (e->range.first == first) {
		narrow.range.last = e->range.last;
		*e = narrow;
		return 0;
	}
	next = e;
	if (e->range.first < first) {
		old_last = e->range.last;
		e->range.last = first - 1;
		next = old_last == UINT64_MAX ? NULL : imap_find(&ioas->areas, old_last + 1, NULL);
	}
	if (next && next->range.first <= entry->range.last)
		narrow.range.last = next->range.first - 1;
	ret = imap_insert(&ioas->areas, &narrow, NULL);
	if (old_last && ret)
		e->range.last = old_last;
	else if (old_last)
		imap_find(&ioas->areas, first - 1, NULL)->info |= AREA_SILENT;
	return ret;
}

/* Each step that needs memory can be undone without any. */
int batch_replace(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
		  const struct imap_entry *entry)
{
	uint64_t last = entry->range.last;
	const struct imap_entry *beyond;
	struct batch_ghost *ghosts, *ghost;
	struct imap_entry *e;
	bool reaches;
	int ret;

	ret = batch_check_free(batch, ioas, entry->range);
	if (ret)
		return ret;
	if (make_ghosts(ioas, entry->range, &ghosts))
		goto no_memory;
	beyond = imap_find(&ioas->areas, last, NULL);
	reaches = beyond && beyond->range.first <= last && beyond->range.last > last;
	if (cut(batch, ioas, last))
		goto no_memory;
	if (insert_over(ioas, entry)) {
		if (reaches)
			join(ioas, last);
		goto no_memory;
	}
	/* From here on nothing can fail. */
	while (e = imap_find(&ioas->areas, entry->range.first, NULL), e->range.last != last) {
		struct imap_entry *next = imap_find(&ioas->areas, e->range.last + 1, NULL);

		if (next && next->range.first <= last)
			imap_erase(&ioas->areas, next->range.first);
		else
			e->range.last = last;
	}
	while ((ghost = ghosts)) {
		ghosts = ghost->next;
		count_bytes(ioas, range_length(ghost->area.range));
		ghost->next = batch->ghosts;
		batch->ghosts = ghost;
	}
	return 0;

no_memory:
	batch_free_ghosts(ghosts);
	return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL, entry->range, UIOMMU_RANGE_NONE);
}
