/* SPDX-License-Identifier: MIT */
/* The mock IOMMU of Linux's iommufd selftests, asked what those tests ask: devices, tables, dirty
 * pages, PASIDs, page requests, and what a guest has of it. */
#include "mock_rig.h"

struct mocked {
	struct rig rig;
	int fd;
	uint32_t ioas;
	struct mock mock;
};

static void mocked_up(struct mocked *m, uint32_t flags)
{
	assert_true(rig_up(&m->rig, &mock_machine));
	m->fd = rig_open_iommufd(&m->rig);
	m->ioas = ioas_alloc(&m->rig, m->fd);
	assert_int_equal(mock_device(&m->rig, m->fd, m->ioas, flags, &m->mock), 0);
}

static void mocked_down(struct mocked *m)
{
	rig_close(&m->rig, m->fd);
	rig_down(&m->rig);
}

/* ---- the request ---- */

static void test_requests(void **state)
{
	struct iommu_test_cmd cmd = {.op = 99};
	struct mocked m;
	struct rig rig;
	int fd;

	mocked_up(&m, 0);
	assert_int_equal(test_cmd(&m.rig, m.fd, &cmd), -EOPNOTSUPP);
	cmd = (struct iommu_test_cmd){.op = IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT};
	cmd.memory_limit.limit = 11;
	assert_int_equal(test_cmd(&m.rig, m.fd, &cmd), -EINVAL);
	cmd.memory_limit.limit = 12;
	assert_int_equal(test_cmd(&m.rig, m.fd, &cmd), 0);
	cmd = (struct iommu_test_cmd){.op = IOMMU_TEST_OP_ADD_RESERVED, .id = m.ioas};
	assert_int_equal(test_cmd(&m.rig, m.fd, &cmd), -EINVAL);
	cmd.add_reserved.start = UINT64_MAX;
	cmd.add_reserved.length = 2;
	assert_int_equal(test_cmd(&m.rig, m.fd, &cmd), -EOVERFLOW);
	cmd.add_reserved.start = MOCK_FIRST;
	cmd.add_reserved.length = PAGE;
	assert_int_equal(test_cmd(&m.rig, m.fd, &cmd), 0);
	assert_int_equal(ioas_map_at(&m.rig, m.fd, m.ioas, m.rig.memory, 2 * PAGE, MOCK_FIRST),
			 -EINVAL);
	cmd.id = 99;
	assert_int_equal(test_cmd(&m.rig, m.fd, &cmd), -ENOENT);
	mocked_down(&m);
	/* Only on request. */
	assert_true(rig_up(&rig, NULL));
	fd = rig_open_iommufd(&rig);
	assert_int_equal(test_cmd(&rig, fd, &cmd), -ENOTTY);
	rig_close(&rig, fd);
	rig_down(&rig);
}

/* ---- devices ---- */

static void test_devices(void **state)
{
	struct iommu_iova_range range = {0, 0};
	struct iommu_ioas_iova_ranges ranges = {
		.size = sizeof(ranges), .num_iovas = 1, .allowed_iovas = (uintptr_t)&range};
	struct mock_hw_info facts = {0};
	struct iommu_hw_info info = {
		.size = sizeof(info), .data_len = sizeof(facts), .data_uptr = (uintptr_t)&facts};
	struct mock second, none;
	struct mocked m;

	mocked_up(&m, 0);
	info.dev_id = m.mock.device;
	assert_int_equal(rig_ioctl(&m.rig, m.fd, IOMMU_GET_HW_INFO, &info), 0);
	assert_int_equal(info.out_data_type, MOCK_HW_INFO_TYPE);
	assert_int_equal(facts.test_reg, MOCK_HW_INFO_REGVAL);
	ranges.ioas_id = m.ioas;
	assert_int_equal(rig_ioctl(&m.rig, m.fd, IOMMU_IOAS_IOVA_RANGES, &ranges), 0);
	assert_int_equal(range.start, MOCK_FIRST);
	assert_int_equal(range.last, 0x7fffffff);
	assert_int_equal(ranges.out_iova_alignment, 2048);
	/* A second one shares the tables. */
	assert_int_equal(mock_device(&m.rig, m.fd, m.ioas, 0, &second), 0);
	assert_int_equal(second.hwpt, m.mock.hwpt);
	assert_int_not_equal(second.device, m.mock.device);
	assert_int_equal(mock_device(&m.rig, m.fd, m.ioas, 1u << 3, &none), -EINVAL);
	assert_int_equal(mock_device(&m.rig, m.fd, 99, 0, &none), -ENOENT);
	assert_int_equal(destroy_id(&m.rig, m.fd, m.ioas), -EBUSY);
	assert_int_equal(destroy_id(&m.rig, m.fd, m.mock.device), -EBUSY);
	assert_int_equal(destroy_id(&m.rig, m.fd, m.mock.id), 0);
	assert_int_equal(destroy_id(&m.rig, m.fd, m.mock.device), -ENOENT);
	assert_int_equal(destroy_id(&m.rig, m.fd, second.id), 0);
	/* The tables went with the last. */
	assert_int_equal(destroy_id(&m.rig, m.fd, m.mock.hwpt), -ENOENT);
	assert_int_equal(destroy_id(&m.rig, m.fd, m.ioas), 0);
	mocked_down(&m);
}

