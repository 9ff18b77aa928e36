/* SPDX-License-Identifier: MIT */
/*
 * virtio-iommu on buffers: what endpoints reach and what is reported of them: faults, bypass, whose
 * space it is, limits; allocation failure; and threads that send requests while devices do DMA.
 */
#include "viommu_rig.h"

#include <pthread.h>
#include <sched.h>

/* ---- endpoints, bypass, faults ---- */

static void take_report(struct rig *rig, uint8_t reason, uint32_t flags, uint32_t endpoint,
			uint64_t address)
{
	uint8_t report[24];

	assert_int_equal(uiommu_virtio_iommu_next_event(rig->dev, report, 24), 24);
	assert_int_equal(report[0], reason);
	assert_int_equal(report[1] | report[2] | report[3], 0);
	assert_int_equal(get(report + 4, 4), flags);
	assert_int_equal(get(report + 8, 4), endpoint);
	assert_int_equal(get(report + 12, 4), 0);
	assert_int_equal(get(report + 16, 8), address);
}

static void test_faults(void **state)
{
	struct uiommu_virtio_iommu_stats stats;
	struct rig rig;
	uint8_t byte = 0, report[24];

	rig_usual(&rig);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	check_no(rig.a, 0x1234);
	assert_int_equal(rig.events, 1);
	take_report(&rig, 1, 0x101, EP_A, 0x1234);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 24), 0);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(attach(&rig, 1, EP_B, 0), OK);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 0, R), OK);
	assert_int_equal(map(&rig, 1, PAGE, 2 * PAGE - 1, RAM_SIZE, R | W), OK);
	assert_int_equal(uiommu_port_write(rig.b, 0x10, &byte, 1), -EFAULT);
	check_no(rig.b, 0x5678);
	check_no(rig.a, LAST + 7);
	take_report(&rig, 2, 0x102, EP_B, 0x10);
	take_report(&rig, 2, 0x101, EP_B, 0x5678);
	take_report(&rig, 2, 0x101, EP_A, LAST + 7);
	/* What is missing behind the stage 1 is none of this device's. */
	check_no(rig.a, PAGE);
	assert_int_equal(rig.events, 4);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 24), 0);
	/* A report that doesn't fit is lost, and so are those that there is no room for. */
	check_no(rig.b, 0x5678);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 23), -EMSGSIZE);
	for (unsigned i = 0; i < 100; i++)
		check_no(rig.b, 0x100000 + i);
	take_report(&rig, 2, 0x101, EP_B, 0x100000);
	uiommu_virtio_iommu_drop_events(rig.dev);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 24), 0);
	uiommu_virtio_iommu_stats(rig.dev, &stats);
	assert_int_equal(stats.events, 5);
	assert_int_equal(stats.dropped, 1 + 99);
	/* After a reset nothing of the past is told. */
	check_no(rig.b, 0x5678);
	uiommu_virtio_iommu_reset(rig.dev, false);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 24), 0);
	rig_down(&rig);
}

static void test_bypass(void **state)
{
	struct uiommu_virtio_iommu_options o = {.features = INPUT_RANGE | MAP_UNMAP | BYPASS,
						.bypass = true};
	struct rig rig;

	/* The older feature: bypass is what the driver accepts; there is no field for it. */
	rig_up(&rig, &o);
	check_no(rig.a, 9);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, BYPASS | MAP_UNMAP), 0);
	check_at(rig.a, 9, 9);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	check_at(rig.a, 9, 9);
	assert_int_equal(attach(&rig, 1, EP_A, 1), INVAL);
	uiommu_virtio_iommu_reset(rig.dev, false);
	check_no(rig.a, 9);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, PROBE), -EINVAL);
	rig_down(&rig);

	rig_usual(&rig);
	check_at(rig.a, 9, 9);
	assert_int_equal(attach(&rig, 7, EP_A, 1), OK);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	check_at(rig.a, 9, 9); /* a bypass domain's endpoint */
	check_no(rig.b, 9);    /* and one without a domain */
	assert_int_equal(attach(&rig, 8, EP_A, 0), OK);
	check_no(rig.a, 9);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\1", 1);
	check_no(rig.a, 9);
	check_at(rig.b, 9, 9);
	/* Given up, it is on its own; back again, it is under the rule. */
	uiommu_virtio_iommu_remove_endpoint(rig.dev, EP_A);
	uiommu_virtio_iommu_remove_endpoint(rig.dev, EP_A);
	check_at(rig.a, 9, 9);
	assert_int_equal(attach(&rig, 8, EP_A, 0), NOENT);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig.dev, EP_A), 0);
	assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig.dev, EP_A), -EEXIST);
	check_no(rig.a, 9);
	rig_down(&rig);
}

