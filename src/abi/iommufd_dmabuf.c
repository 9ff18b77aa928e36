/* SPDX-License-Identifier: MIT */
/*
 * Files of memory that their maker can take back, as a device's memory is taken back while it is
 * reset (dma-bufs). The kernel's selftests make them; IOAS_MAP_FILE maps them.
 *
 * Invariants: one lives while it has descriptors, or areas show it. Taking it back makes the memory
 * behind our mappings of that time unreachable for good: a device's access then faults, as if
 * nothing were mapped. Giving it back allows new mappings. A page of it is never reached by the
 * program.
 *
 * Locks: dmabuf.lock, a leaf but for the files_lock that it is taken under.
 */
#include <errno.h>
#include <sys/mman.h>

#include "abi/iommufd_test.h"
#include "abi/vfio_private.h"
#include "util/alloc.h"

/* The kernel's bound: as much as one allocation of its can be. */
#define LENGTH_MAX (512 * VFIO_PAGE)

/* Our mapping of a part, for an area of an IOAS. */
struct part {
	struct part *next;
	uint64_t addr, length;
};

struct iommufd_dmabuf {
	pthread_mutex_t lock;
	unsigned refs;
	void *memory;
	uint64_t length;
	bool revoked;
	struct part *parts;
};

static struct iommufd_dmabuf *dmabuf_hold(struct iommufd_dmabuf *dmabuf)
{
	pthread_mutex_lock(&dmabuf->lock);
	dmabuf->refs++;
	pthread_mutex_unlock(&dmabuf->lock);
	return dmabuf;
}

void iommufd_dmabuf_put(struct iommufd_dmabuf *dmabuf)
{
	bool last;

	pthread_mutex_lock(&dmabuf->lock);
	last = !--dmabuf->refs;
	pthread_mutex_unlock(&dmabuf->lock);
	if (!last)
		return;
	munmap(dmabuf->memory, dmabuf->length);
	pthread_mutex_destroy(&dmabuf->lock);
	uiommu_free(dmabuf, sizeof(*dmabuf));
}

static struct iommufd_dmabuf *dmabuf_make(uint64_t length)
{
	struct iommufd_dmabuf *dmabuf = uiommu_alloc(sizeof(*dmabuf));

	if (!dmabuf)
		return NULL;
	dmabuf->memory =
		mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (dmabuf->memory == MAP_FAILED) {
		uiommu_free(dmabuf, sizeof(*dmabuf));
		return NULL;
	}
	pthread_mutex_init(&dmabuf->lock, NULL);
	dmabuf->refs = 1;
	dmabuf->length = length;
	return dmabuf;
}

int iommufd_dmabuf_create(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	uint64_t length = ((uint64_t)cmd->dmabuf_get.length + VFIO_PAGE - 1) & ~(VFIO_PAGE - 1);
	struct uiommu_vfio *vfio = call->vfio;
	struct uiommu_vfio_file *file;
	struct iommufd_dmabuf *dmabuf;
	int fd;

	if (!length || length > LENGTH_MAX)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "length: 1 to 2 MiB");
	dmabuf = dmabuf_make(length);
	if (!dmabuf)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	pthread_mutex_lock(&vfio->lock);
	file = vfio_file_create(vfio, UIOMMU_VFIO_DMABUF, dmabuf);
	pthread_mutex_unlock(&vfio->lock);
	if (!file) {
		iommufd_dmabuf_put(dmabuf);
		return -ENOMEM;
	}
	fd = vfio->host.install ? vfio->host.install(vfio->host.ctx, file) : -EOPNOTSUPP;
	if (fd >= 0)
		return fd;
	uiommu_vfio_release(file);
	return vfio_refuse(UIOMMU_RULE_LIMIT, fd, "a descriptor");
}

struct iommufd_dmabuf *iommufd_dmabuf_get(struct iommufd_call *call, int fd)
{
	struct uiommu_vfio *vfio = call->vfio;
	struct uiommu_vfio_file *file =
		fd >= 0 && vfio->host.file_of ? vfio->host.file_of(vfio->host.ctx, fd) : NULL;
	struct iommufd_dmabuf *dmabuf = NULL;

	pthread_mutex_lock(&vfio->lock);
	if (file && vfio_file_known(vfio, file, UIOMMU_VFIO_DMABUF))
		dmabuf = dmabuf_hold(file->dmabuf);
	pthread_mutex_unlock(&vfio->lock);
	return dmabuf;
}

int iommufd_dmabuf_revoke(struct iommufd_call *call, const struct iommu_test_cmd *cmd)
{
	struct iommufd_dmabuf *dmabuf = iommufd_dmabuf_get(call, cmd->dmabuf_revoke.fd);

	if (!dmabuf)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL, "dmabuf_fd: no dma-buf");
	pthread_mutex_lock(&dmabuf->lock);
	dmabuf->revoked = cmd->dmabuf_revoke.revoked;
	if (dmabuf->revoked)
		for (struct part *part = dmabuf->parts; part; part = part->next)
			mprotect((void *)(uintptr_t)part->addr, part->length, PROT_NONE);
	pthread_mutex_unlock(&dmabuf->lock);
	iommufd_dmabuf_put(dmabuf);
	return 0;
}

/* A second mapping of the same memory. */
static int map_part(struct iommufd_dmabuf *dmabuf, uint64_t offset, uint64_t length, uint64_t *addr)
{
	struct part *part = uiommu_alloc(sizeof(*part));
	void *at;

	if (!part)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	at = mremap((char *)dmabuf->memory + offset, 0, length, MREMAP_MAYMOVE);
	if (at == MAP_FAILED) {
		uiommu_free(part, sizeof(*part));
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, NULL);
	}
	*part = (struct part){dmabuf->parts, (uintptr_t)at, length};
	dmabuf->parts = part;
	*addr = part->addr;
	return 0;
}

int iommufd_dmabuf_map(struct iommufd_dmabuf *dmabuf, uint64_t offset, uint64_t length,
		       uint64_t *addr)
{
	int ret;

	pthread_mutex_lock(&dmabuf->lock);
	if (length > dmabuf->length || offset > dmabuf->length - length)
		ret = vfio_refuse(UIOMMU_RULE_ARGUMENT, -EINVAL,
				  "start + length: beyond the dma-buf");
	else if (dmabuf->revoked)
		ret = vfio_refuse(UIOMMU_RULE_SOURCE, -ENODEV, "the dma-buf was taken back");
	else
		ret = map_part(dmabuf, offset, length, addr);
	pthread_mutex_unlock(&dmabuf->lock);
	return ret;
}

void iommufd_dmabuf_unmap(struct iommufd_dmabuf *dmabuf, uint64_t addr)
{
	struct part **link = &dmabuf->parts, *part;

	pthread_mutex_lock(&dmabuf->lock);
	while ((*link)->addr != addr)
		link = &(*link)->next;
	part = *link;
	*link = part->next;
	munmap((void *)(uintptr_t)part->addr, part->length);
	pthread_mutex_unlock(&dmabuf->lock);
	uiommu_free(part, sizeof(*part));
	iommufd_dmabuf_put(dmabuf);
}
