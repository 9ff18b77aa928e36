/* SPDX-License-Identifier: MIT */
/*
 * Platform none: a PC without an IOMMU. VFIO has its no-IOMMU mode (Linux drivers/vfio/group.c and
 * container.c, enable_unsafe_noiommu_mode): a device does DMA to any address, and there is nothing
 * to map. What devices call a physical address is an address of the program's own. Linux asks for
 * CAP_SYS_RAWIO; whether the programs of the simulated machine have it is an option, for what they
 * have on the real one says nothing about that.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform.h"

static const struct uiommu_doorbell doorbells[] = {
	{.name = "local APICs", .range = {0xfee00000, 0xfeefffff}, .vectors = X86_APIC_VECTORS},
};

static int none_option(struct uiommu_platform *platform, const char *key, const char *value,
		       char *why, size_t why_len)
{
	static const char *const words[] = {"no", "yes", NULL};
	int word;

	if (strcmp(key, "rawio"))
		return platform_unknown_option(platform, key, why, why_len);
	word = platform_word(platform, key, value, words, why, why_len);
	platform->facts.rawio = word == 1;
	return word < 0 ? -EINVAL : 0;
}

const struct platform_kind platform_none = {
	.name = "none",
	.options =
		"rawio=yes|no: programs have CAP_SYS_RAWIO, without which VFIO refuses them (no)",
	.facts = {.name = "none",
		  .summary = "PC without an IOMMU: VFIO's unsafe no-IOMMU mode",
		  .width = 64,
		  .vfio_types = UIOMMU_VFIO_NOIOMMU,
		  .vfio_modules = UIOMMU_VFIO_TYPE1,
		  .doorbells = doorbells,
		  .doorbell_count = 1},
	.controller = &x86_apic,
	.option = none_option,
};
