/* SPDX-License-Identifier: MIT */
/*
 * ask.c - the form of the lines.
 */
#include "ask.h"

#include <stdarg.h>

static char prefix[64];

void section(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(prefix, sizeof(prefix), format, args);
	va_end(args);
}

const char *result_name(int result)
{
	static char names[8][32];
	static unsigned next;
	char *name = names[next++ % 8];
	const char *symbol = result < 0 ? strerrorname_np(-result) : NULL;

	if (symbol)
		snprintf(name, sizeof(names[0]), "%s", symbol);
	else if (result < 0)
		snprintf(name, sizeof(names[0]), "errno %d", -result);
	else
		snprintf(name, sizeof(names[0]), result < 10 ? "%d" : "0x%x", result);
	return name;
}

void answer(int result, const char *question, ...)
{
	char text[160];
	va_list args;

	va_start(args, question);
	vsnprintf(text, sizeof(text), question, args);
	va_end(args);
	printf("%s.%s: %s\n", prefix, text, result_name(result));
}

void say(const char *question, const char *format, ...)
{
	va_list args;

	printf("%s.%s: ", prefix, question);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

void sweep_end(struct sweep *sweep)
{
	const char *one = sweep->hex ? "%s.%s[0x%llx]: %s\n" : "%s.%s[%llu]: %s\n";
	const char *many = sweep->hex ? "%s.%s[0x%llx-0x%llx]: %s\n" : "%s.%s[%llu-%llu]: %s\n";

	if (!sweep->text[0])
		return;
	if (sweep->first == sweep->last)
		printf(one, prefix, sweep->question, (unsigned long long)sweep->first, sweep->text);
	else
		printf(many, prefix, sweep->question, (unsigned long long)sweep->first,
		       (unsigned long long)sweep->last, sweep->text);
	sweep->text[0] = 0;
}

void sweep_add(struct sweep *sweep, uint64_t value, const char *format, ...)
{
	char text[sizeof(sweep->text)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (strcmp(sweep->text, text) || !sweep->text[0]) {
		sweep_end(sweep);
		memcpy(sweep->text, text, sizeof(text));
		sweep->first = value;
	}
	sweep->last = value;
}

int ask(int fd, unsigned long request, void *argument)
{
	int result = ioctl(fd, request, argument);

	return result < 0 ? -errno : result;
}

int open_path(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}
