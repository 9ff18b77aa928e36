/* SPDX-License-Identifier: MIT */
/*
 * The machine: a platform, an IOMMU and functions in order of their addresses.
 *
 * Functions are added while nobody else uses the machine; after that the list never changes, so it
 * has no lock. Around a fork the locks of the functions are taken in the order of addresses, which
 * is the only time more than one is held, then those of the IOMMU and of the interrupt table.
 *
 * A failed addition leaves the machine as it was. Destroy cannot fail.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "device/function.h"
#include "device/models/models.h"
#include "platform/platform.h"
#include "space/space.h"
#include "util/alloc.h"
#include "util/options.h"

#define DEVICES_PER_BUS 32

struct uiommu_machine {
	struct uiommu_machine_options options;
	struct uiommu_platform *platform;
	struct uiommu_unit *unit;
	struct uiommu_function **functions;
	size_t count;
	size_t capacity;
};

static const struct uiommu_model *const models[] = {
	&uiommu_model_edu,
	&uiommu_model_ioat,
	&uiommu_model_nvme,
	&uiommu_model_virtio_iommu,
};

const struct uiommu_model *uiommu_model_at(size_t index)
{
	return index < sizeof(models) / sizeof(models[0]) ? models[index] : NULL;
}

/* ---- the machine ------------------------------------------------------------------------------
 */

/* Options may come from an older header (shorter) or from a newer one, if what is new in it is
 * zero. */
static int take_options(struct uiommu_machine *machine,
			const struct uiommu_machine_options *options, char *why, size_t why_len)
{
	int ret = options ? options_take(&machine->options, sizeof(machine->options),
					 sizeof(options->size), options)
			  : 0;

	if (ret)
		return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, ret,
				   ret == -E2BIG ? "options that this library doesn't know"
						 : "the options' size is not set");
	return 0;
}

static int make_unit(struct uiommu_machine *machine, char *why, size_t why_len)
{
	const struct uiommu_platform_facts *facts = uiommu_platform_facts(machine->platform);
	struct uiommu_unit_options options = {
		.size = sizeof(options),
		.memory = machine->options.memory,
		.iotlb_entries = machine->options.iotlb_entries,
		.windows = facts->windows,
		.window_count = facts->window_count,
		.cut_off = facts->cut_off,
		.fault = machine->options.fault,
		.fault_ctx = machine->options.fault_ctx,
	};
	int error = uiommu_unit_create(&options, &machine->unit);

	if (error && why && why_len)
		snprintf(why, why_len, "the IOMMU could not be made: %s", strerror(-error));
	return error;
}

int uiommu_machine_create(const struct uiommu_machine_options *options, struct uiommu_machine **out,
			  char *why, size_t why_len)
{
	struct uiommu_machine *machine = uiommu_alloc(sizeof(*machine));
	const char *platform;
	int error;

	if (!machine)
		return spec_refuse(why, why_len, UIOMMU_RULE_NO_MEMORY, -ENOMEM, "out of memory");
	error = take_options(machine, options, why, why_len);
	if (error)
		goto fail;
	platform = machine->options.platform ? machine->options.platform : "x86-vtd";
	error = uiommu_platform_create(platform, &machine->platform, why, why_len);
	if (error)
		goto fail;
	error = make_unit(machine, why, why_len);
	if (error)
		goto fail;
	*out = machine;
	return 0;
fail:
	uiommu_machine_destroy(machine);
	return error;
}

void uiommu_machine_destroy(struct uiommu_machine *machine)
{
	size_t i;

	if (!machine)
		return;
	for (i = 0; i < machine->count; i++)
		function_destroy(machine->functions[i]);
	if (machine->functions)
		uiommu_free(machine->functions, machine->capacity * sizeof(*machine->functions));
	uiommu_unit_destroy(machine->unit);
	uiommu_platform_destroy(machine->platform);
	uiommu_free(machine, sizeof(*machine));
}

const struct uiommu_machine_options *machine_options(const struct uiommu_machine *machine)
{
	return &machine->options;
}

struct uiommu_unit *uiommu_machine_unit(struct uiommu_machine *machine)
{
	return machine->unit;
}

struct uiommu_platform *uiommu_machine_platform(struct uiommu_machine *machine)
{
	return machine->platform;
}

struct uiommu_function *uiommu_machine_function(struct uiommu_machine *machine, size_t index)
{
	return index < machine->count ? machine->functions[index] : NULL;
}

