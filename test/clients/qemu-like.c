/* SPDX-License-Identifier: MIT */
/*
 * qemu-like - the calls QEMU's vfio-pci makes: type1v2 with its capabilities, guest RAM mapped and
 * unmapped in churn, 4096 bytes of configuration space in one read, BARs sized, the ROM probed, its
 * own BAR mapping as a source of DMA, INTx by eventfd with masking, and register accesses by
 * pread/pwrite that must reach the same model as the mapping does.
 */
#include "client.h"

enum { EDU_LIVE = 4, EDU_FACTORIAL = 8, EDU_STATUS = 0x20, EDU_IRQ = 0x24 };
enum { EDU_RAISE = 0x60, EDU_ACK = 0x64 };
enum { TRIGGER = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER };
enum { UNMASK = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK };
enum { MASK = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK };
enum { DISABLE = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER };

_Static_assert(UNMASK == 0x11, "the flags QEMU unmasks INTx with");

static void open_as_qemu(struct client *c)
{
	client_open(c, 0);
	CHECK_EQ(call_value(c->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU), 1);
	CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	CHECK_EQ(client_dma_avail(c->container), 65535);
	client_open_device(c);
}

static uint32_t config_read(int device, unsigned offset, unsigned len)
{
	uint32_t value = 0;

	CHECK_EQ(pread(device, &value, len,
		       client_region(device, VFIO_PCI_CONFIG_REGION_INDEX).offset + offset),
		 len);
	return value;
}

static void config_write(int device, unsigned offset, unsigned len, uint32_t value)
{
	CHECK_EQ(pwrite(device, &value, len,
			client_region(device, VFIO_PCI_CONFIG_REGION_INDEX).offset + offset),
		 len);
}

/* ---- configuration space ----------------------------------------------------------------------
 */

static void test_config_edu(int device)
{
	uint8_t config[4096];
	uint64_t at = client_region(device, VFIO_PCI_CONFIG_REGION_INDEX).offset;

	/* Conventional: 256 bytes; a read that would go beyond gives nothing. */
	CHECK_EQ(pread(device, config, 256, at), 256);
	CHECK(pread(device, config, 4096, at) == -1 && errno == EFAULT);
	CHECK_EQ(config[0] | config[1] << 8, 0x1234);
	CHECK_EQ(config[2] | config[3] << 8, 0x11e8);
	CHECK_EQ(config[0x3d], 1);
	/* Sizing: all ones come back less the size, and the address that was there is virtual. */
	config_write(device, 0x10, 4, 0xffffffff);
	CHECK_EQ(config_read(device, 0x10, 4), 0xfff00000);
	config_write(device, 0x10, 4, 0xfea00000);
	CHECK_EQ(config_read(device, 0x10, 4), 0xfea00000);
	config_write(device, 0x14, 4, 0xffffffff);
	CHECK_EQ(config_read(device, 0x14, 4), 0);
	config_write(device, 0x30, 4, 0xfffff800);
	CHECK_EQ(config_read(device, 0x30, 4), 0);
	/* IDs cannot be written; the interrupt line can. */
	config_write(device, 0, 4, 0);
	CHECK_EQ(config_read(device, 0, 4), 0x11e81234);
	config_write(device, 0x3c, 1, 11);
	CHECK_EQ(config_read(device, 0x3c, 1), 11);
}

static void test_config_ioat(int device)
{
	uint8_t config[4096];
	uint64_t at = client_region(device, VFIO_PCI_CONFIG_REGION_INDEX).offset;
	unsigned seen = 0, steps = 0;

	CHECK_EQ(pread(device, config, sizeof(config), at), 4096);
	CHECK_EQ(config[0] | config[1] << 8, 0x8086);
	for (unsigned cap = config[0x34]; cap && steps < 64; cap = config[cap + 1], steps++)
		if (config[cap] < 32)
			seen |= 1u << config[cap];
	CHECK(steps < 64);
	CHECK(seen & 1u << 0x10); /* PCI Express */
	CHECK(seen & 1u << 0x11); /* MSI-X */
	config_write(device, 0x10, 4, 0xffffffff);
	CHECK_EQ(config_read(device, 0x10, 4) & ~0xfu, 0xffffc000);
	CHECK(pread(device, config, 16, at + 4088) == -1 && errno == EFAULT);
	CHECK(pread(device, config, 4, at + 4096) == -1 && errno == EFAULT);
}

