/* SPDX-License-Identifier: MIT */
/*
 * IOMMU_TEST_CMD, the request of the kernel's iommufd selftests: takes it apart and asks the
 * objects of the context. It has no state of its own; the mock IOMMU's is in iommufd_mock.c.
 *
 * The kernel is asked here about things that it keeps to itself. The answers are found, not made
 * up: what a table translates to is looked up in the table, and compared with the memory that the
 * program sees; how often a page is pinned is how many areas show it to somebody.
 */
#include <errno.h>
#include <string.h>

#include "abi/iommufd_test.h"
#include "abi/vfio_private.h"
#include "space/space.h"
#include "util/alloc.h"
#include "util/range.h"

/* The kernel's bound on pages in one DIRTY request. */
#define DIRTY_MAX (UINT64_C(1) << 27)

/* An object of the context, under its lock. */
static struct iommufd_mock_device *find_mock(struct iommufd *iommufd, uint32_t id)
{
	return iommufd_find(iommufd, id, IOMMUFD_TEST);
}

/* A device that is the mock's. */
static struct iommufd_device *find_device(struct iommufd *iommufd, uint32_t id)
{
	struct iommufd_device *device = iommufd_find(iommufd, id, IOMMUFD_DEVICE);

	return device && device->hw == &iommufd->vfio->mock->hw ? device : NULL;
}

/* ---- address spaces ---- */

static int add_reserved(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	struct iommufd_ioas *ioas;
	struct uiommu_range range;
	int ret;

	if (!cmd->add_reserved.length)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "length: 0");
	if (!range_from(cmd->add_reserved.start, cmd->add_reserved.length, &range))
		return vfio_refuse(UIOMMU_RULE_WRAP, -EOVERFLOW, "start + length");
	ioas = iommufd_get(call->iommufd, cmd->id, IOMMUFD_IOAS, "id: no such IOAS");
	if (!ioas)
		return -ENOENT;
	ret = uiommu_ioas_reserve(ioas->ioas, range, UIOMMU_RESV_RESERVED, ioas, "a test");
	iommufd_put(call->iommufd, &ioas->obj);
	return ret;
}

/* ---- mock devices ---- */

static int make_device(struct iommufd_call *call, struct iommu_test_cmd *cmd,
		       struct iommufd_mock_device **out)
{
	struct iommufd *iommufd = call->iommufd;
	bool flags = cmd->op == IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS;
	uint32_t pt_id = cmd->id;
	int ret = iommufd_mock_device_create(iommufd, flags ? cmd->mock_domain.dev_flags : 0, out);

	if (ret)
		return ret;
	ret = iommufd_device_attach(iommufd, (*out)->device, UIOMMU_NO_PASID, &pt_id);
	if (ret) {
		iommufd_object_remove(iommufd, &(*out)->obj);
		return ret;
	}
	cmd->mock_domain.out_hwpt_id = pt_id;
	cmd->mock_domain.out_stdev_id = (*out)->obj.id;
	cmd->mock_domain.out_idev_id = (*out)->device->obj.id;
	call->made = &(*out)->obj;
	return 0;
}

static int mock_domain(struct iommufd_call *call, struct iommu_test_cmd *cmd)
{
	struct iommufd_mock_device *mock;
	int ret;

	pthread_mutex_lock(&call->iommufd->lock);
	ret = make_device(call, cmd, &mock);
	pthread_mutex_unlock(&call->iommufd->lock);
	return ret ? ret : iommufd_respond(call);
}

static int mock_domain_replace(struct iommufd_call *call, struct iommu_test_cmd *cmd)
{
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_mock_device *mock;
	int ret;

	pthread_mutex_lock(&iommufd->lock);
	mock = find_mock(iommufd, cmd->id);
	ret = mock ? iommufd_device_replace(iommufd, mock->device, UIOMMU_NO_PASID,
					    &cmd->mock_domain_replace.pt_id)
		   : iommufd_refuse_id("id: no mock device");
	pthread_mutex_unlock(&iommufd->lock);
	return ret ? ret : iommufd_respond(call);
}

