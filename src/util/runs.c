/* SPDX-License-Identifier: MIT */
/*
 * Owns struct runs: a bitmap of free units where ranges are short, a map of ranges where they are
 * long, and what stands between the two.
 *
 * Invariants: every unit of the windows is in one of four states. It belongs to a block that is
 * open: its bit says whether it is free. Or runs.map has it: as a single range that is held
 * (SINGLE) or as a part of one that also lies in blocks (FILL). Or nothing has it, and it is free.
 * Blocks are whole and aligned, and runs.map has each of them as one entry (BLOCK), so what is free
 * outside of them are its gaps. A block is filed by its longest run of free units, in a list; a
 * block that is all free goes, but for a few. A mark is set only in open blocks, at both ends of a
 * range that runs_take() has held there and that is in no other list. What is held otherwise is
 * known by its entry in runs.map (SINGLE) or runs.spans.
 *
 * The maps count pages, since that is what they are made for: unit u is the page at u <<
 * UNIT_SHIFT. Giving back needs no memory and can't fail.
 */
#include "util/runs.h"

#include <errno.h>

#include "util/alloc.h"

#define UNIT_SHIFT  12
#define WORDS	    (RUNS_BLOCK / 64)
#define CACHE_LINE  64
#define FIRST_SLOTS 6  /* log2 */
#define KEEP_EMPTY  8  /* blocks */
#define MOST_TRIES  16 /* kinds of blocks that are looked at for a range that is aligned */

/* Longer ranges are no blocks' business unless nothing else has room. */
#define MOST_IN_BLOCK (RUNS_BLOCK / 2)

/* The info of entries in runs.map. */
enum { BLOCK, SINGLE, FILL };

static struct uiommu_range pages(uint64_t first, uint64_t last)
{
	return (struct uiommu_range){first << UNIT_SHIFT,
				     (last << UNIT_SHIFT) | ((1 << UNIT_SHIFT) - 1)};
}

static struct uiommu_range units(struct uiommu_range pages)
{
	return (struct uiommu_range){pages.first >> UNIT_SHIFT, pages.last >> UNIT_SHIFT};
}

static uint64_t align_up(uint64_t v, uint64_t alignment)
{
	return (v + (alignment - 1)) & ~(alignment - 1);
}

static int enter(struct imap *map, uint64_t first, uint64_t last, uint64_t info)
{
	const struct imap_entry entry = {
		.range = pages(first, last), .value = first << UNIT_SHIFT, .info = info};

	return imap_insert(map, &entry, NULL);
}

/* ---- bits of one block ---- */

/* The next run of free units from @at on: its length, 0 if there is none. */
static unsigned next_run(const uint64_t *free, unsigned at, unsigned *first)
{
	unsigned i = at / 64;
	uint64_t bits = i < WORDS ? free[i] & (UINT64_MAX << at % 64) : 0;

	while (!bits) {
		if (++i >= WORDS)
			return 0;
		bits = free[i];
	}
	*first = i * 64 + (unsigned)__builtin_ctzll(bits);
	bits = ~free[i] & (UINT64_MAX << *first % 64);
	while (!bits) {
		if (++i == WORDS)
			return RUNS_BLOCK - *first;
		bits = ~free[i];
	}
	return i * 64 + (unsigned)__builtin_ctzll(bits) - *first;
}

/* The run of free units around [first, last], which is free: its length. */
static unsigned run_around(const uint64_t *free, unsigned first, unsigned last)
{
	unsigned i = first / 64, from, start;
	uint64_t bits = ~free[i] & ((UINT64_C(1) << first % 64) - 1);

	while (!bits && i)
		bits = ~free[--i];
	from = bits ? i * 64 + 64 - (unsigned)__builtin_clzll(bits) : 0;
	return last - from + next_run(free, last, &start);
}

/* Set or clear bits. */
static void put_bits(uint64_t *free, unsigned first, unsigned last, bool set)
{
	for (unsigned i = first / 64; i <= last / 64; i++) {
		uint64_t bits = UINT64_MAX;

		if (i == first / 64)
			bits &= UINT64_MAX << first % 64;
		if (i == last / 64)
			bits &= UINT64_MAX >> (63 - last % 64);
		free[i] = set ? free[i] | bits : free[i] & ~bits;
	}
}

