/* SPDX-License-Identifier: MIT */
/* Platform files: what they become, and where their mistakes are said to be. */
#include "../check.h"

#include <errno.h>

#include <uiommu/platform.h>

#include "cmd/json_place.h"
#include "cmd/number.h"
#include "cmd/platform_file.h"

static int parse(const char *text, char **spec, char *why, size_t why_len)
{
	*spec = NULL;
	return platform_file_parse("f", text, strlen(text), spec, why, why_len);
}

static void test_specs(void **state)
{
	static const struct {
		const char *text, *spec;
	} rows[] = {
		{"{\"base\": \"x86-vtd\"}", "x86-vtd"},
		{"{\"width\": 39, \"base\": \"x86-vtd\", \"options\": {\"remap\": \"off\"}}",
		 "x86-vtd,remap=off,width=39"},
		{"{\"base\": \"x86-vtd\", \"options\": {\"aw\": 57}, \"name\": \"mine\"}",
		 "x86-vtd,aw=57,name=mine"},
		{"{\"base\": \"x86-vtd\", \"page_sizes\": [\"4K\", 2097152]}",
		 "x86-vtd,pgsizes=201000"},
		{"{\"base\": \"x86-vtd\", \"reserved\": [{\"first\": \"1G\", \"last\": "
		 "\"0x40000fff\"}, {\"first\": 0, \"last\": 4095, \"type\": \"direct\"}]}",
		 "x86-vtd,resv=reserved:0x40000000-0x40000fff,resv=direct:0x0-0xfff"},
		{"{\"base\": \"x86-vtd\", \"aperture\": {\"first\": 0, \"last\": \"0x7fffffff\"}}",
		 "x86-vtd,aperture=0x0-0x7fffffff"},
		{"{\"base\": \"fsl-pamu\", \"windows\": 16, \"doorbells\": [{\"name\": \"A\", "
		 "\"address\": \"0xffe044000\", \"vectors\": 8}]}",
		 "fsl-pamu,windows=16,doorbell=A@0xffe044000/8"},
		{"{\"base\": \"arm-smmuv3\", \"msi_window\": {\"first\": \"0x10000000\", \"last\": "
		 "\"0x100fffff\"}}",
		 "arm-smmuv3,msiwindow=0x10000000-0x100fffff"},
		{"{\"base\": \"ppc-spapr\", \"window32\": {\"first\": 0, \"last\": "
		 "\"0x1fffffff\"}, "
		 "\"window64\": \"0x100000000000000\"}",
		 "ppc-spapr,window32=0x0-0x1fffffff,window64=0x100000000000000"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct uiommu_platform *platform;
		char why[512] = "", *spec;

		if (parse(rows[i].text, &spec, why, sizeof(why)))
			fail_msg("%s: %s", rows[i].text, why);
		assert_string_equal(spec, rows[i].spec);
		assert_int_equal(uiommu_platform_create(spec, &platform, NULL, 0), 0);
		uiommu_platform_destroy(platform);
		free(spec);
	}
}

#define BASE "{\n  \"base\": \"x86-vtd\",\n  "

static void test_mistakes(void **state)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{"", "f:1:1: "},
		{"{", "f:1:1: "},
		{"[]", "f:1:1: a platform file is an object"},
		{"{}", "f:1:1: \"base\" is missing"},
		{"{\"base\": \"vax\"}", "f:1:10: no platform 'vax'; there are: x86-vtd"},
		{"{\"base\": 7}", "f:1:10: the name of a platform"},
		{"{\"base\": \"x86-vtd,aw=39\"}", "f:1:10: the name of a platform"},
		{BASE "\"widht\": 39\n}", "f:3:3: unknown key \"widht\"; \"width\" is meant?"},
		{BASE "\"colour\": 39\n}", "f:3:3: unknown key \"colour\"; there are: base,"},
		{BASE "\"width\": 40\n}", "f:3:12: platform x86-vtd: vtd-ss tables have no width "
					  "of 40 bits; they have 39 48 57"},
		{BASE "\"page_sizes\": [\"64K\"]\n}",
		 "f:3:17: platform x86-vtd: vtd-ss tables have none of the page sizes 0x10000"},
		{BASE "\"width\": -1\n}", "f:3:12: a number is wanted"},
		{BASE "\"width\": 39, \"width\": 48\n}", "f:3:"},
		{BASE "\"name\": \"a,b\"\n}", "f:3:11: there is a comma"},
		{BASE "\"name\": \"a\\nb\"\n}", "f:3:11: there is a comma or a line break"},
		{BASE "\"name\": \"two words\"\n}", "f:3:11: platform x86-vtd: name="},
		{BASE "\"options\": {\"aw\": \"40\"}\n}", "f:3:21: platform x86-vtd: aw=40 should"},
		{BASE "\"options\": {\"é\": 1, \"bw\": 1}\n}", "f:3:20: platform x86-vtd has no"},
		{BASE "\"page_sizes\": [\"4K\", \"5K\"]\n}", "f:3:24: a page size is a power"},
		{BASE "\"page_sizes\": 4096\n}", "f:3:17: a list of sizes"},
		{BASE "\"reserved\": [\n    {\"first\": 0, \"last\": 4095},\n"
		      "    {\"first\": 4096, \"last\": 1}]\n}",
		 "f:5:5: \"first\" is above \"last\""},
		{BASE "\"reserved\": [{\"first\": 0}]\n}", "f:3:16: \"last\" is missing here"},
		{BASE "\"reserved\": [{\"first\": 0, \"lats\": 1}]\n}",
		 "f:3:29: unknown key \"lats\"; \"last\" is meant?"},
		{BASE "\"reserved\": [{\"first\": \"x\", \"last\": 1}]\n}", "f:3:26: a number"},
		{BASE "\"reserved\": [{\"first\": 1, \"last\": 4095}]\n}",
		 "f:3:16: platform x86-vtd: a reserved region begins and ends with a page"},
		{BASE "\"reserved\": [{\"first\": 0, \"last\": 4095, \"type\": \"msi\"}]\n}",
		 "f:3:16: platform x86-vtd: resv=msi:"},
		{BASE "\"reserved\": [{\"first\": 0, \"last\": 4095},\n"
		      "  {\"first\": 0, \"last\": 4095}]\n}",
		 "f:4:3: it overlaps the reserved region [0x0, 0xfff]"},
		{BASE "\"reserved\": [{\"first\": \"0xfe000000\", \"last\": \"0xfeffffff\"}]\n}",
		 "f:3:16: it overlaps the msi region [0xfee00000, 0xfeefffff]"},
		{BASE "\"windows\": 16\n}", "f:3:14: platform x86-vtd has no option 'windows'"},
		{BASE "\"msi_window\": {\"first\": 0, \"last\": 4095}\n}",
		 "f:3:17: platform x86-vtd has no window in which"},
		{BASE "\"aperture\": {\"first\": 0, \"last\": \"0x1000000000000fff\"}\n}",
		 "f:3:15: platform x86-vtd: the aperture is beyond the 48 bits"},
		{BASE "\"doorbells\": [{\"name\": \"a\", \"address\": 4097}]\n}",
		 "f:3:17: platform x86-vtd: there can be 4 doorbells, each of 0x100000 bytes"},
		{"{\"base\": \"fsl-pamu\", \"doorbells\": [{\"name\": \"A\", \"address\": 4096},\n"
		 "{\"name\": \"B\", \"address\": 4096}]}",
		 "f:2:1: platform fsl-pamu: doorbell 'B' overlaps 'A'"},
		{"{\"base\": \"fsl-pamu\", \"windows\": 17}",
		 "f:1:33: platform fsl-pamu: windows=17"},
		{"{\"base\": \"fsl-pamu\", \"doorbells\": [{\"name\": \"A\", \"address\": 4096, "
		 "\"vectors\": 257}]}",
		 "f:1:36: platform fsl-pamu: doorbell=257 should be a number from 1 to 256"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char why[512] = "", *spec;

		assert_int_equal(parse(rows[i].text, &spec, why, sizeof(why)), -EINVAL);
		if (strncmp(why, rows[i].why, strlen(rows[i].why)))
			fail_msg("%s\nsays: %s\nnot:  %s", rows[i].text, why, rows[i].why);
		assert_null(spec);
	}
}

