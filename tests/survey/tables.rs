//! Partition tables and what lies in the partitions.

use super::*;

#[test]
fn every_signature_is_told_as_blkid_tells_it() {
    needs!(disks::lacks(&["mkfs.ext4", "mkfs.btrfs", "mkfs.vfat", "mkswap", "blkid"]));
    let folder = tempfile::tempdir().unwrap();
    let makers = [
        ("ext2", "mke2fs -q -t ext2 -L two", 16),
        ("ext3", "mke2fs -q -t ext3 -L three", 16),
        ("ext4", "mke2fs -q -t ext4 -L 'four words'", 16),
        ("ext4-old", "mke2fs -q -t ext4 -O ^metadata_csum,^64bit -L four", 16),
        ("btrfs", "mkfs.btrfs -q -L bee", 128),
        ("fat12", "mkfs.vfat -F 12 -n TWELVE", 4),
        ("fat16", "mkfs.vfat -F 16 -n SIXTEEN", 16),
        ("fat32", "mkfs.vfat -F 32 -n THIRTYTWO", 40),
        ("fat-bare", "mkfs.vfat -F 32", 40),
        ("exfat", "mkfs.exfat -L Labelled", 16),
        ("exfat-bare", "mkfs.exfat", 16),
        ("ntfs", "mkntfs -q -F -f -L Enntee", 16),
        ("xfs", "mkfs.xfs -q -f -L ex", 300),
        ("f2fs", "mkfs.f2fs -q -l eff", 64),
        ("swap", "mkswap -q -L swapped", 16),
        (
            "luks2",
            "cryptsetup luksFormat -q --type luks2 --label lucky --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /etc/hostname",
            32,
        ),
        ("luks1", "cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 --key-file /etc/hostname", 16),
        ("squashfs", "sh -c 'mksquashfs /etc/hostname $0 -quiet -no-progress -noappend >/dev/null'", 0),
        ("iso", "sh -c 'xorriso -as mkisofs -quiet -V ISOLABEL -o $0 /etc/hostname 2>/dev/null'", 0),
    ];
    let mut tried = 0;
    for (name, maker, mib) in makers {
        let tool = if maker.starts_with("sh ") {
            maker.split(['\'', ' ']).nth(3).unwrap()
        } else {
            maker.split(' ').next().unwrap()
        };
        if let Some(why) = disks::lacks(&[tool]) {
            eprintln!("SKIPPED: {name}: {why}");
            continue;
        }
        let path = folder.path().join(name);
        if mib > 0 {
            disks::blank(&path, mib);
        }
        disks::sh(&format!("{maker} {} >/dev/null", path.display()));
        let told = disks::run("blkid", &["-p", "-o", "export", path.to_str().unwrap()]);
        let told = |tag: &str| {
            told.lines().find_map(|line| line.strip_prefix(tag)?.strip_prefix('=')).map(|text| text.replace('\\', ""))
        };
        let found = lifeboat::formats::signature::read(&lifeboat::sys::file::Source::open(&path).unwrap()).unwrap();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let kind = told("TYPE").unwrap();
        assert_eq!(found[0].kind.name(), if kind == "crypto_LUKS" { "luks" } else { &kind }, "{name}");
        assert_eq!(found[0].uuid, told("UUID"), "{name}");
        assert_eq!(found[0].label, told("LABEL"), "{name}");
        let settled = [FilesystemState::Clean, FilesystemState::Unknown];
        assert!(settled.contains(&found[0].state), "{name}: {:?}", found[0].state);
        tried += 1;
    }
    assert!(tried >= 9, "only {tried}");
}

