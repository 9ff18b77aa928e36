/* SPDX-License-Identifier: MIT */
/*
 * One test for every format, width and leaf size: what is mapped is found, with the leaf that the
 * alignment of both sides permits, with the permissions and the memory type that the architecture
 * can express, and with dirty bits where it has them. Bits are looked at in test_formats.c.
 */
#include "../check.h"

#include <errno.h>

#include "table/table.h"
#include "util/alloc.h"

#define BIT(n)	     (UINT64_C(1) << (n))
#define BITS(hi, lo) ((UINT64_MAX >> (63 - (hi))) & ~(BIT(lo) - 1))

enum {
	MMIO = 1 << 0,	       /* can say that the target is a device's register */
	WRITE_IS_RW = 1 << 1,  /* writing implies reading */
	DIRTY = 1 << 2,	       /* has dirty bits */
	STARTS_DIRTY = 1 << 3, /* a writable entry starts as dirty */
};

/* A table as it is asked for, and what it must be. */
struct shape {
	struct table_config config;
	unsigned flags;
	uint64_t page_sizes; /* told of */
	uint64_t leaf_sizes; /* made */
	struct uiommu_range aperture;
	unsigned root_pages;	       /* 0: not from the pool */
	uint64_t grain;		       /* mappings start at multiples of this */
	struct table_window window[4]; /* to be created */
};

#define P12_21_30   (BIT(12) | BIT(21) | BIT(30))
#define LPAE_LEAVES (P12_21_30 | BIT(16) | BIT(25))
#define AMD_SIZES   UINT64_C(0xfff7ffffff000)
#define MOCK_SIZES  UINT64_C(0x7ff7ffffff800)

#define RADIX(fmt, bits, has, sizes, leaves, last, roots)                                     \
	{                                                                                     \
		.config = {.format = fmt, .width = bits, .dirty = (has)&DIRTY}, .flags = has, \
		.page_sizes = sizes, .leaf_sizes = leaves, .aperture = {0, last},             \
		.root_pages = roots,                                                          \
	}
#define PAMU(count, first, last, window)                                                       \
	{                                                                                      \
		.config = {.format = "pamu",                                                   \
			   .width = 36,                                                        \
			   .aperture = {first, last},                                          \
			   .windows = count},                                                  \
		.flags = MMIO, .page_sizes = BITS(window, 12), .leaf_sizes = BITS(window, 12), \
		.aperture = {first, last}, .grain = BIT(window),                               \
	}

