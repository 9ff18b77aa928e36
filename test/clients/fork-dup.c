/* SPDX-License-Identifier: MIT */
/*
 * fork-dup - descriptors in every order: a group is busy until its last descriptor, its last device
 * and that device's last mapping are gone, whoever holds them: a dup, a forked child, a child that
 * was exec'd knows nothing of it. After each scene the group can be opened again.
 *
 * Run as `fork-dup probe PATH` it says whether PATH can be opened: 0, or 1 for EBUSY.
 */
#include "client.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char *self;
static struct client c;
static size_t bar_size;

static bool group_free(void)
{
	int fd = open(c.group_path, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		CHECK_EQ(errno, EBUSY);
		return false;
	}
	CHECK_EQ(close(fd), 0);
	return true;
}

static uint16_t vendor(int device)
{
	uint16_t id = 0;

	CHECK_EQ(pread(device, &id, 2, client_region(device, VFIO_PCI_CONFIG_REGION_INDEX).offset),
		 2);
	return id;
}

static void open_all(void)
{
	client_open(&c, VFIO_TYPE1v2_IOMMU);
	client_open_device(&c);
	bar_size = client_region(c.device, 0).size;
}

static void close_one(int *fd)
{
	CHECK_EQ(close(*fd), 0);
	*fd = -1;
}

/* ---- one process ------------------------------------------------------------------------------
 */

