/* SPDX-License-Identifier: MIT */
/*
 * spapr-table - every answer of the sPAPR TCE driver, versions 1 and 2. The argument is the
 * machine's flavour: "pseries" or "powernv". The machine has two functions, edu and ioat, in groups
 * of their own.
 */
#include "spapr.h"

#include <fcntl.h>

static bool powernv;
static uint64_t window; /* size of the default one */
static uint8_t *memory; /* eight pages; the fifth can only be read, the seventh not at all */
enum { PAGES = 8, READ_ONLY = 4, NOTHING = 6 };

static void check_extensions(int container)
{
	for (int i = 0; i < 12; i++)
		CHECK_ROW("extension", call_value(container, VFIO_CHECK_EXTENSION, i),
			  i == VFIO_SPAPR_TCE_IOMMU || i == VFIO_SPAPR_TCE_v2_IOMMU);
}

static void check_info(int container, bool v2)
{
	struct vfio_iommu_spapr_tce_info info = {.argsz = sizeof(info)};

	CHECK_EQ(call(container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &info), 0);
	CHECK_EQ(info.flags, v2 ? VFIO_IOMMU_SPAPR_INFO_DDW : 0);
	CHECK_EQ(info.dma32_window_start, 0);
	CHECK_EQ(info.dma32_window_size, window);
	CHECK_EQ(info.ddw.pgsizes, !v2 ? 0 : powernv ? 0x40211000 : 0x1211000);
	CHECK_EQ(info.ddw.max_dynamic_windows_supported, v2 ? 2 : 0);
	CHECK_EQ(info.ddw.levels, !v2 ? 0 : powernv ? 5 : 1);
	/* The struct of before there were dynamic windows. */
	info.argsz = 16;
	info.flags = ~0u;
	info.ddw.levels = 77;
	CHECK_EQ(call(container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &info), 0);
	CHECK_EQ(info.flags, v2 ? VFIO_IOMMU_SPAPR_INFO_DDW : 0);
	CHECK_EQ(info.ddw.levels, 77);
	info.argsz = 15;
	CHECK_EQ(call(container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, &info), -EINVAL);
	CHECK_EQ(call(container, VFIO_IOMMU_SPAPR_TCE_GET_INFO, NULL), -EFAULT);
}

