/* SPDX-License-Identifier: MIT */
/*
 * flush - what one flush costs: what unmapping a page takes where a device is attached, less what
 * it takes where none is, by turns in one round. The device's port is idle, or a thread reads
 * through it all the time. And formats whose tables cover windows, which engine.c's addresses don't
 * fit.
 */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <uiommu/space.h>

#define PAGE	  UINT64_C(4096)
#define MEMORY	  (UINT64_C(1) << 32)
#define READ_AT	  (UINT64_C(1) << 30)
#define CHANGE_AT (UINT64_C(1) << 31)

enum { TIMES = 2000, TURNS = 10, WINDOWS = 256, SETS = 16 };

static const int RW = UIOMMU_READ | UIOMMU_WRITE;

struct space {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	struct uiommu_port *port;
	uint64_t at, page;
};

static struct uiommu_range range_of(uint64_t iova, uint64_t len)
{
	return (struct uiommu_range){iova, iova + len - 1};
}

static struct space *space_new(const struct uiommu_domain_options *options, bool attached)
{
	struct space *s = calloc(1, sizeof(*s));

	must(!s, "memory");
	must(uiommu_unit_create(NULL, &s->unit), "unit");
	must(uiommu_ioas_create(&s->ioas), "ioas");
	must(uiommu_domain_create(s->unit, s->ioas, options, &s->domain), options->format);
	if (attached)
		must(uiommu_domain_attach(s->domain, 8, NULL, 0, "device"), "attach");
	must(uiommu_port_create(s->unit, 8, &s->port), "port");
	uiommu_port_set_master(s->port, true);
	s->page = PAGE;
	return s;
}

/* ---- the flush ---- */

struct flush {
	struct space *with, *without;
	void *page;
};

static double unmap_one(struct space *s)
{
	double took = 0;

	for (int i = 0; i < TIMES / TURNS; i++) {
		double start;

		must(uiommu_ioas_map(s->ioas, range_of(CHANGE_AT, PAGE), MEMORY, RW, NULL), "map");
		start = now_ns();
		must(uiommu_ioas_unmap(s->ioas, range_of(CHANGE_AT, PAGE), NULL, NULL, NULL),
		     "unmap");
		took += now_ns() - start;
	}
	return took / TIMES;
}

static double flush_idle(const struct work *work)
{
	struct flush *f = work->state;
	double took = 0;

	for (int turn = 0; turn < TURNS; turn++)
		took += unmap_one(f->with) - unmap_one(f->without);
	return took;
}

static double no_flush(const struct work *work)
{
	double took = 0;

	for (int turn = 0; turn < TURNS; turn++)
		took += unmap_one(((struct flush *)work->state)->without);
	return took;
}

static _Atomic bool stop;

static void *read_on(void *flush)
{
	struct flush *f = flush;
	char buf[64];

	while (!stop)
		must(uiommu_port_read(f->with->port, READ_AT, buf, sizeof(buf)), "read");
	return NULL;
}

static double flush_running(const struct work *work)
{
	pthread_t thread;
	double took;

	stop = false;
	must(pthread_create(&thread, NULL, read_on, work->state), "thread");
	took = flush_idle(work);
	stop = true;
	pthread_join(thread, NULL);
	return took;
}

/* ---- windows ---- */

/* All windows of an aperture, or as many pages of one window, mapped and unmapped in batches. */
static double windows(const struct work *work)
{
	struct space *s = work->state;
	static struct uiommu_op ops[WINDOWS];
	double start = now_ns();

	for (int r = 0; r < SETS; r++) {
		for (uint64_t k = 0; k < WINDOWS; k++)
			ops[k] = (struct uiommu_op){.kind = UIOMMU_OP_MAP,
						    .prot = RW,
						    .ioas = s->ioas,
						    .range = range_of(s->at + k * s->page, s->page),
						    .addr = MEMORY + k * s->page};
		must(uiommu_batch_submit(ops, WINDOWS, NULL), "batch");
		for (uint64_t k = 0; k < WINDOWS; k++)
			ops[k].kind = UIOMMU_OP_UNMAP;
		must(uiommu_batch_submit(ops, WINDOWS, NULL), "batch");
	}
	return (now_ns() - start) / (SETS * WINDOWS);
}

static void windows_add(void)
{
	static const char *const tces[] = {"spapr-tce", "powernv-tce"};
	const uint64_t window = UINT64_C(1) << 24;
	struct space *s = space_new(
		&(struct uiommu_domain_options){.size = sizeof(struct uiommu_domain_options),
						.format = "pamu",
						.width = 36,
						.windows = WINDOWS,
						.aperture = {0, WINDOWS * window - 1}},
		true);

	s->page = window;
	work_add(windows, s, 0, 0, "ours: same place, batches of 256, pamu");
	for (size_t i = 0; i < sizeof(tces) / sizeof(tces[0]); i++) {
		const struct uiommu_domain_window whole = {.size = sizeof(whole),
							   .range = range_of(0, UINT64_C(1) << 30),
							   .page_shift = 12,
							   .levels = 1};

		s = space_new(&(struct uiommu_domain_options){.size = sizeof(
								      struct uiommu_domain_options),
							      .format = tces[i],
							      .width = 64},
			      true);
		must(uiommu_domain_window_create(s->domain, &whole), "window");
		work_add(windows, s, 0, 0, "ours: same place, batches of 256, %s", tces[i]);
	}
}

void flush_add(void)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	struct flush *f;

	if (!work_wanted("ours"))
		return;
	f = calloc(1, sizeof(*f));
	must(!f || !(f->page = aligned_alloc(PAGE, PAGE)), "memory");
	f->with = space_new(&options, true);
	f->without = space_new(&options, false);
	must(uiommu_ioas_map(f->with->ioas, range_of(READ_AT, PAGE), (uintptr_t)f->page,
			     UIOMMU_READ, NULL),
	     "map");
	work_add(no_flush, f, 0, 0, "ours: unmap a page, no device");
	work_add(flush_idle, f, 0, 0, "ours: a flush, the device idle");
	work_add(flush_running, f, 0, 0, "ours: a flush, the device reading");
	windows_add();
}
