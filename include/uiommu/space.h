/* SPDX-License-Identifier: MIT */
/**
 * uiommu/space.h - address spaces, domains, the IOMMU unit; with uiommu/port.h DMA ports, with
 * uiommu/stage1.h what stands in front of them.
 *
 * An IOAS says which IOVAs are reserved, allowed and mapped. A domain is one I/O page table that an
 * IOAS keeps filled. A unit is one IOMMU: it knows which domain each requester ID is attached to. A
 * port is how a device's DMA enters the unit.
 *
 * Threads: every function may be called from any thread, except that one port belongs to one thread
 * at a time. Ports never take a lock. Unmap and detach return only when no port can still reach
 * what was taken away; so a thread inside an access section must not call either, nor
 * uiommu_unit_stats(), which waits for those that do.
 */
#ifndef UIOMMU_SPACE_H
#define UIOMMU_SPACE_H

#include <uiommu/memory.h>
#include <uiommu/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uiommu_unit;
struct uiommu_ioas;
struct uiommu_domain;
struct uiommu_port;
struct uiommu_stage1;

/* ---- unit ---------------------------------------------------------------------------------- */

/** Why a DMA was aborted. */
enum uiommu_fault_reason {
	UIOMMU_FAULT_NONE,
	UIOMMU_FAULT_BUS_MASTER,   /**< the function's bus-master enable is clear */
	UIOMMU_FAULT_NO_DOMAIN,	   /**< the requester ID is attached to nothing, or to a disabled
				      domain */
	UIOMMU_FAULT_BEYOND,	   /**< the IOVA is wider than the domain translates, or wraps */
	UIOMMU_FAULT_NOT_PRESENT,  /**< nothing is mapped there */
	UIOMMU_FAULT_READ_DENIED,  /**< mapped without read permission */
	UIOMMU_FAULT_WRITE_DENIED, /**< mapped without write permission */
	UIOMMU_FAULT_MEMORY_GONE,  /**< translated, but the memory behind it is not there (any more)
				    */
	UIOMMU_FAULT_INTERRUPT,	   /**< a doorbell write that the platform did not accept */
	UIOMMU_FAULT_DOORBELL_READ, /**< a read from a doorbell window */
	UIOMMU_FAULT_CUT_OFF,	    /**< an earlier violation has cut the requester off */
	/* Of a guest's own tables (uiommu_domain_create_guest()). */
	UIOMMU_FAULT_TABLE_FETCH,  /**< a table, or what leads to it, is nowhere in memory (with
				      stage1), or the domain behind doesn't permit it (without) */
	UIOMMU_FAULT_TABLE_ENTRY,  /**< reserved bits are set in an entry */
	UIOMMU_FAULT_CONTEXT,	   /**< the context descriptor is not valid, or there is none */
	UIOMMU_FAULT_ACCESS_FLAG,  /**< the access flag is clear, and nobody sets it */
	UIOMMU_FAULT_ADDRESS_SIZE, /**< an entry holds a larger address than there can be */
	UIOMMU_FAULT_ABORTED,	   /**< aborted as the guest asks, who wants no record of it */
};

/** Words for a reason. Never NULL. */
UIOMMU_API const char *uiommu_fault_reason_name(enum uiommu_fault_reason reason);

/** One aborted transaction. */
struct uiommu_fault {
	uiommu_rid rid;
	uint32_t pasid; /**< UIOMMU_NO_PASID: it had none */
	int access;	/**< UIOMMU_READ, UIOMMU_WRITE or both */
	enum uiommu_fault_reason reason;
	uint64_t iova;	/**< the first byte that could not be reached */
	uint64_t data;	/**< for interrupts: the data */
	bool interrupt; /**< it was the write of an MSI (uiommu_port_interrupt()) */
	bool cut_off;	/**< it has cut the requester off (struct uiommu_unit_options) */
	bool stage1;	/**< a stage 1 stopped it (uiommu_unit_set_stage1()) */
};

/**
 * Where writes are handed over as interrupts. Not @translated: a window of IOVAs that no table
 * translates (on x86, 0xfee00000 to 0xfeefffff; Intel VT-d specification, "Handling Requests to
 * Interrupt Address Range"). @translated: addresses behind the translation, reached through a
 * mapping with UIOMMU_MMIO only (on Arm and PAMU, a page of the interrupt controller).
 * @write returns 0 if the interrupt was accepted, else the write becomes UIOMMU_FAULT_INTERRUPT;
 * @address is the one in @range. Called from the port's thread, outside of any access section, with
 * no lock held.
 */
struct uiommu_doorbell_window {
	struct uiommu_range range;
	int (*write)(void *ctx, uiommu_rid rid, uint64_t address, uint32_t data);
	void *ctx;
	bool translated;
};

/** IOTLB size that switches the IOTLB off. */
#define UIOMMU_IOTLB_OFF UINT32_MAX

