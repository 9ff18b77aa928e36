/* SPDX-License-Identifier: MIT */
/*
 * The device side of virtio-iommu: features, configuration, endpoints, domains and fault reports.
 * Requests are taken apart in virtio_iommu_req.c. See <uiommu/virtio_iommu.h> for what is answered.
 *
 * Invariants: an endpoint always has the stage 1 that its state asks for: its domain's; none, in a
 * bypass domain or, without a domain, if bypass is on; else the wall. A domain has at least one
 * endpoint, and, unless it is a bypass domain, an IOAS, a page table and a stage 1 that live as
 * long as it. Switching an endpoint needs no memory, so detaching, bypass and reset cannot fail.
 *
 * Locks: dev->lock for all state; above those of the IOAS and of the unit. dev->event_lock, a
 * leaf, for reports: they come from ports inside their access sections, for which a request that
 * unmaps, under dev->lock, waits.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "abi/virtio_iommu.h"
#include "util/alloc.h"
#include "util/range.h"
#include "util/refuse.h"

#define F(name) (UINT64_C(1) << VIRTIO_IOMMU_F_##name)

#define FEATURES_ALL                                                                        \
	(F(INPUT_RANGE) | F(DOMAIN_RANGE) | F(MAP_UNMAP) | F(BYPASS) | F(PROBE) | F(MMIO) | \
	 F(BYPASS_CONFIG))
#define FEATURES_DEFAULT (FEATURES_ALL & ~F(BYPASS))

#define MAPPINGS_DEFAULT 262144
#define ENTRIES_DEFAULT	 (UINT64_C(1) << 24)
#define PROBE_LEAST	 64
#define PROBE_MOST	 65536

_Static_assert(sizeof(struct virtio_iommu_config) == UIOMMU_VIRTIO_IOMMU_CONFIG, "configuration");
_Static_assert(sizeof(struct virtio_iommu_req_probe) == UIOMMU_VIRTIO_IOMMU_REQUEST, "requests");
_Static_assert(sizeof(struct virtio_iommu_fault) == UIOMMU_VIRTIO_IOMMU_REPORT, "reports");

static int refuse(int error, const char *what)
{
	return uiommu_refuse(error == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_ARGUMENT, error,
			     what, UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

/* ---- fault reports ---- */

/* From a port that a stage 1 stopped, inside its section. */
static void report_fault(void *ctx, const struct uiommu_fault *fault)
{
	struct uiommu_virtio_iommu *dev = ctx;
	struct virtio_iommu_fault report = {
		.reason = fault->reason == UIOMMU_FAULT_NO_DOMAIN ? VIRTIO_IOMMU_FAULT_R_DOMAIN
								  : VIRTIO_IOMMU_FAULT_R_MAPPING,
		.flags = htole32(VIRTIO_IOMMU_FAULT_F_ADDRESS |
				 (fault->access == UIOMMU_READ ? VIRTIO_IOMMU_FAULT_F_READ
							       : VIRTIO_IOMMU_FAULT_F_WRITE)),
		.endpoint = htole32(fault->rid),
		.address = htole64(fault->iova),
	};
	bool taken;

	pthread_mutex_lock(&dev->event_lock);
	taken = dev->event_head - dev->event_tail < VIOMMU_EVENTS;
	if (taken)
		dev->event[dev->event_head++ % VIOMMU_EVENTS] = report;
	else
		dev->dropped++;
	pthread_mutex_unlock(&dev->event_lock);
	if (taken && dev->event_fn)
		dev->event_fn(dev->event_ctx);
}

