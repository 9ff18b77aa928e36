/* SPDX-License-Identifier: MIT */
/*
 * Owns what is inside a leaf of struct imap: its three kinds (imap_nodes.h), and how entries are
 * found, put in, taken out and moved in each.
 *
 * Invariants: entries ascend with their indices; the lowest and the highest index have one; the
 * address of an empty slot of a packed leaf, up to the end, is between those of its neighbours, so
 * that a search need not know which are; users of an info are counted, and one without users is
 * free. A leaf becomes a tighter kind only when it is full, and a wide one when few are left, so
 * going to and fro is paid for by many changes. No locks; nothing here takes memory.
 */
#include <string.h>

#include "util/imap_nodes.h"

/* A leaf is packed around its first entry: addresses up to 8 TiB below and above fit. */
#define PACK_MIDDLE (UINT64_C(1) << 31)

/* ---- infos ---- */

static inline unsigned infos_free(const struct shared *s)
{
	return !s->users[0] + !s->users[1] + !s->users[2] + !s->users[3];
}

/* Which info of a leaf this is; INFOS: none. */
static inline unsigned info_find(const struct shared *s, uint64_t info)
{
	unsigned k = 0;

	while (k < INFOS && (s->info[k] != info || !s->users[k]))
		k++;
	return k;
}

/* Which one it is, or becomes that is free; there is one if it is none yet. */
static inline unsigned info_place(struct shared *s, uint64_t info)
{
	unsigned k = info_find(s, info);

	if (k == INFOS) {
		for (k = 0; s->users[k];)
			k++;
		s->info[k] = info;
	}
	return k;
}

static inline unsigned info_take(struct shared *s, uint64_t info)
{
	unsigned k = info_place(s, info);

	s->users[k]++;
	return k;
}

/* Can another entry have it, so that one is free then? Mostly two are in use. */
static inline bool info_fits(const struct shared *s, uint64_t info)
{
	unsigned unused = infos_free(s);

	return unused > 1 || (unused && info_find(s, info) < INFOS);
}

/* Which one it is or becomes, so that one is free then; INFOS: it can't be had. Mostly it is the
 * first and few are in use. */
static inline unsigned info_choose(struct shared *s, uint64_t info)
{
	if (s->info[0] == info && s->users[0] && !s->users[INFOS - 1])
		return 0;
	return info_fits(s, info) ? info_place(s, info) : INFOS;
}

/* ---- slots ---- */

static inline void bit_put(uint64_t *words, unsigned i, bool on)
{
	uint64_t bit = UINT64_C(1) << i % 64;

	words[i / 64] = on ? words[i / 64] | bit : words[i / 64] & ~bit;
}

/* The first bit from i on; there is one. */
static inline unsigned bits_from(const uint64_t *words, unsigned i)
{
	unsigned w = i / 64;
	uint64_t word = words[w] >> i % 64 << i % 64;

	while (!word)
		word = words[++w];
	return w * 64 + __builtin_ctzll(word);
}

/* The last bit below i; there is one. */
static inline unsigned bits_below(const uint64_t *words, unsigned i)
{
	unsigned w = (i - 1) / 64;
	uint64_t word = words[w] << (63 - (i - 1) % 64);

	if (word)
		return i - 1 - __builtin_clzll(word);
	while (!words[--w])
		;
	return w * 64 + 63 - __builtin_clzll(words[w]);
}

/* Which slots have something in them, of a leaf that is not wide. */
static inline uint64_t *slots_of(struct imap_leaf *leaf)
{
	return leaf->kind == LEAF_RUN ? leaf->shared.run.present : leaf->shared.packed.present;
}

static inline const uint64_t *const_slots_of(const struct imap_leaf *leaf)
{
	return leaf->kind == LEAF_RUN ? leaf->shared.run.present : leaf->shared.packed.present;
}

/* Something has been put into a slot. */
static inline void slot_taken(struct imap_leaf *leaf, unsigned slot)
{
	if (!leaf->n || slot < leaf->begin)
		leaf->begin = slot;
	if (slot >= leaf->end)
		leaf->end = slot + 1;
	leaf->n++;
}

