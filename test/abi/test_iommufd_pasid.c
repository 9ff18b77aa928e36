/* SPDX-License-Identifier: MIT */
/*
 * PASIDs by a device's node: every answer of attaching, replacing and detaching, in Linux 7.2's
 * order; what HWPTs must be made for; and an edu whose transfers carry them.
 */
#include <limits.h>
#include <pthread.h>
#include <unistd.h>

#include "iommufd_rig.h"

#define IOVA  UINT64_C(0x100000)
#define PLAIN UINT32_MAX /* in the helpers: the request's flag is not set */

static const char *const with_pasids[] = {"edu,pasid=8", "edu", NULL};

static struct rig_options machine(const char *platform)
{
	return (struct rig_options){.platform = platform, .functions = with_pasids};
}

static long attach_pasid(struct rig *rig, int node, uint32_t pasid, uint32_t *id)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.flags = pasid == PLAIN ? 0 : VFIO_DEVICE_ATTACH_PASID,
		.pt_id = *id,
		.pasid = pasid};
	long ret = rig_ioctl(rig, node, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);

	*id = attach.pt_id;
	return ret;
}

static long attach_pasid_to(struct rig *rig, int node, uint32_t pasid, uint32_t id)
{
	return attach_pasid(rig, node, pasid, &id);
}

static long detach_pasid(struct rig *rig, int node, uint32_t pasid)
{
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = sizeof(detach),
		.flags = pasid == PLAIN ? 0 : VFIO_DEVICE_DETACH_PASID,
		.pasid = pasid};

	return rig_ioctl(rig, node, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach);
}

/* A HWPT for PASIDs over a space of its own, with one page of memory at IOVA. */
static uint32_t pasid_hwpt(struct rig *rig, const struct bound *b, unsigned page)
{
	uint32_t ioas = ioas_alloc(rig, b->fd), id;

	assert_int_equal(hwpt_alloc(rig, b->fd, b->device, ioas, IOMMU_HWPT_ALLOC_PASID, &id), 0);
	assert_int_equal(ioas_map_at(rig, b->fd, ioas, rig->memory + page * PAGE, PAGE, IOVA), 0);
	return id;
}

/* What the device finds at IOVA with the PASID: the page's first byte, or -1 with a fault, which
 * says the PASID. It puts it into page 7 of memory, which is at 7 pages without a PASID. */
static int finds(struct rig *rig, const struct bound *b, uint32_t pasid)
{
	uint64_t faults = rig->faults;

	rig->memory[7 * PAGE] = 0;
	rig_reg_set(rig, b->node, 0, 0xa0, pasid);
	edu_dma(rig, b->node, IOVA, 8, false);
	if (rig->faults != faults) {
		assert_int_equal(rig->last_fault.pasid, pasid);
		assert_int_equal(rig->last_fault.iova, IOVA);
		return -1;
	}
	rig_reg_set(rig, b->node, 0, 0xa0, 0);
	edu_dma(rig, b->node, 7 * PAGE, 8, true);
	assert_int_equal(rig->faults, faults);
	return rig->memory[7 * PAGE];
}

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

/* ---- guests' tables and page requests under a PASID ---- */

/* Tables of VT-d's first stage in pages 16 to 19 of memory, which lead from IOVA to page 3. */
static void put_tables(struct rig *rig)
{
	for (unsigned level = 0; level < 4; level++) {
		uint64_t entry = (level < 3 ? (17 + level) * PAGE : 3 * PAGE) | 0x67;

		memcpy(rig->memory + (16 + level) * PAGE + (IOVA >> (39 - 9 * level) & 511) * 8,
		       &entry, sizeof(entry));
	}
}

static long nested_alloc(struct rig *rig, const struct bound *b, uint32_t parent, uint32_t flags,
			 uint32_t *id)
{
	const struct iommu_hwpt_vtd_s1 s1 = {.pgtbl_addr = 16 * PAGE, .addr_width = 48};
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.flags = flags,
		.dev_id = b->device,
		.pt_id = parent,
		.data_type = IOMMU_HWPT_DATA_VTD_S1,
		.data_len = sizeof(s1),
		.data_uptr = (uintptr_t)&s1,
	};
	long ret = rig_ioctl(rig, b->fd, IOMMU_HWPT_ALLOC, &alloc);

	*id = alloc.out_hwpt_id;
	return ret;
}

