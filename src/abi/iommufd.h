/* SPDX-License-Identifier: MIT */
/*
 * What the files of the iommufd front end share: a context (/dev/iommu) with its objects, and what
 * a device has to say to be bound to one. Bit-exact to Linux 7.2 (<uiommu/linux/iommufd.h>).
 *
 * Objects are found by number. Whoever uses one without the context's lock holds it meanwhile
 * (iommufd_get()), and destroying it waits for that; objects that other objects rest on have users,
 * and destroying them is EBUSY. An object under construction has a number, but is not found.
 *
 * Lock order: uiommu_vfio.lock > iommufd.lock > vfio_device.lock > an address space's;
 * iommufd_ioas.pins_lock > an address space's > iommufd.files_lock and uiommu_vfio.account_lock,
 * leaves; iommufd_viommu.leaf > a queue's, which are leaves.
 */
#ifndef ABI_IOMMUFD_H
#define ABI_IOMMUFD_H

#include <pthread.h>
#include <stdatomic.h>

#include <uiommu/linux/iommufd.h>
#include <uiommu/vfio.h>

#include "util/imap.h"

struct uiommu_vfio;
struct iommufd;
struct iommufd_hw_queue;
struct iommufd_queue;
struct iommufd_viommu;

enum iommufd_type {
	IOMMUFD_DEVICE,
	IOMMUFD_IOAS,
	IOMMUFD_HWPT_PAGING,
	IOMMUFD_HWPT_NESTED,
	IOMMUFD_FAULT_QUEUE,
	IOMMUFD_VIOMMU,
	IOMMUFD_VDEVICE,
	IOMMUFD_VEVENT_QUEUE,
	IOMMUFD_HW_QUEUE,
	IOMMUFD_TEST, /* of the kernel's selftests */
};

struct iommufd_object {
	enum iommufd_type type;
	uint32_t id;
	size_t size;
	bool ready;	/* can be found */
	bool removing;	/* iommufd_object_remove() is under way */
	unsigned users; /* objects and devices that rest on it */
	unsigned held;	/* requests that use it now */
	/* Undo what was made of it: the object is not found any more and nobody rests on it.
	 * iommufd.lock held. NULL: nothing to undo. */
	void (*destroy)(struct iommufd *iommufd, struct iommufd_object *object);
};

struct iommufd {
	struct uiommu_vfio *vfio;
	struct iommufd *next; /* vfio.lock */
	unsigned number;      /* for people */
	unsigned refs;	      /* vfio.lock: its file, devices bound to it, groups that use it */
	pthread_mutex_t lock;
	/* From here on: lock. */
	pthread_cond_t idle;		 /* an object is held no longer */
	struct iommufd_object **objects; /* by number, less one */
	size_t room;
	size_t lowest;		     /* no free place is below */
	size_t held;		     /* of all objects */
	struct iommufd_ioas *compat; /* the address space of its container requests */
	bool process_accounting;     /* IOMMU_OPTION_RLIMIT_MODE */
	/* The program's files that are mapped: by our own address of them. files_lock. */
	pthread_mutex_t files_lock;
	struct imap files;
	struct iommufd_page *pages; /* that the program can map; lock */
};

/* A request: the program's struct, copied once. */
struct iommufd_call {
	struct iommufd *iommufd;
	struct uiommu_vfio *vfio;
	uint64_t arg;
	uint32_t user_size, size;    /* the program's size; ours */
	struct iommufd_object *made; /* becomes an object if the request succeeds */
	union {
		struct iommu_destroy destroy;
		struct iommu_ioas_alloc ioas_alloc;
		struct iommu_ioas_iova_ranges ranges;
		struct iommu_ioas_allow_iovas allow;
		struct iommu_ioas_map map;
		struct iommu_ioas_map_file map_file;
		struct iommu_ioas_copy copy;
		struct iommu_ioas_unmap unmap;
		struct iommu_option option;
		struct iommu_vfio_ioas vfio_ioas;
		struct iommu_hwpt_alloc hwpt_alloc;
		struct iommu_hw_info hw_info;
		struct iommu_hwpt_set_dirty_tracking set_dirty;
		struct iommu_hwpt_get_dirty_bitmap get_dirty;
		struct iommu_hwpt_invalidate invalidate;
		struct iommu_fault_alloc fault_alloc;
		struct iommu_viommu_alloc viommu_alloc;
		struct iommu_vdevice_alloc vdevice_alloc;
		struct iommu_ioas_change_process change_process;
		struct iommu_veventq_alloc veventq_alloc;
		struct iommu_hw_queue_alloc hw_queue_alloc;
		uint8_t bytes[96];
	};
};

