/* SPDX-License-Identifier: MIT */
/*
 * The driver side of virtio over PCI, for tests: written from the specification (virtio 1.3, 2.7
 * and 4.1) without any of the device's code or headers, so that both have to mean the same. How
 * configuration space and BARs are reached, and how one waits, is the test's.
 *
 * One thread. Nothing here checks: answers are given to the test as they are.
 */
#ifndef TEST_VIRTIO_DRIVER_H
#define TEST_VIRTIO_DRIVER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct vdrv_ops {
	uint32_t (*cfg_read)(void *ctx, unsigned offset, unsigned len);
	void (*cfg_write)(void *ctx, unsigned offset, unsigned len, uint32_t value);
	uint64_t (*bar_read)(void *ctx, unsigned bar, uint64_t offset, unsigned len);
	void (*bar_write)(void *ctx, unsigned bar, uint64_t offset, unsigned len, uint64_t value);
	/* Wait until the used index at *idx is not old any more; false: in vain. */
	bool (*wait)(void *ctx, const uint16_t *idx, uint16_t old);
};

enum { VD_COMMON = 1, VD_NOTIFY, VD_ISR, VD_DEVICE, VD_WINDOW };
enum { VD_ACK = 1, VD_DRIVER = 2, VD_DRIVER_OK = 4, VD_FEATURES_OK = 8, VD_NEEDS_RESET = 64 };
enum { VD_NEXT = 1, VD_WRITE = 2, VD_INDIRECT = 4 };
enum { VD_SIZE = 16, VD_QUEUES = 2 };
#define VD_F_INDIRECT  (UINT64_C(1) << 28)
#define VD_F_EVENT_IDX (UINT64_C(1) << 29)
#define VD_F_VERSION_1 (UINT64_C(1) << 32)
#define VD_F_PLATFORM  (UINT64_C(1) << 33)

struct vd_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct vd_avail {
	uint16_t flags, idx, ring[VD_SIZE], used_event;
};

struct vd_used {
	uint16_t flags, idx;
	struct {
		uint32_t id, len;
	} ring[VD_SIZE];
	uint16_t avail_event;
};

/* What lies in memory that the device reaches, one page a part. */
struct vd_queue_memory {
	_Alignas(4096) struct vd_desc desc[VD_SIZE];
	_Alignas(4096) struct vd_avail avail;
	_Alignas(4096) struct vd_used used;
	_Alignas(4096) struct vd_desc table[VD_SIZE]; /* for an indirect chain */
	_Alignas(4096) uint8_t buffer[4096];
};

struct vd_memory {
	struct vd_queue_memory queue[VD_QUEUES];
};

struct vdrv {
	const struct vdrv_ops *ops;
	void *ctx;
	struct vd_memory *mem;
	uint64_t iova; /* of mem, as the device knows it */
	uint64_t features;
	struct {
		unsigned cap, bar;
		uint32_t offset, len;
	} part[6];
	uint32_t multiplier;
	uint16_t seen[VD_QUEUES]; /* used indices that were taken */
};

static inline uint64_t vd_iova(const struct vdrv *d, const void *at)
{
	return d->iova + (uint64_t)((const char *)at - (const char *)d->mem);
}

static inline uint64_t vd_get(const struct vdrv *d, unsigned part, unsigned offset, unsigned len)
{
	return d->ops->bar_read(d->ctx, d->part[part].bar, d->part[part].offset + offset, len);
}

static inline void vd_set(const struct vdrv *d, unsigned part, unsigned offset, unsigned len,
			  uint64_t value)
{
	d->ops->bar_write(d->ctx, d->part[part].bar, d->part[part].offset + offset, len, value);
}

