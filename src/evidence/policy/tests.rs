// SPDX-License-Identifier: Apache-2.0
mod file;
mod recorded;
mod rules;
mod warnings;

use super::*;
use crate::evidence::fixture::{FirmwareLog, Key, Sent, Statement, expected};
use crate::evidence::verify;

/// The Authenticode hash of the fixture's program.
fn program() -> String {
    hex::encode(Bank::Sha256.hash(b"the image"))
}

fn parse(text: &str) -> Result<Policy> {
    Policy::parse(text, |_| panic!("this policy names no file"))
}

const EK: &str = "[ek]\nenrolled = [\"\
    0000000000000000000000000000000000000000000000000000000000000000\"]\n";
const ROLE: &str = "[[role]]\nname = \"worker\"\nvolumes = [\"state\"]\nimages = [\"usual\"]\n";

/// A policy whose one image has these rules.
fn policy(rules: &str) -> Policy {
    parse(&format!("{EK}[[image]]\nname = \"usual\"\n{rules}\n{ROLE}")).unwrap()
}

/// The usual rules about the event log.
fn rules() -> String {
    format!(
        "uki-hash = [\"{}\"]\ncommand-line = [\"quiet ro\", \"quiet rw\"]\nsecure-boot = true",
        program()
    )
}

fn verified(log: &FirmwareLog) -> Verified {
    let sent = Sent::of(log);
    verify(&expected(), &sent.presented()).unwrap()
}

/// What differs from the usual image in a boot that `change` had a hand in.
fn differs(change: impl FnOnce(&mut FirmwareLog)) -> String {
    let mut log = FirmwareLog::usual();
    change(&mut log);
    let policy = policy(&rules());
    let explanation = policy.decide(&verified(&log), "worker", Role::State);
    explanation.map_or_else(|why| why.to_string(), ToOwned::to_owned)
}

#[test]
fn the_usual_boot_is_the_usual_image() {
    assert_eq!(differs(|_| ()), "usual");
    let values = verified(&FirmwareLog::usual()).pcrs;
    let (four, seven) = (hex::encode(&values[&4]), hex::encode(&values[&7]));
    let zeros = "00".repeat(32);
    let by_value = format!("pcrs = {{ 4 = [\"{four}\"], 7 = [\"{zeros}\", \"{seven}\"] }}");
    let verified = verified(&FirmwareLog::usual());
    assert_eq!(policy(&by_value).image(&verified), Ok("usual"));
}

#[test]
fn a_value_that_differs_is_told_with_what_was_measured() {
    let zeros = "00".repeat(32);
    let rules = format!(
        "uki-hash = [\"{}\"]\npcrs = {{ 7 = [\"{zeros}\"], 15 = [\"{zeros}\"] }}",
        program()
    );
    let policy = policy(&rules);
    let verified = verified(&FirmwareLog::usual());
    let seen = hex::encode(&verified.pcrs[&7]);
    assert_eq!(
        policy.image(&verified).unwrap_err().to_string(),
        format!(
            "nearest image usual: PCR 7: expected {zeros}, found {seen} \
             (measured: Secure Boot on, separator)"
        )
    );
}

#[test]
fn rules_about_events_need_a_log_and_values_need_to_be_quoted() {
    let sent = Sent::of(&FirmwareLog::usual());
    let without = Sent {
        firmware_log: Vec::new(),
        userspace_log: Vec::new(),
        ..sent
    };
    let verified = verify(&expected(), &without.presented()).unwrap();
    assert_eq!(
        policy(&rules()).image(&verified).unwrap_err().to_string(),
        "nearest image usual: uki-hash: no event log that PCR 4 follows from was given; \
         command-line: no event log that PCR 12 follows from was given; \
         secure-boot: no event log that PCR 7 follows from was given"
    );
    let zeros = "00".repeat(32);
    let rules = format!("pcrs = {{ 0 = [\"{zeros}\"] }}");
    assert_eq!(
        policy(&rules).image(&verified).unwrap_err().to_string(),
        "nearest image usual: PCR 0 was not quoted; PCR 4: the policy has no value for it, and no \
         event log that it follows from was given"
    );
    let rules = format!("pcrs = {{ 15 = [\"{zeros}{}\"] }}", "00".repeat(16));
    let text = format!("bank = \"sha384\"\n{EK}[[image]]\nname = \"usual\"\n{rules}\n{ROLE}");
    assert_eq!(
        parse(&text)
            .unwrap()
            .image(&verified)
            .unwrap_err()
            .to_string(),
        "nearest image usual: the quote is over sha256, expected sha384"
    );
}

