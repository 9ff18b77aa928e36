/* SPDX-License-Identifier: MIT */
/*
 * Queues that are read as files: what those of a vIOMMU's events and of devices' page requests have
 * in common. Owns a queue's file.
 *
 * The file rests on the queue and keeps its iommufd, so a queue goes after its file. The file is
 * readable (poll) exactly while there is something to read: the host is told under the queue's
 * lock, which is a leaf, for events come from ports' sections. Reads are one at a time, for what
 * can't be written to the program stays in the queue.
 */
#include <errno.h>

#include "abi/iommufd.h"
#include "abi/vfio_private.h"

void *iommufd_queue_create(struct iommufd *iommufd, size_t size, enum iommufd_type type,
			   const struct iommufd_queue_ops *ops,
			   void (*destroy)(struct iommufd *, struct iommufd_object *))
{
	struct iommufd_queue *queue = iommufd_object_create_locked(iommufd, size, type, destroy);

	if (!queue)
		return NULL;
	queue->iommufd = iommufd;
	queue->ops = ops;
	pthread_mutex_init(&queue->lock, NULL);
	pthread_mutex_init(&queue->read_lock, NULL);
	return queue;
}

void iommufd_queue_destroy(struct iommufd_queue *queue)
{
	pthread_mutex_destroy(&queue->read_lock);
	pthread_mutex_destroy(&queue->lock);
}

void iommufd_queue_lock(struct iommufd_queue *queue)
{
	pthread_mutex_lock(&queue->read_lock);
	pthread_mutex_lock(&queue->lock);
}

void iommufd_queue_unlock(struct iommufd_queue *queue)
{
	pthread_mutex_unlock(&queue->lock);
	pthread_mutex_unlock(&queue->read_lock);
}

void iommufd_queue_tell(struct iommufd_queue *queue, bool readable)
{
	const struct uiommu_vfio_host *host = &queue->iommufd->vfio->host;

	if (readable == queue->readable || !queue->file)
		return;
	queue->readable = readable;
	if (host->queue_readable)
		host->queue_readable(host->ctx, queue->file, readable);
}

/* ---- the file ---- */

/* vfio.lock and iommufd.lock held. */
static struct uiommu_vfio_file *make_file(struct iommufd_queue *queue)
{
	struct uiommu_vfio_file *file =
		vfio_file_create(queue->iommufd->vfio, UIOMMU_VFIO_QUEUE, queue);

	if (!file)
		return NULL;
	iommufd_get_ref(queue->iommufd);
	queue->obj.users++;
	pthread_mutex_lock(&queue->lock);
	queue->file = file;
	pthread_mutex_unlock(&queue->lock);
	return file;
}

static int open_file(struct iommufd_call *call, struct iommufd_queue *queue)
{
	struct uiommu_vfio *vfio = call->vfio;
	struct uiommu_vfio_file *file;
	int fd;

	if (!vfio->host.install)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EMFILE,
				   "the host makes no descriptors");
	pthread_mutex_lock(&vfio->lock);
	pthread_mutex_lock(&call->iommufd->lock);
	file = make_file(queue);
	pthread_mutex_unlock(&call->iommufd->lock);
	pthread_mutex_unlock(&vfio->lock);
	if (!file)
		return -ENOMEM;
	fd = vfio->host.install(vfio->host.ctx, file);
	if (fd >= 0)
		return fd;
	uiommu_vfio_release(file);
	return vfio_refuse(UIOMMU_RULE_LIMIT, fd, "no descriptor for the queue");
}

/* The descriptor can't be taken back, so see first whether its number can be told. */
int iommufd_queue_respond(struct iommufd_call *call, struct iommufd_queue *queue, uint32_t *out)
{
	int ret = iommufd_respond(call);

	if (ret)
		return ret;
	ret = open_file(call, queue);
	if (ret < 0)
		return ret;
	*out = (uint32_t)ret;
	return iommufd_respond(call);
}

void iommufd_queue_release(struct iommufd_queue *queue)
{
	struct iommufd *iommufd = queue->iommufd;

	pthread_mutex_lock(&iommufd->lock);
	pthread_mutex_lock(&queue->lock);
	queue->file = NULL;
	pthread_mutex_unlock(&queue->lock);
	queue->obj.users--;
	pthread_mutex_unlock(&iommufd->lock);
	iommufd_put_ref(iommufd);
}

ssize_t iommufd_queue_rw(struct iommufd_queue *queue, uint64_t buf, size_t count, bool write)
{
	ssize_t ret;

	if (write && !queue->ops->write)
		return vfio_refuse(UIOMMU_RULE_UNSUPPORTED, -EINVAL, "a queue that is only read");
	pthread_mutex_lock(&queue->read_lock);
	ret = write ? queue->ops->write(queue, buf, count) : queue->ops->read(queue, buf, count);
	pthread_mutex_unlock(&queue->read_lock);
	return ret;
}
