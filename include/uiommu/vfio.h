/* SPDX-License-Identifier: MIT */
/**
 * uiommu/vfio.h - the VFIO and iommufd front ends: containers, groups and devices of a machine,
 * and /dev/iommu, bit-exact to <linux/vfio.h>, <linux/iommufd.h> and to Linux 7.2's behaviour.
 *
 * It deals in files: what Linux has behind one open file description. Descriptors, dup() and
 * close() are the caller's (uiommu run, or an embedder with its own notion of descriptors), who
 * supplies the struct uiommu_vfio_host that turns one into the other.
 *
 * Functions that carry a request (ioctl, pread, pwrite) return what the system call would return:
 * >= 0, or a negative errno. Any thread may call any function.
 */
#ifndef UIOMMU_VFIO_H
#define UIOMMU_VFIO_H

#include <sys/types.h>

#include <uiommu/device.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uiommu_vfio;
struct uiommu_vfio_file;

/** Which memory something is: @length bytes from @offset of a file, or (@file 0) of the program's
 * own, where @offset is its address. */
struct uiommu_vfio_memory {
	uint64_t device, file, offset, length;
};

/** What the front end needs from whoever owns descriptors and user pointers. */
struct uiommu_vfio_host {
	size_t size; /**< sizeof(struct uiommu_vfio_host) */
	/** Copy from and to the program's memory: 0 or -EFAULT, never a crash. NULL: plain copies.
	 */
	int (*copy_in)(void *ctx, void *to, const void *from, size_t len);
	int (*copy_out)(void *ctx, void *to, const void *from, size_t len);
	/** The file behind a descriptor, or NULL if it is none of this front end's. */
	struct uiommu_vfio_file *(*file_of)(void *ctx, int fd);
	/** Make a descriptor for a new file of a device, an MSI bank or a queue: the descriptor, or
	 * -errno (then the front end releases the file). */
	int (*install)(void *ctx, struct uiommu_vfio_file *file);
	/** Keep an eventfd of the program's: a descriptor of our own for it, or -errno (-EBADF;
	 * -EINVAL if it is no eventfd). NULL: dup(). */
	int (*eventfd_get)(void *ctx, int fd);
	void (*eventfd_put)(void *ctx, int fd);
	/** Has the program closed all its descriptors of the eventfd kept as @fd? Linux forgets an
	 * unmask eventfd then. NULL: no. */
	bool (*eventfd_orphaned)(void *ctx, int fd);
	/** Called when a request was refused and a reason is known; @what is e.g.
	 * "VFIO_IOMMU_MAP_DMA". May be NULL. */
	void (*refused)(void *ctx, const char *what, const struct uiommu_refusal *refusal);
	/** A line that Linux would write into its log. May be NULL. */
	void (*log)(void *ctx, const char *line);
	/** Start a helper thread's life (signal mask, affinity). May be NULL. */
	void (*thread_start)(void *ctx);
	void *ctx;
	/** Is [vaddr, vaddr + len) of the program's memory the mmap of a doorbell (see struct
	 * uiommu_vfio_mapping)? 1, and where that is behind the translation; 0: no; -EINVAL: some
	 * of it is. NULL: no. */
	int (*doorbell_at)(void *ctx, uint64_t vaddr, uint64_t len, uint64_t *doorbell);
	/** Map @length bytes from @offset (whole pages) of the file behind the program's
	 * descriptor, shared, for the front end's own use, and say where; take it down. 0, or
	 * -EBADF; -EINVAL: no file in memory, as IOMMU_IOAS_MAP_FILE asks for. NULL: mmap() and
	 * munmap(). */
	int (*map_file)(void *ctx, int fd, uint64_t offset, uint64_t length, bool write,
			uint64_t *addr);
	void (*unmap_file)(void *ctx, uint64_t addr, uint64_t length);
	/** There is something to read in the file of a queue, or no longer. Called from any thread,
	 * even inside a port's access section; must not call back. May be NULL. */
	void (*queue_readable)(void *ctx, struct uiommu_vfio_file *file, bool readable);
	/** Which memory is at this address of the process: what two addresses share has one
	 * identity. 0 or -EFAULT. NULL: the address says it. */
	int (*identify)(void *ctx, uint64_t address, struct uiommu_vfio_memory *memory);
	/** Is some of [vaddr, vaddr + len) the mmap of a device's registers? Type 1 takes them as
	 * memory to be mapped, iommufd doesn't. NULL: no. */
	bool (*registers_at)(void *ctx, uint64_t vaddr, uint64_t len);
};

