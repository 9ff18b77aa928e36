/* SPDX-License-Identifier: MIT */
/* iommufd: a guest's own tables in front of a page table, on VT-d and on SMMUv3; its invalidations;
 * what a guest calls devices; its events, and what becomes of those that don't fit. The devices do
 * DMA. */
#include <unistd.h>

#include "iommufd_rig.h"

/* The guest's memory is the rig's, from IPA 0 on. */
#define TABLES	 0x10000 /* four pages, from the highest level down */
#define CONTEXT	 0x18000
#define BUFFER	 0x4000
#define OTHER	 0x6000
#define GUEST_VA UINT64_C(0xd234000) /* edu has 28 bits of address */

static const struct rig_options vtd = {.platform = "x86-vtd,nesting=on"};
static const struct rig_options smmu = {.platform = "arm-smmuv3,nesting=on"};

static void put64(struct rig *rig, uint64_t at, uint64_t value)
{
	memcpy(rig->memory + at, &value, sizeof(value));
}

/* Four levels that lead from GUEST_VA to a page. */
static void put_tables(struct rig *rig, uint64_t table_bits, uint64_t leaf)
{
	for (unsigned level = 0; level < 4; level++) {
		uint64_t index = GUEST_VA >> (39 - 9 * level) & 511;

		put64(rig, TABLES + level * PAGE + index * 8,
		      level < 3 ? (TABLES + (level + 1) * PAGE) | table_bits : leaf);
	}
}

static void put_leaf(struct rig *rig, uint64_t leaf)
{
	put64(rig, TABLES + 3 * PAGE + (GUEST_VA >> 12 & 511) * 8, leaf);
}

/* A bound edu, and a nesting parent that has the guest's memory. */
static struct bound bind_nested(struct rig *rig, uint32_t *parent)
{
	struct bound b = bind_edu(rig);

	assert_int_equal(ioas_map_at(rig, b.fd, b.ioas, rig->memory, 32 * PAGE, 0), 0);
	assert_int_equal(
		hwpt_alloc(rig, b.fd, b.device, b.ioas, IOMMU_HWPT_ALLOC_NEST_PARENT, parent), 0);
	return b;
}

static long nested_alloc(struct rig *rig, const struct bound *b, uint32_t on, uint32_t type,
			 const void *data, uint32_t len, uint32_t *id)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.dev_id = b->device,
		.pt_id = on,
		.data_type = type,
		.data_len = len,
		.data_uptr = (uintptr_t)data,
	};
	long ret = rig_ioctl(rig, b->fd, IOMMU_HWPT_ALLOC, &alloc);

	*id = alloc.out_hwpt_id;
	return ret;
}

static long invalidate(struct rig *rig, const struct bound *b, uint32_t id, uint32_t type,
		       const void *entries, uint32_t len, uint32_t *count)
{
	struct iommu_hwpt_invalidate inv = {
		.size = sizeof(inv),
		.hwpt_id = id,
		.data_uptr = (uintptr_t)entries,
		.data_type = type,
		.entry_len = len,
		.entry_num = *count,
	};
	long ret = rig_ioctl(rig, b->fd, IOMMU_HWPT_INVALIDATE, &inv);

	*count = inv.entry_num;
	return ret;
}

/* What a device reads at GUEST_VA. */
static uint64_t guest_read(struct rig *rig, const struct bound *b)
{
	uint64_t word, faults = rig->faults;

	edu_dma(rig, b->node, GUEST_VA, 8, false);
	if (rig->faults != faults)
		return UINT64_MAX;
	/* Written elsewhere through the same tables, to be seen. */
	edu_dma(rig, b->node, GUEST_VA + 0x800, 8, true);
	memcpy(&word, rig->memory + BUFFER + 0x800, sizeof(word));
	if (!word)
		memcpy(&word, rig->memory + OTHER + 0x800, sizeof(word));
	put64(rig, BUFFER + 0x800, 0);
	put64(rig, OTHER + 0x800, 0);
	return word;
}

/* ---- VT-d ---- */

#define X86_TABLE 0x7
#define X86_LEAF  0x67 /* present, writable, user, accessed, dirty */

