/* SPDX-License-Identifier: MIT */
/*
 * A virtio-iommu on buffers with two endpoints, over a space with made-up memory, and requests put
 * together from bytes, with numbers from the virtio specification, so that no header is trusted.
 */
#ifndef TEST_ABI_VIOMMU_RIG_H
#define TEST_ABI_VIOMMU_RIG_H

#include "../check.h"

#include <errno.h>

#include <uiommu/virtio_iommu.h>

#define PAGE UINT64_C(4096)
#define MIB2 UINT64_C(0x200000)
#define LAST ((UINT64_C(1) << 39) - 1)

enum { INPUT_RANGE = 1, DOMAIN_RANGE = 2, MAP_UNMAP = 4, BYPASS = 8, PROBE = 16, MMIO = 32 };
enum { BYPASS_CONFIG = 64, USUAL = 0x77 };
enum { OK, IOERR, UNSUPP, DEVERR, INVAL, RANGE, NOENT, FAULT, NOMEM, NOTHING = 99 };
enum { R = 1, W = 2, IO = 4 };
enum { EP_A = 0x0010, EP_B = 0x0018, SELF = 0x0008 };

/* ---- a machine: memory that is made up, a space for "guest-physical" addresses ---- */

static uint8_t value_at(uint64_t addr)
{
	return (uint8_t)(addr * 31 + (addr >> 12) * 7 + (addr >> 33));
}

static int made_up_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = value_at(addr + i);
	return 0;
}

static int made_up_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	return 0;
}

static const struct uiommu_memory_ops made_up_ops = {
	.size = sizeof(made_up_ops), .read = made_up_read, .write = made_up_write};
static const struct uiommu_memory made_up = {.ops = &made_up_ops};

static const struct uiommu_resv_region regions[] = {
	{{0xfee00000, 0xfeefffff}, UIOMMU_RESV_MSI, UIOMMU_WRITE},
	{{0xf0000000, 0xf0ffffff}, UIOMMU_RESV_RESERVED, 0},
	{{0xf1000000, 0xf1ffffff}, UIOMMU_RESV_DIRECT, 3},
	{{0x08000000, 0x080fffff}, UIOMMU_RESV_SW_MSI, 3},
	{{0x09000000, 0x09ffffff}, UIOMMU_RESV_DIRECT_RELAXABLE, 3},
};

struct rig {
	struct uiommu_platform_facts facts;
	struct uiommu_unit *unit;
	struct uiommu_ioas *ioas;
	struct uiommu_domain *space;
	struct uiommu_port *a, *b;
	struct uiommu_virtio_iommu *dev;
	_Atomic unsigned events;
};

#define RAM	 0x100000000 /* where "guest-physical" 0 is */
#define RAM_SIZE (64 * MIB2)

static void on_event(void *ctx)
{
	((struct rig *)ctx)->events++;
}

static int make_dev(struct rig *rig, struct uiommu_virtio_iommu_options *o)
{
	o->size = sizeof(*o);
	o->facts = &rig->facts;
	o->event = on_event;
	o->event_ctx = rig;
	return uiommu_virtio_iommu_create(rig->unit, o, &rig->dev);
}

static void rig_up(struct rig *rig, struct uiommu_virtio_iommu_options *o)
{
	const struct uiommu_unit_options uo = {.size = sizeof(uo), .memory = &made_up};
	const struct uiommu_domain_options dopt = {
		.size = sizeof(dopt), .format = "vtd-ss", .width = 39};

	*rig = (struct rig){.facts = {.name = "test",
				      .format = "vtd-ss",
				      .width = 39,
				      .regions = regions,
				      .region_count = 5}};
	assert_int_equal(uiommu_unit_create(&uo, &rig->unit), 0);
	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(rig->unit, rig->ioas, &dopt, &rig->space), 0);
	assert_int_equal(
		uiommu_ioas_map(rig->ioas, (struct uiommu_range){0, RAM_SIZE - 1}, RAM, 3, NULL),
		0);
	assert_int_equal(make_dev(rig, o), 0);
	for (unsigned i = 0; i < 2; i++) {
		uiommu_rid rid = i ? EP_B : EP_A;

		assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig->dev, rid), 0);
		assert_int_equal(uiommu_domain_attach(rig->space, rid, NULL, 0, "ep"), 0);
		assert_int_equal(uiommu_port_create(rig->unit, rid, i ? &rig->b : &rig->a), 0);
		uiommu_port_set_master(i ? rig->b : rig->a, true);
	}
}

