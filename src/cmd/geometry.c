/* SPDX-License-Identifier: MIT */
/*
 * Owns the reading of sizes and places from the command line. No state.
 */
#include "cmd/geometry.h"

#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/number.h"

bool geometry_sized(const char *text, struct uiommu_range *range, bool *placed)
{
	const char *at = strchr(text, '@');
	uint64_t size, first = 0;
	char number[32];

	if (strcspn(text, "@") >= sizeof(number))
		return false;
	memcpy(number, text, strcspn(text, "@"));
	number[strcspn(text, "@")] = '\0';
	*placed = at != NULL;
	return number_parse(number, &size) && (!at || number_parse(at + 1, &first)) &&
	       range_from(first, size, range);
}

int geometry_aperture(const char *text, struct trial_geometry *geometry)
{
	bool placed;

	if (geometry_sized(text, &geometry->aperture, &placed))
		return 0;
	complain("--aperture %s: SIZE[@BASE] is wanted, as in 512M or 1G@0x40000000", text);
	return EXIT_USAGE;
}

int geometry_windows(const char *text, struct trial_geometry *geometry)
{
	uint64_t count;

	if (!number_parse(text, &count) || !count || count > UINT32_MAX) {
		complain("--windows %s: a number of windows is wanted", text);
		return EXIT_USAGE;
	}
	geometry->windows = (unsigned)count;
	return 0;
}
