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

#define DOORBELL_FIRST	 UINT64_C(0xfee00000)
#define DOORBELL_LAST	 UINT64_C(0xfeefffff)
#define FIRST_STAGE_LAST UINT64_C(0x7fffffffffff)

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
	if (!strcmp(key, "mode")) {
		static const char *const words[] = {"legacy", "scalable", "first-stage", NULL};
		int word = platform_word(platform, key, value, words, why, why_len);

		platform->scalable = word > 0;
		platform->facts.format = word == 2 ? "vtd-fs" : "vtd-ss";
		/* The first stage is a process's: the lower half of its addresses. */
		if (word == 2)
			platform->facts.aperture = (struct uiommu_range){0, FIRST_STAGE_LAST};
		return word < 0 ? -EINVAL : 0;
	}
	return platform_unknown_option(platform, key, why, why_len);
}

/*
 * The capability registers, 11.4.2 and 11.4.3 of the specification, as QEMU's model of the hardware
 * has them: 3, 4 and 5 levels as wide as needed, the width, 2 MiB and 1 GiB pages, fault recording;
 * queued invalidation, interrupt remapping, pass-through. Scalable mode adds itself and the stages
 * that there are, nesting both and that they nest. The flag is Linux' word that a parent of
 * nested tables must not have read-only mappings, which it says of all hardware.
 */
#define CAP	      UINT64_C(0x80d2008c22000006)
#define CAP_FIRST_1G  (UINT64_C(1) << 56)
#define CAP_WIDTH(n)  ((uint64_t)((n)-1) << 16)
#define CAP_LEVELS_3  UINT64_C(0x200)
#define CAP_LEVELS_4  UINT64_C(0x400)
#define CAP_LEVELS_5  UINT64_C(0x800)
#define ECAP	      UINT64_C(0x0000000000f00f4a)
#define ECAP_SNOOP    (UINT64_C(1) << 7)
#define ECAP_NEST     (UINT64_C(1) << 26)
#define ECAP_SCALABLE (UINT64_C(1) << 43)
#define ECAP_SECOND   (UINT64_C(1) << 46 | UINT64_C(1) << 31)
#define ECAP_FIRST    (UINT64_C(1) << 47)

static void vtd_finish(struct uiommu_platform *platform)
{
	unsigned width = platform->facts.width;
	bool first = !strcmp(platform->facts.format, "vtd-fs");
	bool nesting = platform->facts.iommufd.nesting;
	bool scalable = platform->scalable || nesting;

	platform->info.vtd = (struct iommu_hw_info_vtd){
		.flags = IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17,
		.cap_reg = CAP | CAP_WIDTH(width) | CAP_LEVELS_3 |
			   (width >= 48 ? CAP_LEVELS_4 : 0) | (width >= 57 ? CAP_LEVELS_5 : 0) |
			   (first || nesting ? CAP_FIRST_1G : 0),
		.ecap_reg = ECAP | (scalable ? ECAP_SCALABLE : 0) |
			    (scalable && (!first || nesting) ? ECAP_SECOND : 0) |
			    (platform->facts.coherent ? ECAP_SNOOP : 0) |
			    (first || nesting ? ECAP_FIRST : 0) | (nesting ? ECAP_NEST : 0),
	};
	platform_set_info(platform, IOMMU_HW_INFO_TYPE_INTEL_VTD, sizeof(platform->info.vtd));
}

static const char *const bases[] = {"aw", "mode", "remap", NULL};

const struct platform_kind platform_x86_vtd = {
	.name = "x86-vtd",
	.bases = bases,
	.options = "aw=39|48|57: address width (48); remap=on|off: interrupt remapping (on); "
		   "snoop=on|off: snoop control (off); "
		   "mode=legacy|scalable|first-stage: tables of the second stage, in scalable "
		   "mode, or of the first (legacy)",
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
	.finish = vtd_finish,
};
