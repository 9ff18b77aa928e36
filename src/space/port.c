/* SPDX-License-Identifier: MIT */
/*
 * DMA ports: the only way by which a device reaches memory. Owns the access sections, the IOTLB of
 * each port, and faults.
 *
 * A port is used by one thread at a time and takes no lock. What makes unmap safe: a port is inside
 * a section from before it reads the attachment, the ring of invalidations or a table entry until
 * after its last access to memory. It announces that with a plain store of the unit's count of
 * changes, and 0 when it leaves. Whoever takes a translation away clears it, counts up, makes every
 * running thread pass a barrier (membarrier(2)), then waits for the ports that are in a section
 * with a lower count. So either the waiter sees the section, or the port, which reads the count
 * again after it has entered, sees that it must look at what has changed (port_look()). While the
 * count is the one of its last look, nothing was taken away since, and the attachment, the stage 1
 * and the IOTLB are used as they are; that is all that the inline functions ask.
 *
 * Doorbell writes are delivered outside of sections, with nothing held. So are faults reported, but
 * for those of uiommu_port_translate(), whose caller is inside one; and so does an access wait for
 * a page that it has asked for (page_request.c).
 */
#include <endian.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "space/space.h"
#include "util/alloc.h"
#include "util/refuse.h"

#define PAGE UINT64_C(4096)

/* ---- barrier ---- */

/* A refusal shows in the result alone: errno is the program's. */
static bool membarrier(int command)
{
	int saved = errno;
	bool done = !syscall(SYS_membarrier, command, 0, 0);

	errno = saved;
	return done;
}

bool port_barrier_init(void)
{
	return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

void port_barrier(const struct uiommu_unit *unit)
{
	if (unit->fence) {
		__sync_synchronize();
		return;
	}
	if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
		return;
	/* A child of fork() has to register for itself; a global barrier is the last resort. */
	if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) &&
	    membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
		return;
	membarrier(MEMBARRIER_CMD_GLOBAL);
}

/* The inline ones as functions, for who takes their addresses. */
UIOMMU_API void uiommu_port_enter(struct uiommu_port *port)
{
	uiommu_port_enter_now(port);
}

UIOMMU_API void uiommu_port_leave(struct uiommu_port *port)
{
	uiommu_port_leave_now(port);
}

/* ---- IOTLB ---- */

#define FREE_ENTRY ((struct uiommu_port_entry){.first = UINT64_MAX, .lacks = UINT64_MAX})

/* 0: it is free. */
static int entry_prot(const struct uiommu_port_entry *entry)
{
	return (int)(~entry->lacks & (UIOMMU_READ | UIOMMU_WRITE | UIOMMU_MMIO));
}

static bool iotlb_on(const struct uiommu_port *port)
{
	return port->fast.entries != &port->none;
}

static struct uiommu_port_entry *iotlb_slot(struct uiommu_port *port, uint64_t iova)
{
	return &port->fast.entries[(iova / PAGE) & port->fast.mask];
}

/* Drop an entry, if there is one and it overlaps the range. */
static void iotlb_forget(struct uiommu_port *port, struct uiommu_port_entry *entry,
			 struct uiommu_range range)
{
	struct uiommu_range own = {entry->first, entry->first + entry->span};

	if (!entry_prot(entry) || !range_overlaps(own, range))
		return;
	*entry = FREE_ENTRY;
	counter_add(&port->counters.entries_flushed, 1);
}

/* Drop what lies in the range. Entries stand at the slot of a page inside their leaf, and
 * invalidations never cut a leaf, so a short range needs only its own pages' slots; unless it is a
 * guest's, who may cut its own leaves. */
static void iotlb_drop(struct uiommu_port *port, struct uiommu_range range, bool cuts)
{
	uint64_t pages = range.last / PAGE - range.first / PAGE;

	if (cuts || pages > port->fast.mask)
		for (uint64_t i = 0; i <= port->fast.mask; i++)
			iotlb_forget(port, &port->fast.entries[i], range);
	else
		for (uint64_t i = 0; i <= pages; i++)
			iotlb_forget(port, iotlb_slot(port, range.first + i * PAGE), range);
}

