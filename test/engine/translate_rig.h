/* SPDX-License-Identifier: MIT */
/*
 * What the tests of translations share: one unit, one domain that one device is attached to, its
 * port, and what a section with one translation says.
 */
#ifndef TEST_ENGINE_TRANSLATE_RIG_H
#define TEST_ENGINE_TRANSLATE_RIG_H

#include "../check.h"

#include <errno.h>

#include <uiommu/space.h>

#define PAGE  UINT64_C(4096)
#define LARGE UINT64_C(0x200000)
#define RW    (UIOMMU_READ | UIOMMU_WRITE)

#define NO_WINDOW ((struct uiommu_range){1, 0})

enum { DEVICE = 8 };

struct rig {
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	struct uiommu_port *port;
};

static inline int ring(void *ctx, uiommu_rid rid, uint64_t address, uint32_t data)
{
	return 0;
}

static inline void rig_up(struct rig *rig, const char *format, unsigned width,
			  struct uiommu_range doorbells, bool cut_off)
{
	const struct uiommu_doorbell_window windows[] = {{.range = doorbells, .write = ring}};
	const struct uiommu_unit_options uo = {.size = sizeof(uo),
					       .windows = windows,
					       .window_count = doorbells.first <= doorbells.last,
					       .cut_off = cut_off};
	const struct uiommu_domain_options options = {
		.size = sizeof(options), .format = format, .width = width};

	assert_int_equal(uiommu_unit_create(&uo, &rig->unit), 0);
	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(rig->unit, rig->ioas, &options, &rig->domain), 0);
	assert_int_equal(uiommu_domain_attach(rig->domain, DEVICE, NULL, 0, "device"), 0);
	assert_int_equal(uiommu_port_create(rig->unit, DEVICE, &rig->port), 0);
	uiommu_port_set_master(rig->port, true);
}

static inline void rig_down(struct rig *rig)
{
	uiommu_port_destroy(rig->port);
	uiommu_domain_detach(rig->domain, DEVICE);
	uiommu_domain_destroy(rig->domain);
	uiommu_ioas_destroy(rig->ioas);
	uiommu_unit_destroy(rig->unit);
}

static inline struct uiommu_range range(uint64_t iova, uint64_t length)
{
	return (struct uiommu_range){iova, iova + length - 1};
}

static inline void map(struct rig *rig, uint64_t iova, uint64_t length, uint64_t addr, int prot)
{
	assert_int_equal(uiommu_ioas_map(rig->ioas, range(iova, length), addr, prot, NULL), 0);
}

static inline void unmap(struct rig *rig, uint64_t iova, uint64_t length)
{
	assert_int_equal(uiommu_ioas_unmap(rig->ioas, range(iova, length), NULL, NULL, NULL), 0);
}

/* One access in a section of its own: what translate_one says. */
static inline int64_t one(struct rig *rig, uint64_t iova, uint64_t len, int access, uint64_t *addr)
{
	int64_t ret;

	uiommu_port_enter(rig->port);
	ret = uiommu_port_translate_one(rig->port, iova, len, access, addr);
	uiommu_port_leave(rig->port);
	return ret;
}

static inline enum uiommu_fault_reason reason_of_last(struct rig *rig)
{
	struct uiommu_fault fault;

	uiommu_port_last_fault(rig->port, &fault);
	return fault.reason;
}

static inline enum uiommu_fault_reason reason(struct rig *rig, uint64_t iova)
{
	struct uiommu_fault fault;
	uint64_t addr;

	if (one(rig, iova, 1, UIOMMU_READ, &addr) == 1)
		return UIOMMU_FAULT_NONE;
	uiommu_port_last_fault(rig->port, &fault);
	assert_int_equal(fault.iova, iova);
	return fault.reason;
}

#endif
