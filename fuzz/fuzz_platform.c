/* SPDX-License-Identifier: MIT */
/*
 * Platforms: specifications and platform files. An input is one of three things, by its first byte:
 * a specification made of options of all platforms and of bytes; a platform file made of bytes; a
 * platform file that has everything, with some of its bytes changed. Whatever it is, it is refused
 * with a reason, or it is a platform that can be asked for all its facts.
 */
#include "fuzz.h"

#include <uiommu/platform.h>

#ifdef PLATFORM_FILES
#include "cmd/platform_file.h"
#endif

static const char *const keys[] = {
	"aw",	   "remap",   "stage",	  "msi",      "place",	  "banks",     "type",
	"windows", "flavour", "window32", "window64", "mode",	  "name",      "resv",
	"p2p",	   "pgsizes", "width",	  "aperture", "doorbell", "msiwindow",
};

static const char *const values[] = {
	"39",
	"48",
	"on",
	"off",
	"1",
	"2",
	"its",
	"v2m",
	"program",
	"explicit",
	"4",
	"16",
	"x",
	"0x0-0xfff",
	"reserved:0x1000-0x1fff",
	"direct:0x0-0xfff",
	"40201000",
	"0x100000000",
	"a@0x1000",
	"b@0x200000/8",
	"powernv",
	"sv39",
	"",
	"0xffffffffffffffff",
	"0xfffffffffffff000-0xffffffffffffffff",
	"c@0xffffffffffffffff",
};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* A platform that was made keeps its promises. */
static void check_facts(const struct uiommu_platform *platform)
{
	const struct uiommu_platform_facts *facts = uiommu_platform_facts(platform);

	PROMISE(facts->name && *facts->name && facts->summary);
	PROMISE(facts->width >= 1 && facts->width <= 64);
	for (size_t i = 0; i < facts->region_count; i++) {
		PROMISE(facts->regions[i].range.first <= facts->regions[i].range.last);
		PROMISE(!i || facts->regions[i - 1].range.first <= facts->regions[i].range.first);
	}
	PROMISE(facts->window_count == facts->doorbell_count);
	for (size_t i = 0; i < facts->doorbell_count; i++) {
		PROMISE(facts->doorbells[i].name && facts->doorbells[i].vectors);
		PROMISE(facts->doorbells[i].range.first <= facts->doorbells[i].range.last);
		PROMISE(facts->windows[i].range.first == facts->doorbells[i].range.first);
	}
}

static void try_spec(const char *spec)
{
	struct uiommu_platform *platform;
	char why[300] = "";
	int ret = uiommu_platform_create(spec, &platform, why, sizeof(why));

	/* A reason that is cut off is cut off inside its room, however little that is. */
	PROMISE(ret || !why[0]);
	PROMISE(!ret || (why[0] && strlen(why) < sizeof(why)));
	if (ret) {
		char little[8];

		PROMISE(uiommu_platform_create(spec, &platform, little, sizeof(little)) == ret);
		PROMISE(uiommu_platform_create(spec, &platform, NULL, 0) == ret);
		return;
	}
	check_facts(platform);
	uiommu_platform_destroy(platform);
}

static void make_spec(struct input *in)
{
	char spec[2048];
	size_t count = take8(in) % 24, used = 0;
	const char *name = uiommu_platform_name(take8(in) % 8);

	used += snprintf(spec, sizeof(spec), "%s", name ? name : "vax");
	while (count-- && used < sizeof(spec) - 256) {
		uint8_t how = take8(in);

		if (how < 200) {
			used += snprintf(spec + used, 256, ",%s=%s", keys[take8(in) % COUNT(keys)],
					 values[take8(in) % COUNT(values)]);
			continue;
		}
		/* Bytes, to the end of the string. */
		for (size_t n = how % 32; n; n--)
			spec[used++] = (char)(take8(in) | 1);
		spec[used] = '\0';
	}
	try_spec(spec);
}

#ifdef PLATFORM_FILES
static const char whole[] =
	"{\"base\": \"arm-smmuv3\", \"name\": \"board\", \"width\": 48,\n"
	" \"page_sizes\": [\"4K\", \"2M\"], \"aperture\": {\"first\": 0, \"last\": "
	"\"0xffffffff\"},\n"
	" \"reserved\": [{\"first\": \"0x10000000\", \"last\": \"0x1fffffff\"},\n"
	"  {\"first\": 0, \"last\": 4095, \"type\": \"direct\"}],\n"
	" \"doorbells\": [{\"name\": \"frame\", \"address\": \"0xe1180000\", \"vectors\": 32}],\n"
	" \"msi_window\": {\"first\": \"0xe1000000\", \"last\": \"0xe10fffff\"},\n"
	" \"options\": {\"stage\": 2, \"msi\": \"v2m\"}}\n";

static void try_file(const char *text, size_t len)
{
	char why[300] = "", *spec = NULL;
	int ret = platform_file_parse("file", text, len, &spec, why, sizeof(why));

	PROMISE(!ret == (spec != NULL));
	PROMISE(!ret || !strncmp(why, "file:", 5));
	if (!ret)
		try_spec(spec);
	free(spec);
}

static void change_file(struct input *in)
{
	size_t len = sizeof(whole) - 1;
	char *text = malloc(len + 1);

	memcpy(text, whole, len);
	while (in->left > 2 && len > 2) {
		size_t at = take16(in) % len;
		uint8_t how = take8(in);

		if (how < 64)
			memmove(text + at, text + at + 1, --len - at);
		else if (how < 128)
			text[at] = "{}[]\",:0\\ "[how % 10];
		else
			text[at] = text[how % len];
		if (how % 8 == 7)
			try_file(text, len);
	}
	/* Exactly as long as it is said to be, for AddressSanitizer to see the end. */
	text = realloc(text, len);
	try_file(text, len);
	free(text);
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t kind = take8(&in) % 4;

#ifdef PLATFORM_FILES
	if (kind == 2) {
		try_file((const char *)in.next, in.left);
		return 0;
	}
	if (kind == 3) {
		change_file(&in);
		return 0;
	}
#endif
	(void)kind;
	make_spec(&in);
	return 0;
}