/* ---- iommufd.c ---- */

/* vfio.lock held. NULL: no memory. */
struct iommufd *iommufd_create(struct uiommu_vfio *vfio);
void iommufd_get_ref(struct iommufd *iommufd);
/* The last one destroys it and all its objects. */
void iommufd_put_ref(struct iommufd *iommufd);
/* Around fork(), vfio.lock held: no request is in the middle of something. */
void iommufd_fork_prepare(struct iommufd *iommufd);
void iommufd_fork_done(struct iommufd *iommufd);
/* vfio.lock not held. */
long iommufd_ioctl(struct iommufd *iommufd, uint32_t request, uint64_t arg);

/* For people; NULL: no request of iommufd's own. */
const char *iommufd_request_name(uint32_t request);
/* vfio.lock held. */
void iommufd_each_ioas(struct iommufd *iommufd,
		       void (*each)(void *ctx, struct uiommu_ioas *ioas, const char *name),
		       void *ctx);

/* Write the struct back, as much of it as the program has. */
int iommufd_respond(const struct iommufd_call *call);
/* A new object of @size bytes with a number, not to be found yet. lock held. NULL: no memory. */
void *iommufd_object_create_locked(struct iommufd *iommufd, size_t size, enum iommufd_type type,
				   void (*destroy)(struct iommufd *, struct iommufd_object *));
/* Now it can be found. lock held. */
void iommufd_object_finish(struct iommufd_object *object);
/* Destroy an object that was made; lock held, nobody rests on it. Waits for requests that hold it.
 */
void iommufd_object_remove(struct iommufd *iommufd, struct iommufd_object *object);
/* The object of a number and type, or NULL. lock held. */
void *iommufd_find(struct iommufd *iommufd, uint32_t id, enum iommufd_type type);
/* The same, held, without the lock: NULL with a refusal (-ENOENT). */
void *iommufd_get(struct iommufd *iommufd, uint32_t id, enum iommufd_type type, const char *what);
void iommufd_put(struct iommufd *iommufd, struct iommufd_object *object);
/* The same with the lock held. */
void iommufd_hold(struct iommufd *iommufd, struct iommufd_object *object);
void iommufd_unhold(struct iommufd *iommufd, struct iommufd_object *object);
/* No such object: -ENOENT. */
int iommufd_refuse_id(const char *what);

/* ---- iommufd_ioas.c ---- */

/* A range that hardware works on, so that it must stay mapped. */
struct iommufd_pin {
	struct iommufd_pin *next;
	struct uiommu_range range;
};

struct iommufd_ioas {
	struct iommufd_object obj;
	struct iommufd *iommufd;
	struct uiommu_ioas *ioas;
	struct iommufd_hwpt *hwpts; /* paging; lock */
	_Atomic bool small_pages;   /* written under lock */
	_Atomic unsigned domains; /* there is somebody to translate for, so memory has to be there;
				     where it is counted, written under pins_lock */
	pthread_mutex_t pins_lock;
	struct iommufd_pin *pins;
	struct iommufd_access *accesses; /* by software; pins_lock */
};

struct iommufd_ioas *iommufd_ioas_create_locked(struct iommufd *iommufd);
/* The address space of an object that has one, under constraints (NULL: none); and its end. */
int iommufd_ioas_init(struct iommufd *iommufd, struct iommufd_ioas *ioas,
		      const struct uiommu_ioas_options *options);
void iommufd_ioas_fini(struct iommufd_ioas *ioas);
int iommufd_ioas_alloc(struct iommufd_call *call);
int iommufd_ioas_allow_iovas(struct iommufd_call *call);
int iommufd_ioas_iova_ranges(struct iommufd_call *call);
int iommufd_ioas_map(struct iommufd_call *call);
int iommufd_ioas_map_file(struct iommufd_call *call);
int iommufd_ioas_copy(struct iommufd_call *call);
int iommufd_ioas_unmap(struct iommufd_call *call);
int iommufd_ioas_change_process(struct iommufd_call *call);
int iommufd_ioas_option(struct iommufd_call *call);
/* Map the program's memory: what MAP_DMA and IOAS_MAP have in common. *iova is where, and is
 * chosen unless @fixed. */
