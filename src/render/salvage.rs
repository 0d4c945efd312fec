//! The text of what was salvaged.

use super::View;
use super::text::{findings, wrap};
use crate::model::bytes;
use crate::salvage::{LostFile, Salvaged};

/// Most lost stretches in the text; JSON has more of them, and the map has all.
const MOST_AREAS: usize = 20;

impl View for Salvaged {
    fn text(&self) -> String {
        let image = bytes::path::shown(&self.image);
        let mut text = match self.is_whole() {
            true => wrap("", &format!("All {} of the disk are in \"{image}\".", self.size)),
            false => wrap("", &format!("{} of the disk's {} are in \"{image}\".", self.rescued, self.size)),
        };
        text += &wrap("", &format!("The map of what was read is \"{}\".", bytes::path::shown(&self.map)));
        if !self.is_whole() {
            let what = format!("LOST: {} in {} places. They are zeros in the image.", self.lost, self.places);
            text += &wrap("", &what);
            for area in self.areas.iter().take(MOST_AREAS) {
                let why = if area.tried { "" } else { ", not every sector was tried" };
                text += &wrap("  ", &format!("{} from byte {}{why}", area.length, area.start));
            }
            if self.places > MOST_AREAS {
                text += &wrap("  ", &format!("and {} more places; the map has all of them", self.places - MOST_AREAS));
            }
            if !self.files.is_empty() {
                text += &wrap("", &format!("Files and folders of which something is lost: {}", self.files.len()));
            }
            self.files.iter().for_each(|file| text += &wrap("  ", &lost_file(file)));
            if self.lost_unused.0 > 0 {
                let what = format!("{} of what is lost lie in no file or folder.", self.lost_unused);
                text += &wrap("", &what);
            }
            text += &wrap("", "Run the same command again to try these places once more.");
        }
        text + &findings(&self.findings)
    }
}

fn lost_file(file: &LostFile) -> String {
    let app = file.app.as_ref().map_or(String::new(), |app| format!(" ({app})"));
    let of = match (file.lost.0, file.size) {
        (0, _) => String::new(),
        (_, Some(size)) => format!(", {} of {size} lost", file.lost),
        (_, None) => format!(", {} lost", file.lost),
    };
    let what = file.what.as_ref().map_or(String::new(), |what| format!(", {what}"));
    format!("{}: /{}{app}{of}{what}", file.volume, bytes::escape(&file.path))
}
