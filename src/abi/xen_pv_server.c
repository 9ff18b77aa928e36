/* SPDX-License-Identifier: MIT */
/*
 * XenServer's pv_iommu_op, as its releases since 7.0 have it. Owns the books of machine frames that
 * only this interface keeps: the bus frame by which the hardware domain reaches a machine frame
 * (M2B), and which frames it has mapped or looked up for another domain.
 *
 * The order of checks and the statuses are XenServer's. It flushes before each continuation too and
 * drops references at once; here a call flushes once and references are dropped after that. A
 * mapping remembers whether it holds a reference, so a flag given with an unmap can't drop one that
 * was never taken.
 *
 * Entering a foreign frame and mapping it are two steps, as are unmapping it and forgetting it. An
 * operation has the frame in use meanwhile, and another about the same frame waits, so that no
 * answer rests on a step that is undone. What is done with a frame in use waits for no other frame.
 *
 * Locks: xen->lock for the books and the frames in use; never held across a hook or an operation.
 */
#include "abi/xen_pv.h"

#include <errno.h>
#include <stddef.h>

#include "util/range.h"

_Static_assert(sizeof(struct uiommu_xen_server_op) == 32, "as the guest has it");
_Static_assert(sizeof(struct uiommu_xen_server_op) <= XEN_ELEMENT_MAX, "fits");

/* ---- the books ---- */

/* Enter a machine frame: -EEXIST, -ENOMEM. */
static int book_add(struct uiommu_xen *xen, struct imap *book, uint64_t mfn, uint64_t value,
		    uint64_t info, uint64_t bfn)
{
	const struct imap_entry entry = {
		.range = {mfn, mfn}, .value = value, .info = info, .tag = (void *)(uintptr_t)bfn};
	int ret;

	pthread_mutex_lock(&xen->lock);
	ret = imap_insert(book, &entry, NULL);
	pthread_mutex_unlock(&xen->lock);
	return ret;
}

static bool book_remove(struct uiommu_xen *xen, struct imap *book, uint64_t mfn)
{
	bool was;

	pthread_mutex_lock(&xen->lock);
	was = imap_erase(book, mfn);
	pthread_mutex_unlock(&xen->lock);
	return was;
}

static bool book_find(struct uiommu_xen *xen, struct imap *book, uint64_t mfn,
		      struct imap_entry *found)
{
	const struct imap_entry *entry;
	struct imap_pos pos;

	pthread_mutex_lock(&xen->lock);
	entry = imap_find(book, mfn, &pos);
	if (entry && entry->range.first == mfn)
		*found = *entry;
	else
		entry = NULL;
	pthread_mutex_unlock(&xen->lock);
	return entry;
}

/* A foreign frame that an operation is about; it lies on the operation's stack. */
struct xen_frame_use {
	struct xen_frame_use *next;
	uint64_t mfn;
};

/* xen->lock held. */
static bool frame_in_use(const struct uiommu_xen *xen, uint64_t mfn)
{
	const struct xen_frame_use *use = xen->in_use;

	while (use && use->mfn != mfn)
		use = use->next;
	return use;
}

/* Have the frame in use, as soon as nobody else has. xen->lock held; waiting lets go of it. */
static void frame_use_locked(struct uiommu_xen *xen, struct xen_frame_use *use, uint64_t mfn)
{
	while (frame_in_use(xen, mfn))
		pthread_cond_wait(&xen->frame_free, &xen->lock);
	*use = (struct xen_frame_use){xen->in_use, mfn};
	xen->in_use = use;
}

static void frame_use(struct uiommu_xen *xen, struct xen_frame_use *use, uint64_t mfn)
{
	pthread_mutex_lock(&xen->lock);
	frame_use_locked(xen, use, mfn);
	pthread_mutex_unlock(&xen->lock);
}

