/* SPDX-License-Identifier: MIT */
/*
 * fuzz_ioctl - the VFIO front end as an embedder drives it, with arbitrary requests, arguments,
 * offsets and orders of opening and releasing.
 *
 * Promised: every call returns a value or a negative errno; when all files are released, no address
 * space, no mapping and (under AddressSanitizer) no memory is left.
 */
#include "fuzz_vfio.h"

#include <linux/vfio.h>
#include <sys/ioctl.h>

/* The machine is a POWER with TCE tables, else a PC. */
static bool on_power;

static void do_open(struct input *in)
{
	struct uiommu_vfio_file *file = NULL;
	uint8_t what = take8(in);
	int ret = what % 2 ? uiommu_vfio_open_container(vfio, &file)
			   : uiommu_vfio_open_group(vfio, what / 2 % 12, &file);

	PROMISE(ret == 0 || (ret < 0 && !file));
	if (!ret)
		store(file);
}

/* By request, from VFIO_BASE: a size that is right for it, and which of the session's files takes
 * it (where two do, the first is a container, the second a device). */
static const struct shape {
	uint8_t argsz, file, other;
} shapes[24] = {
	[0] = {0, 0, 0},    [1] = {0, 0, 0},   [2] = {0, 0, 0},	  [3] = {8, 1, 1},
	[4] = {0, 1, 1},    [5] = {0, 1, 1},   [6] = {0, 1, 1},	  [7] = {24, 2, 2},
	[8] = {64, 2, 2},   [9] = {16, 2, 2},  [10] = {40, 2, 2}, [11] = {0, 2, 2},
	[12] = {120, 0, 2}, [13] = {32, 0, 2}, [14] = {24, 0, 2}, [17] = {48, 0, 2},
	[18] = {24, 0, 0},  [19] = {40, 0, 0}, [20] = {16, 0, 0},
};

static void fill_mapping(struct input *in, uint8_t *arg, unsigned request)
{
	if (request == 13) { /* MAP_DMA */
		put32(arg, 4, take8(in) % 8);
		put64(arg, 8, take_pointer(in));
		put64(arg, 16, take_pages(in));
		put64(arg, 24, take_pages(in));
	} else if (request == 14) { /* UNMAP_DMA */
		put32(arg, 4, take8(in) % 16);
		put64(arg, 8, take_pages(in));
		put64(arg, 16, take_pages(in));
		put64(arg, 24, 4096);
		put64(arg, 32, take8(in) % 32);
		put64(arg, 40, take_pointer(in));
	} else { /* DIRTY_PAGES */
		put32(arg, 4, 1u << take8(in) % 4);
		put64(arg, 8, take_pages(in));
		put64(arg, 16, take_pages(in));
		put64(arg, 24, 4096);
		put64(arg, 32, take8(in) % 32);
		put64(arg, 40, take_pointer(in));
	}
}

/* On POWER: REGISTER_MEMORY, UNREGISTER_MEMORY, CREATE, REMOVE. */
static void fill_spapr(struct input *in, uint8_t *arg, unsigned request)
{
	uint8_t how = take8(in);

	put32(arg, 4, how >= 240);
	if (request <= 18) {
		put64(arg, 8, take_pointer(in));
		put64(arg, 16, take_pages(in));
	} else if (request == 19) {
		put32(arg, 8, how % 8 ? 12 : how % 7 * 4);
		put64(arg, 16, UINT64_C(4096) << take8(in) % 12);
		put32(arg, 24, how % 9 ? 1 : how % 7);
	} else {
		put64(arg, 8, how % 2 ? UINT64_C(1) << 59 : take_pages(in));
	}
}

static void fill_irqs(struct input *in, uint8_t *arg)
{
	static const uint32_t data[] = {1, 2, 4, 4, 4}, action[] = {8, 16, 32, 32, 32};
	uint8_t how = take8(in);

	put32(arg, 4, data[how % 5] | action[how / 5 % 5]);
	put32(arg, 8, take8(in) % 6);
	put32(arg, 12, how >= 240 ? take8(in) : 0);
	put32(arg, 16, how >= 232 ? take8(in) % 8 : how % 11 ? 1 : 0);
	put32(arg, 20, how % 3 ? EVENTFD : how % 7 - 1u);
}

