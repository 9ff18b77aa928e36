/* SPDX-License-Identifier: MIT */
/*
 * Owns what all subcommands say when they can't go on. No state.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"

void complain(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "uiommu: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static const char *name_of(const struct option *options, int code)
{
	while (options->name && options->val != code)
		options++;
	return options->name;
}

static void bad_option(const struct option *options, const char *word)
{
	unsigned matches = 0;

	if (optopt >= OPTION_FIRST) {
		complain("--%s: it takes no argument", name_of(options, optopt));
		return;
	}
	if (optopt) {
		complain("unknown option -%c", optopt);
		return;
	}
	for (const struct option *o = options; o->name; o++)
		if (!strncmp(o->name, word + 2, strcspn(word + 2, "=")))
			matches++;
	complain("%s option %s", matches > 1 ? "ambiguous" : "unknown", word);
}

int option_error(const char *command, int code, const struct option *options, const char *word)
{
	if (code == ':')
		complain("--%s: its argument is missing", name_of(options, optopt));
	else
		bad_option(options, word);
	fprintf(stderr, "See uiommu %s --help.\n", command);
	return EXIT_USAGE;
}
