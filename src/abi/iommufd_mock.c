/* SPDX-License-Identifier: MIT */
/*
 * The mock IOMMU of the kernel's iommufd selftests: owns its unit, its devices, and what it has of
 * its own beside tables in format "mock": data of the program's in HWPTs, an IOTLB of four numbers
 * in each nested one, a cache of four in each device, vIOMMUs with command queues that depend on
 * the one before.
 *
 * A mock device does no DMA; a nested HWPT of the mock's has no tables of a guest's behind it, so a
 * wall stands in front of its parent, and nothing would come through. All in it is under
 * iommufd.lock but the requester IDs, which all contexts share.
 */
#include <errno.h>
#include <string.h>

#include "abi/iommufd_test.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

#define APERTURE_FIRST (UINT64_C(1) << 24)
#define APERTURE_LAST  ((UINT64_C(1) << 31) - 1)
#define WIDTH	       38 /* three levels of pages of 2 KiB */
#define HUGE_PAGE      (UINT64_C(512) * 2048)

/* ---- HWPTs ---- */

static int copy_hwpt_data(struct iommufd_call *call, struct mock_hwpt_data *data)
{
	if (call->hwpt_alloc.data_type != MOCK_HWPT_DATA)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP, "data_type");
	return iommufd_copy_data(call, data, sizeof(*data), sizeof(data->iotlb));
}

static int tables(struct iommufd_call *call, struct iommufd_tables *out)
{
	struct mock_hwpt_data data;
	int ret = copy_hwpt_data(call, &data);

	if (ret)
		return ret;
	if (data.pagetable_type > MOCK_TABLES_HUGE)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP, "pagetable_type");
	if (data.pagetable_type == MOCK_TABLES_HUGE) {
		out->aperture = (struct uiommu_range){0, 0};
		out->page_sizes = HUGE_PAGE | VFIO_PAGE;
	}
	return 0;
}

static int nest(struct iommufd_call *call, struct iommufd_hwpt *hwpt)
{
	const struct uiommu_stage1_options wall = {.size = sizeof(wall)};
	struct mock_hwpt_data data;
	struct mock_nested *nested;
	int ret = copy_hwpt_data(call, &data);

	if (ret)
		return ret;
	nested = uiommu_alloc(sizeof(*nested));
	if (!nested)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	ret = uiommu_stage1_create(hwpt->hw->unit, &wall, &hwpt->stage1);
	if (ret) {
		uiommu_free(nested, sizeof(*nested));
		return ret;
	}
	for (unsigned i = 0; i < MOCK_IOTLB_NUM; i++)
		nested->iotlb[i] = data.iotlb;
	hwpt->own = nested;
	return 0;
}

static void unnest(struct iommufd_hwpt *hwpt)
{
	uiommu_free(hwpt->own, sizeof(struct mock_nested));
}

static int drop_iotlb(struct mock_nested *nested, const struct mock_invalidate *request)
{
	if (request->flags & ~MOCK_INVALIDATE_ALL)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags: an unknown one");
	if (request->iotlb_id >= MOCK_IOTLB_NUM)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "iotlb_id");
	for (unsigned i = 0; i < MOCK_IOTLB_NUM; i++)
		if (i == request->iotlb_id || (request->flags & MOCK_INVALIDATE_ALL))
			nested->iotlb[i] = 0;
	return 0;
}

/* One after the other, up to one that can't be. */
static int invalidate_nested(struct iommufd_call *call, struct iommufd_hwpt *hwpt, uint32_t *done)
{
	int ret = 0;

	if (call->invalidate.data_type != MOCK_HWPT_INVALIDATE)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "data_type");
	for (*done = 0; *done < call->invalidate.entry_num; ++*done) {
		struct mock_invalidate request;

		ret = iommufd_copy_entry(call, *done, &request, sizeof(request), sizeof(request));
		if (!ret)
			ret = drop_iotlb(hwpt->own, &request);
		if (ret)
			break;
	}
	return ret;
}

/* ---- vIOMMUs ---- */

struct mock_viommu {
	struct iommufd_hw_queue *queues[MOCK_QUEUE_MAX];
	struct iommufd_page *page; /* that the program can map, or NULL */
};

static void viommu_destroy(struct iommufd_viommu *viommu)
{
	struct mock_viommu *own = viommu->own;

	if (own && own->page)
		iommufd_page_destroy(own->page);
	uiommu_free(own, sizeof(*own));
}

static int drop_cache(struct iommufd_viommu *viommu, const struct mock_viommu_invalidate *request)
{
	struct iommufd_device *device;
	struct iommufd_mock_device *mock;

	if (request->flags & ~MOCK_INVALIDATE_ALL)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "flags: an unknown one");
	if (request->cache_id >= MOCK_CACHE_NUM)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "cache_id");
	device = iommufd_viommu_device(viommu, request->vdev_id);
	if (!device)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "vdev_id: no such vDEVICE");
	mock = device->ctx;
	for (unsigned i = 0; i < MOCK_CACHE_NUM; i++)
		if (i == request->cache_id || (request->flags & MOCK_INVALIDATE_ALL))
			mock->cache[i] = 0;
	return 0;
}

