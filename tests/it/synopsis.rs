// SPDX-License-Identifier: Apache-2.0
//! SYNOPSIS and OPTIONS of the manuals are those of the definitions that the programs read their command lines by.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, Command};

use crate::command_lines::leaves;
use crate::sources::read;

/// The manuals, and the definitions they are held against.
fn manuals() -> [(&'static str, Command); 2] {
    [
        ("units/man/nightlatchctl.1", nightlatch::ctl::command()),
        ("units/man/nightlatchd.8", nightlatch::keyservice::command()),
    ]
}

/// What a value is called, in the manual's language: `FILE|DEVICE` is `file | device`.
fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    names.join(" ").replace('|', " | ")
}

/// An option with its value.
fn option(arg: &Arg) -> String {
    let name = format!("Fl -{}", arg.get_long().unwrap());
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        name
    } else {
        format!("{name} Ar {}", value(arg))
    }
}

/// The line of SYNOPSIS for an option or an argument.
fn line(arg: &Arg) -> String {
    let words: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|value| value.get_name().to_owned())
        .collect();
    let text = match (arg.is_positional(), words.as_slice()) {
        (true, []) => format!("Ar {}", value(arg)),
        (true, words) => format!("Cm {}", words.join(" | ")),
        (false, _) => option(arg),
    };
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    let more = if is_list { " ..." } else { "" };
    if arg.is_required_set() {
        format!(".{text}{more}")
    } else {
        format!(".Op {text}{more}")
    }
}

/// The section as it has to be.
fn synopsis(program: &Command) -> Vec<String> {
    let (global, own): (Vec<&Arg>, Vec<&Arg>) =
        program.get_arguments().partition(|arg| arg.is_global_set());
    let mut lines = Vec::new();
    if !own.is_empty() {
        lines.push(".Nm".to_owned());
        lines.extend(own.into_iter().map(line));
    }
    for (words, leaf) in leaves(program) {
        lines.extend([".Nm".to_owned(), format!(".Cm {}", words.join(" "))]);
        let options = leaf.get_arguments().filter(|arg| !arg.is_positional());
        lines.extend(options.map(line));
        lines.extend(global.iter().map(|arg| line(arg)));
        lines.extend(leaf.get_positionals().map(line));
    }
    let rest = [".Nm", ".Fl -help", ".Nm", ".Fl -version"];
    lines.extend(rest.map(str::to_owned));
    lines
}

/// The lines of a section.
fn section<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let after = page
        .lines()
        .skip_while(|line| *line != format!(".Sh {name}"));
    after
        .skip(1)
        .take_while(|line| !line.starts_with(".Sh "))
        .collect()
}

#[test]
fn the_synopsis_is_that_of_the_definitions() {
    for (path, program) in manuals() {
        let page = read(path);
        let (real, told) = (synopsis(&program), section(&page, "SYNOPSIS"));
        let all = real.join("\n");
        for (at, (real, told)) in real.iter().zip(&told).enumerate() {
            let number = at + 1;
            assert_eq!(
                real, told,
                "{path}: line {number} of SYNOPSIS; all of it is\n{all}"
            );
        }
        assert_eq!(real.len(), told.len(), "{path}: SYNOPSIS is\n{all}");
    }
}

#[test]
fn every_option_has_its_entry_and_no_other_has() {
    for (path, program) in manuals() {
        let page = read(path);
        let told: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix(".It Fl "))
            .collect();
        let all = leaves(&program);
        let args = all.iter().flat_map(|(_, leaf)| leaf.get_arguments());
        let args = args.chain(program.get_arguments());
        let real: BTreeSet<String> = args
            .filter(|arg| !arg.is_positional())
            .map(|arg| option(arg).trim_start_matches("Fl ").to_owned())
            .collect();
        let real: Vec<&str> = real.iter().map(String::as_str).collect();
        assert_eq!(told, real, "{path}: the entries of options, in this order");
    }
}

#[test]
fn every_verb_is_explained_by_itself_or_with_its_neighbours() {
    for (path, program) in manuals() {
        let page = read(path);
        let told: Vec<&str> = section(&page, "DESCRIPTION")
            .into_iter()
            .filter_map(|line| line.strip_prefix(".It Cm "))
            .collect();
        let verbs: Vec<String> = leaves(&program)
            .into_iter()
            .map(|(words, _)| words.join(" "))
            .collect();
        let explains = |told: &str, verb: &str| {
            let rest = verb.strip_prefix(told);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        for verb in &verbs {
            let is_told = told.iter().any(|told| explains(told, verb));
            assert!(is_told, "{path}: nothing explains {verb}");
        }
        for told in told {
            let is_verb = verbs.iter().any(|verb| explains(told, verb));
            assert!(is_verb, "{path}: there is no {told}");
        }
    }
}
