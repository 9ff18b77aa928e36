/* SPDX-License-Identifier: MIT */
/*
 * Owns the dispositions that are handlers of the program's, but for SIGSEGV and SIGBUS (trap.c).
 * For the kernel a handler of ours stands in for each. If that finds its thread inside a request,
 * it keeps what it was told and returns with all signals blocked, just as if they had been from the
 * start; the end of the request has the signal sent again and the mask restored. So the request
 * that isn't interrupted, and hardly any is, needs no system call for its mask.
 *
 * Invariants: a thread keeps one signal at most, for the others are blocked from then on. SIG_DFL
 * and SIG_IGN are the kernel's alone: a child of vfork(), which shares our memory and has its own
 * dispositions, changes the table only if it sets a handler, and then not the table but the kernel.
 *
 * Lock: defer_mutex, a leaf, taken with all signals blocked, as sigaction() may be called in a
 * handler; the handler reads a copy under a sequence count. Nothing here can fail but what the
 * kernel refuses.
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include "run/defer.h"
#include "run/real.h"
#include "run/state.h"
#include "run/trap.h"

#define SIGNALS 65

static pthread_mutex_t defer_mutex = PTHREAD_MUTEX_INITIALIZER;
static sigset_t mask_before; /* of who holds it */
static struct sigaction actions[SIGNALS];
static unsigned sequence;
static bool installed;

static _Thread_local struct {
	unsigned depth; /* inside: not 0 */
	bool kept;	/* the rest is valid */
	int sig;
	siginfo_t info;
	uint64_t mask; /* of the code that was interrupted */
} here __attribute__((tls_model("initial-exec")));

void defer_lock(void)
{
	sigset_t saved;

	real_block_signals(&saved);
	pthread_mutex_lock(&defer_mutex);
	mask_before = saved;
}

void defer_unlock(void)
{
	sigset_t saved = mask_before;

	pthread_mutex_unlock(&defer_mutex);
	real_restore_signals(&saved);
}

/* ---- the table ----------------------------------------------------------------------------- */

static bool is_handler(const struct sigaction *action)
{
	return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

static struct sigaction action_of(int sig)
{
	struct sigaction copy;
	unsigned before;

	do {
		while ((before = __atomic_load_n(&sequence, __ATOMIC_ACQUIRE)) & 1)
			sched_yield();
		copy = actions[sig];
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (__atomic_load_n(&sequence, __ATOMIC_RELAXED) != before);
	return copy;
}

static void run_later_or_now(int sig, siginfo_t *info, void *context);

/* Have the kernel call us for a handler of the program's. defer_mutex held, signals blocked. */
static int stand_in(int sig, const struct sigaction *act)
{
	struct sigaction before = actions[sig];
	struct sigaction ours = {.sa_sigaction = run_later_or_now};
	int ret;

	sigfillset(&ours.sa_mask);
	sigdelset(&ours.sa_mask, SIGSEGV);
	sigdelset(&ours.sa_mask, SIGBUS);
	ours.sa_flags = SA_SIGINFO |
			(act->sa_flags & (SA_ONSTACK | SA_RESTART | SA_NOCLDSTOP | SA_NOCLDWAIT));
	__atomic_fetch_add(&sequence, 1, __ATOMIC_SEQ_CST);
	actions[sig] = *act;
	ret = real_sigaction(sig, &ours, NULL);
	if (ret)
		actions[sig] = before;
	__atomic_fetch_add(&sequence, 1, __ATOMIC_SEQ_CST);
	return ret;
}

void defer_show(int sig, struct sigaction *old)
{
	int restart = old->sa_flags & SA_RESTART; /* siginterrupt() changes it */

	if (old->sa_sigaction != run_later_or_now)
		return;
	*old = action_of(sig);
	old->sa_flags = (old->sa_flags & ~SA_RESTART) | restart;
}

int defer_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction before;
	int ret;

	defer_lock();
	ret = real_sigaction(sig, NULL, &before);
	if (!ret)
		defer_show(sig, &before);
	if (!ret && act)
		ret = installed && sig < SIGNALS && is_handler(act) && state_mine()
			      ? stand_in(sig, act)
			      : real_sigaction(sig, act, NULL);
	defer_unlock();
	if (!ret && old)
		*old = before;
	return ret;
}

void defer_install(void)
{
	struct sigaction now;

	defer_lock();
	for (int sig = 1; sig < SIGNALS && !installed; sig++)
		if (!trap_is_ours(sig) && !real_sigaction(sig, NULL, &now) && is_handler(&now))
			stand_in(sig, &now);
	__atomic_store_n(&installed, true, __ATOMIC_RELEASE);
	defer_unlock();
}

bool defer_installed(void)
{
	return __atomic_load_n(&installed, __ATOMIC_ACQUIRE);
}

/* ---- requests ------------------------------------------------------------------------------ */

void defer_begin(void)
{
	here.depth++;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

bool defer_inside(void)
{
	return here.depth;
}

static void restore_mask(void)
{
	here.kept = false;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &here.mask, NULL, sizeof(here.mask));
}

/* Send this thread what was kept, as it was, and let it come. All signals are blocked. */
static __attribute__((noinline)) void let_come(void)
{
	int saved = errno;

	/* Where a user's queue is full the kernel wants one to wait; what is in it is being taken.
	 */
	while (syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), here.sig,
		       &here.info) &&
	       errno == EAGAIN)
		sched_yield();
	errno = saved;
	restore_mask();
}

void defer_end(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	here.depth--;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (here.kept && !here.depth)
		let_come();
}

void defer_end_child(void)
{
	here.depth--;
	if (here.kept && !here.depth)
		restore_mask();
}

/* ---- the handler --------------------------------------------------------------------------- */

/* Does an instruction of the thread's own raise it, which would do so again? */
static bool is_synchronous(int sig, const siginfo_t *info)
{
	return info->si_code > 0 &&
	       (sig == SIGILL || sig == SIGFPE || sig == SIGTRAP || sig == SIGSYS);
}

static void reset(int sig)
{
	const struct sigaction standard = {.sa_handler = SIG_DFL};

	if (trap_watches(sig))
		trap_watched_action(sig, &standard, NULL);
	else
		real_sigaction(sig, &standard, NULL);
}

static void run_later_or_now(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct sigaction action;
	sigset_t all;

	if (here.depth && !is_synchronous(sig, info)) {
		here.sig = sig;
		here.info = *info;
		memcpy(&here.mask, &uc->uc_sigmask, sizeof(here.mask));
		here.kept = true;
		sigfillset(&all);
		sigdelset(&all, SIGSEGV);
		sigdelset(&all, SIGBUS);
		/* The kernel's set is 64 bits long, and what it has on the stack is no longer. */
		memcpy(&uc->uc_sigmask, &all, sizeof(here.mask));
		return;
	}
	action = action_of(sig);
	if (action.sa_flags & (int)SA_RESETHAND)
		reset(sig);
	if (!(action.sa_flags & SA_NODEFER))
		sigaddset(&action.sa_mask, sig);
	trap_call_program(sig, info, uc, &action);
}
