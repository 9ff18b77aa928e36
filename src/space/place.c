/* SPDX-License-Identifier: MIT */
/*
 * Choosing IOVAs: owns the rule by which a mapping without a place of its own gets one, which is
 * that of Linux' iommufd (iopt_alloc_iova()): the lowest that will do. Windows are what is allowed
 * less what is reserved, or claimed by those who place by themselves (places.c); in each the map of
 * areas finds the gap (util/imap.h), so the time is that of a few windows, not of many areas.
 *
 * Nothing is kept here, and nothing is changed. Locks: ioas->lock is held.
 */
#include <errno.h>
#include <string.h>

#include "space/space.h"
#include "util/options.h"
#include "util/refuse.h"

#define PAGE	  UINT64_C(4096)
#define HUGE_PAGE (UINT64_C(1) << 21)

/* Where Linux looks: never at IOVA 0, nor where last + 1 would be 0. */
#define EVERYWHERE ((struct uiommu_range){PLACE_FLOOR, UINT64_MAX - PAGE})

/* The parts of a range that are allowed and neither reserved nor claimed, ascending. */
struct windows {
	const struct uiommu_ioas *ioas;
	struct uiommu_range within;
	struct uiommu_range allowed; /* being looked at: what is left of it */
	size_t next_allowed, next_blocked;
	bool claims; /* what is claimed is none */
};

/* The next allowed range; those that adjoin are one. */
static bool next_allowed(struct windows *w)
{
	const struct uiommu_range *list = w->ioas->allowed;
	size_t count = w->ioas->allowed_count, i = w->next_allowed;
	struct uiommu_range r = UIOMMU_RANGE_ALL;

	if (i >= count && (count || i))
		return false;
	if (count) {
		r = list[i];
		while (i + 1 < count && list[i + 1].first == r.last + 1)
			r.last = list[++i].last;
	}
	w->next_allowed = i + 1;
	w->allowed = range_common(r, w->within);
	return true;
}

/* The first range from an address on, or around it, in which nothing is placed. */
static bool next_hole(struct windows *w, uint64_t from, struct uiommu_range *hole)
{
	const struct uiommu_range *blocked = w->ioas->blocked, *claimed;
	bool found;

	while (w->next_blocked < w->ioas->blocked_count && blocked[w->next_blocked].last < from)
		w->next_blocked++;
	found = w->next_blocked < w->ioas->blocked_count;
	*hole = found ? blocked[w->next_blocked] : UIOMMU_RANGE_NONE;
	if (!w->claims || !claims_hit(w->ioas, (struct uiommu_range){from, UINT64_MAX}, &claimed))
		return found;
	/* They don't overlap. */
	if (!found || claimed->first < hole->first)
		*hole = *claimed;
	return true;
}

static bool next_window(struct windows *w, struct uiommu_range *window)
{
	for (;;) {
		struct uiommu_range hole;

		while (!range_valid(w->allowed))
			if (!next_allowed(w))
				return false;
		*window = w->allowed;
		if (!next_hole(w, window->first, &hole) || hole.first > window->last) {
			w->allowed = UIOMMU_RANGE_NONE;
			return true;
		}
		if (hole.last >= window->last)
			w->allowed = UIOMMU_RANGE_NONE;
		else
			w->allowed.first = hole.last + 1;
		if (window->first < hole.first) {
			window->last = hole.first - 1;
			return true;
		}
	}
}

size_t ioas_windows(const struct uiommu_ioas *ioas, struct uiommu_range within,
		    struct uiommu_range *list, size_t room)
{
	struct windows windows = {.ioas = ioas,
				  .allowed = UIOMMU_RANGE_NONE,
				  .within = range_common(within, EVERYWHERE)};
	struct uiommu_range window;
	size_t n = 0;

	while (next_window(&windows, &window)) {
		if (n < room)
			list[n] = window;
		n++;
	}
	return n;
}

/* Say what is in the way, at the lowest free address of the largest window. */
static int refuse_room(struct uiommu_ioas *ioas, struct uiommu_range within,
		       struct uiommu_range window, const struct imap_want *want)
{
	const struct imap_want least = {
		.length = 1, .alignment = want->alignment, .offset = want->offset};
	const struct imap_entry *area = NULL;
	const struct uiommu_range *claimed;
	const struct claim *claim;
	struct imap_pos pos;
	struct uiommu_range asked = within;

