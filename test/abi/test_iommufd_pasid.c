/* SPDX-License-Identifier: MIT */
/*
 * PASIDs by a device's node: every answer of attaching, replacing and detaching, in Linux 7.2's
 * order; what HWPTs must be made for; and an edu whose transfers carry them.
 */
#include <limits.h>

#include "pasid_rig.h"

static uint32_t hw_info(struct rig *rig, int fd, uint32_t device, uint64_t *capabilities)
{
	struct iommu_hw_info info = {.size = sizeof(info), .dev_id = device};

	assert_int_equal(rig_ioctl(rig, fd, IOMMU_GET_HW_INFO, &info), 0);
	*capabilities = info.out_capabilities;
	return info.out_max_pasid_log2;
}

/* As many as both the device and the IOMMU have. */
static void test_hw_info(void **state)
{
	static const struct {
		const char *platform;
		uint32_t bits;
	} rows[] = {{"x86-vtd,pasid=20", 8}, {"x86-vtd,pasid=5", 5}, {"x86-vtd", 0}};
	uint64_t capabilities;
	uint32_t second;
	struct rig rig;
	struct bound b;
	int node;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig_options options = machine(rows[i].platform);

		assert_true(rig_up(&rig, &options));
		b = bind_edu(&rig);
		assert_int_equal(hw_info(&rig, b.fd, b.device, &capabilities), rows[i].bits);
		assert_int_equal(
			capabilities & (IOMMU_HW_CAP_PCI_PASID_EXEC | IOMMU_HW_CAP_PCI_PASID_PRIV),
			0);
		node = rig_open_node(&rig, 1);
		assert_int_equal(bind_device(&rig, node, b.fd, &second), 0);
		assert_int_equal(hw_info(&rig, b.fd, second, &capabilities), 0);
		/* The register takes no more bits than that. */
		rig_reg_set(&rig, b.node, 0, 0xa0, UINT32_MAX);
		assert_int_equal(rig_reg(&rig, b.node, 0, 0xa0), (1u << rows[i].bits) - 1);
		rig_close(&rig, node);
		unbind_edu(&rig, &b);
		rig_down(&rig);
	}
}

