/* SPDX-License-Identifier: MIT */
/* See rig.h. */
#include "rig.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <linux/pci_regs.h>

static bool is_gone(struct rig *rig, uint64_t addr, size_t len)
{
	return len && addr <= rig->gone.last && addr + (len - 1) >= rig->gone.first;
}

static int memory_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	if (is_gone(ctx, addr, len))
		return -EFAULT;
	/* Words that driver and device share while both run. */
	if (len == 4 && !((addr | (uintptr_t)buf) & 3))
		*(uint32_t *)buf =
			__atomic_load_n((const uint32_t *)(uintptr_t)addr, __ATOMIC_ACQUIRE);
	else
		memcpy(buf, (const void *)(uintptr_t)addr, len);
	return 0;
}

static int memory_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	if (is_gone(ctx, addr, len))
		return -EFAULT;
	/* What a driver polls for: what was written before is there when it sees this. */
	if (len == 8 && !((addr | (uintptr_t)buf) & 7))
		__atomic_store_n((uint64_t *)(uintptr_t)addr, *(const uint64_t *)buf,
				 __ATOMIC_RELEASE);
	else if (len == 4 && !((addr | (uintptr_t)buf) & 3))
		__atomic_store_n((uint32_t *)(uintptr_t)addr, *(const uint32_t *)buf,
				 __ATOMIC_RELEASE);
	else
		memcpy((void *)(uintptr_t)addr, buf, len);
	return 0;
}

static void *memory_lend(void *ctx, uint64_t addr, uint64_t len)
{
	struct rig *rig = ctx;

	return rig->keeps || is_gone(rig, addr, len) ? NULL : (void *)(uintptr_t)addr;
}

static const struct uiommu_memory_ops memory_ops = {
	.size = sizeof(memory_ops),
	.read = memory_read,
	.write = memory_write,
	.lend = memory_lend,
};

static void on_fault(void *ctx, const struct uiommu_fault *fault)
{
	struct rig *rig = ctx;

	rig->faults++;
	rig->fault = *fault;
}

static void on_interrupt(void *ctx, unsigned vector)
{
	struct rig *rig = ctx;

	__atomic_fetch_add(&rig->arrived[vector], 1, __ATOMIC_RELAXED);
}

static void attach(struct rig *rig)
{
	const struct uiommu_platform_facts *facts =
		uiommu_platform_facts(uiommu_machine_platform(rig->machine));
	struct uiommu_domain_options options = {
		.size = sizeof(options),
		.format = facts->format,
		.width = facts->width,
	};

	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(uiommu_machine_unit(rig->machine), rig->ioas,
					      &options, &rig->domain),
			 0);
	assert_int_equal(uiommu_domain_attach(rig->domain, uiommu_function_info(rig->fn)->rid,
					      facts->regions, facts->region_count, "rig"),
			 0);
}

void rig_map(struct rig *rig, uint64_t iova, uint64_t len, uint64_t offset, int prot)
{
	struct uiommu_range range = {iova, iova + len - 1};

	assert_int_equal(
		uiommu_ioas_map(rig->ioas, range, (uintptr_t)rig->mem + offset, prot, NULL), 0);
}

void rig_up(struct rig *rig, const struct uiommu_model *model, const char *spec)
{
	rig_up_platform(rig, NULL, model, spec);
}

