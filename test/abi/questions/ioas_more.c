/* SPDX-License-Identifier: MIT */
/*
 * ioas_more.c - the rest of what address spaces can do: allowed ranges, COPY, MAP_FILE, options,
 * the container's address space, CHANGE_PROCESS, DESTROY.
 */
#include "ask.h"

#define M	(source_at(MEMORY))
#define FIXED	IOMMU_IOAS_MAP_FIXED_IOVA
#define READ	IOMMU_IOAS_MAP_READABLE
#define WRITE	IOMMU_IOAS_MAP_WRITEABLE
#define ALL	(FIXED | READ | WRITE)
#define UNKNOWN 0x7fffffff

static void clear(int fd, uint32_t ioas)
{
	uint64_t length = UINT64_MAX;

	ioas_unmap(fd, ioas, 0, &length);
}

/* ---- ALLOW_IOVAS --------------------------------------------------------------------------- */

static int allow(int fd, uint32_t ioas, uint32_t count, const struct iommu_iova_range *ranges)
{
	struct iommu_ioas_allow_iovas request = {.size = sizeof(request),
						 .ioas_id = ioas,
						 .num_iovas = count,
						 .allowed_iovas = (uintptr_t)ranges};

	return ask(fd, IOMMU_IOAS_ALLOW_IOVAS, &request);
}

/* What is allowed shows in where a page is placed. */
static void say_allowed(int fd, uint32_t ioas, const char *question, uint32_t count,
			const struct iommu_iova_range *ranges)
{
	uint64_t page = 0, large = 0;
	int result = allow(fd, ioas, count, ranges), mapped, mapped_large;
	char text[96], places[2][32];

	mapped = ioas_map(fd, ioas, READ, M, PAGE, &page);
	mapped_large = ioas_map(fd, ioas, READ, M, 64 * PAGE, &large);
	snprintf(places[0], sizeof(places[0]), "0x%llx", (unsigned long long)page);
	snprintf(places[1], sizeof(places[1]), "0x%llx", (unsigned long long)large);
	snprintf(text, sizeof(text), "allow.%s", question);
	say(text, "%s page %s 64 pages %s", result_name(result),
	    mapped ? result_name(mapped) : places[0],
	    mapped_large ? result_name(mapped_large) : places[1]);
	clear(fd, ioas);
}

static void ask_allowed(int fd, uint32_t ioas)
{
	const struct iommu_iova_range one[] = {{BASE, BASE + 16 * PAGE - 1}};
	const struct iommu_iova_range two[] = {{BASE, BASE + 2 * PAGE - 1},
					       {2 * BASE, 2 * BASE + 64 * PAGE - 1}};
	const struct iommu_iova_range turned[] = {{2 * BASE, 2 * BASE + 64 * PAGE - 1},
						  {BASE, BASE + 2 * PAGE - 1}};
	const struct iommu_iova_range next[] = {{BASE, BASE + PAGE - 1},
						{BASE + PAGE, BASE + 65 * PAGE - 1}};
	const struct iommu_iova_range over[] = {{BASE, BASE + 2 * PAGE - 1},
						{BASE + PAGE, BASE + 3 * PAGE - 1}};
	const struct iommu_iova_range byte[] = {{BASE, BASE}};
	const struct iommu_iova_range back[] = {{BASE, BASE - 1}};
	const struct iommu_iova_range whole[] = {{0, UINT64_MAX}};
	const struct iommu_iova_range hole[] = {{0x1000000, UINT64_C(0xffffffff)}};
	const struct iommu_iova_range odd[] = {{BASE + 0x10, BASE + 2 * PAGE}};

	say_allowed(fd, ioas, "one", 1, one);
	say_allowed(fd, ioas, "two", 2, two);
	say_allowed(fd, ioas, "two-turned", 2, turned);
	say_allowed(fd, ioas, "adjacent", 2, next);
	say_allowed(fd, ioas, "overlapping", 2, over);
	say_allowed(fd, ioas, "one-byte", 1, byte);
	say_allowed(fd, ioas, "backwards", 1, back);
	say_allowed(fd, ioas, "odd", 1, odd);
	say_allowed(fd, ioas, "whole", 1, whole);
	say_allowed(fd, ioas, "across-holes", 1, hole);
	say_allowed(fd, ioas, "one.again", 1, one);
	say_allowed(fd, ioas, "null", 1, NULL);
	say_allowed(fd, ioas, "none", 0, NULL);
}

