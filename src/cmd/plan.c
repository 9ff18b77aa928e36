/* SPDX-License-Identifier: MIT */
/*
 * uiommu plan: reads what a guest needs, has it planned, and tells the plan as text, as JSON or as
 * a drawing. The plan is the one big thing here, so it is not on the stack.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/geometry.h"
#include "cmd/json_out.h"
#include "cmd/number.h"
#include "cmd/plan.h"
#include "cmd/platform_file.h"
#include "cmd/svg.h"

enum option_code {
	OPTION_RAM = OPTION_FIRST,
	OPTION_MSI,
	OPTION_MSI_WINDOW,
	OPTION_APERTURE,
	OPTION_WINDOWS,
	OPTION_PLATFORM,
	OPTION_JSON,
	OPTION_SVG,
	OPTION_HELP,
};

static const struct option options[] = {
	{"ram", required_argument, NULL, OPTION_RAM},
	{"msi", required_argument, NULL, OPTION_MSI},
	{"msi-window", required_argument, NULL, OPTION_MSI_WINDOW},
	{"aperture", required_argument, NULL, OPTION_APERTURE},
	{"windows", required_argument, NULL, OPTION_WINDOWS},
	{"platform", required_argument, NULL, OPTION_PLATFORM},
	{"json", no_argument, NULL, OPTION_JSON},
	{"svg", required_argument, NULL, OPTION_SVG},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

static const char usage[] =
	"Usage: uiommu plan [OPTION]… PLATFORM[,key=value…]\n"
	"Say where a guest's memory and interrupts go on a platform, or why they can't,\n"
	"and the nearest that can. It is tried through VFIO, as a program would.\n\n"
	"  --ram SIZE[@IOVA]  RAM, at that place or where it fits; may be repeated\n"
	"  --msi N            interrupts; on PAMU they may use any of its banks, so that\n"
	"                     N banks (or all there are) have to be reachable\n"
	"  --aperture SIZE[@BASE], --windows N\n"
	"                     fsl-pamu: these, instead of those that the plan chooses\n"
	"  --msi-window SIZE@IOVA\n"
	"                     where the program has doorbells placed, on a platform that\n"
	"                     leaves it to programs (arm-smmuv3,place=program)\n"
	"  --json             as JSON\n"
	"  --svg FILE         draw it into a file as well\n"
	"  --help             show this\n\n"
	"Exit status: 0 it can be done, 1 it can't be done as asked, 2 a mistake.\n";

struct settings {
	struct plan_request request;
	const char *platform, *svg;
	bool json;
};

/* ---- words ---- */

static void print_line(void *ctx, const char *text)
{
	puts(text);
}

/* ", windows 0-3" */
static void print_windows(const struct plan_layout *layout, struct uiommu_range range)
{
	uint64_t size = trial_window_size(&layout->geometry), first, last;

	if (!size)
		return;
	first = (range.first - layout->geometry.aperture.first) / size;
	last = (range.last - layout->geometry.aperture.first) / size;
	if (first == last)
		printf(", window %" PRIu64, first);
	else
		printf(", windows %" PRIu64 "-%" PRIu64, first, last);
}

static void print_ram(const struct plan_layout *layout)
{
	char size[24];

	for (unsigned i = 0; i < layout->piece_count; i++) {
		struct uiommu_range range = layout->pieces[i].range;

		printf("  RAM       %-8s 0x%" PRIx64 "-0x%" PRIx64,
		       number_size(range_length(range), size), range.first, range.last);
		print_windows(layout, range);
		putchar('\n');
	}
}

static void print_doorbells(const struct plan_layout *layout,
			    const struct uiommu_platform_facts *facts)
{
	for (unsigned i = 0; i < layout->doorbell_count; i++) {
		const struct uiommu_doorbell *doorbell =
			&facts->doorbells[layout->doorbells[i].number];
		uint64_t at = layout->doorbells[i].address;

		if (doorbell->translated)
			printf("  doorbell  %s (0x%" PRIx64 ") at 0x%" PRIx64, doorbell->name,
			       doorbell->range.first, at);
		else
			printf("  doorbell  %s at 0x%" PRIx64 ", not translated", doorbell->name,
			       at);
		print_windows(layout, (struct uiommu_range){at, at});
		putchar('\n');
	}
	if (layout->vectors)
		printf("  MSI       %u vector%s, the first by writing 0x%" PRIx32 " to 0x%" PRIx64
		       "\n",
		       layout->vectors, layout->vectors == 1 ? "" : "s", layout->message.data,
		       layout->message.address);
	if (layout->vectors && facts->unsafe_check && !facts->isolated_msi)
		puts("  note      a device can raise another's interrupts here: programs need "
		     "--allow-unsafe-interrupts");
}

