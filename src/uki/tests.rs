// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::error::Exit;
use crate::pcr::Bank;
use crate::support::unified::{
    CHECKSUM, DIRECTORIES, PE, SECTION_LEN, SECTIONS, SECURITY, image, program, signed,
};

fn refusal(bytes: &[u8]) -> String {
    let error = Uki::parse(bytes).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    error.to_string()
}

fn pcr_11(bytes: &[u8]) -> String {
    hex::encode(Uki::parse(bytes).unwrap().kernel_image(Bank::Sha256))
}

fn authenticode(bytes: &[u8]) -> String {
    hex::encode(
        Pe::parse(bytes)
            .unwrap()
            .authenticode(Bank::Sha256)
            .unwrap(),
    )
}

/// The parts that `systemd-measure` of version 254 was asked about.
const PARTS: [(&str, &[u8]); 3] = [
    (".cmdline", b"root=x"),
    (".initrd", b"INITRD\n"),
    (".linux", b"LINUX\n"),
];

#[test]
fn pcr_11_is_what_systemd_measure_says() {
    assert_eq!(
        pcr_11(&program(&PARTS)),
        "b856b524b4cb96ea3c018da29deb000698458b221f756928546c9667a69fae88"
    );
    // Without the firmware's variables no phase is measured: the value that the stub leaves.
    let stub = "a4073b78b9ced4120946a5f66c4589e2e5e66b2ce8a62745b562c50ee73e2bb3";
    let quiet = program(&[(".cmdline", b"efi=noruntime"), PARTS[1], PARTS[2]]);
    let hash = |bytes: &[u8]| Bank::Sha256.hash(bytes);
    let expected = [
        &b".linux\0"[..],
        b"LINUX\n",
        b".cmdline\0",
        b"efi=noruntime",
        b".initrd\0",
        b"INITRD\n",
    ];
    let of = |measured: &[&[u8]]| {
        let value = measured.iter().fold(vec![0; 32], |value, bytes| {
            Bank::Sha256.extended(&value, &hash(bytes))
        });
        hex::encode(value)
    };
    assert_eq!(pcr_11(&quiet), of(&expected));
    let known = [&expected[..3], &[b"root=x"], &expected[4..]].concat();
    assert_eq!(of(&known), stub);
}

/// However the kernel is told it, which is how a node reads its command line.
#[test]
fn without_the_firmwares_variables_no_phase_is_in_pcr_11() {
    let has_phase = |line: &str| {
        let bytes = program(&[(".cmdline", line.as_bytes()), PARTS[2]]);
        let uki = Uki::parse(&bytes).unwrap();
        let mut value = Bank::Sha256.zero();
        for measured in [&b".linux\0"[..], PARTS[2].1, b".cmdline\0", line.as_bytes()] {
            value = Bank::Sha256.extended(&value, &Bank::Sha256.hash(measured));
        }
        uki.kernel_image(Bank::Sha256) != value
    };
    for line in [
        "efi=noruntime",
        "efi=debug,noruntime quiet",
        "\"efi=noruntime\"",
    ] {
        assert!(!has_phase(line), "{line}");
    }
    for line in [
        "quiet",
        "efi=noruntimes",
        "efi=noruntime,runtime",
        "efi=noruntime efi=runtime",
        "quiet -- efi=noruntime",
    ] {
        assert!(has_phase(line), "{line}");
    }
}

#[test]
fn only_what_the_stub_measures_counts() {
    let with = |more: &[(&str, &[u8])]| pcr_11(&program(&[&PARTS[..], more].concat()));
    let plain = with(&[]);
    assert_eq!(
        with(&[(".pcrsig", b"signatures"), (".text", b"code")]),
        plain
    );
    // Present and empty is as if it were not there.
    assert_eq!(with(&[(".osrel", b"")]), plain);
    assert_ne!(with(&[(".osrel", b"ID=x")]), plain);
    assert_ne!(with(&[(".pcrpkey", b"a key")]), plain);
    // The order is the stub's, not the file's.
    let turned = [PARTS[2], PARTS[0], PARTS[1]];
    assert_eq!(pcr_11(&program(&turned)), plain);
    let kinds = |name| refusal(&program(&[&PARTS[..], &[(name, &b"x"[..])]].concat()));
    for name in [".profile", ".dtbauto", ".efifw"] {
        let why = format!("section {name}: which of several parts the stub takes is not known");
        assert!(kinds(name).starts_with(&why));
    }
    assert!(kinds(".cmdline").starts_with("section .cmdline: it is there twice"));
}

