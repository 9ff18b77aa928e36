/* SPDX-License-Identifier: MIT */
/*
 * virtio-iommu's requests: taken apart, checked in the order that <uiommu/virtio_iommu.h> gives,
 * and carried out.
 *
 * The device-readable part is copied once, then looked at; nothing of it is believed. A request is
 * done whole or not at all, and only if its status can be written. dev->lock is held throughout.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "abi/virtio_iommu.h"
#include "util/range.h"

/* A device-readable part, as much of it as a request can have. */
union readable {
	struct virtio_iommu_req_head head;
	struct virtio_iommu_req_attach attach;
	struct virtio_iommu_req_detach detach;
	struct virtio_iommu_req_map map;
	struct virtio_iommu_req_unmap unmap;
	struct virtio_iommu_req_probe probe;
	uint8_t bytes[UIOMMU_VIRTIO_IOMMU_REQUEST];
};

static bool accepted(const struct uiommu_virtio_iommu *dev, unsigned feature)
{
	return dev->accepted >> feature & 1;
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
	while (len--)
		if (bytes[len])
			return false;
	return true;
}

/* For what the engine says when a request's arguments were found good. */
static uint8_t status_of(int error)
{
	switch (error) {
	case 0:
		return VIRTIO_IOMMU_S_OK;
	case -ENOMEM:
		return VIRTIO_IOMMU_S_NOMEM;
	case -EINVAL:
	case -EEXIST:
		return VIRTIO_IOMMU_S_INVAL;
	case -EOVERFLOW:
		return VIRTIO_IOMMU_S_RANGE;
	default:
		return VIRTIO_IOMMU_S_DEVERR;
	}
}

static uint8_t do_attach(struct uiommu_virtio_iommu *dev, const struct virtio_iommu_req_attach *req)
{
	uint32_t number = le32toh(req->domain), flags = le32toh(req->flags);
	bool bypass = flags & VIRTIO_IOMMU_ATTACH_F_BYPASS;
	struct viommu_endpoint *endpoint;
	struct viommu_domain *domain;
	int ret;

	if (!all_zero(req->reserved, sizeof(req->reserved)))
		return VIRTIO_IOMMU_S_INVAL;
	if ((flags & ~(uint32_t)VIRTIO_IOMMU_ATTACH_F_BYPASS) ||
	    (bypass && !accepted(dev, VIRTIO_IOMMU_F_BYPASS_CONFIG)))
		return VIRTIO_IOMMU_S_INVAL;
	if (number < dev->domain_first || number > dev->domain_last)
		return VIRTIO_IOMMU_S_RANGE;
	endpoint = viommu_endpoint(dev, le32toh(req->endpoint));
	if (!endpoint)
		return VIRTIO_IOMMU_S_NOENT;
	domain = viommu_domain(dev, number);
	if (domain && domain->bypass != bypass)
		return VIRTIO_IOMMU_S_INVAL;
	if (domain && endpoint->domain == domain)
		return VIRTIO_IOMMU_S_OK;
	if (!domain) {
		ret = viommu_domain_create(dev, number, bypass, &domain);
		if (ret)
			return status_of(ret);
	}
	viommu_attach(dev, endpoint, domain);
	return VIRTIO_IOMMU_S_OK;
}

static uint8_t do_detach(struct uiommu_virtio_iommu *dev, const struct virtio_iommu_req_detach *req)
{
	struct viommu_endpoint *endpoint = viommu_endpoint(dev, le32toh(req->endpoint));

	if (!endpoint)
		return VIRTIO_IOMMU_S_NOENT;
	if (!endpoint->domain || endpoint->domain->number != le32toh(req->domain))
		return VIRTIO_IOMMU_S_INVAL;
	viommu_detach(dev, endpoint);
	return VIRTIO_IOMMU_S_OK;
}

static uint8_t check_map_flags(const struct uiommu_virtio_iommu *dev, uint32_t flags)
{
	uint32_t known = VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE;

	if (accepted(dev, VIRTIO_IOMMU_F_MMIO))
		known |= VIRTIO_IOMMU_MAP_F_MMIO;
	if ((flags & ~known) || !(flags & (VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE)))
		return VIRTIO_IOMMU_S_INVAL;
	return VIRTIO_IOMMU_S_OK;
}

