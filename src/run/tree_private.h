/* SPDX-License-Identifier: MIT */
/*
 * How sysfs.c adds to a tree. A failed allocation is kept in tree->error and ends further growth.
 */
#ifndef RUN_TREE_PRIVATE_H
#define RUN_TREE_PRIVATE_H

#include "run/tree.h"

#define RUN_PATH 256

/* Make a directory, with those above it; fine if it is there. */
void tree_directory(struct run_tree *tree, const char *path);
void tree_bytes(struct run_tree *tree, const char *path, unsigned mode, const void *data,
		size_t len);
void tree_file(struct run_tree *tree, const char *dir, const char *name, unsigned mode,
	       const char *format, ...) __attribute__((format(printf, 5, 6)));
void tree_link(struct run_tree *tree, const char *from, const char *to);

#endif
