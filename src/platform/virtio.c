/* SPDX-License-Identifier: MIT */
/*
 * Platform virtio: a virtual machine whose host translates for it, behind a virtio-iommu.
 *
 * Virtual I/O Device (VIRTIO) Version 1.3, 5.13: the driver sends ranges, so there are no tables of
 * the guest's and every page size will do; an endpoint's PROBE property says where its doorbell is,
 * which is not translated. Linux' driver (drivers/iommu/virtio-iommu.c) tells programs of all page
 * sizes from the smallest on. Doorbells and widths are those of QEMU's machines "q35" and "virt".
 * The tables that the host has in the device's place are AMD's first format, which has all sizes up
 * to 2^64.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform.h"

#define APIC_FIRST UINT64_C(0xfee00000)
#define APIC_LAST  UINT64_C(0xfeefffff)
#define ITS_FIRST  UINT64_C(0x08090000)
#define ITS_LAST   UINT64_C(0x0809ffff)
#define V2M_FIRST  UINT64_C(0x08020000)
#define V2M_LAST   UINT64_C(0x08020fff)

static const struct uiommu_doorbell apics[] = {
	{.name = "local APICs", .range = {APIC_FIRST, APIC_LAST}, .vectors = X86_APIC_VECTORS},
};
static const struct uiommu_doorbell its[] = {
	{.name = "GICv3 ITS",
	 .range = {ITS_FIRST, ITS_LAST},
	 .vectors = ARM_ITS_EVENTS,
	 .per_device = true},
};
static const struct uiommu_doorbell v2m[] = {
	{.name = "GICv2m frame", .range = {V2M_FIRST, V2M_LAST}, .vectors = ARM_V2M_SPIS},
};

static const struct uiommu_resv_region regions[] = {
	{.range = {APIC_FIRST, APIC_LAST}, .type = UIOMMU_RESV_MSI, .prot = UIOMMU_WRITE},
};

static int virtio_option(struct uiommu_platform *platform, const char *key, const char *value,
			 char *why, size_t why_len)
{
	static const char *const words[] = {"apic", "its", "v2m", NULL};
	static const struct {
		const struct irq_controller *controller;
		const struct uiommu_doorbell *doorbells;
	} kinds[] = {{&x86_apic, apics}, {&arm_its, its}, {&arm_v2m, v2m}};
	int word;

	if (strcmp(key, "msi"))
		return platform_unknown_option(platform, key, why, why_len);
	word = platform_word(platform, key, value, words, why, why_len);
	if (word < 0)
		return -EINVAL;
	platform->controller = kinds[word].controller;
	platform_set_doorbells(platform, kinds[word].doorbells, 1);
	platform_drop_region(platform, UIOMMU_RESV_MSI);
	platform->facts.isolated_msi = word == 1;
	platform->facts.fixed_msix = word > 0;
	platform->facts.width = word ? 48 : 39;
	return platform_add_region(platform, kinds[word].doorbells[0].range, UIOMMU_RESV_MSI, why,
				   why_len);
}

static const char *const bases[] = {"msi", NULL};

const struct platform_kind platform_virtio = {
	.name = "virtio",
	.bases = bases,
	.options = "msi=apic|its|v2m: a PC's interrupts, not remapped, or Arm's GICv3 ITS or "
		   "GICv2m (apic)",
	.facts = {.name = "virtio",
		  .summary = "virtual machine behind a virtio-iommu",
		  .format = "amd-v1",
		  .width = 39,
		  .any_page = true,
		  .unsafe_check = true,
		  .vfio_types = UIOMMU_VFIO_TYPE1,
		  .regions = regions,
		  .region_count = 1,
		  .doorbells = apics,
		  .doorbell_count = 1},
	.controller = &x86_apic,
	.option = virtio_option,
};
