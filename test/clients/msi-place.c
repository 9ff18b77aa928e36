/* SPDX-License-Identifier: MIT */
/*
 * msi-place - the interface of 2016 by which a program says where doorbells go: what GET_INFO asks
 * for, each refusal of the flag, the range's life with interrupts in use, and a race of giving it
 * and taking it back against interrupts being set up: an MSI never reaches the program's memory.
 */
#include "client.h"

#include <pthread.h>
#include <uiommu/linux/vfio_msi_2016.h>

enum { EDU_RAISE = 0x60, EDU_ACK = 0x64, ROUNDS = 3000 };
#define GIVE	VFIO_DMA_MAP_FLAG_RESERVED_MSI_IOVA
#define PLACE	UINT64_C(0x10000000)
#define SIZE	UINT64_C(0x10000)
#define TRIGGER (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define OFF	(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)

static struct client c;
static int event;

static int interrupts(bool on)
{
	return on ? client_irqs(c.device, TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, &event)
		  : client_irqs(c.device, OFF, VFIO_PCI_MSI_IRQ_INDEX, 0, 0, NULL);
}

static void test_table(void *page)
{
	const struct vfio_iommu_type1_info_cap_msi_resv *cap;
	uint64_t buf[512];

	cap = client_info_cap(c.container, buf, sizeof(buf), VFIO_IOMMU_TYPE1_INFO_CAP_MSI_RESV);
	REQUIRE(cap);
	CHECK_EQ(cap->header.version, 1);
	CHECK(cap->size >= PAGE && cap->size <= SIZE);
	CHECK_EQ(cap->alignment, PAGE);

	CHECK_EQ(interrupts(true), -ENODEV); /* nowhere yet */
	CHECK_EQ(client_map(c.container, 0, NULL, 0, GIVE), -EINVAL);
	CHECK_EQ(client_map(c.container, -PAGE, NULL, 2 * PAGE, GIVE), -EOVERFLOW);
	CHECK_EQ(client_map(c.container, PLACE + 1, NULL, SIZE, GIVE), -EINVAL);
	CHECK_EQ(client_map(c.container, PLACE, page, SIZE, GIVE), -EINVAL);
	CHECK_EQ(client_map(c.container, PLACE, NULL, SIZE, GIVE | RW), -EINVAL);
	CHECK_EQ(client_map(c.container, PLACE, NULL, UINT64_C(1) << 60, GIVE), -EINVAL);
	CHECK_EQ(client_map(c.container, PLACE, page, PAGE, RW), 0);
	CHECK_EQ(client_map(c.container, PLACE, NULL, SIZE, GIVE), -EEXIST);
	CHECK_EQ(client_unmap(c.container, PLACE, PAGE, 0), (long long)PAGE);

	CHECK_EQ(client_map(c.container, PLACE, NULL, SIZE, GIVE), 0);
	CHECK_EQ(client_map(c.container, 2 * PLACE, NULL, SIZE, GIVE), -EBUSY);
	CHECK_EQ(client_map(c.container, PLACE + PAGE, page, PAGE, RW), -EINVAL);
	CHECK_EQ(client_unmap(c.container, PLACE, PAGE, 0), -EINVAL); /* a part */
}

static void test_life(volatile uint8_t *bar)
{
	CHECK_EQ(interrupts(true), 0);
	REG(bar, uint32_t, EDU_RAISE) = 1;
	CHECK_EQ(client_wait_event(event), 1);
	REG(bar, uint32_t, EDU_ACK) = 1;
	CHECK_EQ(client_unmap(c.container, PLACE, SIZE, 0), -EBUSY);
	CHECK_EQ(interrupts(false), 0);
	CHECK_EQ(client_unmap(c.container, PLACE, SIZE, 0), (long long)SIZE);
	CHECK_EQ(interrupts(true), -ENODEV);
}

/* ---- the race ---- */

static uint8_t *memory;
static bool stop;

/* Give the range and take it back; while it is back, the IOVAs are the program's memory. */
static void *give_and_take(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		if (!CHECK_EQ(client_map(c.container, PLACE, NULL, SIZE, GIVE), 0))
			break;
		while (client_unmap(c.container, PLACE, SIZE, 0) == -EBUSY)
			if (__atomic_load_n(&stop, __ATOMIC_RELAXED))
				return NULL;
		if (!CHECK_EQ(client_map(c.container, PLACE, memory, SIZE, RW), 0))
			break;
		CHECK_EQ(client_unmap(c.container, PLACE, SIZE, 0), (long long)SIZE);
	}
	return NULL;
}

static void test_race(volatile uint8_t *bar)
{
	unsigned arrived = 0, lost = 0;
	pthread_t thread;

	REQUIRE(!pthread_create(&thread, NULL, give_and_take, NULL));
	for (int i = 0; i < ROUNDS; i++) {
		if (interrupts(true))
			continue; /* nowhere, just now */
		REG(bar, uint32_t, EDU_RAISE) = 1;
		if (client_wait_event(event) == 1)
			arrived++;
		else
			lost++;
		REG(bar, uint32_t, EDU_ACK) = 1;
		interrupts(false);
		if (lost)
			break;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	CHECK_EQ(lost, 0);
	printf("msi-place: %u of %d rounds had their interrupt\n", arrived, ROUNDS);
	for (size_t i = 0; i < SIZE; i++)
		if (!CHECK_EQ(memory[i], 0))
			break;
}

int main(void)
{
	volatile uint8_t *bar;

	client_find(&c, EDU, 0);
	client_open(&c, VFIO_TYPE1v2_IOMMU);
	client_open_device(&c);
	client_command(c.device, COMMAND_MEMORY | COMMAND_MASTER, 0);
	bar = client_bar(c.device);
	event = client_eventfd();
	memory = client_pages(SIZE / PAGE);
	test_table(client_pages(1));
	test_life(bar);
	test_race(bar);
	return client_done();
}
