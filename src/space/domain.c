/* SPDX-License-Identifier: MIT */
/*
 * A domain: owns one I/O page table and the invalidations that go with it, and keeps it equal to
 * its IOAS from creation to destruction. What the table can't translate, outside of its aperture or
 * of its windows where those come and go, is reserved in the IOAS.
 *
 * What was taken away and not flushed yet is pending, whoever took it away: a flush serves them
 * all. Flushing, in this order: the entries are cleared (before the call); the range is put into
 * the ring; the unit counts up; a barrier; wait for every port that may have read an entry before
 * it was cleared; only then do table pages become free again. A port that enters a section later
 * sees the new count, and so both the cleared entry and the ring's new head: it drops what its
 * IOTLB held.
 *
 * Locks: ioas->lock guards the table, unit->lock the attachments.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "space/space.h"
#include "util/alloc.h"
#include "util/options.h"
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

/* The highest address an area can have: what an entry holds and, nested, the parent translates. */
static uint64_t max_addr(const struct uiommu_domain *domain)
{
	uint64_t format = domain->table.ops->max_addr;

	return format < domain->parent_last ? format : domain->parent_last;
}

void ioas_common_limits(struct uiommu_ioas *ioas)
{
	ioas->alignment = ioas->page_size > ioas->least ? ioas->page_size : ioas->least;
	if (!ioas->alignment)
		ioas->alignment = 1;
	ioas->page_sizes = UINT64_MAX;
	ioas->max_addr = UINT64_MAX;
	for (struct uiommu_domain *d = ioas->domains; d; d = d->next) {
		ioas->page_sizes &= d->table.page_sizes;
		if (table_page(&d->table) > ioas->alignment)
			ioas->alignment = table_page(&d->table);
		if (max_addr(d) < ioas->max_addr)
			ioas->max_addr = max_addr(d);
	}
}

/* Enter all areas of the IOAS, or none. */
static int fill(struct uiommu_domain *domain)
{
	uint64_t mask = table_page(&domain->table) - 1;
	struct imap_pos pos;

	for (const struct imap_entry *e = imap_find(&domain->ioas->areas, 0, &pos); e;
	     e = imap_next(&pos)) {
		uint64_t max = max_addr(domain);
		struct table_why why;
		int ret;

		if (e->info & AREA_LEAVING)
			continue;
		if ((e->range.first | e->value | (e->range.last + 1)) & mask)
			return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EADDRINUSE, domain->name,
					     e->range, (struct uiommu_range){0, mask});
		if (e->value > max || e->range.last - e->range.first > max - e->value)
			return uiommu_refuse(UIOMMU_RULE_WRAP, -EADDRINUSE, domain->name, e->range,
					     (struct uiommu_range){e->value, max});
		if (table_check(&domain->table, e->range, e->value, (int)e->info, &why))
			return uiommu_refuse(why.rule, -EADDRINUSE, why.what, e->range, why.range);
		ret = table_map(&domain->table, e->range, e->value, (int)e->info, &domain->pending);
		if (ret)
			return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, ret, domain->name, e->range,
					     UIOMMU_RANGE_NONE);
	}
	return 0;
}

/* Most gaps there can be: around and between windows. */
#define MAX_GAPS (TABLE_MAX_WINDOWS + 1)

static struct uiommu_range *add_gap(struct uiommu_range *gap, uint64_t first, uint64_t last)
{
	*gap = (struct uiommu_range){first, last};
	return gap + 1;
}

/* What the domain can't translate: outside of its aperture, or of its windows where those come and
 * go, leaving out the window at *without (NULL: none). Returns how many gaps there are. */
static size_t find_gaps(const struct uiommu_domain *domain, const uint64_t *without,
			struct uiommu_range gaps[MAX_GAPS])
{
	const struct table *table = &domain->table;
	struct table_window window = {.range = table->aperture};
	struct uiommu_range *end = gaps;
	uint64_t next = 0; /* where the next gap may start */
	bool windows = table->ops->window_create;