/* As a function of its own it has a say only over its own space. */
static void test_governed(void **state)
{
	struct uiommu_virtio_iommu_options o = {.governed = true, .self = SELF};
	struct rig rig;

	rig_up(&rig, &o);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 8 * PAGE, R), OK);
	check_at(rig.a, 9, 9);
	check_at(rig.b, 9, 9);
	assert_int_equal(uiommu_domain_attach(rig.space, SELF, NULL, 0, "self"), 0);
	check_at(rig.a, 9, 8 * PAGE + 9);
	check_no(rig.b, 9);
	uiommu_domain_detach(rig.space, SELF);
	check_at(rig.a, 9, 9);
	check_at(rig.b, 9, 9);
	rig_down(&rig);
}

static void test_space(void **state)
{
	struct uiommu_virtio_iommu_options o = {0};
	struct rig rig;

	rig_up(&rig, &o);
	uiommu_virtio_iommu_destroy(rig.dev);
	o.space = rig.space;
	assert_int_equal(make_dev(&rig, &o), 0);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig.dev, EP_A), 0);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, LAST + 1, R), RANGE);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 3 * PAGE, R), OK);
	check_at(rig.a, 1, 3 * PAGE + 1);
	rig_down(&rig);
}

static void test_limits(void **state)
{
	const uint64_t high = UINT64_C(1) << 33; /* above all reserved regions */
	struct uiommu_virtio_iommu_options o = {.max_mappings = 4, .max_entries = 600};
	struct uiommu_virtio_iommu_stats stats;
	struct rig rig;

	rig_up(&rig, &o);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	/* As small pages too many entries, as large ones a handful. */
	assert_int_equal(map(&rig, 1, 0, 601 * PAGE - 1, PAGE, R), NOMEM);
	assert_int_equal(map(&rig, 1, 0, 600 * PAGE - 1, PAGE, R), OK);
	assert_int_equal(map(&rig, 1, MIB2 * 8, MIB2 * 8 + PAGE - 1, PAGE, R), NOMEM);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, PAGE, R), INVAL); /* not hidden by that */
	assert_int_equal(map(&rig, 1, 0xfee00000, 0xfee00fff, PAGE, R), INVAL);
	assert_int_equal(unmap(&rig, 1, 0, 600 * PAGE - 1), OK);
	assert_int_equal(map(&rig, 1, UINT64_C(1) << 38, LAST, 0, R), OK); /* 256 of 1 GiB */
	assert_int_equal(
		map(&rig, 1, high + MIB2 - PAGE, high + 300 * MIB2 + PAGE - 1, MIB2 - PAGE, R), OK);
	assert_int_equal(map(&rig, 1, 0, 44 * PAGE - 1, 0, R), NOMEM); /* 256 + 301 + 44 */
	assert_int_equal(map(&rig, 1, 0, 43 * PAGE - 1, 0, R), OK);
	assert_int_equal(unmap(&rig, 1, 0, 43 * PAGE - 1), OK);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 0, R), OK);
	assert_int_equal(map(&rig, 1, PAGE, 2 * PAGE - 1, 0, R), OK);
	assert_int_equal(map(&rig, 1, 2 * PAGE, 3 * PAGE - 1, 0, R), NOMEM); /* the fifth */
	/* They come back with the domain. */
	assert_int_equal(attach(&rig, 2, EP_A, 0), OK);
	uiommu_virtio_iommu_stats(rig.dev, &stats);
	assert_int_equal(stats.mappings, 0);
	assert_int_equal(map(&rig, 2, 0, 600 * PAGE - 1, PAGE, R), OK);
	rig_down(&rig);
}

/* ---- no memory ---- */

