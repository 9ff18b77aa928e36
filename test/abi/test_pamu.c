/* SPDX-License-Identifier: MIT */
/* VFIO on PAMU: attributes, MAP_DMA and UNMAP_DMA, with every error in the order in which
 * Freescale's kernels look for it; what a device reaches meanwhile. Banks: test_pamu_msi.c. */
#include <sys/resource.h>

#include "pamu_test.h"

static void test_types(void **state)
{
	static const struct {
		const char *platform;
		unsigned type, other;
	} rows[] = {
		{"fsl-pamu", VFIO_FSL_PAMU_IOMMU, VFIO_FSL_PAMU_IOMMU_7},
		{"fsl-pamu,type=2", VFIO_FSL_PAMU_IOMMU, VFIO_FSL_PAMU_IOMMU_7},
		{"fsl-pamu,type=7", VFIO_FSL_PAMU_IOMMU_7, VFIO_FSL_PAMU_IOMMU},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct rig_options options = {.platform = rows[i].platform};
		struct rig rig;
		int c, g;

		assert_true(rig_up(&rig, &options));
		c = rig_open_container(&rig);
		g = rig_open_group(&rig, 0);
		assert_int_equal(rig_ioctl(&rig, c, VFIO_IOMMU_PAMU_GET_ATTR, NULL), -EINVAL);
		assert_int_equal(rig_ioctl(&rig, g, VFIO_GROUP_SET_CONTAINER, &c), 0);
		for (unsigned ext = 0; ext < 12; ext++) {
			assert_int_equal(rig_ioctl_value(&rig, c, VFIO_CHECK_EXTENSION, ext),
					 ext == rows[i].type);
			if (ext != rows[i].type)
				assert_int_equal(rig_ioctl_value(&rig, c, VFIO_SET_IOMMU, ext),
						 -ENODEV);
		}
		assert_int_equal(rig_ioctl_value(&rig, c, VFIO_SET_IOMMU, rows[i].type), 0);
		assert_int_equal(rig_ioctl_value(&rig, c, VFIO_CHECK_EXTENSION, rows[i].type), 1);
		assert_int_equal(rig_ioctl_value(&rig, c, VFIO_CHECK_EXTENSION, rows[i].other), 0);
		assert_int_equal(rig_ioctl_value(&rig, c, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU),
				 0);
		assert_int_equal(rig_ioctl(&rig, c, VFIO_IOMMU_GET_INFO, rig.memory), -ENOTTY);
		assert_int_equal(rig_ioctl(&rig, c, VFIO_IOMMU_SPAPR_TCE_REMOVE, rig.memory),
				 -ENOTTY);
		assert_int_equal(rig_ioctl_value(&rig, c, VFIO_SET_IOMMU, rows[i].type), -EINVAL);
		assert_int_equal(rig_ioctl_value(&rig, c, VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT, 0),
				 3);
		rig_close(&rig, g);
		rig_close(&rig, c);
		rig_down(&rig);
	}
}

/* ---- attributes ---- */

static void test_layout(void **state)
{
	assert_int_equal(sizeof(struct vfio_pamu_attr), 32);
	assert_int_equal(offsetof(struct vfio_pamu_attr, attribute), 8);
	assert_int_equal(offsetof(struct vfio_pamu_attr, attr_info), 16);
	assert_int_equal(offsetof(struct vfio_pamu_attr, attr_info.attr.aperture_end), 24);
	assert_int_equal(offsetof(struct vfio_pamu_attr, attr_info.stash.cache), 20);
	assert_int_equal(sizeof(struct vfio_pamu_msi_bank_map), 24);
	assert_int_equal(offsetof(struct vfio_pamu_msi_bank_map, iova), 16);
	assert_int_equal(sizeof(struct vfio_pamu_msi_bank_unmap), 16);
	assert_int_equal(VFIO_IOMMU_PAMU_GET_ATTR, 0x3b73);
	assert_int_equal(VFIO_IOMMU_PAMU_UNMAP_MSI_BANK, 0x3b77);
}

