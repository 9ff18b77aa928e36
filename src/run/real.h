/* SPDX-License-Identifier: MIT */
/*
 * The way from the runner's own code to the system, past the names that the runner itself takes
 * over. Nothing in src/run but the interpose_*.c files may call a name that they define; a test
 * holds that. Most are plain system calls: they need no symbol look-up and are safe in a signal
 * handler. They return -1 and set errno, as libc's do.
 */
#ifndef RUN_REAL_H
#define RUN_REAL_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The next definition of a libc function after ours; one that fails with ENOSYS if there is none.
 */
void *real_symbol(const char *name);

/* libc's own function of that name, looked up once at each place of use. */
#define REAL(name)                                                                             \
	({                                                                                     \
		static __typeof__(&name) cached_##name;                                        \
		__typeof__(&name) real_fn = __atomic_load_n(&cached_##name, __ATOMIC_RELAXED); \
                                                                                               \
		if (!real_fn) {                                                                \
			real_fn = (__typeof__(&name))real_symbol(#name);                       \
			__atomic_store_n(&cached_##name, real_fn, __ATOMIC_RELAXED);           \
		}                                                                              \
		real_fn;                                                                       \
	})

static inline int real_open(const char *path, int flags, mode_t mode)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static inline int real_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

static inline off_t real_lseek(int fd, off_t offset, int whence)
{
	return (off_t)syscall(SYS_lseek, fd, offset, whence);
}

static inline int real_fcntl(int fd, int cmd, unsigned long arg)
{
	return (int)syscall(SYS_fcntl, fd, cmd, arg);
}

static inline int real_dup3(int from, int to, int flags)
{
	return (int)syscall(SYS_dup3, from, to, flags);
}

static inline ssize_t real_read(int fd, void *buf, size_t len)
{
	return (ssize_t)syscall(SYS_read, fd, buf, len);
}

static inline ssize_t real_write(int fd, const void *buf, size_t len)
{
	return (ssize_t)syscall(SYS_write, fd, buf, len);
}

static inline ssize_t real_readlink(const char *path, char *buf, size_t len)
{
	return (ssize_t)syscall(SYS_readlinkat, AT_FDCWD, path, buf, len);
}

static inline int real_stat(const char *path, struct stat *st)
{
	return (int)syscall(SYS_newfstatat, AT_FDCWD, path, st, 0);
}

static inline int real_fstat(int fd, struct stat *st)
{
	return (int)syscall(SYS_fstat, fd, st);
}

/* An entry as getdents64(2) gives it. */
struct run_dirent {
	unsigned long long inode, offset;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

static inline long real_getdents(int fd, void *buf, size_t len)
{
	return syscall(SYS_getdents64, fd, buf, len);
}

static inline void *real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}

static inline int real_munmap(void *addr, size_t len)
{
	return (int)syscall(SYS_munmap, addr, len);
}

static inline int real_mprotect(void *addr, size_t len, int prot)
{
	return (int)syscall(SYS_mprotect, addr, len, prot);
}

/* The kernel's disposition and mask, whatever the program has been told. */
int real_sigaction(int sig, const struct sigaction *act, struct sigaction *old);
int real_sigmask(int how, const sigset_t *set, sigset_t *old);

/* Keep the program's signal handlers off while this thread holds locks that a trapped access, or
 * another request, made by such a handler would wait for. Faults stay deliverable. */
void real_block_signals(sigset_t *saved);
void real_restore_signals(const sigset_t *saved);

#endif
