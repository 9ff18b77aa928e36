/* SPDX-License-Identifier: MIT */
/*
 * fuzz_pamu - VFIO on PAMU against a model of it: an array of windows. Every request's answer is
 * predicted, errno included, in the order in which the kernel looks for errors; after each the
 * address space must hold what the model holds. The first byte chooses the way MSI banks go.
 *
 * Promised: the same answer, the same areas, an interrupt set up exactly where a bank can be
 * reached; nothing left when all is released.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <uiommu/linux/vfio_pamu.h>
#include <uiommu/vfio.h>

enum { PAGE = 4096, ARENA = 64 * 1024, BANKS = 3, MOST = 256, MOST_STEPS = 300 };
enum way { IMPLICIT, EXPLICIT, MMAP, ROUNDED };
enum cell { FREE, MEMORY, BANK, MMAPPED };

static const char *const platforms[] = {"fsl-pamu", "fsl-pamu,msi=explicit", "fsl-pamu,msi=mmap",
					"fsl-pamu,msi=rounded"};

static _Alignas(64 * 1024) uint8_t arena[ARENA];
static struct uiommu_machine *machine;
static struct uiommu_vfio *vfio;
static struct uiommu_vfio_file *container, *group, *device;

/* The model. */
static struct {
	enum way way;
	bool geometry_set;
	uint64_t first, size;	/* the geometry */
	uint64_t base, window;	/* what the windows divide; 0: no windows */
	unsigned windows, told; /* how many, and what GET_ATTR says */
	unsigned kept;		/* of them, for banks */
	struct {
		enum cell is;
		uint64_t value; /* memory's address, the bank's page */
		uint64_t iova;	/* MAP_MSI_BANK's */
		bool writable;
	} cell[MOST];
	unsigned mapped;
	int placed; /* the window of bank 0 where the system has placed it, or -1 */
	bool irq;
} model;

/* ---- the host -------------------------------------------------------------------------------- */

static bool in_arena(uint64_t addr, uint64_t len)
{
	uint64_t first = (uintptr_t)arena;

	return addr >= first && addr - first <= ARENA && len <= ARENA - (addr - first);
}

static int check(void *ctx, uint64_t addr, uint64_t len, int prot)
{
	return in_arena(addr, len) ? 0 : -EFAULT;
}

static int no_dma(void *ctx, uint64_t addr, void *buf, size_t len)
{
	PROMISE(!"nobody does DMA");
	return 0;
}

static int no_dma_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return no_dma(ctx, addr, NULL, len);
}

static const struct uiommu_memory_ops ops = {
	.size = sizeof(ops), .read = no_dma, .write = no_dma_write, .check = check};

static int install(void *ctx, struct uiommu_vfio_file *file)
{
	device = file;
	return 3;
}

static struct uiommu_vfio_file *file_of(void *ctx, int fd)
{
	return fd == 0 ? container : NULL;
}

/* The last page of the arena's address range behind it stands for bank 0's mmap. */
#define BANK_PAGE ((uintptr_t)arena + ARENA)
#define BANK_0	  UINT64_C(0xffe044000)

static int doorbell_at(void *ctx, uint64_t vaddr, uint64_t len, uint64_t *doorbell)
{
	if (vaddr >= BANK_PAGE + PAGE || vaddr + (len - 1) < BANK_PAGE)
		return 0;
	*doorbell = BANK_0;
	return vaddr == BANK_PAGE && len == PAGE ? 1 : -EINVAL;
}

/* ---- the model's answers --------------------------------------------------------------------- */

static bool power_of_2(uint64_t n)
{
	return n && !(n & (n - 1));
}

static unsigned round_up(unsigned n)
{
	unsigned power = 1;

	while (power < n)
		power *= 2;
	return power;
}

static int geometry_answer(uint64_t first, uint64_t size)
{
	if (!power_of_2(size) || size < PAGE || first % size)
		return -EINVAL;
	if (model.mapped)
		return -EBUSY;
	if (first > (UINT64_C(1) << 36) - 1 || size - 1 > (UINT64_C(1) << 36) - 1 - first)
		return -EINVAL;
	return 0;
}