static void frame_done(struct uiommu_xen *xen, const struct xen_frame_use *use)
{
	struct xen_frame_use **link = &xen->in_use;

	pthread_mutex_lock(&xen->lock);
	while (*link != use)
		link = &(*link)->next;
	*link = use->next;
	pthread_cond_broadcast(&xen->frame_free);
	pthread_mutex_unlock(&xen->lock);
}

/* The bus frame by which the hardware domain reaches a machine frame anyway; 0: by none. */
static uint64_t premapped(struct uiommu_xen *xen, uint64_t mfn)
{
	struct imap_entry entry;

	if (mfn < xen->premap_frames)
		return mfn + xen->premap_offset;
	return book_find(xen, &xen->m2b, mfn, &entry) ? entry.value : 0;
}

/* ---- operations ---- */

static int prot_of(uint16_t flags)
{
	return (flags & UIOMMU_XEN_SERVER_READABLE ? UIOMMU_READ : 0) |
	       (flags & UIOMMU_XEN_SERVER_WRITEABLE ? UIOMMU_WRITE : 0);
}

static int map_status(int error)
{
	if (error == -EEXIST || error == -EBUSY)
		return -EPERM;
	return error ? -EIO : 0;
}

/* What is mapped at a bus frame. */
static bool lookup(struct uiommu_xen_call *call, uint64_t bfn, struct uiommu_area *area,
		   uint64_t *mfn)
{
	uint64_t iova = bfn << XEN_PAGE_SHIFT;

	if (bfn > UINT64_MAX >> XEN_PAGE_SHIFT ||
	    uiommu_ioas_find(call->domain->zero->ioas, iova, area) || area->range.first > iova)
		return false;
	*mfn = (area->addr + (iova - area->range.first)) >> XEN_PAGE_SHIFT;
	return true;
}

static unsigned tag_of(const struct uiommu_area *area)
{
	return (unsigned)(uintptr_t)area->tag;
}

static void query_caps(struct uiommu_xen_call *call, struct uiommu_xen_server_op *op)
{
	struct uiommu_xen *xen = call->domain->xen;

	op->flags = UIOMMU_XEN_SERVER_QUERY_MAP_ALL_MFNS;
	if (!xen->off)
		op->flags |= UIOMMU_XEN_SERVER_QUERY_MAP_CAP;
	op->u.query_caps.offset = xen->premap_frames ? xen->premap_offset : 0;
	pthread_mutex_lock(&xen->lock);
	xen->m2b_made = true;
	pthread_mutex_unlock(&xen->lock);
	op->status = 0;
}

/* The machine frame to be mapped, with a reference unless the caller goes without. */
static int map_frame(struct uiommu_xen_call *call, const struct uiommu_xen_server_op *op,
		     uint64_t *mfn)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;

	if (!(op->flags & UIOMMU_XEN_SERVER_NO_REF_CNT))
		return hooks->get_frame(hooks->ctx, call->domain->domid, op->u.map.gfn, mfn);
	*mfn = op->u.map.gfn;
	return hooks->frame_valid && hooks->frame_valid(hooks->ctx, *mfn) ? 0 : -EPERM;
}

static int map(struct uiommu_xen_call *call, const struct uiommu_xen_server_op *op)
{
	struct uiommu_xen *xen = call->domain->xen;
	bool counted = !(op->flags & UIOMMU_XEN_SERVER_NO_REF_CNT);
	bool m2b = op->flags & UIOMMU_XEN_SERVER_ADD_M2B;
	struct uiommu_area area;
	uint64_t mfn, other;
	int ret;

	if (xen->off || map_frame(call, op, &mfn))
		return -EPERM;
	if (m2b) {
		/* Entered first, so that a frame that has one isn't mapped; but a taken bus frame
		 * is the nearer reason. Both are the same status. */
		ret = xen->m2b_made && !lookup(call, op->u.map.bfn, &area, &other)
			      ? book_add(xen, &xen->m2b, mfn, op->u.map.bfn, 0, 0)
			      : -EPERM;
		if (ret) {
			if (counted)
				xen->hooks.put_frame(xen->hooks.ctx, mfn);
			return ret == -ENOMEM ? -ENOMEM : -EPERM;
		}
	}
	ret = map_status(xen_map_page(call, call->domain->zero->ioas, op->u.map.bfn, mfn,
				      prot_of(op->flags), counted ? XEN_TAG_REF : 0));
	if (ret && m2b)
		book_remove(xen, &xen->m2b, mfn);
	return ret;
}

