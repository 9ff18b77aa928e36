/* SPDX-License-Identifier: MIT */
/*
 * type1.c - MAP_DMA and UNMAP_DMA, of type1 version 1 and 2 and of iommufd's container: every
 * boundary, each flag, each kind of bad memory.
 */
#include "ask.h"

#define M (source_at(MEMORY))

int dma_map(int fd, uint64_t iova, uint64_t vaddr, uint64_t size, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = flags, .vaddr = vaddr, .iova = iova, .size = size};

	return ask(fd, VFIO_IOMMU_MAP_DMA, &map);
}

int dma_unmap(int fd, uint64_t iova, uint64_t *size, uint32_t flags)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .flags = flags, .iova = iova, .size = *size};
	int result = ask(fd, VFIO_IOMMU_UNMAP_DMA, &unmap);

	*size = unmap.size;
	return result;
}

static void clear(int fd)
{
	uint64_t size = 0;

	dma_unmap(fd, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL);
}

/* A map in an empty container, and nothing left of it. */
static void map_alone(int fd, const char *question, uint64_t iova, uint64_t vaddr, uint64_t size,
		      uint32_t flags)
{
	answer(dma_map(fd, iova, vaddr, size, flags), "map.%s", question);
	clear(fd);
}

static void say_unmap(int fd, const char *question, uint64_t iova, uint64_t size, uint32_t flags)
{
	int result = dma_unmap(fd, iova, &size, flags);
	char text[96];

	snprintf(text, sizeof(text), "unmap.%s", question);
	say(text, "%s size 0x%llx", result_name(result), (unsigned long long)size);
}

static void ask_map_flags(int fd)
{
	unsigned bit;

	map_alone(fd, "plain", BASE, M, 2 * PAGE, RW);
	map_alone(fd, "read", BASE, M, PAGE, VFIO_DMA_MAP_FLAG_READ);
	map_alone(fd, "write", BASE, M, PAGE, VFIO_DMA_MAP_FLAG_WRITE);
	map_alone(fd, "neither", BASE, M, PAGE, 0);
	for (bit = 2; bit < 32; bit++) {
		answer(dma_map(fd, BASE, M, PAGE, RW | 1u << bit), "map.flag.%u", bit);
		clear(fd);
	}
	answer(dma_map(fd, BASE, M, PAGE, VFIO_DMA_MAP_FLAG_VADDR), "map.vaddr-of-nothing");
}

static void ask_map_sizes(int fd)
{
	struct vfio_iommu_type1_dma_map map;
	struct sweep sweep = {.question = "map.argsz"};
	uint32_t size;

	for (size = 0; size <= 64; size++) {
		map = (struct vfio_iommu_type1_dma_map){
			.argsz = size, .flags = RW, .vaddr = M, .iova = BASE, .size = PAGE};
		sweep_add(&sweep, size, "%s", result_name(ask(fd, VFIO_IOMMU_MAP_DMA, &map)));
		clear(fd);
	}
	sweep_end(&sweep);
	answer(ask(fd, VFIO_IOMMU_MAP_DMA, NULL), "map.null");
}

static void ask_map_alignment(int fd)
{
	map_alone(fd, "iova-odd", BASE + 1, M, PAGE, RW);
	map_alone(fd, "iova-half", BASE + PAGE / 2, M, PAGE, RW);
	map_alone(fd, "vaddr-half", BASE, M + PAGE / 2, PAGE, RW);
	map_alone(fd, "both-half", BASE + PAGE / 2, M + PAGE / 2, PAGE, RW);
	map_alone(fd, "size-half", BASE, M, PAGE / 2, RW);
	map_alone(fd, "size-odd", BASE, M, PAGE + 1, RW);
	map_alone(fd, "size-0", BASE, M, 0, RW);
	map_alone(fd, "all-0", 0, 0, 0, RW);
	map_alone(fd, "iova-0", 0, M, PAGE, RW);
	map_alone(fd, "large", BASE, M, MEMORY_SIZE, RW);
	map_alone(fd, "large-apart", BASE + PAGE, M, MEMORY_SIZE, RW);
	map_alone(fd, "large-vaddr-apart", BASE, M + PAGE, MEMORY_SIZE - PAGE, RW);
}

