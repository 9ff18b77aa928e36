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
		printf("%-56s %10.1f %s\n", works[i].name, work_median(&works[i]),
		       unit_of(&works[i]));
}

static void target_line(const char *name, double most, double here, const char *more)
{
	printf("%-56s %9.1f %9.1f  %-11s%s\n", name, most, here,
	       here <= most ? "reached" : "not reached", more);
}

/* How much dearer it gets from 10k live mappings to the most there are: at most 1.5 times as much
 * as a table that does nothing else. */
static void report_growth(void)
{
	static const struct {
		const char *name, *ours, *plain;
	} growths[] = {
		{"random hole, batches of 256", "ours: random hole, batches of 256, %s live",
		 "limit: plain table, random hole, %s live"},
		{"translate, random", "ours: translate, random, %s live",
		 "limit: plain table, find, %s live"},
	};
	const char *most = settings.extended ? "10M" : "1M";

	for (size_t i = 0; i < sizeof(growths) / sizeof(growths[0]); i++) {
		const struct work *w[4];
		char name[64];

		for (int k = 0; k < 4; k++) {
			snprintf(name, sizeof(name), k < 2 ? growths[i].ours : growths[i].plain,
				 k % 2 ? most : "10k");
			w[k] = work_find(name);
		}
		if (!w[0] || !w[1] || !w[2] || !w[3])
			continue;
		snprintf(name, sizeof(name), "times from 10k to %s: %s", most, growths[i].name);
		target_line(name, 1.5 * work_median(w[3]) / work_median(w[2]),
			    work_median(w[1]) / work_median(w[0]), "");
	}
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
		{"ours: a flush, the device idle", "limit: membarrier, idle", 1.2},
		{"ours: 2 MiB as 512 entries, an entry", NULL, 1.0},
		{"ours: translate, local, 64 B steps", NULL, 1.3},
		{"ours: translate, local, 4 KiB steps", NULL, 2.0},
		{"ours: translate, random, 1M live", NULL, 22},
		{"ours: translate, random, 64 in a call, 1M live", NULL, 10},
		{"ours: reader beside a writer, 1M live", NULL, 28},
		{"ours: writer beside a reader, 1M live",
		 "ours: random hole, batches of 256, 1M live", 1.2},
		{"ours: two readers together, 1M live", "ours: translate, random, 1M live",
		 1 / 1.9},
		{"ours: take + give, hot, 100k live", NULL, 15},
		{"ours: take + give, random sizes, 100k live", NULL, 60},
		{"ours: take + give, random sizes, batches, 100k live", NULL, 60},
		{"ours: take + give, hot, 1M live", NULL, 15},
		{"ours: take + give, random sizes, 1M live", NULL, 60},
		{"ours: take + give, random sizes, batches, 1M live", NULL, 60},
		{"ours: preloaded MAP_DMA, one page",
		 "limit: ioctl on /dev/null, beside the next two", 2},
		{"ours: unmap all of 1M, each", NULL, 15},
		{"memory: 4 KiB sequential, 1M", NULL, 12},
		{"memory: 4 KiB random in 36 bits, 1M", NULL, 150},
	};
	const struct work *load = work_find("limit: independent random loads, 256 MiB");

	printf("\n%-56s %9s %9s  %-11s %s\n", "target", "at most", "here", "",
	       load ? "in random loads" : "");
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		const struct work *w = work_find(targets[i].work);
		const struct work *limit = targets[i].limit ? work_find(targets[i].limit) : NULL;
		double most = targets[i].target;
		char loads[32] = "";

		if (!w || (targets[i].limit && !limit))
			continue;
		if (limit)
			most *= work_median(limit);
		if (load && !w->unit)
			snprintf(loads, sizeof(loads), " %.1f", work_median(w) / work_median(load));
		target_line(w->name, most, work_median(w), loads);
	}
	report_growth();
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