static int unmap_one(struct uiommu_xen_call *call, const struct uiommu_xen_server_op *op,
		     uint64_t mfn, bool foreign)
{
	struct uiommu_xen *xen = call->domain->xen;
	int ret = xen_unmap_page(call, call->domain->zero->ioas, op->u.unmap.bfn);

	if (ret)
		return ret == -ENOENT ? ret : -EIO;
	if (op->flags & UIOMMU_XEN_SERVER_REMOVE_M2B)
		book_remove(xen, &xen->m2b, mfn);
	if (foreign)
		book_remove(xen, &xen->foreign, mfn);
	return 0;
}

static int unmap(struct uiommu_xen_call *call, const struct uiommu_xen_server_op *op)
{
	struct uiommu_xen *xen = call->domain->xen;
	uint64_t bfn = op->u.unmap.bfn, mfn, now;
	struct xen_frame_use use;
	struct uiommu_area area;
	int ret = -ENOENT;

	if (!lookup(call, bfn, &area, &mfn))
		return -ENOENT;
	if (!(tag_of(&area) & XEN_TAG_FOREIGN))
		return unmap_one(call, op, mfn, false);
	frame_use(xen, &use, mfn);
	/* Whoever had the frame in use may have unmapped it. */
	if (lookup(call, bfn, &area, &now) && now == mfn && (tag_of(&area) & XEN_TAG_FOREIGN))
		ret = unmap_one(call, op, mfn, true);
	frame_done(xen, &use);
	return ret;
}

static int check_foreign(struct uiommu_xen_call *call, uint16_t domid)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;

	if (domid == call->domain->domid || domid == UIOMMU_XEN_DOMID_SELF)
		return -EPERM;
	return hooks->check_foreign ? hooks->check_foreign(hooks->ctx, call->domain->domid, domid)
				    : -ENXIO;
}

static bool allocated(const struct uiommu_xen_hooks *hooks, uint64_t mfn)
{
	return !hooks->frame_allocated || hooks->frame_allocated(hooks->ctx, mfn);
}

/* What the book says of a frame in use. A mapping that is gone without it, as another processor has
 * mapped the frame where this one was unmapping another, is forgotten. */
static bool find_foreign(struct uiommu_xen_call *call, uint64_t mfn, struct imap_entry *entry)
{
	struct uiommu_xen *xen = call->domain->xen;
	struct uiommu_area area;
	uint64_t there;

	if (!book_find(xen, &xen->foreign, mfn, entry))
		return false;
	if (!entry->info || (lookup(call, (uintptr_t)entry->tag, &area, &there) && there == mfn))
		return true;
	book_remove(xen, &xen->foreign, mfn);
	return false;
}

/* Map a frame in use, with its reference. */
static int map_used(struct uiommu_xen_call *call, const struct uiommu_xen_server_op *op,
		    uint64_t mfn)
{
	struct uiommu_xen *xen = call->domain->xen;
	const struct uiommu_xen_hooks *hooks = &xen->hooks;
	uint64_t bfn = op->u.map_foreign.bfn;
	struct imap_entry entry;
	int ret;

	if (find_foreign(call, mfn, &entry))
		ret = 1; /* is mapped: fine */
	else if (!allocated(hooks, mfn))
		ret = -EPERM;
	else if (book_add(xen, &xen->foreign, mfn, op->u.map_foreign.domid, 1, bfn))
		ret = -EIO;
	else
		ret = 0;
	if (ret) {
		hooks->put_frame(hooks->ctx, mfn);
		return ret > 0 ? 0 : ret;
	}
	ret = map_status(xen_map_page(call, call->domain->zero->ioas, bfn, mfn, prot_of(op->flags),
				      XEN_TAG_REF | XEN_TAG_FOREIGN));
	if (ret)
		book_remove(xen, &xen->foreign, mfn);
	return ret;
}

