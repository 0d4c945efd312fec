//! The command that backs up an installed system in one step.

use super::unprinted;
use crate::cli::BackupArgs;
use crate::export::{self, ExportError, Wish};
use crate::failure::{Failure, chain};
use crate::model::bytes;
use crate::model::ending::Ending;
use crate::model::progress::Progress;
use crate::model::question::Prompter;
use crate::render::{Output, prompt};
use crate::rescue::keyring::{self, KeyPlaces};
use crate::rescue::reach;
use crate::source::NoPassphrase;
use crate::survey::stick;
use crate::sys::host::Host;
use std::path::PathBuf;

/// Where backups lie on a stick. FreedomBox 0.37 to 0.42 looked for them there, and so does Lifeboat.
const FOLDER: &str = "FreedomBox-backups";

/// `lifeboat backup`.
pub fn backup(host: &Host, output: &Output, args: &BackupArgs, progress: &dyn Progress) -> Result<Ending, Failure> {
    let passphrase = if args.encrypt {
        let places = KeyPlaces {
            passphrase_file: args.passphrase_file.clone(),
            passphrase_fd: args.passphrase_fd,
            key_file: None,
        };
        let mut prompter = prompt::on_terminal();
        let prompter: Option<&mut dyn Prompter> = match &mut prompter {
            Some(prompter) => Some(prompter.as_mut()),
            None => None,
        };
        Some(keyring::new_passphrase(&places, prompter)?)
    } else {
        None
    };
    let stick = stick::open(host, &args.from, &args.to)?;
    let location = reach::location(host, &args.from, &mut NoPassphrase)?;
    if location.system.is_none() {
        let sentence = format!("\"{}\" holds no installed FreedomBox that could be backed up", args.from.display());
        let advice = "name the disk of the box, or its root; 'lifeboat export' copies a backup that is there already";
        return Err(Failure::untouched(Ending::NoBackup, sentence, advice));
    }
    let mut archive = reach::open(host, &location, None, &mut NoPassphrase)?;
    let name = name(host, args)?;
    let is_there = stick.folder.file_name().is_some_and(|folder| folder == FOLDER);
    let folder = if is_there { stick.folder.clone() } else { stick.folder.join(FOLDER) };
    let file = folder.join(&name);
    if let Err(source) = std::fs::create_dir(&folder)
        && source.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(ExportError::Writing { file: bytes::path::shown(&folder), source }.into());
    }
    let wish = Wish { accept_damage: args.accept_damage, passphrase: passphrase.as_ref() };
    let mut exported = export::export(archive.as_mut(), &location.path, &file, wish, progress)?;
    drop(archive);
    drop(location);
    exported.findings.extend(stick.findings.iter().cloned());
    if stick.is_own_mount() {
        // Its place on the stick; where that was mounted is gone in a moment.
        exported.file = PathBuf::from(FOLDER).join(&name);
    }
    stick.release().map_err(|error| {
        let advice = "run 'lifeboat verify' on the file when the stick is connected again, before you rely on it";
        Failure::untouched(Ending::Failed, format!("the backup is written, but {}", chain(&error)), advice)
    })?;
    output.show(&exported).map_err(unprinted)?;
    Ok(if exported.is_whole() { Ending::Done } else { Ending::DoneWithLosses })
}

/// The time, without the colons that no stick can hold, and what is in the file.
fn name(host: &Host, args: &BackupArgs) -> Result<String, Failure> {
    let time = jiff::Timestamp::try_from(host.clock().now()).map_err(|error| {
        let sentence = format!("asking for the time: {error}");
        Failure::untouched(Ending::Failed, sentence, "set this computer's clock and try again")
    })?;
    let packed = if args.zstd { "tar.zst" } else { "tar.gz" };
    let sealed = if args.encrypt { ".age" } else { "" };
    Ok(format!("{}.{packed}{sealed}", time.strftime("%Y-%m-%dT%H%M%SZ")))
}
