/* SPDX-License-Identifier: MIT */
/*
 * Owns the table of BAR mappings, and of doorbells' pages: sorted and disjoint. One writer at a
 * time under table_mutex, with signals blocked; readers, which are signal handlers too, never lock:
 * they copy an entry and look at the sequence count again. Table and address space change together:
 * the system call is made with the mutex held and, where it takes a mapping away, while readers
 * wait, so that no other thread's new mapping at the same address is mistaken for the old one.
 * Whatever can fail of the table's part is reserved before the call. A table that has become too
 * small stays, for readers that still look at it: all of them together are smaller than the last.
 * A mapping holds a reference on its device file, dropped outside of the mutex. Lock order:
 * table_mutex is a leaf.
 */
#include <pthread.h>
#include <string.h>

#include "run/bars.h"
#include "run/files.h"
#include "run/real.h"
#include "util/alloc.h"

#define TABLE_FIRST 1024
#define PAGE	    4096UL
/* Entries that one change can add: a cut in two at either end, and a new one. */
#define CHANGE_ADDS 3
/* Files that one change can drop without an allocation. */
#define FREED_FEW 16
/* Looks at the sequence count before a reader lets others run. */
#define READER_SPINS 64

struct table {
	unsigned capacity;
	struct run_bar *entries;
};

static pthread_mutex_t table_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct run_bar first_entries[TABLE_FIRST];
static struct table first_table = {TABLE_FIRST, first_entries};
static struct table *the_table = &first_table;
static unsigned table_count;
static unsigned table_sequence; /* odd while the table changes */
static uintptr_t table_lowest = UINTPTR_MAX, table_highest;

/* One change: what it needs, and the files whose entries it has removed. */
struct change {
	sigset_t saved;
	struct run_file **freed;
	size_t count, room;
	struct run_file *few[FREED_FEW];
};

static uintptr_t round_up(uintptr_t len)
{
	return (len + PAGE - 1) & ~(PAGE - 1);
}

/* The last byte of the pages of [addr, addr + len), for @len > 0. */
static uintptr_t last_of(const void *addr, size_t len)
{
	uintptr_t first = (uintptr_t)addr, last = first + len - 1;

	return last < first ? UINTPTR_MAX : last | (PAGE - 1);
}

static void change_begin(struct change *change)
{
	change->freed = change->few;
	change->count = 0;
	change->room = FREED_FEW;
	real_block_signals(&change->saved);
	pthread_mutex_lock(&table_mutex);
}

