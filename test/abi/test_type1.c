/* SPDX-License-Identifier: MIT */
/* Type 1 IOMMUs, v1 and v2: every answer to GET_INFO, MAP_DMA, UNMAP_DMA and DIRTY_PAGES, as tables
 * of requests with their errno and outputs. */
#include <errno.h>
#include <sys/resource.h>

#include "abi_test.h"
#include "check.h"

#define RW  3u
#define ALL (~UINT64_C(0))

static int open_type1(struct rig *rig, const struct rig_options *options, unsigned long type)
{
	assert_true(rig_up(rig, options));
	return rig_session(rig, 0, type, NULL).container;
}

/* ---- MAP_DMA ---- */

/* Where vaddr points: an offset into the rig's memory, or an address as it is. */
enum source { AT, LITERAL };

struct map_row {
	const char *name;
	uint32_t flags;
	uint64_t iova, size;
	enum source source;
	uint64_t vaddr;
	long error;
	enum uiommu_rule rule;
};

/* [0x100000, 0x103fff] is mapped already. */
static const struct map_row map_rows[] = {
	{"read-write", RW, 0, PAGE, AT, 0, 0, 0},
	{"read only, of memory that can't be written", 1, 0, PAGE, AT, 40 * PAGE, 0, 0},
	{"write only", 2, 0, PAGE, AT, 0, 0, 0},
	{"up to the hole", RW, 0xfedff000, PAGE, AT, 0, 0, 0},
	{"from the hole on", RW, 0xfef00000, PAGE, AT, 0, 0, 0},
	{"the last page", RW, 0xfffffffff000, PAGE, AT, 0, 0, 0},
	{"the same source twice", RW, 0x200000, PAGE, AT, 0, 0, 0},

	{"overlap: exact", RW, 0x100000, 0x4000, AT, 0, -EEXIST, UIOMMU_RULE_OVERLAP},
	{"overlap: inside", RW, 0x101000, 0x1000, AT, 0, -EEXIST, UIOMMU_RULE_OVERLAP},
	{"overlap: head", RW, 0xff000, 0x2000, AT, 0, -EEXIST, UIOMMU_RULE_OVERLAP},
	{"overlap: tail", RW, 0x103000, 0x2000, AT, 0, -EEXIST, UIOMMU_RULE_OVERLAP},
	{"overlap: around", RW, 0xff000, 0x10000, AT, 0, -EEXIST, UIOMMU_RULE_OVERLAP},
	{"just below", RW, 0xff000, 0x1000, AT, 0, 0, 0},
	{"just above", RW, 0x104000, 0x1000, AT, 0, 0, 0},

	{"inside the hole", RW, 0xfee00000, PAGE, AT, 0, -EINVAL, UIOMMU_RULE_RESERVED},
	{"across the hole", RW, 0xfedff000, 0x102000, AT, 0, -EINVAL, UIOMMU_RULE_RESERVED},
	{"into the hole", RW, 0xfedff000, 0x2000, AT, 0, -EINVAL, UIOMMU_RULE_RESERVED},
	{"beyond the width", RW, UINT64_C(1) << 48, PAGE, AT, 0, -EINVAL, UIOMMU_RULE_APERTURE},
	{"across the width", RW, 0xfffffffff000, 0x2000, AT, 0, -EINVAL, UIOMMU_RULE_APERTURE},
	{"the last page of all", RW, 0xfffffffffffff000, PAGE, AT, 0, -EINVAL,
	 UIOMMU_RULE_APERTURE},

	{"iova not aligned", RW, 0x800, PAGE, AT, 0, -EINVAL, UIOMMU_RULE_ALIGNMENT},
	{"size not aligned", RW, 0, 0x800, AT, 0, -EINVAL, UIOMMU_RULE_ALIGNMENT},
	{"source not aligned", RW, 0, PAGE, AT, 0x800, -EINVAL, UIOMMU_RULE_ALIGNMENT},
	{"size 0", RW, 0, 0, AT, 0, -EINVAL, UIOMMU_RULE_EMPTY},
	{"size 0 before flags", 0, 0, 0, AT, 0, -EINVAL, UIOMMU_RULE_EMPTY},

	{"iova wraps", RW, 0xfffffffffffff000, 0x2000, AT, 0, -EOVERFLOW, UIOMMU_RULE_WRAP},
	{"iova wraps, size huge", RW, 0x1000, 0xfffffffffffff000 + 0x800, AT, 0, -EOVERFLOW,
	 UIOMMU_RULE_WRAP},
	{"source wraps", RW, 0, 0x2000, LITERAL, 0xfffffffffffff000, -EOVERFLOW, UIOMMU_RULE_WRAP},
	{"wrap before flags", 0, ALL, 2, AT, 0, -EOVERFLOW, UIOMMU_RULE_WRAP},
	{"wrap before alignment", RW, ALL, 2, AT, 0, -EOVERFLOW, UIOMMU_RULE_WRAP},
	{"size all ones, not aligned", RW, 0, ALL, LITERAL, 0, -EINVAL, UIOMMU_RULE_ALIGNMENT},

	{"neither read nor write", 0, 0, PAGE, AT, 0, -EINVAL, UIOMMU_RULE_PERMISSION},
	{"unknown flag", 8 | RW, 0, PAGE, AT, 0, -EINVAL, UIOMMU_RULE_ARGUMENT},
	{"unknown high flag", 0x80000000 | RW, 0, PAGE, AT, 0, -EINVAL, UIOMMU_RULE_ARGUMENT},
	{"vaddr with read", 4 | 1, 0, PAGE, AT, 0, -EINVAL, UIOMMU_RULE_PERMISSION},
	{"vaddr of nothing", 4, 0, PAGE, AT, 0, -ENOENT, UIOMMU_RULE_NOT_MAPPED},
	{"vaddr that is valid", 4, 0x100000, 0x4000, AT, 0, -EINVAL, UIOMMU_RULE_ORDER},

	{"source not there", RW, 0, PAGE, AT, RIG_PAGES *PAGE, -EFAULT, UIOMMU_RULE_SOURCE},
	{"source null", RW, 0, PAGE, LITERAL, 0, -EFAULT, UIOMMU_RULE_SOURCE},
	{"source ends within", RW, 0, 2 * PAGE, AT, (RIG_PAGES - 1) * PAGE, -EFAULT,
	 UIOMMU_RULE_SOURCE},
	{"read-only source, to write", RW, 0, PAGE, AT, 40 * PAGE, -EFAULT, UIOMMU_RULE_SOURCE},
	{"read-only source, write only", 2, 0, PAGE, AT, 40 * PAGE, -EFAULT, UIOMMU_RULE_SOURCE},
	{"source is no user address", RW, 0, PAGE, LITERAL, 0xffff800000000000, -EFAULT,
	 UIOMMU_RULE_SOURCE},
	/* The order of what is wrong twice. */
	{"overlap before source", RW, 0x100000, PAGE, LITERAL, 0, -EEXIST, UIOMMU_RULE_OVERLAP},
	{"hole before source", RW, 0xfee00000, PAGE, LITERAL, 0, -EINVAL, UIOMMU_RULE_RESERVED},
};

