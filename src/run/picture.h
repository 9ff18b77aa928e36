/* SPDX-License-Identifier: MIT */
/*
 * The picture of an address space: reserved, mapped and free ranges, to a logarithmic scale.
 */
#ifndef RUN_PICTURE_H
#define RUN_PICTURE_H

#include <stdbool.h>
#include <stdint.h>

#include <uiommu/space.h>

/* Mapped ranges are joined until so many are left; reserved ones beyond so many are left out. */
#define PICTURE_MAPPED_ROWS   8
#define PICTURE_RESERVED_ROWS 16
/* With free ranges between. */
#define PICTURE_ROWS (2 * (PICTURE_MAPPED_ROWS + PICTURE_RESERVED_ROWS) + 2)

enum picture_kind {
	PICTURE_FREE,
	PICTURE_MAPPED,
	PICTURE_RESERVED,
};

struct picture_row {
	struct uiommu_range range;
	enum picture_kind kind;
	uint64_t areas;	 /* mapped: how many mappings */
	uint64_t bytes;	 /* mapped: their size; less than the range's if gaps were closed */
	const char *why; /* reserved: what for */
};

struct picture {
	struct picture_row rows[PICTURE_ROWS];
	unsigned count;
	unsigned mapped; /* rows of that kind */
	uint64_t areas, bytes;
};

/* Take a picture. */
void picture_take(struct uiommu_ioas *ioas, struct picture *picture);

/* Draw it, line by line, each at most 79 columns wide. */
void picture_draw(const struct picture *picture, bool colour,
		  void (*line)(void *ctx, const char *text), void *ctx);

/* "4.0 KiB" and the like into @buf of 16 bytes; returns it. */
const char *picture_size(uint64_t bytes, char *buf);

#endif
