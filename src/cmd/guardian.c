/* SPDX-License-Identifier: MIT */
/*
 * Owns the private directory that takes the place of namespaces, and the process that outlives the
 * program to remove it. The program and its children hold the writing end of a pipe; when the last
 * of them is gone, killed or not, the guardian reads the end of the file, removes the directory and
 * exits. It is in a session of its own, ignores signals, and holds nothing else open.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/cmd.h"

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)remove(path);
	return 0;
}

static void remove_tree(const char *root)
{
	nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void close_all_but(int fd)
{
	int null = open("/dev/null", O_RDWR);

	for (int i = 0; null >= 0 && i < 3; i++)
		dup2(null, i);
	if (fd > 3)
		syscall(SYS_close_range, 3, fd - 1, 0);
	syscall(SYS_close_range, fd + 1, ~0U, 0);
}

/* Runs until the pipe's last writer is gone. */
static _Noreturn void guard(int fd, const char *root)
{
	sigset_t all;
	char byte;
	ssize_t n;

	setsid();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "uiommu-guardian");
	if (fd < 3) {
		int high = fcntl(fd, F_DUPFD, 3);

		fd = high >= 0 ? high : fd;
	}
	close_all_but(fd);
	if (chdir("/"))
		_exit(1);
	do {
		n = read(fd, &byte, 1);
	} while (n > 0 || (n < 0 && errno == EINTR));
	remove_tree(root);
	_exit(0);
}

/* The guardian's parent exits at once, so that the program has no child it does not know. */
static int start_guardian(const int fds[2], const char *root)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid) {
		close(fds[1]);
		pid = fork();
		if (!pid)
			guard(fds[0], root);
		_exit(pid < 0 ? 1 : 0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EAGAIN;
}

/* A number that the program is unlikely to want; it must survive exec(). */
static int high_number(int fd)
{
	struct rlimit limit;
	long from = 600;
	int high;

	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < 1200)
		from = (long)limit.rlim_cur / 2;
	high = fcntl(fd, F_DUPFD, from);
	return high >= 0 ? high : fcntl(fd, F_DUPFD, 3);
}

static int make_directory(char *root, size_t len)
{
	const char *places[] = {"/dev/shm", getenv("TMPDIR"), "/tmp", "/var/tmp"};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		/* The library knows the tree by this text at the start of paths. */
		if (!places[i] || places[i][0] != '/' ||
		    snprintf(root, len, "%s/uiommu-XXXXXX", places[i]) >= (int)len)
			continue;
		if (mkdtemp(root))
			return 0;
	}
	return -errno;
}

int private_tree(const struct run_tree *tree, char *root, size_t len, int *keep, char *why,
		 size_t why_len)
{
	int fds[2], ret;

	snprintf(why, why_len, "no directory for temporary files");
	ret = make_directory(root, len);
	if (ret)
		return ret;
	snprintf(why, why_len, "cannot write the machine's files to %s", root);
	/* Other users' processes may be the program's children. */
	ret = chmod(root, 0755) ? -errno : run_tree_write(tree, root);
	if (!ret && pipe2(fds, O_CLOEXEC))
		ret = -errno;
	if (ret) {
		remove_tree(root);
		return ret;
	}
	snprintf(why, why_len, "cannot start the process that removes %s", root);
	ret = start_guardian(fds, root);
	if (ret)
		remove_tree(root);
	*keep = ret ? -1 : high_number(fds[1]);
	close(fds[0]);
	close(fds[1]);
	return !ret && *keep < 0 ? -EMFILE : ret;
}
