/* SPDX-License-Identifier: MIT */
/*
 * The NVMe controller: registers, admin commands and each of their error statuses, features, log
 * pages, events.
 */
#include <linux/pci_regs.h>
#include <time.h>
#include <unistd.h>

#include "nvme_rig.h"

#define SPEC "nvme,memory=1M,memory=2M,block=4096,serial=SN1"

static struct nv nv;

static int setup(void **state)
{
	nv_up(&nv, SPEC);
	return 0;
}

static int teardown(void **state)
{
	nv_down(&nv);
	return 0;
}

static uint8_t *data(void)
{
	return at(&nv, DATA);
}

/* ---- registers ---- */

static void test_registers(void **state)
{
	uint64_t cap = reg_mapped(&nv.r, CAP, 8);

	assert_int_equal(cap & 0xffff, 4095);
	assert_int_equal(cap >> 16 & 1, 1);    /* contiguous queues */
	assert_int_equal(cap >> 32 & 0xf, 0);  /* doorbells 4 bytes apart */
	assert_int_equal(cap >> 37 & 0xff, 1); /* NVM command set alone */
	assert_int_equal(cap >> 48 & 0xf, 0);  /* pages from 4 KiB */
	assert_int_equal(cap >> 52 & 0xf, 4);  /* to 64 KiB */
	assert_int_equal(reg_mapped(&nv.r, VS, 4), 0x10400);
	assert_int_equal(uiommu_function_info(nv.r.fn)->model->class_code, 0x010802);
	assert_int_equal(cfg(&nv.r, PCI_CLASS_REVISION, 4), 0x01080201);

	/* Masks are set by one register and cleared by the other. */
	reg_set(&nv.r, INTMS, 4, 0xf0);
	assert_int_equal(reg_mapped(&nv.r, INTMS, 4), 0xf0);
	reg_set(&nv.r, INTMC, 4, 0x30);
	assert_int_equal(reg_mapped(&nv.r, INTMS, 4), 0xc0);
	assert_int_equal(reg_mapped(&nv.r, INTMC, 4), 0xc0);

	/* Read only, and widths that registers don't have. */
	reg_set(&nv.r, CAP, 8, 0);
	reg_set(&nv.r, VS, 4, 0);
	reg_set(&nv.r, CSTS, 4, 0);
	reg_set(&nv.r, CC, 1, 0);
	reg_set(&nv.r, CC, 2, 0);
	assert_int_equal(reg_mapped(&nv.r, CAP, 8), cap);
	assert_int_equal(reg_mapped(&nv.r, VS, 4), 0x10400);
	assert_int_equal(reg_mapped(&nv.r, CSTS, 4), 1);

	/* Disabling keeps the admin queue's registers; a function reset doesn't. */
	reg_set(&nv.r, CC, 4, 0);
	assert_int_equal(reg_mapped(&nv.r, ASQ, 8), IOVA(SQ_AT(0)));
	assert_int_equal(reg_mapped(&nv.r, INTMS, 4), 0);
	uiommu_function_reset(nv.r.fn);
	assert_int_equal(reg_mapped(&nv.r, ASQ, 8), 0);
	assert_int_equal(reg_mapped(&nv.r, AQA, 4), 0);
	assert_int_equal(reg_mapped(&nv.r, CAP, 8), cap);
	cfg_set(&nv.r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	/* In two halves, as a 32-bit driver. */
	reg_set(&nv.r, ASQ, 4, 0x12345fff);
	reg_set(&nv.r, ASQ + 4, 4, 0x6789);
	assert_int_equal(reg_mapped(&nv.r, ASQ, 8), UINT64_C(0x678912345000));
}

static void test_enable_errors(void **state)
{
	static const struct {
		uint32_t cc, aqa;
		bool fatal;
	} rows[] = {
		{CC_RUN, 0x003f003f, false},
		{1, 0x00010001, false},	     /* entry sizes matter for I/O queues only */
		{CC_RUN, 0x0fff0fff, false}, /* as many as there can be */
		{CC_RUN | 4 << 7, 0x003f003f, false},
		{CC_RUN | 5 << 7, 0x003f003f, true},  /* pages too large */
		{CC_RUN | 1 << 4, 0x003f003f, true},  /* a command set that isn't there */
		{CC_RUN | 1 << 11, 0x003f003f, true}, /* weighted round robin */
		{CC_RUN, 0x003f0000, true},
		{CC_RUN, 0x0000003f, true},
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		reg_set(&nv.r, CC, 4, 0);
		reg_set(&nv.r, AQA, 4, rows[i].aqa);
		reg_set(&nv.r, ASQ, 8, 0x100000);
		reg_set(&nv.r, ACQ, 8, 0x110000);
		reg_set(&nv.r, CC, 4, rows[i].cc);
		assert_int_equal(reg_mapped(&nv.r, CSTS, 4), rows[i].fatal ? 2 : 1);
	}
	/* Aligned to 4 KiB is not enough where pages are larger. */
	reg_set(&nv.r, CC, 4, 0);
	reg_set(&nv.r, AQA, 4, 0x003f003f);
	reg_set(&nv.r, ASQ, 8, 0x101000);
	reg_set(&nv.r, CC, 4, CC_RUN | 1 << 7);
	assert_int_equal(reg_mapped(&nv.r, CSTS, 4), 2);
	nv_enable(&nv, CC_RUN);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 0, IOVA(DATA), 1, 0), 0);
}

