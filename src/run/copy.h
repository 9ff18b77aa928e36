/* SPDX-License-Identifier: MIT */
/*
 * Copies between addresses that may not be there, without a system call: a fault inside one of
 * these is turned into -EFAULT by the runner's signal handler, which must be installed.
 */
#ifndef RUN_COPY_H
#define RUN_COPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* 0 or -EFAULT; what was copied before the fault stays copied. Naturally aligned lengths of 1, 2,
 * 4 and 8 are one access on each side. */
int copy_safely(void *to, const void *from, size_t len);
/* Is a byte there to be read; to be written (nothing changes)? 0 or -EFAULT. */
int copy_touch_read(const void *at);
int copy_touch_write(void *at);
/* Replace the aligned 8 bytes there by desired if they are *expected, in one step; *expected, which
 * must be there, becomes what they were. 0 or -EFAULT. */
int copy_compare_exchange(void *at, uint64_t *expected, uint64_t desired);
/* For the signal handler: if the fault is one of these functions', have it return -EFAULT. */
bool copy_fixup(ucontext_t *uc);

#endif
