/* SPDX-License-Identifier: MIT */
/*
 * Places: owns the claims on an IOAS' ranges, and the magazines through which their ranges pass
 * between being given back and being taken again. Which units are taken is util/runs.h's.
 *
 * Invariants: claims overlap neither each other nor what is reserved: making one looks at what
 * there is, and reserving looks at claims. A range in a magazine has been let go in the runs but
 * not put back, so it can be handed out without a search and can't be given back twice. Each
 * magazine has ranges of one length.
 *
 * Locks: the list of claims is ioas->lock's; a claim itself is constant. All else is the thread's
 * that has the object, and no lock is taken between creating and destroying it. Giving back can't
 * fail: a magazine that there is no memory for is done without.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <uiommu/places.h>

#include "space/space.h"
#include "util/alloc.h"
#include "util/options.h"
#include "util/refuse.h"
#include "util/runs.h"

#define LEAST_GRANULE UINT64_C(4096)

/* Of one magazine: what it holds, and how many of that are looked at for one that is aligned. */
#define MAGAZINE   256
#define MOST_LOOKS 8

/* Of a list that is given back, and of a magazine, so many are looked at before their turn. */
#define GIVE_AHEAD 16
#define PUT_AHEAD  8

struct magazine {
	uint64_t *first;      /* units */
	unsigned count, room; /* no room: not made yet */
};

/* Off the way that is taken most often. */
#define SLOW __attribute__((noinline, cold))

struct uiommu_places {
	uint64_t granule;
	unsigned shift;			       /* log2 of it */
	uint64_t total;			       /* units */
	struct magazine magazines[RUNS_SHORT]; /* by length - 1 */
	struct runs runs;
	struct uiommu_ioas *ioas;
	struct claim claim;
	struct uiommu_range *windows; /* the claim's ranges in units */
};

/* ---- claims ---- */

const struct claim *claims_hit(const struct uiommu_ioas *ioas, struct uiommu_range r,
			       const struct uiommu_range **claimed)
{
	const struct claim *found = NULL;

	for (const struct claim *c = ioas->claims; c; c = c->next)
		for (size_t i = 0; i < c->count && c->ranges[i].first <= r.last; i++) {
			if (c->ranges[i].last < r.first)
				continue;
			if (!found || c->ranges[i].first < (*claimed)->first)
				*claimed = &c->ranges[i];
			found = *claimed == &c->ranges[i] ? c : found;
			break;
		}
	return found;
}

int claims_check_page(const struct uiommu_ioas *ioas, uint64_t page)
{
	for (const struct claim *c = ioas->claims; c; c = c->next)
		if (page > c->granule)
			return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EADDRINUSE, c->name,
					     c->ranges[0], (struct uiommu_range){0, page - 1});
	return 0;
}

/* The whole granules of a range; not valid if there is none. */
static struct uiommu_range trim(struct uiommu_range r, uint64_t granule)
{
	uint64_t mask = granule - 1, first = (r.first + mask) & ~mask, end = (r.last + 1) & ~mask;

	/* No range ends at the very end of the space, so only the first may wrap. */
	return first < r.first || end <= first ? UIOMMU_RANGE_NONE
					       : (struct uiommu_range){first, end - 1};
}

static int no_memory(const char *name)
{
	return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, name, UIOMMU_RANGE_NONE,
			     UIOMMU_RANGE_NONE);
}

/* What is reserved or not allowed in a range, of which @usable is the first part that can be used.
 */
static int refuse_hole(struct uiommu_ioas *ioas, struct uiommu_range within,
		       struct uiommu_range usable)
{
	struct uiommu_range hole = within;

	if (range_valid(usable) && usable.first > within.first)
		hole.last = usable.first - 1;
	else if (range_valid(usable))
		hole.first = usable.last + 1;
	for (size_t i = 0; i < ioas->reserved_count; i++)
		if (range_overlaps(ioas->reserved[i].range, hole))
			return uiommu_refuse(UIOMMU_RULE_NO_ROOM, -ENOSPC, ioas->reserved[i].name,
					     within, ioas->reserved[i].range);
	return uiommu_refuse(UIOMMU_RULE_NO_ROOM, -ENOSPC,
			     "never handed out, not allowed, or no whole granule", within, hole);
}

