/* SPDX-License-Identifier: MIT */
/*
 * Where the data of a command is: PRP entries and lists (4.3), scatter/gather lists (4.4); and
 * moving small data.
 *
 * Invariants: the pieces that nvme_map() leaves have exactly the length asked for, and none is
 * empty. What is read of lists is bounded: a PRP list has one entry for each page of a transfer,
 * which NVME_TRANSFER bounds, and one more for each further page of the list; of an SGL at most
 * NVME_DESCRIPTORS are looked at. Addresses are the host's and may be anything.
 */
#include <string.h>

#include "device/models/nvme/nvme.h"

/* Entries of a PRP list that are read at once. */
#define PRP_CHUNK 256u

#define SGL_SIZE 16u

enum {
	SGL_DATA = 0,
	SGL_BIT_BUCKET = 1,
	SGL_SEGMENT = 2,
	SGL_LAST_SEGMENT = 3,
};

/* Append a piece, or lengthen the last one. */
static uint16_t add_piece(struct nvme *n, uint64_t iova, uint64_t len, bool skip)
{
	struct uiommu_sg *last = n->pieces ? &n->piece[n->pieces - 1] : NULL;

	if (last && skip == n->skip[n->pieces - 1] && (skip || last->iova + last->len == iova)) {
		last->len += len;
		return SC_SUCCESS;
	}
	if (n->pieces == NVME_PIECES)
		return SC_SGL_COUNT;
	n->piece[n->pieces] = (struct uiommu_sg){iova, len};
	n->skip[n->pieces++] = skip;
	return SC_SUCCESS;
}

/* ---- PRPs --------------------------------------------------------------------------------------
 */

/* The list at @iova describes @len bytes in whole pages, the last one in part. */
static uint16_t map_prp_list(struct nvme *n, uint64_t iova, uint64_t len)
{
	uint64_t page = UINT64_C(1) << n->page_log;
	uint8_t list[PRP_CHUNK * 8];

	if (iova & 7)
		return SC_PRP_OFFSET;
	while (len) {
		uint64_t wanted = (len + page - 1) >> n->page_log;
		uint64_t in_page = (page - (iova & (page - 1))) / 8;
		bool chained = wanted > in_page;
		unsigned count, i;

		/* The last entry of a page points to the next page of the list. */
		if (chained)
			wanted = in_page;
		count = wanted > PRP_CHUNK ? PRP_CHUNK : (unsigned)wanted;
		chained = chained && count == wanted;
		if (uiommu_function_dma_read(n->fn, iova, list, count * 8))
			return SC_DATA_TRANSFER;
		for (i = 0; i < count; i++) {
			uint64_t entry = nvme_get(list + 8 * i, 8);
			uint64_t piece = len < page ? len : page;
			uint16_t status;

			if (entry & (page - 1))
				return SC_PRP_OFFSET;
			if (chained && i == count - 1) {
				iova = entry;
				break;
			}
			status = add_piece(n, entry, piece, false);
			if (status)
				return status;
			len -= piece;
		}
		if (!chained)
			iova += count * 8;
	}
	return SC_SUCCESS;
}

static uint16_t map_prps(struct nvme *n, const struct nvme_cmd *cmd, uint64_t len)
{
	uint64_t page = UINT64_C(1) << n->page_log;
	uint64_t first = nvme_qword(cmd, 6), second = nvme_qword(cmd, 8);
	uint64_t piece = page - (first & (page - 1));
	uint16_t status;

	if (first & 3)
		return SC_PRP_OFFSET;
	if (piece > len)
		piece = len;
	status = add_piece(n, first, piece, false);
	len -= piece;
	if (status || !len)
		return status;
	if (len > page)
		return map_prp_list(n, second, len);
	return second & (page - 1) ? SC_PRP_OFFSET : add_piece(n, second, len, false);
}

/* ---- SGLs --------------------------------------------------------------------------------------
 */

struct sgl {
	uint64_t addr;
	uint32_t len;
	unsigned type;
};

/* A descriptor whose address is one: the other subtypes are for fabrics. */
static uint16_t sgl_parse(const uint8_t *at, struct sgl *sgl)
{
	sgl->addr = nvme_get(at, 8);
	sgl->len = (uint32_t)nvme_get(at + 8, 4);
	sgl->type = at[15] >> 4;
	return at[15] & 0xf || sgl->type > SGL_LAST_SEGMENT ? SC_SGL_TYPE : SC_SUCCESS;
}

/* A data block or bit bucket. *left is what the transfer has still to find. A host's data is not
 * thrown away: there a bit bucket has no effect. */
static uint16_t sgl_take(struct nvme *n, const struct sgl *sgl, bool to_host, uint64_t *left)
{
	uint64_t piece = sgl->len < *left ? sgl->len : *left;
	uint16_t status;

	if (!piece || (sgl->type == SGL_BIT_BUCKET && !to_host))
		return SC_SUCCESS;
	if (sgl->addr + (piece - 1) < sgl->addr && sgl->type == SGL_DATA)
		return SC_DATA_TRANSFER;
	status = add_piece(n, sgl->addr, piece, sgl->type == SGL_BIT_BUCKET);
	*left -= piece;
	return status;
}

