/* SPDX-License-Identifier: MIT */
/*
 * Platform xen: domain 0 of a Xen host with VT-d. The IOMMU is the hypervisor's: Linux in domain 0
 * sees none, makes no groups, and has VFIO in no-IOMMU mode; what its devices reach is decided by
 * hypercalls (doc/xen.md). MSIs go to the local APICs: interrupt remapping is the hypervisor's too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/platform.h"

#define DOORBELL_FIRST UINT64_C(0xfee00000)
#define DOORBELL_LAST  UINT64_C(0xfeefffff)
#define RAM_UNIT       (UINT64_C(1) << 21)
#define RAM_MOST       (UINT64_C(1) << 40)
/* Where XenServer maps the host's frames: behind 248 GiB of domain 0's own. */
#define PREMAP (UINT64_C(248) << 18)

static const struct uiommu_doorbell doorbells[] = {
	{.name = "local APICs",
	 .range = {DOORBELL_FIRST, DOORBELL_LAST},
	 .vectors = X86_APIC_VECTORS},
};

static const struct uiommu_resv_region regions[] = {
	{.range = {DOORBELL_FIRST, DOORBELL_LAST}, .type = UIOMMU_RESV_MSI, .prot = UIOMMU_WRITE},
};

/* A number with k, M or G behind it. */
static int size_option(const struct uiommu_platform *platform, const char *key, const char *value,
		       uint64_t least, uint64_t *size, char *why, size_t why_len)
{
	static const char units[] = "kMG";
	char *end;
	unsigned long long n = strtoull(value, &end, 0);
	const char *unit = *end ? strchr(units, *end) : NULL;
	unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;

	if (end == value || *value == '-' || (*end && (!unit || end[1])) || n > RAM_MOST >> shift ||
	    (n << shift) % RAM_UNIT || n << shift < least) {
		snprintf(why, why_len,
			 "platform %s: %s=%s should be a multiple of 2M up to 1024G, e.g. 4G",
			 platform->facts.name, key, value);
		return -EINVAL;
	}
	*size = (uint64_t)n << shift;
	return 0;
}

static int number_option(const struct uiommu_platform *platform, const char *key, const char *value,
			 uint64_t most, uint64_t *number, char *why, size_t why_len)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = strtoull(value, &end, 0);
	if (errno || end == value || *end || *value == '-' || n > most) {
		snprintf(why, why_len, "platform %s: %s=%s should be a number up to %llu",
			 platform->facts.name, key, value, (unsigned long long)most);
		return -EINVAL;
	}
	*number = n;
	return 0;
}

static int xen_option(struct uiommu_platform *platform, const char *key, const char *value,
		      char *why, size_t why_len)
{
	static const char *const words[] = {"off", "draft2014", "xenserver", "2025", NULL};
	struct uiommu_xen_facts *xen = &platform->facts.xen;
	uint64_t number;
	int ret;

	if (!strcmp(key, "pv")) {
		ret = platform_word(platform, key, value, words, why, why_len);
		if (ret >= 0)
			xen->pv = (enum uiommu_xen_pv)ret;
		return ret < 0 ? -EINVAL : 0;
	}
	if (!strcmp(key, "dom0"))
		return size_option(platform, key, value, RAM_UNIT, &xen->dom0, why, why_len);
	if (!strcmp(key, "guest"))
		return size_option(platform, key, value, 0, &xen->guest, why, why_len);
	if (!strcmp(key, "premap"))
		return number_option(platform, key, value, UINT64_C(1) << 35, &xen->premap, why,
				     why_len);
	if (!strcmp(key, "preempt")) {
		ret = number_option(platform, key, value, UINT32_MAX, &number, why, why_len);
		if (!ret)
			xen->preempt = (uint32_t)number;
		return ret;
	}
	return platform_unknown_option(platform, key, why, why_len);
}

const struct platform_kind platform_xen = {
	.name = "xen",
	.options =
		"pv=draft2014|xenserver|2025|off: which paravirtual IOMMU interface (draft2014); "
		"dom0=SIZE: domain 0's RAM (1G); guest=SIZE: domain 1's RAM (0: no such domain); "
		"preempt=N: hypercalls are preempted after N operations (0: never); "
		"premap=FRAME: where XenServer maps all machine frames (0x3e00000; 0: nowhere)",
	.facts = {.name = "xen",
		  .summary = "domain 0 of a Xen host, with a paravirtual IOMMU behind privcmd",
		  .format = "vtd-ss",
		  .width = 48,
		  .rawio = true,
		  .vfio_types = UIOMMU_VFIO_NOIOMMU,
		  .vfio_modules = UIOMMU_VFIO_TYPE1,
		  .regions = regions,
		  .region_count = 1,
		  .doorbells = doorbells,
		  .doorbell_count = 1,
		  .xen = {.there = true,
			  .pv = UIOMMU_XEN_PV_DRAFT2014,
			  .dom0 = UINT64_C(1) << 30,
			  .premap = PREMAP}},
	.controller = &x86_apic,
	.option = xen_option,
};
