/* SPDX-License-Identifier: MIT */
/*
 * The virtio-iommu device as its files see it: virtio_iommu.c has its life, endpoints, domains and
 * fault reports, virtio_iommu_req.c the requests, virtio_iommu_props.c what PROBE says of reserved
 * regions. virtio_iommu_pci.c, the function on a bus, uses the public face alone.
 */
#ifndef ABI_VIRTIO_IOMMU_H
#define ABI_VIRTIO_IOMMU_H

#include <linux/virtio_iommu.h>
#include <pthread.h>

#include <uiommu/virtio_iommu.h>

#include "util/imap.h"

/* Fault reports that wait for a buffer; more are dropped. */
#define VIOMMU_EVENTS 64

/* A reserved range as PROBE reports it: disjoint, ascending, at most one for MSIs. */
struct viommu_property {
	struct uiommu_range range;
	bool msi;
};

struct viommu_domain {
	uint32_t number;
	unsigned endpoints; /* attached; it goes with the last */
	bool bypass;	    /* then it has nothing of what follows */
	struct uiommu_ioas *ioas;
	struct uiommu_domain *table;
	struct uiommu_stage1 *stage1;
};

struct viommu_endpoint {
	uiommu_rid rid;
	struct viommu_domain *domain; /* NULL: not attached */
};

struct uiommu_virtio_iommu {
	/* Constant from creation on. */
	struct uiommu_unit *unit;
	const char *format;
	unsigned width;
	struct uiommu_range aperture; /* as asked for; {0, 0}: all of what the width says */
	uint64_t page_sizes;
	struct uiommu_range input; /* and what came of it */
	struct uiommu_domain *space;
	bool governed, bypass_initial;
	uiommu_rid self;
	uint64_t offered;
	uint32_t domain_first, domain_last, max_mappings;
	uint64_t max_entries;
	size_t probe_size, property_count, property_room;
	struct viommu_property *properties;
	struct uiommu_range *pass; /* where software places doorbells; room: property_room */
	size_t pass_count;
	struct uiommu_stage1 *wall; /* in front of endpoints that may do nothing */
	void (*event_fn)(void *ctx);
	void *event_ctx;

	pthread_mutex_t lock; /* guards what follows */
	uint64_t accepted;
	struct virtio_iommu_config config; /* little endian; all but bypass constant */
	struct imap endpoints;		   /* by number; tag: struct viommu_endpoint */
	struct imap domains;		   /* by number; tag: struct viommu_domain */
	uint32_t mappings;
	uint64_t entries; /* page-table entries in them */
	uint64_t requests, refused, bad;

	pthread_mutex_t event_lock; /* a leaf; guards what follows */
	struct virtio_iommu_fault event[VIOMMU_EVENTS];
	unsigned event_head, event_tail;
	uint64_t events, dropped;
};

/* All of these with dev->lock held. NULL: there is none. */
struct viommu_endpoint *viommu_endpoint(struct uiommu_virtio_iommu *dev, uint32_t number);
struct viommu_domain *viommu_domain(struct uiommu_virtio_iommu *dev, uint32_t number);

/* Make a domain, which has no endpoint yet: the caller attaches one at once. -errno. */
int viommu_domain_create(struct uiommu_virtio_iommu *dev, uint32_t number, bool bypass,
			 struct viommu_domain **out);

/* Move an endpoint to another domain; the old one goes if it was the last. Cannot fail. */
void viommu_attach(struct uiommu_virtio_iommu *dev, struct viommu_endpoint *endpoint,
		   struct viommu_domain *domain);
void viommu_detach(struct uiommu_virtio_iommu *dev, struct viommu_endpoint *endpoint);

/* Entries that the mapping takes in a table with these page sizes, to which it is aligned. */
uint64_t viommu_entries(struct uiommu_range range, uint64_t addr, uint64_t sizes);

/* Give back what an area that was unmapped took of the limits; for uiommu_ioas_unmap(). */
void viommu_account(void *ctx, const struct uiommu_area *area);

/* Most properties that so many regions can become: each is cut in two by the MSI's at worst. */
static inline size_t viommu_property_room(size_t region_count)
{
	return 2 * region_count + 1;
}

/* Make properties of a platform's regions in list, which has room for them; returns how many. */
size_t viommu_properties(const struct uiommu_resv_region *regions, size_t count,
			 struct viommu_property *list);

/* Bytes that so many properties take in a PROBE. */
size_t viommu_properties_size(size_t count);

/* Write them, and zeroes up to len, which is enough for them. */
void viommu_properties_write(const struct viommu_property *list, size_t count, void *buf,
			     size_t len);

#endif