/* A queue whose memory can't be reached: there is nowhere left to say so but CSTS. */
static void test_fatal(void **state)
{
	unsigned way;

	for (way = 0; way < 4; way++) {
		nv_enable(&nv, CC_RUN);
		if (way == 3) {
			nv_create(&nv, 1, 16, -1);
			nv.r.gone = (struct uiommu_range){(uintptr_t)at(&nv, CQ_AT(1)),
							  (uintptr_t)at(&nv, CQ_AT(1)) + 15};
			nv_put(&nv, 1, command(FLUSH, 1, 0));
			nv_ring(&nv, 1);
		} else {
			reg_set(&nv.r, CC, 4, 0);
			reg_set(&nv.r, way == 1 ? ACQ : ASQ, 8, NOWHERE);
			if (way == 2)
				reg_set(&nv.r, ASQ, 8, UINT64_C(0xfffffffffffff000));
			reg_set(&nv.r, CC, 4, CC_RUN);
			nv_put(&nv, 0, command(KEEP_ALIVE, 0, 0));
			nv_ring(&nv, 0);
		}
		assert_true(nv_fatal(&nv));
		nv.r.gone = (struct uiommu_range){1, 0};
		/* Nothing happens any more. */
		nv_put(&nv, 0, command(KEEP_ALIVE, 0, 0));
		nv_ring(&nv, 0);
		assert_int_equal(nv_take(&nv, 0, false), NONE);
	}
	/* Bus mastering off. */
	nv_enable(&nv, CC_RUN);
	cfg_set(&nv.r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	nv_put(&nv, 0, command(KEEP_ALIVE, 0, 0));
	nv_ring(&nv, 0);
	assert_true(nv_fatal(&nv));
	cfg_set(&nv.r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	nv_enable(&nv, CC_RUN);
	assert_int_equal(nv_admin(&nv, KEEP_ALIVE, 0, 0, 0, 0), 0);
}

static void test_shutdown(void **state)
{
	unsigned how;

	for (how = 1; how <= 2; how++) {
		nv_enable(&nv, CC_RUN);
		reg_set(&nv.r, CC, 4, CC_RUN | how << 14);
		uiommu_function_drain(nv.r.fn);
		assert_int_equal(reg_mapped(&nv.r, CSTS, 4), 1 | 2 << 2);
		nv_put(&nv, 0, command(KEEP_ALIVE, 0, 0));
		nv_ring(&nv, 0);
		assert_int_equal(nv_take(&nv, 0, false), NONE);
		reg_set(&nv.r, CC, 4, 0);
		assert_int_equal(reg_mapped(&nv.r, CSTS, 4), 0);
	}
	/* While it is disabled, too. */
	reg_set(&nv.r, CC, 4, 1 << 14);
	uiommu_function_drain(nv.r.fn);
	assert_int_equal(reg_mapped(&nv.r, CSTS, 4), 2 << 2);
	nv_enable(&nv, CC_RUN);
	assert_int_equal(nv_admin(&nv, KEEP_ALIVE, 0, 0, 0, 0), 0);
}

/* ---- commands ---- */

static void test_opcodes(void **state)
{
	static const uint8_t admin[] = {0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08,
					0x09, 0x0a, 0x0c, 0x18, 0x7c, 0x80};
	static const uint8_t nvm[] = {0x00, 0x01, 0x02, 0x05, 0x08, 0x09, 0x0c};
	unsigned opcode;

	for (opcode = 0; opcode < 256; opcode++) {
		struct cmd cmd = command((uint8_t)opcode, 1, IOVA(DATA));
		unsigned status;

		if (opcode != ASYNC_EVENT && opcode != FORMAT) {
			status = nv_run(&nv, 0, cmd);
			assert_int_equal(status == 1, !memchr(admin, (int)opcode, sizeof(admin)));
		}
		status = nv_run(&nv, 1, cmd);
		assert_int_equal(status == 1, !memchr(nvm, (int)opcode, sizeof(nvm)));
		/* Fused operations are not offered. */
		cmd.dw[0] |= 1 << 8;
		assert_int_equal(nv_run(&nv, 1, cmd), 2);
	}
	/* Admin commands have PRPs, I/O commands one kind of SGL. */
	for (opcode = 1; opcode < 4; opcode++) {
		struct cmd cmd = command(IDENTIFY, 0, IOVA(DATA));

		cmd.dw[0] |= opcode << 14;
		cmd.dw[10] = 1;
		assert_int_equal(nv_run(&nv, 0, cmd), 2);
		if (opcode == 1)
			continue;
		cmd = io(READ, 0, 1, IOVA(DATA));
		cmd.dw[0] |= opcode << 14;
		assert_int_equal(nv_run(&nv, 1, cmd), 2);
	}
	/* "Do not retry", and more in the error log. */
	assert_int_equal(nv_admin(&nv, 0xff, 0, 0, 0, 0), 1);
	assert_true(nv.raw & 0x8000);
	assert_true(nv.raw & 0x4000);
}

static void test_identify(void **state)
{
	static const struct {
		uint32_t cns, nsid, status;
	} rows[] = {
		{0x00, 1, 0},	   {0x00, 2, 0},	  {0x00, 0, 0x0b}, {0x00, 3, 0x0b},
		{0x00, ~0u, 0x0b}, {0x01, 0, 0},	  {0x02, 0, 0},	   {0x02, 1, 0},
		{0x02, ~0u, 0x0b}, {0x02, ~0u - 1, 0x0b}, {0x03, 1, 0},	   {0x03, 0, 0x0b},
		{0x03, 3, 0x0b},   {0x04, 0, 2},	  {0x05, 1, 2},	   {0x06, 0, 2},
		{0x10, 0, 0},	   {0x11, 1, 0},	  {0x11, 3, 0x0b}, {0x12, 1, 0},
		{0x12, 9, 0x0b},   {0x13, 0, 0},	  {0x14, 0, 2},	   {0xff, 0, 2},
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(nv_admin(&nv, IDENTIFY, rows[i].nsid, IOVA(DATA), rows[i].cns, 0),
				 rows[i].status);

	memset(data(), 0xee, 8192);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 0, IOVA(DATA), 1, 0), 0);
	assert_int_equal(data()[4096], 0xee);
	assert_memory_equal(data() + 4, "SN1                 ", 20);
	assert_int_equal(little(data(), 2), 0x1234);
	assert_int_equal(data()[77], 7);
	assert_int_equal(little(data() + 80, 4), 0x10400);
	assert_int_equal(little(data() + 280, 8), 3 << 20);
	assert_int_equal(data()[512], 0x66);
	assert_int_equal(data()[513], 0x44);
	assert_int_equal(little(data() + 516, 4), 2);
	/* Compare, dataset management, write zeroes, select, timestamp, verify. */
	assert_int_equal(little(data() + 520, 2), 0xdd);
	assert_int_equal(little(data() + 256, 2), 0x0102);
	assert_int_equal(data()[261], 0x06);
	assert_int_equal(data()[525], 0x07);
	assert_int_equal(little(data() + 536, 4), 0x00050001);
	assert_memory_equal(data() + 768, "nqn.2014-08.org.nvmexpress:uuid:", 32);

	assert_int_equal(nv_admin(&nv, IDENTIFY, 1, IOVA(DATA), 0, 0), 0);
	assert_int_equal(little(data(), 8), 2048);
	assert_int_equal(data()[26], 0);
	assert_int_equal(little(data() + 128, 4), 9 << 16);
	assert_int_equal(little(data() + 132, 4), 12 << 16);
	memcpy(data() + 4096, data() + 104, 16);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 2, IOVA(DATA), 0, 0), 0);
	assert_int_equal(little(data(), 8), 512);
	assert_int_equal(data()[26], 1);
	assert_memory_not_equal(data() + 4096, data() + 104, 16);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 1, IOVA(DATA), 3, 0), 0);
	assert_int_equal(little(data(), 2), 0x1003);
	assert_memory_equal(data() + 4096, data() + 4, 16);

	assert_int_equal(nv_admin(&nv, IDENTIFY, 1, IOVA(DATA), 2, 0), 0);
	assert_int_equal(little(data(), 8), 2);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 0, IOVA(DATA), 0x13, 0), 0);
	assert_int_equal(little(data(), 4), 1);

	/* The transfer itself: over two pages, and where it can't go. */
	memset(data(), 0, 8192);
	{
		struct cmd cmd = command(IDENTIFY, 0, IOVA(DATA) + 0xffc);

		cmd.dw[10] = 1;
		set_prp2(&cmd, IOVA(DATA) + 0x1000);
		assert_int_equal(nv_run(&nv, 0, cmd), 0);
		assert_int_equal(little(data() + 0xffc, 2), 0x1234);
		set_prp2(&cmd, IOVA(DATA) + 0x1008);
		assert_int_equal(nv_run(&nv, 0, cmd), 0x13);
	}
	assert_int_equal(nv_admin(&nv, IDENTIFY, 0, IOVA(DATA) + 2, 1, 0), 0x13);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 0, NOWHERE, 1, 0), 4);
	assert_false(nv_fatal(&nv));
}

