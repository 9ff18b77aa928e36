/* SPDX-License-Identifier: MIT */
/*
 * A device file's requests, and what the first open and the last close of a device do: bus master
 * off, memory decoding on, the function reset if it can be, the user's configuration space made
 * and thrown away.
 *
 * All requests of a device are serialised by its lock, hot reset excepted, which concerns several
 * (vfio_reset.c). open_count is vfio.lock's; everything the user can reach exists while it is not
 * zero.
 */
#include <errno.h>
#include <string.h>

#include <uiommu/linux/iommufd.h>

#include "abi/vfio_private.h"

/* ---- open and close ---- */

static void write_command(const struct vfio_device *device, uint16_t clear, uint16_t set)
{
	uint16_t command = uiommu_function_config_read(device->fn, PCI_COMMAND, 2);

	uiommu_function_config_write(device->fn, PCI_COMMAND, 2, (command & ~clear) | set);
}

static int first_open(struct vfio_device *device)
{
	struct vfio_config *config;
	int ret = vfio_config_create(device, &config);

	if (ret)
		return ret;
	/* No DMA from what an earlier user may have left behind. */
	write_command(device, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY);
	device->reset_works = vfio_reset_possible(device);
	if (device->reset_works)
		vfio_reset_function(device);
	vfio_save_state(device, &device->saved);
	vfio_config_build(config, device->fn);
	device->config = config;
	pthread_mutex_lock(&device->irq_lock);
	device->intx_disabled = false;
	pthread_mutex_unlock(&device->irq_lock);
	vfio_intx_attach(device);
	return 0;
}

int vfio_device_open(struct vfio_device *device, struct uiommu_ioas *ioas)
{
	int ret = 0;

	if (!device->open_count) {
		pthread_mutex_lock(&device->lock);
		device->ioas = ioas;
		ret = first_open(device);
		pthread_mutex_unlock(&device->lock);
		if (ret)
			return ret;
	}
	device->open_count++;
	return 0;
}

static void leave_low_power(struct vfio_device *device)
{
	device->low_power = false;
	vfio_eventfd_put(device->vfio, device->wakeup);
	device->wakeup = -1;
}

static void power_up(const struct vfio_device *device)
{
	unsigned pos = device->info->pm_cap + PCI_PM_CTRL;
	uint16_t control;

	if (!device->info->pm_cap)
		return;
	control = uiommu_function_config_read(device->fn, pos, 2);
	uiommu_function_config_write(device->fn, pos, 2, control & ~PCI_PM_CTRL_STATE_MASK);
}

static void last_close(struct vfio_device *device)
{
	leave_low_power(device);
	power_up(device);
	write_command(device, PCI_COMMAND_MASTER, 0);
	vfio_irqs_disable(device);
	vfio_ioeventfds_remove(device);
	vfio_intx_detach(device);
	if (device->reset_works)
		vfio_reset_function(device);
	vfio_restore_state(device, &device->saved);
	vfio_irq_replace(device, &device->err, -1);
	vfio_irq_replace(device, &device->req, -1);
	vfio_config_destroy(device->config);
	device->config = NULL;
}

void vfio_device_close(struct vfio_device *device)
{
	if (--device->open_count)
		return;
	pthread_mutex_lock(&device->lock);
	last_close(device);
	pthread_mutex_unlock(&device->lock);
	device->needs_reset = !device->reset_works;
	vfio_reset_bus_if_unused(device);
	if (device->iommufd)
		vfio_unbind(device);
	if (device->by_group)
		vfio_group_put(device->vfio, device->group);
}

/* ---- facts ---- */

uint64_t vfio_device_bar_size(const struct vfio_device *device, unsigned bar)
{
	return bar < UIOMMU_BARS ? device->info->model->bars[bar].size : 0;
}

unsigned vfio_device_irq_count(const struct vfio_device *device, unsigned index)
{
	const struct uiommu_function_info *info = device->info;
	unsigned flags;

	switch (index) {
	case VFIO_PCI_INTX_IRQ_INDEX:
		return device->config->vconfig[PCI_INTERRUPT_PIN] ? 1 : 0;
	case VFIO_PCI_MSI_IRQ_INDEX:
		if (!info->msi_cap)
			return 0;
		flags = uiommu_function_config_read(device->fn, info->msi_cap + PCI_MSI_FLAGS, 2);
		return 1u << ((flags & PCI_MSI_FLAGS_QMASK) >> 1);
	case VFIO_PCI_MSIX_IRQ_INDEX:
		if (!info->msix_cap)
			return 0;
		flags = uiommu_function_config_read(device->fn, info->msix_cap + PCI_MSIX_FLAGS, 2);
		return (flags & PCI_MSIX_FLAGS_QSIZE) + 1;
	case VFIO_PCI_ERR_IRQ_INDEX:
		return info->pcie_cap ? 1 : 0;
	case VFIO_PCI_REQ_IRQ_INDEX:
		return 1;
	default:
		return 0;
	}
}

