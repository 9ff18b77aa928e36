/* SPDX-License-Identifier: MIT */
/*
 * engine - our own figures, all semantics on: reserved and overlap checks, areas, permissions,
 * statistics, flush. A world is one IOAS with one domain that a device is attached to, and so many
 * random 4 KiB mappings in 36 bits; it lives as long as the program. Every work leaves its world as
 * it found it.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <uiommu/space.h>

#define PAGE   UINT64_C(4096)
#define MEMORY (UINT64_C(1) << 40) /* where the mappings lead; nothing is ever accessed there */
#define HIGH   (UINT64_C(1) << 37) /* behind all random places */

enum { BATCH = 256, OPS = 8192 };

struct world {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	struct uiommu_port *port[2];
	uint64_t live, hole; /* hole: where the next random holes are in the order */
};

static const int RW = UIOMMU_READ | UIOMMU_WRITE;

static struct uiommu_range range_of(uint64_t iova, uint64_t len)
{
	return (struct uiommu_range){iova, iova + len - 1};
}

static struct world *world_new(const char *format, uint64_t page_sizes, uint64_t live)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = format, .width = 48, .page_sizes = page_sizes};
	struct world *w = calloc(1, sizeof(*w));

	must(!w, "memory");
	must(uiommu_unit_create(NULL, &w->unit), "unit");
	must(uiommu_ioas_create(&w->ioas), "ioas");
	must(uiommu_domain_create(w->unit, w->ioas, &options, &w->domain), format);
	must(uiommu_domain_attach(w->domain, 8, NULL, 0, "device"), "attach");
	for (int i = 0; i < 2; i++) {
		must(uiommu_port_create(w->unit, 8, &w->port[i]), "port");
		uiommu_port_set_master(w->port[i], true);
	}
	for (uint64_t i = 0; i < live; i++)
		must(uiommu_ioas_map(w->ioas, range_of(page_place(i), PAGE), MEMORY + i * PAGE, RW,
				     NULL),
		     "map");
	w->live = live;
	return w;
}

static uint64_t hole_of(struct world *w, bool same, uint64_t i)
{
	return same ? HIGH + i % BATCH * PAGE : page_place(w->live + (w->hole + i) % (1 << 20));
}

/* @arg: the size of a batch, 0 for plain calls; negative: at the same place, else random holes. */
static double pairs(const struct work *work)
{
	struct world *w = work->state;
	const bool same = (int64_t)work->arg < 0;
	const uint64_t size = (uint64_t)llabs((int64_t)work->arg);
	static struct uiommu_op ops[BATCH];
	double start = now_ns();

	for (uint64_t i = 0; i < OPS; i += size) {
		for (uint64_t k = 0; k < size; k++)
			ops[k] =
				(struct uiommu_op){.kind = UIOMMU_OP_MAP,
						   .prot = RW,
						   .ioas = w->ioas,
						   .range = range_of(hole_of(w, same, i + k), PAGE),
						   .addr = MEMORY + k * PAGE};
		if (size == 1) {
			must(uiommu_ioas_map(w->ioas, ops->range, MEMORY, RW, NULL), "map");
			must(uiommu_ioas_unmap(w->ioas, ops->range, NULL, NULL, NULL), "unmap");
			continue;
		}
		must(uiommu_batch_submit(ops, size, NULL), "batch");
		for (uint64_t k = 0; k < size; k++)
			ops[k].kind = UIOMMU_OP_UNMAP;
		must(uiommu_batch_submit(ops, size, NULL), "batch");
	}
	w->hole += OPS;
	return (now_ns() - start) / OPS;
}

/* @arg bytes in one call. */
static double large(const struct work *work)
{
	struct world *w = work->state;
	const int count = 200;
	double start = now_ns();

	for (int i = 0; i < count; i++) {
		must(uiommu_ioas_map(w->ioas, range_of(HIGH, work->arg), MEMORY, RW, NULL), "map");
		must(uiommu_ioas_unmap(w->ioas, range_of(HIGH, work->arg), NULL, NULL, NULL),
		     "unmap");
	}
	return (now_ns() - start) / count;
}

/* The same by a table that has pages of 4 KiB only: ns an entry, both ways. */
static double entries(const struct work *work)
{
	return large(work) / (double)(work->arg / PAGE);
}

/* 16 such ranges in a batch, and so 16 to a flush. */
static double entries_batched(const struct work *work)
{
	enum { RANGES = 16 };
	struct world *w = work->state;
	static struct uiommu_op ops[RANGES];
	const int count = 20;
	double start = now_ns();

	for (int i = 0; i < count; i++) {
		for (int k = 0; k < RANGES; k++)
			ops[k] = (struct uiommu_op){
				.kind = UIOMMU_OP_MAP,
				.prot = RW,
				.ioas = w->ioas,
				.range = range_of(HIGH + 2 * k * work->arg, work->arg),
				.addr = MEMORY};
		must(uiommu_batch_submit(ops, RANGES, NULL), "batch");
		for (int k = 0; k < RANGES; k++)
			ops[k].kind = UIOMMU_OP_UNMAP;
		must(uiommu_batch_submit(ops, RANGES, NULL), "batch");
	}
	return (now_ns() - start) / count / RANGES / (double)(work->arg / PAGE);
}

