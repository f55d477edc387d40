// SPDX-License-Identifier: Apache-2.0
//! A day of rechecks, told by the second.

use super::*;

const RECHECK_S: u64 = 300;
const GRACE_S: u64 = 3600;

/// A service that was started at second 0, and its clock.
struct Day {
    watch: Watch,
    start: Instant,
}

impl Day {
    fn new() -> Self {
        Self::with(Some(RECHECK_S), GRACE_S)
    }

    fn with(recheck_s: Option<u64>, grace_s: u64) -> Self {
        let start = Instant::now();
        let recheck = recheck_s.map(Duration::from_secs);
        Self {
            watch: Watch::new(recheck, Duration::from_secs(grace_s), start),
            start,
        }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn heard(&mut self, second: u64, answer: Result<(), Class>) -> Verdict {
        let now = self.at(second);
        assert!(self.watch.is_due(now), "nobody asks at {second}");
        self.watch.heard(answer, now)
    }

    fn next(&self) -> u64 {
        (0..100_000)
            .find(|second| self.watch.is_due(self.at(*second)))
            .unwrap()
    }
}

#[test]
fn each_answer_that_unwraps_puts_the_next_question_off() {
    let mut day = Day::new();
    assert_eq!(day.next(), 300);
    assert_eq!(day.heard(301, Ok(())), Verdict::Going);
    assert_eq!(day.next(), 601);
    let never = Day::with(None, GRACE_S);
    assert!(!never.watch.is_due(never.at(1_000_000)));
}

#[test]
fn away_ends_releases_when_the_grace_after_the_last_unwrap_is_over_and_not_before() {
    let mut day = Day::new();
    assert_eq!(day.heard(300, Ok(())), Verdict::Going);
    assert_eq!(
        day.heard(600, Err(Class::Away)),
        Verdict::Doubtful(Class::Away)
    );
    assert_eq!(day.next(), 630);
    assert_eq!(day.heard(630, Err(Class::Away)), Verdict::Going);
    // The last try is at the end and not up to half a minute behind it.
    assert_eq!(day.heard(3880, Err(Class::Away)), Verdict::Going);
    assert_eq!(day.next(), 3900);
    assert_eq!(
        day.heard(3900, Err(Class::Away)),
        Verdict::Stop(Class::Away)
    );
    assert_eq!(
        day.heard(3930, Err(Class::Away)),
        Verdict::Stopped(Class::Away)
    );
    assert_eq!(day.heard(3960, Ok(())), Verdict::Resume);
    assert_eq!(day.next(), 4260);
    assert_eq!(day.heard(4260, Ok(())), Verdict::Going);
}

#[test]
fn an_unwrap_in_the_grace_begins_it_anew() {
    let mut day = Day::new();
    assert_eq!(
        day.heard(3899, Err(Class::Away)),
        Verdict::Stop(Class::Away)
    );
    let mut day = Day::new();
    assert_eq!(
        day.heard(3599, Err(Class::Away)),
        Verdict::Doubtful(Class::Away)
    );
    assert_eq!(day.heard(3600, Ok(())), Verdict::Going);
    assert_eq!(
        day.heard(7199, Err(Class::Away)),
        Verdict::Doubtful(Class::Away)
    );
    assert_eq!(
        day.heard(7200, Err(Class::Away)),
        Verdict::Stop(Class::Away)
    );
}

#[test]
fn each_refusal_ends_releases_when_it_is_said_twice_a_minute_apart() {
    for class in [Class::Denied, Class::Gone, Class::Wrong] {
        let mut day = Day::new();
        assert_eq!(day.heard(300, Err(class)), Verdict::Doubtful(class));
        assert_eq!(day.next(), 360);
        assert!(!day.watch.is_due(day.at(359)));
        assert_eq!(day.heard(360, Err(class)), Verdict::Stop(class));
        assert_eq!(day.heard(390, Err(Class::Away)), Verdict::Stopped(class));
        assert_eq!(day.heard(420, Ok(())), Verdict::Resume);
    }
}

#[test]
fn a_refusal_that_is_taken_back_ends_nothing() {
    let mut day = Day::new();
    assert_eq!(
        day.heard(300, Err(Class::Gone)),
        Verdict::Doubtful(Class::Gone)
    );
    assert_eq!(day.heard(360, Ok(())), Verdict::Going);
    assert_eq!(
        day.heard(660, Err(Class::Gone)),
        Verdict::Doubtful(Class::Gone)
    );
    assert_eq!(
        day.heard(720, Err(Class::Denied)),
        Verdict::Stop(Class::Denied)
    );
}

#[test]
fn a_kms_that_is_away_between_two_refusals_has_said_nothing() {
    let mut day = Day::new();
    assert_eq!(
        day.heard(300, Err(Class::Denied)),
        Verdict::Doubtful(Class::Denied)
    );
    assert_eq!(
        day.heard(360, Err(Class::Away)),
        Verdict::Doubtful(Class::Away)
    );
    assert_eq!(day.next(), 390);
    assert_eq!(
        day.heard(390, Err(Class::Denied)),
        Verdict::Stop(Class::Denied)
    );
}

/// A token file that cannot be read is nothing that the KMS has said.
#[test]
fn trouble_of_our_own_side_ends_releases_when_the_grace_is_over_and_not_before() {
    let mut day = Day::new();
    let class = Class::Unusable;
    assert_eq!(day.heard(300, Err(class)), Verdict::Doubtful(class));
    assert_eq!(day.heard(3570, Err(class)), Verdict::Going);
    assert_eq!(day.next(), 3600);
    assert_eq!(day.heard(3600, Err(class)), Verdict::Stop(class));
}

#[test]
fn a_first_refusal_after_the_grace_ends_releases_as_no_answer_would() {
    for class in [Class::Denied, Class::Gone, Class::Wrong] {
        let mut day = Day::with(Some(RECHECK_S), 0);
        assert_eq!(day.heard(300, Err(class)), Verdict::Stop(class));
        // The second refusal is not waited for beyond the end of the grace either.
        let mut day = Day::with(Some(RECHECK_S), 330);
        assert_eq!(day.heard(300, Err(class)), Verdict::Doubtful(class));
        assert_eq!(day.next(), 330);
        assert_eq!(day.heard(330, Err(class)), Verdict::Stop(class));
    }
}

#[test]
fn a_question_without_an_end_ends_releases_and_its_answer_begins_them() {
    let mut day = Day::new();
    let last = GRACE_S + ANSWER_MAX.as_secs();
    assert!(!day.watch.end_overdue(day.at(last - 1)));
    assert!(day.watch.end_overdue(day.at(last)));
    assert!(!day.watch.end_overdue(day.at(last + 1)));
    let away = Verdict::Stopped(Class::Away);
    assert_eq!(day.heard(last + 2, Err(Class::Gone)), away);
    assert_eq!(day.heard(last + 60, Ok(())), Verdict::Resume);
    // Without a grace it is the next recheck that could have told, and without rechecks there is none.
    let mut day = Day::with(Some(RECHECK_S), 0);
    assert!(!day.watch.end_overdue(day.at(RECHECK_S)));
    assert!(
        day.watch
            .end_overdue(day.at(RECHECK_S + ANSWER_MAX.as_secs()))
    );
    let mut day = Day::with(None, 0);
    assert!(!day.watch.end_overdue(day.at(1_000_000)));
}

#[test]
fn without_a_grace_the_first_recheck_without_an_answer_ends_releases() {
    let mut day = Day::with(Some(RECHECK_S), 0);
    assert_eq!(day.heard(300, Err(Class::Away)), Verdict::Stop(Class::Away));
}

#[test]
fn whoever_asks_every_second_asks_no_less_often_after_a_failure() {
    let mut day = Day::with(Some(1), GRACE_S);
    assert_eq!(
        day.heard(1, Err(Class::Away)),
        Verdict::Doubtful(Class::Away)
    );
    assert_eq!(day.next(), 2);
    assert_eq!(
        day.heard(2, Err(Class::Gone)),
        Verdict::Doubtful(Class::Gone)
    );
    assert_eq!(day.next(), 62);
}
