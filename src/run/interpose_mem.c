/* SPDX-License-Identifier: MIT */
/*
 * Owns libc's names that change mappings. Only ranges near a mapped BAR, and descriptors that are
 * device files, get more than libc's own function.
 */
#include <stdarg.h>

#include "run/bars.h"
#include "run/files.h"
#include "run/interpose.h"
#include "run/state.h"

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	struct run_file *file = NULL;
	void *at;

	if (fd >= 0 && !(flags & MAP_ANONYMOUS) && state_peek())
		file = files_get(fd, NULL);
	if (file) {
		at = bars_mmap(file, addr, len, prot, flags, (uint64_t)offset);
		files_put(file);
		return at;
	}
	at = REAL(mmap)(addr, len, prot, flags, fd, offset);
	if (at != MAP_FAILED && flags & MAP_FIXED && bars_near(at, len))
		bars_gone(at, len);
	return at;
}

EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
{
	return mmap(addr, len, prot, flags, fd, offset);
}

EXPORT int munmap(void *addr, size_t len)
{
	int ret = REAL(munmap)(addr, len);

	if (!ret && bars_near(addr, len))
		bars_gone(addr, len);
	return ret;
}

EXPORT int mprotect(void *addr, size_t len, int prot)
{
	if (len && bars_near(addr, len))
		return bars_mprotect(addr, len, prot);
	return REAL(mprotect)(addr, len, prot);
}

EXPORT void *mremap(void *addr, size_t len, size_t new_len, int flags, ...)
{
	va_list args;
	void *to, *at;

	va_start(args, flags);
	to = va_arg(args, void *);
	va_end(args);
	if (len && bars_near(addr, len))
		return bars_mremap(addr, len, new_len, flags, to);
	at = REAL(mremap)(addr, len, new_len, flags, to);
	if (at != MAP_FAILED && flags & MREMAP_FIXED && bars_near(at, new_len))
		bars_gone(at, new_len);
	return at;
}