int iommufd_map_user(struct iommufd_ioas *ioas, uint64_t vaddr, uint64_t length, int prot,
		     bool fixed, uint64_t *iova);
/* Unmap whole areas in a range, in their order up to one that can't be. */
int iommufd_unmap_range(struct iommufd *iommufd, struct iommufd_ioas *ioas,
			struct uiommu_range range, uint64_t *bytes);
int iommufd_unmap_all(struct iommufd *iommufd, struct iommufd_ioas *ioas, uint64_t *bytes);
/* Cut the area that @iova lies inside of there; nothing if it begins there, or there is none. */
int iommufd_cut(struct iommufd *iommufd, struct iommufd_ioas *ioas, uint64_t iova);
/* One more domain translates for it; at the first the memory of all areas has to be there, and may
 * be pinned: -EFAULT, -ENOMEM. One less. */
int iommufd_ioas_add_domain(struct iommufd_ioas *ioas);
void iommufd_ioas_drop_domain(struct iommufd_ioas *ioas);
/* Is all of the range mapped, by whatever areas? */
bool iommufd_ioas_covers(struct iommufd_ioas *ioas, struct uiommu_range range);
/* One more, or one less, area shows the file that is at our address @addr; if it is one. */
void iommufd_file_count(struct iommufd *iommufd, uint64_t addr, int change);
/* An area has gone: for the engine's callbacks, whose context is its struct iommufd_ioas. */
void iommufd_area_removed(void *ctx, const struct uiommu_area *area);
/* Keep a mapped range from being unmapped. -ENOENT: not all of it is mapped. */
int iommufd_pin(struct iommufd_ioas *ioas, struct uiommu_range range, struct iommufd_pin *pin);
void iommufd_unpin(struct iommufd_ioas *ioas, struct iommufd_pin *pin);

/* ---- accounting: iommufd_account.c ---- */

struct iommufd_memory;

/* What is about to be mapped, for the area's tag: NULL if nothing is counted. -ENOMEM. */
int iommufd_memory_create(struct iommufd *iommufd, uint64_t addr, uint64_t length,
			  struct iommufd_memory **out);
/* One more, or one less, area shows it. NULL is fine. */
void iommufd_memory_get(struct iommufd *iommufd, struct iommufd_memory *memory);
void iommufd_memory_put(struct iommufd *iommufd, struct iommufd_memory *memory);
/* Its pages that the area shows are needed once more: -ENOMEM; or once less. Under the pins_lock of
 * the area's address space. */
int iommufd_memory_need(struct iommufd *iommufd, const struct uiommu_area *area);
void iommufd_memory_unneed(struct iommufd *iommufd, const struct uiommu_area *area);
/* The same for all areas in a range, once @check (or NULL) says 0 of each; all or nothing. */
int iommufd_ioas_need(struct iommufd_ioas *ioas, struct uiommu_range range,
		      int (*check)(struct iommufd *iommufd, const struct uiommu_area *area));
void iommufd_ioas_unneed(struct iommufd_ioas *ioas, struct uiommu_range range);

/* ---- devices: iommufd_device.c ---- */

struct iommufd_device;
struct iommufd_hwpt;

/* The table of a paging HWPT. */
struct iommufd_tables {
	const char *format;
	unsigned width;
	struct uiommu_range aperture;
	uint64_t page_sizes;
};

/* What a kind of IOMMU has of its own. What is NULL it has nothing to say to. lock held in all. */
struct iommufd_hw_ops {
	/* HWPT_ALLOC of a paging HWPT with data of the program's: other tables than the usual. */
	int (*tables)(struct iommufd_call *call, struct iommufd_tables *tables);
	/* The last word before a device is attached by this PASID; NULL: it is leaving, which is
	 * not refused. */
	int (*attach)(struct iommufd_device *device, uint32_t pasid, struct iommufd_hwpt *hwpt);
};

