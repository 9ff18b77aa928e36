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
struct uiommu_irq;

/**
 * Make a platform from "NAME[,key=value…]", e.g. "x86-vtd,aw=39". Every platform takes, besides its
 * own keys: name=WORD (what it is called), resv=TYPE:FIRST-LAST (one more reserved region; TYPE is
 * direct, direct-relaxable or reserved; may be repeated), p2p=FIRST-LAST (the window of a PCI host
 * bridge, reserved), pgsizes=BITMAP (of the leaf sizes, those that may be used), width=BITS (of
 * IOVA, one that the table format has), aperture=FIRST-LAST (what domains translate, where that is
 * less), doorbell=NAME\@ADDRESS[/VECTORS] (a doorbell instead of the platform's; may be repeated),
 * msiwindow=FIRST-LAST (the sw-msi region instead of the platform's), dirty=on|off (whether iommufd
 * can track what devices write to; off, as on the emulated hardware that the platforms follow),
 * nesting=on|off (whether guests' own tables can go in front of domains; likewise off; x86-vtd and
 * arm-smmuv3),
 * pri=on|off (whether devices can wait for pages; likewise off), pasid=BITS (how many bits of
 * PASIDs the IOMMU tells apart, up to 20; likewise 0, none). Ranges are closed. On failure
 * @why (of @why_len bytes, may be NULL) says what is wrong and what would be right. -ENOENT: no
 * such platform (NULL); -EINVAL: bad option; -ENOMEM.
 */
UIOMMU_API int uiommu_platform_create(const char *spec, struct uiommu_platform **out, char *why,
				      size_t why_len);
/** Destroy it; all interrupts must have been released. NULL is fine. */
UIOMMU_API void uiommu_platform_destroy(struct uiommu_platform *platform);

/** A register that devices write MSIs to. */
struct uiommu_doorbell {
	const char *name;	   /**< "GICv3 ITS", "MSI bank 0" */
	struct uiommu_range range; /**< the register's page, or the window: IOVAs if not
					@translated, else addresses behind the translation */
	bool translated;
	unsigned vectors; /**< that can be told apart; of one device if @per_device */
	bool per_device;
};

/** The types of IOMMU that VFIO offers on a machine. */
enum uiommu_vfio_types {
	UIOMMU_VFIO_TYPE1 = 1 << 0,   /**< VFIO_TYPE1_IOMMU and VFIO_TYPE1v2_IOMMU */
	UIOMMU_VFIO_PAMU = 1 << 1,    /**< VFIO_FSL_PAMU_IOMMU */
	UIOMMU_VFIO_SPAPR = 1 << 2,   /**< VFIO_SPAPR_TCE_IOMMU and VFIO_SPAPR_TCE_v2_IOMMU */
	UIOMMU_VFIO_NOIOMMU = 1 << 3, /**< VFIO_NOIOMMU_IOMMU */
};

/** How MSI banks get into a PAMU aperture. */
enum uiommu_pamu_msi {
	UIOMMU_PAMU_IMPLICIT, /**< on demand, at its top, in windows the program left free */
	UIOMMU_PAMU_EXPLICIT, /**< by MAP_MSI_BANK */
	UIOMMU_PAMU_MMAP,     /**< by mapping an mmap of the bank */
	UIOMMU_PAMU_ROUNDED,  /**< as implicit, in windows added to those the program asks for */
};

/** Facts of a PAMU machine (Freescale P4080 reference manual; Linux' fsl_pamu driver, 3.12). */
struct uiommu_pamu_facts {
	unsigned windows; /**< most windows of an aperture */
	unsigned banks;	  /**< MSI banks */
	unsigned type;	  /**< number of VFIO_FSL_PAMU_IOMMU: 2 or 7 */
	enum uiommu_pamu_msi msi;
};

