// SPDX-License-Identifier: Apache-2.0
//! What is about to change of the firmware's keys, and PCR 7 after it (TCG PC Client Platform Firmware Profile, section 3.3.4.8).

use super::Unmet;
use super::outlook::Outlook;
use crate::evidence::Refusal;
use crate::evidence::eventlog::Log;
use crate::evidence::signature_list::{SHA256, SignatureLists, X509};
use crate::pcr::Bank;

/// A list of the firmware's. Displays as the variable is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyList {
    /// Who may change the others.
    Kek,
    /// Who may sign what is started.
    Db,
    /// What is not started, whoever signed it.
    Dbx,
}

impl KeyList {
    /// The variable's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kek => "KEK",
            Self::Db => "db",
            Self::Dbx => "dbx",
        }
    }
}

/// What is about to change before the next start.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// What is added to the firmware's lists, each an update as tools write it.
    pub added: Vec<(KeyList, Vec<u8>)>,
    /// The certificate, DER, of who will have signed the image.
    pub signer: Option<Vec<u8>>,
}

impl Changes {
    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.signer.is_none()
    }

    /// Whether this certificate, DER, is added to `db`.
    #[must_use]
    pub fn lets_in(&self, certificate: &[u8]) -> bool {
        let mut lists = self.lists(KeyList::Db);
        lists.any(|lists| lists.of_certificate(certificate).is_some())
    }

    /// The log of a start after them, or what PCR 7 will be where that has no log.
    pub(super) fn made_in(&self, log: &Log, bank: Bank) -> Result<Log, Outlook> {
        let mut log = log.clone();
        for (list, update) in &self.added {
            log = added(log, bank, *list, update)?;
        }
        let Some(signer) = &self.signer else {
            return Ok(log);
        };
        let named = log.variables(bank);
        let mut named = named.iter().filter(|it| it.name == KeyList::Db.as_str());
        // The list itself, and then each of its entries that vouched.
        let (Some(db), Some(vouched), None) = (named.next(), named.next(), named.next()) else {
            return Err(Outlook::Unknown(
                "not one entry of db vouched in this boot, so which one the signer's takes the place of is not known".into(),
            ));
        };
        let lists =
            SignatureLists::parse(&db.value).map_err(|why| unreadable(KeyList::Db, &why))?;
        let Some(entry) = lists.of_certificate(signer) else {
            return Err(Outlook::Other(
                "the firmware's db does not have who will have signed the image".into(),
            ));
        };
        log.clone()
            .with_value(bank, vouched, entry)
            .ok_or_else(|| unknown(KeyList::Db))
    }

    /// Why the firmware will not start an image any more, of which this is the Authenticode hash, and for which one of
    /// `certificates`, DER, vouches.
    pub(super) fn forbid(
        &self,
        bank: Bank,
        digest: &[u8],
        certificates: &[Vec<u8>],
    ) -> Option<Unmet> {
        let has = |kind, what: &dyn Fn(&[u8]) -> bool| {
            self.lists(KeyList::Dbx)
                .any(|lists| lists.entries(kind).any(what))
        };
        if bank == Bank::Sha256 && has(SHA256, &|entry| entry == digest) {
            return Some(Unmet::Forbidden("the image's own hash"));
        }
        let is_signer = |entry: &[u8]| certificates.iter().any(|it| it == entry);
        has(X509, &is_signer).then_some(Unmet::Forbidden("the certificate of who signed the image"))
    }

    /// Updates of one list that can be read.
    fn lists(&self, list: KeyList) -> impl Iterator<Item = SignatureLists<'_>> {
        let updates = self.added.iter().filter(move |(other, _)| *other == list);
        updates.filter_map(|(_, update)| SignatureLists::parse(update).ok())
    }
}

/// The log after an update of one list.
fn added(log: Log, bank: Bank, list: KeyList, update: &[u8]) -> Result<Log, Outlook> {
    let named = log.variables(bank);
    let Some(variable) = named.iter().find(|it| it.name == list.as_str()) else {
        return Err(unknown(list));
    };
    let update = SignatureLists::parse(update).and_then(|update| update.added_to(&variable.value));
    let value = update.map_err(|why| unreadable(list, &why))?;
    log.with_value(bank, variable, &value)
        .ok_or_else(|| unknown(list))
}

fn unreadable(list: KeyList, why: &Refusal) -> Outlook {
    Outlook::Unknown(format!(
        "what {} will hold cannot be told: {why}",
        list.as_str()
    ))
}

fn unknown(list: KeyList) -> Outlook {
    Outlook::Unknown(format!(
        "the firmware's log does not have what {} holds",
        list.as_str()
    ))
}