/* vfio-pci hides the capability, in Linux as here. */
static void test_hidden(void **state)
{
	struct rig_options options = machine("x86-vtd,pasid=8");
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	for (unsigned at = 256; at;) {
		uint32_t head = rig_config(&rig, b.node, at, 4);

		assert_int_not_equal(PCI_EXT_CAP_ID(head), PCI_EXT_CAP_ID_PASID);
		at = PCI_EXT_CAP_NEXT(head);
	}
	assert_int_equal(PCI_EXT_CAP_ID(uiommu_function_config_read(
				 uiommu_machine_find(rig.machine, "0000:00:01.0"), 0x110, 4)),
			 PCI_EXT_CAP_ID_PASID);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* ---- the form of requests ---- */

static void test_sizes(void **state)
{
	struct rig_options options = machine("x86-vtd,pasid=8");
	struct vfio_device_attach_iommufd_pt attach = {.argsz = 12, .pasid = 3};
	struct vfio_device_detach_iommufd_pt detach = {.argsz = 8, .pasid = 3};
	uint32_t hwpt;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	hwpt = pasid_hwpt(&rig, &b, 1);
	attach.pt_id = hwpt;
	/* The field is there with the flag only. */
	assert_int_equal(rig_ioctl(&rig, b.node, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), 0);
	assert_int_equal(rig_ioctl(&rig, b.node, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach), 0);
	attach.flags = VFIO_DEVICE_ATTACH_PASID;
	detach.flags = VFIO_DEVICE_DETACH_PASID;
	for (uint32_t argsz = 0; argsz < 16; argsz++) {
		attach.argsz = argsz;
		assert_int_equal(rig_ioctl(&rig, b.node, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
				 -EINVAL);
	}
	for (uint32_t argsz = 0; argsz < 12; argsz++) {
		detach.argsz = argsz;
		assert_int_equal(rig_ioctl(&rig, b.node, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach),
				 -EINVAL);
	}
	attach.argsz = 16;
	attach.flags |= 2;
	assert_int_equal(rig_ioctl(&rig, b.node, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), -EINVAL);
	attach.flags = VFIO_DEVICE_ATTACH_PASID;
	rig.bad_first = rig.bad_last = (uintptr_t)&attach.pasid;
	assert_int_equal(rig_ioctl(&rig, b.node, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), -EFAULT);
	rig.bad_first = rig.bad_last = 0;
	/* Nothing of that has attached it. */
	assert_int_equal(destroy_id(&rig, b.fd, hwpt), 0);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* ---- every errno ---- */

static void test_answers(void **state)
{
	struct rig_options options = machine("x86-vtd,pasid=20");
	uint32_t one, two, not_made;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	one = pasid_hwpt(&rig, &b, 1);
	two = pasid_hwpt(&rig, &b, 2);
	assert_int_equal(hwpt_alloc(&rig, b.fd, b.device, b.ioas, 0, &not_made), 0);

	assert_int_equal(attach_pasid_to(&rig, b.node, 1, 99), -ENOENT);
	assert_int_equal(attach_pasid_to(&rig, b.node, 1, b.device), -EINVAL);
	/* An IOAS gets a HWPT that isn't made for PASIDs. */
	assert_int_equal(attach_pasid_to(&rig, b.node, 1, b.ioas), -EINVAL);
	assert_int_equal(attach_pasid_to(&rig, b.node, 1, not_made), -EINVAL);
	/* The device has 8 bits; VFIO remembers PASIDs up to INT_MAX. */
	assert_int_equal(attach_pasid_to(&rig, b.node, 255, one), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 256, one), -EINVAL);
	assert_int_equal(attach_pasid_to(&rig, b.node, INT_MAX, one), -EINVAL);
	assert_int_equal(attach_pasid_to(&rig, b.node, (uint32_t)INT_MAX + 1, one), -ENOSPC);
	assert_int_equal(attach_pasid_to(&rig, b.node, (uint32_t)INT_MAX + 1, 99), -ENOSPC);

	/* One is attached: without, too, it must be one for PASIDs. */
	assert_int_equal(attach_to(&rig, b.node, not_made), -EINVAL);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), -EINVAL);
	assert_int_equal(attach_to(&rig, b.node, two), 0);
	assert_int_equal(attach_to(&rig, b.node, not_made), -EINVAL);
	/* Replacing one by the same, by another, by what isn't for PASIDs. */
	assert_int_equal(attach_pasid_to(&rig, b.node, 255, one), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 255, two), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 255, not_made), -EINVAL);
	assert_int_equal(attach_pasid_to(&rig, b.node, 255, b.ioas), -EINVAL);
	assert_int_equal(attach_pasid_to(&rig, b.node, 255, 99), -ENOENT);
	/* Who uses what. */
	assert_int_equal(destroy_id(&rig, b.fd, two), -EBUSY);
	assert_int_equal(detach_device(&rig, b.node), 0);
	assert_int_equal(destroy_id(&rig, b.fd, two), -EBUSY);
	assert_int_equal(attach_to(&rig, b.node, not_made), -EINVAL);
	assert_int_equal(detach_pasid(&rig, b.node, 254), 0);
	assert_int_equal(detach_pasid(&rig, b.node, UINT32_MAX - 1), 0);
	assert_int_equal(destroy_id(&rig, b.fd, two), -EBUSY);
	assert_int_equal(detach_pasid(&rig, b.node, 255), 0);
	assert_int_equal(destroy_id(&rig, b.fd, two), 0);
	assert_int_equal(detach_pasid(&rig, b.node, 255), 0);
	/* And the other way round. */
	assert_int_equal(attach_to(&rig, b.node, not_made), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 1, one), -EINVAL);
	assert_int_equal(attach_to(&rig, b.node, one), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 1, one), 0);
	/* Closing the node detaches all. */
	rig_close(&rig, b.node);
	assert_int_equal(destroy_id(&rig, b.fd, one), 0);
	rig_close(&rig, b.fd);
	rig_down(&rig);
}

