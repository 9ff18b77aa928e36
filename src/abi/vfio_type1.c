/* SPDX-License-Identifier: MIT */
/*
 * The type 1 IOMMU of a container, v1 and v2: owns its address space and domain, and answers
 * GET_INFO, MAP_DMA and UNMAP_DMA in the order in which Linux 7.2 checks them.
 *
 * The kernel's list of mappings is the address space's list of areas; nothing is kept twice. All of
 * it is under the container's lock. A request that fails changes nothing, with one exception the
 * kernel has too: UNMAP_DMA with a bitmap that can't be written (vfio_dirty.c).
 *
 * The order of a map's checks is the kernel's: overlap, entries left, allowed ranges, and only then
 * the memory itself, which the kernel pins and we ask the machine's memory about.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

/* ---- life ---- */

static void area_removed(void *ctx, const struct uiommu_area *area);

static struct vfio_type1 *type1_of(struct vfio_iommu *iommu)
{
	return (struct vfio_type1 *)iommu;
}

static bool has_type(const struct uiommu_vfio *vfio, uint64_t type)
{
	return type == VFIO_TYPE1_IOMMU || type == VFIO_TYPE1v2_IOMMU;
}

void vfio_type1_init(struct vfio_type1 *type1, struct uiommu_vfio *vfio, bool v2)
{
	type1->iommu.ops = &vfio_type1_ops;
	type1->iommu.vfio = vfio;
	type1->msi = UIOMMU_RANGE_NONE;
	type1->v2 = v2;
	type1->avail = vfio->dma_entry_limit;
}

void vfio_type1_unmap_all(struct vfio_type1 *type1)
{
	uint64_t bytes;

	uiommu_ioas_unmap(type1->iommu.ioas, UIOMMU_RANGE_ALL, &bytes, area_removed, type1);
}

void vfio_type1_fini(struct vfio_type1 *type1)
{
	vfio_type1_unmap_all(type1);
	uiommu_ioas_unreserve(type1->iommu.ioas, type1);
	uiommu_free(type1->invalid, type1->invalid_room * sizeof(*type1->invalid));
}

static int create(struct uiommu_vfio *vfio, uint64_t type, struct vfio_iommu **out)
{
	struct vfio_type1 *type1 = uiommu_alloc(sizeof(*type1));
	int ret;

	if (!type1)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	vfio_type1_init(type1, vfio, type == VFIO_TYPE1v2_IOMMU);
	ret = uiommu_ioas_create(&type1->iommu.ioas);
	if (!ret)
		ret = vfio_iommu_domain(vfio, type1->iommu.ioas, &type1->iommu.domain);
	if (ret) {
		uiommu_ioas_destroy(type1->iommu.ioas);
		uiommu_free(type1, sizeof(*type1));
		return ret;
	}
	*out = &type1->iommu;
	return 0;
}

static void destroy(struct vfio_iommu *iommu)
{
	struct vfio_type1 *type1 = type1_of(iommu);

	vfio_type1_fini(type1);
	uiommu_domain_destroy(iommu->domain);
	uiommu_ioas_destroy(iommu->ioas);
	uiommu_free(type1, sizeof(*type1));
}

static int attach(struct vfio_iommu *iommu, const struct vfio_group *group)
{
	const struct uiommu_vfio *vfio = iommu->vfio;
	int ret;

	if (type1_of(iommu)->invalid_count)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY,
				   "a mapping waits for its new vaddr (MAP_DMA with VADDR)");
	ret = vfio_iommu_attach(iommu, group);
	if (!ret && vfio->facts->unsafe_check && !vfio->facts->isolated_msi &&
	    !vfio->unsafe_interrupts) {
		vfio_iommu_detach(iommu, group);
		return vfio_refuse(UIOMMU_RULE_ISOLATION, -EPERM, vfio->facts->name);
	}
	/* The kernel's word for a mapping in a reserved region. */
	return ret == -EADDRINUSE ? -EINVAL : ret;
}