static void check_map_rows(unsigned long type)
{
	struct rig rig;
	int container = open_type1(&rig, NULL, type);

	assert_int_equal(rig_map(&rig, container, RW, 0x100000, 0x4000, rig.memory), 0);
	for (size_t i = 0; i < sizeof(map_rows) / sizeof(map_rows[0]); i++) {
		const struct map_row *row = &map_rows[i];
		uint64_t vaddr = row->vaddr + (row->source == AT ? (uintptr_t)rig.memory : 0);
		struct uiommu_vfio_stats before, after;
		uint64_t size = row->size;
		long ret;

		uiommu_vfio_stats(rig.vfio, &before);
		rig.refused.rule = 0;
		ret = rig_map(&rig, container, row->flags, row->iova, row->size,
			      (void *)(uintptr_t)vaddr);
		uiommu_vfio_stats(rig.vfio, &after);
		if (ret != row->error || rig.refused.rule != row->rule)
			fail_msg("%s: %ld, rule %s", row->name, ret,
				 uiommu_rule_name(rig.refused.rule));
		assert_int_equal(after.live, before.live + !ret);
		assert_int_equal(after.live_bytes, before.live_bytes + (ret ? 0 : row->size));
		assert_int_equal(after.refused, before.refused + !!ret);
		if (ret) {
			assert_int_equal(rig.refused.error, ret);
			assert_string_equal(rig.refused_what, "VFIO_IOMMU_MAP_DMA");
			continue;
		}
		assert_int_equal(rig_unmap(&rig, container, 0, row->iova, &size), 0);
		assert_int_equal(size, row->size);
	}
	rig_down(&rig);
}

