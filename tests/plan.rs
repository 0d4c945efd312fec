//! Plans made from boxes and backups that were made by hand, compared with files as a user reads them.
//!
//! `SNAPSHOTS=overwrite cargo test --test plan` writes the files anew; the difference is what has to be read.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::scenes::*;
use lifeboat::model::archive::Generation;
use lifeboat::model::ending::Ending;
use lifeboat::model::finding::Verdict;
use lifeboat::model::plan::{Action, BlockerKind, RestorePlan, Road, VersionVerdict};
use lifeboat::model::site::{AREA, LiveKind};
use lifeboat::render::View;
use lifeboat::verify::RootKind::{Directory, File, Symlink};
use snapbox::assert_data_eq;
use std::path::Path;

/// Compares the text of a plan with `tests/plans/<name>.txt`. Lines fit a terminal and steps are numbered from 0.
fn reads_as(plan: &RestorePlan, name: &str) {
    let text = plan.text();
    let wide = text.lines().find(|line| line.chars().count() > 80 && line.trim().contains(' '));
    assert_eq!(wide, None, "{name}");
    let ids: Vec<u32> = plan.steps.iter().map(|step| step.id).collect();
    assert_eq!(ids, (0..u32::try_from(plan.steps.len()).unwrap()).collect::<Vec<_>>(), "{name}");
    assert_eq!(serde_json::from_str::<RestorePlan>(&serde_json::to_string(plan).unwrap()).unwrap(), *plan);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/plans/{name}.txt"));
    assert_data_eq!(text, snapbox::Data::read_from(&file, Some(snapbox::data::DataFormat::Text)).raw());
}

fn version_of(freedombox: &str, suite: &str, name: &str, archived: Option<i64>) -> VersionVerdict {
    let scene = Scene::new(freedombox, suite).archived(name, archived, &[]);
    scene.plan().apps[0].version.clone()
}

fn blockers(plan: &RestorePlan) -> Vec<BlockerKind> {
    plan.blockers.iter().map(|blocker| blocker.kind).collect()
}

#[test]
fn every_relation_of_versions_is_told_apart_and_a_target_that_is_too_old_gets_the_version_that_it_needs() {
    let scene = Scene::new("25.9.3", "trixie")
        .installed("tiddlywiki", 1)
        .installed("gitweb", 3)
        .installed("ejabberd", 9)
        .installed("quassel", 1)
        .with("tiddlywiki", 1, &["var/lib/tiddlywiki"])
        .with("gitweb", 2, &["var/lib/git"])
        .with("ejabberd", 10, &["var/lib/ejabberd"])
        .with("unheard-of", 1, &["var/lib/unheard-of"])
        .with("homeassistant", 2, &["var/lib/home-assistant-freedombox"])
        .with("i2p", 2, &["var/lib/i2p/i2p-config"])
        .with("email_server", 8, &["var/lib/rspamd", "var/lib/plinth/mailsrv"])
        .with("ikiwiki", 1, &["var/lib/ikiwiki"])
        .archived("searx", Some(6), &["etc/searx/allow_public_access"])
        .holds("etc/searx/allow_public_access", File, 1, 0)
        .archived("quassel", None, &["var/lib/quassel"])
        .holds("var/lib/quassel", Directory, 2, 2000)
        .archived("avahi", Some(1), &[]);
    let plan = scene.plan();
    reads_as(&plan, "versions");
    assert_ne!(plan.ending(), Ending::Done);
    let named = scene.clone().chosen(&["ejabberd", "tiddlywiki"]).plan();
    reads_as(&named, "too-old-by-name");
    assert_eq!(blockers(&named), [BlockerKind::Version]);
    let only = Scene::new("25.9.3", "trixie").installed("ejabberd", 9).with("ejabberd", 10, &["var/lib/ejabberd"]);
    assert_eq!(blockers(&only.plan()), [BlockerKind::Version], "all that there is needs a newer FreedomBox");
}

