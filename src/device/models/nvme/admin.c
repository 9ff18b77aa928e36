/* SPDX-License-Identifier: MIT */
/*
 * Admin commands of the NVMe controller (5) that have no file of their own: creating and deleting
 * I/O queues, abort, doorbell buffers, keep alive; and the dispatch of all of them.
 *
 * Invariants: a submission queue's completion queue exists as long as it does; a queue that exists
 * has an ID up to io_queues, a legal number of entries, and an address aligned to a page.
 */
#include <string.h>

#include "device/models/nvme/nvme.h"

#define QUEUE_CONTIGUOUS 0x1u
#define QUEUE_INTERRUPTS 0x2u

/* Clear a queue's shadow and event index: what an earlier queue of that ID left is not its. */
static void clear_shadow(struct nvme *n, unsigned index)
{
	const uint32_t zero = 0;

	if (!n->shadow)
		return;
	if (uiommu_function_dma_write(n->fn, n->shadow_base + 4 * (uint64_t)index, &zero, 4) ||
	    uiommu_function_dma_write(n->fn, n->event_base + 4 * (uint64_t)index, &zero, 4))
		nvme_fatal(n);
}

/* What both kinds of queues have in common, in the order of the checks of 5.3 and 5.4. */
static uint16_t check_queue(struct nvme *n, const struct nvme_cmd *cmd, bool exists)
{
	uint32_t id = cmd->dw[10] & 0xffff, size = cmd->dw[10] >> 16;

	if (!id || id > n->io_queues || exists)
		return SC_QUEUE_ID;
	/* Counted from 0, and a queue of one entry could hold none. */
	if (!size || size >= NVME_ENTRIES)
		return SC_QUEUE_SIZE;
	if (!(cmd->dw[11] & QUEUE_CONTIGUOUS))
		return SC_INVALID_FIELD; /* CAP.CQR */
	if (nvme_qword(cmd, 6) & ((UINT64_C(1) << n->page_log) - 1))
		return SC_PRP_OFFSET;
	return SC_SUCCESS;
}

static uint16_t create_cq(struct nvme *n, const struct nvme_cmd *cmd)
{
	uint32_t id = cmd->dw[10] & 0xffff, vector = cmd->dw[11] >> 16;
	uint32_t cc = (uint32_t)uiommu_function_reg(n->fn, 0, REG_CC, 4);
	uint16_t status = check_queue(n, cmd, id <= n->io_queues && n->cq[id].exists);

	if (status)
		return status;
	if (vector >= NVME_VECTORS)
		return SC_VECTOR;
	if (CC_IOCQES(cc) != CQE_LOG)
		return SC_QUEUE_SIZE;
	n->cq[id] = (struct nvme_cq){
		.exists = true,
		.interrupts = cmd->dw[11] & QUEUE_INTERRUPTS,
		.id = (uint16_t)id,
		.vector = (uint16_t)vector,
		.entries = (cmd->dw[10] >> 16) + 1,
		.phase = true,
		.base = nvme_qword(cmd, 6),
	};
	n->queues_made = true;
	clear_shadow(n, 2 * id + 1);
	return SC_SUCCESS;
}

static uint16_t create_sq(struct nvme *n, const struct nvme_cmd *cmd)
{
	uint32_t id = cmd->dw[10] & 0xffff, cq = cmd->dw[11] >> 16;
	uint32_t cc = (uint32_t)uiommu_function_reg(n->fn, 0, REG_CC, 4);
	uint16_t status;

	/* The completion queue comes first: without it nothing else matters. */
	if (cq > n->io_queues)
		return SC_QUEUE_ID;
	if (!cq || !n->cq[cq].exists)
		return SC_CQ_INVALID;
	status = check_queue(n, cmd, id <= n->io_queues && n->sq[id].exists);
	if (status)
		return status;
	if (CC_IOSQES(cc) != SQE_LOG)
		return SC_QUEUE_SIZE;
	n->sq[id] = (struct nvme_sq){
		.exists = true,
		.id = (uint16_t)id,
		.cq = (uint16_t)cq,
		.entries = (cmd->dw[10] >> 16) + 1,
		.base = nvme_qword(cmd, 6),
	};
	n->cq[cq].sqs++;
	n->queues_made = true;
	clear_shadow(n, 2 * id);
	return SC_SUCCESS;
}

