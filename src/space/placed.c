/* SPDX-License-Identifier: MIT */
/*
 * What the system, not the program, has placed in an address space: owns the doorbells (pages of
 * interrupt controllers that devices write MSIs to) and the direct regions (memory that firmware
 * wants identity mapped for a device).
 *
 * Invariants: what is placed is disjoint and in the tables of all domains of the space, those made
 * later included. A direct region is there while a device that wants it is attached; the device's
 * attachment reserves it. A doorbell page stands at one IOVA and keeps it while it has users.
 * Placed inside a region that devices reserve (sw-msi), it stays after its last user, for the next
 * one, until that region goes; placed elsewhere (the end of an aperture, a range the program gave),
 * its own place is reserved while it is there, in its own name, so no program can map over it and
 * every query reports it. What the program has mapped itself is an ordinary area and only found
 * here. What isn't a multiple of the I/O page that the domains have by then is rounded outwards, as
 * nothing less can be translated; whatever overlaps what is so placed is refused.
 *
 * Lock: ioas->lock. Taking away cannot fail.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "space/space.h"
#include "util/alloc.h"
#include "util/refuse.h"

#define DOORBELL_PAGE UINT64_C(4096)

struct placed {
	struct placed *next;
	struct uiommu_range range;  /* IOVAs, in whole pages of the domains */
	struct uiommu_range wanted; /* of a direct region: what was to be placed */
	uint64_t addr;
	int prot; /* with UIOMMU_MMIO: a doorbell */
	unsigned users;
	bool own; /* its place is reserved by itself */
	char name[UIOMMU_OWNER_MAX];
};

/* What is placed is made of pages of this size: all domains can translate them. */
static uint64_t granule(const struct uiommu_ioas *ioas)
{
	uint64_t page = DOORBELL_PAGE;

	for (const struct uiommu_domain *d = ioas->domains; d; d = d->next)
		if (table_page(&d->table) > page)
			page = table_page(&d->table);
	return page;
}

/* Take a range out of the domains before stop (NULL: all); no device reaches it any more. */
static void domains_unmap(struct uiommu_ioas *ioas, struct uiommu_range range,
			  const struct uiommu_domain *stop)
{
	for (struct uiommu_domain *d = ioas->domains; d != stop; d = d->next)
		table_unmap(&d->table, range, &d->pending);
	ioas_flush(ioas);
}

/* Enter a range into every domain, or none. */
static int domains_map(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t addr, int prot,
		       const char *name)
{
	int ret = 0;

	for (struct uiommu_domain *d = ioas->domains; d && !ret; d = d->next)
		ret = domain_check_placed(d, range, addr, prot, name);
	for (struct uiommu_domain *d = ioas->domains; d && !ret; d = d->next) {
		ret = table_map(&d->table, range, addr, prot, &d->pending);
		if (ret)
			domains_unmap(ioas, range, d);
	}
	return ret;
}

static int refuse(int error, const char *name, struct uiommu_range blocking)
{
	return uiommu_refuse(error == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_DOORBELL, error,
			     name, UIOMMU_RANGE_NONE, blocking);
}

static struct placed *find(struct uiommu_ioas *ioas, uint64_t addr)
{
	struct placed *d = ioas->placed;

	while (d && !((d->prot & UIOMMU_MMIO) && addr - d->addr <= d->range.last - d->range.first))
		d = d->next;
	return d;
}

/* Where the program has mapped the page, if it has. */
static bool find_area(struct uiommu_ioas *ioas, uint64_t addr, uint64_t *iova)
{
	struct imap_pos pos;

	if (!ioas->mmio)
		return false;
	for (const struct imap_entry *e = imap_find(&ioas->areas, 0, &pos); e; e = imap_next(&pos))
		if ((e->info & UIOMMU_MMIO) && (e->info & UIOMMU_WRITE) &&
		    !(e->info & AREA_LEAVING) && e->value <= addr &&
		    addr - e->value <= e->range.last - e->range.first) {
			*iova = e->range.first + (addr - e->value);
			return true;
		}
	return false;
}

/* ---- placing ---- */

/* Does anything of the program's or of ours stand in the way? Outside of a region that is meant for
 * it, anything reserved does. */
static bool taken(struct uiommu_ioas *ioas, struct uiommu_range slot, bool region)
{
	struct imap_pos pos;
	const struct imap_entry *area = imap_find(&ioas->areas, slot.first, &pos);
	const struct uiommu_range *claimed;

	if ((area && area->range.first <= slot.last) || claims_hit(ioas, slot, &claimed))
		return true;
	for (size_t i = 0; i < ioas->blocked_count && !region; i++)
		if (range_overlaps(ioas->blocked[i], slot))
			return true;
	for (struct placed *d = ioas->placed; d; d = d->next)
		if (range_overlaps(d->range, slot))
			return true;
	return false;
}

