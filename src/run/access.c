/* SPDX-License-Identifier: MIT */
/*
 * Owns the way from a trapped access to the model: which BAR, which instruction, the instruction
 * performed. Runs on the thread that faulted, inside its signal handler; it takes the function's
 * lock like any other access. No state but the decoder's constants.
 *
 * A store reaches the model in the instruction's own width. A load of a register that has no
 * side effects never traps; those that do are read from the model here.
 */
#include <errno.h>
#include <string.h>

#include "run/access.h"
#include "run/bars.h"
#include "run/copy.h"
#include "run/emulate.h"
#include "run/real.h"
#include "run/regs.h"
#include "run/report.h"

#define INSTRUCTION_MAX 15
/* The instruction that debuggers stop a program with. */
#define BREAKPOINT 0xcc

#define PAGE UINT64_C(4096)

static ZydisDecoder decoder;

void access_init(void)
{
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	regs_init();
}

/* A BAR at @addr that permits the access; 0: it is no BAR. */
static int find(uint64_t addr, unsigned len, int prot, struct run_bar *bar)
{
	if (!bars_find((uintptr_t)addr, bar))
		return 0;
	if (bar->doorbell)
		return -EFAULT;
	/* Write permission implies read permission on x86. */
	if (!(bar->prot & (prot == PROT_READ ? PROT_READ | PROT_WRITE : prot)) ||
	    addr + len - 1 > bar->last)
		return -EFAULT;
	return 1;
}

int access_load(uint64_t addr, void *buf, unsigned len)
{
	struct run_bar bar;
	int ret = find(addr, len, PROT_READ, &bar);

	if (ret < 0)
		return ret;
	if (!ret || !bar.trap_reads)
		return copy_safely(buf, (const void *)(uintptr_t)addr, len);
	return uiommu_function_bar_read(bar.function, bar.bar, bar.offset + (addr - bar.first), buf,
					len);
}

int access_store(uint64_t addr, const void *buf, unsigned len)
{
	struct run_bar bar;
	int ret = find(addr, len, PROT_WRITE, &bar);

	if (ret < 0)
		return ret;
	if (!ret)
		return copy_safely((void *)(uintptr_t)addr, buf, len);
	return uiommu_function_bar_write(bar.function, bar.bar, bar.offset + (addr - bar.first),
					 buf, len);
}

/* One line of /proc/self/maps, "first-end perms offset dev inode path": if it covers @rip, read
 * what its file has there. */
static bool original_from(char *line, uint64_t rip, unsigned char *bytes, unsigned len)
{
	char *at, *path = strchr(line, '/');
	uint64_t first, end, offset;
	bool done = false;
	int fd;

	first = strtoull(line, &at, 16);
	end = *at == '-' ? strtoull(at + 1, &at, 16) : 0;
	if (rip < first || rip >= end || !path || strlen(at) < 6)
		return false;
	offset = strtoull(at + 6, NULL, 16);
	fd = real_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	if (real_lseek(fd, (off_t)(offset + (rip - first)), SEEK_SET) >= 0)
		done = real_read(fd, bytes, len) == (ssize_t)len;
	real_close(fd);
	return done;
}

/* A debugger has put a breakpoint where the instruction begins: what it was is in the file that the
 * code was mapped from. */
static void fetch_original(uint64_t rip, unsigned char *bytes, unsigned len)
{
	char line[512], buf[512];
	size_t used = 0;
	ssize_t got;
	int fd = real_open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return;
	while ((got = real_read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < got; i++) {
			if (buf[i] != '\n') {
				if (used < sizeof(line) - 1)
					line[used++] = buf[i];
				continue;
			}
			line[used] = '\0';
			used = 0;
			if (original_from(line, rip, bytes, len))
				goto out;
		}
	}
out:
	real_close(fd);
}

/* The instruction's bytes: it may end just before a page that isn't there. */
static unsigned fetch(uint64_t rip, unsigned char *bytes)
{
	unsigned first = (unsigned)(PAGE - (rip & (PAGE - 1)));

	if (first >= INSTRUCTION_MAX ||
	    copy_safely(bytes + first, (const void *)(rip + first), INSTRUCTION_MAX - first))
		first = first < INSTRUCTION_MAX ? first : INSTRUCTION_MAX;
	else
		return copy_safely(bytes, (const void *)rip, first) ? 0 : INSTRUCTION_MAX;
	return copy_safely(bytes, (const void *)rip, first) ? 0 : first;
}

bool access_fault(const siginfo_t *info, ucontext_t *uc, int *as)
{
	uint64_t rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	unsigned char bytes[INSTRUCTION_MAX];
	struct instruction insn;
	struct run_bar bar;
	unsigned len;
	int ret;

	if (!bars_find((uintptr_t)info->si_addr, &bar) || bar.doorbell)
		return false;
	insn.uc = uc;
	len = fetch(rip, bytes);
	if (len && bytes[0] == BREAKPOINT)
		fetch_original(rip, bytes, len);
	if (!len ||
	    ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, bytes, len, &insn.decoded, insn.operands)))
		ret = -ENOSYS;
	else
		ret = emulate(&insn);
	if (!ret)
		return true;
	if (ret == -EIO)
		*as = SIGBUS;
	report_access(ret, bar.function, bar.bar,
		      bar.offset + ((uint64_t)(uintptr_t)info->si_addr - bar.first), rip, bytes,
		      len);
	return false;
}
