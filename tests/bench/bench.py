"""bench.py SLUICE LAB|SERVICES WHAT…: WHAT is a pipeline, or `commits`, `latency`, `restore` (commits.py). Loads each pipeline's topic, runs Sluice (and Flink, if the lab is there) on it, prints one table.

With LAB, a folder with Flink and a running Kafka, topics are loaded and Flink is run by its scripts. With SERVICES, the program that
starts Kafka and a registry, topics are loaded by Sluice itself and Flink is left out.
"""
import json, os, re, statistics, subprocess, sys, tempfile, time
import commits

sluice, second, *pipelines = sys.argv[1:]
pipelines = [p for a in pipelines for p in a.split()]
more = [p for p in pipelines if p in ("commits", "latency", "restore")]
pipelines = [p for p in pipelines if p not in more]
HERE = os.path.dirname(os.path.abspath(__file__))
SCALE, REPEAT = float(os.environ.get("SCALE", "0.2")), int(os.environ.get("REPEAT", "3"))
# pipeline: what it is, events at scale 1, times less CPU than Flink that are wanted
WORK = {"unnest": ("pizza JSON, 2 x UNNEST, IN -> JSON", 1_500_000, 5), "tumble": ("TUMBLE 5 s, COUNT and SUM by user, JSON", 10_000_000, 4),
        "match": ("anomaly MATCH_RECOGNIZE, Avro -> CSV upsert", 1_000_000, 30)}
TICK = os.sysconf("SC_CLK_TCK")


def command(engine, file, *more, **variables):
    variables = {"KAFKA": engine.kafka, "REGISTRY": engine.registry, **variables}
    return [sluice, "run", file, *(a for n, v in variables.items() for a in ("--var", f"{n}={v}")), *more]


class Lab:
    """Kafka, loader and Flink of the lab."""

    def __init__(self, folder):
        sys.path[:0] = [folder, f"{folder}/bench"]
        import bench, lab
        self.folder, self.bench = folder, bench
        self.kafka, self.registry = lab.KAFKA, lab.REGISTRY

    def load(self, name, events):
        if self.bench.count(self.bench.P[name][0]) != events + 2:
            self.bench.load(name, events)

    def fresh(self, name):
        self.bench.fresh(self.bench.P[name][1])

    def written(self, name):
        return self.bench.count(self.bench.P[name][1])

    def flink(self, name):
        sh = lambda *c: subprocess.run(c, check=True, capture_output=True, text=True, cwd=self.folder).stdout
        for script in ("flink-down.sh", "flink-up.sh"):
            sh(f"{self.folder}/bin/{script}")
        out = sh(f"{self.folder}/venv/bin/python", "-u", f"{self.folder}/bench/bench.py", "flink", name, "1")
        sh(f"{self.folder}/bin/flink-down.sh")
        r = json.loads(out.splitlines()[-1])
        total = lambda what: r[what]["jobmanager"] + r[what]["taskmanager"]
        return {"cpu": total("cpu_s"), "seconds": r["seconds"], "rss": total("rss_peak_mib"), "out": r["out"]}


