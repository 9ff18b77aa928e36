/* SPDX-License-Identifier: MIT */
/*
 * A machine of the user's own, over a platform: owns the options that change its width, what it
 * translates and its doorbells, and the check that what was asked for goes together. What a
 * doorbell can tell apart, and how it reads what is written to it, stays the platform's: it is
 * moved, not made another.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/platform.h"
#include "table/table.h"
#include "util/range.h"

int platform_number(const struct uiommu_platform *platform, const char *key, const char *value,
		    uint64_t least, uint64_t most, uint64_t *number, char *why, size_t why_len)
{
	char right[80], *end = NULL;

	errno = 0;
	if (*value >= '0' && *value <= '9')
		*number = strtoull(value, &end, 0);
	if (end && !*end && !errno && *number >= least && *number <= most)
		return 0;
	snprintf(right, sizeof(right), "a number from %" PRIu64 " to %" PRIu64, least, most);
	return platform_bad_value(platform, key, value, right, why, why_len);
}

/* ---- doorbells ---- */

/* A doorbell of this size there, with the platform's own in place of what it doesn't say. */
static int place_doorbell(struct uiommu_platform *platform, const char *name, uint64_t address,
			  uint64_t vectors, char *why, size_t why_len)
{
	struct uiommu_doorbell doorbell = platform->doorbell_model;
	uint64_t size = doorbell.range.last - doorbell.range.first;
	size_t at = platform->own_doorbells;
	bool region = false;

	if (at == PLATFORM_DOORBELLS || (address & 4095) || address + size < address) {
		snprintf(why, why_len,
			 "platform %s: there can be %d doorbells, each of 0x%" PRIx64
			 " bytes from a multiple of 4096 on",
			 platform->kind->name, PLATFORM_DOORBELLS, size + 1);
		return -EINVAL;
	}
	doorbell.range = (struct uiommu_range){address, address + size};
	doorbell.vectors = vectors ? (unsigned)vectors : doorbell.vectors;
	for (size_t i = 0; i < at; i++)
		if (range_overlaps(platform->doorbells[i].range, doorbell.range)) {
			snprintf(why, why_len, "platform %s: doorbell '%s' overlaps '%s'",
				 platform->kind->name, name, platform->doorbells[i].name);
			return -EINVAL;
		}
	snprintf(platform->doorbell_names[at], sizeof(platform->doorbell_names[at]), "%s", name);
	doorbell.name = platform->doorbell_names[at];
	/* Where nothing translates the doorbell, its window is reserved, and goes along. */
	for (size_t i = 0; i < platform->kind->facts.region_count; i++)
		region |= platform->kind->facts.regions[i].type == UIOMMU_RESV_MSI;
	if (!at)
		platform_drop_region(platform, UIOMMU_RESV_MSI);
	platform->doorbells[at] = doorbell;
	platform->facts.doorbell_count = platform->own_doorbells = at + 1;
	platform->facts.pamu.banks = platform->facts.pamu.banks ? (unsigned)(at + 1) : 0;
	return region ? platform_add_region(platform, doorbell.range, UIOMMU_RESV_MSI, why, why_len)
		      : 0;
}

/* "NAME@ADDRESS[/VECTORS]" */
static int option_doorbell(struct uiommu_platform *platform, const char *value, char *why,
			   size_t why_len)
{
	size_t len = strcspn(value, "@");
	char name[sizeof(platform->doorbell_names[0])], number[32];
	const char *slash = strchr(value, '/');
	uint64_t address, vectors = 0;
	int ret;

	if (!platform->own_doorbells)
		platform->doorbell_model = platform->doorbells[0];
	if (!value[len] || !len || len >= sizeof(name))
		return platform_bad_value(platform, "doorbell", value,
					  "NAME@ADDRESS[/VECTORS], with a short name", why,
					  why_len);
	snprintf(name, sizeof(name), "%.*s", (int)len, value);
	snprintf(number, sizeof(number), "%.*s", (int)strcspn(value + len + 1, "/"),
		 value + len + 1);
	ret = platform_number(platform, "doorbell", number, 0, UINT64_MAX, &address, why, why_len);
	if (!ret && slash)
		ret = platform_number(platform, "doorbell", slash + 1, 1,
				      platform->doorbell_model.vectors, &vectors, why, why_len);
	return ret ? ret : place_doorbell(platform, name, address, vectors, why, why_len);
}

static int option_msi_window(struct uiommu_platform *platform, const char *value, char *why,
			     size_t why_len)
{
	struct uiommu_range range;
	bool has = false;

	for (size_t i = 0; i < platform->facts.region_count; i++)
		has |= platform->regions[i].type == UIOMMU_RESV_SW_MSI;
	if (!has) {
		snprintf(why, why_len,
			 "platform %s has no window in which the system places doorbells",
			 platform->kind->name);
		return -EINVAL;
	}
	if (!platform_parse_range(value, &range))
		return platform_bad_value(platform, "msiwindow", value, "FIRST-LAST", why, why_len);
	platform_drop_region(platform, UIOMMU_RESV_SW_MSI);
	return platform_add_region(platform, range, UIOMMU_RESV_SW_MSI, why, why_len);
}