/* ---- registers by mapping and by pread
 * ------------------------------------------------------------ */

static uint32_t slow_read(int device, unsigned offset)
{
	uint32_t value = 0;

	CHECK_EQ(pread(device, &value, 4, client_region(device, 0).offset + offset), 4);
	return value;
}

static void slow_write(int device, unsigned offset, uint32_t value)
{
	CHECK_EQ(pwrite(device, &value, 4, client_region(device, 0).offset + offset), 4);
}

static void test_both_ways(int device, volatile uint8_t *bar)
{
	slow_write(device, EDU_LIVE, 0x13579bdf);
	CHECK_EQ(REG(bar, uint32_t, EDU_LIVE), ~0x13579bdfu);
	REG(bar, uint32_t, EDU_LIVE) = 0x2468ace0;
	CHECK_EQ(slow_read(device, EDU_LIVE), ~0x2468ace0u);
	REG(bar, uint32_t, EDU_FACTORIAL) = 5;
	for (unsigned i = 0; slow_read(device, EDU_STATUS) & 1 && i < 1000000; i++)
		;
	CHECK_EQ(slow_read(device, EDU_FACTORIAL), 120);
	CHECK_EQ(REG(bar, uint32_t, EDU_FACTORIAL), 120);
	/* Memory decoding off: the BAR is not there. */
	client_command(device, 0, COMMAND_MEMORY);
	CHECK(pread(device, &(uint32_t){0}, 4, client_region(device, 0).offset) == -1 &&
	      errno == EIO);
	client_command(device, COMMAND_MEMORY, 0);
	CHECK_EQ(slow_read(device, 0), 0x010000ed);
}

/* ---- interrupts -------------------------------------------------------------------------------
 */

/* INTx is a level: signalled once, then masked until unmasked, then signalled again if still up. */
static void test_intx(int device, volatile uint8_t *bar)
{
	int trigger = client_eventfd(), unmask = client_eventfd(), other = client_eventfd(), copy;
	const uint32_t by_fd = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK;

	CHECK_EQ(client_irqs(device, UNMASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL), -EINVAL);
	CHECK_EQ(client_irqs(device, TRIGGER, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &trigger), 0);
	REG(bar, uint32_t, EDU_RAISE) = 1;
	CHECK_EQ(client_wait_event(trigger), 1);
	REG(bar, uint32_t, EDU_RAISE) = 2; /* up already, and masked */
	CHECK_EQ(client_events(trigger), 0);
	CHECK_EQ(client_irqs(device, UNMASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL), 0);
	CHECK_EQ(client_wait_event(trigger), 1);
	/* As after an INTx in QEMU: by pread and pwrite from here on. */
	CHECK_EQ(slow_read(device, EDU_IRQ), 3);
	slow_write(device, EDU_ACK, 3);
	CHECK_EQ(slow_read(device, EDU_IRQ), 0);
	CHECK_EQ(client_irqs(device, UNMASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL), 0);
	CHECK_EQ(client_events(trigger), 0);
	/* Masked by hand: nothing until it is unmasked, by an eventfd this time. */
	CHECK_EQ(client_irqs(device, MASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL), 0);
	CHECK_EQ(client_irqs(device, by_fd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &unmask), 0);
	slow_write(device, EDU_RAISE, 4);
	CHECK_EQ(client_events(trigger), 0);
	CHECK_EQ(write(unmask, &(uint64_t){1}, 8), 8);
	CHECK_EQ(client_wait_event(trigger), 1);
	slow_write(device, EDU_ACK, 4);
	/* One at a time; but one that was closed, with all its copies, is forgotten. */
	CHECK_EQ(client_irqs(device, by_fd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &other), -EBUSY);
	copy = dup(unmask);
	close(unmask);
	CHECK_EQ(client_irqs(device, by_fd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &other), -EBUSY);
	close(copy);
	CHECK_EQ(client_irqs(device, by_fd, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &other), 0);
	CHECK_EQ(client_irqs(device, DISABLE, VFIO_PCI_INTX_IRQ_INDEX, 0, 0, NULL), 0);
	close(trigger);
	close(other);
}

