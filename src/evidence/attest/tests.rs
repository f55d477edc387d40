// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::evidence::fixture::{NONCE, Statement};
use crate::evidence::registers::Values;

fn statement() -> Statement {
    Statement::over(&Values::from([(0, vec![1; 32]), (23, vec![2; 32])]))
}

fn check(bytes: &[u8]) -> Check {
    Attest::parse(bytes).unwrap_err().check
}

#[test]
fn every_field_of_a_quote_is_read() {
    let attest = Attest::parse(&statement().bytes()).unwrap();
    assert_eq!(attest.signer, [0xa5; 34]);
    assert_eq!(attest.extra_data, NONCE);
    let clock = Clock {
        milliseconds: 7,
        resets: 8,
        restarts: 9,
        safe: true,
    };
    assert_eq!(attest.clock, clock);
    assert_eq!(attest.firmware_version, 0x2024_0101);
    let pcrs = Registers::of(&[0, 23]).unwrap();
    assert_eq!(attest.selection(), Some((Bank::Sha256, pcrs)));
    assert_eq!(attest.pcr_digest.len(), 32);
}

#[test]
fn selections_of_any_banks_are_read_and_only_one_is_a_selection() {
    let two = Statement {
        selections: vec![(0x0004, vec![1, 0, 0]), (0x000c, vec![0, 0x80, 0])],
        ..statement()
    };
    let attest = Attest::parse(&two.bytes()).unwrap();
    let banks: Vec<_> = attest.selections.iter().map(|one| one.bank()).collect();
    assert_eq!(banks, [Some(Bank::Sha1), Some(Bank::Sha384)]);
    assert_eq!(attest.selection(), None);

    // SM3, which this program cannot compute.
    let foreign = Statement {
        selections: vec![(0x0012, vec![1, 0, 0])],
        ..statement()
    };
    let attest = Attest::parse(&foreign.bytes()).unwrap();
    assert_eq!(attest.selections.len(), 1);
    assert_eq!(attest.selection(), None);
}

#[test]
fn what_no_tpm_made_and_what_is_no_quote_are_told_apart() {
    let forged = Statement {
        magic: 0xff54_4348,
        ..statement()
    };
    assert_eq!(check(&forged.bytes()), Check::Magic);
    // TPM_ST_ATTEST_CERTIFY
    let certified = Statement {
        kind: 0x8017,
        ..statement()
    };
    assert_eq!(check(&certified.bytes()), Check::Kind);
}

#[test]
fn a_statement_that_is_cut_or_continued_anywhere_is_refused() {
    let bytes = statement().bytes();
    Attest::parse(&bytes).unwrap();
    for len in 0..bytes.len() {
        assert_eq!(check(&bytes[..len]), Check::Encoding, "{len}");
    }
    let longer = [&bytes[..], &[0]].concat();
    let refusal = Attest::parse(&longer).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "check encoding: statement: 1 bytes follow it"
    );
}

#[test]
fn numbers_out_of_bounds_are_refused() {
    let good = statement();
    let cases = [
        Statement {
            selections: vec![(0x000b, vec![0; 5])],
            ..good.clone()
        },
        Statement {
            selections: vec![(0x000b, vec![0, 0, 0, 1])],
            ..good.clone()
        },
        Statement {
            selections: vec![(0x000b, vec![1, 0, 0]); 17],
            ..good.clone()
        },
        Statement {
            extra_data: vec![0; 67],
            ..good.clone()
        },
    ];
    for case in cases {
        assert_eq!(check(&case.bytes()), Check::Encoding);
    }
    let mut maybe_safe = good.bytes();
    let at = maybe_safe
        .windows(4)
        .position(|bytes| bytes == 9_u32.to_be_bytes());
    maybe_safe[at.unwrap() + 4] = 2;
    assert_eq!(check(&maybe_safe), Check::Encoding);
}
