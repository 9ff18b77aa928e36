/* SPDX-License-Identifier: MIT */
/*
 * Owns the default memory: this process's own, where an address is a virtual address. Copies are
 * plain; who maps an address that isn't there gets a signal, as with any pointer.
 */
#include <uiommu/memory.h>

#include <stdbool.h>
#include <string.h>

/* Registers and completion words must not be seen half written: one access for aligned words. And
 * a bus does not reorder a device's writes, nor its reads behind one that it waited for: what was
 * read after an index is not older than the index, what was written before one is seen with it. */
static inline bool copy_word(void *to, const void *from, size_t len)
{
	if ((((uintptr_t)to | (uintptr_t)from) & (len - 1)))
		return false;
	switch (len) {
	case 8:
		__atomic_store_n((uint64_t *)to,
				 __atomic_load_n((const uint64_t *)from, __ATOMIC_ACQUIRE),
				 __ATOMIC_RELEASE);
		return true;
	case 4:
		__atomic_store_n((uint32_t *)to,
				 __atomic_load_n((const uint32_t *)from, __ATOMIC_ACQUIRE),
				 __ATOMIC_RELEASE);
		return true;
	case 2:
		__atomic_store_n((uint16_t *)to,
				 __atomic_load_n((const uint16_t *)from, __ATOMIC_ACQUIRE),
				 __ATOMIC_RELEASE);
		return true;
	}
	return false;
}

static void copy(void *to, const void *from, size_t len)
{
	if (!copy_word(to, from, len))
		memcpy(to, from, len);
}

static int self_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	copy(buf, (const void *)(uintptr_t)addr, len);
	return 0;
}

static int self_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	copy((void *)(uintptr_t)addr, buf, len);
	return 0;
}

static void *self_direct(void *ctx, uint64_t addr, uint64_t len)
{
	return (void *)(uintptr_t)addr;
}

static int self_compare_exchange(void *ctx, uint64_t addr, uint64_t *expected, uint64_t desired)
{
	__atomic_compare_exchange_n((uint64_t *)(uintptr_t)addr, expected, desired, false,
				    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	return 0;
}

static const struct uiommu_memory_ops self_ops = {
	.size = sizeof(struct uiommu_memory_ops),
	.read = self_read,
	.write = self_write,
	.direct = self_direct,
	.compare_exchange = self_compare_exchange,
};

UIOMMU_API const struct uiommu_memory uiommu_memory_self = {.ops = &self_ops};
