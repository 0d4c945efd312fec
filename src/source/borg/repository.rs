//! A repository that is open: its files, its key and its list of archives.

use super::Fault;
use super::object::Decoder;
use super::storage::Storage;
use crate::formats::borg::archive;
use crate::formats::borg::compression::Length;
use crate::formats::borg::envelope::{Mode, Opener};
use crate::formats::borg::key::{self, BadKey, LockedKey, Secrets};
use crate::formats::borg::manifest::{self, Listed};
use crate::formats::borg::segment::HEAD;
use crate::formats::borg::tam::{self, Subject, Tam};
use crate::formats::borg::{LONGEST_DESCRIPTION, MANIFEST, ObjectId};
use crate::formats::borg_config::{self, RepositoryConfig};
use crate::model::archive::ArchiveId;
use crate::model::bytes;
use crate::model::finding::{Finding, Severity};
use crate::source::ReadError;
use crate::source::tar_export::{at, open_regular, shown};
use crate::source::unlock::Unlock;
use std::io::Read;
use std::path::Path;

/// An open repository.
pub(super) struct Repository {
    storage: Storage,
    opener: Opener,
    archives: Vec<Named>,
    findings: Vec<Finding>,
}

/// An archive in the list.
pub(super) struct Named {
    listed: Listed,
    /// Its id as text.
    pub(super) id: ArchiveId,
}

impl Named {
    fn new(listed: Listed) -> Option<Named> {
        let hex: String = listed.id.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Named { id: hex.parse().ok()?, listed })
    }

    pub(super) fn object(&self) -> &ObjectId {
        &self.listed.id
    }

    pub(super) fn shown_name(&self) -> String {
        bytes::escape(&self.listed.name)
    }

    /// Whether an interrupted run left it.
    pub(super) fn is_checkpoint(&self) -> bool {
        let name = self.listed.name.as_slice();
        let stem = match name.iter().rposition(|&byte| byte == b'.') {
            Some(dot)
                if name.get(dot + 1..).is_some_and(|end| !end.is_empty() && end.iter().all(u8::is_ascii_digit)) =>
            {
                name.get(..dot).unwrap_or_default()
            }
            _ => name,
        };
        stem.ends_with(b".checkpoint")
    }
}

impl Repository {
    /// The same repository with the archives that were deleted, and whose description is still there, instead of those
    /// in the list. Reads everything.
    pub(super) fn deleted(self) -> Repository {
        let storage = self.storage.with_deleted();
        let found = find_archives(&storage, &self.opener, &mut Decoder::new(&storage, &self.opener));
        let is_listed = |id: &ObjectId| self.archives.iter().any(|named| named.object() == id);
        let found = found.into_iter().filter(|listed| !is_listed(&listed.id));
        let archives = found.filter_map(Named::new).collect();
        Repository { storage, archives, opener: self.opener, findings: self.findings }
    }

    /// Opens the repository at `path`; asks for a passphrase where one is needed.
    pub(super) fn open(path: &Path, unlock: &mut dyn Unlock) -> Result<Repository, ReadError> {
        if let Some(refusal) = refusal(path) {
            return Err(refusal);
        }
        let config = read_config(path)?;
        let storage = Storage::open(path)?;
        let mode = mode_of(&storage).map_err(|fault| list_damaged(path, &fault))?;
        let mut findings = storage.findings.clone();
        let config = config.unwrap_or_else(|| {
            let what = "its config is lost or damaged; it was read without it";
            let advice = "copy the backups to another place; borg itself needs the config";
            findings.push(Finding::new(Severity::Warning, shown(path), what, advice));
            RepositoryConfig::default()
        });
        let secrets = if mode.is_keyed { Some(open_key(path, mode, &config, unlock)?) } else { None };
        let opener = Opener::new(mode, secrets).map_err(|bad| key_damaged(path, bad))?;

        if config.key.is_some() && !mode.is_keyed {
            let what = "the repository has a key, but its content is neither encrypted nor authenticated";
            let advice = "if it was encrypted once, somebody may have put another one in its place";
            findings.push(Finding::new(Severity::Warning, shown(path), what, advice));
        }
        let mut raw = Vec::new();
        let mut decoder = Decoder::new(&storage, &opener);
        let archives = match decoder.decode(&MANIFEST, 0, Length::AtMost(LONGEST_DESCRIPTION), &mut raw) {
            Ok(()) => {
                authenticate(path, &raw, &opener, &mut findings)?;
                manifest::parse(&raw).map_err(|bad| list_damaged(path, &Fault::bad(bad)))?
            }
            Err(fault) => {
                let what = format!(
                    "the list of archives is lost ({fault}); all objects were looked through for archives instead"
                );
                let advice = "archives that were deleted lately may be among them, renamed ones may be missing";
                findings.push(Finding::new(Severity::Warning, shown(path), what, advice));
                let found = find_archives(&storage, &opener, &mut decoder);
                // A medium that gives nothing at all is no repository without archives.
                if let (true, Fault::Io(_)) = (found.is_empty(), &fault) {
                    return Err(list_damaged(path, &fault));
                }
                found
            }
        };
        Ok(Repository { storage, opener, archives: archives.into_iter().filter_map(Named::new).collect(), findings })
    }