static int dev_check_cache(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	struct iommufd *iommufd = call->iommufd;
	uint32_t at = cmd->check_dev_cache.id;
	struct iommufd_mock_device *mock;
	struct iommufd_device *device;
	int ret = 0;

	pthread_mutex_lock(&iommufd->lock);
	device = find_device(iommufd, cmd->id);
	mock = device ? device->ctx : NULL;
	if (!device)
		ret = iommufd_refuse_id("id: no device of the mock's");
	else if (at >= MOCK_CACHE_NUM || mock->cache[at] != cmd->check_dev_cache.cache)
		ret = -EINVAL;
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

/* ---- PASIDs ---- */

static int pasid_attach(struct iommufd_call *call, struct iommu_test_cmd *cmd)
{
	struct iommufd *iommufd = call->iommufd;
	bool replace = cmd->op == IOMMU_TEST_OP_PASID_REPLACE;
	uint32_t pt_id = cmd->pasid.pt_id;
	struct iommufd_mock_device *mock;
	int ret;

	pthread_mutex_lock(&iommufd->lock);
	mock = find_mock(iommufd, cmd->id);
	if (!mock)
		ret = iommufd_refuse_id("id: no mock device");
	else if (!mock->device->pasid_bits)
		ret = vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "the device has no PASIDs");
	else if (replace)
		ret = iommufd_device_replace(iommufd, mock->device, cmd->pasid.pasid, &pt_id);
	else
		ret = iommufd_device_attach(iommufd, mock->device, cmd->pasid.pasid, &pt_id);
	pthread_mutex_unlock(&iommufd->lock);
	return ret ? ret : iommufd_respond(call);
}

static int pasid_detach(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	struct iommufd *iommufd = call->iommufd;
	struct iommufd_mock_device *mock;

	pthread_mutex_lock(&iommufd->lock);
	mock = find_mock(iommufd, cmd->id);
	if (mock)
		iommufd_device_detach(iommufd, mock->device, cmd->pasid.pasid);
	pthread_mutex_unlock(&iommufd->lock);
	return mock ? 0 : iommufd_refuse_id("id: no mock device");
}

static int pasid_check(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	struct iommufd *iommufd = call->iommufd;
	uint32_t id = cmd->pasid.pt_id;
	struct iommufd_mock_device *mock;
	struct iommufd_hwpt *hwpt = NULL;
	int ret = 0;

	pthread_mutex_lock(&iommufd->lock);
	mock = find_mock(iommufd, cmd->id);
	if (id) {
		hwpt = iommufd_find(iommufd, id, IOMMUFD_HWPT_PAGING);
		if (!hwpt)
			hwpt = iommufd_find(iommufd, id, IOMMUFD_HWPT_NESTED);
	}
	if (!mock || (id && !hwpt))
		ret = iommufd_refuse_id(mock ? "hwpt_id: no HWPT" : "id: no mock device");
	else if (iommufd_group_hwpt(mock->device->group, cmd->pasid.pasid) != hwpt)
		ret = -EINVAL;
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

/* ---- what a table translates to ---- */

static int identify(const struct iommufd_call *call, uint64_t addr,
		    struct uiommu_vfio_memory *memory)
{
	const struct uiommu_vfio_host *host = &call->vfio->host;

	if (host->identify)
		return host->identify(host->ctx, addr, memory);
	*memory = (struct uiommu_vfio_memory){.offset = addr, .length = UINT64_MAX - addr};
	return 0;
}

static bool same_file(const struct uiommu_vfio_memory *a, const struct uiommu_vfio_memory *b)
{
	return a->device == b->device && a->file == b->file;
}

bool iommufd_same_memory(const struct iommufd_call *call, uint64_t a, uint64_t b, uint64_t length)
{
	uint64_t piece;

	if (a == b)
		return true;
	for (uint64_t at = 0; at < length; at += piece) {
		struct uiommu_vfio_memory one, other;

		if (identify(call, a + at, &one) || identify(call, b + at, &other) ||
		    !same_file(&one, &other) || one.offset != other.offset)
			return false;
		piece = one.length < other.length ? one.length : other.length;
	}
	return true;
}

/* A paging HWPT of the mock's, held. */
static struct iommufd_hwpt *get_paging(struct iommufd_call *call, uint32_t id, int *ret)
{
	struct iommufd_hwpt *hwpt =
		iommufd_get(call->iommufd, id, IOMMUFD_HWPT_PAGING, "id: no paging HWPT");

	*ret = hwpt ? 0 : -ENOENT;
	if (!hwpt || hwpt->hw == &call->vfio->mock->hw)
		return hwpt;
	iommufd_put(call->iommufd, &hwpt->obj);
	*ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "id: no HWPT of the mock's");
	return NULL;
}

