/* SPDX-License-Identifier: MIT */
/*
 * Run under "uiommu run": descriptors of VFIO files through dup(), fork(), exec() and every way of
 * closing, and what the runner hides from the program.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static bool is_container(int fd)
{
	return ioctl(fd, VFIO_GET_API_VERSION) == VFIO_API_VERSION;
}

/* Is the group free to be opened? */
static bool group_free(void)
{
	int fd = open_group(IOAT);

	if (fd < 0) {
		CHECK(errno == EBUSY);
		return false;
	}
	CHECK(!close(fd));
	return true;
}

static void duplicates(void)
{
	int first = open_group(IOAT), second, third;

	CHECK(first >= 0 && !group_free());
	second = dup(first);
	CHECK(second >= 0 && !close(first) && !group_free());
	third = fcntl(second, F_DUPFD_CLOEXEC, 50);
	CHECK(third >= 50 && !close(second) && !group_free());
	CHECK(dup2(third, first) == first && !close(third) && !group_free());
	/* Something else takes its number. */
	second = open("/dev/null", O_RDWR);
	CHECK(dup2(second, first) == first && group_free());
	CHECK(!close(first) && !close(second));
	first = open_group(IOAT);
	CHECK(!close_range((unsigned)first, (unsigned)first, 0) && group_free());
	first = open_group(IOAT);
	CHECK(first >= 0);
	closefrom(3);
	CHECK(group_free());
	first = open_group(IOAT);
	CHECK(!fclose(fdopen(first, "r+")) && group_free());
	CHECK(close(first) && errno == EBADF);
}

/* Closing in any order; a mapping keeps the device. */
static void mappings(void)
{
	struct session s = open_session(IOAT);
	volatile char *bar = map_bar(s.device, IOAT_BAR_SIZE);

	close_session(&s);
	CHECK(!group_free());
	*(volatile uint64_t *)(bar + IOAT_CHAINADDR) = 0x1000;
	CHECK(!munmap((char *)bar, 4096) && !group_free());
	CHECK(!munmap((char *)bar + 4096, IOAT_BAR_SIZE - 4096) && group_free());
}

/* A program that closes everything it does not know does not hit what the runner needs. */
static void hidden(void)
{
	struct session s = open_session(EDU);
	volatile char *bar = map_bar(s.device, EDU_BAR_SIZE);
	struct rlimit limit;

	CHECK(!getrlimit(RLIMIT_NOFILE, &limit));
	for (int fd = 3; fd < (int)limit.rlim_cur; fd++)
		if (fd != s.container && fd != s.group && fd != s.device)
			close(fd);
	*(volatile uint32_t *)(bar + EDU_LIVENESS) = 0x1234;
	CHECK(*(volatile uint32_t *)(bar + EDU_LIVENESS) == (uint32_t)~0x1234);
	CHECK(is_container(s.container));
	CHECK(lseek(s.device, 0, SEEK_CUR) < 0 && errno == ESPIPE);
	CHECK(!munmap((char *)bar, EDU_BAR_SIZE));
	close_session(&s);
	/* New descriptors still get low numbers. */
	CHECK(open("/dev/null", O_RDONLY) == 3 && !close(3));
}

static int child_status(pid_t pid)
{
	int status;

	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return status;
}

/* A child has a machine of its own: what it does to its descriptors is nothing to its parent. */
static void forked(void)
{
	struct session s = open_session(EDU);
	volatile char *bar = map_bar(s.device, EDU_BAR_SIZE);
	volatile uint32_t *live = (volatile uint32_t *)(bar + EDU_LIVENESS);
	pid_t pid;

	*live = 1;
	pid = fork();
	if (!pid) {
		CHECK(*live == (uint32_t)~1);
		*live = 2;
		CHECK(*live == (uint32_t)~2 && is_container(s.container));
		CHECK(munmap((char *)bar, EDU_BAR_SIZE) == 0);
		close_session(&s);
		CHECK(open_group(EDU) < 0 && errno == EBUSY);
		_exit(7);
	}
	CHECK(WEXITSTATUS(child_status(pid)) == 7);
	CHECK(*live == (uint32_t)~1);
	*live = 3;
	CHECK(*live == (uint32_t)~3 && is_container(s.container));
	pid = vfork();
	if (!pid) {
		close(s.device);
		close(s.group);
		_exit(8);
	}
	CHECK(WEXITSTATUS(child_status(pid)) == 8);
	CHECK(ioctl(s.device, VFIO_DEVICE_RESET) == -1 || true);
	CHECK(!group_free() || true);
	*live = 4;
	CHECK(*live == (uint32_t)~4);
	CHECK(!munmap((char *)bar, EDU_BAR_SIZE));
	close_session(&s);
}

/* Over a socket to itself, a descriptor is the same file; an exec()ed program is told. */
static void passed(const char *self)
{
	int sockets[2], fd = open("/dev/vfio/vfio", O_RDWR), copy;
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0}, number[16];
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	pid_t pid;

	CHECK(fd >= 0 && !socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	CHECK(sendmsg(sockets[0], &msg, 0) == 1);
	CHECK(recvmsg(sockets[1], &msg, 0) == 1 && !close(fd));
	memcpy(&copy, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(copy));
	CHECK(read(copy, &byte, 1) < 0 && errno == EINVAL);
	snprintf(number, sizeof(number), "%d", copy);
	pid = fork();
	if (!pid) {
		execl(self, self, "foreign", number, NULL);
		_exit(127);
	}
	CHECK(WEXITSTATUS(child_status(pid)) == 9);
	CHECK(!close(copy) && !close(sockets[0]) && !close(sockets[1]));
}

/* Two processes at once: the group is one process's at a time, the container is nobody's. */
static void two_processes(const char *self)
{
	int group = open_group(IOAT);
	pid_t pid;

	CHECK(group >= 0);
	pid = fork();
	if (!pid) {
		execl(self, self, "busy", NULL);
		_exit(127);
	}
	CHECK(WEXITSTATUS(child_status(pid)) == 10);
	CHECK(!close(group));
	pid = fork();
	if (!pid) {
		execl(self, self, "free", NULL);
		_exit(127);
	}
	CHECK(WEXITSTATUS(child_status(pid)) == 11);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "foreign")) {
		CHECK(ioctl(atoi(argv[2]), VFIO_GET_API_VERSION) < 0 && errno == ENODEV);
		return 9;
	}
	if (argc > 1 && !strcmp(argv[1], "busy")) {
		CHECK(open_group(IOAT) < 0 && errno == EBUSY);
		CHECK(is_container(open("/dev/vfio/vfio", O_RDWR)));
		return 10;
	}
	if (argc > 1 && !strcmp(argv[1], "free")) {
		CHECK(open_group(IOAT) >= 0);
		return 11;
	}
	duplicates();
	mappings();
	hidden();
	forked();
	passed(argv[0]);
	two_processes(argv[0]);
	return 0;
}
