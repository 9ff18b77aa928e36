/* SPDX-License-Identifier: MIT */
/*
 * main - options, the list of works, the rounds. Owns the list: it is filled before the first round
 * and only results are written afterwards. What can't be set up ends the program.
 */
#include "bench.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct settings settings = {.seed = 1, .rounds = 9};
struct work works[WORKS_MOST];
size_t work_count;

double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

void must(int ret, const char *what)
{
	if (!ret)
		return;
	fprintf(stderr, "uiommu-bench: %s: error %d\n", what, ret);
	exit(1);
}

/* Odd multiples and shifts of 24 bits lose nothing, so no page comes twice. */
uint64_t page_place(uint64_t i)
{
	uint64_t x = ((i + settings.seed * 7919) * 0x9e3779b1) & 0xffffff;

	x ^= x >> 12;
	x = (x * 0x85ebca6b) & 0xffffff;
	x ^= x >> 11;
	return x << 12;
}

const uint64_t *page_lookups(uint64_t live, uint64_t seed)
{
	static _Thread_local uint64_t list[LOOKUPS];
	uint64_t x = seed | 1;

	for (int i = 0; i < LOOKUPS; i++) {
		x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
		list[i] = page_place((x >> 33) % live);
	}
	return list;
}

struct work *work_add(double (*run)(const struct work *), void *state, uint64_t arg, uint64_t live,
		      const char *format, ...)
{
	struct work *work = &works[work_count];
	va_list args;

	must(work_count == WORKS_MOST, "too many works");
	*work = (struct work){0};
	va_start(args, format);
	vsnprintf(work->name, sizeof(work->name), format, args);
	va_end(args);
	work->run = run;
	work->state = state;
	work->arg = arg;
	work->live = live;
	/* One that isn't wanted is overwritten by the next. */
	work_count += !settings.only || strstr(work->name, settings.only);
	return work;
}

/* Whether --only leaves anything of a part, told by how the names of its works begin. */
bool work_wanted(const char *part)
{
	return !settings.only || !strchr(settings.only, ':') ||
	       !strncmp(settings.only, part, strlen(part));
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double work_median(const struct work *work)
{
	double sorted[ROUNDS_MOST];

	memcpy(sorted, work->value, sizeof(sorted));
	qsort(sorted, (size_t)work->rounds, sizeof(sorted[0]), by_value);
	return sorted[work->rounds / 2];
}

const struct work *work_find(const char *name)
{
	for (size_t i = 0; i < work_count; i++)
		if (!strcmp(works[i].name, name))
			return &works[i];
	return NULL;
}

/* The first round warms up and is not kept, except where a work takes long. */
static void run_rounds(void)
{
	for (int r = -1; r < settings.rounds; r++)
		for (size_t i = 0; i < work_count; i++) {
			struct work *w = &works[i];
			double value;

			if (w->rounds_most && (r < 0 || r >= w->rounds_most))
				continue;
			value = w->run(w);
			if (r >= 0)
				w->value[w->rounds++] = value;
		}
}

static int usage(void)
{
	fprintf(stderr,
		"uiommu-bench [--rounds N] [--seed N] [--only TEXT] [--long] [--json] [--plot "
		"FILE.svg]\n"
		"uiommu-bench --compare [--rounds PAIRS] [--only TEXT] PROGRAM-A PROGRAM-B\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"rounds", required_argument, NULL, 'r'}, {"seed", required_argument, NULL, 's'},
		{"only", required_argument, NULL, 'o'},	  {"long", no_argument, NULL, 'l'},
		{"json", no_argument, NULL, 'j'},	  {"plot", required_argument, NULL, 'p'},
		{"compare", no_argument, NULL, 'c'},	  {NULL, 0, NULL, 0}};
	bool json = false, compare = false;
	const char *plot = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'r':
			settings.rounds = atoi(optarg);
			break;
		case 's':
			settings.seed = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			settings.only = optarg;
			break;
		case 'l':
			settings.extended = true;
			break;
		case 'j':
			json = true;
			break;
		case 'p':
			plot = optarg;
			break;
		case 'c':
			compare = true;
			break;
		default:
			return usage();
		}
	}
	if (settings.rounds < 1 || settings.rounds > ROUNDS_MOST ||
	    argc - optind != (compare ? 2 : 0))
		return usage();
	if (compare)
		return compare_programs(argv[optind], argv[optind + 1], settings.rounds);
	memory_add(); /* first: it forks, and wants an untouched library */
	limits_add();
	engine_add();
	place_add();
	places_add();
	flush_add();
	preloaded_add();
	plain_add();
	peers_add();
	dpdk_add();
	run_rounds();
	if (json)
		return report_json();
	report_table();
	report_targets();
	return plot ? plot_write(plot) : 0;
}
