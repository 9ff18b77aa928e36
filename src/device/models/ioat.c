/* SPDX-License-Identifier: MIT */
/*
 * Intel I/OAT (QuickData, Crystal Beach 3): one channel of the Skylake server's DMA engine, as
 * DPDK's and SPDK's ioat drivers, Linux' ioatdma and the kernel's VFIO selftests use it.
 *
 * The driver writes the address of a chain of 64-byte descriptors (CHAINADDR, which also rewinds
 * the count), then how many of them are valid since then (DMACOUNT). The worker does one descriptor
 * a step: null, copy or fill. Anything it can't do halts the channel with a bit in CHANERR;
 * clearing the bit and writing CHAINADDR arms it again. The 16-bit count bounds every chain, a
 * looping one included.
 *
 * Invariants: CHANSTS in BAR memory is completed | status. The channel works only in status
 * ACTIVE. Registers are little files of their own: the table below says what may be written and
 * what that does. XOR and PQ are not advertised and end as control errors.
 *
 * Departures from the hardware, all for lack of side effects of mapped reads: ATTNSTATUS and the
 * interrupt status are cleared not by reading but when a driver writes back to INTRCTRL, at the end
 * of its handler, what it read at the beginning, the status bit included; and reading CHANCTRL
 * doesn't reserve the channel. A handler that read the status before the interrupt came has not
 * seen it, and what it writes back leaves it pending.
 * An interrupt that comes up while the channel's interrupt is off is sent when it is rearmed, where
 * the documents leave open what happens to it.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/models/models.h"

#define BAR_SIZE      (UINT64_C(16) << 10)
#define MSIX_TABLE    0x2000
#define REGISTERS_END 0x200

enum {
	REG_CHANCNT = 0x00,
	REG_XFERCAP = 0x01,
	REG_GENCTRL = 0x02,
	REG_INTRCTRL = 0x03,
	REG_ATTNSTATUS = 0x04,
	REG_CBVER = 0x08,
	REG_INTRDELAY = 0x0c,
	REG_DMACAP = 0x10,
	REG_PREFETCH = 0x4c,
	REG_CHANCTRL = 0x80,
	REG_DMACOMP = 0x82,
	REG_CHANCMD = 0x84,
	REG_DMACOUNT = 0x86,
	REG_CHANSTS = 0x88,
	REG_CHAINADDR = 0x90,
	REG_CHANCMP = 0x98,
	REG_CDAR = 0xa0,
	REG_CHANERR = 0xa8,
	REG_CHANERRMASK = 0xac,
	REG_DCACTRL = 0xb0,
	REG_DRSCTL = 0x136,
	REG_LTR_SELECT = 0x13c,
	REG_LTR_ACTIVE = 0x140,
	REG_LTR_IDLE = 0x144,
};

#define XFERCAP_LOG 20

#define DMACAP_FILL 0x40u
#define DMACOMP_V2  0x2u

#define INTRCTRL_MASTER	 0x01u
#define INTRCTRL_STATUS	 0x02u
#define INTRCTRL_INT	 0x04u
#define INTRCTRL_VECTORS 0x08u

/* Reads one after an interrupt: there is no further one until a one is written. */
#define CHANCTRL_INT_DISABLED	0x0001u
#define CHANCTRL_ERR_COMPLETION 0x0004u
#define CHANCTRL_ERR_INT	0x0010u
#define CHANCTRL_WRITABLE	0xf33eu

#define CHANCMD_SUSPEND 0x04u
#define CHANCMD_RESUME	0x10u
#define CHANCMD_RESET	0x20u

enum status {
	STATUS_ACTIVE = 0,
	STATUS_IDLE = 1,
	STATUS_SUSPENDED = 2,
	STATUS_HALTED = 3,
	STATUS_ARMED = 4,
};

#define ERR_SRC_ADDR	    0x0001u
#define ERR_DST_ADDR	    0x0002u
#define ERR_NEXT_ADDR	    0x0004u
#define ERR_NEXT_ALIGN	    0x0008u
#define ERR_CHAIN_ADDR	    0x0010u
#define ERR_CHANCMD	    0x0020u
#define ERR_READ_DATA	    0x0100u
#define ERR_WRITE_DATA	    0x0200u
#define ERR_CONTROL	    0x0400u
#define ERR_LENGTH	    0x0800u
#define ERR_COMPLETION_ADDR 0x1000u

