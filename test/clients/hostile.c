/* SPDX-License-Identifier: MIT */
/*
 * hostile - arguments no sane program passes: every ioctl with a null, unmapped, cut-off, short,
 * overlong and racing argument; memory that goes away under a mapping; DMA descriptors that loop,
 * point nowhere or cross the end of the address space. The program must get its errno, the device
 * its fault, and both must be as usable afterwards as before.
 */
#include "client.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

enum { CHAIN = 0x10000, BUFFERS = 0x20000, VICTIM = 0x40000, COPY_PAGES = 2 };

static struct client machine;
static uint8_t *guarded; /* one page, and behind it one that can't be accessed */
static volatile uint8_t *bar;
static struct ioat_descriptor *chain;
static uint8_t *buffers;

/* ---- arguments ------------------------------------------------------------------------------ */

enum whose { CONTAINER, GROUP, DEVICE };

/* An ioctl whose argument points to a struct that opens with argsz. */
static const struct request {
	const char *name;
	unsigned long number;
	enum whose whose;
	uint32_t size; /* what must be readable */
	bool writes;   /* to where it was read from */
} requests[] = {
	{"GET_INFO", VFIO_IOMMU_GET_INFO, CONTAINER, 16, true},
	{"MAP_DMA", VFIO_IOMMU_MAP_DMA, CONTAINER, 32, false},
	{"UNMAP_DMA", VFIO_IOMMU_UNMAP_DMA, CONTAINER, 24, true},
	{"DIRTY_PAGES", VFIO_IOMMU_DIRTY_PAGES, CONTAINER, 8, false},
	{"GROUP_GET_STATUS", VFIO_GROUP_GET_STATUS, GROUP, 8, true},
	{"DEVICE_GET_INFO", VFIO_DEVICE_GET_INFO, DEVICE, 16, true},
	{"REGION_INFO", VFIO_DEVICE_GET_REGION_INFO, DEVICE, 32, true},
	{"IRQ_INFO", VFIO_DEVICE_GET_IRQ_INFO, DEVICE, 16, true},
	{"SET_IRQS", VFIO_DEVICE_SET_IRQS, DEVICE, 20, false},
	{"HOT_RESET_INFO", VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, DEVICE, 12, true},
	{"HOT_RESET", VFIO_DEVICE_PCI_HOT_RESET, DEVICE, 12, false},
	{"FEATURE", VFIO_DEVICE_FEATURE, DEVICE, 8, false},
};
enum { REQUESTS = sizeof(requests) / sizeof(requests[0]) };

static int file_of(enum whose whose)
{
	return whose == CONTAINER ? machine.container
	       : whose == GROUP	  ? machine.group
				  : machine.device;
}

static void check_pointer(const struct request *r, uintptr_t arg, const char *what)
{
	char name[64];

	snprintf(name, sizeof(name), "%s, %s", r->name, what);
	CHECK_ROW(name, call_value(file_of(r->whose), r->number, arg), -EFAULT);
}

/* An argument that would be accepted, if it could be read and written. */
static void prepare(const struct request *r, void *arg)
{
	uint32_t words[8] = {r->size};

	if (r->number == VFIO_IOMMU_UNMAP_DMA)
		words[4] = PAGE; /* of nothing: success, size 0 */
	memcpy(arg, words, r->size);
}

static void test_pointers(const struct request *r)
{
	uint8_t *gone = client_pages(1), *end = guarded + PAGE;

	munmap(gone, PAGE);
	check_pointer(r, 0, "null");
	check_pointer(r, 1, "one");
	check_pointer(r, (uintptr_t)gone, "unmapped");
	check_pointer(r, (uintptr_t)end, "not accessible");
	check_pointer(r, UINTPTR_MAX, "last byte");
	check_pointer(r, UINTPTR_MAX - r->size + 1, "up to the end of the address space");
	check_pointer(r, UINTPTR_MAX - 3, "wraps");
	check_pointer(r, (uintptr_t)1 << 63, "not canonical");
	prepare(r, end - r->size);
	memmove(end - r->size + 1, end - r->size, r->size - 1);
	check_pointer(r, (uintptr_t)end - r->size + 1, "cut off by one byte");
	check_pointer(r, (uintptr_t)end - 4, "cut off behind argsz");
	if (r->writes && r->number != VFIO_DEVICE_GET_PCI_HOT_RESET_INFO) {
		prepare(r, guarded);
		REQUIRE(mprotect(guarded, PAGE, PROT_READ) == 0);
		check_pointer(r, (uintptr_t)guarded, "read-only");
		REQUIRE(mprotect(guarded, PAGE, PROT_READ | PROT_WRITE) == 0);
	}
}

