/* SPDX-License-Identifier: MIT */
/*
 * Interrupts of a function: MSI-X, MSI and INTx, in this order of preference.
 *
 * A message is a DMA write of four bytes through the function's port: it is translated, refused and
 * counted like any other. The MSI-X table and the pending bits are BAR memory, the MSI registers
 * configuration space; nothing is kept twice.
 *
 * Invariants: a masked vector that was raised is pending, and is sent exactly once when mask,
 * function mask and enable let it. intx_level is asserted, less INTX_DISABLE and less a message
 * interrupt being enabled; the callback hears each change of it.
 *
 * Everything here is called with the function's lock held. Only raising can fail: the write faults.
 */
#include <endian.h>
#include <errno.h>
#include <linux/pci_regs.h>

#include "device/function.h"

#define MSIX_ENTRY	 16
#define MSIX_PAGE	 4096
#define MSIX_ADDRESS_LOW 0
#define MSIX_DATA	 8
#define MSIX_CONTROL	 12
#define MSIX_MASKED	 1u

/* PCI_MSI_* with a 64-bit address. */
#define MSI_ADDRESS_LOW	 4
#define MSI_ADDRESS_HIGH 8
#define MSI_DATA	 12
#define MSI_MASK	 16
#define MSI_PENDING	 20

uint32_t msix_table_size(const struct uiommu_model *model)
{
	return model->msix_vectors * MSIX_ENTRY;
}

uint32_t msix_pba_size(const struct uiommu_model *model)
{
	return (model->msix_vectors + 63) / 64 * 8;
}

uint32_t msix_pba_offset(const struct uiommu_model *model)
{
	return model->msix_offset +
	       (msix_table_size(model) + MSIX_PAGE - 1) / MSIX_PAGE * MSIX_PAGE;
}

static uint16_t msix_control(const struct uiommu_function *fn)
{
	return fn->info.msix_cap ? config_get16(fn, fn->info.msix_cap + PCI_MSIX_FLAGS) : 0;
}

static uint16_t msi_control(const struct uiommu_function *fn)
{
	return fn->info.msi_cap ? config_get16(fn, fn->info.msi_cap + PCI_MSI_FLAGS) : 0;
}

bool msix_enabled(const struct uiommu_function *fn)
{
	return msix_control(fn) & PCI_MSIX_FLAGS_ENABLE;
}

static bool msi_enabled(const struct uiommu_function *fn)
{
	return msi_control(fn) & PCI_MSI_FLAGS_ENABLE;
}

/* Vectors the driver enabled; more than the function has mean all of them. */
static unsigned msi_count(const struct uiommu_function *fn)
{
	unsigned count = 1u << ((msi_control(fn) & PCI_MSI_FLAGS_QSIZE) >> 4);

	return count < fn->model->msi_vectors ? count : fn->model->msi_vectors;
}

static int message_send(struct uiommu_function *fn, uint64_t address, uint32_t data)
{
	int error = uiommu_port_interrupt(fn->port, address, data);

	if (!error)
		__atomic_fetch_add(&fn->interrupts, 1, __ATOMIC_RELAXED);
	return error;
}

/* ---- MSI-X ------------------------------------------------------------------------------------
 */

static uint32_t msix_entry_get(struct uiommu_function *fn, unsigned vector, unsigned field)
{
	return (uint32_t)uiommu_function_reg(
		fn, fn->model->msix_bar, fn->model->msix_offset + vector * MSIX_ENTRY + field, 4);
}

static void msix_entry_set(struct uiommu_function *fn, unsigned vector, unsigned field,
			   uint32_t value)
{
	uiommu_function_set_reg(fn, fn->model->msix_bar,
				fn->model->msix_offset + vector * MSIX_ENTRY + field, 4, value);
}

static uint64_t pba_word(struct uiommu_function *fn, unsigned word)
{
	return uiommu_function_reg(fn, fn->model->msix_bar, fn->pba_offset + word * 8, 8);
}

