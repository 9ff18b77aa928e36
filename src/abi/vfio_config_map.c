/* SPDX-License-Identifier: MIT */
/*
 * Which bits of configuration space the user may read from where and write to where: vfio-pci's
 * permission tables, laid out over one function's capabilities when it is opened.
 *
 * Capabilities that are not known are hidden: the one before points past them. Bytes that belong to
 * no capability are the hardware's, read and write, for some devices keep registers there. Nothing
 * here fails, and a chain that loops or points nowhere ends after as many steps as could fit.
 */
#include <string.h>

#include "abi/vfio_private.h"

#define VARIABLE 0xffff

/* Bits of a register: in virt, the user's own; in write, to be written. */
struct rule {
	uint16_t offset;
	uint8_t len;
	uint32_t virt, write;
};

static const struct rule header_rules[] = {
	{PCI_VENDOR_ID, 4, UINT32_MAX, 0},
	/* INTx disable is ours, to mask with; the rest is the hardware's. */
	{PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE, 0xffff},
	{PCI_STATUS, 2, PCI_STATUS_CAP_LIST, 0},
	{PCI_CACHE_LINE_SIZE, 1, 0, 0xff},
	{PCI_LATENCY_TIMER, 1, 0, 0xff},
	{PCI_BIST, 1, 0, 0xff},
	{PCI_BASE_ADDRESS_0, 4, UINT32_MAX, UINT32_MAX},
	{PCI_BASE_ADDRESS_1, 4, UINT32_MAX, UINT32_MAX},
	{PCI_BASE_ADDRESS_2, 4, UINT32_MAX, UINT32_MAX},
	{PCI_BASE_ADDRESS_3, 4, UINT32_MAX, UINT32_MAX},
	{PCI_BASE_ADDRESS_4, 4, UINT32_MAX, UINT32_MAX},
	{PCI_BASE_ADDRESS_5, 4, UINT32_MAX, UINT32_MAX},
	{PCI_ROM_ADDRESS, 4, UINT32_MAX, UINT32_MAX},
	{PCI_CAPABILITY_LIST, 1, 0xff, 0},
	{PCI_INTERRUPT_LINE, 1, 0xff, 0xff},
	{PCI_INTERRUPT_PIN, 1, 0xff, 0},
};

#define PM_EVENTS (PCI_PM_CTRL_PME_ENABLE | PCI_PM_CTRL_PME_STATUS)

static const struct rule pm_rules[] = {
	{PCI_PM_PMC, 2, PCI_PM_CAP_PME_MASK, 0},
	/* The power state is not written but acted upon. */
	{PCI_PM_CTRL, 4, PM_EVENTS, ~(uint32_t)(PM_EVENTS | PCI_PM_CTRL_STATE_MASK)},
};

static const struct rule express_rules[] = {
	{PCI_EXP_DEVCTL, 2, PCI_EXP_DEVCTL_BCR_FLR | PCI_EXP_DEVCTL_PAYLOAD | PCI_EXP_DEVCTL_READRQ,
	 0xffff & ~PCI_EXP_DEVCTL_PHANTOM},
	{PCI_EXP_DEVCTL2, 2, 0, 0xffff & ~PCI_EXP_DEVCTL2_ARI},
};

static const struct rule msi32_rules[] = {
	{PCI_MSI_FLAGS, 1, 0xff, 0xff},
	{PCI_MSI_ADDRESS_LO, 4, UINT32_MAX, UINT32_MAX},
	{PCI_MSI_DATA_32, 2, 0xffff, 0xffff},
	{PCI_MSI_MASK_32, 4, 0, UINT32_MAX}, /* only reached if the capability is so long */
	{PCI_MSI_PENDING_32, 4, 0, UINT32_MAX},
};

static const struct rule msi64_rules[] = {
	{PCI_MSI_FLAGS, 1, 0xff, 0xff},
	{PCI_MSI_ADDRESS_LO, 4, UINT32_MAX, UINT32_MAX},
	{PCI_MSI_ADDRESS_HI, 4, UINT32_MAX, UINT32_MAX},
	{PCI_MSI_DATA_64, 2, 0xffff, 0xffff},
	{PCI_MSI_MASK_64, 4, 0, UINT32_MAX},
	{PCI_MSI_PENDING_64, 4, 0, UINT32_MAX},
};

static const struct rule aer_rules[] = {
	{PCI_ERR_UNCOR_STATUS, 4, 0, 0x03fff031}, {PCI_ERR_UNCOR_MASK, 4, 0, 0x03fff031},
	{PCI_ERR_UNCOR_SEVER, 4, 0, 0x03fff031},  {PCI_ERR_COR_STATUS, 4, 0, 0x0000f1c1},
	{PCI_ERR_COR_MASK, 4, 0, 0x0000f1c1},	  {PCI_ERR_CAP, 4, 0, 0x00000140},
};

#define RULES(table) table, sizeof(table) / sizeof((table)[0])

