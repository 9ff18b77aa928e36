/* SPDX-License-Identifier: MIT */
/*
 * Owns the copies of BAR memory that let a forked child have a machine of its own: everything else
 * of it is private memory, which fork() copies, but BARs are shared memory files. Without this, a
 * child that closes the descriptors it inherited would reset its parent's devices. The copies are
 * made before the fork, while nothing changes; the child puts them in place of the originals, under
 * the same descriptors and at the same addresses. Where a copy can't be made the child goes on with
 * the parent's memory. Used by one thread at a time: fork() holds all locks.
 */
#include <sys/sendfile.h>

#include "run/bars.h"
#include "run/fds.h"
#include "run/fork.h"
#include "run/real.h"
#include "util/alloc.h"

#define BAR_SHIFT 40

static int *copies;
static size_t copy_count;

/* The parts of @from that have been written to. */
static int copy_extents(int from, int to, off_t size)
{
	off_t start = 0, end;

	while ((start = real_lseek(from, start, SEEK_DATA)) >= 0 && start < size) {
		end = real_lseek(from, start, SEEK_HOLE);
		if (end < 0 || real_lseek(to, start, SEEK_SET) < 0)
			return -1;
		while (start < end)
			if (sendfile(to, from, &start, (size_t)(end - start)) <= 0)
				return -1;
	}
	return errno == ENXIO || start >= size ? 0 : -1;
}

static int copy_of(struct uiommu_function *fn)
{
	int from = uiommu_function_fd(fn);
	struct stat st;
	int to;

	if (real_fstat(from, &st))
		return -1;
	to = (int)syscall(SYS_memfd_create, "uiommu-forked", 1U /* MFD_CLOEXEC */);
	if (to < 0)
		return -1;
	errno = 0;
	if (ftruncate(to, st.st_size) || copy_extents(from, to, st.st_size)) {
		real_close(to);
		return -1;
	}
	return to;
}

void fork_copy(struct uiommu_machine *machine)
{
	int saved = errno;
	size_t count = 0;

	while (uiommu_machine_function(machine, count))
		count++;
	copies = uiommu_alloc_array(count, sizeof(*copies));
	copy_count = copies ? count : 0;
	for (size_t i = 0; i < copy_count; i++)
		copies[i] = copy_of(uiommu_machine_function(machine, i));
	errno = saved;
}

void fork_keep_parent(void)
{
	for (size_t i = 0; i < copy_count; i++)
		if (copies[i] >= 0)
			real_close(copies[i]);
	if (copies)
		uiommu_free(copies, copy_count * sizeof(*copies));
	copies = NULL;
	copy_count = 0;
}

static void take(struct uiommu_function *fn, int copy)
{
	const struct uiommu_model *model = uiommu_function_info(fn)->model;
	int fd = uiommu_function_fd(fn);

	if (real_dup3(copy, fd, O_CLOEXEC) < 0)
		return;
	for (unsigned bar = 0; bar < UIOMMU_BARS; bar++)
		if (model->bars[bar].size)
			real_mmap(uiommu_function_bar(fn, bar), model->bars[bar].size,
				  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED,
				  fd, (off_t)bar << BAR_SHIFT);
	bars_remap(fn, fd, BAR_SHIFT);
}

void fork_take_child(struct uiommu_machine *machine)
{
	int saved = errno;

	for (size_t i = 0; i < copy_count; i++)
		if (copies[i] >= 0)
			take(uiommu_machine_function(machine, i), copies[i]);
	fork_keep_parent();
	errno = saved;
}