static void test_geometry(void **state)
{
	static const struct {
		uint64_t first, last;
		long result;
	} rows[] = {
		{0, 0xfff, 0},
		{0, 0xffe, -EINVAL},
		{0, 0x7ff, -EINVAL}, /* less than a page */
		{0, 0x2fff, -EINVAL},
		{1, 0, -EINVAL},
		{5, 4, -EINVAL},
		{0x1000, 0x1fff, 0},
		{0x1000, 0x2fff, -EINVAL}, /* not at a multiple of its size */
		{0x800, 0x17ff, -EINVAL},
		{0, UINT64_MAX, -EINVAL},
		{0, 0xfffffffff, 0}, /* 36 bits */
		{0, 0x1fffffffff, -EINVAL},
		{0x1000000000, 0x1000000fff, -EINVAL},
		{UINT64_MAX - 0xfff, UINT64_MAX, -EINVAL},
		{0x20000000, 0x3fffffff, 0},
	};
	struct vfio_pamu_attr attr;
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu");
	uint64_t first = 0, last = 0xfffffffff;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(get_attr(&rig, s.container, VFIO_ATTR_GEOMETRY, &attr), 0);
		assert_int_equal(attr.attr_info.attr.aperture_start, first);
		assert_int_equal(attr.attr_info.attr.aperture_end, last);
		assert_int_equal(attr.argsz, sizeof(attr));
		if (set_geometry(&rig, s.container, rows[i].first, rows[i].last) != rows[i].result)
			fail_msg("row %zu", i);
		if (rows[i].result)
			continue;
		first = rows[i].first;
		last = rows[i].last;
	}
	pamu_down(&rig, &s);
}

static void test_window_counts(void **state)
{
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu");
	uint32_t set = 256;

	/* Before it is set: the most there can be; and only once the geometry is set. */
	assert_int_equal(get_windows(&rig, s.container), 256);
	assert_int_equal(set_windows(&rig, s.container, 257), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_LIMIT);
	assert_int_equal(set_windows(&rig, s.container, 8), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_ORDER);
	assert_string_equal(rig.refused_what, "VFIO_IOMMU_PAMU_SET_ATTR");
	assert_int_equal(set_geometry(&rig, s.container, 0x40000000, 0x40000000 + 256 * PAGE - 1),
			 0);
	for (uint32_t count = 0; count < 300; count++) {
		bool good = count && count <= 256 && !(count & (count - 1));

		assert_int_equal(set_windows(&rig, s.container, count), good ? 0 : -EINVAL);
		set = good ? count : set;
		assert_int_equal(get_windows(&rig, s.container), set);
	}
	assert_int_equal(set_windows(&rig, s.container, UINT32_MAX), -EINVAL);
	/* A window has a page at least. */
	assert_int_equal(set_geometry(&rig, s.container, 0, 128 * PAGE - 1), 0);
	assert_int_equal(get_windows(&rig, s.container), 256);
	assert_int_equal(set_windows(&rig, s.container, 256), -EINVAL);
	assert_int_equal(set_windows(&rig, s.container, 128), 0);
	pamu_down(&rig, &s);
}

static long set_stash(struct rig *rig, int container, uint32_t cpu, uint32_t cache)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_PAMU_STASH};

	attr.attr_info.stash.cpu = cpu;
	attr.attr_info.stash.cache = cache;
	return rig_ioctl(rig, container, VFIO_IOMMU_PAMU_SET_ATTR, &attr);
}