/* Every value of a document that has some of everything is found where it stands. */
static void test_places(void **state)
{
	static const char text[] = "\t{ \"a\": [ 1, {\"b\\u0041\": \"]}\\\"\"} ,[[]], -2.5e3],\n"
				   "\"ü\":{}  ,\n\n \"c\" : null }\n";
	static const struct {
		struct json_step path[3];
		size_t depth;
		bool key;
		unsigned line, column;
	} rows[] = {
		{{{NULL, 0}}, 0, false, 1, 2},
		{{{"a", 0}}, 1, true, 1, 4},
		{{{"a", 0}}, 1, false, 1, 9},
		{{{"a", 0}, {NULL, 0}}, 2, false, 1, 11},
		{{{"a", 0}, {NULL, 1}}, 2, false, 1, 14},
		{{{"a", 0}, {NULL, 1}, {"bA", 0}}, 3, false, 1, 26},
		{{{"a", 0}, {NULL, 2}}, 2, false, 1, 35},
		{{{"a", 0}, {NULL, 2}, {NULL, 0}}, 3, false, 1, 36},
		{{{"a", 0}, {NULL, 3}}, 2, false, 1, 41},
		{{{"ü", 0}}, 1, false, 2, 5},
		{{{"c", 0}}, 1, true, 4, 2},
		{{{"c", 0}}, 1, false, 4, 8},
	};
	struct json_place place;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(json_place_find(text, strlen(text), rows[i].path, rows[i].depth,
					    rows[i].key, &place));
		assert_int_equal(place.line, rows[i].line);
		assert_int_equal(place.column, rows[i].column);
	}
	assert_false(
		json_place_find(text, strlen(text), &(struct json_step){"d", 0}, 1, false, &place));
	assert_false(json_place_find(text, strlen(text), (struct json_step[]){{"a", 0}, {NULL, 4}},
				     2, false, &place));
}

