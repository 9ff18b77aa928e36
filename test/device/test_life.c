/* SPDX-License-Identifier: MIT */
/* Life of machines and workers: fork, the worker's thread, blocks of stores, failing allocations.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "rig.h"

#define FACTORIAL 0x08

/* ---- fork -------------------------------------------------------------------------------------
 */

/* ThreadSanitizer itself cannot start threads in the child of a process that has several. */
#ifdef __SANITIZE_THREAD__
#define FORK_NEEDS_NO_TSAN skip()
#else
#define FORK_NEEDS_NO_TSAN (void)0
#endif

/* AddressSanitizer's allocator (GCC 12's) is not locked around fork(): with threads that allocate,
 * and a thread that starts does, a child may find it locked for ever. glibc's is. */
#ifdef __SANITIZE_ADDRESS__
#define ALLOCATING_FORK_NEEDS_NO_ASAN skip()
#else
#define ALLOCATING_FORK_NEEDS_NO_ASAN (void)0
#endif

static bool factorial_works(struct rig *rig)
{
	reg_set(rig, FACTORIAL, 4, 5);
	uiommu_function_drain(rig->fn);
	return reg_get(rig, FACTORIAL, 4) == 120;
}

static void test_fork(void **state)
{
	struct rig rig;
	int status;
	pid_t pid;

	FORK_NEEDS_NO_TSAN;
	rig_up(&rig, NULL, "edu");
	assert_true(factorial_works(&rig));
	uiommu_machine_fork_prepare(rig.machine);
	pid = fork();
	if (!pid) {
		uiommu_machine_fork_child(rig.machine);
		status = factorial_works(&rig) ? 0 : 1;
		rig_down(&rig);
		_exit(status);
	}
	uiommu_machine_fork_parent(rig.machine);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(factorial_works(&rig));
	rig_down(&rig);
}

/* While others hammer the function: the child must not inherit a lock of theirs. */
static unsigned hammering;

static void *hammer(void *arg)
{
	struct rig *rig = arg;
	uint32_t value = 1;

	__atomic_fetch_add(&hammering, 1, __ATOMIC_RELAXED);
	while (!__atomic_load_n(&rig->arrived[0], __ATOMIC_RELAXED)) {
		uiommu_function_bar_write(rig->fn, 0, FACTORIAL, &value, 4);
		uiommu_function_bar_read(rig->fn, 0, FACTORIAL, &value, 4);
		uiommu_function_config_read(rig->fn, 0, 4);
	}
	return NULL;
}

