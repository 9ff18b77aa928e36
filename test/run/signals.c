/* SPDX-License-Identifier: MIT */
/*
 * Run under "uiommu run": signal handlers that make requests, or jump away, while their thread is
 * in the middle of requests itself. None is lost, none changes what it was told, nobody waits for
 * himself. And dispositions look to the program as it has set them.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

/* sigset() and siginterrupt() are what old programs call. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#define PAGE	4096UL
#define SIGNALS 3000
#define MAIN	0x100000000UL
#define HANDLER 0x200000000UL

static struct session session;
static char *memory;
static volatile int handled, refused, jumps, nested;
static volatile long sum;
static sigjmp_buf back;
static pthread_t main_thread;
static volatile bool sent_all;

static int unmap_dma(uint64_t iova)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = iova, .size = PAGE};

	return ioctl(session.container, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

static void map_and_unmap(uint64_t iova)
{
	CHECK(!map_dma(session.container, memory, iova, PAGE));
	CHECK(!unmap_dma(iova));
}

/* Send the main thread so many of them, each with its number, at all sorts of moments. */
static void *send(void *arg)
{
	int sig = *(int *)arg;

	for (int i = 0; i < SIGNALS; i++) {
		union sigval value = {.sival_int = i};
		struct timespec pause = {.tv_nsec = 1000 + i * 7 % 20000};

		while (pthread_sigqueue(main_thread, sig, value) == EAGAIN)
			nanosleep(&pause, NULL);
		nanosleep(&pause, NULL);
	}
	sent_all = true;
	return NULL;
}

static void under_fire(int sig, void (*work)(void))
{
	pthread_t sender;

	sent_all = false;
	CHECK(!pthread_create(&sender, NULL, send, &sig));
	while (!sent_all)
		work();
	CHECK(!pthread_join(sender, NULL));
	work();
}

static void work(void)
{
	map_and_unmap(MAIN);
}

/* ---- requests in a handler ---- */

static void on_signal(int sig, siginfo_t *info, void *context)
{
	CHECK(sig == SIGRTMIN + 1 && info->si_code == SI_QUEUE && info->si_pid == getpid());
	map_and_unmap(HANDLER);
	sum += info->si_value.sival_int;
	handled++;
}

static void requests(void)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

	handled = 0;
	CHECK(!sigaction(SIGRTMIN + 1, &action, NULL));
	under_fire(SIGRTMIN + 1, work);
	CHECK(handled == SIGNALS && sum == (long)SIGNALS * (SIGNALS - 1) / 2);
}

/* ---- a handler that does not return ---- */

static void on_jump(int sig)
{
	jumps++;
	siglongjmp(back, 1);
}

static void jumping_work(void)
{
	if (!sigsetjmp(back, 1))
		map_dma(session.container, memory, MAIN, PAGE);
	/* It may have been mapped or not. */
	if (!sigsetjmp(back, 1))
		unmap_dma(MAIN);
}

static void jumps_away(void)
{
	struct sigaction action = {.sa_handler = on_jump};
	sigset_t mask;

	CHECK(!sigaction(SIGRTMIN + 2, &action, NULL));
	CHECK(!sigsetjmp(back, 1) || jumps);
	under_fire(SIGRTMIN + 2, jumping_work);
	CHECK(jumps > 0);
	CHECK(signal(SIGRTMIN + 2, SIG_IGN) == on_jump);
	CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &mask) && !sigismember(&mask, SIGRTMIN + 2) &&
	      !sigismember(&mask, SIGTERM));
	unmap_dma(MAIN);
	map_and_unmap(MAIN);
}

/* ---- a handler that nobody can keep waiting ---- */

static void on_unknown(int sig)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .iova = HANDLER, .size = PAGE};

	if (ioctl(session.container, VFIO_IOMMU_UNMAP_DMA, &unmap)) {
		CHECK(errno == EDEADLK);
		refused++;
	}
	handled++;
}

/* libc sets it on its own here, past the runner. */
static void unknown(void)
{
	handled = 0;
	CHECK(sigset(SIGUSR1, on_unknown) == SIG_DFL);
	under_fire(SIGUSR1, work);
	CHECK(handled > 0);
	printf("%d of %d signals came in the middle of a request\n", refused, handled);
	CHECK(sigset(SIGUSR1, SIG_DFL) == on_unknown);
}
/* ---- dispositions ---- */

