/* SPDX-License-Identifier: MIT */
/*
 * qemu-iommufd - the calls that QEMU (8.2 and later) makes for `-object iommufd` and
 * `vfio-pci,iommufd=`: nodes found by sysfs and known by their device numbers, two devices in one
 * address space by page tables that track what is written where the hardware can, guest RAM mapped
 * in sections and unmapped twice, its own BAR as a source, interrupts, bus resets by the devices'
 * numbers, and everything taken down in its order.
 *
 *   qemu-iommufd root|bus [dirty]     where the devices are; whether writes can be tracked
 */
#include "iommufd.h"

enum { TRIGGER = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER };
enum { DISABLE = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER };
enum {
	READ_ONLY = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
	READ_WRITE = READ_ONLY | IOMMU_IOAS_MAP_WRITEABLE,
};

/* Guest RAM as a PC has it: below the VGA's window, the BIOS, and the rest; all outside of what
 * any platform keeps to itself below 128 MiB. */
static const struct section {
	uint64_t first, pages;
	uint32_t flags;
} sections[] = {{0, 160, READ_WRITE}, {0xc0000, 64, READ_ONLY}, {0x100000, 768, READ_WRITE}};
enum { SECTIONS = sizeof(sections) / sizeof(sections[0]), RAM_PAGES = 1024 };

/* Where the engine finds what, in guest addresses. */
enum { RING = 0x101000, COMPLETION = 0x102000, SOURCE = 0x200000, TARGET = 0x240000 };

struct device {
	char bdf[64];
	int fd;
	uint32_t id, hwpt;
};

struct machine {
	int iommufd;
	uint32_t ioas;
	uint8_t *ram;
	struct device ioat, edu;
	bool dirty;
};

static void open_device(struct machine *m, struct device *d, unsigned vendor, unsigned id)
{
	struct client c;
	uint32_t again;

	client_find(&c, vendor, id, 0);
	memcpy(d->bdf, c.bdf, sizeof(d->bdf));
	d->fd = node_open(d->bdf);
	/* Nothing but the binding works before. */
	CHECK_EQ(call(d->fd, VFIO_DEVICE_GET_INFO,
		      &(struct vfio_device_info){.argsz = sizeof(struct vfio_device_info)}),
		 -EINVAL);
	if (m->iommufd < 0)
		m->iommufd = open("/dev/iommu", O_RDWR);
	REQUIRE(m->iommufd >= 0);
	CHECK_EQ(node_bind(d->fd, m->iommufd, &d->id), 0);
	CHECK_EQ(node_bind(d->fd, m->iommufd, &again), -EINVAL);
}

/* What the IOMMU can do for this device. */
static uint64_t capabilities(struct machine *m, const struct device *d)
{
	uint8_t data[64];
	struct iommu_hw_info info = {.size = sizeof(info),
				     .dev_id = d->id,
				     .data_len = sizeof(data),
				     .data_uptr = (uintptr_t)data};

	memset(data, 0xff, sizeof(data));
	CHECK_EQ(call(m->iommufd, IOMMU_GET_HW_INFO, &info), 0);
	CHECK(info.data_len < sizeof(data));
	/* Behind what there is, it is cleared. */
	CHECK_EQ(data[sizeof(data) - 1], 0);
	return info.out_capabilities;
}

/* The page table of a device before, if it will do; else one for this device. */
static void attach(struct machine *m, struct device *d, const struct device *before)
{
	bool tracks = capabilities(m, d) & IOMMU_HW_CAP_DIRTY_TRACKING;

	CHECK_EQ(tracks, m->dirty);
	if (before && !node_attach(d->fd, before->hwpt)) {
		d->hwpt = before->hwpt;
		return;
	}
	CHECK(!before);
	if (!tracks)
		CHECK_EQ(hwpt_alloc(m->iommufd, d->id, m->ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
				    &d->hwpt),
			 -EOPNOTSUPP);
	CHECK_EQ(hwpt_alloc(m->iommufd, d->id, m->ioas,
			    tracks ? IOMMU_HWPT_ALLOC_DIRTY_TRACKING : 0, &d->hwpt),
		 0);
	CHECK_EQ(node_attach(d->fd, d->hwpt), 0);
	/* A page table in use stays, and so does its address space. */
	CHECK_EQ(iommu_destroy_id(m->iommufd, d->hwpt), -EBUSY);
	CHECK_EQ(iommu_destroy_id(m->iommufd, m->ioas), -EBUSY);
}

