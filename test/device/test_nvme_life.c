/* SPDX-License-Identifier: MIT */
/*
 * The NVMe controller in bad company: several threads with queues of their own while memory is
 * unmapped and the controller reset; a program that is killed at any point; memory that runs out.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../check.h"
#include "nvme_rig.h"

static struct nv nv;

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 300, DEPTH = 8, REGION = 64 };

struct driver {
	unsigned q;
	bool shadow;
	unsigned failed; /* commands that ended with an error */
};

static void ring_now(const struct driver *d, bool head, uint32_t value)
{
	uint32_t wire = htole32(value);

	if (d->shadow)
		__atomic_store_n((uint32_t *)at(&nv, 0x90000) + 2 * d->q + head, wire,
				 __ATOMIC_SEQ_CST);
	uiommu_function_bar_write(nv.r.fn, 0, head ? HEAD(d->q) : TAIL(d->q), &wire, 4);
}

/* Poll for the next completion: its status, or NONE if none comes in 10 s. */
static unsigned poll_next(struct driver *d)
{
	uint64_t *word = (uint64_t *)at(&nv, CQ_AT(d->q) + 16 * nv.pair[d->q].head + 8);
	unsigned tries;

	for (tries = 0; tries < 1000000; tries++) {
		uint64_t value = le64toh(__atomic_load_n(word, __ATOMIC_ACQUIRE));

		if ((value >> 48 & 1) != nv.pair[d->q].phase) {
			usleep(10);
			continue;
		}
		if (++nv.pair[d->q].head == NV_ENTRIES) {
			nv.pair[d->q].head = 0;
			nv.pair[d->q].phase ^= 1;
		}
		return value >> 49 & 0x7ff;
	}
	return NONE;
}

static struct cmd thread_command(const struct driver *d, uint8_t opcode, unsigned slot)
{
	return io(opcode, d->q * REGION + slot * 8, 8,
		  IOVA(DATA) + (d->q * 2 * DEPTH + slot) * UINT64_C(4096));
}

/* Own blocks, own memory: what is written is read back, with several commands under way. */
static void *drive(void *arg)
{
	struct driver *d = arg;
	unsigned round, slot;

	for (round = 0; round < ROUNDS; round++) {
		static const uint8_t opcodes[] = {WRITE, READ, COMPARE};
		uint8_t opcode = opcodes[round % 3];

		for (slot = 0; slot < DEPTH; slot++) {
			struct cmd cmd = thread_command(d, opcode, slot);
			uint32_t *entry =
				(uint32_t *)at(&nv, SQ_AT(d->q) + 64 * nv.pair[d->q].tail);
			uint8_t *memory = at(&nv, DATA + (d->q * 2 * DEPTH + slot) * 4096u);
			unsigned i;

			if (opcode == WRITE)
				memset(memory, (int)(round + slot + d->q), 4096);
			else if (opcode == READ)
				memset(memory, 0, 4096);
			for (i = 0; i < 16; i++)
				entry[i] = htole32(cmd.dw[i]);
			nv.pair[d->q].tail = (nv.pair[d->q].tail + 1) % NV_ENTRIES;
		}
		ring_now(d, false, nv.pair[d->q].tail);
		for (slot = 0; slot < DEPTH; slot++) {
			unsigned status = poll_next(d);

			if (status == NONE)
				return "no completion";
			d->failed += status != 0;
		}
		ring_now(d, true, nv.pair[d->q].head);
		for (slot = 0; opcode == READ && slot < DEPTH; slot++) {
			uint8_t *memory = at(&nv, DATA + (d->q * 2 * DEPTH + slot) * 4096u);

			if (memory[0] != (uint8_t)(round - 1 + slot + d->q) ||
			    memcmp(memory, memory + 1, 4095))
				return "wrong data";
		}
	}
	return NULL;
}