/* Find the parts through the capabilities: how many kinds there are. */
static inline unsigned vd_find(struct vdrv *d)
{
	unsigned found = 0, at = d->ops->cfg_read(d->ctx, 0x34, 1);

	for (unsigned steps = 0; at && steps < 48; steps++) {
		unsigned type = d->ops->cfg_read(d->ctx, at + 3, 1);

		if (d->ops->cfg_read(d->ctx, at, 1) == 9 && type >= 1 && type <= 5 &&
		    !d->part[type].cap) {
			d->part[type].cap = at;
			d->part[type].bar = d->ops->cfg_read(d->ctx, at + 4, 1);
			d->part[type].offset = d->ops->cfg_read(d->ctx, at + 8, 4);
			d->part[type].len = d->ops->cfg_read(d->ctx, at + 12, 4);
			if (type == VD_NOTIFY)
				d->multiplier = d->ops->cfg_read(d->ctx, at + 16, 4);
			found++;
		}
		at = d->ops->cfg_read(d->ctx, at + 1, 1);
	}
	return found;
}

static inline uint8_t vd_status(const struct vdrv *d)
{
	return (uint8_t)vd_get(d, VD_COMMON, 20, 1);
}

static inline void vd_set_status(const struct vdrv *d, uint8_t status)
{
	vd_set(d, VD_COMMON, 20, 1, status);
}

static inline uint64_t vd_offered(const struct vdrv *d)
{
	uint64_t features = 0;

	for (unsigned i = 0; i < 2; i++) {
		vd_set(d, VD_COMMON, 0, 4, i);
		features |= vd_get(d, VD_COMMON, 4, 4) << (32 * i);
	}
	return features;
}

/* Up to FEATURES_OK: the status that is read back. */
static inline uint8_t vd_negotiate(struct vdrv *d, uint64_t features)
{
	vd_set_status(d, 0);
	vd_set_status(d, VD_ACK);
	vd_set_status(d, VD_ACK | VD_DRIVER);
	for (unsigned i = 0; i < 2; i++) {
		vd_set(d, VD_COMMON, 8, 4, i);
		vd_set(d, VD_COMMON, 12, 4, (uint32_t)(features >> (32 * i)));
	}
	d->features = features;
	vd_set_status(d, VD_ACK | VD_DRIVER | VD_FEATURES_OK);
	return vd_status(d);
}

/* Set one queue up with an MSI-X vector (0xffff: none); @enable it. */
static inline void vd_queue(struct vdrv *d, unsigned queue, uint16_t vector, bool enable)
{
	struct vd_queue_memory *m = &d->mem->queue[queue];
	const void *areas[3] = {m->desc, &m->avail, &m->used};

	memset(m, 0, sizeof(*m));
	d->seen[queue] = 0;
	vd_set(d, VD_COMMON, 22, 2, queue);
	vd_set(d, VD_COMMON, 24, 2, VD_SIZE);
	vd_set(d, VD_COMMON, 26, 2, vector);
	for (unsigned i = 0; i < 3; i++) {
		vd_set(d, VD_COMMON, 32 + 8 * i, 4, (uint32_t)vd_iova(d, areas[i]));
		vd_set(d, VD_COMMON, 36 + 8 * i, 4, vd_iova(d, areas[i]) >> 32);
	}
	if (enable)
		vd_set(d, VD_COMMON, 28, 2, 1);
}

static inline void vd_go(struct vdrv *d)
{
	vd_set_status(d, VD_ACK | VD_DRIVER | VD_FEATURES_OK | VD_DRIVER_OK);
}

static inline void vd_notify(const struct vdrv *d, unsigned queue)
{
	unsigned off;

	vd_set(d, VD_COMMON, 22, 2, queue);
	off = (unsigned)vd_get(d, VD_COMMON, 30, 2);
	vd_set(d, VD_NOTIFY, off * d->multiplier, 2, queue);
}

/* Make the chain that begins with @head available. */
static inline void vd_offer(struct vdrv *d, unsigned queue, uint16_t head)
{
	struct vd_avail *avail = &d->mem->queue[queue].avail;

	avail->ring[avail->idx % VD_SIZE] = head;
	__atomic_store_n(&avail->idx, (uint16_t)(avail->idx + 1), __ATOMIC_RELEASE);
	vd_notify(d, queue);
}