static void ask_allow_form(int fd, uint32_t ioas)
{
	const struct iommu_iova_range one[] = {{BASE, BASE + 16 * PAGE - 1}};
	struct iommu_ioas_allow_iovas request = {.size = sizeof(request),
						 .ioas_id = ioas,
						 .num_iovas = 1,
						 .__reserved = 1,
						 .allowed_iovas = (uintptr_t)one};
	uint64_t iova = 4 * BASE;

	answer(ask(fd, IOMMU_IOAS_ALLOW_IOVAS, &request), "allow.reserved");
	answer(allow(fd, 0, 1, one), "allow.id-0");
	answer(allow(fd, UNKNOWN, 0, NULL), "allow.id-unknown");
	answer(allow(fd, ioas, 1, one), "allow.one.then");
	answer(ioas_map(fd, ioas, ALL, M, PAGE, &iova), "allow.one.fixed-outside");
	clear(fd, ioas);
	iova = 0;
	answer(ioas_map(fd, ioas, READ, M, 32 * PAGE, &iova), "allow.one.no-place");
	answer(ioas_map(fd, ioas, READ, source_at(NOT_THERE), 32 * PAGE, &iova),
	       "allow.one.no-place.no-memory");
	answer(allow(fd, ioas, 0, NULL), "allow.none.then");
}

/* ---- COPY ---------------------------------------------------------------------------------- */

static int copy(int fd, uint32_t to, uint32_t from, uint32_t flags, uint64_t dst, uint64_t src,
		uint64_t length)
{
	struct iommu_ioas_copy request = {.size = sizeof(request),
					  .flags = flags,
					  .dst_ioas_id = to,
					  .src_ioas_id = from,
					  .length = length,
					  .dst_iova = dst,
					  .src_iova = src};

	return ask(fd, IOMMU_IOAS_COPY, &request);
}

static void ask_copy(int fd, uint32_t ioas, uint32_t other)
{
	static const struct {
		const char *name;
		uint64_t dst, src, length;
		uint32_t flags;
	} rows[] = {
		{"whole", BASE, BASE, 4 * PAGE, ALL},
		{"head", BASE, BASE, PAGE, ALL},
		{"middle", BASE, BASE + PAGE, 2 * PAGE, ALL},
		{"two-areas", BASE, BASE, 6 * PAGE, ALL},
		{"part-of-two", BASE, BASE + 3 * PAGE, 2 * PAGE, ALL},
		{"over-hole", BASE, BASE + 4 * PAGE, 6 * PAGE, ALL},
		{"beyond", BASE, BASE + 11 * PAGE, 2 * PAGE, ALL},
		{"nothing", BASE, BASE + 20 * PAGE, PAGE, ALL},
		{"length-0", BASE, BASE, 0, ALL},
		{"length-half", BASE, BASE, PAGE / 2, ALL},
		{"src-half", BASE, BASE + PAGE / 2, PAGE, ALL},
		{"dst-half", BASE + PAGE / 2, BASE, PAGE, ALL},
		{"length-largest", BASE, BASE, UINT64_MAX, ALL},
		{"dst-largest", UINT64_MAX, BASE, PAGE, ALL},
		{"dst-wraps", UINT64_MAX - PAGE + 1, BASE, 2 * PAGE, ALL},
		{"src-largest", BASE, UINT64_MAX, PAGE, ALL},
		{"src-wraps", BASE, UINT64_MAX - PAGE + 1, 2 * PAGE, ALL},
		{"neither", BASE, BASE, PAGE, FIXED},
		{"read", BASE, BASE, PAGE, FIXED | READ},
		{"write", BASE, BASE, PAGE, FIXED | WRITE},
		{"write-of-read-only", BASE, BASE + 12 * PAGE, PAGE, ALL},
		{"read-of-read-only", BASE, BASE + 12 * PAGE, PAGE, FIXED | READ},
		{"unknown-flag", BASE, BASE, PAGE, ALL | 8},
		{"last-flag", BASE, BASE, PAGE, ALL | 1u << 31},
	};
	uint64_t iova, length;
	unsigned i;

	iova = BASE;
	ioas_map(fd, ioas, ALL, M, 4 * PAGE, &iova);
	iova = BASE + 4 * PAGE;
	ioas_map(fd, ioas, ALL, M + 8 * PAGE, 2 * PAGE, &iova);
	iova = BASE + 8 * PAGE;
	ioas_map(fd, ioas, ALL, M, 4 * PAGE, &iova);
	iova = BASE + 12 * PAGE;
	ioas_map(fd, ioas, FIXED | READ, source_at(READ_ONLY), PAGE, &iova);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		answer(copy(fd, other, ioas, rows[i].flags, rows[i].dst, rows[i].src,
			    rows[i].length),
		       "copy.%s", rows[i].name);
		clear(fd, other);
	}
	answer(copy(fd, 0, ioas, ALL, BASE, BASE, PAGE), "copy.to-0");
	answer(copy(fd, other, 0, ALL, BASE, BASE, PAGE), "copy.from-0");
	answer(copy(fd, UNKNOWN, ioas, ALL, BASE, BASE, PAGE), "copy.to-unknown");
	answer(copy(fd, ioas, ioas, ALL, 2 * BASE, BASE, PAGE), "copy.to-itself");
	answer(copy(fd, ioas, ioas, ALL, BASE, BASE, PAGE), "copy.onto-itself");
	answer(copy(fd, other, ioas, ALL, BASE, BASE, PAGE), "copy.once");
	answer(copy(fd, other, ioas, ALL, BASE, BASE, PAGE), "copy.twice");
	answer(copy(fd, other, ioas, READ | WRITE, 0, BASE, PAGE), "copy.placed");
	clear(fd, ioas);
	length = PAGE;
	answer(ioas_unmap(fd, other, BASE, &length), "copy.outlives-its-source");
	clear(fd, other);
}

