// SPDX-License-Identifier: Apache-2.0
use std::fs;
use std::path::PathBuf;

use super::*;
use crate::ctl::tests::run;
use crate::error::Exit;
use crate::evidence::Policy;
use crate::key::pcr::tests::{key, made};
use crate::support::unified::{program, signed};

/// A directory with an image, a loader and a certificate, gone after the test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nightlatch-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// An image whose kernel is as given.
fn of_kernel(kernel: &[u8]) -> Vec<u8> {
    let line = &b"quiet \"ro\"\n"[..];
    program(&[
        (".cmdline", line),
        (".initrd", b"INITRD"),
        (".linux", kernel),
    ])
}

fn kernel() -> Vec<u8> {
    program(&[(".text", b"the kernel")])
}

fn certificate(name: &str) -> (String, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let common = rcgen::DnType::CommonName;
    parameters.distinguished_name.push(common, name);
    let made = parameters.self_signed(&key).unwrap();
    (made.pem(), made.der().to_vec())
}

fn digits(bytes: &[u8]) -> String {
    hash(&Pe::parse(bytes).unwrap()).unwrap()
}

fn image(words: &[&str]) -> Result<Answer> {
    run(
        Path::new("/nonexistent"),
        &[&["policy", "image"], words].concat(),
    )
}

/// The printed table as a part of a policy.
fn policy(text: &str, pem: &str) -> Policy {
    let zeros = "00".repeat(32);
    let whole = format!(
        "[ek]\nenrolled = [\"{zeros}\"]\n{text}\n\
         [[role]]\nname = \"node\"\nvolumes = [\"state\"]\nimages = [\"node 1\"]\n"
    );
    Policy::parse(&whole, |file| {
        assert_eq!(file, "owner.pem");
        Ok(pem.into())
    })
    .unwrap()
}

#[test]
fn a_signed_image_is_told_as_a_policy_needs_it_and_leaves_nothing_open() {
    let files = Files::new("image-signed");
    let (pem, der) = certificate("owner");
    let bytes = signed(of_kernel(&kernel()), &der);
    let owner = files.write("owner.pem", pem.as_bytes());
    let uki = files.write("image.efi", &bytes);
    let answer = image(&[&uki, "--name", "node 1", "--authority", &owner]).unwrap();
    let table: toml::Table = toml::from_str(&answer.text).unwrap();
    let told = &table["image"][0];
    assert_eq!(told["uki-hash"][0].as_str(), Some(digits(&bytes).as_str()));
    assert_eq!(told["command-line"][0].as_str(), Some("quiet \"ro\""));
    assert_eq!(told["secure-boot"].as_bool(), Some(true));
    assert_eq!(told.get("kernel-hash"), None);
    assert_eq!(told["pcrs"]["12"].as_array().unwrap().len(), 2);
    assert_eq!(
        answer.json["image"]["pcrs"]["11"][0],
        told["pcrs"]["11"][0].as_str().unwrap()
    );
    assert_eq!(answer.json["image"]["authorities"], json!(["owner.pem"]));
    assert_eq!(answer.json["warnings"], json!([]));
    assert_eq!(policy(&answer.text, &pem).warnings(), Vec::<String>::new());
}

#[test]
fn without_secure_boot_the_kernel_has_its_place() {
    let files = Files::new("image-plain");
    let uki = files.write("node 1.efi", &of_kernel(&kernel()));
    let loader_bytes = program(&[(".text", b"a loader")]);
    let loader = files.write("loader.efi", &loader_bytes);
    let more = ["--boot-loader", &loader, "--command-line", "quiet extra"];
    let words = [&[uki.as_str()][..], &more].concat();
    let answer = image(&words).unwrap();
    let told = &answer.json["image"];
    assert_eq!(told["name"], "node 1");
    assert_eq!(told["secure-boot"], false);
    assert_eq!(told["kernel-hash"], json!([digits(&kernel())]));
    assert_eq!(told["loader-hash"], json!([digits(&loader_bytes)]));
    assert_eq!(told["command-line"], json!(["quiet \"ro\"", "quiet extra"]));
    // Nothing, the line measured once, and twice; each with and without systemd's separator.
    assert_eq!(told["pcrs"]["12"].as_array().unwrap().len(), 6);
    policy(&answer.text, "");
}

#[test]
fn a_kernel_that_an_authority_signed_is_refused() {
    let files = Files::new("image-kernel");
    let (pem, der) = certificate("owner");
    let (_, other) = certificate("distribution");
    let owner = files.write("owner.pem", pem.as_bytes());
    let told = |kernel: &[u8]| {
        let uki = files.write("image.efi", &signed(of_kernel(kernel), &der));
        image(&[&uki, "--authority", &owner])
    };
    told(&kernel()).unwrap();
    told(&signed(kernel(), &other)).unwrap();
    let error = told(&signed(kernel(), &der)).err().unwrap();
    assert_eq!(error.exit(), Exit::Refused);
    let why = "section .linux: the kernel carries a signature of";
    assert!(error.to_string().contains(why), "{error}");
    // An image that nobody signed is told, with a word about that.
    let uki = files.write("image.efi", &of_kernel(&kernel()));
    let answer = image(&[&uki, "--authority", &owner]).unwrap();
    let warning = format!("# warning: the image carries no signature of {owner}\n");
    assert!(answer.text.starts_with(&warning), "{}", answer.text);
}

