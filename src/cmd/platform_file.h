/* SPDX-License-Identifier: MIT */
/*
 * A user's own platform, in a JSON file over a base platform (uiommu-platform(5)). The library,
 * which is preloaded into programs, knows nothing of JSON: a file is turned into the
 * "NAME,key=value…" that uiommu_platform_create() takes.
 */
#ifndef CMD_PLATFORM_FILE_H
#define CMD_PLATFORM_FILE_H

#include <stddef.h>

/* Turn the text of a file into a specification, to be freed. 0, or -errno and a message in @why
 * that begins with the place, "NAME:LINE:COLUMN: ". */
int platform_file_parse(const char *name, const char *text, size_t len, char **spec, char *why,
			size_t why_len);

/* The argument of --platform: a file if it has a '/' or ends with ".json" (before the options that
 * may follow), else a specification already. 0 and the specification, to be freed, or an exit
 * status after a complaint. */
int platform_argument(const char *argument, char **spec);

#endif
