/* SPDX-License-Identifier: MIT */
/*
 * client.h - checks and VFIO boilerplate for the test clients: programs that know nothing of uiommu
 * but <linux/vfio.h>, and that are run under `uiommu run`, so that every call passes the preloaded
 * library as a real program's would.
 *
 * A failed check is reported and counted, and the program goes on; client_done() gives the exit
 * status. REQUIRE is for what the rest of a program cannot do without. Checks may be made from any
 * thread.
 */
#ifndef CLIENTS_CLIENT_H
#define CLIENTS_CLIENT_H

#include <errno.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)

/* Newer than the oldest <linux/vfio.h> this is compiled with. */
#define CLIENT_UPDATE_VADDR 10

bool check_true(const char *file, int line, bool ok, const char *what);
bool check_equal(const char *file, int line, const char *what, long long actual,
		 long long expected);
bool check_bytes(const char *file, int line, const char *what, const void *actual,
		 const void *expected, size_t len);

#define CHECK(cond)		     check_true(__FILE__, __LINE__, (cond), #cond)
#define CHECK_MSG(cond, msg)	     check_true(__FILE__, __LINE__, (cond), (msg))
#define CHECK_EQ(actual, expected)   check_equal(__FILE__, __LINE__, #actual, (actual), (expected))
#define CHECK_ROW(name, actual, exp) check_equal(__FILE__, __LINE__, (name), (actual), (exp))
#define REQUIRE(cond)                        \
	do {                                 \
		if (!CHECK(cond))            \
			exit(client_done()); \
	} while (0)

/* Report the counts; returns the exit status. */
int client_done(void);

/* What an ioctl answered: >= 0, or -errno. */
int call(int fd, unsigned long request, const void *arg);
int call_value(int fd, unsigned long request, unsigned long arg);

/* A function of the machine and what was opened of it; -1 where nothing is. */
struct client {
	char bdf[64];
	char group_path[128];
	int container, group, device;
};

/* The @n-th function (from 0, in the order of addresses) with that ID; absent: ends the program. */
void client_find(struct client *c, unsigned vendor, unsigned device, unsigned n);
#define EDU  0x1234, 0x11e8
#define IOAT 0x8086, 0x2021

/* Open container and group, put one in the other, set the IOMMU (0: don't), open the device. */
void client_open(struct client *c, int iommu_type);
void client_open_device(struct client *c);
/* Close whatever is open. */
void client_close(struct client *c);

/* Anonymous zeroed memory, @count pages, with a page behind it that can't be accessed. */
void *client_pages(size_t count);

/* MAP_DMA and UNMAP_DMA in one line each; @flags are the ioctl's. unmap gives the bytes removed. */
int client_map(int container, uint64_t iova, const void *vaddr, uint64_t size, uint32_t flags);
int64_t client_unmap(int container, uint64_t iova, uint64_t size, uint32_t flags);
#define RW (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

/* GET_INFO with its chain in @buf of @len bytes; the capability with that ID, or NULL. */
void *client_info_cap(int container, void *buf, size_t len, unsigned id);
/* Mappings that can still be made, from that chain; -1 if it does not say. */
int64_t client_dma_avail(int container);

/* Region offset and size, from GET_REGION_INFO. */
struct vfio_region_info client_region(int device, unsigned index);
/* Set (clear) bits of the PCI command register. */
void client_command(int device, uint16_t set, uint16_t clear);
enum { COMMAND_MEMORY = 2, COMMAND_MASTER = 4 };
/* BAR 0, whole. */
volatile uint8_t *client_bar(int device);
#define REG(bar, type, offset) (*(volatile type *)((bar) + (offset)))

/* SET_IRQS with @count descriptors (or none, if @fds is NULL). */
int client_irqs(int device, uint32_t flags, unsigned index, unsigned start, unsigned count,
		const int *fds);
/* A non-blocking eventfd; its count now (0: none), or after waiting up to ten seconds for one. */
int client_eventfd(void);
uint64_t client_events(int fd);
uint64_t client_wait_event(int fd);

/* The engine of an I/OAT function, driven by hand. */
struct ioat_descriptor {
	uint32_t size, control;
	uint64_t src, dst, next;
	uint64_t reserved[4];
};
enum { IOAT_INTERRUPT = 1 << 0, IOAT_COMPLETION = 1 << 3, IOAT_NULL = 1 << 5 };
enum { IOAT_INTRCTRL = 3, IOAT_CHANCTRL = 0x80, IOAT_CHANCMD = 0x84, IOAT_DMACOUNT = 0x86 };
enum { IOAT_CHANSTS = 0x88, IOAT_CHAINADDR = 0x90, IOAT_CHANCMP = 0x98, IOAT_CHANERR = 0xa8 };
enum { IOAT_DONE = 1, IOAT_HALTED = 3 };
/* Bring the channel to a clean state with completions written at IOVA @completion. */
void ioat_reset(volatile uint8_t *bar, uint64_t completion);
/* Start @count descriptors at IOVA @chain and wait until the channel is done or halted:
 * IOAT_DONE, IOAT_HALTED, or -1 after ten seconds. */
int ioat_run(volatile uint8_t *bar, uint64_t chain, uint16_t count);

#endif
