/* SPDX-License-Identifier: MIT */
/*
 * uiommu show: draws the address space that a program gets on a platform, as the library reports it
 * once a function is attached and its doorbells are reachable. No state.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/geometry.h"
#include "cmd/number.h"
#include "cmd/platform_file.h"
#include "cmd/svg.h"
#include "cmd/trial.h"

enum option_code {
	OPTION_SVG = OPTION_FIRST,
	OPTION_PLATFORM,
	OPTION_APERTURE,
	OPTION_WINDOWS,
	OPTION_WINDOW,
	OPTION_HELP,
};

static const struct option options[] = {
	{"svg", required_argument, NULL, OPTION_SVG},
	{"platform", required_argument, NULL, OPTION_PLATFORM},
	{"aperture", required_argument, NULL, OPTION_APERTURE},
	{"windows", required_argument, NULL, OPTION_WINDOWS},
	{"window", required_argument, NULL, OPTION_WINDOW},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

static const char usage[] =
	"Usage: uiommu show [OPTION]… PLATFORM[,key=value…]\n"
	"Draw the address space that a program gets on a platform (or on one of its own,\n"
	"from a file): what can be mapped, holes, windows and doorbells.\n\n"
	"  --svg FILE       draw it into a file instead of on the terminal\n"
	"  --aperture SIZE[@BASE]\n"
	"                   fsl-pamu: the aperture that the program sets (all there is)\n"
	"  --windows N      fsl-pamu: its number of windows (the most there can be)\n"
	"  --window SIZE    ppc-spapr: the dynamic window that the program makes (64G)\n"
	"  --help           show this\n";

/* Any will do to show where it stands. */
#define DYNAMIC_WINDOW (UINT64_C(64) << 30)

struct settings {
	const char *platform, *svg;
	struct trial_geometry geometry;
	uint64_t window;
};

static void print_line(void *ctx, const char *text)
{
	puts(text);
}

/* Doorbells that are not in the picture: those that no mapping leads to. */
static void print_doorbells(const struct trial *trial)
{
	const struct uiommu_platform_facts *facts = trial->facts;

	for (size_t i = 0; i < facts->doorbell_count; i++) {
		const struct uiommu_doorbell *doorbell = &facts->doorbells[i];

		printf("%s: 0x%llx-0x%llx, %s, %u vectors%s\n", doorbell->name,
		       (unsigned long long)doorbell->range.first,
		       (unsigned long long)doorbell->range.last,
		       doorbell->translated ? "behind the translation" : "not translated",
		       doorbell->vectors, doorbell->per_device ? " for each device" : "");
	}
}

static int draw(struct trial *trial, const struct settings *s)
{
	struct picture_style style = {.colour = trial_colour(),
				      .wide = true,
				      .name = trial_name,
				      .ctx = (void *)trial->facts};
	char title[160], subtitle[256];
	struct svg_text text = {.title = title, .subtitle = subtitle, .bracket = "aperture"};
	struct picture picture;

	if (trial->facts->vfio_types & UIOMMU_VFIO_SPAPR)
		text.bracket = "window";
	trial_picture(trial, &picture);
	trial_describe(trial, title, sizeof(title), subtitle, sizeof(subtitle));
	if (s->svg)
		return svg_write(s->svg, &picture, &style, &text);
	printf("%s\n%s\n", title, subtitle);
	picture_draw(&picture, &style, print_line, NULL);
	print_doorbells(trial);
	return 0;
}

/* Without a choice, all the address space and the windows that there are. */
static int set_geometry(struct trial *trial, const struct settings *s)
{
	const struct uiommu_pamu_facts *pamu = &trial->facts->pamu;
	struct trial_geometry geometry = s->geometry;

	if (!range_valid(geometry.aperture))
		geometry.aperture =
			(struct uiommu_range){0, (UINT64_C(1) << trial->facts->width) - 1};
	if (!geometry.windows)
		geometry.windows = pamu->msi == UIOMMU_PAMU_ROUNDED ? pamu->windows - pamu->banks
								    : pamu->windows;
	return trial_set_geometry(trial, &geometry);
}

/* A dynamic window beside the default one, which exists once a window is asked for, with the
 * largest pages that it can have. */
static int make_window(struct trial *trial, const struct settings *s)
{
	uint64_t sizes = trial->facts->spapr.page_sizes, start;
	int ret = 0;

	for (unsigned shift = 63; shift >= 12; shift--) {
		if (!(sizes >> shift & 1))
			continue;
		ret = trial_make_window(trial, shift, s->window ? s->window : DYNAMIC_WINDOW,
					&start);
		if (!ret)
			break;
	}
	/* Nobody asked for one, and this machine can't have it. */
	return s->window ? ret : 0;
}

static int attach(struct trial *trial, const struct settings *s)
{
	int ret = trial_attach(trial);

	if (!ret && (trial->facts->vfio_types & UIOMMU_VFIO_PAMU))
		ret = set_geometry(trial, s);
	if (!ret && (trial->facts->vfio_types & UIOMMU_VFIO_SPAPR))
		ret = make_window(trial, s);
	return ret ? 1 : 0;
}

static int show(const struct settings *s)
{
	struct trial trial;
	char why[512], *spec;
	int ret = platform_argument(s->platform, &spec);

	if (ret)
		return ret;
	ret = trial_open(spec, &trial, why, sizeof(why));
	free(spec);
	if (ret) {
		complain("%s", why);
		return EXIT_USAGE;
	}
	ret = attach(&trial, s);
	if (ret)
		complain("%s", trial_refusal(&trial, why, sizeof(why)));
	for (unsigned i = 0; i < trial.facts->doorbell_count && !ret; i++) {
		uint64_t address;

		/* Where the program has to place it, there is nothing to be seen. */
		(void)trial_doorbell(&trial, i, &address);
	}
	if (!ret)
		ret = draw(&trial, s);
	trial_close(&trial);
	return ret;
}

static int take_option(struct settings *s, int code, const char *word)
{
	switch (code) {
	case OPTION_SVG:
		s->svg = optarg;
		return 0;
	case OPTION_PLATFORM:
		s->platform = optarg;
		return 0;
	case OPTION_APERTURE:
		return geometry_aperture(optarg, &s->geometry);
	case OPTION_WINDOWS:
		return geometry_windows(optarg, &s->geometry);
	case OPTION_WINDOW:
		if (number_parse(optarg, &s->window) && s->window)
			return 0;
		complain("--window %s: a size is wanted, as in 16G", optarg);
		return EXIT_USAGE;
	default:
		return option_error("show", code, options, word);
	}
}

int cmd_show(int argc, char **argv)
{
	struct settings s = {.geometry = {.aperture = UIOMMU_RANGE_NONE}};
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
		complain("show wants one platform; see uiommu show --help");
		ret = EXIT_USAGE;
	}
	return ret ? ret : show(&s);
}
