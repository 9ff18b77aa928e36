/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueues from the device's side (virtio 1.3, 2.7 "Split Virtqueues"), with indirect
 * descriptors and event indices. All memory is reached through the function's port.
 *
 * Nothing of the driver's is believed: an index further ahead than the queue is long, a descriptor
 * outside of its table, a chain longer than the queue, which a loop is, a readable buffer behind a
 * writable one, a table inside a table, and ring memory that faults break the device until it is
 * reset. A buffer that faults is the request's own trouble. Each value is read once.
 *
 * A chain has at most as many descriptors as the queue: looking through it takes bounded time.
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

#include "device/virtqueue.h"

/* Offsets in the driver's and the device's parts. */
enum { AVAIL_FLAGS = 0, AVAIL_IDX = 2, AVAIL_RING = 4 };
enum { USED_IDX = 2, USED_RING = 4 };

static struct virtio_pci *state(struct uiommu_function *fn)
{
	return uiommu_function_state(fn);
}

static bool has(struct virtio_pci *vp, unsigned feature)
{
	return vp->driver_features >> feature & 1;
}

static int read16(struct uiommu_function *fn, uint64_t iova, uint16_t *value)
{
	int error = uiommu_function_dma_read(fn, iova, value, sizeof(*value));

	*value = le16toh(*value);
	return error;
}

static int write16(struct uiommu_function *fn, uint64_t iova, uint16_t value)
{
	value = htole16(value);
	return uiommu_function_dma_write(fn, iova, &value, sizeof(value));
}

/* Where the driver says from which index on it wants to hear of used buffers, and the device from
 * which on it wants to be notified of available ones. */
static uint64_t used_event(const struct virtq *q)
{
	return q->driver + AVAIL_RING + UINT64_C(2) * q->size;
}

static uint64_t avail_event(const struct virtq *q)
{
	return q->device + USED_RING + sizeof(struct vring_used_elem) * q->size;
}

static int broken(struct uiommu_function *fn)
{
	virtio_pci_broken(fn);
	return -EIO;
}

/* ---- taking a chain apart ---- */

/* A table of descriptors: the queue's own or an indirect one. */
struct desc_table {
	uint64_t addr;
	uint32_t count;
	bool indirect;
};

static int read_desc(struct uiommu_function *fn, const struct desc_table *table, uint32_t index,
		     struct vring_desc *desc)
{
	if (index >= table->count ||
	    uiommu_function_dma_read(fn, table->addr + index * sizeof(*desc), desc, sizeof(*desc)))
		return -EIO;
	desc->addr = le64toh(desc->addr);
	desc->len = le32toh(desc->len);
	desc->flags = le16toh(desc->flags);
	desc->next = le16toh(desc->next);
	return 0;
}

static int add_segment(struct virtio_chain *chain, const struct vring_desc *desc, unsigned most)
{
	bool writable = desc->flags & VRING_DESC_F_WRITE;

	if (chain->count == most || (!writable && chain->readable != chain->count))
		return -EIO;
	chain->segment[chain->count].addr = desc->addr;
	chain->segment[chain->count].len = desc->len;
	chain->count++;
	chain->readable += !writable;
	if (writable)
		chain->out_len += desc->len;
	else
		chain->in_len += desc->len;
	return 0;
}

/* Go on in the table that a descriptor points to: the last of its chain. */
static int enter_indirect(struct virtio_pci *vp, const struct vring_desc *desc,
			  struct desc_table *table)
{
	if (table->indirect || !has(vp, VIRTIO_RING_F_INDIRECT_DESC) ||
	    (desc->flags & VRING_DESC_F_NEXT) || !desc->len ||
	    desc->len % sizeof(struct vring_desc))
		return -EIO;
	*table = (struct desc_table){desc->addr, desc->len / sizeof(struct vring_desc), true};
	return 0;
}

static int walk(struct uiommu_function *fn, const struct virtq *q, struct virtio_chain *chain)
{
	struct desc_table table = {q->desc, q->size, false};
	uint32_t index = chain->head;
	struct vring_desc desc;

	for (;;) {
		if (read_desc(fn, &table, index, &desc))
			return -EIO;
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			if (enter_indirect(state(fn), &desc, &table))
				return -EIO;
			index = 0;
			continue;
		}
		if (add_segment(chain, &desc, q->size))
			return -EIO;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
		index = desc.next;
	}
}