static void test_stash(void **state)
{
	static const struct {
		uint32_t cpu, cache;
		long result;
	} rows[] = {
		{0, 1, 0},	 {7, 2, 0},	  {0, 0, -EINVAL},
		{0, 4, -EINVAL}, {8, 1, -EINVAL}, {UINT32_MAX, 2, -EINVAL},
		{100, 3, 0}, /* the third level is everybody's */
		{3, 2, 0},
	};
	struct vfio_pamu_attr attr;
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu");

	assert_int_equal(set_stash(&rig, s.container, 0, 1), -ENODEV);
	assert_int_equal(set_stash(&rig, s.container, 0, 9), -ENODEV);
	assert_int_equal(set_geometry(&rig, s.container, 0, 8 * PAGE - 1), 0);
	assert_int_equal(set_stash(&rig, s.container, 0, 1), -ENODEV);
	assert_int_equal(set_windows(&rig, s.container, 8), 0);
	assert_int_equal(get_attr(&rig, s.container, VFIO_ATTR_PAMU_STASH, &attr), 0);
	assert_int_equal(attr.attr_info.stash.cpu | attr.attr_info.stash.cache, 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(set_stash(&rig, s.container, rows[i].cpu, rows[i].cache),
				 rows[i].result);
	assert_int_equal(get_attr(&rig, s.container, VFIO_ATTR_PAMU_STASH, &attr), 0);
	assert_int_equal(attr.attr_info.stash.cpu, 3);
	assert_int_equal(attr.attr_info.stash.cache, 2);
	/* Allowed while memory is mapped, as the driver does. */
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	assert_int_equal(set_stash(&rig, s.container, 1, 1), 0);
	pamu_down(&rig, &s);
}

/* Structs too short, too long, at addresses that aren't there, and of an attribute that isn't. */
static void test_arguments(void **state)
{
	static const struct {
		unsigned long request;
		uint32_t size;
	} rows[] = {
		{VFIO_IOMMU_PAMU_GET_ATTR, 32},	    {VFIO_IOMMU_PAMU_SET_ATTR, 32},
		{VFIO_IOMMU_PAMU_MAP_MSI_BANK, 24}, {VFIO_IOMMU_PAMU_UNMAP_MSI_BANK, 16},
		{VFIO_IOMMU_MAP_DMA, 32},	    {VFIO_IOMMU_UNMAP_DMA, 24},
	};
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu,msi=explicit", 64);
	uint32_t *words = (uint32_t *)rig.memory;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(rig_ioctl(&rig, s.container, rows[i].request, NULL), -EFAULT);
		assert_int_equal(
			rig_ioctl_value(&rig, s.container, rows[i].request, UINT64_MAX - 7),
			-EFAULT);
		memset(words, 0, PAGE);
		for (uint32_t size = 0; size < rows[i].size; size++) {
			words[0] = size;
			assert_int_equal(rig_ioctl(&rig, s.container, rows[i].request, words),
					 -EINVAL);
			assert_string_equal(rig.refused.owner, "argsz: smaller than the smallest "
							       "version of the struct");
		}
		/* Its last byte is not there. */
		words[0] = rows[i].size;
		rig.bad_first = rig.bad_last = (uintptr_t)words + rows[i].size - 1;
		assert_int_equal(rig_ioctl(&rig, s.container, rows[i].request, words), -EFAULT);
		rig.bad_first = rig.bad_last = 0;
	}
	/* Longer is fine. */
	memset(words, 0, PAGE);
	words[0] = UINT32_MAX;
	assert_int_equal(rig_ioctl(&rig, s.container, VFIO_IOMMU_PAMU_GET_ATTR, words), 0);
	assert_int_equal(words[0], UINT32_MAX);
	for (uint32_t attribute = 3; attribute; attribute <<= 1) {
		words[2] = attribute;
		assert_int_equal(rig_ioctl(&rig, s.container, VFIO_IOMMU_PAMU_GET_ATTR, words),
				 -EINVAL);
		assert_int_equal(rig_ioctl(&rig, s.container, VFIO_IOMMU_PAMU_SET_ATTR, words),
				 -EINVAL);
	}
	pamu_down(&rig, &s);
}

/* ---- mapping ---- */

