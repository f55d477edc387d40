# SPDX-License-Identifier: Apache-2.0
"""Each command block of the texts says where it is run, and is: see tests/README.md."""

from __future__ import annotations

import unittest

import docs_steps
import texts

# The texts' own blocks that nobody runs, and those in which a KMS of a cloud is set up by that cloud's program.
NOT_RUN_AT_MOST = 5 + 3
RUN = ("a.md#one/1", "a.md#one/2")
GOOD = """\
# One
```sh clone
cd there
make
```
```toml
# No heading
key = 1
```
```sh service
start \\
    it   # soon
```
## Two
```sh not run: it takes the cloud of somebody
away
```
"""
OTHER = """\
# Other
```sh see a.md
make
start \\
    it
```
"""


def wrong(pages: dict[str, str], not_run_at_most: int = 1) -> list[str]:
    """What is wrong with these pages, whose first two blocks are run."""
    return texts.complaints(pages, RUN, not_run_at_most)


class Texts(unittest.TestCase):
    """The words behind `sh`."""

    def test_every_block_of_the_texts_is_run_or_says_why_not(self) -> None:
        """All pages, and what tests/docs runs."""
        planned = [step.block for step in docs_steps.STEPS]
        self.assertEqual(texts.complaints(texts.pages(), [*planned, *docs_steps.OPEN], NOT_RUN_AT_MOST), [])
        self.assertEqual(set(planned) & set(docs_steps.OPEN), set())
        self.assertGreater(len(set(planned)), 12)

    def test_good_pages_are_accepted(self) -> None:
        """The control of the others."""
        self.assertEqual(wrong({"a.md": GOOD, "b.md": OTHER}), [])

    def test_a_block_without_a_word_or_with_an_unknown_one_is_found(self) -> None:
        """And one in another language, by which it would not be looked at."""
        for old, new in (
            ("sh clone", "sh"),
            ("sh clone", "sh somewhere"),
            ("sh clone", "sh not run"),
            ("sh clone", "sh not run: so"),
            ("sh clone", "bash"),
            ("toml", ""),
            ("sh clone", "sh image"),
        ):
            pages = {"a.md": GOOD.replace(old, new, 1)}
            self.assertEqual(bool(wrong(pages)), new != "sh image", new)

    def test_a_block_that_is_said_to_run_and_is_not_is_found_and_the_other_way_round(self) -> None:
        """As where a block was added, taken out, or moved below another heading."""
        self.assertTrue(wrong({"a.md": GOOD + "```sh clone\nmore\n```\n"}))
        self.assertTrue(wrong({"a.md": GOOD.replace("sh service", "sh not run: it takes a whole day", 1)}, 2))
        self.assertTrue(wrong({"a.md": GOOD.replace("# One", "# Three")}))

    def test_too_many_that_are_not_run_are_found(self) -> None:
        """However good the reasons are."""
        self.assertTrue(wrong({"a.md": GOOD}, 0))

    def test_a_block_that_another_page_has_says_the_same(self) -> None:
        """Line by line and in the same order; what is said behind a line does not count."""
        self.assertTrue(wrong({"a.md": GOOD, "b.md": OTHER.replace("make", "make all")}))
        self.assertTrue(wrong({"a.md": GOOD, "b.md": OTHER.replace("start \\\n    it\n", "start \\\n    it\ncd there\n")}))
        self.assertTrue(wrong({"a.md": GOOD, "b.md": OTHER.replace("see a.md", "see c.md")}))

    def test_a_block_without_an_end_is_no_page(self) -> None:
        """It would hide all that follows."""
        with self.assertRaises(ValueError):
            texts.commands({"a.md": GOOD + "```sh clone\n"})


if __name__ == "__main__":
    unittest.main()
