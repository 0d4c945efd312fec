//! How disks, boxes and backups are called: for people, and for answer files.

use crate::model::archive::BackupLocation;
use crate::model::bytes;
use crate::model::disk::{Disk, Volume};
use crate::model::installation::Installation;
use crate::model::question::Offer;
use crate::render::text;
use crate::survey::Surveyed;
use crate::t;
use std::path::PathBuf;

/// A backup as people know it: its path on the disk, and the disk, instead of where it is mounted now.
pub(super) fn named(surveyed: &Surveyed, location: &BackupLocation) -> Offer {
    let shown = text::location(location);
    let path = bytes::path::shown(location.path());
    if let BackupLocation::OldSystem { hostname, .. } = location {
        let at = volumes(surveyed).find(|(_, volume)| volume.path == *location.path() && volume.offset() == 0);
        let volume = at.map(|(_, volume)| volume.name.clone());
        let mut names = volume.as_ref().map_or(vec![path], |volume| lasting_names(surveyed, volume));
        names.push(hostname.clone());
        let text = volume.map(|volume| t!("{what}, on {disk}", what = shown, disk = on_disk(surveyed, &volume)));
        return Offer { text: text.unwrap_or(shown), names };
    }
    let mut names: Vec<String> = match location {
        BackupLocation::BorgRepository { id, .. } => id.iter().cloned().collect(),
        BackupLocation::TarExport { .. } | BackupLocation::OldSystem { .. } => Vec::new(),
    };
    let Some(held) = surveyed.holder(location.path()) else {
        names.push(path);
        return Offer { text: shown, names };
    };
    let mount = format!("{}/", held.mounted.path().display());
    // The disk alone is enough of a name where nothing else is on it.
    for name in lasting_names(surveyed, &held.volume) {
        names.push(format!("{name}/{}", path.replacen(&mount, "", 1)));
        names.push(name);
    }
    Offer {
        text: t!("{what}, on {disk}", what = shown.replacen(&mount, "", 1), disk = on_disk(surveyed, &held.volume)),
        names,
    }
}

/// The volume of this name with its disk.
fn volume<'a>(surveyed: &'a Surveyed, name: &str) -> Option<(&'a Disk, &'a Volume)> {
    volumes(surveyed).find(|(_, volume)| volume.name == name)
}

/// All volumes with their disks.
fn volumes(surveyed: &Surveyed) -> impl Iterator<Item = (&Disk, &Volume)> {
    surveyed.survey.disks.iter().flat_map(|disk| disk.volumes.iter().map(move |volume| (disk, volume)))
}

/// A volume as people know it: its label, the model and the size of its disk. The kernel's name changes from start to
/// start, so it comes last.
pub(super) fn on_disk(surveyed: &Surveyed, name: &str) -> String {
    let Some((disk, volume)) = volume(surveyed, name) else { return name.to_owned() };
    let label = volume.signatures.iter().find_map(|signature| signature.label.as_ref());
    let model = disk.model.clone().unwrap_or_else(|| t!("a disk"));
    match label {
        Some(label) => {
            t!("'{label}' on {model} of {size} ({name})", label = label, model = model, size = disk.size, name = name)
        }
        None => t!("{model} of {size} ({name})", model = model, size = disk.size, name = name),
    }
}

/// By what a volume is known whatever it is connected to: the UUIDs of its filesystem and partition, and the serial
/// number of its disk. An image or a directory has its own name; a kernel name is none, it changes between starts.
pub(super) fn lasting_names(surveyed: &Surveyed, name: &str) -> Vec<String> {
    let Some((disk, volume)) = volume(surveyed, name) else { return vec![name.to_owned()] };
    let uuids = volume.signatures.iter().filter_map(|signature| signature.uuid.clone());
    let mut names: Vec<String> = uuids.chain(volume.partuuid.clone()).chain(disk.serial.clone()).collect();
    if name.starts_with('/') {
        names.push(name.to_owned());
    }
    names
}

/// How the chosen box is named to be opened again: its device or image, or the directory that was given.
pub(super) fn place_of(surveyed: &Surveyed, box_: &Installation) -> PathBuf {
    volume(surveyed, &box_.place).map_or_else(|| box_.root.clone(), |(_, volume)| volume.path.clone())
}