static void test_map_v1(void **state)
{
	check_map_rows(VFIO_TYPE1_IOMMU);
}

static void test_map_v2(void **state)
{
	check_map_rows(VFIO_TYPE1v2_IOMMU);
}

static void test_map_39_bits(void **state)
{
	struct rig_options options = {.platform = "x86-vtd,aw=39"};
	struct rig rig;
	int container = open_type1(&rig, &options, VFIO_TYPE1v2_IOMMU);

	assert_int_equal(rig_map(&rig, container, RW, 0x7ffffff000, PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, container, RW, 0x8000000000, PAGE, rig.memory), -EINVAL);
	rig_down(&rig);
}

/* Nothing but the length that the kernel knows is looked at, and that must be there. */
static void test_argsz(void **state)
{
	struct vfio_iommu_type1_dma_map map = {.flags = RW, .size = PAGE};
	struct vfio_iommu_type1_dma_unmap unmap = {.size = PAGE};
	struct rig rig;
	int container = open_type1(&rig, NULL, VFIO_TYPE1v2_IOMMU);

	map.vaddr = (uintptr_t)rig.memory;
	map.argsz = sizeof(map) - 1;
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_MAP_DMA, &map), -EINVAL);
	unmap.argsz = sizeof(unmap) - 1;
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_UNMAP_DMA, &unmap), -EINVAL);
	map.argsz = unmap.argsz = UINT32_MAX;
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_MAP_DMA, &map), 0);
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_UNMAP_DMA, &unmap), 0);
	assert_int_equal(unmap.size, PAGE);
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_MAP_DMA, NULL), -EFAULT);
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_UNMAP_DMA, NULL), -EFAULT);
	rig_down(&rig);
}

/* ---- UNMAP_DMA ---- */

struct unmap_row {
	const char *name;
	uint32_t flags;
	uint64_t iova, size;
	long error[2]; /* v1, v2 */
	uint64_t out[2];
	enum uiommu_rule rule; /* v2 */
};

#define F_ALL	VFIO_DMA_UNMAP_FLAG_ALL
#define F_VADDR VFIO_DMA_UNMAP_FLAG_VADDR

