// SPDX-License-Identifier: Apache-2.0
//! What one volume is denied is not the others' trouble.

use super::*;

#[test]
fn what_is_wrong_with_one_key_is_that_volumes_failure() {
    for (twist, said) in [
        (Twist::DenyKeys, "PolicyDeny (401: as the test says)"),
        (
            Twist::Short,
            "expected 32 bytes at nightlatch/volume-key/a6c7535f-0a9f-4c23-9524-fed431126906, found 31",
        ),
        (
            Twist::OtherNode,
            "decrypting what the key service sent: its content key was not wrapped for this node",
        ),
    ] {
        let mock = mock(twist);
        let (_swtpm, mut tpm) = tpm();
        let wanted = KeyRequest {
            cluster: false,
            ..wanted()
        };
        let given = to(&mock).ask(&mut tpm, &wanted).unwrap();
        let error = given.volume(UUID).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert_eq!(error.to_string(), format!("{}: {said}", mock.url));
    }
}

#[test]
fn a_volume_the_service_does_not_know_is_not_the_others_trouble() {
    let mut script = script(Twist::Nothing);
    script
        .resources
        .remove(&format!("nightlatch/volume-key/{OTHER}"));
    let mock = Mock::start(script);
    let (_swtpm, mut tpm) = tpm();
    let mut wanted = wanted();
    wanted.volumes.push(VolumeClaim {
        uuid: OTHER.into(),
        role: Role::State,
        epoch: None,
    });
    let given = to(&mock).ask(&mut tpm, &wanted).unwrap();
    assert!(given.volume(UUID).is_ok());
    assert_eq!(given.volume(OTHER).unwrap_err().exit(), Exit::Refused);
}
