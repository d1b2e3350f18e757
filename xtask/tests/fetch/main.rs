//! `cargo xtask fetch-weights` and `fetch-data` as a person runs them, against a hub on the loopback.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod server;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use server::{Entry, Fault, Server, Side, sha256};
use tempfile::TempDir;

const REPO: &str = "owner/net";
const FILE: &str = "model.safetensors";
const TOKEN: &str = "hf_secret";

/// A hub with one large file on branch `main`, and an empty home.
struct Bench {
    server: Server,
    home: TempDir,
    bytes: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self::with(1_500_000)
    }

    fn with(size: usize) -> Self {
        let bytes: Vec<u8> =
            (0..size as u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 23) as u8).collect();
        let server = Server::start();
        server.put(REPO, "main", FILE, Entry::large('c', bytes.clone()));
        let home = tempfile::tempdir().unwrap();
        let bench = Self { server, home, bytes };
        bench.manifest(FILE, "main");
        bench
    }

    fn manifest(&self, file: &str, revision: &str) {
        let text = format!(
            "[[file]]\nset = \"net\"\npart = \"visual\"\nrepo = \"{REPO}\"\nrevision = \"{revision}\"\nfile = \"{file}\"\n\
             licence = \"none\"\nused_by = \"tests\"\n"
        );
        std::fs::write(self.path("weights.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn blobs(&self) -> PathBuf {
        self.path("hf/hub/models--owner--net/blobs")
    }

    fn part(&self) -> PathBuf {
        self.blobs().join(format!("{}.incomplete", sha256(&self.bytes)))
    }

    fn pointer(&self) -> PathBuf {
        self.path(&format!("hf/hub/models--owner--net/snapshots/{}/{FILE}", "c".repeat(40)))
    }

    fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        self.environment(&mut command);
        command.arg(verb).args(args);
        let (manifest, lock) = (self.path("weights.toml"), self.path("weights.lock"));
        command.arg("--manifest").arg(manifest).arg("--lock").arg(lock);
        command
    }

    /// Nothing of the surrounding environment reaches the program.
    fn environment(&self, command: &mut Command) {
        for (name, _) in std::env::vars() {
            if name.starts_with("HF_") || name.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command.env("HF_ENDPOINT", &self.server.endpoint);
        command.env("HF_HOME", self.path("hf")).env("HF_TOKEN", TOKEN);
        command.env("HOME", self.home.path()).stdin(Stdio::null());
    }

    fn fetch(&self, args: &[&str]) -> Run {
        Run::of(self.command("fetch-weights", args).arg("net"))
    }

    fn assert_here(&self) {
        assert!(std::fs::read(self.pointer()).unwrap() == self.bytes, "not the file");
        assert!(!self.part().exists(), "the part is left");
        let lock = std::fs::read_to_string(self.path("weights.lock")).unwrap();
        assert!(lock.contains(&sha256(&self.bytes)), "{lock}");
    }

    fn assert_not_here(&self) {
        assert!(self.pointer().symlink_metadata().is_err(), "an unverified file has the name");
        assert!(!self.path("weights.lock").exists(), "an unverified file is locked");
    }
}

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }

    /// Bad input: status 2 and a message that holds all of `words`.
    fn refused(self, words: &[&str]) -> Self {
        self.ended(2, words)
    }

    /// The machine or the network failed: status 1.
    fn failed(self, words: &[&str]) -> Self {
        self.ended(1, words)
    }

    fn ended(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in: {}", self.err);
        }
        assert!(!self.err.contains("panicked") && !self.err.contains(TOKEN), "{}", self.err);
        self
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn len(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| meta.len())
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let clock = Instant::now();
    while !condition() {
        assert!(clock.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_first_run_fetches_and_the_second_does_nothing() {
    let bench = Bench::new();
    let run = bench.fetch(&[]).ok();
    bench.assert_here();
    let line = format!("net\tvisual\t{}\tfetched, verified, 1.5 MB\n", bench.pointer().display());
    assert_eq!(run.out, line);
    assert_eq!(
        std::fs::read_to_string(bench.path("hf/hub/models--owner--net/refs/main")).unwrap(),
        "c".repeat(40)
    );
    // Redirected to another host: without the token.
    let seen = bench.server.seen();
    assert!(seen.iter().any(|s| s.side == Side::Cdn && s.method == "GET"));
    for request in &seen {
        let token = (request.side == Side::Hub).then(|| format!("Bearer {TOKEN}"));
        assert_eq!(request.token, token, "{request:?}");
    }
    let run = bench.fetch(&[]).ok();
    assert!(run.out.contains("already here"), "{}", run.out);
    // `all` as well, and when nobody listens at the endpoint.
    let mut dead = bench.command("fetch-weights", &["all"]);
    Run::of(dead.env("HF_ENDPOINT", "http://127.0.0.1:1")).ok();
    assert_eq!(bench.server.seen().len(), seen.len(), "the second run made requests");
}

#[test]
fn a_small_file_is_verified_by_its_git_blob_id() {
    let bench = Bench::new();
    let bytes = b"{\"hidden\": 384}\n".to_vec();
    let entry = Entry { large: false, ..Entry::large('d', bytes.clone()) };
    bench.server.put(REPO, "v1", "sub/config.json", entry);
    bench.manifest("sub/config.json", "v1");
    let run = bench.fetch(&[]).ok();
    let path = run.out.split('\t').nth(2).unwrap().to_owned();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let lock = std::fs::read_to_string(bench.path("weights.lock")).unwrap();
    assert!(lock.contains(&sha256(&bytes)) && lock.contains(&server::git_blob(&bytes)), "{lock}");
    // The hub itself serves it, so the token goes along.
    assert!(bench.server.seen().iter().all(|s| s.side == Side::Hub && s.token.is_some()));
    bench.fetch(&[]).ok();
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    let bench = Bench::new();
    bench.server.faults(Side::Cdn, [Fault::Cut(400_000), Fault::Cut(500_000)]);
    bench.fetch(&[]).ok();
    bench.assert_here();
    assert_eq!(bench.server.gets(), [None, Some(400_000), Some(900_000)]);
}

#[test]
fn a_killed_process_is_taken_up_by_the_next() {
    let bench = Bench::with(8_000_000);
    bench.server.faults(Side::Cdn, [Fault::Slow(Duration::from_millis(30))]);
    let mut child: Child = bench
        .command("fetch-weights", &["net"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("a part grows", || len(&bench.part()) > 1_000_000);
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let had = len(&bench.part());
    assert!(had < 8_000_000, "the transfer was too fast for the test");
    bench.assert_not_here();
    let run = bench.fetch(&[]).ok();
    assert!(run.err.contains("going on at"), "{}", run.err);
    bench.assert_here();
    assert_eq!(bench.server.gets(), [None, Some(had)]);
}

#[test]
fn a_silent_connection_is_given_up() {
    let bench = Bench::new();
    bench.server.faults(Side::Cdn, [Fault::Silence(300_000)]);
    let clock = Instant::now();
    bench.fetch(&["--silence", "1"]).ok();
    bench.assert_here();
    assert!(clock.elapsed() < Duration::from_secs(5), "it waited for the server to close");
    assert_eq!(bench.server.gets(), [None, Some(300_000)]);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let bench = Bench::new();
    bench.server.faults(Side::Cdn, [Fault::Cut(400_000), Fault::NoRange]);
    bench.fetch(&[]).ok();
    bench.assert_here();
}

#[test]
fn a_wrong_checksum_never_gets_the_name() {
    let bench = Bench::new();
    bench.server.faults(Side::Cdn, [Fault::Damage]);
    let stated = sha256(&bench.bytes);
    bench.fetch(&[]).failed(&["wrong checksum", &stated, "deleted"]);
    bench.assert_not_here();
    assert!(!bench.part().exists());
    bench.fetch(&[]).ok();
    bench.assert_here();
}

#[test]
fn a_part_that_spoilt_on_disk_is_fetched_from_the_start() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.blobs()).unwrap();
    std::fs::write(bench.part(), vec![9; 700_000]).unwrap();
    let run = bench.fetch(&[]).ok();
    assert!(run.err.contains("from the start"), "{}", run.err);
    bench.assert_here();
    assert_eq!(bench.server.gets(), [Some(700_000), None]);
    // Longer than the file: no use at all.
    let bench = Bench::new();
    std::fs::create_dir_all(bench.blobs()).unwrap();
    std::fs::write(bench.part(), vec![9; 2_000_000]).unwrap();
    bench.fetch(&[]).ok();
    assert_eq!(bench.server.gets(), [None]);
}

#[test]
fn a_wrong_size_is_refused() {
    for fault in [Fault::Longer(10), Fault::LongerChunked(10)] {
        let bench = Bench::new();
        bench.server.faults(Side::Cdn, [fault]);
        bench.fetch(&[]).failed(&["the hub states 1500000 bytes"]);
        bench.assert_not_here();
        bench.fetch(&[]).ok();
        bench.assert_here();
    }
}

#[test]
fn refusals_name_the_remedy_and_are_not_repeated() {
    let refused =
        |status: u16, headers: &'static [(&'static str, &'static str)], words: &[&str]| {
            let bench = Bench::new();
            bench.server.faults(Side::Hub, [Fault::Status(status, headers)]);
            bench.fetch(&[]).refused(words);
            bench.assert_not_here();
            assert_eq!(bench.server.seen().len(), 1);
        };
    let unknown = &[("X-Error-Message", "Repository not found")];
    refused(401, unknown, &["401", "Repository not found", "HF_TOKEN"]);
    refused(403, &[("X-Error-Code", "GatedRepo")], &["403", "accept the repository's terms"]);
    refused(404, &[("X-Error-Code", "RevisionNotFound")], &["404", "no such revision"]);
    refused(404, &[], &["404", "check repository"]);
    let bench = Bench::new();
    bench.manifest("other.bin", "main");
    bench.fetch(&[]).refused(&["404", "no such file"]);
}

#[test]
fn passing_faults_are_waited_for() {
    let bench = Bench::new();
    let clock = Instant::now();
    bench
        .server
        .faults(Side::Hub, [Fault::Status(429, &[("Retry-After", "2")]), Fault::Status(503, &[])]);
    // An address of the CDN that expired: the hub is asked for another.
    bench.server.faults(Side::Cdn, [Fault::Status(403, &[]), Fault::Status(500, &[])]);
    bench.fetch(&[]).ok();
    bench.assert_here();
    assert!(clock.elapsed() >= Duration::from_secs(2), "Retry-After was not kept");
    assert_eq!(bench.server.seen().iter().filter(|s| s.side == Side::Hub).count(), 3 + 2);
}

#[test]
fn lasting_faults_end_after_the_tries_asked_for() {
    for side in [Side::Hub, Side::Cdn] {
        let bench = Bench::new();
        bench.server.faults(side, vec![Fault::Status(500, &[]); 9]);
        bench.fetch(&["--retries", "1"]).failed(&["500", "gave up after 2 tries"]);
        bench.assert_not_here();
        assert_eq!(bench.server.seen().iter().filter(|s| s.side == side).count(), 2);
    }
    let bench = Bench::new();
    let mut dead = bench.command("fetch-weights", &["net", "--retries", "0"]);
    Run::of(dead.env("HF_ENDPOINT", "http://127.0.0.1:1"))
        .failed(&["no answer from http://127.0.0.1:1"]);
}

/// A limit on the size of files makes writes fail like a full disk, and needs no privilege.
#[cfg(unix)]
#[test]
fn a_full_disk_is_said_and_the_next_run_goes_on() {
    let bench = Bench::new();
    let fetch = bench.command("fetch-weights", &["net"]);
    let mut shell = Command::new("sh");
    // Without the trap the signal ends the process before the write can fail.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "sh"]);
    shell.arg(fetch.get_program()).args(fetch.get_args());
    bench.environment(&mut shell);
    Run::of(&mut shell).failed(&["cannot write", "make room", "HF_HOME", "goes on at byte"]);
    bench.assert_not_here();
    let had = len(&bench.part());
    assert!((1..=1_048_576).contains(&had), "{had}");
    bench.fetch(&[]).ok();
    bench.assert_here();
    assert_eq!(bench.server.gets(), [None, Some(had)]);
}

/// The same on a disk that is really full; needs the right to mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_really_full() {
    let bench = Bench::new();
    let disk = bench.path("hf");
    std::fs::create_dir(&disk).unwrap();
    let mount = |size: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(&disk).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success())
    };
    if !mount("size=1m") {
        println!("skipped: no right to mount a small disk");
        return;
    }
    let run = bench.fetch(&[]);
    let grown = mount("remount,size=4m");
    let again = bench.fetch(&[]);
    let here = std::fs::read(bench.pointer()).ok();
    Command::new("umount").arg(&disk).status().unwrap();
    run.failed(&["No space left on device", "make room"]);
    assert!(grown);
    again.ok();
    assert!(here.as_ref() == Some(&bench.bytes));
    assert!(bench.server.gets()[1].is_some_and(|from| from > 0), "it did not go on");
}