    /// What was noticed while opening.
    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The archives in the order of the list.
    pub(super) fn archives(&self) -> &[Named] {
        &self.archives
    }

    /// The description of an archive, and its authentication.
    pub(super) fn describe(&self, id: &ObjectId) -> Result<(Vec<u8>, Tam), Fault> {
        let mut raw = Vec::new();
        self.decoder().decode(id, 0, Length::AtMost(LONGEST_DESCRIPTION), &mut raw)?;
        let tam = tam::check(&raw, Subject::Archive, self.opener.secrets());
        Ok((raw, tam))
    }

    /// Whether there is such an object.
    pub(super) fn has(&self, id: &ObjectId) -> bool {
        self.storage.has(id)
    }

    /// The id that content has here.
    pub(super) fn id_of(&self, content: &[u8]) -> ObjectId {
        self.opener.id(content)
    }

    /// Whether reading it means waiting for another machine.
    pub(super) fn is_remote(&self) -> bool {
        self.storage.is_remote
    }

    /// A decoder for one thread.
    pub(super) fn decoder(&self) -> Decoder<'_> {
        Decoder::new(&self.storage, &self.opener)
    }
}

/// Whether an id can be an object's.
pub(super) fn is_object_id(id: &ArchiveId) -> bool {
    key::parse_id(id.as_str().as_bytes()).is_some()
}

/// The mode of the repository: the manifest tells it, or, where that is lost, any other object.
fn mode_of(storage: &Storage) -> Result<Mode, Fault> {
    let mut entry = Vec::new();
    let mut read = |id: &ObjectId| -> Result<Mode, Fault> {
        let size = storage.read(id, 0, &mut entry)?;
        Mode::of(entry.get(HEAD..size).unwrap_or_default()).map_err(Fault::bad)
    };
    read(&MANIFEST).or_else(|fault| storage.ids().find_map(|id| read(&id).ok()).ok_or(fault))
}

/// Checks that a manifest is meant to be one.
fn authenticate(path: &Path, raw: &[u8], opener: &Opener, findings: &mut Vec<Finding>) -> Result<(), ReadError> {
    let tam_required = opener.secrets().is_some_and(|secrets| secrets.tam_required);
    let refuse = |what: &str| Err(list_damaged(path, &Fault::Bad(what.to_owned())));
    match tam::check(raw, Subject::Manifest, opener.secrets()) {
        Tam::Right => Ok(()),
        Tam::Missing if tam_required => refuse("it has no authentication, but must have one"),
        Tam::Missing => {
            let what = "the list of archives has no authentication";
            findings.push(Finding::new(Severity::Warning, shown(path), what, ""));
            Ok(())
        }
        Tam::Wrong => refuse("its authentication is wrong"),
    }
}

