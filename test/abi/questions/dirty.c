/* SPDX-License-Identifier: MIT */
/*
 * dirty.c - DIRTY_PAGES of a container, and UNMAP_DMA that asks for dirty pages. The device doesn't
 * write: on an IOMMU without dirty tracking every mapped page counts as dirty.
 */
#include "ask.h"

#define FLAG_START  VFIO_IOMMU_DIRTY_PAGES_FLAG_START
#define FLAG_STOP   VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
#define FLAG_BITMAP VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP

struct dirty {
	struct vfio_iommu_type1_dirty_bitmap head;
	struct vfio_iommu_type1_dirty_bitmap_get get;
};

static uint64_t bits[8];

static int dirty(int fd, uint32_t flags)
{
	struct vfio_iommu_type1_dirty_bitmap request = {.argsz = sizeof(request), .flags = flags};

	return ask(fd, VFIO_IOMMU_DIRTY_PAGES, &request);
}

static void say_bitmap(int fd, const char *question, uint64_t iova, uint64_t size, uint64_t page,
		       uint64_t bytes)
{
	struct dirty request = {
		.head = {.argsz = sizeof(request), .flags = FLAG_BITMAP},
		.get = {.iova = iova,
			.size = size,
			.bitmap = {.pgsize = page, .size = bytes, .data = (void *)bits}},
	};
	char text[96];
	int result;

	memset(bits, 0, sizeof(bits));
	result = ask(fd, VFIO_IOMMU_DIRTY_PAGES, &request);
	snprintf(text, sizeof(text), "dirty.bitmap.%s", question);
	say(text, "%s 0x%llx", result_name(result), (unsigned long long)bits[0]);
}

static void ask_bitmaps(int fd)
{
	dma_map(fd, BASE, source_at(MEMORY), 4 * PAGE, RW);
	dma_map(fd, BASE + 4 * PAGE, source_at(MEMORY), 2 * PAGE, VFIO_DMA_MAP_FLAG_READ);
	say_bitmap(fd, "whole", BASE, 4 * PAGE, PAGE, 8);
	say_bitmap(fd, "whole.again", BASE, 4 * PAGE, PAGE, 8);
	say_bitmap(fd, "two", BASE, 6 * PAGE, PAGE, 8);
	say_bitmap(fd, "part", BASE, 2 * PAGE, PAGE, 8);
	say_bitmap(fd, "tail", BASE + PAGE, 3 * PAGE, PAGE, 8);
	say_bitmap(fd, "behind", BASE, 16 * PAGE, PAGE, 8);
	say_bitmap(fd, "before", BASE - 4 * PAGE, 16 * PAGE, PAGE, 8);
	say_bitmap(fd, "nothing", BASE + 32 * PAGE, 4 * PAGE, PAGE, 8);
	say_bitmap(fd, "size-0", BASE, 0, PAGE, 8);
	say_bitmap(fd, "page-size-2", BASE, 4 * PAGE, 2 * PAGE, 8);
	say_bitmap(fd, "page-size-0", BASE, 4 * PAGE, 0, 8);
	say_bitmap(fd, "page-size-odd", BASE, 4 * PAGE, PAGE + 1, 8);
	say_bitmap(fd, "iova-odd", BASE + 1, 4 * PAGE, PAGE, 8);
	say_bitmap(fd, "size-odd", BASE, 4 * PAGE + 1, PAGE, 8);
	say_bitmap(fd, "too-small", BASE, 4 * PAGE, PAGE, 0);
	say_bitmap(fd, "too-small-7", BASE, 4 * PAGE, PAGE, 7);
	say_bitmap(fd, "larger", BASE, 4 * PAGE, PAGE, 16);
	say_bitmap(fd, "enormous", BASE, 4 * PAGE, PAGE, UINT64_C(1) << 40);
	say_bitmap(fd, "wraps", UINT64_MAX - PAGE + 1, 2 * PAGE, PAGE, 8);
}

static void ask_unmap_dirty(int fd, const char *question, uint64_t bytes, uint64_t page)
{
	struct {
		struct vfio_iommu_type1_dma_unmap head;
		struct vfio_bitmap bitmap;
	} request = {
		.head = {.argsz = sizeof(request),
			 .flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
			 .iova = BASE,
			 .size = 4 * PAGE},
		.bitmap = {.pgsize = page, .size = bytes, .data = (void *)bits},
	};
	char text[96];
	int result;

	memset(bits, 0, sizeof(bits));
	dma_map(fd, BASE, source_at(MEMORY), 4 * PAGE, RW);
	result = ask(fd, VFIO_IOMMU_UNMAP_DMA, &request);
	snprintf(text, sizeof(text), "dirty.unmap.%s", question);
	say(text, "%s size 0x%llx bitmap 0x%llx", result_name(result),
	    (unsigned long long)request.head.size, (unsigned long long)bits[0]);
}

static void ask_form(int fd)
{
	struct vfio_iommu_type1_dirty_bitmap request;
	struct sweep sweep = {.question = "dirty.argsz"};
	uint32_t size;
	unsigned bit;

	for (size = 0; size <= 16; size++) {
		request = (struct vfio_iommu_type1_dirty_bitmap){.argsz = size, .flags = FLAG_STOP};
		sweep_add(&sweep, size, "%s",
			  result_name(ask(fd, VFIO_IOMMU_DIRTY_PAGES, &request)));
	}
	sweep_end(&sweep);
	answer(dirty(fd, FLAG_BITMAP), "dirty.bitmap.short");
	answer(dirty(fd, 0), "dirty.flags.none");
	answer(dirty(fd, FLAG_START | FLAG_STOP), "dirty.flags.two");
	answer(dirty(fd, FLAG_START | FLAG_BITMAP), "dirty.flags.other-two");
	for (bit = 3; bit < 32; bit++)
		answer(dirty(fd, 1u << bit), "dirty.flag.%u", bit);
	answer(ask(fd, VFIO_IOMMU_DIRTY_PAGES, NULL), "dirty.null");
}

void ask_dirty_pages(int fd)
{
	uint64_t size = 0;

	dma_unmap(fd, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL);
	ask_form(fd);
	say_bitmap(fd, "not-started", BASE, 4 * PAGE, PAGE, 8);
	answer(dirty(fd, FLAG_STOP), "dirty.stop.not-started");
	answer(dirty(fd, FLAG_START), "dirty.start");
	answer(dirty(fd, FLAG_START), "dirty.start.twice");
	ask_bitmaps(fd);
	size = 0;
	dma_unmap(fd, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL);
	ask_unmap_dirty(fd, "plain", 8, PAGE);
	size = 0;
	dma_unmap(fd, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL);
	ask_unmap_dirty(fd, "too-small", 0, PAGE);
	size = 0;
	dma_unmap(fd, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL);
	ask_unmap_dirty(fd, "page-size-2", 8, 2 * PAGE);
	size = 0;
	dma_unmap(fd, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL);
	answer(dirty(fd, FLAG_STOP), "dirty.stop");
	answer(dirty(fd, FLAG_STOP), "dirty.stop.twice");
}
