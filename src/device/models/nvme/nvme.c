/* SPDX-License-Identifier: MIT */
/*
 * NVM Express 1.4 controller: its registers, enabling, resetting and shutting it down, and the
 * worker's steps. The model as the machine knows it.
 *
 * Registers are BAR memory, current at any time, so reads are never trapped. Writes of 4 and 8
 * bytes are taken, others ignored (3.1 leaves them undefined). Doorbells are posted: they take no
 * lock and wait for no command.
 *
 * Invariants: commands are executed only while ready. A step ends after STEP_COMMANDS commands, or
 * the one that brings it to STEP_BYTES of data or STEP_NS of time; the lock is free in between, and
 * interrupts are raised. Whatever makes the
 * controller unable to go on sets CSTS.CFS, which is left by a reset. A shutdown flushes the
 * namespaces, one a step, before it says that it is complete.
 *
 * Commands that wait for a disk (a flush, a read of what is not in the page cache) do so with the
 * function's lock held: doorbells are taken meanwhile, other registers and configuration space
 * wait.
 *
 * Nothing fails once init() succeeded.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "device/models/models.h"
#include "device/models/nvme/nvme.h"

#define BAR_SIZE   (UINT64_C(16) << 10)
#define MSIX_TABLE 0x2000

/* 10 s until CSTS.RDY follows; it does at once. */
#define READY_TIMEOUT UINT64_C(20)

#define STEP_COMMANDS 32u
#define STEP_BYTES    (128u << 10)
#define STEP_NS	      100000u
/* How long the worker looks for more before it sleeps: waking it costs about as much. */
#define SPIN_NS 20000u

uint64_t nvme_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint32_t reg_get(struct nvme *n, unsigned offset)
{
	return (uint32_t)uiommu_function_reg(n->fn, 0, offset, 4);
}

static void reg_set(struct nvme *n, unsigned offset, uint32_t value)
{
	uiommu_function_set_reg(n->fn, 0, offset, 4, value);
}

/* ---- states of the controller -----------------------------------------------------------------
 */

void nvme_fatal(struct nvme *n)
{
	n->ready = false;
	n->step = NVME_NO_STEP;
	reg_set(n, REG_CSTS, reg_get(n, REG_CSTS) | CSTS_CFS);
}

/* Everything but registers: as after power-on, less what is kept for the logs (7.3.2). */
static void forget(struct nvme *n)
{
	unsigned i;

	n->ready = n->shutdown = n->queues_made = n->shadow = false;
	n->step = NVME_NO_STEP;
	n->alarm = n->active = n->keep_alive_due = 0;
	uiommu_function_alarm(n->fn, 0);
	for (i = 0; i < sizeof(n->dirty) / sizeof(n->dirty[0]); i++)
		__atomic_store_n(&n->dirty[i], 0, __ATOMIC_RELAXED);
	nvme_queues_reset(n);
	nvme_events_reset(n);
	nvme_features_reset(n);
	nvme_mask(n, 0);
	reg_set(n, REG_INTMS, 0);
	reg_set(n, REG_INTMC, 0);
}

static void admin_queues(struct nvme *n, uint32_t aqa, uint64_t asq, uint64_t acq)
{
	n->sq[0] = (struct nvme_sq){
		.exists = true,
		.entries = (aqa & 0xfff) + 1,
		.base = asq,
	};
	n->cq[0] = (struct nvme_cq){
		.exists = true,
		.interrupts = true,
		.entries = (aqa >> 16 & 0xfff) + 1,
		.phase = true,
		.sqs = 1,
		.base = acq,
	};
}

/* CC.EN became one (7.6.1). What can't be is fatal: there is no queue to report it to. */
static void enable(struct nvme *n, uint32_t cc)
{
	uint64_t asq = uiommu_function_reg(n->fn, 0, REG_ASQ, 8);
	uint64_t acq = uiommu_function_reg(n->fn, 0, REG_ACQ, 8);
	uint32_t aqa = reg_get(n, REG_AQA);
	uint64_t in_page;

	forget(n);
	n->page_log = 12 + CC_MPS(cc);
	in_page = (UINT64_C(1) << n->page_log) - 1;
	if (CC_CSS(cc) || CC_AMS(cc) || CC_MPS(cc) > NVME_MPSMAX || !(aqa & 0xfff) ||
	    !(aqa >> 16 & 0xfff) || (asq & in_page) || (acq & in_page)) {
		nvme_fatal(n);
		return;
	}
	admin_queues(n, aqa, asq, acq);
	n->ready = true;
	reg_set(n, REG_CSTS, CSTS_RDY);
}

