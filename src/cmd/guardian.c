/* SPDX-License-Identifier: MIT */
/*
 * Owns the private directory that takes the place of namespaces, and the process that outlives the
 * program to make and remove it. The program and its children hold the writing end of a pipe; when
 * the last of them is gone, killed or not, the guardian reads the end of the file, removes the
 * directory and exits. It is in a session of its own, ignores signals, and holds nothing else open.
 * Invariant: the guardian makes the directory itself, once no signal to the command's group can
 * reach it; so there is never a directory that nobody would remove.
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

/* What the guardian tells the command, in one write. */
struct birth {
	int error; /* of making the directory */
	char root[124];
};

static int make_directory(char *root, size_t len, pid_t owner)
{
	const char *places[] = {"/dev/shm", getenv("TMPDIR"), "/tmp", "/var/tmp"};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		/* The library knows the tree by this text at the start of paths. */
		if (!places[i] || places[i][0] != '/' ||
		    snprintf(root, len, "%s/uiommu-%d-XXXXXX", places[i], (int)owner) >= (int)len)
			continue;
		if (mkdtemp(root))
			return 0;
	}
	return -errno;
}

/* Runs until the pipe's last writer is gone. */
static _Noreturn void guard(int fd, int answer, pid_t owner)
{
	struct birth birth = {0};
	sigset_t all;
	char byte;
	ssize_t n;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	prctl(PR_SET_NAME, "uiommu-guardian");
	if (chdir("/"))
		_exit(1);
	birth.error = make_directory(birth.root, sizeof(birth.root), owner);
	/* Whoever does not hear it is gone, and will be noticed below. */
	(void)!write(answer, &birth, sizeof(birth));
	if (birth.error)
		_exit(1);
	if (fd < 3) {
		int high = fcntl(fd, F_DUPFD, 3);

		fd = high >= 0 ? high : fd;
	}
	close_all_but(fd);
	do {
		n = read(fd, &byte, 1);
	} while (n > 0 || (n < 0 && errno == EINTR));
	remove_tree(birth.root);
	_exit(0);
}

/* The guardian's parent exits at once, so that the program has no child it does not know. */
static int fork_guardian(const int fds[2], const int answer[2])
{
	pid_t owner = getpid(), pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (!pid) {
		close(fds[1]);
		close(answer[0]);
		pid = fork();
		if (!pid)
			guard(fds[0], answer[1], owner);
		_exit(pid < 0 ? 1 : 0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EAGAIN;
}

/* Start the guardian that reads from @fds, and wait until it has made the directory. */
static int start_guardian(const int fds[2], struct birth *birth)
{
	int answer[2], ret;
	ssize_t n;

	if (pipe2(answer, O_CLOEXEC))
		return -errno;
	ret = fork_guardian(fds, answer);
	close(answer[1]);
	do {
		n = ret ? 0 : read(answer[0], birth, sizeof(*birth));
	} while (n < 0 && errno == EINTR);
	close(answer[0]);
	return ret || n == sizeof(*birth) ? ret : -EAGAIN;
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

int private_tree(const struct run_tree *tree, char *root, size_t len, int *keep, char *why,
		 size_t why_len)
{
	struct birth birth;
	int fds[2], ret;

	*keep = -1;
	snprintf(why, why_len, "cannot start the process that removes the machine's files");
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	ret = start_guardian(fds, &birth);
	if (!ret && birth.error) {
		snprintf(why, why_len, "no directory for temporary files");
		ret = birth.error;
	}
	if (!ret) {
		snprintf(root, len, "%s", birth.root);
		snprintf(why, why_len, "cannot write the machine's files to %s", root);
		/* Other users' processes may be the program's children. */
		ret = chmod(root, 0755) ? -errno : run_tree_write(tree, root);
	}
	if (!ret) {
		snprintf(why, why_len, "cannot keep %s", root);
		*keep = high_number(fds[1]);
		ret = *keep < 0 ? -EMFILE : 0;
	}
	/* Without @keep the guardian removes what there is. */
	close(fds[0]);
	close(fds[1]);
	return ret;
}
