/* SPDX-License-Identifier: MIT */
/*
 * Owns every access to the program's memory and descriptors: copies that can fail, structs that
 * start with their size, capability chains, eventfds.
 *
 * A struct is copied in once and judged by that copy; what the program does to it meanwhile cannot
 * matter. No locks. Signalling an eventfd never blocks and never fails to the caller.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

void vfio_log(const struct uiommu_vfio *vfio, const char *format, ...)
{
	char line[256];
	va_list args;

	if (!vfio->host.log)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	vfio->host.log(vfio->host.ctx, line);
}

int vfio_refuse(enum uiommu_rule rule, int error, const char *owner)
{
	return uiommu_refuse(rule, error, owner, UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

static int bad_address(uint64_t address, size_t len)
{
	struct uiommu_range asked = UIOMMU_RANGE_NONE;

	range_from(address, len, &asked);
	return uiommu_refuse(UIOMMU_RULE_ADDRESS, -EFAULT, "a pointer of the program's", asked,
			     UIOMMU_RANGE_NONE);
}

/* Without hooks copies are plain; the first page is never anybody's. */
static bool plausible(uint64_t address, size_t len)
{
	return address >= VFIO_PAGE && address + len >= address;
}

int vfio_copy_in(const struct uiommu_vfio *vfio, void *to, uint64_t from, size_t len)
{
	const void *source = (const void *)(uintptr_t)from;

	if (!vfio->host.copy_in) {
		if (!plausible(from, len))
			return bad_address(from, len);
		memcpy(to, source, len);
		return 0;
	}
	return vfio->host.copy_in(vfio->host.ctx, to, source, len) ? bad_address(from, len) : 0;
}

int vfio_copy_out(const struct uiommu_vfio *vfio, uint64_t to, const void *from, size_t len)
{
	void *target = (void *)(uintptr_t)to;

	if (!vfio->host.copy_out) {
		if (!plausible(to, len))
			return bad_address(to, len);
		memcpy(target, from, len);
		return 0;
	}
	return vfio->host.copy_out(vfio->host.ctx, target, from, len) ? bad_address(to, len) : 0;
}

int vfio_copy_sized(const struct uiommu_vfio *vfio, void *to, uint64_t arg, size_t min)
{
	uint32_t argsz;
	int ret = vfio_copy_in(vfio, to, arg, min);

	if (ret)
		return ret;
	memcpy(&argsz, to, sizeof(argsz));
	if (argsz < min)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "argsz: smaller than the smallest version of the struct");
	return 0;
}

/* What is behind our struct must be zero: it is of a newer version that we don't know. */
static int check_tail(const struct uiommu_vfio *vfio, uint64_t size, uint64_t arg,
		      uint64_t user_size)
{
	uint8_t piece[256];

	for (uint64_t at = size; at < user_size;) {
		size_t len = user_size - at < sizeof(piece) ? user_size - at : sizeof(piece);
		int ret = vfio_copy_in(vfio, piece, arg + at, len);

		if (ret)
			return ret;
		for (size_t i = 0; i < len; i++)
			if (piece[i])
				return vfio_refuse(UIOMMU_RULE_ARGUMENT, -E2BIG,
						   "size: something behind the known fields");
		at += len;
	}
	return 0;
}

int vfio_copy_struct(const struct uiommu_vfio *vfio, void *to, size_t size, uint64_t arg,
		     uint64_t user_size)
{
	int ret = check_tail(vfio, size, arg, user_size);

	return ret ? ret : vfio_copy_in(vfio, to, arg, user_size < size ? user_size : size);
}

int vfio_copy_string(const struct uiommu_vfio *vfio, char *to, uint64_t from, size_t room)
{
	/* By bytes, for nothing behind its end is the string's, and the next page may not be there.
	 */
	for (size_t len = 0; len < room; len++) {
		int ret = vfio_copy_in(vfio, to + len, from + len, 1);

		if (ret || !to[len])
			return ret;
	}
	return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "the name: longer than a page");
}

/* ---- descriptors ---- */

