#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Demand of uiommu what a real kernel answered.

  replay.py GOLDEN DIFFERENCES COMMAND...

COMMAND prints the lines of test/abi/questions; GOLDEN holds those that a kernel printed (scripts/guest).
Every question must have the same answer, but for those in DIFFERENCES, whose lines are

  VARIANTS | QUESTION | the kernel's answer | ours | why

VARIANTS are names of golden files without .txt, separated by spaces; * in any of the first four stands for
anything, a VARIANT with ! before it takes one out again, - as an answer means that the question was not asked.
A difference that is not listed fails, and so does a line that nothing differs by any more.
"""
import re
import subprocess
import sys
from pathlib import Path


def matches(pattern, text):
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.S) is not None


class Difference:
    def __init__(self, line):
        columns = [column.strip() for column in line.split("|", 4)]
        if len(columns) != 5 or not all(columns):
            sys.exit(f"replay: not five columns: {line}")
        self.variants, self.question, self.kernel, self.ours, self.why = columns
        self.used = False

    def is_for(self, variant):
        result = False
        for pattern in self.variants.split():
            if matches(pattern.removeprefix("!"), variant):
                result = not pattern.startswith("!")
        return result

    def covers(self, question, kernel, ours):
        return matches(self.question, question) and matches(self.kernel, kernel) and matches(self.ours, ours)


def expand(question):
    """name[3-5] stands for name[3], name[4] and name[5]."""
    found = re.fullmatch(r"(.*)\[(0x|)([0-9a-f]+)(?:-(?:0x|)([0-9a-f]+))?\]", question)
    if not found:
        return [question]
    name, prefix, first, last = found.groups()
    base = 16 if prefix else 10
    values = range(int(first, base), int(last or first, base) + 1)
    return [f"{name}[{value:#x}]" if prefix else f"{name}[{value}]" for value in values]


def read_lines(text):
    """The answers to each question, one after another where there are several."""
    answers = {}
    for line in text.splitlines():
        if line.startswith("#") or ": " not in line:
            continue
        question, answer = line.split(": ", 1)
        for name in expand(question):
            answers[name] = f"{answers[name]}; {answer}" if name in answers else answer
    return answers


def main():
    golden = Path(sys.argv[1])
    differences = [
        Difference(line)
        for line in Path(sys.argv[2]).read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    differences = [difference for difference in differences if difference.is_for(golden.stem)]
    run = subprocess.run(sys.argv[3:], stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        sys.exit(f"replay: the questions ended with {run.returncode}")
    kernel, ours = read_lines(golden.read_text()), read_lines(run.stdout)
    same = meant = bad = 0
    for question in dict.fromkeys([*kernel, *ours]):
        theirs, mine = kernel.get(question, "-"), ours.get(question, "-")
        if theirs == mine:
            same += 1
            continue
        listed = [difference for difference in differences if difference.covers(question, theirs, mine)]
        for difference in listed:
            difference.used = True
        if listed:
            meant += 1
        else:
            bad += 1
            print(f"{question}: the kernel answers {theirs}, uiommu {mine}")
    gone = [difference for difference in differences if not difference.used]
    for difference in gone:
        print(f"listed, but nothing differs: {difference.question} | {difference.kernel} | {difference.ours}")
    print(f"{golden.stem}: {same} answers are the same, {meant} differ on purpose, {bad} differ")
    return 1 if bad or gone or not same else 0


if __name__ == "__main__":
    sys.exit(main())
