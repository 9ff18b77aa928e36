/* SPDX-License-Identifier: MIT */
/*
 * virtio-iommu on buffers: a table of requests and what they are answered, row by row; the order of
 * the checks; domains, endpoints, bypass and faults as devices see them; allocation failure; and
 * threads that send requests while devices do DMA. Requests are put together from bytes here, with
 * numbers from the virtio specification, so that no header is trusted.
 */
#include "../check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

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

/* ---- tables ---- */

static void test_attach(void **state)
{
	/* In this order, each on what the rows before it left. */
	static const struct {
		uint32_t domain, endpoint, flags, res;
		int status;
	} rows[] = {
		{1, EP_A, 0, 1, INVAL},
		{1, EP_A, 0, 0x80000000, INVAL},
		{1, EP_A, 2, 0, INVAL},
		{1, EP_A, 0x80000001, 0, INVAL},
		{1, 0x11, 2, 1, INVAL}, /* reserved, then flags, come before */
		{1, 0x11, 2, 0, INVAL},
		{0, 0x11, 0, 0, RANGE}, /* then the number */
		{4, EP_A, 0, 0, RANGE},
		{UINT32_MAX, EP_A, 0, 0, RANGE},
		{1, 0x11, 0, 0, NOENT},
		{1, SELF, 0, 0, NOENT},
		{1, EP_A | 0x10000, 0, 0, NOENT},
		{1, UINT32_MAX, 0, 0, NOENT},
		{1, EP_A, 0, 0, OK},
		{1, EP_A, 0, 0, OK},	/* again */
		{1, EP_A, 1, 0, INVAL}, /* not what the domain is */
		{1, EP_B, 1, 0, INVAL},
		{1, 0x11, 1, 0, NOENT},
		{1, EP_B, 0, 0, OK}, /* shared */
		{3, EP_B, 1, 0, OK}, /* moved to a bypass domain */
		{3, EP_A, 0, 0, INVAL},
		{3, EP_A, 1, 0, OK}, /* 1 is gone now */
		{1, EP_A, 1, 0, OK}, /* and may be something else */
	};
	struct uiommu_virtio_iommu_options o = {.domain_first = 1, .domain_last = 3};
	struct uiommu_virtio_iommu_stats stats;
	struct rig rig;

	rig_up(&rig, &o);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bytes req =
			attach_req(rows[i].domain, rows[i].endpoint, rows[i].flags, rows[i].res);
		int status = send(&rig, &req, 4);

		if (status != rows[i].status)
			fail_msg("attach row %zu: %d, expected %d", i, status, rows[i].status);
	}
	uiommu_virtio_iommu_stats(rig.dev, &stats);
	assert_int_equal(stats.domains, 2);
	/* The flag needs its feature. */
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL & ~BYPASS_CONFIG), 0);
	assert_int_equal(attach(&rig, 2, EP_A, 1), INVAL);
	rig_down(&rig);
}

static void test_detach(void **state)
{
	struct rig rig;

	rig_usual(&rig);
	assert_int_equal(detach(&rig, 1, 0x11), NOENT);
	assert_int_equal(detach(&rig, 1, EP_A), INVAL); /* no such domain */
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(attach(&rig, 2, EP_B, 0), OK);
	assert_int_equal(detach(&rig, 2, EP_A), INVAL); /* not attached to that one */
	assert_int_equal(detach(&rig, 2, 0x11), NOENT);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 5 * PAGE, R), OK);
	check_at(rig.a, 3, 5 * PAGE + 3);
	assert_int_equal(detach(&rig, 1, EP_A), OK);
	check_at(rig.a, 3, 3); /* bypass */
	assert_int_equal(detach(&rig, 1, EP_A), INVAL);
	/* The domain went with its last endpoint, and its mappings with it. */
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 5 * PAGE, R), NOENT);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	check_no(rig.a, 3);
	rig_down(&rig);
}

