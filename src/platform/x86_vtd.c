/* SPDX-License-Identifier: MIT */
/*
 * Platform x86-vtd: a PC with Intel VT-d, interrupt remapping on.
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

static const struct uiommu_resv_region regions[] = {
	{.range = {DOORBELL_FIRST, DOORBELL_LAST}, .type = UIOMMU_RESV_MSI, .prot = UIOMMU_WRITE},
};

static int vtd_option(struct uiommu_platform *platform, const char *key, const char *value,
		      char *why, size_t why_len)
{
	if (!strcmp(key, "aw")) {
		static const struct {
			const char *word;
			unsigned width;
		} widths[] = {{"39", 39}, {"48", 48}, {"57", 57}};

		for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
			if (!strcmp(widths[i].word, value)) {
				platform->facts.width = widths[i].width;
				return 0;
			}
		}
		snprintf(why, why_len, "platform x86-vtd: aw=%s should be 39, 48 or 57 (bits)",
			 value);
		return -EINVAL;
	}
	snprintf(why, why_len, "platform x86-vtd has no option '%s'; it has: aw=39|48|57", key);
	return -EINVAL;
}

static struct uiommu_msi_message vtd_compose(uint32_t first, unsigned sub, bool consecutive)
{
	uint32_t handle = consecutive ? first : first + sub;

	return (struct uiommu_msi_message){
		.address = DOORBELL_FIRST | (uint64_t)(handle & 0x7fff) << 5 | FORMAT_REMAPPABLE |
			   SHV | (handle & 0x8000 ? HANDLE_15 : 0),
		.data = consecutive ? sub : 0,
	};
}

static int64_t vtd_decode(uint64_t address, uint32_t data)
{
	uint32_t handle = ((address >> 5) & 0x7fff) | (address & HANDLE_15 ? 0x8000 : 0);

	/* Compatibility-format requests are blocked, and reserved data bits must be zero. */
	if (!(address & FORMAT_REMAPPABLE) || data > 0xffff)
		return -1;
	return handle + (address & SHV ? data : 0);
}

const struct platform_kind platform_x86_vtd = {
	.name = "x86-vtd",
	.summary = "PC with Intel VT-d and interrupt remapping; aw=39|48|57: address width (48)",
	.facts = {.name = "x86-vtd",
		  .summary = "PC with Intel VT-d and interrupt remapping",
		  .format = "vtd-ss",
		  .width = 48,
		  .coherent = false,
		  .isolated_msi = true,
		  .regions = regions,
		  .region_count = 1},
	.option = vtd_option,
	.compose = vtd_compose,
	.decode = vtd_decode,
	.doorbell = {DOORBELL_FIRST, DOORBELL_LAST},
};
