/* SPDX-License-Identifier: MIT */
/*
 * memlock - RLIMIT_MEMLOCK as Linux counts it for type1: mapped pages up to the limit, ENOMEM
 * beyond (and nothing mapped then), given back by unmapping. Needs `--memlock enforce`, and gives
 * up the capability that lifts the limit.
 */
#include "client.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { LIMIT_PAGES = 64 };

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	REQUIRE(syscall(SYS_capset, &head, data) == 0);
}

int main(void)
{
	struct rlimit limit = {.rlim_cur = LIMIT_PAGES * PAGE, .rlim_max = LIMIT_PAGES * PAGE};
	uint8_t *memory = client_pages(LIMIT_PAGES + 1);
	struct client c;

	drop_capabilities();
	REQUIRE(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	client_find(&c, EDU, 0);
	client_open(&c, VFIO_TYPE1v2_IOMMU);
	CHECK_EQ(client_map(c.container, 0, memory, (LIMIT_PAGES + 1) * PAGE, RW), -ENOMEM);
	CHECK_EQ(client_dma_avail(c.container), 65535);
	CHECK_EQ(client_map(c.container, 0, memory, LIMIT_PAGES * PAGE, RW), 0);
	CHECK_EQ(client_map(c.container, 0x1000000, memory, PAGE, RW), -ENOMEM);
	CHECK_EQ(client_dma_avail(c.container), 65534);
	CHECK_EQ(client_unmap(c.container, 0, LIMIT_PAGES * PAGE, 0), LIMIT_PAGES * PAGE);
	CHECK_EQ(client_map(c.container, 0x1000000, memory, PAGE, RW), 0);
	CHECK_EQ(client_map(c.container, 0, memory, (LIMIT_PAGES - 1) * PAGE, RW), 0);
	CHECK_EQ(client_map(c.container, 0x2000000, memory, PAGE, RW), -ENOMEM);
	client_close(&c);
	client_open(&c, VFIO_TYPE1v2_IOMMU); /* what the container held was given back */
	CHECK_EQ(client_map(c.container, 0, memory, LIMIT_PAGES * PAGE, RW), 0);
	client_close(&c);
	return client_done();
}
