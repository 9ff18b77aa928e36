/* SPDX-License-Identifier: MIT */
/*
 * nvme-memory - an NVMe controller whose driver takes memory away under it: data goes by the kernel
 * straight into the program's pages, so pages that are unmapped, or no longer writable, have to end
 * the command and nothing else. A mapped BAR as a target. An interrupt by INTx.
 */
#include <fcntl.h>

#include "client.h"

#define NVME 0x1234, 0x4e56

enum { CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30 };
enum { ENTRIES = 16, WRITE = 1, READ = 2, TRANSFER_ERROR = 4 };
enum { EDU_LIVE = 4 };
#define QUEUES	UINT64_C(0x100000)
#define DATA	UINT64_C(0x200000)
#define BAR	UINT64_C(0x300000)
#define CC_RUN	(6 << 16 | 4 << 20 | 1)
#define TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)

struct command {
	uint32_t cdw0, nsid, reserved[4];
	uint64_t prp[2];
	uint32_t cdw[6];
};

struct completion {
	uint32_t result, reserved;
	uint16_t sq_head, sq, command, status;
};

/* Page 2 * q is the submission queue of pair q, the next one its completion queue; then a list. */
static uint8_t *queues;
static volatile uint8_t *bar;
static unsigned tail[2], head[2], phase[2] = {1, 1};

static unsigned run(unsigned q, struct command cmd)
{
	volatile struct completion *c =
		(struct completion *)(queues + (2 * q + 1) * PAGE) + head[q];
	unsigned ms;

	((struct command *)(queues + 2 * q * PAGE))[tail[q]] = cmd;
	tail[q] = (tail[q] + 1) % ENTRIES;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	REG(bar, uint32_t, 0x1000 + 8 * q) = tail[q];
	for (ms = 0; (c->status & 1) != phase[q]; ms++) {
		if (ms == 10000)
			return ~0u;
		usleep(1000);
	}
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (++head[q] == ENTRIES) {
		head[q] = 0;
		phase[q] ^= 1;
	}
	return c->status >> 1 & 0x7ff;
}

static void consumed(unsigned q)
{
	REG(bar, uint32_t, 0x1004 + 8 * q) = head[q];
}

static unsigned io(unsigned opcode, unsigned blocks, uint64_t prp1, uint64_t prp2)
{
	struct command cmd = {.cdw0 = opcode, .nsid = 1, .prp = {prp1, prp2}, .cdw = {8}};
	unsigned status;

	cmd.cdw[2] = blocks - 1;
	status = run(1, cmd);
	consumed(1);
	return status;
}

static void start(void)
{
	struct command cmd = {.cdw0 = 5, .prp = {QUEUES + 3 * PAGE}};

	REG(bar, uint32_t, AQA) = (ENTRIES - 1) << 16 | (ENTRIES - 1);
	REG(bar, uint64_t, ASQ) = QUEUES;
	REG(bar, uint64_t, ACQ) = QUEUES + PAGE;
	REG(bar, uint32_t, CC) = CC_RUN;
	CHECK_EQ(REG(bar, uint32_t, CSTS), 1);
	cmd.cdw[0] = (ENTRIES - 1) << 16 | 1;
	cmd.cdw[1] = 3; /* interrupts, vector 0 */
	CHECK_EQ(run(0, cmd), 0);
	cmd.cdw0 = 1;
	cmd.prp[0] = QUEUES + 2 * PAGE;
	cmd.cdw[1] = 1 << 16 | 1;
	CHECK_EQ(run(0, cmd), 0);
	consumed(0);
}

