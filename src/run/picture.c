/* SPDX-License-Identifier: MIT */
/*
 * Owns the drawing of an address space. 2^64 bytes and a 4 KiB page can't share a linear scale that
 * anyone can read, so the space is cut into rows of one kind each, in order, and a row's bar is as
 * long as the logarithm of its size. Mapped ranges are joined over the smallest gap first until
 * there are few enough rows. A picture owns no memory and refers to none. Nothing can fail.
 */
#include <stdio.h>
#include <string.h>

#include "run/picture.h"
#include "util/range.h"

/* A column for each factor of eight, from one page to the whole space. */
#define DOUBLINGS_PER_COLUMN 3
#define BAR_COLUMNS	     (1 + 52 / DOUBLINGS_PER_COLUMN)

const char *picture_size(uint64_t bytes, char *buf)
{
	static const char units[] = "BKMGTPE";
	uint64_t whole = bytes, tenths = 0;
	unsigned unit = 0;

	while (whole >= 1024) {
		tenths = (whole & 1023) * 10 / 1024;
		whole >>= 10;
		unit++;
	}
	if (!unit)
		snprintf(buf, 16, "%u B", (unsigned)whole);
	else
		snprintf(buf, 16, "%u.%u %ciB", (unsigned)whole, (unsigned)tenths, units[unit]);
	return buf;
}

/* ---- taking it ----------------------------------------------------------------------------- */

/* Merge row @i + 1 into row @i. */
static void join(struct picture *picture, unsigned i)
{
	struct picture_row *row = &picture->rows[i];

	row->range.last = row[1].range.last;
	row->areas += row[1].areas;
	row->bytes = add_sat(row->bytes, row[1].bytes);
	memmove(&row[1], &row[2], (picture->count - i - 2) * sizeof(*row));
	picture->count--;
	picture->mapped--;
}

static bool joinable(const struct picture *picture, unsigned i)
{
	return picture->rows[i].kind == PICTURE_MAPPED &&
	       picture->rows[i + 1].kind == PICTURE_MAPPED;
}

static uint64_t gap_after(const struct picture *picture, unsigned i)
{
	return picture->rows[i + 1].range.first - picture->rows[i].range.last - 1;
}

/* Join the two neighbours with the smallest gap, if there are neighbours at all. */
static void join_closest(struct picture *picture)
{
	unsigned best = picture->count;

	for (unsigned i = 0; i + 1 < picture->count; i++)
		if (joinable(picture, i) &&
		    (best == picture->count || gap_after(picture, i) < gap_after(picture, best)))
			best = i;
	if (best < picture->count)
		join(picture, best);
}

static void add_mapped(struct picture *picture, const struct uiommu_area *area)
{
	struct picture_row *row = &picture->rows[picture->count++];

	*row = (struct picture_row){.range = area->range,
				    .kind = PICTURE_MAPPED,
				    .areas = 1,
				    .addr = area->addr,
				    .bytes = range_length(area->range)};
	if ((area->prot & UIOMMU_MMIO) && picture->doorbells < PICTURE_DOORBELL_ROWS) {
		row->kind = PICTURE_DOORBELL;
		picture->doorbells++;
		return;
	}
	picture->mapped++;
	picture->areas++;
	picture->bytes = add_sat(picture->bytes, row->bytes);
	if (picture->count > 1 && joinable(picture, picture->count - 2) &&
	    !gap_after(picture, picture->count - 2))
		join(picture, picture->count - 2);
	else if (picture->mapped > PICTURE_MAPPED_ROWS)
		join_closest(picture);
}

static const char *why_reserved(const struct uiommu_reserved *reserved)
{
	return reserved->type == UIOMMU_RESV_APERTURE ? "outside"
						      : uiommu_resv_name(reserved->type);
}