	if (range_valid(window)) {
		asked = window;
		imap_gap(&ioas->areas, window, &least, &asked.first);
		asked.last = add_sat(asked.first, want->length - 1);
		area = imap_find(&ioas->areas, asked.first, &pos);
	}
	if (area && area->range.first <= asked.last && area->range.first <= window.last)
		return uiommu_refuse(UIOMMU_RULE_NO_ROOM, -ENOSPC,
				     area->info & AREA_LEAVING
					     ? "a mapping that is being taken away"
					     : "an existing mapping",
				     asked, area->range);
	for (size_t i = 0; i < ioas->reserved_count; i++)
		if (range_overlaps(ioas->reserved[i].range, asked))
			return uiommu_refuse(UIOMMU_RULE_NO_ROOM, -ENOSPC, ioas->reserved[i].name,
					     asked, ioas->reserved[i].range);
	claim = claims_hit(ioas, asked, &claimed);
	if (claim)
		return uiommu_refuse(UIOMMU_RULE_NO_ROOM, -ENOSPC, claim->name, asked, *claimed);
	return uiommu_refuse(UIOMMU_RULE_NO_ROOM, -ENOSPC, "outside of where to look", asked,
			     range_valid(window) && window.last < asked.last
				     ? (struct uiommu_range){window.last + 1, asked.last}
				     : UIOMMU_RANGE_NONE);
}

static int take_place(const struct uiommu_place *place, struct uiommu_place *known)
{
	int ret;

	*known = (struct uiommu_place){.size = sizeof(*known)};
	ret = options_take(known, sizeof(*known), sizeof(*known), place);
	if (!ret &&
	    ((known->alignment && !is_pow2(known->alignment)) || !range_valid(known->within)))
		ret = -EINVAL;
	return ret ? uiommu_refuse(UIOMMU_RULE_ARGUMENT, ret, "place of a mapping",
				   UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE)
		   : 0;
}

static uint64_t alignment_of(const struct uiommu_ioas *ioas, const struct uiommu_place *place,
			     uint64_t addr)
{
	uint64_t alignment = place->alignment;

	if (!alignment) {
		alignment = pow2_ceil(place->length);
		if (addr && alignment > (addr & -addr))
			alignment = addr & -addr;
		if (alignment > HUGE_PAGE)
			alignment = HUGE_PAGE;
	}
	return alignment > ioas->alignment ? alignment : ioas->alignment;
}

UIOMMU_API int uiommu_ioas_find_place(struct uiommu_ioas *ioas, const struct uiommu_place *place,
				      uint64_t addr, int prot, struct uiommu_range *range)
{
	int ret;

	pthread_mutex_lock(&ioas->lock);
	ret = ioas_place(ioas, place, addr, prot, range);
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

int ioas_place(struct uiommu_ioas *ioas, const struct uiommu_place *place, uint64_t addr, int prot,
	       struct uiommu_range *range)
{
	struct uiommu_range within = EVERYWHERE, window, largest = UIOMMU_RANGE_NONE;
	struct windows windows = {
		.ioas = ioas, .allowed = UIOMMU_RANGE_NONE, .claims = ioas->claims};
	struct uiommu_place known;
	struct imap_want want;
	uint64_t first;
	int ret = take_place(place, &known);

	if (ret)
		return ret;
	if (known.length >= INT64_MAX)
		return uiommu_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "the length", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	ret = ioas_check_map(
		ioas, known.length ? (struct uiommu_range){0, known.length - 1} : UIOMMU_RANGE_NONE,
		addr, prot);
	if (ret)
		return ret;
	if (known.within.first || known.within.last)
		within = range_common(within, known.within);
	windows.within = within;
	want = (struct imap_want){.length = known.length,
				  .alignment = alignment_of(ioas, &known, addr),
				  .offset = addr & (PAGE - 1)};
	while (next_window(&windows, &window)) {
		if (imap_gap(&ioas->areas, window, &want, &first)) {
			*range = (struct uiommu_range){first, first + (known.length - 1)};
			return 0;
		}
		if (!range_valid(largest) || range_length(window) > range_length(largest))
			largest = window;
	}
	return refuse_room(ioas, within, largest, &want);
}