static void test_order(void **state)
{
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu");

	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), -ENODEV);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_ORDER);
	assert_int_equal(unmap(&rig, s.container, 0, PAGE), 0);
	assert_int_equal(set_geometry(&rig, s.container, 0, 8 * PAGE - 1), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), -ENODEV);
	assert_int_equal(set_windows(&rig, s.container, 8), 0);
	/* The same geometry again is no news; another one wants windows. */
	assert_int_equal(set_geometry(&rig, s.container, 0, 8 * PAGE - 1), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	assert_int_equal(set_geometry(&rig, s.container, 0, 16 * PAGE - 1), -EBUSY);
	assert_int_equal(set_geometry(&rig, s.container, 0, 15 * PAGE - 1), -EINVAL);
	assert_int_equal(set_windows(&rig, s.container, 4), -EBUSY);
	assert_int_equal(set_windows(&rig, s.container, 3), -EBUSY);
	assert_int_equal(set_windows(&rig, s.container, 257), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, PAGE, PAGE, rig.memory), 0);
	assert_int_equal(unmap(&rig, s.container, 0, PAGE), 0);
	assert_int_equal(set_windows(&rig, s.container, 4), -EBUSY);
	assert_int_equal(unmap(&rig, s.container, PAGE, PAGE), 0);
	assert_int_equal(set_geometry(&rig, s.container, 0, 16 * PAGE - 1), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), -ENODEV);
	assert_int_equal(set_windows(&rig, s.container, 4), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 4 * PAGE, rig.memory), 0);
	pamu_down(&rig, &s);
}

static void test_map(void **state)
{
	/* Eight windows of two pages at 64 KiB; what is at 0x14000 is mapped. */
	enum { BASE = 0x10000, SIZE = 0x2000 };
	static const struct {
		uint32_t flags;
		uint64_t iova, size;
		int64_t offset; /* of vaddr in the memory; -1: not a page of it */
		long result;
	} rows[] = {
		{4, BASE, SIZE, 0, -EINVAL},
		{RW | 8, BASE, SIZE, 0, -EINVAL},
		{0, BASE, SIZE, 0, -EINVAL},
		{0, UINT64_MAX, 0, 0, -EINVAL},
		{RW, UINT64_MAX - 0xfff, 0x2000, 0, -EINVAL}, /* iova wraps */
		{RW, BASE, UINT64_MAX - 0xfff, 0, -EINVAL},   /* both do */
		{RW, BASE, 0, 0, -EINVAL},
		{RW, BASE, 0xfff, 0, -EINVAL},
		{RW, BASE, 0x1000, 0, -EINVAL},	       /* less than a window */
		{RW, BASE, SIZE + 0x1000, 0, -EINVAL}, /* and not a multiple of it */
		{RW, BASE + 0x1000, SIZE, 0, -EINVAL},
		{RW, BASE + 1, SIZE, 0, -EINVAL},
		{RW, 0x14000, SIZE, 0, -EBUSY},
		{RW, 0x14001, 0x1000, 0, -EBUSY}, /* found before the alignment */
		{RW, 0x12000, 2 * SIZE, 0, -EBUSY},
		{RW, 0x14000, SIZE, -1, -EBUSY}, /* and before the memory */
		{RW, BASE, SIZE, -1, -EFAULT},
		{RW, BASE, SIZE, 32 * PAGE, -EFAULT}, /* memory that can't be written */
		{RW, BASE, SIZE, 31 * PAGE, -EFAULT}, /* or half of it */
		{RW, BASE - SIZE, SIZE, 0, -EINVAL},
		{RW, 0x20000, SIZE, 0, -EINVAL},
		{RW, 0x20000, SIZE, -1, -EFAULT}, /* the memory first */
		{RW, 0x1e000, 2 * SIZE, 0, -EINVAL},
		{RW, UINT64_MAX - SIZE + 1, SIZE, 0, -EINVAL},
		{1, BASE, SIZE, 32 * PAGE, 0},
		{2, 0x12000, SIZE, 0, 0},		    /* write-only can be said */
		{RW, 0x16000, 5 * SIZE, 1 * PAGE, -EINVAL}, /* not at a multiple of a window */
		{RW, 0x16000, 5 * SIZE, 2 * PAGE, 0},
	};
	struct uiommu_vfio_stats stats;
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu");

	assert_int_equal(set_geometry(&rig, s.container, BASE, BASE + 8 * SIZE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 8), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0x14000, SIZE, rig.memory), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const void *vaddr =
			rows[i].offset < 0 ? (void *)0x10000 : rig.memory + rows[i].offset;
		long ret = rig_map(&rig, s.container, rows[i].flags, rows[i].iova, rows[i].size,
				   vaddr);

		if (ret != rows[i].result)
			fail_msg("row %zu: %ld", i, ret);
	}
	uiommu_vfio_stats(rig.vfio, &stats);
	assert_int_equal(stats.maps, 4);
	assert_int_equal(stats.live, 8);
	assert_int_equal(stats.live_bytes, 8 * SIZE);
	assert_int_equal(unmap(&rig, s.container, 0, UINT64_MAX), 0);
	uiommu_vfio_stats(rig.vfio, &stats);
	assert_int_equal(stats.unmaps, 1);
	assert_int_equal(unmap(&rig, s.container, 0, UINT64_MAX), 0); /* nothing is left */
	uiommu_vfio_stats(rig.vfio, &stats);
	assert_int_equal(stats.unmaps, 1);
	assert_int_equal(stats.live, 0);
	assert_int_equal(stats.live_bytes, 0);
	pamu_down(&rig, &s);
}