struct uiommu_unit_options {
	size_t size;			    /**< sizeof(struct uiommu_unit_options) */
	const struct uiommu_memory *memory; /**< copied; NULL: uiommu_memory_self */
	/** Entries of each port's IOTLB, rounded up to a power of two, at most 65536;
	 *  0: 1024; UIOMMU_IOTLB_OFF: none. */
	uint32_t iotlb_entries;
	const struct uiommu_doorbell_window *windows; /**< copied */
	size_t window_count;
	/** Called for every fault, from the port's thread, with no lock held; for those of
	 *  uiommu_port_translate() inside its caller's access section. May be NULL. */
	void (*fault)(void *ctx, const struct uiommu_fault *fault);
	void *fault_ctx;
	/** A translation fault cuts the requester off until it is attached anew or
	 *  uiommu_domain_enable() is called, as Freescale's PAMU driver does on a violation. What
	 *  a stage 1 stops is none. */
	bool cut_off;
};

/** Make an IOMMU. -ENOMEM, -EINVAL (bad options), -E2BIG (options from a newer header). */
UIOMMU_API int uiommu_unit_create(const struct uiommu_unit_options *options,
				  struct uiommu_unit **out);

/** Destroy it. Its domains and ports must be gone. NULL is fine. */
UIOMMU_API void uiommu_unit_destroy(struct uiommu_unit *unit);

/** The memory behind its translations. Lives as long as the unit. */
UIOMMU_API const struct uiommu_memory *uiommu_unit_memory(struct uiommu_unit *unit);

/** Counters of a unit: sums over its ports, those already destroyed included. */
struct uiommu_unit_stats {
	uint64_t reads, writes;		    /**< accesses by devices */
	uint64_t bytes_read, bytes_written; /**< bytes that reached, or came from, memory */
	uint64_t doorbells;		    /**< interrupt writes accepted */
	uint64_t iotlb_hits, iotlb_misses;  /**< lookups, one per page touched */
	uint64_t walks;			    /**< page-table walks */
	uint64_t flushes; /**< IOTLB flushes: one per domain and unmap call that changed it */
	uint64_t entries_flushed; /**< IOTLB entries dropped by flushes */
	uint64_t faults;
};
UIOMMU_API void uiommu_unit_stats(struct uiommu_unit *unit, struct uiommu_unit_stats *stats);

/* ---- address space ----------------------------------------------------------------------------
 */

/** Make an empty IOAS: everything usable, nothing reserved, alignment 1. -ENOMEM. */
UIOMMU_API int uiommu_ioas_create(struct uiommu_ioas **out);

/** What a machine translates and reserves; a platform's is uiommu_platform_geometry(). */
struct uiommu_geometry {
	size_t size;	    /**< sizeof(struct uiommu_geometry) */
	const char *name;   /**< whose it is in refusals; NULL: the format's */
	const char *format; /**< as in struct uiommu_domain_options; NULL: nothing is translated */
	unsigned width;
	struct uiommu_range aperture; /**< {0, 0}: all that @width allows */
	uint64_t page_sizes;	      /**< 0: all of the format's */
	const struct uiommu_resv_region *regions;
	size_t region_count;
};

/**
 * What can be used there, ascending; *@count as in uiommu_ioas_ranges(). It is what an IOAS with a
 * domain of this kind and a device with these regions has from its start (relaxable regions are
 * left out). Of a format whose windows come and go, as POWER's, that is nothing: *@count is 0.
 * -EINVAL: @geometry, or a format, width, aperture or page sizes that no domain can have;
 * -EMSGSIZE; -ENOMEM. Thread safe.
 */
UIOMMU_API int uiommu_geometry_ranges(const struct uiommu_geometry *geometry,
				      struct uiommu_range *ranges, size_t *count);

/** What an IOAS must hold to. What is asked for is a constraint, not a hint. */
struct uiommu_ioas_options {
	size_t size; /**< sizeof(struct uiommu_ioas_options) */
	/** All of it must be usable. It becomes the list of allowed ranges: no domain or device
	 * that would break it can come later, until uiommu_ioas_allow() replaces it. {0, 0}: none.
	 */
	struct uiommu_range range;
	/** A page of this size must be translatable; it becomes the least alignment, and no domain
	 *  that wants a coarser one can come later. A power of two; 0: any. */
	uint64_t page_size;
	/** What it is to hold on. Its holes are reserved for the life of the IOAS (but not those of
	 *  windows that come and go). NULL: nothing is known yet. */
	const struct uiommu_geometry *geometry;
};

/**
 * Make an IOAS under constraints, or nothing. -EINVAL, -E2BIG RULE_ARGUMENT: bad options, or a
 * geometry that no domain can have; -EINVAL RULE_EMPTY (first > last); -EINVAL RULE_ALIGNMENT: the
 * tables have no pages of @page_size, or @range is not made of whole pages; -EADDRINUSE
 * RULE_RESERVED or RULE_APERTURE: @range crosses a hole, the refusal says which and whose; -ENOMEM.
 */
UIOMMU_API int uiommu_ioas_create_constrained(const struct uiommu_ioas_options *options,
					      struct uiommu_ioas **out);

