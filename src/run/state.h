/* SPDX-License-Identifier: MIT */
/*
 * The machine of this process: made at the first use of /dev/vfio.
 */
#ifndef RUN_STATE_H
#define RUN_STATE_H

#include <sys/types.h>

#include <uiommu/vfio.h>

#include "run/config.h"

struct run_state {
	struct uiommu_machine *machine;
	struct uiommu_vfio *vfio;
	pid_t owner;	/* who made the machine; a forked child has a copy */
	pid_t pid;	/* this process; differs from getpid() in a child of vfork() */
	unsigned nonce; /* tells this machine's descriptors from an earlier one's */
	bool used;	/* since it was made, or copied by fork() */
};

/* What the command said; valid from the library's constructor on. NULL: not run by uiommu. */
const struct run_config *state_config(void);

/* The machine, made if need be; NULL if that fails, which has been told on stderr. */
struct run_state *state_get(void);
/* The machine if there is one, else NULL. */
struct run_state *state_peek(void);
/* Is this the process that the memory belongs to, i.e. not a child of vfork()? */
bool state_mine(void);

/* On a new thread of ours: any CPU the process started with, no signals but faults. */
void state_thread_start(void *ctx);

#endif
