/* SPDX-License-Identifier: MIT */
/* SET_IRQS in every form: what is refused and how, and interrupts that really arrive, through the
 * IOMMU, at eventfds. */
#include <errno.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi_test.h"
#include "check.h"

enum {
	NONE = VFIO_IRQ_SET_DATA_NONE,
	BOOL = VFIO_IRQ_SET_DATA_BOOL,
	EVENT = VFIO_IRQ_SET_DATA_EVENTFD,
	MASK = VFIO_IRQ_SET_ACTION_MASK,
	UNMASK = VFIO_IRQ_SET_ACTION_UNMASK,
	TRIGGER = VFIO_IRQ_SET_ACTION_TRIGGER,
	INTX = VFIO_PCI_INTX_IRQ_INDEX,
	MSI = VFIO_PCI_MSI_IRQ_INDEX,
	MSIX = VFIO_PCI_MSIX_IRQ_INDEX,
	ERR = VFIO_PCI_ERR_IRQ_INDEX,
	REQ = VFIO_PCI_REQ_IRQ_INDEX,
};

/* Long enough for what must come, short for what must not. */
#define COMES 10000
#define NEVER 0

/* A function with every kind of interrupt: a store of n to register 0 raises vector n, one to
 * register 4 lowers INTx. */
static void lots_reset(struct uiommu_function *fn)
{
}

static void lots_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
		       uint64_t value)
{
	if (offset == 0)
		uiommu_function_raise(fn, value);
	else if (offset == 4)
		uiommu_function_lower(fn);
}

static const struct uiommu_model lots = {
	.size = sizeof(struct uiommu_model),
	.name = "lots",
	.summary = "every kind of interrupt",
	.vendor = 0x1234,
	.device = 0x5678,
	.class_code = 0xff0000,
	.flags = UIOMMU_MODEL_INTX,
	.msi_vectors = 8,
	.msix_vectors = 16,
	.msix_offset = 0x4000,
	.bars = {{.size = 0x8000, .flags = UIOMMU_BAR_64}},
	.reset = lots_reset,
	.bar_write = lots_write,
};

struct irqs {
	struct rig rig;
	struct session s;
	int event[16];
};

