/* SPDX-License-Identifier: MIT */
/*
 * What is behind the namespaces of an NVMe controller: files, or memory. Options that say so.
 *
 * Options come in order: file= and memory= each begin a namespace, to which the size=, block= and
 * readonly= that follow belong; the first one has those that come before it, too. A namespace is as
 * large as its file; size= makes the file if it isn't there, and otherwise has to agree with it.
 * Memory is a file, too, without a name, so that everything else is the same.
 *
 * Invariants: a file that was opened has its size checked against overflow, and is open for
 * writing unless the namespace is read only: because the option or the file's permissions say so.
 * Opening can fail and says why; closing cannot.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "device/models/nvme/nvme.h"
#include "util/alloc.h"

#define DEFAULT_SIZE (UINT64_C(64) << 20)

/* ---- options ----------------------------------------------------------------------------------
 */

const struct uiommu_model_option nvme_options[] = {
	{"file", "a namespace in this file or block device; may be given again",
	 UIOMMU_OPTION_PATH},
	{"memory", "a namespace of this size in memory; may be given again"},
	{"size", "how large the file before it is made if it isn't there, e.g. 1G"},
	{"block", "bytes of a block of the namespace before it: 512 (default) or 4096"},
	{"readonly", "on: the namespace before it is write-protected"},
	{"serial", "serial number, up to 20 characters (default: made of the address)"},
	{"queues", "I/O queue pairs, 1 to 64 (default 64)"},
	{NULL},
};

static int refuse(char *why, size_t why_len, const char *reason)
{
	snprintf(why, why_len, "%s", reason);
	return -EINVAL;
}

/* "4096", "64M", "1G". */
static bool parse_size(const char *text, uint64_t *size)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;

	errno = 0;
	*size = strtoull(text, &end, 0);
	if (*text < '0' || *text > '9' || errno)
		return false;
	unit = *end ? strchr(units, *end & ~0x20) : NULL;
	if (unit && *end) {
		unsigned shift = 10 * (unsigned)(unit - units + 1);

		if (*size > UINT64_MAX >> shift)
			return false;
		*size <<= shift;
		end++;
	}
	/* A file's offsets are signed. */
	return !*end && *size && *size <= INT64_MAX;
}

/* The namespace that an option belongs to; the first one is there by itself. */
static struct nvme_ns *current(struct nvme *n)
{
	if (!n->ns_count) {
		n->ns[0].file.fd = -1;
		n->ns_count = 1;
		n->ns_implied = true;
	}
	return &n->ns[n->ns_count - 1];
}

static struct nvme_ns *add_ns(struct nvme *n)
{
	struct nvme_ns *ns;

	if (n->ns_implied) {
		n->ns_implied = false;
		return &n->ns[0];
	}
	if (n->ns_count == NVME_NAMESPACES)
		return NULL;
	ns = &n->ns[n->ns_count++];
	ns->file.fd = -1;
	return ns;
}

static int take_file(struct nvme *n, const char *value, char *why, size_t why_len)
{
	size_t size = strlen(value) + 1;
	struct nvme_ns *ns;

	if (size == 1)
		return refuse(why, why_len, "the name of a file is wanted");
	ns = add_ns(n);
	if (!ns)
		return refuse(why, why_len, "there are 16 namespaces already");
	ns->path = uiommu_alloc(size);
	if (!ns->path) {
		snprintf(why, why_len, "out of memory");
		return -ENOMEM;
	}
	memcpy(ns->path, value, size);
	return 0;
}

static int take_size(struct nvme_ns *ns, const char *value, char *why, size_t why_len)
{
	if (!ns)
		return refuse(why, why_len, "there are 16 namespaces already");
	if (ns->sized)
		return refuse(why, why_len,
			      "the namespace has a size; file= or memory= begins another");
	if (!parse_size(value, &ns->size))
		return refuse(why, why_len, "a size like 64M or 1G is wanted");
	ns->sized = true;
	return 0;
}

