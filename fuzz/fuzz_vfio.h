/* SPDX-License-Identifier: MIT */
/*
 * fuzz_vfio.h - what the targets of the VFIO and iommufd front ends share: the program's part. Its
 * descriptors are a table of a few files, its memory is one arena: whatever pointer the front end
 * follows out of it gets -EFAULT, and DMA that leaves it is a broken promise.
 */
#ifndef FUZZ_FUZZ_VFIO_H
#define FUZZ_FUZZ_VFIO_H

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <uiommu/vfio.h>

#include "fuzz.h"

enum { ARENA = 64 * 1024, FILES = 12, EVENTFD = 100, MOST_STEPS = 400 };

static _Alignas(4096) uint8_t arena[ARENA];
static struct uiommu_vfio_file *files[FILES];
static struct uiommu_machine *machine;
static struct uiommu_vfio *vfio;

static bool in_arena(uint64_t addr, uint64_t len)
{
	uint64_t first = (uintptr_t)arena;

	return addr >= first && addr - first <= ARENA && len <= ARENA - (addr - first);
}

/* ---- the host -------------------------------------------------------------------------------- */

static int copy_in(void *ctx, void *to, const void *from, size_t len)
{
	if (!in_arena((uintptr_t)from, len))
		return -EFAULT;
	memcpy(to, from, len);
	return 0;
}

static int copy_out(void *ctx, void *to, const void *from, size_t len)
{
	if (!in_arena((uintptr_t)to, len))
		return -EFAULT;
	memcpy(to, from, len);
	return 0;
}

static struct uiommu_vfio_file *file_of(void *ctx, int fd)
{
	return fd >= 0 && fd < FILES ? files[fd] : NULL;
}

static int install(void *ctx, struct uiommu_vfio_file *file)
{
	for (int fd = 0; fd < FILES; fd++) {
		if (!files[fd]) {
			files[fd] = file;
			return fd;
		}
	}
	return -EMFILE;
}

static int eventfd_get(void *ctx, int fd)
{
	return fd == EVENTFD ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
	       : fd < FILES  ? -EINVAL
			     : -EBADF;
}

static void eventfd_put(void *ctx, int fd)
{
	PROMISE(close(fd) == 0);
}

static void refused(void *ctx, const char *what, const struct uiommu_refusal *refusal)
{
	char text[512];

	PROMISE(what && refusal->rule != UIOMMU_RULE_NONE && refusal->error < 0);
	PROMISE(uiommu_refusal_format(refusal, text, sizeof(text)) > 0);
}

/* ---- memory ------------------------------------------------------------------------------------
 */

/* A device's access to memory that the program may be writing to at the same time: whatever it gets
 * is right. So it is not ThreadSanitizer's business, which knows memcpy() by name. */
static __attribute__((no_sanitize_thread)) void dma_copy(volatile uint8_t *to,
							 const volatile uint8_t *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = from[i];
}

static int dma_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	PROMISE(in_arena(addr, len));
	dma_copy(buf, (const uint8_t *)(uintptr_t)addr, len);
	return 0;
}

static int dma_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	PROMISE(in_arena(addr, len));
	dma_copy((uint8_t *)(uintptr_t)addr, buf, len);
	return 0;
}

static int dma_check(void *ctx, uint64_t addr, uint64_t len, int prot)
{
	return in_arena(addr, len) ? 0 : -EFAULT;
}

static const struct uiommu_memory_ops arena_ops = {
	.size = sizeof(arena_ops), .read = dma_read, .write = dma_write, .check = dma_check};
static const struct uiommu_memory arena_memory = {.ops = &arena_ops};

/* ---- up and down -------------------------------------------------------------------------------
 */

/* The machine of @platform with @count @functions, and a front end for @front's host options. */
static void fuzz_up(const char *platform, const char *const *functions, size_t count,
		    struct uiommu_vfio_options *front)
{
	struct uiommu_machine_options options = {
		.size = sizeof(options), .memory = &arena_memory, .platform = platform};
	char why[256] = "";

	PROMISE(uiommu_machine_create(&options, &machine, why, sizeof(why)) == 0);
	for (size_t i = 0; i < count; i++)
		PROMISE(uiommu_machine_add(machine, functions[i], why, sizeof(why)) == 0);
	front->host.size = sizeof(front->host);
	front->host.copy_in = copy_in;
	front->host.copy_out = copy_out;
	front->host.file_of = file_of;
	front->host.install = install;
	front->host.eventfd_get = eventfd_get;
	front->host.eventfd_put = eventfd_put;
	front->host.refused = refused;
	PROMISE(uiommu_vfio_create(machine, front, &vfio) == 0);
	memset(arena, 0, sizeof(arena));
}

static void no_ioas(void *ctx, struct uiommu_ioas *ioas, const char *name)
{
	PROMISE(!"an address space is left");
}

static void fuzz_down(bool release)
{
	struct uiommu_vfio_stats stats;

	for (unsigned fd = 0; fd < FILES; fd++) {
		if (files[fd] && release)
			uiommu_vfio_release(files[fd]);
		files[fd] = NULL;
	}
	if (release) {
		uiommu_vfio_each_ioas(vfio, no_ioas, NULL);
		uiommu_vfio_stats(vfio, &stats);
		PROMISE(stats.live == 0 && stats.live_bytes == 0);
	}
	uiommu_vfio_destroy(vfio); /* which releases what is open */
	uiommu_machine_destroy(machine);
}

/* ---- steps that any file takes -----------------------------------------------------------------
 */

static void store(struct uiommu_vfio_file *file)
{
	if (install(NULL, file) < 0)
		uiommu_vfio_release(file);
}

static void do_release(struct input *in)
{
	unsigned fd = take8(in) % FILES;
	struct uiommu_vfio_file *file = files[fd];

	files[fd] = NULL;
	if (file)
		uiommu_vfio_release(file);
}

static uint64_t take_pointer(struct input *in)
{
	uint8_t how = take8(in);

	if (how < 224)
		return (uintptr_t)arena + how % 16 * 4096;
	return how < 240 ? (uintptr_t)arena + ARENA - how % 16 * 4 : take64(in);
}

static void put32(uint8_t *arg, unsigned offset, uint32_t value)
{
	memcpy(arg + offset, &value, sizeof(value));
}

static void put64(uint8_t *arg, unsigned offset, uint64_t value)
{
	memcpy(arg + offset, &value, sizeof(value));
}

/* Small multiples of a page, so that mappings meet one another. */
static uint64_t take_pages(struct input *in)
{
	uint8_t how = take8(in);

	return how < 240 ? how % 16 * UINT64_C(4096) : take64(in);
}

static void do_transfer(struct input *in)
{
	struct uiommu_vfio_file *file = files[take8(in) % FILES];
	uint8_t how = take8(in);
	uint64_t region = how % 16 < 10 ? how % 16 : take16(in);
	uint64_t offset = (region << 40) + (how & 32 ? take16(in) : take8(in));
	size_t count = how & 64 ? take16(in) : take8(in) % 16;
	uint64_t buf = take_pointer(in);
	ssize_t ret;

	if (how & 16 && in_arena(buf, 8))
		take(in, (void *)(uintptr_t)buf, 8);
	if (!file)
		return;
	ret = how & 128 ? uiommu_vfio_pread(file, (void *)(uintptr_t)buf, count, offset)
			: uiommu_vfio_pwrite(file, (void *)(uintptr_t)buf, count, offset);
	PROMISE(ret >= -4095 && ret <= (ssize_t)count);
}

#endif
