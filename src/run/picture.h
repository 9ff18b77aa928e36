/* SPDX-License-Identifier: MIT */
/*
 * The picture of an address space: reserved, mapped and free ranges, to a logarithmic scale.
 */
#ifndef RUN_PICTURE_H
#define RUN_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uiommu/space.h>

/* Mapped ranges are joined until so many are left, or until something else stands between all of
 * them; reserved ones beyond so many are left out, and doorbells are shown as what is around. */
#define PICTURE_MAPPED_ROWS   8
#define PICTURE_RESERVED_ROWS 16
#define PICTURE_DOORBELL_ROWS 8
/* Each with a mapped and two free rows beside it, and what a doorbell leaves of a region. */
#define PICTURE_ROWS                                           \
	(4 * (PICTURE_RESERVED_ROWS + PICTURE_DOORBELL_ROWS) + \
	 2 * (PICTURE_MAPPED_ROWS + PICTURE_DOORBELL_ROWS) + 4)
#define PICTURE_NOTE 96

enum picture_kind {
	PICTURE_FREE,
	PICTURE_MAPPED,
	PICTURE_RESERVED,
	PICTURE_DOORBELL,
	PICTURE_KINDS,
};

struct picture_row {
	struct uiommu_range range;
	enum picture_kind kind;
	uint64_t areas;	 /* mapped: how many mappings */
	uint64_t bytes;	 /* mapped: their size; less than the range's if gaps were closed */
	bool outside;	 /* reserved: because nothing translates it */
	const char *why; /* reserved: what for */
	uint64_t addr;	 /* a doorbell, or a single mapping: what it translates to */
};

struct picture {
	struct picture_row rows[PICTURE_ROWS];
	unsigned count;
	unsigned mapped, doorbells; /* rows of these kinds */
	uint64_t areas, bytes;
	/* For who knows of them: the equal windows of an aperture. window 0: there are none. */
	struct uiommu_range aperture;
	uint64_t window;
};

/* Take a picture. */
void picture_take(struct uiommu_ioas *ioas, struct picture *picture);

/* Put in a doorbell that lies inside one of the rows and leads to @addr. The address space tells of
 * those that it has placed by itself. */
void picture_add_doorbell(struct picture *picture, struct uiommu_range range, uint64_t addr);

/* How to draw it. */
struct picture_style {
	bool colour;
	bool wide; /* lines may be longer than 79 columns, for notes in full */
	/* For those: the name of what stands there, or NULL. May be NULL. */
	const char *(*name)(void *ctx, const struct picture_row *row);
	void *ctx;
};

/* Draw it, line by line. */
void picture_draw(const struct picture *picture, const struct picture_style *style,
		  void (*line)(void *ctx, const char *text), void *ctx);

/* What a row's note says, in full. */
void picture_note(const struct picture *picture, const struct picture_row *row,
		  const struct picture_style *style, char *note, size_t len);

/* Columns, or steps, that stand for a size: one for each factor of eight, from one page on. */
unsigned picture_columns(uint64_t bytes);

/* "4.0 KiB" and the like into @buf of 16 bytes; returns it. */
const char *picture_size(uint64_t bytes, char *buf);

#endif
