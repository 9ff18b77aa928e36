/* SPDX-License-Identifier: MIT */
/*
 * Owns the table of BAR mappings: sorted, disjoint, of fixed size, because signal handlers search
 * it. One writer at a time under table_mutex, with signals blocked; readers never lock: they copy
 * an entry and look at the sequence count again. A mapping holds a reference on its device file,
 * dropped outside of the mutex. Lock order: table_mutex is a leaf. bars_gone() never fails.
 */
#include <pthread.h>
#include <string.h>

#include "run/bars.h"
#include "run/files.h"
#include "run/real.h"

#define TABLE_SIZE 1024
#define PAGE	   4096UL

static pthread_mutex_t table_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct run_bar table[TABLE_SIZE];
static unsigned table_count;
static unsigned table_sequence; /* odd while the table changes */
static uintptr_t table_lowest = UINTPTR_MAX, table_highest;

static void change_begin(sigset_t *saved)
{
	real_block_signals(saved);
	pthread_mutex_lock(&table_mutex);
}

static void change_end(const sigset_t *saved)
{
	pthread_mutex_unlock(&table_mutex);
	real_restore_signals(saved);
}

void bars_lock(void)
{
	pthread_mutex_lock(&table_mutex);
}

void bars_unlock(void)
{
	pthread_mutex_unlock(&table_mutex);
}

