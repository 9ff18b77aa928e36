/* SPDX-License-Identifier: MIT */
/*
 * uiommu run: reads the options, tries the machine out, lays out its files, and turns into the
 * program. There is no process left over: process ID, terminal, signals and exit status are the
 * program's by construction. What is wrong is said before the program starts.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/platform_file.h"
#include "run/config.h"

enum namespace_mode {
	NAMESPACE_AUTO,
	NAMESPACE_YES,
	NAMESPACE_NO,
};

struct settings {
	struct run_config config;
	enum namespace_mode mode;
	bool asan; /* the program needs its run-time */
	char root[128];
};

enum option_code {
	OPTION_PLATFORM = OPTION_FIRST,
	OPTION_DEVICE,
	OPTION_NAMESPACE,
	OPTION_STATS,
	OPTION_EXPLAIN,
	OPTION_MEMLOCK,
	OPTION_DMA_ENTRIES,
	OPTION_IOTLB,
	OPTION_UNSAFE,
	OPTION_IOMMUFD,
	OPTION_IOMMUFD_TEST,
	OPTION_VERBOSE,
	OPTION_HELP,
};

static const struct option options[] = {
	{"platform", required_argument, NULL, OPTION_PLATFORM},
	{"device", required_argument, NULL, OPTION_DEVICE},
	{"namespace", required_argument, NULL, OPTION_NAMESPACE},
	{"stats", no_argument, NULL, OPTION_STATS},
	{"explain", no_argument, NULL, OPTION_EXPLAIN},
	{"memlock", required_argument, NULL, OPTION_MEMLOCK},
	{"dma-entries", required_argument, NULL, OPTION_DMA_ENTRIES},
	{"iotlb", required_argument, NULL, OPTION_IOTLB},
	{"allow-unsafe-interrupts", no_argument, NULL, OPTION_UNSAFE},
	{"iommufd", required_argument, NULL, OPTION_IOMMUFD},
	{"iommufd-test", no_argument, NULL, OPTION_IOMMUFD_TEST},
	{"verbose", no_argument, NULL, OPTION_VERBOSE},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

static const char usage[] =
	"Usage: uiommu run [OPTION]… [--] PROGRAM [ARGUMENT]…\n"
	"Run a VFIO program on a simulated machine: PCI functions bound to vfio-pci,\n"
	"behind an IOMMU, without hardware, privileges or kernel modules.\n\n"
	"  --platform NAME[,key=value…]  the machine's IOMMU\n"
	"  --platform FILE[,key=value…]  the same, from a file (uiommu-platform(5))\n"
	"  --device MODEL[@BDF][,key=value…]\n"
	"                   add a PCI function; may be repeated; without any there is\n"
	"                   one of each model but virtio-iommu. Keys: group=N,\n"
	"                   driver=NAME, the model's\n"
	"  --stats          at the end, show counters and a picture of the address space\n"
	"  --explain        tell the reason of each request that is refused\n"
	"  --namespace auto|yes|no\n"
	"                   show the machine in namespaces, or by rewriting paths\n"
	"  --memlock enforce|off  count mapped memory against RLIMIT_MEMLOCK (off)\n"
	"  --dma-entries N  mappings allowed in one container (65535)\n"
	"  --iotlb N|off    entries of the IOTLB (1024)\n"
	"  --allow-unsafe-interrupts\n"
	"                   as the kernel's parameter of that name\n"
	"  --iommufd on|off|container|rfc\n"
	"                   whether /dev/iommu and /dev/vfio/devices are there (on);\n"
	"                   container: /dev/vfio/vfio is /dev/iommu as well; rfc: they\n"
	"                   are as proposed in 2021\n"
	"  --iommufd-test   /dev/iommu has the request of Linux's iommufd selftests\n"
	"  --verbose        say what is being set up\n"
	"  --help           show this\n\n";

/* ---- options ------------------------------------------------------------------------------- */

static int help(void)
{
	const struct uiommu_model *model;
	const char *name;

	fputs(usage, stdout);
	puts("Platforms:");
	for (size_t i = 0; (name = uiommu_platform_name(i)); i++)
		if (uiommu_platform_options(name))
			printf("  %-12s %s\n    %s\n", name, uiommu_platform_summary(name),
			       uiommu_platform_options(name));
		else
			printf("  %-12s %s\n", name, uiommu_platform_summary(name));
	puts("Models:");
	for (size_t i = 0; (model = uiommu_model_at(i)); i++) {
		printf("  %-12s %s\n", model->name, model->summary);
		for (const struct uiommu_model_option *o = model->options; o && o->key; o++)
			printf("    %s: %s\n", o->key, o->help);
	}
	return 0;
}

static int usage_error(const char *option, const char *value, const char *right)
{
	complain("--%s %s: %s", option, value, right);
	return EXIT_USAGE;
}

static int take_number(const char *option, const char *text, unsigned long most, unsigned *number)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 0);
	if (errno || end == text || *end || *text == '-' || !value || value > most) {
		complain("--%s %s: a number from 1 to %lu is wanted", option, text, most);
		return EXIT_USAGE;
	}
	*number = (unsigned)value;
	return 0;
}

