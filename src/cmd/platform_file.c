/* SPDX-License-Identifier: MIT */
/*
 * Owns the reading of platform files. Each value becomes one option of the library's, and is tried
 * on a platform at once, so what the library refuses is told with the place in the file. Only what
 * concerns the file itself is checked here: its form, its keys, and regions that hit each other.
 *
 * Nothing is kept; a parse that fails leaves nothing behind.
 */
#include "cmd/platform_file.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uiommu/platform.h>

#include "cmd/cmd.h"
#include "cmd/json_place.h"
#include "cmd/number.h"
#include "util/range.h"

#define DEEPEST	     4
#define LONGEST_FILE (1 << 20)

struct reader {
	const char *name, *text;
	size_t len;
	char *why;
	size_t why_len;
	struct json_step path[DEEPEST];
	size_t depth;
	char *spec;
};

/* ---- messages ---- */

static int __attribute__((format(printf, 3, 4)))
wrong(struct reader *r, bool of_key, const char *format, ...)
{
	struct json_place place = {1, 1};
	va_list args;
	int used;

	(void)json_place_find(r->text, r->len, r->path, r->depth, of_key, &place);
	used = snprintf(r->why, r->why_len, "%s:%u:%u: ", r->name, place.line, place.column);
	va_start(args, format);
	if (used >= 0 && (size_t)used < r->why_len)
		vsnprintf(r->why + used, r->why_len - (size_t)used, format, args);
	va_end(args);
	return -EINVAL;
}

static void enter(struct reader *r, const char *key, size_t index)
{
	r->path[r->depth++] = (struct json_step){key, index};
}

static void leave(struct reader *r)
{
	r->depth--;
}

/* How many letters have to be added, removed or replaced. */
static size_t distance(const char *a, const char *b)
{
	size_t row[32], len = strlen(b);

	if (len >= 32 || strlen(a) >= 32)
		return 32;
	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= len; j++) {
			size_t best = corner + (a[i - 1] != b[j - 1]);

			best = row[j] + 1 < best ? row[j] + 1 : best;
			best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
			corner = row[j];
			row[j] = best;
		}
	}
	return row[len];
}

static int unknown_key(struct reader *r, const char *key, const char *const *keys)
{
	const char *nearest = keys[0];
	char list[256] = "";
	size_t used = 0;
	int ret;

	for (size_t i = 0; keys[i]; i++) {
		if (distance(key, keys[i]) < distance(key, nearest))
			nearest = keys[i];
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
					 keys[i]);
	}
	enter(r, key, 0);
	if (distance(key, nearest) <= 3)
		ret = wrong(r, true, "unknown key \"%.40s\"; \"%s\" is meant?", key, nearest);
	else
		ret = wrong(r, true, "unknown key \"%.40s\"; there are: %s", key, list);
	leave(r);
	return ret;
}

static int check_keys(struct reader *r, json_t *object, const char *const *keys)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		size_t i = 0;

		while (keys[i] && strcmp(keys[i], key))
			i++;
		if (!keys[i])
			return unknown_key(r, key, keys);
	}
	return 0;
}

/* ---- the specification ---- */

/* Add ",key=value" and see what the library says of it. */
static int __attribute__((format(printf, 2, 3))) add(struct reader *r, const char *format, ...)
{
	struct uiommu_platform *platform;
	char why[512], *option, *longer;
	va_list args;
	int ret;

	va_start(args, format);
	ret = vasprintf(&option, format, args);
	va_end(args);
	if (ret < 0)
		return -ENOMEM;
	/* Commas and line breaks end an option. */
	if (r->spec && strpbrk(option, ",\n")) {
		free(option);
		return wrong(r, false, "there is a comma or a line break in it");
	}
	ret = asprintf(&longer, "%s%s%s", r->spec ? r->spec : "", r->spec ? "," : "", option);
	free(option);
	if (ret < 0)
		return -ENOMEM;
	free(r->spec);
	r->spec = longer;
	ret = uiommu_platform_create(r->spec, &platform, why, sizeof(why));
	if (ret == -ENOMEM)
		return ret;
	if (ret)
		return wrong(r, false, "%s", why);
	uiommu_platform_destroy(platform);
	return 0;
}

