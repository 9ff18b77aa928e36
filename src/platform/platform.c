/* SPDX-License-Identifier: MIT */
/*
 * Owns the list of platforms, the parsing of "NAME,key=value…", the options that all platforms
 * share, and what leads from an interrupt's message to its handler. A platform doesn't change once
 * it is made; only its vectors do (irq.c).
 */
#include "platform/platform.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/alloc.h"
#include "util/refuse.h"

static const struct platform_kind *const kinds[] = {
	&platform_x86_vtd,  &platform_x86_amd,	 &platform_arm_smmuv3,
	&platform_fsl_pamu, &platform_ppc_spapr, &platform_riscv,
	&platform_none,	    &platform_xen,	 &platform_virtio,
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const char common_options[] =
	"name=, resv=TYPE:FIRST-LAST, p2p=FIRST-LAST, pgsizes=, width=, aperture=FIRST-LAST, "
	"doorbell=NAME@ADDRESS, msiwindow=FIRST-LAST";

UIOMMU_API const char *uiommu_platform_name(size_t index)
{
	return index < KINDS ? kinds[index]->name : NULL;
}

static const struct platform_kind *find_kind(const char *name, size_t len)
{
	for (size_t i = 0; i < KINDS; i++)
		if (strlen(kinds[i]->name) == len && !memcmp(kinds[i]->name, name, len))
			return kinds[i];
	return NULL;
}

UIOMMU_API const char *uiommu_platform_summary(const char *name)
{
	const struct platform_kind *kind = name ? find_kind(name, strlen(name)) : NULL;

	return kind ? kind->facts.summary : NULL;
}

UIOMMU_API const char *uiommu_platform_options(const char *name)
{
	const struct platform_kind *kind = name ? find_kind(name, strlen(name)) : NULL;

	return kind ? kind->options : NULL;
}

UIOMMU_API const struct uiommu_platform_facts *
uiommu_platform_facts(const struct uiommu_platform *platform)
{
	return &platform->facts;
}

UIOMMU_API void uiommu_platform_geometry(const struct uiommu_platform *platform,
					 struct uiommu_geometry *geometry)
{
	const struct uiommu_platform_facts *facts = &platform->facts;

	*geometry = (struct uiommu_geometry){
		.size = sizeof(*geometry),
		.name = facts->name,
		.format = facts->format,
		.width = facts->width,
		.aperture = facts->aperture,
		.page_sizes = facts->page_sizes,
		.regions = facts->regions,
		.region_count = facts->region_count,
	};
}

UIOMMU_API int uiommu_platform_ranges(const struct uiommu_platform *platform,
				      struct uiommu_range *ranges, size_t *count)
{
	struct uiommu_geometry geometry;

	uiommu_platform_geometry(platform, &geometry);
	return uiommu_geometry_ranges(&geometry, ranges, count);
}

/* ---- options ---- */

int platform_word(const struct uiommu_platform *platform, const char *key, const char *value,
		  const char *const *words, char *why, size_t why_len)
{
	size_t used;

	for (int i = 0; words[i]; i++)
		if (!strcmp(words[i], value))
			return i;
	used = snprintf(why, why_len, "platform %s: %s=%s should be", platform->kind->name, key,
			value);
	for (int i = 0; words[i]; i++)
		if (used < why_len)
			used += snprintf(why + used, why_len - used, "%s %s",
					 !i		? ""
					 : words[i + 1] ? ","
							: " or",
					 words[i]);
	return -1;
}

int platform_unknown_option(const struct uiommu_platform *platform, const char *key, char *why,
			    size_t why_len)
{
	const char *own = platform->kind->options;

	snprintf(why, why_len, "platform %s has no option '%s'; it has: %s%s%s",
		 platform->kind->name, key, own ? own : "", own ? "; and " : "", common_options);
	return -EINVAL;
}

bool platform_parse_range(const char *text, struct uiommu_range *range)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	range->first = strtoull(text, &end, 0);
	if (*end != '-' || end[1] < '0' || end[1] > '9')
		return false;
	range->last = strtoull(end + 1, &end, 0);
	return !*end && !errno && range_valid(*range);
}

int platform_bad_value(const struct uiommu_platform *platform, const char *key, const char *value,
		       const char *right, char *why, size_t why_len)
{
	snprintf(why, why_len, "platform %s: %s=%s should be %s", platform->kind->name, key, value,
		 right);
	return -EINVAL;
}

int platform_add_region(struct uiommu_platform *platform, struct uiommu_range range,
			enum uiommu_resv_type type, char *why, size_t why_len)
{
	size_t at = platform->facts.region_count;

