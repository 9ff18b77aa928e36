/* SPDX-License-Identifier: MIT */
/* Containers and groups: every answer before and after SET_IOMMU, viability, and release in any
 * order. */
#include <errno.h>
#include <unistd.h>

#include "abi/vfio_private.h"
#include "abi_test.h"
#include "check.h"

#define EDU  "0000:00:01.0"
#define IOAT "0000:00:02.0"

/* ---- CHECK_EXTENSION ---- */

static void test_extensions(void **state)
{
	static const struct {
		unsigned long extension;
		long before, after;
	} rows[] = {
		{0, 0, 0},
		{VFIO_TYPE1_IOMMU, 1, 1},
		{VFIO_SPAPR_TCE_IOMMU, 0, 0},
		{VFIO_TYPE1v2_IOMMU, 1, 1},
		{VFIO_DMA_CC_IOMMU, 0, 0}, /* VT-d: not enforced */
		{VFIO_EEH, 0, 0},
		{6, 0, 0}, /* nesting: gone */
		{VFIO_SPAPR_TCE_v2_IOMMU, 0, 0},
		{VFIO_NOIOMMU_IOMMU, 0, 0},
		{VFIO_UNMAP_ALL, 1, 1},
		{VFIO_UPDATE_VADDR, 0, 1},
		{11, 0, 0},
		{~0UL, 0, 0},
		{1UL << 32 | VFIO_TYPE1_IOMMU, 0, 0},
	};
	struct rig rig;
	struct session s;
	int bare;

	assert_true(rig_up(&rig, NULL));
	bare = rig_open_container(&rig);
	s = rig_session(&rig, 0, VFIO_TYPE1_IOMMU, NULL);
	assert_int_equal(rig_ioctl_value(&rig, bare, VFIO_GET_API_VERSION, 0), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned long e = rows[i].extension;

		assert_int_equal(rig_ioctl_value(&rig, bare, VFIO_CHECK_EXTENSION, e),
				 rows[i].before);
		assert_int_equal(rig_ioctl_value(&rig, s.container, VFIO_CHECK_EXTENSION, e),
				 rows[i].after);
	}
	rig_down(&rig);
}

/* ---- SET_IOMMU ---- */

static void test_set_iommu(void **state)
{
	static const struct {
		unsigned long type;
		long error;
	} rows[] = {
		{0, -ENODEV},
		{2, -ENODEV},
		{4, -ENODEV},
		{5, -ENODEV},
		{6, -ENODEV},
		{7, -ENODEV},
		{8, -ENODEV},
		{9, -EINVAL},
		{10, -ENODEV},
		{11, -ENODEV},
		{~0UL, -ENODEV},
		{1UL << 32 | 1, -ENODEV},
		{VFIO_TYPE1v2_IOMMU, 0},
	};
	struct rig rig;
	int container, group;

	assert_true(rig_up(&rig, NULL));
	container = rig_open_container(&rig);
	group = rig_open_group(&rig, 0);
	/* No group yet: the type isn't even looked at. */
	assert_int_equal(rig_ioctl_value(&rig, container, VFIO_SET_IOMMU, 1), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_ORDER);
	assert_string_equal(rig.refused_what, "VFIO_SET_IOMMU");
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(rig_ioctl_value(&rig, container, VFIO_SET_IOMMU, rows[i].type),
				 rows[i].error);
	assert_int_equal(rig_ioctl_value(&rig, container, VFIO_SET_IOMMU, 1), -EINVAL);
	rig_down(&rig);
}

/* A machine that can't tell whose an interrupt is: refused unless that is allowed. */
static void test_isolation(void **state)
{
	struct uiommu_platform_facts facts;
	struct rig rig;
	int container, group;

	assert_true(rig_up(&rig, NULL));
	facts = *rig.vfio->facts;
	facts.isolated_msi = false;
	rig.vfio->facts = &facts;
	container = rig_open_container(&rig);
	group = rig_open_group(&rig, 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	assert_int_equal(rig_ioctl_value(&rig, container, VFIO_SET_IOMMU, 1), -EPERM);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_ISOLATION);
	rig.vfio->unsafe_interrupts = true;
	assert_int_equal(rig_ioctl_value(&rig, container, VFIO_SET_IOMMU, 1), 0);
	rig_down(&rig);
}

