/* SPDX-License-Identifier: MIT */
/* PASIDs without memory: each allocation of a life of moves fails once. What a device finds by its
 * PASID is then what it found before, and the move works when it is tried again. */
#include "pasid_rig.h"

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
	return hwpt_with_faults(&l->rig, &l->b, IOMMU_HWPT_ALLOC_PASID, l->ids[QUEUE],
				&l->ids[PAGED]);
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
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_allocation)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
