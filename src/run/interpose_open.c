/* SPDX-License-Identifier: MIT */
/*
 * Owns libc's names that open files: the path is translated, and what was opened is looked at: a
 * placeholder becomes a VFIO file, by whatever name it was reached.
 */
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>

#include "run/files.h"
#include "run/interpose.h"

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dirfd, const char *path, int flags);
int __openat64_2(int dirfd, const char *path, int flags);

int interpose_opened(int fd)
{
	struct stat st;
	int which, saved = errno;

	if (fd < 0 || !files_any_placeholder())
		return fd;
	which = real_fstat(fd, &st) ? FILES_NONE : files_placeholder(&st);
	errno = saved;
	if (which == FILES_NONE || real_fcntl(fd, F_GETFL, 0) & O_PATH)
		return fd;
	return files_open(fd, which);
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
	char buf[PATH_MAX];

	return interpose_opened(REAL(openat)(dirfd, paths_in(dirfd, path, buf), flags, mode));
}

#define TAKE_MODE(mode, flags)                                       \
	do {                                                         \
		va_list args;                                        \
                                                                     \
		va_start(args, flags);                               \
		(mode) = has_mode(flags) ? va_arg(args, mode_t) : 0; \
		va_end(args);                                        \
	} while (0)

EXPORT int open(const char *path, int flags, ...)
{
	mode_t mode;

	TAKE_MODE(mode, flags);
	return open_at(AT_FDCWD, path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
	mode_t mode;

	TAKE_MODE(mode, flags);
	return open_at(AT_FDCWD, path, flags, mode);
}

EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
	mode_t mode;

	TAKE_MODE(mode, flags);
	return open_at(dirfd, path, flags, mode);
}

EXPORT int openat64(int dirfd, const char *path, int flags, ...)
{
	mode_t mode;

	TAKE_MODE(mode, flags);
	return open_at(dirfd, path, flags, mode);
}

EXPORT int __open_2(const char *path, int flags)
{
	return open_at(AT_FDCWD, path, flags, 0);
}

EXPORT int __open64_2(const char *path, int flags)
{
	return open_at(AT_FDCWD, path, flags, 0);
}

EXPORT int __openat_2(int dirfd, const char *path, int flags)
{
	return open_at(dirfd, path, flags, 0);
}

EXPORT int __openat64_2(int dirfd, const char *path, int flags)
{
	return open_at(dirfd, path, flags, 0);
}

EXPORT int creat(const char *path, mode_t mode)
{
	return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

EXPORT int creat64(const char *path, mode_t mode)
{
	return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* ---- streams and directories --------------------------------------------------------------- */

/* A stream on a VFIO file: nothing a program can use, but its descriptor is what it should be. */
static FILE *stream_opened(FILE *stream)
{
	int saved;

	if (!stream || interpose_opened(fileno(stream)) >= 0)
		return stream;
	/* The descriptor is closed already. */
	saved = errno;
	REAL(fclose)(stream);
	errno = saved;
	return NULL;
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
	char buf[PATH_MAX];

	return stream_opened(REAL(fopen)(paths_in(AT_FDCWD, path, buf), mode));
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
	char buf[PATH_MAX];

	return stream_opened(REAL(fopen64)(paths_in(AT_FDCWD, path, buf), mode));
}

EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
	struct run_file *file = stream ? interpose_closing(fileno(stream)) : NULL;
	char buf[PATH_MAX];
	FILE *ret = REAL(freopen)(paths_in(AT_FDCWD, path, buf), mode, stream);

	interpose_closed(file);
	return stream_opened(ret);
}

EXPORT FILE *freopen64(const char *path, const char *mode, FILE *stream)
{
	return freopen(path, mode, stream);
}

EXPORT DIR *opendir(const char *path)
{
	char buf[PATH_MAX];

	return REAL(opendir)(paths_in(AT_FDCWD, path, buf));
}

#define SCANDIR(name, entry)                                                             \
	EXPORT int name(const char *path, struct entry ***list,                          \
			int (*select)(const struct entry *),                             \
			int (*compare)(const struct entry **, const struct entry **))    \
	{                                                                                \
		char buf[PATH_MAX];                                                      \
                                                                                         \
		return REAL(name)(paths_in(AT_FDCWD, path, buf), list, select, compare); \
	}

SCANDIR(scandir, dirent)
SCANDIR(scandir64, dirent64)

#define SCANDIRAT(name, entry)                                                               \
	EXPORT int name(int dirfd, const char *path, struct entry ***list,                   \
			int (*select)(const struct entry *),                                 \
			int (*compare)(const struct entry **, const struct entry **))        \
	{                                                                                    \
		char buf[PATH_MAX];                                                          \
                                                                                             \
		return REAL(name)(dirfd, paths_in(dirfd, path, buf), list, select, compare); \
	}

SCANDIRAT(scandirat, dirent)
SCANDIRAT(scandirat64, dirent64)