static long extension(const struct uiommu_vfio *vfio, const struct vfio_iommu *iommu,
		      uint64_t number)
{
	switch (number) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_UNMAP_ALL:
		return 1;
	case VFIO_UPDATE_VADDR:
		return iommu && !vfio->facts->program_msi;
	case VFIO_DMA_CC_IOMMU:
		return iommu && vfio->facts->coherent;
	default:
		return 0;
	}
}

/* One mapping is gone. */
static void area_removed(void *ctx, const struct uiommu_area *area)
{
	struct vfio_type1 *type1 = ctx;
	struct uiommu_vfio *vfio = type1->iommu.vfio;
	uint64_t bytes = range_length(area->range);

	type1->avail++;
	vfio_count_removed(vfio, bytes);
	if (vfio->memlock)
		atomic_fetch_sub_explicit(&vfio->locked_pages, bytes / VFIO_PAGE,
					  memory_order_relaxed);
	for (size_t i = 0; i < type1->invalid_count; i++)
		if (type1->invalid[i] == area->range.first) {
			type1->invalid[i] = type1->invalid[--type1->invalid_count];
			break;
		}
}

/* ---- VFIO_IOMMU_GET_INFO ---- */

uint64_t vfio_type1_page(const struct vfio_type1 *type1)
{
	uint64_t sizes = vfio_iommu_page_sizes(type1->iommu.vfio, type1->iommu.ioas);

	return sizes & -sizes;
}

static int add_caps(const struct vfio_type1 *type1, struct vfio_caps *caps)
{
	struct {
		uint32_t flags, pad;
		uint64_t page, max_bitmap;
	} migration = {0, 0, vfio_type1_page(type1), UINT64_C(1) << 28};
	uint32_t avail = type1->avail;
	int ret;

	/* The interface of 2016 had no other capability, and used this one's number. */
	if (type1->iommu.vfio->facts->program_msi)
		return vfio_type1_msi_caps(type1, caps);
	ret = vfio_caps_add(caps, VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, &migration,
			    sizeof(migration));
	if (!ret)
		ret = vfio_caps_add(caps, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, &avail, sizeof(avail));
	if (!ret)
		ret = vfio_iommu_add_ranges(type1->iommu.ioas, caps);
	return ret;
}

static long get_info(struct vfio_type1 *type1, uint64_t arg)
{
	struct vfio_iommu_type1_info info = {0};
	struct vfio_caps caps;
	size_t size;
	int ret;

	ret = vfio_copy_sized(type1->iommu.vfio, &info, arg,
			      offsetof(struct vfio_iommu_type1_info, cap_offset));
	if (ret)
		return ret;
	size = info.argsz < sizeof(info) ? info.argsz : sizeof(info);
	info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
	info.iova_pgsizes = vfio_iommu_page_sizes(type1->iommu.vfio, type1->iommu.ioas);
	vfio_caps_init(&caps, sizeof(info));
	ret = add_caps(type1, &caps);
	if (!ret)
		ret = vfio_caps_out(type1->iommu.vfio, &caps, arg, &info.argsz, &info.cap_offset);
	vfio_caps_free(&caps);
	return ret ? ret : vfio_copy_out(type1->iommu.vfio, arg, &info, size);
}

/* ---- VFIO_IOMMU_MAP_DMA ---- */

/* A map or unmap request after its arguments were found to make sense. */
struct map_request {
	struct uiommu_range iova;
	uint64_t vaddr;
	int prot;
};

static int refuse_range(enum uiommu_rule rule, int error, const char *owner,
			struct uiommu_range asked)
{
	return uiommu_refuse(rule, error, owner, asked, UIOMMU_RANGE_NONE);
}