/* ---- MAP_FILE ------------------------------------------------------------------------------ */

static int map_file(int fd, uint32_t ioas, uint32_t flags, int file, uint64_t start,
		    uint64_t length)
{
	struct iommu_ioas_map_file request = {.size = sizeof(request),
					      .flags = flags,
					      .ioas_id = ioas,
					      .fd = file,
					      .start = start,
					      .length = length,
					      .iova = BASE};
	int result = ask(fd, IOMMU_IOAS_MAP_FILE, &request);

	clear(fd, ioas);
	return result;
}

static void ask_map_file(int fd, uint32_t ioas)
{
	int memfd = source_memfd(), read_only;
	char path[64];

	answer(map_file(fd, ioas, ALL, memfd, 0, PAGE), "file.page");
	answer(map_file(fd, ioas, ALL, memfd, 0, 8 * PAGE), "file.whole");
	answer(map_file(fd, ioas, ALL, memfd, 4 * PAGE, 4 * PAGE), "file.half");
	answer(map_file(fd, ioas, ALL, memfd, 4 * PAGE, 8 * PAGE), "file.beyond");
	answer(map_file(fd, ioas, ALL, memfd, 8 * PAGE, PAGE), "file.behind");
	answer(map_file(fd, ioas, ALL, memfd, 0x10, PAGE), "file.start-odd");
	answer(map_file(fd, ioas, ALL, memfd, 0, PAGE / 2), "file.length-half");
	answer(map_file(fd, ioas, ALL, memfd, 0, 0), "file.length-0");
	answer(map_file(fd, ioas, ALL, memfd, 0, UINT64_MAX), "file.length-largest");
	answer(map_file(fd, ioas, ALL, memfd, UINT64_MAX, PAGE), "file.start-largest");
	answer(map_file(fd, ioas, ALL, memfd, UINT64_MAX - PAGE + 1, 2 * PAGE), "file.wraps");
	answer(map_file(fd, ioas, READ | WRITE, memfd, 0, PAGE), "file.placed");
	answer(map_file(fd, ioas, FIXED | READ, memfd, 0, PAGE), "file.read");
	answer(map_file(fd, ioas, FIXED, memfd, 0, PAGE), "file.neither");
	answer(map_file(fd, ioas, ALL | 8, memfd, 0, PAGE), "file.unknown-flag");
	answer(map_file(fd, 0, ALL, memfd, 0, PAGE), "file.id-0");
	answer(map_file(fd, ioas, ALL, -1, 0, PAGE), "file.none");
	answer(map_file(fd, ioas, ALL, fd, 0, PAGE), "file.iommufd");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	answer(map_file(fd, ioas, FIXED | READ, read_only, 0, PAGE), "file.opened-read-only.read");
	answer(map_file(fd, ioas, ALL, read_only, 0, PAGE), "file.opened-read-only.both");
	close(read_only);
}

/* ---- options, the container's space, CHANGE_PROCESS ---------------------------------------- */