static void test_replace(void **state)
{
	struct mocked m;
	uint32_t other, hwpt;

	mocked_up(&m, 0);
	other = ioas_alloc(&m.rig, m.fd);
	assert_int_equal(hwpt_alloc(&m.rig, m.fd, m.mock.device, m.ioas, 0, &hwpt), 0);
	assert_int_equal(mock_replace(&m.rig, m.fd, m.mock.id, hwpt), 0);
	assert_int_equal(destroy_id(&m.rig, m.fd, m.mock.hwpt), -ENOENT);
	assert_int_equal(destroy_id(&m.rig, m.fd, hwpt), -EBUSY);
	assert_int_equal(mock_replace(&m.rig, m.fd, m.mock.id, other), 0);
	assert_int_equal(destroy_id(&m.rig, m.fd, hwpt), 0);
	assert_int_equal(mock_replace(&m.rig, m.fd, m.mock.id, hwpt), -ENOENT);
	assert_int_equal(mock_replace(&m.rig, m.fd, m.mock.device, other), -ENOENT);
	/* What doesn't fit leaves it where it is. */
	assert_int_equal(ioas_map_at(&m.rig, m.fd, m.ioas, m.rig.memory, PAGE, PAGE), 0);
	assert_int_equal(mock_replace(&m.rig, m.fd, m.mock.id, m.ioas), -EADDRINUSE);
	assert_int_equal(destroy_id(&m.rig, m.fd, other), -EBUSY);
	mocked_down(&m);
}

/* ---- what a table translates to ---- */

static void test_tables(void **state)
{
	struct mocked m;
	struct bound edu;
	uint8_t *memory;
	uint32_t hwpt;
	uint64_t length = 8 * PAGE;

	mocked_up(&m, 0);
	memory = m.rig.memory;
	assert_int_equal(ioas_map_at(&m.rig, m.fd, m.ioas, memory, 8 * PAGE, MOCK_FIRST), 0);
	assert_int_equal(check_map(&m.rig, m.fd, m.mock.hwpt, MOCK_FIRST, 8 * PAGE, memory), 0);
	assert_int_equal(
		check_map(&m.rig, m.fd, m.mock.hwpt, MOCK_FIRST + PAGE, PAGE, memory + PAGE), 0);
	assert_int_equal(check_map(&m.rig, m.fd, m.mock.hwpt, MOCK_FIRST, PAGE, memory + PAGE),
			 -EINVAL);
	assert_int_equal(check_map(&m.rig, m.fd, m.mock.hwpt, MOCK_FIRST, 9 * PAGE, memory),
			 -EINVAL);
	assert_int_equal(check_map(&m.rig, m.fd, m.mock.hwpt, MOCK_FIRST + 1, PAGE, memory),
			 -EINVAL);
	assert_int_equal(
		check_map(&m.rig, m.fd, m.mock.hwpt, MOCK_FIRST, PAGE, memory + RIG_PAGES * PAGE),
		-EFAULT);
	assert_int_equal(check_map(&m.rig, m.fd, m.ioas, MOCK_FIRST, PAGE, memory), -ENOENT);
	/* Tables of another IOMMU. */
	edu = (struct bound){m.fd, rig_open_node(&m.rig, 0), 0, m.ioas};
	assert_int_equal(bind_device(&m.rig, edu.node, edu.fd, &edu.device), 0);
	assert_int_equal(hwpt_alloc(&m.rig, m.fd, edu.device, m.ioas, 0, &hwpt), 0);
	assert_int_equal(check_map(&m.rig, m.fd, hwpt, MOCK_FIRST, PAGE, memory), -EINVAL);
	rig_close(&m.rig, edu.node);
	assert_int_equal(ioas_unmap(&m.rig, m.fd, m.ioas, MOCK_FIRST, &length), 0);
	assert_int_equal(check_map(&m.rig, m.fd, m.mock.hwpt, MOCK_FIRST, PAGE, memory), -EINVAL);
	mocked_down(&m);
}

