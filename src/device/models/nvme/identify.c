/* SPDX-License-Identifier: MIT */
/*
 * Identify (5.15): what the controller and its namespaces say of themselves.
 *
 * All namespaces are active, so 1 to ns_count are the valid IDs. Their unique identifiers are made
 * of the serial number and the ID, and so stay the same from one run to the next. Nothing here can
 * fail but for the command's own fields and the transfer of the 4096 bytes.
 */
#include <string.h>

#include "device/models/nvme/nvme.h"

enum {
	CNS_NAMESPACE = 0x00,
	CNS_CONTROLLER = 0x01,
	CNS_ACTIVE = 0x02,
	CNS_DESCRIPTORS = 0x03,
	CNS_ALLOCATED = 0x10,
	CNS_ALLOCATED_NAMESPACE = 0x11,
	CNS_ATTACHED_CONTROLLERS = 0x12,
	CNS_CONTROLLERS = 0x13,
};

/* Optional admin commands: format, doorbell buffers. Optional I/O commands: compare, dataset
 * management, write zeroes, select in features, timestamp, verify. */
#define OACS 0x0102u
#define ONCS 0x00ddu
/* SGLs of any alignment; bit buckets; longer than the data. */
#define SGLS 0x00050001u
/* A volatile write cache; flush takes all namespaces at once. */
#define VWC 0x07u
/* Log pages: commands' effects, and offsets. */
#define LPA 0x06u
/* Keep alive in seconds. */
#define KAS 10u

struct nvme_ns *nvme_ns_of(struct nvme *n, uint32_t nsid)
{
	return nsid && nsid <= n->ns_count ? &n->ns[nsid - 1] : NULL;
}

/* FNV-1a, 64 bits. */
static uint64_t hash(const char *text, uint64_t value)
{
	unsigned i;

	for (; *text; text++)
		value = (value ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
	for (i = 0; i < 8; i++)
		value = (value ^ (value >> 57)) * UINT64_C(0x100000001b3);
	return value;
}

/* A UUID of the kind that vendors may fill as they like (version 8). @which: 0 is the subsystem. */
static void make_uuid(const struct nvme *n, uint32_t which, uint8_t uuid[16])
{
	nvme_put(uuid, hash(n->serial, UINT64_C(0xcbf29ce484222325) + which), 8);
	nvme_put(uuid + 8, hash(n->serial, UINT64_C(0x84222325cbf29ce4) + which), 8);
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x80);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
}

static void put_text(uint8_t *at, const char *text, size_t len)
{
	size_t used = strlen(text);

	memset(at, ' ', len);
	memcpy(at, text, used < len ? used : len);
}

static void put_nqn(const struct nvme *n, uint8_t *at)
{
	static const char digits[] = "0123456789abcdef",
			  prefix[] = "nqn.2014-08.org.nvmexpress:uuid:";
	uint8_t uuid[16];
	unsigned i;

	make_uuid(n, 0, uuid);
	memcpy(at, prefix, sizeof(prefix) - 1);
	at += sizeof(prefix) - 1;
	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = (uint8_t)digits[uuid[i] >> 4];
		*at++ = (uint8_t)digits[uuid[i] & 0xf];
	}
}

/* 5.15.2.2 */
static void controller(const struct nvme *n, uint8_t *id)
{
	const struct uiommu_model *model = uiommu_function_info(n->fn)->model;
	uint64_t capacity = 0;
	unsigned i;

	for (i = 0; i < n->ns_count; i++)
		capacity += n->ns[i].size;
	nvme_put(id, model->vendor, 2);
	nvme_put(id + 2, model->subsystem_vendor, 2);
	put_text(id + 4, n->serial, 20);
	put_text(id + 24, "uiommu NVMe controller", 40);
	put_text(id + 64, "1.0", 8);
	id[72] = 4; /* RAB: 2^4 commands in a burst, as many as are fetched at once */
	id[77] = NVME_MDTS;
	nvme_put(id + 80, VERSION, 4);
	nvme_put(id + 92, EVENTS_NAMESPACE, 4); /* OAES */
	id[111] = 1;				/* an I/O controller */
	nvme_put(id + 256, OACS, 2);
	id[258] = 3; /* ACL: four aborts at once */
	id[259] = NVME_EVENT_REQUESTS - 1;
	id[260] = 0x03; /* FRMW: one slot, read only */
	id[261] = LPA;
	id[262] = NVME_ERRORS - 1;
	nvme_put(id + 266, NVME_WARNING, 2);
	nvme_put(id + 268, NVME_CRITICAL, 2);
	nvme_put(id + 280, capacity, 8); /* TNVMCAP */
	nvme_put(id + 320, KAS, 2);
	id[512] = SQE_LOG << 4 | SQE_LOG;
	id[513] = CQE_LOG << 4 | CQE_LOG;
	nvme_put(id + 516, n->ns_count, 4);
	nvme_put(id + 520, ONCS, 2);
	id[525] = VWC;
	nvme_put(id + 536, SGLS, 4);
	put_nqn(n, id + 768);
	nvme_put(id + 2048, 100, 2); /* power state 0: 1 W at most */
}

