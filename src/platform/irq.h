/* SPDX-License-Identifier: MIT */
/*
 * The interrupt controller's side of an MSI: spaces of vectors, each vector bound to one requester
 * ID and one handler. A doorbell has one space, or one for each device (x86: the interrupt
 * remapping table; an ITS: a device's table).
 */
#ifndef PLATFORM_IRQ_H
#define PLATFORM_IRQ_H

#include <pthread.h>

#include <uiommu/platform.h>

struct irq_space;

struct irq_table {
	pthread_mutex_t lock;	  /* a leaf: nothing is called under it */
	pthread_cond_t idle;	  /* a block's handler has returned */
	struct irq_space *spaces; /* linked; each lives as long as the table */
};

/* Consecutive vectors that were allocated together. */
struct uiommu_irq {
	struct irq_space *space;
	uiommu_irq_fn fn;
	void *ctx;
	uint32_t first, count;
	uint32_t base; /* its vectors' numbers as they count for alignment: so much more than first
			*/
	unsigned running; /* handlers under way */
	uiommu_rid rid;
	/* Whoever made it: what it holds of an address space, and where its device writes. */
	struct uiommu_ioas *ioas; /* NULL: nothing */
	struct uiommu_ioas *next; /* where it is about to go */
	uint64_t doorbell;
	uint64_t address;
};

void irq_table_init(struct irq_table *table);
void irq_table_destroy(struct irq_table *table);
/* Around fork(), while no handler can run. */
void irq_table_fork_prepare(struct irq_table *table);
void irq_table_fork_parent(struct irq_table *table);
void irq_table_fork_child(struct irq_table *table);

/* Allocate count vectors (with the block's base aligned to count, if that is a power
 * of two) of the space of this doorbell
 * and device, which has so many. -ENOSPC, -EINVAL, -ENOMEM. */
int irq_table_alloc(struct irq_table *table, unsigned doorbell, uiommu_rid device, uint32_t vectors,
		    const struct uiommu_irq *block, struct uiommu_irq **out);
/* Release a block; waits for its handler. */
void irq_table_free(struct irq_table *table, struct uiommu_irq *irq);
/* Note where the block's device writes. */
void irq_table_set_address(struct irq_table *table, struct uiommu_irq *irq, uint64_t address);
/* The number of the doorbell to which this requester was told to write at that page, or -1. */
int irq_table_doorbell(struct irq_table *table, uiommu_rid rid, uint64_t address);
/* Deliver: 0, or -EPERM if the vector is free, or another requester's and that is looked at. */
int irq_table_deliver(struct irq_table *table, unsigned doorbell, uiommu_rid device,
		      bool check_requester, uiommu_rid rid, int64_t vector);

#endif
