# SPDX-License-Identifier: Apache-2.0
"""The command blocks of the texts, and what each says of itself: tests/README.md has the words.

Behind `sh` stands the machine that a block is for, another page that has the same commands, or why nobody runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paths import PROJECT

# The machines: with a clone, where images are built by the packages, where the key service runs, a node that has booted.
MACHINES = ("clone", "image", "service", "node")
NOT_RUN = "not run:"
SAME = "see "
# What else stands between fences: no commands.
OTHERS = ("text", "toml", "ini", "json", "xml")
FENCE = "```"
# A reason is a sentence's worth.
REASON_WORDS = 4


@dataclass(frozen=True)
class Block:
    """Commands as a page has them."""

    page: str
    # Of the heading above, as links have it; and which of the section's blocks it is, from 1.
    section: str
    number: int
    # What stands behind `sh`.
    mark: str
    text: str

    @property
    def name(self) -> str:
        """`operate.md#certificates/1`."""
        return f"{self.page}#{self.section}/{self.number}"

    @property
    def machine(self) -> str | None:
        """The machine that it is run on."""
        return self.mark if self.mark in MACHINES else None

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        return self.mark.removeprefix(NOT_RUN).strip() if self.mark.startswith(NOT_RUN) else None

    @property
    def other(self) -> str | None:
        """The page whose commands these are."""
        return self.mark.removeprefix(SAME) if self.mark.startswith(SAME) else None

    @property
    def commands(self) -> list[str]:
        """Its lines, without what is said behind them."""
        lines = (re.sub(r"\s+# .*", "", line).rstrip() for line in self.text.splitlines())
        return [line for line in lines if line]


def pages() -> dict[str, str]:
    """All pages for readers, by their files' names, of which no two are the same."""
    found = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "units/doc").glob("*.md"))]
    return {path.name: path.read_text(encoding="utf-8") for path in found}


def slug(heading: str) -> str:
    """The anchor of a heading."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def fenced(page: str, text: str, language: str) -> list[Block]:
    """The blocks of one language in a page."""
    found: list[Block] = []
    section, opened, lines = "", None, []
    for line in text.splitlines():
        if not line.startswith(FENCE):
            lines.append(line)
            if opened is None and line.startswith("#"):
                section = slug(line.lstrip("#").strip())
            continue
        if opened is None:
            opened, lines = line.removeprefix(FENCE), []
            continue
        word, _, mark = opened.partition(" ")
        if word == language:
            number = 1 + sum(block.section == section for block in found)
            found.append(Block(page, section, number, mark.strip(), "".join(f"{one}\n" for one in lines)))
        opened = None
    if opened is not None:
        raise ValueError(f"{page}: a block under {section} has no end")
    return found


def commands(every: Mapping[str, str]) -> list[Block]:
    """All command blocks of these pages."""
    return [block for page, text in every.items() for block in fenced(page, text, "sh")]


def called(name: str, language: str = "sh") -> Block:
    """The block of that name."""
    page = name.partition("#")[0]
    [found] = [block for block in fenced(page, pages()[page], language) if block.name == name]
    return found


def languages(text: str) -> set[str]:
    """The first words behind the fences that open."""
    fences = [line.removeprefix(FENCE) for line in text.splitlines() if line.startswith(FENCE)]
    return {words.split(" ")[0] for words in fences[::2]}


def complaints(every: Mapping[str, str], planned: Iterable[str], not_run_at_most: int) -> list[str]:
    """What is wrong with the blocks of these pages, where the ones called so are run."""
    blocks = commands(every)
    names, planned = [block.name for block in blocks], list(planned)
    found = [
        f"{page}: a block of {word or 'no language'}: expected sh, or one of {', '.join(OTHERS)}"
        for page, text in every.items()
        for word in sorted(languages(text) - {"sh", *OTHERS})
    ]
    for block in blocks:
        if block.machine:
            if block.name not in planned:
                found.append(f"{block.name}: is said to run on the machine {block.machine!r}, and does not")
        elif block.reason is not None:
            if len(block.reason.split()) < REASON_WORDS:
                found.append(f"{block.name}: does not say why it is not run")
        elif block.other:
            found += strange(block, [one for one in blocks if one.page == block.other and one.machine])
        else:
            found.append(f"{block.name}: does not say where it is run: expected {', '.join(MACHINES)}, "
                         f"{SAME}PAGE or {NOT_RUN} and a reason behind sh, found {block.mark!r}")
    found += [f"{name}: is to be run, and there is none that says so" for name in planned
              if name not in names or not blocks[names.index(name)].machine]
    left_out = [block.name for block in blocks if block.reason is not None]
    if len(left_out) > not_run_at_most:
        found.append(f"{len(left_out)} blocks are not run, and {not_run_at_most} may be: {', '.join(left_out)}")
    return found


def strange(block: Block, others: Iterable[Block]) -> list[str]:
    """The commands of a block that are not, in this order, among those of the others."""
    there = iter([line for other in others for line in other.commands])
    return [f"{block.name}: {block.other} does not have, in this order: {line}" for line in block.commands
            if line not in there]
