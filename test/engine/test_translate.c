/* SPDX-License-Identifier: MIT */
/*
 * Translations for who makes his accesses himself: the inline functions, those of the library, and
 * many in one call, against a list of what is mapped; leaves of any size, lengths that mean
 * nothing, what each counts, and what is no memory although a table translates it.
 */
#include "translate_rig.h"

/* ---- every way against a list ---- */

enum { PAGES = 48 };

static const uint64_t base = UINT64_C(0x40000000) - 5 * PAGE; /* across a table of 1 GiB */
static const struct uiommu_range window = {base + 10 * PAGE + 0x100, base + 10 * PAGE + 0x1ff};

static struct {
	uint64_t addr;
	int prot; /* 0: not mapped */
} list[PAGES];

/* What one segment must cover, from @iova on, and where it is. */
static int64_t expected(uint64_t iova, uint64_t len, int access, uint64_t *addr)
{
	uint64_t done = 0;

	while (done < len) {
		uint64_t at = iova + done, i = (at - base) / PAGE, to, piece;

		if (at < base || i >= PAGES || !(list[i].prot & access) ||
		    (window.first <= at && at <= window.last))
			return -EFAULT;
		to = list[i].addr + at % PAGE;
		if (!done)
			*addr = to;
		else if (to != *addr + done)
			break;
		piece = PAGE - at % PAGE;
		if (at < window.first && window.first - at < piece)
			piece = window.first - at;
		done += piece < len - done ? piece : len - done;
	}
	return (int64_t)done;
}

static void change(struct rig *rig, struct rng *rng)
{
	uint64_t i = rng_below(rng, PAGES);

	if (list[i].prot) {
		unmap(rig, base + i * PAGE, PAGE);
		list[i].prot = 0;
		return;
	}
	/* Half of the pages adjoin in memory, too. */
	list[i].addr = (UINT64_C(1) << 32) + (i + (rng_below(rng, 2) ? 0 : 100)) * PAGE;
	list[i].prot = (const int[]){UIOMMU_READ, RW, RW}[rng_below(rng, 3)];
	map(rig, base + i * PAGE, PAGE, list[i].addr, list[i].prot);
}

static void check_ways(struct rig *rig, uint64_t iova, uint64_t len, int access)
{
	int64_t (*translate)(struct uiommu_port *, uint64_t, uint64_t, int, struct uiommu_segment *,
			     size_t *) = uiommu_port_translate;
	int64_t (*translate_one)(struct uiommu_port *, uint64_t, uint64_t, int, uint64_t *) =
		uiommu_port_translate_one;
	struct uiommu_segment segment[2];
	uint64_t addr = 0, where[2] = {0};
	int64_t want = expected(iova, len, access, &addr);
	size_t count[2] = {1, 1};

	uiommu_port_enter(rig->port);
	assert_int_equal(uiommu_port_translate_one(rig->port, iova, len, access, &where[0]), want);
	assert_int_equal(translate_one(rig->port, iova, len, access, &where[1]), want);
	assert_int_equal(
		uiommu_port_translate(rig->port, iova, len, access, &segment[0], &count[0]), want);
	assert_int_equal(translate(rig->port, iova, len, access, &segment[1], &count[1]), want);
	uiommu_port_leave(rig->port);
	for (unsigned i = 0; i < 2 && want > 0; i++) {
		assert_int_equal(where[i], addr);
		assert_int_equal(count[i], 1);
		assert_int_equal(segment[i].addr, addr);
		assert_int_equal(segment[i].len, want);
	}
}