struct uiommu_vfio_options {
	size_t size; /**< sizeof(struct uiommu_vfio_options) */
	struct uiommu_vfio_host host;
	unsigned dma_entry_limit; /**< as the kernel's module parameter; 0: 65535 */
	bool memlock;		  /**< account mapped pages against RLIMIT_MEMLOCK */
	bool unsafe_interrupts;	  /**< as vfio_iommu_type1.allow_unsafe_interrupts */
	/** /dev/iommu and devices' nodes are those proposed in 2021
	 * (<uiommu/linux/iommufd_rfc.h>). */
	bool iommufd_rfc;
	/** /dev/iommu has the request of Linux's selftests, IOMMU_TEST_CMD, and its mock IOMMU. */
	bool iommufd_test;
};

/** Make a front end for the functions that the machine has now, and give their BARs addresses if
 * they have none. -ENOMEM; -EINVAL, -E2BIG: options of a wrong, or newer, size. */
UIOMMU_API int uiommu_vfio_create(struct uiommu_machine *machine,
				  const struct uiommu_vfio_options *options,
				  struct uiommu_vfio **out);
/** Destroy it; open files are released. NULL is fine. */
UIOMMU_API void uiommu_vfio_destroy(struct uiommu_vfio *vfio);

enum uiommu_vfio_kind {
	UIOMMU_VFIO_CONTAINER,
	UIOMMU_VFIO_GROUP,
	UIOMMU_VFIO_DEVICE,
	UIOMMU_VFIO_MSI_BANK, /**< of PAMU's; it can only be mmapped */
	UIOMMU_VFIO_IOMMUFD,  /**< /dev/iommu */
	/** of iommufd's events or page requests: read with uiommu_vfio_pread() at 0, which gives
	 *  whole events only and 0 if there is none */
	UIOMMU_VFIO_QUEUE,
	UIOMMU_VFIO_PAGE,   /**< no file: a mapping of /dev/iommu (struct uiommu_vfio_mapping) */
	UIOMMU_VFIO_ACCESS, /**< what software has of an address space (IOMMU_TEST_CMD) */
	UIOMMU_VFIO_DMABUF, /**< memory that can be taken back (IOMMU_TEST_CMD) */
};

/** Open /dev/vfio/vfio. -ENOMEM. */
UIOMMU_API int uiommu_vfio_open_container(struct uiommu_vfio *vfio, struct uiommu_vfio_file **out);
/** Open /dev/vfio/NUMBER, or /dev/vfio/noiommu-NUMBER where there is no IOMMU. -ENODEV: no such
 * group, or none of its functions is vfio-pci's; -EPERM: no IOMMU, and the platform doesn't grant
 * CAP_SYS_RAWIO; -EBUSY: open already; -ENOMEM. */
UIOMMU_API int uiommu_vfio_open_group(struct uiommu_vfio *vfio, unsigned number,
				      struct uiommu_vfio_file **out);
/** Open /dev/iommu: IOMMU_* requests of <uiommu/linux/iommufd.h>, and those of a container.
 * -ENOMEM.
 */
UIOMMU_API int uiommu_vfio_open_iommufd(struct uiommu_vfio *vfio, struct uiommu_vfio_file **out);
/** Open /dev/vfio/devices/vfio@number, which is the @number-th function that is vfio-pci's, on a
 * machine with an IOMMU. It has no request but VFIO_DEVICE_BIND_IOMMUFD until that has succeeded.
 * -ENODEV: there is none; -ENOMEM. */