static void test_map(void **state)
{
	static const struct {
		uint32_t domain;
		uint64_t first, last, phys;
		uint32_t flags;
		int status;
	} rows[] = {
		{1, 0, PAGE - 1, 0, 8, INVAL},
		{1, 0, PAGE - 1, 0, 0x80000003, INVAL},
		{1, 0, PAGE - 1, 0, 0, INVAL},
		{1, 0, PAGE - 1, 0, IO, INVAL},
		{9, PAGE, 0, 1, 8, INVAL}, /* flags come first */
		{9, PAGE, 0, 1, R, INVAL}, /* then an empty range */
		{1, PAGE, PAGE - 1, 0, R, INVAL},
		{9, 1, PAGE - 1, 0, R, RANGE}, /* then alignment */
		{1, 0, PAGE, 0, R, RANGE},
		{1, 0, 0, 0, R, RANGE},
		{1, 0, PAGE - 1, 1, R, RANGE},
		{9, LAST + 1, LAST + PAGE, 0, R, RANGE}, /* then what can be translated */
		{1, LAST + 1 - PAGE, LAST + PAGE, 0, R, RANGE},
		{1, 0, UINT64_MAX, 0, R, RANGE},
		{1, UINT64_MAX - PAGE + 1, UINT64_MAX, 0, R, RANGE},
		{9, 0, PAGE - 1, UINT64_MAX - PAGE + 1, R, NOENT},     /* then the domain */
		{2, 0, PAGE - 1, UINT64_MAX - PAGE + 1, R, INVAL},     /* a bypass domain */
		{1, 0, 2 * PAGE - 1, UINT64_MAX - PAGE + 1, R, RANGE}, /* then what is behind it */
		{1, 0, PAGE - 1, UINT64_MAX - PAGE + 1, R, RANGE},
		{1, 0, PAGE - 1, UINT64_C(1) << 52, R, RANGE},
		{1, 0, 2 * PAGE - 1, (UINT64_C(1) << 52) - PAGE, R, RANGE},
		{1, 0, PAGE - 1, (UINT64_C(1) << 52) - PAGE, R, OK},
		{1, 0, PAGE - 1, 0, R, INVAL}, /* something is there */
		{1, 0, 4 * PAGE - 1, 0, R, INVAL},
		{1, PAGE, 4 * PAGE - 1, 0, R | W, OK},
		{1, 4 * PAGE, 5 * PAGE - 1, 0, W, OK},
		{1, 5 * PAGE, 6 * PAGE - 1, 0, R | W | IO, OK},
		{1, LAST + 1 - PAGE, LAST, 0, R, OK},
		{1, 0xfee00000, 0xfee00fff, 0, W, INVAL}, /* reserved */
		{1, 0xfeeff000, 0xfef00fff, 0, W, INVAL},
		{1, 0xf0ff0000, 0xf1000fff, 0, R, INVAL},
		{1, 0xf1fff000, 0xf1ffffff, 0, R, INVAL},
		{1, 0xf2000000, 0xf2000fff, 0, R, OK},
		{1, 0xfef00000, 0xfef00fff, 0, R, OK},
		{1, 0x08000000, 0x08000fff, 0, R, OK}, /* for software's doorbells: not reserved */
		{1, 0x09000000, 0x09000fff, 0, R, OK}, /* relaxed */
	};
	struct uiommu_virtio_iommu_options o = {.bypass = true};
	struct rig rig;

	rig_up(&rig, &o);
	/* Without its feature it isn't there, whatever is wrong besides. */
	assert_int_equal(map(&rig, 9, 1, 0, 1, 8), UNSUPP);
	assert_int_equal(unmap(&rig, 9, 1, 0), UNSUPP);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL & ~MMIO), 0);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(attach(&rig, 2, EP_B, 1), OK);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 0, R | IO), INVAL);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int status = map(&rig, rows[i].domain, rows[i].first, rows[i].last, rows[i].phys,
				 rows[i].flags);

		if (status != rows[i].status)
			fail_msg("map row %zu: %d, expected %d", i, status, rows[i].status);
	}
	check_at(rig.a, 2 * PAGE, PAGE);
	check_no(rig.a, 4 * PAGE); /* write-only */
	check_at(rig.a, 5 * PAGE + 1, 1);
	check_at(rig.b, 2 * PAGE, 2 * PAGE);
	rig_down(&rig);
}

static void test_unmap(void **state)
{
	struct uiommu_unit_stats before, after;
	struct bytes req;
	struct rig rig;

	rig_usual(&rig);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(attach(&rig, 2, EP_B, 1), OK);
	req = unmap_req(9, 1, 0, 1);
	assert_int_equal(send(&rig, &req, 4), INVAL); /* reserved comes first */
	assert_int_equal(unmap(&rig, 9, 1, 0), NOENT);
	assert_int_equal(unmap(&rig, 2, 1, 0), INVAL); /* a bypass domain */
	assert_int_equal(unmap(&rig, 1, 1, 0), INVAL); /* empty */
	/* The seven examples of the specification, in pages. */
	assert_int_equal(unmap(&rig, 1, 0, 5 * PAGE - 1), OK);
#define MAPPED(first, last)                                                                       \
	assert_int_equal(map(&rig, 1, (first)*PAGE, (last)*PAGE + PAGE - 1, (first)*PAGE, R | W), \
			 OK)
#define UNMAPPED(first, last, status) \
	assert_int_equal(unmap(&rig, 1, (first)*PAGE, (last)*PAGE + PAGE - 1), status)
	MAPPED(0, 9);
	UNMAPPED(0, 9, OK);
	check_no(rig.a, 0);
	MAPPED(0, 4);
	MAPPED(5, 9);
	UNMAPPED(0, 9, OK);
	check_no(rig.a, 0);
	check_no(rig.a, 9 * PAGE);
	MAPPED(0, 9);
	UNMAPPED(0, 4, RANGE);
	UNMAPPED(5, 9, RANGE);
	UNMAPPED(5, 20, RANGE);
	check_at(rig.a, 0, 0);
	check_at(rig.a, 9 * PAGE, 9 * PAGE);
	UNMAPPED(0, 9, OK);
	MAPPED(0, 4);
	MAPPED(5, 9);
	UNMAPPED(0, 4, OK);
	check_no(rig.a, 0);
	check_at(rig.a, 5 * PAGE, 5 * PAGE);
	MAPPED(0, 4);
	UNMAPPED(0, 7, RANGE); /* the second would be split: the first stays, too */
	check_at(rig.a, 0, 0);
	UNMAPPED(5, 20, OK);
	UNMAPPED(0, 9, OK);
	MAPPED(0, 4);
	MAPPED(10, 14);
	/* One flush for all of it, and none where nothing is. */
	uiommu_unit_stats(rig.unit, &before);
	UNMAPPED(0, 14, OK);
	uiommu_unit_stats(rig.unit, &after);
	assert_int_equal(after.flushes - before.flushes, 1);
	check_no(rig.a, 0);
	check_no(rig.a, 14 * PAGE);
	assert_int_equal(unmap(&rig, 1, 0, UINT64_MAX), OK);
	uiommu_unit_stats(rig.unit, &after);
	assert_int_equal(after.flushes - before.flushes, 1);
	/* Not aligned: nothing is there that it could cut. */
	assert_int_equal(unmap(&rig, 1, 1, 2), OK);
	MAPPED(0, 0);
	assert_int_equal(unmap(&rig, 1, 1, 2), RANGE);
	assert_int_equal(unmap(&rig, 1, 0, UINT64_MAX), OK);
	check_no(rig.a, 0);
	rig_down(&rig);
}

