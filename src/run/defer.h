/* SPDX-License-Identifier: MIT */
/*
 * The program's signal handlers wait for the end of a request, without a system call for each.
 */
#ifndef RUN_DEFER_H
#define RUN_DEFER_H

#include <signal.h>
#include <stdbool.h>

/* From now on: the handlers that there are, and those that come with defer_sigaction(). */
void defer_install(void);
bool defer_installed(void);

/* sigaction(2) as the program sees it, for all signals but SIGSEGV and SIGBUS. */
int defer_sigaction(int sig, const struct sigaction *act, struct sigaction *old);
/* What the kernel said of a signal becomes what the program has set. */
void defer_show(int sig, struct sigaction *old);

/* Around fork(): nobody else is changing a disposition when the process is copied. */
void defer_lock(void);
void defer_unlock(void);

/* Between these two no handler of the program's runs on this thread; one that is due runs at the
 * end. They nest. System calls in between may be interrupted (EINTR). A handler that was set
 * without libc is not known here, and runs; it can ask whether it is inside. */
void defer_begin(void);
void defer_end(void);
bool defer_inside(void);
/* In a child of fork(), for a parent that is inside: what is due is due to the parent. */
void defer_end_child(void);

#endif
