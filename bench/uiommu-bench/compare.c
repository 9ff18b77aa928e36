/* SPDX-License-Identifier: MIT */
/*
 * compare - is one build faster than another? Both programs run by turns, first the one, then the
 * other first; each pair of runs gives a ratio for each work. The median of the ratios is told with
 * a 95 % interval by bootstrap (resampling of pairs with a fixed seed); a difference is called real
 * only where the interval leaves 1 out.
 */
#include "bench.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 2000 };

static json_t *run(const char *program)
{
	char command[4096];
	json_t *root;
	FILE *out;

	must(strchr(program, '\'') || (settings.only && strchr(settings.only, '\'')),
	     "no quotes in names, please");
	snprintf(command, sizeof(command), "'%s' --json --rounds 3 --seed %llu %s%s%s", program,
		 (unsigned long long)settings.seed, settings.only ? "--only '" : "",
		 settings.only ? settings.only : "", settings.only ? "'" : "");
	out = popen(command, "r");
	must(!out, program);
	root = json_loadf(out, 0, NULL);
	if (pclose(out) || !root) {
		fprintf(stderr, "uiommu-bench: %s gave no result; is it a uiommu-bench?\n",
			program);
		exit(1);
	}
	return root;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, int count)
{
	qsort(values, (size_t)count, sizeof(*values), by_value);
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static void judge(const char *name, const double *ratios, int count)
{
	static double medians[RESAMPLES];
	double sample[ROUNDS_MOST], low, high;
	uint64_t x = settings.seed | 1;

	for (int r = 0; r < RESAMPLES; r++) {
		for (int i = 0; i < count; i++) {
			x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
			sample[i] = ratios[(x >> 33) % (uint64_t)count];
		}
		medians[r] = median(sample, count);
	}
	memcpy(sample, ratios, (size_t)count * sizeof(*sample));
	qsort(medians, RESAMPLES, sizeof(*medians), by_value);
	low = medians[RESAMPLES * 25 / 1000];
	high = medians[RESAMPLES * 975 / 1000];
	printf("%-50s %7.3f  [%.3f, %.3f]  %s\n", name, median(sample, count), low, high,
	       low > 1	  ? "B is slower"
	       : high < 1 ? "B is faster"
			  : "no difference shown");
}

int compare_programs(const char *a, const char *b, int pairs)
{
	json_t *first[ROUNDS_MOST], *second[ROUNDS_MOST], *value;
	const char *name;

	/* With fewer, not even pairs that all agree would be beyond chance (2 in 2^6 is 3 %). */
	if (pairs < 6) {
		fprintf(stderr, "uiommu-bench: %d pairs can't show a difference; at least 6\n",
			pairs);
		return 2;
	}
	for (int i = 0; i < pairs; i++) {
		if (i % 2)
			second[i] = run(b);
		first[i] = run(a);
		if (i % 2 == 0)
			second[i] = run(b);
	}
	printf("%-50s %7s  %d pairs, seed %llu\n", "B / A", "ratio", pairs,
	       (unsigned long long)settings.seed);
	json_object_foreach(json_object_get(first[0], "works"), name, value)
	{
		double ratios[ROUNDS_MOST];
		int count = 0;

		for (int i = 0; i < pairs; i++) {
			json_t *x = json_object_get(json_object_get(first[i], "works"), name);
			json_t *y = json_object_get(json_object_get(second[i], "works"), name);
			double p = json_number_value(json_object_get(x, "median"));
			double q = json_number_value(json_object_get(y, "median"));

			if (p > 0 && q > 0)
				ratios[count++] = q / p;
		}
		if (count == pairs)
			judge(name, ratios, count);
		else
			printf("%-50s only one of the two measures it\n", name);
	}
	for (int i = 0; i < pairs; i++) {
		json_decref(first[i]);
		json_decref(second[i]);
	}
	return 0;
}