UIOMMU_API int uiommu_vfio_open_node(struct uiommu_vfio *vfio, unsigned number,
				     struct uiommu_vfio_file **out);
/** The last descriptor (and, for a device, the last mapping) of this file is gone, and no request
 * on it is under way. What it held is torn down as Linux does it; a group stays while a device of
 * it is open, a container while a group is in it. Never fails. */
UIOMMU_API void uiommu_vfio_release(struct uiommu_vfio_file *file);

UIOMMU_API enum uiommu_vfio_kind uiommu_vfio_file_kind(const struct uiommu_vfio_file *file);
/** For a device: its function. For others: NULL. */
UIOMMU_API struct uiommu_function *uiommu_vfio_file_function(const struct uiommu_vfio_file *file);

/** ioctl(2). @arg is the program's pointer or value. -ENOTTY for unknown requests. */
UIOMMU_API long uiommu_vfio_ioctl(struct uiommu_vfio_file *file, unsigned long request,
				  unsigned long arg);
/** pread(2) and pwrite(2); @buf is the program's. Devices only; else -EINVAL. */
UIOMMU_API ssize_t uiommu_vfio_pread(struct uiommu_vfio_file *file, void *buf, size_t count,
				     uint64_t offset);
UIOMMU_API ssize_t uiommu_vfio_pwrite(struct uiommu_vfio_file *file, const void *buf, size_t count,
				      uint64_t offset);

/** What a mmap(2) of a device's or a bank's file reaches. */
struct uiommu_vfio_mapping {
	/** A doorbell's page, by its address behind the translation, or 0. The program must not
	 * reach anything there; it may give the page to MAP_DMA (doorbell_at()). No other field
	 * holds then. */
	uint64_t doorbell;
	struct uiommu_function *function;
	unsigned bar;
	uint64_t offset; /**< in the BAR */
	int fd;		 /**< map this file */
	uint64_t fd_offset;
	bool trap_reads; /**< map without any permission, not only read-only */
	/** Ordinary memory, which is mapped a second time with mremap(2), or NULL. No field but the
	 * next holds then. */
	void *memory;
	/** Of kind UIOMMU_VFIO_PAGE; to be released when the mapping is gone, or could not be made.
	 */
	struct uiommu_vfio_file *held;
};
/** Check a mmap(2) and say what to map. -EINVAL as in vfio_pci_core_mmap(). */
UIOMMU_API int uiommu_vfio_mmap(struct uiommu_vfio_file *file, size_t length, int prot, int flags,
				uint64_t offset, struct uiommu_vfio_mapping *mapping);

/** Walk the address spaces in use, for pictures and statistics. */
UIOMMU_API void uiommu_vfio_each_ioas(struct uiommu_vfio *vfio,
				      void (*each)(void *ctx, struct uiommu_ioas *ioas,
						   const char *name),
				      void *ctx);

/** Around fork(); call around the machine's own: prepare before it, parent and child after it. */
UIOMMU_API void uiommu_vfio_fork_prepare(struct uiommu_vfio *vfio);
UIOMMU_API void uiommu_vfio_fork_parent(struct uiommu_vfio *vfio);
UIOMMU_API void uiommu_vfio_fork_child(struct uiommu_vfio *vfio);

/** Sums over all address spaces, those released included. */
struct uiommu_vfio_stats {
	uint64_t maps, unmaps;	   /**< MAP_DMA done; UNMAP_DMA that removed something */
	uint64_t live, live_bytes; /**< mappings now */
	uint64_t most, largest;	   /**< most at once; bytes of the largest */
	uint64_t refused;	   /**< requests refused, of any kind */
};
UIOMMU_API void uiommu_vfio_stats(struct uiommu_vfio *vfio, struct uiommu_vfio_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
