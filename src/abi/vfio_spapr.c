/* SPDX-License-Identifier: MIT */
/*
 * The sPAPR TCE driver of a container, v1 and v2: owns its address space and domain, and answers
 * GET_INFO, ENABLE, DISABLE, MAP_DMA and UNMAP_DMA in the order in which Linux 7.2 checks them
 * (drivers/vfio/vfio_iommu_spapr_tce.c). Windows and registered memory have files of their own.
 *
 * Mappings are entries of a table: MAP_DMA overwrites them, UNMAP_DMA clears them, whatever calls
 * they came from. All under the container's lock. A request that fails changes nothing, but for
 * MAP_DMA whose memory ends on the way: the entries before that point are cleared, as the kernel
 * clears what it had put there.
 */
#include <errno.h>

#include "abi/vfio_spapr.h"
#include "util/alloc.h"

static struct vfio_spapr *spapr_of(struct vfio_iommu *iommu)
{
	return (struct vfio_spapr *)iommu;
}

/* ---- life ---- */

static bool has_type(const struct uiommu_vfio *vfio, uint64_t type)
{
	return type == VFIO_SPAPR_TCE_IOMMU || type == VFIO_SPAPR_TCE_v2_IOMMU;
}

static int create(struct uiommu_vfio *vfio, uint64_t type, struct vfio_iommu **out)
{
	struct vfio_spapr *spapr = uiommu_alloc(sizeof(*spapr));
	int ret;

	if (!spapr)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	spapr->iommu.ops = &vfio_spapr_ops;
	spapr->iommu.vfio = vfio;
	spapr->v2 = type == VFIO_SPAPR_TCE_v2_IOMMU;
	spapr->default_pending = true;
	for (unsigned i = 0; i < SPAPR_WINDOWS; i++)
		spapr->windows[i].range = UIOMMU_RANGE_NONE;
	ret = uiommu_ioas_create(&spapr->iommu.ioas);
	if (!ret)
		ret = vfio_iommu_domain(vfio, spapr->iommu.ioas, &spapr->iommu.domain);
	if (ret) {
		uiommu_ioas_destroy(spapr->iommu.ioas);
		uiommu_free(spapr, sizeof(*spapr));
		return ret;
	}
	*out = &spapr->iommu;
	return 0;
}

static void disable(struct vfio_spapr *spapr)
{
	spapr->enabled = false;
	vfio_uncharge(spapr->iommu.vfio, spapr->charged);
	spapr->charged = 0;
}

static void destroy(struct vfio_iommu *iommu)
{
	struct vfio_spapr *spapr = spapr_of(iommu);

	/* No border is cut, so nothing can fail. */
	spapr_clear(spapr, UIOMMU_RANGE_ALL);
	spapr_drop_windows(spapr);
	spapr_drop_registrations(spapr);
	disable(spapr);
	uiommu_domain_destroy(iommu->domain);
	uiommu_ioas_destroy(iommu->ioas);
	uiommu_free(spapr, sizeof(*spapr));
}

static int attach(struct vfio_iommu *iommu, const struct vfio_group *group)
{
	struct vfio_spapr *spapr = spapr_of(iommu);
	int ret;

	if (!spapr->v2 && spapr->groups)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY,
				   "sPAPR TCE v1 takes one group; v2 takes more");
	ret = vfio_iommu_attach(iommu, group);
	if (!ret)
		spapr->groups++;
	return ret == -EADDRINUSE ? -EINVAL : ret;
}

static void detach(struct vfio_iommu *iommu, const struct vfio_group *group)
{
	spapr_of(iommu)->groups--;
	vfio_iommu_detach(iommu, group);
}

static long extension(const struct uiommu_vfio *vfio, const struct vfio_iommu *iommu,
		      uint64_t number)
{
	return number == VFIO_SPAPR_TCE_IOMMU || number == VFIO_SPAPR_TCE_v2_IOMMU;
}

/* ---- GET_INFO, ENABLE, DISABLE ---- */

static long get_info(const struct vfio_spapr *spapr, uint64_t arg)
{
	const struct uiommu_spapr_facts *facts = &spapr->iommu.vfio->facts->spapr;
	size_t size = offsetof(struct vfio_iommu_spapr_tce_info, ddw);
	struct vfio_iommu_spapr_tce_info info = {0};
	int ret = vfio_copy_sized(spapr->iommu.vfio, &info, arg, size);

	if (ret)
		return ret;
	info.flags = 0;
	info.dma32_window_start = facts->window32.first;
	info.dma32_window_size = range_length(facts->window32);
	if (spapr->v2) {
		info.flags = VFIO_IOMMU_SPAPR_INFO_DDW;
		info.ddw.pgsizes = facts->page_sizes;
		info.ddw.max_dynamic_windows_supported = facts->windows;
		info.ddw.levels = facts->levels;
	}
	if (info.argsz >= sizeof(info))
		size = sizeof(info);
	return vfio_copy_out(spapr->iommu.vfio, arg, &info, size);
}

