/* SPDX-License-Identifier: MIT */
/*
 * Owns the writing of numbers as people write them. No state.
 */
#include "cmd/number.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char units[] = "KMGTPE";

bool number_parse(const char *text, uint64_t *number)
{
	const char *unit;
	unsigned shift;
	uint64_t value;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end,
			 text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10);
	if (errno || end == text)
		return false;
	*number = value;
	if (!*end)
		return true;
	unit = *end == ' ' ? NULL : strchr(units, *end & ~0x20);
	if (!unit || (end[1] && strcmp(end + 1, "iB")))
		return false;
	shift = 10 * (unsigned)(unit - units + 1);
	*number = value << shift;
	return *number >> shift == value;
}

const char *number_size(uint64_t bytes, char *buf)
{
	unsigned unit = 0;

	while (bytes && !(bytes & 1023) && unit < sizeof(units) - 1) {
		bytes >>= 10;
		unit++;
	}
	if (unit)
		snprintf(buf, 24, "%" PRIu64 "%c", bytes, units[unit - 1]);
	else
		snprintf(buf, 24, bytes < 1024 ? "%" PRIu64 : "0x%" PRIx64, bytes);
	return buf;
}
