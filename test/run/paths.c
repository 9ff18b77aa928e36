/* SPDX-License-Identifier: MIT */
/*
 * Run under "uiommu run": every way libc has of looking at the simulated machine's files.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "program.h"

#define DEVICES "/sys/bus/pci/devices"
#define REAL	"/sys/devices/pci0000:00/"

/* A length that the compiler can't see, so that the fortified names are called. */
static volatile size_t unknown;

/* A file with a device's major and minor number. */
static dev_t number_of(const char *path)
{
	unsigned high = 0, low = 0;
	FILE *file = fopen(path, "r");

	CHECK(file && fscanf(file, "%u:%u", &high, &low) == 2 && !fclose(file));
	return makedev(high, low);
}

static void nodes(void)
{
	struct statx stx;
	struct stat st;
	int fd;

	CHECK(!stat("/dev/vfio/vfio", &st));
	CHECK(S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 196));
	CHECK(!lstat("/dev//vfio/./vfio", &st) && S_ISCHR(st.st_mode));
	CHECK(!fstatat(AT_FDCWD, "/dev/../dev/vfio/vfio", &st, 0) && S_ISCHR(st.st_mode));
	CHECK(!statx(AT_FDCWD, "/dev/vfio/vfio", 0, STATX_BASIC_STATS, &stx));
	CHECK(S_ISCHR(stx.stx_mode) && stx.stx_rdev_major == 10 && stx.stx_rdev_minor == 196);
	CHECK(!access("/dev/vfio/vfio", R_OK | W_OK));
	CHECK(!faccessat(AT_FDCWD, "/dev/vfio/vfio", R_OK | W_OK, 0));
	CHECK(!stat("/sys/module/vfio", &st) && S_ISDIR(st.st_mode));
	CHECK(!stat("/sys/module/vfio_pci", &st) && S_ISDIR(st.st_mode));
	/* A device's own node is found by sysfs, and is the character device that sysfs says. */
	CHECK(!stat("/dev/vfio/devices/vfio0", &st) && S_ISCHR(st.st_mode));
	CHECK(number_of(DEVICES "/" EDU "/vfio-dev/vfio0/dev") == st.st_rdev);
	CHECK(!access("/sys/class/vfio-dev/vfio0/device/vendor", R_OK));
	CHECK(!stat("/dev/iommu", &st) && S_ISCHR(st.st_mode) && major(st.st_rdev) == 10);
	fd = open("/dev/vfio/devices/vfio0", O_RDWR);
	CHECK(fd >= 0 && !fstat(fd, &st) && S_ISCHR(st.st_mode) && !close(fd));
	fd = open("/dev/vfio/devices/../../iommu", O_RDWR);
	CHECK(fd >= 0 && !fstat(fd, &st) && major(st.st_rdev) == 10 && !close(fd));
	fd = open("/dev/vfio/vfio", O_RDWR);
	CHECK(fd >= 0 && !fstat(fd, &st) && S_ISCHR(st.st_mode));
	CHECK(!close(fd));
}

static void links(void)
{
	char path[64], *buf = malloc(PATH_MAX), *name;
	int fd = open("/dev/vfio/vfio", O_RDWR | (int)unknown);
	ssize_t n;

	CHECK(fd >= 0 && buf);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, buf, PATH_MAX - unknown);
	CHECK(n == 14 && !memcmp(buf, "/dev/vfio/vfio", 14));
	CHECK(readlink(path, buf, 5) == 5 && !memcmp(buf, "/dev/", 5));
	n = readlink(DEVICES "/" EDU "/driver", buf, PATH_MAX);
	buf[n] = '\0';
	CHECK(n > 0 && !strcmp(buf, "../../../bus/pci/drivers/vfio-pci"));
	CHECK(realpath(DEVICES "/" EDU, buf) && !strcmp(buf, REAL EDU));
	CHECK(realpath(DEVICES "/" EDU "/driver/module", buf) &&
	      !strcmp(buf, "/sys/module/vfio_pci"));
	name = canonicalize_file_name(DEVICES "/" EDU "/iommu_group/devices/" EDU "/vendor");
	CHECK(name && !strcmp(name, REAL EDU "/vendor"));
	free(name);
	free(buf);
	CHECK(!close(fd));
}

