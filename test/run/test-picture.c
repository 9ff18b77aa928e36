/* SPDX-License-Identifier: MIT */
/*
 * The picture of an address space: every byte of it is in exactly one row, whatever is mapped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "run/picture.h"

static struct uiommu_ioas *ioas;

static int set_up(void **state)
{
	return uiommu_ioas_create(&ioas);
}

static int tear_down(void **state)
{
	uiommu_ioas_destroy(ioas);
	return 0;
}

static void map(uint64_t first, uint64_t last)
{
	assert_int_equal(uiommu_ioas_map(ioas, (struct uiommu_range){first, last}, 0x10000,
					 UIOMMU_READ, NULL),
			 0);
}

static void reserve(uint64_t first, uint64_t last, enum uiommu_resv_type type)
{
	assert_int_equal(
		uiommu_ioas_reserve(ioas, (struct uiommu_range){first, last}, type, &ioas, "test"),
		0);
}

static void one_line(void *ctx, const char *text)
{
	unsigned *lines = ctx;

	assert_true(strlen(text) <= 79);
	assert_null(strchr(text, '\033'));
	(*lines)++;
}

/* Rows follow each other without a gap from 0 to the end. */
static void check(const struct picture *picture)
{
	uint64_t next = 0;
	unsigned lines = 0;

	assert_true(picture->count > 0 && picture->count <= PICTURE_ROWS);
	for (unsigned i = 0; i < picture->count; i++) {
		assert_int_equal(picture->rows[i].range.first, next);
		assert_true(picture->rows[i].range.last >= next);
		next = picture->rows[i].range.last + 1;
	}
	assert_int_equal(next, 0);
	picture_draw(picture, &(struct picture_style){.wide = false}, one_line, &lines);
	assert_int_equal(lines, picture->count + 1);
}

static void test_empty(void **state)
{
	struct picture picture;

	picture_take(ioas, &picture);
	check(&picture);
	assert_int_equal(picture.count, 1);
	assert_int_equal(picture.rows[0].kind, PICTURE_FREE);
}

static void test_kinds(void **state)
{
	struct picture picture;

	reserve(0xfee00000, 0xfeefffff, UIOMMU_RESV_MSI);
	reserve(0xfee00000, 0xfeefffff, UIOMMU_RESV_MSI);
	reserve(UINT64_C(1) << 48, UINT64_MAX, UIOMMU_RESV_APERTURE);
	map(0, 0xfff);
	map(0x1000, 0x2fff);
	map(0x10000, 0x10fff);
	picture_take(ioas, &picture);
	check(&picture);
	assert_int_equal(picture.count, 7);
	assert_int_equal(picture.areas, 3);
	assert_int_equal(picture.bytes, 0x4000);
	assert_int_equal(picture.rows[0].areas, 2);
	assert_int_equal(picture.rows[0].range.last, 0x2fff);
	assert_int_equal(picture.rows[4].kind, PICTURE_RESERVED);
	assert_string_equal(picture.rows[4].why, "msi");
	assert_string_equal(picture.rows[6].why, "outside");
}

static void test_many(void **state)
{
	struct picture picture;
	uint64_t total = 0;

	for (uint64_t i = 0; i < 10000; i++)
		map(i * 0x3000 + (i / 1000 << 30), i * 0x3000 + (i / 1000 << 30) + 0xfff);
	picture_take(ioas, &picture);
	check(&picture);
	assert_int_equal(picture.areas, 10000);
	assert_int_equal(picture.mapped, PICTURE_MAPPED_ROWS);
	for (unsigned i = 0; i < picture.count; i++)
		total += picture.rows[i].kind == PICTURE_MAPPED ? picture.rows[i].areas : 0;
	assert_int_equal(total, 10000);
}