#[test]
fn between_two_known_releases_only_a_version_beyond_both_is_too_new() {
    let on = |freedombox, archived| version_of(freedombox, "trixie", "ejabberd", Some(archived));
    // Known: 23.6.2 has 6, 25.9.3 has 9, 26.14 has 10.
    assert_eq!(on("24.10", 5), VersionVerdict::WillBeUpgraded { from: 5, to: 6 });
    for within in 6..=9 {
        assert_eq!(on("24.10", within), VersionVerdict::Same, "{within}");
    }
    let needs = |version: &str| Some(version.to_owned());
    assert_eq!(on("24.10", 10), VersionVerdict::TargetTooOld { archive: 10, target: 6, needs: needs("26.14") });
    assert_eq!(on("25.9.3", 11), VersionVerdict::TargetTooOld { archive: 11, target: 9, needs: None });
    assert_eq!(on("27.1", 11), VersionVerdict::Same, "nothing is known of a later release");
    // Before all that is known: at most what the oldest known release has.
    assert_eq!(on("22.1", 6), VersionVerdict::Same);
    assert_eq!(on("22.1", 7), VersionVerdict::TargetTooOld { archive: 7, target: 6, needs: needs("25.9.3") });
    // What FreedomBox recorded narrows it.
    let scene = Scene::new("24.10", "trixie").installed("ejabberd", 8).archived("ejabberd", Some(7), &[]);
    assert_eq!(scene.plan().apps[0].version, VersionVerdict::WillBeUpgraded { from: 7, to: 8 });
}

#[test]
fn data_goes_where_the_boxs_freedombox_has_it() {
    let scene = Scene::new("26.14", "forky")
        .installed("radicale", 7)
        .installed("minetest", 3)
        .installed("mumble", 2)
        .installed("deluge", 9)
        .installed("tor", 8)
        .archived("radicale", Some(4), &["etc/radicale", "var/lib/radicale"])
        .archived("minetest", Some(2), &["var/games/minetest-server", "etc/minetest/minetest.conf"])
        .archived("mumble", Some(2), &["var/lib/mumble-server", "etc/mumble-server.ini"])
        .archived("deluge", Some(7), &["var/lib/deluged/.config"])
        .archived("tor", Some(6), &["etc/tor", "var/lib/tor", "var/lib/tor-instances"])
        .holds("etc/radicale", Directory, 2, 500)
        .holds("var/lib/radicale", Directory, 5, 5000)
        .holds("var/games/minetest-server", Directory, 7, 7000)
        .holds("var/games/minetest-server/.minetest", Directory, 6, 6000)
        .holds("etc/minetest/minetest.conf", File, 1, 300)
        .holds("var/lib/mumble-server", Directory, 1, 100)
        .holds("etc/mumble-server.ini", File, 1, 100)
        .holds("var/lib/deluged/.config", Directory, 3, 300)
        .holds("var/lib/deluged/.config/deluge", Directory, 3, 300)
        .holds("etc/tor", Directory, 4, 400)
        .holds("etc/tor/instances/plinth", Directory, 1, 100)
        .holds("var/lib/tor", Directory, 3, 300)
        .holds("var/lib/tor-instances", Directory, 2, 200)
        .holds("var/lib/tor-instances/plinth", Directory, 2, 200);
    let plan = scene.plan();
    reads_as(&plan, "moved-paths");
    let moves: Vec<(String, String)> =
        plan.steps.iter().map(|step| (step.source.to_string(), step.destination.to_string())).collect();
    for (from, to) in [
        ("var/lib/radicale", "var/lib/private/radicale"),
        ("var/games/minetest-server/.minetest", "var/lib/private/luanti/default"),
        ("etc/minetest/minetest.conf", "etc/luanti/default.conf"),
        ("etc/mumble-server.ini", "etc/mumble/mumble-server.ini"),
        ("var/lib/deluged/.config/deluge", "var/lib/deluged/config"),
        ("var/lib/tor-instances/plinth", "var/lib/tor-instances/plinth"),
    ] {
        assert!(moves.contains(&(from.into(), to.into())), "{from} -> {to}: {moves:?}");
    }
}

