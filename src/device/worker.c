/* SPDX-License-Identifier: MIT */
/*
 * A function's lock and its worker thread.
 *
 * Invariants: work() runs on the worker alone, with the lock held; kicked or posted is true as long
 * as work() is due or may have more to do, interrupted while it has let others in half way; so none
 * of them under the lock means idle. The worker holds no lock while it waits. After a fork the
 * child has no worker until worker_fork_child().
 *
 * The worker waits for its bell, which stays rung until it has heard it. Ringing takes only the
 * bell's lock, a leaf, so anybody may post work, whatever is held. Posting does not even take that
 * unless the worker sleeps: posted is set before asleep is read, and asleep set before posted is
 * read, so one of the two sees the other.
 *
 * Starting a thread may fail; then the worker is missing and is tried again at the next write to
 * configuration space, never inside a register write, which may come from a signal handler.
 * Kicking and stopping cannot fail.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "device/function.h"

/* Models keep their buffers in their state: a step needs little stack, and a program that locks all
 * its memory pays for all of it. A program with more thread-local storage than this gets the
 * default. */
#define WORKER_STACK (512 * 1024)

static int worker_conds_init(struct uiommu_function *fn)
{
	if (pthread_cond_init(&fn->bell, NULL))
		return -ENOMEM;
	if (pthread_cond_init(&fn->idle, NULL)) {
		pthread_cond_destroy(&fn->bell);
		return -ENOMEM;
	}
	if (pthread_mutex_init(&fn->bell_lock, NULL)) {
		pthread_cond_destroy(&fn->idle);
		pthread_cond_destroy(&fn->bell);
		return -ENOMEM;
	}
	return 0;
}

int function_locks_init(struct uiommu_function *fn)
{
	if (pthread_mutex_init(&fn->gate, NULL))
		return -ENOMEM;
	if (pthread_mutex_init(&fn->lock, NULL)) {
		pthread_mutex_destroy(&fn->gate);
		return -ENOMEM;
	}
	if (worker_conds_init(fn)) {
		pthread_mutex_destroy(&fn->lock);
		pthread_mutex_destroy(&fn->gate);
		return -ENOMEM;
	}
	return 0;
}

void function_locks_destroy(struct uiommu_function *fn)
{
	pthread_mutex_destroy(&fn->bell_lock);
	pthread_cond_destroy(&fn->idle);
	pthread_cond_destroy(&fn->bell);
	pthread_mutex_destroy(&fn->lock);
	pthread_mutex_destroy(&fn->gate);
}

void function_lock(struct uiommu_function *fn)
{
	pthread_mutex_lock(&fn->gate);
	pthread_mutex_lock(&fn->lock);
	pthread_mutex_unlock(&fn->gate);
}

void function_unlock(struct uiommu_function *fn)
{
	pthread_mutex_unlock(&fn->lock);
}

/* Have nothing of the function's wait for a page, and end what does. */
static void hold_paging(struct uiommu_function *fn, bool hold)
{
	if (fn->port)
		uiommu_port_hold_paging(fn->port, hold);
	if (fn->pasid_port)
		uiommu_port_hold_paging(fn->pasid_port, hold);
}

void function_lock_whole(struct uiommu_function *fn)
{
	hold_paging(fn, true);
	function_lock(fn);
	while (fn->interrupted)
		pthread_cond_wait(&fn->idle, &fn->lock);
	hold_paging(fn, false);
}

void worker_let_in(void *function)
{
	struct uiommu_function *fn = function;

	fn->interrupted = true;
	function_unlock(fn);
}

void worker_go_on(void *function)
{
	function_lock(function);
}

static void end_step(struct uiommu_function *fn)
{
	if (!fn->interrupted)
		return;
	fn->interrupted = false;
	pthread_cond_broadcast(&fn->idle);
}