/* Answers that v1 and v2 share, once mapping is allowed. */
static void check_map(int c, bool v2)
{
	const uint32_t r = VFIO_DMA_MAP_FLAG_READ, w = VFIO_DMA_MAP_FLAG_WRITE;
	const struct {
		const char *name;
		uint64_t iova, size;
		int64_t offset; /* in memory */
		uint32_t flags;
		int expected;
	} rows[] = {
		{"map", 0x10000, 4 * PAGE, 0, RW, 0},
		{"map again", 0x10000, 4 * PAGE, 0, RW, 0},
		{"overlap its end", 0x12000, 4 * PAGE, 0, RW, 0},
		{"overlap its middle", 0x11000, PAGE, 0, RW, 0},
		{"size 0", 0x10000, 0, 0, RW, 0},
		{"READ", 0x20000, PAGE, 0, r, 0},
		{"WRITE", 0x20000, PAGE, 0, w, 0},
		{"neither", 0x20000, PAGE, 0, 0, -EINVAL},
		{"neither, size 0", 0x20000, 0, 0, 0, -EINVAL},
		{"unknown flag", 0x20000, PAGE, 0, RW | 8, -EINVAL},
		{"VADDR", 0x20000, PAGE, 0, VFIO_DMA_MAP_FLAG_VADDR, -EINVAL},
		{"unknown flag outside", WINDOW64, PAGE, 0, RW | 8, -EINVAL},
		{"first page", 0, PAGE, 0, RW, 0},
		{"last page", window - PAGE, PAGE, 0, RW, 0},
		{"outside", window, PAGE, 0, RW, -ENXIO},
		{"outside, size 0", window, 0, 0, RW, -ENXIO},
		{"outside, misaligned", window, 5, 0, RW, -ENXIO},
		{"outside, neither", window, PAGE, 0, 0, -ENXIO},
		{"no second window", WINDOW64, PAGE, 0, RW, -ENXIO},
		{"the very end", -PAGE, PAGE, 0, RW, -ENXIO},
		{"across the end", window - PAGE, 2 * PAGE, 0, RW, -ENXIO},
		{"size wraps", PAGE, -PAGE, 0, RW, -ENXIO},
		{"size misaligned", 0x20000, PAGE + 1, 0, RW, -EINVAL},
		{"vaddr misaligned", 0x20000, PAGE, 1, RW, -EINVAL},
		{"iova misaligned", 0x20001, PAGE, 0, RW, -EINVAL},
		{"size misaligned, neither", 0x20000, 1, 0, 0, -EINVAL},
		{"nothing there", 0x20000, PAGE, NOTHING * PAGE, RW, v2 ? -EINVAL : -EFAULT},
		{"read-only, to read", 0x20000, PAGE, READ_ONLY * PAGE, r, v2 ? -EINVAL : 0},
		{"read-only, to write", 0x20000, PAGE, READ_ONLY * PAGE, RW,
		 v2 ? -EINVAL : -EFAULT},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_ROW(rows[i].name,
			  client_map(c, rows[i].iova, memory + rows[i].offset, rows[i].size,
				     rows[i].flags),
			  rows[i].expected);
}

static void check_argsz(int c)
{
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map) - 1, .flags = RW};
	struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof(unmap) - 1};

	CHECK_EQ(call(c, VFIO_IOMMU_MAP_DMA, &map), -EINVAL);
	CHECK_EQ(call(c, VFIO_IOMMU_MAP_DMA, NULL), -EFAULT);
	CHECK_EQ(call(c, VFIO_IOMMU_UNMAP_DMA, &unmap), -EINVAL);
	CHECK_EQ(call(c, VFIO_IOMMU_UNMAP_DMA, NULL), -EFAULT);
}

/* Size is not told, so it comes back as it was. */
static void check_unmap(int c)
{
	const struct {
		const char *name;
		uint64_t iova, size;
		uint32_t flags;
		int expected;
	} rows[] = {
		{"unmap part", 0x11000, PAGE, 0, 0},
		{"the same", 0x11000, PAGE, 0, 0},
		{"whole and holes", 0, 0x100000, 0, 0},
		{"nothing", 0x10000, 4 * PAGE, 0, 0},
		{"size 0", 0x10000, 0, 0, 0},
		{"outside", window, PAGE, 0, -ENXIO},
		{"no second window", WINDOW64, PAGE, 0, -ENXIO},
		{"across the end", window - PAGE, 16 * PAGE, 0, 0},
		{"size misaligned", 0, 1, 0, -EINVAL},
		{"iova misaligned", 1, PAGE, 0, -EINVAL},
		{"a flag", 0, PAGE, 1, -EINVAL},
		{"ALL", 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, -EINVAL},
		{"everything", 0, -PAGE, 0, 0},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t ret = client_unmap(c, rows[i].iova, rows[i].size, rows[i].flags);

		CHECK_ROW(rows[i].name, ret,
			  rows[i].expected ? rows[i].expected : (int64_t)rows[i].size);
	}
}

