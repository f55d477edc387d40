// SPDX-License-Identifier: Apache-2.0
//! Where the anchor is, and on whose word a record of other PCR values is replaced.

use super::*;

#[test]
fn the_anchors_indices_are_the_owners_and_differ() {
    let with = |line: &str| parse(&format!("[anchor]\n{line}\n{STATE}"));
    assert!(with("index = 0x01800001\ncounter = 0x01800002").is_ok());
    for taken in ["0x01804e10", "0x01804e12"] {
        let error = with(&format!("counter = {taken}")).unwrap_err().to_string();
        let said =
            "expected another NV index than anchor.index and the second one after it, 0x01804e12";
        assert!(error.contains(said), "{error}");
    }
    // Requests stand behind the spare, and make way for the counter.
    let requests = |lines: &str| {
        let anchor = with(lines).unwrap().anchor;
        anchor.index.requests(anchor.counter).handle()
    };
    assert_eq!(requests("index = 0x01804e10"), 0x0180_4e13);
    assert_eq!(requests("counter = 0x01804e13"), 0x0180_4e14);
    assert!(with("index = 0x01bffffc").is_ok());
    let error = with("index = 0x01bffffd").unwrap_err().to_string();
    assert!(
        error.contains("of the place of requests behind it"),
        "{error}"
    );
    let error = with("index = 0x01bffffe").unwrap_err().to_string();
    assert!(error.contains("of the second one after it"), "{error}");
    // The sentence of a failed boot is no reason to refuse a place.
    let failure = |lines: &str| {
        let anchor = with(lines).unwrap().anchor;
        let index = anchor.index.failure(anchor.counter);
        index.map(NvIndex::handle)
    };
    assert_eq!(failure("index = 0x01804e10"), Some(0x0180_4e15));
    assert_eq!(failure("counter = 0x01804e13"), Some(0x0180_4e15));
    assert_eq!(failure("counter = 0x01804e15"), Some(0x0180_4e16));
    assert_eq!(failure("index = 0x01bffffa"), Some(0x01bf_ffff));
    assert_eq!(failure("index = 0x01bffffb"), None);
    for outside in ["0x017fffff", "0x01c00000"] {
        let error = with(&format!("index = {outside}")).unwrap_err().to_string();
        assert!(
            error.contains("expected an NV index from 0x01800000 to 0x01bfffff"),
            "{error}"
        );
    }
}

#[test]
fn an_operators_word_about_a_stale_record_needs_a_key_service() {
    let with = |lines: &str| parse(&format!("[tpm]\nstale = \"operator\"\n{lines}"));
    let error = with(STATE).unwrap_err().to_string();
    assert!(
        error.contains("tpm.stale = \"operator\" needs a table [service]"),
        "{error}"
    );
    assert_eq!(parse(STATE).unwrap().tpm.stale, Stale::Service);
}

#[test]
fn a_recovery_key_is_required_where_there_can_be_one() {
    let required = |lines: &str| parse(&format!("{STATE}recovery-key = \"required\"\n{lines}"));
    let rule = required("").unwrap().volumes().next().unwrap().recovery_key;
    assert_eq!(rule, RecoveryKeyRule::Required);
    let rule = parse(STATE).unwrap().volumes().next().unwrap().recovery_key;
    assert_eq!(rule, RecoveryKeyRule::Optional);
    let error = required("anchor = \"off\"").unwrap_err().to_string();
    assert!(
        error.contains("needs a volume that is not anchor"),
        "{error}"
    );
    let old = "[[volume]]\nname = \"old\"\ndevice = \"/dev/old\"\nrole = \"state\"\nmount = \"/old\"\n\
               sources = [\"tpm\"]\nprofile = \"constellation\"\nrecovery-key = \"required\"\n";
    let error = required(old).unwrap_err().to_string();
    assert!(error.contains("which has one keyslot"), "{error}");
    assert!(required(&old.replace("constellation", "luks2-strict")).is_ok());
}
