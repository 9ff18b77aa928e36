/* SPDX-License-Identifier: MIT */
/*
 * The uiommu command: finds the subcommand. Owns the words of the top level.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

static const struct {
	const char *name, *summary;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"run", "run an unmodified VFIO program on a simulated machine", cmd_run},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

void complain(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "uiommu: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

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
