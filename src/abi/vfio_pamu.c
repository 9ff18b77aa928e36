/* SPDX-License-Identifier: MIT */
/*
 * VFIO on Freescale's PAMU: owns the life of such an IOMMU, MAP_DMA and UNMAP_DMA. Attributes are
 * in vfio_pamu_attr.c, MSI banks in vfio_pamu_bank.c. Requests, layouts, the order of checks and
 * errors are those of Freescale's kernels (drivers/vfio/vfio_iommu_fsl_pamu.c over
 * drivers/iommu/fsl_pamu_domain.c), without the places where they dropped an error, divided by
 * zero or mapped less than was asked for (doc/differences.md).
 *
 * Each window that is mapped is one area, so UNMAP_DMA may take any of them. An area with
 * UIOMMU_MMIO is a bank's page; one that has a tag was made by MAP_MSI_BANK, and UNMAP_DMA leaves
 * it. Devices reach the aperture while there is a mapping of MAP_DMA's; each MAP_DMA lets those in
 * again that a violation has cut off. A request that fails changes nothing.
 *
 * The address space is the same for the IOMMU's life, and so is the domain, which changes its shape
 * with the attributes. All under the container's lock; unmapping can't fail for want of memory.
 */
#include <errno.h>
#include <sys/resource.h>

#include <uiommu/linux/vfio_pamu.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

static struct vfio_pamu *pamu_of(struct vfio_iommu *iommu)
{
	return (struct vfio_pamu *)iommu;
}

/* ---- life ---- */

static bool has_type(const struct uiommu_vfio *vfio, uint64_t type)
{
	return type == vfio->facts->pamu.type;
}

static long extension(const struct uiommu_vfio *vfio, const struct vfio_iommu *iommu,
		      uint64_t number)
{
	return has_type(vfio, number);
}

static int create(struct uiommu_vfio *vfio, uint64_t type, struct vfio_iommu **out)
{
	/* All there is, in one piece, until attributes are set: it takes no secondary entries. */
	const struct uiommu_range all = {0, (UINT64_C(1) << vfio->facts->width) - 1};
	struct uiommu_domain_options options = vfio_pamu_domain_options(vfio, all, 1);
	struct vfio_pamu *pamu = uiommu_alloc(sizeof(*pamu));
	int ret;

	if (!pamu)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	pamu->iommu.ops = &vfio_pamu_ops;
	pamu->iommu.vfio = vfio;
	pamu->geometry = all;
	pamu->count = vfio_pamu_most_windows(vfio);
	ret = uiommu_ioas_create(&pamu->iommu.ioas);
	if (!ret)
		ret = uiommu_domain_create(uiommu_machine_unit(vfio->machine), pamu->iommu.ioas,
					   &options, &pamu->iommu.domain);
	if (ret) {
		uiommu_ioas_destroy(pamu->iommu.ioas);
		uiommu_free(pamu, sizeof(*pamu));
		return ret;
	}
	uiommu_domain_enable(pamu->iommu.domain, false);
	*out = &pamu->iommu;
	return 0;
}

static void destroy(struct vfio_iommu *iommu)
{
	vfio_pamu_unmap_all(pamu_of(iommu));
	uiommu_domain_destroy(iommu->domain);
	uiommu_ioas_destroy(iommu->ioas);
	uiommu_free(pamu_of(iommu), sizeof(struct vfio_pamu));
}

/* ---- memory that is mapped ---- */

static int charge(struct uiommu_vfio *vfio, struct uiommu_range iova)
{
	uint64_t pages = range_length(iova) / VFIO_PAGE, before;
	struct rlimit rlimit = {0};

	if (!vfio->memlock)
		return 0;
	getrlimit(RLIMIT_MEMLOCK, &rlimit);
	before = atomic_fetch_add_explicit(&vfio->locked_pages, pages, memory_order_relaxed);
	if (add_sat(before, pages) <= rlimit.rlim_cur / VFIO_PAGE)
		return 0;
	atomic_fetch_sub_explicit(&vfio->locked_pages, pages, memory_order_relaxed);
	return uiommu_refuse(UIOMMU_RULE_MEMLOCK, -ENOMEM, "ulimit -l", iova, UIOMMU_RANGE_NONE);
}

static void uncharge(struct uiommu_vfio *vfio, struct uiommu_range iova)
{
	if (vfio->memlock)
		atomic_fetch_sub_explicit(&vfio->locked_pages, range_length(iova) / VFIO_PAGE,
					  memory_order_relaxed);
}

void vfio_pamu_area_removed(void *ctx, const struct uiommu_area *area)
{
	struct vfio_pamu *pamu = ctx;
	uint64_t iova;

	if (vfio_pamu_is_bank(area, &iova))
		return;
	pamu->mapped--;
	vfio_count_removed(pamu->iommu.vfio, range_length(area->range));
	if (!(area->prot & UIOMMU_MMIO))
		uncharge(pamu->iommu.vfio, area->range);
}

