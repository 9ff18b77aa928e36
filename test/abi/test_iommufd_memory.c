/* SPDX-License-Identifier: MIT */
/* iommufd without memory: a whole life of address spaces, page tables, a guest and its device, with
 * each allocation failing once. What fails for it says ENOMEM, leaves nothing behind, and works
 * when it is tried again. */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "iommufd_rig.h"

struct life {
	struct rig rig;
	struct bound b;
	uint32_t other, parent, dirty, viommu, vdevice, nested, events_id;
	int queue, file, event;
};

/* A step: 0, or what was refused. */
typedef long (*step_fn)(struct life *l);

static long step_iommufd(struct life *l)
{
	l->b.fd = rig_open_iommufd(&l->rig);
	return l->b.fd < 0 ? l->b.fd : 0;
}

static long step_node(struct life *l)
{
	l->b.node = rig_open_node(&l->rig, 0);
	return l->b.node < 0 ? l->b.node : 0;
}

static long step_bind(struct life *l)
{
	return bind_device(&l->rig, l->b.node, l->b.fd, &l->b.device);
}

static long alloc_ioas(struct life *l, uint32_t *id)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof(alloc)};
	long ret = rig_ioctl(&l->rig, l->b.fd, IOMMU_IOAS_ALLOC, &alloc);

	*id = alloc.out_ioas_id;
	return ret;
}

static long step_ioas(struct life *l)
{
	return alloc_ioas(l, &l->b.ioas);
}

static long step_other(struct life *l)
{
	return alloc_ioas(l, &l->other);
}

static long step_map(struct life *l)
{
	return ioas_map_at(&l->rig, l->b.fd, l->b.ioas, l->rig.memory, 32 * PAGE, 0x100000);
}

static long step_place(struct life *l)
{
	uint64_t iova = 0;

	return ioas_map(&l->rig, l->b.fd, l->b.ioas, MAP_RW, l->rig.memory, PAGE, &iova);
}

static long step_file(struct life *l)
{
	struct iommu_ioas_map_file map = {.size = sizeof(map),
					  .flags = MAP_FIXED_RW,
					  .ioas_id = l->b.ioas,
					  .fd = l->file,
					  .length = 2 * PAGE,
					  .iova = 0x200000};

	return rig_ioctl(&l->rig, l->b.fd, IOMMU_IOAS_MAP_FILE, &map);
}

static long step_copy(struct life *l)
{
	struct iommu_ioas_copy copy = {.size = sizeof(copy),
				       .flags = MAP_FIXED_RW,
				       .dst_ioas_id = l->other,
				       .src_ioas_id = l->b.ioas,
				       .length = 2 * PAGE,
				       .dst_iova = 0x10000,
				       .src_iova = 0x200000};

	return rig_ioctl(&l->rig, l->b.fd, IOMMU_IOAS_COPY, &copy);
}

static long step_allow(struct life *l)
{
	struct iommu_iova_range ranges[20];
	struct iommu_ioas_allow_iovas allow = {.size = sizeof(allow),
					       .ioas_id = l->b.ioas,
					       .num_iovas = 20,
					       .allowed_iovas = (uintptr_t)ranges};

	for (uint64_t i = 0; i < 20; i++)
		ranges[i] = (struct iommu_iova_range){i << 20, (i << 20) + 0xfffff};
	return rig_ioctl(&l->rig, l->b.fd, IOMMU_IOAS_ALLOW_IOVAS, &allow);
}

static long step_ranges(struct life *l)
{
	struct iommu_iova_range ranges[8];
	struct iommu_ioas_iova_ranges arg = {.size = sizeof(arg),
					     .ioas_id = l->b.ioas,
					     .num_iovas = 8,
					     .allowed_iovas = (uintptr_t)ranges};

	return rig_ioctl(&l->rig, l->b.fd, IOMMU_IOAS_IOVA_RANGES, &arg);
}

static long step_attach(struct life *l)
{
	return attach_to(&l->rig, l->b.node, l->b.ioas);
}

static long step_irq(struct life *l)
{
	int32_t fd = l->event;

	return rig_irqs(&l->rig, l->b.node, 4 | 32, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &fd);
}

static long step_replace(struct life *l)
{
	return attach_to(&l->rig, l->b.node, l->other);
}

static long step_parent(struct life *l)
{
	return hwpt_alloc(&l->rig, l->b.fd, l->b.device, l->b.ioas, IOMMU_HWPT_ALLOC_NEST_PARENT,
			  &l->parent);
}

static long step_dirty(struct life *l)
{
	return hwpt_alloc(&l->rig, l->b.fd, l->b.device, l->b.ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
			  &l->dirty);
}

static long step_bitmap(struct life *l)
{
	uint64_t bits = 0;
	struct iommu_hwpt_get_dirty_bitmap get = {.size = sizeof(get),
						  .hwpt_id = l->dirty,
						  .iova = 0x100000,
						  .length = 32 * PAGE,
						  .page_size = PAGE,
						  .data = (uintptr_t)&bits};

	struct iommu_hwpt_set_dirty_tracking set = {
		.size = sizeof(set), .flags = 1, .hwpt_id = l->dirty};

	assert_int_equal(rig_ioctl(&l->rig, l->b.fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set), 0);
	return rig_ioctl(&l->rig, l->b.fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get);
}

static long step_viommu(struct life *l)
{
	struct iommu_viommu_alloc alloc = {.size = sizeof(alloc),
					   .type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
					   .dev_id = l->b.device,
					   .hwpt_id = l->parent};
	long ret = rig_ioctl(&l->rig, l->b.fd, IOMMU_VIOMMU_ALLOC, &alloc);

	l->viommu = alloc.out_viommu_id;
	return ret;
}

