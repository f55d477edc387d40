// SPDX-License-Identifier: Apache-2.0
use super::anchor::{AT, LEN, PLACES, record};
use super::*;

/// One place of a record is enough as long as it is not the one that is needed.
#[test]
fn an_index_of_another_program_is_in_the_way_only_where_a_record_is_to_be_made() {
    let (first, spare) = (AT.record, PLACES.records[1]);
    for taken in [spare, first] {
        let swtpm = Swtpm::start();
        let place = format!("{taken:#x}");
        let foreign = [&place, "-C", "o", "-s", "8", "-a", "ownerread|ownerwrite"];
        succeeds(&swtpm, "tpm2_nvdefine", &foreign);
        let mut tpm = connected(&swtpm);
        let found = tpm.find_records(PLACES, POLICY, LEN);
        // A first record is made in the first place.
        assert_eq!(found.is_err(), taken == first);
        let auth = Secret::random().unwrap();
        let at = Handles {
            record: if taken == first { spare } else { first },
            ..AT
        };
        tpm.define_anchor(at, POLICY, &auth, &record(&auth, 7))
            .unwrap();
        let found = tpm.find_records(PLACES, POLICY, LEN).unwrap();
        assert_eq!((found.readable, found.others), (Some(at), vec![]));
        let in_the_way = Handles {
            record: taken,
            ..AT
        };
        let error = tpm
            .define_record(in_the_way, POLICY, &auth, &record(&auth, 7))
            .unwrap_err()
            .to_string();
        assert!(error.contains("belongs to another program"), "{error}");
        tpm.remove_record(taken, LEN).unwrap_err();
        succeeds(&swtpm, "tpm2_nvreadpublic", &[&place]);
    }
}

#[test]
fn an_owner_authorisation_is_found_out_before_a_record_is_moved() {
    let swtpm = Swtpm::start();
    connected(&swtpm).require_owner().unwrap();
    succeeds(&swtpm, "tpm2_changeauth", &["-c", "owner", "secret"]);
    let error = connected(&swtpm).require_owner().unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert_eq!(
        error.to_string(),
        "the anchor has to be made or moved and the TPM's owner authorisation is set: \
         clear it with tpm2_changeauth -c owner, in what was booted before or in another system",
    );
}
