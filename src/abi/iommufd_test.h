/* SPDX-License-Identifier: MIT */
/*
 * The test-only interface of the kernel's own iommufd selftests (IOMMU_TEST_CMD of
 * drivers/iommu/iommufd/iommufd_test.h, Linux 7.3), and what its files share: a mock IOMMU with
 * mock devices, made on request, and accesses to an address space by software. Numbers and layouts
 * are the kernel's.
 */
#ifndef ABI_IOMMUFD_TEST_H
#define ABI_IOMMUFD_TEST_H

#include "abi/iommufd.h"

enum {
	IOMMU_TEST_OP_ADD_RESERVED = 1,
	IOMMU_TEST_OP_MOCK_DOMAIN,
	IOMMU_TEST_OP_MD_CHECK_MAP,
	IOMMU_TEST_OP_MD_CHECK_REFS,
	IOMMU_TEST_OP_CREATE_ACCESS,
	IOMMU_TEST_OP_DESTROY_ACCESS_PAGES,
	IOMMU_TEST_OP_ACCESS_PAGES,
	IOMMU_TEST_OP_ACCESS_RW,
	IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT,
	IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
	IOMMU_TEST_OP_ACCESS_REPLACE_IOAS,
	IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
	IOMMU_TEST_OP_DIRTY,
	IOMMU_TEST_OP_MD_CHECK_IOTLB,
	IOMMU_TEST_OP_TRIGGER_IOPF,
	IOMMU_TEST_OP_DEV_CHECK_CACHE,
	IOMMU_TEST_OP_TRIGGER_VEVENT,
	IOMMU_TEST_OP_PASID_ATTACH,
	IOMMU_TEST_OP_PASID_REPLACE,
	IOMMU_TEST_OP_PASID_DETACH,
	IOMMU_TEST_OP_PASID_CHECK_HWPT,
	IOMMU_TEST_OP_DMABUF_GET,
	IOMMU_TEST_OP_DMABUF_REVOKE,
};

/* Flags of a mock device, of an access, of its pages and of its reads and writes. */
#define MOCK_DEVICE_NO_DIRTY	    (1u << 0)
#define MOCK_DEVICE_PASID	    (1u << 2)
#define MOCK_ACCESS_NEEDS_PIN_PAGES (1u << 0)
#define MOCK_PAGES_WRITE	    (1u << 0)
#define MOCK_RW_WRITE		    (1u << 0)
#define MOCK_RW_SLOW_PATH	    (1u << 2)

#define MOCK_PASID_BITS 20
#define MOCK_IOTLB_NUM	4 /* entries of a nested HWPT's */
#define MOCK_CACHE_NUM	4 /* and of a device's cache */
#define MOCK_QUEUE_MAX	2
/* What a device's cache is filled with. */
#define MOCK_CACHE_DEFAULT 0xbaddadu
/* Every second attachment by this PASID fails. */
#define MOCK_PASID_FAILS 1024

#define MOCK_HW_INFO_TYPE      0xfeedbeefu
#define MOCK_HW_INFO_REGVAL    0xdeadbeefu
#define MOCK_HWPT_DATA	       0xdeadu
#define MOCK_HWPT_INVALIDATE   0xdeadbeefu
#define MOCK_VIOMMU_TYPE       0xdeadbeefu
#define MOCK_VIOMMU_INVALIDATE 0xdeadbeefu
#define MOCK_VEVENTQ_TYPE      0xbeefbeefu
#define MOCK_HW_QUEUE_TYPE     0xdeadbeefu
#define MOCK_INVALIDATE_ALL    (1u << 0)