static int map_foreign(struct uiommu_xen_call *call, const struct uiommu_xen_server_op *op)
{
	struct uiommu_xen *xen = call->domain->xen;
	const struct uiommu_xen_hooks *hooks = &xen->hooks;
	uint16_t domid = op->u.map_foreign.domid;
	struct xen_frame_use use;
	uint64_t mfn;
	int ret;

	if (xen->off)
		return -EPERM;
	ret = check_foreign(call, domid);
	if (ret)
		return ret;
	if (hooks->get_frame(hooks->ctx, domid, op->u.map_foreign.gfn, &mfn))
		return -ENXIO;
	frame_use(xen, &use, mfn);
	ret = map_used(call, op, mfn);
	frame_done(xen, &use);
	return ret;
}

static int lookup_foreign(struct uiommu_xen_call *call, struct uiommu_xen_server_op *op)
{
	struct uiommu_xen *xen = call->domain->xen;
	const struct uiommu_xen_hooks *hooks = &xen->hooks;
	uint16_t domid = op->u.lookup_foreign.domid;
	struct xen_frame_use use;
	struct imap_entry entry;
	uint64_t mfn, bfn;
	int ret = check_foreign(call, domid);

	if (ret)
		return ret;
	if (hooks->get_frame(hooks->ctx, domid, op->u.lookup_foreign.gfn, &mfn))
		return -ENXIO;
	bfn = xen->off ? mfn : premapped(xen, mfn);
	frame_use(xen, &use, mfn);
	if (!allocated(hooks, mfn))
		ret = -EPERM;
	else if (!bfn && !xen->off)
		ret = -ENOENT;
	else if (find_foreign(call, mfn, &entry))
		ret = -EEXIST;
	else
		ret = book_add(xen, &xen->foreign, mfn, domid, 0, 0);
	frame_done(xen, &use);
	if (ret) /* one reference will do for a frame that has been looked up before */
		hooks->put_frame(hooks->ctx, mfn);
	if (ret && ret != -EEXIST)
		return ret == -ENOMEM ? -EIO : ret;
	op->u.lookup_foreign.bfn = bfn;
	return 0;
}

/* The frame is in use. */
static int unmap_used(struct uiommu_xen_call *call, uint64_t bfn, uint64_t mfn)
{
	struct uiommu_xen *xen = call->domain->xen;
	struct imap_entry entry;
	int ret;

	if (!book_find(xen, &xen->foreign, mfn, &entry) ||
	    (entry.info && (uintptr_t)entry.tag != bfn))
		return -ENOENT;
	if (!entry.info) {
		book_remove(xen, &xen->foreign, mfn);
		/* Looked up: what is mapped there stays, and the reference is the book's. */
		xen->hooks.put_frame(xen->hooks.ctx, mfn);
		return 0;
	}
	/* The book forgets it only once it is unmapped: that may want memory. */
	ret = xen_unmap_page(call, call->domain->zero->ioas, bfn);
	if (ret)
		return ret == -ENOENT ? ret : -EIO;
	book_remove(xen, &xen->foreign, mfn);
	return 0;
}

