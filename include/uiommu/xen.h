/* SPDX-License-Identifier: MIT */
/**
 * uiommu/xen.h - Xen's paravirtual IOMMU operations, for hypervisors that embed the engine.
 *
 * Three interfaces, each as a front end of its own over batches (uiommu/space.h): draft A of 2014
 * with what its review asked for; pv_iommu_op as XenServer ships it; the contexts proposed since
 * 2024, seventh version. doc/xen.md says what each answers and where we differ.
 *
 * The hypervisor keeps its own notion of domains, frames and guest memory and lends it by hooks. A
 * frame is mapped under a reference that is dropped when no device reaches the frame any more. Each
 * hypercall flushes once, when all of its operations are complete, and not at a continuation.
 *
 * Threads: any function from any thread; one call (struct uiommu_xen_call) belongs to one thread, a
 * virtual processor, at a time. Hooks are called from the thread that makes the call.
 */
#ifndef UIOMMU_XEN_H
#define UIOMMU_XEN_H

#include <uiommu/space.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the host ---------------------------------------------------------------------------------
 */

struct uiommu_xen;
struct uiommu_xen_domain;
struct uiommu_xen_call;

/** A domain by this number is the caller itself. */
#define UIOMMU_XEN_DOMID_SELF 0x7ff0

/** What the front ends need of the hypervisor. Frame numbers are addresses over 4096; a machine
 *  frame mfn is memory at the address mfn * 4096 to the unit. */
struct uiommu_xen_hooks {
	size_t size; /**< sizeof(struct uiommu_xen_hooks) */
	/** Copy from and to the memory of domain @domid at the guest's address: 0 or -EFAULT. */
	int (*copy_in)(void *ctx, uint16_t domid, void *to, uint64_t from, size_t len);
	int (*copy_out)(void *ctx, uint16_t domid, uint64_t to, const void *from, size_t len);
	/** Is there something more urgent? Asked before each operation or page but the first of a
	 *  leg; then the call is to be continued. NULL: never. */
	bool (*preempt)(void *ctx);
	/** Take a reference to the frame that domain @domid knows as @gfn (for a PV domain, one of
	 *  its machine frames). 0 and *@mfn; -ENOENT: nothing is there; -EPERM: it is there, but
	 * not the domain's. */
	int (*get_frame)(void *ctx, uint16_t domid, uint64_t gfn, uint64_t *mfn);
	/** Drop one. No device reaches the frame by the mapping that it was taken for. An IOAS may
	 *  be locked: no function of the library must be called. */
	void (*put_frame)(void *ctx, uint64_t mfn);
	/** Does the machine have this frame? For XenServer's mappings without a reference. NULL:
	 * no.
	 */
	bool (*frame_valid)(void *ctx, uint64_t mfn);
	/** May domain @caller map frames of domain @domid, not itself, as its device model? 0;
	 *  -ENXIO: there is no such domain; -EPERM: no right, or it is a PV domain. NULL: -ENXIO.
	 */
	int (*check_foreign)(void *ctx, uint16_t caller, uint16_t domid);
	/** Is the frame part of a guest's own memory? NULL: yes. */
	bool (*frame_allocated)(void *ctx, uint64_t mfn);
	void *ctx;
};

struct uiommu_xen_options {
	size_t size; /**< sizeof(struct uiommu_xen_options) */
	struct uiommu_xen_hooks hooks;
	struct uiommu_unit *unit; /**< must outlive the struct uiommu_xen */
	const char *format;	  /**< of the page tables, as struct uiommu_domain_options */
	unsigned width;
	const struct uiommu_resv_region *regions; /**< reserved for each device; copied */
	size_t region_count;
	bool off; /**< the paravirtual IOMMU is off */
	/** All machine frames below @premap_frames are mapped for the hardware domain from the bus
	 *  frame @premap_offset on, as XenServer does since 8.0; 0 frames: none are. */
	uint64_t premap_offset, premap_frames;
	uint32_t max_contexts; /**< most contexts that a domain can ask for; 0: 1024 */
};

/** -EINVAL, -E2BIG (bad options; no get_frame, put_frame, copy_in or copy_out), -ENOMEM. */
UIOMMU_API int uiommu_xen_create(const struct uiommu_xen_options *options, struct uiommu_xen **out);
/** Its domains must be gone. NULL is fine. */
UIOMMU_API void uiommu_xen_destroy(struct uiommu_xen *xen);

struct uiommu_xen_domain_options {
	size_t size; /**< sizeof(struct uiommu_xen_domain_options) */
	uint16_t domid;
	bool hardware; /**< it is the hardware domain; there may be one */
	bool contexts; /**< it may use contexts (the 2025 proposal) */
	bool identity; /**< its devices reach its memory 1:1 by default; only reported */
};

/** Make the IOMMU's side of a domain: one address space, context 0. -EINVAL, -E2BIG: bad options;
 *  -EEXIST: there is a domain with this number, or a second hardware domain; what
 *  uiommu_domain_create() returns. */
UIOMMU_API int uiommu_xen_domain_create(struct uiommu_xen *xen,
					const struct uiommu_xen_domain_options *options,
					struct uiommu_xen_domain **out);
