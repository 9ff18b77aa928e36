/* SPDX-License-Identifier: MIT */
/*
 * The model virtio-iommu driven through its registers and queues: discovery, negotiation, queues in
 * every shape, interrupts, and queues and buffers that make no sense.
 */
#include "virtio_rig.h"

/* ---- discovery and negotiation ---- */

static void test_discovery(void **state)
{
	struct rig rig;

	rig_up(&rig, "virtio-iommu@00:04.0");
	assert_int_equal(cfg_read(&rig, 0, 4), 0x10571af4);
	assert_int_equal(cfg_read(&rig, 8, 4), 0x08060001);
	assert_int_equal(cfg_read(&rig, 0x2e, 2) >= 0x40, true);
	assert_int_equal(vd_get(&rig.d, VD_COMMON, 18, 2), 2);
	assert_int_equal(vd_offered(&rig.d),
			 USUAL | VD_F_INDIRECT | VD_F_EVENT_IDX | VD_F_VERSION_1 | VD_F_PLATFORM);
	vd_set(&rig.d, VD_COMMON, 0, 4, 2);
	assert_int_equal(vd_get(&rig.d, VD_COMMON, 4, 4), 0);
	/* Parts don't overlap, and are aligned. */
	for (unsigned i = 1; i < 5; i++) {
		assert_int_equal(rig.d.part[i].offset % 4, 0);
		assert_true(rig.d.part[i].len > 0);
		for (unsigned j = 1; j < i; j++)
			assert_true(
				rig.d.part[i].bar != rig.d.part[j].bar ||
				rig.d.part[i].offset + rig.d.part[i].len <= rig.d.part[j].offset ||
				rig.d.part[j].offset + rig.d.part[j].len <= rig.d.part[i].offset);
	}
	assert_true(rig.d.part[VD_DEVICE].len >= 40);
	assert_int_equal(vd_get(&rig.d, VD_DEVICE, 0, 4), 0x40201000);
	assert_int_equal(vd_get(&rig.d, VD_DEVICE, 16, 4), 0xffffffff);
	assert_int_equal(vd_get(&rig.d, VD_DEVICE, 20, 4), 0xffff);
	assert_int_equal(vd_get(&rig.d, VD_DEVICE, 36, 1), 1);
	/* Queues: one that isn't there has size 0. */
	for (unsigned i = 0; i < 4; i++) {
		vd_set(&rig.d, VD_COMMON, 22, 2, i);
		assert_int_equal(vd_get(&rig.d, VD_COMMON, 22, 2), i);
		assert_int_equal(vd_get(&rig.d, VD_COMMON, 24, 2), i < 2 ? 256 : 0);
		assert_int_equal(vd_get(&rig.d, VD_COMMON, 26, 2), 0xffff);
		assert_int_equal(vd_get(&rig.d, VD_COMMON, 28, 2), 0);
		vd_set(&rig.d, VD_COMMON, 24, 2, 64);
		vd_set(&rig.d, VD_COMMON, 24, 2, 48);
		vd_set(&rig.d, VD_COMMON, 24, 2, 512);
		vd_set(&rig.d, VD_COMMON, 24, 2, 0);
		vd_set(&rig.d, VD_COMMON, 28, 2, i < 2);
		assert_int_equal(vd_get(&rig.d, VD_COMMON, 24, 2), i < 2 ? 64 : 0);
		/* Vectors: those that are there, or none. */
		vd_set(&rig.d, VD_COMMON, 26, 2, 2);
		assert_int_equal(vd_get(&rig.d, VD_COMMON, 26, 2), i < 2 ? 2 : 0xffff);
		vd_set(&rig.d, VD_COMMON, 26, 2, 3);
		assert_int_equal(vd_get(&rig.d, VD_COMMON, 26, 2), 0xffff);
	}
	/* An enabled queue's addresses are fixed; those of others can be written whole, or in
	 * halves, and read back. */
	vd_set_status(&rig.d, 0);
	vd_set(&rig.d, VD_COMMON, 22, 2, 1);
	vd_set(&rig.d, VD_COMMON, 32, 8, 0x1122334455667788);
	vd_set(&rig.d, VD_COMMON, 36, 4, 0xabcdef);
	assert_int_equal(vd_get(&rig.d, VD_COMMON, 32, 8), 0xabcdef55667788);
	vd_set(&rig.d, VD_COMMON, 28, 2, 1);
	vd_set(&rig.d, VD_COMMON, 32, 4, 0);
	assert_int_equal(vd_get(&rig.d, VD_COMMON, 32, 8), 0xabcdef55667788);
	rig_down(&rig);
}

