/* SPDX-License-Identifier: MIT */
/*
 * Owns what is written to stderr, through a copy of the descriptor made when the machine is, so
 * that a program which closes or reuses number 2 is not written into. Lines are written whole.
 * Faults are rate-limited: the first ten, then one line for each second that had some.
 * A signal that ends the program may have interrupted anything, a holder of locks included; so the
 * statistics are then written by a thread that waits for this, and the signal doesn't wait for
 * ever. Lock: report_mutex guards the limiter and the picture; a leaf, except that taking a picture
 * reads the address spaces outside of it. Nothing here can fail, it can only stay silent.
 */
#include <linux/futex.h>
#include <linux/vfio.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "run/fds.h"
#include "run/picture.h"
#include "run/real.h"
#include "run/report.h"
#include "run/state.h"

#define FAULTS_AT_FIRST 10

static pthread_mutex_t report_mutex = PTHREAD_MUTEX_INITIALIZER;
static int out = STDERR_FILENO;
static bool done;

/* Where a death is on its way to being told; a futex. */
enum { DEATH_UNHEARD, DEATH_NONE, DEATH_ASKED, DEATH_TOLD };
static unsigned death;

static struct {
	uint64_t seen, hidden;
	time_t second;
} faults;

static struct {
	struct picture picture;
	char name[64];
	bool taken;
} fullest;

void report_lock(void)
{
	pthread_mutex_lock(&report_mutex);
}

void report_unlock(void)
{
	pthread_mutex_unlock(&report_mutex);
}

void report_forked(void)
{
	memset(&faults, 0, sizeof(faults));
	fullest.taken = false;
	done = false;
	death = DEATH_UNHEARD;
}

