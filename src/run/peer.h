/* SPDX-License-Identifier: MIT */
/*
 * Writes of one simulated function to another's registers, or to its own.
 */
#ifndef RUN_PEER_H
#define RUN_PEER_H

#include <uiommu/device.h>

/* Post a write: it is performed soon, in order, on a thread that holds no function's lock.
 * 0 or -EFAULT (no memory for it, or too much is posted already). */
int peer_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, const void *data,
	       size_t len);

/* Around fork(). */
void peer_lock(void);
void peer_unlock(void);
void peer_forked(void);

#endif
