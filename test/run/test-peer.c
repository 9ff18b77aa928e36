/* SPDX-License-Identifier: MIT */
/*
 * Posted writes between functions, with a target that keeps the thread waiting: they arrive in
 * order, what is posted meanwhile is bounded, and there is room again once they are performed. The
 * target and the thread's start are defined here.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "run/peer.h"
#include "run/state.h"

static pthread_mutex_t target = PTHREAD_MUTEX_INITIALIZER;
static uint64_t performed;
static bool in_order = true;

void state_thread_start(void *ctx)
{
}

int uiommu_function_bar_write(struct uiommu_function *fn, unsigned bar, uint64_t offset,
			      const void *buf, size_t len)
{
	pthread_mutex_lock(&target);
	in_order &= offset == performed;
	performed++;
	pthread_mutex_unlock(&target);
	return 0;
}

/* Post until it fails, or as many as no queue should take. */
static uint64_t post(uint64_t from, size_t len, uint64_t most, int *error)
{
	static const char data[4096];
	uint64_t n;

	*error = 0;
	for (n = 0; n < most && !*error; n += !*error)
		*error = peer_write(NULL, 0, from + n, data, len);
	return n;
}

static void await(uint64_t count)
{
	for (unsigned ms = 0; ms < 10000; ms++) {
		uint64_t now;

		pthread_mutex_lock(&target);
		now = performed;
		pthread_mutex_unlock(&target);
		if (now == count)
			return;
		usleep(1000);
	}
	fail_msg("%lu writes did not arrive", (unsigned long)count);
}

static void test_bounded(void **state)
{
	const size_t sizes[] = {4096, 4};
	uint64_t count = 0, n;
	int error;

	for (unsigned i = 0; i < 2; i++) {
		pthread_mutex_lock(&target);
		n = post(count, sizes[i], 1 << 20, &error);
		pthread_mutex_unlock(&target);
		assert_int_equal(error, -EFAULT);
		/* Little writes cost more than their data. One is with the thread. */
		assert_in_range(n * sizes[i], i ? 0 : 1000 << 10, (1 << 20) + sizes[i]);
		assert_true(n * (sizes[i] + 32) <= (1 << 20) + sizes[i] + 64);
		count += n;
		await(count);
	}
	n = post(count, 4, 1, &error);
	assert_int_equal(error, 0);
	await(count + n);
	assert_true(in_order);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_bounded)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