/* Drop what a domain's ring says from @seen to @head. */
static void iotlb_replay(struct uiommu_port *port, struct uiommu_domain *domain, uint64_t seen,
			 uint64_t head)
{
	for (uint64_t seq = seen; seq != head; seq++) {
		struct inval_slot *slot = &domain->inval[seq % INVAL_RING];
		struct uiommu_range range = {
			atomic_load_explicit(&slot->first, memory_order_acquire),
			atomic_load_explicit(&slot->last, memory_order_acquire),
		};
		uint64_t claim = atomic_load_explicit(&domain->inval_claim, memory_order_relaxed);

		/* Too late: the slot may hold a later invalidation already. */
		if (claim - seq > INVAL_RING) {
			iotlb_drop(port, UIOMMU_RANGE_ALL, true);
			break;
		}
		iotlb_drop(port, range, domain->guest);
	}
}

/* See to the invalidations that came since the last time: the domain's and, if there is a stage 1
 * in front, that one's. Entries are found by the IOVA that the device uses, so behind a stage 1 an
 * invalidation of the domain, which speaks of other addresses, takes them all. */
static void iotlb_update(struct uiommu_port *port, struct uiommu_domain *domain, uint64_t head,
			 struct uiommu_domain *stage1, uint64_t stage1_head)
{
	uint64_t uid = stage1 ? stage1->uid : 0;

	if (port->domain_uid != domain->uid || port->stage1_uid != uid ||
	    (stage1 && port->inval_seen != head)) {
		iotlb_drop(port, UIOMMU_RANGE_ALL, true);
		port->domain_uid = domain->uid;
		port->stage1_uid = uid;
	} else if (stage1) {
		iotlb_replay(port, stage1, port->stage1_inval_seen, stage1_head);
	} else {
		iotlb_replay(port, domain, port->inval_seen, head);
	}
	port->inval_seen = head;
	port->stage1_inval_seen = stage1_head;
}

static void iotlb_catch_up(struct uiommu_port *port, struct uiommu_domain *domain,
			   struct uiommu_domain *stage1)
{
	uint64_t head = atomic_load_explicit(&domain->inval_head, memory_order_acquire);
	uint64_t uid = 0, stage1_head = 0;

	if (stage1) {
		uid = stage1->uid;
		stage1_head = atomic_load_explicit(&stage1->inval_head, memory_order_acquire);
	}
	if (port->domain_uid != domain->uid || port->inval_seen != head ||
	    port->stage1_uid != uid || port->stage1_inval_seen != stage1_head)
		iotlb_update(port, domain, head, stage1, stage1_head);
}

/* The lowest window that overlaps r, or NULL. */
static const struct uiommu_doorbell_window *window_at(const struct uiommu_port *port,
						      struct uiommu_range r)
{
	const struct uiommu_doorbell_window *lowest = NULL;

	for (size_t i = 0; i < port->window_count; i++) {
		const struct uiommu_doorbell_window *window = &port->unit->windows[i];

		if (!window->translated && range_overlaps(window->range, r) &&
		    (!lowest || window->range.first < lowest->range.first))
			lowest = window;
	}
	return lowest;
}

/* Requests with a PASID meet no window. */
static void set_windows(struct uiommu_port *port, uint32_t pasid)
{
	uint64_t first = UINT64_MAX, last = 0;

	port->window_count = pasid == UIOMMU_NO_PASID ? port->unit->window_count : 0;
	for (size_t i = 0; i < port->window_count; i++) {
		const struct uiommu_doorbell_window *window = &port->unit->windows[i];

		if (window->translated)
			continue;
		if (window->range.first < first)
			first = window->range.first;
		if (window->range.last > last)
			last = window->range.last;
	}
	/* Whole pages, so that a page is in it if its first byte is. */
	port->fast.hole_first = first & ~(PAGE - 1);
	port->fast.hole_span = first <= last ? (last | (PAGE - 1)) - port->fast.hole_first : 0;
}

