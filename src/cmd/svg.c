/* SPDX-License-Identifier: MIT */
/*
 * Owns the drawing of an address space as SVG: one block for each row of the picture, low addresses
 * on top, as high as the logarithm of its size; the names beside it; an arrow to what stands behind
 * the translation of a doorbell. The drawing has a background and inks of its own for light and for
 * dark surroundings, so it can be read on any page.
 */
#include "cmd/svg.h"

#include <errno.h>
#include <string.h>

#include "cmd/cmd.h"
#include "util/range.h"

#define WIDTH	     980
#define TOP	     84
#define BLOCK_X	     230
#define BLOCK_WIDTH  240
#define NOTE_X	     (BLOCK_X + BLOCK_WIDTH + 14)
#define TARGET_X     660
#define TARGET_WIDTH 300
#define LEAST_HEIGHT 26
#define STEP_HEIGHT  5
#define MOST_TICKS   32
#define TICK	     24

struct drawing {
	FILE *file;
	const struct picture *picture;
	const struct picture_style *style;
	const struct svg_text *text;
	int y[PICTURE_ROWS + 1]; /* of each row's top */
};

static const char *const classes[PICTURE_KINDS] = {"free", "mapped", "reserved", "doorbell"};

static const char sheet[] =
	"<style>\n"
	"text{font-family:'DejaVu Sans',Verdana,sans-serif;font-size:13px;fill:#1f2328}\n"
	".address{font-family:'DejaVu Sans Mono',Menlo,monospace;font-size:12px;fill:#57606a}\n"
	".title{font-size:18px;font-weight:bold}.small{font-size:12px;fill:#57606a}\n"
	".page{fill:#ffffff}.line{stroke:#57606a;fill:none}\n"
	".block{stroke:#57606a;stroke-width:1}.free{fill:#f1f3f5}.mapped{fill:#a6d8b1}\n"
	".reserved{fill:#f4b6b2}.doorbell{fill:#ffd978}.outside{fill:#c9ced4}\n"
	"@media (prefers-color-scheme:dark){text{fill:#e6edf3}.address,.small{fill:#9da7b3}\n"
	".page{fill:#0d1117}.line,.block{stroke:#9da7b3}.free{fill:#21262d}\n"
	".mapped{fill:#1f6f3a}.reserved{fill:#8e2f2a}.doorbell{fill:#8a6a12}"
	".outside{fill:#484f58}}\n"
	"</style>\n";

static void put_escaped(FILE *file, const char *text)
{
	for (; *text; text++)
		if (*text == '<')
			fputs("&lt;", file);
		else if (*text == '&')
			fputs("&amp;", file);
		else if ((unsigned char)*text >= ' ')
			fputc(*text, file);
}

static void put_text(const struct drawing *d, int x, int y, const char *class, const char *anchor,
		     const char *text)
{
	fprintf(d->file, "<text x=\"%d\" y=\"%d\" class=\"%s\" text-anchor=\"%s\">", x, y, class,
		anchor);
	put_escaped(d->file, text);
	fputs("</text>\n", d->file);
}

static const char *class_of(const struct picture_row *row)
{
	return row->outside && row->kind != PICTURE_DOORBELL ? "outside" : classes[row->kind];
}

static int height_of(const struct picture_row *row)
{
	return LEAST_HEIGHT + STEP_HEIGHT * (int)(picture_columns(range_length(row->range)) - 1);
}

/* ---- rows ---- */

/* Where one window ends and the next begins, if there are few enough to tell apart. */
static void draw_ticks(const struct drawing *d, const struct picture_row *row, int y, int height)
{
	uint64_t window = d->picture->window, count;

	if (!window || !range_contains(d->picture->aperture, row->range))
		return;
	count = (row->range.last - row->range.first) / window + 1;
	if (count > MOST_TICKS)
		return;
	for (uint64_t i = 1; i < count; i++)
		fprintf(d->file, "<path class=\"line\" d=\"M%d %dh%dm%d 0h%d\"/>\n", BLOCK_X,
			y + (int)(i * (uint64_t)height / count), TICK, BLOCK_WIDTH - 2 * TICK,
			TICK);
}

/* The window that a doorbell stands in, or -1. */
static int doorbell_window(const struct drawing *d, const struct picture_row *row)
{
	const struct picture *picture = d->picture;

	if (!picture->window || !range_contains(picture->aperture, row->range))
		return -1;
	return (int)((row->range.first - picture->aperture.first) / picture->window);
}

