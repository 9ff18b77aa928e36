/* SPDX-License-Identifier: MIT */
/*
 * Owns the few instructions that may fault on behalf of others. They use no stack, so that the
 * signal handler can send any of them to one common exit which returns -EFAULT. Whether an access
 * is inside is known from the instruction pointer alone: no state, no locks, any thread, any signal
 * handler but one that blocks SIGSEGV or SIGBUS.
 */
#include <errno.h>

#include "run/copy.h"

int run_copy_bytes(void *to, const void *from, size_t len);
int run_copy_1(void *to, const void *from);
int run_copy_2(void *to, const void *from);
int run_copy_4(void *to, const void *from);
int run_copy_8(void *to, const void *from);
int run_touch_read(const void *at);
int run_touch_write(void *at);
int run_exchange(void *at, uint64_t *expected, uint64_t desired);
extern const char run_copy_begin[], run_copy_end[], run_copy_exit[];

__asm__(".pushsection .text\n"
	".balign 16\n"
	"run_copy_begin:\n"
	".globl run_copy_bytes, run_copy_1, run_copy_2, run_copy_4, run_copy_8\n"
	".hidden run_copy_bytes, run_copy_1, run_copy_2, run_copy_4, run_copy_8\n"
	".globl run_touch_read, run_touch_write, run_exchange\n"
	".hidden run_touch_read, run_touch_write, run_exchange\n"
	"run_copy_bytes: mov %rdx, %rcx\n rep movsb\n xor %eax, %eax\n ret\n"
	"run_copy_1: movb (%rsi), %al\n movb %al, (%rdi)\n xor %eax, %eax\n ret\n"
	"run_copy_2: movw (%rsi), %ax\n movw %ax, (%rdi)\n xor %eax, %eax\n ret\n"
	"run_copy_4: movl (%rsi), %eax\n movl %eax, (%rdi)\n xor %eax, %eax\n ret\n"
	"run_copy_8: movq (%rsi), %rax\n movq %rax, (%rdi)\n xor %eax, %eax\n ret\n"
	"run_touch_read: movb (%rdi), %al\n xor %eax, %eax\n ret\n"
	"run_touch_write: lock orb $0, (%rdi)\n xor %eax, %eax\n ret\n"
	"run_exchange: movq (%rsi), %rax\n lock cmpxchgq %rdx, (%rdi)\n movq %rax, (%rsi)\n"
	" xor %eax, %eax\n ret\n"
	"run_copy_end:\n"
	"run_copy_exit: mov $-14, %eax\n ret\n"
	".popsection\n");

_Static_assert(EFAULT == 14, "the exit above returns -EFAULT");

int copy_safely(void *to, const void *from, size_t len)
{
	uintptr_t both = (uintptr_t)to | (uintptr_t)from;

	if (len == 4 && !(both & 3))
		return run_copy_4(to, from);
	if (len == 8 && !(both & 7))
		return run_copy_8(to, from);
	if (len == 2 && !(both & 1))
		return run_copy_2(to, from);
	if (len == 1)
		return run_copy_1(to, from);
	return run_copy_bytes(to, from, len);
}

int copy_touch_read(const void *at)
{
	return run_touch_read(at);
}

int copy_touch_write(void *at)
{
	return run_touch_write(at);
}

int copy_compare_exchange(void *at, uint64_t *expected, uint64_t desired)
{
	return run_exchange(at, expected, desired);
}

bool copy_fixup(ucontext_t *uc)
{
	uintptr_t rip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];

	if (rip < (uintptr_t)run_copy_begin || rip >= (uintptr_t)run_copy_end)
		return false;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)run_copy_exit;
	return true;
}