static int probe(struct rig *rig, uint32_t endpoint, uint8_t *out, size_t room, size_t *written)
{
	struct bytes req = {.n = 0};

	put(&req, 5, 4);
	put(&req, endpoint, 4);
	for (unsigned i = 0; i < 8; i++)
		put(&req, UINT64_MAX, 8); /* ignored */
	memset(out, 0xaa, 256);
	return uiommu_virtio_iommu_request(rig->dev, req.b, req.n, out, room, written);
}

static void test_probe(void **state)
{
	static const struct {
		uint8_t subtype;
		uint64_t first, last;
	} expected[] = {{0, 0xf0000000, 0xf1ffffff}, {1, 0xfee00000, 0xfeefffff}};
	uint8_t out[256], config[40];
	size_t size, written;
	struct rig rig;

	rig_usual(&rig);
	uiommu_virtio_iommu_config_read(rig.dev, 0, config, 40);
	size = get(config + 32, 4);
	assert_int_equal(size, 64);
	assert_int_equal(probe(&rig, EP_A, out, size + 4, &written), 0);
	assert_int_equal(written, size + 4);
	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *p = out + 24 * i;

		assert_int_equal(get(p, 2), 1);
		assert_int_equal(get(p + 2, 2), 20);
		assert_int_equal(p[4], expected[i].subtype);
		assert_int_equal(p[5] | p[6] | p[7], 0);
		assert_int_equal(get(p + 8, 8), expected[i].first);
		assert_int_equal(get(p + 16, 8), expected[i].last);
	}
	for (size_t i = 48; i < size + 4; i++)
		assert_int_equal(out[i], 0);
	assert_int_equal(out[size + 4], 0xaa);
	/* More room changes nothing; less is refused, with the status at the end. */
	assert_int_equal(probe(&rig, EP_A, out, 200, &written), 0);
	assert_int_equal(written, size + 4);
	assert_int_equal(out[size], OK);
	for (size_t room = 4; room < size + 4; room++) {
		assert_int_equal(probe(&rig, 0x11, out, room, &written), 0);
		assert_int_equal(written, room);
		assert_int_equal(out[room - 4], INVAL);
		assert_int_equal(out[room], 0xaa);
		for (size_t i = 0; i < room - 4; i++)
			assert_int_equal(out[i], 0);
	}
	for (size_t room = 0; room < 4; room++) {
		assert_int_equal(probe(&rig, EP_A, out, room, &written), -EBADMSG);
		assert_int_equal(out[0], 0xaa);
	}
	assert_int_equal(probe(&rig, 0x11, out, size + 4, &written), 0);
	assert_int_equal(out[size], NOENT);
	assert_int_equal(get(out, 8), 0);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL & ~PROBE), 0);
	assert_int_equal(probe(&rig, EP_A, out, size + 4, &written), -EBADMSG);
	rig_down(&rig);
}

/* Reserved regions in every position to one another: what is reported is disjoint, has one MSI
 * range, and covers what it should. */
