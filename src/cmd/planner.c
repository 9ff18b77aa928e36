/* SPDX-License-Identifier: MIT */
/*
 * Owns the trying of one layout, and the search on machines whose address space is one piece with
 * holes. Each try is a machine of its own. The only knowledge in here is how people place RAM; what
 * is in the way, and of what, is what the library's refusals say.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/plan.h"
#include "util/range.h"

/* RAM goes on at such a boundary where it can: the largest page of most formats, and where virtual
 * machines place theirs. */
#define BOUNDARY (UINT64_C(1) << 30)
/* More entries than this are not written only to see whether it can be done. */
#define MOST_ENTRIES (UINT64_C(1) << 22)

static uint64_t round_up(uint64_t value, uint64_t step)
{
	return (value + (step - 1)) & ~(step - 1);
}

static uint64_t round_down(uint64_t value, uint64_t step)
{
	return value & ~(step - 1);
}

bool plan_in_the_way(const struct uiommu_refusal *refusal)
{
	return range_valid(refusal->blocking) &&
	       (refusal->rule == UIOMMU_RULE_RESERVED || refusal->rule == UIOMMU_RULE_APERTURE ||
		refusal->rule == UIOMMU_RULE_OVERLAP);
}

/* ---- one try ---- */

struct attempt {
	const struct plan_request *request;
	enum plan_strategy strategy;
	struct plan_layout *layout;
	struct trial trial;
	uint64_t memory; /* where the next piece's memory lies */
};

static bool failed(struct attempt *a, enum plan_stage stage)
{
	a->layout->stage = stage;
	a->layout->refusal = a->trial.refusal;
	trial_refusal(&a->trial, a->layout->why, sizeof(a->layout->why));
	return false;
}

static bool give_up(struct attempt *a, enum plan_stage stage, const char *why)
{
	a->layout->stage = stage;
	a->layout->refusal = (struct uiommu_refusal){.rule = UIOMMU_RULE_NONE};
	snprintf(a->layout->why, sizeof(a->layout->why), "%s", why);
	return false;
}

/* Map a piece and note it. The memory has the same place in a page as its IOVAs. */
static int map_piece(struct attempt *a, struct uiommu_range range, unsigned ram)
{
	uint64_t addr = a->memory + (range.first & (BOUNDARY - 1));
	int ret = trial_map(&a->trial, range, addr);

	if (ret)
		return ret;
	a->memory = round_up(addr + (range.last - range.first + 1), BOUNDARY);
	a->layout->pieces[a->layout->piece_count++] = (struct plan_piece){range, ram};
	return 0;
}

/* What is left of a piece of RAM to be placed. */
struct rest {
	uint64_t at, bytes;
	bool down; /* it is on its way down, from the end of the address space */
};

static bool move(struct rest *rest, struct uiommu_range blocking)
{
	uint64_t above = round_up(blocking.last + 1, BOUNDARY);

	if (!rest->down && blocking.last != UINT64_MAX && above > rest->at) {
		rest->at = above;
		return true;
	}
	rest->down = true;
	if (blocking.first < rest->bytes)
		return false;
	rest->at = round_down(blocking.first - rest->bytes,
			      blocking.first - rest->bytes >= BOUNDARY ? BOUNDARY : 4096);
	return true;
}

/* Map what lies below what is in the way, and go on above it. */
static bool split(struct attempt *a, struct rest *rest, struct uiommu_range blocking, unsigned ram)
{
	uint64_t cut = round_down(blocking.first, BOUNDARY);
	bool leave = a->strategy == PLAN_LEAVE;

	if (cut <= rest->at || leave)
		cut = blocking.first;
	if (cut > rest->at) {
		if (map_piece(a, (struct uiommu_range){rest->at, cut - 1}, ram))
			return false;
		rest->bytes -= cut - rest->at;
		rest->at = cut;
	}
	if (blocking.last == UINT64_MAX)
		return false;
	if (!leave) {
		rest->at = round_up(blocking.last + 1, BOUNDARY);
		return rest->at > blocking.last;
	}
	rest->bytes -= rest->bytes < blocking.last + 1 - rest->at ? rest->bytes
								  : blocking.last + 1 - rest->at;
	rest->at = blocking.last + 1;
	return true;
}

