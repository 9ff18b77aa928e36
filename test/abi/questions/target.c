/* SPDX-License-Identifier: MIT */
/*
 * target.c - find the device, its group and its node, and ask what sysfs and the nodes say of them.
 */
#include "ask.h"

#include <dirent.h>
#include <sys/sysmacros.h>

static void find_group(struct target *target)
{
	char path[128], link[256];
	const char *number;
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", target->address);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		return;
	link[length] = 0;
	number = strrchr(link, '/');
	number = number ? number + 1 : link;
	snprintf(target->group_dir, sizeof(target->group_dir), "/sys/kernel/iommu_groups/%.16s",
		 number);
	snprintf(target->group_node, sizeof(target->group_node), "/dev/vfio/%.16s", number);
	if (access(target->group_node, F_OK))
		snprintf(target->group_node, sizeof(target->group_node), "/dev/vfio/noiommu-%.16s",
			 number);
	if (access(target->group_node, F_OK))
		target->group_node[0] = 0;
}

static void find_node(struct target *target)
{
	char path[96];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", target->address);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (strncmp(entry->d_name, "vfio", 4))
			continue;
		snprintf(target->node_dir, sizeof(target->node_dir), "%s/%.16s", path,
			 entry->d_name);
		snprintf(target->node, sizeof(target->node), "/dev/vfio/devices/%.16s",
			 entry->d_name);
	}
	closedir(dir);
	if (access(target->node, F_OK))
		target->node[0] = 0;
}

static void find_reserved(struct target *target)
{
	unsigned long long first, last;
	char path[160], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/reserved_regions", target->group_dir);
	file = fopen(path, "r");
	if (!file)
		return;
	while (fgets(line, sizeof(line), file) && target->reserved_count < 16)
		if (sscanf(line, "%llx %llx", &first, &last) == 2)
			target->reserved[target->reserved_count++] = (struct region){first, last};
	fclose(file);
}

bool find_target(struct target *target, const char *address)
{
	char path[64];

	memset(target, 0, sizeof(*target));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.15s", address);
	if (access(path, F_OK))
		return false;
	snprintf(target->address, sizeof(target->address), "%s", address);
	find_group(target);
	find_node(target);
	find_reserved(target);
	return true;
}

/* Each line of a file of sysfs. */
static void say_file(const char *question, const char *dir, const char *name)
{
	char path[224], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "r");
	if (!file) {
		answer(-errno, "%s", question);
		return;
	}
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		say(question, "%s", line);
	}
	fclose(file);
}

static unsigned count_entries(const char *dir, const char *name)
{
	char path[160];
	struct dirent *entry;
	unsigned count = 0;
	DIR *stream;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	stream = opendir(path);
	if (!stream)
		return 0;
	while ((entry = readdir(stream)))
		count += entry->d_name[0] != '.';
	closedir(stream);
	return count;
}

static void say_node(const char *question, const char *path)
{
	struct stat status;

	if (!path[0])
		say(question, "none");
	else if (stat(path, &status))
		answer(-errno, "%s", question);
	else
		say(question, "%s %03o", S_ISCHR(status.st_mode) ? "character device" : "other",
		    (unsigned)status.st_mode & 0777);
}

/* Does the node have the number that its directory in sysfs says? */
static void say_number(const char *question, const char *node, const char *dir)
{
	char path[160], text[32] = "";
	unsigned major_number, minor_number;
	struct stat status;
	FILE *file;

	snprintf(path, sizeof(path), "%s/dev", dir);
	file = fopen(path, "r");
	if (!file || !fgets(text, sizeof(text), file) ||
	    sscanf(text, "%u:%u", &major_number, &minor_number) != 2 || stat(node, &status))
		say(question, "unknown");
	else
		say(question, "%s",
		    status.st_rdev == makedev(major_number, minor_number) ? "as in sysfs"
									  : "another");
	if (file)
		fclose(file);
}

static void ask_target(const struct target *target)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", target->address);
	say_file("vendor", path, "vendor");
	say_file("device", path, "device");
	say_file("class", path, "class");
	say("group", target->group_dir[0] ? "yes" : "no");
	say_node("group-node", target->group_node);
	say_node("node", target->node);
	if (target->node[0])
		say_number("node.number", target->node, target->node_dir);
	if (!target->group_dir[0])
		return;
	say_file("group.type", target->group_dir, "type");
	say_file("group.reserved", target->group_dir, "reserved_regions");
	say("group.devices", "%u", count_entries(target->group_dir, "devices"));
}

void ask_sysfs(const struct machine *machine)
{
	section("sysfs");
	say_node("container", "/dev/vfio/vfio");
	say_node("iommufd", "/dev/iommu");
	section("sysfs.device");
	ask_target(&machine->device);
	if (!machine->other.address[0])
		return;
	section("sysfs.other");
	ask_target(&machine->other);
	say("group.own", "%s",
	    strcmp(machine->device.group_dir, machine->other.group_dir) ? "yes" : "no");
}
