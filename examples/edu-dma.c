/* SPDX-License-Identifier: MIT */
/*
 * edu-dma - drive QEMU's educational PCI device (1234:11e8) through VFIO: memory goes into the
 * device by DMA and comes back to another place, each copy's end is announced by an MSI that
 * arrives at an eventfd, and the two places are compared.
 *
 *   cc edu-dma.c -o edu-dma && uiommu run -- ./edu-dma
 *
 * On a machine where the device is bound to vfio-pci it runs as it is: ./edu-dma [0000:00:04.0]
 */
#include "vfio.h"

/* Registers and commands, from QEMU's docs/specs/edu.rst. */
enum { IRQ_STATUS = 0x24, IRQ_ACK = 0x64, IRQ_DMA = 0x100 };
enum { DMA_SRC = 0x80, DMA_DST = 0x88, DMA_COUNT = 0x90, DMA_CMD = 0x98 };
enum { CMD_START = 1, CMD_FROM_DEVICE = 2, CMD_RAISE_IRQ = 4 };
enum { BUFFER = 0x40000 }; /* where the device's own 4 KiB are */
enum { BYTES = 2048 };	   /* of them, as QEMU 7 stops at a copy that fills the buffer to its end */
enum { REACH = (1 << 28) - 1 }; /* its DMA addresses have 28 bits */

static uint32_t reg_read(volatile uint8_t *bar, unsigned offset)
{
	return *(volatile uint32_t *)(bar + offset);
}

static void reg_write(volatile uint8_t *bar, unsigned offset, uint32_t value)
{
	*(volatile uint32_t *)(bar + offset) = value;
}

static void reg_write64(volatile uint8_t *bar, unsigned offset, uint64_t value)
{
	*(volatile uint64_t *)(bar + offset) = value;
}

/* One copy: start it, sleep until its interrupt, acknowledge that. */
static void copy(volatile uint8_t *bar, int irq, uint64_t src, uint64_t dst, unsigned direction)
{
	reg_write64(bar, DMA_SRC, src);
	reg_write64(bar, DMA_DST, dst);
	reg_write64(bar, DMA_COUNT, BYTES);
	reg_write64(bar, DMA_CMD, CMD_START | CMD_RAISE_IRQ | direction);
	vfio_irq_wait(irq);
	if (reg_read(bar, IRQ_STATUS) != IRQ_DMA)
		errx(1, "interrupt status %#x, expected %#x", reg_read(bar, IRQ_STATUS), IRQ_DMA);
	reg_write(bar, IRQ_ACK, IRQ_DMA);
}

int main(int argc, char **argv)
{
	int container, device, irq;
	volatile uint8_t *bar;
	char bdf[64];
	uint8_t *memory;
	uint64_t iova;

	if (argc > 1)
		snprintf(bdf, sizeof(bdf), "%s", argv[1]);
	else
		vfio_find(0x1234, 0x11e8, bdf);
	vfio_open(bdf, &container, &device);
	bar = vfio_enable(device);
	irq = vfio_irq(device, VFIO_PCI_MSI_IRQ_INDEX);

	reg_write(bar, 4, 0x12345678);
	if (reg_read(bar, 4) != ~0x12345678u)
		errx(1, "%s does not answer: its liveness register reads %#x", bdf,
		     reg_read(bar, 4));

	memory = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	for (unsigned i = 0; i < BYTES; i++)
		memory[i] = i * 7 + i / 256;
	iova = vfio_map(container, memory, 2 * PAGE, REACH);

	copy(bar, irq, iova, BUFFER, 0);
	copy(bar, irq, BUFFER, iova + PAGE, CMD_FROM_DEVICE);
	if (memcmp(memory, memory + PAGE, BYTES) != 0)
		errx(1, "%s: what came back is not what was sent", bdf);
	printf("%s: %d bytes from IOVA %#llx into the device and back: the same\n", bdf, BYTES,
	       (unsigned long long)iova);
	return 0;
}
