/* SPDX-License-Identifier: MIT */
/*
 * Each format's entries, bit for bit as its manual lays them out, and each format's own rules. The
 * sections are named in src/table/fmt_*.h. Numbers are written out here, not taken from there.
 */
#include "../check.h"

#include <errno.h>

#include "table/fmt_pamu.h"
#include "table/table.h"

#define BIT(n)	     (UINT64_C(1) << (n))
#define BITS(hi, lo) ((UINT64_MAX >> (63 - (hi))) & ~(BIT(lo) - 1))
#define R(a, b)	     ((struct uiommu_range){(a), (b)})
#define RW	     (UIOMMU_READ | UIOMMU_WRITE)
#define M2	     BIT(21)
#define G1	     BIT(30)

static struct table_shared shared;

static int make(struct table *t, const char *format, unsigned width)
{
	return table_init(t, &(struct table_config){.format = format, .width = width});
}

static int check(struct table *t, struct uiommu_range range, uint64_t addr, int prot,
		 struct table_why *why)
{
	return table_check(t, range, addr, prot, why);
}

static void map(struct table *t, uint64_t first, uint64_t size, uint64_t addr, int prot)
{
	struct gather gather = GATHER_INIT;
	struct table_why why;

	assert_int_equal(check(t, R(first, first + size - 1), addr, prot, &why), 0);
	assert_int_equal(table_map(t, R(first, first + size - 1), addr, prot, &gather), 0);
	gather_release(&gather, &t->pool);
}

static void unmap(struct table *t, uint64_t first, uint64_t size)
{
	struct gather gather = GATHER_INIT;

	table_unmap(t, R(first, first + size - 1), &gather);
	gather_release(&gather, &t->pool);
}

static uint64_t *at(uint64_t addr)
{
	return (uint64_t *)(uintptr_t)addr;
}

static void note(void *ctx, struct uiommu_range range)
{
	++*(unsigned *)ctx;
}

static unsigned clear_dirty(struct table *t)
{
	struct gather gather = GATHER_INIT;
	unsigned count = 0;

	table_scan_dirty(t, UIOMMU_RANGE_ALL, true, note, &count, &gather);
	gather_release(&gather, &t->pool);
	return count;
}

/* VT-d specification, 9.8: R is bit 0, W bit 1, PS bit 7, A bit 8, D bit 9, the address 51:12. */
static void test_vtd(void **state)
{
	const uint64_t high = BITS(51, 30), addr = BITS(51, 12);
	uint64_t *pml4, *pdp, *pd, *pt;
	struct table t;

	assert_int_equal(make(&t, "vtd-ss", 48), 0);
	map(&t, 0x1000, 0x1000, 0x123456789000, UIOMMU_READ);
	map(&t, M2, M2, high, UIOMMU_WRITE);
	map(&t, G1, G1, high, RW);
	pml4 = t.root;
	assert_int_equal(pml4[0] & ~addr, 3); /* a table: R and W, nothing else */
	pdp = at(pml4[0] & addr);
	assert_int_equal(pdp[0] & ~addr, 3);
	assert_int_equal(pdp[1], high | 1 << 7 | 3);
	pd = at(pdp[0] & addr);
	assert_int_equal(pd[1], high | 1 << 7 | 2);
	pt = at(pd[0] & addr);
	assert_int_equal(pt[1], 0x123456789000 | 1); /* no PS in a last-level entry */
	assert_int_equal(pt[0], 0);
	assert_true(table_mark_dirty(&t, M2));
	assert_int_equal(pd[1], high | 1 << 9 | 1 << 8 | 1 << 7 | 2);
	assert_int_equal(clear_dirty(&t), 1);
	assert_int_equal(pd[1], high | 1 << 8 | 1 << 7 | 2); /* A stays */
	table_destroy(&t);
}

/* With snoop control, bit 11 of leaves: not of tables, and it is no part of an address. */
static void test_vtd_snoop(void **state)
{
	const struct table_config snoop = {.format = "vtd-ss", .width = 39, .snoop = true};
	uint64_t *pdp, *pd, *pt;
	struct table_leaf leaf;
	struct table t;

	assert_int_equal(table_init(&t, &snoop), 0);
	map(&t, 0, 2 * 0x1000, 0x5000, UIOMMU_READ);
	map(&t, M2, M2, M2, RW);
	map(&t, G1, G1, G1, RW);
	pdp = t.root;
	assert_int_equal(pdp[1], G1 | 1 << 11 | 1 << 7 | 3);
	assert_int_equal(pdp[0] & BIT(11), 0);
	pd = at(pdp[0] & BITS(51, 12));
	assert_int_equal(pd[1], M2 | 1 << 11 | 1 << 7 | 3);
	assert_int_equal(pd[0] & BIT(11), 0);
	pt = at(pd[0] & BITS(51, 12));
	assert_int_equal(pt[0], 0x5000 | 1 << 11 | 1);
	assert_int_equal(pt[1], 0x6000 | 1 << 11 | 1);
	assert_true(table_walk(&t, 0x1008, &leaf));
	assert_int_equal(leaf.addr, 0x6000);
	table_destroy(&t);
}