/** Facts of a POWER machine (Linux' vfio_iommu_spapr_tce.c). */
struct uiommu_spapr_facts {
	struct uiommu_range window32; /**< the default window */
	uint64_t window64;	      /**< where the second one starts */
	uint64_t page_sizes;	      /**< of dynamic windows */
	unsigned windows;	      /**< most at once */
	unsigned levels;	      /**< most levels of a table */
	bool recreate;		      /**< the first window can return beside the second */
};

/** Which of Xen's paravirtual IOMMU interfaces (uiommu/xen.h) the hypervisor has. */
enum uiommu_xen_pv {
	UIOMMU_XEN_PV_OFF,	 /**< none: devices reach machine frames */
	UIOMMU_XEN_PV_DRAFT2014, /**< draft A of 2014, with its review */
	UIOMMU_XEN_PV_XENSERVER, /**< pv_iommu_op of XenServer */
	UIOMMU_XEN_PV_CONTEXTS,	 /**< the contexts of 2025 */
};

/** Facts of a machine under Xen, whose IOMMU is the hypervisor's. Sizes are multiples of 2 MiB. */
struct uiommu_xen_facts {
	bool there;
	enum uiommu_xen_pv pv;
	uint64_t dom0;	  /**< bytes of domain 0's RAM */
	uint64_t guest;	  /**< bytes of domain 1's; 0: there is no domain 1 */
	uint32_t preempt; /**< a hypercall is preempted after so many operations; 0: never */
	uint64_t premap;  /**< bus frame from which XenServer maps all machine frames; 0: it doesn't
			   */
};

/** What iommufd's GET_HW_INFO says of the machine's IOMMU. */
struct uiommu_iommufd_facts {
	uint32_t info_type; /**< enum iommu_hw_info_type */
	const void *info;   /**< the struct of that type; NULL: none */
	uint32_t info_len;
	bool dirty;	     /**< tables can note what devices write to */
	bool page_requests;  /**< devices that can may wait for a page */
	bool nesting;	     /**< guests' own tables can be put in front of a domain */
	unsigned pasid_bits; /**< of the PASIDs that it tells apart; 0: it knows none */
};

/** What a platform imposes on domains. Pointers live as long as the platform. */
struct uiommu_platform_facts {
	const char *name;    /**< "x86-vtd" */
	const char *summary; /**< one line for people */
	const char *format;  /**< table format of its domains; NULL: nothing is translated */
	unsigned width;	     /**< bits of IOVA */
	uint64_t page_sizes; /**< leaf sizes that may be used; 0: all of the format's */
	struct uiommu_range
		aperture;  /**< what domains translate at most; {0, 0}: what @width says */
	bool coherent;	   /**< enforces cache coherency (VFIO_DMA_CC_IOMMU) */
	bool isolated_msi; /**< a device cannot forge another's interrupt */
	bool unsafe_check; /**< where it is not isolated, VFIO asks for unsafe interrupts */
	bool fixed_msix;   /**< MSI-X has the vectors it was enabled with and no others */
	bool any_page;	   /**< programs are told of every page size: mapped are ranges */
	bool cut_off;	   /**< a violation cuts the device off */
	bool program_msi;  /**< type1 programs give the IOVAs of doorbells themselves, as in 2016 */
	bool rawio;	   /**< programs have CAP_SYS_RAWIO, which VFIO's no-IOMMU mode asks for */
	unsigned vfio_types;   /**< enum uiommu_vfio_types that SET_IOMMU can set */
	unsigned vfio_modules; /**< those whose modules are loaded besides */
	const struct uiommu_resv_region *regions; /**< reserved for every device */
	size_t region_count;
	const struct uiommu_doorbell *doorbells;
	size_t doorbell_count;
	const struct uiommu_doorbell_window *windows; /**< to be given to the unit */
	size_t window_count;
	struct uiommu_pamu_facts pamu;	 /**< where vfio_types says so */
	struct uiommu_spapr_facts spapr; /**< likewise */
	struct uiommu_xen_facts xen;
	struct uiommu_iommufd_facts iommufd;
};
UIOMMU_API const struct uiommu_platform_facts *
uiommu_platform_facts(const struct uiommu_platform *platform);