/* A guest's tables in front of one PASID, plain ones in front of another and of none. */
static void test_nested(void **state)
{
	struct rig_options options = machine("x86-vtd,pasid=20,nesting=on");
	uint32_t plain, one, parent, nested, not_made;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	plain = pasid_hwpt(&rig, &b, 0);
	assert_int_equal(ioas_map_at(&rig, b.fd, plain - 1, rig.memory + 7 * PAGE, PAGE, 7 * PAGE),
			 0);
	one = pasid_hwpt(&rig, &b, 1);
	put_tables(&rig);
	for (unsigned i = 0; i < 4; i++)
		rig.memory[i * PAGE] = (uint8_t)('a' + i);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, 32 * PAGE, 0), 0);
	assert_int_equal(
		hwpt_alloc(&rig, b.fd, b.device, b.ioas, IOMMU_HWPT_ALLOC_NEST_PARENT, &parent), 0);
	assert_int_equal(nested_alloc(&rig, &b, parent, 0, &not_made), 0);
	assert_int_equal(nested_alloc(&rig, &b, parent, IOMMU_HWPT_ALLOC_PASID, &nested), 0);
	assert_int_equal(attach_to(&rig, b.node, plain), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 3, not_made), -EINVAL);
	assert_int_equal(attach_pasid_to(&rig, b.node, 3, nested), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 4, one), 0);
	assert_int_equal(finds(&rig, &b, 3), 'd');
	assert_int_equal(finds(&rig, &b, 4), 'b');
	assert_int_equal(finds(&rig, &b, 0), 'a');
	assert_int_equal(attach_pasid_to(&rig, b.node, 4, nested), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 3, one), 0);
	assert_int_equal(finds(&rig, &b, 3), 'b');
	assert_int_equal(finds(&rig, &b, 4), 'd');
	assert_int_equal(detach_pasid(&rig, b.node, 4), 0);
	assert_int_equal(finds(&rig, &b, 4), -1);
	assert_int_equal(destroy_id(&rig, b.fd, nested), 0);
	assert_int_equal(finds(&rig, &b, 3), 'b');
	assert_int_equal(finds(&rig, &b, 0), 'a');
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

struct reader {
	struct uiommu_port *port;
	_Atomic bool stop;
	_Atomic unsigned found, faults, bare;
};

static void *reader_thread(void *arg)
{
	struct reader *reader = arg;
	uint8_t byte;

	while (!reader->stop)
		if (uiommu_port_read(reader->port, IOVA, &byte, 1))
			reader->faults++;
		else if (byte == 'd')
			reader->found++;
		else
			reader->bare++;
	return NULL;
}

/* From a guest's tables on one parent to those on another and back, nothing reaches a parent. */
static void test_never_bare(void **state)
{
	struct rig_options options = machine("x86-vtd,pasid=20,nesting=on");
	uint32_t parents[2], nested[2];
	struct reader reader = {0};
	pthread_t thread;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	put_tables(&rig);
	rig.memory[3 * PAGE] = 'd';
	rig.memory[5 * PAGE] = 'f';
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, 32 * PAGE, 0), 0);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory + 5 * PAGE, PAGE, IOVA), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(hwpt_alloc(&rig, b.fd, b.device, b.ioas,
					    IOMMU_HWPT_ALLOC_NEST_PARENT, &parents[i]),
				 0);
		assert_int_equal(
			nested_alloc(&rig, &b, parents[i], IOMMU_HWPT_ALLOC_PASID, &nested[i]), 0);
	}
	assert_int_equal(attach_pasid_to(&rig, b.node, 2, nested[0]), 0);
	assert_int_equal(
		uiommu_port_create_pasid(uiommu_machine_unit(rig.machine), 0x8, 2, &reader.port),
		0);
	uiommu_port_set_master(reader.port, true);
	assert_int_equal(pthread_create(&thread, NULL, reader_thread, &reader), 0);
	for (unsigned i = 1; i < 3000 || !reader.found; i++)
		assert_int_equal(attach_pasid_to(&rig, b.node, 2, nested[i % 2]), 0);
	reader.stop = true;
	pthread_join(thread, NULL);
	assert_int_equal(reader.bare, 0);
	uiommu_port_destroy(reader.port);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

static long fault_alloc(struct rig *rig, int fd, int *queue, uint32_t *id)
{
	struct iommu_fault_alloc alloc = {.size = sizeof(alloc)};
	long ret = rig_ioctl(rig, fd, IOMMU_FAULT_QUEUE_ALLOC, &alloc);

	*queue = (int)alloc.out_fault_fd;
	*id = alloc.out_fault_id;
	return ret;
}

