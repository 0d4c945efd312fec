use crate::model::{digest::Sha256Digest, entry::EntryKind, path::RelPath};
pub fn content_record(_r: &[u8], _k: &EntryKind, _c: Option<Sha256Digest>, _s: &RelPath) -> Sha256Digest {
    Sha256Digest::of(b"")
}
