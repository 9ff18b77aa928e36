/* SPDX-License-Identifier: MIT */
/**
 * uiommu/stage1.h - what stands in front of attachments, and who is asked for pages: stage 1,
 * guests' own tables, page requests. Part of uiommu/space.h.
 *
 * Threads: every function may be called from any thread, unless it says otherwise.
 */
#ifndef UIOMMU_STAGE1_H
#define UIOMMU_STAGE1_H

#include <uiommu/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- stage 1 ----------------------------------------------------------------------------------
 *
 * What a requester ID is attached to may have a translation in front of it: a DMA passes the stage
 * 1, and what comes out is an IOVA of the domain that the ID is attached to, stage 2. Each is set
 * by whoever owns it, without knowing the other: a virtual IOMMU the stage 1, VFIO the attachment.
 * The IOTLB holds the two as one; what is taken away in either is gone for every device when the
 * call that did it returns.
 */

struct uiommu_stage1_options {
	size_t size; /**< sizeof(struct uiommu_stage1_options) */
	/** What translates. NULL: nothing does; every access faults as not attached. */
	struct uiommu_domain *domain;
	/** It holds for requester IDs that are attached to the same domain as @governor, the
	 *  function whose address space the addresses that come out belong to. Without it, for
	 *  whatever an ID is attached to; a nested @domain for attachments to its parent. Where it
	 *  does not hold, an access goes to the attachment as if there were no stage 1: nobody has
	 *  a say over the devices of somebody else's space. */
	bool governed;
	uiommu_rid governor;
	/** Doorbells that the space behind it has in these ranges (uiommu_ioas_map_doorbell()) are
	 *  reached at their own IOVAs, whatever @domain translates, and without one. It should
	 *  translate nothing there. What else is there is not reached. At most 16; copied. */
	const struct uiommu_range *pass;
	size_t pass_count;
	/** Called for every access that this stage 1 stops, from the port's thread, inside its
	 *  access section: it must not wait for anyone who waits for ports, nor call back. May be
	 *  NULL. The unit's own handler is called too. */
	void (*fault)(void *ctx, const struct uiommu_fault *fault);
	void *fault_ctx;
};

/** Make one. -EINVAL: bad options, or @domain is another unit's; -E2BIG: options from a newer
 *  header; -ENOMEM. */
UIOMMU_API int uiommu_stage1_create(struct uiommu_unit *unit,
				    const struct uiommu_stage1_options *options,
				    struct uiommu_stage1 **out);

/** The unit's own stage 1, which translates nothing and tells nobody. */
UIOMMU_API struct uiommu_stage1 *uiommu_unit_wall(struct uiommu_unit *unit);

/** Destroy it; no requester ID may have it. NULL is fine. */
UIOMMU_API void uiommu_stage1_destroy(struct uiommu_stage1 *stage1);

/**
 * Put @stage1 in front of what @rid is, or will be, attached to; NULL: nothing. Replaces the one
 * before; until this returns a transaction goes through one of the two, then through the new one
 * only. -EINVAL: another unit's; -ENOMEM, but only where the ID has had neither port, attachment
 * nor stage 1 before, and never for NULL.
 */
UIOMMU_API int uiommu_unit_set_stage1(struct uiommu_unit *unit, uiommu_rid rid,
				      struct uiommu_stage1 *stage1);

/** The same in front of what @rid is attached to for its transactions with a PASID. -EINVAL: a
 * PASID above UIOMMU_PASID_MAX; -ENOMEM, but only where there is neither port, attachment nor
 * stage 1. */
UIOMMU_API int uiommu_unit_set_stage1_pasid(struct uiommu_unit *unit, uiommu_rid rid,
					    uint32_t pasid, struct uiommu_stage1 *stage1);

/* ---- guests' tables ---------------------------------------------------------------------------
 *
 * A stage 1 may be a guest's own tables, in memory that the guest writes and the domain behind
 * translates: devices walk them there, entry by entry, as hardware does, with its faults. What they
 * say is taken from the guest's memory when a device needs it and may be cached until the guest
 * says that it has changed.
 */

/** Of VT-d's first stage; devices' requests are user's, so SRE and WPE change nothing. */
enum uiommu_guest_flags {
	UIOMMU_GUEST_SRE = 1 << 0,  /**< supervisor requests */
	UIOMMU_GUEST_EAFE = 1 << 1, /**< hardware sets the extended accessed flag too */
	UIOMMU_GUEST_WPE = 1 << 2,  /**< write protection holds for supervisors */
};

