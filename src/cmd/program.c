/* SPDX-License-Identifier: MIT */
/*
 * Owns the question whether a program can be run: found, executable, and loaded by the dynamic
 * linker with LD_PRELOAD in force. Scripts are followed to their interpreters. Only looks at files;
 * whatever it gets wrong, the kernel decides in the end.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cmd/cmd.h"

#define SCRIPTS_MAX 5 /* as the kernel */

static int not_executable(const char *path, const char *why)
{
	complain("cannot run %s: %s", path, why);
	return EXIT_NOT_EXECUTABLE;
}

/* ---- finding ------------------------------------------------------------------------------- */

static bool is_program(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* Search PATH; *@seen: something was there that can't be executed. */
static bool search_path(const char *name, char *path, size_t len, bool *seen)
{
	const char *dirs = getenv("PATH");

	*seen = false;
	for (const char *dir = dirs ? dirs : "/bin:/usr/bin";; dir++) {
		size_t n = strcspn(dir, ":");

		snprintf(path, len, "%.*s%s%s", (int)n, dir, n ? "/" : "", name);
		if (is_program(path))
			return true;
		*seen = *seen || !access(path, F_OK);
		dir += n;
		if (!*dir)
			return false;
	}
}

static int find(const char *name, char *path, size_t len)
{
	bool seen;

	if (!*name) {
		complain("the program's name is empty");
		return EXIT_NOT_FOUND;
	}
	if (!strchr(name, '/')) {
		if (search_path(name, path, len, &seen))
			return 0;
	} else {
		snprintf(path, len, "%s", name);
		if (is_program(path))
			return 0;
		seen = !access(path, F_OK);
	}
	if (seen)
		return not_executable(name, "it is not an executable file, or not for you");
	complain("cannot run %s: not found", name);
	return EXIT_NOT_FOUND;
}

/* ---- looking ------------------------------------------------------------------------------- */

/* Would executing it change what the process may do? Then the dynamic linker ignores LD_PRELOAD. */
static int check_privilege(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return not_executable(path, strerror(errno));
	if (st.st_mode & S_ISUID && st.st_uid != geteuid())
		return not_executable(path, "it is set-user-ID, and such programs ignore "
					    "LD_PRELOAD; run a copy without that bit");
	if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getegid())
		return not_executable(path, "it is set-group-ID, and such programs ignore "
					    "LD_PRELOAD; run a copy without that bit");
	if (geteuid() && getxattr(path, "security.capability", NULL, 0) > 0)
		return not_executable(path, "it has file capabilities, and such programs ignore "
					    "LD_PRELOAD; run a copy without them");
	return 0;
}

/* Where in the file lies what is loaded at @address? */
static bool find_address(int fd, const Elf64_Ehdr *header, uint64_t address, off_t *at)
{
	Elf64_Phdr segment;

	for (unsigned i = 0; i < header->e_phnum; i++) {
		off_t from = (off_t)(header->e_phoff + (uint64_t)i * header->e_phentsize);

		if (pread(fd, &segment, sizeof(segment), from) != sizeof(segment))
			return false;
		if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
		    address - segment.p_vaddr < segment.p_filesz) {
			*at = (off_t)(address - segment.p_vaddr + segment.p_offset);
			return true;
		}
	}
	return false;
}

/* Is a library whose name starts with @prefix among those that the program names? */
static bool needs_library(int fd, const Elf64_Ehdr *header, const Elf64_Phdr *dynamic,
			  const char *prefix)
{
	size_t len = strlen(prefix);
	char name[32] = "";
	Elf64_Dyn entry;
	off_t names = 0;

	/* The names' place first, then the names. */
	for (int named = 0; named < 2; named++) {
		for (uint64_t i = 0; i < dynamic->p_filesz / sizeof(entry); i++) {
			off_t at = (off_t)(dynamic->p_offset + i * sizeof(entry));

			if (pread(fd, &entry, sizeof(entry), at) != sizeof(entry) ||
			    entry.d_tag == DT_NULL)
				break;
			if (!named && entry.d_tag == DT_STRTAB &&
			    !find_address(fd, header, entry.d_un.d_ptr, &names))
				return false;
			if (named && entry.d_tag == DT_NEEDED &&
			    pread(fd, name, len, names + (off_t)entry.d_un.d_val) == (ssize_t)len &&
			    !memcmp(name, prefix, len))
				return true;
		}
	}
	return false;
}

static int check_elf(const char *path, int fd, bool *asan)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	bool interpreted = false;

	if (pread(fd, &header, sizeof(header), 0) != sizeof(header) ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
		return not_executable(path, "it is not a 64-bit x86-64 program");
	for (unsigned i = 0; i < header.e_phnum; i++) {
		off_t at = (off_t)(header.e_phoff + (uint64_t)i * header.e_phentsize);

		if (pread(fd, &segment, sizeof(segment), at) != sizeof(segment))
			return not_executable(path, "its program headers cannot be read");
		if (segment.p_type == PT_INTERP)
			interpreted = true;
		if (segment.p_type == PT_DYNAMIC)
			*asan = needs_library(fd, &header, &segment, "libasan.so") ||
				needs_library(fd, &header, &segment, "libclang_rt.asan");
	}
	if (interpreted)
		return 0;
	return not_executable(path, "it is statically linked, and uiommu works through the "
				    "dynamic linker; link it dynamically");
}

/* "#!" and the interpreter's path; false: no script. */
static bool interpreter_of(int fd, char *interpreter, size_t len)
{
	char line[PATH_MAX + 2];
	ssize_t n = pread(fd, line, sizeof(line) - 1, 0);
	char *name;

	if (n < 2 || line[0] != '#' || line[1] != '!')
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	name = line + 2 + strspn(line + 2, " \t");
	name[strcspn(name, " \t")] = '\0';
	snprintf(interpreter, len, "%s", name);
	return *name;
}

static int check_file(const char *path, char *interpreter, size_t len, bool *script, bool *asan)
{
	char magic[SELFMAG];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret = 0;

	*script = false;
	/* Programs may be executable without being readable; then there's no telling. */
	if (fd < 0)
		return 0;
	if (pread(fd, magic, SELFMAG, 0) == SELFMAG && !memcmp(magic, ELFMAG, SELFMAG)) {
		ret = check_privilege(path);
		if (!ret)
			ret = check_elf(path, fd, asan);
	} else {
		*script = interpreter_of(fd, interpreter, len);
	}
	close(fd);
	return ret;
}

int program_check(const char *name, char *path, size_t len, bool *asan)
{
	char current[PATH_MAX], interpreter[PATH_MAX];
	bool script = true;
	int ret = find(name, path, len);

	*asan = false;
	snprintf(current, sizeof(current), "%s", path);
	for (unsigned i = 0; !ret && script && i < SCRIPTS_MAX; i++) {
		ret = check_file(current, interpreter, sizeof(interpreter), &script, asan);
		if (!ret && script) {
			if (!is_program(interpreter)) {
				complain("cannot run %s: its interpreter %s is not there", path,
					 interpreter);
				return EXIT_NOT_EXECUTABLE;
			}
			snprintf(current, sizeof(current), "%s", interpreter);
		}
	}
	return ret;
}