static void sweep(struct rig *rig, const struct bytes *req, int before, uint64_t iova)
{
	long live = fail_live, n = 0;
	int status;

	do {
		assert_true(n < 64);
		fail_countdown = n++;
		status = send(rig, req, 4);
		fail_countdown = -1;
		assert_true(status == OK || status == NOMEM);
		if (status == NOMEM) {
			assert_int_equal(fail_live, live);
			/* As it was before. */
			if (before)
				check_at(rig->a, iova, before);
			else
				check_no(rig->a, iova);
		}
	} while (status != OK);
	assert_true(n > 1);
}

static void test_no_memory(void **state)
{
	struct uiommu_virtio_iommu_options o = {.bypass = true};
	struct uiommu_virtio_iommu *dev = NULL;
	struct bytes req;
	struct rig rig;
	int ret;

	uiommu_set_allocator(failing_alloc, failing_release);
	rig_up(&rig, &o);
	for (long n = 0;; n++) {
		long live = fail_live;

		assert_true(n < 64);
		fail_countdown = n;
		ret = uiommu_virtio_iommu_create(rig.unit, &o, &dev);
		fail_countdown = -1;
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_null(dev);
		assert_int_equal(fail_live, live);
	}
	for (long n = 0;; n++) {
		assert_true(n < 16);
		fail_countdown = n;
		ret = uiommu_virtio_iommu_add_endpoint(dev, 0x4242);
		fail_countdown = -1;
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
	}
	uiommu_virtio_iommu_destroy(dev);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	req = attach_req(1, EP_A, 0, 0);
	sweep(&rig, &req, 5, 5);
	req = map_req(1, 0, 3 * PAGE - 1, 7 * PAGE, R);
	sweep(&rig, &req, 0, 5);
	req = attach_req(2, EP_A, 1, 0);
	sweep(&rig, &req, 7 * PAGE + 5, 5);
	/* What takes away needs nothing. */
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(map(&rig, 1, 0, 3 * PAGE - 1, 7 * PAGE, R), OK);
	fail_countdown = 0;
	assert_int_equal(unmap(&rig, 1, 0, 3 * PAGE - 1), OK);
	assert_int_equal(detach(&rig, 1, EP_A), OK);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	check_no(rig.a, 5);
	uiommu_virtio_iommu_reset(rig.dev, true);
	check_at(rig.a, 5, 5);
	fail_countdown = -1;
	rig_down(&rig);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- race ---- */

enum { RACE_PAGES = 8, LANE = 1024 };

static struct {
	struct rig rig;
	char *memory;
	_Atomic bool stop;
	_Atomic unsigned running;
} race;

static void *race_device(void *arg)
{
	struct uiommu_port *port = arg == (void *)1 ? race.rig.a : race.rig.b;
	struct rng rng = {.state = (uintptr_t)arg};
	char buf[LANE - 24];
	unsigned long hits = 0;
	bool started = false;

	memset(buf, 0xdd, sizeof(buf));
	while (!race.stop) {
		uint64_t iova = rng_below(&rng, RACE_PAGES) * PAGE + (uintptr_t)arg * LANE;

		hits += !uiommu_port_write(port, iova, buf, sizeof(buf));
		if (hits && !started) {
			started = true;
			race.running++;
		}
	}
	return (void *)hits;
}

/* Somebody else asks for this and that meanwhile. */
static void *race_other(void *arg)
{
	struct rng rng = {.state = 99};
	uint8_t out[68], report[24], config[40];
	size_t written;

	while (!race.stop) {
		struct bytes req = map_req(3, rng_below(&rng, 9) * PAGE, 9 * PAGE - 1, 0, R);

		req.b[0] = (uint8_t)(1 + rng_below(&rng, 5));
		req.b[4] = 3;
		uiommu_virtio_iommu_request(race.rig.dev, req.b, req.n, out, 68, &written);
		uiommu_virtio_iommu_next_event(race.rig.dev, report, 24);
		uiommu_virtio_iommu_config_read(race.rig.dev, 0, config, 40);
	}
	return NULL;
}

static void race_quiet(char mark)
{
	uint64_t changed = 0;

	memset(race.memory, mark, RACE_PAGES * PAGE);
	sched_yield();
	for (uint64_t i = 0; i < RACE_PAGES * PAGE; i++)
		changed += race.memory[i] != mark;
	assert_int_equal(changed, 0);
}

static void race_rig(void)
{
	const struct uiommu_unit_options uo = {.size = sizeof(uo), .iotlb_entries = 16};
	const struct uiommu_domain_options dopt = {
		.size = sizeof(dopt), .format = "vtd-ss", .width = 48};
	struct uiommu_virtio_iommu_options o = {.bypass = false};
	struct rig *rig = &race.rig;

	rig->facts = (struct uiommu_platform_facts){.format = "vtd-ss", .width = 48};
	assert_int_equal(uiommu_unit_create(&uo, &rig->unit), 0);
	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(rig->unit, rig->ioas, &dopt, &rig->space), 0);
	race.memory = aligned_alloc(PAGE, RACE_PAGES * PAGE);
	assert_int_equal(uiommu_ioas_map(rig->ioas,
					 (struct uiommu_range){MIB2, MIB2 + RACE_PAGES * PAGE - 1},
					 (uintptr_t)race.memory, 3, NULL),
			 0);
	assert_int_equal(make_dev(rig, &o), 0);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig->dev, USUAL), 0);
	for (unsigned i = 0; i < 2; i++) {
		uiommu_rid rid = i ? EP_B : EP_A;

		assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig->dev, rid), 0);
		assert_int_equal(uiommu_domain_attach(rig->space, rid, NULL, 0, "ep"), 0);
		assert_int_equal(uiommu_port_create(rig->unit, rid, i ? &rig->b : &rig->a), 0);
		uiommu_port_set_master(i ? rig->b : rig->a, true);
	}
}

