/* SPDX-License-Identifier: MIT */
/*
 * The library's only way to memory, so that an embedder can supply it and a test can make the nth
 * request fail. Memory is zeroed. The size is given again on release: no headers are kept.
 */
#ifndef UTIL_ALLOC_H
#define UTIL_ALLOC_H

#include <stddef.h>

#include <uiommu/types.h>

void *uiommu_alloc(size_t size);
void *uiommu_alloc_aligned(size_t size, size_t align);
void uiommu_free(void *ptr, size_t size);

/* count * size bytes; NULL also when that overflows. */
void *uiommu_alloc_array(size_t count, size_t size);

#endif
