/* SPDX-License-Identifier: MIT */
/*
 * memory - bytes a mapping, counted at the library's allocator: what is allocated for 1M mappings
 * of 4 KiB, tables and areas. Counting would slow the rest down, so a child does it.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <uiommu/space.h>

#define PAGE UINT64_C(4096)

enum { MAPPINGS = 1000000 };

static uint64_t held;

static void *count_alloc(size_t size, size_t align)
{
	void *p = aligned_alloc(align, (size + align - 1) / align * align);

	if (!p)
		return NULL;
	held += size;
	return memset(p, 0, size);
}

static void count_release(void *p, size_t size)
{
	held -= p ? size : 0;
	free(p);
}

static double count(bool random)
{
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = "vtd-ss", .width = 48};
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	uint64_t before;

	uiommu_set_allocator(count_alloc, count_release);
	must(uiommu_unit_create(NULL, &unit), "unit");
	must(uiommu_ioas_create(&ioas), "ioas");
	must(uiommu_domain_create(unit, ioas, &options, &domain), "domain");
	before = held;
	for (uint64_t i = 0; i < MAPPINGS; i++) {
		uint64_t at = random ? page_place(i) : i * PAGE;

		/* Memory that does not adjoin, so that nothing could be merged. */
		must(uiommu_ioas_map(ioas, (struct uiommu_range){at, at + PAGE - 1},
				     (UINT64_C(1) << 40) + 2 * i * PAGE, UIOMMU_READ, NULL),
		     "map");
	}
	return (double)(held - before) / MAPPINGS;
}

static double in_child(const struct work *work)
{
	double bytes = 0;
	int fds[2];
	pid_t pid;

	must(pipe(fds), "pipe");
	pid = fork();
	must(pid < 0, "fork");
	if (!pid) {
		bytes = count(work->arg != 0);
		_exit(write(fds[1], &bytes, sizeof(bytes)) != sizeof(bytes));
	}
	close(fds[1]);
	must(read(fds[0], &bytes, sizeof(bytes)) != sizeof(bytes), "counting memory");
	close(fds[0]);
	waitpid(pid, NULL, 0);
	return bytes;
}

/* Counted now, before there are other worlds; the rounds repeat the number, which never varies. */
static double counted(const struct work *work)
{
	return *(double *)work->state;
}

void memory_add(void)
{
	static double bytes[2];

	for (uint64_t random = 0; random < 2; random++) {
		struct work *work;

		if (!work_wanted("memory"))
			return;
		bytes[random] = in_child(&(struct work){.arg = random});
		work = work_add(counted, &bytes[random], random, MAPPINGS, "memory: 4 KiB %s, 1M",
				random ? "random in 36 bits" : "sequential");
		work->unit = "bytes";
		work->rounds_most = 1;
	}
}
