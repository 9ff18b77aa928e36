/* SPDX-License-Identifier: MIT */
/*
 * Owns the search on machines whose address spaces are made of windows. PAMU: one aperture, and how
 * many windows to cut it into. POWER: the default window, or one that is made for RAM. Candidates
 * are tried from the smallest on; which of them can be is the library's answer.
 */
#include <string.h>

#include "cmd/plan.h"
#include "util/range.h"

/* ---- PAMU ---- */

/* RAM from its lowest to its highest address, with what has no place behind what came before. */
static struct uiommu_range extent(const struct plan_request *request)
{
	struct uiommu_range all = {UINT64_MAX, 0};
	uint64_t next = 0;

	for (unsigned i = 0; i < request->ram_count; i++) {
		const struct plan_ram *ram = &request->ram[i];
		uint64_t first = ram->placed ? ram->range.first : next;

		next = add_sat(first, range_length(ram->range));
		all.first = first < all.first ? first : all.first;
		all.last = next - 1 > all.last ? next - 1 : all.last;
	}
	return range_valid(all) ? all : (struct uiommu_range){0, 4095};
}

/* The smallest aperture of at least @size bytes around it: a power of two, at a multiple of that.
 */
static struct uiommu_range aperture_around(struct uiommu_range ram, uint64_t size)
{
	struct uiommu_range aperture;

	do {
		aperture.first = ram.first & ~(size - 1);
		aperture.last = aperture.first + (size - 1);
		size <<= 1;
	} while (size && aperture.last < ram.last);
	return aperture;
}

/* How many windows a program asks for, so that there are @windows. In the way that rounds up, it
 * counts those of its RAM alone. */
static unsigned windows_to_ask(const struct uiommu_platform_facts *facts,
			       const struct plan_request *request, struct uiommu_range aperture,
			       unsigned windows)
{
	uint64_t window = (range_length(aperture) - 1) / windows + 1, used = 0;

	if (facts->pamu.msi != UIOMMU_PAMU_ROUNDED)
		return windows;
	for (unsigned i = 0; i < request->ram_count; i++)
		used += (range_length(request->ram[i].range) - 1) / window + 1;
	return used > UINT32_MAX ? UINT32_MAX : (unsigned)used;
}

/* The fewest windows that will do in this aperture, or just @fixed of them. */
static bool try_windows(const struct plan_request *request,
			const struct uiommu_platform_facts *facts, struct uiommu_range aperture,
			unsigned fixed, struct plan_layout *layout)
{
	layout->geometry.aperture = aperture;
	if (fixed) {
		layout->geometry.windows = fixed;
		return plan_try(request, PLAN_AS_ASKED, request->vectors, layout);
	}
	for (unsigned windows = 1; windows <= facts->pamu.windows; windows *= 2) {
		/* Rounding up may lead to more windows than these. */
		layout->geometry.windows = windows_to_ask(facts, request, aperture, windows);
		if (plan_try(request, PLAN_AS_ASKED, request->vectors, layout) &&
		    layout->geometry.windows == windows)
			return true;
	}
	layout->stage = PLAN_STAGE_SPACE;
	return false;
}

/* The smallest aperture that will do. */
static bool try_apertures(const struct plan_request *request,
			  const struct uiommu_platform_facts *facts, unsigned fixed,
			  struct plan_layout *layout)
{
	struct uiommu_range ram = extent(request);

	for (unsigned bits = 12; bits <= facts->width; bits++) {
		struct uiommu_range aperture = aperture_around(ram, UINT64_C(1) << bits);

		if (range_length(aperture) != UINT64_C(1) << bits)
			continue;
		if (try_windows(request, facts, aperture, fixed, layout))
			return true;
	}
	return false;
}

/* What a program would come to that only looks at its RAM, for the library to say what is wrong
 * with it: windows as large as all RAM is a multiple of. */
static void try_plainly(const struct plan_request *request,
			const struct uiommu_platform_facts *facts, struct plan_layout *layout)
{
	struct uiommu_range ram = extent(request);
	uint64_t bits = 0, size, windows;

	for (unsigned i = 0; i < request->ram_count; i++) {
		bits |= range_length(request->ram[i].range);
		bits |= request->ram[i].placed ? request->ram[i].range.first : 0;
	}
	layout->geometry = request->geometry;
	if (!range_valid(layout->geometry.aperture)) {
		/* With room behind RAM, if there are interrupts. */
		size = request->vectors && ram.last < UINT64_C(1) << facts->width ? ram.last + 2
										  : 4096;
		layout->geometry.aperture =
			aperture_around(ram, pow2_ceil(size > 4096 ? size : 4096));
	}
	windows = range_length(layout->geometry.aperture) / (bits ? bits & -bits : 4096);
	if (!layout->geometry.windows)
		layout->geometry.windows = windows > UINT32_MAX ? UINT32_MAX
					   : windows		? (unsigned)windows
								: 1;
	layout->geometry.windows =
		request->geometry.windows
			? request->geometry.windows
			: windows_to_ask(facts, request, layout->geometry.aperture,
					 layout->geometry.windows);
	plan_try(request, PLAN_AS_ASKED, request->vectors, layout);
}

/* More RAM, in windows that are larger. */
static bool try_rounded(const struct plan_request *request,
			const struct uiommu_platform_facts *facts, struct plan_layout *layout)
{
	for (unsigned bits = 12; bits < facts->width; bits++) {
		uint64_t step = UINT64_C(1) << bits;
		struct plan_request larger = *request;
		bool same = true;

		for (unsigned i = 0; i < request->ram_count; i++) {
			struct uiommu_range *range = &larger.ram[i].range;

			range->last = range->first +
				      ((range_length(*range) + step - 1) & ~(step - 1)) - 1;
			same &= range->last == request->ram[i].range.last;
		}
		if (!same && try_apertures(&larger, facts, 0, layout)) {
			layout->compromise = true;
			return true;
		}
	}
	return false;
}

