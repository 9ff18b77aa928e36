/* SPDX-License-Identifier: MIT */
/*
 * ioas.c - iommufd's address spaces: ranges, MAP and UNMAP, first without a device and then with
 * one attached.
 */
#include "ask.h"

#define M     (source_at(MEMORY))
#define FIXED IOMMU_IOAS_MAP_FIXED_IOVA
#define READ  IOMMU_IOAS_MAP_READABLE
#define WRITE IOMMU_IOAS_MAP_WRITEABLE
#define ALL   (FIXED | READ | WRITE)

static int map_at(int fd, uint32_t ioas, uint64_t iova, uint64_t va, uint64_t length,
		  uint32_t flags)
{
	return ioas_map(fd, ioas, flags, va, length, &iova);
}

static void clear(int fd, uint32_t ioas)
{
	uint64_t length = UINT64_MAX;

	ioas_unmap(fd, ioas, 0, &length);
}

static void map_alone(int fd, uint32_t ioas, const char *question, uint64_t iova, uint64_t va,
		      uint64_t length, uint32_t flags)
{
	answer(map_at(fd, ioas, iova, va, length, flags), "map.%s", question);
	clear(fd, ioas);
}

static void say_unmap(int fd, uint32_t ioas, const char *question, uint64_t iova, uint64_t length)
{
	char text[96];
	int result = ioas_unmap(fd, ioas, iova, &length);

	snprintf(text, sizeof(text), "unmap.%s", question);
	say(text, "%s length 0x%llx", result_name(result), (unsigned long long)length);
}

/* ---- ranges -------------------------------------------------------------------------------- */

static void say_ranges(int fd, uint32_t ioas, const char *question, uint32_t room)
{
	struct iommu_iova_range ranges[16] = {{0}};
	struct iommu_ioas_iova_ranges request = {.size = sizeof(request),
						 .ioas_id = ioas,
						 .num_iovas = room,
						 .allowed_iovas = (uintptr_t)ranges};
	int result = ask(fd, IOMMU_IOAS_IOVA_RANGES, &request);
	char text[96];
	uint32_t i;

	snprintf(text, sizeof(text), "ranges.%s", question);
	say(text, "%s number %u alignment 0x%llx", result_name(result), request.num_iovas,
	    (unsigned long long)request.out_iova_alignment);
	for (i = 0; i < 16; i++)
		if (ranges[i].start || ranges[i].last)
			say(text, "0x%llx-0x%llx", (unsigned long long)ranges[i].start,
			    (unsigned long long)ranges[i].last);
}

static void ask_ranges(int fd, uint32_t ioas)
{
	struct iommu_ioas_iova_ranges request = {
		.size = sizeof(request), .ioas_id = ioas, .num_iovas = 1};

	say_ranges(fd, ioas, "16", 16);
	say_ranges(fd, ioas, "1", 1);
	say_ranges(fd, ioas, "0", 0);
	say_ranges(fd, 0, "id-0", 1);
	say_ranges(fd, 0x7fffffff, "id-unknown", 1);
	answer(ask(fd, IOMMU_IOAS_IOVA_RANGES, &request), "ranges.null");
	request.num_iovas = 0;
	answer(ask(fd, IOMMU_IOAS_IOVA_RANGES, &request), "ranges.null.0");
	request.__reserved = 1;
	answer(ask(fd, IOMMU_IOAS_IOVA_RANGES, &request), "ranges.reserved");
}

/* ---- MAP ----------------------------------------------------------------------------------- */

static void ask_map_form(int fd, uint32_t ioas)
{
	struct iommu_ioas_map request = {.size = sizeof(request),
					 .flags = ALL,
					 .ioas_id = ioas,
					 .user_va = M,
					 .length = PAGE,
					 .iova = BASE};
	unsigned bit;

	map_alone(fd, ioas, "plain", BASE, M, PAGE, ALL);
	map_alone(fd, ioas, "read", BASE, M, PAGE, FIXED | READ);
	map_alone(fd, ioas, "write", BASE, M, PAGE, FIXED | WRITE);
	map_alone(fd, ioas, "neither", BASE, M, PAGE, FIXED);
	for (bit = 3; bit < 32; bit++)
		answer(map_at(fd, ioas, BASE, M, PAGE, ALL | 1u << bit), "map.flag.%u", bit);
	map_alone(fd, 0, "id-0", BASE, M, PAGE, ALL);
	map_alone(fd, 0x7fffffff, "id-unknown", BASE, M, PAGE, ALL);
	request.__reserved = 1;
	answer(ask(fd, IOMMU_IOAS_MAP, &request), "map.reserved");
	request.__reserved = 0;
	request.flags = 8;
	request.ioas_id = 0;
	request.length = 0;
	answer(ask(fd, IOMMU_IOAS_MAP, &request), "map.order.flag-before-all");
	request.flags = FIXED;
	request.length = UINT64_MAX;
	answer(ask(fd, IOMMU_IOAS_MAP, &request), "map.order.overflow-before-rights");
	request.length = PAGE;
	answer(ask(fd, IOMMU_IOAS_MAP, &request), "map.order.rights-before-id");
	clear(fd, ioas);
}

