/* SPDX-License-Identifier: MIT */
/*
 * nvme-memory - an NVMe controller whose driver takes memory away under it: data goes by the kernel
 * straight into the program's pages, so pages that are unmapped, or no longer writable, have to end
 * the command and nothing else. A mapped BAR as a target. An interrupt by INTx.
 */
#include <fcntl.h>

#include "nvme.h"

enum { EDU_LIVE = 4 };
#define QUEUES	UINT64_C(0x100000)
#define DATA	UINT64_C(0x200000)
#define BAR	UINT64_C(0x300000)
#define TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)

/* Behind its queues there is a page for a list. */
static struct nvme nvme;

static unsigned io(unsigned opcode, unsigned blocks, uint64_t prp1, uint64_t prp2)
{
	struct nvme_command cmd = {.cdw0 = opcode, .nsid = 1, .prp = {prp1, prp2}, .cdw = {8}};
	unsigned status;

	cmd.cdw[2] = blocks - 1;
	status = nvme_run(&nvme, 1, cmd);
	nvme_consumed(&nvme, 1);
	return status;
}

static void test_gone(int container)
{
	uint8_t *pages = client_pages(3), *again;
	const uint8_t pattern[PAGE] = {1, 2, 3};

	CHECK_EQ(client_map(container, DATA, pages, 3 * PAGE, RW), 0);
	memcpy(pages, pattern, PAGE);
	memcpy(pages + PAGE, pattern, PAGE);
	CHECK_EQ(io(NVME_WRITE, 16, DATA, DATA + PAGE), 0);
	memset(pages, 0, 2 * PAGE);
	CHECK_EQ(io(NVME_READ, 16, DATA, DATA + PAGE), 0);
	CHECK(!memcmp(pages, pattern, PAGE) && !memcmp(pages + PAGE, pattern, PAGE));

	/* The second page of two goes: what comes before it is transferred. */
	CHECK_EQ(munmap(pages + PAGE, PAGE), 0);
	memset(pages, 0, PAGE);
	CHECK_EQ(io(NVME_READ, 16, DATA, DATA + PAGE), NVME_TRANSFER_ERROR);
	CHECK(!memcmp(pages, pattern, PAGE));
	CHECK_EQ(io(NVME_WRITE, 16, DATA, DATA + PAGE), NVME_TRANSFER_ERROR);
	CHECK_EQ(io(NVME_READ, 8, DATA + PAGE, 0), NVME_TRANSFER_ERROR);
	CHECK_EQ(io(NVME_READ, 8, DATA + 2 * PAGE, 0), 0);
	/* Other memory in its place is the device's now. */
	again = mmap(pages + PAGE, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	REQUIRE(again == pages + PAGE);
	CHECK_EQ(io(NVME_READ, 16, DATA, DATA + PAGE), 0);
	CHECK(!memcmp(again, pattern, PAGE));
	/* Memory that can be read, but not written. */
	CHECK_EQ(mprotect(pages + PAGE, PAGE, PROT_READ), 0);
	CHECK_EQ(io(NVME_READ, 16, DATA, DATA + PAGE), NVME_TRANSFER_ERROR);
	CHECK_EQ(io(NVME_WRITE, 16, DATA, DATA + PAGE), 0);
	CHECK_EQ(client_unmap(container, DATA, 3 * PAGE, 0), 3 * PAGE);
	CHECK_EQ(io(NVME_READ, 8, DATA, 0), NVME_TRANSFER_ERROR);
	CHECK_EQ(REG(nvme.regs, uint32_t, NVME_CSTS), 1);
}

/* Four bytes of a block to a register of another function, the rest to the bit bucket. */
static void test_peer(int container)
{
	struct {
		uint64_t addr;
		uint32_t len, type;
	} list[3] = {{0, 4, 1u << 28}, {BAR + EDU_LIVE, 4, 0}, {0, 504, 1u << 28}};
	struct nvme_command cmd = {.cdw0 = NVME_READ | 1 << 14, .nsid = 1, .cdw = {8}};
	struct client edu;
	volatile uint8_t *regs;
	unsigned ms;

	client_find(&edu, EDU, 0);
	edu.group = open(edu.group_path, O_RDWR | O_CLOEXEC);
	CHECK_EQ(call(edu.group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	client_open_device(&edu);
	client_command(edu.device, COMMAND_MEMORY, 0);
	regs = client_bar(edu.device);
	CHECK_EQ(client_map(container, BAR, (void *)regs, 1 << 20, RW), 0);
	memcpy(nvme.queues + 4 * PAGE, list, sizeof(list));
	cmd.prp[0] = QUEUES + 4 * PAGE;
	cmd.prp[1] = sizeof(list) | UINT64_C(3) << 60;
	CHECK_EQ(nvme_run(&nvme, 1, cmd), 0);
	nvme_consumed(&nvme, 1);
	/* Posted: it arrives a little later. The block has zeros there. */
	for (ms = 0; REG(regs, uint32_t, EDU_LIVE) != 0xffffffff && ms < 10000; ms++)
		usleep(1000);
	CHECK_EQ(REG(regs, uint32_t, EDU_LIVE), 0xffffffff);
	CHECK_EQ(client_unmap(container, BAR, 1 << 20, 0), 1 << 20);
	client_close(&edu);
}

static void test_intx(int device)
{
	struct nvme_command flush = {.nsid = 1};
	int fd = client_eventfd();

	CHECK_EQ(client_irqs(device, TRIGGER, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &fd), 0);
	CHECK_EQ(nvme_run(&nvme, 1, flush), 0);
	CHECK_EQ(client_wait_event(fd), 1);
	nvme_consumed(&nvme, 1);
	CHECK_EQ(client_irqs(device, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
			     VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL),
		 0);
	CHECK_EQ(nvme_run(&nvme, 1, flush), 0);
	CHECK(client_wait_event(fd) >= 1);
	nvme_consumed(&nvme, 1);
	close(fd);
}

int main(void)
{
	const uint64_t iovas[] = {QUEUES, QUEUES + PAGE, QUEUES + 2 * PAGE, QUEUES + 3 * PAGE};
	struct client c;

	client_find(&c, NVME, 0);
	client_open(&c, VFIO_TYPE1v2_IOMMU);
	client_open_device(&c);
	client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	nvme.regs = client_bar(c.device);
	nvme.doorbells = nvme.regs + NVME_DOORBELLS;
	nvme.queues = client_pages(5);
	CHECK_EQ(client_map(c.container, QUEUES, nvme.queues, 5 * PAGE, RW), 0);
	nvme_start(&nvme, iovas, 0);
	test_gone(c.container);
	test_peer(c.container);
	test_intx(c.device);
	client_close(&c);
	return client_done();
}
