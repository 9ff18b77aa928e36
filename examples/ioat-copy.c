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
#include "ioat.h"
#include "vfio.h"

enum { COPIES = 16 };

/* What the engine reaches, laid out as it lies in memory and behind the IOVA. */
struct shared {
	struct ioat_descriptor ring[COPIES];
	_Alignas(64) volatile uint64_t completion;
	_Alignas(4096) uint8_t src[COPIES][PAGE];
	uint8_t dst[COPIES][PAGE];
};

/* Page i goes to page COPIES - 1 - i. Descriptors are a chain; the last one reports. */
static void fill(struct shared *m, uint64_t iova)
{
	for (unsigned i = 0; i < COPIES; i++) {
		struct ioat_descriptor *d = &m->ring[i];

		d->size = PAGE;
		d->src = iova + offsetof(struct shared, src) + i * PAGE;
		d->dst = iova + offsetof(struct shared, dst) + (COPIES - 1 - i) * PAGE;
		d->next = iova + (i + 1) % COPIES * sizeof(*d);
		for (unsigned b = 0; b < PAGE; b++)
			m->src[i][b] = b + i * 31;
	}
	m->ring[COPIES - 1].control = IOAT_INTERRUPT | IOAT_COMPLETION;
}

int main(int argc, char **argv)
{
	int container, device, irq;
	uint64_t iova;
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

	m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		err(1, "mmap");
	iova = vfio_map(container, m, sizeof(*m), UINT64_MAX);
	fill(m, iova);

	ioat_start(bar, iova, iova + offsetof(struct shared, completion), COPIES);
	vfio_irq_wait(irq);
	ioat_check(bar, bdf, m->completion, iova + (COPIES - 1) * sizeof(struct ioat_descriptor));
	for (unsigned i = 0; i < COPIES; i++)
		if (memcmp(m->src[i], m->dst[COPIES - 1 - i], PAGE) != 0)
			errx(1, "%s: page %u was not copied", bdf, i);
	printf("%s: %d pages copied by a chain of descriptors at IOVA %#llx: the same\n", bdf,
	       COPIES, (unsigned long long)iova);
	return 0;
}