/* What kind of IOMMU a device is behind. Constant, outlives the device. */
struct iommufd_hw {
	const struct iommufd_hw_ops *ops; /* NULL: nothing of its own */
	struct uiommu_unit *unit;
	const char *name;
	/* Its tables. */
	const char *format;
	unsigned width;
	struct uiommu_range aperture;
	uint64_t page_sizes;
	/* Those of nesting parents; NULL: the usual ones. */
	const char *parent_format;
	unsigned parent_width;
	const struct uiommu_resv_region *regions;
	size_t region_count;
	/* GET_HW_INFO. */
	uint32_t info_type;
	const void *info;
	uint32_t info_len;
	unsigned pasid_bits;
	bool pasid_tables;     /* HWPTs may be made for requests with PASIDs, if there were any */
	bool no_ats;	       /* devices have no translation cache of their own */
	bool viommu_by_parent; /* a vIOMMU is refused for its parent, whatever its type */
	bool no_faults;	       /* HWPTs can't have fault queues */
	bool nests_on_parent;  /* if it can't nest: is a parent all that is missing? */
	bool dirty;	       /* tables note what was written */
	bool page_requests;    /* devices can wait for a page */
	const struct iommufd_nesting *nesting; /* NULL: it can't */
};

/* What the functions of a group are attached to, under one PASID or (UIOMMU_NO_PASID) without. */
struct iommufd_attach {
	uint32_t pasid;
	struct iommufd_hwpt *hwpt; /* NULL: nothing */
	unsigned devices;	   /* that are attached under it */
};

/* Functions that are attached together. */
struct iommufd_group {
	const struct iommufd_hw *hw;
	const uiommu_rid *rids;
	size_t rid_count;
	unsigned pasid_bits; /* the fewest of those that have PASIDs; 0: none has */
	/* lock. */
	struct iommufd_attach plain; /* without a PASID */
	struct imap pasids;	     /* with one; value: struct iommufd_attach */
};

struct iommufd_device {
	struct iommufd_object obj;
	struct iommufd_group *group;
	const struct iommufd_hw *hw;
	uiommu_rid rid;
	const char *name;
	uint64_t cookie;		 /* what the program calls it, in the interface of 2021 */
	bool page_requests;		 /* it can wait for a page */
	unsigned pasid_bits;		 /* of its PASIDs; 0: it has none */
	bool no_dirty;			 /* what it writes can't be tracked */
	bool attached;			 /* without a PASID */
	struct imap pasids;		 /* those under which it is attached */
	struct iommufd_vdevice *vdevice; /* what a guest calls it, or NULL */
	/*
	 * Its DMA is about to go through @ioas, or (NULL) nothing: what the device needs there must
	 * be put there now, or refused. Then @moved says that it is so, or with @done false that
	 * it has stayed. Under lock. May be NULL.
	 */
	int (*moving)(void *ctx, struct uiommu_ioas *ioas);
	void (*moved)(void *ctx, struct uiommu_ioas *ioas, bool done);
	void *ctx;
};

/* lock held in all. Make an object of a device. -ENOMEM. */
int iommufd_device_bind(struct iommufd *iommufd, const struct iommufd_device *description,
			struct iommufd_device **out);
/* Detach it and forget it. */
void iommufd_device_unbind(struct iommufd *iommufd, struct iommufd_device *device);
/* Attach its DMA with a PASID (UIOMMU_NO_PASID: without) to an IOAS or a HWPT; *@pt_id becomes the
 * HWPT's. -EBUSY: it is attached under that PASID. */
int iommufd_device_attach(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid,
			  uint32_t *pt_id);
/* The same in place of what it is attached to. -EINVAL: it isn't. */
int iommufd_device_replace(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid,
			   uint32_t *pt_id);
/* Nothing if it isn't attached under that PASID. */
void iommufd_device_detach(struct iommufd *iommufd, struct iommufd_device *device, uint32_t pasid);
bool iommufd_device_attached(struct iommufd_device *device, uint32_t pasid);
/* The HWPT that its group's DMA with that PASID goes through, or NULL. */
struct iommufd_hwpt *iommufd_group_hwpt(struct iommufd_group *group, uint32_t pasid);
/* Requests; lock not held. */
int iommufd_get_hw_info(struct iommufd_call *call);

/* ---- HWPTs: iommufd_hwpt.c ---- */