/* VT-d specification, 9.9: P 0, R/W 1, U/S 2, A 5, D 6, PS 7, the address 51:12. */
static void test_vtd_first(void **state)
{
	const struct table_config dirty = {.format = "vtd-fs", .width = 57, .dirty = true};
	const uint64_t high = BITS(51, 30), addr = BITS(51, 12);
	uint64_t *pml4, *pdp, *pd, *pt;
	struct table t;

	assert_int_equal(make(&t, "vtd-fs", 48), 0);
	assert_int_equal(t.page_sizes, 0x40201000);
	map(&t, 0x1000, 0x1000, 0x123456789000, UIOMMU_READ);
	map(&t, M2, M2, high, UIOMMU_WRITE);
	map(&t, G1, G1, high, RW);
	map(&t, BIT(47) - G1, G1, G1, RW); /* the last of the lower half */
	pml4 = t.root;
	assert_int_equal(pml4[0] & ~addr, 0x27); /* a table: P, R/W, U/S, A */
	assert_int_equal(pml4[256], 0);
	pdp = at(pml4[255] & addr);
	assert_int_equal(pdp[511], G1 | 0xe7);
	pdp = at(pml4[0] & addr);
	assert_int_equal(pdp[0] & ~addr, 0x27);
	assert_int_equal(pdp[1], high | 0xe7); /* and D, PS */
	pd = at(pdp[0] & addr);
	assert_int_equal(pd[1], high | 0xe7); /* writing implies reading */
	pt = at(pd[0] & addr);
	assert_int_equal(pt[1], 0x123456789000 | 0x25);
	assert_false(table_covers(&t, BIT(47)));
	table_destroy(&t);
	assert_int_equal(table_init(&t, &dirty), 0);
	assert_int_equal(t.levels, 5);
	map(&t, 0, G1, G1, RW);
	pdp = at(*at(*(uint64_t *)t.root & addr) & addr);
	assert_int_equal(pdp[0], G1 | 0xa7); /* D is for hardware to set */
	assert_true(table_mark_dirty(&t, 5));
	assert_int_equal(pdp[0], G1 | 0xe7);
	assert_int_equal(clear_dirty(&t), 1);
	assert_int_equal(pdp[0], G1 | 0xa7);
	table_destroy(&t);
}

/* AMD IOMMU specification, 2.2.3: PR 0, A 5, D 6, next level 11:9, address 51:12, FC 60, IR 61,
 * IW 62. */
static void test_amd(void **state)
{
	const uint64_t addr = BITS(51, 12), leaf = BIT(60) | BIT(0);
	uint64_t *table, *pt, *pd, *pdp;
	struct table t;

	assert_int_equal(make(&t, "amd-v1", 64), 0);
	assert_int_equal(t.levels, 6);
	assert_int_equal(t.page_sizes, 0xfff7ffffff000);
	map(&t, 0x1000, 0x1000, BITS(51, 12), UIOMMU_READ);
	map(&t, 0x10000, 0x10000, 0xabcdef0000, RW);
	map(&t, 0x2000, 0x2000, 0x8000, UIOMMU_WRITE);
	map(&t, M2, M2, 7 * M2, RW);
	map(&t, 4 * M2, 4 * M2, 8 * M2, RW);
	map(&t, BIT(40), BIT(40), BIT(41), RW);
	map(&t, BIT(51), BIT(51), 0, RW);
	map(&t, BIT(39), BIT(39), BIT(39), RW);
	table = t.root;
	for (unsigned level = 5; level; level--) {
		assert_int_equal(table[0] & ~addr, BIT(62) | BIT(61) | level << 9 | 1);
		table = at(table[0] & addr);
		if (level == 5) { /* mode 5: 2 PiB in eight entries; the lowest clear bit is 50 */
			for (unsigned i = 0; i < 8; i++)
				assert_int_equal(table[8 + i],
						 leaf | BIT(61) | BIT(62) | 7 << 9 | BITS(49, 12));
			assert_int_equal(table[16], 0);
		}
		if (level == 4) { /* mode 4: 1 TiB in two entries; no 512 GiB leaf, but a table */
			assert_int_equal(table[2], leaf | BIT(61) | BIT(62) | 7 << 9 | BIT(41) |
							   BITS(38, 12));
			assert_int_equal(table[3], table[2]);
			assert_int_equal(table[1] & 7 << 9, 3 << 9);
			pdp = at(table[1] & addr); /* two leaves of 256 GiB */
			assert_int_equal(pdp[0], leaf | BIT(61) | BIT(62) | 7 << 9 | BIT(39) |
							 BITS(36, 12));
			assert_int_equal(pdp[511], leaf | BIT(61) | BIT(62) | 7 << 9 | BIT(39) |
							   BIT(38) | BITS(36, 12));
		}
		if (level == 2) {
			pd = table;
			assert_int_equal(pd[1], leaf | BIT(61) | BIT(62) | 7 * M2);
			assert_int_equal(pd[4],
					 leaf | BIT(61) | BIT(62) | 7 << 9 | 8 * M2 | BITS(21, 12));
			assert_int_equal(pd[7], pd[4]);
			assert_int_equal(pd[8], 0);
		}
	}
	pt = table;
	assert_int_equal(pt[1], leaf | BIT(61) | BITS(51, 12)); /* next level 0 */
	assert_int_equal(pt[2], leaf | BIT(62) | 7 << 9 | 0x8000);
	assert_int_equal(pt[3], pt[2]);
	assert_int_equal(pt[16], leaf | BIT(61) | BIT(62) | 7 << 9 | 0xabcdef7000);
	assert_int_equal(pt[31], pt[16]);
	assert_int_equal(pt[32], 0);
	/* A write marks the one entry it went through. */
	assert_true(table_mark_dirty(&t, 0x15000));
	assert_int_equal(pt[0x15], pt[16] | 1 << 5 | 1 << 6);
	assert_int_equal(clear_dirty(&t), 1);
	assert_int_equal(pt[0x15], pt[16] | 1 << 5);
	table_destroy(&t);
}