/* The kernel disables the domain with the last mapping of MAP_DMA's; banks stay mapped. */
static void disable_if_empty(struct vfio_pamu *pamu)
{
	if (pamu->mapped)
		return;
	uiommu_domain_enable(pamu->iommu.domain, false);
	pamu->enabled = false;
}

void vfio_pamu_unmap_all(struct vfio_pamu *pamu)
{
	uint64_t bytes;

	uiommu_ioas_unmap(pamu->iommu.ioas, UIOMMU_RANGE_ALL, &bytes, vfio_pamu_area_removed, pamu);
	disable_if_empty(pamu);
}

/* The first area of MAP_DMA's at or above iova. */
static bool next_mapping(struct vfio_pamu *pamu, uint64_t iova, struct uiommu_area *area)
{
	uint64_t given;

	while (!uiommu_ioas_find(pamu->iommu.ioas, iova, area)) {
		if (!vfio_pamu_is_bank(area, &given))
			return true;
		iova = area->range.last + 1; /* no bank ends at 2^64 - 1 */
	}
	return false;
}

/* ---- VFIO_IOMMU_MAP_DMA ---- */

struct map_request {
	struct uiommu_range iova;
	uint64_t vaddr;
	int prot;
};

static int refuse(enum uiommu_rule rule, int error, const char *owner, struct uiommu_range asked)
{
	return uiommu_refuse(rule, error, owner, asked, UIOMMU_RANGE_NONE);
}

static int check_arguments(const struct vfio_iommu_type1_dma_map *map, struct map_request *req)
{
	const uint32_t known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	struct uiommu_range source;

	if (map->flags & ~known)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: an unknown one");
	req->vaddr = map->vaddr;
	req->prot = (map->flags & VFIO_DMA_MAP_FLAG_READ ? UIOMMU_READ : 0) |
		    (map->flags & VFIO_DMA_MAP_FLAG_WRITE ? UIOMMU_WRITE : 0);
	if (!req->prot)
		return vfio_refuse(UIOMMU_RULE_PERMISSION, -EINVAL,
				   "flags: neither READ nor WRITE");
	if (map->size && !range_from(map->iova, map->size, &req->iova))
		return refuse(UIOMMU_RULE_WRAP, -EINVAL, "iova + size",
			      (struct uiommu_range){map->iova, UINT64_MAX});
	if (map->size && !range_from(map->vaddr, map->size, &source))
		return refuse(UIOMMU_RULE_WRAP, -EINVAL, "vaddr + size", req->iova);
	if (map->size < VFIO_PAGE)
		return vfio_refuse(UIOMMU_RULE_EMPTY, -EINVAL, "size: less than a page");
	return 0;
}

static int refuse_window(const struct vfio_pamu *pamu, struct uiommu_range asked)
{
	return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "iova and size go by windows", asked,
			     (struct uiommu_range){0, pamu->window - 1});
}

/* A window of the aperture that nothing stands in. iova is where it begins. */
static int check_window(struct vfio_pamu *pamu, uint64_t iova)
{
	struct uiommu_range window = {iova, iova + (pamu->window - 1)}, kept;
	struct uiommu_area area;

	if (!range_contains(pamu->aperture, window))
		return uiommu_refuse_reserved(-EINVAL, "the aperture ends (SET_ATTR GEOMETRY)",
					      window, pamu->aperture, UIOMMU_RESV_APERTURE);
	kept = (struct uiommu_range){pamu->aperture.last - pamu->ours * pamu->window + 1,
				     pamu->aperture.last};
	if (pamu->ours && range_overlaps(kept, window))
		return uiommu_refuse_reserved(-EINVAL, "windows for MSI banks", window, kept,
					      UIOMMU_RESV_MSI);
	if (!uiommu_ioas_find(pamu->iommu.ioas, iova, &area) && area.range.first <= window.last)
		return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EBUSY, "an MSI bank", window,
				     area.range);
	return 0;
}

static bool on_window(const struct vfio_pamu *pamu, uint64_t iova)
{
	return !((iova - pamu->aperture.first) & (pamu->window - 1));
}

/* Window by window in the kernel's order, so that the first one's errors come first. */
static int check_memory(struct vfio_pamu *pamu, const struct map_request *req)
{
	uint64_t bytes = range_length(req->iova);

	if (bytes & (pamu->window - 1))
		return refuse_window(pamu, req->iova);
	for (uint64_t done = 0; done < bytes; done += pamu->window) {
		int ret;

		if (!on_window(pamu, req->iova.first + done))
			return refuse_window(pamu, req->iova);
		ret = vfio_check_source(pamu->iommu.vfio, req->iova, req->vaddr + done,
					pamu->window, req->prot);
		if (!ret)
			ret = check_window(pamu, req->iova.first + done);
		if (ret)
			return ret;
	}
	return 0;
}

