/* SPDX-License-Identifier: MIT */
/*
 * KVM's requests that have to do with VFIO files and mapped BARs.
 */
#ifndef RUN_KVM_H
#define RUN_KVM_H

#include <stdbool.h>

/* Is this one of KVM's requests that may need an answer from us? */
bool kvm_concerned(unsigned long op);

/* Answer it: true with the result in *@ret (and errno); else *@arg is to be used, which may point
 * to @room of KVM_ROOM bytes instead of the program's struct. */
#define KVM_ROOM 256
bool kvm_request(unsigned long op, unsigned long *arg, void *room, int *ret);

#endif