static int windows_answer(uint32_t asked, unsigned *count)
{
	if (asked > MOST)
		return -EINVAL;
	if (model.way == ROUNDED && (!asked || asked + BANKS > MOST))
		return -EINVAL;
	*count = model.way == ROUNDED ? round_up(asked + BANKS) : asked;
	if (model.mapped)
		return -EBUSY;
	if (!model.geometry_set || !power_of_2(*count) || model.size / *count < PAGE)
		return -EINVAL;
	return model.placed >= 0 ? -EBUSY : 0;
}

/* The window that starts at iova: free to be mapped? */
static int window_answer(uint64_t iova, unsigned *at)
{
	uint64_t offset = iova - model.base;

	if (offset % model.window)
		return -EINVAL;
	if (iova < model.base || offset / model.window >= model.windows)
		return -EINVAL;
	*at = offset / model.window;
	if (*at >= model.windows - model.kept)
		return -EINVAL;
	return model.cell[*at].is != FREE || (int)*at == model.placed ? -EBUSY : 0;
}

static bool overlaps_mapping(uint64_t iova, uint64_t size)
{
	for (unsigned i = 0; i < model.windows; i++) {
		uint64_t start = model.base + i * model.window;
		uint64_t length = model.cell[i].is == MEMORY ? model.window : PAGE;

		if ((model.cell[i].is == MEMORY || model.cell[i].is == MMAPPED) &&
		    iova <= start + (length - 1) && start <= iova + (size - 1))
			return true;
	}
	return false;
}

static int memory_answer(uint64_t iova, uint64_t vaddr, uint64_t size)
{
	unsigned at;

	if (size % model.window)
		return -EINVAL;
	for (uint64_t done = 0; done < size; done += model.window) {
		bool placed, kept;
		int ret;

		if ((iova + done - model.base) % model.window)
			return -EINVAL;
		if (!in_arena(vaddr + done, model.window))
			return -EFAULT;
		ret = window_answer(iova + done, &at);
		kept = ret == -EINVAL;
		placed = !kept && ret && (int)at == model.placed;
		if (ret && !placed)
			return ret;
	}
	/* What the address space and the table say comes when all windows are looked at. */
	for (uint64_t done = 0; done < size; done += model.window) {
		if (vaddr % model.window)
			return window_answer(iova + done, &at) ? -EBUSY : -EINVAL;
		if (window_answer(iova + done, &at))
			return -EBUSY;
	}
	return 0;
}

static int map_answer(uint32_t flags, uint64_t iova, uint64_t vaddr, uint64_t size)
{
	uint64_t bank;
	unsigned at;
	int ret = 0;

	if ((flags & ~3u) || !(flags & 3) || (size && iova + (size - 1) < iova) ||
	    (size && vaddr + (size - 1) < vaddr) || size < PAGE)
		return -EINVAL;
	if (overlaps_mapping(iova, size))
		return -EBUSY;
	if (model.way == MMAP)
		ret = doorbell_at(NULL, vaddr, size, &bank);
	if (ret < 0)
		return ret;
	if (!model.window)
		return -ENODEV;
	if (!ret)
		return memory_answer(iova, vaddr, size);
	if ((iova - model.base) % model.window)
		return -EINVAL;
	return window_answer(iova, &at);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static uint64_t take_iova(struct input *in)
{
	uint8_t how = take8(in);
	uint64_t unit = model.window ? model.window : PAGE;

	if (how >= 250)
		return take64(in);
	return (how % 8 ? model.base : 0) + how / 8 % 20 * unit +
	       (how >= 200 ? PAGE / 2 * (how % 5) : 0);
}

static void do_geometry(struct input *in)
{
	static const uint64_t sizes[] = {0x8000, 0x10000, 0x40000, 0x100000,
					 0x1000, 0x3000,  0x800,   UINT64_C(0x1000000000)};
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_GEOMETRY};
	uint8_t how = take8(in);
	uint64_t size = sizes[how % 8], first = how / 8 % 4 * (how & 128 ? size : 0x10000);
	int expected = geometry_answer(first, size);

	attr.attr_info.attr.aperture_start = first;
	attr.attr_info.attr.aperture_end = first + size - 1;
	memcpy(arena, &attr, sizeof(attr));
	PROMISE(uiommu_vfio_ioctl(container, VFIO_IOMMU_PAMU_SET_ATTR, (uintptr_t)arena) ==
		expected);
	if (expected)
		return;
	/* Until windows are set again the old ones stay, but for no use. */
	if (first != model.first || size != model.size)
		model.window = 0;
	model.first = first;
	model.size = size;
	model.geometry_set = true;
}

