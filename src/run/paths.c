/* SPDX-License-Identifier: MIT */
/*
 * Owns the list of paths that belong to the simulated machine, and their translation to the private
 * tree and back. A path is made absolute and plain first (".", "//", and ".." as long as it is
 * outside of the list); inside the tree everything is the kernel's to resolve, since the tree has
 * the shape of /sys and /dev and relative links only. Invariant: nothing of the host's PCI devices
 * shows through a path of the list.
 * No locks: the root is set once; whether the working directory matters is one word.
 */
#include <stdio.h>
#include <string.h>

#include "run/paths.h"
#include "run/real.h"
#include "run/tree.h"

static const char *tree_root;
static size_t root_len;
static bool cwd_matters;

/* Relative paths reach the list only from a directory above it or in it. */
static bool may_lead(const char *dir)
{
	return !strcmp(dir, "/") || !strncmp(dir, "/sys", 4) || !strncmp(dir, "/dev", 4);
}

void paths_moved(void)
{
	char cwd[PATH_MAX];

	if (!tree_root)
		return;
	cwd_matters = syscall(SYS_getcwd, cwd, sizeof(cwd)) <= 0 || may_lead(cwd);
}

void paths_init(const char *root)
{
	if (!root || !*root)
		return;
	tree_root = root;
	root_len = strlen(root);
	paths_moved();
}

bool paths_active(void)
{
	return tree_root != NULL;
}

/* Length of the list's entry that @path is, or lies under; 0 if none. */
static size_t covered(const char *path)
{
	const char *entry;

	for (unsigned i = 0; (entry = run_tree_cover(i)); i++) {
		size_t len = strlen(entry);

		if (!strncmp(path, entry, len) && (path[len] == '/' || !path[len]))
			return len;
	}
	/* Root buses: /sys/devices/pciDDDD:BB. */
	if (!strncmp(path, "/sys/devices/pci", 16) && strlen(path) >= 23 &&
	    (path[23] == '/' || !path[23]))
		return 23;
	return 0;
}

/* Append one component to a plain absolute path of length @len ("" is the root). */
static size_t append(char *plain, size_t len, const char *name, size_t name_len)
{
	if (len + 1 + name_len >= PATH_MAX)
		return PATH_MAX;
	plain[len] = '/';
	memcpy(plain + len + 1, name, name_len);
	plain[len + 1 + name_len] = '\0';
	return len + 1 + name_len;
}

/* @path onto @plain, which holds a plain absolute path. Returns the length, PATH_MAX if too long.
 */
static size_t normalise(char *plain, size_t len, const char *path)
{
	while (*path && len < PATH_MAX) {
		size_t name_len = strcspn(path, "/");

		if (name_len == 2 && path[0] == '.' && path[1] == '.' && !covered(plain)) {
			while (len && plain[len - 1] != '/')
				len--;
			len = len ? len - 1 : 0;
			plain[len] = '\0';
		} else if (name_len && !(name_len == 1 && path[0] == '.')) {
			len = append(plain, len, path, name_len);
		}
		path += name_len;
		path += *path == '/';
	}
	return len;
}

/* The directory a relative path starts from, plain; false if it can't lead into the list. */
static bool base_of(int dirfd, char *plain, size_t *len)
{
	char link[32];
	ssize_t n;

	if (dirfd == AT_FDCWD) {
		if (!cwd_matters)
			return false;
		n = syscall(SYS_getcwd, plain, PATH_MAX) > 0 ? (ssize_t)strlen(plain) : -1;
	} else {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
		n = real_readlink(link, plain, PATH_MAX - 1);
	}
	if (n <= 0)
		return false;
	plain[n] = '\0';
	if (!may_lead(plain))
		return false;
	*len = n == 1 ? 0 : (size_t)n;
	plain[*len] = '\0';
	return true;
}

const char *paths_in(int dirfd, const char *path, char *buf)
{
	char plain[PATH_MAX] = "";
	size_t len = 0;
	int saved = errno;

	if (!tree_root || !path || !*path)
		return path;
	if (*path != '/' && !base_of(dirfd, plain, &len)) {
		errno = saved;
		return path;
	}
	len = normalise(plain, len, path);
	errno = saved;
	if (len >= PATH_MAX || !covered(plain) || root_len + len >= PATH_MAX)
		return path;
	memcpy(buf, tree_root, root_len);
	memcpy(buf + root_len, plain, len + 1);
	/* "dir/" must stay a directory's name. */
	if (path[strlen(path) - 1] == '/' && root_len + len + 1 < PATH_MAX)
		memcpy(buf + root_len + len, "/", 2);
	return buf;
}

static size_t strip(char *text, size_t len, size_t head, size_t tail)
{
	memmove(text, text + head, len - head - tail);
	return len - head - tail;
}

size_t paths_out(char *text, size_t len)
{
	static const char memory[] = "/memfd:/dev/vfio/", deleted[] = " (deleted)";
	const size_t memory_len = sizeof(memory) - 1, deleted_len = sizeof(deleted) - 1;

	if (!tree_root)
		return len;
	if (len >= root_len && !memcmp(text, tree_root, root_len) &&
	    (len == root_len || text[root_len] == '/'))
		return strip(text, len, root_len, 0);
	if (len > memory_len + deleted_len && !memcmp(text, memory, memory_len) &&
	    !memcmp(text + len - deleted_len, deleted, deleted_len))
		return strip(text, len, 7, deleted_len);
	return len;
}