/* @arg bytes to pages that don't adjoin: an area each, batches of 512, unmapped with one call. ns
 * an entry, both ways. */
static double scattered(const struct work *work)
{
	struct world *w = work->state;
	static struct uiommu_op ops[512];
	const uint64_t pages = work->arg / PAGE, rounds = pages < 8192 ? 8192 / pages : 1;
	double start = now_ns();

	for (uint64_t r = 0; r < rounds; r++) {
		for (uint64_t at = 0; at < pages; at += 512) {
			for (uint64_t k = 0; k < 512; k++)
				ops[k] = (struct uiommu_op){
					.kind = UIOMMU_OP_MAP,
					.prot = RW,
					.ioas = w->ioas,
					.range = range_of(HIGH + (at + k) * PAGE, PAGE),
					.addr = MEMORY + 2 * (at + k) * PAGE};
			must(uiommu_batch_submit(ops, 512, NULL), "batch");
		}
		must(uiommu_ioas_unmap(w->ioas, range_of(HIGH, work->arg), NULL, NULL, NULL),
		     "unmap");
	}
	return (now_ns() - start) / (double)(rounds * pages);
}

static double sequential(const struct work *work)
{
	struct world *w = work->state;
	double start = now_ns();

	for (uint64_t i = 0; i < OPS; i++)
		must(uiommu_ioas_map(w->ioas, range_of(HIGH + i * PAGE, PAGE), MEMORY + i * PAGE,
				     RW, NULL),
		     "map");
	for (uint64_t i = 0; i < OPS; i++)
		must(uiommu_ioas_unmap(w->ioas, range_of(HIGH + i * PAGE, PAGE), NULL, NULL, NULL),
		     "unmap");
	return (now_ns() - start) / OPS;
}

/* A section for each, as for each access of a device. Nothing keeps the address: who uses it is the
 * emulator's business. */
static inline void translate(struct uiommu_port *port, uint64_t iova)
{
	uint64_t addr = 0;

	uiommu_port_enter(port);
	if (uiommu_port_translate_one(port, iova, 8, UIOMMU_READ, &addr) != 8)
		must(-1, "translate");
	__asm__ volatile("" : : "r"(addr));
	uiommu_port_leave(port);
}

static double translate_some(struct world *w, int port, uint64_t seed)
{
	const uint64_t *places = page_lookups(w->live, seed);
	struct uiommu_port *from = w->port[port];
	double start = now_ns();

	for (int i = 0; i < LOOKUPS; i++)
		translate(from, places[i]);
	return (now_ns() - start) / LOOKUPS;
}

/* The same, 64 in a section and in one call. */
static double random_many(const struct work *work)
{
	enum { MANY = 64 };
	struct world *w = work->state;
	static struct uiommu_translation t[MANY];
	const uint64_t *places = page_lookups(w->live, settings.seed);
	double start = now_ns();

	for (int i = 0; i + MANY <= LOOKUPS; i += MANY) {
		for (int k = 0; k < MANY; k++) {
			t[k].iova = places[i + k];
			t[k].len = 8;
		}
		uiommu_port_enter(w->port[0]);
		if (uiommu_port_translate_many(w->port[0], UIOMMU_READ, t, MANY) != MANY)
			must(-1, "translate");
		uiommu_port_leave(w->port[0]);
	}
	return (now_ns() - start) / LOOKUPS;
}

static double random_one(const struct work *work)
{
	return translate_some(work->state, 0, settings.seed);
}

/* A device that walks 512 pages mapped one by one, in steps of @arg bytes. */
static double local(const struct work *work)
{
	struct world *w = work->state;
	struct uiommu_port *port = w->port[0];
	const uint64_t step = work->arg;
	uint64_t at = 0;
	double start;

	for (uint64_t i = 0; i < 512; i++)
		must(uiommu_ioas_map(w->ioas, range_of(HIGH + i * PAGE, PAGE),
				     MEMORY + 2 * i * PAGE, RW, NULL),
		     "map");
	start = now_ns();
	for (int i = 0; i < LOOKUPS; i++) {
		translate(port, HIGH + at);
		at = (at + step) % (512 * PAGE);
	}
	start = now_ns() - start;
	must(uiommu_ioas_unmap(w->ioas, range_of(HIGH, 512 * PAGE), NULL, NULL, NULL), "unmap");
	return start / LOOKUPS;
}

static _Atomic bool stop;

static void *reader(void *world)
{
	static double took;

	took = translate_some(world, 1, settings.seed + 1);
	return &took;
}

