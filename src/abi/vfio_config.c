/* SPDX-License-Identifier: MIT */
/*
 * Configuration space as vfio-pci presents it: part the hardware's, part a copy that only the user
 * sees, and registers whose writing means something else: BAR sizing, INTx disable, MSI enable,
 * power state, function-level reset.
 *
 * The masks are vfio_config_map.c's. Accesses are cut like the kernel's: aligned, at most a double
 * word, inside one capability. device.lock is held throughout. A bad pointer changes nothing.
 */
#include <errno.h>
#include <string.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

int vfio_config_create(struct vfio_device *device, struct vfio_config **out)
{
	*out = uiommu_alloc(sizeof(**out));
	return *out ? 0 : vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
}

void vfio_config_destroy(struct vfio_config *config)
{
	uiommu_free(config, sizeof(*config));
}

uint16_t vfio_config_get16(const struct vfio_config *config, unsigned pos)
{
	return config->vconfig[pos] | config->vconfig[pos + 1] << 8;
}

void vfio_config_set16(struct vfio_config *config, unsigned pos, uint16_t value)
{
	config->vconfig[pos] = value;
	config->vconfig[pos + 1] = value >> 8;
}

static uint32_t get(const uint8_t *bytes, unsigned pos, unsigned len)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < len; i++)
		value |= (uint32_t)bytes[pos + i] << (8 * i);
	return value;
}

static void put(uint8_t *bytes, unsigned pos, unsigned len, uint32_t value)
{
	for (unsigned i = 0; i < len; i++)
		bytes[pos + i] = value >> (8 * i);
}

/* The hardware's power state: 0 to 3. */
static unsigned power_state(const struct vfio_device *device)
{
	unsigned pm = device->info->pm_cap;

	if (!pm)
		return 0;
	return uiommu_function_config_read(device->fn, pm + PCI_PM_CTRL, 2) &
	       PCI_PM_CTRL_STATE_MASK;
}

bool vfio_config_memory_enabled(const struct vfio_device *device)
{
	return (vfio_config_get16(device->config, PCI_COMMAND) & PCI_COMMAND_MEMORY) &&
	       power_state(device) < 3;
}

/* ---- reads ---- */

static bool is_bar(unsigned pos)
{
	return (pos >= PCI_BASE_ADDRESS_0 && pos < PCI_BASE_ADDRESS_5 + 4) ||
	       (pos >= PCI_ROM_ADDRESS && pos < PCI_ROM_ADDRESS + 4);
}

/* Make the user's BARs look as if hardware had taken what was written: sized, with type bits. */
static void fix_bars(struct vfio_device *device)
{
	const struct uiommu_bar *bars = device->info->model->bars;
	uint8_t *vconfig = device->config->vconfig;

	for (unsigned bar = 0; bar < UIOMMU_BARS; bar++) {
		unsigned pos = PCI_BASE_ADDRESS_0 + 4 * bar;
		uint64_t mask = ~(bars[bar].size - 1);
		uint32_t type = 0;

		if (!bars[bar].size) {
			put(vconfig, pos, 4, 0);
			continue;
		}
		if (bars[bar].flags & UIOMMU_BAR_PREFETCH)
			type |= PCI_BASE_ADDRESS_MEM_PREFETCH;
		if (bars[bar].flags & UIOMMU_BAR_64)
			type |= PCI_BASE_ADDRESS_MEM_TYPE_64;
		put(vconfig, pos, 4, (get(vconfig, pos, 4) & (uint32_t)mask) | type);
		if (bars[bar].flags & UIOMMU_BAR_64) {
			put(vconfig, pos + 4, 4, get(vconfig, pos + 4, 4) & (mask >> 32));
			bar++;
		}
	}
	/* No function here has a ROM. */
	put(vconfig, PCI_ROM_ADDRESS, 4, 0);
}

static uint32_t config_read(struct vfio_device *device, unsigned pos, unsigned len)
{
	struct vfio_config *config = device->config;
	uint32_t virt = get(config->virt, pos, len), all = UINT32_MAX >> (32 - 8 * len);
	uint32_t value;

	if (is_bar(pos))
		fix_bars(device);
	value = get(config->vconfig, pos, len) & virt;
	if (virt != all)
		value |= uiommu_function_config_read(device->fn, pos, len) & ~virt;
	return value;
}

/* ---- writes ---- */

/* Bits that may be written go where they are read from. */
static void default_write(struct vfio_device *device, unsigned pos, unsigned len, uint32_t value)
{
	struct vfio_config *config = device->config;
	uint32_t write = get(config->write, pos, len), virt = get(config->virt, pos, len), old;

	if (write & virt) {
		old = get(config->vconfig, pos, len);
		put(config->vconfig, pos, len, (old & ~(write & virt)) | (value & write & virt));
	}
	if (write & ~virt) {
		old = uiommu_function_config_read(device->fn, pos, len);
		uiommu_function_config_write(device->fn, pos, len,
					     (old & ~(write & ~virt)) | (value & write & ~virt));
	}
}

static void command_written(struct vfio_device *device, unsigned pos, uint32_t value)
{
	const uint16_t decode = PCI_COMMAND_MEMORY | PCI_COMMAND_IO;
	uint16_t command = vfio_config_get16(device->config, PCI_COMMAND);
	bool disabled;

	if (pos == PCI_COMMAND) {
		command = (command & ~decode) | (value & decode);
		vfio_config_set16(device->config, PCI_COMMAND, command);
	}
	disabled = command & PCI_COMMAND_INTX_DISABLE;
	/* Only this thread changes it, for it holds device.lock; handlers look under irq_lock. */
	if (disabled == device->intx_disabled)
		return;
	pthread_mutex_lock(&device->irq_lock);
	device->intx_disabled = disabled;
	pthread_mutex_unlock(&device->irq_lock);
	if (disabled)
		vfio_intx_mask(device);
	else
		vfio_intx_unmask(device);
}