static void check_ranges(struct machine *m)
{
	struct iommu_iova_range *ranges;
	uint64_t alignment;
	uint32_t count;

	ranges = ioas_ranges(m->iommufd, m->ioas, &count, &alignment);
	CHECK_EQ(alignment, PAGE);
	CHECK_EQ(ranges[0].start, 0);
	CHECK(ranges[0].last >= 0x7ffffff);
	for (uint32_t i = 1; i < count; i++)
		CHECK(ranges[i].start > ranges[i - 1].last + 1 && ranges[i].last > ranges[i].start);
	free(ranges);
}

/* ---- guest RAM --------------------------------------------------------------------------------
 */

static void map_section(struct machine *m, const struct section *s)
{
	uint64_t iova = s->first;

	CHECK_EQ(ioas_map(m->iommufd, m->ioas, s->flags, m->ram + s->first, s->pages * PAGE, &iova),
		 0);
	CHECK_EQ(iova, s->first);
}

/* As a listener does it: mapped, some of it away and back again, and removed twice here and there,
 * which is an error here but none to QEMU. */
static void map_ram(struct machine *m)
{
	const struct section *last = &sections[SECTIONS - 1];
	uint64_t iova = last->first;

	for (unsigned i = 0; i < SECTIONS; i++)
		map_section(m, &sections[i]);
	CHECK_EQ(ioas_map(m->iommufd, m->ioas, READ_WRITE, m->ram, PAGE, &iova), -EEXIST);
	for (unsigned n = 0; n < 20; n++) {
		CHECK_EQ(ioas_unmap(m->iommufd, m->ioas, last->first, last->pages * PAGE),
			 (long long)(last->pages * PAGE));
		CHECK_EQ(ioas_unmap(m->iommufd, m->ioas, last->first, last->pages * PAGE), -ENOENT);
		map_section(m, last);
	}
	/* Half of a mapping. */
	CHECK_EQ(ioas_unmap(m->iommufd, m->ioas, last->first, PAGE), -ENOENT);
}

/* Its own mapping of a BAR, for peer-to-peer DMA: iommufd takes no such memory. */
static void map_bar(struct machine *m, volatile uint8_t *bar)
{
	uint64_t iova = 0x4000000;

	CHECK_EQ(ioas_map(m->iommufd, m->ioas, READ_WRITE, bar, PAGE, &iova), -EFAULT);
	CHECK_EQ(ioas_unmap(m->iommufd, m->ioas, iova, PAGE), -ENOENT);
}

/* ---- devices at work --------------------------------------------------------------------------
 */

static int run_engine(struct machine *m, volatile uint8_t *bar, uint64_t source, uint64_t target)
{
	struct ioat_descriptor *d = (void *)(m->ram + RING);

	*d = (struct ioat_descriptor){.size = PAGE,
				      .control = IOAT_INTERRUPT | IOAT_COMPLETION,
				      .src = source,
				      .dst = target};
	ioat_reset(bar, COMPLETION);
	REG(bar, uint8_t, IOAT_INTRCTRL) = 1 | 8;
	return ioat_run(bar, RING, 1);
}

