/* SPDX-License-Identifier: MIT */
/*
 * The VFIO front end itself: owns the list of open files, hands each request to the object behind
 * the file, and reports what was refused.
 *
 * A file is what Linux has behind an open file description. Releasing one takes down what only it
 * held, in whatever order files are released: a container lives until the last group has left, a
 * group stays open while a device of it is. Release and destroy cannot fail.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <uiommu/linux/vfio_pamu.h>

#include "abi/iommufd_rfc.h"
#include "abi/iommufd_test.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

/* ---- creation ---- */

static void free_tables(struct uiommu_vfio *vfio)
{
	for (size_t i = 0; vfio->devices && i < vfio->device_count; i++) {
		pthread_mutex_destroy(&vfio->devices[i].lock);
		pthread_mutex_destroy(&vfio->devices[i].irq_lock);
	}
	vfio_hw_destroy(vfio->hw);
	iommufd_mock_destroy(vfio->mock);
	uiommu_free(vfio->devices, vfio->device_count * sizeof(*vfio->devices));
	uiommu_free(vfio->groups, vfio->device_count * sizeof(*vfio->groups));
}

static struct vfio_group *group_for(struct uiommu_vfio *vfio, unsigned number)
{
	struct vfio_group *group = vfio_group_find(vfio, number);

	if (!group) {
		group = &vfio->groups[vfio->group_count++];
		group->number = number;
	}
	return group;
}

static int make_tables(struct uiommu_vfio *vfio)
{
	while (uiommu_machine_function(vfio->machine, vfio->device_count))
		vfio->device_count++;
	if (!vfio->device_count)
		return 0;
	vfio->devices = uiommu_alloc_array(vfio->device_count, sizeof(*vfio->devices));
	vfio->groups = uiommu_alloc_array(vfio->device_count, sizeof(*vfio->groups));
	for (size_t i = 0; vfio->devices && i < vfio->device_count; i++) {
		struct vfio_device *device = &vfio->devices[i];

		pthread_mutex_init(&device->lock, NULL);
		pthread_mutex_init(&device->irq_lock, NULL);
	}
	if (!vfio->devices || !vfio->groups)
		return -ENOMEM;
	for (size_t i = 0; i < vfio->device_count; i++) {
		struct vfio_device *device = &vfio->devices[i];

		device->vfio = vfio;
		device->fn = uiommu_machine_function(vfio->machine, i);
		device->info = uiommu_function_info(device->fn);
		device->group = group_for(vfio, device->info->group);
		device->bound = device->info->driver && !strcmp(device->info->driver, "vfio-pci");
		device->irq_type = VFIO_PCI_NUM_IRQS;
		device->wakeup = device->unmask = -1;
		device->intx = device->err = device->req = -1;
	}
	return 0;
}

/* What the firmware does: give each BAR that has none an address, below 4 GiB if need be. */
static void assign_bars(struct uiommu_vfio *vfio)
{
	uint64_t low = 0xc0000000, high = UINT64_C(0x800000000000);

	for (size_t i = 0; i < vfio->device_count; i++) {
		const struct uiommu_bar *bars = vfio->devices[i].info->model->bars;
		struct uiommu_function *fn = vfio->devices[i].fn;

		for (unsigned bar = 0; bar < UIOMMU_BARS; bar++) {
			bool wide = bars[bar].flags & UIOMMU_BAR_64;
			uint64_t *next = wide ? &high : &low, size = bars[bar].size;
			unsigned pos = PCI_BASE_ADDRESS_0 + 4 * bar;
			uint64_t address = size ? (*next + size - 1) & ~(size - 1) : 0;

			if (!size || (uiommu_function_config_read(fn, pos, 4) & ~0xfu) ||
			    (!wide && address + size > 0xfec00000))
				continue;
			uiommu_function_config_write(fn, pos, 4, address);
			if (wide)
				uiommu_function_config_write(fn, pos + 4, 4, address >> 32);
			*next = address + size;
		}
	}
}

UIOMMU_API int uiommu_vfio_create(struct uiommu_machine *machine,
				  const struct uiommu_vfio_options *options,
				  struct uiommu_vfio **out)
{
	struct uiommu_vfio_options opt = {.size = sizeof(opt)};
	struct uiommu_vfio *vfio;

