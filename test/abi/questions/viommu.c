/* SPDX-License-Identifier: MIT */
/*
 * viommu.c - virtual IOMMUs and what belongs to them: virtual devices, event queues, hardware
 * queues.
 */
#include "ask.h"

#define UNKNOWN 0x7fffffff

static int viommu_alloc(const struct binding *binding, uint32_t flags, uint32_t type, uint32_t hwpt,
			uint32_t *id)
{
	struct iommu_viommu_alloc request = {.size = sizeof(request),
					     .flags = flags,
					     .type = type,
					     .dev_id = binding->device_id,
					     .hwpt_id = hwpt};
	int result = ask(binding->iommufd, IOMMU_VIOMMU_ALLOC, &request);

	*id = result ? 0 : request.out_viommu_id;
	return result;
}

static int vdevice_alloc(const struct binding *binding, uint32_t viommu, uint32_t device,
			 uint64_t virt_id, uint32_t *id)
{
	struct iommu_vdevice_alloc request = {
		.size = sizeof(request), .viommu_id = viommu, .dev_id = device, .virt_id = virt_id};
	int result = ask(binding->iommufd, IOMMU_VDEVICE_ALLOC, &request);

	*id = result ? 0 : request.out_vdevice_id;
	return result;
}

static int veventq_alloc(const struct binding *binding, uint32_t viommu, uint32_t flags,
			 uint32_t type, uint32_t depth, uint32_t reserved)
{
	struct iommu_veventq_alloc request = {.size = sizeof(request),
					      .flags = flags,
					      .viommu_id = viommu,
					      .type = type,
					      .veventq_depth = depth,
					      .__reserved = reserved};
	int result = ask(binding->iommufd, IOMMU_VEVENTQ_ALLOC, &request);

	if (!result) {
		close((int)request.out_veventq_fd);
		object_destroy(binding->iommufd, request.out_veventq_id);
	}
	return result;
}

static int hw_queue_alloc(const struct binding *binding, uint32_t viommu, uint32_t flags,
			  uint32_t type, uint64_t length)
{
	struct iommu_hw_queue_alloc request = {.size = sizeof(request),
					       .flags = flags,
					       .viommu_id = viommu,
					       .type = type,
					       .nesting_parent_iova = BASE,
					       .length = length};

	return ask(binding->iommufd, IOMMU_HW_QUEUE_ALLOC, &request);
}

/* Without a virtual IOMMU: which check comes first. */
static void ask_without(const struct binding *binding)
{
	uint32_t id;

	answer(vdevice_alloc(binding, 0, binding->device_id, 1, &id), "none.vdevice.0");
	answer(vdevice_alloc(binding, binding->ioas, binding->device_id, 1, &id),
	       "none.vdevice.an-ioas");
	answer(vdevice_alloc(binding, UNKNOWN, UNKNOWN, 1, &id), "none.vdevice.unknown");
	answer(vdevice_alloc(binding, UNKNOWN, binding->device_id, UINT64_MAX, &id),
	       "none.vdevice.largest");
	answer(veventq_alloc(binding, UNKNOWN, 0, 1, 16, 0), "none.veventq");
	answer(veventq_alloc(binding, UNKNOWN, 1, 1, 16, 0), "none.veventq.flag");
	answer(veventq_alloc(binding, UNKNOWN, 0, 0, 16, 0), "none.veventq.type-0");
	answer(veventq_alloc(binding, UNKNOWN, 0, 1, 0, 0), "none.veventq.depth-0");
	answer(veventq_alloc(binding, UNKNOWN, 0, 1, 16, 1), "none.veventq.reserved");
	answer(hw_queue_alloc(binding, UNKNOWN, 0, 1, PAGE), "none.hw-queue");
	answer(hw_queue_alloc(binding, UNKNOWN, 1, 1, PAGE), "none.hw-queue.flag");
	answer(hw_queue_alloc(binding, UNKNOWN, 0, 0, PAGE), "none.hw-queue.type-0");
	answer(hw_queue_alloc(binding, UNKNOWN, 0, 1, 0), "none.hw-queue.length-0");
}

static void ask_alloc(const struct binding *binding, uint32_t plain, uint32_t parent)
{
	struct iommu_viommu_alloc request = {.size = sizeof(request), .dev_id = binding->device_id};
	uint32_t type, id;
	unsigned bit;

	for (type = 0; type < 5; type++) {
		answer(viommu_alloc(binding, 0, type, plain, &id), "alloc.%u.plain", type);
		if (id)
			object_destroy(binding->iommufd, id);
		answer(viommu_alloc(binding, 0, type, binding->ioas, &id), "alloc.%u.ioas", type);
		answer(viommu_alloc(binding, 0, type, UNKNOWN, &id), "alloc.%u.unknown", type);
		answer(viommu_alloc(binding, 0, type, parent, &id), "alloc.%u.parent", type);
		if (id)
			object_destroy(binding->iommufd, id);
	}
	for (bit = 0; bit < 32; bit++)
		answer(viommu_alloc(binding, 1u << bit, 1, parent, &id), "alloc.flag.%u", bit);
	request.type = 1;
	request.hwpt_id = parent;
	request.__reserved = 1;
	answer(ask(binding->iommufd, IOMMU_VIOMMU_ALLOC, &request), "alloc.reserved");
	request.__reserved = 0;
	request.dev_id = UNKNOWN;
	answer(ask(binding->iommufd, IOMMU_VIOMMU_ALLOC, &request), "alloc.device-unknown");
}

