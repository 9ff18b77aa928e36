/* SPDX-License-Identifier: MIT */
/*
 * The contexts that have been proposed for Xen since 2024 (Teddy Astié), as of the seventh version,
 * November 2025. A context is an address space of its own; a domain's devices are moved between
 * them. Context 0 is the default and not the guest's to change.
 *
 * The order of checks and the errors are the proposal's. It flushes at the end of every leg of a
 * preempted call and writes the progress into the guest's structure; here a call flushes once, when
 * it is complete, and its progress stays with us until then. What the proposal lets pass though its
 * capabilities say it has no meaning (flags, page sizes, PASIDs) is refused.
 *
 * Locks: domain->lock for contexts and devices; not held while pages are mapped: a call has its
 * context in use, so a context that is freed meanwhile goes with the call.
 */
#include "abi/xen_pv.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "space/space.h"
#include "util/alloc.h"
#include "util/range.h"
#include "util/refuse.h"

#define CONTEXTS_MOST UINT16_MAX

_Static_assert(sizeof(struct uiommu_xen_capabilities) == 24, "as the guest has it");
_Static_assert(sizeof(struct uiommu_xen_init) == 8, "as the guest has it");
_Static_assert(sizeof(struct uiommu_xen_alloc) == 8, "as the guest has it");
_Static_assert(sizeof(struct uiommu_xen_free) == 8, "as the guest has it");
_Static_assert(sizeof(struct uiommu_xen_reattach) == 12, "as the guest has it");
_Static_assert(sizeof(struct uiommu_xen_map_pages) == 40, "as the guest has it");
_Static_assert(sizeof(struct uiommu_xen_unmap_pages) == 32, "as the guest has it");
_Static_assert(sizeof(struct uiommu_xen_remote_cmd) == 16, "as the guest has it");

static int copy_in(struct uiommu_xen_call *call, void *to, uint64_t from, size_t len)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;

	return hooks->copy_in(hooks->ctx, call->domain->domid, to, from, len) ? -EFAULT : 0;
}

static int copy_out(struct uiommu_xen_call *call, uint64_t to, const void *from, size_t len)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;

	return hooks->copy_out(hooks->ctx, call->domain->domid, to, from, len) ? -EFAULT : 0;
}

/* ---- the table of contexts ---- */

struct xen_context *xen_context_get(struct uiommu_xen_domain *domain, uint32_t number)
{
	if (!number)
		return domain->zero;
	return number <= domain->context_count ? domain->contexts[number] : NULL;
}

void xen_contexts_free(struct uiommu_xen_domain *domain)
{
	if (!domain->contexts)
		return;
	for (uint32_t i = 1; i <= domain->context_count; i++)
		if (domain->contexts[i])
			xen_context_put(domain, domain->contexts[i]);
	uiommu_free(domain->contexts,
		    ((size_t)domain->context_count + 1) * sizeof(struct xen_context *));
	domain->contexts = NULL;
	domain->context_count = 0;
}

/* ---- commands ---- */

static long query_capabilities(struct uiommu_xen_domain *domain,
			       struct uiommu_xen_capabilities *cap)
{
	*cap = (struct uiommu_xen_capabilities){
		.max_iova_addr = domain->zero->domain->table.aperture.last,
		.cap_flags = domain->identity ? UIOMMU_XEN_CAP_DEFAULT_IDENTITY : 0,
		.pgsize_mask = XEN_PAGE_SIZE,
	};
	pthread_mutex_lock(&domain->lock);
	cap->max_ctx_no = (uint16_t)domain->context_count;
	pthread_mutex_unlock(&domain->lock);
	return 0;
}

static long init(struct uiommu_xen_domain *domain, const struct uiommu_xen_init *init)
{
	long ret = 0;

	if (init->max_ctx_no > domain->xen->max_contexts || init->max_ctx_no > CONTEXTS_MOST)
		return -E2BIG;
	pthread_mutex_lock(&domain->lock);
	if (domain->initialised) {
		ret = -EACCES;
	} else {
		domain->contexts = uiommu_alloc_array((size_t)init->max_ctx_no + 1,
						      sizeof(struct xen_context *));
		ret = domain->contexts ? 0 : -ENOMEM;
	}
	if (!ret) {
		domain->initialised = true;
		domain->context_count = init->max_ctx_no;
	}
	pthread_mutex_unlock(&domain->lock);
	return ret;
}