static void test_vtd(void **state)
{
	struct iommu_hwpt_vtd_s1 s1 = {.pgtbl_addr = TABLES, .addr_width = 48};
	struct iommu_hwpt_vtd_s1_invalidate inv[2] = {{GUEST_VA, 1, 0, 0}, {0, UINT64_MAX, 8, 0}};
	uint32_t parent, nested, plain, count = 1;
	uint64_t length = 32 * PAGE;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &vtd));
	b = bind_nested(&rig, &parent);
	put_tables(&rig, X86_TABLE, BUFFER | X86_LEAF);
	put64(&rig, BUFFER, 0x1111);
	put64(&rig, OTHER, 0x2222);
	assert_int_equal(hwpt_alloc(&rig, b.fd, b.device, b.ioas, 0, &plain), 0);
	assert_int_equal(nested_alloc(&rig, &b, plain, 1, &s1, sizeof(s1), &nested), -EINVAL);
	assert_int_equal(nested_alloc(&rig, &b, parent, 2, &s1, sizeof(s1), &nested), -EOPNOTSUPP);
	assert_int_equal(nested_alloc(&rig, &b, parent, 1, &s1, 8, &nested), -EINVAL);
	assert_int_equal(nested_alloc(&rig, &b, parent, 1, (void *)8, sizeof(s1), &nested),
			 -EFAULT);
	assert_int_equal(nested_alloc(&rig, &b, b.ioas, 1, &s1, sizeof(s1), &nested), -EOPNOTSUPP);
	assert_int_equal(nested_alloc(&rig, &b, parent, 1, &s1, sizeof(s1), &nested), 0);
	assert_int_equal(attach_to(&rig, b.node, parent), 0);
	assert_true(edu_reads(&rig, b.node, BUFFER, rig.memory + BUFFER));
	/* On the same parent the guest's tables come in front at once. */
	assert_int_equal(attach_to(&rig, b.node, nested), 0);
	assert_int_equal(destroy_id(&rig, b.fd, parent), -EBUSY);
	assert_int_equal(destroy_id(&rig, b.fd, nested), -EBUSY);
	assert_int_equal(guest_read(&rig, &b), 0x1111);
	assert_false(edu_reads(&rig, b.node, BUFFER, rig.memory + BUFFER));
	assert_true(rig.last_fault.stage1);
	/* What was cached goes when the guest says so. */
	put_leaf(&rig, OTHER | X86_LEAF);
	assert_int_equal(invalidate(&rig, &b, nested, 1, inv, sizeof(inv[0]), &count), -EINVAL);
	assert_int_equal(count, 0);
	count = 2;
	assert_int_equal(invalidate(&rig, &b, nested, 0, inv, sizeof(inv[0]), &count), -EOPNOTSUPP);
	assert_int_equal(count, 1);
	assert_int_equal(guest_read(&rig, &b), 0x2222);
	put_leaf(&rig, 0);
	inv[1].flags = 0;
	count = 1;
	assert_int_equal(invalidate(&rig, &b, nested, 0, &inv[1], sizeof(inv[0]), &count), 0);
	assert_int_equal(guest_read(&rig, &b), UINT64_MAX);
	/* Its tables may lie anywhere, or nowhere. */
	put_leaf(&rig, OTHER | X86_LEAF);
	assert_int_equal(guest_read(&rig, &b), 0x2222);
	assert_int_equal(ioas_unmap(&rig, b.fd, b.ioas, 0, &length), 0);
	assert_int_equal(guest_read(&rig, &b), UINT64_MAX);
	count = 1;
	assert_int_equal(invalidate(&rig, &b, parent, 0, inv, sizeof(inv[0]), &count), -EINVAL);
	assert_int_equal(invalidate(&rig, &b, 99, 0, inv, sizeof(inv[0]), &count), -ENOENT);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* A width that the hardware lacks is found when a device is attached. */
static void test_vtd_width(void **state)
{
	struct iommu_hwpt_vtd_s1 s1 = {.pgtbl_addr = TABLES, .addr_width = 39};
	struct iommu_viommu_alloc viommu = {.size = sizeof(viommu), .type = 1};
	uint32_t parent, nested;
	struct rig rig;
	struct bound b;

	assert_true(rig_up(&rig, &vtd));
	b = bind_nested(&rig, &parent);
	assert_int_equal(nested_alloc(&rig, &b, parent, 1, &s1, sizeof(s1), &nested), 0);
	assert_int_equal(attach_to(&rig, b.node, parent), 0);
	assert_int_equal(attach_to(&rig, b.node, nested), -EINVAL);
	assert_true(edu_reads(&rig, b.node, BUFFER, rig.memory + BUFFER));
	assert_int_equal(destroy_id(&rig, b.fd, nested), 0);
	viommu.dev_id = b.device;
	viommu.hwpt_id = parent;
	assert_int_equal(rig_ioctl(&rig, b.fd, IOMMU_VIOMMU_ALLOC, &viommu), -EOPNOTSUPP);
	unbind_edu(&rig, &b);
	rig_down(&rig);
}