#[test]
fn partitions_are_where_the_partitioner_says() {
    needs!(disks::cannot_mount(&["sfdisk", "losetup"]));
    let folder = tempfile::tempdir().unwrap();
    let logical = "label: dos\nlabel-id: 0xdeadbeef\nsize=4M, type=83\nsize=20M, type=5\nsize=2M, type=83\n\nsize=3M, type=83\nsize=4M, type=82\n";
    let scripts = [
        (512, "label: gpt\nsize=4M\nsize=8M, name=\"home\"\nsize=2M\n"),
        (4096, "label: gpt\nsize=4M\nsize=8M, name=\"home\"\nsize=2M\n"),
        (512, logical),
    ];
    for (at, (sector_size, script)) in scripts.into_iter().enumerate() {
        let image = disks::blank(&folder.path().join(format!("{at}.img")), 64);
        disks::sfdisk(&image, sector_size, script);
        let source = lifeboat::sys::file::Source::open(&image).unwrap();
        let table = lifeboat::formats::table::read(&source, None, "disk").unwrap().unwrap();
        assert_eq!(table.sector_size, sector_size);
        let dump = disks::sfdisk_json(&image, sector_size);
        let parts = dump["partitiontable"]["partitions"].as_array().unwrap();
        let mut said: Vec<_> = parts
            .iter()
            // The container of logical partitions is no volume.
            .filter(|part| part["type"] != "5")
            .map(|part| {
                let number = part["node"]
                    .as_str()
                    .unwrap()
                    .rsplit(|c: char| !c.is_ascii_digit())
                    .next()
                    .unwrap()
                    .parse::<u32>()
                    .unwrap();
                let bytes = |field: &str| part[field].as_u64().unwrap() * u64::from(sector_size);
                (number, bytes("start"), bytes("size"), part["uuid"].as_str().map(str::to_lowercase))
            })
            .collect();
        said.sort();
        let ours: Vec<_> = table
            .entries
            .iter()
            .map(|entry| {
                (entry.number, entry.start, entry.length, (table.kind == "gpt").then(|| entry.partuuid.clone()))
            })
            .collect();
        assert_eq!(ours, said);
    }
}

#[test]
fn a_dead_primary_table_is_replaced_by_its_backup_also_on_a_larger_disk() {
    needs!(disks::lacks(&["sfdisk"]));
    let folder = tempfile::tempdir().unwrap();
    for (name, header_byte, grow) in [("header", 512 + 20, 0), ("entries", 1024 + 40, 0), ("grown", 512 + 20, 16)] {
        let image = disks::blank(&folder.path().join(name), 16);
        disks::sfdisk(&image, 512, "label: gpt\nsize=4M\nsize=8M\n");
        let read = || {
            let source = lifeboat::sys::file::Source::open(&image).unwrap();
            lifeboat::formats::table::read(&source, Some(512), "disk").unwrap()
        };
        let before = read().unwrap();
        disks::poke(&image, header_byte, &[0x5a; 4]);
        fs::OpenOptions::new().write(true).open(&image).unwrap().set_len((16 + grow) << 20).unwrap();
        let after = read().unwrap();
        assert_eq!(after.entries, before.entries, "{name}");
        assert_eq!((before.findings.len(), after.findings.len()), (0, 1));
        // A backup that is damaged as well is not believed.
        disks::poke(&image, (16 << 20) - 512 + 20, &[0x5a; 4]);
        assert_eq!(read(), None, "{name}");
    }
}

#[test]
fn a_huge_entry_count_with_a_right_checksum_is_refused() {
    needs!(disks::lacks(&["sfdisk"]));
    let folder = tempfile::tempdir().unwrap();
    let image = disks::blank(&folder.path().join("huge"), 16);
    disks::sfdisk(&image, 512, "label: gpt\nsize=4M\n");
    let mut bytes = fs::read(&image).unwrap();
    for header in [512, (16 << 20) - 512] {
        bytes[header + 80..header + 84].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        bytes[header + 16..header + 20].copy_from_slice(&[0; 4]);
        let sum = crc32fast::hash(&bytes[header..header + 92]);
        bytes[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
    }
    assert_eq!(lifeboat::formats::table::read(&bytes.as_slice(), Some(512), "disk").unwrap(), None);
}

#[test]
fn a_circle_of_logical_partitions_ends() {
    let mut bytes = vec![0u8; 1 << 20];
    let mut slot = |sector: usize, index: usize, kind: u8, start: u32, count: u32| {
        let at = sector * 512 + 446 + 16 * index;
        bytes[at + 4] = kind;
        bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
        bytes[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    };
    slot(0, 0, 5, 10, 1000);
    slot(10, 0, 0x83, 1, 8);
    slot(10, 1, 5, 20, 100);
    slot(30, 0, 0x83, 1, 8);
    slot(30, 1, 5, 0, 100);
    let table = lifeboat::formats::table::read(&bytes.as_slice(), Some(512), "disk").unwrap().unwrap();
    assert_eq!(
        table.entries.iter().map(|entry| (entry.number, entry.start)).collect::<Vec<_>>(),
        [(5, 11 * 512), (6, 31 * 512)]
    );
    assert_eq!(table.findings.len(), 1);
}
