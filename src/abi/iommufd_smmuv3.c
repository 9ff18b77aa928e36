/* SPDX-License-Identifier: MIT */
/*
 * Nesting as Arm's SMMUv3 has it: HWPTs made on a vIOMMU, of a guest's stream table entry; the
 * guest's invalidation commands; its events (Arm IHI 0070: 4.3 and 4.4 "Configuration structure"
 * and "TLB invalidation", 7.3 "Event records"), with the data of <linux/iommufd.h>.
 *
 * A command for addresses or a context may be carried out as one for everything of the vIOMMU,
 * which is what this does, once for each request. Events are told inside of a port's section, so
 * they are put into the queue and nothing else.
 */
#include <endian.h>
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"

/* Opcodes of commands, their lowest byte. */
enum {
	CMD_CFGI_CD = 0x05,
	CMD_CFGI_CD_ALL = 0x06,
	CMD_TLBI_NH_ALL = 0x10,
	CMD_TLBI_NH_ASID = 0x11,
	CMD_TLBI_NH_VA = 0x12,
	CMD_TLBI_NH_VAA = 0x13,
	CMD_TLBI_NSNH_ALL = 0x30,
	CMD_ATC_INV = 0x40,
};

/* Numbers of events. */
enum {
	EVENT_BAD_STE = 0x04,
	EVENT_CD_FETCH = 0x09,
	EVENT_BAD_CD = 0x0a,
	EVENT_WALK_ABORT = 0x0b,
	EVENT_TRANSLATION = 0x10,
	EVENT_ADDR_SIZE = 0x11,
	EVENT_ACCESS = 0x12,
	EVENT_PERMISSION = 0x13,
};

/* Word 1 of a record. */
#define EVENT_READ     (UINT64_C(1) << 35)
#define EVENT_CLASS_TT (UINT64_C(1) << 40)
#define EVENT_CLASS_IN (UINT64_C(2) << 40)

#define STE_V	       UINT64_C(1)
#define STE_CONFIG(w)  ((w) >> 1 & 7)
#define STE_S1_ENABLED 5

/* ---- events ---- */

static unsigned event_number(enum uiommu_fault_reason reason)
{
	switch (reason) {
	case UIOMMU_FAULT_CONTEXT:
		return EVENT_BAD_CD;
	case UIOMMU_FAULT_TABLE_FETCH:
		return EVENT_WALK_ABORT;
	case UIOMMU_FAULT_ADDRESS_SIZE:
		return EVENT_ADDR_SIZE;
	case UIOMMU_FAULT_ACCESS_FLAG:
		return EVENT_ACCESS;
	case UIOMMU_FAULT_READ_DENIED:
	case UIOMMU_FAULT_WRITE_DENIED:
		return EVENT_PERMISSION;
	case UIOMMU_FAULT_BEYOND:
	case UIOMMU_FAULT_NOT_PRESENT:
	case UIOMMU_FAULT_TABLE_ENTRY:
		return EVENT_TRANSLATION;
	default:
		return 0; /* the guest wants no record of it */
	}
}

static void fault(void *ctx, const struct uiommu_fault *fault)
{
	struct iommufd_hwpt *hwpt = ctx;
	struct iommu_vevent_arm_smmuv3 event = {{0}};
	unsigned number = event_number(fault->reason);
	uint64_t stream;

	if (!number || !iommufd_viommu_virt_id(hwpt->viommu, fault->rid, &stream))
		return;
	event.evt[0] = htole64(number | stream << 32);
	if (number != EVENT_BAD_CD) {
		event.evt[1] =
			htole64((fault->access == UIOMMU_READ ? EVENT_READ : 0) |
				(number == EVENT_WALK_ABORT ? EVENT_CLASS_TT : EVENT_CLASS_IN));
		event.evt[2] = htole64(fault->iova);
	}
	iommufd_viommu_event(hwpt->viommu, &event, sizeof(event));
}

/* ---- HWPTs ---- */

static int create(struct iommufd_call *call, struct iommufd_hwpt *hwpt)
{
	struct iommu_hwpt_arm_smmuv3 data = {{0}};
	struct uiommu_guest_options options = {.size = sizeof(options), .format = "smmuv3"};
	int ret = iommufd_copy_data(call, &data, sizeof(data), sizeof(data));

	if (ret)
		return ret;
	options.ste[0] = le64toh(data.ste[0]);
	options.ste[1] = le64toh(data.ste[1]);
	hwpt->needs_vdevice =
		(options.ste[0] & STE_V) && STE_CONFIG(options.ste[0]) == STE_S1_ENABLED;
	return iommufd_nested_set(hwpt, &options, fault, hwpt);
}

/* With a stage 1 the guest's commands and events speak of a stream, which must have a number. */
static int check_attach(struct iommufd_hwpt *hwpt, const struct iommufd_device *device)
{
	uint64_t stream;

	if (!hwpt->needs_vdevice || iommufd_viommu_virt_id(hwpt->viommu, device->rid, &stream))
		return 0;
	return iommufd_refuse_id("the vIOMMU has no vDEVICE for the device (IOMMU_VDEVICE_ALLOC)");
}

/* ---- commands ---- */

static bool knows_stream(struct iommufd_viommu *viommu, uint64_t stream)
{
	for (const struct iommufd_vdevice *vdevice = viommu->vdevices; vdevice;
	     vdevice = vdevice->next)
		if (vdevice->virt_id == stream)
			return true;
	return false;
}

/* Is it one that a guest may give? -EIO. */
static int check_command(struct iommufd_viommu *viommu, uint64_t command)
{
	switch (command & 0xff) {
	case CMD_TLBI_NSNH_ALL:
	case CMD_TLBI_NH_ALL:
	case CMD_TLBI_NH_ASID:
	case CMD_TLBI_NH_VA:
	case CMD_TLBI_NH_VAA:
		return 0;
	case CMD_ATC_INV:
	case CMD_CFGI_CD:
	case CMD_CFGI_CD_ALL:
		if (knows_stream(viommu, command >> 32))
			return 0;
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EIO, "cmd: a stream that no vDEVICE has");
	default:
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EIO,
				   "cmd: none of those a guest may give");
	}
}

static int invalidate(struct iommufd_call *call, struct iommufd_hwpt *hwpt,
		      struct iommufd_viommu *viommu, uint32_t *done)
{
	struct iommu_viommu_arm_smmuv3_invalidate entry;
	int ret = 0;

	if (call->invalidate.data_type != IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "data_type: not SMMUv3's");
	while (*done < call->invalidate.entry_num && !ret) {
		ret = iommufd_copy_command(call, *done, &entry, sizeof(entry));
		if (!ret)
			ret = check_command(viommu, le64toh(entry.cmd[0]));
		*done += !ret;
	}
	for (struct iommufd_hwpt *h = viommu->nested; h && *done; h = h->next_nested)
		if (h->guest)
			uiommu_domain_invalidate(h->guest, UIOMMU_RANGE_ALL);
	return ret;
}

const struct iommufd_nesting iommufd_smmuv3 = {
	.data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
	.viommu_type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
	.event_type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
	.create = create,
	.invalidate = invalidate,
	.check_attach = check_attach,
};
