# SPDX-License-Identifier: Apache-2.0
"""What a run takes of the rest, and that the list of scenarios is whole."""

from __future__ import annotations

import contextlib
import io
import unittest
from functools import cache

import paths
import planner
import run
import scenarios
import tree
from planner import SLICES_AT_MOST, Line

LISTING = [
    "100644 aaaa 0\tsrc/a.rs",
    "100644 bbbb 0\tsrc/service/b.rs",
    "100644 cccc 0\tsrc/service/tests/c.rs",
    f"100644 dddd 0\t{planner.TABLE}",
]

# The tree does not change while these tests run.
listing = cache(tree.listing)


def table(*lines: tuple[str, str, int, float]) -> dict[str, Line]:
    """A table of these names, digests, landings and seconds."""
    return {name: Line(name, ("src",), digest, landing, seconds) for name, digest, landing, seconds in lines}


class Table(unittest.TestCase):
    """The file."""

    def test_a_table_is_read_as_it_was_written_and_a_broken_one_is_not(self) -> None:
        """In the order of names."""
        made = table(("b", "00", 3, 10), ("a", "ff", 2, 20))
        text = planner.written(made)
        self.assertEqual(planner.parsed(text), made)
        self.assertEqual([line.split("\t")[0] for line in text.splitlines() if line[0] != "#"], ["a", "b"])
        for bad in ("a\tsrc\t00\t1", "a\tsrc\t00\tone\t5", "a src 00 1 5"):
            with self.assertRaises(ValueError):
                planner.parsed(bad)

    def test_a_run_changes_the_lines_of_what_passed_and_no_others(self) -> None:
        """And drops those of scenarios that are no more."""
        before = table(("a", "00", 1, 10), ("b", "00", 1, 10), ("gone", "00", 1, 10))
        after = planner.with_passed(before, table(("a", "ff", 2, 11)).values(), ["a", "b"])
        self.assertEqual(after, {**table(("a", "ff", 2, 11)), "b": before["b"]})

    def test_what_is_too_far_behind_is_found(self) -> None:
        """The control is a number at the limit."""
        top = SLICES_AT_MOST + 1
        self.assertEqual(planner.behind(table(("a", "", top, 1), ("b", "", 1, 1))), [])
        self.assertEqual(planner.behind(table(("a", "", top + 1, 1), ("b", "", 1, 1))), ["b"])


class Digests(unittest.TestCase):
    """What a scenario depends on."""

    def test_paths_are_files_directories_and_patterns_and_can_be_taken_out(self) -> None:
        """The table itself never belongs: it changes with each run."""
        for entries, expected in [
            (["src"], [0, 1, 2]),
            (["src", "-src/service"], [0]),
            (["src", "-src/*/tests/*"], [0, 1]),
            (["src/a.rs"], [0]),
            (["src/a"], []),
            (["."], [0, 1, 2]),
        ]:
            names = [line.split("\t")[1] for line in LISTING]
            found = [number for number, name in enumerate(names) if planner.belongs(name, entries)]
            self.assertEqual(found, expected, entries)

    def test_a_digest_changes_with_what_belongs_and_with_nothing_else(self) -> None:
        """Content, name and mode, of these files only."""
        before = planner.digest(LISTING, ["src", "-src/service"])
        other = [line.replace("bbbb", "eeee") for line in LISTING]
        self.assertEqual(planner.digest(other, ["src", "-src/service"]), before)
        for old, new in (("aaaa", "eeee"), ("a.rs", "z.rs"), ("100644 aaaa", "100755 aaaa")):
            changed = [line.replace(old, new) for line in LISTING]
            self.assertNotEqual(planner.digest(changed, ["src", "-src/service"]), before, new)