/* Mapped: [0x10000, 0x13fff] and [0x20000, 0x20fff], three pages up [0x24000, 0x24fff]. */
static const struct unmap_row unmap_rows[] = {
	{"nothing there", 0, 0x40000, 0x4000, {0, 0}, {0, 0}, 0},
	{"a hole between", 0, 0x21000, 0x3000, {0, 0}, {0, 0}, 0},
	{"exact", 0, 0x10000, 0x4000, {0, 0}, {0x4000, 0x4000}, 0},
	{"head", 0, 0x10000, 0x1000, {0, -EINVAL}, {0x4000, 0x1000}, UIOMMU_RULE_SPLIT},
	{"tail", 0, 0x13000, 0x1000, {0, -EINVAL}, {0, 0x1000}, UIOMMU_RULE_SPLIT},
	{"middle", 0, 0x11000, 0x1000, {0, -EINVAL}, {0, 0x1000}, UIOMMU_RULE_SPLIT},
	{"from below into", 0, 0xf000, 0x2000, {0, -EINVAL}, {0x4000, 0x2000}, UIOMMU_RULE_SPLIT},
	{"from within to above",
	 0,
	 0x12000,
	 0x10000,
	 {0, -EINVAL},
	 {0, 0x10000},
	 UIOMMU_RULE_SPLIT},
	{"whole and the gap behind", 0, 0x10000, 0x10000, {0, 0}, {0x4000, 0x4000}, 0},
	{"whole and half the next",
	 0,
	 0x20000,
	 0x4800,
	 {-EINVAL, -EINVAL},
	 {0x4800, 0x4800},
	 UIOMMU_RULE_ALIGNMENT},
	{"over mappings and holes", 0, 0, 0x100000, {0, 0}, {0x6000, 0x6000}, 0},
	{"over two", 0, 0x10000, 0x11000, {0, 0}, {0x5000, 0x5000}, 0},
	{"size 0", 0, 0x10000, 0, {-EINVAL, -EINVAL}, {0, 0}, UIOMMU_RULE_EMPTY},
	{"iova not aligned",
	 0,
	 0x10800,
	 0x1000,
	 {-EINVAL, -EINVAL},
	 {0x1000, 0x1000},
	 UIOMMU_RULE_ALIGNMENT},
	{"size not aligned",
	 0,
	 0x10000,
	 0x800,
	 {-EINVAL, -EINVAL},
	 {0x800, 0x800},
	 UIOMMU_RULE_ALIGNMENT},
	{"everything, by size", 0, 0, ALL, {-EINVAL, -EINVAL}, {ALL, ALL}, UIOMMU_RULE_ALIGNMENT},
	{"to the very end", 0, 0x1000, ALL - 0xfff, {0, 0}, {0x6000, 0x6000}, 0},
	{"wraps by one page",
	 0,
	 0x2000,
	 ALL - 0xfff,
	 {-EOVERFLOW, -EOVERFLOW},
	 {ALL - 0xfff, ALL - 0xfff},
	 UIOMMU_RULE_WRAP},
	{"all", F_ALL, 0, 0, {0, 0}, {0x6000, 0x6000}, 0},
	{"all, with iova", F_ALL, 0x1000, 0, {-EINVAL, -EINVAL}, {0, 0}, UIOMMU_RULE_ARGUMENT},
	{"all, with size",
	 F_ALL,
	 0,
	 0x1000,
	 {-EINVAL, -EINVAL},
	 {0x1000, 0x1000},
	 UIOMMU_RULE_ARGUMENT},
	{"unknown flag",
	 8,
	 0x10000,
	 0x4000,
	 {-EINVAL, -EINVAL},
	 {0x4000, 0x4000},
	 UIOMMU_RULE_ARGUMENT},
	{"bitmap with all", F_ALL | 1, 0, 0, {-EINVAL, -EINVAL}, {0, 0}, UIOMMU_RULE_ARGUMENT},
	{"bitmap without room",
	 1,
	 0x10000,
	 0x4000,
	 {-EINVAL, -EINVAL},
	 {0x4000, 0x4000},
	 UIOMMU_RULE_ARGUMENT},
};

static void check_unmap_rows(unsigned long type, int version)
{
	for (size_t i = 0; i < sizeof(unmap_rows) / sizeof(unmap_rows[0]); i++) {
		const struct unmap_row *row = &unmap_rows[i];
		uint64_t size = row->size;
		struct uiommu_vfio_stats stats;
		struct rig rig;
		int container = open_type1(&rig, NULL, type);
		long ret;

		assert_int_equal(rig_map(&rig, container, RW, 0x10000, 0x4000, rig.memory), 0);
		assert_int_equal(rig_map(&rig, container, RW, 0x20000, 0x1000, rig.memory), 0);
		assert_int_equal(rig_map(&rig, container, RW, 0x24000, 0x1000, rig.memory), 0);
		ret = rig_unmap(&rig, container, row->flags, row->iova, &size);
		if (ret != row->error[version] || size != row->out[version])
			fail_msg("%s: %ld, size 0x%lx", row->name, ret, (long)size);
		if (version && rig.refused.rule != row->rule)
			fail_msg("%s: rule %s", row->name, uiommu_rule_name(rig.refused.rule));
		uiommu_vfio_stats(rig.vfio, &stats);
		assert_int_equal(stats.live_bytes, 0x6000 - (ret ? 0 : size));
		assert_int_equal(stats.unmaps, !ret && size);
		rig_down(&rig);
	}
}

static void test_unmap_v1(void **state)
{
	check_unmap_rows(VFIO_TYPE1_IOMMU, 0);
}

static void test_unmap_v2(void **state)
{
	check_unmap_rows(VFIO_TYPE1v2_IOMMU, 1);
}

/* ---- GET_INFO ---- */

struct info {
	struct vfio_iommu_type1_info head; /* 24 bytes */
	struct {
		struct vfio_info_cap_header header;
		uint32_t flags, pad;
		uint64_t page, max_bitmap;
	} migration; /* at 24 */
	struct {
		struct vfio_info_cap_header header;
		uint32_t avail, pad;
	} avail; /* at 56 */
	struct {
		struct vfio_info_cap_header header;
		uint32_t count, reserved;
		uint64_t ranges[2][2];
	} ranges;	   /* at 72 */
	uint8_t beyond[8]; /* at 120 */
};