static void test_v1(void)
{
	struct client c, other;

	client_find(&c, EDU, 0);
	client_open(&c, VFIO_SPAPR_TCE_IOMMU);
	check_extensions(c.container);
	check_info(c.container, false);
	CHECK_EQ(client_map(c.container, 0, memory, PAGE, RW), -EPERM);
	CHECK_EQ(client_unmap(c.container, 0, PAGE, 0), -EPERM);
	CHECK_EQ(call(c.container, VFIO_IOMMU_MAP_DMA, NULL), -EPERM);
	for (int i = 17; i <= 20; i++) /* REGISTER_MEMORY to REMOVE */
		CHECK_EQ(call(c.container, _IO(VFIO_TYPE, VFIO_BASE + i), NULL), -ENOTTY);
	CHECK_EQ(call(c.container, VFIO_EEH_PE_OP, NULL), -ENODEV);
	CHECK_EQ(call(c.container, _IO(VFIO_TYPE, VFIO_BASE + 30), NULL), -ENOTTY);
	CHECK_EQ(call(c.container, VFIO_IOMMU_DISABLE, NULL), 0);
	CHECK_EQ(call(c.container, VFIO_IOMMU_ENABLE, NULL), 0);
	CHECK_EQ(call(c.container, VFIO_IOMMU_ENABLE, NULL), -EBUSY);
	check_map(c.container, false);
	check_argsz(c.container);
	check_unmap(c.container);
	/* The fifth page can't be written: what was put before it is cleared, not what is behind.
	 */
	CHECK_EQ(client_map(c.container, 0x40000, memory, 4 * PAGE, RW), 0);
	CHECK_EQ(client_map(c.container, 0x44000, memory, 4 * PAGE, RW), 0);
	CHECK_EQ(client_map(c.container, 0x40000, memory, 8 * PAGE, RW), -EFAULT);
	CHECK_EQ(call(c.container, VFIO_IOMMU_DISABLE, NULL), 0);
	CHECK_EQ(client_map(c.container, 0, memory, PAGE, RW), -EPERM);
	CHECK_EQ(call(c.container, VFIO_IOMMU_ENABLE, NULL), 0);
	/* One group a container. */
	client_find(&other, IOAT, 0);
	other.group = open(other.group_path, O_RDWR);
	CHECK_EQ(call(other.group, VFIO_GROUP_SET_CONTAINER, &c.container), -EBUSY);
	close(other.group);
	client_close(&c);
}

static void check_register(int c)
{
	struct vfio_iommu_spapr_register_memory request = {.argsz = sizeof(request)};

	CHECK_EQ(tce_unregister(c, memory, PAGE), -EPERM);
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, NULL), -EPERM);
	CHECK_EQ(client_map(c, 0, memory, PAGE, RW), -EPERM);
	CHECK_EQ(tce_register(c, memory + 1, PAGE), -EINVAL);
	CHECK_EQ(tce_register(c, memory, PAGE + 8), -EINVAL);
	CHECK_EQ(tce_register(c, (void *)-PAGE, 2 * PAGE), -EINVAL);
	CHECK_EQ(tce_register(c, memory, 0), -ENOMEM);
	CHECK_EQ(tce_register(c, memory + NOTHING * PAGE, PAGE), -EFAULT);
	CHECK_EQ(tce_register(c, memory + READ_ONLY * PAGE, PAGE), -EFAULT);
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, NULL), -EFAULT);
	request.argsz--;
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, &request), -EINVAL);
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, &request), -EINVAL);
	request = (struct vfio_iommu_spapr_register_memory){sizeof(request), 1, 0, PAGE};
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_REGISTER_MEMORY, &request), -EINVAL);
	CHECK_EQ(client_map(c, 0, memory, PAGE, RW), -EPERM);
	CHECK_EQ(tce_register(c, memory, 4 * PAGE), 0);
	CHECK_EQ(tce_register(c, memory, 4 * PAGE), -EBUSY);
	CHECK_EQ(tce_register(c, memory, 3 * PAGE), -EINVAL);
	CHECK_EQ(tce_register(c, memory + PAGE, PAGE), -EINVAL);
	CHECK_EQ(tce_unregister(c, memory, 3 * PAGE), -ENOENT);
	CHECK_EQ(tce_unregister(c, memory + PAGE, PAGE), -ENOENT);
	CHECK_EQ(tce_unregister(c, memory + 1, PAGE), -EINVAL);
}

