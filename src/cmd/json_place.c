/* SPDX-License-Identifier: MIT */
/*
 * Owns the finding of places in JSON text. jansson doesn't keep where a value came from, so the
 * text is walked once more. It has been accepted by jansson before; on any other text the walk ends
 * somewhere inside it, and finds the wrong place or none, but reads nothing beyond its end.
 */
#include "cmd/json_place.h"

#include <jansson.h>
#include <string.h>

struct cursor {
	const char *at, *end;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(struct cursor *c)
{
	while (c->at < c->end && is_blank(*c->at))
		c->at++;
}

static bool sees(const struct cursor *c, char wanted)
{
	return c->at < c->end && *c->at == wanted;
}

/* From the opening quote to behind the closing one. */
static void skip_string(struct cursor *c)
{
	for (c->at++; c->at < c->end && *c->at != '"'; c->at++)
		if (*c->at == '\\' && c->at + 1 < c->end)
			c->at++;
	if (c->at < c->end)
		c->at++;
}

/* Behind one value, however deep it is. */
static void skip_value(struct cursor *c)
{
	size_t depth = 0;

	do {
		skip_blanks(c);
		if (c->at == c->end)
			return;
		if (*c->at == '"') {
			skip_string(c);
			continue;
		}
		if (*c->at == '{' || *c->at == '[')
			depth++;
		else if (*c->at == '}' || *c->at == ']')
			depth--;
		c->at++;
		while (!depth && c->at < c->end && !is_blank(*c->at) && !strchr(",]}", *c->at))
			c->at++;
	} while (depth);
}

/* Is the string that begins here this one, once its escapes are resolved? */
static bool is_key(const struct cursor *c, const char *wanted)
{
	struct cursor behind = *c;
	json_t *decoded;
	bool same;

	skip_string(&behind);
	decoded = json_loadb(c->at, (size_t)(behind.at - c->at), JSON_DECODE_ANY, NULL);
	same = json_is_string(decoded) && !strcmp(json_string_value(decoded), wanted);
	json_decref(decoded);
	return same;
}

/* To a member of the object that begins here: its key, or its value. */
static bool enter_object(struct cursor *c, const char *key, bool of_key)
{
	if (!sees(c, '{'))
		return false;
	do {
		bool found;

		c->at++;
		skip_blanks(c);
		if (!sees(c, '"'))
			return false;
		found = is_key(c, key);
		if (found && of_key)
			return true;
		skip_string(c);
		skip_blanks(c);
		if (!sees(c, ':'))
			return false;
		c->at++;
		skip_blanks(c);
		if (found)
			return true;
		skip_value(c);
		skip_blanks(c);
	} while (sees(c, ','));
	return false;
}

static bool enter_array(struct cursor *c, size_t index)
{
	if (!sees(c, '['))
		return false;
	c->at++;
	skip_blanks(c);
	while (index--) {
		skip_value(c);
		skip_blanks(c);
		if (!sees(c, ','))
			return false;
		c->at++;
		skip_blanks(c);
	}
	return !sees(c, ']');
}

bool json_place_find(const char *text, size_t len, const struct json_step *path, size_t depth,
		     bool of_key, struct json_place *place)
{
	struct cursor c = {text, text + len};

	skip_blanks(&c);
	for (size_t i = 0; i < depth; i++)
		if (path[i].key ? !enter_object(&c, path[i].key, of_key && i + 1 == depth)
				: !enter_array(&c, path[i].index))
			return false;
	*place = (struct json_place){1, 1};
	for (const char *p = text; p < c.at; p++) {
		if (*p == '\n')
			*place = (struct json_place){place->line + 1, 1};
		else if (((unsigned char)*p & 0xc0) != 0x80)
			place->column++;
	}
	return true;
}
