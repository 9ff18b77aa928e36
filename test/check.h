/* SPDX-License-Identifier: MIT */
/* What the tests share: cmocka, a random generator with a printed seed, an allocator that fails. */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <uiommu/types.h>

/* ---- random numbers: splitmix64, so that a printed seed repeats a run anywhere ---- */

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t z = (rng->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
	return rng_next(rng) % n;
}

/* Seed from TEST_SEED, else from the clock; print it, so that a failure can be repeated. */
static inline struct rng rng_seeded(const char *test)
{
	const char *set = getenv("TEST_SEED");
	struct timespec now;
	struct rng rng;

	clock_gettime(CLOCK_REALTIME, &now);
	rng.state = set ? strtoull(set, NULL, 0) : (uint64_t)now.tv_nsec * 1000003 + now.tv_sec;
	printf("%s: TEST_SEED=0x%llx\n", test, (unsigned long long)rng.state);
	return rng;
}

/* Number of steps: TEST_STEPS, else the default. */
static inline uint64_t test_steps(uint64_t normal)
{
	const char *set = getenv("TEST_STEPS");

	return set ? strtoull(set, NULL, 0) : normal;
}

/* ---- an allocator that fails at the nth request and knows what is out ---- */

static _Atomic long fail_countdown = -1; /* < 0: never */
static _Atomic long fail_live;		 /* blocks not released */
static _Atomic long fail_live_bytes;

static inline void *failing_alloc(size_t size, size_t align)
{
	void *ptr;

	if (fail_countdown >= 0 && fail_countdown-- == 0)
		return NULL;
	if (posix_memalign(&ptr, align, size))
		return NULL;
	fail_live++;
	fail_live_bytes += size;
	return memset(ptr, 0, size);
}

static inline void failing_release(void *ptr, size_t size)
{
	fail_live--;
	fail_live_bytes -= size;
	free(ptr);
}

#endif