/* As much of one piece of RAM as the largest aperture has windows for. */
static bool try_less(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		     struct plan_layout *layout)
{
	const struct uiommu_range all = {0, (UINT64_C(1) << facts->width) - 1};
	uint64_t window = range_length(all) / facts->pamu.windows;
	struct plan_request less = *request;
	struct uiommu_range *range = &less.ram[0].range;

	if (request->ram_count != 1 || request->ram[0].placed)
		return false;
	for (unsigned windows = facts->pamu.windows; windows; windows--) {
		range->last = windows * window - 1;
		if (range->last < request->ram[0].range.last &&
		    try_windows(&less, facts, all, 0, layout)) {
			layout->compromise = true;
			return true;
		}
	}
	return false;
}

/* If there are more interrupts than the banks have, as many as they have; and the same windows with
 * those asked for, to be told what is missing. */
static bool try_fewer(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		      struct plan *plan)
{
	struct plan_layout *layout = plan_next(plan, "with fewer interrupts");
	bool own = range_valid(request->geometry.aperture);
	struct plan_request fewer = *request;

	fewer.vectors = 0;
	for (size_t i = 0; i < facts->doorbell_count; i++)
		fewer.vectors += facts->doorbells[i].vectors;
	if (fewer.vectors >= request->vectors ||
	    !(own ? try_windows(&fewer, facts, request->geometry.aperture,
				request->geometry.windows, layout)
		  : try_apertures(&fewer, facts, request->geometry.windows, layout)))
		return false;
	layout->compromise = true;
	plan->asked.geometry = layout->geometry;
	plan_try(request, PLAN_AS_ASKED, request->vectors, &plan->asked);
	return true;
}

void plan_pamu(const struct plan_request *request, const struct uiommu_platform_facts *facts,
	       struct plan *plan)
{
	bool own = range_valid(request->geometry.aperture);
	unsigned fixed = request->geometry.windows;
	struct plan_layout *layout;

	if (own ? try_windows(request, facts, request->geometry.aperture, fixed, &plan->asked)
		: try_apertures(request, facts, fixed, &plan->asked))
		return;
	try_plainly(request, facts, &plan->asked);
	if (try_fewer(request, facts, plan)) {
		plan->alternative_count++;
		return;
	}
	if (own && fixed) {
		layout = plan_next(plan, "with another number of windows");
		plan->alternative_count +=
			try_windows(request, facts, request->geometry.aperture, 0, layout);
	}
	if (own || fixed) {
		layout = plan_next(plan, "with another aperture");
		plan->alternative_count += try_apertures(request, facts, 0, layout);
	}
	if (!plan->alternative_count) {
		layout = plan_next(plan, "with RAM rounded up to larger windows");
		plan->alternative_count += try_rounded(request, facts, layout);
	}
	if (!plan->alternative_count) {
		layout = plan_next(plan, "with less RAM");
		plan->alternative_count += try_less(request, facts, layout);
	}
}

/* ---- POWER ---- */

/* RAM in a window of its own, with the largest pages that it is a multiple of. */
static bool try_dynamic(const struct plan_request *request,
			const struct uiommu_platform_facts *facts, struct plan_layout *layout)
{
	struct uiommu_range ram = extent(request);

	for (unsigned shift = 63; shift >= 12; shift--) {
		uint64_t page = UINT64_C(1) << shift, size = ram.last + 1;

		if (!(facts->spapr.page_sizes & page) || (size & (page - 1)) || size >> 63)
			continue;
		layout->window = (struct plan_window){.page_shift = shift, .size = pow2_ceil(size)};
		if (plan_try(request, PLAN_AS_ASKED, request->vectors, layout))
			return true;
	}
	return false;
}

/* As asked, if some RAM is wanted where the dynamic window is: the program makes it just so large,
 * with the largest pages that the RAM there is made of. */
static bool try_both(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		     struct plan_layout *layout)
{
	uint64_t start = facts->spapr.window64, parts = 0, end = start;

	for (unsigned i = 0; i < request->ram_count; i++) {
		struct uiommu_range range = request->ram[i].range;

		if (!request->ram[i].placed || range.first < start)
			continue;
		parts |= range.first | (range.last + 1);
		end = range.last + 1 > end ? range.last + 1 : end;
	}
	if (end == start || facts->spapr.windows < 2)
		return false;
	for (unsigned shift = 62; shift >= 12; shift--) {
		uint64_t page = UINT64_C(1) << shift;

		if (!(facts->spapr.page_sizes & page) || (parts & (page - 1)))
			continue;
		layout->window =
			(struct plan_window){.page_shift = shift, .size = pow2_ceil(end - start)};
		if (plan_try(request, PLAN_AS_ASKED, request->vectors, layout))
			return true;
	}
	layout->window = (struct plan_window){0};
	return false;
}

void plan_spapr(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		struct plan *plan)
{
	struct plan_request open = *request;
	struct plan_layout *layout;

	if (try_both(request, facts, &plan->asked) ||
	    plan_try(request, PLAN_AS_ASKED, request->vectors, &plan->asked))
		return;
	plan->open = true;
	for (unsigned i = 0; i < request->ram_count; i++) {
		plan->open &= !request->ram[i].placed;
		open.ram[i].range = (struct uiommu_range){0, request->ram[i].range.last -
								     request->ram[i].range.first};
		open.ram[i].placed = false;
	}
	layout = plan_next(plan, "in a dynamic window");
	plan->alternative_count += try_dynamic(&open, facts, layout);
}