#[test]
fn data_goes_where_debians_server_reads_it_also_where_freedombox_looks_elsewhere_and_what_it_missed_is_said() {
    let scene = |freedombox, suite| {
        Scene::new(freedombox, suite)
            .installed("minetest", 2)
            .archived("minetest", Some(2), &["var/games/minetest-server", "etc/minetest/minetest.conf"])
            .holds("etc/minetest/minetest.conf", File, 1, 300)
    };
    let moves = |scene: Scene| -> Vec<(String, String)> {
        let with_worlds = scene.holds("var/games/minetest-server", Directory, 7, 7000).holds(
            "var/games/minetest-server/.minetest",
            Directory,
            6,
            6000,
        );
        let plan = with_worlds.plan();
        assert_eq!(plan.warnings, [] as [&str; 0]);
        plan.steps.iter().map(|step| (step.source.to_string(), step.destination.to_string())).collect()
    };
    let settings = "etc/minetest/minetest.conf".to_owned();
    let worlds = "var/games/minetest-server/.minetest".to_owned();
    let read =
        [(settings.clone(), "etc/luanti/default.conf".into()), (worlds, "var/lib/private/luanti/default".to_owned())];
    assert_eq!(moves(scene("25.9.3+deb13u1", "trixie")), read);
    let whole = "var/games/minetest-server".to_owned();
    assert_eq!(moves(scene("23.6.2", "bookworm")), [(settings.clone(), settings), (whole.clone(), whole)]);
    let plan = scene("26.14", "trixie").plan();
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
    assert!(plan.warnings[0].contains("nothing of \"/var/games/minetest-server\""), "{:?}", plan.warnings);
}

#[test]
fn configuration_of_another_debian_release_stays_out_and_mail_comes_back() {
    let scene = Scene::new("25.9.3", "trixie")
        .installed("email", 7)
        .archived("email", Some(2), &["etc/dovecot/conf.d", "etc/postfix", "var/mail", "etc/aliases"])
        .holds("etc/dovecot/conf.d", Directory, 10, 1000)
        .holds("etc/postfix", Directory, 10, 1000)
        .holds("var/mail", Directory, 2, 4 << 20)
        .holds("etc/aliases", File, 1, 80)
        .owned_by("var/mail", "alice");
    let mut scene = scene;
    scene.unknown_owners = ["alice".to_owned(), "nobody-else".to_owned()].into();
    let plan = scene.plan();
    reads_as(&plan, "other-release");
    assert_eq!(plan.ending(), Ending::Done, "what the box has its own of is not lost");
    assert_eq!(plan.unknown_owners.len(), 1);
}

#[test]
fn drop_ins_are_carried_and_left_overs_of_a_database_are_set_aside() {
    let dropin = "etc/letsencrypt/renewal-hooks/deploy/50-freedombox";
    let database = "var/lib/dbconfig-common/sqlite3/roundcube/roundcube";
    let scene = Scene::new("25.9.3", "trixie")
        .installed("letsencrypt", 4)
        .installed("roundcube", 4)
        .with("letsencrypt", 4, &["etc/letsencrypt"])
        .archived("roundcube", Some(4), &["etc/roundcube/freedombox-config.php", database])
        .holds(database, File, 1, 90_000)
        .site("etc/letsencrypt", |site| {
            site.live = Some(LiveKind::Directory);
            site.dropins = vec![path(dropin)];
        })
        .site(database, |site| {
            site.live = Some(LiveKind::Other);
            site.sidecars = vec![path(&format!("{database}-wal")), path(&format!("{database}-shm"))];
        })
        .changes("etc/letsencrypt", [3, 2, 6, 4])
        .changes(database, [0, 1, 0, 0]);
    let plan = scene.plan();
    reads_as(&plan, "carried");
    let actions: Vec<Action> = plan.steps.iter().map(|step| step.action).collect();
    assert_eq!(actions, [Action::Exchange, Action::Exchange, Action::SetAside, Action::SetAside]);
    assert_eq!(plan.steps[0].carried, [path(dropin)]);
    assert_eq!(plan.apps[1].changes.removed, 2, "what is set aside is counted");
}

