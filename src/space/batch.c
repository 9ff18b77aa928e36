/* SPDX-License-Identifier: MIT */
/*
 * Batches: operations on address spaces with one flush after the last. Owns the way of an area from
 * being unmapped to being released.
 *
 * A batch is closed if it holds its only lock from its start to its finish: it is one operation, or
 * several on one IOAS of whose areas nobody is told. Nobody sees what it is about, so it has no
 * identity (id 0), and an unmap forgets its areas at once. Only one that takes away several areas
 * and tells of them keeps those until it finishes, as others do:
 *
 * An unmap clears the table entries, which makes the invalidation pending in each domain, and marks
 * the area as leaving. It stays in the map of areas until the flush, so that its IOVAs are nobody
 * else's; table pages wait in the pending gather. A record says where to look for such areas once
 * the batch finishes; adjoining ranges share one. This needs no memory but for the records, of
 * which the first is part of the batch, and for marks where too many kinds of them stand beside
 * each other; a closed batch makes no marks. So an unmap by itself cannot fail.
 *
 * A map where only the batch's own areas are leaving takes their IOVAs over: see replace.c.
 *
 * Flushing serves all batches at once, for it makes everything pending forgotten. The IOAS counts
 * its flushes (the epoch), and a record whose epoch has passed needs none. Records may overlap, so
 * nothing is released before all of them have been flushed.
 *
 * Invariants: a leaving area has no table entries; every leaving area lies within a record of its
 * batch; each area is released once, after the flush that follows its clearing.
 *
 * Locks: the ioas->lock of the operation at hand, of two in the order of their addresses; kept from
 * one operation to the next on the same IOAS, let go at a cut.
 */
#include <errno.h>
#include <time.h>

#include "space/batch.h"
#include "util/alloc.h"
#include "util/refuse.h"

/* ---- locks ---- */

static inline void unlock_all(struct uiommu_batch *batch)
{
	if (batch->locked[1])
		pthread_mutex_unlock(&batch->locked[1]->lock);
	if (batch->locked[0])
		pthread_mutex_unlock(&batch->locked[0]->lock);
	batch->locked[0] = batch->locked[1] = NULL;
}

static void lock_others(struct uiommu_batch *batch, struct uiommu_ioas *a, struct uiommu_ioas *b)
{
	if (b && (uintptr_t)b < (uintptr_t)a) {
		struct uiommu_ioas *swap = a;

		a = b;
		b = swap;
	}
	if (batch->locked[0] == a && batch->locked[1] == b)
		return;
	unlock_all(batch);
	pthread_mutex_lock(&a->lock);
	if (b)
		pthread_mutex_lock(&b->lock);
	batch->locked[0] = a;
	batch->locked[1] = b;
}

/* Hold the locks of a and b (NULL: of a alone) and no others. */
static inline void lock_only(struct uiommu_batch *batch, struct uiommu_ioas *a,
			     struct uiommu_ioas *b)
{
	if (b == a)
		b = NULL;
	if (batch->locked[0] != a || batch->locked[1] != b)
		lock_others(batch, a, b);
}

/* ---- records ---- */

static int record_chunk(struct uiommu_batch *batch)
{
	struct batch_chunk *chunk = uiommu_alloc(sizeof(*chunk));

	if (!chunk)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "batch", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	if (batch->last_chunk)
		batch->last_chunk->next = chunk;
	else
		batch->chunks = chunk;
	batch->last_chunk = chunk;
	return 0;
}

/* See to it that one more record can be made. */
static inline int record_room(struct uiommu_batch *batch)
{
	const struct batch_chunk *chunk = batch->last_chunk;

	if (!batch->last || (chunk && chunk->used < CHUNK_RECORDS))
		return 0;
	return record_chunk(batch);
}

int batch_record_room(struct uiommu_batch *batch)
{
	return record_room(batch);
}