static void test_queue_errors(void **state)
{
	static const struct {
		uint32_t opcode;
		uint64_t prp;
		uint32_t cdw10, cdw11, status;
	} rows[] = {
		{CREATE_CQ, 0x20000, 15u << 16 | 0, 1, 0x101},
		{CREATE_CQ, 0x20000, 15u << 16 | 65, 1, 0x101},
		{CREATE_CQ, 0x20000, 15u << 16 | 1, 1, 0x101}, /* there already */
		{CREATE_CQ, 0x20000, 0u << 16 | 2, 1, 0x102},
		{CREATE_CQ, 0x20000, 4096u << 16 | 2, 1, 0x102},
		{CREATE_CQ, 0x20000, 15u << 16 | 2, 0, 2}, /* not contiguous */
		{CREATE_CQ, 0x20010, 15u << 16 | 2, 1, 0x13},
		{CREATE_CQ, 0x20000, 15u << 16 | 2, 65u << 16 | 3, 0x108},
		{CREATE_CQ, 0x20000, 4095u << 16 | 2, 64u << 16 | 3, 0},
		{CREATE_SQ, 0x30000, 15u << 16 | 2, 0u << 16 | 1, 0x100},
		{CREATE_SQ, 0x30000, 15u << 16 | 2, 3u << 16 | 1, 0x100},
		{CREATE_SQ, 0x30000, 15u << 16 | 2, 65u << 16 | 1, 0x101},
		{CREATE_SQ, 0x30000, 15u << 16 | 0, 2u << 16 | 1, 0x101},
		{CREATE_SQ, 0x30000, 15u << 16 | 65, 2u << 16 | 1, 0x101},
		{CREATE_SQ, 0x30000, 15u << 16 | 1, 2u << 16 | 1, 0x101},
		{CREATE_SQ, 0x30000, 0u << 16 | 2, 2u << 16 | 1, 0x102},
		{CREATE_SQ, 0x30000, 15u << 16 | 2, 2u << 16 | 0, 2},
		{CREATE_SQ, 0x30001, 15u << 16 | 2, 2u << 16 | 1, 0x13},
		{CREATE_SQ, 0x30000, 15u << 16 | 2, 2u << 16 | 1, 0},
		{CREATE_SQ, 0x40000, 15u << 16 | 64, 2u << 16 | 1, 0}, /* two complete there */
		{DELETE_CQ, 0, 2, 0, 0x10c},
		{DELETE_CQ, 0, 0, 0, 0x101},
		{DELETE_CQ, 0, 3, 0, 0x101},
		{DELETE_CQ, 0, 0xffff, 0, 0x101},
		{DELETE_SQ, 0, 0, 0, 0x101},
		{DELETE_SQ, 0, 3, 0, 0x101},
		{DELETE_SQ, 0, 2, 0, 0},
		{DELETE_SQ, 0, 2, 0, 0x101},
		{DELETE_CQ, 0, 2, 0, 0x10c},
		{DELETE_SQ, 0, 64, 0, 0},
		{DELETE_CQ, 0, 2, 0, 0},
		{DELETE_CQ, 0, 2, 0, 0x101},
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(nv_admin(&nv, (uint8_t)rows[i].opcode, 0, RIG_IOVA + rows[i].prp,
					  rows[i].cdw10, rows[i].cdw11),
				 rows[i].status);
	/* Entries of other sizes than CC says there are. */
	nv_enable(&nv, CC_RUN & ~(15u << 16));
	assert_int_equal(nv_admin(&nv, CREATE_CQ, 0, IOVA(0x20000), 15u << 16 | 1, 1), 0);
	assert_int_equal(nv_admin(&nv, CREATE_SQ, 0, IOVA(0x30000), 15u << 16 | 1, 1u << 16 | 1),
			 0x102);
	nv_enable(&nv, CC_RUN & ~(15u << 20));
	assert_int_equal(nv_admin(&nv, CREATE_CQ, 0, IOVA(0x20000), 15u << 16 | 1, 1), 0x102);
}

static void test_features(void **state)
{
	/* Set (0x100 in what: get; 0x200: get the default; 0x800: what can be done with it), with
	 * the namespace and dword 11; the status, and dword 0 of what was got. */
	static const struct {
		uint32_t id, nsid, value, status, result;
	} rows[] = {
		{0x101, 0, 0, 0, 4},
		{0x001, 0, 0x01020307, 0, 0},
		{0x101, 0, 0, 0, 0x01020307},
		{0x201, 0, 0, 0, 4},
		{0x801, 0, 0, 0, 4},
		{0x102, 0, 0, 0, 0},
		{0x002, 0, 1, 2, 0},
		{0x002, 0, 0x20, 0, 0},
		{0x104, 0, 0, 0, 343},
		{0x104, 0, 1 << 20, 0, 0},
		{0x104, 0, 2 << 20, 2, 0},
		{0x104, 0, 1 << 16, 2, 0},
		{0x004, 0, 320, 0, 0},
		{0x104, 0, 0, 0, 320},
		{0x204, 0, 0, 0, 343},
		{0x004, 0, 320 | 1 << 16, 2, 0},
		{0x004, 0, 320 | 15 << 16, 0, 0},
		{0x105, 1, 0, 0, 0},
		{0x105, 0, 0, 0x0b, 0},
		{0x105, ~0u, 0, 0x0b, 0},
		{0x005, 2, 7, 0, 0},
		{0x105, 2, 0, 0, 7},
		{0x105, 1, 0, 0, 0},
		{0x005, ~0u, 9, 0, 0},
		{0x105, 1, 0, 0, 9},
		{0x005, 1, 0x10000, 2, 0},
		{0x005, 3, 7, 0x0b, 0},
		{0x805, 1, 0, 0, 6},
		{0x106, 0, 0, 0, 1},
		{0x006, 0, 0, 0, 0},
		{0x106, 0, 0, 0, 0},
		{0x206, 0, 0, 0, 1},
		{0x006, 1, 0, 0x10f, 0},
		{0x006, 9, 0, 0x0b, 0},
		{0x006, ~0u, 1, 0, 0},
		{0x107, 0, 0, 0, 63 | 63 << 16},
		{0x007, 0, 0x00010001, 0x0c, 0}, /* there are queues */
		{0x007, 0, 0x0000ffff, 2, 0},
		{0x007, 0, 0xffff0000, 2, 0},
		{0x008, 0, 0x1234, 0, 0},
		{0x108, 0, 0, 0, 0x1234},
		{0x009, 0, 64 | 1 << 16, 0, 0},
		{0x109, 0, 64, 0, 64 | 1 << 16},
		{0x109, 0, 63, 0, 63},
		{0x209, 0, 64, 0, 64},
		{0x009, 0, 65, 2, 0},
		{0x109, 0, 65, 2, 0},
		{0x00a, 0, 1, 0, 0},
		{0x10a, 0, 0, 0, 1},
		{0x00b, 0, ~0u, 0, 0},
		{0x10b, 0, 0, 0, 0x1ff},
		{0x00f, 0, 60000, 0, 0},
		{0x10f, 0, 0, 0, 60000},
		{0x000, 0, 0, 2, 0},
		{0x003, 1, 0, 2, 0},
		{0x00c, 0, 0, 2, 0},
		{0x00d, 0, 0, 2, 0},
		{0x100, 0, 0, 2, 0},
		{0x103, 1, 0, 2, 0},
		{0x1c0, 0, 0, 2, 0},
		{0x401, 0, 0, 0, 4},
		{0x901, 0, 0, 2, 0}, /* select 2; a reserved one */
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool get = rows[i].id & 0xf00;
		uint32_t select = rows[i].id & 0x100   ? 0
				  : rows[i].id & 0x200 ? 1
				  : rows[i].id & 0x400 ? 2
						       : 3;

		if (rows[i].id == 0x901)
			select = 4;
		assert_int_equal(nv_admin(&nv, get ? GET_FEATURES : SET_FEATURES, rows[i].nsid, 0,
					  (rows[i].id & 0xff) | select << 8, rows[i].value),
				 rows[i].status);
		if (get && !rows[i].status)
			assert_int_equal(nv.result, rows[i].result);
	}
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 6 | 1u << 31, 1), 0x10d);

	/* The time: set, and it goes on. */
	put_little(data(), 1600000000000, 8);
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, IOVA(DATA), 0x0e, 0), 0);
	memset(data(), 0, 8);
	usleep(2000);
	assert_int_equal(nv_admin(&nv, GET_FEATURES, 0, IOVA(DATA), 0x0e, 0), 0);
	assert_in_range(little(data(), 6), 1600000000001, 1600000100000);
	assert_int_equal(data()[6], 2);
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, NOWHERE, 0x0e, 0), 4);
	assert_int_equal(nv_admin(&nv, GET_FEATURES, 0, NOWHERE, 0x0e, 0), 4);

	/* A reset brings the defaults back; queues can be counted before there are any. */
	nv_enable(&nv, CC_RUN);
	assert_int_equal(nv_admin(&nv, GET_FEATURES, 0, 0, 8, 0), 0);
	assert_int_equal(nv.result, 0);
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 7, 3 | 3 << 16), 0);
	assert_int_equal(nv.result, 63 | 63 << 16);
}