/** Destroy it and forget its areas. Its domains must be gone. NULL is fine. */
UIOMMU_API void uiommu_ioas_destroy(struct uiommu_ioas *ioas);

/**
 * Reserve a range for @owner, which is @name to people. Ranges of several owners may overlap.
 * -EADDRINUSE: an area, an allowed range or somebody's places (uiommu/places.h) are there (refusal:
 * RULE_OVERLAP); -ENOMEM.
 */
UIOMMU_API int uiommu_ioas_reserve(struct uiommu_ioas *ioas, struct uiommu_range range,
				   enum uiommu_resv_type type, const void *owner, const char *name);

/** Take back all that @owner reserved. Never fails. */
UIOMMU_API void uiommu_ioas_unreserve(struct uiommu_ioas *ioas, const void *owner);

/**
 * As uiommu_ioas_unreserve(), unless a doorbell that was placed in one of these ranges has users:
 * then nothing is done. -EBUSY (refusal: RULE_BUSY).
 */
UIOMMU_API int uiommu_ioas_unreserve_unused(struct uiommu_ioas *ioas, const void *owner);

/**
 * Replace the list of allowed ranges, as a promise: no later reservation may hit one. An empty list
 * lifts it. -EINVAL: first > last or entries overlap; -EADDRINUSE: a reserved region is in the way;
 * the old list stays then.
 */
UIOMMU_API int uiommu_ioas_allow(struct uiommu_ioas *ioas, const struct uiommu_range *ranges,
				 size_t count);

/**
 * The usable ranges: the whole space less what is reserved, ascending. Writes at most *@count and
 * sets *@count to how many there are. -EMSGSIZE if that is more than fitted (those that fit are
 * written); @ranges may be NULL if *@count is 0.
 */
UIOMMU_API int uiommu_ioas_ranges(struct uiommu_ioas *ioas, struct uiommu_range *ranges,
				  size_t *count);

/** May the range be mapped, as far as reservations go? 0, or -EINVAL with the refusal of the region
 *  in the way; RULE_EMPTY: first > last. Thread safe. */
UIOMMU_API int uiommu_ioas_check(struct uiommu_ioas *ioas, struct uiommu_range range);

/** A reserved range with its owner. */
struct uiommu_reserved {
	struct uiommu_range range;
	enum uiommu_resv_type type;
	char owner[UIOMMU_OWNER_MAX];
};

/** The reserved ranges, sorted by their first address; *@count as in uiommu_ioas_ranges(). */
UIOMMU_API int uiommu_ioas_reserved(struct uiommu_ioas *ioas, struct uiommu_reserved *list,
				    size_t *count);

/** The alignment that IOVAs, addresses and sizes must have: the largest of the smallest I/O pages
 *  of the domains, of the page size it was made with, and of what uiommu_ioas_align() asked for; 1
 * if there is none. */
UIOMMU_API uint64_t uiommu_ioas_alignment(struct uiommu_ioas *ioas);

/**
 * Ask for an alignment of at least @least, a power of two, whatever the domains want, or (1) for no
 * more than they do. -EINVAL RULE_ARGUMENT; -EADDRINUSE RULE_ALIGNMENT: an area's IOVA, address or
 * length is not so aligned, or places have a finer granule: then nothing changes. Thread safe.
 */
UIOMMU_API int uiommu_ioas_align(struct uiommu_ioas *ioas, uint64_t least);

/** The intersection of the domains' page sizes, as a bitmap; all ones if there is no domain. */
UIOMMU_API uint64_t uiommu_ioas_page_sizes(struct uiommu_ioas *ioas);

/** One mapping. */
struct uiommu_area {
	struct uiommu_range range;
	uint64_t addr; /**< what range.first translates to */
	int prot;
	void *tag; /**< the caller's */
};

/**
 * Map the closed range to memory at @addr onwards. All or nothing. In the order of the checks:
 * -EINVAL RULE_PERMISSION (@prot is not READ, WRITE or both, with or without MMIO), RULE_EMPTY
 * (first > last); -EINVAL RULE_ALIGNMENT; -EOVERFLOW RULE_WRAP (@addr + length wraps or needs more
 * bits than a domain's format has for it); -EEXIST RULE_OVERLAP, or -EBUSY RULE_BUSY
 * if what is in the way is being taken away by an open batch; -EINVAL RULE_RESERVED or
 * RULE_APERTURE; then, by each domain's format: -EOPNOTSUPP RULE_UNSUPPORTED (MMIO), -EINVAL
 * RULE_ALIGNMENT (a coarser rule: pamu's and TCE's windows), -ENOMEM. A format may grant reading
 * where only writing was asked for, if its entries can't say otherwise.
 */
UIOMMU_API int uiommu_ioas_map(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t addr,
			       int prot, void *tag);

/** Called for each area that an unmap removed, after the flush; for those of one call or operation
 * in ascending order. The IOAS is locked meanwhile: it and its domains must not be called. */
typedef void (*uiommu_area_fn)(void *ctx, const struct uiommu_area *area);