static void test_properties(void **state)
{
	struct rng rng = rng_seeded("properties");

	for (unsigned round = 0; round < 3000; round++) {
		struct uiommu_resv_region list[6];
		struct uiommu_virtio_iommu_options o = {.probe_size = 1024};
		uint8_t kind[64] = {0}, seen[64] = {0}, *out = calloc(1, 1028);
		size_t count = rng_below(&rng, 7), written, msis = 0;
		bool msi = false;
		struct rig rig;

		for (size_t i = 0; i < count; i++) {
			uint64_t first = rng_below(&rng, 60), n = 1 + rng_below(&rng, 64 - first);

			if (n > 20)
				n = 20;
			list[i] = (struct uiommu_resv_region){
				.range = {first * PAGE, (first + n) * PAGE - 1},
				.type = rng_below(&rng, 3) ? UIOMMU_RESV_RESERVED : UIOMMU_RESV_MSI,
			};
			for (uint64_t p = first; p < first + n; p++) {
				bool is_msi = list[i].type == UIOMMU_RESV_MSI && !msi;

				kind[p] = is_msi || kind[p] == 2 ? 2 : 1;
			}
			msi |= list[i].type == UIOMMU_RESV_MSI;
		}
		rig_up(&rig, &o);
		uiommu_virtio_iommu_destroy(rig.dev);
		rig.facts.regions = list;
		rig.facts.region_count = count;
		assert_int_equal(make_dev(&rig, &o), 0);
		assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig.dev, EP_A), 0);
		assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
		assert_int_equal(uiommu_virtio_iommu_request(
					 rig.dev, (uint8_t[72]){5, 0, 0, 0, EP_A & 0xff, EP_A >> 8},
					 72, out, 1028, &written),
				 0);
		assert_int_equal(out[1024], OK);
		for (const uint8_t *p = out; get(p, 2); p += 24) {
			for (uint64_t at = get(p + 8, 8); at < get(p + 16, 8); at += PAGE) {
				assert_int_equal(seen[at / PAGE], 0);
				seen[at / PAGE] = p[4] ? 2 : 1;
			}
			msis += p[4];
		}
		assert_memory_equal(seen, kind, sizeof(kind));
		assert_int_equal(msis, msi);
		rig_down(&rig);
		free(out);
	}
}

/* Cut short, or without room for the tail. */
static void test_short(void **state)
{
	struct bytes good[4];
	struct rig rig;

	rig_usual(&rig);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	good[0] = attach_req(1, EP_A, 0, 0);
	good[1] = map_req(1, 0, PAGE - 1, 0, R);
	good[2] = unmap_req(1, 0, PAGE - 1, 0);
	good[3] = attach_req(1, EP_A, 0, 0);
	good[3].b[0] = 2; /* DETACH is as long */
	for (unsigned i = 0; i < 4; i++) {
		struct bytes cut = good[i];

		for (size_t room = 0; room < 4; room++)
			assert_int_equal(send(&rig, &good[i], room), NOTHING);
		for (cut.n = 0; cut.n < good[i].n; cut.n++)
			assert_int_equal(send(&rig, &cut, 4), cut.n < 4 ? NOTHING : INVAL);
		/* Nothing of that was done. */
		if (i == 2)
			check_at(rig.a, 0, 0);
		else
			check_no(rig.a, 0);
		/* Longer is as good as exact. */
		cut.n = good[i].n + 40;
		assert_int_equal(send(&rig, &cut, 100), OK);
		if (i == 1)
			check_at(rig.a, 0, 0);
	}
	for (unsigned type = 0; type < 256; type++) {
		struct bytes req = good[0];

		req.b[0] = (uint8_t)type;
		req.n = 72;
		if (!type || type > 5)
			assert_int_equal(send(&rig, &req, 200), NOTHING);
	}
	rig_down(&rig);
}

static void test_config(void **state)
{
	struct uiommu_virtio_iommu_options o = {.domain_first = 5, .domain_last = 77};
	uint8_t config[48];
	struct rig rig;

	rig_up(&rig, &o);
	memset(config, 0xaa, sizeof(config));
	uiommu_virtio_iommu_config_read(rig.dev, 0, config, 48);
	assert_int_equal(get(config, 8), PAGE | MIB2 | UINT64_C(1) << 30);
	assert_int_equal(get(config + 8, 8), 0);
	assert_int_equal(get(config + 16, 8), LAST);
	assert_int_equal(get(config + 24, 4), 5);
	assert_int_equal(get(config + 28, 4), 77);
	assert_int_equal(get(config + 32, 4), 64);
	assert_int_equal(get(config + 36, 4), 0);
	assert_int_equal(get(config + 40, 8), 0);
	uiommu_virtio_iommu_config_read(rig.dev, UINT32_MAX, config, 4);
	assert_int_equal(get(config, 4), 0);
	/* Only bypass, only 0 or 1, only once the feature is accepted. */
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\1", 1);
	check_no(rig.a, 5);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\2", 1);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\xff", 1);
	uiommu_virtio_iommu_config_write(rig.dev, 35, "\1", 1);
	uiommu_virtio_iommu_config_write(rig.dev, 37, "\1\1\1", 3);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "", 0);
	check_no(rig.a, 5);
	uiommu_virtio_iommu_config_write(rig.dev, 0, memset(config, 1, 40), 40);
	check_at(rig.a, 5, 5);
	uiommu_virtio_iommu_config_read(rig.dev, 0, config, 48);
	assert_int_equal(get(config + 36, 4), 1);
	assert_int_equal(get(config, 8), PAGE | MIB2 | UINT64_C(1) << 30);
	/* A reset of the device leaves it, one of the system doesn't. */
	uiommu_virtio_iommu_reset(rig.dev, false);
	check_at(rig.a, 5, 5);
	uiommu_virtio_iommu_reset(rig.dev, true);
	check_no(rig.a, 5);
	rig_down(&rig);
}