/* List what there is to be claimed. The arrays are released by who destroys the object. */
static int find_ranges(struct uiommu_places *p, const struct uiommu_places_options *o)
{
	size_t room = ioas_windows(p->ioas, o->within, NULL, 0), n = 0;
	struct uiommu_range *ranges, window = UIOMMU_RANGE_NONE;

	if (!room)
		return refuse_hole(p->ioas, o->within, UIOMMU_RANGE_NONE);
	ranges = uiommu_alloc_array(room, sizeof(*ranges));
	if (!ranges)
		return no_memory(p->claim.name);
	ioas_windows(p->ioas, o->within, ranges, room);
	window = ranges[0];
	for (size_t i = 0; i < room; i++) {
		ranges[n] = trim(ranges[i], p->granule);
		n += range_valid(ranges[n]);
	}
	if (n) {
		p->claim.ranges = uiommu_alloc_array(n, sizeof(*ranges));
		p->windows = uiommu_alloc_array(n, sizeof(*ranges));
		p->claim.count = n;
	}
	for (size_t i = 0; i < n && p->claim.ranges && p->windows; i++) {
		p->claim.ranges[i] = ranges[i];
		p->windows[i].first = ranges[i].first >> p->shift;
		p->windows[i].last = ranges[i].last >> p->shift;
		p->total += range_length(p->windows[i]);
	}
	uiommu_free(ranges, room * sizeof(*ranges));
	if (!n)
		return refuse_hole(p->ioas, o->within, UIOMMU_RANGE_NONE);
	if (!p->claim.ranges || !p->windows)
		return no_memory(p->claim.name);
	if (o->whole && (p->claim.ranges[0].first != o->within.first ||
			 p->claim.ranges[0].last != o->within.last))
		return refuse_hole(p->ioas, o->within, window);
	return 0;
}

/* Is any of it in use? */
static int check_ranges(struct uiommu_places *p)
{
	for (size_t i = 0; i < p->claim.count; i++) {
		struct uiommu_range range = p->claim.ranges[i];
		const struct uiommu_range *claimed;
		const struct imap_entry *area;
		const struct claim *claim;
		struct imap_pos pos;

		area = imap_find(&p->ioas->areas, range.first, &pos);
		if (area && area->range.first <= range.last)
			return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EADDRINUSE,
					     "an existing mapping", range, area->range);
		claim = claims_hit(p->ioas, range, &claimed);
		if (claim)
			return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EADDRINUSE, claim->name, range,
					     *claimed);
	}
	return 0;
}

/* ioas->lock held. */
static int enter_claim(struct uiommu_places *p, const struct uiommu_places_options *o)
{
	uint64_t alignment = p->ioas->alignment;
	int ret;

	p->granule = o->granule;
	if (!p->granule)
		p->granule = alignment > LEAST_GRANULE ? alignment : LEAST_GRANULE;
	if (p->granule < alignment)
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "the granule",
				     UIOMMU_RANGE_NONE, (struct uiommu_range){0, alignment - 1});
	p->shift = (unsigned)__builtin_ctzll(p->granule);
	p->claim.granule = p->granule;
	ret = find_ranges(p, o);
	if (!ret)
		ret = check_ranges(p);
	if (!ret && runs_init(&p->runs, p->windows, p->claim.count))
		ret = no_memory(p->claim.name);
	if (!ret) {
		p->claim.next = p->ioas->claims;
		p->ioas->claims = &p->claim;
	}
	return ret;
}

static void leave_claim(struct uiommu_places *p)
{
	struct claim **link = &p->ioas->claims;

	pthread_mutex_lock(&p->ioas->lock);
	while (*link != &p->claim)
		link = &(*link)->next;
	*link = p->claim.next;
	pthread_mutex_unlock(&p->ioas->lock);
}

/* ---- life ---- */

static void free_places(struct uiommu_places *p)
{
	uiommu_free(p->claim.ranges, p->claim.count * sizeof(*p->claim.ranges));
	uiommu_free(p->windows, p->claim.count * sizeof(*p->windows));
	uiommu_free(p, sizeof(*p));
}

static int take_options(struct uiommu_places_options *known,
			const struct uiommu_places_options *given)
{
	int ret = given ? options_take(known, sizeof(*known), sizeof(*known), given) : 0;

	if (!ret &&
	    (!range_valid(known->within) ||
	     (known->granule && (!is_pow2(known->granule) || known->granule < LEAST_GRANULE))))
		ret = -EINVAL;
	if (ret)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, ret, "options of places",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	if (!known->within.last)
		known->within = UIOMMU_RANGE_ALL;
	if (!known->name)
		known->name = "places";
	return 0;
}

UIOMMU_API int uiommu_places_create(struct uiommu_ioas *ioas,
				    const struct uiommu_places_options *options,
				    struct uiommu_places **out)
{
	struct uiommu_places_options known = {.size = sizeof(known)};
	struct uiommu_places *p;
	int ret = take_options(&known, options);