static void irqs_up(struct irqs *t)
{
	static const char *const none[] = {NULL};
	struct rig_options options = {
		.functions = none, .model = &lots, .model_spec = "lots@00:05.0,group=3"};

	assert_true(rig_up(&t->rig, &options));
	t->s = rig_session(&t->rig, 3, VFIO_TYPE1v2_IOMMU, "0000:00:05.0");
	rig_config_set(&t->rig, t->s.device, PCI_COMMAND, 2,
		       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (int i = 0; i < 16; i++) {
		t->event[i] = eventfd(0, EFD_NONBLOCK);
		assert_true(t->event[i] >= 0);
	}
}

static void irqs_down(struct irqs *t)
{
	session_close(&t->rig, &t->s);
	assert_int_equal(t->rig.eventfds, 0);
	assert_int_equal(t->rig.faults, 0);
	rig_down(&t->rig);
	for (int i = 0; i < 16; i++)
		close(t->event[i]);
}

static long set(struct irqs *t, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
		const void *data)
{
	return rig_irqs(&t->rig, t->s.device, flags, index, start, count, data);
}

static void raise_vector(struct irqs *t, unsigned vector)
{
	rig_reg_set(&t->rig, t->s.device, 0, 0, vector);
}

static struct uiommu_function *function_of(struct irqs *t)
{
	return uiommu_vfio_file_function(rig_file(&t->rig, t->s.device));
}

/* ---- what is refused ---- */

struct row {
	const char *name;
	uint32_t flags, index, start, count;
	long error;
};

static const struct row nothing_enabled[] = {
	{"no data type", TRIGGER, INTX, 0, 1, -EINVAL},
	{"two data types", NONE | BOOL | TRIGGER, INTX, 0, 1, -EINVAL},
	{"no action", EVENT, INTX, 0, 1, -ENOTTY},
	{"two actions", NONE | MASK | UNMASK, INTX, 0, 1, -ENOTTY},
	{"unknown flag", NONE | TRIGGER | 64, INTX, 0, 1, -EINVAL},
	{"no such index", NONE | TRIGGER, 5, 0, 1, -EINVAL},
	{"index all ones", NONE | TRIGGER, ~0u, 0, 1, -EINVAL},
	{"start too high", NONE | TRIGGER, INTX, 1, 0, -EINVAL},
	{"start plus count wraps", NONE | TRIGGER, MSIX, 2, ~0u, -EINVAL},
	{"start plus count wraps to 0", NONE | TRIGGER, MSIX, 1, ~0u - 1, -EINVAL},
	{"more MSI than there are", EVENT | TRIGGER, MSI, 0, 9, -EINVAL},
	{"more MSI-X than there are", EVENT | TRIGGER, MSIX, 1, 16, -EINVAL},
	{"INTx off: nothing to disable", NONE | TRIGGER, INTX, 0, 0, -EINVAL},
	{"INTx off: mask", NONE | MASK, INTX, 0, 1, -EINVAL},
	{"INTx off: unmask", NONE | UNMASK, INTX, 0, 1, -EINVAL},
	{"INTx off: loopback", NONE | TRIGGER, INTX, 0, 1, -EINVAL},
	{"INTx off: loopback by bool", BOOL | TRIGGER, INTX, 0, 1, -EINVAL},
	{"INTx: no eventfd", EVENT | TRIGGER, INTX, 0, 0, -EINVAL},
	{"MSI off: nothing to disable", NONE | TRIGGER, MSI, 0, 0, -EINVAL},
	{"MSI off: loopback", NONE | TRIGGER, MSI, 0, 1, -EINVAL},
	{"MSI-X off: loopback", BOOL | TRIGGER, MSIX, 0, 1, -EINVAL},
	{"MSI: no vector", EVENT | TRIGGER, MSI, 0, 0, -ERANGE},
	{"MSI-X: no vector", EVENT | TRIGGER, MSIX, 0, 0, -ERANGE},
	{"MSI can't be masked", NONE | MASK, MSI, 0, 1, -ENOTTY},
	{"MSI can't be unmasked", NONE | UNMASK, MSI, 0, 1, -ENOTTY},
	{"MSI-X can't be masked", EVENT | MASK, MSIX, 0, 1, -ENOTTY},
	{"ERR: nothing set", NONE | TRIGGER, ERR, 0, 1, -EINVAL},
	{"ERR: nothing to take away", NONE | TRIGGER, ERR, 0, 0, -EINVAL},
	{"ERR: bool, no count", BOOL | TRIGGER, ERR, 0, 0, -EINVAL},
	{"ERR: eventfd, no count", EVENT | TRIGGER, ERR, 0, 0, -EINVAL},
	{"ERR: bool, nothing set", BOOL | TRIGGER, ERR, 0, 1, 0},
	{"ERR can't be masked", NONE | MASK, ERR, 0, 1, -ENOTTY},
	{"REQ: two", EVENT | TRIGGER, REQ, 0, 2, -EINVAL},
};

static void test_refusals(void **state)
{
	int32_t fds[16];
	struct irqs t;

	irqs_up(&t);
	for (int i = 0; i < 16; i++)
		fds[i] = t.event[i];
	for (size_t i = 0; i < sizeof(nothing_enabled) / sizeof(nothing_enabled[0]); i++) {
		const struct row *row = &nothing_enabled[i];
		/* Room for 16 descriptors, whatever is claimed. */
		struct {
			struct vfio_irq_set set;
			int32_t fds[16];
		} arg = {.set = {sizeof(arg), row->flags, row->index, row->start, row->count}};
		long ret;

		memcpy(arg.fds, fds, sizeof(fds));
		ret = rig_ioctl(&t.rig, t.s.device, VFIO_DEVICE_SET_IRQS, &arg);
		if (ret != row->error)
			fail_msg("%s: %ld", row->name, ret);
	}
	assert_int_equal(t.rig.eventfds, 0);
	irqs_down(&t);
}

static void test_argsz(void **state)
{
	struct {
		struct vfio_irq_set set;
		int32_t fds[4];
	} arg = {.set = {.flags = EVENT | TRIGGER, .index = MSIX, .count = 4}};
	struct irqs t;

	irqs_up(&t);
	for (int i = 0; i < 4; i++)
		arg.fds[i] = t.event[i];
	arg.set.argsz = sizeof(arg.set) - 1;
	assert_int_equal(rig_ioctl(&t.rig, t.s.device, VFIO_DEVICE_SET_IRQS, &arg), -EINVAL);
	arg.set.argsz = sizeof(arg) - 1;
	assert_int_equal(rig_ioctl(&t.rig, t.s.device, VFIO_DEVICE_SET_IRQS, &arg), -EINVAL);
	arg.set.argsz = UINT32_MAX;
	assert_int_equal(rig_ioctl(&t.rig, t.s.device, VFIO_DEVICE_SET_IRQS, &arg), 0);
	assert_int_equal(rig_ioctl(&t.rig, t.s.device, VFIO_DEVICE_SET_IRQS, NULL), -EFAULT);
	t.rig.bad_first = (uintptr_t)&arg.fds[2];
	t.rig.bad_last = t.rig.bad_first;
	assert_int_equal(rig_ioctl(&t.rig, t.s.device, VFIO_DEVICE_SET_IRQS, &arg), -EFAULT);
	t.rig.bad_last = 0;
	assert_int_equal(set(&t, NONE | TRIGGER, MSIX, 0, 0, NULL), 0);
	irqs_down(&t);
}

/* ---- MSI-X ---- */

static void test_msix(void **state)
{
	int32_t fds[3];
	uint8_t bools[3] = {1, 0, 1};
	unsigned control;
	struct irqs t;

	irqs_up(&t);
	for (int i = 0; i < 3; i++)
		fds[i] = t.event[i];
	control = uiommu_function_info(function_of(&t))->msix_cap + PCI_MSIX_FLAGS;
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 3, fds), 0);
	assert_int_equal(t.rig.eventfds, 3);
	/* The user sees it enabled, for that is the hardware's. */
	assert_int_equal(rig_config(&t.rig, t.s.device, control, 2) & 0xc000, 0x8000);
	for (unsigned i = 0; i < 3; i++) {
		raise_vector(&t, i);
		assert_int_equal(rig_wait(t.event[i], COMES), 1);
	}
	/* Loopback needs no device. */
	assert_int_equal(set(&t, NONE | TRIGGER, MSIX, 0, 3, NULL), 0);
	assert_int_equal(set(&t, BOOL | TRIGGER, MSIX, 0, 3, bools), 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 2);
	assert_int_equal(rig_wait(t.event[1], COMES), 1);
	assert_int_equal(rig_wait(t.event[2], COMES), 2);
	/* No other kind may be set up beside it. */
	assert_int_equal(set(&t, EVENT | TRIGGER, MSI, 0, 1, fds), -EINVAL);
	assert_int_equal(set(&t, EVENT | TRIGGER, INTX, 0, 1, fds), -EINVAL);
	assert_int_equal(t.rig.refused.rule, UIOMMU_RULE_ORDER);
	assert_int_equal(set(&t, NONE | TRIGGER, MSIX, 0, 0, NULL), 0);
	assert_int_equal(t.rig.eventfds, 0);
	assert_int_equal(rig_config(&t.rig, t.s.device, control, 2) & 0xc000, 0);
	assert_int_equal(set(&t, NONE | TRIGGER, MSIX, 0, 0, NULL), -EINVAL);
	irqs_down(&t);
}

