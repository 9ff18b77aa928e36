/* SPDX-License-Identifier: MIT */
/*
 * Windows of the sPAPR TCE driver: owns the two slots of a container, each with a window of the
 * domain's, the default one made when it is first needed, others by CREATE.
 *
 * The slot decides where a window starts: the first at the 32-bit window's address, the second at
 * the 64-bit one's (Linux 7.2, powernv's pci-ioda.c; on pseries the hypervisor does it, here as
 * QEMU). Tables are charged to RLIMIT_MEMLOCK as Linux charges them. All under the container's
 * lock.
 */
#include <errno.h>
#include <stdio.h>

#include "abi/vfio_spapr.h"

#define TCE_SHIFT	  3 /* an entry has 8 bytes */
#define DEFAULT_SHIFT	  12
#define HOST_SHIFT	  12
#define TABLE_ENTRIES_MIN (1u << (HOST_SHIFT - TCE_SHIFT))

static const struct uiommu_spapr_facts *facts_of(const struct vfio_spapr *spapr)
{
	return &spapr->iommu.vfio->facts->spapr;
}

/* The hypervisor makes a guest's windows, in tables of one level. */
static bool is_guest(const struct vfio_spapr *spapr)
{
	return facts_of(spapr)->levels == 1;
}

static bool window_exists(const struct spapr_window *window)
{
	return range_valid(window->range);
}

struct spapr_window *spapr_window_at(struct vfio_spapr *spapr, uint64_t iova)
{
	for (unsigned i = 0; i < SPAPR_WINDOWS; i++) {
		struct uiommu_range range = spapr->windows[i].range;

		if (range.first <= iova && iova <= range.last)
			return &spapr->windows[i];
	}
	return NULL;
}

int spapr_refuse_outside(const struct vfio_spapr *spapr, struct uiommu_range asked)
{
	char where[UIOMMU_OWNER_MAX] = "there is no window; CREATE makes one";
	size_t used = 0;

	for (unsigned i = 0; i < SPAPR_WINDOWS; i++) {
		struct uiommu_range range = spapr->windows[i].range;

		if (range_valid(range) && used < sizeof(where))
			used += snprintf(where + used, sizeof(where) - used, "%s0x%llx+0x%llx",
					 used ? ", " : "windows: ", (unsigned long long)range.first,
					 (unsigned long long)range_length(range));
	}
	return uiommu_refuse(UIOMMU_RULE_APERTURE, -ENXIO, where, asked, UIOMMU_RANGE_NONE);
}

/* ---- tables ---- */

/* Bytes of a table of several levels and of its copy for user addresses, at most; 0: there is no
 * such table (pnv_pci_ioda2_get_table_size()). */
static uint64_t levels_bytes(unsigned page_shift, uint64_t size, unsigned levels)
{
	unsigned entries = 63 - __builtin_clzll(size) - page_shift, level;
	uint64_t table, bytes = 0;

	table = UINT64_C(1) << (entries + TCE_SHIFT);
	if (table < VFIO_PAGE)
		table = VFIO_PAGE;
	level = (entries + levels - 1) / levels + TCE_SHIFT;
	if (level < HOST_SHIFT)
		level = HOST_SHIFT;
	/* More address bits than the hardware looks at. */
	if ((level - TCE_SHIFT) * levels + page_shift >= 55)
		return 0;
	for (unsigned i = 0; i < levels; i++) {
		uint64_t one = UINT64_C(1) << level;

		bytes += (table + one - 1) & ~(one - 1);
		table = (table >> level) << TCE_SHIFT;
		if (table < one)
			table = one;
	}
	return 2 * bytes;
}

/* Is this a window that the platform can make? Its table's bytes, or 0. */
static uint64_t table_bytes(const struct vfio_spapr *spapr, unsigned page_shift, uint64_t size,
			    unsigned levels)
{
	if (!is_pow2(size) || size >> page_shift == 0 || levels > facts_of(spapr)->levels)
		return 0;
	if (!is_guest(spapr))
		return levels ? levels_bytes(page_shift, size, levels) : 0;
	/* Either window must end before the next power of two after the second one's start. */
	return size <= facts_of(spapr)->window64 ? size >> (page_shift - TCE_SHIFT) : 0;
}

/* ---- making and removing ---- */

