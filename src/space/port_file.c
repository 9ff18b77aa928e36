/* SPDX-License-Identifier: MIT */
/*
 * DMA between files and memory. Owns nothing: state is the caller's, a cursor over its ranges.
 *
 * The fast way translates a piece inside an access section and has the kernel move the bytes there
 * (preadv2, pwritev2); unmap waits for the section, so a read asks not to wait for a disk. Whatever
 * is left over (not in the page cache, memory that is gone or not to be lent, a doorbell in
 * between) goes the slow way through the bounce buffer, where the port's copies find out what is
 * wrong. So only the slow way, and a fault of the very first byte, ends in an error of memory's.
 *
 * System calls are made past libc: under `uiommu run` its names are the runner's. Its errno stays.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "space/space.h"

#define MOST_VECTORS 64
#define PAGE	     UINT64_C(4096)

/* In uiommu_file.learned: RWF_NOWAIT is not to be had. */
#define NO_NOWAIT_READ	1
#define NO_NOWAIT_WRITE 2
/* Nor RWF_DSYNC. */
#define NO_DSYNC 4

/* Where in the ranges we are: @used bytes of the first of @count are done. */
struct cursor {
	const struct uiommu_sg *sg;
	size_t count;
	uint64_t used;
};

static void cursor_skip(struct cursor *at, uint64_t bytes)
{
	while (at->count && bytes >= at->sg->len - at->used) {
		bytes -= at->sg->len - at->used;
		at->used = 0;
		at->sg++;
		at->count--;
	}
	at->used += bytes;
}

/* ---- system calls ---- */

static ssize_t file_call(long number, const struct uiommu_file *file, const struct iovec *iov,
			 size_t count, uint64_t offset, int flags)
{
	int saved = errno;
	ssize_t n;

	/* The offset is given as two halves; where a long has 64 bits, the first one is all. */
	do
		n = syscall(number, file->fd, iov, count, (long)offset, (long)(offset >> 32),
			    flags);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		n = -errno;
	errno = saved;
	return n;
}

/* Some of it, or -errno. Without RWF_DSYNC the whole file is synchronised. */
static ssize_t write_through(struct uiommu_file *file, const struct iovec *iov, uint64_t offset)
{
	ssize_t n = -EOPNOTSUPP;
	int saved = errno;

	if (!(file->learned & NO_DSYNC))
		n = file_call(SYS_pwritev2, file, iov, 1, offset, RWF_DSYNC);
	if (n != -EOPNOTSUPP && n != -EINVAL)
		return n;
	file->learned |= NO_DSYNC;
	n = file_call(SYS_pwritev2, file, iov, 1, offset, 0);
	if (n > 0 && syscall(SYS_fdatasync, file->fd))
		n = -errno;
	errno = saved;
	return n;
}

/* ---- the fast way ---- */

/* Translate at most @most bytes from the cursor on. Inside a section. The reason why there is
 * nothing at the first byte goes to *reason. */
static size_t lend_pieces(struct uiommu_port *port, struct cursor at, uint64_t most, int access,
			  struct iovec *iov, size_t *count, enum uiommu_fault_reason *reason)
{
	const struct uiommu_memory *memory = &port->unit->memory;
	void *(*lend)(void *, uint64_t, uint64_t) =
		memory->ops->lend ? memory->ops->lend : memory->ops->direct;
	uint64_t total = 0;

	*count = 0;
	*reason = UIOMMU_FAULT_NONE;
	while (lend && total < most && at.count && *count < MOST_VECTORS) {
		uint64_t iova = at.sg->iova + at.used, piece = at.sg->len - at.used, addr = 0;
		enum uiommu_fault_reason why;
		void *ptr;

		if (piece > most - total)
			piece = most - total;
		why = iova < at.used ? UIOMMU_FAULT_BEYOND
				     : port_translate_piece(port, iova, access, &addr, &piece);
		/* Doorbells are the slow way's. */
		if (!total && why != UIOMMU_FAULT_INTERRUPT && why != UIOMMU_FAULT_DOORBELL_READ)
			*reason = why;
		ptr = why ? NULL : lend(memory->ctx, addr, piece);
		if (!ptr)
			break;
		if (*count && (char *)iov[*count - 1].iov_base + iov[*count - 1].iov_len == ptr)
			iov[*count - 1].iov_len += piece;
		else
			iov[(*count)++] = (struct iovec){ptr, piece};
		total += piece;
		cursor_skip(&at, piece);
	}
	/* What stopped it further on is no fault yet, and may be gone when its turn comes. */
	if (total)
		port->stopped_by_stage1 = false;
	return total;
}

/* Which flags, or -1: not in a section. */
static int flags_for(const struct uiommu_file *file, int access)
{
	if (access == UIOMMU_READ)
		return file->learned & NO_NOWAIT_WRITE ? 0 : RWF_NOWAIT;
	if (!(file->learned & NO_NOWAIT_READ))
		return RWF_NOWAIT;
	return file->flags & UIOMMU_FILE_MEMORY ? 0 : -1;
}