static uint8_t check_map_range(const struct uiommu_virtio_iommu *dev, struct uiommu_range range,
			       uint64_t addr)
{
	uint64_t sizes = le64toh(dev->config.page_size_mask), mask = (sizes & -sizes) - 1;

	if (!range_valid(range))
		return VIRTIO_IOMMU_S_INVAL;
	if ((range.first | addr | (range.last + 1)) & mask)
		return VIRTIO_IOMMU_S_RANGE;
	if (!range_contains(dev->input, range))
		return VIRTIO_IOMMU_S_RANGE;
	return VIRTIO_IOMMU_S_OK;
}

/* Is nothing mapped or reserved there? Asked before the limits are, so that they don't hide it. */
static bool range_free(const struct uiommu_virtio_iommu *dev, struct uiommu_ioas *ioas,
		       struct uiommu_range range)
{
	struct uiommu_area area;

	for (size_t i = 0; i < dev->property_count; i++)
		if (range_overlaps(dev->properties[i].range, range))
			return false;
	return uiommu_ioas_find(ioas, range.first, &area) || area.range.first > range.last;
}

/* Memory type flags change nothing: every access is carried out as it comes. */
static uint8_t do_map(struct uiommu_virtio_iommu *dev, const struct virtio_iommu_req_map *req)
{
	struct uiommu_range range = {le64toh(req->virt_start), le64toh(req->virt_end)};
	uint64_t addr = le64toh(req->phys_start), entries;
	uint32_t flags = le32toh(req->flags);
	struct viommu_domain *domain;
	int ret, prot = (flags & VIRTIO_IOMMU_MAP_F_READ ? UIOMMU_READ : 0) |
			(flags & VIRTIO_IOMMU_MAP_F_WRITE ? UIOMMU_WRITE : 0);
	uint8_t status = check_map_flags(dev, flags);

	if (!status)
		status = check_map_range(dev, range, addr);
	if (status)
		return status;
	domain = viommu_domain(dev, le32toh(req->domain));
	if (!domain)
		return VIRTIO_IOMMU_S_NOENT;
	if (domain->bypass)
		return VIRTIO_IOMMU_S_INVAL;
	if (addr + (range.last - range.first) < addr)
		return VIRTIO_IOMMU_S_RANGE;
	entries = viommu_entries(range, addr, le64toh(dev->config.page_size_mask));
	if (!range_free(dev, domain->ioas, range))
		return VIRTIO_IOMMU_S_INVAL;
	if (dev->mappings == dev->max_mappings || entries > dev->max_entries - dev->entries)
		return VIRTIO_IOMMU_S_NOMEM;
	ret = uiommu_ioas_map(domain->ioas, range, addr, prot, NULL);
	if (ret)
		return status_of(ret);
	dev->mappings++;
	dev->entries += entries;
	return VIRTIO_IOMMU_S_OK;
}

static uint8_t do_unmap(struct uiommu_virtio_iommu *dev, const struct virtio_iommu_req_unmap *req)
{
	struct uiommu_range range = {le64toh(req->virt_start), le64toh(req->virt_end)};
	struct viommu_domain *domain;

	if (!all_zero(req->reserved, sizeof(req->reserved)))
		return VIRTIO_IOMMU_S_INVAL;
	domain = viommu_domain(dev, le32toh(req->domain));
	if (!domain)
		return VIRTIO_IOMMU_S_NOENT;
	if (domain->bypass || !range_valid(range))
		return VIRTIO_IOMMU_S_INVAL;
	/* It fails for one reason only. */
	if (uiommu_ioas_unmap(domain->ioas, range, NULL, viommu_account, dev))
		return VIRTIO_IOMMU_S_RANGE;
	return VIRTIO_IOMMU_S_OK;
}

