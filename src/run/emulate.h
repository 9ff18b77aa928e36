/* SPDX-License-Identifier: MIT */
/*
 * Performing one decoded instruction on a signal frame's registers and on memory that may be BARs.
 */
#ifndef RUN_EMULATE_H
#define RUN_EMULATE_H

#include <stdint.h>
#include <ucontext.h>

#include <Zydis/Zydis.h>

struct instruction {
	ucontext_t *uc;
	ZydisDecodedInstruction decoded;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

/* Loads and stores of 1 to 64 bytes, one access each: 0, -EFAULT (not there, or not permitted) or
 * -EIO (a function that does not decode its memory). */
int access_load(uint64_t addr, void *buf, unsigned len);
int access_store(uint64_t addr, const void *buf, unsigned len);

/* 0: done, and the instruction pointer is behind it (or at it, if a repeated one has to go on).
 * -ENOSYS: not an instruction known here. Others as above; registers and memory are as before,
 * except that a repeated instruction may have made progress. */
int emulate(struct instruction *insn);

#endif