static int check_map_arguments(const struct vfio_iommu_type1_dma_map *map, struct map_request *req)
{
	struct uiommu_range source;
	bool vaddr = map->flags & VFIO_DMA_MAP_FLAG_VADDR;

	if (!map->size)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "size: 0");
	if (!range_from(map->iova, map->size, &req->iova))
		return refuse_range(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova + size",
				    (struct uiommu_range){map->iova, UINT64_MAX});
	if (!range_from(map->vaddr, map->size, &source))
		return refuse_range(UIOMMU_RULE_WRAP, -EOVERFLOW, "vaddr + size", req->iova);
	req->vaddr = map->vaddr;
	req->prot = (map->flags & VFIO_DMA_MAP_FLAG_READ ? UIOMMU_READ : 0) |
		    (map->flags & VFIO_DMA_MAP_FLAG_WRITE ? UIOMMU_WRITE : 0);
	if (!req->prot == !vaddr)
		return refuse_range(UIOMMU_RULE_PERMISSION, -EINVAL,
				    vaddr ? "flags: VADDR goes with neither READ nor WRITE"
					  : "flags: neither READ nor WRITE",
				    req->iova);
	return 0;
}

/* The area with this very first address: is its vaddr waiting to be set anew, by the first @count
 * entries of the list? */
static bool vaddr_is_invalid(const struct vfio_type1 *type1, size_t count, uint64_t first,
			     size_t *index)
{
	for (size_t i = 0; i < count; i++)
		if (type1->invalid[i] == first) {
			*index = i;
			return true;
		}
	return false;
}

/* An entry of an I/O page table has 52 bits; no program has memory beyond. */
static bool fits_entry(struct uiommu_range source)
{
	return !(source.last >> 52);
}

/* MAP_DMA with VADDR: the same IOVAs, at another address of the program's. */
static int set_vaddr(struct vfio_type1 *type1, const struct map_request *req,
		     const struct uiommu_area *area)
{
	struct uiommu_range source = {req->vaddr, req->vaddr + (range_length(req->iova) - 1)};
	size_t index = 0;
	int ret = 0;

	if (!area)
		return refuse_range(UIOMMU_RULE_NOT_MAPPED, -ENOENT, NULL, req->iova);
	if (area->range.first != req->iova.first || area->range.last != req->iova.last ||
	    !vaddr_is_invalid(type1, type1->invalid_count, area->range.first, &index))
		return uiommu_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				     "not a mapping that was unmapped with VADDR", req->iova,
				     area->range);
	if (!fits_entry(source))
		return uiommu_refuse(UIOMMU_RULE_SOURCE, -EFAULT, "the program's memory at vaddr",
				     req->iova, source);
	if (req->vaddr != area->addr)
		ret = uiommu_ioas_move(type1->iommu.ioas, area->range, req->vaddr);
	if (!ret)
		type1->invalid[index] = type1->invalid[--type1->invalid_count];
	return ret;
}

bool vfio_type1_blocked(const struct vfio_type1 *type1, struct uiommu_range range)
{
	return uiommu_ioas_check(type1->iommu.ioas, range) != 0;
}

static int check_source(const struct vfio_type1 *type1, const struct map_request *req,
			uint64_t bytes)
{
	return vfio_check_source(type1->iommu.vfio, req->iova, req->vaddr, bytes, req->prot);
}

/*
 * Charge the pages and see that they are there. The kernel does both page by page, so which of
 * -EFAULT and -ENOMEM it is depends on whether the limit or the hole comes first.
 */
static int pin(struct vfio_type1 *type1, const struct map_request *req)
{
	struct uiommu_vfio *vfio = type1->iommu.vfio;
	uint64_t bytes = range_length(req->iova), pages = bytes / VFIO_PAGE, before, limit;
	struct rlimit rlimit;
	int ret;

	if (!vfio->memlock)
		return check_source(type1, req, bytes);
	if (getrlimit(RLIMIT_MEMLOCK, &rlimit))
		return vfio_refuse(UIOMMU_RULE_MEMLOCK, -ENOMEM, "RLIMIT_MEMLOCK is not known");
	limit = rlimit.rlim_cur / VFIO_PAGE;
	before = atomic_fetch_add_explicit(&vfio->locked_pages, pages, memory_order_relaxed);
	if (before <= limit && pages <= limit - before) {
		ret = check_source(type1, req, bytes);
	} else {
		uint64_t fits = before < limit ? limit - before : 0;

		ret = check_source(type1, req, (fits + 1) * VFIO_PAGE);
		if (!ret)
			ret = refuse_range(UIOMMU_RULE_MEMLOCK, -ENOMEM, "ulimit -l", req->iova);
	}
	if (ret)
		atomic_fetch_sub_explicit(&vfio->locked_pages, pages, memory_order_relaxed);
	return ret;
}