#define CTL_INTERRUPT  0x01u
#define CTL_COMPLETION 0x08u
#define CTL_NULL       0x20u
#define CTL_OP_SHIFT   24

#define OP_COPY 0
#define OP_FILL 1

/*
 * How long a new chain takes until its first descriptor is done. DPDK's driver, when it restarts
 * the chain after an error, loses one of the completions that come before its caller asks for the
 * next (ioat_completed(), then ioat_completed_status()); an engine has never been so fast, but a
 * worker thread can be, when the caller is preempted between the two.
 */
#define CHAIN_START_NS 1000000

#define DESCRIPTOR_SIZE 64u
#define DESCRIPTOR_NEXT 24u

struct descriptor {
	uint32_t size, ctl;
	uint64_t src, dst, next;
	uint64_t unused[4];
};

_Static_assert(sizeof(struct descriptor) == DESCRIPTOR_SIZE, "as the hardware has it");

/* A multiple of 8, so that a pattern goes on in the next piece. */
#define BUFFER_SIZE (64u << 10)

struct ioat {
	uint8_t cbver;
	enum status status;
	uint16_t done;	    /* descriptors completed since CHAINADDR was written */
	uint64_t completed; /* the last of them; 0: none */
	uint64_t next;	    /* the one to fetch */
	bool relink;	    /* read it again from the completed one: it may be linked only now */
	bool wanted;	    /* an interrupt waits for being enabled */
	bool again;	    /* one more was sent before the last was acknowledged */
	uint8_t buffer[BUFFER_SIZE];
};

static uint64_t reg_get(struct uiommu_function *fn, unsigned offset, unsigned len)
{
	return uiommu_function_reg(fn, 0, offset, len);
}

static void reg_set(struct uiommu_function *fn, unsigned offset, unsigned len, uint64_t value)
{
	uiommu_function_set_reg(fn, 0, offset, len, value);
}

static void set_status(struct uiommu_function *fn, enum status status)
{
	struct ioat *ioat = uiommu_function_state(fn);

	ioat->status = status;
	reg_set(fn, REG_CHANSTS, 8, ioat->completed | status);
}

/* Descriptors that the driver released and that are not done. */
static uint16_t pending(struct uiommu_function *fn)
{
	struct ioat *ioat = uiommu_function_state(fn);

	return (uint16_t)(reg_get(fn, REG_DMACOUNT, 2) - ioat->done);
}

/* ---- interrupts -------------------------------------------------------------------------------
 */

static void interrupt(struct uiommu_function *fn)
{
	struct ioat *ioat = uiommu_function_state(fn);
	uint64_t before = reg_get(fn, REG_INTRCTRL, 1);
	uint64_t intrctrl = before | INTRCTRL_STATUS;
	uint64_t chanctrl = reg_get(fn, REG_CHANCTRL, 2);

	reg_set(fn, REG_ATTNSTATUS, 4, 1);
	reg_set(fn, REG_INTRCTRL, 1, intrctrl);
	/* A vector of its own for each channel needs no master enable: the kernel's selftests set
	 * nothing but VECTORS. */
	ioat->wanted = (chanctrl & CHANCTRL_INT_DISABLED) ||
		       !(intrctrl & (INTRCTRL_MASTER | INTRCTRL_VECTORS));
	if (ioat->wanted)
		return;
	ioat->again = before & INTRCTRL_STATUS;
	reg_set(fn, REG_CHANCTRL, 2, chanctrl | CHANCTRL_INT_DISABLED);
	if (intrctrl & INTRCTRL_MASTER)
		reg_set(fn, REG_INTRCTRL, 1, intrctrl | INTRCTRL_INT);
	uiommu_function_raise(fn, 0);
}

/* The driver has seen the interrupt. One that was sent since then may be news to it. */
static void acknowledge(struct uiommu_function *fn)
{
	struct ioat *ioat = uiommu_function_state(fn);
	uint64_t intrctrl = reg_get(fn, REG_INTRCTRL, 1);

	if (ioat->again) {
		ioat->again = false;
		return;
	}
	reg_set(fn, REG_ATTNSTATUS, 4, 0);
	reg_set(fn, REG_INTRCTRL, 1, intrctrl & ~(uint64_t)(INTRCTRL_STATUS | INTRCTRL_INT));
	uiommu_function_lower(fn);
}