/* What was in a slot has been taken out. */
static inline void slot_emptied(struct imap_leaf *leaf, unsigned i)
{
	if (!--leaf->n) {
		leaf->kind = LEAF_WIDE;
		leaf->begin = leaf->end = 0;
	} else if (i == leaf->begin) {
		leaf->begin = bits_from(slots_of(leaf), i);
	} else if (i + 1u == leaf->end) {
		leaf->end = bits_below(slots_of(leaf), i) + 1;
	}
}

/* ---- runs ---- */

static unsigned run_shift(const struct shared *s)
{
	return __builtin_ctzll(s->span + 1);
}

/* The slot for an entry; RUN_MAX: there is none. */
static unsigned run_slot(const struct shared *s, const struct imap_entry *e)
{
	uint64_t distance = e->range.first - s->first, slot = distance >> run_shift(s);

	if (e->range.first < s->first || (distance & s->span) ||
	    e->range.last - e->range.first != s->span || slot >= RUN_MAX || e->tag != s->tag ||
	    e->value != s->value + slot * s->stride)
		return RUN_MAX;
	return slot;
}

static inline void run_put(struct imap_leaf *leaf, unsigned slot, unsigned which)
{
	struct run *run = &leaf->shared.run;

	leaf->shared.users[which]++;
	bit_put(run->present, slot, true);
	bit_put(run->which[0], slot, which & 1);
	bit_put(run->which[1], slot, which & 2);
	slot_taken(leaf, slot);
}

/* ---- packed leaves ---- */

static bool packed_fits(const struct shared *s, const struct imap_entry *e)
{
	uint64_t at = e->range.first - s->first;
	int64_t value = (int64_t)(e->value - s->value);

	return e->tag == s->tag && e->range.last - e->range.first == s->span &&
	       !((at | (uint64_t)value) & (PACK_UNIT - 1)) && !(at >> PACK_SHIFT >> 32) &&
	       value >> PACK_SHIFT >> 29 == value >> 63;
}

/* The empty slot from i on, or PACKED_MAX; and the one below i, or PACKED_MAX. */
static inline unsigned empty_from(const struct packed *p, unsigned i)
{
	for (unsigned w = i / 64; w < PACKED_WORDS; w++, i = w * 64) {
		uint64_t word = ~p->present[w] >> i % 64 << i % 64;

		if (word)
			return w * 64 + __builtin_ctzll(word);
	}
	return PACKED_MAX;
}

static inline unsigned empty_below(const struct packed *p, unsigned i)
{
	while (i && bit_get(p->present, i - 1))
		i--;
	return i ? i - 1 : PACKED_MAX;
}

/* Move what is in the slots from i to j - 1 one up (by: 1) or down (-1). */
static inline void packed_shift(struct packed *p, unsigned i, unsigned j, int by)
{
	memmove(&p->at[i + by], &p->at[i], (j - i) * sizeof(uint32_t));
	memmove(&p->value[i + by], &p->value[i], (j - i) * sizeof(uint32_t));
}

/* Have an empty slot for what belongs before the entry in slot @before (the end: behind all) of a
 * leaf that is not full: the slot. */
static unsigned packed_open(struct imap_leaf *leaf, unsigned before, uint32_t at)
{
	struct packed *p = &leaf->shared.packed;
	unsigned slot = before, empty;

	/* Past the empty ones whose addresses are not below. */
	while (slot && !bit_get(p->present, slot - 1) && p->at[slot - 1] >= at)
		slot--;
	if (slot < PACKED_MAX && !bit_get(p->present, slot))
		return slot;
	if (slot && !bit_get(p->present, slot - 1))
		return slot - 1;
	empty = empty_from(p, slot);
	if (empty < PACKED_MAX) {
		packed_shift(p, slot, empty, 1);
	} else {
		empty = empty_below(p, slot);
		packed_shift(p, empty + 1, slot, -1);
		slot--;
	}
	bit_put(p->present, empty, true);
	if (empty >= leaf->end)
		leaf->end = empty + 1;
	if (empty < leaf->begin)
		leaf->begin = empty;
	bit_put(p->present, slot, false);
	return slot;
}