UIOMMU_API int uiommu_virtio_iommu_next_event(struct uiommu_virtio_iommu *dev, void *buf,
					      size_t len)
{
	int ret = 0;

	pthread_mutex_lock(&dev->event_lock);
	if (dev->event_head != dev->event_tail) {
		const struct virtio_iommu_fault *report =
			&dev->event[dev->event_tail++ % VIOMMU_EVENTS];

		if (len >= sizeof(*report)) {
			memcpy(buf, report, sizeof(*report));
			dev->events++;
			ret = sizeof(*report);
		} else {
			dev->dropped++;
			ret = -EMSGSIZE;
		}
	}
	pthread_mutex_unlock(&dev->event_lock);
	return ret;
}

UIOMMU_API unsigned uiommu_virtio_iommu_events(struct uiommu_virtio_iommu *dev)
{
	unsigned count;

	pthread_mutex_lock(&dev->event_lock);
	count = dev->event_head - dev->event_tail;
	pthread_mutex_unlock(&dev->event_lock);
	return count;
}

UIOMMU_API void uiommu_virtio_iommu_drop_events(struct uiommu_virtio_iommu *dev)
{
	pthread_mutex_lock(&dev->event_lock);
	dev->dropped += dev->event_head - dev->event_tail;
	dev->event_tail = dev->event_head;
	pthread_mutex_unlock(&dev->event_lock);
}

/* ---- endpoints ---- */

/* Are endpoints without a domain in bypass mode? */
static bool bypass_on(const struct uiommu_virtio_iommu *dev)
{
	if (dev->offered & F(BYPASS_CONFIG))
		return dev->config.bypass;
	return dev->accepted & F(BYPASS);
}

/* Give the endpoint the stage 1 that its state asks for. It has a slot: this cannot fail. */
static void endpoint_apply(struct uiommu_virtio_iommu *dev, const struct viommu_endpoint *endpoint)
{
	struct uiommu_stage1 *stage1;

	if (endpoint->domain)
		stage1 = endpoint->domain->stage1;
	else
		stage1 = bypass_on(dev) ? NULL : dev->wall;
	uiommu_unit_set_stage1(dev->unit, endpoint->rid, stage1);
}

static void apply_all(struct uiommu_virtio_iommu *dev)
{
	struct imap_pos pos;

	for (const struct imap_entry *e = imap_find(&dev->endpoints, 0, &pos); e;
	     e = imap_next(&pos))
		endpoint_apply(dev, e->tag);
}

struct viommu_endpoint *viommu_endpoint(struct uiommu_virtio_iommu *dev, uint32_t number)
{
	struct imap_pos pos;
	const struct imap_entry *e = imap_find(&dev->endpoints, number, &pos);

	return e && e->range.first == number ? e->tag : NULL;
}

static int add_endpoint(struct uiommu_virtio_iommu *dev, uiommu_rid rid)
{
	struct imap_entry entry = {.range = {rid, rid}};
	struct viommu_endpoint *endpoint;

	if (viommu_endpoint(dev, rid))
		return refuse(-EEXIST, "the endpoint is there already");
	endpoint = uiommu_alloc(sizeof(*endpoint));
	if (!endpoint)
		return refuse(-ENOMEM, "virtio-iommu endpoint");
	endpoint->rid = rid;
	entry.tag = endpoint;
	/* Whatever the ID needs is made here, if it is made at all. */
	if (uiommu_unit_set_stage1(dev->unit, rid, NULL) ||
	    imap_insert(&dev->endpoints, &entry, NULL)) {
		uiommu_free(endpoint, sizeof(*endpoint));
		return refuse(-ENOMEM, "virtio-iommu endpoint");
	}
	endpoint_apply(dev, endpoint);
	return 0;
}

UIOMMU_API int uiommu_virtio_iommu_add_endpoint(struct uiommu_virtio_iommu *dev, uiommu_rid rid)
{
	int ret;

	pthread_mutex_lock(&dev->lock);
	ret = add_endpoint(dev, rid);
	pthread_mutex_unlock(&dev->lock);
	return ret;
}