static void check_many(struct rig *rig, struct rng *rng, int access)
{
	enum { MANY = 70 };
	struct uiommu_translation t[MANY];
	size_t count = rng_below(rng, MANY + 1), first_fault = count, done;

	for (size_t i = 0; i < count; i++) {
		uint64_t addr;

		t[i] = (struct uiommu_translation){.iova = base + rng_below(rng, PAGES * PAGE),
						   .len = 1 + rng_below(rng, 64)};
		if (first_fault == count && expected(t[i].iova, t[i].len, access, &addr) < 0)
			first_fault = rng_below(rng, 8) ? count : i;
		/* Few lists would be without a fault: most of them are led elsewhere. */
		if (first_fault == count)
			for (unsigned p = 0;
			     p < PAGES && expected(t[i].iova, t[i].len, access, &addr) < 0; p++)
				t[i].iova = base + p * PAGE;
		if (first_fault == count && expected(t[i].iova, t[i].len, access, &addr) < 0)
			first_fault = i;
	}
	uiommu_port_enter(rig->port);
	done = uiommu_port_translate_many(rig->port, access, t, count);
	uiommu_port_leave(rig->port);
	assert_int_equal(done, first_fault);
	for (size_t i = 0; i < done; i++) {
		uint64_t addr = 0;

		assert_int_equal(t[i].covered, expected(t[i].iova, t[i].len, access, &addr));
		assert_int_equal(t[i].addr, addr);
	}
}

static void test_ways(void **state)
{
	static const struct {
		const char *name;
		unsigned width;
	} formats[] = {{"vtd-ss", 48}, {"vtd-fs", 48}, {"amd-v1", 48},
		       {"arm-s1", 48}, {"arm-s2", 44}, {"riscv", 48}};
	struct rng rng = rng_seeded("translate");

	for (size_t f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
		struct rig rig;

		memset(list, 0, sizeof(list));
		rig_up(&rig, formats[f].name, formats[f].width, window, false);
		for (uint64_t step = 0; step < test_steps(60000) / 6; step++) {
			int access = rng_below(&rng, 2) ? UIOMMU_READ : UIOMMU_WRITE;

			if (rng_below(&rng, 4) == 0)
				change(&rig, &rng);
			check_ways(&rig, base + rng_below(&rng, PAGES * PAGE),
				   rng_below(&rng, 2) ? 8 : rng_below(&rng, 3 * PAGE), access);
			if (step % 8 == 0)
				check_many(&rig, &rng, access);
		}
		rig_down(&rig);
	}
}

/* ---- leaves that are more than a page ---- */

static void test_large(void **state)
{
	const uint64_t gib = UINT64_C(1) << 30;
	/* In the middle of one large leaf. */
	const struct uiommu_range hole = range(gib + 0x80000, 0x1000);
	struct rig rig;
	uint64_t addr;

	rig_up(&rig, "vtd-ss", 48, hole, false);
	map(&rig, gib, LARGE, 4 * gib, RW);
	map(&rig, 2 * gib, gib, 5 * gib, RW);
	for (unsigned again = 0; again < 2; again++) {
		assert_int_equal(one(&rig, gib + 0x1234, 0x4000, UIOMMU_WRITE, &addr), 0x4000);
		assert_int_equal(addr, 4 * gib + 0x1234);
		assert_int_equal(one(&rig, gib + 0x80fff, 1, UIOMMU_WRITE, &addr), -EFAULT);
		assert_int_equal(one(&rig, gib + 0x7ffff, 2, UIOMMU_WRITE, &addr), -EFAULT);
		assert_int_equal(one(&rig, gib + 0x81000, 8, UIOMMU_WRITE, &addr), 8);
		assert_int_equal(addr, 4 * gib + 0x81000);
		assert_int_equal(one(&rig, 2 * gib + 0x5008, gib / 2, UIOMMU_READ, &addr), gib / 2);
		assert_int_equal(addr, 5 * gib + 0x5008);
		/* To the last byte, and one more. */
		assert_int_equal(one(&rig, 2 * gib + 1, gib - 1, UIOMMU_READ, &addr), gib - 1);
		assert_int_equal(one(&rig, 2 * gib + 1, gib, UIOMMU_READ, &addr), -EFAULT);
	}
	rig_down(&rig);
}

