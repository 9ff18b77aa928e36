/* SPDX-License-Identifier: MIT */
/**
 * uiommu/types.h - what every other header needs: ranges, permissions, refusals.
 *
 * Addresses and sizes are in bytes. Ranges are closed, [first, last]: an address space may end at
 * 2^64 - 1, which a length could not express. Functions return 0 (or a count that is >= 0) or a
 * negative errno, and leave errno alone. Output arguments are written on success only, unless said.
 */
#ifndef UIOMMU_TYPES_H
#define UIOMMU_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define UIOMMU_API __attribute__((visibility("default")))

/** A closed range of addresses; valid when first <= last. */
struct uiommu_range {
	uint64_t first;
	uint64_t last;
};

/** What a mapping permits, or what an access asks for. */
enum uiommu_prot {
	UIOMMU_READ = 1 << 0,  /**< the device may read */
	UIOMMU_WRITE = 1 << 1, /**< the device may write */
	/** Beside the others, for mappings: the target is a device's register (a doorbell), not
	 *  memory. Not every table format can express it. */
	UIOMMU_MMIO = 1 << 2,
};

/** A PCI requester ID: bus << 8 | device << 3 | function. */
typedef uint16_t uiommu_rid;

/** A PASID (PCI Express: process address space ID) goes with a transaction or doesn't: 0 stands for
 *  without, as in Linux (IOMMU_NO_PASID). */
enum {
	UIOMMU_NO_PASID = 0,
	UIOMMU_PASID_MAX = (1 << 20) - 1,
};

/**
 * Why nobody may map a range. Names and order follow Linux' enum iommu_resv_type
 * (include/linux/iommu.h); uiommu_resv_name() gives the word that sysfs prints.
 */
enum uiommu_resv_type {
	UIOMMU_RESV_DIRECT,	      /**< identity mapped for the device, always */
	UIOMMU_RESV_DIRECT_RELAXABLE, /**< the same, but may be dropped for assignment */
	UIOMMU_RESV_RESERVED,	      /**< never to be mapped */
	UIOMMU_RESV_MSI,	      /**< a hardware doorbell window, not translated */
	UIOMMU_RESV_SW_MSI,	      /**< a window in which software places translated doorbells */
	UIOMMU_RESV_APERTURE,	      /**< not a region: outside what the domain can translate */
};

/** The word for a type; "msi" for both MSI types, as in sysfs. Never NULL. */
UIOMMU_API const char *uiommu_resv_name(enum uiommu_resv_type type);

/** A reserved region as platforms and devices report it. */
struct uiommu_resv_region {
	struct uiommu_range range;
	enum uiommu_resv_type type;
	int prot; /**< for direct regions: enum uiommu_prot */
};

/** The rules by which a request can be refused. */
enum uiommu_rule {
	UIOMMU_RULE_NONE,	 /**< nothing was refused */
	UIOMMU_RULE_ARGUMENT,	 /**< an argument makes no sense: flag, size of a struct, value */
	UIOMMU_RULE_EMPTY,	 /**< the range is empty */
	UIOMMU_RULE_WRAP,	 /**< the range runs past the end of the address space */
	UIOMMU_RULE_ALIGNMENT,	 /**< not a multiple of the smallest I/O page */
	UIOMMU_RULE_PERMISSION,	 /**< no, or an impossible, combination of read and write */
	UIOMMU_RULE_APERTURE,	 /**< beyond what an attached domain can translate */
	UIOMMU_RULE_RESERVED,	 /**< hits a reserved region */
	UIOMMU_RULE_NOT_ALLOWED, /**< outside the ranges allowed */
	UIOMMU_RULE_OVERLAP,	 /**< something is mapped there already */
	UIOMMU_RULE_SPLIT,	 /**< would cut a mapping in two */
	UIOMMU_RULE_NOT_MAPPED,	 /**< nothing is mapped there */
	UIOMMU_RULE_SOURCE,	 /**< the memory to be mapped is not there, or not writable */
	UIOMMU_RULE_LIMIT,	 /**< a limit (of mappings, windows, vectors, …) is used up */
	UIOMMU_RULE_MEMLOCK,	 /**< RLIMIT_MEMLOCK */
	UIOMMU_RULE_NO_MEMORY,	 /**< uiommu itself could not allocate */
	UIOMMU_RULE_BUSY,	 /**< the object is in use */
	UIOMMU_RULE_VIABLE,	 /**< a device of the group is held by another driver */
	UIOMMU_RULE_ORDER,	 /**< a step that must come first is missing, or came already */
	UIOMMU_RULE_UNSUPPORTED, /**< this interface, or this device, does not have it */
	UIOMMU_RULE_ISOLATION,	 /**< the machine cannot isolate MSIs */
	UIOMMU_RULE_ADDRESS,	 /**< a pointer argument cannot be read or written */
	UIOMMU_RULE_DOORBELL,	 /**< no IOVA can be had for a doorbell */
	UIOMMU_RULE_CAPABILITY,	 /**< the program lacks a capability that Linux asks for */
	UIOMMU_RULE_NO_ROOM,	 /**< no free range is large enough: where it would have been tried,
				    and what is in the way there */
};

/** Owner of a refusal's blocking range, in words ("platform x86-vtd", "area", …). */
#define UIOMMU_OWNER_MAX 64

/**
 * One refusal: which rule refused, whose rule it is, what was asked for and what is in the way.
 * Ranges that do not apply are {1, 0}.
 */
struct uiommu_refusal {
	enum uiommu_rule rule;
	int error; /**< the negative errno returned */
	char owner[UIOMMU_OWNER_MAX];
	struct uiommu_range asked;
	struct uiommu_range blocking;
	enum uiommu_resv_type resv; /**< for RULE_RESERVED: the type of the region in the way */
};

/**
 * The calling thread's last refusal. Set by each function of this library that refuses, untouched
 * by success. The pointer stays valid for the thread's life. Thread safe.
 */
UIOMMU_API const struct uiommu_refusal *uiommu_last_refusal(void);

/** Forget the calling thread's last refusal (rule becomes UIOMMU_RULE_NONE). */
UIOMMU_API void uiommu_clear_refusal(void);

/**
 * Put a refusal into words, one line without newline, into @buf.
 * Returns the length the whole text has, as snprintf() does.
 */
UIOMMU_API int uiommu_refusal_format(const struct uiommu_refusal *refusal, char *buf, size_t len);

/** Short name of a rule ("overlap", "reserved", …). Never NULL. */
UIOMMU_API const char *uiommu_rule_name(enum uiommu_rule rule);

/**
 * Replace the allocator of the whole library. @alloc returns zeroed memory of @size aligned to
 * @align (a power of two, at least 16), or NULL; @release gets the same size. Call before anything
 * else; NULL pointers restore the default. Not thread safe. Meant for embedders with an arena and
 * for tests that make the nth allocation fail.
 */
UIOMMU_API void uiommu_set_allocator(void *(*alloc)(size_t size, size_t align),
				     void (*release)(void *ptr, size_t size));

#ifdef __cplusplus
}
#endif
#endif
