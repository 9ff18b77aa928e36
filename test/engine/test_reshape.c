/* SPDX-License-Identifier: MIT */
/* A domain that changes its shape: what goes, what stays, who must not notice. */
#include "../check.h"

#include <errno.h>

#include <uiommu/space.h>

#define PAGE	UINT64_C(4096)
#define R(a, b) ((struct uiommu_range){(a), (b)})

struct rig {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	struct uiommu_port *port;
	uint8_t *memory;
};

static struct uiommu_domain_options pamu(uint64_t first, uint64_t last, unsigned windows)
{
	return (struct uiommu_domain_options){
		.size = sizeof(struct uiommu_domain_options),
		.format = "pamu",
		.width = 36,
		.name = "PAMU",
		.aperture = {first, last},
		.windows = windows,
	};
}

static void rig_up(struct rig *rig)
{
	struct uiommu_domain_options options = pamu(0, 16 * PAGE - 1, 16);

	*rig = (struct rig){0};
	rig->memory = aligned_alloc(16 * PAGE, 16 * PAGE);
	assert_non_null(rig->memory);
	assert_int_equal(uiommu_unit_create(NULL, &rig->unit), 0);
	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(rig->unit, rig->ioas, &options, &rig->domain), 0);
	assert_int_equal(uiommu_domain_attach(rig->domain, 8, NULL, 0, "device"), 0);
	assert_int_equal(uiommu_port_create(rig->unit, 8, &rig->port), 0);
	uiommu_port_set_master(rig->port, true);
}

static void rig_down(struct rig *rig)
{
	uint64_t bytes;

	uiommu_port_destroy(rig->port);
	uiommu_domain_detach(rig->domain, 8);
	uiommu_ioas_unmap(rig->ioas, R(0, UINT64_MAX), &bytes, NULL, NULL);
	uiommu_domain_destroy(rig->domain);
	uiommu_ioas_destroy(rig->ioas);
	uiommu_unit_destroy(rig->unit);
	free(rig->memory);
}

static int map(struct rig *rig, uint64_t iova, unsigned page)
{
	return uiommu_ioas_map(rig->ioas, R(iova, iova + PAGE - 1),
			       (uintptr_t)rig->memory + page * PAGE, UIOMMU_READ | UIOMMU_WRITE,
			       NULL);
}

static int read_byte(struct rig *rig, uint64_t iova)
{
	uint8_t byte = 0;
	int ret = uiommu_port_read(rig->port, iova, &byte, 1);

	return ret ? ret : byte;
}

static void count_area(void *ctx, const struct uiommu_area *area)
{
	++*(unsigned *)ctx;
}

static void test_reshape(void **state)
{
	struct uiommu_domain_options other = pamu(0x40000, 0x40000 + 16 * PAGE - 1, 4);
	struct uiommu_range ranges[2];
	size_t count = 2;
	unsigned gone = 0;
	struct rig rig;

	rig_up(&rig);
	memset(rig.memory, 1, PAGE);
	memset(rig.memory + PAGE, 2, PAGE);
	assert_int_equal(map(&rig, 0, 0), 0);
	assert_int_equal(map(&rig, 3 * PAGE, 1), 0);
	assert_int_equal(read_byte(&rig, 0), 1);
	assert_int_equal(read_byte(&rig, 3 * PAGE), 2);
	uiommu_domain_enable(rig.domain, false);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &other, NULL, count_area, &gone), 0);
	assert_int_equal(gone, 2);
	assert_int_equal(uiommu_ioas_ranges(rig.ioas, ranges, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(ranges[0].first, 0x40000);
	assert_int_equal(ranges[0].last, 0x40000 + 16 * PAGE - 1);
	assert_int_equal(map(&rig, 0, 0), -EINVAL);
	assert_int_equal(map(&rig, 0x41000, 0), -EINVAL); /* windows have four pages now */
	assert_int_equal(map(&rig, 0x40000, 1), 0);
	/* Attached as before, and the port's IOTLB has nothing of the old table. */
	assert_int_equal(read_byte(&rig, 0x40000), -EFAULT);
	uiommu_domain_enable(rig.domain, true);
	assert_int_equal(read_byte(&rig, 0x40000), 2);
	assert_int_equal(read_byte(&rig, 0), -EFAULT);
	/* And back. */
	other = pamu(0, 16 * PAGE - 1, 1);
	uiommu_domain_enable(rig.domain, false);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &other, NULL, NULL, NULL), 0);
	uiommu_domain_enable(rig.domain, true);
	assert_int_equal(map(&rig, 0, 0), 0);
	assert_int_equal(read_byte(&rig, 0), 1);
	assert_int_equal(read_byte(&rig, 0x40000), -EFAULT);
	rig_down(&rig);
}