static int unmap_foreign(struct uiommu_xen_call *call, const struct uiommu_xen_server_op *op)
{
	struct uiommu_xen *xen = call->domain->xen;
	uint64_t bfn = op->u.unmap_foreign.bfn, mfn = bfn, now = bfn;
	struct xen_frame_use use;
	struct uiommu_area area;
	int ret = -ENOENT;

	if (!xen->off && !lookup(call, bfn, &area, &mfn))
		return -ENOENT;
	frame_use(xen, &use, mfn);
	if (xen->off || (lookup(call, bfn, &area, &now) && now == mfn))
		ret = unmap_used(call, bfn, mfn);
	frame_done(xen, &use);
	return ret;
}

void xen_server_relinquish(struct uiommu_xen *xen, uint16_t domid)
{
	struct uiommu_xen_domain *hardware;
	struct imap_pos pos;
	uint64_t at = 0;

	pthread_mutex_lock(&xen->lock);
	for (hardware = xen->domains; hardware && !hardware->hardware;)
		hardware = hardware->next;
	if (hardware && hardware->domid == domid)
		imap_clear(&xen->m2b);
	for (;;) {
		const struct imap_entry *e = imap_find(&xen->foreign, at, &pos);
		struct xen_frame_use use;
		struct imap_entry entry;
		struct uiommu_range page;

		while (e && e->value != domid && (!hardware || hardware->domid != domid))
			e = imap_next(&pos);
		if (!e)
			break;
		entry = *e;
		at = entry.range.first;
		if (frame_in_use(xen, at)) {
			pthread_cond_wait(&xen->frame_free, &xen->lock);
			continue;
		}
		frame_use_locked(xen, &use, at);
		imap_erase(&xen->foreign, at);
		pthread_mutex_unlock(&xen->lock);
		page.first = (uint64_t)(uintptr_t)entry.tag << XEN_PAGE_SHIFT;
		page.last = page.first + (XEN_PAGE_SIZE - 1);
		if (!entry.info)
			xen->hooks.put_frame(xen->hooks.ctx, entry.range.first);
		else if (hardware)
			xen_release_page(hardware, page);
		frame_done(xen, &use);
		pthread_mutex_lock(&xen->lock);
	}
	pthread_mutex_unlock(&xen->lock);
}

/* ---- the call ---- */

static bool one(struct uiommu_xen_call *call, void *element)
{
	struct uiommu_xen_server_op *op = element;

	if (op->flags & UIOMMU_XEN_SERVER_ORDER) {
		op->status = -ENOSPC;
		return false;
	}
	switch (op->subop) {
	case UIOMMU_XEN_SERVER_QUERY_CAPS:
		query_caps(call, op);
		return false;
	case UIOMMU_XEN_SERVER_MAP:
		op->status = map(call, op);
		return false;
	case UIOMMU_XEN_SERVER_UNMAP:
		op->status = unmap(call, op);
		return !op->status;
	case UIOMMU_XEN_SERVER_MAP_FOREIGN:
		op->status = map_foreign(call, op);
		return false;
	case UIOMMU_XEN_SERVER_LOOKUP_FOREIGN:
		op->status = lookup_foreign(call, op);
		return false;
	case UIOMMU_XEN_SERVER_UNMAP_FOREIGN:
		op->status = unmap_foreign(call, op);
		return !op->status;
	}
	op->status = -ENODEV;
	return false;
}

static void no_memory(void *element)
{
	((struct uiommu_xen_server_op *)element)->status = -EIO;
}

UIOMMU_API long uiommu_xen_server_op(struct uiommu_xen_call *call, uint64_t ops, unsigned count)
{
	static const struct xen_array array = {
		.size = sizeof(struct uiommu_xen_server_op),
		.answer_size = sizeof(struct uiommu_xen_server_op),
		.status_offset = offsetof(struct uiommu_xen_server_op, status),
		.status_size = sizeof(int32_t),
		.one = one,
		.no_memory = no_memory,
	};

	if (!call->domain->hardware)
		return -ENOSYS;
	if ((int)count < 0)
		return -EINVAL;
	xen_call_resume(call, XEN_ENTRY_SERVER, 0, ops, count);
	return xen_array_run(call, &array);
}
