#!/bin/sh
# SPDX-License-Identifier: MIT
# The command itself: what it says, what it refuses, what it leaves behind.
# Usage: command.sh UIOMMU FAULTS FILES STATIC NAMESPACE
set -u
uiommu=$1 faults=$2 files=$3 static=$4 namespace=$5
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failures=0

fail() {
	echo "FAILED: $*" >&2
	failures=$((failures + 1))
}

# status WANTED COMMAND...: run it, with both outputs in $scratch/out.
status() {
	wanted=$1
	shift
	"$@" >"$scratch/out" 2>&1
	got=$?
	[ "$got" = "$wanted" ] || fail "status $got, not $wanted: $*: $(cat "$scratch/out")"
}

says() {
	grep -q -- "$1" "$scratch/out" || fail "no '$1' in: $(cat "$scratch/out")"
}

run() {
	"$uiommu" run --namespace "$namespace" "$@"
}

# Usage.
status 0 "$uiommu" --help
says 'run an unmodified'
says 'say where a guest'
status 0 "$uiommu" --version
status 2 "$uiommu"
status 2 "$uiommu" nonsense
status 0 "$uiommu" run --help
says 'x86-vtd'
says 'ioat'
status 2 "$uiommu" run
status 2 "$uiommu" run --nonsense true
status 2 "$uiommu" run --namespace maybe true
status 2 "$uiommu" run --iotlb -1 true
status 2 "$uiommu" run --memlock perhaps true
status 2 run --device nonsense true
status 2 run --device nvme,file= true
says 'the name of a file'
status 2 run --platform nonsense true
for platform in none xen fsl-pamu ppc-spapr ppc-spapr,flavour=powernv; do
	status 2 run --platform "$platform" --device virtio-iommu true
	says "needs a platform with page tables: x86-vtd, x86-amd, arm-smmuv3 or riscv, not ${platform%%,*}"
done
status 2 run --device edu@00:01.0 --device ioat@00:01.0 true

status 2 "$uiommu" run --nonsense true
says '^uiommu: unknown option --nonsense'
status 2 "$uiommu" run -x true
says '^uiommu: unknown option -x'
status 2 "$uiommu" run --d true
says '^uiommu: ambiguous option --d'
status 2 "$uiommu" run --stats=1 true
says '^uiommu: --stats: it takes no argument'
status 2 "$uiommu" run --device
says '^uiommu: --device: its argument is missing'
status 2 "$uiommu" run --device -- true
says '^uiommu: --device: its argument is missing'

# Programs that can't be run are told before anything starts.
status 127 run nonsense-of-a-program
status 127 run /nonsense/of/a/program
touch "$scratch/plain"
status 126 run "$scratch/plain"
status 126 run "$scratch"
status 126 run "$static"
says 'statically linked'
printf '#!/nonsense/interpreter\n' >"$scratch/script" && chmod +x "$scratch/script"
status 126 run "$scratch/script"
says 'interpreter'
printf '#!%s\n' "$static" >"$scratch/script"
status 126 run "$scratch/script"
printf '#!/bin/sh\nexit 5\n' >"$scratch/script"
status 5 run "$scratch/script"
if [ "$(id -u)" = 0 ]; then
	cp "$faults" "$scratch/setuid" && chown 1:1 "$scratch/setuid" && chmod 4755 "$scratch/setuid"
	status 126 run "$scratch/setuid"
	says 'set-user-ID'
	chmod 2755 "$scratch/setuid"
	status 126 run "$scratch/setuid"
	says 'set-group-ID'
fi

# Exit status, signals, arguments, standard input are the program's own.
status 3 run sh -c 'exit 3'
status 139 sh -c '"$@"; exit $?' sh "$uiommu" run --namespace "$namespace" "$faults" segv
status 139 sh -c '"$@"; exit $?' sh "$uiommu" run --namespace "$namespace" "$faults" raise
status 135 sh -c '"$@"; exit $?' sh "$uiommu" run --namespace "$namespace" "$faults" bus
status 143 sh -c '"$@"; exit $?' sh "$uiommu" run --namespace "$namespace" sh -c 'kill -TERM $$'
status 0 run -- sh -c '[ "$1" = "a b" ]' sh 'a b'
[ "$(echo hello | run cat)" = hello ] || fail "standard input"
[ "$(run sh -c 'echo $$; exec sh -c "echo \$\$"' | uniq | wc -l)" = 1 ] || fail "process ID"

# Statistics: in children too, once, and without colour where no terminal is.
status 0 run --stats "$faults"
says 'mappings '
says 'ioat'
says 'x outside'
says 'DMA fault: edu'
grep -q "$(printf '\033')" "$scratch/out" && fail "colour without a terminal"
awk 'length > 79' "$scratch/out" | grep -v '^uiommu:' | grep -q . && fail "a line is too long"
[ "$(grep -c '^IOTLB' "$scratch/out")" = 1 ] || fail "statistics more than once"
status 0 run --stats sh -c "'$faults'; true"
says 'ioat'
status 0 run --stats true
says 'did not use VFIO'
if command -v script >/dev/null; then
	TERM=xterm script -qec "'$uiommu' run --namespace $namespace --stats '$faults'" /dev/null \
		</dev/null >"$scratch/out" 2>&1
	grep -q "$(printf '\033')" "$scratch/out" || fail "no colour on a terminal"
	NO_COLOR=1 TERM=xterm script -qec \
		"'$uiommu' run --namespace $namespace --stats '$faults'" /dev/null \
		</dev/null >"$scratch/out" 2>&1
	grep -q "$(printf '\033')" "$scratch/out" && fail "colour in spite of NO_COLOR"
