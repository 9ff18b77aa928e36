/* SPDX-License-Identifier: MIT */
/*
 * Owns what instructions do that touch device registers: moves of all widths, read-modify-write,
 * string and vector instructions, and the 64-byte stores (Intel SDM volume 2). An access is made
 * with the width the instruction has; a read-modify-write is a load and a store, as on a bus that
 * has no atomic operations. Runs in a signal handler: no locks of its own, no allocation.
 */
#include <errno.h>
#include <string.h>

#include "run/alu.h"
#include "run/emulate.h"
#include "run/regs.h"

static greg_t *flags_of(struct instruction *insn)
{
	return &insn->uc->uc_mcontext.gregs[REG_EFL];
}

static int step_over(struct instruction *insn)
{
	insn->uc->uc_mcontext.gregs[REG_RIP] += insn->decoded.length;
	return 0;
}

static bool is_memory(const ZydisDecodedOperand *operand)
{
	return operand->type == ZYDIS_OPERAND_TYPE_MEMORY &&
	       operand->mem.type == ZYDIS_MEMOP_TYPE_MEM;
}

static bool is_register(const ZydisDecodedOperand *operand)
{
	return operand->type == ZYDIS_OPERAND_TYPE_REGISTER;
}

static unsigned size_of(const ZydisDecodedOperand *operand)
{
	return operand->size / 8;
}

/* Segments other than FS and GS start at 0; those two hold no device registers. */
static bool address_of(const struct instruction *insn, const ZydisDecodedOperand *operand,
		       uint64_t *addr)
{
	const ZydisDecodedOperandMem *mem = &operand->mem;

	if (mem->segment == ZYDIS_REGISTER_FS || mem->segment == ZYDIS_REGISTER_GS)
		return false;
	*addr = mem->disp.has_displacement ? (uint64_t)mem->disp.value : 0;
	if (mem->base == ZYDIS_REGISTER_RIP)
		*addr += regs_read(insn->uc, ZYDIS_REGISTER_RIP) + insn->decoded.length;
	else if (mem->base != ZYDIS_REGISTER_NONE)
		*addr += regs_read(insn->uc, mem->base);
	if (mem->index != ZYDIS_REGISTER_NONE)
		*addr += regs_read(insn->uc, mem->index) * mem->scale;
	if (insn->decoded.address_width == 32)
		*addr &= UINT32_MAX;
	return true;
}

/* ---- integer operands ---------------------------------------------------------------------- */

/* Value of a general register, an immediate or memory of at most 8 bytes. */
static int get(struct instruction *insn, const ZydisDecodedOperand *operand, uint64_t *value)
{
	uint64_t addr;

	*value = 0;
	if (operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		*value = operand->imm.value.u;
		return 0;
	}
	if (is_register(operand) && regs_is_general(operand->reg.value)) {
		*value = regs_read(insn->uc, operand->reg.value);
		return 0;
	}
	if (!is_memory(operand) || size_of(operand) > 8 || !address_of(insn, operand, &addr))
		return -ENOSYS;
	return access_load(addr, value, size_of(operand));
}

static int put(struct instruction *insn, const ZydisDecodedOperand *operand, uint64_t value)
{
	uint64_t addr;

	if (is_register(operand) && regs_is_general(operand->reg.value)) {
		regs_write(insn->uc, operand->reg.value, value);
		return 0;
	}
	if (!is_memory(operand) || size_of(operand) > 8 || !address_of(insn, operand, &addr))
		return -ENOSYS;
	return access_store(addr, &value, size_of(operand));
}

static uint64_t sign_extend(uint64_t value, unsigned size)
{
	unsigned shift = 64 - size * 8;

	return (uint64_t)((int64_t)(value << shift) >> shift);
}

/* MOV and its relatives: source, changed or not, to destination. */
static int move(struct instruction *insn)
{
	const ZydisDecodedOperand *to = &insn->operands[0], *from = &insn->operands[1];
	uint64_t value;
	int ret = get(insn, from, &value);

	if (ret)
		return ret;
	switch (insn->decoded.mnemonic) {
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
		value = sign_extend(value, size_of(from));
		break;
	case ZYDIS_MNEMONIC_MOVBE:
		value = __builtin_bswap64(value) >> (64 - size_of(from) * 8);
		break;
	default:
		break;
	}
	ret = put(insn, to, value);
	return ret ? ret : step_over(insn);
}