static void test_dup(void)
{
	int again, third;

	client_open(&c, 0);
	again = dup(c.group);
	third = fcntl(c.group, F_DUPFD_CLOEXEC, 100);
	CHECK(again >= 0 && third >= 100);
	CHECK(!group_free());
	close_one(&c.group);
	CHECK(!group_free());
	CHECK_EQ(call_value(c.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	close_one(&again);
	CHECK(!group_free());
	CHECK_EQ(call(third, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
	close_one(&third);
	CHECK(group_free());
	client_close(&c);
}

static void test_dup_onto(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), at;

	REQUIRE(null >= 0);
	open_all();
	at = c.group;
	CHECK_EQ(dup2(null, c.group), c.group); /* which closes it */
	close_one(&c.group);
	CHECK_EQ(vendor(c.device), 0x8086);
	CHECK(!group_free());
	CHECK_EQ(dup3(null, c.device, O_CLOEXEC), c.device);
	CHECK(group_free());
	CHECK_EQ(call(c.device, VFIO_DEVICE_RESET, NULL), -ENOTTY);
	/* The numbers are used again, for something else. */
	c.group = open(c.group_path, O_RDWR | O_CLOEXEC);
	CHECK_EQ(c.group, at);
	CHECK(dup2(c.group, c.device) == c.device);
	CHECK_EQ(call(c.device, VFIO_GROUP_UNSET_CONTAINER, NULL), -EINVAL);
	close_one(&c.group);
	CHECK(!group_free());
	client_close(&c);
	CHECK(group_free());
	close(null);
}

/* A device keeps its group, and the group its container and what is mapped there. */
static void test_device_keeps(void)
{
	uint8_t *memory = client_pages(2);
	struct ioat_descriptor *chain = (void *)memory;
	volatile uint8_t *bar;

	open_all();
	CHECK_EQ(client_map(c.container, 0x10000, memory, 2 * PAGE, RW), 0);
	close_one(&c.container);
	close_one(&c.group);
	CHECK(!group_free());
	CHECK_EQ(vendor(c.device), 0x8086);
	client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	bar = client_bar(c.device);
	ioat_reset(bar, 0x10000 + 2048);
	memset(memory + PAGE, 0x5a, 64);
	chain[0] = (struct ioat_descriptor){
		.size = 64, .control = IOAT_COMPLETION, .src = 0x11000, .dst = 0x11040};
	CHECK_EQ(ioat_run(bar, 0x10000, 1), IOAT_DONE);
	CHECK_EQ(memory[PAGE + 127], 0x5a);
	/* And a mapping keeps the device. */
	close_one(&c.device);
	CHECK(!group_free());
	ioat_reset(bar, 0x10000 + 2048);
	CHECK_EQ(munmap((void *)(bar + PAGE), bar_size - PAGE), 0);
	CHECK(!group_free());
	CHECK_EQ(munmap((void *)bar, PAGE), 0);
	CHECK(group_free());
	munmap(memory, 3 * PAGE);
}

/* Two mappings of one BAR, one moved, one replaced by other memory. */
static void test_mappings(void)
{
	volatile uint8_t *bar, *other;
	void *moved;

	open_all();
	client_command(c.device, COMMAND_MEMORY, 0);
	bar = client_bar(c.device);
	other = client_bar(c.device);
	close_one(&c.device);
	close_one(&c.group);
	close_one(&c.container);
	CHECK(mmap((void *)bar, bar_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) == (void *)bar);
	CHECK(!group_free());
	moved = mremap((void *)other, bar_size, bar_size, MREMAP_MAYMOVE | MREMAP_FIXED, bar);
	CHECK(moved == (void *)bar);
	CHECK(!group_free());
	ioat_reset(bar, 0);
	CHECK_EQ(munmap(moved, bar_size), 0);
	CHECK(group_free());
}

/* The container's descriptor goes first, and the group finds it in place. */
static void test_container_first(void)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};

	client_open(&c, VFIO_TYPE1v2_IOMMU);
	close_one(&c.container);
	CHECK_EQ(call(c.group, VFIO_GROUP_GET_STATUS, &status), 0);
	CHECK_EQ(status.flags, 3);
	client_open_device(&c);
	CHECK_EQ(call(c.group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EBUSY);
	close_one(&c.device);
	CHECK_EQ(call(c.group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
	CHECK_EQ(call(c.group, VFIO_GROUP_GET_STATUS, &status), 0);
	CHECK_EQ(status.flags, 1);
	client_close(&c);
	CHECK(group_free());
}

static void test_close_range(void)
{
	int low, high;

	open_all();
	low = c.container < c.group ? c.container : c.group;
	low = low < c.device ? low : c.device;
	high = dup2(c.device, 500);
	CHECK_EQ(high, 500);
	CHECK(!group_free());
	CHECK_EQ(syscall(SYS_close_range, 3000, 4000, 0), 0);
	CHECK_EQ(close_range(low, 499, 0), 0);
	CHECK_EQ(vendor(high), 0x8086);
	CHECK(!group_free());
	CHECK_EQ(close_range(low, ~0u, 0), 0);
	CHECK(group_free());
	c.container = c.group = c.device = -1;
}

/* Twice the same device: two files, one device. */
static void test_device_twice(void)
{
	int second;

	open_all();
	second = call(c.group, VFIO_GROUP_GET_DEVICE_FD, c.bdf);
	REQUIRE(second >= 0);
	close_one(&c.group);
	close_one(&c.device);
	CHECK(!group_free());
	CHECK_EQ(vendor(second), 0x8086);
	close_one(&second);
	client_close(&c);
	CHECK(group_free());
}

/* ---- several processes ---------------------------------------------------------------------- */

/* Two pipes between parent and child: each waits for the other's word. */
struct talk {
	int to_child[2], to_parent[2];
	pid_t child;
};

static void say(int fd)
{
	CHECK_EQ(write(fd, "x", 1), 1);
}

static void hear(int fd)
{
	char word;

	CHECK_EQ(read(fd, &word, 1), 1);
}

static bool start_child(struct talk *t)
{
	REQUIRE(pipe2(t->to_child, O_CLOEXEC) == 0 && pipe2(t->to_parent, O_CLOEXEC) == 0);
	fflush(NULL);
	t->child = fork();
	REQUIRE(t->child >= 0);
	return t->child == 0;
}

static void end_child(struct talk *t)
{
	int status;

	CHECK_EQ(waitpid(t->child, &status, 0), t->child);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	for (int i = 0; i < 2; i++) {
		close(t->to_child[i]);
		close(t->to_parent[i]);
	}
}

static void test_fork(void)
{
	struct talk t;

	open_all();
	if (start_child(&t)) {
		CHECK_EQ(vendor(c.device), 0x8086);
		CHECK(!group_free());
		say(t.to_parent[1]);
		hear(t.to_child[0]); /* the parent has closed all of it */
		CHECK_EQ(vendor(c.device), 0x8086);
		close_one(&c.container);
		close_one(&c.group);
		CHECK(!group_free());
		_exit(client_done()); /* with the device open */
	}
	hear(t.to_parent[0]);
	client_close(&c);
	CHECK(!group_free());
	say(t.to_child[1]);
	end_child(&t);
	CHECK(group_free());
}

static void test_child_closes(void)
{
	uint8_t *memory = client_pages(1);
	struct talk t;

	open_all();
	if (start_child(&t)) {
		client_close(&c);
		CHECK(!group_free());
		_exit(client_done());
	}
	end_child(&t);
	CHECK_EQ(vendor(c.device), 0x8086);
	CHECK_EQ(client_map(c.container, 0, memory, PAGE, RW), 0);
	CHECK_EQ(client_unmap(c.container, 0, PAGE, 0), PAGE);
	client_close(&c);
	CHECK(group_free());
	munmap(memory, 2 * PAGE);
}

/* The child does what test harnesses let it do: open everything for itself, and drive it. */
static void test_child_opens(void)
{
	struct talk t;

	if (start_child(&t)) {
		uint8_t *memory = client_pages(2);
		volatile uint8_t *bar;

		open_all();
		client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
		bar = client_bar(c.device);
		CHECK_EQ(client_map(c.container, 0x10000, memory, 2 * PAGE, RW), 0);
		ioat_reset(bar, 0x10000 + 2048);
		*(struct ioat_descriptor *)memory =
			(struct ioat_descriptor){.control = IOAT_NULL | IOAT_COMPLETION};
		CHECK_EQ(ioat_run(bar, 0x10000, 1), IOAT_DONE);
		say(t.to_parent[1]);
		hear(t.to_child[0]);
		_exit(client_done());
	}
	hear(t.to_parent[0]);
	CHECK(!group_free());
	say(t.to_child[1]);
	end_child(&t);
	CHECK(group_free());
}

static int probe_by_exec(void)
{
	pid_t child;
	int status;

	fflush(NULL);
	child = fork();
	REQUIRE(child >= 0);
	if (!child) {
		execl(self, self, "probe", c.group_path, NULL);
		_exit(99);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_exec(void)
{
	open_all();
	CHECK_EQ(probe_by_exec(), 1);
	client_close(&c);
	CHECK_EQ(probe_by_exec(), 0);
}

static int probe(const char *path)
{
	int fd = open(path, O_RDWR);

	return fd >= 0 ? 0 : errno == EBUSY ? 1 : 2;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "probe"))
		return probe(argv[2]);
	self = argv[0];
	client_find(&c, IOAT, 0);
	CHECK(group_free());
	test_dup();
	test_dup_onto();
	test_device_keeps();
	test_mappings();
	test_container_first();
	test_close_range();
	test_device_twice();
	test_fork();
	test_child_closes();
	test_child_opens();
	test_exec();
	return client_done();
}
