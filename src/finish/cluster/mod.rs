//! Reading what an app's database held from the files of its old server: a dump of it, made by a server of the box's own
//! on a copy of them.
//!
//! Owns that server from its start to its end. It has no network, its own socket, sees no process but its own and works
//! with the rights of its user; when it ends or Lifeboat does, everything that it started ends. Never touches the box's
//! own server or clusters, and never the parked files: each attempt has a new copy. Only a dump that was written to its
//! end is kept.
//!
//! Where the box has no PostgreSQL of that version, the old system's own programs came along and are that server, in a
//! root directory of their own. They can do no more than the dump can: FreedomBox gives dumps to PostgreSQL's client as
//! the same user, with the network, and a dump may name programs as well.

use super::app::Trouble;
use super::machine::{Machine, last_words};
use crate::formats::dump;
use crate::model::cluster;
use crate::model::manifest::{self, Database, Engine};
use crate::model::path::RelPath;
use crate::model::plan::{AppPlan, Step};
use crate::model::size::ByteSize;
use crate::restore::{Restore, RestoreError, doing};
use crate::sys::command::Output;
use crate::sys::dir::{self, Dir, Kind};
use crate::sys::{fault, tree};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};

const PRIVATE: &str = include_str!("private.sh");
const POSTGRESQL: &str = include_str!("postgresql.sh");
const MARIADB: &str = include_str!("mariadb.sh");
/// Where Debian has PostgreSQL's programs, each version its own.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Where a server works, in the directory of what is kept.
const WORK: &[u8] = b"server.work";
/// How long a server may take. FreedomBox's service rests meanwhile.
const PATIENCE: &str = "2h";
/// What `timeout` ends with when that was not enough: the signal that ended everything.
const TOO_LONG: [i32; 2] = [124, 137];
/// What the scripts end with where there is no such database.
const NONE: i32 = 3;
/// Room beside the copy: for the dump, and so that the box goes on.
const RESERVE: u64 = 16 << 20;
/// Deepest nesting of a server's files.
const DEEPEST: usize = 32;
/// Where MariaDB notes which version used its files last; the second name is the older one.
const NOTES: [&[u8]; 2] = [b"mariadb_upgrade_info", b"mysql_upgrade_info"];

/// Makes sure that there is a dump of the app's database. Says so for its owner, or why there is none.
pub(super) fn dump(restore: &Restore, machine: &Machine, app: &AppPlan) -> Result<(), Trouble> {
    let working = || doing(format!("reading the database of '{}'", app.name));
    tree::remove(&restore.kept()?, WORK).map_err(working())?;
    if of(restore, app)?.is_some() {
        return Ok(());
    }
    let Some(database) = database(app) else {
        return Err(Trouble::Never("this Lifeboat knows no database of it".into()));
    };
    (machine.talk)(&format!("{}: reading its database from the files of its old server", app.name));
    for step in steps(restore, database.engine) {
        if read(restore, machine, app, database, &step)? {
            return Ok(());
        }
    }
    let engine = database.engine.name();
    let names = database.names.join("' or '");
    Err(Trouble::Never(format!("the files of the old {engine} have no database '{names}'; {}", kept_at(restore, app))))
}

/// The dump that was made, open for reading.
pub(super) fn of(restore: &Restore, app: &AppPlan) -> Result<Option<std::fs::File>, RestoreError> {
    match restore.kept()?.read_file(&name(app)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(doing(format!("reading the dump of '{}'", app.name))),
    }
}

/// Where the dump has its place on the box.
pub(super) fn place(app: &AppPlan) -> Option<&'static RelPath> {
    database(app).map(|database| &database.dump)
}

/// Where the server's files stay.
pub(super) fn kept_at(restore: &Restore, app: &AppPlan) -> String {
    let engine = database(app).map(|database| database.engine);
    let places: Vec<String> = engine
        .map(|engine| steps(restore, engine))
        .unwrap_or_default()
        .iter()
        .map(|step| format!("/{}", step.place()))
        .collect();
    format!("its files are kept in {}", places.join(" and "))
}

fn database(app: &AppPlan) -> Option<&'static Database> {
    manifest::find(&app.name).and_then(|known| known.database.as_ref())
}

/// In the directory of what is kept. No app's name has a dot, and so no folder there.
fn name(app: &AppPlan) -> Vec<u8> {
    format!("{}.sql", app.name).into_bytes()
}