static void test_engine(struct machine *m, volatile uint8_t *bar)
{
	int event = client_eventfd();

	for (unsigned i = 0; i < PAGE; i++)
		m->ram[SOURCE + i] = (uint8_t)(i * 13 + i / 256);
	CHECK_EQ(client_irqs(m->ioat.fd, TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, &event), 0);
	CHECK_EQ(run_engine(m, bar, SOURCE, TARGET), IOAT_DONE);
	CHECK_EQ(client_wait_event(event), 1);
	check_bytes(__FILE__, __LINE__, "the copy", m->ram + TARGET, m->ram + SOURCE, PAGE);
	/* The BIOS can't be written, and above the RAM there is nothing. */
	CHECK_EQ(run_engine(m, bar, SOURCE, 0xc0000), IOAT_HALTED);
	CHECK_EQ(run_engine(m, bar, 0x4000000, TARGET), IOAT_HALTED);
	CHECK_EQ(client_irqs(m->ioat.fd, DISABLE, VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL), 0);
	close(event);
}

/* edu writes to the same RAM, by the same page table. */
static void edu_dma(volatile uint8_t *bar, uint64_t source, uint64_t target, uint32_t command)
{
	REG(bar, uint64_t, 0x80) = source;
	REG(bar, uint64_t, 0x88) = target;
	REG(bar, uint64_t, 0x90) = 64;
	REG(bar, uint64_t, 0x98) = command;
	for (unsigned i = 0; i < 10000 && REG(bar, uint32_t, 0x98) & 1; i++)
		usleep(1000);
}

static void test_edu(struct machine *m, volatile uint8_t *bar)
{
	const uint64_t buffer = 0x40000;

	edu_dma(bar, SOURCE, buffer, 1);
	edu_dma(bar, buffer, TARGET + PAGE, 3);
	check_bytes(__FILE__, __LINE__, "edu's copy", m->ram + TARGET + PAGE, m->ram + SOURCE, 64);
}

/* ---- dirty pages ------------------------------------------------------------------------------
 */

static int set_dirty(struct machine *m, bool on)
{
	struct iommu_hwpt_set_dirty_tracking set = {.size = sizeof(set),
						    .hwpt_id = m->ioat.hwpt,
						    .flags = on ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE
								: 0};

	return call(m->iommufd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set);
}

/* Of the last section, a bit a page. */
static void get_dirty(struct machine *m, uint64_t bits[12])
{
	const struct section *last = &sections[SECTIONS - 1];
	struct iommu_hwpt_get_dirty_bitmap get = {.size = sizeof(get),
						  .hwpt_id = m->ioat.hwpt,
						  .iova = last->first,
						  .length = last->pages * PAGE,
						  .page_size = PAGE,
						  .data = (uintptr_t)bits};

	memset(bits, 0, 12 * sizeof(*bits));
	CHECK_EQ(call(m->iommufd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get), m->dirty ? 0 : -EOPNOTSUPP);
}

static bool is_dirty(const uint64_t *bits, uint64_t addr)
{
	uint64_t page = (addr - sections[SECTIONS - 1].first) / PAGE;

	return bits[page / 64] >> page % 64 & 1;
}

static void test_dirty(struct machine *m, volatile uint8_t *bar)
{
	uint64_t bits[12];

	CHECK_EQ(set_dirty(m, true), m->dirty ? 0 : -EOPNOTSUPP);
	get_dirty(m, bits);
	if (!m->dirty)
		return;
	CHECK_EQ(run_engine(m, bar, SOURCE, TARGET), IOAT_DONE);
	get_dirty(m, bits);
	CHECK(is_dirty(bits, TARGET) && is_dirty(bits, COMPLETION));
	/* Told of once. */
	get_dirty(m, bits);
	CHECK(!is_dirty(bits, TARGET) && !is_dirty(bits, COMPLETION));
	CHECK_EQ(set_dirty(m, false), 0);
}

/* ---- resets -----------------------------------------------------------------------------------
 */

struct reset_info {
	struct vfio_pci_hot_reset_info head;
	struct vfio_pci_dependent_device devices[8];
};