/* What may be mapped is charged at once, so that mapping needs no accounting. */
static int enable(struct vfio_spapr *spapr)
{
	struct uiommu_vfio *vfio = spapr->iommu.vfio;
	uint64_t pages = range_length(vfio->facts->spapr.window32) / VFIO_PAGE;
	int ret;

	if (spapr->enabled)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "it is enabled already");
	ret = vfio_charge(vfio, pages);
	if (ret)
		return ret;
	spapr->charged = pages;
	spapr->enabled = true;
	return 0;
}

/* ---- mappings ---- */

static void area_gone(void *ctx, const struct uiommu_area *area)
{
	struct vfio_spapr *spapr = ctx;

	if (spapr->v2)
		spapr_memory_unuse(spapr->iommu.vfio, area->addr, range_length(area->range));
}

/* The statistics' mappings are the areas, which requests cut and join. */
static void count(struct vfio_spapr *spapr, const struct uiommu_ioas_stats *before)
{
	struct uiommu_ioas_stats after;

	uiommu_ioas_stats(spapr->iommu.ioas, &after);
	vfio_count_areas(spapr->iommu.vfio, after.areas - before->areas,
			 after.bytes - before->bytes);
}

int spapr_clear(struct vfio_spapr *spapr, struct uiommu_range range)
{
	struct uiommu_ioas_stats before;
	int ret;

	uiommu_ioas_stats(spapr->iommu.ioas, &before);
	ret = uiommu_ioas_clear(spapr->iommu.ioas, range, NULL, area_gone, spapr);
	count(spapr, &before);
	return ret;
}

static int check_enabled(const struct vfio_spapr *spapr)
{
	if (spapr->enabled)
		return 0;
	return vfio_refuse(UIOMMU_RULE_ORDER, -EPERM,
			   spapr->v2 ? "no memory is registered yet (REGISTER_MEMORY)"
				     : "the container is not enabled (VFIO_IOMMU_ENABLE)");
}

static int refuse_alignment(const char *what, struct uiommu_range asked, uint64_t page)
{
	return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, what, asked,
			     (struct uiommu_range){0, page - 1});
}

/* A range in a window, from arguments as programs give them. */
struct entries {
	const struct spapr_window *window;
	struct uiommu_range range; /* NONE: none */
	uint64_t page;
};

static int find_entries(struct vfio_spapr *spapr, uint64_t iova, uint64_t size, uint64_t vaddr,
			struct entries *e)
{
	struct uiommu_range at = {iova, iova};
	int ret = spapr_default_window(spapr);

	if (ret)
		return ret;
	e->window = spapr_window_at(spapr, iova);
	if (!e->window)
		return spapr_refuse_outside(spapr, at);
	e->page = UINT64_C(1) << e->window->page_shift;
	if ((size | vaddr) & (e->page - 1))
		return refuse_alignment("size or vaddr", at, e->page);
	if (!size)
		e->range = UIOMMU_RANGE_NONE;
	else
		e->range = (struct uiommu_range){iova, add_sat(iova, size - 1)};
	return 0;
}

/* How much of the memory can be mapped, from its beginning; if all, it counts as mapped. */
static uint64_t usable(struct vfio_spapr *spapr, const struct entries *e, uint64_t vaddr, int prot)
{
	struct uiommu_vfio *vfio = spapr->iommu.vfio;
	uint64_t pages = range_length(e->range) / e->page, good = 0;

	if (spapr->v2)
		return spapr_memory_use(vfio, vaddr, pages * e->page, e->window->page_shift);
	if (!vfio_check_source(vfio, e->range, vaddr, pages * e->page, prot))
		return pages * e->page;
	/* The first page that isn't there lies in (good, pages]. */
	while (pages - good > 1) {
		uint64_t half = good + (pages - good) / 2;

		if (vfio_check_source(vfio, e->range, vaddr, half * e->page, prot))
			pages = half;
		else
			good = half;
	}
	return good * e->page;
}

/* The memory ends on the way: what the kernel had put before it found out is cleared. */
static int map_failed(struct vfio_spapr *spapr, const struct entries *e, uint64_t vaddr,
		      uint64_t good)
{
	struct uiommu_range bad = {vaddr + good, vaddr + good + (e->page - 1)};
	int ret = 0;

	if (good)
		ret = spapr_clear(
			spapr, (struct uiommu_range){e->range.first, e->range.first + (good - 1)});
	if (ret)
		return ret;
	return spapr->v2 ? uiommu_refuse(UIOMMU_RULE_SOURCE, -EINVAL,
					 "memory that is not registered (REGISTER_MEMORY)",
					 e->range, bad)
			 : uiommu_refuse(UIOMMU_RULE_SOURCE, -EFAULT,
					 "the program's memory at vaddr", e->range, bad);
}

