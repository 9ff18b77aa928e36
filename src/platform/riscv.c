/* SPDX-License-Identifier: MIT */
/*
 * Platform riscv: a RISC-V server with an IOMMU that translates by first-stage tables, and with the
 * Advanced Interrupt Architecture.
 *
 * RISC-V IOMMU Architecture Specification, version 1.0: 2.3 "Process to translate addresses of
 * MSIs": a device context names MSI page tables, whose entries lead to an interrupt file or to one
 * in memory, so each device can have interrupts of its own. RISC-V Advanced Interrupt Architecture,
 * chapter 3 "Incoming MSI Controller": an interrupt file is a page whose word at 0 (seteipnum_le)
 * takes the interrupt's identity, up to 2047; 0 is none. The page's address is that of QEMU's
 * "virt" machine. The window in which its IOVA is placed is Arm's: Linux has one number for
 * software MSIs.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform.h"

#define INTERRUPT_FILE UINT64_C(0x28000000)
/* The lowest identities stay with the host; the rest are aligned for plain MSI. */
#define FIRST_IDENTITY 64
#define IDENTITIES     (2048 - FIRST_IDENTITY)

static const struct uiommu_doorbell doorbells[] = {
	{.name = "IMSIC interrupt file",
	 .range = {INTERRUPT_FILE, INTERRUPT_FILE + 4095},
	 .translated = true,
	 .vectors = IDENTITIES,
	 .per_device = true},
};

static const struct uiommu_resv_region regions[] = {
	{.range = {0x08000000, 0x080fffff}, .type = UIOMMU_RESV_SW_MSI, .prot = UIOMMU_WRITE},
};

static uint64_t imsic_compose(uint32_t first, unsigned sub, bool consecutive, uint32_t *data)
{
	*data = FIRST_IDENTITY + first + sub;
	return 0;
}

static int64_t imsic_decode(uint64_t offset, uint32_t data)
{
	return offset ? -1 : (int64_t)data - FIRST_IDENTITY;
}

static const struct irq_controller imsic = {
	.compose = imsic_compose, .decode = imsic_decode, .checks_requester = true};

static int riscv_option(struct uiommu_platform *platform, const char *key, const char *value,
			char *why, size_t why_len)
{
	static const char *const modes[] = {"sv39", "sv48", "sv57", NULL};
	static const unsigned widths[] = {39, 48, 57};
	int word;

	if (strcmp(key, "mode"))
		return platform_unknown_option(platform, key, why, why_len);
	word = platform_word(platform, key, value, modes, why, why_len);
	if (word >= 0)
		platform->facts.width = widths[word];
	return word < 0 ? -EINVAL : 0;
}

static const char *const bases[] = {"mode", NULL};

const struct platform_kind platform_riscv = {
	.name = "riscv",
	.bases = bases,
	.options = "mode=sv39|sv48|sv57: of the tables (sv48)",
	.facts = {.name = "riscv",
		  .summary = "RISC-V server with an IOMMU and IMSIC doorbells",
		  .format = "riscv",
		  .width = 48,
		  .isolated_msi = true,
		  .unsafe_check = true,
		  .vfio_types = UIOMMU_VFIO_TYPE1,
		  .regions = regions,
		  .region_count = 1,
		  .doorbells = doorbells,
		  .doorbell_count = 1},
	.controller = &imsic,
	.option = riscv_option,
};
