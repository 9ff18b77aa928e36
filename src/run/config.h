/* SPDX-License-Identifier: MIT */
/*
 * What the command tells the preloaded library: one environment variable of lines "key value".
 */
#ifndef RUN_CONFIG_H
#define RUN_CONFIG_H

#include <uiommu/device.h>

#define RUN_CONFIG_VARIABLE "UIOMMU_RUN"
#define RUN_CONFIG_DEVICES  64

/* What /dev/iommu and the devices' own nodes are. */
enum run_iommufd {
	RUN_IOMMUFD_ON,	       /* there, where the platform's IOMMU is type 1's */
	RUN_IOMMUFD_OFF,       /* not there */
	RUN_IOMMUFD_CONTAINER, /* there, and /dev/vfio/vfio is /dev/iommu too */
	RUN_IOMMUFD_RFC,       /* there as proposed in 2021: other requests, other names of nodes */
};

struct run_config {
	const char *platform;			 /* NULL: the library's default */
	const char *devices[RUN_CONFIG_DEVICES]; /* none: one function of each model */
	unsigned device_count;
	uint32_t iotlb;	      /* as in uiommu_machine_options */
	unsigned dma_entries; /* as in uiommu_vfio_options */
	bool memlock, unsafe_interrupts, stats, explain, verbose;
	enum run_iommufd iommufd;
	bool iommufd_test; /* /dev/iommu has the request of Linux's selftests */
	const char *root;  /* where the tree lies when paths are rewritten; NULL: in place */
	int keep;	   /* the descriptor that keeps it there, or -1 */
	int pid;	   /* of the process the command turned into */
};

/* Words for the modes, in their order, ended by NULL. */
extern const char *const run_iommufd_names[];

/* Defaults. */
void run_config_init(struct run_config *config);
/* Take lines apart, in place; @config points into @text. Unknown keys are ignored. -E2BIG. */
int run_config_parse(char *text, struct run_config *config);
/* The other way round, as snprintf(). */
int run_config_format(const struct run_config *config, char *buf, size_t len);
/* Make the machine that it describes. On failure @why says what is wrong. */
int run_config_machine(const struct run_config *config,
		       const struct uiommu_machine_options *options, struct uiommu_machine **out,
		       char *why, size_t why_len);

#endif
