//! A full disk: the folder of state lies on a small file system of its own, in a mount namespace of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sluice_tests::engine::{Run, binary, file};
use sluice_tests::jobs::{
    DEADLINE, Input, JOBS, Job, assert_no_garbage, assert_same, bootstrap, content, created, ended_well, reference_of,
};
use sluice_tests::services::{Process, wait_until};
use tempfile::TempDir;

/// A page of tmpfs.
const PAGE: usize = 4096;
const SIZE: &str = "4m";

/// A tmpfs that only the processes started in it see by its name. It is there as long as this.
pub struct Small {
    holder: Process,
    at: TempDir,
}

impl Small {
    /// Without the right to mount the namespace of a user of its own gives it, where the system lets us have one.
    fn unshare() -> &'static [&'static str] {
        let may = |args: &[&str]| {
            let done = Command::new("unshare").args(args).args(["sh", "-c", "mount -t tmpfs none /mnt"]).stderr(Stdio::null()).status();
            done.is_ok_and(|s| s.success())
        };
        [&["-m"][..], &["-rm"]].into_iter().find(|args| may(args)).unwrap_or_default()
    }

    pub fn possible() -> bool {
        !Self::unshare().is_empty()
    }

    fn new() -> Self {
        let at = TempDir::new().unwrap();
        let script = format!("mount -t tmpfs -o size={SIZE} none \"$0\" && echo mounted && exec sleep 3600");
        let log = at.path().with_extension("log");
        let mut command = Command::new("unshare");
        command.args(Self::unshare()).args(["sh", "-c", &script]).arg(at.path());
        let holder = Process::spawn(&mut command, &log);
        wait_until("the small disk", Duration::from_secs(30), || holder.log_text().contains("mounted"));
        fs::remove_file(log).unwrap();
        Self { holder, at }
    }

    /// Its name within.
    fn path(&self) -> String {
        self.at.path().display().to_string()
    }

    /// Its name for us.
    fn outside(&self) -> PathBuf {
        Path::new("/proc").join(self.holder.pid().to_string()).join("root").join(self.at.path().strip_prefix("/").unwrap())
    }

    /// Runs a script within.
    fn run(&self, script: &Path, args: &[&str]) -> Run {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.pid().to_string(), "-m"]);
        if Self::unshare().contains(&"-rm") {
            command.args(["-U", "--preserve-credentials"]);
        }
        Run::spawn(command.arg(binary()).arg("run").arg(script).args(args))
    }

    /// Leaves room for so many pages.
    fn fill(&self, left: usize) {
        let mut ballast = fs::File::create(self.outside().join("ballast")).unwrap();
        let mut pages = 0;
        while ballast.write_all(&[1; PAGE]).is_ok() {
            pages += 1;
        }
        ballast.set_len(((pages - left) * PAGE) as u64).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.outside().join("ballast")).unwrap();
    }
}

/// A job with its state on a small disk.
struct Disked {
    disk: Small,
    job: &'static Job,
    input: Input,
    to: String,
    script: tempfile::NamedTempFile,
}

impl Disked {
    fn new(job: &'static Job) -> Self {
        let (disk, input, to) = (Small::new(), Input::new(bootstrap()), created(job.name));
        let dir = disk.path();
        let settings = [
            ("execution.checkpointing.dir", dir.as_str()),
            ("restart-strategy.type", "fixed-delay"),
            ("restart-strategy.fixed-delay.attempts", "infinite"),
            ("restart-strategy.fixed-delay.delay", "200 ms"),
        ];
        let script = file(&input.script(bootstrap(), job, &to, "", &settings), ".sql");
        Self { disk, job, input, to, script }
    }

    fn rows(&self) -> usize {
        content(&self.to).values().map(Vec::len).sum()
    }

    fn wait_for(&self, run: &mut Run, what: &str, mut ready: impl FnMut(&Run) -> bool) {
        let started = Instant::now();
        while !ready(run) {
            assert!(!run.ended() && started.elapsed() < DEADLINE, "{}: no {what}: {}", self.job.name, run.stderr());
            sleep(Duration::from_millis(50));
        }
    }

    /// It has said which file it could not write, and why.
    fn says_so(&self, text: &str) -> bool {
        let place = format!("state file {}/{}/", self.disk.path(), self.to);
        text.lines().any(|l| l.contains(&place) && l.contains("No space left on device"))
    }