static long step_vdevice(struct life *l)
{
	struct iommu_vdevice_alloc alloc = {
		.size = sizeof(alloc), .viommu_id = l->viommu, .dev_id = l->b.device, .virt_id = 7};
	long ret = rig_ioctl(&l->rig, l->b.fd, IOMMU_VDEVICE_ALLOC, &alloc);

	l->vdevice = alloc.out_vdevice_id;
	return ret;
}

static long step_events(struct life *l)
{
	struct iommu_veventq_alloc alloc = {.size = sizeof(alloc),
					    .viommu_id = l->viommu,
					    .type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
					    .veventq_depth = 100};
	long ret = rig_ioctl(&l->rig, l->b.fd, IOMMU_VEVENTQ_ALLOC, &alloc);

	l->queue = (int)alloc.out_veventq_fd;
	l->events_id = alloc.out_veventq_id;
	return ret;
}

/* Its tables are empty: each DMA is an event. */
static long step_nested(struct life *l)
{
	struct iommu_hwpt_arm_smmuv3 ste = {{1 | 5 << 1 | 0x110000, 0}};
	struct iommu_hwpt_alloc alloc = {.size = sizeof(alloc),
					 .dev_id = l->b.device,
					 .pt_id = l->viommu,
					 .data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
					 .data_len = sizeof(ste),
					 .data_uptr = (uintptr_t)&ste};
	long ret = rig_ioctl(&l->rig, l->b.fd, IOMMU_HWPT_ALLOC, &alloc);

	l->nested = alloc.out_hwpt_id;
	return ret;
}

static long step_attach_nested(struct life *l)
{
	return attach_to(&l->rig, l->b.node, l->nested);
}

/* A want of memory is a loss that is noted, not a failure. */
static long step_event(struct life *l)
{
	uint8_t records[400];

	rig_config_set(&l->rig, l->b.node, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	edu_dma(&l->rig, l->b.node, 0x5000, 8, false);
	assert_true(uiommu_vfio_pread(rig_file(&l->rig, l->queue), records, sizeof(records), 0) >=
		    (ssize_t)sizeof(struct iommufd_vevent_header));
	return 0;
}

/* All that takes away needs no memory. */
static long step_end(struct life *l)
{
	uint64_t length = UINT64_MAX;

	assert_int_equal(ioas_unmap(&l->rig, l->b.fd, l->b.ioas, 0, &length), 0);
	assert_int_equal(detach_device(&l->rig, l->b.node), 0);
	rig_close(&l->rig, l->queue);
	assert_int_equal(destroy_id(&l->rig, l->b.fd, l->events_id), 0);
	assert_int_equal(destroy_id(&l->rig, l->b.fd, l->nested), 0);
	assert_int_equal(destroy_id(&l->rig, l->b.fd, l->vdevice), 0);
	assert_int_equal(destroy_id(&l->rig, l->b.fd, l->viommu), 0);
	assert_int_equal(destroy_id(&l->rig, l->b.fd, l->dirty), 0);
	assert_int_equal(destroy_id(&l->rig, l->b.fd, l->parent), 0);
	assert_int_equal(destroy_id(&l->rig, l->b.fd, l->other), 0);
	return 0;
}

static const step_fn steps[] = {
	step_iommufd, step_node,    step_bind,	 step_ioas,	     step_other,  step_map,
	step_place,   step_file,    step_copy,	 step_allow,	     step_ranges, step_attach,
	step_irq,     step_replace, step_parent, step_dirty,	     step_bitmap, step_viommu,
	step_vdevice, step_events,  step_nested, step_attach_nested, step_event,  step_end,
};

/* Returns whether an allocation failed at all. */
static bool live_with_failure(long nth, bool counted)
{
	const struct rig_options options = {.platform = "arm-smmuv3,nesting=on,dirty=on",
					    .memlock = counted};
	long before = fail_live, bytes = fail_live_bytes, ret;
	struct life l = {.file = memfd_create("test", 0), .event = eventfd(0, EFD_NONBLOCK)};
	bool failed;

	assert_int_equal(ftruncate(l.file, 2 * PAGE), 0);
	assert_true(rig_up(&l.rig, &options));
	/* The bit of the guest's memory that leads to its empty tables. */
	memcpy(l.rig.memory + 0x10000, (const uint64_t[]){0, 0}, 16);
	fail_countdown = nth;
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		ret = steps[i](&l);
		if (!ret)
			continue;
		if (ret != -ENOMEM || fail_countdown >= 0)
			fail_msg("step %zu: %ld, allocation %ld", i, ret, nth);
		ret = steps[i](&l);
		if (ret)
			fail_msg("step %zu failed twice: %ld, allocation %ld", i, ret, nth);
	}
	failed = fail_countdown < 0;
	fail_countdown = -1;
	rig_close(&l.rig, l.b.fd);
	rig_close(&l.rig, l.b.node);
	assert_int_equal(l.rig.files_mapped, 0);
	assert_int_equal(l.rig.eventfds, 0);
	rig_down(&l.rig);
	close(l.file);
	close(l.event);
	assert_int_equal(fail_live, before);
	assert_int_equal(fail_live_bytes, bytes);
	return failed;
}

static void test_each_allocation(void **state)
{
	struct rlimit limit;
	long nth = 0, counted = 0;

	assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
	uiommu_set_allocator(failing_alloc, failing_release);
	while (live_with_failure(nth, false))
		nth++;
	/* And with what counts the memory, if there may be as much as this takes. */
	if (limit.rlim_cur >= 256 * PAGE) {
		while (live_with_failure(counted, true))
			counted++;
		assert_true(counted > nth);
	}
	uiommu_set_allocator(NULL, NULL);
	assert_true(nth > 50);
	print_message("%ld allocations\n", nth);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_allocation)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
