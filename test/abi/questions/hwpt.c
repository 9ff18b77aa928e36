/* SPDX-License-Identifier: MIT */
/*
 * hwpt.c - page tables made by request: every flag and kind of data, GET_HW_INFO, dirty tracking,
 * fault queues, invalidation.
 */
#include "ask.h"

#define M	(source_at(MEMORY))
#define UNKNOWN 0x7fffffff

static int hwpt_alloc(const struct binding *binding, uint32_t flags, uint32_t pt, uint32_t *id)
{
	struct iommu_hwpt_alloc request = {
		.size = sizeof(request), .flags = flags, .dev_id = binding->device_id, .pt_id = pt};
	int result = ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request);

	*id = result ? 0 : request.out_hwpt_id;
	return result;
}

/* ---- GET_HW_INFO --------------------------------------------------------------------------- */

static void say_hw_info(const struct binding *binding, const char *question, uint32_t flags,
			uint32_t type, uint32_t length)
{
	uint8_t data[256];
	struct iommu_hw_info request = {.size = sizeof(request),
					.flags = flags,
					.dev_id = binding->device_id,
					.data_len = length,
					.data_uptr = (uintptr_t)data,
					.out_data_type = type};
	char text[64], hex[2 * sizeof(data) + 1] = "";
	uint32_t i;
	int result;

	memset(data, 0xa5, sizeof(data));
	result = ask(binding->iommufd, IOMMU_GET_HW_INFO, &request);
	snprintf(text, sizeof(text), "hw-info.%s", question);
	say(text, "%s type %u length %u pasid-bits %u capabilities 0x%llx", result_name(result),
	    request.out_data_type, request.data_len, request.out_max_pasid_log2,
	    (unsigned long long)request.out_capabilities);
	for (i = 0; i < 64; i++)
		snprintf(hex + 2 * (size_t)i, 3, "%02x", data[i]);
	snprintf(text, sizeof(text), "hw-info.%s.data", question);
	say(text, "%s", hex);
}

static void ask_hw_info(const struct binding *binding)
{
	struct iommu_hw_info request = {.size = sizeof(request), .dev_id = binding->device_id};
	unsigned type, bit;

	say_hw_info(binding, "64", 0, 0, 64);
	say_hw_info(binding, "8", 0, 0, 8);
	say_hw_info(binding, "0", 0, 0, 0);
	say_hw_info(binding, "type-not-flagged", 0, 3, 64);
	for (type = 0; type < 6; type++) {
		char name[16];

		snprintf(name, sizeof(name), "type-%u", type);
		say_hw_info(binding, name, IOMMU_HW_INFO_FLAG_INPUT_TYPE, type, 64);
	}
	for (bit = 1; bit < 32; bit++) {
		request.flags = 1u << bit;
		answer(ask(binding->iommufd, IOMMU_GET_HW_INFO, &request), "hw-info.flag.%u", bit);
	}
	request.flags = 0;
	answer(ask(binding->iommufd, IOMMU_GET_HW_INFO, &request), "hw-info.null.0");
	request.data_len = 8;
	request.data_uptr = 0;
	answer(ask(binding->iommufd, IOMMU_GET_HW_INFO, &request), "hw-info.null.8");
	request.__reserved[0] = 1;
	answer(ask(binding->iommufd, IOMMU_GET_HW_INFO, &request), "hw-info.reserved");
	request.__reserved[0] = 0;
	request.dev_id = binding->ioas;
	answer(ask(binding->iommufd, IOMMU_GET_HW_INFO, &request), "hw-info.an-ioas");
	request.dev_id = UNKNOWN;
	answer(ask(binding->iommufd, IOMMU_GET_HW_INFO, &request), "hw-info.unknown");
}

/* ---- HWPT_ALLOC ---------------------------------------------------------------------------- */

static int with_data(const struct binding *binding, uint32_t flags, uint32_t pt, uint32_t type,
		     uint32_t length, const void *data)
{
	struct iommu_hwpt_alloc request = {.size = sizeof(request),
					   .flags = flags,
					   .dev_id = binding->device_id,
					   .pt_id = pt,
					   .data_type = type,
					   .data_len = length,
					   .data_uptr = (uintptr_t)data};
	int result = ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request);

	if (!result)
		object_destroy(binding->iommufd, request.out_hwpt_id);
	return result;
}

static void ask_flags(const struct binding *binding)
{
	uint32_t flags, id;

	for (flags = 0; flags < 64; flags++)
		answer(with_data(binding, flags, binding->ioas, 0, 0, NULL), "alloc.flags.0x%x",
		       flags);
	for (flags = 1u << 6; flags; flags <<= 1)
		answer(hwpt_alloc(binding, flags, binding->ioas, &id), "alloc.flags.0x%x", flags);
}

