/* SPDX-License-Identifier: MIT */
/*
 * virtio-iommu - a VMM's view of a virtio-iommu beside an edu, both in one container: the program
 * drives the virtio function through its registers and queues, with the tests' own driver, and has
 * the edu do DMA through two stages: its virtio domain, then the container. Faults come over the
 * event queue with an interrupt; bypass is switched on and off; the container's own mappings count
 * as ever; an edu in another container is none of the virtio-iommu's business. The edu's interrupts
 * arrive whatever stands in front of it.
 * Usage: virtio-iommu LAST [MSI_FIRST MSI_LAST], hexadecimal: the end of input_range, and where
 * PROBE says that interrupts go. Without it the program gives the container a place for doorbells,
 * and maps that in its virtio domains.
 */
#include "client.h"

#include "../virtio_driver.h"

#include <fcntl.h>
#include <poll.h>

#include <uiommu/linux/vfio_msi_2016.h>

#define VIRTIO_IOMMU 0x1af4, 0x1057
/* edu's addresses have 28 bits. Where the container has the queues, and what edu reaches directly.
 */
enum { QUEUES_AT = 0xa000000, LOW_AT = 0x100000, PAGES = 32 };
#define DATA_AT UINT64_C(0x4000000000) /* out of edu's own reach */

enum { OK, INVAL = 4, RANGE, NOENT };
enum { MAP_R = 1, MAP_W = 2 };

static struct client iommu, edu;
static volatile uint8_t *bars[5], *edu_bar;
static int events[3];
static struct vdrv driver;
static uint8_t *data;
static uint32_t endpoint;
static uint64_t input_last, msi_first, msi_last; /* as the arguments say */
static bool own_place;				 /* the program gives the doorbells' */
#define OWN_FIRST UINT64_C(0x6000000)
#define OWN_LAST  UINT64_C(0x600ffff)
static int edu_event;

/* ---- how the driver reaches the function ---- */

static uint32_t cfg_read(void *ctx, unsigned offset, unsigned len)
{
	uint64_t base = client_region(iommu.device, VFIO_PCI_CONFIG_REGION_INDEX).offset;
	uint32_t value = 0;

	REQUIRE(pread(iommu.device, &value, len, base + offset) == len);
	return value;
}

static void cfg_write(void *ctx, unsigned offset, unsigned len, uint32_t value)
{
	uint64_t base = client_region(iommu.device, VFIO_PCI_CONFIG_REGION_INDEX).offset;

	REQUIRE(pwrite(iommu.device, &value, len, base + offset) == len);
}

static uint64_t bar_read(void *ctx, unsigned bar, uint64_t offset, unsigned len)
{
	switch (len) {
	case 1:
		return REG(bars[bar], uint8_t, offset);
	case 2:
		return REG(bars[bar], uint16_t, offset);
	case 4:
		return REG(bars[bar], uint32_t, offset);
	default:
		return REG(bars[bar], uint64_t, offset);
	}
}

static void bar_write(void *ctx, unsigned bar, uint64_t offset, unsigned len, uint64_t value)
{
	switch (len) {
	case 1:
		REG(bars[bar], uint8_t, offset) = value;
		break;
	case 2:
		REG(bars[bar], uint16_t, offset) = value;
		break;
	case 4:
		REG(bars[bar], uint32_t, offset) = value;
		break;
	default:
		REG(bars[bar], uint64_t, offset) = value;
		break;
	}
}

/* Used buffers come with an interrupt, on the vector of their queue. */
static bool wait_used(void *ctx, const uint16_t *idx, uint16_t old)
{
	unsigned queue = idx == &driver.mem->queue[1].used.idx;

	while (__atomic_load_n(idx, __ATOMIC_ACQUIRE) == old)
		if (!client_wait_event(events[1 + queue]))
			return false;
	return true;
}

static const struct vdrv_ops ops = {cfg_read, cfg_write, bar_read, bar_write, wait_used};

static void *map_bar(int device, unsigned index)
{
	struct vfio_region_info info = client_region(device, index);
	void *bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, info.offset);

	REQUIRE(bar != MAP_FAILED);
	return bar;
}

/* ---- edu ---- */

static void edu_dma(uint64_t src, uint64_t dst, uint64_t len, uint64_t cmd)
{
	REG(edu_bar, uint64_t, 0x80) = src;
	REG(edu_bar, uint64_t, 0x88) = dst;
	REG(edu_bar, uint64_t, 0x90) = len;
	REG(edu_bar, uint64_t, 0x98) = cmd;
	for (unsigned i = 0; REG(edu_bar, uint64_t, 0x98) & 1 && i < 100000; i++)
		usleep(100);
	CHECK_EQ(REG(edu_bar, uint64_t, 0x98) & 1, 0);
}

