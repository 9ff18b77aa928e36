/* SPDX-License-Identifier: MIT */
/*
 * A machine with one function, an address space with memory in it, and counters for faults and
 * interrupts: what the device tests stand on.
 */
#ifndef TEST_DEVICE_RIG_H
#define TEST_DEVICE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <uiommu/device.h>

#define RIG_IOVA    UINT64_C(0x100000)
#define RIG_SIZE    (UINT64_C(4) << 20)
#define RIG_VECTORS 32

struct rig {
	struct uiommu_machine *machine;
	struct uiommu_function *fn;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	uint8_t *mem;		       /* RIG_SIZE bytes, mapped at RIG_IOVA */
	struct uiommu_range gone;      /* addresses with nothing behind them */
	bool keeps;		       /* lends no memory to system calls */
	unsigned faults;	       /* read after a drain */
	struct uiommu_fault fault;     /* the last one */
	unsigned arrived[RIG_VECTORS]; /* interrupts, by vector */
	struct uiommu_irq *irq;	       /* the vectors */
	bool irqs;
};

/* With a model of the library's, by @spec, or with @model. Bus master and memory are enabled. */
void rig_up(struct rig *rig, const struct uiommu_model *model, const char *spec);
/* The same on another platform than x86-vtd's, if it isn't NULL. */
void rig_up_platform(struct rig *rig, const char *platform, const struct uiommu_model *model,
		     const char *spec);
void rig_down(struct rig *rig);

void rig_map(struct rig *rig, uint64_t iova, uint64_t len, uint64_t offset, int prot);

/* Allocate @count vectors for the function and write them to its MSI-X table or MSI capability,
 * which is then enabled. */
void rig_msix(struct rig *rig, unsigned count);
void rig_msi(struct rig *rig, unsigned count);

static inline uint32_t cfg(struct rig *rig, unsigned offset, unsigned len)
{
	return uiommu_function_config_read(rig->fn, offset, len);
}

static inline void cfg_set(struct rig *rig, unsigned offset, unsigned len, uint32_t value)
{
	uiommu_function_config_write(rig->fn, offset, len, value);
}

/* Registers, as a client's store and pread do it. */
void reg_set(struct rig *rig, uint64_t offset, unsigned len, uint64_t value);
uint64_t reg_get(struct rig *rig, uint64_t offset, unsigned len);
/* The same register as a mapping of the memory file shows it. */
uint64_t reg_mapped(struct rig *rig, uint64_t offset, unsigned len);

#endif
