/* SPDX-License-Identifier: MIT */
/*
 * Set and Get Features (5.21, 5.13). None is saveable: a reset brings the defaults back.
 *
 * The table says what a feature's value is made of; what setting one does is in apply(). A feature
 * that isn't in it does not exist. Nothing can fail but for a command's own fields.
 */
#include <string.h>

#include "device/models/nvme/nvme.h"

#define CAN_CHANGE 0x4u
#define PER_NS	   0x2u

struct feature {
	uint8_t id, can;
	uint32_t initial;
};

static const struct feature features[] = {
	{FEATURE_ARBITRATION, CAN_CHANGE, 4},
	{FEATURE_POWER, CAN_CHANGE, 0},
	{FEATURE_TEMPERATURE, CAN_CHANGE, NVME_WARNING},
	{FEATURE_ERROR_RECOVERY, CAN_CHANGE | PER_NS, 0},
	{FEATURE_WRITE_CACHE, CAN_CHANGE, 1},
	{FEATURE_QUEUES, CAN_CHANGE, 0},
	{FEATURE_COALESCING, CAN_CHANGE, 0},
	{FEATURE_VECTOR, CAN_CHANGE, 0},
	{FEATURE_ATOMICITY, CAN_CHANGE, 0},
	{FEATURE_EVENTS, CAN_CHANGE, 0},
	{FEATURE_TIMESTAMP, CAN_CHANGE, 0},
	{FEATURE_KEEP_ALIVE, CAN_CHANGE, 0},
};