static const struct shape shapes[] = {
	RADIX("vtd-ss", 39, DIRTY, P12_21_30, P12_21_30, BITS(38, 0), 1),
	RADIX("vtd-ss", 48, DIRTY, P12_21_30, P12_21_30, BITS(47, 0), 1),
	RADIX("vtd-ss", 57, 0, P12_21_30, P12_21_30, BITS(56, 0), 1),
	RADIX("vtd-fs", 48, WRITE_IS_RW | DIRTY, P12_21_30, P12_21_30, BITS(46, 0), 1),
	RADIX("vtd-fs", 57, WRITE_IS_RW, P12_21_30, P12_21_30, BITS(55, 0), 1),
	RADIX("amd-v1", 32, DIRTY, BITS(32, 12), BITS(32, 12), BITS(31, 0), 1),
	RADIX("amd-v1", 39, 0, BITS(38, 12), BITS(38, 12), BITS(38, 0), 1),
	RADIX("amd-v1", 48, DIRTY, BITS(47, 12) & AMD_SIZES, BITS(47, 12) & AMD_SIZES, BITS(47, 0),
	      1),
	RADIX("amd-v1", 64, DIRTY, AMD_SIZES, AMD_SIZES, UINT64_MAX, 1),
	RADIX("mock", 38, DIRTY, BITS(37, 11) & MOCK_SIZES, BITS(37, 11) & MOCK_SIZES, BITS(37, 0),
	      1),
	RADIX("arm-s1", 39, MMIO | WRITE_IS_RW | DIRTY | STARTS_DIRTY, P12_21_30, LPAE_LEAVES,
	      BITS(38, 0), 1),
	RADIX("arm-s1", 48, MMIO | WRITE_IS_RW, P12_21_30, LPAE_LEAVES, BITS(47, 0), 1),
	RADIX("arm-s2", 40, MMIO, P12_21_30, LPAE_LEAVES, BITS(39, 0), 2),
	RADIX("arm-s2", 42, MMIO | DIRTY | STARTS_DIRTY, P12_21_30, LPAE_LEAVES, BITS(41, 0), 8),
	RADIX("arm-s2", 43, MMIO, P12_21_30, LPAE_LEAVES, BITS(42, 0), 16),
	RADIX("arm-s2", 44, MMIO, P12_21_30, LPAE_LEAVES, BITS(43, 0), 1),
	RADIX("arm-s2", 48, MMIO | DIRTY | STARTS_DIRTY, P12_21_30, LPAE_LEAVES, BITS(47, 0), 1),
	RADIX("riscv", 39, MMIO | WRITE_IS_RW | DIRTY, P12_21_30, P12_21_30, BITS(37, 0), 1),
	RADIX("riscv", 48, MMIO | WRITE_IS_RW, P12_21_30 | BIT(39), P12_21_30 | BIT(39),
	      BITS(46, 0), 1),
	RADIX("riscv", 57, MMIO | WRITE_IS_RW | DIRTY, P12_21_30 | BIT(39), P12_21_30 | BIT(39),
	      BITS(55, 0), 1),
	PAMU(256, 0x40000000, 0x7fffffff, 22),
	PAMU(2, 0, BITS(35, 0), 35),
	PAMU(1, 0x800000, 0xffffff, 23),
	{
		.config = {.format = "spapr-tce", .width = 64},
		.page_sizes = 0x1211000,
		.leaf_sizes = 0x1211000,
		.aperture = {0, UINT64_MAX},
		.window = {{{0, 0x3fffffff}, 12, 1},
			   {{UINT64_C(0x800000000000000), UINT64_C(0x8000007ffffffff)}, 16, 1},
			   {{BIT(40), BIT(40) + BIT(36) - 1}, 21, 1},
			   {{BIT(41), BIT(41) + BIT(36) - 1}, 24, 1}},
	},
	{
		.config = {.format = "powernv-tce", .width = 64},
		.flags = WRITE_IS_RW,
		.page_sizes = 0x40211000,
		.leaf_sizes = 0x40211000,
		.aperture = {0, UINT64_MAX},
		.window = {{{0, 0x7fffffff}, 12, 2},
			   {{UINT64_C(0x800000000000000), UINT64_C(0x80007ffffffffff)}, 16, 5},
			   {{BIT(40), BIT(40) + BIT(36) - 1}, 21, 1},
			   {{BIT(48), BIT(48) + BIT(40) - 1}, 30, 3}},
	},
};

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* log2 of the smallest of all leaves. */
#define LEAST 11

static struct table_shared shared;

static uint64_t page_of(const struct shape *s)
{
	return s->page_sizes & -s->page_sizes;
}

/* The failure that a message is about. */
static void say(const struct shape *s, const char *what)
{
	print_message("    %s, %u bits: %s\n", s->config.format, s->config.width, what);
}

static int make(struct table *t, const struct shape *s)
{
	struct table_config config = s->config;
	int ret;

	config.shared = &shared;
	ret = table_init(t, &config);
	for (unsigned i = 0; !ret && i < 4 && s->window[i].page_shift; i++) {
		struct table_why why;

		ret = t->ops->window_create(t, &s->window[i], &why);
		if (ret)
			table_destroy(t);
	}
	return ret;
}

static int teardown_shared(void **state)
{
	table_shared_destroy(&shared);
	return 0;
}

static void unmap(struct table *t, uint64_t first, uint64_t last)
{
	struct gather gather = GATHER_INIT;

	table_unmap(t, (struct uiommu_range){first, last}, &gather);
	gather_release(&gather, &t->pool);
}

static int map(struct table *t, uint64_t first, uint64_t last, uint64_t addr, int prot)
{
	struct uiommu_range range = {first, last};
	struct gather gather = GATHER_INIT;
	struct table_why why;
	int ret = table_check(t, range, addr, prot, &why);

	if (ret)
		return ret;
	ret = table_map(t, range, addr, prot, &gather);
	gather_release(&gather, &t->pool);
	return ret;
}

/* What a device gets of what was asked for. */
static int granted(const struct shape *s, int prot)
{
	return s->flags & WRITE_IS_RW && prot & UIOMMU_WRITE ? prot | UIOMMU_READ : prot;
}