#[test]
fn what_is_left_out_has_its_reason_and_is_a_loss_when_the_box_has_nothing_instead() {
    let scene = Scene::new("26.14", "forky")
        .installed("radicale", 7)
        .installed("sharing", 4)
        .installed("wordpress", 4)
        .installed("syncthing", 7)
        .installed("tor", 8)
        // A link where the data moved to, which is backed up beside it.
        .archived("radicale", Some(7), &["etc/radicale", "var/lib/private/radicale", "var/lib/radicale"])
        .holds("var/lib/private/radicale", Directory, 5, 5000)
        .holds("var/lib/radicale", Symlink, 0, 0)
        // Paths of others.
        .archived("sharing", Some(4), &["var/lib/git", "etc/ssh"])
        .holds("var/lib/git", Directory, 5, 5000)
        .holds("etc/ssh", Directory, 5, 5000)
        // A file within a directory that is named as well.
        .with("wordpress", 4, &["var/lib/wordpress", "etc/wordpress"])
        .holds("etc/wordpress/is_public", File, 1, 0)
        // A link to a place that no backup has.
        .archived("syncthing", Some(7), &["var/lib/syncthing/.config", "var/lib/syncthing/.local"])
        .holds("var/lib/syncthing/.config", Symlink, 0, 0)
        .holds("var/lib/syncthing/.local", Directory, 3, 3000)
        .archived("tor", Some(8), &["etc/tor/instances/plinth"]);
    let mut scene = scene;
    scene.summary.apps[2].paths.push(path("etc/wordpress/is_public"));
    let plan = scene.plan();
    reads_as(&plan, "left-out");
    assert_ne!(plan.ending(), Ending::Done);
    let named = scene.chosen(&["sharing"]).plan();
    assert_eq!(blockers(&named), [BlockerKind::Nothing]);
    assert!(named.blockers[0].what.contains("none of its data"), "{:?}", named.blockers);
}

#[test]
fn a_link_to_a_place_that_the_backup_names_but_has_nothing_of_is_a_loss() {
    let plan = Scene::new("26.14", "forky")
        .installed("radicale", 7)
        .archived("radicale", Some(7), &["etc/radicale", "var/lib/private/radicale", "var/lib/radicale"])
        .holds("etc/radicale", Directory, 2, 500)
        .holds("var/lib/radicale", Symlink, 0, 0)
        .plan();
    let lost: Vec<String> =
        plan.apps[0].left_out.iter().filter(|out| out.lost).map(|out| out.path.to_string()).collect();
    assert!(lost.contains(&"var/lib/radicale".into()), "{:?}", plan.apps[0].left_out);
    assert!(plan.warnings.iter().any(|what| what.contains("is only a link in the backup")), "{:?}", plan.warnings);
}

#[test]
fn two_apps_with_one_path_restore_it_once_and_the_other_one_takes_it_when_the_first_is_damaged() {
    let scene = Scene::new("26.14", "forky")
        .installed("email", 9)
        .installed("gitweb", 4)
        .with("email", 9, &["var/lib/rspamd", "var/mail"])
        .archived("email_server", Some(1), &["var/lib/rspamd"])
        .with("gitweb", 4, &["var/lib/git"]);
    let plan = scene.plan();
    assert_eq!(plan.steps.iter().filter(|step| step.destination == path("var/lib/rspamd")).count(), 1);
    assert_eq!(plan.apps[1].left_out[0].reason, "it is restored with 'email'");
    assert_eq!(plan.ending(), Ending::Done);
    let plan = scene.verdict("email", Verdict::Damaged).plan();
    assert_eq!((plan.apps[0].road, plan.apps[1].road), (Road::Blocked, Road::InPlace));
    reads_as(&plan, "shared-and-damaged");
}

#[test]
fn an_app_waits_for_the_next_boot_when_files_alone_do_not_make_it_work() {
    let dump = "var/lib/plinth/backups-data/nextcloud-database.sql";
    let settings = "var/lib/plinth/backups-data/dynamicdns-settings.json";
    let scene = Scene::new("25.9.3", "trixie")
        .installed("nextcloud", 2)
        .installed("ikiwiki", 2)
        .installed("dynamicdns", 2)
        .with("letsencrypt", 4, &["etc/letsencrypt"])
        .with("nextcloud", 2, &["var/lib/nextcloud"])
        .with("calibre", 3, &["var/lib/private/calibre-server-freedombox"])
        .with("featherwiki", 1, &["var/lib/featherwiki"])
        .with("ikiwiki", 2, &["var/lib/ikiwiki"])
        .archived("dynamicdns", Some(2), &["etc/ez-ipupdate", settings])
        .holds(dump, File, 1, 1 << 20)
        .holds(settings, File, 1, 200);
    let mut scene = scene;
    scene.summary.apps[1].paths.push(path(dump));
    let mut packages = scene.installation.packages.clone();
    packages.extend(["certbot".to_owned(), "openssl".to_owned()]);
    scene.installation.packages = packages;
    let plan = scene.plan();
    reads_as(&plan, "roads");
    let roads: Vec<Road> = plan.apps.iter().map(|app| app.road).collect();
    use Road::{InPlace, Parked};
    assert_eq!(roads, [Parked, Parked, Parked, Parked, InPlace, Parked]);
}

