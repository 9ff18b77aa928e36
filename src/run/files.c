/* SPDX-License-Identifier: MIT */
/*
 * Owns the identity of descriptors. What a descriptor is, is written into its open file
 * description: the file offset is set to a number that no file of any size has by itself (tag,
 * process, nonce, index in the table below). So one lseek() tells, and dup(), fork(), fcntl(),
 * closing and reusing numbers, and passing descriptors over a socket can't confuse it.
 * (A file whose last descriptor is on its way through a socket counts as closed.)
 * A queue's is a pipe, so that poll() and the like see when there is something to read; pipes have
 * no offset, and are known by their inode.
 *
 * Invariant: a run_file in the table has at least one reference: one for all descriptors of it
 * together (while ->open), one for each entry of the mapping table, one for each request under way.
 * Counts are atomic; the table changes under files_mutex. A file is released outside of it.
 * Lock order: the front end's locks, then files_mutex, a leaf.
 */
#include <limits.h>
#include <linux/major.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "run/defer.h"
#include "run/fds.h"
#include "run/files.h"
#include "run/group_lock.h"
#include "run/real.h"
#include "run/report.h"
#include "run/state.h"
#include "run/tree.h"
#include "util/alloc.h"

#define TABLE_SIZE	 65536
#define TAG		 UINT64_C(0x75)
#define PLACEHOLDERS_MAX 1024
/* Linux' misc minor for VFIO, two from its range for dynamic ones, and a major from that range. */
#define VFIO_MINOR    196
#define PRIVCMD_MINOR 124
#define IOMMU_MINOR   125
#define GROUP_MAJOR   243

struct run_file {
	struct uiommu_vfio_file *vfio;
	uint64_t identity;
	uint64_t position;
	unsigned refs;
	bool open; /* has descriptors */
	int which;
	struct group_lock *lock; /* of its group; NULL: it needs none */
	/* A queue's: our own end of its pipe, which holds one byte while there is something to
	 * read; else -1. */
	int pipe;
	ino_t inode;
	struct run_file *next_queue; /* files_mutex */
};

static pthread_mutex_t files_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct run_file *table[TABLE_SIZE];
static unsigned table_next;
static struct run_file *queues; /* files_mutex; whether there are any is asked without it */
static dev_t pipe_dev;		/* of all pipes */

static dev_t placeholder_dev, privcmd_dev;
static ino_t privcmd_inode;
static char placeholder_dir[128];
static const char *group_prefix = ""; /* of the groups' names: "" or "noiommu-" */
static struct {
	ino_t inode;
	int which;
} placeholders[PLACEHOLDERS_MAX];
static unsigned placeholder_count;

/* Files looked up by the request that runs on this thread. */
#define REQUEST_FILES 64
static _Thread_local struct {
	struct run_file *files[REQUEST_FILES];
	unsigned count;
} request __attribute__((tls_model("initial-exec")));

void files_lock(void)
{
	defer_begin();
	pthread_mutex_lock(&files_mutex);
}

void files_unlock(void)
{
	pthread_mutex_unlock(&files_mutex);
	defer_end();
}

/* ---- placeholders -------------------------------------------------------------------------- */