/* Vectors may be added, replaced and taken away while others are in use; what is raised without an
 * eventfd is pending till it has one. */
static void test_msix_grows(void **state)
{
	int32_t fd, fds[2];
	struct irqs t;

	irqs_up(&t);
	fd = t.event[0];
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 1, &fd), 0);
	fds[0] = t.event[9];
	fds[1] = -1;
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 9, 2, fds), 0);
	raise_vector(&t, 9);
	assert_int_equal(rig_wait(t.event[9], COMES), 1);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	/* Replaced: the old one hears nothing more. */
	fd = t.event[1];
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 1, &fd), 0);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[1], COMES), 1);
	assert_int_equal(rig_wait(t.event[0], NEVER), 0);
	/* Taken away: pending. */
	fd = -1;
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 1, &fd), 0);
	assert_int_equal(t.rig.eventfds, 1);
	raise_vector(&t, 0);
	assert_int_equal(set(&t, NONE | TRIGGER, MSIX, 0, 1, NULL), 0);
	assert_int_equal(rig_wait(t.event[1], NEVER), 0);
	fd = t.event[2];
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 1, &fd), 0);
	assert_int_equal(rig_wait(t.event[2], COMES), 1);
	irqs_down(&t);
}

static void test_msix_bad_descriptor(void **state)
{
	int32_t fds[3];
	struct irqs t;

	irqs_up(&t);
	fds[0] = t.event[0];
	fds[1] = 999999;
	fds[2] = t.event[2];
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 3, fds), -EBADF);
	assert_int_equal(t.rig.eventfds, 0);
	/* Nothing was left enabled. */
	assert_int_equal(set(&t, NONE | TRIGGER, MSIX, 0, 0, NULL), -EINVAL);
	fds[1] = STDERR_FILENO;
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 3, fds), -EINVAL);
	fds[1] = t.event[1];
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 3, fds), 0);
	/* A block that fails while others are on loses its own vectors only. */
	fds[1] = 999999;
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 1, 2, fds), -EBADF);
	assert_int_equal(t.rig.eventfds, 1);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	irqs_down(&t);
}

