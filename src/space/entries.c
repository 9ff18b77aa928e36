/* SPDX-License-Identifier: MIT */
/*
 * Mappings seen as single entries of a table, which are overwritten and cleared whatever calls they
 * came from: what sPAPR's TCE tables are to their users. Owns the cutting of areas.
 *
 * Invariants: a cut changes no translation, and is taken back where the call fails, without memory:
 * so the map of areas is steady meanwhile. A call that fails leaves areas and tables as they were.
 * What is taken away is gone when the call returns. Lock: ioas->lock. Memory is taken before
 * anything is changed that could not be put back.
 */
#include <errno.h>

#include "space/space.h"
#include "util/refuse.h"

/* Where an area was cut in two; at: 0 if none was. */
struct cut {
	uint64_t at;
	uint64_t last; /* of the area that it was */
};

/* Would a cut before @at go through a leaf of a table? */
static bool cuts_leaf(const struct uiommu_ioas *ioas, uint64_t at)
{
	for (const struct uiommu_domain *d = ioas->domains; d; d = d->next) {
		struct table_leaf leaf;

		if (table_covers(&d->table, at) && table_walk(&d->table, at, &leaf) &&
		    leaf.range.first < at)
			return true;
	}
	return false;
}

/* Let no area reach across the border before @at. */
static int cut_before(struct uiommu_ioas *ioas, uint64_t at, struct cut *cut)
{
	struct imap_entry *area, tail;
	struct imap_pos pos;
	int ret;

	cut->at = 0;
	if (!imap_find(&ioas->areas, at, &pos) || pos.entry.range.first >= at)
		return 0;
	if (pos.entry.info & AREA_LEAVING)
		return ioas_refuse_area((struct uiommu_range){at, at}, &pos.entry);
	if (cuts_leaf(ioas, at))
		return uiommu_refuse(UIOMMU_RULE_SPLIT, -EINVAL, "a large page of a mapping",
				     (struct uiommu_range){at, at}, pos.entry.range);
	tail = pos.entry;
	tail.range.first = at;
	tail.value += at - pos.entry.range.first;
	area = imap_edit(&ioas->areas, at);
	ret = -ENOMEM;
	if (area) {
		area->range.last = at - 1;
		ret = imap_insert(&ioas->areas, &tail, NULL);
		if (ret)
			imap_edit(&ioas->areas, at - 1)->range.last = tail.range.last;
	}
	if (ret)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL, tail.range,
				     UIOMMU_RANGE_NONE);
	*cut = (struct cut){at, tail.range.last};
	return 0;
}

static void take_back(struct uiommu_ioas *ioas, const struct cut *cut)
{
	if (!cut->at)
		return;
	imap_erase(&ioas->areas, cut->at);
	imap_edit(&ioas->areas, cut->at - 1)->range.last = cut->last;
}

static int cut_out(struct uiommu_ioas *ioas, struct uiommu_range range, struct cut cuts[2])
{
	int ret = cut_before(ioas, range.first, &cuts[0]);

	cuts[1].at = 0;
	if (ret || range.last == UINT64_MAX)
		return ret;
	ret = cut_before(ioas, range.last + 1, &cuts[1]);
	if (ret)
		take_back(ioas, &cuts[0]);
	return ret;
}

UIOMMU_API int uiommu_ioas_split(struct uiommu_ioas *ioas, uint64_t iova)
{
	struct cut cut;
	int ret;

	pthread_mutex_lock(&ioas->lock);
	ioas->areas.steady = true;
	ret = cut_before(ioas, iova, &cut);
	ioas->areas.steady = false;
	pthread_mutex_unlock(&ioas->lock);
	if (!ret && !cut.at)
		return -ENOENT;
	return ret;
}

/* ---- clearing ---- */

UIOMMU_API int uiommu_ioas_clear(struct uiommu_ioas *ioas, struct uiommu_range range,
				 uint64_t *unmapped, uiommu_area_fn each, void *ctx)
{
	struct cut cuts[2];
	uint64_t bytes;
	int ret;

	pthread_mutex_lock(&ioas->lock);
	ioas->areas.steady = true;
	if (!range_valid(range))
		ret = uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, NULL, range, UIOMMU_RANGE_NONE);
	else
		ret = cut_out(ioas, range, cuts);
	if (!ret) {
		ret = ioas_unmap(ioas, range, unmapped ? unmapped : &bytes, each, ctx);
		if (ret) {
			take_back(ioas, &cuts[1]);
			take_back(ioas, &cuts[0]);
		}
	}
	ioas->areas.steady = false;
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

/* ---- replacing ---- */

/* An area that is on the list before it is in the tables: nobody may use it yet. */
#define COMING 0

/* Put the areas inside the range back into a domain. The table pages that they need are those that
 * were just set free. */
static void restore(struct uiommu_domain *d, struct uiommu_range range)
{
	struct imap_pos pos;

	table_unmap(&d->table, range, &d->pending);
	domain_flush(d);
	for (const struct imap_entry *e = imap_find(&d->ioas->areas, range.first, &pos);
	     e && e->range.first <= range.last; e = imap_next(&pos))
		if (e->info != COMING)
			table_map(&d->table, e->range, e->value, (int)e->info, &d->pending);
}