#[test]
fn what_a_user_would_not_expect_at_a_place_is_said() {
    let base = || Scene::new("25.9.3", "trixie").installed("gitweb", 3).with("gitweb", 3, &["var/lib/git"]);
    let warned = |scene: Scene, text: &str| {
        let plan = scene.plan();
        assert!(plan.warnings.iter().any(|warning| warning.contains(text)), "{text}: {:?}", plan.warnings);
    };
    warned(base().site("var/lib/git", |site| site.live = Some(LiveKind::Link)), "is a link on the box");
    warned(base().site("var/lib/git", |site| site.live = Some(LiveKind::Other)), "is a file on the box");
    let mut empty = base().site("var/lib/git", |site| site.live = Some(LiveKind::Directory));
    empty = empty.changes("var/lib/git", [0, 0, 1, 42]);
    empty.contents.roots[0].entries = 1;
    warned(empty, "is empty in the backup; 42 entries on the box are moved away");
    assert!(base().plan().warnings.is_empty());
    let refused = base()
        .installed("tiddlywiki", 1)
        .with("tiddlywiki", 1, &["var/lib/tiddlywiki"])
        .site("var/lib/git", |site| site.refusal = Some("\"var/lib/git\" is a mounted filesystem".into()));
    let plan = refused.plan();
    assert_eq!(
        (plan.apps[0].road, plan.apps[1].road, plan.ending()),
        (Road::Blocked, Road::InPlace, Ending::DoneWithLosses)
    );
    assert_eq!(blockers(&refused.chosen(&["gitweb"]).plan()), [BlockerKind::Target]);
}

#[test]
fn damage_stops_what_was_asked_for_and_lets_the_rest_through() {
    let scene = Scene::new("25.9.3", "trixie")
        .installed("gitweb", 3)
        .installed("tiddlywiki", 1)
        .with("gitweb", 3, &["var/lib/git"])
        .with("tiddlywiki", 1, &["var/lib/tiddlywiki"])
        .archived("avahi", Some(1), &[]);
    let one = scene.clone().verdict("gitweb", Verdict::Damaged);
    let plan = one.plan();
    reads_as(&plan, "damaged-one");
    assert!(plan.blockers.is_empty() && plan.steps.iter().all(|step| step.app == app("tiddlywiki")));
    assert_ne!(plan.ending(), Ending::Done);
    let named = one.clone().chosen(&["gitweb", "tiddlywiki"]).plan();
    reads_as(&named, "damaged-by-name");
    assert_eq!(blockers(&named), [BlockerKind::Damaged]);
    let mut accepted = one.clone().chosen(&["gitweb", "tiddlywiki"]);
    accepted.accept_damage = true;
    let accepted = accepted.plan();
    assert!(accepted.blockers.is_empty() && accepted.steps.len() == 2 && accepted.ending() == Ending::Partial);
    let all = one.verdict("tiddlywiki", Verdict::Damaged).plan();
    assert_eq!(blockers(&all), [BlockerKind::Damaged, BlockerKind::Damaged]);

    // One app's missing dump does not spoil the others of an archive without checksums; a cut archive does.
    let unproven = |scene: Scene| {
        let scene = scene.verdict("tiddlywiki", Verdict::NotVerifiable).verdict("avahi", Verdict::NotVerifiable);
        scene.verdict("gitweb", Verdict::Damaged).plan()
    };
    let plan = unproven(scene.clone());
    assert!(plan.blockers.is_empty() && plan.steps.len() == 1);
    assert!(plan.warnings.iter().any(|warning| warning.contains("no checksum")), "{:?}", plan.warnings);
    let plan = unproven(scene.clone().cut());
    reads_as(&plan, "cut");
    assert_eq!(blockers(&plan), [BlockerKind::Damaged, BlockerKind::Damaged], "not for an app without data");
}

