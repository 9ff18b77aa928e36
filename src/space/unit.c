/* SPDX-License-Identifier: MIT */
/*
 * The IOMMU unit: owns which domain each requester ID is attached to, for its requests without a
 * PASID and for each PASID, the list of its ports, and the sums of what they count.
 *
 * Invariants: slots live as long as the unit, those of PASIDs as long as a port, an attachment or a
 * stage 1 needs them; so ports keep pointers to theirs. A slot's domain is replaced with one store,
 * and whoever replaced it waits for the slot's ports before it goes on.
 *
 * Locks: unit->lock for slots, ports and counts; taken after an ioas->lock, never before one.
 * unit->attach_lock, before both, makes attaching and detaching one step: who has detached finds
 * nothing of the attachment left in the domain's IOAS, even if somebody else was moving it away.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "space/space.h"
#include "util/alloc.h"
#include "util/options.h"
#include "util/refuse.h"

#define DEFAULT_IOTLB 1024
#define MAX_IOTLB     65536

/* How a writer waits for a port before it goes to sleep in between. */
#define SPINS  200
#define YIELDS 20

static const char *const reasons[] = {
	[UIOMMU_FAULT_NONE] = "no fault",
	[UIOMMU_FAULT_BUS_MASTER] = "bus mastering is off",
	[UIOMMU_FAULT_NO_DOMAIN] = "not attached to any enabled domain",
	[UIOMMU_FAULT_BEYOND] = "beyond the domain's address width",
	[UIOMMU_FAULT_NOT_PRESENT] = "not mapped",
	[UIOMMU_FAULT_READ_DENIED] = "mapped without read permission",
	[UIOMMU_FAULT_WRITE_DENIED] = "mapped without write permission",
	[UIOMMU_FAULT_MEMORY_GONE] = "mapped, but the memory behind it is gone",
	[UIOMMU_FAULT_INTERRUPT] = "interrupt request blocked",
	[UIOMMU_FAULT_DOORBELL_READ] = "read from an interrupt doorbell",
	[UIOMMU_FAULT_CUT_OFF] = "cut off after an earlier violation",
	[UIOMMU_FAULT_TABLE_FETCH] = "a table of the stage 1 can't be reached",
	[UIOMMU_FAULT_TABLE_ENTRY] = "reserved bits in a table of the stage 1",
	[UIOMMU_FAULT_CONTEXT] = "the stage 1's context descriptor is not valid",
	[UIOMMU_FAULT_ACCESS_FLAG] = "mapped without the access flag",
	[UIOMMU_FAULT_ADDRESS_SIZE] = "a table of the stage 1 holds too large an address",
	[UIOMMU_FAULT_ABORTED] = "aborted, as the stage 1 says",
};

UIOMMU_API const char *uiommu_fault_reason_name(enum uiommu_fault_reason reason)
{
	return (size_t)reason < sizeof(reasons) / sizeof(reasons[0]) ? reasons[reason] : "?";
}

