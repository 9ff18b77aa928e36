/* SPDX-License-Identifier: MIT */
/*
 * Owns the rest of libc's names that take a path, and those that give one back. Where namespaces
 * carry the tree, all of them are libc's own.
 */
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/xattr.h>

#include "run/fds.h"
#include "run/files.h"
#include "run/interpose.h"

ssize_t __readlink_chk(const char *path, char *buf, size_t len, size_t size);
ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t len, size_t size);
char *__realpath_chk(const char *path, char *resolved, size_t size);
char *__getcwd_chk(char *buf, size_t len, size_t size);
void __chk_fail(void) __attribute__((noreturn));

EXPORT int access(const char *path, int mode)
{
	char buf[PATH_MAX];

	return REAL(access)(paths_in(AT_FDCWD, path, buf), mode);
}

EXPORT int euidaccess(const char *path, int mode)
{
	char buf[PATH_MAX];

	return REAL(euidaccess)(paths_in(AT_FDCWD, path, buf), mode);
}

EXPORT int eaccess(const char *path, int mode)
{
	return euidaccess(path, mode);
}

EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
	char buf[PATH_MAX];

	return REAL(faccessat)(dirfd, paths_in(dirfd, path, buf), mode, flags);
}

EXPORT int chdir(const char *path)
{
	char buf[PATH_MAX];
	int ret = REAL(chdir)(paths_in(AT_FDCWD, path, buf));

	if (!ret)
		paths_moved();
	return ret;
}

EXPORT int fchdir(int fd)
{
	int ret = REAL(fchdir)(fd);

	if (!ret)
		paths_moved();
	return ret;
}

EXPORT int truncate(const char *path, off_t len)
{
	char buf[PATH_MAX];

	return REAL(truncate)(paths_in(AT_FDCWD, path, buf), len);
}

EXPORT int truncate64(const char *path, off64_t len)
{
	return truncate(path, len);
}

EXPORT int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	char buf[PATH_MAX];

	return REAL(inotify_add_watch)(fd, paths_in(AT_FDCWD, path, buf), mask);
}

#define GET_ATTRIBUTE(name)                                                                    \
	EXPORT ssize_t name(const char *path, const char *attribute, void *value, size_t size) \
	{                                                                                      \
		char buf[PATH_MAX];                                                            \
                                                                                               \
		return REAL(name)(paths_in(AT_FDCWD, path, buf), attribute, value, size);      \
	}

GET_ATTRIBUTE(getxattr)
GET_ATTRIBUTE(lgetxattr)

#define LIST_ATTRIBUTES(name)                                                 \
	EXPORT ssize_t name(const char *path, char *list, size_t size)        \
	{                                                                     \
		char buf[PATH_MAX];                                           \
                                                                              \
		return REAL(name)(paths_in(AT_FDCWD, path, buf), list, size); \
	}

LIST_ATTRIBUTES(listxattr)
LIST_ATTRIBUTES(llistxattr)

/* ---- names that come back ------------------------------------------------------------------ */

/* The descriptor that a path under /proc names: /proc/self/fd/7; -1 if it names none of this
 * process. */
static int named_descriptor(const char *path)
{
	static const char *const heads[] = {"/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"};
	char own[32];
	const char *rest = NULL;
	char *end;
	long fd;

	snprintf(own, sizeof(own), "/proc/%d/fd/", (int)getpid());
	for (unsigned i = 0; i < 3 && !rest; i++)
		if (!strncmp(path, heads[i], strlen(heads[i])))
			rest = path + strlen(heads[i]);
	if (!rest && !strncmp(path, own, strlen(own)))
		rest = path + strlen(own);
	if (!rest)
		return -1;
	fd = strtol(rest, &end, 10);
	return end == rest || *end ? -1 : (int)fd;
}

static ssize_t readlink_at(int dirfd, const char *path, char *out, size_t len)
{
	char buf[PATH_MAX], name[PATH_MAX];
	struct run_file *file = NULL;
	size_t used;
	ssize_t n;
	int fd;

	n = REAL(readlinkat)(dirfd, paths_in(dirfd, path, buf), name, sizeof(name));
	if (n <= 0)
		return REAL(readlinkat)(dirfd, paths_in(dirfd, path, buf), out, len);
	fd = *path == '/' ? named_descriptor(path) : -1;
	if (fd >= 0 && fds_hint(fd))
		file = files_get(fd, NULL);
	used = file ? (size_t)files_name(file, name, sizeof(name)) : paths_out(name, (size_t)n);
	if (file)
		files_put(file);
	else if (used == (size_t)n)
		return REAL(readlinkat)(dirfd, paths_in(dirfd, path, buf), out, len);
	if (!len) {
		errno = EINVAL;
		return -1;
	}
	used = used < len ? used : len;
	memcpy(out, name, used);
	return (ssize_t)used;
}

EXPORT ssize_t readlink(const char *restrict path, char *restrict buf, size_t len)
{
	return readlink_at(AT_FDCWD, path, buf, len);
}

EXPORT ssize_t readlinkat(int dirfd, const char *restrict path, char *restrict buf, size_t len)
{
	return readlink_at(dirfd, path, buf, len);
}

EXPORT ssize_t __readlink_chk(const char *path, char *buf, size_t len, size_t size)
{
	if (len > size)
		__chk_fail();
	return readlink_at(AT_FDCWD, path, buf, len);
}

EXPORT ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t len, size_t size)
{
	if (len > size)
		__chk_fail();
	return readlink_at(dirfd, path, buf, len);
}

