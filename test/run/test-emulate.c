/* SPDX-License-Identifier: MIT */
/*
 * Trapped accesses, instruction by instruction: each is executed twice, once on plain memory by the
 * processor and once on a mapped BAR, where it traps and is performed on a model that stores what
 * it is told. Memory, registers and flags must come out the same, and the model must have seen the
 * access with the width the instruction has.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmocka.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "run/access.h"
#include "run/bars.h"
#include "run/files.h"
#include "run/report.h"
#include "run/trap.h"

#define BAR_SIZE 65536
#define AREA	 512 /* bytes compared */

/* ---- a model that remembers ---------------------------------------------------------------- */

static struct {
	unsigned writes, blocks, reads;
	unsigned widest; /* of the stores seen */
} seen;

static void store(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len,
		  uint64_t value)
{
	seen.writes++;
	seen.widest = len > seen.widest ? len : seen.widest;
	uiommu_function_set_reg(fn, bar, offset, len, value);
}

static void store_block(struct uiommu_function *fn, unsigned bar, uint64_t offset, const void *data,
			unsigned len)
{
	seen.blocks++;
	seen.widest = len > seen.widest ? len : seen.widest;
	memcpy((char *)uiommu_function_bar(fn, bar) + offset, data, len);
}

static void load(struct uiommu_function *fn, unsigned bar, uint64_t offset, unsigned len)
{
	seen.reads++;
}

static void reset(struct uiommu_function *fn)
{
}

static const struct uiommu_model recorder = {
	.size = sizeof(recorder),
	.name = "recorder",
	.summary = "remembers what is stored",
	.vendor = 0x1234,
	.device = 0x5678,
	.class_code = 0xff0000,
	.bars = {{.size = BAR_SIZE}, {.size = BAR_SIZE, .flags = UIOMMU_BAR_TRAP_READS}},
	.reset = reset,
	.bar_write = store,
	.bar_read = load,
	.write_block = store_block,
};

/* ---- what the runner's other files would do -------------------------------------------------- */

struct run_file {
	struct uiommu_vfio_file *vfio;
	int refs;
};

enum descriptor {
	CONTAINER = 100,
	GROUP,
	DEVICE,
};

static struct run_file files[DEVICE + 1];

struct uiommu_vfio_file *files_vfio(const struct run_file *file)
{
	return file->vfio;
}

void files_hold(struct run_file *file)
{
	file->refs++;
}

void files_put(struct run_file *file)
{
	file->refs--;
}

struct run_file *files_adopt(struct uiommu_vfio_file *vfio)
{
	return NULL;
}

void report_access(int error, struct uiommu_function *fn, unsigned bar, uint64_t offset,
		   uint64_t rip, const unsigned char *bytes, unsigned len)
{
	printf("[ access   ] error %d, BAR %u offset %#lx:", error, bar, (unsigned long)offset);
	for (unsigned i = 0; i < len; i++)
		printf(" %02x", bytes[i]);
	printf("\n");
	fflush(stdout);
}

static struct uiommu_vfio_file *file_of(void *ctx, int fd)
{
	return fd >= CONTAINER && fd <= DEVICE ? files[fd].vfio : NULL;
}

static int install(void *ctx, struct uiommu_vfio_file *file)
{
	files[DEVICE].vfio = file;
	return DEVICE;
}

/* ---- set-up -------------------------------------------------------------------------------- */

static struct uiommu_machine *machine;
static struct uiommu_vfio *vfio;
static struct uiommu_function *function;
static char *bars[2];
static _Alignas(64) char plain[4096];

