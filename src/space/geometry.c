/* SPDX-License-Identifier: MIT */
/*
 * Address spaces under constraints: what a kind of machine translates and reserves, known before
 * there is a domain or a device, and an IOAS that promises to hold to it.
 *
 * A geometry's holes are reservations of the IOAS itself, so that refusals, queries and placement
 * know of them like of any other; the range asked for is the list of allowed ranges, whose promise
 * reservations keep (ioas.c). An IOAS is made here before anybody else sees it: no lock is needed
 * but for what takes it by itself, and a failure destroys it.
 */
#include <errno.h>
#include <string.h>

#include "space/space.h"
#include "util/options.h"
#include "util/refuse.h"

/* What a domain of this geometry would have. */
struct translation {
	struct uiommu_range aperture; /* UIOMMU_RANGE_NONE: nothing that is there to stay */
	uint64_t page_sizes;
	bool windows; /* that come and go */
};

static int refuse_geometry(int error)
{
	return uiommu_refuse(error == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_ARGUMENT, error,
			     "geometry", UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

static int take_geometry(const struct uiommu_geometry *given, struct uiommu_geometry *known)
{
	int ret;

	*known = (struct uiommu_geometry){.size = sizeof(*known)};
	ret = given ? options_take(known, sizeof(*known), sizeof(*known), given) : -EINVAL;
	for (size_t i = 0; !ret && i < known->region_count; i++)
		if (!range_valid(known->regions[i].range))
			ret = -EINVAL;
	if (!known->name)
		known->name = known->format ? known->format : "geometry";
	return ret ? refuse_geometry(ret) : 0;
}

/* Asked of a table, which knows best. */
static int look_at_format(const struct uiommu_geometry *geometry, struct translation *out)
{
	struct table_shared shared = {0};
	const struct table_config config = {
		.format = geometry->format,
		.width = geometry->width,
		.aperture = geometry->aperture,
		.page_sizes = geometry->page_sizes,
		.shared = &shared,
	};
	struct table table;
	int ret;

	*out = (struct translation){.aperture = UIOMMU_RANGE_NONE};
	if (!geometry->format)
		return 0;
	ret = table_init(&table, &config);
	if (!ret) {
		out->windows = table.ops->window_create;
		out->page_sizes = table.page_sizes;
		if (!out->windows)
			out->aperture = table.aperture;
		table_destroy(&table);
	}
	table_shared_destroy(&shared);
	return ret ? refuse_geometry(ret) : 0;
}

static int reserve_range(struct uiommu_ioas *ioas, const struct uiommu_geometry *geometry,
			 uint64_t first, uint64_t last, enum uiommu_resv_type type)
{
	return uiommu_ioas_reserve(ioas, (struct uiommu_range){first, last}, type, ioas,
				   geometry->name);
}

/* Everything that can't be used. */
static int reserve_holes(struct uiommu_ioas *ioas, const struct uiommu_geometry *geometry,
			 struct uiommu_range aperture)
{
	int ret = 0;

	if (!range_valid(aperture))
		return reserve_range(ioas, geometry, 0, UINT64_MAX, UIOMMU_RESV_APERTURE);
	if (aperture.first)
		ret = reserve_range(ioas, geometry, 0, aperture.first - 1, UIOMMU_RESV_APERTURE);
	if (!ret && aperture.last != UINT64_MAX)
		ret = reserve_range(ioas, geometry, aperture.last + 1, UINT64_MAX,
				    UIOMMU_RESV_APERTURE);
	for (size_t i = 0; i < geometry->region_count && !ret; i++) {
		const struct uiommu_resv_region *region = &geometry->regions[i];

		if (region->type != UIOMMU_RESV_DIRECT_RELAXABLE)
			ret = reserve_range(ioas, geometry, region->range.first, region->range.last,
					    region->type);
	}
	return ret;
}

UIOMMU_API int uiommu_geometry_ranges(const struct uiommu_geometry *geometry,
				      struct uiommu_range *ranges, size_t *count)
{
	struct translation translation;
	struct uiommu_geometry known;
	struct uiommu_ioas *ioas;
	int ret = take_geometry(geometry, &known);

	if (!ret)
		ret = look_at_format(&known, &translation);
	if (!ret)
		ret = uiommu_ioas_create(&ioas);
	if (ret)
		return ret;
	ret = reserve_holes(ioas, &known, translation.aperture);
	if (!ret)
		ret = uiommu_ioas_ranges(ioas, ranges, count);
	uiommu_ioas_destroy(ioas);
	return ret;
}

static bool range_asked(const struct uiommu_ioas_options *o)
{
	return o->range.first || o->range.last;
}

static int check_page(const struct uiommu_ioas_options *o, const struct uiommu_geometry *geometry,
		      const struct translation *translation)
{
	uint64_t sizes = geometry ? translation->page_sizes : UINT64_MAX, page = o->page_size;

	if (page && !is_pow2(page))
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				     "the page size is no power of two", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	if (page && !(sizes & page))
		return uiommu_refuse(
			UIOMMU_RULE_ALIGNMENT, -EINVAL, geometry->name, UIOMMU_RANGE_NONE,
			sizes ? (struct uiommu_range){0, (sizes & -sizes) - 1} : UIOMMU_RANGE_NONE);
	if (!page && geometry)
		page = sizes & -sizes;
	if (page && range_asked(o) && ((o->range.first | (o->range.last + 1)) & (page - 1)))
		return uiommu_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL,
				     geometry ? geometry->name : "the page size asked for",
				     o->range, (struct uiommu_range){0, page - 1});
	return 0;
}

/* Make the IOAS hold to it. */
static int constrain(struct uiommu_ioas *ioas, const struct uiommu_ioas_options *o,
		     const struct uiommu_geometry *geometry, const struct translation *translation)
{
	int ret = 0;

	if (geometry && (range_asked(o) || !translation->windows))
		ret = reserve_holes(ioas, geometry, translation->aperture);
	if (!ret && range_asked(o))
		ret = uiommu_ioas_allow(ioas, &o->range, 1);
	ioas->page_size = o->page_size;
	if (o->page_size)
		ioas->alignment = o->page_size;
	return ret;
}

static int take_options(struct uiommu_ioas_options *known, const struct uiommu_ioas_options *given)
{
	int ret = given ? options_take(known, sizeof(*known), sizeof(*known), given) : -EINVAL;

	if (ret)
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, ret, "IOAS options", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	if (!range_valid(known->range))
		return uiommu_refuse(UIOMMU_RULE_EMPTY, -EINVAL, NULL, known->range,
				     UIOMMU_RANGE_NONE);
	return 0;
}

UIOMMU_API int uiommu_ioas_create_constrained(const struct uiommu_ioas_options *options,
					      struct uiommu_ioas **out)
{
	struct uiommu_ioas_options known = {.size = sizeof(known)};
	struct uiommu_geometry geometry, *given = NULL;
	struct translation translation = {0};
	struct uiommu_ioas *ioas;
	int ret = take_options(&known, options);

	if (!ret && known.geometry) {
		given = &geometry;
		ret = take_geometry(known.geometry, given);
		if (!ret)
			ret = look_at_format(given, &translation);
	}
	if (!ret)
		ret = check_page(&known, given, &translation);
	if (!ret)
		ret = uiommu_ioas_create(&ioas);
	if (ret)
		return ret;
	ret = constrain(ioas, &known, given, &translation);
	if (ret) {
		uiommu_ioas_destroy(ioas);
		return ret;
	}
	*out = ioas;
	return 0;
}