#[test]
fn the_nearest_image_is_the_one_with_the_fewest_differences() {
    let zeros = "00".repeat(32);
    let far =
        format!("[[image]]\nname = \"far\"\npcrs = {{ 4 = [\"{zeros}\"], 7 = [\"{zeros}\"] }}\n");
    let near = format!("[[image]]\nname = \"near\"\npcrs = {{ 4 = [\"{zeros}\"] }}\n");
    let role = ROLE.replace("\"usual\"", "\"far\", \"near\"");
    let policy = parse(&format!("{EK}{far}{near}{role}")).unwrap();
    let why = policy.image(&verified(&FirmwareLog::usual())).unwrap_err();
    assert_eq!(
        (why.image.as_deref(), why.check),
        (Some("near"), Check::Image)
    );
}

#[test]
fn a_role_has_its_images_and_volumes() {
    let other = format!(
        "[[image]]\nname = \"other\"\nuki-hash = [\"{}\"]\n",
        program()
    );
    let root = "[[role]]\nname = \"root\"\nvolumes = [\"root\", \"state\"]\nimages = [\"other\"]\n";
    let usual = format!(
        "[[image]]\nname = \"usual\"\npcrs = {{ 7 = [\"{}\"] }}\n",
        "00".repeat(32)
    );
    let policy = parse(&format!("{EK}{usual}{other}{ROLE}{root}")).unwrap();
    let verified = verified(&FirmwareLog::usual());
    assert_eq!(policy.decide(&verified, "root", Role::Root), Ok("other"));
    assert_eq!(policy.image(&verified), Ok("other"));
    assert!(policy.allows("other", Role::Root) && policy.allows("usual", Role::State));
    assert!(!policy.allows("usual", Role::Root) && !policy.allows("none", Role::State));
    let refused = |role, volume| {
        let why = policy.decide(&verified, role, volume).unwrap_err();
        (why.check, why.to_string())
    };
    assert_eq!(refused("worker", Role::State).0, Check::Image);
    assert_eq!(
        refused("worker", Role::Root),
        (
            Check::Role,
            "role \"worker\" may not ask for a root volume".into()
        )
    );
    assert_eq!(
        refused("nobody", Role::State),
        (Check::Role, "there is no role \"nobody\"".into())
    );
    let refusal = Refusal::from(policy.decide(&verified, "nobody", Role::State).unwrap_err());
    assert_eq!(
        refusal.to_string(),
        "check role: there is no role \"nobody\""
    );
}

#[test]
fn a_machine_is_early_while_the_clusters_pcr_is_zero() {
    let policy = policy(&rules());
    policy.early(&verified(&FirmwareLog::usual())).unwrap();
    let sent = Sent::of(&FirmwareLog::usual());
    let mut pcrs = sent.values.clone();
    pcrs.insert(15, vec![1; 32]);
    let late = Sent::signed(&Key::new(7), &Statement::over(&pcrs), pcrs.clone());
    let late = verify(&expected(), &late.presented()).unwrap();
    let refusal = policy.early(&late).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        format!(
            "check early-boot: PCR 15 is not zero but {}: the machine is past its initrd",
            "01".repeat(32)
        )
    );
    let text = format!(
        "cluster-pcr = 14\n{EK}[[image]]\nname = \"usual\"\n{}\n{ROLE}",
        rules()
    );
    parse(&text).unwrap().early(&late).unwrap();
    let text = text.replace("14", "10");
    let refusal = parse(&text).unwrap().early(&late).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "check early-boot: PCR 10 was not quoted"
    );
}
