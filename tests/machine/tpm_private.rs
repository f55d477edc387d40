// SPDX-License-Identifier: Apache-2.0
//! A software TPM of the case's own, whose state can be taken and put back.

use std::fs;
use std::path::PathBuf;

use nightlatch::config::Tcti;
use nightlatch::error::Exit;
use nightlatch::pcr::{Bank, Pcr, PcrSet};
use nightlatch::tpm::{Policy, Tpm};

use crate::disk::{SECRET, secret};
use crate::support::firmware::Firmware;
use crate::support::swtpm::Swtpm;
pub(crate) use crate::support::swtpm::free_pair;

/// Where swtpm keeps all that is permanent; it replaces the file whole at each change.
const STATE_FILE: &str = "tpm2-00.permall";

const POLICY: Policy = Policy {
    pcrs: PcrSet::of(&[Pcr::SECURE_BOOT, Pcr::KERNEL_IMAGE, Pcr::KERNEL_CONFIG]),
    bank: Bank::Sha256,
    key: None,
};

/// A machine's TPM.
pub(crate) struct Private(Swtpm);

impl Private {
    /// A new one, in a machine whose firmware started the owner's image.
    pub(crate) fn start() -> Self {
        let tpm = Self(Swtpm::start());
        tpm.starts(&Firmware::signed());
        tpm
    }

    /// The firmware starts the machine, with nothing measured before.
    fn starts(&self, firmware: &Firmware) {
        firmware.start_machine(&mut self.open());
    }

    /// A new one with something sealed, so that it has a state to take: it keeps none before it is used.
    pub(crate) fn used() -> Self {
        let tpm = Self::start();
        tpm.open().seal(&secret(), POLICY).unwrap();
        tpm
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.0.port()
    }

    /// How many commands it has seen since the last time.
    pub(crate) fn commands(&mut self) -> usize {
        self.0.commands().len()
    }

    /// A connection.
    pub(crate) fn open(&self) -> Tpm {
        let port = self.0.port();
        Tpm::open(&Tcti::Swtpm { port }).unwrap()
    }

    /// What would be left if the power went now.
    pub(crate) fn state(&self) -> Vec<u8> {
        fs::read(self.state_file()).unwrap()
    }

    /// Where that is.
    pub(crate) fn state_file(&self) -> PathBuf {
        self.0.dir().join(STATE_FILE)
    }

    /// The power goes and comes back, and the firmware starts the owner's image.
    pub(crate) fn reset(&mut self) {
        self.reset_to(&Firmware::signed());
    }

    /// The power goes and comes back, and the machine is started like this.
    pub(crate) fn reset_to(&mut self, firmware: &Firmware) {
        self.0.reset();
        self.starts(firmware);
    }

    /// The power goes, and comes back with an earlier state. Only who runs the TPM can do that; a crash cannot.
    pub(crate) fn restore(&mut self, state: &[u8]) {
        self.restore_to(state, &Firmware::signed());
    }

    /// The same, and the machine is started like this.
    pub(crate) fn restore_to(&mut self, state: &[u8], firmware: &Firmware) {
        self.0
            .reset_with(|dir| fs::write(dir.join(STATE_FILE), state).unwrap());
        self.starts(firmware);
    }

    /// Runs one of the tpm2-tools, which must succeed, and gives what it printed.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.0.tool(name, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} {arguments:?}: {said}");
        output.stdout
    }
}

#[test]
fn what_a_private_tpm_sealed_it_unseals_after_a_restore_and_another_does_not() {
    let mut tpm = Private::start();
    let sealed = tpm.open().seal(&secret(), POLICY).unwrap();
    let state = tpm.state();
    tpm.restore(&state);
    let unsealed = tpm.open().unseal(&sealed, POLICY).unwrap();
    assert_eq!(unsealed.expose(), SECRET);

    let other = Private::start();
    let error = other.open().unseal(&sealed, POLICY).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused, "{error}");
}

/// The host that keeps the TPM's state can put a counter back: nothing that rests on a TPM is safe from who runs it.
#[test]
fn a_restored_state_takes_a_counter_back_and_a_reset_does_not() {
    let mut tpm = Private::start();
    let counter = "0x1804e11";
    let attributes = "ownerread|ownerwrite|authread|authwrite|no_da|nt=counter";
    tpm.tool(
        "tpm2_nvdefine",
        &[counter, "-C", "o", "-s", "8", "-a", attributes],
    );
    let raise = |tpm: &Private| {
        tpm.tool("tpm2_nvincrement", &[counter, "-C", "o"]);
        tpm.tool("tpm2_nvread", &[counter, "-C", "o"])
    };
    let first = raise(&tpm);
    let state = tpm.state();
    let second = raise(&tpm);
    assert!(second > first);
    tpm.reset();
    assert_eq!(tpm.tool("tpm2_nvread", &[counter, "-C", "o"]), second);
    tpm.restore(&state);
    assert_eq!(tpm.tool("tpm2_nvread", &[counter, "-C", "o"]), first);
}
