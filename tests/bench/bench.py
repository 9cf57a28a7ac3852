"""bench.py SLUICE LAB PIPELINE…: loads each pipeline's topic, runs Flink and Sluice on it, and prints one table.

CPU-seconds are of the engines alone (Flink: job and task manager), for parallelism 1. Sluice is a fresh process each time, its start included.
"""
import json, os, re, subprocess, sys, tempfile, threading, time

sluice, lab_dir, *pipelines = sys.argv[1:]
pipelines = [p for a in pipelines for p in a.split()]
sys.path[:0] = [lab_dir, f"{lab_dir}/bench"]
import bench, lab

SCALE = float(os.environ.get("SCALE", "0.2"))
TARGET = {"unnest": 5, "tumble": 4, "match": 30}
VARS = [f"KAFKA={lab.KAFKA}", f"REGISTRY={lab.REGISTRY}"]


def sh(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=lab_dir).stdout


def command(file, *more):
    return [sluice, "run", file, *(a for v in VARS for a in ("--var", v)), *more]


def run_flink(name):
    for script in ("flink-down.sh", "flink-up.sh"):
        sh(f"{lab_dir}/bin/{script}")
    out = sh(f"{lab_dir}/venv/bin/python", "-u", f"{lab_dir}/bench/bench.py", "flink", name, "1")
    sh(f"{lab_dir}/bin/flink-down.sh")
    r = json.loads(out.splitlines()[-1])
    cpu = r["cpu_s"]["jobmanager"] + r["cpu_s"]["taskmanager"]
    rss = r["rss_peak_mib"]["jobmanager"] + r["rss_peak_mib"]["taskmanager"]
    return {"cpu": cpu, "seconds": r["seconds"], "rss": rss, "out": r["out"]}


def run_sluice(name):
    source, sink, _ = bench.P[name]
    bench.fresh(sink)
    start = time.time()
    process = subprocess.Popen(command(f"{lab_dir}/bench/{name}.sql", "--bounded"), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"sluice failed on {name}: {status}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "seconds": time.time() - start, "rss": usage.ru_maxrss / 1024, "out": bench.count(sink)}


def small_job():
    """Seconds from process start to the first record written, and the memory of a job that waits for input."""
    lab.reset_topics({"bench.small.in": 1, "bench.small.out": 1})
    lab.produce([{"topic": "bench.small.in", "ts": bench.T0, "key": None, "value": '{"a":1}'}])
    options = "'properties.bootstrap.servers' = '${KAFKA}', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset'"
    sql = "".join(f"CREATE TABLE {t} (a INT) WITH ('connector' = 'kafka', 'topic' = 'bench.small.{t}', {options});\n".replace("TABLE in", "TABLE `in`") for t in ("in", "out"))
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as f:
        f.write(sql.replace("TABLE out", "TABLE `out`") + "INSERT INTO `out` SELECT a FROM `in`;\n")
        f.flush()
        start = time.time()
        process = subprocess.Popen(command(f.name))
        while bench.count("bench.small.out") == 0 and time.time() - start < 20:
            time.sleep(.005)
        first = time.time() - start
        time.sleep(3)
        rss = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{process.pid}/status").read())[1]) / 1024
        process.terminate()
        process.wait()
    return first, rss


rows = []
for name in pipelines:
    events = int(bench.P[name][2] * SCALE)
    bench.load(name, events)
    ours = run_sluice(name)
    flink = run_flink(name) if os.environ.get("FLINK") != "0" else None
    rows.append((name, events, ours, flink))
print(f"\n{'pipeline':9} {'events':>9} | {'Sluice CPU-s/M':>14} {'events/s':>9} {'MiB':>5} | {'Flink CPU-s/M':>13} {'events/s':>9} {'MiB':>5} | {'CPU ratio':>9} {'target':>6} | rows out")
for name, events, ours, flink in rows:
    per = lambda r: r["cpu"] / events * 1e6
    line = f"{name:9} {events:9} | {per(ours):14.2f} {events / ours['seconds']:9.0f} {ours['rss']:5.0f} |"
    if flink:
        line += f" {per(flink):13.2f} {events / flink['seconds']:9.0f} {flink['rss']:5.0f} | {flink['cpu'] / ours['cpu']:8.1f}x {TARGET[name]:5}x | {ours['out']} / {flink['out']}"
    print(line)
first, rss = small_job()
print(f"\nfirst record written {first * 1000:.0f} ms after process start (target 500); idle job {rss:.0f} MiB (target 60)")
