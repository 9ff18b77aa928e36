/* SPDX-License-Identifier: MIT */
/*
 * The attributes of a PAMU container: GEOMETRY, WINDOWS and PAMU_STASH, in the order in which
 * Freescale's VFIO and its IOMMU driver check them.
 *
 * The geometry takes effect with WINDOWS, which gives the domain its new shape and forgets what was
 * mapped: that can only be banks, as both attributes are refused while a mapping of MAP_DMA's is
 * there. After a new geometry there are no windows until they are set again. WINDOWS also says
 * where the system may place banks, if that is its business; so it is refused while some interrupt
 * uses one that it has placed. All under the container's lock; what fails changes nothing.
 */
#include <errno.h>

#include <uiommu/linux/vfio_pamu.h>

#include "abi/vfio_private.h"

#define CPUS 8 /* of a P4080 */

static bool rounds(const struct uiommu_vfio *vfio)
{
	return vfio->facts->pamu.msi == UIOMMU_PAMU_ROUNDED;
}

unsigned vfio_pamu_most_windows(const struct uiommu_vfio *vfio)
{
	const struct uiommu_pamu_facts *facts = &vfio->facts->pamu;

	return rounds(vfio) ? facts->windows - facts->banks : facts->windows;
}

struct uiommu_domain_options vfio_pamu_domain_options(const struct uiommu_vfio *vfio,
						      struct uiommu_range aperture,
						      unsigned windows)
{
	return (struct uiommu_domain_options){
		.size = sizeof(struct uiommu_domain_options),
		.format = vfio->facts->format,
		.width = vfio->facts->width,
		.name = vfio->facts->name,
		.aperture = aperture,
		.windows = windows,
		.page_sizes = vfio->facts->page_sizes,
	};
}

/* ---- GEOMETRY ---- */

/* Where banks go in windows of this size, the last @ours of which are theirs alone; nowhere while
 * there are no windows (0). */
static struct uiommu_doorbell_place place_banks(const struct vfio_pamu *pamu,
						struct uiommu_range aperture, uint64_t window,
						unsigned ours)
{
	struct uiommu_doorbell_place place = {UIOMMU_RANGE_NONE, VFIO_PAGE, true};
	enum uiommu_pamu_msi way = pamu->iommu.vfio->facts->pamu.msi;

	if (window && (way == UIOMMU_PAMU_IMPLICIT || way == UIOMMU_PAMU_ROUNDED)) {
		place.range = aperture;
		place.step = window;
		if (ours)
			place.range.first = aperture.last - ours * window + 1;
	}
	return place;
}

static int set_geometry(struct vfio_pamu *pamu, struct uiommu_range geometry)
{
	uint64_t size = geometry.last - geometry.first + 1;
	const struct uiommu_range reach = {0, (UINT64_C(1) << pamu->iommu.vfio->facts->width) - 1};
	struct uiommu_doorbell_place nowhere;

	if (!is_pow2(size) || size < VFIO_PAGE)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				     "geometry: not a power of two of at least 4096 bytes",
				     geometry, UIOMMU_RANGE_NONE);
	if (geometry.first & (size - 1))
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				     "geometry: not at a multiple of its size", geometry,
				     UIOMMU_RANGE_NONE);
	if (pamu->enabled)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY,
				   "memory is mapped (UNMAP_DMA disables the aperture)");
	if (!range_contains(reach, geometry))
		return uiommu_refuse_reserved(-EINVAL, pamu->iommu.vfio->facts->name, geometry,
					      reach, UIOMMU_RESV_APERTURE);
	if (geometry.first != pamu->geometry.first || geometry.last != pamu->geometry.last) {
		nowhere = place_banks(pamu, geometry, 0, 0);
		pamu->window = 0;
		uiommu_ioas_place_doorbells(pamu->iommu.ioas, &nowhere);
	}
	pamu->geometry = geometry;
	pamu->geometry_set = true;
	return 0;
}

/* ---- WINDOWS ---- */

/* How many windows there will be if @asked are asked for. */
static int count_windows(const struct vfio_pamu *pamu, uint32_t asked, unsigned *count)
{
	const struct uiommu_pamu_facts *facts = &pamu->iommu.vfio->facts->pamu;

	if (asked > facts->windows)
		return vfio_refuse(UIOMMU_RULE_LIMIT, -EINVAL, "windows: there are at most 256");
	*count = asked;
	if (!rounds(pamu->iommu.vfio))
		return 0;
	if (!asked || asked + facts->banks > facts->windows)
		return vfio_refuse(UIOMMU_RULE_LIMIT, -EINVAL,
				   asked ? "windows: with those for MSI banks, more than 256"
					 : "windows: none");
	*count = pow2_ceil(asked + facts->banks);
	return 0;
}

/* Give the domain its shape, and banks their place in it. Banks that the program has mapped go. If
 * this is refused, interrupts that are set up meanwhile don't notice. */
