/* SPDX-License-Identifier: MIT */
/*
 * fuzz_virtio_iommu - requests of any bytes and lengths to a virtio-iommu, against a model that
 * takes the same bytes apart by itself and is too simple to be wrong: lists, searched from end to
 * end. Statuses, what is written where, what devices reach and which faults are reported must be
 * the model's. Memory is made up: a byte's value follows from its address.
 */
#include "fuzz.h"

#include <errno.h>

#include <uiommu/virtio_iommu.h>

enum { ENDPOINTS = 2, MAPPINGS = 24, WIDTH = 39, PROBE = 64 };
enum { OK, INVAL = 4, RANGE, NOENT, NOMEM = 8, NOTHING = 99 };
#define PAGE	 UINT64_C(4096)
#define LAST	 ((UINT64_C(1) << WIDTH) - 1)
#define OA_LAST	 ((UINT64_C(1) << 52) - 1)
#define ENTRIES	 UINT64_C(5000)
#define RAM	 UINT64_C(0x700000000) /* where the space behind has its memory */
#define RAM_SIZE UINT64_C(0x40000000)

static const uint16_t endpoints[ENDPOINTS] = {0x10, 0x18};
static const struct uiommu_resv_region regions[] = {
	{{0xfee00000, 0xfeefffff}, UIOMMU_RESV_MSI, UIOMMU_WRITE},
	{{0x10000, 0x1ffff}, UIOMMU_RESV_RESERVED, 0},
};

struct mapping {
	uint32_t domain;
	uint64_t first, last, phys, entries;
	int prot;
};

static struct model {
	bool attached[ENDPOINTS], bypass[ENDPOINTS]; /* the latter: its domain is one */
	uint32_t domain[ENDPOINTS];
	struct mapping mappings[MAPPINGS];
	unsigned count;
	uint64_t entries;
	bool bypass_on;
} model;

static struct uiommu_unit *unit;
static struct uiommu_ioas *ioas;
static struct uiommu_domain *space;
static struct uiommu_port *ports[ENDPOINTS];
static struct uiommu_virtio_iommu *dev;

/* ---- memory that isn't there ---- */

static uint8_t value_at(uint64_t addr)
{
	return addr * 31 + (addr >> 12) * 7 + (addr >> 39);
}

static int made_up_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = value_at(addr + i);
	return 0;
}

static int made_up_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	PROMISE(addr >= RAM && addr + (len - 1) < RAM + RAM_SIZE);
	return 0;
}

static const struct uiommu_memory_ops made_up_ops = {
	.size = sizeof(made_up_ops), .read = made_up_read, .write = made_up_write};
static const struct uiommu_memory made_up = {.ops = &made_up_ops};

/* ---- the model: requests from bytes ---- */

static uint64_t le(const uint8_t *in, unsigned at, unsigned len)
{
	uint64_t v = 0;

	while (len--)
		v = v << 8 | in[at + len];
	return v;
}

static int endpoint_of(uint32_t number)
{
	for (int i = 0; i < ENDPOINTS; i++)
		if (endpoints[i] == number)
			return i;
	return -1;
}

/* An endpoint in that domain, or -1: there is no such domain. */
static int member_of(uint32_t domain)
{
	for (int i = 0; i < ENDPOINTS; i++)
		if (model.attached[i] && model.domain[i] == domain)
			return i;
	return -1;
}

static void drop_mappings(uint32_t domain, uint64_t first, uint64_t last)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < model.count; i++) {
		struct mapping m = model.mappings[i];

		if (m.domain == domain && m.first >= first && m.last <= last)
			model.entries -= m.entries;
		else
			model.mappings[kept++] = m;
	}
	model.count = kept;
}

static void leave(int e)
{
	uint32_t domain = model.domain[e];

	model.attached[e] = false;
	if (member_of(domain) < 0)
		drop_mappings(domain, 0, UINT64_MAX);
}

static int model_attach(const uint8_t *in)
{
	uint32_t domain = le(in, 4, 4), flags = le(in, 12, 4);
	int e = endpoint_of(le(in, 8, 4)), other = member_of(domain);

	if (le(in, 16, 4) || flags > 1)
		return INVAL;
	if (domain < 1 || domain > 0xffff)
		return RANGE;
	if (e < 0)
		return NOENT;
	if (other >= 0 && model.bypass[other] != flags)
		return INVAL;
	if (model.attached[e] && model.domain[e] == domain)
		return OK;
	if (model.attached[e])
		leave(e);
	model.attached[e] = true;
	model.domain[e] = domain;
	model.bypass[e] = flags;
	return OK;
}

