/* SPDX-License-Identifier: MIT */
/*
 * QEMU's educational device (docs/specs/edu.rst there): conventional PCI, one MSI or INTx, a
 * liveness register, a factorial, and DMA between memory and a buffer of 4096 bytes. By option, and
 * unlike QEMU's, it is PCI Express and has PASIDs: transfers carry what is in a register.
 *
 * Registers below 0x80 take accesses of 4 bytes, those above 4 or 8; others are ignored. BAR memory
 * reads as all ones where there is no readable register, as there, the DMA buffer included: it has
 * an address for DMA alone. Transfers and factorials end on the worker; until then the registers
 * that started them keep their values. What a transfer needs it has read before it waits for a page
 * that it asked for; the others can be used meanwhile.
 *
 * Nothing here can fail but the parsing of an option: a transfer that faults, or that would leave
 * the buffer, ends like any other and has moved less, or nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/models/models.h"

#define BAR_SIZE (UINT64_C(1) << 20)

enum {
	REG_ID = 0x00,
	REG_LIVENESS = 0x04,
	REG_FACTORIAL = 0x08,
	REG_STATUS = 0x20,
	REG_IRQ_STATUS = 0x24,
	REG_IRQ_RAISE = 0x60,
	REG_IRQ_ACK = 0x64,
	REG_DMA_SRC = 0x80,
	REG_DMA_DST = 0x88,
	REG_DMA_COUNT = 0x90,
	REG_DMA_CMD = 0x98,
	REG_PASID = 0xa0, /* not QEMU's */
};

#define ID 0x010000edu

#define STATUS_COMPUTING 0x01u
#define STATUS_IRQ	 0x80u

#define IRQ_FACTORIAL 0x001u
#define IRQ_DMA	      0x100u

#define DMA_RUN	   0x1u
#define DMA_TO_RAM 0x2u
#define DMA_IRQ	   0x4u

#define BUFFER_ADDRESS 0x40000u
#define BUFFER_SIZE    4096u

struct edu {
	uint64_t dma_mask;
	unsigned pasid_bits; /* 0: no such register */
	uint8_t buffer[BUFFER_SIZE];
};

static uint64_t reg_get(struct uiommu_function *fn, unsigned offset)
{
	return uiommu_function_reg(fn, 0, offset, offset < REG_DMA_SRC ? 4 : 8);
}

static void reg_set(struct uiommu_function *fn, unsigned offset, uint64_t value)
{
	uiommu_function_set_reg(fn, 0, offset, offset < REG_DMA_SRC ? 4 : 8, value);
}

static void irq_raise(struct uiommu_function *fn, uint32_t bits)
{
	uint64_t status = reg_get(fn, REG_IRQ_STATUS) | bits;

	reg_set(fn, REG_IRQ_STATUS, status);
	if (status)
		uiommu_function_raise(fn, 0);
}

static void irq_acknowledge(struct uiommu_function *fn, uint32_t bits)
{
	uint64_t status = reg_get(fn, REG_IRQ_STATUS) & ~(uint64_t)bits;

	reg_set(fn, REG_IRQ_STATUS, status);
	if (!status)
		uiommu_function_lower(fn);
}

/* Modulo 2^32. From 34! on there are at least 32 factors of two in it. */
static uint32_t factorial(uint32_t n)
{
	uint32_t result = 1;

	if (n >= 34)
		return 0;
	while (n)
		result *= n--;
	return result;
}

static void finish_factorial(struct uiommu_function *fn)
{
	uint64_t status = reg_get(fn, REG_STATUS) & ~(uint64_t)STATUS_COMPUTING;

	reg_set(fn, REG_FACTORIAL, factorial((uint32_t)reg_get(fn, REG_FACTORIAL)));
	reg_set(fn, REG_STATUS, status);
	if (status & STATUS_IRQ)
		irq_raise(fn, IRQ_FACTORIAL);
}

/* Where in the buffer [address, address + count) lies, or NULL if any of it is outside. */
static uint8_t *buffer_at(struct edu *edu, uint64_t address, uint64_t count)
{
	uint64_t offset = address - BUFFER_ADDRESS;

	if (address < BUFFER_ADDRESS || offset > BUFFER_SIZE || count > BUFFER_SIZE - offset)
		return NULL;
	return edu->buffer + offset;
}

static void finish_dma(struct uiommu_function *fn)
{
	struct edu *edu = uiommu_function_state(fn);
	uint64_t src = reg_get(fn, REG_DMA_SRC), dst = reg_get(fn, REG_DMA_DST);
	uint64_t count = reg_get(fn, REG_DMA_COUNT), cmd = reg_get(fn, REG_DMA_CMD);
	uint32_t pasid = edu->pasid_bits ? (uint32_t)reg_get(fn, REG_PASID) : UIOMMU_NO_PASID;
	uint8_t *at = buffer_at(edu, cmd & DMA_TO_RAM ? src : dst, count);

	/* A fault is the IOMMU's to report; the device has no register for it. */
	if (at && cmd & DMA_TO_RAM)
		uiommu_function_dma_write_pasid(fn, pasid, dst & edu->dma_mask, at, count);
	else if (at)
		uiommu_function_dma_read_pasid(fn, pasid, src & edu->dma_mask, at, count);
	reg_set(fn, REG_DMA_CMD, cmd & ~(uint64_t)DMA_RUN);
	if (cmd & DMA_IRQ)
		irq_raise(fn, IRQ_DMA);
}