/* ---- info requests ---- */

static long get_info(struct vfio_device *device, uint64_t arg)
{
	/* The struct as it is since Linux 6.6; before, it ended with cap_offset. */
	struct {
		uint32_t argsz, flags, num_regions, num_irqs, cap_offset, pad;
	} info = {0};
	int ret = vfio_copy_sized(device->vfio, &info, arg, 4 * sizeof(uint32_t));

	if (ret)
		return ret;
	info.flags = VFIO_DEVICE_FLAGS_PCI;
	if (device->reset_works)
		info.flags |= VFIO_DEVICE_FLAGS_RESET;
	info.num_regions = VFIO_PCI_NUM_REGIONS;
	info.num_irqs = VFIO_PCI_NUM_IRQS;
	return vfio_copy_out(device->vfio, arg, &info,
			     info.argsz < sizeof(info) ? info.argsz : sizeof(info));
}

/* Size and flags of one region. */
static int describe_region(struct vfio_device *device, struct vfio_region_info *info)
{
	info->offset = (uint64_t)info->index << VFIO_OFFSET_SHIFT;
	info->flags = 0;
	switch (info->index) {
	case VFIO_PCI_CONFIG_REGION_INDEX:
		info->size = device->info->config_size;
		info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
		return 0;
	case VFIO_PCI_BAR0_REGION_INDEX ... VFIO_PCI_BAR5_REGION_INDEX:
		info->size = vfio_device_bar_size(device, info->index);
		if (info->size)
			info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
				      VFIO_REGION_INFO_FLAG_MMAP;
		return 0;
	case VFIO_PCI_ROM_REGION_INDEX:
		info->size = 0;
		return 0;
	case VFIO_PCI_VGA_REGION_INDEX:
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "no VGA device");
	default:
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "index: no such region");
	}
}

static long get_region_info(struct vfio_device *device, uint64_t arg)
{
	const struct uiommu_model *model = device->info->model;
	struct vfio_region_info info;
	struct vfio_caps caps;
	int ret;

	ret = vfio_copy_sized(device->vfio, &info, arg, sizeof(info));
	if (!ret)
		ret = describe_region(device, &info);
	if (ret)
		return ret;
	if (model->msix_vectors && info.size && info.index == model->msix_bar) {
		vfio_caps_init(&caps, sizeof(info));
		info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		ret = vfio_caps_add(&caps, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, NULL, 0);
		if (!ret)
			ret = vfio_caps_out(device->vfio, &caps, arg, &info.argsz,
					    &info.cap_offset);
		vfio_caps_free(&caps);
	}
	return ret ? ret : vfio_copy_out(device->vfio, arg, &info, sizeof(info));
}

static long get_irq_info(struct vfio_device *device, uint64_t arg)
{
	struct vfio_irq_info info;
	int ret = vfio_copy_sized(device->vfio, &info, arg, sizeof(info));

	if (ret)
		return ret;
	if (info.index >= VFIO_PCI_NUM_IRQS)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "index: no such interrupt");
	if (info.index == VFIO_PCI_ERR_IRQ_INDEX && !device->info->pcie_cap)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL,
				   "conventional PCI reports no errors");
	info.flags = VFIO_IRQ_INFO_EVENTFD;
	info.count = vfio_device_irq_count(device, info.index);
	if (info.index == VFIO_PCI_INTX_IRQ_INDEX)
		info.flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
	else if (info.index != VFIO_PCI_MSIX_IRQ_INDEX || !device->info->msix_cap ||
		 device->vfio->facts->fixed_msix)
		info.flags |= VFIO_IRQ_INFO_NORESIZE;
	return vfio_copy_out(device->vfio, arg, &info, sizeof(info));
}

static long reset(struct vfio_device *device)
{
	if (!device->reset_works)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL,
				   "the function can't be reset by itself");
	vfio_reset_function(device);
	return 0;
}

/* ---- VFIO_DEVICE_FEATURE ---- */

void vfio_device_wake(struct vfio_device *device)
{
	if (device->wakeup < 0)
		return;
	vfio_eventfd_signal(device->wakeup);
	leave_low_power(device);
}

static int enter_low_power(struct vfio_device *device, int wakeup)
{
	if (device->low_power)
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL, "in low power already");
	device->low_power = true;
	device->wakeup = wakeup;
	return 0;
}

