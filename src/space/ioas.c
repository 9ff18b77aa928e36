/* SPDX-License-Identifier: MIT */
/*
 * The I/O address space: owns what is reserved, what is allowed and what is mapped.
 *
 * Invariants: areas are disjoint, and none overlaps a reserved range; every domain of the IOAS
 * translates exactly its areas. Each call either does all of what it was asked, or nothing.
 * Reserved ranges of different owners may overlap; "blocked" is their union, kept for quick
 * answers.
 *
 * Mapping and unmapping are batches of one: see batch.c.
 *
 * Locks: ioas->lock for all of it, domain tables included. Flushing, under it, takes unit->lock.
 * Unmapping cannot fail once the arguments are found good, for it needs no memory.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "space/space.h"
#include "util/alloc.h"
#include "util/refuse.h"

/* How an area is called in refusals. */
#define AREA_OWNER "an existing mapping"

UIOMMU_API int uiommu_ioas_create(struct uiommu_ioas **out)
{
	struct uiommu_ioas *ioas = uiommu_alloc(sizeof(*ioas));

	if (!ioas)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL, UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	pthread_mutex_init(&ioas->lock, NULL);
	ioas->areas.floor = PLACE_FLOOR;
	ioas->clear = UIOMMU_RANGE_NONE;
	ioas->alignment = 1;
	ioas->page_sizes = UINT64_MAX;
	ioas->max_addr = UINT64_MAX;
	*out = ioas;
	return 0;
}

static void free_reserved(struct uiommu_ioas *ioas)
{
	uiommu_free(ioas->reserved, ioas->reserved_room * sizeof(*ioas->reserved));
	uiommu_free(ioas->blocked, ioas->reserved_room * sizeof(*ioas->blocked));
}

UIOMMU_API void uiommu_ioas_destroy(struct uiommu_ioas *ioas)
{
	if (!ioas)
		return;
	imap_clear(&ioas->areas);
	placed_destroy(ioas);
	free_reserved(ioas);
	uiommu_free(ioas->allowed, ioas->allowed_count * sizeof(*ioas->allowed));
	pthread_mutex_destroy(&ioas->lock);
	uiommu_free(ioas, sizeof(*ioas));
}

/* ---- reserved ranges ---- */

/* Room for some more reservations. */
int ioas_reserve_room(struct uiommu_ioas *ioas, size_t more)
{
	size_t room = ioas->reserved_room ? ioas->reserved_room * 2 : 16;
	struct reservation *reserved;
	struct uiommu_range *blocked;

	if (ioas->reserved_count + more <= ioas->reserved_room)
		return 0;
	if (room < ioas->reserved_count + more)
		room = ioas->reserved_count + more;
	reserved = uiommu_alloc_array(room, sizeof(*reserved));
	blocked = uiommu_alloc_array(room, sizeof(*blocked));
	if (!reserved || !blocked) {
		uiommu_free(reserved, room * sizeof(*reserved));
		uiommu_free(blocked, room * sizeof(*blocked));
		return -ENOMEM;
	}
	if (ioas->reserved_count) {
		memcpy(reserved, ioas->reserved, ioas->reserved_count * sizeof(*reserved));
		memcpy(blocked, ioas->blocked, ioas->blocked_count * sizeof(*blocked));
	}
	free_reserved(ioas);
	ioas->reserved = reserved;
	ioas->blocked = blocked;
	ioas->reserved_room = room;
	return 0;
}

static void rebuild_blocked(struct uiommu_ioas *ioas)
{
	size_t n = 0;

	for (size_t i = 0; i < ioas->reserved_count; i++) {
		struct uiommu_range r = ioas->reserved[i].range;

		if (n && (ioas->blocked[n - 1].last == UINT64_MAX ||
			  r.first <= ioas->blocked[n - 1].last + 1)) {
			if (r.last > ioas->blocked[n - 1].last)
				ioas->blocked[n - 1].last = r.last;
		} else {
			ioas->blocked[n++] = r;
		}
	}
	ioas->blocked_count = n;
	ioas->clear = UIOMMU_RANGE_NONE;
}

/* The first range of a sorted disjoint list that overlaps r; NULL: none. */
static const struct uiommu_range *list_hit(const struct uiommu_range *list, size_t count,
					   struct uiommu_range r)
{
	size_t lo = 0, hi = count;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (list[mid].last < r.first)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < count && list[lo].first <= r.last ? &list[lo] : NULL;
}