static long hwpt_with_faults(struct rig *rig, const struct bound *b, uint32_t faults, uint32_t *id)
{
	struct iommu_hwpt_alloc alloc = {.size = sizeof(alloc),
					 .flags =
						 IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_FAULT_ID_VALID,
					 .dev_id = b->device,
					 .pt_id = b->ioas,
					 .fault_id = faults};
	long ret = rig_ioctl(rig, b->fd, IOMMU_HWPT_ALLOC, &alloc);

	*id = alloc.out_hwpt_id;
	return ret;
}

static void *access_thread(void *port)
{
	uint64_t word = 7;

	return (void *)(intptr_t)uiommu_port_write(port, IOVA, &word, sizeof(word));
}

static struct iommu_hwpt_pgfault next_fault(struct rig *rig, int queue)
{
	struct iommu_hwpt_pgfault fault;
	ssize_t len = 0;

	for (unsigned i = 0; i < 10000 && !len; i++) {
		len = uiommu_vfio_pread(rig_file(rig, queue), &fault, sizeof(fault), 0);
		if (!len)
			usleep(1000);
	}
	assert_int_equal(len, sizeof(fault));
	return fault;
}

/* The queue says which PASID waits; detaching another leaves it waiting, its own ends it. */
static void test_page_requests(void **state)
{
	struct rig_options options = machine("x86-vtd,pasid=20,pri=on");
	struct iommu_hwpt_page_response response = {.code = IOMMUFD_PAGE_RESP_SUCCESS};
	struct iommu_hwpt_pgfault fault;
	uint32_t queue_id, hwpt;
	struct uiommu_port *port;
	pthread_t thread;
	struct rig rig;
	struct bound b;
	void *result;
	int queue;

	assert_true(rig_up(&rig, &options));
	b = bind_edu(&rig);
	assert_int_equal(fault_alloc(&rig, b.fd, &queue, &queue_id), 0);
	assert_int_equal(hwpt_with_faults(&rig, &b, queue_id, &hwpt), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 9, hwpt), 0);
	assert_int_equal(attach_pasid_to(&rig, b.node, 10, hwpt), 0);
	assert_int_equal(uiommu_port_create_pasid(uiommu_machine_unit(rig.machine), 0x8, 9, &port),
			 0);
	uiommu_port_set_master(port, true);
	uiommu_port_set_paging(port, true);
	assert_int_equal(pthread_create(&thread, NULL, access_thread, port), 0);
	fault = next_fault(&rig, queue);
	assert_int_equal(fault.flags,
			 IOMMU_PGFAULT_FLAGS_LAST_PAGE | IOMMU_PGFAULT_FLAGS_PASID_VALID);
	assert_int_equal(fault.pasid, 9);
	assert_int_equal(fault.dev_id, b.device);
	assert_int_equal(fault.addr, IOVA);
	assert_int_equal(detach_pasid(&rig, b.node, 10), 0);
	assert_int_equal(ioas_map_at(&rig, b.fd, b.ioas, rig.memory, PAGE, IOVA), 0);
	response.cookie = fault.cookie;
	assert_int_equal(uiommu_vfio_pwrite(rig_file(&rig, queue), &response, sizeof(response), 0),
			 sizeof(response));
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(rig.memory[0], 7);
	assert_int_equal(ioas_unmap(&rig, b.fd, b.ioas, IOVA, &(uint64_t){PAGE}), 0);
	assert_int_equal(pthread_create(&thread, NULL, access_thread, port), 0);
	next_fault(&rig, queue);
	assert_int_equal(detach_pasid(&rig, b.node, 9), 0);
	pthread_join(thread, &result);
	assert_int_equal((intptr_t)result, -EFAULT);
	uiommu_port_destroy(port);
	unbind_edu(&rig, &b);
	rig_close(&rig, queue);
	rig_down(&rig);
}

/* ---- without memory ---- */

/* Two functions of one group, so that a move may fail half way. */
enum { ONE, TWO, PARENT, NESTED, PAGED, QUEUE, SPACE, NESTED_ON_TWO, COUNT };

struct life {
	struct rig rig;
	struct bound b;
	uint32_t ids[COUNT], second;
	int other, queue;
};

typedef long (*step_fn)(struct life *l);