/* Before the entry in slot @before: its slot. There is room. */
static inline unsigned packed_put(struct imap_leaf *leaf, unsigned before,
				  const struct imap_entry *e, uint32_t which)
{
	struct shared *s = &leaf->shared;
	uint32_t at = (uint32_t)((e->range.first - s->first) >> PACK_SHIFT);
	unsigned slot = packed_open(leaf, before, at);

	s->users[which]++;
	s->packed.at[slot] = at;
	s->packed.value[slot] = (uint32_t)((e->value - s->value) >> PACK_SHIFT) << 2 | which;
	bit_put(s->packed.present, slot, true);
	slot_taken(leaf, slot);
	return slot;
}

/* Entries that are one behind the other, with slot 0 the first one's, get all slots, evenly. */
static void packed_spread(struct imap_leaf *leaf)
{
	struct packed *p = &leaf->shared.packed;
	unsigned end = PACKED_MAX;

	memset(p->present, 0, sizeof(p->present));
	for (unsigned i = leaf->n; i--;) {
		unsigned slot = i * PACKED_MAX / leaf->n;
		uint32_t at = p->at[i];

		p->value[slot] = p->value[i];
		bit_put(p->present, slot, true);
		if (end == PACKED_MAX)
			leaf->end = end = slot + 1;
		while (end > slot)
			p->at[--end] = at;
	}
}

/* An empty leaf for entries like this one. */
static void packed_start(struct imap_leaf *leaf, const struct imap_entry *e)
{
	leaf->kind = LEAF_PACKED;
	leaf->n = leaf->begin = leaf->end = 0;
	leaf->shared.first = e->range.first - (PACK_MIDDLE << PACK_SHIFT);
	leaf->shared.value = e->value;
	leaf->shared.span = e->range.last - e->range.first;
	leaf->shared.tag = e->tag;
	memset(leaf->shared.users, 0, sizeof(leaf->shared.users));
	memset(leaf->shared.packed.present, 0, sizeof(leaf->shared.packed.present));
}

/* The first entry that ends at or above addr, which is above the first one's end and not above the
 * last one's. */
static unsigned packed_search(const struct imap_leaf *leaf, uint64_t addr)
{
	const struct shared *s = &leaf->shared;
	/* Those that start below the first multiple at or above this. */
	uint32_t from = (uint32_t)((addr - s->span - s->first + (PACK_UNIT - 1)) >> PACK_SHIFT);
	const uint32_t *at = s->packed.at;
	unsigned lo = 0, n = leaf->end;

	/* The last that does; the first one does. The steps are the same for most leaves, and no
	 * branch is to be guessed. */
	if (n >= 64) {
		lo = (n - 64) & -(unsigned)(at[n - 64] < from);
#pragma GCC unroll 6
		for (unsigned half = 32; half; half /= 2)
			lo += half & -(unsigned)(at[lo + half] < from);
		return bits_from(s->packed.present, lo + 1);
	}
	while (n > 1) {
		unsigned half = n / 2;

		lo += half & -(unsigned)(at[lo + half] < from);
		n -= half;
	}
	return bits_from(s->packed.present, lo + 1);
}

/* ---- all kinds ---- */

unsigned leaf_search(const struct imap_leaf *leaf, uint64_t addr)
{
	unsigned lo = leaf->begin, hi = leaf->end;

	if (leaf->kind != LEAF_WIDE) {
		if (leaf_last(leaf, lo) >= addr)
			return lo;
		if (leaf_last(leaf, hi - 1) < addr)
			return hi;
		if (leaf->kind == LEAF_PACKED)
			return packed_search(leaf, addr);
		return bits_from(leaf->shared.run.present,
				 (addr - leaf->shared.first) >> run_shift(&leaf->shared));
	}
	for (unsigned n = hi; n;) {
		unsigned half = (n + 1) / 2;

		lo += half & -(unsigned)(leaf->entry[lo + half - 1].range.last < addr);
		n -= half;
	}
	return lo;
}

