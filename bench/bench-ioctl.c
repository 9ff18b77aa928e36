/* SPDX-License-Identifier: MIT */
/*
 * bench-ioctl - what one preloaded VFIO ioctl costs, beside a real one: VFIO_IOMMU_MAP_DMA and
 * UNMAP_DMA of a 4 KiB page under `uiommu run`, and an ioctl on /dev/null, which is the least a
 * kernel can do for such a call. Rounds of the three alternate, so that a machine whose speed
 * drifts slows all of them down; each number is the median of the rounds.
 *
 * With --brief, these three numbers and no more. Else the growth: 65,536 pages mapped in a row as
 * DPDK does it, by how many were there before, then unmapped. Linux also pins the pages, which this
 * does not.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 41, CALLS = 2000, MAPS = 65536, CHUNK = 8192 };
#define PAGE UINT64_C(4096)
#define BASE UINT64_C(0x100000000)

static int container, null;
static uint8_t *memory;

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void open_container(void)
{
	DIR *dir = opendir("/dev/vfio");
	struct dirent *e;

	container = open("/dev/vfio/vfio", O_RDWR);
	while (dir && (e = readdir(dir))) {
		char path[300];
		int group;

		snprintf(path, sizeof(path), "/dev/vfio/%s", e->d_name);
		if (e->d_name[0] < '0' || e->d_name[0] > '9' || (group = open(path, O_RDWR)) < 0)
			continue;
		if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) ||
		    ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
			err(1, "%s", path);
		closedir(dir);
		return;
	}
	errx(1, "no VFIO group here: uiommu run -- %s", program_invocation_name);
}

static void map_page(uint64_t i)
{
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
					       .flags = VFIO_DMA_MAP_FLAG_READ |
							VFIO_DMA_MAP_FLAG_WRITE,
					       .vaddr = (uintptr_t)memory + i * PAGE,
					       .iova = BASE + i * PAGE,
					       .size = PAGE};

	if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map))
		err(1, "VFIO_IOMMU_MAP_DMA");
}

static void unmap_page(uint64_t i)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = BASE + i * PAGE, .size = PAGE};

	if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) || unmap.size != PAGE)
		err(1, "VFIO_IOMMU_UNMAP_DMA");
}

static void null_ioctl(uint64_t i)
{
	if (ioctl(null, _IO('Z', 1), &i) != -1)
		errx(1, "/dev/null took an ioctl");
}

/* Nanoseconds a call, of CALLS of them. */
static double measure(void (*op)(uint64_t))
{
	double start = now_ns();

	for (uint64_t i = 0; i < CALLS; i++)
		op(i);
	return (now_ns() - start) / CALLS;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
	qsort(values, count, sizeof(values[0]), compare);
	return values[count / 2];
}

static void one_call(bool brief)
{
	double map[ROUNDS], unmap[ROUNDS], real[ROUNDS], m, u, n;

	for (unsigned i = 0; i < ROUNDS; i++) {
		real[i] = measure(null_ioctl);
		map[i] = measure(map_page);
		unmap[i] = measure(unmap_page);
	}
	n = median(real, ROUNDS);
	m = median(map, ROUNDS);
	u = median(unmap, ROUNDS);
	if (brief) {
		printf("%.1f %.1f %.1f\n", n, m, u);
		return;
	}
	printf("%-44s %8s %8s\n", "one call, median of alternating rounds", "ns", "ratio");
	printf("%-44s %8.0f %8.2f\n", "ioctl on /dev/null, real", n, 1.0);
	printf("%-44s %8.0f %8.2f\n", "VFIO_IOMMU_MAP_DMA, 4 KiB, preloaded", m, m / n);
	printf("%-44s %8.0f %8.2f\n", "VFIO_IOMMU_UNMAP_DMA, 4 KiB, preloaded", u, u / n);
}

static void growth(void)
{
	double map[MAPS / CHUNK], unmap[MAPS / CHUNK];

	for (unsigned c = 0; c < MAPS / CHUNK; c++) {
		double start = now_ns();

		for (uint64_t i = c * CHUNK; i < (c + 1) * (uint64_t)CHUNK && i < MAPS - 1; i++)
			map_page(i);
		map[c] = (now_ns() - start) / CHUNK;
	}
	for (unsigned c = MAPS / CHUNK; c-- > 0;) {
		double start = now_ns();

		for (uint64_t i = c * CHUNK; i < (c + 1) * (uint64_t)CHUNK && i < MAPS - 1; i++)
			unmap_page(i);
		unmap[c] = (now_ns() - start) / CHUNK;
	}
	printf("\n%-28s %12s %12s\n", "mappings there before", "map, ns", "unmap, ns");
	for (unsigned c = 0; c < MAPS / CHUNK; c++)
		printf("%-28u %12.0f %12.0f\n", c * CHUNK, map[c], unmap[c]);
}

int main(int argc, char **argv)
{
	const bool brief = argc > 1 && !strcmp(argv[1], "--brief");

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	memory = mmap(NULL, MAPS * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (null < 0 || memory == MAP_FAILED)
		err(1, "set-up");
	open_container();
	one_call(brief);
	if (!brief)
		growth();
	return 0;
}
