/* SPDX-License-Identifier: MIT */
/* VFIO_DEVICE_IOEVENTFD: eventfds that make stores to a BAR. edu answers a store to 0x60 with an
 * interrupt, so that nothing here waits longer than it takes. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "abi_test.h"
#include "check.h"

#define EDU	"0000:00:01.0"
#define IOAT	"0000:00:02.0"
#define RAISE	0x60
#define STATUS	0x24
#define ACK	0x64
#define COMES	10000
#define TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)

struct io {
	struct rig rig;
	struct session edu, ioat;
	int msi, kick;
};

static void io_up(struct io *t)
{
	int32_t fd;

	assert_true(rig_up(&t->rig, NULL));
	t->edu = rig_session(&t->rig, 0, VFIO_TYPE1v2_IOMMU, EDU);
	t->ioat = rig_session(&t->rig, 1, VFIO_TYPE1v2_IOMMU, IOAT);
	t->msi = fd = eventfd(0, EFD_NONBLOCK);
	t->kick = eventfd(0, EFD_NONBLOCK);
	rig_config_set(&t->rig, t->edu.device, PCI_COMMAND, 2,
		       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(
		rig_irqs(&t->rig, t->edu.device, TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &fd), 0);
}

static void io_down(struct io *t)
{
	session_close(&t->rig, &t->edu);
	session_close(&t->rig, &t->ioat);
	assert_int_equal(t->rig.eventfds, 0);
	rig_down(&t->rig);
	close(t->msi);
	close(t->kick);
}

static long io(struct io *t, int device, uint32_t flags, uint64_t offset, uint64_t data, int fd)
{
	struct vfio_device_ioeventfd arg = {
		.argsz = 28, .flags = flags, .offset = offset, .data = data, .fd = fd};

	return rig_ioctl(&t->rig, device, VFIO_DEVICE_IOEVENTFD, &arg);
}

static void kick(struct io *t)
{
	uint64_t one = 1;

	assert_int_equal(write(t->kick, &one, sizeof(one)), sizeof(one));
}

static void test_refusals(void **state)
{
	static const struct {
		const char *name;
		uint32_t flags;
		uint64_t offset;
		int fd;
		long error;
	} rows[] = {
		{"no size", 0, 0, -1, -EINVAL},
		{"two sizes", 3, 0, -1, -EINVAL},
		{"unknown flag", 0x14, 0, -1, -EINVAL},
		{"below -1", 4, 0, -2, -EINVAL},
		{"ROM", 4, UINT64_C(6) << 40, -1, -EINVAL},
		{"configuration space", 4, UINT64_C(7) << 40, -1, -EINVAL},
		{"negative offset", 4, UINT64_C(1) << 63, -1, -EINVAL},
		{"no such BAR", 4, UINT64_C(2) << 40, -1, -EINVAL},
		{"past the end", 4, 0x3ffd, -1, -EINVAL},
		{"before the MSI-X table", 4, 0x1ffc, -1, -ENODEV},
		{"into the MSI-X table", 4, 0x1ffd, -1, -EINVAL},
		{"the MSI-X table", 1, 0x2000, -1, -EINVAL},
		{"64 bits", 8, 0, -1, -EINVAL},
		{"nothing to take away", 2, 0, -1, -ENODEV},
		{"closed", 4, 0, 999999, -EBADF},
		{"no eventfd", 4, 0, 0, -EINVAL},
	};
	struct vfio_device_ioeventfd shortened = {.argsz = 27, .flags = 4, .fd = -1};
	struct io t;

	io_up(&t);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		long ret = io(&t, t.ioat.device, rows[i].flags, rows[i].offset, 0, rows[i].fd);

		if (ret != rows[i].error)
			fail_msg("%s: %ld", rows[i].name, ret);
	}
	assert_int_equal(rig_ioctl(&t.rig, t.ioat.device, VFIO_DEVICE_IOEVENTFD, &shortened),
			 -EINVAL);
	assert_int_equal(rig_ioctl(&t.rig, t.ioat.device, VFIO_DEVICE_IOEVENTFD, NULL), -EFAULT);
	io_down(&t);
}

static void test_store(void **state)
{
	struct io t;

	io_up(&t);
	for (uint32_t data = 1; data <= 100; data++) {
		assert_int_equal(io(&t, t.edu.device, 4, RAISE, data, t.kick), 0);
		assert_int_equal(io(&t, t.edu.device, 4, RAISE, data, t.kick), -EEXIST);
		kick(&t);
		assert_int_equal(rig_wait(t.msi, COMES), 1);
		assert_int_equal(rig_reg(&t.rig, t.edu.device, 0, STATUS), data);
		rig_reg_set(&t.rig, t.edu.device, 0, ACK, data);
		/* Another value, another store: it isn't this one that goes. */
		assert_int_equal(io(&t, t.edu.device, 4, RAISE, data + 1, -1), -ENODEV);
		assert_int_equal(io(&t, t.edu.device, 4, RAISE, data, -1), 0);
		kick(&t);
		assert_int_equal(rig_wait(t.kick, COMES), 1);
		assert_int_equal(rig_reg(&t.rig, t.edu.device, 0, STATUS), 0);
	}
	/* Left registered, it goes with the device. */
	assert_int_equal(io(&t, t.edu.device, 4, RAISE, 1, t.kick), 0);
	assert_int_equal(atomic_load(&t.rig.threads), 1);
	io_down(&t);
}

/* Without memory decoding a store is lost, not kept. */
static void test_memory_off(void **state)
{
	struct pollfd taken = {.events = POLLIN};
	struct io t;

	io_up(&t);
	taken.fd = t.kick;
	assert_int_equal(io(&t, t.edu.device, 4, RAISE, 2, t.kick), 0);
	rig_config_set(&t.rig, t.edu.device, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
	kick(&t);
	/* Until the helper thread has taken it. */
	while (poll(&taken, 1, 0))
		sched_yield();
	rig_config_set(&t.rig, t.edu.device, PCI_COMMAND, 2,
		       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig_reg(&t.rig, t.edu.device, 0, STATUS), 0);
	kick(&t);
	assert_int_equal(rig_wait(t.msi, COMES), 1);
	io_down(&t);
}

static void test_limit(void **state)
{
	struct io t;

	io_up(&t);
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(io(&t, t.edu.device, 4, 0x200, i, t.kick), 0);
	assert_int_equal(io(&t, t.edu.device, 4, 0x200, 1000, t.kick), -ENOSPC);
	assert_int_equal(io(&t, t.edu.device, 4, 0x200, 999, t.kick), -EEXIST);
	assert_int_equal(io(&t, t.edu.device, 4, 0x200, 500, -1), 0);
	assert_int_equal(io(&t, t.edu.device, 4, 0x200, 1000, t.kick), 0);
	assert_int_equal(t.rig.eventfds, 1001);
	io_down(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_memory_off),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
