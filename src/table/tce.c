/* SPDX-License-Identifier: MIT */
/*
 * The TCE formats: own the windows of a table and the tables behind them. Page size, number of
 * levels and their width are a window's, so they are no constants, and nothing is shared with
 * table_impl.h.
 *
 * Windows come and go while walkers run: they find them through an array of pointers; a window that
 * is taken away goes through the gather. Tables below a window's first come with the first mapping
 * that needs them and stay as long as the window, as on the machine; so unmap frees nothing.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "table/fmt_tce.h"
#include "table/formats.h"
#include "util/alloc.h"

struct tce_window {
	struct retired retired; /* first */
	struct uiommu_range range;
	unsigned page_shift;
	unsigned levels;
	unsigned bits; /* of the page's number, by each level */
	uint64_t *root;
};

struct tce {
	struct tce_window *window[TABLE_MAX_WINDOWS]; /* in any order; NULL: free */
	unsigned used;				      /* none from here on; never shrinks */
};

static bool powernv(const struct table *t)
{
	return t->ops == &table_powernv_tce;
}

static uint64_t tce_read(const uint64_t *tce)
{
	return be64toh(__atomic_load_n(tce, __ATOMIC_ACQUIRE));
}

static void tce_write(uint64_t *tce, uint64_t value)
{
	__atomic_store_n(tce, htobe64(value), __ATOMIC_RELEASE);
}

static uint64_t *tce_table(uint64_t tce)
{
	return (uint64_t *)(uintptr_t)(tce & TCE_ADDR);
}

/* ---- windows ---- */

static struct tce_window *slot_read(const struct tce *tce, unsigned i)
{
	return __atomic_load_n(&tce->window[i], __ATOMIC_ACQUIRE);
}

static struct tce_window *window_at(const struct table *t, uint64_t iova)
{
	const struct tce *tce = t->own;
	unsigned used = __atomic_load_n(&tce->used, __ATOMIC_ACQUIRE);

	for (unsigned i = 0; i < used; i++) {
		struct tce_window *w = slot_read(tce, i);

		if (w && w->range.first <= iova && iova <= w->range.last)
			return w;
	}
	return NULL;
}

static size_t level_bytes(const struct tce_window *w)
{
	return sizeof(uint64_t) << w->bits;
}

static uint64_t *alloc_level(const struct tce_window *w)
{
	return uiommu_alloc_aligned(level_bytes(w), TABLE_PAGE);
}

static void free_level(const struct tce_window *w, uint64_t *table, unsigned level)
{
	if (level)
		for (uint64_t i = 0; i < UINT64_C(1) << w->bits; i++)
			if (tce_read(&table[i]))
				free_level(w, tce_table(tce_read(&table[i])), level - 1);
	uiommu_free(table, level_bytes(w));
}

static void free_window(struct retired *retired)
{
	struct tce_window *w = (struct tce_window *)retired;

	free_level(w, w->root, w->levels - 1);
	uiommu_free(w, sizeof(*w));
}

/* The rules of a window by itself; sets bits. */
static int check_window(const struct table *t, const struct table_window *asked, unsigned *bits,
			struct table_why *why)
{
	uint64_t length = range_length(asked->range), page;
	unsigned pages_shift;

	*why = (struct table_why){UIOMMU_RULE_ARGUMENT, NULL, UIOMMU_RANGE_NONE};
	if (asked->page_shift >= 64 || !(t->page_sizes >> asked->page_shift & 1)) {
		why->what = "a page size that this machine's windows can't have";
		return -EINVAL;
	}
	if (!asked->levels || asked->levels > (powernv(t) ? TCE_POWERNV_LEVELS : 1)) {
		why->what = powernv(t) ? "a window's table has 1 to 5 levels"
				       : "a window's table has 1 level";
		return -EINVAL;
	}
	page = UINT64_C(1) << asked->page_shift;
	if (!range_valid(asked->range) || !is_pow2(length) || length < page ||
	    (asked->range.first & (page - 1))) {
		*why = (struct table_why){UIOMMU_RULE_ALIGNMENT,
					  "a window is a power of two of aligned pages",
					  {0, page - 1}};
		return -EINVAL;
	}
	if (!range_contains(t->aperture, asked->range)) {
		*why = (struct table_why){UIOMMU_RULE_APERTURE, "the table format", t->aperture};
		return -EINVAL;
	}
	pages_shift = 63 - __builtin_clzll(length / page);
	*bits = (pages_shift + asked->levels - 1) / asked->levels;
	if (*bits < TCE_MIN_BITS)
		*bits = TCE_MIN_BITS;
	if (*bits > TCE_MAX_BITS) {
		why->what = "a window whose table would be too large: larger pages or more levels "
			    "make it smaller";
		return -EINVAL;
	}
	return 0;
}

