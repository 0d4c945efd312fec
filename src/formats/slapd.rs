//! The entries that slapd keeps in its LMDB database (`/var/lib/ldap/data.mdb`): on a FreedomBox, people and groups.
//!
//! Source: OpenLDAP 2.4 to 2.6, servers/slapd/back-mdb, `attr.c` (table `ad2i`: names of attributes by number) and
//! `id2entry.c` (table `id2e`: an entry is four 32-bit numbers, of which the last counts those that follow: for each
//! attribute its number, how many values it has, and their lengths; then all values, each with a NUL after it).
//! Numbers are those of the machine; only little-endian ones are read.

use super::block::Block;
use super::lmdb::{Lmdb, LmdbError};
use std::collections::{BTreeMap, HashMap};

/// Marks sorted values in an attribute's number, and a second, normalised copy of all values in their count.
const HIGH: u32 = 1 << 31;
/// Marks values that are kept in another table.
const ELSEWHERE: u32 = 1 << 30;
const MOST_ENTRIES: usize = 100_000;

/// Attributes with their values.
pub type DirectoryEntry = BTreeMap<String, Vec<Vec<u8>>>;

/// All entries, and how many could not be read.
pub fn entries(database: &Lmdb<'_>) -> Result<(Vec<DirectoryEntry>, u64), LmdbError> {
    let mut names = HashMap::new();
    let has_names = database.each("ad2i", &mut |key, value| {
        let number = key.get(..4).and_then(|raw| raw.try_into().ok()).map(u32::from_le_bytes);
        if let (Some(number), Ok(name)) = (number, std::str::from_utf8(value)) {
            names.insert(number, name.trim_end_matches('\0').to_owned());
        }
    })?;
    let (mut found, mut unread) = (Vec::new(), 0);
    let has_entries = database.each("id2e", &mut |_, value| match entry(value, &names) {
        Some(entry) if found.len() < MOST_ENTRIES => found.push(entry),
        _ => unread += 1,
    })?;
    if has_names && has_entries { Ok((found, unread)) } else { Err(LmdbError::Damaged("it is no database of slapd")) }
}

fn entry(raw: &[u8], names: &HashMap<u32, String>) -> Option<DirectoryEntry> {
    let raw = Block::from(raw.to_vec());
    let mut numbers = (0..).step_by(4);
    let mut next = || raw.le32(numbers.next()?);
    let (attributes, _values, _flags, count) = (next()?, next()?, next()?, next()?);
    let mut at = 16 + usize::try_from(count).ok()?.checked_mul(4)?;
    let mut entry = DirectoryEntry::new();
    for _ in 0..attributes {
        let (number, values) = (next()? & !HIGH, next()?);
        let count = values & !HIGH;
        if count & ELSEWHERE != 0 {
            return None;
        }
        let mut read = Vec::new();
        for _ in 0..count {
            let length = usize::try_from(next()?).ok()?;
            read.push(raw.part(at, length)?.to_vec());
            at = at.checked_add(length)?.checked_add(1)?;
        }
        if values & HIGH != 0 {
            for _ in 0..count {
                at = at.checked_add(usize::try_from(next()?).ok()?)?.checked_add(1)?;
            }
        }
        if let Some(name) = names.get(&number) {
            entry.insert(name.clone(), read);
        }
    }
    Some(entry)
}
