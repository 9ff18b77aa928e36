/* SPDX-License-Identifier: MIT */
/*
 * Owns libc's names that set dispositions and masks of signals. The program gets and sets SIGSEGV
 * and SIGBUS as if they were its own; really they are the runner's once there is a machine, and are
 * never blocked. Signals whose default a handler of ours stands in for (--stats) look like the
 * default, and handlers of all other signals wait while their thread is in a request (defer.c).
 * siginterrupt() decides what signal() does later. Without a machine everything passes through.
 */
#include <pthread.h>
#include <stdint.h>

#include "run/defer.h"
#include "run/interpose.h"
#include "run/trap.h"

typedef void (*handler)(int);

handler bsd_signal(int sig, handler fn);
handler sysv_signal(int sig, handler fn);
handler __sysv_signal(int sig, handler fn);

EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction copy;
	int ret;

	if (trap_is_ours(sig) && trap_installed())
		return trap_sigaction(sig, act, old);
	if (act) {
		copy = *act;
		sigdelset(&copy.sa_mask, SIGSEGV);
		sigdelset(&copy.sa_mask, SIGBUS);
		act = &copy;
	}
	if (!defer_installed())
		return REAL(sigaction)(sig, act, old);
	if (trap_watches(sig) && act && act->sa_handler == SIG_DFL)
		ret = trap_watched_action(sig, act, old);
	else
		ret = defer_sigaction(sig, act, old);
	if (!ret && old) {
		defer_show(sig, old);
		trap_show(old);
	}
	return ret;
}

static handler set_handler(int sig, handler fn, int flags)
{
	struct sigaction action = {.sa_handler = fn, .sa_flags = flags}, old;

	sigemptyset(&action.sa_mask);
	return sigaction(sig, &action, &old) ? SIG_ERR : old.sa_handler;
}

static bool ours(int sig)
{
	return defer_installed() || (trap_is_ours(sig) && trap_installed());
}

/* The signals, by bits, that shall interrupt system calls where signal() sets their handlers. */
static uint64_t interrupting;

/* Deprecated, and called all the same. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
EXPORT int siginterrupt(int sig, int interrupt)
{
	int ret = REAL(siginterrupt)(sig, interrupt);

	if (!ret && interrupt)
		__atomic_fetch_or(&interrupting, UINT64_C(1) << (sig - 1), __ATOMIC_RELAXED);
	else if (!ret)
		__atomic_fetch_and(&interrupting, ~(UINT64_C(1) << (sig - 1)), __ATOMIC_RELAXED);
	return ret;
}
#pragma GCC diagnostic pop

static int signal_flags(int sig)
{
	uint64_t bits = __atomic_load_n(&interrupting, __ATOMIC_RELAXED);

	return sig > 0 && sig < 65 && bits >> (sig - 1) & 1 ? 0 : SA_RESTART;
}

EXPORT handler signal(int sig, handler fn)
{
	if (!ours(sig))
		return REAL(signal)(sig, fn);
	return set_handler(sig, fn, signal_flags(sig));
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
