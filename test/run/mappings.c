/* SPDX-License-Identifier: MIT */
/*
 * Run under "uiommu run": BARs mapped, moved and unmapped, by many threads, in great number and
 * beside ordinary memory; and a device's memory that no descriptor can take away.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "program.h"

#define PAGE	4096
#define RACERS	8
#define ROUNDS	5000
#define MANY	3000
#define SPREAD	(64UL << 20)
#define RW	(PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)

static int device;

static bool alive(volatile void *bar)
{
	volatile uint32_t *live = (volatile uint32_t *)((volatile char *)bar + EDU_LIVENESS);

	*live = 0x1234;
	return *live == (uint32_t)~0x1234;
}

static void *racer(void *arg)
{
	for (uint32_t i = 0; i < ROUNDS; i++) {
		volatile char *bar = map_bar(device, PAGE);

		/* A mapping that another thread has made the runner forget is a SIGSEGV. */
		*(volatile uint32_t *)(bar + EDU_LIVENESS) = i;
		if (i & 1) {
			CHECK(mmap((void *)bar, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0) == bar);
			*(volatile uint32_t *)(bar + EDU_LIVENESS) = i;
			CHECK(*(volatile uint32_t *)(bar + EDU_LIVENESS) == i);
		}
		CHECK(!munmap((void *)bar, PAGE));
	}
	return NULL;
}

static void race(void)
{
	pthread_t threads[RACERS];

	for (int i = 0; i < RACERS; i++)
		CHECK(!pthread_create(&threads[i], NULL, racer, NULL));
	for (int i = 0; i < RACERS; i++)
		CHECK(!pthread_join(threads[i], NULL));
}

/* Ordinary memory between two BARs. */
static void between(void)
{
	char *room = mmap(NULL, SPREAD, PROT_NONE, PRIVATE, -1, 0), *memory, *grown;
	char *low = room, *high = room + SPREAD - PAGE;

	CHECK(room != MAP_FAILED);
	CHECK(mmap(low, PAGE, RW, MAP_SHARED | MAP_FIXED, device, 0) == low);
	CHECK(mmap(high, PAGE, RW, MAP_SHARED | MAP_FIXED, device, 0) == high);
	memory = mmap(room + SPREAD / 2, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0);
	CHECK(memory == room + SPREAD / 2);
	*memory = 7;
	grown = mremap(memory, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
	CHECK(grown != MAP_FAILED && *grown == 7);
	CHECK(alive(low) && alive(high));
	/* Ordinary memory moved over a BAR takes its place. */
	CHECK(mremap(grown, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, high) == high);
	CHECK(*high == 7);
	CHECK(!alive(high) && alive(low));
	CHECK(!munmap(room, SPREAD));
}

static void moves(void)
{
	char *bar = (char *)map_bar(device, 4 * PAGE), *other;

	other = mmap(NULL, 4 * PAGE, PROT_NONE, PRIVATE, -1, 0);
	CHECK(other != MAP_FAILED);
	CHECK(mremap(bar, PAGE, 8 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
	CHECK(mremap(bar, 0, PAGE, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT);
	CHECK(mremap(bar, 4 * PAGE, PAGE, 0) == bar && alive(bar));
	CHECK(mremap(bar, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, other) == other);
	CHECK(alive(other));
	CHECK(!munmap(other, 4 * PAGE));
}

static void protections(void)
{
	char *bar = (char *)map_bar(device, 2 * PAGE);

	CHECK(mprotect(bar + 4, 8, PROT_NONE) == -1 && errno == EINVAL);
	CHECK(mprotect(bar, PAGE, 0x40000000) == -1 && errno == EINVAL);
	CHECK(mprotect(bar, (size_t)-PAGE, PROT_READ) == -1 && errno == ENOMEM);
	CHECK(mprotect(bar, (size_t)-1, PROT_READ) == -1 && errno == ENOMEM);
	CHECK(munmap(bar + 4, PAGE) == -1 && errno == EINVAL);
	/* None of it has changed anything. */
	CHECK(alive(bar));
	CHECK(!mprotect(bar, PAGE, PROT_READ) && !mprotect(bar, PAGE, RW));
	CHECK(alive(bar));
	CHECK(!munmap(bar, 2 * PAGE));
}

static void many(void)
{
	static char *bars[MANY];

	for (int i = 0; i < MANY; i++)
		bars[i] = (char *)map_bar(device, PAGE);
	for (int i = 0; i < MANY; i++)
		CHECK(alive(bars[i]));
	for (int i = 0; i < MANY; i++)
		CHECK(!munmap(bars[i], PAGE));
}

/* Past libc: the descriptor itself. */
static void sealed(void)
{
	volatile char *bar = map_bar(device, PAGE);
	long value = 0;

	CHECK(syscall(SYS_ftruncate, device, 0L) == -1);
	CHECK(syscall(SYS_fallocate, device, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0L,
		      (long)PAGE) == -1);
	CHECK(syscall(SYS_pwrite64, device, &value, sizeof(value), 0L) == -1);
	CHECK(alive(bar));
	CHECK(!munmap((void *)bar, PAGE));
}

int main(void)
{
	struct session s = open_session(EDU);

	device = s.device;
	between();
	moves();
	protections();
	many();
	sealed();
	race();
	close_session(&s);
	return 0;
}