static void test_gone(int container)
{
	uint8_t *pages = client_pages(3), *again;
	const uint8_t pattern[PAGE] = {1, 2, 3};

	CHECK_EQ(client_map(container, DATA, pages, 3 * PAGE, RW), 0);
	memcpy(pages, pattern, PAGE);
	memcpy(pages + PAGE, pattern, PAGE);
	CHECK_EQ(io(WRITE, 16, DATA, DATA + PAGE), 0);
	memset(pages, 0, 2 * PAGE);
	CHECK_EQ(io(READ, 16, DATA, DATA + PAGE), 0);
	CHECK(!memcmp(pages, pattern, PAGE) && !memcmp(pages + PAGE, pattern, PAGE));

	/* The second page of two goes: what comes before it is transferred. */
	CHECK_EQ(munmap(pages + PAGE, PAGE), 0);
	memset(pages, 0, PAGE);
	CHECK_EQ(io(READ, 16, DATA, DATA + PAGE), TRANSFER_ERROR);
	CHECK(!memcmp(pages, pattern, PAGE));
	CHECK_EQ(io(WRITE, 16, DATA, DATA + PAGE), TRANSFER_ERROR);
	CHECK_EQ(io(READ, 8, DATA + PAGE, 0), TRANSFER_ERROR);
	CHECK_EQ(io(READ, 8, DATA + 2 * PAGE, 0), 0);
	/* Other memory in its place is the device's now. */
	again = mmap(pages + PAGE, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	REQUIRE(again == pages + PAGE);
	CHECK_EQ(io(READ, 16, DATA, DATA + PAGE), 0);
	CHECK(!memcmp(again, pattern, PAGE));
	/* Memory that can be read, but not written. */
	CHECK_EQ(mprotect(pages + PAGE, PAGE, PROT_READ), 0);
	CHECK_EQ(io(READ, 16, DATA, DATA + PAGE), TRANSFER_ERROR);
	CHECK_EQ(io(WRITE, 16, DATA, DATA + PAGE), 0);
	CHECK_EQ(client_unmap(container, DATA, 3 * PAGE, 0), 3 * PAGE);
	CHECK_EQ(io(READ, 8, DATA, 0), TRANSFER_ERROR);
	CHECK_EQ(REG(bar, uint32_t, CSTS), 1);
}

/* Four bytes of a block to a register of another function, the rest to the bit bucket. */
static void test_peer(int container)
{
	struct {
		uint64_t addr;
		uint32_t len, type;
	} list[3] = {{0, 4, 1u << 28}, {BAR + EDU_LIVE, 4, 0}, {0, 504, 1u << 28}};
	struct command cmd = {.cdw0 = READ | 1 << 14, .nsid = 1, .cdw = {8}};
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
	memcpy(queues + 4 * PAGE, list, sizeof(list));
	cmd.prp[0] = QUEUES + 4 * PAGE;
	cmd.prp[1] = sizeof(list) | UINT64_C(3) << 60;
	CHECK_EQ(run(1, cmd), 0);
	consumed(1);
	/* Posted: it arrives a little later. The block has zeros there. */
	for (ms = 0; REG(regs, uint32_t, EDU_LIVE) != 0xffffffff && ms < 10000; ms++)
		usleep(1000);
	CHECK_EQ(REG(regs, uint32_t, EDU_LIVE), 0xffffffff);
	CHECK_EQ(client_unmap(container, BAR, 1 << 20, 0), 1 << 20);
	client_close(&edu);
}

static void test_intx(int device)
{
	struct command flush = {.nsid = 1};
	int fd = client_eventfd();

	CHECK_EQ(client_irqs(device, TRIGGER, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &fd), 0);
	CHECK_EQ(run(1, flush), 0);
	CHECK_EQ(client_wait_event(fd), 1);
	consumed(1);
	CHECK_EQ(client_irqs(device, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
			     VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL),
		 0);
	CHECK_EQ(run(1, flush), 0);
	CHECK(client_wait_event(fd) >= 1);
	consumed(1);
	close(fd);
}

int main(void)
{
	struct client c;

	client_find(&c, NVME, 0);
	client_open(&c, VFIO_TYPE1v2_IOMMU);
	client_open_device(&c);
	client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	bar = client_bar(c.device);
	queues = client_pages(5);
	CHECK_EQ(client_map(c.container, QUEUES, queues, 5 * PAGE, RW), 0);
	start();
	test_gone(c.container);
	test_peer(c.container);
	test_intx(c.device);
	client_close(&c);
	return client_done();
}