static int refuse_options(int error)
{
	return uiommu_refuse(error == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_ARGUMENT, error,
			     "unit options", UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

/* Can it be read and written? The operations may be those of an older header. */
static bool memory_usable(const struct uiommu_memory *memory)
{
	const struct uiommu_memory_ops *ops = memory->ops;

	return ops && ops->size >= offsetof(typeof(*ops), compare_exchange) && ops->read &&
	       ops->write;
}

static int set_options(struct uiommu_unit *unit, const struct uiommu_unit_options *o)
{
	unit->memory = o->memory ? *o->memory : uiommu_memory_self;
	if (!memory_usable(&unit->memory))
		return refuse_options(-EINVAL);
	if (o->iotlb_entries != UIOMMU_IOTLB_OFF) {
		uint32_t entries = o->iotlb_entries ? o->iotlb_entries : DEFAULT_IOTLB;

		if (entries > MAX_IOTLB)
			return refuse_options(-EINVAL);
		unit->iotlb_entries = pow2_ceil(entries);
	}
	for (size_t i = 0; i < o->window_count; i++)
		if (!range_valid(o->windows[i].range) || !o->windows[i].write)
			return refuse_options(-EINVAL);
	if (o->window_count) {
		unit->windows = uiommu_alloc_array(o->window_count, sizeof(*unit->windows));
		if (!unit->windows)
			return refuse_options(-ENOMEM);
		memcpy(unit->windows, o->windows, o->window_count * sizeof(*unit->windows));
		unit->window_count = o->window_count;
	}
	unit->fault = o->fault;
	unit->fault_ctx = o->fault_ctx;
	unit->cut_off = o->cut_off;
	return 0;
}

UIOMMU_API int uiommu_unit_create(const struct uiommu_unit_options *options,
				  struct uiommu_unit **out)
{
	struct uiommu_unit_options known = {.size = sizeof(known)};
	struct uiommu_unit *unit;
	int ret =
		options ? options_take(&known, sizeof(known),
				       offsetof(typeof(known), fault_ctx) + sizeof(known.fault_ctx),
				       options)
			: 0;

	if (ret)
		return refuse_options(ret);
	unit = uiommu_alloc_aligned(sizeof(*unit), CACHE_LINE);
	if (!unit)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "unit", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	ret = set_options(unit, &known);
	if (ret) {
		uiommu_free(unit, sizeof(*unit));
		return ret;
	}
	pthread_mutex_init(&unit->attach_lock, NULL);
	pthread_mutex_init(&unit->lock, NULL);
	page_requests_init(&unit->paging);
	unit->fence = !port_barrier_init();
	unit->changes = 1;
	ret = uiommu_stage1_create(
		unit, &(struct uiommu_stage1_options){.size = sizeof(struct uiommu_stage1_options)},
		&unit->wall);
	if (ret) {
		uiommu_unit_destroy(unit);
		return ret;
	}
	*out = unit;
	return 0;
}

UIOMMU_API void uiommu_unit_destroy(struct uiommu_unit *unit)
{
	struct imap_pos pos;

	if (!unit)
		return;
	for (unsigned bus = 0; bus < 256; bus++) {
		if (!unit->buses[bus])
			continue;
		for (unsigned i = 0; i < 256; i++)
			uiommu_free(unit->buses[bus][i], sizeof(struct slot));
		uiommu_free(unit->buses[bus], 256 * sizeof(struct slot *));
	}
	for (const struct imap_entry *e = imap_find(&unit->pasids, 0, &pos); e; e = imap_next(&pos))
		uiommu_free((struct slot *)(uintptr_t)e->value, sizeof(struct slot));
	imap_clear(&unit->pasids);
	uiommu_stage1_destroy(unit->wall);
	table_shared_destroy(&unit->shared);
	uiommu_free(unit->windows, unit->window_count * sizeof(*unit->windows));
	page_requests_destroy(&unit->paging);
	pthread_mutex_destroy(&unit->lock);
	pthread_mutex_destroy(&unit->attach_lock);
	uiommu_free(unit, sizeof(*unit));
}

void unit_fork_prepare(struct uiommu_unit *unit)
{
	pthread_mutex_lock(&unit->attach_lock);
	pthread_mutex_lock(&unit->lock);
	pthread_mutex_lock(&unit->paging.lock);
}

void unit_fork_parent(struct uiommu_unit *unit)
{
	pthread_mutex_unlock(&unit->paging.lock);
	pthread_mutex_unlock(&unit->lock);
	pthread_mutex_unlock(&unit->attach_lock);
}

void unit_fork_child(struct uiommu_unit *unit)
{
	/* Those who waited are not in this process. */
	page_requests_init(&unit->paging);
	unit->paging.first = NULL;
	pthread_mutex_init(&unit->lock, NULL);
	pthread_mutex_init(&unit->attach_lock, NULL);
}

UIOMMU_API struct uiommu_stage1 *uiommu_unit_wall(struct uiommu_unit *unit)
{
	return unit->wall;
}

UIOMMU_API const struct uiommu_memory *uiommu_unit_memory(struct uiommu_unit *unit)
{
	return &unit->memory;
}

/* ---- slots ---- */

int check_pasid(uint32_t pasid, const char *name)
{
	return pasid <= UIOMMU_PASID_MAX ? 0
					 : uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, name,
							 UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

static uint64_t slot_key(uiommu_rid rid, uint32_t pasid)
{
	return (uint64_t)rid << 32 | pasid;
}

struct slot *unit_find_slot(struct uiommu_unit *unit, uiommu_rid rid, uint32_t pasid)
{
	uint64_t key = slot_key(rid, pasid);
	const struct imap_entry *entry;
	struct imap_pos pos;
	struct slot **bus = unit->buses[rid >> 8];

	if (pasid == UIOMMU_NO_PASID)
		return bus ? bus[rid & 0xff] : NULL;
	entry = imap_find(&unit->pasids, key, &pos);
	return entry && entry->range.first == key ? (struct slot *)(uintptr_t)entry->value : NULL;
}

static struct slot *make_pasid_slot(struct uiommu_unit *unit, uiommu_rid rid, uint32_t pasid)
{
	struct slot *slot = uiommu_alloc(sizeof(*slot));
	const struct imap_entry entry = {
		.range = {slot_key(rid, pasid), slot_key(rid, pasid)},
		.value = (uintptr_t)slot,
	};

	if (!slot || imap_insert(&unit->pasids, &entry, NULL)) {
		uiommu_free(slot, sizeof(*slot));
		return NULL;
	}
	slot->rid = rid;
	slot->pasid = pasid;
	return slot;
}

void slot_put(struct uiommu_unit *unit, struct slot *slot)
{
	bool last;

	pthread_mutex_lock(&unit->lock);
	last = !--slot->users && slot->pasid != UIOMMU_NO_PASID && !slot->attachment &&
	       !atomic_load_explicit(&slot->stage1, memory_order_relaxed);
	if (last)
		imap_erase(&unit->pasids, slot_key(slot->rid, slot->pasid));
	pthread_mutex_unlock(&unit->lock);
	if (last)
		uiommu_free(slot, sizeof(*slot));
}

static struct slot *make_slot(struct uiommu_unit *unit, uiommu_rid rid)
{
	struct slot ***bus = &unit->buses[rid >> 8], **slot;

	if (!*bus) {
		*bus = uiommu_alloc(256 * sizeof(struct slot *));
		if (!*bus)
			return NULL;
	}
	slot = &(*bus)[rid & 0xff];
	if (!*slot) {
		*slot = uiommu_alloc(sizeof(**slot));
		if (*slot)
			(*slot)->rid = rid;
	}
	return *slot;
}

struct slot *unit_slot(struct uiommu_unit *unit, uiommu_rid rid, uint32_t pasid)
{
	struct slot *slot = unit_find_slot(unit, rid, pasid);

	if (slot)
		return slot;
	return pasid == UIOMMU_NO_PASID ? make_slot(unit, rid) : make_pasid_slot(unit, rid, pasid);
}

/* ---- waiting for ports ---- */

static bool port_matches(const struct uiommu_port *port, const struct slot *slot,
			 const struct uiommu_domain *domain)
{
	const struct uiommu_stage1 *stage1 =
		atomic_load_explicit(&port->slot->stage1, memory_order_relaxed);

	if (slot)
		return port->slot == slot || (stage1 && stage1->governor == slot);
	return (port->slot->attachment && port->slot->attachment->domain == domain) ||
	       (stage1 && stage1->domain == domain);
}

/* Is it in a section that it may have entered before this change? One entered later has seen it. */
static bool inside(struct uiommu_port *port, uint64_t change)
{
	uint64_t section = __atomic_load_n(&port->fast.section, __ATOMIC_ACQUIRE);

	return section && section < change;
}

static void wait_port(struct uiommu_port *port, uint64_t change)
{
	const struct timespec pause = {.tv_nsec = 20000};

	/* Sections are short copies; a port whose thread was preempted needs a processor first, and
	 * yielding alone does not always give it one. */
	for (unsigned i = 0; inside(port, change); i++)
		if (i >= SPINS + YIELDS)
			clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		else if (i >= SPINS)
			sched_yield();
}

void unit_wait(struct uiommu_unit *unit, const struct slot *slot,
	       const struct uiommu_domain *domain)
{
	struct uiommu_port *port = unit->ports;
	uint64_t change;

	while (port && !port_matches(port, slot, domain))
		port = port->next;
	if (!port)
		return;
	change = unit_changed(unit);
	port_barrier(unit);
	for (; port; port = port->next)
		if (port_matches(port, slot, domain))
			wait_port(port, change);
}

/* ---- attachments ---- */

/* No device may have both kinds of MSI region, or several windows for software to place doorbells
 * in: there would be no telling which holds (Linux: iommufd's iopt_table_enforce_dev_resv_regions).
 */
static int check_regions(const struct uiommu_resv_region *regions, size_t count, const char *name)
{
	unsigned msi = 0, sw_msi = 0;

	for (size_t i = 0; i < count; i++) {
		msi += regions[i].type == UIOMMU_RESV_MSI;
		sw_msi += regions[i].type == UIOMMU_RESV_SW_MSI;
	}
	if ((msi && sw_msi) || sw_msi > 1)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, name, UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	return 0;
}

static int reserve_regions(struct uiommu_ioas *ioas, const struct uiommu_resv_region *regions,
			   size_t count, const struct attachment *owner, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		int ret;

		if (regions[i].type == UIOMMU_RESV_DIRECT_RELAXABLE)
			continue;
		ret = ioas_reserve_region(ioas, &regions[i], owner, name);
		if (ret) {
			uiommu_ioas_unreserve(ioas, owner);
			return ret;
		}
	}
	return 0;
}

static void let_go(struct attachment *attachment)
{
	if (!attachment)
		return;
	uiommu_ioas_unreserve(attachment->domain->ioas, attachment);
	uiommu_free(attachment, sizeof(*attachment));
}

/* Show ports what the slot is attached to, unless that is disabled; a cut is lifted. unit->lock
 * held. */
static void slot_open(struct slot *slot)
{
	struct uiommu_domain *domain = slot->attachment ? slot->attachment->domain : NULL;

	atomic_store_explicit(&slot->cut, false, memory_order_relaxed);
	atomic_store_explicit(&slot->domain, domain && !domain->disabled ? domain : NULL,
			      memory_order_release);
}

/* Point the slot to attachment (NULL: to nothing), wait for its ports, return the old one.
 * unit->lock held. */
static struct attachment *slot_switch(struct uiommu_unit *unit, struct slot *slot,
				      struct attachment *attachment)
{
	struct attachment *old = slot->attachment;

	slot->attachment = attachment;
	slot_open(slot);
	if (attachment)
		attachment->domain->attached++;
	if (old)
		old->domain->attached--;
	unit_wait(unit, slot, NULL);
	return old;
}

static int refuse_memory(const char *name)
{
	return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, name, UIOMMU_RANGE_NONE,
			     UIOMMU_RANGE_NONE);
}

/* All of attaching that may fail, in front of *@list. unit->attach_lock held. */
static int prepare(struct uiommu_domain *domain, uiommu_rid rid, uint32_t pasid,
		   const struct uiommu_resv_region *regions, size_t count, const char *name,
		   struct attachment **list)
{
	struct attachment *attachment = uiommu_alloc(sizeof(*attachment));
	int ret;

	if (!attachment)
		return refuse_memory(name);
	attachment->domain = domain;
	ret = reserve_regions(domain->ioas, regions, count, attachment, name);
	if (ret) {
		uiommu_free(attachment, sizeof(*attachment));
		return ret;
	}
	pthread_mutex_lock(&domain->unit->lock);
	attachment->slot = unit_slot(domain->unit, rid, pasid);
	if (attachment->slot)
		attachment->slot->users++;
	pthread_mutex_unlock(&domain->unit->lock);
	if (!attachment->slot) {
		let_go(attachment);
		return refuse_memory(name);
	}
	attachment->next = *list;
	*list = attachment;
	return 0;
}

static void unprepare(struct uiommu_unit *unit, struct attachment *list)
{
	while (list) {
		struct attachment *next = list->next;

		slot_put(unit, list->slot);
		let_go(list);
		list = next;
	}
}

/* Cannot fail. unit->attach_lock held. */
static void commit(struct uiommu_unit *unit, struct attachment *list)
{
	while (list) {
		struct attachment *next = list->next, *old;
		struct slot *slot = list->slot;

		pthread_mutex_lock(&unit->lock);
		old = slot_switch(unit, slot, list);
		pthread_mutex_unlock(&unit->lock);
		if (old)
			page_requests_cancel(unit, slot, NULL);
		let_go(old);
		slot_put(unit, slot);
		list = next;
	}
}

UIOMMU_API int uiommu_domain_attach(struct uiommu_domain *domain, uiommu_rid rid,
				    const struct uiommu_resv_region *regions, size_t count,
				    const char *name)
{
	return uiommu_domain_attach_all(domain, &rid, 1, UIOMMU_NO_PASID, regions, count, name);
}

UIOMMU_API int uiommu_domain_attach_pasid(struct uiommu_domain *domain, uiommu_rid rid,
					  uint32_t pasid, const struct uiommu_resv_region *regions,
					  size_t count, const char *name)
{
	return uiommu_domain_attach_all(domain, &rid, 1, pasid, regions, count, name);
}

UIOMMU_API int uiommu_domain_attach_all(struct uiommu_domain *domain, const uiommu_rid *rids,
					size_t rid_count, uint32_t pasid,
					const struct uiommu_resv_region *regions, size_t count,
					const char *name)
{
	struct uiommu_unit *unit = domain->unit;
	struct attachment *list = NULL;
	int ret = check_pasid(pasid, name);

	if (!ret)
		ret = check_regions(regions, count, name);
	if (ret)
		return ret;
	if (domain->parent_uid)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				     "a nested domain goes in front of an attachment to its parent",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	pthread_mutex_lock(&unit->attach_lock);
	for (size_t i = 0; i < rid_count && !ret; i++)
		ret = prepare(domain, rids[i], pasid, regions, count, name, &list);
	if (ret)
		unprepare(unit, list);
	else
		commit(unit, list);
	pthread_mutex_unlock(&unit->attach_lock);
	return ret;
}

UIOMMU_API void uiommu_domain_detach(struct uiommu_domain *domain, uiommu_rid rid)
{
	uiommu_domain_detach_pasid(domain, rid, UIOMMU_NO_PASID);
}

UIOMMU_API void uiommu_domain_detach_pasid(struct uiommu_domain *domain, uiommu_rid rid,
					   uint32_t pasid)
{
	struct uiommu_unit *unit = domain->unit;
	struct attachment *old = NULL;
	struct slot *slot;

	pthread_mutex_lock(&unit->attach_lock);
	pthread_mutex_lock(&unit->lock);
	slot = unit_find_slot(unit, rid, pasid);
	if (slot && slot->attachment && slot->attachment->domain == domain) {
		old = slot_switch(unit, slot, NULL);
		slot->users++;
	}
	pthread_mutex_unlock(&unit->lock);
	if (old) {
		page_requests_cancel(unit, slot, NULL);
		slot_put(unit, slot);
	}
	let_go(old);
	pthread_mutex_unlock(&unit->attach_lock);
}

static void open_if_attached(struct slot *slot, const struct uiommu_domain *domain)
{
	if (slot && slot->attachment && slot->attachment->domain == domain)
		slot_open(slot);
}

UIOMMU_API void uiommu_domain_enable(struct uiommu_domain *domain, bool enabled)
{
	struct uiommu_unit *unit = domain->unit;
	struct imap_pos pos;

	pthread_mutex_lock(&unit->lock);
	domain->disabled = !enabled;
	for (unsigned bus = 0; bus < 256; bus++)
		for (unsigned i = 0; unit->buses[bus] && i < 256; i++)
			open_if_attached(unit->buses[bus][i], domain);
	for (const struct imap_entry *e = imap_find(&unit->pasids, 0, &pos); e; e = imap_next(&pos))
		open_if_attached((struct slot *)(uintptr_t)e->value, domain);
	/* Enabled, too: a stage 1 may hold again that its governor's absence had disarmed. */
	unit_wait(unit, NULL, domain);
	pthread_mutex_unlock(&unit->lock);
	if (!enabled)
		page_requests_cancel(unit, NULL, domain);
}

UIOMMU_API void uiommu_unit_stats(struct uiommu_unit *unit, struct uiommu_unit_stats *stats)
{
	pthread_mutex_lock(&unit->lock);
	*stats = unit->retired;
	for (struct uiommu_port *p = unit->ports; p; p = p->next)
		port_counters_add(p, stats);
	pthread_mutex_unlock(&unit->lock);
}
