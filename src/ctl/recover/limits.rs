// SPDX-License-Identifier: Apache-2.0
//! What a key or a word does not say of the disk that it opens, told before it is sent.

use crate::protocol::recovery::{Need, WaitingVolume};

/// Where the record cannot be read the header's own nonce is all there is to compare with.
const OF_KEY: &str = "The key opens an older disk too, if it is a copy that the host took of a boot which it then cut off: compare what the \
                      disk says of itself with what you know of it.\n";
/// Where the record is gone.
const OF_READMIT: &str = "The word readmit opens a disk of any age: compare its epoch with the last one that you know of.\n";
/// The word is written nowhere, and the header of that boot is as good as any.
const OF_ROLLBACK: &str = "Once that boot has written its header the older disk is the current one: if it is cut off then, the next one opens \
                           it without a word, and measures nothing of it.\n";

/// What is to be known of what these volumes wait for, a line each.
pub(super) fn of(volumes: &[WaitingVolume]) -> String {
    let has = |need: Need| volumes.iter().any(|volume| volume.needs.contains(&need));
    let takes_key_alone = |volume: &WaitingVolume| volume.needs == [Need::Key];
    let told = [
        (volumes.iter().any(takes_key_alone), OF_KEY),
        (has(Need::Readmit), OF_READMIT),
        (has(Need::Rollback), OF_ROLLBACK),
    ];
    let told = told.into_iter().filter(|(is_so, _)| *is_so);
    told.map(|(_, text)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    #[test]
    fn each_thing_that_is_given_has_its_limit_told() {
        let told = |needs: &[Need]| {
            of(&[WaitingVolume {
                name: "state".into(),
                uuid: String::new(),
                role: Role::State,
                key_id: None,
                epoch: None,
                needs: needs.to_vec(),
                why: String::new(),
            }])
        };
        assert_eq!(told(&[Need::Key]), OF_KEY);
        assert_eq!(told(&[Need::Rollback]), OF_ROLLBACK);
        assert_eq!(told(&[Need::Key, Need::Readmit]), OF_READMIT);
        assert_eq!(of(&[]), "");
    }
}