static void test_unmap(void **state)
{
	enum { SIZE = 0x2000 };
	static const struct {
		uint64_t iova, size;
		long result;
		unsigned left; /* windows of eight that are still mapped, as bits */
	} rows[] = {
		{0x1000, 0x1000, -EINVAL, 0xff}, /* half of one */
		{0x1000, SIZE, -EINVAL, 0xff},	   {0, SIZE - 1, -EINVAL, 0xff},
		{0, SIZE + 1, -EINVAL, 0xff},	   {UINT64_MAX, 2, -EINVAL, 0xff},
		{SIZE, UINT64_MAX, -EINVAL, 0xff}, {0x4000, 0, 0, 0xff},
		{8 * SIZE, SIZE, 0, 0xff},	   {UINT64_MAX, 1, 0, 0xff},
		{2 * SIZE, SIZE, 0, 0xfb}, /* a mapping splits */
		{2 * SIZE, SIZE, 0, 0xfb}, /* nothing there */
		{2 * SIZE + 7, 100, 0, 0xfb},	   {1 * SIZE, 3 * SIZE, 0, 0xf1},
		{7 * SIZE, 100 * SIZE, 0, 0x71},   {1, 6 * SIZE, -EINVAL, 0x71},
	};
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu");
	uint64_t size = SIZE;

	assert_int_equal(set_geometry(&rig, s.container, 0, 8 * SIZE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 8), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 8 * SIZE, rig.memory), 0);
	assert_int_equal(rig_unmap(&rig, s.container, VFIO_DMA_UNMAP_FLAG_ALL, 0, &size), -EINVAL);
	assert_int_equal(rig_unmap(&rig, s.container, 1U << 31, 0, &size), -EINVAL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		long ret = unmap(&rig, s.container, rows[i].iova, rows[i].size);

		if (ret != rows[i].result)
			fail_msg("row %zu: %ld", i, ret);
		for (unsigned window = 0; window < 8; window++) {
			bool there = rows[i].left & (1u << window);

			assert_int_equal(
				rig_map(&rig, s.container, RW, window * SIZE, SIZE, rig.memory),
				there ? -EBUSY : 0);
			if (!there)
				assert_int_equal(unmap(&rig, s.container, window * SIZE, SIZE), 0);
		}
	}
	pamu_down(&rig, &s);
}

/* What edu reads and writes is the program's memory; and it reaches it only while it should. */
static void test_dma(void **state)
{
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu", 64);

	assert_false(edu_reaches(&rig, s.device, 0));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NO_DOMAIN);
	for (unsigned i = 0; i < PAGE; i++)
		rig.memory[i] = i * 7 + i / 256;
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 4 * PAGE, rig.memory), 0);
	edu_dma(&rig, s.device, 0, false);
	edu_dma(&rig, s.device, 3 * PAGE, true);
	assert_memory_equal(rig.memory, rig.memory + 3 * PAGE, PAGE);
	/* Windows come and go while the aperture is enabled. */
	assert_int_equal(rig_map(&rig, s.container, RW, 10 * PAGE, PAGE, rig.memory + PAGE), 0);
	assert_true(edu_reaches(&rig, s.device, 10 * PAGE));
	assert_int_equal(unmap(&rig, s.container, 0, 4 * PAGE), 0);
	assert_true(edu_reaches(&rig, s.device, 10 * PAGE));
	/* The last one takes the aperture with it. */
	assert_int_equal(unmap(&rig, s.container, 10 * PAGE, PAGE), 0);
	assert_false(edu_reaches(&rig, s.device, 10 * PAGE));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(rig.faults, 2);
	pamu_down(&rig, &s);
}

