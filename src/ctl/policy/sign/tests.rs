// SPDX-License-Identifier: Apache-2.0
use std::os::unix::fs::{PermissionsExt as _, symlink};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

use super::*;
use crate::ctl::tests::run;
use crate::key::pcr::tests::{key, made};
use crate::sealed::signature::PcrSignatures;
use crate::support::unified::{image, program, signed};

/// A directory with images and keys, gone after the test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nightlatch-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let files = Self(path);
        for (name, key) in ["key", "other.key"].iter().zip(made()) {
            files.write(name, &key.private_key_to_pem_pkcs8().unwrap());
        }
        let owner = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let owner = owner
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap();
        files.write("owner.der", owner.der());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Signs `image` in this directory, which the owner is going to sign.
    fn sign(&self, more: &[&str]) -> Result<Answer> {
        let owner = self.path("owner.der");
        self.sign_alone(&[&["--authority", owner.to_str().unwrap()], more].concat())
    }

    fn sign_alone(&self, more: &[&str]) -> Result<Answer> {
        let (image, key) = (self.path("image"), self.path("key"));
        let words = ["policy", "sign", image.to_str().unwrap()];
        let key = ["--key", key.to_str().unwrap()];
        run(
            Path::new("/nonexistent"),
            &[&words[..], &key, more].concat(),
        )
    }

    /// What is said of an image that is not signed, which stays as it is.
    fn refusal(&self, image: &[u8], more: &[&str]) -> String {
        self.write("image", image);
        let error = self.sign(more).err().unwrap();
        assert_eq!(self.read("image"), image);
        assert!(!self.path("image.new").exists());
        error.to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn unsigned() -> Vec<u8> {
    image(&[(".cmdline", b"quiet"), (".initrd", b"INITRD")])
}

#[test]
fn an_image_gets_its_signatures_in_its_place_or_beside() {
    let files = Files::new("sign");
    let before = unsigned();
    files.write("image", &before);
    let mode = Permissions::from_mode(0o640);
    fs::set_permissions(files.path("image"), mode).unwrap();
    let beside = files.path("beside");
    files.sign(&["--out", beside.to_str().unwrap()]).unwrap();
    assert_eq!(files.read("image"), before);

    // A link stays one, and what it leads to is signed.
    fs::rename(files.path("image"), files.path("real")).unwrap();
    symlink("real", files.path("image")).unwrap();
    let answer = files.sign(&[]).unwrap();
    let link = fs::symlink_metadata(files.path("image")).unwrap();
    assert!(link.is_symlink());
    let after = files.read("image");
    assert_eq!(after, files.read("beside"));
    let mode = fs::metadata(files.path("real")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o640);

    let uki = Uki::parse(&after).unwrap();
    let section = uki.section(SIGNATURES).unwrap().unwrap();
    let signatures = PcrSignatures::parse(section).unwrap();
    let ours = key(&made()[0]);
    let values = uki.signed_values(Bank::Sha256);
    for (entry, (_, value)) in signatures.of(Bank::Sha256).iter().zip(&values) {
        assert!(entry.is_for(ours.public(), Bank::Sha256, value, None));
    }
    let fingerprint = hex::encode(ours.public().fingerprint());
    let [before, initrd] = values.map(|(_, value)| hex::encode(value));
    let expected = format!(
        "{}: signed by key {fingerprint}\n  PCR 11 (sha256), before any phase: {before}\n  \
         PCR 11 (sha256), enter-initrd: {initrd}\n",
        files.path("real").display()
    );
    assert_eq!(answer.text, expected);
    assert_eq!(answer.json["key"], fingerprint);
    assert_eq!(answer.json["signatures"][1]["pcr-11"], initrd);
    assert_eq!(answer.json["signatures"].as_array().unwrap().len(), 2);
}

#[test]
fn each_bank_that_is_named_is_signed() {
    let files = Files::new("sign-banks");
    files.write("image", &unsigned());
    files
        .sign(&["--bank", "sha384", "--bank", "sha256"])
        .unwrap();
    let after = files.read("image");
    let section = Uki::parse(&after).unwrap().section(SIGNATURES).unwrap();
    let signatures = PcrSignatures::parse(section.unwrap()).unwrap();
    assert_eq!(signatures.of(Bank::Sha256).len(), 2);
    assert_eq!(signatures.of(Bank::Sha384).len(), 2);
    let error = files.sign(&["--bank", "sha1"]).err().unwrap();
    assert_eq!(error.exit(), Exit::Usage);
}

/// Nodes of each floor up to the image's, and those without one unless an oldest floor is said.
#[test]
fn an_image_is_signed_for_its_floors() {
    let files = Files::new("sign-floors");
    let references = |more: &[&str]| {
        files.write("image", &unsigned());
        let answer = files.sign(more).unwrap();
        let after = files.read("image");
        let uki = Uki::parse(&after).unwrap();
        let section = uki.section(SIGNATURES).unwrap().unwrap();
        let signatures = PcrSignatures::parse(section).unwrap();
        let ours = key(&made()[0]);
        let [_, (_, value)] = uki.signed_values(Bank::Sha256);
        let all = signatures.of(Bank::Sha256).iter();
        let of_initrd = all.filter(|it| {
            let floor = it.reference.as_deref().and_then(Floor::of_reference);
            it.is_for(ours.public(), Bank::Sha256, &value, floor)
        });
        let references: Vec<_> = of_initrd.map(|it| it.reference.clone()).collect();
        (references, answer)
    };
    let named = |number| Some(format!("nightlatch-{number}"));
    let (of, answer) = references(&["--floor", "2"]);
    assert_eq!(of, [None, named(1), named(2)]);
    assert!(
        answer.text.contains("\n  for floors 1 to 2\n"),
        "{}",
        answer.text
    );
    assert_eq!(answer.json["floor"], 2);
    assert_eq!(answer.json["oldest"], 1);
    let (of, answer) = references(&["--floor", "3", "--oldest", "2"]);
    assert_eq!(of, [named(2), named(3)]);
    assert_eq!(answer.json["oldest"], 2);
    let (of, answer) = references(&[]);
    assert_eq!(of, [None]);
    assert!(answer.json["floor"].is_null());

    files.write("image", &unsigned());
    for (more, why) in [
        (&["--floor", "0"][..], "expected a floor from 1 on, found 0"),
        (&["--oldest", "1"], "--floor"),
        (
            &["--floor", "65"],
            "expected at most 64 floors from the oldest",
        ),
        (
            &["--floor", "1", "--oldest", "2"],
            "--oldest: expected an oldest floor of at most 1, found 2",
        ),
    ] {
        let error = files.sign(more).err().unwrap();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(files.read("image"), unsigned());
}

#[test]
fn an_image_that_is_signed_already_in_either_way_is_refused() {
    let files = Files::new("sign-twice");
    files.write("image", &unsigned());
    files.sign(&[]).unwrap();
    let after = files.read("image");
    let why = files.refusal(&after, &[]);
    assert!(
        why.contains("section .pcrsig: the image has signatures"),
        "{why}"
    );
    let empty = image(&[(".pcrsig", b"")]);
    let why = files.refusal(&empty, &[]);
    assert!(
        why.contains("section .pcrsig: the image has signatures"),
        "{why}"
    );
    let why = files.refusal(&signed(unsigned(), b"somebody's"), &[]);
    assert!(
        why.contains("the file is signed for Secure Boot already"),
        "{why}"
    );
}

#[test]
fn an_image_with_another_public_key_or_parts_that_are_chosen_is_refused() {
    let files = Files::new("sign-key");
    let [own, other] = made();
    let kernel = program(&[(".text", b"the kernel")]);
    let with = |key: Vec<u8>| program(&[(".linux", &kernel), (".pcrpkey", &key)]);
    files.write("image", &with(own.public_key_to_pem().unwrap()));
    files.sign(&[]).unwrap();
    let why = files.refusal(&with(other.public_key_to_pem().unwrap()), &[]);
    assert!(
        why.contains("section .pcrpkey: it has another key"),
        "{why}"
    );
    let why = files.refusal(&with(b"text".to_vec()), &[]);
    assert!(
        why.contains("section .pcrpkey: expected an RSA public key"),
        "{why}"
    );
    let why = files.refusal(&image(&[(".profile", b"ID=x")]), &[]);
    assert!(
        why.contains("section .profile: which of several parts"),
        "{why}"
    );
    let why = files.refusal(b"text", &[]);
    assert!(why.contains("it does not start as a program does"), "{why}");
}

#[test]
fn a_kernel_that_an_authority_signed_is_refused() {
    let files = Files::new("sign-kernel");
    let of = |kernel: &[u8]| program(&[(".linux", kernel)]);
    let kernel = program(&[(".text", b"the kernel")]);
    // A distribution's kernel carries the distribution's.
    files.write("image", &of(&signed(kernel.clone(), b"somebody's")));
    files.sign(&[]).unwrap();
    let why = files.refusal(&of(&signed(kernel, &files.read("owner.der"))), &[]);
    assert!(why.contains("the kernel carries a signature of"), "{why}");
    // Whose that would be has to be said.
    let error = files.sign_alone(&[]).err().unwrap();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().contains("--authority"), "{error}");
}

/// Once signed, it would open each node of the key for as long as that key counts.
#[test]
fn an_image_whose_stub_hands_on_an_initrd_of_the_hosts_is_refused() {
    let files = Files::new("sign-stub");
    let of = |version: &str| {
        let magic = format!("#### LoaderInfo: systemd-stub {version} ####");
        let kernel = program(&[(".text", b"the kernel")]);
        program(&[(".sdmagic", magic.as_bytes()), (".linux", &kernel)])
    };
    let why = files.refusal(&of("261"), &[]);
    assert!(
        why.contains("the image starts with systemd-stub 261, which puts an initrd that somebody left for it in front"),
        "{why}"
    );
    files.write("image", &of("260.2"));
    files.sign(&[]).unwrap();
}

#[test]
fn the_key_that_starts_programs_is_not_the_one_that_says_which_are_images() {
    let files = Files::new("sign-own");
    let [own, other] = made();
    let certificate = |key: &PKey<Private>| {
        let mut made = X509::builder().unwrap();
        made.set_version(2).unwrap();
        let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
        made.set_serial_number(&serial).unwrap();
        made.set_not_before(&Asn1Time::from_unix(0).unwrap())
            .unwrap();
        made.set_not_after(&Asn1Time::from_unix(1 << 30).unwrap())
            .unwrap();
        made.set_pubkey(key).unwrap();
        made.sign(key, MessageDigest::sha256()).unwrap();
        made.build().to_der().unwrap()
    };
    files.write("owner.der", &certificate(own));
    let why = files.refusal(&unsigned(), &[]);
    assert!(why.contains("owner.der is of the same key"), "{why}");
    files.write("owner.der", &certificate(other));
    files.write("image", &unsigned());
    files.sign(&[]).unwrap();
}

#[test]
fn a_key_that_is_none_is_told_with_its_file_and_without_its_bytes() {
    let files = Files::new("sign-no-key");
    files.write("image", &unsigned());
    files.sign(&[]).unwrap();
    files.write("key", b"very secret");
    let why = files.refusal(&unsigned(), &[]);
    let start = format!(
        "{}: expected an RSA private key",
        files.path("key").display()
    );
    assert!(why.starts_with(&start), "{why}");
    assert!(!why.contains("very secret"), "{why}");
    // What somebody left where the new file would be is not written over.
    let files = Files::new("sign-left");
    files.write("image", &unsigned());
    files.write("image.new", b"somebody's");
    let error = files.sign(&[]).err().unwrap().to_string();
    assert!(
        error.contains(
            "image.new, which a run that was ended may have left: remove it then: File exists"
        ),
        "{error}"
    );
    assert_eq!(files.read("image.new"), b"somebody's");
}
