/* SPDX-License-Identifier: MIT */
/*
 * Queues of the NVMe controller: doorbells, shadow doorbells, completions and their interrupts.
 *
 * Invariants: heads and tails are inside their queue; a submission queue's bit in pending is set as
 * long as its head is not its tail. A completion queue never gets more entries than its host has
 * room for: who posts has asked nvme_cq_full() before. An entry is written as two words of eight
 * bytes, the one with the phase bit last, so that a host which polls never sees half of it.
 *
 * Interrupts: with MSI-X and MSI one is sent for the entries of one step, or held back by
 * coalescing (5.21.1.8); INTx is asserted while a queue that interrupts holds entries.
 *
 * A queue whose memory faults is fatal: there is no place left to report it.
 */
#include <endian.h>
#include <string.h>

#include "device/models/nvme/nvme.h"

/* Coalescing time is in units of 100 µs. */
#define COALESCING_NS 100000u

static void bit_set(uint64_t *bits, unsigned i, bool on)
{
	if (on)
		bits[i / 64] |= UINT64_C(1) << (i % 64);
	else
		bits[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

static bool bit_get(const uint64_t *bits, unsigned i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

void nvme_queues_reset(struct nvme *n)
{
	memset(n->sq, 0, sizeof(n->sq));
	memset(n->cq, 0, sizeof(n->cq));
	memset(n->pending, 0, sizeof(n->pending));
	memset(n->signal, 0, sizeof(n->signal));
	n->next = 0;
	n->raised = false;
	uiommu_function_lower(n->fn);
}

bool nvme_sq_empty(const struct nvme_sq *sq)
{
	return sq->head == sq->tail;
}

bool nvme_cq_full(const struct nvme_cq *cq)
{
	return (cq->tail + 1 == cq->entries ? 0 : cq->tail + 1) == cq->head;
}

void nvme_sq_pending(struct nvme *n, struct nvme_sq *sq)
{
	bit_set(n->pending, sq->id, sq->exists && !nvme_sq_empty(sq));
}

/* ---- completions ------------------------------------------------------------------------------
 */

static bool write_word(struct nvme *n, uint64_t iova, uint64_t word)
{
	word = htole64(word);
	if (!uiommu_function_dma_write(n->fn, iova, &word, sizeof(word)))
		return true;
	nvme_fatal(n);
	return false;
}

/* Trying again helps where nothing is wrong with the command itself. */
static bool may_retry(uint16_t status)
{
	return status == SC_SUCCESS || status == SC_DATA_TRANSFER || status == SC_INTERNAL ||
	       status == SC_ABORT_REQUESTED || status == SC_CAPACITY || status == SC_WRITE_FAULT ||
	       status == SC_READ_ERROR;
}

void nvme_complete(struct nvme *n, const struct nvme_sq *sq, uint16_t cid, uint32_t dw0,
		   uint16_t status)
{
	struct nvme_cq *cq = &n->cq[sq->cq];
	uint64_t at = cq->base + cq->tail * (uint64_t)CQE_SIZE, word;

	if (status)
		status |= STATUS_MORE | (may_retry(status) ? 0 : STATUS_DNR);
	word = sq->head | (uint64_t)sq->id << 16 | (uint64_t)cid << 32 |
	       (uint64_t)(status << 1 | cq->phase) << 48;
	if (!write_word(n, at, dw0))
		return;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (!write_word(n, at + 8, word))
		return;
	cq->tail++;
	if (cq->tail == cq->entries) {
		cq->tail = 0;
		cq->phase = !cq->phase;
	}
	if (cq->interrupts) {
		if (!cq->unsignalled++)
			cq->since = n->now;
		bit_set(n->signal, cq->id, true);
	}
}

/* ---- interrupts --------------------------------------------------------------------------------
 */

static bool masked(const struct nvme *n, const struct nvme_cq *cq)
{
	return cq->vector < 32 && n->masked >> cq->vector & 1;
}

/* When its interrupt is due, in the time of n->now. */
static uint64_t due_at(const struct nvme *n, const struct nvme_cq *cq)
{
	unsigned threshold = (n->features.coalescing & 0xff) + 1;
	uint64_t time = (n->features.coalescing >> 8 & 0xff) * (uint64_t)COALESCING_NS;

	/* The admin queue is not coalesced. */
	if (!cq->id || !time || n->features.uncoalesced[cq->vector] || cq->unsignalled >= threshold)
		return 0;
	return cq->since + time;
}

void nvme_signal(struct nvme *n)
{
	unsigned word;

	for (word = 0; word < 2; word++) {
		uint64_t bits = n->signal[word];

		for (; bits; bits &= bits - 1) {
			unsigned id = word * 64 + (unsigned)__builtin_ctzll(bits);
			struct nvme_cq *cq = &n->cq[id];

			if (due_at(n, cq) > n->now)
				continue;
			/* Unmasking looks at what the queue holds then. */
			bit_set(n->signal, id, false);
			cq->unsignalled = 0;
			if (cq->exists && cq->head != cq->tail && !masked(n, cq)) {
				n->raised = true;
				uiommu_function_raise(n->fn, cq->vector);
			}
		}
	}
}

uint64_t nvme_signal_due(const struct nvme *n)
{
	uint64_t first = 0;
	unsigned id;

	for (id = 0; id < NVME_QUEUES; id++) {
		uint64_t due;

		if (!bit_get(n->signal, id))
			continue;
		due = due_at(n, &n->cq[id]);
		if (due && (!first || due < first))
			first = due;
	}
	return first;
}

/* INTx is a level: no entries, no interrupt. */
void nvme_lower(struct nvme *n)
{
	unsigned id;

	if (!n->raised)
		return;
	for (id = 0; id < NVME_QUEUES; id++) {
		const struct nvme_cq *cq = &n->cq[id];

		if (cq->exists && cq->interrupts && cq->head != cq->tail && !masked(n, cq))
			return;
	}
	n->raised = false;
	uiommu_function_lower(n->fn);
}

void nvme_mask(struct nvme *n, uint32_t mask)
{
	uint32_t unmasked = n->masked & ~mask;
	unsigned id;

	n->masked = mask;
	nvme_lower(n);
	for (id = 0; id < NVME_QUEUES && unmasked; id++) {
		struct nvme_cq *cq = &n->cq[id];

		if (cq->exists && cq->interrupts && cq->head != cq->tail && cq->vector < 32 &&
		    unmasked >> cq->vector & 1)
			bit_set(n->signal, id, true);
	}
}

/* ---- doorbells ---------------------------------------------------------------------------------
 */

static void bad_value(struct nvme *n)
{
	nvme_event(n, EVENT_ERROR, EVENT_ERROR_VALUE, LOG_ERROR);
}

static void set_tail(struct nvme *n, struct nvme_sq *sq, uint32_t value)
{
	if (value >= sq->entries) {
		bad_value(n);
		return;
	}
	sq->tail = value;
	nvme_sq_pending(n, sq);
}

/* The host can't have consumed what was not posted. */
static void set_head(struct nvme *n, struct nvme_cq *cq, uint32_t value)
{
	uint32_t there =
		cq->tail >= cq->head ? cq->tail - cq->head : cq->tail + cq->entries - cq->head;
	uint32_t taken = value >= cq->head ? value - cq->head : value + cq->entries - cq->head;

	if (value >= cq->entries || taken > there) {
		bad_value(n);
		return;
	}
	cq->head = value;
}

static bool read_shadow(struct nvme *n, unsigned index, uint32_t *value)
{
	if (uiommu_function_dma_read(n->fn, n->shadow_base + 4 * (uint64_t)index, value, 4)) {
		nvme_fatal(n);
		return false;
	}
	/* What the host wrote before is there now. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	*value = le32toh(*value);
	return true;
}

/* What the host's copy of a doorbell says; false: nothing. There are hosts that have a copy of the
 * admin queue's doorbells (libvfn) and hosts that haven't (Linux): the first change tells. */
static bool shadow_says(struct nvme *n, unsigned index, uint32_t *value)
{
	if (!n->shadow || !read_shadow(n, index, value))
		return false;
	if (index >= 2)
		return true;
	if (*value != n->admin_seen[index]) {
		n->admin_seen[index] = *value;
		n->admin_shadow[index] = true;
	}
	return n->admin_shadow[index];
}

/* Doorbell @index, which is a queue's tail or head, was written. A shadow is newer than the value:
 * the host updates it first (7.13). */
static void ring(struct nvme *n, unsigned index, uint32_t value)
{
	unsigned id = index / 2;
	bool head = index % 2;
	uint32_t newer;

	if (head ? !n->cq[id].exists : !n->sq[id].exists) {
		nvme_event(n, EVENT_ERROR, EVENT_ERROR_REGISTER, LOG_ERROR);
		return;
	}
	if (shadow_says(n, index, &newer))
		value = newer;
	if (!n->ready)
		return;
	if (head)
		set_head(n, &n->cq[id], value);
	else
		set_tail(n, &n->sq[id], value);
}

void nvme_doorbells(struct nvme *n)
{
	bool heads = false;
	unsigned word;

	for (word = 0; word < sizeof(n->dirty) / sizeof(n->dirty[0]); word++) {
		uint64_t bits;

		if (!__atomic_load_n(&n->dirty[word], __ATOMIC_RELAXED))
			continue;
		bits = __atomic_exchange_n(&n->dirty[word], 0, __ATOMIC_ACQUIRE);
		for (; bits && n->ready; bits &= bits - 1) {
			unsigned index = word * 64 + (unsigned)__builtin_ctzll(bits);

			ring(n, index, __atomic_load_n(&n->posted[index], __ATOMIC_RELAXED));
			heads |= index % 2;
		}
	}
	if (heads)
		nvme_lower(n);
}

/* ---- shadow doorbells (5.7, 7.13) --------------------------------------------------------------
 */

/* Ask the host to ring the doorbell when it passes this value. */
static bool write_event_index(struct nvme *n, unsigned index, uint32_t value)
{
	value = htole32(value);
	if (!uiommu_function_dma_write(n->fn, n->event_base + 4 * (uint64_t)index, &value, 4))
		return true;
	nvme_fatal(n);
	return false;
}

/* The tail of one submission queue: did it move? */
static bool poll_tail(struct nvme *n, struct nvme_sq *sq, bool sleep)
{
	uint32_t value, old = sq->tail;

	if (sleep && !write_event_index(n, 2u * sq->id, sq->tail))
		return false;
	/* The host writes the shadow and then looks at the index: we the other way round. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!shadow_says(n, 2u * sq->id, &value) || value == old)
		return false;
	set_tail(n, sq, value);
	return sq->tail != old;
}

/* The head of one completion queue, which matters while it holds entries: room, and INTx. The admin
 * queue's is always asked for: who has no copy of it rings anyway. */
static bool poll_head(struct nvme *n, struct nvme_cq *cq, bool sleep)
{
	uint32_t value, old = cq->head;

	if (cq->id && old == cq->tail)
		return false;
	if (sleep && !write_event_index(n, 2u * cq->id + 1, old))
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!shadow_says(n, 2u * cq->id + 1, &value) || value == old)
		return false;
	set_head(n, cq, value);
	return cq->head != old;
}

/* While it is awake, tails of I/O queues are enough, and the heads of those that are full. */
bool nvme_shadow_poll(struct nvme *n, bool sleep)
{
	bool tails = false, heads = false;
	unsigned id;

	for (id = sleep ? 0 : 1; id < NVME_QUEUES && n->ready; id++) {
		if (n->sq[id].exists)
			tails |= poll_tail(n, &n->sq[id], sleep);
		if (n->ready && n->cq[id].exists && (sleep || nvme_cq_full(&n->cq[id])))
			heads |= poll_head(n, &n->cq[id], sleep);
	}
	if (heads)
		nvme_lower(n);
	return tails || heads;
}