UIOMMU_API void uiommu_virtio_iommu_remove_endpoint(struct uiommu_virtio_iommu *dev, uiommu_rid rid)
{
	struct viommu_endpoint *endpoint;

	pthread_mutex_lock(&dev->lock);
	endpoint = viommu_endpoint(dev, rid);
	if (endpoint) {
		viommu_detach(dev, endpoint);
		uiommu_unit_set_stage1(dev->unit, rid, NULL);
		imap_erase(&dev->endpoints, rid);
		uiommu_free(endpoint, sizeof(*endpoint));
	}
	pthread_mutex_unlock(&dev->lock);
}

/* ---- domains ---- */

struct viommu_domain *viommu_domain(struct uiommu_virtio_iommu *dev, uint32_t number)
{
	struct imap_pos pos;
	const struct imap_entry *e = imap_find(&dev->domains, number, &pos);

	return e && e->range.first == number ? e->tag : NULL;
}

static void domain_free(struct viommu_domain *domain)
{
	uiommu_stage1_destroy(domain->stage1);
	uiommu_domain_destroy(domain->table);
	uiommu_ioas_destroy(domain->ioas);
	uiommu_free(domain, sizeof(*domain));
}

/* An IOAS and its page table. */
static int make_table(struct uiommu_virtio_iommu *dev, struct viommu_domain *domain)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options),
		.format = dev->format,
		.width = dev->width,
		.name = "virtio-iommu",
		.aperture = dev->aperture,
		.page_sizes = dev->page_sizes,
		.parent = dev->space,
	};
	int ret = uiommu_ioas_create(&domain->ioas);

	if (!ret)
		ret = uiommu_domain_create(dev->unit, domain->ioas, &options, &domain->table);
	return ret;
}

/* Nobody may map where the platform reserves. */
static int reserve_properties(struct uiommu_virtio_iommu *dev, struct uiommu_ioas *ioas)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < dev->property_count; i++)
		ret = uiommu_ioas_reserve(ioas, dev->properties[i].range,
					  dev->properties[i].msi ? UIOMMU_RESV_MSI
								 : UIOMMU_RESV_RESERVED,
					  dev, "the platform");
	return ret;
}

static int make_stage1(struct uiommu_virtio_iommu *dev, struct uiommu_domain *table,
		       struct uiommu_stage1 **out)
{
	const struct uiommu_stage1_options options = {
		.size = sizeof(options),
		.domain = table,
		.governed = dev->governed,
		.governor = dev->self,
		.pass = dev->pass,
		.pass_count = dev->pass_count,
		.fault = report_fault,
		.fault_ctx = dev,
	};

	return uiommu_stage1_create(dev->unit, &options, out);
}

int viommu_domain_create(struct uiommu_virtio_iommu *dev, uint32_t number, bool bypass,
			 struct viommu_domain **out)
{
	struct viommu_domain *domain = uiommu_alloc(sizeof(*domain));
	const struct imap_entry entry = {.range = {number, number}, .tag = domain};
	int ret = 0;

	if (!domain)
		return -ENOMEM;
	domain->number = number;
	domain->bypass = bypass;
	if (!bypass) {
		ret = make_table(dev, domain);
		if (!ret)
			ret = reserve_properties(dev, domain->ioas);
		if (!ret)
			ret = make_stage1(dev, domain->table, &domain->stage1);
	}
	if (!ret)
		ret = imap_insert(&dev->domains, &entry, NULL);
	if (ret) {
		domain_free(domain);
		return ret;
	}
	*out = domain;
	return 0;
}

void viommu_account(void *ctx, const struct uiommu_area *area)
{
	struct uiommu_virtio_iommu *dev = ctx;

	dev->mappings--;
	dev->entries -=
		viommu_entries(area->range, area->addr, le64toh(dev->config.page_size_mask));
}

static void domain_end(struct uiommu_virtio_iommu *dev, struct viommu_domain *domain)
{
	if (domain->ioas)
		uiommu_ioas_unmap(domain->ioas, UIOMMU_RANGE_ALL, NULL, viommu_account, dev);
	imap_erase(&dev->domains, domain->number);
	domain_free(domain);
}

