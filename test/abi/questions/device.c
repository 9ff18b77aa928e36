/* SPDX-License-Identifier: MIT */
/*
 * device.c - what the device's descriptor says: regions, interrupts, features. The device is asked
 * through its group, or its node where a kernel has no container.
 */
#include "ask.h"

#define REGIONS 12
#define IRQS	8

int device_open(struct open_device *device, const struct machine *machine)
{
	static const unsigned types[] = {VFIO_TYPE1v2_IOMMU, VFIO_NOIOMMU_IOMMU};
	int result = -ENODEV;
	unsigned i;

	for (i = 0; i < 2 && result; i++) {
		device->type = types[i];
		result = container_open(&device->container, machine, "/dev/vfio/vfio", types[i]);
	}
	if (result)
		return result;
	device->fd = ask(device->container.group, VFIO_GROUP_GET_DEVICE_FD,
			 (void *)machine->device.address);
	if (device->fd >= 0)
		return 0;
	container_close(&device->container);
	return device->fd;
}

void device_close(struct open_device *device)
{
	close(device->fd);
	container_close(&device->container);
}

static void ask_info(int fd)
{
	struct {
		struct vfio_device_info head;
		uint8_t capabilities[64];
	} request;
	struct vfio_device_info *info = &request.head;
	struct sweep sweep = {.question = "info.argsz"};
	uint32_t size;
	int result;

	for (size = 0; size <= 40; size++) {
		memset(&request, 0, sizeof(request));
		info->argsz = size;
		result = ask(fd, VFIO_DEVICE_GET_INFO, info);
		sweep_add(&sweep, size, "%s flags 0x%x regions %u irqs %u", result_name(result),
			  info->flags, info->num_regions, info->num_irqs);
	}
	sweep_end(&sweep);
	answer(ask(fd, VFIO_DEVICE_GET_INFO, NULL), "info.null");
}

static void say_region_capabilities(const char *question, const uint8_t *buffer, uint32_t size,
				    uint32_t at)
{
	const struct vfio_info_cap_header *header;
	char text[64];

	while (at && at + sizeof(*header) <= size) {
		header = (const void *)(buffer + at);
		snprintf(text, sizeof(text), "%s.capability.%u", question, header->id);
		say(text, "version %u", header->version);
		at = header->next;
	}
}

static void ask_region(int fd, unsigned index)
{
	static uint64_t buffer[64];
	struct vfio_region_info *info = (void *)buffer;
	char question[32];
	int result;

	memset(buffer, 0, sizeof(buffer));
	info->argsz = sizeof(buffer);
	info->index = index;
	result = ask(fd, VFIO_DEVICE_GET_REGION_INFO, info);
	snprintf(question, sizeof(question), "region.%u", index);
	if (result) {
		answer(result, "%s", question);
		return;
	}
	say(question, "flags 0x%x size 0x%llx offset 0x%llx", info->flags,
	    (unsigned long long)info->size, (unsigned long long)info->offset);
	say_region_capabilities(question, (void *)buffer, sizeof(buffer), info->cap_offset);
}

static void ask_region_form(int fd)
{
	struct {
		struct vfio_region_info head;
		uint8_t capabilities[64];
	} request;
	struct vfio_region_info *info = &request.head;
	struct sweep sweep = {.question = "region.argsz"};
	uint32_t size;

	for (size = 0; size <= 40; size++) {
		memset(&request, 0, sizeof(request));
		info->argsz = size;
		sweep_add(&sweep, size, "%s",
			  result_name(ask(fd, VFIO_DEVICE_GET_REGION_INFO, info)));
	}
	sweep_end(&sweep);
	*info = (struct vfio_region_info){.argsz = sizeof(*info), .index = UINT32_MAX};
	answer(ask(fd, VFIO_DEVICE_GET_REGION_INFO, info), "region.largest");
	answer(ask(fd, VFIO_DEVICE_GET_REGION_INFO, NULL), "region.null");
}