static unsigned get_log(uint8_t id, uint32_t nsid, uint64_t offset, uint32_t bytes, bool retain)
{
	struct cmd cmd = command(GET_LOG, nsid, IOVA(DATA));
	uint32_t dwords = bytes / 4 - 1;

	cmd.dw[10] = id | (retain ? 1u << 15 : 0) | dwords << 16;
	cmd.dw[11] = dwords >> 16;
	cmd.dw[12] = (uint32_t)offset;
	cmd.dw[13] = (uint32_t)(offset >> 32);
	set_prp2(&cmd, IOVA(DATA) + 4096);
	return nv_run(&nv, 0, cmd);
}

static void test_logs(void **state)
{
	static const struct {
		uint32_t id, nsid;
		uint64_t offset;
		uint32_t bytes, status;
	} rows[] = {
		{0, 0, 0, 512, 0x109},
		{6, 0, 0, 512, 0x109},
		{0x80, ~0u, 0, 512, 0x109},
		{1, 0, 0, 64, 0},
		{1, ~0u, 0, 4096, 0},
		{1, 1, 0, 64, 2},
		{1, 3, 0, 64, 0x0b},
		{2, ~0u, 0, 512, 0},
		{2, 1, 0, 512, 2},
		{3, 0, 0, 512, 0},
		{4, 0, 0, 4096, 0},
		{5, 0, 0, 4096, 0},
		{2, 0, 2, 4, 2},
		{2, 0, 512, 4, 0},
		{2, 0, 516, 4, 2},
		{2, 0, UINT64_MAX - 3, 4, 2},
		{2, 0, 508, 4096, 0},
		{5, 0, 0, 0x80004, 2},
		{5, 0, 0, 0, 2}, /* 16 GiB */
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(get_log((uint8_t)rows[i].id, rows[i].nsid, rows[i].offset,
					 rows[i].bytes, false),
				 rows[i].status);

	/* The newest error comes first. */
	assert_int_equal(nv_run(&nv, 1, io(READ, 0x123456789, 1, IOVA(DATA))), 0x80);
	assert_int_equal(get_log(1, 0, 0, 4096, false), 0);
	assert_int_equal(little(data() + 8, 2), 1);
	assert_int_equal(little(data() + 10, 2), nv.cid - 1);
	assert_int_equal(little(data() + 12, 2), 0x80 << 1);
	assert_int_equal(little(data() + 16, 8), 0x123456789);
	assert_int_equal(little(data() + 24, 4), 1);
	assert_int_equal(little(data() + 64, 8), little(data(), 8) - 1);

	/* What was read and written, in thousands of 512 bytes, rounded up. */
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 0, 1, IOVA(DATA))), 0);
	assert_int_equal(nv_run(&nv, 1, io(WRITE, 0, 1, IOVA(DATA))), 0);
	assert_int_equal(nv_run(&nv, 1, io(READ, 0, 1, IOVA(DATA))), 0);
	assert_int_equal(get_log(2, 0, 0, 512, false), 0);
	assert_int_equal(data()[0], 0);
	assert_int_equal(little(data() + 1, 2), 310);
	assert_int_equal(little(data() + 32, 8), 1);
	assert_int_equal(little(data() + 48, 8), 1);
	assert_int_equal(little(data() + 64, 8), 1);
	assert_int_equal(little(data() + 80, 8), 2);
	assert_int_equal(little(data() + 112, 8), 1);

	assert_int_equal(get_log(3, 0, 0, 512, false), 0);
	assert_int_equal(data()[0], 1);
	assert_memory_equal(data() + 8, "1.0     ", 8);
	assert_int_equal(get_log(5, 0, 0, 4096, false), 0);
	assert_int_equal(little(data() + 4 * FORMAT, 4), 0x10007);
	assert_int_equal(little(data() + 4 * 0x81, 4), 0);
	assert_int_equal(little(data() + 1024 + 4 * WRITE, 4), 3);
	/* From an offset on. */
	assert_int_equal(get_log(5, 0, 1024 + 4 * READ, 4, false), 0);
	assert_int_equal(little(data(), 4), 1);
}