/* How often pages are pinned: once for each area that a table or an access needs. */
static void test_pins(void **state)
{
	struct iommu_ioas_copy copy = {.size = sizeof(copy),
				       .flags = MAP_FIXED_RW,
				       .length = PAGE,
				       .dst_iova = MOCK_FIRST,
				       .src_iova = MOCK_FIRST + PAGE};
	struct mock second;
	struct mocked m;
	uint32_t other, id;
	uint8_t *memory;
	int access;

	mocked_up(&m, 0);
	memory = m.rig.memory;
	assert_int_equal(ioas_map_at(&m.rig, m.fd, m.ioas, memory, 2 * PAGE, MOCK_FIRST), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory, 2 * PAGE, 1), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory, 3 * PAGE, 1), -EIO);
	assert_int_equal(check_refs(&m.rig, m.fd, memory + 2 * PAGE, PAGE, 0), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory + 1, PAGE, 1), -EINVAL);
	/* A copy, where nobody looks yet. */
	other = ioas_alloc(&m.rig, m.fd);
	copy.src_ioas_id = m.ioas;
	copy.dst_ioas_id = other;
	assert_int_equal(rig_ioctl(&m.rig, m.fd, IOMMU_IOAS_COPY, &copy), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory, 2 * PAGE, 1), 0);
	assert_int_equal(mock_device(&m.rig, m.fd, other, 0, &second), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory, PAGE, 1), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory + PAGE, PAGE, 2), 0);
	assert_int_equal(destroy_id(&m.rig, m.fd, second.id), 0);
	assert_int_equal(destroy_id(&m.rig, m.fd, m.mock.id), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory, 2 * PAGE, 0), 0);
	/* An access holds the page that it asked for. */
	access = access_new(&m.rig, m.fd, m.ioas, MOCK_ACCESS_NEEDS_PIN_PAGES);
	assert_true(access >= 0);
	assert_int_equal(access_hold(&m.rig, m.fd, access, MOCK_FIRST, 1, NULL, 0, &id), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory, PAGE, 1), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory + PAGE, PAGE, 0), 0);
	assert_int_equal(access_let_go(&m.rig, m.fd, access, id), 0);
	assert_int_equal(check_refs(&m.rig, m.fd, memory, 2 * PAGE, 0), 0);
	rig_close(&m.rig, access);
	mocked_down(&m);
}

/* ---- dirty pages ---- */

static long mark(struct mocked *m, uint32_t hwpt, const void *bits, uint64_t length,
		 uint64_t *count)
{
	struct iommu_test_cmd cmd = {.op = IOMMU_TEST_OP_DIRTY,
				     .id = hwpt,
				     .dirty = {.iova = MOCK_FIRST,
					       .length = length,
					       .page_size = PAGE,
					       .uptr = (uintptr_t)bits}};
	long ret = test_cmd(&m->rig, m->fd, &cmd);

	*count = cmd.dirty.out_nr_dirty;
	return ret;
}

