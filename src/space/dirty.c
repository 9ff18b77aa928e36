/* SPDX-License-Identifier: MIT */
/*
 * Dirty pages: which of a domain's pages devices have written to. The record is the table's own
 * dirty bits; here is when they are set, read and cleared.
 *
 * A port sets the bit of a leaf before its first write through it, and only then does its IOTLB
 * hold the leaf as writable; so the IOTLB's entries need no mark, and a write that finds none walks
 * again. Invariants: while tracking is on, a writable IOTLB entry stands for a leaf whose bit was
 * set after the last clearing, or a flush that takes the entry away is under way. A port writes in
 * the section in which it set the bit, or found it in its IOTLB, and a flush waits for sections; so
 * what is written before uiommu_domain_dirty_read() returns was told of by it or will be by the
 * next, and whoever copies the pages it told of afterwards has all of it.
 * A port that looks sees to the ring before it sees whether tracking is on, and walks past it only
 * if it was not: what it makes of such walks, an invalidation that it has yet to see takes away.
 * test/model/dirty.pml has all orders.
 *
 * Locks: ioas->lock for all but domain_walk_tracked(), which runs inside sections. Nothing here
 * needs memory.
 */
#include <errno.h>

#include "space/space.h"
#include "util/refuse.h"

enum uiommu_fault_reason domain_walk_tracked(struct uiommu_domain *domain, uint64_t iova,
					     int access, struct table_leaf *leaf)
{
	if (!(access & leaf->prot & UIOMMU_WRITE))
		leaf->prot &= ~UIOMMU_WRITE;
	else if (!table_mark_dirty(&domain->table, iova))
		return UIOMMU_FAULT_NOT_PRESENT; /* taken away since the walk */
	return UIOMMU_FAULT_NONE;
}

static void ignore(void *ctx, struct uiommu_range range)
{
}

/* Forget it all, and have every device's next write seen. ioas->lock held. */
static void begin(struct uiommu_domain *domain)
{
	atomic_store_explicit(&domain->tracking, true, memory_order_relaxed);
	table_scan_dirty(&domain->table, UIOMMU_RANGE_ALL, true, ignore, NULL, &domain->pending);
	gather_add(&domain->pending, UIOMMU_RANGE_ALL);
	domain_flush(domain);
}

static int refuse_untracked(const struct uiommu_domain *domain)
{
	return uiommu_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP, domain->name, UIOMMU_RANGE_NONE,
			     UIOMMU_RANGE_NONE);
}

UIOMMU_API int uiommu_domain_dirty_track(struct uiommu_domain *domain, bool enabled)
{
	if (!domain->table.dirty)
		return refuse_untracked(domain);
	pthread_mutex_lock(&domain->ioas->lock);
	/* Once it is off, an IOTLB entry that isn't writable yet costs its next write a walk. */
	if (enabled)
		begin(domain);
	else
		atomic_store_explicit(&domain->tracking, false, memory_order_relaxed);
	pthread_mutex_unlock(&domain->ioas->lock);
	return 0;
}

/* Is all of the range mapped? */
static int check_mapped(struct uiommu_ioas *ioas, struct uiommu_range range)
{
	struct imap_pos pos;
	uint64_t next = range.first;

	for (const struct imap_entry *e = imap_find(&ioas->areas, next, &pos);
	     e && e->range.first <= next && !(e->info & AREA_LEAVING); e = imap_next(&pos)) {
		if (e->range.last >= range.last)
			return 0;
		next = e->range.last + 1;
	}
	return uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -EINVAL, "dirty pages", range,
			     (struct uiommu_range){next, range.last});
}

static int read_locked(struct uiommu_domain *domain, struct uiommu_range range, int flags,
		       uiommu_dirty_fn each, void *ctx)
{
	bool clear = !(flags & UIOMMU_DIRTY_KEEP);
	int ret = check_mapped(domain->ioas, range);

	if (ret)
		return ret;
	if (!atomic_load_explicit(&domain->tracking, memory_order_relaxed))
		return uiommu_refuse(UIOMMU_RULE_ORDER, -EINVAL, "dirty pages are not tracked",
				     range, UIOMMU_RANGE_NONE);
	table_scan_dirty(&domain->table, range, clear, each, ctx, &domain->pending);
	if (clear)
		domain_flush(domain);
	return 0;
}

UIOMMU_API int uiommu_domain_dirty_read(struct uiommu_domain *domain, struct uiommu_range range,
					int flags, uiommu_dirty_fn each, void *ctx)
{
	int ret;

	if (!domain->table.dirty)
		return refuse_untracked(domain);
	if (!range_valid(range))
		return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "dirty pages", range,
				     UIOMMU_RANGE_NONE);
	if (flags & ~UIOMMU_DIRTY_KEEP)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "dirty pages: flags", range,
				     UIOMMU_RANGE_NONE);
	pthread_mutex_lock(&domain->ioas->lock);
	ret = read_locked(domain, range, flags, each, ctx);
	pthread_mutex_unlock(&domain->ioas->lock);
	return ret;
}
