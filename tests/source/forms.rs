//! What tar has for names, holes, owners, times and attributes, each as GNU tar reads it.

use super::*;

/// Files with holes of all shapes: many segments, a hole at the end, only a hole, none.
fn make_sparse_files(tree: &Path) {
    use std::os::unix::fs::FileExt;
    let make = |name: &str, size: u64, parts: &[u64]| {
        let file = std::fs::File::create(tree.join(name)).unwrap();
        file.set_len(size).unwrap();
        parts.iter().for_each(|&at| file.write_all_at(&[b'x'; 5000], at).unwrap());
    };
    make("dense", 5000, &[0]);
    make("hole-only", 1 << 20, &[]);
    make("hole-at-end", 1 << 20, &[0]);
    make("hole-at-start", (1 << 20) + 5000, &[1 << 20]);
    let many: Vec<u64> = (0..60).map(|n| n * 65_536).collect();
    make("many", 4 << 20, &many);
}

#[test]
fn sparse_files_of_all_four_forms_have_the_content_that_gnu_tar_gives_them() {
    for options in [
        &["-S", "--format=gnu"][..],
        &["-S", "--format=posix", "--sparse-version=0.0"],
        &["-S", "--format=posix", "--sparse-version=0.1"],
        &["-S", "--format=posix", "--sparse-version=1.0"],
    ] {
        let Some(entries) = against_gnu_tar(options, &make_sparse_files) else { return };
        let sparse: Vec<&[u8]> = entries
            .iter()
            .filter(|(entry, _)| matches!(entry.kind, EntryKind::File { sparse: true, .. }))
            .map(|(entry, _)| entry.path.as_bytes())
            .collect();
        assert_eq!(sparse, [&b"hole-at-end"[..], b"hole-at-start", b"hole-only", b"many"], "{options:?}");
    }
}

#[test]
fn long_odd_and_old_names_are_read_in_every_format() {
    use std::ffi::OsStr;
    let fill = |long: bool| {
        move |tree: &Path| {
            let folder = tree.join("d".repeat(60)).join("e".repeat(60));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("f"), b"deep").unwrap();
            std::os::unix::fs::symlink("/etc/localtime", tree.join("absolute")).unwrap();
            if long {
                std::fs::hard_link(folder.join("f"), tree.join("second-name")).unwrap();
                let name = [&b"not utf-8 \xff\xfe newline \n "[..], &[b'n'; 200]].concat();
                std::fs::write(tree.join(OsStr::from_bytes(&name)), b"odd").unwrap();
                std::os::unix::fs::symlink("t/".repeat(150), tree.join("far")).unwrap();
                std::fs::write(tree.join("späß"), b"").unwrap();
            }
        }
    };
    for format in ["gnu", "oldgnu", "posix"] {
        let Some(entries) = against_gnu_tar(&[&format!("--format={format}")], &fill(true)) else { return };
        assert!(entries.iter().any(|(entry, _)| entry.path.file_name().starts_with(b"not utf-8 \xff\xfe newline \n")));
    }
    against_gnu_tar(&["--format=ustar"], &fill(false));
    against_gnu_tar(&["--format=v7"], &|tree| {
        std::fs::create_dir(tree.join("d")).unwrap();
        std::fs::write(tree.join("d/f"), b"x").unwrap();
    });
}

#[test]
fn fifos_modes_times_and_far_owners_are_read() {
    if !is_root() {
        eprintln!("SKIPPED: owners can only be set by root");
        return;
    }
    let entries = against_gnu_tar(&["--format=posix"], &|tree| {
        std::fs::write(tree.join("f"), b"x").unwrap();
        let times = std::fs::FileTimes::new();
        let before_1970 = std::time::UNIX_EPOCH - std::time::Duration::new(5, 250_000_000);
        std::fs::File::options()
            .write(true)
            .open(tree.join("f"))
            .unwrap()
            .set_times(times.set_modified(before_1970))
            .unwrap();
        std::os::unix::fs::chown(tree.join("f"), Some(4_000_000_000), Some(3_000_000)).unwrap();
        let set = std::os::unix::fs::PermissionsExt::from_mode(0o4711);
        std::fs::set_permissions(tree.join("f"), set).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(tree.join("p")).status().unwrap().success());
    });
    let Some(entries) = entries else { return };
    assert_eq!((entries[0].0.mtime.secs, entries[0].0.mtime.nanos), (-6, 750_000_000));
    assert_eq!(entries[1].0.kind, EntryKind::Fifo);
}

#[test]
fn attributes_and_acls_come_as_gnu_tar_stored_them() {
    let run = |tool: &str, args: &[&str], file: &Path| {
        std::process::Command::new(tool).args(args).arg(file).status().is_ok_and(|status| status.success())
    };
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir_all(tree.join("d")).unwrap();
    std::fs::write(tree.join("f"), b"x").unwrap();
    if !run("setfattr", &["-n", "user.odd=%name", "-v", "0x610a623d0063"], &tree.join("f"))
        || !run("setfacl", &["-m", "u:4711:rw"], &tree.join("f"))
        || !run("setfacl", &["-d", "-m", "g:4712:rx"], &tree.join("d"))
    {
        eprintln!("SKIPPED: this filesystem or machine has no attributes or ACLs");
        return;
    }
    let archive = folder.path().join("a.tar");
    let args = ["-c", "-f", archive.to_str().unwrap(), "--xattrs", "--acls", "-C", tree.to_str().unwrap(), "d", "f"];
    let Some(()) = gnu_tar(&args, folder.path()) else { return };
    let (entries, _) = collect(&mut *source::open(&archive).unwrap()).unwrap();
    assert_eq!(names(&entries), [&b"d"[..], b"f"]);
    let (d, f) = (&entries[0].0, &entries[1].0);
    assert_eq!(f.xattrs, vec![(b"user.odd=%name".to_vec(), b"a\nb=\0c".to_vec())]);
    let text = |acl: &Option<Vec<u8>>| String::from_utf8(acl.clone().unwrap()).unwrap();
    assert!(text(&f.acl_access).contains("user:4711:rw-"), "{}", text(&f.acl_access));
    assert!(text(&d.acl_default).contains("group:4712:r-x"), "{}", text(&d.acl_default));
}