static void test_dirty(void **state)
{
	const uint64_t bits = 0xa5;
	uint64_t got = 0, count;
	struct iommu_hwpt_set_dirty_tracking set = {.size = sizeof(set), .flags = 1};
	struct iommu_hwpt_get_dirty_bitmap get = {.size = sizeof(get),
						  .iova = MOCK_FIRST,
						  .length = 8 * PAGE,
						  .page_size = PAGE,
						  .data = (uintptr_t)&got};
	struct mock other;
	struct mocked m;
	uint32_t hwpt;

	mocked_up(&m, 0);
	/* One by one: so each is a leaf of its own. */
	for (uint64_t at = 0; at < 8 * PAGE; at += PAGE)
		assert_int_equal(
			ioas_map_at(&m.rig, m.fd, m.ioas, m.rig.memory + at, PAGE, MOCK_FIRST + at),
			0);
	assert_int_equal(hwpt_alloc(&m.rig, m.fd, m.mock.device, m.ioas,
				    IOMMU_HWPT_ALLOC_DIRTY_TRACKING, &hwpt),
			 0);
	assert_int_equal(mark(&m, hwpt, &bits, 8 * PAGE, &count), -EINVAL);
	set.hwpt_id = get.hwpt_id = hwpt;
	assert_int_equal(rig_ioctl(&m.rig, m.fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set), 0);
	assert_int_equal(mark(&m, hwpt, &bits, 0, &count), -EINVAL);
	assert_int_equal(mark(&m, hwpt, NULL, 8 * PAGE, &count), -EINVAL);
	assert_int_equal(mark(&m, hwpt, (void *)8, 8 * PAGE, &count), -EFAULT);
	assert_int_equal(mark(&m, hwpt, &bits, ((UINT64_C(1) << 27) + 1) * PAGE, &count),
			 -EOVERFLOW);
	assert_int_equal(mark(&m, hwpt, &bits, 8 * PAGE, &count), 0);
	assert_int_equal(count, 4);
	assert_int_equal(rig_ioctl(&m.rig, m.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), 0);
	assert_int_equal(got, bits);
	got = 0;
	assert_int_equal(rig_ioctl(&m.rig, m.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), 0);
	assert_int_equal(got, 0);
	/* A device whose writes can't be tracked. */
	assert_int_equal(mock_device(&m.rig, m.fd, hwpt, MOCK_DEVICE_NO_DIRTY, &other), -EINVAL);
	assert_int_equal(mock_device(&m.rig, m.fd, m.ioas, MOCK_DEVICE_NO_DIRTY, &other), 0);
	assert_int_equal(mock_replace(&m.rig, m.fd, other.id, hwpt), -EINVAL);
	assert_int_equal(mock_replace(&m.rig, m.fd, m.mock.id, hwpt), 0);
	mocked_down(&m);
}

/* ---- PASIDs ---- */

static long pasid(struct mocked *m, uint32_t op, uint32_t id, uint32_t number, uint32_t on)
{
	struct iommu_test_cmd cmd = {.op = op, .id = id, .pasid = {number, on}};

	return test_cmd(&m->rig, m->fd, &cmd);
}