struct iommufd_hwpt {
	struct iommufd_object obj;
	const struct iommufd_hw *hw;
	bool automatic; /* made by an attachment to its IOAS, and goes with the last */
	bool nest_parent;
	bool tracks_dirty; /* may be asked to */
	bool pasids;	   /* goes with devices that have PASIDs attached */
	/* Paging. */
	struct iommufd_ioas *ioas;
	struct iommufd_hwpt *next; /* of its IOAS */
	struct uiommu_domain *domain;
	struct iommufd_queue *faults; /* where page requests go; NULL: nowhere */
	/* Nested: what it is in front of, the vIOMMU it was made on if there is one, the guest's
	 * tables; without these it can't be attached. */
	struct iommufd_hwpt *parent;
	struct iommufd_viommu *viommu;
	struct iommufd_hwpt *next_nested; /* of the vIOMMU */
	bool needs_vdevice;		  /* of each device */
	bool made;			  /* by its kind of IOMMU */
	struct uiommu_domain *guest;
	struct uiommu_stage1 *stage1;
	void *own; /* the kind of IOMMU's */
};

/* lock held. */
int iommufd_hwpt_create(struct iommufd *iommufd, struct iommufd_ioas *ioas,
			const struct iommufd_hw *hw, const struct iommufd_tables *tables,
			uint32_t flags, bool automatic, struct iommufd_hwpt **out);
/* A device has gone: an automatic one goes with its last. */
void iommufd_hwpt_unuse(struct iommufd *iommufd, struct iommufd_hwpt *hwpt);
/* The paging HWPT behind it: itself or its parent. */
struct iommufd_hwpt *iommufd_hwpt_paging(struct iommufd_hwpt *hwpt);
int iommufd_hwpt_alloc(struct iommufd_call *call);
int iommufd_hwpt_set_dirty_tracking(struct iommufd_call *call);
int iommufd_hwpt_get_dirty_bitmap(struct iommufd_call *call);
int iommufd_hwpt_invalidate(struct iommufd_call *call);

/* ---- nesting: iommufd_nested.c, and a file for each kind of IOMMU ---- */

/* How a kind of IOMMU nests. lock held in all. */
struct iommufd_nesting {
	uint32_t data_type; /* enum iommu_hwpt_data_type */
	/* Its HWPTs are made on a vIOMMU of this type; IOMMU_VIOMMU_TYPE_DEFAULT: on the parent. */
	uint32_t viommu_type;
	bool on_parent;	     /* or on the parent as well */
	uint32_t event_type; /* enum iommu_veventq_type; of a vIOMMU's events */
	/* Make hwpt->guest and hwpt->stage1 of the program's data. */
	int (*create)(struct iommufd_call *call, struct iommufd_hwpt *hwpt);
	/* Take the entries of HWPT_INVALIDATE one by one; *done: how many were. hwpt or viommu. */
	int (*invalidate)(struct iommufd_call *call, struct iommufd_hwpt *hwpt,
			  struct iommufd_viommu *viommu, uint32_t *done);
	/* May a device be attached to it now? NULL: yes. */
	int (*check_attach)(struct iommufd_hwpt *hwpt, const struct iommufd_device *device);
	/* Undo create(), which has succeeded; what it left in the HWPT is let go of by itself. May
	 * be NULL. */
	void (*destroy)(struct iommufd_hwpt *hwpt);
	/* A vIOMMU is made, with the program's data; destroyed, also where that failed. May be
	 * NULL. */
	int (*viommu_create)(struct iommufd_call *call, struct iommufd_viommu *viommu);
	void (*viommu_destroy)(struct iommufd_viommu *viommu);
	/* The queues that it takes are of this type (enum iommu_hw_queue_type); 0: none. */
	uint32_t queue_type;
	int (*queue_create)(struct iommufd_viommu *viommu, struct iommufd_hw_queue *queue);
	void (*queue_destroy)(struct iommufd_viommu *viommu, struct iommufd_hw_queue *queue);
};

extern const struct iommufd_nesting iommufd_vtd;
extern const struct iommufd_nesting iommufd_smmuv3;

/* A HWPT nested on @parent, made by @viommu if that isn't NULL. */
int iommufd_nested_create(struct iommufd_call *call, const struct iommufd_hw *hw,
			  struct iommufd_hwpt *parent, struct iommufd_viommu *viommu,
			  struct iommufd_hwpt **out);
