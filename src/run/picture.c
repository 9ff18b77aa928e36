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
				    .bytes = range_length(area->range)};
	picture->mapped++;
	picture->areas++;
	picture->bytes = add_sat(picture->bytes, row->bytes);
	if (picture->count > 1 && joinable(picture, picture->count - 2) &&
	    !gap_after(picture, picture->count - 2))
		join(picture, picture->count - 2);
	else if (picture->mapped > PICTURE_MAPPED_ROWS)
		join_closest(picture);
}

/* Several devices may reserve the same range. */
static void add_reserved(struct picture *picture, const struct uiommu_reserved *reserved)
{
	for (unsigned i = 0; i < picture->count; i++)
		if (picture->rows[i].kind == PICTURE_RESERVED &&
		    range_contains(picture->rows[i].range, reserved->range))
			return;
	picture->rows[picture->count++] = (struct picture_row){
		.range = reserved->range,
		.kind = PICTURE_RESERVED,
		.why = reserved->type == UIOMMU_RESV_APERTURE ? "too wide"
							      : uiommu_resv_name(reserved->type),
	};
}

/* Put free rows where nothing is. */
static void fill_gaps(struct picture *picture)
{
	struct picture full = {
		.mapped = picture->mapped, .areas = picture->areas, .bytes = picture->bytes};
	uint64_t next = 0;
	bool open = true;

	for (unsigned i = 0; i < picture->count && open; i++) {
		const struct picture_row *row = &picture->rows[i];

		if (row->range.first > next)
			full.rows[full.count++] = (struct picture_row){
				.range = {next, row->range.first - 1}, .kind = PICTURE_FREE};
		full.rows[full.count++] = *row;
		if (row->range.last >= next)
			next = row->range.last + 1;
		open = next != 0;
	}
	if (open)
		full.rows[full.count++] =
			(struct picture_row){.range = {next, UINT64_MAX}, .kind = PICTURE_FREE};
	*picture = full;
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
}

/* ---- drawing it ---------------------------------------------------------------------------- */

static unsigned columns_of(uint64_t bytes)
{
	unsigned doublings = bytes <= 4096 ? 0 : 63 - 12 - (unsigned)__builtin_clzll(bytes);

	return 1 + doublings / DOUBLINGS_PER_COLUMN;
}

static void note_of(const struct picture_row *row, char *note, size_t len)
{
	if (row->kind == PICTURE_FREE)
		snprintf(note, len, "free");
	else if (row->kind == PICTURE_RESERVED)
		snprintf(note, len, "%s", row->why);
	else if (row->bytes == range_length(row->range))
		snprintf(note, len, "%llu map%s", (unsigned long long)row->areas,
			 row->areas == 1 ? "" : "s");
	else
		snprintf(note, len, "%llu in parts", (unsigned long long)row->areas);
}

static void draw_row(const struct picture_row *row, bool colour, char *text, size_t len)
{
	static const char fill[] = {'.', '#', 'x'};
	static const char *const paint[] = {"\033[2m", "\033[32m", "\033[31m"};
	uint64_t bytes = range_length(row->range);
	unsigned columns = columns_of(bytes);
	char bar[BAR_COLUMNS + 1], size[16], note[16];

	memset(bar, ' ', BAR_COLUMNS);
	memset(bar, fill[row->kind], columns);
	bar[BAR_COLUMNS] = '\0';
	note_of(row, note, sizeof(note));
	snprintf(text, len, "%16llx %16llx %10s %s%s%s %s", (unsigned long long)row->range.first,
		 (unsigned long long)row->range.last, picture_size(bytes, size),
		 colour ? paint[row->kind] : "", bar, colour ? "\033[0m" : "", note);
}

void picture_draw(const struct picture *picture, bool colour,
		  void (*line)(void *ctx, const char *text), void *ctx)
{
	char text[128];

	snprintf(text, sizeof(text), "%16s %16s %10s %s", "first", "last", "size",
		 "# mapped  x reserved  . free");
	line(ctx, text);
	for (unsigned i = 0; i < picture->count; i++) {
		draw_row(&picture->rows[i], colour, text, sizeof(text));
		line(ctx, text);
	}
}