static void ask_map_wraps(int fd)
{
	map_alone(fd, "iova-wraps", UINT64_MAX - PAGE + 1, M, 2 * PAGE, RW);
	map_alone(fd, "iova-wraps-to-0", UINT64_MAX - 2 * PAGE + 1, M, 2 * PAGE, RW);
	map_alone(fd, "last-page", UINT64_MAX - PAGE + 1, M, PAGE, RW);
	map_alone(fd, "iova-largest", UINT64_MAX, M, PAGE, RW);
	map_alone(fd, "vaddr-wraps", BASE, UINT64_MAX - PAGE + 1, 2 * PAGE, RW);
	map_alone(fd, "vaddr-last-page", BASE, UINT64_MAX - PAGE + 1, PAGE, RW);
	map_alone(fd, "vaddr-largest", BASE, UINT64_MAX, PAGE, RW);
	map_alone(fd, "size-largest", 0, M, UINT64_MAX, RW);
	map_alone(fd, "size-largest-page", 0, M, UINT64_MAX - PAGE + 1, RW);
	map_alone(fd, "size-half-of-all", 0, M, UINT64_C(1) << 63, RW);
	map_alone(fd, "size-wraps-both", BASE, M, UINT64_MAX - PAGE + 1, RW);
	map_alone(fd, "vaddr-of-kernel", BASE, UINT64_C(0xffff800000000000), PAGE, RW);
	map_alone(fd, "vaddr-not-canonical", BASE, UINT64_C(0x0100000000000000), PAGE, RW);
	map_alone(fd, "vaddr-0", BASE, 0, PAGE, RW);
}

static void ask_map_sources(int fd)
{
	static const struct {
		const char *name;
		uint32_t flags;
	} ways[] = {
		{"read", VFIO_DMA_MAP_FLAG_READ}, {"write", VFIO_DMA_MAP_FLAG_WRITE}, {"both", RW}};
	uint64_t size, pages;
	unsigned source, i;

	for (source = MEMORY; source < SOURCES; source++)
		for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
			for (pages = 1; pages <= 16; pages *= 4) {
				answer(dma_map(fd, BASE, source_at(source), pages * PAGE,
					       ways[i].flags),
				       "map.source.%s.%s.%u", source_name(source), ways[i].name,
				       (unsigned)pages);
				/* What failed halfway has left nothing. */
				size = pages * PAGE;
				if (source == HALF_THERE && i == 2)
					say_unmap(fd, "source.half-there.after", BASE, size, 0);
				clear(fd);
			}
}

static void ask_map_overlaps(int fd)
{
	static const struct {
		const char *name;
		int64_t from, pages;
	} rows[] = {{"same", 0, 4},   {"head", 0, 1},	 {"tail", 3, 1},
		    {"middle", 1, 2}, {"around", -1, 6}, {"below", -1, 2},
		    {"above", 3, 2},  {"before", -1, 1}, {"behind", 4, 1}};
	uint64_t size;
	unsigned i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size = (uint64_t)rows[i].pages * PAGE;
		dma_map(fd, BASE, M, 4 * PAGE, RW);
		answer(dma_map(fd, BASE + (uint64_t)rows[i].from * PAGE, M, size, RW),
		       "map.overlap.%s", rows[i].name);
		clear(fd);
	}
}

/* How many mappings there may be. */
static void ask_map_entries(int fd)
{
	uint64_t count = 0, size = 0;
	int result = 0;

	while (!result && count < 70000)
		if (!(result = dma_map(fd, BASE + count * 2 * PAGE, M, PAGE, RW)))
			count++;
	say("map.entries", "%llu, then %s", (unsigned long long)count, result_name(result));
	result = dma_unmap(fd, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL);
	say("map.entries.unmap", "%s size 0x%llx", result_name(result), (unsigned long long)size);
}

/* Around each reserved region of the device. */
static void ask_map_reserved(int fd, const struct target *target)
{
	const struct region *region;
	unsigned i;

	for (i = 0; i < target->reserved_count; i++) {
		region = &target->reserved[i];
		answer(dma_map(fd, region->first, M, PAGE, RW), "map.reserved.%u.first", i);
		clear(fd);
		answer(dma_map(fd, region->last - PAGE + 1, M, PAGE, RW), "map.reserved.%u.last",
		       i);
		clear(fd);
		answer(dma_map(fd, region->first - PAGE, M, PAGE, RW), "map.reserved.%u.below", i);
		clear(fd);
		answer(dma_map(fd, region->last + 1, M, PAGE, RW), "map.reserved.%u.above", i);
		clear(fd);
		answer(dma_map(fd, region->first - PAGE, M, 2 * PAGE, RW), "map.reserved.%u.into",
		       i);
		clear(fd);
		answer(dma_map(fd, region->last - PAGE + 1, M, 2 * PAGE, RW), "map.reserved.%u.out",
		       i);
		clear(fd);
	}
}

