/* SPDX-License-Identifier: MIT */
/*
 * Owns the spaces of interrupt vectors.
 *
 * Invariants: a vector points to the block it belongs to, or is NULL; a block is freed only when no
 * handler of it runs. Where the controller looks at the requester, an interrupt is accepted only
 * from the requester ID that the block was made for: that is what makes MSIs isolated.
 *
 * Lock: table->lock, a leaf. Handlers run without it.
 */
#include "platform/irq.h"

#include <errno.h>

#include "util/alloc.h"
#include "util/refuse.h"

#define PAGE_VECTORS 256

struct irq_space {
	struct irq_space *next;
	unsigned doorbell;
	uiommu_rid device; /* 0 where devices share it */
	uint32_t vectors;
	uint32_t hint; /* where to look for free vectors next */
	size_t pages;
	struct uiommu_irq **page[]; /* [vector / 256][vector % 256] */
};

static size_t space_size(size_t pages)
{
	return sizeof(struct irq_space) + pages * sizeof(struct uiommu_irq **);
}

void irq_table_init(struct irq_table *table)
{
	pthread_mutex_init(&table->lock, NULL);
	pthread_cond_init(&table->idle, NULL);
}

void irq_table_destroy(struct irq_table *table)
{
	while (table->spaces) {
		struct irq_space *space = table->spaces;

		table->spaces = space->next;
		for (size_t i = 0; i < space->pages; i++)
			uiommu_free(space->page[i], PAGE_VECTORS * sizeof(struct uiommu_irq *));
		uiommu_free(space, space_size(space->pages));
	}
	pthread_cond_destroy(&table->idle);
	pthread_mutex_destroy(&table->lock);
}

void irq_table_fork_prepare(struct irq_table *table)
{
	pthread_mutex_lock(&table->lock);
}

void irq_table_fork_parent(struct irq_table *table)
{
	pthread_mutex_unlock(&table->lock);
}

void irq_table_fork_child(struct irq_table *table)
{
	irq_table_init(table);
}

