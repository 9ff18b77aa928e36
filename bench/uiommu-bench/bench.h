/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the parts of uiommu-bench share: a work is one thing measured, a fixed amount of
 * it a round. Works of all parts stand in one list; a round runs each of them once, so that a
 * machine whose speed drifts slows all of them alike. Single threaded but where a work starts
 * threads of its own.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WORKS_MOST = 200, ROUNDS_MOST = 101 };

struct work {
	char name[64]; /**< "ours: …", "limit: …" or "peer: …" */
	/** Do the work once: ns an operation (or what @unit says). */
	double (*run)(const struct work *work);
	void *state;
	uint64_t arg, live;
	const char *unit; /**< NULL: ns */
	int rounds_most;  /**< for works that take long; 0: as all */
	double value[ROUNDS_MOST];
	int rounds;
};

struct settings {
	uint64_t seed;
	const char *only; /**< run what has this in its name */
	int rounds;
	bool extended; /**< 10M live too */
};

extern struct settings settings;
extern struct work works[];
extern size_t work_count;

/* main.c */
struct work *work_add(double (*run)(const struct work *), void *state, uint64_t arg, uint64_t live,
		      const char *format, ...) __attribute__((format(printf, 5, 6)));
bool work_wanted(const char *part);
double work_median(const struct work *work);
const struct work *work_find(const char *name);
double now_ns(void);
void must(int ret, const char *what);
/** The @i-th of the 2^24 pages of a 36-bit space, in an order that the seed shuffles: its address.
 */
uint64_t page_place(uint64_t i);

enum { LOOKUPS = 100000 };
/** LOOKUPS places among the first @live, at random: what the seed says, the thread's own. Made
 * before the clock starts, so that no figure has the making of addresses in it. */
const uint64_t *page_lookups(uint64_t live, uint64_t seed);

/* What each part adds to the list. */
void limits_add(void);
void engine_add(void);
void place_add(void);
void places_add(void);
void flush_add(void);
void preloaded_add(void);
void plain_add(void);
void peers_add(void);
void dpdk_add(void);
void memory_add(void);

/* report.c */
void report_table(void);
void report_targets(void);
int report_json(void);
/* plot.c */
int plot_write(const char *file);
/* compare.c */
int compare_programs(const char *a, const char *b, int pairs);

#endif
