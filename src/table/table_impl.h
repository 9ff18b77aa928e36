/* SPDX-License-Identifier: MIT */
/*
 * The algorithms of a radix table, written once. A format's .c file includes its facts (fmt_*.h)
 * and then this file, which makes the format's struct table_ops out of them; the compiler sees
 * both, so no call is made per entry.
 *
 * What a format gives: FMT_NAME, FMT_OPS (name of the table_ops), FMT_MAX_LEVELS, FMT_LEVEL_BITS,
 * FMT_PAGE_SIZES, FMT_MAX_ADDR, fmt_levels(), fmt_present(), fmt_is_leaf(), fmt_make_leaf(),
 * fmt_make_table(), fmt_addr(), fmt_prot(). Entries are 64 bits, tables one page.
 *
 * Invariants: a table page that is linked holds at least one present entry, except the root; the
 * count beside a page is the number of its present entries; a page is zero when it is unlinked.
 * Entries are written whole, with release order after what they point to; walkers read with
 * acquire. Unlinked pages go through the gather, for a walker may still be inside.
 */
#ifndef FMT_NAME
#error "include a format before table_impl.h"
#endif

#include <errno.h>
#include <string.h>

#include "table/table.h"

#define LEVEL_ENTRIES (1u << FMT_LEVEL_BITS)
#define PAGE_SHIFT    12

_Static_assert(LEVEL_ENTRIES * sizeof(uint64_t) == TABLE_PAGE, "a table is one page");

static inline unsigned level_shift(unsigned level)
{
	return PAGE_SHIFT + level * FMT_LEVEL_BITS;
}

static inline unsigned level_index(uint64_t iova, unsigned level)
{
	return (iova >> level_shift(level)) & (LEVEL_ENTRIES - 1);
}

static inline uint64_t entry_read(const uint64_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static inline void entry_write(uint64_t *entry, uint64_t value)
{
	__atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

static inline uint64_t *entry_table(uint64_t entry)
{
	return (uint64_t *)(uintptr_t)fmt_addr(entry);
}

/* May [iova, last] -> addr start with a leaf of this level? */
static inline bool leaf_fits(uint64_t iova, uint64_t last, uint64_t addr, unsigned level)
{
	uint64_t size = UINT64_C(1) << level_shift(level);

	return (FMT_PAGE_SIZES & size) && !((iova | addr) & (size - 1)) && last - iova >= size - 1;
}

/* Unlink an empty child table. */
static void drop_table(uint64_t *table, unsigned index, uint64_t *child, struct gather *gather)
{
	entry_write(&table[index], 0);
	pool_page_of(table)->live--;
	gather_page(gather, child);
}

static int map_level(struct table *t, uint64_t *table, unsigned level, struct uiommu_range r,
		     uint64_t addr, int prot, struct gather *gather, uint64_t *done)
{
	uint64_t size = UINT64_C(1) << level_shift(level);
	struct pool_page *page = pool_page_of(table);
	uint64_t iova = r.first;

	for (unsigned i = level_index(iova, level);; i++) {
		uint64_t last = iova | (size - 1);

		if (last > r.last)
			last = r.last;
		if (leaf_fits(iova, last, addr, level)) {
			entry_write(&table[i], fmt_make_leaf(addr, prot, level));
			page->live++;
		} else {
			uint64_t entry = table[i], *child;
			int ret;

			if (fmt_present(entry)) {
				child = entry_table(entry);
			} else {
				child = pool_take(&t->pool);
				if (!child)
					return -ENOMEM;
				entry_write(&table[i], fmt_make_table((uintptr_t)child));
				page->live++;
			}
			ret = map_level(t, child, level - 1, (struct uiommu_range){iova, last},
					addr, prot, gather, done);
			if (ret) {
				if (!pool_page_of(child)->live)
					drop_table(table, i, child, gather);
				return ret;
			}
		}
		*done = last;
		if (last == r.last)
			return 0;
		addr += last - iova + 1;
		iova = last + 1;
	}
}

static void unmap_level(struct table *t, uint64_t *table, unsigned level, struct uiommu_range r,
			struct gather *gather)
{
	uint64_t size = UINT64_C(1) << level_shift(level);
	struct pool_page *page = pool_page_of(table);
	uint64_t iova = r.first;

	for (unsigned i = level_index(iova, level); page->live; i++) {
		uint64_t last = iova | (size - 1), entry = table[i];

		if (last > r.last)
			last = r.last;
		if (!fmt_present(entry)) {
			/* nothing here */
		} else if (fmt_is_leaf(entry, level)) {
			entry_write(&table[i], 0);
			page->live--;
		} else {
			uint64_t *child = entry_table(entry);

			unmap_level(t, child, level - 1, (struct uiommu_range){iova, last}, gather);
			if (!pool_page_of(child)->live)
				drop_table(table, i, child, gather);
		}
		if (last == r.last)
			return;
		iova = last + 1;
	}
}

static void fmt_unmap(struct table *t, struct uiommu_range range, struct gather *gather)
{
	gather_add(gather, range);
	if (range.last > table_last(t))
		range.last = table_last(t);
	if (range_valid(range))
		unmap_level(t, t->root, t->levels - 1, range, gather);
}

static int fmt_map(struct table *t, struct uiommu_range range, uint64_t addr, int prot,
		   struct gather *gather)
{
	uint64_t done = range.first - 1;
	int ret = map_level(t, t->root, t->levels - 1, range, addr, prot, gather, &done);

	if (ret && done != range.first - 1)
		fmt_unmap(t, (struct uiommu_range){range.first, done}, gather);
	return ret;
}

static bool fmt_walk(const struct table *t, uint64_t iova, struct table_leaf *leaf)
{
	const uint64_t *table = t->root;
	int prot = UIOMMU_READ | UIOMMU_WRITE;

	for (unsigned level = t->levels - 1;; level--) {
		uint64_t entry = entry_read(&table[level_index(iova, level)]);

		if (!fmt_present(entry))
			return false;
		prot &= fmt_prot(entry);
		if (fmt_is_leaf(entry, level)) {
			uint64_t mask = (UINT64_C(1) << level_shift(level)) - 1;

			leaf->range = (struct uiommu_range){iova & ~mask, iova | mask};
			leaf->addr = fmt_addr(entry) & ~mask;
			leaf->prot = prot;
			return true;
		}
		table = entry_table(entry);
	}
}

const struct table_ops FMT_OPS = {
	.name = FMT_NAME,
	.page_sizes = FMT_PAGE_SIZES,
	.max_addr = FMT_MAX_ADDR,
	.levels = fmt_levels,
	.map = fmt_map,
	.unmap = fmt_unmap,
	.walk = fmt_walk,
};
