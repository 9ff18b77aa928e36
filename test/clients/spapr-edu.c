/* SPDX-License-Identifier: MIT */
/*
 * spapr-edu - an edu and an I/OAT engine driven through the sPAPR TCE driver, versions 1 and 2: DMA
 * and interrupts through the default window and a dynamic one at 2^59, entries overwritten and
 * cleared while the device works, and a device that reads where only writing is allowed. The
 * argument is the machine's flavour; the edu reaches all 64 bits.
 */
#include "spapr.h"

/* edu's registers, from QEMU's docs/specs/edu.rst. */
enum { EDU_ACK = 0x64, EDU_SRC = 0x80, EDU_DST = 0x88, EDU_COUNT = 0x90, EDU_CMD = 0x98 };
enum { EDU_START = 1, EDU_TO_MEMORY = 2, EDU_RAISE = 4, EDU_BUFFER = 0x40000, BYTES = 2048 };

#define SIZE64 (UINT64_C(1) << 34)

static bool powernv;
static uint8_t *memory; /* sixteen pages */

struct edu {
	struct client c;
	volatile uint8_t *bar;
	int irq;
};

static void start(struct edu *e, uint64_t src, uint64_t dst, unsigned direction)
{
	REG(e->bar, uint64_t, EDU_SRC) = src;
	REG(e->bar, uint64_t, EDU_DST) = dst;
	REG(e->bar, uint64_t, EDU_COUNT) = BYTES;
	REG(e->bar, uint64_t, EDU_CMD) = EDU_START | EDU_RAISE | direction;
	CHECK_EQ(client_wait_event(e->irq), 1);
	REG(e->bar, uint32_t, EDU_ACK) = 0x100;
}

/* Through the device and back, from one IOVA to another. */
static void copy(struct edu *e, uint64_t from, uint64_t to)
{
	start(e, from, EDU_BUFFER, 0);
	start(e, EDU_BUFFER, to, EDU_TO_MEMORY);
}

static void fill(uint8_t *page, unsigned seed)
{
	for (unsigned i = 0; i < PAGE; i++)
		page[i] = i * 31 + seed;
}