/* ---- events and abort ---- */

static uint16_t ask_event(void)
{
	uint16_t cid = nv_put(&nv, 0, command(ASYNC_EVENT, 0, 0));

	nv_ring(&nv, 0);
	return cid;
}

static void expect_event(uint16_t cid, uint32_t result)
{
	assert_int_equal(nv_take(&nv, 0, true), 0);
	assert_int_equal(nv.cid, cid);
	assert_int_equal(nv.result, result);
}

static void bad_doorbell(uint64_t offset, uint32_t value)
{
	reg_set(&nv.r, offset, 4, value);
	uiommu_function_drain(nv.r.fn);
}

static void test_event_errors(void **state)
{
	uint16_t first = ask_event(), second;

	/* A doorbell of a queue that isn't there, posted and not. */
	bad_doorbell(TAIL(2), 1);
	expect_event(first, 0x010000);
	/* The type is masked until its log page is read. */
	second = ask_event();
	bad_doorbell(0x1ff8, 1);
	bad_doorbell(HEAD(3), 1);
	assert_int_equal(nv_take(&nv, 0, false), NONE);
	assert_int_equal(get_log(1, 0, 0, 64, true), 0);
	assert_int_equal(nv_take(&nv, 0, false), NONE);
	assert_int_equal(get_log(1, 0, 0, 64, false), 0);
	assert_int_equal(little(data() + 8, 2), 0xffff);
	assert_int_equal(nv_take(&nv, 0, false), NONE);
	/* Values outside of the queue, and of what was posted. */
	bad_doorbell(TAIL(1), NV_ENTRIES);
	expect_event(second, 0x010100);
	assert_int_equal(get_log(1, 0, 0, 64, false), 0);
	first = ask_event();
	bad_doorbell(HEAD(1), nv.pair[1].head + 1);
	expect_event(first, 0x010100);
	/* The queue is none the worse for it. */
	assert_int_equal(nv_run(&nv, 1, command(FLUSH, 1, 0)), 0);
	/* An event waits for a request. */
	assert_int_equal(get_log(1, 0, 0, 64, false), 0);
	bad_doorbell(HEAD(1), 0xffffffff);
	second = ask_event();
	expect_event(second, 0x010100);
}

