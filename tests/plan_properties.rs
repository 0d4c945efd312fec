//! What holds for every plan: its id, its room, its steps.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod common;

use common::scenes::*;
use lifeboat::model::plan::{BlockerKind, RestorePlan};
use lifeboat::model::size::ByteSize;
use lifeboat::plan::id_of;
use lifeboat::verify::RootKind::Directory;
use proptest::prelude::*;

/// Apps with one directory of their own, and where that lies.
const APPS: [(&str, i64, &str); 6] = [
    ("gitweb", 3, "var/lib/git"),
    ("tiddlywiki", 1, "var/lib/tiddlywiki"),
    ("featherwiki", 1, "var/lib/featherwiki"),
    ("quassel", 1, "var/lib/quassel"),
    ("infinoted", 3, "var/lib/infinoted"),
    ("openvpn", 5, "etc/openvpn"),
];

/// A box with those apps installed, and an archive with that many files and bytes in each. `openvpn` lies on another
/// filesystem.
fn scene(sizes: &[(u64, u64)]) -> Scene {
    let apps = APPS.iter().zip(sizes);
    let scene = Scene::new("25.9.3", "trixie").free("etc/.lifeboat", 64 << 30, Some(1 << 30));
    let scene = scene.site("etc/openvpn", |site| site.area = path("etc/.lifeboat"));
    apps.fold(scene, |scene, ((name, version, at), (files, bytes))| {
        let scene = scene.installed(name, *version).archived(name, Some(*version), &[at]);
        scene.holds(at, Directory, *files, *bytes)
    })
}

fn space_blockers(plan: &RestorePlan) -> usize {
    plan.blockers.iter().filter(|blocker| blocker.kind == BlockerKind::Space).count()
}

/// What follows `--apps` in the advice.
fn proposed(plan: &RestorePlan) -> Option<Vec<String>> {
    let blocker = plan.blockers.iter().find(|blocker| blocker.kind == BlockerKind::Space)?;
    let (_, apps) = blocker.advice.split_once("--apps ")?;
    Some(apps.split(',').map(str::to_owned).collect())
}

fn sizes() -> impl Strategy<Value = Vec<(u64, u64)>> {
    proptest::collection::vec((0u64..5000, 0u64..(1 << 32)), APPS.len())
}

#[test]
fn one_byte_or_one_inode_too_little_is_refused_and_exactly_enough_is_not() {
    let scene = scene(&[(10, 1 << 20), (20, 2 << 20), (30, 3 << 20), (40, 4 << 20), (1, 1), (7, 7 << 20)]);
    for (at, area) in ["etc/.lifeboat", "var/lib/lifeboat"].into_iter().enumerate() {
        let need = scene.plan().space[at].clone();
        let with = |bytes: u64, inodes: u64| space_blockers(&scene.clone().free(area, bytes, Some(inodes)).plan());
        assert_eq!(with(need.needed.0, need.inodes), 0, "{area}");
        assert_eq!(with(need.needed.0 - 1, need.inodes), 1, "{area}");
        assert_eq!(with(need.needed.0, need.inodes - 1), 1, "{area}");
    }
    let both = scene.clone().free("etc/.lifeboat", 1 << 20, None).free("var/lib/lifeboat", 2 << 20, None).plan();
    assert_eq!(space_blockers(&both), 2);
}

#[test]
fn subvolumes_of_one_filesystem_do_not_each_count_its_room() {
    let scene = scene(&[(1, 50 << 20), (1, 50 << 20), (0, 0), (0, 0), (0, 0), (1, 100 << 20)]);
    let room = 180 << 20;
    let one = scene.clone().free("etc/.lifeboat", room, None).free("var/lib/lifeboat", room, None).plan();
    assert_eq!(space_blockers(&one), 1, "{:?}", one.space);
    let two = scene.free("etc/.lifeboat", room, None).free("var/lib/lifeboat", room + 1, None).plan();
    assert_eq!(space_blockers(&two), 0, "{:?}", two.space);
}

#[test]
fn without_room_for_any_app_nothing_is_proposed() {
    let plan = scene(&[(10, 1 << 20); 6]).free("var/lib/lifeboat", 0, None).free("etc/.lifeboat", 1, None).plan();
    assert_eq!((space_blockers(&plan), proposed(&plan)), (2, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_proposed_fits(sizes in sizes(), room in 0u64..(1 << 34), other in 0u64..(1 << 33), inodes in 0u64..30_000) {
        let scene = scene(&sizes).free("var/lib/lifeboat", room, Some(inodes)).free("etc/.lifeboat", other, None);
        let plan = scene.plan();
        if let Some(apps) = proposed(&plan) {
            let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
            prop_assert!(apps.len() < APPS.len());
            let fewer = scene.clone().chosen(&apps).plan();
            prop_assert!(fewer.blockers.is_empty(), "{:?}", fewer.blockers);
            prop_assert_eq!(fewer.apps.len(), apps.len());
        }
        // Where nothing is proposed, no single app fits alone either.
        if space_blockers(&plan) > 0 && proposed(&plan).is_none() {
            for (name, ..) in APPS {
                prop_assert!(space_blockers(&scene.clone().chosen(&[name]).plan()) > 0, "{name}");
            }
        }
    }

    #[test]
    fn the_id_depends_on_everything_but_the_free_room(sizes in sizes(), room in 0u64..(1 << 40), at in 0usize..6) {
        let scene = scene(&sizes);
        let plan = scene.plan();
        prop_assert_eq!(&scene.plan(), &plan);
        prop_assert_eq!(&id_of(&plan), &plan.id);
        let mut shuffled = scene.clone();
        shuffled.contents.roots.reverse();
        prop_assert_eq!(&shuffled.plan().id, &plan.id);
        prop_assert_eq!(&scene.clone().free("var/lib/lifeboat", room, Some(room)).plan().id, &plan.id);

        let (name, version, directory) = APPS[at];
        let mut others: Vec<Scene> = (0..9).map(|_| scene.clone()).collect();
        others[0].contents.roots[at].bytes = ByteSize(sizes[at].1 + 1);
        others[1].contents.roots[at].digest = Default::default();
        others[2].installation.hostname = "another".into();
        others[3].summary.id = "another.tar.gz".parse().unwrap();
        others[4].summary.apps[at].version = Some(version - 1);
        others[5].installation.packages.clear();
        others[6].summary.time = None;
        others[7] = scene.clone().changes(directory, [1, 2, 3, 4]);
        others[8] = scene.clone().chosen(&[name]);
        let mut ids: Vec<String> = others.iter().map(|scene| scene.plan().id.to_string()).collect();
        ids.push(plan.id.to_string());
        let count = ids.len();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), count);
    }

    #[test]
    fn steps_are_numbered_and_a_plan_survives_being_saved(sizes in sizes(), damaged in proptest::collection::vec(any::<bool>(), 6)) {
        let mut scene = scene(&sizes);
        for (line, is_damaged) in scene.report.apps.iter_mut().zip(&damaged) {
            if *is_damaged {
                line.verdict = lifeboat::model::finding::Verdict::Damaged;
            }
        }
        let plan = scene.plan();
        let ids: Vec<u32> = plan.steps.iter().map(|step| step.id).collect();
        prop_assert_eq!(ids, (0..u32::try_from(plan.steps.len()).unwrap()).collect::<Vec<_>>());
        if plan.blockers.is_empty() {
            let whole = damaged.iter().filter(|is_damaged| !**is_damaged).count();
            prop_assert_eq!(plan.steps.len(), whole);
        }
        let again: RestorePlan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
        prop_assert_eq!(again, plan);
    }
}