static void ask_irq(int fd, unsigned index)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = index};
	int result = ask(fd, VFIO_DEVICE_GET_IRQ_INFO, &info);
	char question[32];

	snprintf(question, sizeof(question), "irq.%u", index);
	if (result)
		answer(result, "%s", question);
	else
		say(question, "flags 0x%x count %u", info.flags, info.count);
}

static void ask_irq_form(int fd)
{
	struct vfio_irq_info info;
	struct sweep sweep = {.question = "irq.argsz"};
	uint32_t size;

	for (size = 0; size <= 24; size++) {
		info = (struct vfio_irq_info){.argsz = size};
		sweep_add(&sweep, size, "%s",
			  result_name(ask(fd, VFIO_DEVICE_GET_IRQ_INFO, &info)));
	}
	sweep_end(&sweep);
	answer(ask(fd, VFIO_DEVICE_GET_IRQ_INFO, NULL), "irq.null");
}

static int set_irqs(int fd, uint32_t argsz, uint32_t flags, uint32_t index, uint32_t start,
		    uint32_t count)
{
	struct {
		struct vfio_irq_set head;
		int32_t data[4];
	} request = {.head = {.argsz = argsz,
			      .flags = flags,
			      .index = index,
			      .start = start,
			      .count = count},
		     .data = {-1, -1, -1, -1}};

	return ask(fd, VFIO_DEVICE_SET_IRQS, &request);
}

/* MSI-X, or MSI where there is none. */
static uint32_t message_index(int fd)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX};

	ask(fd, VFIO_DEVICE_GET_IRQ_INFO, &info);
	return info.count ? VFIO_PCI_MSIX_IRQ_INDEX : VFIO_PCI_MSI_IRQ_INDEX;
}

/* Nothing here turns an interrupt on: descriptors are -1, or there is no data. */
static void ask_set_irqs(int fd)
{
	const uint32_t none = VFIO_IRQ_SET_DATA_NONE, fds = VFIO_IRQ_SET_DATA_EVENTFD;
	const uint32_t trigger = VFIO_IRQ_SET_ACTION_TRIGGER, mask = VFIO_IRQ_SET_ACTION_MASK;
	const uint32_t head = sizeof(struct vfio_irq_set);
	const uint32_t message = message_index(fd);
	struct sweep sweep = {.question = "set-irqs.argsz"};
	uint32_t size, index, bit;

	for (size = 0; size <= 28; size++)
		sweep_add(&sweep, size, "%s",
			  result_name(set_irqs(fd, size, fds | trigger, message, 0, 1)));
	sweep_end(&sweep);
	for (index = 0; index < IRQS; index++) {
		answer(set_irqs(fd, head, none | trigger, index, 0, 0), "set-irqs.%u.off", index);
		answer(set_irqs(fd, head, none | trigger, index, 0, 1), "set-irqs.%u.raise", index);
		answer(set_irqs(fd, head, none | mask, index, 0, 1), "set-irqs.%u.mask", index);
		answer(set_irqs(fd, head + 4, fds | trigger, index, 0, 1), "set-irqs.%u.no-fd",
		       index);
		answer(set_irqs(fd, head, none | trigger, index, 1, 0), "set-irqs.%u.start-1",
		       index);
		answer(set_irqs(fd, head, none | trigger, index, 0x1000, 1), "set-irqs.%u.far",
		       index);
	}
	for (bit = 0; bit < 8; bit++)
		answer(set_irqs(fd, head, none | 1u << bit, message, 0, 0), "set-irqs.flag.%u",
		       bit);
	answer(set_irqs(fd, head, 0, message, 0, 0), "set-irqs.flags.none");
	answer(set_irqs(fd, head, trigger | mask | none, message, 0, 0),
	       "set-irqs.flags.two-actions");
	answer(set_irqs(fd, head, trigger | none | fds, message, 0, 0), "set-irqs.flags.two-kinds");
	answer(set_irqs(fd, head, none | trigger, message, UINT32_MAX, 1), "set-irqs.wraps");
	answer(set_irqs(fd, head, none | trigger, message, 0, UINT32_MAX),
	       "set-irqs.count-largest");
	answer(ask(fd, VFIO_DEVICE_SET_IRQS, NULL), "set-irqs.null");
}

