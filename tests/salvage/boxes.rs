//! A FreedomBox on a disk that fails: what is lost is named exactly, and what matters most is read first.

use super::*;

/// A disk with a FreedomBox on its second partition, and blocks of it: the partition begins at 2 MiB.
struct BoxDisk {
    folder: tempfile::TempDir,
    system: PathBuf,
}

const PARTITION: u64 = 2 << 20;

impl BoxDisk {
    fn new() -> BoxDisk {
        let folder = tempfile::tempdir().unwrap();
        let system = filesystem(&folder.path().join("system"), 40, "mke2fs -q -F -t ext4 -b 4096", "", |root| {
            common::disks::system(root, &common::disks::System { hostname: "old", fstab: "", tables: "plinth" });
            let put = |name: &str, seed: usize, length: usize| {
                let path = root.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, &noise(1, 8 << 20)[seed..seed + length]).unwrap();
            };
            put("var/lib/radicale/collections/calendar", 1, 100_000);
            put("var/lib/radicale/collections/contacts", 200_003, 90_000);
            put("home/me/photo", 300_007, 2_000_000);
            put("home/me/letters/letter", 2_500_011, 8000);
            put("usr/bin/program", 3_000_017, 700_000);
            std::fs::hard_link(root.join("home/me/photo"), root.join("home/me/again")).unwrap();
        });
        // A new journal, in which no blocks of folders lie a second time.
        sh(&format!("tune2fs -O ^has_journal {0} && tune2fs -O has_journal {0}", system.display()));
        BoxDisk { folder, system }
    }

    fn disk(&self) -> PathBuf {
        let disk = blank(&self.folder.path().join("disk"), 44);
        common::disks::sfdisk(&disk, 512, "label: gpt\nstart=2048, size=1MiB\nstart=4096, size=40MiB\n");
        common::disks::place(&disk, PARTITION, &self.system);
        disk
    }

    /// Where the block of a file lies on the disk.
    fn block(&self, path: &str, nth: u64) -> u64 {
        let command = format!("bmap {path} {nth}");
        let block = run("debugfs", &["-R", &command, self.system.to_str().unwrap()]);
        PARTITION + block.trim().parse::<u64>().unwrap() * BLOCK
    }
}

/// The lost files as lines.
fn lost_files(told: &serde_json::Value) -> Vec<String> {
    let line = |file: &serde_json::Value| {
        let text = |key: &str| file[key].as_str().unwrap_or("-").to_owned();
        let what = text("what").split(':').next().unwrap().to_owned();
        format!("{} {} {} {what}", text("path"), text("app"), file["lost"])
    };
    told["files"].as_array().unwrap().iter().map(line).collect()
}

fn cannot_salvage_ext4() -> bool {
    let why = cannot_fail().or_else(|| common::disks::lacks(&["mke2fs", "debugfs", "sfdisk"]));
    why.inspect(|why| eprintln!("SKIPPED: {why}")).is_some()
}

#[test]
fn the_list_of_lost_files_is_exact() {
    if cannot_salvage_ext4() {
        return;
    }
    let a_box = BoxDisk::new();
    let disk = a_box.disk();
    let bad = [
        a_box.block("/var/lib/radicale/collections/calendar", 3),
        // The last block of a file, of which the file has only a part.
        a_box.block("/home/me/letters/letter", 1),
        a_box.block("/home/me/photo", 0),
        a_box.block("/home/me/photo", 100),
        // The folder itself; its file is found by its inode.
        a_box.block("/home/me/letters", 0),
    ];
    let failing = FailingDisk::new(&disk, &bad);
    let image = a_box.folder.path().join("image");
    let told = salvage(failing.path(), &image).ends(1).json();
    let letter = run("debugfs", &["-R", "stat /home/me/letters/letter", a_box.system.to_str().unwrap()]);
    let letter = letter.split_whitespace().nth(1).unwrap();
    assert_eq!(
        lost_files(&told),
        [
            "home/me/again - 8192 -".to_owned(),
            "home/me/letters - 0 names in this folder are lost".to_owned(),
            "home/me/photo - 8192 -".to_owned(),
            format!("lost+found/#{letter} - 3904 -"),
            "var/lib/radicale/collections/calendar radicale 4096 -".to_owned(),
        ],
        "{told}"
    );
    assert_eq!(told["lost"], 5 * BLOCK);
    // What a file does not use of its last block.
    assert_eq!(told["lost_unused"], 192, "{told}");
    let said = lifeboat(&["salvage".as_ref(), failing.path().as_os_str(), "--to".as_ref(), image.as_os_str()]).ends(1);
    assert!(said.out.contains("collections/calendar (radicale)"), "{}", said.out);
}

#[test]
fn lost_files_are_found_without_a_partition_table_and_without_a_superblock() {
    if cannot_salvage_ext4() {
        return;
    }
    let a_box = BoxDisk::new();
    let disk = a_box.disk();
    let calendar = a_box.block("/var/lib/radicale/collections/calendar", 3);
    let image = a_box.folder.path().join("image");
    {
        // Both copies of the table.
        let bad = [0, (44 << 20) - BLOCK, calendar];
        let failing = FailingDisk::new(&disk, &bad);
        let told = salvage(failing.path(), &image).ends(1).json();
        assert_eq!(lost_files(&told), ["var/lib/radicale/collections/calendar radicale 4096 -"], "{told}");
        assert!(told["findings"].to_string().contains("its partition table cannot be read"), "{told}");
    }
    // Without its only superblock, nobody can tell, and that is said.
    let failing = FailingDisk::new(&disk, &[PARTITION, calendar]);
    let told = salvage(failing.path(), &a_box.folder.path().join("other")).ends(1).json();
    assert_eq!(lost_files(&told), [] as [&str; 0]);
    assert!(told["findings"].to_string().contains("which files lie on them cannot be told"), "{told}");
}