static int take_block(struct nvme_ns *ns, const char *value, char *why, size_t why_len)
{
	if (!strcmp(value, "512"))
		ns->block_log = 9;
	else if (!strcmp(value, "4096"))
		ns->block_log = 12;
	else
		return refuse(why, why_len, "512 or 4096 is wanted");
	return 0;
}

static int take_serial(struct nvme *n, const char *value, char *why, size_t why_len)
{
	size_t len = strlen(value), i;

	for (i = 0; i < len; i++)
		if (value[i] < 0x20 || value[i] > 0x7e)
			break;
	if (!len || i < len || len > NVME_SERIAL)
		return refuse(why, why_len, "1 to 20 printable ASCII characters are wanted");
	snprintf(n->serial, sizeof(n->serial), "%s", value);
	return 0;
}

static int take_queues(struct nvme *n, const char *value, char *why, size_t why_len)
{
	char *end;
	unsigned long count = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || !count || count > NVME_IO_QUEUES)
		return refuse(why, why_len, "a number from 1 to 64 is wanted");
	n->io_queues = (unsigned)count;
	return 0;
}

int nvme_option(struct uiommu_function *fn, const char *key, const char *value, char *why,
		size_t why_len)
{
	struct nvme *n = uiommu_function_state(fn);

	if (!strcmp(key, "file"))
		return take_file(n, value, why, why_len);
	if (!strcmp(key, "memory"))
		return take_size(add_ns(n), value, why, why_len);
	if (!strcmp(key, "size"))
		return take_size(current(n), value, why, why_len);
	if (!strcmp(key, "block"))
		return take_block(current(n), value, why, why_len);
	if (!strcmp(key, "serial"))
		return take_serial(n, value, why, why_len);
	if (!strcmp(key, "queues"))
		return take_queues(n, value, why, why_len);
	if (strcmp(value, "on") && strcmp(value, "off"))
		return refuse(why, why_len, "on or off is wanted");
	current(n)->read_only = !strcmp(value, "on");
	return 0;
}

/* ---- opening -----------------------------------------------------------------------------------
 */

/* Say what is wrong with a file, and return @error. */
static int complain(struct nvme *n, const struct nvme_ns *ns, int error, const char *what)
{
	uiommu_function_explain(n->fn, "%s: %s", ns->path ? ns->path : "memory", what);
	return error;
}

static int open_memory(struct nvme *n, struct nvme_ns *ns)
{
	if (!ns->sized)
		ns->size = DEFAULT_SIZE;
	ns->file.fd = memfd_create("uiommu-nvme", MFD_CLOEXEC);
	if (ns->file.fd < 0)
		return complain(n, ns, -errno, strerror(errno));
	if (ftruncate(ns->file.fd, (off_t)ns->size))
		return complain(n, ns, -errno, strerror(errno));
	return 0;
}

/* A FIFO without a writer, or a terminal, is refused once it is open: opening must not wait. */
#define OPEN_FLAGS (O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

/* Make it, if it isn't there and its size is known. */
static int open_writable(struct nvme_ns *ns)
{
	int fd = open(ns->path, O_RDWR | OPEN_FLAGS);

	if (fd >= 0 || errno != ENOENT || !ns->sized)
		return fd;
	fd = open(ns->path, O_RDWR | OPEN_FLAGS | O_CREAT | O_EXCL, 0666);
	if (fd < 0)
		/* Someone else was faster. */
		return errno == EEXIST ? open(ns->path, O_RDWR | OPEN_FLAGS) : -1;
	ns->made = true;
	if (ftruncate(fd, (off_t)ns->size)) {
		int error = errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static int check_size(struct nvme *n, struct nvme_ns *ns)
{
	/* Past libc, whose name the runner has for itself. */
	off_t end = (off_t)syscall(SYS_lseek, ns->file.fd, 0, SEEK_END);
	char text[128];

	if (end < 0)
		return complain(n, ns, -EINVAL, "neither a file nor a block device");
	if (ns->sized && (uint64_t)end != ns->size) {
		snprintf(text, sizeof(text),
			 "it has %llu bytes already, not %llu: leave size= out, or resize it",
			 (unsigned long long)end, (unsigned long long)ns->size);
		return complain(n, ns, -EINVAL, text);
	}
	ns->size = (uint64_t)end;
	return 0;
}

static int open_file(struct nvme *n, struct nvme_ns *ns)
{
	struct stat st;

	if (!ns->read_only) {
		ns->file.fd = open_writable(ns);
		if (ns->file.fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM))
			ns->read_only = true;
		else if (ns->file.fd < 0)
			return complain(n, ns, -errno,
					errno == ENOENT ? "it isn't there; size= would make it"
							: strerror(errno));
	}
	if (ns->read_only)
		ns->file.fd = open(ns->path, O_RDONLY | OPEN_FLAGS);
	if (ns->file.fd < 0)
		return complain(n, ns, -errno, strerror(errno));
	if (fstat(ns->file.fd, &st) || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)))
		return complain(n, ns, -EINVAL, "neither a file nor a block device");
	/* Past libc, as below; of the flags that can be set, it was the only one. */
	if (syscall(SYS_fcntl, ns->file.fd, F_SETFL, 0))
		return complain(n, ns, -errno, strerror(errno));
	return check_size(n, ns);
}

