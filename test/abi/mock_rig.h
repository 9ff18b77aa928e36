/* SPDX-License-Identifier: MIT */
/* What the tests of the selftests' mock IOMMU share: IOMMU_TEST_CMD, request by request. */
#ifndef TEST_MOCK_RIG_H
#define TEST_MOCK_RIG_H

#include <sys/mman.h>

#include "abi/iommufd_test.h"
#include "iommufd_rig.h"

/* Where the mock's tables begin. */
#define MOCK_FIRST (UINT64_C(1) << 24)

static const struct rig_options mock_machine = {.iommufd_test = true};

static long test_cmd(struct rig *rig, int fd, struct iommu_test_cmd *cmd)
{
	cmd->size = sizeof(*cmd);
	return rig_ioctl(rig, fd, IOMMU_TEST_CMD, cmd);
}

/* A device of the mock's, attached. */
struct mock {
	uint32_t id, device, hwpt;
};

static long mock_device(struct rig *rig, int fd, uint32_t on, uint32_t flags, struct mock *mock)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
				     .id = on,
				     .mock_domain = {.dev_flags = flags}};
	long ret = test_cmd(rig, fd, &cmd);

	*mock = (struct mock){cmd.mock_domain.out_stdev_id, cmd.mock_domain.out_idev_id,
			      cmd.mock_domain.out_hwpt_id};
	return ret;
}

static long mock_replace(struct rig *rig, int fd, uint32_t id, uint32_t on)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
				     .id = id,
				     .mock_domain_replace = {.pt_id = on}};

	return test_cmd(rig, fd, &cmd);
}

static long check_map(struct rig *rig, int fd, uint32_t hwpt, uint64_t iova, uint64_t length,
		      const void *uptr)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_MD_CHECK_MAP,
				     .id = hwpt,
				     .check_map = {iova, length, (uintptr_t)uptr}};

	return test_cmd(rig, fd, &cmd);
}

static long check_refs(struct rig *rig, int fd, const void *uptr, uint64_t length, uint32_t refs)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_MD_CHECK_REFS,
				     .check_refs = {length, (uintptr_t)uptr, refs}};

	return test_cmd(rig, fd, &cmd);
}

static long dev_cache(struct rig *rig, int fd, uint32_t device, uint32_t at, uint32_t value)
{
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_DEV_CHECK_CACHE, .id = device, .check_dev_cache = {at, value}};

	return test_cmd(rig, fd, &cmd);
}

/* ---- accesses ---- */

/* A descriptor, or what was refused. */
static int access_new(struct rig *rig, int fd, uint32_t ioas, uint32_t flags)
{
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_CREATE_ACCESS, .id = ioas, .create_access = {.flags = flags}};
	long ret = test_cmd(rig, fd, &cmd);

	return ret ? (int)ret : (int)cmd.create_access.out_access_fd;
}

static long access_move(struct rig *rig, int fd, int access, uint32_t ioas)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_ACCESS_REPLACE_IOAS,
				     .id = (uint32_t)access,
				     .access_replace_ioas = {ioas}};

	return test_cmd(rig, fd, &cmd);
}

static long access_rw(struct rig *rig, int fd, int access, uint64_t iova, uint64_t length,
		      void *buf, uint32_t flags)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_ACCESS_RW,
				     .id = (uint32_t)access,
				     .access_rw = {iova, length, (uintptr_t)buf, flags}};

	return test_cmd(rig, fd, &cmd);
}

/* Hold pages; @uptr: what they should be, or NULL. */
static long access_hold(struct rig *rig, int fd, int access, uint64_t iova, uint64_t length,
			const void *uptr, uint32_t flags, uint32_t *id)
{
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_ACCESS_PAGES,
		.id = (uint32_t)access,
		.access_pages = {
			.flags = flags, .iova = iova, .length = length, .uptr = (uintptr_t)uptr}};
	long ret = test_cmd(rig, fd, &cmd);

	*id = cmd.access_pages.out_access_pages_id;
	return ret;
}

static long access_let_go(struct rig *rig, int fd, int access, uint32_t id)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_DESTROY_ACCESS_PAGES,
				     .id = (uint32_t)access,
				     .destroy_access_pages = {id}};

	return test_cmd(rig, fd, &cmd);
}

/* ---- dma-bufs ---- */

/* A descriptor, or what was refused. */
static int dmabuf_new(struct rig *rig, int fd, uint32_t length)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_DMABUF_GET,
				     .dmabuf_get = {.length = length}};

	return (int)test_cmd(rig, fd, &cmd);
}

static long dmabuf_revoke(struct rig *rig, int fd, int dmabuf, bool revoked)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_DMABUF_REVOKE,
				     .dmabuf_revoke = {dmabuf, revoked}};

	return test_cmd(rig, fd, &cmd);
}

