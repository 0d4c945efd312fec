//! The command line: types only, converted into the stages' inputs by `commands`.

use crate::model::app::AppId;
use crate::model::archive::ArchiveId;
use crate::model::ending::exit_code_help;
use crate::model::extra::Extra;
use crate::model::plan::PlanId;
use crate::words::Language;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Finds a FreedomBox and its backups, verifies them, and restores them so that a power cut can never leave a mixture.
#[derive(Debug, Parser)]
#[command(name = "lifeboat", version, max_term_width = 100, after_help = exit_code_help())]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print the result as JSON on standard output, and progress as JSON lines on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print plain lines only: no colours, no bars, no cursor movement.
    #[arg(long, global = true)]
    pub plain: bool,
    /// Write progress as JSON lines to this open file descriptor as well, at least one each second.
    #[arg(long, global = true, value_name = "N")]
    pub progress_fd: Option<u32>,
    /// Speak this language: en, de, fr or es. Without it, that of LC_ALL, LC_MESSAGES or LANG; the guide asks where these
    /// say nothing.
    #[arg(long, global = true, value_name = "CODE", value_parser = language)]
    pub language: Option<Language>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look for disks, FreedomBox systems and backups; changes nothing.
    Survey {
        /// Look into this disk image as well.
        #[arg(long, value_name = "FILE")]
        image: Vec<PathBuf>,
        /// Look into this directory as the root of a system or disk.
        #[arg(long, value_name = "DIR")]
        root: Vec<PathBuf>,
    },
    /// List the backups at a location: a file, a borg repository, or a directory to search.
    List {
        /// Where the backups are.
        location: PathBuf,
        /// Instead, archives that were deleted from borg repositories and are still there, whole or in part. Reads
        /// everything. They are verified, exported and restored by their ids.
        #[arg(long)]
        deleted: bool,
        /// What opens encrypted ones.
        #[command(flatten)]
        keys: KeyArgs,
    },
    /// Read a backup to its end and say which apps could be restored from it; changes nothing.
    Verify {
        /// Where the backup is.
        location: PathBuf,
        /// Which backup, by id or name, where the location holds several (see 'list').
        #[arg(long, value_name = "ID")]
        archive: Option<ArchiveId>,
        /// All backups at the location, one after the other. What the archives of a borg repository share is read once.
        #[arg(long, conflicts_with_all = ["archive", "apps"])]
        all: bool,
        /// Only these apps.
        #[arg(long, value_name = "A,B", value_delimiter = ',')]
        apps: Option<Vec<AppId>>,
        /// What opens an encrypted one.
        #[command(flatten)]
        keys: KeyArgs,
    },
    /// Write a backup as one file, in the form of FreedomBox's own downloads, with its checksum beside it.
    Export {
        /// Where the backup is.
        location: PathBuf,
        /// Which backup, by id or name, where the location holds several (see 'list').
        #[arg(long, value_name = "ID")]
        archive: Option<ArchiveId>,
        /// The new file; its name ends with .tar.gz (what FreedomBox's upload takes) or .tar.zst.
        file: PathBuf,
        /// Leave damaged files out instead of writing nothing.
        #[arg(long)]
        accept_damage: bool,
        /// What opens an encrypted one.
        #[command(flatten)]
        keys: KeyArgs,
    },
    /// Back up an installed FreedomBox from its disk onto a stick, in one step. It need not start any more.
    ///
    /// The file is FreedomBox-backups/TIME.tar.gz on the stick, in the form of FreedomBox's own downloads, with its
    /// checksum beside it, and is read back.
    Backup(BackupArgs),
    /// Copy a failing disk into an image, what matters most first, and list the files that are lost; never writes to the
    /// disk. Run it again to go on.
    Salvage(SalvageArgs),
    /// Show what a restore would do; changes nothing.
    Plan(PlanArgs),
    /// Rehearse a restore and say whether it would bring everything back; changes nothing and needs no box.
    ///
    /// The result is a dated page that begins with PASS or FAIL. It ends with the exit code of the worst fault.
    Drill(DrillArgs),
    /// Make the root filesystem of a box that was never started as large as its disk, as its first start would do it.
    ///
    /// Without --consent, shows what would be done and changes nothing. Run the same command again to go on after an
    /// interruption.
    Grow {
        /// The box: its disk or partition, or a disk image.
        #[arg(long, value_name = "TARGET")]
        onto: PathBuf,
        /// The id that was shown, if you agree to it.
        #[arg(long, value_name = "ID")]
        consent: Option<PlanId>,
    },
    /// Carry out a plan.
    Restore {
        /// What to restore where.
        #[command(flatten)]
        plan: PlanArgs,
        /// The id of the plan that you read and agree to.
        #[arg(long, value_name = "PLAN_ID")]
        consent: PlanId,
        /// Keep report.txt, report.json and full.log in this directory too; the box always has them.
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
    },
    /// Say where the restore on a box stands; changes nothing.
    Status(OntoArgs),
    /// Go on with an interrupted restore.
    Resume(OntoArgs),
    /// Put all old data back.
    Undo {
        /// Which box.
        #[command(flatten)]
        onto: OntoArgs,
        /// Undo also where an app was removed since: what its database held before the restore stays in a file.
        #[arg(long)]
        leave_dumps: bool,
    },
    /// Remove the old data for good.
    Commit {
        /// Which box.
        #[command(flatten)]
        onto: OntoArgs,
        /// Only when the 14 days are over for which the old data is kept; the box runs this every day.
        #[arg(long)]
        when_due: bool,
    },
    /// Walk through a rescue, one question at a time.
    Guide(GuideArgs),
    /// Run a program on a terminal that several consoles share; the live system starts its dialogue with it.
    #[command(hide = true)]
    Console {
        /// The consoles.
        #[arg(long, value_name = "TTY,TTY", value_delimiter = ',', required = true)]
        on: Vec<PathBuf>,
        /// Keep a copy of everything shown.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
        /// Keep this file saying in one word what the dialogue does: 'waiting' or 'working'.
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
        /// The program and its arguments.
        #[arg(required = true, last = true)]
        program: Vec<OsString>,
    },
    /// Finish on the running box what a restore left for it; its next boot starts this by itself.
    Finish {
        /// Which box.
        #[command(flatten)]
        onto: OntoArgs,
        /// Not sooner than it is due, and nothing that was given up; the box runs this.
        #[arg(long)]
        scheduled: bool,
    },
    /// Print the manual page, of all or of one command, as man(1) reads it.
    #[command(hide = true)]
    Man {
        /// The command.
        command: Option<String>,
    },
    /// Print the completions for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// A language by its code.