static long alloc_context(struct uiommu_xen_domain *domain, struct uiommu_xen_alloc *alloc)
{
	uint32_t number = 1;
	long ret;

	if (alloc->alloc_flags)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&domain->lock);
	while (number <= domain->context_count && domain->contexts[number])
		number++;
	ret = number <= domain->context_count
		      ? xen_context_create(domain->xen, &domain->contexts[number])
		      : -ENOSPC;
	pthread_mutex_unlock(&domain->lock);
	if (!ret)
		alloc->ctx_no = (uint16_t)number;
	return ret;
}

/* Move a device. domain->lock held. */
static int move_device(struct uiommu_xen_domain *domain, struct xen_device *device, uint16_t number)
{
	struct xen_context *from = xen_context_get(domain, device->context);
	struct xen_context *to = xen_context_get(domain, number);
	int ret;

	if (from == to)
		return 0;
	ret = uiommu_domain_attach(to->domain, device->rid, domain->xen->regions,
				   domain->xen->region_count, device->name);
	if (ret)
		return ret;
	from->devices--;
	to->devices++;
	device->context = number;
	return 0;
}

/* Move all of a context's devices to context 0, or none. domain->lock held. */
static int move_back(struct uiommu_xen_domain *domain, uint16_t number)
{
	struct xen_context *from = xen_context_get(domain, number);
	unsigned count = from->devices, at = 0;
	uiommu_rid *rids = count ? uiommu_alloc_array(count, sizeof(*rids)) : NULL;
	int ret;

	if (!count)
		return 0;
	if (!rids)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "Xen context",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	for (struct xen_device *d = domain->devices; d; d = d->next)
		if (d->context == number)
			rids[at++] = d->rid;
	ret = uiommu_domain_attach_all(domain->zero->domain, rids, count, UIOMMU_NO_PASID,
				       domain->xen->regions, domain->xen->region_count,
				       "devices of a context that is freed");
	uiommu_free(rids, count * sizeof(*rids));
	if (ret)
		return ret;
	for (struct xen_device *d = domain->devices; d; d = d->next)
		if (d->context == number)
			d->context = 0;
	domain->zero->devices += count;
	from->devices = 0;
	return 0;
}

static long free_context(struct uiommu_xen_domain *domain, const struct uiommu_xen_free *free)
{
	struct xen_context *context;
	long ret = 0;

	if (!free->ctx_no)
		return -EINVAL;
	if (free->free_flags & ~UIOMMU_XEN_FREE_REATTACH_DEFAULT)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&domain->lock);
	context = xen_context_get(domain, free->ctx_no);
	if (!context)
		ret = -ENOENT;
	else if (context->devices && !(free->free_flags & UIOMMU_XEN_FREE_REATTACH_DEFAULT))
		ret = -EBUSY;
	if (!ret)
		ret = move_back(domain, free->ctx_no);
	if (!ret) {
		domain->contexts[free->ctx_no] = NULL;
		xen_context_put(domain, context);
	}
	pthread_mutex_unlock(&domain->lock);
	return ret;
}

static long reattach_device(struct uiommu_xen_domain *domain,
			    const struct uiommu_xen_reattach *reattach)
{
	uiommu_rid rid = (uiommu_rid)(reattach->dev.bus << 8 | reattach->dev.devfn);
	struct xen_device *device;
	long ret;

	if (reattach->pasid)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&domain->lock);
	device = domain->devices;
	while (device && device->rid != rid)
		device = device->next;
	if (!device || reattach->dev.seg)
		ret = -ENODEV;
	else if (!xen_context_get(domain, reattach->ctx_no))
		ret = -ENOENT;
	else
		ret = move_device(domain, device, reattach->ctx_no);
	pthread_mutex_unlock(&domain->lock);
	return ret;
}

/* ---- pages ---- */

/* Is the device frame one that nobody can map? */
static bool reserved(struct uiommu_ioas *ioas, uint64_t dfn)
{
	bool blocked = true;

	if (dfn <= UINT64_MAX >> XEN_PAGE_SHIFT) {
		uint64_t first = dfn << XEN_PAGE_SHIFT;

		pthread_mutex_lock(&ioas->lock);
		blocked = ioas_check_blocked(ioas, -EADDRNOTAVAIL,
					     (struct uiommu_range){first, first + 4095});
		pthread_mutex_unlock(&ioas->lock);
	}
	return blocked;
}

static int map_page(struct uiommu_xen_call *call, uint64_t gfn, uint64_t dfn, int prot)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;
	struct uiommu_ioas *ioas = call->context->ioas;
	uint64_t mfn;
	int ret = hooks->get_frame(hooks->ctx, call->target->domid, gfn, &mfn);

	if (!ret)
		ret = xen_map_page(call, ioas, dfn, mfn, prot, XEN_TAG_REF);
	if (!ret)
		return 0;
	if (reserved(ioas, dfn))
		return -EADDRNOTAVAIL;
	return ret == -EEXIST || ret == -EBUSY ? -EADDRINUSE : ret;
}

