/* SPDX-License-Identifier: MIT */
/*
 * ioat.h - an Intel I/OAT DMA engine (8086:2021) by its registers, for the examples beside it: a
 * chain of descriptors is started, and its end is looked at. The interrupt that comes between is
 * the caller's.
 */
#ifndef EXAMPLES_IOAT_H
#define EXAMPLES_IOAT_H

#include <err.h>
#include <stdint.h>
#include <unistd.h>

/* Registers: of the device, then of its first channel (Intel QuickData, version 3.2 and later). */
enum { IOAT_INTRCTRL = 0x03, IOAT_CBVER = 0x08 };
enum { IOAT_CHANCTRL = 0x80, IOAT_CHANCMD = 0x84, IOAT_DMACOUNT = 0x86, IOAT_CHANSTS = 0x88 };
enum { IOAT_CHAINADDR = 0x90, IOAT_CHANCMP = 0x98, IOAT_CHANERR = 0xa8 };
enum { IOAT_RESET = 0x20, IOAT_RUN = 0x1d, IOAT_INTR_MASTER = 1, IOAT_INTR_MSIX = 8 };
enum { IOAT_RESET_TRIES = 1000 };
#define IOAT_STATUS 7ull /* low bits of CHANSTS and of the completion word */
enum { IOAT_HALTED = 3 };

/* A copy of up to 1 MiB. */
struct ioat_descriptor {
	uint32_t size, control;
	uint64_t src, dst, next;
	uint64_t reserved[4];
};
enum { IOAT_INTERRUPT = 1 << 0, IOAT_COMPLETION = 1 << 3 }; /* control */

#define IOAT_REG(bar, type, offset) (*(volatile type *)((bar) + (offset)))

/* Start @count descriptors, of which the first lies at IOVA @chain. The engine writes the last
 * one's IOVA and its own state to the eight bytes at IOVA @completion. */
static inline void ioat_start(volatile uint8_t *bar, uint64_t chain, uint64_t completion,
			      uint16_t count)
{
	if (IOAT_REG(bar, uint8_t, IOAT_CBVER) < 0x32)
		errx(1, "the engine's version %#x is too old for this program",
		     IOAT_REG(bar, uint8_t, IOAT_CBVER));
	IOAT_REG(bar, uint8_t, IOAT_CHANCMD) = IOAT_RESET;
	for (int i = 0; IOAT_REG(bar, uint8_t, IOAT_CHANCMD) & IOAT_RESET; i++) {
		if (i == IOAT_RESET_TRIES)
			errx(1, "the channel does not come out of its reset");
		usleep(1000);
	}
	/* Write 1 to clear. */
	IOAT_REG(bar, uint32_t, IOAT_CHANERR) = IOAT_REG(bar, uint32_t, IOAT_CHANERR);
	IOAT_REG(bar, uint8_t, IOAT_INTRCTRL) = IOAT_INTR_MASTER | IOAT_INTR_MSIX;
	IOAT_REG(bar, uint16_t, IOAT_CHANCTRL) = IOAT_RUN;
	IOAT_REG(bar, uint64_t, IOAT_CHANCMP) = completion;
	IOAT_REG(bar, uint64_t, IOAT_CHAINADDR) = chain;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* descriptors before the doorbell */
	IOAT_REG(bar, uint16_t, IOAT_DMACOUNT) = count;
}

/* What the engine wrote says that it came to the end of the descriptor at IOVA @last. */
static inline void ioat_check(volatile uint8_t *bar, const char *bdf, uint64_t written,
			      uint64_t last)
{
	if ((written & IOAT_STATUS) == IOAT_HALTED || (written & ~63ull) != last)
		errx(1, "%s: completion %#llx, status %#llx, error %#x", bdf,
		     (unsigned long long)written,
		     (unsigned long long)IOAT_REG(bar, uint64_t, IOAT_CHANSTS),
		     IOAT_REG(bar, uint32_t, IOAT_CHANERR));
}

#endif
