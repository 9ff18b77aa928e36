/* SPDX-License-Identifier: MIT */
/*
 * An edu beside the model virtio-iommu: its DMA passes two stages, its faults come on the event
 * queue, bypass and resets change what it reaches, and nothing of that leaves a hole in a race.
 * And functions that cannot be added for want of memory.
 */
#include "virtio_rig.h"

#include <pthread.h>
#include <sched.h>

/* ---- two stages ---- */

/* Give the event queue a buffer of @len bytes. */
static void offer_event(struct rig *rig, unsigned slot, uint32_t len)
{
	struct vd_queue_memory *m = &rig->d.mem->queue[1];

	memset(m->buffer + 32 * slot, 0xaa, 32);
	m->desc[slot] = (struct vd_desc){vd_iova(&rig->d, m->buffer + 32 * slot), len, VD_WRITE, 0};
	vd_offer(&rig->d, 1, (uint16_t)slot);
}

static void take_event(struct rig *rig, unsigned slot, uint8_t reason, uint32_t flags,
		       uint64_t address)
{
	const uint8_t *report = rig->d.mem->queue[1].buffer + 32 * slot;
	const uint32_t expected[3] = {flags, rig->ep, 0};
	uint32_t id = 99;

	assert_int_equal(vd_take(&rig->d, 1, &id), 24);
	assert_int_equal(id, slot);
	assert_int_equal(report[0], reason);
	assert_int_equal(report[1] | report[2] | report[3], 0);
	assert_memory_equal(report + 4, expected, 12);
	assert_memory_equal(report + 16, &address, 8);
	assert_int_equal(report[24], 0xaa);
}

static void test_two_stages(void **state)
{
	uint8_t *from, *to;
	uint32_t id;
	struct rig rig;

	rig_up(&rig, "virtio-iommu@00:04.0");
	from = rig.ram + DATA;
	to = rig.ram + DATA + PAGE;
	/* Nobody drives it: edu is on its own, and finds nothing there. */
	assert_true(!edu_reaches(&rig, 0x3000, 0x9000, from, to));
	rig_go(&rig, 0);
	/* edu's addresses have 28 bits; the container's RAM is above them. */
	assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), OK);
	assert_int_equal(vd_map(&rig.d, 1, 0x3000, 0x3fff, IOVA + DATA, R), OK);
	assert_int_equal(vd_map(&rig.d, 1, 0x9000, 0x9fff, IOVA + DATA + PAGE, R | W), OK);
	assert_true(edu_reaches(&rig, 0x3000, 0x9000, from, to));
	assert_true(edu_reaches(&rig, 0x3fc0, 0x9fc0, from + 0xfc0, to + 0xfc0));
	/* Faults arrive on the event queue: not mapped, and not writable. */
	for (unsigned i = 0; i < 4; i++)
		offer_event(&rig, i, 32);
	assert_false(edu_reaches(&rig, 0x4000, 0x9000, from, to));
	take_event(&rig, 0, 2, 0x101, 0x4000);
	assert_false(edu_reaches(&rig, 0x9000, 0x3000, from, to));
	take_event(&rig, 1, 2, 0x102, 0x3000);
	/* Unmapped in front. */
	assert_int_equal(vd_unmap(&rig.d, 1, 0x9000, 0x9fff), OK);
	assert_false(edu_reaches(&rig, 0x3000, 0x9000, from, to));
	take_event(&rig, 2, 2, 0x102, 0x9000);
	/* What is missing behind is not the virtual IOMMU's to report. */
	assert_int_equal(vd_map(&rig.d, 1, 0xa000, 0xafff, 0x5000, R), OK);
	edu_copy(&rig, 0xa000, 0xa000);
	uiommu_function_drain(rig.fn);
	take_event(&rig, 3, 2, 0x102, 0xa000); /* the write, which stage 1 forbids */
	assert_int_equal(vd_map(&rig.d, 1, 0x9000, 0x9fff, IOVA + DATA + PAGE, R | W), OK);
	/* No buffer: lost, and nothing waits for the next one. */
	edu_dma(&rig, 0x7777, 0x40000, 8, 1);
	uiommu_function_drain(rig.fn);
	offer_event(&rig, 0, 32);
	assert_int_equal(vd_take(&rig.d, 1, &id), -1);
	edu_dma(&rig, 0x6666, 0x40000, 8, 1);
	take_event(&rig, 0, 2, 0x101, 0x6666);
	/* Too small a buffer comes back empty. */
	offer_event(&rig, 1, 23);
	edu_dma(&rig, 0x6666, 0x40000, 8, 1);
	assert_int_equal(vd_take(&rig.d, 1, &id), 0);
	assert_int_equal(rig.d.mem->queue[1].buffer[32], 0xaa);
	/* Unmapped behind. */
	assert_true(edu_reaches(&rig, 0x3000, 0x9000, from, to));
	assert_int_equal(uiommu_ioas_unmap(rig.ioas, (struct uiommu_range){IOVA, IOVA + RAM - 1},
					   NULL, NULL, NULL),
			 0);
	assert_false(edu_reaches(&rig, 0x3000, 0x9000, from, to));
	rig_down(&rig);
}