#[test]
fn a_stub_that_hands_on_what_it_finds_is_known_by_its_version() {
    let version = |text: &str| {
        let bytes = program(&[&PARTS[..], &[(".sdmagic", text.as_bytes())]].concat());
        let uki = Uki::parse(&bytes).unwrap();
        uki.stub_that_hands_on().map(str::to_owned)
    };
    let stub = |version: &str| format!("#### LoaderInfo: systemd-stub {version} ####");
    for hands_on in ["261", "261.2-1", "262.1-1", "262~rc1", "main"] {
        assert_eq!(version(&stub(hands_on)), Some(hands_on.into()));
    }
    for refuses in ["252.39-1~deb12u2", "257.13-1~deb13u1", "260.9", "260~rc2"] {
        assert_eq!(version(&stub(refuses)), None);
    }
    // Another stub, or one that says nothing: of these nothing is known.
    assert_eq!(version("#### LoaderInfo: systemd-boot 262.1-1 ####"), None);
    let silent = program(&PARTS);
    assert_eq!(Uki::parse(&silent).unwrap().stub_that_hands_on(), None);
}

#[test]
fn the_command_line_is_one_line_without_what_tools_end_it_with() {
    let line = |text: &[u8]| {
        let bytes = image(&[(".cmdline", text)]);
        let line = Uki::parse(&bytes).map(|uki| uki.command_line().map(str::to_owned));
        line.map_err(|error| error.to_string())
    };
    for end in ["", "\n", "\0", "\n\0"] {
        let text = format!("quiet ro {end}");
        assert_eq!(
            line(text.as_bytes()),
            Ok(Some("quiet ro ".into())),
            "{end:?}"
        );
    }
    assert!(
        line(b"quiet\n\n")
            .unwrap_err()
            .contains("expected one line")
    );
    assert!(line(b"\xff").unwrap_err().contains("it is no UTF-8"));
    assert_eq!(Uki::parse(&image(&[])).unwrap().command_line(), None);
}

#[test]
fn the_authenticode_hash_is_what_tools_sign() {
    let bytes = program(&PARTS);
    // sbsign 0.9.4 signs this digest.
    let hash = "dd0edcad2bdadc32157459cdb96fe6a0f7562386516e19c9e1f38c10ff3a5cf8";
    assert_eq!(authenticode(&bytes), hash);
    // Neither the signature nor where it is, nor the checksum, count.
    let mut altered = signed(bytes.clone(), b"somebody's");
    altered[CHECKSUM] = 0xaa;
    assert_eq!(authenticode(&altered), hash);
    for at in [
        PE + 8,
        CHECKSUM - 1,
        CHECKSUM + 4,
        SECURITY - 1,
        SECURITY + 8,
        bytes.len() - 1,
    ] {
        let mut altered = signed(bytes.clone(), b"somebody's");
        altered[at] ^= 1;
        if let Ok(program) = Pe::parse(&altered) {
            let other = program.authenticode(Bank::Sha256).unwrap();
            assert_ne!(hex::encode(other), hash, "{at}");
        }
    }
    // What follows the sections counts.
    let longer = [&bytes[..], &[0; 8]].concat();
    assert_ne!(authenticode(&longer), hash);
    assert_eq!(
        authenticode(&signed(longer.clone(), b"x")),
        authenticode(&longer)
    );
}

#[test]
fn a_program_with_few_directories_has_no_signature() {
    let mut bytes = program(&PARTS);
    bytes[DIRECTORIES] = 2;
    let few = Pe::parse(&bytes).unwrap();
    assert!(few.signature_table().is_empty());
    few.authenticode(Bank::Sha256).unwrap();
}

#[test]
fn the_kernel_is_a_program_of_its_own() {
    let bytes = image(&[(".cmdline", b"quiet")]);
    let uki = Uki::parse(&bytes).unwrap();
    let kernel = uki.kernel().unwrap();
    let alone = program(&[(".text", b"the kernel")]);
    assert_eq!(
        hex::encode(kernel.authenticode(Bank::Sha256).unwrap()),
        authenticode(&alone)
    );
    let error = Uki::parse(&program(&PARTS)).unwrap().kernel().map(drop);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("section .linux: no unified kernel image")
    );
    assert_eq!(
        refusal(&program(&[(".initrd", b"x")])),
        "no unified kernel image: it has no section .linux"
    );
}