static void test_race(void **state)
{
	struct rng rng = rng_seeded("virtio-iommu race");
	uint64_t rounds = test_steps(500);
	struct rig *rig = &race.rig;
	pthread_t thread[3];

	race_rig();
	assert_int_equal(attach(rig, 1, EP_A, 0), OK);
	assert_int_equal(attach(rig, 1, EP_B, 0), OK);
	assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
	pthread_create(&thread[0], NULL, race_device, (void *)1);
	pthread_create(&thread[1], NULL, race_device, (void *)2);
	pthread_create(&thread[2], NULL, race_other, NULL);
	while (race.running < 2)
		sched_yield();
	for (uint64_t round = 0; round < rounds; round++) {
		char mark = (char)(round | 1);

		switch (rng_below(&rng, 4)) {
		case 0: /* unmapped */
			assert_int_equal(unmap(rig, 1, 0, RACE_PAGES * PAGE - 1), OK);
			race_quiet(mark);
			assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
			break;
		case 1: /* moved elsewhere; the domain goes */
			assert_int_equal(attach(rig, 2, EP_A, 0), OK);
			assert_int_equal(attach(rig, 2, EP_B, 0), OK);
			race_quiet(mark);
			assert_int_equal(attach(rig, 1, EP_A, 0), OK);
			assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
			assert_int_equal(attach(rig, 1, EP_B, 0), OK);
			break;
		case 2: /* detached, without bypass */
			assert_int_equal(detach(rig, 1, EP_A), OK);
			assert_int_equal(detach(rig, 1, EP_B), OK);
			race_quiet(mark);
			assert_int_equal(attach(rig, 1, EP_A, 0), OK);
			assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
			assert_int_equal(attach(rig, 1, EP_B, 0), OK);
			break;
		case 3: /* reset */
			uiommu_virtio_iommu_reset(rig->dev, round & 1);
			race_quiet(mark);
			assert_int_equal(uiommu_virtio_iommu_set_features(rig->dev, USUAL), 0);
			assert_int_equal(attach(rig, 1, EP_A, 0), OK);
			assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
			assert_int_equal(attach(rig, 1, EP_B, 0), OK);
			break;
		}
	}
	race.stop = true;
	for (unsigned i = 0; i < 3; i++) {
		void *hits;

		pthread_join(thread[i], &hits);
		assert_true(i == 2 || (unsigned long)hits > 2);
	}
	assert_true(rig->events > 0);
	rig_down(rig);
	free(race.memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),	 cmocka_unit_test(test_bypass),
		cmocka_unit_test(test_governed), cmocka_unit_test(test_space),
		cmocka_unit_test(test_limits),	 cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
