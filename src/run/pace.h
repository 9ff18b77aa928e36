/* SPDX-License-Identifier: MIT */
/*
 * DMA does not overtake the driver: a device starts on what a store has told it to do once the
 * store has returned.
 */
#ifndef RUN_PACE_H
#define RUN_PACE_H

/* The calling thread performs a trapped store to a register, and is about to return from it. */
void pace_store_begins(void);
void pace_store_ends(void);

/* Before a device touches memory, on its worker: wait until the thread that has stored last has
 * gone on for a moment, or sleeps. Cheap if nothing was stored since this worker's last access. */
void pace_dma(void);

#endif