/* The list is asked for as QEMU does: with no room, then with as much as that says. */
static void test_reset(struct machine *m, bool root, volatile uint8_t *bar)
{
	struct reset_info info = {.head = {.argsz = sizeof(info.head)}};
	struct vfio_pci_hot_reset reset = {.argsz = sizeof(reset)};
	int fd = m->ioat.fd;
	unsigned found = 0;

	if (root) {
		CHECK_EQ(call(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -ENODEV);
		CHECK_EQ(call(fd, VFIO_DEVICE_RESET, NULL), 0);
		return;
	}
	CHECK_EQ(call(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), -ENOSPC);
	CHECK_EQ(info.head.count, 2);
	info.head.argsz = sizeof(info.head) + 2 * sizeof(info.devices[0]);
	CHECK_EQ(call(fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &info), 0);
	CHECK_EQ(info.head.flags,
		 VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED);
	for (unsigned i = 0; i < info.head.count; i++)
		found += info.devices[i].group_id == m->ioat.id ||
			 info.devices[i].group_id == m->edu.id;
	CHECK_EQ(found, 2);
	/* No groups are shown: there is none to show. */
	REG(bar, uint64_t, IOAT_CHAINADDR) = RING;
	CHECK_EQ(call(fd, VFIO_DEVICE_PCI_HOT_RESET, &reset), 0);
	CHECK_EQ(REG(bar, uint64_t, IOAT_CHAINADDR), 0);
}

/* ---- up and down ------------------------------------------------------------------------------
 */

static void take_down(struct machine *m)
{
	for (unsigned i = 0; i < SECTIONS; i++)
		CHECK_EQ(ioas_unmap(m->iommufd, m->ioas, sections[i].first,
				    sections[i].pages * PAGE),
			 (long long)(sections[i].pages * PAGE));
	CHECK_EQ(node_detach(m->edu.fd), 0);
	close(m->edu.fd);
	CHECK_EQ(iommu_destroy_id(m->iommufd, m->ioat.hwpt), -EBUSY);
	CHECK_EQ(node_detach(m->ioat.fd), 0);
	CHECK_EQ(iommu_destroy_id(m->iommufd, m->ioat.hwpt), 0);
	CHECK_EQ(iommu_destroy_id(m->iommufd, m->ioas), 0);
	CHECK_EQ(iommu_destroy_id(m->iommufd, m->ioas), -ENOENT);
	/* QEMU closes its iommufd before the last device. */
	close(m->iommufd);
	close(m->ioat.fd);
}

static void run(struct machine *m, bool root)
{
	volatile uint8_t *ioat_bar, *edu_bar;
	uint64_t size;

	m->iommufd = -1;
	m->ram = client_pages(RAM_PAGES);
	open_device(m, &m->ioat, IOAT);
	m->ioas = ioas_alloc(m->iommufd);
	attach(m, &m->ioat, NULL);
	check_ranges(m);
	map_ram(m);
	open_device(m, &m->edu, EDU);
	attach(m, &m->edu, &m->ioat);
	client_command(m->ioat.fd, COMMAND_MEMORY | COMMAND_MASTER, 0);
	client_command(m->edu.fd, COMMAND_MEMORY | COMMAND_MASTER, 0);
	ioat_bar = client_bar(m->ioat.fd);
	edu_bar = client_bar(m->edu.fd);
	map_bar(m, edu_bar);
	test_engine(m, ioat_bar);
	test_edu(m, edu_bar);
	test_dirty(m, ioat_bar);
	test_reset(m, root, ioat_bar);
	size = client_region(m->ioat.fd, 0).size;
	munmap((void *)ioat_bar, size);
	size = client_region(m->edu.fd, 0).size;
	munmap((void *)edu_bar, size);
	take_down(m);
	munmap(m->ram, (RAM_PAGES + 1) * PAGE);
}

int main(int argc, char **argv)
{
	struct machine m = {0};

	REQUIRE(argc >= 2);
	m.dirty = argc > 2 && !strcmp(argv[2], "dirty");
	/* The machine is as good as new, and takes it again. */
	run(&m, !strcmp(argv[1], "root"));
	run(&m, !strcmp(argv[1], "root"));
	return client_done();
}