/* All requests are read before the first is carried out. */
static int invalidate_viommu(struct iommufd_call *call, struct iommufd_viommu *viommu,
			     uint32_t *done)
{
	uint32_t count = call->invalidate.entry_num;
	struct mock_viommu_invalidate *requests;
	int ret = 0;

	*done = 0;
	if (call->invalidate.data_type != MOCK_VIOMMU_INVALIDATE)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "data_type");
	if (!count)
		return 0;
	requests = uiommu_alloc_array(count, sizeof(*requests));
	if (!requests)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	for (uint32_t i = 0; i < count && !ret; i++)
		ret = iommufd_copy_command(call, i, &requests[i], sizeof(requests[i]));
	while (!ret && *done < count) {
		ret = drop_cache(viommu, &requests[*done]);
		if (!ret)
			++*done;
	}
	uiommu_free(requests, count * sizeof(*requests));
	return ret;
}

static int invalidate(struct iommufd_call *call, struct iommufd_hwpt *hwpt,
		      struct iommufd_viommu *viommu, uint32_t *done)
{
	return hwpt ? invalidate_nested(call, hwpt, done) : invalidate_viommu(call, viommu, done);
}

static int queue_create(struct iommufd_viommu *viommu, struct iommufd_hw_queue *queue)
{
	struct mock_viommu *own = viommu->own;

	if (queue->index >= MOCK_QUEUE_MAX)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "index");
	if (own->queues[queue->index])
		return vfio_refuse(UIOMMU_RULE_BUSY, -EEXIST, "index: there is this queue");
	if (queue->index && !own->queues[queue->index - 1])
		return vfio_refuse(UIOMMU_RULE_ORDER, -EIO, "index: the one before comes first");
	if (queue->index)
		own->queues[queue->index - 1]->obj.users++;
	own->queues[queue->index] = queue;
	return 0;
}

static void queue_destroy(struct iommufd_viommu *viommu, struct iommufd_hw_queue *queue)
{
	struct mock_viommu *own = viommu->own;

	own->queues[queue->index] = NULL;
	if (queue->index)
		own->queues[queue->index - 1]->obj.users--;
}

/* A page with the program's number in it, which comes back, as does the number itself. */
static int show_page(struct iommufd_call *call, struct iommufd_viommu *viommu)
{
	struct mock_viommu *own = viommu->own;
	uint32_t len = call->viommu_alloc.data_len;
	struct mock_viommu_data data = {0};
	int ret;

	if (len < offsetof(struct mock_viommu_data, out_mmap_offset) || len > sizeof(data))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "data_len");
	ret = vfio_copy_in(call->vfio, &data, call->viommu_alloc.data_uptr, len);
	if (ret)
		return ret;
	ret = iommufd_page_create(call->iommufd, &viommu->obj, 2 * VFIO_PAGE, &own->page);
	if (ret)
		return ret;
	*(uint32_t *)own->page->memory = data.in_data;
	data.out_data = data.in_data;
	data.out_mmap_offset = own->page->offset;
	data.out_mmap_length = own->page->length;
	return vfio_copy_out(call->vfio, call->viommu_alloc.data_uptr, &data, len);
}

static int viommu_create(struct iommufd_call *call, struct iommufd_viommu *viommu)
{
	viommu->own = uiommu_alloc(sizeof(struct mock_viommu));
	if (!viommu->own)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	return call->viommu_alloc.data_len ? show_page(call, viommu) : 0;
}

/* ---- devices ---- */

/* A nested HWPT on a vIOMMU takes only devices that have a number there. */
static int find_number(struct iommufd_mock_device *mock, const struct iommufd_hwpt *hwpt)
{
	const struct iommufd_vdevice *vdevice = mock->device->vdevice;

	if (hwpt && hwpt->viommu && (!vdevice || vdevice->viommu != hwpt->viommu))
		return vfio_refuse(UIOMMU_RULE_ORDER, -ENOENT,
				   "the device has no vDEVICE there yet");
	mock->viommu = hwpt ? hwpt->viommu : NULL;
	mock->virt_id = mock->viommu ? vdevice->virt_id : 0;
	return 0;
}

static int attach(struct iommufd_device *device, uint32_t pasid, struct iommufd_hwpt *hwpt)
{
	struct iommufd_mock_device *mock = device->ctx;

	if (pasid == UIOMMU_NO_PASID) {
		if (hwpt && hwpt->tracks_dirty && device->no_dirty)
			return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL,
					   "what the device writes can't be tracked");
		return find_number(mock, hwpt);
	}
	if (pasid != MOCK_PASID_FAILS)
		return 0;
	mock->fails_next = hwpt && !mock->fails_next;
	return hwpt && !mock->fails_next ? vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM,
						       "the mock fails every second time")
					 : 0;
}