/* May inline functions use this leaf, which the table (the stage 1's, if there is one) translates:
 * is it memory throughout, with neither doorbell nor border in front? */
static inline bool leaf_plain(const struct uiommu_port *port, const struct table *table,
			      const struct table_leaf *leaf)
{
	return !(leaf->prot & UIOMMU_MMIO) && leaf->range.last - leaf->range.first < INT64_MAX &&
	       range_contains(table->aperture, leaf->range) &&
	       !(port->window_count && window_at(port, leaf->range));
}

/* ---- translation ---- */

/* The leaf that translates iova, from the IOTLB or the tables. @first is the stage 1's domain, NULL
 * without one; *stage1 becomes whether that stopped it. Inside a section, as of the last look.
 * Compiled for either case: most devices have no stage 1. */
static inline __attribute__((always_inline)) enum uiommu_fault_reason
find_leaf(struct uiommu_port *port, struct uiommu_domain *first, struct uiommu_domain *domain,
	  uint64_t iova, int access, struct table_leaf *leaf, bool *stage1)
{
	const struct table *table = first ? &first->table : &domain->table;
	struct uiommu_port_entry *entry = iotlb_slot(port, iova);
	enum uiommu_fault_reason reason;

	*stage1 = first;
	if (!table_covers(table, iova))
		return UIOMMU_FAULT_BEYOND;
	if (!((uint64_t)access & entry->lacks) && iova - entry->first <= entry->span) {
		uiommu_port_count(&port->fast.hits);
		*leaf = (struct table_leaf){{entry->first, entry->first + entry->span},
					    entry->first + entry->delta,
					    entry_prot(entry)};
		return UIOMMU_FAULT_NONE;
	}
	if (iotlb_on(port))
		uiommu_port_count(&port->fast.misses);
	else
		counter_add(&port->counters.walks, 1);
	reason = first ? stage1_walk(first, domain, iova, access, leaf, stage1)
		       : domain_walk(domain, iova, access, leaf);
	if (reason)
		return reason;
	if (iotlb_on(port)) {
		entry->first = leaf->range.first;
		entry->span = leaf->range.last - leaf->range.first;
		entry->delta = leaf->addr - leaf->range.first;
		entry->lacks = ~((uint64_t)leaf->prot |
				 (leaf_plain(port, table, leaf) ? UIOMMU_PORT_PLAIN : 0));
	}
	return check_prot(leaf->prot, access);
}

/* A stage 1 stopped an access: who set it hears of it. Inside a section, so that it is still there.
 */
static __attribute__((noinline)) void tell_stage1(struct uiommu_port *port,
						  const struct uiommu_stage1 *stage1, uint64_t iova,
						  int access, enum uiommu_fault_reason reason)
{
	const struct uiommu_fault fault = {.rid = port->slot->rid,
					   .pasid = port->slot->pasid,
					   .access = access,
					   .reason = reason,
					   .iova = iova,
					   .stage1 = true};

	if (stage1->fault)
		stage1->fault(stage1->fault_ctx, &fault);
}

/* Does a doorbell stand there that the stage 1 lets pass? Then its leaf. Interrupts are not worth
 * room in the IOTLB, whose entries stand for both stages. */
static bool find_passing(struct uiommu_port *port, const struct uiommu_stage1 *stage1,
			 const struct uiommu_domain *domain, uint64_t iova, struct table_leaf *leaf)
{
	if (!stage1_passes(stage1, iova) || !table_covers(&domain->table, iova))
		return false;
	counter_add(&port->counters.walks, 1);
	return table_walk(&domain->table, iova, leaf) && (leaf->prot & UIOMMU_MMIO);
}

/* The leaf that translates iova through a stage 1 and the domain behind it. */
static __attribute__((noinline)) enum uiommu_fault_reason
translate_behind(struct uiommu_port *port, struct uiommu_stage1 *stage1,
		 struct uiommu_domain *domain, uint64_t iova, int access, struct table_leaf *leaf)
{
	enum uiommu_fault_reason reason = UIOMMU_FAULT_NO_DOMAIN;
	bool by_stage1 = true;