static void do_windows(struct input *in)
{
	struct vfio_pamu_attr attr = {.argsz = sizeof(attr), .attribute = VFIO_ATTR_WINDOWS};
	uint8_t how = take8(in);
	uint32_t asked = how < 160 ? 1u << how % 10 : how < 240 ? how % 20u : 240u + how % 24;
	unsigned count = 0;
	int expected = windows_answer(asked, &count);

	attr.attr_info.windows = asked;
	memcpy(arena, &attr, sizeof(attr));
	PROMISE(uiommu_vfio_ioctl(container, VFIO_IOMMU_PAMU_SET_ATTR, (uintptr_t)arena) ==
		expected);
	if (!expected) {
		memset(model.cell, 0, sizeof(model.cell));
		model.windows = model.told = count;
		model.base = model.first;
		model.window = model.size / count;
		model.kept = model.way == ROUNDED ? BANKS : 0;
	}
	attr.attr_info.windows = 0;
	memcpy(arena, &attr, sizeof(attr));
	PROMISE(!uiommu_vfio_ioctl(container, VFIO_IOMMU_PAMU_GET_ATTR, (uintptr_t)arena));
	memcpy(&attr, arena, sizeof(attr));
	PROMISE(attr.attr_info.windows == model.told);
}

static void do_map(struct input *in)
{
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map)};
	uint8_t how = take8(in);
	int expected;

	map.flags = how < 240 ? 1 + how % 3 : how % 8;
	map.iova = take_iova(in);
	how = take8(in);
	map.size = how < 200 && model.window ? model.window * (1 + how % 3) : how % 6 * PAGE / 2;
	if (how >= 250)
		map.size = take64(in);
	how = take8(in);
	map.vaddr = (uintptr_t)arena + how % 18 * PAGE;
	if (model.way == MMAP && how >= 128) {
		map.vaddr = BANK_PAGE + (how >= 230 ? how % 3 * (PAGE / 2) : 0);
		map.size = how >= 200 ? map.size : PAGE;
	}
	if (how == 255)
		map.vaddr = take64(in);
	expected = map_answer(map.flags, map.iova, map.vaddr, map.size);
	memcpy(arena, &map, sizeof(map));
	PROMISE(uiommu_vfio_ioctl(container, VFIO_IOMMU_MAP_DMA, (uintptr_t)arena) == expected);
	for (uint64_t done = 0; !expected && done < map.size; done += model.window) {
		unsigned at = (map.iova + done - model.base) / model.window;
		bool bank = model.way == MMAP && map.vaddr == BANK_PAGE;

		model.cell[at].is = bank ? MMAPPED : MEMORY;
		model.cell[at].value = bank ? BANK_0 : map.vaddr + done;
		model.cell[at].writable = map.flags & 2;
		model.mapped++;
	}
}

static void do_unmap(struct input *in)
{
	struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof(unmap)};
	uint8_t how = take8(in);
	uint64_t last;
	int expected = 0;

	unmap.flags = how >= 250;
	unmap.iova = take_iova(in);
	unmap.size = how % 5 * (model.window ? model.window : PAGE) + (how >= 230 ? PAGE / 2 : 0);
	if (how == 249)
		unmap.size = take64(in);
	last = unmap.iova + (unmap.size - 1);
	if (unmap.flags || (unmap.size && last < unmap.iova))
		expected = -EINVAL;
	for (unsigned i = 0; i < model.windows && !expected && unmap.size; i++) {
		uint64_t start = model.base + i * model.window;
		uint64_t end = start + (model.cell[i].is == MEMORY ? model.window : PAGE) - 1;
		bool there = model.cell[i].is == MEMORY || model.cell[i].is == MMAPPED;

		if (there && start <= last && unmap.iova <= end &&
		    (start < unmap.iova || last < end))
			expected = -EINVAL;
	}
	memcpy(arena, &unmap, sizeof(unmap));
	PROMISE(uiommu_vfio_ioctl(container, VFIO_IOMMU_UNMAP_DMA, (uintptr_t)arena) == expected);
	for (unsigned i = 0; i < model.windows && !expected && unmap.size; i++) {
		uint64_t start = model.base + i * model.window;

		if ((model.cell[i].is != MEMORY && model.cell[i].is != MMAPPED) ||
		    start < unmap.iova || start > last)
			continue;
		model.cell[i].is = FREE;
		model.mapped--;
	}
}

