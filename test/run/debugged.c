/* SPDX-License-Identifier: MIT */
/* A store to a register, to be stepped over by a debugger (debugger.sh). Not optimised. */
#include "program.h"

static void store(volatile char *bar)
{
	*(volatile uint32_t *)(bar + EDU_LIVENESS) = 0x1234;
	*(volatile uint32_t *)(bar + EDU_LIVENESS) = 0x5678;
}

int main(void)
{
	struct session s = open_session(EDU);
	volatile char *bar = map_bar(s.device, EDU_BAR_SIZE);

	store(bar);
	return *(volatile uint32_t *)(bar + EDU_LIVENESS) != ~0x5678U;
}