	if (options && options->size > sizeof(opt))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -E2BIG, "options of a newer version");
	if (options && (options->size < sizeof(opt) || options->host.size > sizeof(opt.host)))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "options: wrong size");
	if (options)
		opt = *options;
	vfio = uiommu_alloc(sizeof(*vfio));
	if (!vfio)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	vfio->machine = machine;
	vfio->facts = uiommu_platform_facts(uiommu_machine_platform(machine));
	vfio->host = opt.host;
	vfio->dma_entry_limit = opt.dma_entry_limit ? opt.dma_entry_limit : 65535;
	vfio->memlock = opt.memlock;
	vfio->unsafe_interrupts = opt.unsafe_interrupts;
	vfio->iommufd_rfc = opt.iommufd_rfc;
	vfio->hw = vfio_hw_create(vfio);
	if (!vfio->hw || (opt.iommufd_test && iommufd_mock_create(vfio, &vfio->mock)) ||
	    make_tables(vfio)) {
		free_tables(vfio);
		uiommu_free(vfio, sizeof(*vfio));
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	}
	pthread_mutex_init(&vfio->lock, NULL);
	pthread_mutex_init(&vfio->account_lock, NULL);
	vfio_waiter_init(vfio);
	vfio_memory_init(&vfio->memory);
	assign_bars(vfio);
	for (size_t i = 0; vfio_is_noiommu(vfio) && i < vfio->device_count; i++)
		if (vfio->devices[i].bound)
			vfio_log(
				vfio,
				"vfio-pci %s: Adding kernel taint for vfio-noiommu group on device",
				vfio->devices[i].info->name);
	*out = vfio;
	return 0;
}

UIOMMU_API void uiommu_vfio_destroy(struct uiommu_vfio *vfio)
{
	if (!vfio)
		return;
	while (vfio->files)
		uiommu_vfio_release(vfio->files);
	vfio_waiter_fini(vfio);
	vfio_memory_fini(&vfio->memory);
	pthread_mutex_destroy(&vfio->account_lock);
	pthread_mutex_destroy(&vfio->lock);
	free_tables(vfio);
	uiommu_free(vfio, sizeof(*vfio));
}

/* ---- refusals ---- */

/* A refusal that nobody explained: say what its errno means here. */
static void explain(int error)
{
	switch (-error) {
	case ENOTTY:
		vfio_refuse(UIOMMU_RULE_UNSUPPORTED, error, "this file has no such request");
		break;
	case ENOMEM:
		vfio_refuse(UIOMMU_RULE_NO_MEMORY, error, NULL);
		break;
	case EFAULT:
		vfio_refuse(UIOMMU_RULE_ADDRESS, error, "a pointer of the program's");
		break;
	case EBUSY:
		vfio_refuse(UIOMMU_RULE_BUSY, error, NULL);
		break;
	default:
		vfio_refuse(UIOMMU_RULE_ARGUMENT, error, NULL);
	}
}

static long answered(struct uiommu_vfio *vfio, const char *what, long ret)
{
	const struct uiommu_refusal *last = uiommu_last_refusal();

	if (ret >= 0)
		return ret;
	atomic_fetch_add_explicit(&vfio->counters.refused, 1, memory_order_relaxed);
	if (last->rule == UIOMMU_RULE_NONE) {
		explain(ret);
	} else if (last->error != ret) {
		/* A layer below refused with its own errno; the program gets the kernel's. */
		struct uiommu_refusal copy = *last;

		if (copy.rule == UIOMMU_RULE_RESERVED || copy.rule == UIOMMU_RULE_APERTURE)
			uiommu_refuse_reserved(ret, copy.owner, copy.asked, copy.blocking,
					       copy.resv);
		else
			uiommu_refuse(copy.rule, ret, copy.owner, copy.asked, copy.blocking);
	}
	if (vfio->host.refused)
		vfio->host.refused(vfio->host.ctx, what, last);
	return ret;
}

/* ---- files ---- */

struct uiommu_vfio_file *vfio_file_create(struct uiommu_vfio *vfio, enum uiommu_vfio_kind kind,
					  void *object)
{
	struct uiommu_vfio_file *file = uiommu_alloc(sizeof(*file));

	if (!file) {
		vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
		return NULL;
	}
	file->kind = kind;
	file->vfio = vfio;
	file->container = object;
	file->next = vfio->files;
	vfio->files = file;
	return file;
}

bool vfio_file_known(const struct uiommu_vfio *vfio, const struct uiommu_vfio_file *file,
		     enum uiommu_vfio_kind kind)
{
	const struct uiommu_vfio_file *known = vfio->files;

