/* SPDX-License-Identifier: MIT */
/*
 * What the files of the sPAPR TCE driver share: a container's IOMMU with its windows, and the
 * memory that programs register.
 */
#ifndef ABI_VFIO_SPAPR_H
#define ABI_VFIO_SPAPR_H

#include "abi/vfio_private.h"
#include "util/range.h"

/* As many as a partitionable endpoint has (IOMMU_TABLE_GROUP_MAX_TABLES). */
#define SPAPR_WINDOWS 2

struct spapr_window {
	struct uiommu_range range; /* NONE: this slot is free */
	unsigned page_shift;
	uint64_t table_pages; /* charged for its table */
};

/* All but the pointers: the container's lock. */
struct vfio_spapr {
	struct vfio_iommu iommu;
	bool v2;
	bool enabled;	      /* by ENABLE, or the first REGISTER_MEMORY */
	bool adopted;	      /* v2: a request has tied the container to the program's memory */
	bool default_pending; /* the default window is made when it is first needed */
	unsigned groups;
	uint64_t charged; /* pages, by ENABLE */
	struct spapr_window windows[SPAPR_WINDOWS];
	struct imap registered; /* pieces of the program's list that this container has */
};

/* ---- vfio_spapr.c ---- */

/* Remove what is mapped in the range, cutting mappings at its borders. */
int spapr_clear(struct vfio_spapr *spapr, struct uiommu_range range);

/* ---- vfio_spapr_window.c ---- */

/* The window that holds the address, or NULL. */
struct spapr_window *spapr_window_at(struct vfio_spapr *spapr, uint64_t iova);
int spapr_refuse_outside(const struct vfio_spapr *spapr, struct uiommu_range asked);
/* Make the default window if it is still to be made. */
int spapr_default_window(struct vfio_spapr *spapr);
/* Requests. */
long spapr_create(struct vfio_spapr *spapr, uint64_t arg);
long spapr_remove(struct vfio_spapr *spapr, uint64_t arg);
/* At the end; nothing is mapped any more. */
void spapr_drop_windows(struct vfio_spapr *spapr);

/* ---- vfio_spapr_memory.c ---- */

long spapr_register(struct vfio_spapr *spapr, uint64_t arg);
long spapr_unregister(struct vfio_spapr *spapr, uint64_t arg);
void spapr_drop_registrations(struct vfio_spapr *spapr);
/* Is the memory registered, in pieces that hold whole pages of 1 << @page_shift bytes? How much of
 * it is, from @vaddr on; if all of it, it counts as mapped from now on. */
uint64_t spapr_memory_use(struct uiommu_vfio *vfio, uint64_t vaddr, uint64_t bytes,
			  unsigned page_shift);
/* So much of it is mapped no more. A leaf lock only. */
void spapr_memory_unuse(struct uiommu_vfio *vfio, uint64_t vaddr, uint64_t bytes);

#endif
