/* SPDX-License-Identifier: MIT */
/*
 * The parts of the uiommu command.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

#include "run/tree.h"

/* Exit statuses of the command's own; otherwise the program's. */
#define EXIT_USAGE	    2
#define EXIT_CANNOT	    125 /* the environment does not let us */
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND	    127

/* "uiommu: " and a line on stderr. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The subcommands: exit statuses. run does not return if all goes well. */
int cmd_run(int argc, char **argv);
int cmd_platforms(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_plan(int argc, char **argv);

/* getopt_long() returned ':' or '?' (opterr 0, options coded from OPTION_FIRST on) at @word:
 * complain, and point to the help of @command. */
#define OPTION_FIRST 256
int option_error(const char *command, int code, const struct option *options, const char *word);

/* Find @name as execvp() would and see whether the preloaded library will be with it. 0 and the
 * path in @path, or an exit status after a complaint. *@asan: it (or its interpreter) needs the
 * shared run-time of AddressSanitizer. */
int program_check(const char *name, char *path, size_t len, bool *asan);

/* Make the tree visible in namespaces of this process. 0, or -errno with what failed in @why;
 * afterwards the process must not go on with anything but telling so. */
int namespace_enter(const struct run_tree *tree, char *why, size_t why_len);
/* The same, tried in a process that is thrown away. */
int namespace_try(const struct run_tree *tree, char *why, size_t why_len);

/* Start a process that makes a directory and removes it when the last holder of *@keep is gone, and
 * make the tree in it. 0 and the directory in @root, or -errno with what failed in @why. */
int private_tree(const struct run_tree *tree, char *root, size_t len, int *keep, char *why,
		 size_t why_len);

#endif