static unsigned longest_run(const uint64_t *free)
{
	unsigned longest = 0, first = 0;

	for (unsigned n = next_run(free, 0, &first); n; n = next_run(free, first + n, &first))
		longest = n > longest ? n : longest;
	return longest;
}

/* The shortest run that has room: where in it, or RUNS_BLOCK. *longest: once that is taken. */
static unsigned fit(const uint64_t *free, unsigned n, unsigned alignment, unsigned *longest)
{
	unsigned at = RUNS_BLOCK, chosen = 0, chosen_first = 0, most = 0, first = 0, run;

	for (run = next_run(free, 0, &first); run; run = next_run(free, first + run, &first)) {
		unsigned start = (unsigned)align_up(first, alignment), other = run;

		if (start + n <= first + run && (!chosen || run < chosen)) {
			other = chosen;
			chosen = run;
			chosen_first = first;
			at = start;
		}
		most = other > most ? other : most;
	}
	if (chosen) {
		unsigned before = at - chosen_first, behind = chosen - before - n;

		most = before > most ? before : most;
		most = behind > most ? behind : most;
	}
	*longest = most;
	return at;
}

/* ---- blocks and chunks ---- */

static struct runs_chunk *chunk_of(struct runs_block *block)
{
	struct runs_block *all = block - block->index;

	return (struct runs_chunk *)((char *)all - offsetof(struct runs_chunk, block));
}

static uint64_t block_first(struct runs_block *block)
{
	return chunk_of(block)->number * RUNS_CHUNK + (uint64_t)block->index * RUNS_BLOCK;
}

static uint64_t *block_bits(struct runs_block *block)
{
	return chunk_of(block)->free + block->index * WORDS;
}

static struct runs_block *block_at(const struct runs *runs, uint64_t unit)
{
	return &runs_chunk_at(runs, unit)->block[unit % RUNS_CHUNK / RUNS_BLOCK];
}

static void file(struct runs *runs, struct runs_block *block, unsigned longest)
{
	struct runs_block **list = &runs->filed[longest];

	block->longest = (uint16_t)longest;
	block->prev = NULL;
	block->next = *list;
	if (*list)
		(*list)->prev = block;
	*list = block;
	runs->filled[longest / 64] |= UINT64_C(1) << longest % 64;
	runs->empty += longest == RUNS_BLOCK;
}

static void unfile(struct runs *runs, struct runs_block *block)
{
	unsigned longest = block->longest;

	if (block->next)
		block->next->prev = block->prev;
	if (block->prev)
		block->prev->next = block->next;
	else
		runs->filed[longest] = block->next;
	if (!runs->filed[longest])
		runs->filled[longest / 64] &= ~(UINT64_C(1) << longest % 64);
	runs->empty -= longest == RUNS_BLOCK;
}

/* The least length, from @least on, at which something is filed; above RUNS_BLOCK: none. */
static unsigned next_filed(const struct runs *runs, unsigned least)
{
	unsigned i = least / 64;
	uint64_t bits;

	if (least > RUNS_BLOCK)
		return least;
	bits = runs->filled[i] & (UINT64_MAX << least % 64);
	while (!bits) {
		if (++i > RUNS_BLOCK / 64)
			return RUNS_BLOCK + 1;
		bits = runs->filled[i];
	}
	return i * 64 + (unsigned)__builtin_ctzll(bits);
}

static size_t slots_size(const struct runs *runs)
{
	return (UINT64_MAX >> runs->shift) + 1;
}

static void free_chunk(struct runs *runs, struct runs_chunk *chunk)
{
	struct runs_slot *slots = runs->slots, *hole = runs_slot(runs, chunk->number);
	size_t mask = UINT64_MAX >> runs->shift;

	/* What stands behind it and was not found where it belongs moves up. */
	hole->chunk = NULL;
	for (size_t i = ((size_t)(hole - slots) + 1) & mask; slots[i].chunk; i = (i + 1) & mask) {
		const struct runs_slot moved = slots[i];

		slots[i].chunk = NULL;
		*runs_slot(runs, moved.number) = moved;
	}
	runs->chunks--;
	uiommu_free(chunk, sizeof(*chunk));
}