/* The reservation that is in the way of r, in its owner's words. */
static int refuse_blocked(struct uiommu_ioas *ioas, int error, struct uiommu_range r)
{
	for (size_t i = 0; i < ioas->reserved_count; i++) {
		const struct reservation *resv = &ioas->reserved[i];

		if (range_overlaps(resv->range, r))
			return uiommu_refuse_reserved(error, resv->name, r, resv->range,
						      resv->type);
	}
	return error;
}

static int check_reserve(struct uiommu_ioas *ioas, struct uiommu_range range, const char *name)
{
	const struct uiommu_range *allowed, *claimed;
	const struct imap_entry *area;
	const struct claim *claim;
	struct imap_pos pos;

	if (!range_valid(range))
		return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, name, range, UIOMMU_RANGE_NONE);
	area = imap_find(&ioas->areas, range.first, &pos);
	if (area && area->range.first <= range.last)
		return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EADDRINUSE, AREA_OWNER, range,
				     area->range);
	allowed = list_hit(ioas->allowed, ioas->allowed_count, range);
	if (allowed)
		return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EADDRINUSE, "an allowed range", range,
				     *allowed);
	claim = claims_hit(ioas, range, &claimed);
	if (claim)
		return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EADDRINUSE, claim->name, range,
				     *claimed);
	return 0;
}

/* There is room. The union is rebuilt by the caller. */
static void insert_reserved(struct uiommu_ioas *ioas, struct uiommu_range range,
			    enum uiommu_resv_type type, const void *owner, const char *name)
{
	struct reservation *resv;
	size_t at = 0;

	while (at < ioas->reserved_count && ioas->reserved[at].range.first <= range.first)
		at++;
	resv = &ioas->reserved[at];
	memmove(resv + 1, resv, (ioas->reserved_count - at) * sizeof(*resv));
	ioas->reserved_count++;
	*resv = (struct reservation){.range = range, .type = type, .owner = owner};
	snprintf(resv->name, sizeof(resv->name), "%s", name ? name : "");
}

static void remove_reserved(struct uiommu_ioas *ioas, const void *owner)
{
	size_t n = 0;

	for (size_t i = 0; i < ioas->reserved_count; i++) {
		if (ioas->reserved[i].owner != owner)
			ioas->reserved[n++] = ioas->reserved[i];
		else if (ioas->reserved[i].mapped)
			placed_direct_drop(ioas, ioas->reserved[i].range);
	}
	ioas->reserved_count = n;
}

int ioas_reserve_list(struct uiommu_ioas *ioas, const struct uiommu_range *ranges, size_t count,
		      enum uiommu_resv_type type, const void *owner, const char *name)
{
	size_t own = 0;

	for (size_t i = 0; i < count; i++) {
		int ret = check_reserve(ioas, ranges[i], name);

		if (ret)
			return ret;
	}
	/* A list that grows no longer needs no memory. */
	for (size_t i = 0; i < ioas->reserved_count; i++)
		own += ioas->reserved[i].owner == owner;
	if (count > own && ioas_reserve_room(ioas, count - own))
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, name, UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	remove_reserved(ioas, owner);
	for (size_t i = 0; i < count; i++)
		insert_reserved(ioas, ranges[i], type, owner, name);
	rebuild_blocked(ioas);
	return 0;
}

int ioas_reserve(struct uiommu_ioas *ioas, struct uiommu_range range, enum uiommu_resv_type type,
		 const void *owner, const char *name)
{
	int ret = check_reserve(ioas, range, name);

	if (ret)
		return ret;
	if (ioas_reserve_room(ioas, 1))
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, name, range,
				     UIOMMU_RANGE_NONE);
	insert_reserved(ioas, range, type, owner, name);
	rebuild_blocked(ioas);
	return 0;
}

