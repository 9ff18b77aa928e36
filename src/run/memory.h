/* SPDX-License-Identifier: MIT */
/*
 * The memory that simulated DMA reaches: this process's own, where it is there.
 */
#ifndef RUN_MEMORY_H
#define RUN_MEMORY_H

#include <uiommu/memory.h>
#include <uiommu/vfio.h>

extern const struct uiommu_memory memory_program;

/* The front end's callbacks for the program's pointers. */
void memory_host(struct uiommu_vfio_host *host);

#endif
