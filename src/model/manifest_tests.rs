//! Real cases: FreedomBox versions and paths as their sources and the releases have them.

use super::*;

const ALL_RELEASES: [&str; 3] = ["23.6.2", "25.9.3", "26.14"];

fn app(id: &str) -> &'static Manifest {
    find(&id.parse().unwrap()).unwrap()
}

fn path(text: &str) -> RelPath {
    text.parse().unwrap()
}

fn at(version: &str) -> Version {
    Version::new(version)
}

/// `destinations` as text: `source -> destination`.
fn goes(id: &str, source: &str, version: &str) -> Vec<String> {
    let pairs = app(id).destinations(&path(source), &at(version));
    pairs.iter().map(|(from, to)| format!("{from} -> {to}")).collect()
}

fn placed(id: &str, sources: &[&str], version: &str) -> Vec<String> {
    let sources: Vec<RelPath> = sources.iter().map(|source| path(source)).collect();
    let pairs = app(id).placements(&sources, &at(version));
    pairs.iter().map(|(from, to)| format!("{from} -> {to}")).collect()
}

#[test]
fn every_embedded_manifest_parses_and_has_its_own_id() {
    for text in EMBEDDED {
        serde_json::from_str::<Manifest>(text).unwrap();
    }
    assert_eq!(all().len(), EMBEDDED.len());
    assert!(all().is_sorted_by(|a, b| a.id < b.id), "two manifests of one app");
}

#[test]
fn apps_with_data_are_as_many_as_each_release_has() {
    for (version, apps, components, with_data) in
        [("23.6.2", 62, 52, 39), ("25.9.3", 70, 60, 47), ("26.14", 70, 60, 47)]
    {
        let there = all().iter().filter(|app| app.exists_at(&at(version)));
        assert_eq!(there.count(), apps, "apps of {version}");
        let backups: Vec<_> = all().iter().filter_map(|app| app.paths_at(&at(version))).collect();
        assert_eq!(backups.len(), components, "apps with a backup component in {version}");
        let data = backups.iter().filter(|backup| backup.paths().next().is_some()).count();
        assert_eq!(data, with_data, "apps with data in {version}");
        let essential = all().iter().filter(|app| app.exists_at(&at(version)) && app.is_essential_at(&at(version)));
        assert_eq!(essential.count(), 24, "essential apps of {version}");
    }
}

#[test]
fn a_range_is_found_for_security_updates_backports_and_versions_of_tomorrow() {
    let mumble = app("mumble");
    for (version, config) in [
        ("22.14.1", "etc/mumble-server.ini"),
        ("23.6.2+deb12u1", "etc/mumble-server.ini"),
        ("25.9.3+deb13u1", "etc/mumble-server.ini"),
        ("26.4~bpo13+1", "etc/mumble/mumble-server.ini"),
        ("26.15~bpo13+1", "etc/mumble/mumble-server.ini"),
        ("31.1", "etc/mumble/mumble-server.ini"),
    ] {
        assert_eq!(mumble.paths_at(&at(version)).unwrap().files[0].path, path(config), "{version}");
    }
    assert!(mumble.paths_at(&at("20.8")).unwrap().services.is_empty());
    assert_eq!(mumble.paths_at(&at("0.30")), None);
    // No version was published between 22.24 and 22.26; a range holds up to the next one.
    assert!(!app("ssh").paths_at(&at("22.25")).unwrap().holds(&path("etc/ssh/sshd_config.d/freedombox.conf")));
}

#[test]
fn a_removed_app_is_known_but_has_no_place() {
    let ttrss = app("ttrss");
    assert!(ttrss.exists_at(&at("25.14")) && !ttrss.exists_at(&at("25.15")));
    assert_eq!(ttrss.paths_at(&at("26.14")), None);
    assert!(goes("ttrss", "etc/tt-rss/database.php", "26.14").is_empty());
    assert_eq!(goes("ttrss", "etc/tt-rss/database.php", "25.9.3").len(), 1);
    assert!(ttrss.ever_had(&path("etc/tt-rss/database.php")));
    assert_eq!(ttrss.missing_packages("trixie"), ["tt-rss"]);
    for id in ["coquelicot", "i2p", "mldonkey", "monkeysphere", "repro", "tahoe"] {
        assert!(!app(id).exists_at(&at("26.14")), "{id}");
    }
    assert!(find(&"nosuchapp".parse().unwrap()).is_none());
}