/* Capabilities that are shown. Without rules: read-only, straight from the hardware. */
struct shown {
	uint16_t id, len;
	const struct rule *rules;
	size_t count;
};

static const struct shown standard[] = {
	{PCI_CAP_ID_PM, PCI_PM_SIZEOF, RULES(pm_rules)},
	{PCI_CAP_ID_AGP, PCI_AGP_SIZEOF, NULL, 0},
	{PCI_CAP_ID_VPD, PCI_CAP_VPD_SIZEOF, NULL, 0},
	{PCI_CAP_ID_MSI, VARIABLE, NULL, 0},
	{PCI_CAP_ID_VNDR, VARIABLE, NULL, 0},
	{PCI_CAP_ID_EXP, VARIABLE, RULES(express_rules)},
	{PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF, NULL, 0},
	{PCI_CAP_ID_AF, PCI_CAP_AF_SIZEOF, NULL, 0},
};

static const struct shown extended[] = {
	{PCI_EXT_CAP_ID_ERR, PCI_ERR_ROOT_COMMAND, RULES(aer_rules)},
	{PCI_EXT_CAP_ID_DSN, PCI_EXT_CAP_DSN_SIZEOF, NULL, 0},
	{PCI_EXT_CAP_ID_PWR, PCI_EXT_CAP_PWR_SIZEOF, NULL, 0},
	{PCI_EXT_CAP_ID_VNDR, VARIABLE, NULL, 0},
	{PCI_EXT_CAP_ID_ARI, PCI_EXT_CAP_ARI_SIZEOF, NULL, 0},
	{PCI_EXT_CAP_ID_ATS, PCI_EXT_CAP_ATS_SIZEOF, NULL, 0},
	{PCI_EXT_CAP_ID_SRIOV, PCI_EXT_CAP_SRIOV_SIZEOF, NULL, 0},
	{PCI_EXT_CAP_ID_PRI, PCI_EXT_CAP_PRI_SIZEOF, NULL, 0},
	{PCI_EXT_CAP_ID_LTR, PCI_EXT_CAP_LTR_SIZEOF, NULL, 0},
};

static const struct shown *find(const struct shown *table, size_t count, unsigned id)
{
	for (size_t i = 0; i < count; i++)
		if (table[i].id == id)
			return &table[i];
	return NULL;
}

static void apply(struct vfio_config *config, unsigned start, unsigned len,
		  const struct rule *rules, size_t count)
{
	for (size_t i = 0; i < count; i++)
		for (unsigned b = 0; b < rules[i].len && rules[i].offset + b < len; b++) {
			config->virt[start + rules[i].offset + b] |= rules[i].virt >> (8 * b);
			config->write[start + rules[i].offset + b] |= rules[i].write >> (8 * b);
		}
}

/* Give @len bytes from @start to capability @id, and take their values from the hardware. */
static void claim(struct vfio_config *config, struct uiommu_function *fn, unsigned start,
		  unsigned len, uint8_t id)
{
	for (unsigned pos = start; pos < start + len; pos++) {
		config->vconfig[pos] = uiommu_function_config_read(fn, pos, 1);
		config->virt[pos] = config->write[pos] = 0;
		config->cap[pos] = id;
		config->start[pos] = start;
	}
}

static unsigned variable_length(struct uiommu_function *fn, unsigned id, unsigned pos)
{
	unsigned flags = uiommu_function_config_read(fn, pos + 2, 2);
	bool linkless;

	switch (id) {
	case PCI_CAP_ID_MSI:
		return 10 + (flags & PCI_MSI_FLAGS_64BIT ? 4 : 0) +
		       (flags & PCI_MSI_FLAGS_MASKBIT ? 10 : 0);
	case PCI_CAP_ID_EXP: /* root-complex endpoints have no link */
		linkless = (flags & PCI_EXP_FLAGS_TYPE) >> 4 == PCI_EXP_TYPE_RC_END;
		if ((flags & PCI_EXP_FLAGS_VERS) == 1)
			return linkless ? PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V1
					: PCI_CAP_EXP_ENDPOINT_SIZEOF_V1;
		return linkless ? PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2
				: PCI_CAP_EXP_ENDPOINT_SIZEOF_V2;
	default: /* vendor specific: the length follows the pointer */
		return flags & 0xff;
	}
}

static void describe_standard(struct vfio_config *config, struct uiommu_function *fn,
			      const struct shown *cap, unsigned pos, unsigned len)
{
	claim(config, fn, pos, len, cap->id);
	/* The pointer is ours, so that capabilities can be left out. */
	config->virt[pos + PCI_CAP_LIST_NEXT] = 0xff;
	apply(config, pos, len, cap->rules, cap->count);
	if (cap->id == PCI_CAP_ID_MSI) {
		if (config->vconfig[pos + PCI_MSI_FLAGS] & PCI_MSI_FLAGS_64BIT)
			apply(config, pos, len, RULES(msi64_rules));
		else
			apply(config, pos, len, RULES(msi32_rules));
	} else if (cap->id == PCI_CAP_ID_VNDR) {
		memset(config->write + pos + 2, 0xff, len > 2 ? len - 2 : 0);
	} else if (cap->id == PCI_CAP_ID_PM) {
		vfio_config_set16(config, pos + PCI_PM_PMC,
				  vfio_config_get16(config, pos + PCI_PM_PMC) &
					  ~PCI_PM_CAP_PME_MASK);
		vfio_config_set16(config, pos + PCI_PM_CTRL,
				  vfio_config_get16(config, pos + PCI_PM_CTRL) & ~PM_EVENTS);
	}
}

