/* SPDX-License-Identifier: MIT */
/*
 * I/O commands of the NVMe controller (NVM command set, 6): read, write, flush, compare, verify,
 * write zeroes, dataset management; and the steps of those that take long.
 *
 * Data goes between the file and the host's memory without a copy where that is possible
 * (uiommu_port_from_file()). Commands are bounded by NVME_TRANSFER bytes if they move data; those
 * that move none, and compare, go on in steps of a buffer, so that each step is short.
 *
 * Invariants: nothing outside of the namespace's file is touched; a namespace that is read only is
 * never written. Write zeroes makes a hole where it may, and writes where there is none to be had.
 */
#include <errno.h>
#include <string.h>

#include "device/models/nvme/nvme.h"

#define CDW12_FUA (1u << 30)
#define CDW11_AD  (1u << 2)

/* Buffers a step zeroes or looks at when it has to write or read them, bytes it makes holes of. */
#define STEP_BUFFERS 4
#define STEP_HOLE    (UINT64_C(1) << 30)

static uint64_t slba_of(const struct nvme_cmd *cmd)
{
	return nvme_qword(cmd, 10);
}

static uint64_t blocks_of(const struct nvme_cmd *cmd)
{
	return (cmd->dw[12] & 0xffff) + UINT64_C(1);
}

static bool inside(const struct nvme_ns *ns, uint64_t slba, uint64_t blocks)
{
	return slba <= nvme_ns_blocks(ns) && blocks <= nvme_ns_blocks(ns) - slba;
}

static uint16_t file_error(struct nvme *n, int error, bool writing)
{
	if (error == -EFAULT)
		return SC_DATA_TRANSFER;
	n->media_errors++;
	if (!writing)
		return SC_READ_ERROR;
	return error == -ENOSPC || error == -EDQUOT || error == -EFBIG ? SC_CAPACITY
								       : SC_WRITE_FAULT;
}

/* ---- read and write ---------------------------------------------------------------------------
 */

/* Between the file and the mapped pieces, leaving out those without memory. */
static int move_pieces(struct nvme *n, struct nvme_ns *ns, uint64_t at, bool writing)
{
	struct uiommu_port *port = uiommu_function_port(n->fn);
	unsigned i = 0;

	while (i < n->pieces) {
		uint64_t bytes = 0;
		unsigned first = i;
		int error;

		for (; i < n->pieces && n->skip[i] == n->skip[first]; i++)
			bytes += n->piece[i].len;
		if (!n->skip[first]) {
			error = writing ? uiommu_port_to_file(port, n->piece + first, i - first,
							      &ns->file, at, bytes)
					: uiommu_port_from_file(port, n->piece + first, i - first,
								&ns->file, at, bytes);
			if (error)
				return error;
		}
		at += bytes;
	}
	return 0;
}

static uint16_t read_write(struct nvme *n, struct nvme_ns *ns, const struct nvme_cmd *cmd)
{
	bool writing = nvme_opcode(cmd) == IO_WRITE;
	uint64_t len = blocks_of(cmd) << ns->block_log;
	uint16_t status;
	bool through;
	int error;

	if (len > NVME_TRANSFER)
		return SC_INVALID_FIELD;
	if (!inside(ns, slba_of(cmd), blocks_of(cmd)))
		return SC_LBA_RANGE;
	if (writing && ns->read_only)
		return SC_WRITE_PROTECTED;
	status = nvme_map(n, cmd, len);
	if (status)
		return status;
	/* Without a write cache every write is as if with FUA. */
	through = writing && ((cmd->dw[12] & CDW12_FUA) || !n->features.write_cache);
	if (through)
		ns->file.flags |= UIOMMU_FILE_SYNC;
	error = move_pieces(n, ns, slba_of(cmd) << ns->block_log, writing);
	ns->file.flags &= ~UIOMMU_FILE_SYNC;
	n->moved += len;
	if (error)
		return file_error(n, error, writing);
	if (writing) {
		n->writes++;
		n->units_written += len / 512;
	} else {
		n->reads++;
		n->units_read += len / 512;
	}
	return SC_SUCCESS;
}