int ioas_reserve_region(struct uiommu_ioas *ioas, const struct uiommu_resv_region *region,
			const void *owner, const char *name)
{
	bool direct = region->type == UIOMMU_RESV_DIRECT;
	int ret;

	pthread_mutex_lock(&ioas->lock);
	ret = ioas_reserve(ioas, region->range, region->type, owner, name);
	if (!ret && direct)
		ret = placed_direct(ioas, region, name);
	for (size_t i = 0; i < ioas->reserved_count && !ret && direct; i++) {
		struct reservation *resv = &ioas->reserved[i];

		/* Others of this owner may begin alike, or be the same. */
		if (resv->owner != owner || resv->type != region->type || resv->mapped ||
		    resv->range.first != region->range.first ||
		    resv->range.last != region->range.last)
			continue;
		resv->mapped = true;
		break;
	}
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

UIOMMU_API int uiommu_ioas_reserve(struct uiommu_ioas *ioas, struct uiommu_range range,
				   enum uiommu_resv_type type, const void *owner, const char *name)
{
	int ret;

	pthread_mutex_lock(&ioas->lock);
	ret = ioas_reserve(ioas, range, type, owner, name);
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

void ioas_unreserve(struct uiommu_ioas *ioas, const void *owner)
{
	remove_reserved(ioas, owner);
	rebuild_blocked(ioas);
}

UIOMMU_API void uiommu_ioas_unreserve(struct uiommu_ioas *ioas, const void *owner)
{
	pthread_mutex_lock(&ioas->lock);
	ioas_unreserve(ioas, owner);
	placed_sweep(ioas);
	pthread_mutex_unlock(&ioas->lock);
}

UIOMMU_API int uiommu_ioas_unreserve_unused(struct uiommu_ioas *ioas, const void *owner)
{
	struct uiommu_range used = UIOMMU_RANGE_NONE;
	int ret = 0;

	pthread_mutex_lock(&ioas->lock);
	for (size_t i = 0; i < ioas->reserved_count && !ret; i++)
		if (ioas->reserved[i].owner == owner &&
		    placed_in_use(ioas, ioas->reserved[i].range, &used))
			ret = uiommu_refuse(UIOMMU_RULE_BUSY, -EBUSY, ioas->reserved[i].name,
					    ioas->reserved[i].range, used);
	if (!ret) {
		ioas_unreserve(ioas, owner);
		placed_sweep(ioas);
	}
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

/* ---- allowed ranges ---- */

/* Sort a copy and refuse entries that are empty or overlap. */
static int check_allowed(struct uiommu_range *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct uiommu_range r = list[i];
		size_t at = i;

		if (!range_valid(r))
			return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, NULL, r,
					     UIOMMU_RANGE_NONE);
		while (at && list[at - 1].first > r.first) {
			list[at] = list[at - 1];
			at--;
		}
		list[at] = r;
	}
	for (size_t i = 1; i < count; i++)
		if (list[i].first <= list[i - 1].last)
			return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EINVAL, "an allowed range",
					     list[i], list[i - 1]);
	return 0;
}

static int allow_locked(struct uiommu_ioas *ioas, struct uiommu_range *copy, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (list_hit(ioas->blocked, ioas->blocked_count, copy[i]))
			return refuse_blocked(ioas, -EADDRINUSE, copy[i]);
	uiommu_free(ioas->allowed, ioas->allowed_count * sizeof(*copy));
	ioas->allowed = copy;
	ioas->allowed_count = count;
	return 0;
}

UIOMMU_API int uiommu_ioas_allow(struct uiommu_ioas *ioas, const struct uiommu_range *ranges,
				 size_t count)
{
	struct uiommu_range *copy = NULL;
	int ret = 0;

	if (count) {
		copy = uiommu_alloc_array(count, sizeof(*copy));
		if (!copy)
			return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL,
					     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
		memcpy(copy, ranges, count * sizeof(*copy));
		ret = check_allowed(copy, count);
	}
	if (!ret) {
		pthread_mutex_lock(&ioas->lock);
		ret = allow_locked(ioas, copy, count);
		pthread_mutex_unlock(&ioas->lock);
	}
	if (ret)
		uiommu_free(copy, count * sizeof(*copy));
	return ret;
}

/* ---- queries ---- */

