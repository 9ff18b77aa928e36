/* SPDX-License-Identifier: MIT */
/*
 * limits - what the machine itself can: nothing built on it gets below these.
 */
#include "bench.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE = 64 };
static volatile uint64_t sink;

/* A cycle through all lines of @arg bytes in random order (Sattolo): each load waits for the one
 * before. */
static double chase(const struct work *w)
{
	const size_t steps = w->arg > 1 << 20 ? 100000 : 400000;
	void **p = w->state;
	double start = now_ns();

	for (size_t i = 0; i < steps; i++)
		p = *p;
	sink = (uintptr_t)p;
	return (now_ns() - start) / (double)steps;
}

static void *chase_new(size_t bytes)
{
	size_t count = bytes / LINE, *order = malloc(count * sizeof(*order));
	char *memory = aligned_alloc(4096, bytes);
	uint64_t x = settings.seed | 1;

	must(!order || !memory, "memory for load latencies");
	for (size_t i = 0; i < count; i++)
		order[i] = i;
	for (size_t i = count - 1; i > 0; i--) {
		size_t j, t = order[i];

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		j = x % i;
		order[i] = order[j];
		order[j] = t;
	}
	for (size_t i = 0; i < count; i++)
		*(void **)(memory + order[i] * LINE) = memory + order[(i + 1) % count] * LINE;
	free(order);
	return memory;
}

static double independent(const struct work *w)
{
	const uint64_t *m = w->state, mask = w->arg / 8 - 1;
	uint64_t x = settings.seed | 1, sum = 0;
	double start = now_ns();

	for (unsigned i = 0; i < 200000; i++) {
		x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
		sum += m[(x >> 24) & mask];
	}
	sink = sum;
	return (now_ns() - start) / 200000;
}

/* Entries as a table would have them, 4 KiB of them again and again. */
static double fill(const struct work *w)
{
	volatile uint64_t *m = w->state;
	double start = now_ns();

	for (uint64_t r = 0; r < 400; r++)
		for (uint64_t i = 0; i < 512; i++)
			m[i] = (i + r) << 12 | 3;
	return (now_ns() - start) / (400 * 512);
}

#define LOOP(name, count, body)                      \
	static double name(const struct work *w)     \
	{                                            \
		double start = now_ns();             \
		for (int i = 0; i < (count); i++) {  \
			body;                        \
		}                                    \
		return (now_ns() - start) / (count); \
	}

static _Atomic uint64_t counter;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int null_fd;

LOOP(atomic_one, 100000, atomic_fetch_add(&counter, 1))
LOOP(fence, 100000, atomic_thread_fence(memory_order_seq_cst))
LOOP(mutex_pair, 100000, pthread_mutex_lock(&mutex); pthread_mutex_unlock(&mutex))
LOOP(membarrier, 5000, syscall(__NR_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
LOOP(null_ioctl, 20000, ioctl(null_fd, _IO('Z', 1), 0))

static double first_touch(const struct work *w)
{
	enum { PAGES = 1024 };
	volatile char *m = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	double start;

	must(m == MAP_FAILED, "mmap");
	madvise((void *)m, PAGES * 4096, MADV_NOHUGEPAGE);
	start = now_ns();
	for (size_t i = 0; i < PAGES; i++)
		m[i * 4096] = 1;
	start = now_ns() - start;
	munmap((void *)m, PAGES * 4096);
	return start / PAGES;
}

static void latency_add(size_t bytes, const char *what)
{
	work_add(chase, chase_new(bytes), bytes, 0, "limit: load, %s", what);
}

void limits_add(void)
{
	const size_t large = (size_t)256 << 20;
	void *m;

	if (!work_wanted("limit"))
		return;
	latency_add(16 << 10, "16 KiB (L1)");
	latency_add(256 << 10, "256 KiB (L2)");
	latency_add(8 << 20, "8 MiB (last level)");
	latency_add(large, "256 MiB (DRAM)");
	m = mmap(NULL, large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		 -1, 0);
	must(m == MAP_FAILED, "mmap");
	work_add(independent, m, large, 0, "limit: independent random loads, 256 MiB");
	work_add(fill, aligned_alloc(4096, 4096), 0, 0, "limit: fill an entry, in cache");
	work_add(atomic_one, NULL, 0, 0, "limit: atomic add");
	work_add(fence, NULL, 0, 0, "limit: full fence");
	work_add(mutex_pair, NULL, 0, 0, "limit: mutex pair");
	if (!syscall(__NR_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
		work_add(membarrier, NULL, 0, 0, "limit: membarrier, idle");
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	must(null_fd < 0, "/dev/null");
	work_add(null_ioctl, NULL, 0, 0, "limit: ioctl on /dev/null");
	work_add(first_touch, NULL, 0, 0, "limit: first touch of 4 KiB");
}