/* Does the table translate the page to what the program sees there? */
static int check_page(const struct iommufd_call *call, const struct uiommu_domain *domain,
		      uint64_t iova, uint64_t uptr)
{
	struct table_leaf leaf;
	uint64_t addr;
	int ret = vfio_check_source(call->vfio, (struct uiommu_range){iova, iova}, uptr, 1,
				    UIOMMU_READ);

	if (ret)
		return ret;
	if (!table_covers(&domain->table, iova) || !table_lookup(&domain->table, iova, &leaf))
		return -EINVAL;
	addr = leaf.addr + (iova - leaf.range.first);
	return iommufd_same_memory(call, addr, uptr, 1) ? 0 : -EINVAL;
}

static int md_check_map(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	uint64_t iova = cmd->check_map.iova, uptr = cmd->check_map.uptr, page;
	struct iommufd_hwpt *hwpt;
	int ret;

	hwpt = get_paging(call, cmd->id, &ret);
	if (!hwpt)
		return ret;
	page = table_page(&hwpt->domain->table);
	if (((iova | uptr | cmd->check_map.length) & (page - 1)) ||
	    uptr + cmd->check_map.length < uptr)
		ret = vfio_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "iova, length or uptr");
	for (uint64_t at = 0; at < cmd->check_map.length && !ret; at += page)
		ret = check_page(call, hwpt->domain, iova + at, uptr + at);
	iommufd_put(call->iommufd, &hwpt->obj);
	return ret;
}

/* ---- how often a page is pinned ---- */

/* Where in the whole pages that the area shows is this one? False: nowhere. */
static bool find_page(const struct iommufd_call *call, const struct uiommu_area *area,
		      const struct uiommu_vfio_memory *page, uint64_t *iova)
{
	uint64_t at = area->addr & ~(VFIO_PAGE - 1);
	uint64_t last = (area->addr + (area->range.last - area->range.first)) | (VFIO_PAGE - 1);

	while (at <= last) {
		struct uiommu_vfio_memory memory;
		uint64_t left = last - at;

		if (identify(call, at, &memory))
			return false;
		if (same_file(&memory, page) && page->offset - memory.offset < memory.length &&
		    page->offset - memory.offset <= left) {
			at += page->offset - memory.offset;
			*iova = area->range.first + (at < area->addr ? 0 : at - area->addr);
			return true;
		}
		if (memory.length > left)
			return false;
		at += memory.length;
	}
	return false;
}

/* An area pins what it shows if there is a domain to translate to it, or an access holds it. */
static unsigned count_in(const struct iommufd_call *call, struct iommufd_ioas *ioas,
			 const struct uiommu_vfio_memory *page)
{
	bool translated = atomic_load(&ioas->domains);
	struct uiommu_area area;
	unsigned count = 0;
	uint64_t iova;

	pthread_mutex_lock(&ioas->pins_lock);
	for (uint64_t at = 0; !uiommu_ioas_find(ioas->ioas, at, &area); at = area.range.last + 1) {
		if (find_page(call, &area, page, &iova) &&
		    (translated ||
		     iommufd_access_holds(
			     ioas, (struct uiommu_range){iova, add_sat(iova, VFIO_PAGE - 1)})))
			count++;
		if (area.range.last == UINT64_MAX)
			break;
	}
	pthread_mutex_unlock(&ioas->pins_lock);
	return count;
}

/* By all contexts. */
static unsigned count_pins(struct iommufd_call *call, const struct uiommu_vfio_memory *page)
{
	unsigned count = 0;

	pthread_mutex_lock(&call->vfio->lock);
	for (struct iommufd *i = call->vfio->iommufds; i; i = i->next) {
		pthread_mutex_lock(&i->lock);
		for (size_t at = 0; at < i->room; at++) {
			struct iommufd_object *object = i->objects[at];

			if (object && object->ready && object->type == IOMMUFD_IOAS)
				count += count_in(call, (struct iommufd_ioas *)object, page);
		}
		pthread_mutex_unlock(&i->lock);
	}
	pthread_mutex_unlock(&call->vfio->lock);
	return count;
}

static int md_check_refs(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	uint64_t uptr = cmd->check_refs.uptr, length = cmd->check_refs.length;
	int ret = 0;

	if ((uptr | length) & (VFIO_PAGE - 1) || uptr + length < uptr)
		return vfio_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "uptr or length");
	for (uint64_t at = 0; at < length && !ret; at += VFIO_PAGE) {
		struct uiommu_vfio_memory page;

		ret = vfio_check_source(call->vfio, UIOMMU_RANGE_NONE, uptr + at, 1, UIOMMU_READ);
		if (!ret)
			ret = identify(call, uptr + at, &page);
		if (!ret && count_pins(call, &page) != cmd->check_refs.refs)
			ret = -EIO;
	}
	return ret;
}

