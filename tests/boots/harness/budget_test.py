# SPDX-License-Identifier: Apache-2.0
"""The time of a run, the figure of a machine, and the table of a steady run."""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from unittest import mock

import budget
import calibration
import steady
from budget import Budget
from calibration import Pace
from jobs import Ended, Job
from libtest import Tally
from steady import Time

JOB = Job("a", ("true",))


class Budgets(unittest.TestCase):
    """What there is time for."""

    def of(self, elapsed: float, figure: float) -> Budget:
        """A budget of which so much is gone, with one scenario of 100 s due."""
        return Budget(0.0, {"a": 100.0}, lambda: figure, lambda: elapsed)

    def test_what_is_due_is_begun_if_it_ends_in_time(self) -> None:
        """And what is not due, the core, is always."""
        at = budget.QUIET_SECONDS
        self.assertIsNone(self.of(at - 100, 1.0).objection(JOB))
        self.assertIsNotNone(self.of(at - 99, 1.0).objection(JOB))
        self.assertIsNone(self.of(at + 1000, 1.0).objection(Job("core", ("true",))))

    def test_a_slow_machine_has_more_time_and_not_without_end(self) -> None:
        """In proportion, and three quarters of an hour at most."""
        self.assertEqual(budget.allowed_seconds(0.5), budget.QUIET_SECONDS)
        self.assertEqual(budget.allowed_seconds(1.25), 1.25 * budget.QUIET_SECONDS)
        self.assertEqual(budget.allowed_seconds(9), budget.SLOW_SECONDS)
        self.assertIsNone(self.of(budget.QUIET_SECONDS, 1.5).objection(JOB))
        self.assertIsNotNone(self.of(budget.SLOW_SECONDS - 200, 3.0).objection(JOB))

    def test_a_disk_that_is_nearly_full_is_not_filled(self) -> None:
        """What is not begun for that is no matter of time, and the core is begun always."""
        full = Budget(0.0, {"a": 100.0}, lambda: 1.0, lambda: 0.0, lambda: budget.ROOM_BYTES - 1)
        self.assertIsNone(full.objection(Job("core", ("true",))))
        self.assertIn("free on the disk", full.objection(JOB) or "")
        self.assertEqual(full.left([Ended("a", Tally(), 0.0, ran=False)]), [])
        self.assertIsNone(self.of(0.0, 1.0).objection(JOB))

    def test_a_run_is_over_at_some_time(self) -> None:
        """However slow the machine is."""
        self.assertFalse(self.of(budget.OVER_SECONDS, 9.0).is_over())
        self.assertTrue(self.of(budget.OVER_SECONDS + 1, 9.0).is_over())

    def test_what_was_left_is_named_and_what_failed_is_not(self) -> None:
        """A scenario that could not run since a build failed was not left for want of time."""
        late = Ended("a", Tally(), 0.0, ran=False)
        broken = Ended("a", Tally(failed=1), 0.0, failed=("why",), ran=False)
        self.assertEqual(self.of(0, 1).left([late]), ["a"])
        self.assertEqual(self.of(0, 1).left([broken, Ended("core", Tally(), 0.0, ran=False)]), [])
        self.assertTrue(self.of(0, calibration.QUIET_AT_MOST).is_quiet())
        self.assertFalse(self.of(0, calibration.QUIET_AT_MOST + 0.01).is_quiet())


class Figures(unittest.TestCase):
    """How slow a machine is."""

    def test_the_kernels_counters_are_read_as_proc_stat_says(self) -> None:
        """Idle and waiting are not busy; guests are counted already."""
        ticks = os.sysconf("SC_CLK_TCK")
        line = f"cpu  {ticks} {2 * ticks} {3 * ticks} {10 * ticks} {4 * ticks} 0 0 {ticks} {ticks} 0"
        self.assertEqual(calibration.processors_spent(line), (7.0, 21.0))

    def test_what_a_process_spent_is_counted_by_its_group(self) -> None:
        """And that of another group is not."""
        program = "import time\nwhile time.process_time() < 0.3: pass\nprint('spent', flush=True)\ninput()"
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        ) as one:
            assert one.stdout is not None
            one.stdout.readline()
            self.assertGreaterEqual(calibration.spent_by({one.pid}), 0.25)
            self.assertEqual(calibration.spent_by({one.pid + (1 << 22)}), 0.0)
            one.kill()

    def test_the_work_takes_what_it_takes_on_each_processor(self) -> None:
        """The figure is of the processors there are, in units of two quiet ones."""
        pace = Pace(lambda: [], lambda: [2 * calibration.QUIET_SECONDS] * calibration.PROCESSORS)
        pace.wait()
        self.assertEqual(pace.slowness(), 2.0)
        pace = Pace(lambda: [], lambda: [calibration.QUIET_SECONDS] * 2 * calibration.PROCESSORS)
        pace.wait()
        self.assertEqual(pace.slowness(), 0.5)
        self.assertGreater(min(calibration.on_each_processor()), 0.0)

    def test_others_are_whoever_is_not_of_the_run(self) -> None:
        """Of 100 s that the processors had, 80 were spent."""
        self.assertEqual(calibration.share_of_others((10.0, 50.0), (90.0, 150.0), 30.0), 0.5)
        self.assertEqual(calibration.share_of_others((10.0, 50.0), (90.0, 150.0), 80.0), 0.0)
        # What was counted a moment later than the kernel's counters.
        self.assertEqual(calibration.share_of_others((10.0, 50.0), (90.0, 150.0), 81.0), 0.0)
        self.assertEqual(calibration.share_of_others((10.0, 50.0), (10.0, 50.0), 0.0), 0.0)

    def test_a_limit_grows_with_the_figure_and_never_shrinks(self) -> None:
        """As each program finds it in its environment."""
        for figure, seconds in (("0.5", 10), ("1", 10), ("2.5", 25)):
            with mock.patch.dict(os.environ, {calibration.VARIABLE: figure}):
                self.assertEqual(calibration.limit(10), seconds)


class Steady(unittest.TestCase):
    """The table of many runs."""

    def test_a_table_goes_on_where_it_was_stopped(self) -> None:
        """Even in the middle of a line."""
        times = [Time("a", 1, True, 10), Time("b", 1, False, 20), Time("a", 2, True, 12)]
        text = "".join(f"{time}\n" for time in times)
        self.assertEqual(steady.parsed(f"{text}b\t2\tpas"), times)
        self.assertEqual(steady.missing(times, ["a", "b"], 2), ["b"])
        self.assertEqual(steady.missing(times, ["a", "b"], 1), [])

    def test_the_result_counts_whole_runs_and_all_failures(self) -> None:
        """And names the seeds with which something failed."""
        times = [Time("a", 1, True, 10), Time("b", 1, False, 20), Time("a", 2, True, 12)]
        lines = steady.table(times, ["a", "b"]).splitlines()
        self.assertIn("10 to 12 s", lines[0])
        self.assertIn("seeds that failed: 1", lines[1])
        self.assertEqual(lines[-1], "1 runs, 1 failures")
        self.assertEqual(steady.table(times[:1], ["a"]).splitlines()[-1], "1 runs, 0 failures")

    def test_the_busy_processors_are_left_alone_afterwards(self) -> None:
        """The control is that they were busy."""
        with steady.busy(2) as programs:
            self.assertEqual([program.poll() for program in programs], [None, None])
        self.assertTrue(all(program.poll() is not None for program in programs))