/** The same as a constraint for address spaces (uiommu_ioas_create_constrained()). Its pointers
 * live as long as the platform. @geometry->size is set. */
UIOMMU_API void uiommu_platform_geometry(const struct uiommu_platform *platform,
					 struct uiommu_geometry *geometry);
/** The ranges that can be used on it, as uiommu_geometry_ranges(). */
UIOMMU_API int uiommu_platform_ranges(const struct uiommu_platform *platform,
				      struct uiommu_range *ranges, size_t *count);

/** Names of the platforms this library knows: the @index-th, or NULL past the end. */
UIOMMU_API const char *uiommu_platform_name(size_t index);
/** One line about the platform @name, or NULL. */
UIOMMU_API const char *uiommu_platform_summary(const char *name);
/** One line about the options of its own, "key=…: what (default); …", or NULL if there are none. */
UIOMMU_API const char *uiommu_platform_options(const char *name);

/** What a function must write where to raise one vector. */
struct uiommu_msi_message {
	uint64_t address;
	uint32_t data;
};

/** Called when the interrupt arrives at the controller. From a port's thread, with no lock of the
 *  platform or the IOMMU held; if the port is a simulated function's, with that function's lock. */
typedef void (*uiommu_irq_fn)(void *ctx, unsigned vector);

/**
 * Allocate @count consecutive vectors for @rid, delivered to @fn, at the first doorbell that has so
 * many left, and make that doorbell reachable in @ioas, where it is one behind the translation
 * (uiommu_ioas_map_doorbell()). @ioas may be NULL if the requester is not translated; it must
 * outlive the block. @messages gets one message for each.
 * @consecutive: the messages share an address and their data count up from a multiple of @count, as
 * plain MSI needs it (then @count must be a power of two, 32 at most).
 * *@irq is the block. -ENOSPC: vectors exhausted; -EINVAL: no vectors, more than 2048, or no @fn;
 * -ENOMEM; what uiommu_ioas_map_doorbell() says. Thread safe.
 */
UIOMMU_API int uiommu_platform_irq_alloc(struct uiommu_platform *platform, struct uiommu_ioas *ioas,
					 uiommu_rid rid, unsigned count, bool consecutive,
					 uiommu_irq_fn fn, void *ctx,
					 struct uiommu_msi_message *messages,
					 struct uiommu_irq **irq);

/** Release a block, and the doorbell with the last; returns when its handler is not running any
 *  more. Not from the handler. NULL is fine. */
UIOMMU_API void uiommu_platform_irq_free(struct uiommu_platform *platform, struct uiommu_irq *irq);

/**
 * The requester of a block is about to be attached to another address space (NULL: to none): make
 * its doorbell reachable there too. Then uiommu_platform_irq_moved() lets go of the place in the
 * old one, or, if it was not moved, in the new one. -EADDRINUSE RULE_DOORBELL: there it would stand
 * at another IOVA than the requester was told; what uiommu_ioas_map_doorbell() says. One caller at
 * a time.
 */
UIOMMU_API int uiommu_platform_irq_moving(struct uiommu_platform *platform, struct uiommu_irq *irq,
					  struct uiommu_ioas *ioas);
/** Never fails. */
UIOMMU_API void uiommu_platform_irq_moved(struct uiommu_platform *platform, struct uiommu_irq *irq,
					  bool moved);

/** The doorbell to which @rid was told to write in the page of @iova, or NULL: what an interrupt
 * that faulted was meant for. Any thread; lives as long as the platform. */
UIOMMU_API const struct uiommu_doorbell *
uiommu_platform_doorbell_at(struct uiommu_platform *platform, uiommu_rid rid, uint64_t iova);

#ifdef __cplusplus
}
#endif
#endif