static int set_or_move_if(struct instruction *insn, bool set)
{
	bool holds = alu_condition(insn->decoded.opcode & 15, (uint64_t)*flags_of(insn));
	const ZydisDecodedOperand *to = &insn->operands[0];
	uint64_t value = holds;
	int ret = 0;

	if (!set) {
		/* The load happens in any case, and so does the clearing of the upper half. */
		ret = get(insn, &insn->operands[1], &value);
		if (!ret && !holds)
			value = regs_read(insn->uc, to->reg.value);
	}
	if (!ret)
		ret = put(insn, to, value);
	return ret ? ret : step_over(insn);
}

/* Two operands into the first, or, for comparisons, into the flags alone. */
static int compute(struct instruction *insn, enum alu_op op, bool store)
{
	const ZydisDecodedOperand *to = &insn->operands[0];
	uint64_t a, b = 0, flags = (uint64_t)*flags_of(insn);
	bool unary = op == ALU_INC || op == ALU_DEC || op == ALU_NEG || op == ALU_NOT;
	int ret = get(insn, to, &a);

	if (!ret && !unary)
		ret = get(insn, &insn->operands[1], &b);
	if (ret)
		return ret;
	a = alu(op, a, b, size_of(to), &flags);
	if (store)
		ret = put(insn, to, a);
	if (ret)
		return ret;
	*flags_of(insn) = (greg_t)flags;
	return step_over(insn);
}

static int exchange(struct instruction *insn, bool add)
{
	const ZydisDecodedOperand *one = &insn->operands[0], *two = &insn->operands[1];
	uint64_t a, b, flags = (uint64_t)*flags_of(insn);
	int ret = get(insn, one, &a);

	if (!ret)
		ret = get(insn, two, &b);
	if (!ret) {
		uint64_t first = add ? alu(ALU_ADD, a, b, size_of(one), &flags) : b;

		/* Memory first: it alone can fail. */
		if (is_memory(two)) {
			ret = put(insn, two, a);
			if (!ret)
				ret = put(insn, one, first);
		} else {
			ret = put(insn, one, first);
			if (!ret)
				ret = put(insn, two, a);
		}
	}
	if (ret)
		return ret;
	*flags_of(insn) = (greg_t)flags;
	return step_over(insn);
}

static int compare_exchange(struct instruction *insn)
{
	static const ZydisRegister accumulators[] = {
		[1] = ZYDIS_REGISTER_AL,
		[2] = ZYDIS_REGISTER_AX,
		[4] = ZYDIS_REGISTER_EAX,
		[8] = ZYDIS_REGISTER_RAX,
	};
	const ZydisDecodedOperand *to = &insn->operands[0];
	ZydisRegister accumulator = accumulators[size_of(to) & 15];
	uint64_t old, value, expected, flags = (uint64_t)*flags_of(insn);
	int ret = get(insn, to, &old);

	if (!ret)
		ret = get(insn, &insn->operands[1], &value);
	if (ret)
		return ret;
	expected = regs_read(insn->uc, accumulator);
	alu(ALU_SUB, expected, old, size_of(to), &flags);
	/* The processor writes in any case. */
	ret = put(insn, to, flags & ALU_ZF ? value : old);
	if (ret)
		return ret;
	if (!(flags & ALU_ZF))
		regs_write(insn->uc, accumulator, old);
	*flags_of(insn) = (greg_t)flags;
	return step_over(insn);
}