static int refuse(int error)
{
	return uiommu_refuse(error == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_ARGUMENT, error,
			     "interrupt block", UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

/* ---- spaces; table->lock held ---- */

static struct irq_space *space_find(struct irq_table *table, unsigned doorbell, uiommu_rid device)
{
	struct irq_space *space = table->spaces;

	while (space && (space->doorbell != doorbell || space->device != device))
		space = space->next;
	return space;
}

static struct irq_space *space_get(struct irq_table *table, unsigned doorbell, uiommu_rid device,
				   uint32_t vectors)
{
	struct irq_space *space = space_find(table, doorbell, device);
	size_t pages = (vectors + PAGE_VECTORS - 1) / PAGE_VECTORS;

	if (space)
		return space;
	space = uiommu_alloc(space_size(pages));
	if (!space)
		return NULL;
	space->doorbell = doorbell;
	space->device = device;
	space->vectors = vectors;
	space->pages = pages;
	space->next = table->spaces;
	table->spaces = space;
	return space;
}

static struct uiommu_irq *vector_get(const struct irq_space *space, uint32_t vector)
{
	struct uiommu_irq **page = space->page[vector / PAGE_VECTORS];

	return page ? page[vector % PAGE_VECTORS] : NULL;
}

/* Make sure that the vectors can be written. */
static int vectors_prepare(struct irq_space *space, uint32_t first, uint32_t count)
{
	for (uint32_t i = first / PAGE_VECTORS; i <= (first + count - 1) / PAGE_VECTORS; i++) {
		if (space->page[i])
			continue;
		space->page[i] = uiommu_alloc(PAGE_VECTORS * sizeof(struct uiommu_irq *));
		if (!space->page[i])
			return refuse(-ENOMEM);
	}
	return 0;
}

static void vectors_set(struct irq_space *space, uint32_t first, uint32_t count,
			struct uiommu_irq *irq)
{
	for (uint32_t vector = first; vector < first + count; vector++)
		space->page[vector / PAGE_VECTORS][vector % PAGE_VECTORS] = irq;
}

/* A run of free vectors, which with base added begins at a multiple of step; searched from the hint
 * on, once around. */
static int find_run(struct irq_space *space, uint32_t count, uint32_t step, uint32_t base,
		    uint32_t *first)
{
	uint32_t lead = -base & (step - 1);
	uint32_t start = space->hint - space->hint % step;
	uint32_t steps = (space->vectors + step - 1) / step * step;

	for (uint32_t tried = 0; tried < steps; tried += step) {
		uint32_t at = (start + tried) % steps + lead, n = 0;

		while (at + n < space->vectors && n < count && !vector_get(space, at + n))
			n++;
		if (n == count) {
			*first = at;
			return 0;
		}
	}
	return uiommu_refuse(UIOMMU_RULE_LIMIT, -ENOSPC, "interrupt vectors",
			     (struct uiommu_range){0, count - 1},
			     (struct uiommu_range){0, space->vectors - 1});
}

/* ---- blocks ---- */

int irq_table_alloc(struct irq_table *table, unsigned doorbell, uiommu_rid device, uint32_t vectors,
		    const struct uiommu_irq *block, struct uiommu_irq **out)
{
	struct irq_space *space;
	struct uiommu_irq *irq;
	uint32_t step;
	int ret;

	if (!block->count || block->count > 2048 || !block->fn)
		return refuse(-EINVAL);
	irq = uiommu_alloc(sizeof(*irq));
	if (!irq)
		return refuse(-ENOMEM);
	*irq = *block;
	pthread_mutex_lock(&table->lock);
	space = space_get(table, doorbell, device, vectors);
	step = is_pow2(irq->count) ? irq->count : 1;
	ret = space ? find_run(space, irq->count, step, irq->base, &irq->first) : refuse(-ENOMEM);
	if (!ret)
		ret = vectors_prepare(space, irq->first, irq->count);
	if (!ret) {
		irq->space = space;
		space->hint = (irq->first + irq->count) % space->vectors;
		vectors_set(space, irq->first, irq->count, irq);
	}
	pthread_mutex_unlock(&table->lock);
	if (ret)
		uiommu_free(irq, sizeof(*irq));
	else
		*out = irq;
	return ret;
}

void irq_table_free(struct irq_table *table, struct uiommu_irq *irq)
{
	pthread_mutex_lock(&table->lock);
	vectors_set(irq->space, irq->first, irq->count, NULL);
	while (irq->running)
		pthread_cond_wait(&table->idle, &table->lock);
	pthread_mutex_unlock(&table->lock);
	uiommu_free(irq, sizeof(*irq));
}

void irq_table_set_address(struct irq_table *table, struct uiommu_irq *irq, uint64_t address)
{
	pthread_mutex_lock(&table->lock);
	irq->address = address;
	pthread_mutex_unlock(&table->lock);
}

/* A block of the space that belongs to the requester and this page. */
static bool space_writes(const struct irq_space *space, uiommu_rid rid, uint64_t address)
{
	for (uint32_t vector = 0; vector < space->vectors; vector++) {
		const struct uiommu_irq *irq = vector_get(space, vector);

		if (irq && irq->rid == rid && !((irq->address ^ address) & ~UINT64_C(0xfff)))
			return true;
	}
	return false;
}

int irq_table_doorbell(struct irq_table *table, uiommu_rid rid, uint64_t address)
{
	int found = -1;

	pthread_mutex_lock(&table->lock);
	for (struct irq_space *space = table->spaces; space && found < 0; space = space->next)
		if (space_writes(space, rid, address))
			found = (int)space->doorbell;
	pthread_mutex_unlock(&table->lock);
	return found;
}

int irq_table_deliver(struct irq_table *table, unsigned doorbell, uiommu_rid device,
		      bool check_requester, uiommu_rid rid, int64_t vector)
{
	struct uiommu_irq *irq = NULL;
	struct irq_space *space;

	pthread_mutex_lock(&table->lock);
	space = space_find(table, doorbell, device);
	if (space && vector >= 0 && vector < space->vectors)
		irq = vector_get(space, (uint32_t)vector);
	if (irq && check_requester && irq->rid != rid)
		irq = NULL;
	if (irq)
		irq->running++;
	pthread_mutex_unlock(&table->lock);
	if (!irq)
		return -EPERM;
	irq->fn(irq->ctx, (unsigned)vector - irq->first);
	pthread_mutex_lock(&table->lock);
	if (!--irq->running)
		pthread_cond_broadcast(&table->idle);
	pthread_mutex_unlock(&table->lock);
	return 0;
}
