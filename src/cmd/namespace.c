/* SPDX-License-Identifier: MIT */
/*
 * Owns the view of /sys and /dev in namespaces of the program's own: a tmpfs holds the simulated
 * machine's tree and is bound over the host's directories. Where the host lacks a directory to bind
 * over, the nearest one above it that exists is rebuilt: its entries are bound into the tmpfs
 * beside ours. Everything vanishes with the last process in the namespace.
 *
 * Real root makes a mount namespace only; others a user namespace too, in which they keep their
 * user and group. Single-threaded by need: unshare() demands it. No locks. After a failure the
 * process may have half a view, so it is for the caller to try in a child first.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/cmd.h"

struct view {
	const struct run_tree *tree;
	const char *stage; /* where the tmpfs is mounted meanwhile */
	char *why;
	size_t why_len;
};

static int __attribute__((format(printf, 2, 3))) fail(struct view *view, const char *format, ...)
{
	int error = errno ? -errno : -EINVAL;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(view->why, view->why_len, format, args);
	va_end(args);
	if (n >= 0 && (size_t)n < view->why_len)
		snprintf(view->why + n, view->why_len - (size_t)n, ": %s", strerror(-error));
	return error;
}

/* ---- the namespaces ------------------------------------------------------------------------ */

static int write_map(struct view *view, const char *file, const char *format, unsigned id)
{
	char text[64];
	int fd = open(file, O_WRONLY | O_CLOEXEC), n, ret = 0;

	if (fd < 0)
		return fail(view, "%s", file);
	n = snprintf(text, sizeof(text), format, id, id);
	if (write(fd, text, (size_t)n) != n)
		ret = fail(view, "%s", file);
	close(fd);
	return ret;
}

static int unshare_user(struct view *view)
{
	unsigned uid = geteuid(), gid = getegid();
	int ret;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return fail(view, "user namespace");
	ret = write_map(view, "/proc/self/setgroups", "deny", 0);
	if (!ret)
		ret = write_map(view, "/proc/self/uid_map", "%u %u 1\n", uid);
	if (!ret)
		ret = write_map(view, "/proc/self/gid_map", "%u %u 1\n", gid);
	return ret;
}

static int unshare_mounts(struct view *view)
{
	int ret = 0;

	/* Root who may not mount, as in a container, tries like anybody else. */
	if (geteuid() || unshare(CLONE_NEWNS))
		ret = unshare_user(view);
	if (!ret && mount("none", "/", "none", MS_REC | MS_SLAVE, NULL))
		ret = fail(view, "making mounts private");
	return ret;
}

/* ---- binding ------------------------------------------------------------------------------- */

static bool exists(const char *path)
{
	struct stat st;

	return !lstat(path, &st);
}

static bool is_directory(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && S_ISDIR(st.st_mode);
}

/* Does @path belong to the machine wholly? */
static bool is_cover(const char *path)
{
	const char *cover;

	for (unsigned i = 0; (cover = run_tree_cover(i)); i++)
		if (!strcmp(cover, path))
			return true;
	return !strncmp(path, "/sys/devices/pci", 16);
}

static int bind(struct view *view, const char *from, const char *to)
{
	if (mount(from, to, "none", MS_BIND | MS_REC, NULL))
		return fail(view, "mounting over %s", to);
	return 0;
}