static void put(const char *text, size_t len)
{
	while (len) {
		ssize_t n = real_write(out, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

void report_line(const char *format, ...)
{
	char text[512] = "uiommu: ";
	int saved = errno;
	va_list args;
	size_t len;

	va_start(args, format);
	vsnprintf(text + 8, sizeof(text) - 9, format, args);
	va_end(args);
	len = strlen(text);
	text[len] = '\n';
	put(text, len + 1);
	errno = saved;
}

/* ---- faults and refusals ------------------------------------------------------------------- */

static struct uiommu_function *function_of(uiommu_rid rid)
{
	struct run_state *state = state_peek();
	struct uiommu_function *fn;

	for (size_t i = 0; state && (fn = uiommu_machine_function(state->machine, i)); i++)
		if (uiommu_function_info(fn)->rid == rid)
			return fn;
	return NULL;
}

/* Is this fault to be told? *@hidden: how many were not told before it. */
static bool fault_due(uint64_t *hidden)
{
	struct timespec now = {0, 0};
	bool due;

	clock_gettime(CLOCK_MONOTONIC, &now);
	pthread_mutex_lock(&report_mutex);
	due = faults.seen < FAULTS_AT_FIRST || now.tv_sec != faults.second;
	faults.seen++;
	*hidden = faults.hidden;
	faults.hidden = due ? 0 : faults.hidden + 1;
	if (due)
		faults.second = now.tv_sec;
	pthread_mutex_unlock(&report_mutex);
	return due;
}

/* What the IOMMU does about it. */
static const char *consequence(const struct uiommu_fault *fault)
{
	if (fault->stage1)
		return " (by the virtual IOMMU)";
	return fault->cut_off
		       ? "; the IOMMU cuts it off until the next MAP_DMA of its container, or "
			 "until its group joins one"
		       : "";
}

/* An MSI that did not arrive: say at which doorbell. */
static void report_interrupt(const struct uiommu_fault *fault, const char *who)
{
	struct run_state *state = state_peek();
	const struct uiommu_doorbell *doorbell =
		state ? uiommu_platform_doorbell_at(uiommu_machine_platform(state->machine),
						    fault->rid, fault->iova)
		      : NULL;

	report_line("interrupt lost: %s writes %#llx to IOVA %#llx%s%s: %s%s", who,
		    (unsigned long long)fault->data, (unsigned long long)fault->iova,
		    doorbell ? ", meant for the " : "", doorbell ? doorbell->name : "",
		    uiommu_fault_reason_name(fault->reason), consequence(fault));
}

void report_fault(void *ctx, const struct uiommu_fault *fault)
{
	struct uiommu_function *fn = function_of(fault->rid);
	const struct uiommu_function_info *info = fn ? uiommu_function_info(fn) : NULL;
	uint64_t hidden;
	char who[128], pasid[24] = "";

	if (!fault_due(&hidden))
		return;
	if (hidden)
		report_line("%llu more DMA faults were not shown", (unsigned long long)hidden);
	if (fault->pasid)
		snprintf(pasid, sizeof(pasid), ", PASID %u", fault->pasid);
	snprintf(who, sizeof(who), "%s %s (rid %#x%s)", info ? info->model->name : "?",
		 info ? info->name : "?", fault->rid, pasid);
	if (fault->interrupt)
		report_interrupt(fault, who);
	else
		report_line("DMA fault: %s %s IOVA %#llx: %s%s", who,
			    fault->access & UIOMMU_WRITE ? "writes" : "reads",
			    (unsigned long long)fault->iova,
			    uiommu_fault_reason_name(fault->reason), consequence(fault));
}

static void refused(void *ctx, const char *what, const struct uiommu_refusal *refusal)
{
	const struct run_config *config = state_config();
	char text[384];

	if (!config || !config->explain)
		return;
	uiommu_refusal_format(refusal, text, sizeof(text));
	report_line("%s refused: %s", what, text);
}

static void kernel_log(void *ctx, const char *line)
{
	report_line("Linux would log: %s", line);
}

void report_host(struct uiommu_vfio_host *host)
{
	int copy = fds_keep(real_fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0));

	if (copy >= 0)
		out = copy;
	host->refused = refused;
	host->log = kernel_log;
}

void report_access(int error, struct uiommu_function *fn, unsigned bar, uint64_t offset,
		   uint64_t rip, const unsigned char *bytes, unsigned len)
{
	const char *name = uiommu_function_info(fn)->name;
	char hex[15 * 3 + 1] = "";

	if (error == -EIO) {
		report_line("%s BAR %u offset %#llx: access while the function does not decode "
			    "memory (COMMAND register): SIGBUS",
			    name, bar, (unsigned long long)offset);
	} else if (error == -ENOSYS) {
		for (unsigned i = 0; i < len && i < 15; i++)
			snprintf(hex + i * 3, 4, " %02x", bytes[i]);
		report_line("%s BAR %u offset %#llx: cannot perform the instruction at %#llx:%s",
			    name, bar, (unsigned long long)offset, (unsigned long long)rip, hex);
	}
}

void report_foreign(int fd)
{
	uint64_t identity = (uint64_t)real_lseek(fd, 0, SEEK_CUR);

	report_line("descriptor %d belongs to the machine of process %u; secondary processes are "
		    "not supported",
		    fd, (unsigned)(identity >> 33 & 0x3fffff));
}

/* ---- the picture --------------------------------------------------------------------------- */

/* Worth another picture: noticeably fuller than the last, so that their number is logarithmic. */
static bool fuller(uint64_t bytes, bool last_chance)
{
	uint64_t old = fullest.picture.bytes;

	return bytes && (!fullest.taken || bytes > old + (last_chance ? 0 : old / 4));
}

struct look {
	bool last_chance;
};

static void look(void *ctx, struct uiommu_ioas *ioas, const char *name)
{
	const struct look *how = ctx;
	struct uiommu_ioas_stats stats;
	struct picture picture;

	uiommu_ioas_stats(ioas, &stats);
	pthread_mutex_lock(&report_mutex);
	if (!fuller(stats.bytes, how->last_chance)) {
		pthread_mutex_unlock(&report_mutex);
		return;
	}
	pthread_mutex_unlock(&report_mutex);
	picture_take(ioas, &picture);
	pthread_mutex_lock(&report_mutex);
	fullest.picture = picture;
	fullest.taken = true;
	snprintf(fullest.name, sizeof(fullest.name), "%s", name ? name : "container");
	pthread_mutex_unlock(&report_mutex);
}

static void look_at_all(bool last_chance)
{
	const struct run_config *config = state_config();
	struct run_state *state = state_peek();
	struct look how = {last_chance};

	if (config && config->stats && state)
		uiommu_vfio_each_ioas(state->vfio, look, &how);
}

void report_before_request(unsigned op)
{
	if (op == VFIO_IOMMU_UNMAP_DMA)
		look_at_all(false);
}

void report_before_release(void)
{
	look_at_all(true);
}

/* ---- the end ------------------------------------------------------------------------------- */

/* A line of a table: no name before it. */
static void __attribute__((format(printf, 1, 2))) table_line(const char *format, ...)
{
	char text[256];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text) - 1, format, args);
	va_end(args);
	if (len < 0)
		return;
	if ((size_t)len > sizeof(text) - 2)
		len = sizeof(text) - 2;
	text[len] = '\n';
	put(text, (size_t)len + 1);
}

static void picture_line(void *ctx, const char *text)
{
	table_line("%s", text);
}

static bool use_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(out) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

static void table_of_maps(struct run_state *state)
{
	struct uiommu_vfio_stats stats;
	char live[16], largest[16];

	uiommu_vfio_stats(state->vfio, &stats);
	table_line("%-9s %9s %9s %9s %10s %8s %10s %8s", "mappings", "made", "removed", "live",
		   "bytes", "most", "largest", "refused");
	table_line("%-9s %9llu %9llu %9llu %10s %8llu %10s %8llu", "",
		   (unsigned long long)stats.maps, (unsigned long long)stats.unmaps,
		   (unsigned long long)stats.live, picture_size(stats.live_bytes, live),
		   (unsigned long long)stats.most, picture_size(stats.largest, largest),
		   (unsigned long long)stats.refused);
}