/// Looks through all objects for descriptions of archives. Only authentic ones count: a file's content may look like one.
fn find_archives(storage: &Storage, opener: &Opener, decoder: &mut Decoder<'_>) -> Vec<Listed> {
    let mut raw = Vec::new();
    let mut found = Vec::new();
    for id in storage.ids() {
        if decoder.decode(&id, 0, Length::AtMost(LONGEST_DESCRIPTION), &mut raw).is_err() {
            continue;
        }
        if let Ok(description) = archive::parse(&raw)
            && tam::check(&raw, Subject::Archive, opener.secrets()) == Tam::Right
        {
            found.push(Listed { name: description.name, id });
        }
    }
    found
}

fn list_damaged(path: &Path, fault: &Fault) -> ReadError {
    ReadError::Corrupt { place: format!("in the list of archives of '{}'", shown(path)), what: fault.to_string() }
}

fn key_damaged(path: &Path, what: impl std::fmt::Display) -> ReadError {
    ReadError::Corrupt { place: format!("in the key of '{}'", shown(path)), what: what.to_string() }
}

fn read_config(path: &Path) -> Result<Option<RepositoryConfig>, ReadError> {
    let path = path.join("config");
    if !path.is_file() {
        return Ok(None);
    }
    let mut text = Vec::new();
    open_regular(&path)?.take(borg_config::LONGEST).read_to_end(&mut text).map_err(|error| at(&path, &error))?;
    Ok(borg_config::read(&text))
}

/// Repositories of another generation. Borg 2 keeps its config in a folder, and its early test versions counted on.
pub(super) fn refusal(path: &Path) -> Option<ReadError> {
    let is_later = match read_config(path) {
        Ok(Some(config)) => config.version != 1,
        _ => path.join("config/version").is_file() && path.join("config/id").is_file(),
    };
    is_later.then(|| ReadError::Unsupported {
        entry: format!("'{}'", shown(path)),
        what: "it is a repository of borg 2, which FreedomBox does not use and Lifeboat does not read".into(),
    })
}

/// Opens the key: with the empty passphrase, then with all that the caller has.
fn open_key(path: &Path, mode: Mode, config: &RepositoryConfig, unlock: &mut dyn Unlock) -> Result<Secrets, ReadError> {
    let repository = config.id.as_ref().and_then(|id| key::parse_id(id.as_bytes()));
    let locked = find_key(path, mode, config, repository.as_ref(), unlock)?;
    let place = format!("'{}'", shown(path));
    let mut passphrase = Some(crate::model::secret::Secret::new(Vec::new()));
    let mut attempt = 0;
    let secrets = loop {
        let Some(tried) = passphrase else {
            return Err(match attempt {
                0 => ReadError::NeedsPassphrase(place),
                _ => ReadError::WrongPassphrase(place),
            });
        };
        match locked.unlock(tried.reveal()) {
            Ok(secrets) => break secrets,
            Err(BadKey::WrongPassphrase) => {}
            Err(bad) => return Err(key_damaged(path, bad)),
        }
        passphrase = unlock.passphrase(&place, attempt);
        attempt += u32::from(passphrase.is_some());
    };
    if repository.is_some_and(|id| id != secrets.repository) {
        return Err(key_damaged(path, "it belongs to another repository"));
    }
    Ok(secrets)
}

fn find_key(
    path: &Path,
    mode: Mode,
    config: &RepositoryConfig,
    repository: Option<&ObjectId>,
    unlock: &dyn Unlock,
) -> Result<LockedKey, ReadError> {
    if let Some(text) = unlock.key_file() {
        let (id, locked) = key::parse_file(text).map_err(|bad| ReadError::BadKeyFile(bad.to_string()))?;
        if repository.is_none_or(|repository| *repository == id) {
            return Ok(locked);
        }
        if mode.is_key_outside || config.key.is_none() {
            return Err(ReadError::BadKeyFile(format!("it belongs to another repository than '{}'", shown(path))));
        }
    }
    match &config.key {
        Some(text) => key::parse(text.as_bytes()).map_err(|bad| key_damaged(path, bad)),
        None => {
            let why = match config.id.is_none() && !mode.is_key_outside {
                true => "is encrypted, and its key was lost with its config",
                false => "is encrypted with a key that is kept in a file of its own",
            };
            Err(ReadError::NeedsKeyFile(format!("'{}' {why}", shown(path))))
        }
    }
}