fi

# An installed tree that was moved finds its own library.
for lib in lib lib/x86_64-linux-gnu; do
	rm -rf "$scratch/moved" && mkdir -p "$scratch/moved/bin" "$scratch/moved/$lib/uiommu"
	cp "$uiommu" "$scratch/moved/bin/"
	cp "$(dirname "$uiommu")/../run/libuiommu-run.so" "$scratch/moved/$lib/uiommu/"
	status 0 "$scratch/moved/bin/uiommu" run --namespace "$namespace" sh -c 'echo "$LD_PRELOAD"'
	says "^$scratch/moved/$lib/uiommu/"
done

# pkg-config knows the library.
if command -v pkg-config >/dev/null; then
	status 0 env PKG_CONFIG_PATH="$(dirname "$uiommu")/../../meson-private" \
		pkg-config --libs libuiommu
	says '-luiommu'
fi

# Sanitizers: their run-times go first, and have nothing to say of us.
LD_PRELOAD="libm.so.6 libasan.so.999" status 0 run sh -c 'echo "$LD_PRELOAD"'
says '^libasan.so.999:.*/libuiommu-run.so:libm.so.6$'
cat >"$scratch/empty.c" <<END
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void)
{
	int fd = open("/dev/vfio/vfio", O_RDWR);
	char *options = getenv("ASAN_OPTIONS");

	puts(options ? options : "");
	return fd < 0 || close(fd);
}
END
if cc -fsanitize=address -o "$scratch/empty" "$scratch/empty.c" 2>/dev/null; then
	status 0 env ASAN_OPTIONS=color=never "$uiommu" run --namespace "$namespace" "$scratch/empty"
	says '^color=never:verify_asan_link_order=0$'
	grep -q 'LeakSanitizer' "$scratch/out" && fail "a leak: $(cat "$scratch/out")"
fi

# No call of mount() without a type.
cat >"$scratch/mount.c" <<END
#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>
int mount(const char *from, const char *to, const char *type, unsigned long flags, const void *data)
{
	if (!type) {
		errno = ENOTBLK;
		return -1;
	}
	return (int)syscall(SYS_mount, from, to, type, flags, data);
}
END
if cc -shared -fPIC -o "$scratch/mount.so" "$scratch/mount.c" 2>/dev/null; then
	LD_PRELOAD="$scratch/mount.so" "$uiommu" run --explain true >"$scratch/out" 2>&1
	grep -q 'Block device required' "$scratch/out" && fail "mount() without a type"
fi

# Reasons.
status 0 run --explain "$files"
says 'refused'

# Inside itself, and two at once.
status 0 run "$uiommu" run --namespace "$namespace" "$faults"
"$uiommu" run --namespace "$namespace" "$files" >"$scratch/one" 2>&1 &
one=$!
status 0 run "$files"
wait $one || fail "two at once: $(cat "$scratch/one")"

# Where namespaces are forbidden: said, and done without.
forbid='echo 0 >/proc/sys/user/max_user_namespaces && echo 0 >/proc/sys/user/max_mnt_namespaces'
if unshare -Ur sh -c "$forbid" 2>/dev/null; then
	status 0 unshare -Ur sh -c "$forbid; '$uiommu' run --verbose '$faults'"
	says 'no namespaces'
	status 125 unshare -Ur sh -c "$forbid; '$uiommu' run --namespace yes '$faults'"
	says 'no namespaces'
fi

# Killed while it starts.
remains() {
	for place in /dev/shm "${TMPDIR:-/tmp}" /tmp /var/tmp; do
		for pid in $pids; do
			ls -d "$place/uiommu-$pid-"* 2>/dev/null
		done
	done
}
if [ "$namespace" = no ]; then
	pids=
	for i in $(seq 40); do
		"$uiommu" run --namespace no -- true &
		pid=$!
		pids="$pids $pid"
		sleep 0.00$((i % 7 + 1))
		kill -KILL $pid 2>/dev/null
		wait $pid 2>/dev/null
	done
	# And surely while the files are written.
	cat >"$scratch/killed.c" <<END
#include <signal.h>
int symlink(const char *target, const char *path)
{
	return raise(SIGKILL);
}
END
	if cc -shared -fPIC -o "$scratch/killed.so" "$scratch/killed.c" 2>/dev/null; then
		LD_PRELOAD="$scratch/killed.so" "$uiommu" run --namespace no true &
		pid=$!
		pids="$pids $pid"
		wait $pid 2>/dev/null
		[ $? = 137 ] || fail "it was not killed while it wrote the files"
	fi
	tries=0
	while [ -n "$(remains)" ] && [ $tries -lt 100 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
	[ -z "$(remains)" ] || fail "left behind: $(remains)"
fi

# Nothing is left behind, not even after SIGKILL.
mkfifo "$scratch/started"
"$uiommu" run --verbose --namespace "$namespace" sh -c \
	"echo >'$scratch/started'; exec sleep 1000" >"$scratch/out" 2>&1 &
victim=$!
read -r _ <"$scratch/started"
tree=$(sed -n "s/.*machine's files are in //p" "$scratch/out")
if [ "$namespace" = no ]; then
	[ -d "$tree/sys" ] || fail "where is the tree?"
fi
kill -KILL $victim
wait $victim 2>/dev/null
tries=0
while [ -n "$tree" ] && [ -e "$tree" ] && [ $tries -lt 100 ]; do
	tries=$((tries + 1))
	sleep 0.1
done
[ -n "$tree" ] && [ -e "$tree" ] && fail "left behind: $tree"

[ $failures = 0 ]