static void test_numbers(void **state)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t value;
	} rows[] = {
		{"0", true, 0},
		{"4096", true, 4096},
		{"0x1000", true, 4096},
		{"4K", true, 4096},
		{"4k", true, 4096},
		{"64MiB", true, 64 << 20},
		{"1G", true, 1 << 30},
		{"15E", true, UINT64_C(15) << 60},
		{"18446744073709551615", true, UINT64_MAX},
		{"010", true, 10},
		{"16E", false, 0},
		{"18446744073709551616", false, 0},
		{"", false, 0},
		{"-1", false, 0},
		{"+1", false, 0},
		{" 1", false, 0},
		{"1 ", false, 0},
		{"1 K", false, 0},
		{"4KB", false, 0},
		{"K", false, 0},
		{"0x", false, 0},
		{"1Z", false, 0},
	};
	char buf[24];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t value = 0;

		assert_int_equal(number_parse(rows[i].text, &value), rows[i].good);
		if (rows[i].good)
			assert_int_equal(value, rows[i].value);
	}
	assert_string_equal(number_size(64 << 20, buf), "64M");
	assert_string_equal(number_size(UINT64_C(1) << 63, buf), "8E");
	assert_string_equal(number_size(UINT64_C(1) << 62 | 4096, buf), "4503599627370500K");
	assert_string_equal(number_size(4097, buf), "0x1001");
	assert_string_equal(number_size(0, buf), "0");
}

/* The example files are right, and whatever they lose at their end is told, not crashed at. */
static void test_examples(void **state)
{
	static const char *const names[] = {"laptop", "arm-board", "small-pamu"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[512], why[512], *spec, *text = calloc(1, 4096);
		size_t len;
		FILE *f;

		snprintf(path, sizeof(path), "%s/%s.json", getenv("PLATFORMS"), names[i]);
		f = fopen(path, "r");
		assert_non_null(f);
		len = fread(text, 1, 4095, f);
		fclose(f);
		if (platform_file_parse(path, text, len, &spec, why, sizeof(why)))
			fail_msg("%s", why);
		free(spec);
		for (size_t cut = 0; cut + 2 < len; cut++) {
			char *part = malloc(cut + 1); /* of the size that is said */

			memcpy(part, text, cut);
			assert_int_equal(
				platform_file_parse(path, part, cut, &spec, why, sizeof(why)),
				-EINVAL);
			free(part);
		}
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_specs),	 cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_places),	 cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_examples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