/* While a geometry waits for its windows the banks of the old ones are still there. */
static void do_map_bank(struct input *in)
{
	struct vfio_pamu_msi_bank_map map = {.argsz = sizeof(map)};
	uint8_t how = take8(in);
	unsigned at = 0;
	int expected = 0;

	map.flags = how < 240 ? 1 + how % 3 : how % 8;
	map.msi_bank_index = how / 3 % 16 < 12 ? how / 3 % 3 : how;
	map.iova = take_iova(in);
	if (model.way != EXPLICIT)
		expected = -ENOTTY;
	else if (!(map.flags & 3))
		expected = -EINVAL;
	else if (map.msi_bank_index >= BANKS || !model.window)
		expected = -ENODEV;
	else if (map.iova < model.base || (map.iova - model.base) / model.window >= model.windows)
		expected = -EINVAL;
	else
		at = (map.iova - model.base) / model.window;
	if (!expected && model.cell[at].is != FREE)
		expected = -EBUSY;
	memcpy(arena, &map, sizeof(map));
	PROMISE(uiommu_vfio_ioctl(container, VFIO_IOMMU_PAMU_MAP_MSI_BANK, (uintptr_t)arena) ==
		expected);
	if (expected)
		return;
	model.cell[at].is = BANK;
	model.cell[at].value = BANK_0 + map.msi_bank_index * PAGE;
	model.cell[at].iova = map.iova;
	model.cell[at].writable = map.flags & 2;
}

static void do_unmap_bank(struct input *in)
{
	struct vfio_pamu_msi_bank_unmap unmap = {.argsz = sizeof(unmap), .iova = take_iova(in)};
	int expected = model.way == EXPLICIT ? -EINVAL : -ENOTTY;

	for (unsigned i = 0; i < MOST; i++)
		if (model.cell[i].is == BANK && model.cell[i].iova == unmap.iova) {
			model.cell[i].is = FREE;
			expected = 0;
			break;
		}
	memcpy(arena, &unmap, sizeof(unmap));
	PROMISE(uiommu_vfio_ioctl(container, VFIO_IOMMU_PAMU_UNMAP_MSI_BANK, (uintptr_t)arena) ==
		expected);
}

static int irq_answer(int *placed)
{
	bool ours = model.way == EXPLICIT || model.way == MMAP;

	for (unsigned i = 0; i < MOST && ours; i++)
		if ((model.cell[i].is == BANK || model.cell[i].is == MMAPPED) &&
		    model.cell[i].value == BANK_0 && model.cell[i].writable)
			return 0;
	if (ours || !model.window)
		return -ENODEV;
	for (unsigned i = model.windows; i--;) {
		if (model.way == ROUNDED && i < model.windows - BANKS)
			break;
		if (model.cell[i].is != FREE)
			continue;
		*placed = (int)i;
		return 0;
	}
	return -ENOSPC;
}

static void do_irq(struct input *in)
{
	struct vfio_irq_set set = {.argsz = sizeof(set) + 4, .index = VFIO_PCI_MSI_IRQ_INDEX};
	int placed = -1, expected = model.irq ? 0 : irq_answer(&placed), fd = 100;

	set.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
		    (model.irq ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD);
	set.count = !model.irq;
	memcpy(arena, &set, sizeof(set));
	memcpy(arena + sizeof(set), &fd, sizeof(fd));
	PROMISE(uiommu_vfio_ioctl(device, VFIO_DEVICE_SET_IRQS, (uintptr_t)arena) == expected);
	if (expected)
		return;
	model.irq = !model.irq;
	model.placed = model.irq ? placed : -1;
}

