/* SPDX-License-Identifier: MIT */
/**
 * uiommu/port_inline.h - what a device emulator passes for each access, inline: sections and
 * translations. Included by uiommu/port.h, which documents the functions; the library has each of
 * them as a function too, for who takes its address or doesn't speak C.
 *
 * The structs here are how an object of struct uiommu_port begins. They are for these functions
 * alone, and change with the library's soname only.
 *
 * Why a hit is right: whatever takes a translation away (an unmap, a detachment, a stage 1 put in
 * front, bus mastering switched off) changes what it changes, then counts up *changes, and then
 * waits for sections entered before. A port looks at all of that and notes the count (checked); as
 * long as the count is the same nothing was taken away since, or somebody is waiting for this very
 * section. So one comparison stands for all of them. What a port that has looked finds by walking
 * the tables, it finds inside of its section, which whoever frees a table waits for.
 */
#ifndef UIOMMU_PORT_INLINE_H
#define UIOMMU_PORT_INLINE_H

#include <uiommu/port.h>

#ifdef __cplusplus
extern "C" {
#endif

/** An IOTLB entry: one translation. */
struct uiommu_port_entry {
	uint64_t first; /**< the first IOVA */
	uint64_t span;	/**< the last one - the first one */
	uint64_t delta; /**< address - IOVA */
	uint64_t lacks; /**< what it lacks of enum uiommu_prot and UIOMMU_PORT_PLAIN; free: all */
};

/** All of an entry's translation is memory, and nothing stands in front of it. */
#define UIOMMU_PORT_PLAIN UINT64_C(8)

/** What a walk found: no struct in memory, but two registers. */
struct uiommu_port_found {
	uint64_t found; /**< 0: nothing that is as simple as it may be */
	uint64_t addr;
};

/** How a port begins. Of the port's thread, but that others read section and the counts. */
struct uiommu_port_fast {
	uint64_t section;	 /**< 0: outside; else *changes at the time of entering */
	const uint64_t *changes; /**< the unit's count; never 0 */
	uint64_t checked;	 /**< the count that all of the rest is valid for */
	struct uiommu_port_entry *entries;
	uint64_t mask; /**< number of entries - 1 */
	/** What the entry does not know: walk, make it the entry, count a miss, and return the
	 * address of @iova if that and all of the @more bytes after it (any number) are in one leaf
	 * that is plain and permits what is needed. */
	struct uiommu_port_found (*walk)(struct uiommu_port_fast *fast, uint64_t iova,
					 uint64_t more, uint64_t need,
					 struct uiommu_port_entry *entry);
	const void *table;
	uint64_t hole_first, hole_span; /**< no leaf that lies in here is plain */
	uint64_t hits, misses;
};

#define UIOMMU_PORT_INLINE extern inline __attribute__((gnu_inline, always_inline))

/** The library's own functions, for what is neither. */
int64_t uiommu_port_translate_other(struct uiommu_port *port, uint64_t iova, uint64_t len,
				    int access, struct uiommu_segment *segments, size_t *count);
int64_t uiommu_port_translate_other_one(struct uiommu_port *port, uint64_t iova, uint64_t len,
					int access, uint64_t *addr);

UIOMMU_PORT_INLINE void uiommu_port_enter_now(struct uiommu_port *port)
{
	struct uiommu_port_fast *fast = (struct uiommu_port_fast *)port;

	__atomic_store_n(&fast->section, __atomic_load_n(fast->changes, __ATOMIC_RELAXED),
			 __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

UIOMMU_PORT_INLINE void uiommu_port_leave_now(struct uiommu_port *port)
{
	__atomic_store_n(&((struct uiommu_port_fast *)port)->section, 0, __ATOMIC_RELEASE);
}

/** Count something, in a place that one thread writes and any reads. */
UIOMMU_PORT_INLINE void uiommu_port_count(uint64_t *count)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	/* One instruction, which compilers don't make of the two below. */
	__asm__("addq $1, %0" : "+m"(*count));
#else
	__atomic_store_n(count, __atomic_load_n(count, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
#endif
}

/** Is all of it in memory that one leaf translates and that permits the access? Then its address,
 * from the IOTLB or the tables, and the hit or miss is counted. */
UIOMMU_PORT_INLINE bool uiommu_port_find(struct uiommu_port *port, uint64_t iova, uint64_t len,
					 int access, uint64_t *addr)
{
	struct uiommu_port_fast *fast = (struct uiommu_port_fast *)port;
	struct uiommu_port_entry *entry = &fast->entries[iova >> 12 & fast->mask];
	const uint64_t need = (uint64_t)access | UIOMMU_PORT_PLAIN;
	struct uiommu_port_found found;
	uint64_t end;

	if (__builtin_expect(__atomic_load_n(fast->changes, __ATOMIC_ACQUIRE) != fast->checked, 0))
		return false;
	if (__builtin_expect(!__builtin_add_overflow(iova - entry->first, len - 1, &end) &&
				     end <= entry->span && !(entry->lacks & need),
			     1)) {
		uiommu_port_count(&fast->hits);
		*addr = iova + entry->delta;
		return true;
	}
	if (iova - entry->first <= entry->span)
		return false; /* known, but not enough */
	found = fast->walk(fast, iova, len - 1, need, entry);
	*addr = found.addr;
	return found.found;
}

UIOMMU_PORT_INLINE int64_t uiommu_port_translate_now(struct uiommu_port *port, uint64_t iova,
						     uint64_t len, int access,
						     struct uiommu_segment *segments, size_t *count)
{
	uint64_t addr;

	if (__builtin_expect(!*count || !uiommu_port_find(port, iova, len, access, &addr), 0))
		return uiommu_port_translate_other(port, iova, len, access, segments, count);
	segments->addr = addr;
	segments->len = len;
	*count = 1;
	return (int64_t)len;
}

UIOMMU_PORT_INLINE int64_t uiommu_port_translate_one_now(struct uiommu_port *port, uint64_t iova,
							 uint64_t len, int access, uint64_t *addr)
{
	if (__builtin_expect(uiommu_port_find(port, iova, len, access, addr), 1))
		return (int64_t)len;
	{
		uint64_t other = 0; /* or the caller's could not stay in a register */
		int64_t ret = uiommu_port_translate_other_one(port, iova, len, access, &other);

		*addr = other;
		return ret;
	}
}

/* By the names of the library's functions. */
UIOMMU_PORT_INLINE void uiommu_port_enter(struct uiommu_port *port)
{
	uiommu_port_enter_now(port);
}

UIOMMU_PORT_INLINE void uiommu_port_leave(struct uiommu_port *port)
{
	uiommu_port_leave_now(port);
}

UIOMMU_PORT_INLINE int64_t uiommu_port_translate(struct uiommu_port *port, uint64_t iova,
						 uint64_t len, int access,
						 struct uiommu_segment *segments, size_t *count)
{
	return uiommu_port_translate_now(port, iova, len, access, segments, count);
}

UIOMMU_PORT_INLINE int64_t uiommu_port_translate_one(struct uiommu_port *port, uint64_t iova,
						     uint64_t len, int access, uint64_t *addr)
{
	return uiommu_port_translate_one_now(port, iova, len, access, addr);
}

#ifdef __cplusplus
}
#endif
#endif