struct uiommu_function *uiommu_machine_find(struct uiommu_machine *machine, const char *name)
{
	size_t i;

	for (i = 0; name && i < machine->count; i++) {
		if (!strcmp(machine->functions[i]->name, name))
			return machine->functions[i];
	}
	return NULL;
}

/* ---- adding a function ------------------------------------------------------------------------
 */

static struct uiommu_function *function_at(struct uiommu_machine *machine, uiommu_rid rid)
{
	size_t i;

	for (i = 0; i < machine->count; i++) {
		if (machine->functions[i]->info.rid == rid)
			return machine->functions[i];
	}
	return NULL;
}

/* The first device number of bus 0, from 1, none of whose functions is there. */
static int free_address(struct uiommu_machine *machine, uiommu_rid *rid)
{
	unsigned device, function;

	for (device = 1; device < DEVICES_PER_BUS; device++) {
		for (function = 0; function < 8; function++) {
			if (function_at(machine, (uiommu_rid)(device << 3 | function)))
				break;
		}
		if (function == 8) {
			*rid = (uiommu_rid)(device << 3);
			return 0;
		}
	}
	return -EEXIST;
}

static bool group_is_free(const struct uiommu_machine *machine, unsigned group)
{
	for (size_t i = 0; i < machine->count; i++)
		if (machine->functions[i]->info.group == group)
			return false;
	return true;
}

static unsigned free_group(const struct uiommu_machine *machine)
{
	unsigned group = 0;

	while (!group_is_free(machine, group))
		group++;
	return group;
}

static int reserve_slot(struct uiommu_machine *machine)
{
	size_t capacity = machine->capacity ? 2 * machine->capacity : 8;
	struct uiommu_function **grown;

	if (machine->count < machine->capacity)
		return 0;
	grown = uiommu_alloc_array(capacity, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	if (machine->count)
		memcpy(grown, machine->functions, machine->count * sizeof(*grown));
	if (machine->functions)
		uiommu_free(machine->functions, machine->capacity * sizeof(*grown));
	machine->functions = grown;
	machine->capacity = capacity;
	return 0;
}

static void insert(struct uiommu_machine *machine, struct uiommu_function *fn)
{
	size_t at = machine->count, i;

	while (at && machine->functions[at - 1]->info.rid > fn->info.rid) {
		machine->functions[at] = machine->functions[at - 1];
		at--;
	}
	machine->functions[at] = fn;
	machine->count++;

	/* Enumeration looks beyond function 0 only where the header says so. */
	for (i = 0; i < machine->count; i++) {
		struct uiommu_function *other = machine->functions[i];

		if (other == fn || other->info.rid >> 3 != fn->info.rid >> 3)
			continue;
		config_mark_multifunction(other);
		config_mark_multifunction(fn);
	}
}

/* Tell one function of another, if its model wants to know. */
static int tell(struct uiommu_function *fn, const struct uiommu_function *other, bool present)
{
	int error = 0;

	if (!fn->model->neighbour)
		return 0;
	function_lock(fn);
	error = fn->model->neighbour(fn, &other->info, present);
	function_unlock(fn);
	return error;
}

/* Make the functions that are there and a new one known to each other, or none of them. */
static int introduce(struct uiommu_machine *machine, struct uiommu_function *fn)
{
	size_t told = 0;
	int error = 0;

	for (size_t i = 0; i < machine->count && !error; i++)
		error = tell(fn, machine->functions[i], true);
	while (!error && told < machine->count) {
		error = tell(machine->functions[told], fn, true);
		told += !error;
	}
	/* What the new one was told it forgets as it goes. */
	while (error && told--)
		tell(machine->functions[told], fn, false);
	return error;
}

static int place(struct uiommu_machine *machine, struct device_spec *spec, char *why,
		 size_t why_len)
{
	struct uiommu_function *there;

	if (!spec->has_address && free_address(machine, &spec->rid))
		return spec_refuse(why, why_len, UIOMMU_RULE_LIMIT, -EEXIST,
				   "bus 0 has no free device number; give an address");
	there = function_at(machine, spec->rid);
	if (there)
		return spec_refuse(why, why_len, UIOMMU_RULE_OVERLAP, -EEXIST,
				   "%s is there already: %s", there->name, there->model->name);
	if (!spec->has_group)
		spec->group = free_group(machine);
	/* VFIO makes a group for each device that has no IOMMU. */
	if (uiommu_platform_facts(machine->platform)->vfio_types == UIOMMU_VFIO_NOIOMMU &&
	    !group_is_free(machine, spec->group))
		return spec_refuse(
			why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL,
			"group=%u is taken, and without an IOMMU each device has a group "
			"of its own; leave group= out",
			spec->group);
	return 0;
}

/* What stopped a function from coming up: memory, or what the system or the model has not. */
static enum uiommu_rule rule_of(int error)
{
	return error == -ENOMEM ? UIOMMU_RULE_NO_MEMORY : UIOMMU_RULE_UNSUPPORTED;
}

static int add(struct uiommu_machine *machine, const struct uiommu_model *model,
	       struct device_spec *spec, char *why, size_t why_len)
{
	struct uiommu_function *fn;
	int error = place(machine, spec, why, why_len);

	if (error)
		return error;
	if (reserve_slot(machine))
		return spec_refuse(why, why_len, UIOMMU_RULE_NO_MEMORY, -ENOMEM, "out of memory");
	fn = function_create(machine, model, spec->rid, spec->group, spec->driver, &error);
	if (!fn)
		return spec_refuse(why, why_len, rule_of(error), error,
				   "device %s could not be made: %s", model->name,
				   strerror(-error));
	error = model_take_options(fn, spec, why, why_len);
	if (!error) {
		char reason[SPEC_WHY_MAX - 64];

		snprintf(reason, sizeof(reason), "%s", "");
		error = function_power_on(fn, reason, sizeof(reason));
		if (!error)
			error = introduce(machine, fn);
		if (error)
			spec_refuse(why, why_len, rule_of(error), error,
				    "device %s could not be started: %s", model->name,
				    reason[0] ? reason
				    : error == -EEXIST
					    ? "the machine has one, and can have no other"
					    : strerror(-error));
	}
	if (error) {
		function_destroy(fn);
		return error;
	}
	insert(machine, fn);
	return 0;
}

static const struct uiommu_model *model_named(const char *name)
{
	const struct uiommu_model *model;
	size_t i;

	for (i = 0; (model = uiommu_model_at(i)); i++) {
		if (!strcmp(model->name, name))
			return model;
	}
	return NULL;
}

static int refuse_model(const char *name, char *why, size_t why_len)
{
	const struct uiommu_model *model;
	char known[SPEC_WHY_MAX / 2] = "";
	size_t i;

	for (i = 0; (model = uiommu_model_at(i)); i++) {
		if (i)
			strncat(known, ", ", sizeof(known) - strlen(known) - 1);
		strncat(known, model->name, sizeof(known) - strlen(known) - 1);
	}
	return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -ENOENT,
			   "no device model '%s'; there are: %s", name, known);
}