static void test_argsz(const struct request *r)
{
	static const uint32_t longer[] = {64, 4096, 0x10000, 0x7fffffff, 0x80000000, UINT32_MAX};
	uint8_t *arg = guarded + PAGE - r->size;
	char name[64];

	for (uint32_t argsz = 0; argsz < r->size; argsz++) {
		prepare(r, arg);
		memcpy(arg, &argsz, sizeof(argsz));
		snprintf(name, sizeof(name), "%s, argsz %u", r->name, argsz);
		CHECK_ROW(name, call(file_of(r->whose), r->number, arg), -EINVAL);
	}
	/* Longer than what is there. What is wanted beyond may be missing; nothing may crash. */
	for (size_t i = 0; i < sizeof(longer) / sizeof(longer[0]); i++) {
		int ret;

		prepare(r, arg);
		memcpy(arg, &longer[i], sizeof(longer[i]));
		snprintf(name, sizeof(name), "%s, argsz %#x", r->name, longer[i]);
		ret = call(file_of(r->whose), r->number, arg);
		CHECK_MSG(ret == 0 || ret == -EFAULT || ret == -EINVAL || ret == -ENOTTY ||
				  ret == -ENODEV || ret == -ENOSPC || ret == -E2BIG,
			  name);
	}
}

static void test_other_pointers(void)
{
	static const uintptr_t bad[] = {0, 1, UINTPTR_MAX, UINTPTR_MAX - 3, (uintptr_t)1 << 63};
	uint8_t *end = guarded + PAGE;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_EQ(call_value(machine.group, VFIO_GROUP_SET_CONTAINER, bad[i]), -EFAULT);
		CHECK_EQ(call_value(machine.group, VFIO_GROUP_GET_DEVICE_FD, bad[i]), -EFAULT);
	}
	CHECK_EQ(call(machine.group, VFIO_GROUP_SET_CONTAINER, end - 2), -EFAULT);
	memset(end - 4, '0', 4); /* a name that runs into what can't be read */
	CHECK_EQ(call(machine.group, VFIO_GROUP_GET_DEVICE_FD, end - 4), -EFAULT);
	/* Pointers where none is expected are not looked at. */
	CHECK_EQ(call(machine.container, VFIO_GET_API_VERSION, end), 0);
	CHECK_EQ(call(machine.container, VFIO_CHECK_EXTENSION, end), 0);
	CHECK_EQ(call(machine.device, VFIO_DEVICE_RESET, end), 0);
}

static void test_transfers(void)
{
	uint64_t config = client_region(machine.device, VFIO_PCI_CONFIG_REGION_INDEX).offset;
	uint8_t *end = guarded + PAGE, *gone = client_pages(1);

	munmap(gone, PAGE);
	client_command(machine.device, COMMAND_MEMORY, 0);
	CHECK(pread(machine.device, gone, 4, config) == -1 && errno == EFAULT);
	CHECK(pread(machine.device, end, 4, config) == -1 && errno == EFAULT);
	CHECK(pwrite(machine.device, end, 4, config + 4) == -1 && errno == EFAULT);
	CHECK(pread(machine.device, end, 4, 0) == -1 && errno == EFAULT);
	CHECK(pread(machine.device, guarded, 4, -1) == -1);
	CHECK(pread(machine.device, guarded, 4, INT64_MAX - 1) == -1);
	CHECK(pread(machine.device, guarded, 4, config + (UINT64_C(1) << 50)) == -1);
	CHECK(pread(machine.device, guarded, 4, UINT64_C(8) << 40) == -1);
	CHECK_EQ(pread(machine.device, guarded, 0, config), 0);
	CHECK_EQ(pread(machine.device, guarded, PAGE, config), PAGE);
	CHECK_EQ(pread(machine.device, guarded, 4, config), 4);
}

