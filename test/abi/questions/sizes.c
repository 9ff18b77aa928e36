/* SPDX-License-Identifier: MIT */
/*
 * sizes.c - the form of iommufd's requests: their numbers, which sizes each takes, what a longer
 * one may have behind what is known, bad pointers.
 */
#include "ask.h"

#define FIRST 0x80
#define LAST  0x96
#define LARGE 256

static const char *const names[] = {
	"destroy",	  "ioas-alloc", "allow-iovas",	  "copy",
	"iova-ranges",	  "map",	"unmap",	  "option",
	"vfio-ioas",	  "hwpt-alloc", "get-hw-info",	  "set-dirty",
	"get-dirty",	  "invalidate", "fault-alloc",	  "map-file",
	"viommu-alloc",	  "vdevice",	"change-process", "veventq-alloc",
	"hw-queue-alloc", "0x95",	"0x96",
};

/* A request of any size, all zero but for that. */
static int ask_zero(int fd, unsigned nr, uint32_t size, uint8_t last)
{
	static uint64_t buffer[LARGE / sizeof(uint64_t) + 1];
	uint8_t *bytes = (uint8_t *)buffer;

	memset(buffer, 0, sizeof(buffer));
	memcpy(bytes, &size, sizeof(size));
	if (last && size)
		bytes[(size < sizeof(buffer) ? size : sizeof(buffer)) - 1] = last;
	return ask(fd, _IO(';', nr), buffer);
}

static void ask_number(int fd, unsigned nr)
{
	struct sweep zero = {.question = "size"}, tail = {.question = "tail"};
	uint32_t *at_end;
	uint8_t *two;
	uint32_t size;

	section("iommufd.%s", names[nr - FIRST]);
	for (size = 0; size <= 128; size++)
		sweep_add(&zero, size, "%s", result_name(ask_zero(fd, nr, size, 0)));
	sweep_end(&zero);
	for (size = 96; size <= 128; size++)
		sweep_add(&tail, size, "%s", result_name(ask_zero(fd, nr, size, 0xff)));
	sweep_end(&tail);
	answer(ask_zero(fd, nr, 4096, 0), "size.page");
	answer(ask_zero(fd, nr, UINT32_MAX, 0), "size.largest");
	answer(ask(fd, _IO(';', nr), NULL), "null");
	answer(ask(fd, _IOWR(';', nr, uint64_t), NULL), "with-size");
	/* The size can be read, and nothing behind it. */
	two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (two == MAP_FAILED)
		return;
	munmap(two + PAGE, PAGE);
	at_end = (uint32_t *)(two + PAGE - 4);
	*at_end = 96;
	answer(ask(fd, _IO(';', nr), at_end), "cut");
	munmap(two, PAGE);
}

void ask_iommufd_sizes(const struct machine *machine)
{
	struct sweep sweep = {.question = "number", .hex = true};
	char byte;
	unsigned nr;
	int fd = open_path("/dev/iommu");

	(void)machine;
	section("iommufd");
	answer(fd < 0 ? fd : 0, "open");
	if (fd < 0)
		return;
	for (nr = 0; nr < 256; nr++)
		sweep_add(&sweep, nr, "%s", result_name(ask(fd, _IO(';', nr), NULL)));
	sweep_end(&sweep);
	answer(ask(fd, _IO('<', FIRST), NULL), "other-type");
	answer(read(fd, &byte, 1) < 0 ? -errno : 0, "read");
	answer(write(fd, "x", 1) < 0 ? -errno : 0, "write");
	answer(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -errno : 0, "mmap");
	for (nr = FIRST; nr <= LAST; nr++)
		ask_number(fd, nr);
	close(fd);
}
