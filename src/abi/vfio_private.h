/* SPDX-License-Identifier: MIT */
/*
 * What the files of the VFIO front end share: the objects behind its files, and their locks.
 *
 * Lock order: uiommu_vfio.lock > vfio_container.lock > vfio_device.lock >
 * uiommu_vfio.waiter.lock; under vfio_device.lock also vfio_device.irq_lock. That is a leaf: it is
 * taken from interrupt handlers, which run on a function's worker with that function's lock held,
 * and even inside a trap handler of the program; nothing is called under it but poll() and write()
 * on an eventfd.
 *
 * uiommu_vfio.memory.lock is a leaf as well, taken under an address space's lock.
 *
 * Groups and devices are made once, for the functions the machine has when the front end is
 * created, and live as long as it. Containers live while their file is open or a group is in them.
 */
#ifndef ABI_VFIO_PRIVATE_H
#define ABI_VFIO_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include <uiommu/vfio.h>

#include "util/imap.h"
#include "util/refuse.h"

#define VFIO_OFFSET_SHIFT 40
#define VFIO_OFFSET_MASK  ((UINT64_C(1) << VFIO_OFFSET_SHIFT) - 1)
#define VFIO_PAGE	  UINT64_C(4096)

struct vfio_iommu;
struct vfio_group;
struct vfio_config;
struct iommufd;
struct iommufd_device;
struct iommufd_group;
struct iommufd_queue;
struct iommufd_page;
struct iommufd_access;
struct iommufd_dmabuf;
struct iommufd_mock;

/* /dev/vfio/vfio. */
struct vfio_container {
	struct uiommu_vfio *vfio;
	struct vfio_container *next; /* vfio.lock */
	unsigned number;	     /* for people */
	unsigned refs;		     /* vfio.lock: its file, and each group in it */
	unsigned groups;	     /* vfio.lock */
	pthread_mutex_t lock;
	/* Set between SET_IOMMU and the leaving of the last group; changed under both locks, so
	 * that either suffices to look. */
	struct vfio_iommu *iommu;
};

/* Where one interrupt of a device goes. */
struct vfio_vector {
	struct vfio_device *device;
	int trigger;		/* irq_lock: our descriptor of an eventfd, or -1 */
	bool allocated;		/* device.lock: has a message of the platform's */
	struct uiommu_irq *irq; /* MSI-X: the block it has */
	struct uiommu_msi_message message;
};

/* Configuration registers of the host's that a reset must not lose. */
struct vfio_saved_state {
	uint32_t header[16];
	uint16_t device_control, device_control2;
};

/* One function, held by vfio-pci or not. */
struct vfio_device {
	struct uiommu_vfio *vfio;
	struct uiommu_function *fn;
	const struct uiommu_function_info *info;
	struct vfio_group *group;
	bool bound;	     /* vfio-pci holds it */
	unsigned open_count; /* vfio.lock */
	bool by_group;	     /* vfio.lock: it was opened through its group, which it holds open */
	/* vfio.lock: what it is bound to, and as what. */
	struct iommufd *iommufd;
	struct iommufd_device *bound_device;
	/* iommufd.lock: attached by its node, without the PASID flag, and with it as PASID 0. */
	bool attached, attached_as_0;
	bool needs_reset; /* vfio.lock: closed, and could not be reset by itself */
	pthread_mutex_t lock;
	/* From here on device.lock, and only while open_count > 0. */
	struct vfio_config *config;
	struct uiommu_ioas *ioas;      /* what it is attached to; NULL: it is not translated */
	struct vfio_saved_state saved; /* as it was at the first open */
	bool reset_works;
	bool low_power;	   /* by VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY */
	int wakeup;	   /* eventfd to signal when low power ends, or -1 */
	unsigned irq_type; /* VFIO_PCI_*_IRQ_INDEX, or VFIO_PCI_NUM_IRQS: none. Also irq_lock */
	unsigned msi_qmax; /* log2 of the MSI vectors enabled */
	struct vfio_vector *vectors; /* for MSI and MSI-X: one for each the hardware has */
	unsigned vector_count;
	struct uiommu_irq *msi_irq; /* the block of all MSI vectors */
	unsigned msi_block;	    /* vectors in it */
	/* What the helper thread waits for: the registrations and the last one's number. */
	int unmask; /* eventfd that unmasks INTx, or -1 */
	uint32_t unmask_serial, wait_serial;
	struct vfio_ioeventfd *ioeventfds;
	unsigned ioeventfd_count;
	/* Interrupt state: irq_lock, a leaf. */
	pthread_mutex_t irq_lock;
	int intx, err, req; /* eventfds, or -1 */
	bool intx_masked;   /* by the user, or automatically when it was signalled */
	bool intx_level;    /* the pin */
	bool intx_disabled; /* the user's view of the command register's bit */
};