/* ---- the rest ---- */

int platform_custom_option(struct uiommu_platform *platform, const char *key, const char *value,
			   char *why, size_t why_len)
{
	struct uiommu_range range;
	uint64_t width = 0;
	int ret;

	if (!strcmp(key, "doorbell"))
		return option_doorbell(platform, value, why, why_len);
	if (!strcmp(key, "msiwindow"))
		return option_msi_window(platform, value, why, why_len);
	if (!strcmp(key, "width")) {
		ret = platform_number(platform, key, value, 1, 64, &width, why, why_len);
		platform->facts.width = (unsigned)width;
		return ret;
	}
	if (strcmp(key, "aperture"))
		return 1;
	if (!platform_parse_range(value, &range) || ((range.first | (range.last + 1)) & 4095))
		return platform_bad_value(platform, key, value,
					  "FIRST-LAST, in pages of 4096 bytes", why, why_len);
	if (platform->facts.vfio_types & (UIOMMU_VFIO_PAMU | UIOMMU_VFIO_SPAPR)) {
		snprintf(why, why_len, "platform %s: there it is programs that choose apertures",
			 platform->kind->name);
		return -EINVAL;
	}
	platform->facts.aperture = range;
	return 0;
}

/* Can there be such a table? */
static int try_table(const struct uiommu_platform_facts *facts, unsigned width,
		     struct uiommu_range aperture, uint64_t page_sizes)
{
	struct table_shared shared = {0};
	const struct table_config config = {.format = facts->format,
					    .width = width,
					    .aperture = aperture,
					    .page_sizes = page_sizes,
					    .shared = &shared};
	struct table table;
	int ret = table_init(&table, &config);

	if (!ret)
		table_destroy(&table);
	table_shared_destroy(&shared);
	return ret;
}

static int refuse_width(const struct uiommu_platform *platform, char *why, size_t why_len)
{
	const struct uiommu_platform_facts *facts = &platform->facts;
	const struct uiommu_range all = {0, 0};
	size_t used = (size_t)snprintf(why, why_len,
				       "platform %s: %s tables have no width of %u bits; they have",
				       platform->kind->name, facts->format, facts->width);

	for (unsigned width = 1; width <= 64 && used < why_len; width++)
		if (!try_table(facts, width, all, 0))
			used += (size_t)snprintf(why + used, why_len - used, " %u", width);
	return -EINVAL;
}

/* A direct region is mapped as soon as a device is attached. Where programs choose what is
 * translated, nothing is by then. */
static int check_direct(const struct uiommu_platform *platform, char *why, size_t why_len)
{
	const struct uiommu_platform_facts *facts = &platform->facts;

	if (!(facts->vfio_types & (UIOMMU_VFIO_PAMU | UIOMMU_VFIO_SPAPR)))
		return 0;
	for (size_t i = 0; i < facts->region_count; i++)
		if (facts->regions[i].type == UIOMMU_RESV_DIRECT) {
			snprintf(why, why_len,
				 "platform %s: the direct region 0x%" PRIx64 "-0x%" PRIx64
				 " can't be mapped before a program has chosen an aperture "
				 "there; resv=reserved: keeps DMA away from it",
				 platform->kind->name, facts->regions[i].range.first,
				 facts->regions[i].range.last);
			return -EINVAL;
		}
	return 0;
}

int platform_check(const struct uiommu_platform *platform, char *why, size_t why_len)
{
	const struct uiommu_platform_facts *facts = &platform->facts;
	const struct uiommu_range all = {0, 0};
	int ret;

	if (!facts->format)
		return 0;
	ret = check_direct(platform, why, why_len);
	if (ret)
		return ret;
	ret = try_table(facts, facts->width, all, 0);
	if (ret == -EINVAL)
		return refuse_width(platform, why, why_len);
	if (!ret)
		ret = try_table(facts, facts->width, all, facts->page_sizes);
	if (ret == -EINVAL) {
		snprintf(why, why_len,
			 "platform %s: %s tables have none of the page sizes 0x%" PRIx64,
			 platform->kind->name, facts->format, facts->page_sizes);
		return ret;
	}
	if (!ret)
		ret = try_table(facts, facts->width, facts->aperture, facts->page_sizes);
	if (ret == -EINVAL)
		snprintf(
			why, why_len,
			"platform %s: the aperture is beyond the %u bits that %s tables translate, "
			"or none that they can have",
			platform->kind->name, facts->width, facts->format);
	else if (ret)
		snprintf(why, why_len, "out of memory");
	return ret;
}