static void pba_set_word(struct uiommu_function *fn, unsigned word, uint64_t bits)
{
	uiommu_function_set_reg(fn, fn->model->msix_bar, fn->pba_offset + word * 8, 8, bits);
}

static int msix_send(struct uiommu_function *fn, unsigned vector)
{
	uint64_t address = uiommu_function_reg(
		fn, fn->model->msix_bar,
		fn->model->msix_offset + vector * MSIX_ENTRY + MSIX_ADDRESS_LOW, 8);

	return message_send(fn, address, msix_entry_get(fn, vector, MSIX_DATA));
}

static bool msix_masked(struct uiommu_function *fn, unsigned vector)
{
	return (msix_control(fn) & PCI_MSIX_FLAGS_MASKALL) ||
	       (msix_entry_get(fn, vector, MSIX_CONTROL) & MSIX_MASKED);
}

static int msix_raise(struct uiommu_function *fn, unsigned vector)
{
	if (vector >= fn->model->msix_vectors)
		return -EINVAL;
	if (!msix_masked(fn, vector))
		return msix_send(fn, vector);
	pba_set_word(fn, vector / 64, pba_word(fn, vector / 64) | UINT64_C(1) << (vector % 64));
	return 0;
}

/* Send what is pending among the 64 vectors of a word and no longer masked. A message that faults
 * now is as lost as one that faults at once. */
static void msix_flush_word(struct uiommu_function *fn, unsigned word)
{
	uint64_t left = pba_word(fn, word);

	while (left) {
		unsigned bit = (unsigned)__builtin_ctzll(left);
		unsigned vector = word * 64 + bit;

		left &= left - 1;
		if (vector >= fn->model->msix_vectors || msix_masked(fn, vector))
			continue;
		pba_set_word(fn, word, pba_word(fn, word) & ~(UINT64_C(1) << bit));
		msix_send(fn, vector);
	}
}

bool msix_owns(const struct uiommu_function *fn, unsigned bar, uint64_t offset)
{
	const struct uiommu_model *model = fn->model;

	if (!model->msix_vectors || bar != model->msix_bar)
		return false;
	return (offset >= model->msix_offset &&
		offset - model->msix_offset < msix_table_size(model)) ||
	       (offset >= fn->pba_offset && offset - fn->pba_offset < msix_pba_size(model));
}

void msix_write(struct uiommu_function *fn, uint64_t offset, unsigned len, uint64_t value)
{
	unsigned vector;

	if (offset >= fn->pba_offset)
		return; /* pending bits are read-only */
	uiommu_function_set_reg(fn, fn->model->msix_bar, offset, len, value);

	/* Reserved bits read as zero, whatever part of the entry was written. */
	vector = (unsigned)(offset - fn->model->msix_offset) / MSIX_ENTRY;
	msix_entry_set(fn, vector, MSIX_ADDRESS_LOW,
		       msix_entry_get(fn, vector, MSIX_ADDRESS_LOW) & ~3u);
	msix_entry_set(fn, vector, MSIX_CONTROL,
		       msix_entry_get(fn, vector, MSIX_CONTROL) & MSIX_MASKED);
	if (msix_enabled(fn))
		msix_flush_word(fn, vector / 64);
}

/* ---- MSI --------------------------------------------------------------------------------------
 */

static bool msi_maskable(const struct uiommu_function *fn)
{
	return msi_control(fn) & PCI_MSI_FLAGS_MASKBIT;
}

static int msi_send(struct uiommu_function *fn, unsigned vector)
{
	unsigned cap = fn->info.msi_cap;
	uint64_t address = config_get32(fn, cap + MSI_ADDRESS_LOW) |
			   (uint64_t)config_get32(fn, cap + MSI_ADDRESS_HIGH) << 32;
	uint32_t data = config_get16(fn, cap + MSI_DATA);

	return message_send(fn, address, (data & ~(msi_count(fn) - 1)) | vector);
}