fn language(code: &str) -> Result<Language, String> {
    Language::of(code).ok_or_else(|| "it is none of en, de, fr and es".to_owned())
}

/// What to restore where.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Where the backup is: a file, a repository, or a directory to search.
    #[arg(long, value_name = "LOCATION")]
    pub from: PathBuf,
    /// Which backup, by id or name, where the location holds several (see 'list').
    #[arg(long, value_name = "ID")]
    pub archive: Option<ArchiveId>,
    /// The box: a mounted root directory, a disk image, or a block device.
    #[arg(long, value_name = "TARGET")]
    pub onto: PathBuf,
    /// Only these apps; without it, all apps in the backup.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub apps: Option<Vec<AppId>>,
    /// Bring over besides apps, from the disk of an old box: accounts (people with their passwords, groups and SSH keys),
    /// names (host name and domains), networks (connections with their passwords; all but Wi-Fi come switched off),
    /// backup-locations (with passphrases and schedules), folders (home folders, shared folders and downloads: what the
    /// new box does not have of them). What the new box has already stays as it is; its host name does not.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub extras: Vec<Extra>,
    /// Restore what is left of damaged apps too.
    #[arg(long)]
    pub accept_damage: bool,
    /// The Lifeboat program for the box, where this one does not fit its architecture.
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// What opens an encrypted backup.
    #[command(flatten)]
    pub keys: KeyArgs,
}

/// What to rehearse.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// Where the backup is: a file, a repository, or a directory to search.
    #[arg(long, value_name = "LOCATION")]
    pub from: PathBuf,
    /// Which backup, by id or name (see 'list'); without it, the newest.
    #[arg(long, value_name = "ID")]
    pub archive: Option<ArchiveId>,
    /// The box: a mounted root directory, a disk image, or a block device. Without it, a freshly installed box of the
    /// newest known FreedomBox is assumed.
    #[arg(long, value_name = "TARGET")]
    pub onto: Option<PathBuf>,
    /// Only these apps; without it, all apps in the backup.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub apps: Option<Vec<AppId>>,
    /// Fail when the backup is older than this.
    #[arg(long, value_name = "DAYS")]
    pub max_age: Option<u32>,
    /// The Lifeboat program for the box, where this one does not fit its architecture.
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// What opens an encrypted backup. What the box keeps itself is not used: it may be lost with the box.
    #[command(flatten)]
    pub keys: KeyArgs,
}