/* ---- SMMUv3 ---- */

#define ARM_TABLE 0x3
#define ARM_LEAF  (0x3 | 1 << 6 | 3 << 8 | 1 << 10) /* page, unprivileged read-write, shared, AF */
#define STE_S1	  (UINT64_C(1) | 5 << 1)
#define SID	  UINT64_C(0x123)

static void put_context(struct rig *rig)
{
	/* T0SZ 16, EPD1, V, IPS 48 bits, AA64, R, A */
	put64(rig, CONTEXT,
	      16 | UINT64_C(1) << 30 | UINT64_C(1) << 31 | UINT64_C(5) << 32 | UINT64_C(1) << 41 |
		      UINT64_C(1) << 45 | UINT64_C(1) << 46);
	put64(rig, CONTEXT + 8, TABLES);
}

struct guest {
	struct bound b;
	uint32_t parent, viommu, vdevice, nested;
};

static long viommu_alloc(struct rig *rig, struct guest *g, uint32_t type)
{
	struct iommu_viommu_alloc alloc = {
		.size = sizeof(alloc), .type = type, .dev_id = g->b.device, .hwpt_id = g->parent};
	long ret = rig_ioctl(rig, g->b.fd, IOMMU_VIOMMU_ALLOC, &alloc);

	g->viommu = alloc.out_viommu_id;
	return ret;
}

static long vdevice_alloc(struct rig *rig, struct guest *g, uint64_t virt_id)
{
	struct iommu_vdevice_alloc alloc = {.size = sizeof(alloc),
					    .viommu_id = g->viommu,
					    .dev_id = g->b.device,
					    .virt_id = virt_id};
	long ret = rig_ioctl(rig, g->b.fd, IOMMU_VDEVICE_ALLOC, &alloc);

	if (!ret)
		g->vdevice = alloc.out_vdevice_id;
	return ret;
}

static struct guest guest_up(struct rig *rig)
{
	struct iommu_hwpt_arm_smmuv3 ste = {{STE_S1 | CONTEXT, 0}};
	struct guest g = {.b = bind_nested(rig, &g.parent)};

	put_context(rig);
	put_tables(rig, ARM_TABLE, BUFFER | ARM_LEAF);
	put64(rig, BUFFER, 0x1111);
	put64(rig, OTHER, 0x2222);
	assert_int_equal(viommu_alloc(rig, &g, IOMMU_VIOMMU_TYPE_ARM_SMMUV3), 0);
	assert_int_equal(nested_alloc(rig, &g.b, g.viommu, 2, &ste, sizeof(ste), &g.nested), 0);
	return g;
}

static void test_smmu(void **state)
{
	struct iommu_viommu_arm_smmuv3_invalidate cmd[3] = {{{0x10, 0}}, {{0x05, 0}}, {{0x99, 0}}};
	struct iommu_hwpt_arm_smmuv3 ste = {{STE_S1 | CONTEXT | UINT64_C(1) << 55, 0}};
	uint32_t count = 1, id;
	struct rig rig;
	struct guest g;

	assert_true(rig_up(&rig, &smmu));
	g = guest_up(&rig);
	/* On the parent itself it can't be had, and not with a bit that is the host's. */
	assert_int_equal(nested_alloc(&rig, &g.b, g.parent, 2, &ste, sizeof(ste), &id),
			 -EOPNOTSUPP);
	assert_int_equal(nested_alloc(&rig, &g.b, g.viommu, 1, &ste, sizeof(ste), &id), -EINVAL);
	assert_int_equal(nested_alloc(&rig, &g.b, g.viommu, 2, &ste, sizeof(ste), &id), -EIO);
	assert_int_equal(attach_to(&rig, g.b.node, g.nested), -ENOENT);
	assert_int_equal(vdevice_alloc(&rig, &g, SID), 0);
	assert_int_equal(vdevice_alloc(&rig, &g, SID + 1), -EEXIST);
	assert_int_equal(attach_to(&rig, g.b.node, g.nested), 0);
	assert_int_equal(guest_read(&rig, &g.b), 0x1111);
	put_leaf(&rig, OTHER | ARM_LEAF);
	assert_int_equal(invalidate(&rig, &g.b, g.nested, 1, cmd, sizeof(cmd[0]), &count),
			 -EOPNOTSUPP);
	count = 1;
	assert_int_equal(invalidate(&rig, &g.b, g.viommu, 0, cmd, sizeof(cmd[0]), &count), -EINVAL);
	count = 3;
	cmd[1].cmd[0] |= SID << 32;
	assert_int_equal(invalidate(&rig, &g.b, g.viommu, 1, cmd, sizeof(cmd[0]), &count), -EIO);
	assert_int_equal(count, 2);
	assert_int_equal(guest_read(&rig, &g.b), 0x2222);
	cmd[0].cmd[0] = 0x05 | (SID + 1) << 32;
	count = 1;
	assert_int_equal(invalidate(&rig, &g.b, g.viommu, 1, cmd, sizeof(cmd[0]), &count), -EIO);
	assert_int_equal(count, 0);
	/* In this order things rest on each other. */
	assert_int_equal(destroy_id(&rig, g.b.fd, g.viommu), -EBUSY);
	assert_int_equal(destroy_id(&rig, g.b.fd, g.parent), -EBUSY);
	assert_int_equal(detach_device(&rig, g.b.node), 0);
	assert_int_equal(destroy_id(&rig, g.b.fd, g.nested), 0);
	assert_int_equal(destroy_id(&rig, g.b.fd, g.vdevice), 0);
	assert_int_equal(destroy_id(&rig, g.b.fd, g.viommu), 0);
	assert_int_equal(destroy_id(&rig, g.b.fd, g.parent), 0);
	unbind_edu(&rig, &g.b);
	rig_down(&rig);
}