static void open_device(void)
{
	struct uiommu_vfio_options options = {
		.size = sizeof(options),
		.host = {.size = sizeof(options.host), .file_of = file_of, .install = install},
	};
	int container = CONTAINER;
	uint16_t command = PCI_COMMAND_MEMORY;

	assert_int_equal(uiommu_vfio_create(machine, &options, &vfio), 0);
	assert_int_equal(uiommu_vfio_open_container(vfio, &files[CONTAINER].vfio), 0);
	assert_int_equal(uiommu_vfio_open_group(vfio, uiommu_function_info(function)->group,
						&files[GROUP].vfio),
			 0);
	assert_int_equal(uiommu_vfio_ioctl(files[GROUP].vfio, VFIO_GROUP_SET_CONTAINER,
					   (unsigned long)&container),
			 0);
	assert_int_equal(
		uiommu_vfio_ioctl(files[CONTAINER].vfio, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	assert_int_equal(uiommu_vfio_ioctl(files[GROUP].vfio, VFIO_GROUP_GET_DEVICE_FD,
					   (unsigned long)uiommu_function_info(function)->name),
			 DEVICE);
	assert_int_equal(
		uiommu_vfio_pwrite(files[DEVICE].vfio, &command, 2,
				   ((uint64_t)VFIO_PCI_CONFIG_REGION_INDEX << 40) + PCI_COMMAND),
		2);
}

static int set_up(void **state)
{
	struct uiommu_machine_options options = {.size = sizeof(options)};
	char why[256] = "";

	assert_int_equal(uiommu_machine_create(&options, &machine, why, sizeof(why)), 0);
	assert_int_equal(uiommu_machine_add_model(machine, &recorder, "recorder", why, sizeof(why)),
			 0);
	function = uiommu_machine_function(machine, 0);
	open_device();
	access_init();
	trap_install();
	for (unsigned i = 0; i < 2; i++) {
		bars[i] = bars_mmap(&files[DEVICE], NULL, BAR_SIZE, PROT_READ | PROT_WRITE,
				    MAP_SHARED, (uint64_t)i << 40);
		assert_ptr_not_equal(bars[i], MAP_FAILED);
	}
	return 0;
}

static int tear_down(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		munmap(bars[i], BAR_SIZE);
		bars_gone(bars[i], BAR_SIZE);
	}
	assert_int_equal(files[DEVICE].refs, 0);
	uiommu_vfio_destroy(vfio);
	uiommu_machine_destroy(machine);
	return 0;
}

/* ---- the instructions ---------------------------------------------------------------------- */

struct registers {
	uint64_t rax, rcx, rdx, rsi, rdi, flags;
	_Alignas(64) char vector[64];
};

/* RBX has the address; RAX, RCX, RDX, the flags and the vector come from and go back to @r. */
#define OPERATION(name, before, text, after)                                               \
	static void name(char *at, struct registers *r)                                    \
	{                                                                                  \
		__asm__ volatile("lea -256(%%rsp), %%rsp\n\t" before "\n\t"                \
				 "pushq 40(%[r])\n\tpopfq\n\t" text "\n\t"                 \
				 "pushfq\n\tpopq 40(%[r])\n\tcld\n\t" after "\n\t"         \
				 "lea 256(%%rsp), %%rsp"                                   \
				 : "+a"(r->rax), "+c"(r->rcx), "+d"(r->rdx), "+S"(r->rsi), \
				   "+D"(r->rdi)                                            \
				 : "b"(at), [r] "r"(r)                                     \
				 : "memory", "cc", "r8", "xmm0", "xmm1");                  \
	}

#define INTEGER(name, text) OPERATION(name, "", text, "")
#define SSE(name, text)	    OPERATION(name, "movups 64(%[r]), %%xmm0", text, "movups %%xmm0, 64(%[r])")
#define AVX(name, text)                                                                   \
	__attribute__((target("avx2"))) OPERATION(name, "vmovups 64(%[r]), %%ymm0", text, \
						  "vmovups %%ymm0, 64(%[r])\n\tvzeroupper")
#define AVX512(name, text)                                                    \
	__attribute__((target("avx512f,avx512bw,avx512vl")))                  \
	OPERATION(name,                                                       \
		  "vmovups 64(%[r]), %%zmm16\n\tvmovups 64(%[r]), %%zmm0\n\t" \
		  "kmovq %%rcx, %%k1",                                        \
		  text, "vmovups %%zmm0, 64(%[r])\n\tvzeroupper")

_Static_assert(offsetof(struct registers, flags) == 40, "the assembly above has it there");
_Static_assert(offsetof(struct registers, vector) == 64, "and the vector");

INTEGER(mov_8, "movb %%al, 1(%%rbx)")
INTEGER(mov_high, "movb %%ah, 3(%%rbx)")
INTEGER(mov_16, "movw %%ax, 2(%%rbx)")
INTEGER(mov_32, "movl %%eax, 4(%%rbx)")
INTEGER(mov_64, "movq %%rax, 8(%%rbx)")
INTEGER(mov_odd, "movl %%eax, 5(%%rbx)")
INTEGER(mov_index, "movl %%eax, -16(%%rbx,%%rdx,4)")
INTEGER(mov_address_32, "movl $7, %%eax\n\tmovl %%eax, (%%rbx)")
INTEGER(mov_immediate_8, "movb $0x81, 7(%%rbx)")
INTEGER(mov_immediate_16, "movw $0x8182, 6(%%rbx)")
INTEGER(mov_immediate_32, "movl $0x81828384, 4(%%rbx)")
INTEGER(mov_immediate_64, "movq $-5, 8(%%rbx)")
INTEGER(mov_extended, "mov %%rax, %%r8\n\tmovw %%r8w, (%%rbx)")
INTEGER(movnti_32, "movnti %%eax, 4(%%rbx)")
INTEGER(movnti_64, "movnti %%rax, 8(%%rbx)")
INTEGER(movbe_16, "movbe %%ax, 4(%%rbx)")
INTEGER(movbe_64, "movbe %%rax, 8(%%rbx)")
INTEGER(xchg_8, "xchgb %%al, (%%rbx)")
INTEGER(xchg_64, "xchgq %%rax, (%%rbx)")
INTEGER(xadd_32, "lock xaddl %%eax, 4(%%rbx)")
INTEGER(cmpxchg_miss, "lock cmpxchgl %%edx, 4(%%rbx)")
INTEGER(cmpxchg_hit, "movl 4(%%rbx), %%eax\n\tlock cmpxchgl %%edx, 4(%%rbx)")
INTEGER(add_32, "addl %%eax, 4(%%rbx)")
INTEGER(add_8, "addb $0x7f, 4(%%rbx)")
INTEGER(adc_64, "adcq %%rax, 8(%%rbx)")
INTEGER(sub_16, "subw %%ax, 4(%%rbx)")
INTEGER(sbb_32, "sbbl %%eax, 4(%%rbx)")
INTEGER(and_32, "andl $~4, 4(%%rbx)")
INTEGER(or_32, "orl $0x80000000, 4(%%rbx)")
INTEGER(or_lock_8, "lock orb $1, 4(%%rbx)")
INTEGER(xor_64, "xorq %%rax, 8(%%rbx)")
INTEGER(inc_16, "incw 4(%%rbx)")
INTEGER(dec_32, "decl 4(%%rbx)")
INTEGER(neg_64, "negq 8(%%rbx)")
INTEGER(not_32, "notl 4(%%rbx)")
INTEGER(shl_32, "shll $1, 4(%%rbx)")
INTEGER(shr_16, "shrw $1, 4(%%rbx)")
INTEGER(sar_64, "sarq $1, 8(%%rbx)")
INTEGER(bts_32, "btsl $9, 4(%%rbx)")
INTEGER(btr_64, "btrq $3, 8(%%rbx)")
INTEGER(btc_16, "btcw $5, 4(%%rbx)")
INTEGER(bts_register, "movl $77, %%edx\n\tbtsl %%edx, 4(%%rbx)")
INTEGER(bts_negative, "movl $-33, %%edx\n\tbtsl %%edx, 64(%%rbx)")
INTEGER(setc, "setc 4(%%rbx)")
INTEGER(setnle, "setg 4(%%rbx)")
INTEGER(stos_8, "lea 4(%%rbx), %%rdi\n\tstosb")
INTEGER(stos_64, "lea 8(%%rbx), %%rdi\n\tstosq")
INTEGER(rep_stos, "lea 16(%%rbx), %%rdi\n\tmovl $5, %%ecx\n\trep stosl")
INTEGER(rep_stos_down, "lea 64(%%rbx), %%rdi\n\tmovl $3, %%ecx\n\tstd\n\trep stosq")
INTEGER(rep_stos_none, "lea 64(%%rbx), %%rdi\n\txor %%ecx, %%ecx\n\trep stosq\n\tmovl $1, (%%rbx)")
INTEGER(rep_movs, "lea 8(%%rbx), %%rdi\n\tlea 64(%[r]), %%rsi\n\tmovl $7, %%ecx\n\trep movsb")
INTEGER(rep_movs_64, "lea 8(%%rbx), %%rdi\n\tlea 64(%[r]), %%rsi\n\tmovl $4, %%ecx\n\trep movsq")

SSE(movd, "movd %%xmm0, 4(%%rbx)")
SSE(movq, "movq %%xmm0, 8(%%rbx)")
SSE(movss, "movss %%xmm0, 4(%%rbx)")
SSE(movsd, "movsd %%xmm0, 8(%%rbx)")
SSE(movups, "movups %%xmm0, 5(%%rbx)")
SSE(movaps, "movaps %%xmm0, 16(%%rbx)")
SSE(movdqu, "movdqu %%xmm0, 16(%%rbx)")
SSE(movdqa, "movdqa %%xmm0, 32(%%rbx)")
SSE(movntdq, "movntdq %%xmm0, 32(%%rbx)")
SSE(movntps, "movntps %%xmm0, 32(%%rbx)")
SSE(movlps, "movlps %%xmm0, 8(%%rbx)")
SSE(movhps, "movhps %%xmm0, 8(%%rbx)")
SSE(movhpd, "movhpd %%xmm0, 8(%%rbx)")

AVX(vmovdqu, "vmovdqu %%ymm0, 32(%%rbx)")
AVX(vmovaps, "vmovaps %%ymm0, 64(%%rbx)")
AVX(vmovntdq, "vmovntdq %%ymm0, 64(%%rbx)")
AVX(vmovups_128, "vmovups %%xmm0, 48(%%rbx)")
AVX(vmovhps, "vmovhps %%xmm0, 8(%%rbx)")

AVX512(zmm_16, "vmovdqu64 %%zmm16, 64(%%rbx)")
AVX512(zmm_0, "vmovups %%zmm0, 64(%%rbx)")
AVX512(zmm_nontemporal, "vmovntdq %%zmm0, 64(%%rbx)")
AVX512(zmm_masked_32, "vmovdqu32 %%zmm16, 64(%%rbx)%{%%k1%}")
AVX512(zmm_masked_8, "vmovdqu8 %%zmm16, 64(%%rbx)%{%%k1%}")
AVX512(ymm_masked_64, "vmovdqu64 %%ymm16, 64(%%rbx)%{%%k1%}")

INTEGER(load_8, "movb 1(%%rbx), %%al")
INTEGER(load_high, "movb 1(%%rbx), %%ah")
INTEGER(load_16, "movw 2(%%rbx), %%ax")
INTEGER(load_32, "movl 4(%%rbx), %%eax")
INTEGER(load_64, "movq 8(%%rbx), %%rax")
INTEGER(load_zero, "movzbl 5(%%rbx), %%eax")
INTEGER(load_sign, "movsbl 7(%%rbx), %%eax")
INTEGER(load_sign_16, "movswq 6(%%rbx), %%rax")
INTEGER(load_sign_32, "movslq 4(%%rbx), %%rax")
INTEGER(load_swapped, "movbe 4(%%rbx), %%eax")
INTEGER(load_compare, "cmpl %%eax, 4(%%rbx)")
INTEGER(load_compare_other, "cmpq 8(%%rbx), %%rax")
INTEGER(load_compare_immediate, "cmpw $0x1234, 4(%%rbx)")
INTEGER(load_test, "testb $0x40, 4(%%rbx)")
INTEGER(load_add, "addl 4(%%rbx), %%eax")
INTEGER(load_and, "andq 8(%%rbx), %%rax")
INTEGER(load_bit, "btl $3, 4(%%rbx)")
INTEGER(load_if, "cmovcl 4(%%rbx), %%eax")
INTEGER(load_unless, "cmovncl 4(%%rbx), %%eax")
INTEGER(load_string, "lea 4(%%rbx), %%rsi\n\tlodsw")
INTEGER(load_modify, "orl $6, 4(%%rbx)")
SSE(load_sse, "movups 16(%%rbx), %%xmm0")
SSE(load_movd, "movd 4(%%rbx), %%xmm0")
SSE(load_movq, "movq 8(%%rbx), %%xmm0")
SSE(load_high_half, "movhps 8(%%rbx), %%xmm0")
AVX(load_avx, "vmovdqu 32(%%rbx), %%ymm0")
AVX(load_avx_128, "vmovdqu 32(%%rbx), %%xmm0")
AVX512(load_zmm, "vmovdqu64 64(%%rbx), %%zmm0")

struct operation {
	const char *name;
	void (*run)(char *at, struct registers *r);
	unsigned width;	   /* of each store */
	unsigned stores;   /* how many reach the model */
	const char *needs; /* of the processor */
};

#define ONE(name, width)                    \
	{                                   \
#name, name, width, 1, NULL \
	}
#define MANY(name, width, stores)                \
	{                                        \
#name, name, width, stores, NULL \
	}

static const struct operation stores[] = {
	ONE(mov_8, 1),
	ONE(mov_high, 1),
	ONE(mov_16, 2),
	ONE(mov_32, 4),
	ONE(mov_64, 8),
	ONE(mov_index, 4),
	ONE(mov_address_32, 4),
	ONE(mov_immediate_8, 1),
	ONE(mov_immediate_16, 2),
	ONE(mov_immediate_32, 4),
	ONE(mov_immediate_64, 8),
	ONE(mov_extended, 2),
	ONE(movnti_32, 4),
	ONE(movnti_64, 8),
	ONE(xchg_8, 1),
	ONE(xchg_64, 8),
	ONE(xadd_32, 4),
	ONE(cmpxchg_miss, 4),
	ONE(cmpxchg_hit, 4),
	ONE(add_32, 4),
	ONE(add_8, 1),
	ONE(adc_64, 8),
	ONE(sub_16, 2),
	ONE(sbb_32, 4),
	ONE(and_32, 4),
	ONE(or_32, 4),
	ONE(or_lock_8, 1),
	ONE(xor_64, 8),
	ONE(inc_16, 2),
	ONE(dec_32, 4),
	ONE(neg_64, 8),
	ONE(not_32, 4),
	ONE(shl_32, 4),
	ONE(shr_16, 2),
	ONE(sar_64, 8),
	ONE(bts_32, 4),
	ONE(btr_64, 8),
	ONE(btc_16, 2),
	ONE(bts_register, 4),
	ONE(bts_negative, 4),
	ONE(setc, 1),
	ONE(setnle, 1),
	ONE(stos_8, 1),
	ONE(stos_64, 8),
	MANY(rep_stos, 4, 5),
	MANY(rep_stos_down, 8, 3),
	ONE(rep_stos_none, 4),
	MANY(rep_movs, 1, 7),
	MANY(rep_movs_64, 8, 4),
	ONE(movd, 4),
	ONE(movq, 8),
	ONE(movss, 4),
	ONE(movsd, 8),
	ONE(movaps, 16),
	ONE(movdqu, 16),
	ONE(movdqa, 16),
	ONE(movntdq, 16),
	ONE(movntps, 16),
	ONE(movlps, 8),
	ONE(movhps, 8),
	ONE(movhpd, 8),
	{"movbe_16", movbe_16, 2, 1, "movbe"},
	{"movbe_64", movbe_64, 8, 1, "movbe"},
	{"vmovdqu", vmovdqu, 32, 1, "avx2"},
	{"vmovaps", vmovaps, 32, 1, "avx2"},
	{"vmovntdq", vmovntdq, 32, 1, "avx2"},
	{"vmovups_128", vmovups_128, 16, 1, "avx2"},
	{"vmovhps", vmovhps, 8, 1, "avx2"},
	{"zmm_16", zmm_16, 64, 1, "avx512bw"},
	{"zmm_0", zmm_0, 64, 1, "avx512bw"},
	{"zmm_nontemporal", zmm_nontemporal, 64, 1, "avx512bw"},
	{"zmm_masked_32", zmm_masked_32, 4, 6, "avx512bw"},
	{"zmm_masked_8", zmm_masked_8, 1, 12, "avx512bw"},
	{"ymm_masked_64", ymm_masked_64, 8, 2, "avx512bw"},
};

/* A store that is not aligned reaches the model in pieces; only the outcome is compared. */
static const struct operation unaligned[] = {
	MANY(mov_odd, 0, 0),
	MANY(movups, 0, 0),
};

static const struct operation loads[] = {
	ONE(load_8, 0),
	ONE(load_high, 0),
	ONE(load_16, 0),
	ONE(load_32, 0),
	ONE(load_64, 0),
	ONE(load_zero, 0),
	ONE(load_sign, 0),
	ONE(load_sign_16, 0),
	ONE(load_sign_32, 0),
	ONE(load_compare, 0),
	ONE(load_compare_other, 0),
	ONE(load_compare_immediate, 0),
	ONE(load_test, 0),
	ONE(load_add, 0),
	ONE(load_and, 0),
	ONE(load_bit, 0),
	ONE(load_if, 0),
	ONE(load_unless, 0),
	ONE(load_string, 0),
	ONE(load_modify, 0),
	ONE(load_sse, 0),
	ONE(load_movd, 0),
	ONE(load_movq, 0),
	ONE(load_high_half, 0),
	{"load_swapped", load_swapped, 0, 1, "movbe"},
	{"load_avx", load_avx, 0, 1, "avx2"},
	{"load_avx_128", load_avx_128, 0, 1, "avx2"},
	{"load_zmm", load_zmm, 0, 1, "avx512bw"},
};
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static bool supported(const struct operation *op)
{
	__builtin_cpu_init();
	if (!op->needs)
		return true;
	if (!strcmp(op->needs, "avx2"))
		return __builtin_cpu_supports("avx2");
	if (!strcmp(op->needs, "avx512bw"))
		return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
	/* Every processor with AVX2 has MOVBE. */
	return __builtin_cpu_supports("avx2");
}

static void fill_some(char *at, unsigned len, unsigned seed)
{
	for (unsigned i = 0; i < len; i++)
		at[i] = (char)((i * 37 + seed) ^ (i >> 3));
}

static void fill(char *at, unsigned seed)
{
	fill_some(at, AREA, seed);
}

static struct registers start_registers(unsigned seed)
{
	struct registers r = {
		.rax = 0x8192a3b4c5d6e7f8ULL * (seed | 1),
		.rcx = 0x00008001c0033145ULL,
		.rdx = 11,
		.flags = 0x202 | (seed & 1),
	};

	fill_some(r.vector, sizeof(r.vector), seed ^ 0x55);
	return r;
}

/* The memory the model has, whatever the mapping permits. */
static char *backing(unsigned bar)
{
	return uiommu_function_bar(function, bar);
}

/* Flags that the manual defines after these instructions; AF isn't after the logical ones. */
#define FLAGS 0xcc5

static void run_both(const struct operation *op, unsigned bar, unsigned seed)
{
	struct registers expected = start_registers(seed), actual = start_registers(seed);

	fill(plain, seed);
	fill(backing(bar), seed);
	memset(&seen, 0, sizeof(seen));
	op->run(plain, &expected);
	op->run(bars[bar], &actual);
	if (memcmp(plain, backing(bar), AREA))
		fail_msg("%s: memory differs", op->name);
	if (expected.rax != actual.rax || expected.rcx != actual.rcx || expected.rdx != actual.rdx)
		fail_msg("%s: registers differ: rax %#lx, not %#lx", op->name, actual.rax,
			 expected.rax);
	if ((expected.flags & FLAGS) != (actual.flags & FLAGS))
		fail_msg("%s: flags %#lx, not %#lx", op->name, actual.flags & FLAGS,
			 expected.flags & FLAGS);
	if (memcmp(expected.vector, actual.vector, sizeof(actual.vector)))
		fail_msg("%s: vector differs", op->name);
	if ((expected.rdi && expected.rdi - (uint64_t)plain != actual.rdi - (uint64_t)bars[bar]))
		fail_msg("%s: rdi differs", op->name);
}

/* The test framework takes the signals for itself at the start of each test. */
static void begin(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	assert_int_equal(trap_sigaction(SIGSEGV, &action, NULL), 0);
	assert_int_equal(trap_sigaction(SIGBUS, &action, NULL), 0);
}

static void test_stores(void **state)
{
	begin();
	for (size_t i = 0; i < COUNT(stores); i++) {
		const struct operation *op = &stores[i];

		for (unsigned seed = 0; supported(op) && seed < 8; seed++) {
			run_both(op, 0, seed);
			if (seen.writes + seen.blocks != op->stores || seen.widest != op->width)
				fail_msg("%s: %u stores, widest %u", op->name,
					 seen.writes + seen.blocks, seen.widest);
		}
	}
}

static void test_unaligned(void **state)
{
	begin();
	for (size_t i = 0; i < COUNT(unaligned); i++) {
		run_both(&unaligned[i], 0, 3);
		assert_true(seen.writes > 1);
	}
}

static void test_loads(void **state)
{
	begin();
	for (size_t i = 0; i < COUNT(loads); i++) {
		const struct operation *op = &loads[i];

		for (unsigned seed = 0; supported(op) && seed < 8; seed++) {
			run_both(op, 1, seed);
			if (!seen.reads)
				fail_msg("%s: the model was not asked", op->name);
		}
	}
}

/* Stores into the BAR whose reads trap, too. */
static void test_stores_where_loads_trap(void **state)
{
	begin();
	for (size_t i = 0; i < COUNT(stores); i++)
		if (supported(&stores[i]))
			run_both(&stores[i], 1, 5);
}

/* ---- what this processor may not have ----------------------------------------------------------
 */

/* Give the handler's inner part an instruction as if it had faulted at @addr. */
static bool perform(const unsigned char *code, char *addr, ucontext_t *uc)
{
	siginfo_t info = {.si_addr = addr, .si_code = SEGV_ACCERR};
	int as = SIGSEGV;

	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)code;
	return access_fault(&info, uc, &as);
}

