/* SPDX-License-Identifier: MIT */
/*
 * Driving the I/OAT engine of a rig: its registers and descriptors.
 *
 * Memory of the rig: descriptors at RING, data from DATA on, the completion record at STATUS_AT.
 */
#ifndef TEST_DEVICE_IOAT_RIG_H
#define TEST_DEVICE_IOAT_RIG_H

#include <endian.h>

#include "rig.h"

enum {
	CHANCNT = 0x00,
	XFERCAP = 0x01,
	INTRCTRL = 0x03,
	ATTNSTATUS = 0x04,
	CBVER = 0x08,
	DMACAP = 0x10,
	CHANCTRL = 0x80,
	CHANCMD = 0x84,
	DMACOUNT = 0x86,
	CHANSTS = 0x88,
	CHAINADDR = 0x90,
	CHANCMP = 0x98,
	CDAR = 0xa0,
	CHANERR = 0xa8,
	CHANERRMASK = 0xac,
};

enum { ACTIVE, IDLE, SUSPENDED, HALTED, ARMED };

#define CMD_SUSPEND 0x04
#define CMD_RESUME  0x10
#define CMD_RESET   0x20

#define CTL_INT	 0x01u
#define CTL_CMP	 0x08u
#define CTL_NULL 0x20u
#define OP(n)	 ((uint32_t)(n) << 24)

#define RING	  UINT64_C(0)
#define STATUS_AT UINT64_C(0x10000)
#define DATA	  UINT64_C(0x20000)
/* Where nothing is mapped. */
#define NOWHERE	 UINT64_C(0x7000000000)
#define XFER_MAX (1u << 20)

struct desc {
	uint32_t size, ctl;
	uint64_t src, dst, next, unused[4];
};

static inline uint64_t desc_iova(unsigned i)
{
	return RIG_IOVA + RING + 64 * (uint64_t)i;
}

static inline struct desc *desc_at(struct rig *rig, unsigned i)
{
	return (struct desc *)(rig->mem + RING) + i;
}

/* Descriptor @i, linked to the next. Addresses below RIG_SIZE are in the rig's memory. */
static inline void put(struct rig *rig, unsigned i, uint32_t ctl, uint64_t src, uint64_t dst,
		       uint32_t size)
{
	bool fill = ctl >> 24 == 1;

	*desc_at(rig, i) = (struct desc){
		.size = htole32(size),
		.ctl = htole32(ctl),
		.src = htole64(!fill && src < RIG_SIZE ? RIG_IOVA + src : src),
		.dst = htole64(dst < RIG_SIZE ? RIG_IOVA + dst : dst),
		.next = htole64(desc_iova(i + 1)),
	};
}

static inline uint64_t completion(struct rig *rig)
{
	uint64_t value;

	memcpy(&value, rig->mem + STATUS_AT, 8);
	return le64toh(value);
}

/* As DPDK starts a channel. */
static inline void start(struct rig *rig)
{
	reg_set(rig, CHANERR, 4, reg_get(rig, CHANERR, 4));
	reg_set(rig, CHANCMD, 1, CMD_SUSPEND);
	reg_set(rig, CHANCMD, 1, CMD_RESET);
	assert_int_equal(reg_get(rig, CHANCMD, 1), 0);
	assert_int_equal(reg_get(rig, CHANSTS, 8), HALTED);
	reg_set(rig, CHANCTRL, 2, 0x0c);
	reg_set(rig, CHAINADDR, 8, desc_iova(0));
	assert_int_equal(reg_get(rig, CHANSTS, 8), ARMED);
	assert_int_equal(reg_mapped(rig, CHANSTS, 8), ARMED);
	reg_set(rig, CHANCMP, 8, RIG_IOVA + STATUS_AT);
}

static inline void run(struct rig *rig, uint16_t count)
{
	reg_set(rig, DMACOUNT, 2, count);
	uiommu_function_drain(rig->fn);
}

static inline void up(struct rig *rig)
{
	size_t i;

	rig_up(rig, NULL, "ioat");
	for (i = DATA; i < RIG_SIZE; i++)
		rig->mem[i] = (uint8_t)(i ^ i >> 8 ^ i >> 16);
	start(rig);
}

#endif
