/* SPDX-License-Identifier: MIT */
/*
 * The model "virtio-iommu": the device of virtio_iommu.c as a function on the bus, over the
 * transport of device/virtio_pci.c.
 *
 * Its endpoints are the other functions of the machine. It governs those that are attached to the
 * same domain as itself (uiommu_stage1_options.governor): what a MAP calls physical are addresses
 * of the space in which this function does its own DMA, be it a VFIO container's.
 *
 * The model lives here because the device does; src/device knows of it only that there is a struct
 * uiommu_model by that name (device/models/models.h).
 *
 * Reports of faults come from other functions' workers, with their locks held: they are kept in the
 * device, and this function's worker is poked. Whatever the queues hold, nothing here fails; a
 * request whose buffers are not there is given back unanswered.
 */
#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>

#include <uiommu/virtio_iommu.h>

#include "device/models/models.h"
#include "device/virtio_pci.h"

enum { QUEUE_REQUESTS, QUEUE_EVENTS, QUEUES };

/* Room for the longest answer: a PROBE's properties and the tail. */
#define ANSWER_MAX 4096
#define PROBE_MAX  (ANSWER_MAX - 4)

struct model {
	struct virtio_pci vp; /* first */
	struct uiommu_virtio_iommu *dev;
	bool bypass_off;
	uint8_t answer[ANSWER_MAX];
};

static struct uiommu_virtio_iommu *dev_of(struct uiommu_function *fn)
{
	return ((struct model *)uiommu_function_state(fn))->dev;
}

/* ---- for the transport ---- */

static uint64_t features(struct uiommu_function *fn)
{
	return uiommu_virtio_iommu_features(dev_of(fn));
}

static bool accept_features(struct uiommu_function *fn, uint64_t accepted)
{
	return !uiommu_virtio_iommu_set_features(dev_of(fn), accepted);
}

static void device_reset(struct uiommu_function *fn)
{
	uiommu_virtio_iommu_reset(dev_of(fn), false);
}

static void config_read(struct uiommu_function *fn, unsigned offset, void *buf, unsigned len)
{
	uiommu_virtio_iommu_config_read(dev_of(fn), offset, buf, len);
}

static void config_write(struct uiommu_function *fn, unsigned offset, const void *buf, unsigned len)
{
	uiommu_virtio_iommu_config_write(dev_of(fn), offset, buf, len);
}

static const struct virtio_pci_ops ops = {
	.queues = QUEUES,
	.config_len = UIOMMU_VIRTIO_IOMMU_CONFIG,
	.features = features,
	.accept = accept_features,
	.reset = device_reset,
	.config_read = config_read,
	.config_write = config_write,
};

/* ---- work ---- */

/* One request: true if there was one. */
static bool do_request(struct uiommu_function *fn)
{
	struct model *model = uiommu_function_state(fn);
	struct virtio_chain *chain = &model->vp.chain;
	uint8_t in[UIOMMU_VIRTIO_IOMMU_REQUEST];
	size_t written = 0;
	int in_len;

	if (virtio_pci_pop(fn, QUEUE_REQUESTS, chain) != 1)
		return false;
	in_len = virtio_pci_chain_read(fn, chain, in, sizeof(in));
	if (in_len >= 0)
		uiommu_virtio_iommu_request(
			model->dev, in, in_len, model->answer,
			chain->out_len < ANSWER_MAX ? chain->out_len : ANSWER_MAX, &written);
	if (written && virtio_pci_chain_write(fn, chain, model->answer, written))
		written = 0;
	virtio_pci_push(fn, QUEUE_REQUESTS, chain, written);
	return true;
}

/* One fault report: true if there was one. */
static bool do_event(struct uiommu_function *fn)
{
	struct model *model = uiommu_function_state(fn);
	struct virtio_chain *chain = &model->vp.chain;
	uint8_t report[UIOMMU_VIRTIO_IOMMU_REPORT];
	size_t room;
	int len;

	if (!uiommu_virtio_iommu_events(model->dev))
		return false;
	if (virtio_pci_pop(fn, QUEUE_EVENTS, chain) != 1) {
		uiommu_virtio_iommu_drop_events(model->dev);
		return false;
	}
	room = chain->out_len < sizeof(report) ? chain->out_len : sizeof(report);
	len = uiommu_virtio_iommu_next_event(model->dev, report, room);
	if (len < 0 || virtio_pci_chain_write(fn, chain, report, len))
		len = 0;
	virtio_pci_push(fn, QUEUE_EVENTS, chain, len);
	return true;
}

static bool viommu_work(struct uiommu_function *fn)
{
	bool event = do_event(fn), request = do_request(fn);

	return event || request;
}