static char *name_out(char *name)
{
	if (name)
		name[paths_out(name, strlen(name))] = '\0';
	return name;
}

EXPORT char *realpath(const char *restrict path, char *restrict resolved)
{
	char buf[PATH_MAX];

	return name_out(REAL(realpath)(paths_in(AT_FDCWD, path, buf), resolved));
}

EXPORT char *__realpath_chk(const char *path, char *resolved, size_t size)
{
	if (size < PATH_MAX)
		__chk_fail();
	return realpath(path, resolved);
}

EXPORT char *canonicalize_file_name(const char *path)
{
	return realpath(path, NULL);
}

/* The tree's own name is longer than what it stands for, so ask with room for it. */
EXPORT char *getcwd(char *buf, size_t len)
{
	char name[PATH_MAX];
	size_t whole, used;
	char *out;

	if (!paths_active() || syscall(SYS_getcwd, name, sizeof(name)) <= 0)
		return REAL(getcwd)(buf, len);
	whole = strlen(name);
	used = paths_out(name, whole);
	if (used == whole)
		return REAL(getcwd)(buf, len);
	name[used] = '\0';
	if ((buf || len) && len <= used) {
		errno = len ? ERANGE : EINVAL;
		return NULL;
	}
	out = buf ? buf : malloc(len > used ? len : used + 1);
	return out ? memcpy(out, name, used + 1) : NULL;
}

EXPORT char *__getcwd_chk(char *buf, size_t len, size_t size)
{
	if (len > size)
		__chk_fail();
	return getcwd(buf, len);
}

EXPORT char *getwd(char *buf)
{
	return getcwd(buf, PATH_MAX);
}

EXPORT char *get_current_dir_name(void)
{
	return getcwd(NULL, 0);
}

/* ---- patterns and walks -------------------------------------------------------------------- */

static void glob_out(char **names, size_t skip, size_t from, size_t count)
{
	for (size_t i = from; names && i < count; i++)
		name_out(names[skip + i]);
}

/* A pattern is a path up to its first wildcard: that is enough to know whose it is. */
#define GLOB(name, type)                                                                           \
	EXPORT int name(const char *restrict pattern, int flags, int (*error)(const char *, int),  \
			type *restrict found)                                                      \
	{                                                                                          \
		char buf[PATH_MAX];                                                                \
		const char *where = paths_in(AT_FDCWD, pattern, buf);                              \
		size_t before = flags & GLOB_APPEND ? found->gl_pathc : 0;                         \
		int ret = REAL(name)(where, flags, error, found);                                  \
                                                                                                   \
		if (where != pattern && (!ret || ret == GLOB_ABORTED))                             \
			glob_out(found->gl_pathv, flags &GLOB_DOOFFS ? found->gl_offs : 0, before, \
				 found->gl_pathc);                                                 \
		return ret;                                                                        \
	}

GLOB(glob, glob_t)
GLOB(glob64, glob64_t)

/* Walks tell each name to a function of the program's; it is given the names it knows. */
static _Thread_local union {
	__ftw_func_t ftw;
	__ftw64_func_t ftw64;
	__nftw_func_t nftw;
	__nftw64_func_t nftw64;
} walker __attribute__((tls_model("initial-exec")));

static const char *walk_name(const char *path, char *buf)
{
	size_t len = strlen(path);

	if (len >= PATH_MAX)
		return path;
	memcpy(buf, path, len + 1);
	return name_out(buf);
}

static int tell_ftw(const char *path, const struct stat *st, int kind)
{
	char buf[PATH_MAX];

	return walker.ftw(walk_name(path, buf), st, kind);
}

static int tell_ftw64(const char *path, const struct stat64 *st, int kind)
{
	char buf[PATH_MAX];

	return walker.ftw64(walk_name(path, buf), st, kind);
}

/* The base name moves with the front of the path. */
static struct FTW shifted(const struct FTW *ftw, const char *path, const char *name)
{
	struct FTW copy = *ftw;

	copy.base -= (int)(strlen(path) - strlen(name));
	return copy;
}

static int tell_nftw(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	char buf[PATH_MAX];
	const char *name = walk_name(path, buf);
	struct FTW copy = shifted(ftw, path, name);

	return walker.nftw(name, st, kind, &copy);
}

static int tell_nftw64(const char *path, const struct stat64 *st, int kind, struct FTW *ftw)
{
	char buf[PATH_MAX];
	const char *name = walk_name(path, buf);
	struct FTW copy = shifted(ftw, path, name);

	return walker.nftw64(name, st, kind, &copy);
}

#define WALK(name, type, extra_parameter, extra_argument)                     \
	EXPORT int name(const char *path, type fn, int depth extra_parameter) \
	{                                                                     \
		__typeof__(walker) outer = walker;                            \
		char buf[PATH_MAX];                                           \
		const char *where = paths_in(AT_FDCWD, path, buf);            \
		int ret;                                                      \
                                                                              \
		if (where == path)                                            \
			return REAL(name)(path, fn, depth extra_argument);    \
		walker.name = fn;                                             \
		ret = REAL(name)(where, tell_##name, depth extra_argument);   \
		walker = outer;                                               \
		return ret;                                                   \
	}
#define COMMA ,

WALK(ftw, __ftw_func_t, , )
WALK(ftw64, __ftw64_func_t, , )
WALK(nftw, __nftw_func_t, COMMA int flags, COMMA flags)
WALK(nftw64, __nftw64_func_t, COMMA int flags, COMMA flags)
