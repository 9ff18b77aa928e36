/* SPDX-License-Identifier: MIT */
/*
 * memory.c - the memory that questions map for the device: good memory, and each way in which it
 * may be bad.
 */
#include "ask.h"

#define ALIGNMENT UINT64_C(0x200000)
#define PAGES	  16

static uint8_t *sources[SOURCES];
static int memfd = -1;

static uint8_t *pages(size_t size, int prot)
{
	void *at = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

bool make_sources(void)
{
	uint8_t *room = pages(MEMORY_SIZE + ALIGNMENT, PROT_READ | PROT_WRITE);
	void *file;
	unsigned i;

	memfd = memfd_create("questions", MFD_CLOEXEC);
	if (!room || memfd < 0 || ftruncate(memfd, PAGES / 2 * PAGE))
		return false;
	sources[MEMORY] = room + (-(uintptr_t)room & (ALIGNMENT - 1));
	memset(sources[MEMORY], 1, MEMORY_SIZE);
	for (i = READ_ONLY; i <= HALF_THERE; i++) {
		sources[i] = pages(PAGES * PAGE, PROT_READ | PROT_WRITE);
		if (!sources[i])
			return false;
		memset(sources[i], 1, PAGES * PAGE);
	}
	file = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (file == MAP_FAILED)
		return false;
	sources[MEMFD] = file;
	return !mprotect(sources[READ_ONLY], PAGES * PAGE, PROT_READ) &&
	       !mprotect(sources[NO_ACCESS], PAGES * PAGE, PROT_NONE) &&
	       !munmap(sources[NOT_THERE], PAGES * PAGE) &&
	       !munmap(sources[HALF_THERE] + PAGE, (PAGES - 1) * PAGE);
}

uint64_t source_at(enum source source)
{
	return (uintptr_t)sources[source];
}

int source_memfd(void)
{
	return memfd;
}

const char *source_name(enum source source)
{
	static const char *const names[SOURCES] = {
		[MEMORY] = "memory",	   [READ_ONLY] = "read-only",	[NO_ACCESS] = "no-access",
		[NOT_THERE] = "not-there", [HALF_THERE] = "half-there", [MEMFD] = "memfd",
	};

	return names[source];
}
