/* SPDX-License-Identifier: MIT */
/*
 * spapr-many - the default window of a pseries machine full of mappings of 4 KiB, as a guest's
 * kernel makes them: filled, overwritten and emptied entry by entry and all at once, with the times
 * that takes; and as many pieces of memory registered, mapped and forgotten again.
 */
#include "spapr.h"

#include <time.h>

#define WINDOW UINT64_C(0x40000000)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void told(const char *what, uint64_t calls, double since)
{
	double s = now() - since;

	printf("%-44s %7.3f s, %8.3f us a call\n", what, s, s / calls * 1e6);
}

/* Every entry in a call of its own; @stride pages further in memory for each. */
static void one_by_one(int container, uint8_t *memory, uint64_t stride, const char *what)
{
	double since = now();
	uint64_t failed = 0;

	for (uint64_t at = 0; at < WINDOW; at += PAGE)
		failed += client_map(container, at, memory + at / PAGE * stride % 64 * PAGE, PAGE,
				     VFIO_DMA_MAP_FLAG_READ) != 0;
	CHECK_EQ(failed, 0);
	told(what, WINDOW / PAGE, since);
}

static void unmap_one_by_one(int container, const char *what)
{
	double since = now();
	uint64_t failed = 0;

	for (uint64_t at = 0; at < WINDOW; at += PAGE)
		failed += client_unmap(container, at, PAGE, 0) != (int64_t)PAGE;
	CHECK_EQ(failed, 0);
	told(what, WINDOW / PAGE, since);
}

#define PIECES 100000

/* Every other page is a piece of its own, so that none adjoins another. */
static int each_piece(int container, uint8_t *memory, const char *what,
		      int (*request)(int container, const void *vaddr, uint64_t size))
{
	double since = now();
	int failed = 0;

	/* An odd stride: in no order, and each once. */
	for (uint64_t i = 0; i < PIECES; i++)
		failed += request(container, memory + i * 7919 % PIECES * 2 * PAGE, PAGE) != 0;
	told(what, PIECES, since);
	return failed;
}

static void many_pieces(struct client *c, uint8_t *memory)
{
	uint8_t *last = memory + (PIECES - 1) * 2 * PAGE;

	client_open(c, VFIO_SPAPR_TCE_v2_IOMMU);
	CHECK_EQ(
		each_piece(c->container, memory, "register 100000 pages, one a call", tce_register),
		0);
	CHECK_EQ(each_piece(c->container, memory, "register them again: refused", tce_register),
		 PIECES);
	CHECK_EQ(tce_register(c->container, memory, 3 * PAGE), -EINVAL);
	CHECK_EQ(client_map(c->container, 0, last, PAGE, VFIO_DMA_MAP_FLAG_READ), 0);
	CHECK_EQ(client_map(c->container, PAGE, last - PAGE, 2 * PAGE, VFIO_DMA_MAP_FLAG_READ),
		 -EINVAL);
	CHECK_EQ(each_piece(c->container, memory, "unregister them, one a call", tce_unregister),
		 0);
	CHECK_EQ(tce_unregister(c->container, last, PAGE), -ENOENT);
	/* The one that is mapped stays, in the way of others, until it isn't. */
	CHECK_EQ(tce_register(c->container, last - PAGE, 2 * PAGE), -EINVAL);
	CHECK_EQ(client_unmap(c->container, 0, PAGE, 0), (int64_t)PAGE);
	CHECK_EQ(tce_register(c->container, last - PAGE, 2 * PAGE), 0);
	client_close(c);
}

int main(void)
{
	/* Memory that is only read costs nothing: it is all the same page of zeros. */
	uint8_t *memory = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct client c;
	double since;

	REQUIRE(memory != MAP_FAILED);
	client_find(&c, EDU, 0);
	client_open(&c, VFIO_SPAPR_TCE_IOMMU);
	REQUIRE(call(c.container, VFIO_IOMMU_ENABLE, NULL) == 0);
	one_by_one(c.container, memory, 7, "map 262144 pages, one a call");
	one_by_one(c.container, memory, 5, "overwrite them, one a call");
	unmap_one_by_one(c.container, "unmap them, one a call");
	one_by_one(c.container, memory, 7, "map them again");
	since = now();
	CHECK_EQ(client_unmap(c.container, 0, WINDOW, 0), (int64_t)WINDOW);
	told("unmap them in one call", 1, since);
	since = now();
	CHECK_EQ(client_map(c.container, 0, memory, WINDOW, VFIO_DMA_MAP_FLAG_READ), 0);
	told("map the window in one call", 1, since);
	unmap_one_by_one(c.container, "unmap that one a call");
	since = now();
	CHECK_EQ(client_map(c.container, 0, memory, WINDOW, VFIO_DMA_MAP_FLAG_READ), 0);
	told("map it again", 1, since);
	one_by_one(c.container, memory, 3, "overwrite it, one a call");
	since = now();
	CHECK_EQ(client_map(c.container, 0, memory, WINDOW, VFIO_DMA_MAP_FLAG_READ), 0);
	told("overwrite 262144 mappings in one call", 1, since);
	client_close(&c);
	many_pieces(&c, memory);
	return client_done();
}