static int take_rid(struct iommufd_mock *mock, uiommu_rid *rid)
{
	int ret = -ENOMEM;

	pthread_mutex_lock(&mock->lock);
	for (unsigned i = 0; i < 65536 / 64 && ret; i++) {
		if (!~mock->used[i])
			continue;
		*rid = (uiommu_rid)(i * 64 + __builtin_ctzll(~mock->used[i]));
		mock->used[i] |= UINT64_C(1) << *rid % 64;
		ret = 0;
	}
	pthread_mutex_unlock(&mock->lock);
	return ret ? vfio_refuse(UIOMMU_RULE_LIMIT, ret, "no requester ID is left") : 0;
}

static void destroy_device(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct iommufd_mock_device *mock = (struct iommufd_mock_device *)object;

	if (mock->device)
		iommufd_device_unbind(iommufd, mock->device);
	pthread_mutex_lock(&mock->mock->lock);
	mock->mock->used[mock->rid / 64] &= ~(UINT64_C(1) << mock->rid % 64);
	pthread_mutex_unlock(&mock->mock->lock);
}

int iommufd_mock_device_create(struct iommufd *iommufd, uint32_t flags,
			       struct iommufd_mock_device **out)
{
	struct iommufd_mock *mock = iommufd->vfio->mock;
	struct iommufd_device description = {
		.hw = &mock->hw,
		.name = "mock device",
		.pasid_bits = flags & MOCK_DEVICE_PASID ? MOCK_PASID_BITS : 0,
		.no_dirty = flags & MOCK_DEVICE_NO_DIRTY,
		.page_requests = true,
	};
	struct iommufd_mock_device *device;
	uiommu_rid rid = 0;
	int ret;

	if (flags & ~(MOCK_DEVICE_NO_DIRTY | MOCK_DEVICE_PASID))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "dev_flags: an unknown one");
	ret = take_rid(mock, &rid);
	if (ret)
		return ret;
	device = iommufd_object_create_locked(iommufd, sizeof(*device), IOMMUFD_TEST,
					      destroy_device);
	if (!device) {
		mock->used[rid / 64] &= ~(UINT64_C(1) << rid % 64);
		return -ENOMEM;
	}
	device->mock = mock;
	device->rid = rid;
	device->group = (struct iommufd_group){.hw = &mock->hw,
					       .rids = &device->rid,
					       .rid_count = 1,
					       .pasid_bits = description.pasid_bits};
	for (unsigned i = 0; i < MOCK_CACHE_NUM; i++)
		device->cache[i] = MOCK_CACHE_DEFAULT;
	description.group = &device->group;
	description.rid = rid;
	description.ctx = device;
	ret = iommufd_device_bind(iommufd, &description, &device->device);
	if (ret)
		iommufd_object_remove(iommufd, &device->obj);
	else
		*out = device;
	return ret;
}

/* ---- the IOMMU ---- */

int iommufd_mock_create(struct uiommu_vfio *vfio, struct iommufd_mock **out)
{
	static const struct mock_hw_info info = {.test_reg = MOCK_HW_INFO_REGVAL};
	static const struct iommufd_hw_ops ops = {.tables = tables, .attach = attach};
	static const struct iommufd_nesting nesting = {
		.data_type = MOCK_HWPT_DATA,
		.viommu_type = MOCK_VIOMMU_TYPE,
		.on_parent = true,
		.event_type = MOCK_VEVENTQ_TYPE,
		.create = nest,
		.invalidate = invalidate,
		.destroy = unnest,
		.viommu_create = viommu_create,
		.viommu_destroy = viommu_destroy,
		.queue_type = MOCK_HW_QUEUE_TYPE,
		.queue_create = queue_create,
		.queue_destroy = queue_destroy,
	};
	const struct uiommu_unit_options options = {
		.size = sizeof(options),
		.memory = uiommu_unit_memory(uiommu_machine_unit(vfio->machine)),
	};
	struct iommufd_mock *mock = uiommu_alloc(sizeof(*mock));
	int ret;

	if (!mock)
		return -ENOMEM;
	mock->hw = (struct iommufd_hw){
		.ops = &ops,
		.name = "mock IOMMU",
		.format = "mock",
		.width = WIDTH,
		.aperture = {APERTURE_FIRST, APERTURE_LAST},
		.nesting = &nesting,
		.info_type = MOCK_HW_INFO_TYPE,
		.info = &info,
		.info_len = sizeof(info),
		.pasid_bits = MOCK_PASID_BITS,
		.dirty = true,
	};
	ret = uiommu_unit_create(&options, &mock->hw.unit);
	if (ret) {
		uiommu_free(mock, sizeof(*mock));
		return ret;
	}
	pthread_mutex_init(&mock->lock, NULL);
	*out = mock;
	return 0;
}

void iommufd_mock_destroy(struct iommufd_mock *mock)
{
	if (!mock)
		return;
	uiommu_unit_destroy(mock->hw.unit);
	pthread_mutex_destroy(&mock->lock);
	uiommu_free(mock, sizeof(*mock));
}