/* Areas in the range are leaving. There is room, or it adjoins the last one. */
static void record_add(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
		       struct uiommu_range range)
{
	struct batch_record *last = batch->last;

	if (last && last->ioas == ioas && last->epoch == ioas->epoch) {
		if (last->range.last != UINT64_MAX && last->range.last + 1 == range.first) {
			last->range.last = range.last;
			return;
		}
		if (range.last != UINT64_MAX && range.last + 1 == last->range.first) {
			last->range.first = range.first;
			return;
		}
	}
	last = last ? &batch->last_chunk->record[batch->last_chunk->used++] : &batch->first;
	*last = (struct batch_record){.ioas = ioas, .range = range, .epoch = ioas->epoch};
	batch->last = last;
}

/* ---- taking away ---- */

/* See to it that the areas around pos can be marked as leaving without memory. False: no memory. */
static inline bool mark_room(const struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			     struct imap_pos *pos)
{
	uint64_t first = pos->entry.range.first;

	if (!batch->id || imap_can_set(pos, leaving_info(batch)))
		return true;
	return imap_edit(&ioas->areas, first) && imap_find(&ioas->areas, first, pos);
}

/* Is everything in the range this batch's to take away? Own areas that are leaving already don't
 * count. *inside becomes the first and last address of those that do, *bytes their size; pos the
 * last of them. */
static inline int check_unmap(const struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			      struct uiommu_range range, struct imap_pos *pos,
			      struct uiommu_range *inside, uint64_t *bytes)
{
	const struct imap_entry *e = imap_find(&ioas->areas, range.first, pos);

	for (; e && e->range.first <= range.last; e = imap_next(pos)) {
		uint64_t more;

		if (e->info & AREA_LEAVING) {
			if (leaves_by(batch, e))
				continue;
			return ioas_refuse_area(range, e);
		}
		if (!range_contains(range, e->range))
			return uiommu_refuse(UIOMMU_RULE_SPLIT, -EINVAL, "an existing mapping",
					     range, e->range);
		if (!mark_room(batch, ioas, pos))
			return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "batch", range,
					     e->range);
		if (!range_valid(*inside))
			*inside = e->range;
		more = range_length(e->range);
		if (e->range.last != range.last) {
			uint64_t all = imap_skip(pos, range.last, AREA_LEAVING);

			more = all ? all : more;
		}
		inside->last = e->range.last;
		*bytes = add_sat(*bytes, more);
		if (e->range.last == range.last)
			break;
	}
	return 0;
}

/* Mark what is in the range as leaving, of which pos is the last. There is room for that. Nobody
 * sees what a closed batch is about. */
static inline void mark(const struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			struct uiommu_range range, struct imap_pos *pos)
{
	const struct imap_entry *e = &pos->entry;

	if (!batch->id)
		return;
	if (e->range.first != range.first)
		e = imap_find(&ioas->areas, range.first, pos);
	for (; e && e->range.first <= range.last; e = imap_next(pos)) {
		if (!(e->info & AREA_LEAVING))
			imap_set(pos, leaving_info(batch));
		if (e->range.last >= range.last)
			break;
	}
}

/* Clear the tables of all domains, to be flushed. */
static inline void clear(struct uiommu_ioas *ioas, struct uiommu_range range)
{
	for (struct uiommu_domain *d = ioas->domains; d; d = d->next)
		table_unmap(&d->table, range, &d->pending);
}

/* Make every area in the range leave, of which pos is the last. There is room for a record and for
 * the marks. */
static inline void take_away(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			     struct uiommu_range range, struct imap_pos *pos)
{
	mark(batch, ioas, range, pos);
	clear(ioas, range);
	record_add(batch, ioas, range);
}

void batch_take_away(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
		     struct uiommu_range range, struct imap_pos *pos)
{
	take_away(batch, ioas, range, pos);
}

