/* SPDX-License-Identifier: MIT */
/*
 * report - the results as text, as a table of targets, as JSON.
 */
#include "bench.h"

#include <jansson.h>
#include <stdio.h>

static const char *unit_of(const struct work *w)
{
	return w->unit ? w->unit : "ns";
}

void report_table(void)
{
	printf("seed %llu, median of %d interleaved rounds (fewer for what takes long)\n",
	       (unsigned long long)settings.seed, settings.rounds);
	for (size_t i = 0; i < work_count; i++)
		printf("%-50s %10.1f %s\n", works[i].name, work_median(&works[i]),
		       unit_of(&works[i]));
}

/* What is aimed at: an absolute number, or @times what @limit takes. */
void report_targets(void)
{
	static const struct {
		const char *work, *limit;
		double target;
	} targets[] = {
		{"ours: random hole, batches of 256, 1M live", NULL, 250},
		{"ours: the same, in batches of 256, 100k live", NULL, 60},
		{"ours: 2 MiB as 512 entries, an entry", NULL, 1.0},
		{"ours: translate, local, 64 B steps", NULL, 1.3},
		{"ours: translate, local, 4 KiB steps", NULL, 2.0},
		{"ours: translate, random, 1M live", NULL, 22},
		{"ours: reader beside a writer, 1M live", NULL, 28},
		{"ours: two readers together, 1M live", "ours: translate, random, 1M live",
		 1 / 1.9},
		{"ours: unmap all of 1M, each", NULL, 15},
		{"memory: 4 KiB sequential, 1M", NULL, 12},
		{"memory: 4 KiB random in 36 bits, 1M", NULL, 150},
	};
	const struct work *load = work_find("limit: independent random loads, 256 MiB");

	printf("\n%-46s %9s %9s  %-11s %s\n", "target", "at most", "here", "",
	       load ? "in random loads" : "");
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		const struct work *w = work_find(targets[i].work);
		const struct work *limit = targets[i].limit ? work_find(targets[i].limit) : NULL;
		double most = targets[i].target, here;

		if (!w || (targets[i].limit && !limit))
			continue;
		if (limit)
			most *= work_median(limit);
		here = work_median(w);
		printf("%-46s %9.1f %9.1f  %-11s", w->name, most, here,
		       here <= most ? "reached" : "not reached");
		if (load && !w->unit)
			printf(" %.1f", here / work_median(load));
		printf("\n");
	}
	printf("Not measured here: placement, a preloaded ioctl (bench-ioctl), a flush beside a\n"
	       "running device (bench-batch), batched translation, 1 GiB scattered, formats with\n"
	       "windows.\n");
}

int report_json(void)
{
	json_t *root = json_object(), *list = json_object();
	int ret;

	json_object_set_new(root, "seed", json_integer((json_int_t)settings.seed));
	json_object_set_new(root, "rounds", json_integer(settings.rounds));
	for (size_t i = 0; i < work_count; i++)
		json_object_set_new(list, works[i].name,
				    json_pack("{s:f,s:s,s:I}", "median", work_median(&works[i]),
					      "unit", unit_of(&works[i]), "live",
					      (json_int_t)works[i].live));
	json_object_set_new(root, "works", list);
	ret = json_dumpf(root, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(root);
	return ret ? 1 : 0;
}