/* Memory that is mapped can be taken off the list: what is mapped works on, as long as it is. */
static void check_unregister(int c)
{
	CHECK_EQ(client_map(c, 0x10000, memory, 2 * PAGE, RW), 0);
	CHECK_EQ(tce_unregister(c, memory, 4 * PAGE), 0);
	CHECK_EQ(tce_unregister(c, memory, 4 * PAGE), -ENOENT);
	CHECK_EQ(client_map(c, 0x20000, memory + 3 * PAGE, PAGE, RW), 0);
	CHECK_EQ(tce_register(c, memory, 2 * PAGE), -EINVAL); /* still in the way */
	CHECK_EQ(client_unmap(c, 0x10000, 2 * PAGE, 0), 2 * PAGE);
	CHECK_EQ(client_map(c, 0x20000, memory + 2 * PAGE, PAGE, RW), 0);
	CHECK_EQ(client_unmap(c, 0x20000, PAGE, 0), PAGE);
	CHECK_EQ(client_map(c, 0x20000, memory, PAGE, RW), -EINVAL); /* the last mapping's end */
	CHECK_EQ(tce_register(c, memory, 2 * PAGE), 0);
	CHECK_EQ(tce_register(c, memory + 2 * PAGE, 2 * PAGE), 0);
	CHECK_EQ(client_map(c, 0x20000, memory, 4 * PAGE, RW), 0); /* over both */
	CHECK_EQ(client_map(c, 0x20000, memory, 5 * PAGE, VFIO_DMA_MAP_FLAG_READ), -EINVAL);
	CHECK_EQ(tce_unregister(c, memory, 2 * PAGE), 0);
	CHECK_EQ(client_map(c, 0x20000, memory, PAGE, RW), -EINVAL); /* the failure cleared it */
	CHECK_EQ(tce_register(c, memory, 2 * PAGE), 0);
	CHECK_EQ(client_unmap(c, 0, window, 0), (int64_t)window);
}

static void check_create(int c)
{
	const int levels0 = powernv ? -EINVAL : 0;
	const struct {
		const char *name;
		unsigned page_shift;
		uint64_t size;
		unsigned levels;
		int expected;
	} rows[] = {
		{"page of 8 KiB", 13, 1 << 30, 1, -EINVAL},
		{"page of 2^64", 64, 1 << 30, 1, -EINVAL},
		{"page of 2^76", 76, 1 << 30, 1, -EINVAL},
		{"size 0", 12, 0, 1, -EINVAL},
		{"size less than a page", 16, 4096, 1, -EINVAL},
		{"size no power of two", 12, 3 << 20, 1, -EINVAL},
		{"too many levels", 12, 1 << 30, powernv ? 6 : 2, -EINVAL},
		{"4 KiB", 12, UINT64_C(1) << 32, 1, 0},
		{"64 KiB", 16, UINT64_C(1) << 34, 1, 0},
		{"2 MiB", 21, UINT64_C(1) << 40, 1, 0},
		{"16 MiB", 24, UINT64_C(1) << 40, 1, powernv ? -EINVAL : 0},
		{"1 GiB", 30, UINT64_C(1) << 40, 1, powernv ? 0 : -EINVAL},
		{"no levels", 16, UINT64_C(1) << 30, 0, levels0},
		{"four levels", 16, UINT64_C(1) << 40, 4, powernv ? 0 : -EINVAL},
		{"more levels than address bits", 16, UINT64_C(1) << 40, 5, -EINVAL},
		{"beyond the bits", 30, UINT64_C(1) << 63, 1, -EINVAL},
	};
	struct vfio_iommu_spapr_tce_create create = {.argsz = sizeof(create) - 1};
	struct vfio_iommu_spapr_tce_remove remove = {.argsz = sizeof(remove) - 1};
	uint64_t start;

	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_TCE_CREATE, NULL), -EFAULT);
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_TCE_CREATE, &create), -EINVAL);
	create = (struct vfio_iommu_spapr_tce_create){
		.argsz = sizeof(create), .flags = 1, .page_shift = 12, .window_size = 1 << 20};
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_TCE_CREATE, &create), -EINVAL);
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_TCE_REMOVE, NULL), -EFAULT);
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_TCE_REMOVE, &remove), -EINVAL);
	remove = (struct vfio_iommu_spapr_tce_remove){sizeof(remove), 1, 0};
	CHECK_EQ(call(c, VFIO_IOMMU_SPAPR_TCE_REMOVE, &remove), -EINVAL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CHECK_ROW(rows[i].name,
			  tce_create(c, rows[i].page_shift, rows[i].size, rows[i].levels, &start),
			  rows[i].expected);
		if (rows[i].expected)
			continue;
		CHECK_ROW(rows[i].name, start, WINDOW64);
		CHECK_ROW(rows[i].name, tce_remove(c, WINDOW64 + rows[i].size), -EINVAL);
		CHECK_ROW(rows[i].name, tce_remove(c, WINDOW64 + rows[i].size - 1), 0);
	}
	CHECK_EQ(tce_remove(c, WINDOW64), -EINVAL);
	CHECK_EQ(tce_remove(c, window), -EINVAL);
}

