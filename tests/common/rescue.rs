//! Boxes to restore onto, the program that restores, and what a directory tree is.
#![allow(dead_code, missing_docs, reason = "every test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "this is test code")]
#![allow(unreachable_pub, reason = "it is shared by test binaries")]

use lifeboat::model::digest::Sha256Digest;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
pub const LIFEBOAT: &str = env!("CARGO_BIN_EXE_lifeboat");

/// What one run of the program left.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            // A signal is no exit code: none of the tables has this one.
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Run {
    /// The run's standard output as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.out, self.err))
    }

    #[track_caller]
    pub fn ends(self, code: i32) -> Run {
        assert_eq!(self.code, code, "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// Everything that was said.
    pub fn said(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// The program under test on a medium of its own below `folder`, which carries what looks like a program for amd64 boxes
/// without libraries. A box gets a copy of that, and no test starts it.
pub fn program_on_medium(folder: &Path) -> PathBuf {
    let mut head = vec![0u8; 64];
    head[..6].copy_from_slice(b"\x7fELF\x02\x01");
    // The machine is x86-64; there are no program headers, so no loader either.
    head[18] = 62;
    head[54] = 56;
    write(&folder.join("medium/share/lifeboat/amd64/lifeboat"), &head);
    let program = folder.join("medium/bin/lifeboat");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    if fs::hard_link(LIFEBOAT, &program).is_err() {
        fs::copy(LIFEBOAT, &program).unwrap();
    }
    program
}

/// Runs the program. Whatever it is given to read, it must not take ten minutes of a processor: the kernel ends it then.
/// Unlike time on the wall, that does not grow with what else the machine does.
pub fn lifeboat<S: AsRef<OsStr>>(args: &[S]) -> Run {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -t 600; exec \"$0\" \"$@\"", LIFEBOAT]).args(args);
    command.stdin(Stdio::null()).output().unwrap().into()
}

/// A restore as the command line names it.
#[derive(Debug, Clone)]
pub struct Rescue {
    pub from: PathBuf,
    pub onto: PathBuf,
    pub more: Vec<String>,
}

impl Rescue {
    pub fn new(from: &Path, onto: &Path) -> Rescue {
        Rescue { from: from.to_owned(), onto: onto.to_owned(), more: Vec::new() }
    }

    pub fn apps(mut self, apps: &str) -> Rescue {
        self.more.extend(["--apps".to_owned(), apps.to_owned()]);
        self
    }

    fn run(&self, command: &str, more: &[&str]) -> Run {
        // The program of a test build needs libraries, so it is named: the box here never starts it.
        let mut args: Vec<&OsStr> = vec![command.as_ref(), "--from".as_ref(), self.from.as_ref()];
        args.extend([OsStr::new("--onto"), self.onto.as_ref(), "--program".as_ref(), LIFEBOAT.as_ref()]);
        args.extend(self.more.iter().map(OsStr::new));
        args.extend(more.iter().map(OsStr::new));
        lifeboat(&args)
    }

    pub fn plan(&self) -> Run {
        self.run("plan", &["--json"])
    }

    pub fn plan_text(&self) -> Run {
        self.run("plan", &[])
    }

    pub fn restore(&self, consent: &str) -> Run {
        self.run("restore", &["--consent", consent])
    }

    /// Plans, and restores what was planned; the plan and the run of the restore.
    pub fn carry_out(&self) -> (serde_json::Value, Run) {
        let plan = self.plan();
        let plan = plan.json();
        let id = plan["id"].as_str().unwrap_or_else(|| panic!("no plan: {plan}")).to_owned();
        let run = self.restore(&id);
        (plan, run)
    }
}

/// Everything about one name in a directory tree that a restore could get wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: char,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, i64),
    pub size: u64,
    pub device: u64,
    pub content: Option<Sha256Digest>,
    pub target: Option<OsString>,
    /// The first name, in order, of the same file, where it has several.
    pub same_as: Option<PathBuf>,
}

/// A directory tree by relative path.
pub type Tree = BTreeMap<PathBuf, Node>;

/// Reads a tree without following a link; the root itself is not in it.
pub fn tree(root: &Path) -> Tree {
    tree_without(root, &[])
}

