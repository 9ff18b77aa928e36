/* SPDX-License-Identifier: MIT */
/*
 * Owns the two allocator hooks. They are set once, before anything else; there is no lock.
 */
#include "util/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* From this size on memory comes straight from the kernel, zeroed and untouched. */
#define BIG (128 * 1024)
/* From this alignment on it is to be huge pages: their faults and their TLB entries are fewer. */
#define HUGE (2 * 1024 * 1024)

static void *map_aligned(size_t size, size_t align)
{
	size_t spare = align > 4096 ? align : 0, head;
	char *ptr;

	if (size + spare < size)
		return NULL;
	ptr = mmap(NULL, size + spare, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ptr == MAP_FAILED)
		return NULL;
	if (!spare)
		return ptr;
	head = -(uintptr_t)ptr & (align - 1);
	if (head)
		munmap(ptr, head);
	if (spare - head)
		munmap(ptr + head + size, spare - head);
	if (align >= HUGE)
		madvise(ptr + head, size, MADV_HUGEPAGE);
	return ptr + head;
}

/* Running out of memory shows in the result alone: errno is the program's. */
static void *default_alloc(size_t size, size_t align)
{
	int saved = errno;
	void *ptr;

	if (size >= BIG)
		ptr = map_aligned(size, align);
	else if (posix_memalign(&ptr, align, size))
		ptr = NULL;
	else
		memset(ptr, 0, size);
	errno = saved;
	return ptr;
}

static void default_release(void *ptr, size_t size)
{
	if (size >= BIG)
		munmap(ptr, size);
	else
		free(ptr);
}

static void *(*alloc_hook)(size_t size, size_t align) = default_alloc;
static void (*release_hook)(void *ptr, size_t size) = default_release;

UIOMMU_API void uiommu_set_allocator(void *(*alloc)(size_t size, size_t align),
				     void (*release)(void *ptr, size_t size))
{
	alloc_hook = alloc ? alloc : default_alloc;
	release_hook = release ? release : default_release;
}

void *uiommu_alloc_aligned(size_t size, size_t align)
{
	return alloc_hook(size, align);
}

void *uiommu_alloc(size_t size)
{
	return alloc_hook(size, 16);
}

void *uiommu_alloc_array(size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return NULL;
	return uiommu_alloc(bytes);
}

void uiommu_free(void *ptr, size_t size)
{
	if (ptr)
		release_hook(ptr, size);
}