void rig_up_platform(struct rig *rig, const char *platform, const struct uiommu_model *model,
		     const char *spec)
{
	struct uiommu_memory memory = {&memory_ops, rig};
	struct uiommu_machine_options options = {
		.size = sizeof(options),
		.platform = platform,
		.memory = &memory,
		.fault = on_fault,
		.fault_ctx = rig,
	};
	char why[256] = "";

	memset(rig, 0, sizeof(*rig));
	rig->gone = (struct uiommu_range){1, 0};
	rig->mem = mmap(NULL, RIG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(rig->mem, MAP_FAILED);
	assert_int_equal(uiommu_machine_create(&options, &rig->machine, why, sizeof(why)), 0);
	if (model)
		assert_int_equal(
			uiommu_machine_add_model(rig->machine, model, spec, why, sizeof(why)), 0);
	else
		assert_int_equal(uiommu_machine_add(rig->machine, spec, why, sizeof(why)), 0);
	rig->fn = uiommu_machine_function(rig->machine, 0);
	attach(rig);
	rig_map(rig, RIG_IOVA, RIG_SIZE, 0, UIOMMU_READ | UIOMMU_WRITE);
	cfg_set(rig, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void rig_down(struct rig *rig)
{
	uiommu_function_drain(rig->fn);
	if (rig->irqs)
		uiommu_platform_irq_free(uiommu_machine_platform(rig->machine), rig->irq);
	uiommu_domain_detach(rig->domain, uiommu_function_info(rig->fn)->rid);
	uiommu_domain_destroy(rig->domain);
	uiommu_ioas_destroy(rig->ioas);
	uiommu_machine_destroy(rig->machine);
	munmap(rig->mem, RIG_SIZE);
}

static void irq_alloc(struct rig *rig, unsigned count, bool consecutive,
		      struct uiommu_msi_message *messages)
{
	assert_false(rig->irqs);
	assert_int_equal(uiommu_platform_irq_alloc(uiommu_machine_platform(rig->machine), NULL,
						   uiommu_function_info(rig->fn)->rid, count,
						   consecutive, on_interrupt, rig, messages,
						   &rig->irq),
			 0);
	rig->irqs = true;
}

void rig_msix(struct rig *rig, unsigned count)
{
	const struct uiommu_function_info *info = uiommu_function_info(rig->fn);
	struct uiommu_msi_message messages[RIG_VECTORS];
	unsigned i;

	irq_alloc(rig, count, false, messages);
	for (i = 0; i < count; i++) {
		struct {
			uint64_t address;
			uint32_t data, control;
		} entry = {htole64(messages[i].address), htole32(messages[i].data), 0};

		assert_int_equal(uiommu_function_bar_write(rig->fn, info->model->msix_bar,
							   info->model->msix_offset + 16 * i,
							   &entry, sizeof(entry)),
				 0);
	}
	cfg_set(rig, info->msix_cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

void rig_msi(struct rig *rig, unsigned count)
{
	unsigned cap = uiommu_function_info(rig->fn)->msi_cap;
	struct uiommu_msi_message messages[RIG_VECTORS];

	irq_alloc(rig, count, true, messages);
	cfg_set(rig, cap + PCI_MSI_ADDRESS_LO, 4, (uint32_t)messages[0].address);
	cfg_set(rig, cap + PCI_MSI_ADDRESS_HI, 4, (uint32_t)(messages[0].address >> 32));
	cfg_set(rig, cap + PCI_MSI_DATA_64, 2, messages[0].data);
	cfg_set(rig, cap + PCI_MSI_FLAGS, 2,
		PCI_MSI_FLAGS_ENABLE | (uint32_t)__builtin_ctz(count) << 4);
}

void reg_set(struct rig *rig, uint64_t offset, unsigned len, uint64_t value)
{
	value = htole64(value);
	assert_int_equal(uiommu_function_bar_write(rig->fn, 0, offset, &value, len), 0);
}

uint64_t reg_get(struct rig *rig, uint64_t offset, unsigned len)
{
	uint64_t value = 0;

	assert_int_equal(uiommu_function_bar_read(rig->fn, 0, offset, &value, len), 0);
	return le64toh(value);
}

uint64_t reg_mapped(struct rig *rig, uint64_t offset, unsigned len)
{
	uint64_t value = 0, size = uiommu_function_info(rig->fn)->model->bars[0].size;
	uint8_t *map = mmap(NULL, size, PROT_READ, MAP_SHARED, uiommu_function_fd(rig->fn), 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	memcpy(&value, map + offset, len);
	munmap(map, size);
	return le64toh(value);
}