    fn finish(self, mut run: Run) {
        let wanted = reference_of(&self.input, self.job);
        let rows = wanted.values().map(Vec::len).sum::<usize>();
        self.wait_for(&mut run, "end of the input", |_| self.rows() >= rows);
        ended_well(&run.stop(DEADLINE), self.job.name);
        assert_same(&content(&self.to), &wanted, self.job.name);
        assert_no_garbage(&self.disk.outside(), &self.to, self.job.name);
    }
}

/// The job fails and tries again until there is room.
pub fn while_it_runs() {
    // Room for nothing, and for a part of a file.
    for left in [0, 2] {
        let lab = Disked::new(&JOBS[2]);
        lab.input.fill(0..900);
        let mut run = lab.disk.run(lab.script.path(), &[]);
        lab.wait_for(&mut run, "first commit", |_| lab.rows() > 0);
        lab.disk.fill(left);
        lab.input.fill(900..9000);
        lab.wait_for(&mut run, "error", |run| lab.says_so(&run.stderr()) && run.stderr().contains("times in a row"));
        lab.disk.free();
        lab.finish(run);
    }
}

/// The process has ended while the disk was full, and is started on the full disk.
pub fn at_a_new_start() {
    let lab = Disked::new(&JOBS[2]);
    lab.input.fill(0..900);
    let mut run = lab.disk.run(lab.script.path(), &[]);
    lab.wait_for(&mut run, "first commit", |_| lab.rows() > 0);
    lab.disk.fill(1);
    lab.input.fill(900..9000);
    lab.wait_for(&mut run, "error", |run| lab.says_so(&run.stderr()));
    run.signal("KILL");
    run.wait(DEADLINE);
    let mut run = lab.disk.run(lab.script.path(), &[]);
    lab.wait_for(&mut run, "error", |run| lab.says_so(&run.stderr()));
    run.signal("KILL");
    run.wait(DEADLINE);
    let savepoint = format!("{}/savepoint", lab.disk.path());
    // Stopped with a savepoint for which there is no room: an error, and no manifest that tells of half of it.
    let once = fs::read_to_string(lab.script.path()).unwrap().replace("'fixed-delay'", "'none'");
    let stopped = lab.disk.run(file(&once, ".sql").path(), &["--bounded", "--savepoint-at-end", &savepoint]).wait(DEADLINE);
    assert_eq!(stopped.status.code(), Some(1), "{}", String::from_utf8_lossy(&stopped.stderr));
    assert!(!lab.disk.outside().join("savepoint/manifest.json").exists());
    lab.disk.free();
    let run = lab.disk.run(lab.script.path(), &[]);
    lab.finish(run);
}

/// Without Kafka the record is a file on the full disk, too: the old one stays until the new one is whole.
pub fn record_is_a_file() {
    let (disk, input) = (Small::new(), TempDir::new().unwrap());
    let part = |n: u32| {
        let rows = (0..2000).map(|i| format!("{{\"k\":{},\"v\":{i}}}\n", n * 2000 + i));
        fs::write(input.path().join(format!("{n:02}.json")), rows.collect::<String>()).unwrap();
    };
    let script = format!(
        "SET 'execution.checkpointing.interval' = '1 ms'; SET 'execution.checkpointing.dir' = '{}'; SET 'pipeline.name' = 'files';
         SET 'restart-strategy.type' = 'none';
         CREATE TABLE a (k INT, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         CREATE TABLE result (n BIGINT, s BIGINT) WITH ('connector' = 'print');
         INSERT INTO result SELECT COUNT(*), SUM(n) FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k);",
        disk.path(),
        input.path().display()
    );
    let script = file(&script, ".sql");
    part(0);
    ended_well(&disk.run(script.path(), &[]).wait(DEADLINE), "the first part");
    for left in [0, 1] {
        disk.fill(left);
        part(left as u32 + 1);
        let output = disk.run(script.path(), &[]).wait(DEADLINE);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{left} pages: {text}");
        assert!(text.contains(&format!("{}/files/", disk.path())) && text.contains("No space left on device"), "{left} pages: {text}");
        disk.free();
        let output = disk.run(script.path(), &[]).wait(DEADLINE);
        ended_well(&output, "with room again");
    }
    // All that is there, once.
    let text = String::from_utf8_lossy(&disk.run(script.path(), &[]).wait(DEADLINE).stdout).into_owned();
    part(9);
    let output = disk.run(script.path(), &[]).wait(DEADLINE);
    let last = String::from_utf8_lossy(&output.stdout).lines().rev().find(|l| l.contains("+U")).unwrap_or_default().to_owned();
    assert!(last.contains("8000"), "{last}\n{text}");
    assert_no_garbage(&disk.outside(), "files", "files");
}
