/* SPDX-License-Identifier: MIT */
/*
 * Which of many numbered units are taken: ranges of them are chosen, held and given back. Units are
 * counted from 0 to 2^52 - 1 at most; only those inside the windows that it was made with exist.
 *
 * A range that is taken is held: it is known where it starts and where it ends, so that nothing but
 * exactly what was taken can be given back. A short one may be let go without being given back: it
 * is nobody's then, but not free either, until it is held again or put back. That is what
 * magazines are made of.
 *
 * Not locked: the owner has a lock, or is alone.
 */
#ifndef UTIL_RUNS_H
#define UTIL_RUNS_H

#include "util/imap.h"
#include "util/range.h"

#define RUNS_MOST_UNITS (UINT64_C(1) << 52)

/* Units are looked at by blocks, which are kept in chunks. */
#define RUNS_BLOCK 512
#define RUNS_CHUNK (64 * RUNS_BLOCK)
/* Up to here a range is short. */
#define RUNS_SHORT 64

struct runs_block {
	struct runs_block *next, *prev; /* filed with it */
	uint16_t longest;		/* run of free units in it: where it is filed */
	uint8_t index;			/* in its chunk; constant */
	bool open;			/* its units are looked after here, and not in runs.map */
};

/* Where held ranges start and end, a bit a unit. */
struct runs_marks {
	uint64_t first, last;
};

/* A block's words in a cache line, its marks in two. */
struct runs_chunk {
	struct runs_marks marks[RUNS_CHUNK / 64];
	uint64_t free[RUNS_CHUNK / 64];
	struct runs_block block[RUNS_CHUNK / RUNS_BLOCK];
	uint64_t number; /* of its first unit, by RUNS_CHUNK */
	unsigned open;	 /* blocks of it */
};

struct runs_slot {
	uint64_t number;
	struct runs_chunk *chunk; /* NULL: nothing stands here */
};

struct runs {
	struct runs_slot *slots; /* a hash table with open addressing */
	unsigned shift;		 /* 64 - log2 of its size */
	size_t chunks;		 /* in it */
	struct imap map;	 /* what is not free outside of blocks, and the blocks */
	struct imap spans;	 /* held ranges that lie across both */
	struct runs_block *filed[RUNS_BLOCK + 1];
	uint64_t filled[RUNS_BLOCK / 64 + 1]; /* bitmap: something is filed there */
	size_t empty;			      /* blocks that are all free */
	const struct uiommu_range *windows;   /* constant; the owner's */
	size_t window_count;
	/* So many units are known not to be had, for this is the longest run; until something is
	 * taken or put back. 0: not known. */
	uint64_t too_many;
	struct uiommu_range longest;
};

/* The windows ascend, are neither empty nor adjacent, and outlive it. -ENOMEM. */
int runs_init(struct runs *runs, const struct uiommu_range *windows, size_t count);
void runs_destroy(struct runs *runs);

/*
 * Take and hold @n units (> 0), from a multiple of @alignment (a power of two) on: where they fit
 * best, or lowest. -ENOSPC: not found, which is no proof that there is no such run; -ENOMEM:
 * unchanged.
 */
int runs_take(struct runs *runs, uint64_t n, uint64_t alignment, uint64_t *first);

/*
 * The same, but look at everything, in time that grows with what is taken. -ENOSPC: there is no
 * such run, and *longest is the longest of all, not valid if nothing is free.
 */
int runs_take_anywhere(struct runs *runs, uint64_t n, uint64_t alignment, uint64_t *first,
		       struct uiommu_range *longest);

/* Give back what is held. False: no range that is held is exactly this one. */
bool runs_give(struct runs *runs, uint64_t first, uint64_t n);

struct runs_state {
	struct uiommu_range longest; /* run of free units; not valid if there is none */
	uint64_t free;		     /* units, those let go not counted */
	uint64_t held;		     /* ranges */
};
/* Time as runs_take_anywhere(). */
void runs_look(struct runs *runs, struct runs_state *state);