static void test_info(void **state)
{
	struct rig rig;
	int container = open_type1(&rig, NULL, VFIO_TYPE1v2_IOMMU);
	struct info info = {.head.argsz = sizeof(info)};

	memset(info.beyond, 0x5a, sizeof(info.beyond));
	assert_int_equal(rig_map(&rig, container, RW, 0, PAGE, rig.memory), 0);
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_GET_INFO, &info), 0);
	assert_int_equal(info.head.argsz, sizeof(info));
	assert_int_equal(info.head.flags, 3);
	assert_int_equal(info.head.iova_pgsizes, 0x40201000);
	assert_int_equal(info.head.cap_offset, 24);
	assert_int_equal(info.migration.header.id, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION);
	assert_int_equal(info.migration.header.version, 1);
	assert_int_equal(info.migration.header.next, 56);
	assert_int_equal(info.migration.flags, 0);
	assert_int_equal(info.migration.page, 0x1000);
	assert_int_equal(info.migration.max_bitmap, 0x10000000);
	assert_int_equal(info.avail.header.id, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
	assert_int_equal(info.avail.header.next, 72);
	assert_int_equal(info.avail.avail, 65534);
	assert_int_equal(info.ranges.header.id, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
	assert_int_equal(info.ranges.header.next, 0);
	assert_int_equal(info.ranges.count, 2);
	assert_int_equal(info.ranges.ranges[0][0], 0);
	assert_int_equal(info.ranges.ranges[0][1], 0xfedfffff);
	assert_int_equal(info.ranges.ranges[1][0], 0xfef00000);
	assert_int_equal(info.ranges.ranges[1][1], 0xffffffffffff);
	for (size_t i = 0; i < sizeof(info.beyond); i++)
		assert_int_equal(info.beyond[i], 0x5a);
	rig_down(&rig);
}

static void test_info_short(void **state)
{
	static const struct {
		uint32_t argsz;
		long error;
		uint32_t out, offset; /* 0x5a5a5a5a: not written */
	} rows[] = {
		{0, -EINVAL, 0, 0x5a5a5a5a},
		{8, -EINVAL, 8, 0x5a5a5a5a},
		{15, -EINVAL, 15, 0x5a5a5a5a},
		{16, 0, 120, 0x5a5a5a5a},
		{20, 0, 120, 0},
		{24, 0, 120, 0},
		{119, 0, 120, 0},
		{120, 0, 120, 24},
		{UINT32_MAX, 0, UINT32_MAX, 24},
	};
	struct rig rig;
	int container = open_type1(&rig, NULL, VFIO_TYPE1_IOMMU);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct info info;

		memset(&info, 0x5a, sizeof(info));
		info.head.argsz = rows[i].argsz;
		assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_GET_INFO, &info),
				 rows[i].error);
		assert_int_equal(info.head.argsz, rows[i].out);
		assert_int_equal(info.head.cap_offset, rows[i].offset);
		if (!rows[i].error)
			assert_int_equal(info.head.flags, 3);
		if (rows[i].argsz < 120)
			assert_int_equal(info.avail.avail, 0x5a5a5a5a);
	}
	rig_down(&rig);
}

/* ---- limits ---- */

static void test_entry_limit(void **state)
{
	struct rig_options options = {.dma_entry_limit = 3};
	struct rig rig;
	int container = open_type1(&rig, &options, VFIO_TYPE1v2_IOMMU);
	uint64_t size = PAGE;

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(rig_map(&rig, container, RW, i * PAGE, PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, container, RW, 3 * PAGE, PAGE, rig.memory), -ENOSPC);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_LIMIT);
	/* Overlap is found first, the reserved region and the source later. */
	assert_int_equal(rig_map(&rig, container, RW, 0, PAGE, rig.memory), -EEXIST);
	assert_int_equal(rig_map(&rig, container, RW, 0xfee00000, PAGE, NULL), -ENOSPC);
	assert_int_equal(rig_unmap(&rig, container, 0, PAGE, &size), 0);
	assert_int_equal(rig_map(&rig, container, RW, 3 * PAGE, PAGE, rig.memory), 0);
	rig_down(&rig);
}

