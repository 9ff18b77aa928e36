/* SPDX-License-Identifier: MIT */
/*
 * questions - ask the system's VFIO and iommufd everything, one line for each answer.
 *
 *   questions DEVICE [OTHER]
 *
 * DEVICE and OTHER are PCI addresses, 0000:00:04.0, of functions that are bound to vfio-pci.
 * Nothing is left behind: whatever is mapped or made goes with the descriptors.
 */
#include "ask.h"

#include <linux/capability.h>
#include <sys/syscall.h>

/* Whoever asks: without CAP_SYS_RESOURCE, which an ordinary user hasn't got. */
static void drop_capability(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data))
		return;
	data[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective &= ~CAP_TO_MASK(CAP_SYS_RESOURCE);
	data[CAP_TO_INDEX(CAP_SYS_RESOURCE)].permitted &= ~CAP_TO_MASK(CAP_SYS_RESOURCE);
	if (syscall(SYS_capset, &head, data))
		perror("questions: capset");
}

/* Sections may be chosen by name, to look at one alone. */
static bool wanted(int argc, char **argv, const char *name)
{
	int i;

	for (i = 3; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc <= 3;
}

static void ask_all_type1(const struct machine *machine)
{
	ask_type1(machine, "type1.v1", "/dev/vfio/vfio", VFIO_TYPE1_IOMMU);
	ask_type1(machine, "type1.v2", "/dev/vfio/vfio", VFIO_TYPE1v2_IOMMU);
	ask_type1(machine, "compat.v1", "/dev/iommu", VFIO_TYPE1_IOMMU);
	ask_type1(machine, "compat.v2", "/dev/iommu", VFIO_TYPE1v2_IOMMU);
}

static void ask_containers(const struct machine *machine)
{
	ask_group(machine);
	ask_container(machine, "container", "/dev/vfio/vfio");
	ask_container(machine, "compat", "/dev/iommu");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*ask)(const struct machine *);
	} sections[] = {
		{"sysfs", ask_sysfs},
		{"container", ask_containers},
		{"type1", ask_all_type1},
		{"device", ask_device},
		{"config", ask_config},
		{"interrupts", ask_interrupts},
		{"dma", ask_dma},
		{"sizes", ask_iommufd_sizes},
		{"nodes", ask_nodes},
		{"ioas", ask_ioas},
		{"ioas-more", ask_ioas_more},
		{"hwpt", ask_hwpt},
		{"viommu", ask_viommu},
	};
	struct machine machine = {0};
	unsigned i;

	if (argc < 2) {
		fprintf(stderr, "usage: questions DEVICE [OTHER [SECTION]...]\n");
		return 2;
	}
	if (!find_target(&machine.device, argv[1]) ||
	    (argc > 2 && !find_target(&machine.other, argv[2]))) {
		fprintf(stderr, "questions: no such device: %s %s\n", argv[1],
			argc > 2 ? argv[2] : "");
		return 1;
	}
	drop_capability();
	if (!make_sources()) {
		perror("questions: memory");
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
		if (wanted(argc, argv, sections[i].name))
			sections[i].ask(&machine);
	return 0;
}