static void open_edu(struct edu *e, int type)
{
	const uint32_t trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;

	client_find(&e->c, EDU, 0);
	client_open(&e->c, type);
	client_open_device(&e->c);
	client_command(e->c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	e->bar = client_bar(e->c.device);
	e->irq = client_eventfd();
	CHECK_EQ(client_irqs(e->c.device, trigger, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &e->irq), 0);
}

static void close_edu(struct edu *e)
{
	close(e->irq);
	/* The device stays open while its BAR is mapped. */
	CHECK_EQ(munmap((void *)e->bar, client_region(e->c.device, 0).size), 0);
	client_close(&e->c);
}

/* At a window that starts at @base: what is mapped is reached, overwritten entries lead elsewhere,
 * cleared ones nowhere. */
static void check_window(struct edu *e, uint64_t base)
{
	uint8_t *a = memory, *b = memory + PAGE, *c = memory + 2 * PAGE;
	int container = e->c.container;

	fill(a, 1);
	fill(b, 2);
	memset(c, 0, PAGE);
	CHECK_EQ(client_map(container, base, memory, 3 * PAGE, RW), 0);
	copy(e, base, base + 2 * PAGE);
	CHECK(memcmp(a, c, BYTES) == 0);
	/* The first entry alone leads to the second page now. */
	CHECK_EQ(client_map(container, base, b, PAGE, RW), 0);
	copy(e, base, base + 2 * PAGE);
	CHECK(memcmp(b, c, BYTES) == 0);
	/* Cleared, the device's own buffer keeps what it had, and a write goes nowhere. */
	CHECK_EQ(client_unmap(container, base + 2 * PAGE, PAGE, 0), PAGE);
	memset(c, 0x77, PAGE);
	start(e, EDU_BUFFER, base + 2 * PAGE, EDU_TO_MEMORY);
	CHECK_EQ(c[0], 0x77);
	CHECK_EQ(client_map(container, base + 2 * PAGE, c, PAGE, RW), 0);
	start(e, EDU_BUFFER, base + 2 * PAGE, EDU_TO_MEMORY);
	CHECK(memcmp(b, c, BYTES) == 0);
	CHECK_EQ(client_unmap(container, base, 3 * PAGE, 0), 3 * PAGE);
}

/* A map that fails on the way clears what it had put, and leaves what is behind. */
static void check_failure(struct edu *e)
{
	uint8_t *hole = client_pages(4);
	uint8_t *a = memory, *b = memory + PAGE;
	int container = e->c.container;

	REQUIRE(munmap(hole + PAGE, 3 * PAGE) == 0);
	fill(a, 5);
	memset(b, 0, PAGE);
	CHECK_EQ(client_map(container, 0, memory, 3 * PAGE, RW), 0);
	CHECK_EQ(client_map(container, 0, hole, 3 * PAGE, RW), -EFAULT);
	start(e, EDU_BUFFER, 0, EDU_TO_MEMORY); /* nowhere: neither the old page nor the new one */
	fill(memory + 2 * PAGE, 9);
	copy(e, 2 * PAGE, PAGE);
	CHECK(memcmp(b, memory + 2 * PAGE, BYTES) == 0);
	fill(b, 5);
	CHECK(memcmp(a, b, PAGE) == 0);
	CHECK_EQ(hole[0], 0);
	munmap(hole, PAGE);
}

static void test_v1(void)
{
	struct edu e;

	open_edu(&e, VFIO_SPAPR_TCE_IOMMU);
	CHECK_EQ(call(e.c.container, VFIO_IOMMU_ENABLE, NULL), 0);
	check_window(&e, 0);
	check_window(&e, 0x3fff0000);
	check_failure(&e);
	close_edu(&e);
}

static void test_v2(void)
{
	uint64_t base;
	struct edu e;

	open_edu(&e, VFIO_SPAPR_TCE_v2_IOMMU);
	CHECK_EQ(tce_register(e.c.container, memory, 16 * PAGE), 0);
	check_window(&e, 0);
	CHECK_EQ(tce_create(e.c.container, 12, SIZE64, 1, &base), 0);
	CHECK_EQ(base, WINDOW64);
	check_window(&e, base);
	check_window(&e, base + SIZE64 - 16 * PAGE);
	CHECK_EQ(client_map(e.c.container, base, memory, PAGE, RW), 0);
	CHECK_EQ(tce_remove(e.c.container, base + 12345), 0);
	/* With the window, what was mapped in it is gone; the interrupt still comes. */
	memset(memory, 0x11, PAGE);
	start(&e, EDU_BUFFER, base, EDU_TO_MEMORY);
	CHECK_EQ(memory[0], 0x11);
	CHECK_EQ(tce_remove(e.c.container, 0), 0);
	start(&e, EDU_BUFFER, 0, EDU_TO_MEMORY);
	close_edu(&e);
}

/* Reads through an entry for writing: the machine's own table grants them, the hypervisor's does
 * not. */
static void test_write_only(void)
{
	struct ioat_descriptor *chain = (void *)memory;
	uint8_t *from = memory + 2 * PAGE, *to = memory + 3 * PAGE;
	volatile uint8_t *bar;
	struct client c;

	client_find(&c, IOAT, 0);
	client_open(&c, VFIO_SPAPR_TCE_v2_IOMMU);
	client_open_device(&c);
	client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	bar = client_bar(c.device);
	CHECK_EQ(tce_register(c.container, memory, 16 * PAGE), 0);
	CHECK_EQ(client_map(c.container, 0, memory, 4 * PAGE, RW), 0);
	fill(from, 3);
	memset(to, 0, PAGE);
	chain[0] = (struct ioat_descriptor){
		.size = PAGE, .control = IOAT_COMPLETION, .src = 2 * PAGE, .dst = 3 * PAGE};
	ioat_reset(bar, PAGE);
	CHECK_EQ(ioat_run(bar, 0, 1), IOAT_DONE);
	CHECK(memcmp(from, to, PAGE) == 0);
	memset(to, 0, PAGE);
	CHECK_EQ(client_map(c.container, 2 * PAGE, from, PAGE, VFIO_DMA_MAP_FLAG_WRITE), 0);
	ioat_reset(bar, PAGE);
	CHECK_EQ(ioat_run(bar, 0, 1), powernv ? IOAT_DONE : IOAT_HALTED);
	CHECK_EQ(to[1], powernv ? from[1] : 0);
	/* Writing where only reading is allowed is refused on both. */
	CHECK_EQ(client_map(c.container, 2 * PAGE, from, PAGE, RW), 0);
	CHECK_EQ(client_map(c.container, 3 * PAGE, to, PAGE, VFIO_DMA_MAP_FLAG_READ), 0);
	memset(to, 0, PAGE);
	ioat_reset(bar, PAGE);
	CHECK_EQ(ioat_run(bar, 0, 1), IOAT_HALTED);
	CHECK_EQ(to[1], 0);
	client_close(&c);
}

int main(int argc, char **argv)
{
	REQUIRE(argc == 2);
	powernv = !strcmp(argv[1], "powernv");
	memory = client_pages(16);
	test_v1();
	test_v2();
	test_write_only();
	return client_done();
}
