// SPDX-License-Identifier: Apache-2.0
//! The last lines of the audit log.

use serde::Deserialize;

use crate::error::Result;
use crate::keyservice::audit::Audit;

/// How much of the log is looked at, in bytes.
const TAIL_LEN: u64 = 256 << 10;

/// How many events are shown.
pub(crate) const SHOWN_MAX: usize = 100;

/// One line; what it does not have is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    pub(crate) time: String,
    #[serde(rename = "event")]
    pub(crate) kind: String,
    pub(crate) step: String,
    pub(crate) peer: String,
    pub(crate) ek: String,
    pub(crate) volumes: Vec<String>,
    pub(crate) resource: String,
    pub(crate) image: String,
    pub(crate) check: String,
    pub(crate) why: String,
    pub(crate) accepted: String,
    pub(crate) operator: String,
}

/// The last events this replica wrote down, the latest first.
pub(crate) fn events(audit: &Audit) -> Result<Vec<Event>> {
    let tail = audit.tail(TAIL_LEN)?;
    Ok(parse(&tail))
}

/// A line that is cut at the start, or was not one of ours, is left out.
fn parse(tail: &[u8]) -> Vec<Event> {
    let lines = tail.rsplit(|byte| *byte == b'\n');
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_cut_is_left_out_and_the_latest_comes_first() {
        let text = "me\":\"1\",\"event\":\"release\"}\n{\"event\":\"release\",\"time\":\"2\"}\n\
                    {\"event\":\"denial\",\"time\":\"3\",\"why\":\"x\",\"later\":[]}\n";
        let events = parse(text.as_bytes());
        let times: Vec<&str> = events.iter().map(|event| event.time.as_str()).collect();
        assert_eq!(times, ["3", "2"]);
        assert_eq!(events[0].why, "x");
    }
}