static void interrupt_if_wanted(struct uiommu_function *fn)
{
	struct ioat *ioat = uiommu_function_state(fn);

	if (ioat->wanted)
		interrupt(fn);
}

/* ---- descriptors ------------------------------------------------------------------------------
 */

/* Write the completed descriptor with @status where the driver looks for it. */
static uint32_t write_completion(struct uiommu_function *fn, enum status status)
{
	struct ioat *ioat = uiommu_function_state(fn);
	uint64_t value = htole64(ioat->completed | status);

	if (uiommu_function_dma_write(fn, reg_get(fn, REG_CHANCMP, 8), &value, sizeof(value)))
		return ERR_COMPLETION_ADDR;
	return 0;
}

static void halt(struct uiommu_function *fn, uint32_t error)
{
	uint64_t chanctrl = reg_get(fn, REG_CHANCTRL, 2);

	/* Whoever sees the completion record looks at CHANERR next, so that comes first. */
	reg_set(fn, REG_CHANERR, 4, reg_get(fn, REG_CHANERR, 4) | error);
	set_status(fn, STATUS_HALTED);
	/* A bad command is no descriptor's; and register writes do no DMA. */
	if ((chanctrl & CHANCTRL_ERR_COMPLETION) &&
	    !(error & (ERR_COMPLETION_ADDR | ERR_CHANCMD))) {
		error |= write_completion(fn, STATUS_HALTED);
		reg_set(fn, REG_CHANERR, 4, reg_get(fn, REG_CHANERR, 4) | error);
	}
	if ((chanctrl & CHANCTRL_ERR_INT) && (error & ~reg_get(fn, REG_CHANERRMASK, 4)))
		interrupt(fn);
}

/* The error of a transfer that failed: no such address, or an address with nothing behind it. */
static uint32_t transfer_error(struct uiommu_function *fn, uint32_t address, uint32_t data)
{
	struct uiommu_fault fault;

	uiommu_port_last_fault(uiommu_function_port(fn), &fault);
	return fault.reason == UIOMMU_FAULT_MEMORY_GONE ? data : address;
}

/* Does [start, start + size) run past the end of the address space? */
static bool wraps(uint64_t start, uint32_t size)
{
	return start + (size - 1) < start;
}

static uint32_t copy(struct uiommu_function *fn, const struct descriptor *desc)
{
	struct ioat *ioat = uiommu_function_state(fn);
	uint32_t done = 0;

	if (wraps(desc->src, desc->size))
		return ERR_SRC_ADDR;
	if (wraps(desc->dst, desc->size))
		return ERR_DST_ADDR;
	while (done < desc->size) {
		uint32_t n = desc->size - done < BUFFER_SIZE ? desc->size - done : BUFFER_SIZE;

		if (uiommu_function_dma_read(fn, desc->src + done, ioat->buffer, n))
			return transfer_error(fn, ERR_SRC_ADDR, ERR_READ_DATA);
		if (uiommu_function_dma_write(fn, desc->dst + done, ioat->buffer, n))
			return transfer_error(fn, ERR_DST_ADDR, ERR_WRITE_DATA);
		done += n;
	}
	return 0;
}

static uint32_t fill(struct uiommu_function *fn, const struct descriptor *desc)
{
	struct ioat *ioat = uiommu_function_state(fn);
	uint32_t most = desc->size < BUFFER_SIZE ? desc->size : BUFFER_SIZE;
	uint64_t pattern = htole64(desc->src);
	uint32_t done, i;

	if (wraps(desc->dst, desc->size))
		return ERR_DST_ADDR;
	for (i = 0; i < most; i += 8)
		memcpy(ioat->buffer + i, &pattern, 8);
	for (done = 0; done < desc->size; done += most) {
		uint32_t n = desc->size - done < most ? desc->size - done : most;

		if (uiommu_function_dma_write(fn, desc->dst + done, ioat->buffer, n))
			return transfer_error(fn, ERR_DST_ADDR, ERR_WRITE_DATA);
	}
	return 0;
}

