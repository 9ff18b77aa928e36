/* SPDX-License-Identifier: MIT */
/*
 * The objects of this folder as they see each other. Public functions are in <uiommu/space.h>.
 *
 * Locks, in this order: unit->attach_lock, ioas->lock, unit->lock, the list of page requests.
 * Nothing is called back under the last two.
 * Ports take none: see port.c for how unmap and detach wait for them.
 */
#ifndef SPACE_SPACE_H
#define SPACE_SPACE_H

#include <pthread.h>
#include <stdatomic.h>

#include <uiommu/space.h>

#include "table/guest.h"
#include "util/imap.h"

/* ---- address space ---- */

struct reservation {
	struct uiommu_range range;
	enum uiommu_resv_type type;
	const void *owner;
	bool mapped; /* a direct region that is identity mapped for its owner */
	char name[UIOMMU_OWNER_MAX];
};

/* An area's info is its permissions and, from its unmapping to the flush, that it is leaving and
 * which batch takes it away. A silent one only keeps IOVAs from being used: nobody is told of it.
 */
#define AREA_PROT	 UINT64_C(7)
#define AREA_LEAVING	 UINT64_C(8)
#define AREA_SILENT	 UINT64_C(16)
#define AREA_BATCH_SHIFT 5

struct placed;

/* Ranges that somebody else chooses places in (places.c): the system places nothing there, and
 * nothing may be reserved there. They neither overlap each other nor what is reserved. */
struct claim {
	struct claim *next;
	struct uiommu_range *ranges; /* ascending, not adjacent */
	size_t count;
	uint64_t granule; /* the IOAS' alignment is promised to be no more */
	char name[UIOMMU_OWNER_MAX];
};

struct uiommu_ioas {
	pthread_mutex_t lock; /* guards all below, and the tables of the domains */
	struct imap areas;    /* value: address, tag: the caller's, info: AREA_… */
	uint64_t epoch;	      /* counts the flushes of all domains */

	struct reservation *reserved; /* sorted by first address; may overlap */
	size_t reserved_count, reserved_room;
	struct uiommu_range *blocked; /* the same merged: disjoint, not adjacent, ascending */
	size_t blocked_count;	      /* room is reserved_room */
	struct uiommu_range clear;    /* where nothing is blocked, as seen last; may be NONE */

	struct uiommu_range *allowed; /* sorted, disjoint */
	size_t allowed_count;
	struct claim *claims;

	struct uiommu_domain *domains;
	uint64_t alignment, page_sizes, max_addr;
	uint64_t least;	    /* the alignment is this at least; 0: not asked for */
	uint64_t page_size; /* the alignment is promised to be this at least, and enough; 0: no
			       promise. Constant. */
	struct uiommu_ioas_stats stats;

	struct placed *placed; /* ascending by IOVA; placed.c */
	struct uiommu_doorbell_place place;
	bool mmio; /* there was an area with UIOMMU_MMIO */
};

/* As the public calls, with ioas->lock held. */
int ioas_reserve(struct uiommu_ioas *ioas, struct uiommu_range range, enum uiommu_resv_type type,
		 const void *owner, const char *name);
void ioas_unreserve(struct uiommu_ioas *ioas, const void *owner);

/* Make sure that so many more reservations need no memory. */
int ioas_reserve_room(struct uiommu_ioas *ioas, size_t more);
/* Unmap what lies in the range, at once and with the lock held; as uiommu_ioas_unmap(). */
int ioas_unmap(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t *unmapped,
	       uiommu_area_fn each, void *ctx);

/* Reserve a device's region, and identity map it if it is a direct one. Takes ioas->lock; what a
 * failure leaves behind goes with uiommu_ioas_unreserve(). */
int ioas_reserve_region(struct uiommu_ioas *ioas, const struct uiommu_resv_region *region,
			const void *owner, const char *name);

/* ---- what the system has placed: placed.c. ioas->lock held in all ---- */

/* Enter what the system has placed in this space into a new domain's table. */
int placed_fill(struct uiommu_domain *domain);
/* Reservations have gone: so do unused doorbells that stood in them. */
void placed_sweep(struct uiommu_ioas *ioas);
/* Does a doorbell in the range have users? *used: its place. */
bool placed_in_use(const struct uiommu_ioas *ioas, struct uiommu_range range,
		   struct uiommu_range *used);
