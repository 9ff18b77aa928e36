/* SPDX-License-Identifier: MIT */
/*
 * Owns the form in which the runner's settings travel from the command through exec() into each
 * process. Invariant: parse(format(c)) equals c. No locks, no memory of its own. Used by the
 * command and by the preloaded library.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "run/config.h"

const char *const run_iommufd_names[] = {"on", "off", "container", "rfc", NULL};

void run_config_init(struct run_config *config)
{
	memset(config, 0, sizeof(*config));
	config->keep = -1;
}

static int set_value(struct run_config *config, const char *key, const char *value)
{
	if (!strcmp(key, "device")) {
		if (config->device_count == RUN_CONFIG_DEVICES)
			return -E2BIG;
		config->devices[config->device_count++] = value;
	} else if (!strcmp(key, "platform")) {
		config->platform = value;
	} else if (!strcmp(key, "iotlb")) {
		config->iotlb = (uint32_t)strtoul(value, NULL, 0);
	} else if (!strcmp(key, "dma-entries")) {
		config->dma_entries = (unsigned)strtoul(value, NULL, 0);
	} else if (!strcmp(key, "iommufd-test")) {
		config->iommufd_test = true;
	} else if (!strcmp(key, "memlock")) {
		config->memlock = true;
	} else if (!strcmp(key, "unsafe-interrupts")) {
		config->unsafe_interrupts = true;
	} else if (!strcmp(key, "stats")) {
		config->stats = true;
	} else if (!strcmp(key, "explain")) {
		config->explain = true;
	} else if (!strcmp(key, "verbose")) {
		config->verbose = true;
	} else if (!strcmp(key, "iommufd")) {
		for (int i = 0; run_iommufd_names[i]; i++)
			if (!strcmp(value, run_iommufd_names[i]))
				config->iommufd = (enum run_iommufd)i;
	} else if (!strcmp(key, "root")) {
		config->root = value;
	} else if (!strcmp(key, "keep")) {
		config->keep = atoi(value);
	} else if (!strcmp(key, "pid")) {
		config->pid = atoi(value);
	}
	return 0;
}

int run_config_parse(char *text, struct run_config *config)
{
	char *save = NULL;
	int ret = 0;

	run_config_init(config);
	for (char *line = strtok_r(text, "\n", &save); line && !ret;
	     line = strtok_r(NULL, "\n", &save)) {
		char *value = strchr(line, ' ');

		if (value)
			*value++ = '\0';
		ret = set_value(config, line, value ? value : "");
	}
	return ret;
}

/* A buffer that is filled as far as it goes while the length wanted is counted. */
struct text {
	char *buf;
	size_t len, used;
};

static void __attribute__((format(printf, 2, 3))) put(struct text *text, const char *format, ...)
{
	size_t room = text->used < text->len ? text->len - text->used : 0;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(room ? text->buf + text->used : NULL, room, format, args);
	va_end(args);
	if (n > 0)
		text->used += (size_t)n;
}

int run_config_format(const struct run_config *config, char *buf, size_t len)
{
	struct text text = {buf, len, 0};

	if (config->platform)
		put(&text, "platform %s\n", config->platform);
	for (unsigned i = 0; i < config->device_count; i++)
		put(&text, "device %s\n", config->devices[i]);
	if (config->iotlb)
		put(&text, "iotlb %u\n", config->iotlb);
	if (config->dma_entries)
		put(&text, "dma-entries %u\n", config->dma_entries);
	if (config->iommufd_test)
		put(&text, "iommufd-test\n");
	if (config->memlock)
		put(&text, "memlock\n");
	if (config->unsafe_interrupts)
		put(&text, "unsafe-interrupts\n");
	if (config->stats)
		put(&text, "stats\n");
	if (config->explain)
		put(&text, "explain\n");
	if (config->verbose)
		put(&text, "verbose\n");
	if (config->iommufd != RUN_IOMMUFD_ON)
		put(&text, "iommufd %s\n", run_iommufd_names[config->iommufd]);
	if (config->root)
		put(&text, "root %s\n", config->root);
	put(&text, "keep %d\npid %d\n", config->keep, config->pid);
	return (int)text.used;
}

static int add_all(const struct run_config *config, struct uiommu_machine *machine, char *why,
		   size_t why_len)
{
	const struct uiommu_model *model;
	int ret = 0;

	for (unsigned i = 0; i < config->device_count && !ret; i++)
		ret = uiommu_machine_add(machine, config->devices[i], why, why_len);
	if (config->device_count)
		return ret;
	for (size_t i = 0; (model = uiommu_model_at(i)) && !ret; i++)
		if (!(model->flags & UIOMMU_MODEL_ON_REQUEST))
			ret = uiommu_machine_add(machine, model->name, why, why_len);
	return ret;
}

int run_config_machine(const struct run_config *config,
		       const struct uiommu_machine_options *options, struct uiommu_machine **out,
		       char *why, size_t why_len)
{
	struct uiommu_machine_options full = *options;
	struct uiommu_machine *machine;
	int ret;

	full.size = sizeof(full);
	full.platform = config->platform;
	full.iotlb_entries = config->iotlb;
	if (why_len)
		why[0] = '\0';
	ret = uiommu_machine_create(&full, &machine, why, why_len);
	if (ret)
		return ret;
	ret = add_all(config, machine, why, why_len);
	if (ret) {
		uiommu_machine_destroy(machine);
		return ret;
	}
	*out = machine;
	return 0;
}
