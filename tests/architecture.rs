//! The shape of the program: which part may use which, checked by reading the sources.
//!
//! Sources are split into tokens (comments and literals dropped, items under `#[cfg(test)]` left out), so that a path
//! counts however it is written: `use crate::{a, b::c}`, `crate::a::f()`, `super::super::a`.

// A test stops by panicking, also in its own functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which parts of the crate each part may use besides itself. `a::B` allows only that item.
/// The stages are in the order in which data flows; none uses a later one.
const MAY_USE: &[(&str, &[&str])] = &[
    // Plain data, parsers of bytes, effects.
    ("words", &[]),
    ("model", &[]),
    ("formats", &["model"]),
    ("fault", &[]),
    ("sys", &["model", "fault", "formats::ReadAt"]),
    // The stages.
    ("survey", &["model", "formats", "sys"]),
    ("source", &["model", "formats", "sys", "survey"]),
    ("verify", &["model", "formats", "sys", "survey", "source"]),
    ("deposit", &["words", "model", "survey", "sys"]),
    ("export", &["model", "formats", "sys", "source"]),
    ("plan", &["model", "formats", "survey", "source", "verify"]),
    ("restore", &["model", "formats", "sys", "fault", "survey", "source", "verify", "plan"]),
    ("handoff", &["model", "formats", "sys", "fault", "survey", "source", "verify", "plan", "restore"]),
    ("grow", &["model", "formats", "sys", "fault", "survey", "restore"]),
    ("finish", &["model", "formats", "sys", "fault", "survey", "restore", "handoff"]),
    ("salvage", &["model", "formats", "sys", "survey", "source"]),
    // What the user meets.
    (
        "failure",
        &[
            "model", "formats", "sys", "survey", "source", "verify", "export", "plan", "restore", "handoff", "grow",
            "salvage",
        ],
    ),
    // The chain of stages as a whole.
    (
        "rescue",
        &[
            "words", "model", "sys", "survey", "source", "verify", "plan", "restore", "handoff", "grow", "finish",
            "salvage", "failure",
        ],
    ),
    (
        "render",
        &[
            "words", "model", "survey", "source", "verify", "export", "plan", "restore", "handoff", "salvage",
            "failure", "rescue",
        ],
    ),
    ("cli", &["words", "model"]),
    ("console", &["sys"]),
    (
        "guide",
        &["words", "model", "sys", "survey", "source", "deposit", "export", "restore", "failure", "rescue", "render"],
    ),
    ("web", &["words", "model", "failure", "render"]),
    (
        "commands",
        &[
            "words", "model", "sys", "survey", "source", "verify", "export", "plan", "restore", "handoff", "finish",
            "salvage", "failure", "rescue", "render", "cli", "console", "guide", "web",
        ],
    ),
    ("main", &["words", "model", "sys", "failure", "render", "cli", "guide", "web", "commands"]),
    ("lib", &[]),
];