/* A run of entries is one leaf (AMD: its size stands in the address; Arm: contiguous entries). */
static void test_runs(void **state)
{
	static const struct {
		const char *format;
		uint64_t size;
	} rows[] = {{"amd-v1", 0x8000}, {"amd-v1", 0x400000}, {"arm-s1", 0x10000}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const uint64_t size = rows[i].size, to = UINT64_C(1) << 32;
		struct uiommu_unit_stats stats;
		struct rig rig;
		uint64_t addr;

		rig_up(&rig, rows[i].format, 48, NO_WINDOW, false);
		map(&rig, 4 * size, size, to, RW);
		for (uint64_t at = 0; at < size; at += PAGE) {
			assert_int_equal(one(&rig, 4 * size + at + 8, 8, UIOMMU_WRITE, &addr), 8);
			assert_int_equal(addr, to + at + 8);
		}
		/* All of it at once is one look-up, of what the first page has. */
		assert_int_equal(one(&rig, 4 * size, size, UIOMMU_READ, &addr), size);
		assert_int_equal(addr, to);
		uiommu_port_stats(rig.port, &stats);
		assert_int_equal(stats.iotlb_hits, 1);
		assert_int_equal(stats.iotlb_misses, size / PAGE);
		assert_int_equal(one(&rig, 4 * size, size + 1, UIOMMU_READ, &addr), -EFAULT);
		rig_down(&rig);
	}
}

/* Where all is translated as it is: lengths that mean nothing, and the ends of all addresses. */
static void test_ends(void **state)
{
	struct rig rig;
	uint64_t addr;

	rig_up(&rig, "identity", 64, NO_WINDOW, false);
	for (unsigned again = 0; again < 2; again++) {
		assert_int_equal(one(&rig, 0x1000, 0, UIOMMU_READ, &addr), 0);
		assert_int_equal(one(&rig, 0x1ffe, 0x5555, UIOMMU_READ, &addr), 0x5555);
		assert_int_equal(addr, 0x1ffe);
		assert_int_equal(one(&rig, 0, 1, UIOMMU_READ, &addr), 1);
		assert_int_equal(one(&rig, UINT64_MAX, 1, UIOMMU_READ, &addr), 1);
		assert_int_equal(addr, UINT64_MAX);
		assert_int_equal(one(&rig, UINT64_MAX, 2, UIOMMU_READ, &addr), -EFAULT);
		assert_int_equal(one(&rig, UINT64_MAX - 5, UINT64_MAX, UIOMMU_READ, &addr),
				 -EFAULT);
	}
	rig_down(&rig);
}

/* Where a table translates one leaf: lengths that mean nothing, or wrap around to the leaf that
 * they begin in, whether the IOTLB knows it or not. */
static void check_length(struct rig *rig, uint64_t first, uint64_t size, uint64_t len)
{
	const uint64_t iova = first + 0x234;

	for (unsigned known = 0; known < 2; known++) {
		struct uiommu_translation t = {.iova = iova, .len = len};
		struct uiommu_segment segment;
		uint64_t addr;
		size_t count = 1;

		for (unsigned way = 0; way < 3; way++) {
			map(rig, first, size, 4 * LARGE, RW);
			/* The port looks at what has changed; elsewhere, or there. */
			assert_int_equal(reason(rig, known ? first : 0x1000), UIOMMU_FAULT_NONE);
			uiommu_port_enter(rig->port);
			if (way == 0)
				assert_int_equal(uiommu_port_translate_one(rig->port, iova, len,
									   UIOMMU_READ, &addr),
						 len ? -EFAULT : 0);
			else if (way == 1)
				assert_int_equal(uiommu_port_translate(rig->port, iova, len,
								       UIOMMU_READ, &segment,
								       &count),
						 len ? -EFAULT : 0);
			else
				assert_int_equal(
					uiommu_port_translate_many(rig->port, UIOMMU_READ, &t, 1),
					!len);
			uiommu_port_leave(rig->port);
			unmap(rig, first, size);
		}
		assert_int_equal(count, 0);
		assert_int_equal(t.covered, 0);
	}
}