static void test_options(void **state)
{
	static const struct {
		struct uiommu_virtio_iommu_options o;
		int ret;
	} rows[] = {
		{{.features = USUAL | 128}, -EINVAL},
		{{.features = MAP_UNMAP}, -EINVAL},
		{{.features = INPUT_RANGE}, -EINVAL},
		{{.features = USUAL | BYPASS}, -EINVAL},
		{{.features = INPUT_RANGE | MAP_UNMAP}, 0},
		{{.probe_size = 47}, -EINVAL},
		{{.probe_size = 48}, 0},
		{{.probe_size = 65537}, -EINVAL},
		{{.domain_first = 3, .domain_last = 2}, -EINVAL},
	};
	struct uiommu_virtio_iommu_options o = {0};
	struct uiommu_virtio_iommu *dev;
	struct rig rig;

	rig_up(&rig, &o);
	uiommu_virtio_iommu_destroy(rig.dev);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		o = rows[i].o;
		rig.dev = NULL;
		if (make_dev(&rig, &o) != rows[i].ret)
			fail_msg("options row %zu", i);
		uiommu_virtio_iommu_destroy(rig.dev);
	}
	o.size++;
	assert_int_equal(uiommu_virtio_iommu_create(rig.unit, &o, &dev), -E2BIG);
	o.size = 8;
	assert_int_equal(uiommu_virtio_iommu_create(rig.unit, &o, &dev), -EINVAL);
	assert_int_equal(uiommu_virtio_iommu_create(rig.unit, NULL, &dev), -EINVAL);
	rig.facts.width = 40;
	o = (struct uiommu_virtio_iommu_options){0};
	assert_int_equal(make_dev(&rig, &o), -EINVAL);
	rig.dev = NULL;
	rig_down(&rig);
}

/* ---- endpoints, bypass, faults ---- */

static void take_report(struct rig *rig, uint8_t reason, uint32_t flags, uint32_t endpoint,
			uint64_t address)
{
	uint8_t report[24];

	assert_int_equal(uiommu_virtio_iommu_next_event(rig->dev, report, 24), 24);
	assert_int_equal(report[0], reason);
	assert_int_equal(report[1] | report[2] | report[3], 0);
	assert_int_equal(get(report + 4, 4), flags);
	assert_int_equal(get(report + 8, 4), endpoint);
	assert_int_equal(get(report + 12, 4), 0);
	assert_int_equal(get(report + 16, 8), address);
}

static void test_faults(void **state)
{
	struct uiommu_virtio_iommu_stats stats;
	struct rig rig;
	uint8_t byte = 0, report[24];

	rig_usual(&rig);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	check_no(rig.a, 0x1234);
	assert_int_equal(rig.events, 1);
	take_report(&rig, 1, 0x101, EP_A, 0x1234);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 24), 0);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(attach(&rig, 1, EP_B, 0), OK);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 0, R), OK);
	assert_int_equal(map(&rig, 1, PAGE, 2 * PAGE - 1, RAM_SIZE, R | W), OK);
	assert_int_equal(uiommu_port_write(rig.b, 0x10, &byte, 1), -EFAULT);
	check_no(rig.b, 0x5678);
	check_no(rig.a, LAST + 7);
	take_report(&rig, 2, 0x102, EP_B, 0x10);
	take_report(&rig, 2, 0x101, EP_B, 0x5678);
	take_report(&rig, 2, 0x101, EP_A, LAST + 7);
	/* What is missing behind the stage 1 is none of this device's. */
	check_no(rig.a, PAGE);
	assert_int_equal(rig.events, 4);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 24), 0);
	/* A report that doesn't fit is lost, and so are those that there is no room for. */
	check_no(rig.b, 0x5678);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 23), -EMSGSIZE);
	for (unsigned i = 0; i < 100; i++)
		check_no(rig.b, 0x100000 + i);
	take_report(&rig, 2, 0x101, EP_B, 0x100000);
	uiommu_virtio_iommu_drop_events(rig.dev);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 24), 0);
	uiommu_virtio_iommu_stats(rig.dev, &stats);
	assert_int_equal(stats.events, 5);
	assert_int_equal(stats.dropped, 1 + 99);
	/* After a reset nothing of the past is told. */
	check_no(rig.b, 0x5678);
	uiommu_virtio_iommu_reset(rig.dev, false);
	assert_int_equal(uiommu_virtio_iommu_next_event(rig.dev, report, 24), 0);
	rig_down(&rig);
}