static int map(struct vfio_type1 *type1, const struct map_request *req)
{
	uint64_t bytes = range_length(req->iova);
	int ret;

	if (!type1->avail)
		return refuse_range(UIOMMU_RULE_LIMIT, -ENOSPC, "dma_entry_limit", req->iova);
	ret = uiommu_ioas_check(type1->iommu.ioas, req->iova);
	if (!ret)
		ret = pin(type1, req);
	if (ret)
		return ret;
	/* While dirty pages are tracked the kernel keeps a bitmap of at most 2^31 - 1 bits. */
	if (type1->tracking && bytes / vfio_type1_page(type1) > INT32_MAX)
		ret = refuse_range(UIOMMU_RULE_LIMIT, -EINVAL, "too large to track its dirty pages",
				   req->iova);
	if (!ret)
		ret = uiommu_ioas_map(type1->iommu.ioas, req->iova, req->vaddr, req->prot, NULL);
	if (!ret) {
		type1->avail--;
		vfio_count_map(type1->iommu.vfio, bytes);
	} else if (type1->iommu.vfio->memlock) {
		atomic_fetch_sub_explicit(&type1->iommu.vfio->locked_pages, bytes / VFIO_PAGE,
					  memory_order_relaxed);
	}
	return ret;
}

static long map_dma(struct vfio_type1 *type1, uint64_t arg)
{
	const uint32_t known =
		VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE | VFIO_DMA_MAP_FLAG_VADDR;
	struct vfio_iommu_type1_dma_map request;
	struct map_request req = {0};
	struct uiommu_area area;
	uint64_t page;
	bool there;
	int ret;

	ret = vfio_copy_sized(type1->iommu.vfio, &request, arg, sizeof(request));
	if (ret)
		return ret;
	if (request.flags & ~known)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: an unknown one");
	/* That interface's flag has VADDR's number. */
	if (type1->iommu.vfio->facts->program_msi && (request.flags & VFIO_DMA_MAP_FLAG_VADDR))
		return vfio_type1_msi_map(type1, &request);
	ret = check_map_arguments(&request, &req);
	if (ret)
		return ret;
	page = vfio_type1_page(type1);
	if ((request.size | request.iova | request.vaddr) & (page - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "iova, vaddr or size",
				     req.iova, (struct uiommu_range){0, page - 1});
	there = !uiommu_ioas_find(type1->iommu.ioas, req.iova.first, &area) &&
		area.range.first <= req.iova.last;
	if (request.flags & VFIO_DMA_MAP_FLAG_VADDR)
		return set_vaddr(type1, &req, there ? &area : NULL);
	if (there)
		return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EEXIST, "an existing mapping", req.iova,
				     area.range);
	return map(type1, &req);
}

/* ---- VFIO_IOMMU_UNMAP_DMA ---- */

bool vfio_type1_cuts(struct vfio_type1 *type1, struct uiommu_range range, struct uiommu_area *area)
{
	if (!uiommu_ioas_find(type1->iommu.ioas, range.first, area) &&
	    area->range.first < range.first)
		return true;
	return !uiommu_ioas_find(type1->iommu.ioas, range.last, area) &&
	       area->range.first <= range.last && area->range.last > range.last;
}

/*
 * The first version's rule: a range that begins inside a mapping removes nothing; one that ends
 * inside a mapping removes it whole. False: nothing.
 */
