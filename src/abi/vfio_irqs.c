/* SPDX-License-Identifier: MIT */
/*
 * VFIO_DEVICE_SET_IRQS, and MSI and MSI-X: vectors are taken from the platform, their messages put
 * into the function, and what arrives goes to the user's eventfds.
 *
 * As in the kernel: enabling takes all vectors up to the last one asked for; a vector without an
 * eventfd is masked in the function; more MSI-X vectors may be added later, one by one; a failure
 * in the midst of a block leaves that block's vectors without eventfds. device.lock is held;
 * triggers are irq_lock's, and are swapped before the old eventfd is let go.
 */
#include <errno.h>
#include <string.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

/* ---- arrival: the platform's handlers. They run with a function's lock held: leaf lock only. ----
 */

static void fire(struct vfio_vector *vector)
{
	pthread_mutex_lock(&vector->device->irq_lock);
	vfio_eventfd_signal(vector->trigger);
	pthread_mutex_unlock(&vector->device->irq_lock);
}

static void msi_arrived(void *ctx, unsigned number)
{
	struct vfio_device *device = ctx;

	if (number < device->vector_count)
		fire(&device->vectors[number]);
}

static void msix_arrived(void *ctx, unsigned number)
{
	fire(ctx);
}

void vfio_irq_replace(struct vfio_device *device, int *slot, int fd)
{
	int old;

	pthread_mutex_lock(&device->irq_lock);
	old = *slot;
	*slot = fd;
	pthread_mutex_unlock(&device->irq_lock);
	vfio_eventfd_put(device->vfio, old);
}

/* ---- the function's registers ---- */

static struct uiommu_platform *platform_of(const struct vfio_device *device)
{
	return uiommu_machine_platform(device->vfio->machine);
}

static uint16_t memory_on(const struct vfio_device *device)
{
	uint16_t command = uiommu_function_config_read(device->fn, PCI_COMMAND, 2);

	if (!(command & PCI_COMMAND_MEMORY))
		uiommu_function_config_write(device->fn, PCI_COMMAND, 2,
					     command | PCI_COMMAND_MEMORY);
	return command;
}

static void memory_restore(const struct vfio_device *device, uint16_t command)
{
	if (!(command & PCI_COMMAND_MEMORY))
		uiommu_function_config_write(device->fn, PCI_COMMAND, 2, command);
}

static void write_table(const struct vfio_device *device, unsigned entry, unsigned field,
			uint32_t value)
{
	const struct uiommu_model *model = device->info->model;
	uint8_t bytes[4] = {value, value >> 8, value >> 16, value >> 24};

	uiommu_function_bar_write(device->fn, model->msix_bar,
				  model->msix_offset + PCI_MSIX_ENTRY_SIZE * (uint64_t)entry +
					  field,
				  bytes, sizeof(bytes));
}