static void test_bypass(void **state)
{
	struct uiommu_virtio_iommu_options o = {.features = INPUT_RANGE | MAP_UNMAP | BYPASS,
						.bypass = true};
	struct rig rig;

	/* The older feature: bypass is what the driver accepts; there is no field for it. */
	rig_up(&rig, &o);
	check_no(rig.a, 9);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, BYPASS | MAP_UNMAP), 0);
	check_at(rig.a, 9, 9);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	check_at(rig.a, 9, 9);
	assert_int_equal(attach(&rig, 1, EP_A, 1), INVAL);
	uiommu_virtio_iommu_reset(rig.dev, false);
	check_no(rig.a, 9);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, PROBE), -EINVAL);
	rig_down(&rig);

	rig_usual(&rig);
	check_at(rig.a, 9, 9);
	assert_int_equal(attach(&rig, 7, EP_A, 1), OK);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	check_at(rig.a, 9, 9); /* a bypass domain's endpoint */
	check_no(rig.b, 9);    /* and one without a domain */
	assert_int_equal(attach(&rig, 8, EP_A, 0), OK);
	check_no(rig.a, 9);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\1", 1);
	check_no(rig.a, 9);
	check_at(rig.b, 9, 9);
	/* Given up, it is on its own; back again, it is under the rule. */
	uiommu_virtio_iommu_remove_endpoint(rig.dev, EP_A);
	uiommu_virtio_iommu_remove_endpoint(rig.dev, EP_A);
	check_at(rig.a, 9, 9);
	assert_int_equal(attach(&rig, 8, EP_A, 0), NOENT);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig.dev, EP_A), 0);
	assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig.dev, EP_A), -EEXIST);
	check_no(rig.a, 9);
	rig_down(&rig);
}

/* As a function of its own it has a say only over its own space. */
static void test_governed(void **state)
{
	struct uiommu_virtio_iommu_options o = {.governed = true, .self = SELF};
	struct rig rig;

	rig_up(&rig, &o);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 8 * PAGE, R), OK);
	check_at(rig.a, 9, 9);
	check_at(rig.b, 9, 9);
	assert_int_equal(uiommu_domain_attach(rig.space, SELF, NULL, 0, "self"), 0);
	check_at(rig.a, 9, 8 * PAGE + 9);
	check_no(rig.b, 9);
	uiommu_domain_detach(rig.space, SELF);
	check_at(rig.a, 9, 9);
	check_at(rig.b, 9, 9);
	rig_down(&rig);
}

static void test_space(void **state)
{
	struct uiommu_virtio_iommu_options o = {0};
	struct rig rig;

	rig_up(&rig, &o);
	uiommu_virtio_iommu_destroy(rig.dev);
	o.space = rig.space;
	assert_int_equal(make_dev(&rig, &o), 0);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig.dev, EP_A), 0);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, LAST + 1, R), RANGE);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 3 * PAGE, R), OK);
	check_at(rig.a, 1, 3 * PAGE + 1);
	rig_down(&rig);
}

static void test_limits(void **state)
{
	struct uiommu_virtio_iommu_options o = {.max_mappings = 4, .max_entries = 600};
	struct uiommu_virtio_iommu_stats stats;
	struct rig rig;

	rig_up(&rig, &o);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	/* As small pages too many entries, as large ones a handful. */
	assert_int_equal(map(&rig, 1, 0, 601 * PAGE - 1, PAGE, R), NOMEM);
	assert_int_equal(map(&rig, 1, 0, 600 * PAGE - 1, PAGE, R), OK);
	assert_int_equal(map(&rig, 1, MIB2 * 8, MIB2 * 8 + PAGE - 1, PAGE, R), NOMEM);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, PAGE, R), INVAL); /* not hidden by that */
	assert_int_equal(map(&rig, 1, 0xfee00000, 0xfee00fff, PAGE, R), INVAL);
	assert_int_equal(unmap(&rig, 1, 0, 600 * PAGE - 1), OK);
	assert_int_equal(map(&rig, 1, UINT64_C(1) << 38, LAST, 0, R), OK); /* 256 of 1 GiB */
	assert_int_equal(map(&rig, 1, MIB2 - PAGE, 300 * MIB2 + PAGE - 1, MIB2 - PAGE, R), OK);
	assert_int_equal(map(&rig, 1, 0, 44 * PAGE - 1, 0, R), NOMEM); /* 256 + 301 + 44 */
	assert_int_equal(map(&rig, 1, 0, 43 * PAGE - 1, 0, R), OK);
	assert_int_equal(unmap(&rig, 1, 0, 43 * PAGE - 1), OK);
	assert_int_equal(map(&rig, 1, 0, PAGE - 1, 0, R), OK);
	assert_int_equal(map(&rig, 1, PAGE, 2 * PAGE - 1, 0, R), OK);
	assert_int_equal(map(&rig, 1, 2 * PAGE, 3 * PAGE - 1, 0, R), NOMEM); /* the fifth */
	/* They come back with the domain. */
	assert_int_equal(attach(&rig, 2, EP_A, 0), OK);
	uiommu_virtio_iommu_stats(rig.dev, &stats);
	assert_int_equal(stats.mappings, 0);
	assert_int_equal(map(&rig, 2, 0, 600 * PAGE - 1, PAGE, R), OK);
	rig_down(&rig);
}

