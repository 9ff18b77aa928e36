/* SPDX-License-Identifier: MIT */
/*
 * Platform ppc-spapr: an IBM POWER machine, as a guest (pseries) or on its own (powernv).
 *
 * Linux Documentation/driver-api/vfio.rst, "PPC64 sPAPR implementation note", and
 * drivers/vfio/vfio_iommu_spapr_tce.c: a default window of 32-bit addresses and one dynamic window
 * at 2^59. Figures are what Linux 7.2 answers on QEMU's pseries and powernv9 machines. MSIs are
 * decoded by the host bridge before translation: pseries has a page of them at 0x400_0000_0000
 * (QEMU's sPAPR PHB), powernv's PHB4 the space with address bit 60 set. Either way the write's data
 * is the number of the interrupt source. VFIO asks for no isolation here.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform.h"
#include "util/range.h"

#define SOURCES 4096

static const struct uiommu_doorbell pseries_msi[] = {
	{.name = "host bridge MSI window",
	 .range = {UINT64_C(0x40000000000), UINT64_C(0x4000000ffff)},
	 .vectors = SOURCES},
};

static const struct uiommu_doorbell powernv_msi[] = {
	{.name = "host bridge MSI window",
	 .range = {UINT64_C(0x1000000000000000), UINT64_C(0x100000000000ffff)},
	 .vectors = SOURCES},
};

static uint64_t phb_compose(uint32_t first, unsigned sub, bool consecutive, uint32_t *data)
{
	*data = first + sub;
	return 0;
}

static int64_t phb_decode(uint64_t offset, uint32_t data)
{
	return offset ? -1 : (int64_t)data;
}

static const struct irq_controller phb = {.compose = phb_compose, .decode = phb_decode};

static const struct uiommu_spapr_facts pseries = {
	.window32 = {0, 0x3fffffff},
	.window64 = UINT64_C(1) << 59,
	.page_sizes = 0x1211000,
	.windows = 2,
	.levels = 1,
};

static const struct uiommu_spapr_facts powernv = {
	.window32 = {0, 0x7fffffff},
	.window64 = UINT64_C(1) << 59,
	.page_sizes = 0x40211000,
	.windows = 2,
	.levels = 5,
	.recreate = true,
};

/* The default window: its table has a power of two of entries. */
static int window32_option(struct uiommu_platform *platform, const char *value, char *why,
			   size_t why_len)
{
	struct uiommu_range *window = &platform->facts.spapr.window32;

	if (!platform_parse_range(value, window) || window->last > UINT32_MAX ||
	    ((window->first | (window->last + 1)) & 4095) ||
	    ((window->last - window->first) & (window->last - window->first + 1)))
		return platform_bad_value(platform, "window32", value,
					  "FIRST-LAST, a power of two of pages below 4 GiB", why,
					  why_len);
	return 0;
}

/* Where the dynamic window starts: above 4 GiB, so that it can't hit the default one. */
static int window64_option(struct uiommu_platform *platform, const char *value, char *why,
			   size_t why_len)
{
	uint64_t *start = &platform->facts.spapr.window64;
	int ret = platform_number(platform, "window64", value, UINT64_C(1) << 32, UINT64_MAX, start,
				  why, why_len);

	if (!ret && !is_pow2(*start))
		ret = platform_bad_value(platform, "window64", value, "a power of two", why,
					 why_len);
	return ret;
}

static int spapr_option(struct uiommu_platform *platform, const char *key, const char *value,
			char *why, size_t why_len)
{
	static const char *const flavours[] = {"pseries", "powernv", NULL};
	int word;

	if (!strcmp(key, "window32"))
		return window32_option(platform, value, why, why_len);
	if (!strcmp(key, "window64"))
		return window64_option(platform, value, why, why_len);
	if (!strcmp(key, "windows")) {
		uint64_t count = 0;
		int ret = platform_number(platform, key, value, 1, 2, &count, why, why_len);

		platform->facts.spapr.windows = (unsigned)count;
		return ret;
	}
	if (strcmp(key, "flavour"))
		return platform_unknown_option(platform, key, why, why_len);
	word = platform_word(platform, key, value, flavours, why, why_len);
	platform->facts.spapr = word == 1 ? powernv : pseries;
	platform->facts.format = word == 1 ? "powernv-tce" : "spapr-tce";
	platform_set_doorbells(platform, word == 1 ? powernv_msi : pseries_msi, 1);
	return word < 0 ? -EINVAL : 0;
}

static const char *const bases[] = {"flavour", NULL};

const struct platform_kind platform_ppc_spapr = {
	.name = "ppc-spapr",
	.bases = bases,
	.options = "flavour=pseries|powernv: a guest or the machine itself (pseries); "
		   "window32=FIRST-LAST: the default window; window64=START: of the dynamic one; "
		   "windows=1|2: most at once (2)",
	.facts = {.name = "ppc-spapr",
		  .summary = "IBM POWER with TCE tables: a default window and a dynamic one",
		  .format = "spapr-tce",
		  .width = 64,
		  .vfio_types = UIOMMU_VFIO_SPAPR,
		  .doorbells = pseries_msi,
		  .doorbell_count = 1,
		  .spapr = {.window32 = {0, 0x3fffffff},
			    .window64 = UINT64_C(1) << 59,
			    .page_sizes = 0x1211000,
			    .windows = 2,
			    .levels = 1}},
	.controller = &phb,
	.option = spapr_option,
};
