/* SPDX-License-Identifier: MIT */
/* iommufd: how requests are taken apart, objects, address spaces, page tables, devices and their
 * own nodes, and /dev/iommu as a container; every answer with its errno. */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "iommufd_rig.h"

#define ALL UINT64_MAX

static const struct rig_options dirty_machine = {.platform = "x86-vtd,dirty=on"};

/* ---- requests ---- */

static void test_structs(void **state)
{
	struct {
		struct iommu_ioas_alloc alloc;
		uint8_t tail[300];
	} big = {.alloc = {.size = sizeof(big)}};
	struct iommu_ioas_alloc alloc = {.size = 8};
	struct rig rig;
	int fd;

	assert_true(rig_up(&rig, NULL));
	fd = rig_open_iommufd(&rig);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOAS_ALLOC, &alloc), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOAS_ALLOC, (void *)8), -EFAULT);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOAS_ALLOC, &big), 0);
	assert_int_equal(big.alloc.out_ioas_id, 1);
	big.tail[299] = 1;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOAS_ALLOC, &big), -E2BIG);
	big.tail[299] = 0;
	big.alloc.flags = 1;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOAS_ALLOC, &big), -EOPNOTSUPP);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOAS_ALLOC | 0x40000000, &big), -ENOTTY);
	assert_int_equal(rig_ioctl(&rig, fd, _IO(';', 0x7f), &big), -ENOTTY);
	assert_int_equal(rig_ioctl(&rig, fd, _IO(';', 0xf0), &big), -ENOTTY);
	rig_close(&rig, fd);
	rig_down(&rig);
}

/* The program's memory goes while its request is under way. */
static void goes(struct rig *rig, const void *from, size_t len)
{
	if (len == sizeof(uint32_t))
		return; /* the size is read first */
	rig->bad_first = (uintptr_t)from;
	rig->bad_last = rig->bad_first + len - 1;
}

/* A request that can't tell its result makes nothing. */
static void test_no_result(void **state)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
	struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind)};
	struct rig rig;
	int fd, node;
	uint32_t id;

	assert_true(rig_up(&rig, NULL));
	fd = rig_open_iommufd(&rig);
	node = rig_open_node(&rig, 0);
	rig.race = goes;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_IOAS_ALLOC, &alloc), -EFAULT);
	bind.iommufd = fd;
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EFAULT);
	rig.race = NULL;
	rig.bad_last = 0;
	assert_int_equal(ioas_alloc(&rig, fd), 1);
	assert_int_equal(bind_device(&rig, node, fd, &id), 0);
	assert_int_equal(id, 2);
	rig_close(&rig, node);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_objects(void **state)
{
	struct rig rig;
	int fd, other;
	uint32_t a;

	assert_true(rig_up(&rig, NULL));
	fd = rig_open_iommufd(&rig);
	other = rig_open_iommufd(&rig);
	assert_int_equal(destroy_id(&rig, fd, 1), -ENOENT);
	assert_int_equal(destroy_id(&rig, fd, 0), -ENOENT);
	a = ioas_alloc(&rig, fd);
	assert_int_equal(ioas_alloc(&rig, fd), 2);
	assert_int_equal(destroy_id(&rig, other, 2), -ENOENT);
	assert_int_equal(destroy_id(&rig, fd, a), 0);
	assert_int_equal(destroy_id(&rig, fd, a), -ENOENT);
	/* The lowest number that is free. */
	assert_int_equal(ioas_alloc(&rig, fd), a);
	for (unsigned i = 3; i < 100; i++)
		assert_int_equal(ioas_alloc(&rig, fd), i);
	rig_close(&rig, other);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_options(void **state)
{
	struct iommu_option option = {.size = sizeof(option)};
	struct rig rig;
	uint32_t ioas;
	int fd;

	assert_true(rig_up(&rig, NULL));
	fd = rig_open_iommufd(&rig);
	option.op = IOMMU_OPTION_OP_GET;
	option.val64 = 7;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_OPTION, &option), 0);
	assert_int_equal(option.val64, 0);
	option.object_id = 1;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_OPTION, &option), -EOPNOTSUPP);
	option.option_id = IOMMU_OPTION_HUGE_PAGES;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_OPTION, &option), -ENOENT);
	option.object_id = ioas = ioas_alloc(&rig, fd);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_OPTION, &option), 0);
	assert_int_equal(option.val64, 1);
	option.op = IOMMU_OPTION_OP_SET;
	option.val64 = 2;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_OPTION, &option), -EINVAL);
	option.val64 = 0;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_OPTION, &option), 0);
	option.op = 2;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_OPTION, &option), -EOPNOTSUPP);
	option.__reserved = 1;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_OPTION, &option), -EOPNOTSUPP);
	option.__reserved = 0;
	option.option_id = 9;
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_OPTION, &option), -EOPNOTSUPP);
	rig_close(&rig, fd);
	rig_down(&rig);
}

