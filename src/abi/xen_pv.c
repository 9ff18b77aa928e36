/* SPDX-License-Identifier: MIT */
/*
 * What Xen's paravirtual IOMMU interfaces have in common: hosts, domains, and hypercalls under way.
 * A hypercall is one batch. Owns the references to frames: a mapping that holds one says so in its
 * tag, and gives it back when the batch releases the mapping.
 *
 * A preempted hypercall stays in its struct uiommu_xen_call, out of the guest's reach: how far it
 * has come, and which elements' success is still to be reported. It is recognised by its arguments.
 *
 * Completing never fails but for statuses that can't be written.
 */
#include "abi/xen_pv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/alloc.h"
#include "util/refuse.h"

#define DEFAULT_CONTEXTS 1024

/* As often may a call go from taking away to something else and back, before it flushes on the way:
 * each time may keep a table, or one of every level, for the flush. Linux' calls have 64 pairs. */
#define RUNS_MOST 1024

static int refuse(int error, const char *what)
{
	return uiommu_refuse(error == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_ARGUMENT, error,
			     what, UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

/* ---- host ---- */

static bool hooks_usable(const struct uiommu_xen_hooks *hooks)
{
	return hooks->size == sizeof(*hooks) && hooks->copy_in && hooks->copy_out &&
	       hooks->get_frame && hooks->put_frame;
}

UIOMMU_API int uiommu_xen_create(const struct uiommu_xen_options *options, struct uiommu_xen **out)
{
	struct uiommu_xen *xen;

	if (!options || options->size != sizeof(*options))
		return refuse(options && options->size > sizeof(*options) ? -E2BIG : -EINVAL,
			      "Xen options");
	if (!hooks_usable(&options->hooks) || !options->unit || !options->format ||
	    options->premap_offset > UINT64_MAX >> XEN_PAGE_SHIFT ||
	    options->premap_frames > (UINT64_MAX >> XEN_PAGE_SHIFT) - options->premap_offset)
		return refuse(-EINVAL, "Xen options");
	xen = uiommu_alloc(sizeof(*xen));
	if (!xen)
		return refuse(-ENOMEM, "Xen");
	*xen = (struct uiommu_xen){
		.hooks = options->hooks,
		.unit = options->unit,
		.format = options->format,
		.width = options->width,
		.region_count = options->region_count,
		.off = options->off,
		.premap_offset = options->premap_offset,
		.premap_frames = options->premap_frames,
		.max_contexts = options->max_contexts ? options->max_contexts : DEFAULT_CONTEXTS,
	};
	if (options->region_count) {
		xen->regions = uiommu_alloc_array(options->region_count, sizeof(*xen->regions));
		if (!xen->regions) {
			uiommu_free(xen, sizeof(*xen));
			return refuse(-ENOMEM, "Xen");
		}
		memcpy(xen->regions, options->regions,
		       options->region_count * sizeof(*xen->regions));
	}
	pthread_mutex_init(&xen->lock, NULL);
	pthread_cond_init(&xen->frame_free, NULL);
	*out = xen;
	return 0;
}

UIOMMU_API void uiommu_xen_destroy(struct uiommu_xen *xen)
{
	if (!xen)
		return;
	imap_clear(&xen->m2b);
	imap_clear(&xen->foreign);
	pthread_cond_destroy(&xen->frame_free);
	pthread_mutex_destroy(&xen->lock);
	uiommu_free(xen->regions, xen->region_count * sizeof(*xen->regions));
	uiommu_free(xen, sizeof(*xen));
}

/* ---- domains ---- */

/* Enter the domain into the list, unless its number or place is taken. */
static int enlist(struct uiommu_xen_domain *domain)
{
	struct uiommu_xen *xen = domain->xen;
	int ret = 0;

	pthread_mutex_lock(&xen->lock);
	for (const struct uiommu_xen_domain *d = xen->domains; d && !ret; d = d->next)
		if (d->domid == domain->domid || (d->hardware && domain->hardware))
			ret = refuse(-EEXIST, "Xen domain");
	if (!ret) {
		domain->next = xen->domains;
		xen->domains = domain;
	}
	pthread_mutex_unlock(&xen->lock);
	return ret;
}

static void delist(struct uiommu_xen_domain *domain)
{
	struct uiommu_xen_domain **link;

	pthread_mutex_lock(&domain->xen->lock);
	for (link = &domain->xen->domains; *link != domain; link = &(*link)->next)
		;
	*link = domain->next;
	pthread_mutex_unlock(&domain->xen->lock);
}

/* All machine frames at an offset, for the hardware domain. */
static int premap(struct uiommu_xen_domain *domain)
{
	const struct uiommu_xen *xen = domain->xen;
	uint64_t first = xen->premap_offset << XEN_PAGE_SHIFT;

	if (!domain->hardware || !xen->premap_frames || xen->off)
		return 0;
	return uiommu_ioas_map(
		domain->zero->ioas,
		(struct uiommu_range){first, first + (xen->premap_frames << XEN_PAGE_SHIFT) - 1}, 0,
		UIOMMU_READ | UIOMMU_WRITE, NULL);
}

UIOMMU_API int uiommu_xen_domain_create(struct uiommu_xen *xen,
					const struct uiommu_xen_domain_options *options,
					struct uiommu_xen_domain **out)
{
	struct uiommu_xen_domain *domain;
	int ret;

	if (!options || options->size != sizeof(*options))
		return refuse(options && options->size > sizeof(*options) ? -E2BIG : -EINVAL,
			      "Xen domain options");
	domain = uiommu_alloc(sizeof(*domain));
	if (!domain)
		return refuse(-ENOMEM, "Xen domain");
	domain->refs = 1;
	domain->xen = xen;
	domain->domid = options->domid;
	domain->hardware = options->hardware;
	domain->contexts_allowed = options->contexts;
	domain->identity = options->identity;
	pthread_mutex_init(&domain->lock, NULL);
	ret = xen_context_create(xen, &domain->zero);
	if (ret)
		goto free_domain;
	ret = premap(domain);
	if (!ret)
		ret = enlist(domain);
	if (!ret) {
		*out = domain;
		return 0;
	}
	xen_context_put(domain, domain->zero);
free_domain:
	pthread_mutex_destroy(&domain->lock);
	uiommu_free(domain, sizeof(*domain));
	return ret;
}

void xen_domain_get(struct uiommu_xen_domain *domain)
{
	__atomic_fetch_add(&domain->refs, 1, __ATOMIC_RELAXED);
}

void xen_domain_put(struct uiommu_xen_domain *domain)
{
	if (__atomic_sub_fetch(&domain->refs, 1, __ATOMIC_ACQ_REL))
		return;
	xen_context_put(domain, domain->zero);
	pthread_mutex_destroy(&domain->lock);
	uiommu_free(domain, sizeof(*domain));
}

UIOMMU_API void uiommu_xen_domain_destroy(struct uiommu_xen_domain *domain)
{
	if (!domain)
		return;
	xen_server_relinquish(domain->xen, domain->domid);
	while (domain->devices)
		uiommu_xen_domain_deassign(domain, domain->devices->rid);
	/* No call finds it from here on. One that works on it keeps it, and its context. */
	delist(domain);
	pthread_mutex_lock(&domain->lock);
	xen_contexts_free(domain);
	pthread_mutex_unlock(&domain->lock);
	xen_domain_put(domain);
}

UIOMMU_API struct uiommu_ioas *uiommu_xen_domain_ioas(struct uiommu_xen_domain *domain)
{
	return domain->zero->ioas;
}

static struct xen_device **find_device(struct uiommu_xen_domain *domain, uiommu_rid rid)
{
	struct xen_device **link = &domain->devices;

	while (*link && (*link)->rid != rid)
		link = &(*link)->next;
	return link;
}

UIOMMU_API int uiommu_xen_domain_assign(struct uiommu_xen_domain *domain, uiommu_rid rid,
					const char *name)
{
	struct xen_device *device = uiommu_alloc(sizeof(*device)), **link;
	int ret;

	if (!device)
		return refuse(-ENOMEM, "Xen device");
	device->rid = rid;
	snprintf(device->name, sizeof(device->name), "%s", name ? name : "");
	pthread_mutex_lock(&domain->lock);
	link = find_device(domain, rid);
	if (*link)
		ret = refuse(-EEXIST, "Xen device");
	else
		ret = uiommu_domain_attach(domain->zero->domain, rid, domain->xen->regions,
					   domain->xen->region_count, device->name);
	if (!ret) {
		*link = device;
		domain->zero->devices++;
	}
	pthread_mutex_unlock(&domain->lock);
	if (ret)
		uiommu_free(device, sizeof(*device));
	return ret;
}

UIOMMU_API void uiommu_xen_domain_deassign(struct uiommu_xen_domain *domain, uiommu_rid rid)
{
	struct xen_device **link, *device;
	struct xen_context *context;

	pthread_mutex_lock(&domain->lock);
	link = find_device(domain, rid);
	device = *link;
	if (device) {
		context = xen_context_get(domain, device->context);
		uiommu_domain_detach(context->domain, rid);
		context->devices--;
		*link = device->next;
	}
	pthread_mutex_unlock(&domain->lock);
	uiommu_free(device, sizeof(*device));
}

/* ---- frames and mappings ---- */

static unsigned tag_of(const struct uiommu_area *area)
{
	return (unsigned)(uintptr_t)area->tag;
}

static int take_over(void *ctx, const struct uiommu_op *op, const struct uiommu_area *area)
{
	struct uiommu_xen_call *call = ctx;

	call->held = true;
	return 0;
}

static void give_back(void *ctx, const struct uiommu_area *area)
{
	const struct uiommu_xen_hooks *hooks = &((struct uiommu_xen_call *)ctx)->domain->xen->hooks;

	/* An area that a hypercall made is one page. */
	if (tag_of(area) & XEN_TAG_REF)
		hooks->put_frame(hooks->ctx, area->addr >> XEN_PAGE_SHIFT);
}

/* Where bus frame bfn is; false: nowhere in 64 bits. */
static bool page_range(uint64_t bfn, struct uiommu_range *range)
{
	if (bfn > UINT64_MAX >> XEN_PAGE_SHIFT)
		return false;
	range->first = bfn << XEN_PAGE_SHIFT;
	range->last = range->first + (XEN_PAGE_SIZE - 1);
	return true;
}

int xen_map_page(struct uiommu_xen_call *call, struct uiommu_ioas *ioas, uint64_t bfn, uint64_t mfn,
		 int prot, unsigned tag)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;
	struct uiommu_op op = {
		.kind = UIOMMU_OP_MAP,
		.prot = prot,
		.ioas = ioas,
		.addr = mfn << XEN_PAGE_SHIFT,
		.tag = (void *)(uintptr_t)(tag | XEN_TAG_MAPPED),
	};

	call->held = false;
	op.status = -EINVAL;
	if (page_range(bfn, &op.range) && mfn <= UINT64_MAX >> XEN_PAGE_SHIFT)
		uiommu_batch_run(call->batch, &op, 1, NULL);
	if (op.status && !call->held && (tag & XEN_TAG_REF))
		hooks->put_frame(hooks->ctx, mfn);
	return op.status;
}

int xen_unmap_page(struct uiommu_xen_call *call, struct uiommu_ioas *ioas, uint64_t bfn)
{
	struct uiommu_op op = {.kind = UIOMMU_OP_UNMAP, .ioas = ioas};

	if (!page_range(bfn, &op.range))
		return -ENOENT;
	uiommu_batch_run(call->batch, &op, 1, NULL);
	if (op.status == -EBUSY || (!op.status && !op.bytes))
		return -ENOENT;
	return op.status;
}

void xen_release_page(struct uiommu_xen_domain *domain, struct uiommu_range page)
{
	struct uiommu_xen_call call = {.domain = domain};

	uiommu_ioas_unmap(domain->zero->ioas, page, NULL, give_back, &call);
}

int xen_context_create(struct uiommu_xen *xen, struct xen_context **out)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = xen->format, .width = xen->width};
	struct xen_context *context = uiommu_alloc(sizeof(*context));
	int ret;

	if (!context)
		return refuse(-ENOMEM, "Xen context");
	context->users = 1;
	ret = uiommu_ioas_create(&context->ioas);
	/* From the beginning, so that a device can be moved into it whatever has been mapped. */
	for (size_t i = 0; i < xen->region_count && !ret; i++)
		if (xen->regions[i].type != UIOMMU_RESV_DIRECT_RELAXABLE)
			ret = uiommu_ioas_reserve(context->ioas, xen->regions[i].range,
						  xen->regions[i].type, context, "the machine");
	if (!ret)
		ret = uiommu_domain_create(xen->unit, context->ioas, &options, &context->domain);
	if (ret) {
		uiommu_ioas_destroy(context->ioas);
		uiommu_free(context, sizeof(*context));
		return ret;
	}
	*out = context;
	return 0;
}