static long step_bind(struct life *l)
{
	return bind_device(&l->rig, l->b.node, l->b.fd, &l->b.device);
}

static long step_bind_other(struct life *l)
{
	return bind_device(&l->rig, l->other, l->b.fd, &l->second);
}

static long step_ioas(struct life *l)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
	long ret = rig_ioctl(&l->rig, l->b.fd, IOMMU_IOAS_ALLOC, &alloc);

	/* The first call's stays the device's. */
	if (!ret && !l->b.ioas)
		l->b.ioas = alloc.out_ioas_id;
	else
		l->ids[SPACE] = alloc.out_ioas_id;
	return ret;
}

static long step_map(struct life *l)
{
	return ioas_map_at(&l->rig, l->b.fd, l->b.ioas, l->rig.memory, 32 * PAGE, 0);
}

static long step_map_one(struct life *l)
{
	return ioas_map_at(&l->rig, l->b.fd, l->b.ioas, l->rig.memory + PAGE, PAGE, IOVA);
}

static long step_map_two(struct life *l)
{
	return ioas_map_at(&l->rig, l->b.fd, l->ids[SPACE], l->rig.memory + 2 * PAGE, PAGE, IOVA);
}

static long step_one(struct life *l)
{
	return hwpt_alloc(&l->rig, l->b.fd, l->b.device, l->b.ioas, IOMMU_HWPT_ALLOC_PASID,
			  &l->ids[ONE]);
}

static long step_two(struct life *l)
{
	return hwpt_alloc(&l->rig, l->b.fd, l->b.device, l->ids[SPACE], IOMMU_HWPT_ALLOC_PASID,
			  &l->ids[TWO]);
}

static long step_parent(struct life *l)
{
	return hwpt_alloc(&l->rig, l->b.fd, l->b.device, l->b.ioas, IOMMU_HWPT_ALLOC_NEST_PARENT,
			  &l->ids[PARENT]);
}

static long step_nested(struct life *l)
{
	return nested_alloc(&l->rig, &l->b, l->ids[PARENT], IOMMU_HWPT_ALLOC_PASID,
			    &l->ids[NESTED]);
}

/* Once there is another parent, over the same memory. */
static long step_another_nested(struct life *l)
{
	return nested_alloc(&l->rig, &l->b, l->ids[PARENT], IOMMU_HWPT_ALLOC_PASID,
			    &l->ids[NESTED_ON_TWO]);
}

static long step_to_another(struct life *l)
{
	return attach_pasid_to(&l->rig, l->b.node, 5, l->ids[NESTED_ON_TWO]);
}

static long step_queue(struct life *l)
{
	return fault_alloc(&l->rig, l->b.fd, &l->queue, &l->ids[QUEUE]);
}

static long step_paged(struct life *l)
{
	return hwpt_with_faults(&l->rig, &l->b, l->ids[QUEUE], &l->ids[PAGED]);
}

static long step_attach(struct life *l)
{
	return attach_to(&l->rig, l->b.node, l->ids[ONE]);
}

static long step_pasid(struct life *l)
{
	return attach_pasid_to(&l->rig, l->b.node, 5, l->ids[ONE]);
}

static long step_join(struct life *l)
{
	return attach_pasid_to(&l->rig, l->other, 5, l->ids[ONE]);
}

static long step_replace(struct life *l)
{
	return attach_pasid_to(&l->rig, l->b.node, 5, l->ids[TWO]);
}

static long step_to_nested(struct life *l)
{
	return attach_pasid_to(&l->rig, l->other, 5, l->ids[NESTED]);
}

static long step_to_paged(struct life *l)
{
	return attach_pasid_to(&l->rig, l->b.node, 5, l->ids[PAGED]);
}

static long step_back(struct life *l)
{
	return attach_pasid_to(&l->rig, l->b.node, 5, l->ids[NESTED]);
}

static long step_second_pasid(struct life *l)
{
	return attach_pasid_to(&l->rig, l->other, 6, l->ids[PAGED]);
}

static long step_second_join(struct life *l)
{
	return attach_pasid_to(&l->rig, l->b.node, 6, l->ids[PAGED]);
}

static long step_detach(struct life *l)
{
	return detach_pasid(&l->rig, l->b.node, 5);
}