static void test_memlock(void **state)
{
	struct rig_options options = {.memlock = true};
	struct rlimit old, limit;
	uint64_t size = 4 * PAGE;
	struct rig rig;
	int container = open_type1(&rig, &options, VFIO_TYPE1v2_IOMMU);

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
	limit = old;
	limit.rlim_cur = 8 * PAGE + 100;
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	assert_int_equal(rig_map(&rig, container, RW, 0, 4 * PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, container, RW, 4 * PAGE, 5 * PAGE, rig.memory), -ENOMEM);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_MEMLOCK);
	/* The hole in the source is met before the limit: the kernel counts page by page. */
	assert_int_equal(rig_map(&rig, container, 1, 4 * PAGE, 9 * PAGE, rig.memory + 62 * PAGE),
			 -EFAULT);
	assert_int_equal(rig_map(&rig, container, 1, 4 * PAGE, 9 * PAGE, rig.memory + 58 * PAGE),
			 -ENOMEM);
	assert_int_equal(rig_map(&rig, container, RW, 4 * PAGE, 4 * PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, container, RW, 8 * PAGE, PAGE, rig.memory), -ENOMEM);
	assert_int_equal(rig_map(&rig, container, RW, 0, PAGE, rig.memory), -EEXIST);
	assert_int_equal(rig_unmap(&rig, container, 0, 0, &size), 0);
	assert_int_equal(rig_map(&rig, container, RW, 8 * PAGE, 4 * PAGE, rig.memory), 0);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &old), 0);
	rig_down(&rig);
}

/* ---- UNMAP_DMA and MAP_DMA with VADDR ---- */

static void test_vaddr(void **state)
{
	struct rig rig;
	int container = open_type1(&rig, NULL, VFIO_TYPE1v2_IOMMU);
	int container2, group = rig_open_group(&rig, 1);
	uint64_t size = 0;

	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(rig_map(&rig, container, RW, i * 4 * PAGE, PAGE, rig.memory), 0);
	size = 5 * PAGE;
	assert_int_equal(rig_unmap(&rig, container, F_VADDR, 0, &size), 0);
	assert_int_equal(size, 2 * PAGE);
	/* One of them is invalid already: none is changed. */
	size = 16 * PAGE;
	assert_int_equal(rig_unmap(&rig, container, F_VADDR, 0, &size), -EINVAL);
	assert_int_equal(rig_map(&rig, container, 4, 8 * PAGE, PAGE, rig.memory), -EINVAL);
	/* A group can't join meanwhile. */
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), -EBUSY);
	container2 = rig_open_container(&rig);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container2), 0);
	assert_int_equal(rig_ioctl_value(&rig, group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	/* Only the very range, once. */
	assert_int_equal(rig_map(&rig, container, 4, 0, 2 * PAGE, rig.memory), -EINVAL);
	assert_int_equal(rig_map(&rig, container, 4, 0, PAGE, rig.memory + PAGE), 0);
	assert_int_equal(rig_map(&rig, container, 4, 0, PAGE, rig.memory), -EINVAL);
	/* Unmapping forgets that it was invalid. */
	size = PAGE;
	assert_int_equal(rig_unmap(&rig, container, 0, 4 * PAGE, &size), 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	/* All of them, by ALL. */
	size = 0;
	assert_int_equal(rig_unmap(&rig, container, F_VADDR | F_ALL, 0, &size), 0);
	assert_int_equal(size, 3 * PAGE);
	rig_down(&rig);
}

/* ---- DIRTY_PAGES ---- */

struct get_bitmap {
	struct vfio_iommu_type1_dirty_bitmap head;
	struct vfio_iommu_type1_dirty_bitmap_get get;
};

static long dirty(struct rig *rig, int container, uint32_t flags)
{
	struct vfio_iommu_type1_dirty_bitmap arg = {.argsz = sizeof(arg), .flags = flags};

	return rig_ioctl(rig, container, VFIO_IOMMU_DIRTY_PAGES, &arg);
}

static long get_dirty(struct rig *rig, int container, uint64_t iova, uint64_t size, uint64_t page,
		      void *data, uint64_t bytes)
{
	struct get_bitmap arg = {
		.head = {.argsz = sizeof(arg), .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP},
		.get = {.iova = iova, .size = size, .bitmap = {page, bytes, data}},
	};

	return rig_ioctl(rig, container, VFIO_IOMMU_DIRTY_PAGES, &arg);
}

static void test_dirty_v1(void **state)
{
	struct rig rig;
	int container = open_type1(&rig, NULL, VFIO_TYPE1_IOMMU);

	assert_int_equal(dirty(&rig, container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START), -EACCES);
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_DIRTY_PAGES, NULL), -EACCES);
	rig_down(&rig);
}

