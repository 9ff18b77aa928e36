/* SPDX-License-Identifier: MIT */
/*
 * The interrupt controller's side of an MSI: a table of entries, each bound to one requester ID and
 * one handler. On x86 this is the interrupt remapping table.
 */
#ifndef PLATFORM_IRQ_H
#define PLATFORM_IRQ_H

#include <pthread.h>

#include <uiommu/platform.h>

#define IRQ_ENTRIES 65536

struct irq_block; /* consecutive entries that were allocated together */

struct irq_table {
	pthread_mutex_t lock;	       /* a leaf: nothing is called under it */
	pthread_cond_t idle;	       /* a block's handler has returned */
	struct irq_block **pages[256]; /* [entry >> 8][entry & 255] */
	uint32_t hint;		       /* where to look for free entries next */
};

void irq_table_init(struct irq_table *table);
void irq_table_destroy(struct irq_table *table);
/* Around fork(), while no handler can run. */
void irq_table_fork_prepare(struct irq_table *table);
void irq_table_fork_parent(struct irq_table *table);
void irq_table_fork_child(struct irq_table *table);

/* Allocate count entries (aligned to count if it is a power of two); *first is the first.
 * -ENOSPC, -EINVAL, -ENOMEM. */
int irq_table_alloc(struct irq_table *table, uiommu_rid rid, unsigned count, uiommu_irq_fn fn,
		    void *ctx, uint32_t *first);
/* Release the block that begins with this entry; waits for its handler. */
void irq_table_free(struct irq_table *table, uint32_t first);
/* Deliver: 0, or -EPERM if the entry is free or another requester's. */
int irq_table_deliver(struct irq_table *table, uiommu_rid rid, int64_t entry);

#endif
