# SPDX-License-Identifier: Apache-2.0
"""The tables, and the budgets (design, section 13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sizes import Sizes

MIB = 1 << 20
KDF_BYTES = 64 * MIB
HEADER_BYTES = 16 * MIB
# What the resource manager on /dev/tpmrm0 adds around each command.
SWAPS = ("ContextSave", "ContextLoad", "FlushContext")
# The same limits as in the layer-2 case about a tebibyte.
WRITTEN_MAX_MIB = {"btrfs": 192, "xfs": 320, "ext4": 512}

Record = dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """A number and its limit."""

    what: str
    value: float
    limit: float
    unit: str
    # Times depend on the machine and its load, so they are told and do not fail the run.
    is_count: bool = True

    @property
    def met(self) -> bool:
        """Whether the number is within the limit."""
        return self.value <= self.limit

    def __str__(self) -> str:
        """One line, which ends with the verdict."""
        digits = 0 if self.unit == "commands" else 2
        shown = f"{self.value:.{digits}f} {self.unit}"
        missed = f"missed by {self.value - self.limit:.{digits}f} {self.unit}"
        verdict = "met" if self.met else missed
        return f"  {self.what:52} {shown:>12}  of {self.limit:<4g} {verdict}"


def show(records: list[Record], sizes: Sizes) -> bool:
    """Prints everything; false if a count is over its budget."""
    budgets = [
        *provisioning(records),
        *unlocking(records),
        *memory(records),
        *initrd(sizes),
    ]
    print("\nbudgets")
    print(*budgets, sep="\n")
    return all(budget.met for budget in budgets if budget.is_count)


def provisioning(records: list[Record]) -> list[Budget]:
    """First boots: time and bytes by size, against the stock way with its wipe."""
    runs = [record for record in records if record["kind"] == "provision"]
    rows = [["", "disk", "seconds", "of which key", "open+mkfs", "mount", "written"]]
    seconds, written = {}, {}
    for kind, gib in dict.fromkeys((run["file_system"], run["gib"]) for run in runs):
        these = [run for run in runs if (run["file_system"], run["gib"]) == (kind, gib)]
        seconds[kind, gib] = median(run["seconds"] for run in these)
        written[kind, gib] = max(run["bytes"] for run in these) / MIB
        row = [f"nightlatch, {kind}", f"{gib} GiB", f"{seconds[kind, gib]:.2f}"]
        row += [f"{steps(these)[name] / 1e3:.2f}" for name in ("keying", "opening", "handing over")]
        rows.append([*row, f"{written[kind, gib]:.0f} MiB"])
    stock = {run["wipe"]: run for run in records if run["kind"] == "cryptsetup"}
    for wipe, run in stock.items():
        name = "cryptsetup luksFormat" + ("" if wipe else ", no wipe")
        size, length = f"{run['gib']} GiB", f"{run['bytes'] / MIB:.0f} MiB"
        rows.append([name, size, f"{run['seconds']:.2f}", "", "", "", length])
    count = len([run for run in runs if run["gib"] == 4 and run["file_system"] == "btrfs"])
    print(f"\nprovisioning a blank disk (btrfs: median of {count}; most bytes written)")
    table(rows)
    slope = (stock[True]["seconds"] - stock[False]["seconds"]) / stock[True]["gib"]
    hours = slope * 1024 / 3600
    print(f"  the wipe takes {slope:.1f} s per GiB; extrapolated to 1 TiB: {hours:.1f} h")
    ratio = seconds["btrfs", 1024] / seconds["btrfs", 4]
    return [
        Budget("provisioning 1 TiB : 4 GiB, btrfs", ratio, 1.2, "x", is_count=False),
        *(
            Budget(f"written to provision 1 TiB, {kind}", written[kind, 1024], limit, "MiB")
            for kind, limit in WRITTEN_MAX_MIB.items()
        ),
    ]


def unlocking(records: list[Record]) -> list[Budget]:
    """The same volumes opened by systemd and by us in turns, with the TPM commands of each."""
    runs = [run for run in records if run["kind"] == "unlock"]
    rows = [["", "anchor", "volumes", "runs", "median ms", "least", "TPM commands", "without swaps"]]
    budgets, details = [], []
    for level, volumes in dict.fromkeys((run["level"], run["volumes"]) for run in runs):
        times = {}
        for who in ("nightlatch", "systemd-cryptsetup"):
            group = (who, level, volumes)
            these = [run for run in runs if (run["who"], run["level"], run["volumes"]) == group]
            lists = [run["commands"] for run in these]
            timed = [run for run in these if not run["warm_up"]]
            times[who] = [run["seconds"] * 1e3 for run in timed]
            anchor = level if who == "nightlatch" else ""
            rows.append(
                [who, anchor, str(volumes), str(len(timed)), f"{median(times[who]):.0f}"]
                + [f"{min(times[who]):.0f}", span([len(commands) for commands in lists])]
                + [span([len([c for c in commands if c not in SWAPS]) for commands in lists])]
            )
            details.append(f"  {who}, {anchor or 'no anchor'}, {volumes}: {breakdown(lists[-1])}")
            if who == "nightlatch":
                details.append(f"    milliseconds: {breakdown(steps(timed))}")
                most = max(len(commands) for commands in lists)
                name = f"TPM commands, {plural(volumes)}, anchor {level}"
                budgets.append(Budget(name, most, 25 + 8 * (volumes - 1), "commands"))
                spread = most - min(len(commands) for commands in lists)
                budgets.append(Budget(f"{name}: most less fewest", spread, 0, "commands"))
        # Of neighbours, because the machine is not equally fast all the time.
        ratio = median(ours / its for ours, its in zip(*times.values(), strict=True))
        name = f"unlock time against systemd, {plural(volumes)}, {level}"
        budgets.append(Budget(name, ratio, 1.0, "x", is_count=False))
    [mac] = [record["microseconds"] for record in records if record["kind"] == "mac"]
    print("\nunlocking with the TPM, in turns, each run a new process (the first pair warms up)")
    table(rows)
    print(*details, sep="\n")
    print(f"  authenticating the header at any level: {mac:.0f} us, HMAC over its area and two HKDFs")
    return budgets


def memory(records: list[Record]) -> list[Budget]:
    """The most that ours had in memory: its own pages and its header copies, which are files."""
    rows = [["", "volumes", "own pages", "header files", "allowed: KDF", "header", "beyond those"]]
    budgets = []
    unlocks = [run for run in records if run.get("who") == "nightlatch"]
    groups = [("unlocking", n, [r for r in unlocks if r["volumes"] == n]) for n in (1, 2)]
    groups.append(("provisioning", 1, [run for run in records if run["kind"] == "provision"]))
    for what, volumes, runs in groups:
        own = max(run["report"]["peak_bytes"] for run in runs)
        files = max(run["report"]["header_copies_bytes"] for run in runs)
        kdf = 0
        if what == "provisioning":
            # libcryptsetup fills the whole area with random bytes, and it is there while Argon2 runs.
            files, kdf = volumes * HEADER_BYTES, KDF_BYTES
        # No more than there is: nothing reads a whole area into memory to unlock.
        header = files
        beyond = own + files - kdf - header
        shown = [f"{length / MIB:.1f} MiB" for length in (own, files, kdf, header, beyond)]
        rows.append([what, str(volumes), *shown])
        name = f"memory beyond KDF and header copy, {what} {plural(volumes)}"
        budgets.append(Budget(name, beyond / MIB, 16, "MiB"))
    print("\npeak memory of the process (VmHWM, locked as in the boot) and its header files")
    table(rows)
    return budgets


def initrd(sizes: Sizes) -> list[Budget]:
    """What is added to an initrd that has systemd and cryptsetup."""
    rows = [["", "KiB"], ["nightlatch, stripped", f"{sizes.program / 1024:.0f}"]]
    for name, length in {**sizes.libraries, **sizes.mkfs}.items():
        note = ", to format only" if name in sizes.mkfs else ""
        rows.append([name + note, f"{length / 1024:.0f}"])
    rows.append(["compressed: program and libraries", f"{sizes.added / 1024:.0f}"])
    rows.append(["compressed: with what formats too", f"{sizes.added_with_mkfs / 1024:.0f}"])
    print("\nadded to an initrd with systemd and cryptsetup (zstd -19)")
    table(rows)
    return [
        Budget("the program, stripped", sizes.program / MIB, 4, "MiB"),
        Budget("added initrd, compressed", sizes.added / MIB, 6, "MiB"),
        Budget("added initrd with mkfs.btrfs, compressed", sizes.added_with_mkfs / MIB, 6, "MiB"),
    ]


def steps(runs: Sequence[Record]) -> dict[str, float]:
    """The median of each step, in milliseconds."""
    names = runs[0]["report"]["steps"]
    return {name: median(run["report"]["steps"][name] for run in runs) for name in names}


def breakdown(what: Sequence[str] | dict[str, float]) -> str:
    """Names with numbers, the largest first."""
    pairs = what.items() if isinstance(what, dict) else Counter(what).items()
    ordered = sorted(pairs, key=lambda pair: -pair[1])
    return ", ".join(f"{name} {number:.0f}" for name, number in ordered)


def plural(volumes: int) -> str:
    """The number and the word."""
    return f"{volumes} volume" + ("s" if volumes > 1 else "")


def span(numbers: Sequence[int]) -> str:
    """One number where all are the same."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def table(rows: list[list[str]]) -> None:
    """Columns; the first is text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        print("  " + "  ".join([f"{first:{widths[0]}}", *cells]))