static void shut_down(struct nvme *n)
{
	uint32_t csts = reg_get(n, REG_CSTS) & ~CSTS_SHST;

	n->shutdown = true;
	n->shutdown_ns = 0;
	reg_set(n, REG_CSTS, csts | CSTS_SHST_ACTIVE);
	uiommu_function_kick(n->fn);
}

/* Returns true if there is more to do. */
static bool shutdown_step(struct nvme *n)
{
	uint32_t csts;

	n->ready = false;
	if (n->shutdown_ns < n->ns_count) {
		/* A disk that can't take the data has nobody left to tell. */
		nvme_store_flush(n, &n->ns[n->shutdown_ns++]);
		return true;
	}
	n->shutdown = false;
	csts = reg_get(n, REG_CSTS) & ~CSTS_SHST;
	reg_set(n, REG_CSTS, csts | CSTS_SHST_DONE);
	return false;
}

static void write_cc(struct nvme *n, uint32_t value)
{
	uint32_t old = reg_get(n, REG_CC);

	value &= CC_WRITABLE;
	reg_set(n, REG_CC, value);
	if ((old ^ value) & CC_EN) {
		if (value & CC_EN) {
			enable(n, value);
		} else {
			forget(n);
			reg_set(n, REG_CSTS, 0);
		}
	}
	/* Shutting down a controller that is disabled completes, too (3.1.6). */
	if (CC_SHN(value) && CC_SHN(value) != CC_SHN(old) && !n->shutdown)
		shut_down(n);
}

/* ---- registers ---------------------------------------------------------------------------------
 */

static void write_register(struct nvme *n, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case REG_INTMS:
		nvme_mask(n, n->masked | value);
		break;
	case REG_INTMC:
		nvme_mask(n, n->masked & ~value);
		break;
	case REG_CC:
		write_cc(n, value);
		return;
	case REG_AQA:
		reg_set(n, REG_AQA, value & 0x0fff0fff);
		return;
	case REG_ASQ:
	case REG_ACQ:
		reg_set(n, (unsigned)offset, value & ~0xfffu);
		return;
	case REG_ASQ + 4:
	case REG_ACQ + 4:
		reg_set(n, (unsigned)offset, value);
		return;
	default:
		/* Doorbells that any controller with as many queues would have are posted. */
		if (offset >= REG_DOORBELLS && n->ready)
			nvme_event(n, EVENT_ERROR, EVENT_ERROR_REGISTER, LOG_ERROR);
		return;
	}
	reg_set(n, REG_INTMS, n->masked);
	reg_set(n, REG_INTMC, n->masked);
}

static void nvme_bar_write(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			   uint64_t value)
{
	struct nvme *n = uiommu_function_state(fn);

	if (len < 4)
		return;
	write_register(n, offset, (uint32_t)value);
	if (len == 8)
		write_register(n, offset + 4, (uint32_t)(value >> 32));
	uiommu_function_kick(fn);
}

static bool nvme_bar_post(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
			  uint64_t value)
{
	struct nvme *n = uiommu_function_state(fn);
	uint64_t index = (offset - REG_DOORBELLS) / 4;

	if (len != 4 || offset < REG_DOORBELLS || index >= NVME_DOORBELLS)
		return false;
	__atomic_store_n(&n->posted[index], (uint32_t)value, __ATOMIC_RELAXED);
	__atomic_fetch_or(&n->dirty[index / 64], UINT64_C(1) << (index % 64), __ATOMIC_RELEASE);
	return true;
}

/* ---- the worker --------------------------------------------------------------------------------
 */

static void finish(struct nvme *n, const struct nvme_sq *sq, const struct nvme_cmd *cmd,
		   uint32_t dw0, uint16_t status)
{
	if (status)
		nvme_log_error(n, sq->id, nvme_cid(cmd), status, cmd->dw[1],
			       sq->id ? nvme_qword(cmd, 10) : 0);
	nvme_complete(n, sq, nvme_cid(cmd), dw0, status);
}

