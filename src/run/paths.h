/* SPDX-License-Identifier: MIT */
/*
 * Where namespaces are forbidden: the simulated machine's paths, and where they really lie.
 */
#ifndef RUN_PATHS_H
#define RUN_PATHS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* Once, at start; @root NULL: paths are what they are. */
void paths_init(const char *root);
bool paths_active(void);

/* The path to give to the kernel for @path, relative to @dirfd (or AT_FDCWD): @path itself, or a
 * path in @buf of PATH_MAX bytes. A path that would not fit, or cannot be read, is passed on. */
const char *paths_in(int dirfd, const char *path, char *buf);
/* Undo it in place, in a result of @len bytes without terminator; returns the new length. */
size_t paths_out(char *text, size_t len);

/* The working directory may have changed. */
void paths_moved(void);

#endif