static int do_unmap(struct uiommu_batch *batch, struct uiommu_ioas *ioas, struct uiommu_range range,
		    uint64_t *unmapped)
{
	struct uiommu_range inside = UIOMMU_RANGE_NONE;
	struct imap_pos pos;
	uint64_t bytes = 0;
	int ret;

	if (!range_valid(range))
		return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, NULL, range, UIOMMU_RANGE_NONE);
	ret = check_unmap(batch, ioas, range, &pos, &inside, &bytes);
	if (!ret && bytes)
		ret = record_room(batch);
	if (ret)
		return ret;
	*unmapped = bytes;
	if (!bytes)
		return 0;
	if (!batch->id && !batch->release) {
		count_bytes(ioas, imap_drop(&ioas->areas, inside, 0, 0, NULL, NULL));
		clear(ioas, inside);
		batch->taken = true;
	} else {
		take_away(batch, ioas, inside, &pos);
	}
	ioas->stats.unmaps++;
	return 0;
}

/* ---- mapping ---- */

/* Reserved regions, and what each domain's format has to say. */
static inline int check_place(struct uiommu_ioas *ioas, const struct imap_entry *entry)
{
	int ret = ioas_check_blocked(ioas, -EINVAL, entry->range);

	return ret ? ret : ioas_check_domains(ioas, entry->range, entry->value, (int)entry->info);
}

/* Enter an area into the map of areas. *over: in place of what is leaving. */
static inline int place(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			const struct imap_entry *entry, bool *over)
{
	struct imap_entry blocking;
	int ret = imap_insert(&ioas->areas, entry, &blocking);

	*over = ret == -EEXIST;
	if (ret == -EEXIST && !leaves_by(batch, &blocking))
		ret = ioas_refuse_area(entry->range, &blocking);
	else if (ret == -EEXIST)
		ret = (ret = ioas_check_domains(ioas, entry->range, entry->value, (int)entry->info))
			      ? ret
			      : batch_replace(batch, ioas, entry);
	else if (ret)
		ret = uiommu_refuse(UIOMMU_RULE_NO_MEMORY, ret, NULL, entry->range,
				    UIOMMU_RANGE_NONE);
	else if ((ret = check_place(ioas, entry)))
		imap_erase(&ioas->areas, entry->range.first);
	if (!ret)
		ioas->stats.bytes = add_sat(ioas->stats.bytes, range_length(entry->range));
	return ret;
}

/* Give up an area that was placed, held by nobody and where nothing was, and that is in no table or
 * was in those of a closed batch. */
static void displace(struct uiommu_ioas *ioas, struct uiommu_range range)
{
	imap_erase(&ioas->areas, range.first);
	count_bytes(ioas, range_length(range));
}

/* Give up an area that was placed and that devices may have reached, or may still reach what it
 * took the place of. Its holder, if it was held, hears of it after the flush. There
 * is room for a record. */
static void retract(struct uiommu_batch *batch, struct uiommu_ioas *ioas, struct uiommu_range range,
		    bool held)
{
	struct imap_pos pos;

	imap_find(&ioas->areas, range.first, &pos);
	imap_set(&pos, leaving_info(batch) | (held ? 0 : AREA_SILENT));
	if (!held) {
		count_bytes(ioas, range_length(range));
		batch->silent = true;
	}
	record_add(batch, ioas, range);
}