/* Which powers of two can be mapped. */
static void ask_map_width(int fd)
{
	struct sweep first = {.question = "map.width.page-at-bit"};
	struct sweep last = {.question = "map.width.page-below-bit"};
	struct sweep across = {.question = "map.width.across-bit"};
	unsigned bit;

	for (bit = 30; bit < 64; bit++) {
		sweep_add(&first, bit, "%s",
			  result_name(dma_map(fd, UINT64_C(1) << bit, M, PAGE, RW)));
		clear(fd);
	}
	sweep_end(&first);
	for (bit = 30; bit < 64; bit++) {
		sweep_add(&last, bit, "%s",
			  result_name(dma_map(fd, (UINT64_C(1) << bit) - PAGE, M, PAGE, RW)));
		clear(fd);
	}
	sweep_end(&last);
	for (bit = 30; bit < 64; bit++) {
		sweep_add(&across, bit, "%s",
			  result_name(dma_map(fd, (UINT64_C(1) << bit) - PAGE, M, 2 * PAGE, RW)));
		clear(fd);
	}
	sweep_end(&across);
}

/* ---- UNMAP_DMA ----------------------------------------------------------------------------- */

/* Three mappings with a hole: [0, 4), [4, 6), then nothing, [8, 12). */
static void lay_out(int fd)
{
	clear(fd);
	dma_map(fd, BASE, M, 4 * PAGE, RW);
	dma_map(fd, BASE + 4 * PAGE, M, 2 * PAGE, RW);
	dma_map(fd, BASE + 8 * PAGE, M, 4 * PAGE, RW);
}

/* Which of those pages are mapped: a map of one page says. */
static void say_left(int fd, const char *question)
{
	char text[96], pages[16];
	unsigned page;
	uint64_t size;

	for (page = 0; page < 14; page++) {
		pages[page] = '#';
		if (!dma_map(fd, BASE + page * PAGE, M, PAGE, RW)) {
			pages[page] = '.';
			size = PAGE;
			dma_unmap(fd, BASE + page * PAGE, &size, 0);
		}
	}
	pages[page] = 0;
	snprintf(text, sizeof(text), "unmap.%s.left", question);
	say(text, "%s", pages);
}

static void ask_unmap_ranges(int fd)
{
	static const struct {
		const char *name;
		int64_t from, pages;
	} rows[] = {
		{"whole", 0, 4},
		{"head", 0, 1},
		{"middle", 1, 2},
		{"tail", 3, 1},
		{"two", 0, 6},
		{"whole-and-part", 0, 5},
		{"part-and-whole", 2, 4},
		{"over-hole", 4, 8},
		{"all-of-them", 0, 12},
		{"around", -1, 14},
		{"hole", 6, 2},
		{"hole-and-part", 6, 3},
		{"part-and-hole", 5, 2},
		{"nothing", 20, 4},
		{"below-and-head", -1, 2},
		{"tail-and-above", 11, 4},
	};
	unsigned i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		lay_out(fd);
		say_unmap(fd, rows[i].name, BASE + (uint64_t)rows[i].from * PAGE,
			  (uint64_t)rows[i].pages * PAGE, 0);
		say_left(fd, rows[i].name);
	}
}

static void ask_unmap_arguments(int fd)
{
	static const struct {
		const char *name;
		uint64_t iova, size;
		uint32_t flags;
	} rows[] = {
		{"size-0", BASE, 0, 0},
		{"iova-odd", BASE + 1, PAGE, 0},
		{"size-odd", BASE, PAGE + 1, 0},
		{"size-half", BASE, PAGE / 2, 0},
		{"iova-half", BASE + PAGE / 2, PAGE, 0},
		{"everything", 0, UINT64_MAX, 0},
		{"everything-in-pages", 0, UINT64_MAX - PAGE + 1, 0},
		{"half-of-everything", 0, UINT64_C(1) << 63, 0},
		{"wraps", BASE, UINT64_MAX - PAGE + 1, 0},
		{"wraps-to-0", BASE, -BASE, 0},
		{"last-page", UINT64_MAX - PAGE + 1, PAGE, 0},
		{"last-pages-wrap", UINT64_MAX - PAGE + 1, 2 * PAGE, 0},
		{"all", 0, 0, VFIO_DMA_UNMAP_FLAG_ALL},
		{"all.iova", BASE, 0, VFIO_DMA_UNMAP_FLAG_ALL},
		{"all.size", 0, PAGE, VFIO_DMA_UNMAP_FLAG_ALL},
		{"all.largest", 0, UINT64_MAX, VFIO_DMA_UNMAP_FLAG_ALL},
		{"dirty-not-tracked", BASE, 4 * PAGE, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP},
		{"all-and-dirty", 0, 0, VFIO_DMA_UNMAP_FLAG_ALL | 1},
		{"all-and-vaddr", 0, 0, VFIO_DMA_UNMAP_FLAG_ALL | 4},
		{"dirty-and-vaddr", BASE, 4 * PAGE, 1 | 4},
	};
	unsigned i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		lay_out(fd);
		say_unmap(fd, rows[i].name, rows[i].iova, rows[i].size, rows[i].flags);
		if (!strstr(rows[i].name, "vaddr"))
			say_left(fd, rows[i].name);
		clear(fd);
	}
	clear(fd);
	say_unmap(fd, "all-of-nothing", 0, 0, VFIO_DMA_UNMAP_FLAG_ALL);
	say_unmap(fd, "everything-of-nothing", 0, UINT64_MAX, 0);
}

