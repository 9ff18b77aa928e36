/* SPDX-License-Identifier: MIT */
/*
 * The Xen host under a program of domain 0: machine memory, domains, hypercalls.
 */
#ifndef RUN_XEN_H
#define RUN_XEN_H

#include <uiommu/device.h>

/* If the platform is one under Xen: make the machine's memory, which is what devices reach then.
 * -errno. */
int xen_memory(const struct uiommu_platform_facts *facts, const struct uiommu_memory **memory);
/* Make the hypervisor: its domains have the machine's functions. -errno. */
int xen_make(struct uiommu_machine *machine);
/* There is one. */
bool xen_there(void);

/* A hypercall, from start to finish; what it returns to domain 0. */
long xen_hypercall(uint64_t op, const uint64_t arg[5]);

/* The bytes that are frame @gfn of domain @domid: their place in the memory file *@fd. -ENOENT:
 * there is no such frame; -ESRCH: no such domain. */
int xen_frame(uint16_t domid, uint64_t gfn, int *fd, uint64_t *offset);

/* Around fork(): before the engine's locks. */
void xen_lock(void);
void xen_unlock(void);

#endif