static void check_walk(struct table *t, uint64_t iova, uint64_t addr, int prot, uint64_t size)
{
	struct table_leaf leaf, looked;

	assert_true(table_covers(t, iova));
	assert_true(table_walk(t, iova, &leaf));
	assert_int_equal(leaf.addr + (iova - leaf.range.first), addr);
	assert_int_equal(leaf.prot, prot);
	assert_int_equal(leaf.range.last - leaf.range.first, size - 1);
	assert_true(leaf.range.first <= iova && iova <= leaf.range.last);
	assert_true(table_lookup(t, iova, &looked));
	assert_int_equal(looked.addr + (iova - looked.range.first), addr);
	assert_int_equal(looked.prot, prot);
}

static bool found(struct table *t, uint64_t iova)
{
	struct table_leaf leaf;

	return table_covers(t, iova) && table_walk(t, iova, &leaf);
}

/* Where leaves of a size may lie: all of the aperture, or the window with that page. */
static struct uiommu_range home(const struct shape *s, uint64_t size)
{
	for (unsigned i = 0; i < 4; i++)
		if (s->window[i].page_shift && size >> s->window[i].page_shift == 1)
			return s->window[i].range;
	return s->aperture;
}

/* Nothing is left but the start tables. */
static void check_empty(const struct shape *s, const struct table *t)
{
	assert_int_equal(t->pool.pages, s->root_pages);
}

/* A table is what was asked for: sizes, aperture. */
static void test_shapes(void **state)
{
	for (const struct shape *s = shapes; s < shapes + SHAPES; s++) {
		struct table t;

		assert_int_equal(make(&t, s), 0);
		if (t.page_sizes != s->page_sizes || t.leaf_sizes != s->leaf_sizes)
			say(s, "page sizes");
		assert_int_equal(t.page_sizes, s->page_sizes);
		assert_int_equal(t.leaf_sizes, s->leaf_sizes);
		assert_int_equal(t.aperture.first, s->aperture.first);
		assert_int_equal(t.aperture.last, s->aperture.last);
		assert_int_equal(table_page(&t), page_of(s));
		check_empty(s, &t);
		table_destroy(&t);
	}
}

/* One leaf: each permission, its edges, its neighbours. */
static void check_leaf(const struct shape *s, struct table *t, uint64_t at, uint64_t size,
		       uint64_t addr)
{
	for (int prot = 1; prot <= 7; prot++) {
		int expected = granted(s, prot), ret;

		if (!(prot & 3))
			continue;
		ret = map(t, at, at + size - 1, addr, prot);
		if (prot & UIOMMU_MMIO && !(s->flags & MMIO)) {
			assert_int_equal(ret, -EOPNOTSUPP);
			assert_false(found(t, at));
			continue;
		}
		assert_int_equal(ret, 0);
		check_walk(t, at, addr, expected, size);
		check_walk(t, at + size - 1, addr + size - 1, expected, size);
		check_walk(t, at + size / 2, addr + size / 2, expected, size);
		assert_false(at && found(t, at - 1));
		assert_false(at + size && found(t, at + size));
		unmap(t, at, at + size - 1);
		assert_false(found(t, at));
		assert_false(found(t, at + size - 1));
		check_empty(s, t);
	}
}

/* Every leaf size at the bottom, in the middle and at the very top of the space. */
static void test_leaves(void **state)
{
	for (const struct shape *s = shapes; s < shapes + SHAPES; s++) {
		struct table t;

		assert_int_equal(make(&t, s), 0);
		for (unsigned shift = LEAST; shift < 64; shift++) {
			uint64_t size = BIT(shift), grain = size > s->grain ? size : s->grain;
			struct uiommu_range r = home(s, size);
			uint64_t middle, high = t.ops->max_addr & ~(size - 1);

			if (!(s->leaf_sizes & size))
				continue;
			middle = r.first + ((r.last - r.first) / 2 & ~(grain - 1));
			check_leaf(s, &t, r.first, size, 0);
			check_leaf(s, &t, middle, size, high / 2 & ~(size - 1));
			check_leaf(s, &t, r.last - grain + 1, size, high);
		}
		table_destroy(&t);
	}
}

/* An address that is less aligned than the IOVA makes smaller leaves; emptied leaf by leaf, tables
 * go, and a large leaf fits where they were. */
