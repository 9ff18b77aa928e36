/* SPDX-License-Identifier: MIT */
/*
 * interrupts.c - SET_IRQS with eventfds, and what comes to them: signalled by request, and raised
 * by QEMU's educational device (which raises by a store to 0x60 and is answered by one to 0x64).
 */
#include "ask.h"

#include <poll.h>
#include <sys/eventfd.h>

#define REG_RAISE 0x60
#define REG_ACK	  0x64

#define NONE	VFIO_IRQ_SET_DATA_NONE
#define BOOL	VFIO_IRQ_SET_DATA_BOOL
#define FDS	VFIO_IRQ_SET_DATA_EVENTFD
#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER
#define MASK	VFIO_IRQ_SET_ACTION_MASK
#define UNMASK	VFIO_IRQ_SET_ACTION_UNMASK

static int set_irqs(int fd, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
		    const void *data, size_t bytes)
{
	struct {
		struct vfio_irq_set head;
		uint8_t data[64];
	} request = {.head = {.argsz = (uint32_t)(sizeof(request.head) + bytes),
			      .flags = flags,
			      .index = index,
			      .start = start,
			      .count = count}};

	if (bytes)
		memcpy(request.data, data, bytes);
	return ask(fd, VFIO_DEVICE_SET_IRQS, &request);
}

static int set_fd(int fd, uint32_t action, uint32_t index, uint32_t start, int event)
{
	return set_irqs(fd, FDS | action, index, start, 1, &event, sizeof(event));
}

static int set_none(int fd, uint32_t action, uint32_t index, uint32_t count)
{
	return set_irqs(fd, NONE | action, index, 0, count, NULL, 0);
}

static int set_bool(int fd, uint32_t action, uint32_t index, uint8_t value)
{
	return set_irqs(fd, BOOL | action, index, 0, 1, &value, 1);
}

/* Signals so far; those that are on their way have a moment. */
static unsigned events(int event, int wait)
{
	struct pollfd poll_for = {.fd = event, .events = POLLIN};
	uint64_t count = 0;

	if (poll(&poll_for, 1, wait) == 1 && read(event, &count, sizeof(count)) != sizeof(count))
		count = 0;
	return (unsigned)count;
}

static void say_events(const char *name, const char *question, int result, int event, int wait)
{
	char text[96];

	snprintf(text, sizeof(text), "%s.%s", name, question);
	say(text, "%s events %u", result_name(result), events(event, wait));
}

/* What requests do to one kind of interrupt. */
static void ask_kind(int fd, const char *name, uint32_t index)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = index};
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), second = eventfd(0, EFD_NONBLOCK);
	int third = eventfd(0, EFD_NONBLOCK);
	int two[] = {event, second};
	uint32_t other = index ? VFIO_PCI_INTX_IRQ_INDEX : VFIO_PCI_MSI_IRQ_INDEX;

	if (ask(fd, VFIO_DEVICE_GET_IRQ_INFO, &info) || !info.count)
		return;
	say_events(name, "off.signal", set_none(fd, TRIGGER, index, 1), event, 0);
	answer(set_fd(fd, TRIGGER, index, 0, source_memfd()), "%s.a-file", name);
	answer(set_fd(fd, TRIGGER, index, 0, 0x7fffffff), "%s.not-open", name);
	answer(set_fd(fd, TRIGGER, index, info.count, event), "%s.beyond", name);
	answer(set_fd(fd, TRIGGER, index, 0, event), "%s.on", name);
	say_events(name, "signal", set_none(fd, TRIGGER, index, 1), event, 0);
	say_events(name, "signal.bool-1", set_bool(fd, TRIGGER, index, 1), event, 0);
	say_events(name, "signal.bool-0", set_bool(fd, TRIGGER, index, 0), event, 0);
	answer(set_none(fd, MASK, index, 1), "%s.mask", name);
	say_events(name, "masked.signal", set_none(fd, TRIGGER, index, 1), event, 0);
	answer(set_none(fd, UNMASK, index, 1), "%s.unmask", name);
	answer(set_bool(fd, MASK, index, 1), "%s.mask.bool-1", name);
	answer(set_bool(fd, UNMASK, index, 0), "%s.unmask.bool-0", name);
	answer(set_fd(fd, UNMASK, index, 0, third), "%s.unmask.fd", name);
	answer(set_fd(fd, MASK, index, 0, third), "%s.mask.fd", name);
	answer(set_fd(fd, TRIGGER, index, 0, second), "%s.replace", name);
	say_events(name, "replaced.signal", set_none(fd, TRIGGER, index, 1), second, 0);
	answer(set_fd(fd, TRIGGER, other, 0, event), "%s.another-kind", name);
	answer(set_irqs(fd, FDS | TRIGGER, index, 0, 2, two, sizeof(two)), "%s.two", name);
	answer(set_fd(fd, TRIGGER, index, 1, event), "%s.second-vector", name);
	answer(set_fd(fd, TRIGGER, index, 0, -1), "%s.take-away", name);
	say_events(name, "taken-away.signal", set_none(fd, TRIGGER, index, 1), second, 0);
	answer(set_none(fd, TRIGGER, index, 0), "%s.turn-off", name);
	answer(set_none(fd, TRIGGER, index, 0), "%s.turn-off.again", name);
	close(event);
	close(second);
	close(third);
}