/* A block that is all free is one no longer. */
static void close_block(struct runs *runs, struct runs_block *block)
{
	struct runs_chunk *chunk = chunk_of(block);

	unfile(runs, block);
	imap_erase(&runs->map, block_first(block) << UNIT_SHIFT);
	block->open = false;
	if (!--chunk->open)
		free_chunk(runs, chunk);
}

static void refile(struct runs *runs, struct runs_block *block, unsigned longest)
{
	if (longest == block->longest)
		return;
	unfile(runs, block);
	file(runs, block, longest);
	if (runs->empty > KEEP_EMPTY && longest == RUNS_BLOCK)
		close_block(runs, block);
}

static void close_empty(struct runs *runs)
{
	while (runs->filed[RUNS_BLOCK])
		close_block(runs, runs->filed[RUNS_BLOCK]);
}

/* Room for one more chunk. */
static int grow_slots(struct runs *runs)
{
	size_t old = slots_size(runs);
	struct runs_slot *slots = runs->slots;

	if (slots && (runs->chunks + 1) * 2 <= old)
		return 0;
	runs->slots = uiommu_alloc_array(slots ? old * 2 : old, sizeof(*slots));
	if (!runs->slots) {
		runs->slots = slots;
		return -ENOMEM;
	}
	if (!slots)
		return 0;
	runs->shift--;
	for (size_t i = 0; i < old; i++)
		if (slots[i].chunk)
			*runs_slot(runs, slots[i].number) = slots[i];
	uiommu_free(slots, old * sizeof(*slots));
	return 0;
}

static struct runs_chunk *get_chunk(struct runs *runs, uint64_t number)
{
	struct runs_chunk *chunk = runs_slot(runs, number)->chunk;

	if (chunk)
		return chunk;
	if (grow_slots(runs))
		return NULL;
	chunk = uiommu_alloc_aligned(sizeof(*chunk), CACHE_LINE);
	if (!chunk)
		return NULL;
	chunk->number = number;
	for (unsigned i = 0; i < RUNS_CHUNK / RUNS_BLOCK; i++)
		chunk->block[i].index = (uint8_t)i;
	*runs_slot(runs, number) = (struct runs_slot){number, chunk};
	runs->chunks++;
	return chunk;
}

/* The lowest gap of runs.map with room. */
static bool find_gap(struct runs *runs, uint64_t n, uint64_t alignment, uint64_t *first)
{
	const struct imap_want want = {.length = n << UNIT_SHIFT,
				       .alignment = alignment << UNIT_SHIFT};
	uint64_t at;

	for (size_t i = 0; i < runs->window_count; i++)
		if (imap_gap(&runs->map, pages(runs->windows[i].first, runs->windows[i].last),
			     &want, &at)) {
			*first = at >> UNIT_SHIFT;
			return true;
		}
	return false;
}

/* One more block. -ENOSPC: no aligned gap has room for one. */
static int open_block(struct runs *runs)
{
	struct runs_chunk *chunk;
	struct runs_block *block;
	uint64_t first;
	int ret;

	if (!find_gap(runs, RUNS_BLOCK, RUNS_BLOCK, &first))
		return -ENOSPC;
	chunk = get_chunk(runs, first / RUNS_CHUNK);
	if (!chunk)
		return -ENOMEM;
	ret = enter(&runs->map, first, first + (RUNS_BLOCK - 1), BLOCK);
	if (ret) {
		if (!chunk->open)
			free_chunk(runs, chunk);
		return ret;
	}
	block = &chunk->block[first % RUNS_CHUNK / RUNS_BLOCK];
	block->open = true;
	chunk->open++;
	put_bits(block_bits(block), 0, RUNS_BLOCK - 1, true);
	file(runs, block, RUNS_BLOCK);
	return 0;
}

