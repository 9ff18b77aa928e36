/* SPDX-License-Identifier: MIT */
/*
 * A platform is facts and a few hooks. What platforms share, options, reserved regions and what
 * leads from a message to a handler, is in platform.c and irq.c; a platform's own file holds its
 * struct platform_kind.
 */
#ifndef PLATFORM_PLATFORM_H
#define PLATFORM_PLATFORM_H

#include <uiommu/linux/iommufd.h>
#include <uiommu/platform.h>

#include "platform/irq.h"

#define PLATFORM_REGIONS   16
#define PLATFORM_DOORBELLS 4

/* How an interrupt controller reads what is written to its doorbells. */
struct irq_controller {
	/* Offset in the doorbell and data that raise vector first + sub, where first is the one its
	 * block begins with. */
	uint64_t (*compose)(uint32_t first, unsigned sub, bool consecutive, uint32_t *data);
	/* The vector that a write means; negative: it is malformed. */
	int64_t (*decode)(uint64_t offset, uint32_t data);
	/* The data of vector 0. */
	uint32_t base;
	/* It looks at who writes: a vector of another requester's is refused. */
	bool checks_requester;
};

struct platform_kind {
	const char *name;
	const char *options; /* for people: "aw=39|48|57: address width (48)" */
	/* Those of its options that choose what others refine or add to: they are taken first,
	 * wherever they stand. NULL-terminated; may be NULL. */
	const char *const *bases;
	/* Defaults of the facts, before options. Regions and doorbells are copied. */
	struct uiommu_platform_facts facts;
	const struct irq_controller *controller;
	/* Take one option, changing platform->facts: 0, or -EINVAL with a reason in why. May be
	 * NULL. */
	int (*option)(struct uiommu_platform *platform, const char *key, const char *value,
		      char *why, size_t why_len);
	/* All options are known and go together: what follows from them. May be NULL. */
	void (*finish)(struct uiommu_platform *platform);
};

struct uiommu_platform {
	const struct platform_kind *kind;
	const struct irq_controller *controller;
	struct uiommu_platform_facts facts;
	struct uiommu_resv_region regions[PLATFORM_REGIONS];
	struct uiommu_doorbell doorbells[PLATFORM_DOORBELLS];
	struct platform_window {
		struct uiommu_platform *platform;
		unsigned doorbell;
	} window_ctx[PLATFORM_DOORBELLS];
	struct uiommu_doorbell_window windows[PLATFORM_DOORBELLS];
	char name[32];
	bool scalable; /* x86-vtd: in scalable mode */
	/* Doorbells of the user's own. */
	char doorbell_names[PLATFORM_DOORBELLS][UIOMMU_OWNER_MAX / 2];
	size_t own_doorbells;
	struct uiommu_doorbell doorbell_model; /* what they are like */
	/* What iommufd's GET_HW_INFO tells of the IOMMU's registers. */
	union {
		struct iommu_hw_info_vtd vtd;
		struct iommu_hw_info_arm_smmuv3 smmuv3;
		struct iommu_hw_info_amd amd;
	} info;
	struct irq_table irqs;
};

/* Tell iommufd of the platform's info, which is of this type and size. */
void platform_set_info(struct uiommu_platform *platform, uint32_t type, uint32_t size);

/* An option's value among words: its index, or -1 with a reason. */
int platform_word(const struct uiommu_platform *platform, const char *key, const char *value,
		  const char *const *words, char *why, size_t why_len);
/* Replace the doorbells, after an option chose others. */
void platform_set_doorbells(struct uiommu_platform *platform, const struct uiommu_doorbell *list,
			    size_t count);
/* Forget the regions of this type. */
void platform_drop_region(struct uiommu_platform *platform, enum uiommu_resv_type type);
/* One more region, in order. */
int platform_add_region(struct uiommu_platform *platform, struct uiommu_range range,
			enum uiommu_resv_type type, char *why, size_t why_len);
/* "FIRST-LAST", hexadecimal with 0x or decimal, both ends included. */
bool platform_parse_range(const char *text, struct uiommu_range *range);
/* A number from @least to @most; -EINVAL with a reason. */
int platform_number(const struct uiommu_platform *platform, const char *key, const char *value,
		    uint64_t least, uint64_t most, uint64_t *number, char *why, size_t why_len);
/* "KEY=VALUE should be RIGHT": -EINVAL. */
int platform_bad_value(const struct uiommu_platform *platform, const char *key, const char *value,
		       const char *right, char *why, size_t why_len);
/* The options that make a machine of the user's own (custom.c). 1: it is none of them. */
int platform_custom_option(struct uiommu_platform *platform, const char *key, const char *value,
			   char *why, size_t why_len);
/* When all options are known: do they go together? -EINVAL with a reason. */
int platform_check(const struct uiommu_platform *platform, char *why, size_t why_len);
int platform_unknown_option(const struct uiommu_platform *platform, const char *key, char *why,
			    size_t why_len);

/* x86 without interrupt remapping: MSIs in the local APIC's format (x86_apic.c). */
extern const struct irq_controller x86_apic;
#define X86_APIC_VECTORS (224 * 256)

/* Arm's, as QEMU's "virt" machine has them (arm_smmuv3.c). */
extern const struct irq_controller arm_its, arm_v2m;
#define ARM_ITS_EVENTS 65536
#define ARM_V2M_SPIS   64

extern const struct platform_kind platform_x86_vtd;
extern const struct platform_kind platform_x86_amd;
extern const struct platform_kind platform_arm_smmuv3;
extern const struct platform_kind platform_fsl_pamu;
extern const struct platform_kind platform_ppc_spapr;
extern const struct platform_kind platform_riscv;
extern const struct platform_kind platform_none;
extern const struct platform_kind platform_virtio;
extern const struct platform_kind platform_xen;

#endif
