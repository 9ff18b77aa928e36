/* SPDX-License-Identifier: MIT */
/*
 * Run under "uiommu run": a virtual machine monitor's requests. KVM's VFIO device is content with
 * our group files, and a guest's store to a mapped BAR leaves the guest. Exit status 77 where there
 * is no usable KVM.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "program.h"

#define SKIP	 77
#define BAR_BASE 0x10000

/* mov $0x1234, %eax; mov %eax, (0x8004) with DS at 0x800; hlt, in real mode: 0x8000 + 0x8004. */
static const unsigned char code[] = {0x66, 0xb8, 0x34, 0x12, 0x00, 0x00,
				     0x66, 0xa3, 0x04, 0x80, 0xf4};

static void group_attribute(int group)
{
	int null = open("/dev/null", O_RDWR);
	struct kvm_device_attr attr = {
		.group = KVM_DEV_VFIO_GROUP,
		.attr = KVM_DEV_VFIO_GROUP_ADD,
		.addr = (uintptr_t)&group,
	};

	/* No KVM is needed for files that only we know. */
	CHECK(!ioctl(null, KVM_SET_DEVICE_ATTR, &attr));
	attr.attr = KVM_DEV_VFIO_GROUP_DEL;
	CHECK(!ioctl(null, KVM_SET_DEVICE_ATTR, &attr));
	attr.addr = (uintptr_t)&null;
	CHECK(ioctl(null, KVM_SET_DEVICE_ATTR, &attr) < 0 && errno == ENOTTY);
	attr.addr = 8;
	CHECK(ioctl(null, KVM_SET_DEVICE_ATTR, &attr) < 0 && errno == ENOTTY);
	close(null);
}

static void add_memory(int vm, uint32_t slot, uint64_t where, void *at, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = where,
		.memory_size = size,
		.userspace_addr = (uintptr_t)at,
	};

	CHECK(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region));
	CHECK(region.flags == 0);
}

static void real_mode(int cpu)
{
	struct kvm_sregs segments;
	struct kvm_regs registers = {.rip = 0x1000, .rflags = 2};

	CHECK(!ioctl(cpu, KVM_GET_SREGS, &segments));
	segments.cs.base = segments.cs.selector = 0;
	segments.ds.base = 0x8000;
	segments.ds.selector = 0x800;
	CHECK(!ioctl(cpu, KVM_SET_SREGS, &segments));
	CHECK(!ioctl(cpu, KVM_SET_REGS, &registers));
}

int main(void)
{
	struct session s = open_session(EDU);
	volatile char *bar = map_bar(s.device, EDU_BAR_SIZE);
	int kvm, vm, cpu, size;
	struct kvm_run *run;
	char *memory;

	group_attribute(s.group);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm = kvm >= 0 ? ioctl(kvm, KVM_CREATE_VM, 0) : -1;
	if (vm < 0)
		return SKIP;
	memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(memory + 0x1000, code, sizeof(code));
	add_memory(vm, 0, 0, memory, 8192);
	add_memory(vm, 1, BAR_BASE, (void *)bar, 0x10000);
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	CHECK(run != MAP_FAILED);
	real_mode(cpu);
	alarm(5);
	if (ioctl(cpu, KVM_RUN, 0))
		return errno == EFAULT ? 1 : SKIP;
	if (run->exit_reason != KVM_EXIT_MMIO)
		return SKIP;
	CHECK(run->mmio.is_write && run->mmio.phys_addr == BAR_BASE + EDU_LIVENESS &&
	      run->mmio.len == 4);
	memcpy((char *)bar + EDU_LIVENESS, run->mmio.data, 4);
	CHECK(*(volatile uint32_t *)(bar + EDU_LIVENESS) == (uint32_t)~0x1234);
	return 0;
}