/* A number: an integer, or text as on the command line, "0xfee00000" or "64M". */
static int take_number(struct reader *r, json_t *value, uint64_t *number)
{
	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*number = (uint64_t)json_integer_value(value);
		return 0;
	}
	if (json_is_string(value) && number_parse(json_string_value(value), number))
		return 0;
	return wrong(r, false,
		     "a number is wanted: 4096, or in quotes \"0x1000\", \"4K\", \"64M\", \"1G\"");
}

static int take_member(struct reader *r, json_t *object, const char *key, uint64_t *number)
{
	json_t *value = json_object_get(object, key);
	int ret;

	if (!value)
		return wrong(r, false, "\"%s\" is missing here", key);
	enter(r, key, 0);
	ret = take_number(r, value, number);
	leave(r);
	return ret;
}

static int take_range(struct reader *r, json_t *object, struct uiommu_range *range)
{
	int ret = take_member(r, object, "first", &range->first);

	if (!ret)
		ret = take_member(r, object, "last", &range->last);
	if (!ret && range->first > range->last)
		ret = wrong(r, false, "\"first\" is above \"last\"");
	return ret;
}

/* ---- the keys ---- */

static int take_option_key(struct reader *r, const char *key, json_t *value)
{
	int ret;

	enter(r, key, 0);
	if (json_is_string(value))
		ret = add(r, "%s=%s", key, json_string_value(value));
	else if (json_is_integer(value))
		ret = add(r, "%s=%" JSON_INTEGER_FORMAT, key, json_integer_value(value));
	else
		ret = wrong(r, false, "an option's value is text or a number");
	leave(r);
	return ret;
}

static int take_options(struct reader *r, json_t *object)
{
	const char *key;
	json_t *value;
	int ret = 0;

	if (!json_is_object(object))
		return wrong(r, false, "an object is wanted: {\"key\": \"value\"}");
	json_object_foreach(object, key, value) if (!ret) ret = take_option_key(r, key, value);
	return ret;
}

static int take_name(struct reader *r, json_t *value)
{
	if (!json_is_string(value))
		return wrong(r, false, "a name in quotes is wanted");
	return add(r, "name=%s", json_string_value(value));
}

static int take_width(struct reader *r, json_t *value)
{
	uint64_t width = 0;
	int ret = take_number(r, value, &width);

	return ret ? ret : add(r, "width=%" PRIu64, width);
}

static int take_page_sizes(struct reader *r, json_t *list)
{
	uint64_t sizes = 0;
	int ret = 0;

	if (!json_is_array(list) || !json_array_size(list))
		return wrong(r, false, "a list of sizes is wanted: [\"4K\", \"2M\"]");
	for (size_t i = 0; i < json_array_size(list) && !ret; i++) {
		uint64_t size = 0;

		enter(r, NULL, i);
		ret = take_number(r, json_array_get(list, i), &size);
		if (!ret && (size < 4096 || !is_pow2(size)))
			ret = wrong(r, false, "a page size is a power of two, from 4K on");
		leave(r);
		sizes |= size;
	}
	return ret ? ret : add(r, "pgsizes=%" PRIx64, sizes);
}

static const char *const range_keys[] = {"first", "last", NULL};

/* A range that becomes one option. */
static int take_range_option(struct reader *r, json_t *object, const char *option)
{
	struct uiommu_range range;
	int ret;

	if (!json_is_object(object))
		return wrong(r, false, "a range is wanted: {\"first\": …, \"last\": …}");
	ret = check_keys(r, object, range_keys);
	if (!ret)
		ret = take_range(r, object, &range);
	return ret ? ret : add(r, "%s=0x%" PRIx64 "-0x%" PRIx64, option, range.first, range.last);
}

static int take_aperture(struct reader *r, json_t *value)
{
	return take_range_option(r, value, "aperture");
}

static int take_msi_window(struct reader *r, json_t *value)
{
	return take_range_option(r, value, "msiwindow");
}

static int take_window32(struct reader *r, json_t *value)
{
	return take_range_option(r, value, "window32");
}

static int take_window64(struct reader *r, json_t *value)
{
	uint64_t start;
	int ret = take_number(r, value, &start);

	return ret ? ret : add(r, "window64=0x%" PRIx64, start);
}