/* ---- marks ---- */

/* Is it held, and by marks? They may be in many words, but in one block. */
static bool is_marked(const struct runs *runs, uint64_t first, uint64_t last)
{
	struct runs_chunk *chunk = runs_chunk_at(runs, first);
	struct runs_marks *marks;

	if (!chunk || first / RUNS_BLOCK != last / RUNS_BLOCK)
		return false;
	marks = chunk->marks;
	first %= RUNS_CHUNK;
	last %= RUNS_CHUNK;
	for (uint64_t i = first / 64; i <= last / 64; i++) {
		uint64_t inside = UINT64_MAX, start = 0;

		if (i == first / 64) {
			start = UINT64_C(1) << first % 64;
			inside &= UINT64_MAX << first % 64;
		}
		if (i == last / 64)
			inside &= UINT64_MAX >> (63 - last % 64);
		if ((marks[i].first & inside) != start)
			return false;
	}
	return marks[last / 64].last >> last % 64 & 1;
}

static void unmark(const struct runs *runs, uint64_t first, uint64_t last)
{
	struct runs_marks *marks = runs_chunk_at(runs, first)->marks;

	marks[first % RUNS_CHUNK / 64].first &= ~(UINT64_C(1) << first % 64);
	marks[last % RUNS_CHUNK / 64].last &= ~(UINT64_C(1) << last % 64);
}

/* ---- taking ---- */

static bool take_in_block(struct runs *runs, struct runs_block *block, uint64_t n,
			  uint64_t alignment, uint64_t *first)
{
	uint64_t *bits = block_bits(block);
	unsigned longest, at = fit(bits, (unsigned)n, (unsigned)alignment, &longest);

	if (at == RUNS_BLOCK)
		return false;
	put_bits(bits, at, at + (unsigned)n - 1, false);
	refile(runs, block, longest);
	*first = block_first(block) + at;
	runs_hold(runs, *first, n);
	return true;
}

/* From the block whose longest run is the shortest that will do; where it must be aligned, from one
 * of the first few that are looked at. */
static bool take_filed(struct runs *runs, uint64_t n, uint64_t alignment, uint64_t *first)
{
	unsigned length = (unsigned)n - 1;

	if (n > RUNS_BLOCK || alignment > RUNS_BLOCK)
		return false;
	for (unsigned i = 0; i < MOST_TRIES; i++) {
		length = next_filed(runs, length + 1);
		if (length > RUNS_BLOCK)
			return false;
		if (take_in_block(runs, runs->filed[length], n, alignment, first))
			return true;
	}
	return false;
}

static int take_single(struct runs *runs, uint64_t n, uint64_t alignment, uint64_t *first)
{
	uint64_t at;

	if (!find_gap(runs, n, alignment, &at)) {
		if (!runs->empty)
			return -ENOSPC;
		close_empty(runs);
		if (!find_gap(runs, n, alignment, &at))
			return -ENOSPC;
	}
	if (enter(&runs->map, at, at + (n - 1), SINGLE))
		return -ENOMEM;
	*first = at;
	return 0;
}

static bool is_too_many(const struct runs *runs, uint64_t n)
{
	return runs->too_many && n >= runs->too_many;
}

int runs_take(struct runs *runs, uint64_t n, uint64_t alignment, uint64_t *first)
{
	int ret;

	if (is_too_many(runs, n) || n >= RUNS_MOST_UNITS || alignment >= RUNS_MOST_UNITS)
		return -ENOSPC;
	runs->too_many = 0;
	if (n <= MOST_IN_BLOCK && alignment <= RUNS_BLOCK) {
		if (take_filed(runs, n, alignment, first))
			return 0;
		ret = open_block(runs);
		if (!ret)
			return take_filed(runs, n, alignment, first) ? 0 : -ENOSPC;
		if (ret != -ENOSPC)
			return ret;
	}
	ret = take_single(runs, n, alignment, first);
	if (ret == -ENOSPC && n > MOST_IN_BLOCK && take_filed(runs, n, alignment, first))
		ret = 0;
	return ret;
}

