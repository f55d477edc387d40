// SPDX-License-Identifier: Apache-2.0
//! The evidence of a volume's creation, for people and for machines.

use std::path::Path;

use base64ct::{Base64, Encoding};
use serde::Serialize;
use serde_json::Value;

use crate::ctl::evidence::Creation;
use crate::error::Result;
use crate::evidence::{Ak, Attest};

/// What the evidence says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report {
    path: String,
    volume: String,
    role: &'static str,
    uuid: String,
    volume_key_id: String,
    creation_epoch: u64,
    ak_name: String,
    /// DER of the `SubjectPublicKeyInfo`.
    ak_public: String,
    /// The `TPMT_PUBLIC`, `TPMS_ATTEST` and `TPMT_SIGNATURE`.
    ak: String,
    quote: String,
    signature: String,
    pcrs: Vec<Selected>,
    pcr_digest: String,
    qualifying_data: String,
    clock_ms: u64,
    resets: u32,
    restarts: u32,
    clock_safe: bool,
    firmware_version: String,
}

/// PCRs of one bank.
#[derive(Debug, Serialize)]
struct Selected {
    bank: String,
    pcrs: Vec<u8>,
}

impl Report {
    pub(super) fn new(path: &Path, creation: &Creation, attest: &Attest) -> Result<Self> {
        let ak = Ak::parse(&creation.evidence.ak)?;
        let base64 = |bytes: &[u8]| Base64::encode_string(bytes);
        Ok(Self {
            path: path.display().to_string(),
            volume: creation.token.volume.to_string(),
            role: creation.token.role.as_str(),
            uuid: creation.uuid.clone(),
            volume_key_id: hex::encode(creation.token.key_id),
            creation_epoch: creation.evidence.epoch,
            ak_name: ak.name().to_string(),
            ak_public: base64(ak.spki_der()),
            ak: base64(&creation.evidence.ak),
            quote: base64(&creation.evidence.quote),
            signature: base64(&creation.evidence.signature),
            pcrs: attest
                .selections
                .iter()
                .map(|selection| Selected {
                    bank: selection.bank().map_or_else(
                        || format!("{:#06x}", selection.algorithm),
                        |bank| bank.to_string(),
                    ),
                    pcrs: selection.pcrs.iter().collect(),
                })
                .collect(),
            pcr_digest: hex::encode(&attest.pcr_digest),
            qualifying_data: hex::encode(&attest.extra_data),
            clock_ms: attest.clock.milliseconds,
            resets: attest.clock.resets,
            restarts: attest.clock.restarts,
            clock_safe: attest.clock.safe,
            firmware_version: format!("{:016x}", attest.firmware_version),
        })
    }

    pub(super) fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        let pcrs: Vec<String> = self.pcrs.iter().map(Selected::text).collect();
        let clock = format!(
            "{} ms, {} resets, {} restarts{}",
            self.clock_ms,
            self.resets,
            self.restarts,
            if self.clock_safe { "" } else { ", not safe" }
        );
        let epoch = self.creation_epoch.to_string();
        let rows = [
            ("role", self.role),
            ("uuid", &self.uuid),
            ("volume key id", &self.volume_key_id),
            ("creation epoch", &epoch),
            ("ak name", &self.ak_name),
            ("pcrs", &pcrs.join(" and ")),
            ("pcr digest", &self.pcr_digest),
            ("qualifying data", &self.qualifying_data),
            ("clock", &clock),
            ("firmware", &self.firmware_version),
        ];
        let rows = rows.map(|(name, value)| format!("  {name:<16} {value}\n"));
        format!("{}: volume {}\n{}", self.path, self.volume, rows.concat())
    }
}

impl Selected {
    fn text(&self) -> String {
        let pcrs: Vec<String> = self.pcrs.iter().map(ToString::to_string).collect();
        format!("{} of {}", pcrs.join("+"), self.bank)
    }
}
