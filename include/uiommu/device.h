/* SPDX-License-Identifier: MIT */
/**
 * uiommu/device.h - simulated PCI functions, the machine that holds them, and what a device model
 * is.
 *
 * A model is one file: facts (struct uiommu_model) and a few operations. The core gives it
 * configuration space with capabilities, BARs, interrupts, a DMA port and a worker thread. Whatever
 * a model does to memory goes through its port, interrupts included.
 *
 * Threads: the core serialises all operations of one function with that function's lock, but for
 * bar_post(); models need no locks of their own. work() runs on the function's worker thread,
 * everything else on whatever thread the program used. A machine whose platform has page requests
 * lets the DMA of all its functions wait for pages; resets, the end of bus mastering, and fork()
 * end such waits as if there were no page.
 */
#ifndef UIOMMU_DEVICE_H
#define UIOMMU_DEVICE_H

#include <stdio.h>

#include <uiommu/platform.h>
#include <uiommu/space.h>
#include <uiommu/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uiommu_machine;
struct uiommu_function;

/* ---- what a model is --------------------------------------------------------------------------
 */

#define UIOMMU_BARS 6

enum uiommu_bar_flags {
	UIOMMU_BAR_64 = 1 << 0,	      /**< 64 bits wide: takes this BAR and the next */
	UIOMMU_BAR_PREFETCH = 1 << 1, /**< prefetchable */
	/** Reading a register has an effect, or needs computing: the client's reads are trapped and
	 *  reach bar_read(). Without it reads see the BAR's memory, which the model keeps current
	 *  (uiommu_function_bar()), and only stores are trapped. */
	UIOMMU_BAR_TRAP_READS = 1 << 2,
};

/** A memory BAR. size 0: not there; else a power of two, at least 4096, at most 2 GiB or, 64 bits
 *  wide, 1 TiB. */
struct uiommu_bar {
	uint64_t size;
	int flags;
};

enum uiommu_model_flags {
	UIOMMU_MODEL_CONVENTIONAL = 1 << 0, /**< conventional PCI: 256 bytes of configuration space,
					       no PCI Express capability, hence no FLR */
	UIOMMU_MODEL_INTX = 1 << 1,	    /**< has interrupt pin A */
	/** Where DMA of work() waits for a page (uiommu_domain_set_page_handler()), other
	 * operations than reset() may run meanwhile: work() expects registers to change under it.
	 * Without it the function keeps its lock while it waits, and register writes wait with it.
	 */
	UIOMMU_MODEL_LETS_IN = 1 << 3,
	UIOMMU_MODEL_ON_REQUEST = 1 << 2, /**< changes what functions beside it can do: `uiommu run`
					     has one only if told */
};

/** One option a model understands, for --device MODEL,key=value. */
struct uiommu_model_option {
	const char *key;
	const char *help;
	int flags; /**< enum uiommu_option_flags */
};

enum uiommu_option_flags {
	/** The value names a file. Who starts programs elsewhere makes it absolute first. */
	UIOMMU_OPTION_PATH = 1 << 0,
};

/** A capability of a model's own, below 256. The core has its own at 0x40 (power management, or a
 *  conventional function's MSI), 0x50 to 0x67 (MSI), 0x70 to 0x7b (MSI-X) and 0x80 to 0xbb (PCI
 *  Express), as far as the model has them. */
struct uiommu_model_cap {
	uint8_t offset;	      /**< a multiple of 4 */
	uint8_t len;	      /**< from 3; 0 ends the list */
	const uint8_t *bytes; /**< @len of them: its ID, anything for the next pointer, and so on */
	const uint8_t *writable; /**< bits that a driver may write; NULL: none */
};

struct uiommu_function_info;

struct uiommu_model {
	size_t size; /**< sizeof(struct uiommu_model) */
	const char *name;
	const char *summary; /**< one line for people */
	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class_code; /**< 24 bits: base class, subclass, interface */
	uint8_t revision;
	int flags;	       /**< enum uiommu_model_flags */
	unsigned msi_vectors;  /**< 0: no MSI capability; else a power of two up to 32 */
	unsigned msix_vectors; /**< 0: no MSI-X capability; else up to 2048 */
	unsigned msix_bar;     /**< BAR that holds the MSI-X table and, behind it, the PBA */
	uint32_t msix_offset;  /**< offset of the table, a multiple of 4096; the PBA follows at the
				    next multiple of 4096 */
	struct uiommu_bar bars[UIOMMU_BARS];
	const struct uiommu_model_option *options; /**< ends with a NULL key; may be NULL */
	size_t state_size;			   /**< bytes of private state, zeroed */

