//! Clusters: the folders in which database servers keep everything they hold.
//!
//! Source: Debian, postgresql-common (`/var/lib/postgresql/<version>/<cluster>`) and mariadb-server (`/var/lib/mysql`).

use super::manifest::Engine;
use super::path::{BadPath, RelPath};

/// The folder with PostgreSQL's clusters, by version and name.
pub const POSTGRESQL: &str = "var/lib/postgresql";
/// MariaDB's only one.
pub const MYSQL: &str = "var/lib/mysql";

/// Whose cluster lies at a path; `None` where none does.
pub fn engine(path: &RelPath) -> Option<Engine> {
    if path.as_bytes() == MYSQL.as_bytes() {
        return Some(Engine::Mysql);
    }
    version(path).map(|_| Engine::Postgresql)
}

/// The name before the architecture of a folder that no system has: there come PostgreSQL's own programs beside its
/// clusters, for a box without that version.
const PROGRAMS: &str = "programs-";

/// Where the programs of a version of PostgreSQL come along, for this architecture.
pub fn programs(version: u32, architecture: &str) -> Result<RelPath, BadPath> {
    RelPath::parse(format!("{POSTGRESQL}/{version}/{PROGRAMS}{architecture}").as_bytes())
}

/// The architecture that the programs at a path are for; `None` where none come along there.
pub fn programs_for(path: &RelPath) -> Option<&str> {
    version(path)?;
    std::str::from_utf8(path.file_name()).ok()?.strip_prefix(PROGRAMS)
}

/// The version of PostgreSQL that comes with a release of Debian.
pub fn version_in(suite: &str) -> Option<u32> {
    match suite {
        "bullseye" => Some(13),
        "bookworm" => Some(15),
        "trixie" => Some(17),
        _ => None,
    }
}

/// The major version of PostgreSQL that a cluster at this path has; `None` where it is none of PostgreSQL's.
pub fn version(path: &RelPath) -> Option<u32> {
    let parts: Vec<&[u8]> = path.components().collect();
    let [b"var", b"lib", b"postgresql", version, _] = parts.as_slice() else { return None };
    std::str::from_utf8(version).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_told_by_its_place() {
        let path = |text: &str| text.parse::<RelPath>().unwrap();
        assert_eq!(engine(&path("var/lib/mysql")), Some(Engine::Mysql));
        assert_eq!(engine(&path("var/lib/postgresql/15/main")), Some(Engine::Postgresql));
        assert_eq!(version(&path("var/lib/postgresql/15/main")), Some(15));
        let programs = programs(15, "amd64").unwrap();
        assert_eq!((engine(&programs), version(&programs)), (Some(Engine::Postgresql), Some(15)));
        assert_eq!(programs_for(&programs), Some("amd64"));
        assert_eq!(programs_for(&path("var/lib/postgresql/15/main")), None);
        assert_eq!(programs_for(&path("srv/x/programs-amd64")), None);
        for other in ["var/lib/mysql/wordpress", "var/lib/postgresql/15", "var/lib/postgresql/x/main", "var/lib/other"]
        {
            assert_eq!(engine(&path(other)), None, "{other}");
        }
    }
}
