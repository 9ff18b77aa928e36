/* SPDX-License-Identifier: MIT */
/*
 * config.c - the device's configuration space as VFIO shows it: which bits can be written, the
 * BARs' sizes, the capabilities, and what a hot reset would take.
 */
#include "ask.h"

#include <linux/pci_regs.h>

#define CONFIG ((off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40)

static int get(int fd, unsigned at, void *to, size_t bytes)
{
	ssize_t done = pread(fd, to, bytes, CONFIG + at);

	return done < 0 ? -errno : (int)done;
}

static int put(int fd, unsigned at, const void *from, size_t bytes)
{
	ssize_t done = pwrite(fd, from, bytes, CONFIG + at);

	return done < 0 ? -errno : (int)done;
}

/* Of each word of the header: the bits that can be changed, as it was afterwards. */
static void ask_writable(int fd)
{
	struct sweep sweep = {.question = "writable", .hex = true};
	uint16_t before, turned, after;
	unsigned at;

	for (at = 0; at < PCI_STD_HEADER_SIZEOF; at += 2) {
		before = after = 0;
		get(fd, at, &before, sizeof(before));
		turned = (uint16_t)~before;
		put(fd, at, &turned, sizeof(turned));
		get(fd, at, &after, sizeof(after));
		put(fd, at, &before, sizeof(before));
		sweep_add(&sweep, at, "0x%04x", (unsigned)(before ^ after));
	}
	sweep_end(&sweep);
}

/* As a driver finds out how large a BAR is. */
static void ask_bars(int fd)
{
	const uint32_t ones = UINT32_MAX;
	char question[32];
	uint32_t before, size;
	unsigned bar, at;

	for (bar = 0; bar < 7; bar++) {
		at = bar < 6 ? PCI_BASE_ADDRESS_0 + 4 * bar : PCI_ROM_ADDRESS;
		before = size = 0;
		get(fd, at, &before, sizeof(before));
		put(fd, at, &ones, sizeof(ones));
		get(fd, at, &size, sizeof(size));
		put(fd, at, &before, sizeof(before));
		snprintf(question, sizeof(question), "bar.%u", bar);
		say(question, "0x%08x", size);
	}
}

/* Accesses that are odd in place or size; the pieces that arrive. */
static void ask_odd_accesses(int fd)
{
	static const struct {
		unsigned at;
		size_t bytes;
	} rows[] = {{0, 1},    {1, 2},	  {1, 3},    {2, 4},	{3, 8},
		    {0xfe, 4}, {0xff, 1}, {0xff, 2}, {0x100, 4}};
	void *bad = (void *)(uintptr_t)source_at(NOT_THERE);
	uint8_t bytes[8];
	unsigned i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memset(bytes, 0, sizeof(bytes));
		answer(get(fd, rows[i].at, bytes, rows[i].bytes), "read.0x%x.%zu", rows[i].at,
		       rows[i].bytes);
	}
	answer(get(fd, 0, bad, 4), "read.bad-pointer");
	answer(put(fd, 4, bad, 2), "write.bad-pointer");
	answer(put(fd, 0x10000, bytes, 4), "write.beyond");
}

static void ask_capabilities(int fd)
{
	uint8_t at = 0, head[2];
	unsigned count;
	char question[32];
	uint16_t control;

	get(fd, PCI_CAPABILITY_LIST, &at, 1);
	for (count = 0; at && count < 48 && get(fd, at, head, 2) == 2; count++) {
		snprintf(question, sizeof(question), "capability.0x%02x", head[0]);
		control = 0;
		get(fd, at + 2u, &control, sizeof(control));
		say(question, "at 0x%02x control 0x%04x", at, control);
		at = head[1];
	}
}

static void ask_hot_reset(int fd)
{
	struct {
		struct vfio_pci_hot_reset_info head;
		struct vfio_pci_dependent_device devices[8];
	} info;
	struct vfio_pci_hot_reset reset = {.argsz = sizeof(reset)};
	struct sweep sweep = {.question = "hot-reset.info.argsz"};
	uint32_t size;
	int result;

	for (size = 0; size <= sizeof(info); size++) {
		memset(&info, 0, sizeof(info));
		info.head.argsz = size;
		result = ask(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info);
		sweep_add(&sweep, size, "%s count %u", result_name(result), info.head.count);
	}
	sweep_end(&sweep);
	answer(ask(fd, VFIO_DEVICE_PCI_HOT_RESET, &reset), "hot-reset.no-groups");
	reset.argsz = 0;
	answer(ask(fd, VFIO_DEVICE_PCI_HOT_RESET, &reset), "hot-reset.argsz-0");
	reset.argsz = sizeof(reset);
	reset.flags = 1;
	answer(ask(fd, VFIO_DEVICE_PCI_HOT_RESET, &reset), "hot-reset.flag");
}

static void ask_one(const struct machine *machine)
{
	struct open_device device;
	int result = device_open(&device, machine);

	answer(result, "open");
	if (result)
		return;
	ask_writable(device.fd);
	ask_bars(device.fd);
	ask_odd_accesses(device.fd);
	ask_capabilities(device.fd);
	ask_hot_reset(device.fd);
	device_close(&device);
}

void ask_config(const struct machine *machine)
{
	struct machine turned = {.device = machine->other, .other = machine->device};

	section("config");
	ask_one(machine);
	if (!machine->other.address[0])
		return;
	section("config.other");
	ask_one(&turned);
}