/* The same with a granule of 2 KiB: addresses stand one bit higher, and sizes are told by them. */
static void test_mock(void **state)
{
	const uint64_t addr = BITS(51, 12), leaf = BIT(60) | BIT(61) | BIT(62) | BIT(0);
	uint64_t *pdp, *pd, *pt;
	struct table t;

	assert_int_equal(make(&t, "mock", 38), 0);
	assert_int_equal(t.levels, 3);
	map(&t, 0x800, 0x800, BITS(50, 11), RW);
	map(&t, 0x1000, 0x1000, 0x5000, RW);
	map(&t, BIT(20), BIT(20), 7 * BIT(20), RW);
	map(&t, BIT(21), BIT(21), BIT(22), RW);
	pdp = t.root;
	assert_int_equal(pdp[0] & ~addr, BIT(62) | BIT(61) | 2 << 9 | 1);
	pd = at((pdp[0] & addr) >> 1);
	assert_int_equal(pd[0] & ~addr, BIT(62) | BIT(61) | 1 << 9 | 1);
	assert_int_equal(pd[1], leaf | 7 * BIT(21));
	/* 2 MiB in two entries: the lowest clear bit is the one of 1 MiB. */
	assert_int_equal(pd[2], leaf | 7 << 9 | BIT(23) | BITS(20, 12));
	assert_int_equal(pd[3], pd[2]);
	pt = at((pd[0] & addr) >> 1);
	assert_int_equal(pt[0], 0);
	assert_int_equal(pt[1], leaf | addr);
	assert_int_equal(pt[2], leaf | 7 << 9 | 0xa000); /* 4 KiB: bit 12 is clear */
	assert_int_equal(pt[3], pt[2]);
	assert_int_equal(pt[4], 0);
	table_destroy(&t);
}

/* DDI 0487, D8.3: AttrIndx 4:2, AP 7:6, SH 9:8, AF 10, nG 11, DBM 51, contiguous 52, XN 54:53. */
static void test_arm_stage1(void **state)
{
	const uint64_t addr = BITS(47, 12);
	uint64_t *l0, *l1, *l2, *l3;
	struct table t;

	assert_int_equal(make(&t, "arm-s1", 48), 0);
	assert_int_equal(t.page_sizes, 0x40201000);
	map(&t, 0x1000, 0x1000, BITS(47, 12), RW);
	map(&t, 0x2000, 0x1000, 0x5000, UIOMMU_READ);
	map(&t, 0x3000, 0x1000, 0x6000, UIOMMU_WRITE);
	map(&t, 0x4000, 0x1000, 0x8000000, UIOMMU_WRITE | UIOMMU_MMIO);
	map(&t, 0x20000, 0x10000, 0x990000, RW);
	map(&t, M2, M2, 7 * M2, RW);
	map(&t, BIT(25), BIT(25), BIT(26), RW);
	map(&t, G1, G1, 2 * G1, UIOMMU_READ);
	l0 = t.root;
	assert_int_equal(l0[0] & ~addr, 3);
	l1 = at(l0[0] & addr);
	assert_int_equal(l1[1], 2 * G1 | 0xfc5);
	l2 = at(l1[0] & addr);
	assert_int_equal(l2[1], 7 * M2 | 0xf45);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(l2[16 + i], BIT(26) + i * M2 + (BIT(52) | 0xf45));
	assert_int_equal(l2[32], 0);
	l3 = at(l2[0] & addr);
	assert_int_equal(l3[1], BITS(47, 12) | 0xf47);
	assert_int_equal(l3[2], 0x5000 | 0xfc7);
	assert_int_equal(l3[3], 0x6000 | 0xf47);
	assert_int_equal(l3[4], 0x8000000 | BIT(54) | BIT(53) | 0xe4b);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(l3[32 + i], 0x990000 + i * 0x1000 + (BIT(52) | 0xf47));
	table_destroy(&t);
}