static uint32_t execute(struct uiommu_function *fn, const struct descriptor *desc)
{
	uint32_t op = desc->ctl >> CTL_OP_SHIFT;

	if (op > OP_FILL)
		return ERR_CONTROL;
	if (op == OP_COPY && (desc->ctl & CTL_NULL))
		return 0;
	if (!desc->size || desc->size > 1u << XFERCAP_LOG)
		return ERR_LENGTH;
	return op == OP_COPY ? copy(fn, desc) : fill(fn, desc);
}

/* Fetch the next descriptor. The driver may change it meanwhile: it is read once. */
static uint32_t fetch(struct uiommu_function *fn, struct descriptor *desc)
{
	struct ioat *ioat = uiommu_function_state(fn);
	bool first = !ioat->done && !ioat->completed;

	if (ioat->relink) {
		uint64_t next;

		if (uiommu_function_dma_read(fn, ioat->completed + DESCRIPTOR_NEXT, &next,
					     sizeof(next)))
			return ERR_NEXT_ADDR;
		ioat->next = le64toh(next);
		ioat->relink = false;
	}
	if (ioat->next % DESCRIPTOR_SIZE)
		return first ? ERR_CHAIN_ADDR : ERR_NEXT_ALIGN;
	reg_set(fn, REG_CDAR, 8, ioat->next);
	if (uiommu_function_dma_read(fn, ioat->next, desc, sizeof(*desc)))
		return first ? ERR_CHAIN_ADDR : ERR_NEXT_ADDR;
	desc->size = le32toh(desc->size);
	desc->ctl = le32toh(desc->ctl);
	desc->src = le64toh(desc->src);
	desc->dst = le64toh(desc->dst);
	desc->next = le64toh(desc->next);
	return 0;
}

static bool ioat_work(struct uiommu_function *fn)
{
	struct ioat *ioat = uiommu_function_state(fn);
	struct descriptor desc;
	enum status status;
	uint32_t error;

	if (ioat->status != STATUS_ACTIVE)
		return false;
	error = fetch(fn, &desc);
	if (!error)
		error = execute(fn, &desc);
	if (error) {
		halt(fn, error);
		return false;
	}
	ioat->done++;
	ioat->completed = ioat->next;
	ioat->next = desc.next;
	status = pending(fn) ? STATUS_ACTIVE : STATUS_IDLE;
	ioat->relink = status == STATUS_IDLE;
	if (desc.ctl & CTL_COMPLETION)
		error = write_completion(fn, status);
	if (error) {
		halt(fn, error);
		return false;
	}
	set_status(fn, status);
	if (desc.ctl & CTL_INTERRUPT)
		interrupt(fn);
	return status == STATUS_ACTIVE;
}

/* ---- registers --------------------------------------------------------------------------------
 */

static void start(struct uiommu_function *fn)
{
	const struct ioat *ioat = uiommu_function_state(fn);

	set_status(fn, STATUS_ACTIVE);
	if (ioat->completed)
		uiommu_function_kick(fn);
	else
		uiommu_function_kick_after(fn, CHAIN_START_NS);
}

static void write_plain(struct uiommu_function *fn, unsigned offset, unsigned len, uint64_t value)
{
	reg_set(fn, offset, len, value);
}

static void write_intrctrl(struct uiommu_function *fn, unsigned offset, unsigned len,
			   uint64_t value)
{
	uint64_t before = reg_get(fn, REG_INTRCTRL, 1);
	uint64_t kept = before & INTRCTRL_STATUS;

	if (value & INTRCTRL_MASTER)
		kept |= before & INTRCTRL_INT;
	else
		uiommu_function_lower(fn);
	reg_set(fn, REG_INTRCTRL, 1, (value & ~(uint64_t)INTRCTRL_STATUS) | kept);
	if ((value & INTRCTRL_MASTER) && (value & before & INTRCTRL_STATUS))
		acknowledge(fn);
	interrupt_if_wanted(fn);
}

static void write_chanctrl(struct uiommu_function *fn, unsigned offset, unsigned len,
			   uint64_t value)
{
	uint64_t disabled = reg_get(fn, REG_CHANCTRL, 2) & ~value & CHANCTRL_INT_DISABLED;

	reg_set(fn, REG_CHANCTRL, 2, (value & CHANCTRL_WRITABLE) | disabled);
	if (!disabled)
		interrupt_if_wanted(fn);
}

