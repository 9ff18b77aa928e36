/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the VFIO front end share: a rig, which is a machine with a front end and a host
 * that plays the program's part: descriptors from 1000 up, memory with holes, copies that fail or
 * race.
 */
#ifndef TEST_ABI_TEST_H
#define TEST_ABI_TEST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include <uiommu/vfio.h>

#define RIG_FD	  1000
#define RIG_FILES 64
#define RIG_PAGES 64
#define PAGE	  UINT64_C(4096)

struct rig {
	struct uiommu_machine *machine;
	struct uiommu_vfio *vfio;
	struct uiommu_vfio_file *_Atomic files[RIG_FILES];
	bool no_descriptors; /* install() fails */

	/* The program's memory, at a multiple of its size: the first half can be written, the
	 * second only read. */
	uint8_t *memory;
	_Atomic uintptr_t file_first, file_last; /* and what the last file's mapping adds to it */
	bool any_memory;			 /* all that there is is the program's */

	/* Copies that touch [bad_first, bad_last] fail; after each copy in, race() may scribble. */
	uintptr_t bad_first, bad_last;
	void (*race)(struct rig *rig, const void *from, size_t len);
	/* So may this, once a descriptor is out. */
	void (*installed)(struct rig *rig, int fd);
	_Atomic unsigned copies_in;

	/* The last refusal reported. */
	pthread_mutex_t refused_lock;
	char refused_what[64];
	struct uiommu_refusal refused;

	/* The last line for the kernel's log, and how many there were. refused_lock. */
	char logged[256];
	unsigned logs;

	_Atomic int eventfds; /* held by the front end */
	_Atomic uint64_t faults;
	struct uiommu_fault last_fault; /* refused_lock */
	/* A page of the program's that is the mmap of a doorbell; 0: none. */
	uintptr_t doorbell_page;
	uint64_t doorbell;
	_Atomic unsigned threads;
	_Atomic int files_mapped; /* for IOAS_MAP_FILE */
	_Atomic bool readable;	  /* a queue */
};

struct rig_options {
	const char *platform;
	const char *const *functions;	  /* specs, ends with NULL */
	const struct uiommu_model *model; /* one more function, of this model */
	const char *model_spec;
	unsigned dma_entry_limit;
	bool memlock;
	bool iommufd_rfc;
	bool iommufd_test; /* the mock IOMMU of Linux's selftests */
};

/* The last fault, once there are at least @faults. */
struct uiommu_fault rig_fault(struct rig *rig, uint64_t faults);

/* Make a rig; the options may be NULL: one edu in group 0 at 00:01.0, one ioat in group 1 at
 * 00:02.0. Returns false only if an allocation failed. */
bool rig_up(struct rig *rig, const struct rig_options *options);
void rig_down(struct rig *rig);

/* Descriptors. */
int rig_install(struct rig *rig, struct uiommu_vfio_file *file);
struct uiommu_vfio_file *rig_file(struct rig *rig, int fd);
void rig_close(struct rig *rig, int fd);
int rig_open_container(struct rig *rig);	      /* a descriptor, or -errno */
int rig_open_group(struct rig *rig, unsigned number); /* likewise */
int rig_open_iommufd(struct rig *rig);
int rig_open_node(struct rig *rig, unsigned number);
long rig_ioctl(struct rig *rig, int fd, unsigned long request, const void *arg);
long rig_ioctl_value(struct rig *rig, int fd, unsigned long request, unsigned long value);

/* A container of @type with one group, and a device of it if @name isn't NULL. */
struct session {
	int container, group, device;
};
struct session rig_session(struct rig *rig, unsigned group, unsigned long type, const char *name);
void session_close(struct rig *rig, struct session *session);

long rig_map(struct rig *rig, int container, uint32_t flags, uint64_t iova, uint64_t size,
	     const void *vaddr);
/* *@size is in and out. */
long rig_unmap(struct rig *rig, int container, uint32_t flags, uint64_t iova, uint64_t *size);

/* Device accesses that must succeed. */
uint32_t rig_config(struct rig *rig, int device, unsigned offset, unsigned len);
void rig_config_set(struct rig *rig, int device, unsigned offset, unsigned len, uint32_t value);
uint32_t rig_reg(struct rig *rig, int device, unsigned bar, uint64_t offset);
void rig_reg_set(struct rig *rig, int device, unsigned bar, uint64_t offset, uint32_t value);

/* SET_IRQS with @count 32-bit values or bytes behind it. */
long rig_irqs(struct rig *rig, int device, uint32_t flags, uint32_t index, uint32_t start,
	      uint32_t count, const void *data);
/* Read an eventfd: what it counted, 0 if nothing within @ms. */
uint64_t rig_wait(int eventfd, int ms);

#endif