	if (at == PLATFORM_REGIONS) {
		snprintf(why, why_len, "platform %s: more than %d reserved regions",
			 platform->kind->name, PLATFORM_REGIONS);
		return -EINVAL;
	}
	if ((range.first | (range.last + 1)) & 4095) {
		snprintf(why, why_len,
			 "platform %s: a reserved region begins and ends with a page of 4096 bytes",
			 platform->kind->name);
		return -EINVAL;
	}
	while (at && platform->regions[at - 1].range.first > range.first) {
		platform->regions[at] = platform->regions[at - 1];
		at--;
	}
	platform->regions[at] = (struct uiommu_resv_region){
		.range = range, .type = type, .prot = UIOMMU_READ | UIOMMU_WRITE};
	platform->facts.region_count++;
	return 0;
}

static int option_resv(struct uiommu_platform *platform, const char *value, char *why,
		       size_t why_len)
{
	static const enum uiommu_resv_type types[] = {
		UIOMMU_RESV_DIRECT, UIOMMU_RESV_DIRECT_RELAXABLE, UIOMMU_RESV_RESERVED};
	const char *colon = strchr(value, ':');
	struct uiommu_range range;

	for (size_t i = 0; colon && i < 3; i++) {
		const char *word = uiommu_resv_name(types[i]);

		if (strlen(word) == (size_t)(colon - value) && !memcmp(word, value, strlen(word)) &&
		    platform_parse_range(colon + 1, &range))
			return platform_add_region(platform, range, types[i], why, why_len);
	}
	return platform_bad_value(
		platform, "resv", value,
		"TYPE:FIRST-LAST, where TYPE is direct, direct-relaxable or reserved", why,
		why_len);
}

static int option_page_sizes(struct uiommu_platform *platform, const char *value, char *why,
			     size_t why_len)
{
	char *end;

	errno = 0;
	platform->facts.page_sizes = strtoull(value, &end, 16);
	if (*end || errno || !(platform->facts.page_sizes & ~UINT64_C(0xfff)) ||
	    (platform->facts.page_sizes & 0xfff))
		return platform_bad_value(
			platform, "pgsizes", value,
			"a hexadecimal bitmap of sizes from 4096 on, e.g. 40201000", why, why_len);
	return 0;
}

/* Tables that iommufd can have are of formats with dirty bits, all of them. */
static int option_dirty(struct uiommu_platform *platform, const char *value, char *why,
			size_t why_len)
{
	static const char *const words[] = {"off", "on", NULL};
	int word = platform_word(platform, "dirty", value, words, why, why_len);

	if (word > 0 && !(platform->facts.vfio_types & UIOMMU_VFIO_TYPE1))
		return platform_bad_value(platform, "dirty", value,
					  "off: this machine's tables have no dirty bits", why,
					  why_len);
	platform->facts.iommufd.dirty = word > 0;
	return word < 0 ? -EINVAL : 0;
}

static int option_pri(struct uiommu_platform *platform, const char *value, char *why,
		      size_t why_len)
{
	static const char *const words[] = {"off", "on", NULL};
	int word = platform_word(platform, "pri", value, words, why, why_len);

	if (word > 0 && !(platform->facts.vfio_types & UIOMMU_VFIO_TYPE1))
		return platform_bad_value(platform, "pri", value, "off: nobody could answer", why,
					  why_len);
	platform->facts.iommufd.page_requests = word > 0;
	return word < 0 ? -EINVAL : 0;
}

void platform_set_info(struct uiommu_platform *platform, uint32_t type, uint32_t size)
{
	platform->facts.iommufd.info_type = type;
	platform->facts.iommufd.info = &platform->info;
	platform->facts.iommufd.info_len = size;
}

static int option_pasid(struct uiommu_platform *platform, const char *value, char *why,
			size_t why_len)
{
	char *end;
	unsigned long bits = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || bits > 20)
		return platform_bad_value(platform, "pasid", value, "0 to 20", why, why_len);
	if (bits && !(platform->facts.vfio_types & UIOMMU_VFIO_TYPE1))
		return platform_bad_value(platform, "pasid", value, "0: nothing attaches them here",
					  why, why_len);
	platform->facts.iommufd.pasid_bits = (unsigned)bits;
	return 0;
}

static int option_nesting(struct uiommu_platform *platform, const char *value, char *why,
			  size_t why_len)
{
	static const char *const words[] = {"off", "on", NULL};
	int word = platform_word(platform, "nesting", value, words, why, why_len);
	const char *format = platform->facts.format ? platform->facts.format : "";

	if (word > 0 && strcmp(format, "vtd-ss") && strcmp(format, "vtd-fs") &&
	    strcmp(format, "arm-s1"))
		return platform_bad_value(platform, "nesting", value,
					  "off: only x86-vtd and arm-smmuv3 (stage 1) nest", why,
					  why_len);
	platform->facts.iommufd.nesting = word > 0;
	return word < 0 ? -EINVAL : 0;
}

