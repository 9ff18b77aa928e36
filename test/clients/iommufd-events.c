/* SPDX-License-Identifier: MIT */
/*
 * iommufd-events - a monitor of a guest with an SMMUv3: a vIOMMU, the guest's stream table entry, a
 * queue of events that is waited for with poll() and epoll, read, duplicated, inherited and closed.
 * The guest's tables are empty, so each DMA of its device is an event.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <uiommu/linux/iommufd.h>

#include "client.h"

#define STREAM UINT64_C(0x42)

struct record {
	struct iommufd_vevent_header header;
	struct iommu_vevent_arm_smmuv3 event;
};

struct guest {
	int iommu, device, queue;
	uint32_t device_id;
	volatile uint8_t *bar;
	void *memory;
};

static void bind_device(struct guest *g)
{
	struct vfio_device_bind_iommufd bind = {.argsz = sizeof(bind)};

	g->iommu = open("/dev/iommu", O_RDWR);
	g->device = open("/dev/vfio/devices/vfio0", O_RDWR);
	REQUIRE(g->iommu >= 0 && g->device >= 0);
	bind.iommufd = g->iommu;
	CHECK_EQ(call(g->device, VFIO_DEVICE_BIND_IOMMUFD, &bind), 0);
	g->device_id = bind.out_devid;
	client_command(g->device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	g->bar = client_bar(g->device);
}

/* From a parent to a nested page table that the device is attached to, with a queue beside. */
static void make_guest(struct guest *g)
{
	struct iommu_ioas_alloc ioas = {.size = sizeof(ioas)};
	struct iommu_hwpt_alloc hwpt = {.size = sizeof(hwpt),
					.flags = IOMMU_HWPT_ALLOC_NEST_PARENT};
	struct iommu_viommu_alloc viommu = {.size = sizeof(viommu),
					    .type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3};
	struct iommu_vdevice_alloc vdevice = {.size = sizeof(vdevice), .virt_id = STREAM};
	struct iommu_veventq_alloc queue = {
		.size = sizeof(queue), .type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, .veventq_depth = 4};
	/* Stage 1, with a context that says: 48 bits, pages of 4 KiB, one table, which is empty. */
	struct iommu_hwpt_arm_smmuv3 ste = {{1 | 5 << 1 | 0x10000, 0}};
	const uint64_t context[2] = {16 | UINT64_C(1) << 30 | UINT64_C(1) << 31 |
					     UINT64_C(5) << 32 | UINT64_C(1) << 41 |
					     UINT64_C(1) << 45 | UINT64_C(1) << 46,
				     0x11000};
	struct iommu_ioas_map map = {.size = sizeof(map),
				     .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
					      IOMMU_IOAS_MAP_WRITEABLE,
				     .length = 2 * PAGE,
				     .iova = 0x10000};
	struct vfio_device_attach_iommufd_pt attach = {.argsz = sizeof(attach)};

	g->memory = client_pages(2);
	memcpy(g->memory, context, sizeof(context));
	CHECK_EQ(call(g->iommu, IOMMU_IOAS_ALLOC, &ioas), 0);
	map.ioas_id = ioas.out_ioas_id;
	map.user_va = (uintptr_t)g->memory;
	CHECK_EQ(call(g->iommu, IOMMU_IOAS_MAP, &map), 0);
	hwpt.dev_id = viommu.dev_id = vdevice.dev_id = g->device_id;
	hwpt.pt_id = ioas.out_ioas_id;
	CHECK_EQ(call(g->iommu, IOMMU_HWPT_ALLOC, &hwpt), 0);
	viommu.hwpt_id = hwpt.out_hwpt_id;
	CHECK_EQ(call(g->iommu, IOMMU_VIOMMU_ALLOC, &viommu), 0);
	vdevice.viommu_id = queue.viommu_id = hwpt.pt_id = viommu.out_viommu_id;
	CHECK_EQ(call(g->iommu, IOMMU_VDEVICE_ALLOC, &vdevice), 0);
	CHECK_EQ(call(g->iommu, IOMMU_VEVENTQ_ALLOC, &queue), 0);
	g->queue = (int)queue.out_veventq_fd;
	hwpt.flags = 0;
	hwpt.data_type = IOMMU_HWPT_DATA_ARM_SMMUV3;
	hwpt.data_len = sizeof(ste);
	hwpt.data_uptr = (uintptr_t)&ste;
	CHECK_EQ(call(g->iommu, IOMMU_HWPT_ALLOC, &hwpt), 0);
	attach.pt_id = hwpt.out_hwpt_id;
	CHECK_EQ(call(g->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), 0);
}