static void test_lengths(void **state)
{
	static const char *const formats[] = {"vtd-ss", "amd-v1", "arm-s1", "riscv"};
	static const uint64_t lengths[] = {UINT64_MAX,
					   UINT64_MAX - 1,
					   UINT64_MAX - 0x233,
					   UINT64_MAX - PAGE,
					   INT64_MAX,
					   (uint64_t)INT64_MAX + 1,
					   LARGE,
					   0};

	for (size_t f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
		struct rig rig;

		rig_up(&rig, formats[f], 48, NO_WINDOW, false);
		map(&rig, 0x1000, PAGE, 0x10000, RW);
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			check_length(&rig, 3 * LARGE, PAGE, lengths[i]);
			check_length(&rig, 3 * LARGE, LARGE, lengths[i]);
		}
		rig_down(&rig);
	}
}

/* IOVAs that differ from one that is mapped in bits that no level of the table looks at. */
static void test_beyond(void **state)
{
	static const struct {
		const char *name;
		unsigned width;
	} formats[] = {{"vtd-ss", 39}, {"vtd-ss", 48}, {"vtd-fs", 48}, {"amd-v1", 39},
		       {"arm-s1", 39}, {"arm-s2", 44}, {"riscv", 39}};

	for (size_t f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
		struct rig rig;

		rig_up(&rig, formats[f].name, formats[f].width, NO_WINDOW, false);
		map(&rig, 0x1000, PAGE, 0x10000, RW);
		for (unsigned bit = formats[f].width; bit < 64; bit++) {
			struct uiommu_translation t = {.iova = 0x1000 | UINT64_C(1) << bit,
						       .len = 8};

			assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_NONE);
			assert_int_not_equal(reason(&rig, t.iova), UIOMMU_FAULT_NONE);
			uiommu_port_enter(rig.port);
			assert_int_equal(uiommu_port_translate_many(rig.port, UIOMMU_READ, &t, 1),
					 0);
			uiommu_port_leave(rig.port);
		}
		rig_down(&rig);
	}
}

/* An access that reads and writes needs both, whatever way is taken and whatever is known. */
static void test_both(void **state)
{
	const struct uiommu_range doorbell = range(0x9000, 0x10);
	struct rig rig;
	uint64_t addr;

	/* With the window, the pages from 0x9000 on go the long way. */
	rig_up(&rig, "vtd-ss", 48, doorbell, false);
	map(&rig, 0x1000, PAGE, 0x10000, UIOMMU_READ);
	map(&rig, 0x2000, PAGE, 0x20000, UIOMMU_WRITE);
	map(&rig, 0x3000, PAGE, 0x30000, RW);
	map(&rig, 0x9000, PAGE, 0x90000, UIOMMU_READ);
	for (unsigned again = 0; again < 3; again++) {
		assert_int_equal(one(&rig, 0x1000, 8, RW, &addr), -EFAULT);
		assert_int_equal(reason_of_last(&rig), UIOMMU_FAULT_WRITE_DENIED);
		assert_int_equal(one(&rig, 0x2000, 8, RW, &addr), -EFAULT);
		assert_int_equal(reason_of_last(&rig), UIOMMU_FAULT_READ_DENIED);
		assert_int_equal(one(&rig, 0x9100, 8, RW, &addr), -EFAULT);
		assert_int_equal(reason_of_last(&rig), UIOMMU_FAULT_WRITE_DENIED);
		assert_int_equal(one(&rig, 0x9100, 8, UIOMMU_READ, &addr), 8);
		assert_int_equal(one(&rig, 0x3000, 8, RW, &addr), 8);
		assert_int_equal(addr, 0x30000);
		assert_int_equal(one(&rig, 0x1000, 8, UIOMMU_READ, &addr), 8);
		assert_int_equal(one(&rig, 0x2000, 8, UIOMMU_WRITE, &addr), 8);
	}
	rig_down(&rig);
}

