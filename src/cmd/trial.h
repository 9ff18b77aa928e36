/* SPDX-License-Identifier: MIT */
/*
 * A machine to try things on: what a program would get from a platform, through the same calls that
 * the front ends make. Nothing runs on it.
 */
#ifndef CMD_TRIAL_H
#define CMD_TRIAL_H

#include <uiommu/device.h>
#include <uiommu/platform.h>
#include <uiommu/space.h>

#include "run/picture.h"

#define TRIAL_DOORBELLS 8

/* What a program may choose of an address space. */
struct trial_geometry {
	struct uiommu_range aperture; /* all of it: the platform's */
	unsigned windows;	      /* of equal size, over the aperture; 0: none, or one */
};

struct trial {
	struct uiommu_machine *machine;
	struct uiommu_platform *platform;
	const struct uiommu_platform_facts *facts;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain; /* NULL: not yet, or nothing is translated */
	struct trial_geometry geometry;
	struct uiommu_irq *irq;
	uiommu_rid rid;
	uint64_t doorbells[TRIAL_DOORBELLS]; /* taken from the address space */
	unsigned doorbell_count;
	bool attached;
};

/* A machine of this platform with one function, and an empty address space. 0, or -errno and @why.
 */
int trial_open(const char *spec, struct trial *trial, char *why, size_t why_len);
/* A domain for the address space, and the function attached to it. What is refused is in
 * uiommu_last_refusal(). */
int trial_attach(struct trial *trial, const struct trial_geometry *geometry);
void trial_close(struct trial *trial);

/* Make a doorbell of the platform's reachable, as an interrupt would: where devices then write to.
 */
int trial_doorbell(struct trial *trial, unsigned number, uint64_t *address);
/* Allocate interrupts for the function. @message is the first one's. */
int trial_interrupts(struct trial *trial, unsigned count, struct uiommu_msi_message *message);

/* The picture of it, with its windows, and the names of what stands there. */
void trial_picture(struct trial *trial, struct picture *picture);
/* For struct picture_style, with the trial as ctx. */
const char *trial_name(void *ctx, const struct picture_row *row);

/* What it is, in two lines. */
void trial_describe(struct trial *trial, char *title, size_t title_len, char *details,
		    size_t details_len);

/* The word of the VFIO documentation for the type of IOMMU. */
const char *trial_vfio_word(unsigned vfio_types);

/* "4K 2M 1G" or "4K to 1G". */
const char *trial_page_sizes(uint64_t sizes, char *buf, size_t len);

/* The calling thread's last refusal in words, into @buf. */
const char *trial_refusal(char *buf, size_t len);

/* Standard output takes colours, and wants them. */
bool trial_colour(void);

#endif