/* A violation cuts the device off; MAP_DMA, or coming anew, lets it in again. */
static void test_cut_off(void **state)
{
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu", 64);

	assert_int_equal(rig_map(&rig, s.container, VFIO_DMA_MAP_FLAG_READ, 0, PAGE, rig.memory),
			 0);
	assert_true(edu_reaches(&rig, s.device, 0));
	assert_false(edu_reaches(&rig, s.device, PAGE));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NOT_PRESENT);
	assert_true(rig.last_fault.cut_off);
	/* What it may reach it doesn't any more. */
	assert_false(edu_reaches(&rig, s.device, 0));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_CUT_OFF);
	assert_false(rig.last_fault.cut_off);
	assert_int_equal(rig_map(&rig, s.container, RW, 2 * PAGE, PAGE, rig.memory), 0);
	assert_true(edu_reaches(&rig, s.device, 0));
	/* A write through a read-only window. */
	edu_dma(&rig, s.device, 0, true);
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_WRITE_DENIED);
	assert_true(rig.last_fault.cut_off);
	/* A refused MAP_DMA does not let it in. */
	assert_int_equal(rig_map(&rig, s.container, RW, 2 * PAGE, PAGE, rig.memory), -EBUSY);
	assert_false(edu_reaches(&rig, s.device, 0));
	/* Beyond the aperture. */
	assert_int_equal(rig_map(&rig, s.container, RW, 3 * PAGE, PAGE, rig.memory), 0);
	assert_false(edu_reaches(&rig, s.device, 64 * PAGE));
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_BEYOND);
	assert_false(edu_reaches(&rig, s.device, 0));
	session_close(&rig, &s);
	s = rig_session(&rig, 0, VFIO_FSL_PAMU_IOMMU, EDU);
	rig_config_set(&rig, s.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(set_geometry(&rig, s.container, 0, 64 * PAGE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 64), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	assert_true(edu_reaches(&rig, s.device, 0));
	pamu_down(&rig, &s);
}

static void test_single_window(void **state)
{
	struct rig rig;
	struct session s = pamu_up(&rig, "fsl-pamu,msi=explicit");

	assert_int_equal(set_geometry(&rig, s.container, 0, 16 * PAGE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 1), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 16 * PAGE, 16 * PAGE, rig.memory), -EINVAL);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 16 * PAGE, rig.memory), 0);
	assert_true(edu_reaches(&rig, s.device, 15 * PAGE));
	/* It can't change while it is enabled. */
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 16 * PAGE, rig.memory), -EBUSY);
	assert_int_equal(map_bank(&rig, s.container, RW, 0, 0), -EBUSY);
	assert_int_equal(unmap(&rig, s.container, 8 * PAGE, 8 * PAGE), -EINVAL);
	assert_int_equal(unmap(&rig, s.container, 0, 16 * PAGE), 0);
	assert_false(edu_reaches(&rig, s.device, 0));
	/* A bank fits too, and then nothing else. */
	assert_int_equal(map_bank(&rig, s.container, RW, 0, 0), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 16 * PAGE, rig.memory), -EBUSY);
	assert_int_equal(unmap_bank(&rig, s.container, 0), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 16 * PAGE, rig.memory), 0);
	pamu_down(&rig, &s);
}