/// As [`tree`], without what lies at or below some relative paths.
pub fn tree_without(root: &Path, left_out: &[&str]) -> Tree {
    let mut nodes = Tree::new();
    let mut first_names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let walk = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter();
    let is_in =
        |path: &Path| !left_out.iter().any(|out| path.strip_prefix(root).is_ok_and(|below| below == Path::new(out)));
    for found in walk.filter_entry(|found| is_in(found.path())) {
        let found = found.unwrap();
        let below = found.path().strip_prefix(root).unwrap().to_owned();
        let meta = fs::symlink_metadata(found.path()).unwrap();
        let of = meta.file_type();
        let kind = match of {
            of if of.is_dir() => 'd',
            of if of.is_file() => 'f',
            of if of.is_symlink() => 'l',
            of if of.is_fifo() => 'p',
            of if of.is_socket() => 's',
            of if of.is_block_device() => 'b',
            _ => 'c',
        };
        let same_as = (kind == 'f' && meta.nlink() > 1)
            .then(|| first_names.entry(meta.ino()).or_insert_with(|| below.clone()).clone());
        let node = Node {
            kind,
            mode: meta.permissions().mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            size: if kind == 'f' { meta.len() } else { 0 },
            device: meta.rdev(),
            content: (kind == 'f').then(|| Sha256Digest::of(&fs::read(found.path()).unwrap())),
            target: of.is_symlink().then(|| fs::read_link(found.path()).unwrap().into_os_string()),
            same_as,
        };
        nodes.insert(below, node);
    }
    nodes
}

/// How two trees differ, as lines; empty when they are the same.
pub fn differences(before: &Tree, after: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for path in before.keys().chain(after.keys().filter(|path| !before.contains_key(*path))) {
        match (before.get(path), after.get(path)) {
            (Some(before), Some(after)) if before == after => {}
            (before, after) => lines.push(format!("{}:\n   before {before:?}\n   after  {after:?}", path.display())),
        }
    }
    lines
}

#[track_caller]
pub fn assert_same(before: &Tree, after: &Tree, what: &str) {
    let lines = differences(before, after);
    assert!(lines.is_empty(), "{what}: {} differences\n{}", lines.len(), lines[..lines.len().min(10)].join("\n"));
}

/// A small FreedomBox as a directory, with canary files in and around it.
pub struct SmallBox {
    pub folder: tempfile::TempDir,
    pub root: PathBuf,
}

/// Packages of the apps that a [`SmallBox`] has beside those without packages.
const PACKAGES: [&str; 5] = ["gitweb", "highlight", "certbot", "openssl", "openssh-server"];
/// Apps that it has set up, with their versions in FreedomBox 25.9.3.
const SET_UP: [(&str, i64); 5] = [("gitweb", 4), ("tiddlywiki", 1), ("letsencrypt", 4), ("sharing", 4), ("ssh", 4)];

impl SmallBox {
    /// In a temporary directory.
    pub fn new() -> SmallBox {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("around/box");
        Self::fill(&root);
        for canary in ["around/canary", "around/etc/shadow", "canary"] {
            write(&folder.path().join(canary), b"a canary outside of the box\n");
        }
        SmallBox { folder, root }
    }