/* Several devices may reserve the same range. */
static void add_reserved(struct picture *picture, const struct uiommu_reserved *reserved)
{
	struct picture_row *row = &picture->rows[picture->count];

	for (unsigned i = 0; i < picture->count; i++)
		if (picture->rows[i].kind == PICTURE_RESERVED &&
		    range_contains(picture->rows[i].range, reserved->range))
			return;
	picture->count++;
	*row = (struct picture_row){.range = reserved->range,
				    .kind = PICTURE_RESERVED,
				    .outside = reserved->type == UIOMMU_RESV_APERTURE,
				    .why = why_reserved(reserved)};
}

void picture_add_doorbell(struct picture *picture, struct uiommu_range range, uint64_t addr)
{
	unsigned at = 0, more;
	struct picture_row old;

	while (at < picture->count && !range_contains(picture->rows[at].range, range))
		at++;
	if (at == picture->count || picture->doorbells >= PICTURE_DOORBELL_ROWS)
		return;
	picture->doorbells++;
	old = picture->rows[at];
	more = (old.range.first < range.first) + (old.range.last > range.last);
	memmove(&picture->rows[at + 1 + more], &picture->rows[at + 1],
		(picture->count - at - 1) * sizeof(old));
	picture->count += more;
	if (old.range.first < range.first) {
		picture->rows[at] = old;
		picture->rows[at++].range.last = range.first - 1;
	}
	picture->rows[at] = (struct picture_row){
		.range = range, .kind = PICTURE_DOORBELL, .addr = addr, .areas = 1};
	picture->rows[at].outside = old.outside;
	if (old.range.last > range.last) {
		picture->rows[at + 1] = old;
		picture->rows[at + 1].range.first = range.last + 1;
	}
}

static void add_doorbells(struct picture *picture, struct uiommu_ioas *ioas)
{
	struct uiommu_doorbell_mapping list[PICTURE_DOORBELL_ROWS];
	size_t count = PICTURE_DOORBELL_ROWS;

	(void)uiommu_ioas_doorbells(ioas, list, &count);
	for (size_t i = 0; i < count && i < PICTURE_DOORBELL_ROWS; i++)
		picture_add_doorbell(picture,
				     (struct uiommu_range){list[i].iova, list[i].iova + 4095},
				     list[i].addr);
}

/* Put free rows where nothing is. */
static void fill_gaps(struct picture *picture)
{
	uint64_t next = 0;
	bool open = true;

	for (unsigned i = 0; open && i <= picture->count; i++) {
		bool end = i == picture->count;
		struct picture_row *row = &picture->rows[i];
		struct uiommu_range gap = {next, end ? UINT64_MAX : row->range.first - 1};

		if (end || row->range.first > next) {
			memmove(row + 1, row, (picture->count - i) * sizeof(*row));
			*row = (struct picture_row){.range = gap, .kind = PICTURE_FREE};
			picture->count++;
		}
		if (row->range.last >= next)
			next = row->range.last + 1;
		open = next != 0;
	}
}

void picture_take(struct uiommu_ioas *ioas, struct picture *picture)
{
	struct uiommu_reserved reserved[PICTURE_RESERVED_ROWS];
	size_t count = PICTURE_RESERVED_ROWS, at = 0;
	struct uiommu_area area;
	uint64_t iova = 0;
	bool more;

	memset(picture, 0, sizeof(*picture));
	(void)uiommu_ioas_reserved(ioas, reserved, &count);
	if (count > PICTURE_RESERVED_ROWS)
		count = PICTURE_RESERVED_ROWS;
	do {
		more = !uiommu_ioas_find(ioas, iova, &area);
		for (; at < count && (!more || reserved[at].range.first < area.range.first); at++)
			add_reserved(picture, &reserved[at]);
		if (more)
			add_mapped(picture, &area);
		iova = area.range.last + 1;
	} while (more && iova);
	for (; at < count; at++)
		add_reserved(picture, &reserved[at]);
	fill_gaps(picture);
	add_doorbells(picture, ioas);
}

