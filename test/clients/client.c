/* SPDX-License-Identifier: MIT */
/*
 * client.c - what the test clients share: see client.h. Owns the counts of checks. Nothing here
 * waits without an end: a peer that does not answer fails the check instead.
 */
#include "client.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>

enum { SECONDS_TO_WAIT = 10 };

static atomic_uint checks, failures;

static bool count_check(bool ok)
{
	atomic_fetch_add(&checks, 1);
	if (!ok)
		atomic_fetch_add(&failures, 1);
	return ok;
}

bool check_true(const char *file, int line, bool ok, const char *what)
{
	if (!ok)
		fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
	return count_check(ok);
}

bool check_equal(const char *file, int line, const char *what, long long actual, long long expected)
{
	if (actual != expected)
		fprintf(stderr, "%s:%d: %s: %lld (%#llx), expected %lld (%#llx)\n", file, line,
			what, actual, actual, expected, expected);
	return count_check(actual == expected);
}

bool check_bytes(const char *file, int line, const char *what, const void *actual,
		 const void *expected, size_t len)
{
	const uint8_t *a = actual, *e = expected;
	size_t i = 0;

	while (i < len && a[i] == e[i])
		i++;
	if (i < len)
		fprintf(stderr, "%s:%d: %s: byte %zu is %#x, expected %#x\n", file, line, what, i,
			a[i], e[i]);
	return count_check(i == len);
}

int client_done(void)
{
	printf("%u checks, %u failed\n", checks, failures);
	return failures ? 1 : 0;
}

int call_value(int fd, unsigned long request, unsigned long arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

int call(int fd, unsigned long request, const void *arg)
{
	return call_value(fd, request, (unsigned long)arg);
}

static unsigned sysfs_id(const char *bdf, const char *name)
{
	char path[512], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bdf, name);
	f = fopen(path, "r");
	REQUIRE(f != NULL);
	REQUIRE(fgets(text, sizeof(text), f) != NULL);
	fclose(f);
	return strtoul(text, NULL, 16);
}

static void find_group(struct client *c)
{
	char path[512], target[512];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", c->bdf);
	n = readlink(path, target, sizeof(target) - 1);
	REQUIRE(n > 0);
	target[n] = 0;
	REQUIRE(strrchr(target, '/') != NULL);
	snprintf(c->group_path, sizeof(c->group_path), "/dev/vfio%.100s", strrchr(target, '/'));
}

void client_find(struct client *c, unsigned vendor, unsigned device, unsigned n)
{
	struct dirent **list;
	int count = scandir("/sys/bus/pci/devices", &list, NULL, alphasort);

	REQUIRE(count > 0);
	*c = (struct client){.container = -1, .group = -1, .device = -1};
	for (int i = 0; i < count; i++) {
		const char *name = list[i]->d_name;

		if (!c->bdf[0] && name[0] != '.' && sysfs_id(name, "vendor") == vendor &&
		    sysfs_id(name, "device") == device && n-- == 0)
			snprintf(c->bdf, sizeof(c->bdf), "%.63s", name);
		free(list[i]);
	}
	free(list);
	REQUIRE(c->bdf[0] != 0);
	find_group(c);
}

void client_open(struct client *c, int iommu_type)
{
	c->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	REQUIRE(c->container >= 0);
	c->group = open(c->group_path, O_RDWR | O_CLOEXEC);
	REQUIRE(c->group >= 0);
	REQUIRE(call(c->group, VFIO_GROUP_SET_CONTAINER, &c->container) == 0);
	if (iommu_type)
		REQUIRE(call_value(c->container, VFIO_SET_IOMMU, iommu_type) == 0);
}

void client_open_device(struct client *c)
{
	c->device = call(c->group, VFIO_GROUP_GET_DEVICE_FD, c->bdf);
	REQUIRE(c->device >= 0);
}

void client_close(struct client *c)
{
	int *fds[] = {&c->device, &c->group, &c->container};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			CHECK_EQ(close(*fds[i]), 0);
		*fds[i] = -1;
	}
}

void *client_pages(size_t count)
{
	uint8_t *p = mmap(NULL, (count + 1) * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(p != MAP_FAILED);
	REQUIRE(mprotect(p + count * PAGE, PAGE, PROT_NONE) == 0);
	return p;
}

int client_map(int container, uint64_t iova, const void *vaddr, uint64_t size, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = flags, .iova = iova, .size = size};

	map.vaddr = (uintptr_t)vaddr;
	return call(container, VFIO_IOMMU_MAP_DMA, &map);
}

