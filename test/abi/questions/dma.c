/* SPDX-License-Identifier: MIT */
/*
 * dma.c - what a device can reach: QEMU's educational device copies from a mapping and to a
 * mapping, with each right that they may have and with none.
 *
 * The device (docs/specs/edu in QEMU's source) has a buffer of 4 KiB at 0x40000 in its own
 * addresses and copies between that and memory below 256 MiB. The questions are what has arrived.
 */
#include "ask.h"

#define REG_FROM  0x80
#define REG_TO	  0x88
#define REG_COUNT 0x90
#define REG_DO	  0x98
#define DO_START  1u
#define DO_WRITE  2u /* to memory */

#define BUFFER 0x40000u
#define BYTES  256u

/* Where each page is mapped. */
#define FROM  UINT64_C(0x100000)
#define TO    UINT64_C(0x200000)
#define OTHER UINT64_C(0x300000)

#define R VFIO_DMA_MAP_FLAG_READ
#define W VFIO_DMA_MAP_FLAG_WRITE

static bool set(int device, unsigned reg, uint32_t value)
{
	return pwrite(device, &value, sizeof(value), reg) == sizeof(value);
}

/* One copy, carried out. */
static bool copy(int device, uint64_t from, uint64_t to, uint32_t way)
{
	uint32_t busy = 1;
	unsigned tries;

	if (!set(device, REG_FROM, (uint32_t)from) || !set(device, REG_TO, (uint32_t)to) ||
	    !set(device, REG_COUNT, BYTES) || !set(device, REG_DO, DO_START | way))
		return false;
	for (tries = 0; tries < 500 && (busy & DO_START); tries++) {
		usleep(10000);
		if (pread(device, &busy, sizeof(busy), REG_DO) != sizeof(busy))
			return false;
	}
	return !(busy & DO_START);
}

static uint8_t *page(unsigned number)
{
	return (uint8_t *)(uintptr_t)source_at(MEMORY) + number * PAGE;
}

static void map(int fd, uint64_t iova, unsigned number, uint32_t rights)
{
	if (rights)
		dma_map(fd, iova, source_at(MEMORY) + number * PAGE, PAGE, rights);
}

/* The source and the destination with those rights (0: not mapped): has the source's pattern come
 * to the destination? What the device's buffer held before is another. */
static void ask_copy(const struct open_device *device, const char *question, uint32_t from,
		     uint32_t to, bool unmap_first)
{
	int fd = device->container.fd;
	uint64_t size = 0;
	bool done;

	dma_unmap(fd, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL);
	memset(page(0), 0x5a, PAGE);
	memset(page(1), 0, PAGE);
	memset(page(2), 0x33, PAGE);
	map(fd, FROM, 0, from);
	map(fd, TO, 1, to);
	map(fd, OTHER, 2, R | W);
	done = copy(device->fd, OTHER, BUFFER, 0);
	if (unmap_first) {
		done = done && copy(device->fd, FROM, BUFFER, 0) &&
		       copy(device->fd, OTHER, BUFFER, 0);
		size = PAGE;
		dma_unmap(fd, FROM, &size, 0);
	}
	done = done && copy(device->fd, FROM, BUFFER, 0) && copy(device->fd, BUFFER, TO, DO_WRITE);
	say(question, "%s",
	    !done			       ? "no answer"
	    : !memcmp(page(0), page(1), BYTES) ? "arrives"
					       : "doesn't arrive");
	size = 0;
	dma_unmap(fd, 0, &size, VFIO_DMA_UNMAP_FLAG_ALL);
}

void ask_dma(const struct machine *machine)
{
	const off_t command = ((off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40) + 4;
	uint16_t on = 6; /* memory, bus master */
	struct open_device device;
	uint32_t id = 0;
	int result = device_open(&device, machine);

	section("dma");
	answer(result, "open");
	if (result)
		return;
	if (device.type == VFIO_TYPE1v2_IOMMU && pwrite(device.fd, &on, sizeof(on), command) == 2 &&
	    pread(device.fd, &id, sizeof(id), 0) == sizeof(id) && (id & 0xff) == 0xed) {
		ask_copy(&device, "both.to.both", R | W, R | W, false);
		ask_copy(&device, "read.to.both", R, R | W, false);
		ask_copy(&device, "write.to.both", W, R | W, false);
		ask_copy(&device, "nothing.to.both", 0, R | W, false);
		ask_copy(&device, "both.to.read", R | W, R, false);
		ask_copy(&device, "both.to.write", R | W, W, false);
		ask_copy(&device, "both.to.nothing", R | W, 0, false);
		ask_copy(&device, "unmapped.to.both", R | W, R | W, true);
	}
	device_close(&device);
}