	if (find_passing(port, stage1, domain, iova, leaf))
		return check_prot(leaf->prot, access);
	if (stage1->domain)
		reason = find_leaf(port, stage1->domain, domain, iova, access, leaf, &by_stage1);
	if (reason && by_stage1) {
		port->stopped_by_stage1 = true;
		if (!page_request_due(port, stage1->domain, reason))
			tell_stage1(port, stage1, iova, access, reason);
	}
	return reason;
}

static struct uiommu_port_found walk_otherwise(struct uiommu_port_fast *fast, uint64_t iova,
					       uint64_t more, uint64_t need,
					       struct uiommu_port_entry *entry)
{
	return (struct uiommu_port_found){0, 0};
}

/* Have inline functions walk the domain's table, if all that is found there is what the port gets:
 * with nothing in front, and no bits to be set in entries. */
static void choose_walk(struct uiommu_port *port, struct uiommu_domain *domain)
{
	bool direct = !port->stage1 && iotlb_on(port) && domain->table.ops->walk_for_port &&
		      !atomic_load_explicit(&domain->tracking, memory_order_relaxed);

	port->fast.walk = direct ? domain->table.ops->walk_for_port : walk_otherwise;
	port->fast.table = &domain->table;
}

enum uiommu_fault_reason port_look(struct uiommu_port *port, uint64_t changes)
{
	struct uiommu_domain *domain =
		atomic_load_explicit(&port->slot->domain, memory_order_acquire);
	struct uiommu_stage1 *stage1 =
		atomic_load_explicit(&port->slot->stage1, memory_order_acquire);

	if (!atomic_load_explicit(&port->master, memory_order_relaxed))
		return UIOMMU_FAULT_BUS_MASTER;
	if (!domain)
		return atomic_load_explicit(&port->slot->cut, memory_order_relaxed)
			       ? UIOMMU_FAULT_CUT_OFF
			       : UIOMMU_FAULT_NO_DOMAIN;
	port->domain = domain;
	port->stage1 = stage1 && stage1_holds(stage1, domain) ? stage1 : NULL;
	if (iotlb_on(port) && (!port->stage1 || port->stage1->domain))
		iotlb_catch_up(port, domain, port->stage1 ? port->stage1->domain : NULL);
	/* After that: who has tracking begin puts it down before what takes away the IOTLB's
	 * entries that were made without. The other way round the port could have seen to those
	 * before it makes more of them. */
	choose_walk(port, domain);
	/* A wall, or one that lets doorbells pass, must be asked each time, before the IOTLB; and
	 * inline functions don't fence. */
	if ((port->stage1 && (!port->stage1->domain || port->stage1->pass_count)) ||
	    port->unit->fence)
		changes = 0;
	port->fast.checked = changes;
	return UIOMMU_FAULT_NONE;
}

/* The leaf that translates iova for what the port's requester ID is attached to and what stands in
 * front of that. Inside a section. */
static enum uiommu_fault_reason translate(struct uiommu_port *port, uint64_t iova, int access,
					  struct table_leaf *leaf)
{
	uint64_t changes = port_changes(port);
	enum uiommu_fault_reason reason;
	bool by_stage1;

	if (changes != port->fast.checked) {
		reason = port_look(port, changes);
		if (reason)
			return reason;
	}
	if (port->stage1)
		return translate_behind(port, port->stage1, port->domain, iova, access, leaf);
	return find_leaf(port, NULL, port->domain, iova, access, leaf, &by_stage1);
}

/* The requester reaches nothing from now on. Whoever attaches it anew meanwhile wins. */
static void cut_off(struct uiommu_port *port)
{
	struct uiommu_domain *domain =
		atomic_load_explicit(&port->slot->domain, memory_order_relaxed);

	atomic_store_explicit(&port->slot->cut, true, memory_order_relaxed);
	if (!domain || !atomic_compare_exchange_strong(&port->slot->domain, &domain, NULL))
		atomic_store_explicit(&port->slot->cut, false, memory_order_relaxed);
	unit_changed(port->unit);
}