/* Forget the chain; the error register and the channel's settings stay. */
static void rewind_chain(struct uiommu_function *fn)
{
	struct ioat *ioat = uiommu_function_state(fn);

	ioat->done = 0;
	ioat->completed = 0;
	ioat->relink = false;
	ioat->next = reg_get(fn, REG_CHAINADDR, 8);
	reg_set(fn, REG_DMACOUNT, 2, 0);
	reg_set(fn, REG_CDAR, 8, 0);
}

static void channel_reset(struct uiommu_function *fn)
{
	struct ioat *ioat = uiommu_function_state(fn);

	reg_set(fn, REG_CHAINADDR, 8, 0);
	reg_set(fn, REG_CHANCMP, 8, 0);
	reg_set(fn, REG_CHANCTRL, 2,
		reg_get(fn, REG_CHANCTRL, 2) & ~(uint64_t)CHANCTRL_INT_DISABLED);
	rewind_chain(fn);
	ioat->wanted = false;
	ioat->again = false;
	acknowledge(fn);
	set_status(fn, STATUS_HALTED);
}

static void write_chancmd(struct uiommu_function *fn, unsigned offset, unsigned len, uint64_t value)
{
	struct ioat *ioat = uiommu_function_state(fn);

	/* The register itself reads zero: commands are carried out at once. */
	if (value & CHANCMD_RESET) {
		channel_reset(fn);
	} else if (value == CHANCMD_SUSPEND) {
		if (ioat->status != STATUS_HALTED)
			set_status(fn, STATUS_SUSPENDED);
	} else if (value == CHANCMD_RESUME) {
		if (ioat->status != STATUS_SUSPENDED)
			return;
		if (pending(fn))
			start(fn);
		else
			set_status(fn, ioat->completed ? STATUS_IDLE : STATUS_ARMED);
	} else if (value) {
		halt(fn, ERR_CHANCMD);
	}
}

static void write_dmacount(struct uiommu_function *fn, unsigned offset, unsigned len,
			   uint64_t value)
{
	struct ioat *ioat = uiommu_function_state(fn);

	reg_set(fn, REG_DMACOUNT, 2, value);
	if (ioat->status != STATUS_HALTED && pending(fn))
		start(fn);
}

static void write_chainaddr(struct uiommu_function *fn, unsigned offset, unsigned len,
			    uint64_t value)
{
	uint64_t errors = reg_get(fn, REG_CHANERR, 4) & ~reg_get(fn, REG_CHANERRMASK, 4);

	reg_set(fn, REG_CHAINADDR, 8, value);
	rewind_chain(fn);
	set_status(fn, errors ? STATUS_HALTED : STATUS_ARMED);
}

struct reg {
	uint16_t offset;
	uint8_t len;
	bool fresh;    /* bytes not written count as zero rather than as they are */
	uint64_t mask; /* bits that can be written */
	void (*write)(struct uiommu_function *fn, unsigned offset, unsigned len, uint64_t value);
};

static void write_chanerr(struct uiommu_function *fn, unsigned offset, unsigned len, uint64_t value)
{
	reg_set(fn, REG_CHANERR, 4, reg_get(fn, REG_CHANERR, 4) & ~value);
}

/* In the order in which a store that covers several takes effect. */
static const struct reg registers[] = {
	{REG_GENCTRL, 1, false, 0x01, write_plain},
	{REG_INTRCTRL, 1, false, INTRCTRL_MASTER | INTRCTRL_STATUS | INTRCTRL_VECTORS,
	 write_intrctrl},
	{REG_INTRDELAY, 2, false, 0x3fff, write_plain},
	{REG_PREFETCH, 1, false, 0xff, write_plain},
	{REG_CHANCTRL, 2, true, CHANCTRL_WRITABLE | CHANCTRL_INT_DISABLED, write_chanctrl},
	{REG_CHANCMD, 1, true, 0xff, write_chancmd},
	{REG_DMACOUNT, 2, false, 0xffff, write_dmacount},
	{REG_CHAINADDR, 8, false, UINT64_MAX, write_chainaddr},
	{REG_CHANCMP, 8, false, ~UINT64_C(7), write_plain},
	{REG_CHANERR, 4, true, UINT32_MAX, write_chanerr},
	{REG_CHANERRMASK, 4, false, UINT32_MAX, write_plain},
	{REG_DCACTRL, 4, false, UINT32_MAX, write_plain},
	{REG_DRSCTL, 2, false, 0xffff, write_plain},
	{REG_LTR_SELECT, 1, false, 0xff, write_plain},
	{REG_LTR_ACTIVE, 4, false, UINT32_MAX, write_plain},
	{REG_LTR_IDLE, 4, false, UINT32_MAX, write_plain},
};