#[test]
fn a_renamed_app_goes_on_in_its_successor() {
    let old: AppId = "email_server".parse().unwrap();
    assert_eq!(successor(&old).unwrap().as_str(), "email");
    assert_eq!(successor(&"email".parse().unwrap()), None);
    assert!(app("email").ever_had(&path("var/lib/plinth/mailsrv/aliases")));
    for id in ["email_server", "email"] {
        assert_eq!(goes(id, "etc/dovecot", "25.9.3"), ["etc/dovecot/conf.d -> etc/dovecot/conf.d"]);
        assert_eq!(goes(id, "var/lib/rspamd", "25.9.3"), ["var/lib/rspamd -> var/lib/rspamd"]);
        assert!(goes(id, "var/lib/plinth/mailsrv", "25.9.3").is_empty());
        assert!(app(id).is_config_of_release(&path("etc/postfix/main.cf")));
        assert!(!app(id).is_config_of_release(&path("var/mail/anna")));
    }
}

#[test]
fn data_follows_the_moves_of_its_app_and_only_from_the_version_that_moved_it() {
    assert_eq!(
        goes("minetest", "var/games/minetest-server", "26.14"),
        ["var/games/minetest-server/.minetest -> var/lib/private/luanti/default"]
    );
    assert_eq!(
        goes("minetest", "etc/minetest/minetest.conf", "26.14"),
        ["etc/minetest/minetest.conf -> etc/luanti/default.conf"]
    );
    assert_eq!(
        goes("minetest", "etc/minetest/minetest.conf", "25.9.3"),
        ["etc/minetest/minetest.conf -> etc/minetest/minetest.conf"]
    );
    // Debian 13 reads neither where FreedomBox 25.9.3 looks for them.
    for (id, on_bookworm, on_trixie) in [("minetest", "25.9.3", "25.17.1"), ("mumble", "25.9.3", "26.4")] {
        assert_eq!(app(id).version_of_paths(&at("25.9.3+deb13u1"), "bookworm"), at("25.9.3+deb13u1"), "{id}");
        assert_eq!(app(id).version_of_paths(&at(on_bookworm), ""), at(on_bookworm), "{id}");
        assert_eq!(app(id).version_of_paths(&at("25.9.3+deb13u1"), "trixie"), at(on_trixie), "{id}");
        assert_eq!(app(id).version_of_paths(&at("26.14~bpo13+1"), "trixie"), at("26.14~bpo13+1"), "{id}");
    }
    assert_eq!(
        goes("mumble", "etc/mumble-server.ini", "26.14"),
        ["etc/mumble-server.ini -> etc/mumble/mumble-server.ini"]
    );
    assert_eq!(
        goes("deluge", "var/lib/deluged/.config", "25.9.3"),
        ["var/lib/deluged/.config/deluge -> var/lib/deluged/config"]
    );
    assert_eq!(
        goes("deluge", "var/lib/deluged/.config/deluge/core.conf", "25.9.3"),
        ["var/lib/deluged/.config/deluge/core.conf -> var/lib/deluged/config/core.conf"]
    );
    assert_eq!(
        goes("deluge", "var/lib/deluged/.config", "23.6.2"),
        ["var/lib/deluged/.config -> var/lib/deluged/.config"]
    );
    assert_eq!(goes("calibre", "var/lib/private/calibre-server-freedombox", "26.14").len(), 1);
    assert!(goes("datetime", "etc/timezone", "26.14").is_empty());
    assert!(goes("security", "etc/security/access.conf", "26.14").is_empty());
}

#[test]
fn a_directory_that_became_narrower_gives_only_what_is_still_the_apps() {
    assert_eq!(goes("tor", "etc/tor", "25.9.3"), ["etc/tor/instances/plinth -> etc/tor/instances/plinth"]);
    assert_eq!(
        goes("tor", "var/lib/tor-instances", "25.9.3"),
        ["var/lib/tor-instances/plinth -> var/lib/tor-instances/plinth"]
    );
    assert!(goes("tor", "var/lib/tor", "25.9.3").is_empty());
    assert_eq!(goes("tor", "etc/tor", "23.6.2"), ["etc/tor -> etc/tor"]);
}

#[test]
fn a_directory_that_became_a_link_is_followed_and_never_put_in_the_links_place() {
    let moved = ["var/lib/radicale -> var/lib/private/radicale"];
    assert_eq!(goes("radicale", "var/lib/radicale", "26.14"), moved);
    assert_eq!(placed("radicale", &["var/lib/radicale"], "26.14"), moved);
    assert_eq!(goes("radicale", "var/lib/radicale", "25.9.3"), ["var/lib/radicale -> var/lib/radicale"]);
    assert_eq!(
        placed("radicale", &["etc/radicale", "var/lib/private/radicale", "var/lib/radicale"], "26.14"),
        [
            "etc/radicale -> etc/radicale",
            // Where both are there, the service does not start with the other one.
            "var/lib/private/radicale -> var/lib/private/radicale",
        ]
    );
    assert!(goes("radicale", "var/lib/private/radicale", "25.9.3").is_empty());
}