static void test_event_smart(void **state)
{
	uint16_t cid = ask_event();

	/* Not asked for. */
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 4, 300), 0);
	assert_int_equal(nv_take(&nv, 0, false), NONE);
	assert_int_equal(get_log(2, 0, 0, 512, true), 0);
	assert_int_equal(data()[0], 2);
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 4, 343), 0);
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 0x0b, 2), 0);
	assert_int_equal(nv_take(&nv, 0, false), NONE);
	/* Under the lower threshold, which is 310 K and below. */
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 4, 310 | 1 << 20), 0);
	expect_event(cid, 0x020101);
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 4, 0 | 1 << 20), 0);
	cid = ask_event();
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 4, 310), 0);
	assert_int_equal(nv_take(&nv, 0, false), NONE);
	assert_int_equal(get_log(2, 0, 0, 512, false), 0);
	assert_int_equal(nv_take(&nv, 0, false), NONE);
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 4, 309), 0);
	expect_event(cid, 0x020101);
}

static void test_event_namespace(void **state)
{
	uint16_t cid = ask_event();

	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 0x0b, 0x100), 0);
	/* The same format again changes nothing that Identify shows. */
	assert_int_equal(nv_admin(&nv, FORMAT, 1, 0, 0, 0), 0);
	assert_int_equal(nv_take(&nv, 0, false), NONE);
	assert_int_equal(nv_admin(&nv, FORMAT, 1, 0, 1, 0), 0);
	expect_event(cid, 0x040002);
	assert_int_equal(get_log(4, 0, 0, 4096, false), 0);
	assert_int_equal(little(data(), 8), 1);
	assert_int_equal(get_log(4, 0, 0, 4096, false), 0);
	assert_int_equal(little(data(), 8), 0);
}

