/* SPDX-License-Identifier: MIT */
/*
 * container-table - what containers, groups and devices answer apart from mapping, row by row, as
 * Linux 7.2 does behind VT-d: extensions, GET_INFO with its chain at every argsz, group status, the
 * order of steps, and what a device says of its regions and interrupts.
 *
 * Arguments: the width of the IOMMU in bits, and what the machine is for: "whole" (an edu and an
 * ioat function, each in its own group), "edu" (the first of them: QEMU has one, so that this can
 * be asked of Linux itself), "shared" (two edu functions in one group, the second held by another
 * driver) or "limit" (an edu function, eight DMA entries).
 */
#include "client.h"

#include <fcntl.h>

static unsigned width;

/* ---- CHECK_EXTENSION ------------------------------------------------------------------------ */

enum { EXTENSIONS = 16 };

static void check_extensions(int container, const char *when, bool iommu_set)
{
	for (unsigned i = 0; i < EXTENSIONS; i++) {
		bool has = i == VFIO_TYPE1_IOMMU || i == VFIO_TYPE1v2_IOMMU ||
			   i == VFIO_UNMAP_ALL || (i == CLIENT_UPDATE_VADDR && iommu_set);

		CHECK_ROW(when, call_value(container, VFIO_CHECK_EXTENSION, i), has);
	}
	CHECK_ROW(when, call_value(container, VFIO_CHECK_EXTENSION, -1ul), 0);
}

/* ---- GET_INFO ------------------------------------------------------------------------------- */

/* The whole answer, chain included, as it must lie in memory. */
struct whole_info {
	struct {
		uint32_t argsz, flags;
		uint64_t pgsizes;
		uint32_t cap_offset, pad;
	} info;
	struct {
		struct vfio_info_cap_header header;
		uint32_t flags, pad;
		uint64_t pgsize, max_bitmap;
	} migration;
	struct {
		struct vfio_info_cap_header header;
		uint32_t avail, pad;
	} dma;
	struct {
		struct vfio_info_cap_header header;
		uint32_t count, reserved;
		uint64_t ranges[4];
	} iova;
};

_Static_assert(sizeof(struct whole_info) == 120, "the size Linux asks for with two ranges");
_Static_assert(offsetof(struct whole_info, migration) == 24, "first in the chain");
_Static_assert(offsetof(struct whole_info, dma) == 56, "second");
_Static_assert(offsetof(struct whole_info, iova) == 72, "third");

static struct whole_info expected_info(uint32_t argsz, uint32_t avail)
{
	struct whole_info e = {
		.info = {.argsz = argsz, .flags = 3, .pgsizes = 0x40201000, .cap_offset = 24},
		.migration = {.header = {.id = 2, .version = 1, .next = 56},
			      .pgsize = 0x1000,
			      .max_bitmap = 0x10000000},
		.dma = {.header = {.id = 3, .version = 1, .next = 72}, .avail = avail},
		.iova = {.header = {.id = 1, .version = 1},
			 .count = 2,
			 .ranges = {0, 0xfedfffff, 0xfef00000, (UINT64_C(1) << width) - 1}},
	};

	return e;
}

/* GET_INFO with @argsz; what it leaves in memory must be @expect, then untouched bytes. */
static void check_info(int container, const char *name, uint32_t argsz, int ret, const void *expect,
		       size_t len)
{
	_Alignas(8) uint8_t got[4096], want[4096];

	memset(got, 0xa5, sizeof(got));
	memset(want, 0xa5, sizeof(want));
	memcpy(got, &argsz, sizeof(argsz));
	memcpy(want, &argsz, sizeof(argsz));
	memcpy(want, expect, len);
	CHECK_ROW(name, call(container, VFIO_IOMMU_GET_INFO, got), ret);
	check_bytes(__FILE__, __LINE__, name, got, want, sizeof(got));
}

static void test_info(int container, uint32_t avail)
{
	struct whole_info e = expected_info(120, avail), longer = expected_info(4096, avail);
	struct whole_info longest = expected_info(UINT32_MAX, avail);

	check_info(container, "argsz 0", 0, -EINVAL, NULL, 0);
	check_info(container, "argsz 8", 8, -EINVAL, NULL, 0);
	check_info(container, "argsz 15", 15, -EINVAL, NULL, 0);
	check_info(container, "argsz 120", 120, 0, &e, 120);
	check_info(container, "argsz 4096", 4096, 0, &longer, 120);
	check_info(container, "argsz 2^32 - 1", UINT32_MAX, 0, &longest, 120);
	e.info.cap_offset = 0; /* no room for the chain: the size that it takes instead */
	check_info(container, "argsz 16", 16, 0, &e, 16);
	check_info(container, "argsz 20", 20, 0, &e, 20);
	check_info(container, "argsz 24", 24, 0, &e, 24);
	check_info(container, "argsz 119", 119, 0, &e, 24);
}

