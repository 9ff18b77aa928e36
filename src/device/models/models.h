/* SPDX-License-Identifier: MIT */
/* The models this library has; machine.c lists them. A model includes <uiommu/device.h> and its
 * own headers alone. */
#ifndef DEVICE_MODELS_MODELS_H
#define DEVICE_MODELS_MODELS_H

#include <uiommu/device.h>

extern const struct uiommu_model uiommu_model_edu;
extern const struct uiommu_model uiommu_model_ioat;
extern const struct uiommu_model uiommu_model_nvme;

/* A model whose device is a front end lives with that, in src/abi; what a folder above needs of it
 * is this name. It is linked in, not included. */
extern const struct uiommu_model uiommu_model_virtio_iommu;

#endif