/* Meanwhile a mapping comes and goes, and with it what a queue of its own reaches. */
static void *churn(void *arg)
{
	struct uiommu_range range = {UINT64_C(0x40000000), UINT64_C(0x40000000) + 0xffff};
	struct driver *d = arg;
	void *memory =
		mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned round;

	for (round = 0; round < ROUNDS; round++) {
		struct cmd cmd = io(READ, 0, 8, range.first + 0x3000);
		uint32_t *entry = (uint32_t *)at(&nv, SQ_AT(d->q) + 64 * nv.pair[d->q].tail);
		unsigned i, status;
		uint64_t bytes;

		for (i = 0; i < 16; i++)
			entry[i] = htole32(cmd.dw[i]);
		nv.pair[d->q].tail = (nv.pair[d->q].tail + 1) % NV_ENTRIES;
		if (uiommu_ioas_map(nv.r.ioas, range, (uintptr_t)memory, 3, NULL))
			return "map failed";
		ring_now(d, false, nv.pair[d->q].tail);
		if (round % 2)
			usleep(20);
		if (uiommu_ioas_unmap(nv.r.ioas, range, &bytes, NULL, NULL) || bytes != 0x10000)
			return "unmap failed";
		/* Nobody writes there any more. */
		memset(memory, 0x11, 0x10000);
		status = poll_next(d);
		if (status != 0 && status != 4)
			return "no completion";
		for (i = 0; i < 0x10000; i++)
			if (((uint8_t *)memory)[i] != 0x11)
				return "written after unmap";
		ring_now(d, true, nv.pair[d->q].head);
	}
	munmap(memory, 0x10000);
	return NULL;
}

static void run_threads(bool shadow)
{
	pthread_t threads[THREADS + 1];
	struct driver drivers[THREADS + 1];
	unsigned i;

	for (i = 0; i <= THREADS; i++) {
		void *(*body)(void *) = i < THREADS ? drive : churn;

		drivers[i] = (struct driver){.q = i + 1, .shadow = shadow};
		assert_int_equal(pthread_create(&threads[i], NULL, body, &drivers[i]), 0);
	}
	for (i = 0; i <= THREADS; i++) {
		void *wrong;

		pthread_join(threads[i], &wrong);
		if (wrong)
			fail_msg("queue %u: %s", i + 1, (char *)wrong);
		assert_int_equal(drivers[i].failed, 0);
	}
}

static void test_threads(void **state)
{
	unsigned q;

	nv_up(&nv, "nvme,memory=1M");
	for (q = 2; q <= THREADS + 1; q++)
		nv_create(&nv, q, NV_ENTRIES, -1);
	run_threads(false);
	nv_down(&nv);
}

static void test_threads_shadow(void **state)
{
	struct cmd cmd = command(DOORBELL_BUFFERS, 0, IOVA(0x90000));
	unsigned q;

	nv_up(&nv, "nvme,memory=1M");
	set_prp2(&cmd, IOVA(0x91000));
	assert_int_equal(nv_run(&nv, 0, cmd), 0);
	for (q = 2; q <= THREADS + 1; q++)
		nv_create(&nv, q, NV_ENTRIES, -1);
	run_threads(true);
	nv_down(&nv);
}

static _Atomic bool over;

static void *ring_wildly(void *arg)
{
	struct rng rng = {(uintptr_t)arg};

	while (!over) {
		uint32_t value = (uint32_t)rng_below(&rng, 70);
		uint64_t offset = 0x1000 + 4 * rng_below(&rng, 140);

		uiommu_function_bar_write(nv.r.fn, 0, offset, &value, 4);
	}
	return NULL;
}