#[test]
fn a_signature_names_its_signer_and_whoever_issued_a_certificate() {
    let key = || rcgen::KeyPair::generate().unwrap();
    let named = |name: &str| {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let common = rcgen::DnType::CommonName;
        parameters.distinguished_name.push(common, name);
        parameters
    };
    let owner = named("owner").self_signed(&key()).unwrap().der().to_vec();
    let other = named("other").self_signed(&key()).unwrap().der().to_vec();
    let by = |parts: &[&[u8]]| {
        let bytes = signed(program(&PARTS), &parts.concat());
        Pe::parse(&bytes).unwrap().names_signer(&owner).unwrap()
    };
    assert!(!by(&[b"nobody's"]));
    assert!(!by(&[b"before", &other, b"after"]));
    assert!(by(&[b"before", &owner, b"after"]));
    // Only its name, as the issuer of another certificate has it.
    let name = [
        &[
            0x30, 0x10, 0x31, 0x0e, 0x30, 0x0c, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x05,
        ][..],
        b"owner",
    ];
    assert!(by(&[b"before", &name.concat(), b"after"]));
    let unsigned = program(&PARTS);
    assert!(!Pe::parse(&unsigned).unwrap().names_signer(&owner).unwrap());
    let none = Pe::parse(&unsigned)
        .unwrap()
        .names_signer(b"no certificate");
    assert!(none.unwrap_err().to_string().starts_with("certificate: "));
}

#[test]
fn what_is_added_from_outside_has_its_values_of_pcr_12() {
    let hex = |values: Vec<Vec<u8>>| values.iter().map(hex::encode).collect::<Vec<_>>();
    let bank = Bank::Sha256;
    let separator = bank.hash(b"os-separator");
    let zeros = vec![0; 32];
    let later = bank.extended(&zeros, &separator);
    assert_eq!(
        hex(Addition::no_extension(bank)),
        hex(vec![zeros.clone(), later.clone()])
    );
    let added = Addition {
        text: "console=ttyS0 quiet fixture.extra=1",
        times: 2,
    };
    // The recorded boot through systemd-boot.
    let recorded = "aa4a397a8c3f595824070f93e0886ff1dadefb9619e20fde6324f7aae6e92b39";
    let values = hex(Addition::kernel_config(bank, &[added]));
    assert_eq!(values[..2], hex(vec![zeros, later]));
    assert_eq!(values[2], recorded);
    assert_eq!(values.len(), 4);
}

#[test]
fn no_cut_and_no_altered_byte_makes_it_panic() {
    let bytes = signed(image(&[(".cmdline", b"quiet"), (".sbat", b"sbat,1")]), b"x");
    Uki::parse(&bytes).unwrap();
    let look = |bytes: &[u8]| {
        let Ok(uki) = Uki::parse(bytes) else {
            return;
        };
        assert_eq!(uki.kernel_image(Bank::Sha256).len(), 32);
        // What can be taken apart can be hashed, or is refused.
        drop(uki.program.authenticode(Bank::Sha256));
        if let Ok(kernel) = uki.kernel() {
            drop(kernel.authenticode(Bank::Sha256));
        }
    };
    for len in 0..bytes.len() {
        look(&bytes[..len]);
    }
    for at in 0..SECTIONS + 5 * SECTION_LEN {
        for with in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut altered = bytes.clone();
            altered[at] = with;
            look(&altered);
        }
    }
}

#[test]
fn what_is_no_program_is_told_why() {
    let good = image(&[]);
    Uki::parse(&good).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut altered = good.clone();
        altered[at..at + bytes.len()].copy_from_slice(bytes);
        refusal(&altered)
    };
    let start = "no unified kernel image: ";
    assert_eq!(
        with(0, b"ZM"),
        format!("{start}it does not start as a program does")
    );
    assert_eq!(with(PE, b"PX"), format!("{start}it has no PE header"));
    assert_eq!(
        with(PE + 24, &[7, 1]),
        format!("{start}its optional header is of kind 0x107")
    );
    assert_eq!(with(PE + 6, &[97, 0]), format!("{start}it has 97 sections"));
    assert_eq!(
        with(SECURITY, &[0x40, 0, 0, 0, 8]),
        format!("{start}its signatures are not at its end")
    );
    assert_eq!(
        with(PE + 24 + 60, &[0, 0]),
        format!("{start}its headers are cut short")
    );
    assert_eq!(
        with(SECTIONS + 16, &[0xff; 4]),
        format!("{start}it is cut short")
    );
    let linux = SECTIONS + SECTION_LEN + 8;
    assert_eq!(
        with(linux, &[0xff, 0xff, 0, 0]),
        "section .linux: it is longer in memory than in the file"
    );
}