static void test_negotiation(void **state)
{
	static const struct {
		uint64_t features;
		bool fine;
	} rows[] = {
		{USUAL, false}, /* without VERSION_1 */
		{VD_F_VERSION_1, true},
		{VD_F_VERSION_1 | USUAL, true},
		{VD_F_VERSION_1 | USUAL | 8, false}, /* BYPASS is not offered */
		{VD_F_VERSION_1 | 1 << 7, false},
		{VD_F_VERSION_1 | UINT64_C(1) << 63, false},
		{VD_F_VERSION_1 | VD_F_PLATFORM | VD_F_INDIRECT | VD_F_EVENT_IDX, true},
	};
	struct rig rig;

	rig_up(&rig, "virtio-iommu@00:04.0");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(vd_negotiate(&rig.d, rows[i].features), rows[i].fine ? 11 : 3);
		if (!rows[i].fine)
			continue;
		/* What was agreed on stays, whatever is written. */
		vd_set(&rig.d, VD_COMMON, 8, 4, 0);
		vd_set(&rig.d, VD_COMMON, 12, 4, 0);
		assert_int_equal(vd_get(&rig.d, VD_COMMON, 12, 4), (uint32_t)rows[i].features);
	}
	/* Bits are added, and go with a reset. */
	vd_set_status(&rig.d, VD_ACK);
	assert_int_equal(vd_status(&rig.d), 11);
	vd_set_status(&rig.d, 128);
	assert_int_equal(vd_status(&rig.d), 139);
	vd_set_status(&rig.d, 0);
	assert_int_equal(vd_status(&rig.d), 0);
	vd_set(&rig.d, VD_COMMON, 8, 4, 0);
	assert_int_equal(vd_get(&rig.d, VD_COMMON, 12, 4), 0);
	/* Nothing is carried out before DRIVER_OK. */
	assert_int_equal(vd_negotiate(&rig.d, VD_F_VERSION_1 | USUAL), 11);
	vd_queue(&rig.d, 0, 1, true);
	assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), -1);
	vd_go(&rig.d);
	uiommu_function_drain(rig.fn);
	assert_int_equal(rig.d.mem->queue[0].used.idx, 1);
	rig_down(&rig);
}

static uint32_t through_window(struct rig *rig, unsigned part, unsigned offset, unsigned len)
{
	unsigned cap = rig->d.part[VD_WINDOW].cap;

	cfg_write(rig, cap + 4, 1, rig->d.part[part].bar);
	cfg_write(rig, cap + 8, 4, rig->d.part[part].offset + offset);
	cfg_write(rig, cap + 12, 4, len);
	return cfg_read(rig, cap + 16, 4);
}

static void test_window(void **state)
{
	unsigned cap;
	struct rig rig;

	rig_up(&rig, "virtio-iommu@00:04.0");
	cap = rig.d.part[VD_WINDOW].cap;
	/* It works without memory decoding: that is what it is for. */
	cfg_write(&rig, 4, 2, 0);
	assert_int_equal(through_window(&rig, VD_COMMON, 18, 2) & 0xffff, 2);
	assert_int_equal(through_window(&rig, VD_DEVICE, 0, 4), 0x40201000);
	through_window(&rig, VD_COMMON, 20, 1);
	cfg_write(&rig, cap + 16, 4, VD_ACK);
	cfg_write(&rig, 4, 2, 6);
	assert_int_equal(vd_status(&rig.d), VD_ACK);
	/* What cannot be accessed is left alone. */
	cfg_write(&rig, cap + 12, 4, 3);
	cfg_write(&rig, cap + 16, 4, 0);
	cfg_write(&rig, cap + 12, 4, 0);
	cfg_write(&rig, cap + 16, 4, 0);
	cfg_write(&rig, cap + 12, 4, 4);
	cfg_write(&rig, cap + 8, 4, 0xfffffffc);
	cfg_write(&rig, cap + 16, 4, 0);
	cfg_write(&rig, cap + 4, 1, 77);
	cfg_write(&rig, cap + 16, 4, 0);
	cfg_read(&rig, cap + 16, 4);
	assert_int_equal(vd_status(&rig.d), VD_ACK);
	/* Only the window is writable. */
	cfg_write(&rig, rig.d.part[VD_COMMON].cap + 8, 4, 0x77);
	assert_int_equal(cfg_read(&rig, rig.d.part[VD_COMMON].cap + 8, 4),
			 rig.d.part[VD_COMMON].offset);
	rig_down(&rig);
}

/* ---- queues ---- */