/* A free place of step bytes. */
static bool find_place(struct uiommu_ioas *ioas, const struct uiommu_doorbell_place *place,
		       bool region, struct uiommu_range *slot)
{
	uint64_t steps = (place->range.last - place->range.first) / place->step + 1;

	for (uint64_t i = 0; i < steps; i++) {
		if (place->down)
			slot->first = place->range.last - i * place->step - (place->step - 1);
		else
			slot->first = place->range.first + i * place->step;
		slot->last = slot->first + (place->step - 1);
		if (range_contains(place->range, *slot) && !taken(ioas, *slot, region))
			return true;
	}
	return false;
}

/* The sw-msi region that the devices brought along. */
static bool sw_msi_region(struct uiommu_ioas *ioas, struct uiommu_doorbell_place *place)
{
	for (size_t i = 0; i < ioas->reserved_count; i++)
		if (ioas->reserved[i].type == UIOMMU_RESV_SW_MSI && ioas->reserved[i].owner) {
			*place = (struct uiommu_doorbell_place){
				.range = ioas->reserved[i].range,
				.step = DOORBELL_PAGE,
			};
			return true;
		}
	return false;
}

static void insert(struct uiommu_ioas *ioas, struct placed *it)
{
	struct placed **link = &ioas->placed;

	while (*link && (*link)->range.first < it->range.first)
		link = &(*link)->next;
	it->next = *link;
	*link = it;
}

/* Reserve its place if need be, and enter it into all tables. */
static int enter(struct uiommu_ioas *ioas, struct placed *it, struct uiommu_range slot,
		 uint64_t size)
{
	struct uiommu_range page = {slot.first, slot.first + (size - 1)};
	int ret;

	it->range = page;
	if (it->own) {
		ret = ioas_reserve(ioas, slot, UIOMMU_RESV_MSI, it, it->name);
		if (ret)
			return ret;
	}
	ret = domains_map(ioas, page, it->addr, it->prot, it->name);
	if (!ret)
		return 0;
	if (it->own)
		ioas_unreserve(ioas, it);
	return ret == -ENOMEM ? refuse(ret, it->name, UIOMMU_RANGE_NONE) : ret;
}

/* Places for whole pages only; the range may have no such place then. */
static void whole_steps(struct uiommu_doorbell_place *place, uint64_t page)
{
	uint64_t up = (page - (place->range.first & (page - 1))) & (page - 1);
	uint64_t down = (place->range.last + 1) & (page - 1);

	if (place->step < page)
		place->step = page;
	if (place->down && place->range.last - place->range.first >= down)
		place->range.last -= down;
	else if (!place->down && place->range.last - place->range.first >= up)
		place->range.first += up;
}

static int place_new(struct uiommu_ioas *ioas, uint64_t addr, const char *name, uint64_t *iova)
{
	struct uiommu_doorbell_place place = ioas->place;
	bool region = sw_msi_region(ioas, &place);
	uint64_t page = granule(ioas);
	struct uiommu_range slot;
	struct placed *it;
	int ret;

	if (!range_valid(place.range) || !place.step)
		return refuse(-ENODEV, name, UIOMMU_RANGE_NONE);
	whole_steps(&place, page);
	if (!find_place(ioas, &place, region, &slot))
		return refuse(-ENOSPC, name, place.range);
	it = uiommu_alloc(sizeof(*it));
	if (!it)
		return refuse(-ENOMEM, name, UIOMMU_RANGE_NONE);
	it->addr = addr & ~(page - 1);
	it->prot = UIOMMU_WRITE | UIOMMU_MMIO;
	it->users = 1;
	it->wanted = UIOMMU_RANGE_NONE;
	it->own = !region;
	snprintf(it->name, sizeof(it->name), "%s", name);
	ret = enter(ioas, it, slot, page);
	if (ret) {
		uiommu_free(it, sizeof(*it));
		return ret;
	}
	insert(ioas, it);
	*iova = it->range.first + (addr - it->addr);
	return 0;
}

int placed_check(const struct uiommu_doorbell_place *place)
{
	if (range_valid(place->range) && (!is_pow2(place->step) || place->step < DOORBELL_PAGE))
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "step of doorbells",
				     place->range, UIOMMU_RANGE_NONE);
	return 0;
}

UIOMMU_API int uiommu_ioas_place_doorbells(struct uiommu_ioas *ioas,
					   const struct uiommu_doorbell_place *place)
{
	int ret = placed_check(place);

	if (ret)
		return ret;
	pthread_mutex_lock(&ioas->lock);
	ioas->place = *place;
	pthread_mutex_unlock(&ioas->lock);
	return 0;
}

UIOMMU_API int uiommu_ioas_map_doorbell(struct uiommu_ioas *ioas, uint64_t addr, const char *name,
					uint64_t *iova)
{
	uint64_t offset = addr & (DOORBELL_PAGE - 1), page = 0;
	struct placed *it;
	int ret;

	addr -= offset;
	pthread_mutex_lock(&ioas->lock);
	it = find(ioas, addr);
	if (find_area(ioas, addr, &page)) {
		ret = 0;
	} else if (it) {
		it->users++;
		page = it->range.first + (addr - it->addr);
		ret = 1;
	} else {
		ret = place_new(ioas, addr, name, &page);
		ret = ret ? ret : 1;
	}
	pthread_mutex_unlock(&ioas->lock);
	if (ret >= 0)
		*iova = page + offset;
	return ret;
}

