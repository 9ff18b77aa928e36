/* SPDX-License-Identifier: MIT */
/*
 * A machine to try things on: a program's side of VFIO, without a program. Whatever is asked goes
 * through the requests that a program would make, so the answer is the one it would get.
 */
#ifndef CMD_TRIAL_H
#define CMD_TRIAL_H

#include <uiommu/vfio.h>

#include "run/picture.h"

#define TRIAL_DOORBELLS 8
#define TRIAL_VECTORS	2048 /* of an MSI-X table */

/* What a program may choose of an address space. */
struct trial_geometry {
	struct uiommu_range aperture; /* valid if it is chosen */
	unsigned windows;	      /* of equal size, over the aperture; 0: not chosen */
};

struct trial {
	struct uiommu_machine *machine;
	struct uiommu_platform *platform;
	const struct uiommu_platform_facts *facts;
	struct uiommu_vfio *vfio;
	struct uiommu_vfio_file *container, *group;
	struct uiommu_ioas *ioas; /* NULL: nothing is translated, or not attached yet */
	struct trial_geometry geometry;
	struct uiommu_irq *irqs[TRIAL_VECTORS];
	struct uiommu_msi_message messages[TRIAL_VECTORS];
	unsigned irq_count;
	uiommu_rid rid;
	uint64_t doorbells[TRIAL_DOORBELLS]; /* taken from the address space */
	unsigned doorbell_count;
	/* The last request that was refused, and why. */
	const char *request;
	struct uiommu_refusal refusal;
	int error;
};

/* A machine of this platform with one function, and a container. 0, or -errno and @why. */
int trial_open(const char *spec, struct trial *trial, char *why, size_t why_len);
void trial_close(struct trial *trial);

/* What follows: 0, or -errno, and trial_refusal() has the reason. */

/* Put the function into the container, with the type of IOMMU that the platform has. */
int trial_attach(struct trial *trial);
/* Choose aperture and windows, on a platform where a program has to. */
int trial_set_geometry(struct trial *trial, const struct trial_geometry *geometry);
/* Make a window of 2^@page_shift bytes a page, on a platform where a program may. */
int trial_make_window(struct trial *trial, unsigned page_shift, uint64_t size, uint64_t *start);
/* Map RAM that lies at @addr. Nothing is behind it. */
int trial_map(struct trial *trial, struct uiommu_range range, uint64_t addr);
/* Give a range for doorbells, on a platform where a program has to. */
int trial_give_msi_window(struct trial *trial, struct uiommu_range range);
/* Make a doorbell of the platform's reachable, as an interrupt would: where devices then write to.
 */
int trial_doorbell(struct trial *trial, unsigned number, uint64_t *address);
/* Map an MSI bank of PAMU's at @iova, in the way that the platform has for programs. */
int trial_map_bank(struct trial *trial, unsigned number, uint64_t iova);
/* Allocate interrupts for the function, one by one as for MSI-X; the trial has their messages. */
int trial_interrupts(struct trial *trial, unsigned count);
/* The number of the doorbell that a message goes to, and where its page is for devices. */
unsigned trial_doorbell_of(const struct trial *trial, const struct uiommu_msi_message *message,
			   uint64_t *address);

/* Why the last request was refused, in words. */
const char *trial_refusal(const struct trial *trial, char *buf, size_t len);

/* Of each of its windows; 0: there are none. */
uint64_t trial_window_size(const struct trial_geometry *geometry);

/* The picture of it, with its windows, and the names of what stands there. */
void trial_picture(struct trial *trial, struct picture *picture);
/* For struct picture_style, with the platform's facts as ctx. */
const char *trial_name(void *ctx, const struct picture_row *row);

/* The page sizes that mappings may have, as a bitmap. */
uint64_t trial_sizes(const struct trial *trial);

/* What it is, in two lines. */
void trial_describe(struct trial *trial, char *title, size_t title_len, char *details,
		    size_t details_len);

/* The word of the VFIO documentation for the type of IOMMU. */
const char *trial_vfio_word(unsigned vfio_types);

/* "4K 2M 1G" or "4K-1G". */
const char *trial_page_sizes(uint64_t sizes, char *buf, size_t len);

/* Standard output takes colours, and wants them. */
bool trial_colour(void);

#endif