/* edu copies 8 bytes from there. */
static void dma(const struct guest *g, uint32_t iova)
{
	REG(g->bar, uint64_t, 0x80) = iova;
	REG(g->bar, uint64_t, 0x88) = 0x40000;
	REG(g->bar, uint64_t, 0x90) = 8;
	REG(g->bar, uint64_t, 0x98) = 1;
	for (unsigned i = 0; i < 10000 && (REG(g->bar, uint64_t, 0x98) & 1); i++)
		usleep(1000);
}

static int readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms);
}

static void test_waiting(const struct guest *g)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct record record;
	int epoll = epoll_create1(0);

	CHECK_EQ(epoll_ctl(epoll, EPOLL_CTL_ADD, g->queue, &event), 0);
	CHECK_EQ(readable(g->queue, 0), 0);
	CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
	CHECK_EQ(read(g->queue, &record, sizeof(record)), 0);
	dma(g, 0x1234);
	CHECK_EQ(readable(g->queue, 10000), 1);
	CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 1);
	CHECK_EQ(read(g->queue, &record, sizeof(record)), sizeof(record));
	CHECK_EQ((long long)(record.event.evt[0] >> 32), STREAM);
	CHECK_EQ(record.header.sequence, 0);
	CHECK_EQ(readable(g->queue, 0), 0);
	CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
	CHECK(lseek(g->queue, 0, SEEK_CUR) < 0 && errno == ESPIPE);
	CHECK(ioctl(g->queue, IOMMU_IOAS_ALLOC, &record) < 0 && errno == ENOTTY);
	CHECK(write(g->queue, &record, 8) < 0 && errno == EINVAL);
	close(epoll);
}

/* More than the depth, by a duplicate. */
static void test_overflow(const struct guest *g)
{
	struct record records[6];
	int copy = dup(g->queue);

	for (uint32_t i = 0; i < 7; i++)
		dma(g, 0x1000 * i);
	memset(records, 0xff, sizeof(records));
	CHECK_EQ(read(copy, records, sizeof(records)),
		 4 * sizeof(records[0]) + sizeof(records[0].header));
	CHECK_EQ(records[3].header.sequence, 4);
	CHECK_EQ(records[4].header.flags, IOMMU_VEVENTQ_FLAG_LOST_EVENTS);
	CHECK_EQ(records[4].header.sequence, 7);
	close(copy);
	CHECK_EQ(readable(g->queue, 0), 0);
}

int main(void)
{
	struct iommu_destroy destroy = {.size = sizeof(destroy)};
	struct guest g;

	bind_device(&g);
	make_guest(&g);
	test_waiting(&g);
	test_overflow(&g);
	/* The queue goes with its last descriptor. */
	for (destroy.id = 1; destroy.id < 16 && call(g.iommu, IOMMU_DESTROY, &destroy) != -EBUSY;)
		destroy.id++;
	close(g.queue);
	CHECK(fcntl(g.queue, F_GETFD) < 0);
	munmap((void *)g.bar, client_region(g.device, 0).size);
	close(g.device);
	close(g.iommu);
	munmap(g.memory, 3 * PAGE);
	return client_done();
}