/* ---- taking away ---- */

static void take_away(struct uiommu_ioas *ioas, struct placed *it)
{
	struct placed **link = &ioas->placed;

	while (*link != it)
		link = &(*link)->next;
	*link = it->next;
	domains_unmap(ioas, it->range, NULL);
	if (it->own)
		ioas_unreserve(ioas, it);
	uiommu_free(it, sizeof(*it));
}

static bool still_reserved(const struct uiommu_ioas *ioas, const struct placed *it)
{
	for (size_t i = 0; i < ioas->reserved_count; i++)
		if (ioas->reserved[i].owner != it &&
		    range_contains(ioas->reserved[i].range, it->range))
			return true;
	return false;
}

UIOMMU_API void uiommu_ioas_unmap_doorbell(struct uiommu_ioas *ioas, uint64_t addr)
{
	struct placed *it;

	pthread_mutex_lock(&ioas->lock);
	it = find(ioas, addr & ~(DOORBELL_PAGE - 1));
	if (it && it->users && !--it->users && !still_reserved(ioas, it))
		take_away(ioas, it);
	pthread_mutex_unlock(&ioas->lock);
}

bool placed_in_use(const struct uiommu_ioas *ioas, struct uiommu_range range,
		   struct uiommu_range *used)
{
	for (const struct placed *it = ioas->placed; it; it = it->next)
		if ((it->prot & UIOMMU_MMIO) && it->users && range_overlaps(it->range, range)) {
			*used = it->range;
			return true;
		}
	return false;
}

void placed_sweep(struct uiommu_ioas *ioas)
{
	struct placed *it = ioas->placed, *next;

	for (; it; it = next) {
		next = it->next;
		if (!it->users && !still_reserved(ioas, it))
			take_away(ioas, it);
	}
}

void placed_destroy(struct uiommu_ioas *ioas)
{
	while (ioas->placed) {
		struct placed *it = ioas->placed;

		ioas->placed = it->next;
		uiommu_free(it, sizeof(*it));
	}
}

/* ---- direct regions ---- */

int placed_direct(struct uiommu_ioas *ioas, const struct uiommu_resv_region *region,
		  const char *name)
{
	uint64_t page = granule(ioas);
	struct uiommu_range range = {region->range.first & ~(page - 1),
				     region->range.last | (page - 1)};
	struct placed *it;
	int ret;

	for (it = ioas->placed; it; it = it->next) {
		bool same = it->wanted.first == region->range.first &&
			    it->wanted.last == region->range.last && it->prot == region->prot;

		if (same)
			it->users++;
		if (same)
			return 0;
		if (range_overlaps(it->range, range))
			return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EINVAL, it->name, range,
					     it->range);
	}
	it = uiommu_alloc(sizeof(*it));
	if (!it)
		return refuse(-ENOMEM, name, UIOMMU_RANGE_NONE);
	*it = (struct placed){.range = range,
			      .wanted = region->range,
			      .addr = range.first,
			      .prot = region->prot,
			      .users = 1};
	snprintf(it->name, sizeof(it->name), "%s", name ? name : "");
	ret = domains_map(ioas, it->range, it->addr, it->prot, it->name);
	if (ret) {
		uiommu_free(it, sizeof(*it));
		return ret == -ENOMEM ? refuse(ret, name, region->range) : ret;
	}
	insert(ioas, it);
	return 0;
}

void placed_direct_drop(struct uiommu_ioas *ioas, struct uiommu_range range)
{
	for (struct placed *it = ioas->placed; it; it = it->next)
		if (!(it->prot & UIOMMU_MMIO) && it->wanted.first == range.first &&
		    it->wanted.last == range.last) {
			if (!--it->users)
				take_away(ioas, it);
			return;
		}
}

/* ---- the rest ---- */

int placed_fill(struct uiommu_domain *domain)
{
	for (struct placed *d = domain->ioas->placed; d; d = d->next) {
		int ret = domain_check_placed(domain, d->range, d->addr, d->prot, d->name);

		if (ret)
			return ret;
		ret = table_map(&domain->table, d->range, d->addr, d->prot, &domain->pending);
		if (ret)
			return refuse(ret, d->name, UIOMMU_RANGE_NONE);
	}
	return 0;
}

UIOMMU_API int uiommu_ioas_doorbells(struct uiommu_ioas *ioas, struct uiommu_doorbell_mapping *list,
				     size_t *count)
{
	size_t room = *count, n = 0;

	pthread_mutex_lock(&ioas->lock);
	for (struct placed *d = ioas->placed; d; d = d->next) {
		if (!(d->prot & UIOMMU_MMIO))
			continue;
		if (n < room) {
			list[n] = (struct uiommu_doorbell_mapping){
				.iova = d->range.first, .addr = d->addr, .users = d->users};
			memcpy(list[n].name, d->name, sizeof(list[n].name));
		}
		n++;
	}
	pthread_mutex_unlock(&ioas->lock);
	*count = n;
	return n > room ? -EMSGSIZE : 0;
}
