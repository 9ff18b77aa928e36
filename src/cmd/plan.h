/* SPDX-License-Identifier: MIT */
/*
 * The planner: finds where RAM and interrupts go on a platform by trying, on a machine of that
 * platform, what a program would do. What is possible is what the library accepts.
 */
#ifndef CMD_PLAN_H
#define CMD_PLAN_H

#include "cmd/trial.h"

#define PLAN_RAM	  16
#define PLAN_PIECES	  64
#define PLAN_ALTERNATIVES 4
#define PLAN_WORDS	  512

struct plan_request {
	const char *spec;
	struct plan_ram {
		struct uiommu_range range; /* the place asked for; from 0 if there is none */
		bool placed;
	} ram[PLAN_RAM];
	unsigned ram_count;
	unsigned vectors;
	struct trial_geometry geometry; /* what was given: aperture, windows (0: not) */
	struct uiommu_range msi_window; /* in which the program has doorbells placed */
	bool own_aperture, own_msi_window;
};

/* RAM, or a part of it, at its IOVAs. */
struct plan_piece {
	struct uiommu_range range;
	unsigned ram;
};

/* One way to lay it out, tried. */
struct plan_layout {
	const char *how; /* in a few words */
	bool works;
	char why[PLAN_WORDS]; /* it doesn't */
	struct plan_piece pieces[PLAN_PIECES];
	unsigned piece_count;
	struct trial_geometry geometry;
	struct uiommu_range msi_window; /* the program's; {1, 0}: none */
	struct plan_doorbell {
		unsigned number;  /* of the platform's doorbells */
		uint64_t address; /* where devices write */
	} doorbells[TRIAL_DOORBELLS];
	unsigned doorbell_count;
	unsigned vectors;
	struct uiommu_msi_message message; /* the first vector's */
	struct picture picture;
};

struct plan {
	struct plan_layout asked;			    /* as the request says */
	struct plan_layout alternatives[PLAN_ALTERNATIVES]; /* nearest first */
	unsigned alternative_count;
	/* The request left it open where things go, so the first alternative is as good an answer. */
	bool open;
	char advice[PLAN_WORDS]; /* when nothing can be done: what would have to change; or "" */
};

/* Plan it. @facts: the platform's. */
void plan_make(const struct plan_request *request, const struct uiommu_platform_facts *facts,
	       struct plan *plan);

/* ---- inside ---- */

/* How RAM gives way to what the library refuses. */
enum plan_strategy {
	PLAN_AS_ASKED, /* it doesn't */
	PLAN_MOVE,     /* as a whole, to above what is in the way */
	PLAN_SPLIT,    /* in two, what is left going above what is in the way */
	PLAN_LEAVE,    /* each byte stays where it is, and what is in the way is left out */
};

/* Lay out the RAM that way in the geometry of @layout, then the interrupts. @layout->works says how
 * it went; if not, refusal is the library's last. */
void plan_try(const struct plan_request *request, enum plan_strategy strategy,
	      struct plan_layout *layout);
/* Is the refusal about something that stands in the way of a mapping? */
bool plan_in_the_way(const struct uiommu_refusal *refusal);

/* Fill the plan, each for a type of IOMMU. */
void plan_type1(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		struct plan *plan);
void plan_pamu(const struct plan_request *request, const struct uiommu_platform_facts *facts,
	       struct plan *plan);
void plan_spapr(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		struct plan *plan);

#endif
