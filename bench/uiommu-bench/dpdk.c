/* SPDX-License-Identifier: MIT */
/*
 * dpdk - what DPDK's public library offers of this work: memory of the program's own registered
 * with an IOVA for each page, and the IOVA of an address looked up, as its drivers do it. The
 * environment is started without huge pages, devices or files, as any user can.
 */
#include "bench.h"

#ifdef HAVE_DPDK
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_memory.h>

#define PAGE UINT64_C(4096)

enum { FINDS = 100000, PAIRS = 64 };

static volatile uint64_t sink;

/* It pins the thread that starts it to one processor, which is not ours to keep. */
static void start_dpdk(void)
{
	static const char *const words[] = {
		"uiommu-bench", "--no-huge",	  "--no-shconf", "--no-pci",
		"-m64",		"--no-telemetry", "-l0",	 "--log-level=lib.eal:error"};
	char *argv[sizeof(words) / sizeof(words[0])];
	cpu_set_t before;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		argv[i] = (char *)words[i];
	pthread_getaffinity_np(pthread_self(), sizeof(before), &before);
	must(rte_eal_init(sizeof(words) / sizeof(words[0]), argv) < 0, "DPDK");
	pthread_setaffinity_np(pthread_self(), sizeof(before), &before);
}

static void *reserve(uint64_t pages)
{
	void *at = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			-1, 0);

	must(at == MAP_FAILED, "mmap");
	return at;
}

static void register_pages(char *at, uint64_t pages)
{
	rte_iova_t *iova = malloc(pages * sizeof(*iova));

	must(!iova, "memory");
	for (uint64_t i = 0; i < pages; i++)
		iova[i] = (UINT64_C(1) << 40) + 2 * i * PAGE;
	must(rte_extmem_register(at, pages * PAGE, iova, (unsigned)pages, PAGE), "DPDK");
	free(iova);
}

static double dpdk_find(const struct work *w)
{
	uint64_t x = settings.seed | 1, sum = 0;
	double start = now_ns();

	for (int i = 0; i < FINDS; i++) {
		const struct rte_memseg *segment;
		const char *at;

		x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
		at = (const char *)w->state + (x >> 33) % w->live * PAGE;
		segment = rte_mem_virt2memseg(at, NULL);
		must(!segment, "DPDK");
		sum += segment->iova;
	}
	sink = sum;
	return (now_ns() - start) / FINDS;
}

/* One page, as the only other area: there is room for few. */
static double dpdk_pairs(const struct work *w)
{
	char *at = w->state;
	double start = now_ns();

	for (int i = 0; i < PAIRS; i++) {
		rte_iova_t iova = UINT64_C(1) << 41;

		must(rte_extmem_register(at, PAGE, &iova, 1, PAGE), "DPDK");
		must(rte_extmem_unregister(at, PAGE), "DPDK");
	}
	return (now_ns() - start) / PAIRS;
}
#endif

void dpdk_add(void)
{
#ifdef HAVE_DPDK
	static const struct {
		uint64_t live;
		const char *name;
	} sizes[] = {{10000, "10k"}, {100000, "100k"}, {1000000, "1M"}};

	if (!work_wanted("peer"))
		return;
	start_dpdk();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *at = reserve(sizes[i].live);

		register_pages(at, sizes[i].live);
		work_add(dpdk_find, at, 0, sizes[i].live, "peer: DPDK, find in one area, %s live",
			 sizes[i].name);
	}
	work_add(dpdk_pairs, reserve(1), 0, 0, "peer: DPDK, register + unregister a page");
#endif
}