static void contents(void)
{
	char text[64];
	FILE *file = fopen(DEVICES "/" IOAT "/vendor", "r");

	CHECK(file && fgets(text, sizeof(text), file) && !strcmp(text, "0x8086\n"));
	CHECK(!fclose(file));
	file = fopen("/sys/kernel/iommu_groups/0/reserved_regions", "r");
	CHECK(file && fgets(text, sizeof(text), file));
	CHECK(!strcmp(text, "0x00000000fee00000 0x00000000feefffff msi\n"));
	CHECK(!fclose(file));
	file = fopen(DEVICES "/" IOAT "/resource", "r");
	CHECK(file && fgets(text, sizeof(text), file) && strlen(text) == 57);
	CHECK(strncmp(text, "0x0000000000000000", 18));
	CHECK(!fclose(file));
	file = fopen("/sys/class/iommu/dmar0/intel-iommu/cap", "r");
	CHECK(file && fgets(text, sizeof(text), file));
	CHECK((strtoull(text, NULL, 16) >> 16 & 0x3f) == 47);
	CHECK(!fclose(file));
}

static int functions;

static int count_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	CHECK(!strncmp(path, "/sys/bus/pci", 12));
	functions += ftw->level == 2 && !strncmp(path + ftw->base, "0000:", 5) &&
		     !strncmp(path, DEVICES, strlen(DEVICES));
	return 0;
}

static void listings(void)
{
	struct dirent *entry, **list;
	DIR *dir = opendir(DEVICES);
	int count = 0;
	glob_t found;

	CHECK(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	CHECK(count == 3 && !closedir(dir));
	count = scandir("/sys/kernel/iommu_groups", &list, NULL, alphasort);
	CHECK(count == 5 && !strcmp(list[2]->d_name, "0"));
	while (count)
		free(list[--count]);
	free(list);
	CHECK(!glob("/sys/devices/virtual/iommu/dmar*/intel-iommu/cap", 0, NULL, &found));
	CHECK(found.gl_pathc == 1 &&
	      !strcmp(found.gl_pathv[0], "/sys/devices/virtual/iommu/dmar0/intel-iommu/cap"));
	CHECK(!glob("/dev/vfio/[0-9]*", GLOB_APPEND, NULL, &found) && found.gl_pathc == 4);
	CHECK(!strcmp(found.gl_pathv[1], "/dev/vfio/0"));
	globfree(&found);
	CHECK(!nftw("/sys/bus/pci", count_entry, 8, FTW_PHYS) && functions == 3);
}

/* Names relative to directories inside the machine's files, and above them. */
static void relative(void)
{
	char cwd[PATH_MAX], *name;
	struct stat st;
	int dir, fd;

	CHECK(!chdir(DEVICES) && getcwd(cwd, sizeof(cwd)) && !strcmp(cwd, DEVICES));
	name = get_current_dir_name();
	CHECK(name && !strcmp(name, DEVICES));
	free(name);
	CHECK(!access(EDU "/vendor", R_OK) && !access("../devices/" EDU "/class", R_OK));
	CHECK(!chdir("/dev") && !stat("vfio/vfio", &st) && S_ISCHR(st.st_mode));
	fd = open("vfio/vfio", O_RDWR);
	CHECK(fd >= 0 && ioctl(fd, VFIO_GET_API_VERSION) == 0 && !close(fd));
	CHECK(!chdir("/") && !access("sys/bus/pci/devices/" EDU, F_OK));
	dir = open("/sys/bus", O_RDONLY | O_DIRECTORY);
	CHECK(dir >= 0);
	fd = openat(dir, "pci/devices/" EDU "/vendor", O_RDONLY);
	CHECK(fd >= 0 && !close(fd));
	CHECK(!fstatat(dir, "pci/devices/" IOAT, &st, 0) && S_ISDIR(st.st_mode));
	CHECK(!fchdir(dir) && !access("pci/devices/" IOAT, F_OK));
	CHECK(!close(dir) && !chdir("/"));
}

/* What belongs to the host is still there. */
static void host(void)
{
	struct stat st;

	CHECK(!stat("/dev/null", &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	CHECK(!access("/sys/devices/system/cpu", F_OK));
	CHECK(!access("/sys/class/net", F_OK));
	CHECK(access("/sys/bus/pci/devices/0000:00:04.0", F_OK) && errno == ENOENT);
	CHECK(open((char *)unknown, O_RDONLY) < 0 && errno == EFAULT);
	CHECK(open("", O_RDONLY) < 0 && errno == ENOENT);
}

int main(void)
{
	nodes();
	links();
	contents();
	listings();
	relative();
	host();
	return 0;
}