static void test_msi(int device, volatile uint8_t *bar)
{
	int trigger = client_eventfd(), req = client_eventfd(), none = -1;

	CHECK_EQ(client_irqs(device, TRIGGER, VFIO_PCI_REQ_IRQ_INDEX, 0, 1, &req), 0);
	CHECK_EQ(client_irqs(device, TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &trigger), 0);
	/* Another kind of interrupt needs this one to be off first. */
	CHECK_EQ(client_irqs(device, TRIGGER, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &trigger), -EINVAL);
	REG(bar, uint32_t, EDU_RAISE) = 1;
	CHECK_EQ(client_wait_event(trigger), 1);
	slow_write(device, EDU_ACK, 1);
	CHECK_EQ(client_irqs(device, TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &none), 0);
	CHECK_EQ(client_irqs(device, DISABLE, VFIO_PCI_MSI_IRQ_INDEX, 0, 0, NULL), 0);
	CHECK_EQ(client_irqs(device, TRIGGER, VFIO_PCI_REQ_IRQ_INDEX, 0, 1, &none), 0);
	CHECK_EQ(client_irqs(device, TRIGGER, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, &req), -EINVAL);
	close(trigger);
	close(req);
}

/* MSI-X as QEMU enables it: with a vector that goes nowhere first, then the real one in its place.
 */
static void test_msix(struct client *c)
{
	uint8_t *memory = client_pages(1);
	int trigger = client_eventfd(), other = client_eventfd(), err = client_eventfd();
	int none = -1, pair[2] = {trigger, other};
	volatile uint8_t *bar = client_bar(c->device);

	CHECK_EQ(client_irqs(c->device, TRIGGER, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, &err), 0);
	CHECK_EQ(client_irqs(c->device, TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, &none), 0);
	CHECK_EQ(client_irqs(c->device, TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, &other), 0);
	CHECK_EQ(client_irqs(c->device, TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, &trigger), 0);
	CHECK_EQ(client_irqs(c->device, TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 2, pair), -EINVAL);
	/* Loopback: the interrupt without the device. */
	CHECK_EQ(client_irqs(c->device, DISABLE, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL), 0);
	CHECK_EQ(client_wait_event(trigger), 1);
	CHECK_EQ(client_map(c->container, 0x100000, memory, PAGE, RW), 0);
	ioat_reset(bar, 0x100000 + 2048);
	*(struct ioat_descriptor *)memory =
		(struct ioat_descriptor){.control = IOAT_NULL | IOAT_COMPLETION | IOAT_INTERRUPT};
	CHECK_EQ(ioat_run(bar, 0x100000, 1), IOAT_DONE);
	CHECK_EQ(client_wait_event(trigger), 1);
	CHECK_EQ(client_events(other), 0);
	CHECK_EQ(client_irqs(c->device, DISABLE, VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL), 0);
	CHECK_EQ(client_irqs(c->device, DISABLE, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL), -EINVAL);
	CHECK_EQ(client_unmap(c->container, 0x100000, PAGE, 0), PAGE);
	munmap((void *)bar, 4 * PAGE);
	munmap(memory, 2 * PAGE);
	close(trigger);
	close(other);
	close(err);
}

/* ---- memory -------------------------------------------------------------------------------------
 */