static bool give_way(struct attempt *a, struct rest *rest, unsigned ram)
{
	struct uiommu_range blocking = a->trial.refusal.blocking;

	if (a->strategy == PLAN_AS_ASKED || !plan_in_the_way(&a->trial.refusal))
		return false;
	if (a->layout->obstacle_count < PLAN_OBSTACLES)
		a->layout->obstacles[a->layout->obstacle_count++] = a->trial.refusal;
	return a->strategy == PLAN_MOVE ? move(rest, blocking) : split(a, rest, blocking, ram);
}

static bool place_ram(struct attempt *a, unsigned ram)
{
	const struct plan_ram *asked = &a->request->ram[ram];
	struct plan_layout *layout = a->layout;
	struct rest rest = {asked->range.first, range_length(asked->range)};
	unsigned tries = PLAN_PIECES;

	/* Without a place of its own, it goes behind what came before. */
	if (!asked->placed && layout->piece_count)
		rest.at = layout->pieces[layout->piece_count - 1].range.last + 1;
	else if (!asked->placed)
		rest.at = layout->window.page_shift		   ? layout->window.start
			  : range_valid(layout->geometry.aperture) ? layout->geometry.aperture.first
								   : 0;
	while (rest.bytes) {
		struct uiommu_range range;

		if (!range_from(rest.at, rest.bytes, &range))
			return give_up(a, PLAN_STAGE_RAM,
				       "the RAM would run past the end of all addresses");
		if (layout->piece_count == PLAN_PIECES || !tries--)
			return give_up(a, PLAN_STAGE_RAM, "the RAM would be in too many pieces");
		if (!map_piece(a, range, ram))
			return true;
		if (!give_way(a, &rest, ram))
			return failed(a, PLAN_STAGE_RAM);
	}
	return true;
}

/* Bytes of RAM, as far as there are addresses for it. */
static uint64_t bytes_to_map(const struct attempt *a)
{
	struct uiommu_range usable[PLAN_PIECES];
	uint64_t total = 0, room = 0;
	size_t count = PLAN_PIECES;

	(void)uiommu_ioas_ranges(a->trial.ioas, usable, &count);
	for (size_t i = 0; i < count && i < PLAN_PIECES; i++)
		room = add_sat(room, range_length(usable[i]));
	for (unsigned i = 0; i < a->request->ram_count; i++)
		total = add_sat(total, range_length(a->request->ram[i].range));
	return total < room ? total : room;
}

static bool place_all_ram(struct attempt *a)
{
	uint64_t sizes = uiommu_ioas_page_sizes(a->trial.ioas);

	if (sizes && bytes_to_map(a) >> (63 - __builtin_clzll(sizes)) > MOST_ENTRIES)
		return give_up(a, PLAN_STAGE_RAM,
			       "with pages this small, so much RAM takes too many entries to try");
	for (unsigned i = 0; i < a->request->ram_count; i++)
		if (!place_ram(a, i))
			return false;
	return true;
}

/* ---- interrupts ---- */

static bool banks_by_program(const struct uiommu_platform_facts *facts)
{
	return (facts->vfio_types & UIOMMU_VFIO_PAMU) &&
	       (facts->pamu.msi == UIOMMU_PAMU_EXPLICIT || facts->pamu.msi == UIOMMU_PAMU_MMAP);
}

/* In the windows behind RAM, one each. */
static int map_bank(struct attempt *a, unsigned number, uint64_t *address)
{
	const struct trial_geometry *geometry = &a->trial.geometry;
	uint64_t window = (range_length(geometry->aperture) - 1) / geometry->windows + 1,
		 behind = 0;

	for (unsigned i = 0; i < a->layout->piece_count; i++) {
		uint64_t end = a->layout->pieces[i].range.last - geometry->aperture.first + 1;

		behind = end > behind ? end : behind;
	}
	*address = geometry->aperture.first + round_up(behind, window) + number * window;
	return trial_map_bank(&a->trial, number, *address);
}

static struct plan_doorbell *add_doorbell(struct plan_layout *layout, unsigned number)
{
	struct plan_doorbell *doorbell = &layout->doorbells[layout->doorbell_count++];

	doorbell->number = number;
	return doorbell;
}

/* Of PAMU's banks an interrupt may use any, so as many as there are interrupts, or all, have to be
 * reachable before the first. */