/* What a doorbell's page translates to. */
static void draw_target(const struct drawing *d, const struct picture_row *row, int y)
{
	const char *name = d->style->name ? d->style->name(d->style->ctx, row) : NULL;
	int middle = y + LEAST_HEIGHT / 2;
	char label[PICTURE_NOTE];
	int window;

	fprintf(d->file,
		"<path class=\"line\" d=\"M%d %dH%dm-8 -4l8 4l-8 4\"/>\n"
		"<rect class=\"block doorbell\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" "
		"rx=\"3\"/>\n",
		BLOCK_X + BLOCK_WIDTH, middle, TARGET_X, TARGET_X, y + 2, TARGET_WIDTH,
		LEAST_HEIGHT - 4);
	snprintf(label, sizeof(label), "%s at 0x%llx", name ? name : "doorbell",
		 (unsigned long long)row->addr);
	put_text(d, TARGET_X + 8, middle + 4, "", "start", label);
	window = doorbell_window(d, row);
	if (window < 0)
		snprintf(label, sizeof(label), "doorbell");
	else
		snprintf(label, sizeof(label), "doorbell, window %d", window);
	put_text(d, NOTE_X, middle - 4, "small", "start", label);
}

static void draw_row(const struct drawing *d, unsigned i)
{
	const struct picture_row *row = &d->picture->rows[i];
	int y = d->y[i], height = d->y[i + 1] - y;
	char text[PICTURE_NOTE];

	fprintf(d->file,
		"<rect class=\"block %s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n",
		class_of(row), BLOCK_X, y, BLOCK_WIDTH, height);
	draw_ticks(d, row, y, height);
	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)row->range.first);
	put_text(d, BLOCK_X - 10, y + 12, "address", "end", text);
	put_text(d, BLOCK_X + BLOCK_WIDTH / 2, y + height / 2 + 5, "", "middle",
		 picture_size(range_length(row->range), text));
	if (row->kind == PICTURE_DOORBELL && row->addr != row->range.first) {
		draw_target(d, row, y);
		return;
	}
	picture_note(d->picture, row, d->style, text, sizeof(text));
	put_text(d, NOTE_X, y + height / 2 + 5, "", "start", text);
}

/* A bracket along each run of rows that are translated. */
static void draw_brackets(const struct drawing *d)
{
	const struct picture *picture = d->picture;
	unsigned end;

	for (unsigned i = 0; i < picture->count; i = end + 1) {
		int top, bottom;

		for (end = i; end < picture->count && !picture->rows[end].outside;)
			end++;
		if (end == i)
			continue;
		top = d->y[i] + 1;
		bottom = d->y[end] - 1;
		fprintf(d->file, "<path class=\"line\" d=\"M52 %dh-8V%dh8\"/>\n", top, bottom);
		fprintf(d->file,
			"<text class=\"small\" text-anchor=\"middle\" "
			"transform=\"translate(36 %d) rotate(-90)\">",
			(top + bottom) / 2);
		put_escaped(d->file, d->text->bracket);
		fputs("</text>\n", d->file);
	}
}

/* ---- the rest ---- */

static void draw_legend(const struct drawing *d, int y)
{
	static const struct {
		const char *class, *words;
	} legend[] = {
		{"mapped", "mapped"},	  {"free", "free to map"},	 {"reserved", "reserved"},
		{"doorbell", "doorbell"}, {"outside", "not translated"},
	};
	int x = BLOCK_X;

	for (size_t i = 0; i < sizeof(legend) / sizeof(legend[0]); i++) {
		fprintf(d->file,
			"<rect class=\"block %s\" x=\"%d\" y=\"%d\" width=\"14\" height=\"14\"/>\n",
			legend[i].class, x, y);
		put_text(d, x + 20, y + 12, "", "start", legend[i].words);
		x += 130;
	}
	put_text(d, BLOCK_X, y + 36, "small", "start",
		 "Low addresses are on top. A block grows by a step for each factor of eight in "
		 "size.");
}

static void draw(struct drawing *d)
{
	const struct picture *picture = d->picture;
	int y = TOP, height;

	for (unsigned i = 0; i < picture->count; i++) {
		d->y[i] = y;
		y += height_of(&picture->rows[i]);
	}
	d->y[picture->count] = y;
	height = y + 84;
	fprintf(d->file,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"viewBox=\"0 0 %d %d\" role=\"img\">\n<title>",
		WIDTH, height, WIDTH, height);
	put_escaped(d->file, d->text->title);
	fprintf(d->file, "</title>\n%s<rect class=\"page\" width=\"%d\" height=\"%d\"/>\n", sheet,
		WIDTH, height);
	put_text(d, 24, 32, "title", "start", d->text->title);
	put_text(d, 24, 56, "small", "start", d->text->subtitle);
	for (unsigned i = 0; i < picture->count; i++)
		draw_row(d, i);
	put_text(d, BLOCK_X - 10, y - 3, "address", "end", "0xffffffffffffffff");
	draw_brackets(d);
	draw_legend(d, y + 22);
	fputs("</svg>\n", d->file);
}

int svg_write(const char *name, const struct picture *picture, const struct picture_style *style,
	      const struct svg_text *text)
{
	struct drawing d = {
		.file = fopen(name, "w"), .picture = picture, .style = style, .text = text};
	bool failed;

	if (!d.file) {
		complain("%s: %s", name, strerror(errno));
		return 1;
	}
	draw(&d);
	failed = ferror(d.file);
	failed |= fclose(d.file) != 0;
	if (failed)
		complain("%s: %s", name, strerror(errno));
	return failed;
}