static void test_direct_stores(void **state)
{
	/* movdiri %rax, 8(%rbx); movdir64b (%rsi), %rbx; enqcmd (%rsi), %rbx */
	static const unsigned char movdiri[16] = {0x48, 0x0f, 0x38, 0xf9, 0x43, 0x08};
	static const unsigned char movdir64b[16] = {0x66, 0x0f, 0x38, 0xf8, 0x1e};
	static const unsigned char enqcmd[16] = {0xf2, 0x0f, 0x38, 0xf8, 0x1e};
	struct registers r = start_registers(1);
	ucontext_t uc;

	begin();
	getcontext(&uc);
	uc.uc_mcontext.gregs[REG_RBX] = (greg_t)bars[0];
	uc.uc_mcontext.gregs[REG_RSI] = (greg_t)r.vector;
	uc.uc_mcontext.gregs[REG_RAX] = 0x1122334455667788;
	memset(&seen, 0, sizeof(seen));
	assert_true(perform(movdiri, bars[0] + 8, &uc));
	assert_int_equal(uc.uc_mcontext.gregs[REG_RIP], (greg_t)(movdiri + 6));
	assert_int_equal(*(uint64_t *)(bars[0] + 8), 0x1122334455667788);
	assert_int_equal(seen.widest, 8);
	fill(backing(0), 9);
	assert_true(perform(movdir64b, bars[0], &uc));
	assert_memory_equal(bars[0], r.vector, 64);
	assert_int_equal(seen.blocks, 1);
	assert_int_equal(seen.widest, 64);
	fill(backing(0), 9);
	uc.uc_mcontext.gregs[REG_EFL] = 0x40;
	assert_true(perform(enqcmd, bars[0], &uc));
	assert_memory_equal(bars[0], r.vector, 64);
	assert_int_equal(seen.blocks, 2);
	assert_int_equal(uc.uc_mcontext.gregs[REG_EFL] & 0x40, 0);
	assert_int_equal(uc.uc_mcontext.gregs[REG_RIP], (greg_t)(enqcmd + 5));
}

