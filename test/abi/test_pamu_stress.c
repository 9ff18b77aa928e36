/* SPDX-License-Identifier: MIT */
/* VFIO on PAMU with threads that get in each other's way, and without memory. */
#include "pamu_test.h"

/* ---- threads ---- */

struct race {
	struct rig rig;
	struct session s;
	_Atomic bool stop;
};

/* Windows and mappings come and go. */
static void *change_windows(void *ctx)
{
	struct race *race = ctx;
	unsigned shaped = 0;

	for (uint64_t n = 0; n < test_steps(2000); n++) {
		long ret = set_windows(&race->rig, race->s.container, n % 2 ? 8 : 16);

		assert_true(ret == 0 || ret == -EBUSY);
		shaped += !ret;
		for (unsigned window = 0; window < 4; window++) {
			ret = rig_map(&race->rig, race->s.container, RW, window * 2 * PAGE,
				      2 * PAGE, race->rig.memory + window * 2 * PAGE);
			assert_int_equal(ret, 0); /* banks are at the top */
		}
		assert_int_equal(unmap(&race->rig, race->s.container, 0, UINT64_MAX), 0);
	}
	assert_true(shaped > 0);
	race->stop = true;
	return NULL;
}

/* Interrupts are set up and raised while they do: with a bank, without one, or with windows that
 * are just being cut. */