	while (known && known != file)
		known = known->next;
	return known && known->kind == kind;
}

struct uiommu_vfio_file *vfio_file_from_fd(struct uiommu_vfio *vfio, int fd,
					   enum uiommu_vfio_kind kind, int other, int *error)
{
	struct uiommu_vfio_file *file = NULL;
	bool known = false;

	if (fd >= 0 && vfio->host.file_of)
		file = vfio->host.file_of(vfio->host.ctx, fd);
	if (file) {
		/* Another thread may have closed it meanwhile. */
		pthread_mutex_lock(&vfio->lock);
		known = vfio_file_known(vfio, file, kind);
		pthread_mutex_unlock(&vfio->lock);
	}
	if (known)
		return file;
	*error = file ? other : vfio_unknown_descriptor(fd, other);
	vfio_refuse(UIOMMU_RULE_ARGUMENT, *error,
		    *error == -EBADF		    ? "the descriptor is not open"
		    : kind == UIOMMU_VFIO_CONTAINER ? "the descriptor is no container's"
		    : kind == UIOMMU_VFIO_IOMMUFD   ? "the descriptor is not of /dev/iommu"
						    : "the descriptor is no group's");
	return NULL;
}

UIOMMU_API int uiommu_vfio_open_container(struct uiommu_vfio *vfio, struct uiommu_vfio_file **out)
{
	struct uiommu_vfio_file *file = NULL;
	struct vfio_container *container;

	uiommu_clear_refusal();
	pthread_mutex_lock(&vfio->lock);
	container = vfio_container_create(vfio);
	if (container)
		file = vfio_file_create(vfio, UIOMMU_VFIO_CONTAINER, container);
	if (container && !file)
		vfio_container_put(container);
	pthread_mutex_unlock(&vfio->lock);
	if (!file)
		return answered(vfio, "open of a container", -ENOMEM);
	*out = file;
	return 0;
}

static int open_group(struct uiommu_vfio *vfio, unsigned number, struct uiommu_vfio_file **out)
{
	struct vfio_group *group = vfio_group_find(vfio, number);
	int ret;

	if (!group || !vfio_group_has_bound(vfio, group))
		return vfio_refuse(UIOMMU_RULE_VIABLE, -ENODEV,
				   "no function of this group is bound to vfio-pci");
	ret = vfio_noiommu_capable(vfio);
	if (ret)
		return ret;
	if (group->refs)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY,
				   "the group is open, or a device of it is");
	if (group->nodes)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY,
				   "a device of the group is open by its own node");
	*out = vfio_file_create(vfio, UIOMMU_VFIO_GROUP, group);
	if (!*out)
		return -ENOMEM;
	group->refs = 1;
	return 0;
}

UIOMMU_API int uiommu_vfio_open_group(struct uiommu_vfio *vfio, unsigned number,
				      struct uiommu_vfio_file **out)
{
	struct uiommu_vfio_file *file = NULL;
	int ret;

	uiommu_clear_refusal();
	pthread_mutex_lock(&vfio->lock);
	ret = open_group(vfio, number, &file);
	pthread_mutex_unlock(&vfio->lock);
	if (ret)
		return answered(vfio, "open of a group", ret);
	*out = file;
	return 0;
}

UIOMMU_API int uiommu_vfio_open_iommufd(struct uiommu_vfio *vfio, struct uiommu_vfio_file **out)
{
	struct uiommu_vfio_file *file = NULL;
	struct iommufd *iommufd;

	uiommu_clear_refusal();
	pthread_mutex_lock(&vfio->lock);
	iommufd = iommufd_create(vfio);
	if (iommufd)
		file = vfio_file_create(vfio, UIOMMU_VFIO_IOMMUFD, iommufd);
	if (iommufd && !file)
		iommufd_put_ref(iommufd);
	pthread_mutex_unlock(&vfio->lock);
	if (!file)
		return answered(vfio, "open of /dev/iommu", -ENOMEM);
	*out = file;
	return 0;
}

static struct vfio_device *node(struct uiommu_vfio *vfio, unsigned number)
{
	for (size_t i = 0; vfio->facts->format && i < vfio->device_count; i++)
		if (vfio->devices[i].bound && !number--)
			return &vfio->devices[i];
	return NULL;
}

