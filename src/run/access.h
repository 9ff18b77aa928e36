/* SPDX-License-Identifier: MIT */
/*
 * Accesses to mapped BARs that trapped, and performing them.
 */
#ifndef RUN_ACCESS_H
#define RUN_ACCESS_H

#include <signal.h>
#include <stdbool.h>
#include <ucontext.h>

/* Once, before the handler is installed. */
void access_init(void);

/* From the signal handler: if the fault is an access to a BAR that the mapping allows, perform the
 * instruction on the model and step over it. False: it is the program's fault, to be delivered as
 * *@as, which may become SIGBUS. */
bool access_fault(const siginfo_t *info, ucontext_t *uc, int *as);

#endif