/* Enter an area everywhere: areas, owner, tables. op is for the owner. */
static inline int enter(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			const struct uiommu_op *op, const struct imap_entry *entry)
{
	bool over;
	int ret = place(batch, ioas, entry, &over);

	if (ret)
		return ret;
	if (batch->hold) {
		struct uiommu_area area;

		area_of(entry, &area);
		ret = batch->hold(batch->ctx, op, &area);
		if (ret) {
			if (over)
				retract(batch, ioas, entry->range, false);
			else
				displace(ioas, entry->range);
			return ret;
		}
	}
	for (struct uiommu_domain *d = ioas->domains; d; d = d->next) {
		ret = table_map(&d->table, entry->range, entry->value, (int)entry->info,
				&d->pending);
		if (!ret)
			continue;
		for (struct uiommu_domain *before = ioas->domains; before != d;
		     before = before->next)
			table_unmap(&before->table, entry->range, &before->pending);
		batch->taken = true;
		/* With nothing pending in the only table that was tried, it was not entered. */
		if (!batch->id ||
		    (!over && !batch->hold && d == ioas->domains && gather_empty(&d->pending)))
			displace(ioas, entry->range);
		else
			retract(batch, ioas, entry->range, batch->hold);
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, ret, NULL, entry->range,
				     UIOMMU_RANGE_NONE);
	}
	return 0;
}

int batch_enter(struct uiommu_batch *batch, struct uiommu_ioas *ioas, const struct uiommu_op *op,
		const struct imap_entry *entry)
{
	return enter(batch, ioas, op, entry);
}

void ioas_count_map(struct uiommu_ioas *ioas, uint64_t largest, int prot)
{
	ioas->mmio |= prot & UIOMMU_MMIO;
	ioas->stats.maps++;
	if (largest > ioas->stats.largest)
		ioas->stats.largest = largest;
	if (ioas->areas.count > ioas->stats.most_areas)
		ioas->stats.most_areas = ioas->areas.count;
}

static inline int do_map(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			 const struct uiommu_op *op, const struct imap_entry *entry, int prot)
{
	int ret = ioas_check_map(ioas, entry->range, entry->value, prot);

	if (!ret)
		ret = record_room(batch);
	if (!ret)
		ret = enter(batch, ioas, op, entry);
	if (!ret)
		ioas_count_map(ioas, range_length(entry->range), prot);
	return ret;
}

/* Choose the range of a map or a copy. */
static int choose(const struct uiommu_batch *batch, struct uiommu_op *op)
{
	uint64_t addr = op->addr;

	op->range = UIOMMU_RANGE_NONE;
	if (op->kind == UIOMMU_OP_COPY) {
		struct imap_pos pos;
		const struct imap_entry *area = imap_find(&op->source->areas, addr, &pos);

		if (!area || area->range.first > addr || leaves_by(batch, area))
			return uiommu_refuse(UIOMMU_RULE_NOT_MAPPED, -ENOENT,
					     "the source of the copy",
					     (struct uiommu_range){addr, addr}, UIOMMU_RANGE_NONE);
		addr = area->value + (addr - area->range.first);
	}
	return ioas_place(op->ioas, op->place, addr, op->prot, &op->range);
}

/* ---- running ---- */

static inline int map_op(struct uiommu_batch *batch, const struct uiommu_op *op)
{
	const struct imap_entry entry = {
		.range = op->range, .value = op->addr, .tag = op->tag, .info = (unsigned)op->prot};

	return do_map(batch, op->ioas, op, &entry, op->prot);
}

static void do_op(struct uiommu_batch *batch, struct uiommu_op *op)
{
	op->bytes = 0;
	if ((unsigned)op->kind > UIOMMU_OP_COPY || !op->ioas ||
	    (op->kind == UIOMMU_OP_COPY && !op->source)) {
		op->status = uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "operation of a batch",
					   UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
		return;
	}
	lock_only(batch, op->ioas, op->kind == UIOMMU_OP_COPY ? op->source : NULL);
	if (op->kind == UIOMMU_OP_UNMAP) {
		op->status = do_unmap(batch, op->ioas, op->range, &op->bytes);
		return;
	}
	op->status = op->place ? choose(batch, op) : 0;
	if (op->status)
		return;
	op->status = op->kind == UIOMMU_OP_MAP ? map_op(batch, op) : batch_copy(batch, op);
	if (op->status && op->place)
		op->range = UIOMMU_RANGE_NONE;
}