static int take_windows(struct reader *r, json_t *value)
{
	uint64_t count;
	int ret = take_number(r, value, &count);

	return ret ? ret : add(r, "windows=%" PRIu64, count);
}

/* A region may not hit one that is there already, of the base or of the file. */
static int check_overlap(struct reader *r, struct uiommu_range range)
{
	const struct uiommu_platform_facts *facts;
	struct uiommu_platform *platform;
	int ret = uiommu_platform_create(r->spec, &platform, NULL, 0);

	if (ret)
		return ret;
	facts = uiommu_platform_facts(platform);
	for (size_t i = 0; i < facts->region_count && !ret; i++)
		if (range_overlaps(facts->regions[i].range, range))
			ret = wrong(r, false,
				    "it overlaps the %s region [0x%" PRIx64 ", 0x%" PRIx64
				    "] that is there already",
				    uiommu_resv_name(facts->regions[i].type),
				    facts->regions[i].range.first, facts->regions[i].range.last);
	uiommu_platform_destroy(platform);
	return ret;
}

static int take_region(struct reader *r, json_t *region)
{
	static const char *const keys[] = {"first", "last", "type", NULL};
	json_t *type = json_object_get(region, "type");
	struct uiommu_range range;
	int ret;

	if (!json_is_object(region))
		return wrong(r, false,
			     "a region is wanted: "
			     "{\"first\": …, \"last\": …, \"type\": \"reserved\"}");
	ret = check_keys(r, region, keys);
	if (!ret)
		ret = take_range(r, region, &range);
	if (!ret && type && !json_is_string(type))
		ret = wrong(r, false,
			    "\"type\" should be text: "
			    "\"direct\", \"direct-relaxable\" or \"reserved\"");
	if (!ret)
		ret = check_overlap(r, range);
	if (ret)
		return ret;
	return add(r, "resv=%s:0x%" PRIx64 "-0x%" PRIx64,
		   type ? json_string_value(type) : "reserved", range.first, range.last);
}

static int take_doorbell(struct reader *r, json_t *doorbell)
{
	static const char *const keys[] = {"name", "address", "vectors", NULL};
	json_t *name = json_object_get(doorbell, "name");
	json_t *vectors = json_object_get(doorbell, "vectors");
	uint64_t address, count;
	int ret;

	if (!json_is_object(doorbell))
		return wrong(r, false,
			     "a doorbell is wanted: {\"name\": \"MSI bank 0\", \"address\": …}");
	ret = check_keys(r, doorbell, keys);
	if (!ret && (!json_is_string(name) || strpbrk(json_string_value(name), "@/")))
		ret = wrong(r, false, "a doorbell has a \"name\", without '@' and '/'");
	if (!ret)
		ret = take_member(r, doorbell, "address", &address);
	if (!ret && vectors)
		ret = take_member(r, doorbell, "vectors", &count);
	if (ret)
		return ret;
	if (vectors)
		return add(r, "doorbell=%s@0x%" PRIx64 "/%" PRIu64, json_string_value(name),
			   address, count);
	return add(r, "doorbell=%s@0x%" PRIx64, json_string_value(name), address);
}

static int take_list(struct reader *r, json_t *list, int (*take)(struct reader *, json_t *))
{
	int ret = 0;

	if (!json_is_array(list))
		return wrong(r, false, "a list is wanted: [{…}, {…}]");
	for (size_t i = 0; i < json_array_size(list) && !ret; i++) {
		enter(r, NULL, i);
		ret = take(r, json_array_get(list, i));
		leave(r);
	}
	return ret;
}

static int take_reserved(struct reader *r, json_t *list)
{
	return take_list(r, list, take_region);
}

static int take_doorbells(struct reader *r, json_t *list)
{
	return take_list(r, list, take_doorbell);
}

/* In the order in which they are taken: options choose what the others refine. */
static const struct {
	const char *key;
	int (*take)(struct reader *r, json_t *value);
} takers[] = {
	{"options", take_options},	 {"name", take_name},	      {"width", take_width},
	{"page_sizes", take_page_sizes}, {"aperture", take_aperture}, {"windows", take_windows},
	{"window32", take_window32},	 {"window64", take_window64}, {"doorbells", take_doorbells},
	{"msi_window", take_msi_window}, {"reserved", take_reserved},
};
#define TAKERS (sizeof(takers) / sizeof(takers[0]))