/* Values travel as lines of text. */
static int take_text(const char *option, const char *text)
{
	return strchr(text, '\n') ? usage_error(option, "…", "there is a line break in it") : 0;
}

static int take_namespace(struct settings *s, const char *text)
{
	if (!strcmp(text, "auto"))
		s->mode = NAMESPACE_AUTO;
	else if (!strcmp(text, "yes"))
		s->mode = NAMESPACE_YES;
	else if (!strcmp(text, "no"))
		s->mode = NAMESPACE_NO;
	else
		return usage_error("namespace", text, "auto, yes or no is wanted");
	return 0;
}

static int take_memlock(struct settings *s, const char *text)
{
	s->config.memlock = !strcmp(text, "enforce");
	if (!s->config.memlock && strcmp(text, "off"))
		return usage_error("memlock", text, "enforce or off is wanted");
	return 0;
}

static int take_iommufd(struct settings *s, const char *text)
{
	for (int i = 0; run_iommufd_names[i]; i++)
		if (!strcmp(text, run_iommufd_names[i])) {
			s->config.iommufd = (enum run_iommufd)i;
			return 0;
		}
	return usage_error("iommufd", text, "on, off, container or rfc is wanted");
}

static int take_platform(struct settings *s, const char *text)
{
	char *spec;
	int ret = take_text("platform", text);

	if (!ret)
		ret = platform_argument(text, &spec);
	if (!ret)
		s->config.platform = spec; /* for as long as the process is uiommu */
	return ret;
}

/* Does the model that @spec begins with take a file's name by the key that @option begins with? */
static bool is_path(const char *spec, const char *option)
{
	size_t name = strcspn(spec, "@,"), key = strcspn(option, "=,");
	const struct uiommu_model *model;

	for (size_t i = 0; (model = uiommu_model_at(i)); i++) {
		if (strncmp(model->name, spec, name) || model->name[name])
			continue;
		for (const struct uiommu_model_option *o = model->options; o && o->key; o++)
			if (!strncmp(o->key, option, key) && !o->key[key])
				return (o->flags & UIOMMU_OPTION_PATH) && option[key] == '=' &&
				       !strchr("/,", option[key + 1]); /* nor is it empty */
	}
	return false;
}

/* The machine is made by programs that may run elsewhere: make names of files absolute. NULL: no
 * memory. The result lives as long as the process. */
static const char *absolute(const char *spec)
{
	char *here = getcwd(NULL, 0), *out = NULL;
	const char *option = strchr(spec, ',');
	size_t len;
	FILE *f = here ? open_memstream(&out, &len) : NULL;

	if (f) {
		fprintf(f, "%.*s", (int)strcspn(spec, ","), spec);
		for (; option; option = strchr(option + 1, ',')) {
			const char *value = strchr(option, '=');
			size_t whole = 1 + strcspn(option + 1, ",");

			if (is_path(spec, option + 1))
				fprintf(f, "%.*s=%s/%.*s", (int)(value - option), option, here,
					(int)(whole - (size_t)(value + 1 - option)), value + 1);
			else
				fprintf(f, "%.*s", (int)whole, option);
		}
		if (fclose(f))
			out = NULL;
	}
	free(here);
	return out;
}

static int take_device(struct settings *s, const char *text)
{
	const char *spec = absolute(text);

	if (!spec)
		return usage_error("device", text, "its file's name can't be made absolute");
	if (s->config.device_count == RUN_CONFIG_DEVICES)
		return usage_error("device", text, "there are too many devices");
	s->config.devices[s->config.device_count++] = spec;
	return take_text("device", spec);
}

static int take_iotlb(struct settings *s, const char *text)
{
	if (strcmp(text, "off"))
		return take_number("iotlb", text, 65536, &s->config.iotlb);
	s->config.iotlb = UIOMMU_IOTLB_OFF;
	return 0;
}

static int missing_argument(int code, const char *word)
{
	optopt = code;
	return option_error("run", ':', options, word);
}