static int map(struct vfio_spapr *spapr, const struct entries *e, uint64_t vaddr, int prot)
{
	uint64_t bytes = range_length(e->range), good = usable(spapr, e, vaddr, prot);
	struct uiommu_ioas_stats before;
	int ret;

	if (good < bytes)
		return map_failed(spapr, e, vaddr, good);
	uiommu_ioas_stats(spapr->iommu.ioas, &before);
	ret = uiommu_ioas_replace(spapr->iommu.ioas, e->range, vaddr, prot, NULL, area_gone, spapr);
	if (!ret) {
		vfio_count_call(spapr->iommu.vfio, bytes);
		count(spapr, &before);
	} else if (spapr->v2) {
		spapr_memory_unuse(spapr->iommu.vfio, vaddr, bytes);
	}
	return ret;
}

static long map_dma(struct vfio_spapr *spapr, uint64_t arg)
{
	const uint32_t known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	struct vfio_iommu_type1_dma_map request;
	struct entries e;
	int prot, ret = check_enabled(spapr);

	if (!ret)
		ret = vfio_copy_sized(spapr->iommu.vfio, &request, arg, sizeof(request));
	if (ret)
		return ret;
	if (request.flags & ~known)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: an unknown one");
	ret = find_entries(spapr, request.iova, request.size, request.vaddr, &e);
	if (ret)
		return ret;
	prot = (request.flags & VFIO_DMA_MAP_FLAG_READ ? UIOMMU_READ : 0) |
	       (request.flags & VFIO_DMA_MAP_FLAG_WRITE ? UIOMMU_WRITE : 0);
	if (!prot)
		return uiommu_refuse(UIOMMU_RULE_PERMISSION, -EINVAL,
				     "flags: neither READ nor WRITE", e.range, UIOMMU_RANGE_NONE);
	if (request.iova & (e.page - 1))
		return refuse_alignment("iova", e.range, e.page);
	if (!range_valid(e.range))
		return 0;
	if (e.range.last > e.window->range.last)
		return spapr_refuse_outside(spapr, e.range);
	return map(spapr, &e, request.vaddr, prot);
}

static long unmap_dma(struct vfio_spapr *spapr, uint64_t arg)
{
	struct uiommu_ioas_stats before, after;
	struct vfio_iommu_type1_dma_unmap request;
	struct entries e;
	int ret = check_enabled(spapr);

	if (!ret)
		ret = vfio_copy_sized(spapr->iommu.vfio, &request, arg, sizeof(request));
	if (ret)
		return ret;
	if (request.flags)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: there are none");
	ret = find_entries(spapr, request.iova, request.size, 0, &e);
	if (ret)
		return ret;
	if (request.iova & (e.page - 1))
		return refuse_alignment("iova", e.range, e.page);
	if (!range_valid(e.range))
		return 0;
	if (e.range.last > e.window->range.last)
		e.range.last = e.window->range.last;
	uiommu_ioas_stats(spapr->iommu.ioas, &before);
	ret = spapr_clear(spapr, e.range);
	uiommu_ioas_stats(spapr->iommu.ioas, &after);
	if (!ret && after.bytes < before.bytes)
		atomic_fetch_add_explicit(&spapr->iommu.vfio->counters.unmaps, 1,
					  memory_order_relaxed);
	return ret;
}

/* ---- requests ---- */

static long request_v1(struct vfio_spapr *spapr, uint32_t number, uint64_t arg)
{
	switch (number) {
	case VFIO_IOMMU_ENABLE:
		return enable(spapr);
	case VFIO_IOMMU_DISABLE:
		disable(spapr);
		return 0;
	default:
		return -ENOTTY;
	}
}

static long request_v2(struct vfio_spapr *spapr, uint32_t number, uint64_t arg)
{
	switch (number) {
	case VFIO_IOMMU_SPAPR_REGISTER_MEMORY:
		return spapr_register(spapr, arg);
	case VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY:
		return spapr_unregister(spapr, arg);
	case VFIO_IOMMU_SPAPR_TCE_CREATE:
		return spapr_create(spapr, arg);
	case VFIO_IOMMU_SPAPR_TCE_REMOVE:
		return spapr_remove(spapr, arg);
	default:
		return -ENOTTY;
	}
}

static long request(struct vfio_iommu *iommu, uint32_t number, uint64_t arg)
{
	struct vfio_spapr *spapr = spapr_of(iommu);

	switch (number) {
	case VFIO_IOMMU_SPAPR_TCE_GET_INFO:
		return get_info(spapr, arg);
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(spapr, arg);
	case VFIO_IOMMU_UNMAP_DMA:
		return unmap_dma(spapr, arg);
	case VFIO_EEH_PE_OP:
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENODEV,
				   "the machine has no EEH (extension VFIO_EEH is 0)");
	default:
		return spapr->v2 ? request_v2(spapr, number, arg) : request_v1(spapr, number, arg);
	}
}

const struct vfio_iommu_ops vfio_spapr_ops = {
	.machines = UIOMMU_VFIO_SPAPR,
	.has_type = has_type,
	.create = create,
	.destroy = destroy,
	.attach = attach,
	.detach = detach,
	.ioctl = request,
	.extension = extension,
};
