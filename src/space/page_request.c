/* SPDX-License-Identifier: MIT */
/*
 * Page requests: a port's access that finds nothing mapped asks whoever answers for the domain, and
 * waits, instead of being aborted. Owns the list of those who wait and the handlers of domains.
 *
 * A port waits outside of its section and with no lock of this library held, so map, unmap, flush
 * and detach go on meanwhile. A wait ends with its answer; with the attachment, the stage 1 or the
 * handler that it came from, with bus mastering, and while its port is held (reset, fork): then as
 * if the answer were invalid. An answer says no more than that it is worth another try.
 *
 * Invariants: a wait stands on the stack of its port's thread, in the unit's list while it lasts.
 * A wait's domain is attached, or in a stage 1 that is: it is entered under unit->lock, and whoever
 * takes the domain away ends the wait before going on, and with it the call of the handler.
 *
 * Locks: unit->lock to find the domain, then the list's. The list's is a leaf. Handlers are called
 * with neither. Nothing here needs memory.
 */
#include <errno.h>

#include "space/space.h"
#include "util/refuse.h"

#define PAGE UINT64_C(4096)
/* A page request group has an index of 9 bits (PCI Express, "Page Request Message"). */
#define GROUPS 512

struct page_wait {
	struct page_wait *next, **link;
	struct uiommu_port *port;
	struct uiommu_domain *domain;
	struct uiommu_page_request request;
	bool calling; /* the handler */
	bool answered;
	bool again; /* the answer: try again */
};

void page_requests_init(struct page_requests *list)
{
	pthread_mutex_init(&list->lock, NULL);
	pthread_cond_init(&list->changed, NULL);
}

void page_requests_destroy(struct page_requests *list)
{
	pthread_cond_destroy(&list->changed);
	pthread_mutex_destroy(&list->lock);
}

static bool recoverable(enum uiommu_fault_reason reason)
{
	return reason == UIOMMU_FAULT_NOT_PRESENT || reason == UIOMMU_FAULT_READ_DENIED ||
	       reason == UIOMMU_FAULT_WRITE_DENIED || reason == UIOMMU_FAULT_ACCESS_FLAG;
}

/* May an access through this port wait? */
static bool may_wait(struct uiommu_port *port, enum uiommu_fault_reason reason)
{
	return !port->interrupt && recoverable(reason) &&
	       atomic_load_explicit(&port->paging, memory_order_relaxed) &&
	       !atomic_load_explicit(&port->held, memory_order_relaxed);
}

bool page_request_due(struct uiommu_port *port, struct uiommu_domain *domain,
		      enum uiommu_fault_reason reason)
{
	return port->can_wait && may_wait(port, reason) && domain &&
	       atomic_load_explicit(&domain->paged, memory_order_relaxed);
}

/* Who answers for what the port's requester ID is attached to: a stage 1 in front of it, if one
 * holds. unit->lock held. */
static struct uiommu_domain *asked_domain(const struct uiommu_port *port)
{
	struct uiommu_domain *domain =
		atomic_load_explicit(&port->slot->domain, memory_order_acquire);
	struct uiommu_stage1 *stage1 =
		atomic_load_explicit(&port->slot->stage1, memory_order_acquire);

	return domain && stage1 && stage1_holds(stage1, domain) ? stage1->domain : domain;
}

/* Enter the list, and with it the handler's call; false: nobody answers. */
static bool enter(struct uiommu_port *port, struct page_wait *wait, uiommu_page_fn *handler,
		  void **ctx)
{
	struct uiommu_unit *unit = port->unit;
	struct page_requests *list = &unit->paging;
	struct uiommu_domain *domain;
	bool entered = false;

	pthread_mutex_lock(&unit->lock);
	domain = asked_domain(port);
	pthread_mutex_lock(&list->lock);
	if (domain && domain->page_handler && port->paging && !port->held && port->master) {
		*handler = domain->page_handler;
		*ctx = domain->page_ctx;
		wait->domain = domain;
		wait->request.cookie = ++list->last_cookie;
		wait->request.group = (uint32_t)(list->last_cookie % GROUPS);
		wait->link = &list->first;
		wait->next = list->first;
		if (wait->next)
			wait->next->link = &wait->next;
		list->first = wait;
		entered = true;
	}
	pthread_mutex_unlock(&list->lock);
	pthread_mutex_unlock(&unit->lock);
	return entered;
}

static void wait_for_answer(struct page_requests *list, struct page_wait *wait)
{
	pthread_mutex_lock(&list->lock);
	wait->calling = false;
	pthread_cond_broadcast(&list->changed);
	while (!wait->answered)
		pthread_cond_wait(&list->changed, &list->lock);
	*wait->link = wait->next;
	if (wait->next)
		wait->next->link = wait->link;
	pthread_mutex_unlock(&list->lock);
}

bool port_page_request(struct uiommu_port *port, uint64_t iova, int access,
		       enum uiommu_fault_reason reason)
{
	struct page_wait wait = {
		.port = port,
		.request = {.rid = port->slot->rid,
			    .pasid = port->slot->pasid,
			    .access = access,
			    .iova = iova & ~(PAGE - 1)},
		.calling = true,
	};
	uiommu_page_fn handler;
	void *ctx;