/* Did the attachment's table refuse, rather than what is before or behind it? What a stage 1 stops
 * never came to that table: a guest's fault is its own, and costs nobody the device. */
static bool is_violation(const struct uiommu_port *port, enum uiommu_fault_reason reason)
{
	if (port->stopped_by_stage1)
		return false;
	return reason == UIOMMU_FAULT_BEYOND || reason == UIOMMU_FAULT_NOT_PRESENT ||
	       reason == UIOMMU_FAULT_READ_DENIED || reason == UIOMMU_FAULT_WRITE_DENIED;
}

int port_fault(struct uiommu_port *port, uint64_t iova, int access, enum uiommu_fault_reason reason,
	       uint64_t data)
{
	struct uiommu_unit *unit = port->unit;

	port->last_fault = (struct uiommu_fault){
		.rid = port->slot->rid,
		.pasid = port->slot->pasid,
		.access = access,
		.reason = reason,
		.iova = iova,
		.data = port->interrupt ? port->interrupt_data : data,
		.interrupt = port->interrupt,
		.cut_off = unit->cut_off && is_violation(port, reason),
		.stage1 = port->stopped_by_stage1,
	};
	port->stopped_by_stage1 = false;
	counter_add(&port->counters.faults, 1);
	if (port->last_fault.cut_off)
		cut_off(port);
	if (unit->fault)
		unit->fault(unit->fault_ctx, &port->last_fault);
	return -EFAULT;
}

enum uiommu_fault_reason port_translate_piece(struct uiommu_port *port, uint64_t iova, int access,
					      uint64_t *addr, uint64_t *piece)
{
	const struct uiommu_doorbell_window *window =
		window_at(port, (struct uiommu_range){iova, add_sat(iova, *piece - 1)});
	enum uiommu_fault_reason reason;
	struct table_leaf leaf;

	if (window && window->range.first <= iova)
		return access == UIOMMU_READ ? UIOMMU_FAULT_DOORBELL_READ : UIOMMU_FAULT_INTERRUPT;
	if (window)
		*piece = window->range.first - iova;
	reason = translate(port, iova, access, &leaf);
	if (reason)
		return reason;
	if (leaf.prot & UIOMMU_MMIO)
		return access == UIOMMU_READ ? UIOMMU_FAULT_DOORBELL_READ : UIOMMU_FAULT_INTERRUPT;
	*addr = leaf.addr + (iova - leaf.range.first);
	if (*piece - 1 > leaf.range.last - iova)
		*piece = leaf.range.last - iova + 1;
	return UIOMMU_FAULT_NONE;
}

UIOMMU_API int64_t uiommu_port_translate_other(struct uiommu_port *port, uint64_t iova,
					       uint64_t len, int access,
					       struct uiommu_segment *segments, size_t *count)
{
	size_t room = *count, n = 0;
	uint64_t done = 0;

	*count = 0;
	if (len > INT64_MAX)
		len = INT64_MAX;
	while (done < len) {
		uint64_t addr = 0, piece = len - done;
		enum uiommu_fault_reason reason;

		reason = iova + done < iova
				 ? UIOMMU_FAULT_BEYOND
				 : port_translate_piece(port, iova + done, access, &addr, &piece);
		if (reason)
			return port_fault(port, iova + done, access, reason, 0);
		if (n && segments[n - 1].addr + segments[n - 1].len == addr) {
			segments[n - 1].len += piece;
		} else {
			if (n == room)
				break;
			segments[n++] = (struct uiommu_segment){addr, piece};
		}
		done += piece;
	}
	*count = n;
	return (int64_t)done;
}

UIOMMU_API int64_t uiommu_port_translate_other_one(struct uiommu_port *port, uint64_t iova,
						   uint64_t len, int access, uint64_t *addr)
{
	struct uiommu_segment segment;
	size_t count = 1;
	int64_t ret = uiommu_port_translate_other(port, iova, len, access, &segment, &count);

	if (ret > 0)
		*addr = segment.addr;
	return ret;
}

