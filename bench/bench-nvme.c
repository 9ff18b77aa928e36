/* SPDX-License-Identifier: MIT */
/*
 * bench-nvme - random reads of 4 KiB through a simulated NVMe controller, beside pread(2) on the
 * same file, by a user-space driver under `uiommu run`:
 *
 *   bench-nvme FILE [SECONDS A ROUND]        FILE is the controller's first namespace
 *
 * Queue depths 1 and 32, completions polled; with doorbells that are stores to the register, each
 * of which traps, and with shadow doorbells (Doorbell Buffer Config), as Linux and SPDK use them
 * with emulated controllers. The file is in the page cache. Rounds of all ways alternate, so that a
 * machine whose speed drifts slows all of them down; each number is the median of the rounds. It
 * fails if depth 32 is below LEAST of pread: slower than noise makes it.
 */
#include "vfio.h"

#include <sched.h>
#include <time.h>

enum { CAP = 0x00, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30 };
enum { CREATE_SQ = 0x01, CREATE_CQ = 0x05, IDENTIFY = 0x06, DOORBELL_BUFFERS = 0x7c, READ = 0x02 };
enum { CC_RUN = 6 << 16 | 4 << 20 | 1 };
#define LEAST 0.60
enum { ENTRIES = 64, DEEPEST = 32, ROUNDS = 9, BLOCK = 4096, EMPTY_MOST = 4096 };