/* Put back what was let go. */
void runs_put(struct runs *runs, uint64_t first, uint64_t n);

/* Where a chunk stands, or would. */
static inline struct runs_slot *runs_slot(const struct runs *runs, uint64_t number)
{
	size_t i = number * UINT64_C(0x9e3779b97f4a7c15) >> runs->shift;

	while (runs->slots[i].number != number && runs->slots[i].chunk)
		i = (i + 1) & (UINT64_MAX >> runs->shift);
	return &runs->slots[i];
}

/* The chunk of a unit; NULL: none of its blocks is open. */
static inline struct runs_chunk *runs_chunk_at(const struct runs *runs, uint64_t unit)
{
	return runs_slot(runs, unit / RUNS_CHUNK)->chunk;
}

/* Have fetched what letting go of a short range will look at. */
static inline void runs_prefetch(const struct runs *runs, uint64_t first, uint64_t n)
{
	struct runs_chunk *chunk = runs_chunk_at(runs, first);

	if (!chunk)
		return;
	__builtin_prefetch(&chunk->marks[first % RUNS_CHUNK / 64], 1);
	__builtin_prefetch(&chunk->marks[(first + (n - 1)) % RUNS_CHUNK / 64], 1);
}

/* Have fetched what putting it back will look at. */
static inline void runs_prefetch_put(const struct runs *runs, uint64_t first)
{
	struct runs_chunk *chunk = runs_chunk_at(runs, first);

	__builtin_prefetch(&chunk->free[first % RUNS_CHUNK / 64], 1);
	__builtin_prefetch(&chunk->block[first % RUNS_CHUNK / RUNS_BLOCK], 1);
}

/* The chunk of a unit, if it stands where it is looked for first; else NULL. */
static inline struct runs_chunk *runs_chunk_soon(const struct runs *runs, uint64_t unit)
{
	uint64_t number = unit / RUNS_CHUNK;
	const struct runs_slot *slot =
		&runs->slots[number * UINT64_C(0x9e3779b97f4a7c15) >> runs->shift];

	return slot->number == number ? slot->chunk : NULL;
}

/* Hold again what was let go; in its chunk. */
static inline void runs_hold_in(struct runs_chunk *chunk, uint64_t first, uint64_t n)
{
	uint64_t last = first + (n - 1);

	chunk->marks[first % RUNS_CHUNK / 64].first |= UINT64_C(1) << first % 64;
	chunk->marks[last % RUNS_CHUNK / 64].last |= UINT64_C(1) << last % 64;
}

static inline void runs_hold(const struct runs *runs, uint64_t first, uint64_t n)
{
	runs_hold_in(runs_chunk_at(runs, first), first, n);
}

/*
 * Let go of what is held, if it is short; in the chunk of its first unit. False: it isn't held, or
 * not inside one block. A range is held if one starts at its first unit, none at another, and one
 * ends at its last: held ranges are disjoint. None reaches across the border of a block, so where
 * the last unit is the next chunk's, there is no end in this one's first word without a start.
 * It lies in one or two words; that makes no branch, which would be guessed wrong: in one, what is
 * shifted in from the second is beyond it.
 */
static inline bool runs_let_go_in(struct runs_chunk *chunk, uint64_t first, uint64_t n)
{
	uint64_t last = first + (n - 1), from, one = UINT64_C(1) << (64 - n);
	struct runs_marks *head = &chunk->marks[first % RUNS_CHUNK / 64],
			  *tail = &chunk->marks[last % RUNS_CHUNK / 64];

	from = head->first >> first % 64 | tail->first << 1 << (63 - first % 64);
	if (from << (64 - n) != one || !(tail->last >> last % 64 & 1))
		return false;
	head->first ^= UINT64_C(1) << first % 64;
	tail->last ^= UINT64_C(1) << last % 64;
	return true;
}

static inline bool runs_let_go(const struct runs *runs, uint64_t first, uint64_t n)
{
	struct runs_chunk *chunk = runs_chunk_at(runs, first);

	return chunk && runs_let_go_in(chunk, first, n);
}

#endif