/* Do bytes put at @src come out at @dst if edu takes them from one address to another? */
static bool edu_copies(uint64_t from, uint64_t to, uint8_t *src, uint8_t *dst)
{
	static uint8_t mark;

	mark += 2;
	memset(src, mark | 1, 64);
	memset(dst, 0, 64);
	edu_dma(from, 0x40000, 64, 1);
	edu_dma(0x40000, to, 64, 3);
	return dst[0] == (mark | 1) && dst[63] == (mark | 1);
}

static void edu_open(int container)
{
	edu.container = container;
	edu.group = open(edu.group_path, O_RDWR | O_CLOEXEC);
	REQUIRE(edu.group >= 0);
	REQUIRE(call(edu.group, VFIO_GROUP_SET_CONTAINER, &edu.container) == 0);
	if (container != iommu.container)
		REQUIRE(call_value(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
	client_open_device(&edu);
	client_command(edu.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	edu_bar = client_bar(edu.device);
	REQUIRE(client_irqs(edu.device, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			    VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &edu_event) == 0);
}

static bool edu_interrupts(void)
{
	bool came;

	REG(edu_bar, uint32_t, 0x60) = 1;
	came = client_wait_event(edu_event) == 1;
	REG(edu_bar, uint32_t, 0x64) = 1;
	return came;
}

static void edu_close(void)
{
	munmap((void *)edu_bar, client_region(edu.device, 0).size);
	CHECK_EQ(close(edu.device), 0);
	CHECK_EQ(close(edu.group), 0);
	edu.device = edu.group = edu.container = -1;
}

/* ---- set-up ---- */

static void iommu_open(void)
{
	client_open_device(&iommu);
	client_command(iommu.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	for (unsigned i = 0; i < 5; i += 2)
		bars[i] = map_bar(iommu.device, i);
	for (unsigned i = 0; i < 3; i++)
		events[i] = client_eventfd();
	REQUIRE(client_irqs(iommu.device, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			    VFIO_PCI_MSIX_IRQ_INDEX, 0, 3, events) == 0);
	driver = (struct vdrv){.ops = &ops, .mem = driver.mem, .iova = QUEUES_AT};
	REQUIRE(vd_find(&driver) == 5);
	CHECK_EQ(vd_negotiate(&driver, VD_F_VERSION_1 | VD_F_PLATFORM | VD_F_EVENT_IDX |
					       VD_F_INDIRECT | 0x77),
		 11);
	vd_queue(&driver, 0, 1, true);
	vd_queue(&driver, 1, 2, true);
	vd_go(&driver);
	CHECK_EQ(vd_status(&driver), 15);
}

/* A buffer for the next fault. Reports that had none are dropped by the worker in its own time, but
 * before it takes up a request that comes after one that came after them. */
static void offer_event(void)
{
	struct vd_queue_memory *m = &driver.mem->queue[1];

	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(vd_detach(&driver, 77, endpoint), INVAL);

	m->desc[0] = (struct vd_desc){vd_iova(&driver, m->buffer), 24, VD_WRITE, 0};
	vd_offer(&driver, 1, 0);
}

static void check_event(uint8_t reason, uint32_t flags, uint64_t address)
{
	const uint8_t *report = driver.mem->queue[1].buffer;
	uint32_t id, words[3];
	uint64_t at;

	CHECK_EQ(vd_take(&driver, 1, &id), 24);
	memcpy(words, report, sizeof(words));
	memcpy(&at, report + 16, sizeof(at));
	CHECK_EQ(words[0], reason);
	CHECK_EQ(words[1], flags);
	CHECK_EQ(words[2], endpoint);
	CHECK_EQ(at, address);
}

/* ---- tests ---- */

static void test_limits(void)
{
	CHECK_EQ(vd_get(&driver, VD_DEVICE, 0, 4) & 0x201000, 0x201000);
	CHECK_EQ(vd_get(&driver, VD_DEVICE, 8, 8), 0);
	CHECK_EQ(vd_get(&driver, VD_DEVICE, 16, 8), input_last);
	CHECK_EQ(vd_attach(&driver, 3, endpoint, 0), OK);
	CHECK_EQ(vd_map(&driver, 3, input_last - 0xfff, input_last, DATA_AT, MAP_R), OK);
	if (input_last != UINT64_MAX)
		CHECK_EQ(vd_map(&driver, 3, input_last + 1, input_last + PAGE, DATA_AT, MAP_R),
			 RANGE);
	CHECK_EQ(vd_detach(&driver, 3, endpoint), OK);
}

/* Nobody has told the device: the driver maps the page that it gave, as it would memory. */
static void test_own_place(void)
{
	CHECK(edu_interrupts());
	CHECK_EQ(vd_attach(&driver, 1, endpoint, 0), OK);
	CHECK_EQ(vd_map(&driver, 1, OWN_FIRST, OWN_LAST, OWN_FIRST, MAP_W), OK);
	CHECK(edu_interrupts());
	CHECK_EQ(vd_detach(&driver, 1, endpoint), OK);
	CHECK(edu_interrupts());
}

static void give_place(void)
{
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
					       .flags = VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA,
					       .iova = OWN_FIRST,
					       .size = OWN_LAST - OWN_FIRST + 1};

	CHECK_EQ(call(iommu.container, VFIO_IOMMU_MAP_DMA, &map), 0);
}

/* With a domain in which nothing is mapped, with one that passes all, without one and a wall. */
static void test_interrupts(void)
{
	CHECK(edu_interrupts());
	CHECK_EQ(vd_attach(&driver, 1, endpoint, 0), OK);
	CHECK(edu_interrupts());
	CHECK_EQ(vd_map(&driver, 1, msi_first, msi_first + 0xfff, DATA_AT, MAP_R | MAP_W), INVAL);
	CHECK_EQ(vd_map(&driver, 1, 0x3000, 0x3fff, DATA_AT, MAP_R), OK);
	edu_dma(0x3000, 0x40000, 64, 1);
	CHECK(edu_interrupts());
	CHECK_EQ(vd_detach(&driver, 1, endpoint), OK);
	vd_set(&driver, VD_DEVICE, 36, 1, 0);
	CHECK(!edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	CHECK(edu_interrupts());
	CHECK_EQ(vd_attach(&driver, 9, endpoint, 1), OK);
	CHECK(edu_interrupts());
	CHECK_EQ(vd_detach(&driver, 9, endpoint), OK);
	vd_set(&driver, VD_DEVICE, 36, 1, 1);
}

static void test_probe(void)
{
	uint32_t request[18] = {5, endpoint}, words[17];
	uint64_t first, last;

	CHECK_EQ(vd_request(&driver, request, 72, words, 68, 30, true), 68);
	CHECK_EQ(words[16], OK);
	if (own_place) {
		CHECK_EQ(words[0], 0);
	} else {
		CHECK_EQ(words[0], 20 << 16 | 1);
		CHECK_EQ(words[1], 1); /* where interrupts go */
		memcpy(&first, &words[2], 8);
		memcpy(&last, &words[4], 8);
		CHECK_EQ(first, msi_first);
		CHECK_EQ(last, msi_last);
	}
	request[1] = 0x7777;
	CHECK_EQ(vd_request(&driver, request, 72, words, 68, 20, false), 68);
	CHECK_EQ(words[16], NOENT);
}

static void test_two_stages(void)
{
	uint8_t *from = data, *to = data + PAGE;

	CHECK(!edu_copies(0x3000, 0x5000, from, to));
	CHECK_EQ(vd_attach(&driver, 1, endpoint, 0), OK);
	CHECK_EQ(vd_map(&driver, 1, 0x3000, 0x3fff, DATA_AT, MAP_R), OK);
	CHECK_EQ(vd_map(&driver, 1, 0x5000, 0x5fff, DATA_AT + PAGE, MAP_R | MAP_W), OK);
	CHECK(edu_copies(0x3000, 0x5000, from, to));
	CHECK(edu_copies(0x3fc0, 0x5fc0, from + 0xfc0, to + 0xfc0));
	CHECK_EQ(vd_map(&driver, 1, 0x3000, 0x3fff, DATA_AT, MAP_R), INVAL);
	/* What the container maps for everyone is not there behind the virtio domain's back. */
	CHECK(!edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	offer_event();
	CHECK(!edu_copies(0x5000, 0x3000, to, from));
	check_event(2, 0x102, 0x3000);
	CHECK_EQ(vd_unmap(&driver, 1, 0x3000, 0x3fff), OK);
	offer_event();
	edu_dma(0x3010, 0x40000, 4, 1);
	check_event(2, 0x101, 0x3010);
	CHECK_EQ(vd_map(&driver, 1, 0x3000, 0x3fff, DATA_AT, MAP_R), OK);
	/* The container's part is its own: gone there, gone here, and back. */
	CHECK_EQ(client_unmap(iommu.container, DATA_AT, PAGES * PAGE, 0), PAGES * PAGE);
	CHECK(!edu_copies(0x3000, 0x5000, from, to));
	CHECK_EQ(client_map(iommu.container, DATA_AT, data, PAGES * PAGE, RW), 0);
	CHECK(edu_copies(0x3000, 0x5000, from, to));
}

static void test_bypass(void)
{
	CHECK_EQ(vd_detach(&driver, 1, endpoint), OK);
	CHECK_EQ(vd_get(&driver, VD_DEVICE, 36, 1), 1);
	CHECK(edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	vd_set(&driver, VD_DEVICE, 36, 1, 0);
	CHECK_EQ(vd_get(&driver, VD_DEVICE, 36, 1), 0);
	CHECK(!edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	offer_event();
	edu_dma(LOW_AT, 0x40000, 4, 1);
	check_event(1, 0x101, LOW_AT);
	CHECK_EQ(vd_attach(&driver, 9, endpoint, 1), OK);
	CHECK(edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	CHECK_EQ(vd_detach(&driver, 9, endpoint), OK);
}

/* Bypass is off in our container: that is no other's business. */
static void test_other_container(void)
{
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);

	REQUIRE(container >= 0);
	edu_close();
	edu_open(container);
	CHECK_EQ(client_map(container, LOW_AT, data, PAGES * PAGE, RW), 0);
	CHECK(edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	CHECK_EQ(vd_attach(&driver, 1, endpoint, 0), OK);
	CHECK(edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	edu_close();
	CHECK_EQ(close(container), 0);
	edu_open(iommu.container);
	CHECK(!edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	CHECK_EQ(vd_map(&driver, 1, 0x3000, 0x4fff, DATA_AT, MAP_R | MAP_W), OK);
	CHECK(edu_copies(0x3000, 0x4000, data, data + PAGE));
}

/* Its driver gone, the function is reset, and edu on its own. */
static void test_closed(void)
{
	for (unsigned i = 0; i < 5; i += 2)
		munmap((void *)bars[i], client_region(iommu.device, i).size);
	CHECK_EQ(close(iommu.device), 0);
	CHECK(!edu_copies(0x3000, 0x4000, data, data + PAGE));
	CHECK(edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	iommu_open();
	CHECK_EQ(vd_get(&driver, VD_DEVICE, 36, 1), 1);
	CHECK_EQ(vd_attach(&driver, 2, endpoint, 0), OK);
	CHECK(!edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
	CHECK_EQ(call(iommu.device, VFIO_DEVICE_RESET, NULL), 0);
	CHECK(edu_copies(LOW_AT, LOW_AT + PAGE, data, data + PAGE));
}

int main(int argc, char **argv)
{
	unsigned bus, slot, function;

	REQUIRE(argc == 2 || argc == 4);
	input_last = strtoull(argv[1], NULL, 16);
	own_place = argc == 2;
	if (!own_place) {
		msi_first = strtoull(argv[2], NULL, 16);
		msi_last = strtoull(argv[3], NULL, 16);
	}
	edu_event = client_eventfd();
	client_find(&iommu, VIRTIO_IOMMU, 0);
	client_find(&edu, EDU, 0);
	REQUIRE(sscanf(edu.bdf, "0000:%x:%x.%x", &bus, &slot, &function) == 3);
	endpoint = bus << 8 | slot << 3 | function;
	client_open(&iommu, VFIO_TYPE1v2_IOMMU);
	driver.mem = client_pages(sizeof(struct vd_memory) / PAGE);
	data = client_pages(PAGES);
	CHECK_EQ(client_map(iommu.container, QUEUES_AT, driver.mem, sizeof(struct vd_memory), RW),
		 0);
	CHECK_EQ(client_map(iommu.container, LOW_AT, data, PAGES * PAGE, RW), 0);
	CHECK_EQ(client_map(iommu.container, DATA_AT, data, PAGES * PAGE, RW), 0);
	if (own_place)
		give_place();
	iommu_open();
	edu_open(iommu.container);
	test_probe();
	test_limits();
	if (own_place) {
		test_own_place();
		edu_close();
		client_close(&iommu);
		return client_done();
	}
	test_interrupts();
	test_two_stages();
	test_bypass();
	test_other_container();
	test_closed();
	edu_close();
	client_close(&iommu);
	return client_done();
}
