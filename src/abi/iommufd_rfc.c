/* SPDX-License-Identifier: MIT */
/*
 * /dev/iommu and devices' own nodes as proposed in September 2021 (<uiommu/linux/iommufd_rfc.h>), a
 * thin translation: an IOASID is an address space of iommufd's with type 1's mappings, and a device
 * is bound and attached as iommufd has it. The order of checks and the errors are the proposal's.
 *
 * Invariants: every address space of such a context is an IOASID; it has a page table while devices
 * are attached to it, and mappings only then. A file that is bound knows by which descriptor, and
 * what it is attached to.
 *
 * Lock: iommufd.lock for all of it, mapping included. Binding, also vfio.lock before it. Freeing
 * and detaching cannot fail.
 */
#include <errno.h>

#include <uiommu/linux/iommufd_rfc.h>

#include "abi/iommufd_rfc.h"

struct ioasid {
	struct iommufd_ioas ioas; /* first: it is that object */
	int32_t number;
	uint32_t addr_width;
	unsigned devices;
	struct vfio_type1 type1; /* its mappings */
};

static int refuse_argument(const char *what)
{
	return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, what);
}

/* ---- IOASIDs ---- */

static void unmap_all(struct ioasid *ioasid)
{
	vfio_type1_unmap_all(&ioasid->type1);
}

static void destroy_ioasid(struct iommufd *iommufd, struct iommufd_object *object)
{
	struct ioasid *ioasid = (struct ioasid *)object;

	if (!ioasid->ioas.ioas)
		return;
	vfio_type1_fini(&ioasid->type1);
	iommufd_ioas_fini(&ioasid->ioas);
}

/* lock held. NULL: there is none of that number. */
static struct ioasid *find_ioasid(struct iommufd *iommufd, int32_t number)
{
	for (size_t i = 0; i < iommufd->room; i++) {
		struct iommufd_object *object = iommufd->objects[i];

		if (object && object->ready && object->type == IOMMUFD_IOAS &&
		    ((struct ioasid *)object)->number == number)
			return (struct ioasid *)object;
	}
	return NULL;
}

/* What the program asks for beyond the proposal, once. */
static int take_constraints(struct iommufd *iommufd, uint64_t arg,
			    const struct iommu_ioasid_alloc *alloc,
			    struct uiommu_ioas_options *options)
{
	struct iommu_ioasid_alloc_constrained asked;
	uint64_t top = alloc->addr_width && alloc->addr_width < 64
			       ? (UINT64_C(1) << alloc->addr_width) - 1
			       : UINT64_MAX;
	int ret;

	if (alloc->argsz < sizeof(asked))
		return refuse_argument("argsz: smaller than the struct with constraints");
	ret = vfio_copy_in(iommufd->vfio, &asked, arg, sizeof(asked));
	if (ret)
		return ret;
	if (alloc->flags & IOMMU_IOASID_RANGE) {
		options->range = (struct uiommu_range){asked.start, asked.last};
		if (asked.last <= asked.start || asked.last > top)
			return uiommu_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
					     "start and last: none, or beyond addr_width",
					     options->range, (struct uiommu_range){0, top});
	}
	if (alloc->flags & IOMMU_IOASID_PAGE_SIZE) {
		options->page_size = asked.page_size;
		if (!asked.page_size)
			return refuse_argument("page_size: 0");
	}
	return 0;
}

/* lock held. */
static int create_ioasid(struct iommufd *iommufd, const struct iommu_ioasid_alloc *alloc,
			 const struct uiommu_ioas_options *options)
{
	struct ioasid *ioasid;
	int32_t number = 0;
	int ret;

	while (find_ioasid(iommufd, number))
		number++;
	ioasid = iommufd_object_create_locked(iommufd, sizeof(*ioasid), IOMMUFD_IOAS,
					      destroy_ioasid);
	if (!ioasid)
		return -ENOMEM;
	ret = iommufd_ioas_init(iommufd, &ioasid->ioas, options);
	if (ret) {
		iommufd_object_remove(iommufd, &ioasid->ioas.obj);
		return ret;
	}
	vfio_type1_init(&ioasid->type1, iommufd->vfio, true);
	ioasid->type1.iommu.ioas = ioasid->ioas.ioas;
	ioasid->number = number;
	ioasid->addr_width = alloc->addr_width;
	iommufd_object_finish(&ioasid->ioas.obj);
	return number;
}