void leaf_get(const struct imap_leaf *leaf, unsigned i, struct imap_entry *entry)
{
	const struct shared *s = &leaf->shared;
	unsigned which;

	if (leaf->kind == LEAF_WIDE) {
		*entry = leaf->entry[i];
		return;
	}
	entry->range.first = leaf_first(leaf, i);
	entry->range.last = entry->range.first + s->span;
	if (leaf->kind == LEAF_PACKED) {
		int64_t units = (int32_t)s->packed.value[i] >> 2;

		entry->value = s->value + (uint64_t)units * PACK_UNIT;
		which = s->packed.value[i] & 3;
	} else {
		entry->value = s->value + i * s->stride;
		which = bit_get(s->run.which[0], i) | bit_get(s->run.which[1], i) << 1;
	}
	entry->tag = s->tag;
	entry->info = s->info[which];
}

unsigned leaf_above(const struct imap_leaf *leaf, unsigned i)
{
	return leaf->kind == LEAF_WIDE ? i + 1 : bits_from(const_slots_of(leaf), i + 1);
}

unsigned leaf_below(const struct imap_leaf *leaf, unsigned i)
{
	return leaf->kind == LEAF_WIDE ? i - 1 : bits_below(const_slots_of(leaf), i);
}

unsigned leaf_stretch(const struct imap_leaf *leaf, unsigned i)
{
	unsigned w = i / 64;
	uint64_t empty;

	if (leaf->kind != LEAF_RUN)
		return i;
	empty = ~leaf->shared.run.present[w] >> i % 64 << i % 64;
	while (!empty && (w + 1) * 64 < leaf->end)
		empty = ~leaf->shared.run.present[++w];
	return (empty ? w * 64 + __builtin_ctzll(empty) : leaf->end) - 1;
}

bool leaf_alike(const struct imap_leaf *leaf, const struct imap_entry *entry)
{
	const struct shared *s = &leaf->shared;

	return info_fits(s, entry->info) &&
	       (leaf->kind == LEAF_PACKED ? packed_fits(s, entry) : run_slot(s, entry) < RUN_MAX);
}

int leaf_put(struct imap_leaf *leaf, unsigned at, const struct imap_entry *entry)
{
	unsigned slot = 0, which;

	if (leaf->kind == LEAF_WIDE) {
		if (leaf->n == LEAF_MAX)
			return -1;
		memmove(&leaf->entry[at + 1], &leaf->entry[at], (leaf->n - at) * sizeof(*entry));
		leaf->entry[at] = *entry;
		leaf->end = ++leaf->n;
		return (int)at;
	}
	if (leaf->kind == LEAF_RUN) {
		slot = run_slot(&leaf->shared, entry);
		if (slot == RUN_MAX)
			return -1;
	} else if (leaf->n == PACKED_MAX || !packed_fits(&leaf->shared, entry)) {
		return -1;
	}
	which = info_choose(&leaf->shared, entry->info);
	if (which == INFOS)
		return -1;
	if (leaf->kind == LEAF_RUN)
		run_put(leaf, slot, which);
	else
		slot = packed_put(leaf, at, entry, which);
	return (int)slot;
}

void leaf_remove(struct imap_leaf *leaf, unsigned i)
{
	struct shared *s = &leaf->shared;

	if (leaf->kind == LEAF_WIDE) {
		memmove(&leaf->entry[i], &leaf->entry[i + 1],
			(leaf->end - i - 1) * sizeof(leaf->entry[0]));
		leaf->end = --leaf->n;
	} else if (leaf->kind == LEAF_PACKED) {
		s->users[s->packed.value[i] & 3]--;
		bit_put(s->packed.present, i, false);
		slot_emptied(leaf, i);
	} else {
		s->users[bit_get(s->run.which[0], i) | bit_get(s->run.which[1], i) << 1]--;
		bit_put(s->run.present, i, false);
		slot_emptied(leaf, i);
	}
}