UIOMMU_API int uiommu_vfio_open_node(struct uiommu_vfio *vfio, unsigned number,
				     struct uiommu_vfio_file **out)
{
	struct vfio_device *device = node(vfio, number);
	struct uiommu_vfio_file *file;

	uiommu_clear_refusal();
	if (!device)
		return answered(vfio, "open of a device",
				vfio_refuse(UIOMMU_RULE_ARGUMENT, -ENODEV, "no such device"));
	pthread_mutex_lock(&vfio->lock);
	file = vfio_file_create(vfio, UIOMMU_VFIO_DEVICE, device);
	if (file)
		file->node = true;
	pthread_mutex_unlock(&vfio->lock);
	if (!file)
		return answered(vfio, "open of a device", -ENOMEM);
	*out = file;
	return 0;
}

UIOMMU_API void uiommu_vfio_release(struct uiommu_vfio_file *file)
{
	struct uiommu_vfio *vfio = file->vfio;
	struct uiommu_vfio_file **link = &vfio->files;

	if (file->node)
		vfio_node_close(file);
	pthread_mutex_lock(&vfio->lock);
	while (*link != file)
		link = &(*link)->next;
	*link = file->next;
	switch (file->kind) {
	case UIOMMU_VFIO_CONTAINER:
		vfio_container_put(file->container);
		break;
	case UIOMMU_VFIO_GROUP:
		vfio_group_put(vfio, file->group);
		break;
	case UIOMMU_VFIO_DEVICE:
		if (!file->node)
			vfio_device_close(file->device);
		break;
	case UIOMMU_VFIO_MSI_BANK:
		break;
	case UIOMMU_VFIO_IOMMUFD:
		iommufd_put_ref(file->iommufd);
		break;
	case UIOMMU_VFIO_QUEUE:
		iommufd_queue_release(file->queue);
		break;
	case UIOMMU_VFIO_PAGE:
		iommufd_page_unmapped(file->page);
		break;
	case UIOMMU_VFIO_ACCESS:
		iommufd_access_closed(file->access);
		break;
	case UIOMMU_VFIO_DMABUF:
		iommufd_dmabuf_put(file->dmabuf);
		break;
	}
	pthread_mutex_unlock(&vfio->lock);
	uiommu_free(file, sizeof(*file));
}

UIOMMU_API enum uiommu_vfio_kind uiommu_vfio_file_kind(const struct uiommu_vfio_file *file)
{
	return file->kind;
}

UIOMMU_API struct uiommu_function *uiommu_vfio_file_function(const struct uiommu_vfio_file *file)
{
	return file->kind == UIOMMU_VFIO_DEVICE ? file->device->fn : NULL;
}

/* ---- requests ---- */