/* One segment. If it isn't the last one, *sgl becomes the pointer to the next. */
static uint16_t map_segment(struct nvme *n, struct sgl *sgl, bool to_host, uint64_t *left,
			    unsigned *budget)
{
	uint64_t iova = sgl->addr, count = sgl->len / SGL_SIZE, i = 0;
	bool last = sgl->type == SGL_LAST_SEGMENT;
	uint8_t chunk[64 * SGL_SIZE];

	if (!count || sgl->len % SGL_SIZE)
		return SC_SGL_SEGMENT;
	for (; i < count && *left; i++) {
		unsigned at = i % 64;
		uint64_t fetch = count - i < 64 ? count - i : 64;
		uint16_t status;

		if (!(*budget)--)
			return SC_SGL_COUNT;
		if (!at &&
		    uiommu_function_dma_read(n->fn, iova + i * SGL_SIZE, chunk, fetch * SGL_SIZE))
			return SC_DATA_TRANSFER;
		status = sgl_parse(chunk + at * SGL_SIZE, sgl);
		if (status)
			return status;
		if (sgl->type == SGL_SEGMENT || sgl->type == SGL_LAST_SEGMENT) {
			/* Only at the end of one that is not the last. */
			return last || i != count - 1 ? SC_SGL_SEGMENT : SC_SUCCESS;
		}
		status = sgl_take(n, sgl, to_host, left);
		if (status)
			return status;
	}
	if (!*left)
		return SC_SUCCESS;
	return last ? SC_SGL_LENGTH : SC_SGL_SEGMENT;
}

static uint16_t map_sgl(struct nvme *n, const struct nvme_cmd *cmd, uint64_t len)
{
	bool to_host = (nvme_opcode(cmd) & 0x3) == 0x2;
	unsigned budget = NVME_DESCRIPTORS;
	uint8_t first[SGL_SIZE];
	struct sgl sgl;
	uint16_t status;
	unsigned i;

	for (i = 0; i < 4; i++)
		nvme_put(first + 4 * i, cmd->dw[6 + i], 4);
	status = sgl_parse(first, &sgl);
	if (status)
		return status;
	if (sgl.type == SGL_DATA || sgl.type == SGL_BIT_BUCKET) {
		status = sgl_take(n, &sgl, to_host, &len);
		return status || !len ? status : SC_SGL_LENGTH;
	}
	/* Ends: each round takes a descriptor from the budget, or fails. */
	while (len) {
		status = map_segment(n, &sgl, to_host, &len, &budget);
		if (status)
			return status;
	}
	return SC_SUCCESS;
}

/* ---- all of them -------------------------------------------------------------------------------
 */

uint16_t nvme_map(struct nvme *n, const struct nvme_cmd *cmd, uint64_t len)
{
	n->pieces = 0;
	switch (cmd->dw[0] >> 14 & 0x3) {
	case 0:
		return map_prps(n, cmd, len);
	case 1:
		return map_sgl(n, cmd, len);
	default:
		/* A metadata pointer of that kind is not offered. */
		return SC_INVALID_FIELD;
	}
}

/* Copy [offset, offset + len) of the transfer. */
static uint16_t copy(struct nvme *n, uint64_t offset, uint8_t *buf, uint64_t len, bool to_host)
{
	unsigned i;

	for (i = 0; i < n->pieces && len; i++) {
		const struct uiommu_sg *piece = &n->piece[i];
		uint64_t part = piece->len - offset;
		int error = 0;

		if (offset >= piece->len) {
			offset -= piece->len;
			continue;
		}
		if (part > len)
			part = len;
		if (!n->skip[i] && to_host)
			error = uiommu_function_dma_write(n->fn, piece->iova + offset, buf, part);
		else if (!n->skip[i])
			error = uiommu_function_dma_read(n->fn, piece->iova + offset, buf, part);
		if (error)
			return SC_DATA_TRANSFER;
		offset = 0;
		buf += part;
		len -= part;
	}
	return SC_SUCCESS;
}

uint16_t nvme_fetch(struct nvme *n, uint64_t offset, void *buf, size_t len)
{
	return copy(n, offset, buf, len, false);
}

uint16_t nvme_to_host(struct nvme *n, const struct nvme_cmd *cmd, const void *buf, uint64_t len)
{
	uint16_t status = nvme_map(n, cmd, len);

	return status ? status : copy(n, 0, (uint8_t *)(uintptr_t)buf, len, true);
}

uint16_t nvme_from_host(struct nvme *n, const struct nvme_cmd *cmd, void *buf, uint64_t len)
{
	uint16_t status = nvme_map(n, cmd, len);

	return status ? status : copy(n, 0, buf, len, false);
}