static int enter_with_wakeup(struct vfio_device *device, uint64_t data)
{
	struct {
		int32_t eventfd;
		uint32_t reserved;
	} entry;
	int ret = vfio_copy_in(device->vfio, &entry, data, sizeof(entry)), fd;

	if (ret)
		return ret;
	if (entry.eventfd < 0)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "wakeup_eventfd: negative");
	fd = vfio_eventfd_get(device->vfio, entry.eventfd);
	if (fd < 0)
		return fd;
	ret = enter_low_power(device, fd);
	if (ret)
		vfio_eventfd_put(device->vfio, fd);
	return ret;
}

/* Numbers of Linux 6.1 and later; the last, of 7.2, has an error of its own where there is no
 * migration. */
#define FEATURE_LOW_POWER	      3
#define FEATURE_LOW_POWER_WITH_WAKEUP 4
#define FEATURE_LOW_POWER_EXIT	      5
#define FEATURE_PRECOPY_INFO_V2	      12

/* Features that can only be set: what is needed, and doing it. */
static int low_power_feature(struct vfio_device *device, uint32_t flags, uint64_t data, size_t room)
{
	uint32_t feature = flags & VFIO_DEVICE_FEATURE_MASK;
	size_t need = feature == FEATURE_LOW_POWER_WITH_WAKEUP ? 8 : 0;

	if (flags & VFIO_DEVICE_FEATURE_GET)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: this can only be set");
	if (flags & VFIO_DEVICE_FEATURE_PROBE)
		return 0;
	if (!(flags & VFIO_DEVICE_FEATURE_SET))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: none of PROBE, GET, SET");
	if (room < need)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "argsz: no room for the data");
	if (feature == FEATURE_LOW_POWER)
		return enter_low_power(device, -1);
	if (feature == FEATURE_LOW_POWER_WITH_WAKEUP)
		return enter_with_wakeup(device, data);
	leave_low_power(device);
	return 0;
}

static long feature(struct vfio_device *device, uint64_t arg)
{
	const uint32_t both = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
	const uint32_t known = VFIO_DEVICE_FEATURE_MASK | both | VFIO_DEVICE_FEATURE_PROBE;
	struct vfio_device_feature head;
	int ret = vfio_copy_sized(device->vfio, &head, arg, sizeof(head));

	if (ret)
		return ret;
	if (head.flags & ~known)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: an unknown one");
	if (!(head.flags & VFIO_DEVICE_FEATURE_PROBE) && (head.flags & both) == both)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: both GET and SET");
	switch (head.flags & VFIO_DEVICE_FEATURE_MASK) {
	case FEATURE_LOW_POWER:
	case FEATURE_LOW_POWER_WITH_WAKEUP:
	case FEATURE_LOW_POWER_EXIT:
		return low_power_feature(device, head.flags, arg + sizeof(head),
					 head.argsz - sizeof(head));
	case FEATURE_PRECOPY_INFO_V2:
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "the device can't migrate");
	default:
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENOTTY, "the device lacks it");
	}
}

/* ---- dispatch ---- */

static long locked_ioctl(struct vfio_device *device, uint32_t request, uint64_t arg)
{
	switch (request) {
	case VFIO_DEVICE_GET_INFO:
		return get_info(device, arg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return get_region_info(device, arg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return get_irq_info(device, arg);
	case VFIO_DEVICE_SET_IRQS:
		return vfio_set_irqs(device, arg);
	case VFIO_DEVICE_RESET:
		return reset(device);
	case VFIO_DEVICE_IOEVENTFD:
		return vfio_ioeventfd(device, arg);
	case VFIO_DEVICE_FEATURE:
		return feature(device, arg);
	default:
		return -ENOTTY;
	}
}

/* Binding is for devices opened without a group. */
static long bind_iommufd(struct vfio_device *device, uint64_t arg)
{
	struct vfio_device_bind_iommufd bind;
	int ret = vfio_copy_sized(device->vfio, &bind, arg,
				  offsetof(struct vfio_device_bind_iommufd, token_uuid_ptr));

	return ret ? ret
		   : vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL, "the device was opened by a group");
}

long vfio_device_ioctl(struct vfio_device *device, uint32_t request, uint64_t arg)
{
	long ret;

	if (request == VFIO_DEVICE_BIND_IOMMUFD)
		return bind_iommufd(device, arg);
	pthread_mutex_lock(&device->lock);
	vfio_device_wake(device);
	if (request != VFIO_DEVICE_GET_PCI_HOT_RESET_INFO && request != VFIO_DEVICE_PCI_HOT_RESET)
		ret = locked_ioctl(device, request, arg);
	else
		ret = 0;
	pthread_mutex_unlock(&device->lock);
	if (request == VFIO_DEVICE_GET_PCI_HOT_RESET_INFO)
		return vfio_hot_reset_info(device, arg);
	if (request == VFIO_DEVICE_PCI_HOT_RESET)
		return vfio_hot_reset(device, arg);
	return ret;
}