static void test_refused(void **state)
{
	const struct uiommu_doorbell_place place = {{0, 16 * PAGE - 1}, PAGE, true};
	struct uiommu_domain_options good = pamu(0, 16 * PAGE - 1, 8), bad = good;
	const struct uiommu_range all = {0, PAGE - 1};
	uint64_t iova;
	struct rig rig;

	rig_up(&rig);
	memset(rig.memory, 1, PAGE);
	assert_int_equal(map(&rig, 0, 0), 0);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &good, NULL, NULL, NULL), -EBUSY);
	uiommu_domain_enable(rig.domain, false);
	bad.format = "vtd-ss";
	assert_int_equal(uiommu_domain_reshape(rig.domain, &bad, NULL, NULL, NULL), -EINVAL);
	bad = pamu(0, 16 * PAGE - 1, 3);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &bad, NULL, NULL, NULL), -EINVAL);
	bad = pamu(0, 16 * PAGE - 1, 32);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &bad, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_domain_reshape(rig.domain, NULL, NULL, NULL, NULL), -EINVAL);
	/* A doorbell of the system's, or a promise. */
	assert_int_equal(uiommu_ioas_place_doorbells(rig.ioas, &place), 0);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, 0x8090000, "bell", &iova), 1);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &good, NULL, NULL, NULL), -EBUSY);
	uiommu_ioas_unmap_doorbell(rig.ioas, 0x8090000);
	assert_int_equal(uiommu_ioas_allow(rig.ioas, &all, 1), 0);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &good, NULL, NULL, NULL), -EBUSY);
	assert_int_equal(uiommu_ioas_allow(rig.ioas, NULL, 0), 0);
	/* All that changed nothing. */
	uiommu_domain_enable(rig.domain, true);
	assert_int_equal(read_byte(&rig, 0), 1);
	uiommu_domain_enable(rig.domain, false);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &good, NULL, NULL, NULL), 0);
	rig_down(&rig);
}

/* Where doorbells go changes with the shape, or not at all. */
static void test_doorbells(void **state)
{
	const struct uiommu_doorbell_place old = {{0, 16 * PAGE - 1}, PAGE, true},
					   odd = {{0, 16 * PAGE - 1}, 3 * PAGE, true},
					   next = {{0, 32 * PAGE - 1}, 4 * PAGE, true};
	struct uiommu_domain_options good = pamu(0, 32 * PAGE - 1, 8), bad = good;
	uint64_t iova;
	struct rig rig;

	rig_up(&rig);
	uiommu_domain_enable(rig.domain, false);
	assert_int_equal(uiommu_ioas_place_doorbells(rig.ioas, &old), 0);
	bad.windows = 3;
	assert_int_equal(uiommu_domain_reshape(rig.domain, &bad, &next, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &good, &odd, NULL, NULL), -EINVAL);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, 0x8090000, "bell", &iova), 1);
	assert_int_equal(iova, 15 * PAGE);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &good, &next, NULL, NULL), -EBUSY);
	uiommu_ioas_unmap_doorbell(rig.ioas, 0x8090000);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, 0x8090000, "bell", &iova), 1);
	assert_int_equal(iova, 15 * PAGE);
	uiommu_ioas_unmap_doorbell(rig.ioas, 0x8090000);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &good, &next, NULL, NULL), 0);
	assert_int_equal(uiommu_ioas_map_doorbell(rig.ioas, 0x8090000, "bell", &iova), 1);
	assert_int_equal(iova, 28 * PAGE);
	uiommu_ioas_unmap_doorbell(rig.ioas, 0x8090000);
	rig_down(&rig);
}

/* The secondary entries are used up, or there is no memory: as it was. */
static void test_exhausted(void **state)
{
	struct uiommu_domain_options most = pamu(0, 256 * PAGE - 1, 256);
	struct uiommu_domain *others[8];
	struct uiommu_ioas *spaces[8];
	struct rig rig;

	uiommu_set_allocator(failing_alloc, failing_release);
	rig_up(&rig);
	memset(rig.memory, 1, PAGE);
	assert_int_equal(map(&rig, 0, 0), 0);
	/* 2048 entries, of which it has 15 and each of the others 255. Its own don't count as free:
	 * the new table is made before the old one goes. */
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(uiommu_ioas_create(&spaces[i]), 0);
		assert_int_equal(uiommu_domain_create(rig.unit, spaces[i], &most, &others[i]), 0);
	}
	uiommu_domain_enable(rig.domain, false);
	assert_int_equal(uiommu_domain_reshape(rig.domain, &most, NULL, NULL, NULL), -ENOSPC);
	uiommu_domain_enable(rig.domain, true);
	assert_int_equal(read_byte(&rig, 0), 1);
	for (unsigned i = 0; i < 7; i++) {
		uiommu_domain_destroy(others[i]);
		uiommu_ioas_destroy(spaces[i]);
	}
	uiommu_domain_enable(rig.domain, false);
	for (long nth = 0;; nth++) {
		int ret;

		fail_countdown = nth;
		ret = uiommu_domain_reshape(rig.domain, &most, NULL, NULL, NULL);
		fail_countdown = -1;
		if (!ret) {
			assert_true(nth > 0);
			break;
		}
		assert_int_equal(ret, -ENOMEM);
		uiommu_domain_enable(rig.domain, true);
		assert_int_equal(read_byte(&rig, 0), 1);
		uiommu_domain_enable(rig.domain, false);
	}
	rig_down(&rig);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reshape),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_doorbells),
		cmocka_unit_test(test_exhausted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
