/* SPDX-License-Identifier: MIT */
/*
 * Where in this process the BARs of simulated functions are mapped, the doorbells that a program
 * may map only to give them to MAP_DMA, and memory that /dev/iommu shows.
 */
#ifndef RUN_BARS_H
#define RUN_BARS_H

#include <sys/types.h>

#include <uiommu/vfio.h>

struct run_file;

/* One mapping, or what is left of it after partial unmaps. */
struct run_bar {
	uintptr_t first, last; /* bytes, closed */
	uint64_t doorbell;     /* at @first, if it is one: then no function; else 0 */
	struct uiommu_function *function;
	unsigned bar;
	uint64_t offset; /* of @first in the BAR */
	int prot;	 /* what the program asked for */
	bool trap_reads;
	void *memory;	       /* ordinary memory: then no doorbell and no function */
	struct run_file *file; /* held by the mapping */
};

/* May any byte of [addr, addr + len) be mapped? Cheap. */
bool bars_near(const void *addr, size_t len);
/* Is any page of it? */
bool bars_touch(const void *addr, size_t len);
/* The mapping at @addr that is no ordinary memory; any thread, signal handlers included. */
bool bars_find(uintptr_t addr, struct run_bar *out);

/* Is [addr, addr + len) a mapped doorbell? 1, and where that is behind the translation; 0: no;
 * -EINVAL: some of it is. */
int bars_doorbell(uintptr_t addr, size_t len, uint64_t *doorbell);

/* mmap(2) of a device's or a bank's file. MAP_FAILED with errno. */
void *bars_mmap(struct run_file *file, void *addr, size_t len, int prot, int flags,
		uint64_t offset);
/* The system calls, for ranges (those that the call replaces included) that bars_touch() said yes
 * to. */
void *bars_mmap_over(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int bars_munmap(void *addr, size_t len);
int bars_mprotect(void *addr, size_t len, int prot);
void *bars_mremap(void *addr, size_t len, size_t new_len, int flags, void *to);

/* The program has unmapped this range past the runner: unmapping it again does no harm. */
static inline void bars_gone(void *addr, size_t len)
{
	(void)bars_munmap(addr, len);
}

/* In a forked child: map @fn's BARs from @fd, BAR n at n << @shift, where they were mapped before.
 */
void bars_remap(struct uiommu_function *fn, int fd, unsigned shift);

void bars_lock(void);
void bars_unlock(void);

#endif