/* BT, BTS, BTR, BTC: a register's bit offset may point beyond the operand. */
static int bit_test(struct instruction *insn)
{
	const ZydisDecodedOperand *to = &insn->operands[0], *by = &insn->operands[1];
	unsigned size = size_of(to), bits = size * 8;
	uint64_t bit, value = 0, addr, mask;
	int ret = get(insn, by, &bit);

	if (ret || !is_memory(to) || !address_of(insn, to, &addr))
		return ret ? ret : -ENOSYS;
	if (is_register(by)) {
		int64_t offset = (int64_t)sign_extend(bit, size_of(by));

		addr += (uint64_t)(offset >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * size;
	}
	mask = UINT64_C(1) << (bit & (bits - 1));
	ret = access_load(addr, &value, size);
	if (ret)
		return ret;
	if (value & mask)
		*flags_of(insn) |= (greg_t)ALU_CF;
	else
		*flags_of(insn) &= ~(greg_t)ALU_CF;
	if (insn->decoded.mnemonic == ZYDIS_MNEMONIC_BTS)
		value |= mask;
	else if (insn->decoded.mnemonic == ZYDIS_MNEMONIC_BTR)
		value &= ~mask;
	else if (insn->decoded.mnemonic == ZYDIS_MNEMONIC_BTC)
		value ^= mask;
	if (insn->decoded.mnemonic != ZYDIS_MNEMONIC_BT)
		ret = access_store(addr, &value, size);
	return ret ? ret : step_over(insn);
}

/* ---- strings ------------------------------------------------------------------------------- */

enum string_op {
	STRING_STORE,
	STRING_MOVE,
	STRING_LOAD,
};

static int string_element(struct instruction *insn, enum string_op op, unsigned size)
{
	greg_t *gregs = insn->uc->uc_mcontext.gregs;
	greg_t step = gregs[REG_EFL] & (greg_t)ALU_DF ? -(greg_t)size : (greg_t)size;
	uint64_t value = (uint64_t)gregs[REG_RAX];
	int ret = 0;

	if (op != STRING_STORE) {
		value = 0;
		ret = access_load((uint64_t)gregs[REG_RSI], &value, size);
	}
	if (!ret && op != STRING_LOAD)
		ret = access_store((uint64_t)gregs[REG_RDI], &value, size);
	if (ret)
		return ret;
	if (op == STRING_LOAD)
		regs_write(insn->uc, insn->operands[0].reg.value, value);
	if (op != STRING_STORE)
		gregs[REG_RSI] += step;
	if (op != STRING_LOAD)
		gregs[REG_RDI] += step;
	return 0;
}

static int string(struct instruction *insn, enum string_op op)
{
	const ZydisDecodedOperand *first = &insn->operands[0];
	greg_t *count = &insn->uc->uc_mcontext.gregs[REG_RCX];
	unsigned size = size_of(first);
	bool progress = false;
	int ret;

	if (insn->decoded.address_width != 64 || size > 8)
		return -ENOSYS;
	if (!(insn->decoded.attributes & ZYDIS_ATTRIB_HAS_REP)) {
		ret = string_element(insn, op, size);
		return ret ? ret : step_over(insn);
	}
	while (*count) {
		ret = string_element(insn, op, size);
		/* After some progress the processor is to try again and meet the fault itself. */
		if (ret)
			return progress ? 0 : ret;
		(*count)--;
		progress = true;
	}
	return step_over(insn);
}

/* ---- 64 bytes ------------------------------------------------------------------------------ */

/* MOVDIR64B and ENQCMD: from memory to the address in a register, as one store. */
static int store_64_bytes(struct instruction *insn, bool enqueue)
{
	const ZydisDecodedOperand *from = NULL, *to = NULL;
	uint64_t addr, source;
	char data[64];
	int ret;

	for (unsigned i = 0; i < insn->decoded.operand_count_visible; i++) {
		if (is_register(&insn->operands[i]))
			to = &insn->operands[i];
		else if (is_memory(&insn->operands[i]) && i)
			from = &insn->operands[i];
		else if (is_memory(&insn->operands[i]))
			to = &insn->operands[i];
	}
	if (!from || !to || !address_of(insn, from, &source))
		return -ENOSYS;
	if (is_register(to))
		addr = regs_read(insn->uc, to->reg.value);
	else if (!address_of(insn, to, &addr))
		return -ENOSYS;
	ret = access_load(source, data, sizeof(data));
	if (!ret)
		ret = access_store(addr, data, sizeof(data));
	if (ret)
		return ret;
	/* ZF clear: the queue took it. A simulated one always does. */
	if (enqueue)
		*flags_of(insn) &= ~(greg_t)(ALU_CF | ALU_PF | ALU_AF | ALU_ZF | ALU_SF | ALU_OF);
	return step_over(insn);
}

/* ---- vectors ------------------------------------------------------------------------------- */

static bool is_high_half(ZydisMnemonic mnemonic)
{
	return mnemonic == ZYDIS_MNEMONIC_MOVHPS || mnemonic == ZYDIS_MNEMONIC_MOVHPD ||
	       mnemonic == ZYDIS_MNEMONIC_VMOVHPS || mnemonic == ZYDIS_MNEMONIC_VMOVHPD;
}

static bool is_low_half(ZydisMnemonic mnemonic)
{
	return mnemonic == ZYDIS_MNEMONIC_MOVLPS || mnemonic == ZYDIS_MNEMONIC_MOVLPD ||
	       mnemonic == ZYDIS_MNEMONIC_VMOVLPS || mnemonic == ZYDIS_MNEMONIC_VMOVLPD;
}

/* The opmask that governs an instruction; all ones if none does. */
static bool mask_of(const struct instruction *insn, uint64_t *mask)
{
	ZydisRegister reg = insn->decoded.avx.mask.reg;

	*mask = UINT64_MAX;
	if (reg < ZYDIS_REGISTER_K1 || reg > ZYDIS_REGISTER_K7)
		return true;
	return regs_mask(insn->uc, reg, mask);
}

static int store_elements(uint64_t addr, const char *data, unsigned len, unsigned element,
			  uint64_t mask)
{
	for (unsigned i = 0; i * element < len; i++) {
		int ret;

		if (!(mask >> i & 1))
			continue;
		ret = access_store(addr + i * element, data + i * element, element);
		if (ret)
			return ret;
	}
	return 0;
}

static int vector_store(struct instruction *insn)
{
	const ZydisDecodedOperand *to = &insn->operands[0];
	/* Three-operand forms don't store. */
	const ZydisDecodedOperand *from = &insn->operands[insn->decoded.operand_count_visible - 1];
	unsigned size = size_of(to), skip = is_high_half(insn->decoded.mnemonic) ? 8 : 0;
	uint64_t addr, mask;
	char data[64 + 8];
	int ret;

	if (!is_register(from) || !size || size > 64 || !address_of(insn, to, &addr) ||
	    !mask_of(insn, &mask))
		return -ENOSYS;
	if (regs_is_general(from->reg.value)) {
		uint64_t value = regs_read(insn->uc, from->reg.value);

		memcpy(data, &value, sizeof(value));
	} else if (!regs_vector_read(insn->uc, from->reg.value, data, size + skip)) {
		return -ENOSYS;
	}
	if (mask == UINT64_MAX)
		ret = access_store(addr, data + skip, size);
	else if (!to->element_size)
		ret = -ENOSYS;
	else
		ret = store_elements(addr, data, size, to->element_size / 8, mask);
	return ret ? ret : step_over(insn);
}

static int vector_load(struct instruction *insn)
{
	const ZydisDecodedOperand *to = &insn->operands[0];
	const ZydisDecodedOperand *from = &insn->operands[insn->decoded.operand_count_visible - 1];
	bool half = is_high_half(insn->decoded.mnemonic) || is_low_half(insn->decoded.mnemonic);
	bool legacy = insn->decoded.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	unsigned size = size_of(from);
	uint64_t addr, mask;
	char data[64] = {0};
	int ret;

	/* Masked loads and the merging three-operand halves are for arithmetic, not registers. */
	if (!is_register(to) || !size || size > 64 || !address_of(insn, from, &addr) ||
	    !mask_of(insn, &mask) || mask != UINT64_MAX || (half && !legacy))
		return -ENOSYS;
	ret = access_load(addr, data, size);
	if (ret)
		return ret;
	if (regs_is_general(to->reg.value))
		regs_write(insn->uc, to->reg.value, *(uint64_t *)data);
	else if (half)
		ret = regs_vector_write(insn->uc, to->reg.value, data,
					is_high_half(insn->decoded.mnemonic) ? 8 : 0, size, false)
			      ? 0
			      : -ENOSYS;
	else
		ret = regs_vector_write(insn->uc, to->reg.value, data, 0,
					size < 16 && to->reg.value >= ZYDIS_REGISTER_XMM0 ? 16
											  : size,
					!legacy)
			      ? 0
			      : -ENOSYS;
	return ret ? ret : step_over(insn);
}

static bool is_vector_move(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOVD:
	case ZYDIS_MNEMONIC_MOVQ:
	case ZYDIS_MNEMONIC_MOVSS:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVAPS:
	case ZYDIS_MNEMONIC_MOVAPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_MOVDQA:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_MOVNTDQ:
	case ZYDIS_MNEMONIC_MOVNTDQA:
	case ZYDIS_MNEMONIC_MOVNTPS:
	case ZYDIS_MNEMONIC_MOVNTPD:
	case ZYDIS_MNEMONIC_MOVNTQ:
	case ZYDIS_MNEMONIC_VMOVD:
	case ZYDIS_MNEMONIC_VMOVQ:
	case ZYDIS_MNEMONIC_VMOVSS:
	case ZYDIS_MNEMONIC_VMOVSD:
	case ZYDIS_MNEMONIC_VMOVUPS:
	case ZYDIS_MNEMONIC_VMOVUPD:
	case ZYDIS_MNEMONIC_VMOVAPS:
	case ZYDIS_MNEMONIC_VMOVAPD:
	case ZYDIS_MNEMONIC_VMOVDQU:
	case ZYDIS_MNEMONIC_VMOVDQU8:
	case ZYDIS_MNEMONIC_VMOVDQU16:
	case ZYDIS_MNEMONIC_VMOVDQU32:
	case ZYDIS_MNEMONIC_VMOVDQU64:
	case ZYDIS_MNEMONIC_VMOVDQA:
	case ZYDIS_MNEMONIC_VMOVDQA32:
	case ZYDIS_MNEMONIC_VMOVDQA64:
	case ZYDIS_MNEMONIC_VLDDQU:
	case ZYDIS_MNEMONIC_VMOVNTDQ:
	case ZYDIS_MNEMONIC_VMOVNTDQA:
	case ZYDIS_MNEMONIC_VMOVNTPS:
	case ZYDIS_MNEMONIC_VMOVNTPD:
		return true;
	default:
		return is_high_half(mnemonic) || is_low_half(mnemonic);
	}
}