static bool place_banks(struct attempt *a)
{
	const struct uiommu_platform_facts *facts = a->trial.facts;
	bool program = banks_by_program(facts);

	if (!(facts->vfio_types & UIOMMU_VFIO_PAMU))
		return true;
	for (unsigned i = 0; i < facts->doorbell_count && i < a->layout->vectors; i++) {
		struct plan_doorbell *doorbell = add_doorbell(a->layout, i);

		if (program ? map_bank(a, i, &doorbell->address)
			    : trial_doorbell(&a->trial, i, &doorbell->address))
			return failed(a, PLAN_STAGE_MSI);
	}
	return true;
}

/* Those that the interrupts came to use. */
static void note_doorbells(struct attempt *a)
{
	struct plan_layout *layout = a->layout;

	for (unsigned i = 0; i < layout->vectors; i++) {
		uint64_t address;
		unsigned number = trial_doorbell_of(&a->trial, &a->trial.messages[i], &address), at;

		for (at = 0; at < layout->doorbell_count; at++)
			if (layout->doorbells[at].number == number)
				break;
		if (at == layout->doorbell_count && number < a->trial.facts->doorbell_count)
			add_doorbell(layout, number)->address = address;
	}
}

static bool place_interrupts(struct attempt *a)
{
	struct plan_layout *layout = a->layout;

	if (range_valid(layout->msi_window) && trial_give_msi_window(&a->trial, layout->msi_window))
		return failed(a, PLAN_STAGE_MSI);
	if (!place_banks(a))
		return false;
	if (trial_interrupts(&a->trial, layout->vectors))
		return failed(a, PLAN_STAGE_MSI);
	layout->message = a->trial.messages[0];
	note_doorbells(a);
	return true;
}

/* ---- all of it ---- */

static bool make_space(struct attempt *a)
{
	struct plan_layout *layout = a->layout;

	if (trial_attach(&a->trial))
		return failed(a, PLAN_STAGE_SPACE);
	if ((a->trial.facts->vfio_types & UIOMMU_VFIO_PAMU) &&
	    trial_set_geometry(&a->trial, &layout->geometry))
		return failed(a, PLAN_STAGE_SPACE);
	if (layout->window.page_shift &&
	    layout->window.size >> layout->window.page_shift > MOST_ENTRIES)
		return give_up(a, PLAN_STAGE_SPACE,
			       "with pages this small, a window this large has too many entries");
	if (layout->window.page_shift &&
	    trial_make_window(&a->trial, layout->window.page_shift, layout->window.size,
			      &layout->window.start))
		return failed(a, PLAN_STAGE_SPACE);
	return true;
}

bool plan_try(const struct plan_request *request, enum plan_strategy strategy, unsigned vectors,
	      struct plan_layout *layout)
{
	struct attempt a = {.request = request, .strategy = strategy, .layout = layout};

	layout->stage = PLAN_STAGE_SPACE;
	layout->piece_count = layout->doorbell_count = layout->windows_asked = 0;
	layout->obstacle_count = 0;
	layout->vectors = vectors;
	if (trial_open(request->spec, &a.trial, layout->why, sizeof(layout->why)))
		return false;
	if (make_space(&a) && place_all_ram(&a) && place_interrupts(&a)) {
		layout->stage = PLAN_STAGE_DONE;
		if (layout->geometry.windows != a.trial.geometry.windows)
			layout->windows_asked = layout->geometry.windows;
		layout->geometry.windows = a.trial.geometry.windows;
		layout->page_sizes = uiommu_ioas_page_sizes(a.trial.ioas);
	}
	trial_picture(&a.trial, &layout->picture);
	trial_close(&a.trial);
	return layout->stage == PLAN_STAGE_DONE;
}

struct plan_layout *plan_next(struct plan *plan, const char *how)
{
	struct plan_layout *layout = &plan->alternatives[plan->alternative_count];

	if (plan->alternative_count == PLAN_ALTERNATIVES)
		return NULL;
	memset(layout, 0, sizeof(*layout));
	layout->how = how;
	layout->geometry = plan->asked.geometry;
	layout->msi_window = plan->asked.msi_window;
	return layout;
}

/* ---- one space with holes ---- */

/* The program has to say where doorbells go, and didn't, or said it wrong: find it a place, where
 * Linux would put them, or behind the RAM. */
static bool find_msi_window(const struct plan_request *request, enum plan_strategy strategy,
			    struct plan_layout *layout)
{
	const uint64_t size = 1 << 20;
	uint64_t places[PLAN_PIECES + 1] = {0x8000000};
	unsigned count = 1;