/* /dev/vfio/NUMBER. */
struct vfio_group {
	unsigned number;
	struct vfio_container *container; /* vfio.lock */
	unsigned refs;			  /* vfio.lock: its file, and each open device */
	struct iommufd *iommufd;	  /* vfio.lock: instead of a container */
	unsigned nodes;			  /* vfio.lock: devices opened by their own node */
	/* vfio.lock: devices bound to an iommufd, which then owns the group's DMA. */
	unsigned bound;
	struct iommufd *owner;
	struct iommufd_group *together; /* as it knows them */
};

struct uiommu_vfio_file {
	enum uiommu_vfio_kind kind;
	struct uiommu_vfio *vfio;
	struct uiommu_vfio_file *next; /* vfio.lock */
	bool node;		       /* a device's own node, not from its group */
	bool bound;		       /* vfio.lock: such a one holds its device open */
	_Atomic bool granted;	       /* and the program was told so, and can use it */
	/* Such a one, as of 2021: by which descriptor, and what it is attached to. iommufd.lock. */
	int iommu_fd, ioasid;
	union {
		struct vfio_container *container;
		struct vfio_group *group;
		struct vfio_device *device;
		const struct uiommu_doorbell *bank;
		struct iommufd *iommufd;
		struct iommufd_queue *queue;
		struct iommufd_page *page;
		struct iommufd_access *access;
		struct iommufd_dmabuf *dmabuf;
	};
};

/* An eventfd that makes a store to a BAR. */
struct vfio_ioeventfd {
	struct vfio_ioeventfd *next;
	int fd; /* ours */
	uint32_t serial;
	unsigned bar, len;
	uint64_t pos, data;
};

/* The helper thread that waits for eventfds of the program's. Started by the first one. */
struct vfio_waiter {
	pthread_mutex_t lock;
	pthread_t thread;
	bool running;
	int epoll, stop; /* -1: not there */
};

/* The sums of uiommu_vfio_stats(). */
struct vfio_counters {
	_Atomic uint64_t maps, unmaps, live, live_bytes, most, largest, refused;
};

/* Memory that the program has registered for mapping (vfio_spapr_memory.c). */
struct vfio_memory_list {
	pthread_mutex_t lock; /* a leaf */
	struct imap pieces;   /* by address; the value is the struct vfio_memory */
};

struct uiommu_vfio {
	struct uiommu_machine *machine;
	const struct uiommu_platform_facts *facts;
	struct uiommu_vfio_host host;
	unsigned dma_entry_limit;
	bool memlock, unsafe_interrupts;
	bool iommufd_rfc; /* /dev/iommu and nodes are those of 2021 */
	struct vfio_group *groups;
	struct vfio_device *devices;
	size_t group_count, device_count;
	_Atomic uint64_t locked_pages; /* of all containers, as mm->locked_vm */
	_Atomic uint64_t user_pages;   /* of iommufds that count by user */
	pthread_mutex_t account_lock;  /* a leaf: who needs which pages (iommufd_account.c) */
	struct vfio_counters counters;
	struct vfio_waiter waiter;
	struct vfio_memory_list memory;
	struct iommufd_hw *hw;	   /* what iommufd is told of the machine's IOMMU; constant */
	struct iommufd_mock *mock; /* of IOMMU_TEST_CMD; NULL: there is none */
	pthread_mutex_t lock;
	/* vfio.lock */
	struct vfio_container *containers;
	struct iommufd *iommufds;
	unsigned next_container, next_iommufd;
	struct uiommu_vfio_file *files;
};

/* ---- vfio_host.c: the program's memory and descriptors ----------------------------------------
 */

