/* SPDX-License-Identifier: MIT */
/*
 * Draft A of Xen's PV IOMMU interface (Malcolm Crossley, April 2014), with what David Vrabel's
 * review asked for: a prototype, status codes for each operation, write-only refused, -ENOSYS when
 * it is off, one flush when all operations are complete, and the same for unmapping.
 *
 * Order of checks. Call: off (-ENOSYS), caller (-EPERM), command (-ENOSYS). Map: flags, bus frame
 * in 64 bits, frame and its owner, what the address space says. Unmap: flags, mapping.
 */
#include "abi/xen_pv.h"

#include <errno.h>
#include <stddef.h>

_Static_assert(sizeof(struct uiommu_xen_draft_op) == 24, "as the guest has it");
_Static_assert(sizeof(struct uiommu_xen_draft_op) <= XEN_ELEMENT_MAX, "fits");

static int16_t status_of(int error)
{
	switch (error) {
	case 0:
		return UIOMMU_XEN_DRAFT_OKAY;
	case -EEXIST:
	case -EBUSY:
		return UIOMMU_XEN_DRAFT_MAPPED;
	case -EINVAL:
		return UIOMMU_XEN_DRAFT_BAD_BFN;
	case -EOVERFLOW:
		return UIOMMU_XEN_DRAFT_BAD_PAGE;
	case -ENOENT:
		return UIOMMU_XEN_DRAFT_NOT_MAPPED;
	case -ENOMEM:
		return UIOMMU_XEN_DRAFT_NO_SPACE;
	}
	return UIOMMU_XEN_DRAFT_GENERAL_ERROR;
}

static int16_t map(struct uiommu_xen_call *call, const struct uiommu_xen_draft_op *op)
{
	const struct uiommu_xen_hooks *hooks = &call->domain->xen->hooks;
	const uint32_t known = UIOMMU_XEN_DRAFT_READABLE | UIOMMU_XEN_DRAFT_WRITEABLE;
	int prot = UIOMMU_READ;
	uint64_t mfn;

	if ((op->flags & ~known) || !(op->flags & UIOMMU_XEN_DRAFT_READABLE))
		return UIOMMU_XEN_DRAFT_BAD_FLAGS;
	if (op->flags & UIOMMU_XEN_DRAFT_WRITEABLE)
		prot |= UIOMMU_WRITE;
	if (op->bfn > UINT64_MAX >> XEN_PAGE_SHIFT)
		return UIOMMU_XEN_DRAFT_BAD_BFN;
	if (hooks->get_frame(hooks->ctx, call->domain->domid, op->mfn, &mfn))
		return UIOMMU_XEN_DRAFT_BAD_PAGE;
	return status_of(
		xen_map_page(call, call->domain->zero->ioas, op->bfn, mfn, prot, XEN_TAG_REF));
}

static bool map_one(struct uiommu_xen_call *call, void *element)
{
	struct uiommu_xen_draft_op *op = element;

	op->status = map(call, op);
	return false;
}

static bool unmap_one(struct uiommu_xen_call *call, void *element)
{
	struct uiommu_xen_draft_op *op = element;

	if (op->flags) {
		op->status = UIOMMU_XEN_DRAFT_BAD_FLAGS;
		return false;
	}
	op->status = status_of(xen_unmap_page(call, call->domain->zero->ioas, op->bfn));
	return !op->status;
}

static void no_memory(void *element)
{
	((struct uiommu_xen_draft_op *)element)->status = UIOMMU_XEN_DRAFT_NO_SPACE;
}

#define ARRAY(fn)                                                                 \
	{                                                                         \
		.size = sizeof(struct uiommu_xen_draft_op),                       \
		.answer_offset = offsetof(struct uiommu_xen_draft_op, status),    \
		.answer_size = sizeof(int16_t),                                   \
		.status_offset = offsetof(struct uiommu_xen_draft_op, status),    \
		.status_size = sizeof(int16_t), .one = fn, .no_memory = no_memory \
	}

UIOMMU_API long uiommu_xen_draft_op(struct uiommu_xen_call *call, unsigned cmd, uint64_t array,
				    unsigned count)
{
	static const struct xen_array map_array = ARRAY(map_one), unmap_array = ARRAY(unmap_one);

	if (call->domain->xen->off)
		return -ENOSYS;
	if (!call->domain->hardware)
		return -EPERM;
	if (cmd != UIOMMU_XEN_DRAFT_MAP_PAGE && cmd != UIOMMU_XEN_DRAFT_UNMAP_PAGE)
		return -ENOSYS;
	xen_call_resume(call, XEN_ENTRY_DRAFT, cmd, array, count);
	return xen_array_run(call, cmd == UIOMMU_XEN_DRAFT_MAP_PAGE ? &map_array : &unmap_array);
}
