/* SPDX-License-Identifier: MIT */
/*
 * Owns the description of what Linux shows of a machine under /sys and /dev: built as a list first,
 * written to a directory later, when the machine it was made from is gone. Links are relative, as
 * sysfs has them, so that they lead to the right place wherever the tree lies. Invariants: paths
 * are unique, parents come first. After a failed allocation the list only grows an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run/tree.h"
#include "run/tree_private.h"
#include "util/alloc.h"

const char *run_tree_cover(unsigned index)
{
	static const char *const covers[] = {
		"/dev/vfio",
		"/dev/iommu",
		"/dev/xen",
		"/sys/bus/pci",
		"/sys/kernel/iommu_groups",
		"/sys/class/iommu",
		"/sys/class/vfio",
		"/sys/class/vfio-dev",
		"/sys/devices/virtual/iommu",
		"/sys/devices/virtual/vfio",
		"/sys/module/vfio",
		"/sys/module/vfio_pci",
		"/sys/module/vfio_pci_core",
		"/sys/module/vfio_iommu_type1",
	};

	return index < sizeof(covers) / sizeof(covers[0]) ? covers[index] : NULL;
}

/* ---- the list ------------------------------------------------------------------------------ */

const struct run_node *run_tree_find(const struct run_tree *tree, const char *path)
{
	for (size_t i = 0; i < tree->count; i++)
		if (!strcmp(tree->nodes[i].path, path))
			return &tree->nodes[i];
	return NULL;
}

static void *copy(const void *data, size_t len)
{
	char *to = uiommu_alloc(len + 1);

	if (to && len)
		memcpy(to, data, len);
	return to;
}

static bool grow(struct run_tree *tree)
{
	size_t room = tree->room ? tree->room * 2 : 128;
	struct run_node *nodes;

	if (tree->count < tree->room)
		return true;
	nodes = uiommu_alloc_array(room, sizeof(*nodes));
	if (!nodes)
		return false;
	if (tree->count)
		memcpy(nodes, tree->nodes, tree->count * sizeof(*nodes));
	uiommu_free(tree->nodes, tree->room * sizeof(*nodes));
	tree->nodes = nodes;
	tree->room = room;
	return true;
}

static void add_node(struct run_tree *tree, enum run_node_kind kind, const char *path,
		     const void *data, size_t len, unsigned mode)
{
	struct run_node node = {.kind = kind, .len = len, .mode = mode};

	if (tree->error)
		return;
	if (grow(tree)) {
		node.path = copy(path, strlen(path));
		node.data = copy(data, len);
		if (node.path && node.data) {
			tree->nodes[tree->count++] = node;
			return;
		}
		if (node.path)
			uiommu_free(node.path, strlen(path) + 1);
		if (node.data)
			uiommu_free(node.data, len + 1);
	}
	tree->error = -ENOMEM;
}

/* The directories above @path. */
static void add_parents(struct run_tree *tree, const char *path)
{
	char parent[RUN_PATH];
	char *slash;

	snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (!slash || slash == parent)
		return;
	*slash = '\0';
	tree_directory(tree, parent);
}

void tree_directory(struct run_tree *tree, const char *path)
{
	if (run_tree_find(tree, path))
		return;
	add_parents(tree, path);
	add_node(tree, RUN_NODE_DIRECTORY, path, NULL, 0, 0755);
}

void tree_bytes(struct run_tree *tree, const char *path, unsigned mode, const void *data,
		size_t len)
{
	add_parents(tree, path);
	add_node(tree, RUN_NODE_FILE, path, data, len, mode);
}

void tree_file(struct run_tree *tree, const char *dir, const char *name, unsigned mode,
	       const char *format, ...)
{
	char path[RUN_PATH], text[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	tree_bytes(tree, path, mode, text, strlen(text));
}

/* Both paths are absolute; the link is written relative to its directory. */
void tree_link(struct run_tree *tree, const char *from, const char *to)
{
	char target[RUN_PATH * 2] = "";
	size_t common = 0;

	for (size_t i = 0; from[i] && from[i] == to[i]; i++)
		if (from[i] == '/')
			common = i;
	for (const char *p = strchr(from + common + 1, '/'); p; p = strchr(p + 1, '/'))
		strcat(target, "../");
	strcat(target, to + common + 1);
	add_parents(tree, from);
	add_node(tree, RUN_NODE_LINK, from, target, strlen(target), 0777);
}

void run_tree_free(struct run_tree *tree)
{
	for (size_t i = 0; i < tree->count; i++) {
		uiommu_free(tree->nodes[i].path, strlen(tree->nodes[i].path) + 1);
		uiommu_free(tree->nodes[i].data, tree->nodes[i].len + 1);
	}
	uiommu_free(tree->nodes, tree->room * sizeof(*tree->nodes));
	memset(tree, 0, sizeof(*tree));
}

/* ---- writing it ---------------------------------------------------------------------------- */

static int write_file(const char *path, const struct run_node *node)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (node->len && write(fd, node->data, node->len) != (ssize_t)node->len)
		ret = errno ? -errno : -EIO;
	/* Past the umask. */
	if (!ret && fchmod(fd, node->mode))
		ret = -errno;
	close(fd);
	return ret;
}

static int write_node(const char *root, const struct run_node *node)
{
	char path[RUN_PATH * 2];

	if (snprintf(path, sizeof(path), "%s%s", root, node->path) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	switch (node->kind) {
	case RUN_NODE_DIRECTORY:
		if (mkdir(path, 0755) || chmod(path, node->mode))
			return -errno;
		return 0;
	case RUN_NODE_LINK:
		return symlink(node->data, path) ? -errno : 0;
	default:
		return write_file(path, node);
	}
}

int run_tree_write(const struct run_tree *tree, const char *root)
{
	int ret = 0;

	for (size_t i = 0; i < tree->count && !ret; i++)
		ret = write_node(root, &tree->nodes[i]);
	return ret;
}
