/* SPDX-License-Identifier: MIT */
/*
 * init - the only process of the guest that questions are recorded in: mounts what they look at,
 * binds the devices to vfio-pci, asks, and turns the machine off. The devices are the kernel
 * parameters `ask=ADDRESS[,ADDRESS]`. Lines between "questions begin" and "questions end" are the
 * answers.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(path);
	if (fd >= 0)
		close(fd);
}

static void mount_at(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL))
		perror(dir);
}

/* As an administrator would: name the driver, take the device from another, look for one again. */
static void bind_device(const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", address);
	write_file(path, "vfio-pci");
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", address);
	if (!access(path, W_OK))
		write_file(path, address);
	write_file("/sys/bus/pci/drivers_probe", address);
}

static void run_questions(char **argv)
{
	int status = 0;
	pid_t child = fork();

	if (!child) {
		execv(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		perror("init");
	printf("questions end %d\n", status);
}

int main(void)
{
	struct utsname name;
	char line[1024], *devices, *argv[] = {"/questions", NULL, NULL, NULL};
	FILE *file;
	int i;

	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");
	setvbuf(stdout, NULL, _IOLBF, 0);
	file = fopen("/proc/cmdline", "r");
	if (file && fgets(line, sizeof(line), file) && (devices = strstr(line, "ask="))) {
		argv[1] = strtok(devices + 4, ", \n");
		argv[2] = devices[4 + strlen(argv[1])] == 0 ? strtok(NULL, " \n") : NULL;
	}
	for (i = 1; i < 3 && argv[i]; i++)
		bind_device(argv[i]);
	if (!uname(&name))
		printf("questions kernel %s %s %s\n", name.sysname, name.release, name.machine);
	puts("questions begin");
	run_questions(argv);
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
