/* SPDX-License-Identifier: MIT */
/*
 * Where a value stands in the text of a JSON document, for messages that point at it.
 */
#ifndef CMD_JSON_PLACE_H
#define CMD_JSON_PLACE_H

#include <stdbool.h>
#include <stddef.h>

/* One step from a value to one inside it: by key, or by index if there is no key. */
struct json_step {
	const char *key;
	size_t index;
};

/* Both from 1; columns count characters. */
struct json_place {
	unsigned line, column;
};

/* Find the value (or its key, if @of_key and the last step has one) that @depth steps lead to in a
 * document that a parser has accepted. False if it is not there. */
bool json_place_find(const char *text, size_t len, const struct json_step *path, size_t depth,
		     bool of_key, struct json_place *place);

#endif