/* What the register would hold if the store's bytes went into it. */
static uint64_t merge(struct uiommu_function *fn, const struct reg *reg, uint64_t offset,
		      unsigned len, uint64_t value)
{
	uint64_t merged = reg->fresh ? 0 : reg_get(fn, reg->offset, reg->len);
	unsigned i;

	for (i = 0; i < reg->len; i++) {
		uint64_t at = reg->offset + i;

		if (at < offset || at - offset >= len)
			continue;
		merged &= ~(UINT64_C(0xff) << (8 * i));
		merged |= (value >> (8 * (at - offset)) & 0xff) << (8 * i);
	}
	return merged & reg->mask;
}

static void ioat_bar_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			   uint64_t value)
{
	size_t i;

	for (i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
		const struct reg *reg = &registers[i];

		if (offset >= reg->offset + reg->len || reg->offset >= offset + len)
			continue;
		reg->write(fn, reg->offset, reg->len, merge(fn, reg, offset, len, value));
	}
}

/* ---- the model --------------------------------------------------------------------------------
 */

static void ioat_reset(struct uiommu_function *fn)
{
	struct ioat *ioat = uiommu_function_state(fn);
	unsigned offset;

	for (offset = 0; offset < REGISTERS_END; offset += 8)
		reg_set(fn, offset, 8, 0);
	reg_set(fn, REG_CHANCNT, 1, 1);
	reg_set(fn, REG_XFERCAP, 1, XFERCAP_LOG);
	reg_set(fn, REG_CBVER, 1, ioat->cbver);
	reg_set(fn, REG_DMACAP, 4, DMACAP_FILL);
	reg_set(fn, REG_DMACOMP, 2, DMACOMP_V2);
	channel_reset(fn);
}

static int ioat_option(struct uiommu_function *fn, const char *key, const char *value, char *why,
		       size_t why_len)
{
	struct ioat *ioat = uiommu_function_state(fn);
	char *end;
	unsigned long version = strtoul(value, &end, 0);

	if (*value < '0' || *value > '9' || *end || version < 0x32 || version > 0x34) {
		snprintf(why, why_len, "0x32, 0x33 or 0x34 is wanted");
		return -EINVAL;
	}
	ioat->cbver = (uint8_t)version;
	return 0;
}

static int ioat_init(struct uiommu_function *fn)
{
	struct ioat *ioat = uiommu_function_state(fn);

	if (!ioat->cbver)
		ioat->cbver = 0x34;
	return 0;
}

static const struct uiommu_model_option ioat_options[] = {
	{"cbver", "version register: 0x32, 0x33 or 0x34 (default 0x34)"},
	{NULL, NULL},
};

const struct uiommu_model uiommu_model_ioat = {
	.size = sizeof(struct uiommu_model),
	.name = "ioat",
	.summary = "Intel I/OAT DMA engine (8086:2021): copies and fills by descriptor chains",
	.vendor = 0x8086,
	.device = 0x2021,
	.subsystem_vendor = 0x8086,
	.subsystem_device = 0x0000,
	.class_code = 0x088000,
	.revision = 0x04,
	.flags = UIOMMU_MODEL_INTX,
	.msix_vectors = 1,
	.msix_bar = 0,
	.msix_offset = MSIX_TABLE,
	.bars = {{BAR_SIZE, UIOMMU_BAR_64}},
	.options = ioat_options,
	.state_size = sizeof(struct ioat),
	.option = ioat_option,
	.init = ioat_init,
	.reset = ioat_reset,
	.bar_write = ioat_bar_write,
	.work = ioat_work,
};