static void test_fork_busy(void **state)
{
	pthread_t threads[2];
	struct rig rig;
	int i, status;

	FORK_NEEDS_NO_TSAN;
	rig_up(&rig, NULL, "edu");
	assert_true(factorial_works(&rig));
	for (i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, &rig), 0);
	/* Nobody is only starting, see above; that the function works shows it of its worker. */
	while (__atomic_load_n(&hammering, __ATOMIC_RELAXED) < 2)
		sched_yield();
	for (i = 0; i < 20; i++) {
		pid_t pid;

		uiommu_machine_fork_prepare(rig.machine);
		pid = fork();
		if (!pid) {
			uint32_t value = 0;

			uiommu_machine_fork_child(rig.machine);
			uiommu_function_drain(rig.fn);
			_exit(uiommu_function_bar_read(rig.fn, 0, 4, &value, 4) ? 1 : 0);
		}
		uiommu_machine_fork_parent(rig.machine);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	__atomic_store_n(&rig.arrived[0], 1, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	rig_down(&rig);
}

/* While others use the IOMMU and the interrupt table: the child needs the locks of both. */
static void on_irq(void *ctx, unsigned vector)
{
}

static void *use_machine(void *arg)
{
	struct rig *rig = arg;
	struct uiommu_msi_message message;
	struct uiommu_unit_stats stats;
	struct uiommu_irq *handle;

	while (!__atomic_load_n(&rig->arrived[0], __ATOMIC_RELAXED)) {
		uiommu_unit_stats(uiommu_machine_unit(rig->machine), &stats);
		if (!uiommu_platform_irq_alloc(uiommu_machine_platform(rig->machine), NULL, 8, 1,
					       false, on_irq, NULL, &message, &handle))
			uiommu_platform_irq_free(uiommu_machine_platform(rig->machine), handle);
	}
	return NULL;
}

static void test_fork_beside(void **state)
{
	pthread_t threads[2];
	struct rig rig;
	int i, status;

	FORK_NEEDS_NO_TSAN;
	ALLOCATING_FORK_NEEDS_NO_ASAN;
	rig_up(&rig, NULL, "edu");
	for (i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_machine, &rig), 0);
	for (i = 0; i < 50; i++) {
		pid_t pid;

		uiommu_machine_fork_prepare(rig.machine);
		pid = fork();
		if (!pid) {
			struct uiommu_msi_message message;
			struct uiommu_irq *handle;

			alarm(20); /* a lock that nobody gives back ends here */
			uiommu_machine_fork_child(rig.machine);
			uiommu_function_reset(rig.fn);
			_exit(-uiommu_platform_irq_alloc(uiommu_machine_platform(rig.machine), NULL,
							 8, 1, false, on_irq, NULL, &message,
							 &handle));
		}
		uiommu_machine_fork_parent(rig.machine);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
	}
	__atomic_store_n(&rig.arrived[0], 1, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	rig_down(&rig);
}

/* ---- the worker -------------------------------------------------------------------------------
 */

static struct {
	unsigned started;
	pthread_t thread;
	sigset_t mask;
	char name[16];
	unsigned steps;
} seen;

static void on_worker_start(void *ctx)
{
	__atomic_fetch_add((unsigned *)ctx, 1, __ATOMIC_RELAXED);
}

static bool step(struct uiommu_function *fn)
{
	seen.thread = pthread_self();
	pthread_sigmask(SIG_SETMASK, NULL, &seen.mask);
	pthread_getname_np(pthread_self(), seen.name, sizeof(seen.name));
	/* Kicking from within is fine, too. */
	if (++seen.steps == 5)
		uiommu_function_kick(fn);
	return seen.steps < 5;
}

static struct {
	unsigned calls;
	unsigned len;
	uint64_t offset, value;
	unsigned blocks;
	uint8_t block[64];
	unsigned reads;
} got;

static void probe_reset(struct uiommu_function *fn)
{
}

static void probe_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			uint64_t value)
{
	got.calls++;
	got.len = len;
	got.offset = offset;
	got.value = value;
	if (offset == 0)
		uiommu_function_kick(fn);
}

static void probe_read(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len)
{
	got.reads++;
	uiommu_function_set_reg(fn, bar, offset, len, UINT64_C(0x0807060504030201) * got.reads);
}

static void probe_block(struct uiommu_function *fn, unsigned bar, uint64_t offset, const void *data,
			unsigned len)
{
	got.blocks++;
	got.len = len;
	got.offset = offset;
	memcpy(got.block, data, len);
}

static const struct uiommu_model probe = {
	.size = sizeof(probe),
	.name = "probe",
	.bars = {{4096, 0}},
	.reset = probe_reset,
	.bar_write = probe_write,
	.bar_read = probe_read,
	.write_block = probe_block,
	.work = step,
};

