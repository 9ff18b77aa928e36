/* SPDX-License-Identifier: MIT */
/*
 * Waits for eventfds that the program signals: those which unmask INTx (vfio_intx.c) and those
 * which write registers (vfio_ioeventfd.c). One helper thread for all devices, started by the
 * first registration, stays until the front end is destroyed.
 *
 * A registration belongs to its device and is under that device's lock, which the thread takes to
 * handle an event: so once a registration is taken back nothing of it is under way. An event
 * carries the device's number and the registration's serial number, so that one which is late finds
 * nothing. waiter.lock guards the thread and its descriptors. After fork() the child has an epoll
 * instance and a thread of its own: the inherited instance would be the parent's too.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "abi/vfio_private.h"

#define STOP UINT64_MAX

void vfio_waiter_init(struct uiommu_vfio *vfio)
{
	pthread_mutex_init(&vfio->waiter.lock, NULL);
	vfio->waiter.epoll = vfio->waiter.stop = -1;
}

static uint64_t tag_of(const struct vfio_device *device, uint32_t serial)
{
	return (uint64_t)(device - device->vfio->devices) << 32 | serial;
}

static void handle(struct uiommu_vfio *vfio, uint64_t tag)
{
	struct vfio_device *device = &vfio->devices[tag >> 32];

	pthread_mutex_lock(&device->lock);
	if (!vfio_intx_event(device, tag))
		vfio_ioeventfd_event(device, tag);
	pthread_mutex_unlock(&device->lock);
}

static void *run(void *arg)
{
	struct uiommu_vfio *vfio = arg;
	struct epoll_event event;
	int epoll = vfio->waiter.epoll;

	if (vfio->host.thread_start)
		vfio->host.thread_start(vfio->host.ctx);
	for (;;) {
		int n = epoll_wait(epoll, &event, 1, -1);

		/* The program may have closed every descriptor it didn't know. */
		if ((n < 0 && errno != EINTR) || (n == 1 && event.data.u64 == STOP))
			return NULL;
		if (n == 1)
			handle(vfio, event.data.u64);
	}
}

static int watch(struct uiommu_vfio *vfio, int fd, uint64_t tag)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};

	return epoll_ctl(vfio->waiter.epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* The helper runs no handlers of the program's. */
static int start_thread(struct uiommu_vfio *vfio)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&vfio->waiter.thread, NULL, run, vfio);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	vfio->waiter.running = !ret;
	return -ret;
}

static void close_descriptors(struct uiommu_vfio *vfio)
{
	if (vfio->waiter.epoll >= 0)
		close(vfio->waiter.epoll);
	if (vfio->waiter.stop >= 0)
		close(vfio->waiter.stop);
	vfio->waiter.epoll = vfio->waiter.stop = -1;
}

/* waiter.lock held. */
static int start(struct uiommu_vfio *vfio)
{
	int ret;

	vfio->waiter.epoll = epoll_create1(EPOLL_CLOEXEC);
	vfio->waiter.stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vfio->waiter.epoll < 0 || vfio->waiter.stop < 0)
		ret = -errno;
	else
		ret = watch(vfio, vfio->waiter.stop, STOP);
	if (!ret)
		ret = start_thread(vfio);
	if (ret)
		close_descriptors(vfio);
	return ret;
}

int vfio_waiter_add(struct vfio_device *device, int fd, uint32_t *serial)
{
	struct uiommu_vfio *vfio = device->vfio;
	int own = vfio_eventfd_get(vfio, fd), ret = 0;

	if (own < 0)
		return own;
	*serial = ++device->wait_serial;
	pthread_mutex_lock(&vfio->waiter.lock);
	if (!vfio->waiter.running && start(vfio))
		ret = vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "no helper thread");
	else if ((ret = watch(vfio, own, tag_of(device, *serial))))
		vfio_refuse(UIOMMU_RULE_ARGUMENT, ret, "eventfd: can't be waited for");
	pthread_mutex_unlock(&vfio->waiter.lock);
	if (ret)
		vfio_eventfd_put(vfio, own);
	return ret ? ret : own;
}

void vfio_waiter_remove(struct vfio_device *device, int own)
{
	struct uiommu_vfio *vfio = device->vfio;

	pthread_mutex_lock(&vfio->waiter.lock);
	if (vfio->waiter.epoll >= 0)
		epoll_ctl(vfio->waiter.epoll, EPOLL_CTL_DEL, own, NULL);
	pthread_mutex_unlock(&vfio->waiter.lock);
	vfio_eventfd_put(vfio, own);
}

void vfio_waiter_fini(struct uiommu_vfio *vfio)
{
	if (vfio->waiter.running) {
		vfio_eventfd_signal(vfio->waiter.stop);
		pthread_join(vfio->waiter.thread, NULL);
	}
	close_descriptors(vfio);
	pthread_mutex_destroy(&vfio->waiter.lock);
}

void vfio_waiter_fork_child(struct uiommu_vfio *vfio)
{
	if (!vfio->waiter.running)
		return;
	vfio->waiter.running = false;
	close_descriptors(vfio);
	if (start(vfio))
		return;
	for (size_t i = 0; i < vfio->device_count; i++) {
		struct vfio_device *device = &vfio->devices[i];

		if (device->unmask >= 0)
			watch(vfio, device->unmask, tag_of(device, device->unmask_serial));
		for (struct vfio_ioeventfd *io = device->ioeventfds; io; io = io->next)
			watch(vfio, io->fd, tag_of(device, io->serial));
	}
}