static void test_shapes(void **state)
{
	static const uint64_t extras[] = {0, VD_F_INDIRECT, VD_F_EVENT_IDX,
					  VD_F_INDIRECT | VD_F_EVENT_IDX | VD_F_PLATFORM};
	uint32_t attach[5] = {1, 7, 0, 0, 0}, probe[18] = {5};
	uint8_t out[128];
	struct rig rig;

	for (size_t e = 0; e < 4; e++) {
		bool indirect = extras[e] & VD_F_INDIRECT;

		rig_up(&rig, "virtio-iommu@00:04.0");
		rig_msix(&rig);
		rig_go(&rig, extras[e]);
		attach[2] = probe[1] = rig.ep;
		/* Cut anywhere: the request is the same. More requests than the ring has entries.
		 */
		for (size_t piece = 4; piece < 30; piece++) {
			assert_int_equal(vd_request(&rig.d, attach, 20, out, 4, piece, indirect),
					 4);
			assert_int_equal(out[0], OK);
		}
		for (size_t piece = 10; piece < 100; piece += 7) {
			assert_int_equal(vd_request(&rig.d, probe, 72, out, 68, piece, indirect),
					 68);
			assert_int_equal(out[64], OK);
			assert_int_equal(out[0] | out[4] << 8, 0x101); /* RESV_MEM, MSI */
		}
		assert_int_equal(rig.arrived[1], 26 + 13);
		assert_int_equal(rig.arrived[0] + rig.arrived[2], 0);
		/* Too short to be answered: given back, with nothing written. */
		assert_int_equal(vd_request(&rig.d, attach, 3, out, 4, 99, indirect), 0);
		assert_int_equal(out[0], 0xaa);
		assert_int_equal(vd_request(&rig.d, attach, 20, out, 3, 99, indirect), 0);
		assert_int_equal(vd_request(&rig.d, attach, 20, out, 0, 99, indirect), 0);
		assert_int_equal(vd_request(&rig.d, attach, 0, out, 4, 99, indirect), 0);
		attach[0] = 9;
		assert_int_equal(vd_request(&rig.d, attach, 20, out, 4, 99, indirect), 0);
		attach[0] = 1;
		assert_int_equal(vd_request(&rig.d, attach, 12, out, 4, 99, indirect), 4);
		assert_int_equal(out[0], INVAL);
		assert_int_equal(vd_status(&rig.d), 15);
		rig_down(&rig);
	}
}

static void test_interrupts(void **state)
{
	struct rig rig;

	/* Without MSI-X: INTx and the status that a read clears. */
	rig_up(&rig, "virtio-iommu@00:04.0");
	rig_go(&rig, 0);
	assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), OK);
	assert_true(rig.intx);
	assert_int_equal(vd_get(&rig.d, VD_ISR, 0, 1), 1);
	assert_false(rig.intx);
	assert_int_equal(vd_get(&rig.d, VD_ISR, 0, 1), 0);
	/* The driver says that it doesn't want any. */
	rig.d.mem->queue[0].avail.flags = 1;
	assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), OK);
	assert_false(rig.intx);
	rig_down(&rig);

	/* With event indices: only at the index asked for. */
	rig_up(&rig, "virtio-iommu@00:04.0");
	rig_msix(&rig);
	rig_go(&rig, VD_F_EVENT_IDX);
	assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), OK);
	assert_int_equal(rig.arrived[1], 1);
	assert_int_equal(rig.d.mem->queue[0].used.avail_event, 1);
	rig.d.mem->queue[0].avail.used_event = 2;
	assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), OK);
	assert_int_equal(rig.arrived[1], 1);
	rig.d.mem->queue[0].avail.used_event = 2;
	assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), OK);
	assert_int_equal(rig.arrived[1], 2);
	/* A queue without a vector has no interrupt. */
	rig_go(&rig, 0);
	vd_set(&rig.d, VD_COMMON, 22, 2, 0);
	vd_set(&rig.d, VD_COMMON, 26, 2, 0xffff);
	assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), OK);
	assert_int_equal(rig.arrived[1], 2);
	rig_down(&rig);
}

/* ---- queues that make no sense ---- */

enum hostile {
	LOOP,
	SELF_LOOP,
	TOO_LONG,
	HEAD_OUTSIDE,
	NEXT_OUTSIDE,
	READ_AFTER_WRITE,
	INDIRECT_REFUSED,
	INDIRECT_IN_INDIRECT,
	INDIRECT_EMPTY,
	INDIRECT_UNEVEN,
	INDIRECT_AND_NEXT,
	INDIRECT_OUTSIDE,
	INDIRECT_UNMAPPED,
	INDIRECT_LOOP,
	AVAIL_FAR_AHEAD,
	DESC_UNMAPPED,
	AVAIL_UNMAPPED,
	USED_UNMAPPED,
	HOSTILE_KINDS,
};