static void write_begin(void)
{
	__atomic_store_n(&table_sequence, table_sequence + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void write_end(void)
{
	uintptr_t lowest = UINTPTR_MAX, highest = 0;

	if (table_count) {
		lowest = table[0].first;
		highest = table[table_count - 1].last;
	}
	__atomic_store_n(&table_lowest, lowest, __ATOMIC_RELAXED);
	__atomic_store_n(&table_highest, highest, __ATOMIC_RELAXED);
	__atomic_store_n(&table_sequence, table_sequence + 1, __ATOMIC_RELEASE);
}

bool bars_near(const void *addr, size_t len)
{
	uintptr_t first = (uintptr_t)addr;
	uintptr_t last = len ? first + len - 1 : first;

	if (last < first)
		last = UINTPTR_MAX;
	return first <= __atomic_load_n(&table_highest, __ATOMIC_RELAXED) &&
	       last >= __atomic_load_n(&table_lowest, __ATOMIC_RELAXED);
}

/* Index of the first entry that ends at or above @addr. */
static unsigned search(uintptr_t addr)
{
	unsigned low = 0, high = __atomic_load_n(&table_count, __ATOMIC_RELAXED);

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (table[middle].last < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool bars_find(uintptr_t addr, struct run_bar *out)
{
	unsigned sequence, at;
	bool found;

	if (!bars_near((const void *)addr, 1))
		return false;
	do {
		while ((sequence = __atomic_load_n(&table_sequence, __ATOMIC_ACQUIRE)) & 1)
			__builtin_ia32_pause();
		at = search(addr);
		found = at < TABLE_SIZE && at < __atomic_load_n(&table_count, __ATOMIC_RELAXED);
		if (found)
			*out = table[at];
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (__atomic_load_n(&table_sequence, __ATOMIC_RELAXED) != sequence);
	return found && out->first <= addr && addr <= out->last;
}

static void insert(const struct run_bar *bar)
{
	unsigned at = search(bar->first);

	memmove(&table[at + 1], &table[at], (table_count - at) * sizeof(table[0]));
	table[at] = *bar;
	table_count++;
}

static void erase(unsigned at)
{
	memmove(&table[at], &table[at + 1], (table_count - at - 1) * sizeof(table[0]));
	table_count--;
}

/* Take [first, last] out of entry @at, which overlaps it. Returns the number of entries that are
 * left of it: each holds a reference. A full table cannot hold both halves of a cut in the middle:
 * then the upper one is forgotten, and stores there are faults of the program's own. */
static int cut(unsigned at, uintptr_t first, uintptr_t last)
{
	struct run_bar old = table[at];
	int left = 0;

	erase(at);
	if (old.first < first) {
		struct run_bar lower = old;

		lower.last = first - 1;
		insert(&lower);
		left++;
	}
	if (old.last > last && table_count < TABLE_SIZE) {
		struct run_bar upper = old;

		upper.offset += last + 1 - old.first;
		upper.first = last + 1;
		insert(&upper);
		left++;
	}
	return left;
}

/* Take [first, last] out of the first entry that overlaps it; false if there is none. *@freed: the
 * file that has lost its entry, or NULL. */
static bool cut_next(uintptr_t first, uintptr_t last, struct run_file **freed)
{
	unsigned at = search(first);
	struct run_file *file;
	int left;

	*freed = NULL;
	if (at == table_count || table[at].first > last)
		return false;
	file = table[at].file;
	write_begin();
	left = cut(at, first, last);
	write_end();
	if (!left)
		*freed = file;
	else if (left > 1)
		files_hold(file);
	return true;
}

void bars_gone(const void *addr, size_t len)
{
	uintptr_t first = (uintptr_t)addr & ~(PAGE - 1);
	uintptr_t last = ((uintptr_t)addr + len - 1) | (PAGE - 1);
	struct run_file *file;
	sigset_t saved;
	bool more = true;

	if (!len || !bars_near(addr, len))
		return;
	while (more) {
		change_begin(&saved);
		more = cut_next(first, last, &file);
		change_end(&saved);
		if (file)
			files_put(file);
	}
}

static int reachable(const struct run_bar *bar)
{
	return bar->trap_reads || !(bar->prot & (PROT_READ | PROT_WRITE)) ? PROT_NONE : PROT_READ;
}

static int add(const struct run_bar *bar)
{
	sigset_t saved;
	int ret = 0;

	change_begin(&saved);
	if (table_count == TABLE_SIZE) {
		ret = -ENOMEM;
	} else {
		files_hold(bar->file);
		write_begin();
		insert(bar);
		write_end();
	}
	change_end(&saved);
	return ret;
}

void *bars_mmap(struct run_file *file, void *addr, size_t len, int prot, int flags, uint64_t offset)
{
	struct uiommu_vfio_mapping where;
	struct run_bar bar;
	sigset_t saved;
	void *at;
	int ret;

	real_block_signals(&saved);
	ret = uiommu_vfio_mmap(files_vfio(file), len, prot, flags, offset, &where);
	real_restore_signals(&saved);
	if (ret) {
		errno = -ret;
		return MAP_FAILED;
	}
	bar = (struct run_bar){
		.function = where.function,
		.bar = where.bar,
		.offset = where.offset,
		.prot = prot,
		.trap_reads = where.trap_reads,
		.file = file,
	};
	at = real_mmap(addr, len, reachable(&bar), flags, where.fd, (off_t)where.fd_offset);
	if (at == MAP_FAILED)
		return at;
	if (flags & MAP_FIXED)
		bars_gone(at, len);
	bar.first = (uintptr_t)at;
	bar.last = bar.first + ((len + PAGE - 1) & ~(PAGE - 1)) - 1;
	ret = add(&bar);
	if (ret) {
		real_munmap(at, len);
		errno = -ret;
		return MAP_FAILED;
	}
	return at;
}

/* Cut entries at @addr, so that a range can be changed by itself. */
static void split(uintptr_t addr)
{
	unsigned at = search(addr);
	struct run_bar upper;

	if (at == table_count || table[at].first >= addr || table_count == TABLE_SIZE)
		return;
	upper = table[at];
	upper.offset += addr - upper.first;
	upper.first = addr;
	files_hold(upper.file);
	table[at].last = addr - 1;
	insert(&upper);
}

int bars_mprotect(void *addr, size_t len, int prot)
{
	uintptr_t first = (uintptr_t)addr;
	uintptr_t last = (first + len - 1) | (PAGE - 1);
	uintptr_t at = first;
	sigset_t saved;
	int ret = 0;

	change_begin(&saved);
	write_begin();
	split(first);
	split(last + 1);
	/* Piece by piece: what is no BAR gets what was asked for. */
	for (unsigned i = search(first); at <= last && !ret; i++) {
		bool bar = i < table_count && table[i].first <= last;
		uintptr_t next = bar ? table[i].first : last + 1;

		if (next > at)
			ret = real_mprotect((void *)at, next - at, prot);
		if (!bar || ret)
			break;
		table[i].prot = prot;
		ret = real_mprotect((void *)next, table[i].last + 1 - next, reachable(&table[i]));
		at = table[i].last + 1;
	}
	write_end();
	change_end(&saved);
	return ret;
}

void *bars_mremap(void *addr, size_t len, size_t new_len, int flags, void *to)
{
	struct run_bar bar;
	void *at;

	if (!bars_find((uintptr_t)addr, &bar) || bar.first != (uintptr_t)addr || new_len > len) {
		/* VFIO's mappings can be moved and shrunk, never grown. */
		errno = EFAULT;
		return MAP_FAILED;
	}
	files_hold(bar.file);
	at = (void *)syscall(SYS_mremap, addr, len, new_len, flags, to);
	if (at != MAP_FAILED) {
		bars_gone(addr, len);
		bars_gone(at, new_len);
		bar.first = (uintptr_t)at;
		bar.last = bar.first + ((new_len + PAGE - 1) & ~(PAGE - 1)) - 1;
		if (add(&bar)) {
			real_munmap(at, new_len);
			errno = ENOMEM;
			at = MAP_FAILED;
		}
	}
	files_put(bar.file);
	return at;
}

void bars_remap(struct uiommu_function *fn, int fd, unsigned shift)
{
	for (unsigned i = 0; i < table_count; i++) {
		const struct run_bar *bar = &table[i];

		if (bar->function == fn)
			real_mmap((void *)bar->first, bar->last + 1 - bar->first, reachable(bar),
				  MAP_SHARED | MAP_FIXED, fd,
				  (off_t)(((uint64_t)bar->bar << shift) + bar->offset));
	}
}