static void test_tables_go(void **state)
{
	const uint64_t m2 = BIT(21), g1 = BIT(30);

	for (const struct shape *s = shapes; s < shapes + SHAPES && s->root_pages; s++) {
		bool runs = s->leaf_sizes & BIT(16);
		struct table t;

		assert_int_equal(make(&t, s), 0);
		/* 4 KiB before a 1 GiB boundary to 2 MiB + 4 KiB behind the next. */
		assert_int_equal(map(&t, g1 - 4096, 2 * g1 + m2 + 4095, g1 * 7 - 4096, 3), 0);
		check_walk(&t, g1 - 1, g1 * 7 - 1, 3, 4096);
		check_walk(&t, g1 + 12345, g1 * 7 + 12345, 3, g1);
		check_walk(&t, 2 * g1 + 5, g1 * 8 + 5, 3, m2);
		check_walk(&t, 2 * g1 + m2, g1 * 8 + m2, 3, 4096);
		unmap(&t, g1 - 4096, 2 * g1 + m2 + 4095);
		check_empty(s, &t);
		assert_int_equal(map(&t, g1, g1 + m2 - 1, g1 + 4096, 1), 0);
		check_walk(&t, g1, g1 + 4096, 1, 4096);
		check_walk(&t, g1 + m2 - 1, g1 + m2 + 4095, 1, 4096);
		for (uint64_t at = g1; at < g1 + m2; at += 4096)
			unmap(&t, at, at + 4095);
		check_empty(s, &t);
		assert_int_equal(map(&t, g1, g1 + m2 - 1, m2, 1), 0);
		check_walk(&t, g1, m2, 1, m2);
		unmap(&t, g1, g1 + m2 - 1);
		/* Two mappings that adjoin make no run, and each goes by itself. */
		assert_int_equal(map(&t, g1, g1 + 0x7fff, g1, 1), 0);
		assert_int_equal(map(&t, g1 + 0x8000, g1 + 0xffff, g1 + 0x8000, 1), 0);
		check_walk(&t, g1 + 0x7fff, g1 + 0x7fff, 1,
			   s->leaf_sizes & BIT(15) ? 0x8000 : 4096);
		unmap(&t, g1, g1 + 0x7fff);
		assert_false(found(&t, g1 + 0x7fff));
		check_walk(&t, g1 + 0x8000, g1 + 0x8000, 1,
			   s->leaf_sizes & BIT(15) ? 0x8000 : 4096);
		/* And beside a run: 64 KiB in one piece, 4 KiB before and behind. */
		assert_int_equal(map(&t, 2 * g1 - 4096, 2 * g1 + 0x10fff, g1 - 4096, 3), 0);
		check_walk(&t, 2 * g1 + 0xffff, g1 + 0xffff, 3, runs ? 0x10000 : 4096);
		check_walk(&t, 2 * g1 + 0x10000, g1 + 0x10000, 3, 4096);
		/* One unmap over everything, holes included. */
		unmap(&t, 0, UINT64_MAX);
		check_empty(s, &t);
		table_destroy(&t);
	}
}

/* ---- random maps and unmaps, against an array of units ---- */

enum { UNITS = 2048 };

struct model_unit {
	uint32_t area;		    /* 0: not mapped */
	uint64_t first, last, addr; /* of the area */
	int prot;
};

static struct model_unit model[UNITS];

/* The leaf that must translate iova: from the start of the area, always the largest that fits. */
static void check_greedy(const struct shape *s, const struct table *t, const struct model_unit *m,
			 uint64_t iova, const struct table_leaf *leaf)
{
	uint64_t at = m->first;

	if (s->window[0].page_shift) { /* always the window's page */
		assert_int_equal(leaf->range.last - leaf->range.first, 4095);
		return;
	}
	for (;;) {
		uint64_t addr = m->addr + (at - m->first), size = 0;
		/* PAMU: all windows of a mapping but a lone short one are whole. */
		uint64_t most = s->grain ? s->grain : UINT64_MAX;

		for (unsigned shift = LEAST; shift < 64; shift++)
			if (t->leaf_sizes & BIT(shift) && !((at | addr) & (BIT(shift) - 1)) &&
			    m->last - at >= BIT(shift) - 1 && BIT(shift) <= most)
				size = BIT(shift);
		assert_true(size);
		if (iova - at < size) {
			assert_int_equal(leaf->range.first, at);
			assert_int_equal(leaf->range.last, at + size - 1);
			return;
		}
		at += size;
	}
}