/* All but the links. */
static void take_body(struct imap_leaf *leaf, const struct imap_leaf *from)
{
	struct imap_leaf *next = leaf->next, *prev = leaf->prev;

	*leaf = *from;
	leaf->next = next;
	leaf->prev = prev;
}

/* Put all entries of a leaf behind those of another; false: something didn't fit. */
static bool append(struct imap_leaf *to, const struct imap_leaf *from)
{
	struct imap_entry entry;

	for (unsigned i = from->begin; from->n; i = leaf_above(from, i)) {
		leaf_get(from, i, &entry);
		if (leaf_put(to, to->end, &entry) < 0)
			return false;
		if (i + 1u == from->end)
			break;
	}
	return true;
}

/* The run that a packed leaf and one more entry, which is not before them, would make. Its stride
 * is that of the first two, so one entry alone makes none. */
static bool run_start(struct imap_leaf *run, const struct imap_leaf *leaf,
		      const struct imap_entry *entry)
{
	struct shared *s = &run->shared;
	struct imap_entry a, b;
	uint64_t slots;

	if (leaf->n < 2)
		return false;
	leaf_get(leaf, leaf->begin, &a);
	leaf_get(leaf, leaf_above(leaf, leaf->begin), &b);
	run->kind = LEAF_RUN;
	run->n = run->begin = run->end = 0;
	s->first = a.range.first;
	s->value = a.value;
	s->span = leaf->shared.span;
	s->tag = leaf->shared.tag;
	if (!is_pow2(s->span + 1) || ((b.range.first - a.range.first) & s->span) ||
	    entry->range.first < a.range.first)
		return false;
	slots = (b.range.first - a.range.first) >> run_shift(s);
	/* Values that fall have a stride that falls, modulo 2^64. */
	s->stride = (uint64_t)((int64_t)(b.value - a.value) / (int64_t)slots);
	memset(s->users, 0, sizeof(s->users));
	memset(&s->run, 0, sizeof(s->run));
	return true;
}

bool leaf_pack(struct imap_leaf *leaf, unsigned at, const struct imap_entry *entry)
{
	struct imap_leaf tight;

	if (leaf->kind == LEAF_WIDE)
		packed_start(&tight, &leaf->entry[0]);
	else if (leaf->kind == LEAF_RUN || !run_start(&tight, leaf, entry))
		return false;
	if (!append(&tight, leaf) || leaf_put(&tight, at, entry) < 0)
		return false;
	take_body(leaf, &tight);
	return true;
}

void leaf_unpack(struct imap_leaf *leaf)
{
	struct imap_leaf wide = {.kind = LEAF_WIDE};

	append(&wide, leaf);
	take_body(leaf, &wide);
}

/* An empty leaf of the same kind, or a wide one. */
static void start_like(struct imap_leaf *leaf, const struct imap_leaf *model)
{
	take_body(leaf, model);
	leaf->n = leaf->begin = leaf->end = 0;
	if (leaf->kind != LEAF_WIDE)
		memset(leaf->shared.users, 0, sizeof(leaf->shared.users));
	if (leaf->kind == LEAF_RUN)
		memset(&leaf->shared.run, 0, sizeof(leaf->shared.run));
	if (leaf->kind == LEAF_PACKED)
		memset(leaf->shared.packed.present, 0, sizeof(leaf->shared.packed.present));
}

/* Infos that were given without a free one being left are no reason not to move an entry. */
static void move_entry(struct imap_leaf *to, const struct imap_leaf *from, unsigned i)
{
	struct imap_entry entry;

	leaf_get(from, i, &entry);
	if (to->kind == LEAF_WIDE)
		leaf_put(to, to->end, &entry);
	else if (to->kind == LEAF_PACKED)
		packed_put(to, to->end, &entry, info_place(&to->shared, entry.info));
	else
		run_put(to, i, info_place(&to->shared, entry.info));
}

