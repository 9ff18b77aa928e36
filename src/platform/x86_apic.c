/* SPDX-License-Identifier: MIT */
/*
 * MSIs of a PC without interrupt remapping: the local APICs' own format.
 *
 * Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3, "Message Signalled
 * Interrupts": address bits 19:12 destination (8 bits), 3 redirection hint, 2 mode; data bits 7:0
 * vector, 10:8 delivery mode. Vectors below 0x20 are the processor's. Anyone may write any vector:
 * that is what makes interrupts unsafe here.
 */
#include "platform/platform.h"

#define FIRST_VECTOR 0x20u
#define VECTORS	     (256u - FIRST_VECTOR)

/* A vector of ours is one of a processor's: 224 for each of 255 destinations. Blocks for plain MSI
 * count up in the low bits of the data, so they must not leave a processor's. */
static uint64_t apic_compose(uint32_t first, unsigned sub, bool consecutive, uint32_t *data)
{
	uint32_t vector = first + sub;

	*data = FIRST_VECTOR + vector % VECTORS;
	return (uint64_t)(vector / VECTORS) << 12;
}

static int64_t apic_decode(uint64_t offset, uint32_t data)
{
	uint32_t destination = (offset >> 12) & 0xff;

	if (offset & 0xff0 || data > 0xff || data < FIRST_VECTOR)
		return -1;
	return destination * VECTORS + (data - FIRST_VECTOR);
}

const struct irq_controller x86_apic = {.compose = apic_compose, .decode = apic_decode};