void viommu_attach(struct uiommu_virtio_iommu *dev, struct viommu_endpoint *endpoint,
		   struct viommu_domain *domain)
{
	struct viommu_domain *old = endpoint->domain;

	if (domain)
		domain->endpoints++;
	endpoint->domain = domain;
	endpoint_apply(dev, endpoint);
	if (old && !--old->endpoints)
		domain_end(dev, old);
}

void viommu_detach(struct uiommu_virtio_iommu *dev, struct viommu_endpoint *endpoint)
{
	viommu_attach(dev, endpoint, NULL);
}

uint64_t viommu_entries(struct uiommu_range range, uint64_t addr, uint64_t sizes)
{
	uint64_t count = 0, differ = range.first ^ addr;

	/* Entries of the largest size that fits everywhere in between; the ends with smaller ones.
	 */
	while (sizes) {
		uint64_t size = UINT64_C(1) << (63 - __builtin_clzll(sizes)), first, end;

		sizes &= ~size;
		if (!sizes)
			return count + (range.last - range.first) / size + 1;
		if (differ & (size - 1))
			continue;
		first = (range.first + size - 1) & ~(size - 1);
		end = (range.last + 1) & ~(size - 1);
		if (first < range.first || end <= first)
			continue;
		count += (end - first) / size;
		if (first > range.first)
			count += viommu_entries((struct uiommu_range){range.first, first - 1}, addr,
						sizes);
		if (end > range.last)
			return count;
		addr += end - range.first;
		range.first = end;
	}
	return count;
}

/* ---- features and configuration ---- */

UIOMMU_API uint64_t uiommu_virtio_iommu_features(struct uiommu_virtio_iommu *dev)
{
	return dev->offered;
}

UIOMMU_API int uiommu_virtio_iommu_set_features(struct uiommu_virtio_iommu *dev, uint64_t accepted)
{
	if (accepted & ~dev->offered)
		return refuse(-EINVAL, "features that the device does not offer");
	pthread_mutex_lock(&dev->lock);
	dev->accepted = accepted;
	apply_all(dev);
	pthread_mutex_unlock(&dev->lock);
	return 0;
}

UIOMMU_API void uiommu_virtio_iommu_config_read(struct uiommu_virtio_iommu *dev, uint32_t offset,
						void *buf, size_t len)
{
	size_t n = offset < sizeof(dev->config) ? sizeof(dev->config) - offset : 0;

	if (n > len)
		n = len;
	pthread_mutex_lock(&dev->lock);
	if (n)
		memcpy(buf, (char *)&dev->config + offset, n);
	pthread_mutex_unlock(&dev->lock);
	if (len > n)
		memset((char *)buf + n, 0, len - n);
}

UIOMMU_API void uiommu_virtio_iommu_config_write(struct uiommu_virtio_iommu *dev, uint32_t offset,
						 const void *buf, size_t len)
{
	uint32_t at = offsetof(struct virtio_iommu_config, bypass);
	uint8_t value;

	if (offset > at || at - offset >= len)
		return;
	value = ((const uint8_t *)buf)[at - offset];
	pthread_mutex_lock(&dev->lock);
	if ((dev->accepted & F(BYPASS_CONFIG)) && value <= 1 && value != dev->config.bypass) {
		dev->config.bypass = value;
		apply_all(dev);
	}
	pthread_mutex_unlock(&dev->lock);
}

/* ---- life ---- */

static void detach_all(struct uiommu_virtio_iommu *dev)
{
	struct imap_pos pos;

	for (const struct imap_entry *e = imap_find(&dev->endpoints, 0, &pos); e;
	     e = imap_next(&pos))
		if (((struct viommu_endpoint *)e->tag)->domain)
			viommu_detach(dev, e->tag);
}

