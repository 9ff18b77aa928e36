/* SPDX-License-Identifier: MIT */
/* Hot resets of devices that were opened by their own node: whose the functions on a bus are is
 * told by the iommufd they are bound to. */
#include <unistd.h>

#include "iommufd_rig.h"

/* Nodes are numbered as the functions are: 0 to 3. */
static const char *const functions[] = {"ioat@03:00.0,group=4", "edu@03:01.0,group=5",
					"edu@03:02.0,group=5", "edu@04:00.0,group=6", NULL};
static const struct rig_options machine = {.functions = functions};

#define OWNED	  VFIO_PCI_DEVID_OWNED
#define NOT_OWNED (uint32_t) VFIO_PCI_DEVID_NOT_OWNED
#define IDS	  VFIO_PCI_HOT_RESET_FLAG_DEV_ID
#define ALL_OWNED (IDS | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED)

struct info {
	struct vfio_pci_hot_reset_info head;
	struct vfio_pci_dependent_device devices[3];
};

static void check_info(struct rig *rig, int device, uint32_t flags, uint32_t a, uint32_t b,
		       uint32_t c)
{
	const uint32_t ids[] = {a, b, c};
	struct info info = {.head = {.argsz = sizeof(info), .flags = 4}};

	assert_int_equal(rig_ioctl(rig, device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), 0);
	assert_int_equal(info.head.flags, flags);
	assert_int_equal(info.head.count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(info.devices[i].group_id, ids[i]);
		assert_int_equal(info.devices[i].bus, 3);
		assert_int_equal(info.devices[i].devfn, i << 3);
	}
}

static long hot_reset(struct rig *rig, int device, uint32_t count, int group)
{
	struct {
		uint32_t argsz, flags, count;
		int32_t fds[1];
	} reset = {sizeof(reset), 0, count, {group}};

	return rig_ioctl(rig, device, VFIO_DEVICE_PCI_HOT_RESET, &reset);
}

static int bind_node(struct rig *rig, unsigned number, int fd, uint32_t *id)
{
	int node = rig_open_node(rig, number);

	assert_int_equal(bind_device(rig, node, fd, id), 0);
	return node;
}

static void test_ownership(void **state)
{
	struct info info = {.head = {.argsz = sizeof(info) - 1}};
	int fd, other, ioat, edu;
	uint32_t first, second;
	struct rig rig;

	assert_true(rig_up(&rig, &machine));
	fd = rig_open_iommufd(&rig);
	other = rig_open_iommufd(&rig);
	ioat = bind_node(&rig, 0, fd, &first);
	check_info(&rig, ioat, IDS, first, NOT_OWNED, NOT_OWNED);
	assert_int_equal(hot_reset(&rig, ioat, 0, -1), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_VIABLE);
	/* Bound, but by somebody else. */
	edu = bind_node(&rig, 1, other, &second);
	check_info(&rig, ioat, IDS, first, NOT_OWNED, NOT_OWNED);
	check_info(&rig, edu, IDS, NOT_OWNED, second, OWNED);
	assert_int_equal(hot_reset(&rig, ioat, 0, -1), -EINVAL);
	rig_close(&rig, edu);
	/* Ours; and so is what shares its group. */
	edu = bind_node(&rig, 1, fd, &second);
	assert_int_not_equal(second, first);
	check_info(&rig, ioat, ALL_OWNED, first, second, OWNED);
	check_info(&rig, edu, ALL_OWNED, first, second, OWNED);
	/* No room: how many there are, and nothing else. */
	assert_int_equal(rig_ioctl(&rig, ioat, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -ENOSPC);
	assert_true(info.head.count == 3 && !info.head.flags);
	rig_close(&rig, edu);
	rig_close(&rig, ioat);
	rig_close(&rig, other);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_reset(void **state)
{
	uint32_t first, second, third;
	int fd, ioat, edu, apart;
	struct rig rig;

	assert_true(rig_up(&rig, &machine));
	fd = rig_open_iommufd(&rig);
	ioat = bind_node(&rig, 0, fd, &first);
	edu = bind_node(&rig, 1, fd, &second);
	apart = bind_node(&rig, 3, fd, &third);
	rig_reg_set(&rig, ioat, 0, 0x90, 0x1240);
	rig_reg_set(&rig, edu, 0, 4, 0x11111111);
	rig_reg_set(&rig, apart, 0, 4, 0x11111111);
	/* Descriptors of groups are for those who have opened groups. */
	assert_int_equal(hot_reset(&rig, ioat, 1, fd), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_ARGUMENT);
	assert_int_equal(rig_reg(&rig, ioat, 0, 0x90), 0x1240);
	assert_int_equal(hot_reset(&rig, ioat, 0, -1), 0);
	assert_int_equal(rig_reg(&rig, ioat, 0, 0x90), 0);
	assert_int_equal(rig_reg(&rig, edu, 0, 4), 0);
	/* On another bus. */
	assert_int_equal(rig_reg(&rig, apart, 0, 4), ~0x11111111u);
	rig_close(&rig, apart);
	rig_close(&rig, edu);
	rig_close(&rig, ioat);
	rig_close(&rig, fd);
	rig_down(&rig);
}

static void test_root_bus(void **state)
{
	struct info info = {.head = {.argsz = sizeof(info)}};
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, NULL));
	b = bind_edu(&rig);
	assert_int_equal(rig_ioctl(&rig, b.node, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info),
			 -ENODEV);
	assert_int_equal(hot_reset(&rig, b.node, 1, b.fd), -EINVAL);
	assert_int_equal(hot_reset(&rig, b.node, 0, -1), -ENODEV);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* Opened through its group, a device is told of groups, be its container an iommufd. */
static void test_container(void **state)
{
	struct rig rig;
	int fd, group, device;

	assert_true(rig_up(&rig, &machine));
	fd = rig_open_iommufd(&rig);
	group = rig_open_group(&rig, 4);
	assert_int_equal(rig_ioctl(&rig, group, VFIO_GROUP_SET_CONTAINER, &fd), 0);
	assert_int_equal(rig_ioctl_value(&rig, fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	device = (int)rig_ioctl(&rig, group, VFIO_GROUP_GET_DEVICE_FD, "0000:03:00.0");
	check_info(&rig, device, 0, 4, 5, 5);
	assert_int_equal(hot_reset(&rig, device, 0, -1), -EINVAL);
	assert_int_equal(hot_reset(&rig, device, 1, group), -EINVAL);
	assert_int_equal(rig.refused.rule, UIOMMU_RULE_VIABLE);
	rig_close(&rig, device);
	rig_close(&rig, group);
	rig_close(&rig, fd);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ownership),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_root_bus),
		cmocka_unit_test(test_container),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