/** Release all that it mapped, and what the hardware domain mapped of its frames. Its calls must be
 *  gone; a preempted one of the hardware domain that works on it may be there, and keeps the frames
 *  of its context until it ends. NULL is fine. */
UIOMMU_API void uiommu_xen_domain_destroy(struct uiommu_xen_domain *domain);

/** Its address space, for the hypervisor's own mappings (without references: they have no tag). */
UIOMMU_API struct uiommu_ioas *uiommu_xen_domain_ioas(struct uiommu_xen_domain *domain);

/** Give a device to the domain: it is attached to context 0. -EEXIST: it has it; -ENOMEM; what
 *  uiommu_domain_attach() returns. */
UIOMMU_API int uiommu_xen_domain_assign(struct uiommu_xen_domain *domain, uiommu_rid rid,
					const char *name);
/** Take it away; returns when it reaches nothing of the domain's. */
UIOMMU_API void uiommu_xen_domain_deassign(struct uiommu_xen_domain *domain, uiommu_rid rid);

/* ---- hypercalls -------------------------------------------------------------------------------
 */

/** What a hypercall returns that was preempted: it is to be made again with the same arguments.
 * Made with others, or ended, the one that was under way is completed first, as far as it has come.
 */
#define UIOMMU_XEN_CONTINUE 1

/** The state of a virtual processor's hypercall. -ENOMEM. */
UIOMMU_API int uiommu_xen_call_create(struct uiommu_xen_domain *domain,
				      struct uiommu_xen_call **out);
/** Complete what is under way, and free it. NULL is fine. */
UIOMMU_API void uiommu_xen_call_destroy(struct uiommu_xen_call *call);

/* ---- draft A, 2014 ---- */

/** HYPERVISOR_iommu_op(cmd, array, count): the commands. */
#define UIOMMU_XEN_DRAFT_MAP_PAGE   1
#define UIOMMU_XEN_DRAFT_UNMAP_PAGE 2

#define UIOMMU_XEN_DRAFT_READABLE  (1u << 0)
#define UIOMMU_XEN_DRAFT_WRITEABLE (1u << 1)

/** An element of the array, for both commands. Unmapping looks at bfn and flags (0) alone. */
struct uiommu_xen_draft_op {
	uint64_t bfn;	/**< IN: bus frame */
	uint64_t mfn;	/**< IN: frame of the caller's memory */
	uint32_t flags; /**< IN */
	int16_t status; /**< OUT: enum uiommu_xen_draft_status */
	uint16_t pad;
};

/** The review asked for codes in the style of grant tables'; the numbers are ours. */
enum uiommu_xen_draft_status {
	UIOMMU_XEN_DRAFT_OKAY = 0,
	UIOMMU_XEN_DRAFT_GENERAL_ERROR = -1,
	UIOMMU_XEN_DRAFT_BAD_FLAGS =
		-2, /**< reserved ones; write alone, which not all hardware can */
	UIOMMU_XEN_DRAFT_BAD_PAGE = -3, /**< no frame of the caller's */
	UIOMMU_XEN_DRAFT_BAD_BFN = -4,	/**< not translated, or reserved */
	UIOMMU_XEN_DRAFT_MAPPED = -5,	/**< something is mapped there */
	UIOMMU_XEN_DRAFT_NOT_MAPPED = -6,
	UIOMMU_XEN_DRAFT_NO_SPACE = -7, /**< out of memory */
};

/** 0; UIOMMU_XEN_CONTINUE; -ENOSYS: the paravirtual IOMMU is off, or no such command; -EPERM: the
 *  caller is not the hardware domain; -EFAULT: part of the array can't be read or written. The
 *  operations before that are done and their statuses written. */
UIOMMU_API long uiommu_xen_draft_op(struct uiommu_xen_call *call, unsigned cmd, uint64_t array,
				    unsigned count);

/* ---- XenServer ---- */

#define UIOMMU_XEN_SERVER_QUERY_CAPS	 1
#define UIOMMU_XEN_SERVER_MAP		 2
#define UIOMMU_XEN_SERVER_UNMAP		 3
#define UIOMMU_XEN_SERVER_MAP_FOREIGN	 4
#define UIOMMU_XEN_SERVER_LOOKUP_FOREIGN 5
#define UIOMMU_XEN_SERVER_UNMAP_FOREIGN	 6

#define UIOMMU_XEN_SERVER_QUERY_MAP_CAP	     (1u << 0)
#define UIOMMU_XEN_SERVER_QUERY_MAP_ALL_MFNS (1u << 1)
#define UIOMMU_XEN_SERVER_READABLE	     (1u << 0)
#define UIOMMU_XEN_SERVER_WRITEABLE	     (1u << 1)
#define UIOMMU_XEN_SERVER_NO_REF_CNT	     (1u << 2)
#define UIOMMU_XEN_SERVER_ADD_M2B	     (1u << 3)
#define UIOMMU_XEN_SERVER_REMOVE_M2B	     (1u << 0)
#define UIOMMU_XEN_SERVER_ORDER		     (0x3fu << 10)