static void rig_usual(struct rig *rig)
{
	struct uiommu_virtio_iommu_options o = {.bypass = true};

	rig_up(rig, &o);
	assert_int_equal(uiommu_virtio_iommu_features(rig->dev), USUAL);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig->dev, USUAL), 0);
}

static void rig_down(struct rig *rig)
{
	uiommu_virtio_iommu_destroy(rig->dev);
	uiommu_port_destroy(rig->a);
	uiommu_port_destroy(rig->b);
	uiommu_domain_detach(rig->space, EP_A);
	uiommu_domain_detach(rig->space, EP_B);
	uiommu_domain_destroy(rig->space);
	uiommu_ioas_destroy(rig->ioas);
	uiommu_unit_destroy(rig->unit);
}

/* ---- requests, byte by byte ---- */

struct bytes {
	uint8_t b[128];
	size_t n;
};

static void put(struct bytes *to, uint64_t value, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		to->b[to->n++] = (uint8_t)(value >> (8 * i));
}

/* Send, and take the status from where it has to be: NOTHING if nothing was written. */
static int send(struct rig *rig, const struct bytes *req, size_t out_len)
{
	uint8_t out[256];
	size_t written = 12345;
	int ret;

	memset(out, 0xaa, sizeof(out));
	ret = uiommu_virtio_iommu_request(rig->dev, req->b, req->n, out, out_len, &written);
	if (ret) {
		assert_int_equal(ret, -EBADMSG);
		assert_int_equal(written, 0);
		assert_int_equal(out[0], 0xaa);
		return NOTHING;
	}
	assert_int_equal(written, 4);
	assert_int_equal(out[1] | out[2] | out[3], 0);
	for (size_t i = 4; i < sizeof(out); i++)
		assert_int_equal(out[i], 0xaa);
	return out[0];
}

static struct bytes attach_req(uint32_t domain, uint32_t endpoint, uint32_t flags, uint32_t res)
{
	struct bytes req = {.n = 0};

	put(&req, 0x5a5a5a01, 4); /* what is reserved in the head is ignored */
	put(&req, domain, 4);
	put(&req, endpoint, 4);
	put(&req, flags, 4);
	put(&req, res, 4);
	return req;
}

static int attach(struct rig *rig, uint32_t domain, uint32_t endpoint, uint32_t flags)
{
	struct bytes req = attach_req(domain, endpoint, flags, 0);

	return send(rig, &req, 4);
}

static int detach(struct rig *rig, uint32_t domain, uint32_t endpoint)
{
	struct bytes req = {.n = 0};

	put(&req, 2, 4);
	put(&req, domain, 4);
	put(&req, endpoint, 4);
	put(&req, 0x123456789, 8); /* ignored */
	return send(rig, &req, 4);
}

static struct bytes map_req(uint32_t domain, uint64_t first, uint64_t last, uint64_t phys,
			    uint32_t flags)
{
	struct bytes req = {.n = 0};

	put(&req, 3, 4);
	put(&req, domain, 4);
	put(&req, first, 8);
	put(&req, last, 8);
	put(&req, phys, 8);
	put(&req, flags, 4);
	return req;
}

static int map(struct rig *rig, uint32_t domain, uint64_t first, uint64_t last, uint64_t phys,
	       uint32_t flags)
{
	struct bytes req = map_req(domain, first, last, phys, flags);

	return send(rig, &req, 4);
}

static struct bytes unmap_req(uint32_t domain, uint64_t first, uint64_t last, uint32_t res)
{
	struct bytes req = {.n = 0};

	put(&req, 4, 4);
	put(&req, domain, 4);
	put(&req, first, 8);
	put(&req, last, 8);
	put(&req, res, 4);
	return req;
}

static int unmap(struct rig *rig, uint32_t domain, uint64_t first, uint64_t last)
{
	struct bytes req = unmap_req(domain, first, last, 0);

	return send(rig, &req, 4);
}

/* ---- what devices see ---- */

static void check_at(struct uiommu_port *port, uint64_t iova, uint64_t phys)
{
	uint8_t byte;

	assert_int_equal(uiommu_port_read(port, iova, &byte, 1), 0);
	assert_int_equal(byte, value_at(RAM + phys));
}

static void check_no(struct uiommu_port *port, uint64_t iova)
{
	uint8_t byte;

	assert_int_equal(uiommu_port_read(port, iova, &byte, 1), -EFAULT);
}

static uint64_t get(const uint8_t *b, unsigned len)
{
	uint64_t v = 0;

	while (len--)
		v = v << 8 | b[len];
	return v;
}

#endif