void xen_context_put(struct uiommu_xen_domain *domain, struct xen_context *context)
{
	struct uiommu_xen_call call = {.domain = domain};

	if (--context->users)
		return;
	uiommu_ioas_unmap(context->ioas, UIOMMU_RANGE_ALL, NULL, give_back, &call);
	uiommu_domain_destroy(context->domain);
	uiommu_ioas_destroy(context->ioas);
	uiommu_free(context, sizeof(*context));
}

/* ---- hypercalls under way ---- */

UIOMMU_API int uiommu_xen_call_create(struct uiommu_xen_domain *domain,
				      struct uiommu_xen_call **out)
{
	struct uiommu_xen_call *call = uiommu_alloc(sizeof(*call));
	const struct uiommu_batch_options options = {
		.size = sizeof(options), .hold = take_over, .release = give_back, .ctx = call};
	int ret;

	if (!call)
		return refuse(-ENOMEM, "Xen call");
	call->domain = domain;
	ret = uiommu_batch_open(&options, &call->batch);
	if (ret) {
		uiommu_free(call, sizeof(*call));
		return ret;
	}
	*out = call;
	return 0;
}

UIOMMU_API void uiommu_xen_call_destroy(struct uiommu_xen_call *call)
{
	if (!call)
		return;
	xen_call_complete(call, 0);
	uiommu_batch_close(call->batch);
	uiommu_free(call->runs, call->run_room * sizeof(*call->runs));
	uiommu_free(call, sizeof(*call));
}

