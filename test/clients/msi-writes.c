/* SPDX-License-Identifier: MIT */
/*
 * msi-writes - an interrupt is a DMA write and nothing else. Two functions of one container have
 * their MSIs set up; then a copy engine writes what an MSI would be to where it would go. Its own
 * interrupt arrives. Another function's arrives only where the machine can't tell who writes, and
 * what is no interrupt faults. A masked vector arrives once it is unmasked.
 *
 * Argument: the machine, as in the table below.
 */
#include "client.h"

#include <fcntl.h>

struct message {
	uint64_t address;
	uint32_t data;
};

struct machine {
	const char *name;
	/* Where the first function to ask writes what, and the second. */
	struct message edu, ioat;
	bool forged;	       /* what the second writes for the first arrives there */
	struct message nobody; /* a vector that nobody has */
};

static const struct machine machines[] = {
	/* Remappable format, SHV: handles 0 and 1. */
	{"vtd", {0xfee00018, 0}, {0xfee00038, 0}, false, {0xfee00058, 0}},
	{"amd", {0xfee00000, 0}, {0xfee00000, 0}, false, {0xfee00000, 5}},
	/* Without remapping: vectors of a processor's. */
	{"apic", {0xfee00000, 0x20}, {0xfee00000, 0x21}, true, {0xfee00000, 0x30}},
	{"its", {0x8000040, 0}, {0x8000040, 0}, false, {0x8000040, 5}},
	{"v2m", {0x8000040, 80}, {0x8000040, 81}, true, {0x8000040, 90}},
	{"imsic", {0x8000000, 64}, {0x8000000, 64}, false, {0x8000000, 70}},
};

enum {
	MEMORY = 0x100000, /* IOVA of the page below */
	DESCRIPTOR = 0,
	COMPLETION = 128,
	WORDS = 256,
	EDU_RAISE = 0x60,
	EDU_ACK = 0x64,
	EVENTFD = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
};

static uint8_t *page;
static volatile uint8_t *engine;

static const struct machine *find_machine(const char *name)
{
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++)
		if (!strcmp(machines[i].name, name))
			return &machines[i];
	fprintf(stderr, "msi-writes: no machine %s\n", name);
	exit(2);
}

/* Have the engine write @size bytes of @message's data there: IOAT_DONE or IOAT_HALTED. */
static int write_there(struct message message, uint32_t size)
{
	memcpy(page + WORDS, &message.data, sizeof(message.data));
	*(struct ioat_descriptor *)(page + DESCRIPTOR) = (struct ioat_descriptor){
		.size = size,
		.control = IOAT_COMPLETION,
		.src = MEMORY + WORDS,
		.dst = message.address,
	};
	ioat_reset(engine, MEMORY + COMPLETION);
	return ioat_run(engine, MEMORY + DESCRIPTOR, 1);
}

static void test_writes(const struct machine *m, int edu_event, int ioat_event)
{
	bool shared = m->edu.address == m->ioat.address && m->edu.data == m->ioat.data;
	struct message bad = m->ioat;

	CHECK_EQ(write_there(m->ioat, 4), IOAT_DONE);
	CHECK_EQ(client_wait_event(ioat_event), 1);
	CHECK_EQ(client_events(edu_event), 0);

	/* In a space of its own, the same write means its own vector. */
	CHECK_EQ(write_there(m->edu, 4), m->forged || shared ? IOAT_DONE : IOAT_HALTED);
	CHECK_EQ(client_wait_event(m->forged ? edu_event : ioat_event) == 1 || !shared, true);
	client_events(ioat_event);
	client_events(edu_event);

	CHECK_EQ(write_there(m->nobody, 4), IOAT_HALTED);
	CHECK_EQ(write_there(m->ioat, 8), IOAT_HALTED);
	bad.address += 2;
	CHECK_EQ(write_there(bad, 4), IOAT_HALTED);
	CHECK_EQ(client_events(edu_event), 0);
	client_events(ioat_event); /* the engine's own, for each error */
}

static void test_masked(struct client *ioat, const struct machine *m, int event)
{
	int none = -1;

	/* Without an eventfd the vector is masked in the function; the controller still has it, so
	 * a write of the engine's own arrives nowhere and is no fault. */
	CHECK_EQ(client_irqs(ioat->device, EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, &none), 0);
	*(struct ioat_descriptor *)(page + DESCRIPTOR) =
		(struct ioat_descriptor){.control = IOAT_NULL | IOAT_COMPLETION | IOAT_INTERRUPT};
	ioat_reset(engine, MEMORY + COMPLETION);
	CHECK_EQ(ioat_run(engine, MEMORY + DESCRIPTOR, 1), IOAT_DONE);
	CHECK_EQ(client_events(event), 0);
	CHECK_EQ(write_there(m->ioat, 4), IOAT_DONE);
	CHECK_EQ(client_events(event), 0);
	/* What was raised meanwhile was pending. */
	CHECK_EQ(client_irqs(ioat->device, EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, &event), 0);
	CHECK_EQ(client_wait_event(event), 1);
}

static void test_released(struct client *ioat, const struct machine *m)
{
	CHECK_EQ(client_irqs(ioat->device, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
			     VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL),
		 0);
	CHECK_EQ(write_there(m->ioat, 4), IOAT_HALTED);
}

int main(int argc, char **argv)
{
	const struct machine *m;
	struct client edu, ioat;
	volatile uint8_t *regs;
	int edu_event = client_eventfd(), ioat_event = client_eventfd();

	REQUIRE(argc == 2);
	m = find_machine(argv[1]);
	client_find(&edu, EDU, 0);
	client_open(&edu, VFIO_TYPE1v2_IOMMU);
	client_open_device(&edu);
	client_find(&ioat, IOAT, 0);
	ioat.group = open(ioat.group_path, O_RDWR | O_CLOEXEC);
	REQUIRE(call(ioat.group, VFIO_GROUP_SET_CONTAINER, &edu.container) == 0);
	client_open_device(&ioat);
	page = client_pages(1);
	REQUIRE(client_map(edu.container, MEMORY, page, PAGE, RW) == 0);
	client_command(edu.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	client_command(ioat.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	engine = client_bar(ioat.device);
	regs = client_bar(edu.device);

	/* No vector yet: the write that will be one faults. */
	CHECK_EQ(write_there(m->ioat, 4), IOAT_HALTED);
	CHECK_EQ(client_irqs(edu.device, EVENTFD, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &edu_event), 0);
	CHECK_EQ(client_irqs(ioat.device, EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, &ioat_event), 0);
	REG(regs, uint32_t, EDU_RAISE) = 1;
	CHECK_EQ(client_wait_event(edu_event), 1);
	REG(regs, uint32_t, EDU_ACK) = 1;

	test_writes(m, edu_event, ioat_event);
	test_masked(&ioat, m, ioat_event);
	test_released(&ioat, m);
	client_close(&ioat);
	client_close(&edu);
	return client_done();
}
