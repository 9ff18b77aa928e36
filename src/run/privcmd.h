/* SPDX-License-Identifier: MIT */
/*
 * /dev/xen/privcmd, as Linux has it.
 */
#ifndef RUN_PRIVCMD_H
#define RUN_PRIVCMD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Does an ioctl number belong to it? */
bool privcmd_concerned(unsigned long op);
/* What the ioctl returns, or -errno. */
long privcmd_ioctl(unsigned long op, unsigned long arg);

/* mmap(2) of it: room for frames. MAP_FAILED with errno. */
void *privcmd_mmap(void *addr, size_t len, int prot, int flags);
/* A range was unmapped, or mapped over. */
void privcmd_unmapped(const void *addr, size_t len);

/* Around fork(). */
void privcmd_lock(void);
void privcmd_unlock(void);

#endif
