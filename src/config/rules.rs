// SPDX-License-Identifier: Apache-2.0
//! Combinations of values that cannot be meant.

mod absent;
mod boot;

use std::ops::Range;

use toml::Spanned;

use super::{
    ANCHORED_MAX, ClusterFrom, Config, FileSystem, Format, Level, NvIndex, Profile,
    RecoveryKeyRule, Role, RootMode, Source, Stale, Volume,
};

/// The longest that a device is waited for, in seconds: a day, as there is somebody to look by then.
const DEVICE_TIMEOUT_S_MAX: u32 = 86_400;

/// A rule that the configuration breaks, and the part of the text it is about.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Empty where it is about no volume.
    pub(crate) span: Range<usize>,
    /// The key it is about comes first, or is among the words.
    pub(crate) message: String,
}

/// A rule: of what it is broken by it says what was expected.
type Rule<T> = fn(&T) -> Result<(), String>;

/// Rules about everything but single volumes.
const OF_ALL: [Rule<Config>; 15] = [
    volumes,
    sealed,
    fence,
    boot::signed,
    boot::signed_pcr,
    boot::sealed,
    boot::additions,
    boot::firmware,
    cluster,
    absent::cluster,
    absent::below,
    anchor,
    service,
    recovery,
    recovery_keys,
];

/// Rules about a volume alone.
const OF_ONE: [Rule<Volume>; 8] = [
    sources,
    ephemeral,
    absent::alone,
    profile,
    level,
    label,
    places,
    recovery_key,
];

/// Each rule that is broken, in the order in which a boot looks: it stops at the first.
pub(super) fn broken(config: &Config) -> impl Iterator<Item = Broken> {
    let of_all = OF_ALL.iter().filter_map(|rule| rule(config).err());
    let of_all = of_all.map(|message| Broken {
        span: 0..0,
        message,
    });
    let of_each = config
        .volumes
        .iter()
        .enumerate()
        .flat_map(|(index, volume)| {
            let before = config.volumes.get(..index).unwrap_or_default();
            let it = volume.get_ref();
            let alone = OF_ONE.iter().filter_map(move |rule| rule(it).err());
            let first_secret = boot::first_secret(&config.boot, it).err();
            alone
                .chain(first_secret)
                .chain(beside(it, before).err())
                .map(move |message| Broken {
                    span: volume.span(),
                    message: format!("volume {}: {message}", it.name),
                })
        });
    of_all.chain(of_each)
}

fn volumes(config: &Config) -> Result<(), String> {
    if config.volumes.is_empty() {
        return Err("volume: expected at least one [[volume]]".into());
    }
    match config.device_timeout_s {
        1..=DEVICE_TIMEOUT_S_MAX => Ok(()),
        found => Err(format!(
            "device-timeout-s: expected 1 to {DEVICE_TIMEOUT_S_MAX}, found {found}; systemd waits for ever where it is 0"
        )),
    }
}

fn sealed(config: &Config) -> Result<(), String> {
    if config.tpm.pcrs.is_empty() {
        return Err("tpm.pcrs: expected at least one PCR, or any boot could unseal".into());
    }
    Ok(())
}

fn fence(config: &Config) -> Result<(), String> {
    let tpm = &config.tpm;
    if !tpm.pcrs.contains(tpm.fence_pcr) {
        return Err(format!(
            "tpm.fence-pcr: expected one of tpm.pcrs, found {}: extending it would fence nothing",
            tpm.fence_pcr
        ));
    }
    if tpm.fence_pcr == config.measure.cluster_pcr {
        return Err(format!(
            "tpm.fence-pcr: expected another PCR than measure.cluster-pcr, found {} in both",
            tpm.fence_pcr
        ));
    }
    Ok(())
}

fn cluster(config: &Config) -> Result<(), String> {
    if config.measure.cluster == ClusterFrom::Service {
        return match config.measure.cluster_volume {
            Some(_) => {
                Err("measure.cluster-volume means nothing with cluster = \"service\"".into())
            }
            None => Ok(()),
        };
    }
    match (&config.measure.cluster_volume, config.cluster_volume()) {
        (Some(name), None) => Err(format!(
            "measure.cluster-volume: expected the name of a volume, found {:?}",
            name.as_str()
        )),
        (_, Some(volume)) if volume.profile != Profile::Nightlatch1 => Err(format!(
            "measure.cluster-volume: expected a volume of profile nightlatch-1, whose token holds the salt, found {}",
            volume.name
        )),
        _ => Ok(()),
    }
}