/* What is mapped in a window obeys its page. */
static void check_large_pages(int c)
{
	const uint64_t large = 0x10000;
	uint8_t *area = client_pages(64), *at;
	uint64_t start;

	at = (uint8_t *)(((uintptr_t)area + large - 1) & -large);
	CHECK_EQ(tce_register(c, at, large), 0);
	CHECK_EQ(tce_register(c, at + large + PAGE, 2 * large), 0);
	CHECK_EQ(tce_create(c, 16, UINT64_C(1) << 32, 1, &start), 0);
	CHECK_EQ(client_map(c, start, at, large, RW), 0);
	CHECK_EQ(client_map(c, start + 3 * large, at, large, RW), 0);
	CHECK_EQ(client_map(c, start, at, PAGE, RW), -EINVAL);
	CHECK_EQ(client_map(c, start + PAGE, at, large, RW), -EINVAL);
	CHECK_EQ(client_map(c, start, at + PAGE, large, RW), -EINVAL);
	CHECK_EQ(client_unmap(c, start, PAGE, 0), -EINVAL);
	/* Registered in a piece that isn't aligned to the page. */
	CHECK_EQ(client_map(c, start, at + 2 * large, large, RW), -EINVAL);
	CHECK_EQ(client_map(c, 0, at + large + PAGE, large, RW), 0);
	CHECK_EQ(client_unmap(c, start, large, 0), (int64_t)large);
	/* Mappings go with their window. */
	CHECK_EQ(tce_remove(c, start + 12345), 0);
	CHECK_EQ(client_map(c, start, at, large, RW), -ENXIO);
	CHECK_EQ(tce_unregister(c, at, large), 0);
	CHECK_EQ(client_map(c, 0, at, large, RW), -EINVAL);
	CHECK_EQ(client_unmap(c, 0, window, 0), (int64_t)window);
	CHECK_EQ(tce_unregister(c, at + large + PAGE, 2 * large), 0);
	munmap(area, 64 * PAGE);
}