#[test]
fn offline_reads_the_disk_only() {
    let bench = Bench::new();
    let offline = |bench: &Bench| {
        Run::of(bench.command("fetch-weights", &["net"]).env("HF_HUB_OFFLINE", "1"))
    };
    offline(&bench).refused(&["HF_HUB_OFFLINE", "owner/net@main/model.safetensors"]);
    bench.fetch(&[]).ok();
    let requests = bench.server.seen().len();
    assert!(offline(&bench).ok().out.contains("already here"));
    // A cache that another tool filled: no lock yet, the blob's name is the hub's checksum.
    std::fs::remove_file(bench.path("weights.lock")).unwrap();
    assert!(offline(&bench).ok().out.contains("found in the cache"));
    bench.assert_here();
    assert_eq!(bench.server.seen().len(), requests);
    // Damaged: named, and not replaced.
    let blob = bench.blobs().join(sha256(&bench.bytes));
    std::fs::write(&blob, vec![0; bench.bytes.len()]).unwrap();
    offline(&bench).refused(&["damaged", "HF_HUB_OFFLINE"]);
    std::fs::remove_file(bench.path("weights.lock")).unwrap();
    offline(&bench).refused(&["damaged", "HF_HUB_OFFLINE"]);
}

#[test]
fn a_damaged_cache_is_repaired() {
    let bench = Bench::new();
    bench.fetch(&[]).ok();
    let blob = bench.blobs().join(sha256(&bench.bytes));
    std::fs::write(&blob, vec![0; bench.bytes.len()]).unwrap();
    let run = bench.fetch(&[]).ok();
    assert!(run.err.contains("damaged"), "{}", run.err);
    bench.assert_here();
    // Without its lock the file is verified against the hub and kept.
    std::fs::remove_file(bench.path("weights.lock")).unwrap();
    assert!(bench.fetch(&[]).ok().out.contains("found in the cache"));
    assert_eq!(bench.server.gets().len(), 2);
}