static void execute(struct nvme *n, struct nvme_sq *sq, const struct nvme_cmd *cmd)
{
	uint32_t dw0 = 0;
	uint16_t status;

	/* Neither fused operations nor, for administration, SGLs (4.2, 5). */
	if ((cmd->dw[0] >> 8 & 0x3) || (!sq->id && cmd->dw[0] >> 14 & 0x3))
		status = SC_INVALID_FIELD;
	else if (sq->id)
		status = nvme_io(n, cmd);
	else
		status = nvme_admin(n, cmd, &dw0);
	if (status == NVME_STEPS) {
		n->step_cmd = *cmd;
		n->step_sq = sq;
	} else if (status != NVME_LATER) {
		finish(n, sq, cmd, dw0, status);
	}
}

/* Has this step done what a step may? */
static bool enough(const struct nvme *n)
{
	return n->moved > STEP_BYTES || nvme_clock() - n->now > STEP_NS;
}

/* Execute what is in a queue, a few at most. Returns how many it were. */
static unsigned serve(struct nvme *n, struct nvme_sq *sq)
{
	uint32_t there = sq->tail >= sq->head ? sq->tail - sq->head : sq->entries - sq->head;
	unsigned count = there < NVME_FETCH ? there : NVME_FETCH, done;
	unsigned i;

	if (nvme_cq_full(&n->cq[sq->cq]))
		return 0;
	if (uiommu_function_dma_read(n->fn, sq->base + sq->head * (uint64_t)SQE_SIZE, n->fetched,
				     count * SQE_SIZE)) {
		nvme_fatal(n);
		return 1;
	}
	for (done = 0; done < count; done++) {
		struct nvme_cmd *cmd = &n->fetched[done];

		/* Commands delete queues, end in fatality, and go on in steps. */
		if (!n->ready || n->step || nvme_cq_full(&n->cq[sq->cq]) || (done && enough(n)))
			break;
		for (i = 0; i < 16; i++)
			cmd->dw[i] = (uint32_t)nvme_get((const uint8_t *)&cmd->dw[i], 4);
		sq->head = sq->head + 1 == sq->entries ? 0 : sq->head + 1;
		execute(n, sq, cmd);
	}
	nvme_sq_pending(n, sq);
	return done;
}

/* Round robin over the queues (4.13.1). */
static bool serve_all(struct nvme *n)
{
	unsigned done = 0, looked;

	for (looked = 0; looked < NVME_QUEUES && n->ready && !n->step; looked++) {
		unsigned id = n->next;

		if (done >= STEP_COMMANDS || (done && enough(n)))
			break;
		n->next = id + 1 == NVME_QUEUES ? 0 : id + 1;
		if (n->pending[id / 64] >> (id % 64) & 1)
			done += serve(n, &n->sq[id]);
	}
	return done;
}

static bool take_step(struct nvme *n)
{
	uint16_t status;

	if (nvme_cq_full(&n->cq[n->step_sq->cq]))
		return false;
	status = nvme_io_step(n);
	if (status != NVME_STEPS) {
		n->step = NVME_NO_STEP;
		finish(n, n->step_sq, &n->step_cmd, 0, status);
	}
	return true;
}

static void check_keep_alive(struct nvme *n)
{
	if (!n->keep_alive_due || n->now < n->keep_alive_due)
		return;
	/* 7.12: the host is gone. */
	n->keep_alive_due = 0;
	nvme_log_error(n, 0xffff, 0xffff, SC_KEEP_ALIVE_EXPIRED, 0, 0);
	nvme_fatal(n);
}

static void set_alarm(struct nvme *n)
{
	uint64_t due = nvme_signal_due(n);

	if (n->keep_alive_due && (!due || n->keep_alive_due < due))
		due = n->keep_alive_due;
	if (due == n->alarm && (!due || due > n->now))
		return;
	n->alarm = due;
	uiommu_function_alarm(n->fn, !due ? 0 : due > n->now ? due - n->now : 1);
}