/** struct pv_iommu_op. */
struct uiommu_xen_server_op {
	uint16_t subop;
	uint16_t flags;
	int32_t status; /**< OUT: 0 or -errno */
	union {
		struct {
			uint64_t offset;
		} query_caps;
		struct {
			uint64_t bfn;
			uint64_t gfn;
		} map;
		struct {
			uint64_t bfn;
		} unmap;
		struct {
			uint64_t bfn; /**< OUT for a lookup */
			uint64_t gfn;
			uint16_t domid;
			uint16_t ioserver;
		} map_foreign, lookup_foreign;
		struct {
			uint64_t bfn;
			uint16_t ioserver;
		} unmap_foreign;
	} u;
};

/** HYPERVISOR_iommu_op(ops, count). 0; UIOMMU_XEN_CONTINUE; -ENOSYS: the caller is not the hardware
 *  domain; -EINVAL: @count is 2^31 or more; -EFAULT as above. */
UIOMMU_API long uiommu_xen_server_op(struct uiommu_xen_call *call, uint64_t ops, unsigned count);

/* ---- contexts, 2025 ---- */

enum uiommu_xen_context_subop {
	UIOMMU_XEN_NOOP,
	UIOMMU_XEN_QUERY_CAPABILITIES,
	UIOMMU_XEN_INIT,
	UIOMMU_XEN_ALLOC_CONTEXT,
	UIOMMU_XEN_FREE_CONTEXT,
	UIOMMU_XEN_REATTACH_DEVICE,
	UIOMMU_XEN_MAP_PAGES,
	UIOMMU_XEN_UNMAP_PAGES,
	UIOMMU_XEN_REMOTE_CMD,
	/* 9 to 12, nested translation and PASIDs, are -EOPNOTSUPP, as there. */
};

#define UIOMMU_XEN_CAP_DEFAULT_IDENTITY	 (1u << 0)
#define UIOMMU_XEN_FREE_REATTACH_DEFAULT (1u << 0)
#define UIOMMU_XEN_MAP_READABLE		 (1u << 0)
#define UIOMMU_XEN_MAP_WRITEABLE	 (1u << 1)
#define UIOMMU_XEN_MAP_CACHE		 (1u << 2)

struct uiommu_xen_capabilities {
	uint64_t max_iova_addr; /**< OUT */
	uint32_t cap_flags;	/**< OUT */
	uint32_t pgsize_mask;	/**< OUT */
	uint32_t max_pasid;	/**< OUT */
	uint16_t max_ctx_no;	/**< OUT: contexts that init has made room for */
	uint16_t pad0;
};

struct uiommu_xen_init {
	uint32_t max_ctx_no;
	uint32_t arena_order; /**< page tables come from the library's allocator: not looked at */
};

struct uiommu_xen_alloc {
	uint16_t ctx_no; /**< OUT */
	uint32_t alloc_flags;
};

struct uiommu_xen_free {
	uint16_t ctx_no;
	uint32_t free_flags;
};

struct uiommu_xen_pci_device {
	uint16_t seg;
	uint8_t bus;
	uint8_t devfn;
};

struct uiommu_xen_reattach {
	uint16_t ctx_no;
	struct uiommu_xen_pci_device dev;
	uint32_t pasid;
};

struct uiommu_xen_map_pages {
	uint16_t ctx_no;
	uint16_t pad0[3];
	uint64_t gfn;
	uint64_t dfn;
	uint32_t map_flags;
	uint32_t pgsize;
	uint32_t nr_pages;
	uint32_t mapped; /**< OUT: pages mapped, whatever the call returns */
};

struct uiommu_xen_unmap_pages {
	uint16_t ctx_no;
	uint16_t pad0[3];
	uint64_t dfn;
	uint32_t pgsize;
	uint32_t nr_pages;
	uint32_t unmapped; /**< OUT: pages unmapped, whatever the call returns */
	uint32_t pad1;
};

struct uiommu_xen_remote_cmd {
	uint16_t domid;
	uint16_t subop;
	uint32_t pad0;
	uint64_t arg; /**< in the caller's memory */
};

/** do_iommu_op(subop, arg). 0; UIOMMU_XEN_CONTINUE; -ENODEV: the paravirtual IOMMU is off or not
 * the caller's to use; -EFAULT; and what doc/xen.md lists for each. */
UIOMMU_API long uiommu_xen_context_op(struct uiommu_xen_call *call, int subop, uint64_t arg);

/* ---- by number ---- */

/** Which of the interfaces a hypervisor offers, under which hypercall number. */
enum uiommu_xen_flavour {
	UIOMMU_XEN_DRAFT2014, /**< 40, where the draft's first implementation had it */
	UIOMMU_XEN_XENSERVER, /**< 56 */
	UIOMMU_XEN_CONTEXTS,  /**< 43 */
};

/** The hypercall @op with its arguments, as they come in registers: what the function above returns
 *  to it; -ENOSYS: not this number. */
UIOMMU_API long uiommu_xen_hypercall(struct uiommu_xen_call *call, enum uiommu_xen_flavour flavour,
				     uint64_t op, const uint64_t arg[5]);

#ifdef __cplusplus
}
#endif
#endif