class Own:
    """Kafka of the tests; Sluice loads."""
    flink = None

    def __init__(self, services):
        self.process = subprocess.Popen([services], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.kafka, self.registry = self.process.stdout.readline().split()
        self.loaded = set()

    def load(self, name, events):
        if name in self.loaded:
            return
        self.loaded.add(name)
        if name == "unnest":
            run = [sluice, "generate", "pizza", "--topic", "bench.pizzas", "--rate", "0", "--count", str(events), "--bootstrap-servers", self.kafka]
        else:
            run = command(self, f"{HERE}/load-{name}.sql", LAST=events - 1)
        subprocess.run(run, check=True)
        self.before = 0

    def fresh(self, name):
        pass                               # the topic goes on; `written` counts what is new

    def written(self, name):
        self.before, before = self.count(name), self.before
        return self.before - before

    def count(self, name):
        topic = f"bench.{name}.out"
        sql = f"CREATE TABLE t (b BYTES) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '${{KAFKA}}', 'format' = 'raw', 'scan.startup.mode' = 'earliest-offset');\nSELECT COUNT(*) AS n FROM t;\n"
        with script(sql) as file:
            lines = subprocess.run(command(self, file.name, "--bounded", "--output", "changelog-json"), check=True, capture_output=True, text=True).stdout
        return int(json.loads(lines.splitlines()[-1])["data"]["n"])


def script(sql):
    file = tempfile.NamedTemporaryFile("w", suffix=".sql")
    file.write(sql)
    file.flush()
    return file


def run_sluice(engine, name):
    runs = []
    for _ in range(REPEAT):
        engine.fresh(name)
        start = time.time()
        process = subprocess.Popen(command(engine, f"{HERE}/{name}.sql", "--bounded"), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"sluice failed on {name}: {status}")
        runs.append({"cpu": usage.ru_utime + usage.ru_stime, "seconds": time.time() - start, "rss": usage.ru_maxrss / 1024, "out": engine.written(name)})
    return {k: statistics.median(r[k] for r in runs) for k in runs[0]}


def stat(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    rss = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) / 1024
    return (int(fields[11]) + int(fields[12])) / TICK, rss


def small_job(engine):
    """Milliseconds from process start until another process sees the first record, and what the job costs while it waits for input."""
    topic = f"bench.small.{os.getpid()}.{time.time_ns()}"
    options = f"'connector' = 'kafka', 'topic' = '{topic}.%s', 'properties.bootstrap.servers' = '${{KAFKA}}', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset'"
    tables = "".join(f"CREATE TABLE {t} (a INT) WITH ({options % t});\n" for t in ("source", "sink"))
    with script(tables + "INSERT INTO source VALUES (1);\n") as fill, script(tables + "SELECT * FROM sink;\n") as tail, \
            script(tables + "INSERT INTO sink SELECT a FROM source;\n") as job:
        subprocess.run(command(engine, fill.name), check=True)
        reader = subprocess.Popen(command(engine, tail.name, "--output", "changelog-json"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(3)                      # it waits for records now
        start = time.time()
        process = subprocess.Popen(command(engine, job.name))
        reader.stdout.readline()
        first = (time.time() - start) * 1000
        time.sleep(2)
        cpu, _ = stat(process.pid)
        time.sleep(5)
        used, rss = stat(process.pid)
        for p in (process, reader):
            p.terminate()
            p.wait()
    return first, rss, (used - cpu) / 5


def table(rows):
    head = ["workload", "events", "Flink CPU-s/M", "Sluice CPU-s/M", "ratio", "target", "", "Flink ev/s", "Sluice ev/s", "Flink MiB", "Sluice MiB", "rows out"]
    lines = [head]
    for name, events, ours, flink in rows:
        what, _, target = WORK[name]
        per, cell = (lambda r: r["cpu"] / events * 1e6), (lambda f, text: text(flink) if flink else "-")
        ratio = flink["cpu"] / ours["cpu"] if flink else 0
        same = not flink or flink["out"] == ours["out"]
        lines.append([what, f"{events:,}", cell(flink, lambda f: f"{per(f):.1f}"), f"{per(ours):.2f}", f"{ratio:.1f}x" if flink else "-", f"{target}x",
                      "" if not flink else "met" if ratio >= target else "MISSED", cell(flink, lambda f: f"{events / f['seconds']:,.0f}"), f"{events / ours['seconds']:,.0f}",
                      cell(flink, lambda f: f"{f['rss']:.0f}"), f"{ours['rss']:.0f}", f"{ours['out']:,.0f}" + ("" if same else f" (Flink: {flink['out']:,})")])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip())


engine = Lab(second) if os.path.isdir(second) else Own(second)
rows = []
for name in pipelines:
    events = int(WORK[name][1] * SCALE)
    engine.load(name, events)
    ours = run_sluice(engine, name)
    rows.append((name, events, ours, engine.flink(name) if engine.flink and os.environ.get("FLINK") != "0" else None))
verdict = lambda ok: "met" if ok else "MISSED"
if pipelines:
    starts = [small_job(engine) for _ in range(REPEAT)]
    first, rss, idle = (statistics.median(s[i] for s in starts) for i in range(3))
    print()
    table(rows)
    print(f"\nprocess start to first record seen by a reader: {first:.0f} ms (target 500 ms, {verdict(first < 500)})")
    print(f"a job that waits for input: {rss:.0f} MiB resident (target 60 MiB, {verdict(rss < 60)}), {idle * 100:.1f} % of one core")
    print(f"""
How: one run on this machine; topics preloaded on a real Apache Kafka broker, bounded reads, parallelism 1. CPU-s/M are CPU-seconds (user and system, all
threads) per million input events. Sluice: a fresh process each time, its start and end included, median of {REPEAT}. Flink: fresh JVMs each time, CPU of job
and task manager from before the statement is submitted until the job has finished, JVM start not included; once. MiB: peak resident memory. With few events the JIT compiler weighs in Flink's figures; SCALE=1 is the fairest.""")
commits.run(engine, command, more, SCALE, REPEAT)
if os.path.isdir(second):
    print(f"Topics, and Flink's side, are those of the lab in SHARED (SCALE={SCALE:g}; 1 is all of its events).")
else:
    print("Flink was left out: its lab (SHARED) is not here. Topics were loaded by Sluice.")
    engine.process.stdin.close()
    engine.process.wait()
