/* SPDX-License-Identifier: MIT */
/*
 * What the IOMMU drivers of containers share: owns the list of them, the attaching of a group's
 * functions to a domain, and the counting of mappings. Which drivers there are is the platform's
 * business. No state but the counters, which are atomic.
 */
#include <errno.h>
#include <sys/resource.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

static const struct vfio_iommu_ops *const drivers[] = {&vfio_type1_ops, &vfio_pamu_ops,
						       &vfio_spapr_ops, &vfio_noiommu_ops};

#define DRIVERS (sizeof(drivers) / sizeof(drivers[0]))

const struct vfio_iommu_ops *vfio_iommu_driver(const struct uiommu_vfio *vfio, uint64_t type)
{
	for (size_t i = 0; i < DRIVERS; i++)
		if ((vfio->facts->vfio_types & drivers[i]->machines) &&
		    drivers[i]->has_type(vfio, type))
			return drivers[i];
	return NULL;
}

long vfio_iommu_extension(const struct uiommu_vfio *vfio, bool loaded, uint64_t extension)
{
	unsigned asked = vfio->facts->vfio_types | (loaded ? vfio->facts->vfio_modules : 0);
	long ret = 0;

	/* As the kernel: the first driver that says yes. */
	for (size_t i = 0; i < DRIVERS && ret <= 0; i++)
		if (asked & drivers[i]->machines)
			ret = drivers[i]->extension(vfio, NULL, extension);
	return ret;
}

const char *vfio_iommu_types(const struct uiommu_vfio *vfio)
{
	switch (vfio->facts->vfio_types) {
	case UIOMMU_VFIO_TYPE1:
		return "this machine has IOMMUs of type1 and type1v2 only";
	case UIOMMU_VFIO_PAMU:
		return vfio->facts->pamu.type == 2
			       ? "this machine has an IOMMU of type VFIO_FSL_PAMU_IOMMU, 2, only"
			       : "this machine has an IOMMU of type VFIO_FSL_PAMU_IOMMU, 7, only";
	case UIOMMU_VFIO_SPAPR:
		return "this machine has IOMMUs of type sPAPR TCE v1 and v2 only";
	default:
		return "this machine has VFIO_NOIOMMU_IOMMU only";
	}
}

int vfio_iommu_domain(struct uiommu_vfio *vfio, struct uiommu_ioas *ioas,
		      struct uiommu_domain **out)
{
	struct uiommu_domain_options options = {
		.size = sizeof(options),
		.format = vfio->facts->format,
		.width = vfio->facts->width,
		.name = vfio->facts->name,
		.aperture = vfio->facts->aperture,
		.page_sizes = vfio->facts->page_sizes,
		.snoop = vfio->facts->coherent,
	};

	return uiommu_domain_create(uiommu_machine_unit(vfio->machine), ioas, &options, out);
}

int vfio_iommu_attach(struct vfio_iommu *iommu, const struct vfio_group *group)
{
	struct uiommu_vfio *vfio = iommu->vfio;
	size_t i;
	int ret = 0;

	for (i = 0; i < vfio->device_count && !ret; i++)
		if (vfio->devices[i].group == group)
			ret = uiommu_domain_attach(iommu->domain, vfio->devices[i].info->rid,
						   vfio->facts->regions, vfio->facts->region_count,
						   vfio->devices[i].info->name);
	if (!ret)
		return 0;
	/* The last one tried has not been attached. */
	for (i--; i--;)
		if (vfio->devices[i].group == group)
			uiommu_domain_detach(iommu->domain, vfio->devices[i].info->rid);
	return ret;
}

void vfio_iommu_detach(struct vfio_iommu *iommu, const struct vfio_group *group)
{
	struct uiommu_vfio *vfio = iommu->vfio;

	for (size_t i = 0; i < vfio->device_count; i++)
		if (vfio->devices[i].group == group)
			uiommu_domain_detach(iommu->domain, vfio->devices[i].info->rid);
}

uint64_t vfio_iommu_page_sizes(const struct uiommu_vfio *vfio, struct uiommu_ioas *ioas)
{
	uint64_t sizes = uiommu_ioas_page_sizes(ioas);

	if (vfio->facts->any_page)
		sizes |= ~(VFIO_PAGE - 1);
	if (sizes & (VFIO_PAGE - 1))
		sizes = (sizes & ~(VFIO_PAGE - 1)) | VFIO_PAGE;
	return sizes;
}