static void ask_map_boundaries(int fd, uint32_t ioas)
{
	map_alone(fd, ioas, "iova-odd", BASE + 1, M, PAGE, ALL);
	map_alone(fd, ioas, "iova-half", BASE + PAGE / 2, M, PAGE, ALL);
	map_alone(fd, ioas, "va-odd", BASE, M + 1, PAGE, ALL);
	map_alone(fd, ioas, "va-half", BASE, M + PAGE / 2, PAGE, ALL);
	map_alone(fd, ioas, "both-half", BASE + PAGE / 2, M + PAGE / 2, PAGE, ALL);
	map_alone(fd, ioas, "length-half", BASE, M, PAGE / 2, ALL);
	map_alone(fd, ioas, "length-odd", BASE, M, PAGE + 1, ALL);
	map_alone(fd, ioas, "length-0", BASE, M, 0, ALL);
	map_alone(fd, ioas, "iova-0", 0, M, PAGE, ALL);
	map_alone(fd, ioas, "large", BASE, M, MEMORY_SIZE, ALL);
	map_alone(fd, ioas, "large-apart", BASE + PAGE, M, MEMORY_SIZE, ALL);
	map_alone(fd, ioas, "iova-wraps", UINT64_MAX - PAGE + 1, M, 2 * PAGE, ALL);
	map_alone(fd, ioas, "last-page", UINT64_MAX - PAGE + 1, M, PAGE, ALL);
	map_alone(fd, ioas, "iova-largest", UINT64_MAX, M, PAGE, ALL);
	map_alone(fd, ioas, "length-largest", 0, M, UINT64_MAX, ALL);
	map_alone(fd, ioas, "length-largest-page", 0, M, UINT64_MAX - PAGE + 1, ALL);
	map_alone(fd, ioas, "length-half-of-all", 0, M, UINT64_C(1) << 63, ALL);
	map_alone(fd, ioas, "length-wraps-both", BASE, M, UINT64_MAX - PAGE + 1, ALL);
	map_alone(fd, ioas, "va-wraps", BASE, UINT64_MAX - PAGE + 1, 2 * PAGE, ALL);
	map_alone(fd, ioas, "va-last-page", BASE, UINT64_MAX - PAGE + 1, PAGE, ALL);
	map_alone(fd, ioas, "va-largest", BASE, UINT64_MAX, PAGE, ALL);
	map_alone(fd, ioas, "va-of-kernel", BASE, UINT64_C(0xffff800000000000), PAGE, ALL);
	map_alone(fd, ioas, "va-not-canonical", BASE, UINT64_C(0x0100000000000000), PAGE, ALL);
	map_alone(fd, ioas, "va-0", BASE, 0, PAGE, ALL);
}

static void ask_map_sources(int fd, uint32_t ioas)
{
	static const struct {
		const char *name;
		uint32_t flags;
	} ways[] = {{"read", READ}, {"write", WRITE}, {"both", READ | WRITE}};
	unsigned source, i;
	uint64_t pages;

	for (source = MEMORY; source < SOURCES; source++)
		for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
			for (pages = 1; pages <= 16; pages *= 4) {
				answer(map_at(fd, ioas, BASE, source_at(source), pages * PAGE,
					      FIXED | ways[i].flags),
				       "map.source.%s.%s.%u", source_name(source), ways[i].name,
				       (unsigned)pages);
				if (source == HALF_THERE && i == 2)
					say_unmap(fd, ioas, "source.half-there.after", BASE,
						  pages * PAGE);
				clear(fd, ioas);
			}
}