/* The guest's tables as a stage 1. */
int iommufd_nested_set(struct iommufd_hwpt *hwpt, const struct uiommu_guest_options *options,
		       void (*fault)(void *ctx, const struct uiommu_fault *fault), void *ctx);
/* Copy the data of HWPT_ALLOC, zeros behind its end: -EINVAL, -EFAULT. */
int iommufd_copy_data(struct iommufd_call *call, void *to, size_t size, size_t least);
/* Copy the @index-th entry of HWPT_INVALIDATE likewise. */
int iommufd_copy_entry(struct iommufd_call *call, uint32_t index, void *to, size_t size,
		       size_t least);
/* Where the kernel takes all entries at once, it takes them of any length, if what it doesn't know
 * is zero: -E2BIG, -EFAULT. */
int iommufd_copy_command(struct iommufd_call *call, uint32_t index, void *to, size_t size);

/* ---- vIOMMUs: iommufd_viommu.c ---- */

struct iommufd_viommu {
	struct iommufd_object obj;
	const struct iommufd_hw *hw;
	const struct iommufd_nesting *nesting;
	struct iommufd_hwpt *parent;
	struct iommufd_hwpt *nested; /* lock */
	pthread_mutex_t leaf;	     /* what a fault looks at, inside a port's section */
	struct iommufd_vdevice *vdevices;
	struct iommufd_queue *events;
	void *own; /* the kind of IOMMU's */
};

/* A queue of the guest's that hardware works on. */
struct iommufd_hw_queue {
	struct iommufd_object obj;
	struct iommufd_viommu *viommu;
	uint32_t index;
	struct uiommu_range range; /* in the nesting parent's address space */
	struct iommufd_pin pin;
	bool pinned, made;
};

/* What a guest calls a device. */
struct iommufd_vdevice {
	struct iommufd_object obj;
	struct iommufd_viommu *viommu;
	struct iommufd_vdevice *next;
	struct iommufd_device *device;
	uiommu_rid rid;
	uint64_t virt_id;
};

int iommufd_viommu_alloc(struct iommufd_call *call);
int iommufd_vdevice_alloc(struct iommufd_call *call);
int iommufd_hw_queue_alloc(struct iommufd_call *call);
/* The device is being unbound: so is what a guest calls it. lock held. */
void iommufd_vdevice_forget(struct iommufd *iommufd, struct iommufd_device *device);
/* The device that a guest has this number for, or NULL. lock held. */
struct iommufd_device *iommufd_viommu_device(const struct iommufd_viommu *viommu, uint64_t virt_id);
/* The guest's name for a requester. Any lock but leaf may be held. */
bool iommufd_viommu_virt_id(struct iommufd_viommu *viommu, uiommu_rid rid, uint64_t *virt_id);
/* Report an event of the vIOMMU's. Likewise; never waits. */
void iommufd_viommu_event(struct iommufd_viommu *viommu, const void *data, size_t len);

/* ---- queues that are read as files: iommufd_queue.c ---- */

/* One read or write at a time; as read(2) and write(2). */
struct iommufd_queue_ops {
	ssize_t (*read)(struct iommufd_queue *queue, uint64_t buf, size_t count);
	ssize_t (*write)(struct iommufd_queue *queue, uint64_t buf, size_t count); /* or NULL */
};

struct iommufd_queue {
	struct iommufd_object obj;
	struct iommufd *iommufd;
	const struct iommufd_queue_ops *ops;
	pthread_mutex_t read_lock;
	pthread_mutex_t lock;	       /* a leaf */
	struct uiommu_vfio_file *file; /* lock; NULL: it is closed */
	bool readable;		       /* lock: what the host was told */
};

/* iommufd.lock held. An object of @size bytes that begins with a queue; its destroy function ends
 * with the second. */
void *iommufd_queue_create(struct iommufd *iommufd, size_t size, enum iommufd_type type,
			   const struct iommufd_queue_ops *ops,
			   void (*destroy)(struct iommufd *, struct iommufd_object *));