UIOMMU_API int uiommu_ioas_ranges(struct uiommu_ioas *ioas, struct uiommu_range *ranges,
				  size_t *count)
{
	size_t room = *count, n = 0;
	uint64_t next = 0;
	bool open = true; /* the space from next on is not looked at yet */

	pthread_mutex_lock(&ioas->lock);
	for (size_t i = 0; i <= ioas->blocked_count && open; i++) {
		bool end = i == ioas->blocked_count;
		uint64_t last = end ? UINT64_MAX : ioas->blocked[i].first - 1;

		if (end || ioas->blocked[i].first > next) {
			if (n < room)
				ranges[n] = (struct uiommu_range){next, last};
			n++;
		}
		if (!end) {
			open = ioas->blocked[i].last != UINT64_MAX;
			next = ioas->blocked[i].last + 1;
		}
	}
	pthread_mutex_unlock(&ioas->lock);
	*count = n;
	return n > room ? -EMSGSIZE : 0;
}

UIOMMU_API int uiommu_ioas_reserved(struct uiommu_ioas *ioas, struct uiommu_reserved *list,
				    size_t *count)
{
	size_t room = *count, n;

	pthread_mutex_lock(&ioas->lock);
	n = ioas->reserved_count;
	for (size_t i = 0; i < n && i < room; i++) {
		list[i].range = ioas->reserved[i].range;
		list[i].type = ioas->reserved[i].type;
		memcpy(list[i].owner, ioas->reserved[i].name, sizeof(list[i].owner));
	}
	pthread_mutex_unlock(&ioas->lock);
	*count = n;
	return n > room ? -EMSGSIZE : 0;
}

UIOMMU_API uint64_t uiommu_ioas_alignment(struct uiommu_ioas *ioas)
{
	uint64_t alignment;

	pthread_mutex_lock(&ioas->lock);
	alignment = ioas->alignment;
	pthread_mutex_unlock(&ioas->lock);
	return alignment;
}

UIOMMU_API int uiommu_ioas_align(struct uiommu_ioas *ioas, uint64_t least)
{
	uint64_t mask = least - 1;
	struct imap_pos pos;
	int ret = 0;

	if (!is_pow2(least))
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "alignment: no power of two",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	pthread_mutex_lock(&ioas->lock);
	ret = claims_check_page(ioas, least);
	for (const struct imap_entry *e = imap_find(&ioas->areas, 0, &pos); e && !ret;
	     e = imap_next(&pos))
		if ((e->range.first | (e->range.last + 1) | e->value) & mask)
			ret = uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EADDRINUSE,
					    "an existing mapping", UIOMMU_RANGE_NONE, e->range);
	if (!ret) {
		ioas->least = least;
		ioas_common_limits(ioas);
	}
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

UIOMMU_API uint64_t uiommu_ioas_page_sizes(struct uiommu_ioas *ioas)
{
	uint64_t sizes;

	pthread_mutex_lock(&ioas->lock);
	sizes = ioas->page_sizes;
	pthread_mutex_unlock(&ioas->lock);
	return sizes;
}

void area_of(const struct imap_entry *entry, struct uiommu_area *area)
{
	area->range = entry->range;
	area->addr = entry->value;
	area->prot = (int)(entry->info & AREA_PROT);
	area->tag = entry->tag;
}

UIOMMU_API int uiommu_ioas_find(struct uiommu_ioas *ioas, uint64_t iova, struct uiommu_area *area)
{
	const struct imap_entry *entry;
	struct imap_pos pos;

	pthread_mutex_lock(&ioas->lock);
	entry = imap_find(&ioas->areas, iova, &pos);
	while (entry && (entry->info & AREA_SILENT))
		entry = imap_next(&pos);
	if (entry)
		area_of(entry, area);
	pthread_mutex_unlock(&ioas->lock);
	return entry ? 0 : -ENOENT;
}

UIOMMU_API void uiommu_ioas_stats(struct uiommu_ioas *ioas, struct uiommu_ioas_stats *stats)
{
	pthread_mutex_lock(&ioas->lock);
	*stats = ioas->stats;
	stats->areas = ioas->areas.count;
	pthread_mutex_unlock(&ioas->lock);
}

/* ---- what batches ask ---- */

/* What can be said of a request before looking at the space. */
int ioas_check_map(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t addr, int prot)
{
	const int known = UIOMMU_READ | UIOMMU_WRITE | UIOMMU_MMIO;

	if (!(prot & (UIOMMU_READ | UIOMMU_WRITE)) || (prot & ~known))
		return uiommu_refuse(UIOMMU_RULE_PERMISSION, -EINVAL, NULL, range,
				     UIOMMU_RANGE_NONE);
	if (!range_valid(range))
		return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, NULL, range, UIOMMU_RANGE_NONE);
	if ((range.first | addr | (range.last + 1)) & (ioas->alignment - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "the domain's smallest page",
				     range, (struct uiommu_range){0, ioas->alignment - 1});
	if (addr > ioas->max_addr || range.last - range.first > ioas->max_addr - addr)
		return uiommu_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "the memory's address", range,
				     (struct uiommu_range){addr, ioas->max_addr});
	return 0;
}