/* The inline ones as functions, as above. */
UIOMMU_API int64_t uiommu_port_translate(struct uiommu_port *port, uint64_t iova, uint64_t len,
					 int access, struct uiommu_segment *segments, size_t *count)
{
	return uiommu_port_translate_now(port, iova, len, access, segments, count);
}

UIOMMU_API int64_t uiommu_port_translate_one(struct uiommu_port *port, uint64_t iova, uint64_t len,
					     int access, uint64_t *addr)
{
	return uiommu_port_translate_one_now(port, iova, len, access, addr);
}

/* ---- access ---- */

/* A doorbell takes aligned 32-bit writes and nothing else. No window: nothing answers at that
 * address. */
static int ring_doorbell(struct uiommu_port *port, const struct uiommu_doorbell_window *window,
			 uint64_t iova, uint64_t address, const void *buf, size_t len, int access)
{
	uint32_t data = 0;

	if (access == UIOMMU_READ)
		return port_fault(port, iova, access, UIOMMU_FAULT_DOORBELL_READ, 0);
	if (!atomic_load_explicit(&port->master, memory_order_relaxed))
		return port_fault(port, iova, access, UIOMMU_FAULT_BUS_MASTER, 0);
	memcpy(&data, buf, len < sizeof(data) ? len : sizeof(data));
	data = le32toh(data);
	if (!window || len != sizeof(data) || (address & 3) ||
	    window->write(window->ctx, port->slot->rid, address, data))
		return port_fault(port, iova, access, UIOMMU_FAULT_INTERRUPT, data);
	counter_add(&port->counters.doorbells, 1);
	return 0;
}

/* The doorbell behind the translation at this address, or NULL. */
static const struct uiommu_doorbell_window *doorbell_at(const struct uiommu_unit *unit,
							uint64_t address)
{
	for (size_t i = 0; i < unit->window_count; i++) {
		const struct uiommu_doorbell_window *window = &unit->windows[i];

		if (window->translated && window->range.first <= address &&
		    address <= window->range.last)
			return window;
	}
	return NULL;
}

/* Copy what one leaf translates, at most *piece bytes from iova on; *piece becomes what was copied.
 * True in *mmio: nothing was, for *target is no memory. */
static enum uiommu_fault_reason copy_piece(struct uiommu_port *port, uint64_t iova, void *buf,
					   size_t *piece, int access, bool *mmio, uint64_t *target)
{
	const struct uiommu_memory *memory = &port->unit->memory;
	enum uiommu_fault_reason reason;
	struct table_leaf leaf;
	uint64_t addr;
	int ret;

	port->can_wait = true;
	uiommu_port_enter_now(port);
	reason = translate(port, iova, access, &leaf);
	if (!reason) {
		if (leaf.range.last - iova < *piece - 1)
			*piece = leaf.range.last - iova + 1;
		addr = leaf.addr + (iova - leaf.range.first);
		*mmio = leaf.prot & UIOMMU_MMIO;
		*target = addr;
	}
	if (!reason && !*mmio) {
		ret = access == UIOMMU_READ ? memory->ops->read(memory->ctx, addr, buf, *piece)
					    : memory->ops->write(memory->ctx, addr, buf, *piece);
		if (ret)
			reason = UIOMMU_FAULT_MEMORY_GONE;
	}
	uiommu_port_leave_now(port);
	port->can_wait = false;
	return reason;
}

