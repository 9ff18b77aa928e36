/* SPDX-License-Identifier: MIT */
/*
 * nvme.h - the least of a driver for an NVMe controller, for the test clients: the admin queues and
 * one pair for I/O, a command at a time.
 */
#ifndef CLIENTS_NVME_H
#define CLIENTS_NVME_H

#include "client.h"

#define NVME 0x1234, 0x4e56

enum { NVME_CC = 0x14, NVME_CSTS = 0x1c, NVME_AQA = 0x24, NVME_ASQ = 0x28, NVME_ACQ = 0x30 };
enum { NVME_DOORBELLS = 0x1000, NVME_ENTRIES = 16, NVME_TRANSFER_ERROR = 4 };
enum { NVME_FLUSH = 0, NVME_WRITE = 1, NVME_READ = 2 };
enum { NVME_CREATE_SQ = 1, NVME_CREATE_CQ = 5, NVME_IDENTIFY = 6, NVME_ASYNC_EVENT = 12 };
#define NVME_CC_RUN (6 << 16 | 4 << 20 | 1)

struct nvme_command {
	uint32_t cdw0, nsid, reserved[4];
	uint64_t prp[2];
	uint32_t cdw[6];
};

struct nvme_completion {
	uint32_t result, reserved;
	uint16_t sq_head, sq, command, status;
};

/* Page 2 * q is the submission queue of pair q, the next one its completion queue. */
struct nvme {
	uint8_t *queues;
	volatile uint8_t *regs, *doorbells;
	unsigned tail[2], head[2], phase[2];
};

static inline void nvme_submit(struct nvme *n, unsigned q, struct nvme_command cmd)
{
	((struct nvme_command *)(n->queues + 2 * q * PAGE))[n->tail[q]] = cmd;
	n->tail[q] = (n->tail[q] + 1) % NVME_ENTRIES;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	REG(n->doorbells, uint32_t, 8 * q) = n->tail[q];
}

/* The next completion, or one with a status of all ones after ten seconds. */
static inline struct nvme_completion nvme_next(struct nvme *n, unsigned q)
{
	volatile struct nvme_completion *c =
		(struct nvme_completion *)(n->queues + (2 * q + 1) * PAGE) + n->head[q];
	struct nvme_completion done;

	for (unsigned ms = 0; (c->status & 1) != n->phase[q]; ms++) {
		if (ms == 10000)
			return (struct nvme_completion){.status = UINT16_MAX};
		usleep(1000);
	}
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	done = (struct nvme_completion){c->result, c->reserved, c->sq_head,
					c->sq,	   c->command,	c->status};
	if (++n->head[q] == NVME_ENTRIES) {
		n->head[q] = 0;
		n->phase[q] ^= 1;
	}
	return done;
}

static inline unsigned nvme_status(struct nvme_completion done)
{
	return done.status >> 1 & 0x7ff;
}

static inline unsigned nvme_run(struct nvme *n, unsigned q, struct nvme_command cmd)
{
	nvme_submit(n, q, cmd);
	return nvme_status(nvme_next(n, q));
}

/* The completions so far are free again; an interrupt is still to be told of before. */
static inline void nvme_consumed(struct nvme *n, unsigned q)
{
	REG(n->doorbells, uint32_t, 4 + 8 * q) = n->head[q];
}

/* Enable it, and make the pair for I/O, with interrupts by vector @vector; @iova: of the four
 * pages. */
static inline void nvme_start(struct nvme *n, const uint64_t iova[4], unsigned vector)
{
	struct nvme_command cmd = {.cdw0 = NVME_CREATE_CQ, .prp = {iova[3]}};

	n->phase[0] = n->phase[1] = 1;
	REG(n->regs, uint32_t, NVME_AQA) = (NVME_ENTRIES - 1) << 16 | (NVME_ENTRIES - 1);
	REG(n->regs, uint64_t, NVME_ASQ) = iova[0];
	REG(n->regs, uint64_t, NVME_ACQ) = iova[1];
	REG(n->regs, uint32_t, NVME_CC) = NVME_CC_RUN;
	CHECK_EQ(REG(n->regs, uint32_t, NVME_CSTS), 1);
	cmd.cdw[0] = (NVME_ENTRIES - 1) << 16 | 1;
	cmd.cdw[1] = vector << 16 | 3;
	CHECK_EQ(nvme_run(n, 0, cmd), 0);
	cmd.cdw0 = NVME_CREATE_SQ;
	cmd.prp[0] = iova[2];
	cmd.cdw[1] = 1 << 16 | 1;
	CHECK_EQ(nvme_run(n, 0, cmd), 0);
	nvme_consumed(n, 0);
}

#endif