int64_t client_unmap(int container, uint64_t iova, uint64_t size, uint32_t flags)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap), .flags = flags, .iova = iova, .size = size};
	int ret = call(container, VFIO_IOMMU_UNMAP_DMA, &unmap);

	return ret < 0 ? ret : (int64_t)unmap.size;
}

void *client_info_cap(int container, void *buf, size_t len, unsigned id)
{
	struct vfio_iommu_type1_info *info = buf;
	struct vfio_info_cap_header *cap;

	memset(buf, 0, len);
	info->argsz = len;
	if (!CHECK_EQ(call(container, VFIO_IOMMU_GET_INFO, info), 0))
		return NULL;
	for (uint32_t at = info->cap_offset; at && at + sizeof(*cap) <= len; at = cap->next) {
		cap = (void *)((char *)buf + at);
		if (cap->id == id)
			return cap;
	}
	return NULL;
}

int64_t client_dma_avail(int container)
{
	_Alignas(8) char buf[1024];
	struct vfio_iommu_type1_info_dma_avail *cap =
		client_info_cap(container, buf, sizeof(buf), VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);

	return cap ? (int64_t)cap->avail : -1;
}

struct vfio_region_info client_region(int device, unsigned index)
{
	struct vfio_region_info info = {.argsz = sizeof(info), .index = index};

	REQUIRE(call(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0);
	return info;
}

void client_command(int device, uint16_t set, uint16_t clear)
{
	uint64_t offset = client_region(device, VFIO_PCI_CONFIG_REGION_INDEX).offset + 4;
	uint16_t command = 0;

	REQUIRE(pread(device, &command, 2, offset) == 2);
	command = (command | set) & ~clear;
	REQUIRE(pwrite(device, &command, 2, offset) == 2);
}

volatile uint8_t *client_bar(int device)
{
	struct vfio_region_info info = client_region(device, VFIO_PCI_BAR0_REGION_INDEX);
	void *bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, info.offset);

	REQUIRE(bar != MAP_FAILED);
	return bar;
}

int client_irqs(int device, uint32_t flags, unsigned index, unsigned start, unsigned count,
		const int *fds)
{
	_Alignas(8) char bytes[sizeof(struct vfio_irq_set) + 256 * sizeof(int)] = {0};
	struct vfio_irq_set *set = (void *)bytes;

	REQUIRE(count <= 256);
	set->argsz = sizeof(*set) + (fds ? count * sizeof(int) : 0);
	set->flags = flags;
	set->index = index;
	set->start = start;
	set->count = count;
	if (fds)
		memcpy(set->data, fds, count * sizeof(int));
	return call(device, VFIO_DEVICE_SET_IRQS, set);
}

int client_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	REQUIRE(fd >= 0);
	return fd;
}

uint64_t client_events(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

uint64_t client_wait_event(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, SECONDS_TO_WAIT * 1000) == 1 ? client_events(fd) : 0;
}

static bool before_deadline(const struct timespec *start)
{
	struct timespec now, pause = {.tv_nsec = 50000};

	nanosleep(&pause, NULL);
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - start->tv_sec <= SECONDS_TO_WAIT;
}

void ioat_reset(volatile uint8_t *bar, uint64_t completion)
{
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	REG(bar, uint8_t, IOAT_CHANCMD) = 0x20;
	while (REG(bar, uint8_t, IOAT_CHANCMD) & 0x20 && before_deadline(&start))
		;
	CHECK_EQ(REG(bar, uint8_t, IOAT_CHANCMD) & 0x20, 0);
	REG(bar, uint32_t, IOAT_CHANERR) = REG(bar, uint32_t, IOAT_CHANERR);
	CHECK_EQ(REG(bar, uint32_t, IOAT_CHANERR), 0);
	REG(bar, uint8_t, IOAT_INTRCTRL) = 1;
	REG(bar, uint16_t, IOAT_CHANCTRL) = 0x1d;
	REG(bar, uint64_t, IOAT_CHANCMP) = completion;
}

int ioat_run(volatile uint8_t *bar, uint64_t chain, uint16_t count)
{
	struct timespec start;
	unsigned status;

	REG(bar, uint64_t, IOAT_CHAINADDR) = chain;
	REG(bar, uint16_t, IOAT_DMACOUNT) = count;
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		status = REG(bar, uint64_t, IOAT_CHANSTS) & 7;
		if (status == IOAT_DONE || status == IOAT_HALTED)
			return status;
	} while (before_deadline(&start));
	return -1;
}