static uint8_t do_probe(struct uiommu_virtio_iommu *dev, const struct virtio_iommu_req_probe *req,
			uint8_t *properties, size_t len)
{
	if (len < dev->probe_size)
		return VIRTIO_IOMMU_S_INVAL;
	if (!viommu_endpoint(dev, le32toh(req->endpoint)))
		return VIRTIO_IOMMU_S_NOENT;
	viommu_properties_write(dev->properties, dev->property_count, properties, dev->probe_size);
	return VIRTIO_IOMMU_S_OK;
}

/* Bytes of the device-readable part of a request; 0: there is no such request. */
static size_t readable_size(const struct uiommu_virtio_iommu *dev, uint8_t type)
{
	size_t tail = sizeof(struct virtio_iommu_req_tail);

	switch (type) {
	case VIRTIO_IOMMU_T_ATTACH:
		return sizeof(struct virtio_iommu_req_attach) - tail;
	case VIRTIO_IOMMU_T_DETACH:
		return sizeof(struct virtio_iommu_req_detach) - tail;
	case VIRTIO_IOMMU_T_MAP:
		return sizeof(struct virtio_iommu_req_map) - tail;
	case VIRTIO_IOMMU_T_UNMAP:
		return sizeof(struct virtio_iommu_req_unmap) - tail;
	case VIRTIO_IOMMU_T_PROBE:
		return accepted(dev, VIRTIO_IOMMU_F_PROBE) ? sizeof(struct virtio_iommu_req_probe)
							   : 0;
	default:
		return 0;
	}
}

static uint8_t carry_out(struct uiommu_virtio_iommu *dev, const union readable *req, uint8_t *out,
			 size_t properties)
{
	switch (req->head.type) {
	case VIRTIO_IOMMU_T_ATTACH:
		return do_attach(dev, &req->attach);
	case VIRTIO_IOMMU_T_DETACH:
		return do_detach(dev, &req->detach);
	case VIRTIO_IOMMU_T_PROBE:
		return do_probe(dev, &req->probe, out, properties);
	}
	if (!accepted(dev, VIRTIO_IOMMU_F_MAP_UNMAP))
		return VIRTIO_IOMMU_S_UNSUPP;
	return req->head.type == VIRTIO_IOMMU_T_MAP ? do_map(dev, &req->map)
						    : do_unmap(dev, &req->unmap);
}

/* The tail's place in out, which has room for it: behind the properties, if there are to be any. */
static size_t tail_offset(const struct uiommu_virtio_iommu *dev, uint8_t type, size_t out_len)
{
	size_t most = out_len - sizeof(struct virtio_iommu_req_tail);

	if (type != VIRTIO_IOMMU_T_PROBE)
		return 0;
	return dev->probe_size < most ? dev->probe_size : most;
}

static int request_locked(struct uiommu_virtio_iommu *dev, const union readable *req, size_t in_len,
			  uint8_t *out, size_t out_len, size_t *written)
{
	struct virtio_iommu_req_tail tail = {0};
	size_t need, at;

	need = in_len < sizeof(req->head) ? 0 : readable_size(dev, req->head.type);
	if (!need || out_len < sizeof(tail)) {
		dev->bad++;
		return -EBADMSG;
	}
	at = tail_offset(dev, req->head.type, out_len);
	tail.status = in_len < need ? VIRTIO_IOMMU_S_INVAL : carry_out(dev, req, out, at);
	/* Properties that were not written read as none. */
	if (at && tail.status)
		memset(out, 0, at);
	memcpy(out + at, &tail, sizeof(tail));
	*written = at + sizeof(tail);
	dev->requests++;
	dev->refused += tail.status != VIRTIO_IOMMU_S_OK;
	return 0;
}

UIOMMU_API int uiommu_virtio_iommu_request(struct uiommu_virtio_iommu *dev, const void *in,
					   size_t in_len, void *out, size_t out_len,
					   size_t *written)
{
	union readable req = {.bytes = {0}};
	int ret;

	if (in_len)
		memcpy(&req, in, in_len < sizeof(req) ? in_len : sizeof(req));
	*written = 0;
	pthread_mutex_lock(&dev->lock);
	ret = request_locked(dev, &req, in_len, out, out_len, written);
	pthread_mutex_unlock(&dev->lock);
	return ret;
}