/* Interrupts survive a reset, for the host puts them back. */
static void test_msix_reset(void **state)
{
	int32_t fd;
	struct irqs t;

	irqs_up(&t);
	fd = t.event[0];
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 3, 1, &fd), 0);
	assert_int_equal(rig_ioctl(&t.rig, t.s.device, VFIO_DEVICE_RESET, NULL), 0);
	raise_vector(&t, 3);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	assert_int_equal(set(&t, NONE | TRIGGER, MSIX, 0, 0, NULL), 0);
	assert_int_equal(set(&t, EVENT | TRIGGER, MSI, 0, 1, &fd), 0);
	assert_int_equal(rig_ioctl(&t.rig, t.s.device, VFIO_DEVICE_RESET, NULL), 0);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	irqs_down(&t);
}

/* Without bus master nothing arrives: an MSI is a DMA write. */
static void test_no_bus_master(void **state)
{
	int32_t fd;
	struct irqs t;

	irqs_up(&t);
	fd = t.event[0];
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 1, &fd), 0);
	rig_config_set(&t.rig, t.s.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[0], NEVER), 0);
	assert_int_equal(t.rig.faults, 1);
	t.rig.faults = 0;
	irqs_down(&t);
}

/* ---- MSI ---- */

static void test_msi(void **state)
{
	int32_t fds[3];
	unsigned cap;
	struct irqs t;

	irqs_up(&t);
	cap = uiommu_function_info(function_of(&t))->msi_cap;
	for (int i = 0; i < 3; i++)
		fds[i] = t.event[i];
	assert_int_equal(set(&t, EVENT | TRIGGER, MSI, 0, 3, fds), 0);
	/* Three make a block of four. */
	assert_int_equal(uiommu_function_config_read(function_of(&t), cap + PCI_MSI_FLAGS, 2) &
				 (PCI_MSI_FLAGS_QSIZE | PCI_MSI_FLAGS_ENABLE),
			 0x21);
	for (unsigned i = 0; i < 3; i++) {
		raise_vector(&t, i);
		assert_int_equal(rig_wait(t.event[i], COMES), 1);
	}
	/* MSI does not grow. */
	assert_int_equal(set(&t, EVENT | TRIGGER, MSI, 3, 1, fds), -EINVAL);
	/* The user may switch it off, and on again, in configuration space. */
	rig_config_set(&t.rig, t.s.device, cap + PCI_MSI_FLAGS, 2, 0x20);
	assert_int_equal(uiommu_function_config_read(function_of(&t), cap + PCI_MSI_FLAGS, 2) & 1,
			 0);
	rig_config_set(&t.rig, t.s.device, cap + PCI_MSI_FLAGS, 2, 0x71);
	assert_int_equal(rig_config(&t.rig, t.s.device, cap + PCI_MSI_FLAGS, 2) & 0x71, 0x21);
	raise_vector(&t, 2);
	assert_int_equal(rig_wait(t.event[2], COMES), 1);
	assert_int_equal(set(&t, NONE | TRIGGER, MSI, 0, 0, NULL), 0);
	/* Another block of another size. */
	assert_int_equal(set(&t, EVENT | TRIGGER, MSI, 0, 1, fds), 0);
	raise_vector(&t, 7);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	irqs_down(&t);
}

/* ---- INTx ---- */