static int take_base(struct reader *r, json_t *base)
{
	int ret;

	if (!base)
		return wrong(r, false, "\"base\" is missing: the platform that this one changes");
	enter(r, "base", 0);
	if (!json_is_string(base) || strchr(json_string_value(base), ','))
		ret = wrong(r, false,
			    "the name of a platform is wanted; options go to \"options\"");
	else
		ret = add(r, "%s", json_string_value(base));
	leave(r);
	return ret;
}

static int take_document(struct reader *r, json_t *root)
{
	const char *keys[TAKERS + 2] = {"base"};
	int ret;

	if (!json_is_object(root))
		return wrong(r, false, "a platform file is an object: {\"base\": \"x86-vtd\", …}");
	for (size_t i = 0; i < TAKERS; i++)
		keys[i + 1] = takers[i].key;
	ret = check_keys(r, root, keys);
	if (!ret)
		ret = take_base(r, json_object_get(root, "base"));
	for (size_t i = 0; i < TAKERS && !ret; i++) {
		json_t *value = json_object_get(root, takers[i].key);

		if (!value)
			continue;
		enter(r, takers[i].key, 0);
		ret = takers[i].take(r, value);
		leave(r);
	}
	return ret;
}

/* ---- files ---- */

int platform_file_parse(const char *name, const char *text, size_t len, char **spec, char *why,
			size_t why_len)
{
	struct reader r = {.name = name, .text = text, .len = len, .why = why, .why_len = why_len};
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	int ret;

	if (!root) {
		snprintf(why, why_len, "%s:%d:%d: %s", name, error.line > 0 ? error.line : 1,
			 error.column > 0 ? error.column : 1, error.text);
		return -EINVAL;
	}
	ret = take_document(&r, root);
	json_decref(root);
	if (ret) {
		if (ret == -ENOMEM)
			snprintf(why, why_len, "%s: out of memory", name);
		free(r.spec);
		return ret;
	}
	*spec = r.spec;
	return 0;
}

static int read_file(const char *name, char **text, size_t *len)
{
	FILE *f = fopen(name, "rb");
	bool whole;

	*text = f ? malloc(LONGEST_FILE + 1) : NULL;
	if (!*text) {
		complain("%s: %s", name, strerror(errno));
		if (f)
			fclose(f);
		return EXIT_USAGE;
	}
	*len = fread(*text, 1, LONGEST_FILE + 1, f);
	whole = !ferror(f) && *len <= LONGEST_FILE;
	if (!whole)
		complain("%s: %s", name,
			 ferror(f) ? strerror(errno) : "too long for a platform file");
	fclose(f);
	if (!whole)
		free(*text);
	return whole ? 0 : EXIT_USAGE;
}

/* How much of the argument is the name of a file: 0 if it is none. */
static size_t file_part(const char *argument)
{
	const char *comma = strstr(argument, ".json,");
	size_t len = comma ? (size_t)(comma - argument) + strlen(".json") : strlen(argument);

	if (comma || (len > 5 && !strcmp(argument + len - 5, ".json")))
		return len;
	/* A slash before the first option. */
	return memchr(argument, '/', strcspn(argument, ",")) ? len : 0;
}

int platform_argument(const char *argument, char **spec)
{
	size_t len = file_part(argument), text_len;
	char *name, *text, *base, why[768];
	int ret;

	if (!len) {
		*spec = strdup(argument);
		return *spec ? 0 : EXIT_CANNOT;
	}
	name = strndup(argument, len);
	ret = name ? read_file(name, &text, &text_len) : EXIT_CANNOT;
	if (ret) {
		free(name);
		return ret;
	}
	ret = platform_file_parse(name, text, text_len, &base, why, sizeof(why));
	free(text);
	free(name);
	if (ret) {
		complain("%s", why);
		return EXIT_USAGE;
	}
	ret = asprintf(spec, "%s%s", base, argument + len);
	free(base);
	return ret < 0 ? EXIT_CANNOT : 0;
}