/* Message and mask of one MSI-X vector. The mask last: opening it may fire. */
static void program_msix(const struct vfio_device *device, unsigned entry)
{
	const struct vfio_vector *vector = &device->vectors[entry];
	uint16_t command = memory_on(device);

	write_table(device, entry, PCI_MSIX_ENTRY_VECTOR_CTRL, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	write_table(device, entry, PCI_MSIX_ENTRY_LOWER_ADDR, vector->message.address);
	write_table(device, entry, PCI_MSIX_ENTRY_UPPER_ADDR, vector->message.address >> 32);
	write_table(device, entry, PCI_MSIX_ENTRY_DATA, vector->message.data);
	if (vector->trigger >= 0)
		write_table(device, entry, PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
	memory_restore(device, command);
}

static void mask_msix(const struct vfio_device *device, unsigned entry)
{
	uint16_t command = memory_on(device);

	write_table(device, entry, PCI_MSIX_ENTRY_VECTOR_CTRL, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	memory_restore(device, command);
}

/* Per-vector masks of plain MSI, if it has any: what has no eventfd is masked. */
static void program_msi_mask(const struct vfio_device *device)
{
	unsigned cap = device->info->msi_cap;
	unsigned flags = uiommu_function_config_read(device->fn, cap + PCI_MSI_FLAGS, 2);
	uint32_t mask = 0;

	if (!(flags & PCI_MSI_FLAGS_MASKBIT))
		return;
	for (unsigned i = 0; i < device->vector_count; i++)
		if (device->vectors[i].trigger < 0)
			mask |= UINT32_C(1) << i;
	uiommu_function_config_write(
		device->fn, cap + (flags & PCI_MSI_FLAGS_64BIT ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32),
		4, mask);
}

static void program_msi(const struct vfio_device *device)
{
	unsigned cap = device->info->msi_cap;
	unsigned flags = uiommu_function_config_read(device->fn, cap + PCI_MSI_FLAGS, 2);
	const struct uiommu_msi_message *message = &device->vectors[0].message;
	bool wide = flags & PCI_MSI_FLAGS_64BIT;

	flags &= ~(PCI_MSI_FLAGS_QSIZE | PCI_MSI_FLAGS_ENABLE);
	flags |= __builtin_ctz(device->msi_block) << 4;
	uiommu_function_config_write(device->fn, cap + PCI_MSI_FLAGS, 2, flags);
	uiommu_function_config_write(device->fn, cap + PCI_MSI_ADDRESS_LO, 4, message->address);
	if (wide)
		uiommu_function_config_write(device->fn, cap + PCI_MSI_ADDRESS_HI, 4,
					     message->address >> 32);
	uiommu_function_config_write(device->fn, cap + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32),
				     2, message->data);
	program_msi_mask(device);
	uiommu_function_config_write(device->fn, cap + PCI_MSI_FLAGS, 2,
				     flags | PCI_MSI_FLAGS_ENABLE);
}

static void set_msix_flags(const struct vfio_device *device, uint16_t set)
{
	const uint16_t ours = PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL;
	unsigned pos = device->info->msix_cap + PCI_MSIX_FLAGS;
	uint16_t flags = uiommu_function_config_read(device->fn, pos, 2);

	uiommu_function_config_write(device->fn, pos, 2, (flags & ~ours) | set);
}

static void program_all_msix(const struct vfio_device *device)
{
	set_msix_flags(device, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	for (unsigned i = 0; i < device->vector_count; i++)
		program_msix(device, i);
	set_msix_flags(device, PCI_MSIX_FLAGS_ENABLE);
}

void vfio_irqs_restore(struct vfio_device *device)
{
	if (device->irq_type == VFIO_PCI_MSI_IRQ_INDEX)
		program_msi(device);
	else if (device->irq_type == VFIO_PCI_MSIX_IRQ_INDEX)
		program_all_msix(device);
}

/* ---- enabling and disabling ---- */

static void set_type(struct vfio_device *device, unsigned type)
{
	pthread_mutex_lock(&device->irq_lock);
	device->irq_type = type;
	pthread_mutex_unlock(&device->irq_lock);
}

static void free_vectors(struct vfio_device *device)
{
	for (unsigned i = 0; i < device->vector_count && !device->msi_block; i++)
		if (device->vectors[i].allocated)
			uiommu_platform_irq_free(platform_of(device), device->vectors[i].irq);
	if (device->msi_block)
		uiommu_platform_irq_free(platform_of(device), device->msi_irq);
	uiommu_free(device->vectors, device->vector_count * sizeof(*device->vectors));
	device->vectors = NULL;
	device->vector_count = 0;
	device->msi_block = 0;
}

static int allocate_msix(struct vfio_device *device, unsigned entry)
{
	struct vfio_vector *vector = &device->vectors[entry];
	int ret;

	ret = uiommu_platform_irq_alloc(platform_of(device), device->ioas, device->info->rid, 1,
					false, msix_arrived, vector, &vector->message,
					&vector->irq);
	vector->allocated = !ret;
	return ret;
}

/* All vectors in one block, as plain MSI needs them. */
static int allocate_msi(struct vfio_device *device, unsigned count)
{
	struct uiommu_msi_message messages[32];
	unsigned block = pow2_ceil(count);
	int ret;

	ret = uiommu_platform_irq_alloc(platform_of(device), device->ioas, device->info->rid, block,
					true, msi_arrived, device, messages, &device->msi_irq);
	if (ret)
		return ret;
	device->msi_block = block;
	for (unsigned i = 0; i < count; i++) {
		device->vectors[i].message = messages[i];
		device->vectors[i].allocated = true;
	}
	return 0;
}

static int msi_enable(struct vfio_device *device, unsigned index, unsigned count)
{
	bool msix = index == VFIO_PCI_MSIX_IRQ_INDEX;
	unsigned hardware = vfio_device_irq_count(device, index);
	int ret = 0;

	if (!count) /* what the kernel's allocator says to a range of none */
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -ERANGE, "no vector is asked for");
	device->vectors = uiommu_alloc_array(hardware, sizeof(*device->vectors));
	if (!device->vectors)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	device->vector_count = hardware;
	for (unsigned i = 0; i < hardware; i++) {
		device->vectors[i].device = device;
		device->vectors[i].trigger = -1;
	}
	if (!msix)
		ret = allocate_msi(device, count);
	for (unsigned i = 0; msix && i < count && !ret; i++)
		ret = allocate_msix(device, i);
	if (ret) {
		free_vectors(device);
		return ret;
	}
	set_type(device, index);
	if (msix) {
		program_all_msix(device);
	} else {
		device->msi_qmax = __builtin_ctz(device->msi_block);
		program_msi(device);
	}
	return 0;
}

/* Take the eventfd from a vector. MSI-X is masked first, so that nothing is lost in between: it
 * becomes pending. */
static void unwire(struct vfio_device *device, unsigned entry)
{
	bool msix = device->irq_type == VFIO_PCI_MSIX_IRQ_INDEX;

	if (device->vectors[entry].trigger < 0)
		return;
	if (msix)
		mask_msix(device, entry);
	vfio_irq_replace(device, &device->vectors[entry].trigger, -1);
	if (!msix)
		program_msi_mask(device);
}

static void msi_disable(struct vfio_device *device)
{
	bool msix = device->irq_type == VFIO_PCI_MSIX_IRQ_INDEX;
	unsigned cap = device->info->msi_cap, flags;

	for (unsigned i = 0; i < device->vector_count; i++)
		unwire(device, i);
	if (msix) {
		set_msix_flags(device, 0);
	} else {
		flags = uiommu_function_config_read(device->fn, cap + PCI_MSI_FLAGS, 2);
		flags &= ~(PCI_MSI_FLAGS_QSIZE | PCI_MSI_FLAGS_ENABLE);
		uiommu_function_config_write(device->fn, cap + PCI_MSI_FLAGS, 2, flags);
	}
	free_vectors(device);
	set_type(device, VFIO_PCI_NUM_IRQS);
}

void vfio_irqs_disable(struct vfio_device *device)
{
	if (device->irq_type == VFIO_PCI_INTX_IRQ_INDEX)
		vfio_intx_disable(device);
	else if (device->irq_type == VFIO_PCI_MSI_IRQ_INDEX ||
		 device->irq_type == VFIO_PCI_MSIX_IRQ_INDEX)
		msi_disable(device);
	device->msi_qmax = 0;
}

/* ---- the device goes to another address space ---- */

/* Every block it has: all vectors of MSI together, each of MSI-X. */
static struct uiommu_irq *block(const struct vfio_device *device, unsigned index)
{
	if (device->msi_block)
		return index ? NULL : device->msi_irq;
	return device->vectors[index].allocated ? device->vectors[index].irq : NULL;
}

static void blocks_moved(struct vfio_device *device, unsigned count, bool done)
{
	for (unsigned i = 0; i < count; i++)
		if (block(device, i))
			uiommu_platform_irq_moved(platform_of(device), block(device, i), done);
}

int vfio_irqs_moving(struct vfio_device *device, struct uiommu_ioas *ioas)
{
	for (unsigned i = 0; i < device->vector_count; i++) {
		int ret = block(device, i) ? uiommu_platform_irq_moving(platform_of(device),
									block(device, i), ioas)
					   : 0;

		if (ret) {
			blocks_moved(device, i, false);
			return ret;
		}
	}
	return 0;
}

void vfio_irqs_moved(struct vfio_device *device, bool done)
{
	blocks_moved(device, device->vector_count, done);
}

/* ---- eventfds of MSI and MSI-X ---- */

/* Give a vector an eventfd in place of the one it has; a negative one only takes that away. */
static int wire(struct vfio_device *device, unsigned entry, int fd)
{
	bool msix = device->irq_type == VFIO_PCI_MSIX_IRQ_INDEX;
	int own, ret;

	unwire(device, entry);
	if (fd < 0)
		return 0;
	if (!device->vectors[entry].allocated && (!msix || device->vfio->facts->fixed_msix))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "MSI was enabled with fewer vectors");
	if (!device->vectors[entry].allocated) {
		ret = allocate_msix(device, entry);
		if (ret)
			return ret;
	}
	own = vfio_eventfd_get(device->vfio, fd);
	if (own < 0)
		return own;
	vfio_irq_replace(device, &device->vectors[entry].trigger, own);
	if (msix)
		program_msix(device, entry);
	else
		program_msi_mask(device);
	return 0;
}

static int wire_block(struct vfio_device *device, unsigned start, unsigned count,
		      const int32_t *fds)
{
	int ret = 0;
	unsigned i;

	for (i = 0; i < count && !ret; i++)
		ret = wire(device, start + i, fds[i]);
	if (!ret)
		return 0;
	while (i--)
		unwire(device, start + i);
	return ret;
}

/* Loopback: fire vectors without the device. */
static void trigger_block(struct vfio_device *device, unsigned start, unsigned count,
			  const uint8_t *bools)
{
	for (unsigned i = 0; i < count; i++)
		if (!bools || bools[i])
			fire(&device->vectors[start + i]);
}

static int msi_set(struct vfio_device *device, unsigned index, uint32_t flags, unsigned start,
		   unsigned count, const void *data)
{
	bool on = device->irq_type == index;
	int ret;

	if (on && !count && (flags & VFIO_IRQ_SET_DATA_NONE)) {
		msi_disable(device);
		return 0;
	}
	if (!on && device->irq_type != VFIO_PCI_NUM_IRQS)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EINVAL,
				   "another kind of interrupt is enabled");
	if (!(flags & VFIO_IRQ_SET_DATA_EVENTFD)) {
		if (!on)
			return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
					   "this kind of interrupt is not enabled");
		trigger_block(device, start, count, data);
		return 0;
	}
	if (on)
		return wire_block(device, start, count, data);
	ret = msi_enable(device, index, start + count);
	if (ret)
		return ret;
	ret = wire_block(device, start, count, data);
	if (ret)
		msi_disable(device);
	return ret;
}