/* ---- mapping ---- */

struct map_row {
	const char *name;
	uint32_t flags;
	uint64_t iova, length, offset; /* of the source in the rig's memory */
	long attached, fresh;	       /* what it answers with a device attached, and without */
};

/* [0x100000, 0x103fff] is mapped. A fresh address space has nothing reserved and alignment 1. */
static const struct map_row map_rows[] = {
	{"a page", MAP_FIXED_RW, 0, PAGE, 0, 0, 0},
	{"write only", 3, 0, PAGE, 0, 0, 0},
	{"no permission", 1, 0, PAGE, 0, -EINVAL, -EINVAL},
	{"unknown flag", MAP_FIXED_RW | 8, 0, PAGE, 0, -EOPNOTSUPP, -EOPNOTSUPP},
	{"length 0", MAP_FIXED_RW, 0, 0, 0, -EINVAL, -EINVAL},
	{"length 2^64 - 1", MAP_FIXED_RW, 0, ALL, 0, -EOVERFLOW, -EOVERFLOW},
	{"iova 2^64 - 1", MAP_FIXED_RW, ALL, 1, 0, -EOVERFLOW, -EOVERFLOW},
	{"wraps", MAP_FIXED_RW, 0xfffffffffffff000, 0x2000, 0, -EOVERFLOW, -EOVERFLOW},
	{"the source wraps", MAP_FIXED_RW, 0, 0xffffffff00000000, 0, -EOVERFLOW, -EOVERFLOW},
	{"odd iova", MAP_FIXED_RW, 0x800, PAGE, 0, -EINVAL, 0},
	{"odd length", MAP_FIXED_RW, 0, 0x800, 0, -EINVAL, 0},
	{"odd source", MAP_FIXED_RW, 0, PAGE, 0x800, -EINVAL, 0},
	{"one byte", MAP_FIXED_RW, 5, 1, 5, -EINVAL, 0},
	{"reserved", MAP_FIXED_RW, 0xfee00000, PAGE, 0, -EINVAL, 0},
	{"across the hole", MAP_FIXED_RW, 0xfedff000, 0x2000, 0, -EINVAL, 0},
	{"beyond the width", MAP_FIXED_RW, UINT64_C(1) << 48, PAGE, 0, -EINVAL, 0},
	{"overlap", MAP_FIXED_RW, 0x101000, PAGE, 0, -EEXIST, -EEXIST},
	{"overlap, around", MAP_FIXED_RW, 0xff000, 0x10000, 0, -EEXIST, -EEXIST},
	{"read-only memory, to be written", MAP_FIXED_RW, 0, PAGE, 40 * PAGE, -EFAULT, 0},
	{"read-only memory", 5, 0, PAGE, 40 * PAGE, 0, 0},
	{"no memory", 5, 0, PAGE, 64 * PAGE, -EFAULT, 0},
};

static void check_rows(struct rig *rig, int fd, uint32_t ioas, bool attached)
{
	for (size_t i = 0; i < sizeof(map_rows) / sizeof(map_rows[0]); i++) {
		const struct map_row *row = &map_rows[i];
		uint64_t iova = row->iova, length = row->length;
		long ret = ioas_map(rig, fd, ioas, row->flags, rig->memory + row->offset, length,
				    &iova);

		if (ret != (attached ? row->attached : row->fresh))
			fail_msg("%s, %s: %ld", row->name, attached ? "attached" : "fresh", ret);
		if (!ret)
			assert_int_equal(ioas_unmap(rig, fd, ioas, row->iova, &length), 0);
		if (!ret)
			assert_int_equal(length, row->length);
	}
}