static void test_requests_before_iommu(void **state)
{
	static const unsigned long requests[] = {VFIO_IOMMU_GET_INFO,  VFIO_IOMMU_MAP_DMA,
						 VFIO_IOMMU_UNMAP_DMA, VFIO_IOMMU_DIRTY_PAGES,
						 VFIO_DEVICE_GET_INFO, 0x1234};
	struct rig rig;
	struct session s;
	int bare;

	assert_true(rig_up(&rig, NULL));
	bare = rig_open_container(&rig);
	s = rig_session(&rig, 0, VFIO_TYPE1_IOMMU, NULL);
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		assert_int_equal(rig_ioctl_value(&rig, bare, requests[i], 0), -EINVAL);
	assert_int_equal(rig_ioctl_value(&rig, s.container, VFIO_DEVICE_GET_INFO, 0), -ENOTTY);
	assert_int_equal(rig_ioctl_value(&rig, s.container, 0x1234, 0), -ENOTTY);
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_IOMMU_GET_INFO, 0), -ENOTTY);
	/* The kernel's request is 32 bits wide. */
	assert_int_equal(rig_ioctl_value(&rig, bare, 0xabcd00000000UL | VFIO_CHECK_EXTENSION, 1),
			 1);
	rig_down(&rig);
}

/* ---- groups ---- */

static unsigned status_of(struct rig *rig, int group)
{
	struct vfio_group_status status = {.argsz = sizeof(status), .flags = 77};

	assert_int_equal(rig_ioctl(rig, group, VFIO_GROUP_GET_STATUS, &status), 0);
	return status.flags;
}

static void test_group_status(void **state)
{
	struct vfio_group_status small = {.argsz = sizeof(small) - 1};
	struct rig rig;
	int container, group;

	assert_true(rig_up(&rig, NULL));
	container = rig_open_container(&rig);
	group = rig_open_group(&rig, 0);
	assert_int_equal(status_of(&rig, group), 1);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	assert_int_equal(status_of(&rig, group), 3);
	assert_int_equal(rig_ioctl_value(&rig, group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(status_of(&rig, group), 1);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_GET_STATUS, &small), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_GET_STATUS, NULL), -EFAULT);
	rig_down(&rig);
}

static void test_viability(void **state)
{
	static const char *const functions[] = {"edu@00:01.0,group=5",
						"edu@00:01.1,group=5,driver=e1000e",
						"edu@00:02.0,group=6",
						"edu@00:02.1,group=6,driver=pci-stub",
						"edu@00:03.0,group=7,driver=nvme",
						NULL};
	struct rig_options options = {.functions = functions};
	struct rig rig;
	int container, group;

	assert_true(rig_up(&rig, &options));
	container = rig_open_container(&rig);
	group = rig_open_group(&rig, 5);
	assert_int_equal(status_of(&rig, group), 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), -EPERM);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_VIABLE);
	assert_string_equal(rig.refused.owner, "driver e1000e holds 0000:00:01.1");
	/* A stub does no harm, but its function is none to be opened. */
	group = rig_open_group(&rig, 6);
	assert_int_equal(status_of(&rig, group), 1);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	assert_int_equal(rig_ioctl_value(&rig, container, VFIO_SET_IOMMU, 1), 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:02.1"), -ENODEV);
	assert_int_equal(rig_open_group(&rig, 7), -ENODEV);
	assert_int_equal(rig_open_group(&rig, 99), -ENODEV);
	rig_down(&rig);
}