static void test_pasids(void **state)
{
	enum {
		ATTACH = IOMMU_TEST_OP_PASID_ATTACH,
		REPLACE = IOMMU_TEST_OP_PASID_REPLACE,
		DETACH = IOMMU_TEST_OP_PASID_DETACH,
		CHECK = IOMMU_TEST_OP_PASID_CHECK_HWPT,
	};
	struct mock plain;
	uint32_t first, second, id;
	struct mocked m;

	mocked_up(&m, MOCK_DEVICE_PASID);
	id = m.mock.id;
	assert_int_equal(
		hwpt_alloc(&m.rig, m.fd, m.mock.device, m.ioas, IOMMU_HWPT_ALLOC_PASID, &first), 0);
	assert_int_equal(
		hwpt_alloc(&m.rig, m.fd, m.mock.device, m.ioas, IOMMU_HWPT_ALLOC_PASID, &second),
		0);
	/* Without PASIDs it has to be behind such a table, too. */
	assert_int_equal(pasid(&m, ATTACH, id, 7, first), -EINVAL);
	assert_int_equal(mock_replace(&m.rig, m.fd, id, first), 0);
	assert_int_equal(pasid(&m, REPLACE, id, 7, first), -EINVAL);
	assert_int_equal(pasid(&m, ATTACH, id, 7, first), 0);
	assert_int_equal(pasid(&m, ATTACH, id, 7, second), -EBUSY);
	assert_int_equal(pasid(&m, CHECK, id, 7, first), 0);
	assert_int_equal(pasid(&m, CHECK, id, 7, second), -EINVAL);
	assert_int_equal(pasid(&m, CHECK, id, 8, 0), 0);
	assert_int_equal(pasid(&m, CHECK, id, 7, 99), -ENOENT);
	assert_int_equal(pasid(&m, REPLACE, id, 7, second), 0);
	assert_int_equal(pasid(&m, CHECK, id, 7, second), 0);
	assert_int_equal(destroy_id(&m.rig, m.fd, second), -EBUSY);
	assert_int_equal(pasid(&m, DETACH, id, 7, 0), 0);
	assert_int_equal(pasid(&m, CHECK, id, 7, 0), 0);
	assert_int_equal(pasid(&m, DETACH, 99, 7, 0), -ENOENT);
	assert_int_equal(pasid(&m, CHECK, 99, 7, 0), -ENOENT);
	assert_int_equal(pasid(&m, ATTACH, 99, 7, first), -ENOENT);
	/* By this one it fails every second time, and stays where it is. */
	assert_int_equal(pasid(&m, ATTACH, id, MOCK_PASID_FAILS, first), 0);
	assert_int_equal(pasid(&m, REPLACE, id, MOCK_PASID_FAILS, second), -ENOMEM);
	assert_int_equal(pasid(&m, CHECK, id, MOCK_PASID_FAILS, first), 0);
	assert_int_equal(pasid(&m, REPLACE, id, MOCK_PASID_FAILS, second), 0);
	assert_int_equal(pasid(&m, CHECK, id, MOCK_PASID_FAILS, second), 0);
	/* A device without. */
	assert_int_equal(mock_device(&m.rig, m.fd, m.ioas, 0, &plain), 0);
	assert_int_equal(pasid(&m, ATTACH, plain.id, 7, first), -EINVAL);
	mocked_down(&m);
}

/* ---- page requests ---- */

static ssize_t read_queue(struct mocked *m, int queue, void *buf, size_t len)
{
	return uiommu_vfio_pread(rig_file(&m->rig, queue), buf, len, 0);
}

static void test_page_requests(void **state)
{
	struct iommu_hwpt_pgfault fault;
	struct iommu_hwpt_page_response response = {0};
	uint32_t faults, parent, nested;
	struct mocked m;
	int queue;

	mocked_up(&m, MOCK_DEVICE_PASID);
	assert_int_equal(fault_alloc(&m.rig, m.fd, &queue, &faults), 0);
	assert_int_equal(hwpt_alloc(&m.rig, m.fd, m.mock.device, m.ioas,
				    IOMMU_HWPT_ALLOC_NEST_PARENT, &parent),
			 0);
	assert_int_equal(nest(&m.rig, m.fd, m.mock.device, parent, 0, faults, &nested), 0);
	/* Nobody takes it yet. */
	assert_int_equal(trigger_iopf(&m.rig, m.fd, m.mock.device, 0, 1), 0);
	assert_int_equal(read_queue(&m, queue, &fault, sizeof(fault)), 0);
	assert_int_equal(mock_replace(&m.rig, m.fd, m.mock.id, nested), 0);
	assert_int_equal(trigger_iopf(&m.rig, m.fd, m.mock.device, 0, 1), 0);
	assert_int_equal(trigger_iopf(&m.rig, m.fd, m.mock.device, 9, 2), 0);
	assert_int_equal(read_queue(&m, queue, &fault, sizeof(fault)), sizeof(fault));
	assert_int_equal(fault.dev_id, m.mock.device);
	assert_int_equal(fault.grpid, 1);
	assert_int_equal(fault.addr, 0x5000);
	assert_int_equal(fault.flags, IOMMU_PGFAULT_FLAGS_LAST_PAGE);
	response.cookie = fault.cookie;
	assert_int_equal(
		uiommu_vfio_pwrite(rig_file(&m.rig, queue), &response, sizeof(response), 0),
		sizeof(response));
	/* By a PASID of the guest's. */
	assert_int_equal(read_queue(&m, queue, &fault, sizeof(fault)), sizeof(fault));
	assert_int_equal(fault.pasid, 9);
	assert_int_equal(fault.grpid, 2);
	assert_int_equal(fault.flags,
			 IOMMU_PGFAULT_FLAGS_LAST_PAGE | IOMMU_PGFAULT_FLAGS_PASID_VALID);
	assert_int_equal(trigger_iopf(&m.rig, m.fd, 99, 0, 1), -ENOENT);
	/* It goes, read and unanswered, with the device. */
	assert_int_equal(destroy_id(&m.rig, m.fd, m.mock.id), 0);
	response.cookie = fault.cookie;
	assert_int_equal(
		uiommu_vfio_pwrite(rig_file(&m.rig, queue), &response, sizeof(response), 0),
		-EINVAL);
	rig_close(&m.rig, queue);
	mocked_down(&m);
}

