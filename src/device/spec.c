/* SPDX-License-Identifier: MIT */
/*
 * "MODEL[@[DDDD:]BB:DD.F][,key=value…]": taking a specification apart, and checking models and
 * their options. Each refusal says what is wrong and what would be right.
 *
 * No locks. Parsing fails on bad text or for lack of memory and then holds nothing.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/function.h"
#include "util/alloc.h"
#include "util/refuse.h"

/* IOMMU groups are small numbers: sysfs and /dev/vfio have a name for each. */
#define GROUP_MAX 65535

int spec_refuse(char *why, size_t why_len, enum uiommu_rule rule, int error, const char *format,
		...)
{
	char text[SPEC_WHY_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (why && why_len)
		snprintf(why, why_len, "%s", text);
	return uiommu_refuse(rule, error, text, UIOMMU_RANGE_NONE, UIOMMU_RANGE_NONE);
}

/* Up to @digits hexadecimal digits, at least one. */
static bool take_hex(const char **at, unsigned digits, unsigned *value)
{
	unsigned n;

	*value = 0;
	for (n = 0; n < digits; n++) {
		char c = **at;

		if (c >= '0' && c <= '9')
			*value = *value * 16 + (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			*value = *value * 16 + (unsigned)((c | 0x20) - 'a') + 10;
		else
			break;
		(*at)++;
	}
	return n > 0;
}

static bool take(const char **at, char c)
{
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

static int parse_address(const char *text, uiommu_rid *rid, char *why, size_t why_len)
{
	unsigned first, bus, device, function, domain = 0;
	const char *at = text;
	bool good = take_hex(&at, 4, &first) && take(&at, ':') && take_hex(&at, 2, &bus);

	if (good && take(&at, ':')) {
		domain = first;
		good = take_hex(&at, 2, &device);
	} else {
		device = bus;
		bus = first;
	}
	good = good && bus <= 0xff && device <= 0x1f && take(&at, '.') &&
	       take_hex(&at, 1, &function) && function <= 7 && !*at;
	if (!good)
		return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "'%s' is no PCI address: [0000:]BB:DD.F in hexadecimal, device "
				   "up to 1f, function up to 7",
				   text);
	if (domain)
		return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "PCI domain %04x: a machine has domain 0000 only", domain);
	*rid = (uiommu_rid)(bus << 8 | device << 3 | function);
	return 0;
}

static int parse_group(const char *value, struct device_spec *spec, char *why, size_t why_len)
{
	char *end;
	unsigned long number = strtoul(value, &end, 0);

	if (*value < '0' || *value > '9' || *end || number > GROUP_MAX)
		return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "group=%s: a number from 0 to %u is wanted", value, GROUP_MAX);
	spec->has_group = true;
	spec->group = (unsigned)number;
	return 0;
}

static int parse_driver(const char *value, struct device_spec *spec, char *why, size_t why_len)
{
	size_t len = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789_-");

	if (!len || value[len] || len >= FUNCTION_DRIVER_MAX)
		return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "driver=%s: a driver's name has letters, digits, - and _, at "
				   "most %d of them",
				   value, FUNCTION_DRIVER_MAX - 1);
	spec->driver = value;
	return 0;
}

static int parse_option(char *text, struct device_spec *spec, char *why, size_t why_len)
{
	char *value = strchr(text, '=');

	if (!value || value == text)
		return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL,
				   "'%s': options have the form key=value", text);
	*value++ = '\0';
	if (!strcmp(text, "group"))
		return parse_group(value, spec, why, why_len);
	if (!strcmp(text, "driver"))
		return parse_driver(value, spec, why, why_len);
	if (spec->option_count == SPEC_OPTIONS_MAX)
		return spec_refuse(why, why_len, UIOMMU_RULE_LIMIT, -EINVAL, "more than %d options",
				   SPEC_OPTIONS_MAX);
	spec->options[spec->option_count].key = text;
	spec->options[spec->option_count].value = value;
	spec->option_count++;
	return 0;
}

static int parse_parts(struct device_spec *spec, char *why, size_t why_len)
{
	char *rest = spec->text;
	char *model = strsep(&rest, ",");
	char *address = strchr(model, '@');
	int error;

	spec->model = model;
	if (address) {
		*address++ = '\0';
		error = parse_address(address, &spec->rid, why, why_len);
		if (error)
			return error;
		spec->has_address = true;
	}
	while (rest) {
		error = parse_option(strsep(&rest, ","), spec, why, why_len);
		if (error)
			return error;
	}
	return 0;
}

int spec_parse(const char *text, struct device_spec *spec, char *why, size_t why_len)
{
	int error;

	memset(spec, 0, sizeof(*spec));
	spec->driver = "vfio-pci";
	if (!text)
		text = "";
	spec->text_size = strlen(text) + 1;
	spec->text = uiommu_alloc(spec->text_size);
	if (!spec->text)
		return spec_refuse(why, why_len, UIOMMU_RULE_NO_MEMORY, -ENOMEM, "out of memory");
	memcpy(spec->text, text, spec->text_size);
	error = parse_parts(spec, why, why_len);
	if (error)
		spec_release(spec);
	return error;
}