/* PASID 0 is no other than none, but a node remembers it apart. */
static void test_zero(void **state)
{
	struct rig_options options = machine("x86-vtd,pasid=20");
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, 64 * PAGE / 2, 0), 0);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory + PAGE, PAGE, IOVA), 0);
	rig.memory[PAGE] = 'z';
	assert_int_equal(attach_pasid_to(&rig, b.node, 0, b.ioas), 0);
	assert_int_equal(finds(&rig, &b, 0), 'z');
	assert_int_equal(attach_pasid_to(&rig, b.node, 0, b.ioas), 0);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), -EBUSY);
	assert_int_equal(detach_device(&rig, b.node), 0);
	assert_int_equal(finds(&rig, &b, 0), 'z');
	assert_int_equal(detach_pasid(&rig, b.node, 0), 0);
	assert_int_equal(attach_to(&rig, b.node, b.ioas), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 0, b.ioas), -EBUSY);
	assert_int_equal(detach_pasid(&rig, b.node, 0), 0);
	assert_int_equal(finds(&rig, &b, 0), 'z');
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* Which page tables are for PASIDs, by platform: the flag, alone and for a nesting parent. */
static void test_flag(void **state)
{
	static const struct {
		const char *platform;
		long alone, parent;
	} rows[] = {
		{"x86-vtd", 0, -EOPNOTSUPP},
		{"x86-vtd,pasid=20,nesting=on", 0, 0},
		{"x86-amd", -EOPNOTSUPP, -EOPNOTSUPP},
		{"x86-amd,pasid=16", 0, -EOPNOTSUPP},
		{"arm-smmuv3", 0, -EOPNOTSUPP},
		{"arm-smmuv3,pasid=20,nesting=on", 0, -EOPNOTSUPP},
		{"riscv", -EOPNOTSUPP, -EOPNOTSUPP},
	};
	uint32_t id;
	struct rig rig;
	struct bound b;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig_options options = machine(rows[i].platform);
		uint32_t flags = IOMMU_HWPT_ALLOC_PASID;

		assert_true(rig_up(&rig, &options));
		b = bind_edu(&rig);
		if (hwpt_alloc(&rig, b.fd, b.device, b.ioas, flags, &id) != rows[i].alone)
			fail_msg("%s", rows[i].platform);
		flags |= IOMMU_HWPT_ALLOC_NEST_PARENT;
		if (hwpt_alloc(&rig, b.fd, b.device, b.ioas, flags, &id) != rows[i].parent)
			fail_msg("%s, parent", rows[i].platform);
		unbind_edu(&rig, &b);
		rig_down(&rig);
	}
}

/* A device without PASIDs: attached to nothing with success, as in Linux since 6.16. */
static void test_without(void **state)
{
	static const char *const functions[] = {"edu", NULL};
	struct rig_options options = {.platform = "x86-vtd", .functions = functions};
	uint32_t hwpt;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	assert_int_equal(attach_pasid_to(&rig, b.node, 1, b.ioas), -EINVAL);
	hwpt = pasid_hwpt(&rig, &b, 1);
	assert_int_equal(attach_pasid_to(&rig, b.node, 1, hwpt), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, INT_MAX, hwpt), 0);
	assert_int_equal(destroy_id(&rig, b.fd, hwpt), -EBUSY);
	assert_int_equal(detach_pasid(&rig, b.node, 1), 0);
	assert_int_equal(detach_pasid(&rig, b.node, INT_MAX), 0);
	assert_int_equal(destroy_id(&rig, b.fd, hwpt), 0);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* ---- DMA ---- */

