//! Embeds `manifests/*.json` into the program, so that one file is all that has to be on the rescue medium.

// A build script has no other way to stop.
#![allow(clippy::expect_used)]

use std::fmt::Write as _;
use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=manifests");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let mut files: Vec<_> = fs::read_dir(Path::new(&root).join("manifests"))
        .expect("the manifests folder is part of the source")
        .map(|entry| entry.expect("the manifests folder is readable").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .filter(|path| path.file_name().is_some_and(|name| name != "schema.json"))
        .collect();
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let text = fs::read_to_string(file).expect("the manifests are readable");
        // Without what makes them readable, which is a third of them: a text in JSON never goes on in the next line.
        let packed: String = text.lines().map(str::trim).collect();
        writeln!(list, "{packed:?},").expect("writing to a string");
    }
    list.push_str("]\n");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("manifests.rs"), list).expect("the build folder is writable");
}
