/* SPDX-License-Identifier: MIT */
/*
 * The algorithms of a radix table, written once. A format's .c file includes its facts (fmt_*.h)
 * and then this file, which makes the format's struct table_ops out of them; the compiler sees
 * both, so no call is made per entry.
 *
 * What a format gives:
 *   FMT_NAME, FMT_OPS        its name, and that of the table_ops
 *   FMT_LEVEL_BITS           of IOVA, by each level
 *   FMT_PAGE_SHIFT           log2 of the smallest leaf's size; where it isn't said, 12
 *   FMT_PAGE_SIZES           leaf sizes that it tells of; those between two levels' sizes are runs
 *   FMT_HINT_SIZES           leaf sizes that it makes beside them, unasked (0: none)
 *   FMT_RUNS                 1 if some leaf size is a run: a leaf of several entries of one level
 *   FMT_MAX_ADDR, FMT_PROTS  highest address, and permissions it can express
 *   FMT_DIRTY                1 if entries have a dirty bit (fmt_dirty, fmt_make_dirty,
 *                            fmt_make_clean, on an entry that permits writes)
 *   fmt_levels(width)        number of levels, 0: no such width
 *   FMT_START_TABLES         most start tables that lie beside each other
 *   fmt_root_pages(width)    and how many there are
 *   fmt_aperture_bits(width) bits of IOVA that can be used
 *   fmt_present, fmt_is_leaf, fmt_leaf_shift (log2 of a leaf's size), fmt_make_leaf,
 *   fmt_make_table, fmt_addr, fmt_prot, fmt_table_prot (what a table entry permits below it)
 * Entries are 64 bits, tables one page.
 *
 * Invariants: a table page that is linked holds at least one present entry, except the root; the
 * count beside a page is the number of its present entries; a page is zero when it is unlinked, or
 * marked as dirty beside it: where all that a table page translates goes, it goes as it is.
 * Entries are written whole, with release order after what they point to; walkers read with
 * acquire. Unlinked pages go through the gather, for a walker may still be inside. A walker may
 * set an entry's dirty bit, and nothing else, so that bit is changed by compare and swap. A run is
 * made and cleared within one mapping: mappings that adjoin are never joined, and unmap cuts none.
 * A walker that meets a run half made or half cleared takes it for whole, which is right: it will
 * be, or a flush follows.
 */
#ifndef FMT_NAME
#error "include a format before table_impl.h"
#endif

#include <errno.h>
#include <string.h>

#include "table/directory.h"
#include "table/table.h"

#ifndef FMT_PAGE_SHIFT
#define FMT_PAGE_SHIFT 12
#endif
#define LEVEL_ENTRIES (1u << FMT_LEVEL_BITS)

_Static_assert(LEVEL_ENTRIES * sizeof(uint64_t) == TABLE_PAGE, "a table is one page");

static inline unsigned level_shift(unsigned level)
{
	return FMT_PAGE_SHIFT + level * FMT_LEVEL_BITS;
}

/* The entry for iova. Start tables may be several pages: there no bit is masked away. */
static inline unsigned level_index(const struct table *t, uint64_t iova, unsigned level)
{
	uint64_t index = iova >> level_shift(level);

	return FMT_START_TABLES > 1 && level == t->levels - 1 ? index : index & (LEVEL_ENTRIES - 1);
}