/* Is it too early for the work that is due? */
static bool too_early(const struct uiommu_function *fn)
{
	struct timespec now;

	if (!fn->not_before.tv_sec)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec < fn->not_before.tv_sec ||
	       (now.tv_sec == fn->not_before.tv_sec && now.tv_nsec < fn->not_before.tv_nsec);
}

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool work_due(const struct uiommu_function *fn)
{
	return fn->kicked || __atomic_load_n(&fn->posted, __ATOMIC_SEQ_CST) ||
	       (fn->alarm && fn->alarm <= clock_ns());
}

static void bell_ring(struct uiommu_function *fn)
{
	pthread_mutex_lock(&fn->bell_lock);
	fn->rung = true;
	pthread_cond_signal(&fn->bell);
	pthread_mutex_unlock(&fn->bell_lock);
}

/* Without the lock, until the bell rings, until @until (NULL: for ever) or, unless work is due
 * later, until something is posted. */
static void worker_sleep(struct uiommu_function *fn, const struct timespec *until, bool later)
{
	int error = 0;

	__atomic_store_n(&fn->asleep, true, __ATOMIC_SEQ_CST);
	if (!later && !__atomic_load_n(&fn->posted, __ATOMIC_SEQ_CST))
		pthread_cond_broadcast(&fn->idle);
	function_unlock(fn);
	pthread_mutex_lock(&fn->bell_lock);
	while (!fn->rung && !error && (later || !__atomic_load_n(&fn->posted, __ATOMIC_SEQ_CST))) {
		if (until)
			error = pthread_cond_clockwait(&fn->bell, &fn->bell_lock, CLOCK_MONOTONIC,
						       until);
		else
			pthread_cond_wait(&fn->bell, &fn->bell_lock);
	}
	fn->rung = false;
	pthread_mutex_unlock(&fn->bell_lock);
	__atomic_store_n(&fn->asleep, false, __ATOMIC_RELAXED);
	function_lock(fn);
}

static void worker_wait(struct uiommu_function *fn)
{
	struct timespec until = {(time_t)(fn->alarm / 1000000000), (long)(fn->alarm % 1000000000)};

	worker_sleep(fn, fn->alarm ? &until : NULL, false);
}

static void worker_wait_later(struct uiommu_function *fn)
{
	struct timespec until = fn->not_before;

	worker_sleep(fn, &until, true);
}

/* Between two steps: those who wait for the lock get it, and for the processor, too. */
static void worker_pause(struct uiommu_function *fn)
{
	bool yield = fn->yield;

	fn->yield = false;
	function_unlock(fn);
	if (yield)
		sched_yield();
	function_lock(fn);
}

static void *worker_main(void *arg)
{
	struct uiommu_function *fn = arg;
	const struct uiommu_machine_options *options = machine_options(fn->machine);
	char name[16] = "uiommu/";

	if (options->worker_start)
		options->worker_start(options->worker_ctx);
	/* A thread's name has 15 characters: the address without its domain fits. */
	strncat(name, fn->name + strlen("0000:"), sizeof(name) - strlen(name) - 1);
	pthread_setname_np(pthread_self(), name);

	function_lock(fn);
	while (!fn->stop) {
		if (!work_due(fn)) {
			worker_wait(fn);
			continue;
		}
		if (too_early(fn)) {
			worker_wait_later(fn);
			continue;
		}
		fn->not_before.tv_sec = 0;
		fn->kicked = false;
		__atomic_store_n(&fn->posted, false, __ATOMIC_SEQ_CST);
		if (fn->alarm && fn->alarm <= clock_ns())
			fn->alarm = 0;
		if (fn->model->work(fn))
			fn->kicked = true;
		end_step(fn);
		worker_pause(fn);
	}
	function_unlock(fn);
	return NULL;
}

static int worker_create(struct uiommu_function *fn)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int error;

	if (pthread_attr_init(&attr))
		return -ENOMEM;
	pthread_attr_setstacksize(&attr, WORKER_STACK);

	/* The program's signals are not for this thread; its own faults are, be it for the handler
	 * that makes copies safe. The mask is inherited, so that there is no moment without it. */
	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&fn->thread, &attr, worker_main, fn);
	if (error == EINVAL)
		error = pthread_create(&fn->thread, NULL, worker_main, fn);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return error ? -EAGAIN : 0;
}

