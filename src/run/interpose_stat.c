/* SPDX-License-Identifier: MIT */
/*
 * Owns libc's names of the stat family. Paths are translated; results about a placeholder, by path
 * or descriptor, are made to look like the character device that it stands for.
 */
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "run/fds.h"
#include "run/files.h"
#include "run/interpose.h"

int __xstat(int version, const char *path, struct stat *st);
int __xstat64(int version, const char *path, struct stat64 *st);
int __lxstat(int version, const char *path, struct stat *st);
int __lxstat64(int version, const char *path, struct stat64 *st);
int __fxstat(int version, int fd, struct stat *st);
int __fxstat64(int version, int fd, struct stat64 *st);
int __fxstatat(int version, int dirfd, const char *path, struct stat *st, int flags);
int __fxstatat64(int version, int dirfd, const char *path, struct stat64 *st, int flags);

/* The two structs are one on x86-64. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "stat64 is stat");

void interpose_stat(struct stat *st)
{
	int which = files_placeholder(st);

	if (which != FILES_NONE)
		files_dress(st, which);
}

static int stat_at(int dirfd, const char *path, struct stat *st, int flags)
{
	char buf[PATH_MAX];
	int ret = REAL(fstatat)(dirfd, paths_in(dirfd, path, buf), st, flags);

	if (!ret)
		interpose_stat(st);
	return ret;
}

/* A VFIO file may be a memory file: then the inode says nothing. */
static int stat_fd(int fd, struct stat *st)
{
	struct run_file *file;
	int ret = REAL(fstat)(fd, st);

	if (ret)
		return ret;
	interpose_stat(st);
	file = fds_hint(fd) ? files_get(fd, NULL) : NULL;
	if (file) {
		if (files_which(file) != FILES_NONE)
			files_dress(st, files_which(file));
		files_put(file);
	}
	return 0;
}

EXPORT int stat(const char *path, struct stat *st)
{
	return stat_at(AT_FDCWD, path, st, 0);
}

EXPORT int stat64(const char *path, struct stat64 *st)
{
	return stat_at(AT_FDCWD, path, (struct stat *)st, 0);
}

EXPORT int lstat(const char *path, struct stat *st)
{
	return stat_at(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

EXPORT int lstat64(const char *path, struct stat64 *st)
{
	return stat_at(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW);
}

EXPORT int fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
	return stat_at(dirfd, path, st, flags);
}

EXPORT int fstatat64(int dirfd, const char *path, struct stat64 *st, int flags)
{
	return stat_at(dirfd, path, (struct stat *)st, flags);
}

EXPORT int fstat(int fd, struct stat *st)
{
	return stat_fd(fd, st);
}

EXPORT int fstat64(int fd, struct stat64 *st)
{
	return stat_fd(fd, (struct stat *)st);
}

/* The names that programs linked with glibc before 2.33 use; the version has one value here. */
EXPORT int __xstat(int version, const char *path, struct stat *st)
{
	return stat_at(AT_FDCWD, path, st, 0);
}

EXPORT int __xstat64(int version, const char *path, struct stat64 *st)
{
	return stat_at(AT_FDCWD, path, (struct stat *)st, 0);
}

EXPORT int __lxstat(int version, const char *path, struct stat *st)
{
	return stat_at(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

EXPORT int __lxstat64(int version, const char *path, struct stat64 *st)
{
	return stat_at(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW);
}

EXPORT int __fxstat(int version, int fd, struct stat *st)
{
	return stat_fd(fd, st);
}

EXPORT int __fxstat64(int version, int fd, struct stat64 *st)
{
	return stat_fd(fd, (struct stat *)st);
}

EXPORT int __fxstatat(int version, int dirfd, const char *path, struct stat *st, int flags)
{
	return stat_at(dirfd, path, st, flags);
}

EXPORT int __fxstatat64(int version, int dirfd, const char *path, struct stat64 *st, int flags)
{
	return stat_at(dirfd, path, (struct stat *)st, flags);
}

EXPORT int statx(int dirfd, const char *restrict path, int flags, unsigned mask,
		 struct statx *restrict stx)
{
	char buf[PATH_MAX];
	struct stat st;
	int which, ret = REAL(statx)(dirfd, paths_in(dirfd, path, buf), flags, mask, stx);

	if (ret)
		return ret;
	st = (struct stat){.st_dev = makedev(stx->stx_dev_major, stx->stx_dev_minor),
			   .st_ino = stx->stx_ino};
	which = files_placeholder(&st);
	if (which != FILES_NONE) {
		files_dress(&st, which);
		stx->stx_mode = (unsigned short)st.st_mode;
		stx->stx_rdev_major = major(st.st_rdev);
		stx->stx_rdev_minor = minor(st.st_rdev);
		stx->stx_size = stx->stx_blocks = 0;
	}
	return 0;
}

#define BY_PATH(name, type)                                                   \
	EXPORT int name(const char *restrict path, struct type *restrict buf) \
	{                                                                     \
		char where[PATH_MAX];                                         \
                                                                              \
		return REAL(name)(paths_in(AT_FDCWD, path, where), buf);      \
	}

BY_PATH(statfs, statfs)
BY_PATH(statfs64, statfs64)
BY_PATH(statvfs, statvfs)
BY_PATH(statvfs64, statvfs64)