/* ---- groups and the order of steps ------------------------------------------------------------
 */

static void check_status(int group, uint32_t flags)
{
	struct vfio_group_status status = {.argsz = sizeof(status), .flags = 0xffffffff};

	CHECK_EQ(call(group, VFIO_GROUP_GET_STATUS, &status), 0);
	CHECK_EQ(status.argsz, sizeof(status));
	CHECK_EQ(status.flags, flags);
	status.argsz = 7;
	status.flags = 0xffffffff;
	CHECK_EQ(call(group, VFIO_GROUP_GET_STATUS, &status), -EINVAL);
	CHECK_EQ(status.flags, 0xffffffff);
}

static void test_no_group(int container)
{
	CHECK_EQ(call(container, VFIO_GET_API_VERSION, NULL), 0);
	check_extensions(container, "without a group", false);
	CHECK_EQ(call_value(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), -EINVAL);
	CHECK_EQ(call_value(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), -EINVAL);
	CHECK_EQ(call_value(container, VFIO_SET_IOMMU, 99), -EINVAL);
	CHECK_EQ(client_map(container, 0, NULL, PAGE, RW), -EINVAL);
	CHECK_EQ(client_unmap(container, 0, PAGE, 0), -EINVAL);
	CHECK_EQ(call(container, VFIO_IOMMU_GET_INFO, NULL), -EINVAL);
	CHECK_EQ(call(container, VFIO_IOMMU_DIRTY_PAGES, NULL), -EINVAL);
	CHECK_EQ(call(container, VFIO_GROUP_GET_STATUS, NULL), -EINVAL);
}

static void test_set_container(struct client *c)
{
	int other = open("/dev/null", O_RDWR | O_CLOEXEC), closed = dup(other), minus = -1;

	REQUIRE(other >= 0 && closed >= 0);
	close(closed);
	CHECK_EQ(call(c->group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EINVAL);
	CHECK_EQ(call(c->group, VFIO_GROUP_GET_DEVICE_FD, c->bdf), -EINVAL);
	CHECK_EQ(call(c->group, VFIO_GROUP_SET_CONTAINER, &closed), -EBADF);
	CHECK_EQ(call(c->group, VFIO_GROUP_SET_CONTAINER, &minus), -EBADF);
	CHECK_EQ(call(c->group, VFIO_GROUP_SET_CONTAINER, &other), -EBADFD);
	CHECK_EQ(call(c->group, VFIO_GROUP_SET_CONTAINER, &c->group), -EBADFD);
	check_status(c->group, VFIO_GROUP_FLAGS_VIABLE);
	CHECK_EQ(call(c->group, VFIO_GROUP_SET_CONTAINER, &c->container), 0);
	check_status(c->group, VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
	CHECK_EQ(call(c->group, VFIO_GROUP_SET_CONTAINER, &c->container), -EINVAL);
	close(other);
}

static void test_set_iommu(struct client *c, int type)
{
	static const unsigned unknown[] = {0, 2, 4, 5, 6, 7, 8, 10, 99, -1u};

	check_extensions(c->container, "with a group", false);
	CHECK_EQ(call(c->group, VFIO_GROUP_GET_DEVICE_FD, c->bdf), -EINVAL);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, unknown[i]), -ENODEV);
	CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, VFIO_UNMAP_ALL), -EINVAL);
	CHECK_EQ(client_map(c->container, 0, NULL, PAGE, RW), -EINVAL);
	CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, type), 0);
	CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, type), -EINVAL);
	CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, 99), -EINVAL);
	check_extensions(c->container, "with the IOMMU set", true);
	CHECK_EQ(call(c->container, _IO(VFIO_TYPE, VFIO_BASE + 99), NULL), -ENOTTY);
	CHECK_EQ(call(c->group, VFIO_IOMMU_MAP_DMA, NULL), -ENOTTY);
}