static void power_written(struct vfio_device *device, unsigned start, uint32_t value)
{
	unsigned pos = start + PCI_PM_CTRL;
	uint32_t old = uiommu_function_config_read(device->fn, pos, 2);

	uiommu_function_config_write(device->fn, pos, 2,
				     (old & ~PCI_PM_CTRL_STATE_MASK) |
					     (value & PCI_PM_CTRL_STATE_MASK));
}

/* The hardware's MSI enable follows the user's, but only while SET_IRQS has MSI set up. */
static void msi_written(struct vfio_device *device, unsigned start)
{
	unsigned pos = start + PCI_MSI_FLAGS;
	uint16_t flags = vfio_config_get16(device->config, pos);

	if (device->irq_type != VFIO_PCI_MSI_IRQ_INDEX)
		flags &= ~PCI_MSI_FLAGS_ENABLE;
	if ((flags & PCI_MSI_FLAGS_QSIZE) >> 4 > (int)device->msi_qmax) {
		flags &= ~PCI_MSI_FLAGS_QSIZE;
		flags |= device->msi_qmax << 4;
	}
	vfio_config_set16(device->config, pos, flags);
	uiommu_function_config_write(device->fn, pos, 2, flags);
}

/* Function-level reset is asked for in the user's copy and done by us; the request size is passed
 * on, but not below the payload size. */
static void express_written(struct vfio_device *device, unsigned start, uint16_t before)
{
	unsigned pos = start + PCI_EXP_DEVCTL;
	uint16_t now = vfio_config_get16(device->config, pos), hardware, request, payload;

	if (now & PCI_EXP_DEVCTL_BCR_FLR) {
		now &= ~PCI_EXP_DEVCTL_BCR_FLR;
		vfio_config_set16(device->config, pos, now);
		if (uiommu_function_config_read(device->fn, start + PCI_EXP_DEVCAP, 4) &
		    PCI_EXP_DEVCAP_FLR)
			vfio_reset_function(device);
	}
	if ((now & PCI_EXP_DEVCTL_READRQ) == (before & PCI_EXP_DEVCTL_READRQ))
		return;
	hardware = uiommu_function_config_read(device->fn, pos, 2);
	request = (now & PCI_EXP_DEVCTL_READRQ) >> 12;
	payload = (hardware & PCI_EXP_DEVCTL_PAYLOAD) >> 5;
	if (request < payload)
		request = payload;
	if (request <= 5) /* 4096 bytes; more is reserved */
		uiommu_function_config_write(device->fn, pos, 2,
					     (hardware & ~PCI_EXP_DEVCTL_READRQ) | request << 12);
}

static void config_write(struct vfio_device *device, unsigned pos, unsigned len, uint32_t value)
{
	struct vfio_config *config = device->config;
	unsigned start = config->start[pos], offset = pos - start;
	uint16_t control = 0;

	/* IDs of extended capabilities mean other things. */
	if (pos >= PCI_CFG_SPACE_SIZE) {
		default_write(device, pos, len, value);
		return;
	}
	if (config->cap[pos] == PCI_CAP_ID_EXP)
		control = vfio_config_get16(config, start + PCI_EXP_DEVCTL);
	default_write(device, pos, len, value);
	switch (config->cap[pos]) {
	case VFIO_CAP_BASIC:
		if (pos == PCI_COMMAND || pos == PCI_COMMAND + 1)
			command_written(device, pos, value);
		break;
	case PCI_CAP_ID_PM:
		if (offset == PCI_PM_CTRL)
			power_written(device, start, value);
		break;
	case PCI_CAP_ID_MSI:
		if (offset <= PCI_MSI_FLAGS && offset + len >= PCI_MSI_FLAGS)
			msi_written(device, start);
		break;
	case PCI_CAP_ID_EXP:
		express_written(device, start, control);
		break;
	}
}

/* ---- pread and pwrite ---- */

/* How much of an access at @pos can be done at once. */
static unsigned chunk(const struct vfio_config *config, unsigned pos, size_t count)
{
	unsigned same = 1;

	while ((pos + same) % 4 && pos + same < config->size &&
	       config->cap[pos + same] == config->cap[pos])
		same++;
	if (count > same)
		count = same;
	if (count >= 4 && !(pos % 4))
		return 4;
	return count >= 2 && !(pos % 2) ? 2 : 1;
}

ssize_t vfio_config_rw(struct vfio_device *device, uint64_t buf, size_t count, uint64_t pos,
		       bool write)
{
	struct vfio_config *config = device->config;
	uint8_t bytes[4096];
	int ret;

	if (pos >= config->size || count > config->size - pos)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EFAULT,
				   "past the end of configuration space");
	if (write) {
		ret = vfio_copy_in(device->vfio, bytes, buf, count);
		if (ret)
			return ret;
	}
	for (size_t done = 0; done < count;) {
		unsigned len = chunk(config, pos + done, count - done);

		if (write)
			config_write(device, pos + done, len, get(bytes, done, len));
		else
			put(bytes, done, len, config_read(device, pos + done, len));
		done += len;
	}
	if (!write) {
		ret = vfio_copy_out(device->vfio, buf, bytes, count);
		if (ret)
			return ret;
	}
	return count;
}