bool xen_call_resume(struct uiommu_xen_call *call, unsigned entry, unsigned cmd, uint64_t guest,
		     unsigned count)
{
	if (call->entry == entry && call->cmd == cmd && call->guest == guest &&
	    call->count == count)
		return true;
	xen_call_complete(call, 0);
	call->entry = entry;
	call->cmd = cmd;
	call->guest = guest;
	call->count = count;
	call->done = 0;
	return false;
}

bool xen_call_preempted(struct uiommu_xen_call *call)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;

	return hooks->preempt && hooks->preempt(hooks->ctx);
}

/* Report what has become true. */
static int write_runs(struct uiommu_xen_call *call)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;
	const struct xen_array *array = call->array;
	static const char okay[8];
	int ret = 0;

	for (size_t r = 0; r < call->run_count; r++)
		for (uint64_t i = call->runs[r].first; i <= call->runs[r].last; i++)
			if (hooks->copy_out(hooks->ctx, call->domain->domid,
					    call->guest + i * array->size + array->status_offset,
					    okay, array->status_size))
				ret = -EFAULT;
	call->run_count = 0;
	return ret;
}

/* Flush on the way, and go on: nothing is held for the flush any more. */
static int flush_early(struct uiommu_xen_call *call)
{
	uiommu_batch_finish(call->batch);
	return write_runs(call);
}