/* What stands in the way, for who doesn't know the words of the rules. */
static const char *obstacle(const struct uiommu_refusal *refusal)
{
	if (refusal->rule != UIOMMU_RULE_RESERVED)
		return NULL;
	switch (refusal->resv) {
	case UIOMMU_RESV_SW_MSI:
		return "the window in which the system places MSI doorbells";
	case UIOMMU_RESV_MSI:
		return "MSI doorbells that are not translated";
	case UIOMMU_RESV_RESERVED:
		return "a hole in the machine's addresses";
	default:
		return "a region that the firmware has mapped for the device";
	}
}

/* "[first, last]: words (name)" */
static void print_obstacle(const char *before, const struct uiommu_refusal *refusal,
			   const struct uiommu_platform_facts *facts)
{
	const struct picture_row row = {.kind = PICTURE_RESERVED, .range = refusal->blocking};
	const char *words = plan_in_the_way(refusal) ? obstacle(refusal) : NULL;
	const char *name = words ? trial_name((void *)facts, &row) : NULL;

	if (words)
		printf("  %s 0x%" PRIx64 "-0x%" PRIx64 ", %s%s%s%s\n", before,
		       refusal->blocking.first, refusal->blocking.last, words, name ? " (" : "",
		       name ? name : "", name ? ")" : "");
}

static void print_layout(const struct plan_layout *layout,
			 const struct uiommu_platform_facts *facts)
{
	char size[24];

	if (range_valid(layout->geometry.aperture)) {
		printf("  aperture  %-8s 0x%" PRIx64 "-0x%" PRIx64 ", %u window%s of ",
		       number_size(range_length(layout->geometry.aperture), size),
		       layout->geometry.aperture.first, layout->geometry.aperture.last,
		       layout->geometry.windows, layout->geometry.windows == 1 ? "" : "s");
		fputs(number_size(trial_window_size(&layout->geometry), size), stdout);
		if (layout->windows_asked)
			printf("; the program asks for %u", layout->windows_asked);
		putchar('\n');
	}
	if (layout->window.page_shift) {
		printf("  window    %-8s from 0x%" PRIx64 " on, pages of ",
		       number_size(layout->window.size, size), layout->window.start);
		puts(number_size(UINT64_C(1) << layout->window.page_shift, size));
	}
	if (range_valid(layout->msi_window))
		printf("  MSI place %-8s 0x%" PRIx64 "-0x%" PRIx64 ", given by the program\n",
		       number_size(range_length(layout->msi_window), size),
		       layout->msi_window.first, layout->msi_window.last);
	print_ram(layout);
	for (unsigned i = 0; i < layout->obstacle_count; i++)
		print_obstacle("around   ", &layout->obstacles[i], facts);
	print_doorbells(layout, facts);
}

static void print_nothing(const struct plan *plan)
{
	puts("nothing near it can be done");
	for (size_t i = 0; i < plan->usable_count; i++)
		printf("  can be mapped: 0x%" PRIx64 "-0x%" PRIx64 "\n", plan->usable[i].first,
		       plan->usable[i].last);
}

/* ---- telling ---- */

/* The layout that answers the request, or the nearest to it, or NULL. */
static const struct plan_layout *answer(const struct plan *plan)
{
	if (plan->asked.stage == PLAN_STAGE_DONE)
		return &plan->asked;
	return plan->alternative_count ? &plan->alternatives[0] : NULL;
}

static bool possible(const struct plan *plan)
{
	return plan->asked.stage == PLAN_STAGE_DONE || (plan->open && plan->alternative_count);
}

static void tell(const struct plan *plan, const struct uiommu_platform_facts *facts)
{
	struct picture_style style = {
		.colour = trial_colour(), .wide = true, .name = trial_name, .ctx = (void *)facts};
	const struct plan_layout *best = answer(plan);

	if (plan->asked.stage == PLAN_STAGE_DONE) {
		printf("%s: possible\n", facts->name);
		print_layout(&plan->asked, facts);
	} else {
		printf("%s: %s\n", facts->name,
		       possible(plan) ? "possible, though not from 0 on in one piece"
				      : "not possible as asked");
		printf("  %s\n", plan->asked.why);
		print_obstacle("in the way", &plan->asked.refusal, facts);
		if (!best)
			print_nothing(plan);
		for (unsigned i = 0; i < plan->alternative_count; i++) {
			printf("%s: %s\n",
			       i		? "or"
			       : possible(plan) ? "instead"
						: "nearest that can",
			       plan->alternatives[i].how);
			print_layout(&plan->alternatives[i], facts);
		}
	}
	if (best)
		picture_draw(&best->picture, &style, print_line, NULL);
}

/* ---- JSON ---- */