static bool nvme_work(struct uiommu_function *fn)
{
	struct nvme *n = uiommu_function_state(fn);
	bool busy;

	if (n->shutdown)
		return shutdown_step(n);
	if (!n->ready)
		return false;
	n->now = nvme_clock();
	n->moved = 0;
	nvme_doorbells(n);
	check_keep_alive(n);
	if (n->shadow)
		nvme_shadow_poll(n, false);
	busy = n->step ? take_step(n) : serve_all(n);
	if (n->ready)
		nvme_events_deliver(n);
	nvme_signal(n);
	if (busy) {
		n->active = nvme_clock();
		n->busy_ns += n->active - n->now;
		return true;
	}
	if (n->spin && n->now - n->active < SPIN_NS) {
		uiommu_function_yield(fn);
		return true;
	}
	if (n->shadow && n->ready && nvme_shadow_poll(n, true))
		return true;
	set_alarm(n);
	return false;
}

/* ---- the model ---------------------------------------------------------------------------------
 */

static void nvme_reset(struct uiommu_function *fn)
{
	struct nvme *n = uiommu_function_state(fn);
	uint64_t cap = (NVME_ENTRIES - 1) | CAP_CQR | READY_TIMEOUT << CAP_TO_SHIFT | CAP_CSS_NVM |
		       (uint64_t)NVME_MPSMAX << CAP_MPSMAX_SHIFT;

	if (n->ready)
		n->unsafe_shutdowns++;
	forget(n);
	uiommu_function_set_reg(fn, 0, REG_CAP, 8, cap);
	reg_set(n, REG_VS, VERSION);
	reg_set(n, REG_CC, 0);
	reg_set(n, REG_CSTS, 0);
	reg_set(n, REG_AQA, 0);
	uiommu_function_set_reg(fn, 0, REG_ASQ, 8, 0);
	uiommu_function_set_reg(fn, 0, REG_ACQ, 8, 0);
}

/* The parent's controller carries out what was queued, on the same files: once is enough. So this
 * one is as after a controller reset (7.3.2), which keeps the admin queue's registers. */
static void nvme_forked(struct uiommu_function *fn)
{
	struct nvme *n = uiommu_function_state(fn);

	forget(n);
	reg_set(n, REG_CC, 0);
	reg_set(n, REG_CSTS, 0);
}

static int nvme_init(struct uiommu_function *fn)
{
	struct nvme *n = uiommu_function_state(fn);
	cpu_set_t cpus; /* those that we may use */

	n->fn = fn;
	n->powered_on = nvme_clock();
	n->spin = sched_getaffinity(0, sizeof(cpus), &cpus) || CPU_COUNT(&cpus) > 1;
	if (!n->io_queues)
		n->io_queues = NVME_IO_QUEUES;
	/* Drivers tell subsystems apart by it. */
	if (!n->serial[0])
		snprintf(n->serial, sizeof(n->serial), "uiommu-%.12s",
			 uiommu_function_info(fn)->name + strlen("0000:"));
	return nvme_store_open(n);
}

static void nvme_fini(struct uiommu_function *fn)
{
	nvme_store_close(uiommu_function_state(fn));
}

const struct uiommu_model uiommu_model_nvme = {
	.size = sizeof(struct uiommu_model),
	.name = "nvme",
	.summary = "NVMe 1.4 controller: namespaces in files or in memory, 64 queue pairs",
	.vendor = 0x1234,
	.device = 0x4e56,
	.subsystem_vendor = 0x1af4,
	.subsystem_device = 0x1100,
	.class_code = 0x010802,
	.revision = 1,
	.flags = UIOMMU_MODEL_INTX,
	.msi_vectors = 32,
	.msix_vectors = NVME_VECTORS,
	.msix_bar = 0,
	.msix_offset = MSIX_TABLE,
	.bars = {{BAR_SIZE, UIOMMU_BAR_64}},
	.options = nvme_options,
	.state_size = sizeof(struct nvme),
	.option = nvme_option,
	.init = nvme_init,
	.fini = nvme_fini,
	.reset = nvme_reset,
	.bar_write = nvme_bar_write,
	.bar_post = nvme_bar_post,
	.work = nvme_work,
	.forked = nvme_forked,
};