static void spoil_queue(struct vdrv *d, unsigned offset, uint64_t addr)
{
	vd_set(d, VD_COMMON, 22, 2, 0);
	vd_set(d, VD_COMMON, offset, 4, (uint32_t)addr);
	vd_set(d, VD_COMMON, offset + 4, 4, addr >> 32);
}

static void spoil_table(struct vdrv *d, enum hostile kind)
{
	struct vd_queue_memory *m = &d->mem->queue[0];
	struct vd_desc *first = &m->desc[0];

	*first = (struct vd_desc){.addr = vd_iova(d, m->table), .len = 32, .flags = VD_INDIRECT};
	vd_chain(d, m->table, vd_iova(d, m->buffer), 20, vd_iova(d, m->buffer + 64), 4, 64);
	switch (kind) {
	case INDIRECT_IN_INDIRECT:
		m->table[0] = (struct vd_desc){
			.addr = vd_iova(d, m->table), .len = 32, .flags = VD_INDIRECT};
		break;
	case INDIRECT_EMPTY:
		first->len = 0;
		break;
	case INDIRECT_UNEVEN:
		first->len = 40;
		break;
	case INDIRECT_AND_NEXT:
		first->flags |= VD_NEXT;
		first->next = 1;
		break;
	case INDIRECT_OUTSIDE:
		m->table[0].next = 2;
		break;
	case INDIRECT_UNMAPPED:
		first->addr = 0x5000;
		break;
	case INDIRECT_LOOP:
		m->table[1].next = 1;
		m->table[1].flags |= VD_NEXT;
		break;
	default:
		break;
	}
}

static void spoil(struct vdrv *d, enum hostile kind)
{
	struct vd_queue_memory *m = &d->mem->queue[0];
	uint16_t head = 0;

	vd_chain(d, m->desc, vd_iova(d, m->buffer), 20, vd_iova(d, m->buffer + 64), 4, 2);
	if (kind >= INDIRECT_REFUSED && kind <= INDIRECT_LOOP)
		spoil_table(d, kind);
	switch (kind) {
	case LOOP:
		m->desc[11].next = 10;
		m->desc[11].flags |= VD_NEXT;
		break;
	case SELF_LOOP:
		m->desc[0].next = 0;
		break;
	case TOO_LONG:
		for (unsigned i = 0; i < VD_SIZE; i++)
			m->desc[i] = (struct vd_desc){.addr = vd_iova(d, m->buffer),
						      .flags = VD_NEXT,
						      .next = (uint16_t)((i + 1) % VD_SIZE)};
		break;
	case HEAD_OUTSIDE:
		head = VD_SIZE;
		break;
	case NEXT_OUTSIDE:
		m->desc[2].next = 0xffff;
		break;
	case READ_AFTER_WRITE:
		m->desc[1].flags |= VD_WRITE;
		break;
	case AVAIL_FAR_AHEAD:
		__atomic_store_n(&m->avail.idx, 100, __ATOMIC_RELEASE);
		break;
	default:
		break;
	}
	vd_offer(d, 0, head);
}

static void test_hostile_queues(void **state)
{
	for (enum hostile kind = 0; kind < HOSTILE_KINDS; kind++) {
		uint64_t extra = kind == INDIRECT_REFUSED ? 0 : VD_F_INDIRECT;
		struct rig rig;

		rig_up(&rig, "virtio-iommu@00:04.0");
		rig_msix(&rig);
		vd_set(&rig.d, VD_COMMON, 16, 2, 0);
		assert_int_equal(vd_negotiate(&rig.d, VD_F_VERSION_1 | USUAL | extra), 11);
		vd_set(&rig.d, VD_COMMON, 16, 2, 0);
		vd_queue(&rig.d, 0, 1, false);
		if (kind >= DESC_UNMAPPED)
			spoil_queue(&rig.d, 32 + 8 * (kind - DESC_UNMAPPED), 0x7000);
		vd_set(&rig.d, VD_COMMON, 28, 2, 1);
		vd_queue(&rig.d, 1, 2, true);
		vd_go(&rig.d);
		spoil(&rig.d, kind);
		uiommu_function_drain(rig.fn);
		/* It says so, does nothing more, and is well again after a reset. */
		if (vd_status(&rig.d) != (15 | VD_NEEDS_RESET))
			fail_msg("hostile queue %d: status %#x", kind, vd_status(&rig.d));
		assert_int_equal(rig.arrived[0], 1);
		vd_go(&rig.d);
		assert_int_equal(vd_status(&rig.d), 15 | VD_NEEDS_RESET);
		vd_notify(&rig.d, 0);
		uiommu_function_drain(rig.fn);
		assert_int_equal(rig.arrived[0], 1);
		rig_go(&rig, 0);
		assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), OK);
		assert_int_equal(vd_status(&rig.d), 15);
		rig_down(&rig);
	}
}