/* ---- a guest's tables ---- */

static long iotlb(struct mocked *m, uint32_t hwpt, uint32_t at, uint32_t value)
{
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_MD_CHECK_IOTLB, .id = hwpt, .check_iotlb = {at, value}};

	return test_cmd(&m->rig, m->fd, &cmd);
}

static void test_nested(void **state)
{
	struct mock_invalidate requests[3] = {{0, 1}, {0, 3}, {0, MOCK_IOTLB_NUM}};
	uint32_t parent, nested, count = 3;
	struct mocked m;

	mocked_up(&m, 0);
	assert_int_equal(hwpt_alloc(&m.rig, m.fd, m.mock.device, m.ioas,
				    IOMMU_HWPT_ALLOC_NEST_PARENT, &parent),
			 0);
	assert_int_equal(nest(&m.rig, m.fd, m.mock.device, m.mock.hwpt, 5, 0, &nested), -EINVAL);
	assert_int_equal(nest(&m.rig, m.fd, m.mock.device, parent, 5, 0, &nested), 0);
	assert_int_equal(destroy_id(&m.rig, m.fd, parent), -EBUSY);
	for (unsigned i = 0; i < MOCK_IOTLB_NUM; i++)
		assert_int_equal(iotlb(&m, nested, i, 5), 0);
	assert_int_equal(iotlb(&m, nested, 0, 6), -EINVAL);
	assert_int_equal(iotlb(&m, nested, MOCK_IOTLB_NUM, 5), -EINVAL);
	assert_int_equal(iotlb(&m, parent, 0, 5), -ENOENT);
	/* One after the other, up to one that can't be. */
	assert_int_equal(invalidate(&m.rig, m.fd, nested, requests, sizeof(requests[0]), &count),
			 -EINVAL);
	assert_int_equal(count, 2);
	assert_int_equal(iotlb(&m, nested, 0, 5), 0);
	assert_int_equal(iotlb(&m, nested, 1, 0), 0);
	assert_int_equal(iotlb(&m, nested, 3, 0), 0);
	requests[0] = (struct mock_invalidate){MOCK_INVALIDATE_ALL, 0};
	count = 1;
	assert_int_equal(invalidate(&m.rig, m.fd, nested, requests, sizeof(requests[0]), &count),
			 0);
	assert_int_equal(iotlb(&m, nested, 2, 0), 0);
	requests[0].flags = 2;
	count = 1;
	assert_int_equal(invalidate(&m.rig, m.fd, nested, requests, sizeof(requests[0]), &count),
			 -EOPNOTSUPP);
	assert_int_equal(count, 0);
	assert_int_equal(mock_replace(&m.rig, m.fd, m.mock.id, nested), 0);
	assert_int_equal(destroy_id(&m.rig, m.fd, nested), -EBUSY);
	mocked_down(&m);
}

/* ---- vIOMMUs ---- */

struct guest {
	struct mocked m;
	uint32_t parent, viommu, vdevice;
};

static void guest_up(struct guest *g)
{
	mocked_up(&g->m, 0);
	assert_int_equal(hwpt_alloc(&g->m.rig, g->m.fd, g->m.mock.device, g->m.ioas,
				    IOMMU_HWPT_ALLOC_NEST_PARENT, &g->parent),
			 0);
	assert_int_equal(
		viommu_new(&g->m.rig, g->m.fd, g->m.mock.device, g->parent, NULL, &g->viommu), 0);
}

