/* SPDX-License-Identifier: MIT */
/*
 * Platform fsl-pamu: a Freescale QorIQ P4080 with its Peripheral Access Management Unit.
 *
 * Linux 3.12 to 5.12, drivers/iommu/fsl_pamu*.c: 36 bits, one aperture of at most 256 windows, a
 * violation disables the device. arch/powerpc/boot/dts/fsl/qoriq-mpic.dtsi and qoriq-mpic4.3.dtsi:
 * the MSI banks of the interrupt controller, each with its MSIIR at 0x140 of a page of its own
 * behind the configuration registers at 0xf_fe00_0000; a write of srs << 5 | ibs raises bit ibs of
 * register srs, one of 8. The 4.3 controller has four banks of 16 registers, whose MSIIR1 at 0x148
 * takes ibs << 4 | srs. The page alone keeps banks apart: within one, any device that reaches it
 * can raise any interrupt, and VFIO for PAMU did not ask for isolation.
 *
 * The number of VFIO_FSL_PAMU_IOMMU was 2 in Freescale's kernel 3.8 and 7 in later ones. Both were
 * given to sPAPR in mainline; 7 (VFIO_SPAPR_TCE_v2_IOMMU) is what DPDK asks for on any machine, to
 * find out that it is on POWER. So 2 is the default, and 7 on request.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform.h"

#define BANK_PAGE(n) (UINT64_C(0xffe044000) + (n)*UINT64_C(0x1000))
#define MSIIR	     0x140
#define MSIIR1	     0x148

#define BANK(n, count)                                                                 \
	{                                                                              \
		.name = "MSI bank " #n, .range = {BANK_PAGE(n), BANK_PAGE(n) + 0xfff}, \
		.translated = true, .vectors = count                                   \
	}

static const struct uiommu_doorbell banks[] = {BANK(0, 256), BANK(1, 256), BANK(2, 256)};
static const struct uiommu_doorbell banks43[] = {BANK(0, 512), BANK(1, 512), BANK(2, 512),
						 BANK(3, 512)};

/* The data is the number of the vector in both formats: they only differ in what its bits mean. */
static uint64_t msiir_compose(uint32_t first, unsigned sub, bool consecutive, uint32_t *data)
{
	*data = first + sub;
	return MSIIR;
}

static int64_t msiir_decode(uint64_t offset, uint32_t data)
{
	return offset == MSIIR ? (int64_t)data : -1;
}

static uint64_t msiir1_compose(uint32_t first, unsigned sub, bool consecutive, uint32_t *data)
{
	*data = first + sub;
	return MSIIR1;
}

static int64_t msiir1_decode(uint64_t offset, uint32_t data)
{
	return offset == MSIIR1 ? (int64_t)data : -1;
}

static const struct irq_controller mpic = {.compose = msiir_compose, .decode = msiir_decode};
static const struct irq_controller mpic43 = {.compose = msiir1_compose, .decode = msiir1_decode};

static int pamu_option(struct uiommu_platform *platform, const char *key, const char *value,
		       char *why, size_t why_len)
{
	static const char *const counts[] = {"3", "4", NULL};
	static const char *const types[] = {"2", "7", NULL};
	static const char *const ways[] = {"implicit", "explicit", "mmap", "rounded", NULL};
	struct uiommu_pamu_facts *pamu = &platform->facts.pamu;
	int word;

	if (!strcmp(key, "banks")) {
		word = platform_word(platform, key, value, counts, why, why_len);
		pamu->banks = word == 1 ? 4 : 3;
		platform->controller = word == 1 ? &mpic43 : &mpic;
		platform_set_doorbells(platform, word == 1 ? banks43 : banks, pamu->banks);
		return word < 0 ? -EINVAL : 0;
	}
	if (!strcmp(key, "type")) {
		word = platform_word(platform, key, value, types, why, why_len);
		pamu->type = word == 1 ? 7 : 2;
		return word < 0 ? -EINVAL : 0;
	}
	if (!strcmp(key, "windows")) {
		uint64_t count = 0;
		int ret = platform_number(platform, key, value, 1, 256, &count, why, why_len);

		if (!ret && (count & (count - 1)))
			ret = platform_bad_value(platform, key, value, "a power of two", why,
						 why_len);
		pamu->windows = (unsigned)count;
		return ret;
	}
	if (strcmp(key, "msi"))
		return platform_unknown_option(platform, key, why, why_len);
	word = platform_word(platform, key, value, ways, why, why_len);
	if (word >= 0)
		pamu->msi = (enum uiommu_pamu_msi)word;
	return word < 0 ? -EINVAL : 0;
}

static const char *const bases[] = {"banks", NULL};

const struct platform_kind platform_fsl_pamu = {
	.name = "fsl-pamu",
	.bases = bases,
	.options =
		"banks=3|4: MSI banks (3); msi=implicit|explicit|mmap|rounded: how they get into "
		"the aperture (implicit); type=2|7: number of VFIO_FSL_PAMU_IOMMU (2); "
		"windows=1-256: most windows of an aperture (256)",
	.facts = {.name = "fsl-pamu",
		  .summary = "Freescale P4080 with PAMU: one aperture, up to 256 windows",
		  .format = "pamu",
		  .width = 36,
		  .cut_off = true,
		  .vfio_types = UIOMMU_VFIO_PAMU,
		  .doorbells = banks,
		  .doorbell_count = 3,
		  .pamu = {.windows = 256, .banks = 3, .type = 2, .msi = UIOMMU_PAMU_IMPLICIT}},
	.controller = &mpic,
	.option = pamu_option,
};
