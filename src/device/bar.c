/* SPDX-License-Identifier: MIT */
/*
 * BARs: their memory, and register accesses to it.
 *
 * A function's BARs live in one sparse memory file, BAR n at n << 40, mapped here writable and
 * elsewhere by clients, who may read it at any time without any lock. So a register is stored with
 * one atomic access, in little endian; it never shows half of an update. The file is sealed: nobody
 * else can change its size or its contents.
 *
 * Invariants: an access that reaches a model or the MSI-X table is 1, 2, 4 or 8 bytes, naturally
 * aligned and inside the BAR. Accesses hold the function's lock throughout, so a long one is
 * indivisible; only what a model takes as posted goes without it. Only making the file can fail.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/function.h"

/* Clients get descriptors of the file, and a mapping of what has been cut off or punched out would
 * be a SIGBUS, or lost registers, here. Kernels before 5.1 cannot forbid writing alone. */
static int bar_seal(int fd)
{
	if (fcntl(fd, F_ADD_SEALS, (unsigned long)(F_SEAL_SHRINK | F_SEAL_GROW)))
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, (unsigned long)F_SEAL_FUTURE_WRITE) && errno != EINVAL)
		return -errno;
	return 0;
}

int bar_create(struct uiommu_function *fn)
{
	char name[FUNCTION_NAME_MAX + 8];
	unsigned i;

	snprintf(name, sizeof(name), "uiommu-%s", fn->name);
	fn->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fn->fd < 0)
		return -errno;
	if (ftruncate(fn->fd, (off_t)UIOMMU_BARS << BAR_STRIDE_SHIFT))
		return -errno;
	for (i = 0; i < UIOMMU_BARS; i++) {
		void *map;

		if (!fn->model->bars[i].size)
			continue;
		map = mmap(NULL, fn->model->bars[i].size, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_NORESERVE, fn->fd, (off_t)i << BAR_STRIDE_SHIFT);
		if (map == MAP_FAILED)
			return -errno;
		fn->bar[i] = map;
	}
	return bar_seal(fn->fd);
}

void bar_destroy(struct uiommu_function *fn)
{
	unsigned i;

	for (i = 0; i < UIOMMU_BARS; i++) {
		if (fn->bar[i])
			munmap(fn->bar[i], fn->model->bars[i].size);
	}
	if (fn->fd >= 0)
		close(fn->fd);
}

int uiommu_function_fd(struct uiommu_function *fn)
{
	return fn->fd;
}

void *uiommu_function_bar(struct uiommu_function *fn, unsigned bar)
{
	return bar < UIOMMU_BARS ? fn->bar[bar] : NULL;
}

static bool bar_inside(const struct uiommu_function *fn, unsigned bar, uint64_t offset,
		       uint64_t len)
{
	return bar < UIOMMU_BARS && fn->bar[bar] && offset <= fn->model->bars[bar].size &&
	       len <= fn->model->bars[bar].size - offset;
}

/* An access that can be single: not every offset a model asks for is aligned. */
static bool reg_single(uint64_t offset, unsigned len)
{
	return (len == 1 || len == 2 || len == 4 || len == 8) && !(offset & (len - 1));
}

uint64_t uiommu_function_reg(struct uiommu_function *fn, unsigned bar, uint64_t offset,
			     unsigned len)
{
	uint64_t value = 0;
	const uint8_t *at;

	if (len > 8 || !bar_inside(fn, bar, offset, len))
		return UINT64_MAX;
	at = fn->bar[bar] + offset;
	if (!reg_single(offset, len)) {
		memcpy(&value, at, len);
		return le64toh(value);
	}
	switch (len) {
	case 1:
		return __atomic_load_n(at, __ATOMIC_RELAXED);
	case 2:
		return le16toh(__atomic_load_n((const uint16_t *)at, __ATOMIC_RELAXED));
	case 4:
		return le32toh(__atomic_load_n((const uint32_t *)at, __ATOMIC_RELAXED));
	default:
		return le64toh(__atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED));
	}
}