/* Bytes moved, 0: the slow way for what comes next, or an error. */
static ssize_t move_directly(struct uiommu_port *port, const struct cursor *at,
			     struct uiommu_file *file, uint64_t offset, uint64_t most, int access)
{
	long number = access == UIOMMU_READ ? SYS_pwritev2 : SYS_preadv2;
	struct iovec iov[MOST_VECTORS];
	enum uiommu_fault_reason reason;
	size_t total, count;
	ssize_t n = 0;
	int flags = flags_for(file, access);

	if (flags < 0)
		return 0;
	port->can_wait = true;
	uiommu_port_enter_now(port);
	total = lend_pieces(port, *at, most, access, iov, &count, &reason);
	if (total) {
		n = file_call(number, file, iov, count, offset, flags);
		if (n == -EOPNOTSUPP && flags) {
			file->learned |= access == UIOMMU_READ ? NO_NOWAIT_WRITE : NO_NOWAIT_READ;
			flags = flags_for(file, access);
			n = flags < 0 ? 0 : file_call(number, file, iov, count, offset, flags);
		}
	}
	uiommu_port_leave_now(port);
	port->can_wait = false;
	if (reason && port_page_request(port, at->sg->iova + at->used, access, reason))
		return 0;
	if (reason)
		return port_fault(port, at->sg->iova + at->used, access, reason, 0);
	if (n == -EAGAIN || n == -EFAULT)
		return 0;
	if (n > 0)
		counter_add(access == UIOMMU_READ ? &port->counters.bytes_read
						  : &port->counters.bytes_written,
			    (uint64_t)n);
	return n;
}

/* ---- the slow way ---- */

static int copy_ranges(struct uiommu_port *port, struct cursor at, char *buf, size_t len,
		       int access)
{
	while (len && at.count) {
		size_t piece = at.sg->len - at.used < len ? at.sg->len - at.used : len;
		int ret = at.sg->iova + at.used < at.used
				  ? port_fault(port, 0, access, UIOMMU_FAULT_BEYOND, 0)
				  : port_access(port, at.sg->iova + at.used, buf, piece, access);

		if (ret)
			return ret;
		cursor_skip(&at, piece);
		buf += piece;
		len -= piece;
	}
	return len ? -EINVAL : 0;
}

static ssize_t move_bounced(struct uiommu_port *port, const struct cursor *at,
			    struct uiommu_file *file, uint64_t offset, size_t most, int access)
{
	size_t len = most < file->bounce_len ? most : file->bounce_len;
	struct iovec iov = {file->bounce, len};
	ssize_t n;
	int ret;

	if (access == UIOMMU_READ) {
		ret = copy_ranges(port, *at, file->bounce, len, access);
		if (ret)
			return ret;
		n = file->flags & UIOMMU_FILE_SYNC
			    ? write_through(file, &iov, offset)
			    : file_call(SYS_pwritev2, file, &iov, 1, offset, 0);
		return n ? n : -EIO;
	}
	n = file_call(SYS_preadv2, file, &iov, 1, offset, 0);
	if (n <= 0)
		return n ? n : -ENODATA;
	ret = copy_ranges(port, *at, file->bounce, (size_t)n, access);
	return ret ? ret : n;
}

/* Does writing wait for a disk by its nature: for the data to get there, or for the rest of a page
 * to come from there? */
static bool must_wait(const struct uiommu_file *file, uint64_t offset, size_t len)
{
	return !(file->flags & UIOMMU_FILE_MEMORY) &&
	       ((file->flags & UIOMMU_FILE_SYNC) || ((offset | len) & (PAGE - 1)));
}

static int move(struct uiommu_port *port, const struct uiommu_sg *sg, size_t count,
		struct uiommu_file *file, uint64_t offset, size_t len, int access)
{
	struct cursor at = {sg, count, 0};

	cursor_skip(&at, 0);
	while (len) {
		size_t most = len < SECTION_BYTES ? len : SECTION_BYTES;
		ssize_t n = 0;

		if (!at.count)
			return -EINVAL;
		if (access == UIOMMU_WRITE || !must_wait(file, offset, most))
			n = move_directly(port, &at, file, offset, most, access);
		if (!n)
			n = move_bounced(port, &at, file, offset, most, access);
		if (n < 0)
			return (int)n;
		cursor_skip(&at, (uint64_t)n);
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

UIOMMU_API int uiommu_port_from_file(struct uiommu_port *port, const struct uiommu_sg *sg,
				     size_t count, struct uiommu_file *file, uint64_t offset,
				     size_t len)
{
	counter_add(&port->counters.writes, 1);
	return move(port, sg, count, file, offset, len, UIOMMU_WRITE);
}

UIOMMU_API int uiommu_port_to_file(struct uiommu_port *port, const struct uiommu_sg *sg,
				   size_t count, struct uiommu_file *file, uint64_t offset,
				   size_t len)
{
	counter_add(&port->counters.reads, 1);
	return move(port, sg, count, file, offset, len, UIOMMU_READ);
}