static long ioasid_alloc(struct iommufd *iommufd, uint64_t arg)
{
	const uint32_t extension = IOMMU_IOASID_RANGE | IOMMU_IOASID_PAGE_SIZE;
	struct uiommu_geometry geometry = {.size = sizeof(geometry)};
	struct uiommu_ioas_options options = {.size = sizeof(options)};
	struct iommu_ioasid_alloc alloc;
	int ret = vfio_copy_sized(iommufd->vfio, &alloc, arg, sizeof(alloc));

	if (ret)
		return ret;
	if (!alloc.addr_width && !(alloc.flags & IOMMU_IOASID_RANGE))
		return refuse_argument("addr_width: 0");
	if ((alloc.flags & ~extension) != IOMMU_IOASID_ENFORCE_SNOOP)
		return refuse_argument("flags: ENFORCE_SNOOP is mandatory, others are unknown");
	if (alloc.type != IOMMU_IOASID_TYPE_KERNEL_TYPE1V2)
		return refuse_argument("type: KERNEL_TYPE1V2 is the only one");
	if (alloc.flags & extension) {
		ret = take_constraints(iommufd, arg, &alloc, &options);
		if (ret)
			return ret;
		uiommu_platform_geometry(uiommu_machine_platform(iommufd->vfio->machine),
					 &geometry);
		options.geometry = &geometry;
	}
	pthread_mutex_lock(&iommufd->lock);
	ret = create_ioasid(iommufd, &alloc, options.geometry ? &options : NULL);
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

static long ioasid_free(struct iommufd *iommufd, uint64_t arg)
{
	struct ioasid *ioasid;
	int32_t number;
	int ret = vfio_copy_in(iommufd->vfio, &number, arg, sizeof(number));

	if (ret)
		return ret;
	pthread_mutex_lock(&iommufd->lock);
	ioasid = find_ioasid(iommufd, number);
	if (!ioasid)
		ret = refuse_argument("no such IOASID");
	else if (ioasid->devices)
		ret = vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "a device is attached to the IOASID");
	else
		iommufd_object_remove(iommufd, &ioasid->ioas.obj);
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

/* ---- mapping ---- */

static long dma_op(struct iommufd *iommufd, uint32_t request, uint64_t arg)
{
	struct iommu_ioasid_dma_op op;
	struct ioasid *ioasid;
	long ret = vfio_copy_sized(iommufd->vfio, &op, arg, sizeof(op));

	if (ret)
		return ret;
	if (op.flags)
		return refuse_argument("flags: must be 0");
	pthread_mutex_lock(&iommufd->lock);
	ioasid = find_ioasid(iommufd, op.ioasid);
	if (!ioasid)
		ret = refuse_argument("no such IOASID");
	else if (!ioasid->devices)
		ret = vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL,
				  "no device is attached to the IOASID");
	else
		ret = vfio_type1_ops.ioctl(&ioasid->type1.iommu, request, arg + sizeof(op));
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

/* ---- IOMMU_DEVICE_GET_INFO ---- */

/* lock held. */
static struct iommufd_device *find_device(struct iommufd *iommufd, uint64_t cookie)
{
	for (size_t i = 0; i < iommufd->room; i++) {
		struct iommufd_object *object = iommufd->objects[i];
		struct iommufd_device *device = (struct iommufd_device *)object;

		if (object && object->ready && object->type == IOMMUFD_DEVICE &&
		    device->cookie == cookie)
			return device;
	}
	return NULL;
}

/* An address space as one would be with the device attached says what it can do. */
static int ask_machine(struct uiommu_vfio *vfio, struct iommu_device_info *info,
		       struct vfio_caps *caps)
{
	struct uiommu_geometry geometry = {.size = sizeof(geometry)};
	struct uiommu_ioas_options options = {.size = sizeof(options), .geometry = &geometry};
	struct uiommu_domain *domain;
	struct uiommu_ioas *ioas;
	int ret;

	uiommu_platform_geometry(uiommu_machine_platform(vfio->machine), &geometry);
	ret = uiommu_ioas_create_constrained(&options, &ioas);
	if (ret)
		return ret;
	ret = vfio_iommu_domain(vfio, ioas, &domain);
	if (!ret) {
		info->pgsize_bitmap = vfio_iommu_page_sizes(vfio, ioas);
		ret = vfio_iommu_add_ranges(ioas, caps);
		uiommu_domain_destroy(domain);
	}
	uiommu_ioas_destroy(ioas);
	return ret;
}

static long device_info(struct iommufd *iommufd, uint64_t arg)
{
	struct uiommu_vfio *vfio = iommufd->vfio;
	struct iommu_device_info info;
	struct vfio_caps caps;
	int ret = vfio_copy_sized(vfio, &info, arg, sizeof(info));

	if (ret)
		return ret;
	vfio_caps_init(&caps, sizeof(info));
	pthread_mutex_lock(&iommufd->lock);
	if (find_device(iommufd, info.dev_cookie))
		ret = ask_machine(vfio, &info, &caps);
	else
		ret = refuse_argument("dev_cookie: no device is bound by it");
	pthread_mutex_unlock(&iommufd->lock);
	info.flags = IOMMU_DEVICE_INFO_PGSIZES | IOMMU_DEVICE_INFO_ADDR_WIDTH |
		     IOMMU_DEVICE_INFO_CAPS |
		     (vfio->facts->coherent ? IOMMU_DEVICE_INFO_ENFORCE_SNOOP : 0);
	info.addr_width = vfio->hw->width;
	info.cap_offset = 0;
	if (!ret)
		ret = vfio_caps_out(vfio, &caps, arg, &info.argsz, &info.cap_offset);
	vfio_caps_free(&caps);
	return ret ? ret : vfio_copy_out(vfio, arg, &info, sizeof(info));
}

long iommufd_rfc_ioctl(struct iommufd *iommufd, uint32_t request, uint64_t arg)
{
	switch (request) {
	case IOMMU_CHECK_EXTENSION:
		return arg == EXT_MAP_TYPE1V2;
	case IOMMU_DEVICE_GET_INFO:
		return device_info(iommufd, arg);
	case IOMMU_IOASID_ALLOC:
		return ioasid_alloc(iommufd, arg);
	case IOMMU_IOASID_FREE:
		return ioasid_free(iommufd, arg);
	case IOMMU_MAP_DMA:
		return dma_op(iommufd, VFIO_IOMMU_MAP_DMA, arg);
	case IOMMU_UNMAP_DMA:
		return dma_op(iommufd, VFIO_IOMMU_UNMAP_DMA, arg);
	default:
		return refuse_argument("an unknown request");
	}
}

/* ---- devices' nodes ---- */

static bool cookie_taken(struct iommufd *iommufd, uint64_t cookie)
{
	bool taken;

	pthread_mutex_lock(&iommufd->lock);
	taken = find_device(iommufd, cookie);
	pthread_mutex_unlock(&iommufd->lock);
	return taken;
}

/* vfio.lock held. */
static int bind_locked(struct uiommu_vfio_file *file, struct uiommu_vfio_file *to,
		       const struct vfio_device_iommu_bind_data *bind)
{
	struct vfio_device *device = file->device;
	uint32_t id;
	int ret;

	if (device->open_count)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "the device is bound");
	if (!to || !vfio_file_known(file->vfio, to, UIOMMU_VFIO_IOMMUFD))
		return refuse_argument("iommu_fd: not of /dev/iommu");
	if (cookie_taken(to->iommufd, bind->dev_cookie))
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY,
				   "dev_cookie: another device is bound by it");
	if (device->group->refs)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "the device's group is open");
	/* Nobody looks at these before it is granted. */
	file->iommu_fd = bind->iommu_fd;
	file->ioasid = IOMMUFD_RFC_NONE;
	ret = vfio_node_bind(file, to->iommufd, &id);
	if (ret)
		return ret;
	pthread_mutex_lock(&to->iommufd->lock);
	device->bound_device->cookie = bind->dev_cookie;
	pthread_mutex_unlock(&to->iommufd->lock);
	atomic_store(&file->granted, true);
	return 0;
}