static void map_low(struct rig *rig)
{
	assert_int_equal(uiommu_ioas_map(rig->ioas, (struct uiommu_range){0, 0x3ffff},
					 (uintptr_t)rig->ram + DATA, 3, NULL),
			 0);
}

static void test_bypass(void **state)
{
	uint8_t *from, *to;
	struct rig rig;

	rig_up(&rig, "virtio-iommu@00:04.0,bypass=off");
	from = rig.ram + DATA;
	to = from + PAGE;
	map_low(&rig);
	/* Off from the start, also for who was added later. */
	assert_false(edu_reaches(&rig, 0, PAGE, from, to));
	rig_go(&rig, 0);
	offer_event(&rig, 0, 24);
	edu_dma(&rig, 0x1234, 0x40000, 8, 1);
	take_event(&rig, 0, 1, 0x101, 0x1234);
	vd_set(&rig.d, VD_DEVICE, 36, 1, 1);
	assert_int_equal(vd_get(&rig.d, VD_DEVICE, 36, 1), 1);
	assert_true(edu_reaches(&rig, 0, PAGE, from, to));
	/* A domain ends it, a bypass domain doesn't. */
	assert_int_equal(vd_attach(&rig.d, 5, rig.ep, 0), OK);
	assert_false(edu_reaches(&rig, 0, PAGE, from, to));
	assert_int_equal(vd_attach(&rig.d, 6, rig.ep, 1), OK);
	vd_set(&rig.d, VD_DEVICE, 36, 1, 0);
	assert_true(edu_reaches(&rig, 0, PAGE, from, to));
	assert_int_equal(vd_detach(&rig.d, 6, rig.ep), OK);
	assert_false(edu_reaches(&rig, 0, PAGE, from, to));
	/* The device's reset leaves the field, the function's doesn't. */
	vd_set(&rig.d, VD_DEVICE, 36, 1, 1);
	vd_set_status(&rig.d, 0);
	assert_int_equal(vd_get(&rig.d, VD_DEVICE, 36, 1), 1);
	assert_true(edu_reaches(&rig, 0, PAGE, from, to));
	uiommu_function_reset(rig.fn);
	uiommu_function_config_write(rig.fn, 4, 2, 6);
	assert_int_equal(vd_get(&rig.d, VD_DEVICE, 36, 1), 0);
	assert_false(edu_reaches(&rig, 0, PAGE, from, to));
	/* It is no endpoint of itself, nor is what isn't there. */
	rig_go(&rig, 0);
	assert_int_equal(vd_attach(&rig.d, 1, uiommu_function_info(rig.fn)->rid, 0), NOENT);
	assert_int_equal(vd_attach(&rig.d, 1, 0x4444, 0), NOENT);
	assert_int_equal(vd_attach(&rig.d, 1, 3 << 3, 0), OK);
	/* In another space it has no say over edu. */
	uiommu_domain_detach(rig.domain, uiommu_function_info(rig.fn)->rid);
	assert_true(edu_reaches(&rig, 0, PAGE, from, to));
	rig_down(&rig);
}