#[test]
fn the_lock_outlives_the_branch_and_catches_a_changed_file() {
    let bench = Bench::new();
    bench.fetch(&[]).ok();
    let wipe = || std::fs::remove_dir_all(bench.path("hf")).unwrap();
    // The branch moves on: the locked commit is fetched all the same.
    let newer = vec![5; 1000];
    bench.server.put(REPO, "main", FILE, Entry::large('e', newer.clone()));
    wipe();
    bench.fetch(&[]).ok();
    bench.assert_here();
    // On request the new one is locked.
    let run = bench.fetch(&["--update"]).ok();
    let path = run.out.split('\t').nth(2).unwrap();
    assert!(path.contains(&"e".repeat(40)) && std::fs::read(path).unwrap() == newer);
    // The same commit with other contents: not believed.
    bench.server.put(REPO, "main", FILE, Entry::large('e', vec![6; 1000]));
    wipe();
    bench.fetch(&[]).refused(&["the hub states checksum", "weights.lock says", "--update"]);
    bench.server.put(REPO, "main", FILE, Entry::large('e', vec![6; 999]));
    bench.fetch(&[]).refused(&["the hub states size 999", "--update"]);
    // The list asks for another revision than the lock holds.
    bench.manifest(FILE, "v2");
    bench.fetch(&[]).refused(&["was written for revision main", "--update"]);
}

