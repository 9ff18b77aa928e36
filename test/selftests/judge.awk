#!/usr/bin/awk -f
# SPDX-License-Identifier: MIT
# judge.awk - a log of the kernel's selftests (TAP), against the list of those that are expected to fail.
#
#   awk -f judge.awk [-v part=1] EXPECTED LOG        part: not all tests were asked for, those missing don't matter
#
# Prints who failed and who should have, and "N passed, N failed, N skipped, of N". Exit status 0 if all ran to
# their end and those that failed are the expected ones.

FILENAME == ARGV[1] {
	if ($0 !~ /^#/ && NF)
		expected[$1] = 1
	next
}

/^1\.\.[0-9]+/ {
	planned = substr($0, 4) + 0
}

/^ok [0-9]+ / {
	if (/ # SKIP/)
		skipped++
	else
		passed++
	if ($3 in expected) {
		print "expected to fail, and didn't: " $3
		wrong++
	}
	seen[$3] = 1
}

/^not ok [0-9]+ / {
	failed++
	print "failed" ($4 in expected ? ", as expected: " : ": ") $4
	wrong += !($4 in expected)
	seen[$4] = 1
}

END {
	lost = planned - passed - failed - skipped
	if (lost)
		print "not run to their end: " lost
	for (name in expected)
		if (!part && !(name in seen)) {
			print "expected to fail, and not there: " name
			wrong++
		}
	printf "%d passed, %d failed, %d skipped, of %d\n", passed, failed, skipped, planned
	exit !(passed && !wrong && !lost)
}