	if (!may_wait(port, reason) || !enter(port, &wait, &handler, &ctx))
		return false;
	handler(ctx, &wait.request);
	if (port->before_wait)
		port->before_wait(port->wait_ctx);
	wait_for_answer(&port->unit->paging, &wait);
	if (port->before_wait)
		port->after_wait(port->wait_ctx);
	if (wait.again)
		port->stopped_by_stage1 = false;
	return wait.again;
}

/* ---- answers ---- */

static void answer(struct page_wait *wait, bool again)
{
	if (wait->answered)
		return;
	wait->answered = true;
	wait->again = again;
}

static bool matches(const struct page_wait *wait, const struct uiommu_port *port,
		    const struct slot *slot, const struct uiommu_domain *domain)
{
	return (!port || wait->port == port) && (!slot || wait->port->slot == slot) &&
	       (!domain || wait->domain == domain);
}

/* Is there one whose handler is being called? */
static bool called(const struct page_requests *list, const struct uiommu_port *port,
		   const struct slot *slot, const struct uiommu_domain *domain)
{
	for (const struct page_wait *w = list->first; w; w = w->next)
		if (matches(w, port, slot, domain) && w->calling)
			return true;
	return false;
}

/* list->lock held; waits, letting go of it. */
static void cancel_locked(struct page_requests *list, const struct uiommu_port *port,
			  const struct slot *slot, const struct uiommu_domain *domain)
{
	for (struct page_wait *w = list->first; w; w = w->next)
		if (matches(w, port, slot, domain))
			answer(w, false);
	pthread_cond_broadcast(&list->changed);
	while (called(list, port, slot, domain))
		pthread_cond_wait(&list->changed, &list->lock);
}

void page_requests_cancel(struct uiommu_unit *unit, const struct slot *slot,
			  const struct uiommu_domain *domain)
{
	pthread_mutex_lock(&unit->paging.lock);
	cancel_locked(&unit->paging, NULL, slot, domain);
	pthread_mutex_unlock(&unit->paging.lock);
}

void page_requests_cancel_port(struct uiommu_port *port)
{
	struct page_requests *list = &port->unit->paging;

	pthread_mutex_lock(&list->lock);
	for (struct page_wait *w = list->first; w; w = w->next)
		if (w->port == port)
			answer(w, false);
	pthread_cond_broadcast(&list->changed);
	pthread_mutex_unlock(&list->lock);
}

UIOMMU_API int uiommu_domain_page_respond(struct uiommu_domain *domain, uint64_t cookie,
					  enum uiommu_page_response response)
{
	struct page_requests *list = &domain->unit->paging;
	int ret = -ENOENT;

	if (response != UIOMMU_PAGE_SUCCESS && response != UIOMMU_PAGE_INVALID)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, domain->name, UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	pthread_mutex_lock(&list->lock);
	for (struct page_wait *w = list->first; w; w = w->next)
		if (w->domain == domain && w->request.cookie == cookie && !w->answered) {
			answer(w, response == UIOMMU_PAGE_SUCCESS);
			pthread_cond_broadcast(&list->changed);
			ret = 0;
		}
	pthread_mutex_unlock(&list->lock);
	return ret ? uiommu_refuse(UIOMMU_RULE_ARGUMENT, ret, domain->name, UIOMMU_RANGE_NONE,
				   UIOMMU_RANGE_NONE)
		   : 0;
}

/* ---- who asks and who answers ---- */

UIOMMU_API void uiommu_domain_set_page_handler(struct uiommu_domain *domain, uiommu_page_fn handler,
					       void *ctx)
{
	struct page_requests *list = &domain->unit->paging;

	pthread_mutex_lock(&list->lock);
	domain->page_handler = handler;
	domain->page_ctx = ctx;
	atomic_store_explicit(&domain->paged, handler, memory_order_relaxed);
	cancel_locked(list, NULL, NULL, domain);
	pthread_mutex_unlock(&list->lock);
}

UIOMMU_API void uiommu_port_set_paging(struct uiommu_port *port, bool enabled)
{
	pthread_mutex_lock(&port->unit->paging.lock);
	atomic_store_explicit(&port->paging, enabled, memory_order_relaxed);
	pthread_mutex_unlock(&port->unit->paging.lock);
	if (!enabled)
		page_requests_cancel_port(port);
}

UIOMMU_API void uiommu_port_hold_paging(struct uiommu_port *port, bool hold)
{
	pthread_mutex_lock(&port->unit->paging.lock);
	atomic_fetch_add_explicit(&port->held, hold ? 1u : -1u, memory_order_relaxed);
	pthread_mutex_unlock(&port->unit->paging.lock);
	if (hold)
		page_requests_cancel_port(port);
}

UIOMMU_API void uiommu_port_set_wait(struct uiommu_port *port, void (*before)(void *ctx),
				     void (*after)(void *ctx), void *ctx)
{
	port->before_wait = before;
	port->after_wait = after;
	port->wait_ctx = ctx;
}
