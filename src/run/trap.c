/* SPDX-License-Identifier: MIT */
/*
 * Owns the handler of SIGSEGV and SIGBUS and the program's own dispositions of them. A fault is, in
 * this order: one of the runner's safe copies (which then return -EFAULT), an access to a mapped
 * BAR (which is performed on the model), or the program's, which gets what it would have got
 * without us: its handler with its mask, or death by that signal.
 *
 * With --stats, it owns the default dispositions of the signals that usually end programs, too: a
 * handler of ours stands in for them, which has the statistics written and then dies of the signal.
 *
 * The handler runs with all signals blocked but these two: a fault inside of it is a safe copy's.
 * It uses the alternate stack only if the program's own handler asks for it; such stacks are small.
 * Lock: disposition_mutex, a leaf, never taken by the handler, which reads a copy under a sequence
 * count.
 */
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "run/access.h"
#include "run/copy.h"
#include "run/real.h"
#include "run/trap.h"

#define MASK_SEGV 1U
#define MASK_BUS  2U

static pthread_mutex_t disposition_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction disposition[2]; /* the program's: SIGSEGV, SIGBUS */
static unsigned disposition_sequence;
static bool installed;

/* Which of the two this thread believes it has blocked. */
static _Thread_local unsigned believed __attribute__((tls_model("initial-exec")));

static struct sigaction *program_action(int sig)
{
	return &disposition[sig == SIGBUS];
}

static struct sigaction copy_action(int sig)
{
	struct sigaction copy;
	unsigned sequence;

	do {
		while ((sequence = __atomic_load_n(&disposition_sequence, __ATOMIC_ACQUIRE)) & 1)
			__builtin_ia32_pause();
		copy = *program_action(sig);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (__atomic_load_n(&disposition_sequence, __ATOMIC_RELAXED) != sequence);
	return copy;
}

static void store_action(int sig, const struct sigaction *act)
{
	sigset_t all, saved;

	sigfillset(&all);
	real_sigmask(SIG_BLOCK, &all, &saved);
	__atomic_fetch_add(&disposition_sequence, 1, __ATOMIC_SEQ_CST);
	*program_action(sig) = *act;
	__atomic_fetch_add(&disposition_sequence, 1, __ATOMIC_SEQ_CST);
	real_sigmask(SIG_SETMASK, &saved, NULL);
}

/* ---- deaths -------------------------------------------------------------------------------- */

static void (*before_death)(void);

static void tell_death(void)
{
	void (*died)(void) = __atomic_load_n(&before_death, __ATOMIC_ACQUIRE);
	int saved = errno;

	if (died)
		died();
	errno = saved;
}

/* The signal is blocked until this returns, and then does what it does by default. */
static void on_death(int sig)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	int saved = errno;

	tell_death();
	real_sigaction(sig, &action, NULL);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
	errno = saved;
}

bool trap_watches(int sig)
{
	return __atomic_load_n(&before_death, __ATOMIC_ACQUIRE) &&
	       (sig == SIGHUP || sig == SIGINT || sig == SIGQUIT || sig == SIGABRT ||
		sig == SIGTERM);
}

int trap_watched_action(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction ours = {.sa_handler = on_death, .sa_flags = SA_RESTART};
	struct sigaction before;

	sigfillset(&ours.sa_mask);
	sigdelset(&ours.sa_mask, SIGSEGV);
	sigdelset(&ours.sa_mask, SIGBUS);
	if (act && act->sa_handler == SIG_DFL)
		act = &ours;
	if (real_sigaction(sig, act, &before))
		return -1;
	trap_show(&before);
	if (old)
		*old = before;
	return 0;
}

void trap_show(struct sigaction *old)
{
	if (old->sa_handler == on_death)
		*old = (struct sigaction){.sa_handler = SIG_DFL};
}

void trap_watch_deaths(void (*died)(void))
{
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGTERM};
	const struct sigaction standard = {.sa_handler = SIG_DFL};
	struct sigaction now;

	/* What has no handler does nothing to the first process of a PID namespace. */
	if (getpid() == 1)
		return;
	__atomic_store_n(&before_death, died, __ATOMIC_RELEASE);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (!real_sigaction(signals[i], NULL, &now) && now.sa_handler == SIG_DFL)
			trap_watched_action(signals[i], &standard, NULL);
}