/* ---- dispatch ------------------------------------------------------------------------------ */

static const struct {
	uint16_t mnemonic;
	uint8_t op;
	bool store;
} computations[] = {
	{ZYDIS_MNEMONIC_ADD, ALU_ADD, true},  {ZYDIS_MNEMONIC_ADC, ALU_ADC, true},
	{ZYDIS_MNEMONIC_SUB, ALU_SUB, true},  {ZYDIS_MNEMONIC_SBB, ALU_SBB, true},
	{ZYDIS_MNEMONIC_AND, ALU_AND, true},  {ZYDIS_MNEMONIC_OR, ALU_OR, true},
	{ZYDIS_MNEMONIC_XOR, ALU_XOR, true},  {ZYDIS_MNEMONIC_INC, ALU_INC, true},
	{ZYDIS_MNEMONIC_DEC, ALU_DEC, true},  {ZYDIS_MNEMONIC_NEG, ALU_NEG, true},
	{ZYDIS_MNEMONIC_NOT, ALU_NOT, true},  {ZYDIS_MNEMONIC_SHL, ALU_SHL, true},
	{ZYDIS_MNEMONIC_SHR, ALU_SHR, true},  {ZYDIS_MNEMONIC_SAR, ALU_SAR, true},
	{ZYDIS_MNEMONIC_CMP, ALU_SUB, false}, {ZYDIS_MNEMONIC_TEST, ALU_AND, false},
};

