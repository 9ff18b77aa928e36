/* SPDX-License-Identifier: MIT */
/*
 * Platform x86-amd: a PC with AMD-Vi, with interrupt remapping or without.
 *
 * AMD I/O Virtualization Technology (IOMMU) Specification, 48882, rev. 3.08: 2.2.5 "Interrupt
 * Remapping Tables": each device has a table of its own, and bits 10:0 of an MSI's data are the
 * index. 2.1.2 "IOMMU Logical Topology" and table 3, "Special Address Controls": the interrupt
 * range and HyperTransport's own range, 0xfd_0000_0000 to 0xff_ffff_ffff. Linux reserves both for
 * every device (drivers/iommu/amd: "msi" and "reserved") and enforces coherency.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform.h"

#define DOORBELL_FIRST UINT64_C(0xfee00000)
#define DOORBELL_LAST  UINT64_C(0xfeefffff)
#define INDEXES	       2048

static const struct uiommu_doorbell doorbells[] = {
	{.name = "interrupt remapping table",
	 .range = {DOORBELL_FIRST, DOORBELL_LAST},
	 .vectors = INDEXES,
	 .per_device = true},
};

static const struct uiommu_resv_region regions[] = {
	{.range = {DOORBELL_FIRST, DOORBELL_LAST}, .type = UIOMMU_RESV_MSI, .prot = UIOMMU_WRITE},
	{.range = {UINT64_C(0xfd00000000), UINT64_C(0xffffffffff)}, .type = UIOMMU_RESV_RESERVED},
};

static uint64_t amd_compose(uint32_t first, unsigned sub, bool consecutive, uint32_t *data)
{
	*data = first + sub;
	return 0;
}

static int64_t amd_decode(uint64_t offset, uint32_t data)
{
	return data < INDEXES ? (int64_t)data : -1;
}

static const struct irq_controller remapping = {
	.compose = amd_compose, .decode = amd_decode, .checks_requester = true};

static int amd_option(struct uiommu_platform *platform, const char *key, const char *value,
		      char *why, size_t why_len)
{
	static const char *const words[] = {"on", "off", NULL};
	int word;

	if (strcmp(key, "remap"))
		return platform_unknown_option(platform, key, why, why_len);
	word = platform_word(platform, key, value, words, why, why_len);
	if (word < 0)
		return -EINVAL;
	platform->facts.isolated_msi = !word;
	platform->controller = word ? &x86_apic : &remapping;
	platform->doorbells[0].vectors = word ? X86_APIC_VECTORS : INDEXES;
	platform->doorbells[0].per_device = !word;
	return 0;
}

/* The extended feature registers (3.4.1, MMIO offsets 0x30 and 0x1a0), as QEMU's model of the
 * hardware has them. */
static void amd_finish(struct uiommu_platform *platform)
{
	platform->info.amd = (struct iommu_hw_info_amd){.efr = 0x29d7};
	platform_set_info(platform, IOMMU_HW_INFO_TYPE_AMD, sizeof(platform->info.amd));
}

static const char *const bases[] = {"remap", NULL};

const struct platform_kind platform_x86_amd = {
	.name = "x86-amd",
	.bases = bases,
	.options = "remap=on|off: interrupt remapping (on)",
	.facts = {.name = "x86-amd",
		  .summary = "PC with AMD-Vi, with the HyperTransport hole",
		  .format = "amd-v1",
		  .width = 64,
		  .coherent = true,
		  .isolated_msi = true,
		  .unsafe_check = true,
		  .vfio_types = UIOMMU_VFIO_TYPE1,
		  .regions = regions,
		  .region_count = 2,
		  .doorbells = doorbells,
		  .doorbell_count = 1},
	.controller = &remapping,
	.option = amd_option,
	.finish = amd_finish,
};
