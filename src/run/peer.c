/* SPDX-License-Identifier: MIT */
/*
 * Owns the queue of posted writes between functions and the thread that performs them. A function
 * that writes to a BAR does so with its own lock held, and the write needs the target's lock, which
 * may be the same, or be held by one who waits for ours: so it is queued, as PCI posts memory
 * writes. The thread starts with the first write. Invariant: the queue is in order of arrival.
 * The queue is bounded, because functions can write faster than the thread does: a write for which
 * there is no room fails, as one for which there is no memory. It can't wait for room, because its
 * function's lock is held, and the thread may need that one (two that write to each other).
 * A child of fork() starts with what is in the parent's queue and no thread: the one write that the
 * parent's thread had taken is the parent's alone, because whether it was performed isn't known.
 * Lock order: function locks, then peer_mutex, a leaf; the thread takes function locks without it.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "run/peer.h"
#include "run/state.h"
#include "util/alloc.h"

#define QUEUE_BYTES (1 << 20) /* with what describes each write */

struct write {
	struct write *next;
	struct uiommu_function *fn;
	unsigned bar;
	uint64_t offset;
	size_t len;
	unsigned char data[];
};

static pthread_mutex_t peer_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t peer_arrived = PTHREAD_COND_INITIALIZER;
static struct write *first, **tail = &first;
static size_t queued; /* bytes */
static bool running;

static struct write *next_write(void)
{
	struct write *write;

	pthread_mutex_lock(&peer_mutex);
	while (!first)
		pthread_cond_wait(&peer_arrived, &peer_mutex);
	write = first;
	first = write->next;
	if (!first)
		tail = &first;
	queued -= sizeof(*write) + write->len;
	pthread_mutex_unlock(&peer_mutex);
	return write;
}

static void *perform(void *unused)
{
	state_thread_start(NULL);
	pthread_setname_np(pthread_self(), "uiommu/peer");
	for (;;) {
		struct write *write = next_write();

		/* A write that the target does not take is lost, as on a bus. */
		uiommu_function_bar_write(write->fn, write->bar, write->offset, write->data,
					  write->len);
		uiommu_free(write, sizeof(*write) + write->len);
	}
	return NULL;
}

static int start(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	if (running)
		return 0;
	if (pthread_attr_init(&attr))
		return -EFAULT;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	ret = pthread_create(&thread, &attr, perform, NULL);
	pthread_attr_destroy(&attr);
	running = !ret;
	return ret ? -EFAULT : 0;
}

int peer_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, const void *data,
	       size_t len)
{
	size_t size = sizeof(struct write) + len;
	struct write *write = uiommu_alloc(size);
	int ret;

	if (!write)
		return -EFAULT;
	*write = (struct write){.fn = fn, .bar = bar, .offset = offset, .len = len};
	memcpy(write->data, data, len);
	pthread_mutex_lock(&peer_mutex);
	ret = queued + size > QUEUE_BYTES ? -EFAULT : start();
	if (!ret) {
		queued += size;
		*tail = write;
		tail = &write->next;
		pthread_cond_signal(&peer_arrived);
	}
	pthread_mutex_unlock(&peer_mutex);
	if (ret)
		uiommu_free(write, size);
	return ret;
}

void peer_lock(void)
{
	pthread_mutex_lock(&peer_mutex);
}

void peer_unlock(void)
{
	pthread_mutex_unlock(&peer_mutex);
}

void peer_forked(void)
{
	running = false;
	pthread_cond_init(&peer_arrived, NULL);
	if (first)
		(void)start();
	pthread_mutex_unlock(&peer_mutex);
}