static const struct feature *feature_of(unsigned id)
{
	size_t i;

	for (i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		if (features[i].id == id)
			return &features[i];
	return NULL;
}

void nvme_features_reset(struct nvme *n)
{
	memset(&n->features, 0, sizeof(n->features));
	n->features.arbitration = feature_of(FEATURE_ARBITRATION)->initial;
	n->features.temperature_over = NVME_WARNING;
	n->features.write_cache = 1;
	n->features.timestamp_set = nvme_clock();
}

/* Both ways: as many as there are, counted from 0. */
static uint32_t queue_count(const struct nvme *n)
{
	return (n->io_queues - 1) | (n->io_queues - 1) << 16;
}

/* ---- temperature and keep alive ---------------------------------------------------------------
 */

uint8_t nvme_warnings(const struct nvme *n)
{
	bool warm = NVME_TEMPERATURE >= n->features.temperature_over ||
		    NVME_TEMPERATURE <= n->features.temperature_under;

	/* The others are for media that fail; one that is write-protected doesn't. */
	return warm ? WARNING_TEMPERATURE : 0;
}

/* A threshold or the configuration changed: is there a warning to be told of? */
static void check_temperature(struct nvme *n)
{
	if (nvme_warnings(n) & n->features.events & EVENTS_SMART)
		nvme_event(n, EVENT_SMART, EVENT_SMART_TEMPERATURE, LOG_SMART);
}

void nvme_keep_alive(struct nvme *n)
{
	/* Rounded up to what Identify promises: seconds. */
	uint64_t seconds = (n->features.keep_alive + UINT64_C(999)) / 1000;

	n->keep_alive_due = seconds ? nvme_clock() + seconds * 1000000000 : 0;
}

/* Temperature thresholds (5.21.1.4): of the composite temperature, sensor 0, or of all sensors.
 * NULL: there is none such. */
static uint32_t *threshold(struct nvme *n, uint32_t cdw11, bool set)
{
	unsigned sensor = cdw11 >> 16 & 0xf, type = cdw11 >> 20 & 0x3;

	if ((sensor && !(set && sensor == 0xf)) || type > 1)
		return NULL;
	return type ? &n->features.temperature_under : &n->features.temperature_over;
}

/* ---- timestamp (5.21.1.14) ---------------------------------------------------------------------
 */

static uint16_t set_timestamp(struct nvme *n, const struct nvme_cmd *cmd)
{
	uint8_t data[8];
	uint16_t status = nvme_from_host(n, cmd, data, sizeof(data));

	if (status)
		return status;
	n->features.timestamp = nvme_get(data, 6);
	n->features.timestamp_set = nvme_clock();
	n->features.timestamp_host = true;
	return SC_SUCCESS;
}

static uint16_t get_timestamp(struct nvme *n, const struct nvme_cmd *cmd, bool initial)
{
	uint64_t passed = (nvme_clock() - n->features.timestamp_set) / 1000000;
	uint8_t data[8] = {0};

	if (!initial) {
		nvme_put(data, n->features.timestamp + passed, 6);
		data[6] = n->features.timestamp_host ? 1 << 1 : 0; /* where it came from */
	}
	return nvme_to_host(n, cmd, data, sizeof(data));
}

/* ---- set ---------------------------------------------------------------------------------------
 */

static uint16_t set_temperature(struct nvme *n, uint32_t value)
{
	uint32_t *at = threshold(n, value, true);

	if (!at)
		return SC_INVALID_FIELD;
	*at = value & 0xffff;
	check_temperature(n);
	return SC_SUCCESS;
}

static uint16_t set_vector(struct nvme *n, uint32_t value)
{
	if ((value & 0xffff) >= NVME_VECTORS)
		return SC_INVALID_FIELD;
	n->features.uncoalesced[value & 0xffff] = value >> 16 & 1;
	return SC_SUCCESS;
}

static uint16_t set_queues(struct nvme *n, uint32_t value, uint32_t *dw0)
{
	if ((value & 0xffff) == 0xffff || value >> 16 == 0xffff)
		return SC_INVALID_FIELD;
	/* Only before there are any (5.21.1.7). */
	if (n->queues_made)
		return SC_SEQUENCE;
	*dw0 = queue_count(n);
	return SC_SUCCESS;
}

static uint16_t set_error_recovery(struct nvme *n, uint32_t nsid, uint32_t value)
{
	unsigned i;

	/* No error for deallocated blocks: Identify Namespace doesn't offer it. */
	if (value & 0x10000)
		return SC_INVALID_FIELD;
	for (i = 0; i < n->ns_count; i++)
		if (nsid == NSID_ALL || nsid == i + 1)
			n->features.error_recovery[i] = value & 0xffff;
	return SC_SUCCESS;
}

static uint16_t apply(struct nvme *n, const struct nvme_cmd *cmd, uint32_t *dw0)
{
	uint32_t value = cmd->dw[11];

	switch (cmd->dw[10] & 0xff) {
	case FEATURE_ARBITRATION:
		n->features.arbitration = value & 0xffffff07;
		return SC_SUCCESS;
	case FEATURE_POWER:
		if (value & 0x1f)
			return SC_INVALID_FIELD; /* there is one power state */
		n->features.power = value & 0xe0;
		return SC_SUCCESS;
	case FEATURE_TEMPERATURE:
		return set_temperature(n, value);
	case FEATURE_ERROR_RECOVERY:
		return set_error_recovery(n, cmd->dw[1], value);
	case FEATURE_WRITE_CACHE:
		n->features.write_cache = value & 1;
		return SC_SUCCESS;
	case FEATURE_QUEUES:
		return set_queues(n, value, dw0);
	case FEATURE_COALESCING:
		n->features.coalescing = value & 0xffff;
		return SC_SUCCESS;
	case FEATURE_VECTOR:
		return set_vector(n, value);
	case FEATURE_ATOMICITY:
		n->features.atomicity = value & 1;
		return SC_SUCCESS;
	case FEATURE_EVENTS:
		n->features.events = value & (EVENTS_SMART | EVENTS_NAMESPACE);
		check_temperature(n);
		return SC_SUCCESS;
	case FEATURE_TIMESTAMP:
		return set_timestamp(n, cmd);
	default:
		n->features.keep_alive = value;
		nvme_keep_alive(n);
		return SC_SUCCESS;
	}
}

uint16_t nvme_set_features(struct nvme *n, const struct nvme_cmd *cmd, uint32_t *dw0)
{
	const struct feature *feature = feature_of(cmd->dw[10] & 0xff);
	uint32_t nsid = cmd->dw[1];

	if (!feature)
		return SC_INVALID_FIELD;
	if (cmd->dw[10] >> 31)
		return SC_NOT_SAVEABLE;
	if (feature->can & PER_NS) {
		if (nsid != NSID_ALL && !nvme_ns_of(n, nsid))
			return SC_INVALID_NAMESPACE;
	} else if (nsid && nsid != NSID_ALL) {
		return nvme_ns_of(n, nsid) ? SC_NOT_NAMESPACE : SC_INVALID_NAMESPACE;
	}
	return apply(n, cmd, dw0);
}

/* ---- get ---------------------------------------------------------------------------------------
 */

static uint16_t get_vector(const struct nvme *n, uint32_t vector, bool initial, uint32_t *dw0)
{
	if ((vector & 0xffff) >= NVME_VECTORS)
		return SC_INVALID_FIELD;
	vector &= 0xffff;
	*dw0 = vector;
	if (!initial && n->features.uncoalesced[vector])
		*dw0 |= 1u << 16;
	return SC_SUCCESS;
}

static uint16_t get_temperature(struct nvme *n, uint32_t cdw11, bool initial, uint32_t *dw0)
{
	const uint32_t *at = threshold(n, cdw11, false);

	if (!at)
		return SC_INVALID_FIELD;
	*dw0 = *at;
	if (initial)
		*dw0 = at == &n->features.temperature_over ? NVME_WARNING : 0;
	return SC_SUCCESS;
}

static uint32_t current(const struct nvme *n, unsigned id, uint32_t nsid)
{
	switch (id) {
	case FEATURE_ARBITRATION:
		return n->features.arbitration;
	case FEATURE_POWER:
		return n->features.power;
	case FEATURE_ERROR_RECOVERY:
		return n->features.error_recovery[nsid - 1];
	case FEATURE_WRITE_CACHE:
		return n->features.write_cache;
	case FEATURE_COALESCING:
		return n->features.coalescing;
	case FEATURE_ATOMICITY:
		return n->features.atomicity;
	case FEATURE_EVENTS:
		return n->features.events;
	default:
		return n->features.keep_alive;
	}
}

uint16_t nvme_get_features(struct nvme *n, const struct nvme_cmd *cmd, uint32_t *dw0)
{
	const struct feature *feature = feature_of(cmd->dw[10] & 0xff);
	unsigned select = cmd->dw[10] >> 8 & 0x7;
	/* What isn't saveable is saved with its default (5.13). */
	bool initial = select == 1 || select == 2;

	if (!feature || select > 3)
		return SC_INVALID_FIELD;
	if ((feature->can & PER_NS) && !nvme_ns_of(n, cmd->dw[1]))
		return SC_INVALID_NAMESPACE;
	if (select == 3) {
		*dw0 = feature->can;
		return SC_SUCCESS;
	}
	switch (feature->id) {
	case FEATURE_TEMPERATURE:
		return get_temperature(n, cmd->dw[11], initial, dw0);
	case FEATURE_VECTOR:
		return get_vector(n, cmd->dw[11], initial, dw0);
	case FEATURE_TIMESTAMP:
		return get_timestamp(n, cmd, initial);
	case FEATURE_QUEUES:
		*dw0 = queue_count(n);
		return SC_SUCCESS;
	default:
		*dw0 = initial ? feature->initial : current(n, feature->id, cmd->dw[1]);
		return SC_SUCCESS;
	}
}