#[test]
fn no_two_paths_of_an_archive_go_onto_one_place() {
    assert_eq!(
        placed("deluge", &["var/lib/deluged/.config", "var/lib/deluged/config"], "25.9.3"),
        ["var/lib/deluged/config -> var/lib/deluged/config"]
    );
    assert_eq!(
        placed("wordpress", &["etc/wordpress", "etc/wordpress/is_public"], "25.9.3"),
        ["etc/wordpress -> etc/wordpress"]
    );
    for app in all() {
        for version in ALL_RELEASES {
            let every: BTreeSet<RelPath> = app.backups.iter().flat_map(Backup::paths).cloned().collect();
            let every: Vec<RelPath> = every.into_iter().collect();
            let placed = app.placements(&every, &at(version));
            for (i, (from, to)) in placed.iter().enumerate() {
                let today = app.today();
                assert!(
                    today.paths_at(&at(version)).unwrap().holds(to) || today.imported_here.contains(to),
                    "{}: {to} is not allowed in {version}",
                    app.id
                );
                assert!(app.ever_had(from));
                let others = placed.iter().enumerate().filter(|(j, _)| *j != i);
                for (_, (other_from, other_to)) in others {
                    assert!(!from.is_within(other_from) && !to.is_within(other_to), "{}: {from}, {to}", app.id);
                }
            }
        }
    }
}

#[test]
fn todays_data_goes_where_it_was() {
    for app in all() {
        for version in ALL_RELEASES {
            for source in app.paths_at(&at(version)).iter().flat_map(|backup| backup.paths()) {
                let places = app.destinations(source, &at(version));
                let followed = app.renames.iter().any(|rename| rename.from == *source);
                assert!(followed || places == [(source.clone(), source.clone())], "{}: {source}", app.id);
            }
        }
    }
}

#[test]
fn containment_is_by_component_and_over_all_versions() {
    let gitweb = app("gitweb");
    assert!(gitweb.ever_had(&path("var/lib/git/a.git/HEAD")));
    assert!(!gitweb.ever_had(&path("var/lib/github")));
    assert!(!gitweb.ever_had(&path("var/lib")));
    assert!(app("minetest").ever_had(&path("var/games/minetest-server/.minetest/worlds")));
    assert!(!app("calibre").ever_had(&path("etc/shadow")));
}

#[test]
fn roots_are_sorted_distinct_and_cover_all_that_moves() {
    assert!(roots().is_sorted_by(|a, b| a < b));
    for expected in ["etc/tor", "etc/tor/instances/plinth", "var/games/minetest-server/.minetest", "etc/localtime"] {
        assert!(roots().contains(&path(expected)), "{expected}");
    }
    for app in all() {
        for (version, backup) in ALL_RELEASES.iter().flat_map(|v| app.backups.iter().map(move |b| (v, b))) {
            for (from, _) in backup.paths().flat_map(|source| app.destinations(source, &at(version))) {
                assert!(roots().contains(&from), "{from}");
            }
        }
    }
}

#[test]
fn files_of_freedombox_itself_are_dropins() {
    for dropin in [
        "etc/wordpress/freedombox-static.php",
        "etc/dovecot/conf.d/15-freedombox-mail.conf",
        "etc/postfix/freedombox-aliases.cf",
        "etc/rspamd/local.d/freedombox-redis.conf",
        "etc/letsencrypt/renewal-hooks/deploy/50-freedombox",
        "etc/gitweb-freedombox.conf",
        "etc/pagekite.d/90_freedombox_certs.rc",
    ] {
        assert!(is_dropin(&path(dropin)), "{dropin}");
    }
    for own in [
        "etc/wordpress/is_public",
        "etc/mediawiki/FreedomBoxSettings.php",
        "etc/wordpress",
        "etc/bepasty-freedombox.conf",
    ] {
        assert!(!is_dropin(&path(own)), "{own}");
    }
}

#[test]
fn app_versions_come_from_the_nearest_release_that_is_not_newer() {
    let calibre = app("calibre");
    for (freedombox, version) in [("22.1", 2), ("23.6.2+deb12u1", 2), ("24.1", 2), ("25.9.3", 3), ("26.15~bpo13+1", 3)]
    {
        assert_eq!(calibre.app_version_at(&at(freedombox)), Some(version), "{freedombox}");
    }
    assert_eq!(calibre.freedombox_with_app_version(3).unwrap().as_str(), "25.9.3");
    assert_eq!(calibre.freedombox_with_app_version(1).unwrap().as_str(), "23.6.2");
    assert_eq!(calibre.freedombox_with_app_version(4), None);
    assert_eq!(app("tahoe").app_version_at(&at("26.14")), None);
}