#[test]
fn an_archive_that_names_no_apps_says_why() {
    let mut scene = Scene::new("25.9.3", "trixie");
    scene.summary.generation = Generation::None;
    reads_as(&scene.plan(), "no-manifest");
    assert_eq!(blockers(&scene.plan()), [BlockerKind::Nothing]);
    let hidden = scene.cut();
    reads_as(&hidden.plan(), "hidden-manifest");
    assert_eq!(blockers(&hidden.clone().chosen(&["gitweb"]).plan()), [BlockerKind::Damaged]);
    let nothing = Scene::new("25.9.3", "trixie").archived("avahi", Some(1), &[]).plan();
    assert_eq!(blockers(&nothing), [BlockerKind::Nothing]);
    let absent = Scene::new("25.9.3", "trixie").chosen(&["gitweb"]).plan();
    assert!(absent.blockers[0].what.contains("does not hold the app 'gitweb'"));
}

#[test]
fn a_box_that_cannot_be_finished_or_is_not_finished_is_refused() {
    let mut scene = Scene::new("25.9.3", "trixie").installed("gitweb", 3).with("gitweb", 3, &["var/lib/git"]);
    let id = scene.plan().id;
    scene.unfinished = Some(id.clone());
    assert_eq!((scene.plan().id, blockers(&scene.plan())), (id, vec![]), "the same plan is taken up again");
    scene.unfinished = Some("0123456789abcdef".parse().unwrap());
    assert_eq!(blockers(&scene.plan()), [BlockerKind::Unfinished]);
    scene.can_finish = false;
    reads_as(&scene.plan(), "refused");
    assert_eq!(blockers(&scene.plan()), [BlockerKind::Unfinished, BlockerKind::Target]);
}

#[test]
fn where_room_is_short_the_smallest_app_whose_absence_is_enough_is_proposed_to_be_left_out() {
    let mut scene = Scene::new("25.9.3", "trixie");
    for (name, version, at, gib) in [
        ("gitweb", 3, "var/lib/git", 20),
        ("radicale", 4, "var/lib/radicale", 1),
        ("tiddlywiki", 1, "var/lib/tiddlywiki", 5),
    ] {
        scene = scene.installed(name, version).archived(name, Some(version), &[at]).holds(at, Directory, 10, gib << 30);
    }
    let blocker = &scene.clone().free(AREA, 24 << 30, None).plan().blockers[0];
    assert_eq!(blocker.fitting, Some(vec![app("radicale"), app("gitweb")]), "{}", blocker.advice);
    let blocker = &scene.free(AREA, 8 << 30, None).plan().blockers[0];
    assert_eq!(blocker.fitting, Some(vec![app("radicale"), app("tiddlywiki")]), "{}", blocker.advice);
}

#[test]
fn folders_that_do_not_fit_are_proposed_to_be_left_out_and_one_without_a_place_is_named() {
    let scene = Scene::new("25.9.3", "trixie").installed("radicale", 4).with("radicale", 4, &["var/lib/radicale"]);
    let scene = scene.archived("folders", None, &["home/zoe", "srv/music"]);
    let scene = scene.holds("home/zoe", Directory, 10, 40 << 30).holds("srv/music", Directory, 1, 9);
    let scene = scene.site("home/zoe", |_| {}).changes("home/zoe", [8, 1, 2, 5]);
    let scene = scene.site("srv/music", |site| site.refusal = Some("\"srv\" is a link".into()));
    let plan = scene.plan();
    let folders = plan.apps.iter().find(|app| app.is_folders()).unwrap();
    assert_eq!((folders.road, folders.bytes.0), (Road::Parked, 40 << 30));
    // Nothing of the box goes.
    let told = folders.changes;
    assert_eq!([told.new, told.changed, told.same, told.removed], [8, 1, 2, 0]);
    let left: Vec<_> = folders.left_out.iter().map(|left| (left.path.to_string(), left.lost)).collect();
    assert_eq!(left, [("srv/music".to_owned(), true)]);
    let merged: Vec<_> = plan.steps.iter().filter(|step| step.action == Action::Merge).collect();
    assert_eq!((merged.len(), &merged[0].destination), (1, &path("home/zoe")));
    assert!(plan.blockers.is_empty(), "{:?}", plan.blockers);
    let tight = scene.free(AREA, 1 << 30, None).plan();
    let blocker = &tight.blockers[0];
    assert_eq!(blocker.advice, "make room on the box, or leave 'folders' out of '--extras'");
    assert_eq!(blocker.fitting, Some(vec![app("radicale")]));
}
