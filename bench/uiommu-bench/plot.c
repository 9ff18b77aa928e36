/* SPDX-License-Identifier: MIT */
/*
 * plot - growth curves as an SVG: cost against live mappings, both logarithmic.
 */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LEFT = 70, TOP = 30, WIDE = 460, HIGH = 320 };

static double x_of(double live)
{
	return LEFT + WIDE * (log10(live) - 4) / 3;
}

static double y_of(double ns)
{
	return TOP + HIGH * (1 - log10(ns < 1 ? 1 : ns) / 5);
}

static void axes(FILE *out)
{
	static const char *const lives[] = {"10k", "100k", "1M", "10M"};

	for (int i = 0; i < 4; i++)
		fprintf(out, "<text x='%.0f' y='%d' text-anchor='middle'>%s</text>\n",
			x_of(pow(10, 4 + i)), TOP + HIGH + 20, lives[i]);
	for (int i = 0; i <= 5; i++)
		fprintf(out,
			"<path d='M%d %.1fh%d' stroke='#ddd'/>"
			"<text x='%d' y='%.1f' text-anchor='end'>%.0f ns</text>\n",
			LEFT, y_of(pow(10, i)), WIDE, LEFT - 6, y_of(pow(10, i)) + 4, pow(10, i));
}

/* Is this a work whose name begins so and then says no more than how many are live? */
static bool of_curve(const struct work *w, const char *begin)
{
	const char *comma;

	if (strncmp(w->name, begin, strlen(begin)) || !w->live)
		return false;
	comma = strchr(w->name + strlen(begin), ',');
	return comma && !strchr(comma + 1, ',');
}

int plot_write(const char *file)
{
	static const struct {
		const char *begin, *colour;
	} curves[] = {
		{"ours: map + unmap, random hole", "#c33"},
		{"ours: random hole, batches", "#36c"},
		{"ours: translate, random", "#393"},
		{"ours: translate, random, 64 in a call", "#3c3"},
		{"limit: plain table, random hole", "#96c"},
		{"limit: plain table, find", "#69c"},
		{"peer: GTree, random hole", "#999"},
		{"peer: GTree, find", "#777"},
		{"peer: Judy, random hole", "#c93"},
		{"peer: Judy, find", "#963"},
		{"peer: liburcu hash, random hole", "#3aa"},
		{"peer: liburcu hash, find", "#377"},
		{"peer: DPDK, find", "#c6a"},
	};
	FILE *out = fopen(file, "w");
	int key = 0;

	if (!out) {
		perror(file);
		return 1;
	}
	fprintf(out,
		"<svg xmlns='http://www.w3.org/2000/svg' width='830' height='400' "
		"font-family='sans-serif' font-size='12'>\n<text x='%d' y='18'>cost against live "
		"mappings</text>\n",
		LEFT);
	axes(out);
	for (size_t c = 0; c < sizeof(curves) / sizeof(curves[0]); c++) {
		bool any = false;

		for (size_t i = 0; i < work_count; i++) {
			const struct work *w = &works[i];

			if (!of_curve(w, curves[c].begin))
				continue;
			fprintf(out, any ? " %.1f,%.1f" : "<polyline points='%.1f,%.1f",
				x_of((double)w->live), y_of(work_median(w)));
			any = true;
		}
		if (!any)
			continue;
		fprintf(out, "' fill='none' stroke='%s' stroke-width='2'/>\n", curves[c].colour);
		fprintf(out, "<text x='%d' y='%d' fill='%s'>%s</text>\n", LEFT + WIDE + 15,
			TOP + 20 * ++key, curves[c].colour, curves[c].begin);
	}
	fprintf(out, "</svg>\n");
	return fclose(out) ? 1 : 0;
}