static void test_256_windows(void **state)
{
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu", 256);

	for (uint64_t window = 0; window < 256; window++)
		assert_int_equal(rig_map(&rig, s.container, RW, window * PAGE, PAGE,
					 rig.memory + window % 32 * PAGE),
				 0);
	for (uint64_t window = 0; window < 32; window++)
		memset(rig.memory + window * PAGE, (int)window, PAGE);
	for (uint64_t window = 3; window < 256; window += 36) {
		edu_dma(&rig, s.device, window * PAGE, false);
		edu_dma(&rig, s.device, 0, true);
		assert_int_equal(rig.memory[0], window % 32);
	}
	assert_int_equal(rig.faults, 0);
	assert_int_equal(unmap(&rig, s.container, PAGE, 254 * PAGE), 0);
	assert_true(edu_reaches(&rig, s.device, 255 * PAGE));
	assert_false(edu_reaches(&rig, s.device, 254 * PAGE));
	pamu_down(&rig, &s);
}

/* ---- several containers ---- */

static void test_exhaustion(void **state)
{
	static const char *const functions[] = {
		"edu@00:01.0,group=1", "edu@00:02.0,group=2",
		"edu@00:03.0,group=3", "edu@00:04.0,group=4",
		"edu@00:05.0,group=5", "edu@00:06.0,group=6",
		"edu@00:07.0,group=7", "edu@00:08.0,group=8",
		"edu@00:09.0,group=9", NULL,
	};
	const struct rig_options options = {.platform = "fsl-pamu", .functions = functions};
	struct session s[9];
	struct rig rig;

	/* 2048 secondary entries, 255 for each aperture of 256 windows: the ninth is late. */
	assert_true(rig_up(&rig, &options));
	for (unsigned i = 0; i < 9; i++) {
		s[i] = rig_session(&rig, i + 1, VFIO_FSL_PAMU_IOMMU, NULL);
		assert_int_equal(set_geometry(&rig, s[i].container, 0, 256 * PAGE - 1), 0);
		assert_int_equal(set_windows(&rig, s[i].container, 256), i < 8 ? 0 : -EINVAL);
	}
	/* Who has windows may have the same again, but no others. */
	assert_int_equal(set_windows(&rig, s[2].container, 256), 0);
	assert_int_equal(set_windows(&rig, s[2].container, 128), -EINVAL);
	assert_int_equal(rig_map(&rig, s[2].container, RW, 0, PAGE, rig.memory), 0);
	assert_int_equal(unmap(&rig, s[2].container, 0, PAGE), 0);
	/* The ninth is as it was, and can have less. */
	assert_int_equal(rig_map(&rig, s[8].container, RW, 0, PAGE, rig.memory), -ENODEV);
	assert_int_equal(set_windows(&rig, s[8].container, 16), -EINVAL);
	assert_int_equal(set_windows(&rig, s[8].container, 8), 0);
	assert_int_equal(rig_map(&rig, s[8].container, RW, 0, 32 * PAGE, rig.memory), 0);
	assert_int_equal(unmap(&rig, s[8].container, 0, 32 * PAGE), 0);
	/* What one gives back another may have. */
	session_close(&rig, &s[3]);
	assert_int_equal(set_windows(&rig, s[8].container, 256), 0);
	for (unsigned i = 0; i < 9; i++)
		if (i != 3)
			session_close(&rig, &s[i]);
	rig_down(&rig);
}

