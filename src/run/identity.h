/* SPDX-License-Identifier: MIT */
/*
 * Which memory is at an address of this process.
 */
#ifndef RUN_IDENTITY_H
#define RUN_IDENTITY_H

#include <uiommu/vfio.h>

/* 0, or -EFAULT: nothing is mapped there. */
int identity_of(uint64_t addr, struct uiommu_vfio_memory *memory);

#endif