/* ---- faults -------------------------------------------------------------------------------- */

/* Let the signal do what it does by default: at once if someone sent it, else when the instruction
 * is tried again. */
static void default_action(int sig, const siginfo_t *info)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	tell_death();
	real_sigaction(sig, &action, NULL);
	if (info->si_code <= 0)
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), sig);
}

void trap_call_program(int sig, siginfo_t *info, void *context, const struct sigaction *action)
{
	ucontext_t *uc = context;
	sigset_t mask;

	/* Afterwards the signal frame puts everything right. */
	memset(&mask, 0, sizeof(mask));
	memcpy(&mask, &uc->uc_sigmask, 8);
	sigorset(&mask, &mask, &action->sa_mask);
	sigdelset(&mask, SIGSEGV);
	sigdelset(&mask, SIGBUS);
	real_sigmask(SIG_SETMASK, &mask, NULL);
	if (action->sa_flags & SA_SIGINFO)
		action->sa_sigaction(sig, info, uc);
	else
		action->sa_handler(sig);
}

static void chain(int sig, siginfo_t *info, ucontext_t *uc)
{
	struct sigaction action = copy_action(sig);

	if (action.sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) {
		default_action(sig, info);
		return;
	}
	if (action.sa_flags & (int)SA_RESETHAND) {
		const struct sigaction reset = {.sa_handler = SIG_DFL};

		store_action(sig, &reset);
	}
	trap_call_program(sig, info, uc, &action);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	int saved = errno;
	int as = sig;

	if (info->si_code > 0 && copy_fixup(uc))
		return;
	if (sig != SIGSEGV || info->si_code <= 0 || !access_fault(info, uc, &as))
		chain(as, info, uc);
	errno = saved;
}

static int take_over(int sig)
{
	struct sigaction action = {.sa_sigaction = on_fault};
	const struct sigaction *theirs = program_action(sig);

	sigfillset(&action.sa_mask);
	sigdelset(&action.sa_mask, SIGSEGV);
	sigdelset(&action.sa_mask, SIGBUS);
	action.sa_flags = SA_SIGINFO | SA_NODEFER | (theirs->sa_flags & (SA_ONSTACK | SA_RESTART));
	return real_sigaction(sig, &action, NULL);
}

void trap_install(void)
{
	pthread_mutex_lock(&disposition_mutex);
	if (!installed) {
		real_sigaction(SIGSEGV, NULL, program_action(SIGSEGV));
		real_sigaction(SIGBUS, NULL, program_action(SIGBUS));
		__atomic_store_n(&installed, true, __ATOMIC_RELEASE);
		take_over(SIGSEGV);
		take_over(SIGBUS);
	}
	pthread_mutex_unlock(&disposition_mutex);
}

bool trap_installed(void)
{
	return __atomic_load_n(&installed, __ATOMIC_ACQUIRE);
}

int trap_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction before;
	int ret = 0;

	pthread_mutex_lock(&disposition_mutex);
	before = *program_action(sig);
	if (act) {
		store_action(sig, act);
		ret = take_over(sig);
	}
	pthread_mutex_unlock(&disposition_mutex);
	if (old)
		*old = before;
	return ret;
}

/* ---- masks --------------------------------------------------------------------------------- */

unsigned trap_mask_bits(void)
{
	return believed;
}

void trap_put_bits(unsigned bits, sigset_t *old)
{
	if (bits & MASK_SEGV)
		sigaddset(old, SIGSEGV);
	if (bits & MASK_BUS)
		sigaddset(old, SIGBUS);
}

void trap_filter_mask(int how, sigset_t *set)
{
	unsigned bits = (sigismember(set, SIGSEGV) > 0 ? MASK_SEGV : 0) |
			(sigismember(set, SIGBUS) > 0 ? MASK_BUS : 0);

	if (how == SIG_BLOCK)
		believed |= bits;
	else if (how == SIG_UNBLOCK)
		believed &= ~bits;
	else if (how == SIG_SETMASK)
		believed = bits;
	if (how != SIG_UNBLOCK) {
		sigdelset(set, SIGSEGV);
		sigdelset(set, SIGBUS);
	}
}