/* ---- no memory ---- */

static void sweep(struct rig *rig, const struct bytes *req, int before, uint64_t iova)
{
	long live = fail_live, n = 0;
	int status;

	do {
		assert_true(n < 64);
		fail_countdown = n++;
		status = send(rig, req, 4);
		fail_countdown = -1;
		assert_true(status == OK || status == NOMEM);
		if (status == NOMEM) {
			assert_int_equal(fail_live, live);
			/* As it was before. */
			if (before)
				check_at(rig->a, iova, before);
			else
				check_no(rig->a, iova);
		}
	} while (status != OK);
	assert_true(n > 1);
}

static void test_no_memory(void **state)
{
	struct uiommu_virtio_iommu_options o = {.bypass = true};
	struct uiommu_virtio_iommu *dev = NULL;
	struct bytes req;
	struct rig rig;
	int ret;

	uiommu_set_allocator(failing_alloc, failing_release);
	rig_up(&rig, &o);
	for (long n = 0;; n++) {
		long live = fail_live;

		assert_true(n < 64);
		fail_countdown = n;
		ret = uiommu_virtio_iommu_create(rig.unit, &o, &dev);
		fail_countdown = -1;
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_null(dev);
		assert_int_equal(fail_live, live);
	}
	for (long n = 0;; n++) {
		assert_true(n < 16);
		fail_countdown = n;
		ret = uiommu_virtio_iommu_add_endpoint(dev, 0x4242);
		fail_countdown = -1;
		if (!ret)
			break;
		assert_int_equal(ret, -ENOMEM);
	}
	uiommu_virtio_iommu_destroy(dev);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	req = attach_req(1, EP_A, 0, 0);
	sweep(&rig, &req, 5, 5);
	req = map_req(1, 0, 3 * PAGE - 1, 7 * PAGE, R);
	sweep(&rig, &req, 0, 5);
	req = attach_req(2, EP_A, 1, 0);
	sweep(&rig, &req, 7 * PAGE + 5, 5);
	/* What takes away needs nothing. */
	assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	assert_int_equal(map(&rig, 1, 0, 3 * PAGE - 1, 7 * PAGE, R), OK);
	fail_countdown = 0;
	assert_int_equal(unmap(&rig, 1, 0, 3 * PAGE - 1), OK);
	assert_int_equal(detach(&rig, 1, EP_A), OK);
	uiommu_virtio_iommu_config_write(rig.dev, 36, "\0", 1);
	check_no(rig.a, 5);
	uiommu_virtio_iommu_reset(rig.dev, true);
	check_at(rig.a, 5, 5);
	fail_countdown = -1;
	rig_down(&rig);
	assert_int_equal(fail_live, 0);
	uiommu_set_allocator(NULL, NULL);
}

/* ---- race ---- */

enum { RACE_PAGES = 8, LANE = 1024 };

static struct {
	struct rig rig;
	char *memory;
	_Atomic bool stop;
	_Atomic unsigned running;
} race;

static void *race_device(void *arg)
{
	struct uiommu_port *port = arg == (void *)1 ? race.rig.a : race.rig.b;
	struct rng rng = {.state = (uintptr_t)arg};
	char buf[LANE - 24];
	unsigned long hits = 0;
	bool started = false;

	memset(buf, 0xdd, sizeof(buf));
	while (!race.stop) {
		uint64_t iova = rng_below(&rng, RACE_PAGES) * PAGE + (uintptr_t)arg * LANE;

		hits += !uiommu_port_write(port, iova, buf, sizeof(buf));
		if (hits && !started) {
			started = true;
			race.running++;
		}
	}
	return (void *)hits;
}

/* Somebody else asks for this and that meanwhile. */
static void *race_other(void *arg)
{
	struct rng rng = {.state = 99};
	uint8_t out[68], report[24], config[40];
	size_t written;

	while (!race.stop) {
		struct bytes req = map_req(3, rng_below(&rng, 9) * PAGE, 9 * PAGE - 1, 0, R);

		req.b[0] = (uint8_t)(1 + rng_below(&rng, 5));
		req.b[4] = 3;
		uiommu_virtio_iommu_request(race.rig.dev, req.b, req.n, out, 68, &written);
		uiommu_virtio_iommu_next_event(race.rig.dev, report, 24);
		uiommu_virtio_iommu_config_read(race.rig.dev, 0, config, 40);
	}
	return NULL;
}

static void race_quiet(char mark)
{
	uint64_t changed = 0;

	memset(race.memory, mark, RACE_PAGES * PAGE);
	sched_yield();
	for (uint64_t i = 0; i < RACE_PAGES * PAGE; i++)
		changed += race.memory[i] != mark;
	assert_int_equal(changed, 0);
}