static void ask_arguments(const struct binding *binding)
{
	struct iommu_hwpt_alloc request = {.size = sizeof(request),
					   .dev_id = binding->device_id,
					   .pt_id = binding->ioas,
					   .__reserved = 1};
	uint32_t id;

	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request), "alloc.reserved");
	request.__reserved = 0;
	request.__reserved2 = 1;
	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request), "alloc.reserved2");
	request.__reserved2 = 0;
	request.fault_id = 5;
	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request), "alloc.fault-not-flagged");
	request.fault_id = 0;
	request.flags = IOMMU_HWPT_FAULT_ID_VALID;
	request.fault_id = UNKNOWN;
	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request), "alloc.fault-unknown");
	request = (struct iommu_hwpt_alloc){
		.size = sizeof(request), .dev_id = UNKNOWN, .pt_id = binding->ioas};
	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request), "alloc.device-unknown");
	request.dev_id = binding->ioas;
	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request), "alloc.device-an-ioas");
	answer(hwpt_alloc(binding, 0, 0, &id), "alloc.pt-0");
	answer(hwpt_alloc(binding, 0, UNKNOWN, &id), "alloc.pt-unknown");
	answer(hwpt_alloc(binding, 0, binding->device_id, &id), "alloc.pt-a-device");
	/* Short: without what came later. */
	request = (struct iommu_hwpt_alloc){
		.size = 24, .dev_id = binding->device_id, .pt_id = binding->ioas};
	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request), "alloc.size-24");
	request.size = 23;
	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &request), "alloc.size-23");
}

static void ask_data(const struct binding *binding)
{
	uint64_t zero[32] = {0};
	uint32_t parent = 0, type;
	int result;

	for (type = 0; type < 6; type++) {
		answer(with_data(binding, 0, binding->ioas, type, 0, zero), "data.%u.ioas.0", type);
		answer(with_data(binding, 0, binding->ioas, type, 16, zero), "data.%u.ioas.16",
		       type);
		answer(with_data(binding, 0, binding->ioas, type, 24, zero), "data.%u.ioas.24",
		       type);
	}
	result = hwpt_alloc(binding, IOMMU_HWPT_ALLOC_NEST_PARENT, binding->ioas, &parent);
	answer(result, "parent");
	if (result) {
		/* Not every IOMMU has two stages; any page table will do to be refused. */
		answer(hwpt_alloc(binding, 0, binding->ioas, &parent), "parent.plain");
	}
	for (type = 0; type < 6; type++) {
		answer(with_data(binding, 0, parent, type, 0, zero), "data.%u.parent.0", type);
		answer(with_data(binding, 0, parent, type, 8, zero), "data.%u.parent.8", type);
		answer(with_data(binding, 0, parent, type, 16, zero), "data.%u.parent.16", type);
		answer(with_data(binding, 0, parent, type, 24, zero), "data.%u.parent.24", type);
		answer(with_data(binding, 0, parent, type, 256, zero), "data.%u.parent.256", type);
		answer(with_data(binding, 0, parent, type, 24, NULL), "data.%u.parent.null", type);
		answer(with_data(binding, IOMMU_HWPT_ALLOC_NEST_PARENT, parent, type, 24, zero),
		       "data.%u.parent.nest-parent", type);
		answer(with_data(binding, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, parent, type, 24, zero),
		       "data.%u.parent.dirty", type);
		answer(with_data(binding, IOMMU_HWPT_ALLOC_PASID, parent, type, 24, zero),
		       "data.%u.parent.pasid", type);
	}
	object_destroy(binding->iommufd, parent);
}

/* A page table that was asked for, used and destroyed. */
static void ask_use(struct binding *binding)
{
	uint32_t hwpt, second, pt;
	uint64_t iova = BASE;
	int result = hwpt_alloc(binding, 0, binding->ioas, &hwpt);

	answer(result, "use.alloc");
	if (result)
		return;
	answer(hwpt_alloc(binding, 0, binding->ioas, &second), "use.alloc-second");
	answer(hwpt_alloc(binding, 0, hwpt, &pt), "use.alloc-from-hwpt");
	answer(object_destroy(binding->iommufd, binding->ioas), "use.destroy-ioas");
	answer(ioas_map(binding->iommufd, binding->ioas, 7, M, PAGE, &iova), "use.map");
	answer(ioas_map(binding->iommufd, hwpt, 7, M, PAGE, &iova), "use.map-in-hwpt");
	pt = hwpt;
	answer(binding_attach(binding, &pt), "use.attach");
	answer(object_destroy(binding->iommufd, hwpt), "use.attached.destroy");
	pt = second;
	answer(binding_attach(binding, &pt), "use.replace");
	answer(object_destroy(binding->iommufd, hwpt), "use.replaced.destroy");
	pt = binding->ioas;
	answer(binding_attach(binding, &pt), "use.replace-by-ioas");
	say("use.replace-by-ioas.pt", "%s",
	    pt == second	  ? "the second"
	    : pt == binding->ioas ? "the IOAS"
				  : "another");
	answer(binding_detach(binding), "use.detach");
	answer(object_destroy(binding->iommufd, second), "use.detached.destroy");
}