/// Crates that `model` may use; it is plain data.
const CRATES_OF_MODEL: &[&str] = &["serde", "serde_json", "sha2", "thiserror"];
/// Crates that only the named parts may use.
const CRATES_OF_ONE: &[(&str, &[&str])] = &[
    ("nix", &["sys"]),
    ("rustix", &["sys"]),
    ("fuser", &["sys"]),
    // What is asynchronous, and what a page needs.
    ("axum", &["web"]),
    ("hyper", &["web"]),
    ("hyper_util", &["web"]),
    ("maud", &["web"]),
    ("mdns_sd", &["web"]),
    ("rcgen", &["web"]),
    ("rustls", &["web"]),
    ("tokio", &["web"]),
    ("tokio_rustls", &["web"]),
];
/// Parts that get bytes and values and never touch the system.
const PURE: &[&str] = &["model", "formats", "plan"];
/// Standard modules with effects.
const EFFECTS: &[&str] = &["fs", "net", "process", "env"];
/// Parts that print.
const PRINTS: &[&str] = &["render", "main"];
/// Parts that build the real machine; tests do too.
const BUILDS_HOST: &[&str] = &["main", "sys"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc"];
/// Endings of type names that say nothing about what it does.
const EMPTY_ENDINGS: &[&str] = &["Manager", "Helper", "Handler"];
/// Lines of code in one file, without comments, blank lines and tests.
const LONGEST_FILE: usize = 500;

#[test]
fn every_source_file_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = dependencies(&fs::read_to_string(root.join("Cargo.toml")).unwrap());
    assert!(crates.contains("rustix") && crates.contains("serde_json") && !crates.contains("tempfile"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    assert!(files.len() > 15, "the sources were not found");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(root.join("src")).unwrap().to_str().unwrap().to_owned();
        wrong.extend(violations(&name, &fs::read_to_string(&file).unwrap(), &crates));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_part_has_a_rule_and_arrows_never_go_round() {
    for (i, (part, uses)) in MAY_USE.iter().enumerate() {
        for used in *uses {
            let used = used.split("::").next().unwrap();
            let at = MAY_USE.iter().position(|(other, _)| *other == used);
            assert!(at.is_some_and(|at| at < i), "{part} uses {used}, which does not come before it");
        }
    }
}

#[test]
fn a_wrong_arrow_is_found_however_it_is_written() {
    for (file, text, expected) in [
        ("model/disk.rs", "use crate::sys::Host;", "model uses sys"),
        ("model/disk.rs", "fn f() { crate::formats::gpt::parse(b\"\") }", "model uses formats"),
        ("formats/gpt.rs", "use crate::{model::disk::Disk, sys};", "formats uses sys"),
        ("sys/file.rs", "use crate::formats::{ReadAt, gpt};", "sys uses formats::gpt"),
        ("sys/file.rs", "use crate::formats::{self, ReadAt};", "sys uses formats"),
        ("survey/mod.rs", "use super::plan::RestorePlan;", "survey uses plan"),
        ("survey/disk.rs", "use super::super::verify;", "survey uses verify"),
        ("source/mod.rs", "pub(crate) use crate::{survey::{Survey, x as y}, verify::Report};", "source uses verify"),
        ("plan/mod.rs", "use crate::sys::space;", "plan uses sys"),
        ("plan/mod.rs", "/* a */ use /* b */ crate /* c */ :: /* d */ restore;", "plan uses restore"),
        ("verify/mod.rs", "const Q: char = '\"'; use crate::plan::Step; const R: char = '\"';", "verify uses plan"),
        ("restore/mod.rs", "use crate::render;", "restore uses render"),
        ("main.rs", "use lifeboat::restore::run;", "main uses restore"),
        ("model/x.rs", "use rusqlite::Connection;", "model uses the crate rusqlite"),
        ("restore/exchange.rs", "fn f() { rustix::fs::sync() }", "restore uses the crate rustix"),
        ("survey/x.rs", "use nix;", "survey uses the crate nix"),
        ("formats/x.rs", "use std::{fmt, fs::File};", "formats uses std::fs"),
        ("plan/x.rs", "fn f() { std::env::var(\"A\"); }", "plan uses std::env"),
        ("restore/mod.rs", "fn f() { println!(\"{}\", 1) }", "restore prints"),
        ("guide/mod.rs", "use std::io::stderr; fn f() { stderr().write_all(b\"\") }", "guide prints"),
        ("commands/list.rs", "fn f() { let host = Host::real(\"/run\"); }", "commands builds a Host"),
        ("survey/utils.rs", "", "survey/utils.rs: a name that says nothing"),
        ("survey/x.rs", "pub struct DiskManager;", "DiskManager: a name that says nothing"),
        ("strange/mod.rs", "", "strange has no rule"),
        ("survey/long.rs", &"fn f() {}\n".repeat(501), "501 lines"),
    ] {
        let found = check(file, text);
        assert!(found.len() == 1 && found[0].contains(expected), "{file}: {expected}: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    for (file, text) in [
        ("source/mod.rs", "use crate::model::entry::Entry; use crate::survey::Survey; use self::tar::open;"),
        ("source/tar.rs", "use super::Archive; use super::super::model; use crate::source::open;"),
        ("sys/file.rs", "use crate::formats::ReadAt; use rustix::fs::open; use std::fs::File;"),
        ("model/a.rs", "use serde::Serialize; use std::fmt; use super::path::RelPath;"),
        (
            "model/a.rs",
            "//! [`crate::sys`]\n/* crate::plan /* nested */ crate::sys */ const A: &str = \"crate::sys::x\";",
        ),
        (
            "model/a.rs",
            "const A: &str = r#\"\" crate::sys::x\"#; const B: &[u8] = br\"crate::sys\\\"; fn f<'a>(x: &'a u8) {}",
        ),
        ("plan/a.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use crate::sys::Host; fn g() { println!(\"x\") } }"),
        ("plan/a.rs", "#[cfg(test)] use crate::sys::{Host, x}; #[cfg(test)] fn f(x: [u8; 3]) { crate::sys::f() }"),
        ("plan/plan_tests.rs", "use crate::sys::Host;"),
        ("sys/run.rs", "fn f() { command.stdout(Stdio::piped()).stderr(Stdio::null()); output.stdout }"),
        ("render/text.rs", "fn f() { println!(\"x\"); std::io::stdout().flush() }"),
        ("main.rs", "use lifeboat::sys::Host; fn main() { Host::real(\"/run/lifeboat\"); eprintln!() }"),
        ("survey/long.rs", &format!("{}{}", "fn f() {}\n".repeat(500), "// why\n\n".repeat(100))),
    ] {
        assert_eq!(check(file, text), [] as [&str; 0], "{file}: {text:.60}");
    }
}

fn check(file: &str, text: &str) -> Vec<String> {
    let crates = ["nix", "rustix", "rusqlite", "serde", "serde_json", "tar"].map(String::from).into();
    violations(file, text, &crates)
}

/// What is wrong with a file, one sentence each; `file` is its path below `src`.
fn violations(file: &str, text: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let names: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    let part = names[0];
    let mut wrong = BTreeSet::new();
    if names.iter().any(|name| EMPTY_NAMES.contains(name)) {
        wrong.insert("a name that says nothing".to_owned());
    }
    let lines = lines_of_code(text);
    if lines > LONGEST_FILE {
        wrong.insert(format!("{lines} lines of code are more than {LONGEST_FILE}"));
    }
    let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == part) else {
        return vec![format!("{file}: {part} has no rule in this test")];
    };
    if names.iter().any(|name| *name == "tests" || name.ends_with("_tests")) {
        return wrong.into_iter().map(|what| format!("{file}: {what}")).collect();
    }
    let tokens = without_tests(tokens(text));
    let mut here: Vec<&str> = if matches!(part, "main" | "lib") { Vec::new() } else { names.clone() };
    if here.last() == Some(&"mod") {
        here.pop();
    }
    for path in paths(&tokens) {
        match resolve(&path, &here) {
            Some(own) => {
                let used = own.first().map_or("", String::as_str);
                let is_part = MAY_USE.iter().any(|(name, _)| *name == used);
                let item = format!("{used}::{}", own.get(1).map_or("", String::as_str));
                if is_part && used != part && !may_use.contains(&used) && !may_use.contains(&item.as_str()) {
                    let narrow = may_use.iter().any(|allowed| allowed.starts_with(&format!("{used}::")));
                    wrong.insert(format!("{part} uses {}", if narrow { item.as_str() } else { used }));
                }
            }
            None => {
                let (root, next) = (path[0].as_str(), path.get(1).map_or("", String::as_str));
                let of_one = CRATES_OF_ONE.iter().find(|(name, _)| *name == root);
                let not_for_model = part == "model" && crates.contains(root) && !CRATES_OF_MODEL.contains(&root);
                if not_for_model || of_one.is_some_and(|(_, parts)| !parts.contains(&part)) {
                    wrong.insert(format!("{part} uses the crate {root}"));
                }
                if root == "std" && EFFECTS.contains(&next) && PURE.contains(&part) {
                    wrong.insert(format!("{part} uses std::{next}"));
                }
                if root == "Host" && matches!(next, "real" | "new") && !BUILDS_HOST.contains(&part) {
                    wrong.insert(format!("{part} builds a Host"));
                }
            }
        }
    }
    for (i, token) in tokens.iter().enumerate() {
        let before = i.checked_sub(1).map_or("", |i| tokens[i].as_str());
        let after = tokens.get(i + 1).map_or("", String::as_str);
        let prints = match token.as_str() {
            "println" | "print" | "eprintln" | "eprint" | "dbg" => after == "!",
            "stdout" | "stderr" => after == "(" && before != ".",
            _ => false,
        };
        if prints && !PRINTS.contains(&part) {
            wrong.insert(format!("{part} prints"));
        }
        let declares = matches!(before, "struct" | "enum" | "trait" | "type");
        if declares && EMPTY_ENDINGS.iter().any(|ending| token.ends_with(ending)) {
            wrong.insert(format!("{token}: a name that says nothing"));
        }
    }
    wrong.into_iter().map(|what| format!("{file}: {what}")).collect()
}

/// The path inside the crate, or `None` when it leads into another crate or a neighbour that is named directly.
fn resolve(path: &[String], here: &[&str]) -> Option<Vec<String>> {
    let mut base: Vec<String> = here.iter().map(|name| (*name).to_owned()).collect();
    let mut rest = path;
    match path[0].as_str() {
        "crate" | "lifeboat" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|name| name == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        _ => return None,
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// Every path in the tokens, groups spread out: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let starts = is_name(&tokens[at]) && (tokens.get(at + 1).is_some_and(|next| next == "::"));
        let imported = at > 0 && tokens[at - 1] == "use" && is_name(&tokens[at]);
        at = if starts || imported { spread(tokens, at, Vec::new(), &mut found) } else { at + 1 };
    }
    found
}

/// Follows one path from `at`; returns where it ends.
fn spread(tokens: &[String], mut at: usize, mut path: Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = if is_name(&tokens[at]) { spread(tokens, at, path.clone(), found) } else { at + 1 };
                    if tokens.get(at).is_some_and(|token| token == "as") {
                        at += 2;
                    }
                }
                return at + 1;
            }
            Some(name) if is_name(name) => {
                path.push(name.to_owned());
                at += 1;
                if tokens.get(at).is_none_or(|next| next != "::") {
                    found.push(path);
                    return at;
                }
                at += 1;
            }
            _ => {
                found.push(path);
                return at;
            }
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

/// Leaves out each item under `#[cfg(test)]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().map(String::as_str).take(mark.len()).eq(mark) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += mark.len();
        let mut depth = 0;
        while at < tokens.len() {
            match tokens[at].as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            at += 1;
            let ends_group = tokens[at - 1] == "}" && tokens.get(at).is_none_or(|next| next != ";");
            if depth == 0 && (tokens[at - 1] == ";" || ends_group) {
                break;
            }
        }
    }
    kept
}