static void test_set_container_errors(void **state)
{
	struct rig rig;
	int container, second, group, closed = 999999, other = STDERR_FILENO, none = -1;

	assert_true(rig_up(&rig, NULL));
	container = rig_open_container(&rig);
	second = rig_open_container(&rig);
	group = rig_open_group(&rig, 0);
	assert_int_equal(rig_open_group(&rig, 0), -EBUSY);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, NULL), -EFAULT);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &closed), -EBADF);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &none), -EBADF);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &other), -EBADFD);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &group), -EBADFD);
	assert_int_equal(rig_ioctl_value(&rig, group, VFIO_GROUP_UNSET_CONTAINER, 0), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &second), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &other), -EINVAL);
	rig_down(&rig);
}

static void test_device_fd(void **state)
{
	static const struct {
		const char *name;
		long error;
	} rows[] = {
		{"0000:00:02.0", -ENODEV}, /* another group's */
		{"", -ENODEV},
		{"0000:00:01", -ENODEV},
		{"0000:00:01.0x", -ENODEV},
		{"0000:00:01.0 vf_token=x", -EINVAL},
		{"0000:00:01.0 junk", -EINVAL},
	};
	char page[2 * 4096];
	struct session s;
	struct rig rig;
	int group, container, again;

	assert_true(rig_up(&rig, NULL));
	group = rig_open_group(&rig, 0);
	container = rig_open_container(&rig);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_GET_DEVICE_FD, EDU), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &container), 0);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_GET_DEVICE_FD, EDU), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_ORDER);
	rig_close(&rig, group);
	rig_close(&rig, container);
	s = rig_session(&rig, 0, VFIO_TYPE1_IOMMU, NULL);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, rows[i].name),
				 rows[i].error);
	memset(page, 'x', sizeof(page));
	assert_int_equal(rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, page), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, NULL), -EFAULT);
	rig.no_descriptors = true;
	assert_int_equal(rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, EDU), -EMFILE);
	rig.no_descriptors = false;
	/* Not left open by that. */
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(rig_ioctl(&rig, s.group, VFIO_GROUP_SET_CONTAINER, &s.container), 0);
	assert_int_equal(rig_ioctl_value(&rig, s.container, VFIO_SET_IOMMU, 1), 0);
	s.device = rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, EDU "  ");
	again = rig_ioctl(&rig, s.group, VFIO_GROUP_GET_DEVICE_FD, EDU);
	assert_true(s.device >= 0 && again >= 0 && again != s.device);
	assert_ptr_equal(uiommu_vfio_file_function(rig_file(&rig, again)),
			 uiommu_machine_find(rig.machine, EDU));
	/* Opened twice it is one device, and open till the last. */
	rig_config_set(&rig, s.device, PCI_INTERRUPT_LINE, 1, 0x2a);
	assert_int_equal(rig_config(&rig, again, PCI_INTERRUPT_LINE, 1), 0x2a);
	rig_close(&rig, s.device);
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_GROUP_UNSET_CONTAINER, 0), -EBUSY);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_BUSY);
	assert_int_equal(rig_config(&rig, again, PCI_INTERRUPT_LINE, 1), 0x2a);
	rig_close(&rig, again);
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	rig_down(&rig);
}

/* ---- lifetimes ---- */

static unsigned ioases;

static void count_ioas(void *ctx, struct uiommu_ioas *ioas, const char *name)
{
	ioases++;
}

static unsigned count_ioases(struct rig *rig)
{
	ioases = 0;
	uiommu_vfio_each_ioas(rig->vfio, count_ioas, NULL);
	return ioases;
}