static void say_option(int fd, const char *question, uint32_t option, uint16_t op, uint32_t object,
		       uint64_t value)
{
	struct iommu_option request = {.size = sizeof(request),
				       .option_id = option,
				       .op = op,
				       .object_id = object,
				       .val64 = value};
	int result = ask(fd, IOMMU_OPTION, &request);
	char text[96];

	snprintf(text, sizeof(text), "option.%s", question);
	say(text, "%s value 0x%llx", result_name(result), (unsigned long long)request.val64);
}

static void say_alignment(int fd, const char *question, uint32_t ioas)
{
	struct iommu_iova_range ranges[16];
	struct iommu_ioas_iova_ranges request = {.size = sizeof(request),
						 .ioas_id = ioas,
						 .num_iovas = 16,
						 .allowed_iovas = (uintptr_t)ranges};
	int result = ask(fd, IOMMU_IOAS_IOVA_RANGES, &request);
	char text[96];

	snprintf(text, sizeof(text), "option.%s.alignment", question);
	say(text, "%s 0x%llx", result_name(result), (unsigned long long)request.out_iova_alignment);
}

static void ask_options(int fd, uint32_t ioas)
{
	struct iommu_option request = {.size = sizeof(request), .op = 1, .__reserved = 1};
	uint64_t iova = BASE;
	int fresh = open_path("/dev/iommu");

	say_option(fresh, "limit.fresh.get", 0, 1, 0, 7);
	say_option(fresh, "limit.fresh.set-1", 0, 0, 0, 1);
	say_option(fresh, "limit.fresh.get-1", 0, 1, 0, 7);
	say_option(fresh, "limit.fresh.set-2", 0, 0, 0, 2);
	say_option(fresh, "limit.fresh.set-0", 0, 0, 0, 0);
	close(fresh);
	say_option(fd, "limit.get", 0, 1, 0, 7);
	say_option(fd, "limit.set-1", 0, 0, 0, 1);
	say_option(fd, "limit.object", 0, 1, ioas, 0);
	say_option(fd, "limit.op-2", 0, 2, 0, 0);
	say_option(fd, "huge.get", 1, 1, ioas, 7);
	say_option(fd, "huge.set-0", 1, 0, ioas, 0);
	say_option(fd, "huge.get-0", 1, 1, ioas, 7);
	say_alignment(fd, "huge.0", ioas);
	say_option(fd, "huge.set-1", 1, 0, ioas, 1);
	say_alignment(fd, "huge.1", ioas);
	say_option(fd, "huge.set-2", 1, 0, ioas, 2);
	say_option(fd, "huge.op-2", 1, 2, ioas, 0);
	say_option(fd, "huge.id-0", 1, 1, 0, 0);
	say_option(fd, "huge.id-unknown", 1, 1, UNKNOWN, 0);
	ioas_map(fd, ioas, ALL, M, PAGE, &iova);
	say_option(fd, "huge.mapped.set-0", 1, 0, ioas, 0);
	say_option(fd, "huge.mapped.set-1", 1, 0, ioas, 1);
	clear(fd, ioas);
	say_option(fd, "unknown", 2, 1, ioas, 0);
	say_option(fd, "unknown.set", UINT32_MAX, 0, 0, 0);
	answer(ask(fd, IOMMU_OPTION, &request), "option.reserved");
}

static void say_vfio_ioas(int fd, const char *question, uint16_t op, uint32_t ioas)
{
	struct iommu_vfio_ioas request = {.size = sizeof(request), .ioas_id = ioas, .op = op};
	int result = ask(fd, IOMMU_VFIO_IOAS, &request);

	answer(result, "vfio-ioas.%s", question);
}

static void ask_vfio_ioas(int fd, uint32_t ioas)
{
	struct iommu_vfio_ioas request = {.size = sizeof(request), .__reserved = 1};
	struct vfio_iommu_type1_info info = {.argsz = sizeof(info)};

	say_vfio_ioas(fd, "none.get", 0, 0);
	say_vfio_ioas(fd, "none.clear", 2, 0);
	answer(ask(fd, VFIO_IOMMU_GET_INFO, &info), "vfio-ioas.none.info");
	answer(dma_map(fd, BASE, M, PAGE, RW), "vfio-ioas.none.map");
	say_vfio_ioas(fd, "set-0", 1, 0);
	say_vfio_ioas(fd, "set-unknown", 1, UNKNOWN);
	say_vfio_ioas(fd, "set", 1, ioas);
	say_vfio_ioas(fd, "get", 0, 0);
	info.argsz = sizeof(info);
	answer(ask(fd, VFIO_IOMMU_GET_INFO, &info), "vfio-ioas.info");
	answer(dma_map(fd, BASE, M, PAGE, RW), "vfio-ioas.map");
	clear(fd, ioas);
	answer(object_destroy(fd, ioas), "vfio-ioas.destroy");
	say_vfio_ioas(fd, "clear", 2, 0);
	say_vfio_ioas(fd, "clear.get", 0, 0);
	say_vfio_ioas(fd, "op-3", 3, 0);
	answer(ask(fd, IOMMU_VFIO_IOAS, &request), "vfio-ioas.reserved");
	answer(ask(fd, VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU), "vfio-ioas.set-iommu");
	answer(ask(fd, VFIO_CHECK_EXTENSION, (void *)VFIO_TYPE1v2_IOMMU), "vfio-ioas.extension");
}

