/* SPDX-License-Identifier: MIT */
/*
 * report - the results as text, as a table of targets, as JSON.
 */
#include "bench.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

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

/* The limits that targets are set beside: what the line of one ends with. */
#define LOADS "limit: independent random loads, 256 MiB"
#define L1    "limit: load, 16 KiB (L1)"
#define FILL  "limit: fill an entry, in cache"
#define FLUSH "limit: membarrier, idle"
#define IOCTL "limit: ioctl on /dev/null, beside the next two"

struct target {
	const char *work;
	double most;	   /* ns, or times what @of takes */
	const char *of;	   /* NULL: ns */
	const char *limit; /* that it is compared with */
	double flushes;	   /* that each operation has, beside that */
};

/* A target that counts an operation alone has the flush that it ends with beside it, as the
 * machine's membarrier(2) makes it. */
static void report_target(const struct target *t)
{
	const struct work *w = work_find(t->work), *of = t->of ? work_find(t->of) : NULL;
	const struct work *limit = t->limit ? work_find(t->limit) : NULL;
	const struct work *flush = work_find(FLUSH);
	double most = t->most;
	char beside[96] = "";

	if (!w || (t->of && !of) || (t->flushes > 0 && !flush))
		return;
	if (of)
		most *= work_median(of);
	if (t->flushes > 0)
		most += t->flushes * work_median(flush);
	if (limit)
		snprintf(beside, sizeof(beside), " %6.1f x %s", work_median(w) / work_median(limit),
			 limit->name + strlen("limit: "));
	target_line(w->name, most, work_median(w), beside);
}

void report_targets(void)
{
	static const struct target targets[] = {
		{"ours: random hole, batches of 256, 1M live", 250, NULL, LOADS, 0},
		{"ours: the same, in batches of 256, 100k live", 60, NULL, L1, 0},
		{"ours: a flush, the device idle", 1.2, FLUSH, FLUSH, 0},
		{"ours: 2 MiB as 512 entries, an entry", 1.0, NULL, FILL, 1. / 512},
		{"ours: 2 MiB as 512 entries, 16 in a batch, an entry", 1.0, NULL, FILL, 0},
		{"ours: translate, local, 64 B steps", 1.3, NULL, L1, 0},
		{"ours: translate, local, 4 KiB steps", 2.0, NULL, L1, 0},
		{"ours: translate, random, 1M live", 22, NULL, LOADS, 0},
		{"ours: translate, random, 64 in a call, 1M live", 10, NULL, LOADS, 0},
		{"ours: reader beside a writer, 1M live", 28, NULL, LOADS, 0},
		{"ours: writer beside a reader, 1M live", 1.2,
		 "ours: random hole, batches of 256, 1M live", LOADS, 0},
		{"ours: two readers together, 1M live", 1 / 1.9, "ours: translate, random, 1M live",
		 LOADS, 0},
		{"ours: take + give, hot, 100k live", 15, NULL, L1, 0},
		{"ours: take + give, random sizes, 100k live", 60, NULL, LOADS, 0},
		{"ours: take + give, random sizes, batches, 100k live", 60, NULL, LOADS, 0},
		{"ours: take + give, hot, 1M live", 15, NULL, L1, 0},
		{"ours: take + give, random sizes, 1M live", 60, NULL, LOADS, 0},
		{"ours: take + give, random sizes, batches, 1M live", 60, NULL, LOADS, 0},
		{"ours: preloaded MAP_DMA, one page", 2, IOCTL, IOCTL, 0},
		{"ours: unmap all of 1M, each", 15, NULL, FILL, 0},
		{"memory: 4 KiB sequential, 1M", 12, NULL, NULL, 0},
		{"memory: 4 KiB random in 36 bits, 1M", 150, NULL, NULL, 0},
	};

	printf("\n%-56s %9s %9s  %-11s %s\n", "target", "at most", "here", "", "beside the limit");
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		report_target(&targets[i]);
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
