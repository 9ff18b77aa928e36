/* SPDX-License-Identifier: MIT */
/*
 * spdk-like - SPDK's part in a process that DPDK has set up: it looks through its own descriptors
 * for one whose link reads /dev/vfio/vfio, takes that for the container and maps memory through it.
 * It also wants IOMMU groups in sysfs, and each device in its group.
 */
#include "client.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

/* The container among this process's descriptors, found by its link; how many there are. */
static int find_container(unsigned *count)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	int found = -1;

	REQUIRE(dir != NULL);
	*count = 0;
	while ((e = readdir(dir))) {
		char target[64];
		ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);

		if (n < 0)
			continue;
		target[n] = 0;
		if (strcmp(target, "/dev/vfio/vfio") != 0)
			continue;
		found = atoi(e->d_name);
		++*count;
	}
	closedir(dir);
	return found;
}

/* The same by the path, as other programs read it. */
static void check_links(const struct client *c)
{
	char path[64], target[128];
	const int fds[] = {c->container, c->group};
	const char *const expect[] = {"/dev/vfio/vfio", c->group_path};

	for (unsigned i = 0; i < 2; i++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[i]);
		n = readlink(path, target, sizeof(target) - 1);
		REQUIRE(n > 0);
		target[n] = 0;
		CHECK(strcmp(target, expect[i]) == 0);
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fds[i]);
		n = readlink(path, target, sizeof(target) - 1);
		REQUIRE(n > 0);
		target[n] = 0;
		CHECK(strcmp(target, expect[i]) == 0);
	}
}

static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	unsigned n = 0;

	if (!dir)
		return 0;
	while ((e = readdir(dir)))
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void check_sysfs(const struct client *c)
{
	const char *number = strrchr(c->group_path, '/');
	char path[256], resolved[4096];
	struct stat st;

	CHECK(entries("/sys/kernel/iommu_groups") > 0);
	CHECK(entries("/dev/vfio") > 1);
	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups%.20s/devices/%.40s", number, c->bdf);
	CHECK_EQ(lstat(path, &st), 0);
	CHECK(S_ISLNK(st.st_mode));
	CHECK(realpath(path, resolved) && strncmp(resolved, "/sys/devices/pci", 16) == 0);
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/vfio-pci/%.40s", c->bdf);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(stat("/sys/module/vfio", &st), 0);
	CHECK_EQ(stat("/sys/module/vfio_pci", &st), 0);
	CHECK_EQ(stat("/dev/vfio/vfio", &st), 0);
	CHECK(S_ISCHR(st.st_mode));
	CHECK_EQ(fstat(c->container, &st), 0);
	CHECK(S_ISCHR(st.st_mode));
	CHECK(access("/sys/bus/pci/devices/0000:ff:1f.7/vendor", F_OK) == -1 && errno == ENOENT);
}

int main(void)
{
	uint8_t *memory = client_pages(2);
	struct client c;
	unsigned count;
	int found;

	CHECK(find_container(&count) == -1 && count == 0);
	client_find(&c, IOAT, 0);
	client_open(&c, VFIO_TYPE1_IOMMU);
	client_open_device(&c);
	check_links(&c);
	check_sysfs(&c);
	found = find_container(&count);
	CHECK_EQ(count, 1);
	CHECK_EQ(found, c.container);
	CHECK_EQ(client_map(found, 0x200000, memory, 2 * PAGE, RW), 0);
	CHECK_EQ(client_dma_avail(c.container), 65534);
	CHECK_EQ(client_unmap(c.container, 0x200000, 2 * PAGE, 0), 2 * PAGE);
	client_close(&c);
	CHECK(find_container(&count) == -1 && count == 0);
	return client_done();
}