/* Interrupt sets whose counts lie. */
static void test_irq_counts(void)
{
	static const uint32_t numbers[] = {0, 1, 2, 0x7fffffff, 0x80000000, UINT32_MAX};
	enum { N = sizeof(numbers) / sizeof(numbers[0]) };
	struct vfio_irq_set *set = (void *)(guarded + PAGE - sizeof(*set) - 4);

	for (unsigned i = 0; i < N * N * N * 7; i++) {
		uint32_t start = numbers[i % N], count = numbers[i / N % N];
		uint32_t flags = 1u << i / N / N % N | VFIO_IRQ_SET_ACTION_TRIGGER;
		int ret;

		*set = (struct vfio_irq_set){.argsz = sizeof(*set) + 4,
					     .flags = flags,
					     .index = i / N / N / N,
					     .start = start,
					     .count = count};
		memset(set->data, 0xff, 4);
		ret = call(machine.device, VFIO_DEVICE_SET_IRQS, set);
		CHECK_MSG(ret <= 0, "SET_IRQS with numbers that lie");
		if (start > 2 || count > 2)
			CHECK_EQ(ret, -EINVAL);
	}
}

/* ---- an argument that changes while it is read ------------------------------------------------
 */

static struct {
	atomic_bool stop;
	volatile uint32_t *word; /* flips between the two values */
	uint32_t values[2];
} race;

static void *racer(void *unused)
{
	while (!race.stop) {
		*race.word = race.values[0];
		*race.word = race.values[1];
	}
	return unused;
}

/* @rounds times the request, while one word of its argument flips. */
static void run_race(const struct request *r, void *arg, const void *init, size_t word, uint32_t a,
		     uint32_t b)
{
	enum { ROUNDS = 300 };
	pthread_t thread;

	race.word = (volatile uint32_t *)((char *)arg + word);
	race.values[0] = a;
	race.values[1] = b;
	race.stop = false;
	memcpy(arg, init, r->size);
	REQUIRE(pthread_create(&thread, NULL, racer, NULL) == 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		int ret = call(file_of(r->whose), r->number, arg);

		if (ret > 0 || ret < -133)
			CHECK_ROW(r->name, ret, 0);
		if (r->number == VFIO_IOMMU_MAP_DMA)
			client_unmap(machine.container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL);
	}
	race.stop = true;
	pthread_join(thread, NULL);
}

static void test_races(void)
{
	uint8_t *arg = guarded;

	for (unsigned i = 0; i < REQUESTS; i++) {
		uint8_t init[64] = {0};

		prepare(&requests[i], init);
		for (size_t word = 0; word < requests[i].size; word += 4)
			run_race(&requests[i], arg, init, word, requests[i].size, UINT32_MAX);
	}
	/* A mapping whose size, IOVA or source changes between being checked and being made. */
	for (size_t word = 4; word < 32; word += 4) {
		struct vfio_iommu_type1_dma_map map = {
			.argsz = 32, .flags = RW, .iova = VICTIM, .size = PAGE};

		map.vaddr = (uintptr_t)buffers;
		run_race(&requests[1], arg, &map, word, ((uint32_t *)&map)[word / 4], 0x1000);
	}
	CHECK_EQ(client_dma_avail(machine.container), 65535);
}

/* ---- DMA ----------------------------------------------------------------------------------------
 */

static void map_dma_memory(void)
{
	CHECK_EQ(client_map(machine.container, CHAIN, chain, 2 * PAGE, RW), 0);
	CHECK_EQ(client_map(machine.container, BUFFERS, buffers, COPY_PAGES * PAGE, RW), 0);
}