int port_access(struct uiommu_port *port, uint64_t iova, char *buf, size_t len, int access)
{
	uint64_t most = SECTION_BYTES;
	size_t done = 0;

	while (done < len) {
		uint64_t at = iova + done;
		size_t piece = len - done < most ? len - done : most;
		const struct uiommu_doorbell_window *window;
		enum uiommu_fault_reason reason;
		uint64_t target = 0;
		bool mmio = false;

		if (at < iova)
			return port_fault(port, at, access, UIOMMU_FAULT_BEYOND, 0);
		if (piece - 1 > UINT64_MAX - at)
			piece = UINT64_MAX - at + 1;
		window = window_at(port, (struct uiommu_range){at, at + (piece - 1)});
		if (window && window->range.first <= at)
			return ring_doorbell(port, window, at, at, buf + done, len - done, access);
		if (window)
			piece = window->range.first - at;
		reason = copy_piece(port, at, buf + done, &piece, access, &mmio, &target);
		if (!reason && mmio)
			return ring_doorbell(port, doorbell_at(port->unit, target), at, target,
					     buf + done, len - done, access);
		if (reason == UIOMMU_FAULT_MEMORY_GONE && piece > PAGE - at % PAGE) {
			/* Some page of many is gone: go on page by page to find it. */
			most = PAGE - at % PAGE;
			continue;
		}
		if (reason && port_page_request(port, at, access, reason))
			continue;
		if (reason)
			return port_fault(port, at, access, reason, 0);
		if (most != SECTION_BYTES)
			most = PAGE;
		counter_add(access == UIOMMU_READ ? &port->counters.bytes_read
						  : &port->counters.bytes_written,
			    piece);
		done += piece;
	}
	return 0;
}

UIOMMU_API int uiommu_port_read(struct uiommu_port *port, uint64_t iova, void *buf, size_t len)
{
	counter_add(&port->counters.reads, 1);
	return port_access(port, iova, buf, len, UIOMMU_READ);
}

UIOMMU_API int uiommu_port_write(struct uiommu_port *port, uint64_t iova, const void *buf,
				 size_t len)
{
	counter_add(&port->counters.writes, 1);
	return port_access(port, iova, (char *)(uintptr_t)buf, len, UIOMMU_WRITE);
}

UIOMMU_API int uiommu_port_interrupt(struct uiommu_port *port, uint64_t iova, uint32_t data)
{
	uint32_t wire = htole32(data);
	int ret;

	port->interrupt = true;
	port->interrupt_data = data;
	ret = uiommu_port_write(port, iova, &wire, sizeof(wire));
	port->interrupt = false;
	return ret;
}

static int port_vector(struct uiommu_port *port, const struct uiommu_sg *sg, size_t count,
		       char *buf, size_t len, int access)
{
	for (size_t i = 0; i < count && len; i++) {
		size_t piece = sg[i].len < len ? sg[i].len : len;
		int ret = port_access(port, sg[i].iova, buf, piece, access);

		if (ret)
			return ret;
		buf += piece;
		len -= piece;
	}
	return 0;
}

UIOMMU_API int uiommu_port_readv(struct uiommu_port *port, const struct uiommu_sg *sg, size_t count,
				 void *buf, size_t len)
{
	counter_add(&port->counters.reads, 1);
	return port_vector(port, sg, count, buf, len, UIOMMU_READ);
}

UIOMMU_API int uiommu_port_writev(struct uiommu_port *port, const struct uiommu_sg *sg,
				  size_t count, const void *buf, size_t len)
{
	counter_add(&port->counters.writes, 1);
	return port_vector(port, sg, count, (char *)(uintptr_t)buf, len, UIOMMU_WRITE);
}

/* ---- life ---- */

static void free_port(struct uiommu_port *port, size_t iotlb_bytes)
{
	if (!port)
		return;
	if (iotlb_on(port))
		uiommu_free(port->fast.entries, iotlb_bytes);
	uiommu_free(port, sizeof(*port));
}

UIOMMU_API int uiommu_port_create(struct uiommu_unit *unit, uiommu_rid rid,
				  struct uiommu_port **out)
{
	return uiommu_port_create_pasid(unit, rid, UIOMMU_NO_PASID, out);
}

UIOMMU_API int uiommu_port_create_pasid(struct uiommu_unit *unit, uiommu_rid rid, uint32_t pasid,
					struct uiommu_port **out)
{
	size_t bytes = unit->iotlb_entries * sizeof(struct uiommu_port_entry);
	struct uiommu_port *port;
	int ret = check_pasid(pasid, "port");

