// SPDX-License-Identifier: Apache-2.0
//! What the next boot will do, in tables and a verdict, and what to do first.

use std::path::Path;

use serde_json::{Value, json};

use super::judge::Opens;
use crate::config::{ClusterFrom, Config, Volume};
use crate::ctl::Answer;
use crate::ctl::table::{section, table};
use crate::error::Exit;
use crate::evidence::registers::Values;
use crate::evidence::start::{Changes, Next, Outlook};
use crate::pcr::{Pcr, PcrSet};

/// What stays as it is for an answer to hold.
const AS_NOW: &str = "firmware, its settings, keys and boot order stay as in this boot, and so does what is handed to the image";
const AS_NOW_BUT: &str = "firmware, its settings and boot order stay as in this boot, and so does what is handed to the image";

/// All that is said of an image.
pub(super) struct Report<'a> {
    pub(super) path: &'a Path,
    pub(super) config: &'a Config,
    /// What is about to change of the firmware's keys.
    pub(super) changes: &'a Changes,
    pub(super) next: &'a Next,
    /// What the PCRs held when this boot opened its volumes, where that is known.
    pub(super) now: Option<&'a Values>,
    /// What those that say how the machine was started hold now.
    pub(super) seen: &'a Values,
    pub(super) volumes: Vec<(&'a Volume, Opens)>,
}

/// The PCRs that will have another value than in this boot.
pub(super) fn changed(next: &Next, now: Option<&Values>) -> Vec<Pcr> {
    let pcrs = next.pcrs.iter();
    let changed = pcrs.filter(|(pcr, outlook)| match outlook {
        Outlook::Value(value) => now
            .and_then(|now| now.get(&pcr.index()))
            .is_some_and(|now| now != value),
        Outlook::Other(_) => true,
        Outlook::Unknown(_) => false,
    });
    changed.map(|(pcr, _)| *pcr).collect()
}

/// The answer about an image that lacks something.
pub(super) fn incomplete(path: &Path, exit: Exit, missing: &[String]) -> Answer {
    let name = path.display();
    let verdict = format!("{name}: a boot with it would not get to its disks");
    let lines = lines("missing ", missing);
    let text = format!("{verdict}\n{lines}put it into the image, and check again\n");
    let json = json!({
        "result": exit.as_str(),
        "exit": exit.code(),
        "error": verdict,
        "file": name.to_string(),
        "missing": missing,
    });
    Answer::refused(exit, text, json)
}

/// A line for each.
fn lines(what: &str, all: &[String]) -> String {
    let lines = all.iter().map(|it| format!("{what} {it}\n"));
    lines.collect::<Vec<_>>().concat()
}