static int take_option(struct settings *s, int code, const char *word)
{
	/* "--device -- program": no value starts like that. */
	if (optarg && optarg == word && !strncmp(optarg, "--", 2))
		return missing_argument(code, word);
	switch (code) {
	case OPTION_PLATFORM:
		return take_platform(s, optarg);
	case OPTION_DEVICE:
		return take_device(s, optarg);
	case OPTION_NAMESPACE:
		return take_namespace(s, optarg);
	case OPTION_MEMLOCK:
		return take_memlock(s, optarg);
	case OPTION_DMA_ENTRIES:
		return take_number("dma-entries", optarg, UINT_MAX, &s->config.dma_entries);
	case OPTION_IOTLB:
		return take_iotlb(s, optarg);
	case OPTION_STATS:
		s->config.stats = true;
		return 0;
	case OPTION_EXPLAIN:
		s->config.explain = true;
		return 0;
	case OPTION_UNSAFE:
		s->config.unsafe_interrupts = true;
		return 0;
	case OPTION_IOMMUFD:
		return take_iommufd(s, optarg);
	case OPTION_IOMMUFD_TEST:
		s->config.iommufd_test = true;
		return 0;
	case OPTION_VERBOSE:
		s->config.verbose = true;
		return 0;
	default:
		return option_error("run", code, options, word);
	}
}

/* ---- the machine --------------------------------------------------------------------------- */

/* Make the machine once, to see that it can be made and to learn what its files are. */
static int describe(struct settings *s, struct run_tree *tree)
{
	struct uiommu_machine_options machine_options = {.size = sizeof(machine_options)};
	struct uiommu_machine *machine;
	char why[256];
	int ret = run_config_machine(&s->config, &machine_options, &machine, why, sizeof(why));

	if (ret) {
		complain("%s", why[0] ? why : strerror(-ret));
		return ret == -ENOMEM ? EXIT_CANNOT : EXIT_USAGE;
	}
	ret = run_tree_build(machine, &s->config, tree);
	uiommu_machine_destroy(machine);
	if (ret) {
		complain("%s", strerror(-ret));
		return EXIT_CANNOT;
	}
	return 0;
}

static int place_privately(struct settings *s, const struct run_tree *tree)
{
	char why[256];
	int ret = private_tree(tree, s->root, sizeof(s->root), &s->config.keep, why, sizeof(why));

	if (ret) {
		complain("%s: %s", why, strerror(-ret));
		return EXIT_CANNOT;
	}
	s->config.root = s->root;
	if (s->config.verbose)
		complain("the machine's files are in %s", s->root);
	return 0;
}

static int place(struct settings *s, const struct run_tree *tree)
{
	char why[256] = "";

	if (s->mode == NAMESPACE_NO)
		return place_privately(s, tree);
	if (s->mode == NAMESPACE_AUTO && namespace_try(tree, why, sizeof(why))) {
		if (s->config.verbose || s->config.explain)
			complain("no namespaces (%s), rewriting paths", why);
		return place_privately(s, tree);
	}
	if (namespace_enter(tree, why, sizeof(why))) {
		complain("no namespaces: %s", why);
		return EXIT_CANNOT;
	}
	if (s->config.verbose)
		complain("the machine is shown in namespaces");
	return 0;
}

/* ---- turning into the program -------------------------------------------------------------- */

/* "@base/lib/ARCHITECTURE/uiommu/libuiommu-run.so" */
static bool search_lib(const char *base, char *path, size_t len)
{
	struct dirent *entry;
	bool found = false;
	DIR *list;

	if (snprintf(path, len, "%s/lib", base) >= (int)len)
		return false;
	list = opendir(path);
	while (list && !found && (entry = readdir(list))) {
		if (entry->d_name[0] == '.')
			continue;
		found = snprintf(path, len, "%s/lib/%s/uiommu/libuiommu-run.so", base,
				 entry->d_name) < (int)len &&
			!access(path, R_OK);
	}
	if (list)
		closedir(list);
	return found;
}

/* Beside the executable in @dir, in a build tree or an installed one, wherever that was moved. */
static bool find_beside(const char *dir, char *path, size_t len)
{
	static const char *const places[] = {"run", "lib/uiommu", "lib64/uiommu"};
	char base[PATH_MAX];

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (snprintf(path, len, "%s/../%s/libuiommu-run.so", dir, places[i]) < (int)len &&
		    !access(path, R_OK))
			return true;
	return snprintf(base, sizeof(base), "%s/..", dir) < (int)sizeof(base) &&
	       search_lib(base, path, len);
}