/* A device that is used the old way has none of these requests. */
static bool in_container(struct uiommu_vfio_file *file)
{
	bool in;

	pthread_mutex_lock(&file->vfio->lock);
	in = file->device->group->container;
	pthread_mutex_unlock(&file->vfio->lock);
	return in;
}

static long bind(struct uiommu_vfio_file *file, uint64_t arg)
{
	struct vfio_device_iommu_bind_data bind;
	struct uiommu_vfio_file *to;
	int ret = vfio_copy_sized(file->vfio, &bind, arg, sizeof(bind)), unused;

	if (ret)
		return ret;
	if (bind.flags || bind.iommu_fd < 0)
		return refuse_argument("flags, or a negative iommu_fd");
	to = vfio_file_from_fd(file->vfio, bind.iommu_fd, UIOMMU_VFIO_IOMMUFD, -EINVAL, &unused);
	pthread_mutex_lock(&file->vfio->lock);
	ret = bind_locked(file, to, &bind);
	pthread_mutex_unlock(&file->vfio->lock);
	return ret;
}

/* lock held. */
static int attach(struct uiommu_vfio_file *file, struct iommufd *iommufd, int32_t number)
{
	struct iommufd_device *device = file->device->bound_device;
	struct ioasid *ioasid;
	uint32_t id;
	int ret;

	if (file->ioasid != IOMMUFD_RFC_NONE)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "the device is attached");
	ioasid = find_ioasid(iommufd, number);
	if (!ioasid)
		return refuse_argument("no such IOASID");
	if (!file->vfio->facts->coherent)
		return refuse_argument("the device's IOMMU does not enforce snooping");
	if (device->hw->width < ioasid->addr_width)
		return refuse_argument("the device's IOMMU is narrower than addr_width");
	if (device->group->rid_count != 1)
		return vfio_refuse(UIOMMU_RULE_VIABLE, -EINVAL,
				   "the device is not alone in its group");
	id = ioasid->ioas.obj.id;
	ret = iommufd_device_attach(iommufd, device, UIOMMU_NO_PASID, &id);
	if (ret)
		/* Type 1's word for a mapping in a reserved region. */
		return ret == -EADDRINUSE ? -EINVAL : ret;
	ioasid->devices++;
	file->ioasid = number;
	return 0;
}