UIOMMU_API void uiommu_virtio_iommu_reset(struct uiommu_virtio_iommu *dev, bool system)
{
	pthread_mutex_lock(&dev->lock);
	dev->accepted = 0;
	if (system)
		dev->config.bypass = dev->bypass_initial;
	detach_all(dev);
	apply_all(dev);
	pthread_mutex_lock(&dev->event_lock);
	dev->event_tail = dev->event_head;
	pthread_mutex_unlock(&dev->event_lock);
	pthread_mutex_unlock(&dev->lock);
}

UIOMMU_API void uiommu_virtio_iommu_stats(struct uiommu_virtio_iommu *dev,
					  struct uiommu_virtio_iommu_stats *stats)
{
	pthread_mutex_lock(&dev->lock);
	*stats = (struct uiommu_virtio_iommu_stats){
		.requests = dev->requests,
		.refused = dev->refused,
		.bad = dev->bad,
		.domains = (uint32_t)dev->domains.count,
		.mappings = dev->mappings,
	};
	pthread_mutex_lock(&dev->event_lock);
	stats->events = dev->events;
	stats->dropped = dev->dropped;
	pthread_mutex_unlock(&dev->event_lock);
	pthread_mutex_unlock(&dev->lock);
}

static int take_features(struct uiommu_virtio_iommu *dev, uint64_t features)
{
	const uint64_t needed = F(INPUT_RANGE) | F(MAP_UNMAP),
		       either = F(BYPASS) | F(BYPASS_CONFIG);

	dev->offered = features ? features : FEATURES_DEFAULT;
	if ((dev->offered & ~FEATURES_ALL) || (dev->offered & needed) != needed ||
	    (dev->offered & either) == either)
		return refuse(-EINVAL, "virtio-iommu features");
	return 0;
}

/* What PROBE says of the platform's regions, and the windows for doorbells: those stand in the
 * space that the endpoints are attached to, at addresses of that space, and are reached there with
 * a virtio domain and without one. */
static int take_regions(struct uiommu_virtio_iommu *dev, const struct uiommu_platform_facts *facts)
{
	size_t room = viommu_property_room(facts->region_count);

	dev->property_room = room;
	dev->properties = uiommu_alloc_array(room, sizeof(*dev->properties));
	dev->pass = uiommu_alloc_array(room, sizeof(*dev->pass));
	if (!dev->properties || !dev->pass)
		return refuse(-ENOMEM, "virtio-iommu");
	dev->property_count =
		viommu_properties(facts->regions, facts->region_count, dev->properties);
	for (size_t i = 0; i < facts->region_count; i++)
		if (facts->regions[i].type == UIOMMU_RESV_SW_MSI &&
		    range_valid(facts->regions[i].range))
			dev->pass[dev->pass_count++] = facts->regions[i].range;
	return 0;
}

static int take_options(struct uiommu_virtio_iommu *dev,
			const struct uiommu_virtio_iommu_options *o)
{
	uint32_t last = o->domain_first || o->domain_last ? o->domain_last : UINT32_MAX;
	size_t room;
	int ret = take_features(dev, o->features);

	if (ret)
		return ret;
	if (last < o->domain_first)
		return refuse(-EINVAL, "virtio-iommu domain numbers");
	ret = take_regions(dev, o->facts);
	if (ret)
		return ret;
	room = viommu_properties_size(dev->property_count);
	dev->probe_size = o->probe_size ? o->probe_size : room > PROBE_LEAST ? room : PROBE_LEAST;
	if (dev->probe_size < room || dev->probe_size > PROBE_MOST)
		return refuse(-EINVAL, "virtio-iommu probe_size");
	dev->format = o->facts->format;
	dev->width = o->facts->width;
	dev->aperture = o->facts->aperture;
	dev->page_sizes = o->facts->page_sizes;
	dev->space = o->space;
	dev->governed = o->governed;
	dev->self = o->self;
	dev->max_mappings = o->max_mappings ? o->max_mappings : MAPPINGS_DEFAULT;
	dev->max_entries = o->max_entries ? o->max_entries : ENTRIES_DEFAULT;
	dev->event_fn = o->event;
	dev->event_ctx = o->event_ctx;
	dev->config.bypass = (dev->offered & F(BYPASS_CONFIG)) && o->bypass;
	dev->bypass_initial = dev->config.bypass;
	if (dev->offered & F(DOMAIN_RANGE)) {
		dev->config.domain_range.start = htole32(o->domain_first);
		dev->config.domain_range.end = htole32(last);
	}
	if (dev->offered & F(PROBE))
		dev->config.probe_size = htole32((uint32_t)dev->probe_size);
	dev->domain_first = dev->offered & F(DOMAIN_RANGE) ? o->domain_first : 0;
	dev->domain_last = dev->offered & F(DOMAIN_RANGE) ? last : UINT32_MAX;
	return 0;
}

