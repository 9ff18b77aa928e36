/* SPDX-License-Identifier: MIT */
/*
 * Platform none: a PC without an IOMMU. VFIO has its no-IOMMU mode (Linux drivers/vfio/group.c and
 * container.c, enable_unsafe_noiommu_mode): a device does DMA to any address, and there is nothing
 * to map. What devices call a physical address is an address of the program's own.
 */
#include "platform/platform.h"

static const struct uiommu_doorbell doorbells[] = {
	{.name = "local APICs", .range = {0xfee00000, 0xfeefffff}, .vectors = X86_APIC_VECTORS},
};

const struct platform_kind platform_none = {
	.name = "none",
	.facts = {.name = "none",
		  .summary = "PC without an IOMMU: VFIO's unsafe no-IOMMU mode",
		  .width = 64,
		  .vfio_types = UIOMMU_VFIO_NOIOMMU,
		  .doorbells = doorbells,
		  .doorbell_count = 1},
	.controller = &x86_apic,
};
