/* SPDX-License-Identifier: MIT */
/*
 * What the integer instructions compute, flags included (Intel SDM volume 2).
 */
#ifndef RUN_ALU_H
#define RUN_ALU_H

#include <stdbool.h>
#include <stdint.h>

enum alu_op {
	ALU_ADD,
	ALU_ADC,
	ALU_SUB,
	ALU_SBB,
	ALU_AND,
	ALU_OR,
	ALU_XOR,
	ALU_INC,
	ALU_DEC,
	ALU_NEG,
	ALU_NOT,
	ALU_SHL,
	ALU_SHR,
	ALU_SAR,
};

/* @a OP @b in @size bytes; @flags (RFLAGS) is brought up to date. */
uint64_t alu(enum alu_op op, uint64_t a, uint64_t b, unsigned size, uint64_t *flags);

/* Does condition @code (the low four bits of Jcc, SETcc, CMOVcc) hold? */
bool alu_condition(unsigned code, uint64_t flags);

#define ALU_CF UINT64_C(0x1)
#define ALU_PF UINT64_C(0x4)
#define ALU_AF UINT64_C(0x10)
#define ALU_ZF UINT64_C(0x40)
#define ALU_SF UINT64_C(0x80)
#define ALU_DF UINT64_C(0x400)
#define ALU_OF UINT64_C(0x800)

#endif
