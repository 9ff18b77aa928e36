/* SPDX-License-Identifier: MIT */
/*
 * The part of /sys and /dev that shows the simulated machine.
 */
#ifndef RUN_TREE_H
#define RUN_TREE_H

#include <uiommu/device.h>

#include "run/config.h"

/* The @index-th path that belongs to the machine wholly, or NULL. Root buses
 * (/sys/devices/pciDDDD:BB) are not listed here, but belong to it too. */
const char *run_tree_cover(unsigned index);

/* The major number of devices' own nodes. */
#define RUN_NODE_MAJOR 242

enum run_node_kind {
	RUN_NODE_DIRECTORY,
	RUN_NODE_FILE,
	RUN_NODE_LINK,
};

struct run_node {
	enum run_node_kind kind;
	char *path; /* absolute, as the program sees it */
	void *data; /* contents, or where the link leads */
	size_t len;
	unsigned mode;
};

struct run_tree {
	struct run_node *nodes; /* a directory comes before what is in it */
	size_t count, room;
	int error; /* -ENOMEM once that has happened */
};

/* Describe @machine. The tree does not refer to it afterwards. -ENOMEM. */
int run_tree_build(struct uiommu_machine *machine, const struct run_config *config,
		   struct run_tree *tree);
/* Make it under the directory @root (no slash at its end). -errno. */
int run_tree_write(const struct run_tree *tree, const char *root);
void run_tree_free(struct run_tree *tree);

/* Does the tree have this path? */
const struct run_node *run_tree_find(const struct run_tree *tree, const char *path);

#endif
