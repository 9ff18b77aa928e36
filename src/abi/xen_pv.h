/* SPDX-License-Identifier: MIT */
/*
 * The objects of the Xen front ends as they see each other. Public functions are in <uiommu/xen.h>.
 *
 * Locks, in this order: domain->lock, xen->lock. The engine's come after both. Hooks are called
 * with neither; put_frame() comes from within a flush.
 */
#ifndef ABI_XEN_PV_H
#define ABI_XEN_PV_H

#include <pthread.h>

#include <uiommu/xen.h>

#include "util/imap.h"

#define XEN_ELEMENT_MAX 32

#define XEN_PAGE_SHIFT 12
#define XEN_PAGE_SIZE  UINT64_C(4096)

/* What a mapping's tag says of it. The hypervisor's own have none. */
#define XEN_TAG_MAPPED	1 /* by a hypercall */
#define XEN_TAG_REF	2 /* it holds a reference to its frame */
#define XEN_TAG_FOREIGN 4 /* its frame is another domain's */

struct xen_frame_use;

struct uiommu_xen {
	struct uiommu_xen_hooks hooks; /* these are constant */
	struct uiommu_unit *unit;
	const char *format;
	unsigned width;
	struct uiommu_resv_region *regions;
	size_t region_count;
	bool off;
	uint64_t premap_offset, premap_frames;
	uint32_t max_contexts;

	pthread_mutex_t lock; /* guards what follows */
	struct uiommu_xen_domain *domains;
	/* XenServer's knowledge of machine frames: which bus frame the hardware domain has for
	 * them, and which are mapped or looked up for another domain (value: its number, info: 1 if
	 * the reference is the mapping's, tag: that mapping's bus frame). */
	struct imap m2b, foreign;
	struct xen_frame_use *in_use; /* foreign frames that operations are about */
	pthread_cond_t frame_free;
	bool m2b_made;
};

/* An address space of a domain's. */
struct xen_context {
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	unsigned devices; /* domain->lock, as for the next */
	unsigned users;	  /* the table of contexts, and calls under way */
};

struct xen_device {
	struct xen_device *next;
	uiommu_rid rid;
	uint16_t context;
	char name[UIOMMU_OWNER_MAX];
};

struct uiommu_xen_domain {
	struct uiommu_xen_domain *next; /* xen->lock */
	struct uiommu_xen *xen;
	uint16_t domid;
	bool hardware, contexts_allowed, identity;
	/* Who still looks at it: its owner, calls of other domains that work on it. Atomic. */
	unsigned refs;

	pthread_mutex_t lock;	       /* guards what follows */
	struct xen_context *zero;      /* constant */
	struct xen_context **contexts; /* [1] is the first; [0] isn't used */
	uint32_t context_count;	       /* without context 0 */
	bool initialised;
	struct xen_device *devices;
};

/* xen_pv.c: the domain's memory stays until the last one has put it. */
void xen_domain_get(struct uiommu_xen_domain *domain);
void xen_domain_put(struct uiommu_xen_domain *domain);

/* Indices whose success is to be written when it is true. */
struct xen_run {
	uint32_t first, last;
};

struct xen_array;

struct uiommu_xen_call {
	struct uiommu_xen_domain *domain;
	struct uiommu_batch *batch;
	bool held; /* the batch has taken over the reference of the operation at hand */

	/* The hypercall under way: the entry's number (0: none) and its arguments. */
	unsigned entry, cmd, count;
	uint64_t guest;
	uint64_t done; /* elements, or pages */
	struct xen_run *runs;
	size_t run_count, run_room;
	const struct xen_array *array;

	/* For contexts. */
	struct uiommu_xen_domain *target; /* by a remote command another domain than the caller's */
	struct xen_context *context;
	union {
		struct uiommu_xen_map_pages map;
		struct uiommu_xen_unmap_pages unmap;
	} pages;
};

enum { XEN_ENTRY_DRAFT = 1, XEN_ENTRY_SERVER, XEN_ENTRY_CONTEXT };

/* Is the hypercall a continuation? If not, what was under way is completed, and it begins. */
bool xen_call_resume(struct uiommu_xen_call *call, unsigned entry, unsigned cmd, uint64_t guest,
		     unsigned count);

/* Flush, release and report; then nothing is under way. The result: error, or -EFAULT if a status
 * could not be written. */
long xen_call_complete(struct uiommu_xen_call *call, long error);

bool xen_call_preempted(struct uiommu_xen_call *call);

/* An array hypercall: do one element after the other with one(), which may change it; then the part
 * that is the answer is written. What one() returns: whether the element's success waits for the
 * flush; then only its status, 0, is written afterwards. */
struct xen_array {
	size_t size, answer_offset, answer_size, status_offset, status_size;
	bool (*one)(struct uiommu_xen_call *call, void *element);
	/* Write into the element that there is no memory to remember it. */
	void (*no_memory)(void *element);
};
long xen_array_run(struct uiommu_xen_call *call, const struct xen_array *array);

/* Map one page under the tag, whose reference, if it has one, is the caller's before: the mapping's
 * after, or dropped. What the engine says; -EINVAL: no such bus frame. */
int xen_map_page(struct uiommu_xen_call *call, struct uiommu_ioas *ioas, uint64_t bfn, uint64_t mfn,
		 int prot, unsigned tag);

/* -ENOENT: nothing is there, or another is taking it away. */
int xen_unmap_page(struct uiommu_xen_call *call, struct uiommu_ioas *ioas, uint64_t bfn);

/* Unmap one page of the domain's context 0, outside of any hypercall. */
void xen_release_page(struct uiommu_xen_domain *domain, struct uiommu_range page);

/* Contexts. domain->lock held, but for create(), and for put() of one that nobody else knows. */
int xen_context_create(struct uiommu_xen *xen, struct xen_context **out);
/* Let go; with the last user it goes, and what it maps is released. */
void xen_context_put(struct uiommu_xen_domain *domain, struct xen_context *context);
struct xen_context *xen_context_get(struct uiommu_xen_domain *domain, uint32_t number);

/* XenServer's books of foreign frames: forget those of a domain that goes. */
void xen_server_relinquish(struct uiommu_xen *xen, uint16_t domid);

/* Free a domain's contexts and devices' places in them. */
void xen_contexts_free(struct uiommu_xen_domain *domain);

/* Report the pages done, and end what a call by contexts had in use. 0 or -EFAULT. */
int xen_context_call_end(struct uiommu_xen_call *call);

#endif