static uint16_t flush(struct nvme *n, struct nvme_ns *ns, uint32_t nsid)
{
	uint16_t status = SC_SUCCESS;
	unsigned i;

	if (nsid != NSID_ALL)
		return nvme_store_flush(n, ns);
	for (i = 0; i < n->ns_count; i++) {
		uint16_t one = nvme_store_flush(n, &n->ns[i]);

		status = status ? status : one;
	}
	return status;
}

/* ---- in steps ----------------------------------------------------------------------------------
 */

static struct nvme_ns *step_ns(struct nvme *n)
{
	return &n->ns[n->step_ns];
}

static uint16_t begin(struct nvme *n, enum nvme_step step, struct nvme_ns *ns, uint64_t at,
		      uint64_t end)
{
	n->step = step;
	n->step_ns = (unsigned)(ns - n->ns);
	n->step_at = at;
	n->step_end = end;
	n->step_data = 0;
	return NVME_STEPS;
}

static uint16_t begin_blocks(struct nvme *n, enum nvme_step step, struct nvme_ns *ns,
			     const struct nvme_cmd *cmd)
{
	uint64_t at = slba_of(cmd) << ns->block_log;

	return begin(n, step, ns, at, at + (blocks_of(cmd) << ns->block_log));
}

static size_t next_part(const struct nvme *n)
{
	uint64_t left = n->step_end - n->step_at;

	return left < NVME_BUFFER ? (size_t)left : NVME_BUFFER;
}

static uint16_t zero_end(struct nvme *n, struct nvme_ns *ns)
{
	bool through = (n->step_cmd.dw[12] & CDW12_FUA) || !n->features.write_cache;

	n->writes++;
	return through ? nvme_store_flush(n, ns) : SC_SUCCESS;
}

/* Zero a few buffers' worth. */
static uint16_t write_some(struct nvme *n)
{
	unsigned i;

	memset(n->buffer, 0, sizeof(n->buffer));
	for (i = 0; i < STEP_BUFFERS && n->step_at < n->step_end; i++) {
		size_t part = next_part(n);
		int error = nvme_store_write(step_ns(n), n->step_at, n->buffer, part);

		if (error)
			return file_error(n, error, true);
		n->step_at += part;
	}
	return SC_SUCCESS;
}

static uint16_t zero_step(struct nvme *n)
{
	uint16_t status = write_some(n);

	if (status)
		return status;
	return n->step_at < n->step_end ? NVME_STEPS : zero_end(n, step_ns(n));
}

static uint16_t write_zeroes(struct nvme *n, struct nvme_ns *ns, const struct nvme_cmd *cmd)
{
	uint64_t at = slba_of(cmd) << ns->block_log;
	uint64_t len = blocks_of(cmd) << ns->block_log;

	if (!inside(ns, slba_of(cmd), blocks_of(cmd)))
		return SC_LBA_RANGE;
	if (ns->read_only)
		return SC_WRITE_PROTECTED;
	if (nvme_store_punch(ns, at, len))
		return begin_blocks(n, NVME_STEP_ZERO, ns, cmd);
	n->step_cmd = *cmd;
	return zero_end(n, ns);
}

static uint16_t verify(struct nvme *n, struct nvme_ns *ns, const struct nvme_cmd *cmd)
{
	if (!inside(ns, slba_of(cmd), blocks_of(cmd)))
		return SC_LBA_RANGE;
	return begin_blocks(n, NVME_STEP_VERIFY, ns, cmd);
}

