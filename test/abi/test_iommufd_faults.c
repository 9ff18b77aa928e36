/* SPDX-License-Identifier: MIT */
/* iommufd's fault queues: what a device waits for is read, mapped, answered; and every way in which
 * a wait may end otherwise. */
#include <unistd.h>

#include "iommufd_rig.h"

static const struct rig_options pri_machine = {.platform = "x86-vtd,pri=on,nesting=on"};

/* A device that reads or writes 8 bytes at an IOVA, in a thread of its own. */
struct access {
	struct rig *rig;
	struct uiommu_port *port;
	pthread_t thread;
	uint64_t iova;
	bool write;
	uint64_t word;
	_Atomic int result; /* 1: under way */
};

static void *access_thread(void *arg)
{
	struct access *a = arg;

	a->result = a->write ? uiommu_port_write(a->port, a->iova, &a->word, sizeof(a->word))
			     : uiommu_port_read(a->port, a->iova, &a->word, sizeof(a->word));
	return NULL;
}

static void access_start(struct rig *rig, struct access *a, uint64_t iova, bool write)
{
	struct uiommu_unit *unit = uiommu_machine_unit(rig->machine);

	*a = (struct access){.rig = rig, .iova = iova, .write = write, .word = 7, .result = 1};
	assert_int_equal(uiommu_port_create(unit, 0x8, &a->port), 0);
	uiommu_port_set_master(a->port, true);
	uiommu_port_set_paging(a->port, true);
	assert_int_equal(pthread_create(&a->thread, NULL, access_thread, a), 0);
}

static int access_end(struct access *a)
{
	pthread_join(a->thread, NULL);
	uiommu_port_destroy(a->port);
	return a->result;
}

static ssize_t respond(struct rig *rig, int queue, uint32_t cookie, uint32_t code)
{
	struct iommu_hwpt_page_response response = {cookie, code};

	return uiommu_vfio_pwrite(rig_file(rig, queue), &response, sizeof(response), 0);
}

struct waiting {
	struct rig rig;
	struct bound b;
	int queue;
	uint32_t faults, hwpt;
};

static void waiting_up(struct waiting *w)
{
	assert_true(rig_up(&w->rig, &pri_machine));
	w->b = bind_edu(&w->rig);
	assert_int_equal(fault_alloc(&w->rig, w->b.fd, &w->queue, &w->faults), 0);
	assert_int_equal(hwpt_with_faults(&w->rig, &w->b, 0, w->faults, &w->hwpt), 0);
	assert_int_equal(attach_to(&w->rig, w->b.node, w->hwpt), 0);
}

static void waiting_down(struct waiting *w)
{
	unbind_edu(&w->rig, &w->b);
	rig_close(&w->rig, w->queue);
	rig_down(&w->rig);
}

static void test_mapped_on_request(void **state)
{
	struct iommu_hwpt_pgfault fault;
	struct waiting w;
	struct access a;

	waiting_up(&w);
	access_start(&w.rig, &a, 0x5ff8, true);
	fault = next_fault(&w.rig, w.queue);
	assert_int_equal(fault.flags, IOMMU_PGFAULT_FLAGS_LAST_PAGE);
	assert_int_equal(fault.dev_id, w.b.device);
	assert_int_equal(fault.perm, IOMMU_PGFAULT_PERM_WRITE);
	assert_int_equal(fault.addr, 0x5000);
	assert_int_equal(fault.cookie, 1);
	assert_int_equal(a.result, 1);
	assert_int_equal(respond(&w.rig, w.queue, 99, 0), -EINVAL);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, 2), -EINVAL);
	assert_int_equal(ioas_map_at(&w.rig, w.b.fd, w.b.ioas, w.rig.memory, PAGE, 0x5000), 0);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS), 8);
	assert_int_equal(access_end(&a), 0);
	assert_int_equal(w.rig.memory[0xff8], 7);
	assert_int_equal(w.rig.faults, 0);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, 0), -EINVAL);
	waiting_down(&w);
}