/* Wait for the next used buffer: its length, or -1. */
static inline int64_t vd_take(struct vdrv *d, unsigned queue, uint32_t *id)
{
	struct vd_used *used = &d->mem->queue[queue].used;
	uint16_t seen = d->seen[queue];

	if (!d->ops->wait(d->ctx, &used->idx, seen))
		return -1;
	d->seen[queue]++;
	*id = used->ring[seen % VD_SIZE].id;
	__atomic_store_n(&d->mem->queue[queue].avail.used_event, d->seen[queue], __ATOMIC_RELAXED);
	return used->ring[seen % VD_SIZE].len;
}

/* Lay out one chain, readable pieces first, of at most @piece bytes each; from @table's first entry
 * on. How many descriptors it took. */
static inline unsigned vd_chain(struct vdrv *d, struct vd_desc *table, uint64_t in, size_t in_len,
				uint64_t out, size_t out_len, size_t piece)
{
	unsigned n = 0;

	while (in_len + out_len) {
		bool writable = !in_len;
		uint64_t *from = writable ? &out : &in;
		size_t *left = writable ? &out_len : &in_len, len = *left < piece ? *left : piece;

		table[n] = (struct vd_desc){.addr = *from,
					    .len = (uint32_t)len,
					    .flags = (writable ? VD_WRITE : 0) | VD_NEXT,
					    .next = (uint16_t)(n + 1)};
		*from += len;
		*left -= len;
		n++;
	}
	if (n)
		table[n - 1].flags &= (uint16_t)~VD_NEXT;
	return n;
}

/* One request with its buffers cut into pieces, in an indirect table if asked: the used length, or
 * -1. @out gets what the device wrote. */
static inline int64_t vd_request(struct vdrv *d, const void *in, size_t in_len, void *out,
				 size_t out_len, size_t piece, bool indirect)
{
	struct vd_queue_memory *m = &d->mem->queue[0];
	uint8_t *answer = m->buffer + 2048;
	unsigned n;
	uint32_t id = 0;
	int64_t len;

	memcpy(m->buffer, in, in_len);
	memset(answer, 0xaa, 2048);
	n = vd_chain(d, indirect ? m->table : m->desc, vd_iova(d, m->buffer), in_len,
		     vd_iova(d, answer), out_len, piece);
	if (indirect)
		m->desc[0] = (struct vd_desc){.addr = vd_iova(d, m->table),
					      .len = n * (uint32_t)sizeof(struct vd_desc),
					      .flags = VD_INDIRECT};
	vd_offer(d, 0, 0);
	len = vd_take(d, 0, &id);
	memcpy(out, answer, out_len);
	return id ? -1 : len; /* it must be the chain that was offered */
}

/* ---- virtio-iommu's requests: the status, or -1 ---- */

static inline int vd_simple(struct vdrv *d, const uint32_t *words, size_t count)
{
	uint8_t status[4];
	int64_t len = vd_request(d, words, 4 * count, status, 4, 4096, false);

	return len == 4 ? status[0] : -1;
}

static inline int vd_attach(struct vdrv *d, uint32_t domain, uint32_t endpoint, uint32_t flags)
{
	return vd_simple(d, (uint32_t[]){1, domain, endpoint, flags, 0}, 5);
}

static inline int vd_detach(struct vdrv *d, uint32_t domain, uint32_t endpoint)
{
	return vd_simple(d, (uint32_t[]){2, domain, endpoint, 0, 0}, 5);
}

static inline int vd_map(struct vdrv *d, uint32_t domain, uint64_t first, uint64_t last,
			 uint64_t phys, uint32_t flags)
{
	return vd_simple(d,
			 (uint32_t[]){3, domain, (uint32_t)first, (uint32_t)(first >> 32),
				      (uint32_t)last, (uint32_t)(last >> 32), (uint32_t)phys,
				      (uint32_t)(phys >> 32), flags},
			 9);
}

static inline int vd_unmap(struct vdrv *d, uint32_t domain, uint64_t first, uint64_t last)
{
	return vd_simple(d,
			 (uint32_t[]){4, domain, (uint32_t)first, (uint32_t)(first >> 32),
				      (uint32_t)last, (uint32_t)(last >> 32), 0},
			 7);
}

#endif
