/* SPDX-License-Identifier: MIT */
/*
 * Inside a batch; see batch.c. A batch belongs to one thread at a time, so it has no lock; what it
 * marks in an IOAS is under ioas->lock.
 */
#ifndef SPACE_BATCH_H
#define SPACE_BATCH_H

#include "space/space.h"

/* Where areas are leaving, and the IOAS' epoch at which their translations were taken away. */
struct batch_record {
	struct uiommu_ioas *ioas;
	struct uiommu_range range;
	uint64_t epoch;
};

#define CHUNK_RECORDS 100

struct batch_chunk {
	struct batch_chunk *next;
	size_t used;
	struct batch_record record[CHUNK_RECORDS];
};

/* An area that is to be released, but whose place has been taken. */
struct batch_ghost {
	struct batch_ghost *next;
	struct uiommu_area area;
};

struct uiommu_batch {
	uint64_t id; /* 0: it is closed: the lock is held from its start to its finish */
	bool silent; /* it has areas that leave silently */
	bool taken;  /* closed: it took something away that no record tells of */
	struct uiommu_ioas *locked[2];		 /* NULL: none */
	struct batch_record first;		 /* so that a batch of one needs no memory */
	struct batch_chunk *chunks, *last_chunk; /* the records after it */
	struct batch_record *last;		 /* NULL: there is none */
	struct batch_ghost *ghosts;
	int (*hold)(void *ctx, const struct uiommu_op *op, const struct uiommu_area *area);
	uiommu_area_fn release; /* closed: of an unmap, the only operation */
	void *ctx;
	struct imap_entry gone; /* taken, and to be released; there if release is set */
};

static inline uint64_t leaving_info(const struct uiommu_batch *batch)
{
	return AREA_LEAVING | batch->id << AREA_BATCH_SHIFT;
}

/* Is the area leaving, and by this batch? */
static inline bool leaves_by(const struct uiommu_batch *batch, const struct imap_entry *area)
{
	return (area->info & ~(AREA_PROT | AREA_SILENT)) == leaving_info(batch);
}

static inline void count_bytes(struct uiommu_ioas *ioas, uint64_t bytes)
{
	ioas->stats.bytes -= bytes < ioas->stats.bytes ? bytes : ioas->stats.bytes;
}

/* May this batch map there? Its own areas that are leaving are not in the way. */
int batch_check_free(const struct uiommu_batch *batch, struct uiommu_ioas *ioas,
		     struct uiommu_range range);

/* Enter an area whose place is taken, if it is by nothing but this batch's own that are leaving.
 * All or nothing; -ENOMEM, or as batch_check_free(). */
int batch_replace(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
		  const struct imap_entry *entry);

/* Parts of batch.c for copies: see to it that one more record can be made; enter an area
 * everywhere; make every area in the range leave, of which pos is the last and for which there is
 * room. */
int batch_record_room(struct uiommu_batch *batch);
int batch_enter(struct uiommu_batch *batch, struct uiommu_ioas *ioas, const struct uiommu_op *op,
		const struct imap_entry *entry);
void batch_take_away(struct uiommu_batch *batch, struct uiommu_ioas *ioas,
		     struct uiommu_range range, struct imap_pos *pos);

/* Carry out a copy whose range is known. */
int batch_copy(struct uiommu_batch *batch, struct uiommu_op *op);

/* A new batch, which needs no memory. */
int batch_init(struct uiommu_batch *batch, const struct uiommu_batch_options *options);

/* An operation by itself, which may let go of a lock before it finishes: its status. */
int batch_run_one(struct uiommu_op *op);

void batch_free_ghosts(struct batch_ghost *ghost);

#endif