struct iommu_test_cmd {
	uint32_t size, op, id, __reserved;
	union {
		struct {
			uint64_t start, length;
		} add_reserved;
		struct {
			uint32_t out_stdev_id, out_hwpt_id, out_idev_id, dev_flags;
		} mock_domain;
		struct {
			uint32_t pt_id;
		} mock_domain_replace;
		struct {
			uint64_t iova, length, uptr;
		} check_map;
		struct {
			uint64_t length, uptr;
			uint32_t refs;
		} check_refs;
		struct {
			uint32_t out_access_fd, flags;
		} create_access;
		struct {
			uint32_t access_pages_id;
		} destroy_access_pages;
		struct {
			uint32_t flags, out_access_pages_id;
			uint64_t iova, length, uptr;
		} access_pages;
		struct {
			uint64_t iova, length, uptr;
			uint32_t flags;
		} access_rw;
		struct {
			uint32_t limit;
		} memory_limit;
		struct {
			uint32_t ioas_id;
		} access_replace_ioas;
		struct {
			uint32_t flags;
			uint64_t iova, length, page_size, uptr, out_nr_dirty;
		} dirty;
		struct {
			uint32_t id, iotlb;
		} check_iotlb;
		struct {
			uint32_t dev_id, pasid, grpid, perm;
			uint64_t addr;
		} trigger_iopf;
		struct {
			uint32_t id, cache;
		} check_dev_cache;
		struct {
			uint32_t dev_id;
		} trigger_vevent;
		struct {
			uint32_t pasid, pt_id;
		} pasid;
		struct {
			uint32_t length, open_flags;
		} dmabuf_get;
		struct {
			int32_t fd;
			uint32_t revoked;
		} dmabuf_revoke;
	};
	uint32_t last;
};
#define IOMMUFD_CMD_TEST (IOMMUFD_CMD_BASE + 32)
#define IOMMU_TEST_CMD	 _IO(IOMMUFD_TYPE, IOMMUFD_CMD_TEST)

struct mock_hw_info {
	uint32_t flags, test_reg;
};
/* Data of HWPT_ALLOC. */
struct mock_hwpt_data {
	uint32_t iotlb, pagetable_type;
};
enum { MOCK_TABLES_DEFAULT, MOCK_TABLES_HUGE };
/* One request of HWPT_INVALIDATE: of a nested HWPT, of a vIOMMU. */
struct mock_invalidate {
	uint32_t flags, iotlb_id;
};
struct mock_viommu_invalidate {
	uint32_t flags, vdev_id, cache_id;
};
struct mock_viommu_data {
	uint32_t in_data, out_data;
	uint64_t out_mmap_offset, out_mmap_length;
};
struct mock_vevent {
	uint32_t virt_id;
};

/* ---- the mock IOMMU: iommufd_mock.c ---- */

/* One for all contexts of a front end. */
struct iommufd_mock {
	struct iommufd_hw hw;
	pthread_mutex_t lock; /* a leaf: the requester IDs */
	uint64_t used[65536 / 64];
};

/* A device of it, in a group of its own. */
struct iommufd_mock_device {
	struct iommufd_object obj; /* IOMMUFD_TEST */
	struct iommufd_mock *mock;
	struct iommufd_group group;
	uiommu_rid rid;
	struct iommufd_device *device;
	uint32_t cache[MOCK_CACHE_NUM];
	bool fails_next; /* an attachment by MOCK_PASID_FAILS */
	/* Attached to a nested HWPT on it, under this number in the guest. */
	struct iommufd_viommu *viommu;
	uint64_t virt_id;
};

/* What iommufd_hwpt.own is for a nested one of the mock's. */
struct mock_nested {
	uint32_t iotlb[MOCK_IOTLB_NUM];
};

/* -ENOMEM, or what the unit says. */
int iommufd_mock_create(struct uiommu_vfio *vfio, struct iommufd_mock **out);
void iommufd_mock_destroy(struct iommufd_mock *mock);
/* A device, bound but not attached. lock held. */
int iommufd_mock_device_create(struct iommufd *iommufd, uint32_t flags,
			       struct iommufd_mock_device **out);

/* ---- requests: iommufd_test.c ---- */

int iommufd_test(struct iommufd_call *call);

/* Do [a, a + length) and [b, b + length) show the same memory? */
bool iommufd_same_memory(const struct iommufd_call *call, uint64_t a, uint64_t b, uint64_t length);

/* ---- dma-bufs: iommufd_dmabuf.c ---- */

/* Makes a descriptor, and returns it. */
int iommufd_dmabuf_create(struct iommufd_call *call, const struct iommu_test_cmd *cmd);
int iommufd_dmabuf_revoke(struct iommufd_call *call, const struct iommu_test_cmd *cmd);

/* ---- accesses: iommufd_access.c ---- */

int iommufd_access_create(struct iommufd_call *call, struct iommu_test_cmd *cmd);
int iommufd_access_replace(struct iommufd_call *call, const struct iommu_test_cmd *cmd);
int iommufd_access_pages(struct iommufd_call *call, struct iommu_test_cmd *cmd);
int iommufd_access_pages_destroy(struct iommufd_call *call, const struct iommu_test_cmd *cmd);
int iommufd_access_rw(struct iommufd_call *call, const struct iommu_test_cmd *cmd);
/* Does an access of this address space hold pages that show this IOVA? pins_lock held. */
bool iommufd_access_holds(const struct iommufd_ioas *ioas, struct uiommu_range range);

#endif