static void test_map(void **state)
{
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, NULL));
	b = bind_edu(&rig);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, 4 * PAGE, 0x100000), 0);
	check_rows(&rig, b.fd, b.ioas, false);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), 0);
	check_rows(&rig, b.fd, b.ioas, true);
	assert_int_equal(ioas_map_at(&rig, b.fd, 99, rig.memory, PAGE, 0), -ENOENT);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.device, rig.memory, PAGE, 0), -ENOENT);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* The places that Linux chooses. */
static void test_place(void **state)
{
	uint64_t iova[4] = {0};
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, NULL));
	b = bind_edu(&rig);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(ioas_map(&rig, b.fd, b.ioas, MAP_RW, rig.memory,
					  i == 2 ? 16 * PAGE : PAGE, &iova[i]),
				 0);
	assert_int_equal(iova[0], 0x1000);
	assert_int_equal(iova[1], 0x2000);
	assert_int_equal(iova[2], 0x10000);
	assert_int_equal(iova[3], 0x3000);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* Memory is asked for when somebody may translate to it. */
static void test_memory_at_attach(void **state)
{
	uint64_t length = PAGE;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, NULL));
	b = bind_edu(&rig);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory + 64 * PAGE, PAGE, 0x5000), 0);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), -EFAULT);
	assert_int_equal(ioas_unmap(&rig, b.fd, b.ioas, 0x5000, &length), 0);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, PAGE, 0xfee00000), 0);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), -EADDRINUSE);
	assert_int_equal(ioas_unmap(&rig, b.fd, b.ioas, 0xfee00000, &length), 0);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), 0);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

static void test_unmap(void **state)
{
	static const struct {
		uint64_t iova, length;
		long error;
		uint64_t out;
	} rows[] = {
		{0, 0, -EINVAL, 0},
		{ALL, PAGE, -EOVERFLOW, 0},
		{PAGE, ALL, -EOVERFLOW, 0},
		{0xfffffffffffff000, 0x2000, -EOVERFLOW, 0},
		{0x900000, PAGE, -ENOENT, 0},
		{0x100000, PAGE, -ENOENT, 0},
		{0x101000, 3 * PAGE, -ENOENT, 0},
		{0x100800, 4 * PAGE, -ENOENT, 0},
		{0x100000, 4 * PAGE, 0, 4 * PAGE},
		{0x110000, 0x20000, 0, 8 * PAGE},
		/* What comes before the mapping that is cut is gone. */
		{0x200000, 0x11000, -ENOENT, 0},
		{0x200000, 0x10000, -ENOENT, 0},
		{0x210000, 4 * PAGE, 0, 4 * PAGE},
		{0, ALL, 0, 8 * PAGE},
		{0, ALL, 0, 0},
	};
	static const uint64_t areas[] = {0x100000, 0x110000, 0x120000, 0x200000,
					 0x210000, 0x300000, 0x310000};
	uint64_t length;
	struct rig rig;
	uint32_t ioas;
	int fd;

	assert_true(rig_up(&rig, NULL));
	fd = rig_open_iommufd(&rig);
	ioas = ioas_alloc(&rig, fd);
	for (unsigned i = 0; i < sizeof(areas) / sizeof(areas[0]); i++)
		assert_int_equal(ioas_map_at(&rig, fd, ioas, rig.memory, 4 * PAGE, areas[i]), 0);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		length = rows[i].length;
		if (ioas_unmap(&rig, fd, ioas, rows[i].iova, &length) != rows[i].error)
			fail_msg("row %u: not %ld", i, rows[i].error);
		if (!rows[i].error)
			assert_int_equal(length, rows[i].out);
	}
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_ranges(void **state)
{
	struct iommu_iova_range list[4] = {{0}}, allow[2] = {{0x1000, 0x1000}, {0x2000, 0x3fff}};
	struct iommu_ioas_iova_ranges ranges = {.size = sizeof(ranges),
						.allowed_iovas = (uintptr_t)list};
	struct iommu_ioas_allow_iovas allowed = {
		.size = sizeof(allowed), .num_iovas = 2, .allowed_iovas = (uintptr_t)allow};
	uint64_t iova = 0;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, NULL));
	b = bind_edu(&rig);
	ranges.ioas_id = allowed.ioas_id = b.ioas;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_IOVA_RANGES, &ranges), -EMSGSIZE);
	assert_int_equal(ranges.num_iovas, 1);
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_IOVA_RANGES, &ranges), 0);
	assert_true(!list[0].start && list[0].last == ALL && ranges.out_iova_alignment == 1);
	/* A promise that the device can't keep. */
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_ALLOW_IOVAS, &allowed), -EINVAL);
	allow[0] = (struct iommu_iova_range){0xfedff000, 0xfee00fff};
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_ALLOW_IOVAS, &allowed), 0);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), -EADDRINUSE);
	allow[0].last = 0xfedfffff;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_ALLOW_IOVAS, &allowed), 0);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), 0);
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_IOVA_RANGES, &ranges), -EMSGSIZE);
	assert_int_equal(ranges.num_iovas, 2);
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_IOVA_RANGES, &ranges), 0);
	assert_true(list[0].last == 0xfedfffff && list[1].start == 0xfef00000 &&
		    list[1].last == 0xffffffffffff && ranges.out_iova_alignment == PAGE);
	/* Placed inside of what is allowed; a fixed place is the program's own business. */
	assert_int_equal(ioas_map(&rig, b.fd, b.ioas, MAP_RW, rig.memory, PAGE, &iova), 0);
	assert_int_equal(iova, 0x2000);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, PAGE, 0x700000), 0);
	iova = 0;
	assert_int_equal(ioas_map(&rig, b.fd, b.ioas, MAP_RW, rig.memory, 4 * PAGE, &iova),
			 -ENOSPC);
	allow[0] = (struct iommu_iova_range){0x3000, 0x4fff};
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_ALLOW_IOVAS, &allowed), -EINVAL);
	allow[0] = (struct iommu_iova_range){0xfedff000, 0xfee00fff};
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_ALLOW_IOVAS, &allowed), -EADDRINUSE);
	allowed.num_iovas = 0;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_ALLOW_IOVAS, &allowed), 0);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* ---- copies and files: the memory outlives where it came from ---- */