/* Without an IOMMU nothing is translated, and so nothing is reserved, however wide it is. */
static int check_translated(const struct uiommu_platform *platform, const char *key, char *why,
			    size_t why_len)
{
	static const char *const words[] = {"resv", "p2p", "pgsizes", "width", "aperture", NULL};

	for (const char *const *word = words; *word && !platform->kind->facts.format; word++)
		if (!strcmp(*word, key)) {
			snprintf(
				why, why_len,
				"platform %s: '%s' says how an IOMMU translates, and there is none",
				platform->kind->name, key);
			return -EINVAL;
		}
	return 0;
}

/* The options that every platform has. 1: it is none of them. */
static int common_option(struct uiommu_platform *platform, const char *key, const char *value,
			 char *why, size_t why_len)
{
	struct uiommu_range range;

	if (check_translated(platform, key, why, why_len))
		return -EINVAL;
	if (!strcmp(key, "name")) {
		if (!*value || strlen(value) >= sizeof(platform->name) || strpbrk(value, " \t"))
			return platform_bad_value(platform, key, value, "a short word", why,
						  why_len);
		strcpy(platform->name, value);
		platform->facts.name = platform->name;
		return 0;
	}
	if (!strcmp(key, "resv"))
		return option_resv(platform, value, why, why_len);
	if (!strcmp(key, "pgsizes"))
		return option_page_sizes(platform, value, why, why_len);
	if (!strcmp(key, "dirty"))
		return option_dirty(platform, value, why, why_len);
	if (!strcmp(key, "pri"))
		return option_pri(platform, value, why, why_len);
	if (!strcmp(key, "pasid"))
		return option_pasid(platform, value, why, why_len);
	if (!strcmp(key, "nesting"))
		return option_nesting(platform, value, why, why_len);
	if (strcmp(key, "p2p"))
		return platform_custom_option(platform, key, value, why, why_len);
	if (!platform_parse_range(value, &range))
		return platform_bad_value(platform, key, value, "FIRST-LAST", why, why_len);
	return platform_add_region(platform, range, UIOMMU_RESV_RESERVED, why, why_len);
}

static int take_option(struct uiommu_platform *platform, const char *key, const char *value,
		       char *why, size_t why_len)
{
	int ret = common_option(platform, key, value, why, why_len);

	if (ret <= 0)
		return ret;
	return platform->kind->option ? platform->kind->option(platform, key, value, why, why_len)
				      : platform_unknown_option(platform, key, why, why_len);
}

static bool is_base(const struct platform_kind *kind, const char *key)
{
	for (const char *const *base = kind->bases; base && *base; base++)
		if (!strcmp(*base, key))
			return true;
	return false;
}

/* Hand over the options one by one: those that choose a base, or the others. */
static int parse_options(struct uiommu_platform *platform, const char *options, bool bases,
			 char *why, size_t why_len)
{
	while (*options) {
		size_t len = strcspn(options + 1, ",");
		char pair[128], *value;
		int ret;

		if (len >= sizeof(pair)) {
			snprintf(why, why_len, "platform %s: option too long",
				 platform->kind->name);
			return -EINVAL;
		}
		memcpy(pair, options + 1, len);
		pair[len] = 0;
		options += 1 + len;
		value = strchr(pair, '=');
		if (!value) {
			snprintf(why, why_len, "platform %s: '%s' should be key=value",
				 platform->kind->name, pair);
			return -EINVAL;
		}
		*value++ = 0;
		if (is_base(platform->kind, pair) != bases)
			continue;
		ret = take_option(platform, pair, value, why, why_len);
		if (ret)
			return ret;
	}
	return 0;
}

/* ---- life ---- */

static int doorbell_write(void *ctx, uiommu_rid rid, uint64_t address, uint32_t data)
{
	const struct platform_window *window = ctx;
	struct uiommu_platform *platform = window->platform;
	const struct uiommu_doorbell *doorbell = &platform->doorbells[window->doorbell];

	return irq_table_deliver(
		&platform->irqs, window->doorbell, doorbell->per_device ? rid : 0,
		platform->controller->checks_requester, rid,
		platform->controller->decode(address - doorbell->range.first, data));
}