/**
 * Remove every area inside the closed range, with one flush for the call. Returns when no device
 * can reach any of it. *@unmapped: bytes removed (0 if nothing was there, which is no error;
 * saturates at UINT64_MAX). @each may be NULL. -EINVAL RULE_EMPTY; -EINVAL RULE_SPLIT: the range
 * cuts a mapping in two; -EBUSY RULE_BUSY: an open batch is taking some of it away; in all these
 * cases nothing is changed. Cannot fail for want of memory.
 */
UIOMMU_API int uiommu_ioas_unmap(struct uiommu_ioas *ioas, struct uiommu_range range,
				 uint64_t *unmapped, uiommu_area_fn each, void *ctx);

/**
 * Map @range to the memory that @source (the same IOAS or another) has mapped from @iova on, in as
 * many areas as it has there. The memory is shared, not the mapping: it stays when the source is
 * unmapped. All or nothing. What map says of @range and @prot, then -EOVERFLOW RULE_WRAP: the
 * source range wraps; -ENOENT RULE_NOT_MAPPED: not all of it is mapped; -EBUSY RULE_BUSY: an open
 * batch is taking some of it away; -EPERM RULE_PERMISSION: write is asked for where the source has
 * none. @tag: NULL for that of each area of the source.
 */
UIOMMU_API int uiommu_ioas_copy(struct uiommu_ioas *ioas, struct uiommu_range range,
				struct uiommu_ioas *source, uint64_t iova, int prot, void *tag);

/** How to choose the IOVAs of a mapping. */
struct uiommu_place {
	size_t size;	 /**< sizeof(struct uiommu_place) */
	uint64_t length; /**< bytes, at most 2^63 - 2 */
	/** Of the IOVA, a power of two; 0: the length rounded up to one, or the lowest bit set in
	 * the memory's address (0 has none), or 2 MiB, whichever is smallest. Never less than the
	 * IOAS' own. */
	uint64_t alignment;
	struct uiommu_range within; /**< look here only; {0, 0}: everywhere */
};

/**
 * As uiommu_ioas_map(), at the lowest IOVA that will do, as Linux' iommufd chooses it: in the
 * allowed ranges (where there are none: everywhere), never in the first 4 KiB nor at the very end
 * of the 64-bit space, outside of what is reserved, somebody's places or mapped (what a batch is
 * taking away still is), aligned as @place says, with the memory's offset in its 4 KiB page or'ed
 * in. *@iova says where. Takes no longer for being full: about logarithmic in the number of areas.
 * -EINVAL RULE_ARGUMENT:
 * @place is not valid; -EINVAL RULE_PERMISSION, RULE_EMPTY, RULE_ALIGNMENT, -EOVERFLOW RULE_WRAP as
 * uiommu_ioas_map(), RULE_WRAP also for a length above 2^63 - 2; -ENOSPC RULE_NO_ROOM. Rules of a
 * format that are coarser than the IOAS' alignment (pamu's windows: give @place an alignment) are
 * applied to the place that was chosen; no other is looked for.
 */
UIOMMU_API int uiommu_ioas_map_anywhere(struct uiommu_ioas *ioas, const struct uiommu_place *place,
					uint64_t addr, int prot, void *tag, uint64_t *iova);

/** Where uiommu_ioas_map_anywhere() would put it now, or why it can't, and no more: *@range is
 *  nobody's yet. What the domains' formats say of the place is not asked. */
UIOMMU_API int uiommu_ioas_find_place(struct uiommu_ioas *ioas, const struct uiommu_place *place,
				      uint64_t addr, int prot, struct uiommu_range *range);

/** As uiommu_ioas_copy(), to the IOVA that uiommu_ioas_map_anywhere() would choose for the memory
 *  where the source begins. -ENOENT RULE_NOT_MAPPED: nothing is mapped at @from. */
UIOMMU_API int uiommu_ioas_copy_anywhere(struct uiommu_ioas *ioas, const struct uiommu_place *place,
					 struct uiommu_ioas *source, uint64_t from, int prot,
					 void *tag, uint64_t *iova);

/**
 * Point the area that is exactly @range to memory at @addr, keeping its permissions. Returns when
 * no device reaches the old memory any more; a DMA in between may fault. -ENOENT RULE_NOT_MAPPED:
 * no such area; -EBUSY RULE_BUSY: an open batch is taking it away; -EINVAL RULE_ALIGNMENT;
 * -EOVERFLOW RULE_WRAP; -ENOMEM. All of them leave it as it was.
 */
UIOMMU_API int uiommu_ioas_move(struct uiommu_ioas *ioas, struct uiommu_range range, uint64_t addr);

/**
 * As uiommu_ioas_map(), but take the place of whatever is mapped in the range, as an entry of a
 * table is overwritten: areas inside it go, those that reach beyond it are cut. One flush. @each
 * (may be NULL) is called for each area, or piece of one, that is gone, as by uiommu_ioas_unmap().
 * A DMA in between gets the old memory or the new one; but where the format's entries can't be
 * overwritten (all but the TCEs), it may fault. What uiommu_ioas_map() says, without RULE_OVERLAP;
 * -EINVAL RULE_SPLIT: a border of the range lies inside a large page of a table. All or nothing.
 */
