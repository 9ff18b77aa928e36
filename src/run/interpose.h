/* SPDX-License-Identifier: MIT */
/*
 * What the files share that define libc's names.
 */
#ifndef RUN_INTERPOSE_H
#define RUN_INTERPOSE_H

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "run/paths.h"
#include "run/real.h"

#define EXPORT __attribute__((visibility("default")))

/* A descriptor just opened by the program: if it is a placeholder, it becomes a VFIO file. */
int interpose_opened(int fd);

/* The program is about to do without @fd: what it is, held, or NULL. After it is gone, the same
 * file is given to interpose_closed(). */
struct run_file;
struct run_file *interpose_closing(int fd);
void interpose_closed(struct run_file *file);

/* A result of a stat call. */
void interpose_stat(struct stat *st);

/* Opening has a mode only with these flags. */
static inline bool has_mode(int flags)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
}

#endif