/* lock held. The mappings go with the last device, as in a container. */
static void leave(struct uiommu_vfio_file *file, struct iommufd *iommufd)
{
	struct ioasid *ioasid = find_ioasid(iommufd, file->ioasid);

	iommufd_device_detach(iommufd, file->device->bound_device, UIOMMU_NO_PASID);
	file->ioasid = IOMMUFD_RFC_NONE;
	if (!--ioasid->devices)
		unmap_all(ioasid);
}

static int detach(struct uiommu_vfio_file *file, struct iommufd *iommufd, int32_t number)
{
	if (file->ioasid == IOMMUFD_RFC_NONE || file->ioasid != number)
		return refuse_argument("the device is not attached to that IOASID");
	leave(file, iommufd);
	return 0;
}

static long move(struct uiommu_vfio_file *file, uint64_t arg,
		 int (*how)(struct uiommu_vfio_file *, struct iommufd *, int32_t))
{
	struct vfio_device_attach_ioasid asked;
	struct iommufd *iommufd;
	int ret = vfio_copy_sized(file->vfio, &asked, arg, sizeof(asked));

	if (ret)
		return ret;
	if (asked.flags || asked.iommu_fd < 0 || asked.ioasid < 0)
		return refuse_argument("flags, or a negative iommu_fd or ioasid");
	if (!atomic_load(&file->granted))
		return vfio_refuse(UIOMMU_RULE_ORDER, -EINVAL, "the device is not bound");
	/* It stays what it is as long as the file. */
	iommufd = file->device->iommufd;
	pthread_mutex_lock(&iommufd->lock);
	if (asked.iommu_fd != file->iommu_fd)
		ret = refuse_argument("iommu_fd: the device is bound to another");
	else
		ret = how(file, iommufd, asked.ioasid);
	pthread_mutex_unlock(&iommufd->lock);
	return ret;
}

