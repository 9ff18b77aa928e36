/* SPDX-License-Identifier: MIT */
/*
 * A machine with the model virtio-iommu and an edu in one space, and the tests' own driver
 * (virtio_driver.h) on the function's registers and queues.
 */
#ifndef TEST_ABI_VIRTIO_RIG_H
#define TEST_ABI_VIRTIO_RIG_H

#include "../check.h"
#include "../virtio_driver.h"

#include <errno.h>
#include <sys/mman.h>

#include <uiommu/device.h>

#define PAGE UINT64_C(4096)
#define IOVA UINT64_C(0x10000000) /* where the container maps RAM */
#define RAM  (UINT64_C(256) << 12)
#define DATA (UINT64_C(128) << 12) /* in RAM: what edu plays with */

enum { OK, INVAL = 4, RANGE, NOENT };
enum { R = 1, W = 2 };
enum { USUAL = 0x77 };

struct rig {
	struct uiommu_machine *machine;
	struct uiommu_function *fn, *edu;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *domain;
	uint8_t *ram;
	struct vdrv d;
	uiommu_rid ep;
	struct uiommu_irq *irq;
	bool irqs;
	struct uiommu_msi_message message[3];
	_Atomic unsigned arrived[3];
	_Atomic bool intx;
};

/* ---- how the driver reaches the function ---- */

static uint32_t cfg_read(void *ctx, unsigned offset, unsigned len)
{
	return uiommu_function_config_read(((struct rig *)ctx)->fn, offset, len);
}

static void cfg_write(void *ctx, unsigned offset, unsigned len, uint32_t value)
{
	uiommu_function_config_write(((struct rig *)ctx)->fn, offset, len, value);
}

static uint64_t bar_read(void *ctx, unsigned bar, uint64_t offset, unsigned len)
{
	uint64_t value = 0;

	uiommu_function_bar_read(((struct rig *)ctx)->fn, bar, offset, &value, len);
	return value;
}

static void bar_write(void *ctx, unsigned bar, uint64_t offset, unsigned len, uint64_t value)
{
	uiommu_function_bar_write(((struct rig *)ctx)->fn, bar, offset, &value, len);
}

static bool wait_used(void *ctx, const uint16_t *idx, uint16_t old)
{
	uiommu_function_drain(((struct rig *)ctx)->fn);
	return __atomic_load_n(idx, __ATOMIC_ACQUIRE) != old;
}

static const struct vdrv_ops ops = {cfg_read, cfg_write, bar_read, bar_write, wait_used};

/* ---- set-up ---- */

static void on_irq(void *ctx, unsigned vector)
{
	((struct rig *)ctx)->arrived[vector]++;
}

static void on_intx(void *ctx, bool level)
{
	((struct rig *)ctx)->intx = level;
}

static void attach_fn(struct rig *rig, struct uiommu_function *fn)
{
	assert_int_equal(
		uiommu_domain_attach(rig->domain, uiommu_function_info(fn)->rid, NULL, 0, "vfio"),
		0);
	uiommu_function_config_write(fn, 4, 2, 6); /* memory, bus master */
}