static void build_standard(struct vfio_config *config, struct uiommu_function *fn)
{
	unsigned previous = PCI_CAPABILITY_LIST, pos, shown = 0;
	int steps = (PCI_CFG_SPACE_SIZE - PCI_STD_HEADER_SIZEOF) / PCI_CAP_SIZEOF;

	if (!(vfio_config_get16(config, PCI_STATUS) & PCI_STATUS_CAP_LIST))
		return;
	pos = config->vconfig[PCI_CAPABILITY_LIST] & ~3u;
	while (pos >= PCI_STD_HEADER_SIZEOF && steps--) {
		unsigned id = uiommu_function_config_read(fn, pos, 1), len = 0;
		unsigned next = uiommu_function_config_read(fn, pos + PCI_CAP_LIST_NEXT, 1) & ~3u;
		const struct shown *cap = find(RULES(standard), id);

		if (cap)
			len = cap->len == VARIABLE ? variable_length(fn, id, pos) : cap->len;
		if (len < PCI_CAP_SIZEOF || pos + len > PCI_CFG_SPACE_SIZE) {
			config->vconfig[previous] = next;
		} else {
			describe_standard(config, fn, cap, pos, len);
			previous = pos + PCI_CAP_LIST_NEXT;
			shown++;
		}
		pos = next;
	}
	if (!shown)
		vfio_config_set16(config, PCI_STATUS,
				  vfio_config_get16(config, PCI_STATUS) & ~PCI_STATUS_CAP_LIST);
}

static void set_extended_next(struct vfio_config *config, unsigned pos, unsigned next)
{
	config->vconfig[pos + 2] = (config->vconfig[pos + 2] & 0x0f) | (next & 0xf) << 4;
	config->vconfig[pos + 3] = next >> 4;
}

static void build_extended(struct vfio_config *config, struct uiommu_function *fn)
{
	unsigned pos = PCI_CFG_SPACE_SIZE, previous = 0, shown = 0;
	int steps = (config->size - PCI_CFG_SPACE_SIZE) / PCI_CAP_SIZEOF;

	if (!uiommu_function_config_read(fn, pos, 4))
		return;
	while (pos >= PCI_CFG_SPACE_SIZE && steps--) {
		uint32_t head = uiommu_function_config_read(fn, pos, 4);
		const struct shown *cap = find(RULES(extended), PCI_EXT_CAP_ID(head));
		unsigned next = PCI_EXT_CAP_NEXT(head), len = 0;

		if (cap && cap->len == VARIABLE)
			len = uiommu_function_config_read(fn, pos + 4, 4) >> 20;
		else if (cap)
			len = cap->len;
		if (len < PCI_CAP_SIZEOF || pos + len > config->size)
			len = 0;
		if (!len && previous) {
			set_extended_next(config, previous, next);
			pos = next;
			continue;
		}
		/* The first can't be skipped: hidden, it keeps its place and its pointer. */
		claim(config, fn, pos, len ? len : PCI_CAP_SIZEOF, PCI_EXT_CAP_ID(head));
		memset(config->virt + pos, 0xff, 4);
		if (len) {
			apply(config, pos, len, cap->rules, cap->count);
			if (cap->id == PCI_EXT_CAP_ID_VNDR)
				memset(config->write + pos + 4, 0xff, len - 4);
			shown++;
		} else {
			config->vconfig[pos] = config->vconfig[pos + 1] = 0;
			config->vconfig[pos + 2] &= 0xf0;
		}
		previous = pos;
		pos = next;
	}
	if (!shown)
		memset(config->vconfig + PCI_CFG_SPACE_SIZE, 0, 4);
}

void vfio_config_build(struct vfio_config *config, struct uiommu_function *fn)
{
	const struct uiommu_function_info *info = uiommu_function_info(fn);

	config->size = info->config_size;
	claim(config, fn, 0, PCI_STD_HEADER_SIZEOF, VFIO_CAP_BASIC);
	apply(config, 0, PCI_STD_HEADER_SIZEOF, RULES(header_rules));
	for (unsigned pos = PCI_STD_HEADER_SIZEOF; pos < config->size; pos++) {
		config->cap[pos] = VFIO_CAP_RAW;
		config->start[pos] = pos;
		config->write[pos] = 0xff;
	}
	build_standard(config, fn);
	if (info->pcie_cap && config->size > PCI_CFG_SPACE_SIZE)
		build_extended(config, fn);
}
