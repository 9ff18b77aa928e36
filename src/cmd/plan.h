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
#define PLAN_OBSTACLES	  8
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
};

/* RAM, or a part of it, at its IOVAs. */
struct plan_piece {
	struct uiommu_range range;
	unsigned ram;
};

/* How far a layout came. */
enum plan_stage {
	PLAN_STAGE_SPACE, /* the address space itself */
	PLAN_STAGE_RAM,
	PLAN_STAGE_MSI,
	PLAN_STAGE_DONE,
};

/* A window of RAM's own that the program makes, on POWER. page_shift 0: none. */
struct plan_window {
	unsigned page_shift;
	uint64_t size, start;
};

/* One way to lay it out, tried. */
struct plan_layout {
	const char *how; /* in a few words */
	enum plan_stage stage;
	bool compromise;      /* not all that was asked for */
	char why[PLAN_WORDS]; /* it can't be done */
	struct uiommu_refusal refusal;
	struct plan_piece pieces[PLAN_PIECES];
	unsigned piece_count;
	struct uiommu_refusal obstacles[PLAN_OBSTACLES]; /* what RAM gave way to */
	unsigned obstacle_count;
	struct trial_geometry geometry; /* asked for; then, what there is */
	unsigned windows_asked;		/* by the program, for its RAM; 0: it asks for all */
	struct plan_window window;
	struct uiommu_range msi_window; /* the program's; {1, 0}: none */
	struct plan_doorbell {
		unsigned number;  /* of the platform's doorbells */
		uint64_t address; /* where its page is for devices */
	} doorbells[TRIAL_DOORBELLS];
	unsigned doorbell_count;
	unsigned vectors;
	struct uiommu_msi_message message; /* the first vector's */
	uint64_t page_sizes;
	struct picture picture;
};

struct plan {
	struct plan_layout asked;			    /* as the request says */
	struct plan_layout alternatives[PLAN_ALTERNATIVES]; /* nearest first */
	unsigned alternative_count;
	/* The request left it open where things go, so the first alternative is as good an answer.
	 */
	bool open;
	struct uiommu_range
		usable[PLAN_PIECES]; /* when there is no alternative: what can be mapped */
	size_t usable_count;
};

/* Plan it. @facts: the platform's. */
void plan_make(const struct plan_request *request, const struct uiommu_platform_facts *facts,
	       struct plan *plan);

/* ---- inside ---- */

/* How RAM gives way to what the library refuses. */
enum plan_strategy {
	PLAN_AS_ASKED, /* it doesn't */
	PLAN_SPLIT,    /* in two, what is left going above what is in the way */
	PLAN_MOVE,     /* as a whole, to above what is in the way, or else below */
	PLAN_LEAVE,    /* each byte stays where it is, and what is in the way is left out */
};

/* Is it about something that stands in the way of a mapping? */
bool plan_in_the_way(const struct uiommu_refusal *refusal);

/* Lay out the RAM that way in the geometry, window and msi_window of @layout, with so many vectors.
 * True if all of it was accepted; else @layout has the reason. */
bool plan_try(const struct plan_request *request, enum plan_strategy strategy, unsigned vectors,
	      struct plan_layout *layout);

/* A layout that may become an alternative, or NULL if there are enough; it counts once
 * alternative_count is raised. */
struct plan_layout *plan_next(struct plan *plan, const char *how);

/* Fill the plan, each for a type of IOMMU. */
void plan_type1(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		struct plan *plan);
void plan_pamu(const struct plan_request *request, const struct uiommu_platform_facts *facts,
	       struct plan *plan);
void plan_spapr(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		struct plan *plan);

#endif