static void ask_unmap_form(int fd)
{
	struct vfio_iommu_type1_dma_unmap unmap;
	struct sweep sweep = {.question = "unmap.argsz"};
	uint32_t size;
	unsigned bit;

	for (size = 0; size <= 48; size++) {
		unmap = (struct vfio_iommu_type1_dma_unmap){
			.argsz = size, .iova = BASE, .size = PAGE};
		dma_map(fd, BASE, M, PAGE, RW);
		sweep_add(&sweep, size, "%s", result_name(ask(fd, VFIO_IOMMU_UNMAP_DMA, &unmap)));
		clear(fd);
	}
	sweep_end(&sweep);
	for (bit = 0; bit < 32; bit++) {
		char question[32];

		dma_map(fd, BASE, M, PAGE, RW);
		snprintf(question, sizeof(question), "flag.%u", bit);
		say_unmap(fd, question, BASE, PAGE, 1u << bit);
		clear(fd);
	}
	answer(ask(fd, VFIO_IOMMU_UNMAP_DMA, NULL), "unmap.null");
}

/* UNMAP with VADDR takes the memory away and leaves the mapping; MAP with VADDR gives it another.
 */
static void ask_vaddr(int fd)
{
	answer(dma_map(fd, BASE, M, 2 * PAGE, RW), "vaddr.map");
	say_unmap(fd, "vaddr.head", BASE, PAGE, VFIO_DMA_UNMAP_FLAG_VADDR);
	say_unmap(fd, "vaddr", BASE, 2 * PAGE, VFIO_DMA_UNMAP_FLAG_VADDR);
	say_unmap(fd, "vaddr.twice", BASE, 2 * PAGE, VFIO_DMA_UNMAP_FLAG_VADDR);
	answer(dma_map(fd, BASE + PAGE * 8, M, PAGE, RW), "vaddr.map-another");
	answer(dma_map(fd, BASE, M, PAGE, VFIO_DMA_MAP_FLAG_VADDR), "vaddr.remap.part");
	answer(dma_map(fd, BASE, M, 2 * PAGE, RW | VFIO_DMA_MAP_FLAG_VADDR), "vaddr.remap.rights");
	answer(dma_map(fd, BASE, M + PAGE, 2 * PAGE, VFIO_DMA_MAP_FLAG_VADDR), "vaddr.remap");
	answer(dma_map(fd, BASE, M, 2 * PAGE, VFIO_DMA_MAP_FLAG_VADDR), "vaddr.remap.twice");
	say_unmap(fd, "vaddr.after", BASE, 2 * PAGE, 0);
	clear(fd);
}

void ask_type1(const struct machine *machine, const char *name, const char *path, unsigned type)
{
	struct container container;
	int result = container_open(&container, machine, path, type);

	section("%s", name);
	answer(result, "open");
	if (result)
		return;
	ask_map_flags(container.fd);
	ask_map_sizes(container.fd);
	ask_map_alignment(container.fd);
	ask_map_wraps(container.fd);
	ask_map_sources(container.fd);
	ask_map_overlaps(container.fd);
	ask_map_reserved(container.fd, &machine->device);
	ask_map_width(container.fd);
	if (type == VFIO_TYPE1v2_IOMMU && !strcmp(path, "/dev/vfio/vfio"))
		ask_map_entries(container.fd);
	ask_unmap_ranges(container.fd);
	ask_unmap_arguments(container.fd);
	ask_unmap_form(container.fd);
	ask_vaddr(container.fd);
	ask_dirty_pages(container.fd);
	container_close(&container);
}