static void test_add_fails(void **state)
{
	const struct uiommu_machine_options mo = {.size = sizeof(mo)};
	struct uiommu_machine *machine;
	char why[256];
	long n;

	uiommu_set_allocator(failing_alloc, failing_release);
	assert_int_equal(uiommu_machine_create(&mo, &machine, why, sizeof(why)), 0);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const specs[] = {"edu", "virtio-iommu", "ioat"};
		int ret;

		for (n = 0;; n++) {
			fail_countdown = n;
			ret = uiommu_machine_add(machine, specs[i], why, sizeof(why));
			fail_countdown = -1;
			if (!ret)
				break;
			assert_int_equal(ret, -ENOMEM);
			assert_null(uiommu_machine_function(machine, i));
			assert_true(n < 100);
		}
		assert_true(n > 3);
	}
	/* A second one would take the endpoints of the first away. */
	assert_int_equal(uiommu_machine_add(machine, "virtio-iommu", why, sizeof(why)), -EEXIST);
	assert_non_null(strstr(why, "has one"));
	assert_int_not_equal(
		uiommu_machine_add(machine, "virtio-iommu,bypass=maybe", why, sizeof(why)), 0);
	assert_non_null(strstr(why, "on or off"));
	uiommu_machine_destroy(machine);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- race ---- */

static struct {
	struct rig rig;
	_Atomic bool stop;
	_Atomic unsigned transfers;
} race;

/* edu writes to a page again and again, mapped or not. */
static void *race_edu(void *arg)
{
	while (!race.stop) {
		edu_dma(&race.rig, 0x40000, 0x9000, 64, 3);
		race.transfers++;
	}
	return NULL;
}

static void race_quiet(uint8_t *page, uint8_t mark)
{
	memset(page, mark, 64);
	sched_yield();
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(page[i], mark);
}

static void race_map_back(uint8_t *page)
{
	assert_int_equal(
		uiommu_ioas_map(race.rig.ioas,
				(struct uiommu_range){IOVA + 2 * RAM, IOVA + 2 * RAM + 0xfff},
				(uintptr_t)page, 3, NULL),
		0);
}

static void test_race(void **state)
{
	struct rng rng = rng_seeded("virtio pci race");
	uint64_t rounds = test_steps(400);
	struct rig *rig = &race.rig;
	pthread_t thread;
	uint8_t *page;

	rig_up(rig, "virtio-iommu@00:04.0,bypass=off");
	page = rig->ram + DATA;
	/* A mapping of its own behind, so that both stages can lose it. */
	race_map_back(page);
	rig_go(rig, VD_F_EVENT_IDX | VD_F_INDIRECT);
	assert_int_equal(vd_attach(&rig->d, 1, rig->ep, 0), OK);
	assert_int_equal(vd_map(&rig->d, 1, 0x9000, 0x9fff, IOVA + 2 * RAM, W), OK);
	pthread_create(&thread, NULL, race_edu, NULL);
	while (race.transfers < 3)
		sched_yield();
	for (uint64_t round = 0; round < rounds; round++) {
		uint8_t mark = (uint8_t)(round | 1);
		uint64_t what = rng_below(&rng, 4);

		if (round < VD_SIZE)
			offer_event(rig, (unsigned)round, 32);
		switch (what) {
		case 0:
			assert_int_equal(vd_unmap(&rig->d, 1, 0x9000, 0x9fff), OK);
			race_quiet(page, mark);
			assert_int_equal(vd_map(&rig->d, 1, 0x9000, 0x9fff, IOVA + 2 * RAM, W), OK);
			break;
		case 1:
			assert_int_equal(
				uiommu_ioas_unmap(rig->ioas,
						  (struct uiommu_range){IOVA + 2 * RAM,
									IOVA + 2 * RAM + 0xfff},
						  NULL, NULL, NULL),
				0);
			race_quiet(page, mark);
			race_map_back(page);
			break;
		case 2:
			assert_int_equal(vd_detach(&rig->d, 1, rig->ep), OK);
			race_quiet(page, mark);
			assert_int_equal(vd_attach(&rig->d, 1, rig->ep, 0), OK);
			assert_int_equal(vd_map(&rig->d, 1, 0x9000, 0x9fff, IOVA + 2 * RAM, W), OK);
			break;
		case 3:
			uiommu_function_reset(rig->fn);
			race_quiet(page, mark);
			uiommu_function_config_write(rig->fn, 4, 2, 6);
			rig_go(rig, VD_F_EVENT_IDX);
			assert_int_equal(vd_attach(&rig->d, 1, rig->ep, 0), OK);
			assert_int_equal(vd_map(&rig->d, 1, 0x9000, 0x9fff, IOVA + 2 * RAM, W), OK);
			break;
		}
	}
	race.stop = true;
	pthread_join(thread, NULL);
	assert_true(!edu_reaches(rig, 0x9000, 0x9000, page, page)); /* write-only */
	rig_down(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_stages),
		cmocka_unit_test(test_bypass),
		cmocka_unit_test(test_add_fails),
		cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