#[test]
fn two_processes_fetch_once() {
    let bench = Bench::with(4_000_000);
    bench.server.faults(Side::Cdn, [Fault::Slow(Duration::from_millis(20))]);
    let start = || {
        let mut command = bench.command("fetch-weights", &["net"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first = start();
    wait_until("a part grows", || len(&bench.part()) > 100_000);
    let second = Run::from(start().wait_with_output().unwrap()).ok();
    Run::from(first.wait_with_output().unwrap()).ok();
    assert!(second.err.contains("waiting for it"), "{}", second.err);
    assert_eq!(bench.server.gets(), [None]);
    bench.assert_here();
}

#[test]
fn listing_makes_no_request() {
    let bench = Bench::new();
    let run = Run::of(&mut bench.command("fetch-weights", &["--list"])).ok();
    assert!(
        run.out.contains("owner/net@main/model.safetensors") && run.out.contains("not fetched yet")
    );
    assert!(bench.server.seen().is_empty());
    bench.fetch(&[]).ok();
    let run = Run::of(&mut bench.command("fetch-weights", &["--list"])).ok();
    assert!(run.out.contains(&bench.pointer().display().to_string()), "{}", run.out);
    let run = Run::of(&mut bench.command("fetch-weights", &["nothing"]));
    run.refused(&["no set \"nothing\"", "net, all"]);
}

#[test]
fn a_dataset_file_of_a_hub_lands_in_the_datasets_folder() {
    let bench = Bench::new();
    let entry = Entry::large('f', vec![3; 50_000]);
    bench.server.put("datasets/owner/refs", "main", "refs.tar.gz", entry);
    let text = "[[dataset]]\nname = \"refs\"\ntitle = \"t\"\ndir = \"data/refs\"\nlicence = \"none\"\nexpect = [\"refs.p\"]\n\
                steps = [\"tar -xzf data/refs/refs.tar.gz\"]\n[[dataset.source]]\nwhat = \"w\"\nurl = \"https://example.org\"\n\
                seen = \"s\"\nhub = { repo = \"owner/refs\", revision = \"main\", file = \"refs.tar.gz\" }\n";
    std::fs::write(bench.path("weights.toml"), text).unwrap();
    let fetch =
        || Run::of(bench.command("fetch-data", &["refs"]).arg("--root").arg(bench.home.path()));
    let run = fetch();
    assert_eq!(run.code, Some(1), "{}{}", run.out, run.err);
    assert!(run.out.contains("still missing: data/refs/refs.p"), "{}", run.out);
    assert!(run.out.contains("tar -xzf"), "{}", run.out);
    assert_eq!(std::fs::read(bench.path("data/refs/refs.tar.gz")).unwrap(), vec![3; 50_000]);
    std::fs::write(bench.path("data/refs/refs.p"), "").unwrap();
    assert!(fetch().ok().out.contains("complete"));
    assert!(bench.path("hf/hub/datasets--owner--refs/refs/main").exists());
}
