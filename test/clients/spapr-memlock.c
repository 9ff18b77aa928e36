/* SPDX-License-Identifier: MIT */
/*
 * spapr-memlock - what the sPAPR TCE driver charges to RLIMIT_MEMLOCK on a pseries machine: ENABLE
 * the whole default window at once, REGISTER_MEMORY the memory, a window its table.
 */
#include "spapr.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define WINDOW UINT64_C(0x40000000)
#define TABLE  (WINDOW / PAGE * 8) /* of the default window: 2 MiB */

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	REQUIRE(syscall(SYS_capset, &head, data) == 0);
}

static void allow(uint64_t bytes)
{
	struct rlimit limit;

	REQUIRE(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	limit.rlim_cur = bytes;
	REQUIRE(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
}

/* The limit may be raised that far: by root, before it gives up its capabilities. */
static bool raise_limit(void)
{
	struct rlimit limit = {.rlim_cur = 2 * WINDOW, .rlim_max = 2 * WINDOW};

	return setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
}

static void test_v1(struct client *c, uint8_t *memory, bool raised)
{
	client_open(c, VFIO_SPAPR_TCE_IOMMU);
	allow(raised ? WINDOW - PAGE : 16 * PAGE);
	CHECK_EQ(call(c->container, VFIO_IOMMU_ENABLE, NULL), -ENOMEM);
	CHECK_EQ(client_map(c->container, 0, memory, PAGE, RW), -EPERM);
	if (!raised) {
		client_close(c);
		return;
	}
	allow(WINDOW);
	CHECK_EQ(call(c->container, VFIO_IOMMU_ENABLE, NULL), 0);
	/* The window's table comes with the first use of it. */
	CHECK_EQ(client_map(c->container, 0, memory, PAGE, RW), -ENOMEM);
	allow(WINDOW + TABLE);
	CHECK_EQ(client_map(c->container, 0, memory, PAGE, RW), 0);
	CHECK_EQ(client_map(c->container, PAGE, memory, PAGE, RW), 0);
	CHECK_EQ(call(c->container, VFIO_IOMMU_DISABLE, NULL), 0);
	allow(WINDOW + TABLE - PAGE);
	CHECK_EQ(call(c->container, VFIO_IOMMU_ENABLE, NULL), -ENOMEM);
	client_close(c);
}

static void test_v2(struct client *c, uint8_t *memory)
{
	uint64_t start;

	client_open(c, VFIO_SPAPR_TCE_v2_IOMMU);
	allow(4 * PAGE);
	CHECK_EQ(tce_register(c->container, memory, 5 * PAGE), -ENOMEM);
	CHECK_EQ(tce_register(c->container, memory, 4 * PAGE), 0);
	CHECK_EQ(tce_register(c->container, memory + 4 * PAGE, PAGE), -ENOMEM);
	CHECK_EQ(tce_create(c->container, 12, 1 << 24, 1, &start), -ENOMEM);
	allow(4 * PAGE + TABLE);
	CHECK_EQ(client_map(c->container, 0, memory, 4 * PAGE, RW), 0);
	/* 4096 entries of 8 bytes. */
	allow(4 * PAGE + TABLE + 7 * PAGE);
	CHECK_EQ(tce_create(c->container, 12, 1 << 24, 1, &start), -ENOMEM);
	allow(4 * PAGE + TABLE + 8 * PAGE);
	CHECK_EQ(tce_create(c->container, 12, 1 << 24, 1, &start), 0);
	CHECK_EQ(tce_register(c->container, memory + 4 * PAGE, PAGE), -ENOMEM);
	CHECK_EQ(tce_remove(c->container, start), 0);
	CHECK_EQ(tce_register(c->container, memory + 4 * PAGE, 4 * PAGE), 0);
	CHECK_EQ(tce_register(c->container, memory + 8 * PAGE, 5 * PAGE), -ENOMEM);
	CHECK_EQ(tce_unregister(c->container, memory + 4 * PAGE, 4 * PAGE), 0);
	CHECK_EQ(tce_register(c->container, memory + 8 * PAGE, 5 * PAGE), 0);
	client_close(c);
	/* All of it was given back. */
	client_open(c, VFIO_SPAPR_TCE_v2_IOMMU);
	allow(16 * PAGE);
	CHECK_EQ(tce_register(c->container, memory, 16 * PAGE), 0);
	client_close(c);
}

int main(void)
{
	uint8_t *memory = client_pages(16);
	bool raised = raise_limit();
	struct client c;

	drop_capabilities();
	client_find(&c, EDU, 0);
	test_v1(&c, memory, raised);
	test_v2(&c, memory);
	return client_done();
}
