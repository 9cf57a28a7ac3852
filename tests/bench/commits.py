"""Rows of bench.py for commits, end-to-end latency and restoring. Needs an engine (Lab or Own) only for Kafka and the topic bench.events."""
import contextlib, datetime, json, os, re, shutil, socket, statistics, subprocess, sys, tempfile, time, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
JOBS = {"filter": "filter, one event of four passes", "window": "TUMBLE 5 s, COUNT and SUM by 1,000 users", "group": "GROUP BY, 100,000 groups, one change out per event"}
GUARANTEES = ("at-least-once", "exactly-once")
verdict = lambda ok: "met" if ok else "MISSED"


class Bench:
    """`command(engine, file, *arguments, **variables)` is a command line of sluice."""

    def __init__(self, engine, command, repeat):
        self.engine, self.repeat = engine, repeat
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-bench-")
        self.command = lambda file, *more, **variables: command(engine, f"{HERE}/{file}.sql", *more, **variables)

    def name(self, what):
        return f"bench.{what}.{os.getpid()}.{time.time_ns()}"

    # ---- throughput and pauses

    def commits(self, events):
        print(f"\nCommits every 1 s, {events:,} events, {self.repeat} runs each in turn:")
        for job, what in JOBS.items():
            runs = {g: [] for g in GUARANTEES}
            for _ in range(self.repeat):
                for guarantee in GUARANTEES:
                    runs[guarantee].append(self.run(job, guarantee))
            rate = {g: statistics.median(events / r["seconds"] for r in runs[g]) for g in GUARANTEES}
            ratio = statistics.median(a["seconds"] / e["seconds"] for a, e in zip(*(runs[g] for g in GUARANTEES)))
            print(f"  {what}\n    exactly-once {rate['exactly-once']:,.0f} events/s, at-least-once {rate['at-least-once']:,.0f}: "
                  f"{ratio:.0%} (target 90 %, {verdict(ratio >= 0.9)})")
            for guarantee in GUARANTEES:
                print(f"    {guarantee}: " + self.times(runs[guarantee]))

    def times(self, runs):
        pause, duration = (merged([r[what] for r in runs]) for what in ("pause", "duration"))
        longest = max(r["longest"] for r in runs) / 1000
        p99 = quantile(pause, 0.99)
        return (f"{pause[-1][1]:.0f} commits, pause p50 <= {quantile(pause, 0.5):g} ms, p99 <= {p99:g} ms (target 50 ms, {verdict(p99 <= 50)}), longest {longest:.1f} ms; "
                f"durable after p50 <= {quantile(duration, 0.5):g} ms, p99 <= {quantile(duration, 0.99):g} ms; CPU {statistics.median(r['cpu'] for r in runs):.1f} s")

    def run(self, job, guarantee):
        """One bounded run, its start and end included. The last look at its metrics is at most 100 ms before its end."""
        name, port = self.name(job), free_port()
        state = os.path.join(self.folder.name, name)
        start = time.time()
        process = subprocess.Popen(self.command(f"commit-{job}", "--bounded", "--http", f"127.0.0.1:{port}", NAME=name, GUARANTEE=guarantee, STATE=state),
                                   stdout=subprocess.DEVNULL)
        text = ""
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            with contextlib.suppress(OSError):
                text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1).read().decode()
            time.sleep(0.1)
        seconds = time.time() - start
        shutil.rmtree(state, ignore_errors=True)
        if status:
            sys.exit(f"sluice failed on {job}, {guarantee}: {status}")
        longest = re.search(r"^sluice_commit_pause_longest_microseconds (\d+)", text, re.M)
        return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "pause": histogram(text, "pause"), "duration": histogram(text, "duration"),
                "longest": int(longest[1]) if longest else 0}

    # ---- latency

    def latency(self, seconds=20):
        print("\nEnd to end, 1,000 events/s: from the record's timestamp in the source topic until another process has printed the result:")
        for guarantee, isolation, target in (("at-least-once", "read_uncommitted", 100), ("exactly-once", "read_committed", 1200)):
            name = self.name("latency")
            job = lambda file, **more: subprocess.Popen(self.command(file, *more.pop("arguments", ()), NAME=name, **more), text=True,
                                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            # The topics are made by those that write them.
            producer = job("latency-produce")
            time.sleep(1)
            middle = job("latency-job", GUARANTEE=guarantee, STATE=os.path.join(self.folder.name, name))
            time.sleep(3)
            reader = job("latency-read", ISOLATION=isolation, arguments=("--output", "changelog-json"))
            times, started = [], time.time()
            for line in reader.stdout:
                now = time.time()
                # The first seconds are the start.
                if now - started > 5:
                    sent = datetime.datetime.fromisoformat(json.loads(line)["data"]["sent"].replace("Z", "+00:00").replace(" ", "T"))
                    times.append((now - sent.timestamp()) * 1000)
                if now - started > 5 + seconds:
                    break
            for process in (reader, middle, producer):
                process.kill()
                process.wait()
            times.sort()
            at = lambda q: times[min(int(len(times) * q), len(times) - 1)]
            print(f"  {guarantee} ({isolation}): {len(times):,} rows, p50 {at(0.5):.0f} ms, p99 {at(0.99):.0f} ms (target {target} ms, {verdict(at(0.99) < target)}), longest {times[-1]:.0f} ms")

    # ---- restore

    def restore(self, groups):
        savepoint = os.path.join(self.folder.name, "savepoint")
        fill = self.command("restore", "--savepoint-at-end", savepoint, LAST=groups - 1, SINK="blackhole")
        subprocess.run(fill, check=True, stdout=subprocess.DEVNULL)
        size = sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(savepoint) for f in files)
        times, peaks = [], []
        for _ in range(self.repeat):
            start = time.time()
            process = subprocess.Popen(self.command("restore", "--restore-from", savepoint, LAST=groups + 10, SINK="print"), stdout=subprocess.PIPE, text=True)
            first = process.stdout.readline()
            times.append(time.time() - start)
            process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            if status or not first:
                sys.exit(f"restoring failed: {status}")
            peaks.append(usage.ru_maxrss / 1024)
        raw = groups * ROW / 1e9
        print(f"\nRestore of {groups:,} groups ({raw:.2f} GB of keys and values, {size / 1e9:.2f} GB savepoint): {statistics.median(times):.1f} s "
              f"from process start to the first record (target 5 s for 1 GB, {verdict(statistics.median(times) < 5 * max(raw, 1e-9))}), peak memory {max(peaks):,.0f} MiB")


# Bytes of key and value of a group of restore.sql.
ROW = 45 + 125


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def histogram(text, what):
    """Cumulative counts by upper bound in milliseconds."""
    found = re.findall(rf'^sluice_commit_{what}_seconds_bucket{{le="([^"]+)"}} (\d+)', text, re.M)
    return [(float("inf") if bound == "+Inf" else float(bound) * 1000, int(count)) for bound, count in found]


def merged(histograms):
    histograms = [h for h in histograms if h]
    return [(column[0][0], sum(count for _, count in column)) for column in zip(*histograms)] or [(0.0, 0)]


def quantile(histogram, q):
    """The bound of the bucket that has it."""
    total = histogram[-1][1]
    return next((bound for bound, count in histogram if count >= q * total), 0.0)


def run(engine, command, what, scale, repeat):
    bench = Bench(engine, command, repeat)
    if "commits" in what:
        events = int(10_000_000 * scale)
        engine.load("tumble", events)
        bench.commits(events)
    if "latency" in what:
        bench.latency()
    if "restore" in what:
        bench.restore(int(6_000_000 * scale))