/* What the queue still holds was not begun, and is gone (5.6). */
static uint16_t delete_sq(struct nvme *n, const struct nvme_cmd *cmd)
{
	uint32_t id = cmd->dw[10] & 0xffff;
	struct nvme_sq *sq;

	if (!id || id > n->io_queues || !n->sq[id].exists)
		return SC_QUEUE_ID;
	sq = &n->sq[id];
	n->cq[sq->cq].sqs--;
	sq->exists = false;
	nvme_sq_pending(n, sq);
	return SC_SUCCESS;
}

static uint16_t delete_cq(struct nvme *n, const struct nvme_cmd *cmd)
{
	uint32_t id = cmd->dw[10] & 0xffff;

	if (!id || id > n->io_queues || !n->cq[id].exists)
		return SC_QUEUE_ID;
	if (n->cq[id].sqs)
		return SC_QUEUE_DELETION;
	n->cq[id].exists = false;
	nvme_lower(n);
	return SC_SUCCESS;
}

/* Commands are executed as they are fetched, so those that can be aborted are event requests. The
 * one that is aborted completes first, if there is room for both. */
static uint16_t abort_command(struct nvme *n, const struct nvme_cmd *cmd, uint32_t *dw0)
{
	struct nvme_cq *cq = &n->cq[0];
	uint32_t used =
		cq->tail >= cq->head ? cq->tail - cq->head : cq->tail + cq->entries - cq->head;
	uint16_t cid = (uint16_t)(cmd->dw[10] >> 16);

	*dw0 = 1; /* it was not aborted */
	if ((cmd->dw[10] & 0xffff) || cq->entries - 1 - used < 2 || !nvme_event_abort(n, cid))
		return SC_SUCCESS;
	nvme_log_error(n, 0, cid, SC_ABORT_REQUESTED, 0, 0);
	nvme_complete(n, &n->sq[0], cid, 0, SC_ABORT_REQUESTED);
	*dw0 = 0;
	return SC_SUCCESS;
}

/* 5.7, 7.13: the host's copies of the doorbells begin as the doorbells are. */
static uint16_t doorbell_buffers(struct nvme *n, const struct nvme_cmd *cmd)
{
	uint64_t shadow = nvme_qword(cmd, 6), events = nvme_qword(cmd, 8);
	uint64_t in_page = (UINT64_C(1) << n->page_log) - 1;
	uint8_t values[NVME_DOORBELLS * 4];
	unsigned id;

	if ((shadow & in_page) || (events & in_page))
		return SC_INVALID_FIELD;
	for (id = 0; id < NVME_QUEUES; id++) {
		nvme_put(values + 8 * id, n->sq[id].tail, 4);
		nvme_put(values + 8 * id + 4, n->cq[id].head, 4);
	}
	if (uiommu_function_dma_write(n->fn, shadow, values, sizeof(values)) ||
	    uiommu_function_dma_write(n->fn, events, values, sizeof(values)))
		return SC_DATA_TRANSFER;
	n->shadow = true;
	n->admin_seen[0] = n->sq[0].tail;
	n->admin_seen[1] = n->cq[0].head;
	n->admin_shadow[0] = n->admin_shadow[1] = false;
	n->shadow_base = shadow;
	n->event_base = events;
	return SC_SUCCESS;
}

uint16_t nvme_admin(struct nvme *n, const struct nvme_cmd *cmd, uint32_t *dw0)
{
	switch (nvme_opcode(cmd)) {
	case ADMIN_DELETE_SQ:
		return delete_sq(n, cmd);
	case ADMIN_CREATE_SQ:
		return create_sq(n, cmd);
	case ADMIN_GET_LOG:
		return nvme_get_log(n, cmd);
	case ADMIN_DELETE_CQ:
		return delete_cq(n, cmd);
	case ADMIN_CREATE_CQ:
		return create_cq(n, cmd);
	case ADMIN_IDENTIFY:
		return nvme_identify(n, cmd);
	case ADMIN_ABORT:
		return abort_command(n, cmd, dw0);
	case ADMIN_SET_FEATURES:
		return nvme_set_features(n, cmd, dw0);
	case ADMIN_GET_FEATURES:
		return nvme_get_features(n, cmd, dw0);
	case ADMIN_ASYNC_EVENT:
		return nvme_event_request(n, cmd);
	case ADMIN_KEEP_ALIVE:
		nvme_keep_alive(n);
		return SC_SUCCESS;
	case ADMIN_DOORBELL_BUFFERS:
		return doorbell_buffers(n, cmd);
	case ADMIN_FORMAT:
		return nvme_format(n, cmd);
	default:
		return SC_INVALID_OPCODE;
	}
}