static void test_copy(void **state)
{
	struct iommu_ioas_copy copy = {.size = sizeof(copy), .flags = MAP_FIXED_RW};
	uint64_t length = 4 * PAGE;
	struct rig rig;
	struct bound b;
	uint32_t from;

	assert_true(rig_up(&rig, NULL));
	b = bind_edu(&rig);
	from = ioas_alloc(&rig, b.fd);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), 0);
	assert_int_equal(ioas_map_at(&rig, b.fd, from, rig.memory, 4 * PAGE, 0x10000), 0);
	copy.src_ioas_id = from;
	copy.dst_ioas_id = b.ioas;
	copy.src_iova = 0x11000;
	copy.dst_iova = 0x80000;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_COPY, &copy), -EINVAL);
	copy.length = 4 * PAGE;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_COPY, &copy), -ENOENT);
	copy.length = 2 * PAGE;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_COPY, &copy), 0);
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_COPY, &copy), -EEXIST);
	copy.flags = MAP_RW;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_COPY, &copy), 0);
	assert_int_equal(copy.dst_iova, 0x1000);
	copy.flags = IOMMU_IOAS_MAP_FIXED_IOVA;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_COPY, &copy), -EINVAL);
	assert_int_equal(ioas_unmap(&rig, b.fd, from, 0x10000, &length), 0);
	assert_int_equal(destroy_id(&rig, b.fd, from), 0);
	rig.memory[PAGE] = 0x5a;
	assert_true(edu_reads(&rig, b.node, 0x80000, rig.memory + PAGE));
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

static void test_files(void **state)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = MAP_FIXED_RW, .length = 2 * PAGE, .iova = 0x40000};
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy), .flags = MAP_FIXED_RW, .length = PAGE, .dst_iova = 0x90000};
	struct iommu_ioas_change_process change = {.size = sizeof(change)};
	uint64_t length = 2 * PAGE, word = 0x1122334455667788;
	int file = memfd_create("test", 0);
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, NULL));
	b = bind_edu(&rig);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), 0);
	assert_int_equal(ftruncate(file, 4 * PAGE), 0);
	map.ioas_id = copy.src_ioas_id = copy.dst_ioas_id = b.ioas;
	map.fd = -1;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_MAP_FILE, &map), -EBADF);
	map.fd = file;
	map.start = PAGE;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_MAP_FILE, &map), 0);
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_MAP_FILE, &map), -EEXIST);
	assert_int_equal(rig.files_mapped, 1);
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_CHANGE_PROCESS, &change), 0);
	copy.src_iova = 0x41000;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_COPY, &copy), 0);
	assert_int_equal(ioas_unmap(&rig, b.fd, b.ioas, 0x40000, &length), 0);
	/* The copy still shows it. */
	assert_int_equal(rig.files_mapped, 1);
	assert_int_equal(pwrite(file, &word, sizeof(word), 2 * PAGE), sizeof(word));
	edu_dma(&rig, b.node, 0x90000, 8, false);
	edu_dma(&rig, b.node, 0x90100, 8, true);
	word = 0;
	assert_int_equal(pread(file, &word, sizeof(word), 2 * PAGE + 0x100), sizeof(word));
	assert_int_equal(word, 0x1122334455667788);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, PAGE, 0x1000), 0);
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_IOAS_CHANGE_PROCESS, &change), -EINVAL);
	unbind_edu(&rig, &b);
	assert_int_equal(rig.files_mapped, 0);
	rig_down(&rig);
	close(file);
}

