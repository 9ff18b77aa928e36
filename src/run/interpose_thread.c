/* SPDX-License-Identifier: MIT */
/*
 * Owns the end of the main thread by itself. A process ends with the last of its threads, and the
 * runner's never end: so when the main thread goes alone, one more thread of ours is left in its
 * place, which ends the process, as libc would have, once only threads of ours remain. They are
 * known by their names. It starts whether there is a machine or not: one may be made later. Without
 * /proc it can't know, and the process stays.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <time.h>

#include "run/fds.h"
#include "run/interpose.h"
#include "run/state.h"

#define OURS "uiommu/"

/* What is in the small file @name of /proc/self/task, as a string; false: not there any more. */
static bool task_file(int tasks, const char *name, char *text, size_t size)
{
	int fd = fds_keep((int)syscall(SYS_openat, tasks, name, O_RDONLY | O_CLOEXEC));
	ssize_t len;

	if (fd < 0)
		return false;
	len = real_read(fd, text, size - 1);
	fds_close(fd);
	if (len <= 0)
		return false;
	text[len] = '\0';
	return true;
}

/* Does the program still have this thread? The main thread stays listed as a zombie. */
static bool lives(int tasks, const char *tid)
{
	char name[32], text[128];
	const char *state;

	if (atoi(tid) == getpid()) {
		snprintf(name, sizeof(name), "%s/stat", tid);
		if (!task_file(tasks, name, text, sizeof(text)))
			return true;
		state = strrchr(text, ')');
		return !state || strncmp(state, ") Z", 3) != 0;
	}
	snprintf(name, sizeof(name), "%s/comm", tid);
	return task_file(tasks, name, text, sizeof(text)) && strncmp(text, OURS, strlen(OURS)) != 0;
}

static bool any_lives(int tasks)
{
	char buffer[4096] __attribute__((aligned(8)));
	bool any = false;
	long len;

	while (!any && (len = real_getdents(tasks, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; !any && at < len;) {
			const struct run_dirent *entry = (const void *)(buffer + at);

			any = entry->name[0] != '.' && lives(tasks, entry->name);
			at += entry->reclen;
		}
	}
	return any || len < 0;
}

static bool alone(void)
{
	int tasks = fds_keep(real_open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
	bool any = true;

	if (tasks >= 0) {
		any = any_lives(tasks);
		fds_close(tasks);
	}
	return !any;
}

static void *watch(void *unused)
{
	const struct timespec interval = {.tv_nsec = 20000000};

	pthread_setname_np(pthread_self(), "uiommu/exit");
	/* Twice: a listing may miss a thread while others end. */
	while (!alone() || !alone())
		nanosleep(&interval, NULL);
	exit(0);
}

/* With the main thread's mask of signals: it may have been the one to take them. */
static void leave_behind(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	if (syscall(SYS_gettid) != getpid() || !state_config() || !state_mine())
		return;
	if (pthread_attr_init(&attr))
		return;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	(void)pthread_create(&thread, &attr, watch, NULL);
	pthread_attr_destroy(&attr);
}

EXPORT void pthread_exit(void *result)
{
	leave_behind();
	REAL(pthread_exit)(result);
	__builtin_unreachable();
}

EXPORT void thrd_exit(int result)
{
	leave_behind();
	REAL(thrd_exit)(result);
	__builtin_unreachable();
}