static void table_of_functions(struct run_state *state)
{
	struct uiommu_function *fn;
	char read[16], written[16];

	table_line("%-21s %9s %10s %9s %10s %7s %7s", "device", "DMA reads", "bytes", "writes",
		   "bytes", "irqs", "faults");
	for (size_t i = 0; (fn = uiommu_machine_function(state->machine, i)); i++) {
		const struct uiommu_function_info *info = uiommu_function_info(fn);
		struct uiommu_function_stats stats;

		uiommu_function_stats(fn, &stats);
		table_line("%-12s %-8.8s %9llu %10s %9llu %10s %7llu %7llu", info->name,
			   info->model->name, (unsigned long long)stats.dma.reads,
			   picture_size(stats.dma.bytes_read, read),
			   (unsigned long long)stats.dma.writes,
			   picture_size(stats.dma.bytes_written, written),
			   (unsigned long long)stats.interrupts,
			   (unsigned long long)stats.dma.faults);
	}
}

static void table_of_iotlb(struct run_state *state)
{
	struct uiommu_unit_stats unit;

	uiommu_unit_stats(uiommu_machine_unit(state->machine), &unit);
	table_line("%-12s %12s %12s %12s %12s %12s", "IOTLB", "hits", "misses", "walks", "flushes",
		   "flushed");
	table_line("%-12s %12llu %12llu %12llu %12llu %12llu", "",
		   (unsigned long long)unit.iotlb_hits, (unsigned long long)unit.iotlb_misses,
		   (unsigned long long)unit.walks, (unsigned long long)unit.flushes,
		   (unsigned long long)unit.entries_flushed);
}

static void statistics(struct run_state *state)
{
	const struct uiommu_platform_facts *facts =
		uiommu_platform_facts(uiommu_machine_platform(state->machine));

	report_line("process %d (%s) on %s, %u bits of IOVA", (int)getpid(),
		    program_invocation_short_name, facts->name, facts->width);
	table_of_maps(state);
	table_of_functions(state);
	table_of_iotlb(state);
	look_at_all(true);
	if (!fullest.taken)
		return;
	table_line("%s at its fullest, %llu mapping%s; a bar's column is a factor of 8 in size",
		   fullest.name, (unsigned long long)fullest.picture.areas,
		   fullest.picture.areas == 1 ? "" : "s");
	picture_draw(&fullest.picture, &(struct picture_style){.colour = use_colour()},
		     picture_line, NULL);
}

void report_exit(void)
{
	const struct run_config *config = state_config();
	struct run_state *state = state_peek();

	if (!config || !(state ? state->pid == getpid() : config->pid == getpid()))
		return;
	if (__atomic_exchange_n(&done, true, __ATOMIC_SEQ_CST))
		return;
	if (state && faults.hidden)
		report_line("%llu more DMA faults were not shown; %llu in all",
			    (unsigned long long)faults.hidden, (unsigned long long)faults.seen);
	if (!config->stats)
		return;
	if (state && (state->used || state->owner == state->pid))
		statistics(state);
	else if (!state)
		report_line("process %d (%s) did not use VFIO", (int)getpid(),
			    program_invocation_short_name);
}

/* ---- the end by a signal ------------------------------------------------------------------- */

static void wait_while(unsigned value, const struct timespec *timeout)
{
	(void)syscall(SYS_futex, &death, FUTEX_WAIT_PRIVATE, value, timeout, NULL, 0);
}

static void *teller(void *unused)
{
	state_thread_start(NULL);
	pthread_setname_np(pthread_self(), "uiommu/report");
	while (__atomic_load_n(&death, __ATOMIC_ACQUIRE) != DEATH_ASKED)
		wait_while(DEATH_NONE, NULL);
	report_exit();
	__atomic_store_n(&death, DEATH_TOLD, __ATOMIC_RELEASE);
	(void)syscall(SYS_futex, &death, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	return NULL;
}

void report_stand_by(void)
{
	const struct run_config *config = state_config();
	sigset_t saved;
	pthread_attr_t attr;
	pthread_t thread;

	if (!config || !config->stats || pthread_attr_init(&attr))
		return;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	real_block_signals(&saved);
	death = DEATH_NONE;
	if (pthread_create(&thread, &attr, teller, NULL))
		death = DEATH_UNHEARD;
	real_restore_signals(&saved);
	pthread_attr_destroy(&attr);
}

void report_death(void)
{
	const struct timespec long_enough = {.tv_sec = 1};
	struct run_state *state = state_peek();
	unsigned none = DEATH_NONE;

	if (!state || state->pid != getpid())
		return;
	if (__atomic_compare_exchange_n(&death, &none, DEATH_ASKED, false, __ATOMIC_SEQ_CST,
					__ATOMIC_SEQ_CST))
		(void)syscall(SYS_futex, &death, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	if (__atomic_load_n(&death, __ATOMIC_ACQUIRE) == DEATH_ASKED)
		wait_while(DEATH_ASKED, &long_enough);
}

static void __attribute__((destructor)) at_exit(void)
{
	report_exit();
}