/// The parked files of a server. PostgreSQL's newest version first: it has what the older ones had, unless nobody
/// brought it there.
fn steps(restore: &Restore, engine: Engine) -> Vec<Step> {
    let steps = restore.parked_steps(&crate::model::app::AppId::databases()).into_iter();
    let is_cluster = |path: &RelPath| cluster::engine(path) == Some(engine) && cluster::programs_for(path).is_none();
    let mut steps: Vec<Step> = steps.filter(|step| is_cluster(&step.destination)).collect();
    steps.sort_by_key(|step| std::cmp::Reverse(cluster::version(&step.destination)));
    steps
}

/// Makes the dump from these files; `false` where they hold no such database.
fn read(
    restore: &Restore,
    machine: &Machine,
    app: &AppPlan,
    database: &Database,
    step: &Step,
) -> Result<bool, Trouble> {
    let path = step.place();
    let failed = || doing(format!("looking at \"{path}\""));
    let files = restore.root().dir(&path).map_err(failed())?;
    refuse_links(&files, 0).map_err(failed())?.map_or(Ok(()), |what| {
        Err(Trouble::Never(format!("the files of its old server hold {what}; {}", kept_at(restore, app))))
    })?;
    let never = |why: String| Trouble::Never(format!("{why}; {}", kept_at(restore, app)));
    let (script, user, server) = match database.engine {
        Engine::Postgresql => (POSTGRESQL, "postgres", postgresql(restore, machine, &files).map_err(never)?),
        Engine::Mysql => (MARIADB, "mysql", mariadb(machine, &files).map_err(never)?),
    };
    let mut args: Vec<String> = server.bin.into_iter().collect();
    args.extend(database.names.iter().cloned());
    let kept = restore.kept()?;
    let working = || doing(format!("reading the database of '{}'", app.name));
    let needed = ByteSize(step.bytes.0.saturating_mul(2).saturating_add(RESERVE));
    let free = ByteSize(kept.room().map_err(working())?.bytes);
    if free < needed {
        return Err(Trouble::NotNow(format!(
            "reading its database from the files of its old server needs {needed} of free room, and the box has {free}"
        )));
    }
    kept.make_child(WORK).map_err(working())?;
    fault::point("cluster.before").map_err(working())?;
    let at = machine.at.join(restore.kept_path()?.as_path()).join(OsStr::new("server.work"));
    let mut words: Vec<OsString> = ["--signal=KILL", PATIENCE, "unshare", "--mount", "--net", "--ipc", "--pid"]
        .into_iter()
        .chain(["--fork", "--kill-child", "--", "sh", "-c", PRIVATE, "sh"])
        .map(OsString::from)
        .collect();
    words.extend([machine.at.join(path.as_path()).into_os_string(), at.into_os_string(), user.into()]);
    let brought = server.brought.map(|path| machine.at.join(path.as_path()).into_os_string());
    words.extend([brought.unwrap_or_default(), script.into()]);
    words.extend(args.into_iter().map(OsString::from));
    let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
    let output = machine.commands.run("timeout", &words).map_err(working())?;
    let read = match output.status {
        Some(0) => keep(&kept, app).map_err(working())?.then_some(true),
        Some(NONE) => Some(false),
        _ => None,
    };
    fault::point("cluster.after").map_err(working())?;
    tree::remove(&kept, WORK).map_err(working())?;
    read.ok_or_else(|| Trouble::Failed(format!("{}; {}", told(database.engine, &output), kept_at(restore, app))))
}

/// Keeps the dump, where it is whole.
fn keep(kept: &Dir, app: &AppPlan) -> io::Result<bool> {
    let work = kept.child(WORK)?;
    if !dump::is_whole(work.read_file(b"dump.sql")?)? {
        return Ok(false);
    }
    let new = [name(app), b".new".to_vec()].concat();
    tree::remove(kept, &new)?;
    let mut file = kept.create_file(&new)?;
    io::copy(&mut work.read_file(b"dump.sql")?, &mut file)?;
    dir::sync_file(&file)?;
    fault::point("cluster.dumped")?;
    kept.replace(&new, &name(app))?;
    kept.sync()?;
    Ok(true)
}