	if (ret)
		return ret;
	port = uiommu_alloc_aligned(sizeof(*port), CACHE_LINE);
	if (!port)
		goto no_memory;
	port->fast.changes = &unit->changes;
	port->fast.entries = &port->none;
	port->none = FREE_ENTRY;
	port->fast.walk = walk_otherwise;
	if (bytes) {
		port->fast.entries = uiommu_alloc_aligned(bytes, CACHE_LINE);
		if (!port->fast.entries)
			goto no_memory;
		for (uint32_t i = 0; i < unit->iotlb_entries; i++)
			port->fast.entries[i] = FREE_ENTRY;
		port->fast.mask = unit->iotlb_entries - 1;
	}
	port->unit = unit;
	set_windows(port, pasid);
	pthread_mutex_lock(&unit->lock);
	port->slot = unit_slot(unit, rid, pasid);
	if (port->slot) {
		port->slot->users++;
		port->link = &unit->ports;
		port->next = unit->ports;
		if (port->next)
			port->next->link = &port->next;
		unit->ports = port;
	}
	pthread_mutex_unlock(&unit->lock);
	if (!port->slot)
		goto no_memory;
	*out = port;
	return 0;

no_memory:
	free_port(port, bytes);
	return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "port", UIOMMU_RANGE_NONE,
			     UIOMMU_RANGE_NONE);
}

UIOMMU_API int uiommu_port_set_pasid(struct uiommu_port *port, uint32_t pasid)
{
	struct uiommu_unit *unit = port->unit;
	struct slot *old = port->slot, *slot;
	int ret = check_pasid(pasid, "port");

	if (ret || pasid == old->pasid)
		return ret;
	pthread_mutex_lock(&unit->lock);
	slot = unit_slot(unit, old->rid, pasid);
	if (slot) {
		slot->users++;
		port->slot = slot;
		set_windows(port, pasid);
		port->fast.checked = 0;
		/* Which entries are plain was said with other windows in mind. */
		if (unit->window_count)
			port->domain_uid = 0;
	}
	pthread_mutex_unlock(&unit->lock);
	if (!slot)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "port", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	slot_put(unit, old);
	return 0;
}

UIOMMU_API void uiommu_port_destroy(struct uiommu_port *port)
{
	struct uiommu_unit *unit;

	if (!port)
		return;
	unit = port->unit;
	pthread_mutex_lock(&unit->lock);
	*port->link = port->next;
	if (port->next)
		port->next->link = port->link;
	port_counters_add(port, &unit->retired);
	pthread_mutex_unlock(&unit->lock);
	slot_put(unit, port->slot);
	free_port(port, unit->iotlb_entries * sizeof(struct uiommu_port_entry));
}

UIOMMU_API void uiommu_port_set_master(struct uiommu_port *port, bool enabled)
{
	atomic_store_explicit(&port->master, enabled, memory_order_relaxed);
	if (enabled)
		return;
	page_requests_cancel_port(port);
	pthread_mutex_lock(&port->unit->lock);
	unit_wait(port->unit, port->slot, NULL);
	pthread_mutex_unlock(&port->unit->lock);
}

void port_counters_add(struct uiommu_port *port, struct uiommu_unit_stats *sum)
{
	struct port_counters *c = &port->counters;
	uint64_t misses = __atomic_load_n(&port->fast.misses, __ATOMIC_RELAXED);

	sum->reads += counter_get(&c->reads);
	sum->writes += counter_get(&c->writes);
	sum->bytes_read += counter_get(&c->bytes_read);
	sum->bytes_written += counter_get(&c->bytes_written);
	sum->doorbells += counter_get(&c->doorbells);
	sum->iotlb_hits += __atomic_load_n(&port->fast.hits, __ATOMIC_RELAXED);
	sum->iotlb_misses += misses;
	sum->walks += counter_get(&c->walks) + misses;
	sum->entries_flushed += counter_get(&c->entries_flushed);
	sum->faults += counter_get(&c->faults);
}

UIOMMU_API void uiommu_port_stats(struct uiommu_port *port, struct uiommu_unit_stats *stats)
{
	*stats = (struct uiommu_unit_stats){0};
	port_counters_add(port, stats);
}

UIOMMU_API void uiommu_port_last_fault(struct uiommu_port *port, struct uiommu_fault *out)
{
	*out = port->last_fault;
}