    /// Writes the box's files below `root`, which may be there.
    pub fn fill(root: &Path) {
        for (path, text) in [
            (
                "usr/lib/os-release",
                "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_CODENAME=trixie\nID=debian\n",
            ),
            ("etc/hostname", "freedombox\n"),
            ("etc/fstab", "# nothing\n"),
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/bash\nwww-data:x:33:33::/:\nplinth:x:110:115::/:\nzoe:x:4711:4712::/:\n",
            ),
            ("etc/group", "root:x:0:\nwww-data:x:33:\nshadow:x:42:\nplinth:x:115:\nzoe:x:4712:\n"),
            ("etc/shadow", "root:*:20000:0:99999:7:::\n"),
            ("etc/cron.d/keep", "# a canary\n"),
            ("usr/bin/passwd", "a canary\n"),
            ("var/lib/freedombox/is-freedombox-disk-image", ""),
            ("var/lib/git/old.git/HEAD", "ref: refs/heads/main\n"),
            ("var/lib/github/keep", "a canary beside var/lib/git\n"),
            ("var/lib/tiddlywiki/old.html", "<html>old</html>\n"),
            ("etc/letsencrypt/cli.ini", "# old\n"),
            ("etc/apache2/conf-available/sharing-freedombox.conf", "# old\n"),
            ("etc/ssh/ssh_host_rsa_key", "old\n"),
            ("tmp/keep", "a canary\n"),
        ] {
            write(&root.join(path), text.as_bytes());
        }
        fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
        fs::set_permissions(root.join("etc/shadow"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(root.join("usr/bin/passwd"), fs::Permissions::from_mode(0o4755)).unwrap();
        let mut status = String::from(
            "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.22.21\n\n\
             Package: freedombox\nStatus: install ok installed\nArchitecture: all\nVersion: 25.9.3+deb13u1\n\n",
        );
        for package in PACKAGES {
            status += &format!("Package: {package}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n");
        }
        write(&root.join("var/lib/dpkg/status"), status.as_bytes());
        let path = root.join("var/lib/plinth/plinth.sqlite3");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let database = rusqlite::Connection::open(path).unwrap();
        let tables = "CREATE TABLE plinth_module (name TEXT PRIMARY KEY, setup_version INTEGER);
             CREATE TABLE plinth_kvstore (key TEXT PRIMARY KEY, value_json TEXT);
             INSERT INTO plinth_kvstore VALUES ('firstboot_completed', '1');";
        database.execute_batch(tables).unwrap();
        for (app, version) in SET_UP {
            database.execute("INSERT INTO plinth_module VALUES (?1, ?2)", (app, version)).unwrap();
        }
    }

    /// Everything in and around the box that no restore may touch.
    pub fn untouchable(&self, destinations: &[&str]) -> Tree {
        let mut left_out: Vec<String> = destinations.iter().map(|path| format!("around/box/{path}")).collect();
        left_out.push("around/box/var/lib/lifeboat".into());
        left_out.push("around/box/etc/systemd/system".into());
        let left_out: Vec<&str> = left_out.iter().map(String::as_str).collect();
        let mut tree = tree_without(self.folder.path(), &left_out);
        // A directory's time changes with the names in it; the names themselves are compared.
        for destination in destinations.iter().copied().chain(["var/lib/lifeboat", "etc/systemd/system"]) {
            for parent in Path::new("around/box").join(destination).ancestors().skip(1) {
                if let Some(node) = tree.get_mut(parent) {
                    node.mtime = (0, 0);
                }
            }
        }
        tree
    }
}

/// Writes a file and the directories above it.
pub fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A manifest of the third generation: apps with their directories and files.
pub fn manifest(apps: &[(&str, i64, &[&str], &[&str])]) -> String {
    let apps: Vec<_> = apps
        .iter()
        .map(|(name, version, directories, files)| {
            let data = serde_json::json!({ "directories": directories, "files": files });
            serde_json::json!({ "name": name, "version": version, "backup": { "data": data } })
        })
        .collect();
    serde_json::json!({ "apps": apps }).to_string()
}

/// The sample's generator and checker, run by Python; `None` with a message where that is missing.
pub fn sample(folder: &Path, args: &[&str]) -> Option<Sample> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sample/make.py");
    let mut command = Command::new("python3");
    let Ok(output) = command.arg("-B").arg(script).arg(folder).args(args).output() else {
        eprintln!("SKIPPED: python3 is not installed");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(Sample { folder: folder.to_owned() })
}

/// A sample box with a backup.
pub struct Sample {
    folder: PathBuf,
}

impl Sample {
    pub fn backup(&self) -> PathBuf {
        self.folder.join("backup.tar.gz")
    }

    pub fn root(&self) -> PathBuf {
        self.folder.join("box")
    }

    /// What the checker says of a restored root.
    pub fn check(&self, root: &Path) -> (bool, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sample/check.py");
        let mut command = Command::new("python3");
        let output = command.arg("-B").arg(script).arg(root).arg(self.folder.join("expected.json")).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Numbers that look random and are the same in every run (splitmix64).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// A path as Lifeboat writes it into JSON: other bytes than printable ones as `\xNN`.
pub fn unescaped(text: &str) -> PathBuf {
    let path: lifeboat::model::path::RelPath = serde_json::from_value(text.into()).unwrap();
    PathBuf::from(OsString::from_vec(path.as_bytes().to_vec()))
}

/// The bytes of a path.
pub fn raw(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