fn service(config: &Config) -> Result<(), String> {
    match &config.service {
        Some(_) if !config.needs_service() => Err(
            "service: expected a volume with the source \"service\", or measure.cluster = \"service\"".into(),
        ),
        Some(service) => service.check(),
        None if config.tpm.stale == Stale::Operator => Err(
            "tpm.stale = \"operator\" needs a table [service]: it says when a key service may stand in for the record"
                .into(),
        ),
        None if config.needs_service() => Err(
            "expected a table [service], for the source \"service\" or measure.cluster = \"service\"".into(),
        ),
        None => Ok(()),
    }
}

fn recovery(config: &Config) -> Result<(), String> {
    match &config.recovery {
        Some(_) if !config.needs_recovery() => {
            Err("recovery: expected a volume with the source \"recovery\"".into())
        }
        Some(recovery) => recovery.check(),
        None if config.needs_recovery() => Err(
            "expected a table [recovery], which says whose keys are taken for the source \"recovery\"".into(),
        ),
        None => Ok(()),
    }
}

fn anchor(config: &Config) -> Result<(), String> {
    let anchor = &config.anchor;
    let spare = anchor.index.spare();
    if [anchor.index, spare].contains(&anchor.counter) {
        return Err(format!(
            "anchor.counter: expected another NV index than anchor.index and the second one after it, {spare}, found {}",
            anchor.counter
        ));
    }
    NvIndex::try_from(spare.handle())
        .map_err(|error| format!("anchor.index: of the second one after it: {error}"))?;
    let requests = anchor.index.requests(anchor.counter);
    NvIndex::try_from(requests.handle())
        .map_err(|error| format!("anchor.index: of the place of requests behind it: {error}"))?;
    let anchored = |volume: &&Volume| volume.level() != Level::Off;
    match config.volumes().filter(anchored).count() {
        0..=ANCHORED_MAX => Ok(()),
        many => Err(format!(
            "volume: the anchor has room for {ANCHORED_MAX} volumes, found {many} that are not anchor = \"off\""
        )),
    }
}

/// What a volume's level needs.
fn level(volume: &Volume) -> Result<(), String> {
    if volume.level() != Level::Off && volume.profile != Profile::Nightlatch1 {
        return Err(format!(
            "anchor: expected \"off\" for a volume of profile {}, which has no place for an epoch",
            volume.profile.as_str()
        ));
    }
    if volume.level() == Level::Checkpoint && volume.file_system != FileSystem::Btrfs {
        return Err(format!(
            "anchor = \"checkpoint\" needs file-system = \"btrfs\", found {}",
            volume.file_system.as_str()
        ));
    }
    Ok(())
}

/// What a volume's sources need, and of each other.
fn sources(volume: &Volume) -> Result<(), String> {
    let place = |wanted: Source| volume.sources.iter().position(|source| *source == wanted);
    let (generate, service) = (place(Source::Generate), place(Source::Service));
    if volume.sources.is_empty() {
        return Err(
            "sources: expected at least one of \"tpm\", \"service\", \"generate\", \"recovery\""
                .into(),
        );
    }
    for (index, source) in volume.sources.iter().enumerate() {
        if volume
            .sources
            .iter()
            .take(index)
            .any(|other| other == source)
        {
            return Err(format!("sources: {:?} is there twice", source.as_str()));
        }
    }
    let recovery = place(Source::Recovery);
    if recovery.is_some_and(|place| place.checked_add(1) != Some(volume.sources.len())) {
        return Err(
            "sources: \"recovery\" waits for a person, so every other source has to come before it"
                .into(),
        );
    }
    if volume.format == Format::IfBlank && generate.is_none() && service.is_none() {
        return Err(
            "format = \"if-blank\" needs the source \"generate\" or \"service\" for the first secret".into(),
        );
    }
    if volume.format == Format::Never && generate.is_some() {
        return Err("the source \"generate\" needs format = \"if-blank\"".into());
    }
    if generate
        .zip(service)
        .is_some_and(|(generate, service)| generate < service)
    {
        return Err(
            "sources: \"generate\" always gives a secret, so \"service\" has to come before it"
                .into(),
        );
    }
    Ok(())
}

