/* SPDX-License-Identifier: MIT */
/*
 * Configuration space: its layout, its write masks and what writes do.
 *
 * A type 0 header and capabilities at fixed places: power management, MSI, MSI-X and PCI Express,
 * each as the model asks for it; a device serial number in the extended space, and PASIDs behind it
 * where the model has added them; then capabilities of the model's own, where it wants them. A
 * conventional function has 256 bytes and neither power management nor PCI Express: there MSI comes
 * first, where QEMU's conventional devices have it.
 *
 * Invariants: a write changes the bits in writable[] and clears those ones it has in clears[],
 * nothing else; power_on[] is what a reset brings back. Everything is under the function's lock but
 * config_build(), which runs before anyone knows the function (twice, if it gets PASIDs). Nothing
 * here can fail: accesses outside read all ones and write nothing.
 */
#include <string.h>

#include <linux/pci_regs.h>

#include "device/function.h"

#define CAP_PM		     0x40
#define CAP_MSI_CONVENTIONAL 0x40
#define CAP_MSI		     0x50
#define CAP_MSIX	     0x70
#define CAP_EXPRESS	     0x80
#define EXT_PASID	     0x110

/* Version 3, no PME, neither D1 nor D2. */
#define PM_VERSION 3
/* Ranges of completion timeouts are not offered, only switching them off. */
#define EXPRESS_DEVCAP2 0x10

static uint32_t bytes_get(const uint8_t *bytes, unsigned offset, unsigned len)
{
	uint32_t value = 0;
	unsigned i;

	for (i = 0; i < len; i++)
		value |= (uint32_t)bytes[offset + i] << (8 * i);
	return value;
}

static void bytes_put(uint8_t *bytes, unsigned offset, unsigned len, uint32_t value)
{
	unsigned i;

	for (i = 0; i < len; i++)
		bytes[offset + i] = (uint8_t)(value >> (8 * i));
}

uint16_t config_get16(const struct uiommu_function *fn, unsigned offset)
{
	return (uint16_t)bytes_get(fn->config, offset, 2);
}

uint32_t config_get32(const struct uiommu_function *fn, unsigned offset)
{
	return bytes_get(fn->config, offset, 4);
}

void config_put32(struct uiommu_function *fn, unsigned offset, uint32_t value)
{
	bytes_put(fn->config, offset, 4, value);
}

/* ---- layout -----------------------------------------------------------------------------------
 */

/* A field: its value at power-on and the bits a driver may write. */
static void field(struct uiommu_function *fn, unsigned offset, unsigned len, uint32_t value,
		  uint32_t writable)
{
	bytes_put(fn->config, offset, len, value);
	bytes_put(fn->writable, offset, len, writable);
}

static void build_bar(struct uiommu_function *fn, unsigned i)
{
	const struct uiommu_bar *bar = &fn->model->bars[i];
	uint64_t mask = ~(bar->size - 1);
	uint32_t flags = PCI_BASE_ADDRESS_SPACE_MEMORY;

	if (bar->flags & UIOMMU_BAR_64)
		flags |= PCI_BASE_ADDRESS_MEM_TYPE_64;
	if (bar->flags & UIOMMU_BAR_PREFETCH)
		flags |= PCI_BASE_ADDRESS_MEM_PREFETCH;
	field(fn, PCI_BASE_ADDRESS_0 + 4 * i, 4, flags, (uint32_t)mask);
	if (bar->flags & UIOMMU_BAR_64)
		field(fn, PCI_BASE_ADDRESS_0 + 4 * (i + 1), 4, 0, (uint32_t)(mask >> 32));
}