/* ---- devices ---- */

static void test_bind(void **state)
{
	static const char *const functions[] = {"edu@00:01.0,group=0", "edu@00:02.0,group=0",
						"ioat@00:03.0,group=1", NULL};
	const struct rig_options options = {.functions = functions};
	struct vfio_device_bind_iommufd bind = {.argsz = 12};
	struct vfio_device_info info = {.argsz = sizeof(info)};
	int fd, other, node, twin, again, group;
	struct rig rig;
	uint32_t id;

	assert_true(rig_up(&rig, &options));
	fd = rig_open_iommufd(&rig);
	other = rig_open_iommufd(&rig);
	assert_int_equal(rig_open_node(&rig, 3), -ENODEV);
	node = rig_open_node(&rig, 0);
	twin = rig_open_node(&rig, 1);
	again = rig_open_node(&rig, 0);
	/* Nothing but BIND until then. */
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_GET_INFO, &info), -EINVAL);
	assert_int_equal(uiommu_vfio_pread(rig_file(&rig, node), &id, 4, UINT64_C(7) << 40),
			 -EINVAL);
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL);
	bind.argsz = sizeof(bind);
	bind.iommufd = -1;
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL);
	bind.flags = 8;
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_BIND_IOMMUFD, &bind), -EINVAL);
	assert_int_equal(bind_device(&rig, node, node, &id), -EBADFD);
	group = rig_open_group(&rig, 0);
	assert_int_equal(bind_device(&rig, node, fd, &id), -EBUSY);
	rig_close(&rig, group);
	assert_int_equal(bind_device(&rig, node, fd, &id), 0);
	assert_int_equal(id, 1);
	assert_int_equal(bind_device(&rig, node, fd, &id), -EINVAL);
	assert_int_equal(bind_device(&rig, again, fd, &id), -EINVAL);
	assert_int_equal(bind_device(&rig, twin, other, &id), -EPERM);
	assert_int_equal(rig_open_group(&rig, 0), -EBUSY);
	assert_int_equal(rig_ioctl(&rig, node, VFIO_DEVICE_GET_INFO, &info), 0);
	assert_int_equal(destroy_id(&rig, fd, 1), -EBUSY);
	/* A device keeps its iommufd, whatever is closed first. */
	rig_close(&rig, fd);
	assert_int_equal(attach_to(&rig, node, 1), -EINVAL);
	assert_int_equal(attach_to(&rig, node, 2), -ENOENT);
	rig_close(&rig, node);
	assert_int_equal(bind_device(&rig, again, other, &id), 0);
	assert_int_equal(bind_device(&rig, twin, other, &id), 0);
	rig_close(&rig, again);
	rig_close(&rig, twin);
	group = rig_open_group(&rig, 0);
	assert_true(group >= 0);
	rig_close(&rig, group);
	rig_close(&rig, other);
	rig_down(&rig);
}

