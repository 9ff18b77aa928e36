/* SPDX-License-Identifier: MIT */
/*
 * Owns integer arithmetic with x86 flags. Pure functions; nothing can fail. Flags that the manual
 * leaves undefined are left as computed here.
 */
#include "run/alu.h"

#define STATUS (ALU_CF | ALU_PF | ALU_AF | ALU_ZF | ALU_SF | ALU_OF)

static uint64_t mask_of(unsigned size)
{
	return size >= 8 ? UINT64_MAX : (UINT64_C(1) << size * 8) - 1;
}

static uint64_t sign_of(unsigned size)
{
	return UINT64_C(1) << (size * 8 - 1);
}

static uint64_t result_flags(uint64_t result, unsigned size)
{
	return (result == 0 ? ALU_ZF : 0) | (result & sign_of(size) ? ALU_SF : 0) |
	       (__builtin_parity((unsigned)(result & 0xff)) ? 0 : ALU_PF);
}

/* a + b + carry, or a - b - carry: the carry out of each bit is found from operands and result. */
static uint64_t add_sub(bool subtract, uint64_t a, uint64_t b, unsigned carry, unsigned size,
			uint64_t *status)
{
	uint64_t mask = mask_of(size), sign = sign_of(size);
	uint64_t result = (subtract ? a - b - carry : a + b + carry) & mask;
	uint64_t carries, overflow;

	if (subtract) {
		carries = (~a & b) | ((~a | b) & result);
		overflow = (a ^ b) & (a ^ result);
	} else {
		carries = (a & b) | ((a | b) & ~result);
		overflow = ~(a ^ b) & (a ^ result);
	}
	*status = result_flags(result, size) | (carries & sign ? ALU_CF : 0) |
		  (carries & 8 ? ALU_AF : 0) | (overflow & sign ? ALU_OF : 0);
	return result;
}

static uint64_t shift(enum alu_op op, uint64_t a, unsigned count, unsigned size, uint64_t *status)
{
	uint64_t mask = mask_of(size), sign = sign_of(size);
	unsigned bits = size * 8;
	uint64_t result, out;
	bool overflow;

	if (op == ALU_SHL) {
		result = count < 64 ? a << count & mask : 0;
		out = count <= bits ? a >> (bits - count) & 1 : 0;
		overflow = !!(result & sign) != !!out;
	} else {
		int64_t wide = (int64_t)(a << (64 - bits)) >> (64 - bits);

		out = (op == ALU_SAR ? (uint64_t)(wide >> (count - 1)) : a >> (count - 1)) & 1;
		result = (op == ALU_SAR ? (uint64_t)(wide >> count) : a >> count) & mask;
		overflow = op == ALU_SHR && (a & sign);
	}
	*status = result_flags(result, size) | (out ? ALU_CF : 0) | (overflow ? ALU_OF : 0);
	return result;
}

static uint64_t logic(enum alu_op op, uint64_t a, uint64_t b, unsigned size, uint64_t *status)
{
	uint64_t result = op == ALU_AND ? a & b : op == ALU_OR ? a | b : a ^ b;

	*status = result_flags(result, size);
	return result;
}

uint64_t alu(enum alu_op op, uint64_t a, uint64_t b, unsigned size, uint64_t *flags)
{
	unsigned carry = (unsigned)(*flags & ALU_CF);
	uint64_t mask = mask_of(size);
	uint64_t status = 0, keep = 0, result;

	a &= mask;
	b &= mask;
	switch (op) {
	case ALU_ADD:
	case ALU_ADC:
		result = add_sub(false, a, b, op == ALU_ADC ? carry : 0, size, &status);
		break;
	case ALU_SUB:
	case ALU_SBB:
		result = add_sub(true, a, b, op == ALU_SBB ? carry : 0, size, &status);
		break;
	case ALU_INC:
	case ALU_DEC:
		result = add_sub(op == ALU_DEC, a, 1, 0, size, &status);
		keep = ALU_CF;
		break;
	case ALU_NEG:
		result = add_sub(true, 0, a, 0, size, &status);
		break;
	case ALU_NOT:
		return ~a & mask;
	case ALU_SHL:
	case ALU_SHR:
	case ALU_SAR:
		b &= size == 8 ? 63 : 31;
		if (!b)
			return a;
		result = shift(op, a, (unsigned)b, size, &status);
		break;
	default:
		result = logic(op, a, b, size, &status);
	}
	*flags = (*flags & (~STATUS | keep)) | (status & ~keep);
	return result;
}

bool alu_condition(unsigned code, uint64_t flags)
{
	bool sign = flags & ALU_SF, overflow = flags & ALU_OF, holds;

	switch (code >> 1 & 7) {
	case 0:
		holds = overflow;
		break;
	case 1:
		holds = flags & ALU_CF;
		break;
	case 2:
		holds = flags & ALU_ZF;
		break;
	case 3:
		holds = flags & (ALU_CF | ALU_ZF);
		break;
	case 4:
		holds = sign;
		break;
	case 5:
		holds = flags & ALU_PF;
		break;
	case 6:
		holds = sign != overflow;
		break;
	default:
		holds = (flags & ALU_ZF) || sign != overflow;
	}
	return holds != (code & 1);
}
