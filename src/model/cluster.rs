//! Clusters: the folders in which database servers keep everything they hold.
//!
//! Source: Debian, postgresql-common (`/var/lib/postgresql/<version>/<cluster>`) and mariadb-server (`/var/lib/mysql`).

use super::manifest::Engine;
use super::path::RelPath;

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
        for other in ["var/lib/mysql/wordpress", "var/lib/postgresql/15", "var/lib/postgresql/x/main", "var/lib/other"]
        {
            assert_eq!(engine(&path(other)), None, "{other}");
        }
    }
}
