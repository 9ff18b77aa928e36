/* SPDX-License-Identifier: MIT */
/*
 * sizes.c - the form of iommufd's requests: their numbers, which sizes each takes, what a longer
 * one may have behind what is known, bad pointers.
 */
#include "ask.h"

#define FIRST 0x80
#define LAST  0x96
#define ROOM  (2 * PAGE)

static const char *const names[] = {
	"destroy",	  "ioas-alloc", "allow-iovas",	  "copy",
	"iova-ranges",	  "map",	"unmap",	  "option",
	"vfio-ioas",	  "hwpt-alloc", "get-hw-info",	  "set-dirty",
	"get-dirty",	  "invalidate", "fault-alloc",	  "map-file",
	"viommu-alloc",	  "vdevice",	"change-process", "veventq-alloc",
	"hw-queue-alloc", "0x95",	"0x96",
};

/* Room for the largest request, and behind it nothing. */
static uint8_t *room(void)
{
	static uint8_t *at;

	if (!at) {
		at = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
		if (at == MAP_FAILED || munmap(at + ROOM, PAGE))
			exit(1);
	}
	return at;
}

/* A request of any size, all zero but for that and its last byte. */
static int ask_zero(int fd, unsigned nr, uint32_t size, uint8_t last)
{
	uint8_t *bytes = room();

	memset(bytes, 0, ROOM);
	memcpy(bytes, &size, sizeof(size));
	if (last && size)
		bytes[size - 1] = last;
	return ask(fd, _IO(';', nr), bytes);
}

static void ask_number(int fd, unsigned nr)
{
	struct sweep zero = {.question = "size"}, tail = {.question = "tail"};
	uint32_t *at_end;
	uint32_t size;

	section("iommufd.%s", names[nr - FIRST]);
	for (size = 0; size <= 128; size++)
		sweep_add(&zero, size, "%s", result_name(ask_zero(fd, nr, size, 0)));
	sweep_end(&zero);
	for (size = 96; size <= 128; size++)
		sweep_add(&tail, size, "%s", result_name(ask_zero(fd, nr, size, 0xff)));
	sweep_end(&tail);
	answer(ask_zero(fd, nr, PAGE, 0), "size.page");
	answer(ask_zero(fd, nr, PAGE, 1), "tail.page");
	answer(ask_zero(fd, nr, PAGE + 1, 0), "size.page-and-more");
	answer(ask_zero(fd, nr, ROOM, 0), "size.two-pages");
	answer(ask_zero(fd, nr, ROOM + 1, 0), "size.beyond-memory");
	answer(ask_zero(fd, nr, UINT32_MAX, 0), "size.largest");
	answer(ask(fd, _IO(';', nr), NULL), "null");
	answer(ask(fd, _IOWR(';', nr, uint64_t), NULL), "with-size");
	/* The size can be read, and nothing behind it. */
	at_end = (uint32_t *)(void *)(room() + ROOM - 4);
	*at_end = 96;
	answer(ask(fd, _IO(';', nr), at_end), "cut");
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