int ioas_refuse_format(int error, const struct table_why *why, struct uiommu_range range)
{
	return uiommu_refuse(why->rule, error, why->what, range, why->range);
}

int ioas_look_blocked(struct uiommu_ioas *ioas, int error, struct uiommu_range range)
{
	const struct uiommu_range *next;

	if (list_hit(ioas->blocked, ioas->blocked_count, range))
		return refuse_blocked(ioas, error, range);
	/* All of the gap it is in. */
	next = list_hit(ioas->blocked, ioas->blocked_count,
			(struct uiommu_range){range.first, UINT64_MAX});
	ioas->clear.last = next ? next->first - 1 : UINT64_MAX;
	if (!next)
		next = ioas->blocked + ioas->blocked_count;
	ioas->clear.first = next == ioas->blocked ? 0 : next[-1].last + 1;
	return 0;
}

UIOMMU_API int uiommu_ioas_check(struct uiommu_ioas *ioas, struct uiommu_range range)
{
	int ret;

	if (!range_valid(range))
		return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, NULL, range, UIOMMU_RANGE_NONE);
	pthread_mutex_lock(&ioas->lock);
	ret = ioas_check_blocked(ioas, -EINVAL, range);
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

int ioas_refuse_area(struct uiommu_range range, const struct imap_entry *area)
{
	if (area->info & AREA_LEAVING)
		return uiommu_refuse(UIOMMU_RULE_BUSY, -EBUSY, "a mapping that is being taken away",
				     range, area->range);
	return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EEXIST, AREA_OWNER, range, area->range);
}

/* ---- move ---- */

/* Replace what the domain has for an area; the old memory is out of reach after the next flush. If
 * there is no memory for the new entries the old ones come back: the table pages that they need are
 * those that the flush sets free. */
static int domain_move(struct uiommu_domain *d, const struct imap_entry *area, uint64_t addr)
{
	int prot = (int)(area->info & AREA_PROT), ret;

	table_unmap(&d->table, area->range, &d->pending);
	ret = table_map(&d->table, area->range, addr, prot, &d->pending);
	if (!ret)
		return 0;
	domain_flush(d);
	table_map(&d->table, area->range, area->value, prot, &d->pending);
	return ret;
}

static int move_locked(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t addr)
{
	struct imap_pos pos;
	const struct imap_entry *area = imap_find(&ioas->areas, range.first, &pos);
	struct uiommu_domain *failed = NULL;
	struct imap_entry moved, *entry;
	int ret;

	if (!area || area->range.first != range.first || area->range.last != range.last)
		return uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -ENOENT, NULL, range,
				     UIOMMU_RANGE_NONE);
	if (area->info & AREA_LEAVING)
		return ioas_refuse_area(range, area);
	ret = ioas_check_map(ioas, range, addr, (int)area->info);
	if (!ret)
		ret = ioas_check_domains(ioas, range, addr, (int)area->info);
	if (ret)
		return ret;
	entry = imap_edit(&ioas->areas, range.first);
	if (!entry)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL, range,
				     UIOMMU_RANGE_NONE);
	for (struct uiommu_domain *d = ioas->domains; d && !failed; d = d->next) {
		ret = domain_move(d, area, addr);
		if (ret)
			failed = d;
	}
	moved = *area;
	moved.value = addr;
	if (!failed) {
		entry->value = addr;
		ioas_flush(ioas);
		return 0;
	}
	/* Back in the domains before it, which have the pages for it as well once they are flushed.
	 */
	for (struct uiommu_domain *d = ioas->domains; d != failed; d = d->next) {
		domain_flush(d);
		domain_move(d, &moved, area->value);
	}
	ioas_flush(ioas);
	return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, ret, NULL, range, UIOMMU_RANGE_NONE);
}

UIOMMU_API int uiommu_ioas_move(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t addr)
{
	int ret;

	pthread_mutex_lock(&ioas->lock);
	ret = move_locked(ioas, range, addr);
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}
