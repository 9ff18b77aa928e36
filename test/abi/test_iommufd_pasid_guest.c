/* SPDX-License-Identifier: MIT */
/* Guests' tables and page requests under a PASID. */
#include <pthread.h>

#include "pasid_rig.h"

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

static void *access_thread(void *port)
{
	uint64_t word = 7;

	return (void *)(intptr_t)uiommu_port_write(port, IOVA, &word, sizeof(word));
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
	assert_int_equal(hwpt_with_faults(&rig, &b, IOMMU_HWPT_ALLOC_PASID, queue_id, &hwpt), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_never_bare),
		cmocka_unit_test(test_page_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
