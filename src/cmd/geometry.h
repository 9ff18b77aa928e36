/* SPDX-License-Identifier: MIT */
/*
 * The options that show and plan share: what a program chooses of an address space.
 */
#ifndef CMD_GEOMETRY_H
#define CMD_GEOMETRY_H

#include "cmd/trial.h"
#include "util/range.h"

/* "SIZE[@FIRST]", e.g. "512M@0x10000000". *@placed: the place was given; else it is 0. */
bool geometry_sized(const char *text, struct uiommu_range *range, bool *placed);

/* --aperture and --windows: 0, or EXIT_USAGE after a complaint. */
int geometry_aperture(const char *text, struct trial_geometry *geometry);
int geometry_windows(const char *text, struct trial_geometry *geometry);

#endif
