/* SPDX-License-Identifier: MIT */
/*
 * Owns nothing: asks /proc/self/maps which memory is mapped at an address. Shared memory is its
 * file, by device and inode (also what has no name: the kernel makes a file for it), and the offset
 * in it; private memory is nobody else's, so its address says which it is. No locks.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "run/identity.h"
#include "run/real.h"

/* One line, "first-end perms offset major:minor inode path": does it cover @addr? */
static bool covers(const char *line, uint64_t addr, struct uiommu_vfio_memory *memory)
{
	unsigned long long first, end, offset, inode;
	unsigned major, minor;
	char perms[8];

	if (sscanf(line, "%llx-%llx %7s %llx %x:%x %llu", &first, &end, perms, &offset, &major,
		   &minor, &inode) != 7 ||
	    addr < first || addr >= end)
		return false;
	*memory = (struct uiommu_vfio_memory){.offset = addr, .length = end - addr};
	if (perms[3] == 's') {
		memory->device = (uint64_t)major << 32 | minor;
		memory->file = inode;
		memory->offset = offset + (addr - first);
	}
	return true;
}

int identity_of(uint64_t addr, struct uiommu_vfio_memory *memory)
{
	int fd = real_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0), saved = errno;
	char text[8192];
	size_t used = 0;
	bool found = false;
	ssize_t len;

	while (fd >= 0 && !found &&
	       (len = real_read(fd, text + used, sizeof(text) - 1 - used)) > 0) {
		char *line = text, *end;

		used += (size_t)len;
		text[used] = '\0';
		for (; !found && (end = strchr(line, '\n')); line = end + 1) {
			*end = '\0';
			found = covers(line, addr, memory);
		}
		used -= (size_t)(line - text);
		memmove(text, line, used);
		if (used == sizeof(text) - 1)
			used = 0; /* no line is so long */
	}
	if (fd >= 0)
		real_close(fd);
	errno = saved;
	return found ? 0 : -EFAULT;
}