/* Can doorbells be placed so? */
int placed_check(const struct uiommu_doorbell_place *place);
/* Identity map a direct region for one more device, and for one less. */
int placed_direct(struct uiommu_ioas *ioas, const struct uiommu_resv_region *region,
		  const char *name);
void placed_direct_drop(struct uiommu_ioas *ioas, struct uiommu_range range);
void placed_destroy(struct uiommu_ioas *ioas);

void area_of(const struct imap_entry *entry, struct uiommu_area *area);

/* What can be said of a mapping before looking at what else is mapped. ioas->lock held, as for all
 * here. */
int ioas_check_map(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t addr, int prot);

/* Does the range hit a reserved one? Then it is refused with error in its owner's words. */
int ioas_look_blocked(struct uiommu_ioas *ioas, int error, struct uiommu_range range);
static inline int ioas_check_blocked(struct uiommu_ioas *ioas, int error, struct uiommu_range range)
{
	return range_contains(ioas->clear, range) ? 0 : ioas_look_blocked(ioas, error, range);
}

/* Count a call that mapped, the largest of whose areas has so many bytes. */
void ioas_count_map(struct uiommu_ioas *ioas, uint64_t largest, int prot);

/* Nothing is placed below: IOVA 0 is never handed out. */
#define PLACE_FLOOR UINT64_C(4096)

/* The lowest place for memory at addr: place.c. *range is valid on success only. */
int ioas_place(struct uiommu_ioas *ioas, const struct uiommu_place *place, uint64_t addr, int prot,
	       struct uiommu_range *range);

/* The allowed parts of a range that are not reserved, as ioas_place() looks at them, ascending: how
 * many there are; at most @room are written. Claims are not taken into account. */
size_t ioas_windows(const struct uiommu_ioas *ioas, struct uiommu_range within,
		    struct uiommu_range *list, size_t room);

/* The lowest claimed range that overlaps r, and whose it is; NULL: none. ioas->lock held. */
const struct claim *claims_hit(const struct uiommu_ioas *ioas, struct uiommu_range r,
			       const struct uiommu_range **claimed);
/* May pages be so large? -EADDRINUSE, in the name of whom it was promised otherwise. */
int claims_check_page(const struct uiommu_ioas *ioas, uint64_t page);

/* Refuse a range for the area that is in its way: -EEXIST, or -EBUSY if the area is leaving. */
int ioas_refuse_area(struct uiommu_range range, const struct imap_entry *area);

/* Replace what @owner reserved by a list of ranges, or change nothing: errors as of
 * uiommu_ioas_reserve(). ioas->lock held. */
int ioas_reserve_list(struct uiommu_ioas *ioas, const struct uiommu_range *ranges, size_t count,
		      enum uiommu_resv_type type, const void *owner, const char *name);

/* A format's refusal in words. */
int ioas_refuse_format(int error, const struct table_why *why, struct uiommu_range range);

/* What each domain's format has to say. ioas->lock held. */
static inline int ioas_check_domains(struct uiommu_ioas *ioas, struct uiommu_range range,
				     uint64_t addr, int prot);

/* May the system enter this, in a place that is reserved, into the domain? Refused in the name of
 * what is placed: -EINVAL: not of whole pages, or outside of what the domain translates;
 * -EOVERFLOW: the address does not fit into an entry; what the format says. ioas->lock held. */
int domain_check_placed(const struct uiommu_domain *domain, struct uiommu_range range,
			uint64_t addr, int prot, const char *name);

/* Recompute what the domains of an IOAS have in common: its limits. ioas->lock held. */
void ioas_common_limits(struct uiommu_ioas *ioas);

/* ---- domain ---- */

/* The invalidations that ports have yet to see: a ring that is never waited for. */
#define INVAL_RING 64

struct inval_slot {
	_Atomic uint64_t first, last;
};