static void race_rig(void)
{
	const struct uiommu_unit_options uo = {.size = sizeof(uo), .iotlb_entries = 16};
	const struct uiommu_domain_options dopt = {
		.size = sizeof(dopt), .format = "vtd-ss", .width = 48};
	struct uiommu_virtio_iommu_options o = {.bypass = false};
	struct rig *rig = &race.rig;

	rig->facts = (struct uiommu_platform_facts){.format = "vtd-ss", .width = 48};
	assert_int_equal(uiommu_unit_create(&uo, &rig->unit), 0);
	assert_int_equal(uiommu_ioas_create(&rig->ioas), 0);
	assert_int_equal(uiommu_domain_create(rig->unit, rig->ioas, &dopt, &rig->space), 0);
	race.memory = aligned_alloc(PAGE, RACE_PAGES * PAGE);
	assert_int_equal(uiommu_ioas_map(rig->ioas,
					 (struct uiommu_range){MIB2, MIB2 + RACE_PAGES * PAGE - 1},
					 (uintptr_t)race.memory, 3, NULL),
			 0);
	assert_int_equal(make_dev(rig, &o), 0);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig->dev, USUAL), 0);
	for (unsigned i = 0; i < 2; i++) {
		uiommu_rid rid = i ? EP_B : EP_A;

		assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig->dev, rid), 0);
		assert_int_equal(uiommu_domain_attach(rig->space, rid, NULL, 0, "ep"), 0);
		assert_int_equal(uiommu_port_create(rig->unit, rid, i ? &rig->b : &rig->a), 0);
		uiommu_port_set_master(i ? rig->b : rig->a, true);
	}
}

static void test_race(void **state)
{
	struct rng rng = rng_seeded("virtio-iommu race");
	uint64_t rounds = test_steps(1500);
	struct rig *rig = &race.rig;
	pthread_t thread[3];

	race_rig();
	assert_int_equal(attach(rig, 1, EP_A, 0), OK);
	assert_int_equal(attach(rig, 1, EP_B, 0), OK);
	assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
	pthread_create(&thread[0], NULL, race_device, (void *)1);
	pthread_create(&thread[1], NULL, race_device, (void *)2);
	pthread_create(&thread[2], NULL, race_other, NULL);
	while (race.running < 2)
		sched_yield();
	for (uint64_t round = 0; round < rounds; round++) {
		char mark = (char)(round | 1);

		switch (rng_below(&rng, 4)) {
		case 0: /* unmapped */
			assert_int_equal(unmap(rig, 1, 0, RACE_PAGES * PAGE - 1), OK);
			race_quiet(mark);
			assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
			break;
		case 1: /* moved elsewhere; the domain goes */
			assert_int_equal(attach(rig, 2, EP_A, 0), OK);
			assert_int_equal(attach(rig, 2, EP_B, 0), OK);
			race_quiet(mark);
			assert_int_equal(attach(rig, 1, EP_A, 0), OK);
			assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
			assert_int_equal(attach(rig, 1, EP_B, 0), OK);
			break;
		case 2: /* detached, without bypass */
			assert_int_equal(detach(rig, 1, EP_A), OK);
			assert_int_equal(detach(rig, 1, EP_B), OK);
			race_quiet(mark);
			assert_int_equal(attach(rig, 1, EP_A, 0), OK);
			assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
			assert_int_equal(attach(rig, 1, EP_B, 0), OK);
			break;
		case 3: /* reset */
			uiommu_virtio_iommu_reset(rig->dev, round & 1);
			race_quiet(mark);
			assert_int_equal(uiommu_virtio_iommu_set_features(rig->dev, USUAL), 0);
			assert_int_equal(attach(rig, 1, EP_A, 0), OK);
			assert_int_equal(map(rig, 1, 0, RACE_PAGES * PAGE - 1, MIB2, R | W), OK);
			assert_int_equal(attach(rig, 1, EP_B, 0), OK);
			break;
		}
	}
	race.stop = true;
	for (unsigned i = 0; i < 3; i++) {
		void *hits;

		pthread_join(thread[i], &hits);
		assert_true(i == 2 || (unsigned long)hits > 2);
	}
	assert_true(rig->events > 0);
	rig_down(rig);
	free(race.memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attach),	  cmocka_unit_test(test_detach),
		cmocka_unit_test(test_map),	  cmocka_unit_test(test_unmap),
		cmocka_unit_test(test_probe),	  cmocka_unit_test(test_properties),
		cmocka_unit_test(test_short),	  cmocka_unit_test(test_config),
		cmocka_unit_test(test_options),	  cmocka_unit_test(test_faults),
		cmocka_unit_test(test_bypass),	  cmocka_unit_test(test_governed),
		cmocka_unit_test(test_space),	  cmocka_unit_test(test_limits),
		cmocka_unit_test(test_no_memory), cmocka_unit_test(test_race),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