/* ---- dirty tracking ------------------------------------------------------------------------ */

static int set_dirty(int fd, uint32_t hwpt, uint32_t flags, uint32_t reserved)
{
	struct iommu_hwpt_set_dirty_tracking request = {
		.size = sizeof(request), .flags = flags, .hwpt_id = hwpt, .__reserved = reserved};

	return ask(fd, IOMMU_HWPT_SET_DIRTY_TRACKING, &request);
}

static void say_dirty(int fd, const char *question, uint32_t hwpt, uint32_t flags, uint64_t iova,
		      uint64_t length, uint64_t page)
{
	uint64_t bits[8] = {0};
	struct iommu_hwpt_get_dirty_bitmap request = {.size = sizeof(request),
						      .hwpt_id = hwpt,
						      .flags = flags,
						      .iova = iova,
						      .length = length,
						      .page_size = page,
						      .data = (uintptr_t)bits};
	int result = ask(fd, IOMMU_HWPT_GET_DIRTY_BITMAP, &request);
	char text[64];

	snprintf(text, sizeof(text), "dirty.get.%s", question);
	say(text, "%s 0x%llx", result_name(result), (unsigned long long)bits[0]);
}

static void ask_dirty(const struct binding *binding)
{
	int fd = binding->iommufd, result;
	uint32_t hwpt, tracking;
	uint64_t iova = BASE;

	if (hwpt_alloc(binding, 0, binding->ioas, &hwpt))
		return;
	answer(set_dirty(fd, hwpt, 1, 0), "dirty.plain.start");
	answer(set_dirty(fd, hwpt, 0, 0), "dirty.plain.stop");
	answer(set_dirty(fd, hwpt, 2, 0), "dirty.unknown-flag");
	answer(set_dirty(fd, hwpt, 1, 1), "dirty.reserved");
	answer(set_dirty(fd, binding->ioas, 1, 0), "dirty.an-ioas");
	answer(set_dirty(fd, UNKNOWN, 1, 0), "dirty.unknown");
	say_dirty(fd, "plain", hwpt, 0, BASE, 4 * PAGE, PAGE);
	say_dirty(fd, "unknown", UNKNOWN, 0, BASE, 4 * PAGE, PAGE);
	object_destroy(fd, hwpt);
	result = hwpt_alloc(binding, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, binding->ioas, &tracking);
	answer(result, "dirty.alloc");
	if (result)
		return;
	ioas_map(fd, binding->ioas, 7, M, 4 * PAGE, &iova);
	say_dirty(fd, "not-started", tracking, 0, BASE, 4 * PAGE, PAGE);
	answer(set_dirty(fd, tracking, 1, 0), "dirty.start");
	answer(set_dirty(fd, tracking, 1, 0), "dirty.start.twice");
	say_dirty(fd, "started", tracking, 0, BASE, 4 * PAGE, PAGE);
	say_dirty(fd, "no-clear", tracking, 1, BASE, 4 * PAGE, PAGE);
	say_dirty(fd, "unknown-flag", tracking, 2, BASE, 4 * PAGE, PAGE);
	say_dirty(fd, "length-0", tracking, 0, BASE, 0, PAGE);
	say_dirty(fd, "page-0", tracking, 0, BASE, 4 * PAGE, 0);
	say_dirty(fd, "page-2", tracking, 0, BASE, 4 * PAGE, 2 * PAGE);
	say_dirty(fd, "page-odd", tracking, 0, BASE, 4 * PAGE, PAGE + 1);
	say_dirty(fd, "iova-odd", tracking, 0, BASE + 1, 4 * PAGE, PAGE);
	say_dirty(fd, "wraps", tracking, 0, UINT64_MAX - PAGE + 1, 2 * PAGE, PAGE);
	say_dirty(fd, "nothing", tracking, 0, 2 * BASE, 4 * PAGE, PAGE);
	answer(set_dirty(fd, tracking, 0, 0), "dirty.stop");
	answer(set_dirty(fd, tracking, 0, 0), "dirty.stop.twice");
	object_destroy(fd, tracking);
}

