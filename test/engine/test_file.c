/* SPDX-License-Identifier: MIT */
/*
 * DMA between files and memory: straight, by the bounce buffer, and by each for a part; where files
 * and ranges end; faults in the middle.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../check.h"

#include <uiommu/space.h>

#define PAGE  UINT64_C(4096)
#define IOVA  UINT64_C(0x100000)
#define PAGES 64
#define RID   8

/* Memory: pages that are lent, that are not, and one that has gone. */
static uint8_t *memory;
static bool none_lent;
static unsigned copies; /* of bytes, by the slow way */
#define NOT_LENT 40
#define GONE	 50

static uint64_t page_of(uint64_t addr)
{
	return (addr - (uintptr_t)memory) / PAGE;
}

static int memory_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	if (page_of(addr) <= GONE && page_of(addr + len - 1) >= GONE)
		return -EFAULT;
	copies++;
	memcpy(buf, (void *)(uintptr_t)addr, len);
	return 0;
}

static int memory_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	if (page_of(addr) <= GONE && page_of(addr + len - 1) >= GONE)
		return -EFAULT;
	copies++;
	memcpy((void *)(uintptr_t)addr, buf, len);
	return 0;
}

static void *memory_lend(void *ctx, uint64_t addr, uint64_t len)
{
	uint64_t first = page_of(addr), last = page_of(addr + len - 1);

	if (none_lent || (first <= NOT_LENT && NOT_LENT <= last))
		return NULL;
	/* What the kernel is given of the page that has gone, it can't access either. */
	return (void *)(uintptr_t)addr;
}

static const struct uiommu_memory_ops ops = {
	.size = sizeof(ops), .read = memory_read, .write = memory_write, .lend = memory_lend};

static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static struct uiommu_domain *domain;
static struct uiommu_port *port;
static unsigned faults;
static struct uiommu_fault last;
static struct uiommu_file file;
static uint8_t bounce[1000]; /* no multiple of anything */

static void on_fault(void *ctx, const struct uiommu_fault *fault)
{
	faults++;
	last = *fault;
}

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(offset * 31 + offset / 997);
}

/* A file of 256 KiB: in memory, or beside the test's working directory. */
static int set_up_with(int fd, int flags)
{
	const struct uiommu_memory mem = {&ops, NULL};
	const struct uiommu_unit_options options = {
		.size = sizeof(options), .memory = &mem, .fault = on_fault};
	const struct uiommu_domain_options format = {
		.size = sizeof(format), .format = "vtd-ss", .width = 48};
	struct uiommu_range range = {IOVA, IOVA + PAGES * PAGE - 1};
	static uint8_t bytes[PAGES * 4096];
	size_t i;

	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_int_equal(mprotect(memory + GONE * PAGE, PAGE, PROT_NONE), 0);
	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = byte_at(i);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	file = (struct uiommu_file){
		.fd = fd, .flags = flags, .bounce = bounce, .bounce_len = sizeof(bounce)};
	none_lent = false;
	faults = 0;
	assert_int_equal(uiommu_unit_create(&options, &unit), 0);
	assert_int_equal(uiommu_ioas_create(&ioas), 0);
	assert_int_equal(uiommu_domain_create(unit, ioas, &format, &domain), 0);
	assert_int_equal(uiommu_domain_attach(domain, RID, NULL, 0, "test"), 0);
	assert_int_equal(uiommu_ioas_map(ioas, range, (uintptr_t)memory, 3, NULL), 0);
	assert_int_equal(uiommu_port_create(unit, RID, &port), 0);
	uiommu_port_set_master(port, true);
	return 0;
}

static int in_memory(void **state)
{
	return set_up_with(memfd_create("test", MFD_CLOEXEC), UIOMMU_FILE_MEMORY);
}

static int on_disk(void **state)
{
	char name[] = "file-test-XXXXXX";
	int fd = mkstemp(name);

	unlink(name);
	return set_up_with(fd, 0);
}

static int tear_down(void **state)
{
	uiommu_port_destroy(port);
	uiommu_domain_detach(domain, RID);
	uiommu_domain_destroy(domain);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
	munmap(memory, PAGES * PAGE);
	close(file.fd);
	return 0;
}

static bool has(uint64_t page, uint64_t in_page, uint64_t offset, size_t len)
{
	const uint8_t *at = memory + page * PAGE + in_page;
	size_t i;

	for (i = 0; i < len; i++)
		if (at[i] != byte_at(offset + i))
			return false;
	return true;
}

static struct uiommu_sg piece(uint64_t page, uint64_t in_page, uint64_t len)
{
	return (struct uiommu_sg){IOVA + page * PAGE + in_page, len};
}