UIOMMU_API int uiommu_ioas_replace(struct uiommu_ioas *ioas, struct uiommu_range range,
				   uint64_t addr, int prot, void *tag, uiommu_area_fn each,
				   void *ctx);

/**
 * As uiommu_ioas_unmap(), but cut areas that reach beyond the range. -EINVAL RULE_EMPTY;
 * RULE_SPLIT: a border of the range lies inside a large page of a table; -EBUSY RULE_BUSY: an open
 * batch is taking something there away; -ENOMEM. All or nothing.
 */
UIOMMU_API int uiommu_ioas_clear(struct uiommu_ioas *ioas, struct uiommu_range range,
				 uint64_t *unmapped, uiommu_area_fn each, void *ctx);

/**
 * Cut the area that reaches across the border before @iova in two, which translate as the one did.
 * -ENOENT: there is none; -EINVAL RULE_SPLIT: a large page of a table reaches across; -EBUSY
 * RULE_BUSY: an open batch is taking the area away; -ENOMEM. Thread safe.
 */
UIOMMU_API int uiommu_ioas_split(struct uiommu_ioas *ioas, uint64_t iova);

/** The first area that ends at or above @iova: 0, or -ENOENT. What an open batch is taking away
 * still counts, until its flush. */
UIOMMU_API int uiommu_ioas_find(struct uiommu_ioas *ioas, uint64_t iova, struct uiommu_area *area);

/**
 * Where doorbells are placed in this space when an interrupt needs one. A region of type
 * UIOMMU_RESV_SW_MSI that a device brings along says so by itself; this is for windows that a
 * program gives, or that lie at the end of an aperture.
 */
struct uiommu_doorbell_place {
	struct uiommu_range range; /**< where to look for a place; {1, 0}: nowhere */
	uint64_t step;		   /**< a place is a multiple of this from the range's end; a power
				      of two of at least 4096 */
	bool down;		   /**< begin at the end of the range and go down, else up */
};
/** Set it, for doorbells mapped from now on. -EINVAL: @step. Thread safe. */
UIOMMU_API int uiommu_ioas_place_doorbells(struct uiommu_ioas *ioas,
					   const struct uiommu_doorbell_place *place);

/**
 * Make the doorbell page at @addr (behind the translation) reachable and say at which IOVA. In this
 * order: where the program has mapped it (an area with UIOMMU_MMIO), where it is already, in the
 * device's sw-msi region, where uiommu_ioas_place_doorbells() says. One doorbell has one IOVA for
 * all domains of the space, and keeps it while anybody uses it. 1: it is the system's, and wants
 * one uiommu_ioas_unmap_doorbell(); 0: it is the program's mapping. Where the domains' smallest
 * page is larger than 4096 bytes, the whole page around @addr is mapped (Linux:
 * iommu_dma_get_msi_page()). -ENODEV RULE_DOORBELL: no area has it and nobody said where it may be
 * placed; -ENOSPC RULE_DOORBELL: no room there; -EOPNOTSUPP, -ENOMEM.
 */
UIOMMU_API int uiommu_ioas_map_doorbell(struct uiommu_ioas *ioas, uint64_t addr, const char *name,
					uint64_t *iova);
/** Let go of it. The last one takes away what was placed outside of reserved regions; returns when
 *  no device reaches it. Never fails. */
UIOMMU_API void uiommu_ioas_unmap_doorbell(struct uiommu_ioas *ioas, uint64_t addr);

/** A doorbell that has an IOVA of the system's. */
struct uiommu_doorbell_mapping {
	uint64_t iova, addr;
	unsigned users;
	char name[UIOMMU_OWNER_MAX];
};
/** The doorbells placed now, ascending by IOVA; *@count as in uiommu_ioas_ranges(). */
UIOMMU_API int uiommu_ioas_doorbells(struct uiommu_ioas *ioas, struct uiommu_doorbell_mapping *list,
				     size_t *count);

/** Number of areas now, bytes mapped now (saturating), most areas ever. */
struct uiommu_ioas_stats {
	uint64_t areas, bytes, most_areas;
	uint64_t maps, unmaps; /**< calls that mapped, or unmapped, something */
	uint64_t largest;      /**< bytes of the largest area ever mapped */
};
UIOMMU_API void uiommu_ioas_stats(struct uiommu_ioas *ioas, struct uiommu_ioas_stats *stats);

/* ---- batches ----------------------------------------------------------------------------------
 */

/**
 * A batch: many operations, each with its own status, and one flush for all of them. It may be cut
 * after any operation and continued later, by any thread, one at a time; nothing is flushed in
 * between.
 *
 * From an operation that takes a translation away until the batch is finished, devices may see the
 * old memory or what has been mapped in its place. So until then its owner is not told (release),
 * and its IOVAs and table pages are nobody else's: other calls get -EBUSY for them. The batch
 * itself may map them again.
 *
 * Between runs no lock is held. An IOAS must not be destroyed while a batch that used it is open.
 */
struct uiommu_batch;