	/** Take one option. -EINVAL with a reason in @why. Called before init(). May be NULL. */
	int (*option)(struct uiommu_function *fn, const char *key, const char *value, char *why,
		      size_t why_len);
	/** Set up the state. -errno fails the machine's set-up; uiommu_function_explain() says why;
	 *  -EEXIST: there can be only one such function in a machine. May be NULL. */
	int (*init)(struct uiommu_function *fn);
	/** Release what init() took. May be NULL. */
	void (*fini)(struct uiommu_function *fn);
	/** Power-on state of registers and state. Also for FLR and hot reset. Mandatory. */
	void (*reset)(struct uiommu_function *fn);
	/** A register write of 1, 2, 4 or 8 bytes, naturally aligned or not, inside the BAR. Stores
	 * of other widths arrive as several, unless write_block() is there. Mandatory. */
	void (*bar_write)(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			  uint64_t value);
	/** A register read, before the bytes are taken from the BAR's memory: the model brings that
	 * up to date. Called for pread() always, for mapped reads with UIOMMU_BAR_TRAP_READS. May
	 * be NULL. */
	void (*bar_read)(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len);
	/** A register write, as above and aligned, that need not wait for what the function is
	 * doing, as a doorbell: called without the function's lock, before bar_write(), and
	 * possibly at the same time as any other operation, so it touches atomics alone. True: it
	 * is taken, and work() will be called; false: bar_write() gets it. May be NULL. */
	bool (*bar_post)(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			 uint64_t value);
	/** A store of 16, 32 or 64 bytes as one, e.g. a 64-byte portal write. May be NULL. */
	void (*write_block)(struct uiommu_function *fn, unsigned bar, uint64_t offset,
			    const void *data, unsigned len);
	/** A step of asynchronous work after uiommu_function_kick(): return true if there is more
	 *  to do. Keep a step short (one descriptor). May be NULL. */
	bool (*work)(struct uiommu_function *fn);
	const struct uiommu_model_cap *caps; /**< may be NULL */
	/** Configuration space inside one of @caps is about to be read (the model brings it up to
	 *  date), or was written. May be NULL. */
	void (*config_read)(struct uiommu_function *fn, unsigned offset, unsigned len);
	void (*config_write)(struct uiommu_function *fn, unsigned offset, unsigned len);
	/** Another function of the machine is there: told for each that was there before, once
	 *  this one works, and for each that is added later. -errno makes the addition fail; then
	 *  those who were told hear that it is not @present, which cannot fail. May be NULL. */
	int (*neighbour)(struct uiommu_function *fn, const struct uiommu_function_info *other,
			 bool present);
	/** This process is a forked child, and the function a copy of the parent's, which goes on
	 *  with what was asked of it: what reaches beyond the process's memory, as a shared file,
	 *  must not be done here again. Called with the function's lock held and nothing due,
	 * before work() is. May be NULL: then the copy goes on, too. */
	void (*forked)(struct uiommu_function *fn);
};

/** The models this library has: the @index-th, or NULL past the end. */
UIOMMU_API const struct uiommu_model *uiommu_model_at(size_t index);

/* ---- what a model calls (function lock held: from its own operations only) ---------------------
 */

/** The model's private state. */
UIOMMU_API void *uiommu_function_state(struct uiommu_function *fn);
/** The memory that backs a BAR, as the client reads it. */
UIOMMU_API void *uiommu_function_bar(struct uiommu_function *fn, unsigned bar);
/** Read and write a register in it, little endian, one access (@len 1, 2, 4 or 8). */
UIOMMU_API uint64_t uiommu_function_reg(struct uiommu_function *fn, unsigned bar, uint64_t offset,
					unsigned len);
UIOMMU_API void uiommu_function_set_reg(struct uiommu_function *fn, unsigned bar, uint64_t offset,
					unsigned len, uint64_t value);
/** DMA: 0, or -EFAULT with a fault recorded. See uiommu_port_read(). */
UIOMMU_API int uiommu_function_dma_read(struct uiommu_function *fn, uint64_t iova, void *buf,
					size_t len);
UIOMMU_API int uiommu_function_dma_write(struct uiommu_function *fn, uint64_t iova, const void *buf,
					 size_t len);
/** The same with a PASID (UIOMMU_NO_PASID: as above). -EINVAL too: it is beyond the function's
 *  pasid_bits; -ENOMEM: nothing was moved. */