/* Something to bind a host entry onto. */
static int make_target(const char *path, bool directory)
{
	int fd;

	if (directory)
		return mkdir(path, 0755);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

/* One entry of the host's into the stage. An entry that can't be bound is left out: better a
 * device node less than no run. */
static int graft_entry(struct view *view, const char *host, const char *staged)
{
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (lstat(host, &st))
		return 0;
	if (S_ISLNK(st.st_mode)) {
		n = readlink(host, target, sizeof(target) - 1);
		if (n < 0)
			return 0;
		target[n] = '\0';
		return symlink(target, staged) ? fail(view, "%s", staged) : 0;
	}
	if (make_target(staged, S_ISDIR(st.st_mode)))
		return fail(view, "%s", staged);
	if (mount(host, staged, "none", MS_BIND | MS_REC, NULL)) {
		if (S_ISDIR(st.st_mode))
			rmdir(staged);
		else
			unlink(staged);
	}
	return 0;
}

/* Fill the staged directory of @dir with what the host has there and the machine does not. */
static int merge(struct view *view, const char *dir)
{
	char host[PATH_MAX], staged[PATH_MAX];
	DIR *list = opendir(dir);
	struct dirent *entry;
	int ret = 0;

	if (!list)
		return fail(view, "%s", dir);
	while (!ret && (entry = readdir(list))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(host, sizeof(host), "%s/%s", dir, entry->d_name);
		snprintf(staged, sizeof(staged), "%s%s", view->stage, host);
		if (!exists(staged))
			ret = graft_entry(view, host, staged);
		else if (!is_cover(host) && is_directory(host))
			ret = merge(view, host);
	}
	closedir(list);
	return ret;
}

/* Is the node a directory, or something of the machine's own, directly in @dir? */
static bool is_child(const char *dir, const struct run_node *node)
{
	size_t len = strlen(dir);

	return (node->kind == RUN_NODE_DIRECTORY || is_cover(node->path)) &&
	       !strncmp(node->path, dir, len) && node->path[len] == '/' &&
	       !strchr(node->path + len + 1, '/');
}

/* Show the tree's part below @dir, which the host has and the machine does not own. */
static int cover(struct view *view, const char *dir)
{
	char staged[PATH_MAX];
	bool complete = true;
	int ret = 0;

	for (size_t i = 0; i < view->tree->count; i++)
		if (is_child(dir, &view->tree->nodes[i]) && !exists(view->tree->nodes[i].path))
			complete = false;
	if (!complete) {
		ret = merge(view, dir);
		snprintf(staged, sizeof(staged), "%s%s", view->stage, dir);
		return ret ? ret : bind(view, staged, dir);
	}
	for (size_t i = 0; i < view->tree->count && !ret; i++) {
		const char *path = view->tree->nodes[i].path;

		if (!is_child(dir, &view->tree->nodes[i]))
			continue;
		snprintf(staged, sizeof(staged), "%s%s", view->stage, path);
		ret = is_cover(path) ? bind(view, staged, path) : cover(view, path);
	}
	return ret;
}

/* ---- the stage ----------------------------------------------------------------------------- */

/* A directory to mount the tmpfs on for a moment: any that exists and that nothing of ours lies
 * under. */
static int mount_stage(struct view *view)
{
	static const char *const places[] = {"/tmp", "/mnt", "/var/tmp", "/run", "/opt"};
	int error = ENOENT;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (!is_directory(places[i]))
			continue;
		if (!mount("uiommu", places[i], "tmpfs", MS_NOSUID, "mode=0755")) {
			view->stage = places[i];
			return 0;
		}
		error = errno;
	}
	errno = error;
	return fail(view, "mounting a tmpfs");
}

int namespace_enter(const struct run_tree *tree, char *why, size_t why_len)
{
	struct view view = {.tree = tree, .why = why, .why_len = why_len};
	int ret = unshare_mounts(&view);

	if (!ret)
		ret = mount_stage(&view);
	if (ret)
		return ret;
	ret = run_tree_write(tree, view.stage);
	if (ret) {
		errno = -ret;
		return fail(&view, "writing the machine's files");
	}
	ret = cover(&view, "/sys");
	if (!ret)
		ret = cover(&view, "/dev");
	if (umount2(view.stage, MNT_DETACH) && !ret)
		ret = fail(&view, "unmounting %s", view.stage);
	return ret;
}

int namespace_try(const struct run_tree *tree, char *why, size_t why_len)
{
	int status, fds[2];
	ssize_t n;
	pid_t pid;

	snprintf(why, why_len, "no process to try it in");
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0) {
		close(fds[0]);
		close(fds[1]);
		return -EAGAIN;
	}
	if (!pid) {
		int ret = namespace_enter(tree, why, why_len);

		if (ret && write(fds[1], why, strlen(why)) < 0)
			_exit(1);
		_exit(ret ? 1 : 0);
	}
	close(fds[1]);
	n = read(fds[0], why, why_len - 1);
	why[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EPERM;
}
