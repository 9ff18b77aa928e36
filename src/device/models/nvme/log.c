/* SPDX-License-Identifier: MIT */
/*
 * Log pages (5.14) and asynchronous events (5.2) of the NVMe controller.
 *
 * Invariants: an event waits until there is a request to complete with it and room for its
 * completion, and until its type is not masked: reporting one masks its type, reading its log page
 * unmasks it. The same event waits once. Error entries are a ring, the newest first when read.
 * Nothing here can fail but for a command's own fields; what can't be kept any more is dropped,
 * oldest last.
 */
#include <string.h>

#include "device/models/nvme/nvme.h"

#define RETAIN_EVENT (1u << 15)

/* ---- errors ------------------------------------------------------------------------------------
 */

void nvme_log_error(struct nvme *n, uint16_t sq, uint16_t cid, uint16_t status, uint32_t nsid,
		    uint64_t lba)
{
	n->errors[n->error_count % NVME_ERRORS] = (struct nvme_error){
		.count = n->error_count + 1,
		.sq = sq,
		.cid = cid,
		.status = (uint16_t)(status << 1),
		.nsid = nsid,
		.lba = lba,
	};
	n->error_count++;
}

/* ---- events ------------------------------------------------------------------------------------
 */

void nvme_events_reset(struct nvme *n)
{
	n->event_requests = 0;
	n->event_count = 0;
	n->event_masked = 0;
}

static bool wanted(const struct nvme *n, uint8_t type)
{
	return type != EVENT_NOTICE || (n->features.events & EVENTS_NAMESPACE);
}

void nvme_event(struct nvme *n, uint8_t type, uint8_t info, uint8_t log)
{
	unsigned i;

	if (!wanted(n, type) || n->event_count == NVME_EVENTS)
		return;
	for (i = 0; i < n->event_count; i++)
		if (n->events[i].type == type && n->events[i].info == info)
			return;
	n->events[n->event_count++] = (struct nvme_event){type, info, log};
	/* Doorbell writes are nobody's command: the entry is how the host learns more. */
	if (type == EVENT_ERROR)
		nvme_log_error(n, 0xffff, 0xffff, 0, 0, 0);
}

static void drop_event(struct nvme *n, unsigned i)
{
	n->event_count--;
	memmove(&n->events[i], &n->events[i + 1], (n->event_count - i) * sizeof(n->events[0]));
}

void nvme_events_deliver(struct nvme *n)
{
	unsigned i = 0;

	while (i < n->event_count && n->event_requests && !nvme_cq_full(&n->cq[0]) && n->ready) {
		struct nvme_event event = n->events[i];

		if (n->event_masked >> event.type & 1) {
			i++;
			continue;
		}
		drop_event(n, i);
		n->event_masked |= 1u << event.type;
		nvme_complete(n, &n->sq[0], n->event_cid[--n->event_requests],
			      event.type | (uint32_t)event.info << 8 | (uint32_t)event.log << 16,
			      SC_SUCCESS);
	}
}

uint16_t nvme_event_request(struct nvme *n, const struct nvme_cmd *cmd)
{
	if (n->event_requests == NVME_EVENT_REQUESTS)
		return SC_EVENT_LIMIT;
	n->event_cid[n->event_requests++] = nvme_cid(cmd);
	return NVME_LATER;
}

bool nvme_event_abort(struct nvme *n, uint16_t cid)
{
	unsigned i;

	for (i = 0; i < n->event_requests; i++) {
		if (n->event_cid[i] != cid)
			continue;
		n->event_cid[i] = n->event_cid[--n->event_requests];
		return true;
	}
	return false;
}

/* The host has read a log page: what it was told of is dealt with. */
static void acknowledge(struct nvme *n, uint8_t log)
{
	static const uint8_t types[] = {
		[LOG_ERROR] = EVENT_ERROR, [LOG_SMART] = EVENT_SMART, [LOG_CHANGED] = EVENT_NOTICE};
	unsigned i = 0;

	if (log != LOG_ERROR && log != LOG_SMART && log != LOG_CHANGED)
		return;
	while (i < n->event_count) {
		if (n->events[i].log == log)
			drop_event(n, i);
		else
			i++;
	}
	n->event_masked &= ~(1u << types[log]);
}

/* ---- pages -------------------------------------------------------------------------------------
 * Each fills n->log, which is zeroed, and returns its size. */

/* 5.14.1.1 */
static unsigned error_page(struct nvme *n)
{
	uint64_t i, there = n->error_count < NVME_ERRORS ? n->error_count : NVME_ERRORS;

	for (i = 0; i < there; i++) {
		const struct nvme_error *error = &n->errors[(n->error_count - 1 - i) % NVME_ERRORS];
		uint8_t *at = n->log + 64 * i;

		nvme_put(at, error->count, 8);
		nvme_put(at + 8, error->sq, 2);
		nvme_put(at + 10, error->cid, 2);
		nvme_put(at + 12, error->status, 2);
		nvme_put(at + 14, 0xffff, 2); /* where in the command: not said */
		nvme_put(at + 16, error->lba, 8);
		nvme_put(at + 24, error->nsid, 4);
	}
	return 64 * NVME_ERRORS;
}

/* Thousands of 512 bytes, rounded up. */
static uint64_t data_units(uint64_t blocks)
{
	return (blocks + 999) / 1000;
}