/* ---- looking at everything ---- */

struct walk {
	uint64_t n, alignment; /* wanted */
	uint64_t found;
	bool any, done;
	struct uiommu_range run, longest; /* the one at hand, and the longest so far */
	uint64_t free, held;		  /* units and ranges that were passed */
};

static void walk_run_ends(struct walk *walk)
{
	struct uiommu_range run = walk->run;
	uint64_t at;

	if (!walk->any)
		return;
	if (!range_valid(walk->longest) ||
	    run.last - run.first > walk->longest.last - walk->longest.first)
		walk->longest = run;
	at = align_up(run.first, walk->alignment);
	if (!walk->done && at <= run.last && run.last - at >= walk->n - 1) {
		walk->found = at;
		walk->done = true;
	}
	walk->any = false;
}

/* Units that are free: they go on with the run at hand, or begin one. */
static void walk_free(struct walk *walk, uint64_t first, uint64_t last)
{
	walk->free += last - first + 1;
	if (walk->any && walk->run.last + 1 == first) {
		walk->run.last = last;
		return;
	}
	walk_run_ends(walk);
	walk->any = true;
	walk->run = (struct uiommu_range){first, last};
}

static void walk_block(struct walk *walk, struct runs_block *block)
{
	const uint64_t *bits = block_bits(block);
	const struct runs_marks *marks = chunk_of(block)->marks + block->index * WORDS;
	uint64_t base = block_first(block);
	unsigned first = 0, n;

	for (n = next_run(bits, 0, &first); n; n = next_run(bits, first + n, &first))
		walk_free(walk, base + first, base + first + (n - 1));
	for (unsigned i = 0; i < WORDS; i++)
		walk->held += (unsigned)__builtin_popcountll(marks[i].first);
}

/* Every run there is, ascending, until what is wanted is found. */
static void walk_all(struct runs *runs, struct walk *walk)
{
	for (size_t i = 0; i < runs->window_count && !walk->done; i++) {
		struct uiommu_range window = runs->windows[i];
		uint64_t next = window.first;
		struct imap_pos pos;
		const struct imap_entry *e =
			imap_find(&runs->map, window.first << UNIT_SHIFT, &pos);

		for (; e && !walk->done; e = imap_next(&pos)) {
			struct uiommu_range r = units(e->range);

			if (r.first > window.last)
				break;
			if (r.first > next)
				walk_free(walk, next, r.first - 1);
			if (e->info == BLOCK)
				walk_block(walk, block_at(runs, r.first));
			walk->held += e->info == SINGLE;
			next = r.last + 1;
		}
		if (next <= window.last)
			walk_free(walk, next, window.last);
	}
	walk_run_ends(walk);
}

/* Take what is free outside of blocks in the range, or nothing. */
static int fill_gaps(struct runs *runs, uint64_t first, uint64_t last)
{
	uint64_t next = first;

	while (next <= last) {
		struct imap_pos pos;
		const struct imap_entry *e = imap_find(&runs->map, next << UNIT_SHIFT, &pos);
		struct uiommu_range r = e ? units(e->range) : UIOMMU_RANGE_NONE;

		if (!e || r.first > last)
			r = (struct uiommu_range){last + 1, last};
		if (r.first > next && enter(&runs->map, next, r.first - 1, FILL)) {
			imap_drop(&runs->map, pages(first, last), 3, FILL, NULL, NULL);
			return -ENOMEM;
		}
		next = r.last + 1;
	}
	return 0;
}

/* Set or clear the bits of what lies in blocks. */
static void put_blocks(struct runs *runs, uint64_t first, uint64_t last, bool free)
{
	while (first <= last) {
		struct imap_pos pos;
		const struct imap_entry *e = imap_find(&runs->map, first << UNIT_SHIFT, &pos);
		struct uiommu_range r = e ? units(e->range) : UIOMMU_RANGE_NONE, part;

		if (!e || r.first > last)
			return;
		if (e->info == BLOCK) {
			struct runs_block *block = block_at(runs, r.first);

			part = range_common(r, (struct uiommu_range){first, last});
			put_bits(block_bits(block), part.first % RUNS_BLOCK, part.last % RUNS_BLOCK,
				 free);
			refile(runs, block, longest_run(block_bits(block)));
		}
		first = r.last + 1;
	}
}