static int tce_window_create(struct table *t, const struct table_window *asked,
			     struct table_why *why)
{
	struct tce *tce = t->own;
	unsigned bits = 0, at = TABLE_MAX_WINDOWS;
	struct tce_window *w;
	int ret = check_window(t, asked, &bits, why);

	if (ret)
		return ret;
	for (unsigned i = TABLE_MAX_WINDOWS; i-- > 0;) {
		w = tce->window[i];
		if (!w) {
			at = i;
		} else if (range_overlaps(w->range, asked->range)) {
			*why = (struct table_why){UIOMMU_RULE_OVERLAP, "another window", w->range};
			return -EEXIST;
		}
	}
	if (at == TABLE_MAX_WINDOWS) {
		why->rule = UIOMMU_RULE_LIMIT;
		why->what = "a domain has at most 16 windows";
		return -ENOSPC;
	}
	w = uiommu_alloc(sizeof(*w));
	if (w) {
		*w = (struct tce_window){.retired = {.free = free_window},
					 .range = asked->range,
					 .page_shift = asked->page_shift,
					 .levels = asked->levels,
					 .bits = bits};
		w->root = alloc_level(w);
	}
	if (!w || !w->root) {
		uiommu_free(w, sizeof(*w));
		why->rule = UIOMMU_RULE_NO_MEMORY;
		return -ENOMEM;
	}
	__atomic_store_n(&tce->window[at], w, __ATOMIC_RELEASE);
	if (at >= tce->used)
		__atomic_store_n(&tce->used, at + 1, __ATOMIC_RELEASE);
	return 0;
}

static void tce_window_remove(struct table *t, uint64_t first, struct gather *gather)
{
	struct tce *tce = t->own;

	for (unsigned i = 0; i < tce->used; i++) {
		struct tce_window *w = tce->window[i];

		if (!w || w->range.first != first)
			continue;
		__atomic_store_n(&tce->window[i], NULL, __ATOMIC_RELEASE);
		gather_add(gather, w->range);
		gather_retire(gather, &w->retired);
	}
}

static bool tce_window_find(const struct table *t, uint64_t iova, struct table_window *window)
{
	const struct tce *tce = t->own;
	const struct tce_window *best = NULL;

	for (unsigned i = 0; i < tce->used; i++) {
		const struct tce_window *w = tce->window[i];

		if (w && w->range.last >= iova && (!best || w->range.last < best->range.last))
			best = w;
	}
	if (!best)
		return false;
	*window = (struct table_window){best->range, best->page_shift, best->levels};
	return true;
}

/* ---- map and unmap ---- */

/* The entry of a page, counted from the window's start; NULL: no table there (and no memory for
 * one, if it is to be made). *run is how many entries follow in the same table, itself included. */
static uint64_t *find_tce(const struct tce_window *w, uint64_t page, bool make, uint64_t *run)
{
	uint64_t mask = (UINT64_C(1) << w->bits) - 1;
	uint64_t *table = w->root;

	*run = mask + 1 - (page & mask);
	for (unsigned level = w->levels - 1; level; level--) {
		uint64_t *slot = &table[page >> (level * w->bits) & mask];
		uint64_t tce = tce_read(slot);

		if (!tce) {
			uint64_t *child = make ? alloc_level(w) : NULL;

			if (!child)
				return NULL;
			tce = (uintptr_t)child | TCE_READ | TCE_WRITE;
			tce_write(slot, tce);
		}
		table = tce_table(tce);
	}
	return &table[page & mask];
}

static int tce_check(const struct table *t, struct uiommu_range range, uint64_t addr,
		     struct table_why *why)
{
	const struct tce_window *w = window_at(t, range.first);
	uint64_t mask;

	if (!w || range.last > w->range.last) {
		*why = (struct table_why){UIOMMU_RULE_APERTURE, "a mapping lies inside one window",
					  w ? w->range : UIOMMU_RANGE_NONE};
		return -EINVAL;
	}
	mask = (UINT64_C(1) << w->page_shift) - 1;
	if ((range.first | addr | (range.last + 1)) & mask) {
		*why = (struct table_why){UIOMMU_RULE_ALIGNMENT, "the window's page", {0, mask}};
		return -EINVAL;
	}
	return 0;
}