static void test_dirty(void **state)
{
	struct rig rig;
	int container = open_type1(&rig, NULL, VFIO_TYPE1v2_IOMMU);
	uint64_t bits[4] = {0};

	assert_int_equal(rig_map(&rig, container, RW, 3 * PAGE, 2 * PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, container, RW, 62 * PAGE, 5 * PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, container, 1, 128 * PAGE, 64 * PAGE, rig.memory), 0);

	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_DIRTY_PAGES, NULL), -EFAULT);
	for (uint32_t flags = 0; flags < 16; flags++)
		if (flags != 1 && flags != 2 && flags != 4)
			assert_int_equal(dirty(&rig, container, flags), -EINVAL);
	assert_int_equal(dirty(&rig, container, 4), -EINVAL); /* no range */
	assert_int_equal(get_dirty(&rig, container, 0, 256 * PAGE, PAGE, bits, 32), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_ORDER);
	assert_int_equal(dirty(&rig, container, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), 0);
	assert_int_equal(dirty(&rig, container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START), 0);
	assert_int_equal(dirty(&rig, container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START), 0);

	/* All that is mapped is dirty; bits of gaps are left, or cleared in words written. */
	bits[3] = 0x77;
	assert_int_equal(get_dirty(&rig, container, 0, 256 * PAGE, PAGE, bits, 32), 0);
	assert_int_equal(bits[0], UINT64_C(0xc000000000000018));
	assert_int_equal(bits[1], 7);
	assert_int_equal(bits[2], ALL);
	assert_int_equal(bits[3], 0x77);
	/* A range that starts elsewhere: bit 0 is its first page. */
	assert_int_equal(get_dirty(&rig, container, 62 * PAGE, 5 * PAGE, PAGE, bits, 8), 0);
	assert_int_equal(bits[0], 0x1f);
	assert_int_equal(dirty(&rig, container, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP), 0);
	assert_int_equal(get_dirty(&rig, container, 0, 256 * PAGE, PAGE, bits, 32), -EINVAL);
	rig_down(&rig);
}