	while (!windows || table->ops->window_find(table, next, &window)) {
		bool skip = windows && without && window.range.first == *without;

		if (skip) {
			uint64_t after = window.range.last + 1;

			if (!after || !table->ops->window_find(table, after, &window))
				break;
		}
		if (window.range.first > next)
			end = add_gap(end, next, window.range.first - 1);
		next = window.range.last + 1;
		if (!next)
			return end - gaps;
		if (!windows)
			break;
	}
	end = add_gap(end, next, UINT64_MAX);
	return end - gaps;
}

/* Can the domain hold an entry that the system places? What the program maps need not be asked all
 * this: the IOAS's limits and reservations have answered before. Direct regions and doorbells stand
 * in reserved places, and the machine's description may ask for anything. ioas->lock held. */
int domain_check_placed(const struct uiommu_domain *domain, struct uiommu_range range,
			uint64_t addr, int prot, const char *name)
{
	uint64_t page = table_page(&domain->table), max = max_addr(domain);
	struct uiommu_range gaps[MAX_GAPS];
	size_t count = find_gaps(domain, NULL, gaps);
	struct table_why why;
	int ret;

	if ((range.first | addr | (range.last + 1)) & (page - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, name, range,
				     (struct uiommu_range){0, page - 1});
	if (addr > max || range.last - range.first > max - addr)
		return uiommu_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, name, range,
				     (struct uiommu_range){addr, max});
	for (size_t i = 0; i < count; i++)
		if (range_overlaps(gaps[i], range))
			return uiommu_refuse(UIOMMU_RULE_APERTURE, -EINVAL, name, range, gaps[i]);
	ret = table_check(&domain->table, range, addr, prot, &why);
	return ret ? uiommu_refuse(why.rule, ret, name, range, why.range) : 0;
}

/* Reserve what it can't translate. ioas->lock held. */
static int reserve_gaps(struct uiommu_domain *domain, const uint64_t *without)
{
	struct uiommu_range gaps[MAX_GAPS];
	size_t count = find_gaps(domain, without, gaps);

	return ioas_reserve_list(domain->ioas, gaps, count, UIOMMU_RESV_APERTURE, domain,
				 domain->name);
}

/* Does a table keep the promise that the IOAS was made with? */
static int check_page_size(const struct uiommu_domain *domain, const struct table *table)
{
	uint64_t promised = domain->ioas->page_size, page = table_page(table);

	if (!promised || page <= promised)
		return 0;
	return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EADDRINUSE, domain->name, UIOMMU_RANGE_NONE,
			     (struct uiommu_range){0, page - 1});
}

/* Tie a new domain, whose table is empty, to its IOAS. The table is destroyed by the caller if this
 * fails, so what was filled in need not be undone. */