/* Everything that is open is closed, whatever rests on what. */
static void test_closed(void **state)
{
	struct rig rig;
	struct guest g;

	assert_true(rig_up(&rig, &smmu));
	g = guest_up(&rig);
	assert_int_equal(vdevice_alloc(&rig, &g, SID), 0);
	assert_int_equal(attach_to(&rig, g.b.node, g.nested), 0);
	rig_close(&rig, g.b.fd);
	assert_int_equal(guest_read(&rig, &g.b), 0x1111);
	rig_close(&rig, g.b.node);
	g = guest_up(&rig);
	assert_int_equal(vdevice_alloc(&rig, &g, SID), 0);
	/* The device takes its vDEVICE along. */
	rig_close(&rig, g.b.node);
	assert_int_equal(destroy_id(&rig, g.b.fd, g.vdevice), -ENOENT);
	rig_close(&rig, g.b.fd);
	rig_down(&rig);
}

/* ---- events ---- */

static long events_alloc(struct rig *rig, const struct guest *g, uint32_t depth, int *fd,
			 uint32_t *id)
{
	struct iommu_veventq_alloc alloc = {.size = sizeof(alloc),
					    .viommu_id = g->viommu,
					    .type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
					    .veventq_depth = depth};
	long ret = rig_ioctl(rig, g->b.fd, IOMMU_VEVENTQ_ALLOC, &alloc);

	*fd = (int)alloc.out_veventq_fd;
	*id = alloc.out_veventq_id;
	return ret;
}

struct record {
	struct iommufd_vevent_header header;
	struct iommu_vevent_arm_smmuv3 event;
};