static bool is_set(ZydisMnemonic mnemonic)
{
	return mnemonic >= ZYDIS_MNEMONIC_SETB && mnemonic <= ZYDIS_MNEMONIC_SETZ &&
	       mnemonic != ZYDIS_MNEMONIC_SETSSBSY;
}

static bool is_conditional_move(ZydisMnemonic mnemonic)
{
	return mnemonic >= ZYDIS_MNEMONIC_CMOVB && mnemonic <= ZYDIS_MNEMONIC_CMOVZ;
}

static int emulate_integer(struct instruction *insn)
{
	ZydisMnemonic mnemonic = insn->decoded.mnemonic;

	for (size_t i = 0; i < sizeof(computations) / sizeof(computations[0]); i++)
		if (computations[i].mnemonic == mnemonic)
			return compute(insn, computations[i].op, computations[i].store);
	if (is_set(mnemonic) || is_conditional_move(mnemonic))
		return set_or_move_if(insn, is_set(mnemonic));
	return -ENOSYS;
}

int emulate(struct instruction *insn)
{
	ZydisMnemonic mnemonic = insn->decoded.mnemonic;

	/* MOVSD is two instructions: the string one has no visible register operand. */
	if (is_vector_move(mnemonic) &&
	    (is_register(&insn->operands[0]) || is_register(&insn->operands[1])))
		return is_memory(&insn->operands[0]) ? vector_store(insn) : vector_load(insn);
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_MOVDIRI:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_MOVBE:
		return move(insn);
	case ZYDIS_MNEMONIC_MOVDIR64B:
		return store_64_bytes(insn, false);
	case ZYDIS_MNEMONIC_ENQCMD:
	case ZYDIS_MNEMONIC_ENQCMDS:
		return store_64_bytes(insn, true);
	case ZYDIS_MNEMONIC_XCHG:
		return exchange(insn, false);
	case ZYDIS_MNEMONIC_XADD:
		return exchange(insn, true);
	case ZYDIS_MNEMONIC_CMPXCHG:
		return compare_exchange(insn);
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return bit_test(insn);
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
		return string(insn, STRING_STORE);
	case ZYDIS_MNEMONIC_MOVSB:
	case ZYDIS_MNEMONIC_MOVSW:
	case ZYDIS_MNEMONIC_MOVSD:
	case ZYDIS_MNEMONIC_MOVSQ:
		return string(insn, STRING_MOVE);
	case ZYDIS_MNEMONIC_LODSB:
	case ZYDIS_MNEMONIC_LODSW:
	case ZYDIS_MNEMONIC_LODSD:
	case ZYDIS_MNEMONIC_LODSQ:
		return string(insn, STRING_LOAD);
	default:
		return emulate_integer(insn);
	}
}