static void store(int fd, unsigned reg, uint32_t value)
{
	if (pwrite(fd, &value, sizeof(value), reg) != sizeof(value))
		say("store", "failed");
}

static void turn_on(int fd)
{
	const off_t command = ((off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40) + 4;
	uint16_t on = 6; /* memory, bus master; INTx */

	if (pwrite(fd, &on, sizeof(on), command) != sizeof(on))
		say("command", "failed");
}

/* The device raises; a level stays until it is answered. */
static void ask_raised(int fd, const char *name, uint32_t index)
{
	int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (!set_fd(fd, TRIGGER, index, 0, event)) {
		store(fd, REG_RAISE, 1);
		say_events(name, "raised", 0, event, 1000);
		store(fd, REG_RAISE, 1);
		say_events(name, "raised.again", 0, event, 300);
		say_events(name, "raised.unmask", set_none(fd, UNMASK, index, 1), event, 300);
		store(fd, REG_ACK, 1);
		say_events(name, "answered.unmask", set_none(fd, UNMASK, index, 1), event, 300);
		store(fd, REG_RAISE, 1);
		say_events(name, "raised.after", 0, event, 1000);
		store(fd, REG_ACK, 1);
		answer(set_none(fd, TRIGGER, index, 0), "%s.raised.turn-off", name);
	}
	close(event);
}

static void ask_one(const struct machine *machine)
{
	struct open_device device;
	uint32_t id = 0;
	int result = device_open(&device, machine);

	answer(result, "open");
	if (result)
		return;
	ask_kind(device.fd, "intx", VFIO_PCI_INTX_IRQ_INDEX);
	ask_kind(device.fd, "msi", VFIO_PCI_MSI_IRQ_INDEX);
	ask_kind(device.fd, "msix", VFIO_PCI_MSIX_IRQ_INDEX);
	ask_kind(device.fd, "err", VFIO_PCI_ERR_IRQ_INDEX);
	ask_kind(device.fd, "req", VFIO_PCI_REQ_IRQ_INDEX);
	turn_on(device.fd);
	if (pread(device.fd, &id, sizeof(id), 0) == sizeof(id) && (id & 0xff) == 0xed) {
		ask_raised(device.fd, "intx", VFIO_PCI_INTX_IRQ_INDEX);
		ask_raised(device.fd, "msi", VFIO_PCI_MSI_IRQ_INDEX);
	}
	device_close(&device);
}

void ask_interrupts(const struct machine *machine)
{
	struct machine turned = {.device = machine->other, .other = machine->device};

	section("interrupts");
	ask_one(machine);
	if (!machine->other.address[0])
		return;
	section("interrupts.other");
	ask_one(&turned);
}