#[test]
fn packages_that_a_debian_release_lacks_are_named() {
    assert_eq!(app("matrixsynapse").missing_packages("trixie"), ["matrix-synapse"]);
    assert_eq!(app("i2p").missing_packages("bookworm"), ["i2p"]);
    assert_eq!(app("calibre").missing_packages("bookworm"), [] as [&str; 0]);
    let gone = |suite| -> Vec<&str> {
        all().iter().filter(|app| !app.missing_packages(suite).is_empty()).map(|app| app.id.as_str()).collect()
    };
    assert_eq!(gone("bookworm"), ["i2p", "matrixsynapse"]);
    assert_eq!(gone("trixie"), ["janus", "matrixsynapse", "searx", "ttrss"]);
    assert_eq!(app("calibre").packages_at(&at("23.6.2")), ["calibre"]);
}

#[test]
fn a_dump_that_freedombox_imports_no_more_has_a_place_where_lifeboat_imports_it() {
    let dump = "var/lib/plinth/backups-data/samba-shares-dump.conf";
    for version in ["23.6.2", "25.9.3", "26.14"] {
        assert_eq!(placed("samba", &[dump], version), [format!("{dump} -> {dump}")], "{version}");
    }
}

#[test]
fn what_an_app_needs_around_a_restore_is_known() {
    let now = at("26.14");
    assert_eq!(app("wordpress").hooks_at(&now), [Hook::BackupPre, Hook::RestorePost]);
    assert_eq!(app("samba").hooks_at(&at("23.6.2")), [Hook::BackupPre, Hook::RestorePost]);
    assert_eq!(app("samba").hooks_at(&now), []);
    let database = app("miniflux").database.as_ref().unwrap();
    assert_eq!(database.engine, Engine::Postgresql);
    assert!(app("miniflux").paths_at(&now).unwrap().holds(&database.dump));
    assert_eq!(all().iter().filter(|app| app.database.is_some()).count(), 6);
    let dynamicdns = app("dynamicdns");
    assert_eq!(dynamicdns.settings_at(&now), ["dynamicdns_enable", "dynamicdns_config", "dynamicdns_status"]);
    assert!(dynamicdns.paths_at(&now).unwrap().holds(dynamicdns.settings_file.as_ref().unwrap()));
    assert_eq!(dynamicdns.settings_at(&at("22.4")), [] as [&str; 0]);
    assert_eq!(
        app("sharing").services_at(&now),
        [Service { kind: ServiceKind::ApacheConfig, name: "sharing-freedombox".into() }]
    );
    assert_eq!(app("minetest").services_at(&now)[0].name, "luanti-server");
    assert_eq!(app("calibre").daemons_at(&now), ["calibre-server-freedombox"]);
    assert_eq!(app("tor").users_at(&now).map(|user| user.name.as_str()).collect::<Vec<_>>(), ["_tor-plinth"]);
    assert_eq!(app("bepasty").users_at(&at("25.9.3")).count(), 1);
    assert_eq!(app("bepasty").users_at(&now).count(), 0);
    assert!(app("minetest").is_of_dynamic_user(&path("var/lib/private/luanti/default/worlds")));
    assert_eq!(app("shadowsocks").dynamic_user, [path("var/lib/private/shadowsocks-libev/freedombox")]);
    let calibre = app("calibre");
    assert!(calibre.paths_at(&at("23.6.2")).unwrap().delete_before_restore.is_empty());
    assert_eq!(calibre.paths_at(&now).unwrap().delete_before_restore, calibre.dynamic_user);
}

#[test]
fn a_manifest_with_a_foreign_field_or_a_relative_path_is_refused() {
    let good = EMBEDDED.iter().find(|text| text.contains("\"id\": \"calibre\"")).unwrap();
    assert!(serde_json::from_str::<Manifest>(good).is_ok());
    for (old, new) in [
        ("\"id\"", "\"more\": 1, \"id\""),
        ("\"/var/lib/private/calibre-server-freedombox\"", "\"var/lib/private/calibre-server-freedombox\""),
        ("\"/var/lib/private/calibre-server-freedombox\"", "\"/var/lib/../calibre-server-freedombox\""),
        ("\"/var/lib/private/calibre-server-freedombox\"", "\"/var/lib/private/\""),
    ] {
        assert!(good.contains(old));
        assert!(serde_json::from_str::<Manifest>(&good.replace(old, new)).is_err(), "{new}");
    }
}