/* Guest RAM below and above the hole, a window in it unmapped and mapped, in churn. */
static void test_churn(int container)
{
	enum { RAM_PAGES = 256, ROUNDS = 200, HIGH = 0x10000000 };
	uint8_t *ram = client_pages(RAM_PAGES);
	const uint64_t half = RAM_PAGES / 2 * PAGE;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t cut = (i * 7 % (RAM_PAGES / 2 - 2) + 1) * PAGE;

		CHECK_EQ(client_map(container, 0, ram, cut, RW), 0);
		CHECK_EQ(client_map(container, cut, ram + cut, PAGE, VFIO_DMA_MAP_FLAG_READ), 0);
		CHECK_EQ(client_map(container, cut + PAGE, ram + cut + PAGE, half - cut - PAGE, RW),
			 0);
		CHECK_EQ(client_map(container, HIGH, ram + half, half, RW), 0);
		CHECK_EQ(client_dma_avail(container), 65535 - 4);
		CHECK_EQ(client_unmap(container, 0, half, 0), half);
		CHECK_EQ(client_unmap(container, 0, HIGH + half, 0), half);
	}
	CHECK_EQ(client_dma_avail(container), 65535);
	munmap(ram, (RAM_PAGES + 1) * PAGE);
}

/* One function reads and writes another's registers, while that decodes its memory; what it doesn't
 * decode, or what the program itself may not write, can't be mapped. */
static void test_peer_registers(struct client *c, int edu_device)
{
	struct vfio_region_info region = client_region(edu_device, 0);
	uint8_t *memory = client_pages(2), *read_only;
	volatile uint8_t *own = client_bar(c->device), *peer = client_bar(edu_device);
	volatile uint32_t *value = (void *)(memory + PAGE);
	struct ioat_descriptor *chain = (void *)memory;

	CHECK_EQ(client_map(c->container, 0x100000, memory, 2 * PAGE, RW), 0);
	CHECK_EQ(client_map(c->container, 0x80000000, (void *)peer, 1 << 20, RW), 0);
	ioat_reset(own, 0x100000 + 2048);
	*chain = (struct ioat_descriptor){
		.size = 4, .control = IOAT_COMPLETION, .src = 0x80000000, .dst = 0x101000};
	CHECK_EQ(ioat_run(own, 0x100000, 1), IOAT_DONE);
	CHECK_EQ(*value, 0x010000ed);
	*value = 0x11223344;
	ioat_reset(own, 0x100000 + 2048);
	*chain = (struct ioat_descriptor){.size = 4,
					  .control = IOAT_COMPLETION,
					  .src = 0x101000,
					  .dst = 0x80000000 + EDU_LIVE};
	CHECK_EQ(ioat_run(own, 0x100000, 1), IOAT_DONE);
	for (unsigned i = 0; slow_read(edu_device, EDU_LIVE) != ~0x11223344u && i < 1000000; i++)
		;
	CHECK_EQ(slow_read(edu_device, EDU_LIVE), ~0x11223344u);
	/* Nobody answers. */
	client_command(edu_device, 0, COMMAND_MEMORY);
	ioat_reset(own, 0x100000 + 2048);
	*chain = (struct ioat_descriptor){
		.size = 4, .control = IOAT_COMPLETION, .src = 0x80000000, .dst = 0x101000};
	CHECK_EQ(ioat_run(own, 0x100000, 1), IOAT_HALTED);
	CHECK_EQ(client_unmap(c->container, 0x80000000, 1 << 20, 0), 1 << 20);
	CHECK_EQ(client_map(c->container, 0x80000000, (void *)peer, 1 << 20, RW), -EFAULT);
	client_command(edu_device, COMMAND_MEMORY, 0);
	CHECK_EQ(client_map(c->container, 0x80000000, (void *)peer, 1 << 20, RW), 0);
	CHECK_EQ(client_unmap(c->container, 0x80000000, 1 << 20, 0), 1 << 20);
	read_only =
		mmap(NULL, region.size, PROT_READ, MAP_SHARED, edu_device, (off_t)region.offset);
	CHECK(read_only != MAP_FAILED);
	CHECK_EQ(client_map(c->container, 0x80000000, read_only, 1 << 20, RW), -EFAULT);
	CHECK_EQ(client_map(c->container, 0x80000000, read_only, 1 << 20, VFIO_DMA_MAP_FLAG_READ),
		 0);
	CHECK_EQ(client_unmap(c->container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL), (1 << 20) + 2 * PAGE);
	munmap(read_only, region.size);
	munmap(memory, 3 * PAGE);
	munmap((void *)own, 4 * PAGE);
	munmap((void *)peer, 1 << 20);
}