static void random_step(const struct shape *s, struct table *t, struct rng *rng, uint64_t base,
			uint64_t unit)
{
	static uint32_t last_area;
	uint64_t at = rng_below(rng, UNITS), n = 1 + rng_below(rng, 40), i;
	int prot = 1 + rng_below(rng, 3);
	uint64_t addr;

	if (!rng_below(rng, 3)) { /* a piece that is aligned to a power of two */
		n = BIT(rng_below(rng, 11));
		at &= ~(n - 1);
	}
	addr = rng_below(rng, BIT(34)) * unit & (t->ops->max_addr >> 1) & BITS(50, 0);
	if (rng_below(rng, 2)) /* and so is the memory */
		addr &= ~((n & -n) * unit - 1);
	if (at + n > UNITS)
		n = UNITS - at;
	for (i = 0; i < n && !model[at + i].area; i++)
		;
	if (i == n) {
		struct model_unit m = {.area = ++last_area,
				       .first = base + at * unit,
				       .last = base + (at + n) * unit - 1,
				       .addr = addr,
				       .prot = prot};

		if (s->grain && !rng_below(rng, 3)) {
			n = 1;
			m.last = m.first + (unit >> rng_below(rng, 8)) - 1;
		}
		assert_int_equal(map(t, m.first, m.last, addr, prot), 0);
		for (i = 0; i < n; i++)
			model[at + i] = m;
		return;
	}
	/* Widen to what is there. */
	while (at && model[at].area && model[at - 1].area == model[at].area) {
		at--;
		n++;
	}
	while (at + n < UNITS && model[at + n].area && model[at + n - 1].area == model[at + n].area)
		n++;
	unmap(t, base + at * unit, base + (at + n) * unit - 1);
	memset(&model[at], 0, n * sizeof(model[0]));
}

static void test_random(void **state)
{
	struct rng rng = rng_seeded("table");

	for (const struct shape *s = shapes; s < shapes + SHAPES; s++) {
		uint64_t unit = s->grain ? s->grain : page_of(s);
		struct uiommu_range r = home(s, unit);
		/* Across a boundary of the highest level, where there is one. */
		uint64_t base = r.first;
		struct table t;

		if (range_length(r) / unit < UNITS)
			continue;
		if (s->root_pages)
			base = (s->aperture.last >> 1) + 1 - UNITS / 2 * unit;
		assert_int_equal(make(&t, s), 0);
		memset(model, 0, sizeof(model));
		for (uint64_t step = 0; step < test_steps(6000); step++) {
			const struct model_unit *m;
			struct table_leaf leaf;
			uint64_t iova;
			bool there;

			random_step(s, &t, &rng, base, unit);
			m = &model[rng_below(&rng, UNITS)];
			iova = base + (m - model) * unit + rng_below(&rng, unit);
			there = table_walk(&t, iova, &leaf);
			assert_int_equal(there, m->area && iova <= m->last);
			if (!there)
				continue;
			assert_int_equal(leaf.addr + (iova - leaf.range.first),
					 m->addr + (iova - m->first));
			assert_int_equal(leaf.prot, granted(s, m->prot));
			check_greedy(s, &t, m, iova, &leaf);
		}
		unmap(&t, base, base + UNITS * unit - 1);
		check_empty(s, &t);
		table_destroy(&t);
	}
}

