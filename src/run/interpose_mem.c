/* SPDX-License-Identifier: MIT */
/*
 * Owns libc's names that change mappings. Only ranges with a mapped BAR in them, and descriptors
 * that are device files, get more than libc's own function.
 */
#include <stdarg.h>

#include "run/bars.h"
#include "run/files.h"
#include "run/interpose.h"
#include "run/privcmd.h"
#include "run/state.h"

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	struct run_file *file = NULL;
	void *at;

	if (fd >= 0 && !(flags & MAP_ANONYMOUS) && state_peek())
		file = files_get(fd, NULL);
	if (file) {
		if (files_which(file) == FILES_PRIVCMD)
			at = privcmd_mmap(addr, len, prot, flags);
		else
			at = bars_mmap(file, addr, len, prot, flags, (uint64_t)offset);
		files_put(file);
		return at;
	}
	if (flags & MAP_FIXED)
		privcmd_unmapped(addr, len);
	if (flags & MAP_FIXED && bars_touch(addr, len))
		return bars_mmap_over(addr, len, prot, flags, fd, offset);
	return REAL(mmap)(addr, len, prot, flags, fd, offset);
}

EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
{
	return mmap(addr, len, prot, flags, fd, offset);
}

EXPORT int munmap(void *addr, size_t len)
{
	privcmd_unmapped(addr, len);
	if (bars_touch(addr, len))
		return bars_munmap(addr, len);
	return REAL(munmap)(addr, len);
}

EXPORT int mprotect(void *addr, size_t len, int prot)
{
	if (bars_touch(addr, len))
		return bars_mprotect(addr, len, prot);
	return REAL(mprotect)(addr, len, prot);
}

EXPORT void *mremap(void *addr, size_t len, size_t new_len, int flags, ...)
{
	va_list args;
	void *to;

	va_start(args, flags);
	to = va_arg(args, void *);
	va_end(args);
	/* A length of 0 asks for a second mapping of the same. */
	if (bars_touch(addr, len ? len : 1) || (flags & MREMAP_FIXED && bars_touch(to, new_len)))
		return bars_mremap(addr, len, new_len, flags, to);
	return REAL(mremap)(addr, len, new_len, flags, to);
}
