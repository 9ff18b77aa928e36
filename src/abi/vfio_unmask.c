/* SPDX-License-Identifier: MIT */
/*
 * Eventfds that unmask INTx: one helper thread for all devices waits for them. It is started by the
 * first and stays until the front end is destroyed.
 *
 * unmask.lock guards the registrations, and the thread holds it while it handles an event: so once
 * a registration is taken back nothing of it is under way. An event carries the device's number and
 * the registration's serial number, so that one which is late finds nothing. After fork() the child
 * has an epoll instance and a thread of its own: the inherited instance would be the parent's too.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "abi/vfio_private.h"

#define STOP UINT64_MAX

void vfio_unmask_init(struct uiommu_vfio *vfio)
{
	pthread_mutex_init(&vfio->unmask.lock, NULL);
	vfio->unmask.epoll = vfio->unmask.stop = -1;
}

static uint64_t tag_of(const struct vfio_device *device)
{
	return (uint64_t)(device - device->vfio->devices) << 32 | device->unmask_serial;
}

static void handle(struct uiommu_vfio *vfio, uint64_t tag)
{
	struct vfio_device *device = &vfio->devices[tag >> 32];

	pthread_mutex_lock(&vfio->unmask.lock);
	if (device->unmask >= 0 && tag_of(device) == tag && vfio_eventfd_take(device->unmask))
		vfio_intx_unmask(device);
	pthread_mutex_unlock(&vfio->unmask.lock);
}

static void *run(void *arg)
{
	struct uiommu_vfio *vfio = arg;
	struct epoll_event event;
	int epoll = vfio->unmask.epoll;

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

	return epoll_ctl(vfio->unmask.epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* The helper runs no handlers of the program's. */
static int start_thread(struct uiommu_vfio *vfio)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&vfio->unmask.thread, NULL, run, vfio);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	vfio->unmask.running = !ret;
	return -ret;
}

static void close_descriptors(struct uiommu_vfio *vfio)
{
	if (vfio->unmask.epoll >= 0)
		close(vfio->unmask.epoll);
	if (vfio->unmask.stop >= 0)
		close(vfio->unmask.stop);
	vfio->unmask.epoll = vfio->unmask.stop = -1;
}

/* unmask.lock held. */
static int start(struct uiommu_vfio *vfio)
{
	int ret;

	vfio->unmask.epoll = epoll_create1(EPOLL_CLOEXEC);
	vfio->unmask.stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vfio->unmask.epoll < 0 || vfio->unmask.stop < 0)
		ret = -errno;
	else
		ret = watch(vfio, vfio->unmask.stop, STOP);
	if (!ret)
		ret = start_thread(vfio);
	if (ret)
		close_descriptors(vfio);
	return ret;
}

static int enable_locked(struct vfio_device *device, int own)
{
	struct uiommu_vfio *vfio = device->vfio;
	int ret = 0;

	if (device->unmask >= 0)
		return vfio_refuse(UIOMMU_RULE_BUSY, -EBUSY, "an eventfd unmasks INTx already");
	if (!vfio->unmask.running)
		ret = start(vfio);
	if (ret)
		return vfio_refuse(UIOMMU_RULE_NO_MEMORY, -ENOMEM, "no helper thread");
	device->unmask_serial++;
	ret = watch(vfio, own, tag_of(device));
	if (ret)
		return vfio_refuse(UIOMMU_RULE_ARGUMENT, ret, "eventfd: can't be waited for");
	device->unmask = own;
	return 0;
}

int vfio_unmask_enable(struct vfio_device *device, int fd)
{
	struct uiommu_vfio *vfio = device->vfio;
	int own = vfio_eventfd_get(vfio, fd), ret;

	if (own < 0)
		return own;
	pthread_mutex_lock(&vfio->unmask.lock);
	ret = enable_locked(device, own);
	pthread_mutex_unlock(&vfio->unmask.lock);
	if (ret)
		vfio_eventfd_put(vfio, own);
	return ret;
}

void vfio_unmask_disable(struct vfio_device *device)
{
	struct uiommu_vfio *vfio = device->vfio;
	int own;

	pthread_mutex_lock(&vfio->unmask.lock);
	own = device->unmask;
	device->unmask = -1;
	if (own >= 0)
		epoll_ctl(vfio->unmask.epoll, EPOLL_CTL_DEL, own, NULL);
	pthread_mutex_unlock(&vfio->unmask.lock);
	vfio_eventfd_put(vfio, own);
}

void vfio_unmask_fini(struct uiommu_vfio *vfio)
{
	if (vfio->unmask.running) {
		vfio_eventfd_signal(vfio->unmask.stop);
		pthread_join(vfio->unmask.thread, NULL);
	}
	close_descriptors(vfio);
	pthread_mutex_destroy(&vfio->unmask.lock);
}

void vfio_unmask_fork_child(struct uiommu_vfio *vfio)
{
	if (!vfio->unmask.running)
		return;
	vfio->unmask.running = false;
	close_descriptors(vfio);
	if (start(vfio))
		return;
	for (size_t i = 0; i < vfio->device_count; i++)
		if (vfio->devices[i].unmask >= 0)
			watch(vfio, vfio->devices[i].unmask, tag_of(&vfio->devices[i]));
}