static const char *request_name(const struct uiommu_vfio *vfio, enum uiommu_vfio_kind kind,
				uint32_t request)
{
	static const struct {
		enum uiommu_vfio_kind kind;
		uint32_t request;
		const char *name;
		unsigned machines; /* that have it by this name; 0: all */
	} names[] = {
		{UIOMMU_VFIO_CONTAINER, VFIO_SET_IOMMU, "VFIO_SET_IOMMU"},
		/* POWER's have numbers of others'. */
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_SPAPR_TCE_GET_INFO,
		 "VFIO_IOMMU_SPAPR_TCE_GET_INFO", UIOMMU_VFIO_SPAPR},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_ENABLE, "VFIO_IOMMU_ENABLE", UIOMMU_VFIO_SPAPR},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
		 "VFIO_IOMMU_SPAPR_REGISTER_MEMORY", UIOMMU_VFIO_SPAPR},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
		 "VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY", UIOMMU_VFIO_SPAPR},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_SPAPR_TCE_CREATE, "VFIO_IOMMU_SPAPR_TCE_CREATE",
		 UIOMMU_VFIO_SPAPR},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_SPAPR_TCE_REMOVE, "VFIO_IOMMU_SPAPR_TCE_REMOVE",
		 UIOMMU_VFIO_SPAPR},
		{UIOMMU_VFIO_CONTAINER, VFIO_EEH_PE_OP, "VFIO_EEH_PE_OP", UIOMMU_VFIO_SPAPR},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_GET_INFO, "VFIO_IOMMU_GET_INFO"},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_MAP_DMA, "VFIO_IOMMU_MAP_DMA"},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_UNMAP_DMA, "VFIO_IOMMU_UNMAP_DMA"},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_DIRTY_PAGES, "VFIO_IOMMU_DIRTY_PAGES"},
		{UIOMMU_VFIO_GROUP, VFIO_GROUP_GET_STATUS, "VFIO_GROUP_GET_STATUS"},
		{UIOMMU_VFIO_GROUP, VFIO_GROUP_SET_CONTAINER, "VFIO_GROUP_SET_CONTAINER"},
		{UIOMMU_VFIO_GROUP, VFIO_GROUP_UNSET_CONTAINER, "VFIO_GROUP_UNSET_CONTAINER"},
		{UIOMMU_VFIO_GROUP, VFIO_GROUP_GET_DEVICE_FD, "VFIO_GROUP_GET_DEVICE_FD"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_GET_INFO, "VFIO_DEVICE_GET_INFO"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_GET_REGION_INFO, "VFIO_DEVICE_GET_REGION_INFO"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_GET_IRQ_INFO, "VFIO_DEVICE_GET_IRQ_INFO"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_SET_IRQS, "VFIO_DEVICE_SET_IRQS"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_RESET, "VFIO_DEVICE_RESET"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
		 "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_PCI_HOT_RESET, "VFIO_DEVICE_PCI_HOT_RESET"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_IOEVENTFD, "VFIO_DEVICE_IOEVENTFD"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_FEATURE, "VFIO_DEVICE_FEATURE"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_BIND_IOMMUFD, "VFIO_DEVICE_BIND_IOMMUFD"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_ATTACH_IOMMUFD_PT,
		 "VFIO_DEVICE_ATTACH_IOMMUFD_PT"},
		{UIOMMU_VFIO_DEVICE, VFIO_DEVICE_DETACH_IOMMUFD_PT,
		 "VFIO_DEVICE_DETACH_IOMMUFD_PT"},
		{UIOMMU_VFIO_GROUP, VFIO_GROUP_GET_MSI_FD, "VFIO_GROUP_GET_MSI_FD",
		 UIOMMU_VFIO_PAMU},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_PAMU_GET_ATTR, "VFIO_IOMMU_PAMU_GET_ATTR",
		 UIOMMU_VFIO_PAMU},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_PAMU_SET_ATTR, "VFIO_IOMMU_PAMU_SET_ATTR",
		 UIOMMU_VFIO_PAMU},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_PAMU_MAP_MSI_BANK,
		 "VFIO_IOMMU_PAMU_MAP_MSI_BANK", UIOMMU_VFIO_PAMU},
		{UIOMMU_VFIO_CONTAINER, VFIO_IOMMU_PAMU_UNMAP_MSI_BANK,
		 "VFIO_IOMMU_PAMU_UNMAP_MSI_BANK", UIOMMU_VFIO_PAMU},
	};

	if (vfio->iommufd_rfc && (kind == UIOMMU_VFIO_IOMMUFD || kind == UIOMMU_VFIO_DEVICE)) {
		const char *name = iommufd_rfc_request_name(kind == UIOMMU_VFIO_DEVICE, request);

		if (name || kind == UIOMMU_VFIO_IOMMUFD)
			return name ? name : "ioctl";
	}
	if (kind == UIOMMU_VFIO_IOMMUFD && iommufd_request_name(request))
		return iommufd_request_name(request);
	if (kind == UIOMMU_VFIO_IOMMUFD)
		kind = UIOMMU_VFIO_CONTAINER; /* what it can be used as */
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].kind == kind && names[i].request == request &&
		    (!names[i].machines || (names[i].machines & vfio->facts->vfio_types)))
			return names[i].name;
	return "ioctl";
}