void iommufd_rfc_node_closing(struct uiommu_vfio_file *file)
{
	struct iommufd *iommufd = file->device->iommufd;

	pthread_mutex_lock(&iommufd->lock);
	if (file->ioasid != IOMMUFD_RFC_NONE)
		leave(file, iommufd);
	pthread_mutex_unlock(&iommufd->lock);
}

long iommufd_rfc_node_ioctl(struct uiommu_vfio_file *file, uint32_t request, uint64_t arg)
{
	bool ours = request == VFIO_DEVICE_RFC_BIND_IOMMUFD ||
		    request == VFIO_DEVICE_ATTACH_IOASID || request == VFIO_DEVICE_DETACH_IOASID;

	if (ours && in_container(file))
		return vfio_refuse(UIOMMU_RULE_ORDER, -ENOTTY, "its group is in a container");
	switch (request) {
	case VFIO_DEVICE_RFC_BIND_IOMMUFD:
		return bind(file, arg);
	case VFIO_DEVICE_ATTACH_IOASID:
		return move(file, arg, attach);
	case VFIO_DEVICE_DETACH_IOASID:
		return move(file, arg, detach);
	case VFIO_DEVICE_BIND_IOMMUFD:
		return -ENOTTY; /* of a later time */
	default:
		break;
	}
	if (!atomic_load(&file->granted))
		return vfio_refuse(UIOMMU_RULE_ORDER, -ENODEV, "the device is not bound");
	return vfio_device_ioctl(file->device, request, arg);
}

const char *iommufd_rfc_request_name(bool node, uint32_t request)
{
	static const struct {
		bool node;
		uint32_t request;
		const char *name;
	} names[] = {
		{false, IOMMU_CHECK_EXTENSION, "IOMMU_CHECK_EXTENSION"},
		{false, IOMMU_DEVICE_GET_INFO, "IOMMU_DEVICE_GET_INFO"},
		{false, IOMMU_IOASID_ALLOC, "IOMMU_IOASID_ALLOC"},
		{false, IOMMU_IOASID_FREE, "IOMMU_IOASID_FREE"},
		{false, IOMMU_MAP_DMA, "IOMMU_MAP_DMA"},
		{false, IOMMU_UNMAP_DMA, "IOMMU_UNMAP_DMA"},
		{true, VFIO_DEVICE_RFC_BIND_IOMMUFD, "VFIO_DEVICE_BIND_IOMMUFD"},
		{true, VFIO_DEVICE_ATTACH_IOASID, "VFIO_DEVICE_ATTACH_IOASID"},
		{true, VFIO_DEVICE_DETACH_IOASID, "VFIO_DEVICE_DETACH_IOASID"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].node == node && names[i].request == request)
			return names[i].name;
	return NULL;
}