/* Arguments that have a chance: the right size, small numbers, pointers that point. */
static unsigned long make_argument(struct input *in, unsigned request)
{
	static const char *const names[] = {"0000:00:01.0", "0000:00:02.0", "0000:00:03.0",
					    "0000:01:00.0"};
	uint8_t *arg = arena + take8(in) % 16 * 4096;
	uint8_t how = take8(in);

	take(in, arg, how % 4 ? 8 : 64);
	put32(arg, 0, how % 16 ? shapes[request].argsz : (uint32_t)take64(in));
	if (request == 4) /* GROUP_SET_CONTAINER */
		put32(arg, 0, how % (FILES + 2));
	else if (request == 6) /* GROUP_GET_DEVICE_FD */
		snprintf((char *)arg, 16, "%s", names[how % 4]);
	else if (request == 8 || request == 9) /* DEVICE_GET_REGION_INFO, DEVICE_GET_IRQ_INFO */
		put32(arg, 8, how % 12);
	else if (request == 10)
		fill_irqs(in, arg);
	else if (request >= 17 && request <= 20 && on_power)
		fill_spapr(in, arg, request);
	else if (request == 13 || request == 14 || request == 17)
		fill_mapping(in, arg, request);
	return how >= 250 ? take64(in) : (uintptr_t)arg;
}

static void do_ioctl(struct input *in)
{
	unsigned request = take8(in), kind = request % 24, which = take8(in);
	unsigned long number = _IO(VFIO_TYPE, VFIO_BASE + kind), arg;
	struct uiommu_vfio_file *file;
	long ret;

	if (request >= 252)
		number = take64(in);
	file = files[which < 224 ? (which % 2 ? shapes[kind].other : shapes[kind].file)
				 : which % FILES];
	arg = kind == 2 ? take8(in) % 12u : make_argument(in, kind);
	if (!file)
		return;
	ret = uiommu_vfio_ioctl(file, number, arg);
	PROMISE(ret >= -4095);
}

static void do_mmap(struct input *in)
{
	struct uiommu_vfio_file *file = files[take8(in) % FILES];
	struct uiommu_vfio_mapping mapping;
	uint8_t how = take8(in);
	uint64_t offset = ((uint64_t)how % 10 << 40) + take16(in) * UINT64_C(4096);
	size_t length = take8(in) * UINT64_C(4096);
	uint8_t bytes[8];

	if (how >= 250) {
		offset = take64(in);
		length = take64(in);
	}
	if (!file || uiommu_vfio_mmap(file, length, take8(in) % 8, take8(in), offset, &mapping))
		return;
	PROMISE(mapping.function && mapping.bar < UIOMMU_BARS && mapping.fd >= 0);
	take(in, bytes, sizeof(bytes));
	uiommu_function_bar_write(mapping.function, mapping.bar, mapping.offset + how, bytes, 8);
	uiommu_function_bar_read(mapping.function, mapping.bar, mapping.offset + how, bytes, 8);
}

static void set_up(const char *platform)
{
	static const char *const functions[] = {"edu@00:01.0", "ioat@00:02.0",
						"edu@00:03.0,group=9,driver=e1000e",
						"edu@01:00.0,group=9", "ioat@01:00.1,group=8"};
	struct uiommu_vfio_options front = {.size = sizeof(front), .dma_entry_limit = 16};

	fuzz_up(platform, functions, sizeof(functions) / sizeof(functions[0]), &front);
}

/* What every session opens with, so that most inputs get to where the work is. */
static void open_session(unsigned group)
{
	struct uiommu_vfio_file *file;
	int container = 0;
	uint16_t command = 6;

	PROMISE(uiommu_vfio_open_container(vfio, &file) == 0);
	store(file);
	PROMISE(uiommu_vfio_open_group(vfio, group, &file) == 0);
	store(file);
	memcpy(arena, &container, sizeof(container));
	PROMISE(uiommu_vfio_ioctl(files[1], VFIO_GROUP_SET_CONTAINER, (uintptr_t)arena) == 0);
	PROMISE(uiommu_vfio_ioctl(files[0], VFIO_SET_IOMMU,
				  on_power ? VFIO_SPAPR_TCE_v2_IOMMU : VFIO_TYPE1v2_IOMMU) == 0);
	memcpy(arena, group ? "0000:00:02.0" : "0000:00:01.0", 13);
	PROMISE(uiommu_vfio_ioctl(files[1], VFIO_GROUP_GET_DEVICE_FD, (uintptr_t)arena) == 2);
	memcpy(arena, &command, sizeof(command));
	PROMISE(uiommu_vfio_pwrite(files[2], arena, 2, (UINT64_C(7) << 40) + 4) == 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t first = take8(&in);

	on_power = first >= 192;
	set_up(!on_power ? NULL : first & 8 ? "ppc-spapr,flavour=powernv" : "ppc-spapr");
	if (first % 4)
		open_session(first & 32 ? 1 : 0);
	for (unsigned step = 0; in.left && step < MOST_STEPS; step++) {
		uint8_t op = take8(&in) % 16;

		if (op < 9)
			do_ioctl(&in);
		else if (op < 12)
			do_transfer(&in);
		else if (op == 12)
			do_mmap(&in);
		else if (op == 13)
			do_open(&in);
		else if (op == 14)
			do_release(&in);
	}
	fuzz_down(first & 16);
	return 0;
}