class Order(unittest.TestCase):
    """What comes first, and how much of it."""

    def names(self, made: dict[str, Line], digests: dict[str, str], tree_digest: str = "") -> list[str]:
        """The names in order."""
        found = [planner.due(name, digest, made) for name, digest in digests.items()]
        return [one.name for one in planner.order(found, made, tree_digest)]

    def test_what_changed_comes_first_and_then_what_has_not_run_for_longest(self) -> None:
        """A new scenario has no line: it counts as changed, and as never run."""
        made = table(("a", "0", 4, 1), ("b", "0", 3, 1), ("c", "0", 2, 1), ("d", "0", 4, 9))
        digests = {"a": "1", "b": "0", "c": "0", "d": "0", "new": "0"}
        self.assertEqual(self.names(made, digests), ["new", "a", "c", "b", "d"])

    def test_what_would_lie_too_far_behind_comes_before_what_changed(self) -> None:
        """Else a slice that is full of what changed would leave the others behind for ever."""
        made = table(("a", "0", SLICES_AT_MOST, 1), ("b", "0", 1, 1))
        self.assertEqual(self.names(made, {"a": "1", "b": "0"}), ["b", "a"])

    def test_among_equals_the_circle_begins_where_the_tree_says(self) -> None:
        """And goes round."""
        made = table(*((name, "0", 1, 1) for name in "abc"))
        digests = dict.fromkeys("abc", "0")
        found = {"".join(self.names(made, digests, f"{number:x}")) for number in range(1, 7)}
        self.assertEqual(found, {"abc", "bca", "cab"})

    def test_portions_are_full_and_whole_and_the_first_is_never_left(self) -> None:
        """What does not fit goes into the next one, and is the first there."""
        made = table(("a", "0", 1, 90), ("b", "0", 1, 50), ("c", "0", 1, 10), ("d", "0", 1, 500))
        ordered = [planner.due(name, "0", made) for name in "abcd"]
        portions = [[one.name for one in some] for some in planner.slices(ordered, 100)]
        self.assertEqual(portions, [["a", "c"], ["b"], ["d"]])

    def test_a_portion_starts_with_what_lies_behind_and_then_with_the_longest(self) -> None:
        """What is left on a slow machine is not the same each time."""
        behind = 21 - planner.SLICES_AT_MOST
        made = table(("a", "0", 20, 10), ("b", "0", 20, 50), ("c", "0", behind, 1))
        portion = [planner.due(name, "0", made) for name in "abc"]
        self.assertEqual([one.name for one in planner.starting(portion, made)], ["c", "b", "a"])

    def test_so_many_landings_run_everything(self) -> None:
        """However many of them change everything, and whatever the machine draws."""
        made = table(*((f"s{number}", "0", 1, 100) for number in range(5 * SLICES_AT_MOST)))
        ran: set[str] = set()
        for landing in range(2, SLICES_AT_MOST + 2):
            found = [planner.due(name, str(landing), made) for name in made]
            portion = planner.slices(planner.order(found, made), 500)[0]
            ran |= {one.name for one in portion}
            lines = [Line(one.name, ("src",), str(landing), landing, 100) for one in portion]
            made = planner.with_passed(made, lines, made)
            self.assertEqual(planner.behind(made), [])
        self.assertEqual(ran, set(made))