UIOMMU_API int uiommu_function_dma_read_pasid(struct uiommu_function *fn, uint32_t pasid,
					      uint64_t iova, void *buf, size_t len);
UIOMMU_API int uiommu_function_dma_write_pasid(struct uiommu_function *fn, uint32_t pasid,
					       uint64_t iova, const void *buf, size_t len);
/** The function's port, for models that want scatter/gather or translated segments. */
UIOMMU_API struct uiommu_port *uiommu_function_port(struct uiommu_function *fn);
/** Raise an interrupt: MSI-X vector @vector if MSI-X is enabled, MSI if that is enabled (@vector
 *  modulo the vectors enabled), else asserts INTx. -EFAULT: the write faulted; -EINVAL: no such
 *  MSI-X vector; a masked vector becomes pending and 0 is returned. */
UIOMMU_API int uiommu_function_raise(struct uiommu_function *fn, unsigned vector);
/** Deassert INTx. */
UIOMMU_API void uiommu_function_lower(struct uiommu_function *fn);
/** Have work() called on the worker thread. */
UIOMMU_API void uiommu_function_kick(struct uiommu_function *fn);
/** The same from any thread, with or without the function's lock, whatever other locks are held. */
UIOMMU_API void uiommu_function_post(struct uiommu_function *fn);
/** As uiommu_function_kick(), but not before @ns nanoseconds have passed; other kicks in the
 * meantime do not hurry it. For what hardware takes its time with, and drivers rely on it. */
UIOMMU_API void uiommu_function_kick_after(struct uiommu_function *fn, uint32_t ns);

/** From work(), which returns true to look again soon rather than because there is more to do: let
 *  other threads run first. */
UIOMMU_API void uiommu_function_yield(struct uiommu_function *fn);
/** Have work() called once @ns nanoseconds have passed, whatever kicks come before; a later alarm
 * takes an earlier one's place, 0 takes it away, as a reset does. uiommu_function_drain() doesn't
 * wait for it. */
UIOMMU_API void uiommu_function_alarm(struct uiommu_function *fn, uint64_t ns);
/** From init(): give the function a PASID capability of 1 to 20 @bits, and make it PCI Express. It
 * can use as many as the machine's IOMMU has, too. -EINVAL: other @bits; -ENOMEM. */
