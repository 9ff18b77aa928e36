/* SPDX-License-Identifier: MIT */
/**
 * uiommu/virtio_iommu.h - the device side of virtio-iommu (virtio 1.3, section 5.13 "IOMMU device")
 * on buffers: an embedder brings queues and a transport, this brings the IOMMU.
 *
 * The device puts a stage 1 (uiommu/space.h) in front of its endpoints, one domain and one IOAS for
 * each virtio domain. What comes out of it, "guest-physical" addresses, are IOVAs of the domain
 * that the endpoints are attached to; who attaches them there, e.g. VFIO, knows nothing of this
 * device. An endpoint's number is its requester ID.
 *
 * PROBE reports the platform's regions: as an MSI region that of hardware's doorbells, or where
 * there is none the window in which software places them (UIOMMU_RESV_SW_MSI). Interrupts of
 * endpoints arrive in every state: a doorbell that stands in such a window of the space behind is
 * reached at its IOVA there, and nothing can be mapped over it. Where the program chooses the
 * window (@program_msi of the facts) nothing is reported, and the driver maps the doorbell's page,
 * for WRITE, to the address that it has in that space: at that very address, for that is what the
 * function was told to write to.
 *
 * The library's own machine has the device as the model "virtio-iommu" (uiommu/device.h).
 *
 * Layouts and numbers are those of <linux/virtio_iommu.h>. Any thread may call any function but
 * create and destroy; requests of one device are carried out one after another.
 */
#ifndef UIOMMU_VIRTIO_IOMMU_H
#define UIOMMU_VIRTIO_IOMMU_H

#include <uiommu/platform.h>
#include <uiommu/space.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uiommu_virtio_iommu;

/** Bytes of the device's configuration space. */
#define UIOMMU_VIRTIO_IOMMU_CONFIG 40
/** Bytes of the longest part of a request that the device reads (PROBE's). */
#define UIOMMU_VIRTIO_IOMMU_REQUEST 72
/** Bytes of a fault report. */
#define UIOMMU_VIRTIO_IOMMU_REPORT 24

struct uiommu_virtio_iommu_options {
	size_t size; /**< sizeof(struct uiommu_virtio_iommu_options) */
	/** Table format, width, aperture, page sizes and reserved regions of its domains: what
	 *  input_range and page_size_mask say follows from them. Copied. */
	const struct uiommu_platform_facts *facts;
	/** The domain that the endpoints are attached to: each virtio domain is nested in it, so a
	 *  MAP to more than it translates is refused, and none goes in front of another. Or NULL.
	 */
	struct uiommu_domain *space;
	/** The device is a function itself: it has a say over endpoints only while they are
	 *  attached to the same domain as @self. */
	bool governed;
	uiommu_rid self;
	/** Feature bits to offer, 1 << VIRTIO_IOMMU_F_...; 0: all but BYPASS. INPUT_RANGE and
	 *  MAP_UNMAP must be among them, BYPASS and BYPASS_CONFIG not both. */
	uint64_t features;
	/** The value of the configuration field "bypass" to begin with. */
	bool bypass;
	/** The domain numbers accepted; both 0: all. */
	uint32_t domain_first, domain_last;
	/** Bytes for properties in a PROBE; 0: what the regions need, at least 64. */
	uint32_t probe_size;
	/** Mappings that all domains together may have (0: 262144), and page-table entries in them
	 *  (0: 2^24): a MAP that would exceed either is answered with NOMEM. */
	uint32_t max_mappings;
	uint64_t max_entries;
	/** Called when a fault report has become available: from the thread of the port that
	 *  faulted, inside its access section. It must neither wait for anyone who waits for ports
	 *  nor call back. May be NULL. */
	void (*event)(void *ctx);
	void *event_ctx;
};

/**
 * Make the device, without endpoints. -EINVAL: bad options (uiommu_last_refusal() names them), or
 * the platform's regions do not fit into @probe_size; -E2BIG: options from a newer header;
 * -EOPNOTSUPP: the platform has no page tables, but windows or nothing; -ENOMEM; what
 * uiommu_domain_create() says of format and width.
 */
UIOMMU_API int uiommu_virtio_iommu_create(struct uiommu_unit *unit,
					  const struct uiommu_virtio_iommu_options *options,
					  struct uiommu_virtio_iommu **out);

/** Destroy it: nothing stands in front of its endpoints any more. NULL is fine. */
UIOMMU_API void uiommu_virtio_iommu_destroy(struct uiommu_virtio_iommu *dev);

/** Have @rid as an endpoint, attached to no virtio domain. It must be no other device's. -EEXIST:
 *  it is one already; -ENOMEM. */
UIOMMU_API int uiommu_virtio_iommu_add_endpoint(struct uiommu_virtio_iommu *dev, uiommu_rid rid);

/** Give it up: it is detached, and nothing stands in front of it. Unknown: nothing happens. */
UIOMMU_API void uiommu_virtio_iommu_remove_endpoint(struct uiommu_virtio_iommu *dev,
						    uiommu_rid rid);

