/* SPDX-License-Identifier: MIT */
/* The interval map against a sorted array, and at its edges. */
#include "../check.h"

#include <errno.h>

#include "util/alloc.h"
#include "util/imap_nodes.h"

static struct imap_entry entry(uint64_t first, uint64_t last)
{
	return (struct imap_entry){.range = {first, last}, .value = first ^ last};
}

static void test_edges(void **state)
{
	struct imap map = {0};
	struct imap_entry e = entry(0, UINT64_MAX), blocking;
	struct imap_pos pos;

	assert_null(imap_find(&map, 0, &pos));
	assert_false(imap_erase(&map, 0));
	assert_int_equal(imap_insert(&map, &e, NULL), 0);
	assert_non_null(imap_find(&map, UINT64_MAX, &pos));
	e = entry(UINT64_MAX, UINT64_MAX);
	assert_int_equal(imap_insert(&map, &e, &blocking), -EEXIST);
	assert_int_equal(blocking.range.first, 0);
	assert_true(imap_erase(&map, 0));
	assert_int_equal(map.count, 0);
	assert_null(map.root);
	assert_int_equal(imap_insert(&map, &e, NULL), 0);
	e = entry(0, 0);
	assert_int_equal(imap_insert(&map, &e, NULL), 0);
	e = entry(0, UINT64_MAX);
	assert_int_equal(imap_insert(&map, &e, &blocking), -EEXIST);
	assert_int_equal(blocking.range.first, 0);
	imap_clear(&map);
}

/* The oracle: a sorted array. */
#define MODEL_MAX 6000

static struct uiommu_range model[MODEL_MAX];
static size_t model_count;

static size_t model_find(uint64_t addr)
{
	size_t i = 0;

	while (i < model_count && model[i].last < addr)
		i++;
	return i;
}

static void check_all(struct imap *map)
{
	struct imap_pos pos;
	const struct imap_entry *e = imap_find(map, 0, &pos);

	assert_int_equal(map->count, model_count);
	for (size_t i = 0; i < model_count; i++, e = imap_next(&pos)) {
		assert_non_null(e);
		assert_int_equal(e->range.first, model[i].first);
		assert_int_equal(e->range.last, model[i].last);
		assert_int_equal(e->value, e->range.first ^ e->range.last);
	}
	assert_null(e);
}

static void step_insert(struct imap *map, struct rng *rng, uint64_t space)
{
	uint64_t first = rng_below(rng, space), len = 1 + rng_below(rng, 40);
	struct imap_entry e = entry(first, first + len - 1);
	size_t at = model_find(first);
	int expected = at < model_count && model[at].first <= e.range.last ? -EEXIST : 0;

	if (model_count == MODEL_MAX)
		return;
	assert_int_equal(imap_insert(map, &e, NULL), expected);
	if (!expected) {
		memmove(&model[at + 1], &model[at], (model_count - at) * sizeof(model[0]));
		model[at] = e.range;
		model_count++;
	}
}

static void step_erase(struct imap *map, struct rng *rng, uint64_t space)
{
	uint64_t addr = rng_below(rng, space);
	size_t at = model_find(addr);
	struct imap_pos pos;
	const struct imap_entry *e = imap_find(map, addr, &pos);

	if (at == model_count) {
		assert_null(e);
		return;
	}
	assert_non_null(e);
	assert_int_equal(e->range.first, model[at].first);
	assert_true(imap_erase(map, model[at].first));
	model_count--;
	memmove(&model[at], &model[at + 1], (model_count - at) * sizeof(model[0]));
}

/* Phases that mostly grow and mostly shrink, so that every split, borrow and merge happens. */
static void test_random(void **state)
{
	struct rng rng = rng_seeded("imap");
	struct imap map = {0};
	uint64_t steps = test_steps(120000);

	model_count = 0;
	for (uint64_t i = 0; i < steps; i++) {
		unsigned grow = (i / 12000) % 2 ? 2 : 8;
		uint64_t space = 300000;

		if (rng_below(&rng, 10) < grow)
			step_insert(&map, &rng, space);
		else
			step_erase(&map, &rng, space);
		if (i % 5000 == 0)
			check_all(&map);
	}
	check_all(&map);
	while (model_count)
		step_erase(&map, &rng, 1);
	assert_null(map.root);
}