static void test_refused(void **state)
{
	struct iommu_hwpt_pgfault fault;
	struct waiting w;
	struct access a;

	waiting_up(&w);
	access_start(&w.rig, &a, 0x7008, false);
	fault = next_fault(&w.rig, w.queue);
	assert_int_equal(fault.perm, IOMMU_PGFAULT_PERM_READ);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, IOMMUFD_PAGE_RESP_INVALID), 8);
	assert_int_equal(access_end(&a), -EFAULT);
	assert_int_equal(rig_fault(&w.rig, 1).iova, 0x7008);
	/* Answered without having been mapped: it asks again. */
	access_start(&w.rig, &a, 0x7008, false);
	fault = next_fault(&w.rig, w.queue);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS), 8);
	fault = next_fault(&w.rig, w.queue);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, IOMMUFD_PAGE_RESP_INVALID), 8);
	assert_int_equal(access_end(&a), -EFAULT);
	waiting_down(&w);
}

/* Whatever takes the attachment away answers, read or not. */
static void test_ends(void **state)
{
	struct iommu_hwpt_pgfault fault;
	struct waiting w;
	struct access a, second;
	uint32_t other;

	waiting_up(&w);
	other = ioas_alloc(&w.rig, w.b.fd);
	assert_int_equal(ioas_map_at(&w.rig, w.b.fd, other, w.rig.memory, 2 * PAGE, 0x9000), 0);
	/* One of the two is read. */
	access_start(&w.rig, &a, 0x9000, false);
	fault = next_fault(&w.rig, w.queue);
	access_start(&w.rig, &second, 0xa000, false);
	while (!w.rig.readable)
		usleep(1000);
	assert_int_equal(detach_device(&w.rig, w.b.node), 0);
	assert_int_equal(access_end(&a), -EFAULT);
	assert_int_equal(access_end(&second), -EFAULT);
	assert_false(w.rig.readable);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, 0), -EINVAL);
	assert_int_equal(attach_to(&w.rig, w.b.node, w.hwpt), 0);
	access_start(&w.rig, &a, 0x9000, false);
	fault = next_fault(&w.rig, w.queue);
	assert_int_equal(attach_to(&w.rig, w.b.node, other), 0);
	access_end(&a);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, 0), -EINVAL);
	assert_int_equal(attach_to(&w.rig, w.b.node, w.hwpt), 0);
	access_start(&w.rig, &a, 0x9000, false);
	next_fault(&w.rig, w.queue);
	/* The device goes. */
	rig_close(&w.rig, w.b.node);
	assert_int_equal(access_end(&a), -EFAULT);
	rig_close(&w.rig, w.b.fd);
	rig_close(&w.rig, w.queue);
	rig_down(&w.rig);
}

/* edu's own DMA: while it waits, its other registers can be used; a reset, the end of bus mastering
 * and the closing of the device end the wait. */
