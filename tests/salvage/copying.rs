//! The order and the patience of copying, on disks that fail as it is told to them.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_good_sector_is_rescued_and_every_bad_one_is_known(
        sectors in 1u64..300,
        bad in proptest::collection::btree_set(0u64..300, 0..60),
        runs in proptest::collection::vec((0u64..300, 1u64..40), 0..3),
        first in proptest::collection::vec((0u64..150_000, 0u64..20_000), 0..4),
    ) {
        let runs = runs.iter().flat_map(|(start, length)| *start..start + length);
        let disk = Disk::new(sectors, bad.into_iter().chain(runs));
        let mut medium = Medium::new(disk.length());
        let first: Vec<_> = first.iter().map(|(start, length)| {
            let end = (start + length).min(disk.length());
            start - start % SECTOR..end
        }).filter(|range| range.start < range.end).collect();
        copy(&disk, &mut medium, effort(), &first).unwrap();
        medium.is_honest(&disk);
        prop_assert_eq!(medium.map(), disk.truth());
    }

    #[test]
    fn a_run_that_was_cut_off_anywhere_goes_on_to_the_same_end(
        sectors in 1u64..200,
        bad in proptest::collection::btree_set(0u64..200, 0..40),
        cuts in proptest::collection::vec((1u32..60, prop_oneof![Just(5), Just(6), Just(19)], 0u64..3), 0..6),
    ) {
        let mut disk = Disk::new(sectors, bad);
        let mut medium = Medium::new(disk.length());
        for (after, errno, saves) in cuts {
            disk.reads.set(0);
            disk.dies = Some((after, errno));
            let save_every = Duration::from_micros(saves * 50);
            // It stops, or it was done before.
            let ended = copy(&disk, &mut medium, Effort { save_every, ..effort() }, &[]);
            if disk.reads.get() > after {
                prop_assert!(matches!(ended, Err(SalvageError::Gone(_))), "{ended:?}");
            }
            medium.cut_power();
            medium.is_honest(&disk);
        }
        disk.dies = None;
        copy(&disk, &mut medium, effort(), &[]).unwrap();
        medium.is_honest(&disk);
        prop_assert_eq!(medium.map(), disk.truth());
    }
}

#[test]
fn a_disk_that_stops_answering_is_not_taken_for_a_disk_of_bad_sectors() {
    let mut disk = Disk::new(3000, [100, 1500]);
    disk.dies = Some((50, 5));
    let mut medium = Medium::new(disk.length());
    let ended = copy(&disk, &mut medium, effort(), &[]);
    assert!(matches!(ended, Err(SalvageError::Gone(_))), "{ended:?}");
    medium.is_honest(&disk);
    let map = medium.map();
    assert!(map.bytes(State::Rescued) > 40 * 16 * SECTOR, "what was read is kept");
    assert_eq!(map.bytes(State::Bad), 0, "nothing was given up");
    assert!(disk.failures.get() < 60, "it stopped soon: {}", disk.failures.get());
}

#[test]
fn a_disk_that_gives_nothing_at_all_is_an_error() {
    let mut disk = Disk::new(3000, []);
    disk.dies = Some((0, 5));
    let mut medium = Medium::new(disk.length());
    let ended = copy(&disk, &mut medium, effort(), &[]);
    assert!(matches!(ended, Err(SalvageError::Gone(_))), "{ended:?}");
    assert_eq!(medium.map(), Map::new(disk.length()), "nothing is known of it");
}

#[test]
fn a_bad_area_takes_no_longer_than_patience_and_the_rest_is_read() {
    // Half of the disk fails, and each failure takes its time.
    let mut disk = Disk::new(4000, 1000..3000);
    disk.slow = Duration::from_millis(3);
    let mut medium = Medium::new(disk.length());
    let short = Effort { patience: Duration::from_millis(60), retries: 0, ..effort() };
    copy(&disk, &mut medium, short, &[]).unwrap();
    medium.is_honest(&disk);
    let map = medium.map();
    assert_eq!(map.bytes(State::Rescued), 2000 * SECTOR, "everything good was read");
    let given_up = map.bytes(State::Bad);
    assert!(given_up > 0 && given_up < 1000 * SECTOR, "not every sector was tried: {given_up}");
    assert!(disk.failures.get() < 500, "{} failures", disk.failures.get());
    // More patience finishes it.
    disk.slow = Duration::ZERO;
    copy(&disk, &mut medium, effort(), &[]).unwrap();
    assert_eq!(medium.map(), disk.truth());
}

#[test]
fn what_is_wanted_first_is_read_first() {
    let mut disk = Disk::new(2000, [1999]);
    disk.dies = Some((3, 19));
    let mut medium = Medium::new(disk.length());
    let wanted = 800 * SECTOR..832 * SECTOR;
    let ended = copy(&disk, &mut medium, effort(), std::slice::from_ref(&wanted));
    assert!(matches!(ended, Err(SalvageError::Gone(_))), "{ended:?}");
    assert!(medium.map().is_rescued(wanted));
    medium.is_honest(&disk);
}