static void before_the_machine(int sig)
{
	handled = sig;
}

static void on_nested(int sig, siginfo_t *info, void *context)
{
	sigset_t mask;

	CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &mask));
	CHECK(!sigismember(&mask, SIGUSR2) && sigismember(&mask, SIGCHLD) &&
	      !sigismember(&mask, SIGHUP));
	if (++nested < 3)
		raise(SIGUSR2);
}

static void on_once(int sig)
{
	struct sigaction now;
	sigset_t mask;

	CHECK(!sigaction(SIGUSR2, NULL, &now) && now.sa_handler == SIG_DFL);
	CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &mask) && sigismember(&mask, SIGUSR2));
	handled = 77;
}

/* Once the handler has run, the call that it did not interrupt gets something to read. */
static void *write_after(void *arg)
{
	while (!handled)
		;
	CHECK(write(*(int *)arg, "x", 1) == 1);
	return NULL;
}

static void interrupted(bool restart)
{
	const struct timespec soon = {.tv_nsec = 20000000};
	struct itimerspec when = {.it_value = soon, .it_interval = soon};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	pthread_t writer;
	timer_t timer;
	sigset_t alarm;
	int ends[2];
	char byte;

	handled = 0;
	CHECK(!siginterrupt(SIGALRM, !restart));
	CHECK(signal(SIGALRM, before_the_machine) != SIG_ERR);
	CHECK(!pipe(ends));
	/* The timer's signal is for this thread alone. */
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	CHECK(!pthread_sigmask(SIG_BLOCK, &alarm, NULL));
	if (restart)
		CHECK(!pthread_create(&writer, NULL, write_after, &ends[1]));
	CHECK(!pthread_sigmask(SIG_UNBLOCK, &alarm, NULL));
	CHECK(!timer_create(CLOCK_MONOTONIC, &event, &timer));
	CHECK(!timer_settime(timer, 0, &when, NULL));
	errno = 0;
	if (restart)
		CHECK(read(ends[0], &byte, 1) == 1 && handled == SIGALRM);
	else
		CHECK(read(ends[0], &byte, 1) == -1 && errno == EINTR && handled == SIGALRM);
	CHECK(!timer_delete(timer));
	if (restart)
		CHECK(!pthread_join(writer, NULL));
	CHECK(!close(ends[0]) && !close(ends[1]));
}

static void dispositions(void)
{
	struct sigaction old, action = {.sa_sigaction = on_nested,
					.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};

	/* Set before there was a machine. */
	CHECK(!sigaction(SIGUSR2, NULL, &old) && old.sa_handler == before_the_machine &&
	      old.sa_flags & SA_RESTART && !(old.sa_flags & SA_SIGINFO));
	raise(SIGUSR2);
	CHECK(handled == SIGUSR2);

	sigaddset(&action.sa_mask, SIGCHLD);
	CHECK(!sigaction(SIGUSR2, &action, &old) && old.sa_handler == before_the_machine);
	raise(SIGUSR2);
	CHECK(nested == 3);
	CHECK(!sigaction(SIGUSR2, NULL, &old) && old.sa_sigaction == on_nested &&
	      (old.sa_flags & (SA_SIGINFO | SA_NODEFER | SA_RESTART)) == action.sa_flags &&
	      sigismember(&old.sa_mask, SIGCHLD) && !sigismember(&old.sa_mask, SIGHUP));

	action = (struct sigaction){.sa_handler = on_once, .sa_flags = (int)SA_RESETHAND};
	CHECK(!sigaction(SIGUSR2, &action, NULL));
	raise(SIGUSR2);
	CHECK(handled == 77);
	CHECK(signal(SIGUSR2, SIG_IGN) == SIG_DFL && signal(SIGUSR2, SIG_DFL) == SIG_IGN);

	errno = 0;
	CHECK(sigaction(SIGKILL, &action, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(65, &action, NULL) == -1 && errno == EINVAL);
	CHECK(sigaction(0, NULL, &old) == -1 && errno == EINVAL);
	interrupted(false);
	interrupted(true);
}

int main(void)
{
	CHECK(signal(SIGUSR2, before_the_machine) == SIG_DFL);
	main_thread = pthread_self();
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	session = open_session(EDU);
	dispositions();
	requests();
	jumps_away();
	unknown();
	close_session(&session);
	puts("ok");
	return 0;
}