int vfio_copy_in(const struct uiommu_vfio *vfio, void *to, uint64_t from, size_t len);
int vfio_copy_out(const struct uiommu_vfio *vfio, uint64_t to, const void *from, size_t len);
/* Copy the first @min bytes of a struct that starts with argsz. Once: nothing is read again. */
int vfio_copy_sized(const struct uiommu_vfio *vfio, void *to, uint64_t arg, size_t min);
/* Take in a struct of @size bytes of which the program knows @user_size: what it lacks stays as it
 * is in *to, what is behind ours must be zero (-E2BIG). */
int vfio_copy_struct(const struct uiommu_vfio *vfio, void *to, size_t size, uint64_t arg,
		     uint64_t user_size);
/* A NUL-terminated string of less than @room bytes. */
int vfio_copy_string(const struct uiommu_vfio *vfio, char *to, uint64_t from, size_t room);
/* Tell what Linux would write into its log. */
void vfio_log(const struct uiommu_vfio *vfio, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Refuse without ranges. */
int vfio_refuse(enum uiommu_rule rule, int error, const char *owner);

int vfio_eventfd_get(const struct uiommu_vfio *vfio, int fd);
void vfio_eventfd_put(const struct uiommu_vfio *vfio, int fd);
/* Add 1, unless that would block. Async-signal-safe; -1 is ignored. */
void vfio_eventfd_signal(int fd);
/* Take what there is, without blocking. True if there was something. */
bool vfio_eventfd_take(int fd);
/* The error for a descriptor that file_of() doesn't know: -EBADF if it is closed, else @other. */
int vfio_unknown_descriptor(int fd, int other);

/* Map a file of the program's for ourselves, whole pages of it: 0 and where, or a refusal. */
int vfio_map_file(const struct uiommu_vfio *vfio, int fd, uint64_t offset, uint64_t length,
		  bool write, uint64_t *addr);
void vfio_unmap_file(const struct uiommu_vfio *vfio, uint64_t addr, uint64_t length);

/* A chain of capabilities as it follows an info struct of @base bytes. */
struct vfio_caps {
	uint8_t *buf;
	size_t base, size, room, last;
};
void vfio_caps_init(struct vfio_caps *caps, size_t base);
int vfio_caps_add(struct vfio_caps *caps, uint16_t id, const void *body, size_t len);
void vfio_caps_free(struct vfio_caps *caps);
/* Say in *@argsz what is needed, or write the chain behind the struct at @arg and say where. */
int vfio_caps_out(const struct uiommu_vfio *vfio, const struct vfio_caps *caps, uint64_t arg,
		  uint32_t *argsz, uint32_t *cap_offset);

/* ---- vfio.c: files ----------------------------------------------------------------------------
 */

/* Make a file and put it on the list. vfio.lock held. NULL: no memory. */
struct uiommu_vfio_file *vfio_file_create(struct uiommu_vfio *vfio, enum uiommu_vfio_kind kind,
					  void *object);
/* The file behind a descriptor if it is one of @kind; else NULL and an error in *@error, which is
 * @other for files of another kind. vfio.lock not held: ask vfio_file_known() under it. */
struct uiommu_vfio_file *vfio_file_from_fd(struct uiommu_vfio *vfio, int fd,
					   enum uiommu_vfio_kind kind, int other, int *error);
/* Is it (still) a file of that kind? vfio.lock held. */
bool vfio_file_known(const struct uiommu_vfio *vfio, const struct uiommu_vfio_file *file,
		     enum uiommu_vfio_kind kind);

/* ---- vfio_container.c, vfio_group.c (vfio.lock held unless said) -------------------------------
 */

struct vfio_container *vfio_container_create(struct uiommu_vfio *vfio);
void vfio_container_put(struct vfio_container *container);
/* vfio.lock not held. */
long vfio_container_ioctl(struct vfio_container *container, uint32_t request, uint64_t arg);
int vfio_container_attach_group(struct vfio_container *container, struct vfio_group *group);
void vfio_container_detach_group(struct vfio_container *container, struct vfio_group *group);

struct vfio_group *vfio_group_find(struct uiommu_vfio *vfio, unsigned number);
/* Has no other driver a function of the group? Else why not, for people. */
bool vfio_group_viable(const struct uiommu_vfio *vfio, const struct vfio_group *group, char *why,
		       size_t len);
bool vfio_group_has_bound(const struct uiommu_vfio *vfio, const struct vfio_group *group);
void vfio_group_put(struct uiommu_vfio *vfio, struct vfio_group *group);
/* vfio.lock not held. */
long vfio_group_ioctl(struct uiommu_vfio *vfio, struct vfio_group *group, uint32_t request,
		      uint64_t arg);

/* ---- the IOMMU of a container; vfio_iommu.c ---------------------------------------------------
 */

/*
 * A driver: one or more types that SET_IOMMU can ask for. Its requests are made under the
 * container's lock; create, attach, detach and destroy under vfio.lock too.
 */
struct vfio_iommu_ops {
	/* enum uiommu_vfio_types: the machines that have it */
	unsigned machines;
	/* Does SET_IOMMU(type) mean this driver? */
	bool (*has_type)(const struct uiommu_vfio *vfio, uint64_t type);
	int (*create)(struct uiommu_vfio *vfio, uint64_t type, struct vfio_iommu **out);
	/* All groups are detached. */
	void (*destroy)(struct vfio_iommu *iommu);
	/* Attach all functions of a group, or none. */
	int (*attach)(struct vfio_iommu *iommu, const struct vfio_group *group);
	void (*detach)(struct vfio_iommu *iommu, const struct vfio_group *group);
	/* -ENOTTY for requests it doesn't have. */
	long (*ioctl)(struct vfio_iommu *iommu, uint32_t request, uint64_t arg);
	/* CHECK_EXTENSION, of an IOMMU or, if that is NULL, of the driver. */
	long (*extension)(const struct uiommu_vfio *vfio, const struct vfio_iommu *iommu,
			  uint64_t extension);
};

/* What every driver's IOMMU begins with. */
struct vfio_iommu {
	const struct vfio_iommu_ops *ops;
	struct uiommu_vfio *vfio;
	struct uiommu_ioas *ioas;     /* the same from creation to destruction; may be NULL */
	struct uiommu_domain *domain; /* what the group's functions are attached to */
};

extern const struct vfio_iommu_ops vfio_type1_ops;
extern const struct vfio_iommu_ops vfio_pamu_ops;
extern const struct vfio_iommu_ops vfio_spapr_ops;
extern const struct vfio_iommu_ops vfio_noiommu_ops;

/* The driver of a type on this machine, or NULL. */
const struct vfio_iommu_ops *vfio_iommu_driver(const struct uiommu_vfio *vfio, uint64_t type);
/* What this machine has instead, for people. */
const char *vfio_iommu_types(const struct uiommu_vfio *vfio);
/* CHECK_EXTENSION of the drivers that this machine's groups can use; @loaded: of those too that are
 * merely there, which is what a container without a group shows. */
long vfio_iommu_extension(const struct uiommu_vfio *vfio, bool loaded, uint64_t extension);
/* A domain in the platform's format, named after it. */
int vfio_iommu_domain(struct uiommu_vfio *vfio, struct uiommu_ioas *ioas,
		      struct uiommu_domain **out);
/* Attach all functions of a group to the IOMMU's domain with the platform's regions, or none. */
int vfio_iommu_attach(struct vfio_iommu *iommu, const struct vfio_group *group);
void vfio_iommu_detach(struct vfio_iommu *iommu, const struct vfio_group *group);

/* What GET_INFO says of an address space: its page sizes, where those below a page of ours are
 * hidden as the kernel hides those below its own, and the capability with its ranges, if it has
 * any. */
uint64_t vfio_iommu_page_sizes(const struct uiommu_vfio *vfio, struct uiommu_ioas *ioas);
int vfio_iommu_add_ranges(struct uiommu_ioas *ioas, struct vfio_caps *caps);

/* Count a mapping that was made, or is gone, in the statistics; the first also as a request. */
void vfio_count_map(struct uiommu_vfio *vfio, uint64_t bytes);
void vfio_count_removed(struct uiommu_vfio *vfio, uint64_t bytes);
/* The same in two steps, where areas are no requests: a request that mapped so much; areas and
 * bytes more than before it (less: wraps). */
void vfio_count_call(struct uiommu_vfio *vfio, uint64_t bytes);
void vfio_count_areas(struct uiommu_vfio *vfio, uint64_t areas, uint64_t bytes);
/* Charge pages to RLIMIT_MEMLOCK, if that is asked for: -ENOMEM. */
int vfio_charge(struct uiommu_vfio *vfio, uint64_t pages);
/* To one of its counters. */
int vfio_charge_to(struct uiommu_vfio *vfio, _Atomic uint64_t *counter, uint64_t pages);
void vfio_uncharge(struct uiommu_vfio *vfio, uint64_t pages);
/* Is the memory at [vaddr, vaddr + bytes) there, for a mapping at iova? -EFAULT. */
int vfio_check_source(const struct uiommu_vfio *vfio, struct uiommu_range iova, uint64_t vaddr,
		      uint64_t bytes, int prot);

/* ---- vfio_spapr_memory.c ----------------------------------------------------------------------
 */

void vfio_memory_init(struct vfio_memory_list *list);
/* All containers are gone. */
void vfio_memory_fini(struct vfio_memory_list *list);

/* ---- vfio_noiommu.c ---------------------------------------------------------------------------
 */

bool vfio_is_noiommu(const struct uiommu_vfio *vfio);
/* May the program do this to a group without an IOMMU? -EPERM. 0 for other groups. */
int vfio_noiommu_capable(const struct uiommu_vfio *vfio);

/* ---- vfio_type1.c, vfio_dirty.c ---------------------------------------------------------------
 */

/* An IOMMU of type 1. All fields but the pointers: the container's lock. */
struct vfio_type1 {
	struct vfio_iommu iommu;
	bool v2;
	bool tracking; /* dirty pages */
	unsigned avail;
	struct uiommu_range msi; /* what the program gave for doorbells, or NONE */
	/* First addresses of the mappings whose vaddr is invalid, in no order. */
	uint64_t *invalid;
	size_t invalid_count, invalid_room;
};

/* Type 1 on an address space of somebody else's, who sets iommu.ioas and attaches what is to be
 * attached: all fields zero before, and its mappings gone after. */
void vfio_type1_init(struct vfio_type1 *type1, struct uiommu_vfio *vfio, bool v2);
void vfio_type1_fini(struct vfio_type1 *type1);
void vfio_type1_unmap_all(struct vfio_type1 *type1);

uint64_t vfio_type1_page(const struct vfio_type1 *type1);

/* Does the range hit a reserved region? Then it is refused. */
bool vfio_type1_blocked(const struct vfio_type1 *type1, struct uiommu_range range);

/* vfio_type1_msi.c: on machines whose facts have program_msi. */
int vfio_type1_msi_caps(const struct vfio_type1 *type1, struct vfio_caps *caps);
int vfio_type1_msi_map(struct vfio_type1 *type1, const struct vfio_iommu_type1_dma_map *map);
/* Take the range back if it lies in this one, adding its size. */
int vfio_type1_msi_unmap(struct vfio_type1 *type1, struct uiommu_range range, uint64_t *bytes);

/* Does [first, last] cut a mapping at one of its ends? Then it is in *@area. */
bool vfio_type1_cuts(struct vfio_type1 *type1, struct uiommu_range range, struct uiommu_area *area);

long vfio_type1_dirty_pages(struct vfio_type1 *type1, uint64_t arg);
/* Check a bitmap of the program's for @size bytes of IOVAs. */
int vfio_dirty_check_bitmap(const struct vfio_bitmap *bitmap, uint64_t size);
/* Report all areas in @range as dirty, in a bitmap that starts at range.first. On failure *@done is
 * the last IOVA that was reported, if *@any. */
int vfio_dirty_report(struct vfio_type1 *type1, const struct vfio_bitmap *bitmap,
		      struct uiommu_range range, uint64_t *done, bool *any);

/* ---- vfio_pamu.c, vfio_pamu_attr.c ------------------------------------------------------------
 */

/* An IOMMU of VFIO_FSL_PAMU_IOMMU. All fields: the container's lock. */
struct vfio_pamu {
	struct vfio_iommu iommu;
	struct uiommu_range geometry; /* as it was set last */
	bool geometry_set;
	unsigned count;		      /* of windows, as GET_ATTR tells it */
	struct uiommu_range aperture; /* that the windows divide */
	uint64_t window;	      /* size of one; 0: none since the geometry was set */
	unsigned ours;		      /* windows at the end that are kept for MSI banks */
	uint64_t mapped;	      /* areas of MAP_DMA */
	bool enabled;		      /* devices reach the aperture */
	uint32_t stash_cpu, stash_cache;
};

/* An area that MAP_MSI_BANK made, not MAP_DMA, and the IOVA that it was given. */
bool vfio_pamu_is_bank(const struct uiommu_area *area, uint64_t *iova);
/* Forget everything that is mapped. */
void vfio_pamu_unmap_all(struct vfio_pamu *pamu);
/* The area that was removed was a mapping of MAP_DMA's, or a bank. For uiommu_ioas_unmap(). */
void vfio_pamu_area_removed(void *ctx, const struct uiommu_area *area);

long vfio_pamu_get_attr(struct vfio_pamu *pamu, uint64_t arg);
long vfio_pamu_set_attr(struct vfio_pamu *pamu, uint64_t arg);
/* Windows before the first is set: the most that can be asked for. */
unsigned vfio_pamu_most_windows(const struct uiommu_vfio *vfio);
/* A domain as attributes say it. */
struct uiommu_domain_options vfio_pamu_domain_options(const struct uiommu_vfio *vfio,
						      struct uiommu_range aperture,
						      unsigned windows);

long vfio_pamu_map_bank(struct vfio_pamu *pamu, uint64_t arg);
long vfio_pamu_unmap_bank(struct vfio_pamu *pamu, uint64_t arg);
/* VFIO_GROUP_GET_MSI_FD. No lock held. */
long vfio_pamu_bank_fd(struct uiommu_vfio *vfio, struct vfio_group *group, uint64_t index);

/* ---- vfio_cdev.c: devices and iommufd ----------------------------------------------------------
 */

/* What iommufd is told of the machine's IOMMU; NULL: no memory, or it has none. */
struct iommufd_hw *vfio_hw_create(const struct uiommu_vfio *vfio);
void vfio_hw_destroy(struct iommufd_hw *hw);
/* Bind a device to an iommufd and open it, vfio.lock held; and undo it. */
int vfio_bind(struct vfio_device *device, struct iommufd *iommufd, uint32_t *id);
/* The same of a device whose own node the file is; it may be used once that is granted. */
int vfio_node_bind(struct uiommu_vfio_file *file, struct iommufd *iommufd, uint32_t *id);
void vfio_unbind(struct vfio_device *device);
/* Bind a device of a group that uses iommufd, and attach it to the address space of its container
 * requests. vfio.lock held. */
int vfio_bind_compat(struct vfio_device *device);
/* Its last descriptor is gone: unbind it if it is bound. vfio.lock not held. */
void vfio_node_close(struct uiommu_vfio_file *file);
/* Requests of a device's own node; vfio.lock not held. -ENOTTY: one that every device has. */
long vfio_node_ioctl(struct uiommu_vfio_file *file, uint32_t request, uint64_t arg);

/* ---- vfio_device.c, vfio_reset.c --------------------------------------------------------------
 */

/* First and last open; the first says what it is attached to. vfio.lock held, device.lock not. */
int vfio_device_open(struct vfio_device *device, struct uiommu_ioas *ioas);
void vfio_device_close(struct vfio_device *device);
/* No lock held. */
long vfio_device_ioctl(struct vfio_device *device, uint32_t request, uint64_t arg);
/* Something touches the device: it leaves low power if it was to be woken. device.lock held. */
void vfio_device_wake(struct vfio_device *device);
unsigned vfio_device_irq_count(const struct vfio_device *device, unsigned index);
uint64_t vfio_device_bar_size(const struct vfio_device *device, unsigned bar);

bool vfio_reset_possible(const struct vfio_device *device);
/* Reset and put the host's registers back. device.lock held. */
void vfio_reset_function(struct vfio_device *device);
void vfio_save_state(const struct vfio_device *device, struct vfio_saved_state *state);
void vfio_restore_state(const struct vfio_device *device, const struct vfio_saved_state *state);
/* After the last open device of a bus was closed. vfio.lock held. */
void vfio_reset_bus_if_unused(struct vfio_device *closed);
/* No lock held. */
long vfio_hot_reset_info(struct vfio_device *device, uint64_t arg);
long vfio_hot_reset(struct vfio_device *device, uint64_t arg);

/* ---- vfio_config.c, vfio_config_map.c, vfio_rw.c (device.lock held unless said)
 * ----------------------
 */

/* What is no capability: the standard header, and the gaps, which are raw hardware. */
#define VFIO_CAP_BASIC 0x00
#define VFIO_CAP_RAW   0xff

/*
 * The user's view of configuration space, byte by byte. Bits in virt are read from, and written to,
 * vconfig; others are the hardware's. Bits not in write can't be written.
 */
struct vfio_config {
	unsigned size;
	uint8_t vconfig[4096];
	uint8_t virt[4096];
	uint8_t write[4096];
	uint8_t cap[4096];    /* ID of the capability a byte belongs to */
	uint16_t start[4096]; /* where that begins */
};

int vfio_config_create(struct vfio_device *device, struct vfio_config **out);
void vfio_config_destroy(struct vfio_config *config);
/* Fill in the masks and the capability chains. */
void vfio_config_build(struct vfio_config *config, struct uiommu_function *fn);
/* Can the user reach the BARs? */
bool vfio_config_memory_enabled(const struct vfio_device *device);
ssize_t vfio_config_rw(struct vfio_device *device, uint64_t buf, size_t count, uint64_t pos,
		       bool write);
uint16_t vfio_config_get16(const struct vfio_config *config, unsigned pos);
void vfio_config_set16(struct vfio_config *config, unsigned pos, uint16_t value);
/* device.lock not held. */
ssize_t vfio_device_rw(struct vfio_device *device, uint64_t buf, size_t count, uint64_t offset,
		       bool write);

/* ---- vfio_irqs.c, vfio_intx.c (device.lock held unless said) -----------------------------------
 */

long vfio_set_irqs(struct vfio_device *device, uint64_t arg);
/* Take everything down. */
void vfio_irqs_disable(struct vfio_device *device);
/* Program the hardware again after a reset. */
void vfio_irqs_restore(struct vfio_device *device);
/* The device is about to be attached elsewhere: its doorbells must stand there at the same places.
 * Then vfio_irqs_moved() says whether it was. */
int vfio_irqs_moving(struct vfio_device *device, struct uiommu_ioas *ioas);
void vfio_irqs_moved(struct vfio_device *device, bool done);
/* Put @fd, which may be -1, in *@slot and release what was there. */
void vfio_irq_replace(struct vfio_device *device, int *slot, int fd);

int vfio_intx_set(struct vfio_device *device, uint32_t flags, unsigned start, unsigned count,
		  const void *data);
void vfio_intx_disable(struct vfio_device *device);
void vfio_intx_attach(struct vfio_device *device);
void vfio_intx_detach(struct vfio_device *device);
/* Any lock but irq_lock may be held. */
void vfio_intx_mask(struct vfio_device *device);
void vfio_intx_unmask(struct vfio_device *device);

/* An eventfd that was registered under this number is signalled: is it INTx's? */
bool vfio_intx_event(struct vfio_device *device, uint32_t serial);

/* ---- vfio_ioeventfd.c (device.lock held) -------------------------------------------------------
 */

long vfio_ioeventfd(struct vfio_device *device, uint64_t arg);
void vfio_ioeventfds_remove(struct vfio_device *device);
/* As vfio_intx_event(). */
void vfio_ioeventfd_event(struct vfio_device *device, uint32_t serial);

/* ---- vfio_waiter.c -----------------------------------------------------------------------------
 */

void vfio_waiter_init(struct uiommu_vfio *vfio);
void vfio_waiter_fini(struct uiommu_vfio *vfio);
void vfio_waiter_fork_child(struct uiommu_vfio *vfio);
/* Wait for an eventfd of the program's: a descriptor of our own for it, or an error, and the number
 * that its events will carry. device.lock held, as in the next. */
int vfio_waiter_add(struct vfio_device *device, int fd, uint32_t *serial);
void vfio_waiter_remove(struct vfio_device *device, int own);

#endif