	if (ret)
		return ret;
	p = uiommu_alloc(sizeof(*p));
	if (!p)
		return no_memory(known.name);
	p->ioas = ioas;
	snprintf(p->claim.name, sizeof(p->claim.name), "%s", known.name);
	pthread_mutex_lock(&ioas->lock);
	ret = enter_claim(p, &known);
	pthread_mutex_unlock(&ioas->lock);
	if (ret) {
		free_places(p);
		return ret;
	}
	*out = p;
	return 0;
}

UIOMMU_API void uiommu_places_destroy(struct uiommu_places *p)
{
	if (!p)
		return;
	leave_claim(p);
	for (unsigned i = 0; i < RUNS_SHORT; i++)
		uiommu_free(p->magazines[i].first, p->magazines[i].room * sizeof(uint64_t));
	runs_destroy(&p->runs);
	free_places(p);
}

/* ---- magazines ---- */

/* Put back the older ones, until @keep are left. */
static void empty_magazine(struct uiommu_places *p, uint64_t length, unsigned keep)
{
	struct magazine *m = &p->magazines[length - 1];
	unsigned gone = m->count - keep;

	for (unsigned i = 0; i < gone; i++) {
		if (gone - i > PUT_AHEAD)
			runs_prefetch_put(&p->runs, m->first[i + PUT_AHEAD]);
		runs_put(&p->runs, m->first[i], length);
	}
	if (keep)
		memmove(m->first, m->first + gone, keep * sizeof(*m->first));
	m->count = keep;
}

/* Put back all of all magazines. False: there was nothing. */
static bool empty_magazines(struct uiommu_places *p)
{
	bool any = false;

	for (uint64_t length = 1; length <= RUNS_SHORT; length++)
		if (p->magazines[length - 1].count) {
			empty_magazine(p, length, 0);
			any = true;
		}
	return any;
}

/* Keep what has been let go. */
static void keep(struct uiommu_places *p, uint64_t first, uint64_t n)
{
	struct magazine *m = &p->magazines[n - 1];

	if (!m->room) {
		m->first = uiommu_alloc_array(MAGAZINE, sizeof(*m->first));
		m->room = m->first ? MAGAZINE : 0;
	}
	if (!m->room) {
		runs_put(&p->runs, first, n);
		return;
	}
	if (m->count == m->room)
		empty_magazine(p, n, MAGAZINE / 2);
	m->first[m->count++] = first;
}

/* One that is aligned, in units, from the top of the magazine. */
static bool pick_aligned(struct magazine *m, uint64_t alignment, uint64_t *first)
{
	for (unsigned i = 1; i <= MOST_LOOKS && i <= m->count; i++) {
		uint64_t *it = &m->first[m->count - i];

		if (*it & (alignment - 1))
			continue;
		*first = *it;
		*it = m->first[--m->count];
		return true;
	}
	return false;
}

/* ---- taking ---- */

