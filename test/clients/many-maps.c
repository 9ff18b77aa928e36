/* SPDX-License-Identifier: MIT */
/*
 * many-maps - what DPDK 25.11 does without huge pages: one MAP_DMA for each of the 65,536 pages of
 * 256 MiB. It asserts counts, and that devices reach what was mapped last as what was mapped first.
 * What a call costs, by how many there are already, is printed and not judged: bench/ does that.
 *
 * With the kernel's own limit of 65,535 entries the last page is refused with ENOSPC; with more
 * (argument: how many entries the machine allows) all of them go in.
 */
#include "client.h"

#include <time.h>

enum { MAPS = 65536, STEP = 8192, SOURCE_PAGES = 512, BASE = 0x10000000 };

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Every source page serves many IOVAs: the number of mappings matters, not the memory. */
static const uint8_t *source(const uint8_t *memory, unsigned i)
{
	return memory + i % SOURCE_PAGES * PAGE;
}

static unsigned map_all(int container, const uint8_t *memory)
{
	unsigned done = 0;

	for (unsigned at = 0; at < MAPS; at += STEP) {
		double start = now_ns();

		for (unsigned i = at; i < at + STEP; i++)
			done += !client_map(container, BASE + i * PAGE, source(memory, i), PAGE,
					    RW);
		printf("%6u mappings there: %5.0f ns a MAP_DMA\n", at, (now_ns() - start) / STEP);
	}
	return done;
}

/* A device reads the first and the last page and puts them into page 1 and page 2. */
static void check_reachable(struct client *c, uint8_t *memory, unsigned last)
{
	volatile uint8_t *bar = client_bar(c->device);
	struct ioat_descriptor *chain = client_pages(1);
	const uint64_t at = 0x1000;

	CHECK_EQ(client_map(c->container, at, chain, PAGE, RW), 0);
	memset(memory, 'f', PAGE);
	memset((uint8_t *)source(memory, last), 'l', PAGE);
	ioat_reset(bar, at + 2048);
	chain[0] = (struct ioat_descriptor){
		.size = PAGE, .src = BASE, .dst = BASE + PAGE, .next = at + 64};
	chain[1] = (struct ioat_descriptor){.size = PAGE,
					    .control = IOAT_COMPLETION,
					    .src = BASE + last * PAGE,
					    .dst = BASE + 2 * PAGE};
	CHECK_EQ(ioat_run(bar, at, 2), IOAT_DONE);
	check_bytes(__FILE__, __LINE__, "first page", memory + PAGE, memory, PAGE);
	check_bytes(__FILE__, __LINE__, "last page", memory + 2 * PAGE, source(memory, last), PAGE);
	CHECK_EQ(client_unmap(c->container, at, PAGE, 0), PAGE);
}

/* Every third by itself, in an order that jumps about; the rest with one call. */
static void unmap_all(int container, unsigned count)
{
	uint64_t rest = count;
	double start = now_ns();
	unsigned calls = 0;

	for (unsigned i = 0; i < MAPS; i++) {
		unsigned page = i * 40503u % MAPS; /* odd: each page once */

		if (page % 3 || page >= count)
			continue;
		if (client_unmap(container, BASE + page * PAGE, PAGE, 0) == (int64_t)PAGE)
			rest--;
		calls++;
	}
	printf("%6u UNMAP_DMA: %5.0f ns each\n", calls, (now_ns() - start) / calls);
	CHECK_EQ(rest, count - calls);
	start = now_ns();
	CHECK_EQ(client_unmap(container, BASE, MAPS * PAGE, 0), rest * PAGE);
	printf("%6u pages in one call: %5.0f ns each\n", (unsigned)rest, (now_ns() - start) / rest);
}

int main(int argc, char **argv)
{
	uint8_t *memory = client_pages(SOURCE_PAGES);
	unsigned entries, count;
	struct client c;

	REQUIRE(argc == 2);
	entries = strtoul(argv[1], NULL, 10);
	client_find(&c, IOAT, 0);
	client_open(&c, VFIO_TYPE1v2_IOMMU);
	client_open_device(&c);
	client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	CHECK_EQ(client_dma_avail(c.container), entries);
	count = map_all(c.container, memory);
	CHECK_EQ(count, entries < MAPS ? entries : MAPS);
	CHECK_EQ(client_dma_avail(c.container), entries - count);
	if (entries < MAPS) {
		CHECK_EQ(client_map(c.container, 0, memory, PAGE, RW), -ENOSPC);
		count--; /* make room for the descriptors */
		CHECK_EQ(client_unmap(c.container, BASE + count * PAGE, PAGE, 0), PAGE);
	}
	check_reachable(&c, memory, count - 1);
	unmap_all(c.container, count);
	CHECK_EQ(client_dma_avail(c.container), entries);
	CHECK_EQ(client_unmap(c.container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL), 0);
	client_close(&c);
	return client_done();
}