void platform_set_doorbells(struct uiommu_platform *platform, const struct uiommu_doorbell *list,
			    size_t count)
{
	memcpy(platform->doorbells, list, count * sizeof(*list));
	platform->facts.doorbells = platform->doorbells;
	platform->facts.doorbell_count = count;
	platform->own_doorbells = 0;
}

void platform_drop_region(struct uiommu_platform *platform, enum uiommu_resv_type type)
{
	size_t n = 0;

	for (size_t i = 0; i < platform->facts.region_count; i++)
		if (platform->regions[i].type != type)
			platform->regions[n++] = platform->regions[i];
	platform->facts.region_count = n;
}

static void set_facts(struct uiommu_platform *platform, const struct platform_kind *kind)
{
	platform->kind = kind;
	platform->controller = kind->controller;
	platform->facts = kind->facts;
	if (kind->facts.region_count)
		memcpy(platform->regions, kind->facts.regions,
		       kind->facts.region_count * sizeof(platform->regions[0]));
	platform->facts.regions = platform->regions;
	if (kind->facts.doorbell_count)
		platform_set_doorbells(platform, kind->facts.doorbells, kind->facts.doorbell_count);
}

/* As the kernel reports them: regions of one type that overlap or adjoin are one. */
static void merge_regions(struct uiommu_platform *platform)
{
	size_t n = 0;

	for (size_t i = 0; i < platform->facts.region_count; i++) {
		struct uiommu_resv_region *region = &platform->regions[i], *last;

		last = n ? &platform->regions[n - 1] : NULL;
		if (last && last->type == region->type &&
		    region->range.first <= add_sat(last->range.last, 1)) {
			if (region->range.last > last->range.last)
				last->range.last = region->range.last;
		} else {
			platform->regions[n++] = *region;
		}
	}
	platform->facts.region_count = n;
}

static void set_windows(struct uiommu_platform *platform)
{
	for (size_t i = 0; i < platform->facts.doorbell_count; i++) {
		platform->window_ctx[i] = (struct platform_window){platform, i};
		platform->windows[i] = (struct uiommu_doorbell_window){
			.range = platform->doorbells[i].range,
			.write = doorbell_write,
			.ctx = &platform->window_ctx[i],
			.translated = platform->doorbells[i].translated,
		};
	}
	platform->facts.windows = platform->windows;
	platform->facts.window_count = platform->facts.doorbell_count;
}

static int refuse_name(const char *spec, size_t len, char *why, size_t why_len)
{
	size_t used = snprintf(why, why_len, "no platform '%.*s'; there are:", (int)len, spec);

	for (size_t i = 0; i < KINDS; i++)
		if (used < why_len)
			used += snprintf(why + used, why_len - used, " %s", kinds[i]->name);
	return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -ENOENT, "platform name", UIOMMU_RANGE_NONE,
			     UIOMMU_RANGE_NONE);
}

UIOMMU_API int uiommu_platform_create(const char *spec, struct uiommu_platform **out, char *why,
				      size_t why_len)
{
	const struct platform_kind *kind;
	struct uiommu_platform *platform;
	size_t name_len;
	int ret;

	if (!why)
		why_len = 0;
	if (!spec)
		spec = "";
	name_len = strcspn(spec, ",");
	kind = find_kind(spec, name_len);
	if (!kind)
		return refuse_name(spec, name_len, why, why_len);
	platform = uiommu_alloc(sizeof(*platform));
	if (!platform) {
		snprintf(why, why_len, "out of memory");
		return uiommu_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "platform", UIOMMU_RANGE_NONE,
				     UIOMMU_RANGE_NONE);
	}
	set_facts(platform, kind);
	ret = parse_options(platform, spec + name_len, true, why, why_len);
	if (!ret)
		ret = parse_options(platform, spec + name_len, false, why, why_len);
	if (!ret)
		ret = platform_check(platform, why, why_len);
	if (ret) {
		uiommu_free(platform, sizeof(*platform));
		return uiommu_refuse(ret == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_ARGUMENT,
				     ret, "platform option", UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	}
	if (kind->finish)
		kind->finish(platform);
	irq_table_init(&platform->irqs);
	merge_regions(platform);
	set_windows(platform);
	*out = platform;
	return 0;
}

UIOMMU_API void uiommu_platform_destroy(struct uiommu_platform *platform)
{
	if (!platform)
		return;
	irq_table_destroy(&platform->irqs);
	uiommu_free(platform, sizeof(*platform));
}

/* ---- interrupts ---- */