enum uiommu_op_kind {
	UIOMMU_OP_MAP,	 /**< as uiommu_ioas_map() */
	UIOMMU_OP_UNMAP, /**< as uiommu_ioas_unmap() */
	UIOMMU_OP_COPY,	 /**< as uiommu_ioas_copy() */
};

struct uiommu_op {
	enum uiommu_op_kind kind;
	int prot; /**< map, copy */
	struct uiommu_ioas *ioas;
	struct uiommu_range range;  /**< out, where @place is given; {1, 0} if it can't be had */
	uint64_t addr;		    /**< map: the memory; copy: the first IOVA in @source */
	struct uiommu_ioas *source; /**< copy */
	void *tag;		    /**< map, copy: the caller's, for the area; copy: NULL for that
					 of the source's area */
	/** Out: 0, or what the function of this kind returns; an unmap may also get -ENOMEM, for a
	 *  batch has to remember what it takes away: nothing is changed then. -EINVAL
	 *  RULE_ARGUMENT: no such kind, or an IOAS is missing. What an unmap's 0 says holds once
	 *  the batch is finished. */
	int status;
	uint64_t bytes; /**< out: unmap: bytes removed; 0 is no error */
	/** Map, copy: choose @range, as uiommu_ioas_map_anywhere() and uiommu_ioas_copy_anywhere();
	 *  NULL: it is given. */
	const struct uiommu_place *place;
};

struct uiommu_batch_options {
	size_t size; /**< sizeof(struct uiommu_batch_options) */
	/** Called for each area that a map or copy is about to make, before any device can reach
	 *  it, so that its memory can be held. What isn't 0 refuses the operation with that
	 *  status. The IOASes of the operation are locked. May be NULL. */
	int (*hold)(void *ctx, const struct uiommu_op *op, const struct uiommu_area *area);
	/** Called for each area that unmaps have removed, and for each that was held and could not
	 *  be mapped after all, once no device reaches it. In no particular order: an area whose
	 *  place the batch took over comes last. An IOAS of the batch is locked, not always the
	 *  area's; none of them must be called. May be NULL. */
	uiommu_area_fn release;
	void *ctx;
};

/** When to cut. What is 0 or NULL does not cut. */
struct uiommu_budget {
	size_t ops;		 /**< so many operations */
	uint64_t nanoseconds;	 /**< so much time has passed */
	bool (*stop)(void *ctx); /**< asked before each operation but the first; true: cut */
	void *ctx;
};

/** Open a batch. @options may be NULL. -EINVAL, -E2BIG (bad options), -ENOMEM. */
UIOMMU_API int uiommu_batch_open(const struct uiommu_batch_options *options,
				 struct uiommu_batch **out);

/**
 * Do operations in their order until all are done or the @budget (NULL: none) is used up. Returns
 * how many were done, at least one if there are any; whatever their statuses are, the others are
 * done. The array need not outlive the call.
 */
UIOMMU_API size_t uiommu_batch_run(struct uiommu_batch *batch, struct uiommu_op *ops, size_t count,
				   const struct uiommu_budget *budget);

/** Until then the batch keeps memory that grows with its operations: a note of each range it took
 *  away that does not adjoin the one before, of each area whose place it took, and the table pages
 *  that each unmap emptied. Whoever runs operations for somebody else has to bound them.
 *
 *  Flush once for each domain that something was taken away from and release it; then the batch is
 *  as new. Never fails. */
UIOMMU_API void uiommu_batch_finish(struct uiommu_batch *batch);

/** Finish it and free it. NULL is fine. */
UIOMMU_API void uiommu_batch_close(struct uiommu_batch *batch);

/** Open, run, finish and close in one. 0 if every status is 0, else the first that isn't; -EINVAL,
 *  -E2BIG: bad options, and nothing was done. */
UIOMMU_API int uiommu_batch_submit(struct uiommu_op *ops, size_t count,
				   const struct uiommu_batch_options *options);

/* ---- domain -----------------------------------------------------------------------------------
 */

struct uiommu_domain_options {
	size_t size; /**< sizeof(struct uiommu_domain_options) */
	/** Name of a table format: "vtd-ss", "vtd-fs", "amd-v1", "arm-s1", "arm-s2", "riscv",
	 * "pamu", "spapr-tce" or "powernv-tce". */
	const char *format;
	/** Bits of IOVA: vtd-ss and riscv 39, 48 or 57, vtd-fs 48 or 57 (riscv and vtd-fs translate
	 * the lower half); amd-v1 32
	 * to 64; arm-s1 and arm-s2 32 to 48; pamu up to 36; TCEs up to 64. */
	unsigned width;
	const char *name; /**< its owner's name in refusals; NULL: the format's */
	/** The part of what @width allows that it translates, whole pages; {0, 0}: all of it. */
	struct uiommu_range aperture;
	/** pamu: the number of windows, a power of two from 1 to 256; 0: 256. Others: 0. */
	unsigned windows;
	/** Bitmap of page sizes: its pages are of these only; 0: of all the format has. */
	uint64_t page_sizes;
	/** The domain whose IOVAs its addresses are: it is nested, and goes in front of attachments
	 *  to the parent as a stage 1. Of the same unit and not nested itself. NULL: addresses are
	 *  the unit's memory's, or are given a meaning by uiommu_stage1_create(). */
	struct uiommu_domain *parent;
	/** Writes by devices can be tracked (uiommu_domain_dirty_track()). */
	bool dirty;
	/** Its leaves are small only (4 KiB, or what is smallest if that is larger), until
	 * uiommu_domain_large_pages(). */
	bool small_pages;
	/** Devices' accesses are made to snoop the processors' caches. VT-d's second stage has a
	 * bit in its leaves for that; other formats always do so, or have no word for it. */
	bool snoop;
};

