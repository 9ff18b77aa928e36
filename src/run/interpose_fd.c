/* SPDX-License-Identifier: MIT */
/*
 * Owns libc's names that deal in descriptors: closing, duplicating, ioctl(), reading and writing.
 * For descriptors that aren't ours each is libc's own function after at most one lseek(); while
 * the process has no machine, not even that. The runner's own descriptors can't be reached: closing
 * one is EBADF, as if it weren't there.
 */
#include <linux/close_range.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <uiommu/linux/iommufd.h>

#include "run/defer.h"
#include "run/fds.h"
#include "run/files.h"
#include "run/interpose.h"
#include "run/kvm.h"
#include "run/privcmd.h"
#include "run/report.h"
#include "run/state.h"

int __close(int fd);
int fcntl64(int fd, int cmd, ...);
ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __pread_chk(int fd, void *buf, size_t len, off_t offset, size_t size);
ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t offset, size_t size);
void __chk_fail(void) __attribute__((noreturn));

/* ---- closing ------------------------------------------------------------------------------- */

struct run_file *interpose_closing(int fd)
{
	struct run_file *file;

	if (!fds_hint(fd) || !state_mine())
		return NULL;
	file = files_get(fd, NULL);
	fds_set_hint(fd, false);
	return file;
}

void interpose_closed(struct run_file *file)
{
	if (!file)
		return;
	files_closed(file);
	files_put(file);
}

EXPORT int close(int fd)
{
	struct run_file *file;
	int ret;

	if (fds_protected(fd)) {
		errno = EBADF;
		return -1;
	}
	file = interpose_closing(fd);
	ret = REAL(close)(fd);
	interpose_closed(file);
	return ret;
}

EXPORT int __close(int fd)
{
	return close(fd);
}

EXPORT int fclose(FILE *stream)
{
	struct run_file *file = stream ? interpose_closing(fileno(stream)) : NULL;
	int ret = REAL(fclose)(stream);

	interpose_closed(file);
	return ret;
}

/* Close [first, last], in which none of the runner's own descriptors lies. */
static int close_piece(unsigned first, unsigned last, int flags)
{
	struct run_file *file;
	int ret, fd = fds_next_hint(first);

	if (flags & (int)CLOSE_RANGE_CLOEXEC || fd < 0 || (unsigned)fd > last)
		return (int)syscall(SYS_close_range, first, last, flags);
	/* One of ours is in the way: close what is below it, itself, and go on behind it. */
	ret = (unsigned)fd > first ? (int)syscall(SYS_close_range, first, fd - 1, flags) : 0;
	if (ret)
		return ret;
	file = interpose_closing(fd);
	real_close(fd);
	interpose_closed(file);
	return (unsigned)fd == last ? 0 : close_piece((unsigned)fd + 1, last, flags);
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	if (first > last || (unsigned)flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC))
		return (int)syscall(SYS_close_range, first, last, flags);
	for (;;) {
		int kept = fds_next_protected(first);
		int ret;

		if (kept < 0 || (unsigned)kept > last)
			return close_piece(first, last, flags);
		ret = (unsigned)kept > first ? close_piece(first, (unsigned)kept - 1, flags) : 0;
		if (ret || (unsigned)kept == last)
			return ret;
		first = (unsigned)kept + 1;
	}
}

/* For kernels without close_range(2). */
static void close_from(void *ctx, int fd)
{
	if (fd >= *(int *)ctx)
		close(fd);
}

EXPORT void closefrom(int lowest)
{
	int saved = errno;

	if (lowest < 0)
		lowest = 0;
	if (close_range((unsigned)lowest, UINT_MAX, 0))
		fds_each(close_from, &lowest);
	errno = saved;
}

/* ---- duplicating --------------------------------------------------------------------------- */

static int duplicated(int from, int to)
{
	/* A child of vfork() has its own descriptors, but not its own memory. */
	if (to >= 0 && state_mine())
		fds_set_hint(to, fds_hint(from));
	return to;
}

EXPORT int dup(int fd)
{
	return duplicated(fd, REAL(dup)(fd));
}

/* @to is closed by the way; a number that the runner uses is out of range. */
static int dup_onto(int from, int to, int flags, bool three)
{
	struct run_file *file;
	int ret;

	if (fds_protected(to)) {
		errno = EBADF;
		return -1;
	}
	if (from == to)
		return three ? REAL(dup3)(from, to, flags) : REAL(dup2)(from, to);
	file = interpose_closing(to);
	ret = three ? REAL(dup3)(from, to, flags) : REAL(dup2)(from, to);
	if (ret < 0 && file)
		fds_set_hint(to, true);
	else
		duplicated(from, ret);
	interpose_closed(file);
	return ret;
}

EXPORT int dup2(int from, int to)
{
	return dup_onto(from, to, 0, false);
}

EXPORT int dup3(int from, int to, int flags)
{
	return dup_onto(from, to, flags, true);
}

EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list args;
	void *arg;
	int ret;

	va_start(args, cmd);
	arg = va_arg(args, void *);
	va_end(args);
	ret = REAL(fcntl)(fd, cmd, arg);
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? duplicated(fd, ret) : ret;
}

EXPORT int fcntl64(int fd, int cmd, ...)
{
	va_list args;
	void *arg;
	int ret;

	va_start(args, cmd);
	arg = va_arg(args, void *);
	va_end(args);
	ret = REAL(fcntl64)(fd, cmd, arg);
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? duplicated(fd, ret) : ret;
}

/* Descriptors that arrive over a socket: the lseek() behind files_get() leaves the hint. */
EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t ret = REAL(recvmsg)(fd, msg, flags);

	if (ret < 0 || !state_peek())
		return ret;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			struct run_file *file = files_get(((int *)CMSG_DATA(c))[i], NULL);

			if (file)
				files_put(file);
		}
	}
	return ret;
}

/* ---- requests ------------------------------------------------------------------------------ */

static long carry_out(struct run_file *file, unsigned op, unsigned long arg)
{
	long ret;

	state_peek()->used = true;
	report_before_request(op);
	files_request_begin();
	ret = uiommu_vfio_ioctl(files_vfio(file), op, arg);
	files_request_end();
	return ret;
}

/* The locks of a request must not be held when a handler of the program's makes another. Mapping
 * and unmapping come in hundreds of thousands, and no system call on their way minds being
 * interrupted. */
static long request(struct run_file *file, unsigned op, unsigned long arg)
{
	sigset_t saved;
	long ret;

	if (op == VFIO_IOMMU_MAP_DMA || op == VFIO_IOMMU_UNMAP_DMA || op == IOMMU_IOAS_MAP ||
	    op == IOMMU_IOAS_UNMAP) {
		ret = carry_out(file, op, arg);
	} else {
		real_block_signals(&saved);
		ret = carry_out(file, op, arg);
		real_restore_signals(&saved);
	}
	return ret;
}

/* As libc gives what the kernel does. */
static int returned(long ret)
{
	if (ret >= 0)
		return (int)ret;
	errno = (int)-ret;
	return -1;
}

/* Everything that is no VFIO request. */
static int other_request(int fd, unsigned long op, unsigned long arg)
{
	char room[KVM_ROOM];
	struct run_file *file;
	sigset_t saved;
	long result;
	int ret;

	if (privcmd_concerned(op) && (file = files_get(fd, NULL))) {
		result = -ENOTTY;
		if (files_which(file) == FILES_PRIVCMD) {
			real_block_signals(&saved);
			result = privcmd_ioctl(op, arg);
			real_restore_signals(&saved);
		}
		files_put(file);
		return returned(result);
	}
	if (kvm_concerned(op) && state_peek() && kvm_request(op, &arg, room, &ret))
		return ret;
	return REAL(ioctl)(fd, op, arg);
}

/* The locks are held by the code that the handler has interrupted. */
static int refuse_nested(void)
{
	static bool told;

	if (!__atomic_exchange_n(&told, true, __ATOMIC_RELAXED))
		report_line("a signal handler that was not set through libc makes a request in the "
			    "middle of another: refused with EDEADLK, as will be others");
	errno = EDEADLK;
	return -1;
}

EXPORT int ioctl(int fd, unsigned long op, ...)
{
	struct run_file *file;
	unsigned long arg;
	bool foreign;
	va_list args;
	long ret = 0;

	va_start(args, op);
	arg = va_arg(args, unsigned long);
	va_end(args);
	if (_IOC_TYPE(op) != VFIO_TYPE)
		return other_request(fd, op, arg);
	if (defer_inside())
		return refuse_nested();
	defer_begin();
	file = files_get(fd, &foreign);
	if (file) {
		/* The kernel looks at 32 bits of it. */
		ret = files_vfio(file) ? request(file, (unsigned)op, arg) : -ENOTTY;
		files_put(file);
	}
	defer_end();
	if (file)
		return returned(ret);
	if (!foreign)
		return REAL(ioctl)(fd, op, arg);
	report_foreign(fd);
	errno = ENODEV;
	return -1;
}

/* ---- reading and writing ------------------------------------------------------------------- */

/* Where a transfer goes. */
struct transfer {
	bool write;
	bool at_position; /* the file's own, which moves */
	uint64_t offset;
};

static ssize_t transfer_one(struct run_file *file, const struct transfer *how, uint64_t offset,
			    void *buf, size_t len)
{
	sigset_t saved;
	ssize_t ret;

	if (!files_vfio(file))
		return -EINVAL;
	state_peek()->used = true;
	real_block_signals(&saved);
	if (how->write)
		ret = uiommu_vfio_pwrite(files_vfio(file), buf, len, offset);
	else
		ret = uiommu_vfio_pread(files_vfio(file), buf, len, offset);
	real_restore_signals(&saved);
	return ret;
}