static double two_readers(const struct work *work)
{
	pthread_t thread;
	void *other;
	double mine;

	must(pthread_create(&thread, NULL, reader, work->state), "thread");
	mine = translate_some(work->state, 0, settings.seed);
	pthread_join(thread, &other);
	return (mine + *(double *)other) / 4; /* of the two together */
}

static void *writer(void *world)
{
	struct work work = {.state = world, .arg = BATCH};

	while (!stop)
		pairs(&work);
	return NULL;
}

static double beside_writer(const struct work *work)
{
	pthread_t thread;
	double took;

	stop = false;
	must(pthread_create(&thread, NULL, writer, work->state), "thread");
	took = translate_some(work->state, 0, settings.seed);
	stop = true;
	pthread_join(thread, NULL);
	return took;
}

static void *keep_reading(void *world)
{
	while (!stop)
		translate_some(world, 1, settings.seed);
	return NULL;
}

static double beside_reader(const struct work *work)
{
	pthread_t thread;
	double took;

	stop = false;
	must(pthread_create(&thread, NULL, keep_reading, work->state), "thread");
	took = pairs(work);
	stop = true;
	pthread_join(thread, NULL);
	return took;
}

static double ranges(const struct work *work)
{
	struct world *w = work->state;
	struct uiommu_range list[16];
	double start = now_ns();

	for (int i = 0; i < 20000; i++) {
		size_t count = 16;

		must(uiommu_ioas_ranges(w->ioas, list, &count), "ranges");
	}
	return (now_ns() - start) / 20000;
}

/* A world of its own each time, since it is gone afterwards. */
static double teardown(const struct work *work)
{
	struct world *w = world_new("vtd-ss", 0, work->live);
	double start = now_ns();

	must(uiommu_ioas_unmap(w->ioas, (struct uiommu_range){0, UINT64_MAX}, NULL, NULL, NULL),
	     "unmap");
	start = now_ns() - start;
	uiommu_port_destroy(w->port[0]);
	uiommu_port_destroy(w->port[1]);
	uiommu_domain_detach(w->domain, 8);
	uiommu_domain_destroy(w->domain);
	uiommu_ioas_destroy(w->ioas);
	uiommu_unit_destroy(w->unit);
	free(w);
	return start / (double)work->live;
}

static void world_add(uint64_t live, const char *name)
{
	struct world *w = world_new("vtd-ss", 0, live), *small;

	work_add(pairs, w, (uint64_t)-1, live, "ours: map + unmap, same place, %s live", name);
	work_add(pairs, w, (uint64_t)-BATCH, live, "ours: the same, in batches of 256, %s live",
		 name);
	work_add(pairs, w, 1, live, "ours: map + unmap, random hole, %s live", name);
	work_add(pairs, w, BATCH, live, "ours: random hole, batches of 256, %s live", name);
	if (live)
		work_add(random_one, w, 0, live, "ours: translate, random, %s live", name);
	if (live)
		work_add(random_many, w, 0, live, "ours: translate, random, 64 in a call, %s live",
			 name);
	if (live == 1000000) {
		work_add(two_readers, w, 0, live, "ours: two readers together, %s live", name);
		work_add(beside_writer, w, 0, live, "ours: reader beside a writer, %s live", name);
		work_add(beside_reader, w, BATCH, live, "ours: writer beside a reader, %s live",
			 name);
	}
	if (live)
		return;
	work_add(sequential, w, 0, 0, "ours: map + unmap, sequential");
	work_add(large, w, 2 << 20, 0, "ours: map + unmap, 2 MiB");
	work_add(large, w, 1 << 30, 0, "ours: map + unmap, 1 GiB");
	small = world_new("vtd-ss", PAGE, 0);
	work_add(entries, small, 2 << 20, 0, "ours: 2 MiB as 512 entries, an entry");
	work_add(entries_batched, small, 2 << 20, 0,
		 "ours: 2 MiB as 512 entries, 16 in a batch, an entry");
	work_add(scattered, w, 2 << 20, 0, "ours: 2 MiB scattered, an entry");
	work_add(scattered, w, 1 << 30, 0, "ours: 1 GiB scattered, an entry")->rounds_most = 3;
	work_add(local, w, 64, 0, "ours: translate, local, 64 B steps");
	work_add(local, w, 4096, 0, "ours: translate, local, 4 KiB steps");
	work_add(ranges, w, 0, 0, "ours: query of IOVA ranges");
}

void engine_add(void)
{
	static const char *const formats[] = {"vtd-ss", "vtd-fs", "amd-v1",
					      "arm-s1", "arm-s2", "riscv"};

	if (!work_wanted("ours"))
		return;
	world_add(0, "0");
	world_add(10000, "10k");
	world_add(100000, "100k");
	world_add(1000000, "1M");
	if (settings.extended)
		world_add(10000000, "10M");
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		work_add(pairs, world_new(formats[i], 0, 0), (uint64_t)-BATCH, 0,
			 "ours: same place, batches of 256, %s", formats[i]);
	work_add(teardown, NULL, 0, 1000000, "ours: unmap all of 1M, each")->rounds_most = 3;
}
