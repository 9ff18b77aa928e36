/* SPDX-License-Identifier: MIT */
/*
 * A forked child's own registers.
 */
#ifndef RUN_FORK_H
#define RUN_FORK_H

#include <uiommu/device.h>

/* Around fork(), with all devices stopped. */
void fork_copy(struct uiommu_machine *machine);
void fork_keep_parent(void);
void fork_take_child(struct uiommu_machine *machine);

#endif