static int open_ns(struct nvme *n, struct nvme_ns *ns)
{
	int error = ns->path ? open_file(n, ns) : open_memory(n, ns);
	struct statfs fs;

	if (error)
		return error;
	if (!ns->block_log)
		ns->block_log = 9;
	if (!nvme_ns_blocks(ns))
		return complain(n, ns, -EINVAL, "too small for a block; size= makes a new file");
	if (!fstatfs(ns->file.fd, &fs) && fs.f_type == TMPFS_MAGIC)
		ns->file.flags |= UIOMMU_FILE_MEMORY;
	ns->file.bounce = n->buffer;
	ns->file.bounce_len = sizeof(n->buffer);
	return 0;
}

int nvme_store_open(struct nvme *n)
{
	unsigned i;
	int error = 0;

	current(n);
	for (i = 0; i < n->ns_count && !error; i++)
		error = open_ns(n, &n->ns[i]);
	if (!error)
		return 0;
	/* Nothing is left of what was begun. */
	for (i = 0; i < n->ns_count; i++)
		if (n->ns[i].made)
			unlink(n->ns[i].path);
	nvme_store_close(n);
	return error;
}

void nvme_store_close(struct nvme *n)
{
	unsigned i;

	for (i = 0; i < n->ns_count; i++) {
		struct nvme_ns *ns = &n->ns[i];

		if (ns->file.fd >= 0)
			close(ns->file.fd);
		ns->file.fd = -1;
		if (ns->path)
			uiommu_free(ns->path, strlen(ns->path) + 1);
		ns->path = NULL;
	}
}

/* ---- using -------------------------------------------------------------------------------------
 */

uint16_t nvme_store_flush(struct nvme *n, struct nvme_ns *ns)
{
	if (ns->read_only || !syscall(SYS_fdatasync, ns->file.fd))
		return SC_SUCCESS;
	n->media_errors++;
	return SC_WRITE_FAULT;
}

int nvme_store_punch(struct nvme_ns *ns, uint64_t at, uint64_t len)
{
	if (!fallocate(ns->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
		       (off_t)len))
		return 0;
	return -errno;
}

/* All of it, forwards or backwards: 0 or -errno. */
static int move(long number, struct nvme_ns *ns, uint64_t at, void *buf, size_t len)
{
	while (len) {
		struct iovec iov = {buf, len};
		ssize_t done = syscall(number, ns->file.fd, &iov, 1, (long)at, (long)(at >> 32));

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -ENODATA;
		buf = (char *)buf + done;
		at += (uint64_t)done;
		len -= (size_t)done;
	}
	return 0;
}

int nvme_store_write(struct nvme_ns *ns, uint64_t at, const void *buf, size_t len)
{
	return move(SYS_pwritev, ns, at, (void *)(uintptr_t)buf, len);
}

int nvme_store_read(struct nvme_ns *ns, uint64_t at, void *buf, size_t len)
{
	return move(SYS_preadv, ns, at, buf, len);
}
