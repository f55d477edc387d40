// SPDX-License-Identifier: Apache-2.0
use std::path::PathBuf;

use super::*;
use crate::error::Exit;
use crate::evidence::bundle::tests::bundle;
use crate::pcr::Bank;

/// A directory with a policy and evidence, gone after the test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str, rules: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nightlatch-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let zeros = "00".repeat(32);
        let policy = format!(
            "[ek]\nenrolled = [\"{zeros}\"]\n[[image]]\nname = \"usual\"\n{rules}\n\
             [[role]]\nname = \"worker\"\nvolumes = [\"state\"]\nimages = [\"usual\"]\n"
        );
        fs::write(path.join("policy.toml"), policy).unwrap();
        let evidence = serde_json::to_string(&bundle()).unwrap();
        fs::write(path.join("evidence.json"), evidence).unwrap();
        Self(path)
    }

    fn explain(&self) -> Result<Answer> {
        explain(&self.0.join("policy.toml"), &self.0.join("evidence.json"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn rules(line: &str) -> String {
    let program = hex::encode(Bank::Sha256.hash(b"the image"));
    format!("uki-hash = [\"{program}\"]\ncommand-line = [\"{line}\"]\nsecure-boot = true")
}

#[test]
fn a_policy_is_checked() {
    let files = Files::new("policy-check", &rules("quiet ro"));
    let path = files.0.join("policy.toml");
    let answer = check(&path).unwrap();
    let text = format!("{}: valid: images usual; roles worker\n", path.display());
    let open = answer.text.strip_prefix(&text).unwrap();
    let warnings: Vec<&str> = open.lines().collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (warning, pcr) in warnings.iter().zip([2, 7, 13]) {
        let start = format!("warning: image \"usual\": PCR {pcr}: ");
        assert!(warning.starts_with(&start), "{warning}");
    }
    assert_eq!(answer.json["images"], json!(["usual"]));
    assert_eq!(answer.json["roles"], json!(["worker"]));
    assert_eq!(answer.json["warnings"].as_array().unwrap().len(), 3);

    fs::write(&path, "images = []\n").unwrap();
    let error = check(&path).err().unwrap();
    assert_eq!(error.exit(), Exit::Config);
    let start = format!("{}: line 1: unknown field `images`", path.display());
    assert!(error.to_string().starts_with(&start), "{error}");
}

#[test]
fn the_image_of_a_machine_is_told() {
    let files = Files::new("policy-matched", &rules("quiet ro"));
    let answer = files.explain().unwrap();
    assert!(
        answer
            .text
            .starts_with("image usual\n  PCR 7: Secure Boot on: ")
    );
    assert!(!answer.text.contains("no key would be released"));
    assert_eq!(answer.json["image"], "usual");
    assert_eq!(answer.json["roles"], json!(["worker"]));
    assert_eq!(answer.json["early"], true);
    assert_eq!(answer.json["events"].as_array().unwrap().len(), 8);
}

#[test]
fn what_differs_from_the_nearest_image_is_told() {
    let files = Files::new("policy-differs", &rules("quiet rw"));
    let error = files.explain().err().unwrap();
    assert_eq!(error.exit(), Exit::Refused);
    let digest = hex::encode(Bank::Sha256.hash(b"quiet ro"));
    assert_eq!(
        error.to_string(),
        format!(
            "judging {}: check image: nearest image usual: command line: \
             expected \"quiet rw\", found that of the image, with digest {digest}",
            files.0.join("evidence.json").display()
        )
    );
}

#[test]
fn evidence_that_does_not_verify_is_told_with_its_check() {
    let files = Files::new("policy-forged", &rules("quiet ro"));
    files.explain().unwrap();
    let mut forged = bundle();
    *forged.quote.0.last_mut().unwrap() ^= 1;
    let evidence = serde_json::to_string(&forged).unwrap();
    fs::write(files.0.join("evidence.json"), evidence).unwrap();
    let error = files.explain().err().unwrap();
    assert!(error.to_string().contains(": check signature: "), "{error}");
    assert_eq!(error.exit(), Exit::Refused);
}