/* Ranges of all kinds, an empty one among them, from an odd place; then the way back. */
static void test_both_ways(void **state)
{
	const struct uiommu_sg sg[] = {piece(1, 5, 100),    piece(3, 0, 0),  piece(2, 0, 70000),
				       piece(39, 10, 9000), piece(30, 1, 1), piece(55, 0, 4096)};
	const size_t count = sizeof(sg) / sizeof(sg[0]), total = 100 + 70000 + 9000 + 1 + 4096;
	unsigned way;

	for (way = 0; way < 2; way++) {
		none_lent = way;
		copies = 0;
		memset(memory, 0, GONE * PAGE);
		assert_int_equal(uiommu_port_from_file(port, sg, count, &file, 77, total), 0);
		assert_true(has(1, 5, 77, 100) && has(2, 0, 177, 70000));
		assert_true(has(39, 10, 70177, 9000) && has(30, 1, 79177, 1));
		assert_true(has(55, 0, 79178, 4096));
		/* A page of it is not lent: that part is copied, alone. */
		assert_true(way ? copies > 80 : copies > 0 && copies < 20);
		/* Bytes around it are as they were. */
		assert_int_equal(memory[PAGE + 4], 0);
		assert_int_equal(memory[PAGE + 105], 0);

		memset(memory + 2 * PAGE, 0xee, 100);
		assert_int_equal(uiommu_port_to_file(port, sg, count, &file, 77, total), 0);
		assert_int_equal(pread(file.fd, bounce, 200, 150), 200);
		assert_int_equal(bounce[26], byte_at(176));
		assert_int_equal(bounce[27], 0xee);
		assert_int_equal(bounce[126], 0xee);
		assert_int_equal(bounce[127], byte_at(277));
		/* Put it right, on stable storage. */
		for (unsigned i = 0; i < 100; i++)
			memory[2 * PAGE + i] = byte_at(177 + i);
		file.flags |= UIOMMU_FILE_SYNC;
		assert_int_equal(uiommu_port_to_file(port, sg, count, &file, 77, total), 0);
		file.flags &= ~UIOMMU_FILE_SYNC;
	}
	assert_int_equal(faults, 0);
}

static void test_ends(void **state)
{
	const struct uiommu_sg sg[] = {piece(1, 0, 3 * PAGE)};
	const uint64_t end = PAGES * PAGE;
	struct uiommu_unit_stats stats;

	/* The file's: what is there was transferred. */
	assert_int_equal(uiommu_port_from_file(port, sg, 1, &file, end - 100, 200), -ENODATA);
	assert_true(has(1, 0, end - 100, 100));
	assert_int_equal(uiommu_port_from_file(port, sg, 1, &file, end, 1), -ENODATA);
	/* The ranges'. */
	assert_int_equal(uiommu_port_from_file(port, sg, 1, &file, 0, 3 * PAGE + 1), -EINVAL);
	assert_int_equal(uiommu_port_to_file(port, sg, 1, &file, 0, 3 * PAGE + 1), -EINVAL);
	none_lent = true;
	assert_int_equal(uiommu_port_to_file(port, sg, 1, &file, 0, 3 * PAGE + 1), -EINVAL);
	assert_int_equal(uiommu_port_from_file(port, sg, 0, &file, 0, 1), -EINVAL);
	assert_int_equal(uiommu_port_from_file(port, sg, 0, &file, 0, 0), 0);
	/* A descriptor that can't be written. */
	close(file.fd);
	file.fd = open("/dev/null", O_RDONLY);
	assert_int_equal(uiommu_port_to_file(port, sg, 1, &file, 0, 10), -EBADF);
	none_lent = false;
	assert_int_equal(uiommu_port_to_file(port, sg, 1, &file, 0, PAGE), -EBADF);
	assert_int_equal(faults, 0);
	uiommu_port_stats(port, &stats);
	assert_int_equal(stats.writes, 5);
	assert_int_equal(stats.reads, 4);
}

static void expect_fault(int ret, uint64_t iova, enum uiommu_fault_reason reason)
{
	assert_int_equal(ret, -EFAULT);
	assert_int_equal(faults, 1);
	assert_int_equal(last.iova, iova);
	assert_int_equal(last.reason, reason);
	faults = 0;
}

static void test_faults(void **state)
{
	struct uiommu_sg sg[] = {piece(GONE - 2, 0, 4 * PAGE), {IOVA + PAGES * PAGE - 10, 20}};
	struct uiommu_sg wraps = {UINT64_MAX - 3, 8};

	/* What comes before the page that has gone is transferred, one fault told. */
	expect_fault(uiommu_port_from_file(port, sg, 1, &file, 0, 4 * PAGE), IOVA + GONE * PAGE,
		     UIOMMU_FAULT_MEMORY_GONE);
	assert_true(has(GONE - 2, 0, 0, 2 * PAGE));
	expect_fault(uiommu_port_to_file(port, sg, 1, &file, 0, 4 * PAGE), IOVA + GONE * PAGE,
		     UIOMMU_FAULT_MEMORY_GONE);
	/* Where the mapping ends, and the address space. */
	expect_fault(uiommu_port_from_file(port, sg + 1, 1, &file, 0, 20), IOVA + PAGES * PAGE,
		     UIOMMU_FAULT_NOT_PRESENT);
	assert_true(has(PAGES - 1, PAGE - 10, 0, 10));
	assert_int_equal(uiommu_port_from_file(port, &wraps, 1, &file, 0, 8), -EFAULT);
	assert_int_equal(faults, 1);
	faults = 0;
	uiommu_port_set_master(port, false);
	expect_fault(uiommu_port_to_file(port, sg, 1, &file, 0, PAGE), sg[0].iova,
		     UIOMMU_FAULT_BUS_MASTER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_ways, in_memory, tear_down),
		cmocka_unit_test_setup_teardown(test_both_ways, on_disk, tear_down),
		cmocka_unit_test_setup_teardown(test_ends, in_memory, tear_down),
		cmocka_unit_test_setup_teardown(test_ends, on_disk, tear_down),
		cmocka_unit_test_setup_teardown(test_faults, in_memory, tear_down),
		cmocka_unit_test_setup_teardown(test_faults, on_disk, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
