/* SPDX-License-Identifier: MIT */
/*
 * Driving the NVMe controller of a rig: registers, queues, commands.
 *
 * Memory of the rig, by offset: queue pair q has its submission queue at q * 0x4000, its completion
 * queue two pages behind; lists at LISTS, data from DATA on. Queues have up to 64 entries.
 */
#ifndef TEST_DEVICE_NVME_RIG_H
#define TEST_DEVICE_NVME_RIG_H

#include <endian.h>

#include "rig.h"

enum {
	CAP = 0x00,
	VS = 0x08,
	INTMS = 0x0c,
	INTMC = 0x10,
	CC = 0x14,
	CSTS = 0x1c,
	AQA = 0x24,
	ASQ = 0x28,
	ACQ = 0x30,
};

#define TAIL(q) (0x1000 + 8 * (uint64_t)(q))
#define HEAD(q) (0x1004 + 8 * (uint64_t)(q))

#define CC_RUN	  (6u << 16 | 4u << 20 | 1)
#define CSTS_CFS  2u
#define CSTS_SHST 0xcu

enum {
	DELETE_SQ = 0x00,
	CREATE_SQ = 0x01,
	GET_LOG = 0x02,
	DELETE_CQ = 0x04,
	CREATE_CQ = 0x05,
	IDENTIFY = 0x06,
	ABORT = 0x08,
	SET_FEATURES = 0x09,
	GET_FEATURES = 0x0a,
	ASYNC_EVENT = 0x0c,
	KEEP_ALIVE = 0x18,
	DOORBELL_BUFFERS = 0x7c,
	FORMAT = 0x80,

	FLUSH = 0x00,
	WRITE = 0x01,
	READ = 0x02,
	COMPARE = 0x05,
	WRITE_ZEROES = 0x08,
	DATASET = 0x09,
	VERIFY = 0x0c,
};

#define NV_PAIRS   8
#define NV_ENTRIES 64
#define SQ_AT(q)   (0x4000 * (uint64_t)(q))
#define CQ_AT(q)   (SQ_AT(q) + 0x2000)
#define LISTS	   UINT64_C(0x80000)
#define DATA	   UINT64_C(0x100000)
/* Where nothing is mapped. */
#define NOWHERE UINT64_C(0x7000000000)
/* No completion came. */
#define NONE 0xffffu

#define IOVA(offset) (RIG_IOVA + (offset))

struct cmd {
	uint32_t dw[16];
};

struct nv {
	struct rig r;
	struct {
		unsigned entries, cq_entries, tail, head, phase;
	} pair[NV_PAIRS];
	uint32_t result;   /* dword 0 of the last completion */
	uint16_t cid, raw; /* its command, and its status with the phase */
	uint16_t next_cid;
};

static inline uint8_t *at(struct nv *nv, uint64_t offset)
{
	return nv->r.mem + offset;
}

static inline uint64_t little(const uint8_t *bytes, unsigned len)
{
	uint64_t value = 0;

	while (len--)
		value = value << 8 | bytes[len];
	return value;
}

static inline void put_little(uint8_t *bytes, uint64_t value, unsigned len)
{
	for (; len--; value >>= 8)
		*bytes++ = (uint8_t)value;
}

/* A command with a data pointer, PRP 1. */
static inline struct cmd command(uint8_t opcode, uint32_t nsid, uint64_t prp1)
{
	return (struct cmd){
		.dw = {opcode, nsid, [6] = (uint32_t)prp1, [7] = (uint32_t)(prp1 >> 32)}};
}

static inline void set_prp2(struct cmd *cmd, uint64_t prp2)
{
	cmd->dw[8] = (uint32_t)prp2;
	cmd->dw[9] = (uint32_t)(prp2 >> 32);
}

static inline struct cmd io(uint8_t opcode, uint64_t slba, uint32_t blocks, uint64_t prp1)
{
	struct cmd cmd = command(opcode, 1, prp1);

	cmd.dw[10] = (uint32_t)slba;
	cmd.dw[11] = (uint32_t)(slba >> 32);
	cmd.dw[12] = blocks - 1;
	return cmd;
}

/* Put a command into the queue, without ringing. Returns its ID. */
static inline uint16_t nv_put(struct nv *nv, unsigned q, struct cmd cmd)
{
	uint32_t *slot = (uint32_t *)at(nv, SQ_AT(q) + 64 * nv->pair[q].tail);
	unsigned i;

	cmd.dw[0] = (cmd.dw[0] & 0xffff) | (uint32_t)++nv->next_cid << 16;
	for (i = 0; i < 16; i++)
		slot[i] = htole32(cmd.dw[i]);
	nv->pair[q].tail = (nv->pair[q].tail + 1) % nv->pair[q].entries;
	return nv->next_cid;
}

