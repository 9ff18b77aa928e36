/* SPDX-License-Identifier: MIT */
/*
 * Run under "uiommu run": the program's own use of SIGSEGV beside the runner's, DMA to memory that
 * has gone, and DMA from one function to another's registers.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "program.h"

static sigjmp_buf escape;
static volatile int handled;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	handled = sig;
	siglongjmp(escape, 1);
}

static int fault_at(volatile int *at)
{
	handled = 0;
	if (!sigsetjmp(escape, 1))
		*at = 1;
	return handled;
}

static void own_handler(volatile char *bar)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct sigaction old;
	volatile int *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	sigemptyset(&action.sa_mask);
	CHECK(!sigaction(SIGSEGV, &action, NULL));
	CHECK(fault_at(nowhere) == SIGSEGV);
	*(volatile uint32_t *)(bar + EDU_LIVENESS) = 5;
	CHECK(*(volatile uint32_t *)(bar + EDU_LIVENESS) == (uint32_t)~5);
	CHECK(fault_at(nowhere) == SIGSEGV);
	CHECK(!sigaction(SIGSEGV, NULL, &old) && old.sa_sigaction == on_fault &&
	      old.sa_flags == action.sa_flags);
	CHECK(signal(SIGSEGV, SIG_DFL) == old.sa_handler);
	CHECK(signal(SIGSEGV, SIG_DFL) == SIG_DFL);
	munmap((void *)nowhere, 4096);
}

/* A thread that believes it has blocked everything, on a small stack of its own. */
static void *blocked_thread(void *bar)
{
	volatile uint32_t *live = (volatile uint32_t *)((volatile char *)bar + EDU_LIVENESS);
	sigset_t all, now;

	sigfillset(&all);
	CHECK(!pthread_sigmask(SIG_SETMASK, &all, NULL));
	CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &now));
	CHECK(sigismember(&now, SIGSEGV) && sigismember(&now, SIGBUS) &&
	      sigismember(&now, SIGTERM));
	for (uint32_t i = 0; i < 1000; i++) {
		*live = i;
		CHECK(*live == ~i || true);
	}
	return NULL;
}

static void blocked(volatile char *bar)
{
	pthread_attr_t attr;
	pthread_t threads[2];

	CHECK(!pthread_attr_init(&attr) && !pthread_attr_setstacksize(&attr, 64 * 1024));
	for (int i = 0; i < 2; i++)
		CHECK(!pthread_create(&threads[i], &attr, blocked_thread, (void *)bar));
	for (int i = 0; i < 2; i++)
		CHECK(!pthread_join(threads[i], NULL));
	pthread_attr_destroy(&attr);
}

static void edu_dma(volatile char *bar, uint64_t from, uint64_t to, uint64_t size, uint32_t cmd)
{
	*(volatile uint64_t *)(bar + EDU_DMA_FROM) = from;
	*(volatile uint64_t *)(bar + EDU_DMA_TO) = to;
	*(volatile uint64_t *)(bar + EDU_DMA_SIZE) = size;
	*(volatile uint64_t *)(bar + EDU_DMA_CMD) = cmd;
	while (*(volatile uint64_t *)(bar + EDU_DMA_CMD) & 1)
		usleep(100);
}

/* The kernel would have pinned the page; here it is gone: a DMA fault, and the program lives. */
static void gone(struct session *s, volatile char *bar)
{
	char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(memory, 'x', 8192);
	CHECK(!map_dma(s->container, memory, 0x10000, 8192));
	edu_dma(bar, 0x10000, EDU_BUFFER, 4096, 1);
	CHECK(!munmap(memory, 4096));
	edu_dma(bar, 0x10000, EDU_BUFFER, 4096, 1);
	edu_dma(bar, EDU_BUFFER, 0x10000, 4096, 3);
	/* The second page is as it was. */
	edu_dma(bar, EDU_BUFFER, 0x11000, 16, 3);
	CHECK(memory[4096 + 4095] == 'x');
	CHECK(!mprotect(memory + 4096, 4096, PROT_READ));
	edu_dma(bar, EDU_BUFFER, 0x11000, 16, 3);
	munmap(memory + 4096, 4096);
}

/* Peer to peer: the edu function writes the ioat function's chain address register. */
static void peer(struct session *s, volatile char *bar)
{
	int group = open_group(IOAT), device;
	volatile char *ioat;
	uint64_t memory[512] __attribute__((aligned(4096))) = {0x1234560000};

	CHECK(group >= 0 && !ioctl(group, VFIO_GROUP_SET_CONTAINER, &s->container));
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, IOAT);
	CHECK(device >= 0);
	CHECK(pwrite(device, &(uint16_t){6}, 2, ((off_t)7 << 40) + 4) == 2);
	ioat = map_bar(device, IOAT_BAR_SIZE);
	CHECK(!map_dma(s->container, (void *)ioat, 0x100000, IOAT_BAR_SIZE));
	CHECK(!map_dma(s->container, memory, 0x200000, 4096));
	edu_dma(bar, 0x200000, EDU_BUFFER, 8, 1);
	edu_dma(bar, EDU_BUFFER, 0x100000 + IOAT_CHAINADDR, 8, 3);
	for (int i = 0; i < 10000 && *(volatile uint64_t *)(ioat + IOAT_CHAINADDR) != memory[0];
	     i++)
		usleep(100);
	CHECK(*(volatile uint64_t *)(ioat + IOAT_CHAINADDR) == memory[0]);
	/* And to itself, which must not wait for itself. */
	CHECK(!map_dma(s->container, (void *)bar, 0x1000000, EDU_BAR_SIZE));
	edu_dma(bar, EDU_BUFFER, 0x1000000 + EDU_LIVENESS, 4, 3);
	for (int i = 0;
	     i < 10000 && *(volatile uint32_t *)(bar + EDU_LIVENESS) != (uint32_t)~memory[0]; i++)
		usleep(100);
	CHECK(*(volatile uint32_t *)(bar + EDU_LIVENESS) == (uint32_t)~memory[0]);
}

int main(int argc, char **argv)
{
	struct session s = open_session(EDU);
	volatile char *bar = map_bar(s.device, EDU_BAR_SIZE);

	if (argc > 1 && !strcmp(argv[1], "segv"))
		*(volatile int *)NULL = 1;
	if (argc > 1 && !strcmp(argv[1], "raise"))
		return raise(SIGSEGV);
	if (argc > 1 && !strcmp(argv[1], "bus"))
		return kill(getpid(), SIGBUS);
	own_handler(bar);
	blocked(bar);
	gone(&s, bar);
	peer(&s, bar);
	return 0;
}