/* At @iova. */
static long map_dmabuf(struct rig *rig, int fd, uint32_t ioas, int dmabuf, uint64_t start,
		       uint64_t length, uint64_t iova)
{
	struct iommu_ioas_map_file map = {.size = sizeof(map),
					  .flags = MAP_FIXED_RW,
					  .ioas_id = ioas,
					  .fd = dmabuf,
					  .start = start,
					  .length = length,
					  .iova = iova};

	return rig_ioctl(rig, fd, IOMMU_IOAS_MAP_FILE, &map);
}

/* ---- a guest's ---- */

static long nest(struct rig *rig, int fd, uint32_t device, uint32_t on, uint32_t iotlb,
		 uint32_t faults, uint32_t *id)
{
	struct mock_hwpt_data data = {.iotlb = iotlb};
	struct iommu_hwpt_alloc alloc = {.size = sizeof(alloc),
					 .flags = faults ? IOMMU_HWPT_FAULT_ID_VALID : 0,
					 .dev_id = device,
					 .pt_id = on,
					 .data_type = MOCK_HWPT_DATA,
					 .data_len = sizeof(data),
					 .data_uptr = (uintptr_t)&data,
					 .fault_id = faults};
	long ret = rig_ioctl(rig, fd, IOMMU_HWPT_ALLOC, &alloc);

	*id = alloc.out_hwpt_id;
	return ret;
}

/* With a page to map if there is @data. */
static long viommu_new(struct rig *rig, int fd, uint32_t device, uint32_t parent,
		       struct mock_viommu_data *data, uint32_t *id)
{
	struct iommu_viommu_alloc alloc = {.size = sizeof(alloc),
					   .type = MOCK_VIOMMU_TYPE,
					   .dev_id = device,
					   .hwpt_id = parent,
					   .data_len = data ? sizeof(*data) : 0,
					   .data_uptr = (uintptr_t)data};
	long ret = rig_ioctl(rig, fd, IOMMU_VIOMMU_ALLOC, &alloc);

	*id = alloc.out_viommu_id;
	return ret;
}

static long vdevice_new(struct rig *rig, int fd, uint32_t viommu, uint32_t device, uint64_t number,
			uint32_t *id)
{
	struct iommu_vdevice_alloc alloc = {
		.size = sizeof(alloc), .viommu_id = viommu, .dev_id = device, .virt_id = number};
	long ret = rig_ioctl(rig, fd, IOMMU_VDEVICE_ALLOC, &alloc);

	*id = alloc.out_vdevice_id;
	return ret;
}

static long hw_queue_new(struct rig *rig, int fd, uint32_t viommu, uint32_t index, uint64_t iova,
			 uint64_t length, uint32_t *id)
{
	struct iommu_hw_queue_alloc alloc = {.size = sizeof(alloc),
					     .viommu_id = viommu,
					     .type = MOCK_HW_QUEUE_TYPE,
					     .index = index,
					     .nesting_parent_iova = iova,
					     .length = length};
	long ret = rig_ioctl(rig, fd, IOMMU_HW_QUEUE_ALLOC, &alloc);

	*id = alloc.out_hw_queue_id;
	return ret;
}

static long events_new(struct rig *rig, int fd, uint32_t viommu, int *queue, uint32_t *id)
{
	struct iommu_veventq_alloc alloc = {.size = sizeof(alloc),
					    .viommu_id = viommu,
					    .type = MOCK_VEVENTQ_TYPE,
					    .veventq_depth = 2};
	long ret = rig_ioctl(rig, fd, IOMMU_VEVENTQ_ALLOC, &alloc);

	*queue = (int)alloc.out_veventq_fd;
	*id = alloc.out_veventq_id;
	return ret;
}

static long trigger_vevent(struct rig *rig, int fd, uint32_t device)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_TRIGGER_VEVENT,
				     .trigger_vevent = {device}};

	return test_cmd(rig, fd, &cmd);
}

static long trigger_iopf(struct rig *rig, int fd, uint32_t device, uint32_t pasid, uint32_t group)
{
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_TRIGGER_IOPF,
		.trigger_iopf = {device, pasid, group, IOMMU_PGFAULT_PERM_WRITE, 0x5000}};

	return test_cmd(rig, fd, &cmd);
}

/* *@count: how many there are, how many were done. */
static long invalidate(struct rig *rig, int fd, uint32_t on, const void *requests, uint32_t len,
		       uint32_t *count)
{
	struct iommu_hwpt_invalidate arg = {.size = sizeof(arg),
					    .hwpt_id = on,
					    .data_uptr = (uintptr_t)requests,
					    .data_type = MOCK_HWPT_INVALIDATE,
					    .entry_len = len,
					    .entry_num = *count};
	long ret = rig_ioctl(rig, fd, IOMMU_HWPT_INVALIDATE, &arg);

	*count = arg.entry_num;
	return ret;
}

#endif
