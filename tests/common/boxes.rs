//! A small box, a backup of another one, and the program run on copies of the box.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "every test file takes what it needs")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "this is test code")]

use super::archives::is_root;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// Users of the box: the radicale user has another number than on the box that was backed up.
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\nradicale:x:121:127::/:/bin/false\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\nradicale:x:127:\n";
const PACKAGES: [&str; 9] = [
    "radicale",
    "certbot",
    "openssl",
    "roundcube",
    "roundcube-core",
    "roundcube-sqlite3",
    "sqlite3",
    "shaarli",
    "highlight",
];
const SET_UP: [(&str, i64); 4] = [("radicale", 4), ("letsencrypt", 4), ("roundcube", 4), ("shaarli", 1)];

/// What of an app lies where: app, version, its manifest's directories and files.
type App = (&'static str, i64, &'static [&'static str], &'static [&'static str]);

/// The apps of the backup. Not on the box: gitweb's package; miniflux has a database.
pub const APPS: [App; 6] = [
    ("radicale", 4, &["etc/radicale", "var/lib/radicale"], &[]),
    ("letsencrypt", 4, &["etc/letsencrypt"], &[]),
    ("roundcube", 4, &[], &["etc/roundcube/freedombox-config.php", DATABASE]),
    ("shaarli", 1, &["var/lib/shaarli/data"], &[]),
    ("gitweb", 3, &["var/lib/git"], &[]),
    ("miniflux", 2, &[], &["etc/miniflux/freedombox.conf", "var/lib/plinth/backups-data/miniflux-database.sql"]),
];
/// A database that is a single file.
pub const DATABASE: &str = "var/lib/dbconfig-common/sqlite3/roundcube/roundcube";
/// FreedomBox's own file inside an app's directory.
pub const DROPIN: &str = "etc/letsencrypt/renewal-hooks/deploy/50-freedombox";
/// What a restore of everything exchanges.
pub const LIVE: [&str; 6] = [
    "etc/radicale",
    "var/lib/radicale",
    "etc/letsencrypt",
    "etc/roundcube/freedombox-config.php",
    DATABASE,
    "var/lib/shaarli/data",
];

/// Why these tests cannot run here, if they cannot.
pub fn cannot_run() -> bool {
    if !cfg!(feature = "faults") {
        eprintln!("SKIPPED: the program has no fault points; use cargo test --features faults");
        return true;
    }
    needs_root()
}

pub fn needs_root() -> bool {
    if !is_root() {
        eprintln!("SKIPPED: owners need root");
    }
    !is_root()
}

/// A directory of the test's own, in memory where that is possible: these tests write to the medium all the time.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match tempfile::tempdir_in(memory) {
        Ok(dir) if keeps_attributes(dir.path()) => dir,
        _ => tempfile::tempdir().unwrap(),
    }
}

fn keeps_attributes(dir: &Path) -> bool {
    let probe = dir.join("probe");
    fs::write(&probe, "").unwrap();
    let file = fs::File::open(&probe).unwrap();
    let kept = rustix_set(&file);
    fs::remove_file(&probe).unwrap();
    kept
}

fn rustix_set(file: &fs::File) -> bool {
    use lifeboat::model::entry::Mtime;
    lifeboat::sys::dir::set_metadata(
        file,
        (0, 0),
        0o600,
        &[(b"user.probe".to_vec(), b"1".to_vec())],
        Mtime { secs: 1, nanos: 0 },
    )
    .is_ok()
}

pub fn sh(line: &str) -> String {
    let output = Command::new("/bin/sh").args(["-ec", line]).env("LC_ALL", "C").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes a file with its parents.
pub fn put(root: &Path, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Writes the files by which a FreedomBox is told.
pub fn system(root: &Path) {
    for folder in ["etc/systemd/system/timers.target.wants", "var/lib/plinth", "var/lib/dpkg", "usr/lib", "home", "srv"]
    {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    put(root, "etc/passwd", PASSWD);
    put(root, "etc/group", GROUP);
    put(root, "etc/hostname", "box\n");
    put(root, "etc/fstab", "");
    put(root, "etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_CODENAME=trixie\nID=debian\n");
    put(root, "home/kept", "not in any backup\n");
    let mut status = String::new();
    for (name, version, architecture) in PACKAGES
        .map(|name| (name, "1.0", "all"))
        .into_iter()
        .chain([("freedombox", "25.9.3", "all"), ("dpkg", "1.22", "amd64")])
    {
        status += &format!(
            "Package: {name}\nStatus: install ok installed\nArchitecture: {architecture}\nVersion: {version}\n\n"
        );
    }
    put(root, "var/lib/dpkg/status", status);
    let database = rusqlite::Connection::open(root.join("var/lib/plinth/plinth.sqlite3")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE plinth_module (name TEXT PRIMARY KEY, setup_version INTEGER);
             CREATE TABLE plinth_kvstore (key TEXT PRIMARY KEY, value_json TEXT);
             INSERT INTO plinth_kvstore VALUES ('firstboot_completed', '1');",
        )
        .unwrap();
    for (name, version) in SET_UP {
        database.execute("INSERT INTO plinth_module VALUES (?1, ?2)", (name, version)).unwrap();
    }
}

/// The box as it is before the restore.
pub fn make_box(root: &Path) {
    system(root);
    put(root, "etc/radicale/config", "old config\n");
    put(root, "var/lib/radicale/collections/old.ics", "old calendar\n");
    put(root, "var/lib/radicale/same", "the same on both\n");
    fs::create_dir_all(root.join("etc/letsencrypt/renewal-hooks/deploy")).unwrap();
    put(root, "etc/letsencrypt/old.conf", "old\n");
    symlink("/usr/share/freedombox/etc/letsencrypt/renewal-hooks/deploy/50-freedombox", root.join(DROPIN)).unwrap();
    put(root, "etc/roundcube/freedombox-config.php", "<?php // old\n");
    put(root, DATABASE, "old database");
    put(root, format!("{DATABASE}-wal"), "old log of the database");
    sh(&format!(
        "cd '{}'; chown -R 121:127 var/lib/radicale; chmod 2750 var/lib/radicale/collections; chmod 640 etc/radicale/config
         chown 33:33 {DATABASE} {DATABASE}-wal; find . -exec touch -h -d @1600000000 {{}} +",
        root.display()
    ));
}

/// The tree that was backed up.
pub fn make_source(root: &Path) {
    put(root, "etc/radicale/config", "new config\n");
    put(root, "etc/radicale/rights", "new rights\n");
    put(root, "var/lib/radicale/collections/a.ics", "a calendar\n");
    put(root, "var/lib/radicale/collections/deep/b.ics", "another calendar\n".repeat(9000));
    put(root, "var/lib/radicale/same", "the same on both\n");
    put(root, OsStr::from_bytes(b"var/lib/radicale/\xff\xfe bytes"), "a name that is not UTF-8\n");
    put(root, "etc/letsencrypt/archive/box/cert1.pem", "certificate\n");
    fs::create_dir_all(root.join("etc/letsencrypt/live/box")).unwrap();
    symlink("../../archive/box/cert1.pem", root.join("etc/letsencrypt/live/box/cert.pem")).unwrap();
    put(root, "etc/roundcube/freedombox-config.php", "<?php // new\n");
    put(root, DATABASE, "new database");
    put(root, "var/lib/shaarli/data/store.php", "links\n");
    put(root, "var/lib/git/one.git/HEAD", "ref: refs/heads/main\n");
    put(root, "etc/miniflux/freedombox.conf", "BASE_URL=x\n");
    let dump = "--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE a (b integer);\n\n--\n-- PostgreSQL database dump complete\n--\n\n";
    put(root, "var/lib/plinth/backups-data/miniflux-database.sql", dump);
    sh(&format!(
        "cd '{}'; ln var/lib/radicale/collections/a.ics var/lib/radicale/link.ics
         ln var/lib/radicale/collections/a.ics var/lib/shaarli/data/other.ics
         mkfifo var/lib/radicale/pipe; ln -s collections var/lib/radicale/short
         chown -Rh 106:109 var/lib/radicale; chmod 2770 var/lib/radicale/collections; chmod 600 etc/radicale/rights
         chown -R 33:33 var/lib/shaarli/data {DATABASE}; setfattr -n user.note -v new etc/radicale/config || true
         find . -exec touch -h -d @1700000000 {{}} +",
        root.display()
    ));
}

/// Packs a tree as FreedomBox's download does; users have the names of the box that was backed up.
pub fn pack(source: &Path, apps: &[App], archive: &Path) {
    let paths: Vec<&str> = apps.iter().flat_map(|(_, _, dirs, files)| dirs.iter().chain(*files)).copied().collect();
    let listed = apps.iter().map(|(name, version, directories, files)| {
        let absolute = |paths: &[&str]| paths.iter().map(|path| format!("/{path}")).collect::<Vec<_>>();
        serde_json::json!({"name": name, "version": version,
            "backup": {"data": {"directories": absolute(directories), "files": absolute(files)}}})
    });
    let manifest = serde_json::json!({"apps": listed.collect::<Vec<_>>()});
    let name = "var/lib/plinth/backups-manifests/sample.json";
    put(source, name, manifest.to_string());
    // Numbers of another box become names, as in every archive; the map is tar's own.
    put(source, "../owners", "+106 radicale:106\n+140 gituser:140\n");
    put(source, "../groups", "+109 radicale:109\n+141 gituser:141\n");
    sh(&format!(
        "cd '{}'; tar --sparse --xattrs --acls --owner-map=../owners --group-map=../groups -czf '{}' {} {name}",
        source.display(),
        archive.display(),
        paths.join(" ")
    ));
}

/// The originals: a box, a backup, and what stands for the program on the box.
pub struct Scene {
    pub dir: tempfile::TempDir,
    pub backup: PathBuf,
    pub program: PathBuf,
    pub plan: String,
    pub apps: Option<String>,
}

/// One run of the program.
#[derive(Debug)]
pub struct Run {
    /// `None`: killed.
    pub code: Option<i32>,
    pub json: serde_json::Value,
    pub stderr: String,
}

impl Run {
    /// Runs the program, with a fault, or with a list of the points at which there could be one.
    pub fn of(command: &mut Command, fault: Option<&str>, trace: Option<&Path>) -> Run {
        command.args(["--json", "--plain"]).stdin(Stdio::null());
        command.env_remove("LIFEBOAT_FAULT").env_remove("LIFEBOAT_FAULT_TRACE");
        fault.map(|fault| command.env("LIFEBOAT_FAULT", fault));
        trace.map(|trace| command.env("LIFEBOAT_FAULT_TRACE", trace));
        let output = command.output().unwrap();
        Run {
            code: output.status.code(),
            json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn failed_state(&self) -> &str {
        self.json["failure"]["state"].as_str().unwrap_or("(no state)")
    }
}

impl Scene {
    pub fn new() -> Scene {
        Scene::with(&APPS, |_| {}, |_| {})
    }

    /// A folder of its own with a copy of the box as it was, with programs and a FreedomBox that are none
    /// (`tests/finish`) beside it: a box that runs.
    pub fn running(&self) -> PathBuf {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let dir = self.dir.path().join(format!("case{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/finish");
        sh(&format!(
            "mkdir -p '{0}/package'; cp -a '{1}' '{0}/box'; cp -a '{2}/bin' '{0}/bin'; cp -a '{2}/plinth' '{0}/package/'
             cd '{0}/bin'; for name in systemctl apt-get dpkg getent timedatectl nmcli net; do cp machine $name; done",
            dir.display(),
            self.original().display(),
            here.display()
        ));
        let needed = ["gitweb", "miniflux", "postgresql"];
        let machine = serde_json::json!({
            "online": true, "available": needed, "up": true, "stopped": 0, "interrupted": [],
        });
        fs::write(dir.join("machine.json"), machine.to_string()).unwrap();
        dir
    }

    /// A scene with changes to the box and to the tree that is backed up.
    pub fn with(apps: &[App], on_box: impl Fn(&Path), on_source: impl Fn(&Path)) -> Scene {
        let dir = scratch();
        let (original, source) = (dir.path().join("original"), dir.path().join("source"));
        fs::create_dir(&original).unwrap();
        fs::create_dir(&source).unwrap();
        make_box(&original);
        on_box(&original);
        make_source(&source);
        on_source(&source);
        let backup = dir.path().join("backup.tar.gz");
        pack(&source, apps, &backup);
        let program = dir.path().join("program");
        fs::write(&program, "stands for the program\n").unwrap();
        let mut scene = Scene { dir, backup, program, plan: String::new(), apps: None };
        scene.plan = scene.plan_for(&scene.original());
        scene
    }

    pub fn original(&self) -> PathBuf {
        self.dir.path().join("original")
    }

    pub fn plan_for(&self, onto: &Path) -> String {
        let run = self.plan_run(onto);
        assert_eq!(run.code, Some(0), "{} {}", run.stderr, run.json);
        run.json["id"].as_str().unwrap().to_owned()
    }

    pub fn plan_run(&self, onto: &Path) -> Run {
        self.run(&self.args("plan", onto, &[]), None)
    }

    fn args(&self, command: &str, onto: &Path, more: &[&str]) -> Vec<std::ffi::OsString> {
        let mut args: Vec<std::ffi::OsString> = vec![command.into(), "--from".into(), self.backup.clone().into()];
        args.extend(["--onto".into(), onto.as_os_str().to_owned()]);
        args.extend(["--program".into(), self.program.clone().into()]);
        args.extend(self.apps.iter().flat_map(|apps| ["--apps".into(), apps.into()]));
        args.extend(more.iter().map(Into::into));
        args
    }

    /// A new copy of the box.
    pub fn fresh(&self) -> Fresh {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = self.dir.path().join(format!("box{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        sh(&format!("cp -a '{}' '{}'", self.original().display(), path.display()));
        Fresh { path }
    }

    pub fn restore(&self, onto: &Path, fault: Option<&str>) -> Run {
        self.run(&self.args("restore", onto, &["--consent", &self.plan]), fault)
    }

    pub fn run(&self, args: &[impl AsRef<OsStr>], fault: Option<&str>) -> Run {
        self.traced(args, fault, None)
    }

    pub fn on(&self, command: &str, onto: &Path, fault: Option<&str>) -> Run {
        self.run(&[command.as_ref(), "--onto".as_ref(), onto.as_os_str()], fault)
    }

    /// Every fault point of one run, in order, with its number.
    pub fn points(&self, run: impl Fn(&Path) -> Run) -> Vec<(String, u64)> {
        let trace = self.dir.path().join("trace");
        let _ = fs::remove_file(&trace);
        let done = run(&trace);
        assert_eq!(done.code, Some(0), "{} {}", done.stderr, done.json);
        let mut hits: BTreeMap<String, u64> = BTreeMap::new();
        let number = |name: &str| {
            let hit = hits.entry(name.to_owned()).or_default();
            *hit += 1;
            (name.to_owned(), *hit)
        };
        fs::read_to_string(&trace).unwrap().lines().map(number).collect()
    }

    pub fn traced_restore(&self, onto: &Path, trace: &Path) -> Run {
        self.traced(&self.args("restore", onto, &["--consent", &self.plan]), None, Some(trace))
    }

    pub fn traced_on(&self, command: &str, onto: &Path, trace: &Path) -> Run {
        self.traced(&[command.as_ref(), "--onto".as_ref(), onto.as_os_str()], None, Some(trace))
    }

    fn traced(&self, args: &[impl AsRef<OsStr>], fault: Option<&str>, trace: Option<&Path>) -> Run {
        Run::of(Command::new(env!("CARGO_BIN_EXE_lifeboat")).args(args), fault, trace)
    }

    pub fn status(&self, onto: &Path) -> serde_json::Value {
        let run = self.on("status", onto, None);
        assert_eq!(run.code, Some(0), "{} {}", run.stderr, run.json);
        run.json
    }
}

/// A copy of the box, removed when dropped.
pub struct Fresh {
    pub path: PathBuf,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl std::ops::Deref for Fresh {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.path
    }
}

/// What a tree is, entry by entry.
pub type Snapshot = BTreeMap<Vec<u8>, String>;

/// A line of it without the time.
pub fn timeless(line: &str) -> &str {
    line.split(" @").next().unwrap_or(line)
}

/// Everything below `root` but Lifeboat's own directory. Times of directories count only inside the apps' places:
/// whatever makes or removes a name changes those above.
pub fn snapshot(root: &Path) -> Snapshot {
    take(root, &|path| !path.starts_with("var/lib/lifeboat"))
}

/// Only the apps' places.
pub fn live(root: &Path) -> Snapshot {
    let sidecar = format!("{DATABASE}-wal");
    take(root, &|path| LIVE.iter().any(|place| path.starts_with(place)) || path == Path::new(&sidecar))
}

/// What Lifeboat keeps for the next boot.
pub fn handed_over(root: &Path) -> Snapshot {
    let kept = ["var/lib/lifeboat/bin", "var/lib/lifeboat/handoff.json", "var/lib/lifeboat/parked"];
    take(root, &|path| kept.iter().any(|place| path.starts_with(place)))
}

pub fn take(root: &Path, wanted: &dyn Fn(&Path) -> bool) -> Snapshot {
    let mut seen = Snapshot::new();
    let mut inodes: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap();
        if !wanted(path) {
            continue;
        }
        let meta = entry.path().symlink_metadata().unwrap();
        let kind = meta.file_type();
        let name = path.as_os_str().as_bytes().to_vec();
        let (what, content) = if kind.is_symlink() {
            ("link", fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes())
        } else if kind.is_file() {
            ("file", fs::read(entry.path()).unwrap())
        } else if kind.is_dir() {
            ("directory", Vec::new())
        } else {
            ("other", format!("{}", kind.is_fifo()).into_bytes())
        };
        let attributes = match kind.is_file() || kind.is_dir() {
            true => lifeboat::sys::dir::xattrs(fs::File::open(entry.path()).unwrap()).unwrap(),
            false => Vec::new(),
        };
        let inside = LIVE.iter().any(|place| path.starts_with(place))
            || path.starts_with("var/lib/lifeboat/parked/gitweb/var/lib/git");
        let time = if kind.is_dir() && !inside || path.starts_with("etc/systemd") { 0 } else { meta.mtime() };
        let written = path.starts_with("var/lib/lifeboat/bin") || path.ends_with("handoff.json");
        let time = if written { 0 } else { time };
        let first = inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| name.clone());
        let linked = if kind.is_file() { String::from_utf8_lossy(first).into_owned() } else { String::new() };
        let digest = lifeboat::model::digest::Sha256Digest::of(&content);
        let mode = if kind.is_symlink() { 0 } else { meta.permissions().mode() };
        let line = format!(
            "{what} {mode:o} {}:{} @{time} {attributes:?} {} bytes {digest} of {linked}",
            meta.uid(),
            meta.gid(),
            content.len()
        );
        seen.insert(name, line);
    }
    seen
}

/// The first differences between two trees, for people; empty when there are none.
pub fn difference(expected: &Snapshot, found: &Snapshot) -> String {
    let mut text = String::new();
    let paths: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    for path in paths.into_iter().filter(|path| expected.get(*path) != found.get(*path)).take(6) {
        let side = |tree: &Snapshot| tree.get(path).map_or("(nothing)".to_owned(), Clone::clone);
        text += &format!("\n   {}\n     - {}\n     + {}", String::from_utf8_lossy(path), side(expected), side(found));
    }
    text
}

/// Runs a check for every item on all processors; returns what went wrong.
pub fn in_parallel<T: Sync>(items: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicU64::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(item) = items.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap()) {
                    if let Err(what) = check(item) {
                        wrong.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}
