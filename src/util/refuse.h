/* SPDX-License-Identifier: MIT */
/*
 * How any layer says no: one call that records rule, owner and ranges for uiommu_last_refusal() and
 * returns the error, so that refusing is one statement: return uiommu_refuse(...).
 */
#ifndef UTIL_REFUSE_H
#define UTIL_REFUSE_H

#include "util/range.h"

/* Record a refusal for the calling thread. @error is the negative errno; it is returned.
 * @owner may be NULL and is copied, cut if too long. Async-signal-safe. */
int uiommu_refuse(enum uiommu_rule rule, int error, const char *owner, struct uiommu_range asked,
		  struct uiommu_range blocking);

/* The same for a reserved region in the way. */
int uiommu_refuse_reserved(int error, const char *owner, struct uiommu_range asked,
			   struct uiommu_range blocking, enum uiommu_resv_type type);

#endif