/* ---- the address space is the model's -------------------------------------------------------- */

static void compare(void *ctx, struct uiommu_ioas *ioas, const char *name)
{
	struct uiommu_area area = {0};
	uint64_t at = 0;
	size_t placed = 0;

	for (unsigned i = 0; i < MOST; i++) {
		if (model.cell[i].is == FREE)
			continue;
		PROMISE(!uiommu_ioas_find(ioas, at, &area));
		PROMISE(area.addr == model.cell[i].value);
		PROMISE(!(area.prot & UIOMMU_MMIO) == (model.cell[i].is == MEMORY));
		PROMISE(!(area.prot & UIOMMU_WRITE) == !model.cell[i].writable);
		if (model.window) {
			PROMISE(area.range.first == model.base + i * model.window);
			PROMISE(area.range.last - area.range.first + 1 ==
				(model.cell[i].is == MEMORY ? model.window : PAGE));
		}
		at = area.range.last + 1;
	}
	PROMISE(uiommu_ioas_find(ioas, at, &area));
	uiommu_ioas_doorbells(ioas, NULL, &placed);
	PROMISE(placed == (model.placed >= 0));
}

/* ---- life ------------------------------------------------------------------------------------ */

static int eventfd_get(void *ctx, int fd)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void eventfd_put(void *ctx, int fd)
{
	PROMISE(close(fd) == 0);
}

static void set_up(enum way way)
{
	const struct uiommu_memory memory = {.ops = &ops};
	struct uiommu_machine_options options = {
		.size = sizeof(options), .platform = platforms[way], .memory = &memory};
	struct uiommu_vfio_options front = {.size = sizeof(front)};
	char why[256] = "";
	int zero = 0;

	PROMISE(!uiommu_machine_create(&options, &machine, why, sizeof(why)));
	PROMISE(!uiommu_machine_add(machine, "edu@00:01.0,group=0", why, sizeof(why)));
	front.host = (struct uiommu_vfio_host){.size = sizeof(front.host),
					       .file_of = file_of,
					       .install = install,
					       .doorbell_at = doorbell_at,
					       .eventfd_get = eventfd_get,
					       .eventfd_put = eventfd_put};
	PROMISE(!uiommu_vfio_create(machine, &front, &vfio));
	PROMISE(!uiommu_vfio_open_container(vfio, &container));
	PROMISE(!uiommu_vfio_open_group(vfio, 0, &group));
	PROMISE(!uiommu_vfio_ioctl(group, VFIO_GROUP_SET_CONTAINER, (uintptr_t)&zero));
	PROMISE(!uiommu_vfio_ioctl(container, VFIO_SET_IOMMU, VFIO_FSL_PAMU_IOMMU));
	PROMISE(uiommu_vfio_ioctl(group, VFIO_GROUP_GET_DEVICE_FD, (uintptr_t) "0000:00:01.0") ==
		3);
	memset(&model, 0, sizeof(model));
	model.way = way;
	model.size = UINT64_C(1) << 36;
	model.told = way == ROUNDED ? MOST - BANKS : MOST;
	model.placed = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const steps[])(struct input *) = {
		do_geometry, do_windows,  do_map,	 do_map, do_map, do_map, do_unmap,
		do_unmap,    do_map_bank, do_unmap_bank, do_irq, do_map, do_irq,
	};
	struct input in = {data, size};
	struct uiommu_vfio_stats stats;

	set_up(take8(&in) % 4);
	for (unsigned step = 0; in.left && step < MOST_STEPS; step++) {
		steps[take8(&in) % (sizeof(steps) / sizeof(steps[0]))](&in);
		uiommu_vfio_each_ioas(vfio, compare, NULL);
	}
	uiommu_vfio_release(device);
	uiommu_vfio_release(group);
	uiommu_vfio_release(container);
	uiommu_vfio_stats(vfio, &stats);
	PROMISE(stats.live == 0 && stats.live_bytes == 0);
	uiommu_vfio_destroy(vfio);
	uiommu_machine_destroy(machine);
	return 0;
}
