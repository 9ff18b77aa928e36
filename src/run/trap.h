/* SPDX-License-Identifier: MIT */
/*
 * SIGSEGV and SIGBUS: the runner's own use of them, and the program's, side by side.
 */
#ifndef RUN_TRAP_H
#define RUN_TRAP_H

#include <signal.h>
#include <stdbool.h>

/* Take both signals over. What the program has set so far goes on for it. */
void trap_install(void);
bool trap_installed(void);

/* sigaction(2) as the program sees it, for the two signals once they are taken over. */
int trap_sigaction(int sig, const struct sigaction *act, struct sigaction *old);

/* Have @died called before one of the signals with which people and abort() end programs does so,
 * and before a fault does. It runs in a signal handler. Their dispositions stay SIG_DFL for the
 * program; only those which are so now, or become so, are watched. */
void trap_watch_deaths(void (*died)(void));
bool trap_watches(int sig);
/* sigaction(2) as the program sees it, for a signal that is watched. */
int trap_watched_action(int sig, const struct sigaction *act, struct sigaction *old);
/* What the kernel said of a signal: our watching becomes the default. */
void trap_show(struct sigaction *old);

/* Run a handler of the program's inside one of ours that has everything blocked: as the kernel
 * would, with the mask of the code that was interrupted and the action's own. */
void trap_call_program(int sig, siginfo_t *info, void *context, const struct sigaction *action);

/* Is it one of the two? */
static inline bool trap_is_ours(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS;
}

/* The two are never blocked, the program is only told so: take them out of a set that it is about
 * to set with @how. */
void trap_filter_mask(int how, sigset_t *set);
/* What it believes now, and putting that into the set that it gets to see. */
unsigned trap_mask_bits(void);
void trap_put_bits(unsigned bits, sigset_t *old);

#endif