/* ---- life ---- */

/* A port inside its access section: no waiting, least of all for this function's lock. */
static void on_event(void *ctx)
{
	uiommu_function_post(ctx);
}

/* A requester ID has one stage 1: two of these would take each other's endpoints away. */
static bool have_one(struct uiommu_machine *machine)
{
	struct uiommu_function *other;

	for (size_t i = 0; (other = uiommu_machine_function(machine, i)); i++)
		if (uiommu_function_info(other)->model == &uiommu_model_virtio_iommu)
			return true;
	return false;
}

static int viommu_init(struct uiommu_function *fn)
{
	struct uiommu_machine *machine = uiommu_function_machine(fn);
	const struct uiommu_platform_facts *facts =
		uiommu_platform_facts(uiommu_machine_platform(machine));
	struct model *model = uiommu_function_state(fn);
	const struct uiommu_virtio_iommu_options options = {
		.size = sizeof(options),
		.facts = facts,
		.governed = true,
		.self = uiommu_function_info(fn)->rid,
		.bypass = !model->bypass_off,
		.probe_size = 0,
		.event = on_event,
		.event_ctx = fn,
	};
	uint8_t config[UIOMMU_VIRTIO_IOMMU_CONFIG];
	int ret;

	if (have_one(machine))
		return -EEXIST;
	if (!(facts->vfio_types & UIOMMU_VFIO_TYPE1)) {
		uiommu_function_explain(fn,
					"virtio-iommu needs a platform with page tables: x86-vtd, "
					"x86-amd, arm-smmuv3 or riscv, not %s",
					facts->name);
		return -EOPNOTSUPP;
	}
	ret = uiommu_virtio_iommu_create(uiommu_machine_unit(machine), &options, &model->dev);
	if (ret)
		return ret;
	model->vp.ops = &ops;
	uiommu_virtio_iommu_config_read(model->dev, 0, config, sizeof(config));
	/* More reserved regions than an answer has room for. */
	if (config[34] || config[35] || (config[32] | config[33] << 8) > PROBE_MAX) {
		uiommu_virtio_iommu_destroy(model->dev);
		return -EMSGSIZE;
	}
	return 0;
}

static void viommu_fini(struct uiommu_function *fn)
{
	uiommu_virtio_iommu_destroy(dev_of(fn));
}

static void viommu_reset(struct uiommu_function *fn)
{
	uiommu_virtio_iommu_reset(dev_of(fn), true);
	virtio_pci_reset(fn);
}

static int viommu_neighbour(struct uiommu_function *fn, const struct uiommu_function_info *other,
			    bool present)
{
	if (present)
		return uiommu_virtio_iommu_add_endpoint(dev_of(fn), other->rid);
	uiommu_virtio_iommu_remove_endpoint(dev_of(fn), other->rid);
	return 0;
}

static int viommu_option(struct uiommu_function *fn, const char *key, const char *value, char *why,
			 size_t why_len)
{
	struct model *model = uiommu_function_state(fn);

	if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
		snprintf(why, why_len, "on or off is wanted");
		return -EINVAL;
	}
	model->bypass_off = !strcmp(value, "off");
	return 0;
}

static const struct uiommu_model_option options[] = {
	{"bypass", "functions without a virtio domain pass untranslated: on or off (default on)"},
	{NULL, NULL},
};

const struct uiommu_model uiommu_model_virtio_iommu = {
	.size = sizeof(struct uiommu_model),
	.name = "virtio-iommu",
	.summary = "paravirtual IOMMU for the functions beside it",
	.vendor = VIRTIO_PCI_VENDOR,
	.device = VIRTIO_PCI_DEVICE(VIRTIO_ID_IOMMU),
	.subsystem_vendor = VIRTIO_PCI_VENDOR,
	.subsystem_device = VIRTIO_PCI_SUBSYSTEM_DEVICE,
	.class_code = 0x080600,
	.revision = 1,
	.flags = UIOMMU_MODEL_INTX | UIOMMU_MODEL_ON_REQUEST,
	.msix_vectors = 1 + QUEUES,
	.msix_bar = VIRTIO_PCI_BAR_MSIX,
	.bars = VIRTIO_PCI_BARS,
	.options = options,
	.state_size = sizeof(struct model),
	.option = viommu_option,
	.init = viommu_init,
	.fini = viommu_fini,
	.reset = viommu_reset,
	.bar_write = virtio_pci_bar_write,
	.bar_read = virtio_pci_bar_read,
	.work = viommu_work,
	.caps = virtio_pci_caps,
	.config_read = virtio_pci_config_read,
	.config_write = virtio_pci_config_write,
	.neighbour = viommu_neighbour,
};
