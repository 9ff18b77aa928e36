/* SPDX-License-Identifier: MIT */
/*
 * spapr.h - the requests of the sPAPR TCE driver in one line each, for the clients that speak its
 * ABI.
 */
#ifndef CLIENTS_SPAPR_H
#define CLIENTS_SPAPR_H

#include "client.h"

#define WINDOW64 (UINT64_C(1) << 59)

static inline int tce_memory(int container, unsigned long request, const void *vaddr, uint64_t size)
{
	struct vfio_iommu_spapr_register_memory memory = {
		.argsz = sizeof(memory), .vaddr = (uintptr_t)vaddr, .size = size};

	return call(container, request, &memory);
}

static inline int tce_register(int container, const void *vaddr, uint64_t size)
{
	return tce_memory(container, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, vaddr, size);
}

static inline int tce_unregister(int container, const void *vaddr, uint64_t size)
{
	return tce_memory(container, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, vaddr, size);
}

/* *@start is where it is. */
static inline int tce_create(int container, unsigned page_shift, uint64_t size, unsigned levels,
			     uint64_t *start)
{
	struct vfio_iommu_spapr_tce_create create = {.argsz = sizeof(create),
						     .page_shift = page_shift,
						     .window_size = size,
						     .levels = levels};
	int ret = call(container, VFIO_IOMMU_SPAPR_TCE_CREATE, &create);

	*start = create.start_addr;
	return ret;
}

static inline int tce_remove(int container, uint64_t start)
{
	struct vfio_iommu_spapr_tce_remove remove = {.argsz = sizeof(remove), .start_addr = start};

	return call(container, VFIO_IOMMU_SPAPR_TCE_REMOVE, &remove);
}

#endif