static void test_dirty_errors(void **state)
{
	static const struct {
		const char *name;
		uint64_t iova, size, page, bytes;
		long error;
	} rows[] = {
		{"size 0", 0, 0, PAGE, 8, -EINVAL},
		{"wraps", ALL - 0xfff, 2 * PAGE, PAGE, 8, -EOVERFLOW},
		{"bitmap too small", 0, 65 * PAGE, PAGE, 8, -EINVAL},
		{"bitmap too large", 0, PAGE, PAGE, (UINT64_C(1) << 28) + 8, -EINVAL},
		{"bitmap empty", 0, PAGE, PAGE, 0, -EINVAL},
		{"page size 0", 0, PAGE, 0, 4096, -EINVAL},
		{"other page size", 0, 0x200000, 0x200000, 8, -EINVAL},
		{"less than a page", 0, 0x800, PAGE, 8, -EINVAL},
		{"iova not aligned", 0x800, PAGE, PAGE, 8, -EINVAL},
		{"size not aligned", 0, PAGE + 1, PAGE, 8, -EINVAL},
		{"cuts at the start", 4 * PAGE, 8 * PAGE, PAGE, 8, -EINVAL},
		{"cuts at the end", 0, 4 * PAGE, PAGE, 8, -EINVAL},
		{"nothing there", 32 * PAGE, 4 * PAGE, PAGE, 8, 0},
		{"whole", 3 * PAGE, 2 * PAGE, PAGE, 8, 0},
	};
	uint64_t bits[512];
	struct rig rig;
	int container = open_type1(&rig, NULL, VFIO_TYPE1v2_IOMMU);

	assert_int_equal(rig_map(&rig, container, RW, 3 * PAGE, 2 * PAGE, rig.memory), 0);
	assert_int_equal(dirty(&rig, container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		long ret = get_dirty(&rig, container, rows[i].iova, rows[i].size, rows[i].page,
				     bits, rows[i].bytes);

		if (ret != rows[i].error)
			fail_msg("%s: %ld", rows[i].name, ret);
	}
	assert_int_equal(get_dirty(&rig, container, 0, 8 * PAGE, PAGE, NULL, 8), -EFAULT);
	assert_int_equal(get_dirty(&rig, container, 0, 8 * PAGE, PAGE, (void *)ALL, 8), -EINVAL);
	rig_down(&rig);
}

static void test_unmap_bitmap(void **state)
{
	struct {
		struct vfio_iommu_type1_dma_unmap head;
		struct vfio_bitmap bitmap;
	} arg = {.head = {.argsz = sizeof(arg), .flags = 1, .iova = 0, .size = 64 * PAGE}};
	struct uiommu_vfio_stats stats;
	uint64_t bits[64] = {0};
	struct rig rig;
	int container = open_type1(&rig, NULL, VFIO_TYPE1v2_IOMMU);

	arg.bitmap = (struct vfio_bitmap){PAGE, 8, (void *)bits};
	assert_int_equal(rig_map(&rig, container, RW, 2 * PAGE, PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, container, RW, 8 * PAGE, 4 * PAGE, rig.memory), 0);
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_UNMAP_DMA, &arg), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_ORDER);
	assert_int_equal(dirty(&rig, container, VFIO_IOMMU_DIRTY_PAGES_FLAG_START), 0);
	arg.bitmap.pgsize = 2 * PAGE;
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_UNMAP_DMA, &arg), -EINVAL);
	arg.bitmap.pgsize = PAGE;
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_UNMAP_DMA, &arg), 0);
	assert_int_equal(arg.head.size, 5 * PAGE);
	assert_int_equal(bits[0], 0xf04);

	/* The second word of the bitmap is not there: what was reported before it is gone. */
	assert_int_equal(rig_map(&rig, container, RW, 0, PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, container, RW, 64 * PAGE, PAGE, rig.memory), 0);
	arg.head.size = 128 * PAGE;
	arg.bitmap.size = 16;
	rig.bad_first = (uintptr_t)&bits[1];
	rig.bad_last = (uintptr_t)&bits[2] - 1;
	assert_int_equal(rig_ioctl(&rig, container, VFIO_IOMMU_UNMAP_DMA, &arg), -EFAULT);
	uiommu_vfio_stats(rig.vfio, &stats);
	assert_int_equal(stats.live, 1);
	assert_int_equal(arg.head.size, 128 * PAGE);
	rig_down(&rig);
}

/* ---- many ---- */

static void test_many(void **state)
{
	struct uiommu_vfio_stats stats;
	struct rig rig;
	int container = open_type1(&rig, NULL, VFIO_TYPE1v2_IOMMU);
	uint64_t size = 0;

	for (uint64_t i = 0; i < 65535; i++)
		assert_int_equal(rig_map(&rig, container, RW, i * PAGE, PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, container, RW, 65535 * PAGE, PAGE, rig.memory), -ENOSPC);
	uiommu_vfio_stats(rig.vfio, &stats);
	assert_int_equal(stats.live, 65535);
	assert_int_equal(stats.most, 65535);
	assert_int_equal(stats.largest, PAGE);
	assert_int_equal(rig_unmap(&rig, container, F_ALL, 0, &size), 0);
	assert_int_equal(size, 65535 * PAGE);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_v1),	     cmocka_unit_test(test_map_v2),
		cmocka_unit_test(test_map_39_bits),  cmocka_unit_test(test_argsz),
		cmocka_unit_test(test_unmap_v1),     cmocka_unit_test(test_unmap_v2),
		cmocka_unit_test(test_info),	     cmocka_unit_test(test_info_short),
		cmocka_unit_test(test_entry_limit),  cmocka_unit_test(test_memlock),
		cmocka_unit_test(test_vaddr),	     cmocka_unit_test(test_dirty_v1),
		cmocka_unit_test(test_dirty),	     cmocka_unit_test(test_dirty_errors),
		cmocka_unit_test(test_unmap_bitmap), cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