static void test_device_caches(void **state)
{
	struct mock_viommu_invalidate requests[2] = {{0, 0x55, 1}, {0, 0x56, 0}};
	uint32_t count = 1, device;
	struct guest g;
	struct rig *rig = &g.m.rig;

	guest_up(&g);
	device = g.m.mock.device;
	assert_int_equal(vdevice_new(rig, g.m.fd, g.viommu, device, 0x55, &g.vdevice), 0);
	assert_int_equal(dev_cache(rig, g.m.fd, device, 1, MOCK_CACHE_DEFAULT), 0);
	assert_int_equal(dev_cache(rig, g.m.fd, device, MOCK_CACHE_NUM, 0), -EINVAL);
	assert_int_equal(dev_cache(rig, g.m.fd, g.m.mock.id, 0, 0), -ENOENT);
	assert_int_equal(invalidate(rig, g.m.fd, g.viommu, requests, sizeof(requests[0]), &count),
			 0);
	assert_int_equal(dev_cache(rig, g.m.fd, device, 0, MOCK_CACHE_DEFAULT), 0);
	assert_int_equal(dev_cache(rig, g.m.fd, device, 1, 0), 0);
	/* The second names no device of the guest's. */
	requests[0] = (struct mock_viommu_invalidate){MOCK_INVALIDATE_ALL, 0x55, 0};
	count = 2;
	assert_int_equal(invalidate(rig, g.m.fd, g.viommu, requests, sizeof(requests[0]), &count),
			 -EINVAL);
	assert_int_equal(count, 1);
	for (unsigned i = 0; i < MOCK_CACHE_NUM; i++)
		assert_int_equal(dev_cache(rig, g.m.fd, device, i, 0), 0);
	/* All are read before the first is carried out. */
	count = 2;
	assert_int_equal(invalidate(rig, g.m.fd, g.viommu, (void *)8, sizeof(requests[0]), &count),
			 -EFAULT);
	assert_int_equal(count, 0);
	mocked_down(&g.m);
}

