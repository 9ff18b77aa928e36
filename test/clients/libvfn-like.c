/* SPDX-License-Identifier: MIT */
/*
 * libvfn-like - the calls libvfn makes: GET_INFO twice, the second time with the size the first one
 * asked for; BAR 0 mapped in two parts, doorbells write-only; interrupts set with descriptors among
 * which some are -1.
 */
#include "client.h"

static void test_info_twice(int container)
{
	struct vfio_iommu_type1_info first = {.argsz = sizeof(first)}, *whole;
	struct vfio_iommu_type1_info_cap_iova_range *ranges;

	CHECK_EQ(call(container, VFIO_IOMMU_GET_INFO, &first), 0);
	CHECK(first.argsz > sizeof(first));
	CHECK(first.flags & VFIO_IOMMU_INFO_CAPS);
	CHECK_EQ(first.cap_offset, 0);
	whole = calloc(1, first.argsz);
	REQUIRE(whole != NULL);
	ranges = client_info_cap(container, whole, first.argsz,
				 VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
	CHECK_EQ(whole->argsz, first.argsz);
	REQUIRE(ranges != NULL);
	CHECK(ranges->nr_iovas > 1);
	CHECK_EQ(ranges->iova_ranges[0].start, 0);
	CHECK_EQ(ranges->iova_ranges[0].end, 0xfedfffff);
	free(whole);
}

/* Registers in the first page, and doorbells behind it that are never read. */
static void test_two_maps(struct client *c)
{
	struct vfio_region_info info = client_region(c->device, 0);
	uint8_t *memory = client_pages(1);
	volatile uint8_t *regs, *doorbells;

	regs = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, c->device, info.offset);
	REQUIRE(regs != MAP_FAILED);
	doorbells =
		mmap(NULL, info.size - PAGE, PROT_WRITE, MAP_SHARED, c->device, info.offset + PAGE);
	REQUIRE(doorbells != MAP_FAILED);
	CHECK_EQ(client_map(c->container, 0x10000, memory, PAGE, RW), 0);
	*(struct ioat_descriptor *)memory =
		(struct ioat_descriptor){.control = IOAT_NULL | IOAT_COMPLETION};
	ioat_reset(regs, 0x10000 + 2048);
	REG(doorbells, uint8_t, 0) = 1;
	REG(doorbells, uint16_t, 2) = 2;
	REG(doorbells, uint32_t, 4) = 3;
	REG(doorbells, uint64_t, 8) = 4;
	CHECK_EQ(ioat_run(regs, 0x10000, 1), IOAT_DONE);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, c->device, info.offset + info.size) ==
		      MAP_FAILED &&
	      errno == EINVAL);
	CHECK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, c->device, info.offset) == MAP_FAILED &&
	      errno == EINVAL);
	munmap((void *)regs, PAGE);
	munmap((void *)doorbells, info.size - PAGE);
	munmap(memory, 2 * PAGE);
}

static void test_irqs(struct client *c)
{
	const uint32_t flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX};
	int fds[64], trigger = client_eventfd(), file = memfd_create("no eventfd", MFD_CLOEXEC);

	CHECK_EQ(call(c->device, VFIO_DEVICE_GET_IRQ_INFO, &info), 0);
	REQUIRE(info.count >= 1 && info.count <= 64);
	for (unsigned i = 0; i < info.count; i++)
		fds[i] = -1;
	CHECK_EQ(client_irqs(c->device, flags, info.index, 0, info.count, fds), 0);
	fds[0] = trigger;
	CHECK_EQ(client_irqs(c->device, flags, info.index, 0, info.count, fds), 0);
	fds[0] = file; /* no eventfd */
	CHECK_EQ(client_irqs(c->device, flags, info.index, 0, info.count, fds), -EINVAL);
	fds[0] = 9999;
	CHECK_EQ(client_irqs(c->device, flags, info.index, 0, info.count, fds), -EBADF);
	fds[0] = -2; /* any negative number clears a vector, but only -1 an error interrupt */
	CHECK_EQ(client_irqs(c->device, flags, info.index, 0, info.count, fds), 0);
	CHECK_EQ(client_irqs(c->device, flags, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, fds), -EINVAL);
	close(trigger);
	close(file);
}

int main(void)
{
	struct client c;

	client_find(&c, IOAT, 0);
	client_open(&c, 0);
	CHECK_EQ(call_value(c.container, VFIO_CHECK_EXTENSION, VFIO_TYPE1_IOMMU), 1);
	CHECK_EQ(call_value(c.container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), 0);
	test_info_twice(c.container);
	client_open_device(&c);
	client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	test_two_maps(&c);
	test_irqs(&c);
	CHECK_EQ(call(c.device, VFIO_DEVICE_RESET, NULL), 0);
	client_close(&c);
	return client_done();
}
