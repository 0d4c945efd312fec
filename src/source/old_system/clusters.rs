//! Which of an old system's database servers' own files have to come along: those of apps without a dump that is whole
//! and of the last hours.

use super::tree::Tree;
use crate::formats::dump::{self, Dump};
use crate::model::archive::ArchivedApp;
use crate::model::cluster;
use crate::model::entry::Mtime;
use crate::model::manifest::{self, Engine};
use crate::model::path::RelPath;
use crate::survey::files::Files;

/// The clusters that these apps need of a system that was last used at `time`.
pub(super) fn needed<'a, T: Tree>(
    files: &dyn Files,
    tree: &T,
    apps: impl Iterator<Item = &'a ArchivedApp>,
    time: Mtime,
) -> Vec<RelPath> {
    let mut engines: Vec<Engine> = Vec::new();
    for database in apps.filter_map(|app| manifest::find(&app.name)?.database.as_ref()) {
        if !engines.contains(&database.engine) && !is_current(tree, &database.dump, time) {
            engines.push(database.engine);
        }
    }
    let all = engines.into_iter().flat_map(|engine| match engine {
        Engine::Mysql => of_mariadb(files),
        Engine::Postgresql => of_postgresql(files),
    });
    all.collect()
}

/// Whether a dump tells all that its database held.
fn is_current<T: Tree>(tree: &T, path: &RelPath, time: Mtime) -> bool {
    let Ok(Some(node)) = tree.find(path) else { return false };
    let written = tree.stat(&node).mtime;
    Dump { is_complete: true, written }.hours_stale(time.secs).is_none()
        && tree.content(&node).and_then(dump::is_whole).unwrap_or(false)
}

fn of_mariadb(files: &dyn Files) -> Vec<RelPath> {
    let is_there = files.has(&format!("{}/ibdata1", cluster::MYSQL));
    cluster::MYSQL.parse().ok().filter(|_| is_there).into_iter().collect()
}

fn of_postgresql(files: &dyn Files) -> Vec<RelPath> {
    let names = |path: &str| -> Vec<String> {
        let names = files.names(path).unwrap_or_default();
        names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect()
    };
    let mut found = Vec::new();
    for version in names(cluster::POSTGRESQL).iter().filter(|name| name.parse::<u32>().is_ok()) {
        let folder = format!("{}/{version}", cluster::POSTGRESQL);
        for name in names(&folder) {
            let path = format!("{folder}/{name}");
            if files.has(&format!("{path}/PG_VERSION")) {
                found.extend(path.parse::<RelPath>().ok().filter(|path| cluster::engine(path).is_some()));
            }
        }
    }
    found
}
