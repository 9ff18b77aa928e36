/* SPDX-License-Identifier: MIT */
/*
 * What the test programs share that run under "uiommu run": plain libc and <linux/vfio.h>.
 */
#ifndef TEST_RUN_PROGRAM_H
#define TEST_RUN_PROGRAM_H

#include <errno.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fail with the line, the condition and errno. */
#define CHECK(condition)                                                                   \
	do {                                                                               \
		if (!(condition)) {                                                        \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, \
				strerror(errno));                                          \
			exit(1);                                                           \
		}                                                                          \
	} while (0)

#define EDU  "0000:00:01.0"
#define IOAT "0000:00:02.0"

/* Offsets of the edu device's registers. */
#define EDU_LIVENESS 0x04
#define EDU_DMA_FROM 0x80
#define EDU_DMA_TO   0x88
#define EDU_DMA_SIZE 0x90
#define EDU_DMA_CMD  0x98
#define EDU_BUFFER   0x40000

#define IOAT_CHAINADDR 0x90
#define IOAT_BAR_SIZE  0x4000
#define EDU_BAR_SIZE   0x100000

struct session {
	int container, group, device;
};

/* Number of the group of the function at @name. */
unsigned group_of(const char *name);
/* Open /dev/vfio/GROUP for @name. */
int open_group(const char *name);
/* Container, group, type 1 v2 IOMMU, device; memory and bus master enabled. */
struct session open_session(const char *name);
void close_session(struct session *s);
/* Map BAR 0. */
volatile void *map_bar(int device, size_t size);

int map_dma(int container, void *at, uint64_t iova, uint64_t size);

#endif