/* DDI 0487, D8.4: with DBM a writable entry that is clean is read-only. */
static void test_arm_dirty(void **state)
{
	const struct table_config s1 = {.format = "arm-s1", .width = 39, .dirty = true};
	const struct table_config s2 = {.format = "arm-s2", .width = 40, .dirty = true};
	const uint64_t addr = BITS(47, 12);
	uint64_t *entry;
	struct table t;

	assert_int_equal(table_init(&t, &s1), 0);
	map(&t, 0, 0x1000, 0x5000, RW);
	map(&t, 0x1000, 0x1000, 0x5000, UIOMMU_READ);
	entry = at(*at(*at((uintptr_t)t.root) & addr) & addr);
	assert_int_equal(entry[0], 0x5000 | BIT(51) | 0xf47);
	assert_int_equal(entry[1], 0x5000 | 0xfc7);
	assert_int_equal(clear_dirty(&t), 1);
	assert_int_equal(entry[0], 0x5000 | BIT(51) | 0xfc7); /* AP[2] */
	assert_true(table_mark_dirty(&t, 0xfff));
	assert_int_equal(entry[0], 0x5000 | BIT(51) | 0xf47);
	table_destroy(&t);

	assert_int_equal(table_init(&t, &s2), 0);
	map(&t, 0, 0x1000, 0x5000, RW);
	entry = at(*at(*at((uintptr_t)t.root) & addr) & addr);
	assert_int_equal(entry[0], 0x5000 | BIT(51) | 0x7ff);
	assert_int_equal(clear_dirty(&t), 1);
	assert_int_equal(entry[0], 0x5000 | BIT(51) | 0x77f); /* S2AP[1] */
	assert_true(table_mark_dirty(&t, 0));
	assert_int_equal(entry[0], 0x5000 | BIT(51) | 0x7ff);
	table_destroy(&t);
}

/* DDI 0487, D8.3: MemAttr 5:2, S2AP 7:6. D8.2: start tables side by side. */
static void test_arm_stage2(void **state)
{
	const uint64_t addr = BITS(47, 12);
	static const struct {
		unsigned width, pages, levels;
	} starts[] = {{39, 1, 3},  {40, 2, 3}, {41, 4, 3}, {42, 8, 3},
		      {43, 16, 3}, {44, 1, 4}, {48, 1, 4}, {32, 1, 3}};
	uint64_t *l1, *l2, *l3;
	struct table t;

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		assert_int_equal(make(&t, "arm-s2", starts[i].width), 0);
		assert_int_equal(t.levels, starts[i].levels);
		assert_int_equal(t.root_pages, starts[i].pages);
		/* Aligned to their whole size, as VTTBR wants it. */
		assert_int_equal((uintptr_t)t.root % (starts[i].pages * 4096), 0);
		table_destroy(&t);
	}
	assert_int_equal(make(&t, "arm-s2", 43), 0);
	assert_int_equal(t.page_sizes, 0x40201000);
	map(&t, BIT(43) - G1, G1, G1, RW); /* the last entry of 16 tables */
	map(&t, BIT(39), G1, 0, UIOMMU_READ);
	map(&t, 0x1000, 0x1000, 0x5000, UIOMMU_READ);
	map(&t, 0x2000, 0x1000, 0x5000, UIOMMU_WRITE);
	map(&t, 0x3000, 0x1000, 0x8000000, RW | UIOMMU_MMIO);
	map(&t, M2, M2, 0, RW);
	l1 = t.root;
	assert_int_equal(l1[16 * 512 - 1], G1 | 0x7fd);
	assert_int_equal(l1[512], 0x77d);
	assert_int_equal(l1[0] & ~addr, 3);
	l2 = at(l1[0] & addr);
	assert_int_equal(l2[1], 0x7fd);
	l3 = at(l2[0] & addr);
	assert_int_equal(l3[1], 0x5000 | 0x77f);
	assert_int_equal(l3[2], 0x5000 | 0x7bf);
	assert_int_equal(l3[3], 0x8000000 | BIT(54) | BIT(53) | 0x6c7);
	table_destroy(&t);
}

/* A page size that is asked for is kept to; the contiguous hint is one that may be. */
static void test_page_sizes(void **state)
{
	struct table_config config = {.format = "arm-s1", .width = 48, .page_sizes = 0x40201000};
	struct table_leaf leaf;
	struct table t;

	assert_int_equal(table_init(&t, &config), 0);
	map(&t, 0, BIT(25), 0, RW);
	map(&t, BIT(25), 0x10000, 0, RW);
	assert_true(table_walk(&t, 0, &leaf));
	assert_int_equal(leaf.range.last, M2 - 1);
	assert_true(table_walk(&t, BIT(25), &leaf));
	assert_int_equal(leaf.range.last, BIT(25) + 0xfff);
	table_destroy(&t);
	config.page_sizes = 0x11000;
	assert_int_equal(table_init(&t, &config), 0);
	assert_int_equal(t.page_sizes, 0x11000);
	map(&t, 0, G1, 0, RW);
	assert_true(table_walk(&t, 0, &leaf));
	assert_int_equal(leaf.range.last, 0xffff);
	table_destroy(&t);
	config = (struct table_config){.format = "amd-v1", .width = 48, .page_sizes = 0x10000};
	assert_int_equal(table_init(&t, &config), 0);
	assert_int_equal(table_page(&t), 0x10000);
	map(&t, G1 - 0x10000, M2, 0x30000, RW);
	for (uint64_t i = 0; i < M2; i += 0x10000) {
		assert_true(table_walk(&t, G1 - 0x10000 + i, &leaf));
		assert_int_equal(leaf.range.last - leaf.range.first, 0xffff);
		assert_int_equal(leaf.addr, 0x30000 + i);
	}
	table_destroy(&t);
	config.page_sizes = 0xfff;
	assert_int_equal(table_init(&t, &config), -EINVAL);
}