static bool widen_v1(struct vfio_type1 *type1, struct uiommu_range *range)
{
	struct uiommu_area area;

	if (!uiommu_ioas_find(type1->iommu.ioas, range->first, &area) &&
	    area.range.first < range->first)
		return false;
	if (!uiommu_ioas_find(type1->iommu.ioas, range->last, &area) &&
	    area.range.first <= range->last)
		range->last = area.range.last;
	return true;
}

static int invalid_room(struct vfio_type1 *type1, size_t count)
{
	size_t room = type1->invalid_room ? type1->invalid_room : 16;
	uint64_t *grown;

	while (room < count)
		room *= 2;
	if (room == type1->invalid_room)
		return 0;
	grown = uiommu_alloc_array(room, sizeof(*grown));
	if (!grown)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	if (type1->invalid_count)
		memcpy(grown, type1->invalid, type1->invalid_count * sizeof(*grown));
	uiommu_free(type1->invalid, type1->invalid_room * sizeof(*grown));
	type1->invalid = grown;
	type1->invalid_room = room;
	return 0;
}

/* UNMAP_DMA with VADDR: the mappings stay, their addresses wait to be set anew. */
static int invalidate_vaddr(struct vfio_type1 *type1, struct uiommu_range range, uint64_t *bytes)
{
	size_t before = type1->invalid_count, index;
	struct uiommu_area area;
	uint64_t iova = range.first;
	int ret = 0;

	*bytes = 0;
	while (!uiommu_ioas_find(type1->iommu.ioas, iova, &area) &&
	       area.range.first <= range.last) {
		if (vaddr_is_invalid(type1, before, area.range.first, &index))
			ret = uiommu_refuse(UIOMMU_RULE_ORDER, -EINVAL,
					    "its vaddr is invalid already", range, area.range);
		else
			ret = invalid_room(type1, type1->invalid_count + 1);
		if (ret) {
			type1->invalid_count = before;
			return ret;
		}
		type1->invalid[type1->invalid_count++] = area.range.first;
		*bytes = add_sat(*bytes, range_length(area.range));
		if (area.range.last == UINT64_MAX)
			break;
		iova = area.range.last + 1;
	}
	return 0;
}

static int unmap_with_bitmap(struct vfio_type1 *type1, struct uiommu_range range,
			     const struct vfio_bitmap *bitmap, uint64_t *bytes)
{
	uint64_t done, removed;
	bool any;
	int ret;

	ret = vfio_dirty_report(type1, bitmap, range, &done, &any);
	if (!ret)
		return uiommu_ioas_unmap(type1->iommu.ioas, range, bytes, area_removed, type1);
	/* The kernel has removed those that it could report. */
	if (any)
		uiommu_ioas_unmap(type1->iommu.ioas, (struct uiommu_range){range.first, done},
				  &removed, area_removed, type1);
	return ret;
}

/* The range asked for, or why it can't be. */
static int unmap_range(struct vfio_type1 *type1, const struct vfio_iommu_type1_dma_unmap *request,
		       struct uiommu_range *range)
{
	uint64_t page = vfio_type1_page(type1);

	if (request->iova & (page - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "iova",
				     (struct uiommu_range){request->iova, request->iova},
				     (struct uiommu_range){0, page - 1});
	if (request->flags & VFIO_DMA_UNMAP_FLAG_ALL) {
		if (request->iova || request->size)
			return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
					   "flags: ALL goes with iova 0 and size 0");
		*range = UIOMMU_RANGE_ALL;
		return 0;
	}
	if (!request->size)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "size: 0");
	if (request->size & (page - 1))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "size", UIOMMU_RANGE_NONE,
				     (struct uiommu_range){0, page - 1});
	if (!range_from(request->iova, request->size, range))
		return refuse_range(UIOMMU_RULE_WRAP, -EOVERFLOW, "iova + size",
				    (struct uiommu_range){request->iova, UINT64_MAX});
	return 0;
}

