/* SPDX-License-Identifier: MIT */
/*
 * ioat-copy - copy memory with an Intel I/OAT DMA engine (8086:2021) through VFIO: a chain of copy
 * descriptors, one a page, in an order that shuffles the pages; the end shows in the completion
 * word that the engine writes back, and in an MSI-X interrupt that arrives at an eventfd.
 *
 *   cc ioat-copy.c -o ioat-copy && uiommu run -- ./ioat-copy
 *
 * On a machine where such an engine is bound to vfio-pci it runs as it is: ./ioat-copy [BDF]
 */
#include "vfio.h"

/* Registers: of the device, then of its first channel (Intel QuickData, version 3.2 and later). */
enum { INTRCTRL = 0x03, CBVER = 0x08 };
enum { CHANCTRL = 0x80, CHANCMD = 0x84, DMACOUNT = 0x86, CHANSTS = 0x88, CHAINADDR = 0x90 };
enum { CHANCMP = 0x98, CHANERR = 0xa8 };
enum { CMD_RESET = 0x20, CTRL_RUN = 0x1d, INTR_MASTER = 1, INTR_MSIX = 8 };
enum { DESC_INTERRUPT = 1 << 0, DESC_COMPLETION = 1 << 3 };
#define STATUS 7ull /* low bits of CHANSTS and of the completion word */
enum { STATUS_HALTED = 3 };

struct descriptor {
	uint32_t size, control;
	uint64_t src, dst, next;
	uint64_t reserved[4];
};

enum { COPIES = 16, RESET_TRIES = 1000 };

/* What the engine reaches, laid out as it lies in memory and behind the IOVA. */
struct shared {
	struct descriptor ring[COPIES];
	_Alignas(64) volatile uint64_t completion;
	_Alignas(4096) uint8_t src[COPIES][PAGE];
	uint8_t dst[COPIES][PAGE];
};

#define REG(type, offset) (*(volatile type *)(bar + (offset)))

static void reset(volatile uint8_t *bar)
{
	REG(uint8_t, CHANCMD) = CMD_RESET;
	for (int i = 0; REG(uint8_t, CHANCMD) & CMD_RESET; i++) {
		if (i == RESET_TRIES)
			errx(1, "the channel does not come out of its reset");
		usleep(1000);
	}
	REG(uint32_t, CHANERR) = REG(uint32_t, CHANERR); /* write 1 to clear */
}

/* Page i goes to page COPIES - 1 - i. Descriptors are a chain; the last one reports. */
static void fill(struct shared *m, uint64_t iova)
{
	for (unsigned i = 0; i < COPIES; i++) {
		struct descriptor *d = &m->ring[i];

		d->size = PAGE;
		d->src = iova + offsetof(struct shared, src) + i * PAGE;
		d->dst = iova + offsetof(struct shared, dst) + (COPIES - 1 - i) * PAGE;
		d->next = iova + (i + 1) % COPIES * sizeof(*d);
		for (unsigned b = 0; b < PAGE; b++)
			m->src[i][b] = b + i * 31;
	}
	m->ring[COPIES - 1].control = DESC_INTERRUPT | DESC_COMPLETION;
}

int main(int argc, char **argv)
{
	int container, device, irq;
	uint64_t iova, last, done;
	volatile uint8_t *bar;
	struct shared *m;
	char bdf[64];

	if (argc > 1)
		snprintf(bdf, sizeof(bdf), "%s", argv[1]);
	else
		vfio_find(0x8086, 0x2021, bdf);
	vfio_open(bdf, &container, &device);
	bar = vfio_enable(device);
	irq = vfio_irq(device, VFIO_PCI_MSIX_IRQ_INDEX);
	if (REG(uint8_t, CBVER) < 0x32)
		errx(1, "%s: version %#x is too old for this program", bdf, REG(uint8_t, CBVER));

	m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		err(1, "mmap");
	iova = vfio_map(container, m, sizeof(*m), UINT64_MAX);
	fill(m, iova);

	reset(bar);
	REG(uint8_t, INTRCTRL) = INTR_MASTER | INTR_MSIX;
	REG(uint16_t, CHANCTRL) = CTRL_RUN;
	REG(uint64_t, CHANCMP) = iova + offsetof(struct shared, completion);
	REG(uint64_t, CHAINADDR) = iova;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* descriptors before the doorbell */
	REG(uint16_t, DMACOUNT) = COPIES;
	vfio_irq_wait(irq);

	last = iova + (COPIES - 1) * sizeof(struct descriptor);
	done = m->completion;
	if ((done & STATUS) == STATUS_HALTED || (done & ~63ull) != last)
		errx(1, "%s: completion %#llx, status %#llx, error %#x", bdf,
		     (unsigned long long)done, (unsigned long long)REG(uint64_t, CHANSTS),
		     REG(uint32_t, CHANERR));
	for (unsigned i = 0; i < COPIES; i++)
		if (memcmp(m->src[i], m->dst[COPIES - 1 - i], PAGE) != 0)
			errx(1, "%s: page %u was not copied", bdf, i);
	printf("%s: %d pages copied by a chain of descriptors at IOVA %#llx: the same\n", bdf,
	       COPIES, (unsigned long long)iova);
	return 0;
}