static void test_million(void **state)
{
	struct imap map = {0};
	const uint64_t n = 1000000;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = i * 7919 % n * 4096; /* a permutation: 7919 is prime to n */
		struct imap_entry e = entry(at, at + 4095);

		assert_int_equal(imap_insert(&map, &e, NULL), 0);
	}
	assert_int_equal(map.count, n);
	assert_true(map.height <= 5);
	for (uint64_t i = 0; i < n; i++)
		assert_true(imap_erase(&map, i * 4096));
	assert_null(map.root);
}

/* ---- gaps ---- */

/* The lowest place, looked for from one entry to the next. */
static bool model_gap(struct uiommu_range within, const struct imap_want *want, uint64_t *first)
{
	uint64_t gap = 0;

	for (size_t i = 0; i <= model_count; i++) {
		uint64_t last = i < model_count ? model[i].first - 1 : UINT64_MAX;
		uint64_t from = gap > within.first ? gap : within.first;
		uint64_t to = last < within.last ? last : within.last;
		uint64_t at = (from + want->alignment - 1) / want->alignment * want->alignment;

		at |= want->offset;
		if ((i == model_count || model[i].first > gap) && from <= to && at <= to &&
		    to - at >= want->length - 1) {
			*first = at;
			return true;
		}
		if (i < model_count)
			gap = model[i].last + 1;
	}
	return false;
}

static void step_gap(struct imap *map, struct rng *rng, uint64_t space, uint64_t unit)
{
	const struct imap_want want = {
		.length = (1 + rng_below(rng, rng_below(rng, 4) ? 8 : 600)) * unit,
		.alignment = UINT64_C(1) << rng_below(rng, unit == 1 ? 13 : 23),
		.offset = unit == 1 && !rng_below(rng, 8) ? rng_below(rng, 16) : 0,
	};
	struct uiommu_range within = {0, rng_below(rng, 4) ? UINT64_MAX : rng_below(rng, space)};
	uint64_t at = 1, expected = 1;
	bool found, there;

	if (rng_below(rng, 2))
		within.first = rng_below(rng, space);
	if (within.first < map->floor)
		within.first = map->floor;
	there = model_gap(within, &want, &expected);
	found = imap_gap(map, within, &want, &at);
	if (found != there || at != expected)
		fail_msg("length 0x%llx, alignment 0x%llx in [0x%llx, 0x%llx]: %d 0x%llx, "
			 "not %d 0x%llx",
			 (unsigned long long)want.length, (unsigned long long)want.alignment,
			 (unsigned long long)within.first, (unsigned long long)within.last, found,
			 (unsigned long long)at, there, (unsigned long long)expected);
}

/* One more entry where there is room, or one erased; of whole units, of which it has so many at
 * most.
 */
static void step_change(struct imap *map, struct rng *rng, uint64_t space, uint64_t unit,
			unsigned most, bool grow)
{
	uint64_t first = rng_below(rng, space / unit) * unit;
	struct imap_entry e = entry(first, first + (1 + rng_below(rng, most)) * unit - 1);
	size_t at = model_find(first);

	if (!grow) {
		step_erase(map, rng, space);
	} else if (model_count < MODEL_MAX &&
		   (at == model_count || model[at].first > e.range.last)) {
		assert_int_equal(imap_insert(map, &e, NULL), 0);
		memmove(&model[at + 1], &model[at], (model_count - at) * sizeof(model[0]));
		model[at] = e.range;
		model_count++;
	}
}

/* Against a search from the front, with and without memory for the index. */
static void gaps(struct rng *rng, uint64_t unit, unsigned most, uint64_t floor, bool no_index)
{
	uint64_t steps = test_steps(30000), space = (most == 1 ? 6000 : 80000) * unit;
	struct imap map = {.floor = floor};

	model_count = 0;
	for (uint64_t i = 0; i < steps; i++) {
		step_change(&map, rng, space, unit, most,
			    rng_below(rng, 10) < (i / 9000 % 2 ? 2 : 8));
		fail_countdown = no_index && rng_below(rng, 3) ? 0 : -1;
		if (i % 4 == 0)
			step_gap(&map, rng, space, unit);
		fail_countdown = -1;
	}
	check_all(&map);
	imap_clear(&map);
}