static int unmap(struct vfio_type1 *type1, const struct vfio_iommu_type1_dma_unmap *request,
		 const struct vfio_bitmap *bitmap, uint64_t *bytes)
{
	bool dirty = request->flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
	struct uiommu_range range;
	struct uiommu_area area;
	uint64_t msi = 0;
	int ret = unmap_range(type1, request, &range);

	*bytes = 0;
	if (ret)
		return ret;
	if (dirty && (!type1->tracking || bitmap->pgsize != vfio_type1_page(type1)))
		return refuse_range(type1->tracking ? UIOMMU_RULE_ARGUMENT : UIOMMU_RULE_ORDER,
				    -EINVAL,
				    type1->tracking ? "bitmap.pgsize: not the smallest page"
						    : "dirty pages are not being tracked",
				    range);
	if (type1->v2 && vfio_type1_cuts(type1, range, &area))
		return uiommu_refuse(UIOMMU_RULE_SPLIT, -EINVAL, "an existing mapping", range,
				     area.range);
	if (!type1->v2 && !widen_v1(type1, &range))
		return 0;
	if (request->flags & VFIO_DMA_UNMAP_FLAG_VADDR)
		return invalidate_vaddr(type1, range, bytes);
	if (dirty)
		return unmap_with_bitmap(type1, range, bitmap, bytes);
	ret = vfio_type1_msi_unmap(type1, range, &msi);
	if (!ret)
		ret = uiommu_ioas_unmap(type1->iommu.ioas, range, bytes, area_removed, type1);
	*bytes += msi;
	return ret;
}

/* The arguments that need no look at the address space. */
static int copy_unmap(struct vfio_type1 *type1, uint64_t arg,
		      struct vfio_iommu_type1_dma_unmap *request, struct vfio_bitmap *bitmap)
{
	const uint32_t exclusive = VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR;
	const uint32_t dirty = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
	int ret = vfio_copy_sized(type1->iommu.vfio, request, arg, sizeof(*request));

	if (ret)
		return ret;
	if (request->flags & ~(exclusive | dirty))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: an unknown one");
	if (!(request->flags & dirty))
		return 0;
	if (request->flags & exclusive)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "flags: GET_DIRTY_BITMAP goes with no other");
	if (request->argsz < sizeof(*request) + sizeof(*bitmap))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "argsz: no room for a bitmap");
	ret = vfio_copy_in(type1->iommu.vfio, bitmap, arg + sizeof(*request), sizeof(*bitmap));
	return ret ? ret : vfio_dirty_check_bitmap(bitmap, request->size);
}

static long unmap_dma(struct vfio_type1 *type1, uint64_t arg)
{
	struct vfio_iommu_type1_dma_unmap request;
	struct vfio_bitmap bitmap = {0};
	uint64_t bytes;
	int ret;

	ret = copy_unmap(type1, arg, &request, &bitmap);
	if (!ret)
		ret = unmap(type1, &request, &bitmap, &bytes);
	if (ret)
		return ret;
	if (bytes && !(request.flags & VFIO_DMA_UNMAP_FLAG_VADDR))
		atomic_fetch_add_explicit(&type1->iommu.vfio->counters.unmaps, 1,
					  memory_order_relaxed);
	request.size = bytes;
	return vfio_copy_out(type1->iommu.vfio, arg, &request, sizeof(request));
}

static long request(struct vfio_iommu *iommu, uint32_t number, uint64_t arg)
{
	struct vfio_type1 *type1 = type1_of(iommu);

	switch (number) {
	case VFIO_IOMMU_GET_INFO:
		return get_info(type1, arg);
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(type1, arg);
	case VFIO_IOMMU_UNMAP_DMA:
		return unmap_dma(type1, arg);
	case VFIO_IOMMU_DIRTY_PAGES:
		return vfio_type1_dirty_pages(type1, arg);
	default:
		return -ENOTTY;
	}
}

const struct vfio_iommu_ops vfio_type1_ops = {
	.machines = UIOMMU_VFIO_TYPE1,
	.has_type = has_type,
	.create = create,
	.destroy = destroy,
	.attach = attach,
	.detach = vfio_iommu_detach,
	.ioctl = request,
	.extension = extension,
};