/// A secret that is kept nowhere opens the volume once: at the second boot there would be a volume and no secret.
fn ephemeral(volume: &Volume) -> Result<(), String> {
    let is_kept_nowhere = volume.sources == [Source::Generate];
    match (is_kept_nowhere, volume.ephemeral) {
        (true, false) => Err(
            "sources: a secret from \"generate\" alone is kept nowhere, so that the second boot is refused for ever: \
             add \"tpm\" before it, or ephemeral = true where the disk is blank at each boot"
                .into(),
        ),
        (false, true) => Err(
            "ephemeral: expected sources = [\"generate\"], by which nothing outlives the boot".into(),
        ),
        _ if volume.ephemeral && volume.level() != Level::Off => Err(
            "ephemeral: expected anchor = \"off\": what the TPM remembered would refuse the blank disk of the next boot"
                .into(),
        ),
        _ => Ok(()),
    }
}

fn profile(volume: &Volume) -> Result<(), String> {
    if volume.profile != Profile::Nightlatch1 && volume.format == Format::IfBlank {
        return Err(format!(
            "format = \"if-blank\" makes volumes of profile nightlatch-1 only, found {}",
            volume.profile.as_str()
        ));
    }
    Ok(())
}

/// What asks for a recovery key has to be able to get one.
fn recovery_key(volume: &Volume) -> Result<(), String> {
    if volume.recovery_key == RecoveryKeyRule::Optional {
        return Ok(());
    }
    match volume.profile {
        Profile::Constellation => Err(
            "recovery-key: expected \"optional\" for a volume of profile constellation, which has one keyslot"
                .into(),
        ),
        _ if volume.ephemeral => {
            Err("recovery-key: expected \"optional\" for a volume that no boot keeps".into())
        }
        Profile::Nightlatch1 | Profile::Luks2Strict => Ok(()),
    }
}

/// A request for one waits in the TPM, under a value that stands in the anchor's record.
fn recovery_keys(config: &Config) -> Result<(), String> {
    let asks = |volume: &Volume| {
        volume.recovery_key == RecoveryKeyRule::Required && volume.profile == Profile::Nightlatch1
    };
    let anchored = |volume: &Volume| volume.level() != Level::Off;
    if config.volumes().any(asks) && !config.volumes().any(anchored) {
        return Err(
            "volume: recovery-key = \"required\" needs a volume that is not anchor = \"off\": without an anchor there is no \
             place to ask for one"
                .into(),
        );
    }
    Ok(())
}

fn label(volume: &Volume) -> Result<(), String> {
    let max_len = volume.file_system.max_label_len();
    if volume.name.as_str().len() > max_len {
        return Err(format!(
            "name: {} is labelled with it and takes at most {max_len} characters",
            volume.file_system.as_str()
        ));
    }
    Ok(())
}

/// Where the volume is put, and what is below it.
fn places(volume: &Volume) -> Result<(), String> {
    if volume.lower.as_ref() == Some(&volume.device) {
        return Err(
            "lower: expected another device than device, which is the volume itself".into(),
        );
    }
    match (volume.role, volume.mode, &volume.mount, &volume.lower) {
        (Role::State, None, Some(_), None)
        | (Role::Root, Some(RootMode::Plain), None, None)
        | (Role::Root, Some(RootMode::Overlay), None, Some(_)) => Ok(()),
        (Role::State, ..) => Err("role \"state\" takes mount, and neither mode nor lower".into()),
        (Role::Root, None, ..) => {
            Err("role \"root\" takes mode = \"plain\" or mode = \"overlay\"".into())
        }
        (Role::Root, Some(RootMode::Plain), ..) => {
            Err("mode \"plain\" takes neither mount nor lower".into())
        }
        (Role::Root, Some(RootMode::Overlay), ..) => {
            Err("mode \"overlay\" takes lower, the verified image, and no mount".into())
        }
    }
}

/// Rules about a volume and those before it.
fn beside(volume: &Volume, before: &[Spanned<Volume>]) -> Result<(), String> {
    for other in before.iter().map(Spanned::get_ref) {
        if other.name == volume.name {
            return Err("name: expected a name no other volume has".into());
        }
        if other.device == volume.device {
            return Err(format!("device: volume {} has it already", other.name));
        }
        if other.role == Role::Root && volume.role == Role::Root {
            return Err(format!("role: volume {} is the root already", other.name));
        }
        if other.mount.is_some() && other.mount == volume.mount {
            return Err(format!("mount: volume {} is there already", other.name));
        }
    }
    Ok(())
}