/* ---- fault queues and invalidation --------------------------------------------------------- */

static void ask_faults(const struct binding *binding)
{
	struct iommu_fault_alloc request = {.size = sizeof(request)};
	struct iommu_hwpt_alloc alloc = {.size = sizeof(alloc),
					 .flags = IOMMU_HWPT_FAULT_ID_VALID,
					 .dev_id = binding->device_id,
					 .pt_id = binding->ioas};
	uint64_t event[16] = {0};
	struct stat status;
	unsigned bit;
	int fd;

	for (bit = 0; bit < 32; bit++) {
		request.flags = 1u << bit;
		answer(ask(binding->iommufd, IOMMU_FAULT_QUEUE_ALLOC, &request), "fault.flag.%u",
		       bit);
	}
	request.flags = 0;
	answer(ask(binding->iommufd, IOMMU_FAULT_QUEUE_ALLOC, &request), "fault.alloc");
	fd = (int)request.out_fault_fd;
	answer(fstat(fd, &status) ? -errno : S_ISCHR(status.st_mode), "fault.fd.character-device");
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	answer(read(fd, event, sizeof(event)) < 0 ? -errno : 0, "fault.fd.read");
	answer(read(fd, event, 4) < 0 ? -errno : 0, "fault.fd.read-4");
	answer(read(fd, event, 0) < 0 ? -errno : 0, "fault.fd.read-0");
	answer(write(fd, event, 8) < 0 ? -errno : 0, "fault.fd.respond-to-nothing");
	answer(write(fd, event, 4) < 0 ? -errno : 0, "fault.fd.write-4");
	answer(write(fd, event, 0) < 0 ? -errno : 0, "fault.fd.write-0");
	answer(lseek(fd, 0, SEEK_CUR) < 0 ? -errno : 0, "fault.fd.seek");
	alloc.fault_id = request.out_fault_id;
	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &alloc), "fault.hwpt");
	alloc.flags |= IOMMU_HWPT_ALLOC_NEST_PARENT;
	answer(ask(binding->iommufd, IOMMU_HWPT_ALLOC, &alloc), "fault.hwpt.nest-parent");
	answer(object_destroy(binding->iommufd, request.out_fault_id), "fault.destroy");
	close(fd);
	answer(object_destroy(binding->iommufd, request.out_fault_id), "fault.closed.destroy");
}

static void ask_invalidate(const struct binding *binding)
{
	uint64_t entry[4] = {0};
	struct iommu_hwpt_invalidate request = {.size = sizeof(request),
						.data_uptr = (uintptr_t)entry,
						.entry_len = 24,
						.entry_num = 1};
	uint32_t hwpt, type;

	if (hwpt_alloc(binding, 0, binding->ioas, &hwpt))
		return;
	for (type = 0; type < 3; type++) {
		request.data_type = type;
		request.hwpt_id = hwpt;
		request.entry_num = 1;
		answer(ask(binding->iommufd, IOMMU_HWPT_INVALIDATE, &request),
		       "invalidate.%u.paging", type);
		say("invalidate.done", "%u", request.entry_num);
		request.hwpt_id = binding->ioas;
		answer(ask(binding->iommufd, IOMMU_HWPT_INVALIDATE, &request), "invalidate.%u.ioas",
		       type);
		request.hwpt_id = UNKNOWN;
		answer(ask(binding->iommufd, IOMMU_HWPT_INVALIDATE, &request),
		       "invalidate.%u.unknown", type);
	}
	request.hwpt_id = hwpt;
	request.entry_num = 0;
	answer(ask(binding->iommufd, IOMMU_HWPT_INVALIDATE, &request), "invalidate.nothing");
	request.entry_num = 1;
	request.entry_len = 0;
	answer(ask(binding->iommufd, IOMMU_HWPT_INVALIDATE, &request), "invalidate.length-0");
	request.__reserved = 1;
	answer(ask(binding->iommufd, IOMMU_HWPT_INVALIDATE, &request), "invalidate.reserved");
	object_destroy(binding->iommufd, hwpt);
}

void ask_hwpt(const struct machine *machine)
{
	struct binding binding;
	int result = binding_open(&binding, machine);

	section("hwpt");
	answer(result, "open");
	if (result)
		return;
	ask_hw_info(&binding);
	ask_flags(&binding);
	ask_arguments(&binding);
	ask_data(&binding);
	ask_use(&binding);
	ask_dirty(&binding);
	ask_faults(&binding);
	ask_invalidate(&binding);
	binding_close(&binding);
}