void uiommu_function_set_reg(struct uiommu_function *fn, unsigned bar, uint64_t offset,
			     unsigned len, uint64_t value)
{
	uint8_t *at;

	if (len > 8 || !bar_inside(fn, bar, offset, len))
		return;
	at = fn->bar[bar] + offset;
	if (!reg_single(offset, len)) {
		value = htole64(value);
		memcpy(at, &value, len);
		return;
	}
	switch (len) {
	case 1:
		__atomic_store_n(at, (uint8_t)value, __ATOMIC_RELAXED);
		break;
	case 2:
		__atomic_store_n((uint16_t *)at, htole16((uint16_t)value), __ATOMIC_RELAXED);
		break;
	case 4:
		__atomic_store_n((uint32_t *)at, htole32((uint32_t)value), __ATOMIC_RELAXED);
		break;
	default:
		__atomic_store_n((uint64_t *)at, htole64(value), __ATOMIC_RELAXED);
		break;
	}
}

/* The largest naturally aligned access at @offset that is no longer than @len. */
static unsigned bar_piece(uint64_t offset, size_t len)
{
	unsigned n = 8;

	while (n > len || (offset & (n - 1)))
		n /= 2;
	return n;
}

static void bar_read_locked(struct uiommu_function *fn, unsigned bar, uint64_t offset, uint8_t *buf,
			    size_t len)
{
	while (len) {
		unsigned n = bar_piece(offset, len);
		uint64_t value;

		if (fn->model->bar_read && !msix_owns(fn, bar, offset))
			fn->model->bar_read(fn, bar, offset, n);
		value = htole64(uiommu_function_reg(fn, bar, offset, n));
		memcpy(buf, &value, n);
		offset += n;
		buf += n;
		len -= n;
	}
}

int bar_read_under_lock(struct uiommu_function *fn, unsigned bar, uint64_t offset, void *buf,
			size_t len)
{
	if (!bar_inside(fn, bar, offset, len))
		return -EINVAL;
	bar_read_locked(fn, bar, offset, buf, len);
	return 0;
}

int uiommu_function_bar_read(struct uiommu_function *fn, unsigned bar, uint64_t offset, void *buf,
			     size_t len)
{
	int error = 0;

	if (!bar_inside(fn, bar, offset, len))
		return -EINVAL;
	function_lock(fn);
	if (config_decodes_memory(fn)) {
		bar_read_locked(fn, bar, offset, buf, len);
	} else {
		/* Nobody answers on the bus. */
		memset(buf, 0xff, len);
		error = -EIO;
	}
	function_unlock(fn);
	return error;
}

static void bar_write_locked(struct uiommu_function *fn, unsigned bar, uint64_t offset,
			     const uint8_t *buf, size_t len)
{
	if (fn->model->write_block && (len == 16 || len == 32 || len == 64) &&
	    !(offset & (len - 1)) && !msix_owns(fn, bar, offset)) {
		fn->model->write_block(fn, bar, offset, buf, (unsigned)len);
		return;
	}
	while (len) {
		unsigned n = bar_piece(offset, len);
		uint64_t value = 0;

		memcpy(&value, buf, n);
		value = le64toh(value);
		if (msix_owns(fn, bar, offset))
			msix_write(fn, offset, n, value);
		else
			fn->model->bar_write(fn, bar, offset, n, value);
		offset += n;
		buf += n;
		len -= n;
	}
}

/* A write that the model takes without the lock. */
static bool bar_posted(struct uiommu_function *fn, unsigned bar, uint64_t offset, const void *buf,
		       size_t len)
{
	uint64_t value = 0;

	if (!fn->model->bar_post || len > 8 || !reg_single(offset, (unsigned)len) ||
	    msix_owns(fn, bar, offset) || !__atomic_load_n(&fn->decodes, __ATOMIC_RELAXED))
		return false;
	memcpy(&value, buf, len);
	if (!fn->model->bar_post(fn, bar, offset, (unsigned)len, le64toh(value)))
		return false;
	uiommu_function_post(fn);
	return true;
}

int bar_write_under_lock(struct uiommu_function *fn, unsigned bar, uint64_t offset, const void *buf,
			 size_t len)
{
	if (!bar_inside(fn, bar, offset, len))
		return -EINVAL;
	bar_write_locked(fn, bar, offset, buf, len);
	return 0;
}

int uiommu_function_bar_write(struct uiommu_function *fn, unsigned bar, uint64_t offset,
			      const void *buf, size_t len)
{
	int error = 0;

	if (!bar_inside(fn, bar, offset, len))
		return -EINVAL;
	if (bar_posted(fn, bar, offset, buf, len))
		return 0;
	function_lock(fn);
	if (config_decodes_memory(fn))
		bar_write_locked(fn, bar, offset, buf, len);
	else
		error = -EIO;
	function_unlock(fn);
	return error;
}