/** A window of a domain whose table covers windows: what lies outside of all of them is reserved.
 */
struct uiommu_domain_window {
	size_t size; /**< sizeof(struct uiommu_domain_window) */
	struct uiommu_range range;
	unsigned page_shift; /**< log2 of its page size */
	unsigned levels;     /**< of its table */
};

/**
 * Make a page table, fill it with all areas of @ioas and keep it filled. What it can't translate is
 * reserved in @ioas. Options may be those of an older header (shorter), or of a newer one if what
 * is new in it is zero. -EINVAL: unknown format or width, an aperture, number of windows or page
 * sizes that the format can't have; -E2BIG: options that this library does not know of;
 * -EADDRINUSE: an area, an allowed range or somebody's places lie outside of what it translates,
 * or places have a finer granule than its pages, or an area is not
 * aligned to its pages, breaks another rule of the format, or its memory's address does not fit it
 * or, nested, is more than the parent translates; -EOPNOTSUPP RULE_UNSUPPORTED: dirty, for a
 * format without dirty bits (pamu and TCEs);
 * -ENOSPC RULE_LIMIT: the entries that the unit's domains share are used up (pamu); -ENOMEM. A
 * nested domain outlives its parent without harm: it is then in front of nothing.
 */
UIOMMU_API int uiommu_domain_create(struct uiommu_unit *unit, struct uiommu_ioas *ioas,
				    const struct uiommu_domain_options *options,
				    struct uiommu_domain **out);

/**
 * Give a domain another shape: aperture, windows, width, page sizes; the format stays. Whoever is
 * attached stays attached. It must be disabled and in no stage 1 that a requester ID has, and
 * nobody may change that meanwhile. Everything in its IOAS is unmapped, with @each called as by
 * uiommu_ioas_unmap() (may be NULL), and doorbells are placed by @place from then on (NULL: as
 * before). -EBUSY: it is enabled, the system has placed doorbells in its
 * space, or that has allowed ranges or somebody's places; -EINVAL, -E2BIG and -ENOSPC: as
 * uiommu_domain_create() says of @options; -ENOMEM. All of them leave everything as it was.
 */
UIOMMU_API int uiommu_domain_reshape(struct uiommu_domain *domain,
				     const struct uiommu_domain_options *options,
				     const struct uiommu_doorbell_place *place, uiommu_area_fn each,
				     void *ctx);

/** Destroy it; requester IDs attached to it must be detached first, and the stage 1 it is in
 *  destroyed. NULL is fine. */
UIOMMU_API void uiommu_domain_destroy(struct uiommu_domain *domain);

/**
 * Attach a requester ID, and reserve its regions in the domain's IOAS for as long (relaxable ones
 * are dropped). Attached elsewhere: it is moved, and until this returns a transaction goes through
 * one of the two. @name names the device in refusals. -EADDRINUSE: a region hits an area or an
 * allowed range, and nothing is changed; -EINVAL: both MSI types, two sw-msi regions, an empty
 * one, or @domain is nested (uiommu_unit_set_stage1() puts it in front of an attachment); -ENOMEM.
 */
UIOMMU_API int uiommu_domain_attach(struct uiommu_domain *domain, uiommu_rid rid,
				    const struct uiommu_resv_region *regions, size_t count,
				    const char *name);

/** Detach; returns when nothing by this requester ID reaches memory any more. Never fails. */
UIOMMU_API void uiommu_domain_detach(struct uiommu_domain *domain, uiommu_rid rid);

/**
 * The same for the requester ID's transactions with a PASID (PCI Express: a process address space
 * ID), 1 to UIOMMU_PASID_MAX; UIOMMU_NO_PASID: for those without, as above. Each is attached by
 * itself: nothing of one holds for another, and one that is not attached reaches nothing. No
 * doorbell is met ahead of the translation. -EINVAL RULE_ARGUMENT too: a larger PASID.
 */
UIOMMU_API int uiommu_domain_attach_pasid(struct uiommu_domain *domain, uiommu_rid rid,
					  uint32_t pasid, const struct uiommu_resv_region *regions,
					  size_t count, const char *name);
/** The same for several requester IDs at once, none of them twice: all are attached or, where this
 *  fails, nothing has changed. */
