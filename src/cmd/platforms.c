/* SPDX-License-Identifier: MIT */
/*
 * uiommu platforms: lists what machines there are. Every figure comes from a machine that is made
 * for it. No state.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/json_out.h"
#include "cmd/trial.h"

enum option_code {
	OPTION_JSON = OPTION_FIRST,
	OPTION_HELP,
};

static const struct option options[] = {
	{"json", no_argument, NULL, OPTION_JSON},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

static const char usage[] =
	"Usage: uiommu platforms [--json]\n"
	"List the machines that can be simulated: the table format of their IOMMU, bits\n"
	"of I/O virtual address, page sizes, the types of IOMMU that VFIO offers, how an\n"
	"interrupt travels, what can't be mapped, and options.\n\n"
	"  --json  as JSON\n"
	"  --help  show this\n";

/* ---- words ---- */

static const char *msi_word(const struct uiommu_platform_facts *facts)
{
	if (!facts->doorbell_count)
		return "none";
	return facts->doorbells[0].translated ? "translated" : "not translated";
}

/* ---- the table ---- */

static void print_details(const struct uiommu_platform_facts *facts, const char *own_options)
{
	for (size_t i = 0; i < facts->doorbell_count; i++)
		printf("    msi     0x%llx-0x%llx %s, %u vectors%s\n",
		       (unsigned long long)facts->doorbells[i].range.first,
		       (unsigned long long)facts->doorbells[i].range.last, facts->doorbells[i].name,
		       facts->doorbells[i].vectors,
		       facts->doorbells[i].per_device ? " for each device" : "");
	for (size_t i = 0; i < facts->region_count; i++)
		printf("    hole    0x%llx-0x%llx %s\n",
		       (unsigned long long)facts->regions[i].range.first,
		       (unsigned long long)facts->regions[i].range.last,
		       facts->regions[i].type == UIOMMU_RESV_SW_MSI
			       ? "sw-msi: doorbells are placed here"
			       : uiommu_resv_name(facts->regions[i].type));
	for (const char *option = own_options; option && *option;) {
		size_t len = strcspn(option, ";");

		printf("    option  %.*s\n", (int)len, option);
		option += len + strspn(option + len, "; ");
	}
}

static void print_row(struct trial *trial, const char *name)
{
	const struct uiommu_platform_facts *facts = trial->facts;
	char pages[64] = "-", bits[16] = "-";

	if (trial->ioas) {
		trial_page_sizes(trial_sizes(trial), pages, sizeof(pages));
		snprintf(bits, sizeof(bits), "%u", facts->width);
	}
	printf("%-12s %-10s %4s  %-14s %-10s %-15s %s\n", facts->name,
	       facts->format ? facts->format : "-", bits, pages, trial_vfio_word(facts->vfio_types),
	       msi_word(facts), facts->isolated_msi ? "isolated" : "not isolated");
	printf("    %s\n", facts->summary);
	print_details(facts, uiommu_platform_options(name));
}

/* ---- JSON ---- */

static json_t *row_json(struct trial *trial, const char *name)
{
	const struct uiommu_platform_facts *facts = trial->facts;
	json_t *row = json_object(), *list = json_array();

	json_set_string(row, "name", facts->name);
	json_set_string(row, "summary", facts->summary);
	json_set_string(row, "format", facts->format);
	json_object_set_new(row, "width", json_integer(facts->width));
	json_object_set_new(row, "page_sizes", json_sizes(trial_sizes(trial)));
	json_set_string(row, "vfio", trial_vfio_word(facts->vfio_types));
	json_object_set_new(row, "isolated_msi", json_boolean(facts->isolated_msi));
	json_object_set_new(row, "coherent", json_boolean(facts->coherent));
	for (size_t i = 0; i < facts->doorbell_count; i++) {
		json_t *doorbell = json_range(facts->doorbells[i].range);

		json_set_string(doorbell, "name", facts->doorbells[i].name);
		json_object_set_new(doorbell, "translated",
				    json_boolean(facts->doorbells[i].translated));
		json_object_set_new(doorbell, "vectors", json_integer(facts->doorbells[i].vectors));
		json_object_set_new(doorbell, "per_device",
				    json_boolean(facts->doorbells[i].per_device));
		json_array_append_new(list, doorbell);
	}
	json_object_set_new(row, "doorbells", list);
	list = json_array();
	for (size_t i = 0; i < facts->region_count; i++) {
		json_t *region = json_range(facts->regions[i].range);

		json_set_string(region, "type", json_resv_word(facts->regions[i].type));
		json_array_append_new(list, region);
	}
	json_object_set_new(row, "reserved", list);
	json_set_string(row, "options", uiommu_platform_options(name));
	return row;
}

/* ---- the command ---- */

static int list_all(bool as_json)
{
	json_t *list = as_json ? json_array() : NULL;
	const char *name;
	int status = 0;

	if (!as_json)
		printf("%-12s %-10s %4s  %-14s %-10s %s\n", "PLATFORM", "TABLES", "BITS", "PAGES",
		       "VFIO", "INTERRUPTS");
	for (size_t i = 0; (name = uiommu_platform_name(i)); i++) {
		struct trial trial;
		char why[256];

		if (trial_open(name, &trial, why, sizeof(why))) {
			complain("%s: %s", name, why);
			status = 1;
			continue;
		}
		if (trial_attach(&trial)) {
			complain("%s: %s", name, trial_refusal(&trial, why, sizeof(why)));
			status = 1;
		}
		if (as_json)
			json_array_append_new(list, row_json(&trial, name));
		else
			print_row(&trial, name);
		trial_close(&trial);
	}
	return as_json && json_print(list) ? 1 : status;
}

int cmd_platforms(int argc, char **argv)
{
	bool as_json = false;
	int code;

	opterr = 0;
	while ((code = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		if (code == OPTION_HELP || code == 'h')
			return fputs(usage, stdout) < 0;
		if (code != OPTION_JSON)
			return option_error("platforms", code, options, argv[optind - 1]);
		as_json = true;
	}
	if (optind < argc) {
		complain("platforms takes no argument '%s'", argv[optind]);
		return EXIT_USAGE;
	}
	return list_all(as_json);
}