long xen_call_complete(struct uiommu_xen_call *call, long error)
{
	unsigned entry = call->entry;
	long ret = 0;

	call->entry = 0;
	uiommu_batch_finish(call->batch);
	if (entry == XEN_ENTRY_CONTEXT)
		ret = xen_context_call_end(call);
	else if (entry)
		ret = write_runs(call);
	return ret ? ret : error;
}

/* ---- arrays ---- */

/* Room to remember one more index. */
static bool run_room(struct uiommu_xen_call *call)
{
	size_t room = call->run_room ? call->run_room * 2 : 16;
	struct xen_run *runs;

	if (call->run_count < call->run_room)
		return true;
	runs = uiommu_alloc_array(room, sizeof(*runs));
	if (!runs)
		return false;
	if (call->run_count)
		memcpy(runs, call->runs, call->run_count * sizeof(*runs));
	uiommu_free(call->runs, call->run_room * sizeof(*runs));
	call->runs = runs;
	call->run_room = room;
	return true;
}

static void run_add(struct uiommu_xen_call *call, uint32_t index)
{
	struct xen_run *last = call->run_count ? &call->runs[call->run_count - 1] : NULL;

	if (last && last->last + 1 == index)
		last->last = index;
	else
		call->runs[call->run_count++] = (struct xen_run){index, index};
}

