/* SPDX-License-Identifier: MIT */
/*
 * Making batches, and the public calls that are a batch of one operation each and may work on two
 * IOASes or choose a place. Owns the numbers of batches; locks are taken by the batch (batch.c).
 */
#include <errno.h>

#include "space/batch.h"
#include "util/alloc.h"
#include "util/refuse.h"

static uint64_t new_id(void)
{
	static _Atomic uint64_t next = 1;

	return atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
}

int batch_init(struct uiommu_batch *batch, const struct uiommu_batch_options *options)
{
	static const struct uiommu_batch_options none = {.size = sizeof(none)};

	if (!options)
		options = &none;
	if (options->size != sizeof(*options))
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT,
				     options->size > sizeof(*options) ? -E2BIG : -EINVAL,
				     "batch options", UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	*batch = (struct uiommu_batch){
		.id = new_id(),
		.hold = options->hold,
		.release = options->release,
		.ctx = options->ctx,
	};
	return 0;
}

UIOMMU_API int uiommu_batch_open(const struct uiommu_batch_options *options,
				 struct uiommu_batch **out)
{
	struct uiommu_batch *batch = uiommu_alloc(sizeof(*batch));
	int ret;

	if (!batch)
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "batch", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	ret = batch_init(batch, options);
	if (ret) {
		uiommu_free(batch, sizeof(*batch));
		return ret;
	}
	*out = batch;
	return 0;
}

UIOMMU_API void uiommu_batch_close(struct uiommu_batch *batch)
{
	if (!batch)
		return;
	uiommu_batch_finish(batch);
	uiommu_free(batch, sizeof(*batch));
}

/* ---- one operation ---- */

UIOMMU_API int uiommu_ioas_copy(struct uiommu_ioas *ioas, struct uiommu_range range,
				struct uiommu_ioas *source, uint64_t iova, int prot, void *tag)
{
	struct uiommu_op op = {
		.kind = UIOMMU_OP_COPY,
		.prot = prot,
		.ioas = ioas,
		.range = range,
		.addr = iova,
		.source = source,
		.tag = tag,
	};

	return batch_run_one(&op);
}

static int place_one(struct uiommu_op *op, uint64_t *iova)
{
	int ret = batch_run_one(op);

	if (!ret)
		*iova = op->range.first;
	return ret;
}

UIOMMU_API int uiommu_ioas_map_anywhere(struct uiommu_ioas *ioas, const struct uiommu_place *place,
					uint64_t addr, int prot, void *tag, uint64_t *iova)
{
	struct uiommu_op op = {
		.kind = UIOMMU_OP_MAP,
		.prot = prot,
		.ioas = ioas,
		.addr = addr,
		.tag = tag,
		.place = place,
	};

	return place_one(&op, iova);
}

UIOMMU_API int uiommu_ioas_copy_anywhere(struct uiommu_ioas *ioas, const struct uiommu_place *place,
					 struct uiommu_ioas *source, uint64_t from, int prot,
					 void *tag, uint64_t *iova)
{
	struct uiommu_op op = {
		.kind = UIOMMU_OP_COPY,
		.prot = prot,
		.ioas = ioas,
		.addr = from,
		.source = source,
		.tag = tag,
		.place = place,
	};

	return place_one(&op, iova);
}
