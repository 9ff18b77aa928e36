/* SPDX-License-Identifier: MIT */
/*
 * Stage 1: what stands in front of an attachment. Owns the objects and which requester ID has
 * which, and how two translations become one.
 *
 * Invariants: an object never changes while a requester ID has it. The slot's pointer is replaced
 * with one store, and whoever replaced it waits for the slot's ports before it goes on; so an
 * object that nobody has is seen by no port. A governor's attachment is read through its slot,
 * which lives as long as the unit, and compared, never followed; whoever changes it waits for the
 * ports governed by it, too. A governor is a function by its requests without a PASID. A nested
 * domain knows its parent by a number that is never used twice. So no order of destruction leaves a
 * pointer to what is gone.
 *
 * Locks: unit->lock, for slots and counts. What ports call here takes none.
 * Only making an object, or a slot, can fail.
 */
#include <errno.h>

#include "space/space.h"
#include "util/alloc.h"
#include "util/refuse.h"

/* Most ranges that pass: each access looks at all of them. */
#define STAGE1_PASSES 16

bool stage1_holds(const struct uiommu_stage1 *stage1, const struct uiommu_domain *domain)
{
	if (stage1->governor &&
	    atomic_load_explicit(&stage1->governor->domain, memory_order_acquire) != domain)
		return false;
	return !stage1->domain || !stage1->domain->parent_uid ||
	       stage1->domain->parent_uid == domain->uid;
}

bool stage1_passes(const struct uiommu_stage1 *stage1, uint64_t iova)
{
	for (size_t i = 0; i < stage1->pass_count; i++)
		if (stage1->pass[i].first <= iova && iova <= stage1->pass[i].last)
			return true;
	return false;
}

enum uiommu_fault_reason stage1_walk(struct uiommu_domain *first, struct uiommu_domain *second,
				     uint64_t iova, int access, struct table_leaf *leaf,
				     bool *stopped)
{
	enum uiommu_fault_reason reason;
	struct table_leaf one, two;
	uint64_t between, below, above;

	*stopped = true;
	reason = first->guest ? guest_domain_walk(first, second, iova, access, &one, stopped)
			      : domain_walk(first, iova, access, &one);
	if (reason)
		return reason;
	reason = check_prot(one.prot, access);
	if (reason)
		return reason;
	*stopped = false;
	between = one.addr + (iova - one.range.first);
	if (!table_covers(&second->table, between))
		return UIOMMU_FAULT_BEYOND;
	reason = domain_walk(second, between, access, &two);
	if (reason)
		return reason;
	/* As far to either side as both go. */
	below = iova - one.range.first;
	if (between - two.range.first < below)
		below = between - two.range.first;
	above = one.range.last - iova;
	if (two.range.last - between < above)
		above = two.range.last - between;
	leaf->range = (struct uiommu_range){iova - below, iova + above};
	leaf->addr = two.addr + (between - two.range.first) - below;
	/* What is a register is for the second to say. */
	leaf->prot =
		(one.prot & two.prot & (UIOMMU_READ | UIOMMU_WRITE)) | (two.prot & UIOMMU_MMIO);
	return UIOMMU_FAULT_NONE;
}

/* ---- life ---- */

static int refuse_argument(int error)
{
	return uiommu_refuse(UIOMMU_RULE_ARGUMENT, error, "stage 1 options", UIOMMU_RANGE_NONE,
			     UIOMMU_RANGE_NONE);
}

static int refuse_memory(void)
{
	return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "stage 1", UIOMMU_RANGE_NONE,
			     UIOMMU_RANGE_NONE);
}

static bool pass_valid(const struct uiommu_stage1_options *options)
{
	for (size_t i = 0; i < options->pass_count; i++)
		if (!range_valid(options->pass[i]))
			return false;
	return options->pass_count <= STAGE1_PASSES;
}

static size_t stage1_size(size_t pass_count)
{
	return sizeof(struct uiommu_stage1) + pass_count * sizeof(struct uiommu_range);
}

UIOMMU_API int uiommu_stage1_create(struct uiommu_unit *unit,
				    const struct uiommu_stage1_options *options,
				    struct uiommu_stage1 **out)
{
	struct uiommu_stage1 *stage1;

	if (!options || options->size != sizeof(*options))
		return refuse_argument(options && options->size > sizeof(*options) ? -E2BIG
										   : -EINVAL);
	if ((options->domain && options->domain->unit != unit) || !pass_valid(options))
		return refuse_argument(-EINVAL);
	stage1 = uiommu_alloc(stage1_size(options->pass_count));
	if (!stage1)
		return refuse_memory();
	stage1->unit = unit;
	stage1->domain = options->domain;
	stage1->fault = options->fault;
	stage1->fault_ctx = options->fault_ctx;
	stage1->pass_count = options->pass_count;
	for (size_t i = 0; i < options->pass_count; i++)
		stage1->pass[i] = options->pass[i];
	if (options->governed) {
		pthread_mutex_lock(&unit->lock);
		stage1->governor = unit_slot(unit, options->governor, UIOMMU_NO_PASID);
		pthread_mutex_unlock(&unit->lock);
		if (!stage1->governor) {
			uiommu_stage1_destroy(stage1);
			return refuse_memory();
		}
	}
	*out = stage1;
	return 0;
}

UIOMMU_API void uiommu_stage1_destroy(struct uiommu_stage1 *stage1)
{
	if (stage1)
		uiommu_free(stage1, stage1_size(stage1->pass_count));
}

UIOMMU_API int uiommu_unit_set_stage1(struct uiommu_unit *unit, uiommu_rid rid,
				      struct uiommu_stage1 *stage1)
{
	return uiommu_unit_set_stage1_pasid(unit, rid, UIOMMU_NO_PASID, stage1);
}

UIOMMU_API int uiommu_unit_set_stage1_pasid(struct uiommu_unit *unit, uiommu_rid rid,
					    uint32_t pasid, struct uiommu_stage1 *stage1)
{
	struct slot *slot;
	bool found, changed;

	if ((stage1 && stage1->unit != unit) || pasid > UIOMMU_PASID_MAX)
		return refuse_argument(-EINVAL);
	pthread_mutex_lock(&unit->lock);
	slot = stage1 ? unit_slot(unit, rid, pasid) : unit_find_slot(unit, rid, pasid);
	found = slot;
	changed = slot && atomic_load_explicit(&slot->stage1, memory_order_relaxed) != stage1;
	if (changed) {
		slot->users++;
		atomic_store_explicit(&slot->stage1, stage1, memory_order_release);
		unit_wait(unit, slot, NULL);
	}
	pthread_mutex_unlock(&unit->lock);
	if (changed) {
		page_requests_cancel(unit, slot, NULL);
		slot_put(unit, slot);
	}
	return found || !stage1 ? 0 : refuse_memory();
}
