/* SPDX-License-Identifier: MIT */
/*
 * Looks up what the runner hides, and answers for those calls of the library beneath that would
 * otherwise end in the runner's own wrappers: the runner is linked with --wrap for them (see
 * meson.build), so that the engine's close() is the kernel's and its memory files live at high,
 * protected numbers. No state. real_symbol() cannot fail; the wrappers fail as the system calls do.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/eventfd.h>

#include "run/fds.h"
#include "run/real.h"

static long missing(void)
{
	errno = ENOSYS;
	return -1;
}

void *real_symbol(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	return found ? found : (void *)missing;
}

int real_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return REAL(sigaction)(sig, act, old);
}

int real_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	/* The kernel's set is 64 bits long. */
	return (int)syscall(SYS_rt_sigprocmask, how, set, old, 8);
}

void real_block_signals(sigset_t *saved)
{
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	real_sigmask(SIG_BLOCK, &all, saved);
}

void real_restore_signals(const sigset_t *saved)
{
	real_sigmask(SIG_SETMASK, saved, NULL);
}

/* With 64-bit file offsets, which are all there are on x86-64, headers send calls to these names.
 */
#define SAME_AS(name) __attribute__((alias(name)))

/* ---- what the engine calls ----------------------------------------------------------------- */

int __wrap_close(int fd);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...) SAME_AS("__wrap_open");
int __wrap_dup(int fd);
int __wrap_fcntl(int fd, int cmd, ...);
int __wrap_fcntl64(int fd, int cmd, ...) SAME_AS("__wrap_fcntl");
ssize_t __wrap_read(int fd, void *buf, size_t len);
ssize_t __wrap_write(int fd, const void *buf, size_t len);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
	SAME_AS("__wrap_mmap");
int __wrap_munmap(void *addr, size_t len);
int __wrap_mprotect(void *addr, size_t len, int prot);
void *__wrap_mremap(void *addr, size_t len, size_t new_len, int flags, ...);
int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_eventfd(unsigned value, int flags);
int __wrap_fstat(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st) SAME_AS("__wrap_fstat");
ssize_t __wrap_readlink(const char *path, char *buf, size_t len);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);

int __wrap_close(int fd)
{
	return fds_close(fd);
}

int __wrap_open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = (mode_t)va_arg(args, int);
	va_end(args);
	return fds_keep(real_open(path, flags, mode));
}

int __wrap_dup(int fd)
{
	return fds_keep(real_fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

int __wrap_fcntl(int fd, int cmd, ...)
{
	va_list args;
	unsigned long arg;
	int ret;

	va_start(args, cmd);
	arg = va_arg(args, unsigned long);
	va_end(args);
	ret = real_fcntl(fd, cmd, arg);
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? fds_keep(ret) : ret;
}

ssize_t __wrap_read(int fd, void *buf, size_t len)
{
	return real_read(fd, buf, len);
}

ssize_t __wrap_write(int fd, const void *buf, size_t len)
{
	return real_write(fd, buf, len);
}

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return real_mmap(addr, len, prot, flags, fd, offset);
}

int __wrap_munmap(void *addr, size_t len)
{
	return real_munmap(addr, len);
}

int __wrap_mprotect(void *addr, size_t len, int prot)
{
	return real_mprotect(addr, len, prot);
}

/* Never to a place that is said. */
void *__wrap_mremap(void *addr, size_t len, size_t new_len, int flags, ...)
{
	return (void *)syscall(SYS_mremap, addr, len, new_len, flags & ~MREMAP_FIXED, NULL);
}

int __wrap_memfd_create(const char *name, unsigned flags)
{
	return fds_keep((int)syscall(SYS_memfd_create, name, flags));
}

int __wrap_eventfd(unsigned value, int flags)
{
	return fds_keep((int)syscall(SYS_eventfd2, value, flags));
}

int __wrap_fstat(int fd, struct stat *st)
{
	return real_fstat(fd, st);
}

ssize_t __wrap_readlink(const char *path, char *buf, size_t len)
{
	return real_readlink(path, buf, len);
}

int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	return real_sigmask(how, set, old) ? errno : 0;
}
