/* SPDX-License-Identifier: MIT */
/*
 * Platform arm-smmuv3: an Arm server with an SMMUv3, and a GICv3 with an ITS or GICv2m frames.
 *
 * Arm System Memory Management Unit Architecture Specification, SMMU architecture version 3: MSIs
 * are ordinary writes and are translated. Arm Generic Interrupt Controller Architecture
 * Specification, GIC architecture version 3 and 4: GITS_TRANSLATER, at 0x40 of an ITS's second
 * 64 KiB frame, takes the EventID; who writes gives the DeviceID, so each device has a table of its
 * own. GICv2m (Arm Server Base System Architecture, appendix E): MSI_SETSPI_NS at 0x40 takes the
 * number of an SPI, from anyone. Addresses and SPIs are those of QEMU's "virt" machine.
 *
 * Linux gives every device the region 0x08000000 to 0x080fffff of type sw-msi, in which it maps the
 * doorbells that are needed (drivers/iommu/dma-iommu.c, iommu_dma_sw_msi()). The series that led
 * there let the program choose that range ("KVM PCIe/MSI passthrough on ARM/ARM64", 2016): that is
 * what place=program stands for.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform.h"

#define ITS_FRAME	UINT64_C(0x08090000)
#define ITS_FRAME_SIZE	UINT64_C(0x10000)
#define V2M_FRAME	UINT64_C(0x08020000)
#define V2M_FRAME_SIZE	UINT64_C(0x1000)
#define DOORBELL_OFFSET 0x40
#define FIRST_SPI	80

static const struct uiommu_doorbell its[] = {
	{.name = "GICv3 ITS",
	 .range = {ITS_FRAME, ITS_FRAME + ITS_FRAME_SIZE - 1},
	 .translated = true,
	 .vectors = ARM_ITS_EVENTS,
	 .per_device = true},
};

static const struct uiommu_doorbell v2m[] = {
	{.name = "GICv2m frame",
	 .range = {V2M_FRAME, V2M_FRAME + V2M_FRAME_SIZE - 1},
	 .translated = true,
	 .vectors = ARM_V2M_SPIS},
};

static const struct uiommu_resv_region regions[] = {
	{.range = {0x08000000, 0x080fffff}, .type = UIOMMU_RESV_SW_MSI, .prot = UIOMMU_WRITE},
};

static uint64_t its_compose(uint32_t first, unsigned sub, bool consecutive, uint32_t *data)
{
	*data = first + sub;
	return DOORBELL_OFFSET;
}

static int64_t its_decode(uint64_t offset, uint32_t data)
{
	return offset == DOORBELL_OFFSET ? (int64_t)data : -1;
}

static uint64_t v2m_compose(uint32_t first, unsigned sub, bool consecutive, uint32_t *data)
{
	*data = FIRST_SPI + first + sub;
	return DOORBELL_OFFSET;
}

static int64_t v2m_decode(uint64_t offset, uint32_t data)
{
	return offset == DOORBELL_OFFSET ? (int64_t)data - FIRST_SPI : -1;
}

const struct irq_controller arm_its = {
	.compose = its_compose, .decode = its_decode, .checks_requester = true};
const struct irq_controller arm_v2m = {
	.compose = v2m_compose, .decode = v2m_decode, .base = FIRST_SPI};

static int smmu_option(struct uiommu_platform *platform, const char *key, const char *value,
		       char *why, size_t why_len)
{
	static const char *const stages[] = {"1", "2", NULL};
	static const char *const controllers[] = {"its", "v2m", NULL};
	static const char *const places[] = {"kernel", "program", NULL};
	int word;

	if (!strcmp(key, "stage")) {
		word = platform_word(platform, key, value, stages, why, why_len);
		platform->facts.format = word == 1 ? "arm-s2" : "arm-s1";
		platform->facts.width = word == 1 ? 44 : 48;
		return word < 0 ? -EINVAL : 0;
	}
	if (!strcmp(key, "msi")) {
		word = platform_word(platform, key, value, controllers, why, why_len);
		platform->controller = word == 1 ? &arm_v2m : &arm_its;
		platform->facts.isolated_msi = word != 1;
		platform_set_doorbells(platform, word == 1 ? v2m : its, 1);
		return word < 0 ? -EINVAL : 0;
	}
	if (strcmp(key, "place"))
		return platform_unknown_option(platform, key, why, why_len);
	word = platform_word(platform, key, value, places, why, why_len);
	platform->facts.program_msi = word == 1;
	if (word == 1)
		platform_drop_region(platform, UIOMMU_RESV_SW_MSI);
	return word < 0 ? -EINVAL : 0;
}

/* Identification registers (6.3 of the specification) as QEMU's model of the hardware has them;
 * some of their bits say which stages there are. */
#define IDR0_S2P (1u << 0)
#define IDR0_S1P (1u << 1)
#define IDR3_XNX (1u << 4)

static void smmu_finish(struct uiommu_platform *platform)
{
	bool stage2 = !strcmp(platform->facts.format, "arm-s2");
	bool nesting = platform->facts.iommufd.nesting;

	platform->info.smmuv3 = (struct iommu_hw_info_arm_smmuv3){
		.idr = {0x0d441018, 0x02730010, 0, 0x1404, 0, 0x74},
		.aidr = 1,
	};
	if (!stage2 || nesting)
		platform->info.smmuv3.idr[0] |= IDR0_S1P;
	if (stage2 || nesting) {
		platform->info.smmuv3.idr[0] |= IDR0_S2P;
		platform->info.smmuv3.idr[3] |= IDR3_XNX;
	}
	platform_set_info(platform, IOMMU_HW_INFO_TYPE_ARM_SMMUV3, sizeof(platform->info.smmuv3));
}

static const char *const bases[] = {"stage", "msi", "place", NULL};

const struct platform_kind platform_arm_smmuv3 = {
	.name = "arm-smmuv3",
	.bases = bases,
	.options = "stage=1|2: of translation (1); msi=its|v2m: GICv3 ITS or GICv2m (its); "
		   "place=kernel|program: who places doorbells (kernel)",
	.facts = {.name = "arm-smmuv3",
		  .summary = "Arm server with an SMMUv3 and translated MSI doorbells",
		  .format = "arm-s1",
		  .width = 48,
		  .page_sizes = 0x40201000,
		  .isolated_msi = true,
		  .unsafe_check = true,
		  .fixed_msix = true,
		  .vfio_types = UIOMMU_VFIO_TYPE1,
		  .regions = regions,
		  .region_count = 1,
		  .doorbells = its,
		  .doorbell_count = 1},
	.controller = &arm_its,
	.option = smmu_option,
	.finish = smmu_finish,
};