/* Make the doorbell reachable: where a device has to write. */
static int reach(const struct uiommu_doorbell *doorbell, struct uiommu_irq *irq, uint64_t *address)
{
	int ret;

	*address = doorbell->range.first;
	if (!doorbell->translated)
		irq->ioas = NULL; /* nothing to give back */
	if (!irq->ioas)
		return 0;
	ret = uiommu_ioas_map_doorbell(irq->ioas, doorbell->range.first, doorbell->name, address);
	if (ret == 1)
		irq->doorbell = doorbell->range.first;
	else
		irq->ioas = NULL; /* the program's own mapping */
	return ret < 0 ? ret : 0;
}

static int alloc_vectors(struct uiommu_platform *platform, const struct uiommu_irq *block,
			 struct uiommu_irq **irq, unsigned *number)
{
	int ret = -ENOSPC;

	for (*number = 0; *number < platform->facts.doorbell_count; ++*number) {
		const struct uiommu_doorbell *doorbell = &platform->doorbells[*number];

		ret = irq_table_alloc(&platform->irqs, *number,
				      doorbell->per_device ? block->rid : 0, doorbell->vectors,
				      block, irq);
		if (ret != -ENOSPC)
			return ret;
	}
	return ret;
}

/* PCI's plain MSI has no more. */
#define PLAIN_MSI_MAX 32

UIOMMU_API int uiommu_platform_irq_alloc(struct uiommu_platform *platform, struct uiommu_ioas *ioas,
					 uiommu_rid rid, unsigned count, bool consecutive,
					 uiommu_irq_fn fn, void *ctx,
					 struct uiommu_msi_message *messages,
					 struct uiommu_irq **out)
{
	const struct uiommu_irq block = {
		.fn = fn,
		.ctx = ctx,
		.count = count,
		.base = consecutive ? platform->controller->base : 0,
		.rid = rid,
		.ioas = ioas,
	};
	struct uiommu_irq *irq;
	uint64_t address;
	unsigned number;
	int ret;

	if (consecutive && (!is_pow2(count) || count > PLAIN_MSI_MAX))
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "interrupt block",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	ret = alloc_vectors(platform, &block, &irq, &number);
	if (ret)
		return ret;
	ret = reach(&platform->doorbells[number], irq, &address);
	if (ret) {
		irq_table_free(&platform->irqs, irq);
		return ret;
	}
	irq_table_set_address(&platform->irqs, irq, address);
	for (unsigned i = 0; i < count; i++)
		messages[i].address =
			address + platform->controller->compose(irq->first, i, consecutive,
								&messages[i].data);
	*out = irq;
	return 0;
}

UIOMMU_API void uiommu_platform_irq_free(struct uiommu_platform *platform, struct uiommu_irq *irq)
{
	struct uiommu_ioas *ioas;
	uint64_t doorbell;

	if (!irq)
		return;
	ioas = irq->ioas;
	doorbell = irq->doorbell;
	irq_table_free(&platform->irqs, irq);
	if (ioas)
		uiommu_ioas_unmap_doorbell(ioas, doorbell);
}

/* A block that needed no place when it was made, or has the program's own, needs none elsewhere. */
UIOMMU_API int uiommu_platform_irq_moving(struct uiommu_platform *platform, struct uiommu_irq *irq,
					  struct uiommu_ioas *ioas)
{
	const char *name = "doorbell";
	uint64_t address;
	int ret;

	irq->next = NULL;
	if (!irq->doorbell || !ioas)
		return 0;
	for (size_t i = 0; i < platform->facts.doorbell_count; i++)
		if (platform->doorbells[i].range.first == irq->doorbell)
			name = platform->doorbells[i].name;
	ret = uiommu_ioas_map_doorbell(ioas, irq->doorbell, name, &address);
	if (ret < 0)
		return ret;
	if (ret)
		irq->next = ioas;
	if (address == irq->address)
		return 0;
	uiommu_platform_irq_moved(platform, irq, false);
	return uiommu_refuse(UIOMMU_RULE_DOORBELL, -EADDRINUSE, name,
			     (struct uiommu_range){irq->address, irq->address | 0xfff},
			     (struct uiommu_range){address, address | 0xfff});
}

UIOMMU_API void uiommu_platform_irq_moved(struct uiommu_platform *platform, struct uiommu_irq *irq,
					  bool moved)
{
	struct uiommu_ioas *gone = moved ? irq->ioas : irq->next;

	if (moved)
		irq->ioas = irq->next;
	irq->next = NULL;
	if (gone)
		uiommu_ioas_unmap_doorbell(gone, irq->doorbell);
}

UIOMMU_API const struct uiommu_doorbell *
uiommu_platform_doorbell_at(struct uiommu_platform *platform, uiommu_rid rid, uint64_t iova)
{
	int number = irq_table_doorbell(&platform->irqs, rid, iova);

	return number < 0 ? NULL : &platform->doorbells[number];
}
