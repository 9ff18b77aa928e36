/* SPDX-License-Identifier: MIT */
/*
 * nvme-io - drive an NVMe controller (class 010802) through VFIO, as a user-space driver does:
 * reset and enable it, identify it and its first namespace, make a pair of queues, write, read back
 * and compare, first by polling the completion queue, then by an MSI-X interrupt that arrives at an
 * eventfd.
 *
 *   cc nvme-io.c -o nvme-io && uiommu run --device nvme,memory=64M -- ./nvme-io
 *
 * On a machine where a controller is bound to vfio-pci it runs as it is: ./nvme-io [BDF]. It writes
 * to blocks 8 to 71 of the first namespace, and does not put back what was there.
 */
#include "vfio.h"

/* Controller registers, and the doorbells of queue pair q (NVMe 1.4, 3.1). */
enum { CAP = 0x00, VS = 0x08, CC = 0x14, CSTS = 0x1c, AQA = 0x24, ASQ = 0x28, ACQ = 0x30 };
#define SQ_TAIL(q) (0x1000 + 8 * (q))
#define CQ_HEAD(q) (0x1004 + 8 * (q))
/* Entries of 64 and 16 bytes; enabled. */
enum { CC_RUN = 6 << 16 | 4 << 20 | 1, READY = 1, FATAL = 2 };

enum { CREATE_SQ = 0x01, CREATE_CQ = 0x05, IDENTIFY = 0x06 };
enum { FLUSH = 0x00, WRITE = 0x01, READ = 0x02, COMPARE = 0x05 };
enum { STATUS_COMPARE_FAILED = 0x285 };

enum { ENTRIES = 16, CHUNK = 8 * 4096, FIRST_BLOCK = 8, TRIES = 10000 };

struct command {
	uint32_t cdw0, nsid, reserved[4];
	uint64_t prp[2];
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

struct completion {
	uint32_t result, reserved;
	uint16_t sq_head, sq;
	uint16_t command, status; /* bit 0 of status: the phase */
};

/* What the controller reaches, laid out as it lies in memory and behind the IOVA. */
struct shared {
	_Alignas(4096) struct command sq[2][PAGE / sizeof(struct command)];
	_Alignas(4096) struct completion cq[2][PAGE / sizeof(struct completion)];
	_Alignas(4096) uint8_t identify[PAGE];
	uint64_t prp_list[PAGE / 8];
	uint8_t src[CHUNK], dst[CHUNK];
};

/* Queue pair 0 is for administration, pair 1 for I/O. */
struct controller {
	volatile uint8_t *bar;
	struct shared *m;
	uint64_t iova;
	struct {
		unsigned tail, head, phase;
	} pair[2];
	int irq; /* -1: poll */
};

#define REG(c, type, offset) (*(volatile type *)((c)->bar + (offset)))
#define IOVA_OF(c, member)   ((c)->iova + offsetof(struct shared, member))

/* ---- commands ----------------------------------------------------------------------------------
 */

static void ring(struct controller *c, unsigned offset, unsigned value)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* memory before the doorbell */
	REG(c, uint32_t, offset) = value;
}

static void submit(struct controller *c, unsigned q, const struct command *cmd)
{
	c->m->sq[q][c->pair[q].tail] = *cmd;
	c->pair[q].tail = (c->pair[q].tail + 1) % ENTRIES;
	ring(c, SQ_TAIL(q), c->pair[q].tail);
}

/* Wait for the next completion, and give its place back. Returns the status: type and code. */
static unsigned complete(struct controller *c, unsigned q)
{
	volatile struct completion *cqe = &c->m->cq[q][c->pair[q].head];
	unsigned status, tries = 0;

	if (c->irq >= 0)
		vfio_irq_wait(c->irq);
	while ((cqe->status & 1) != c->pair[q].phase) {
		if (REG(c, uint32_t, CSTS) & FATAL)
			errx(1, "the controller reports a fatal error");
		if (++tries == TRIES)
			errx(1, "no completion within 10 s");
		if (tries > 1000)
			usleep(1000);
	}
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	status = cqe->status >> 1 & 0x7ff;
	if (++c->pair[q].head == ENTRIES) {
		c->pair[q].head = 0;
		c->pair[q].phase ^= 1;
	}
	ring(c, CQ_HEAD(q), c->pair[q].head);
	return status;
}