class List(unittest.TestCase):
    """The scenarios that there are."""

    def test_every_file_of_cases_has_one_in_the_core_and_a_job_in_the_rest(self) -> None:
        """And what the core names exists."""
        files = [name for name in paths.case_files() if name not in scenarios.OTHERS]
        self.assertGreater(len(files), 10)
        self.assertLessEqual(set(scenarios.OTHERS), set(paths.case_files()))
        there = {case for name in files for case in paths.cases_of(name)}
        self.assertEqual([case for case in scenarios.CORE_CASES if case not in there], [])
        self.assertEqual({case.split("::")[0] for case in scenarios.CORE_CASES}, set(files))
        rest = scenarios.of_kind("rest")
        self.assertEqual([name for name in files if f"cases/{name}" not in rest], [])

    def test_every_whole_boot_is_in_the_core_or_in_the_rest(self) -> None:
        """Each module of tests/boots is a scenario."""
        modules = {path.stem for path in (paths.PROJECT / "tests/boots").glob("*.py")}
        jobs = {name.removeprefix("boots/") for name in scenarios.every() if name.startswith("boots/")}
        self.assertEqual(jobs, modules)

    def test_all_that_a_scenario_needs_exists_and_is_listed_before_it(self) -> None:
        """So that a run of any of them is whole; and each depends on something."""
        before: set[str] = set()
        for name, scenario in scenarios.every().items():
            self.assertLessEqual(set(scenario.job.needs), before, name)
            before.add(name)
            if scenario.kind in ("core", "rest"):
                empty = planner.digest(listing(), [])
                self.assertNotEqual(planner.digest(listing(), scenario.paths), empty, name)

    def test_the_rest_fits_into_as_many_slices_as_are_allowed(self) -> None:
        """With the seconds that the table has for them."""
        ordered = run.ordered(tree.kept(), listing(), rotate=False)
        self.assertLessEqual(len(planner.slices(ordered)), SLICES_AT_MOST)

    def test_sources_are_followed_to_what_they_use(self) -> None:
        """A helper's helper belongs to a case, and so does what a program imports."""
        found = paths.of_cases(["two_faced"], service=False)
        for name in ("two_faced", "nbd", "disk", "boots", "tpm_private"):
            self.assertIn(f"tests/machine/{name}.rs", found)
        self.assertNotIn("tests/machine/rollback.rs", found)
        self.assertIn(f"{paths.HARNESS}/qmp.py", found)
        self.assertNotIn(f"{paths.HARNESS}/run.py", found)
        boots = paths.of_boots("service", service=True)
        self.assertIn("tests/boots/firmware.py", boots)
        self.assertNotIn("tests/boots/power.py", boots)

    def test_no_documentation_has_a_test_that_nobody_runs(self) -> None:
        """Test programs are run, not cargo: what cargo would take out of comments would be left out."""
        for path in sorted((paths.PROJECT / "src").rglob("*.rs")):
            opened = False
            for line in path.read_text(encoding="utf-8").splitlines():
                text = line.strip()
                if text.startswith(("/// ```", "//! ```")):
                    opened = not opened
                    if opened:
                        self.assertIn(text[7:], ("text", "json", "toml", "ignore"), f"{path}: {line}")


class Choices(unittest.TestCase):
    """The command line."""

    def plan(self, *words: str) -> list[str]:
        """The names that a run with these words takes."""
        options = run.arguments(words)
        return run.planned(options, tree.kept(), listing(), rotate=False).names

    def test_the_core_is_in_every_run_that_names_nothing(self) -> None:
        """Of the rest nothing, a slice, or all."""
        core, rest = scenarios.of_kind("core"), scenarios.of_kind("rest")
        self.assertEqual(sorted(self.plan("--core")), sorted(core))
        lints = scenarios.of_kind("lint")
        self.assertEqual(self.plan("--core", "--lint"), [*lints, *self.plan("--core")])
        self.assertEqual(sorted(self.plan("--all")), sorted(core + rest))
        some = self.plan()
        self.assertEqual(some[: len(core)], self.plan("--core"))
        self.assertEqual(self.plan("--slice", "1"), some)
        self.assertTrue(set(core) < set(some) <= set(core + rest))

    def test_a_name_is_a_scenario_or_the_first_part_of_some(self) -> None:
        """And one that is neither is an error."""
        self.assertEqual(self.plan("boots/power"), ["boots/power"])
        self.assertEqual(self.plan("kills"), ["kills/1", "kills/2"])
        for words in (["no-such-name"], ["boot"], ["--slice", "99"]):
            with self.assertRaises(LookupError):
                self.plan(*words)

    def test_a_combination_without_a_meaning_is_refused(self) -> None:
        """By argparse, with a sentence."""
        for words in (["--core", "--all"], ["--all", "kills"], ["--", "filter"]):
            with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit):
                run.arguments(words)

    def test_jobs_keep_their_order_behind_what_they_need(self) -> None:
        """And nothing is there twice."""
        names = ["kills/1", "layer1/lib", "lint/format"]
        found = [job.name for job in scenarios.with_needed(names)]
        self.assertEqual(found, ["build/root", "build/tests", *names])

    def test_filters_go_to_what_was_named_and_to_nothing_it_needs(self) -> None:
        """The programs get them as their last words."""
        job = scenarios.every()["cases/stock"].job
        self.assertEqual(run.with_filters(job, ["cases/stock"], ["a"]).command[-2:], ("stock", "a"))
        build = scenarios.every()["build/tests"].job
        self.assertEqual(run.with_filters(build, ["cases/stock"], ["a"]), build)