/* ---- error and request notification: one eventfd each ---- */

static int single_set(struct vfio_device *device, int *slot, uint32_t flags, unsigned start,
		      unsigned count, const void *data)
{
	bool none = flags & VFIO_IRQ_SET_DATA_NONE;
	int32_t fd;
	int own;

	if (start || count > 1 || (!count && !none) || (none && *slot < 0))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "there is one such interrupt, and an eventfd comes first");
	if (none || (flags & VFIO_IRQ_SET_DATA_BOOL)) {
		if (!count)
			vfio_irq_replace(device, slot, -1);
		else if (none || *(const uint8_t *)data)
			vfio_eventfd_signal(*slot);
		return 0;
	}
	memcpy(&fd, data, sizeof(fd));
	if (fd < -1)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "eventfd: below -1");
	own = fd < 0 ? -1 : vfio_eventfd_get(device->vfio, fd);
	if (own < 0 && fd >= 0)
		return own;
	vfio_irq_replace(device, slot, own);
	return 0;
}

/* ---- the request ---- */

static int dispatch(struct vfio_device *device, const struct vfio_irq_set *set, const void *data)
{
	uint32_t action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;

	if (set->index == VFIO_PCI_INTX_IRQ_INDEX &&
	    (action == VFIO_IRQ_SET_ACTION_MASK || action == VFIO_IRQ_SET_ACTION_UNMASK ||
	     action == VFIO_IRQ_SET_ACTION_TRIGGER))
		return vfio_intx_set(device, set->flags, set->start, set->count, data);
	if (action != VFIO_IRQ_SET_ACTION_TRIGGER)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENOTTY,
				   "flags: this interrupt can only be triggered");
	switch (set->index) {
	case VFIO_PCI_MSI_IRQ_INDEX:
	case VFIO_PCI_MSIX_IRQ_INDEX:
		return msi_set(device, set->index, set->flags, set->start, set->count, data);
	case VFIO_PCI_ERR_IRQ_INDEX:
		return single_set(device, &device->err, set->flags, set->start, set->count, data);
	default:
		return single_set(device, &device->req, set->flags, set->start, set->count, data);
	}
}