static json_t *pieces_json(const struct plan_layout *layout)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < layout->piece_count; i++) {
		json_t *piece = json_range(layout->pieces[i].range);

		json_object_set_new(piece, "ram", json_integer(layout->pieces[i].ram));
		json_array_append_new(list, piece);
	}
	return list;
}

static json_t *doorbells_json(const struct plan_layout *layout,
			      const struct uiommu_platform_facts *facts)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < layout->doorbell_count; i++) {
		const struct uiommu_doorbell *doorbell =
			&facts->doorbells[layout->doorbells[i].number];
		json_t *object = json_object();

		json_set_string(object, "name", doorbell->name);
		json_set_address(object, "iova", layout->doorbells[i].address);
		if (doorbell->translated)
			json_set_address(object, "address", doorbell->range.first);
		json_array_append_new(list, object);
	}
	return list;
}

static json_t *layout_json(const struct plan_layout *layout,
			   const struct uiommu_platform_facts *facts)
{
	json_t *object = json_object(), *message = json_object();

	json_set_string(object, "how", layout->how);
	if (range_valid(layout->geometry.aperture)) {
		json_object_set_new(object, "aperture", json_range(layout->geometry.aperture));
		json_object_set_new(object, "windows", json_integer(layout->geometry.windows));
		if (layout->windows_asked)
			json_object_set_new(object, "windows_asked",
					    json_integer(layout->windows_asked));
		json_set_address(object, "window_size", trial_window_size(&layout->geometry));
	}
	if (layout->window.page_shift) {
		json_t *window = json_object();

		json_set_address(window, "first", layout->window.start);
		json_set_address(window, "size", layout->window.size);
		json_set_address(window, "page", UINT64_C(1) << layout->window.page_shift);
		json_object_set_new(object, "window", window);
	}
	if (range_valid(layout->msi_window))
		json_object_set_new(object, "msi_window", json_range(layout->msi_window));
	json_object_set_new(object, "ram", pieces_json(layout));
	json_object_set_new(object, "doorbells", doorbells_json(layout, facts));
	json_object_set_new(object, "vectors", json_integer(layout->vectors));
	json_set_address(message, "address", layout->message.address);
	json_set_address(message, "data", layout->message.data);
	if (layout->vectors)
		json_object_set_new(object, "message", message);
	else
		json_decref(message);
	return object;
}

static json_t *refusal_json(const struct plan_layout *asked)
{
	const struct uiommu_refusal *refusal = &asked->refusal;
	json_t *object = json_object();

	json_set_string(object, "words", asked->why);
	if (refusal->rule != UIOMMU_RULE_NONE) {
		json_set_string(object, "rule", uiommu_rule_name(refusal->rule));
		json_set_string(object, "owner", refusal->owner);
	}
	if (plan_in_the_way(refusal)) {
		json_object_set_new(object, "in_the_way", json_range(refusal->blocking));
		if (refusal->rule == UIOMMU_RULE_RESERVED)
			json_set_string(object, "type", json_resv_word(refusal->resv));
	}
	return object;
}

static int tell_json(const struct plan *plan, const struct uiommu_platform_facts *facts)
{
	json_t *root = json_object(), *list = json_array();

	json_set_string(root, "platform", facts->name);
	json_object_set_new(root, "possible", json_boolean(possible(plan)));
	if (plan->asked.stage == PLAN_STAGE_DONE)
		json_object_set_new(root, "layout", layout_json(&plan->asked, facts));
	else
		json_object_set_new(root, "refusal", refusal_json(&plan->asked));
	for (unsigned i = 0; i < plan->alternative_count; i++)
		json_array_append_new(list, layout_json(&plan->alternatives[i], facts));
	json_object_set_new(root, "alternatives", list);
	return json_print(root);
}

/* ---- the command ---- */

static int draw(const struct plan *plan, const struct settings *s,
		const struct uiommu_platform_facts *facts)
{
	struct picture_style style = {.name = trial_name, .ctx = (void *)facts};
	const struct plan_layout *best = answer(plan);
	char title[128], subtitle[256];
	struct svg_text text = {.title = title, .subtitle = subtitle, .bracket = "aperture"};

	if (!best) {
		complain("there is nothing to draw");
		return 1;
	}
	if (facts->vfio_types & UIOMMU_VFIO_SPAPR)
		text.bracket = "window";
	snprintf(title, sizeof(title), "A plan for %s", facts->name);
	if (plan->asked.stage == PLAN_STAGE_DONE)
		snprintf(subtitle, sizeof(subtitle), "%s", facts->summary);
	else
		snprintf(subtitle, sizeof(subtitle), "%s; %s", facts->summary, best->how);
	return svg_write(s->svg, &best->picture, &style, &text);
}