int vfio_iommu_add_ranges(struct uiommu_ioas *ioas, struct vfio_caps *caps)
{
	struct {
		uint32_t count, reserved;
		struct uiommu_range ranges[];
	} * body;
	size_t count = 0, size;
	int ret;

	uiommu_ioas_ranges(ioas, NULL, &count);
	if (!count)
		return 0;
	size = sizeof(*body) + count * sizeof(body->ranges[0]);
	body = uiommu_alloc(size);
	if (!body)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	uiommu_ioas_ranges(ioas, body->ranges, &count);
	body->count = count;
	ret = vfio_caps_add(caps, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, body, size);
	uiommu_free(body, size);
	return ret;
}

static void raise_to(_Atomic uint64_t *most, uint64_t value)
{
	uint64_t now = atomic_load_explicit(most, memory_order_relaxed);

	while (now < value &&
	       !atomic_compare_exchange_weak_explicit(most, &now, value, memory_order_relaxed,
						      memory_order_relaxed))
		;
}

void vfio_count_call(struct uiommu_vfio *vfio, uint64_t bytes)
{
	atomic_fetch_add_explicit(&vfio->counters.maps, 1, memory_order_relaxed);
	raise_to(&vfio->counters.largest, bytes);
}

void vfio_count_areas(struct uiommu_vfio *vfio, uint64_t areas, uint64_t bytes)
{
	struct vfio_counters *c = &vfio->counters;
	uint64_t before = atomic_fetch_add_explicit(&c->live, areas, memory_order_relaxed);

	atomic_fetch_add_explicit(&c->live_bytes, bytes, memory_order_relaxed);
	raise_to(&c->most, before + areas);
}

void vfio_count_map(struct uiommu_vfio *vfio, uint64_t bytes)
{
	vfio_count_call(vfio, bytes);
	vfio_count_areas(vfio, 1, bytes);
}

void vfio_count_removed(struct uiommu_vfio *vfio, uint64_t bytes)
{
	atomic_fetch_sub_explicit(&vfio->counters.live, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&vfio->counters.live_bytes, bytes, memory_order_relaxed);
}

int vfio_charge_to(struct uiommu_vfio *vfio, _Atomic uint64_t *counter, uint64_t pages)
{
	struct rlimit rlimit;
	uint64_t before, limit;

	if (!vfio->memlock || !pages)
		return 0;
	if (getrlimit(RLIMIT_MEMLOCK, &rlimit))
		return vfio_refuse(UIOMMU_RULE_MEMLOCK, -ENOMEM, "RLIMIT_MEMLOCK is not known");
	limit = rlimit.rlim_cur / VFIO_PAGE;
	before = atomic_fetch_add_explicit(counter, pages, memory_order_relaxed);
	if (before <= limit && pages <= limit - before)
		return 0;
	atomic_fetch_sub_explicit(counter, pages, memory_order_relaxed);
	return vfio_refuse(UIOMMU_RULE_MEMLOCK, -ENOMEM, "ulimit -l");
}

int vfio_charge(struct uiommu_vfio *vfio, uint64_t pages)
{
	return vfio_charge_to(vfio, &vfio->locked_pages, pages);
}

void vfio_uncharge(struct uiommu_vfio *vfio, uint64_t pages)
{
	if (vfio->memlock)
		atomic_fetch_sub_explicit(&vfio->locked_pages, pages, memory_order_relaxed);
}

int vfio_check_source(const struct uiommu_vfio *vfio, struct uiommu_range iova, uint64_t vaddr,
		      uint64_t bytes, int prot)
{
	const struct uiommu_memory *memory = uiommu_unit_memory(uiommu_machine_unit(vfio->machine));
	struct uiommu_range source = {vaddr, vaddr + (bytes - 1)};

	/* An entry of an I/O page table has 52 bits; no program has memory beyond. */
	if (!(source.last >> 52) &&
	    (!memory->ops->check || !memory->ops->check(memory->ctx, vaddr, bytes, prot)))
		return 0;
	return uiommu_refuse(UIOMMU_RULE_SOURCE, -EFAULT, "the program's memory at vaddr", iova,
			     source);
}