/// Names, `::` and single signs; comments, strings, characters and lifetimes are dropped.
fn tokens(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| text.get(at + i) == Some(&c));
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let c = text[at];
        if starts(at, "//") {
            at += text[at..].iter().position(|&c| c == '\n').unwrap_or(text.len() - at);
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                if starts(at, "/*") {
                    (depth, at) = (depth + 1, at + 2);
                } else if starts(at, "*/") {
                    (depth, at) = (depth - 1, at + 2);
                } else {
                    at += 1;
                }
                if depth == 0 || at >= text.len() {
                    break;
                }
            }
        } else if c == '"' {
            at += 1;
            while at < text.len() && text[at] != '"' {
                at += if text[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            at += match (text.get(at + 1), text.get(at + 2)) {
                (Some('\\'), _) => 3 + text[at + 3..].iter().position(|&c| c == '\'').unwrap_or(0) + 1,
                (_, Some('\'')) => 3,
                _ => 1,
            };
        } else if c == '_' || c.is_alphanumeric() {
            let end = text[at..].iter().position(|&c| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len() - at);
            let name: String = text[at..at + end].iter().collect();
            at += end;
            let hashes = text[at..].iter().take_while(|&&c| c == '#').count();
            if matches!(name.as_str(), "r" | "br" | "cr") && text.get(at + hashes) == Some(&'"') {
                let close = format!("\"{}", "#".repeat(hashes));
                at += hashes + 1;
                while at < text.len() && !starts(at, &close) {
                    at += 1;
                }
                at += close.len();
            } else {
                tokens.push(name);
            }
        } else if starts(at, "::") {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            at += 1;
        }
    }
    tokens
}

/// Lines that are neither blank nor comments, up to the tests at the end.
fn lines_of_code(text: &str) -> usize {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// The crates under `[dependencies]`, as Rust names them.
fn dependencies(cargo: &str) -> BTreeSet<String> {
    let lines = cargo.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.replace('-', "_")).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files.sort();
}