static void ask_map_overlaps(int fd, uint32_t ioas)
{
	static const struct {
		const char *name;
		int64_t from, pages;
	} rows[] = {{"same", 0, 4},   {"head", 0, 1},	 {"tail", 3, 1},
		    {"middle", 1, 2}, {"around", -1, 6}, {"below", -1, 2},
		    {"above", 3, 2},  {"before", -1, 1}, {"behind", 4, 1}};
	unsigned i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		map_at(fd, ioas, BASE, M, 4 * PAGE, ALL);
		answer(map_at(fd, ioas, BASE + (uint64_t)rows[i].from * PAGE, M,
			      (uint64_t)rows[i].pages * PAGE, ALL),
		       "map.overlap.%s", rows[i].name);
		clear(fd, ioas);
	}
}

static void ask_map_reserved(int fd, uint32_t ioas, const struct target *target)
{
	const struct region *region;
	unsigned i;

	for (i = 0; i < target->reserved_count; i++) {
		region = &target->reserved[i];
		answer(map_at(fd, ioas, region->first, M, PAGE, ALL), "map.reserved.%u.first", i);
		clear(fd, ioas);
		answer(map_at(fd, ioas, region->last - PAGE + 1, M, PAGE, ALL),
		       "map.reserved.%u.last", i);
		clear(fd, ioas);
		answer(map_at(fd, ioas, region->first - PAGE, M, 2 * PAGE, ALL),
		       "map.reserved.%u.into", i);
		clear(fd, ioas);
		answer(map_at(fd, ioas, region->last - PAGE + 1, M, 2 * PAGE, ALL),
		       "map.reserved.%u.out", i);
		clear(fd, ioas);
	}
}

static void ask_map_width(int fd, uint32_t ioas)
{
	struct sweep at = {.question = "map.width.page-at-bit"};
	struct sweep across = {.question = "map.width.across-bit"};
	unsigned bit;

	for (bit = 30; bit < 64; bit++) {
		sweep_add(&at, bit, "%s",
			  result_name(map_at(fd, ioas, UINT64_C(1) << bit, M, PAGE, ALL)));
		clear(fd, ioas);
	}
	sweep_end(&at);
	for (bit = 30; bit < 64; bit++) {
		sweep_add(&across, bit, "%s",
			  result_name(
				  map_at(fd, ioas, (UINT64_C(1) << bit) - PAGE, M, 2 * PAGE, ALL)));
		clear(fd, ioas);
	}
	sweep_end(&across);
}

/* ---- placement ----------------------------------------------------------------------------- */

static void say_place(int fd, uint32_t ioas, const char *question, uint64_t va, uint64_t length)
{
	uint64_t iova = 0;
	char text[96];
	int result = ioas_map(fd, ioas, READ | WRITE, va, length, &iova);

	snprintf(text, sizeof(text), "place.%s", question);
	if (result)
		answer(result, "%s", text);
	else
		say(text, "0x%llx", (unsigned long long)iova);
}

static void ask_placement(int fd, uint32_t ioas)
{
	uint64_t length = PAGE;

	clear(fd, ioas);
	say_place(fd, ioas, "page", M, PAGE);
	say_place(fd, ioas, "page.second", M, PAGE);
	say_place(fd, ioas, "16-pages", M, 16 * PAGE);
	say_place(fd, ioas, "page.third", M, PAGE);
	say_place(fd, ioas, "page.at-odd-page", M + PAGE, PAGE);
	say_place(fd, ioas, "2-pages.at-odd-page", M + PAGE, 2 * PAGE);
	say_place(fd, ioas, "3-pages", M, 3 * PAGE);
	say_place(fd, ioas, "5-pages.at-4", M + 4 * PAGE, 5 * PAGE);
	say_place(fd, ioas, "large", M, MEMORY_SIZE);
	say_place(fd, ioas, "half-large", M, MEMORY_SIZE / 2);
	say_place(fd, ioas, "large-less-a-page", M, MEMORY_SIZE - PAGE);
	ioas_unmap(fd, ioas, 0x2000, &length);
	say_place(fd, ioas, "page.into-hole", M, PAGE);
	say_place(fd, ioas, "half-page", M, PAGE / 2);
	say_place(fd, ioas, "odd-source", M + 0x123, 0x100);
	say_place(fd, ioas, "odd-source.16", M + 0x10, 0x10);
	say_place(fd, ioas, "length-0", M, 0);
	say_place(fd, ioas, "too-large", M, UINT64_C(1) << 63);
	clear(fd, ioas);
}

/* ---- UNMAP --------------------------------------------------------------------------------- */