static void ask_features(int fd)
{
	struct {
		struct vfio_device_feature head;
		uint64_t data[4];
	} request;
	struct sweep sweep = {.question = "feature.argsz"};
	unsigned feature, way;
	uint32_t size;

	for (feature = 0; feature < 16; feature++)
		for (way = 0; way < 3; way++) {
			static const uint32_t flags[] = {
				VFIO_DEVICE_FEATURE_PROBE,
				VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET,
				VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET};
			static const char *const names[] = {"probe", "probe-get", "probe-set"};

			memset(&request, 0, sizeof(request));
			request.head.argsz = sizeof(request);
			request.head.flags = feature | flags[way];
			answer(ask(fd, VFIO_DEVICE_FEATURE, &request), "feature.%u.%s", feature,
			       names[way]);
		}
	for (size = 0; size <= 16; size++) {
		memset(&request, 0, sizeof(request));
		request.head.argsz = size;
		request.head.flags = VFIO_DEVICE_FEATURE_PROBE;
		sweep_add(&sweep, size, "%s", result_name(ask(fd, VFIO_DEVICE_FEATURE, &request)));
	}
	sweep_end(&sweep);
	answer(ask(fd, VFIO_DEVICE_FEATURE, NULL), "feature.null");
}

static void ask_numbers(int fd)
{
	struct sweep sweep = {.question = "number", .hex = true};
	unsigned nr;

	/* RESET would be carried out. */
	for (nr = 0x60; nr < 0x80; nr++)
		if (nr != (VFIO_DEVICE_RESET & 0xff) && nr != 0x78)
			sweep_add(&sweep, nr, "%s", result_name(ask(fd, _IO(VFIO_TYPE, nr), NULL)));
	sweep_end(&sweep);
	answer(ask(fd, VFIO_DEVICE_RESET, NULL), "reset");
}

static void ask_access(int fd)
{
	uint8_t bytes[64];
	const off_t config = (off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40;

	answer((int)pread(fd, bytes, 64, config), "config.read");
	say("config.ids", "%02x%02x:%02x%02x", bytes[1], bytes[0], bytes[3], bytes[2]);
	say("config.header-type", "0x%x", bytes[14]);
	answer(pread(fd, bytes, 4, config + 0x10000) < 0 ? -errno : 0, "config.read.beyond");
	answer(pread(fd, bytes, 4, (off_t)9 << 40) < 0 ? -errno : 0, "region.9.read");
	answer(pread(fd, bytes, 4, (off_t)5 << 40) < 0 ? -errno : 0, "region.5.read");
	answer(pread(fd, bytes, 0, config) < 0 ? -errno : 0, "config.read.nothing");
	answer(lseek(fd, 0, SEEK_END) < 0 ? -errno : 0, "seek");
	answer(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, config) == MAP_FAILED ? -errno : 0,
	       "config.mmap");
}

static void ask_one(const struct machine *machine)
{
	struct open_device device;
	unsigned index;
	int result = device_open(&device, machine);

	answer(result, "open");
	if (result)
		return;
	ask_info(device.fd);
	for (index = 0; index < REGIONS; index++)
		ask_region(device.fd, index);
	ask_region_form(device.fd);
	for (index = 0; index < IRQS; index++)
		ask_irq(device.fd, index);
	ask_irq_form(device.fd);
	ask_set_irqs(device.fd);
	ask_features(device.fd);
	ask_numbers(device.fd);
	ask_access(device.fd);
	device_close(&device);
}

void ask_device(const struct machine *machine)
{
	struct machine turned = {.device = machine->other, .other = machine->device};

	section("device");
	ask_one(machine);
	if (!machine->other.address[0])
		return;
	section("other");
	ask_one(&turned);
}