static int join(struct uiommu_domain *domain)
{
	struct uiommu_ioas *ioas = domain->ioas;
	int ret;

	ret = check_page_size(domain, &domain->table);
	if (ret)
		return ret;
	pthread_mutex_lock(&ioas->lock);
	ret = claims_check_page(ioas, table_page(&domain->table));
	if (!ret)
		ret = reserve_gaps(domain, NULL);
	if (!ret) {
		ret = fill(domain);
		if (!ret)
			ret = placed_fill(domain);
		if (ret)
			ioas_reserve_list(ioas, NULL, 0, UIOMMU_RESV_APERTURE, domain, NULL);
	}
	if (!ret) {
		domain->next = ioas->domains;
		ioas->domains = domain;
		ioas_common_limits(ioas);
	}
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

/* What the first version of the options had. */
#define FIRST_OPTIONS offsetof(struct uiommu_domain_options, aperture)

static int take_options(struct uiommu_domain_options *known,
			const struct uiommu_domain_options *options)
{
	int ret = options ? options_take(known, sizeof(*known), FIRST_OPTIONS, options) : -EINVAL;

	if (!ret && known->format)
		return 0;
	return uiommu_refuse(UIOMMU_RULE_ARGUMENT, ret ? ret : -EINVAL, "domain options",
			     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

/* The table that the options ask for, and a number for it that no other had. */
static int make_table(struct uiommu_unit *unit, const struct uiommu_domain_options *options,
		      struct table *table, uint64_t *uid)
{
	const struct table_config config = {
		.format = options->format,
		.width = options->width,
		.aperture = options->aperture,
		.windows = options->windows,
		.page_sizes = options->page_sizes,
		.dirty = options->dirty,
		.snoop = options->snoop,
		.shared = &unit->shared,
	};
	int ret;

	pthread_mutex_lock(&unit->lock);
	*uid = ++unit->next_uid;
	ret = table_init(table, &config);
	pthread_mutex_unlock(&unit->lock);
	if (ret == -ENOMEM)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, ret, "table", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	if (ret == -ENOSPC)
		return uiommu_refuse(UIOMMU_RULE_LIMIT, ret,
				     "entries that the unit's domains share: ask for fewer windows",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	if (ret == -EOPNOTSUPP)
		return uiommu_refuse(UIOMMU_RULE_UNSUPPORTED, ret,
				     "the table format has no dirty bits", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	if (ret)
		return uiommu_refuse(UIOMMU_RULE_UNSUPPORTED, ret,
				     "table format, width, aperture, windows or page sizes",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	return 0;
}

static void unmake_table(struct uiommu_unit *unit, struct table *table)
{
	pthread_mutex_lock(&unit->lock);
	table_destroy(table);
	pthread_mutex_unlock(&unit->lock);
}

/* Remember the parent of a nested domain. */
static int set_parent(struct uiommu_domain *domain, const struct uiommu_domain *parent)
{
	domain->parent_last = UINT64_MAX;
	if (!parent)
		return 0;
	if (parent->unit != domain->unit || parent->parent_uid)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				     "the parent is nested itself, or another IOMMU's",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	domain->parent_uid = parent->uid;
	domain->parent_last = parent->table.aperture.last;
	return 0;
}

/* Up to a page of the processor's. */
static uint64_t small_leaves(const struct uiommu_domain *domain)
{
	uint64_t small = domain->leaf_sizes & (2 * UINT64_C(4096) - 1);

	return small ? small : table_page(&domain->table);
}

UIOMMU_API int uiommu_domain_create(struct uiommu_unit *unit, struct uiommu_ioas *ioas,
				    const struct uiommu_domain_options *options,
				    struct uiommu_domain **out)
{
	struct uiommu_domain_options known = {.size = sizeof(known)};
	struct uiommu_domain *domain;
	int ret = take_options(&known, options);

	if (ret)
		return ret;
	domain = uiommu_alloc(sizeof(*domain));
	if (!domain)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "domain", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	domain->unit = unit;
	domain->ioas = ioas;
	domain->pending = GATHER_INIT;
	snprintf(domain->name, sizeof(domain->name), "%s", known.name ? known.name : known.format);
	ret = set_parent(domain, known.parent);
	if (ret)
		goto free_domain;
	ret = make_table(unit, &known, &domain->table, &domain->uid);
	if (ret)
		goto free_domain;
	domain->leaf_sizes = domain->table.leaf_sizes;
	if (known.small_pages)
		domain->table.leaf_sizes = small_leaves(domain);
	ret = join(domain);
	if (ret)
		goto free_table;
	*out = domain;
	return 0;

free_table:
	unmake_table(unit, &domain->table);
free_domain:
	uiommu_free(domain, sizeof(*domain));
	return ret;
}

/* ---- another shape ---- */

/* Nothing can fail any more: there is room for its two gaps. The old table comes back in *@table.
 * ioas->lock held. */
static void take_shape(struct uiommu_domain *domain, struct table *table, uint64_t uid)
{
	struct uiommu_ioas *ioas = domain->ioas;
	struct table old = domain->table;

	domain->table = *table;
	atomic_store_explicit(&domain->tracking, false, memory_order_relaxed);
	domain->leaf_sizes = table->leaf_sizes;
	domain->uid = uid; /* so that ports forget what they hold of the old one */
	*table = old;
	reserve_gaps(domain, NULL);
	ioas_common_limits(ioas);
}

static int reshape_locked(struct uiommu_domain *domain, struct table *table, uint64_t uid,
			  uiommu_area_fn each, void *ctx)
{
	struct uiommu_ioas *ioas = domain->ioas;
	uint64_t bytes;
	bool disabled;
	int ret;

	pthread_mutex_lock(&domain->unit->lock);
	disabled = domain->disabled;
	pthread_mutex_unlock(&domain->unit->lock);
	if (!disabled || ioas->placed || ioas->allowed_count || ioas->claims)
		return uiommu_refuse(UIOMMU_RULE_BUSY, -EBUSY, domain->name, UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	if (ioas_reserve_room(ioas, 2))
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, domain->name,
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	ret = ioas_unmap(ioas, UIOMMU_RANGE_ALL, &bytes, each, ctx);
	if (ret)
		return ret;
	domain_flush(domain); /* what an open batch has left pending is the old table's */
	take_shape(domain, table, uid);
	return 0;
}

UIOMMU_API int uiommu_domain_reshape(struct uiommu_domain *domain,
				     const struct uiommu_domain_options *options,
				     const struct uiommu_doorbell_place *place, uiommu_area_fn each,
				     void *ctx)
{
	struct uiommu_domain_options known = {.size = sizeof(known)};
	struct uiommu_ioas *ioas = domain->ioas;
	struct table table;
	uint64_t uid;
	int ret = take_options(&known, options);

	if (!ret && place)
		ret = placed_check(place);
	if (!ret && strcmp(known.format, domain->table.ops->name))
		ret = uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "another table format",
				    UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	if (!ret && (domain->guest || domain->table.ops->window_create))
		ret = uiommu_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP, domain->name,
				    UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	if (!ret)
		ret = make_table(domain->unit, &known, &table, &uid);
	if (ret)
		return ret;
	ret = check_page_size(domain, &table);
	if (!ret) {
		pthread_mutex_lock(&ioas->lock);
		ret = reshape_locked(domain, &table, uid, each, ctx);
		if (!ret && place)
			ioas->place = *place;
		pthread_mutex_unlock(&ioas->lock);
	}
	/* The one that is not in use. */
	unmake_table(domain->unit, &table);
	return ret;
}

UIOMMU_API void uiommu_domain_destroy(struct uiommu_domain *domain)
{
	struct uiommu_ioas *ioas;
	struct uiommu_domain **link;

	if (!domain)
		return;
	if (domain->guest) {
		guest_domain_destroy(domain);
		return;
	}
	ioas = domain->ioas;
	pthread_mutex_lock(&ioas->lock);
	for (link = &ioas->domains; *link != domain; link = &(*link)->next)
		;
	*link = domain->next;
	ioas_common_limits(ioas);
	pthread_mutex_unlock(&ioas->lock);
	uiommu_ioas_unreserve(ioas, domain);
	unmake_table(domain->unit, &domain->table);
	uiommu_free(domain, sizeof(*domain));
}

UIOMMU_API void uiommu_domain_large_pages(struct uiommu_domain *domain, bool on)
{
	pthread_mutex_lock(&domain->ioas->lock);
	domain->table.leaf_sizes = on ? domain->leaf_sizes : small_leaves(domain);
	pthread_mutex_unlock(&domain->ioas->lock);
}

UIOMMU_API uint64_t uiommu_domain_page_sizes(struct uiommu_domain *domain)
{
	return domain->table.page_sizes;
}

/* ---- windows ---- */

#define WINDOW_SIZE                                      \
	(offsetof(struct uiommu_domain_window, levels) + \
	 sizeof(((struct uiommu_domain_window *)0)->levels))

static int refuse_windows(struct uiommu_domain *domain)
{
	return uiommu_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP, domain->name, UIOMMU_RANGE_NONE,
			     UIOMMU_RANGE_NONE);
}

static void drop_window(struct uiommu_domain *domain, uint64_t first)
{
	domain->table.ops->window_remove(&domain->table, first, &domain->pending);
	domain_flush(domain);
}

UIOMMU_API int uiommu_domain_window_create(struct uiommu_domain *domain,
					   const struct uiommu_domain_window *window)
{
	struct uiommu_domain_window known = {.size = sizeof(known)};
	int ret = options_take(&known, sizeof(known), WINDOW_SIZE, window);
	const struct table_window asked = {
		.range = known.range, .page_shift = known.page_shift, .levels = known.levels};
	struct table_why why;

	if (ret)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, ret, "window", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	if (!domain->table.ops->window_create)
		return refuse_windows(domain);
	pthread_mutex_lock(&domain->ioas->lock);
	ret = domain->table.ops->window_create(&domain->table, &asked, &why);
	if (ret) {
		uiommu_refuse(why.rule, ret, why.what, known.range, why.range);
	} else {
		ret = reserve_gaps(domain, NULL);
		if (ret)
			drop_window(domain, known.range.first);
	}
	pthread_mutex_unlock(&domain->ioas->lock);
	return ret;
}

static int remove_locked(struct uiommu_domain *domain, uint64_t first)
{
	struct table *table = &domain->table;
	struct table_window window;
	const struct imap_entry *area;
	struct imap_pos pos;
	int ret;

	if (!table->ops->window_find(table, first, &window) || window.range.first != first)
		return uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -ENOENT, "window",
				     (struct uiommu_range){first, first}, UIOMMU_RANGE_NONE);
	area = imap_find(&domain->ioas->areas, first, &pos);
	if (area && area->range.first <= window.range.last)
		return uiommu_refuse(UIOMMU_RULE_BUSY, -EBUSY, "a mapping in the window",
				     window.range, area->range);
	ret = reserve_gaps(domain, &first);
	if (!ret)
		drop_window(domain, first);
	return ret;
}

UIOMMU_API int uiommu_domain_window_remove(struct uiommu_domain *domain, uint64_t first)
{
	int ret;

	if (!domain->table.ops->window_create)
		return refuse_windows(domain);
	pthread_mutex_lock(&domain->ioas->lock);
	ret = remove_locked(domain, first);
	pthread_mutex_unlock(&domain->ioas->lock);
	return ret;
}

UIOMMU_API int uiommu_domain_window_find(struct uiommu_domain *domain, uint64_t iova,
					 struct uiommu_domain_window *window)
{
	const struct table_ops *ops = domain->table.ops;
	struct table_window found;
	bool there;

	if (window->size < WINDOW_SIZE)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "window", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	pthread_mutex_lock(&domain->ioas->lock);
	there = ops->window_find && ops->window_find(&domain->table, iova, &found);
	pthread_mutex_unlock(&domain->ioas->lock);
	if (!there)
		return -ENOENT;
	window->range = found.range;
	window->page_shift = found.page_shift;
	window->levels = found.levels;
	return 0;
}

UIOMMU_API int uiommu_domain_lookup(struct uiommu_domain *domain, uint64_t iova, uint64_t *addr,
				    int *prot)
{
	struct table_leaf leaf;
	bool found;

	pthread_mutex_lock(&domain->ioas->lock);
	found = table_covers(&domain->table, iova) && table_lookup(&domain->table, iova, &leaf);
	pthread_mutex_unlock(&domain->ioas->lock);
	if (!found)
		return -ENOENT;
	*addr = leaf.addr + (iova - leaf.range.first);
	*prot = leaf.prot;
	return 0;
}