static void test_device_fd(struct client *c)
{
	char longer[PAGE];

	CHECK_EQ(call(c->group, VFIO_GROUP_GET_DEVICE_FD, "0000:ff:1f.7"), -ENODEV);
	CHECK_EQ(call(c->group, VFIO_GROUP_GET_DEVICE_FD, ""), -ENODEV);
	snprintf(longer, sizeof(longer), "%s0", c->bdf);
	CHECK_EQ(call(c->group, VFIO_GROUP_GET_DEVICE_FD, longer), -ENODEV);
	memset(longer, 'x', sizeof(longer));
	CHECK_EQ(call(c->group, VFIO_GROUP_GET_DEVICE_FD, longer), -EINVAL); /* no end to it */
	client_open_device(c);
	CHECK_EQ(fcntl(c->device, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(call(c->device, VFIO_IOMMU_GET_INFO, NULL), -EFAULT); /* GET_PCI_HOT_RESET_INFO */
	CHECK_EQ(call(c->group, VFIO_GROUP_UNSET_CONTAINER, NULL), -EBUSY);
	check_status(c->group, VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET);
	close(c->device);
	c->device = -1;
}

/* The last group leaves: mappings and IOMMU go, the container is as new. */
static void test_unset(struct client *c, void *memory)
{
	CHECK_EQ(client_map(c->container, 0, memory, PAGE, RW), 0);
	CHECK_EQ(call(c->group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
	check_status(c->group, VFIO_GROUP_FLAGS_VIABLE);
	check_extensions(c->container, "group gone", false);
	CHECK_EQ(client_map(c->container, 0, memory, PAGE, RW), -EINVAL);
	CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), -EINVAL);
	CHECK_EQ(call(c->group, VFIO_GROUP_SET_CONTAINER, &c->container), 0);
	CHECK_EQ(call_value(c->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	CHECK_EQ(client_unmap(c->container, 0, PAGE, 0), 0);
	CHECK_EQ(client_dma_avail(c->container), 65535);
}

static void test_container(int type)
{
	void *memory = client_pages(1);
	struct client c;

	client_find(&c, EDU, 0);
	c.container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	REQUIRE(c.container >= 0);
	test_no_group(c.container);
	c.group = open(c.group_path, O_RDWR | O_CLOEXEC);
	REQUIRE(c.group >= 0);
	CHECK(open(c.group_path, O_RDWR | O_CLOEXEC) < 0 && errno == EBUSY);
	check_status(c.group, VFIO_GROUP_FLAGS_VIABLE);
	test_set_container(&c);
	test_set_iommu(&c, type);
	test_info(c.container, 65535);
	CHECK_EQ(client_map(c.container, 0, memory, PAGE, RW), 0);
	test_info(c.container, 65534);
	CHECK_EQ(client_unmap(c.container, 0, PAGE, 0), PAGE);
	test_info(c.container, 65535);
	test_device_fd(&c);
	test_unset(&c, memory);
	client_close(&c);
	munmap(memory, 2 * PAGE);
}

/* Two groups in one container: one address space, which lives until the last of them leaves. */
static void test_two_groups(void)
{
	void *memory = client_pages(1);
	struct client edu, ioat;

	client_find(&edu, EDU, 0);
	client_find(&ioat, IOAT, 0);
	client_open(&edu, VFIO_TYPE1v2_IOMMU);
	CHECK_EQ(client_map(edu.container, 0, memory, PAGE, RW), 0);
	ioat.group = open(ioat.group_path, O_RDWR | O_CLOEXEC);
	REQUIRE(ioat.group >= 0);
	CHECK_EQ(call(ioat.group, VFIO_GROUP_SET_CONTAINER, &edu.container), 0);
	CHECK_EQ(call_value(edu.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), -EINVAL);
	CHECK_EQ(call(edu.group, VFIO_GROUP_GET_DEVICE_FD, ioat.bdf), -ENODEV);
	CHECK_EQ(call(edu.group, VFIO_GROUP_UNSET_CONTAINER, NULL), 0);
	CHECK_EQ(client_dma_avail(edu.container), 65534);
	client_open_device(&ioat);
	client_close(&ioat);
	CHECK_EQ(client_map(edu.container, PAGE, memory, PAGE, RW), -EINVAL);
	client_close(&edu);
	munmap(memory, 2 * PAGE);
}

/* ---- devices ----------------------------------------------------------------------------------
 */

static void check_region(int device, unsigned index, uint64_t size, uint32_t flags, unsigned cap)
{
	struct {
		struct vfio_region_info info;
		uint8_t room[256];
	} u = {.info = {.argsz = sizeof(u), .index = index}};
	struct vfio_info_cap_header *header = (void *)((char *)&u + sizeof(u.info));

	CHECK_EQ(call(device, VFIO_DEVICE_GET_REGION_INFO, &u), 0);
	CHECK_EQ(u.info.argsz, sizeof(u));
	CHECK_EQ(u.info.index, index);
	CHECK_EQ(u.info.flags, flags);
	CHECK_EQ(u.info.size, size);
	CHECK_EQ(u.info.offset, (uint64_t)index << 40);
	CHECK_EQ(u.info.cap_offset, cap ? sizeof(u.info) : 0);
	if (!cap)
		return;
	CHECK_EQ(header->id, cap);
	CHECK_EQ(header->version, 1);
	CHECK_EQ(header->next, 0);
	/* Without room for it: the size it takes, and no offset. */
	u.info = (struct vfio_region_info){.argsz = sizeof(u.info), .index = index};
	CHECK_EQ(call(device, VFIO_DEVICE_GET_REGION_INFO, &u), 0);
	CHECK_EQ(u.info.argsz, sizeof(u.info) + sizeof(*header));
	CHECK_EQ(u.info.flags, flags);
	CHECK_EQ(u.info.cap_offset, 0);
	u.info = (struct vfio_region_info){.argsz = sizeof(u.info) - 1, .index = index};
	CHECK_EQ(call(device, VFIO_DEVICE_GET_REGION_INFO, &u), -EINVAL);
}

static void check_irq(int device, unsigned index, int ret, uint32_t flags, uint32_t count)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = index};

	CHECK_EQ(call(device, VFIO_DEVICE_GET_IRQ_INFO, &info), ret);
	CHECK_EQ(info.argsz, sizeof(info));
	CHECK_EQ(info.index, index);
	CHECK_EQ(info.flags, flags);
	CHECK_EQ(info.count, count);
	info.argsz--;
	CHECK_EQ(call(device, VFIO_DEVICE_GET_IRQ_INFO, &info), -EINVAL);
}

static void check_device(int device, uint32_t flags)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};

	CHECK_EQ(call(device, VFIO_DEVICE_GET_INFO, &info), 0);
	CHECK_EQ(info.flags, flags);
	CHECK_EQ(info.num_regions, VFIO_PCI_NUM_REGIONS);
	CHECK_EQ(info.num_irqs, VFIO_PCI_NUM_IRQS);
	info = (struct vfio_device_info){.argsz = 16};
	CHECK_EQ(call(device, VFIO_DEVICE_GET_INFO, &info), 0);
	CHECK_EQ(info.num_irqs, VFIO_PCI_NUM_IRQS);
	info.argsz = 15;
	CHECK_EQ(call(device, VFIO_DEVICE_GET_INFO, &info), -EINVAL);
	CHECK_EQ(call(device, _IO(VFIO_TYPE, VFIO_BASE + 99), NULL), -ENOTTY);
}