static inline void nv_ring(struct nv *nv, unsigned q)
{
	reg_set(&nv->r, TAIL(q), 4, nv->pair[q].tail);
	uiommu_function_drain(nv->r.fn);
}

/* The status (type and code) of the next completion, or NONE. Its place is given back if @give. */
static inline unsigned nv_take(struct nv *nv, unsigned q, bool give)
{
	const uint8_t *cqe = at(nv, CQ_AT(q) + 16 * nv->pair[q].head);

	nv->raw = (uint16_t)little(cqe + 14, 2);
	if ((nv->raw & 1) != nv->pair[q].phase)
		return NONE;
	nv->result = (uint32_t)little(cqe, 4);
	nv->cid = (uint16_t)little(cqe + 12, 2);
	assert_int_equal(little(cqe + 10, 2), q);
	if (++nv->pair[q].head == nv->pair[q].cq_entries) {
		nv->pair[q].head = 0;
		nv->pair[q].phase ^= 1;
	}
	if (give) {
		reg_set(&nv->r, HEAD(q), 4, nv->pair[q].head);
		uiommu_function_drain(nv->r.fn);
	}
	return nv->raw >> 1 & 0x7ff;
}

/* Execute one command. */
static inline unsigned nv_run(struct nv *nv, unsigned q, struct cmd cmd)
{
	uint16_t cid = nv_put(nv, q, cmd);
	unsigned status;

	nv_ring(nv, q);
	status = nv_take(nv, q, true);
	if (status != NONE)
		assert_int_equal(nv->cid, cid);
	return status;
}

static inline unsigned nv_admin(struct nv *nv, uint8_t opcode, uint32_t nsid, uint64_t prp1,
				uint32_t cdw10, uint32_t cdw11)
{
	struct cmd cmd = command(opcode, nsid, prp1);

	cmd.dw[10] = cdw10;
	cmd.dw[11] = cdw11;
	return nv_run(nv, 0, cmd);
}

static inline void nv_pair_reset(struct nv *nv, unsigned q, unsigned entries)
{
	memset(at(nv, SQ_AT(q)), 0, 0x4000);
	nv->pair[q].entries = nv->pair[q].cq_entries = entries;
	nv->pair[q].tail = nv->pair[q].head = 0;
	nv->pair[q].phase = 1;
}

/* Enable, with an admin queue. */
static inline void nv_enable(struct nv *nv, uint32_t cc)
{
	reg_set(&nv->r, CC, 4, 0);
	assert_int_equal(reg_mapped(&nv->r, CSTS, 4) & 1, 0);
	nv_pair_reset(nv, 0, NV_ENTRIES);
	reg_set(&nv->r, AQA, 4, (NV_ENTRIES - 1) << 16 | (NV_ENTRIES - 1));
	reg_set(&nv->r, ASQ, 8, IOVA(SQ_AT(0)));
	reg_set(&nv->r, ACQ, 8, IOVA(CQ_AT(0)));
	reg_set(&nv->r, CC, 4, cc);
	assert_int_equal(reg_mapped(&nv->r, CSTS, 4), 1);
}

/* A pair of queues with an interrupt vector, or -1. */
static inline void nv_create(struct nv *nv, unsigned q, unsigned entries, int vector)
{
	nv_pair_reset(nv, q, entries);
	assert_int_equal(nv_admin(nv, CREATE_CQ, 0, IOVA(CQ_AT(q)), (entries - 1) << 16 | q,
				  1 | (vector < 0 ? 0 : 2 | (uint32_t)vector << 16)),
			 0);
	assert_int_equal(
		nv_admin(nv, CREATE_SQ, 0, IOVA(SQ_AT(q)), (entries - 1) << 16 | q, 1 | q << 16),
		0);
}

/* Enabled, with one pair for I/O that doesn't interrupt. */
static inline void nv_up(struct nv *nv, const char *spec)
{
	memset(nv, 0, sizeof(*nv));
	rig_up(&nv->r, NULL, spec);
	nv_enable(nv, CC_RUN);
	nv_create(nv, 1, NV_ENTRIES, -1);
}

static inline void nv_down(struct nv *nv)
{
	rig_down(&nv->r);
}

static inline bool nv_fatal(struct nv *nv)
{
	return reg_mapped(&nv->r, CSTS, 4) & CSTS_CFS;
}

#endif