static int model_detach(const uint8_t *in)
{
	int e = endpoint_of(le(in, 8, 4));

	if (e < 0)
		return NOENT;
	if (!model.attached[e] || model.domain[e] != le(in, 4, 4))
		return INVAL;
	leave(e);
	return OK;
}

/* Leaves that a mapping takes, one after another; more than the limit is enough to know. */
static uint64_t leaves(uint64_t first, uint64_t last, uint64_t phys)
{
	uint64_t n = 0;

	for (;;) {
		uint64_t size = UINT64_C(1) << 30;

		while (size > PAGE && (((first | phys) & (size - 1)) || last - first < size - 1))
			size >>= 9;
		if (++n > ENTRIES || last - first == size - 1)
			return n;
		first += size;
		phys += size;
	}
}

static int model_map(const uint8_t *in)
{
	uint32_t domain = le(in, 4, 4), flags = le(in, 32, 4);
	uint64_t first = le(in, 8, 8), last = le(in, 16, 8), phys = le(in, 24, 8), end, n;
	int e = member_of(domain);

	if (flags > 7 || !(flags & 3) || first > last)
		return INVAL;
	if ((first | phys | (last + 1)) % PAGE || last > LAST)
		return RANGE;
	if (e < 0)
		return NOENT;
	if (model.bypass[e])
		return INVAL;
	end = phys + (last - first);
	if (end < phys)
		return RANGE;
	for (unsigned i = 0; i < 2; i++)
		if (regions[i].range.first <= last && first <= regions[i].range.last)
			return INVAL;
	for (unsigned i = 0; i < model.count; i++)
		if (model.mappings[i].domain == domain && model.mappings[i].first <= last &&
		    first <= model.mappings[i].last)
			return INVAL;
	n = leaves(first, last, phys);
	if (model.count == MAPPINGS || n > ENTRIES - model.entries)
		return NOMEM;
	if (end > OA_LAST)
		return RANGE;
	model.mappings[model.count++] = (struct mapping){domain, first, last, phys, n, flags & 3};
	model.entries += n;
	return OK;
}

static int model_unmap(const uint8_t *in)
{
	uint32_t domain = le(in, 4, 4);
	uint64_t first = le(in, 8, 8), last = le(in, 16, 8);
	int e = member_of(domain);

	if (le(in, 24, 4))
		return INVAL;
	if (e < 0)
		return NOENT;
	if (model.bypass[e] || first > last)
		return INVAL;
	for (unsigned i = 0; i < model.count; i++) {
		const struct mapping *m = &model.mappings[i];

		if (m->domain == domain && m->first <= last && first <= m->last &&
		    (m->first < first || m->last > last))
			return RANGE;
	}
	drop_mappings(domain, first, last);
	return OK;
}

static int model_request(const uint8_t *in, size_t in_len, size_t out_len)
{
	static const size_t need[] = {0, 20, 20, 36, 28, 72};

	if (in_len < 4 || !in[0] || in[0] > 5 || out_len < 4)
		return NOTHING;
	if (in_len < need[in[0]])
		return INVAL;
	switch (in[0]) {
	case 1:
		return model_attach(in);
	case 2:
		return model_detach(in);
	case 3:
		return model_map(in);
	case 4:
		return model_unmap(in);
	default:
		if (out_len < PROBE + 4)
			return INVAL;
		return endpoint_of(le(in, 4, 4)) < 0 ? NOENT : OK;
	}
}

/* ---- requests ---- */

static void put(uint8_t *to, unsigned at, uint64_t value, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		to[at + i] = value >> (8 * i);
}

/* Addresses gather at a few places, so that they meet one another. */
static uint64_t take_address(struct input *in)
{
	static const uint64_t bases[] = {0,
					 0,
					 0x200000 - 4 * PAGE,
					 0x40000000 - 8 * PAGE,
					 0xfee00000 - 4 * PAGE,
					 LAST + 1 - 8 * PAGE};
	uint8_t where = take8(in);

	if (where >= 250)
		return take64(in);
	return bases[where % 6] + take8(in) % 32 * PAGE + (where >= 240 ? take8(in) : 0);
}