int uiommu_machine_add(struct uiommu_machine *machine, const char *spec, char *why, size_t why_len)
{
	const struct uiommu_model *model;
	struct device_spec parsed;
	int error = spec_parse(spec, &parsed, why, why_len);

	if (error)
		return error;
	model = model_named(parsed.model);
	error = model ? add(machine, model, &parsed, why, why_len)
		      : refuse_model(parsed.model, why, why_len);
	spec_release(&parsed);
	return error;
}

int uiommu_machine_add_model(struct uiommu_machine *machine, const struct uiommu_model *model,
			     const char *spec, char *why, size_t why_len)
{
	struct device_spec parsed;
	int error = model_check(model, why, why_len);

	if (error)
		return error;
	error = spec_parse(spec, &parsed, why, why_len);
	if (error)
		return error;
	error = add(machine, model, &parsed, why, why_len);
	spec_release(&parsed);
	return error;
}

/* ---- fork -------------------------------------------------------------------------------------
 */

void uiommu_machine_fork_prepare(struct uiommu_machine *machine)
{
	size_t i;

	for (i = 0; i < machine->count; i++)
		worker_fork_prepare(machine->functions[i]);
	unit_fork_prepare(machine->unit);
	irq_table_fork_prepare(&machine->platform->irqs);
}

void uiommu_machine_fork_parent(struct uiommu_machine *machine)
{
	size_t i;

	irq_table_fork_parent(&machine->platform->irqs);
	unit_fork_parent(machine->unit);
	for (i = machine->count; i--;)
		worker_fork_parent(machine->functions[i]);
}

void uiommu_machine_fork_child(struct uiommu_machine *machine)
{
	size_t i;

	irq_table_fork_child(&machine->platform->irqs);
	unit_fork_child(machine->unit);
	for (i = 0; i < machine->count; i++)
		worker_fork_child(machine->functions[i]);
}