/* As the kernel does for files without vectored operations: one piece after the other, and the
 * error of the first piece only. */
static ssize_t transfer(struct run_file *file, const struct transfer *how, const struct iovec *iov,
			int count)
{
	uint64_t offset = how->at_position ? files_position(file) : how->offset;
	ssize_t total = 0, ret = 0;

	for (int i = 0; i < count; i++) {
		ret = transfer_one(file, how, offset + (uint64_t)total, iov[i].iov_base,
				   iov[i].iov_len);
		if (ret < 0)
			break;
		total += ret;
		if ((size_t)ret < iov[i].iov_len)
			break;
	}
	if (how->at_position)
		files_advance(file, (uint64_t)total);
	files_put(file);
	if (!total && ret < 0) {
		errno = (int)-ret;
		return -1;
	}
	return total;
}

static ssize_t transfer_buf(struct run_file *file, const struct transfer *how, const void *buf,
			    size_t len)
{
	struct iovec iov = {(void *)buf, len};

	return transfer(file, how, &iov, 1);
}

/* Positioned transfers ask the descriptor itself; the plain ones, which every program does all the
 * time, only where there is a hint. */
static struct run_file *positioned(int fd)
{
	return state_peek() ? files_get(fd, NULL) : NULL;
}

static struct run_file *hinted(int fd)
{
	return fds_hint(fd) ? files_get(fd, NULL) : NULL;
}

#define READ_AT(where)	(&(struct transfer){.offset = (uint64_t)(where)})
#define WRITE_AT(where) (&(struct transfer){.write = true, .offset = (uint64_t)(where)})
#define HERE(is_write)	(&(struct transfer){.write = (is_write), .at_position = true})

EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t offset)
{
	struct run_file *file = positioned(fd);

	return file ? transfer_buf(file, READ_AT(offset), buf, len)
		    : REAL(pread)(fd, buf, len, offset);
}

EXPORT ssize_t pread64(int fd, void *buf, size_t len, off64_t offset)
{
	return pread(fd, buf, len, offset);
}

EXPORT ssize_t __pread_chk(int fd, void *buf, size_t len, off_t offset, size_t size)
{
	if (len > size)
		__chk_fail();
	return pread(fd, buf, len, offset);
}

EXPORT ssize_t __pread64_chk(int fd, void *buf, size_t len, off64_t offset, size_t size)
{
	return __pread_chk(fd, buf, len, offset, size);
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)
{
	struct run_file *file = positioned(fd);

	return file ? transfer_buf(file, WRITE_AT(offset), buf, len)
		    : REAL(pwrite)(fd, buf, len, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t offset)
{
	return pwrite(fd, buf, len, offset);
}

EXPORT ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
	struct run_file *file = positioned(fd);

	return file ? transfer(file, READ_AT(offset), iov, count)
		    : REAL(preadv)(fd, iov, count, offset);
}

EXPORT ssize_t preadv64(int fd, const struct iovec *iov, int count, off64_t offset)
{
	return preadv(fd, iov, count, offset);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
	struct run_file *file = positioned(fd);

	return file ? transfer(file, WRITE_AT(offset), iov, count)
		    : REAL(pwritev)(fd, iov, count, offset);
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset)
{
	return pwritev(fd, iov, count, offset);
}

EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	struct run_file *file = positioned(fd);

	if (!file)
		return REAL(preadv2)(fd, iov, count, offset, flags);
	return transfer(file, offset == -1 ? HERE(false) : READ_AT(offset), iov, count);
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	struct run_file *file = positioned(fd);

	if (!file)
		return REAL(pwritev2)(fd, iov, count, offset, flags);
	return transfer(file, offset == -1 ? HERE(true) : WRITE_AT(offset), iov, count);
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
	struct run_file *file = hinted(fd);

	return file ? transfer_buf(file, HERE(false), buf, len) : REAL(read)(fd, buf, len);
}

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
	if (len > size)
		__chk_fail();
	return read(fd, buf, len);
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
	struct run_file *file = hinted(fd);

	return file ? transfer_buf(file, HERE(true), buf, len) : REAL(write)(fd, buf, len);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count)
{
	struct run_file *file = hinted(fd);

	return file ? transfer(file, HERE(false), iov, count) : REAL(readv)(fd, iov, count);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count)
{
	struct run_file *file = hinted(fd);

	return file ? transfer(file, HERE(true), iov, count) : REAL(writev)(fd, iov, count);
}

/* VFIO's files can't seek, and the kernel's idea of their position is our mark. */
EXPORT off_t lseek(int fd, off_t offset, int whence)
{
	struct run_file *file = hinted(fd);

	if (!file)
		return REAL(lseek)(fd, offset, whence);
	files_put(file);
	errno = ESPIPE;
	return -1;
}

EXPORT off64_t lseek64(int fd, off64_t offset, int whence)
{
	return lseek(fd, offset, whence);
}