/* QEMU maps every BAR of its devices for DMA by others. A read through that mapping gives the
 * register or a fault; the program goes on either way, and so does the engine. */
static void test_peer(struct client *c, int edu_device)
{
	uint8_t *memory = client_pages(2);
	volatile uint8_t *own = client_bar(c->device), *peer = client_bar(edu_device);
	struct ioat_descriptor *chain = (void *)memory;
	int status;

	CHECK_EQ(client_map(c->container, 0x100000, memory, 2 * PAGE, RW), 0);
	CHECK_EQ(client_map(c->container, 0x80000000, (void *)peer, 1 << 20, RW), 0);
	CHECK_EQ(client_map(c->container, 0x90000000, (void *)own, 2 * PAGE, RW), 0);
	for (uint64_t src = 0x80000000; src <= 0x90000000; src += 0x10000000) {
		ioat_reset(own, 0x100000 + 2048);
		*chain = (struct ioat_descriptor){
			.size = 4, .control = IOAT_COMPLETION, .src = src, .dst = 0x101000};
		status = ioat_run(own, 0x100000, 1);
		CHECK(status == IOAT_DONE || status == IOAT_HALTED);
		ioat_reset(own, 0x100000 + 2048);
		*chain = (struct ioat_descriptor){
			.size = 4, .control = IOAT_COMPLETION, .src = 0x101000, .dst = src + 4};
		status = ioat_run(own, 0x100000, 1);
		CHECK(status == IOAT_DONE || status == IOAT_HALTED);
	}
	ioat_reset(own, 0x100000 + 2048);
	*chain = (struct ioat_descriptor){.control = IOAT_NULL | IOAT_COMPLETION};
	CHECK_EQ(ioat_run(own, 0x100000, 1), IOAT_DONE);
	CHECK_EQ(client_unmap(c->container, 0x80000000, 1 << 20, 0), 1 << 20);
	CHECK_EQ(client_unmap(c->container, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL), 4 * PAGE);
	munmap(memory, 3 * PAGE);
	munmap((void *)own, 4 * PAGE);
	munmap((void *)peer, 1 << 20);
}

static void test_kvm_and_features(struct client *c)
{
	struct vfio_device_feature probe = {.argsz = sizeof(probe),
					    .flags = VFIO_DEVICE_FEATURE_PROBE |
						     VFIO_DEVICE_FEATURE_GET | 1};
	struct vfio_pci_hot_reset_info reset = {.argsz = sizeof(reset)};

	CHECK_EQ(call(c->device, VFIO_DEVICE_FEATURE, &probe), -ENOTTY);
	/* On the root bus there is no bus to reset. */
	CHECK_EQ(call(c->device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &reset), -ENODEV);
}

int main(void)
{
	struct client edu, ioat;
	volatile uint8_t *bar;

	client_find(&edu, EDU, 0);
	open_as_qemu(&edu);
	test_config_edu(edu.device);
	client_command(edu.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	bar = client_bar(edu.device);
	test_both_ways(edu.device, bar);
	test_intx(edu.device, bar);
	test_msi(edu.device, bar);
	test_churn(edu.container);

	client_find(&ioat, IOAT, 0);
	open_as_qemu(&ioat);
	test_config_ioat(ioat.device);
	client_command(ioat.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	test_msix(&ioat);
	test_kvm_and_features(&ioat);
	test_peer(&ioat, edu.device);
	test_peer_registers(&ioat, edu.device);
	CHECK_EQ(call(ioat.device, VFIO_DEVICE_RESET, NULL), 0);
	client_close(&ioat);
	client_close(&edu);
	return client_done();
}