static int shape(struct vfio_pamu *pamu, unsigned count, const struct uiommu_doorbell_place *place)
{
	struct uiommu_domain_options options =
		vfio_pamu_domain_options(pamu->iommu.vfio, pamu->geometry, count);
	size_t placed = 0;
	int ret = 0;

	if (uiommu_ioas_doorbells(pamu->iommu.ioas, NULL, &placed) || placed)
		ret = -EBUSY;
	else if (!pamu->window || count != pamu->count)
		ret = uiommu_domain_reshape(pamu->iommu.domain, &options, place,
					    vfio_pamu_area_removed, pamu);
	/* else as it is: another table need not be had, and a bank that comes now may stay */
	if (!ret)
		vfio_pamu_unmap_all(pamu);
	if (ret == -EBUSY)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY,
				   "an interrupt uses an MSI bank in this aperture (SET_IRQS "
				   "turns it off)");
	/* The driver's word for a table that is used up. */
	return ret == -ENOSPC ? -EINVAL : ret;
}

static int set_windows(struct vfio_pamu *pamu, uint32_t asked)
{
	struct uiommu_doorbell_place place;
	unsigned count = 0, ours;
	uint64_t window;
	int ret = count_windows(pamu, asked, &count);

	if (ret)
		return ret;
	if (pamu->enabled)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY,
				   "memory is mapped (UNMAP_DMA disables the aperture)");
	if (!pamu->geometry_set)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				   "the geometry comes first (SET_ATTR GEOMETRY)");
	if (!is_pow2(count))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "windows: not a power of two (msi=rounded takes any number)");
	if (range_length(pamu->geometry) / count < VFIO_PAGE)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				     "windows: less than 4096 bytes each", pamu->geometry,
				     UIOMMU_RANGE_NONE);
	window = range_length(pamu->geometry) / count;
	ours = rounds(pamu->iommu.vfio) ? pamu->iommu.vfio->facts->pamu.banks : 0;
	place = place_banks(pamu, pamu->geometry, window, ours);
	ret = shape(pamu, count, &place);
	if (ret)
		return ret;
	pamu->aperture = pamu->geometry;
	pamu->count = count;
	pamu->window = window;
	pamu->ours = ours;
	pamu->stash_cpu = pamu->stash_cache = 0;
	return 0;
}

/* ---- PAMU_STASH ---- */

/* The third level is all processors'. */
static int set_stash(struct vfio_pamu *pamu, uint32_t cpu, uint32_t cache)
{
	if (!pamu->window)
		return vfio_refuse(UIOMMU_RULE_ORDER, -ENODEV,
				   "the aperture has no windows yet (SET_ATTR WINDOWS)");
	if (cache < 1 || cache > 3 || (cache < 3 && cpu >= CPUS))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "stash: cache is 1, 2 or 3, cpu is below 8");
	pamu->stash_cpu = cpu;
	pamu->stash_cache = cache;
	return 0;
}

/* ---- requests ---- */

static int refuse_attribute(void)
{
	return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
			   "attribute: 0 GEOMETRY, 1 WINDOWS or 2 PAMU_STASH");
}

long vfio_pamu_get_attr(struct vfio_pamu *pamu, uint64_t arg)
{
	struct vfio_pamu_attr attr;
	int ret = vfio_copy_sized(pamu->iommu.vfio, &attr, arg, sizeof(attr));

	if (ret)
		return ret;
	switch (attr.attribute) {
	case VFIO_ATTR_GEOMETRY:
		attr.attr_info.attr.aperture_start = pamu->geometry.first;
		attr.attr_info.attr.aperture_end = pamu->geometry.last;
		break;
	case VFIO_ATTR_WINDOWS:
		attr.attr_info.windows = pamu->count;
		break;
	case VFIO_ATTR_PAMU_STASH:
		attr.attr_info.stash.cpu = pamu->stash_cpu;
		attr.attr_info.stash.cache = pamu->stash_cache;
		break;
	default:
		return refuse_attribute();
	}
	return vfio_copy_out(pamu->iommu.vfio, arg, &attr, sizeof(attr));
}

long vfio_pamu_set_attr(struct vfio_pamu *pamu, uint64_t arg)
{
	struct vfio_pamu_attr attr;
	int ret = vfio_copy_sized(pamu->iommu.vfio, &attr, arg, sizeof(attr));

	if (ret)
		return ret;
	switch (attr.attribute) {
	case VFIO_ATTR_GEOMETRY:
		return set_geometry(pamu, (struct uiommu_range){attr.attr_info.attr.aperture_start,
								attr.attr_info.attr.aperture_end});
	case VFIO_ATTR_WINDOWS:
		return set_windows(pamu, attr.attr_info.windows);
	case VFIO_ATTR_PAMU_STASH:
		return set_stash(pamu, attr.attr_info.stash.cpu, attr.attr_info.stash.cache);
	default:
		return refuse_attribute();
	}
}