static long map_leg(struct uiommu_xen_call *call)
{
	struct uiommu_xen_map_pages *map = &call->pages.map;
	int prot = (map->map_flags & UIOMMU_XEN_MAP_READABLE ? UIOMMU_READ : 0) |
		   (map->map_flags & UIOMMU_XEN_MAP_WRITEABLE ? UIOMMU_WRITE : 0);

	for (bool first = true; map->mapped < map->nr_pages; map->mapped++, first = false) {
		int ret;

		if (!first && xen_call_preempted(call))
			return UIOMMU_XEN_CONTINUE;
		ret = map_page(call, map->gfn + map->mapped, map->dfn + map->mapped, prot);
		if (ret)
			return xen_call_complete(call, ret);
	}
	return xen_call_complete(call, 0);
}

static long unmap_leg(struct uiommu_xen_call *call)
{
	struct uiommu_xen_unmap_pages *unmap = &call->pages.unmap;

	for (bool first = true; unmap->unmapped < unmap->nr_pages;
	     unmap->unmapped++, first = false) {
		uint64_t dfn = unmap->dfn + unmap->unmapped;
		int ret;

		if (!first && xen_call_preempted(call))
			return UIOMMU_XEN_CONTINUE;
		ret = xen_unmap_page(call, call->context->ioas, dfn);
		if (ret == -ENOENT && reserved(call->context->ioas, dfn))
			ret = -EADDRNOTAVAIL;
		if (ret)
			return xen_call_complete(call, ret);
	}
	return xen_call_complete(call, 0);
}

/* Have the context in use until the call ends. */
static int use_context(struct uiommu_xen_call *call, uint16_t number)
{
	struct uiommu_xen_domain *domain = call->target;

	pthread_mutex_lock(&domain->lock);
	call->context = number ? xen_context_get(domain, number) : NULL;
	if (call->context) {
		call->context->users++;
		xen_domain_get(domain);
	}
	pthread_mutex_unlock(&domain->lock);
	return call->context ? 0 : -EINVAL;
}

int xen_context_call_end(struct uiommu_xen_call *call)
{
	bool map = call->cmd == UIOMMU_XEN_MAP_PAGES;
	int ret = copy_out(call, call->guest, &call->pages,
			   map ? sizeof(call->pages.map) : sizeof(call->pages.unmap));

	if (call->context) {
		pthread_mutex_lock(&call->target->lock);
		xen_context_put(call->target, call->context);
		pthread_mutex_unlock(&call->target->lock);
		xen_domain_put(call->target);
	}
	call->context = NULL;
	return ret;
}

static long map_pages(struct uiommu_xen_call *call, struct uiommu_xen_domain *domain, uint64_t arg)
{
	struct uiommu_xen_map_pages map;
	long ret;

	if (xen_call_resume(call, XEN_ENTRY_CONTEXT, UIOMMU_XEN_MAP_PAGES, arg, domain->domid))
		return map_leg(call);
	call->entry = 0; /* not before there is something to report */
	if (copy_in(call, &map, arg, sizeof(map)))
		return -EFAULT;
	call->entry = XEN_ENTRY_CONTEXT;
	map.mapped = 0;
	call->pages.map = map;
	call->target = domain;
	ret = use_context(call, map.ctx_no);
	if (!ret && (map.map_flags & UIOMMU_XEN_MAP_CACHE))
		ret = -EOPNOTSUPP;
	else if (!ret && (map.pgsize != XEN_PAGE_SIZE ||
			  (map.map_flags & ~(UIOMMU_XEN_MAP_READABLE | UIOMMU_XEN_MAP_WRITEABLE)) ||
			  !map.map_flags))
		ret = -EINVAL;
	return ret ? xen_call_complete(call, ret) : map_leg(call);
}

static long unmap_pages(struct uiommu_xen_call *call, struct uiommu_xen_domain *domain,
			uint64_t arg)
{
	struct uiommu_xen_unmap_pages unmap;
	long ret;

	if (xen_call_resume(call, XEN_ENTRY_CONTEXT, UIOMMU_XEN_UNMAP_PAGES, arg, domain->domid))
		return unmap_leg(call);
	call->entry = 0;
	if (copy_in(call, &unmap, arg, sizeof(unmap)))
		return -EFAULT;
	call->entry = XEN_ENTRY_CONTEXT;
	unmap.unmapped = 0;
	call->pages.unmap = unmap;
	call->target = domain;
	ret = use_context(call, unmap.ctx_no);
	if (!ret && unmap.pgsize != XEN_PAGE_SIZE)
		ret = -EINVAL;
	return ret ? xen_call_complete(call, ret) : unmap_leg(call);
}