static void test_attach(void **state)
{
	struct rig rig;
	struct bound b;
	uint32_t second, automatic, hwpt;

	assert_true(rig_up(&rig, NULL));
	b = bind_edu(&rig);
	second = ioas_alloc(&rig, b.fd);
	rig.memory[0] = 1;
	rig.memory[PAGE] = 2;
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, PAGE, 0x1000), 0);
	assert_int_equal(ioas_map_at(&rig, b.fd, second, rig.memory + PAGE, PAGE, 0x2000), 0);
	assert_false(edu_reads(&rig, b.node, 0x1000, rig.memory));
	automatic = b.ioas;
	assert_int_equal(attach_device(&rig, b.node, &automatic), 0);
	assert_int_equal(automatic, 4);
	assert_true(edu_reads(&rig, b.node, 0x1000, rig.memory));
	assert_false(edu_reads(&rig, b.node, 0x2000, rig.memory));
	assert_int_equal(destroy_id(&rig, b.fd, b.ioas), -EBUSY);
	assert_int_equal(destroy_id(&rig, b.fd, automatic), -EBUSY);
	/* Replaced: the automatic page table goes with its last device. */
	assert_int_equal(attach_to(&rig, b.node, second), 0);
	assert_false(edu_reads(&rig, b.node, 0x1000, rig.memory));
	assert_true(edu_reads(&rig, b.node, 0x2000, rig.memory + PAGE));
	assert_int_equal(destroy_id(&rig, b.fd, automatic), -ENOENT);
	assert_int_equal(hwpt_alloc(&rig, b.fd, b.device, b.ioas, 0, &hwpt), 0);
	assert_int_equal(attach_to(&rig, b.node, hwpt), 0);
	assert_true(edu_reads(&rig, b.node, 0x1000, rig.memory));
	assert_int_equal(destroy_id(&rig, b.fd, second), 0);
	assert_int_equal(attach_to(&rig, b.node, 77), -ENOENT);
	assert_int_equal(attach_to(&rig, b.node, b.device), -EINVAL);
	assert_int_equal(detach_device(&rig, b.node), 0);
	assert_int_equal(detach_device(&rig, b.node), 0);
	assert_false(edu_reads(&rig, b.node, 0x1000, rig.memory));
	/* Made by a request, it stays until it is destroyed. */
	assert_int_equal(destroy_id(&rig, b.fd, b.ioas), -EBUSY);
	assert_int_equal(destroy_id(&rig, b.fd, hwpt), 0);
	assert_int_equal(destroy_id(&rig, b.fd, b.ioas), 0);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* edu raises its interrupt; does it arrive? */
static bool interrupted(struct rig *rig, int node, int event)
{
	rig_reg_set(rig, node, 0, 0x60, 1);
	rig_reg_set(rig, node, 0, 0x64, 1);
	return rig_wait(event, 200) != 0;
}

/* An interrupt's doorbell goes along with its device, to the IOVA that the device was told. */
static void test_interrupts(void **state)
{
	const struct rig_options options = {.platform = "arm-smmuv3"};
	int event = eventfd(0, EFD_NONBLOCK);
	int32_t fd = event;
	struct rig rig;
	struct bound b;
	uint32_t second;
	uint64_t faults;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	second = ioas_alloc(&rig, b.fd);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), 0);
	assert_int_equal(rig_irqs(&rig, b.node, 4 | 32, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &fd), 0);
	assert_true(interrupted(&rig, b.node, event));
	assert_int_equal(attach_to(&rig, b.node, second), 0);
	assert_true(interrupted(&rig, b.node, event));
	assert_int_equal(attach_to(&rig, b.node, b.ioas), 0);
	assert_true(interrupted(&rig, b.node, event));
	/* Where it can't stand there, the device stays. */
	assert_int_equal(ioas_map_at(&rig, b.fd, second, rig.memory, PAGE, 0x8000000), 0);
	assert_int_equal(attach_to(&rig, b.node, second), -EADDRINUSE);
	assert_true(interrupted(&rig, b.node, event));
	faults = rig.faults;
	assert_int_equal(detach_device(&rig, b.node), 0);
	assert_false(interrupted(&rig, b.node, event));
	assert_int_equal(rig.faults, faults + 1);
	unbind_edu(&rig, &b);
	rig_down(&rig);
	close(event);
}