static void set_copy(unsigned i, uint64_t src, uint64_t dst, uint32_t size, uint64_t next)
{
	chain[i] = (struct ioat_descriptor){
		.size = size, .control = IOAT_COMPLETION, .src = src, .dst = dst, .next = next};
}

/* The engine does an honest copy: whatever came before left no trace. */
static void check_alive(const char *after)
{
	for (unsigned i = 0; i < PAGE; i++)
		buffers[i] = i * 3 + after[0];
	memset(buffers + PAGE, 0, PAGE);
	ioat_reset(bar, CHAIN + PAGE);
	set_copy(0, BUFFERS, BUFFERS + PAGE, PAGE, CHAIN);
	CHECK_ROW(after, ioat_run(bar, CHAIN, 1), IOAT_DONE);
	check_bytes(__FILE__, __LINE__, after, buffers + PAGE, buffers, PAGE);
}

/* One copy that cannot be done: the channel halts with an error, and can be used again. */
static void check_bad_copy(const char *name, uint64_t src, uint64_t dst, uint32_t size)
{
	ioat_reset(bar, CHAIN + PAGE);
	set_copy(0, src, dst, size, CHAIN);
	CHECK_ROW(name, ioat_run(bar, CHAIN, 1), IOAT_HALTED);
	CHECK_MSG(REG(bar, uint32_t, IOAT_CHANERR) != 0, name);
	check_alive(name);
}

static void test_bad_copies(void)
{
	check_bad_copy("source not mapped", VICTIM, BUFFERS, 64);
	check_bad_copy("destination not mapped", BUFFERS, VICTIM, 64);
	check_bad_copy("source runs out", BUFFERS + PAGE, BUFFERS, 2 * PAGE);
	check_bad_copy("source crosses the end", UINT64_MAX - 15, BUFFERS, 64);
	check_bad_copy("destination crosses the end", BUFFERS, UINT64_MAX - 15, 64);
	check_bad_copy("source beyond the width", UINT64_C(1) << 62, BUFFERS, 64);
	check_bad_copy("larger than allowed", BUFFERS, BUFFERS, UINT32_MAX);
	check_bad_copy("from the doorbells", 0xfee00000, BUFFERS, 64);
}

/* Chain addresses that are no good, for one descriptor and for as many as can be counted. */
static void test_bad_chains(void)
{
	static const uint64_t bad[] = {0,	   VICTIM,
				       UINT64_MAX, UINT64_MAX - 63,
				       CHAIN + 1,  (UINT64_C(1) << 63),
				       0xfee00000, CHAIN + 2 * PAGE - 32};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ioat_reset(bar, CHAIN + PAGE);
		CHECK_EQ(ioat_run(bar, bad[i], 1), IOAT_HALTED);
		check_alive("bad chain address");
		ioat_reset(bar, CHAIN + PAGE);
		set_copy(0, BUFFERS, BUFFERS + PAGE, 64, bad[i]);
		CHECK_EQ(ioat_run(bar, CHAIN, 2), IOAT_HALTED);
		check_alive("bad next address");
	}
	/* A descriptor that names itself is run as often as the count says, then it is over. */
	ioat_reset(bar, CHAIN + PAGE);
	set_copy(0, BUFFERS, BUFFERS + PAGE, 64, CHAIN);
	CHECK_EQ(ioat_run(bar, CHAIN, UINT16_MAX), IOAT_DONE);
	check_alive("loop");
	/* Descriptors overwritten by the copies they order. */
	ioat_reset(bar, CHAIN + PAGE);
	memset(buffers, 0xff, PAGE);
	set_copy(0, BUFFERS, CHAIN, PAGE, CHAIN + 64);
	CHECK(ioat_run(bar, CHAIN, 8) >= 0);
	check_alive("descriptors overwritten");
	/* Completions that have nowhere to go. */
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ioat_reset(bar, bad[i]);
		set_copy(0, BUFFERS, BUFFERS + PAGE, 64, CHAIN);
		CHECK(ioat_run(bar, CHAIN, 1) >= 0);
		check_alive("bad completion address");
	}
}