static void change_end(struct change *change)
{
	int saved = errno;

	pthread_mutex_unlock(&table_mutex);
	real_restore_signals(&change->saved);
	for (size_t i = 0; i < change->count; i++)
		files_put(change->freed[i]);
	if (change->freed != change->few)
		uiommu_free(change->freed, change->room * sizeof(struct run_file *));
	errno = saved;
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
		lowest = the_table->entries[0].first;
		highest = the_table->entries[table_count - 1].last;
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

/* Index of the first of @count entries that ends at or above @addr. */
static unsigned search_in(const struct run_bar *entries, unsigned count, uintptr_t addr)
{
	unsigned low = 0, high = count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (entries[middle].last < addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* For writers. */
static unsigned search(uintptr_t addr)
{
	return search_in(the_table->entries, table_count, addr);
}

static unsigned read_begin(void)
{
	unsigned sequence, spins = 0;

	while ((sequence = __atomic_load_n(&table_sequence, __ATOMIC_ACQUIRE)) & 1) {
		if (++spins % READER_SPINS)
			__builtin_ia32_pause();
		else
			syscall(SYS_sched_yield);
	}
	return sequence;
}

/* The first entry that ends at or above @addr; any thread, signal handlers included. */
static bool first_above(uintptr_t addr, struct run_bar *out)
{
	unsigned sequence, count, at;
	int saved = errno;
	bool found;

	do {
		const struct table *table;

		sequence = read_begin();
		table = __atomic_load_n(&the_table, __ATOMIC_ACQUIRE);
		count = __atomic_load_n(&table_count, __ATOMIC_RELAXED);
		if (count > table->capacity)
			count = table->capacity;
		at = search_in(table->entries, count, addr);
		found = at < count;
		if (found)
			*out = table->entries[at];
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while (__atomic_load_n(&table_sequence, __ATOMIC_RELAXED) != sequence);
	errno = saved;
	return found;
}

bool bars_find(uintptr_t addr, struct run_bar *out)
{
	return bars_near((const void *)addr, 1) && first_above(addr, out) && out->first <= addr &&
	       !out->memory;
}

bool bars_touch(const void *addr, size_t len)
{
	struct run_bar bar;

	return len && bars_near(addr, len) && first_above((uintptr_t)addr & ~(PAGE - 1), &bar) &&
	       bar.first <= last_of(addr, len);
}

int bars_doorbell(uintptr_t addr, size_t len, uint64_t *doorbell)
{
	uintptr_t last = addr + len - 1, at = addr;
	struct run_bar bar;

	if (!len || last < addr)
		return 0;
	while (first_above(at, &bar) && bar.first <= last) {
		if (bar.doorbell && (bar.first > addr || bar.last < last))
			return -EINVAL;
		*doorbell = bar.doorbell + (addr - bar.first);
		if (bar.doorbell)
			return 1;
		if (bar.last >= last)
			break;
		at = bar.last + 1;
	}
	return 0;
}

/* ---- changing the table -------------------------------------------------------------------- */

static int grow(void)
{
	unsigned capacity = the_table->capacity * 2;
	struct table *table;

	if (table_count + CHANGE_ADDS <= the_table->capacity)
		return 0;
	table = uiommu_alloc(sizeof(*table));
	if (!table)
		return -ENOMEM;
	table->capacity = capacity;
	table->entries = uiommu_alloc_array(capacity, sizeof(*table->entries));
	if (!table->entries) {
		uiommu_free(table, sizeof(*table));
		return -ENOMEM;
	}
	memcpy(table->entries, the_table->entries, table_count * sizeof(*table->entries));
	__atomic_store_n(&the_table, table, __ATOMIC_RELEASE);
	return 0;
}

static size_t overlaps(uintptr_t first, uintptr_t last)
{
	size_t count = 0;

	for (unsigned i = search(first); i < table_count && the_table->entries[i].first <= last;
	     i++)
		count++;
	return count;
}

/* Room for a change that removes at most @removes entries. */
static int reserve(struct change *change, size_t removes)
{
	struct run_file **freed;

	if (removes > change->room) {
		freed = uiommu_alloc_array(removes, sizeof(*freed));
		if (!freed)
			return -ENOMEM;
		change->freed = freed;
		change->room = removes;
	}
	return grow();
}

static void insert(const struct run_bar *bar)
{
	struct run_bar *entries = the_table->entries;
	unsigned at = search(bar->first);

	memmove(&entries[at + 1], &entries[at], (table_count - at) * sizeof(*entries));
	entries[at] = *bar;
	__atomic_store_n(&table_count, table_count + 1, __ATOMIC_RELAXED);
}

static void erase(unsigned at)
{
	struct run_bar *entries = the_table->entries;

	memmove(&entries[at], &entries[at + 1], (table_count - at - 1) * sizeof(*entries));
	__atomic_store_n(&table_count, table_count - 1, __ATOMIC_RELAXED);
}

/* Cut the entry at @addr in two, so that each side can be changed by itself. */
static void split(uintptr_t addr)
{
	unsigned at = search(addr);
	struct run_bar upper;

	if (at == table_count || the_table->entries[at].first >= addr)
		return;
	upper = the_table->entries[at];
	upper.offset += addr - upper.first;
	if (upper.doorbell)
		upper.doorbell += addr - upper.first;
	upper.first = addr;
	files_hold(upper.file);
	the_table->entries[at].last = addr - 1;
	insert(&upper);
}

/* Take [first, last], whole pages, out of the table. */
static void cut(struct change *change, uintptr_t first, uintptr_t last)
{
	unsigned at;

	split(first);
	if (last != UINTPTR_MAX)
		split(last + 1);
	at = search(first);
	while (at < table_count && the_table->entries[at].first <= last) {
		change->freed[change->count++] = the_table->entries[at].file;
		erase(at);
	}
}

/* ---- system calls -------------------------------------------------------------------------- */

static int reachable(const struct run_bar *bar)
{
	if (bar->memory)
		return bar->prot;
	return bar->doorbell || bar->trap_reads || !(bar->prot & (PROT_READ | PROT_WRITE))
		       ? PROT_NONE
		       : PROT_READ;
}

/* Enter the new mapping at @at, whose table space is reserved. @bar: NULL for ordinary memory. */
static void enter(struct change *change, struct run_bar *bar, void *at, size_t len)
{
	cut(change, (uintptr_t)at, last_of(at, len));
	if (!bar)
		return;
	bar->first = (uintptr_t)at;
	bar->last = last_of(at, len);
	files_hold(bar->file);
	insert(bar);
}

/* The system call. Memory is mapped a second time from where it is. */
static void *call_mmap(const struct run_bar *bar, void *addr, size_t len, int prot, int flags,
		       int fd, off_t offset)
{
	void *at;

	if (!bar || !bar->memory)
		return real_mmap(addr, len, prot, flags, fd, offset);
	at = (void *)syscall(SYS_mremap, bar->memory, 0, len,
			     MREMAP_MAYMOVE | (flags & MAP_FIXED ? MREMAP_FIXED : 0), addr);
	if (at != MAP_FAILED && real_mprotect(at, len, prot)) {
		int error = errno;

		real_munmap(at, len);
		errno = error;
		return MAP_FAILED;
	}
	return at;
}

static void *map_fixed(struct run_bar *bar, void *addr, size_t len, int prot, int flags, int fd,
		       off_t offset)
{
	struct change change;
	void *at = MAP_FAILED;

	change_begin(&change);
	if (reserve(&change, len ? overlaps((uintptr_t)addr, last_of(addr, len)) : 0)) {
		errno = ENOMEM;
	} else {
		write_begin();
		at = call_mmap(bar, addr, len, prot, flags, fd, offset);
		if (at != MAP_FAILED)
			enter(&change, bar, at, len);
		write_end();
	}
	change_end(&change);
	return at;
}

/* Where the kernel chooses, nothing is replaced; entries there are of mappings that were removed
 * past the runner. */
static void *map_free(struct run_bar *bar, void *addr, size_t len, int prot, int flags, int fd,
		      off_t offset)
{
	struct change change;
	void *at;

	change_begin(&change);
	at = call_mmap(bar, addr, len, prot, flags, fd, offset);
	if (at != MAP_FAILED && reserve(&change, overlaps((uintptr_t)at, last_of(at, len)))) {
		real_munmap(at, len);
		errno = ENOMEM;
		at = MAP_FAILED;
	}
	if (at != MAP_FAILED) {
		write_begin();
		enter(&change, bar, at, len);
		write_end();
	}
	change_end(&change);
	return at;
}

/* Of a mapping's own, which goes with it. */
static void *map_memory(struct run_bar *bar, struct uiommu_vfio_file *held, void *addr, size_t len,
			int prot, int flags)
{
	void *at = MAP_FAILED;

	bar->file = files_adopt(held);
	if (!bar->file) {
		uiommu_vfio_release(held);
		errno = ENOMEM;
		return at;
	}
	at = (flags & MAP_FIXED ? map_fixed : map_free)(bar, addr, len, prot, flags, -1, 0);
	files_put(bar->file);
	return at;
}

void *bars_mmap(struct run_file *file, void *addr, size_t len, int prot, int flags, uint64_t offset)
{
	struct uiommu_vfio_mapping where;
	struct run_bar bar;
	sigset_t saved;
	int ret;

	real_block_signals(&saved);
	ret = uiommu_vfio_mmap(files_vfio(file), len, prot, flags, offset, &where);
	real_restore_signals(&saved);
	if (ret) {
		errno = -ret;
		return MAP_FAILED;
	}
	bar = (struct run_bar){
		.doorbell = where.doorbell,
		.function = where.function,
		.bar = where.bar,
		.offset = where.offset,
		.prot = prot,
		.trap_reads = where.trap_reads,
		.memory = where.memory,
		.file = file,
	};
	if (bar.memory)
		return map_memory(&bar, where.held, addr, len, prot, flags);
	if (bar.doorbell) {
		/* A place to have an address, with nothing in it. */
		flags = MAP_SHARED | MAP_ANONYMOUS |
			(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT));
		where.fd = -1;
	}
	return (flags & MAP_FIXED ? map_fixed : map_free)(&bar, addr, len, reachable(&bar), flags,
							  where.fd, (off_t)where.fd_offset);
}

void *bars_mmap_over(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return map_fixed(NULL, addr, len, prot, flags, fd, offset);
}

int bars_munmap(void *addr, size_t len)
{
	uintptr_t first = (uintptr_t)addr & ~(PAGE - 1);
	struct change change;
	int ret = -1;

	change_begin(&change);
	if (reserve(&change, overlaps(first, last_of(addr, len)))) {
		errno = ENOMEM;
	} else {
		write_begin();
		ret = real_munmap(addr, len);
		if (!ret)
			cut(&change, first, last_of(addr, len));
		write_end();
	}
	change_end(&change);
	return ret;
}

/* Piece by piece: what is no BAR gets what was asked for. Where the kernel refuses, what lies below
 * has changed, as in Linux. */
static int protect(uintptr_t first, uintptr_t last, int prot)
{
	uintptr_t at = first;
	int ret = 0;

	split(first);
	split(last + 1);
	for (unsigned i = search(first); at <= last; i++) {
		struct run_bar *entry = &the_table->entries[i], bar;
		bool more = i < table_count && entry->first <= last;
		uintptr_t next = more ? entry->first : last + 1;

		if (next > at)
			ret = real_mprotect((void *)at, next - at, prot);
		if (!more || ret)
			break;
		bar = *entry;
		bar.prot = prot;
		ret = real_mprotect((void *)next, bar.last + 1 - next, reachable(&bar));
		if (ret)
			break;
		entry->prot = prot;
		at = bar.last + 1;
	}
	return ret;
}

int bars_mprotect(void *addr, size_t len, int prot)
{
	uintptr_t first = (uintptr_t)addr, end = first + round_up(len);
	struct change change;
	int ret = -1;

	/* PROT_SEM is the only other one that device memory knows. */
	if (first & (PAGE - 1) || prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | 8)) {
		errno = EINVAL;
		return -1;
	}
	if (end <= first) {
		errno = ENOMEM;
		return -1;
	}
	change_begin(&change);
	if (reserve(&change, 0)) {
		errno = ENOMEM;
	} else {
		write_begin();
		ret = protect(first, end - 1, prot);
		write_end();
	}
	change_end(&change);
	return ret;
}

/* Can what is mapped at [first, last] become @new_len bytes? 0 or an errno. *@bar: the BAR there;
 * bar->file NULL: something else, which is the kernel's to judge. */
static int check_remap(uintptr_t first, uintptr_t last, size_t len, size_t new_len, int flags,
		       struct run_bar *bar)
{
	unsigned at = search(first);

	*bar = (struct run_bar){0};
	if (at == table_count || the_table->entries[at].first > first)
		return 0;
	*bar = the_table->entries[at];
	if (first & (PAGE - 1) || flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED))
		return EINVAL;
	/* Such mappings can be moved and shrunk, never grown or doubled. */
	if (!len || bar->last < last || round_up(new_len) > round_up(len))
		return EFAULT;
	bar->offset += first - bar->first;
	if (bar->doorbell)
		bar->doorbell += first - bar->first;
	return 0;
}

/* The call has moved [first, last], of which @bar was mapped, to @at. */
static void moved(struct change *change, struct run_bar *bar, uintptr_t first, uintptr_t last,
		  uintptr_t at, size_t new_len, int flags)
{
	if (flags & MREMAP_FIXED)
		cut(change, at, last_of((void *)at, new_len));
	if (bar->file) {
		files_hold(bar->file);
		cut(change, first, last);
		bar->first = at;
		bar->last = last_of((void *)at, new_len);
		insert(bar);
	} else if (round_up(new_len) <= last - first) {
		/* Ordinary memory, with a BAR in the tail that is cut off. */
		cut(change, first + round_up(new_len), last);
	}
}

void *bars_mremap(void *addr, size_t len, size_t new_len, int flags, void *to)
{
	uintptr_t first = (uintptr_t)addr, last = last_of(addr, len ? len : 1);
	struct change change;
	struct run_bar bar;
	size_t removes;
	void *at = MAP_FAILED;
	int ret;

	change_begin(&change);
	removes = overlaps(first, last);
	if (flags & MREMAP_FIXED && new_len)
		removes += overlaps((uintptr_t)to, last_of(to, new_len));
	ret = check_remap(first, last, len, new_len, flags, &bar);
	/* Both ranges may be cut in the middle, and a cut-off end counts once more. */
	if (!ret && reserve(&change, removes + 2))
		ret = ENOMEM;
	if (ret) {
		errno = ret;
	} else {
		write_begin();
		at = (void *)syscall(SYS_mremap, addr, len, new_len, flags, to);
		if (at != MAP_FAILED)
			moved(&change, &bar, first, last, (uintptr_t)at, new_len, flags);
		write_end();
	}
	change_end(&change);
	return at;
}

void bars_remap(struct uiommu_function *fn, int fd, unsigned shift)
{
	for (unsigned i = 0; i < table_count; i++) {
		const struct run_bar *bar = &the_table->entries[i];

		if (fn && bar->function == fn)
			real_mmap((void *)bar->first, bar->last + 1 - bar->first, reachable(bar),
				  MAP_SHARED | MAP_FIXED, fd,
				  (off_t)(((uint64_t)bar->bar << shift) + bar->offset));
	}
}
