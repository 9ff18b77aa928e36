/* SPDX-License-Identifier: MIT */
/*
 * The uiommu command: finds the subcommand. Owns the words of the top level.
 */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

static const struct {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"run", "run an unmodified VFIO program on a simulated machine", cmd_run},
	{"platforms", "list the machines that can be simulated", cmd_platforms},
	{"show", "draw the address space of a platform", cmd_show},
	{"plan", "say where a guest's memory and interrupts go on a platform", cmd_plan},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static int help(FILE *to)
{
	fprintf(to, "Usage: uiommu COMMAND [OPTION]…\n"
		    "An IOMMU in user space, and the devices behind it.\n\n"
		    "Commands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fprintf(to, "\n"
		    "  --help     show this, or with a command its own help\n"
		    "  --version  show the version\n");
	return ferror(to) ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return help(stdout);
	if (!strcmp(argv[1], "--version")) {
		printf("uiommu " UIOMMU_VERSION "\n");
		return 0;
	}
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	complain("no command '%s'; see uiommu --help", argv[1]);
	return EXIT_USAGE;
}