void iommufd_queue_destroy(struct iommufd_queue *queue);
/* Around fork(). */
void iommufd_queue_lock(struct iommufd_queue *queue);
void iommufd_queue_unlock(struct iommufd_queue *queue);
/* There is (nothing) to read. queue->lock held. */
void iommufd_queue_tell(struct iommufd_queue *queue, bool readable);
/* Make its file and write the struct back, with the descriptor in *@out of it. No lock held. */
int iommufd_queue_respond(struct iommufd_call *call, struct iommufd_queue *queue, uint32_t *out);
/* Its file's read and write; no lock held. */
ssize_t iommufd_queue_rw(struct iommufd_queue *queue, uint64_t buf, size_t count, bool write);
/* Its file is gone. vfio.lock held. */
void iommufd_queue_release(struct iommufd_queue *queue);

/* ---- iommufd_faults.c ---- */

int iommufd_fault_alloc(struct iommufd_call *call);
/* iommufd.lock held in all. A HWPT's page requests go to the queue; no longer. */
void iommufd_faults_use(struct iommufd_hwpt *hwpt, struct iommufd_queue *queue);
void iommufd_faults_unuse(struct iommufd_hwpt *hwpt);
/* A device is about to be attached under a PASID to a HWPT that uses a queue; or is no longer. */
int iommufd_faults_attach(struct iommufd_hwpt *hwpt, const struct iommufd_device *device,
			  uint32_t pasid);
void iommufd_faults_detach(struct iommufd_hwpt *hwpt, const struct iommufd_device *device,
			   uint32_t pasid);
/* A request of the device's that no access waits behind goes to the HWPT's queue, if it has one, as
 * if it came by the PASID that is attached. -ENOMEM. */
int iommufd_faults_report(struct iommufd_hwpt *hwpt, const struct iommufd_device *device,
			  uint32_t pasid, const struct iommu_hwpt_pgfault *fault);

/* ---- iommufd_events.c ---- */

int iommufd_veventq_alloc(struct iommufd_call *call);
/* Add an event to such a queue; if there is no room, it is noted that some were lost. Never waits.
 */
void iommufd_queue_event(struct iommufd_queue *queue, const void *data, size_t len);

/* ---- memory that the program can map: iommufd_page.c ---- */

struct iommufd_page {
	struct iommufd_page *next;
	struct iommufd *iommufd;
	struct iommufd_object *owner; /* has a user for each mapping */
	uint64_t offset, length;      /* what mmap(2) has to say */
	void *memory;
};

/* lock held. */
int iommufd_page_create(struct iommufd *iommufd, struct iommufd_object *owner, uint64_t length,
			struct iommufd_page **out);
void iommufd_page_destroy(struct iommufd_page *page);
/* mmap(2) of /dev/iommu. No lock held. */
int iommufd_mmap(struct iommufd *iommufd, uint64_t length, int prot, int flags, uint64_t offset,
		 struct uiommu_vfio_mapping *mapping);
/* The mapping is gone. vfio.lock held. */
void iommufd_page_unmapped(struct iommufd_page *page);

/* ---- accesses by software: iommufd_access.c ---- */

/* The range is about to be unmapped: whoever holds pages of it lets go. pins_lock held. */
void iommufd_access_unmapping(struct iommufd_ioas *ioas, struct uiommu_range range);
/* The file is gone. vfio.lock held. */
void iommufd_access_closed(struct iommufd_access *access);

/* ---- files of memory that can be taken back: iommufd_dmabuf.c ---- */

struct iommufd_dmabuf;

/* The dma-buf behind a descriptor, with a reference, or NULL: it is none. */
struct iommufd_dmabuf *iommufd_dmabuf_get(struct iommufd_call *call, int fd);
void iommufd_dmabuf_put(struct iommufd_dmabuf *dmabuf);
/* A mapping of our own of a part of it, of whole pages. -EINVAL: not inside; -ENODEV: it was taken
 * back. */
int iommufd_dmabuf_map(struct iommufd_dmabuf *dmabuf, uint64_t offset, uint64_t length,
		       uint64_t *addr);
/* Take it down, and drop a reference. */
void iommufd_dmabuf_unmap(struct iommufd_dmabuf *dmabuf, uint64_t addr);

/* ---- iommufd_compat.c ---- */

int iommufd_vfio_ioas(struct iommufd_call *call);
/* Requests of a container. lock not held. */
long iommufd_compat_ioctl(struct iommufd *iommufd, uint32_t request, uint64_t arg);
/* The address space of its container requests, made if there is none. lock held. NULL: no memory.
 */
struct iommufd_ioas *iommufd_compat_ioas(struct iommufd *iommufd);

#endif
