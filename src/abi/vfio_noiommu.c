/* SPDX-License-Identifier: MIT */
/*
 * VFIO's no-IOMMU mode: owns the domain that translates nothing, which a container's functions are
 * attached to, and the rule that only programs with CAP_SYS_RAWIO come in (Linux 7.2,
 * drivers/vfio/container.c). There is nothing to map, so the container has no requests of its own.
 * Where the IOMMU is a hypervisor's, functions stay attached as the hypervisor has them.
 */
#include <errno.h>

#include "abi/vfio_private.h"
#include "util/alloc.h"

struct vfio_noiommu {
	struct vfio_iommu iommu;
	struct uiommu_ioas *nothing; /* the domain's; nobody maps anything there */
};

bool vfio_is_noiommu(const struct uiommu_vfio *vfio)
{
	return vfio->facts->vfio_types & UIOMMU_VFIO_NOIOMMU;
}

int vfio_noiommu_capable(const struct uiommu_vfio *vfio)
{
	if (!vfio_is_noiommu(vfio) || vfio->facts->rawio)
		return 0;
	return vfio_refuse(UIOMMU_RULE_CAPABILITY, -EPERM,
			   "no-IOMMU mode; platform none,rawio=yes grants it");
}

static bool has_type(const struct uiommu_vfio *vfio, uint64_t type)
{
	return type == VFIO_NOIOMMU_IOMMU;
}

static int create(struct uiommu_vfio *vfio, uint64_t type, struct vfio_iommu **out)
{
	struct uiommu_domain_options options = {
		.size = sizeof(options),
		.format = "identity",
		.width = vfio->facts->width,
		.name = vfio->facts->name,
	};
	struct vfio_noiommu *none;
	int ret = vfio_noiommu_capable(vfio);

	if (ret)
		return ret;
	none = uiommu_alloc(sizeof(*none));
	if (!none)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	none->iommu.ops = &vfio_noiommu_ops;
	none->iommu.vfio = vfio;
	if (vfio->facts->xen.there) {
		*out = &none->iommu;
		return 0;
	}
	ret = uiommu_ioas_create(&none->nothing);
	if (!ret)
		ret = uiommu_domain_create(uiommu_machine_unit(vfio->machine), none->nothing,
					   &options, &none->iommu.domain);
	if (ret) {
		uiommu_ioas_destroy(none->nothing);
		uiommu_free(none, sizeof(*none));
		return ret;
	}
	*out = &none->iommu;
	return 0;
}

static void destroy(struct vfio_iommu *iommu)
{
	struct vfio_noiommu *none = (struct vfio_noiommu *)iommu;

	uiommu_domain_destroy(iommu->domain);
	uiommu_ioas_destroy(none->nothing);
	uiommu_free(none, sizeof(*none));
}

static int attach(struct vfio_iommu *iommu, const struct vfio_group *group)
{
	return iommu->domain ? vfio_iommu_attach(iommu, group) : 0;
}

static void detach(struct vfio_iommu *iommu, const struct vfio_group *group)
{
	if (iommu->domain)
		vfio_iommu_detach(iommu, group);
}

static long request(struct vfio_iommu *iommu, uint32_t number, uint64_t arg)
{
	return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -ENOTTY,
			   iommu->domain
				   ? "nothing to map: devices reach the program's own addresses"
				   : "VFIO maps nothing: the IOMMU is Xen's (hypercalls)");
}

static long extension(const struct uiommu_vfio *vfio, const struct vfio_iommu *iommu,
		      uint64_t number)
{
	return number == VFIO_NOIOMMU_IOMMU;
}

const struct vfio_iommu_ops vfio_noiommu_ops = {
	.machines = UIOMMU_VFIO_NOIOMMU,
	.has_type = has_type,
	.create = create,
	.destroy = destroy,
	.attach = attach,
	.detach = detach,
	.ioctl = request,
	.extension = extension,
};
