/* SPDX-License-Identifier: MIT */
/*
 * Structs of options that grow: each starts with its size. One from an older header is shorter, and
 * what it lacks is zero; one from a newer header is longer, and is fine as long as all that this
 * library does not know of is zero.
 */
#ifndef UTIL_OPTIONS_H
#define UTIL_OPTIONS_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

/*
 * Copy @given, whose first member is its size_t size, over the @room bytes of @known; what @given
 * does not reach stays as it is. -EINVAL: shorter than @least, which is what the first version had;
 * -E2BIG: something beyond @room is not zero. The copy's size is @room.
 */
static inline int options_take(void *known, size_t room, size_t least, const void *given)
{
	const unsigned char *bytes = given;
	size_t size;

	memcpy(&size, given, sizeof(size));
	if (size < sizeof(size) || size < least)
		return -EINVAL;
	for (size_t i = room; i < size; i++)
		if (bytes[i])
			return -E2BIG;
	memcpy(known, given, size < room ? size : room);
	memcpy(known, &room, sizeof(room));
	return 0;
}

#endif