/* Each step, and what is found at IOVA under PASID 5 after it. */
static const struct {
	step_fn step;
	int found;
} steps[] = {
	{step_bind, -1},	  {step_bind_other, -1},   {step_ioas, -1},
	{step_ioas, -1},	  {step_map, -1},	   {step_map_one, -1},
	{step_map_two, -1},	  {step_one, -1},	   {step_two, -1},
	{step_parent, -1},	  {step_nested, -1},	   {step_queue, -1},
	{step_paged, -1},	  {step_attach, -1},	   {step_pasid, 'b'},
	{step_join, 'b'},	  {step_replace, 'c'},	   {step_to_nested, 'd'},
	{step_to_paged, 'b'},	  {step_replace, 'c'},	   {step_to_paged, 'b'},
	{step_back, 'd'},	  {step_parent, 'd'},	   {step_another_nested, 'd'},
	{step_to_another, 'd'},	  {step_back, 'd'},	   {step_to_another, 'd'},
	{step_second_pasid, 'd'}, {step_second_join, 'd'}, {step_detach, 'd'},
};

/* Both functions find it. */
static void check_found(struct life *l, int found)
{
	for (unsigned i = 0; i < 2; i++) {
		struct uiommu_port *port;
		uint8_t byte;

		assert_int_equal(uiommu_port_create_pasid(uiommu_machine_unit(l->rig.machine),
							  (uiommu_rid)(0x8 + i), 5, &port),
				 0);
		uiommu_port_set_master(port, true);
		assert_int_equal(uiommu_port_read(port, IOVA, &byte, 1) ? -1 : byte, found);
		uiommu_port_destroy(port);
	}
}

/* Once one has failed, no allocation succeeds until this is taken back. */
static _Atomic bool stubborn;

static void *stubborn_alloc(size_t size, size_t align)
{
	return stubborn && fail_countdown < 0 ? NULL : failing_alloc(size, align);
}

static bool life_with_failure(long nth)
{
	static const char *const functions[] = {"edu@00:01.0,group=3,pasid=8",
						"edu@00:01.1,group=3,pasid=8", NULL};
	const struct rig_options options = {.platform = "x86-vtd,pasid=20,nesting=on,pri=on",
					    .functions = functions};
	long before = fail_live, bytes = fail_live_bytes, ret;
	struct life l = {0};
	bool failed = false;

	assert_true(rig_up(&l.rig, &options));
	put_tables(&l.rig);
	for (unsigned i = 0; i < 4; i++)
		l.rig.memory[i * PAGE] = (uint8_t)('a' + i);
	l.b.fd = rig_open_iommufd(&l.rig);
	l.b.node = rig_open_node(&l.rig, 0);
	l.other = rig_open_node(&l.rig, 1);
	fail_countdown = nth;
	stubborn = true;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		ret = steps[i].step(&l);
		if (!ret)
			continue;
		if (ret != -ENOMEM || failed)
			fail_msg("step %zu: %ld, allocation %ld", i, ret, nth);
		failed = true;
		stubborn = false;
		check_found(&l, i ? steps[i - 1].found : -1);
		ret = steps[i].step(&l);
		if (!ret)
			check_found(&l, steps[i].found);
		else
			fail_msg("step %zu failed twice: %ld, allocation %ld", i, ret, nth);
	}
	failed |= fail_countdown < 0;
	stubborn = false;
	fail_countdown = -1;
	check_found(&l, 'd');
	rig_close(&l.rig, l.b.node);
	rig_close(&l.rig, l.b.fd);
	rig_close(&l.rig, l.queue);
	rig_close(&l.rig, l.other);
	rig_down(&l.rig);
	assert_int_equal(fail_live, before);
	assert_int_equal(fail_live_bytes, bytes);
	return failed;
}

static void test_each_allocation(void **state)
{
	long nth = 0;

	uiommu_set_allocator(stubborn_alloc, failing_release);
	while (life_with_failure(nth))
		nth++;
	uiommu_set_allocator(NULL, NULL);
	assert_true(nth > 50);
	print_message("%ld allocations\n", nth);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hw_info),	   cmocka_unit_test(test_hidden),
		cmocka_unit_test(test_sizes),	   cmocka_unit_test(test_answers),
		cmocka_unit_test(test_zero),	   cmocka_unit_test(test_flag),
		cmocka_unit_test(test_without),	   cmocka_unit_test(test_dma),
		cmocka_unit_test(test_reserved),   cmocka_unit_test(test_group),
		cmocka_unit_test(test_nested),	   cmocka_unit_test(test_page_requests),
		cmocka_unit_test(test_never_bare), cmocka_unit_test(test_each_allocation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
