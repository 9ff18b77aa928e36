/* SPDX-License-Identifier: MIT */
/*
 * The life of a function: making it, resetting it, taking it away; and what models and drivers ask
 * of it that is neither configuration space, BAR, interrupt nor worker.
 *
 * Invariants: a function that is in its machine has passed init() and reset(), and has its worker
 * if its model has work. Destroy undoes whatever part was made, in any state, and cannot fail.
 * Reset holds the lock, so no step of the worker is under way, and takes bus mastering away before
 * the model forgets what it was doing.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "device/function.h"
#include "util/alloc.h"

/* Where the platform has page requests, the function's DMA may wait for a page. */
static void let_wait(struct uiommu_function *fn, struct uiommu_port *port)
{
	const struct uiommu_platform_facts *facts =
		uiommu_platform_facts(uiommu_machine_platform(fn->machine));

	if (fn->model->flags & UIOMMU_MODEL_LETS_IN)
		uiommu_port_set_wait(port, worker_let_in, worker_go_on, fn);
	uiommu_port_set_paging(port, facts->iommufd.page_requests);
}

struct uiommu_function *function_create(struct uiommu_machine *machine,
					const struct uiommu_model *model, uiommu_rid rid,
					unsigned group, const char *driver, int *error)
{
	struct uiommu_function *fn = uiommu_alloc(sizeof(*fn));

	*error = -ENOMEM;
	if (!fn)
		return NULL;
	if (function_locks_init(fn)) {
		uiommu_free(fn, sizeof(*fn));
		return NULL;
	}
	fn->machine = machine;
	fn->model = model;
	fn->fd = -1;
	snprintf(fn->name, sizeof(fn->name), "0000:%02x:%02x.%x", rid >> 8, rid >> 3 & 0x1f,
		 rid & 7);
	snprintf(fn->driver, sizeof(fn->driver), "%s", driver);
	fn->info.name = fn->name;
	fn->info.rid = rid;
	fn->info.group = group;
	fn->info.driver = fn->driver;
	fn->info.model = model;
	fn->pba_offset = msix_pba_offset(model);
	fn->express = !(model->flags & UIOMMU_MODEL_CONVENTIONAL);
	config_build(fn);

	if (model->state_size) {
		fn->state = uiommu_alloc(model->state_size);
		if (!fn->state)
			goto fail;
	}
	*error = bar_create(fn);
	if (*error)
		goto fail;
	*error = uiommu_port_create(uiommu_machine_unit(machine), rid, &fn->port);
	if (*error)
		goto fail;
	let_wait(fn, fn->port);
	return fn;
fail:
	function_destroy(fn);
	return NULL;
}

int function_power_on(struct uiommu_function *fn, char *why, size_t why_len)
{
	if (fn->model->init) {
		int error;

		fn->why = why;
		fn->why_len = why_len;
		error = fn->model->init(fn);
		fn->why = NULL;
		if (error)
			return error;
	}
	fn->initialised = true;
	uiommu_function_reset(fn);
	return worker_start(fn);
}

void function_destroy(struct uiommu_function *fn)
{
	if (!fn)
		return;
	worker_stop(fn);
	if (fn->initialised && fn->model->fini)
		fn->model->fini(fn);
	uiommu_port_destroy(fn->pasid_port);
	uiommu_port_destroy(fn->port);
	bar_destroy(fn);
	if (fn->state)
		uiommu_free(fn->state, fn->model->state_size);
	function_locks_destroy(fn);
	uiommu_free(fn, sizeof(*fn));
}

void function_reset(struct uiommu_function *fn)
{
	memcpy(fn->config, fn->power_on, sizeof(fn->config));
	config_apply_command(fn);
	worker_cancel(fn);
	msi_reset(fn);
	fn->model->reset(fn);
}

void uiommu_function_reset(struct uiommu_function *fn)
{
	function_lock_whole(fn);
	function_reset(fn);
	function_unlock(fn);
}

const struct uiommu_function_info *uiommu_function_info(const struct uiommu_function *fn)
{
	return &fn->info;
}

struct uiommu_machine *uiommu_function_machine(struct uiommu_function *fn)
{
	return fn->machine;
}