static int make_window(struct vfio_spapr *spapr, struct spapr_window *slot, unsigned page_shift,
		       uint64_t size, unsigned levels)
{
	bool second = slot != &spapr->windows[0];
	uint64_t first = second ? facts_of(spapr)->window64 : facts_of(spapr)->window32.first;
	uint64_t pages = table_bytes(spapr, page_shift, size, levels) / VFIO_PAGE;
	struct uiommu_domain_window window = {
		.size = sizeof(window),
		.page_shift = page_shift,
		.levels = levels ? levels : 1,
	};
	int ret = vfio_charge(spapr->iommu.vfio, pages);

	if (ret)
		return ret;
	/* A table of the machine's own is at least a page. */
	if (!is_guest(spapr) && size >> page_shift < TABLE_ENTRIES_MIN)
		size = (uint64_t)TABLE_ENTRIES_MIN << page_shift;
	window.range = (struct uiommu_range){first, first + (size - 1)};
	ret = uiommu_domain_window_create(spapr->iommu.domain, &window);
	if (ret) {
		vfio_uncharge(spapr->iommu.vfio, pages);
		return ret;
	}
	*slot = (struct spapr_window){window.range, page_shift, pages};
	return 0;
}

static void drop_window(struct vfio_spapr *spapr, struct spapr_window *slot)
{
	vfio_uncharge(spapr->iommu.vfio, slot->table_pages);
	slot->range = UIOMMU_RANGE_NONE;
}

int spapr_default_window(struct vfio_spapr *spapr)
{
	int ret;

	if (!spapr->default_pending)
		return 0;
	ret = make_window(spapr, &spapr->windows[0], DEFAULT_SHIFT,
			  range_length(facts_of(spapr)->window32), 1);
	if (!ret)
		spapr->default_pending = false;
	return ret;
}

static int create_window(struct vfio_spapr *spapr, const struct vfio_iommu_spapr_tce_create *create,
			 uint64_t *start)
{
	const struct uiommu_spapr_facts *facts = facts_of(spapr);
	struct spapr_window *slot = spapr->windows, *end = slot + facts->windows;
	int ret;

	while (slot < end && window_exists(slot))
		slot++;
	if (slot == end)
		return vfio_refuse(UIOMMU_RULE_LIMIT, -ENOSPC,
				   "all windows that there may be exist; REMOVE one first");
	if (create->page_shift >= 64 || !(facts->page_sizes >> create->page_shift & 1))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "page_shift: none of GET_INFO's ddw.pgsizes");
	if (!table_bytes(spapr, create->page_shift, create->window_size, create->levels))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "window_size (a power of two of pages) or levels");
	if (!facts->recreate && slot == &spapr->windows[0] && window_exists(&spapr->windows[1]))
		return vfio_refuse(UIOMMU_RULE_ORDER, -EPERM,
				   "the first window can't return while the second is there");
	ret = make_window(spapr, slot, create->page_shift, create->window_size, create->levels);
	if (!ret)
		*start = slot->range.first;
	return ret;
}

long spapr_create(struct vfio_spapr *spapr, uint64_t arg)
{
	struct vfio_iommu_spapr_tce_create create;
	uint64_t start = 0;
	int ret;

	spapr->adopted = true;
	ret = vfio_copy_sized(spapr->iommu.vfio, &create, arg, sizeof(create));
	if (ret)
		return ret;
	if (create.flags)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: there are none");
	ret = spapr_default_window(spapr);
	if (!ret)
		ret = create_window(spapr, &create, &start);
	if (ret)
		return ret;
	create.start_addr = start;
	return vfio_copy_out(spapr->iommu.vfio, arg, &create, sizeof(create));
}

static int remove_window(struct vfio_spapr *spapr, struct spapr_window *slot)
{
	int ret = spapr_clear(spapr, slot->range);

	if (!ret)
		ret = uiommu_domain_window_remove(spapr->iommu.domain, slot->range.first);
	if (!ret)
		drop_window(spapr, slot);
	return ret;
}

long spapr_remove(struct vfio_spapr *spapr, uint64_t arg)
{
	struct vfio_iommu_spapr_tce_remove request;
	struct spapr_window *slot;
	int ret;

	spapr->adopted = true;
	ret = vfio_copy_sized(spapr->iommu.vfio, &request, arg, sizeof(request));
	if (ret)
		return ret;
	if (request.flags)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: there are none");
	/* One that nobody needed yet is simply never made. */
	if (spapr->default_pending && !request.start_addr) {
		spapr->default_pending = false;
		return 0;
	}
	slot = spapr_window_at(spapr, request.start_addr);
	if (!slot)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "start_addr: no window holds this address");
	return remove_window(spapr, slot);
}

void spapr_drop_windows(struct vfio_spapr *spapr)
{
	for (unsigned i = 0; i < SPAPR_WINDOWS; i++)
		if (window_exists(&spapr->windows[i]))
			drop_window(spapr, &spapr->windows[i]);
}