static void test_event_limit_and_abort(void **state)
{
	uint16_t cids[8];
	unsigned i;

	for (i = 0; i < 8; i++)
		cids[i] = ask_event();
	assert_int_equal(nv_take(&nv, 0, false), NONE);
	assert_int_equal(nv_run(&nv, 0, command(ASYNC_EVENT, 0, 0)), 0x105);

	/* What isn't there is not aborted. */
	assert_int_equal(nv_admin(&nv, ABORT, 0, 0, 0xabcd0000, 0), 0);
	assert_int_equal(nv.result, 1);
	assert_int_equal(nv_admin(&nv, ABORT, 0, 0, (uint32_t)cids[3] << 16 | 1, 0), 0);
	assert_int_equal(nv.result, 1);
	for (i = 0; i < 8; i++) {
		uint16_t cid =
			nv_put(&nv, 0, (struct cmd){.dw = {ABORT, [10] = (uint32_t)cids[i] << 16}});

		nv_ring(&nv, 0);
		assert_int_equal(nv_take(&nv, 0, true), 7);
		assert_int_equal(nv.cid, cids[i]);
		assert_int_equal(nv_take(&nv, 0, true), 0);
		assert_int_equal(nv.cid, cid);
		assert_int_equal(nv.result, 0);
	}
	assert_int_equal(nv_admin(&nv, ABORT, 0, 0, (uint32_t)cids[0] << 16, 0), 0);
	assert_int_equal(nv.result, 1);
	/* A reset forgets requests without a completion. */
	ask_event();
	nv_enable(&nv, CC_RUN);
	bad_doorbell(TAIL(2), 1);
	assert_int_equal(nv_take(&nv, 0, false), NONE);
}

