/* SPDX-License-Identifier: MIT */
/*
 * Owns libc's names that set dispositions and masks of signals. The program gets and sets SIGSEGV
 * and SIGBUS as if they were its own; really they are the runner's once there is a machine, and are
 * never blocked. Signals whose default a handler of ours stands in for (--stats) look like the
 * default. All other signals pass through.
 */
#include <pthread.h>

#include "run/interpose.h"
#include "run/trap.h"

typedef void (*handler)(int);

handler bsd_signal(int sig, handler fn);
handler sysv_signal(int sig, handler fn);
handler __sysv_signal(int sig, handler fn);

EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction copy;

	if (trap_is_ours(sig) && trap_installed())
		return trap_sigaction(sig, act, old);
	if (act) {
		copy = *act;
		sigdelset(&copy.sa_mask, SIGSEGV);
		sigdelset(&copy.sa_mask, SIGBUS);
		act = &copy;
	}
	if (trap_watches(sig))
		return trap_watched_action(sig, act, old);
	return REAL(sigaction)(sig, act, old);
}

static handler set_handler(int sig, handler fn, int flags)
{
	struct sigaction action = {.sa_handler = fn, .sa_flags = flags}, old;

	sigemptyset(&action.sa_mask);
	return sigaction(sig, &action, &old) ? SIG_ERR : old.sa_handler;
}

static bool ours(int sig)
{
	return trap_watches(sig) || (trap_is_ours(sig) && trap_installed());
}

EXPORT handler signal(int sig, handler fn)
{
	if (!ours(sig))
		return REAL(signal)(sig, fn);
	return set_handler(sig, fn, SA_RESTART);
}

EXPORT handler bsd_signal(int sig, handler fn)
{
	return signal(sig, fn);
}

EXPORT handler ssignal(int sig, handler fn)
{
	return signal(sig, fn);
}

EXPORT handler sysv_signal(int sig, handler fn)
{
	if (!ours(sig))
		return REAL(sysv_signal)(sig, fn);
	return set_handler(sig, fn, (int)(SA_RESETHAND | SA_NODEFER));
}

EXPORT handler __sysv_signal(int sig, handler fn)
{
	return sysv_signal(sig, fn);
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	unsigned before = trap_mask_bits();
	sigset_t copy;
	int ret;

	if (set) {
		copy = *set;
		trap_filter_mask(how, &copy);
		set = &copy;
	}
	ret = REAL(pthread_sigmask)(how, set, old);
	if (!ret && old)
		trap_put_bits(before, old);
	return ret;
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	int ret = pthread_sigmask(how, set, old);

	if (!ret)
		return 0;
	errno = ret;
	return -1;
}