/* ---- dirty bits, IOTLBs ---- */

/* The bits that are set say what a device has written to. */
static int mark_dirty(struct uiommu_domain *domain, struct iommu_test_cmd *cmd, const uint8_t *bits,
		      uint64_t count)
{
	cmd->dirty.out_nr_dirty = 0;
	for (uint64_t i = 0; i < count; i++) {
		uint64_t iova = cmd->dirty.iova + i * cmd->dirty.page_size;

		if (!(bits[i / 8] >> i % 8 & 1))
			continue;
		if (table_covers(&domain->table, iova))
			table_mark_dirty(&domain->table, iova);
		cmd->dirty.out_nr_dirty++;
	}
	return 0;
}

static int dirty_locked(struct iommufd_call *call, struct iommu_test_cmd *cmd,
			struct uiommu_domain *domain)
{
	uint64_t count = cmd->dirty.length / cmd->dirty.page_size;
	size_t size = (count + 7) / 8;
	uint8_t *bits;
	int ret;

	if (!domain->table.dirty || !atomic_load(&domain->tracking))
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL, "dirty pages are not tracked");
	bits = uiommu_alloc(size);
	if (!bits)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	ret = vfio_copy_in(call->vfio, bits, cmd->dirty.uptr, size);
	if (!ret)
		ret = mark_dirty(domain, cmd, bits, count);
	uiommu_free(bits, size);
	return ret;
}

static int dirty(struct iommufd_call *call, struct iommu_test_cmd *cmd)
{
	uint64_t page = cmd->dirty.page_size;
	struct iommufd_hwpt *hwpt;
	int ret;

	if (!page || !cmd->dirty.length || cmd->dirty.iova % page || cmd->dirty.length % page ||
	    !cmd->dirty.uptr)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "page_size, length, iova or uptr");
	if (cmd->dirty.length / page > DIRTY_MAX)
		return vfio_refuse(UIOMMU_RULE_LIMIT, -EOVERFLOW, "length: too many pages");
	hwpt = get_paging(call, cmd->id, &ret);
	if (!hwpt)
		return ret;
	ret = dirty_locked(call, cmd, hwpt->domain);
	iommufd_put(call->iommufd, &hwpt->obj);
	return ret ? ret : iommufd_respond(call);
}

static int md_check_iotlb(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	uint32_t at = cmd->check_iotlb.id;
	struct iommufd_hwpt *hwpt;
	int ret = 0;

	pthread_mutex_lock(&call->iommufd->lock);
	hwpt = iommufd_find(call->iommufd, cmd->id, IOMMUFD_HWPT_NESTED);
	if (!hwpt)
		ret = iommufd_refuse_id("id: no nested HWPT");
	else if (hwpt->hw != &call->vfio->mock->hw || at >= MOCK_IOTLB_NUM ||
		 ((struct mock_nested *)hwpt->own)->iotlb[at] != cmd->check_iotlb.iotlb)
		ret = -EINVAL;
	pthread_mutex_unlock(&call->iommufd->lock);
	return ret;
}

/* ---- events ---- */

/* The device waits for a page. By a PASID that is not attached its requests go where the device
 * itself is attached, if that is nested: the guest has PASID tables of its own then. Who takes none
 * is not told of any, and the device gets an error. */
static int page_request(struct iommufd_device *device, const struct iommu_test_cmd *cmd)
{
	const struct iommu_hwpt_pgfault fault = {
		.flags = IOMMU_PGFAULT_FLAGS_LAST_PAGE |
			 (cmd->trigger_iopf.pasid ? IOMMU_PGFAULT_FLAGS_PASID_VALID : 0),
		.dev_id = device->obj.id,
		.pasid = cmd->trigger_iopf.pasid,
		.grpid = cmd->trigger_iopf.grpid,
		.perm = cmd->trigger_iopf.perm,
		.addr = cmd->trigger_iopf.addr,
	};
	uint32_t pasid = cmd->trigger_iopf.pasid;
	struct iommufd_hwpt *hwpt = iommufd_group_hwpt(device->group, pasid);

	if (!hwpt) {
		pasid = UIOMMU_NO_PASID;
		hwpt = iommufd_group_hwpt(device->group, pasid);
		if (hwpt && hwpt->obj.type != IOMMUFD_HWPT_NESTED)
			hwpt = NULL;
	}
	return hwpt && hwpt->faults ? iommufd_faults_report(hwpt, device, pasid, &fault) : 0;
}

