/* SPDX-License-Identifier: MIT */
/*
 * Owns the table of interrupt entries.
 *
 * Invariants: an entry points to the block it belongs to, or is NULL; a block is freed only when no
 * handler of it runs. An interrupt is accepted only from the requester ID that the block was made
 * for: that is what makes MSIs isolated.
 *
 * Lock: table->lock, a leaf. Handlers run without it.
 */
#include "platform/irq.h"

#include <errno.h>

#include "util/alloc.h"
#include "util/refuse.h"

struct irq_block {
	uiommu_irq_fn fn;
	void *ctx;
	uint32_t first, count;
	unsigned running; /* handlers under way */
	uiommu_rid rid;
};

void irq_table_init(struct irq_table *table)
{
	pthread_mutex_init(&table->lock, NULL);
	pthread_cond_init(&table->idle, NULL);
}

void irq_table_destroy(struct irq_table *table)
{
	for (unsigned i = 0; i < 256; i++)
		uiommu_free(table->pages[i], 256 * sizeof(struct irq_block *));
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

static struct irq_block *entry_get(struct irq_table *table, uint32_t entry)
{
	struct irq_block **page = table->pages[entry >> 8];

	return page ? page[entry & 255] : NULL;
}

static int refuse(int error)
{
	return uiommu_refuse(error == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_ARGUMENT, error,
			     "interrupt block", UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

/* Make sure that the entries can be written. */
static int entries_prepare(struct irq_table *table, uint32_t first, uint32_t count)
{
	for (uint32_t page = first >> 8; page <= (first + count - 1) >> 8; page++) {
		if (table->pages[page])
			continue;
		table->pages[page] = uiommu_alloc(256 * sizeof(struct irq_block *));
		if (!table->pages[page])
			return refuse(-ENOMEM);
	}
	return 0;
}

static void entries_set(struct irq_table *table, uint32_t first, uint32_t count,
			struct irq_block *block)
{
	for (uint32_t entry = first; entry < first + count; entry++)
		table->pages[entry >> 8][entry & 255] = block;
}

/* A run of free entries, searched from the hint on, once around. */
static int find_run(struct irq_table *table, uint32_t count, uint32_t step, uint32_t *first)
{
	uint32_t start = table->hint - table->hint % step;

	for (uint32_t tried = 0; tried < IRQ_ENTRIES; tried += step) {
		uint32_t at = (start + tried) % IRQ_ENTRIES, n = 0;

		while (at + n < IRQ_ENTRIES && n < count && !entry_get(table, at + n))
			n++;
		if (n == count) {
			*first = at;
			return 0;
		}
	}
	return uiommu_refuse(UIOMMU_RULE_LIMIT, -ENOSPC, "interrupt table",
			     (struct uiommu_range){0, count - 1},
			     (struct uiommu_range){0, IRQ_ENTRIES - 1});
}

int irq_table_alloc(struct irq_table *table, uiommu_rid rid, unsigned count, uiommu_irq_fn fn,
		    void *ctx, uint32_t *first)
{
	struct irq_block *block;
	int ret;

	if (!count || count > 2048 || !fn)
		return refuse(-EINVAL);
	block = uiommu_alloc(sizeof(*block));
	if (!block)
		return refuse(-ENOMEM);
	*block = (struct irq_block){.fn = fn, .ctx = ctx, .count = count, .rid = rid};
	pthread_mutex_lock(&table->lock);
	ret = find_run(table, count, is_pow2(count) ? count : 1, &block->first);
	if (!ret)
		ret = entries_prepare(table, block->first, count);
	if (!ret) {
		*first = block->first;
		table->hint = (block->first + count) % IRQ_ENTRIES;
		entries_set(table, block->first, count, block);
	}
	pthread_mutex_unlock(&table->lock);
	if (ret)
		uiommu_free(block, sizeof(*block));
	return ret;
}

void irq_table_free(struct irq_table *table, uint32_t first)
{
	struct irq_block *block;

	pthread_mutex_lock(&table->lock);
	block = first < IRQ_ENTRIES ? entry_get(table, first) : NULL;
	if (block && block->first == first) {
		entries_set(table, first, block->count, NULL);
		while (block->running)
			pthread_cond_wait(&table->idle, &table->lock);
		uiommu_free(block, sizeof(*block));
	}
	pthread_mutex_unlock(&table->lock);
}

int irq_table_deliver(struct irq_table *table, uiommu_rid rid, int64_t entry)
{
	struct irq_block *block = NULL;

	if (entry < 0 || entry >= IRQ_ENTRIES)
		return -EPERM;
	pthread_mutex_lock(&table->lock);
	block = entry_get(table, (uint32_t)entry);
	if (block && block->rid == rid)
		block->running++;
	else
		block = NULL;
	pthread_mutex_unlock(&table->lock);
	if (!block)
		return -EPERM;
	block->fn(block->ctx, (unsigned)entry - block->first);
	pthread_mutex_lock(&table->lock);
	if (!--block->running)
		pthread_cond_broadcast(&table->idle);
	pthread_mutex_unlock(&table->lock);
	return 0;
}