/// What opens an encrypted backup. Without it, the passphrase is asked for on a terminal.
#[derive(Debug, Clone, Args)]
pub struct KeyArgs {
    /// A file that holds the passphrase.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// An open file descriptor that gives the passphrase.
    #[arg(long, value_name = "N", conflicts_with = "passphrase_file")]
    pub passphrase_fd: Option<u32>,
    /// The key file of the repository, or what 'borg key export' wrote.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// An installed FreedomBox (a directory, a disk, an image) whose stored passphrases are tried first.
    #[arg(long, value_name = "SYSTEM")]
    pub old_system: Option<PathBuf>,
}

/// What to back up, and where to.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The box: its disk, an image of it (also a salvaged one), or the directory where its root is mounted.
    #[arg(long, value_name = "DISK")]
    pub from: PathBuf,
    /// The stick, or a folder, on another disk.
    #[arg(long, value_name = "USB|DIR")]
    pub to: PathBuf,
    /// Pack with Zstandard: faster and smaller, but FreedomBox's own upload page does not take it.
    #[arg(long)]
    pub zstd: bool,
    /// Encrypt it with a passphrase, in the format of age. It is asked for on a terminal; without it, nobody can open
    /// the file.
    #[arg(long)]
    pub encrypt: bool,
    /// A file that holds the passphrase.
    #[arg(long, value_name = "FILE", requires = "encrypt")]
    pub passphrase_file: Option<PathBuf>,
    /// An open file descriptor that gives the passphrase.
    #[arg(long, value_name = "N", requires = "encrypt", conflicts_with = "passphrase_file")]
    pub passphrase_fd: Option<u32>,
    /// Leave damaged files out instead of writing nothing.
    #[arg(long)]
    pub accept_damage: bool,
}

/// What to salvage, and how hard.
#[derive(Debug, Args)]
pub struct SalvageArgs {
    /// The failing disk, or an image of one.
    pub disk: PathBuf,
    /// The image, or a folder for it, on another disk. Its map, which ddrescue reads too, gets the same name and .map.
    #[arg(long, value_name = "FILE|DIR")]
    pub to: PathBuf,
    /// How long the failing reads of one bad area may take in one pass.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub patience: u32,
    /// How often bad sectors are tried again at the end.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub retries: u32,
}

/// How the guide is taken part in.
#[derive(Debug, Args)]
pub struct GuideArgs {
    /// Look into this disk image as well.
    #[arg(long, value_name = "FILE")]
    pub image: Vec<PathBuf>,
    /// Look into this directory as the root of a system or disk.
    #[arg(long, value_name = "DIR")]
    pub root: Vec<PathBuf>,
    /// Keep report.txt, report.json and full.log of a restore in this directory too; the box always has them.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Take the answers from this file and ask nobody; a question without a fitting answer stops.
    #[arg(long, value_name = "FILE")]
    pub answers: Option<PathBuf>,
    /// Also on a page for browsers on the local network, over HTTPS; a code that is shown here lets one in.
    #[arg(long, conflicts_with = "answers")]
    pub web: bool,
    /// Where the page is; without it, port 443 of all addresses, to which port 80 sends browsers on.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "web")]
    pub listen: Option<SocketAddr>,
    /// The page's name on the local network, without .local.
    #[arg(long, value_name = "NAME", requires = "web", default_value = "freedombox-recovery", value_parser = host_name)]
    pub name: String,
    /// At the end, where a browser takes part, also offer to switch the computer off or to restart it, and write what was chosen into this file:
    /// 'power-off', 'restart' or 'end'. The caller does it.
    #[arg(long, value_name = "FILE", requires = "web")]
    pub after: Option<PathBuf>,
    /// Keep this file saying how the page is reached, with the code, and what it waits for.
    #[arg(long, value_name = "FILE", requires = "web")]
    pub status: Option<PathBuf>,
}

/// A name of one part, as names on a network are.
fn host_name(text: &str) -> Result<String, String> {
    let is_sign = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name =
        (1..=63).contains(&text.len()) && text.bytes().all(is_sign) && !text.starts_with('-') && !text.ends_with('-');
    if is_name { Ok(text.to_owned()) } else { Err("it may have small letters, digits and '-'".to_owned()) }
}

/// Which box.
#[derive(Debug, Args)]
pub struct OntoArgs {
    /// The box: a mounted root directory, a disk image, or a block device.
    #[arg(long, value_name = "TARGET")]
    pub onto: PathBuf,
}