static int msi_raise(struct uiommu_function *fn, unsigned vector)
{
	unsigned cap = fn->info.msi_cap;

	vector &= msi_count(fn) - 1;
	if (!msi_maskable(fn) || !(config_get32(fn, cap + MSI_MASK) & 1u << vector))
		return msi_send(fn, vector);
	config_put32(fn, cap + MSI_PENDING, config_get32(fn, cap + MSI_PENDING) | 1u << vector);
	return 0;
}

static void msi_flush(struct uiommu_function *fn)
{
	unsigned cap = fn->info.msi_cap;
	uint32_t due;

	if (!msi_maskable(fn))
		return;
	due = config_get32(fn, cap + MSI_PENDING) & ~config_get32(fn, cap + MSI_MASK);
	while (due) {
		unsigned vector = (unsigned)__builtin_ctz(due);

		due &= due - 1;
		config_put32(fn, cap + MSI_PENDING,
			     config_get32(fn, cap + MSI_PENDING) & ~(1u << vector));
		msi_send(fn, vector & (msi_count(fn) - 1));
	}
}

/* ---- INTx -------------------------------------------------------------------------------------
 */

static void intx_update(struct uiommu_function *fn)
{
	bool level = fn->intx_asserted && !msix_enabled(fn) && !msi_enabled(fn) &&
		     !(config_get16(fn, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE);

	if (fn->intx_asserted)
		fn->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
	else
		fn->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
	if (level == fn->intx_level)
		return;
	fn->intx_level = level;
	if (fn->intx)
		fn->intx(fn->intx_ctx, level);
}

static int intx_raise(struct uiommu_function *fn)
{
	if (!(fn->model->flags & UIOMMU_MODEL_INTX) || fn->intx_asserted)
		return 0;
	fn->intx_asserted = true;
	__atomic_fetch_add(&fn->interrupts, 1, __ATOMIC_RELAXED);
	intx_update(fn);
	return 0;
}

void uiommu_function_lower(struct uiommu_function *fn)
{
	fn->intx_asserted = false;
	intx_update(fn);
}

void uiommu_function_set_intx(struct uiommu_function *fn, void (*fn_cb)(void *ctx, bool level),
			      void *ctx)
{
	function_lock(fn);
	fn->intx = fn_cb;
	fn->intx_ctx = ctx;
	if (fn_cb && fn->intx_level)
		fn_cb(ctx, true);
	function_unlock(fn);
}

/* ---- all of them ------------------------------------------------------------------------------
 */

int uiommu_function_raise(struct uiommu_function *fn, unsigned vector)
{
	if (msix_enabled(fn))
		return msix_raise(fn, vector);
	if (msi_enabled(fn))
		return msi_raise(fn, vector);
	return intx_raise(fn);
}

void msi_config_changed(struct uiommu_function *fn)
{
	unsigned word;

	intx_update(fn);
	if (msix_enabled(fn)) {
		for (word = 0; word < msix_pba_size(fn->model) / 8; word++)
			msix_flush_word(fn, word);
	} else if (msi_enabled(fn)) {
		msi_flush(fn);
	}
}

void msi_reset(struct uiommu_function *fn)
{
	unsigned i;

	for (i = 0; i < fn->model->msix_vectors; i++) {
		uiommu_function_set_reg(fn, fn->model->msix_bar,
					fn->model->msix_offset + i * MSIX_ENTRY, 8, 0);
		msix_entry_set(fn, i, MSIX_DATA, 0);
		msix_entry_set(fn, i, MSIX_CONTROL, MSIX_MASKED);
	}
	for (i = 0; i < msix_pba_size(fn->model) / 8; i++)
		pba_set_word(fn, i, 0);
	fn->intx_asserted = false;
	intx_update(fn);
}
