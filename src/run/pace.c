/* SPDX-License-Identifier: MIT */
/*
 * Owns the order in time between a trapped store and the DMA that it sets off. On hardware a store
 * is posted and over before the device has even seen it. Here the device's worker may be done
 * before the signal handler has returned, and by much if the kernel takes the processor away from
 * the driver in between. Drivers are built on the former: DPDK's ioat driver loses a completion
 * that arrives before the instructions behind its doorbell have run. So a worker's first access
 * after a store waits until the storing thread has used some processor time since, which counts
 * only while it runs, or has gone to sleep, or until patience ends.
 *
 * Only the last store counts: of two threads that store at the same time one may go unheeded. A
 * store in the making may wait for the function's lock, which the worker holds: then its thread
 * sleeps, and nobody waits for it. No locks; nothing here can fail or wait for ever.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "run/pace.h"
#include "run/real.h"

/* Time of its own that the storing thread gets, and how long it takes to find out, in ns. */
#define MOMENT	 20000
#define LOOK	 30000
#define PATIENCE 10000000

/* The processor-time clock of any thread of this process (see clock_getcpuclockid(3)). */
#define THREAD_CLOCK(tid) ((clockid_t)(~(unsigned)(tid) << 3 | 6))

/* The store is still being performed. */
#define NOT_YET UINT64_MAX

static struct {
	unsigned serial; /* counts stores */
	int thread;
	uint64_t used; /* its processor time when the store was over */
} last;

static _Thread_local unsigned waited_for __attribute__((tls_model("initial-exec")));

static bool read_clock(clockid_t clock, uint64_t *ns)
{
	struct timespec time;

	if (clock_gettime(clock, &time))
		return false;
	*ns = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
	return true;
}

void pace_store_begins(void)
{
	__atomic_store_n(&last.thread, (int)syscall(SYS_gettid), __ATOMIC_RELAXED);
	__atomic_store_n(&last.used, NOT_YET, __ATOMIC_RELAXED);
	__atomic_fetch_add(&last.serial, 1, __ATOMIC_RELEASE);
}

void pace_store_ends(void)
{
	uint64_t used;

	if (!read_clock(CLOCK_THREAD_CPUTIME_ID, &used))
		used = 0;
	__atomic_store_n(&last.used, used, __ATOMIC_RELEASE);
}

/* Does the thread sleep, or is there no telling? The state follows the name in parentheses. */
static bool sleeps(int thread)
{
	char text[128];
	const char *state;
	ssize_t len;
	int fd;

	snprintf(text, sizeof(text), "/proc/self/task/%d/stat", thread);
	fd = real_open(text, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return true;
	len = real_read(fd, text, sizeof(text) - 1);
	real_close(fd);
	if (len <= 0)
		return true;
	text[len] = '\0';
	state = strrchr(text, ')');
	return !state || state[1] != ' ' || state[2] != 'R';
}

/* Has the thread gone on since its store? So it has if it stores again. */
static bool gone_on(unsigned serial, int thread)
{
	uint64_t used = __atomic_load_n(&last.used, __ATOMIC_ACQUIRE), now;

	if (__atomic_load_n(&last.serial, __ATOMIC_RELAXED) != serial)
		return true;
	if (used == NOT_YET)
		return false;
	return !read_clock(THREAD_CLOCK(thread), &now) || now - used >= MOMENT;
}

static void wait_for(unsigned serial, int thread)
{
	const struct timespec pause = {0, LOOK};
	uint64_t start, now;

	if (!read_clock(CLOCK_MONOTONIC, &start))
		return;
	for (now = start; now - start < PATIENCE && !gone_on(serial, thread);) {
		read_clock(CLOCK_MONOTONIC, &now);
		if (now - start < LOOK)
			continue;
		if (sleeps(thread))
			return;
		/* It waits for a processor, perhaps for this one. */
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	}
}

void pace_dma(void)
{
	unsigned serial = __atomic_load_n(&last.serial, __ATOMIC_ACQUIRE);

	if (__builtin_expect(serial == waited_for, 1))
		return;
	waited_for = serial;
	wait_for(serial, __atomic_load_n(&last.thread, __ATOMIC_RELAXED));
}