/* ---- drawing it ---------------------------------------------------------------------------- */

unsigned picture_columns(uint64_t bytes)
{
	unsigned doublings = bytes <= 4096 ? 0 : 63 - 12 - (unsigned)__builtin_clzll(bytes);

	return 1 + doublings / DOUBLINGS_PER_COLUMN;
}

/* ", windows 0-3" */
static void note_windows(const struct picture *picture, const struct picture_row *row, char *note,
			 size_t len)
{
	uint64_t first, last;

	if (!picture->window || !range_contains(picture->aperture, row->range))
		return;
	first = (row->range.first - picture->aperture.first) / picture->window;
	last = (row->range.last - picture->aperture.first) / picture->window;
	if (first == last)
		snprintf(note, len, ", window %llu", (unsigned long long)first);
	else
		snprintf(note, len, ", windows %llu-%llu", (unsigned long long)first,
			 (unsigned long long)last);
}

/* The first words, for where there is little room. */
static int note_short(const struct picture_row *row, char *note, size_t len)
{
	if (row->kind == PICTURE_FREE)
		return snprintf(note, len, "free");
	if (row->kind == PICTURE_RESERVED)
		return snprintf(note, len, "%s", row->why);
	if (row->kind == PICTURE_DOORBELL)
		return snprintf(note, len, "doorbell");
	if (row->bytes == range_length(row->range))
		return snprintf(note, len, "%llu map%s", (unsigned long long)row->areas,
				row->areas == 1 ? "" : "s");
	return snprintf(note, len, "%llu in parts", (unsigned long long)row->areas);
}

void picture_note(const struct picture *picture, const struct picture_row *row,
		  const struct picture_style *style, char *note, size_t len)
{
	const char *name = style->name ? style->name(style->ctx, row) : NULL;
	size_t used = (size_t)note_short(row, note, len);

	if (name && used < len)
		used += (size_t)snprintf(note + used, len - used, ": %s", name);
	if (row->kind == PICTURE_DOORBELL && row->addr != row->range.first && used < len)
		used += (size_t)snprintf(note + used, len - used, " -> 0x%llx",
					 (unsigned long long)row->addr);
	if (used < len)
		note_windows(picture, row, note + used, len - used);
}

static void draw_row(const struct picture *picture, const struct picture_row *row,
		     const struct picture_style *style, char *text, size_t len)
{
	static const char fill[PICTURE_KINDS] = {'.', '#', 'x', '!'};
	static const char *const paint[PICTURE_KINDS] = {"\033[2m", "\033[32m", "\033[31m",
							 "\033[33m"};
	uint64_t bytes = range_length(row->range);
	char bar[BAR_COLUMNS + 1], size[16], note[PICTURE_NOTE];

	memset(bar, ' ', BAR_COLUMNS);
	memset(bar, fill[row->kind], picture_columns(bytes));
	bar[BAR_COLUMNS] = '\0';
	if (style->wide)
		picture_note(picture, row, style, note, sizeof(note));
	else
		note_short(row, note, 16);
	snprintf(text, len, "%16llx %16llx %10s %s%s%s %s", (unsigned long long)row->range.first,
		 (unsigned long long)row->range.last, picture_size(bytes, size),
		 style->colour ? paint[row->kind] : "", bar, style->colour ? "\033[0m" : "", note);
}

void picture_draw(const struct picture *picture, const struct picture_style *style,
		  void (*line)(void *ctx, const char *text), void *ctx)
{
	char text[80 + PICTURE_NOTE];

	snprintf(text, sizeof(text), "%16s %16s %10s %s", "first", "last", "size",
		 picture->doorbells ? "# map x reserved . free ! doorbell"
				    : "# mapped  x reserved  . free");
	line(ctx, text);
	for (unsigned i = 0; i < picture->count; i++) {
		draw_row(picture, &picture->rows[i], style, text, sizeof(text));
		line(ctx, text);
	}
}