static size_t make_request(struct input *in, uint8_t *req)
{
	uint8_t how = take8(in), type = how % 8 < 5 ? how % 8 + 1 : 3 + how % 2;
	uint64_t first = take_address(in), pages = take8(in);
	size_t len = 72;

	memset(req, 0, 72);
	put(req, 0, type, 1);
	put(req, 4, take8(in) % 4, 4);
	if (type == 5)
		put(req, 4, 0x10 + take8(in) % 3 * 8, 4);
	if (type == 1 || type == 2) {
		put(req, 8, 0x10 + take8(in) % 3 * 8, 4);
		put(req, 12, take8(in) % 8 == 0, 4);
	} else if (type == 3 || type == 4) {
		put(req, 8, first, 8);
		put(req, 16,
		    pages >= 248 ? UINT64_MAX
				 : first + (pages % 16 + 1) * PAGE * (pages > 200 ? 512 : 1) - 1,
		    8);
		if (type == 3)
			put(req, 24, take_address(in), 8);
		if (type == 3)
			put(req, 32, take8(in) % 4, 4);
	}
	if (how >= 192) /* and something is not as it should be */
		req[take8(in) % 72] ^= take8(in);
	if (how >= 224)
		len = take8(in) % 80;
	return len;
}

static void do_request(struct input *in)
{
	uint8_t req[80] = {0}, out[160], room = take8(in);
	size_t len = make_request(in, req), out_len = room < 128 ? PROBE + 4 : room % 100;
	size_t written = 4711, at = 0;
	int expected = model_request(req, len, out_len), ret;
	/* Exact copies, so that a sanitizer sees the first byte too many. */
	uint8_t *exact_in = malloc(len ? len : 1), *exact_out = malloc(out_len ? out_len : 1);

	memcpy(exact_in, req, len);
	memset(exact_out, 0xaa, out_len ? out_len : 1);
	ret = uiommu_virtio_iommu_request(dev, exact_in, len, exact_out, out_len, &written);
	memset(out, 0xaa, sizeof(out));
	memcpy(out, exact_out, out_len);
	free(exact_in);
	free(exact_out);
	if (expected == NOTHING) {
		PROMISE(ret == -EBADMSG && written == 0 && (!out_len || out[0] == 0xaa));
		return;
	}
	if (req[0] == 5)
		at = out_len < PROBE + 4 ? out_len - 4 : PROBE;
	PROMISE(ret == 0 && written == at + 4);
	PROMISE(out[at] == expected && !out[at + 1] && !out[at + 2] && !out[at + 3]);
	for (size_t i = at + 4; i < out_len; i++)
		PROMISE(out[i] == 0xaa);
	for (size_t i = 0; i < at; i++)
		PROMISE(expected == OK ? i < 48 || !out[i] : !out[i]);
	if (req[0] == 5 && expected == OK) {
		PROMISE(le(out, 8, 8) == 0x10000 && le(out, 16, 8) == 0x1ffff && out[4] == 0);
		PROMISE(le(out, 32, 8) == 0xfee00000 && out[28] == 1);
	}
}

/* ---- devices ---- */

/* What an access comes to: the address, or a fault and the reason in the report (0: none). */
static bool model_access(int e, uint64_t iova, int access, uint64_t *addr, uint8_t *reason)
{
	bool bypass = model.attached[e] ? model.bypass[e] : model.bypass_on;
	uint64_t phys = iova;

	*reason = model.attached[e] ? 2 : 1;
	if (!bypass) {
		const struct mapping *found = NULL;

		for (unsigned i = 0; model.attached[e] && i < model.count; i++)
			if (model.mappings[i].domain == model.domain[e] &&
			    model.mappings[i].first <= iova && iova <= model.mappings[i].last)
				found = &model.mappings[i];
		if (!found || !(found->prot & access))
			return false;
		phys = found->phys + (iova - found->first);
	}
	*reason = 0;
	*addr = RAM + phys;
	return phys < RAM_SIZE;
}