/* Enter one area; a window that holds a bank the system has placed is taken. */
static int enter(struct vfio_pamu *pamu, struct uiommu_range range, uint64_t addr, int prot)
{
	int ret = uiommu_ioas_map(pamu->iommu.ioas, range, addr, prot, NULL);

	if (ret == -EINVAL && uiommu_last_refusal()->rule == UIOMMU_RULE_RESERVED)
		ret = -EBUSY;
	if (!ret)
		pamu->mapped++;
	return ret;
}

static int map_memory(struct vfio_pamu *pamu, const struct map_request *req)
{
	uint64_t bytes = range_length(req->iova), removed;
	struct uiommu_range window = {req->iova.first, req->iova.first};
	int ret = check_memory(pamu, req);

	for (uint64_t done = 0; done < bytes && !ret; done += pamu->window) {
		window.first = req->iova.first + done;
		window.last = window.first + (pamu->window - 1);
		ret = enter(pamu, window, req->vaddr + done, req->prot);
	}
	if (!ret) {
		vfio_count_call(pamu->iommu.vfio, bytes);
		vfio_count_areas(pamu->iommu.vfio, bytes / pamu->window, bytes);
		return 0;
	}
	if (window.first > req->iova.first) {
		uiommu_ioas_unmap(pamu->iommu.ioas,
				  (struct uiommu_range){req->iova.first, window.first - 1},
				  &removed, NULL, NULL);
		pamu->mapped -= removed / pamu->window;
	}
	return ret;
}

/* The page of an MSI bank that the program has mmapped, at the start of a window. */
static int map_page(struct vfio_pamu *pamu, const struct map_request *req, uint64_t bank)
{
	int ret;

	if (range_length(req->iova) != VFIO_PAGE)
		return refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "size: an MSI bank has one page",
			      req->iova);
	if (!on_window(pamu, req->iova.first))
		return refuse_window(pamu, req->iova);
	ret = check_window(pamu, req->iova.first);
	if (!ret)
		ret = enter(pamu, req->iova, bank, req->prot | UIOMMU_MMIO);
	if (!ret)
		vfio_count_map(pamu->iommu.vfio, VFIO_PAGE);
	return ret;
}

/* Is vaddr a mapping of the program's, not of memory but of a bank? 1: yes; -EINVAL: in part. */
static int find_bank(const struct vfio_pamu *pamu, const struct map_request *req, uint64_t *bank)
{
	const struct uiommu_vfio_host *host = &pamu->iommu.vfio->host;
	int ret;

	if (pamu->iommu.vfio->facts->pamu.msi != UIOMMU_PAMU_MMAP || !host->doorbell_at)
		return 0;
	ret = host->doorbell_at(host->ctx, req->vaddr, range_length(req->iova), bank);
	if (ret >= 0)
		return ret;
	return refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "vaddr: an MSI bank's page and more",
		      req->iova);
}

static int map_either(struct vfio_pamu *pamu, const struct map_request *req, const uint64_t *bank)
{
	if (!pamu->window)
		return refuse(UIOMMU_RULE_ORDER, -ENODEV,
			      "the aperture has no windows yet (SET_ATTR GEOMETRY, then WINDOWS)",
			      req->iova);
	return bank ? map_page(pamu, req, *bank) : map_memory(pamu, req);
}

static int map(struct vfio_pamu *pamu, const struct map_request *req)
{
	struct uiommu_area area;
	uint64_t bank;
	int ret;

	if (next_mapping(pamu, req->iova.first, &area) && area.range.first <= req->iova.last)
		return uiommu_refuse(UIOMMU_RULE_OVERLAP, -EBUSY, "an existing mapping", req->iova,
				     area.range);
	ret = find_bank(pamu, req, &bank);
	if (ret)
		return ret < 0 ? ret : map_either(pamu, req, &bank);
	ret = charge(pamu->iommu.vfio, req->iova);
	if (ret)
		return ret;
	ret = map_either(pamu, req, NULL);
	if (ret)
		uncharge(pamu->iommu.vfio, req->iova);
	return ret;
}

static long map_dma(struct vfio_pamu *pamu, uint64_t arg)
{
	struct vfio_iommu_type1_dma_map request;
	struct map_request req = {0};
	int ret = vfio_copy_sized(pamu->iommu.vfio, &request, arg, sizeof(request));

	if (!ret)
		ret = check_arguments(&request, &req);
	if (!ret)
		ret = map(pamu, &req);
	if (ret)
		return ret;
	uiommu_domain_enable(pamu->iommu.domain, true);
	pamu->enabled = true;
	return 0;
}