/* Groups come and go; the second one reaches what is mapped. */
static void test_two_groups(void **state)
{
	static const char *const functions[] = {"edu@00:01.0,group=0", "edu@00:02.0,group=1", NULL};
	const struct rig_options options = {.platform = "fsl-pamu", .functions = functions};
	struct rig rig;
	struct session s;
	int group, device;

	assert_true(rig_up(&rig, &options));
	s = rig_session(&rig, 0, VFIO_FSL_PAMU_IOMMU, EDU);
	assert_int_equal(set_geometry(&rig, s.container, 0, 64 * PAGE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 64), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, PAGE, rig.memory), 0);
	group = rig_open_group(&rig, 1);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &s.container), 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &s.container), -EINVAL);
	device = rig_ioctl(&rig, group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:02.0");
	rig_config_set(&rig, device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_true(edu_reaches(&rig, device, 0));
	/* One that is cut off does not take the other with it. */
	assert_false(edu_reaches(&rig, device, PAGE));
	rig_config_set(&rig, s.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_true(edu_reaches(&rig, s.device, 0));
	assert_false(edu_reaches(&rig, device, 0));
	rig_close(&rig, device);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &s.container), 0);
	device = rig_ioctl(&rig, group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:02.0");
	rig_config_set(&rig, device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_true(edu_reaches(&rig, device, 0));
	rig_close(&rig, device);
	rig_close(&rig, group);
	pamu_down(&rig, &s);
}

/* ---- hostile ---- */

/* Another thread rewrites the struct once it has been read. */
static void scribble(struct rig *rig, const void *from, size_t len)
{
	memset((void *)(uintptr_t)from, 0xff, len);
}

static void test_race(void **state)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_WINDOWS};
	struct rig rig;
	struct session s = pamu_windows(&rig, "fsl-pamu", 64);
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
					       .flags = RW,
					       .vaddr = (uintptr_t)rig.memory,
					       .iova = PAGE,
					       .size = PAGE};

	rig.race = scribble;
	rig.copies_in = 0;
	attr.attr_info.windows = 16;
	assert_int_equal(rig_ioctl(&rig, s.container, VFIO_IOMMU_PAMU_SET_ATTR, &attr), 0);
	assert_int_equal(rig.copies_in, 1);
	rig.race = NULL;
	assert_int_equal(get_windows(&rig, s.container), 16);
	assert_int_equal(set_geometry(&rig, s.container, 0, 16 * PAGE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 16), 0);
	rig.race = scribble;
	assert_int_equal(rig_ioctl(&rig, s.container, VFIO_IOMMU_MAP_DMA, &map), 0);
	rig.race = NULL;
	assert_int_equal(unmap(&rig, s.container, PAGE, PAGE), 0);
	pamu_down(&rig, &s);
}

static void test_memlock(void **state)
{
	const struct rig_options options = {.platform = "fsl-pamu", .memlock = true};
	struct rlimit old, few;
	struct rig rig;
	struct session s;

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
	few = (struct rlimit){8 * PAGE, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &few), 0);
	assert_true(rig_up(&rig, &options));
	s = rig_session(&rig, 0, VFIO_FSL_PAMU_IOMMU, NULL);
	/* Before the windows are asked for, as there. */
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 9 * PAGE, rig.memory), -ENOMEM);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 8 * PAGE, rig.memory), -ENODEV);
	assert_int_equal(set_geometry(&rig, s.container, 0, 64 * PAGE - 1), 0);
	assert_int_equal(set_windows(&rig, s.container, 64), 0);
	assert_int_equal(rig_map(&rig, s.container, RW, 0, 9 * PAGE, rig.memory), -ENOMEM);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_MEMLOCK);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(rig_map(&rig, s.container, RW, 0, 6 * PAGE, rig.memory), 0);
		assert_int_equal(rig_map(&rig, s.container, RW, 8 * PAGE, 3 * PAGE, rig.memory),
				 -ENOMEM);
		assert_int_equal(rig_map(&rig, s.container, RW, 70 * PAGE, 2 * PAGE, rig.memory),
				 -EINVAL);
		assert_int_equal(rig_map(&rig, s.container, RW, 8 * PAGE, 2 * PAGE, rig.memory), 0);
		assert_int_equal(unmap(&rig, s.container, 0, 64 * PAGE), 0);
	}
	pamu_down(&rig, &s);
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &old), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),	    cmocka_unit_test(test_layout),
		cmocka_unit_test(test_geometry),    cmocka_unit_test(test_window_counts),
		cmocka_unit_test(test_stash),	    cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_order),	    cmocka_unit_test(test_map),
		cmocka_unit_test(test_unmap),	    cmocka_unit_test(test_dma),
		cmocka_unit_test(test_cut_off),	    cmocka_unit_test(test_single_window),
		cmocka_unit_test(test_256_windows), cmocka_unit_test(test_exhaustion),
		cmocka_unit_test(test_two_groups),  cmocka_unit_test(test_race),
		cmocka_unit_test(test_memlock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
