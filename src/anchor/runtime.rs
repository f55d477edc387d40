// SPDX-License-Identifier: Apache-2.0
//! The anchor in the hands of the running system: the key a boot leaves behind, and changes made with it.
//!
//! The key is a file that only root reads, in memory, gone with the next reset. It lets its holder write to this node's
//! record, nothing else; who has it could as well change the data on the mounted volumes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::record::{RECORD_LEN, Record};
use super::requests::{REQUESTS_LEN, RequestKeys, Requests};
use crate::config::Tcti;
use crate::error::{Doing, Error, Result};
use crate::key::{KEY_LEN, Secret};
use crate::tpm::{Handles, NvAccess, Tpm};

/// Where the key lies, below the root.
const KEY_PATH: &str = "run/nightlatch/anchor.key";

/// More than the file has.
const KEY_FILE_LEN_MAX: usize = 1024;

/// What a running system needs to read and write its node's anchor.
#[derive(Debug)]
pub struct RuntimeAnchor {
    tcti: Tcti,
    at: Handles,
    /// The index of requests; none in a file of a program that knew of none.
    requests: Option<u32>,
    access: NvAccess,
    /// The key file, locked: one program at a time changes the record. Only where it was read from the file.
    _lock: Option<Flock<File>>,
}

/// The key file. Binary values are hexadecimal digits.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct KeyFile<'a> {
    tcti: &'a str,
    index: u32,
    counter: u32,
    #[serde(default)]
    requests: Option<u32>,
    auth: &'a str,
    pcr_policy: &'a str,
}

impl RuntimeAnchor {
    pub(super) fn new(tcti: Tcti, at: Handles, requests: u32, access: NvAccess) -> Self {
        Self {
            tcti,
            at,
            requests: Some(requests),
            access,
            _lock: None,
        }
    }

    /// Leaves the key for the running system.
    pub fn leave(&self, root: &Path) -> Result<()> {
        let path = root.join(KEY_PATH);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)))
                .doing(directory.display())?;
        }
        let auth = Zeroizing::new(hex::encode(self.access.auth.expose()));
        let file = KeyFile {
            tcti: &self.tcti.to_string(),
            index: self.at.record,
            counter: self.at.counter,
            requests: self.requests,
            auth: &auth,
            pcr_policy: &hex::encode(self.access.pcr_policy),
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_LEN_MAX));
        serde_json::to_writer(&mut *bytes, &file).map_err(Error::failure)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        options
            .open(&path)
            .and_then(|mut file| file.write_all(&bytes))
            .doing(path.display())
    }

    /// Takes up the key, and the right to change the record until this is dropped.
    pub fn take(root: &Path) -> Result<Self> {
        let path = root.join(KEY_PATH);
        Self::read(&path).doing(path.display())
    }

    fn read(path: &Path) -> Result<Self> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == NotFound => {
                return Err(Error::unavailable(
                    "there is none: this boot opened no volume that has an anchor",
                ));
            }
            Err(error) => return Err(error.into()),
        };
        let mut file = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::failure(errno.desc()))?;
        let anchor = Self::parse(&mut file)?;
        Ok(Self {
            _lock: Some(file),
            ..anchor
        })
    }

    /// What the next boot is asked to do, read beside whoever is about to change it. None where no boot has left a key, or not to
    /// this user.
    pub fn look_at_requests(root: &Path) -> Result<Option<Requests>> {
        let path = root.join(KEY_PATH);
        match File::open(&path) {
            Ok(mut file) => {
                let anchor = Self::parse(&mut file).doing(path.display())?;
                anchor.requests().map(Some)
            }
            Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => Ok(None),
            Err(error) => Err(error).doing(path.display()),
        }
    }

    fn parse(file: &mut File) -> Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_LEN_MAX));
        file.read_to_end(&mut bytes)?;
        let parsed: KeyFile<'_> = serde_json::from_slice(&bytes).map_err(Error::failure)?;
        let mut auth = Zeroizing::new(vec![0; KEY_LEN]);
        let mut pcr_policy = [0; 32];
        hex::decode_to_slice(parsed.auth, &mut auth).map_err(Error::failure)?;
        hex::decode_to_slice(parsed.pcr_policy, &mut pcr_policy).map_err(Error::failure)?;
        Ok(Self {
            tcti: Tcti::try_from(parsed.tcti.to_owned()).map_err(Error::failure)?,
            at: Handles {
                record: parsed.index,
                counter: parsed.counter,
            },
            requests: parsed.requests,
            access: NvAccess {
                auth: Secret::new(std::mem::take(&mut *auth)),
                pcr_policy,
            },
            _lock: None,
        })
    }

    /// The record and the counter's value as they are now.
    pub fn show(&self) -> Result<(Record, u64)> {
        self.load(&mut Tpm::open(&self.tcti)?)
    }

    /// Changes the record. Nothing is written where `change` changes nothing.
    pub fn change(&self, change: impl FnOnce(&mut Record) -> Result<()>) -> Result<()> {
        let mut tpm = Tpm::open(&self.tcti)?;
        let (old, _) = self.load(&mut tpm)?;
        let mut new = old.clone();
        change(&mut new)?;
        if new == old {
            return Ok(());
        }
        let bytes = new.encode(&self.access.auth);
        tpm.write_anchor(self.at, &self.access, 0, &bytes)
            .doing("writing the anchor")
    }

    /// What the next boot is asked to do.
    pub fn requests(&self) -> Result<Requests> {
        let keys = RequestKeys::of(&self.access.auth)?;
        self.load_requests(&mut Tpm::open(&self.tcti)?, &keys)
    }

    /// Changes what the next boot is asked to do; `change` sees the record too. The index is made where there is none, and removed
    /// where nothing is asked for any more.
    pub fn change_requests(
        &self,
        change: impl FnOnce(&Record, &mut Requests) -> Result<()>,
    ) -> Result<()> {
        let keys = RequestKeys::of(&self.access.auth)?;
        let mut tpm = Tpm::open(&self.tcti)?;
        let index = self.requests_index()?;
        let (record, _) = self.load(&mut tpm)?;
        let mut requests = self.load_requests(&mut tpm, &keys)?;
        change(&record, &mut requests)?;
        if requests.is_empty() {
            return tpm.remove_requests(index, REQUESTS_LEN);
        }
        tpm.write_requests(index, &keys.auth, &requests.encode(&keys)?)
    }

    fn load_requests(&self, tpm: &mut Tpm, keys: &RequestKeys) -> Result<Requests> {
        let bytes = tpm.read_requests(self.requests_index()?, &keys.auth, REQUESTS_LEN)?;
        bytes.map_or_else(
            || Ok(Requests::default()),
            |bytes| Requests::parse(&bytes, keys),
        )
    }

    fn requests_index(&self) -> Result<u32> {
        self.requests.ok_or_else(|| {
            Error::unavailable(
                "this boot's nightlatch is an older one, which fulfils no requests: reboot with the image of this program first",
            )
        })
    }

    fn load(&self, tpm: &mut Tpm) -> Result<(Record, u64)> {
        let (bytes, counter) = tpm
            .read_anchor_again(self.at, &self.access, RECORD_LEN)
            .doing("reading the anchor")?;
        let (record, _) = Record::parse(&bytes)?;
        Ok((record, counter))
    }
}