static void rig_up(struct rig *rig, const char *spec)
{
	const struct uiommu_machine_options mo = {.size = sizeof(mo)};
	const struct uiommu_domain_options dopt = {
		.size = sizeof(dopt), .format = "vtd-ss", .width = 48};
	char why[256] = "";

	memset(rig, 0, sizeof(*rig));
	rig->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_int_equal(uiommu_machine_create(&mo, &rig->machine, why, sizeof(why)), 0);
	/* One beside it that is there before, one that comes later. */
	assert_int_equal(uiommu_machine_add(rig->machine, "ioat@00:03.0", why, sizeof(why)), 0);
	assert_int_equal(uiommu_machine_add(rig->machine, spec, why, sizeof(why)), 0);
	assert_int_equal(uiommu_machine_add(rig->machine, "edu@00:05.0", why, sizeof(why)), 0);
	rig->fn = uiommu_machine_find(rig->machine, "0000:00:04.0");
	rig->edu = uiommu_machine_find(rig->machine, "0000:00:05.0");
	rig->ep = uiommu_function_info(rig->edu)->rid;
	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(uiommu_machine_unit(rig->machine), rig->ioas, &dopt,
					      &rig->domain),
			 0);
	assert_int_equal(uiommu_ioas_map(rig->ioas, (struct uiommu_range){IOVA, IOVA + RAM - 1},
					 (uintptr_t)rig->ram, 3, NULL),
			 0);
	attach_fn(rig, rig->fn);
	attach_fn(rig, rig->edu);
	uiommu_function_set_intx(rig->fn, on_intx, rig);
	rig->d = (struct vdrv){.ops = &ops, .ctx = rig, .mem = (void *)rig->ram, .iova = IOVA};
	assert_int_equal(vd_find(&rig->d), 5);
}

static void rig_msix(struct rig *rig)
{
	unsigned cap = uiommu_function_info(rig->fn)->msix_cap;

	assert_int_equal(uiommu_platform_irq_alloc(uiommu_machine_platform(rig->machine), NULL,
						   uiommu_function_info(rig->fn)->rid, 3, false,
						   on_irq, rig, rig->message, &rig->irq),
			 0);
	rig->irqs = true;
	for (unsigned i = 0; i < 3; i++) {
		bar_write(rig, 2, 16 * i, 8, rig->message[i].address);
		bar_write(rig, 2, 16 * i + 8, 4, rig->message[i].data);
		bar_write(rig, 2, 16 * i + 12, 4, 0);
	}
	cfg_write(rig, cap + 2, 2, 0x8000);
}

/* A device that runs, with both queues. */
static void rig_go(struct rig *rig, uint64_t extra)
{
	assert_int_equal(vd_negotiate(&rig->d, VD_F_VERSION_1 | USUAL | extra), 11);
	vd_queue(&rig->d, 0, 1, true);
	vd_queue(&rig->d, 1, 2, true);
	vd_go(&rig->d);
}

static void rig_down(struct rig *rig)
{
	uiommu_function_drain(rig->edu);
	uiommu_function_drain(rig->fn);
	if (rig->irqs)
		uiommu_platform_irq_free(uiommu_machine_platform(rig->machine), rig->irq);
	uiommu_domain_detach(rig->domain, rig->ep);
	uiommu_domain_detach(rig->domain, uiommu_function_info(rig->fn)->rid);
	/* Virtio domains that are left go with the machine, after what they were in front of. */
	uiommu_domain_destroy(rig->domain);
	uiommu_ioas_destroy(rig->ioas);
	uiommu_machine_destroy(rig->machine);
	munmap(rig->ram, RAM);
}

/* ---- edu: its DMA moves bytes between its buffer and an address ---- */

static void edu_dma(struct rig *rig, uint64_t src, uint64_t dst, uint64_t len, uint64_t cmd)
{
	uint64_t regs[4] = {src, dst, len, cmd};

	for (unsigned i = 0; i < 4; i++)
		uiommu_function_bar_write(rig->edu, 0, 0x80 + 8 * i, &regs[i], 8);
	uiommu_function_drain(rig->edu);
}

/* Byte at @from goes through the device to @to; both as edu sees them. */
static void edu_copy(struct rig *rig, uint64_t from, uint64_t to)
{
	edu_dma(rig, from, 0x40000, 64, 1);
	edu_dma(rig, 0x40000, to, 64, 3);
}

static bool edu_reaches(struct rig *rig, uint64_t from, uint64_t to, const uint8_t *src,
			uint8_t *dst)
{
	static uint8_t mark;

	mark++;
	memset((void *)(uintptr_t)src, mark | 1, 64);
	memset(dst, 0, 64);
	edu_copy(rig, from, to);
	return dst[0] == (mark | 1) && dst[63] == (mark | 1);
}

#endif