/* 5.14.1.2 */
static unsigned smart_page(struct nvme *n)
{
	uint64_t seconds = (nvme_clock() - n->powered_on) / 1000000000;
	uint8_t *at = n->log;

	at[0] = nvme_warnings(n);
	nvme_put(at + 1, NVME_TEMPERATURE, 2);
	at[3] = 100; /* spare left, and its threshold */
	at[4] = 10;
	nvme_put(at + 32, data_units(n->units_read), 8);
	nvme_put(at + 48, data_units(n->units_written), 8);
	nvme_put(at + 64, n->reads, 8);
	nvme_put(at + 80, n->writes, 8);
	nvme_put(at + 96, n->busy_ns / 1000000000 / 60, 8);
	nvme_put(at + 112, 1, 8); /* power cycles */
	nvme_put(at + 128, seconds / 3600, 8);
	nvme_put(at + 144, n->unsafe_shutdowns, 8);
	nvme_put(at + 160, n->media_errors, 8);
	nvme_put(at + 176, n->error_count, 8);
	return 512;
}

/* 5.14.1.3 */
static unsigned firmware_page(struct nvme *n)
{
	n->log[0] = 1; /* slot 1 is active */
	memcpy(n->log + 8, "1.0     ", 8);
	return 512;
}

/* 5.14.1.4 */
static unsigned changed_page(struct nvme *n)
{
	uint8_t *at = n->log;
	unsigned i;

	for (i = 0; i < n->ns_count; i++) {
		if (!n->ns[i].changed)
			continue;
		nvme_put(at, i + 1, 4);
		at += 4;
	}
	return 4096;
}

#define EFFECT_SUPPORTED 0x00001u
#define EFFECT_CONTENT	 0x00002u
#define EFFECT_NAMESPACE 0x00004u
#define EFFECT_ALONE	 0x10000u /* no other command to the namespace meanwhile */

/* 5.14.1.5 */
static unsigned effects_page(struct nvme *n)
{
	static const uint8_t admin[] = {
		ADMIN_DELETE_SQ,    ADMIN_CREATE_SQ,   ADMIN_GET_LOG,	 ADMIN_DELETE_CQ,
		ADMIN_CREATE_CQ,    ADMIN_IDENTIFY,    ADMIN_ABORT,	 ADMIN_SET_FEATURES,
		ADMIN_GET_FEATURES, ADMIN_ASYNC_EVENT, ADMIN_KEEP_ALIVE, ADMIN_DOORBELL_BUFFERS,
	};
	static const uint8_t reading[] = {IO_FLUSH, IO_READ, IO_COMPARE, IO_VERIFY};
	static const uint8_t writing[] = {IO_WRITE, IO_WRITE_ZEROES, IO_DATASET};
	uint8_t *io = n->log + 1024;
	size_t i;

	for (i = 0; i < sizeof(admin); i++)
		nvme_put(n->log + 4 * admin[i], EFFECT_SUPPORTED, 4);
	nvme_put(n->log + 4 * ADMIN_FORMAT,
		 EFFECT_SUPPORTED | EFFECT_CONTENT | EFFECT_NAMESPACE | EFFECT_ALONE, 4);
	for (i = 0; i < sizeof(reading); i++)
		nvme_put(io + 4 * reading[i], EFFECT_SUPPORTED, 4);
	for (i = 0; i < sizeof(writing); i++)
		nvme_put(io + 4 * writing[i], EFFECT_SUPPORTED | EFFECT_CONTENT, 4);
	return 4096;
}

uint16_t nvme_get_log(struct nvme *n, const struct nvme_cmd *cmd)
{
	uint8_t id = cmd->dw[10] & 0xff;
	uint64_t len = ((cmd->dw[10] >> 16 | (uint64_t)(cmd->dw[11] & 0xffff) << 16) + 1) * 4;
	uint64_t offset = nvme_qword(cmd, 12);
	uint32_t nsid = cmd->dw[1];
	uint16_t status;
	unsigned size, i;

	if (id < LOG_ERROR || id > LOG_EFFECTS)
		return SC_LOG_PAGE;
	/* All of them are the controller's. */
	if (nsid && nsid != NSID_ALL)
		return nvme_ns_of(n, nsid) ? SC_INVALID_FIELD : SC_INVALID_NAMESPACE;
	memset(n->log, 0, sizeof(n->log));
	switch (id) {
	case LOG_ERROR:
		size = error_page(n);
		break;
	case LOG_SMART:
		size = smart_page(n);
		break;
	case LOG_FIRMWARE:
		size = firmware_page(n);
		break;
	case LOG_CHANGED:
		size = changed_page(n);
		break;
	default:
		size = effects_page(n);
		break;
	}
	if ((offset & 3) || offset > size || len > NVME_TRANSFER)
		return SC_INVALID_FIELD;
	/* What is asked for beyond the page's end is left as it is. */
	if (len > size - offset)
		len = size - offset;
	status = len ? nvme_to_host(n, cmd, n->log + offset, len) : SC_SUCCESS;
	if (status || (cmd->dw[10] & RETAIN_EVENT))
		return status;
	for (i = 0; i < n->ns_count && id == LOG_CHANGED; i++)
		n->ns[i].changed = false;
	acknowledge(n, id);
	return SC_SUCCESS;
}