/* Doorbells rung from two threads while a third enables, resets and shuts down. */
static void test_resets(void **state)
{
	struct rng rng = rng_seeded("resets");
	pthread_t threads[2];
	unsigned i;

	nv_up(&nv, "nvme,memory=1M");
	over = false;
	for (i = 0; i < 2; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, ring_wildly, (void *)(uintptr_t)(i + 1)),
			0);
	for (i = 0; i < 300; i++) {
		switch (rng_below(&rng, 4)) {
		case 0:
			uiommu_function_reset(nv.r.fn);
			cfg_set(&nv.r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
			break;
		case 1:
			reg_set(&nv.r, CC, 4, CC_RUN | 1 << 14);
			break;
		default:
			reg_set(&nv.r, CC, 4, 0);
			break;
		}
		reg_set(&nv.r, AQA, 4, (NV_ENTRIES - 1) << 16 | (NV_ENTRIES - 1));
		reg_set(&nv.r, ASQ, 8, IOVA(SQ_AT(0)));
		reg_set(&nv.r, ACQ, 8, IOVA(CQ_AT(0)));
		reg_set(&nv.r, CC, 4, CC_RUN);
		usleep((useconds_t)rng_below(&rng, 200));
	}
	over = true;
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	uiommu_function_reset(nv.r.fn);
	cfg_set(&nv.r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	nv_enable(&nv, CC_RUN);
	assert_int_equal(nv_admin(&nv, KEEP_ALIVE, 0, 0, 0, 0), 0);
	nv_down(&nv);
}

/* ---- a program that is killed ---- */

enum { BLOCKS = 16, KILLS = 60 };

/* What the child promised: a block's number that flush, or FUA, has acknowledged. */
static _Atomic uint64_t *promised;
static char image[64];

static void child_writes(void)
{
	char spec[128];
	uint64_t number;

	snprintf(spec, sizeof(spec), "nvme,file=%s", image);
	nv_up(&nv, spec);
	for (number = 1;; number++) {
		unsigned block = number % BLOCKS;
		struct cmd cmd = io(WRITE, block * 8, 8, IOVA(DATA));
		unsigned i;

		for (i = 0; i < 512; i++)
			put_little(at(&nv, DATA + 8 * i), number, 8);
		if (number & BLOCKS)
			cmd.dw[12] |= 1u << 30;
		if (nv_run(&nv, 1, cmd))
			_exit(1);
		if (!(number & BLOCKS) && nv_run(&nv, 1, command(FLUSH, 1, 0)))
			_exit(2);
		promised[block] = number;
	}
}

/* Each promise is kept, and no block is half of one write and half of another: the kill does not
 * come in the middle of a page. */
static void check_promises(void)
{
	uint64_t words[512];
	int fd = open(image, O_RDONLY);
	unsigned block, i;

	assert_true(fd >= 0);
	for (block = 0; block < BLOCKS; block++) {
		assert_int_equal(pread(fd, words, 4096, block * 4096), 4096);
		assert_true(le64toh(words[0]) >= promised[block]);
		for (i = 1; i < 512; i++)
			assert_int_equal(words[i], words[0]);
	}
	close(fd);
}

static void test_killed(void **state)
{
	struct rng rng = rng_seeded("killed");
	unsigned kills, wrote = 0;
	int fd;

	snprintf(image, sizeof(image), "nvme-kill-%d.img", (int)getpid());
	fd = open(image, O_CREAT | O_RDWR, 0600);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	promised = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(promised, MAP_FAILED);
	for (kills = 0; kills < KILLS; kills++) {
		int status, writes = 0;
		unsigned block;
		pid_t child;

		memset(promised, 0, 4096);
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(ftruncate(fd, 1 << 20), 0);
		child = fork();
		if (!child)
			child_writes();
		assert_true(child > 0);
		/* After some writes, at any point between two of them. */
		while (!promised[1] && writes++ < 5000)
			usleep(1000);
		usleep((useconds_t)rng_below(&rng, 3000));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		for (block = 0; block < BLOCKS; block++)
			wrote += promised[block] != 0;
		check_promises();
	}
	assert_true(wrote >= KILLS);
	munmap(promised, 4096);
	close(fd);
	unlink(image);
}

/* ---- no memory ---- */

static unsigned open_files(void)
{
	unsigned count = 0;
	int fd;

	for (fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_no_memory(void **state)
{
	const char *spec = "nvme,file=nvme-alloc.img,size=1M,memory=1M";
	struct uiommu_machine *machine;
	unsigned files;
	long nth, failures = 0;
	char why[256];

	uiommu_set_allocator(failing_alloc, failing_release);
	for (nth = 0;; nth++) {
		int error;

		fail_countdown = -1;
		assert_int_equal(uiommu_machine_create(NULL, &machine, why, sizeof(why)), 0);
		files = open_files();
		fail_countdown = nth;
		error = uiommu_machine_add(machine, spec, why, sizeof(why));
		fail_countdown = -1;
		if (!error)
			break;
		failures++;
		assert_int_equal(error, -ENOMEM);
		assert_null(uiommu_machine_function(machine, 0));
		assert_int_equal(open_files(), files);
		uiommu_machine_destroy(machine);
		assert_int_equal(fail_live, 0);
	}
	assert_true(failures >= 3);
	uiommu_machine_destroy(machine);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
	unlink("nvme-alloc.img");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_killed),
		cmocka_unit_test(test_threads),	  cmocka_unit_test(test_threads_shadow),
		cmocka_unit_test(test_resets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
