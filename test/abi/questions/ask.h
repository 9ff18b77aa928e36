/* SPDX-License-Identifier: MIT */
/*
 * ask.h - how the questions are asked and their answers printed.
 *
 * The program asks a kernel everything that a user of VFIO and iommufd can learn from it, and
 * prints one line for each answer: "section.question: answer". Nothing in a line varies from one
 * run to the next on the same kernel and hardware: errors have their symbolic names, and there are
 * no addresses, descriptors, object numbers or times. So the lines of two kernels, or of a kernel
 * and of something that claims to answer like it, can be compared as they are.
 *
 * It is plain C over libc and the kernel's headers, and is linked statically for a guest without
 * any libraries.
 */
#ifndef QUESTIONS_ASK_H
#define QUESTIONS_ASK_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/vfio.h>
#include <uiommu/linux/iommufd.h>

#define PAGE UINT64_C(0x1000)

/* Where questions map what can be mapped everywhere: no IOMMU has a hole there. */
#define BASE UINT64_C(0x40000000)

#define RW (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

/* ---- ask.c: printing ----------------------------------------------------------------------- */

/* What the lines that follow begin with. */
void section(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One line: the name of a result (0 or more, or -errno). */
void answer(int result, const char *question, ...) __attribute__((format(printf, 2, 3)));

/* One line: any text. */
void say(const char *question, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "0x3", "0" or "EINVAL"; good until the next eight calls. */
const char *result_name(int result);

/*
 * A question asked for many values of one number. Neighbours with the same answer share a line:
 * "question[0-15]: EINVAL".
 */
struct sweep {
	const char *question;
	bool hex;
	char text[200];
	uint64_t first, last;
};
void sweep_add(struct sweep *, uint64_t value, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void sweep_end(struct sweep *);

/* The result of an ioctl, or -errno. */
int ask(int fd, unsigned long request, void *argument);

/* An open file, or -errno. */
int open_path(const char *path);

/* ---- memory.c: what is mapped for the device ----------------------------------------------- */

enum source {
	MEMORY,	   /* 4 MiB, aligned to 2 MiB */
	READ_ONLY, /* and so on: 16 pages each */
	NO_ACCESS,
	NOT_THERE,
	HALF_THERE, /* only its first page */
	MEMFD,	    /* shared, of a file that ends after 8 pages */
	SOURCES
};

#define MEMORY_SIZE UINT64_C(0x400000)

/* False if there was no memory. */
bool make_sources(void);
uint64_t source_at(enum source);
int source_memfd(void);
const char *source_name(enum source);

/* ---- target.c: the device that is asked about ---------------------------------------------- */

struct region {
	uint64_t first, last;
};

struct target {
	char address[16];    /* 0000:00:04.0 */
	char group_node[64]; /* /dev/vfio/3; empty: the device is in no group */
	char group_dir[96];  /* /sys/kernel/iommu_groups/3 */
	char node[64];	     /* /dev/vfio/devices/vfio0; empty: there is none */
	char node_dir[128];  /* where it is in sysfs */
	struct region reserved[16];
	unsigned reserved_count;
};

/* False: there is no such device. */
bool find_target(struct target *, const char *address);

/* Both devices: the second may be missing (address empty). */
struct machine {
	struct target device, other;
};

/* ---- the sections -------------------------------------------------------------------------- */

/* A container with the device's group in it and an IOMMU of that type; -1: none of it. */
struct container {
	int fd, group;
};
int container_open(struct container *, const struct machine *, const char *path, unsigned type);
void container_close(struct container *);
int dma_map(int fd, uint64_t iova, uint64_t vaddr, uint64_t size, uint32_t flags);
int dma_unmap(int fd, uint64_t iova, uint64_t *size, uint32_t flags);

/* An iommufd with the device bound, an IOAS made, and the device attached to it. */
struct binding {
	int iommufd, device;
	uint32_t device_id, ioas;
};
int binding_open(struct binding *, const struct machine *);
int binding_attach(struct binding *, uint32_t *pt);
int binding_detach(struct binding *);
void binding_close(struct binding *);
int ioas_alloc(int iommufd, uint32_t *id);
int ioas_map(int iommufd, uint32_t ioas, uint32_t flags, uint64_t va, uint64_t length,
	     uint64_t *iova);
int ioas_unmap(int iommufd, uint32_t ioas, uint64_t iova, uint64_t *length);
int object_destroy(int iommufd, uint32_t id);

/* The device, through its group; in no-IOMMU mode if there is no IOMMU. */
struct open_device {
	struct container container;
	unsigned type; /* of IOMMU */
	int fd;
};
int device_open(struct open_device *device, const struct machine *machine);
void device_close(struct open_device *device);

void ask_sysfs(const struct machine *);
void ask_group(const struct machine *);
void ask_container(const struct machine *, const char *name, const char *path);
void ask_type1(const struct machine *, const char *name, const char *path, unsigned type);
void ask_dirty_pages(int container);
void ask_device(const struct machine *);
void ask_config(const struct machine *);
void ask_interrupts(const struct machine *);
void ask_dma(const struct machine *);
void ask_iommufd_sizes(const struct machine *);
void ask_ioas(const struct machine *);
void ask_ioas_more(const struct machine *);
void ask_hwpt(const struct machine *);
void ask_viommu(const struct machine *);
void ask_nodes(const struct machine *);

#endif