/* For walkers. */
static inline uint64_t entry_read(const uint64_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

/* For the table's owner, who wrote it, but for the dirty bit. */
static inline uint64_t entry_peek(const uint64_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

static inline void entry_write(uint64_t *entry, uint64_t value)
{
	__atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

static inline uint64_t *entry_table(uint64_t entry)
{
	return (uint64_t *)(uintptr_t)fmt_addr(entry);
}

/* What the directory knows the level 1 table by that iova is below. */
static inline uint64_t directory_block(uint64_t iova)
{
	return iova >> level_shift(2);
}

/* Where a walk for iova starts, and at which level. */
static inline uint64_t *first_table(const struct table *t, uint64_t iova, unsigned *level)
{
	uint64_t *table = directory_find(t->directory, directory_block(iova));

	*level = table ? 1 : t->levels - 1;
	return table ? table : t->root;
}

/* log2 of the largest leaf of this level that [iova, last] -> addr can start with; 0: none. */
static inline unsigned best_leaf(const struct table *t, uint64_t iova, uint64_t last, uint64_t addr,
				 unsigned level)
{
	unsigned shift = level_shift(level);
	uint64_t sizes, align, count;

	if (((iova | addr) & ((UINT64_C(1) << shift) - 1)) ||
	    last - iova < (UINT64_C(1) << shift) - 1)
		return 0;
	/* Aligned to no more than this level's size, as most are: no run. */
	if (!FMT_RUNS || (iova | addr) >> shift & 1)
		return t->leaf_sizes >> shift & 1 ? shift : 0;
	/* Sizes from this level's up to the next one's; the length may be 2^64. */
	sizes = t->leaf_sizes >> shift & (LEVEL_ENTRIES - 1);
	align = (iova | addr) >> shift | LEVEL_ENTRIES / 2;
	align = (align & -align) * 2 - 1;
	sizes &= align;
	count = ((last - iova) >> shift) + !(~(last - iova) & ((UINT64_C(1) << shift) - 1));
	sizes &= UINT64_MAX >> __builtin_clzll(count);
	return sizes ? shift + 63 - __builtin_clzll(sizes) : 0;
}

/* ---- the owner's half ---- */

/* Unlink a child table, for iova, which is empty or goes with all that is in it. @level is its own.
 */
static void drop_table(struct table *t, uint64_t *table, unsigned index, uint64_t *child,
		       unsigned level, uint64_t iova, struct gather *gather)
{
	if (level == 1)
		directory_remove(t->directory, directory_block(iova));
	entry_write(&table[index], 0);
	pool_page_of(table)->live--;
	t->near.table = NULL;
	gather_page(gather, child);
}

/* A child table goes with everything below it: nothing in it is touched, for that is as good as
 * unlinked with it. */
static void drop_tree(struct table *t, uint64_t *table, unsigned index, uint64_t *child,
		      unsigned level, uint64_t iova, struct gather *gather)
{
	for (unsigned i = 0; level && i < LEVEL_ENTRIES; i++) {
		uint64_t entry = entry_peek(&child[i]);

		if (fmt_present(entry) && !fmt_is_leaf(entry, level))
			drop_tree(t, child, i, entry_table(entry), level - 1,
				  iova + ((uint64_t)i << level_shift(level)), gather);
	}
	pool_page_of(child)->dirty |= pool_page_of(child)->live != 0;
	drop_table(t, table, index, child, level, iova, gather);
}

/* The level 1 table for iova; NULL: there is none. */
static inline uint64_t *level1_table(struct table *t, uint64_t iova)
{
	unsigned level;
	uint64_t *table = first_table(t, iova, &level);

	for (; level > 1; level--) {
		uint64_t entry = entry_peek(&table[level_index(t, iova, level)]);

		if (!fmt_present(entry) || fmt_is_leaf(entry, level))
			return NULL;
		table = entry_table(entry);
		if (level == 2) /* one that another had displaced */
			directory_enter(t->directory, directory_block(iova), table);
	}
	return table;
}

/* The last-level table for iova, which mostly is the one that was asked for last, and the level 1
 * table that it is linked from; either is NULL if it isn't there. */
static inline uint64_t *last_table(struct table *t, uint64_t iova, uint64_t **parent)
{
	uint64_t block = iova >> level_shift(1), entry;

	if (t->near.table && t->near.block == block) {
		*parent = t->near.parent;
		return t->near.table;
	}
	*parent = level1_table(t, iova);
	if (!*parent)
		return NULL;
	entry = entry_peek(&(*parent)[level_index(t, iova, 1)]);
	if (!fmt_present(entry) || fmt_is_leaf(entry, 1))
		return NULL;
	t->near.block = block;
	t->near.parent = *parent;
	t->near.table = entry_table(entry);
	return t->near.table;
}

/* Does the range lie below one last-level table? */
static inline bool in_last_table(struct uiommu_range r)
{
	return !((r.first ^ r.last) >> level_shift(1));
}

/* Enter a leaf, which is a run if its size is none of a level's. */
static inline void put_leaf(const struct table *t, uint64_t *table, unsigned index, uint64_t addr,
			    int prot, unsigned level, unsigned shift)
{
	unsigned count = 1u << (FMT_RUNS ? shift - level_shift(level) : 0);

	for (unsigned i = 0; i < count; i++)
		entry_write(&table[index + i],
			    fmt_make_leaf(t, addr + ((uint64_t)i << level_shift(level)), prot,
					  level, shift));
}

/* What neighbours of the smallest size differ by: the address alone, which all formats have in one
 * piece. */
static inline uint64_t leaf_step(const struct table *t, uint64_t addr, int prot)
{
	unsigned shift = level_shift(0);

	return fmt_make_leaf(t, addr + (UINT64_C(1) << shift), prot, 0, shift) -
	       fmt_make_leaf(t, addr, prot, 0, shift);
}

/* Enter all of a range into the last-level table that it lies below. */
static inline void fill_last(struct table *t, uint64_t *table, struct uiommu_range r, uint64_t addr,
			     int prot)
{
	unsigned i = level_index(t, r.first, 0), shift = level_shift(0);
	unsigned count = ((r.last - r.first) >> shift) + 1;
	uint64_t leaf = fmt_make_leaf(t, addr, prot, 0, shift);

	pool_page_of(table)->live += count;
	if (count == 1) {
		entry_write(&table[i], leaf);
		return;
	}
	if (!FMT_RUNS) {
		uint64_t step = leaf_step(t, addr, prot);

		for (unsigned n = i + count; i < n; i++, leaf += step)
			entry_write(&table[i], leaf);
		return;
	}
	for (;;) {
		uint64_t done;

		shift = best_leaf(t, r.first, r.last, addr, 0);
		put_leaf(t, table, i, addr, prot, 0, shift);
		done = UINT64_C(1) << shift;
		if (r.last - r.first < done)
			return;
		r.first += done;
		addr += done;
		i += done >> level_shift(0);
	}
}

/* Two entries at a time. */
typedef uint64_t entry_pair __attribute__((vector_size(16), may_alias));

/* Set all of a last-level table that no walker sees yet. */
static inline void fill_all(const struct table *t, uint64_t *table, uint64_t addr, int prot)
{
	uint64_t leaf = fmt_make_leaf(t, addr, prot, 0, level_shift(0));
	uint64_t step = leaf_step(t, addr, prot);
	entry_pair pair = {leaf, leaf + step}, two = {2 * step, 2 * step};
	entry_pair *to = (entry_pair *)table;

#pragma GCC unroll 8
	for (unsigned i = 0; i < LEVEL_ENTRIES / 2; i++, pair += two)
		to[i] = pair;
	pool_page_of(table)->live = LEVEL_ENTRIES;
}

/* A last-level table with all of a range, which lies below it, linked once that is in it. NULL: no
 * memory. One that the range fills need not be zero before, nor is it written entry by entry. */
static inline uint64_t *new_last(struct table *t, uint64_t *parent, unsigned index,
				 struct uiommu_range r, uint64_t addr, int prot)
{
	bool full = !FMT_RUNS && r.last - r.first == (UINT64_C(1) << level_shift(1)) - 1;
	uint64_t *table = full ? pool_take_unset(&t->pool) : pool_take(&t->pool);

	if (!table)
		return NULL;
	if (full)
		fill_all(t, table, addr, prot);
	else
		fill_last(t, table, r, addr, prot);
	entry_write(&parent[index], fmt_make_table((uintptr_t)table, 1));
	pool_page_of(parent)->live++;
	return table;
}

/* Clear what is in a range of a last-level table, which may become empty. */
static inline void clear_last(struct table *t, uint64_t *table, struct uiommu_range r)
{
	unsigned i = level_index(t, r.first, 0), present = 0;
	unsigned n = i + ((r.last - r.first) >> level_shift(0)) + 1;

	do {
		present += fmt_present(entry_peek(&table[i]));
		entry_write(&table[i], 0);
	} while (++i < n);
	pool_page_of(table)->live -= present;
}

static int map_level(struct table *t, uint64_t *table, unsigned level, struct uiommu_range r,
		     uint64_t addr, int prot, struct gather *gather, uint64_t *done)
{
	uint64_t size = UINT64_C(1) << level_shift(level), iova = r.first;

	if (!level) {
		fill_last(t, table, r, addr, prot);
		*done = r.last;
		return 0;
	}
	for (unsigned i = level_index(t, iova, level);;) {
		unsigned shift = best_leaf(t, iova, r.last, addr, level);
		uint64_t last;

		if (shift) {
			unsigned count = 1u << (FMT_RUNS ? shift - level_shift(level) : 0);

			put_leaf(t, table, i, addr, prot, level, shift);
			pool_page_of(table)->live += count;
			last = iova | ((UINT64_C(1) << shift) - 1);
			i += count;
		} else {
			uint64_t entry = entry_peek(&table[i]), *child;
			struct uiommu_range part;
			int ret;

			last = iova | (size - 1);
			if (last > r.last)
				last = r.last;
			part = (struct uiommu_range){iova, last};
			if (fmt_present(entry)) {
				child = entry_table(entry);
				ret = map_level(t, child, level - 1, part, addr, prot, gather,
						done);
			} else if (level == 1) {
				child = new_last(t, table, i, part, addr, prot);
				if (!child)
					return -ENOMEM;
				ret = 0;
			} else {
				child = pool_take(&t->pool);
				if (!child)
					return -ENOMEM;
				entry_write(&table[i], fmt_make_table((uintptr_t)child, level));
				pool_page_of(table)->live++;
				if (level == 2)
					directory_enter(t->directory, directory_block(iova), child);
				ret = map_level(t, child, level - 1, part, addr, prot, gather,
						done);
			}
			if (ret) {
				if (!pool_page_of(child)->live)
					drop_table(t, table, i, child, level - 1, iova, gather);
				return ret;
			}
			i++;
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

	if (!level) {
		clear_last(t, table, r);
		return;
	}
	for (unsigned i = level_index(t, iova, level); page->live; i++) {
		uint64_t whole = iova | (size - 1), last = whole, entry = entry_peek(&table[i]);

		if (last > r.last)
			last = r.last;
		if (!fmt_present(entry)) {
			/* nothing here */
		} else if (fmt_is_leaf(entry, level)) {
			entry_write(&table[i], 0);
			page->live--;
		} else if (last == whole && !(iova & (size - 1))) {
			drop_tree(t, table, i, entry_table(entry), level - 1, iova, gather);
		} else {
			uint64_t *child = entry_table(entry);

			unmap_level(t, child, level - 1, (struct uiommu_range){iova, last}, gather);
			if (!pool_page_of(child)->live)
				drop_table(t, table, i, child, level - 1, iova, gather);
		}
		if (last == r.last)
			return;
		iova = last + 1;
	}
}

/* Clear a range that lies below one last-level table; false: that is not all there is to do. */
static inline bool unmap_last(struct table *t, struct uiommu_range r, struct gather *gather)
{
	uint64_t pages = ((r.last - r.first) >> level_shift(0)) + 1, *parent;
	uint64_t *table = last_table(t, r.first, &parent);

	if (!table)
		return false;
	if (pool_page_of(table)->live > pages) {
		clear_last(t, table, r);
		return true;
	}
	/* It may become empty. All of it goes as it is; if the table above would become empty too,
	 * that is found on a way down from the root. */
	if (pages == LEVEL_ENTRIES || pool_page_of(parent)->live == 1)
		return false;
	clear_last(t, table, r);
	if (!pool_page_of(table)->live)
		drop_table(t, parent, level_index(t, r.first, 1), table, 0, r.first, gather);
	return true;
}

static void fmt_unmap(struct table *t, struct uiommu_range range, struct gather *gather)
{
	gather_add(gather, range);
	range = range_common(range, t->aperture);
	if (!range_valid(range))
		return;
	if (!in_last_table(range) || !unmap_last(t, range, gather))
		unmap_level(t, t->root, t->levels - 1, range, gather);
}

static int fmt_map(struct table *t, struct uiommu_range range, uint64_t addr, int prot,
		   struct gather *gather)
{
	uint64_t done = range.first - 1;
	int ret;

	if (in_last_table(range) && !best_leaf(t, range.first, range.last, addr, 1)) {
		uint64_t *parent, *table = last_table(t, range.first, &parent);

		if (table) {
			fill_last(t, table, range, addr, prot);
			return 0;
		}
		if (parent)
			return new_last(t, parent, level_index(t, range.first, 1), range, addr,
					prot)
				       ? 0
				       : -ENOMEM;
	}
	ret = map_level(t, t->root, t->levels - 1, range, addr, prot, gather, &done);
	if (ret && done != range.first - 1)
		fmt_unmap(t, (struct uiommu_range){range.first, done}, gather);
	return ret;
}

static void fmt_prefetch(const struct table *t, uint64_t iova)
{
	const uint64_t *table;
	unsigned level;

	if (t->near.table && t->near.block == iova >> level_shift(1))
		return;
	table = first_table(t, iova, &level);
	for (; level; level--) {
		uint64_t entry = entry_peek(&table[level_index(t, iova, level)]);

		if (!fmt_present(entry) || fmt_is_leaf(entry, level))
			return;
		table = entry_table(entry);
	}
	__builtin_prefetch(&table[level_index(t, iova, 0)], 1);
	__builtin_prefetch(pool_page_of(table), 1);
}

/* ---- walkers ---- */

/* What is found on the way to a leaf. */
struct found {
	uint64_t *table;
	uint64_t entry;
	unsigned level;
	int prot; /* permitted by all levels */
};

/* One level of a walk. 1: go on below; 0: this was the leaf; -1: there is none. */
static inline __attribute__((always_inline)) int walk_level(const struct table *t, uint64_t iova,
							    unsigned level, struct found *found)
{
	uint64_t entry = entry_read(&found->table[level_index(t, iova, level)]);

	if (!fmt_present(entry))
		return -1;
	if (fmt_is_leaf(entry, level)) {
		found->entry = entry;
		found->level = level;
		found->prot &= fmt_prot(entry);
		return 0;
	}
	found->prot &= fmt_table_prot(entry);
	found->table = entry_table(entry);
	return 1;
}

/* The leaf for iova, from the level 1 table on if the directory has it; false: none. */
static inline __attribute__((always_inline)) bool find_leaf(const struct table *t, uint64_t iova,
							    struct found *found)
{
	unsigned level = t->levels - 1;
	int step;

	*found = (struct found){.table = directory_find(t->directory, directory_block(iova)),
				.prot = ~0};
	if (found->table) {
		/* Spelt out, for what nearly all walks need: levels are constants here. */
		step = walk_level(t, iova, 1, found);
		return step > 0 ? !walk_level(t, iova, 0, found) : !step;
	}
	found->table = t->root;
	while ((step = walk_level(t, iova, level, found)) > 0)
		level--;
	return !step;
}

static bool fmt_walk(const struct table *t, uint64_t iova, struct table_leaf *leaf)
{
	struct found found;
	uint64_t mask;

	if (!find_leaf(t, iova, &found))
		return false;
	mask = (UINT64_C(1) << fmt_leaf_shift(found.entry, found.level)) - 1;
	leaf->range = (struct uiommu_range){iova & ~mask, iova | mask};
	leaf->addr = fmt_addr(found.entry) & ~mask;
	leaf->prot = found.prot;
	return true;
}

static const struct uiommu_port_found found_nothing = {0, 0};

/* Give the port a leaf, if it is as simple as inline functions want it. */
static inline __attribute__((always_inline)) struct uiommu_port_found
give_port(struct uiommu_port_fast *port, uint64_t iova, uint64_t more, uint64_t need,
	  struct uiommu_port_entry *entry, uint64_t leaf, unsigned shift, int prot)
{
	uint64_t mask = (UINT64_C(1) << shift) - 1, first = iova & ~mask, delta;
	uint64_t lacks = ~((uint64_t)prot | UIOMMU_PORT_PLAIN);

	if ((need & lacks) || (prot & UIOMMU_MMIO) || more > (~iova & mask))
		return found_nothing;
	delta = (fmt_addr(leaf) & ~mask) - first;
	*entry = (struct uiommu_port_entry){first, mask, delta, lacks};
	uiommu_port_count(&port->misses);
	return (struct uiommu_port_found){1, iova + delta};
}

/* Any leaf, from anywhere: those that are large may reach into the hole. */
static __attribute__((noinline)) struct uiommu_port_found
walk_for_port_from_root(struct uiommu_port_fast *port, uint64_t iova, uint64_t more, uint64_t need,
			struct uiommu_port_entry *entry)
{
	const struct table *t = port->table;
	struct uiommu_range range, hole = {port->hole_first, port->hole_first + port->hole_span};
	struct found found;
	unsigned shift;
	uint64_t mask;

	if (!table_covers(t, iova) || !find_leaf(t, iova, &found))
		return found_nothing;
	shift = fmt_leaf_shift(found.entry, found.level);
	if (shift >= 63)
		return found_nothing;
	mask = (UINT64_C(1) << shift) - 1;
	range = (struct uiommu_range){iova & ~mask, iova | mask};
	if (range_overlaps(range, hole))
		return found_nothing;
	return give_port(port, iova, more, need, entry, found.entry, shift, found.prot);
}

/* What nearly all walks need, with few instructions: a page that the directory leads to. Nothing is
 * mapped outside the aperture, so that need not be asked for. */
static struct uiommu_port_found fmt_walk_for_port(struct uiommu_port_fast *port, uint64_t iova,
						  uint64_t more, uint64_t need,
						  struct uiommu_port_entry *entry)
{
	const struct table *t = port->table;
	uint64_t *table = directory_find(t->directory, directory_block(iova)), upper, leaf;

	if (__builtin_expect(!table, 0))
		goto other;
	upper = entry_read(&table[level_index(t, iova, 1)]);
	if (__builtin_expect(!fmt_present(upper) || fmt_is_leaf(upper, 1), 0))
		goto other;
	leaf = entry_read(&entry_table(upper)[level_index(t, iova, 0)]);
	if (__builtin_expect(!fmt_present(leaf) || fmt_leaf_shift(leaf, 0) != FMT_PAGE_SHIFT ||
				     iova - port->hole_first <= port->hole_span,
			     0))
		goto other;
	return give_port(port, iova, more, need, entry, leaf, FMT_PAGE_SHIFT,
			 fmt_prot(leaf) & fmt_table_prot(upper));
other:
	return walk_for_port_from_root(port, iova, more, need, entry);
}

/* As far as the directory helps: the level 1 entry is read, the last one asked for. */
static void fmt_prefetch_walks(const struct table *t, const uint64_t *iovas, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t iova = iovas[i], entry;
		uint64_t *table = directory_find(t->directory, directory_block(iova));

		if (!table)
			continue;
		entry = entry_read(&table[level_index(t, iova, 1)]);
		if (fmt_present(entry) && !fmt_is_leaf(entry, 1))
			__builtin_prefetch(&entry_table(entry)[level_index(t, iova, 0)]);
	}
}

#if FMT_DIRTY
static bool fmt_mark_dirty(struct table *t, uint64_t iova)
{
	uint64_t entry, *slot;
	struct found found;

	if (!find_leaf(t, iova, &found) || !(found.prot & UIOMMU_WRITE))
		return false;
	entry = found.entry;
	slot = &found.table[level_index(t, iova, found.level)];
	/* The entry may be cleared meanwhile, and must stay so. */
	while (fmt_present(entry)) {
		uint64_t dirty = fmt_make_dirty(entry);

		if (dirty == entry ||
		    __atomic_compare_exchange_n(slot, &entry, dirty, false, __ATOMIC_RELEASE,
						__ATOMIC_RELAXED))
			return true;
	}
	return false;
}

struct dirty_scan {
	struct table *table;
	bool clear;
	table_dirty_fn each;
	void *ctx;
	struct gather *gather;
};

/* One leaf, which begins with the entry given; r is what was asked for. */
static void scan_leaf(const struct dirty_scan *s, uint64_t *slot, unsigned count,
		      struct uiommu_range leaf, struct uiommu_range r)
{
	bool dirty = false;

	for (unsigned i = 0; i < count; i++) {
		uint64_t entry = entry_peek(&slot[i]);

		if (!(fmt_prot(entry) & UIOMMU_WRITE) || !fmt_dirty(entry))
			continue;
		dirty = true;
		if (s->clear && range_contains(r, leaf))
			while (!__atomic_compare_exchange_n(&slot[i], &entry, fmt_make_clean(entry),
							    false, __ATOMIC_RELEASE,
							    __ATOMIC_RELAXED))
				;
	}
	if (!dirty)
		return;
	if (s->clear)
		gather_add(s->gather, leaf);
	s->each(s->ctx, range_common(leaf, r));
}

static void scan_level(const struct dirty_scan *s, uint64_t *table, unsigned level,
		       struct uiommu_range r)
{
	uint64_t size = UINT64_C(1) << level_shift(level), iova = r.first;

	for (;;) {
		unsigned i = level_index(s->table, iova, level);
		uint64_t entry = entry_peek(&table[i]), last = iova | (size - 1);

		if (!fmt_present(entry)) {
			/* nothing here */
		} else if (fmt_is_leaf(entry, level)) {
			unsigned shift = fmt_leaf_shift(entry, level);
			uint64_t mask = (UINT64_C(1) << shift) - 1;
			unsigned count = 1u << (shift - level_shift(level));

			last = iova | mask;
			scan_leaf(s, &table[i & ~(count - 1)], count,
				  (struct uiommu_range){iova & ~mask, last}, r);
		} else {
			scan_level(s, entry_table(entry), level - 1,
				   range_common((struct uiommu_range){iova, last}, r));
		}
		if (last >= r.last)
			return;
		iova = last + 1;
	}
}

static void fmt_scan_dirty(struct table *t, struct uiommu_range range, bool clear,
			   table_dirty_fn each, void *ctx, struct gather *gather)
{
	const struct dirty_scan scan = {t, clear, each, ctx, gather};

	range = range_common(range, t->aperture);
	if (range_valid(range))
		scan_level(&scan, t->root, t->levels - 1, range);
}
#endif

static int fmt_init(struct table *t, const struct table_config *config)
{
	unsigned bits;

	t->levels = fmt_levels(config->width);
	if (!t->levels || !table_choose_aperture(t, fmt_aperture_bits(config->width), config))
		return -EINVAL;
	/* No leaf is larger than an entry of the start table, or a run of half of them. */
	bits = FMT_PAGE_SHIFT + t->levels * FMT_LEVEL_BITS;
	if (bits < 64) {
		t->page_sizes &= (UINT64_C(1) << bits) - 1;
		t->leaf_sizes &= (UINT64_C(1) << bits) - 1;
	}
	t->root_pages = fmt_root_pages(config->width);
	t->root = pool_take_run(&t->pool, t->root_pages);
	t->directory = t->root ? directory_create() : NULL;
	if (t->directory)
		return 0;
	pool_destroy(&t->pool);
	return -ENOMEM;
}

static void fmt_destroy(struct table *t)
{
	directory_destroy(t->directory);
	t->directory = NULL;
}

const struct table_ops FMT_OPS = {
	.name = FMT_NAME,
	.page_sizes = FMT_PAGE_SIZES,
	.hint_sizes = FMT_HINT_SIZES,
	.max_addr = FMT_MAX_ADDR,
	.prots = FMT_PROTS,
	.dirty = FMT_DIRTY,
	.init = fmt_init,
	.destroy = fmt_destroy,
	.map = fmt_map,
	.unmap = fmt_unmap,
	.prefetch = fmt_prefetch,
	.walk = fmt_walk,
	.walk_for_port = fmt_walk_for_port,
	.prefetch_walks = fmt_prefetch_walks,
#if FMT_DIRTY
	.mark_dirty = fmt_mark_dirty,
	.scan_dirty = fmt_scan_dirty,
#endif
};