static void test_events(void **state)
{
	struct {
		struct iommufd_vevent_header header;
		struct mock_vevent event;
	} got;
	uint32_t nested, id;
	struct guest g;
	struct rig *rig = &g.m.rig;
	int queue, fd;

	guest_up(&g);
	fd = g.m.fd;
	assert_int_equal(nest(rig, fd, g.m.mock.device, g.viommu, 1, 0, &nested), 0);
	/* The guest has no name for it yet. */
	assert_int_equal(mock_replace(rig, fd, g.m.mock.id, nested), -ENOENT);
	assert_int_equal(vdevice_new(rig, fd, g.viommu, g.m.mock.device, 0x55, &g.vdevice), 0);
	assert_int_equal(trigger_vevent(rig, fd, g.m.mock.device), -ENOENT);
	assert_int_equal(mock_replace(rig, fd, g.m.mock.id, nested), 0);
	assert_int_equal(trigger_vevent(rig, fd, g.m.mock.device), -EOPNOTSUPP);
	assert_int_equal(events_new(rig, fd, g.viommu, &queue, &id), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(trigger_vevent(rig, fd, g.m.mock.device), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(read_queue(&g.m, queue, &got, sizeof(got)), sizeof(got));
		assert_int_equal(got.header.sequence, i);
		assert_int_equal(got.event.virt_id, 0x55);
	}
	/* There was room for two. */
	assert_int_equal(read_queue(&g.m, queue, &got, sizeof(got)), sizeof(got.header));
	assert_int_equal(got.header.flags, IOMMU_VEVENTQ_FLAG_LOST_EVENTS);
	assert_int_equal(destroy_id(rig, fd, g.viommu), -EBUSY);
	rig_close(rig, queue);
	mocked_down(&g.m);
}

/* Command queues: in the memory of a nesting parent, one after the other. */
static void test_command_queues(void **state)
{
	uint64_t length = PAGE;
	uint32_t first, second;
	struct guest g;
	struct rig *rig = &g.m.rig;
	int fd;

	guest_up(&g);
	fd = g.m.fd;
	assert_int_equal(ioas_map_at(rig, fd, g.m.ioas, rig->memory, PAGE, MOCK_FIRST), 0);
	assert_int_equal(hw_queue_new(rig, fd, g.viommu, 1, MOCK_FIRST, PAGE, &second), -EIO);
	assert_int_equal(hw_queue_new(rig, fd, g.viommu, 0, MOCK_FIRST + PAGE, PAGE, &first),
			 -ENOENT);
	assert_int_equal(hw_queue_new(rig, fd, g.viommu, 0, MOCK_FIRST, PAGE, &first), 0);
	assert_int_equal(hw_queue_new(rig, fd, g.viommu, 0, MOCK_FIRST, PAGE, &second), -EEXIST);
	assert_int_equal(hw_queue_new(rig, fd, g.viommu, 1, MOCK_FIRST, PAGE, &second), 0);
	assert_int_equal(hw_queue_new(rig, fd, g.viommu, MOCK_QUEUE_MAX, MOCK_FIRST, PAGE, &second),
			 -EINVAL);
	assert_int_equal(destroy_id(rig, fd, first), -EBUSY);
	assert_int_equal(ioas_unmap(rig, fd, g.m.ioas, MOCK_FIRST, &length), -EBUSY);
	assert_int_equal(destroy_id(rig, fd, first + 1), 0);
	assert_int_equal(destroy_id(rig, fd, first), 0);
	length = PAGE;
	assert_int_equal(ioas_unmap(rig, fd, g.m.ioas, MOCK_FIRST, &length), 0);
	mocked_down(&g.m);
}

/* A vIOMMU's page, which the program maps. */
static void test_page(void **state)
{
	struct mock_viommu_data data = {.in_data = 0xfeed};
	struct uiommu_vfio_mapping mapping;
	struct uiommu_vfio_file *file;
	struct guest g;
	struct rig *rig = &g.m.rig;
	uint32_t shown;

	guest_up(&g);
	assert_int_equal(viommu_new(rig, g.m.fd, g.m.mock.device, g.parent, &data, &shown), 0);
	assert_int_equal(data.out_data, 0xfeed);
	assert_int_equal(data.out_mmap_length, 2 * PAGE);
	file = rig_file(rig, g.m.fd);
	assert_int_equal(uiommu_vfio_mmap(file, 2 * PAGE, PROT_READ, MAP_PRIVATE,
					  data.out_mmap_offset, &mapping),
			 -EINVAL);
	assert_int_equal(uiommu_vfio_mmap(file, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED,
					  data.out_mmap_offset, &mapping),
			 -EPERM);
	assert_int_equal(
		uiommu_vfio_mmap(file, PAGE, PROT_READ, MAP_SHARED, data.out_mmap_offset, &mapping),
		-ENXIO);
	assert_int_equal(uiommu_vfio_mmap(file, 2 * PAGE, PROT_READ, MAP_SHARED,
					  data.out_mmap_offset + 2 * PAGE, &mapping),
			 -ENXIO);
	assert_int_equal(uiommu_vfio_mmap(file, 2 * PAGE, PROT_READ, MAP_SHARED,
					  data.out_mmap_offset, &mapping),
			 0);
	assert_int_equal(*(uint32_t *)mapping.memory, 0xfeed);
	/* It stays while it is mapped, even without the context's descriptor. */
	assert_int_equal(destroy_id(rig, g.m.fd, shown), -EBUSY);
	rig_close(rig, g.m.fd);
	assert_int_equal(*(uint32_t *)mapping.memory, 0xfeed);
	uiommu_vfio_release(mapping.held);
	rig_down(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests), cmocka_unit_test(test_devices),
		cmocka_unit_test(test_replace),	 cmocka_unit_test(test_tables),
		cmocka_unit_test(test_pins),	 cmocka_unit_test(test_dirty),
		cmocka_unit_test(test_pasids),	 cmocka_unit_test(test_page_requests),
		cmocka_unit_test(test_nested),	 cmocka_unit_test(test_device_caches),
		cmocka_unit_test(test_events),	 cmocka_unit_test(test_command_queues),
		cmocka_unit_test(test_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