/* The IOMMU goes with the last group, mappings and all, and can be had anew. */
static void test_last_group_leaves(void **state)
{
	struct uiommu_vfio_stats stats;
	struct session s;
	struct rig rig;
	int group;

	assert_true(rig_up(&rig, NULL));
	s = rig_session(&rig, 0, VFIO_TYPE1_IOMMU, NULL);
	group = rig_open_group(&rig, 1);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &s.container), 0);
	assert_int_equal(rig_map(&rig, s.container, 3, 0, PAGE, rig.memory), 0);
	assert_int_equal(rig_ioctl_value(&rig, s.group, VFIO_GROUP_UNSET_CONTAINER, 0), 0);
	assert_int_equal(rig_map(&rig, s.container, 3, 0, PAGE, rig.memory), -EEXIST);
	assert_int_equal(count_ioases(&rig), 1);
	rig_close(&rig, group);
	assert_int_equal(count_ioases(&rig), 0);
	uiommu_vfio_stats(rig.vfio, &stats);
	assert_int_equal(stats.live, 0);
	assert_int_equal(stats.live_bytes, 0);
	assert_int_equal(stats.most, 1);
	assert_int_equal(stats.maps, 1);
	assert_int_equal(rig_map(&rig, s.container, 3, 0, PAGE, rig.memory), -EINVAL);
	assert_int_equal(rig_ioctl_value(&rig, s.container, VFIO_SET_IOMMU, 3), -EINVAL);
	assert_int_equal(rig_ioctl(&rig, s.group, VFIO_GROUP_SET_CONTAINER, &s.container), 0);
	assert_int_equal(rig_ioctl_value(&rig, s.container, VFIO_SET_IOMMU, 3), 0);
	assert_int_equal(rig_map(&rig, s.container, 3, 0, PAGE, rig.memory), 0);
	rig_down(&rig);
}

/* Close container, group and device in each of the six orders; after each close, what must still
 * work does, and after the last everything can be had again. */
static void test_release_orders(void **state)
{
	static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
					 {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	struct rig rig;

	assert_true(rig_up(&rig, NULL));
	for (int o = 0; o < 6; o++) {
		struct session s = rig_session(&rig, 1, VFIO_TYPE1v2_IOMMU, IOAT);
		int fds[3] = {s.container, s.group, s.device};
		bool device_open = true, group_open = true;

		assert_int_equal(rig_map(&rig, s.container, 3, 0, PAGE, rig.memory), 0);
		for (int step = 0; step < 3; step++) {
			rig_close(&rig, fds[orders[o][step]]);
			device_open &= orders[o][step] != 2;
			group_open &= orders[o][step] != 1;
			if (device_open)
				assert_int_equal(rig_config(&rig, s.device, 0, 4), 0x20218086);
			/* The group, and with it the IOMMU, stays while the device is open. */
			assert_int_equal(count_ioases(&rig), device_open || group_open);
			if (device_open || group_open)
				assert_int_equal(rig_open_group(&rig, 1), -EBUSY);
		}
	}
	assert_int_equal(rig.faults, 0);
	rig_down(&rig);
}

/* Destroying the front end releases what is open. */
static void test_destroy_open(void **state)
{
	struct rig rig;
	struct session s;

	assert_true(rig_up(&rig, NULL));
	s = rig_session(&rig, 0, VFIO_TYPE1v2_IOMMU, EDU);
	rig_session(&rig, 1, VFIO_TYPE1v2_IOMMU, IOAT);
	assert_int_equal(rig_map(&rig, s.container, 3, 0, PAGE, rig.memory), 0);
	rig_down(&rig);
}

static void test_options(void **state)
{
	struct uiommu_vfio_options options = {.size = sizeof(options) + 1};
	struct uiommu_vfio *vfio;
	struct rig rig;

	assert_true(rig_up(&rig, NULL));
	assert_int_equal(uiommu_vfio_create(rig.machine, &options, &vfio), -E2BIG);
	options.size = 4;
	assert_int_equal(uiommu_vfio_create(rig.machine, &options, &vfio), -EINVAL);
	rig_down(&rig);
	uiommu_vfio_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_set_iommu),
		cmocka_unit_test(test_isolation),
		cmocka_unit_test(test_requests_before_iommu),
		cmocka_unit_test(test_group_status),
		cmocka_unit_test(test_viability),
		cmocka_unit_test(test_set_container_errors),
		cmocka_unit_test(test_device_fd),
		cmocka_unit_test(test_last_group_leaves),
		cmocka_unit_test(test_release_orders),
		cmocka_unit_test(test_destroy_open),
		cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