/* Privileged architecture, Sv39: V R W X U G A D, PPN 53:10; Svpbmt: PBMT 62:61. */
static void test_riscv(void **state)
{
	const struct table_config dirty = {.format = "riscv", .width = 39, .dirty = true};
	uint64_t *l2, *l1, *l0;
	struct table t;

	assert_int_equal(make(&t, "riscv", 39), 0);
	assert_int_equal(t.page_sizes, 0x40201000);
	map(&t, 0x1000, 0x1000, BITS(55, 12), RW);
	map(&t, 0x2000, 0x1000, 0x5000, UIOMMU_READ);
	map(&t, 0x3000, 0x1000, 0x5000, UIOMMU_WRITE);
	map(&t, 0x4000, 0x1000, 0x5000, RW | UIOMMU_MMIO);
	map(&t, M2, M2, M2, RW);
	map(&t, BIT(38) - G1, G1, 3 * G1, RW); /* the aperture's last, a root of half its entries */
	l2 = t.root;
	assert_int_equal(l2[255], 3 * G1 >> 2 | 0xd7);
	assert_int_equal(l2[0] & 0x3ff, 1);
	l1 = at((l2[0] & BITS(53, 10)) << 2);
	assert_int_equal(l1[1], M2 >> 2 | 0xd7);
	l0 = at((l1[0] & BITS(53, 10)) << 2);
	assert_int_equal(l0[1], BITS(53, 10) | 0xd7);
	assert_int_equal(l0[2], 0x5000 >> 2 | 0x53);
	assert_int_equal(l0[3], 0x5000 >> 2 | 0xd7);
	assert_int_equal(l0[4], 0x5000 >> 2 | BIT(62) | 0xd7);
	assert_false(table_covers(&t, BIT(38)));
	table_destroy(&t);
	assert_int_equal(table_init(&t, &dirty), 0);
	map(&t, BIT(38) - G1, G1, 3 * G1, RW);
	l2 = t.root;
	assert_int_equal(l2[255], 3 * G1 >> 2 | 0x57);
	assert_true(table_mark_dirty(&t, BIT(38) - 1));
	assert_int_equal(l2[255], 3 * G1 >> 2 | 0xd7);
	table_destroy(&t);
}

/* ---- PAMU ---- */

static int make_pamu(struct table *t, struct uiommu_range aperture, unsigned windows)
{
	return table_init(t, &(struct table_config){.format = "pamu",
						    .width = 36,
						    .aperture = aperture,
						    .windows = windows,
						    .shared = &shared});
}

static void check_words(const struct paace *entry, const uint32_t words[8])
{
	const unsigned char *bytes = (const unsigned char *)entry;

	for (unsigned i = 0; i < 8; i++) /* big-endian */
		assert_int_equal((uint32_t)bytes[4 * i] << 24 | bytes[4 * i + 1] << 16 |
					 bytes[4 * i + 2] << 8 | bytes[4 * i + 3],
				 words[i]);
}

/* A guest of 256 MiB in four of eight windows, and three MSI banks of a page behind it. */
static void test_pamu(void **state)
{
	const uint64_t m64 = BIT(26), ram = UINT64_C(0x5555) << 32;
	struct paace *primary, *secondary;
	struct table_window window;
	struct table_leaf leaf;
	struct table t;

	assert_int_equal(make_pamu(&t, R(0, 8 * m64 - 1), 8), 0);
	primary = t.root;
	secondary = shared.spaact;
	assert_int_equal((uintptr_t)primary % 64, 0);
	assert_int_equal((uintptr_t)secondary % (0x800 * 64), 0);
	/* WSE 28 (512 MiB), MW; coherent; WCE 2 (8 windows); not valid yet. */
	check_words(primary, (uint32_t[8]){0, 28 << 6 | 0x20, 0x80, 2 << 4});
	assert_false(table_walk(&t, 0, &leaf));
	map(&t, 0, 4 * m64, ram, RW);
	for (unsigned i = 0; i < 3; i++)
		map(&t, (4 + i) * m64, 0x1000, UINT64_C(0xffe044000) + i * 0x1000,
		    UIOMMU_WRITE | UIOMMU_MMIO);
	/* Window 0 is the primary's own: AP 3, V; ATM 1; SWSE 25 (64 MiB). */
	check_words(primary, (uint32_t[8]){0, 28 << 6 | 0x20 | 3 << 3 | 1, 0x80, 2 << 4 | 1 << 2,
					   0x5555, 25 << 6});
	check_words(&secondary[0],
		    (uint32_t[8]){0, 3 << 3 | 2 | 1, 0x80, 1 << 2, 0x5555, 0x4000000 | 25 << 6});
	check_words(&secondary[2],
		    (uint32_t[8]){0, 3 << 3 | 2 | 1, 0x80, 1 << 2, 0x5555, 0xc000000 | 25 << 6});
	/* A bank: update only, not coherent, SWSE 11 (4 KiB). */
	check_words(&secondary[3],
		    (uint32_t[8]){0, 2 << 3 | 2 | 1, 0, 1 << 2, 0xf, 0xfe044000 | 11 << 6});
	check_words(&secondary[6], (uint32_t[8]){0});
	assert_true(table_walk(&t, 5 * m64 + 0x140, &leaf));
	assert_int_equal(leaf.prot, UIOMMU_WRITE | UIOMMU_MMIO);
	assert_int_equal(leaf.addr, 0xffe045000);
	assert_true(t.ops->window_find(&t, 5 * m64 + 77, &window));
	assert_int_equal(window.range.first, 5 * m64);
	assert_int_equal(window.range.last, 6 * m64 - 1);
	assert_false(t.ops->window_find(&t, 8 * m64, &window));
	/* Windows go while the others stay; window 0 by its AP, the others by V. */
	unmap(&t, 0, 4 * m64);
	check_words(primary,
		    (uint32_t[8]){0, 28 << 6 | 0x20 | 1, 0x80, 2 << 4 | 1 << 2, 0x5555, 25 << 6});
	assert_false(table_walk(&t, 0, &leaf));
	assert_false(table_walk(&t, m64, &leaf));
	assert_true(table_walk(&t, 4 * m64, &leaf));
	unmap(&t, 0, 8 * m64);
	assert_false(primary->bits & __builtin_bswap32(1));
	table_destroy(&t);
}