/* ---- what is counted ---- */

static void expect_counts(struct rig *rig, uint64_t hits, uint64_t misses, uint64_t faults)
{
	struct uiommu_unit_stats stats;

	uiommu_port_stats(rig->port, &stats);
	assert_int_equal(stats.iotlb_hits, hits);
	assert_int_equal(stats.iotlb_misses, misses);
	assert_int_equal(stats.walks, misses);
	assert_int_equal(stats.faults, faults);
}

static void test_counts(void **state)
{
	struct uiommu_translation t[3] = {
		{.iova = 0x1000, .len = 8}, {.iova = 0x5000, .len = 8}, {.iova = 0x5ff8, .len = 8}};
	struct rig rig;
	uint64_t addr;

	rig_up(&rig, "vtd-ss", 48, NO_WINDOW, false);
	map(&rig, 0x1000, PAGE, 0x10000, RW);
	map(&rig, 0x2000, PAGE, 0x20000, UIOMMU_READ);
	map(&rig, 0x5000, PAGE, 0x50000, RW);
	assert_int_equal(one(&rig, 0x1000, 8, UIOMMU_READ, &addr), 8);
	expect_counts(&rig, 0, 1, 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(one(&rig, 0x1000 + i * 40, 40, UIOMMU_WRITE, &addr), 40);
	expect_counts(&rig, 100, 1, 0);
	/* Across a border: both pages are looked up, once each. */
	assert_int_equal(one(&rig, 0x1ff8, 16, UIOMMU_READ, &addr), 8);
	expect_counts(&rig, 101, 2, 0);
	/* Known, but not permitted: a walk, which finds the same. */
	assert_int_equal(one(&rig, 0x2000, 8, UIOMMU_WRITE, &addr), -EFAULT);
	expect_counts(&rig, 101, 3, 1);
	assert_int_equal(one(&rig, 0x3000, 8, UIOMMU_WRITE, &addr), -EFAULT);
	expect_counts(&rig, 101, 4, 2);
	uiommu_port_enter(rig.port);
	assert_int_equal(uiommu_port_translate_many(rig.port, UIOMMU_READ, t, 3), 3);
	uiommu_port_leave(rig.port);
	expect_counts(&rig, 103, 5, 2);
	rig_down(&rig);
}

/* A doorbell that a table translates is no memory, however often it is asked for. */
static void test_doorbell_leaf(void **state)
{
	struct rig rig;
	uint64_t addr;

	rig_up(&rig, "arm-s1", 48, NO_WINDOW, false);
	map(&rig, 0x1000, PAGE, 0x10000, UIOMMU_WRITE | UIOMMU_READ | UIOMMU_MMIO);
	map(&rig, 0x2000, PAGE, 0x20000, RW);
	/* So that the port has looked, and walks. */
	assert_int_equal(reason(&rig, 0x2000), UIOMMU_FAULT_NONE);
	for (unsigned again = 0; again < 3; again++) {
		assert_int_equal(one(&rig, 0x1000, 4, UIOMMU_WRITE, &addr), -EFAULT);
		assert_int_equal(reason(&rig, 0x1000), UIOMMU_FAULT_DOORBELL_READ);
	}
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ways),	      cmocka_unit_test(test_large),
		cmocka_unit_test(test_runs),	      cmocka_unit_test(test_ends),
		cmocka_unit_test(test_lengths),	      cmocka_unit_test(test_beyond),
		cmocka_unit_test(test_both),	      cmocka_unit_test(test_counts),
		cmocka_unit_test(test_doorbell_leaf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