static void test_threads(void **state)
{
	const struct rig_options options = {.platform = "fsl-pamu"};
	int event = eventfd(0, EFD_NONBLOCK);
	unsigned came = 0, tried = 0;
	struct race race = {0};
	pthread_t thread;

	assert_true(rig_up(&race.rig, &options));
	race.s = rig_session(&race.rig, 0, VFIO_FSL_PAMU_IOMMU, EDU);
	rig_config_set(&race.rig, race.s.device, PCI_COMMAND, 2,
		       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(set_geometry(&race.rig, race.s.container, 0, 16 * PAGE - 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, change_windows, &race), 0);
	while (!race.stop) {
		long ret = msi_on(&race.rig, race.s.device, event);

		assert_true(ret == 0 || ret == -ENODEV);
		rig_reg_set(&race.rig, race.s.device, 0, 0x80, 0);
		rig_reg_set(&race.rig, race.s.device, 0, 0x88, 0x40000);
		rig_reg_set(&race.rig, race.s.device, 0, 0x90, PAGE);
		rig_reg_set(&race.rig, race.s.device, 0, 0x98, 1 | 4);
		for (unsigned i = 0; i < 1000 && (rig_reg(&race.rig, race.s.device, 0, 0x98) & 1);
		     i++)
			usleep(10);
		rig_reg_set(&race.rig, race.s.device, 0, 0x64, 0x100);
		came += rig_wait(event, NEVER);
		tried++;
		if (!ret)
			msi_off(&race.rig, race.s.device);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(came <= tried);
	/* And then all is well. */
	assert_int_equal(set_windows(&race.rig, race.s.container, 8), 0);
	assert_int_equal(rig_map(&race.rig, race.s.container, RW, 0, 4 * PAGE, race.rig.memory), 0);
	assert_int_equal(msi_on(&race.rig, race.s.device, event), 0);
	assert_int_equal(msi_address(&race.rig, race.s.device), 14 * PAGE + 0x140);
	assert_true(edu_interrupts(&race.rig, race.s.device, event));
	pamu_down(&race.rig, &race.s);
	close(event);
}

/* ---- allocation failures ---- */

struct sweep {
	struct rig rig;
	struct session s;
	int event;
};

static bool no_memory(long ret)
{
	assert_true(ret == 0 || ret == -ENOMEM);
	return !ret;
}

static bool step_geometry(struct sweep *w)
{
	return no_memory(set_geometry(&w->rig, w->s.container, 0, 8 * PAGE - 1));
}

static bool step_windows(struct sweep *w)
{
	return no_memory(set_windows(&w->rig, w->s.container, 8));
}

static bool step_bank(struct sweep *w)
{
	return no_memory(map_bank(&w->rig, w->s.container, RW, 0, 4 * PAGE));
}

static bool step_other_bank(struct sweep *w)
{
	return no_memory(map_bank(&w->rig, w->s.container, RW, 1, 5 * PAGE));
}

/* Failing, it leaves the banks where they were. */
static bool step_windows_again(struct sweep *w)
{
	long ret = set_windows(&w->rig, w->s.container, 4);

	if (ret) {
		assert_int_equal(get_windows(&w->rig, w->s.container), 8);
		assert_int_equal(map_bank(&w->rig, w->s.container, RW, 0, 4 * PAGE), -EBUSY);
		assert_int_equal(map_bank(&w->rig, w->s.container, RW, 0, 5 * PAGE), -EBUSY);
	}
	return no_memory(ret);
}

static bool step_map(struct sweep *w)
{
	long ret = rig_map(&w->rig, w->s.container, RW, 0, 8 * PAGE, w->rig.memory);
	struct uiommu_vfio_stats stats;

	uiommu_vfio_stats(w->rig.vfio, &stats);
	assert_int_equal(stats.live, ret ? 0 : 8);
	return no_memory(ret);
}

static bool step_interrupt(struct sweep *w)
{
	return no_memory(msi_on(&w->rig, w->s.device, w->event));
}

static bool step_unmap(struct sweep *w)
{
	/* Needs none. */
	assert_int_equal(unmap(&w->rig, w->s.container, 0, UINT64_MAX), 0);
	return true;
}

static bool session_up(struct sweep *w)
{
	int group = rig_open_group(&w->rig, 0), container = rig_open_container(&w->rig);

	if (group >= 0 && container >= 0 &&
	    !rig_ioctl(&w->rig, group, VFIO_GROUP_SET_CONTAINER, &container) &&
	    !rig_ioctl_value(&w->rig, container, VFIO_SET_IOMMU, VFIO_FSL_PAMU_IOMMU)) {
		w->s = (struct session){container, group,
					rig_ioctl(&w->rig, group, VFIO_GROUP_GET_DEVICE_FD, EDU)};
		if (w->s.device >= 0)
			return true;
	}
	if (group >= 0)
		rig_close(&w->rig, group);
	if (container >= 0)
		rig_close(&w->rig, container);
	return false;
}

/* A session with the nth allocation failing: that step fails, nothing has changed, and it succeeds
 * the second time. Returns whether one failed at all. */
static bool session_with_failure(const char *platform, bool (*const *steps)(struct sweep *w),
				 long nth)
{
	const struct rig_options options = {.platform = platform};
	long live = fail_live, bytes = fail_live_bytes;
	struct sweep w = {.event = eventfd(0, EFD_NONBLOCK)};
	bool failed = false;

	assert_true(rig_up(&w.rig, &options));
	fail_countdown = nth;
	if (!session_up(&w))
		assert_true(session_up(&w));
	for (; *steps; steps++)
		if (!(*steps)(&w) && !(*steps)(&w))
			fail_msg("failed twice, allocation %ld", nth);
	failed = fail_countdown < 0;
	fail_countdown = -1;
	pamu_down(&w.rig, &w.s);
	close(w.event);
	assert_int_equal(fail_live, live);
	assert_int_equal(fail_live_bytes, bytes);
	return failed;
}

static void test_allocation_failures(void **state)
{
	static bool (*const explicit_steps[])(struct sweep *) = {
		step_geometry,	    step_windows,   step_bank, step_other_bank,
		step_windows_again, step_windows,   step_map,  step_unmap,
		step_bank,	    step_interrupt, NULL};
	static bool (*const implicit_steps[])(struct sweep *) = {step_geometry, step_windows,
								 step_interrupt, NULL};
	static const struct {
		const char *platform;
		bool (*const *steps)(struct sweep *);
	} rows[] = {{"fsl-pamu,msi=explicit", explicit_steps}, {"fsl-pamu", implicit_steps}};

	uiommu_set_allocator(failing_alloc, failing_release);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		long nth = 0;

		while (session_with_failure(rows[i].platform, rows[i].steps, nth))
			nth++;
		assert_true(nth > 10);
	}
	uiommu_set_allocator(NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_allocation_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
