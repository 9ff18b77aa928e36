/* SPDX-License-Identifier: MIT */
/*
 * One process at a time has a group: owns the locks that say so. A lock is of the open file
 * description, so the kernel drops it when the last copy of the descriptor is gone, whatever
 * happens to the process. The files of one process share it: a group's, and the nodes' of its
 * devices.
 *
 * The list is under files_lock(). Dropping cannot fail.
 */
#include "run/fds.h"
#include "run/files.h"
#include "run/group_lock.h"
#include "run/real.h"
#include "util/alloc.h"

struct group_lock {
	struct group_lock *next;
	unsigned group;
	unsigned users;
	int fd;
};

static struct group_lock *group_locks;

static int lock_fresh(const char *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd;

	fd = fds_keep(real_open(path, O_RDWR | O_CLOEXEC, 0));
	if (fd < 0)
		return -errno;
	if (real_fcntl(fd, F_OFD_SETLK, (unsigned long)&lock)) {
		fds_close(fd);
		return -EBUSY;
	}
	return fd;
}

int group_lock_take(const char *path, unsigned group, struct group_lock **out)
{
	struct group_lock *lock;
	int fd;

	files_lock();
	for (lock = group_locks; lock && lock->group != group;)
		lock = lock->next;
	if (lock) {
		lock->users++;
		*out = lock;
		files_unlock();
		return 0;
	}
	fd = lock_fresh(path);
	lock = fd < 0 ? NULL : uiommu_alloc(sizeof(*lock));
	if (lock) {
		*lock = (struct group_lock){group_locks, group, 1, fd};
		group_locks = lock;
	} else if (fd >= 0) {
		fds_close(fd);
		fd = -ENOMEM;
	}
	files_unlock();
	*out = lock;
	return lock ? 0 : fd;
}

void group_lock_drop(struct group_lock *lock)
{
	struct group_lock **link = &group_locks;

	if (!lock)
		return;
	files_lock();
	if (--lock->users) {
		files_unlock();
		return;
	}
	while (*link != lock)
		link = &(*link)->next;
	*link = lock->next;
	files_unlock();
	fds_close(lock->fd);
	uiommu_free(lock, sizeof(*lock));
}
