/* SPDX-License-Identifier: MIT */
/*
 * Which VFIO file a descriptor is.
 */
#ifndef RUN_FILES_H
#define RUN_FILES_H

#include <sys/stat.h>

#include <uiommu/vfio.h>

/* One open file: what dup()ed descriptors share. */
struct run_file;

/* The front end's callbacks that deal in descriptors. */
void files_host(struct uiommu_vfio_host *host);

/* Is this, by its inode, one of the placeholders under /dev/vfio? Then its group's number, or
 * one of these. */
#define FILES_NONE	(-1)
#define FILES_CONTAINER (-2)
#define FILES_PRIVCMD	(-3) /* /dev/xen/privcmd: no VFIO file */
#define FILES_IOMMU	(-4)
#define FILES_NODES	0x40000000 /* and the number of /dev/vfio/devices/vfioN */
#define FILES_NAMED	0x50000000 /* and the requester ID of /dev/vfio/devices/DDDD:BB:DD.F */
int files_placeholder(const struct stat *st);
bool files_any_placeholder(void);
/* Find the placeholders; @dev is where /dev is. At start. */
void files_learn(const char *dev);

/* The program has opened the placeholder @which as @fd: make it a VFIO file. Returns the
 * descriptor, or -1 with errno and @fd closed. */
int files_open(int fd, int which);

/* The file behind a descriptor, held; NULL if it is none of ours. *@foreign (may be NULL): it is
 * another process's. */
struct run_file *files_get(int fd, bool *foreign);
/* Another reference; drop one. The last one releases the file. */
void files_hold(struct run_file *file);
void files_put(struct run_file *file);
/* NULL for privcmd. */
struct uiommu_vfio_file *files_vfio(const struct run_file *file);

/* A file that never had a descriptor, held once; NULL: no memory. */
struct run_file *files_adopt(struct uiommu_vfio_file *vfio);

/* A request begins and ends on this thread: files that the front end asks for by descriptor stay
 * until the end. Not nested. */
void files_request_begin(void);
void files_request_end(void);

/* After descriptors were closed: release @file (held by the caller, who drops it afterwards) if no
 * descriptor of this process is left. */
void files_closed(struct run_file *file);

/* The virtual position for read(2) and write(2). */
uint64_t files_position(const struct run_file *file);
void files_advance(struct run_file *file, uint64_t bytes);

/* Make st_mode and st_rdev say what the kernel's nodes say. */
void files_dress(struct stat *st, int which);
/* Which placeholder a file came from; FILES_NONE for devices. */
int files_which(const struct run_file *file);
/* The name /proc/self/fd gives it. */
int files_name(const struct run_file *file, char *buf, size_t len);

void files_lock(void);
void files_unlock(void);

#endif
