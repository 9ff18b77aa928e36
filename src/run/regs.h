/* SPDX-License-Identifier: MIT */
/*
 * The registers of an interrupted thread, as its signal frame has them.
 */
#ifndef RUN_REGS_H
#define RUN_REGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include <Zydis/Zydis.h>

/* Ask the processor where its states lie in a frame. Once, before anything else. */
void regs_init(void);

/* General registers of any width; a 32-bit write clears the upper half, narrower ones keep it. */
bool regs_is_general(ZydisRegister reg);
uint64_t regs_read(const ucontext_t *uc, ZydisRegister reg);
void regs_write(ucontext_t *uc, ZydisRegister reg, uint64_t value);

/* The first @len bytes of an XMM, YMM, ZMM or MMX register. False: not in the frame. */
bool regs_is_vector(ZydisRegister reg);
bool regs_vector_read(const ucontext_t *uc, ZydisRegister reg, void *buf, size_t len);
/* Write bytes [at, at + len); @wipe: clear what is above, as VEX-encoded instructions do. */
bool regs_vector_write(ucontext_t *uc, ZydisRegister reg, const void *buf, size_t at, size_t len,
		       bool wipe);
/* An opmask register; false: not in the frame. */
bool regs_mask(const ucontext_t *uc, ZydisRegister reg, uint64_t *mask);

#endif