static void test_intx(void **state)
{
	uint8_t no = 0, yes = 1;
	int32_t fd;
	struct irqs t;

	irqs_up(&t);
	fd = t.event[0];
	assert_int_equal(set(&t, EVENT | TRIGGER, INTX, 0, 1, &fd), 0);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	/* Masked now, automatically; unmasked while still asserted it is signalled again. */
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[0], NEVER), 0);
	assert_int_equal(set(&t, BOOL | UNMASK, INTX, 0, 1, &no), 0);
	assert_int_equal(rig_wait(t.event[0], NEVER), 0);
	assert_int_equal(set(&t, NONE | UNMASK, INTX, 0, 1, NULL), 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	/* Lowered first: it is not. */
	rig_reg_set(&t.rig, t.s.device, 0, 4, 0);
	assert_int_equal(set(&t, BOOL | UNMASK, INTX, 0, 1, &yes), 0);
	assert_int_equal(rig_wait(t.event[0], NEVER), 0);
	/* Masked by the user: kept till unmasked. */
	assert_int_equal(set(&t, NONE | MASK, INTX, 0, 1, NULL), 0);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[0], NEVER), 0);
	assert_int_equal(set(&t, NONE | UNMASK, INTX, 0, 1, NULL), 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	rig_reg_set(&t.rig, t.s.device, 0, 4, 0);
	assert_int_equal(set(&t, NONE | UNMASK, INTX, 0, 1, NULL), 0);
	/* Loopback, and what can't be done. */
	assert_int_equal(set(&t, NONE | TRIGGER, INTX, 0, 1, NULL), 0);
	assert_int_equal(set(&t, BOOL | TRIGGER, INTX, 0, 1, &no), 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	assert_int_equal(set(&t, EVENT | MASK, INTX, 0, 1, &fd), -ENOTTY);
	assert_int_equal(set(&t, BOOL | MASK, INTX, 0, 1, &no), 0);
	/* Replaced, and taken away without disabling. */
	fd = t.event[1];
	assert_int_equal(set(&t, EVENT | TRIGGER, INTX, 0, 1, &fd), 0);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[1], COMES), 1);
	fd = -1;
	assert_int_equal(set(&t, EVENT | TRIGGER, INTX, 0, 1, &fd), 0);
	assert_int_equal(t.rig.eventfds, 0);
	assert_int_equal(set(&t, NONE | TRIGGER, INTX, 0, 1, NULL), 0);
	assert_int_equal(set(&t, NONE | TRIGGER, INTX, 0, 0, NULL), 0);
	assert_int_equal(set(&t, NONE | TRIGGER, INTX, 0, 1, NULL), -EINVAL);
	irqs_down(&t);
}