enum {
	CONFIG_FLAGS = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
	BAR_FLAGS = CONFIG_FLAGS | VFIO_REGION_INFO_FLAG_MMAP,
	INTX_FLAGS = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED,
	MSI_FLAGS = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
};

/* Conventional PCI: no reset, no error interrupt, one MSI. */
static void test_edu(void)
{
	struct vfio_region_info vga = {.argsz = sizeof(vga), .index = VFIO_PCI_VGA_REGION_INDEX};
	struct client c;

	client_find(&c, EDU, 0);
	client_open(&c, VFIO_TYPE1v2_IOMMU);
	client_open_device(&c);
	check_device(c.device, VFIO_DEVICE_FLAGS_PCI);
	check_region(c.device, 0, 1 << 20, BAR_FLAGS, 0);
	for (unsigned i = 1; i < VFIO_PCI_CONFIG_REGION_INDEX; i++)
		check_region(c.device, i, 0, 0, 0);
	check_region(c.device, VFIO_PCI_CONFIG_REGION_INDEX, 256, CONFIG_FLAGS, 0);
	CHECK_EQ(call(c.device, VFIO_DEVICE_GET_REGION_INFO, &vga), -EINVAL);
	vga.index = 9;
	CHECK_EQ(call(c.device, VFIO_DEVICE_GET_REGION_INFO, &vga), -EINVAL);
	check_irq(c.device, VFIO_PCI_INTX_IRQ_INDEX, 0, INTX_FLAGS, 1);
	check_irq(c.device, VFIO_PCI_MSI_IRQ_INDEX, 0, MSI_FLAGS, 1);
	check_irq(c.device, VFIO_PCI_MSIX_IRQ_INDEX, 0, MSI_FLAGS, 0);
	check_irq(c.device, VFIO_PCI_ERR_IRQ_INDEX, -EINVAL, 0, 0);
	check_irq(c.device, VFIO_PCI_REQ_IRQ_INDEX, 0, MSI_FLAGS, 1);
	check_irq(c.device, VFIO_PCI_NUM_IRQS, -EINVAL, 0, 0);
	CHECK_EQ(call(c.device, VFIO_DEVICE_RESET, NULL), -EINVAL);
	client_close(&c);
}