/* Buffers that aren't there concern their request alone. */
static void test_hostile_buffers(void **state)
{
	static const struct {
		uint64_t in, out;
		uint32_t in_len, out_len;
	} rows[] = {
		{0x5000, IOVA + DATA, 20, 4},
		{IOVA + DATA, 0x5000, 20, 4},
		{UINT64_MAX - 3, IOVA + DATA, 20, 4},
		{IOVA + DATA, UINT64_MAX, 20, 4},
		{IOVA + RAM - 8, IOVA + DATA, 20, 4},
		{IOVA + DATA, IOVA + RAM - 2, 20, 4},
		{0xfee00000, IOVA + DATA, 20, 4},
		{IOVA + DATA, IOVA + RAM - 4, UINT32_MAX, UINT32_MAX}, /* this one works */
	};
	struct rig rig;

	rig_up(&rig, "virtio-iommu@00:04.0");
	rig_go(&rig, 0);
	memcpy(rig.ram + DATA, (uint32_t[]){1, 7, rig.ep, 0, 0}, 20);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vd_desc *desc = rig.d.mem->queue[0].desc;
		uint32_t id = 99;
		int64_t len;

		desc[3] = (struct vd_desc){rows[i].in, rows[i].in_len, VD_NEXT, 5};
		desc[5] = (struct vd_desc){rows[i].out, rows[i].out_len, VD_WRITE, 0};
		vd_offer(&rig.d, 0, 3);
		len = vd_take(&rig.d, 0, &id);
		assert_int_equal(id, 3);
		if (len != (i == 7 ? 4 : 0))
			fail_msg("buffer row %zu: %d", i, (int)len);
		assert_int_equal(vd_status(&rig.d), 15);
		memset(rig.ram + DATA + 20, 0, 4);
	}
	rig_down(&rig);
}

/* Rings and tables full of noise. */
static void test_noise(void **state)
{
	struct rng rng = rng_seeded("virtqueue noise");
	uint64_t rounds = test_steps(3000);
	struct rig rig;

	rig_up(&rig, "virtio-iommu@00:04.0");
	for (uint64_t round = 0; round < rounds; round++) {
		struct vd_queue_memory *m = rig.d.mem->queue;

		if (round % 4 == 0)
			rig_go(&rig, rng_below(&rng, 2) ? VD_F_INDIRECT | VD_F_EVENT_IDX : 0);
		for (unsigned q = 0; q < 2; q++) {
			for (unsigned i = 0; i < VD_SIZE; i++) {
				struct vd_desc desc = {
					.addr = rng_below(&rng, 4) ? vd_iova(&rig.d, m[q].buffer) +
									     rng_below(&rng, 2048)
								   : rng_next(&rng),
					.len = (uint32_t)(rng_below(&rng, 4) ? rng_below(&rng, 40)
									     : rng_next(&rng)),
					.flags = (uint16_t)rng_below(&rng, 8),
					.next = (uint16_t)rng_below(&rng, VD_SIZE + 1)};

				if (rng_below(&rng, 3))
					desc.flags &= VD_NEXT | VD_WRITE;
				m[q].desc[i] = desc;
				m[q].table[i] = desc;
				m[q].avail.ring[i] = (uint16_t)rng_below(&rng, VD_SIZE + 1);
				m[q].buffer[i * 128] = (uint8_t)rng_below(&rng, 7);
			}
			m[q].avail.used_event = (uint16_t)rng_next(&rng);
			__atomic_fetch_add(&m[q].avail.idx, (uint16_t)rng_below(&rng, VD_SIZE),
					   __ATOMIC_RELEASE);
			vd_notify(&rig.d, q);
		}
		edu_copy(&rig, rng_below(&rng, 1 << 20), rng_below(&rng, 1 << 20));
		uiommu_function_drain(rig.fn);
		assert_int_equal(vd_status(&rig.d) & 15, 15);
	}
	rig_go(&rig, 0);
	assert_int_equal(vd_attach(&rig.d, 1, rig.ep, 0), OK);
	rig_down(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_discovery),	cmocka_unit_test(test_negotiation),
		cmocka_unit_test(test_window),		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_interrupts),	cmocka_unit_test(test_hostile_queues),
		cmocka_unit_test(test_hostile_buffers), cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