/* Clear count entries from a page on, passing over tables that are not there. */
static void clear_pages(const struct tce_window *w, uint64_t page, uint64_t count)
{
	while (count) {
		uint64_t run, *tce = find_tce(w, page, false, &run);

		if (run > count)
			run = count;
		for (uint64_t i = 0; tce && i < run; i++)
			tce_write(&tce[i], 0);
		page += run;
		count -= run;
	}
}

static int tce_map(struct table *t, struct uiommu_range range, uint64_t addr, int prot,
		   struct gather *gather)
{
	const struct tce_window *w = window_at(t, range.first);
	uint64_t first = (range.first - w->range.first) >> w->page_shift, page = first;
	uint64_t last = (range.last - w->range.first) >> w->page_shift;
	uint64_t bits = (prot & UIOMMU_READ ? TCE_READ : 0) | (prot & UIOMMU_WRITE ? TCE_WRITE : 0);

	if (powernv(t) && (bits & TCE_WRITE))
		bits |= TCE_READ;
	while (page <= last) {
		uint64_t run, *tce = find_tce(w, page, true, &run);

		if (!tce) {
			gather_add(gather, range);
			clear_pages(w, first, page - first);
			return -ENOMEM;
		}
		for (uint64_t i = 0; i < run && page <= last; i++, page++) {
			tce_write(&tce[i], addr | bits);
			addr += UINT64_C(1) << w->page_shift;
		}
	}
	return 0;
}

static void tce_unmap(struct table *t, struct uiommu_range range, struct gather *gather)
{
	const struct tce *tce = t->own;

	gather_add(gather, range);
	for (unsigned i = 0; i < tce->used; i++) {
		const struct tce_window *w = tce->window[i];
		struct uiommu_range r;
		uint64_t page;

		if (!w)
			continue;
		r = range_common(range, w->range);
		if (!range_valid(r))
			continue;
		page = (r.first - w->range.first) >> w->page_shift;
		clear_pages(w, page, ((r.last - w->range.first) >> w->page_shift) - page + 1);
	}
}

static bool tce_walk(const struct table *t, uint64_t iova, struct table_leaf *leaf)
{
	const struct tce_window *w = window_at(t, iova);
	uint64_t run, *slot, tce, mask;

	if (!w)
		return false;
	slot = find_tce(w, (iova - w->range.first) >> w->page_shift, false, &run);
	tce = slot ? tce_read(slot) : 0;
	if (!(tce & (TCE_READ | TCE_WRITE)))
		return false;
	mask = (UINT64_C(1) << w->page_shift) - 1;
	leaf->range = (struct uiommu_range){iova & ~mask, iova | mask};
	leaf->addr = tce & TCE_ADDR;
	leaf->prot = (tce & TCE_READ ? UIOMMU_READ : 0) | (tce & TCE_WRITE ? UIOMMU_WRITE : 0);
	return true;
}

/* ---- life ---- */

static int tce_init(struct table *t, const struct table_config *config)
{
	if (!config->width || config->width > 64 ||
	    !table_choose_aperture(t, config->width, config))
		return -EINVAL;
	t->own = uiommu_alloc(sizeof(struct tce));
	t->levels = 1;
	return t->own ? 0 : -ENOMEM;
}

static void tce_destroy(struct table *t)
{
	struct tce *tce = t->own;

	for (unsigned i = 0; i < tce->used; i++)
		if (tce->window[i])
			free_window(&tce->window[i]->retired);
	uiommu_free(tce, sizeof(*tce));
	t->own = NULL;
}

#define TCE_OPS(format, sizes)                                                                  \
	{                                                                                       \
		.name = format, .page_sizes = sizes, .max_addr = (UINT64_C(1) << 52) - 1,       \
		.overwrites = true, .prots = UIOMMU_READ | UIOMMU_WRITE, .init = tce_init,      \
		.destroy = tce_destroy, .check = tce_check, .map = tce_map, .unmap = tce_unmap, \
		.walk = tce_walk, .window_create = tce_window_create,                           \
		.window_remove = tce_window_remove, .window_find = tce_window_find,             \
	}

const struct table_ops table_spapr_tce = TCE_OPS("spapr-tce", TCE_SPAPR_PAGES);
const struct table_ops table_powernv_tce = TCE_OPS("powernv-tce", TCE_POWERNV_PAGES);
