/* SPDX-License-Identifier: MIT */
/*
 * A platform is facts and a few hooks. What platforms share, options and the table of interrupts,
 * is in platform.c and irq.c; a platform's own file holds its struct platform_kind.
 */
#ifndef PLATFORM_PLATFORM_H
#define PLATFORM_PLATFORM_H

#include <uiommu/platform.h>

#include "platform/irq.h"

struct platform_kind {
	const char *name;
	const char *summary; /* options included */
	/* Defaults of the facts, before options. */
	struct uiommu_platform_facts facts;
	/* Take one option, changing platform->facts: 0, or -EINVAL with a reason in why. */
	int (*option)(struct uiommu_platform *platform, const char *key, const char *value,
		      char *why, size_t why_len);
	/* What a function writes to raise interrupt table entry first + sub, where first is the
	 * entry its block of count begins with. */
	struct uiommu_msi_message (*compose)(uint32_t first, unsigned sub, bool consecutive);
	/* The entry that a doorbell write means; negative: it is malformed. */
	int64_t (*decode)(uint64_t address, uint32_t data);
	struct uiommu_range doorbell; /* IOVAs that decode() understands */
};

struct uiommu_platform {
	const struct platform_kind *kind;
	struct uiommu_platform_facts facts;
	struct uiommu_doorbell_window window;
	struct irq_table irqs;
};

extern const struct platform_kind platform_x86_vtd;

#endif