#[test]
fn an_image_whose_stub_hands_on_an_initrd_of_the_hosts_is_refused_unless_that_is_named() {
    let files = Files::new("image-stub");
    let (pem, der) = certificate("owner");
    let owner = files.write("owner.pem", pem.as_bytes());
    let told = |version: &str, more: &[&str]| {
        let (kernel, magic) = (
            kernel(),
            format!("#### LoaderInfo: systemd-stub {version} ####"),
        );
        let parts = [
            (".cmdline", &b"quiet"[..]),
            (".linux", &kernel),
            (".sdmagic", magic.as_bytes()),
        ];
        let uki = files.write("image.efi", &signed(program(&parts), &der));
        image(&[&[uki.as_str(), "--authority", &owner][..], more].concat())
    };
    assert_eq!(told("257.13-1", &[]).unwrap().json["warnings"], json!([]));
    let error = told("262.1-1", &[]).err().unwrap();
    assert_eq!(error.exit(), Exit::Refused);
    let why = "systemd-stub 262.1-1, which puts an initrd";
    assert!(error.to_string().contains(why), "{error}");
    let digest = "5a".repeat(32);
    let more = ["--name", "node 1", "--initrd-hash", &digest];
    let answer = told("262.1-1", &more).unwrap();
    assert_eq!(answer.json["image"]["initrd-hash"], json!([digest]));
    policy(&answer.text, &pem);
}

#[test]
fn who_signed_pcr_11_is_told() {
    let files = Files::new("image-pcr-signed");
    let key = key(&made()[0]);
    // With room for a section more.
    let of = |kernel: &[u8]| program(&[(".cmdline", b"quiet"), (".linux", kernel)]);
    let plain = of(&kernel());
    let signatures = |bank| {
        let uki = Uki::parse(&plain).unwrap();
        uki.sign(&key, &[bank], &[None]).unwrap().to_json().unwrap()
    };
    let with = |bytes: &[u8], bank| {
        let program = Pe::parse(bytes).unwrap();
        let made = program.with_section(".pcrsig", signatures(bank).as_bytes());
        image(&[&files.write("image.efi", &made.unwrap())]).unwrap()
    };
    let answer = with(&plain, Bank::Sha384);
    assert_eq!(answer.json["signed-by"], json!([key.public().to_string()]));
    let answer = with(&plain, Bank::Sha256);
    let line = format!("# Signed by the key {}.\n11 = [", key.public());
    assert!(answer.text.contains(&line), "{}", answer.text);
    assert_eq!(answer.json["signed-by"], json!([key.public().to_string()]));
    assert_eq!(answer.json["warnings"], json!([]));
    policy(&answer.text.replace("\"image\"", "\"node 1\""), "");
    assert!(answer.json["floor"].is_null());
    // The highest floor that it is signed for.
    let floors = [1, 3, 2].map(|number| Some(Floor::try_from(number).unwrap()));
    let uki = Uki::parse(&plain).unwrap();
    let signed = uki.sign(&key, &[Bank::Sha256], &floors).unwrap();
    let made = Pe::parse(&plain)
        .unwrap()
        .with_section(".pcrsig", signed.to_json().unwrap().as_bytes())
        .unwrap();
    let answer = image(&[&files.write("image.efi", &made)]).unwrap();
    assert_eq!(answer.json["floor"], 3);
    let line = format!(
        "# Signed by the key {}.\n# Signed for floor 3.\n11 = [",
        key.public()
    );
    assert!(answer.text.contains(&line), "{}", answer.text);
    // Those of another image.
    let other = of(&program(&[(".text", b"another kernel")]));
    let answer = with(&other, Bank::Sha256);
    assert_eq!(answer.json["signed-by"], json!([]));
    let warning = "# warning: the image carries signatures of PCR 11, and none of its own value\n";
    assert!(answer.text.starts_with(warning), "{}", answer.text);
    // The control has none.
    let answer = image(&[&files.write("image.efi", &plain)]).unwrap();
    assert_eq!(answer.json["signed-by"], json!([]));
    assert_eq!(answer.json["warnings"], json!([]));
}

#[test]
fn what_is_no_image_is_told() {
    let files = Files::new("image-none");
    let uki = files.write("image.efi", &of_kernel(&kernel()));
    image(&[&uki]).unwrap();
    let text = files.write("text", b"text");
    let error = image(&[&text]).err().unwrap();
    assert_eq!(error.exit(), Exit::Refused);
    let why = format!("{text}: no unified kernel image: it does not start as a program does");
    assert_eq!(error.to_string(), why);
    let error = image(&[&uki, "--authority", &text]).err().unwrap();
    assert!(
        error.to_string().contains("expected certificates in PEM"),
        "{error}"
    );
}