struct uiommu_domain {
	struct uiommu_domain *next; /* in ioas->domains; ioas->lock */
	struct uiommu_ioas *ioas;
	struct uiommu_unit *unit;
	struct table table;    /* written under ioas->lock, walked without */
	struct gather pending; /* taken away, but not flushed yet; ioas->lock */
	uint64_t uid;	       /* never used twice, so that ports can tell domains apart */
	/* Nested: the parent, known by its uid alone so that it may go first, and the highest
	 * address that means something. Else 0 and UINT64_MAX. */
	uint64_t parent_uid, parent_last;
	/* A guest's tables instead of its own: guest_table.c. */
	struct guest_table *guest;
	uint64_t leaf_sizes; /* of the table, with large pages; constant but for a reshape */
	unsigned attached;   /* requester IDs; unit->lock */
	bool disabled;	     /* unit->lock */
	/* Who answers page requests; unit->paging.lock. */
	uiommu_page_fn page_handler;
	void *page_ctx;
	_Atomic bool paged;    /* there is one */
	_Atomic bool tracking; /* dirty pages; written under ioas->lock. Only if table.dirty */
	char name[UIOMMU_OWNER_MAX];

	_Atomic uint64_t inval_claim; /* sequence numbers that may be in the making */
	_Atomic uint64_t inval_head;  /* and those that are complete */
	struct inval_slot inval[INVAL_RING];
};

static inline int ioas_check_domains(struct uiommu_ioas *ioas, struct uiommu_range range,
				     uint64_t addr, int prot)
{
	for (struct uiommu_domain *d = ioas->domains; d; d = d->next) {
		struct table_why why;
		int ret = table_check(&d->table, range, addr, prot, &why);

		if (ret)
			return ioas_refuse_format(ret, &why, range);
	}
	return 0;
}

/* Make every translation that is pending forgotten, wait for the ports, let go of the tables.
 * ioas->lock held. Cannot fail. */
void domain_flush(struct uiommu_domain *domain);

/* The same for all domains of an IOAS. */
static inline void ioas_flush(struct uiommu_ioas *ioas)
{
	for (struct uiommu_domain *d = ioas->domains; d; d = d->next)
		domain_flush(d);
	ioas->epoch++;
}

/* ---- page requests: page_request.c ---- */

struct slot;
struct page_wait;

/* The ports that wait for a page. */
struct page_requests {
	pthread_mutex_t lock; /* a leaf */
	pthread_cond_t changed;
	struct page_wait *first;
	uint64_t last_cookie;
};

void page_requests_init(struct page_requests *list);
void page_requests_destroy(struct page_requests *list);

/* Will an access that was stopped for this reason by the domain (one that answers for the port)
 * wait rather than fault? For those who would report the fault at once. */
bool page_request_due(struct uiommu_port *port, struct uiommu_domain *domain,
		      enum uiommu_fault_reason reason);
/* Ask for a page, and wait. True: try again; false: the access faults. Outside of sections, with no
 * lock of this folder held. */
bool port_page_request(struct uiommu_port *port, uint64_t iova, int access,
		       enum uiommu_fault_reason reason);
/* End the waits of a slot (NULL: any) for a domain (NULL: any), which nobody enters any more, and
 * wait for the calls of its handler that are under way. Without unit->lock. */
void page_requests_cancel(struct uiommu_unit *unit, const struct slot *slot,
			  const struct uiommu_domain *domain);
/* End those of a port. Waits for nobody. */
void page_requests_cancel_port(struct uiommu_port *port);

/* ---- unit ---- */

/* One requester ID attached to one domain; the owner of the device's reserved regions. */
struct attachment {
	struct uiommu_domain *domain;
	/* While it is made: the next of those that come together, and the slot, held. */
	struct attachment *next;
	struct slot *slot;
};

/* A translation in front of attachments. Constant. */
struct uiommu_stage1 {
	struct uiommu_unit *unit;
	struct uiommu_domain *domain; /* NULL: a wall */
	const struct slot *governor;  /* NULL: none */
	void (*fault)(void *ctx, const struct uiommu_fault *fault);
	void *fault_ctx;
	size_t pass_count;
	struct uiommu_range pass[]; /* where doorbells behind it are reached */
};

/* What is known of one requester ID, for its requests without a PASID or for those with one.
 * Without, it is made once and kept for the unit's life; with one it goes with its last port,
 * attachment and stage 1 (slot_put()). */
struct slot {
	/* What ports go through: the attachment's domain, or NULL while that is disabled or the
	 * requester is cut off. Written under unit->lock, but for a port's change to NULL. */
	_Atomic(struct uiommu_domain *) domain;
	_Atomic bool cut;
	_Atomic(struct uiommu_stage1 *) stage1; /* written under unit->lock */
	struct attachment *attachment;		/* unit->lock */
	unsigned users;				/* unit->lock; ports, and calls under way */
	uint32_t pasid;				/* UIOMMU_NO_PASID: without */
	uiommu_rid rid;
};