UIOMMU_API int uiommu_function_add_pasids(struct uiommu_function *fn, unsigned bits);
/** From init(): say in words why it fails. */
UIOMMU_API void uiommu_function_explain(struct uiommu_function *fn, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- the machine -------------------------------------------------------------------------------
 */

struct uiommu_machine_options {
	size_t size;			    /**< sizeof(struct uiommu_machine_options) */
	const char *platform;		    /**< as in uiommu_platform_create(); NULL: "x86-vtd" */
	const struct uiommu_memory *memory; /**< what DMA reaches; NULL: uiommu_memory_self */
	uint32_t iotlb_entries;		    /**< as in uiommu_unit_options */
	void (*fault)(void *ctx, const struct uiommu_fault *fault); /**< may be NULL */
	void *fault_ctx;
	/** Called on each new worker thread before anything else (signal masks, affinity). May be
	 *  NULL. */
	void (*worker_start)(void *ctx);
	void *worker_ctx;
};

/** Make a machine without functions. On failure @why says what is wrong. */
UIOMMU_API int uiommu_machine_create(const struct uiommu_machine_options *options,
				     struct uiommu_machine **out, char *why, size_t why_len);
/** Destroy it with all its functions; stops the workers. NULL is fine. */
UIOMMU_API void uiommu_machine_destroy(struct uiommu_machine *machine);

/**
 * Add a function: "MODEL[@[DDDD:]BB:DD.F][,key=value…]". Keys of the core: group=N (number of its
 * IOMMU group; functions may share one), driver=NAME (held by that driver; default "vfio-pci").
 * Others are the model's. The only PCI domain is 0000. Without an address the next free device
 * number on bus 0 (from 1). Without a group a new one. -EINVAL, -EEXIST (address taken), -ENOENT
 * (no such model), -ENOMEM, -EAGAIN (no thread to be had), what the model's init() or
 * memfd_create() said, with a reason in @why. Not while another thread uses the machine.
 */
UIOMMU_API int uiommu_machine_add(struct uiommu_machine *machine, const char *spec, char *why,
				  size_t why_len);
/** Add a function of a model that is not in the library's list; @spec as above, MODEL being
 * ignored. */
UIOMMU_API int uiommu_machine_add_model(struct uiommu_machine *machine,
					const struct uiommu_model *model, const char *spec,
					char *why, size_t why_len);

UIOMMU_API struct uiommu_unit *uiommu_machine_unit(struct uiommu_machine *machine);
UIOMMU_API struct uiommu_platform *uiommu_machine_platform(struct uiommu_machine *machine);
/** The @index-th function in order of addresses, or NULL. */
UIOMMU_API struct uiommu_function *uiommu_machine_function(struct uiommu_machine *machine,
							   size_t index);
/** The function with that name ("0000:00:01.0"), or NULL. */
UIOMMU_API struct uiommu_function *uiommu_machine_find(struct uiommu_machine *machine,
						       const char *name);

/** Around fork(): prepare stops all device activity and takes the locks of functions, IOMMU and
 *  interrupts; the parent goes on; in the child the workers are started anew. Address spaces are
 * the caller's: no other thread may be inside a call on one that the child is going to use. The
 * child's BARs must be its own by then: a controller's reset in the child writes its registers. */
UIOMMU_API void uiommu_machine_fork_prepare(struct uiommu_machine *machine);
UIOMMU_API void uiommu_machine_fork_parent(struct uiommu_machine *machine);
UIOMMU_API void uiommu_machine_fork_child(struct uiommu_machine *machine);

/* ---- a function as a driver sees it (takes the function's lock; any thread) --------------------
 */

/** Facts that never change. Pointers live as long as the machine. */
struct uiommu_function_info {
	const char *name; /**< "0000:00:01.0" */
	uiommu_rid rid;
	unsigned group;
	const char *driver; /**< who holds it: "vfio-pci" or another */
	const struct uiommu_model *model;
	unsigned config_size;			     /**< 256 or 4096 */
	bool flr;				     /**< can be reset by itself */
	uint8_t msi_cap, msix_cap, pcie_cap, pm_cap; /**< offsets, 0: not there */
	unsigned pasid_bits; /**< of the PASIDs that its DMA may carry; 0: none, or the IOMMU has
				none */
};
UIOMMU_API const struct uiommu_function_info *
uiommu_function_info(const struct uiommu_function *fn);

/** The machine it belongs to. */
UIOMMU_API struct uiommu_machine *uiommu_function_machine(struct uiommu_function *fn);

/** Configuration space as the hardware has it, little endian; @len 1, 2 or 4 inside config_size.
 * Writes obey the write masks and have their effects (sizing, bus master, MSI enables, FLR). */
UIOMMU_API uint32_t uiommu_function_config_read(struct uiommu_function *fn, unsigned offset,
						unsigned len);
UIOMMU_API void uiommu_function_config_write(struct uiommu_function *fn, unsigned offset,
					     unsigned len, uint32_t value);

/** BAR accesses of any length inside the BAR; longer or unaligned ones are cut into registers.
 *  Return 0, or -EIO when memory decoding is off (reads give all ones), -EINVAL outside. */
UIOMMU_API int uiommu_function_bar_read(struct uiommu_function *fn, unsigned bar, uint64_t offset,
					void *buf, size_t len);
UIOMMU_API int uiommu_function_bar_write(struct uiommu_function *fn, unsigned bar, uint64_t offset,
					 const void *buf, size_t len);

/** Does it decode its memory, so that accesses to BARs are answered? From any thread; takes no
 * lock, so it may be changing. */
UIOMMU_API bool uiommu_function_decodes(const struct uiommu_function *fn);

/** A memory file whose bytes at (bar << 40) + offset are the BAR's memory: what a client maps.
 * Owned by the function. */
UIOMMU_API int uiommu_function_fd(struct uiommu_function *fn);

/** Reset it (FLR, or as part of a bus reset): stops DMA first. Configuration space goes back to its
 *  power-on state, BAR addresses included. */
UIOMMU_API void uiommu_function_reset(struct uiommu_function *fn);

/** Who is told when INTx changes: level true is asserted; at once if it is asserted now. Called
 * with the function's lock held; must not call back. NULL takes it away. */
UIOMMU_API void uiommu_function_set_intx(struct uiommu_function *fn,
					 void (*fn_cb)(void *ctx, bool level), void *ctx);

/** Wait until the worker has nothing more to do. */
UIOMMU_API void uiommu_function_drain(struct uiommu_function *fn);

/** Interrupts raised so far (MSI, MSI-X and INTx assertions), and the port's counters. */
struct uiommu_function_stats {
	uint64_t interrupts;
	struct uiommu_unit_stats dma;
};
UIOMMU_API void uiommu_function_stats(struct uiommu_function *fn,
				      struct uiommu_function_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
