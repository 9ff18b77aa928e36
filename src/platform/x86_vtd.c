/* SPDX-License-Identifier: MIT */
/*
 * Platform x86-vtd: a PC with Intel VT-d, with interrupt remapping or without.
 *
 * Intel Virtualization Technology for Directed I/O, architecture specification, rev. 4.1:
 * "Handling Requests to Interrupt Address Range" in chapter 3: writes to 0xfee00000-0xfeefffff are
 * interrupts and are never translated; 5.1.2.2 "Interrupt Requests in Remappable Format": address
 * bits 19:5 handle[14:0], 4 format (1), 3 SHV, 2 handle[15]; data bits 15:0 subhandle if SHV.
 * Linux reserves the same range for every device (drivers/iommu/intel, type "msi").
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "platform/platform.h"

#define DOORBELL_FIRST UINT64_C(0xfee00000)
#define DOORBELL_LAST  UINT64_C(0xfeefffff)

#define FORMAT_REMAPPABLE (1u << 4)
#define SHV		  (1u << 3)
#define HANDLE_15	  (1u << 2)

static const struct uiommu_doorbell doorbells[] = {
	{.name = "interrupt remapping table",
	 .range = {DOORBELL_FIRST, DOORBELL_LAST},
	 .vectors = 65536},
};

static const struct uiommu_resv_region regions[] = {
	{.range = {DOORBELL_FIRST, DOORBELL_LAST}, .type = UIOMMU_RESV_MSI, .prot = UIOMMU_WRITE},
};

static uint64_t vtd_compose(uint32_t first, unsigned sub, bool consecutive, uint32_t *data)
{
	uint32_t handle = consecutive ? first : first + sub;

	*data = consecutive ? sub : 0;
	return (handle & 0x7fff) << 5 | FORMAT_REMAPPABLE | SHV | (handle & 0x8000 ? HANDLE_15 : 0);
}

static int64_t vtd_decode(uint64_t offset, uint32_t data)
{
	uint32_t handle = ((offset >> 5) & 0x7fff) | (offset & HANDLE_15 ? 0x8000 : 0);

	/* Compatibility-format requests are blocked, and reserved data bits must be zero. */
	if (!(offset & FORMAT_REMAPPABLE) || data > 0xffff)
		return -1;
	return handle + (offset & SHV ? data : 0);
}

static const struct irq_controller remapping = {
	.compose = vtd_compose, .decode = vtd_decode, .checks_requester = true};

static int vtd_option(struct uiommu_platform *platform, const char *key, const char *value,
		      char *why, size_t why_len)
{
	if (!strcmp(key, "aw")) {
		static const char *const words[] = {"39", "48", "57", NULL};
		static const unsigned widths[] = {39, 48, 57};
		int word = platform_word(platform, key, value, words, why, why_len);

		if (word >= 0)
			platform->facts.width = widths[word];
		return word < 0 ? -EINVAL : 0;
	}
	if (!strcmp(key, "snoop")) {
		static const char *const words[] = {"off", "on", NULL};
		int word = platform_word(platform, key, value, words, why, why_len);

		platform->facts.coherent = word > 0;
		return word < 0 ? -EINVAL : 0;
	}
	if (!strcmp(key, "remap")) {
		static const char *const words[] = {"on", "off", NULL};
		int word = platform_word(platform, key, value, words, why, why_len);

		if (word < 0)
			return -EINVAL;
		platform->facts.isolated_msi = !word;
		platform->controller = word ? &x86_apic : &remapping;
		platform->doorbells[0].vectors = word ? X86_APIC_VECTORS : 65536;
		return 0;
	}
	return platform_unknown_option(platform, key, why, why_len);
}

const struct platform_kind platform_x86_vtd = {
	.name = "x86-vtd",
	.options = "aw=39|48|57: address width (48); remap=on|off: interrupt remapping (on); "
		   "snoop=on|off: snoop control (off)",
	.facts = {.name = "x86-vtd",
		  .summary = "PC with Intel VT-d",
		  .format = "vtd-ss",
		  .width = 48,
		  .isolated_msi = true,
		  .unsafe_check = true,
		  .vfio_types = UIOMMU_VFIO_TYPE1,
		  .regions = regions,
		  .region_count = 1,
		  .doorbells = doorbells,
		  .doorbell_count = 1},
	.controller = &remapping,
	.option = vtd_option,
};