static int refuse_format(void)
{
	return uiommu_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP,
			     "virtio-iommu needs a table format with pages, not windows",
			     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

/* What a domain of this device can do, from one that is made to look at it. Its driver expects to
 * map any page of one range: a table of windows has no such range. */
static int learn_limits(struct uiommu_virtio_iommu *dev)
{
	struct uiommu_domain_window window = {.size = sizeof(window)};
	struct viommu_domain trial = {0};
	struct uiommu_range range;
	size_t count = 1;
	int ret;

	if (!dev->format)
		return refuse_format();
	ret = make_table(dev, &trial);
	if (!ret && (!uiommu_domain_window_find(trial.table, 0, &window) ||
		     uiommu_ioas_ranges(trial.ioas, &range, &count) || count != 1))
		ret = refuse_format();
	if (!ret) {
		dev->input = range;
		dev->config.page_size_mask = htole64(uiommu_ioas_page_sizes(trial.ioas));
		dev->config.input_range.start = htole64(range.first);
		dev->config.input_range.end = htole64(range.last);
	}
	uiommu_domain_destroy(trial.table);
	uiommu_ioas_destroy(trial.ioas);
	return ret;
}

static void dev_free(struct uiommu_virtio_iommu *dev)
{
	uiommu_stage1_destroy(dev->wall);
	uiommu_free(dev->pass, dev->property_room * sizeof(*dev->pass));
	uiommu_free(dev->properties, dev->property_room * sizeof(*dev->properties));
	pthread_mutex_destroy(&dev->event_lock);
	pthread_mutex_destroy(&dev->lock);
	uiommu_free(dev, sizeof(*dev));
}

UIOMMU_API int uiommu_virtio_iommu_create(struct uiommu_unit *unit,
					  const struct uiommu_virtio_iommu_options *options,
					  struct uiommu_virtio_iommu **out)
{
	struct uiommu_virtio_iommu *dev;
	int ret;

	if (!options || options->size != sizeof(*options) || !options->facts)
		return refuse(options && options->size > sizeof(*options) ? -E2BIG : -EINVAL,
			      "virtio-iommu options");
	dev = uiommu_alloc(sizeof(*dev));
	if (!dev)
		return refuse(-ENOMEM, "virtio-iommu");
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->event_lock, NULL);
	dev->unit = unit;
	ret = take_options(dev, options);
	if (!ret)
		ret = learn_limits(dev);
	if (!ret)
		ret = make_stage1(dev, NULL, &dev->wall);
	if (ret) {
		dev_free(dev);
		return ret;
	}
	*out = dev;
	return 0;
}

UIOMMU_API void uiommu_virtio_iommu_destroy(struct uiommu_virtio_iommu *dev)
{
	struct imap_pos pos;

	if (!dev)
		return;
	while (imap_find(&dev->endpoints, 0, &pos))
		uiommu_virtio_iommu_remove_endpoint(dev, (uiommu_rid)pos.entry.range.first);
	dev_free(dev);
}