/* The default window and others come and go. */
static void check_windows(int c)
{
	uint64_t start;

	CHECK_EQ(tce_create(c, 12, 1 << 30, 1, &start), 0);
	CHECK_EQ(start, WINDOW64);
	CHECK_EQ(tce_create(c, 12, 1 << 30, 1, &start), -ENOSPC);
	CHECK_EQ(tce_create(c, 13, 0, 9, &start), -ENOSPC);
	CHECK_EQ(client_map(c, 0, memory, PAGE, RW), 0);
	CHECK_EQ(tce_remove(c, window - 1), 0);
	CHECK_EQ(client_map(c, 0, memory, PAGE, RW), -ENXIO);
	CHECK_EQ(client_map(c, WINDOW64, memory, PAGE, RW), 0);
	check_info(c, true);
	CHECK_EQ(tce_create(c, 12, 1 << 28, 1, &start), powernv ? 0 : -EPERM);
	if (powernv)
		CHECK_EQ(start, 0);
	else
		CHECK_EQ(tce_create(c, 16, 1 << 28, 1, &start), -EPERM);
	CHECK_EQ(tce_remove(c, WINDOW64), 0);
	if (powernv)
		CHECK_EQ(tce_remove(c, 0), 0);
	/* With no other window there, the first one may be of any kind. */
	CHECK_EQ(tce_create(c, 16, UINT64_C(1) << 33, 1, &start), 0);
	CHECK_EQ(start, 0);
	CHECK_EQ(tce_create(c, 12, 1 << 30, 1, &start), 0);
	CHECK_EQ(start, WINDOW64);
}

/* A default window that nobody has needed yet is removed without being made. */
static void check_pending(int c)
{
	uint64_t start;

	CHECK_EQ(tce_register(c, memory, PAGE), 0);
	CHECK_EQ(tce_remove(c, PAGE), -EINVAL);
	CHECK_EQ(tce_remove(c, 0), 0);
	CHECK_EQ(tce_remove(c, 0), -EINVAL);
	CHECK_EQ(client_map(c, 0, memory, PAGE, RW), -ENXIO);
	CHECK_EQ(tce_create(c, 12, 1 << 25, 1, &start), 0);
	CHECK_EQ(start, 0);
	CHECK_EQ(client_map(c, (1 << 25) - PAGE, memory, PAGE, RW), 0);
	CHECK_EQ(client_map(c, 1 << 25, memory, PAGE, RW), -ENXIO);
}

static void test_v2(void)
{
	struct client c, other;
	int shared;

	client_find(&c, EDU, 0);
	client_find(&other, IOAT, 0);
	client_open(&c, VFIO_SPAPR_TCE_v2_IOMMU);
	check_extensions(c.container);
	check_info(c.container, true);
	CHECK_EQ(call(c.container, VFIO_IOMMU_ENABLE, NULL), -ENOTTY);
	CHECK_EQ(call(c.container, VFIO_IOMMU_DISABLE, NULL), -ENOTTY);
	CHECK_EQ(call(c.container, VFIO_EEH_PE_OP, NULL), -ENODEV);
	check_register(c.container);
	check_map(c.container, true);
	check_argsz(c.container);
	check_unmap(c.container);
	check_unregister(c.container);
	check_create(c.container);
	check_large_pages(c.container);
	check_windows(c.container);
	/* Registered memory is the program's, so another container sees it. */
	client_open(&other, VFIO_SPAPR_TCE_v2_IOMMU);
	shared = other.container;
	CHECK_EQ(tce_register(shared, memory, PAGE), -EINVAL);
	CHECK_EQ(tce_register(shared, memory, 2 * PAGE), 0);
	CHECK_EQ(client_map(shared, 0, memory + 2 * PAGE, 2 * PAGE, RW), 0);
	client_close(&other);
	client_close(&c);
	/* Several groups in one container. */
	client_open(&c, VFIO_SPAPR_TCE_v2_IOMMU);
	other.group = open(other.group_path, O_RDWR);
	CHECK_EQ(call(other.group, VFIO_GROUP_SET_CONTAINER, &c.container), 0);
	check_pending(c.container);
	close(other.group);
	client_close(&c);
}

int main(int argc, char **argv)
{
	REQUIRE(argc == 2);
	powernv = !strcmp(argv[1], "powernv");
	window = powernv ? UINT64_C(1) << 31 : UINT64_C(1) << 30;
	memory = client_pages(PAGES);
	REQUIRE(mprotect(memory + READ_ONLY * PAGE, PAGE, PROT_READ) == 0);
	REQUIRE(mprotect(memory + NOTHING * PAGE, PAGE, PROT_NONE) == 0);
	test_v1();
	test_v2();
	return client_done();
}