static int refuse_room(struct uiommu_places *p, uint64_t length, struct uiommu_range longest)
{
	struct uiommu_range asked, behind;

	if (!range_valid(longest))
		return uiommu_refuse(UIOMMU_RULE_NO_ROOM, -ENOSPC, "everything is taken",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	asked.first = longest.first << p->shift;
	asked.last = add_sat(asked.first, length - 1);
	behind.first = (longest.last + 1) << p->shift;
	behind.last = asked.last;
	return uiommu_refuse(UIOMMU_RULE_NO_ROOM, -ENOSPC,
			     range_valid(behind) ? "taken, or not of these places"
						 : "the longest run is not so aligned",
			     asked, behind);
}

/* Without a magazine, or from one but aligned: units. */
static int take_searching(struct uiommu_places *p, uint64_t n, uint64_t alignment, uint64_t *first)
{
	struct uiommu_range longest;
	int ret;

	if (n <= RUNS_SHORT && pick_aligned(&p->magazines[n - 1], alignment, first)) {
		runs_hold(&p->runs, *first, n);
		return 0;
	}
	ret = runs_take(&p->runs, n, alignment, first);
	if (ret == -ENOSPC && empty_magazines(p))
		ret = runs_take(&p->runs, n, alignment, first);
	if (ret == -ENOSPC)
		ret = runs_take_anywhere(&p->runs, n, alignment, first, &longest);
	if (ret == -ENOSPC)
		return refuse_room(p, n << p->shift, longest);
	return ret ? no_memory(p->claim.name) : 0;
}

static SLOW int take_slowly(struct uiommu_places *p, uint64_t length, uint64_t alignment,
			    uint64_t *iova)
{
	const struct uiommu_range asked = {0, length - 1};
	uint64_t n = length >> p->shift, first;
	int ret;

	if (alignment & (alignment - 1))
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "alignment of a place",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	if (!length)
		return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, p->claim.name, UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	if (length & (p->granule - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, p->claim.name, asked,
				     (struct uiommu_range){0, p->granule - 1});
	alignment = alignment > p->granule ? alignment >> p->shift : 1;
	ret = take_searching(p, n, alignment, &first);
	if (!ret)
		*iova = first << p->shift;
	return ret;
}

UIOMMU_API int uiommu_places_take(struct uiommu_places *p, uint64_t length, uint64_t alignment,
				  uint64_t *iova)
{
	uint64_t n = length >> p->shift, first;
	struct magazine *m = &p->magazines[(n - 1) % RUNS_SHORT];
	struct runs_chunk *chunk;

	if (n - 1 >= RUNS_SHORT || ((length | (alignment & (alignment - 1))) & (p->granule - 1)) ||
	    alignment > p->granule || !m->count)
		return take_slowly(p, length, alignment, iova);
	first = m->first[m->count - 1];
	chunk = runs_chunk_soon(&p->runs, first);
	if (!chunk)
		return take_slowly(p, length, alignment, iova);
	m->count--;
	runs_hold_in(chunk, first, n);
	*iova = first << p->shift;
	return 0;
}

/* ---- giving back ---- */

static SLOW int give_slowly(struct uiommu_places *p, struct uiommu_range range)
{
	uint64_t first = range.first >> p->shift, n;

	if (!range_valid(range))
		return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, p->claim.name, range,
				     UIOMMU_RANGE_NONE);
	if ((range.first | (range.last + 1)) & (p->granule - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, p->claim.name, range,
				     (struct uiommu_range){0, p->granule - 1});
	n = (range.last >> p->shift) - first + 1;
	if (n <= RUNS_SHORT && runs_let_go(&p->runs, first, n)) {
		keep(p, first, n);
		return 0;
	}
	if (!runs_give(&p->runs, first, n))
		return uiommu_refuse(UIOMMU_RULE_ORDER, -EINVAL, "no range that is taken", range,
				     UIOMMU_RANGE_NONE);
	return 0;
}

static inline int give(struct uiommu_places *p, struct uiommu_range range)
{
	uint64_t first = range.first >> p->shift, n = (range.last + 1 - range.first) >> p->shift;
	struct magazine *m = &p->magazines[(n - 1) % RUNS_SHORT];
	struct runs_chunk *chunk;

	/* What ends before it begins wraps, and is no short one then. */
	if (((range.first | (range.last + 1)) & (p->granule - 1)) || n - 1 >= RUNS_SHORT ||
	    m->count >= m->room)
		return give_slowly(p, range);
	chunk = runs_chunk_soon(&p->runs, first);
	if (!chunk || !runs_let_go_in(chunk, first, n))
		return give_slowly(p, range);
	m->first[m->count++] = first;
	return 0;
}

UIOMMU_API int uiommu_places_give(struct uiommu_places *p, struct uiommu_range range)
{
	return give(p, range);
}

UIOMMU_API size_t uiommu_places_give_list(struct uiommu_places *p,
					  const struct uiommu_range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct uiommu_range *ahead = &ranges[i + GIVE_AHEAD];

		if (count - i > GIVE_AHEAD)
			runs_prefetch(&p->runs, ahead->first >> p->shift,
				      (range_length(*ahead) >> p->shift) % RUNS_SHORT);
		if (give(p, ranges[i]))
			return i;
	}
	return count;
}

/* ---- queries ---- */

UIOMMU_API int uiommu_places_query(struct uiommu_places *p, struct uiommu_places_state *state)
{
	size_t size = state->size;
	struct runs_state runs;

	if (size < sizeof(*state))
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "state of places",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	empty_magazines(p);
	runs_look(&p->runs, &runs);
	memset(state, 0, size);
	*state = (struct uiommu_places_state){
		.size = size,
		.total = p->total << p->shift,
		.free = runs.free << p->shift,
		.taken = runs.held,
		.longest = runs.longest,
	};
	if (range_valid(runs.longest)) {
		state->longest.first = runs.longest.first << p->shift;
		state->longest.last = (runs.longest.last << p->shift) + (p->granule - 1);
	}
	return 0;
}

UIOMMU_API int uiommu_places_ranges(const struct uiommu_places *p, struct uiommu_range *ranges,
				    size_t *count)
{
	size_t room = *count, n = p->claim.count;

	for (size_t i = 0; i < n && i < room; i++)
		ranges[i] = p->claim.ranges[i];
	*count = n;
	return n > room ? -EMSGSIZE : 0;
}
