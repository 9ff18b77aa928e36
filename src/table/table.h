/* SPDX-License-Identifier: MIT */
/*
 * I/O page tables. One table is one format, one width, one aperture and one root; whoever owns it
 * serialises map, unmap and windows, while any number of walkers read it without a lock.
 *
 * A walker may use what it found until it leaves the access section that it is in (space/port.c):
 * what the table's owner took away is reused only after a flush, which waits for such sections.
 */
#ifndef TABLE_TABLE_H
#define TABLE_TABLE_H

#include <errno.h>

#include <uiommu/space.h>

#include "table/gather.h"
#include "table/pool.h"
#include "util/range.h"

struct directory;
struct table;

/* Most windows that come and go in one table. */
#define TABLE_MAX_WINDOWS 16

/* What a walk found. */
struct table_leaf {
	struct uiommu_range range; /* IOVAs that this entry translates */
	uint64_t addr;		   /* what range.first translates to */
	int prot;		   /* as the hardware would grant it; MMIO if the entry says so */
};

/* Why a format can't take a mapping. */
struct table_why {
	enum uiommu_rule rule;
	const char *what;	   /* in words; constant */
	struct uiommu_range range; /* for RULE_ALIGNMENT {0, size - 1}; NONE: does not apply */
};

/* A window of a format whose tables cover windows. */
struct table_window {
	struct uiommu_range range;
	unsigned page_shift; /* log2 of its page */
	unsigned levels;
};

/* What all tables of one unit share: PAMU's table of secondary entries (pamu.c), made when the
 * first table wants it. Whoever owns it serialises table_init() and table_destroy(). */
struct table_shared {
	void *spaact;
};

struct table_config {
	const char *format;
	unsigned width;		      /* bits of IOVA */
	struct uiommu_range aperture; /* part of what width allows; {0, 0}: all of it */
	unsigned windows;	      /* PAMU: a power of two from 1 to 256; 0: 256. Others: 0 */
	uint64_t page_sizes;	      /* leaves are of these sizes only; 0: of all the format has */
	bool dirty;		      /* writes by devices are to be recorded in the entries */
	bool snoop;		      /* devices' accesses snoop, where entries can say so */
	struct table_shared *shared;  /* of the unit; may be NULL for formats that share nothing */
};

/* Called for each range that a device has written to. */
typedef void (*table_dirty_fn)(void *ctx, struct uiommu_range range);

/* A format: generated from its facts by table_impl.h, or written by hand where there is no tree of
 * pages of 512 entries. What is NULL the format does not have. */
struct table_ops {
	const char *name;
	uint64_t page_sizes; /* bitmap of the leaf sizes it tells of, for any width */
	uint64_t hint_sizes; /* and of those it makes of several leaves that lie right */
	uint64_t max_addr;   /* highest address an entry can hold */
	int prots;	     /* the enum uiommu_prot it can express */
	bool dirty;	     /* it has dirty bits */
	bool overwrites;     /* map() may be called over entries that are there */
	/* Fill in the table, whose ops, width, page_sizes (those asked for) and dirty are set. */
	int (*init)(struct table *table, const struct table_config *config);
	void (*destroy)(struct table *table); /* what is not in the pool */
	/* Rules coarser than the alignment to the smallest page; 0 or a negative errno. */
	int (*check)(const struct table *table, struct uiommu_range range, uint64_t addr,
		     struct table_why *why);
	int (*map)(struct table *table, struct uiommu_range range, uint64_t addr, int prot,
		   struct gather *gather);
	void (*unmap)(struct table *table, struct uiommu_range range, struct gather *gather);
	/* Have fetched what map() or unmap() will write for one page. */
	void (*prefetch)(const struct table *table, uint64_t iova);
	bool (*walk)(const struct table *table, uint64_t iova, struct table_leaf *leaf);
	/* The same for a port (uiommu/port_inline.h): kept short, so that a processor can have the
	 * next one's loads under way while this one waits for memory. Absent: walk() is all. */
	struct uiommu_port_found (*walk_for_port)(struct uiommu_port_fast *port, uint64_t iova,
						  uint64_t more, uint64_t need,
						  struct uiommu_port_entry *entry);
	/* Have the entries for these IOVAs come to the cache: a hint, without an answer. */
	void (*prefetch_walks)(const struct table *table, const uint64_t *iovas, size_t count);
	/* What the operating system's driver answers, where that is not what a device gets. */
	bool (*lookup)(const struct table *table, uint64_t iova, struct table_leaf *leaf);
	bool (*mark_dirty)(struct table *table, uint64_t iova);
	void (*scan_dirty)(struct table *table, struct uiommu_range range, bool clear,
			   table_dirty_fn each, void *ctx, struct gather *gather);
	int (*window_create)(struct table *table, const struct table_window *window,
			     struct table_why *why);
	void (*window_remove)(struct table *table, uint64_t first, struct gather *gather);
	/* The first window that ends at or above iova. */
	bool (*window_find)(const struct table *table, uint64_t iova, struct table_window *window);
};