static int trigger_iopf(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	struct iommufd_device *device;
	int ret;

	pthread_mutex_lock(&call->iommufd->lock);
	device = find_device(call->iommufd, cmd->trigger_iopf.dev_id);
	ret = device ? page_request(device, cmd)
		     : iommufd_refuse_id("dev_id: no device of the mock's");
	pthread_mutex_unlock(&call->iommufd->lock);
	return ret;
}

static int trigger_vevent(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	struct iommufd_mock_device *mock;
	struct iommufd_device *device;
	struct mock_vevent event = {0};
	int ret;

	pthread_mutex_lock(&call->iommufd->lock);
	device = find_device(call->iommufd, cmd->trigger_vevent.dev_id);
	mock = device ? device->ctx : NULL;
	if (!mock || !mock->viommu || !mock->virt_id) {
		ret = iommufd_refuse_id("dev_id: no device with a number on a vIOMMU");
	} else {
		event.virt_id = (uint32_t)mock->virt_id;
		ret = mock->viommu->events ? 0
					   : vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EOPNOTSUPP,
							 "no queue takes it");
		iommufd_viommu_event(mock->viommu, &event, sizeof(event));
	}
	pthread_mutex_unlock(&call->iommufd->lock);
	return ret;
}

/* ---- the request ---- */

/* It bounds a buffer of the kernel's, so that its tests use more than one. There is none here; what
 * is no bound for that buffer is refused all the same. */
static int memory_limit(const struct iommu_test_cmd *cmd)
{
	if (cmd->memory_limit.limit < sizeof(uint64_t) + sizeof(uint32_t))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "limit: less than one element");
	return 0;
}

int iommufd_test(struct iommufd_call *call)
{
	struct iommu_test_cmd *cmd = (struct iommu_test_cmd *)call->bytes;

	switch (cmd->op) {
	case IOMMU_TEST_OP_ADD_RESERVED:
		return add_reserved(call, cmd);
	case IOMMU_TEST_OP_MOCK_DOMAIN:
	case IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS:
		return mock_domain(call, cmd);
	case IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE:
		return mock_domain_replace(call, cmd);
	case IOMMU_TEST_OP_MD_CHECK_MAP:
		return md_check_map(call, cmd);
	case IOMMU_TEST_OP_MD_CHECK_REFS:
		return md_check_refs(call, cmd);
	case IOMMU_TEST_OP_MD_CHECK_IOTLB:
		return md_check_iotlb(call, cmd);
	case IOMMU_TEST_OP_DEV_CHECK_CACHE:
		return dev_check_cache(call, cmd);
	case IOMMU_TEST_OP_CREATE_ACCESS:
		return iommufd_access_create(call, cmd);
	case IOMMU_TEST_OP_ACCESS_REPLACE_IOAS:
		return iommufd_access_replace(call, cmd);
	case IOMMU_TEST_OP_ACCESS_PAGES:
		return iommufd_access_pages(call, cmd);
	case IOMMU_TEST_OP_DESTROY_ACCESS_PAGES:
		return iommufd_access_pages_destroy(call, cmd);
	case IOMMU_TEST_OP_ACCESS_RW:
		return iommufd_access_rw(call, cmd);
	case IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT:
		return memory_limit(cmd);
	case IOMMU_TEST_OP_DIRTY:
		return dirty(call, cmd);
	case IOMMU_TEST_OP_TRIGGER_IOPF:
		return trigger_iopf(call, cmd);
	case IOMMU_TEST_OP_TRIGGER_VEVENT:
		return trigger_vevent(call, cmd);
	case IOMMU_TEST_OP_PASID_ATTACH:
	case IOMMU_TEST_OP_PASID_REPLACE:
		return pasid_attach(call, cmd);
	case IOMMU_TEST_OP_PASID_DETACH:
		return pasid_detach(call, cmd);
	case IOMMU_TEST_OP_PASID_CHECK_HWPT:
		return pasid_check(call, cmd);
	case IOMMU_TEST_OP_DMABUF_GET:
		return iommufd_dmabuf_create(call, cmd);
	case IOMMU_TEST_OP_DMABUF_REVOKE:
		return iommufd_dmabuf_revoke(call, cmd);
	default:
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EOPNOTSUPP, "op: an unknown one");
	}
}