static void test_dma(void **state)
{
	struct rig_options options = machine("x86-vtd,pasid=20");
	uint32_t plain, one, two;
	uint64_t length = PAGE;
	struct iommu_ioas_unmap unmap = {.size = sizeof(unmap), .iova = IOVA, .length = PAGE};
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	for (unsigned i = 0; i < 3; i++)
		rig.memory[i * PAGE] = (uint8_t)('a' + i);
	plain = pasid_hwpt(&rig, &b, 0);
	one = pasid_hwpt(&rig, &b, 1);
	two = pasid_hwpt(&rig, &b, 2);
	/* pasid_hwpt()'s spaces are numbered right before their HWPTs. */
	assert_int_equal(ioas_map_at(&rig, b.fd, plain - 1, rig.memory + 7 * PAGE, PAGE, 7 * PAGE),
			 0);
	assert_int_equal(finds(&rig, &b, 5), -1);
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(attach_to(&rig, b.node, plain), 0);
	assert_int_equal(finds(&rig, &b, 0), 'a');
	assert_int_equal(finds(&rig, &b, 5), -1);
	assert_int_equal(attach_pasid_to(&rig, b.node, 5, one), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 6, two), 0);
	assert_int_equal(finds(&rig, &b, 5), 'b');
	assert_int_equal(finds(&rig, &b, 6), 'c');
	assert_int_equal(finds(&rig, &b, 0), 'a');
	assert_int_equal(attach_pasid_to(&rig, b.node, 5, two), 0);
	assert_int_equal(finds(&rig, &b, 5), 'c');
	assert_int_equal(attach_pasid_to(&rig, b.node, 6, one), 0);
	assert_int_equal(finds(&rig, &b, 6), 'b');
	assert_int_equal(detach_pasid(&rig, b.node, 5), 0);
	assert_int_equal(finds(&rig, &b, 5), -1);
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NO_DOMAIN);
	assert_int_equal(finds(&rig, &b, 6), 'b');
	/* What is unmapped in the one space is gone there. */
	assert_int_equal(ioas_unmap(&rig, b.fd, one - 1, IOVA, &length), 0);
	assert_int_equal(finds(&rig, &b, 6), -1);
	assert_int_equal(rig.last_fault.reason, UIOMMU_FAULT_NOT_PRESENT);
	assert_int_equal(finds(&rig, &b, 0), 'a');
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* Reserved regions are those of DMA without a PASID: an attachment under one brings none. */
static void test_reserved(void **state)
{
	struct rig_options options = machine("x86-vtd,pasid=20");
	uint32_t hwpt;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	hwpt = pasid_hwpt(&rig, &b, 1);
	assert_int_equal(attach_pasid_to(&rig, b.node, 1, hwpt), 0);
	assert_int_equal(ioas_map_at(&rig, b.fd, hwpt - 1, rig.memory, PAGE, 0xfee00000), 0);
	assert_int_equal(attach_to(&rig, b.node, hwpt), -EADDRINUSE);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* Two functions of one group: what one attaches, both are attached to. */
static void test_group(void **state)
{
	static const char *const functions[] = {"edu@00:01.0,group=3,pasid=8",
						"edu@00:01.1,group=3,pasid=4", NULL};
	struct rig_options options = {.platform = "x86-vtd,pasid=20", .functions = functions};
	uint32_t one, two, second;
	struct rig rig;
	struct bound b;
	int node;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	node = rig_open_node(&rig, 1);
	assert_int_equal(bind_device(&rig, node, b.fd, &second), 0);
	one = pasid_hwpt(&rig, &b, 1);
	two = pasid_hwpt(&rig, &b, 2);
	/* The fewest bits of the group's functions hold. */
	assert_int_equal(attach_pasid_to(&rig, b.node, 16, one), -EINVAL);
	assert_int_equal(attach_pasid_to(&rig, b.node, 15, one), 0);
	assert_int_equal(attach_pasid_to(&rig, node, 15, two), -EINVAL);
	assert_int_equal(attach_pasid_to(&rig, node, 15, one), 0);
	assert_int_equal(attach_pasid_to(&rig, node, 15, two), 0);
	assert_int_equal(destroy_id(&rig, b.fd, one), 0);
	assert_int_equal(detach_pasid(&rig, b.node, 15), 0);
	assert_int_equal(destroy_id(&rig, b.fd, two), -EBUSY);
	rig_close(&rig, node);
	assert_int_equal(destroy_id(&rig, b.fd, two), 0);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hw_info),	 cmocka_unit_test(test_hidden),
		cmocka_unit_test(test_sizes),	 cmocka_unit_test(test_answers),
		cmocka_unit_test(test_zero),	 cmocka_unit_test(test_flag),
		cmocka_unit_test(test_without),	 cmocka_unit_test(test_dma),
		cmocka_unit_test(test_reserved), cmocka_unit_test(test_group),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