/* One window: the mapping is the primary's window, without secondary entries. */
static void test_pamu_single(void **state)
{
	struct table_leaf leaf;
	struct table t;

	assert_int_equal(table_init(&t, &(struct table_config){.format = "pamu",
							       .width = 36,
							       .aperture = R(BIT(35), BIT(36) - 1),
							       .windows = 1}),
			 0);
	check_words(t.root, (uint32_t[8]){8, 0, 0x80});
	map(&t, BIT(35), 0x10000, 0x70000, UIOMMU_READ);
	check_words(t.root, (uint32_t[8]){8, 15 << 6 | 1 << 3 | 1, 0x80, 1 << 2, 0, 0x70000});
	assert_true(table_walk(&t, BIT(35) + 0xffff, &leaf));
	assert_int_equal(leaf.range.last, BIT(35) + 0xffff);
	assert_false(table_walk(&t, BIT(35) + 0x10000, &leaf));
	assert_true(table_lookup(&t, BIT(35) + 0x30000, &leaf));
	assert_int_equal(leaf.addr, 0x70000);
	unmap(&t, BIT(35), 0x10000);
	assert_false(table_walk(&t, BIT(35), &leaf));
	table_destroy(&t);
}

static void test_pamu_rules(void **state)
{
	const uint64_t w = 0x10000; /* a window */
	static const struct {
		uint64_t first, length, addr;
		int error;
	} maps[] = {
		{0, 0x10000, 0, 0},
		{0x10000, 0x1000, 0x1000, 0},
		{0x20000, 0x8000, 0x8000, 0},
		{0x20000, 0x20000, 0x10000, 0},
		{0x1000, 0x1000, 0, -EINVAL}, /* not where a window starts */
		{0x8000, 0x10000, 0, -EINVAL},
		{0x10000, 0x3000, 0, -EINVAL},	     /* no power of two */
		{0x10000, 0x18000, 0, -EINVAL},	     /* one and a half */
		{0x10000, 0x10000, 0x8000, -EINVAL}, /* memory not aligned to the window */
		{0x10000, 0x2000, 0x1000, -EINVAL},  /* nor to the mapping */
		{0x10000, 0x30000, 0x18000, -EINVAL},
	};
	static const struct {
		struct uiommu_range aperture;
		unsigned windows;
		int error;
	} makes[] = {
		{{0, 0}, 0, 0},
		{{0, 0xffff}, 16, 0},
		{{0x10000, 0x1ffff}, 1, 0},
		{{0, 0xffff}, 32, -EINVAL}, /* windows of 2 KiB */
		{{0, 0xffff}, 3, -EINVAL},
		{{0, 0}, 512, -EINVAL},
		{{0x8000, 0x17fff}, 2, -EINVAL}, /* not aligned to its size */
		{{0, 0x17fff}, 2, -EINVAL},	 /* no power of two */
		{{0, BIT(37) - 1}, 2, -EINVAL},	 /* wider than 36 bits */
		{{1, 0x1000}, 1, -EINVAL},
		{{0x2000, 0x1fff}, 1, -EINVAL},
	};
	struct table_why why;
	struct table t;

	for (size_t i = 0; i < sizeof(makes) / sizeof(makes[0]); i++) {
		assert_int_equal(make_pamu(&t, makes[i].aperture, makes[i].windows),
				 makes[i].error);
		if (!makes[i].error)
			table_destroy(&t);
	}
	assert_int_equal(make_pamu(&t, R(0, 16 * w - 1), 16), 0);
	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
		struct uiommu_range r = R(maps[i].first, maps[i].first + maps[i].length - 1);

		assert_int_equal(check(&t, r, maps[i].addr, RW, &why), maps[i].error);
		if (maps[i].error) {
			assert_int_equal(why.rule, UIOMMU_RULE_ALIGNMENT);
			assert_true(why.range.last >= 0xfff);
			assert_non_null(why.what);
		}
	}
	table_destroy(&t);
}