/* PAMU's windows are too few for the test above: each window, whole and in part. */
static void test_windows(void **state)
{
	for (const struct shape *s = shapes; s < shapes + SHAPES; s++) {
		unsigned count = s->config.windows;
		struct table t;

		if (!count)
			continue;
		assert_int_equal(make(&t, s), 0);
		for (unsigned i = 0; i < count; i++)
			assert_int_equal(
				map(&t, s->aperture.first + i * s->grain,
				    s->aperture.first + i * s->grain + (s->grain >> (i % 4)) - 1,
				    s->grain * 2 * i, 1 + i % 3),
				0);
		for (unsigned i = 0; i < count; i++) {
			uint64_t at = s->aperture.first + i * s->grain, size = s->grain >> (i % 4);
			struct table_leaf leaf;

			check_walk(&t, at + size - 1, s->grain * 2 * i + size - 1, 1 + i % 3, size);
			if (size == s->grain)
				continue;
			/* Behind a short mapping is nothing, though the driver's look-up repeats
			 * it. */
			assert_false(found(&t, at + size));
			assert_true(table_lookup(&t, at + size + 5, &leaf));
			assert_int_equal(leaf.addr + (at + size + 5 - leaf.range.first),
					 s->grain * 2 * i + 5);
		}
		unmap(&t, 0, UINT64_MAX);
		for (unsigned i = 0; i < count; i++)
			assert_false(found(&t, s->aperture.first + i * s->grain));
		if (count > 1) { /* one mapping over several windows */
			uint64_t first = s->aperture.first, last = first + s->grain * 2 - 1;

			assert_int_equal(map(&t, first, last, s->grain * 8, 3), 0);
			check_walk(&t, last, s->grain * 10 - 1, 3, s->grain);
			unmap(&t, first, last);
			assert_false(found(&t, last));
		}
		table_destroy(&t);
	}
}

/* ---- the directory ---- */

/* Pages 512 level 1 tables apart, which so have the same place in the directory, and one at the
 * very end, which may have none: each is found, whichever table was linked or found last and
 * whichever goes. */
static void share_places(const struct shape *s)
{
	enum { MOST = 5 };
	const uint64_t page = page_of(s), stride = page << 27;
	uint64_t at[MOST], n = 0;
	struct table t;

	assert_int_equal(make(&t, s), 0);
	for (uint64_t i = 0; i < MOST - 1 && i <= s->aperture.last / stride; i++)
		at[n++] = i * stride;
	at[n++] = s->aperture.last - page + 1;
	for (uint64_t gone = 0; gone < n; gone++) {
		for (uint64_t i = 0; i < n; i++)
			assert_int_equal(map(&t, at[i], at[i] + page - 1, (i + 1) * page, 3), 0);
		unmap(&t, at[gone], at[gone] + page - 1);
		assert_false(found(&t, at[gone]));
		for (uint64_t i = 0; i < n; i++)
			if (i != gone)
				check_walk(&t, at[i], (i + 1) * page, 3, page);
		/* The owner's search enters tables that were displaced. */
		for (uint64_t i = 0; i < n; i++) {
			if (i == gone)
				continue;
			assert_int_equal(map(&t, at[i] ^ page, (at[i] ^ page) + page - 1, page, 3),
					 0);
			check_walk(&t, at[i], (i + 1) * page, 3, page);
		}
		unmap(&t, 0, s->aperture.last);
		for (uint64_t i = 0; i < n; i++)
			assert_false(found(&t, at[i]));
	}
	table_destroy(&t);
}

static void test_directory(void **state)
{
	for (const struct shape *s = shapes; s < shapes + SHAPES; s++) {
		if (!s->root_pages)
			continue;
		say(s, "places in the directory");
		share_places(s);
	}
}

/* ---- out of memory ---- */

/* A mapping that needs tables of every level: made, or nothing of it there. */
static bool try_shape(const struct shape *s, long nth)
{
	uint64_t unit = s->grain ? s->grain : page_of(s);
	struct uiommu_range r = home(s, unit);
	uint64_t first = r.first, n = s->grain ? 1 : 3000, pages;
	struct table t;
	bool done;

	if (s->root_pages) /* up to 200 leaf tables on both sides of the largest boundary */
		first = (r.last >> 1) + 1 - 100 * 512 * unit;
	if (s->root_pages)
		n = 100 * 512 * 2;
	fail_countdown = nth;
	if (make(&t, s)) {
		fail_countdown = -1;
		return false;
	}
	pages = t.pool.pages;
	done = !map(&t, first, first + n * unit - 1, unit, 3);
	fail_countdown = -1;
	if (!done) {
		assert_false(found(&t, first));
		assert_false(found(&t, first + n * unit - 1));
		assert_int_equal(t.pool.pages, pages);
		assert_int_equal(map(&t, first, first + n * unit - 1, unit, 3), 0);
	}
	check_walk(&t, first + n * unit - 1, unit * (n + 1) - 1, 3, unit);
	unmap(&t, first, first + n * unit - 1);
	check_empty(s, &t);
	table_destroy(&t);
	return done;
}