int vfio_eventfd_get(const struct uiommu_vfio *vfio, int fd)
{
	int own;

	if (vfio->host.eventfd_get)
		own = vfio->host.eventfd_get(vfio->host.ctx, fd);
	else if ((own = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
		own = -errno;
	if (own < 0)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, own,
				   own == -EBADF ? "eventfd: the descriptor is not open"
						 : "eventfd: the descriptor can't be used");
	return own;
}

void vfio_eventfd_put(const struct uiommu_vfio *vfio, int fd)
{
	if (fd < 0)
		return;
	if (vfio->host.eventfd_put)
		vfio->host.eventfd_put(vfio->host.ctx, fd);
	else
		close(fd);
}

void vfio_eventfd_signal(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLOUT};
	uint64_t one = 1;
	int saved = errno;

	/* A full counter would block; the kernel leaves it full as well. */
	if (fd >= 0 && poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT))
		while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	errno = saved;
}

bool vfio_eventfd_take(int fd)
{
	struct iovec iov;
	uint64_t count;
	ssize_t got;

	iov.iov_base = &count;
	iov.iov_len = sizeof(count);
	do
		got = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
	while (got < 0 && errno == EINTR);
	return got == sizeof(count);
}

int vfio_unknown_descriptor(int fd, int other)
{
	int saved = errno;
	bool closed = fcntl(fd, F_GETFD) < 0 && errno == EBADF;

	errno = saved;
	return closed ? -EBADF : other;
}

/* ---- capability chains ---- */

void vfio_caps_init(struct vfio_caps *caps, size_t base)
{
	*caps = (struct vfio_caps){.base = base};
}

static int caps_room(struct vfio_caps *caps, size_t size)
{
	size_t room = caps->room ? caps->room : 256;
	uint8_t *buf;

	while (room < size)
		room *= 2;
	if (room == caps->room)
		return 0;
	buf = uiommu_alloc(room);
	if (!buf)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	if (caps->size)
		memcpy(buf, caps->buf, caps->size);
	uiommu_free(caps->buf, caps->room);
	caps->buf = buf;
	caps->room = room;
	return 0;
}

int vfio_caps_add(struct vfio_caps *caps, uint16_t id, const void *body, size_t len)
{
	struct vfio_info_cap_header header = {.id = id, .version = 1}, *previous;
	/* Each starts on 8 bytes, as the kernel has it. */
	size_t padded = (sizeof(header) + len + 7) & ~(size_t)7;
	int ret = caps_room(caps, caps->size + padded);

	if (ret)
		return ret;
	if (caps->size) {
		previous = (struct vfio_info_cap_header *)(caps->buf + caps->last);
		previous->next = caps->base + caps->size;
	}
	memcpy(caps->buf + caps->size, &header, sizeof(header));
	if (len)
		memcpy(caps->buf + caps->size + sizeof(header), body, len);
	caps->last = caps->size;
	caps->size += padded;
	return 0;
}

void vfio_caps_free(struct vfio_caps *caps)
{
	uiommu_free(caps->buf, caps->room);
	caps->buf = NULL;
	caps->size = caps->room = 0;
}

int vfio_caps_out(const struct uiommu_vfio *vfio, const struct vfio_caps *caps, uint64_t arg,
		  uint32_t *argsz, uint32_t *cap_offset)
{
	int ret;

	if (*argsz < caps->base + caps->size) {
		*argsz = caps->base + caps->size;
		*cap_offset = 0;
		return 0;
	}
	ret = vfio_copy_out(vfio, arg + caps->base, caps->buf, caps->size);
	if (!ret)
		*cap_offset = caps->base;
	return ret;
}

/* ---- files that the program wants mapped ---- */

int vfio_map_file(const struct uiommu_vfio *vfio, int fd, uint64_t offset, uint64_t length,
		  bool write, uint64_t *addr)
{
	int ret;

	if (vfio->host.map_file) {
		ret = vfio->host.map_file(vfio->host.ctx, fd, offset, length, write, addr);
	} else {
		void *at = mmap(NULL, length, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, fd,
				(off_t)offset);

		ret = at == MAP_FAILED ? -errno : 0;
		*addr = (uintptr_t)at;
	}
	if (ret == -EBADF)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, ret, "fd: not open");
	return ret ? vfio_refuse(UIOMMU_RULE_SOURCE, ret, "fd: the file can't be mapped") : 0;
}

void vfio_unmap_file(const struct uiommu_vfio *vfio, uint64_t addr, uint64_t length)
{
	if (vfio->host.unmap_file)
		vfio->host.unmap_file(vfio->host.ctx, addr, length);
	else
		munmap((void *)(uintptr_t)addr, length);
}