/* ---- the call ---- */

static long subop(struct uiommu_xen_call *call, struct uiommu_xen_domain *domain, int cmd,
		  uint64_t arg, bool remote);

static long remote_cmd(struct uiommu_xen_call *call, uint64_t arg)
{
	struct uiommu_xen *xen = call->domain->xen;
	struct uiommu_xen_remote_cmd cmd;
	struct uiommu_xen_domain *domain;
	long ret;

	if (copy_in(call, &cmd, arg, sizeof(cmd)))
		return -EFAULT;
	if (!call->domain->hardware)
		return -EPERM;
	pthread_mutex_lock(&xen->lock);
	for (domain = xen->domains; domain && domain->domid != cmd.domid;)
		domain = domain->next;
	if (domain)
		xen_domain_get(domain);
	pthread_mutex_unlock(&xen->lock);
	if (!domain) {
		xen_call_complete(call, 0); /* it may have been about this one */
		return -ENOENT;
	}
	ret = subop(call, domain, cmd.subop, cmd.arg, true);
	xen_domain_put(domain);
	return ret;
}

/* Commands that are done at once, after whatever the caller left preempted: read the argument, do
 * it, write the answer. */
static long simple(struct uiommu_xen_call *call, struct uiommu_xen_domain *domain, int cmd,
		   uint64_t arg)
{
	union {
		struct uiommu_xen_capabilities cap;
		struct uiommu_xen_init init;
		struct uiommu_xen_alloc alloc;
		struct uiommu_xen_free free;
		struct uiommu_xen_reattach reattach;
	} u;
	static const size_t in[] = {
		[UIOMMU_XEN_INIT] = sizeof(u.init),
		[UIOMMU_XEN_ALLOC_CONTEXT] = sizeof(u.alloc),
		[UIOMMU_XEN_FREE_CONTEXT] = sizeof(u.free),
		[UIOMMU_XEN_REATTACH_DEVICE] = sizeof(u.reattach),
	};
	long ret;

	xen_call_complete(call, 0);
	if (cmd != UIOMMU_XEN_QUERY_CAPABILITIES && copy_in(call, &u, arg, in[cmd]))
		return -EFAULT;
	switch (cmd) {
	case UIOMMU_XEN_QUERY_CAPABILITIES:
		ret = query_capabilities(domain, &u.cap);
		return copy_out(call, arg, &u.cap, sizeof(u.cap)) ? -EFAULT : ret;
	case UIOMMU_XEN_INIT:
		return init(domain, &u.init);
	case UIOMMU_XEN_ALLOC_CONTEXT:
		ret = alloc_context(domain, &u.alloc);
		return copy_out(call, arg, &u.alloc, sizeof(u.alloc)) ? -EFAULT : ret;
	case UIOMMU_XEN_FREE_CONTEXT:
		return free_context(domain, &u.free);
	default:
		return reattach_device(domain, &u.reattach);
	}
}

static long subop(struct uiommu_xen_call *call, struct uiommu_xen_domain *domain, int cmd,
		  uint64_t arg, bool remote)
{
	switch (cmd) {
	case UIOMMU_XEN_NOOP:
		xen_call_complete(call, 0);
		return 0;
	case UIOMMU_XEN_QUERY_CAPABILITIES:
	case UIOMMU_XEN_INIT:
	case UIOMMU_XEN_ALLOC_CONTEXT:
	case UIOMMU_XEN_FREE_CONTEXT:
	case UIOMMU_XEN_REATTACH_DEVICE:
		return simple(call, domain, cmd, arg);
	case UIOMMU_XEN_MAP_PAGES:
		return map_pages(call, domain, arg);
	case UIOMMU_XEN_UNMAP_PAGES:
		return unmap_pages(call, domain, arg);
	case UIOMMU_XEN_REMOTE_CMD:
		return remote ? -EINVAL : remote_cmd(call, arg);
	}
	return -EOPNOTSUPP;
}

UIOMMU_API long uiommu_xen_context_op(struct uiommu_xen_call *call, int cmd, uint64_t arg)
{
	if (call->domain->xen->off || !call->domain->contexts_allowed)
		return -ENODEV;
	return subop(call, call->domain, cmd, arg, false);
}