/* Three mappings with a hole: [0, 4), [4, 6), then nothing, [8, 12). */
static void lay_out(int fd, uint32_t ioas)
{
	clear(fd, ioas);
	map_at(fd, ioas, BASE, M, 4 * PAGE, ALL);
	map_at(fd, ioas, BASE + 4 * PAGE, M, 2 * PAGE, ALL);
	map_at(fd, ioas, BASE + 8 * PAGE, M, 4 * PAGE, ALL);
}

static void say_left(int fd, uint32_t ioas, const char *question)
{
	char text[96], pages[16];
	unsigned page;
	uint64_t length;

	for (page = 0; page < 14; page++) {
		pages[page] = '#';
		if (!map_at(fd, ioas, BASE + page * PAGE, M, PAGE, ALL)) {
			pages[page] = '.';
			length = PAGE;
			ioas_unmap(fd, ioas, BASE + page * PAGE, &length);
		}
	}
	pages[page] = 0;
	snprintf(text, sizeof(text), "unmap.%s.left", question);
	say(text, "%s", pages);
}

static void ask_unmap(int fd, uint32_t ioas)
{
	static const struct {
		const char *name;
		uint64_t iova, length;
	} rows[] = {
		{"whole", BASE, 4 * PAGE},
		{"head", BASE, PAGE},
		{"middle", BASE + PAGE, PAGE},
		{"tail", BASE + 3 * PAGE, PAGE},
		{"two", BASE, 6 * PAGE},
		{"whole-and-part", BASE, 5 * PAGE},
		{"part-and-whole", BASE + 2 * PAGE, 4 * PAGE},
		{"over-hole", BASE + 4 * PAGE, 8 * PAGE},
		{"over-hole-and-part", BASE, 10 * PAGE},
		{"all-of-them", BASE, 12 * PAGE},
		{"around", BASE - PAGE, 14 * PAGE},
		{"hole", BASE + 6 * PAGE, 2 * PAGE},
		{"hole-and-part", BASE + 6 * PAGE, 3 * PAGE},
		{"nothing", BASE + 20 * PAGE, PAGE},
		{"length-0", BASE, 0},
		{"iova-odd", BASE + 1, PAGE},
		{"length-odd", BASE, 4 * PAGE + 1},
		{"everything", 0, UINT64_MAX},
		{"nearly-everything", 0, UINT64_MAX - 1},
		{"everything-in-pages", 0, UINT64_MAX - PAGE + 1},
		{"all-but-0", 1, UINT64_MAX},
		{"wraps", BASE, UINT64_MAX - PAGE + 1},
		{"wraps-to-0", BASE, -BASE},
		{"last-page", UINT64_MAX - PAGE + 1, PAGE},
		{"iova-largest", UINT64_MAX, 1},
	};
	unsigned i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		lay_out(fd, ioas);
		say_unmap(fd, ioas, rows[i].name, rows[i].iova, rows[i].length);
		say_left(fd, ioas, rows[i].name);
	}
	clear(fd, ioas);
	say_unmap(fd, ioas, "everything-of-nothing", 0, UINT64_MAX);
	say_unmap(fd, ioas, "nearly-everything-of-nothing", 0, UINT64_MAX - 1);
	say_unmap(fd, 0, "id-0", BASE, PAGE);
}

static void ask_space(int fd, uint32_t ioas, const struct machine *machine)
{
	ask_ranges(fd, ioas);
	ask_map_form(fd, ioas);
	ask_map_boundaries(fd, ioas);
	ask_map_sources(fd, ioas);
	ask_map_overlaps(fd, ioas);
	ask_map_reserved(fd, ioas, &machine->device);
	ask_map_width(fd, ioas);
	ask_placement(fd, ioas);
	ask_unmap(fd, ioas);
}

void ask_ioas(const struct machine *machine)
{
	struct binding binding;
	uint32_t ioas, pt;
	int result, fd = open_path("/dev/iommu");

	section("ioas.fresh");
	answer(fd < 0 ? fd : 0, "open");
	if (fd < 0)
		return;
	answer(ioas_alloc(fd, &ioas), "alloc");
	ask_space(fd, ioas, machine);
	close(fd);
	section("ioas.attached");
	result = binding_open(&binding, machine);
	answer(result, "open");
	if (result)
		return;
	pt = binding.ioas;
	answer(binding_attach(&binding, &pt), "attach");
	ask_space(binding.iommufd, binding.ioas, machine);
	answer(binding_detach(&binding), "detach");
	section("ioas.detached");
	ask_ranges(binding.iommufd, binding.ioas);
	ask_placement(binding.iommufd, binding.ioas);
	binding_close(&binding);
}
