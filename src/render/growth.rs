//! What could be done to a box's root filesystem, or was.

use super::View;
use super::text::wrap;
use crate::model::growth::{Growth, GrowthState};
use crate::t;

impl View for Growth {
    fn text(&self) -> String {
        let Growth { hostname, from, to, disk, partition, filesystem, .. } = self;
        if self.state == GrowthState::Done {
            return wrap("", &t!("The root filesystem of '{box}' is {to} now.", box = hostname, to = to));
        }
        let mut text = wrap(
            "",
            &t!("The root filesystem of '{box}' can be made larger: from {from} to {to}.", box = hostname, from = from, to = to),
        );
        if self.state == GrowthState::Begun {
            text += &wrap("", &t!("It was begun before and interrupted; it goes on where it stopped."));
        }
        text += &wrap("", &what(self));
        text += &wrap("  ", &format!("{} {partition}, {disk}, {filesystem}", self.table));
        text + &wrap("", &t!("To do it, run the same command with '--consent {id}'.", id = self.id))
    }
}

/// What is done, for somebody who has to agree to it.
pub fn what(growth: &Growth) -> String {
    let Growth { from, disk_size, .. } = growth;
    t!(
        "The box was never started: of its disk of {disk}, its system takes {from}, and its first start would take the rest. The same can be done now: one entry of the disk's partition table is changed, and the filesystem is made larger. No file is changed. It cannot be made smaller again. If the power fails, it goes on with the same answers or the same command.",
        disk = disk_size,
        from = from
    )
}
