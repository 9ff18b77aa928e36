/* SPDX-License-Identifier: MIT */
/*
 * Owns the machine of this process: read from the environment, made at the first use of /dev/vfio,
 * copied by fork(), never destroyed (the process's end does that; the program's threads may still
 * use it while it exits). Invariant: once state_peek() returns it, it stays.
 * Locks: state_mutex guards its making only. fork() takes, in this order: Xen's locks, the front
 * end's, the machine's, then the leaves (mappings, files, posted writes, reports, dispositions).
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "run/access.h"
#include "run/bars.h"
#include "run/defer.h"
#include "run/fds.h"
#include "run/files.h"
#include "run/fork.h"
#include "run/memory.h"
#include "run/paths.h"
#include "run/peer.h"
#include "run/privcmd.h"
#include "run/real.h"
#include "run/report.h"
#include "run/state.h"
#include "run/trap.h"
#include "run/xen.h"
#include "util/alloc.h"

static pthread_mutex_t state_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct run_state the_state;
static struct run_state *published;

static struct run_config config;
static bool configured;
/* What the configuration points into. Kept by name, or a leak checker would report it. */
static char *config_text __attribute__((used));
static cpu_set_t first_cpus;

const struct run_config *state_config(void)
{
	return configured ? &config : NULL;
}

struct run_state *state_peek(void)
{
	return __atomic_load_n(&published, __ATOMIC_ACQUIRE);
}

bool state_mine(void)
{
	struct run_state *state = state_peek();

	return !state || state->pid == getpid();
}

void state_thread_start(void *ctx)
{
	const struct sched_param none = {0};
	sigset_t old;

	real_block_signals(&old);
	/* A name that says whose it is (see interpose_thread.c); a better one may follow. */
	pthread_setname_np(pthread_self(), "uiommu/thread");
	sched_setaffinity(0, sizeof(first_cpus), &first_cpus);
	/* Not in the way of the thread that has just rung a doorbell: a device that is done before
	 * the store returns is faster than any driver has seen. And no real-time priority that the
	 * program may have had. */
	(void)sched_setscheduler(0, SCHED_BATCH, &none);
}

/* ---- fork ---------------------------------------------------------------------------------- */

static void fork_prepare(void)
{
	defer_begin();
	privcmd_lock();
	xen_lock();
	uiommu_vfio_fork_prepare(the_state.vfio);
	uiommu_machine_fork_prepare(the_state.machine);
	fork_copy(the_state.machine);
	bars_lock();
	files_lock();
	peer_lock();
	report_lock();
	defer_lock();
}

static void fork_parent(void)
{
	fork_keep_parent();
	defer_unlock();
	report_unlock();
	peer_unlock();
	files_unlock();
	bars_unlock();
	uiommu_machine_fork_parent(the_state.machine);
	uiommu_vfio_fork_parent(the_state.vfio);
	xen_unlock();
	privcmd_unlock();
	defer_end();
}

static void fork_child(void)
{
	the_state.pid = getpid();
	the_state.used = false;
	fork_take_child(the_state.machine);
	report_forked();
	defer_unlock();
	report_unlock();
	files_unlock();
	bars_unlock();
	uiommu_machine_fork_child(the_state.machine);
	uiommu_vfio_fork_child(the_state.vfio);
	xen_unlock();
	privcmd_unlock();
	peer_forked();
	report_stand_by();
	defer_end_child();
}

/* ---- making it ----------------------------------------------------------------------------- */

static int make_vfio(struct run_state *state)
{
	struct uiommu_vfio_options options = {
		.size = sizeof(options),
		.host = {.size = sizeof(options.host), .thread_start = state_thread_start},
		.dma_entry_limit = config.dma_entries,
		.memlock = config.memlock,
		.unsafe_interrupts = config.unsafe_interrupts,
		.iommufd_rfc = config.iommufd == RUN_IOMMUFD_RFC,
		.iommufd_test = config.iommufd_test,
	};

	files_host(&options.host);
	memory_host(&options.host);
	report_host(&options.host);
	return uiommu_vfio_create(state->machine, &options, &state->vfio);
}

/* What devices reach. What is wrong with a platform is told when the machine is made. */
static int choose_memory(const struct uiommu_memory **memory)
{
	struct uiommu_platform *platform;
	int ret;

	if (!config.platform || uiommu_platform_create(config.platform, &platform, NULL, 0))
		return 0;
	ret = xen_memory(uiommu_platform_facts(platform), memory);
	uiommu_platform_destroy(platform);
	return ret;
}

static int make(struct run_state *state)
{
	struct uiommu_machine_options options = {
		.size = sizeof(options),
		.memory = &memory_program,
		.fault = report_fault,
		.worker_start = state_thread_start,
	};
	char why[256];
	int ret;

	access_init();
	trap_install();
	defer_install();
	ret = choose_memory(&options.memory);
	if (ret) {
		report_line("cannot make the machine's memory: %s", strerror(-ret));
		return ret;
	}
	ret = run_config_machine(&config, &options, &state->machine, why, sizeof(why));
	if (ret) {
		report_line("cannot make the machine: %s", why[0] ? why : strerror(-ret));
		return ret;
	}
	ret = xen_make(state->machine);
	if (ret) {
		report_line("cannot make the hypervisor: %s", strerror(-ret));
		return ret;
	}
	ret = make_vfio(state);
	if (!ret)
		ret = -pthread_atfork(fork_prepare, fork_parent, fork_child);
	if (ret) {
		report_line("cannot make VFIO: %s", strerror(-ret));
		uiommu_vfio_destroy(state->vfio);
		uiommu_machine_destroy(state->machine);
		return ret;
	}
	state->owner = state->pid = getpid();
	if (getrandom(&state->nonce, sizeof(state->nonce), GRND_NONBLOCK) < 0)
		state->nonce = (unsigned)(uintptr_t)&ret >> 4;
	return 0;
}

struct run_state *state_get(void)
{
	struct run_state *state = state_peek();

	if (state || !configured)
		return state;
	pthread_mutex_lock(&state_mutex);
	state = published;
	if (!state && !make(&the_state)) {
		state = &the_state;
		__atomic_store_n(&published, state, __ATOMIC_RELEASE);
		report_stand_by();
		if (config.stats)
			trap_watch_deaths(report_death);
	}
	pthread_mutex_unlock(&state_mutex);
	return state;
}

/* ---- start --------------------------------------------------------------------------------- */

/* A mask inherited through exec() must not stand in the way of traps. */
static void unblock_faults(void)
{
	sigset_t faults;

	sigemptyset(&faults);
	sigaddset(&faults, SIGSEGV);
	sigaddset(&faults, SIGBUS);
	real_sigmask(SIG_UNBLOCK, &faults, NULL);
}

static void __attribute__((constructor)) start(void)
{
	const char *variable = getenv(RUN_CONFIG_VARIABLE);
	char placeholders[160];
	size_t size;
	char *text;

	if (!variable)
		return;
	size = strlen(variable) + 1;
	text = uiommu_alloc(size);
	if (!text)
		return;
	memcpy(text, variable, size);
	configured = !run_config_parse(text, &config);
	if (!configured) {
		uiommu_free(text, size);
		return;
	}
	config_text = text;
	sched_getaffinity(0, sizeof(first_cpus), &first_cpus);
	unblock_faults();
	if (config.keep >= 0)
		fds_protect(config.keep);
	paths_init(config.root);
	snprintf(placeholders, sizeof(placeholders), "%s/dev", config.root ? config.root : "");
	files_learn(placeholders);
}