static int make_plan(const struct settings *s, const struct uiommu_platform_facts *facts)
{
	struct plan *plan = malloc(sizeof(*plan));
	int ret = 0;

	if (!plan) {
		complain("out of memory");
		return 1;
	}
	plan_make(&s->request, facts, plan);
	if (s->json)
		ret = tell_json(plan, facts);
	else
		tell(plan, facts);
	if (s->svg && draw(plan, s, facts))
		ret = 1;
	if (!possible(plan))
		ret = 1;
	free(plan);
	return ret;
}

static int plan_platform(struct settings *s)
{
	struct uiommu_platform *platform;
	const struct uiommu_platform_facts *facts;
	char why[PLAN_WORDS], *spec;
	int ret = platform_argument(s->platform, &spec);

	if (ret)
		return ret;
	if (uiommu_platform_create(spec, &platform, why, sizeof(why))) {
		complain("%s", why);
		free(spec);
		return EXIT_USAGE;
	}
	facts = uiommu_platform_facts(platform);
	s->request.spec = spec;
	if (range_valid(s->request.msi_window) && !facts->program_msi) {
		complain("--msi-window: on %s the system places doorbells; see uiommu platforms",
			 facts->name);
		ret = EXIT_USAGE;
	} else if ((range_valid(s->request.geometry.aperture) || s->request.geometry.windows) &&
		   !(facts->vfio_types & UIOMMU_VFIO_PAMU)) {
		complain("--aperture, --windows: on %s a program does not choose them",
			 facts->name);
		ret = EXIT_USAGE;
	} else if (!facts->format || (facts->vfio_types & UIOMMU_VFIO_NOIOMMU)) {
		printf("%s: nothing to plan: addresses are not translated, a device reaches all "
		       "memory where it lies\n",
		       facts->name);
	} else {
		ret = make_plan(s, facts);
	}
	uiommu_platform_destroy(platform);
	free(spec);
	return ret;
}

static int take_ram(struct plan_request *request, const char *text)
{
	struct plan_ram *ram = &request->ram[request->ram_count];

	if (request->ram_count == PLAN_RAM) {
		complain("--ram %s: there can be %d pieces", text, PLAN_RAM);
		return EXIT_USAGE;
	}
	if (!geometry_sized(text, &ram->range, &ram->placed)) {
		complain("--ram %s: SIZE[@IOVA] is wanted, as in 256M or 1G@0x40000000", text);
		return EXIT_USAGE;
	}
	request->ram_count++;
	return 0;
}

static int take_vectors(struct plan_request *request, const char *text)
{
	uint64_t count;

	if (!number_parse(text, &count) || count > TRIAL_VECTORS) {
		complain("--msi %s: a number of interrupts up to %d is wanted", text,
			 TRIAL_VECTORS);
		return EXIT_USAGE;
	}
	request->vectors = (unsigned)count;
	return 0;
}

static int take_msi_window(struct plan_request *request, const char *text)
{
	bool placed;

	if (geometry_sized(text, &request->msi_window, &placed) && placed)
		return 0;
	complain("--msi-window %s: SIZE@IOVA is wanted, as in 1M@0x8000000", text);
	return EXIT_USAGE;
}

static int take_option(struct settings *s, int code, const char *word)
{
	switch (code) {
	case OPTION_RAM:
		return take_ram(&s->request, optarg);
	case OPTION_MSI:
		return take_vectors(&s->request, optarg);
	case OPTION_MSI_WINDOW:
		return take_msi_window(&s->request, optarg);
	case OPTION_APERTURE:
		return geometry_aperture(optarg, &s->request.geometry);
	case OPTION_WINDOWS:
		return geometry_windows(optarg, &s->request.geometry);
	case OPTION_PLATFORM:
		s->platform = optarg;
		return 0;
	case OPTION_JSON:
		s->json = true;
		return 0;
	case OPTION_SVG:
		s->svg = optarg;
		return 0;
	default:
		return option_error("plan", code, options, word);
	}
}

int cmd_plan(int argc, char **argv)
{
	struct settings s = {.request.geometry.aperture = UIOMMU_RANGE_NONE,
			     .request.msi_window = UIOMMU_RANGE_NONE};
	int code, ret = 0;

	opterr = 0;
	while (!ret && (code = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (code == OPTION_HELP || code == 'h')
			return fputs(usage, stdout) < 0;
		ret = take_option(&s, code, argv[optind - 1]);
	}
	if (!ret && !s.platform && optind < argc)
		s.platform = argv[optind++];
	if (!ret && (!s.platform || optind < argc)) {
		complain("plan wants one platform; see uiommu plan --help");
		ret = EXIT_USAGE;
	}
	if (!ret && !s.request.ram_count && !s.request.vectors) {
		complain("what is to be planned? --ram SIZE, --msi N");
		ret = EXIT_USAGE;
	}
	return ret ? ret : plan_platform(&s);
}