static uint16_t verify_step(struct nvme *n)
{
	unsigned i;

	for (i = 0; i < STEP_BUFFERS && n->step_at < n->step_end; i++) {
		size_t part = next_part(n);
		int error = nvme_store_read(step_ns(n), n->step_at, n->buffer, part);

		if (error)
			return file_error(n, error, false);
		n->step_at += part;
	}
	return n->step_at < n->step_end ? NVME_STEPS : SC_SUCCESS;
}

static uint16_t compare(struct nvme *n, struct nvme_ns *ns, const struct nvme_cmd *cmd)
{
	uint64_t len = blocks_of(cmd) << ns->block_log;
	uint16_t status;

	if (len > NVME_TRANSFER)
		return SC_INVALID_FIELD;
	if (!inside(ns, slba_of(cmd), blocks_of(cmd)))
		return SC_LBA_RANGE;
	status = nvme_map(n, cmd, len);
	return status ? status : begin_blocks(n, NVME_STEP_COMPARE, ns, cmd);
}

/* The pieces stay mapped: nothing else is executed meanwhile. */
static uint16_t compare_step(struct nvme *n)
{
	size_t part = next_part(n);
	uint16_t status = nvme_fetch(n, n->step_data, n->other, part);
	int error;

	if (status)
		return status;
	error = nvme_store_read(step_ns(n), n->step_at, n->buffer, part);
	if (error)
		return file_error(n, error, false);
	if (memcmp(n->buffer, n->other, part) != 0)
		return SC_COMPARE;
	n->step_at += part;
	n->step_data += part;
	if (n->step_at < n->step_end)
		return NVME_STEPS;
	n->reads++;
	n->units_read += n->step_data / 512;
	return SC_SUCCESS;
}

/* ---- dataset management (6.7) ------------------------------------------------------------------
 */

static void range_at(const struct nvme *n, uint64_t i, uint64_t *slba, uint64_t *blocks)
{
	*blocks = nvme_get(n->ranges + 16 * i + 4, 4);
	*slba = nvme_get(n->ranges + 16 * i + 8, 8);
}

static uint16_t dataset(struct nvme *n, struct nvme_ns *ns, const struct nvme_cmd *cmd)
{
	unsigned count = (cmd->dw[10] & 0xff) + 1, i;
	uint16_t status = nvme_from_host(n, cmd, n->ranges, 16 * (uint64_t)count);

	if (status || !(cmd->dw[11] & CDW11_AD))
		return status;
	if (ns->read_only)
		return SC_WRITE_PROTECTED;
	for (i = 0; i < count; i++) {
		uint64_t slba, blocks;

		range_at(n, i, &slba, &blocks);
		if (!inside(ns, slba, blocks))
			return SC_LBA_RANGE;
	}
	return begin(n, NVME_STEP_TRIM, ns, 0, count);
}

/* One range, or a part of it, of which step_data bytes are done. A file that makes no holes keeps
 * its data, as it may: deallocating is advice. */
static uint16_t trim_step(struct nvme *n)
{
	struct nvme_ns *ns = step_ns(n);
	uint64_t slba, blocks, left;
	int error = 0;

	range_at(n, n->step_at, &slba, &blocks);
	left = (blocks << ns->block_log) - n->step_data;
	if (left > STEP_HOLE)
		left = STEP_HOLE;
	if (left)
		error = nvme_store_punch(ns, (slba << ns->block_log) + n->step_data, left);
	if (error && error != -EOPNOTSUPP)
		return file_error(n, error, true);
	n->step_data += left;
	if (n->step_data == blocks << ns->block_log) {
		n->step_data = 0;
		n->step_at++;
	}
	return n->step_at < n->step_end ? NVME_STEPS : SC_SUCCESS;
}

/* ---- format (5.23) -----------------------------------------------------------------------------
 */

/* Begin with a namespace: what was in it will read as zeros. */
static uint16_t format_begin(struct nvme *n, unsigned i)
{
	return begin(n, NVME_STEP_FORMAT, &n->ns[i], 0, n->ns[i].size);
}

