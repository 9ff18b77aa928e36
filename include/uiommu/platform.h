/* SPDX-License-Identifier: MIT */
/**
 * uiommu/platform.h - the rules of one kind of machine: what its IOMMU translates, which regions it
 * reserves, and how its interrupts travel.
 */
#ifndef UIOMMU_PLATFORM_H
#define UIOMMU_PLATFORM_H

#include <uiommu/space.h>
#include <uiommu/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uiommu_platform;

/**
 * Make a platform from "NAME[,key=value…]", e.g. "x86-vtd,aw=39". On failure @why (of @why_len
 * bytes, may be NULL) says what is wrong and what would be right. -ENOENT: no such platform (NULL);
 * -EINVAL: bad option; -ENOMEM.
 */
UIOMMU_API int uiommu_platform_create(const char *spec, struct uiommu_platform **out, char *why,
				      size_t why_len);
/** Destroy it; all interrupts must have been released. NULL is fine. */
UIOMMU_API void uiommu_platform_destroy(struct uiommu_platform *platform);

/** What a platform imposes on domains. Pointers live as long as the platform. */
struct uiommu_platform_facts {
	const char *name;    /**< "x86-vtd" */
	const char *summary; /**< one line for people */
	const char *format;  /**< table format of its domains */
	unsigned width;	     /**< bits of IOVA */
	bool coherent;	     /**< enforces cache coherency (VFIO_DMA_CC_IOMMU) */
	bool isolated_msi;   /**< a device cannot forge another's interrupt */
	const struct uiommu_resv_region *regions; /**< reserved for every device */
	size_t region_count;
	const struct uiommu_doorbell_window *windows; /**< to be given to the unit */
	size_t window_count;
};
UIOMMU_API const struct uiommu_platform_facts *
uiommu_platform_facts(const struct uiommu_platform *platform);

/** Names of the platforms this library knows: the @index-th, or NULL past the end. */
UIOMMU_API const char *uiommu_platform_name(size_t index);
/** One line about the platform @name and its options, or NULL. */
UIOMMU_API const char *uiommu_platform_summary(const char *name);

/** What a function must write where to raise one vector. */
struct uiommu_msi_message {
	uint64_t address;
	uint32_t data;
};

/** Called when the interrupt arrives at the controller. From a port's thread, with no lock of the
 *  platform or the IOMMU held; if the port is a simulated function's, with that function's lock. */
typedef void (*uiommu_irq_fn)(void *ctx, unsigned vector);

/**
 * Allocate @count consecutive vectors for @rid, delivered to @fn. @messages gets one message for
 * each.
 * @consecutive: the messages share an address and their data count up from a multiple of @count, as
 * plain MSI needs it (then @count must be a power of two).
 * *@handle identifies the block to uiommu_platform_irq_free(). -ENOSPC: vectors exhausted; -EINVAL:
 * no vectors, more than 2048, or no @fn; -ENOMEM. Thread safe.
 */
UIOMMU_API int uiommu_platform_irq_alloc(struct uiommu_platform *platform, uiommu_rid rid,
					 unsigned count, bool consecutive, uiommu_irq_fn fn,
					 void *ctx, struct uiommu_msi_message *messages,
					 uint32_t *handle);

/** Release a block; returns when its handler is not running any more. Not from the handler. */
UIOMMU_API void uiommu_platform_irq_free(struct uiommu_platform *platform, uint32_t handle);

#ifdef __cplusplus
}
#endif
#endif