static void test_hwpt_arguments(void **state)
{
	struct iommu_hwpt_alloc alloc = {.size = sizeof(alloc)};
	struct rig rig;
	struct bound b;
	uint32_t id;

	assert_true(rig_up(&rig, NULL));
	b = bind_edu(&rig);
	assert_int_equal(hwpt_alloc(&rig, b.fd, 99, b.ioas, 0, &id), -ENOENT);
	assert_int_equal(hwpt_alloc(&rig, b.fd, b.device, 99, 0, &id), -EINVAL);
	assert_int_equal(hwpt_alloc(&rig, b.fd, b.device, b.device, 0, &id), -EINVAL);
	assert_int_equal(hwpt_alloc(&rig, b.fd, b.device, b.ioas, 0x100, &id), -EOPNOTSUPP);
	assert_int_equal(
		hwpt_alloc(&rig, b.fd, b.device, b.ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, &id),
		-EOPNOTSUPP);
	alloc.dev_id = b.device;
	alloc.pt_id = b.ioas;
	alloc.data_len = 8;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_ALLOC, &alloc), -EINVAL);
	alloc.data_type = 1;
	alloc.data_len = 0;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_ALLOC, &alloc), -EINVAL);
	alloc.__reserved = 1;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_ALLOC, &alloc), -EOPNOTSUPP);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* ---- dirty pages ---- */

static void test_dirty(void **state)
{
	struct iommu_hwpt_set_dirty_tracking set = {.size = sizeof(set), .flags = 1};
	uint8_t bitmap[8] = {0x80};
	struct iommu_hwpt_get_dirty_bitmap get = {.size = sizeof(get),
						  .iova = 0x100000,
						  .length = 16 * PAGE,
						  .page_size = PAGE,
						  .data = (uintptr_t)bitmap};
	struct rig rig;
	struct bound b;
	uint32_t hwpt, plain;

	assert_true(rig_up(&rig, &dirty_machine));
	b = bind_edu(&rig);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, 16 * PAGE, 0x100000), 0);
	assert_int_equal(
		hwpt_alloc(&rig, b.fd, b.device, b.ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, &hwpt),
		0);
	assert_int_equal(hwpt_alloc(&rig, b.fd, b.device, b.ioas, 0, &plain), 0);
	assert_int_equal(attach_to(&rig, b.node, hwpt), 0);
	set.hwpt_id = get.hwpt_id = plain;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set), -EOPNOTSUPP);
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), -EOPNOTSUPP);
	set.hwpt_id = get.hwpt_id = hwpt;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set), 0);
	edu_dma(&rig, b.node, 0x102ffc, 8, true);
	edu_dma(&rig, b.node, 0x10f000, 8, true);
	edu_dma(&rig, b.node, 0x105000, 8, false);
	get.flags = IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), 0);
	/* Bits are added to those that are set. */
	assert_int_equal(bitmap[0], 0x8c);
	assert_int_equal(bitmap[1], 0x80);
	get.flags = 0;
	bitmap[0] = bitmap[1] = 0;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), 0);
	assert_int_equal(bitmap[0], 0x0c);
	bitmap[0] = bitmap[1] = 0;
	edu_dma(&rig, b.node, 0x102ff0, 8, true);
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), 0);
	assert_int_equal(bitmap[0], 0x04);
	assert_int_equal(bitmap[1], 0);
	get.length = 17 * PAGE;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), -EINVAL);
	get.length = 0;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), -EOVERFLOW);
	get.length = 16 * PAGE;
	get.page_size = 32 * PAGE;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), -EINVAL);
	get.page_size = PAGE;
	edu_dma(&rig, b.node, 0x100000, 8, true);
	get.data = 8;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), -EFAULT);
	/* What could not be told of is not lost. */
	get.data = (uintptr_t)bitmap;
	bitmap[0] = 0;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), 0);
	assert_int_equal(bitmap[0], 0x01);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* ---- /dev/iommu as a container ---- */