impl Report<'_> {
    pub(super) fn answer(&self) -> Answer {
        let exit = self.exit();
        let name = self.path.display();
        let verdict = match exit {
            None => "the next boot with it opens each volume unattended",
            Some(Exit::Unavailable) => {
                "whether the next boot with it opens each volume cannot be told"
            }
            Some(_) => "the next boot with it would not open each volume unattended",
        };
        let verdict = format!("{name}: {verdict}");
        let unmet = self.next.unmet.as_ref();
        let unmet = unmet.map(|unmet| format!("its boot would be refused: {unmet}\n"));
        let text = [
            format!("{verdict}\n"),
            unmet.unwrap_or_default(),
            section(&self.table_of_volumes()),
            section(&self.table_of_pcrs()),
            "\n".into(),
            lines("assumed:", &self.assumed()),
            lines("to do:", &self.to_do()),
        ]
        .concat();
        let json = self.json(exit, &verdict);
        match exit {
            None => Answer::new(text, json),
            Some(exit) => Answer::refused(exit, text, json),
        }
    }

    fn exit(&self) -> Option<Exit> {
        let any = |is: fn(&Opens) -> bool| self.volumes.iter().any(|(_, opens)| is(opens));
        if self.next.unmet.is_some() || any(|it| matches!(it, Opens::Nothing(_))) {
            return Some(Exit::Refused);
        }
        any(|it| matches!(it, Opens::Unknown(_))).then_some(Exit::Unavailable)
    }

    fn table_of_volumes(&self) -> Vec<Vec<String>> {
        let rows = self.volumes.iter().map(|(volume, opens)| {
            let (by, why) = told(opens);
            vec![
                volume.name.to_string(),
                by.into(),
                why.unwrap_or("-").into(),
            ]
        });
        table(&["VOLUME", "OPENS BY", "BECAUSE"], rows)
    }

    fn table_of_pcrs(&self) -> Vec<Vec<String>> {
        let rows = self.next.pcrs.iter().map(|(pcr, outlook)| {
            let now = self.value_now(*pcr).unwrap_or_else(|| "-".into());
            let next = match outlook {
                Outlook::Value(value) => hex::encode(value),
                Outlook::Other(why) => format!("another: {why}"),
                Outlook::Unknown(why) => format!("not known: {why}"),
            };
            let next = if next == now { "the same".into() } else { next };
            vec![pcr.to_string(), now, next]
        });
        table(&["PCR", "THIS BOOT", "NEXT BOOT"], rows)
    }

    /// What a PCR held when this boot opened its volumes. What the firmware alone extends holds it still.
    fn value_now(&self, pcr: Pcr) -> Option<String> {
        let is_lasting = pcr < Pcr::LOADED_FILES && PcrSet::STARTED.contains(pcr);
        let lasting = self.seen.get(&pcr.index()).filter(|_| is_lasting);
        let now = self.now.and_then(|now| now.get(&pcr.index()));
        now.or(lasting).map(hex::encode)
    }

    fn assumed(&self) -> Vec<String> {
        let mut all = if self.changes.is_empty() {
            vec![AS_NOW.to_owned()]
        } else {
            let changed = self.changed_keys().join(", ");
            vec![
                AS_NOW_BUT.to_owned(),
                format!("what is given changes before the next boot, and nothing else: {changed}"),
            ]
        };
        let separated = match (self.next.is_running, self.next.is_separated) {
            (true, true) => "systemd's os-separator is measured, as in this boot",
            (true, false) => "systemd's os-separator is not measured, as in this boot",
            (false, true) => {
                "systemd's os-separator is measured before the volumes are opened: the initrd has systemd-pcrosseparator.service"
            }
            (false, false) => {
                "systemd's os-separator is not measured: the initrd has no systemd-pcrosseparator.service that would run"
            }
        };
        all.push(separated.into());
        for pcr in [Pcr::KERNEL_CONFIG, Pcr::SYSTEM_EXTENSIONS] {
            if self.config.boot.added(pcr).is_some() {
                all.push(format!(
                    "PCR {pcr} is what boot.pcr-{pcr} of the image says"
                ));
            }
        }
        let has_service = |opens: &Opens| matches!(opens, Opens::Service(_));
        if self.config.measure.cluster == ClusterFrom::Service
            || self.volumes.iter().any(|(_, opens)| has_service(opens))
        {
            all.push("the key service is reached and admits the image".into());
        }
        all
    }

    /// What to do, and in what order.
    fn to_do(&self) -> Vec<String> {
        let any = |is: fn(&Opens) -> bool| self.volumes.iter().any(|(_, opens)| is(opens));
        let mut all = Vec::new();
        if any(|it| matches!(it, Opens::Service(_))) {
            all.push(
                "before the boot, have the key service's policy list the image, as \"nightlatchctl policy image\" prints it".into(),
            );
        }
        let is_closed = any(|it| matches!(it, Opens::Nothing(_)));
        if !self.changes.is_empty() && (self.next.unmet.is_some() || is_closed) {
            // It is another PCR 7 for every image.
            all.push(
                "leave the firmware's keys and the signer as they are, until a key service among the volume's sources has its secret \
                 (nightlatchctl enroll), or its data is elsewhere".into(),
            );
            return all;
        }
        if self.next.unmet.is_some() || is_closed {
            all.push("keep the image of this boot, and boot that".into());
        }
        if any(|it| matches!(it, Opens::Nothing(_))) {
            all.push(match &self.config.tpm.signed {
                Some(_) => "make an image that differs from this boot's in PCR 11 alone: the same key of tpm.signed, the same signer \
                     for Secure Boot, and nothing else beside it".into(),
                None => "a key service among the volume's sources carries it over, once it has the volume's secret \
                     (nightlatchctl enroll); without one only this boot's image opens it".to_owned(),
            });
        }
        all
    }

    /// What of the firmware's keys is about to change.
    fn changed_keys(&self) -> Vec<&'static str> {
        let lists = self.changes.added.iter().map(|(list, _)| list.as_str());
        let signer = self.changes.signer.iter().map(|_| "the signer");
        lists.chain(signer).collect()
    }

    fn json(&self, exit: Option<Exit>, verdict: &str) -> Value {
        let volumes = self.volumes.iter().map(|(volume, opens)| {
            let (by, why) = told(opens);
            json!({"name": volume.name.as_str(), "device": volume.device.as_str(), "opens": by, "why": why})
        });
        let pcrs = self.next.pcrs.iter().map(|(pcr, outlook)| {
            let (next, why) = match outlook {
                Outlook::Value(value) => (Some(hex::encode(value)), None),
                Outlook::Other(why) | Outlook::Unknown(why) => (None, Some(why)),
            };
            let now = self.value_now(*pcr);
            let is_same = match (outlook, &now, &next) {
                (Outlook::Other(_), _, _) => Some(false),
                (_, Some(now), Some(next)) => Some(now == next),
                _ => None,
            };
            json!({"pcr": pcr, "now": now, "next": next, "same": is_same, "why": why})
        });
        let mut json = json!({
            "result": "opens",
            "file": self.path.display().to_string(),
            "running": self.next.is_running,
            "changes": self.changed_keys(),
            "refused": self.next.unmet.as_ref().map(ToString::to_string),
            "volumes": volumes.collect::<Vec<_>>(),
            "pcrs": pcrs.collect::<Vec<_>>(),
            "assumed": self.assumed(),
            "to-do": self.to_do(),
        });
        if let (Some(map), Some(exit)) = (json.as_object_mut(), exit) {
            map.insert("result".into(), exit.as_str().into());
            map.insert("exit".into(), exit.code().into());
            map.insert("error".into(), verdict.into());
        }
        json
    }
}

/// What opens it in a word, and the reason that goes with it.
fn told(opens: &Opens) -> (&'static str, Option<&str>) {
    match opens {
        Opens::MadeAnew => ("new", Some("it is made at each boot")),
        Opens::Tpm => ("tpm", None),
        Opens::Service(why) => ("service", Some(why)),
        Opens::Nothing(why) => ("nothing", Some(why)),
        Opens::Unknown(why) => ("unknown", Some(why)),
    }
}