UIOMMU_API long uiommu_vfio_ioctl(struct uiommu_vfio_file *file, unsigned long request,
				  unsigned long arg)
{
	struct uiommu_vfio *vfio = file->vfio;
	uint32_t cmd = request;
	long ret = -ENOTTY;

	uiommu_clear_refusal();
	switch (file->kind) {
	case UIOMMU_VFIO_CONTAINER:
		ret = vfio_container_ioctl(file->container, cmd, arg);
		break;
	case UIOMMU_VFIO_GROUP:
		ret = vfio_group_ioctl(vfio, file->group, cmd, arg);
		break;
	case UIOMMU_VFIO_DEVICE:
		if (!file->node)
			ret = vfio_device_ioctl(file->device, cmd, arg);
		else if (vfio->iommufd_rfc)
			ret = iommufd_rfc_node_ioctl(file, cmd, arg);
		else
			ret = vfio_node_ioctl(file, cmd, arg);
		break;
	case UIOMMU_VFIO_MSI_BANK:
	case UIOMMU_VFIO_QUEUE:
	case UIOMMU_VFIO_PAGE:
	case UIOMMU_VFIO_ACCESS:
	case UIOMMU_VFIO_DMABUF:
		break;
	case UIOMMU_VFIO_IOMMUFD:
		ret = vfio->iommufd_rfc ? iommufd_rfc_ioctl(file->iommufd, cmd, arg)
					: iommufd_ioctl(file->iommufd, cmd, arg);
		break;
	}
	return ret < 0 ? answered(vfio, request_name(vfio, file->kind, cmd), ret) : ret;
}

/* A device's own node before BIND: reading, writing and mapping it. */
static int refuse_unbound(const struct uiommu_vfio *vfio)
{
	return vfio_refuse(UIOMMU_RULE_ORDER, vfio->iommufd_rfc ? -ENODEV : -EINVAL,
			   "the device is not bound yet (VFIO_DEVICE_BIND_IOMMUFD)");
}

static ssize_t file_rw(struct uiommu_vfio_file *file, uint64_t buf, size_t count, uint64_t offset,
		       bool write)
{
	ssize_t ret;

	uiommu_clear_refusal();
	if (file->kind == UIOMMU_VFIO_QUEUE)
		ret = offset ? vfio_refuse(UIOMMU_RULE_ARGUMENT, -ESPIPE, "a queue has no offsets")
			     : iommufd_queue_rw(file->queue, buf, count, write);
	else if (file->kind != UIOMMU_VFIO_DEVICE)
		ret = vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "only devices are read");
	else if (file->node && !atomic_load(&file->granted))
		ret = refuse_unbound(file->vfio);
	else if ((ssize_t)count < 0 || (int64_t)offset < 0)
		ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "negative count or offset");
	else
		ret = vfio_device_rw(file->device, buf, count, offset, write);
	return ret < 0 ? answered(file->vfio, write ? "pwrite" : "pread", ret) : ret;
}

UIOMMU_API ssize_t uiommu_vfio_pread(struct uiommu_vfio_file *file, void *buf, size_t count,
				     uint64_t offset)
{
	return file_rw(file, (uintptr_t)buf, count, offset, false);
}

UIOMMU_API ssize_t uiommu_vfio_pwrite(struct uiommu_vfio_file *file, const void *buf, size_t count,
				      uint64_t offset)
{
	return file_rw(file, (uintptr_t)buf, count, offset, true);
}

static int check_mmap(struct uiommu_vfio_file *file, uint64_t length, int flags, uint64_t offset)
{
	uint64_t start = offset & VFIO_OFFSET_MASK, index = offset >> VFIO_OFFSET_SHIFT, size;
	int type = flags & MAP_TYPE;
	bool bank = file->kind == UIOMMU_VFIO_MSI_BANK;

	/* iommufd maps only what it has handed out offsets for: nothing here. */
	if (file->kind == UIOMMU_VFIO_IOMMUFD)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENXIO, "no such offset");
	if (file->kind != UIOMMU_VFIO_DEVICE && !bank)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENODEV, "only devices are mapped");
	if (file->node && !atomic_load(&file->granted))
		return refuse_unbound(file->vfio);
	if (type != MAP_SHARED && type != MAP_SHARED_VALIDATE)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "must be MAP_SHARED");
	if (bank && (offset || !length || length > VFIO_PAGE))
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "an MSI bank has one page");
	if (bank)
		return 0;
	if (index > VFIO_PCI_BAR5_REGION_INDEX)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "only BARs can be mapped");
	size = vfio_device_bar_size(file->device, index);
	if (!size)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "the function lacks this BAR");
	if (!length || (offset & (VFIO_PAGE - 1)))
		return vfio_refuse(UIOMMU_RULE_ALIGNMENT, -EINVAL, "mmap offset or length");
	length = (add_sat(length, VFIO_PAGE - 1)) & ~(VFIO_PAGE - 1);
	if (length > size || start > size - length)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "runs past the end of the BAR");
	return 0;
}