static int take_span(struct runs *runs, uint64_t first, uint64_t last)
{
	if (fill_gaps(runs, first, last))
		return -ENOMEM;
	if (enter(&runs->spans, first, last, 0)) {
		imap_drop(&runs->map, pages(first, last), 3, FILL, NULL, NULL);
		return -ENOMEM;
	}
	put_blocks(runs, first, last, false);
	return 0;
}

int runs_take_anywhere(struct runs *runs, uint64_t n, uint64_t alignment, uint64_t *first,
		       struct uiommu_range *longest)
{
	struct walk walk = {.n = n, .alignment = alignment, .longest = UIOMMU_RANGE_NONE};
	int ret;

	if (!is_too_many(runs, n)) {
		walk_all(runs, &walk);
		if (walk.done) {
			runs->too_many = 0;
			ret = take_span(runs, walk.found, walk.found + (n - 1));
			if (!ret)
				*first = walk.found;
			return ret;
		}
		runs->longest = walk.longest;
		runs->too_many = range_valid(walk.longest) ? range_length(walk.longest) + 1 : 1;
	}
	*longest = runs->longest;
	return -ENOSPC;
}

void runs_look(struct runs *runs, struct runs_state *state)
{
	struct walk walk = {.n = UINT64_MAX, .alignment = 1, .longest = UIOMMU_RANGE_NONE};

	walk_all(runs, &walk);
	*state = (struct runs_state){
		.longest = walk.longest, .free = walk.free, .held = walk.held + runs->spans.count};
}

/* ---- giving back ---- */

void runs_put(struct runs *runs, uint64_t first, uint64_t n)
{
	struct runs_block *block = block_at(runs, first);
	unsigned from = first % RUNS_BLOCK, last = from + (unsigned)n - 1, run;
	uint64_t *bits = block_bits(block);

	runs->too_many = 0;
	put_bits(bits, from, last, true);
	run = run_around(bits, from, last);
	if (run > block->longest)
		refile(runs, block, run);
}

static bool is_entry(struct imap *map, uint64_t first, uint64_t last, uint64_t info)
{
	struct imap_pos pos;
	const struct imap_entry *e = imap_find(map, first << UNIT_SHIFT, &pos);
	struct uiommu_range range = pages(first, last);

	return e && e->range.first == range.first && e->range.last == range.last && e->info == info;
}

bool runs_give(struct runs *runs, uint64_t first, uint64_t n)
{
	uint64_t last = first + (n - 1);

	if (is_marked(runs, first, last)) {
		unmark(runs, first, last);
		runs_put(runs, first, n);
		return true;
	}
	if (is_entry(&runs->map, first, last, SINGLE)) {
		imap_erase(&runs->map, first << UNIT_SHIFT);
	} else if (is_entry(&runs->spans, first, last, 0)) {
		imap_erase(&runs->spans, first << UNIT_SHIFT);
		imap_drop(&runs->map, pages(first, last), 3, FILL, NULL, NULL);
		put_blocks(runs, first, last, true);
	} else {
		return false;
	}
	runs->too_many = 0;
	return true;
}

/* ---- life ---- */

int runs_init(struct runs *runs, const struct uiommu_range *windows, size_t count)
{
	*runs = (struct runs){
		.windows = windows,
		.window_count = count,
		.shift = 64 - FIRST_SLOTS,
		.longest = UIOMMU_RANGE_NONE,
	};
	return grow_slots(runs);
}

void runs_destroy(struct runs *runs)
{
	size_t count = slots_size(runs);

	for (size_t i = 0; i < count; i++)
		uiommu_free(runs->slots[i].chunk, sizeof(struct runs_chunk));
	uiommu_free(runs->slots, count * sizeof(struct runs_slot));
	imap_clear(&runs->map);
	imap_clear(&runs->spans);
}