static void test_worker(void **state)
{
	struct uiommu_machine_options options = {
		.size = sizeof(options),
		.worker_start = on_worker_start,
		.worker_ctx = &seen.started,
	};
	struct uiommu_machine *machine;
	struct uiommu_function *fn;
	uint32_t one = 1;

	assert_int_equal(uiommu_machine_create(&options, &machine, NULL, 0), 0);
	assert_int_equal(uiommu_machine_add_model(machine, &probe, "x@02:03.4", NULL, 0), 0);
	fn = uiommu_machine_function(machine, 0);
	assert_ptr_equal(uiommu_function_machine(fn), machine);
	uiommu_function_config_write(fn, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	uiommu_function_drain(fn);
	assert_int_equal(seen.steps, 0);
	assert_int_equal(uiommu_function_bar_write(fn, 0, 0, &one, 4), 0);
	uiommu_function_drain(fn);
	assert_int_equal(seen.steps, 6);
	assert_int_equal(seen.started, 1);
	assert_false(pthread_equal(seen.thread, pthread_self()));
	assert_string_equal(seen.name, "uiommu/02:03.4");
	assert_int_equal(sigismember(&seen.mask, SIGTERM), 1);
	assert_int_equal(sigismember(&seen.mask, SIGUSR1), 1);
	assert_int_equal(sigismember(&seen.mask, SIGSEGV), 0);
	assert_int_equal(sigismember(&seen.mask, SIGBUS), 0);
	uiommu_machine_destroy(machine);
	assert_int_equal(seen.started, 1);
}

/* How an access of any length reaches a model. */
static void test_pieces(void **state)
{
	static const struct {
		uint64_t offset;
		unsigned len, calls, blocks, last_len;
	} rows[] = {
		{8, 8, 1, 0, 8},    {8, 4, 1, 0, 4},	{9, 1, 1, 0, 1},    {10, 4, 2, 0, 2},
		{12, 8, 2, 0, 4},   {9, 8, 4, 0, 1},	{16, 16, 0, 1, 16}, {32, 32, 0, 1, 32},
		{64, 64, 0, 1, 64}, {24, 16, 2, 0, 8},	{32, 64, 8, 0, 8},  {64, 128, 16, 0, 8},
		{4093, 3, 2, 0, 2}, {4096, 0, 0, 0, 0}, {48, 24, 3, 0, 8},
	};
	uint8_t data[128], back[16];
	struct rig rig;
	size_t i;

	for (i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i + 1);
	rig_up(&rig, &probe, NULL);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memset(&got, 0, sizeof(got));
		assert_int_equal(
			uiommu_function_bar_write(rig.fn, 0, rows[i].offset, data, rows[i].len), 0);
		assert_int_equal(got.calls, rows[i].calls);
		assert_int_equal(got.blocks, rows[i].blocks);
		assert_int_equal(got.len, rows[i].last_len);
		if (got.blocks)
			assert_memory_equal(got.block, data, rows[i].len);
	}
	/* The value is little endian, and a read is asked for piece by piece. */
	memset(&got, 0, sizeof(got));
	reg_set(&rig, 8, 8, UINT64_C(0x1122334455667788));
	assert_int_equal(got.value, UINT64_C(0x1122334455667788));
	assert_int_equal(uiommu_function_bar_read(rig.fn, 0, 8, back, 16), 0);
	assert_int_equal(got.reads, 2);
	assert_int_equal(back[0], 1);
	assert_int_equal(back[8], 2);
	rig_down(&rig);
}

/* Blocks go to the MSI-X table as registers do, never to the model. */
static void test_block_to_table(void **state)
{
	struct uiommu_model model = probe;
	uint32_t entry[4] = {0x1000, 0, 7, 0};
	struct rig rig;

	model.bars[0].size = 0x4000;
	model.msix_vectors = 1;
	model.msix_offset = 0x1000;
	rig_up(&rig, &model, NULL);
	memset(&got, 0, sizeof(got));
	assert_int_equal(uiommu_function_bar_write(rig.fn, 0, 0x1000, entry, 16), 0);
	assert_int_equal(got.blocks + got.calls, 0);
	assert_int_equal(reg_get(&rig, 0x1000, 8), 0x1000);
	assert_int_equal(reg_get(&rig, 0x1008, 8), 7);
	assert_int_equal(got.reads, 0);
	rig_down(&rig);
}

static bool endless(struct uiommu_function *fn)
{
	return true;
}

