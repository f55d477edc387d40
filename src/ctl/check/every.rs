// SPDX-License-Identifier: Apache-2.0
//! What is said of each image on the ESP, and the one verdict that follows.

use std::path::Path;

use serde_json::{Value, json};

use super::esp::{Esp, Program};
use crate::ctl::{Answer, complaint, input};
use crate::error::{Doing, Error, Exit, Result};
use crate::uki::Uki;

/// An image, and what is said of it.
struct Judged<'a> {
    program: &'a Program,
    answer: Answer,
}

/// Judges each image on the ESP; `judge` is how.
pub(super) fn every(esp: &Esp, judge: impl Fn(&Path, &[u8]) -> Result<Answer>) -> Result<Answer> {
    let (mut judged, mut passed_over) = (Vec::new(), Vec::new());
    for program in &esp.programs {
        let path = &program.path;
        let bytes = input::read(path, input::IMAGE_LEN_MAX).map_err(Error::failure);
        let answer = match bytes.doing(path.display()) {
            Ok(bytes) if !Uki::is_one(&bytes) => {
                passed_over.push(path.display().to_string());
                continue;
            }
            Ok(bytes) => judge(path, &bytes),
            Err(error) => Err(error),
        };
        let answer = answer.unwrap_or_else(|error| failed(path, &error));
        judged.push(Judged { program, answer });
    }
    if judged.is_empty() {
        return Err(Error::unavailable(
            "there is no unified kernel image on the ESP; say which image with its name",
        ));
    }
    Ok(all(esp, &judged, &passed_over))
}

/// One that could not be judged.
fn failed(path: &Path, error: &Error) -> Answer {
    let mut json = complaint(error);
    if let Some(map) = json.as_object_mut() {
        map.insert("file".into(), path.display().to_string().into());
    }
    Answer::refused(error.exit(), format!("{error}\n"), json)
}

/// The exit code: that of the image that is booted next, where that is known, else of the worst one.
fn exit(esp: &Esp, judged: &[Judged<'_>]) -> Option<Exit> {
    if esp.default.is_some() {
        let default = judged.iter().find(|it| it.program.is_default);
        return default.map_or(Some(Exit::Unavailable), |it| it.answer.exit);
    }
    let mut exits = judged.iter().filter_map(|it| it.answer.exit);
    let is_no = |exit: &Exit| *exit != Exit::Unavailable;
    exits.clone().find(is_no).or_else(|| exits.next())
}

fn verdict(esp: &Esp, judged: &[Judged<'_>], exit: Option<Exit>) -> String {
    let has_default = judged.iter().any(|it| it.program.is_default);
    match (&esp.default, exit) {
        (Some(name), _) if !has_default => {
            format!("what is booted next, {name}, is no unified kernel image on the ESP")
        }
        (Some(name), None) => format!("the next boot, with {name}, opens each volume unattended"),
        (Some(name), Some(Exit::Unavailable)) => {
            format!("whether the next boot, with {name}, opens each volume cannot be told")
        }
        (Some(name), Some(_)) => {
            format!("the next boot, with {name}, would not open each volume unattended")
        }
        (None, None) => {
            "the next boot opens each volume unattended, whichever image on the ESP it takes".into()
        }
        (None, Some(Exit::Unavailable)) => {
            "whether the next boot opens each volume cannot be told of each image on the ESP".into()
        }
        (None, Some(_)) => {
            "the next boot may take an image on the ESP that would not open each volume unattended"
                .into()
        }
    }
}

fn all(esp: &Esp, judged: &[Judged<'_>], passed_over: &[String]) -> Answer {
    let exit = exit(esp, judged);
    let verdict = verdict(esp, judged, exit);
    let mut text = format!("{verdict}\n");
    for one in judged {
        text.push('\n');
        text.push_str(&one.answer.text);
    }
    if !passed_over.is_empty() {
        text.push('\n');
    }
    let words = ", which is no unified kernel image\n";
    for name in passed_over {
        text.push_str(&["passed over: ", name, words].concat());
    }
    let images: Vec<Value> = judged
        .iter()
        .map(|one| {
            let mut json = one.answer.json.clone();
            if let Some(map) = json.as_object_mut() {
                map.insert("default".into(), one.program.is_default.into());
            }
            json
        })
        .collect();
    let mut json = json!({
        "result": "opens",
        "default": esp.default,
        "images": images,
        "passed-over": passed_over,
    });
    let Some(exit) = exit else {
        return Answer::new(text, json);
    };
    if let Some(map) = json.as_object_mut() {
        map.insert("result".into(), exit.as_str().into());
        map.insert("exit".into(), exit.code().into());
        map.insert("error".into(), verdict.into());
    }
    Answer::refused(exit, text, json)
}