static unsigned run(struct controller *c, unsigned q, const struct command *cmd)
{
	submit(c, q, cmd);
	return complete(c, q);
}

static void must(unsigned status, const char *what)
{
	if (status)
		errx(1, "%s: status type %u, code %#x", what, status >> 8, status & 0xff);
}

/* ---- bringing it up ----------------------------------------------------------------------------
 */

static void wait_ready(struct controller *c, unsigned ready)
{
	/* CAP.TO, in units of 500 ms. */
	unsigned most = (REG(c, uint64_t, CAP) >> 24 & 0xff) * 500;

	for (unsigned ms = 0; (REG(c, uint32_t, CSTS) & READY) != ready; ms++) {
		if (ms > most || REG(c, uint32_t, CSTS) & FATAL)
			errx(1, "the controller does not become %s", ready ? "ready" : "idle");
		usleep(1000);
	}
}

static void enable(struct controller *c)
{
	REG(c, uint32_t, CC) = 0;
	wait_ready(c, 0);
	if (REG(c, uint64_t, CAP) >> 32 & 0xf)
		errx(1, "doorbells further apart than this program knows");
	REG(c, uint32_t, AQA) = (ENTRIES - 1) << 16 | (ENTRIES - 1);
	REG(c, uint64_t, ASQ) = IOVA_OF(c, sq[0]);
	REG(c, uint64_t, ACQ) = IOVA_OF(c, cq[0]);
	REG(c, uint32_t, CC) = CC_RUN;
	wait_ready(c, READY);
}

static void identify(struct controller *c, unsigned what, unsigned nsid)
{
	struct command cmd = {.cdw0 = IDENTIFY, .nsid = nsid, .cdw10 = what};

	cmd.prp[0] = IOVA_OF(c, identify);
	must(run(c, 0, &cmd), "identify");
}

/* Completions of pair 1 interrupt by vector 0, if asked for. */
static void create_pair(struct controller *c, int interrupts)
{
	struct command cmd = {.cdw0 = CREATE_CQ, .cdw10 = (ENTRIES - 1) << 16 | 1};

	cmd.prp[0] = IOVA_OF(c, cq[1]);
	cmd.cdw11 = 1 | (interrupts ? 2 : 0); /* contiguous */
	must(run(c, 0, &cmd), "create completion queue");
	cmd.cdw0 = CREATE_SQ;
	cmd.prp[0] = IOVA_OF(c, sq[1]);
	cmd.cdw11 = 1 << 16 | 1; /* completes in queue 1 */
	must(run(c, 0, &cmd), "create submission queue");
}

static uint64_t little(const uint8_t *at, unsigned len)
{
	uint64_t value = 0;

	while (len--)
		value = value << 8 | at[len];
	return value;
}

/* Say what it is; returns the bytes of a block. */
static unsigned introduce(struct controller *c, const char *bdf)
{
	uint64_t blocks;
	unsigned size;

	identify(c, 1, 0);
	printf("%s: NVMe %u.%u, \"%.40s\", serial %.20s\n", bdf, REG(c, uint32_t, VS) >> 16,
	       REG(c, uint32_t, VS) >> 8 & 0xff, (char *)c->m->identify + 24,
	       (char *)c->m->identify + 4);
	identify(c, 0, 1);
	blocks = little(c->m->identify, 8);
	size = 1u << c->m->identify[128 + 4 * (c->m->identify[26] & 0xf) + 2];
	printf("%s: namespace 1 has %llu blocks of %u bytes\n", bdf, (unsigned long long)blocks,
	       size);
	if (size > PAGE || blocks < FIRST_BLOCK + CHUNK / size)
		errx(1, "that is none for this program");
	return size;
}