/* Secondary entries are the unit's: first come, first served. */
static void test_pamu_exhausted(void **state)
{
	struct table t[9], small;

	table_shared_destroy(&shared);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(make_pamu(&t[i], R(0, 0), 256), 0); /* 8 * 255 of 2048 */
	assert_int_equal(make_pamu(&t[8], R(0, 0), 256), -ENOSPC);
	assert_int_equal(make_pamu(&t[8], R(0, 0), 16), -ENOSPC);
	assert_int_equal(make_pamu(&small, R(0, 0), 8), 0);
	map(&t[7], BIT(36) - BIT(28), BIT(28), BIT(28), RW);
	map(&small, BIT(33), BIT(33), BIT(33), UIOMMU_READ);
	table_destroy(&t[3]);
	assert_int_equal(make_pamu(&t[3], R(0, 0), 256), 0);
	for (unsigned i = 0; i < 8; i++) {
		struct table_leaf leaf;

		assert_int_equal(table_walk(&t[i], BIT(36) - 1, &leaf), i == 7);
		assert_false(table_walk(&t[i], BIT(33), &leaf));
		table_destroy(&t[i]);
	}
	table_destroy(&small);
	table_shared_destroy(&shared);
}

/* ---- TCEs ---- */

static int add_window(struct table *t, uint64_t first, uint64_t length, unsigned shift,
		      unsigned levels, struct table_why *why)
{
	struct table_window window = {
		.range = R(first, first + length - 1), .page_shift = shift, .levels = levels};

	return t->ops->window_create(t, &window, why);
}

static void drop_window(struct table *t, uint64_t first)
{
	struct gather gather = GATHER_INIT;

	t->ops->window_remove(t, first, &gather);
	assert_false(gather_empty(&gather));
	gather_release(&gather, &t->pool);
}

static void test_tce(void **state)
{
	const uint64_t second = UINT64_C(0x800000000000000);
	struct table_window window;
	struct table_leaf leaf;
	struct table_why why;
	struct table t;

	/* A write-only TCE: the hypervisor's says so; the host bridge's driver adds read. */
	for (unsigned powernv = 0; powernv < 2; powernv++) {
		assert_int_equal(make(&t, powernv ? "powernv-tce" : "spapr-tce", 64), 0);
		assert_int_equal(t.page_sizes, powernv ? 0x40211000 : 0x1211000);
		assert_int_equal(add_window(&t, 0, G1, 12, 1, &why), 0);
		assert_int_equal(add_window(&t, second, BIT(40), 16, 1, &why), 0);
		map(&t, 0x1000, 0x2000, BITS(51, 13), RW);
		map(&t, 0x3000, 0x1000, 0x5000, UIOMMU_WRITE);
		map(&t, 0x4000, 0x1000, 0x5000, UIOMMU_READ);
		map(&t, second + BIT(39), 0x20000, 0x70000, UIOMMU_READ);
		assert_true(table_walk(&t, 0x2fff, &leaf));
		assert_int_equal(leaf.addr, BITS(51, 12));
		assert_true(table_walk(&t, 0x3000, &leaf));
		assert_int_equal(leaf.prot, powernv ? RW : UIOMMU_WRITE);
		assert_true(table_walk(&t, second + BIT(39) + 0x1ffff, &leaf));
		assert_int_equal(leaf.addr, 0x80000);
		assert_int_equal(leaf.range.last, second + BIT(39) + 0x1ffff);
		assert_int_equal(add_window(&t, BIT(50), G1, powernv ? 24 : 30, 1, &why), -EINVAL);
		assert_int_equal(add_window(&t, BIT(50), G1, 12, powernv ? 6 : 2, &why), -EINVAL);
		table_destroy(&t);
	}
	assert_int_equal(make(&t, "spapr-tce", 64), 0);
	assert_false(t.ops->window_find(&t, 0, &window));
	assert_false(table_walk(&t, 0, &leaf));
	assert_int_equal(add_window(&t, second, BIT(40), 16, 1, &why), 0);
	assert_int_equal(add_window(&t, 0, G1, 12, 1, &why), 0);
	assert_int_equal(add_window(&t, G1 / 2, G1, 12, 1, &why), -EEXIST);
	assert_int_equal(why.range.last, G1 - 1);
	assert_int_equal(add_window(&t, 0x800, G1, 12, 1, &why), -EINVAL);
	assert_int_equal(add_window(&t, BIT(35), G1 + 0x1000, 12, 1, &why), -EINVAL);
	assert_int_equal(add_window(&t, BIT(35), 0x1000, 16, 1, &why), -EINVAL);
	assert_int_equal(add_window(&t, BIT(35), G1, 64, 1, &why), -EINVAL);
	assert_int_equal(add_window(&t, BIT(35), BIT(45), 12, 1, &why), -EINVAL); /* too large */
	assert_int_equal(add_window(&t, BIT(35), G1, 12, 0, &why), -EINVAL);
	assert_true(t.ops->window_find(&t, G1, &window));
	assert_int_equal(window.range.first, second);
	assert_int_equal(window.page_shift, 16);
	assert_int_equal(check(&t, R(G1 - 0x1000, G1 + 0xfff), 0, RW, &why), -EINVAL);
	assert_int_equal(why.rule, UIOMMU_RULE_APERTURE);
	assert_int_equal(check(&t, R(second + 0x1000, second + 0x10fff), 0, RW, &why), -EINVAL);
	assert_int_equal(why.rule, UIOMMU_RULE_ALIGNMENT);
	assert_int_equal(why.range.last, 0xffff);
	map(&t, 0x1000, 0x1000, 0, RW);
	drop_window(&t, 0);
	assert_false(table_walk(&t, 0x1000, &leaf));
	assert_int_equal(add_window(&t, 0, G1, 16, 1, &why), 0);
	assert_false(table_walk(&t, 0x1000, &leaf)); /* cleared */
	for (unsigned i = 0; i < 14; i++)
		assert_int_equal(add_window(&t, BIT(40) + i * G1, G1, 24, 1, &why), 0);
	assert_int_equal(add_window(&t, BIT(41), G1, 24, 1, &why), -ENOSPC);
	table_destroy(&t);
}