/* The driver's index; with event indices the device asks, when it has caught up, to be told of the
 * next, and looks once more, lest that came in between. */
static int read_avail(struct uiommu_function *fn, const struct virtq *q, uint16_t *avail)
{
	if (read16(fn, q->driver + AVAIL_IDX, avail))
		return -EIO;
	if (*avail == q->next_avail && has(state(fn), VIRTIO_RING_F_EVENT_IDX)) {
		if (write16(fn, avail_event(q), q->next_avail))
			return -EIO;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (read16(fn, q->driver + AVAIL_IDX, avail))
			return -EIO;
	}
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return (uint16_t)(*avail - q->next_avail) > q->size ? -EIO : 0;
}

int virtio_pci_pop(struct uiommu_function *fn, unsigned queue, struct virtio_chain *chain)
{
	struct virtio_pci *vp = state(fn);
	struct virtq *q = &vp->queue[queue];
	uint16_t avail;

	if (!q->enabled || !(vp->status & VIRTIO_CONFIG_S_FEATURES_OK) ||
	    !(vp->status & VIRTIO_CONFIG_S_DRIVER_OK) || (vp->status & VIRTIO_CONFIG_S_NEEDS_RESET))
		return 0;
	if (read_avail(fn, q, &avail))
		return broken(fn);
	if (avail == q->next_avail)
		return 0;
	chain->count = chain->readable = 0;
	chain->in_len = chain->out_len = 0;
	if (read16(fn, q->driver + AVAIL_RING + UINT64_C(2) * (q->next_avail & (q->size - 1)),
		   &chain->head) ||
	    walk(fn, q, chain))
		return broken(fn);
	q->next_avail++;
	return 1;
}

/* ---- buffers ---- */

int virtio_pci_chain_read(struct uiommu_function *fn, const struct virtio_chain *chain, void *buf,
			  unsigned len)
{
	unsigned done = 0;

	for (unsigned i = 0; i < chain->readable && done < len; i++) {
		unsigned piece = chain->segment[i].len;

		if (piece > len - done)
			piece = len - done;
		if (uiommu_function_dma_read(fn, chain->segment[i].addr, (char *)buf + done, piece))
			return -EFAULT;
		done += piece;
	}
	return (int)done;
}

int virtio_pci_chain_write(struct uiommu_function *fn, const struct virtio_chain *chain,
			   const void *buf, unsigned len)
{
	const char *from = buf;

	for (unsigned i = chain->readable; i < chain->count && len; i++) {
		unsigned piece = chain->segment[i].len;

		if (piece > len)
			piece = len;
		if (uiommu_function_dma_write(fn, chain->segment[i].addr, from, piece))
			return -EFAULT;
		from += piece;
		len -= piece;
	}
	return 0;
}

/* ---- giving it back ---- */

/* Does the driver want to hear that the index moved to now? -EIO: its memory is not there. */
static int wants_interrupt(struct uiommu_function *fn, const struct virtq *q, uint16_t now)
{
	uint16_t value;

	if (has(state(fn), VIRTIO_RING_F_EVENT_IDX)) {
		if (read16(fn, used_event(q), &value))
			return -EIO;
		return value == (uint16_t)(now - 1);
	}
	if (read16(fn, q->driver + AVAIL_FLAGS, &value))
		return -EIO;
	return !(value & VRING_AVAIL_F_NO_INTERRUPT);
}

void virtio_pci_push(struct uiommu_function *fn, unsigned queue, const struct virtio_chain *chain,
		     uint32_t written)
{
	struct virtq *q = &state(fn)->queue[queue];
	const struct vring_used_elem elem = {.id = htole32(chain->head), .len = htole32(written)};
	uint64_t at = q->device + USED_RING + sizeof(elem) * (q->next_used & (q->size - 1));
	int wanted;

	if (uiommu_function_dma_write(fn, at, &elem, sizeof(elem))) {
		virtio_pci_broken(fn);
		return;
	}
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (write16(fn, q->device + USED_IDX, ++q->next_used)) {
		virtio_pci_broken(fn);
		return;
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wanted = wants_interrupt(fn, q, q->next_used);
	if (wanted < 0)
		virtio_pci_broken(fn);
	else if (wanted)
		virtio_pci_interrupt(fn, queue);
}
