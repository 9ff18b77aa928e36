/* SPDX-License-Identifier: MIT */
/*
 * Closed ranges and powers of two. A range [first, last] has no empty form, and its length
 * may be 2^64, which is why nothing here returns a length without saying what it does then.
 */
#ifndef UTIL_RANGE_H
#define UTIL_RANGE_H

#include <uiommu/types.h>

#define UIOMMU_RANGE_ALL ((struct uiommu_range){0, UINT64_MAX})
/* Refusals use it where a range doesn't apply. */
#define UIOMMU_RANGE_NONE ((struct uiommu_range){1, 0})

static inline bool range_valid(struct uiommu_range r)
{
	return r.first <= r.last;
}

static inline bool range_overlaps(struct uiommu_range a, struct uiommu_range b)
{
	return a.first <= b.last && b.first <= a.last;
}

static inline bool range_contains(struct uiommu_range outer, struct uiommu_range inner)
{
	return outer.first <= inner.first && inner.last <= outer.last;
}

/* What two ranges have in common; not valid if that is nothing. */
static inline struct uiommu_range range_common(struct uiommu_range a, struct uiommu_range b)
{
	return (struct uiommu_range){a.first > b.first ? a.first : b.first,
				     a.last < b.last ? a.last : b.last};
}

/* Length in bytes; the whole space saturates to UINT64_MAX. */
static inline uint64_t range_length(struct uiommu_range r)
{
	uint64_t len = r.last - r.first;

	return len == UINT64_MAX ? len : len + 1;
}

/* From a start and a length as programs give them: false if it is empty or runs past 2^64 - 1. */
static inline bool range_from(uint64_t start, uint64_t length, struct uiommu_range *out)
{
	if (!length || start + (length - 1) < start)
		return false;
	out->first = start;
	out->last = start + (length - 1);
	return true;
}

static inline bool is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* Smallest power of two >= v, for 1 <= v <= 2^63. */
static inline uint64_t pow2_ceil(uint64_t v)
{
	return v <= 1 ? 1 : UINT64_C(1) << (64 - __builtin_clzll(v - 1));
}

/* a + b, stopping at UINT64_MAX. */
static inline uint64_t add_sat(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

_Static_assert(sizeof(struct uiommu_range) == 16, "a range is two 64-bit words");

#endif
