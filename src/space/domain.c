/* SPDX-License-Identifier: MIT */
/*
 * A domain: owns one I/O page table and the invalidations that go with it, and keeps it equal to
 * its IOAS from creation to destruction.
 *
 * What was taken away and not flushed yet is pending, whoever took it away: a flush serves them
 * all. Flushing, in this order: the entries are cleared (before the call); the range is put into
 * the ring; a barrier; wait for every port that may have read an entry before it was cleared; only
 * then do table pages become free again. A port that enters a section later sees both the cleared
 * entry and the ring's new head, so it drops what its IOTLB held.
 *
 * Locks: ioas->lock guards the table, unit->lock the attachments.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "space/space.h"
#include "util/alloc.h"
#include "util/refuse.h"

static void ring_put(struct uiommu_domain *domain, struct uiommu_range range)
{
	uint64_t seq = atomic_load_explicit(&domain->inval_head, memory_order_relaxed);
	struct inval_slot *slot = &domain->inval[seq % INVAL_RING];

	/* A reader of the slot's old contents must find out: claim before writing. */
	atomic_store_explicit(&domain->inval_claim, seq + 1, memory_order_relaxed);
	atomic_store_explicit(&slot->first, range.first, memory_order_release);
	atomic_store_explicit(&slot->last, range.last, memory_order_release);
	atomic_store_explicit(&domain->inval_head, seq + 1, memory_order_release);
}

void domain_flush(struct uiommu_domain *domain)
{
	struct uiommu_unit *unit = domain->unit;
	struct gather *gather = &domain->pending;

	if (gather_empty(gather))
		return;
	if (range_valid(gather->range))
		ring_put(domain, gather->range);
	pthread_mutex_lock(&unit->lock);
	unit_wait(unit, NULL, domain);
	unit->retired.flushes++;
	pthread_mutex_unlock(&unit->lock);
	gather_release(gather, &domain->table.pool);
}

/* Recompute what the domains of an IOAS have in common. */
static void common_limits(struct uiommu_ioas *ioas)
{
	ioas->alignment = 1;
	ioas->page_sizes = UINT64_MAX;
	ioas->max_addr = UINT64_MAX;
	for (struct uiommu_domain *d = ioas->domains; d; d = d->next) {
		uint64_t sizes = d->table.ops->page_sizes;

		ioas->page_sizes &= sizes;
		if ((sizes & -sizes) > ioas->alignment)
			ioas->alignment = sizes & -sizes;
		if (d->table.ops->max_addr < ioas->max_addr)
			ioas->max_addr = d->table.ops->max_addr;
	}
}

/* Enter all areas of the IOAS, or none. */
static int fill(struct uiommu_domain *domain)
{
	uint64_t sizes = domain->table.ops->page_sizes, mask = (sizes & -sizes) - 1;
	struct imap_pos pos;

	for (struct imap_entry *e = imap_find(&domain->ioas->areas, 0, &pos); e;
	     e = imap_next(&pos)) {
		uint64_t max = domain->table.ops->max_addr;
		int ret;

		if (e->info & AREA_LEAVING)
			continue;
		if ((e->range.first | e->value | (e->range.last + 1)) & mask)
			return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EADDRINUSE, domain->name,
					     e->range, (struct uiommu_range){0, mask});
		if (e->value > max || e->range.last - e->range.first > max - e->value)
			return uiommu_refuse(UIOMMU_RULE_WRAP, -EADDRINUSE, domain->name, e->range,
					     (struct uiommu_range){e->value, max});
		ret = table_map(&domain->table, e->range, e->value, (int)e->info, &domain->pending);
		if (ret)
			return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, ret, domain->name, e->range,
					     UIOMMU_RANGE_NONE);
	}
	return 0;
}

/* Tie a new domain, whose table is empty, to its IOAS. The table is destroyed by the caller if this
 * fails, so what was filled in need not be undone. */
static int join(struct uiommu_domain *domain)
{
	struct uiommu_ioas *ioas = domain->ioas;
	uint64_t last = table_last(&domain->table);
	int ret;

	if (last != UINT64_MAX) {
		ret = uiommu_ioas_reserve(ioas, (struct uiommu_range){last + 1, UINT64_MAX},
					  UIOMMU_RESV_APERTURE, domain, domain->name);
		if (ret)
			return ret;
	}
	pthread_mutex_lock(&ioas->lock);
	ret = fill(domain);
	if (!ret)
		ret = placed_fill(domain);
	if (!ret) {
		domain->next = ioas->domains;
		ioas->domains = domain;
		common_limits(ioas);
	}
	pthread_mutex_unlock(&ioas->lock);
	if (ret)
		uiommu_ioas_unreserve(ioas, domain);
	return ret;
}

UIOMMU_API int uiommu_domain_create(struct uiommu_unit *unit, struct uiommu_ioas *ioas,
				    const struct uiommu_domain_options *options,
				    struct uiommu_domain **out)
{
	struct uiommu_domain *domain;
	int ret;

	if (!options || options->size != sizeof(*options) || !options->format)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT,
				     options && options->size > sizeof(*options) ? -E2BIG : -EINVAL,
				     "domain options", UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	domain = uiommu_alloc(sizeof(*domain));
	if (!domain)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "domain", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	domain->unit = unit;
	domain->ioas = ioas;
	domain->pending = GATHER_INIT;
	snprintf(domain->name, sizeof(domain->name), "%s",
		 options->name ? options->name : options->format);
	ret = table_init(&domain->table, options->format, options->width);
	if (ret) {
		uiommu_refuse(ret == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_UNSUPPORTED, ret,
			      "table format and width", UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
		goto free_domain;
	}
	pthread_mutex_lock(&unit->lock);
	domain->uid = ++unit->next_uid;
	pthread_mutex_unlock(&unit->lock);
	ret = join(domain);
	if (ret)
		goto free_table;
	*out = domain;
	return 0;

free_table:
	table_destroy(&domain->table);
free_domain:
	uiommu_free(domain, sizeof(*domain));
	return ret;
}

UIOMMU_API void uiommu_domain_destroy(struct uiommu_domain *domain)
{
	struct uiommu_ioas *ioas;
	struct uiommu_domain **link;

	if (!domain)
		return;
	ioas = domain->ioas;
	pthread_mutex_lock(&ioas->lock);
	for (link = &ioas->domains; *link != domain; link = &(*link)->next)
		;
	*link = domain->next;
	common_limits(ioas);
	pthread_mutex_unlock(&ioas->lock);
	uiommu_ioas_unreserve(ioas, domain);
	table_destroy(&domain->table);
	uiommu_free(domain, sizeof(*domain));
}

UIOMMU_API int uiommu_domain_lookup(struct uiommu_domain *domain, uint64_t iova, uint64_t *addr,
				    int *prot)
{
	struct table_leaf leaf;
	bool found;

	pthread_mutex_lock(&domain->ioas->lock);
	found = iova <= table_last(&domain->table) && table_walk(&domain->table, iova, &leaf);
	pthread_mutex_unlock(&domain->ioas->lock);
	if (!found)
		return -ENOENT;
	*addr = leaf.addr + (iova - leaf.range.first);
	*prot = leaf.prot;
	return 0;
}