UIOMMU_API int uiommu_vfio_mmap(struct uiommu_vfio_file *file, size_t length, int prot, int flags,
				uint64_t offset, struct uiommu_vfio_mapping *mapping)
{
	const struct uiommu_bar *bar;
	int ret;

	uiommu_clear_refusal();
	*mapping = (struct uiommu_vfio_mapping){0};
	if (file->kind == UIOMMU_VFIO_IOMMUFD) {
		ret = iommufd_mmap(file->iommufd, length, prot, flags, offset, mapping);
		return ret ? answered(file->vfio, "mmap", ret) : 0;
	}
	ret = check_mmap(file, length, flags, offset);
	if (ret)
		return answered(file->vfio, "mmap", ret);
	if (file->kind == UIOMMU_VFIO_MSI_BANK) {
		*mapping = (struct uiommu_vfio_mapping){.doorbell = file->bank->range.first};
		return 0;
	}
	bar = &file->device->info->model->bars[offset >> VFIO_OFFSET_SHIFT];
	mapping->function = file->device->fn;
	mapping->bar = offset >> VFIO_OFFSET_SHIFT;
	mapping->offset = offset & VFIO_OFFSET_MASK;
	mapping->fd = uiommu_function_fd(file->device->fn);
	mapping->fd_offset = offset;
	mapping->trap_reads = bar->flags & UIOMMU_BAR_TRAP_READS;
	return 0;
}

/* ---- walks, statistics, fork ---- */

UIOMMU_API void uiommu_vfio_each_ioas(struct uiommu_vfio *vfio,
				      void (*each)(void *ctx, struct uiommu_ioas *ioas,
						   const char *name),
				      void *ctx)
{
	char name[32];

	pthread_mutex_lock(&vfio->lock);
	for (struct vfio_container *c = vfio->containers; c; c = c->next) {
		if (!c->iommu || !c->iommu->ioas)
			continue;
		snprintf(name, sizeof(name), "container %u", c->number);
		each(ctx, c->iommu->ioas, name);
	}
	for (struct iommufd *i = vfio->iommufds; i; i = i->next)
		iommufd_each_ioas(i, each, ctx);
	pthread_mutex_unlock(&vfio->lock);
}

UIOMMU_API void uiommu_vfio_stats(struct uiommu_vfio *vfio, struct uiommu_vfio_stats *stats)
{
	struct vfio_counters *c = &vfio->counters;

	stats->maps = atomic_load_explicit(&c->maps, memory_order_relaxed);
	stats->unmaps = atomic_load_explicit(&c->unmaps, memory_order_relaxed);
	stats->live = atomic_load_explicit(&c->live, memory_order_relaxed);
	stats->live_bytes = atomic_load_explicit(&c->live_bytes, memory_order_relaxed);
	stats->most = atomic_load_explicit(&c->most, memory_order_relaxed);
	stats->largest = atomic_load_explicit(&c->largest, memory_order_relaxed);
	stats->refused = atomic_load_explicit(&c->refused, memory_order_relaxed);
}

UIOMMU_API void uiommu_vfio_fork_prepare(struct uiommu_vfio *vfio)
{
	pthread_mutex_lock(&vfio->lock);
	for (struct vfio_container *c = vfio->containers; c; c = c->next)
		pthread_mutex_lock(&c->lock);
	for (struct iommufd *i = vfio->iommufds; i; i = i->next)
		iommufd_fork_prepare(i);
	for (size_t i = 0; i < vfio->device_count; i++)
		pthread_mutex_lock(&vfio->devices[i].lock);
	pthread_mutex_lock(&vfio->waiter.lock);
}

UIOMMU_API void uiommu_vfio_fork_parent(struct uiommu_vfio *vfio)
{
	pthread_mutex_unlock(&vfio->waiter.lock);
	for (size_t i = vfio->device_count; i--;)
		pthread_mutex_unlock(&vfio->devices[i].lock);
	for (struct iommufd *i = vfio->iommufds; i; i = i->next)
		iommufd_fork_done(i);
	for (struct vfio_container *c = vfio->containers; c; c = c->next)
		pthread_mutex_unlock(&c->lock);
	pthread_mutex_unlock(&vfio->lock);
}

UIOMMU_API void uiommu_vfio_fork_child(struct uiommu_vfio *vfio)
{
	/* No irq_lock was held: handlers run under a function's lock, which the machine's
	 * preparation took, or under a device's. */
	vfio_waiter_fork_child(vfio);
	uiommu_vfio_fork_parent(vfio);
}
