/* SPDX-License-Identifier: MIT */
/*
 * What a person sees on stderr: faults, refusals, and at the end statistics and the picture.
 */
#ifndef RUN_REPORT_H
#define RUN_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include <uiommu/vfio.h>

/* One line, "uiommu: " before it. Async-signal-safe for short lines without floating point. */
void report_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Machine and front end callbacks: every DMA fault (rate-limited), every refusal (--explain). */
void report_fault(void *ctx, const struct uiommu_fault *fault);
void report_host(struct uiommu_vfio_host *host);

/* An access to a BAR that could not be performed: -ENOSYS or -EIO; others are not told. */
void report_access(int error, struct uiommu_function *fn, unsigned bar, uint64_t offset,
		   uint64_t rip, const unsigned char *bytes, unsigned len);
/* A descriptor of another process's. */
void report_foreign(int fd);

/* Before mappings may go: is the address space fuller than in the picture taken last? @op is the
 * ioctl that is to be performed. */
void report_before_request(unsigned op);
void report_before_release(void);

/* At the process's end: the statistics, once. */
void report_exit(void);

/* Have a thread ready that does the same for a process which a signal ends, if there is anything to
 * be told at the end; and, in a signal handler, let it do so, for a second at most. */
void report_stand_by(void);
void report_death(void);

void report_lock(void);
void report_unlock(void);
/* In the child of fork(), with the lock held: nothing has happened yet. */
void report_forked(void);

#endif