struct command {
	uint32_t cdw0, nsid, reserved[4];
	uint64_t prp[2];
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

struct completion {
	uint32_t result, reserved;
	uint16_t sq_head, sq;
	uint16_t command, status;
};

struct shared {
	_Alignas(4096) struct command sq[2][ENTRIES];
	_Alignas(4096) struct completion cq[2][PAGE / sizeof(struct completion)];
	_Alignas(4096) volatile uint32_t shadow[PAGE / 4];
	_Alignas(4096) volatile uint32_t event[PAGE / 4];
	_Alignas(4096) uint8_t data[DEEPEST][BLOCK];
};

static volatile uint8_t *bar;
static struct shared *m;
static uint64_t iova, blocks, seed = 1;
static unsigned block_log, tail[2], head[2], phase[2];
static int shadowed;
static double seconds = 0.3;

#define REG(type, offset)  (*(volatile type *)(bar + (offset)))
#define IOVA_OF(member)	   (iova + offsetof(struct shared, member))
#define DOORBELL(q, is_cq) (2 * (q) + (is_cq))

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t random_block(void)
{
	seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (seed >> 33) % blocks;
}

/* A doorbell of the I/O queues is written only if the controller asks for it. */
static void ring(unsigned doorbell, uint32_t value)
{
	uint32_t old, event;

	if (shadowed && doorbell >= 2) {
		old = m->shadow[doorbell];
		__atomic_thread_fence(__ATOMIC_RELEASE);
		m->shadow[doorbell] = value;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		event = m->event[doorbell];
		if ((uint16_t)(value - event - 1) >= (uint16_t)(value - old))
			return;
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	REG(uint32_t, 0x1000 + 4 * doorbell) = value;
}

static void put(unsigned q, const struct command *cmd)
{
	m->sq[q][tail[q]] = *cmd;
	tail[q] = (tail[q] + 1) % ENTRIES;
}

/* Take the next completion if it is there: its command, or -1. */
static int take(unsigned q)
{
	volatile struct completion *c = &m->cq[q][head[q]];
	int command;

	if ((c->status & 1) != phase[q])
		return -1;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (c->status >> 1)
		errx(1, "a command failed with status %#x", c->status >> 1);
	command = c->command;
	if (++head[q] == ENTRIES) {
		head[q] = 0;
		phase[q] ^= 1;
	}
	return command;
}

static void admin(struct command cmd)
{
	put(0, &cmd);
	ring(DOORBELL(0, 0), tail[0]);
	while (take(0) < 0)
		if (REG(uint32_t, CSTS) & 2)
			errx(1, "the controller reports a fatal error");
	ring(DOORBELL(0, 1), head[0]);
}

static void start(int with_shadow)
{
	struct command cmd = {.cdw0 = IDENTIFY, .nsid = 1};

	REG(uint32_t, CC) = 0;
	memset(m, 0, offsetof(struct shared, data));
	tail[0] = tail[1] = head[0] = head[1] = 0;
	phase[0] = phase[1] = 1;
	shadowed = 0;
	REG(uint32_t, AQA) = (ENTRIES - 1) << 16 | (ENTRIES - 1);
	REG(uint64_t, ASQ) = IOVA_OF(sq[0]);
	REG(uint64_t, ACQ) = IOVA_OF(cq[0]);
	REG(uint32_t, CC) = CC_RUN;
	while (!(REG(uint32_t, CSTS) & 1))
		;
	cmd.prp[0] = IOVA_OF(data);
	admin(cmd);
	block_log = m->data[0][128 + 4 * (m->data[0][26] & 0xf) + 2];
	memcpy(&blocks, m->data[0], 8);
	blocks >>= 12 - block_log;
	cmd = (struct command){.cdw0 = CREATE_CQ, .cdw10 = (ENTRIES - 1) << 16 | 1, .cdw11 = 1};
	cmd.prp[0] = IOVA_OF(cq[1]);
	admin(cmd);
	cmd.cdw0 = CREATE_SQ;
	cmd.prp[0] = IOVA_OF(sq[1]);
	cmd.cdw11 = 1 << 16 | 1;
	admin(cmd);
	if (!with_shadow)
		return;
	cmd = (struct command){.cdw0 = DOORBELL_BUFFERS};
	cmd.prp[0] = IOVA_OF(shadow);
	cmd.prp[1] = IOVA_OF(event);
	admin(cmd);
	shadowed = 1;
}

static void read_block(unsigned slot)
{
	struct command cmd = {.cdw0 = READ | slot << 16, .nsid = 1};
	uint64_t lba = random_block() << (12 - block_log);

	cmd.prp[0] = IOVA_OF(data) + slot * BLOCK;
	cmd.cdw10 = (uint32_t)lba;
	cmd.cdw11 = (uint32_t)(lba >> 32);
	cmd.cdw12 = (1u << (12 - block_log)) - 1;
	put(1, &cmd);
}

/* Reads a second, @depth of them under way. One ring for all completions that are there. */
static double through_controller(unsigned depth)
{
	double begin = now_s(), passed = 0;
	unsigned slot, empty = 0;
	uint64_t done = 0;

	for (slot = 0; slot < depth; slot++)
		read_block(slot);
	ring(DOORBELL(1, 0), tail[1]);
	do {
		unsigned got = 0;
		int c;

		while ((c = take(1)) >= 0) {
			read_block((unsigned)c);
			got++;
		}
		if (!got) {
			/* Where others want this processor, the controller may be one of them. */
			if (++empty % EMPTY_MOST == 0)
				sched_yield();
			continue;
		}
		empty = 0;
		done += got;
		ring(DOORBELL(1, 1), head[1]);
		ring(DOORBELL(1, 0), tail[1]);
		passed = now_s() - begin;
	} while (passed < seconds);
	for (slot = 0; slot < depth;)
		if (take(1) >= 0)
			slot++;
	ring(DOORBELL(1, 1), head[1]);
	return done / passed;
}

static double by_pread(int fd)
{
	double begin = now_s(), passed;
	uint64_t done = 0;

	do {
		for (unsigned i = 0; i < 256; i++) {
			uint8_t *to = m->data[i % DEEPEST];

			if (pread(fd, to, BLOCK, (off_t)(random_block() * BLOCK)) != BLOCK)
				err(1, "pread");
		}
		done += 256;
		passed = now_s() - begin;
	} while (passed < seconds);
	return done / passed;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(values[0]), compare);
	return values[ROUNDS / 2];
}

/* Everything in the page cache, and every block written: a hole is read faster than data. */
static void fill(int fd)
{
	memset(m->data, 0x5a, sizeof(m->data));
	for (uint64_t at = 0; at < blocks * BLOCK; at += sizeof(m->data))
		if (pwrite(fd, m->data, sizeof(m->data), (off_t)at) < 0)
			err(1, "pwrite");
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"pread", "nvme, depth 1", "nvme, depth 32",
					    "nvme, shadow doorbells, depth 1",
					    "nvme, shadow doorbells, depth 32"};
	double rate[5][ROUNDS], base;
	int container, device, fd;
	char bdf[64];

	if (argc < 2)
		errx(1, "which file is the namespace in?");
	if (argc > 2)
		seconds = atof(argv[2]);
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", argv[1]);
	vfio_find(0x1234, 0x4e56, bdf);
	vfio_open(bdf, &container, &device);
	bar = vfio_enable(device);
	m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (m == MAP_FAILED)
		err(1, "mmap");
	iova = vfio_map(container, m, sizeof(*m), UINT64_MAX);
	start(0);
	fill(fd);
	for (unsigned i = 0; i < ROUNDS; i++) {
		rate[0][i] = by_pread(fd);
		start(0);
		rate[1][i] = through_controller(1);
		rate[2][i] = through_controller(DEEPEST);
		start(1);
		rate[3][i] = through_controller(1);
		rate[4][i] = through_controller(DEEPEST);
	}
	base = median(rate[0]);
	printf("%-44s %10s %8s\n", "random reads of 4 KiB, median of rounds", "IOPS", "ratio");
	for (unsigned i = 0; i < 5; i++)
		printf("%-44s %10.0f %8.2f\n", names[i], median(rate[i]), median(rate[i]) / base);
	if (median(rate[2]) < LEAST * base)
		errx(1, "depth 32 is below %.2f of pread", LEAST);
	return 0;
}