static void test_container(void **state)
{
	struct vfio_iommu_type1_info info = {.argsz = 16};
	struct iommu_vfio_ioas which = {.size = sizeof(which), .op = IOMMU_VFIO_IOAS_GET};
	struct vfio_group_status status = {.argsz = sizeof(status)};
	uint64_t size;
	struct rig rig;
	int fd, group, device;

	assert_true(rig_up(&rig, NULL));
	fd = rig_open_iommufd(&rig);
	group = rig_open_group(&rig, 0);
	assert_int_equal(rig_ioctl_value(&rig, fd, VFIO_GET_API_VERSION, 0), 0);
	assert_int_equal(rig_ioctl_value(&rig, fd, VFIO_CHECK_EXTENSION, 3), 1);
	assert_int_equal(rig_ioctl_value(&rig, fd, VFIO_CHECK_EXTENSION, 4), -ENODEV);
	assert_int_equal(rig_ioctl_value(&rig, fd, VFIO_CHECK_EXTENSION, 10), 0);
	assert_int_equal(rig_ioctl_value(&rig, fd, VFIO_SET_IOMMU, 3), -ENODEV);
	assert_int_equal(rig_ioctl(&rig, fd, VFIO_IOMMU_GET_INFO, &info), -ENODEV);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_VFIO_IOAS, &which), -ENODEV);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &fd), 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &fd), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_GET_STATUS, &status), 0);
	assert_int_equal(status.flags, 3);
	assert_int_equal(rig_ioctl(&rig, fd, IOMMU_VFIO_IOAS, &which), 0);
	assert_int_equal(which.ioas_id, 1);
	device = (int)rig_ioctl(&rig, group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:01.0");
	assert_true(device >= 0);
	assert_int_equal(rig_ioctl_value(&rig, fd, VFIO_SET_IOMMU, 3), 0);
	assert_int_equal(rig_ioctl_value(&rig, fd, VFIO_SET_IOMMU, 3), 0);
	assert_int_equal(rig_ioctl(&rig, fd, VFIO_IOMMU_GET_INFO, &info), 0);
	assert_int_equal(info.argsz, 88);
	assert_int_equal(rig_map(&rig, fd, 3, 0x10000, 4 * PAGE, rig.memory), 0);
	assert_int_equal(rig_map(&rig, fd, 3, 0x10000, PAGE, rig.memory), -EEXIST);
	assert_int_equal(rig_map(&rig, fd, 0, 0x50000, PAGE, rig.memory), -EINVAL);
	rig_config_set(&rig, device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_true(edu_reads(&rig, device, 0x11000, rig.memory + PAGE));
	size = PAGE;
	assert_int_equal(rig_unmap(&rig, fd, 0, 0x11000, &size), -ENOENT);
	assert_int_equal(size, 0);
	size = PAGE;
	assert_int_equal(rig_unmap(&rig, fd, 0, 0x90000, &size), 0);
	assert_int_equal(size, 0);
	size = 0;
	assert_int_equal(rig_unmap(&rig, fd, 0, 0x10000, &size), -EINVAL);
	size = 0;
	assert_int_equal(rig_unmap(&rig, fd, VFIO_DMA_UNMAP_FLAG_ALL, 0, &size), 0);
	assert_int_equal(size, 4 * PAGE);
	/* With a device open, too. */
	assert_int_equal(rig_ioctl_value(&rig, group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(rig_map(&rig, fd, 3, 0x10000, PAGE, rig.memory), 0);
	assert_true(edu_reads(&rig, device, 0x10000, rig.memory));
	rig_close(&rig, group);
	rig_close(&rig, fd);
	rig_close(&rig, device);
	rig_down(&rig);
}

/* The first version cuts mappings. */
static void test_container_v1(void **state)
{
	struct session s;
	uint64_t size;
	struct rig rig;

	assert_true(rig_up(&rig, NULL));
	s = (struct session){rig_open_iommufd(&rig), rig_open_group(&rig, 0), -1};
	assert_int_equal(rig_ioctl(&rig, s.group, VFIO_GROUP_SET_CONTAINER, &s.container), 0);
	assert_int_equal(rig_ioctl_value(&rig, s.container, VFIO_SET_IOMMU, 1), 0);
	s.device = (int)rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:01.0");
	assert_true(s.device >= 0);
	rig_config_set(&rig, s.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig_map(&rig, s.container, 3, 0x200000, 16 * PAGE, rig.memory), 0);
	size = 2 * PAGE;
	assert_int_equal(rig_unmap(&rig, s.container, 0, 0x204000, &size), 0);
	assert_int_equal(size, 2 * PAGE);
	assert_true(edu_reads(&rig, s.device, 0x203000, rig.memory + 3 * PAGE));
	assert_false(edu_reads(&rig, s.device, 0x204000, rig.memory));
	assert_true(edu_reads(&rig, s.device, 0x206000, rig.memory + 6 * PAGE));
	rig_close(&rig, s.container);
	rig_close(&rig, s.device);
	rig_close(&rig, s.group);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_structs),
		cmocka_unit_test(test_no_result),
		cmocka_unit_test(test_objects),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_memory_at_attach),
		cmocka_unit_test(test_unmap),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_bind),
		cmocka_unit_test(test_attach),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_hwpt_arguments),
		cmocka_unit_test(test_dirty),
		cmocka_unit_test(test_container),
		cmocka_unit_test(test_container_v1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