/* ---- using it ----------------------------------------------------------------------------------
 */

/* One command over CHUNK bytes of memory: the first page, and a list of the others. */
static unsigned transfer(struct controller *c, unsigned opcode, uint64_t memory, unsigned size)
{
	struct command cmd = {.cdw0 = opcode, .nsid = 1, .cdw10 = FIRST_BLOCK};

	cmd.prp[0] = memory;
	for (unsigned i = 1; i < CHUNK / PAGE; i++)
		c->m->prp_list[i - 1] = memory + i * PAGE;
	cmd.prp[1] = IOVA_OF(c, prp_list);
	cmd.cdw12 = CHUNK / size - 1;
	return run(c, 1, &cmd);
}

static void write_read_compare(struct controller *c, unsigned size, unsigned seed)
{
	struct command flush = {.cdw0 = FLUSH, .nsid = 1};

	for (unsigned i = 0; i < CHUNK; i++)
		c->m->src[i] = i * 7 + i / PAGE + seed;
	memset(c->m->dst, 0, CHUNK);
	must(transfer(c, WRITE, IOVA_OF(c, src), size), "write");
	must(run(c, 1, &flush), "flush");
	must(transfer(c, READ, IOVA_OF(c, dst), size), "read");
	if (memcmp(c->m->src, c->m->dst, CHUNK) != 0)
		errx(1, "what was read is not what was written");
	must(transfer(c, COMPARE, IOVA_OF(c, src), size), "compare");
	c->m->src[CHUNK - 1] ^= 1;
	if (transfer(c, COMPARE, IOVA_OF(c, src), size) != STATUS_COMPARE_FAILED)
		errx(1, "compare finds no difference where there is one");
}

static void find(char bdf[64])
{
	DIR *dir = opendir("/sys/bus/pci/devices");
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || sysfs_number(e->d_name, "class") != 0x010802)
			continue;
		snprintf(bdf, 64, "%.63s", e->d_name);
		closedir(dir);
		return;
	}
	errx(1, "no NVMe controller here; 'uiommu run -- PROGRAM' gives it one");
}

int main(int argc, char **argv)
{
	struct controller c = {.irq = -1, .pair = {{.phase = 1}, {.phase = 1}}};
	int container, device, irq;
	unsigned size;
	char bdf[64];

	if (argc > 1)
		snprintf(bdf, sizeof(bdf), "%s", argv[1]);
	else
		find(bdf);
	vfio_open(bdf, &container, &device);
	c.bar = vfio_enable(device);
	c.m = mmap(NULL, sizeof(*c.m), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c.m == MAP_FAILED)
		err(1, "mmap");
	c.iova = vfio_map(container, c.m, sizeof(*c.m), UINT64_MAX);

	enable(&c);
	size = introduce(&c, bdf);
	create_pair(&c, 0);
	write_read_compare(&c, size, 1);
	printf("%s: %u KiB written, read back and compared by polling\n", bdf, CHUNK / 1024);

	/* The same once more: reset, queues that interrupt, and sleep until they do. */
	memset(c.m->cq, 0, sizeof(c.m->cq));
	memset(c.pair, 0, sizeof(c.pair));
	c.pair[0].phase = c.pair[1].phase = 1;
	enable(&c);
	irq = vfio_irq(device, VFIO_PCI_MSIX_IRQ_INDEX);
	c.irq = irq;
	create_pair(&c, 1);
	write_read_compare(&c, size, 2);
	printf("%s: and again by interrupts\n", bdf);
	REG(&c, uint32_t, CC) = CC_RUN | 1 << 14; /* a normal shutdown */
	return 0;
}
