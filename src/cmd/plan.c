#include "cmd/cmd.h"
int cmd_plan(int argc, char **argv)
{
	return 0;
}
