// SPDX-License-Identifier: Apache-2.0
//! Combinations of values that cannot be meant.

mod boot;

use std::ops::Range;

use toml::Spanned;

use super::{
    ANCHORED_MAX, ClusterFrom, Config, FileSystem, Format, Level, Profile, Role, RootMode, Source,
    Volume,
};

/// A rule that the configuration breaks, and the part of the text it is about.
pub(super) struct Broken {
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

/// Checks what no single value can show.
pub(super) fn check(config: &Config) -> Result<(), Broken> {
    let top = |message: String| Broken {
        span: 0..0,
        message,
    };
    if config.volumes.is_empty() {
        return Err(top("volume: expected at least one [[volume]]".into()));
    }
    tpm(config).map_err(top)?;
    boot::check(config).map_err(top)?;
    cluster(config).map_err(top)?;
    anchor(config).map_err(top)?;
    service(config).map_err(top)?;
    for (index, volume) in config.volumes.iter().enumerate() {
        let before = config.volumes.get(..index).unwrap_or_default();
        one(volume.get_ref())
            .and_then(|()| boot::first_secret(&config.boot, volume.get_ref()))
            .and_then(|()| beside(volume.get_ref(), before))
            .map_err(|message| Broken {
                span: volume.span(),
                message: format!("volume {}: {message}", volume.get_ref().name),
            })?;
    }
    Ok(())
}

fn tpm(config: &Config) -> Result<(), String> {
    let tpm = &config.tpm;
    if tpm.pcrs.is_empty() {
        return Err("tpm.pcrs: expected at least one PCR, or any boot could unseal".into());
    }
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
        None if config.needs_service() => Err(
            "expected a table [service], for the source \"service\" or measure.cluster = \"service\"".into(),
        ),
        None => Ok(()),
    }
}

fn anchor(config: &Config) -> Result<(), String> {
    let anchor = &config.anchor;
    if anchor.index == anchor.counter {
        return Err(format!(
            "anchor.counter: expected another NV index than anchor.index, found {} in both",
            anchor.counter
        ));
    }
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
        return Err("sources: expected at least one of \"tpm\", \"service\", \"generate\"".into());
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

/// Rules about one volume alone.
fn one(volume: &Volume) -> Result<(), String> {
    sources(volume)?;
    if volume.profile != Profile::Nightlatch1 && volume.format == Format::IfBlank {
        return Err(format!(
            "format = \"if-blank\" makes volumes of profile nightlatch-1 only, found {}",
            volume.profile.as_str()
        ));
    }
    level(volume)?;
    let max_len = volume.file_system.max_label_len();
    if volume.name.as_str().len() > max_len {
        return Err(format!(
            "name: {} is labelled with it and takes at most {max_len} characters",
            volume.file_system.as_str()
        ));
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
