/* SPDX-License-Identifier: MIT */
/*
 * spapr-many - the default window of a pseries machine full of mappings of 4 KiB, as a guest's
 * kernel makes them: filled, overwritten and emptied entry by entry and all at once, with the times
 * that takes.
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
	return client_done();
}