fn told(engine: Engine, output: &Output) -> String {
    let engine = engine.name();
    match output.status {
        Some(status) if TOO_LONG.contains(&status) => {
            format!("{engine} did not come to an end with its files in {PATIENCE}")
        }
        Some(0) => format!("the dump that {engine} made of its database is not whole"),
        _ => format!("{engine} cannot read its database from the files of its old server: {}", last_words(output)),
    }
}

/// What of the files leads out of them: a server would follow that, also where it writes.
fn refuse_links(files: &Dir, depth: usize) -> io::Result<Option<String>> {
    for name in files.names()? {
        let shown = || crate::model::bytes::escape(&name);
        match files.stat_child(&name)?.map(|stat| stat.kind) {
            Some(Kind::Directory) if depth < DEEPEST => {
                if let Some(what) = refuse_links(&files.child(&name)?, depth + 1)? {
                    return Ok(Some(what));
                }
            }
            // MariaDB writes down there where a table lies that is not among its files.
            Some(Kind::File) if !name.ends_with(b".isl") => {}
            None => {}
            Some(_) => return Ok(Some(format!("'{}', which leads to other folders", shown()))),
        }
    }
    Ok(None)
}

/// What reads a server's files.
#[derive(Debug, Default)]
struct Server {
    /// The folder with its programs, where the script has to know it.
    bin: Option<String>,
    /// The root directory that holds them, where they came along.
    brought: Option<RelPath>,
}

/// The programs that read these files: the box's own, else those that came along.
fn postgresql(restore: &Restore, machine: &Machine, files: &Dir) -> Result<Server, String> {
    let version = text(files, b"PG_VERSION").ok_or("the files of the old PostgreSQL do not say their version")?;
    let version: u32 =
        version.trim().parse().map_err(|_| "the files of the old PostgreSQL do not say their version")?;
    let bin = format!("{VERSIONS}/{version}/bin");
    if let Ok(Output { status: Some(0), .. }) = machine.run(&format!("{bin}/postgres"), &["--version"]) {
        return Ok(Server { bin: Some(bin), brought: None });
    }
    let bin_there = bin.trim_start_matches('/');
    let brought = restore.parked_steps(&crate::model::app::AppId::databases()).into_iter().find(|step| {
        let is_for = cluster::programs_for(&step.destination).is_some();
        let server = step.place().join(format!("{bin_there}/postgres").as_bytes());
        let has_server = || server.is_ok_and(|path| matches!(restore.root().stat(&path), Ok(Some(_))));
        is_for && cluster::version(&step.destination) == Some(version) && has_server()
    });
    match brought {
        Some(step) => {
            (machine.talk)(&format!("the box has no PostgreSQL {version}: using the programs of the old system"));
            Ok(Server { bin: Some(bin), brought: Some(step.place()) })
        }
        None => Err(format!(
            "its database is in files of PostgreSQL {version}, only that version reads them, and neither the box nor the \
             old disk has it for this processor: install the package postgresql-{version} on the box where its Debian \
             has one, or start the old box once more and make a backup there"
        )),
    }
}

/// MariaDB reads what older versions wrote.
fn mariadb(machine: &Machine, files: &Dir) -> Result<Server, String> {
    let said = machine.run("mariadbd", &["--version"]).ok().filter(|output| output.status == Some(0));
    let said = said.ok_or("its database is in files of MariaDB, and the box has no MariaDB")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let own = said.split_once("Ver ").and_then(|(_, rest)| release(rest));
    let wrote = NOTES.iter().find_map(|name| release(&text(files, name)?));
    match (wrote, own) {
        (Some(wrote), Some(own)) if wrote > own => Err(format!(
            "its database is in files of MariaDB {}.{}, and the box has {}.{}, which does not read newer ones",
            wrote.0, wrote.1, own.0, own.1
        )),
        _ => Ok(Server::default()),
    }
}

/// `10.11.6-MariaDB…`
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn text(files: &Dir, name: &[u8]) -> Option<String> {
    let mut text = String::new();
    files.read_file(name).ok()?.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        assert_eq!(release("10.11.6-MariaDB"), Some((10, 11)));
        assert!(release("11.8.3-MariaDB-1").unwrap() > release("10.11.6").unwrap());
        assert!(release("10.11.6").unwrap() > release("10.5.29").unwrap());
        assert_eq!(release("MariaDB"), None);
    }
}
