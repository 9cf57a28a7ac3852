"""judge.py KIT ENGINE PASSED.json [--raise]: runs the conformance kit by suite and compares the pass counts with the file that only rises."""
import json, os, re, subprocess, sys

kit, engine, record, *options = sys.argv[1:]
known = json.load(open(record)) if os.path.exists(record) else {}
bad = False
# These expect that seconds have passed between savepoint and restore (a TTL of 1 s, an interval join by PROCTIME): Flink's own test restores a
# savepoint that was taken long ago, the kit restores at once. So they are run again with a pause before the restore.
LATER = "^(GroupAggregate/agg-with-state-ttl-hint|IntervalJoin/interval-join-proc-time)$"
later = os.path.join(os.path.dirname(os.path.abspath(__file__)), "later.sh")
os.environ["SLUICE_ENGINE"] = engine
for suite, cases, program, more in (
    ("functions", "functions", engine, []),
    ("programs", "programs", engine, []),
    ("programs restored later", "programs", later, ["--filter", LATER]),
):
    report = f"/tmp/sluice-conformance-{os.getpid()}.xml"
    command = [sys.executable, f"{kit}/run", "--engine", program, "--cases", f"{kit}/cases/{cases}.json", "--jobs", str(os.cpu_count()), "--junit", report, *more]
    out = subprocess.run(command, capture_output=True, text=True).stdout
    found = re.findall(r"^(\d+) passed, (\d+) failed", out, re.M)
    if not found:
        print(out[-2000:])
        sys.exit("conformance: the kit gave no counts")
    passed, failed = map(int, found[-1])
    if os.path.exists(report):
        os.remove(report)
    least = known.get(suite, 0)
    print(f"conformance {suite}: {passed} of {passed + failed} pass, at least {least} must")
    if passed < least:
        bad = True
        print(out[-6000:])
    elif passed > least and "--raise" in options:
        known[suite] = passed
if "--raise" in options:
    with open(record, "w") as f:
        json.dump(known, f, indent=2)
        f.write("\n")
print(f"test result: {'FAILED' if bad else 'ok'}. {0 if bad else 1} passed; {1 if bad else 0} failed")
sys.exit(1 if bad else 0)