/* The memory of a mapping goes away. A kernel would have pinned it; here the device gets a fault,
 * and when memory comes back at that place, it is reached again. */
static void test_memory_gone(void)
{
	uint8_t *victim = client_pages(2);

	CHECK_EQ(client_map(machine.container, VICTIM, victim, 2 * PAGE, RW), 0);
	REQUIRE(munmap(victim + PAGE, PAGE) == 0);
	check_bad_copy("source gone", VICTIM + PAGE, BUFFERS, 64);
	check_bad_copy("destination gone", BUFFERS, VICTIM + PAGE, 64);
	check_bad_copy("source half gone", VICTIM + PAGE - 32, BUFFERS, 64);
	REQUIRE(mprotect(victim, PAGE, PROT_READ) == 0);
	check_bad_copy("destination read-only now", BUFFERS, VICTIM, 64);
	REQUIRE(mmap(victim + PAGE, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
	ioat_reset(bar, CHAIN + PAGE);
	set_copy(0, BUFFERS, VICTIM + PAGE, PAGE, CHAIN);
	CHECK_EQ(ioat_run(bar, CHAIN, 1), IOAT_DONE);
	check_bytes(__FILE__, __LINE__, "memory is back", victim + PAGE, buffers, PAGE);
	CHECK_EQ(client_unmap(machine.container, VICTIM, 2 * PAGE, 0), 2 * PAGE);
	check_bad_copy("destination unmapped", BUFFERS, VICTIM, 64);
	munmap(victim, 3 * PAGE);
}

/* A file that is cut off under a mapping: SIGBUS for whoever touches it, but not for the program.
 */
static void test_file_truncated(void)
{
	int fd = memfd_create("victim", MFD_CLOEXEC);
	uint8_t *victim;

	REQUIRE(fd >= 0 && ftruncate(fd, PAGE) == 0);
	victim = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REQUIRE(victim != MAP_FAILED);
	CHECK_EQ(client_map(machine.container, VICTIM, victim, PAGE, RW), 0);
	REQUIRE(ftruncate(fd, 0) == 0);
	check_bad_copy("file truncated, source", VICTIM, BUFFERS, 64);
	check_bad_copy("file truncated, destination", BUFFERS, VICTIM, 64);
	CHECK_EQ(client_unmap(machine.container, VICTIM, PAGE, 0), PAGE);
	CHECK_EQ(client_map(machine.container, VICTIM, victim, PAGE, RW), -EFAULT);
	CHECK_EQ(call(machine.container, VFIO_IOMMU_GET_INFO, victim), -EFAULT);
	munmap(victim, PAGE);
	close(fd);
}

static void test_registers(void)
{
	for (unsigned offset = 0; offset < 0x100; offset++) {
		REG(bar, uint8_t, offset) = 0xff;
		REG(bar, uint32_t, offset) = 0xffffffff;
		REG(bar, uint64_t, offset) = UINT64_MAX;
		REG(bar, uint64_t, offset) = 0;
	}
	for (unsigned offset = 0x1000; offset < 0x4000; offset += 4)
		REG(bar, uint32_t, offset) = 0xffffffff;
	check_alive("every register written");
}

int main(void)
{
	client_find(&machine, IOAT, 0);
	client_open(&machine, VFIO_TYPE1v2_IOMMU);
	client_open_device(&machine);
	guarded = client_pages(1);
	chain = client_pages(2);
	buffers = client_pages(COPY_PAGES);
	for (unsigned i = 0; i < REQUESTS; i++) {
		test_pointers(&requests[i]);
		test_argsz(&requests[i]);
	}
	test_other_pointers();
	test_transfers();
	test_irq_counts();
	test_races();
	map_dma_memory();
	client_command(machine.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	bar = client_bar(machine.device);
	check_alive("arguments");
	test_bad_copies();
	test_bad_chains();
	test_memory_gone();
	test_file_truncated();
	test_registers();
	client_close(&machine);
	return client_done();
}
