/* SPDX-License-Identifier: MIT */
/*
 * Owns two sets of descriptor numbers: those protected from the program, and those that may be VFIO
 * files of ours. Bits are set and cleared atomically; there are no locks, so all of it may be used
 * in signal handlers and across fork(). Only fds_keep() can fail, as the system call before it did.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "run/fds.h"
#include "run/real.h"

#define WORDS (RUN_FDS_MAX / 64)

static uint64_t protected_set[WORDS];
static uint64_t hint_set[WORDS];

static void set_bit(uint64_t *set, int fd, bool on)
{
	uint64_t bit = UINT64_C(1) << (fd & 63);

	if (fd < 0 || fd >= RUN_FDS_MAX)
		return;
	if (on)
		__atomic_fetch_or(&set[fd / 64], bit, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&set[fd / 64], ~bit, __ATOMIC_RELAXED);
}

static bool test_bit(const uint64_t *set, int fd)
{
	if (fd < 0 || fd >= RUN_FDS_MAX)
		return false;
	return __atomic_load_n(&set[fd / 64], __ATOMIC_RELAXED) >> (fd & 63) & 1;
}

static int next_bit(const uint64_t *set, unsigned from)
{
	unsigned word = from / 64;
	uint64_t bits;

	if (from >= RUN_FDS_MAX)
		return -1;
	bits = __atomic_load_n(&set[word], __ATOMIC_RELAXED) & ~UINT64_C(0) << (from & 63);
	while (!bits) {
		if (++word == WORDS)
			return -1;
		bits = __atomic_load_n(&set[word], __ATOMIC_RELAXED);
	}
	return (int)(word * 64 + (unsigned)__builtin_ctzll(bits));
}

/* Half of what the program may open stays below. */
static unsigned long first_number(void)
{
	struct rlimit limit;

	if (syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) || limit.rlim_cur < 128)
		return 64;
	return limit.rlim_cur / 2 < RUN_FDS_MAX / 2 ? limit.rlim_cur / 2 : RUN_FDS_MAX / 2;
}

int fds_keep(int fd)
{
	int saved, high;

	if (fd < 0)
		return fd;
	saved = errno;
	high = real_fcntl(fd, F_DUPFD_CLOEXEC, first_number());
	if (high >= 0)
		real_close(fd);
	else
		high = fd;
	set_bit(protected_set, high, true);
	errno = saved;
	return high;
}

void fds_protect(int fd)
{
	set_bit(protected_set, fd, true);
}

int fds_close(int fd)
{
	set_bit(protected_set, fd, false);
	return real_close(fd);
}

bool fds_protected(int fd)
{
	return test_bit(protected_set, fd);
}

int fds_next_protected(unsigned from)
{
	return next_bit(protected_set, from);
}

void fds_set_hint(int fd, bool hint)
{
	set_bit(hint_set, fd, hint);
}

bool fds_hint(int fd)
{
	return test_bit(hint_set, fd);
}

int fds_next_hint(unsigned from)
{
	return next_bit(hint_set, from);
}

static void each_hinted(void (*each)(void *ctx, int fd), void *ctx)
{
	for (int fd = next_bit(hint_set, 0); fd >= 0; fd = next_bit(hint_set, (unsigned)fd + 1))
		each(ctx, fd);
}

void fds_each(void (*each)(void *ctx, int fd), void *ctx)
{
	_Alignas(struct run_dirent) char buf[1024];
	int dir = real_open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	long len;

	if (dir < 0) {
		each_hinted(each, ctx);
		return;
	}
	while ((len = real_getdents(dir, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < len;) {
			struct run_dirent *entry = (struct run_dirent *)(buf + at);
			int fd = entry->name[0] == '.' ? -1 : atoi(entry->name);

			if (fd >= 0 && fd != dir)
				each(ctx, fd);
			at += entry->reclen;
		}
	}
	real_close(dir);
}
