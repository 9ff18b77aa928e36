/* SPDX-License-Identifier: MIT */
/*
 * Owns the list of platforms, the parsing of "NAME,key=value…", and what leads from a doorbell
 * write to a handler. A platform doesn't change once it is made; only its interrupt table does
 * (irq.c).
 */
#include "platform/platform.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/alloc.h"
#include "util/refuse.h"

static const struct platform_kind *const kinds[] = {&platform_x86_vtd};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

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

	return kind ? kind->summary : NULL;
}

UIOMMU_API const struct uiommu_platform_facts *
uiommu_platform_facts(const struct uiommu_platform *platform)
{
	return &platform->facts;
}

static int doorbell_write(void *ctx, uiommu_rid rid, uint64_t iova, uint32_t data)
{
	struct uiommu_platform *platform = ctx;

	return irq_table_deliver(&platform->irqs, rid, platform->kind->decode(iova, data));
}

/* Hand over the options one by one. */
static int parse_options(struct uiommu_platform *platform, const char *options, char *why,
			 size_t why_len)
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
		ret = platform->kind->option(platform, pair, value, why, why_len);
		if (ret)
			return ret;
	}
	return 0;
}

static int refuse_name(const char *spec, size_t len, char *why, size_t why_len)
{
	size_t used = snprintf(why, why_len, "no platform '%.*s'; there is:", (int)len, spec);

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
	platform->kind = kind;
	platform->facts = kind->facts;
	ret = parse_options(platform, spec + name_len, why, why_len);
	if (ret) {
		uiommu_free(platform, sizeof(*platform));
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, ret, "platform option",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	}
	irq_table_init(&platform->irqs);
	platform->window = (struct uiommu_doorbell_window){
		.range = kind->doorbell,
		.write = doorbell_write,
		.ctx = platform,
	};
	platform->facts.windows = &platform->window;
	platform->facts.window_count = 1;
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

UIOMMU_API int uiommu_platform_irq_alloc(struct uiommu_platform *platform, uiommu_rid rid,
					 unsigned count, bool consecutive, uiommu_irq_fn fn,
					 void *ctx, struct uiommu_msi_message *messages,
					 uint32_t *handle)
{
	uint32_t first;
	int ret;

	if (consecutive && !is_pow2(count))
		return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "interrupt block",
				     UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
	ret = irq_table_alloc(&platform->irqs, rid, count, fn, ctx, &first);
	if (ret)
		return ret;
	for (unsigned i = 0; i < count; i++)
		messages[i] = platform->kind->compose(first, i, consecutive);
	*handle = first;
	return 0;
}

UIOMMU_API void uiommu_platform_irq_free(struct uiommu_platform *platform, uint32_t handle)
{
	irq_table_free(&platform->irqs, handle);
}