/* In every domain, or in none; to be flushed if there was something. The old areas are still on the
 * list. Entries of some formats change from the old mapping to the new one at once; of others they
 * are cleared in between. */
static int domains_replace(struct uiommu_ioas *ioas, const struct imap_entry *fresh, bool occupied)
{
	for (struct uiommu_domain *d = ioas->domains; d; d = d->next) {
		int ret;

		if (occupied && d->table.ops->overwrites)
			gather_add(&d->pending, fresh->range);
		else if (occupied)
			table_unmap(&d->table, fresh->range, &d->pending);
		ret = table_map(&d->table, fresh->range, fresh->value, (int)fresh->info,
				&d->pending);
		if (!ret)
			continue;
		for (struct uiommu_domain *done = ioas->domains; done != d; done = done->next)
			restore(done, fresh->range);
		restore(d, fresh->range);
		return ret;
	}
	return 0;
}

/* Forget the old areas; the one that starts the range becomes the new one, so no memory is needed.
 */
static void take_place(struct uiommu_ioas *ioas, const struct imap_entry *fresh,
		       uiommu_area_fn each, void *ctx)
{
	struct uiommu_range rest = fresh->range;
	struct imap_pos pos;
	uint64_t gone = 0;

	while (range_valid(rest) && imap_find(&ioas->areas, rest.first, &pos) &&
	       pos.entry.range.first <= rest.last) {
		struct uiommu_area area;

		area_of(&pos.entry, &area);
		if (area.range.first != fresh->range.first)
			imap_erase(&ioas->areas, area.range.first);
		if (area.prot != COMING) {
			gone = add_sat(gone, range_length(area.range));
			if (each)
				each(ctx, &area);
		}
		if (area.range.last == rest.last)
			break;
		rest.first = area.range.last + 1;
	}
	*imap_edit(&ioas->areas, fresh->range.first) = *fresh;
	ioas->stats.bytes -= gone < ioas->stats.bytes ? gone : ioas->stats.bytes;
	ioas->stats.bytes = add_sat(ioas->stats.bytes, range_length(fresh->range));
	ioas->stats.unmaps += gone != 0;
	ioas_count_map(ioas, range_length(fresh->range), (int)fresh->info);
}

/* Is an area to be replaced? If none starts the range, one that is coming is put there. Whichever
 * it is can be had for editing from now on. */
static int make_room(struct uiommu_ioas *ioas, const struct imap_entry *fresh, bool *occupied,
		     bool *made)
{
	struct imap_pos pos;
	const struct imap_entry *head = imap_find(&ioas->areas, fresh->range.first, &pos);
	struct imap_entry coming = *fresh;

	*occupied = head && head->range.first <= fresh->range.last;
	*made = !*occupied || head->range.first > fresh->range.first;
	if (!*made)
		return imap_edit(&ioas->areas, fresh->range.first) ? 0 : -ENOMEM;
	coming.info = COMING;
	if (*occupied)
		coming.range.last = head->range.first - 1;
	return imap_insert(&ioas->areas, &coming, NULL);
}

/* What an open batch is taking away is not to be replaced yet. */
static int check_leaving(struct uiommu_ioas *ioas, struct uiommu_range range)
{
	struct imap_pos pos;

	for (const struct imap_entry *e = imap_find(&ioas->areas, range.first, &pos);
	     e && e->range.first <= range.last; e = imap_next(&pos))
		if (e->info & AREA_LEAVING)
			return ioas_refuse_area(range, e);
	return 0;
}

static int replace_locked(struct uiommu_ioas *ioas, const struct imap_entry *fresh,
			  uiommu_area_fn each, void *ctx)
{
	struct uiommu_range range = fresh->range;
	bool occupied, made = false;
	struct cut cuts[2];
	int ret = ioas_check_map(ioas, range, fresh->value, (int)fresh->info);

	if (!ret)
		ret = ioas_check_blocked(ioas, -EINVAL, range);
	if (!ret)
		ret = ioas_check_domains(ioas, range, fresh->value, (int)fresh->info);
	if (!ret)
		ret = check_leaving(ioas, range);
	if (!ret)
		ret = cut_out(ioas, range, cuts);
	if (ret)
		return ret;
	ret = make_room(ioas, fresh, &occupied, &made);
	if (!ret) {
		ret = domains_replace(ioas, fresh, occupied);
		if (ret && made)
			imap_erase(&ioas->areas, range.first);
	}
	if (ret) {
		take_back(ioas, &cuts[1]);
		take_back(ioas, &cuts[0]);
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, ret, NULL, range, UIOMMU_RANGE_NONE);
	}
	if (occupied)
		ioas_flush(ioas);
	take_place(ioas, fresh, each, ctx);
	return 0;
}

UIOMMU_API int uiommu_ioas_replace(struct uiommu_ioas *ioas, struct uiommu_range range,
				   uint64_t addr, int prot, void *tag, uiommu_area_fn each,
				   void *ctx)
{
	const struct imap_entry fresh = {.range = range, .value = addr, .tag = tag, .info = prot};
	int ret;

	pthread_mutex_lock(&ioas->lock);
	ioas->areas.steady = true;
	ret = replace_locked(ioas, &fresh, each, ctx);
	ioas->areas.steady = false;
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}