/* Beside this executable, or where it should be installed. */
static int find_library(char *path, size_t len)
{
	const char *chosen = getenv("UIOMMU_RUN_LIBRARY");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (chosen && *chosen) {
		snprintf(path, len, "%s", chosen);
		return access(path, R_OK);
	}
	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash) {
		*slash = '\0';
		if (find_beside(self, path, len))
			return 0;
	}
	snprintf(path, len, "%s", UIOMMU_RUN_LIBRARY);
	return access(path, R_OK);
}

/* The name of a library in @path that must be loaded before any other. */
static bool is_sanitizer(const char *name)
{
	static const char *const names[] = {"libasan.so",   "libtsan.so",  "liblsan.so",
					    "libhwasan.so", "libubsan.so", "libclang_rt."};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return false;
}

/* Append those of @old's libraries that are a sanitizer's (or not) and not ours. */
static int append_preloads(char *value, const char *old, bool sanitizers)
{
	char *list = strdup(old), *save = NULL;

	if (!list)
		return EXIT_CANNOT;
	for (char *p = strtok_r(list, " :", &save); p; p = strtok_r(NULL, " :", &save)) {
		const char *base = strrchr(p, '/');

		base = base ? base + 1 : p;
		if (strcmp(base, "libuiommu-run.so") && is_sanitizer(base) == sanitizers) {
			strcat(value, *value ? ":" : "");
			strcat(value, p);
		}
	}
	free(list);
	return 0;
}

/* Ours first, but for the run-times of sanitizers, and only once: uiommu may run inside uiommu. */
static int set_preload(const char *library)
{
	const char *old = getenv("LD_PRELOAD");
	char *value;
	int ret;

	if (strpbrk(library, " :")) {
		complain("%s: the dynamic linker takes no preloaded library with a space or colon "
			 "in its path",
			 library);
		return EXIT_CANNOT;
	}
	old = old ? old : "";
	value = calloc(1, strlen(library) + strlen(old) + 3);
	if (!value)
		return EXIT_CANNOT;
	ret = append_preloads(value, old, true);
	strcat(value, *value ? ":" : "");
	strcat(value, library);
	if (!ret)
		ret = append_preloads(value, old, false);
	if (!ret && setenv("LD_PRELOAD", value, 1))
		ret = EXIT_CANNOT;
	free(value);
	return ret;
}

/* AddressSanitizer's shared run-time wants to be loaded first, and refuses to start where it finds
 * us before it. */
static int set_asan(void)
{
	static const char option[] = "verify_asan_link_order";
	const char *old = getenv("ASAN_OPTIONS");
	char *value;
	int ret;

	if (old && strstr(old, option))
		return 0;
	if (asprintf(&value, "%s%s%s=0", old ? old : "", old && *old ? ":" : "", option) < 0)
		return EXIT_CANNOT;
	ret = setenv("ASAN_OPTIONS", value, 1) ? EXIT_CANNOT : 0;
	free(value);
	return ret;
}

static int set_variable(struct settings *s)
{
	int len = run_config_format(&s->config, NULL, 0);
	char *text = malloc((size_t)len + 1);
	int ret;

	if (!text)
		return EXIT_CANNOT;
	run_config_format(&s->config, text, (size_t)len + 1);
	ret = setenv(RUN_CONFIG_VARIABLE, text, 1) ? EXIT_CANNOT : 0;
	free(text);
	return ret;
}

static int become(struct settings *s, char **argv, const char *program)
{
	char library[PATH_MAX], real[PATH_MAX];
	int ret;

	if (find_library(library, sizeof(library)) || !realpath(library, real)) {
		complain("cannot find libuiommu-run.so (%s)", library);
		return EXIT_CANNOT;
	}
	s->config.pid = getpid();
	ret = set_preload(real);
	if (!ret && s->asan)
		ret = set_asan();
	if (!ret)
		ret = set_variable(s);
	if (ret)
		return ret;
	execvp(program, argv);
	complain("cannot run %s: %s", argv[0], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

int cmd_run(int argc, char **argv)
{
	struct settings s = {.mode = NAMESPACE_AUTO};
	struct run_tree tree;
	char program[PATH_MAX];
	int code, ret = 0;

	run_config_init(&s.config);
	opterr = 0;
	while (!ret && (code = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		if (code == OPTION_HELP || code == 'h')
			return help();
		ret = take_option(&s, code, argv[optind - 1]);
	}
	if (!ret && optind == argc) {
		complain("which program? See uiommu run --help");
		ret = EXIT_USAGE;
	}
	if (!ret)
		ret = program_check(argv[optind], program, sizeof(program), &s.asan);
	if (!ret)
		ret = describe(&s, &tree);
	if (ret)
		return ret;
	ret = place(&s, &tree);
	run_tree_free(&tree);
	return ret ? ret : become(&s, argv + optind, program);
}