UIOMMU_API int uiommu_domain_attach_all(struct uiommu_domain *domain, const uiommu_rid *rids,
					size_t rid_count, uint32_t pasid,
					const struct uiommu_resv_region *regions, size_t count,
					const char *name);
/** Detach one. Never fails. */
UIOMMU_API void uiommu_domain_detach_pasid(struct uiommu_domain *domain, uiommu_rid rid,
					   uint32_t pasid);

/** Let the requesters attached now and later reach the domain, those too that a violation has cut
 *  off; or none of them. Returns when no DMA is under way that began before, so not from a port's
 * own thread inside an access section. A new domain is enabled. Never fails. */
UIOMMU_API void uiommu_domain_enable(struct uiommu_domain *domain, bool enabled);

/**
 * Add a window, for formats whose windows come and go (spapr-tce, powernv-tce). @window->range is
 * aligned to its page, and its length a power of two. -EINVAL RULE_ARGUMENT: page size or number of
 * levels that the format does not have; RULE_ALIGNMENT; RULE_APERTURE; -EEXIST RULE_OVERLAP:
 * another window is there; -ENOSPC RULE_LIMIT: no more windows; -EOPNOTSUPP RULE_UNSUPPORTED: not
 * with this format; -E2BIG, -ENOMEM.
 */
UIOMMU_API int uiommu_domain_window_create(struct uiommu_domain *domain,
					   const struct uiommu_domain_window *window);

/**
 * Remove the window that starts at @first. Returns when no device can be in its table any more.
 * -ENOENT RULE_NOT_MAPPED: no window starts there; -EBUSY RULE_BUSY: something is mapped in it,
 * which must be unmapped first; -EADDRINUSE: an allowed range or somebody's places lie in it;
 * -EOPNOTSUPP. Needs no memory.
 */
UIOMMU_API int uiommu_domain_window_remove(struct uiommu_domain *domain, uint64_t first);

/** The first window that ends at or above @iova, into *@window, whose size the caller sets: 0, or
 *  -ENOENT. pamu's windows are told of too. -EINVAL: bad size. */
UIOMMU_API int uiommu_domain_window_find(struct uiommu_domain *domain, uint64_t iova,
					 struct uiommu_domain_window *window);

/** Use large pages for what is mapped from now on, as a new domain does, or small ones only: then
 *  every area can be cut at every page of 4 KiB, or of the table's smallest size if that is larger.
 *  Never fails. Thread safe. */
UIOMMU_API void uiommu_domain_large_pages(struct uiommu_domain *domain, bool on);

/** The leaf sizes of this domain's table, as a bitmap. */
UIOMMU_API uint64_t uiommu_domain_page_sizes(struct uiommu_domain *domain);

/** The translation of one IOVA as the operating system's driver tells it: 0, or -ENOENT. What a
 *  device gets is the same, but for pamu: there it repeats a mapping shorter than its window
 * through the window, while a device's access behind the mapping is refused. A nested domain's is
 * an IOVA of its parent. */
UIOMMU_API int uiommu_domain_lookup(struct uiommu_domain *domain, uint64_t iova, uint64_t *addr,
				    int *prot);

/* ---- dirty pages ------------------------------------------------------------------------------
 *
 * A domain made with the option records in its table's own dirty bits which leaves devices write
 * to, as hardware does that walks it. It is one domain's record: a device that reaches the same
 * memory through another leaves no trace in it.
 */

/**
 * Begin to track the writes of devices, forgetting what was dirty before; or stop. When it returns,
 * every later write is seen. -EOPNOTSUPP RULE_UNSUPPORTED: the domain was made without. Thread
 * safe.
 */
UIOMMU_API int uiommu_domain_dirty_track(struct uiommu_domain *domain, bool enabled);

/** Called for each dirty range, ascending, those of adjoining leaves separately. The domain's IOAS
 *  is locked meanwhile: it and its domains must not be called. */
typedef void (*uiommu_dirty_fn)(void *ctx, struct uiommu_range range);

enum uiommu_dirty_flags {
	UIOMMU_DIRTY_KEEP = 1 << 0, /**< don't clear what is read */
};

/**
 * Tell what devices have written to since it was mapped, last cleared, or tracking began: by whole
 * leaves of the table, cut to the range. It is cleared, but for leaves that reach beyond the range,
 * which stay dirty. What is written before this returns is told of now or next time; so copy the
 * pages afterwards. On Arm a mapping that permits writes starts as dirty, as Linux enters it.
 * -EOPNOTSUPP RULE_UNSUPPORTED: the domain was made without; -EINVAL RULE_EMPTY; RULE_ARGUMENT:
 * unknown flags; RULE_NOT_MAPPED: not all of the range is mapped, or an open batch is taking some
 * of it away; RULE_ORDER: nothing is tracked. In all these cases nothing is cleared. Needs no
 * memory. Thread safe.
 */
UIOMMU_API int uiommu_domain_dirty_read(struct uiommu_domain *domain, struct uiommu_range range,
					int flags, uiommu_dirty_fn each, void *ctx);

#ifdef __cplusplus
}
#endif

#include <uiommu/port.h>
#include <uiommu/stage1.h>

#endif
