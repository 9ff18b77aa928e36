/* SPDX-License-Identifier: MIT */
/*
 * binding.c - what the questions about iommufd have in common: objects, maps, a device bound and
 * attached.
 */
#include "ask.h"

int ioas_alloc(int iommufd, uint32_t *id)
{
	struct iommu_ioas_alloc request = {.size = sizeof(request)};
	int result = ask(iommufd, IOMMU_IOAS_ALLOC, &request);

	*id = request.out_ioas_id;
	return result;
}

int object_destroy(int iommufd, uint32_t id)
{
	struct iommu_destroy request = {.size = sizeof(request), .id = id};

	return ask(iommufd, IOMMU_DESTROY, &request);
}

int ioas_map(int iommufd, uint32_t ioas, uint32_t flags, uint64_t va, uint64_t length,
	     uint64_t *iova)
{
	struct iommu_ioas_map request = {.size = sizeof(request),
					 .flags = flags,
					 .ioas_id = ioas,
					 .user_va = va,
					 .length = length,
					 .iova = *iova};
	int result = ask(iommufd, IOMMU_IOAS_MAP, &request);

	*iova = request.iova;
	return result;
}

int ioas_unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t *length)
{
	struct iommu_ioas_unmap request = {
		.size = sizeof(request), .ioas_id = ioas, .iova = iova, .length = *length};
	int result = ask(iommufd, IOMMU_IOAS_UNMAP, &request);

	*length = request.length;
	return result;
}

static int bind_device(struct binding *binding, const char *node)
{
	struct vfio_device_bind_iommufd request = {.argsz = sizeof(request),
						   .iommufd = binding->iommufd};
	int result;

	binding->device = node[0] ? open_path(node) : -ENOENT;
	if (binding->device < 0)
		return binding->device;
	result = ask(binding->device, VFIO_DEVICE_BIND_IOMMUFD, &request);
	binding->device_id = request.out_devid;
	return result;
}

int binding_open(struct binding *binding, const struct machine *machine)
{
	int result;

	*binding = (struct binding){.device = -1};
	binding->iommufd = open_path("/dev/iommu");
	if (binding->iommufd < 0)
		return binding->iommufd;
	result = bind_device(binding, machine->device.node);
	if (!result)
		result = ioas_alloc(binding->iommufd, &binding->ioas);
	if (result)
		binding_close(binding);
	return result;
}

int binding_attach(struct binding *binding, uint32_t *pt)
{
	struct vfio_device_attach_iommufd_pt request = {.argsz = sizeof(request), .pt_id = *pt};
	int result = ask(binding->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &request);

	*pt = request.pt_id;
	return result;
}

int binding_detach(struct binding *binding)
{
	struct vfio_device_detach_iommufd_pt request = {.argsz = sizeof(request)};

	return ask(binding->device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &request);
}

void binding_close(struct binding *binding)
{
	if (binding->device >= 0)
		close(binding->device);
	if (binding->iommufd >= 0)
		close(binding->iommufd);
	binding->device = binding->iommufd = -1;
}
