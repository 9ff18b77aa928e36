/* SPDX-License-Identifier: MIT */
/*
 * Owns nothing: turns the engine's accesses to memory, and the front end's to the program's
 * pointers, into copies that survive memory that isn't there. Addresses are the program's own.
 * A mapped BAR counts as memory: QEMU maps its own BARs for its guest's devices to reach. Stores
 * that a device makes there are posted, as they are on a bus (peer.c); loads are plain, and of
 * trapped registers impossible, since a function may not wait for another's lock. A function that
 * does not decode its memory answers no load, loses stores, and can't be mapped.
 * No locks. -EFAULT is the only failure.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "run/bars.h"
#include "run/copy.h"
#include "run/identity.h"
#include "run/memory.h"
#include "run/peer.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PAGE UINT64_C(4096)
/* From so many bytes on, one system call that populates is cheaper than touching. */
#define POPULATE_FROM (16 * PAGE)

/* Does some function whose registers are in this range not answer? */
static bool silent(uint64_t addr, size_t len)
{
	struct run_bar bar;

	for (uint64_t at = addr; at - addr < len; at = (at | (PAGE - 1)) + 1)
		if (bars_find((uintptr_t)at, &bar) && !bar.doorbell &&
		    !uiommu_function_decodes(bar.function))
			return true;
	return false;
}

static int memory_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	if (bars_near((const void *)(uintptr_t)addr, len) && silent(addr, len))
		return -EFAULT;
	return copy_safely(buf, (const void *)(uintptr_t)addr, len);
}

/* A write of which some part may lie in BARs. */
static int write_pieces(uint64_t addr, const void *buf, size_t len)
{
	const char *from = buf;
	struct run_bar bar;

	while (len) {
		size_t piece = PAGE - (addr & (PAGE - 1));
		bool found = bars_find((uintptr_t)addr, &bar);
		int ret;

		if (piece > len)
			piece = len;
		if (found && bar.doorbell)
			ret = -EFAULT;
		else if (found)
			ret = peer_write(bar.function, bar.bar, bar.offset + (addr - bar.first),
					 from, piece);
		else
			ret = copy_safely((void *)(uintptr_t)addr, from, piece);
		if (ret)
			return ret;
		addr += piece;
		from += piece;
		len -= piece;
	}
	return 0;
}

static int memory_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	if (bars_near((const void *)(uintptr_t)addr, len))
		return write_pieces(addr, buf, len);
	return copy_safely((void *)(uintptr_t)addr, buf, len);
}

/* Write permission implies read permission on x86. */
static int check_bar(const struct run_bar *bar, int prot)
{
	int need = prot & UIOMMU_WRITE ? PROT_WRITE : PROT_READ | PROT_WRITE;

	if (bar->doorbell)
		return -EFAULT;
	return (bar->prot & need) && uiommu_function_decodes(bar->function) ? 0 : -EFAULT;
}

static int check_page(uint64_t addr, int prot)
{
	void *at = (void *)(uintptr_t)addr;
	struct run_bar bar;

	if (bars_find((uintptr_t)addr, &bar))
		return check_bar(&bar, prot);
	return prot & UIOMMU_WRITE ? copy_touch_write(at) : copy_touch_read(at);
}

static int memory_check(void *ctx, uint64_t addr, uint64_t len, int prot)
{
	uint64_t first = addr & ~(PAGE - 1), last = addr + len - 1;

	if (!len)
		return 0;
	if (last < addr || last >= UINT64_C(1) << 47)
		return -EFAULT;
	if (len >= POPULATE_FROM && !bars_near((const void *)(uintptr_t)addr, len) &&
	    !syscall(SYS_madvise, first, (last | (PAGE - 1)) + 1 - first,
		     prot & UIOMMU_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ))
		return 0;
	/* Populating may fail for reasons that don't make the memory unusable: old kernels, device
	 * memory. Touching decides. */
	for (uint64_t at = first; at <= last; at += PAGE)
		if (check_page(at, prot))
			return -EFAULT;
	return 0;
}

/* The program's pointers are good for the kernel as they are. Of a BAR's bytes the kernel could
 * read, but not write. */
static void *memory_lend(void *ctx, uint64_t addr, uint64_t len)
{
	void *at = (void *)(uintptr_t)addr;

	return bars_near(at, len) ? NULL : at;
}

static int memory_compare_exchange(void *ctx, uint64_t addr, uint64_t *expected, uint64_t desired)
{
	void *at = (void *)(uintptr_t)addr;

	return bars_near(at, sizeof(desired)) ? -EFAULT
					      : copy_compare_exchange(at, expected, desired);
}

static const struct uiommu_memory_ops program_ops = {
	.size = sizeof(struct uiommu_memory_ops),
	.read = memory_read,
	.write = memory_write,
	.check = memory_check,
	.lend = memory_lend,
	.compare_exchange = memory_compare_exchange,
};

const struct uiommu_memory memory_program = {&program_ops, NULL};

static int copy_in(void *ctx, void *to, const void *from, size_t len)
{
	return copy_safely(to, from, len);
}

static int copy_out(void *ctx, void *to, const void *from, size_t len)
{
	return copy_safely(to, from, len);
}

static int doorbell_at(void *ctx, uint64_t vaddr, uint64_t len, uint64_t *doorbell)
{
	return bars_doorbell((uintptr_t)vaddr, len, doorbell);
}

static int identify(void *ctx, uint64_t addr, struct uiommu_vfio_memory *memory)
{
	return identity_of(addr, memory);
}

static bool registers_at(void *ctx, uint64_t vaddr, uint64_t len)
{
	return bars_near((const void *)(uintptr_t)vaddr, len) &&
	       bars_touch((const void *)(uintptr_t)vaddr, len);
}

void memory_host(struct uiommu_vfio_host *host)
{
	host->registers_at = registers_at;
	host->doorbell_at = doorbell_at;
	host->identify = identify;
	host->copy_in = copy_in;
	host->copy_out = copy_out;
}