static void test_events(void **state)
{
	struct record records[4];
	uint64_t faults;
	struct rig rig;
	struct guest g;
	uint32_t id;
	int queue;

	assert_true(rig_up(&rig, &smmu));
	g = guest_up(&rig);
	assert_int_equal(vdevice_alloc(&rig, &g, SID), 0);
	assert_int_equal(attach_to(&rig, g.b.node, g.nested), 0);
	assert_int_equal(events_alloc(&rig, &g, 0, &queue, &id), -EINVAL);
	assert_int_equal(events_alloc(&rig, &g, 2, &queue, &id), 0);
	assert_int_equal(destroy_id(&rig, g.b.fd, id), -EBUSY);
	assert_int_equal(uiommu_vfio_pread(rig_file(&rig, queue), records, sizeof(records), 0), 0);
	edu_dma(&rig, g.b.node, 0x5008, 8, true);
	assert_true(rig.readable);
	assert_int_equal(uiommu_vfio_pread(rig_file(&rig, queue), records, sizeof(records), 0),
			 sizeof(records[0]));
	assert_false(rig.readable);
	assert_int_equal(records[0].header.flags, 0);
	assert_int_equal(records[0].header.sequence, 0);
	assert_int_equal(records[0].event.evt[0], 0x10 | SID << 32);
	assert_int_equal(records[0].event.evt[1], UINT64_C(2) << 40);
	assert_int_equal(records[0].event.evt[2], 0x5008);
	/* Two fit; the next three are lost, and it says so. */
	faults = rig.faults;
	for (unsigned i = 0; i < 5; i++)
		edu_dma(&rig, g.b.node, 0x5000 + i * PAGE, 8, false);
	assert_int_equal(rig.faults, faults + 5);
	assert_int_equal(uiommu_vfio_pread(rig_file(&rig, queue), records, 10, 0), -EINVAL);
	assert_int_equal(uiommu_vfio_pread(rig_file(&rig, queue), (void *)8, 100, 0), -EFAULT);
	assert_int_equal(uiommu_vfio_pread(rig_file(&rig, queue), records, 100, 8), -ESPIPE);
	assert_int_equal(uiommu_vfio_pread(rig_file(&rig, queue), records, sizeof(records), 0),
			 2 * sizeof(records[0]) + sizeof(records[0].header));
	assert_int_equal(records[0].header.sequence, 1);
	assert_int_equal(records[1].header.sequence, 2);
	assert_int_equal(records[1].event.evt[2], 0x6000);
	assert_int_equal(records[1].event.evt[1], UINT64_C(2) << 40 | UINT64_C(1) << 35);
	assert_int_equal(records[2].header.flags, IOMMU_VEVENTQ_FLAG_LOST_EVENTS);
	assert_int_equal(records[2].header.sequence, 5);
	/* A context that is not valid has no address. */
	put64(&rig, CONTEXT, 0);
	invalidate(&rig, &g.b, g.viommu, 1, &(struct iommu_viommu_arm_smmuv3_invalidate){{0x10, 0}},
		   16, &(uint32_t){1});
	edu_dma(&rig, g.b.node, GUEST_VA, 8, false);
	assert_int_equal(uiommu_vfio_pread(rig_file(&rig, queue), records, sizeof(records), 0),
			 sizeof(records[0]));
	assert_int_equal(records[0].event.evt[0], 0x0a | SID << 32);
	assert_int_equal(records[0].header.sequence, 6);
	/* The file keeps its iommufd. */
	rig_close(&rig, g.b.node);
	rig_close(&rig, g.b.fd);
	assert_int_equal(uiommu_vfio_pwrite(rig_file(&rig, queue), records, 8, 0), -EINVAL);
	rig_close(&rig, queue);
	rig_down(&rig);
}

static void test_arguments(void **state)
{
	struct iommu_hw_queue_alloc hw = {.size = sizeof(hw), .type = 1, .length = PAGE};
	struct rig rig;
	struct guest g;
	uint32_t plain;

	assert_true(rig_up(&rig, &smmu));
	g = guest_up(&rig);
	assert_int_equal(viommu_alloc(&rig, &g, IOMMU_VIOMMU_TYPE_DEFAULT), -EOPNOTSUPP);
	assert_int_equal(viommu_alloc(&rig, &g, IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV), -EOPNOTSUPP);
	assert_int_equal(hwpt_alloc(&rig, g.b.fd, g.b.device, g.b.ioas, 0, &plain), 0);
	g.parent = plain;
	assert_int_equal(viommu_alloc(&rig, &g, IOMMU_VIOMMU_TYPE_ARM_SMMUV3), -EINVAL);
	g.parent = 99;
	assert_int_equal(viommu_alloc(&rig, &g, IOMMU_VIOMMU_TYPE_ARM_SMMUV3), -ENOENT);
	g.viommu = 99;
	assert_int_equal(vdevice_alloc(&rig, &g, 0), -ENOENT);
	hw.viommu_id = 99;
	assert_int_equal(rig_ioctl(&rig, g.b.fd, IOMMU_HW_QUEUE_ALLOC, &hw), -ENOENT);
	hw.length = 0;
	assert_int_equal(rig_ioctl(&rig, g.b.fd, IOMMU_HW_QUEUE_ALLOC, &hw), -EINVAL);
	hw.length = 2;
	hw.nesting_parent_iova = UINT64_MAX;
	assert_int_equal(rig_ioctl(&rig, g.b.fd, IOMMU_HW_QUEUE_ALLOC, &hw), -EOVERFLOW);
	unbind_edu(&rig, &g.b);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vtd),    cmocka_unit_test(test_vtd_width),
		cmocka_unit_test(test_smmu),   cmocka_unit_test(test_closed),
		cmocka_unit_test(test_events), cmocka_unit_test(test_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