static void test_ends(void **state)
{
	struct picture picture;

	map(UINT64_MAX - 0xfff, UINT64_MAX);
	picture_take(ioas, &picture);
	check(&picture);
	assert_int_equal(picture.count, 2);
	reserve(0, 0xfff, UIOMMU_RESV_RESERVED);
	picture_take(ioas, &picture);
	check(&picture);
	assert_int_equal(picture.count, 3);
}

/* Doorbells are cut out of what is around them; their notes say where they lead to. */
static void test_doorbells(void **state)
{
	const struct picture_style style = {.wide = true};
	struct picture picture;
	char note[PICTURE_NOTE];
	uint64_t iova;

	reserve(0x8000000, 0x80fffff, UIOMMU_RESV_SW_MSI);
	assert_int_equal(uiommu_ioas_map_doorbell(ioas, 0x8090040, "ITS", &iova), 1);
	assert_int_equal(uiommu_ioas_map_doorbell(ioas, 0x80a0040, "other", &iova), 1);
	assert_int_equal(uiommu_ioas_map(ioas, (struct uiommu_range){0x1000, 0x1fff}, 0x5000,
					 UIOMMU_WRITE | UIOMMU_MMIO, NULL),
			 0);
	picture_take(ioas, &picture);
	check(&picture);
	assert_int_equal(picture.count, 7);
	assert_int_equal(picture.doorbells, 3);
	assert_int_equal(picture.mapped, 0);
	assert_int_equal(picture.rows[1].kind, PICTURE_DOORBELL);
	assert_int_equal(picture.rows[1].addr, 0x5000);
	assert_int_equal(picture.rows[3].kind, PICTURE_DOORBELL);
	assert_int_equal(picture.rows[3].addr, 0x8090000);
	assert_int_equal(picture.rows[4].kind, PICTURE_DOORBELL);
	assert_int_equal(picture.rows[5].kind, PICTURE_RESERVED);
	assert_int_equal(picture.rows[5].range.first, 0x8002000);
	picture_note(&picture, &picture.rows[3], &style, note, sizeof(note));
	assert_string_equal(note, "doorbell -> 0x8090000");
	picture.aperture = (struct uiommu_range){0, 0xfffffff};
	picture.window = 0x4000000;
	picture_note(&picture, &picture.rows[3], &style, note, sizeof(note));
	assert_string_equal(note, "doorbell -> 0x8090000, window 2");
	picture_note(&picture, &picture.rows[2], &style, note, sizeof(note));
	assert_string_equal(note, "free, windows 0-1");
	uiommu_ioas_unmap_doorbell(ioas, 0x8090000);
	uiommu_ioas_unmap_doorbell(ioas, 0x80a0000);
}

/* As many regions, doorbells and mappings between them as it has room for, and more. */
static void test_crowded(void **state)
{
	struct picture picture;

	for (uint64_t i = 0; i < 40; i++)
		reserve(i << 24, (i << 24) + 0xfff, UIOMMU_RESV_RESERVED);
	for (uint64_t i = 0; i < 40; i++) {
		struct uiommu_range page = {(i << 24) + 0x20000, (i << 24) + 0x20fff};

		map((i << 24) + 0x10000, (i << 24) + 0x10fff);
		assert_int_equal(uiommu_ioas_map(ioas, page, 0x5000 + i * 0x1000,
						 UIOMMU_WRITE | UIOMMU_MMIO, NULL),
				 0);
		map((i << 24) + 0x30000, (i << 24) + 0x30fff);
	}
	picture_take(ioas, &picture);
	check(&picture);
	assert_int_equal(picture.doorbells, PICTURE_DOORBELL_ROWS);
}

static void test_sizes(void **state)
{
	char buf[16];

	assert_string_equal(picture_size(0, buf), "0 B");
	assert_string_equal(picture_size(1023, buf), "1023 B");
	assert_string_equal(picture_size(4096, buf), "4.0 KiB");
	assert_string_equal(picture_size(UINT64_MAX, buf), "15.9 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_empty, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_kinds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_doorbells, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_crowded, set_up, tear_down),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
