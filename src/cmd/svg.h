/* SPDX-License-Identifier: MIT */
/*
 * The picture of an address space as SVG.
 */
#ifndef CMD_SVG_H
#define CMD_SVG_H

#include <stdio.h>

#include "run/picture.h"

struct svg_text {
	const char *title, *subtitle;
	const char *bracket; /* what the translated parts are called: "aperture" or "window" */
};

/* Write it into @file of that name, with the names that @style gives. 0, or 1 after a complaint. */
int svg_write(const char *name, const struct picture *picture, const struct picture_style *style,
	      const struct svg_text *text);

#endif