int worker_start(struct uiommu_function *fn)
{
	int error = 0;

	if (!fn->model->work)
		return 0;
	function_lock(fn);
	if (!fn->worker) {
		error = worker_create(fn);
		fn->worker = !error;
	}
	function_unlock(fn);
	return error;
}

void worker_stop(struct uiommu_function *fn)
{
	bool running;

	/* Held for good: the function is on its way out. */
	hold_paging(fn, true);
	function_lock(fn);
	running = fn->worker;
	fn->stop = true;
	bell_ring(fn);
	function_unlock(fn);
	if (running)
		pthread_join(fn->thread, NULL);
	fn->worker = false;
}

void worker_cancel(struct uiommu_function *fn)
{
	fn->kicked = false;
	__atomic_store_n(&fn->posted, false, __ATOMIC_SEQ_CST);
	fn->not_before.tv_sec = 0;
	fn->alarm = 0;
	pthread_cond_broadcast(&fn->idle);
}

void uiommu_function_post(struct uiommu_function *fn)
{
	if (!__atomic_exchange_n(&fn->posted, true, __ATOMIC_SEQ_CST) &&
	    __atomic_load_n(&fn->asleep, __ATOMIC_SEQ_CST))
		bell_ring(fn);
}

void uiommu_function_kick(struct uiommu_function *fn)
{
	if (fn->kicked || !fn->model->work)
		return;
	fn->kicked = true;
	bell_ring(fn);
}

void uiommu_function_kick_after(struct uiommu_function *fn, uint32_t ns)
{
	if (fn->kicked || !fn->model->work)
		return;
	clock_gettime(CLOCK_MONOTONIC, &fn->not_before);
	fn->not_before.tv_nsec += ns;
	fn->not_before.tv_sec += fn->not_before.tv_nsec / 1000000000;
	fn->not_before.tv_nsec %= 1000000000;
	uiommu_function_kick(fn);
}

void uiommu_function_yield(struct uiommu_function *fn)
{
	fn->yield = true;
}

void uiommu_function_alarm(struct uiommu_function *fn, uint64_t ns)
{
	fn->alarm = ns ? clock_ns() + ns : 0;
	/* From work() or not: a worker that sleeps has to sleep shorter now. */
	bell_ring(fn);
}

void uiommu_function_drain(struct uiommu_function *fn)
{
	/* Without a worker nothing would ever come to an end. */
	if (worker_start(fn))
		return;
	function_lock(fn);
	while (fn->kicked || fn->interrupted || __atomic_load_n(&fn->posted, __ATOMIC_SEQ_CST))
		pthread_cond_wait(&fn->idle, &fn->lock);
	function_unlock(fn);
}

void worker_fork_prepare(struct uiommu_function *fn)
{
	function_lock_whole(fn);
}

void worker_fork_parent(struct uiommu_function *fn)
{
	function_unlock(fn);
}

void worker_fork_child(struct uiommu_function *fn)
{
	/* Other threads may have been waiting at the gate, for the lock or on a condition: they are
	 * not in this process, so what they left in these objects is garbage. */
	bool had_worker = fn->worker;

	pthread_mutex_init(&fn->gate, NULL);
	pthread_mutex_init(&fn->lock, NULL);
	pthread_mutex_init(&fn->bell_lock, NULL);
	pthread_cond_init(&fn->bell, NULL);
	pthread_cond_init(&fn->idle, NULL);
	fn->worker = false;
	fn->asleep = false;
	if (fn->model->forked) {
		function_lock(fn);
		worker_cancel(fn);
		fn->model->forked(fn);
		function_unlock(fn);
	}
	if (had_worker)
		worker_start(fn);
}
