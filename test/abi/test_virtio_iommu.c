/* SPDX-License-Identifier: MIT */
/*
 * virtio-iommu on buffers: a table of requests and what they are answered, row by row, in the order
 * of the checks; requests cut short; properties, configuration and options.
 */
#include "viommu_rig.h"

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
		{1, 0x080ff000, 0x080fffff, 0, R, INVAL}, /* for software's doorbells */
		{1, 0x08100000, 0x08100fff, 0, R, OK},
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
	} expected[] = {{0, 0x08000000, 0x080fffff},
			{0, 0xf0000000, 0xf1ffffff},
			{1, 0xfee00000, 0xfeefffff}};
	uint8_t out[256], config[40];
	size_t size, written;
	struct rig rig;

	rig_usual(&rig);
	uiommu_virtio_iommu_config_read(rig.dev, 0, config, 40);
	size = get(config + 32, 4);
	assert_int_equal(size, 72);
	assert_int_equal(probe(&rig, EP_A, out, size + 4, &written), 0);
	assert_int_equal(written, size + 4);
	for (unsigned i = 0; i < 3; i++) {
		const uint8_t *p = out + 24 * i;

		assert_int_equal(get(p, 2), 1);
		assert_int_equal(get(p + 2, 2), 20);
		assert_int_equal(p[4], expected[i].subtype);
		assert_int_equal(p[5] | p[6] | p[7], 0);
		assert_int_equal(get(p + 8, 8), expected[i].first);
		assert_int_equal(get(p + 16, 8), expected[i].last);
	}
	for (size_t i = 72; i < size + 4; i++)
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

/* Where software places doorbells and hardware has none, that window is the MSI property: nobody
 * maps there, and memory that the space behind has there is not reached. */
static void test_doorbells(void **state)
{
	static const struct uiommu_resv_region window = {
		{16 * PAGE, 32 * PAGE - 1}, UIOMMU_RESV_SW_MSI, UIOMMU_WRITE};
	struct uiommu_virtio_iommu_options o = {.bypass = false};
	uint8_t out[256];
	size_t written;
	struct rig rig;

	rig_up(&rig, &o);
	uiommu_virtio_iommu_destroy(rig.dev);
	rig.facts.regions = &window;
	rig.facts.region_count = 1;
	assert_int_equal(make_dev(&rig, &o), 0);
	assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig.dev, EP_A), 0);
	assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
	assert_int_equal(probe(&rig, EP_A, out, 68, &written), 0);
	assert_int_equal(out[64], OK);
	assert_int_equal(get(out, 8), 0x100140001);
	assert_int_equal(get(out + 8, 8), window.range.first);
	assert_int_equal(get(out + 16, 8), window.range.last);
	assert_int_equal(get(out + 24, 8), 0);
	for (unsigned round = 0; round < 2; round++) {
		check_no(rig.a, 16 * PAGE);
		check_no(rig.a, 32 * PAGE - 1);
		assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
	}
	assert_int_equal(map(&rig, 1, 31 * PAGE, 32 * PAGE - 1, 0, W | IO), INVAL);
	assert_int_equal(map(&rig, 1, 32 * PAGE, 33 * PAGE - 1, 0, R), OK);
	check_at(rig.a, 32 * PAGE, 0);
	check_no(rig.a, 31 * PAGE);
	rig_down(&rig);
}

/* Reserved regions in every position to one another: what is reported is disjoint, has one MSI
 * range, and covers what it should. */
static void test_properties(void **state)
{
	struct rng rng = rng_seeded("properties");

	for (unsigned round = 0; round < 600; round++) {
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
	assert_int_equal(get(config + 32, 4), 72);
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
		{{.probe_size = 71}, -EINVAL},
		{{.probe_size = 72}, 0},
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

/* The limits are those of the tables that the facts ask for, to the last page; where a table is
 * made of windows there is no device. */
static void test_limits(void **state)
{
	static const struct {
		struct uiommu_platform_facts facts;
		int ret;
		uint64_t sizes, first, last;
	} rows[] = {
		{{.format = "vtd-ss", .width = 48}, 0, 0x40201000, 0, 0xffffffffffff},
		{{.format = "riscv", .width = 39}, 0, 0x40201000, 0, 0x3fffffffff},
		{{.format = "riscv", .width = 48}, 0, 0x8040201000, 0, 0x7fffffffffff},
		{{.format = "arm-s1", .width = 48, .page_sizes = 0x40201000},
		 0,
		 0x40201000,
		 0,
		 0xffffffffffff},
		{{.format = "arm-s2", .width = 44, .page_sizes = 0x200000},
		 0,
		 0x200000,
		 0,
		 0xfffffffffff},
		{{.format = "vtd-ss", .width = 39, .aperture = {0x100000000, 0x1ffffffff}},
		 0,
		 0x40201000,
		 0x100000000,
		 0x1ffffffff},
		{{.format = "pamu", .width = 36}, -EOPNOTSUPP},
		{{.format = "spapr-tce", .width = 64}, -EOPNOTSUPP},
		{{.format = "powernv-tce", .width = 64}, -EOPNOTSUPP},
		{{.format = NULL, .width = 64}, -EOPNOTSUPP},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct uiommu_virtio_iommu_options o = {.bypass = true};
		uint64_t page = rows[i].sizes & -rows[i].sizes;
		uint64_t first = rows[i].first, last = rows[i].last;
		uint8_t config[40];
		struct rig rig;

		rig_up(&rig, &o);
		uiommu_virtio_iommu_destroy(rig.dev);
		rig.dev = NULL;
		rig.facts = rows[i].facts;
		assert_int_equal(make_dev(&rig, &o), rows[i].ret);
		if (rows[i].ret) {
			assert_int_equal(uiommu_last_refusal()->rule, UIOMMU_RULE_UNSUPPORTED);
			rig_down(&rig);
			continue;
		}
		assert_int_equal(uiommu_virtio_iommu_add_endpoint(rig.dev, EP_A), 0);
		assert_int_equal(uiommu_virtio_iommu_set_features(rig.dev, USUAL), 0);
		uiommu_virtio_iommu_config_read(rig.dev, 0, config, sizeof(config));
		assert_int_equal(get(config, 8), rows[i].sizes);
		assert_int_equal(get(config + 8, 8), first);
		assert_int_equal(get(config + 16, 8), last);
		assert_int_equal(attach(&rig, 1, EP_A, 0), OK);
		assert_int_equal(map(&rig, 1, first, first + page - 1, 0, R), OK);
		assert_int_equal(map(&rig, 1, last - page + 1, last, MIB2, R), OK);
		check_at(rig.a, first, 0);
		check_at(rig.a, last, MIB2 + page - 1);
		if (first)
			assert_int_equal(map(&rig, 1, first - page, first - 1, 0, R), RANGE);
		assert_int_equal(map(&rig, 1, last + 1, last + page, 0, R), RANGE);
		rig_down(&rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attach),	  cmocka_unit_test(test_detach),
		cmocka_unit_test(test_map),	  cmocka_unit_test(test_unmap),
		cmocka_unit_test(test_probe),	  cmocka_unit_test(test_properties),
		cmocka_unit_test(test_short),	  cmocka_unit_test(test_config),
		cmocka_unit_test(test_options),	  cmocka_unit_test(test_limits),
		cmocka_unit_test(test_doorbells),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
