/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that belong to the runner, not to the program it lives in: kept at high numbers, and
 * out of reach of the program's close().
 */
#ifndef RUN_FDS_H
#define RUN_FDS_H

#include <stdbool.h>

#define RUN_FDS_MAX 65536

/* Take @fd (or -1, which is passed on with errno): move it to a high number, close-on-exec, and
 * protect it. Returns the number it has now; if no high one is free, the one it had. */
int fds_keep(int fd);
/* Protect @fd where it is. */
void fds_protect(int fd);
/* Close a descriptor and forget its protection. */
int fds_close(int fd);
bool fds_protected(int fd);
/* The lowest protected descriptor >= @from, or -1. */
int fds_next_protected(unsigned from);

/* A hint that a descriptor of the program's may be one of ours; wrong only for descriptors that
 * arrived by ways the runner does not see. */
void fds_set_hint(int fd, bool hint);
bool fds_hint(int fd);
int fds_next_hint(unsigned from);

/* Call @each for every open descriptor of this process. */
void fds_each(void (*each)(void *ctx, int fd), void *ctx);

#endif