struct uiommu_unit {
	/* How often something was taken away from a port: mostly read, by each access of each port,
	 * so it has a cache line of its own. Never 0. */
	_Alignas(64) uint64_t changes;
	_Alignas(64) pthread_mutex_t attach_lock; /* one attach or detach at a time */
	pthread_mutex_t lock;		  /* slots, ports, domains' attached, retired, shared */
	struct slot **buses[256];	  /* [bus][device and function]: without a PASID */
	struct imap pasids;		  /* with one: value: the slot; by slot_key() */
	struct uiommu_port *ports;	  /* linked */
	struct uiommu_unit_stats retired; /* of destroyed ports, and the unit's own flushes */
	uint64_t next_uid;
	struct table_shared shared; /* by the domains' tables */
	struct uiommu_stage1 *wall; /* constant */
	struct page_requests paging;

	/* Constant from creation on. */
	struct uiommu_memory memory;
	uint32_t iotlb_entries; /* 0: off */
	bool fence;		/* ports use full fences */
	struct uiommu_doorbell_window *windows;
	size_t window_count;
	void (*fault)(void *ctx, const struct uiommu_fault *fault);
	void *fault_ctx;
	bool cut_off;
};

/* The slot of a requester ID and PASID, or NULL; the second makes it if need be: NULL: no memory.
 * unit->lock held. */
struct slot *unit_find_slot(struct uiommu_unit *unit, uiommu_rid rid, uint32_t pasid);
struct slot *unit_slot(struct uiommu_unit *unit, uiommu_rid rid, uint32_t pasid);
/* One user less; who takes an attachment or a stage 1 away is one meanwhile. unit->lock not held.
 */
void slot_put(struct uiommu_unit *unit, struct slot *slot);
/* A PASID is at most UIOMMU_PASID_MAX: 0, or -EINVAL. */
int check_pasid(uint32_t pasid, const char *name);

/* Something was taken away: have ports look at what has changed, and wait until none of the slot's
 * (NULL: of the domain's) is inside an access section that it entered before this call. Where there
 * is no such port, the count stays: others hold nothing of it, and look when they come to be one. A
 * slot's ports are also those whose stage 1 it governs, a domain's also those that have it as
 * stage 1. unit->lock held. */
void unit_wait(struct uiommu_unit *unit, const struct slot *slot,
	       const struct uiommu_domain *domain);

/* ---- guests' tables: guest_table.c ---- */

/* Translate by a guest's tables, which lie in what the second domain translates. *stopped: as for
 * stage1_walk(). Inside a section. */
enum uiommu_fault_reason guest_domain_walk(const struct uiommu_domain *domain,
					   struct uiommu_domain *second, uint64_t iova, int access,
					   struct table_leaf *leaf, bool *stopped);
void guest_domain_destroy(struct uiommu_domain *domain);

/* ---- dirty pages: dirty.c ---- */

/* Take the leaf for a port of a domain that is tracked: one that is to be written to is marked, one
 * that isn't is not writable yet. Inside a section. */
enum uiommu_fault_reason domain_walk_tracked(struct uiommu_domain *domain, uint64_t iova,
					     int access, struct table_leaf *leaf);

/* The leaf that translates iova for an access of this kind; whether it permits that is for the
 * caller to see. Inside a section. */
static inline enum uiommu_fault_reason domain_walk(struct uiommu_domain *domain, uint64_t iova,
						   int access, struct table_leaf *leaf)
{
	if (!table_walk(&domain->table, iova, leaf))
		return UIOMMU_FAULT_NOT_PRESENT;
	if (atomic_load_explicit(&domain->tracking, memory_order_relaxed))
		return domain_walk_tracked(domain, iova, access, leaf);
	return UIOMMU_FAULT_NONE;
}

/* ---- stage 1: stage1.c ---- */

/* Does it stand in front of an attachment to this domain? Inside a section. */
bool stage1_holds(const struct uiommu_stage1 *stage1, const struct uiommu_domain *domain);

/* Does it let a doorbell pass that stands there in the space behind it? */
bool stage1_passes(const struct uiommu_stage1 *stage1, uint64_t iova);

/* Through a stage 1 domain, and if that allows the access through the one behind it: a leaf of the
 * first, cut to what one leaf of the second translates, with the permissions of both. *stopped: it
 * was the first that did. Inside a section. */