static void build_header(struct uiommu_function *fn)
{
	const struct uiommu_model *model = fn->model;
	bool express = fn->express;
	unsigned i;

	field(fn, PCI_VENDOR_ID, 2, model->vendor, 0);
	field(fn, PCI_DEVICE_ID, 2, model->device, 0);
	field(fn, PCI_COMMAND, 2, 0,
	      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
		      PCI_COMMAND_INTX_DISABLE);
	bytes_put(fn->clears, PCI_STATUS, 2,
		  PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | PCI_STATUS_REC_TARGET_ABORT |
			  PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_SIG_SYSTEM_ERROR |
			  PCI_STATUS_DETECTED_PARITY);
	field(fn, PCI_REVISION_ID, 1, model->revision, 0);
	field(fn, PCI_CLASS_PROG, 1, model->class_code & 0xff, 0);
	field(fn, PCI_CLASS_DEVICE, 2, model->class_code >> 8, 0);
	field(fn, PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
	field(fn, PCI_LATENCY_TIMER, 1, 0, express ? 0 : 0xff);
	for (i = 0; i < UIOMMU_BARS; i++) {
		if (model->bars[i].size)
			build_bar(fn, i);
	}
	field(fn, PCI_SUBSYSTEM_VENDOR_ID, 2, model->subsystem_vendor, 0);
	field(fn, PCI_SUBSYSTEM_ID, 2, model->subsystem_device, 0);
	field(fn, PCI_INTERRUPT_LINE, 1, 0, 0xff);
	field(fn, PCI_INTERRUPT_PIN, 1, model->flags & UIOMMU_MODEL_INTX ? 1 : 0, 0);
}

/* Put a capability at @offset behind the one whose next pointer is at *@link. */
static void build_cap(struct uiommu_function *fn, unsigned *link, unsigned offset, uint8_t id)
{
	fn->config[*link] = (uint8_t)offset;
	fn->config[offset] = id;
	*link = offset + 1;
	fn->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
}

static void build_msi(struct uiommu_function *fn, unsigned *link)
{
	unsigned vectors = fn->model->msi_vectors;
	uint32_t all = vectors == 32 ? UINT32_MAX : (1u << vectors) - 1;
	unsigned cap = fn->info.pm_cap ? CAP_MSI : CAP_MSI_CONVENTIONAL;
	uint32_t flags = PCI_MSI_FLAGS_64BIT | (uint32_t)__builtin_ctz(vectors) << 1;

	build_cap(fn, link, cap, PCI_CAP_ID_MSI);
	fn->info.msi_cap = (uint8_t)cap;
	if (vectors > 1)
		flags |= PCI_MSI_FLAGS_MASKBIT;
	field(fn, cap + PCI_MSI_FLAGS, 2, flags, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
	field(fn, cap + PCI_MSI_ADDRESS_LO, 4, 0, ~3u);
	field(fn, cap + PCI_MSI_ADDRESS_HI, 4, 0, UINT32_MAX);
	field(fn, cap + PCI_MSI_DATA_64, 2, 0, 0xffff);
	if (vectors > 1)
		field(fn, cap + PCI_MSI_MASK_64, 4, 0, all);
}

static void build_msix(struct uiommu_function *fn, unsigned *link)
{
	const struct uiommu_model *model = fn->model;

	build_cap(fn, link, CAP_MSIX, PCI_CAP_ID_MSIX);
	fn->info.msix_cap = CAP_MSIX;
	field(fn, CAP_MSIX + PCI_MSIX_FLAGS, 2, model->msix_vectors - 1,
	      PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	field(fn, CAP_MSIX + PCI_MSIX_TABLE, 4, model->msix_offset | model->msix_bar, 0);
	field(fn, CAP_MSIX + PCI_MSIX_PBA, 4, fn->pba_offset | model->msix_bar, 0);
}

static void build_link(struct uiommu_function *fn)
{
	/* One lane at 8 GT/s, trained. */
	field(fn, CAP_EXPRESS + PCI_EXP_LNKCAP, 4, PCI_EXP_LNKCAP_SLS_8_0GB | 1 << 4, 0);
	field(fn, CAP_EXPRESS + PCI_EXP_LNKCTL, 2, 0,
	      PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES);
	field(fn, CAP_EXPRESS + PCI_EXP_LNKSTA, 2, PCI_EXP_LNKSTA_CLS_8_0GB | PCI_EXP_LNKSTA_NLW_X1,
	      0);
	field(fn, CAP_EXPRESS + PCI_EXP_LNKCAP2, 4,
	      PCI_EXP_LNKCAP2_SLS_2_5GB | PCI_EXP_LNKCAP2_SLS_5_0GB | PCI_EXP_LNKCAP2_SLS_8_0GB, 0);
	field(fn, CAP_EXPRESS + PCI_EXP_LNKCTL2, 2, PCI_EXP_LNKCTL2_TLS_8_0GT, PCI_EXP_LNKCTL2_TLS);
}

static void build_express(struct uiommu_function *fn, unsigned *link)
{
	/* What sits on the root bus without a root port above is integrated into the root complex,
	 * and has no link. */
	bool integrated = !(fn->info.rid >> 8);

	build_cap(fn, link, CAP_EXPRESS, PCI_CAP_ID_EXP);
	fn->info.pcie_cap = CAP_EXPRESS;
	fn->info.flr = true;
	field(fn, CAP_EXPRESS + PCI_EXP_FLAGS, 2,
	      2 | (integrated ? PCI_EXP_TYPE_RC_END : PCI_EXP_TYPE_ENDPOINT) << 4, 0);
	/* Payloads up to 256 bytes, extended tags, role-based error reporting. */
	field(fn, CAP_EXPRESS + PCI_EXP_DEVCAP, 4,
	      1 | PCI_EXP_DEVCAP_EXT_TAG | PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR, 0);
	field(fn, CAP_EXPRESS + PCI_EXP_DEVCTL, 2,
	      PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ_512B,
	      PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE |
		      PCI_EXP_DEVCTL_URRE | PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_PAYLOAD |
		      PCI_EXP_DEVCTL_EXT_TAG | PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ);
	bytes_put(fn->clears, CAP_EXPRESS + PCI_EXP_DEVSTA, 2,
		  PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED |
			  PCI_EXP_DEVSTA_URD);
	field(fn, CAP_EXPRESS + PCI_EXP_DEVCAP2, 4, EXPRESS_DEVCAP2, 0);
	field(fn, CAP_EXPRESS + PCI_EXP_DEVCTL2, 2, 0, PCI_EXP_DEVCTL2_COMP_TMOUT_DIS);
	if (!integrated)
		build_link(fn);

	/* The serial number: a locally administered EUI-64 around the requester ID. */
	field(fn, PCI_CFG_SPACE_SIZE, 4,
	      PCI_EXT_CAP_ID_DSN | 1 << 16 | (fn->pasid_cap_bits ? (uint32_t)EXT_PASID << 20 : 0),
	      0);
	field(fn, PCI_CFG_SPACE_SIZE + 4, 4, 0xfe000000u | fn->info.rid, 0);
	field(fn, PCI_CFG_SPACE_SIZE + 8, 4, 0x027569ffu, 0);
}

/* Neither execute permission nor privileged mode. The system, which comes before any driver,
 * enables PASIDs at once where its IOMMU has them, and does so again after a reset. */
static void build_pasid(struct uiommu_function *fn)
{
	field(fn, EXT_PASID, 4, PCI_EXT_CAP_ID_PASID | 1 << 16, 0);
	field(fn, EXT_PASID + PCI_PASID_CAP, 2, fn->pasid_cap_bits << 8, 0);
	field(fn, EXT_PASID + PCI_PASID_CTRL, 2, fn->info.pasid_bits ? PCI_PASID_CTRL_ENABLE : 0,
	      0);
}

/* ---- the model's capabilities ---- */

static void build_model_caps(struct uiommu_function *fn, unsigned *link)
{
	const struct uiommu_model_cap *cap = fn->model->caps;

	for (; cap && cap->len; cap++) {
		build_cap(fn, link, cap->offset, cap->bytes[PCI_CAP_LIST_ID]);
		memcpy(fn->config + cap->offset + 2, cap->bytes + 2, cap->len - 2u);
		if (cap->writable)
			memcpy(fn->writable + cap->offset + 2, cap->writable + 2, cap->len - 2u);
	}
}

unsigned config_model_cap(const struct uiommu_model *model, unsigned offset)
{
	const struct uiommu_model_cap *cap = model->caps;

	for (; cap && cap->len; cap++)
		if (offset >= cap->offset && offset - cap->offset < cap->len)
			return cap->offset;
	return 0;
}

/* Is the byte one of the core's capabilities? */
static bool core_owns(const struct uiommu_model *model, unsigned offset)
{
	bool express = !(model->flags & UIOMMU_MODEL_CONVENTIONAL);
	unsigned msi = express ? CAP_MSI : CAP_MSI_CONVENTIONAL;

	return offset < PCI_STD_HEADER_SIZEOF ||
	       (express && offset >= CAP_PM && offset < CAP_PM + PCI_PM_SIZEOF) ||
	       (express && offset >= CAP_EXPRESS &&
		offset < CAP_EXPRESS + PCI_CAP_EXP_ENDPOINT_SIZEOF_V2) ||
	       (model->msi_vectors && offset >= msi && offset < msi + 24) ||
	       (model->msix_vectors && offset >= CAP_MSIX &&
		offset < CAP_MSIX + PCI_CAP_MSIX_SIZEOF);
}

const char *config_caps_fault(const struct uiommu_model *model)
{
	const struct uiommu_model_cap *cap = model->caps, *other;

	for (; cap && cap->len; cap++) {
		if (cap->offset % 4 || cap->len < 3 || cap->offset + cap->len > 256 || !cap->bytes)
			return "a capability is impossible";
		for (unsigned i = 0; i < cap->len; i++)
			if (core_owns(model, cap->offset + i))
				return "a capability is in the core's way";
		for (other = model->caps; other != cap; other++)
			if (other->offset < cap->offset + cap->len &&
			    cap->offset < other->offset + other->len)
				return "two capabilities overlap";
	}
	return NULL;
}

void config_build(struct uiommu_function *fn)
{
	bool express = fn->express;
	unsigned link = PCI_CAPABILITY_LIST;

	fn->info.config_size = express ? CONFIG_EXPRESS : CONFIG_CONVENTIONAL;
	build_header(fn);
	if (express) {
		build_cap(fn, &link, CAP_PM, PCI_CAP_ID_PM);
		fn->info.pm_cap = CAP_PM;
		field(fn, CAP_PM + PCI_PM_PMC, 2, PM_VERSION, 0);
		field(fn, CAP_PM + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET,
		      PCI_PM_CTRL_STATE_MASK);
	}
	if (fn->model->msi_vectors)
		build_msi(fn, &link);
	if (fn->model->msix_vectors)
		build_msix(fn, &link);
	if (express)
		build_express(fn, &link);
	if (fn->pasid_cap_bits)
		build_pasid(fn);
	build_model_caps(fn, &link);
	memcpy(fn->power_on, fn->config, sizeof(fn->power_on));
}

void config_mark_multifunction(struct uiommu_function *fn)
{
	fn->config[PCI_HEADER_TYPE] |= 0x80;
	fn->power_on[PCI_HEADER_TYPE] |= 0x80;
}

/* ---- accesses ---------------------------------------------------------------------------------
 */

static unsigned power_state(const struct uiommu_function *fn)
{
	return fn->info.pm_cap ? fn->config[fn->info.pm_cap + PCI_PM_CTRL] & PCI_PM_CTRL_STATE_MASK
			       : 0;
}

bool config_decodes_memory(const struct uiommu_function *fn)
{
	return (fn->config[PCI_COMMAND] & PCI_COMMAND_MEMORY) && !power_state(fn);
}

void config_apply_command(struct uiommu_function *fn)
{
	bool master = (fn->config[PCI_COMMAND] & PCI_COMMAND_MASTER) && !power_state(fn);

	__atomic_store_n(&fn->decodes, config_decodes_memory(fn), __ATOMIC_RELAXED);
	if (master == fn->master)
		return;
	fn->master = master;
	uiommu_port_set_master(fn->port, master);
	if (fn->pasid_port)
		uiommu_port_set_master(fn->pasid_port, master);
}

UIOMMU_API bool uiommu_function_decodes(const struct uiommu_function *fn)
{
	return __atomic_load_n(&fn->decodes, __ATOMIC_RELAXED);
}

static bool access_inside(const struct uiommu_function *fn, unsigned offset, unsigned len)
{
	return (len == 1 || len == 2 || len == 4) && offset < fn->info.config_size &&
	       len <= fn->info.config_size - offset;
}

uint32_t uiommu_function_config_read(struct uiommu_function *fn, unsigned offset, unsigned len)
{
	uint32_t value;

	if (!access_inside(fn, offset, len))
		return UINT32_MAX;
	function_lock(fn);
	if (fn->model->config_read && config_model_cap(fn->model, offset))
		fn->model->config_read(fn, offset, len);
	value = bytes_get(fn->config, offset, len);
	function_unlock(fn);
	return value;
}

/* Does a write of @len bytes at @offset start a function-level reset? */
static bool starts_flr(const struct uiommu_function *fn, unsigned offset, unsigned len,
		       uint32_t value)
{
	unsigned byte = fn->info.pcie_cap + PCI_EXP_DEVCTL + 1;

	return fn->info.flr && offset <= byte && byte - offset < len &&
	       (value >> (8 * (byte - offset)) & (PCI_EXP_DEVCTL_BCR_FLR >> 8));
}

/* Does such a write take bus mastering away, or the power? Then nothing waits for pages any more.
 */
static bool ends_dma(const struct uiommu_function *fn, unsigned offset, unsigned len,
		     uint32_t value)
{
	unsigned power = fn->info.pm_cap + PCI_PM_CTRL;

	if (starts_flr(fn, offset, len, value))
		return true;
	if (offset == PCI_COMMAND)
		return !(value & PCI_COMMAND_MASTER);
	return fn->info.pm_cap && offset == power && (value & PCI_PM_CTRL_STATE_MASK);
}

static void config_store(struct uiommu_function *fn, unsigned offset, unsigned len, uint32_t value)
{
	unsigned pmcsr = fn->info.pm_cap + PCI_PM_CTRL;
	uint8_t old_power = fn->config[pmcsr];
	unsigned i;

	for (i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));
		uint8_t mask = fn->writable[offset + i];
		uint8_t *at = &fn->config[offset + i];

		*at = (uint8_t)((*at & ~mask) | (byte & mask));
		*at &= (uint8_t) ~(byte & fn->clears[offset + i]);
	}
	/* A power state that isn't supported leaves the old one. */
	if (power_state(fn) == 1 || power_state(fn) == 2)
		fn->config[pmcsr] = old_power;
}

void uiommu_function_config_write(struct uiommu_function *fn, unsigned offset, unsigned len,
				  uint32_t value)
{
	if (!access_inside(fn, offset, len))
		return;
	/* A worker that could not be started after a fork is tried again here, where a driver
	 * passes before it uses the function; should that fail too, work waits for the next time.
	 */
	worker_start(fn);
	if (ends_dma(fn, offset, len, value))
		function_lock_whole(fn);
	else
		function_lock(fn);
	config_store(fn, offset, len, value);
	if (starts_flr(fn, offset, len, value)) {
		function_reset(fn);
	} else {
		config_apply_command(fn);
		msi_config_changed(fn);
		if (fn->model->config_write && config_model_cap(fn->model, offset))
			fn->model->config_write(fn, offset, len);
	}
	function_unlock(fn);
}