/* All of it is zeros: it has its new format. */
static void format_ended(struct nvme *n, struct nvme_ns *ns)
{
	static const unsigned logs[] = {9, 12};
	unsigned log = logs[n->step_cmd.dw[10] & 1];

	if (ns->block_log == log)
		return;
	ns->block_log = log;
	ns->changed = true;
	nvme_event(n, EVENT_NOTICE, EVENT_NOTICE_NAMESPACE, LOG_CHANGED);
}

static unsigned format_end(const struct nvme *n)
{
	return n->step_cmd.dw[1] == NSID_ALL ? n->ns_count : n->step_cmd.dw[1];
}

static uint16_t format_step(struct nvme *n)
{
	uint64_t part = n->step_end - n->step_at;
	uint16_t status = SC_SUCCESS;

	if (part > STEP_HOLE)
		part = STEP_HOLE;
	if (!nvme_store_punch(step_ns(n), n->step_at, part))
		n->step_at += part;
	else
		status = write_some(n);
	if (status || n->step_at < n->step_end)
		return status ? status : NVME_STEPS;
	format_ended(n, step_ns(n));
	return n->step_ns + 1 < format_end(n) ? format_begin(n, n->step_ns + 1) : SC_SUCCESS;
}

uint16_t nvme_format(struct nvme *n, const struct nvme_cmd *cmd)
{
	unsigned first = cmd->dw[1] == NSID_ALL ? 0 : cmd->dw[1] - 1, i;
	uint32_t cdw10 = cmd->dw[10];

	if (cmd->dw[1] != NSID_ALL && !nvme_ns_of(n, cmd->dw[1]))
		return SC_INVALID_NAMESPACE;
	/* Two formats, without metadata and so without protection. */
	if ((cdw10 & 0xf) > 1 || (cdw10 >> 5 & 0x7))
		return SC_FORMAT;
	/* User data erase is what is always done; there are no keys to erase. */
	if ((cdw10 >> 9 & 0x7) > 1)
		return SC_INVALID_FIELD;
	n->step_cmd = *cmd;
	for (i = first; i < format_end(n); i++)
		if (n->ns[i].read_only)
			return SC_WRITE_PROTECTED;
	return format_begin(n, first);
}

/* ---- all of them -------------------------------------------------------------------------------
 */

uint16_t nvme_io_step(struct nvme *n)
{
	switch (n->step) {
	case NVME_STEP_ZERO:
		return zero_step(n);
	case NVME_STEP_VERIFY:
		return verify_step(n);
	case NVME_STEP_COMPARE:
		return compare_step(n);
	case NVME_STEP_TRIM:
		return trim_step(n);
	case NVME_STEP_FORMAT:
		return format_step(n);
	default:
		return SC_INTERNAL;
	}
}

uint16_t nvme_io(struct nvme *n, const struct nvme_cmd *cmd)
{
	struct nvme_ns *ns = nvme_ns_of(n, cmd->dw[1]);

	switch (nvme_opcode(cmd)) {
	case IO_FLUSH:
	case IO_WRITE:
	case IO_READ:
	case IO_COMPARE:
	case IO_WRITE_ZEROES:
	case IO_DATASET:
	case IO_VERIFY:
		break;
	default:
		return SC_INVALID_OPCODE;
	}
	if (!ns && (nvme_opcode(cmd) != IO_FLUSH || cmd->dw[1] != NSID_ALL))
		return SC_INVALID_NAMESPACE;
	switch (nvme_opcode(cmd)) {
	case IO_FLUSH:
		return flush(n, ns, cmd->dw[1]);
	case IO_COMPARE:
		return compare(n, ns, cmd);
	case IO_WRITE_ZEROES:
		return write_zeroes(n, ns, cmd);
	case IO_DATASET:
		return dataset(n, ns, cmd);
	case IO_VERIFY:
		return verify(n, ns, cmd);
	default:
		return read_write(n, ns, cmd);
	}
}