struct uiommu_guest_options {
	size_t size; /**< sizeof(struct uiommu_guest_options) */
	/** "vtd-fs": VT-d's first stage: @root, @width and @flags. "smmuv3": SMMUv3's stage 1:
	 * @ste, from which a context descriptor is found, and from that Armv8 tables (VMSAv8-64,
	 * all granules, both halves of the space). */
	const char *format;
	const char *name; /**< as a domain's; NULL: the format's */
	uint64_t root;	  /**< where the highest table is */
	unsigned width;	  /**< 48 (4 levels) or 57 (5 levels) */
	unsigned flags;	  /**< enum uiommu_guest_flags */
	/** The first two words of the stream table entry, as numbers. Not valid (V clear): every
	 *  access is aborted, without a record. */
	uint64_t ste[2];
};

/**
 * Make a domain of a guest's tables, which is nested in @parent: their addresses, and those that
 * come out of them, are IOVAs of @parent. It goes in front of attachments to the parent
 * (uiommu_stage1_create()) and outlives it without harm. It has no space of its own: nothing is
 * mapped in it or found by uiommu_domain_lookup(). Nothing is read before a device asks. -EINVAL,
 * -E2BIG RULE_ARGUMENT: bad options or format, or the parent is nested itself; -EIO RULE_ARGUMENT:
 * bits of the stream table entry that a guest may not set (what Linux lets it set: V, Config 0, 4
 * or 5, S1Fmt, S1ContextPtr, S1CDMax; S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS 0 or 1); -ENOMEM.
 */
UIOMMU_API int uiommu_domain_create_guest(struct uiommu_domain *parent,
					  const struct uiommu_guest_options *options,
					  struct uiommu_domain **out);

/**
 * The guest has changed what its tables, or its context descriptor, say of this range of IOVAs.
 * Returns when no device uses what they said before. -EINVAL RULE_EMPTY; -EOPNOTSUPP
 * RULE_UNSUPPORTED: not a guest's. Thread safe.
 */
UIOMMU_API int uiommu_domain_invalidate(struct uiommu_domain *domain, struct uiommu_range range);

/* ---- page requests ----------------------------------------------------------------------------
 *
 * An access that finds nothing mapped, or not for what it wants, need not be the end of it: as with
 * PCI's page request interface, it may ask for the page and wait for an answer, if its port is
 * allowed to (uiommu_port_set_paging()) and the domain has somebody who answers. That is the domain
 * that the requester ID is attached to, or that of the stage 1 in front of it, whichever of the two
 * stages it was that stopped the access.
 *
 * While it waits, its port is in no section and holds no lock, so everything can be mapped,
 * unmapped and detached. What comes of it: SUCCESS has the translation tried again (and perhaps the
 * page asked for again); INVALID makes it an ordinary fault. It is as if the answer were INVALID
 * when the ID is attached elsewhere or detached, its stage 1 is replaced, the domain is disabled,
 * its handler replaced, or bus mastering switched off. Interrupts and uiommu_port_translate() do
 * not ask.
 */

struct uiommu_page_request {
	uiommu_rid rid;
	uint32_t pasid;	 /**< UIOMMU_NO_PASID: the access has none */
	int access;	 /**< UIOMMU_READ, UIOMMU_WRITE or both */
	uint64_t iova;	 /**< of the page of 4 KiB */
	uint32_t group;	 /**< index of its page request group, 9 bits; each has one request */
	uint64_t cookie; /**< for the answer; never used twice in a unit */
};

/**
 * Called for each request, from the port's thread, with no lock of the library held but the
 * function's, if it is a device model's DMA: so it must not wait for anything that waits for that,
 * nor attach, detach or replace. It may answer at once.
 */
typedef void (*uiommu_page_fn)(void *ctx, const struct uiommu_page_request *request);

/** Who answers for a domain from now on; NULL: nobody. Outstanding requests are answered INVALID;
 *  when it returns the old handler is not being called any more. Never fails. */
UIOMMU_API void uiommu_domain_set_page_handler(struct uiommu_domain *domain, uiommu_page_fn handler,
					       void *ctx);

enum uiommu_page_response {
	UIOMMU_PAGE_SUCCESS, /**< the page is there: try again */
	UIOMMU_PAGE_INVALID, /**< it will not be */
};

/** Answer. -ENOENT RULE_ARGUMENT: no request of this domain waits for an answer to this cookie (any
 *  more); -EINVAL RULE_ARGUMENT: @response. Thread safe. */
UIOMMU_API int uiommu_domain_page_respond(struct uiommu_domain *domain, uint64_t cookie,
					  enum uiommu_page_response response);

#ifdef __cplusplus
}
#endif

#endif