static void do_access(struct input *in)
{
	uint8_t how = take8(in), byte = 0, report[24], reason;
	int e = how % 2, access = how & 2 ? UIOMMU_READ : UIOMMU_WRITE, ret;
	uint64_t iova = take_address(in) + how % 61, addr = 0;
	bool reached = model_access(e, iova, access, &addr, &reason);

	ret = access == UIOMMU_READ ? uiommu_port_read(ports[e], iova, &byte, 1)
				    : uiommu_port_write(ports[e], iova, &byte, 1);
	PROMISE(ret == (reached ? 0 : -EFAULT));
	if (reached && access == UIOMMU_READ)
		PROMISE(byte == value_at(addr));
	PROMISE(uiommu_virtio_iommu_next_event(dev, report, 24) == (reason ? 24 : 0));
	if (!reason)
		return;
	PROMISE(report[0] == reason && le(report, 8, 4) == endpoints[e]);
	PROMISE(le(report, 4, 4) == (access == UIOMMU_READ ? 0x101 : 0x102));
	PROMISE(le(report, 16, 8) == iova);
}

static void do_switch(struct input *in)
{
	uint8_t what = take8(in), value = what & 1;

	if (what < 250) {
		uiommu_virtio_iommu_config_write(dev, 36, &value, 1);
		model.bypass_on = value;
		return;
	}
	uiommu_virtio_iommu_reset(dev, value);
	if (value)
		model.bypass_on = false;
	for (int e = 0; e < ENDPOINTS; e++)
		if (model.attached[e])
			leave(e);
	PROMISE(uiommu_virtio_iommu_set_features(dev, 0x77) == 0);
}

static void check_counts(void)
{
	struct uiommu_virtio_iommu_stats stats;
	unsigned domains = model.attached[0] + model.attached[1];

	if (domains == 2 && model.domain[0] == model.domain[1])
		domains = 1;
	uiommu_virtio_iommu_stats(dev, &stats);
	PROMISE(stats.domains == domains && stats.mappings == model.count);
	PROMISE(stats.dropped == 0);
}

static void set_up(void)
{
	const struct uiommu_unit_options uo = {
		.size = sizeof(uo), .memory = &made_up, .iotlb_entries = 16};
	const struct uiommu_domain_options dopt = {
		.size = sizeof(dopt), .format = "vtd-ss", .width = WIDTH};
	const struct uiommu_platform_facts facts = {
		.format = "vtd-ss", .width = WIDTH, .regions = regions, .region_count = 2};
	const struct uiommu_virtio_iommu_options vo = {.size = sizeof(vo),
						       .facts = &facts,
						       .domain_first = 1,
						       .domain_last = 0xffff,
						       .max_mappings = MAPPINGS,
						       .max_entries = ENTRIES};

	memset(&model, 0, sizeof(model));
	PROMISE(uiommu_unit_create(&uo, &unit) == 0);
	PROMISE(uiommu_ioas_create(&ioas) == 0);
	PROMISE(uiommu_domain_create(unit, ioas, &dopt, &space) == 0);
	PROMISE(uiommu_ioas_map(ioas, (struct uiommu_range){0, RAM_SIZE - 1}, RAM, 3, NULL) == 0);
	PROMISE(uiommu_virtio_iommu_create(unit, &vo, &dev) == 0);
	PROMISE(uiommu_virtio_iommu_set_features(dev, 0x77) == 0);
	for (int e = 0; e < ENDPOINTS; e++) {
		PROMISE(uiommu_virtio_iommu_add_endpoint(dev, endpoints[e]) == 0);
		PROMISE(uiommu_domain_attach(space, endpoints[e], NULL, 0, "fuzz") == 0);
		PROMISE(uiommu_port_create(unit, endpoints[e], &ports[e]) == 0);
		uiommu_port_set_master(ports[e], true);
	}
}

static void tear_down(void)
{
	uiommu_virtio_iommu_destroy(dev);
	for (int e = 0; e < ENDPOINTS; e++) {
		uiommu_port_destroy(ports[e]);
		uiommu_domain_detach(space, endpoints[e]);
	}
	uiommu_domain_destroy(space);
	uiommu_ioas_destroy(ioas);
	uiommu_unit_destroy(unit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};

	set_up();
	while (in.left) {
		uint8_t what = take8(&in);

		if (what < 160)
			do_request(&in);
		else if (what < 248)
			do_access(&in);
		else
			do_switch(&in);
		check_counts();
	}
	tear_down();
	return 0;
}
