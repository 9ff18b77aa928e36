/* SPDX-License-Identifier: MIT */
/*
 * Owns what the program has mapped of /dev/xen/privcmd, into which MMAPBATCH puts domains' frames
 * (Linux 7.2, drivers/xen/privcmd.c; <xen/privcmd.h>). Of its requests there are HYPERCALL and
 * MMAPBATCH_V2; others are -ENOTTY, as on a kernel without them.
 *
 * A mapping is inaccessible until frames are put into it; touching it before is SIGSEGV here,
 * SIGBUS there. Locks: mappings_lock, before those of the machine's frames.
 */
#include <errno.h>
#include <linux/types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include <uiommu/xen.h>

#include "run/copy.h"
#include "run/privcmd.h"
#include "run/real.h"
#include "run/xen.h"
#include "util/alloc.h"

#define PAGE UINT64_C(4096)

/* <xen/privcmd.h> can't be included without the kernel's own headers. */
struct privcmd_hypercall {
	__u64 op;
	__u64 arg[5];
};

struct privcmd_mmapbatch_v2 {
	unsigned int num;
	uint16_t dom;
	__u64 addr;
	const uint64_t *arr;
	int *err;
};

#define PRIVCMD_HYPERCALL    _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))
#define PRIVCMD_MMAPBATCH_V2 _IOC(_IOC_NONE, 'P', 4, sizeof(struct privcmd_mmapbatch_v2))

_Static_assert(sizeof(struct privcmd_hypercall) == 48, "as the kernel has it");
_Static_assert(sizeof(struct privcmd_mmapbatch_v2) == 32, "as the kernel has it");

struct mapping {
	struct mapping *next;
	uintptr_t first, last; /* bytes, closed */
	int prot;
};

static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping *mappings;
static _Atomic bool any_mapping;

bool privcmd_concerned(unsigned long op)
{
	return _IOC_TYPE(op) == 'P' && xen_there();
}

/* ---- mappings ---- */

void *privcmd_mmap(void *addr, size_t len, int prot, int flags)
{
	struct mapping *mapping = uiommu_alloc(sizeof(*mapping));
	void *at;

	if (!mapping) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	at = real_mmap(addr, len, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
			       (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)),
		       -1, 0);
	if (at == MAP_FAILED) {
		uiommu_free(mapping, sizeof(*mapping));
		return at;
	}
	privcmd_unmapped(at, len);
	mapping->first = (uintptr_t)at;
	mapping->last = mapping->first + ((len + PAGE - 1) & ~(PAGE - 1)) - 1;
	mapping->prot = prot;
	pthread_mutex_lock(&mappings_lock);
	mapping->next = mappings;
	mappings = mapping;
	any_mapping = true;
	pthread_mutex_unlock(&mappings_lock);
	return at;
}

void privcmd_unmapped(const void *addr, size_t len)
{
	uintptr_t first = (uintptr_t)addr, last = first + len - 1;

	if (!any_mapping || !len)
		return;
	/* What is left of a mapping that is cut is forgotten too: nothing can be put there any
	 * more, and what was put there stays. */
	pthread_mutex_lock(&mappings_lock);
	for (struct mapping **link = &mappings; *link;) {
		struct mapping *mapping = *link;

		if (mapping->first <= last && first <= mapping->last) {
			*link = mapping->next;
			uiommu_free(mapping, sizeof(*mapping));
		} else {
			link = &mapping->next;
		}
	}
	pthread_mutex_unlock(&mappings_lock);
}

/* The mapping's protection; -EINVAL if the range is not inside one. mappings_lock held. */
static int find_prot(uintptr_t first, uint64_t bytes)
{
	for (const struct mapping *m = mappings; m; m = m->next)
		if (m->first <= first && first <= m->last && bytes - 1 <= m->last - first)
			return m->prot;
	return -EINVAL;
}

/* Frames that lie side by side in the memory file go into one mapping of the kernel's. */
struct run {
	uintptr_t at;
	uint64_t len, offset;
	int fd;
};

static int put_run(const struct run *run, int prot)
{
	if (run->len && real_mmap((void *)run->at, run->len, prot, MAP_SHARED | MAP_FIXED, run->fd,
				  (off_t)run->offset) == MAP_FAILED)
		return -errno;
	return 0;
}

/* Put the frames where they belong; each has its error. -ENOENT is told of all. */
static long put_frames(const struct privcmd_mmapbatch_v2 *batch, int prot)
{
	struct run run = {0};
	long ret = 0;

	for (unsigned i = 0; i < batch->num; i++) {
		uint64_t gfn, offset = 0;
		int fd = -1, error;

		if (copy_safely(&gfn, &batch->arr[i], sizeof(gfn)))
			return -EFAULT;
		/* Xen says EINVAL of a frame that isn't there; ENOENT is for one paged out. */
		error = xen_frame(batch->dom, gfn, &fd, &offset) ? -EINVAL : 0;
		if (copy_safely(&batch->err[i], &error, sizeof(error)))
			return -EFAULT;
		if (!error && run.len && run.at + run.len == batch->addr + i * PAGE &&
		    run.offset + run.len == offset) {
			run.len += PAGE;
			continue;
		}
		ret = put_run(&run, prot);
		if (ret)
			return ret;
		run = (struct run){.at = (uintptr_t)batch->addr + i * PAGE,
				   .len = error ? 0 : PAGE,
				   .offset = offset,
				   .fd = fd};
	}
	return put_run(&run, prot);
}

static long mmapbatch(unsigned long arg)
{
	struct privcmd_mmapbatch_v2 batch;
	long ret;
	int prot;

	if (copy_safely(&batch, (const void *)arg, sizeof(batch)))
		return -EFAULT;
	if (!batch.num || batch.num > INT32_MAX || (batch.addr & (PAGE - 1)))
		return -EINVAL;
	pthread_mutex_lock(&mappings_lock);
	prot = find_prot((uintptr_t)batch.addr, batch.num * PAGE);
	ret = prot < 0 ? prot : put_frames(&batch, prot);
	pthread_mutex_unlock(&mappings_lock);
	return ret;
}

void privcmd_lock(void)
{
	pthread_mutex_lock(&mappings_lock);
}

void privcmd_unlock(void)
{
	pthread_mutex_unlock(&mappings_lock);
}

/* ---- requests ---- */

static long hypercall(unsigned long arg)
{
	struct privcmd_hypercall call;
	uint64_t args[5];

	if (copy_safely(&call, (const void *)arg, sizeof(call)))
		return -EFAULT;
	for (unsigned i = 0; i < 5; i++)
		args[i] = call.arg[i];
	return xen_hypercall(call.op, args);
}

long privcmd_ioctl(unsigned long op, unsigned long arg)
{
	switch ((unsigned)op) {
	case PRIVCMD_HYPERCALL:
		return hypercall(arg);
	case PRIVCMD_MMAPBATCH_V2:
		return mmapbatch(arg);
	}
	return -ENOTTY;
}
