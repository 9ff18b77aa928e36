/* SPDX-License-Identifier: MIT */
/**
 * uiommu/memory.h - what a translated ("physical") address means is the embedder's business.
 *
 * The page tables hold addresses of up to 52 bits. By default such an address is an address of this
 * process: a user-space virtual address fits. An embedder may as well say guest-physical addresses,
 * offsets into a memfd or frame numbers shifted by 12: it supplies how they are read and written.
 */
#ifndef UIOMMU_MEMORY_H
#define UIOMMU_MEMORY_H

#include <uiommu/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * How translated addresses are accessed. Called with no lock of the library held, from the threads
 * that own the DMA ports; must be thread safe and must not call back into the library's map or
 * unmap.
 */
struct uiommu_memory_ops {
	size_t size; /**< sizeof(struct uiommu_memory_ops) */
	/** Copy @len bytes at @addr into @buf: 0, or -EFAULT if any of it is not there. Aligned
	 *  power-of-two accesses up to 8 bytes must be single copies. */
	int (*read)(void *ctx, uint64_t addr, void *buf, size_t len);
	/** The other way round. */
	int (*write)(void *ctx, uint64_t addr, const void *buf, size_t len);
	/** Is the memory there, with these permissions (enum uiommu_prot)? 0 or -EFAULT. Asked by
	 *  the VFIO front end when a mapping is made, where Linux would pin the pages. NULL: yes.
	 */
	int (*check)(void *ctx, uint64_t addr, uint64_t len, int prot);
	/** A pointer through which @len bytes at @addr can be accessed directly, or NULL if there
	 *  is none. Valid until the port leaves its access section. NULL op: never. */
	void *(*direct)(void *ctx, uint64_t addr, uint64_t len);
	/** A pointer to the same that a system call may be given, which answers -EFAULT for what is
	 *  not there; or NULL if there is none. Valid as long. NULL op: what direct() says. */
	void *(*lend)(void *ctx, uint64_t addr, uint64_t len);
	/** Replace the aligned 8 bytes at @addr by @desired if they are *@expected, in one step; if
	 *  not, *@expected becomes what they are. As a number in the machine's byte order. 0 or
	 *  -EFAULT. NULL op, or ops of an older header: accessed and dirty flags in guests' tables
	 *  (uiommu_domain_create_guest()) stay as they are. */
	int (*compare_exchange)(void *ctx, uint64_t addr, uint64_t *expected, uint64_t desired);
};

/** An address space of memory: operations and their context. */
struct uiommu_memory {
	const struct uiommu_memory_ops *ops;
	void *ctx;
};

/** This process's own memory: addresses are its virtual addresses, copied without any check, so the
 *  embedder answers for every address it maps. */
UIOMMU_API extern const struct uiommu_memory uiommu_memory_self;

#ifdef __cplusplus
}
#endif
#endif