enum uiommu_fault_reason stage1_walk(struct uiommu_domain *first, struct uiommu_domain *second,
				     uint64_t iova, int access, struct table_leaf *leaf,
				     bool *stopped);

/* Around fork(): nobody else is inside an operation on the unit when the process is copied. */
void unit_fork_prepare(struct uiommu_unit *unit);
void unit_fork_parent(struct uiommu_unit *unit);
void unit_fork_child(struct uiommu_unit *unit);

/* ---- port ---- */

/* Written by one thread, read by any. */
typedef _Atomic uint64_t counter;

static inline void counter_add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline uint64_t counter_get(counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

struct port_counters {
	counter reads, writes, bytes_read, bytes_written, doorbells, entries_flushed, faults;
	counter walks; /* beside those that IOTLB misses make */
};

struct uiommu_port {
	/* What inline functions see; written by the port's thread. Of the section, see port.c. */
	struct uiommu_port_fast fast;

	/* The port's thread only. */
	/* As of fast.checked: what the requester ID is attached to, and what stands in front. */
	struct uiommu_domain *domain;
	struct uiommu_stage1 *stage1;
	/* What the IOTLB holds translations of: the attachment's domain and the stage 1's; 0: none.
	 */
	uint64_t domain_uid, stage1_uid;
	uint64_t inval_seen, stage1_inval_seen;
	struct uiommu_port_entry none; /* the one entry, never used, of an IOTLB that is off */
	struct port_counters counters;

	struct slot *slot; /* written by the port's thread under unit->lock, outside of sections */
	struct uiommu_unit *unit;
	size_t window_count; /* of the unit's that it meets: none with a PASID; likewise */
	_Atomic bool master;
	_Atomic bool paging;   /* accesses may wait for a page; written under unit->paging.lock */
	_Atomic unsigned held; /* how often that is suspended; likewise */

	/* Around waits; set before the port is used. */
	void (*before_wait)(void *ctx), (*after_wait)(void *ctx);
	void *wait_ctx;

	/* The port's thread only. */
	struct uiommu_fault last_fault;
	bool interrupt; /* an MSI is being written, with this data */
	uint32_t interrupt_data;
	bool stopped_by_stage1; /* what the last translation faulted at */
	bool can_wait; /* the access at hand is one that can, once it has left its section */

	struct uiommu_port *next, **link; /* unit->lock */
};

/* Two ports, used by two threads, share no cache line. */
#define CACHE_LINE 64

/* Learn whether membarrier(2) is there; ports without it use full fences. */
bool port_barrier_init(void);

/* The writer's half of the barrier pairing with uiommu_port_enter(). */
void port_barrier(const struct uiommu_unit *unit);

/* Make sure that ports look at what has changed before they translate again. */
static inline uint64_t unit_changed(struct uiommu_unit *unit)
{
	return __atomic_add_fetch(&unit->changes, 1, __ATOMIC_ACQ_REL);
}

/* The unit's count of changes, as seen from inside of the section. */
static inline uint64_t port_changes(const struct uiommu_port *port)
{
	if (port->unit->fence)
		__sync_synchronize();
	return __atomic_load_n(port->fast.changes, __ATOMIC_ACQUIRE);
}

/* Look at what has changed for the port, as of the unit's count. Inside a section. NONE: fast,
 * domain and stage1 are valid until the count changes. */
enum uiommu_fault_reason port_look(struct uiommu_port *port, uint64_t changes);

/* Longest access within one section: unmap may have to wait for it. */
#define SECTION_BYTES 65536

/* What stands at iova for an access that wants memory: a doorbell is none, whatever is mapped
 * there, and past the end of the space is nothing. Inside a section; *piece is how much follows. */
enum uiommu_fault_reason port_translate_piece(struct uiommu_port *port, uint64_t iova, int access,
					      uint64_t *addr, uint64_t *piece);
/* Record a fault: -EFAULT. */
int port_fault(struct uiommu_port *port, uint64_t iova, int access, enum uiommu_fault_reason reason,
	       uint64_t data);
/* Copy between IOVAs and a buffer: 0, or -EFAULT with a fault recorded. Outside of sections. */
int port_access(struct uiommu_port *port, uint64_t iova, char *buf, size_t len, int access);

/* Add a port's counters to *sum. */
void port_counters_add(struct uiommu_port *port, struct uiommu_unit_stats *sum);

#endif