static unsigned since_ms(const struct timespec *begun)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned)((now.tv_sec - begun->tv_sec) * 1000 +
			  (now.tv_nsec - begun->tv_nsec) / 1000000);
}

static void test_keep_alive(void **state)
{
	struct timespec begun;
	unsigned waited = 0;

	/* 1 ms is rounded up to a second; each command begins it anew. */
	assert_int_equal(nv_admin(&nv, SET_FEATURES, 0, 0, 0x0f, 1), 0);
	usleep(600000);
	clock_gettime(CLOCK_MONOTONIC, &begun);
	if (nv_admin(&nv, KEEP_ALIVE, 0, 0, 0, 0) == NONE)
		skip(); /* the machine has let us sleep for more than a second */
	usleep(600000);
	if (since_ms(&begun) < 1000)
		assert_false(nv_fatal(&nv));
	while (!nv_fatal(&nv) && waited++ < 10000)
		usleep(1000);
	assert_true(nv_fatal(&nv));
	assert_true(since_ms(&begun) >= 1000);
	nv_enable(&nv, CC_RUN);
	assert_int_equal(get_log(1, 0, 0, 64, false), 0);
	assert_int_equal(little(data() + 12, 2), 0x19 << 1);
}

static void test_format(void **state)
{
	static const struct {
		uint32_t nsid, cdw10, status;
	} rows[] = {
		{0, 0, 0x0b},	    {3, 0, 0x0b},   {1, 2, 0x10a},  {1, 15, 0x10a},
		{1, 1 << 5, 0x10a}, {1, 2 << 9, 2}, {1, 7 << 9, 2}, {1, 1 << 9, 0},
		{1, 0, 0},	    {~0u, 1, 0},    {1, 0, 0},
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		memset(data(), 0x77, 4096);
		assert_int_equal(nv_run(&nv, 1, io(WRITE, 5, 1, IOVA(DATA))), 0);
		assert_int_equal(nv_admin(&nv, FORMAT, rows[i].nsid, 0, rows[i].cdw10, 0),
				 rows[i].status);
		assert_int_equal(nv_run(&nv, 1, io(READ, 5, 1, IOVA(DATA))), 0);
		assert_int_equal(data()[0], rows[i].status ? 0x77 : 0);
	}
	/* The second namespace was formatted with all of them, and the first one since. */
	assert_int_equal(nv_admin(&nv, IDENTIFY, 2, IOVA(DATA), 0, 0), 0);
	assert_int_equal(data()[26], 1);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 1, IOVA(DATA), 0, 0), 0);
	assert_int_equal(data()[26], 0);
	assert_int_equal(little(data(), 8), 2048);
	/* A reset doesn't undo it. */
	assert_int_equal(nv_admin(&nv, FORMAT, 1, 0, 1, 0), 0);
	uiommu_function_reset(nv.r.fn);
	cfg_set(&nv.r, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	nv_enable(&nv, CC_RUN);
	assert_int_equal(nv_admin(&nv, IDENTIFY, 1, IOVA(DATA), 0, 0), 0);
	assert_int_equal(data()[26], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_enable_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fatal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shutdown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_opcodes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_identify, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queue_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_features, setup, teardown),
		cmocka_unit_test_setup_teardown(test_logs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_event_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_event_smart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_event_namespace, setup, teardown),
		cmocka_unit_test_setup_teardown(test_event_limit_and_abort, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keep_alive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_format, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
