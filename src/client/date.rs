// SPDX-License-Identifier: Apache-2.0
//! This machine's clock beside the service's, for whoever wonders why a certificate is not good: it is told, and nothing
//! follows from it.
//!
//! **Never:** a clock set, or a certificate judged, by what a server says.

use x509_cert::der::DateTime;

use crate::clock::utc;

/// How far clocks may be apart before it is said, in seconds: a day.
const APART_MAX_S: u64 = 86_400;

/// The months as HTTP names them (RFC 9110, section 5.6.7).
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A sentence where the service's `Date` and what this machine's clock says are far apart.
pub(super) fn far_off(date: &str, now_s: u64) -> Option<String> {
    let service_s = parse(date)?;
    (service_s.abs_diff(now_s) > APART_MAX_S).then(|| {
        format!(
            "this machine's clock says {}, and the key service's {}: one of them is wrong, and this machine's is the one that certificates are judged by",
            utc(now_s),
            utc(service_s)
        )
    })
}

/// An `IMF-fixdate`, such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7), in seconds since 1970.
fn parse(date: &str) -> Option<u64> {
    let words: Vec<&str> = date.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words[..] else {
        return None;
    };
    let month = MONTHS.iter().position(|name| *name == month)?;
    let month = u8::try_from(month).ok()?.checked_add(1)?;
    let parts: Vec<&str> = time.split(':').collect();
    let [hours, minutes, seconds] = parts[..] else {
        return None;
    };
    let part = |text: &str| text.parse::<u8>().ok();
    let time = DateTime::new(
        year.parse().ok()?,
        month,
        part(day)?,
        part(hours)?,
        part(minutes)?,
        part(seconds)?,
    );
    Some(time.ok()?.unix_duration().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9110, section 5.6.7.
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const DATE_S: u64 = 784_111_777;

    #[test]
    fn the_example_of_the_standard_is_read_and_nothing_else_is_guessed() {
        assert_eq!(parse(DATE), Some(DATE_S));
        for other in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 25:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 99999 08:49:37 GMT",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn clocks_that_are_a_day_apart_are_said_to_be() {
        for near in [DATE_S, DATE_S - APART_MAX_S, DATE_S + APART_MAX_S] {
            assert_eq!(far_off(DATE, near), None);
        }
        for far in [0, DATE_S - APART_MAX_S - 1, DATE_S + APART_MAX_S + 1] {
            let said = far_off(DATE, far).unwrap();
            assert!(said.contains("1994-11-06T08:49:37Z"), "{said}");
        }
        assert_eq!(far_off("tomorrow", 0), None);
    }
}