/* PCI Express: function-level reset, the error interrupt, MSI-X in a BAR that can be mapped. */
static void test_ioat(void)
{
	struct client c;

	client_find(&c, IOAT, 0);
	client_open(&c, VFIO_TYPE1v2_IOMMU);
	client_open_device(&c);
	check_device(c.device, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
	check_region(c.device, 0, 16384, BAR_FLAGS | VFIO_REGION_INFO_FLAG_CAPS,
		     VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
	check_region(c.device, VFIO_PCI_CONFIG_REGION_INDEX, 4096, CONFIG_FLAGS, 0);
	check_irq(c.device, VFIO_PCI_MSIX_IRQ_INDEX, 0, VFIO_IRQ_INFO_EVENTFD, 1);
	check_irq(c.device, VFIO_PCI_ERR_IRQ_INDEX, 0, MSI_FLAGS, 1);
	check_irq(c.device, VFIO_PCI_REQ_IRQ_INDEX, 0, MSI_FLAGS, 1);
	CHECK_EQ(call(c.device, VFIO_DEVICE_RESET, NULL), 0);
	client_close(&c);
}

/* A sibling that another driver holds: the group is not viable. */
static void test_not_viable(void)
{
	struct client c;

	client_find(&c, EDU, 0);
	c.container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	c.group = open(c.group_path, O_RDWR | O_CLOEXEC);
	REQUIRE(c.container >= 0 && c.group >= 0);
	check_status(c.group, 0);
	CHECK_EQ(call(c.group, VFIO_GROUP_SET_CONTAINER, &c.container), -EPERM);
	check_status(c.group, 0);
	CHECK_EQ(call_value(c.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), -EINVAL);
	CHECK_EQ(call(c.group, VFIO_GROUP_GET_DEVICE_FD, c.bdf), -EINVAL);
	client_close(&c);
}

/* The entries run out: ENOSPC, before the IOVA list is asked, and one given back is one more. */
static void test_limit(int type)
{
	enum { LIMIT = 8 };
	void *memory = client_pages(1);
	struct client c;

	client_find(&c, EDU, 0);
	client_open(&c, type);
	for (unsigned i = 0; i < LIMIT; i++) {
		CHECK_EQ(client_dma_avail(c.container), LIMIT - i);
		CHECK_EQ(client_map(c.container, i * PAGE, memory, PAGE, RW), 0);
	}
	CHECK_EQ(client_dma_avail(c.container), 0);
	CHECK_EQ(client_map(c.container, LIMIT * PAGE, memory, PAGE, RW), -ENOSPC);
	CHECK_EQ(client_map(c.container, 0xfee00000, memory, PAGE, RW), -ENOSPC);
	CHECK_EQ(client_map(c.container, 0, memory, PAGE, RW), -EEXIST);
	CHECK_EQ(client_map(c.container, LIMIT * PAGE, memory, 0, RW), -EINVAL);
	CHECK_EQ(client_unmap(c.container, 3 * PAGE, PAGE, 0), PAGE);
	CHECK_EQ(client_map(c.container, LIMIT * PAGE, memory, PAGE, RW), 0);
	CHECK_EQ(client_map(c.container, 3 * PAGE, memory, PAGE, RW), -ENOSPC);
	client_close(&c);
	munmap(memory, 2 * PAGE);
}

int main(int argc, char **argv)
{
	REQUIRE(argc == 3);
	width = strtoul(argv[1], NULL, 10);
	REQUIRE(width > 32 && width < 64);
	if (!strcmp(argv[2], "whole") || !strcmp(argv[2], "edu")) {
		test_container(VFIO_TYPE1_IOMMU);
		test_container(VFIO_TYPE1v2_IOMMU);
		test_edu();
		if (!strcmp(argv[2], "whole")) {
			test_two_groups();
			test_ioat();
		}
	} else if (!strcmp(argv[2], "shared")) {
		test_not_viable();
	} else {
		REQUIRE(!strcmp(argv[2], "limit"));
		test_limit(VFIO_TYPE1_IOMMU);
		test_limit(VFIO_TYPE1v2_IOMMU);
	}
	return client_done();
}