/* The last table that was allocated: where a window starts. */
static uint64_t *caught;

static void *catching_alloc(size_t size, size_t align)
{
	void *ptr = failing_alloc(size, align);

	if (align == 4096)
		caught = ptr;
	return ptr;
}

/* The bytes of TCEs and, with three levels of 2^9 pages each, of the tables above them. */
static void test_tce_bytes(void **state)
{
	struct table_leaf leaf;
	struct table_why why;
	uint64_t upper, middle;
	struct table t;

	uiommu_set_allocator(catching_alloc, failing_release);
	assert_int_equal(make(&t, "powernv-tce", 64), 0);
	assert_int_equal(add_window(&t, BIT(40), BIT(39), 12, 3, &why), 0);
	uiommu_set_allocator(failing_alloc, failing_release);
	assert_non_null(caught);
	map(&t, BIT(40) + 5 * G1 + 6 * M2 + 7 * 0x1000, 0x1000, 0x123456789a000, RW);
	map(&t, BIT(40) + 5 * G1 - 0x1000, 0x2000, 0x1000, UIOMMU_READ); /* over two tables */
	assert_true(table_walk(&t, BIT(40) + 5 * G1 + 6 * M2 + 0x7fff, &leaf));
	assert_int_equal(leaf.addr, 0x123456789a000);
	assert_true(table_walk(&t, BIT(40) + 5 * G1, &leaf));
	assert_int_equal(leaf.addr, 0x2000);
	assert_false(table_walk(&t, BIT(40) + 5 * G1 + 0x1000, &leaf));
	upper = __builtin_bswap64(caught[5]);
	assert_int_equal(upper & 0xfff, 3);
	middle = __builtin_bswap64(at(upper & ~UINT64_C(3))[6]);
	assert_int_equal(middle & 0xfff, 3);
	assert_memory_equal(&at(middle & ~UINT64_C(3))[7], "\x00\x01\x23\x45\x67\x89\xa0\x03", 8);
	table_destroy(&t);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- what no format takes ---- */

static void test_bad_shapes(void **state)
{
	static const struct {
		const char *format;
		unsigned width;
	} shapes[] = {
		{"vtd-ss", 40},	     {"vtd-ss", 0},  {"vtd-ss", 64},   {"none", 48},
		{"amd-v1", 65},	     {"amd-v1", 31}, {"arm-s1", 49},   {"arm-s1", 31},
		{"arm-s2", 49},	     {"arm-s2", 0},  {"riscv", 40},    {"riscv", 64},
		{"pamu", 37},	     {"pamu", 11},   {"spapr-tce", 0}, {"spapr-tce", 65},
		{"powernv-tce", 65}, {"", 48},	     {"vtd-fs", 39},   {"vtd-fs", 64},
	};
	static const struct uiommu_range apertures[] = {
		{0x800, 0xfff},		{0, 0x800},	 {0x2000, 0x1fff}, {1, 0}, {0, BIT(48)},
		{BIT(48), BIT(49) - 1}, {0, UINT64_MAX}, {0x1000, 0x1000},
	};
	struct table t;

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		assert_int_equal(make(&t, shapes[i].format, shapes[i].width), -EINVAL);
	for (size_t i = 0; i < sizeof(apertures) / sizeof(apertures[0]); i++)
		assert_int_equal(table_init(&t, &(struct table_config){.format = "vtd-ss",
								       .width = 48,
								       .aperture = apertures[i]}),
				 -EINVAL);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(
			table_init(&t, &(struct table_config){.format = i ? "spapr-tce" : "amd-v1",
							      .width = 64,
							      .windows = 1}),
			-EINVAL);
	/* Windows that don't come and go need the unit's shared entries. */
	assert_int_equal(make(&t, "pamu", 36), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vtd),	   cmocka_unit_test(test_vtd_snoop),
		cmocka_unit_test(test_vtd_first),  cmocka_unit_test(test_amd),
		cmocka_unit_test(test_mock),	   cmocka_unit_test(test_arm_stage1),
		cmocka_unit_test(test_arm_dirty),  cmocka_unit_test(test_arm_stage2),
		cmocka_unit_test(test_page_sizes), cmocka_unit_test(test_riscv),
		cmocka_unit_test(test_pamu),	   cmocka_unit_test(test_pamu_single),
		cmocka_unit_test(test_pamu_rules), cmocka_unit_test(test_pamu_exhausted),
		cmocka_unit_test(test_tce),	   cmocka_unit_test(test_tce_bytes),
		cmocka_unit_test(test_bad_shapes),
	};
	int ret = cmocka_run_group_tests(tests, NULL, NULL);

	table_shared_destroy(&shared);
	return ret;
}
