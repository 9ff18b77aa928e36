/* SPDX-License-Identifier: MIT */
/*
 * Owns what a virtual machine monitor with KVM needs. KVM's VFIO device is told of group files:
 * ours are no VFIO files to the kernel, and nothing has to be done for them. A BAR mapped into the
 * guest must trap the guest's stores as it traps the monitor's: its memory slot is made read-only,
 * so that a store leaves the guest as MMIO and the monitor performs it on its own mapping.
 * Stateless.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "run/bars.h"
#include "run/copy.h"
#include "run/files.h"
#include "run/kvm.h"

/* Newer than the headers this may be built with. */
#define SET_MEMORY_REGION2 _IO(KVMIO, 0x49)

static bool is_region2(unsigned long op)
{
	return _IOC_TYPE(op) == KVMIO && _IOC_NR(op) == _IOC_NR(SET_MEMORY_REGION2) &&
	       _IOC_SIZE(op) >= sizeof(struct kvm_userspace_memory_region) &&
	       _IOC_SIZE(op) <= KVM_ROOM;
}

bool kvm_concerned(unsigned long op)
{
	return op == KVM_SET_DEVICE_ATTR || op == KVM_SET_USER_MEMORY_REGION || is_region2(op);
}

/* Adding or removing one of our files: done. */
static bool device_attribute(unsigned long arg, int *ret)
{
	struct kvm_device_attr attr;
	struct run_file *file;
	int fd;

	if (copy_safely(&attr, (const void *)arg, sizeof(attr)) ||
	    attr.group != KVM_DEV_VFIO_GROUP ||
	    (attr.attr != KVM_DEV_VFIO_GROUP_ADD && attr.attr != KVM_DEV_VFIO_GROUP_DEL) ||
	    copy_safely(&fd, (const void *)(uintptr_t)attr.addr, sizeof(fd)))
		return false;
	file = files_get(fd, NULL);
	if (!file)
		return false;
	files_put(file);
	*ret = 0;
	return true;
}

static void memory_region(unsigned long *arg, void *room, size_t size)
{
	struct kvm_userspace_memory_region region;
	struct run_bar bar;

	if (copy_safely(room, (const void *)*arg, size))
		return;
	memcpy(&region, room, sizeof(region));
	if (!region.memory_size || !bars_find((uintptr_t)region.userspace_addr, &bar))
		return;
	region.flags |= KVM_MEM_READONLY;
	memcpy(room, &region, sizeof(region));
	*arg = (unsigned long)(uintptr_t)room;
}

bool kvm_request(unsigned long op, unsigned long *arg, void *room, int *ret)
{
	if (op == KVM_SET_DEVICE_ATTR)
		return device_attribute(*arg, ret);
	memory_region(arg, room, _IOC_SIZE(op));
	return false;
}