void spec_release(struct device_spec *spec)
{
	if (spec->text)
		uiommu_free(spec->text, spec->text_size);
	spec->text = NULL;
}

/* ---- models -----------------------------------------------------------------------------------
 */

/* What is wrong with a BAR, or NULL. */
static const char *bar_fault(const struct uiommu_model *model, unsigned i)
{
	const struct uiommu_bar *bar = &model->bars[i];
	bool wide = bar->flags & UIOMMU_BAR_64;

	if (!bar->size)
		return bar->flags ? "flags without a size" : NULL;
	if (!is_pow2(bar->size) || bar->size < 4096)
		return "its size is no power of two from 4096";
	if (bar->flags & ~(UIOMMU_BAR_64 | UIOMMU_BAR_PREFETCH | UIOMMU_BAR_TRAP_READS))
		return "unknown flag";
	if (!wide)
		return bar->size > UINT64_C(1) << 31 ? "too large for 32 bits" : NULL;
	if (bar->size > UINT64_C(1) << BAR_STRIDE_SHIFT)
		return "larger than 1 TiB";
	if (i + 1 == UIOMMU_BARS || model->bars[i + 1].size)
		return "64 bits wide, but the next BAR is not free";
	return NULL;
}

/* What is wrong with its interrupts, or NULL. */
static const char *interrupt_fault(const struct uiommu_model *model)
{
	uint64_t end;

	if (model->msi_vectors && (!is_pow2(model->msi_vectors) || model->msi_vectors > 32))
		return "msi_vectors is no power of two up to 32";
	if (!model->msix_vectors)
		return NULL;
	if (model->msix_vectors > 2048)
		return "more than 2048 MSI-X vectors";
	if (model->msix_bar >= UIOMMU_BARS || model->msix_offset % 4096)
		return "msix_bar or msix_offset is impossible";
	end = (uint64_t)model->msix_offset + (msix_pba_offset(model) - model->msix_offset) +
	      msix_pba_size(model);
	if (end > UINT32_MAX || end > model->bars[model->msix_bar].size)
		return "the MSI-X table and PBA don't fit their BAR";
	return NULL;
}

int model_check(const struct uiommu_model *model, char *why, size_t why_len)
{
	const char *fault = NULL;
	unsigned i;

	if (!model)
		return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL, "no model");
	if (model->size != sizeof(*model))
		return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT,
				   model->size > sizeof(*model) ? -E2BIG : -EINVAL,
				   "the model has %zu bytes, this library knows %zu", model->size,
				   sizeof(*model));
	if (!model->name || !model->reset || !model->bar_write)
		fault = "it needs a name, reset() and bar_write()";
	else if (model->class_code >> 24)
		fault = "its class has more than 24 bits";
	else if (model->flags &
		 ~(UIOMMU_MODEL_CONVENTIONAL | UIOMMU_MODEL_INTX | UIOMMU_MODEL_ON_REQUEST))
		fault = "unknown flag";
	for (i = 0; i < UIOMMU_BARS && !fault; i++) {
		fault = bar_fault(model, i);
		if (fault)
			return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL,
					   "model %s, BAR %u: %s", model->name, i, fault);
	}
	if (!fault)
		fault = interrupt_fault(model);
	if (!fault)
		fault = config_caps_fault(model);
	if (fault)
		return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL, "model %s: %s",
				   model->name ? model->name : "(no name)", fault);
	return 0;
}

static bool model_knows(const struct uiommu_model *model, const char *key)
{
	const struct uiommu_model_option *option = model->options;

	for (; model->option && option && option->key; option++) {
		if (!strcmp(option->key, key))
			return true;
	}
	return false;
}

static int refuse_key(const struct uiommu_model *model, const char *key, char *why, size_t why_len)
{
	const struct uiommu_model_option *option = model->options;
	char known[SPEC_WHY_MAX / 2] = "group, driver";

	for (; model->option && option && option->key; option++) {
		strncat(known, ", ", sizeof(known) - strlen(known) - 1);
		strncat(known, option->key, sizeof(known) - strlen(known) - 1);
	}
	return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, -EINVAL,
			   "model %s has no option '%s'; it has: %s", model->name, key, known);
}

int model_take_options(struct uiommu_function *fn, const struct device_spec *spec, char *why,
		       size_t why_len)
{
	size_t i;

	for (i = 0; i < spec->option_count; i++) {
		const char *key = spec->options[i].key;
		char reason[SPEC_WHY_MAX] = "not a value it takes";
		int error;

		if (!model_knows(fn->model, key))
			return refuse_key(fn->model, key, why, why_len);
		error = fn->model->option(fn, key, spec->options[i].value, reason, sizeof(reason));
		if (error)
			return spec_refuse(why, why_len, UIOMMU_RULE_ARGUMENT, error, "%s=%s: %s",
					   key, spec->options[i].value, reason);
	}
	return 0;
}