/** The feature bits offered. */
UIOMMU_API uint64_t uiommu_virtio_iommu_features(struct uiommu_virtio_iommu *dev);

/** The feature bits that the driver accepted, of the device's own (0 to 23). -EINVAL: more than
 *  offered. */
UIOMMU_API int uiommu_virtio_iommu_set_features(struct uiommu_virtio_iommu *dev, uint64_t accepted);

/** Configuration space, little endian. Past its end reads give zeroes. */
UIOMMU_API void uiommu_virtio_iommu_config_read(struct uiommu_virtio_iommu *dev, uint32_t offset,
						void *buf, size_t len);

/** A driver's write: changes "bypass", if BYPASS_CONFIG was accepted and the value is 0 or 1;
 *  returns when every endpoint is under the new rule. All else is ignored. */
UIOMMU_API void uiommu_virtio_iommu_config_write(struct uiommu_virtio_iommu *dev, uint32_t offset,
						 const void *buf, size_t len);

/**
 * Carry out one request: @in is its device-readable part, @out its device-writable one, both of any
 * length and contents; @in is read once. *@written: how many bytes of @out were written, to be
 * reported as used. 0: there is a status in the tail; -EBADMSG: nothing was done or written, for
 * the type is unknown (or PROBE, which was not accepted), or there is no room for the tail.
 *
 * The tail is where the structure has it: at the start of @out, behind the properties in a PROBE;
 * in a PROBE with less room than that, which is refused, at the end. The checks in their order:
 *
 *  all     INVAL: @in shorter than the request; UNSUPP: MAP or UNMAP without MAP_UNMAP accepted
 *  ATTACH  INVAL: reserved not 0; INVAL: unknown flag (BYPASS needs BYPASS_CONFIG); RANGE: domain
 *          number; NOENT: no such endpoint; INVAL: the domain is there and the BYPASS flag is not
 *          its; NOMEM: then the endpoint is where it was. An endpoint of another domain is detached
 *          from that first.
 *  DETACH  NOENT: no such endpoint; INVAL: not attached to that domain, or no such domain
 *  MAP     INVAL: unknown flag (MMIO needs the feature), or neither READ nor WRITE; INVAL:
 *          virt_end < virt_start; RANGE: not aligned to the page granularity; RANGE: outside
 *          input_range; NOENT: no such domain; INVAL: a bypass domain; RANGE: physical addresses
 *          run past the end; INVAL: something is mapped there, or a reserved region is there;
 *          NOMEM
 *  UNMAP   INVAL: reserved not 0; NOENT: no such domain; INVAL: a bypass domain; INVAL:
 *          virt_end < virt_start; RANGE: it would split a mapping, and nothing is unmapped
 *  PROBE   INVAL: less room than probe_size, and no property is written; NOENT: no such endpoint
 *
 * An unmap that changes something takes one flush. A domain goes with its last endpoint.
 */
UIOMMU_API int uiommu_virtio_iommu_request(struct uiommu_virtio_iommu *dev, const void *in,
					   size_t in_len, void *out, size_t out_len,
					   size_t *written);

/** Move the oldest fault report into @buf. Reports are of what the device itself stopped: reason
 *  DOMAIN without a virtio domain, else MAPPING; what is missing in the space behind it is none of
 *  its driver's business. At most 64 wait. Returns its length; 0: there is none; -EMSGSIZE: it does
 * not fit, and is dropped. */
UIOMMU_API int uiommu_virtio_iommu_next_event(struct uiommu_virtio_iommu *dev, void *buf,
					      size_t len);

/** How many fault reports wait. */
UIOMMU_API unsigned uiommu_virtio_iommu_events(struct uiommu_virtio_iommu *dev);

/** Drop the reports that wait: the driver has no buffer for them. */
UIOMMU_API void uiommu_virtio_iommu_drop_events(struct uiommu_virtio_iommu *dev);

struct uiommu_virtio_iommu_stats {
	uint64_t requests; /**< answered with a status */
	uint64_t refused;  /**< of these, with another status than OK */
	uint64_t bad;	   /**< not answered */
	uint64_t events;   /**< fault reports handed over */
	uint64_t dropped;  /**< fault reports that nobody took */
	uint32_t domains, mappings;
};
UIOMMU_API void uiommu_virtio_iommu_stats(struct uiommu_virtio_iommu *dev,
					  struct uiommu_virtio_iommu_stats *stats);

/** Device reset: no endpoint is attached, no feature accepted, no report waits. "bypass" stays as
 *  it is, unless @system: then it is what it was at creation. Returns when no endpoint reaches
 *  anything through the domains that were. Cannot fail. */
UIOMMU_API void uiommu_virtio_iommu_reset(struct uiommu_virtio_iommu *dev, bool system);

#ifdef __cplusplus
}
#endif
#endif