/* The user's INTx disable masks; what is asserted meanwhile comes when it is lifted. */
static void test_intx_disable_bit(void **state)
{
	const uint32_t on = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	int32_t fd;
	struct irqs t;

	irqs_up(&t);
	fd = t.event[0];
	/* Asserted before anyone listens. */
	raise_vector(&t, 0);
	assert_int_equal(set(&t, EVENT | TRIGGER, INTX, 0, 1, &fd), 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	rig_reg_set(&t.rig, t.s.device, 0, 4, 0);
	assert_int_equal(set(&t, NONE | UNMASK, INTX, 0, 1, NULL), 0);
	rig_config_set(&t.rig, t.s.device, PCI_COMMAND, 2, on | PCI_COMMAND_INTX_DISABLE);
	raise_vector(&t, 0);
	assert_int_equal(set(&t, NONE | UNMASK, INTX, 0, 1, NULL), 0);
	assert_int_equal(set(&t, NONE | TRIGGER, INTX, 0, 1, NULL), 0);
	assert_int_equal(rig_wait(t.event[0], NEVER), 0);
	rig_config_set(&t.rig, t.s.device, PCI_COMMAND, 2, on);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	/* Set while nothing is enabled, it holds for what is enabled then. */
	assert_int_equal(set(&t, NONE | TRIGGER, INTX, 0, 0, NULL), 0);
	rig_config_set(&t.rig, t.s.device, PCI_COMMAND, 2, on | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(set(&t, EVENT | TRIGGER, INTX, 0, 1, &fd), 0);
	assert_int_equal(rig_wait(t.event[0], NEVER), 0);
	rig_config_set(&t.rig, t.s.device, PCI_COMMAND, 2, on);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	irqs_down(&t);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

/* Unmasking by an eventfd, as virtual machines do it. */
static void test_intx_unmask_eventfd(void **state)
{
	int32_t fd, bad = 999999, none = -1;
	struct irqs t;

	irqs_up(&t);
	fd = t.event[0];
	assert_int_equal(set(&t, EVENT | TRIGGER, INTX, 0, 1, &fd), 0);
	assert_int_equal(set(&t, EVENT | UNMASK, INTX, 0, 1, &bad), -EBADF);
	fd = t.event[1];
	assert_int_equal(set(&t, EVENT | UNMASK, INTX, 0, 1, &fd), 0);
	assert_int_equal(set(&t, EVENT | UNMASK, INTX, 0, 1, &fd), -EBUSY);
	assert_int_equal(t.rig.eventfds, 2);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	for (int i = 0; i < 100; i++) {
		signal_fd(t.event[1]);
		assert_int_equal(rig_wait(t.event[0], COMES), 1);
	}
	assert_int_equal(set(&t, EVENT | UNMASK, INTX, 0, 1, &none), 0);
	assert_int_equal(t.rig.eventfds, 1);
	signal_fd(t.event[1]);
	assert_int_equal(rig_wait(t.event[0], 20), 0);
	/* What was pending on it when it is set is not missed. */
	assert_int_equal(set(&t, EVENT | UNMASK, INTX, 0, 1, &fd), 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	assert_int_equal(atomic_load(&t.rig.threads), 1);
	irqs_down(&t);
}

/* A child has a helper thread of its own. */
static void test_fork(void **state)
{
	int32_t fd;
	int status;
	struct irqs t;
	pid_t pid;

#ifdef __SANITIZE_THREAD__
	skip(); /* it does not follow threads over fork() */
#endif
	irqs_up(&t);
	fd = t.event[0];
	assert_int_equal(set(&t, EVENT | TRIGGER, INTX, 0, 1, &fd), 0);
	fd = t.event[1];
	assert_int_equal(set(&t, EVENT | UNMASK, INTX, 0, 1, &fd), 0);
	raise_vector(&t, 0);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	/* The parent's thread is past its start: AddressSanitizer's allocator, which a starting
	 * thread takes, is not locked around fork(). */
	signal_fd(t.event[1]);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	uiommu_vfio_fork_prepare(t.rig.vfio);
	uiommu_machine_fork_prepare(t.rig.machine);
	pid = fork();
	if (!pid) {
		int32_t other = t.event[3], none = -1;

		uiommu_machine_fork_child(t.rig.machine);
		uiommu_vfio_fork_child(t.rig.vfio);
		/* By an eventfd that the parent doesn't wait for. */
		if (set(&t, EVENT | UNMASK, INTX, 0, 1, &none) ||
		    set(&t, EVENT | UNMASK, INTX, 0, 1, &other))
			_exit(1);
		signal_fd(t.event[3]);
		if (rig_wait(t.event[0], COMES) != 1)
			_exit(2);
		session_close(&t.rig, &t.s);
		rig_down(&t.rig);
		_exit(0);
	}
	uiommu_machine_fork_parent(t.rig.machine);
	uiommu_vfio_fork_parent(t.rig.vfio);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	signal_fd(t.event[1]);
	assert_int_equal(rig_wait(t.event[0], COMES), 1);
	irqs_down(&t);
}

/* ---- errors and requests ---- */

static void test_single(void **state)
{
	uint8_t yes = 1, no = 0;
	int32_t fd, none = -1, below = -2;
	struct irqs t;

	irqs_up(&t);
	for (unsigned index = ERR; index <= REQ; index++) {
		fd = t.event[0];
		assert_int_equal(set(&t, EVENT | TRIGGER, index, 0, 1, &fd), 0);
		assert_int_equal(set(&t, NONE | TRIGGER, index, 0, 1, NULL), 0);
		assert_int_equal(set(&t, BOOL | TRIGGER, index, 0, 1, &yes), 0);
		assert_int_equal(set(&t, BOOL | TRIGGER, index, 0, 1, &no), 0);
		assert_int_equal(rig_wait(t.event[0], COMES), 2);
		assert_int_equal(set(&t, EVENT | TRIGGER, index, 0, 1, &below), -EINVAL);
		assert_int_equal(set(&t, EVENT | TRIGGER, index, 0, 1, &none), 0);
		assert_int_equal(set(&t, NONE | TRIGGER, index, 0, 1, NULL), -EINVAL);
		fd = 999999;
		assert_int_equal(set(&t, EVENT | TRIGGER, index, 0, 1, &fd), -EBADF);
		fd = t.event[0];
		assert_int_equal(set(&t, EVENT | TRIGGER, index, 0, 1, &fd), 0);
		assert_int_equal(set(&t, NONE | TRIGGER, index, 0, 0, NULL), 0);
		assert_int_equal(t.rig.eventfds, index - ERR);
		/* Left set, it goes with the device. */
		assert_int_equal(set(&t, EVENT | TRIGGER, index, 0, 1, &fd), 0);
	}
	irqs_down(&t);
}

/* ---- the models of the library ---- */

static void test_edu(void **state)
{
	struct rig rig;
	struct session s;
	int event = eventfd(0, EFD_NONBLOCK);
	int32_t fd = event, two[2] = {event, event};

	assert_true(rig_up(&rig, NULL));
	s = rig_session(&rig, 0, VFIO_TYPE1_IOMMU, "0000:00:01.0");
	rig_config_set(&rig, s.device, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(rig_irqs(&rig, s.device, EVENT | TRIGGER, ERR, 0, 1, &fd), -EINVAL);
	assert_int_equal(rig_irqs(&rig, s.device, EVENT | TRIGGER, MSIX, 0, 1, &fd), -EINVAL);
	assert_int_equal(rig_irqs(&rig, s.device, EVENT | TRIGGER, MSI, 0, 2, two), -EINVAL);
	for (unsigned index = INTX; index <= MSI; index++) {
		assert_int_equal(rig_irqs(&rig, s.device, EVENT | TRIGGER, index, 0, 1, &fd), 0);
		rig_reg_set(&rig, s.device, 0, 0x60, 0x5);
		assert_int_equal(rig_wait(event, COMES), 1);
		assert_int_equal(rig_reg(&rig, s.device, 0, 0x24), 0x5);
		rig_reg_set(&rig, s.device, 0, 0x64, 0x5);
		assert_int_equal(rig_irqs(&rig, s.device, NONE | TRIGGER, index, 0, 0, NULL), 0);
	}
	/* Device memory to program memory and back, through a mapping, with an MSI at the end. */
	assert_int_equal(rig_irqs(&rig, s.device, EVENT | TRIGGER, MSI, 0, 1, &fd), 0);
	assert_int_equal(rig_map(&rig, s.container, 3, 0x100000, 2 * PAGE, rig.memory), 0);
	memset(rig.memory, 0x5a, PAGE);
	rig_reg_set(&rig, s.device, 0, 0x80, 0x100000);
	rig_reg_set(&rig, s.device, 0, 0x88, 0x40000);
	rig_reg_set(&rig, s.device, 0, 0x90, PAGE);
	rig_reg_set(&rig, s.device, 0, 0x98, 1 | 4);
	assert_int_equal(rig_wait(event, COMES), 1);
	rig_reg_set(&rig, s.device, 0, 0x64, 0x100);
	rig_reg_set(&rig, s.device, 0, 0x80, 0x40000);
	rig_reg_set(&rig, s.device, 0, 0x88, 0x100000 + PAGE);
	rig_reg_set(&rig, s.device, 0, 0x98, 1 | 2 | 4);
	assert_int_equal(rig_wait(event, COMES), 1);
	assert_memory_equal(rig.memory, rig.memory + PAGE, PAGE);
	assert_int_equal(rig.faults, 0);
	session_close(&rig, &s);
	assert_int_equal(rig.eventfds, 0);
	rig_down(&rig);
	close(event);
}

/* A full eventfd does not hold up the device. */
static void test_full_eventfd(void **state)
{
	uint64_t most = UINT64_MAX - 1;
	int32_t fd;
	struct irqs t;

	irqs_up(&t);
	fd = eventfd(0, 0);
	assert_int_equal(set(&t, EVENT | TRIGGER, MSIX, 0, 1, &fd), 0);
	assert_int_equal(write(fd, &most, sizeof(most)), sizeof(most));
	raise_vector(&t, 0);
	assert_int_equal(set(&t, NONE | TRIGGER, MSIX, 0, 1, NULL), 0);
	assert_int_equal(rig_wait(fd, 0), most);
	close(fd);
	irqs_down(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_argsz),
		cmocka_unit_test(test_msix),
		cmocka_unit_test(test_msix_grows),
		cmocka_unit_test(test_msix_bad_descriptor),
		cmocka_unit_test(test_msix_reset),
		cmocka_unit_test(test_no_bus_master),
		cmocka_unit_test(test_msi),
		cmocka_unit_test(test_intx),
		cmocka_unit_test(test_intx_disable_bit),
		cmocka_unit_test(test_intx_unmask_eventfd),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_single),
		cmocka_unit_test(test_edu),
		cmocka_unit_test(test_full_eventfd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