static void test_no_memory(void **state)
{
	table_shared_destroy(&shared);
	uiommu_set_allocator(failing_alloc, failing_release);
	for (const struct shape *s = shapes; s < shapes + SHAPES; s++) {
		long nth = 0;

		while (!try_shape(s, nth))
			nth++;
		assert_true(nth >= 1); /* one attempt failed at least */
		table_shared_destroy(&shared);
		assert_int_equal(fail_live, 0);
	}
	uiommu_set_allocator(NULL, NULL);
}

/* ---- dirty bits ---- */

struct seen {
	struct uiommu_range range[8];
	unsigned count;
};

static void note(void *ctx, struct uiommu_range range)
{
	struct seen *seen = ctx;

	if (seen->count < 8)
		seen->range[seen->count] = range;
	seen->count++;
}

static struct seen scan(struct table *t, struct uiommu_range range, bool clear)
{
	struct gather gather = GATHER_INIT;
	struct seen seen = {0};

	table_scan_dirty(t, range, clear, note, &seen, &gather);
	assert_int_equal(range_valid(gather.range), clear && seen.count);
	gather_release(&gather, &t->pool);
	return seen;
}

static void check_dirty(const struct shape *s, struct table *t, uint64_t size)
{
	uint64_t at = s->aperture.last / 2 + 1;
	struct uiommu_range all = {at, at + 2 * size - 1};
	struct seen seen;

	/* Two leaves of the size, which the memory keeps from being one, and one read-only. */
	assert_int_equal(map(t, at, at + size - 1, 2 * size, 3), 0);
	assert_int_equal(map(t, at + size, at + 2 * size - 1, 0, 2), 0);
	assert_int_equal(map(t, at - size, at - 1, 0, 1), 0);
	seen = scan(t, UIOMMU_RANGE_ALL, true);
	assert_int_equal(seen.count, s->flags & STARTS_DIRTY ? 2 : 0);
	assert_int_equal(scan(t, UIOMMU_RANGE_ALL, true).count, 0);
	check_walk(t, at, 2 * size, 3, size); /* clean, it is still writable */
	assert_true(table_mark_dirty(t, at + size + size / 3));
	assert_true(table_mark_dirty(t, at + size)); /* twice, in another part of a run */
	assert_false(table_mark_dirty(t, at - 1));
	assert_false(table_mark_dirty(t, at + 2 * size));
	check_walk(t, at + size, 0, granted(s, 2), size);
	seen = scan(t, all, false);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.range[0].first, at + size);
	assert_int_equal(seen.range[0].last, at + 2 * size - 1);
	if (size > 4096) {
		/* A part of a leaf: told of as far as it was asked for, and kept. */
		seen = scan(t, (struct uiommu_range){at, at + size + 4095}, true);
		assert_int_equal(seen.count, 1);
		assert_int_equal(seen.range[0].first, at + size);
		assert_int_equal(seen.range[0].last, at + size + 4095);
	}
	assert_true(table_mark_dirty(t, at + size - 1));
	seen = scan(t, all, true);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.range[0].first, at);
	assert_int_equal(scan(t, all, false).count, 0);
	/* Written to, and gone: no bit stays behind. */
	assert_true(table_mark_dirty(t, at));
	unmap(t, at - size, at + 2 * size - 1);
	assert_int_equal(scan(t, UIOMMU_RANGE_ALL, false).count, 0);
	check_empty(s, t);
}

static void test_dirty(void **state)
{
	for (const struct shape *s = shapes; s < shapes + SHAPES; s++) {
		struct table_config config = s->config;
		struct table t;

		if (!(s->flags & DIRTY)) {
			config.dirty = true;
			config.shared = &shared;
			if (!s->root_pages)
				assert_int_equal(table_init(&t, &config), -EOPNOTSUPP);
			continue;
		}
		assert_int_equal(make(&t, s), 0);
		for (unsigned shift = LEAST; shift < 64; shift++)
			if (s->leaf_sizes & BIT(shift) && BIT(shift) < s->aperture.last / 4 &&
			    BIT(shift) < t.ops->max_addr / 4)
				check_dirty(s, &t, BIT(shift));
		table_destroy(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),	  cmocka_unit_test(test_leaves),
		cmocka_unit_test(test_tables_go), cmocka_unit_test(test_random),
		cmocka_unit_test(test_windows),	  cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_dirty),	  cmocka_unit_test(test_directory),
	};

	return cmocka_run_group_tests(tests, NULL, teardown_shared);
}
