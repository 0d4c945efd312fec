//! fstab(5): which filesystems an installed system mounts below its root.

use crate::model::path::RelPath;

/// One line of an fstab that mounts files below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// What is mounted.
    pub device: DeviceName,
    /// Where, below the root; `None` for the root itself.
    pub point: Option<RelPath>,
    /// Filesystem type as written there.
    pub kind: String,
    /// Mount options.
    pub options: Vec<String>,
}

/// How an fstab names a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceName {
    /// `UUID=`, or a link below `/dev/disk/by-uuid`.
    Uuid(String),
    /// `LABEL=`, or a link below `/dev/disk/by-label`.
    Label(String),
    /// `PARTUUID=`, or a link below `/dev/disk/by-partuuid`.
    PartUuid(String),
    /// Any other name below `/dev`, without `/dev/`.
    Node(String),
    /// Something that is no block device: `tmpfs`, `host:/share`.
    Other(String),
}

impl FstabEntry {
    /// The value of an option `name=value`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether an option is set.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|option| option == name)
    }
}

/// Parses an fstab. Swap and lines without a mount point below the root are left out.
pub fn parse(raw: &[u8]) -> Vec<FstabEntry> {
    raw.split(|&b| b == b'\n').filter_map(line).collect()
}

fn line(raw: &[u8]) -> Option<FstabEntry> {
    let mut fields = raw.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).map(unescaped);
    let device = String::from_utf8(fields.next()?).ok().filter(|device| !device.starts_with('#'))?;
    let point = fields.next().filter(|point| point.first() == Some(&b'/'))?;
    let kind = String::from_utf8(fields.next()?).ok().filter(|kind| kind != "swap" && kind != "none")?;
    let options = fields.next().unwrap_or_default();
    let options = String::from_utf8_lossy(&options).split(',').map(str::to_owned).collect();
    let point = if point.iter().all(|&b| b == b'/') { None } else { Some(RelPath::parse_absolute(&point).ok()?) };
    Some(FstabEntry { device: device_name(&device), point, kind, options })
}

fn device_name(text: &str) -> DeviceName {
    let tag = |tag: &str, folder: &str| {
        let value = text.strip_prefix(tag).or_else(|| text.strip_prefix("/dev/disk/")?.strip_prefix(folder))?;
        Some(value.trim_matches('"').to_owned())
    };
    if let Some(uuid) = tag("UUID=", "by-uuid/") {
        return DeviceName::Uuid(uuid);
    }
    if let Some(label) = tag("LABEL=", "by-label/") {
        return DeviceName::Label(label);
    }
    if let Some(uuid) = tag("PARTUUID=", "by-partuuid/") {
        return DeviceName::PartUuid(uuid);
    }
    match text.strip_prefix("/dev/") {
        Some(node) => DeviceName::Node(node.to_owned()),
        None => DeviceName::Other(text.to_owned()),
    }
}

/// Turns `\040` octal escapes back into bytes.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_device_is_understood() {
        let text = b"# comment\nUUID=\"ab\" / btrfs compress=zstd:1,subvol=@rootfs 0 1\n/dev/disk/by-label/My\\040Disk /srv ext4\n\
            PARTUUID=1-02\t/boot//efi vfat nofail\n/dev/sda3 none swap sw\n/dev/mapper/vg-var /var ext4 defaults 0 2\n\
            tmpfs /tmp tmpfs\nbroken\nUUID=x /a/../b ext4\nUUID=y relative ext4\n";
        let entries = parse(text);
        let names: Vec<_> = entries.iter().map(|entry| entry.device.clone()).collect();
        assert_eq!(
            names,
            [
                DeviceName::Uuid("ab".into()),
                DeviceName::Label("My Disk".into()),
                DeviceName::PartUuid("1-02".into()),
                DeviceName::Node("mapper/vg-var".into()),
                DeviceName::Other("tmpfs".into()),
            ]
        );
        assert_eq!(entries[0].point, None);
        assert_eq!(entries[0].option("subvol"), Some("@rootfs"));
        assert_eq!(entries[2].point.as_ref().unwrap().as_bytes(), b"boot/efi");
        assert!(entries[2].has("nofail"));
    }
}
