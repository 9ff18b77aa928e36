/* SPDX-License-Identifier: MIT */
/*
 * A program that uses a device and ends in the way it is told to.
 */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "program.h"

static char page[4096] __attribute__((aligned(4096)));
static volatile int *volatile nowhere;

static void use_device(void)
{
	struct session s = open_session(EDU);

	CHECK(!map_dma(s.container, page, 0x100000, sizeof(page)));
}

static void *last_thread(void *late)
{
	usleep(100000);
	if (late)
		use_device();
	puts("last thread");
	fflush(stdout);
	return NULL;
}

static void on_signal(int sig)
{
	(void)!write(STDOUT_FILENO, "handler\n", 8);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void check_dispositions(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	CHECK(!sigaction(SIGTERM, NULL, &action) && action.sa_handler == SIG_DFL);
	CHECK(signal(SIGINT, SIG_IGN) == SIG_DFL);
	CHECK(signal(SIGINT, SIG_DFL) == SIG_IGN);
	CHECK(signal(SIGINT, SIG_DFL) == SIG_DFL);
	action.sa_handler = on_signal;
	CHECK(!sigaction(SIGHUP, &action, NULL));
	CHECK(!sigaction(SIGHUP, NULL, &action) && action.sa_handler == on_signal);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	bool late = !strcmp(how, "late");
	pthread_t thread;

	if (!late)
		use_device();
	if (late || !strcmp(how, "thread")) {
		CHECK(!pthread_create(&thread, NULL, last_thread, late ? &late : NULL));
		pthread_exit(NULL);
	}
	if (!strcmp(how, "main"))
		pthread_exit(NULL);
	check_dispositions();
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "segv"))
		*nowhere = 1;
	raise(atoi(how));
	return 0;
}