	for (unsigned i = 0; i < layout->piece_count; i++)
		places[count++] = round_up(layout->pieces[i].range.last + 1, size);
	for (unsigned i = 0; i < count; i++) {
		layout->msi_window = (struct uiommu_range){places[i], places[i] + (size - 1)};
		if (plan_try(request, strategy, request->vectors, layout)) {
			layout->compromise = true;
			layout->how = layout->how ?: "with a range that the program gives";
			return true;
		}
	}
	return false;
}

/* As many interrupts as there can be. */
static bool find_vectors(const struct plan_request *request, enum plan_strategy strategy,
			 struct plan_layout *layout)
{
	unsigned most = 0, refused = request->vectors;

	while (refused - most > 1) {
		unsigned middle = most + (refused - most) / 2;

		if (plan_try(request, strategy, middle, layout))
			most = middle;
		else
			refused = middle;
	}
	layout->compromise = true;
	layout->how = layout->how ?: "with fewer interrupts";
	return plan_try(request, strategy, most, layout);
}

/* Try, and if it is the interrupts that can't be had, ask for what can. */
static bool try_near(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		     enum plan_strategy strategy, struct plan_layout *layout)
{
	if (plan_try(request, strategy, request->vectors, layout))
		return true;
	if (layout->stage != PLAN_STAGE_MSI)
		return false;
	if (facts->program_msi && find_msi_window(request, strategy, layout))
		return true;
	layout->msi_window = request->msi_window;
	return find_vectors(request, strategy, layout);
}

static void take_usable(const struct plan_request *request, struct plan *plan)
{
	struct trial trial;
	char why[PLAN_WORDS];

	plan->usable_count = PLAN_PIECES;
	if (trial_open(request->spec, &trial, why, sizeof(why))) {
		plan->usable_count = 0;
		return;
	}
	if (trial_attach(&trial) || !trial.ioas)
		plan->usable_count = 0;
	else
		(void)uiommu_ioas_ranges(trial.ioas, plan->usable, &plan->usable_count);
	if (plan->usable_count > PLAN_PIECES)
		plan->usable_count = PLAN_PIECES;
	trial_close(&trial);
}

static bool any_placed(const struct plan_request *request)
{
	for (unsigned i = 0; i < request->ram_count; i++)
		if (request->ram[i].placed)
			return true;
	return false;
}

void plan_type1(const struct plan_request *request, const struct uiommu_platform_facts *facts,
		struct plan *plan)
{
	static const struct {
		enum plan_strategy strategy;
		const char *how;
	} ways[] = {
		{PLAN_SPLIT, "split around what is in the way"},
		{PLAN_MOVE, "moved away from what is in the way"},
		{PLAN_LEAVE, "each byte where it was asked for, without what is in the way"},
	};
	/* PCs keep their RAM at 0. Where doorbells are translated, their place is low, and RAM is
	 * above. */
	bool translated = facts->doorbell_count && facts->doorbells[0].translated;
	bool placed = any_placed(request);

	if (plan_try(request, PLAN_AS_ASKED, request->vectors, &plan->asked))
		return;
	if (plan->asked.stage == PLAN_STAGE_MSI) {
		struct plan_layout *layout = plan_next(plan, NULL);

		plan->alternative_count += try_near(request, facts, PLAN_AS_ASKED, layout);
		return;
	}
	for (unsigned i = 0; i < (placed ? 3 : 2); i++) {
		unsigned way = i < 2 && translated ? 1 - i : i;
		struct plan_layout *layout = plan_next(plan, ways[way].how);

		plan->alternative_count += try_near(request, facts, ways[way].strategy, layout);
	}
	plan->open = !placed && !plan->alternatives[0].compromise;
	if (!plan->alternative_count)
		take_usable(request, plan);
}

void plan_make(const struct plan_request *request, const struct uiommu_platform_facts *facts,
	       struct plan *plan)
{
	memset(plan, 0, sizeof(*plan));
	plan->asked.how = "as asked";
	plan->asked.geometry = request->geometry;
	plan->asked.msi_window = request->msi_window;
	if (facts->vfio_types & UIOMMU_VFIO_PAMU)
		plan_pamu(request, facts, plan);
	else if (facts->vfio_types & UIOMMU_VFIO_SPAPR)
		plan_spapr(request, facts, plan);
	else
		plan_type1(request, facts, plan);
}