static void learn(int dir, const char *name, int which)
{
	struct stat st;

	if (placeholder_count == PLACEHOLDERS_MAX ||
	    syscall(SYS_newfstatat, dir, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return;
	placeholder_dev = st.st_dev;
	placeholders[placeholder_count].inode = st.st_ino;
	placeholders[placeholder_count++].which = which;
}

/* A number behind the prefix, or -1. */
static int number_behind(const char *name, const char *prefix)
{
	size_t len = strlen(prefix);
	char *end;
	long number;

	if (strncmp(name, prefix, len) || name[len] < '0' || name[len] > '9')
		return -1;
	number = strtol(name + len, &end, 10);
	return *end || number >= FILES_NODES ? -1 : (int)number;
}

static void learn_vfio(int dir, const char *name)
{
	static const char noiommu[] = "noiommu-";
	bool real = strncmp(name, noiommu, sizeof(noiommu) - 1);
	int number = number_behind(name, real ? "" : noiommu);

	if (!real)
		group_prefix = noiommu;
	if (!strcmp(name, "vfio"))
		learn(dir, name, FILES_CONTAINER);
	else if (number >= 0)
		learn(dir, name, number);
}

static void learn_node(int dir, const char *name)
{
	int number = number_behind(name, "vfio");
	unsigned bus, slot, function;

	if (sscanf(name, "%*x:%2x:%2x.%1x", &bus, &slot, &function) == 3)
		learn(dir, name, FILES_NAMED + (int)(bus << 8 | slot << 3 | function));
	if (number >= 0)
		learn(dir, name, FILES_NODES + number);
}

static void each_name(const char *path, void (*each)(int dir, const char *name))
{
	_Alignas(struct run_dirent) char buf[1024];
	int dir = real_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	long len;

	if (dir < 0)
		return;
	while ((len = real_getdents(dir, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < len;) {
			struct run_dirent *entry = (struct run_dirent *)(buf + at);

			each(dir, entry->name);
			at += entry->reclen;
		}
	}
	real_close(dir);
}

static void learn_xen(const char *dev)
{
	char path[sizeof(placeholder_dir) + 16];
	struct stat st;

	snprintf(path, sizeof(path), "%s/xen/privcmd", dev);
	if (syscall(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) ||
	    !S_ISREG(st.st_mode))
		return;
	privcmd_dev = st.st_dev;
	privcmd_inode = st.st_ino;
}

void files_learn(const char *dev)
{
	char path[sizeof(placeholder_dir) + 16];

	snprintf(placeholder_dir, sizeof(placeholder_dir), "%s/vfio", dev);
	each_name(placeholder_dir, learn_vfio);
	/* Without the machine's own directory there is nothing of it in /dev. */
	if (!placeholder_count)
		return;
	snprintf(path, sizeof(path), "%s/vfio/devices", dev);
	each_name(path, learn_node);
	snprintf(path, sizeof(path), "%s/iommu", dev);
	learn(AT_FDCWD, path, FILES_IOMMU);
	learn_xen(dev);
}

bool files_any_placeholder(void)
{
	return placeholder_count != 0;
}

int files_placeholder(const struct stat *st)
{
	if (privcmd_inode && st->st_ino == privcmd_inode && st->st_dev == privcmd_dev)
		return FILES_PRIVCMD;
	if (!placeholder_count || st->st_dev != placeholder_dev)
		return FILES_NONE;
	for (unsigned i = 0; i < placeholder_count; i++)
		if (placeholders[i].inode == st->st_ino)
			return placeholders[i].which;
	return FILES_NONE;
}

void files_dress(struct stat *st, int which)
{
	st->st_mode = S_IFCHR | 0666;
	st->st_rdev = which == FILES_CONTAINER ? makedev(MISC_MAJOR, VFIO_MINOR)
		      : which == FILES_PRIVCMD ? makedev(MISC_MAJOR, PRIVCMD_MINOR)
		      : which == FILES_IOMMU   ? makedev(MISC_MAJOR, IOMMU_MINOR)
		      : which >= FILES_NODES   ? makedev(RUN_NODE_MAJOR, (unsigned)which & 0xffff)
					       : makedev(GROUP_MAJOR, (unsigned)which);
	if (which == FILES_PRIVCMD)
		st->st_mode = S_IFCHR | 0600;
	st->st_size = 0;
	st->st_blocks = 0;
}

/* ---- identity ------------------------------------------------------------------------------ */

static uint64_t identity_of(unsigned index)
{
	const struct run_state *state = state_peek();

	return TAG << 55 | (uint64_t)(state->owner & 0x3fffff) << 33 |
	       (uint64_t)(state->nonce & 0x1ffff) << 16 | index;
}

/* The queue whose pipe this is. files_lock() held. */
static struct run_file *queue_find(int fd)
{
	struct stat st;

	if (real_fstat(fd, &st) || !S_ISFIFO(st.st_mode) || st.st_dev != pipe_dev)
		return NULL;
	for (struct run_file *file = queues; file; file = file->next_queue)
		if (file->inode == st.st_ino)
			return file;
	return NULL;
}

static struct run_file *queue_lookup(int fd)
{
	struct run_file *file;

	files_lock();
	file = queue_find(fd);
	if (file)
		files_hold(file);
	files_unlock();
	if (file)
		fds_set_hint(fd, true);
	return file;
}

static struct run_file *lookup(int fd, bool *foreign)
{
	uint64_t identity = (uint64_t)real_lseek(fd, 0, SEEK_CUR);
	struct run_file *file = NULL;

	if (identity == UINT64_MAX && __atomic_load_n(&queues, __ATOMIC_RELAXED))
		return queue_lookup(fd);
	if (identity >> 55 != TAG)
		return NULL;
	if (state_peek()) {
		files_lock();
		file = table[identity & 0xffff];
		if (file && file->identity == identity)
			files_hold(file);
		else
			file = NULL;
		files_unlock();
	}
	if (!file && foreign)
		*foreign = true;
	if (file)
		fds_set_hint(fd, true);
	return file;
}

struct run_file *files_get(int fd, bool *foreign)
{
	int saved = errno;
	struct run_file *file;

	if (foreign)
		*foreign = false;
	file = lookup(fd, foreign);
	errno = saved;
	return file;
}

void files_hold(struct run_file *file)
{
	__atomic_fetch_add(&file->refs, 1, __ATOMIC_RELAXED);
}

static void release(struct run_file *file)
{
	sigset_t saved;

	real_block_signals(&saved);
	report_before_release();
	if (file->vfio)
		uiommu_vfio_release(file->vfio);
	real_restore_signals(&saved);
	group_lock_drop(file->lock);
	if (file->pipe >= 0)
		fds_close(file->pipe);
	uiommu_free(file, sizeof(*file));
}

void files_put(struct run_file *file)
{
	bool last;

	files_lock();
	last = __atomic_sub_fetch(&file->refs, 1, __ATOMIC_ACQ_REL) == 0;
	if (last) {
		table[file->identity & 0xffff] = NULL;
		for (struct run_file **link = &queues; *link; link = &(*link)->next_queue)
			if (*link == file) {
				*link = file->next_queue;
				break;
			}
	}
	files_unlock();
	if (last)
		release(file);
}

struct uiommu_vfio_file *files_vfio(const struct run_file *file)
{
	return file->vfio;
}

static struct run_file *add(struct uiommu_vfio_file *vfio, int which)
{
	struct run_file *file = uiommu_alloc(sizeof(*file));
	unsigned tries;

	if (!file)
		return NULL;
	*file = (struct run_file){
		.vfio = vfio, .refs = 1, .open = true, .which = which, .pipe = -1};
	files_lock();
	for (tries = 0; tries < TABLE_SIZE && table[table_next % TABLE_SIZE]; tries++)
		table_next++;
	if (tries < TABLE_SIZE) {
		file->identity = identity_of(table_next % TABLE_SIZE);
		table[table_next++ % TABLE_SIZE] = file;
	}
	files_unlock();
	if (tries == TABLE_SIZE) {
		uiommu_free(file, sizeof(*file));
		return NULL;
	}
	return file;
}

/* ---- opening ------------------------------------------------------------------------------- */

/* Write the identity into the description behind @fd. Where the file system has no files that long,
 * a memory file takes the place of the placeholder. */
static int mark(int fd, const struct run_file *file)
{
	char name[64];
	int memory;

	if (real_lseek(fd, (off_t)file->identity, SEEK_SET) >= 0)
		return 0;
	files_name(file, name, sizeof(name));
	memory = (int)syscall(SYS_memfd_create, name, 1U /* MFD_CLOEXEC */);
	if (memory < 0)
		return -errno;
	if (real_lseek(memory, (off_t)file->identity, SEEK_SET) < 0 ||
	    real_dup3(memory, fd, real_fcntl(fd, F_GETFD, 0) & FD_CLOEXEC ? O_CLOEXEC : 0) < 0) {
		int error = -errno;

		real_close(memory);
		return error;
	}
	real_close(memory);
	return 0;
}

/* The number of a node that is named after its function: they are in the machine's order. */
static unsigned number_of(struct run_state *state, int which)
{
	struct uiommu_function *fn;
	unsigned number = 0;

	if (which < FILES_NAMED)
		return (unsigned)(which - FILES_NODES);
	for (size_t i = 0; (fn = uiommu_machine_function(state->machine, i)); i++) {
		const struct uiommu_function_info *info = uiommu_function_info(fn);

		if (strcmp(info->driver, "vfio-pci"))
			continue;
		if (info->rid == which - FILES_NAMED)
			return number;
		number++;
	}
	return UINT_MAX;
}

static int open_kind(struct run_state *state, int which, struct uiommu_vfio_file **vfio)
{
	bool container = which == FILES_CONTAINER;

	if (which == FILES_IOMMU || (container && state_config()->iommufd == RUN_IOMMUFD_CONTAINER))
		return uiommu_vfio_open_iommufd(state->vfio, vfio);
	if (container)
		return uiommu_vfio_open_container(state->vfio, vfio);
	if (which >= FILES_NODES)
		return uiommu_vfio_open_node(state->vfio, number_of(state, which), vfio);
	return uiommu_vfio_open_group(state->vfio, (unsigned)which, vfio);
}

static int open_vfio(int which, struct uiommu_vfio_file **vfio, struct group_lock **lock)
{
	struct run_state *state = state_get();
	char path[sizeof(placeholder_dir) + 32];
	unsigned group;
	int ret;

	*lock = NULL;
	*vfio = NULL;
	if (!state || !state_mine())
		return -ENODEV;
	if (which == FILES_PRIVCMD)
		return 0;
	ret = open_kind(state, which, vfio);
	if (ret || which < 0)
		return ret;
	group = (unsigned)which;
	if (which >= FILES_NODES)
		group = uiommu_function_info(uiommu_vfio_file_function(*vfio))->group;
	snprintf(path, sizeof(path), "%s/%s%u", placeholder_dir, group_prefix, group);
	ret = group_lock_take(path, group, lock);
	if (ret)
		uiommu_vfio_release(*vfio);
	return ret;
}

int files_open(int fd, int which)
{
	struct uiommu_vfio_file *vfio;
	struct run_file *file;
	struct group_lock *lock;
	sigset_t saved;
	int ret;

	real_block_signals(&saved);
	ret = open_vfio(which, &vfio, &lock);
	real_restore_signals(&saved);
	if (ret)
		goto fail;
	file = add(vfio, which);
	if (!file) {
		if (vfio)
			uiommu_vfio_release(vfio);
		group_lock_drop(lock);
		ret = -ENOMEM;
		goto fail;
	}
	file->lock = lock;
	ret = mark(fd, file);
	if (ret) {
		files_put(file);
		goto fail;
	}
	fds_set_hint(fd, true);
	return fd;
fail:
	real_close(fd);
	errno = -ret;
	return -1;
}

/* A fresh open file description of the function's memory file; where /proc can't give one, or there
 * is no function, of an empty memory file: then only calls that pass through libc reach it. */
static int device_descriptor(struct uiommu_vfio_file *vfio)
{
	struct uiommu_function *fn = uiommu_vfio_file_function(vfio);
	char path[64];
	int fd;

	if (!fn) {
		fd = (int)syscall(SYS_memfd_create, "vfio-msi-bank", 1U /* MFD_CLOEXEC */);
		return fd < 0 ? -errno : fd;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", uiommu_function_fd(fn));
	fd = real_open(path, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0 && errno != EMFILE && errno != ENFILE)
		fd = (int)syscall(SYS_memfd_create, "vfio-device", 1U /* MFD_CLOEXEC */);
	return fd < 0 ? -errno : fd;
}

/* One end for reading and writing, of which there are two descriptions: the program's and ours. */
static int install_queue(struct uiommu_vfio_file *vfio)
{
	struct run_file *file;
	struct stat st;
	char path[64];
	int ends[2], fd, own;

	if (syscall(SYS_pipe2, ends, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ends[0]);
	own = fds_keep(real_open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK, 0));
	fd = real_open(path, O_RDWR | O_CLOEXEC, 0);
	real_close(ends[0]);
	real_close(ends[1]);
	file = own < 0 || fd < 0 || real_fstat(own, &st) ? NULL : add(vfio, FILES_NONE);
	if (!file) {
		if (own >= 0)
			fds_close(own);
		if (fd >= 0)
			real_close(fd);
		return -EMFILE;
	}
	files_lock();
	pipe_dev = st.st_dev;
	file->inode = st.st_ino;
	file->pipe = own;
	file->next_queue = queues;
	__atomic_store_n(&queues, file, __ATOMIC_RELAXED);
	files_unlock();
	fds_set_hint(fd, true);
	return fd;
}

/* From any thread, inside a queue's lock: a byte goes in, or out again. */
static void queue_readable(void *ctx, struct uiommu_vfio_file *vfio, bool readable)
{
	struct run_file *file;
	char byte = 0;

	files_lock();
	for (file = queues; file && file->vfio != vfio;)
		file = file->next_queue;
	if (file && readable)
		real_write(file->pipe, &byte, 1);
	else if (file)
		real_read(file->pipe, &byte, 1);
	files_unlock();
}

struct run_file *files_adopt(struct uiommu_vfio_file *vfio)
{
	struct run_file *file = add(vfio, FILES_NONE);

	if (file)
		file->open = false;
	return file;
}

static int install(void *ctx, struct uiommu_vfio_file *vfio)
{
	bool queue = uiommu_vfio_file_kind(vfio) == UIOMMU_VFIO_QUEUE;
	struct run_file *file;
	int fd = queue ? install_queue(vfio) : device_descriptor(vfio);
	int ret;

	if (queue)
		return fd;

	if (fd < 0)
		return fd;
	file = add(vfio, FILES_NONE);
	if (!file) {
		real_close(fd);
		return -ENOMEM;
	}
	ret = mark(fd, file);
	if (ret) {
		/* The front end still owns the file and releases it. */
		files_lock();
		table[file->identity & 0xffff] = NULL;
		files_unlock();
		uiommu_free(file, sizeof(*file));
		real_close(fd);
		return ret;
	}
	fds_set_hint(fd, true);
	return fd;
}

/* ---- requests ------------------------------------------------------------------------------ */

void files_request_begin(void)
{
	request.count = 0;
}

void files_request_end(void)
{
	while (request.count)
		files_put(request.files[--request.count]);
}

/* More different files than fit in one request are a program's joke: those are not found. */
static struct uiommu_vfio_file *file_of(void *ctx, int fd)
{
	struct run_file *file;

	if (request.count == REQUEST_FILES)
		return NULL;
	file = files_get(fd, NULL);
	if (!file)
		return NULL;
	request.files[request.count++] = file;
	return file->vfio;
}

/* The kernel takes eventfds only; our copy lives where the program can't reach it. */
static int eventfd_get(void *ctx, int fd)
{
	char path[64], target[64];
	ssize_t len;
	int copy = fds_keep(real_fcntl(fd, F_DUPFD_CLOEXEC, 0));

	if (copy < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", copy);
	len = real_readlink(path, target, sizeof(target) - 1);
	target[len > 0 ? len : 0] = '\0';
	if (len > 0 && strcmp(target, "anon_inode:[eventfd]")) {
		fds_close(copy);
		return -EINVAL;
	}
	return copy;
}

static void eventfd_put(void *ctx, int fd)
{
	fds_close(fd);
}

/* The number that the kernel gives each eventfd; -1: not to be had. */
static long eventfd_id(int fd)
{
	char path[64], text[512];
	const char *id;
	ssize_t len;
	int info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = real_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (info < 0)
		return -1;
	len = real_read(info, text, sizeof(text) - 1);
	real_close(info);
	text[len > 0 ? len : 0] = '\0';
	id = strstr(text, "eventfd-id:");
	return id ? strtol(id + strlen("eventfd-id:"), NULL, 10) : -1;
}

struct eventfd_search {
	long id;
	bool found;
};

static void compare_eventfd(void *ctx, int fd)
{
	struct eventfd_search *search = ctx;

	if (!search->found && !fds_protected(fd) && eventfd_id(fd) == search->id)
		search->found = true;
}

static bool eventfd_orphaned(void *ctx, int fd)
{
	struct eventfd_search search = {eventfd_id(fd), false};

	if (search.id < 0)
		return false;
	fds_each(compare_eventfd, &search);
	return !search.found;
}

/* What IOMMU_IOAS_MAP_FILE takes: a file in memory, whole. */
#define F_GET_SEALS_COMMAND (1024 + 10)

static int map_file(void *ctx, int fd, uint64_t offset, uint64_t length, bool write, uint64_t *addr)
{
	struct stat st;
	void *at;

	if (fds_protected(fd) || real_fstat(fd, &st))
		return -EBADF;
	/* Only files in memory have seals, be it the one that says there can be none. */
	if (real_fcntl(fd, F_GET_SEALS_COMMAND, 0) < 0)
		return -EINVAL;
	if ((uint64_t)st.st_size < offset || (uint64_t)st.st_size - offset < length)
		return -EINVAL;
	at = real_mmap(NULL, length, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, fd,
		       (off_t)offset);
	if (at == MAP_FAILED)
		return -errno;
	*addr = (uintptr_t)at;
	return 0;
}

static void unmap_file(void *ctx, uint64_t addr, uint64_t length)
{
	real_munmap((void *)(uintptr_t)addr, length);
}

void files_host(struct uiommu_vfio_host *host)
{
	host->map_file = map_file;
	host->unmap_file = unmap_file;
	host->queue_readable = queue_readable;
	host->file_of = file_of;
	host->install = install;
	host->eventfd_get = eventfd_get;
	host->eventfd_put = eventfd_put;
	host->eventfd_orphaned = eventfd_orphaned;
}

/* ---- closing ------------------------------------------------------------------------------- */

struct search {
	const struct run_file *file;
	bool found;
};

static void compare(void *ctx, int fd)
{
	struct search *search = ctx;

	struct stat st;

	if (search->found || fds_protected(fd))
		return;
	if (search->file->pipe < 0)
		search->found = (uint64_t)real_lseek(fd, 0, SEEK_CUR) == search->file->identity;
	else
		search->found = !real_fstat(fd, &st) && S_ISFIFO(st.st_mode) &&
				st.st_ino == search->file->inode && st.st_dev == pipe_dev;
}

void files_closed(struct run_file *file)
{
	struct search search = {file, false};
	int saved = errno;
	bool drop;

	fds_each(compare, &search);
	if (!search.found) {
		files_lock();
		drop = file->open;
		file->open = false;
		files_unlock();
		if (drop)
			files_put(file);
	}
	errno = saved;
}

/* ---- small facts --------------------------------------------------------------------------- */

uint64_t files_position(const struct run_file *file)
{
	return __atomic_load_n(&file->position, __ATOMIC_RELAXED);
}

void files_advance(struct run_file *file, uint64_t bytes)
{
	if (file->pipe < 0)
		__atomic_fetch_add(&file->position, bytes, __ATOMIC_RELAXED);
}

int files_which(const struct run_file *file)
{
	return file->which;
}

int files_name(const struct run_file *file, char *buf, size_t len)
{
	if (file->which == FILES_CONTAINER)
		return snprintf(buf, len, "/dev/vfio/vfio");
	if (file->which == FILES_PRIVCMD)
		return snprintf(buf, len, "/dev/xen/privcmd");
	if (file->which == FILES_IOMMU)
		return snprintf(buf, len, "/dev/iommu");
	if (file->which >= FILES_NAMED)
		return snprintf(buf, len, "/dev/vfio/devices/%s",
				uiommu_function_info(uiommu_vfio_file_function(file->vfio))->name);
	if (file->which >= FILES_NODES)
		return snprintf(buf, len, "/dev/vfio/devices/vfio%d", file->which - FILES_NODES);
	switch (uiommu_vfio_file_kind(file->vfio)) {
	case UIOMMU_VFIO_MSI_BANK:
		return snprintf(buf, len, "anon_inode:[vfio-msi-bank]");
	case UIOMMU_VFIO_QUEUE:
		return snprintf(buf, len, "anon_inode:[iommufd-queue]");
	case UIOMMU_VFIO_ACCESS:
		return snprintf(buf, len, "anon_inode:[iommufd_test_staccess]");
	case UIOMMU_VFIO_DMABUF:
		return snprintf(buf, len, "/dmabuf:");
	default:
		break;
	}
	if (file->which == FILES_NONE)
		return snprintf(buf, len, "anon_inode:[vfio-device]");
	return snprintf(buf, len, "/dev/vfio/%s%d", group_prefix, file->which);
}