/* Where there are many mappings, operations look at memory that is out of the caches: so the next
 * ones' is fetched meanwhile, as far as they are on the address space whose lock is held. */
static void prefetch(const struct uiommu_batch *batch, const struct uiommu_op *ops, size_t count)
{
	struct uiommu_ioas *ioas = batch->locked[0];
	uint64_t addr[IMAP_AHEAD];
	unsigned n = 0;

	for (size_t i = 0; i < count && i < IMAP_AHEAD; i++)
		if (ops[i].ioas == ioas && !ops[i].place)
			addr[n++] = ops[i].range.first;
	if (!n ||
	    (imap_is_near(&ioas->areas, addr[0]) && imap_is_near(&ioas->areas, addr[n - 1])) ||
	    !imap_prefetch(&ioas->areas, addr, n))
		return;
	for (const struct uiommu_domain *d = ioas->domains; d; d = d->next)
		for (unsigned i = 0; i < n; i++)
			table_prefetch(&d->table, addr[i]);
}

/* For the operation at @done, once for several. */
static inline void look_ahead(const struct uiommu_batch *batch, const struct uiommu_op *ops,
			      size_t done, size_t count)
{
	if (done % IMAP_AHEAD == 1 && done + IMAP_AHEAD < count && batch->locked[0] &&
	    batch->locked[0]->areas.hints)
		prefetch(batch, &ops[done + IMAP_AHEAD], count - done - IMAP_AHEAD);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

UIOMMU_API size_t uiommu_batch_run(struct uiommu_batch *batch, struct uiommu_op *ops, size_t count,
				   const struct uiommu_budget *budget)
{
	static const struct uiommu_budget none;
	uint64_t end = 0;
	size_t done = 0;

	if (!budget)
		budget = &none;
	if (budget->ops && budget->ops < count)
		count = budget->ops;
	if (budget->nanoseconds)
		end = add_sat(now(), budget->nanoseconds);
	while (done < count) {
		if (done && ((end && now() >= end) || (budget->stop && budget->stop(budget->ctx))))
			break;
		look_ahead(batch, ops, done, count);
		do_op(batch, &ops[done++]);
	}
	unlock_all(batch);
	return done;
}

/* ---- finishing ---- */

static void tell(void *ctx, const struct imap_entry *entry)
{
	struct uiommu_batch *batch = ctx;
	struct uiommu_area area;

	area_of(entry, &area);
	batch->release(batch->ctx, &area);
}

/* Forget what left within a record, now that no device reaches it. In a closed batch that is all
 * there is. */
static inline void drop(struct uiommu_batch *batch, const struct batch_record *record)
{
	uint64_t mask = batch->id ? ~AREA_PROT : 0, info = leaving_info(batch) & mask;
	struct imap *areas = &record->ioas->areas;

	if (batch->silent)
		imap_drop(areas, record->range, ~AREA_PROT, leaving_info(batch) | AREA_SILENT, NULL,
			  NULL);
	count_bytes(record->ioas, imap_drop(areas, record->range, mask, info,
					    batch->release ? tell : NULL, batch));
}

/* Have what left within a record forgotten, unless a flush since then has done it. */
static inline void flush_record(struct uiommu_batch *batch, const struct batch_record *record)
{
	lock_only(batch, record->ioas, NULL);
	if (record->ioas->epoch == record->epoch)
		ioas_flush(record->ioas);
}

static void flush_chunks(struct uiommu_batch *batch)
{
	for (const struct batch_chunk *chunk = batch->chunks; chunk; chunk = chunk->next)
		for (size_t i = 0; i < chunk->used; i++)
			flush_record(batch, &chunk->record[i]);
}

static void drop_chunks(struct uiommu_batch *batch)
{
	struct batch_chunk *chunk;

	while ((chunk = batch->chunks)) {
		for (size_t i = 0; i < chunk->used; i++) {
			lock_only(batch, chunk->record[i].ioas, NULL);
			drop(batch, &chunk->record[i]);
		}
		batch->chunks = chunk->next;
		uiommu_free(chunk, sizeof(*chunk));
	}
	batch->last_chunk = NULL;
}

/* All is flushed before anything is dropped: records overlap where a range left more than once, and
 * the flush that served the earlier one need not have seen the later. */
static inline void finish(struct uiommu_batch *batch)
{
	if (batch->last) {
		flush_record(batch, &batch->first);
		if (batch->chunks) {
			flush_chunks(batch);
			lock_only(batch, batch->first.ioas, NULL);
		}
		drop(batch, &batch->first);
	}
	if (batch->chunks)
		drop_chunks(batch);
	for (const struct batch_ghost *g = batch->ghosts; g; g = g->next)
		if (batch->release)
			batch->release(batch->ctx, &g->area);
	unlock_all(batch);
	batch_free_ghosts(batch->ghosts);
	batch->ghosts = NULL;
	batch->last = NULL;
}

UIOMMU_API void uiommu_batch_finish(struct uiommu_batch *batch)
{
	finish(batch);
}

/* ---- closed batches ---- */

static inline void closed_start(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
				uiommu_area_fn release, void *ctx)
{
	/* One by one: the records need not be cleared, and clearing all would take a while. */
	batch->id = 0;
	batch->silent = batch->taken = false;
	batch->locked[0] = ioas;
	batch->locked[1] = NULL;
	batch->chunks = batch->last_chunk = NULL;
	batch->last = NULL;
	batch->ghosts = NULL;
	batch->hold = NULL;
	batch->release = release;
	batch->ctx = ctx;
}

/* All but unlocking. */
static inline void closed_finish(struct uiommu_batch *batch)
{
	if (!batch->last && !batch->taken)
		return;
	ioas_flush(batch->locked[0]);
	if (batch->last)
		drop(batch, &batch->first);
	else if (batch->release)
		tell(batch, &batch->gone);
}

/* Unmap a range that is one area, as most are. False: it isn't, and nothing was done. */
static inline bool unmap_one(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			     struct uiommu_range range)
{
	struct imap_pos pos;
	const struct imap_entry *e = imap_find(&ioas->areas, range.first, &pos);

	if (!e || e->range.first != range.first || e->range.last != range.last ||
	    (e->info & AREA_LEAVING))
		return false;
	if (batch->release)
		batch->gone = *e;
	imap_erase_found(&ioas->areas, &pos);
	clear(ioas, range);
	count_bytes(ioas, range_length(range));
	ioas->stats.unmaps++;
	batch->taken = true;
	return true;
}

static inline int closed_unmap(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
			       struct uiommu_range range, uint64_t *unmapped)
{
	if (!unmap_one(batch, ioas, range))
		return do_unmap(batch, ioas, range, unmapped);
	*unmapped = range_length(range);
	return 0;
}

UIOMMU_API int uiommu_ioas_map(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t addr,
			       int prot, void *tag)
{
	const struct imap_entry entry = {
		.range = range, .value = addr, .tag = tag, .info = (unsigned)prot};
	struct uiommu_batch batch;
	int ret;

	closed_start(&batch, ioas, NULL, NULL);
	pthread_mutex_lock(&ioas->lock);
	ret = do_map(&batch, ioas, NULL, &entry, prot);
	closed_finish(&batch);
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

int ioas_unmap(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t *unmapped,
	       uiommu_area_fn each, void *ctx)
{
	struct uiommu_batch batch;
	uint64_t bytes;
	int ret;

	closed_start(&batch, ioas, each, ctx);
	ret = closed_unmap(&batch, ioas, range, unmapped ? unmapped : &bytes);
	closed_finish(&batch);
	return ret;
}

UIOMMU_API int uiommu_ioas_unmap(struct uiommu_ioas *ioas, struct uiommu_range range,
				 uint64_t *unmapped, uiommu_area_fn each, void *ctx)
{
	int ret;

	pthread_mutex_lock(&ioas->lock);
	ret = ioas_unmap(ioas, range, unmapped, each, ctx);
	pthread_mutex_unlock(&ioas->lock);
	return ret;
}

/* Can these be the operations of a closed batch? */
static bool closable(const struct uiommu_op *ops, size_t count)
{
	const struct uiommu_ioas *ioas = count ? ops->ioas : NULL;

	for (size_t i = 0; i < count; i++)
		if (ops[i].ioas != ioas || ops[i].place || (unsigned)ops[i].kind > UIOMMU_OP_UNMAP)
			return false;
	return ioas;
}

static inline bool adjoining_unmaps(const struct uiommu_op *a, const struct uiommu_op *b)
{
	return a->kind == UIOMMU_OP_UNMAP && b->kind == UIOMMU_OP_UNMAP &&
	       a->range.last != UINT64_MAX && a->range.last + 1 == b->range.first;
}

/* Unmaps of one area each that adjoin, all at once: how many of the first ones that are. */
static size_t unmap_row(struct uiommu_batch *batch, struct uiommu_op *ops, size_t count)
{
	struct uiommu_ioas *ioas = ops->ioas;
	struct uiommu_range row = ops->range;
	struct imap_pos pos;
	const struct imap_entry *e = imap_find(&ioas->areas, row.first, &pos);
	size_t n = 0;

	while (e && e->range.first == ops[n].range.first && e->range.last == ops[n].range.last &&
	       !(e->info & AREA_LEAVING)) {
		row.last = e->range.last;
		ops[n].status = 0;
		ops[n].bytes = range_length(e->range);
		if (++n == count || !adjoining_unmaps(&ops[n - 1], &ops[n]))
			break;
		e = imap_next(&pos);
	}
	if (!n)
		return 0;
	count_bytes(ioas, imap_drop(&ioas->areas, row, 0, 0, NULL, NULL));
	clear(ioas, row);
	ioas->stats.unmaps += n;
	batch->taken = true;
	return n;
}

static void run_closed(struct uiommu_op *ops, size_t count)
{
	struct uiommu_ioas *ioas = ops->ioas;
	struct uiommu_batch batch;

	closed_start(&batch, ioas, NULL, NULL);
	pthread_mutex_lock(&ioas->lock);
	for (size_t i = 0, row; i < count; i += row) {
		struct uiommu_op *op = &ops[i];

		row = i + 1 < count && adjoining_unmaps(op, op + 1)
			      ? unmap_row(&batch, op, count - i)
			      : 0;
		if (row)
			continue;
		row = 1;
		look_ahead(&batch, ops, i, count);
		op->bytes = 0;
		if (op->kind == UIOMMU_OP_UNMAP)
			op->status = closed_unmap(&batch, ioas, op->range, &op->bytes);
		else
			op->status = map_op(&batch, op);
	}
	closed_finish(&batch);
	pthread_mutex_unlock(&ioas->lock);
}

/* An operation by itself, which may let go of a lock before it finishes. */
int batch_run_one(struct uiommu_op *op)
{
	struct uiommu_batch batch;

	batch_init(&batch, NULL);
	do_op(&batch, op);
	finish(&batch);
	return op->status;
}

UIOMMU_API int uiommu_batch_submit(struct uiommu_op *ops, size_t count,
				   const struct uiommu_batch_options *options)
{
	struct uiommu_batch batch;
	int ret = batch_init(&batch, options);

	if (ret)
		return ret;
	if (!batch.hold && !batch.release && closable(ops, count)) {
		run_closed(ops, count);
	} else {
		uiommu_batch_run(&batch, ops, count, NULL);
		finish(&batch);
	}
	for (size_t i = 0; i < count && !ret; i++)
		ret = ops[i].status;
	return ret;
}