static void test_gaps(void **state)
{
	struct rng rng = rng_seeded("imap gaps");

	uiommu_set_allocator(failing_alloc, failing_release);
	gaps(&rng, 4096, 24, 4096, false);
	gaps(&rng, 1, 24, 0, false);
	gaps(&rng, 4096, 24, 0, true);
	/* These are packed. */
	gaps(&rng, 4096, 1, 4096, false);
	gaps(&rng, 4096, 1, 0, true);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* At the ends of the space. */
static void test_gap_edges(void **state)
{
	const struct imap_want one = {.length = 1, .alignment = 1},
			       half = {.length = UINT64_C(1) << 63, .alignment = UINT64_C(1) << 63};
	struct imap map = {0};
	struct imap_entry e;
	uint64_t at;

	assert_true(imap_gap(&map, UIOMMU_RANGE_ALL, &half, &at));
	assert_int_equal(at, 0);
	e = entry(0, 0);
	assert_int_equal(imap_insert(&map, &e, NULL), 0);
	assert_true(imap_gap(&map, UIOMMU_RANGE_ALL, &half, &at));
	assert_int_equal(at, UINT64_C(1) << 63);
	e = entry(UINT64_MAX, UINT64_MAX);
	assert_int_equal(imap_insert(&map, &e, NULL), 0);
	assert_false(imap_gap(&map, UIOMMU_RANGE_ALL, &half, &at));
	e = entry(1, UINT64_MAX - 2);
	assert_int_equal(imap_insert(&map, &e, NULL), 0);
	assert_true(imap_gap(&map, UIOMMU_RANGE_ALL, &one, &at));
	assert_int_equal(at, UINT64_MAX - 1);
	assert_false(imap_gap(&map, (struct uiommu_range){0, UINT64_MAX - 2}, &one, &at));
	imap_clear(&map);
}

/* ---- leaves of all kinds ---- */

#define SLOTS 8000

/* The oracle: at most one entry a page, whatever its length and payload. */
static struct imap_entry pages[SLOTS];
static bool used[SLOTS];

static uint64_t kinds_seen[3];
static bool starved; /* an allocation may fail */

/* Slots that have something lie from begin to end, and addresses ascend over the empty ones too. */
static void check_packed(const struct imap_leaf *leaf)
{
	const struct packed *p = &leaf->shared.packed;
	unsigned count = 0;

	for (unsigned i = 0; i < PACKED_WORDS * 64; i++) {
		bool there = bit_get(p->present, i);

		assert_true(!there || (i >= leaf->begin && i < leaf->end));
		assert_true(!i || i >= leaf->end || p->at[i - 1] <= p->at[i]);
		count += there;
	}
	assert_int_equal(count, leaf->n);
	assert_true(leaf_has(leaf, leaf->begin) && leaf_has(leaf, leaf->end - 1));
}

/* Leaves in order, counts, which infos have users; and that all of it says what the oracle says. */
static void check_leaves(struct imap *map)
{
	struct imap_pos pos;
	const struct imap_entry *e = imap_find(map, 0, &pos);
	const struct imap_leaf *leaf = e ? pos.leaf : NULL;
	uint64_t count = 0;

	for (size_t i = 0; i < SLOTS; i++) {
		if (!used[i])
			continue;
		assert_non_null(e);
		assert_memory_equal(e, &pages[i], sizeof(*e));
		e = imap_next(&pos);
		count++;
	}
	assert_null(e);
	assert_int_equal(map->count, count);
	for (; leaf; leaf = leaf->next) {
		unsigned users = 0;

		kinds_seen[leaf->kind]++;
		assert_true(leaf->n && leaf->begin < leaf->end);
		assert_true(!leaf->next || leaf->next->prev == leaf);
		for (unsigned k = 0; leaf->kind != LEAF_WIDE && k < INFOS; k++)
			users += leaf->shared.users[k];
		assert_true(leaf->kind == LEAF_WIDE || users == leaf->n);
		if (leaf->kind == LEAF_PACKED)
			check_packed(leaf);
		count -= leaf->n;
	}
	assert_int_equal(count, 0);
}

/* Mostly what goes together: one page, the value in step with the address. */
static struct imap_entry some_entry(struct rng *rng, size_t i, bool odd)
{
	struct imap_entry e = {.range = {i * 4096, i * 4096 + 4095},
			       .value = (UINT64_C(1) << 40) + i * 8192,
			       .info = rng_below(rng, 8) ? 3 : 1};

	if (odd && !rng_below(rng, 40))
		e.value = rng_below(rng, 2) ? e.value + 4096 : rng_below(rng, UINT64_MAX);
	if (odd && !rng_below(rng, 60))
		e.range.last -= rng_below(rng, 4095);
	if (odd && !rng_below(rng, 60))
		e.tag = &pages[i];
	if (odd && !rng_below(rng, 60))
		e.info = rng_below(rng, 9) << 5;
	return e;
}

static void alike_insert(struct imap *map, const struct imap_entry *e)
{
	size_t i = e->range.first / 4096;
	int ret = imap_insert(map, e, NULL);

	if (used[i]) {
		assert_int_equal(ret, -EEXIST);
		return;
	}
	if (ret) {
		assert_int_equal(ret, -ENOMEM);
		assert_true(starved);
		return;
	}
	pages[i] = *e;
	used[i] = true;
}

static void count_dropped(void *ctx, const struct imap_entry *e)
{
	assert_true(used[e->range.first / 4096]);
	assert_memory_equal(e, &pages[e->range.first / 4096], sizeof(*e));
	used[e->range.first / 4096] = false;
	++*(uint64_t *)ctx;
}

/* Everything in a range, or what has bit 8. */
static void alike_drop(struct imap *map, struct rng *rng)
{
	size_t first = rng_below(rng, SLOTS), last = first + rng_below(rng, 400);
	uint64_t mask = rng_below(rng, 2) ? 8 : 0, bytes = 0, count = 0, told = 0;

	for (size_t i = first; i <= last && i < SLOTS; i++)
		if (used[i] && (pages[i].info & mask) == mask) {
			bytes += range_length(pages[i].range);
			count++;
		}
	assert_int_equal(imap_drop(map, (struct uiommu_range){first * 4096, last * 4096 + 4095},
				   mask, mask, count_dropped, &told),
			 bytes);
	assert_int_equal(told, count);
}

static void alike_set(struct imap *map, size_t i)
{
	struct imap_pos pos;

	assert_ptr_equal(imap_find(map, i * 4096, &pos), &pos.entry);
	assert_memory_equal(&pos.entry, &pages[i], sizeof(pos.entry));
	if (!imap_can_set(&pos, 8)) {
		if (!imap_edit(map, i * 4096)) {
			assert_true(starved);
			return;
		}
		imap_find(map, i * 4096, &pos);
		assert_true(imap_can_set(&pos, 8));
	}
	imap_set(&pos, 8);
	pages[i].info |= 8;
	assert_memory_equal(imap_find(map, i * 4096, &pos), &pages[i], sizeof(pos.entry));
}

/* Cut an entry, put another where the rest of it was, and perhaps take it all back, without memory
 * from the moment on that the rest was put in. */
static void alike_cut(struct imap *map, struct rng *rng, size_t i)
{
	struct imap_entry *e, was = pages[i], rest = was;

	map->steady = true;
	e = imap_edit(map, i * 4096);
	if (e && range_length(e->range) > 2048) {
		e->range.last = rest.range.first + 2047;
		rest.range.first += 2048;
		if (imap_insert(map, &rest, NULL)) {
			assert_true(starved);
			imap_edit(map, i * 4096)->range.last = was.range.last;
		} else {
			fail_countdown = 0;
			imap_edit(map, rest.range.first)->info = 5;
			assert_true(imap_erase(map, rest.range.first));
			e = imap_edit(map, i * 4096);
			assert_non_null(e);
			e->range.last = was.range.last;
			e->info = pages[i].info = 1 + rng_below(rng, 3);
			assert_int_equal(fail_countdown, 0); /* nobody asked */
			fail_countdown = -1;
		}
	}
	map->steady = false;
}

static void alike_step(struct imap *map, struct rng *rng, unsigned phase)
{
	static size_t next;
	size_t i = phase & 1 ? next = (next + 1) % SLOTS : rng_below(rng, SLOTS);
	struct imap_entry e = some_entry(rng, i, phase & 2);
	unsigned grow = phase & 4 ? 3 : 9;

	starved = phase & 8 && !rng_below(rng, 3);
	fail_countdown = starved ? (long)rng_below(rng, 3) : -1;
	if (rng_below(rng, 10) < grow)
		alike_insert(map, &e);
	else if (!rng_below(rng, phase & 4 ? 20 : 200))
		alike_drop(map, rng);
	else if (used[i] && !rng_below(rng, 3))
		alike_set(map, i);
	else if (used[i] && !rng_below(rng, 8))
		alike_cut(map, rng, i);
	else if (used[i])
		used[i] = !imap_erase(map, pages[i].range.first);
	else
		assert_false(imap_erase(map, e.range.first));
	fail_countdown = -1;
}

/* Entries that go together and others among them, in order and not, with and without memory. */
static void test_alike(void **state)
{
	struct rng rng = rng_seeded("imap alike");
	uint64_t steps = test_steps(200000), told = 0;
	struct imap map = {0};
	unsigned phase = 1;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (uint64_t i = 0; i < steps; i++) {
		if (i % 4000 == 3999)
			phase = (unsigned)rng_below(&rng, 16);
		alike_step(&map, &rng, phase);
		if (i % 1000 == 0)
			check_leaves(&map);
	}
	check_leaves(&map);
	assert_true(kinds_seen[LEAF_WIDE] && kinds_seen[LEAF_PACKED] && kinds_seen[LEAF_RUN]);
	imap_drop(&map, UIOMMU_RANGE_ALL, 0, 0, count_dropped, &told);
	assert_null(map.root);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* What sequential and random pages take: the point of it all. */
static void test_bytes(void **state)
{
	const uint64_t n = 200000;

	uiommu_set_allocator(failing_alloc, failing_release);
	for (int random = 0; random < 2; random++) {
		struct imap map = {0};
		uint64_t leaves = 0;
		struct imap_pos pos;

		for (uint64_t i = 0; i < n; i++) {
			uint64_t at = (random ? i * 2654435761 % (n * 16) : i) * 4096;
			struct imap_entry e = {{at, at + 4095}, i * 8192, NULL, 3};

			assert_int_equal(imap_insert(&map, &e, NULL), 0);
		}
		imap_find(&map, 0, &pos);
		for (const struct imap_leaf *leaf = pos.leaf; leaf; leaf = leaf->next)
			leaves++;
		assert_true(leaves * NODE_SIZE < n * (random ? 13 : 1));
		imap_clear(&map);
	}
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* A failed allocation leaves the map as it was. */
static void test_no_memory(void **state)
{
	struct imap map = {0};
	uint64_t at = 0, failures = 0;

	uiommu_set_allocator(failing_alloc, failing_release);
	while (at < 30000) {
		struct imap_entry e = entry(at * 2, at * 2);
		uint64_t count = map.count;
		int ret;

		fail_countdown = at % 3;
		ret = imap_insert(&map, &e, NULL);
		fail_countdown = -1;
		if (ret) {
			failures++;
			assert_int_equal(ret, -ENOMEM);
			assert_int_equal(map.count, count);
			assert_int_equal(imap_insert(&map, &e, NULL), 0);
		}
		at++;
	}
	assert_true(failures > 10);
	for (uint64_t i = 0; i < at; i++) {
		struct imap_pos pos;

		assert_int_equal(imap_find(&map, i * 2, &pos)->range.first, i * 2);
	}
	imap_clear(&map);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),	  cmocka_unit_test(test_random),
		cmocka_unit_test(test_million),	  cmocka_unit_test(test_gaps),
		cmocka_unit_test(test_gap_edges), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_alike),	  cmocka_unit_test(test_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