struct table {
	const struct table_ops *ops;
	void *root;
	void *own; /* the format's */
	struct uiommu_range aperture;
	uint64_t page_sizes; /* leaf sizes that it tells of */
	uint64_t leaf_sizes; /* and all that it makes */
	unsigned levels;
	unsigned width;
	unsigned root_pages; /* of the pool: more than one where start tables are concatenated */
	bool dirty, snoop;
	struct table_shared *shared;
	/* The last-level table that map or unmap found last, where it is linked, and the IOVAs
	 * below it by number. The owner's alone; NULL: forgotten, as whenever a table page is
	 * unlinked. */
	struct {
		uint64_t *table, *parent;
		uint64_t block;
	} near;
	struct directory *directory; /* directory.h; of radix tables */
	struct pool pool;
};

/*
 * Make an empty table. -EINVAL: unknown format or width, an aperture or number of windows that the
 * format can't have, no page size left; -EOPNOTSUPP: dirty, for a format without dirty bits;
 * -ENOSPC: what the unit's tables share is used up; -ENOMEM.
 */
int table_init(struct table *table, const struct table_config *config);

/* Free all of it. No walker may be inside. */
void table_destroy(struct table *table);

/* Free what tables shared; they are gone. */
void table_shared_destroy(struct table_shared *shared);

/* Can it translate this IOVA at all? */
static inline bool table_covers(const struct table *table, uint64_t iova)
{
	return iova - table->aperture.first <= table->aperture.last - table->aperture.first;
}

/* The alignment that IOVAs, addresses and lengths must have. */
static inline uint64_t table_page(const struct table *table)
{
	return table->page_sizes & -table->page_sizes;
}

/* Does a leaf with this permission allow the access, which may read and write? */
static inline enum uiommu_fault_reason check_prot(int prot, int access)
{
	int denied = access & ~prot;

	if (!denied)
		return UIOMMU_FAULT_NONE;
	return denied & UIOMMU_READ ? UIOMMU_FAULT_READ_DENIED : UIOMMU_FAULT_WRITE_DENIED;
}

/*
 * Would the format take this mapping, which is aligned to the smallest page and inside the
 * aperture? 0, or the error and in *why the reason. Changes nothing.
 */
static inline int table_check(const struct table *table, struct uiommu_range range, uint64_t addr,
			      int prot, struct table_why *why)
{
	const struct table_ops *ops = table->ops;

	if (prot & ~ops->prots) {
		*why = (struct table_why){.rule = UIOMMU_RULE_UNSUPPORTED,
					  .what = "the table format cannot mark device registers",
					  .range = UIOMMU_RANGE_NONE};
		return -EOPNOTSUPP;
	}
	return ops->check ? ops->check(table, range, addr, why) : 0;
}

/*
 * Enter [range] -> addr onwards. The range must have passed table_check() and not be mapped. Leaves
 * are as large as the alignment of both sides allows. -ENOMEM: nothing is mapped; what had been
 * entered is in the gather, to be flushed.
 */
static inline int table_map(struct table *table, struct uiommu_range range, uint64_t addr, int prot,
			    struct gather *gather)
{
	return table->ops->map(table, range, addr, prot, gather);
}

/* Clear all entries inside the range, which must not cut a mapping. Never fails. */
static inline void table_unmap(struct table *table, struct uiommu_range range,
			       struct gather *gather)
{
	table->ops->unmap(table, range, gather);
}

/* Have fetched what entering or clearing a page there will touch; any IOVA will do. */
static inline void table_prefetch(const struct table *table, uint64_t iova)
{
	if (table->ops->prefetch && table_covers(table, iova))
		table->ops->prefetch(table, iova);
}

/* Translate an IOVA inside the aperture, as a device's access is: false if nothing is present.
 * Lock-free, beside map and unmap. */
static inline bool table_walk(const struct table *table, uint64_t iova, struct table_leaf *leaf)
{
	return table->ops->walk(table, iova, leaf);
}

/* Walks for these IOVAs are to come, soon but not next; any IOVAs will do. Lock-free, as a walk. */
static inline void table_prefetch_walks(const struct table *table, const uint64_t *iovas,
					size_t count)
{
	if (table->ops->prefetch_walks)
		table->ops->prefetch_walks(table, iovas, count);
}

/* The same as the operating system's driver answers it. Not beside map and unmap. */
static inline bool table_lookup(const struct table *table, uint64_t iova, struct table_leaf *leaf)
{
	return table->ops->lookup ? table->ops->lookup(table, iova, leaf)
				  : table->ops->walk(table, iova, leaf);
}

/* For a table made with dirty: */

/* Record that a device writes there, as the hardware does while it walks. Lock-free, beside
 * everything else; false if the entry is not there or does not permit writes. */
static inline bool table_mark_dirty(struct table *table, uint64_t iova)
{
	return table->ops->mark_dirty(table, iova);
}

/*
 * Tell of what was written to: each leaf (cut to the range) that a device has written to since it
 * was mapped or last cleared, ascending. Where the architecture starts a writable entry as dirty
 * (Armv8), what was mapped since the last clearing counts as written. clear: and forget it, of the
 * leaves that lie wholly inside; what a device may have cached of them is in the gather. Never
 * fails. Beside walkers, not beside map and unmap.
 */
static inline void table_scan_dirty(struct table *table, struct uiommu_range range, bool clear,
				    table_dirty_fn each, void *ctx, struct gather *gather)
{
	table->ops->scan_dirty(table, range, clear, each, ctx, gather);
}

#endif