#[test]
fn with_one_percent_bad_sectors_and_a_bad_journal_passphrases_and_apps_are_recovered() {
    if cannot_salvage_ext4() || cannot_mount(&[]).is_some() {
        return;
    }
    let a_box = BoxDisk::new();
    {
        let mounted = Kernel::mount(&a_box.system, "loop,rw");
        let database = rusqlite::Connection::open(mounted.path().join("var/lib/plinth/plinth.sqlite3")).unwrap();
        let location = serde_json::json!({"path": "/media/USB/FreedomBoxBackups", "storage_type": "disk",
            "credentials": {"encryption_passphrase": "correct horse"}});
        let storage = serde_json::Value::from(serde_json::json!({"u1": location}).to_string()).to_string();
        database.execute("UPDATE plinth_kvstore SET value_json = ?1 WHERE key = 'network_storage'", [storage]).unwrap();
        database.execute_batch("DELETE FROM plinth_module; INSERT INTO plinth_module VALUES ('radicale', 4)").unwrap();
    }
    common::disks::wait_for_loops(&a_box.system);
    let disk = a_box.disk();
    // More than one in a hundred of all blocks.
    let photo = (0..485).step_by(4).map(|nth| a_box.block("/home/me/photo", nth));
    let mut bad: Vec<u64> = photo.collect();
    let lost = bad.len() as u64 * BLOCK;
    bad.push(a_box.block("/var/lib/radicale/collections/calendar", 3));
    // The journal's own head: the kernel refuses to mount the disk.
    bad.push(a_box.block("<8>", 0));
    assert!(bad.len() as u64 * 100 >= (40 << 20) / BLOCK);
    let image = a_box.folder.path().join("image");
    let told = salvage(FailingDisk::new(&disk, &bad).path(), &image).ends(1).json();
    let mut files = lost_files(&told);
    files.retain(|line| line.starts_with("home") || line.starts_with("var"));
    let calendar = "var/lib/radicale/collections/calendar";
    let photos = ["again", "photo"].map(|name| format!("home/me/{name} - {lost} -"));
    assert_eq!(files, [&photos[..], &[format!("{calendar} radicale 4096 -")]].concat(), "{told}");
    // The passphrase, from the image.
    let host = lifeboat::sys::host::Host::real(a_box.folder.path().join("run"));
    let found =
        lifeboat::survey::survey(&host, &[lifeboat::survey::Place::Image(image.clone())], &|_| Ok(false)).unwrap();
    let kept: Vec<&[u8]> =
        found.survey.installations[0].passphrases.iter().map(|passphrase| passphrase.reveal()).collect();
    assert_eq!(kept, [b"correct horse"]);
    drop(found);
    // The app: all that is not on the list is there, and what is on it is named.
    let shown = image.to_str().unwrap();
    let verified = lifeboat(&["verify", shown, "--archive", "installed-system", "--json"]).ends(15).json();
    let damaged: Vec<&str> = verified["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] == "damage")
        .filter_map(|finding| finding["subject"].as_str().filter(|subject| subject.contains('/')))
        .collect();
    assert_eq!(damaged, [calendar], "{verified}");
    let out = a_box.folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let words = ["backup", "--from", shown, "--to", out.to_str().unwrap(), "--accept-damage", "--plain"];
    let said = lifeboat(&words).said();
    let made = walkdir::WalkDir::new(&out).into_iter().map(|entry| entry.unwrap().into_path());
    let file = made.into_iter().find(|path| path.to_string_lossy().ends_with(".tar.gz"));
    let file = file.unwrap_or_else(|| panic!("{said}"));
    let contacts = sh(&format!("tar -xOzf '{}' var/lib/radicale/collections/contacts | sha256sum", file.display()));
    let wanted = lifeboat::model::digest::Sha256Digest::of(&noise(1, 8 << 20)[200_003..290_003]);
    assert!(contacts.starts_with(&wanted.to_string()), "{contacts}");
}

#[test]
fn secrets_and_app_data_are_read_before_anything_else() {
    if let Some(why) = cannot_mount(&["mke2fs", "debugfs", "sfdisk"]) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let a_box = BoxDisk::new();
    let content = fs::read(a_box.disk()).unwrap();
    let database = a_box.block("/var/lib/plinth/plinth.sqlite3", 0);
    let calendar = a_box.block("/var/lib/radicale/collections/calendar", 0);
    let photo = a_box.block("/home/me/photo", 400);
    let program = a_box.block("/usr/bin/program", 100);
    let disk = Watched { content, reads: RefCell::default() };
    let mut medium = Medium::new(disk.length());
    let map = medium.map();
    let effort = Effort { cluster: BLOCK, save_every: Duration::from_secs(3600), ..effort() };
    let host = Host::real(a_box.folder.path().join("run"));
    lifeboat::salvage::copy_disk(
        &host,
        Path::new("disk"),
        &mut Copier::new(&disk, &mut medium, map, effort, &Silent),
        &Silent,
    )
    .unwrap();
    let reads = disk.reads.borrow();
    let first = |place: u64| reads.iter().position(|(at, end)| (*at..*end).contains(&place)).unwrap();
    let order = [database, calendar, photo, program].map(first);
    assert!(order.is_sorted(), "{order:?}");
    assert!(medium.lasting == disk.content);
    // And each byte is asked for once.
    let asked: u64 = reads.iter().map(|(at, end)| end - at).sum();
    assert_eq!(asked, disk.length());
}