void uiommu_function_explain(struct uiommu_function *fn, const char *format, ...)
{
	va_list args;

	if (!fn->why)
		return;
	va_start(args, format);
	vsnprintf(fn->why, fn->why_len, format, args);
	va_end(args);
}

void *uiommu_function_state(struct uiommu_function *fn)
{
	return fn->state;
}

struct uiommu_port *uiommu_function_port(struct uiommu_function *fn)
{
	return fn->port;
}

int uiommu_function_dma_read(struct uiommu_function *fn, uint64_t iova, void *buf, size_t len)
{
	return uiommu_port_read(fn->port, iova, buf, len);
}

int uiommu_function_dma_write(struct uiommu_function *fn, uint64_t iova, const void *buf,
			      size_t len)
{
	return uiommu_port_write(fn->port, iova, buf, len);
}

int uiommu_function_add_pasids(struct uiommu_function *fn, unsigned bits)
{
	const struct uiommu_platform_facts *facts =
		uiommu_platform_facts(uiommu_machine_platform(fn->machine));
	unsigned usable = facts->iommufd.pasid_bits < bits ? facts->iommufd.pasid_bits : bits;

	if (!bits || bits > 20)
		return -EINVAL;
	if (usable && !fn->pasid_port) {
		int error = uiommu_port_create(uiommu_machine_unit(fn->machine), fn->info.rid,
					       &fn->pasid_port);

		if (error)
			return error;
		let_wait(fn, fn->pasid_port);
	}
	fn->express = true;
	fn->pasid_cap_bits = bits;
	fn->info.pasid_bits = usable;
	memset(fn->config, 0, sizeof(fn->config));
	memset(fn->writable, 0, sizeof(fn->writable));
	memset(fn->clears, 0, sizeof(fn->clears));
	config_build(fn);
	return 0;
}

/* The port for an access with the PASID, or why there is none. */
static int pasid_port(struct uiommu_function *fn, uint32_t pasid, struct uiommu_port **port)
{
	*port = fn->port;
	if (pasid == UIOMMU_NO_PASID)
		return 0;
	if (pasid >> fn->info.pasid_bits)
		return -EINVAL;
	*port = fn->pasid_port;
	return uiommu_port_set_pasid(fn->pasid_port, pasid);
}

int uiommu_function_dma_read_pasid(struct uiommu_function *fn, uint32_t pasid, uint64_t iova,
				   void *buf, size_t len)
{
	struct uiommu_port *port;
	int error = pasid_port(fn, pasid, &port);

	return error ? error : uiommu_port_read(port, iova, buf, len);
}

int uiommu_function_dma_write_pasid(struct uiommu_function *fn, uint32_t pasid, uint64_t iova,
				    const void *buf, size_t len)
{
	struct uiommu_port *port;
	int error = pasid_port(fn, pasid, &port);

	return error ? error : uiommu_port_write(port, iova, buf, len);
}

static void add_stats(struct uiommu_unit_stats *sum, const struct uiommu_unit_stats *more)
{
	sum->reads += more->reads;
	sum->writes += more->writes;
	sum->bytes_read += more->bytes_read;
	sum->bytes_written += more->bytes_written;
	sum->doorbells += more->doorbells;
	sum->iotlb_hits += more->iotlb_hits;
	sum->iotlb_misses += more->iotlb_misses;
	sum->walks += more->walks;
	sum->entries_flushed += more->entries_flushed;
	sum->faults += more->faults;
}

/* Takes no lock, so that statistics can be had from anywhere, e.g. at the end of a program that a
 * signal interrupted inside a register write. */
void uiommu_function_stats(struct uiommu_function *fn, struct uiommu_function_stats *stats)
{
	memset(stats, 0, sizeof(*stats));
	stats->interrupts = __atomic_load_n(&fn->interrupts, __ATOMIC_RELAXED);
	uiommu_port_stats(fn->port, &stats->dma);
	if (fn->pasid_port) {
		struct uiommu_unit_stats with;

		uiommu_port_stats(fn->pasid_port, &with);
		add_stats(&stats->dma, &with);
	}
}