/* ---- faults that stay faults --------------------------------------------------------------- */

static sigjmp_buf escape;
static volatile int got_signal;
static void *volatile got_address;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	got_signal = sig;
	got_address = info->si_addr;
	siglongjmp(escape, 1);
}

static void catch_faults(void)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};

	sigemptyset(&action.sa_mask);
	assert_int_equal(trap_sigaction(SIGSEGV, &action, NULL), 0);
	assert_int_equal(trap_sigaction(SIGBUS, &action, NULL), 0);
	got_signal = 0;
}

/* Did storing to @at bring a signal? */
static int store_signal(volatile uint32_t *at)
{
	got_signal = 0;
	if (!sigsetjmp(escape, 1))
		*at = 1;
	return got_signal;
}

static int load_signal(volatile uint32_t *at)
{
	uint32_t value;

	got_signal = 0;
	if (!sigsetjmp(escape, 1)) {
		value = *at;
		(void)value;
	}
	return got_signal;
}

static void test_own_faults(void **state)
{
	volatile uint32_t *nowhere =
		mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	catch_faults();
	assert_int_equal(store_signal(nowhere), SIGSEGV);
	assert_ptr_equal(got_address, (void *)nowhere);
	/* A BAR that the program itself has made read-only, or took away. */
	assert_int_equal(bars_mprotect(bars[0], 4096, PROT_READ), 0);
	assert_int_equal(store_signal((uint32_t *)bars[0]), SIGSEGV);
	assert_int_equal(store_signal((uint32_t *)(bars[0] + 4096)), 0);
	assert_int_equal(bars_mprotect(bars[0], 8192, PROT_NONE), 0);
	assert_int_equal(load_signal((uint32_t *)(bars[0] + 4096)), SIGSEGV);
	assert_int_equal(bars_mprotect(bars[0], 8192, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(store_signal((uint32_t *)bars[0]), 0);
	munmap((void *)nowhere, 4096);
}

/* An instruction that is not known is the program's fault, not ours to crash on. */
static void test_unknown_instruction(void **state)
{
	catch_faults();
	if (!sigsetjmp(escape, 1))
		__asm__ volatile("cmpxchg8b (%0)" : : "r"(bars[0]) : "memory", "rax", "rdx", "cc");
	assert_int_equal(got_signal, SIGSEGV);
}

static void test_no_decoding(void **state)
{
	uiommu_function_config_write(function, PCI_COMMAND, 2, 0);
	catch_faults();
	assert_int_equal(store_signal((uint32_t *)bars[0]), SIGBUS);
	uiommu_function_config_write(function, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(store_signal((uint32_t *)bars[0]), 0);
}

/* ---- the table of mappings ----------------------------------------------------------------- */

static void test_partial_unmap(void **state)
{
	struct run_bar bar;
	char *at =
		bars_mmap(&files[DEVICE], NULL, 5 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 4096);
	int refs = files[DEVICE].refs;

	begin();
	assert_ptr_not_equal(at, MAP_FAILED);
	munmap(at + 4096, 4096);
	bars_gone(at + 4096, 4096);
	assert_int_equal(files[DEVICE].refs, refs + 1);
	assert_false(bars_find((uintptr_t)at + 4096, &bar));
	assert_true(bars_find((uintptr_t)at + 8192, &bar));
	assert_int_equal(bar.offset, 4096 + 8192);
	*(volatile uint32_t *)(at + 8192) = 0x600d;
	assert_int_equal(*(uint32_t *)(backing(0) + 4096 + 8192), 0x600d);
	at = bars_mremap(at + 8192, 3 * 4096, 4096, MREMAP_MAYMOVE, NULL);
	assert_ptr_not_equal(at, MAP_FAILED);
	*(volatile uint32_t *)at = 0xbad;
	assert_int_equal(*(uint32_t *)(backing(0) + 4096 + 8192), 0xbad);
	assert_false(bars_find((uintptr_t)at + 4096, &bar));
	munmap(at - 8192, 3 * 4096);
	bars_gone(at - 8192, 3 * 4096);
	assert_int_equal(files[DEVICE].refs, refs - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stores),
		cmocka_unit_test(test_unaligned),
		cmocka_unit_test(test_loads),
		cmocka_unit_test(test_stores_where_loads_trap),
		cmocka_unit_test(test_direct_stores),
		cmocka_unit_test(test_own_faults),
		cmocka_unit_test(test_unknown_instruction),
		cmocka_unit_test(test_no_decoding),
		cmocka_unit_test(test_partial_unmap),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