static void ask_with(const struct binding *binding, uint32_t viommu)
{
	uint32_t device, second;
	uint32_t type;

	answer(vdevice_alloc(binding, viommu, UNKNOWN, 7, &device), "vdevice.unknown");
	answer(vdevice_alloc(binding, viommu, binding->ioas, 7, &device), "vdevice.an-ioas");
	answer(vdevice_alloc(binding, viommu, binding->device_id, UINT64_MAX, &device),
	       "vdevice.largest");
	if (device)
		object_destroy(binding->iommufd, device);
	answer(vdevice_alloc(binding, viommu, binding->device_id, 7, &device), "vdevice");
	answer(vdevice_alloc(binding, viommu, binding->device_id, 8, &second), "vdevice.second");
	answer(object_destroy(binding->iommufd, viommu), "vdevice.destroy-viommu");
	for (type = 0; type < 3; type++)
		answer(veventq_alloc(binding, viommu, 0, type, 16, 0), "veventq.%u", type);
	answer(veventq_alloc(binding, viommu, 1, 1, 16, 0), "veventq.flag");
	answer(veventq_alloc(binding, viommu, 0, 1, 0, 0), "veventq.depth-0");
	answer(veventq_alloc(binding, viommu, 0, 1, 1, 0), "veventq.depth-1");
	answer(veventq_alloc(binding, viommu, 0, 1, UINT32_MAX, 0), "veventq.depth-largest");
	answer(veventq_alloc(binding, viommu, 0, 1, 16, 1), "veventq.reserved");
	for (type = 0; type < 3; type++)
		answer(hw_queue_alloc(binding, viommu, 0, type, PAGE), "hw-queue.%u", type);
	if (device)
		answer(object_destroy(binding->iommufd, device), "vdevice.destroy");
}

/* A page table for the guest's stage 1: what its stream table entry may say. */
static void ask_nested(const struct binding *binding, uint32_t viommu)
{
	/* Valid, and: bypass, abort, stage 1, stage 2; a reserved bit; not valid. */
	static const struct {
		const char *name;
		uint64_t ste[2];
	} rows[] = {
		{"invalid", {0, 0}},
		{"abort", {1, 0}},
		{"bypass", {1 | 4 << 1, 0}},
		{"stage-1", {1 | 5 << 1, 0}},
		{"stage-2", {1 | 6 << 1, 0}},
		{"both", {1 | 7 << 1, 0}},
		{"reserved", {1 | 5 << 1 | 1 << 4, 0}},
	};
	struct iommu_hwpt_alloc request;
	unsigned i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		request = (struct iommu_hwpt_alloc){.size = sizeof(request),
						    .dev_id = binding->device_id,
						    .pt_id = viommu,
						    .data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
						    .data_len = sizeof(rows[i].ste),
						    .data_uptr = (uintptr_t)rows[i].ste};
		answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request), "nested.%s",
		       rows[i].name);
		if (request.out_hwpt_id)
			object_destroy(binding->iommufd, request.out_hwpt_id);
	}
}

static void ask_invalidate(const struct binding *binding, uint32_t viommu)
{
	static const struct {
		const char *name;
		uint64_t command[2];
	} rows[] = {
		{"unknown", {0xff, 0}},	    {"sync", {0x46, 0}},
		{"tlbi-all", {0x20, 0}},    {"tlbi-asid", {0x11, 0}},
		{"tlbi-va", {0x12, 0}},	    {"tlbi-vaa", {0x13, 0}},
		{"tlbi-nh-all", {0x10, 0}}, {"tlbi-el2", {0x22, 0}},
		{"cfgi-ste", {0x03, 0}},    {"cfgi-cd", {0x05, UINT64_C(7) << 32}},
		{"atc", {0x40, 0}},
	};
	struct iommu_hwpt_invalidate request;
	char text[64];
	unsigned i;
	int result;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		request = (struct iommu_hwpt_invalidate){
			.size = sizeof(request),
			.hwpt_id = viommu,
			.data_uptr = (uintptr_t)rows[i].command,
			.data_type = IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
			.entry_len = sizeof(rows[i].command),
			.entry_num = 1};
		result = ask(binding->iommufd, IOMMU_HWPT_INVALIDATE, &request);
		snprintf(text, sizeof(text), "invalidate.%s", rows[i].name);
		say(text, "%s done %u", result_name(result), request.entry_num);
	}
}

void ask_viommu(const struct machine *machine)
{
	struct iommu_hwpt_alloc alloc = {.size = sizeof(alloc)};
	uint32_t plain, parent, viommu, type;
	struct binding binding;
	int result = binding_open(&binding, machine);

	section("viommu");
	answer(result, "open");
	if (result)
		return;
	alloc.dev_id = binding.device_id;
	alloc.pt_id = binding.ioas;
	plain = ask(binding.iommufd, IOMMU_HWPT_ALLOC, &alloc) ? 0 : alloc.out_hwpt_id;
	alloc.flags = IOMMU_HWPT_ALLOC_NEST_PARENT;
	result = ask(binding.iommufd, IOMMU_HWPT_ALLOC, &alloc);
	answer(result, "parent");
	parent = result ? plain : alloc.out_hwpt_id;
	ask_without(&binding);
	ask_alloc(&binding, plain, parent);
	for (type = 1; type < 3; type++) {
		if (viommu_alloc(&binding, 0, type, parent, &viommu))
			continue;
		section("viommu.%u", type);
		ask_nested(&binding, viommu);
		ask_invalidate(&binding, viommu);
		ask_with(&binding, viommu);
	}
	binding_close(&binding);
}