/* Work that never ends leaves room for others, and ends with a reset. */
static void test_endless_work(void **state)
{
	struct uiommu_model model = probe;
	struct rig rig;
	int i;

	model.work = endless;
	rig_up(&rig, &model, NULL);
	reg_set(&rig, 0, 4, 1);
	for (i = 0; i < 1000; i++)
		reg_set(&rig, 8, 4, 1);
	uiommu_function_reset(rig.fn);
	uiommu_function_drain(rig.fn);
	cfg_set(&rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	rig_down(&rig);
}

/* What a model may ask for. */
static void test_registers(void **state)
{
	struct rig rig;

	rig_up(&rig, &probe, NULL);
	uiommu_function_set_reg(rig.fn, 0, 3, 4, 0xa1b2c3d4);
	assert_int_equal(uiommu_function_reg(rig.fn, 0, 3, 4), 0xa1b2c3d4);
	assert_int_equal(uiommu_function_reg(rig.fn, 0, 4, 2), 0xb2c3);
	assert_int_equal(((uint8_t *)uiommu_function_bar(rig.fn, 0))[3], 0xd4);
	uiommu_function_set_reg(rig.fn, 0, 4093, 8, 0);
	assert_int_equal(uiommu_function_reg(rig.fn, 0, 4093, 8), UINT64_MAX);
	assert_int_equal(uiommu_function_reg(rig.fn, 1, 0, 8), UINT64_MAX);
	assert_int_equal(uiommu_function_reg(rig.fn, 0, 0, 9), UINT64_MAX);
	rig_down(&rig);
}

/* ---- failing allocations ----------------------------------------------------------------------
 */

static struct {
	long left; /* allocations until one fails; negative: none does */
	long live;
	bool failed;
} arena;

static void *arena_alloc(size_t size, size_t align)
{
	void *ptr;

	if (arena.left >= 0 && arena.left-- == 0) {
		arena.failed = true;
		return NULL;
	}
	ptr = aligned_alloc(align, (size + align - 1) & ~(align - 1));
	if (!ptr)
		return NULL;
	arena.live++;
	return memset(ptr, 0, size);
}

static void arena_release(void *ptr, size_t size)
{
	arena.live--;
	free(ptr);
}

static unsigned count_functions(struct uiommu_machine *machine)
{
	unsigned n = 0;

	while (uiommu_machine_function(machine, n))
		n++;
	return n;
}

/* Each allocation fails once: the addition either fails and leaves nothing, or worked. */
static void test_alloc_failures(void **state)
{
	struct uiommu_machine *machine;
	long n, before;
	int error;

	uiommu_set_allocator(arena_alloc, arena_release);
	for (n = 0;; n++) {
		arena.left = n;
		arena.failed = false;
		error = uiommu_machine_create(NULL, &machine, NULL, 0);
		if (!error) {
			before = arena.live;
			assert_false(arena.failed);
			error = uiommu_machine_add(machine, "ioat,cbver=0x33", NULL, 0);
			if (error) {
				assert_int_equal(error, -ENOMEM);
				assert_int_equal(count_functions(machine), 0);
				/* Tables of functions and requester IDs may have grown. */
				assert_true(arena.live <= before + 3);
				arena.left = -1;
				assert_int_equal(uiommu_machine_add(machine, "ioat", NULL, 0), 0);
				assert_string_equal(
					uiommu_function_info(uiommu_machine_function(machine, 0))
						->name,
					"0000:00:01.0");
			}
			uiommu_machine_destroy(machine);
		} else {
			assert_int_equal(error, -ENOMEM);
		}
		assert_int_equal(arena.live, 0);
		if (!arena.failed)
			break;
	}
	assert_true(n > 4);
	uiommu_set_allocator(NULL, NULL);
}

static int fail_init(struct uiommu_function *fn)
{
	return -EIO;
}

static unsigned finished;

static void count_fini(struct uiommu_function *fn)
{
	finished++;
}

static void test_failing_init(void **state)
{
	struct uiommu_model model = probe;
	struct uiommu_machine *machine;
	char why[256];

	model.fini = count_fini;
	assert_int_equal(uiommu_machine_create(NULL, &machine, NULL, 0), 0);
	assert_int_equal(uiommu_machine_add_model(machine, &model, NULL, NULL, 0), 0);
	model.init = fail_init;
	assert_int_equal(uiommu_machine_add_model(machine, &model, NULL, why, sizeof(why)), -EIO);
	assert_non_null(strstr(why, "probe"));
	assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_UNSUPPORTED);
	assert_int_equal(finished, 0);
	model.init = NULL;
	uiommu_machine_destroy(machine);
	assert_int_equal(finished, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fork),	       cmocka_unit_test(test_fork_busy),
		cmocka_unit_test(test_fork_beside),    cmocka_unit_test(test_worker),
		cmocka_unit_test(test_pieces),	       cmocka_unit_test(test_registers),
		cmocka_unit_test(test_alloc_failures), cmocka_unit_test(test_failing_init),
		cmocka_unit_test(test_block_to_table), cmocka_unit_test(test_endless_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