/* ---- VFIO_IOMMU_UNMAP_DMA ---- */

/* Does the range begin or end inside a window that is mapped? */
static int check_cuts(struct vfio_pamu *pamu, struct uiommu_range range)
{
	const uint64_t ends[2] = {range.first, range.last};
	struct uiommu_area area;

	for (unsigned i = 0; i < 2; i++)
		if (next_mapping(pamu, ends[i], &area) && range_overlaps(area.range, range) &&
		    !range_contains(range, area.range))
			return uiommu_refuse(UIOMMU_RULE_SPLIT, -EINVAL, "a mapped window", range,
					     area.range);
	return 0;
}

/* Runs of mappings between banks, which stay, go with one flush each. Were there any? */
static bool unmap(struct vfio_pamu *pamu, struct uiommu_range range)
{
	struct uiommu_range run = UIOMMU_RANGE_NONE;
	uint64_t iova = range.first, given, bytes;
	struct uiommu_area area;
	bool more, any = false;

	do {
		more = !uiommu_ioas_find(pamu->iommu.ioas, iova, &area) &&
		       area.range.first <= range.last;
		if (more && !vfio_pamu_is_bank(&area, &given)) {
			run.first = range_valid(run) ? run.first : area.range.first;
			run.last = area.range.last;
		} else if (range_valid(run)) {
			uiommu_ioas_unmap(pamu->iommu.ioas, run, &bytes, vfio_pamu_area_removed,
					  pamu);
			run = UIOMMU_RANGE_NONE;
			any = true;
		}
		iova = more ? area.range.last + 1 : iova; /* an aperture ends below 2^64 - 1 */
	} while (more);
	disable_if_empty(pamu);
	return any;
}

static long unmap_dma(struct vfio_pamu *pamu, uint64_t arg)
{
	struct vfio_iommu_type1_dma_unmap request;
	struct uiommu_range range;
	int ret = vfio_copy_sized(pamu->iommu.vfio, &request, arg, sizeof(request));

	if (ret)
		return ret;
	if (request.flags)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: there are none");
	if (!request.size)
		return 0;
	if (!range_from(request.iova, request.size, &range))
		return refuse(UIOMMU_RULE_WRAP, -EINVAL, "iova + size",
			      (struct uiommu_range){request.iova, UINT64_MAX});
	ret = check_cuts(pamu, range);
	if (ret)
		return ret;
	if (unmap(pamu, range))
		atomic_fetch_add_explicit(&pamu->iommu.vfio->counters.unmaps, 1,
					  memory_order_relaxed);
	return 0;
}

/* ---- requests ---- */

/* For programs written to another of the four ways. */
static long refuse_way(const char *instead)
{
	return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENOTTY, instead);
}

static long bank_request(struct vfio_pamu *pamu, uint32_t number, uint64_t arg)
{
	switch (pamu->iommu.vfio->facts->pamu.msi) {
	case UIOMMU_PAMU_EXPLICIT:
		return number == VFIO_IOMMU_PAMU_MAP_MSI_BANK ? vfio_pamu_map_bank(pamu, arg)
							      : vfio_pamu_unmap_bank(pamu, arg);
	case UIOMMU_PAMU_MMAP:
		return refuse_way("here banks are mmapped (GET_MSI_FD), then MAP_DMA; "
				  "see msi=explicit");
	default:
		return refuse_way("here banks are mapped by SET_IRQS; see msi=explicit");
	}
}

static long request(struct vfio_iommu *iommu, uint32_t number, uint64_t arg)
{
	struct vfio_pamu *pamu = pamu_of(iommu);

	switch (number) {
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(pamu, arg);
	case VFIO_IOMMU_UNMAP_DMA:
		return unmap_dma(pamu, arg);
	case VFIO_IOMMU_PAMU_GET_ATTR:
		return vfio_pamu_get_attr(pamu, arg);
	case VFIO_IOMMU_PAMU_SET_ATTR:
		return vfio_pamu_set_attr(pamu, arg);
	case VFIO_IOMMU_PAMU_GET_MSI_BANK_COUNT:
		return iommu->vfio->facts->pamu.banks;
	case VFIO_IOMMU_PAMU_MAP_MSI_BANK:
	case VFIO_IOMMU_PAMU_UNMAP_MSI_BANK:
		return bank_request(pamu, number, arg);
	default:
		return -ENOTTY;
	}
}

const struct vfio_iommu_ops vfio_pamu_ops = {
	.machines = UIOMMU_VFIO_PAMU,
	.has_type = has_type,
	.create = create,
	.destroy = destroy,
	.attach = vfio_iommu_attach,
	.detach = vfio_iommu_detach,
	.ioctl = request,
	.extension = extension,
};