static bool edu_work(struct uiommu_function *fn)
{
	if (reg_get(fn, REG_STATUS) & STATUS_COMPUTING)
		finish_factorial(fn);
	else if (reg_get(fn, REG_DMA_CMD) & DMA_RUN)
		finish_dma(fn);
	return (reg_get(fn, REG_STATUS) & STATUS_COMPUTING) || (reg_get(fn, REG_DMA_CMD) & DMA_RUN);
}

static void dma_register_write(struct uiommu_function *fn, unsigned offset, uint64_t value)
{
	const struct edu *edu = uiommu_function_state(fn);

	if (reg_get(fn, REG_DMA_CMD) & DMA_RUN)
		return;
	/* As many bits as may go with a transfer: none where the IOMMU has no PASIDs. */
	if (offset == REG_PASID) {
		if (edu->pasid_bits)
			reg_set(fn, offset,
				value & ((1u << uiommu_function_info(fn)->pasid_bits) - 1));
		return;
	}
	if (offset != REG_DMA_CMD) {
		reg_set(fn, offset, value);
	} else if (value & DMA_RUN) {
		reg_set(fn, offset, value);
		uiommu_function_kick(fn);
	}
}

static void edu_bar_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			  uint64_t value)
{
	uint64_t status = reg_get(fn, REG_STATUS);

	if (len != 4 && !(len == 8 && offset >= REG_DMA_SRC))
		return;
	switch (offset) {
	case REG_LIVENESS:
		reg_set(fn, REG_LIVENESS, ~value);
		break;
	case REG_FACTORIAL:
		if (status & STATUS_COMPUTING)
			break;
		reg_set(fn, REG_FACTORIAL, value);
		reg_set(fn, REG_STATUS, status | STATUS_COMPUTING);
		uiommu_function_kick(fn);
		break;
	case REG_STATUS:
		reg_set(fn, REG_STATUS, (status & ~(uint64_t)STATUS_IRQ) | (value & STATUS_IRQ));
		break;
	case REG_IRQ_RAISE:
		irq_raise(fn, (uint32_t)value);
		break;
	case REG_IRQ_ACK:
		irq_acknowledge(fn, (uint32_t)value);
		break;
	case REG_DMA_SRC:
	case REG_DMA_DST:
	case REG_DMA_COUNT:
	case REG_DMA_CMD:
	case REG_PASID:
		dma_register_write(fn, (unsigned)offset, value);
		break;
	}
}

static void edu_reset(struct uiommu_function *fn)
{
	struct edu *edu = uiommu_function_state(fn);

	memset(edu->buffer, 0, sizeof(edu->buffer));
	reg_set(fn, REG_ID, ID);
	reg_set(fn, REG_LIVENESS, 0);
	reg_set(fn, REG_FACTORIAL, 0);
	reg_set(fn, REG_STATUS, 0);
	reg_set(fn, REG_IRQ_STATUS, 0);
	reg_set(fn, REG_DMA_SRC, 0);
	reg_set(fn, REG_DMA_DST, 0);
	reg_set(fn, REG_DMA_COUNT, 0);
	reg_set(fn, REG_DMA_CMD, 0);
	if (edu->pasid_bits)
		reg_set(fn, REG_PASID, 0);
}

static int edu_option(struct uiommu_function *fn, const char *key, const char *value, char *why,
		      size_t why_len)
{
	struct edu *edu = uiommu_function_state(fn);
	bool pasid = !strcmp(key, "pasid");
	uint64_t number;
	char *end;

	errno = 0;
	number = strtoull(value, &end, 0);
	if (*value < '0' || *value > '9' || *end || errno || !number || (pasid && number > 20)) {
		snprintf(why, why_len,
			 pasid ? "1 to 20 bits are wanted" : "a mask like 0xfffffff is wanted");
		return -EINVAL;
	}
	if (pasid)
		edu->pasid_bits = (unsigned)number;
	else
		edu->dma_mask = number;
	return 0;
}

static int edu_init(struct uiommu_function *fn)
{
	struct edu *edu = uiommu_function_state(fn);

	if (!edu->dma_mask)
		edu->dma_mask = (1u << 28) - 1;
	memset(uiommu_function_bar(fn, 0), 0xff, BAR_SIZE);
	return edu->pasid_bits ? uiommu_function_add_pasids(fn, edu->pasid_bits) : 0;
}

static const struct uiommu_model_option edu_options[] = {
	{"dma_mask", "bits of an address that reach the bus (default 0xfffffff)"},
	{"pasid", "PCI Express, with PASIDs of so many bits (1 to 20): those of transfers are in a "
		  "register at 0xa0, which QEMU's has not"},
	{NULL, NULL},
};

const struct uiommu_model uiommu_model_edu = {
	.size = sizeof(struct uiommu_model),
	.name = "edu",
	.summary = "QEMU's educational device: factorial, interrupts, DMA of up to 4096 bytes",
	.vendor = 0x1234,
	.device = 0x11e8,
	.subsystem_vendor = 0x1af4,
	.subsystem_device = 0x1100,
	.class_code = 0x00ff00,
	.revision = 0x10,
	.flags = UIOMMU_MODEL_CONVENTIONAL | UIOMMU_MODEL_INTX | UIOMMU_MODEL_LETS_IN,
	.msi_vectors = 1,
	.bars = {{BAR_SIZE, 0}},
	.options = edu_options,
	.state_size = sizeof(struct edu),
	.option = edu_option,
	.init = edu_init,
	.reset = edu_reset,
	.bar_write = edu_bar_write,
	.work = edu_work,
};