/* 5.15.2.1 */
static void namespace(const struct nvme *n, const struct nvme_ns *ns, uint8_t *id)
{
	uint64_t blocks = nvme_ns_blocks(ns);

	nvme_put(id, blocks, 8);      /* NSZE */
	nvme_put(id + 8, blocks, 8);  /* NCAP */
	nvme_put(id + 16, blocks, 8); /* NUSE */
	id[24] = 0x10;		      /* NSFEAT: NPWG to NOWS below hold */
	id[25] = 1;		      /* NLBAF: two formats */
	id[26] = ns->block_log == 12;
	id[33] = 0x09; /* DLFEAT: deallocated blocks read as zeros, also by write zeroes */
	nvme_put(id + 48, ns->size, 8);
	/* Files like pages: NPWG, NPWA, NPDG, NPDA, NOWS. */
	nvme_put(id + 64, (4096u >> ns->block_log) - 1, 2);
	nvme_put(id + 66, (4096u >> ns->block_log) - 1, 2);
	nvme_put(id + 68, (4096u >> ns->block_log) - 1, 2);
	nvme_put(id + 70, (4096u >> ns->block_log) - 1, 2);
	nvme_put(id + 72, (4096u >> ns->block_log) - 1, 2);
	id[99] = ns->read_only; /* NSATTR */
	make_uuid(n, (uint32_t)(ns - n->ns) + 1, id + 104);
	id[130] = 9; /* LBADS of the two */
	id[134] = 12;
}

/* 5.15.2.4: its UUID, then nothing. */
static void descriptors(const struct nvme *n, uint32_t nsid, uint8_t *out)
{
	out[0] = 3;
	out[1] = 16;
	make_uuid(n, nsid, out + 4);
	/* The NGUID is the same 16 bytes. */
	out[20] = 2;
	out[21] = 16;
	make_uuid(n, nsid, out + 24);
}

/* IDs greater than @after, in order. */
static void list(const struct nvme *n, uint32_t after, uint8_t *out)
{
	uint32_t nsid;

	for (nsid = after + 1; nsid <= n->ns_count; nsid++, out += 4)
		nvme_put(out, nsid, 4);
}

/* Controllers from @first on: there is one, number 0. */
static void controllers(unsigned first, uint8_t *out)
{
	nvme_put(out, first == 0, 2);
}

uint16_t nvme_identify(struct nvme *n, const struct nvme_cmd *cmd)
{
	uint32_t nsid = cmd->dw[1];
	struct nvme_ns *ns = nvme_ns_of(n, nsid);
	uint8_t *out = n->log;

	memset(out, 0, sizeof(n->log));
	switch (cmd->dw[10] & 0xff) {
	case CNS_NAMESPACE:
	case CNS_ALLOCATED_NAMESPACE:
		if (!ns)
			return SC_INVALID_NAMESPACE;
		namespace(n, ns, out);
		break;
	case CNS_CONTROLLER:
		controller(n, out);
		break;
	case CNS_ACTIVE:
	case CNS_ALLOCATED:
		if (nsid >= NSID_ALL - 1)
			return SC_INVALID_NAMESPACE;
		list(n, nsid, out);
		break;
	case CNS_DESCRIPTORS:
		if (!ns)
			return SC_INVALID_NAMESPACE;
		descriptors(n, nsid, out);
		break;
	case CNS_ATTACHED_CONTROLLERS:
		if (!ns)
			return SC_INVALID_NAMESPACE;
		controllers(cmd->dw[10] >> 16, out);
		break;
	case CNS_CONTROLLERS:
		controllers(cmd->dw[10] >> 16, out);
		break;
	default:
		return SC_INVALID_FIELD;
	}
	return nvme_to_host(n, cmd, out, 4096);
}