static void ask_change_process(int fd, uint32_t ioas)
{
	struct iommu_ioas_change_process request = {.size = sizeof(request)};
	struct iommu_ioas_map_file file = {.size = sizeof(file),
					   .flags = ALL,
					   .ioas_id = ioas,
					   .fd = source_memfd(),
					   .length = PAGE,
					   .iova = BASE};
	uint64_t iova = 2 * BASE;

	answer(ask(fd, IOMMU_IOAS_CHANGE_PROCESS, &request), "change-process.empty");
	ask(fd, IOMMU_IOAS_MAP_FILE, &file);
	answer(ask(fd, IOMMU_IOAS_CHANGE_PROCESS, &request), "change-process.file");
	ioas_map(fd, ioas, ALL, M, PAGE, &iova);
	answer(ask(fd, IOMMU_IOAS_CHANGE_PROCESS, &request), "change-process.memory");
	request.__reserved = 1;
	answer(ask(fd, IOMMU_IOAS_CHANGE_PROCESS, &request), "change-process.reserved");
	clear(fd, ioas);
}

static void ask_destroy(int fd, uint32_t ioas, uint32_t other)
{
	uint64_t iova = BASE, length = PAGE;

	answer(object_destroy(fd, 0), "destroy.0");
	answer(object_destroy(fd, UNKNOWN), "destroy.unknown");
	answer(object_destroy(fd, UINT32_MAX), "destroy.largest");
	ioas_map(fd, other, ALL, M, PAGE, &iova);
	answer(object_destroy(fd, other), "destroy.mapped");
	answer(object_destroy(fd, other), "destroy.twice");
	answer(ioas_unmap(fd, other, BASE, &length), "destroy.unmap");
	answer(object_destroy(fd, ioas), "destroy.last");
}

static void ask_alloc(int fd)
{
	struct iommu_ioas_alloc request = {.size = sizeof(request)};
	unsigned bit;

	for (bit = 0; bit < 32; bit++) {
		request.flags = 1u << bit;
		answer(ask(fd, IOMMU_IOAS_ALLOC, &request), "alloc.flag.%u", bit);
	}
}

void ask_ioas_more(const struct machine *machine)
{
	struct binding binding;
	uint32_t ioas, other, pt;
	int fd = open_path("/dev/iommu");

	section("ioas.fresh");
	if (fd < 0)
		return;
	ask_alloc(fd);
	ioas_alloc(fd, &ioas);
	ioas_alloc(fd, &other);
	ask_allowed(fd, ioas);
	ask_allow_form(fd, ioas);
	ask_copy(fd, ioas, other);
	ask_map_file(fd, ioas);
	ask_options(fd, ioas);
	ask_vfio_ioas(fd, ioas);
	ask_change_process(fd, ioas);
	ask_destroy(fd, ioas, other);
	close(fd);
	if (binding_open(&binding, machine))
		return;
	section("ioas.attached");
	pt = binding.ioas;
	if (!binding_attach(&binding, &pt)) {
		ioas_alloc(binding.iommufd, &other);
		ask_allowed(binding.iommufd, binding.ioas);
		ask_allow_form(binding.iommufd, binding.ioas);
		ask_copy(binding.iommufd, binding.ioas, other);
		ask_copy(binding.iommufd, other, binding.ioas);
		ask_map_file(binding.iommufd, binding.ioas);
		ask_options(binding.iommufd, binding.ioas);
		ask_vfio_ioas(binding.iommufd, binding.ioas);
		ask_change_process(binding.iommufd, binding.ioas);
		ask_destroy(binding.iommufd, binding.ioas, other);
	}
	binding_close(&binding);
}