void leaf_part(struct imap_leaf *leaf, struct imap_leaf *right, unsigned at)
{
	struct imap_leaf left;

	left.next = left.prev = NULL;
	start_like(&left, leaf);
	start_like(right, leaf);
	for (unsigned i = leaf->begin;; i = leaf_above(leaf, i)) {
		move_entry(i < at ? &left : right, leaf, i);
		if (i + 1u == leaf->end)
			break;
	}
	/* Both have room then, and wherever they get more there is an empty slot not far. */
	if (leaf->kind == LEAF_PACKED) {
		packed_spread(&left);
		packed_spread(right);
	}
	take_body(leaf, &left);
	if (!leaf->n)
		leaf->kind = LEAF_WIDE;
	if (!right->n)
		right->kind = LEAF_WIDE;
}

bool leaf_join(struct imap_leaf *a, const struct imap_leaf *b)
{
	struct imap_leaf both;
	struct imap_entry entry;

	if (a->kind == LEAF_RUN || b->kind == LEAF_RUN || a->n + b->n > PACKED_MAX * 7 / 8)
		return false;
	if (a->kind == LEAF_WIDE && b->kind == LEAF_WIDE) {
		if (a->n + b->n > LEAF_MAX)
			return false;
		append(a, b);
		return true;
	}
	/* Mostly one look tells. */
	leaf_get(a->kind == LEAF_PACKED ? b : a, a->kind == LEAF_PACKED ? b->begin : a->begin,
		 &entry);
	if (!leaf_alike(a->kind == LEAF_PACKED ? a : b, &entry))
		return false;
	both.next = both.prev = NULL;
	start_like(&both, a->kind == LEAF_PACKED ? a : b);
	if (!append(&both, a) || !append(&both, b))
		return false;
	packed_spread(&both);
	take_body(a, &both);
	return true;
}

bool leaf_all(const struct imap_leaf *leaf, uint64_t mask, uint64_t info)
{
	for (unsigned i = 0; leaf->kind == LEAF_WIDE && i < leaf->n; i++)
		if ((leaf->entry[i].info & mask) != info)
			return false;
	for (unsigned k = 0; leaf->kind != LEAF_WIDE && k < INFOS; k++)
		if (leaf->shared.users[k] && (leaf->shared.info[k] & mask) != info)
			return false;
	return true;
}

uint64_t leaf_bytes(const struct imap_leaf *leaf)
{
	uint64_t bytes = 0;

	if (leaf->kind != LEAF_WIDE)
		return leaf->n * (leaf->shared.span + 1);
	for (unsigned i = 0; i < leaf->n; i++)
		bytes = add_sat(bytes, range_length(leaf->entry[i].range));
	return bytes;
}

/* ---- changing infos ---- */

bool imap_can_set(const struct imap_pos *pos, uint64_t bits)
{
	const struct shared *s = &pos->leaf->shared;
	unsigned wanted = 0;

	/* No more than are in use, which is mostly one. */
	if (pos->leaf->kind == LEAF_WIDE || infos_free(s) >= INFOS / 2)
		return true;
	for (unsigned k = 0; k < INFOS; k++)
		wanted += s->users[k] && info_find(s, s->info[k] | bits) == INFOS;
	return wanted <= infos_free(s);
}

void imap_set(struct imap_pos *pos, uint64_t bits)
{
	struct shared *s = &pos->leaf->shared;
	unsigned i = pos->index, from, to;

	pos->entry.info |= bits;
	if (pos->leaf->kind == LEAF_WIDE) {
		pos->leaf->entry[i].info = pos->entry.info;
		return;
	}
	if (pos->leaf->kind == LEAF_PACKED)
		from = s->packed.value[i] & 3;
	else
		from = bit_get(s->run.which[0], i) | bit_get(s->run.which[1], i) << 1;
	to = info_take(s, pos->entry.info);
	s->users[from]--;
	if (pos->leaf->kind == LEAF_PACKED) {
		s->packed.value[i] = (s->packed.value[i] & ~UINT32_C(3)) | to;
	} else {
		bit_put(s->run.which[0], i, to & 1);
		bit_put(s->run.which[1], i, to & 2);
	}
}