/* Do the element that the call has come to. */
static int do_element(struct uiommu_xen_call *call, const struct xen_array *array)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;
	uint16_t domid = call->domain->domid;
	_Alignas(8) char element[XEN_ELEMENT_MAX];
	uint64_t at = call->guest + call->done * array->size;

	if (at < call->guest || at + (array->size - 1) < at ||
	    hooks->copy_in(hooks->ctx, domid, element, at, array->size))
		return -EFAULT;
	if (!run_room(call)) {
		array->no_memory(element);
	} else if (array->one(call, element)) {
		run_add(call, (uint32_t)call->done++);
		return 0;
	}
	call->done++;
	return hooks->copy_out(hooks->ctx, domid, at + array->answer_offset,
			       element + array->answer_offset, array->answer_size);
}

long xen_array_run(struct uiommu_xen_call *call, const struct xen_array *array)
{
	bool first = true;

	call->array = array;
	for (; call->done < call->count; first = false) {
		if (!first && xen_call_preempted(call))
			return UIOMMU_XEN_CONTINUE;
		if (do_element(call, array) || (call->run_count >= RUNS_MOST && flush_early(call)))
			return xen_call_complete(call, -EFAULT);
	}
	return xen_call_complete(call, 0);
}

/* ---- by number ---- */

UIOMMU_API long uiommu_xen_hypercall(struct uiommu_xen_call *call, enum uiommu_xen_flavour flavour,
				     uint64_t op, const uint64_t arg[5])
{
	if (flavour == UIOMMU_XEN_DRAFT2014 && op == 40)
		return uiommu_xen_draft_op(call, (unsigned)arg[0], arg[1], (unsigned)arg[2]);
	if (flavour == UIOMMU_XEN_XENSERVER && op == 56)
		return uiommu_xen_server_op(call, arg[0], (unsigned)arg[1]);
	if (flavour == UIOMMU_XEN_CONTEXTS && op == 43)
		return uiommu_xen_context_op(call, (int)arg[0], arg[1]);
	return -ENOSYS;
}