/* Bytes of data behind the header, after the kernel's checks in its order. */
static int check_set(const struct vfio_device *device, const struct vfio_irq_set *set, size_t *size)
{
	const uint32_t known = VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK;
	unsigned count = vfio_device_irq_count(device, set->index);

	if (set->index >= VFIO_PCI_NUM_IRQS || set->count >= UINT32_MAX - set->start ||
	    (set->flags & ~known))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "index, start, count or flags");
	if (set->start >= count || set->start + set->count > count)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "the function has fewer interrupts of this kind");
	switch (set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK) {
	case VFIO_IRQ_SET_DATA_NONE:
		*size = 0;
		break;
	case VFIO_IRQ_SET_DATA_BOOL:
		*size = set->count;
		break;
	case VFIO_IRQ_SET_DATA_EVENTFD:
		*size = set->count * sizeof(int32_t);
		break;
	default:
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "flags: not one kind of data");
	}
	if (set->argsz - sizeof(*set) < *size)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "argsz: data missing");
	return 0;
}

long vfio_set_irqs(struct vfio_device *device, uint64_t arg)
{
	struct vfio_irq_set set;
	void *data = NULL;
	size_t size = 0;
	int ret;

	ret = vfio_copy_sized(device->vfio, &set, arg, sizeof(set));
	if (!ret)
		ret = check_set(device, &set, &size);
	if (ret)
		return ret;
	if (size) {
		data = uiommu_alloc(size);
		if (!data)
			return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
		ret = vfio_copy_in(device->vfio, data, arg + sizeof(set), size);
	}
	if (!ret)
		ret = dispatch(device, &set, data);
	uiommu_free(data, size);
	return ret;
}