static void test_device(void **state)
{
	struct iommu_hwpt_pgfault fault;
	struct waiting w;
	uint64_t faults;

	waiting_up(&w);
	edu_start(&w.rig, w.b.node, 0x5000, 8, false);
	fault = next_fault(&w.rig, w.queue);
	assert_int_equal(fault.addr, 0x5000);
	assert_int_equal(fault.perm, IOMMU_PGFAULT_PERM_READ);
	rig_reg_set(&w.rig, w.b.node, 0, 4, 0x12345678);
	assert_int_equal(rig_reg(&w.rig, w.b.node, 0, 4), 0xedcba987);
	assert_true(rig_reg(&w.rig, w.b.node, 0, 0x98) & 1);
	memset(w.rig.memory, 0x5a, 8);
	assert_int_equal(ioas_map_at(&w.rig, w.b.fd, w.b.ioas, w.rig.memory, PAGE, 0x5000), 0);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, IOMMUFD_PAGE_RESP_SUCCESS), 8);
	edu_wait(&w.rig, w.b.node);
	edu_dma(&w.rig, w.b.node, 0x5100, 8, true);
	assert_int_equal(w.rig.memory[0x107], 0x5a);
	assert_int_equal(w.rig.faults, 0);
	/* Refused. */
	edu_start(&w.rig, w.b.node, 0x9000, 8, true);
	fault = next_fault(&w.rig, w.queue);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, IOMMUFD_PAGE_RESP_INVALID), 8);
	edu_wait(&w.rig, w.b.node);
	assert_int_equal(rig_fault(&w.rig, 1).iova, 0x9000);
	/* Nobody answers: without bus mastering, and when the device is closed, it ends. */
	faults = w.rig.faults;
	edu_start(&w.rig, w.b.node, 0xa000, 8, true);
	next_fault(&w.rig, w.queue);
	rig_config_set(&w.rig, w.b.node, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	edu_wait(&w.rig, w.b.node);
	assert_int_equal(w.rig.faults, faults + 1);
	rig_config_set(&w.rig, w.b.node, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	edu_start(&w.rig, w.b.node, 0xa000, 8, true);
	next_fault(&w.rig, w.queue);
	waiting_down(&w);
}

static void test_arguments(void **state)
{
	uint8_t buf[100];
	uint32_t id;
	struct waiting w;
	struct bound plain;
	struct rig rig;
	int queue;

	waiting_up(&w);
	assert_int_equal(destroy_id(&w.rig, w.b.fd, w.faults), -EBUSY);
	assert_int_equal(hwpt_with_faults(&w.rig, &w.b, 0, 99, &id), -ENOENT);
	assert_int_equal(
		hwpt_with_faults(&w.rig, &w.b, IOMMU_HWPT_ALLOC_NEST_PARENT, w.faults, &id),
		-EOPNOTSUPP);
	assert_int_equal(uiommu_vfio_pread(rig_file(&w.rig, w.queue), buf, 39, 0), -ESPIPE);
	assert_int_equal(uiommu_vfio_pwrite(rig_file(&w.rig, w.queue), buf, 7, 0), -ESPIPE);
	assert_int_equal(uiommu_vfio_pread(rig_file(&w.rig, w.queue), buf, 80, 0), 0);
	waiting_down(&w);
	/* A device that can't wait. */
	assert_true(rig_up(&rig, NULL));
	plain = bind_edu(&rig);
	assert_int_equal(fault_alloc(&rig, plain.fd, &queue, &id), 0);
	assert_int_equal(hwpt_with_faults(&rig, &plain, 0, id, &id), 0);
	assert_int_equal(attach_to(&rig, plain.node, id), -ENODEV);
	rig_close(&rig, queue);
	unbind_edu(&rig, &plain);
	rig_down(&rig);
}

/* A read of nothing is an error while there is something to be read. */
static void test_read_nothing(void **state)
{
	struct iommu_hwpt_pgfault fault;
	struct waiting w;
	struct access a;

	waiting_up(&w);
	assert_int_equal(uiommu_vfio_pread(rig_file(&w.rig, w.queue), &fault, 0, 0), 0);
	access_start(&w.rig, &a, 0x5000, false);
	while (!w.rig.readable)
		usleep(1000);
	assert_int_equal(uiommu_vfio_pread(rig_file(&w.rig, w.queue), &fault, 0, 0), -EINVAL);
	assert_true(w.rig.readable);
	fault = next_fault(&w.rig, w.queue);
	assert_int_equal(uiommu_vfio_pread(rig_file(&w.rig, w.queue), &fault, 0, 0), 0);
	assert_int_equal(respond(&w.rig, w.queue, fault.cookie, IOMMUFD_PAGE_RESP_INVALID), 8);
	assert_int_equal(access_end(&a), -EFAULT);
	waiting_down(&w);
}

/* The struct goes away when its queue's descriptor is out already: the queue stays, for the file
 * rests on it. */
static int told_too_late;

static void struct_goes(struct rig *rig, int fd)
{
	rig->bad_first = 0;
	rig->bad_last = UINTPTR_MAX;
	told_too_late = fd;
}

static void test_number_not_told(void **state)
{
	struct waiting w;
	uint32_t id;
	int queue;

	waiting_up(&w);
	w.rig.installed = struct_goes;
	assert_int_equal(fault_alloc(&w.rig, w.b.fd, &queue, &id), -EFAULT);
	w.rig.installed = NULL;
	w.rig.bad_last = 0;
	/* The first answer, which tried the struct out, said the number. */
	assert_int_equal(destroy_id(&w.rig, w.b.fd, id), -EBUSY);
	assert_int_equal(uiommu_vfio_pread(rig_file(&w.rig, told_too_late), &id, 0, 0), 0);
	rig_close(&w.rig, told_too_late);
	assert_int_equal(destroy_id(&w.rig, w.b.fd, id), 0);
	assert_int_equal(destroy_id(&w.rig, w.b.fd, id), -ENOENT);
	waiting_down(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mapped_on_request),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_read_nothing),
		cmocka_unit_test(test_number_not_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
